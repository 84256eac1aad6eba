//! Images: what becomes of the DICOM instances that modalities store, and of the studies they make up.
//!
//! ```text
//! instance in custody -> its head -> where it belongs, where it goes -> COMMIT (rows, outbox references) -> delivery
//! study that is stable -> whose it is, what is in it -> mapped for each EHR, or held -> COMMIT            -> delivery
//! ```
//!
//! - Images go to every destination whose routing takes them: the outbox holds a reference to the file, and
//!   what a destination gets other than it came is changed on its way there. One whose head cannot be read is kept, and
//!   goes where no routing rule asks for what it does not say.
//! - EHRs hear of studies, not of images: once a study is stable, and again, as a correction, when it grew.
//! - What is doubtful about a study ([`StudyDoubt`]) keeps all of it from the EHR until a person has looked or an order
//!   settles it (invariant I13). Its images go to the archive all the same, where they are looked at.
//! - In the loss account an instance is one result. What EHRs are told of it besides is received when it is told: a
//!   study or a document as one result, the measurements of a structured report as one each.
//!
//! | file | what |
//! |---|---|
//! | `instance` | where one instance belongs and where it goes |
//! | `study` | when a study is stable, whose it is, and what EHRs are told of it |
//! | `document` | what EHRs are told of structured reports and encapsulated PDFs |
//! | `line` | which document takes the place of which |
//! | `doubt` | what keeps something from EHRs, and what a person has seen of it |
//! | `chart` | what each EHR has of a line of documents |
//! | `mpps` | performed procedure steps as a service |
//! | `steps` | whom else a performed step concerns: EHR and PACS |
//! | `commitment` | storage commitment as a service |

mod chart;
pub mod commitment;
mod content;
mod document;
mod doubt;
mod draft;
mod instance;
mod line;
pub mod mpps;
pub mod steps;
mod study;
#[cfg(test)]
mod tests;

use crate::clinical::imaging::StudyDoubt;
use crate::delivery;
use crate::journal::{Entry, Filing, Instance, Journal, JournalError, Reader, ReleaseFiling, Released};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Largest document that can be allowed, in MB: what is read into memory of one object.
const DOCUMENT_MB_MAX: u32 = (crate::message::dicom::DOCUMENT_BYTES_MAX >> 20) as u32;
/// Longest time a study may be waited for, in seconds: a day.
const STUDY_IDLE_MAX_S: u32 = 86_400;

/// When EHRs are told of imaging studies, and what keeps them from being told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A study to which nothing was added for this long is stable, and EHRs are told of it, in seconds. Sooner when its
    /// modality reports its steps as ended (MPPS) and everything they list is here, or was told that all of it is safe
    /// (storage commitment).
    pub study_idle_s: u32,
    /// What keeps a study from EHRs until a person has looked or an order came: "several-patients" (its objects name
    /// different ones), "order-mismatch" (the order is for another patient), "ambiguous-order" (several orders fit),
    /// "no-accession" (no number and no order), "no-order" (none is known). One without a patient id is always
    /// held, and so is one of several patients without an order.
    pub hold: Vec<StudyDoubt>,
    /// Largest structured report or PDF that EHRs are sent, in MB (1 to 32). A larger one is held.
    pub document_mb_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            study_idle_s: 60,
            hold: vec![
                StudyDoubt::SeveralPatients,
                StudyDoubt::OrderMismatch,
                StudyDoubt::AmbiguousOrder,
                StudyDoubt::NoAccession,
            ],
            document_mb_max: 10,
        }
    }
}

impl Config {
    /// What is wrong with these settings: the setting and what to do.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        [
            ("study_idle_s", self.study_idle_s, STUDY_IDLE_MAX_S),
            ("document_mb_max", self.document_mb_max, DOCUMENT_MB_MAX),
        ]
        .into_iter()
        .filter(|(_, value, max)| !(1..=*max).contains(value))
        .map(|(key, _, max)| (key, format!("must be between 1 and {max}")))
        .collect()
    }

    fn document_bytes_max(&self) -> usize {
        (self.document_mb_max as usize) << 20
    }
}

/// Where images and studies are made ready for the destinations.
pub struct Desk {
    gateway: String,
    zone: jiff::tz::TimeZone,
    destinations: Vec<delivery::Config>,
    config: Config,
    /// Links of which it was told that an image of theirs goes nowhere.
    unrouted: RefCell<BTreeSet<String>>,
}

/// What is kept of what an EHR is told: the report, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kept {
    Study(study::Kept),
    Document(Box<draft::Kept>),
}

impl Desk {
    /// A desk for these destinations. `zone` is the clock of modalities that name no offset.
    pub fn new(gateway: &str, zone: &jiff::tz::TimeZone, destinations: &[delivery::Config]) -> Self {
        Desk {
            gateway: gateway.to_string(),
            zone: zone.clone(),
            destinations: destinations.to_vec(),
            config: Config::default(),
            unrouted: RefCell::default(),
        }
    }

    /// With these settings.
    pub fn with(self, config: &Config) -> Self {
        Desk { config: config.clone(), ..self }
    }

    /// The outcome of an entry that is an instance; `None` when its file is lost, which sets the entry aside.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn file(&self, reader: &Reader, entry: &Entry, instance: &Instance) -> Result<Option<Filing>, JournalError> {
        match instance::file(&self.destinations, reader, entry, instance) {
            Err(JournalError::Damaged) => {
                reader.set_damaged(entry.id);
                Ok(None)
            }
            filing => {
                let filing = filing?;
                self.tell_unrouted(entry, &filing);
                Ok(Some(filing))
            }
        }
    }

    /// Warns of the first image of each link that no destination takes.
    fn tell_unrouted(&self, entry: &Entry, filing: &Filing) {
        let is_unrouted = filing.reports.iter().all(|r| r.outbox.is_empty() && r.repeat_of.is_none());
        if is_unrouted && self.unrouted.borrow_mut().insert(entry.link.clone()) {
            tracing::warn!(
                link = entry.link,
                entry = entry.id.0,
                "no destination takes this image, and perhaps others: unless their modality is told that they are safe, \
                 they are kept for retention_days and then removed; \
                 see what [[destination]] says of links, modalities, body_parts and study_descriptions"
            );
        }
    }

    /// Tells EHRs of the studies that are stable at this moment (Unix milliseconds), after which retention may have
    /// their images once they are delivered. Says how many there were.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn settle_studies(&self, journal: &Journal, reader: &Reader, now_ms: i64) -> Result<usize, JournalError> {
        study::settle(self, journal, reader, now_ms)
    }

    /// True for what [`Desk::release`] releases.
    pub fn is_its_own(item: &Released) -> bool {
        item.driver == instance::READER
    }

    /// What becomes of what was held of a study: a person has looked at it, or an order came that may settle it.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn release(
        &self,
        journal: &Journal,
        reader: &Reader,
        item: &Released,
    ) -> Result<Vec<ReleaseFiling>, JournalError> {
        match serde_json::from_slice(&item.json) {
            Ok(Kept::Study(kept)) => study::release(self, journal, reader, item, &kept),
            Ok(Kept::Document(kept)) => document::release(self, reader, item, &kept),
            Err(_) => {
                reader.set_unreadable(item.report);
                Ok(Vec::new())
            }
        }
    }
}
