//! Images: what becomes of the DICOM instances that modalities store, and of the studies they make up.
//!
//! ```text
//! instance in custody -> its head -> where it belongs, where it goes -> COMMIT (rows, outbox references) -> delivery
//! ```
//!
//! Images go to every destination whose routing takes them: the outbox holds a reference to the file, and what a
//! destination gets other than it came is changed on its way there. One whose head cannot be read is kept, and goes where
//! no routing rule asks for what it does not say. In the loss account an instance is one result.
//!
//! | file | what |
//! |---|---|
//! | `instance` | where one instance belongs and where it goes |
//! | `study` | when a study is stable |
//! | `mpps` | performed procedure steps as a service |
//! | `steps` | whom else a performed step concerns: EHR and PACS |
//! | `commitment` | storage commitment as a service |

pub mod commitment;
mod instance;
pub mod mpps;
pub mod steps;
mod study;

use crate::delivery;
use crate::journal::{Entry, Filing, Instance, Journal, JournalError, Reader};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Where images and studies are made ready for the destinations.
pub struct Desk {
    destinations: Vec<delivery::Config>,
    /// Links of which it was told that an image of theirs goes nowhere.
    unrouted: RefCell<BTreeSet<String>>,
}

impl Desk {
    /// A desk for these destinations.
    pub fn new(destinations: &[delivery::Config]) -> Self {
        Desk { destinations: destinations.to_vec(), unrouted: RefCell::default() }
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
                "no destination takes this image, and perhaps others: they are kept for retention_days and then removed; \
                 see what [[destination]] says of links, modalities, body_parts and study_descriptions"
            );
        }
    }

    /// Makes studies stable to which nothing came for a while, after which retention may have their images once they are
    /// delivered. Tells how many there were.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn settle_studies(&self, journal: &Journal, reader: &Reader, now_ms: i64) -> Result<usize, JournalError> {
        study::settle(journal, reader, now_ms)
    }
}
