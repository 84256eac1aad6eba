//! Copies of the journal for a person.

use super::error::JournalError;
use super::reader::Reader;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::path::Path;
use std::time::Duration;

/// Pages copied in one step.
const STEP_PAGES: i32 = 512;
/// Pause when the database is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

impl Reader {
    /// Writes a consistent copy of the database to a new file; `progress` hears pages done and in all. Sealed rows
    /// stay sealed: the copy opens only with the same key. Runs beside a working gateway without holding it up.
    pub fn backup(&self, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), JournalError> {
        let failed = |error: std::io::Error| JournalError::Storage(format!("{}: {error}", to.display()));
        if to.exists() {
            return Err(JournalError::Refused("the backup file exists already"));
        }
        let mut copy = Connection::open(to)?;
        // One read transaction around all steps: what the writer commits meanwhile does not start the copy over.
        let snapshot = self.conn.unchecked_transaction()?;
        snapshot.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        {
            let backup = Backup::new(&self.conn, &mut copy)?;
            loop {
                let step = backup.step(STEP_PAGES)?;
                let all = u64::from(backup.progress().pagecount.unsigned_abs());
                progress(all.saturating_sub(u64::from(backup.progress().remaining.unsigned_abs())), all);
                match step {
                    StepResult::Done => break,
                    StepResult::More => {}
                    _ => std::thread::sleep(BUSY_PAUSE),
                }
            }
        }
        snapshot.finish()?;
        copy.close().map_err(|(_, error)| error)?;
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)
    }
}
