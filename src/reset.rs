//! Factory reset: nothing is left of what a box came to know, and it starts as new.
//!
//! It throws data away for good, so it is refused while anything is here that went nowhere yet ([`Undelivered`]), unless
//! whoever asks names exactly how much that is.
//!
//! ```text
//! journal locked, recovered, counted -> the intent is on disk (no way back) -> keys -> the rest -> the intent is gone
//! ```
//!
//! The journal stays locked from the count to the intent, so what is counted is what is there. A process that dies behind
//! the intent leaves a box that is not used: the gateway's next start goes on with it before anything else ([`finish`]).
//! The journal's key goes first, as what is sealed with it is worth nothing afterwards. On flash memory its bytes may
//! stay where nobody can read them without taking the memory apart.
//!
//! Only names that this program makes are erased, never a whole directory: somebody may have put other things there.
//! What lies elsewhere is not ours to erase: the box's own configuration file and what it names.

use crate::disk;
use crate::journal::{self, Journal, JournalError, OpenError, Undelivered, crash};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// The intent, in the data directory.
const INTENT: &str = "factory-reset";
/// What is erased, in this order.
const NAMES: [&str; 19] = [
    "journal.key",
    ".journal.key.new",
    "identity",
    "captures",
    "config",
    "fleet.db",
    "fleet.db-wal",
    "fleet.db-shm",
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
    "spool",
    "journal.reserve",
    "folders",
    "order-feeds",
    "instruments.json",
    "watch.json",
    "clock.json",
    "control.sock",
];

/// Why there is no reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The journal cannot be opened, or a gateway runs on it: nothing was done.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal cannot be read: nothing was done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is here that went nowhere yet, and it was not said how much: nothing was done.
    #[error("{found} went nowhere yet; to throw that away, say exactly how much it is")]
    Undelivered {
        /// What.
        found: Undelivered,
    },
    /// The disk refuses. Behind the intent the next start goes on.
    #[error("{what}: {source}")]
    Disk {
        /// The file.
        what: String,
        /// What the system said.
        source: Error,
    },
}

/// Counts what is here, and makes sure that it will be erased: from here there is no way back. No gateway may run.
/// `discard` is how much is thrown away that went nowhere yet.
///
/// # Errors
/// [`ResetError`]: nothing was done.
pub fn begin(data: &Path, config: &journal::Config, discard: u64) -> Result<Undelivered, ResetError> {
    let journal = Journal::open(data, config)?;
    let begun = count(&journal, discard).and_then(|found| {
        crash::point("reset-counted");
        let intent = data.join(INTENT);
        disk::replace_secret(&intent, b"").map_err(|source| at(&intent, source))?;
        crash::point("reset-begun");
        Ok(found)
    });
    journal.close();
    begun
}

fn count(journal: &Journal, discard: u64) -> Result<Undelivered, ResetError> {
    let found = journal.reader()?.undelivered()?;
    if found.total() == discard { Ok(found) } else { Err(ResetError::Undelivered { found }) }
}

/// True behind the point of no return.
pub fn is_begun(data: &Path) -> bool {
    data.join(INTENT).exists()
}

/// Goes on with a reset that was begun, if one was, to its end. Says whether there was one.
///
/// # Errors
/// [`ResetError::Open`] while a gateway runs; [`ResetError::Disk`], then it is still begun.
pub fn finish(data: &Path) -> Result<bool, ResetError> {
    if !is_begun(data) {
        return Ok(false);
    }
    let _lock = journal::lock(data)?;
    for name in NAMES {
        let path = data.join(name);
        erase(&path).map_err(|source| at(&path, source))?;
        crash::point("reset-erased");
    }
    disk::sync_folder(&data.join(INTENT)).map_err(|source| at(data, source))?;
    crash::point("reset-synced");
    let intent = data.join(INTENT);
    erase(&intent).and_then(|()| disk::sync_folder(&intent)).map_err(|source| at(&intent, source))?;
    crash::point("reset-ended");
    tracing::warn!("this box was reset: it knows nothing of before");
    Ok(true)
}

/// A file or a folder, and never what a link points to.
fn erase(path: &Path) -> std::io::Result<()> {
    let erased = match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match erased {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: Error) -> ResetError {
    ResetError::Disk { what: path.display().to_string(), source }
}
