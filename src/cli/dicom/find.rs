//! `afferent dicom find`: what a peer answers to a query (C-FIND), for the worklist or for studies.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::ops::{ApplyOp, AttributeAction, AttributeOp};
use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_encoding::transfer_syntax::TransferSyntaxIndex as _;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::{TransferSyntax, TransferSyntaxRegistry};
use serde_json::json;

use super::Target;
use crate::cli::journal::print_table;
use crate::delivery::dicom::association::{Association, Failure, Message, Proposed};
use crate::wire::dimse::command::{Command, status};
use crate::wire::dimse::uid;

/// Study Root Query/Retrieve Information Model - FIND (PS3.4 C.6.2).
const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
/// Answers taken from one query unless asked for more.
const LIMIT_DEFAULT: usize = 200;
/// Where the keys of the scheduled step go in a worklist query (PS3.4 K.6.1.2.2).
const STEP: &str = "ScheduledProcedureStepSequence";
/// Keys of the scheduled step that are asked for.
const STEP_KEYS: [&str; 9] = [
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledProcedureStepID",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
];
/// The other keys of a worklist query that are asked for.
const WORKLIST_KEYS: [&str; 10] = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestingPhysician",
    "ReferringPhysicianName",
];
/// Keys of a query for studies that are asked for.
const STUDY_KEYS: [&str; 9] = [
    "PatientName",
    "PatientID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "StudyDescription",
    "StudyInstanceUID",
    "NumberOfStudyRelatedInstances",
];
/// What a person sees of an answer, in this order, and what stands above it.
const SHOWN: [(&str, &str); 13] = [
    ("ScheduledProcedureStepStartDate", "date"),
    ("ScheduledProcedureStepStartTime", "time"),
    ("StudyDate", "date"),
    ("StudyTime", "time"),
    ("Modality", "modality"),
    ("ModalitiesInStudy", "modality"),
    ("ScheduledStationAETitle", "station"),
    ("PatientName", "patient"),
    ("PatientID", "patient id"),
    ("AccessionNumber", "accession"),
    ("RequestedProcedureDescription", "procedure"),
    ("StudyDescription", "study"),
    ("NumberOfStudyRelatedInstances", "images"),
];

/// Ask a peer for its worklist or its studies (C-FIND). What it answers holds patient data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent dicom find ris --worklist -k Modality=US -k ScheduledProcedureStepStartDate=20260302
  afferent dicom find 127.0.0.1:11112 --called AFFERENT --calling VIVID --worklist
  afferent dicom find pacs -k 'PatientName=DOE*' -k StudyDate=20260101-20260131 --json

Keys are the keywords of PS3.6; `*` and `?` stand for any text. Exit codes: 0 answered, 1 not.")]
pub(super) struct Find {
    #[command(flatten)]
    target: Target,
    /// Ask for the modality worklist; left out, for studies
    #[arg(long)]
    worklist: bool,
    /// What must match, such as PatientID=4711 (may be given several times)
    #[arg(short, long = "key", value_name = "KEYWORD=VALUE")]
    keys: Vec<String>,
    /// Stop after so many answers
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Print one JSON object: status, answers (values by keyword)
    #[arg(long)]
    json: bool,
}

type Answer = BTreeMap<String, String>;

impl Find {
    pub(super) async fn execute(self) -> anyhow::Result<ExitCode> {
        let query = self.query()?;
        let peer = self.target.peer()?;
        let model = if self.worklist { uid::MODALITY_WORKLIST } else { STUDY_ROOT_FIND };
        let proposed = Proposed {
            abstract_syntax: model.to_owned(),
            transfer_syntaxes: [uid::EXPLICIT_VR_LITTLE_ENDIAN, uid::IMPLICIT_VR_LITTLE_ENDIAN]
                .map(str::to_owned)
                .into(),
            as_scp: false,
        };
        let mut association = Association::open(&peer, &[proposed]).await?;
        let context = association.context_of(model).map(|(id, syntax)| (id, syntax.to_owned()));
        let Some((context, syntax)) = context else {
            association.release().await;
            let what = if self.worklist { "the modality worklist" } else { "queries for studies" };
            bail!("{} lets this box in, but does not offer {what}", peer.called_ae_title);
        };
        let syntax = TransferSyntaxRegistry.get(&syntax).context("the negotiated transfer syntax is not known")?;
        let mut identifier = Vec::new();
        query.write_dataset_with_ts(&mut identifier, syntax).context("the query cannot be written")?;
        let request = Command::find_request(association.next_message_id(), model);
        association.send(context, &request, Some(&identifier)).await?;
        let (mut answers, mut is_cut) = (Vec::new(), false);
        let last = loop {
            let answer = association.answer_to(&request).await?;
            match answer.command.status() {
                Some(pending) if status::is_pending(pending) && answers.len() < self.limit => {
                    answers.push(read(&answer, syntax)?);
                }
                Some(pending) if status::is_pending(pending) => {
                    if !is_cut {
                        is_cut = true;
                        let cancel = Command::cancel_request(request.message_id());
                        association.send(context, &cancel, None).await?;
                    }
                }
                ended => break ended.unwrap_or(status::PROCESSING_FAILURE),
            }
        };
        association.release().await;
        self.print(&answers, last);
        if is_cut && !self.json {
            eprintln!("stopped after {} answers; --limit takes more", self.limit);
        }
        let is_good = last == status::SUCCESS || (is_cut && last == status::CANCELLED);
        if !is_good && !self.json {
            bail!("the peer ended the query with status {last:04X}");
        }
        Ok(ExitCode::from(u8::from(!is_good)))
    }

    fn print(&self, answers: &[Answer], last: u16) {
        if self.json {
            return println!("{}", json!({ "status": format!("{last:04X}"), "answers": answers }));
        }
        let (head, rows) = table(answers);
        if !rows.is_empty() {
            print_table(&head, &rows);
        }
        println!("{} {}", answers.len(), if answers.len() == 1 { "answer" } else { "answers" });
    }

    /// The identifier: every key that is asked for, empty, and those that must match.
    fn query(&self) -> anyhow::Result<InMemDicomObject> {
        let mut query = InMemDicomObject::new_empty();
        put(&mut query, "SpecificCharacterSet", "ISO_IR 192")?;
        match self.worklist {
            true => {
                for key in WORKLIST_KEYS {
                    put(&mut query, key, "")?;
                }
                for key in STEP_KEYS {
                    put(&mut query, &format!("{STEP}.{key}"), "")?;
                }
            }
            false => {
                put(&mut query, "QueryRetrieveLevel", "STUDY")?;
                for key in STUDY_KEYS {
                    put(&mut query, key, "")?;
                }
            }
        }
        for key in &self.keys {
            let (keyword, value) = key.split_once('=').with_context(|| format!("`{key}` is not KEYWORD=VALUE"))?;
            match self.worklist && STEP_KEYS.contains(&keyword) {
                true => put(&mut query, &format!("{STEP}.{keyword}"), value)?,
                false => put(&mut query, keyword, value)?,
            }
        }
        Ok(query)
    }
}

/// The columns in which any answer has something, and their cells.
fn table(answers: &[Answer]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let told = |keyword: &str| answers.iter().any(|answer| answer.get(keyword).is_some_and(|value| !value.is_empty()));
    let columns: Vec<(&str, &str)> = SHOWN.into_iter().filter(|(keyword, _)| told(keyword)).collect();
    let row = |answer: &Answer| {
        let cell = |(keyword, _): &(&str, &str)| shown(keyword, answer.get(*keyword).map_or("", String::as_str));
        columns.iter().map(cell).collect()
    };
    (columns.iter().map(|(_, head)| *head).collect(), answers.iter().map(row).collect())
}

/// A value for a person: `2026-03-02`, `08:15`, several separated by commas.
fn shown(keyword: &str, value: &str) -> String {
    let part = |from: usize, to: usize| value.get(from..to).unwrap_or_default();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    match (keyword, digits) {
        (_, 0) if value.is_empty() => "-".to_owned(),
        (date, 8) if date.ends_with("Date") => format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8)),
        (time, 4 | 6) if time.ends_with("Time") => format!("{}:{}", part(0, 2), part(2, 4)),
        _ => value.replace('\\', ", "),
    }
}

/// Sets an attribute, named by its keyword or by the way to it.
fn put(query: &mut InMemDicomObject, keyword: &str, value: &str) -> anyhow::Result<()> {
    let unknown = || format!("`{keyword}` is no keyword of PS3.6; see its chapter 6, such as PatientID");
    let selector = StandardDataDictionary.parse_selector(keyword).ok().with_context(unknown)?;
    let value = if value.is_empty() { PrimitiveValue::Empty } else { PrimitiveValue::from(value) };
    query.apply(AttributeOp::new(selector, AttributeAction::Set(value))).with_context(unknown)
}

/// The values of an answer by keyword; those of the scheduled step among them.
fn read(answer: &Message, syntax: &TransferSyntax) -> Result<Answer, Failure> {
    let damaged = |_| Failure::Protocol("an answer of the peer is no data set");
    let object = InMemDicomObject::read_dataset_with_ts(answer.data_set.as_slice(), syntax).map_err(damaged)?;
    let mut values = Answer::new();
    collect(&object, &mut values);
    Ok(values)
}

fn collect(object: &InMemDicomObject, values: &mut Answer) {
    for element in object {
        let tag = element.header().tag;
        if element.header().vr() == VR::SQ {
            for item in element.items().into_iter().flatten() {
                collect(item, values);
            }
            continue;
        }
        let keyword =
            StandardDataDictionary.by_tag(tag).map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned());
        let value = element.to_str().map(|value| value.trim_end_matches(['\0', ' ']).to_owned());
        // Only the first of several items is shown: a worklist entry has one scheduled step.
        values.entry(keyword).or_insert_with(|| value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        find: Find,
    }

    fn find(arguments: &[&str]) -> Find {
        Line::parse_from([&["find", "127.0.0.1:104"][..], arguments].concat()).find
    }

    #[test]
    fn keys_of_the_scheduled_step_go_into_it() {
        let query = find(&["--worklist", "-k", "Modality=US", "-k", "PatientName=DOE*"]).query().unwrap();
        let mut values = Answer::new();
        collect(&query, &mut values);
        assert_eq!((values["Modality"].as_str(), values["PatientName"].as_str()), ("US", "DOE*"));
        assert_eq!(values["ScheduledStationAETitle"], "");
        let step = query.element_by_name(STEP).unwrap().items().unwrap();
        assert_eq!(step.len(), 1);
        assert!(step[0].element_by_name("Modality").is_ok() && query.element_by_name("Modality").is_err());
    }

    #[test]
    fn answers_are_a_table_that_a_person_reads() {
        let answer = |values: &[(&str, &str)]| -> Answer {
            values.iter().map(|(keyword, value)| (keyword.to_string(), value.to_string())).collect()
        };
        let first = answer(&[
            ("ScheduledProcedureStepStartDate", "20260302"),
            ("ScheduledProcedureStepStartTime", "081500.00"),
            ("ScheduledStationAETitle", "VIVID\\VIVID2"),
            ("PatientName", "HAYDN^FRANZ"),
            ("StudyInstanceUID", "1.2.3"),
        ]);
        let second = answer(&[("ScheduledProcedureStepStartTime", "9"), ("PatientName", "")]);
        let (head, rows) = table(&[first, second]);
        assert_eq!(head, ["date", "time", "station", "patient"]);
        assert_eq!(rows[0], ["2026-03-02", "08:15", "VIVID, VIVID2", "HAYDN^FRANZ"]);
        assert_eq!(rows[1], ["-", "9", "-", "-"]);
    }

    #[test]
    fn a_key_that_does_not_exist_is_told() {
        for key in ["PatientNmae=DOE", "no key at all"] {
            assert!(find(&["-k", key]).query().unwrap_err().to_string().contains('`'), "{key}");
        }
    }
}
