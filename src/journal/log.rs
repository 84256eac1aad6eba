//! The write-ahead log: when it is copied into the database file, and why the file is longer than what is in it.
//!
//! A file that grows with each commit costs a change of the file system at each fsync besides its own bytes: a commit
//! took 0.30 ms where one into bytes that were there took 0.18 ms. So the log file is **laid out** in quiet moments,
//! with zeros behind what SQLite wrote, and used again from the start once it was copied. It is cut after rows were
//! removed, when the disk is short, and when it got far too long. To SQLite, which knows its frames by salt and
//! checksum, the zeros are the end of the log.

use super::crash;
use super::error::JournalError;
use super::schema;
use super::space::Space;
use rusqlite::Connection;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A log that could not be copied whole is not tried again sooner.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// SQLite's page size; the default, and never set otherwise.
const PAGE_BYTES: u64 = 4096;
/// Bytes the file is laid out to, and by how much at once.
const LAID_OUT_BYTES: u64 = 4 << 20;
const LAY_OUT_STEP: usize = 256 << 10;
/// The file is cut when it has so many times the length it may get under load.
const CUT_FROM: u64 = 2;

/// See the module docs.
pub(super) struct Log {
    file: PathBuf,
    /// Something was committed since it was last copied.
    dirty: bool,
    /// Pages in it, told by SQLite after each commit.
    pages: Arc<AtomicU64>,
    /// A reader or a full disk kept it from being copied whole; not to be tried before.
    retry_at: Option<Instant>,
    /// The last copy failed because the database file could not grow.
    has_no_room: bool,
    /// The file is as long as it should be, or cannot be.
    laid_out: bool,
    /// Rows were removed since the file was cut: what they held may still be in its tail.
    holds_removed: bool,
}

impl Log {
    pub(super) fn new(data: &Path) -> Self {
        Log {
            file: data.join(format!("{}-wal", schema::FILE)),
            dirty: true,
            pages: Arc::default(),
            retry_at: None,
            has_no_room: false,
            laid_out: false,
            holds_removed: false,
        }
    }

    /// Has SQLite tell the length of the log after each commit of this connection.
    pub(super) fn watch(&self, conn: &mut Connection) {
        let pages = self.pages.clone();
        let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
            pages.store(now.unsigned_abs().into(), Ordering::Relaxed);
            Ok(())
        };
        if let Err(error) = conn.wal_hook(Some(hook)) {
            tracing::warn!("the length of the log is not known, it is copied when idle only: {error}");
        }
    }

    /// Something was committed.
    pub(super) fn written(&mut self) {
        self.dirty = true;
    }

    /// Rows were removed.
    pub(super) fn removed(&mut self) {
        self.dirty = true;
        self.holds_removed = true;
    }

    /// When what is in it may be copied; none when there is nothing to copy.
    pub(super) fn copy_due(&self) -> Option<Instant> {
        self.dirty.then(|| self.retry_at.unwrap_or_else(Instant::now))
    }

    /// The database file has no room for what is in it.
    pub(super) fn has_no_room(&self) -> bool {
        self.has_no_room
    }

    /// True when it is longer than it may get and nothing says that copying it would fail.
    pub(super) fn is_too_long(&self, space: &Space) -> bool {
        self.pages.load(Ordering::Relaxed) * PAGE_BYTES > space.wal_max() && self.may_retry()
    }

    /// True unless it could not be copied just now.
    pub(super) fn may_retry(&self) -> bool {
        self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// Copies it into the database file. That it could not be copied whole is noted and no error.
    pub(super) fn copy(&mut self, conn: &Connection, mode: &str, space: &Space) -> Result<(), JournalError> {
        self.dirty = true;
        self.retry_at = None;
        self.has_no_room = false;
        crash::point("checkpoint");
        let mut outcome = checkpoint(conn, mode).map_err(JournalError::from);
        if outcome == Err(JournalError::Full) && space.release_reserve() {
            // The database file has no room to grow. Without it the log would take what is left of the disk.
            outcome = checkpoint(conn, mode).map_err(JournalError::from);
        }
        match outcome {
            Ok(true) => {
                self.dirty = false;
                return Ok(());
            }
            Ok(false) => {}
            Err(JournalError::Full) => self.has_no_room = true,
            Err(error) => return Err(error),
        }
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
        Ok(())
    }

    /// True when the file should be made longer while nobody needs the disk.
    pub(super) fn wants_to_be_laid_out(&self) -> bool {
        !self.laid_out
    }

    /// Makes the file a little longer. It is only a matter of speed, so an error ends it.
    pub(super) fn lay_out(&mut self, space: &Space) {
        let step = || -> std::io::Result<u64> {
            let mut file = OpenOptions::new().append(true).open(&self.file)?;
            let left = LAID_OUT_BYTES.min(space.wal_max()).saturating_sub(file.metadata()?.len());
            let zeros = vec![0; LAY_OUT_STEP.min(left as usize)];
            file.write_all(&zeros)?;
            file.sync_data()?;
            Ok(left - zeros.len() as u64)
        };
        match step() {
            Ok(left) => self.laid_out = left == 0,
            Err(error) => {
                tracing::warn!("the log is not laid out, commits are slower: {error}");
                self.laid_out = true;
            }
        }
    }

    /// True when the file should be cut: removed rows may be in it, a reader or a burst made it far too long, or the
    /// disk is short.
    pub(super) fn is_worth_cutting(&self, space: &Space, short: bool) -> bool {
        let bytes = || std::fs::metadata(&self.file).map_or(0, |file| file.len());
        self.holds_removed || short && bytes() > 0 || bytes() > CUT_FROM * space.wal_max()
    }

    /// The file was cut, or is another one.
    pub(super) fn begin_again(&mut self) {
        self.dirty = true;
        self.laid_out = false;
        self.holds_removed = false;
    }
}

/// Copies the log into the database file. False when a reader kept it from finishing.
pub(super) fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<bool> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| r.get::<_, i64>(0)).map(|busy| busy == 0)
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::spool::Spool;
    use super::*;
    use crate::service::Pulse;

    #[test]
    fn a_log_that_could_not_be_copied_is_still_to_be_copied() {
        let data = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(data.path()).unwrap();
        conn.execute_batch("CREATE TABLE instance(entry, spool, header, bytes); CREATE TABLE entry(id, bytes)")
            .unwrap();
        let spool = Spool::open(data.path(), (0, 0), &conn, &Pulse::default()).unwrap();
        let space = Space::new(data.path(), &Config::default(), spool);
        let mut log = Log::new(data.path());
        log.copy(&conn, "TRUNCATE", &space).unwrap();
        assert!(log.copy_due().is_none(), "all of it is in the journal");
        // SQLite refuses to copy it in the middle of a transaction of the same connection.
        conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO entry VALUES (1, 2)").unwrap();
        assert!(log.copy(&conn, "TRUNCATE", &space).is_err());
        assert!(log.copy_due().is_some());
    }
}
