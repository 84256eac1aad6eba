//! One reading connection for many tasks: one for each of them would cost more memory than what it does.

use super::Journal;
use super::error::JournalError;
use super::reader::Reader;
use std::sync::{Mutex, PoisonError};

/// A [`Reader`] that several tasks share. It is opened when it is first asked.
pub struct SharedReader {
    journal: Journal,
    open: Mutex<Option<Reader>>,
}

impl SharedReader {
    /// A shared reader of this journal.
    pub fn new(journal: &Journal) -> Self {
        SharedReader { journal: journal.clone(), open: Mutex::new(None) }
    }

    /// Reads. Blocks on the database, and on whoever else reads.
    pub fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let mut shared = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match shared.take() {
            Some(open) => open,
            None => self.journal.reader()?,
        };
        // One that failed is opened anew the next time.
        let done = work(&open)?;
        *shared = Some(open);
        Ok(done)
    }
}
