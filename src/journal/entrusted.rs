//! Images an archive took and is to commit to keep (storage commitment): until it did, or a person is told.
//!
//! ```text
//! delivered -> to be asked about -> asked under a transaction UID -> committed
//!                  ^                        |-> no report in time, or it cannot commit now: asked again, and again,
//!                  |                        |   until it was delivered too long ago; after that parked
//!                  |                        |-> it has not got it: sent again after a pause, and in the end parked
//!                  |--- delivered again <---|-> it never will: parked
//! ```
//!
//! While an image is to be asked about retention leaves it alone. A report is believed whenever it comes and under
//! whichever transaction UID the image was asked about since it was delivered last, if it comes from the archive that
//! was asked: not whether the archive answered the request, but that it reports, says that it has the image.

use super::desk::Desk;
use super::error::JournalError;
use super::outbox;
use super::reader::Reader;
use super::seal::{Place, Seal};
use super::types::OutboxId;
use rusqlite::OptionalExtension;
use std::time::Duration;

/// `entrusted.state`.
pub(super) const OPEN: i64 = 0;
pub(super) const COMMITTED: i64 = 1;
pub(super) const FAILED: i64 = 2;

/// An image that was delivered is asked about this long after, together with those that follow it.
const COLLECT_MS: i64 = 2_000;
/// An image that the archive has not got is sent so often in all.
const SENDS_MAX: u32 = 4;
/// Each pause before it is sent again is so many times the one before.
const RESEND_GROWTH: u32 = 4;
/// The longest wait for a report: a day.
const WAIT_MAX_MS: i64 = 86_400_000;

/// An image that is to be asked about.
pub struct Entrusted {
    /// Its message.
    pub id: OutboxId,
    /// The message, as it was delivered; nothing when it is damaged.
    pub body: Vec<u8>,
    /// It was asked about for the last time, in vain: it is to be given up.
    pub is_given_up: bool,
}

/// How a destination is asked to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The destination.
    pub destination: String,
    /// How long a report may take, and how long an archive that cannot commit now is left alone. Doubles each time, up to
    /// a day.
    pub wait: Duration,
    /// First pause before an image that it has not got is sent again.
    pub resend_after: Duration,
    /// An image that was delivered longer ago is asked about once more and then given up.
    pub give_up_after: Duration,
}

/// What an archive says of an image; with its failure reason (0008,1197) where it does not commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It commits to keep it.
    Committed,
    /// It has not got it.
    Missing(u16),
    /// It cannot say so now.
    NotNow(u16),
    /// It never will.
    Never(u16),
}

/// What became of the images of a request, by a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noted {
    /// False when whoever reports was not asked under this transaction UID.
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
             ON CONFLICT(outbox) DO UPDATE SET state = ?2, due_ms = ?3, asked = 0, is_last = 0, reason = NULL",
        )?
        .execute((id, OPEN, desk.now_ms.saturating_add(COLLECT_MS)))?;
    // What was reported of it before speaks of the time before.
    desk.conn.prepare_cached("UPDATE asked_about SET sent_as = NULL WHERE outbox = ?1")?.execute([id])?;
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

/// These are asked about now, each under the SOP Instance UID by which the archive knows it.
pub(super) fn ask(
    desk: &mut Desk<'_>,
    transaction_uid: &str,
    instances: &[(OutboxId, String)],
    terms: &Terms,
) -> Result<(), JournalError> {
    let request = request_hash(desk.seal, transaction_uid);
    let too_long_ago = desk.now_ms.saturating_sub(millis(terms.give_up_after));
    let mut asked = desk.conn.prepare_cached(
        "UPDATE entrusted SET due_ms = ?2 + min(?3 << min(asked, 20), ?4), asked = asked + 1,
           is_last = (SELECT coalesce(settled_ms, 0) < ?5 FROM outbox WHERE id = ?1)
         WHERE outbox = ?1 AND state = 0",
    )?;
    let mut under =
        desk.conn.prepare_cached("INSERT INTO asked_about(request, outbox, sent_as) VALUES (?1, ?2, ?3)")?;
    let wait_ms = millis(terms.wait);
    for (id, sop_instance_uid) in instances {
        if asked.execute((id, desk.now_ms, wait_ms, WAIT_MAX_MS.max(wait_ms), too_long_ago))? > 0 {
            under.execute((request, id, instance_hash(desk.seal, sop_instance_uid)))?;
        }
    }
    Ok(())
}

/// A request could not be made: everything in it is asked about again after this. Where the archive was `away`, and not for
/// long, that says nothing of it, and it counts as not asked.
pub(super) fn put_off(
    desk: &mut Desk<'_>,
    transaction_uid: &str,
    after: Duration,
    away: bool,
) -> Result<(), JournalError> {
    let request = request_hash(desk.seal, transaction_uid);
    desk.conn
        .prepare_cached(
            "UPDATE entrusted SET due_ms = ?2, asked = max(asked - ?3, 0), is_last = is_last AND NOT ?3
             WHERE state = 0 AND outbox IN (SELECT outbox FROM asked_about WHERE request = ?1)",
        )?
        .execute((request, desk.now_ms.saturating_add(millis(after)), away))?;
    desk.conn.prepare_cached("DELETE FROM asked_about WHERE request = ?1")?.execute([request])?;
    Ok(())
}

/// These were asked about for the last time, in vain: a person is told.
pub(super) fn give_up(desk: &mut Desk<'_>, ids: &[OutboxId]) -> Result<(), JournalError> {
    for id in ids {
        let reason: Option<Option<u16>> = {
            let mut statement = desk.conn.prepare_cached(
                "UPDATE entrusted SET state = ?2 WHERE outbox = ?1 AND state = 0 AND is_last = 1 RETURNING reason",
            )?;
            statement.query_row((id, FAILED), |r| r.get(0)).optional()?
        };
        let Some(reason) = reason else { continue };
        let said = match reason {
            Some(reason) => format!("says again and again that it cannot (failure reason {reason:04X})"),
            None => "has not said so, nor that it does not, or could not be asked at all".to_string(),
        };
        let why = format!(
            "the archive was asked for commitment_days to commit to keep it and {said}: have a look whether it is there; \
             requeue it to have it sent again and asked about anew"
        );
        outbox::take_back(desk, id.0, &why, None)?;
    }
    Ok(())
}

/// Notes a report of one of these: by SOP Instance UID what the archive says. What it does not name is asked about again
/// in its time. The same report again changes nothing (invariant I4).
pub(super) fn note(
    desk: &mut Desk<'_>,
    transaction_uid: &str,
    reporters: &[Terms],
    outcomes: &[(String, Verdict)],
) -> Result<Noted, JournalError> {
    let request = request_hash(desk.seal, transaction_uid);
    let asked: Option<String> = desk
        .conn
        .prepare_cached(
            "SELECT n.destination FROM asked_about a JOIN entrusted n ON n.outbox = a.outbox WHERE a.request = ?1",
        )?
        .query_row([request], |r| r.get(0))
        .optional()?;
    let terms = asked.and_then(|asked| reporters.iter().find(|terms| terms.destination == asked));
    let Some(terms) = terms else { return Ok(Noted::default()) };
    let mut noted = Noted { is_known: true, ..Noted::default() };
    for (sop_instance_uid, verdict) in outcomes {
        let sent_as = instance_hash(desk.seal, sop_instance_uid);
        let about: Vec<i64> = {
            let mut statement = desk.conn.prepare_cached(
                "SELECT n.outbox FROM asked_about a JOIN entrusted n ON n.outbox = a.outbox
                 WHERE a.request = ?1 AND a.sent_as = ?2 AND n.state = 0",
            )?;
            statement.query_map((request, sent_as), |r| r.get(0))?.collect::<Result<_, _>>()?
        };
        for id in about {
            match verdict {
                Verdict::Committed => noted.committed += 1,
                _ => noted.failed += 1,
            }
            conclude(desk, id, request, *verdict, terms)?;
        }
    }
    desk.memory.wake_destination(&signal(&terms.destination));
    Ok(noted)
}

/// What a verdict means for one image that is waited for.
fn conclude(desk: &mut Desk<'_>, id: i64, request: i64, verdict: Verdict, terms: &Terms) -> Result<(), JournalError> {
    let settle = |desk: &Desk<'_>, state: i64, failed: bool| -> Result<u32, JournalError> {
        let sql = "UPDATE entrusted SET state = ?2, failed = failed + ?3 WHERE outbox = ?1 RETURNING failed";
        Ok(desk.conn.prepare_cached(sql)?.query_row((id, state, failed), |r| r.get(0))?)
    };
    let why = |reason: u16, what: &str| {
        format!("the archive does not commit to keep it: {what} (failure reason {reason:04X})")
    };
    match verdict {
        Verdict::Committed => settle(desk, COMMITTED, false).map(drop),
        Verdict::Missing(reason) => {
            let failed = settle(desk, FAILED, true)?;
            let pause = terms.resend_after.saturating_mul(RESEND_GROWTH.saturating_pow(failed.saturating_sub(1)));
            let again = (failed < SENDS_MAX).then_some(pause);
            outbox::take_back(desk, id, &why(reason, "it says that it has not got it"), again)
        }
        Verdict::Never(reason) => {
            settle(desk, FAILED, true)?;
            outbox::take_back(desk, id, &why(reason, "it never will as it is"), None)
        }
        Verdict::NotNow(reason) => {
            // It has spoken; the next time it is asked under another transaction UID.
            let heard = "UPDATE asked_about SET sent_as = NULL WHERE request = ?1 AND outbox = ?2";
            desk.conn.prepare_cached(heard)?.execute((request, id))?;
            // Its wait began when it was asked.
            let sql = "UPDATE entrusted SET reason = ?2 WHERE outbox = ?1";
            desk.conn.prepare_cached(sql)?.execute((id, reason))?;
            Ok(())
        }
    }
}

/// The signal that something may be to be asked of a destination. No destination has a blank in its name.
pub(super) fn signal(destination: &str) -> String {
    format!("commitment of {destination}")
}

impl Reader {
    /// Images that a destination is to be asked about at this moment (Unix milliseconds), and those that will be within a
    /// moment, the first delivered first; none while the first one waits for others.
    pub fn entrusted(&self, destination: &str, now_ms: i64, limit: usize) -> Result<Vec<Entrusted>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT n.outbox, b.body, n.is_last FROM entrusted n JOIN outgoing b ON b.id = n.outbox
             WHERE n.state = 0 AND n.destination = ?1 AND n.due_ms <= ?2 + ?4
               AND EXISTS (SELECT 1 FROM entrusted d WHERE d.state = 0 AND d.destination = ?1 AND d.due_ms <= ?2)
             ORDER BY n.due_ms LIMIT ?3",
        )?;
        let mut rows = statement.query((destination, now_ms, limit as i64, COLLECT_MS))?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let id: OutboxId = row.get(0)?;
            let body = match self.seal.open(&self.conn, Place::Body, id.0, &row.get::<_, Vec<u8>>(1)?) {
                // One that does not open must not keep the others waiting.
                Err(JournalError::Damaged) => Vec::new(),
                opened => opened?,
            };
            due.push(Entrusted { id, body, is_given_up: row.get(2)? });
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
        let sql = "SELECT EXISTS (SELECT 1 FROM asked_about a JOIN entrusted n ON n.outbox = a.outbox
                                  WHERE a.request = ?1 AND a.sent_as IS NOT NULL AND n.state = 0)";
        Ok(self.conn.prepare_cached(sql)?.query_row([request_hash(&self.seal, transaction_uid)], |r| r.get(0))?)
    }
}

fn request_hash(seal: &Seal, transaction_uid: &str) -> i64 {
    seal.hash("commitment request", &[transaction_uid.as_bytes()])
}

fn instance_hash(seal: &Seal, sop_instance_uid: &str) -> i64 {
    seal.hash("sop-instance", &[sop_instance_uid.as_bytes()])
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
