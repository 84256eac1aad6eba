//! Storage commitments: what modalities asked to be answered for, until they have the answer.
//!
//! A request and its row are one commit, before it is answered (invariant I1). The row is due until the modality took
//! the report, through restarts; then it stays, like orders, for `orders_days`.

use super::custody::{self, NewPart};
use super::desk::Desk;
use super::error::JournalError;
use super::reader::Reader;
use super::seal::Place;
use super::types::CommitmentId;
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;
use std::time::Duration;

/// Name that stands for a driver in entries that ask for commitment.
const READER: &str = "storage-commitment@1";

/// `commitment.state`.
const DUE: i64 = 0;
const REPORTED: i64 = 1;
const GIVEN_UP: i64 = 2;

/// What is due of an asker later is due now. States are written out, here and below: a partial index serves no other.
const HURRY: &str = "UPDATE commitment SET due_ms = ?3 WHERE link = ?1 AND calling = ?2 AND state = 0 AND due_ms > ?3";
/// Removes some of those that are answered or given up.
const SWEEP: &str =
    "DELETE FROM commitment WHERE id IN (SELECT id FROM commitment WHERE state > 0 AND changed_ms < ?1 LIMIT ?2)";

/// Who asks for commitment. Modalities that nobody named share a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The link it asks on.
    pub link: String,
    /// The AE title by which it calls.
    pub calling_ae_title: String,
}

/// A commitment that is due.
#[derive(Clone, PartialEq, Eq)]
pub struct DueCommitment {
    /// Its number.
    pub id: CommitmentId,
    /// The modality that asked.
    pub asker: Asker,
    /// When it asked, Unix milliseconds.
    pub asked_ms: i64,
    /// Reports that failed so far.
    pub attempts: u32,
    /// How often it was asked for again: one that is answered meanwhile is due all the same.
    pub turn: i64,
    /// What was asked, as the caller stored it; nothing when it is damaged.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for DueCommitment {
    /// Never prints what was asked (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DueCommitment({}, {}, {} attempts)", self.id, self.asker.link, self.attempts)
    }
}

/// How an attempt to answer for a commitment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitmentStep {
    /// The modality took the report.
    Reported,
    /// Not yet: look again after this.
    Wait {
        /// How long.
        after: Duration,
        /// True when a report failed.
        failed: bool,
    },
    /// It was tried for long enough.
    GivenUp,
}

/// Keeps a request. `content` makes what is stored; it is told whether the transaction UID stands for another request
/// already. The very same request again is due again and no second row.
pub(super) fn store(
    desk: &mut Desk<'_>,
    part: &NewPart,
    calling_ae_title: &str,
    transaction_uid: &str,
    content: &(dyn Fn(bool) -> Vec<u8> + Send),
) -> Result<CommitmentId, JournalError> {
    let hash = desk.seal.hash("commitment", &[part.session.link.as_bytes(), transaction_uid.as_bytes()]);
    let kept = custody::persist(desk, part)?;
    let same: Option<i64> = desk
        .conn
        .prepare_cached("SELECT id FROM commitment WHERE entry = ?1")?
        .query_row([kept.entry], |r| r.get(0))
        .optional()?;
    let id = match same {
        Some(id) => id,
        None => {
            let is_taken: bool = desk
                .conn
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM commitment WHERE hash = ?1)")?
                .query_row([hash], |r| r.get(0))?;
            custody::settle(desk, kept.entry, READER, None)?;
            desk.conn
                .prepare_cached(
                    "INSERT INTO commitment(hash, entry, link, calling, state, asked_ms, due_ms, changed_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6)",
                )?
                .execute((hash, kept.entry, &*part.session.link, calling_ae_title, DUE, desk.now_ms))?;
            let id = desk.conn.last_insert_rowid();
            let sealed = desk.seal.seal(Place::Commitment, id, &content(is_taken))?;
            desk.conn.prepare_cached("UPDATE commitment SET json = ?2 WHERE id = ?1")?.execute((id, sealed))?;
            id
        }
    };
    desk.conn
        .prepare_cached(
            "UPDATE commitment SET state = ?2, due_ms = ?3, changed_ms = ?3, turn = turn + 1 WHERE id = ?1",
        )?
        .execute((id, DUE, desk.now_ms))?;
    // The modality is there: what could not be reported to it may be tried again.
    desk.conn.prepare_cached(HURRY)?.execute((&*part.session.link, calling_ae_title, desk.now_ms))?;
    desk.memory.wake_destination(COMMITMENTS_SIGNAL);
    Ok(CommitmentId(id))
}

/// The signal that something may be due. No destination may be named so.
pub(super) const COMMITMENTS_SIGNAL: &str = "\u{1f}commitments";

/// Notes how an attempt in this turn ended, with what is stored from now on when that changed. One that was asked for
/// again meanwhile stays due.
pub(super) fn settle(
    desk: &mut Desk<'_>,
    (id, turn): (CommitmentId, i64),
    how: CommitmentStep,
    content: Option<&[u8]>,
) -> Result<(), JournalError> {
    let (state, after, failed) = match how {
        CommitmentStep::Reported => (REPORTED, Duration::ZERO, false),
        CommitmentStep::GivenUp => (GIVEN_UP, Duration::ZERO, false),
        CommitmentStep::Wait { after, failed } => (DUE, after, failed),
    };
    let due_ms = desk.now_ms.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    desk.conn
        .prepare_cached(
            "UPDATE commitment SET state = ?2, due_ms = ?3, changed_ms = ?4, attempts = attempts + ?5
             WHERE id = ?1 AND turn = ?6",
        )?
        .execute((id, state, due_ms, desk.now_ms, failed, turn))?;
    if let Some(content) = content {
        let sealed = desk.seal.seal(Place::Commitment, id.0, content)?;
        desk.conn.prepare_cached("UPDATE commitment SET json = ?2 WHERE id = ?1")?.execute((id, sealed))?;
    }
    Ok(())
}

/// Removes commitments that were answered or given up before `before_ms`. Called in an open transaction.
pub(super) fn sweep(desk: &Desk<'_>, before_ms: i64, limit: i64) -> Result<(), JournalError> {
    desk.conn.prepare_cached(SWEEP)?.execute((before_ms, limit))?;
    Ok(())
}

impl Reader {
    /// Of each modality but these the oldest commitment that is due at this moment (Unix milliseconds), oldest first and
    /// at most `limit`. One that is to wait by a clock that was ahead is due.
    pub fn due_commitments(
        &self,
        now_ms: i64,
        busy: &BTreeSet<Asker>,
        limit: usize,
    ) -> Result<Vec<DueCommitment>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, link, calling, asked_ms, attempts, turn FROM commitment WHERE id IN (
               SELECT min(id) FROM commitment WHERE state = 0 AND (due_ms <= ?1 OR changed_ms > ?1)
               GROUP BY link, calling) ORDER BY id",
        )?;
        let mut rows = statement.query([now_ms])?;
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(row) = rows.next()?
        {
            let id = CommitmentId(row.get(0)?);
            let asker = Asker { link: row.get(1)?, calling_ae_title: row.get(2)? };
            if !busy.contains(&asker) {
                let content = self.commitment(id)?;
                due.push(DueCommitment {
                    id,
                    asker,
                    asked_ms: row.get(3)?,
                    attempts: row.get(4)?,
                    turn: row.get(5)?,
                    content,
                });
            }
        }
        Ok(due)
    }

    /// What is stored of a commitment; nothing when it does not open, which must not keep the others waiting.
    fn commitment(&self, id: CommitmentId) -> Result<Vec<u8>, JournalError> {
        let sql = "SELECT json FROM commitment WHERE id = ?1";
        let sealed: Option<Vec<u8>> = self.conn.prepare_cached(sql)?.query_row([id], |r| r.get(0))?;
        match self.seal.open(&self.conn, Place::Commitment, id.0, &sealed.unwrap_or_default()) {
            Err(JournalError::Damaged) => Ok(Vec::new()),
            opened => opened,
        }
    }

    /// When the next commitment is due that is not yet due at this moment, Unix milliseconds.
    pub fn next_commitment_ms(&self, now_ms: i64) -> Result<Option<i64>, JournalError> {
        let sql = "SELECT min(due_ms) FROM commitment WHERE state = 0 AND due_ms > ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([now_ms], |r| r.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan_of;
    use super::*;

    #[test]
    fn i10_no_request_and_no_slice_of_retention_looks_at_all_commitments() {
        for sql in [HURRY, SWEEP] {
            let steps = plan_of(sql);
            assert!(!steps.is_empty() && steps.iter().all(|step| !step.starts_with("SCAN commitment")), "{steps:?}");
        }
    }
}
