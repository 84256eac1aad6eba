//! What can go wrong, by operation. No text here ever holds a peer's bytes (invariant I8).

use rusqlite::ErrorCode;
use std::path::PathBuf;

/// The journal cannot be opened. The gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on this data directory.
    #[error("another gateway or command is using {}", .0.display())]
    InUse(PathBuf),
    /// The data directory or the key file cannot be used.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no journal to read.
    #[error("there is no journal in {}", .0.display())]
    Missing(PathBuf),
    /// The database was written by a newer version of this program.
    #[error("the journal has schema {found}, this program knows up to {known}: install the newer version again")]
    Newer {
        /// `user_version` of the file.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The key in reach is not the one the data was sealed with.
    #[error("the journal key does not open this journal; restore the key it was written with")]
    WrongKey,
    /// The journal exists but its key is gone.
    #[error("the journal's key {} is missing; restore it from the backup of the key", .0.display())]
    KeyMissing(PathBuf),
    /// The key file does not hold 64 hexadecimal digits or 32 bytes.
    #[error("{} does not hold a key of 64 hexadecimal digits", .0.display())]
    KeyUnreadable(PathBuf),
    /// SQLite is too old (WAL-reset corruption before 3.51.3) or did not take a setting that durability rests on.
    #[error("the database library does not keep its promises: {0}")]
    Unsafe(String),
    /// The operating system gave no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// The database cannot be read or changed.
    #[error("the journal cannot be opened: {0}")]
    Database(#[from] rusqlite::Error),
}

/// An operation on the open journal failed; nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk or the quota is full.
    #[error("the journal is full")]
    Full,
    /// The storage failed; the journal reopens by itself.
    #[error("the storage failed: {0}")]
    Storage(String),
    /// A stored row does not open with its key and place: it was damaged or moved.
    #[error("a stored row is damaged")]
    Damaged,
    /// There is no such row.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The operation is not allowed in this state.
    #[error("{0}")]
    Refused(&'static str),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// True when the connection can no longer be trusted and the writer must recover.
    pub(super) fn breaks_connection(&self) -> bool {
        matches!(self, JournalError::Storage(_))
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => JournalError::Full,
            Some(ErrorCode::ConstraintViolation) => JournalError::Refused("the change contradicts what is stored"),
            Some(_) => JournalError::Storage(error.to_string()),
            None if matches!(error, rusqlite::Error::QueryReturnedNoRows) => JournalError::NotFound("row"),
            None => JournalError::Damaged,
        }
    }
}
