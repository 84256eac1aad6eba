//! Images: what becomes of the DICOM instances that modalities store.
//!
//! ```text
//! instance in custody -> its head -> where it belongs, where it goes -> COMMIT (rows, outbox references) -> delivery
//! ```
//!
//! Images go to every destination whose routing takes them, as they came: the outbox holds a reference to the file. One
//! whose head cannot be read is kept, and goes where no routing rule asks for what it does not say. In the loss account
//! an instance is one result.

pub mod mpps;

use crate::delivery;
use crate::delivery::config::Routed;
use crate::delivery::instance::Reference;
use crate::journal::{
    Entry, EntryId, FiledReport, Filing, Instance, Journal, JournalError, Latest, Lookup, NewOutbound, Placement,
    Reader, StudyFiling,
};
use crate::message::dicom::{Head, read_head};
use serde_json::json;

/// What reads instances, and its version.
const READER: &str = "dicom@1";
/// A study to which nothing came for so long is stable, in milliseconds.
const STUDY_IDLE_MS: i64 = 60_000;
/// Studies looked at in one round.
const STUDIES: usize = 16;

/// Where images are made ready for the destinations.
pub struct Desk {
    destinations: Vec<delivery::Config>,
}

impl Desk {
    /// A desk for these destinations.
    pub fn new(destinations: &[delivery::Config]) -> Self {
        Desk { destinations: destinations.to_vec() }
    }

    /// The outcome of an entry that is an instance; `None` when its file is lost, which sets the entry aside.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn file(&self, reader: &Reader, entry: &Entry, instance: &Instance) -> Result<Option<Filing>, JournalError> {
        let head = match reader.open_instance(instance) {
            Ok(file) => read_head(file, &instance.transfer_syntax_uid),
            Err(JournalError::Damaged) => {
                reader.set_damaged(entry.id);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let subject = [&head.study.instance_uid, &head.series.instance_uid, &instance.sop_instance_uid];
        let subject_key = subject.map(String::as_str).join("\u{1f}").into_bytes();
        let content_key = instance.digest.to_vec();
        let latest = reader.latest_of(&entry.link, &subject_key)?;
        // Who has an image filed again wants it sent as the routes are now.
        let is_repeat = |latest: &Latest| latest.same_content(&content_key) && !latest.is_of(entry.id);
        let repeat_of = latest.filter(is_repeat).map(|latest| latest.report);
        let kept = json!({ "study": head.study.instance_uid, "series": head.series.instance_uid,
                           "instance": instance.sop_instance_uid, "modality": head.series.modality });
        let report = FiledReport {
            subject_key,
            content_key,
            completed_at_s: Some(entry.received_at_ms / 1000),
            repeat_of,
            lookups: lookups(&head, &instance.sop_instance_uid),
            json: kept.to_string().into_bytes(),
            results: 1,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: if repeat_of.is_some() { Vec::new() } else { self.references(&entry.link, instance, &head) },
            answered: Vec::new(),
            orders_as_of: i64::MAX,
        };
        Ok(Some(Filing {
            entry: entry.id,
            driver: READER.to_string(),
            inbound_results: 1,
            refused: Vec::new(),
            reports: vec![report],
            covers: Vec::new(),
            placement: if repeat_of.is_some() { None } else { placement(&head) },
        }))
    }

    /// Makes studies stable to which nothing came for a while, after which retention may have their images once they are
    /// delivered. Tells how many there were.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn settle_studies(&self, journal: &Journal, reader: &Reader, now_ms: i64) -> Result<usize, JournalError> {
        let grown = reader.grown_studies(now_ms - STUDY_IDLE_MS, now_ms, STUDIES)?;
        for &grown in &grown {
            journal.file_study(StudyFiling { grown, entry: EntryId(0), report: None })?;
        }
        Ok(grown.len())
    }

    /// The outbox rows of an instance. Its bytes are those that came, so it keeps its UID as message id (invariant I5).
    fn references(&self, link: &str, instance: &Instance, head: &Head) -> Vec<NewOutbound> {
        let routed = Routed {
            link,
            calling_ae_title: &instance.calling_ae_title,
            modality: &head.series.modality,
            body_part: &head.series.body_part,
            study_description: &head.study.description,
        };
        let reference = Reference {
            spool: instance.spool.clone(),
            sop_class_uid: instance.sop_class_uid.clone(),
            sop_instance_uid: instance.sop_instance_uid.clone(),
            transfer_syntax_uid: instance.transfer_syntax_uid.clone(),
            bytes: instance.header_bytes + instance.bytes,
        };
        // Objects of no known study are kept in the order in which one modality sent them.
        let study = if head.study.instance_uid.is_empty() { link } else { &head.study.instance_uid };
        self.destinations.iter().filter_map(|destination| reference.outbound(destination, &routed, study)).collect()
    }
}

/// What a person may search it by.
fn lookups(head: &Head, sop_instance_uid: &str) -> Vec<(Lookup, String)> {
    let named = [
        (Lookup::Instance, sop_instance_uid),
        (Lookup::Study, &head.study.instance_uid),
        (Lookup::Accession, head.study.accession_number.expose()),
        (Lookup::Patient, head.patient.id.expose()),
    ];
    named.into_iter().filter(|(_, id)| !id.is_empty()).map(|(kind, id)| (kind, id.to_string())).collect()
}

/// Where it belongs; an object without the UIDs of study and series belongs to none.
fn placement(head: &Head) -> Option<Placement> {
    if head.study.instance_uid.is_empty() || head.series.instance_uid.is_empty() {
        return None;
    }
    Some(Placement {
        study_instance_uid: head.study.instance_uid.clone(),
        study: serde_json::to_vec(&head.study).ok()?,
        series_instance_uid: head.series.instance_uid.clone(),
        series: serde_json::to_vec(&head.series).ok()?,
        modality: head.series.modality.clone(),
        number: head.instance.number.parse().ok(),
    })
}
