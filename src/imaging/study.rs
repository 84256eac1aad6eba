//! When a study is stable.

use crate::journal::{EntryId, Journal, JournalError, Reader, StudyFiling};

/// A study to which nothing came for so long is stable, in milliseconds.
const STUDY_IDLE_MS: i64 = 60_000;
/// Studies looked at in one round.
const STUDIES: usize = 16;

/// Makes stable what has been quiet for a while; tells how much it was.
pub(super) fn settle(journal: &Journal, reader: &Reader, now_ms: i64) -> Result<usize, JournalError> {
    let grown = reader.grown_studies(now_ms - STUDY_IDLE_MS, now_ms, STUDIES)?;
    for &grown in &grown {
        journal.file_study(StudyFiling { grown, entry: EntryId(0), report: None })?;
    }
    Ok(grown.len())
}
