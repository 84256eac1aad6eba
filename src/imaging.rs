//! Images: what becomes of the DICOM instances that modalities store, and of the studies they make up.
//!
//! ```text
//! instance in custody -> its head -> where it belongs, where it goes -> COMMIT (rows, outbox references) -> delivery
//! ```
//!
//! Images go to every destination whose routing takes them, as they came: the outbox holds a reference to the file. One
//! whose head cannot be read is kept, and goes where no routing rule asks for what it does not say. In the loss account
//! an instance is one result.
//!
//! | file | what |
//! |---|---|
//! | `instance` | where one instance belongs and where it goes |
//! | `study` | when a study is stable |
//! | `mpps` | performed procedure steps as a service |
//! | `steps` | whom else a performed step concerns: EHR and PACS |

mod instance;
pub mod mpps;
pub mod steps;
mod study;

use crate::delivery;
use crate::journal::{Entry, Filing, Instance, Journal, JournalError, Reader};

/// Where images and studies are made ready for the destinations.
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
        match instance::file(&self.destinations, reader, entry, instance) {
            Err(JournalError::Damaged) => {
                reader.set_damaged(entry.id);
                Ok(None)
            }
            filing => filing.map(Some),
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
