//! Images an archive took and is to commit to keep (storage commitment): until it did, or a person is told.
//!
//! ```text
//! delivered -> to be asked about -> asked under a transaction UID -> committed
//!                  ^                        |-> no report in time: asked again
//!                  |                        |-> not committed: sent again, and after that parked
//!                  |--- delivered again <---|
//! ```
//!
//! While an image is to be asked about retention leaves it alone.

use super::desk::Desk;
use super::error::JournalError;
use super::outbox;
use super::reader::Reader;
use super::seal::{Place, Seal};
use super::types::OutboxId;
use std::time::Duration;

/// `entrusted.state`.
pub(super) const OPEN: i64 = 0;
pub(super) const COMMITTED: i64 = 1;
const FAILED: i64 = 2;

/// An image that was delivered is asked about this long after, together with those that follow it.
const COLLECT_MS: i64 = 2_000;
/// An image that is not committed is sent so often in all.
const SENDS_MAX: i64 = 3;
/// The longest wait for a report: a day.
const WAIT_MAX_MS: i64 = 86_400_000;

/// An image that is to be asked about.
pub struct Entrusted {
    /// Its message.
    pub id: OutboxId,
    /// The message, as it was delivered; nothing when it is damaged.
    pub body: Vec<u8>,
}

/// What became of the images of a request, by a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noted {
    /// False when nothing was asked under this transaction UID, or it was asked anew since.
    pub is_known: bool,
    /// The archive committed to these.
    pub committed: u64,
    /// It did not commit to these.
    pub failed: u64,
}

/// An image was delivered to a destination that is to commit to it. Other messages to it are not asked about.
pub(super) fn begin(desk: &mut Desk<'_>, id: i64, destination: &str) -> Result<(), JournalError> {
    desk.conn
        .prepare_cached(
            "INSERT INTO entrusted(outbox, destination, state, due_ms)
             SELECT o.id, o.destination, ?2, ?3 FROM outbox o JOIN dispatch d ON d.id = o.dispatch
             JOIN report r ON r.id = d.report JOIN instance i ON i.entry = r.entry WHERE o.id = ?1
             ON CONFLICT(outbox) DO UPDATE SET state = ?2, due_ms = ?3, asked = 0",
        )?
        .execute((id, OPEN, desk.now_ms.saturating_add(COLLECT_MS)))?;
    desk.memory.wake_destination(&signal(destination));
    Ok(())
}

/// A person has it sent anew.
pub(super) fn forget(desk: &Desk<'_>, id: i64) -> Result<(), JournalError> {
    desk.conn.prepare_cached("DELETE FROM entrusted WHERE outbox = ?1")?.execute([id])?;
    Ok(())
}

/// Destinations that are not asked to commit any more keep nothing waiting.
pub(super) fn keep_only(desk: &Desk<'_>, destinations: &[String]) -> Result<(), JournalError> {
    let mut statement = desk.conn.prepare_cached("SELECT DISTINCT destination FROM entrusted WHERE state = 0")?;
    let open: Vec<String> = statement.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    for gone in open.iter().filter(|open| !destinations.contains(open)) {
        desk.conn.prepare_cached("DELETE FROM entrusted WHERE destination = ?1 AND state = 0")?.execute([gone])?;
    }
    Ok(())
}

/// These are asked about now, each under the SOP Instance UID by which the archive knows it. `patience` is how long the
/// report may take; it doubles each time.
pub(super) fn ask(
    desk: &mut Desk<'_>,
    transaction_uid: &str,
    instances: &[(OutboxId, String)],
    patience: Duration,
) -> Result<(), JournalError> {
    let request = request_hash(desk.seal, transaction_uid);
    let patience_ms = i64::try_from(patience.as_millis()).unwrap_or(WAIT_MAX_MS);
    let mut statement = desk.conn.prepare_cached(
        "UPDATE entrusted SET request = ?2, sent_as = ?3, due_ms = ?4 + min(?5 << min(asked, 20), ?6), asked = asked + 1
         WHERE outbox = ?1 AND state = 0",
    )?;
    for (id, sop_instance_uid) in instances {
        let sent_as = instance_hash(desk.seal, sop_instance_uid);
        statement.execute((id, request, sent_as, desk.now_ms, patience_ms, WAIT_MAX_MS.max(patience_ms)))?;
    }
    Ok(())
}

/// The archive did not take the request: everything in it is asked about again after this. It counts as not asked.
pub(super) fn put_off(desk: &mut Desk<'_>, transaction_uid: &str, after: Duration) -> Result<(), JournalError> {
    let due_ms = desk.now_ms.saturating_add(i64::try_from(after.as_millis()).unwrap_or(WAIT_MAX_MS));
    desk.conn
        .prepare_cached("UPDATE entrusted SET due_ms = ?2, asked = max(asked - 1, 0) WHERE request = ?1 AND state = 0")?
        .execute((request_hash(desk.seal, transaction_uid), due_ms))?;
    Ok(())
}

/// Notes a report: by SOP Instance UID, the reason where the archive does not commit. What it does not name is asked
/// about again in its time. The same report again changes nothing (invariant I4).
pub(super) fn note(
    desk: &mut Desk<'_>,
    transaction_uid: &str,
    outcomes: &[(String, Option<u16>)],
) -> Result<Noted, JournalError> {
    let request = request_hash(desk.seal, transaction_uid);
    let is_known = "SELECT EXISTS (SELECT 1 FROM entrusted WHERE request = ?1)";
    let is_known: bool = desk.conn.prepare_cached(is_known)?.query_row([request], |r| r.get(0))?;
    let mut noted = Noted { is_known, ..Noted::default() };
    if !is_known {
        return Ok(noted);
    }
    for (sop_instance_uid, failure) in outcomes {
        let state = if failure.is_none() { COMMITTED } else { FAILED };
        let mut statement = desk.conn.prepare_cached(
            "UPDATE entrusted SET state = ?3, failed = failed + ?4 WHERE request = ?1 AND sent_as = ?2 AND state = 0
               AND asked > 0 RETURNING outbox, destination, failed",
        )?;
        let sent_as = instance_hash(desk.seal, sop_instance_uid);
        let changed: Vec<(i64, String, i64)> = statement
            .query_map((request, sent_as, state, failure.is_some()), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
            .collect::<Result<_, _>>()?;
        drop(statement);
        for (id, destination, failed) in changed {
            desk.memory.wake_destination(&signal(&destination));
            let Some(reason) = failure else {
                noted.committed += 1;
                continue;
            };
            noted.failed += 1;
            let why = format!("the archive does not commit to keep it: failure reason {reason:04X}");
            outbox::take_back(desk, id, &why, failed < SENDS_MAX)?;
        }
    }
    Ok(noted)
}

/// The signal that something may be to be asked of a destination. No destination has a blank in its name.
pub(super) fn signal(destination: &str) -> String {
    format!("commitment of {destination}")
}

impl Reader {
    /// Images that a destination is to be asked about at this moment (Unix milliseconds), the first delivered first; none
    /// while the first one waits for others.
    pub fn entrusted(&self, destination: &str, now_ms: i64, limit: usize) -> Result<Vec<Entrusted>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT n.outbox, b.body FROM entrusted n JOIN outgoing b ON b.id = n.outbox
             WHERE n.state = 0 AND n.destination = ?1 AND (n.request IS NULL OR n.due_ms <= ?2)
               AND EXISTS (SELECT 1 FROM entrusted d WHERE d.state = 0 AND d.destination = ?1 AND d.due_ms <= ?2)
             ORDER BY n.due_ms LIMIT ?3",
        )?;
        let mut rows = statement.query((destination, now_ms, limit as i64))?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let id: OutboxId = row.get(0)?;
            let body = match self.seal.open(&self.conn, Place::Body, id.0, &row.get::<_, Vec<u8>>(1)?) {
                // One that does not open must not keep the others waiting.
                Err(JournalError::Damaged) => Vec::new(),
                opened => opened?,
            };
            due.push(Entrusted { id, body });
        }
        Ok(due)
    }

    /// When a destination is to be asked next, Unix milliseconds.
    pub fn next_entrusted_ms(&self, destination: &str) -> Result<Option<i64>, JournalError> {
        let sql = "SELECT min(due_ms) FROM entrusted WHERE state = 0 AND destination = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([destination], |r| r.get(0))?)
    }

    /// True while images of a request wait for its report.
    pub fn is_asked(&self, transaction_uid: &str) -> Result<bool, JournalError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entrusted WHERE request = ?1 AND state = 0 AND asked > 0)";
        Ok(self.conn.prepare_cached(sql)?.query_row([request_hash(&self.seal, transaction_uid)], |r| r.get(0))?)
    }
}

fn request_hash(seal: &Seal, transaction_uid: &str) -> i64 {
    seal.hash("commitment request", &[transaction_uid.as_bytes()])
}

fn instance_hash(seal: &Seal, sop_instance_uid: &str) -> i64 {
    seal.hash("sop-instance", &[sop_instance_uid.as_bytes()])
}
