//! What EHRs are told of the documents of a study: the measurements of structured reports, and encapsulated PDFs.
//!
//! A document that takes the place of another is told as its correction, under the name of the first of the line
//! ([`super::line`]); what was replaced before anybody was told of it is not told at all, and numbers that it has no more
//! are taken back. Each document is filed by itself, so that one at a time is in memory. One that says and stands as it was
//! last told is not told again.
//!
//! | SOP class | what EHRs get |
//! |---|---|
//! | Enhanced, Comprehensive, Comprehensive 3D, Extensible SR | its measurements, whatever its template |
//! | Encapsulated PDF | the document |
//!
//! Other documents (dose reports, CAD, key objects, CDA) are for the archive alone.

use super::Desk;
use super::line::{DOUBTS, Line, Lines};
use super::study::{Known, Member, kept, released, uncarried};
use crate::clinical::Coding;
use crate::clinical::imaging::{Charted, Instance as Object, MeasurementReport};
use crate::journal::{
    EntryId, FiledReport, Grounds, Instance, Journal, JournalError, Latest, NewHold, NewOutbound, Reader,
    ReleaseFiling, Released, StudyId, Told,
};
use crate::mapping::imaging::{Document, ImagingMessage};
use crate::mapping::{MapError, imaging};
use crate::message::dicom::{
    End, HEAD_BYTES_MAX, Head, Limits, Value, Walked, first_coding, measurement_report, tags, walk,
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Structured reports whose numbers are measurements (PS3.4 B.5).
const MEASUREMENT_REPORTS: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.35",
];
/// Encapsulated PDF Storage.
const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";

/// What is kept of what EHRs are told of a document.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    study: StudyId,
    entry: EntryId,
    first_uid: String,
    /// Its measurements; none of a PDF, which is read again where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    measurements: Option<MeasurementReport>,
    /// What EHRs had of its line before.
    #[serde(default, skip_serializing_if = "Charted::is_empty")]
    charted: Charted,
    /// True when any of that was final.
    #[serde(default)]
    after_final: bool,
    /// True when this one is.
    #[serde(default)]
    is_final: bool,
}

/// What EHRs were told of the line of a document before.
#[derive(Default)]
struct Before {
    charted: Charted,
    /// True when any of it was final, so that what comes now corrects it.
    is_final: bool,
    /// Why nobody knows what that was.
    doubt: Option<Grounds>,
}

/// A document, read.
enum Content {
    Measurements(MeasurementReport),
    Pdf { object: Object, code: Option<Coding>, bytes: Vec<u8> },
}

/// A document that EHRs do not know as it is now.
struct Change<'k> {
    member: &'k Member,
    instance: Instance,
    line: Line,
    /// What was filed of its line before.
    before: Option<Latest>,
    subject_key: Vec<u8>,
    content_key: Vec<u8>,
}

/// Tells EHRs of every document they do not know as it is now.
pub(super) fn tell(desk: &Desk, journal: &Journal, reader: &Reader, known: &Known) -> Result<(), JournalError> {
    for change in changes(desk, reader, known)? {
        let Change { member, instance, line, before, subject_key, content_key } = change;
        let first_uid = line.first_uid.as_str();
        // The same content may be told again with another status, which is another message.
        let number = before.as_ref().map_or(0, |before| before.report.0);
        let name = [content_key.as_slice(), &number.to_be_bytes()].concat();
        let mut before = Before::read(desk, reader, &member.link, before.as_ref())?;
        before.doubt = before.doubt.or(line.doubt);
        let draft = Draft { desk, known, member, first_uid, name, before };
        let content = desk.read(reader, &instance, first_uid)?;
        let report = draft.report(content, (subject_key, content_key))?;
        let mut covers = reader.held_of(&report.subject_key)?;
        for uid in line.uids.iter().filter(|uid| *uid != first_uid) {
            covers.extend(reader.held_of(&self::subject_key(uid))?);
        }
        journal.file_told(Told { entry: member.entry, report, covers })?;
    }
    Ok(())
}

/// True when EHRs do not know some document of a study as it is now.
pub(super) fn is_any_new(desk: &Desk, reader: &Reader, known: &Known) -> Result<bool, JournalError> {
    Ok(!changes(desk, reader, known)?.is_empty())
}

/// The documents that EHRs do not know as they are now, of each line the one it ends with.
fn changes<'k>(desk: &Desk, reader: &Reader, known: &'k Known) -> Result<Vec<Change<'k>>, JournalError> {
    let mut documents = Vec::new();
    for member in known.series.iter().flat_map(|(_, members)| members) {
        let Some(what) = kind(&member.object.sop_class_uid) else { continue };
        if desk.hear_of(what, &member.link)
            && let Some(instance) = reader.instance(member.entry)?
        {
            documents.push((member, instance));
        }
    }
    // Of one that came in two series the newest counts.
    documents.sort_by_key(|(member, _)| member.entry);
    let newest: HashMap<String, EntryId> =
        documents.iter().map(|(member, _)| (member.object.sop_instance_uid.clone(), member.entry)).collect();
    documents.retain(|(member, _)| newest[&member.object.sop_instance_uid] == member.entry);
    let lines = Lines::read(desk, reader, documents.iter().map(|(_, instance)| instance))?;
    let mut ends: Vec<(&Member, Instance, Line)> = Vec::new();
    for (member, instance) in documents {
        let was_told = |uid: &str| reader.was_told(&subject_key(uid));
        if let Some(line) = lines.ending_with(&member.object.sop_instance_uid, was_told)? {
            ends.push((member, instance, line));
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (.., line) in &ends {
        *counts.entry(line.first_uid.clone()).or_default() += 1;
    }
    for (.., line) in ends.iter_mut().filter(|(.., line)| counts[&line.first_uid] > 1) {
        line.fork();
    }
    let mut changes = Vec::new();
    for (member, instance, mut line) in ends {
        let subject_key = subject_key(&line.first_uid);
        let before = reader.last_told(&subject_key)?;
        // What was told last is not of this line when it lies in another study, or its file is lost.
        if let Some(before) = &before
            && let Some(uid) = told_uid(reader, before)?
            && !line.uids.contains(&uid)
        {
            if before.entry() > member.entry {
                continue;
            }
            if line.doubt.is_none() {
                line.fork();
            }
        }
        // Once it is certain which line it belongs to, it is decided about again.
        let doubt = line.doubt.as_ref().map_or("", |grounds| grounds.reason);
        let content_key = content_key(&instance, doubt);
        if let Some(before) = before.as_ref().filter(|before| !before.is_undone()) {
            // What a person decided in doubt stays decided when the doubt is gone.
            let is_same = |doubt: &&str| before.same_content(&self::content_key(&instance, doubt));
            if is_same(&doubt) || (is_same(&"") || DOUBTS.iter().any(is_same)) && reader.was_decided(before.report)? {
                continue;
            }
        }
        changes.push(Change { member, instance, line, before, subject_key, content_key });
    }
    Ok(changes)
}

/// Which document was filed last about a line; `None` when that is not kept any more.
fn told_uid(reader: &Reader, latest: &Latest) -> Result<Option<String>, JournalError> {
    match reader.instance(latest.entry()) {
        Err(JournalError::Damaged) => Ok(None),
        instance => Ok(instance?.map(|instance| instance.sop_instance_uid)),
    }
}

/// What EHRs are told of a line of documents, by the one under whose name they know it.
fn subject_key(first_uid: &str) -> Vec<u8> {
    format!("document\u{1f}{first_uid}").into_bytes()
}

/// What tells a document from others of its line, and from itself with another doubt about which line that is.
fn content_key(instance: &Instance, doubt: &str) -> Vec<u8> {
    [instance.sop_instance_uid.as_bytes(), &instance.digest, doubt.as_bytes()].concat()
}

/// True when any EHR hears of a document of this study.
pub(super) fn are_heard_of(desk: &Desk, known: &Known) -> bool {
    let mut members = known.series.iter().flat_map(|(_, members)| members);
    members.any(|member| kind(&member.object.sop_class_uid).is_some_and(|what| desk.hear_of(what, &member.link)))
}

/// What becomes of measurements or of a document that a person released.
pub(super) fn release(
    desk: &Desk,
    journal: &Journal,
    reader: &Reader,
    item: &Released,
    kept: &Kept,
) -> Result<Vec<ReleaseFiling>, JournalError> {
    let mut known = match Known::read(reader, kept.study) {
        // What else was released goes on.
        Err(JournalError::Damaged) => None,
        known => known?,
    };
    if let Some(known) = &mut known {
        let passed = known.passed(reader)?;
        if let Some(held) = known.pass(desk, item, passed) {
            return Ok(vec![held]);
        }
    }
    let instance = reader.instance(kept.entry)?;
    let member = known.as_ref().and_then(|known| known.member(kept.entry));
    let (Some(known), Some(member), Some(instance)) = (&known, member, instance) else {
        reader.set_unreadable(item.report);
        return Ok(Vec::new());
    };
    let content = match &kept.measurements {
        Some(report) => Ok(Content::Measurements(report.clone())),
        None => desk.read(reader, &instance, &kept.first_uid)?,
    };
    // What is released now is added to what went out of it before, when what it has no more was taken back too.
    let charted = if reader.was_dispatched(item.report)? { Charted::default() } else { kept.charted.clone() };
    let before = Before { charted, is_final: kept.after_final, doubt: None };
    let draft = Draft { desk, known, member, first_uid: &kept.first_uid, name: released(item), before };
    // It can be read only now: each of its numbers is decided about by itself.
    if kept.measurements.is_none() && matches!(content, Ok(Content::Measurements(_))) {
        let content_key = content_key(&instance, "");
        let report = draft.report(content, (subject_key(&kept.first_uid), content_key))?;
        let covers = reader.held_of(&report.subject_key)?;
        journal.file_told(Told { entry: item.entry, report, covers })?;
        return Ok(Vec::new());
    }
    let going: Vec<usize> = item.observations.iter().map(|&at| at as usize).collect();
    let outbox = match content {
        Ok(content) => draft.outbound(&content, &going).map_err(|error| uncarried(item.entry, &error)),
        Err(grounds) => Err(grounds),
    };
    let filing = match outbox {
        Ok(outbox) => ReleaseFiling::sent(item, outbox, Vec::new()),
        Err(grounds) => ReleaseFiling::held_again(item, grounds),
    };
    Ok(vec![filing])
}

impl Content {
    fn is_final(&self) -> bool {
        match self {
            Content::Measurements(report) => imaging::is_final(&report.completion, &report.verification),
            Content::Pdf { object, .. } => imaging::is_final(&object.completion, &object.verification),
        }
    }
}

impl Before {
    /// What EHRs were told until the newest report of a line.
    fn read(desk: &Desk, reader: &Reader, link: &str, latest: Option<&Latest>) -> Result<Before, JournalError> {
        let Some(latest) = latest else { return Ok(Before::default()) };
        let json = match reader.report(latest.report) {
            Err(JournalError::Damaged | JournalError::NotFound(_)) => Vec::new(),
            json => json?,
        };
        let Ok(super::Kept::Document(kept)) = serde_json::from_slice(&json) else {
            let why = "what was told of it before cannot be read: see what the chart has and this one has no more";
            let doubt = Some(Grounds { reason: "damaged", rule: None, why: why.to_string() });
            return Ok(Before { doubt, is_final: true, ..Before::default() });
        };
        if !reader.was_dispatched(latest.report)? {
            return Ok(Before { charted: kept.charted, is_final: kept.after_final, doubt: None });
        }
        let is_final = kept.after_final || kept.is_final;
        let Some(measured) = kept.measurements else { return Ok(Before { is_final, ..Before::default() }) };
        let unsent: HashSet<usize> = reader.unsent_of(latest.report)?.into_iter().map(|at| at as usize).collect();
        let sent = desk.wanted(link, &measured);
        let sent: Vec<usize> = sent.into_iter().filter(|at| !unsent.contains(at)).collect();
        Ok(Before { charted: kept.charted.after(&measured, &sent), is_final, doubt: None })
    }
}

/// What is about to be told of a document.
struct Draft<'d> {
    desk: &'d Desk,
    known: &'d Known,
    member: &'d Member,
    first_uid: &'d str,
    /// Tells its messages from all others about the study.
    name: Vec<u8>,
    before: Before,
}

impl Draft<'_> {
    /// What is filed: one that has nothing for an EHR too, which takes the place of what was held of its line.
    fn report(
        &self,
        content: Result<Content, Grounds>,
        (subject_key, content_key): (Vec<u8>, Vec<u8>),
    ) -> Result<FiledReport, JournalError> {
        let mut report = FiledReport {
            completed_at_s: Some(self.member.received_ms / 1000),
            repeat_of: None,
            lookups: self.known.lookups(Some(&self.member.object.sop_instance_uid)),
            json: Vec::new(),
            results: 1,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: Vec::new(),
            answered: Vec::new(),
            orders_as_of: i64::MAX,
            subject_key,
            content_key,
        };
        let held = |at: &usize, grounds: Grounds| NewHold { observation: *at as u32, grounds };
        // Who releases one sees all that is doubtful about it.
        let of_line = self.before.doubt.as_ref().map(|grounds| format!("; {}", grounds.why)).unwrap_or_default();
        let (mut going, mut measurements) = (vec![0], None);
        match &content {
            Err(grounds) => {
                let why = format!("{}{of_line}", grounds.why);
                report.holds = vec![held(&0, Grounds { why, ..grounds.clone() })];
            }
            Ok(Content::Pdf { .. }) => {}
            Ok(Content::Measurements(measured)) => {
                going = self.desk.wanted(&self.member.link, measured);
                let doubt = |at: &usize| measured.measurements.get(*at).and_then(|m| m.doubts.first());
                let doubtful = going.iter().filter_map(|at| {
                    let doubt = doubt(at)?;
                    let why = format!("{}{of_line}", doubt.words());
                    Some(held(at, Grounds { reason: doubt.name(), rule: None, why }))
                });
                report.holds = doubtful.collect();
                // One that does nothing but take back is one result, as is one of which nobody knows what it takes back.
                let takes_back = !self.before.charted.gone(measured).is_empty() || self.before.doubt.is_some();
                report.results = going.len().max(takes_back.into()) as u32;
                going.retain(|at| doubt(at).is_none());
                measurements = Some(measured.clone());
            }
        }
        report.json = kept(super::Kept::Document(Box::new(Kept {
            study: self.known.number,
            entry: self.member.entry,
            first_uid: self.first_uid.to_string(),
            measurements,
            charted: self.before.charted.clone(),
            after_final: self.before.is_final,
            is_final: content.as_ref().is_ok_and(Content::is_final),
        })))?;
        let Ok(content) = content else { return Ok(report) };
        let outbox = match &self.before.doubt {
            Some(grounds) => Err(grounds.clone()),
            None => self.outbound(&content, &going).map_err(|error| uncarried(self.member.entry, &error)),
        };
        match outbox {
            Ok(outbox) => report.outbox = outbox,
            Err(grounds) => {
                report.holds.extend(going.iter().map(|at| held(at, grounds.clone())));
                if report.holds.is_empty() {
                    report.holds.push(held(&0, grounds));
                }
            }
        }
        Ok(report)
    }

    fn outbound(&self, content: &Content, going: &[usize]) -> Result<Vec<NewOutbound>, MapError> {
        let (desk, member, name) = (self.desk, self.member, self.name.as_slice());
        self.known.with_facts(desk, self.before.is_final, |facts| match content {
            Content::Measurements(report) => {
                let (what, results) = (ImagingMessage::Measurements, going.len() as u32);
                desk.outbound(what, self.known, member, name, results, |to, profile, origin| {
                    imaging::measurements(facts, report, going, &self.before.charted, to, profile, origin)
                })
            }
            Content::Pdf { object, code, bytes } => {
                let document = Document { instance: object, code: code.as_ref(), bytes, first_uid: self.first_uid };
                let what = ImagingMessage::Documents;
                let mut rows = desk.outbound(what, self.known, member, name, 1, |to, profile, origin| {
                    imaging::document(facts, document, to, profile, origin)
                })?;
                if !self.before.charted.is_empty() {
                    let nothing = without_numbers(object, code.as_ref(), self.first_uid);
                    let what = ImagingMessage::Measurements;
                    rows.extend(desk.outbound(what, self.known, member, name, 0, |to, profile, origin| {
                        imaging::measurements(facts, &nothing, &[], &self.before.charted, to, profile, origin)
                    })?);
                }
                Ok(rows)
            }
        })
    }
}

/// A document that takes the place of a structured report, as one that has none of its numbers.
fn without_numbers(object: &Object, code: Option<&Coding>, first_uid: &str) -> MeasurementReport {
    MeasurementReport {
        title: code.cloned().unwrap_or_else(|| Coding::loinc("18748-4", "Diagnostic imaging study")),
        sop_class_uid: object.sop_class_uid.clone(),
        sop_instance_uid: object.sop_instance_uid.clone(),
        first_uid: first_uid.to_string(),
        completion: object.completion.clone(),
        verification: object.verification.clone(),
        made: object.made.clone(),
        ..MeasurementReport::default()
    }
}

impl Desk {
    /// The measurements that count: all but raw ones, unless some EHR wants these too.
    fn wanted(&self, link: &str, measured: &MeasurementReport) -> Vec<usize> {
        let with_raw = self.hearing(ImagingMessage::Measurements, link).any(|to| to.imaging.raw_values);
        let all = measured.measurements.iter().enumerate();
        all.filter(|(_, measurement)| with_raw || !measurement.is_raw).map(|(at, _)| at).collect()
    }

    /// A document, or why a person must look at it.
    fn read(
        &self,
        reader: &Reader,
        instance: &Instance,
        first_uid: &str,
    ) -> Result<Result<Content, Grounds>, JournalError> {
        let max = self.config.document_bytes_max();
        let held = |reason: &'static str, why: String| Ok(Err(Grounds { reason, rule: None, why }));
        let too_large = || {
            let why = format!("the document is larger than document_mb_max = {}", self.config.document_mb_max);
            held("too-large", why)
        };
        if instance.bytes > (max + HEAD_BYTES_MAX) as u64 {
            return too_large();
        }
        let file = match reader.open_instance(instance) {
            Err(JournalError::Damaged) => return held("damaged", "the file of the document is lost".to_string()),
            file => file?,
        };
        let limits = Limits { bytes: max + HEAD_BYTES_MAX, value_bytes: max };
        let walked = walk(file, &instance.transfer_syntax_uid, limits);
        let end = walked.end;
        if end == End::Limit {
            return too_large();
        }
        if end != End::Whole {
            return held("unreadable", "the document is cut short, nested too deeply or out of order".to_string());
        }
        if instance.sop_class_uid == PDF {
            return match pdf(walked, instance) {
                Some(pdf) => Ok(Ok(pdf)),
                None => too_large(),
            };
        }
        match measurement_report(&walked.data_set) {
            None => held("unreadable", "the structured report has no content tree".to_string()),
            Some(report) if report.is_cut => held(
                "too-large",
                "the structured report has more measurements, or longer words, than are read".to_string(),
            ),
            Some(mut report) => {
                // The command that brought it says which instance it is.
                report.sop_instance_uid.clone_from(&instance.sop_instance_uid);
                if first_uid != instance.sop_instance_uid {
                    report.first_uid = first_uid.to_string();
                }
                Ok(Ok(Content::Measurements(report)))
            }
        }
    }
}

/// The document in an object, without its padding; `None` when it is longer than may be read.
fn pdf(walked: Walked, instance: &Instance) -> Option<Content> {
    let code = first_coding(&walked.data_set, tags::CONCEPT_NAME_CODE_SEQUENCE);
    let head = Head::of(walked);
    let element = head.data_set.get(tags::ENCAPSULATED_DOCUMENT);
    if matches!(element.map(|e| &e.value), Some(Value::PassedOver(_))) {
        return None;
    }
    let mut bytes = element.map(|e| e.bytes().to_vec()).unwrap_or_default();
    match head.data_set.number(tags::ENCAPSULATED_DOCUMENT_LENGTH) {
        Some(length) if (length as usize) < bytes.len() => bytes.truncate(length as usize),
        // A document of odd length is padded with a zero byte (PS3.5 6.2).
        _ => {
            if bytes.len().is_multiple_of(2) && bytes.last() == Some(&0) {
                bytes.pop();
            }
        }
    }
    let object = Object {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        ..head.instance
    };
    Some(Content::Pdf { object, code, bytes })
}

/// What a document of this SOP class is for EHRs.
fn kind(sop_class_uid: &str) -> Option<ImagingMessage> {
    if MEASUREMENT_REPORTS.contains(&sop_class_uid) {
        Some(ImagingMessage::Measurements)
    } else {
        (sop_class_uid == PDF).then_some(ImagingMessage::Documents)
    }
}
