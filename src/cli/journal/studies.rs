//! `afferent journal studies`: what modalities stored, by study, series and instance.

use super::{Place, print_table, shown_time};
use crate::audit::Act;
use crate::journal::{ListedStudy, Lookup, Reader, SeriesInstance, ShownMessage, StudyId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Studies listed unless told otherwise.
const LIMIT_DEFAULT: usize = 50;
/// Images of a series that are named one by one unless all are asked for.
const IMAGES_NAMED: usize = 10;

/// List imaging studies, or show one with its series and how many of their images are where.
///
/// Images that are not delivered everywhere are named one by one, the first ten of a series; with --images all are.
/// UIDs, numbers and names are patient data: they are shown only with --reveal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal studies
  afferent journal studies 17 --images
  afferent journal studies --accession A4711
  afferent journal studies --study 1.2.840.113619.2.1 --json")]
pub(super) struct Studies {
    #[command(flatten)]
    by: By,
    /// Most studies to list, the newest first
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Name every image with where it went
    #[arg(long)]
    images: bool,
    /// Show UIDs and what the modality said of patient and study as well: patient data
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct By {
    /// Number of the study, as the list shows it
    #[arg(value_name = "NUMBER")]
    number: Option<i64>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// Accession number
    #[arg(long, value_name = "ID")]
    accession: Option<String>,
    /// Patient id
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
}

/// A study with everything in it.
#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    listed: ListedStudy,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<serde_json::Value>,
    /// Images by destination and state.
    went: Counts,
    contents: Vec<Series>,
    /// What EHRs were told, and what waits.
    told: Vec<Went>,
}

#[derive(Serialize)]
struct Series {
    modality: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<serde_json::Value>,
    instances: Vec<Instance>,
}

#[derive(Serialize)]
struct Instance {
    entry: i64,
    number: Option<i64>,
    sop_class_uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sop_instance_uid: Option<String>,
    went: Vec<Went>,
}

/// How many images are in which state, by destination.
type Counts = BTreeMap<String, BTreeMap<String, usize>>;

/// Where something went, or why it did not.
#[derive(Serialize)]
struct Went {
    to: String,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

impl Studies {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        let By { number, study, accession, patient } = &self.by;
        let named = [
            (Lookup::Study, "study", study),
            (Lookup::Accession, "accession", accession),
            (Lookup::Patient, "patient", patient),
        ];
        let named = named.into_iter().find_map(|(kind, key, id)| id.as_ref().map(|id| (kind, key, id)));
        let wanted = match (number, named) {
            (Some(number), _) => vec![StudyId(*number)],
            (None, Some((kind, key, id))) => {
                place.note(Act::Searched { key })?;
                reader.studies_of(kind, id)?
            }
            (None, None) => return self.list(place, &reader),
        };
        if self.reveal {
            wanted.iter().try_for_each(|id| place.note(Act::Shown { what: "study", number: id.0 }))?;
        }
        let mut details = Vec::new();
        for id in wanted.into_iter().take(self.limit) {
            details.extend(self.detail(&reader, id)?);
        }
        if place.json {
            println!("{}", serde_json::to_string(&details)?);
        } else if details.is_empty() {
            println!("nothing found");
        } else {
            details.iter().for_each(|detail| print(detail, self.images));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, place: &Place, reader: &Reader) -> anyhow::Result<ExitCode> {
        let listed = reader.studies(self.limit)?;
        if place.json {
            println!("{}", serde_json::to_string(&listed)?);
        } else if listed.is_empty() {
            println!("no study was stored yet");
        } else {
            let row = |s: &ListedStudy| {
                let counts = [s.series, s.instances, s.delivered, s.queued, s.parked, s.held].map(|n| n.to_string());
                let texts = [s.study.to_string(), shown_time(s.changed_ms), s.modalities.clone(), s.state.clone()];
                texts.into_iter().chain(counts).collect::<Vec<_>>()
            };
            let head = [
                "study",
                "last image",
                "modality",
                "state",
                "series",
                "images",
                "delivered",
                "queued",
                "parked",
                "held",
            ];
            print_table(&head, &listed.iter().map(row).collect::<Vec<_>>());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn detail(&self, reader: &Reader, id: StudyId) -> anyhow::Result<Option<Detail>> {
        let (Some(listed), Some(study)) = (reader.listed_study(id)?, reader.study(id)?) else { return Ok(None) };
        let content = |json: &[u8]| self.reveal.then(|| serde_json::from_slice(json).ok()).flatten();
        let (mut contents, mut told) = (Vec::new(), Vec::new());
        for series in &study.series {
            let mut instances = Vec::new();
            for instance in &series.instances {
                instances.push(self.instance(reader, instance, &mut told)?);
            }
            contents.push(Series { modality: series.modality.clone(), content: content(&series.json), instances });
        }
        let went = counted(contents.iter().flat_map(|series: &Series| &series.instances));
        Ok(Some(Detail { listed, content: content(&study.json), went, contents, told }))
    }

    /// What carries the instance itself has its UID as message id; anything else is about its study.
    fn instance(&self, reader: &Reader, of: &SeriesInstance, told: &mut Vec<Went>) -> anyhow::Result<Instance> {
        let shown = reader.show(of.entry)?;
        let mut went = Vec::new();
        for report in shown.reports.iter().filter(|report| report.repeat_of.is_none()) {
            for message in &report.messages {
                let is_image = message.message_id == of.sop_instance_uid;
                if is_image { &mut went } else { &mut *told }.push(message_went(message));
            }
            let holds = report.holds.iter().filter(|hold| hold.state == "held");
            told.extend(holds.map(|hold| Went {
                to: "held".to_string(),
                state: hold.reason.clone(),
                note: format!("{}: afferent journal release {}", hold.why, hold.hold),
            }));
        }
        Ok(Instance {
            entry: of.entry.0,
            number: of.number,
            sop_class_uid: of.sop_class_uid.clone(),
            sop_instance_uid: self.reveal.then(|| of.sop_instance_uid.clone()),
            went,
        })
    }
}

fn message_went(message: &ShownMessage) -> Went {
    let note = message.note.clone().unwrap_or_default();
    Went { to: message.destination.clone(), state: message.state.clone(), note }
}

fn counted<'i>(instances: impl Iterator<Item = &'i Instance>) -> Counts {
    let mut counts = Counts::new();
    for went in instances.flat_map(|instance| &instance.went) {
        *counts.entry(went.to.clone()).or_default().entry(went.state.clone()).or_default() += 1;
    }
    counts
}

/// `pacs: 5 delivered, 1 pending`, a line each.
fn print_counts(counts: &Counts) {
    for (to, states) in counts {
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        println!("  {to}: {}", states.join(", "));
    }
}

/// `1 image`, `2 images`.
fn images(count: usize) -> String {
    format!("{count} image{}", if count == 1 { "" } else { "s" })
}

fn print(detail: &Detail, all: bool) {
    let Detail { listed, content, went: counts, contents, told } = detail;
    println!(
        "study {}, {}: {} series, {}, the last one {}",
        listed.study,
        listed.state,
        listed.series,
        images(usize::try_from(listed.instances).unwrap_or_default()),
        shown_time(listed.changed_ms)
    );
    print_counts(counts);
    if let Some(content) = content {
        println!("  {content}");
    }
    for series in contents {
        let modality = if series.modality.is_empty() { "no modality" } else { &series.modality };
        println!("series of {modality}, {}", images(series.instances.len()));
        if let Some(content) = &series.content {
            println!("  {content}");
        }
        let is_done = |instance: &Instance| {
            !instance.went.is_empty() && instance.went.iter().all(|went| went.state == "delivered")
        };
        let wanted: Vec<&Instance> = series.instances.iter().filter(|instance| all || !is_done(instance)).collect();
        let named = if all { wanted.len() } else { IMAGES_NAMED };
        for instance in wanted.iter().take(named) {
            let number = instance.number.map(|n| format!(" {n}")).unwrap_or_default();
            let uid = instance.sop_instance_uid.as_deref().map(|uid| format!(" {uid}")).unwrap_or_default();
            println!("  image{number}, entry {}{uid}: {}", instance.entry, went(&instance.went));
        }
        if wanted.len() > named {
            println!("  and {} more that are not delivered everywhere: --images names all", wanted.len() - named);
        }
    }
    if !told.is_empty() {
        println!("told of it: {}", went(told));
    }
}

fn went(all: &[Went]) -> String {
    if all.is_empty() {
        return "goes nowhere".to_string();
    }
    let one = |w: &Went| {
        format!("{} {}{}", w.to, w.state, if w.note.is_empty() { String::new() } else { format!(" ({})", w.note) })
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}
