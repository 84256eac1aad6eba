//! Finding entries and showing what became of them.

use super::clock;
use super::error::JournalError;
use super::filing::{COVERED, DISCARDED, HELD, RELEASED, SENT};
use super::reader::Reader;
use super::types::{EntryId, HoldId, Lookup, OutboxId, ReportId};
use crate::clock::Quality;
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// What to look for; everything given must fit.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// An identifier, exactly as it was sent.
    pub id: Option<(Lookup, String)>,
    /// Received at or after, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Received before, Unix milliseconds.
    pub to_ms: Option<i64>,
    /// Most entries, the newest first.
    pub limit: usize,
}

/// An entry that was found, without patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its number.
    pub entry: EntryId,
    /// The link it came in on.
    pub link: String,
    /// When, Unix milliseconds, by the box's clock.
    pub received_ms: i64,
    /// What that clock was worth; none where nobody said.
    pub clock: Option<Quality>,
    /// When it was in truth, where that is known since, Unix milliseconds.
    pub corrected_ms: Option<i64>,
    /// `open`, `waiting`, `interpreted` or `damaged`; `orders` when the EHR sent it.
    pub state: String,
    /// False when the session ended before its message was complete.
    pub complete: bool,
    /// Bytes of its parts.
    pub bytes: i64,
    /// Driver and version that read it.
    pub driver: Option<String>,
    /// Results in it.
    pub results: i64,
    /// Results that wait for a person.
    pub held: i64,
    /// Messages on the way.
    pub queued: i64,
    /// Messages a destination refused for good.
    pub parked: i64,
}

/// An entry and what became of it, without patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The entry.
    pub entry: Found,
    /// It came with the id of an earlier entry and other bytes.
    pub identity_conflict: bool,
    /// How often a person had it interpreted again.
    pub replays: i64,
    /// Records that are no result, and why.
    pub refused: Vec<(u32, String)>,
    /// Its reports, oldest first.
    pub reports: Vec<ShownReport>,
}

/// A report of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownReport {
    /// Its number.
    pub report: ReportId,
    /// Results in it.
    pub results: i64,
    /// The report it repeats.
    pub repeat_of: Option<ReportId>,
    /// Results that were or are held.
    pub holds: Vec<ShownHold>,
    /// Messages that carry its results.
    pub messages: Vec<ShownMessage>,
    /// What the rules decided about it: place of the result, rule, version, outcome, why.
    pub decisions: Vec<serde_json::Value>,
}

/// A result that was or is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownHold {
    /// Its number.
    pub hold: HoldId,
    /// Its place in the report, from 0.
    pub observation: u32,
    /// Why.
    pub reason: String,
    /// `held`, `released`, `sent`, `discarded` or `covered`.
    pub state: String,
    /// What the person said.
    pub note: Option<String>,
    /// Name and version of the rule that held it, `name@version`.
    pub rule: Option<String>,
    /// Why, in plain words.
    pub why: String,
}

/// A message that carries results of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownMessage {
    /// Its number.
    pub outbox: OutboxId,
    /// Where it goes.
    pub destination: String,
    /// MSH-10 or Bundle identifier.
    pub message_id: String,
    /// `pending`, `delivered`, `parked` or `discarded`.
    pub state: String,
    /// Attempts so far.
    pub attempts: i64,
    /// The last answer or reason.
    pub note: Option<String>,
    /// When it was settled, Unix milliseconds.
    pub settled_ms: Option<i64>,
}

/// Columns of a [`Found`] in order.
static FOUND: LazyLock<String> = LazyLock::new(|| format!("{ENTRY}, {}", clock::FOUND));
const ENTRY: &str = "e.id, e.link, e.received_ms, e.state, e.complete, e.bytes, e.driver, e.inbound,
  (SELECT count(*) FROM report r JOIN hold h ON h.report = r.id WHERE r.entry = e.id AND h.state = 0),
  (SELECT count(*) FROM report r JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
   WHERE r.entry = e.id AND o.state = 0),
  (SELECT count(*) FROM report r JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
   WHERE r.entry = e.id AND o.state = 2)";

impl Reader {
    /// Entries that fit, the newest first. Identifiers are found by keyed hash; they are not stored in the clear.
    pub fn search(&self, query: &Query) -> Result<Vec<Found>, JournalError> {
        let hash = query.id.as_ref().map(|(kind, id)| self.seal.hash(kind.domain(), &[id.as_bytes()]));
        // Two statements, because one for both would use neither index.
        let source = match hash {
            Some(_) => {
                "lookup l JOIN entry e ON e.id = l.entry
                 WHERE l.hash = ?1 AND e.received_ms >= ?2 AND e.received_ms < ?3 ORDER BY e.id DESC"
            }
            None => {
                "entry e WHERE ?1 IS NULL AND e.received_ms >= ?2 AND e.received_ms < ?3 ORDER BY e.received_ms DESC"
            }
        };
        let mut statement = self.conn.prepare_cached(&format!("SELECT {} FROM {source} LIMIT ?4", *FOUND))?;
        let range = (query.from_ms.unwrap_or(i64::MIN), query.to_ms.unwrap_or(i64::MAX));
        let rows = statement.query_map((hash, range.0, range.1, query.limit as i64), found)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What became of one entry.
    pub fn show(&self, entry: EntryId) -> Result<Shown, JournalError> {
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {} FROM entry e WHERE e.id = ?1", *FOUND))?
            .query_row([entry], found)
            .optional()?
            .ok_or(JournalError::NotFound("entry"))?;
        let (identity_conflict, replays, refused): (bool, i64, Option<String>) = self
            .conn
            .prepare_cached("SELECT conflict, replays, refused FROM entry WHERE id = ?1")?
            .query_row([entry], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        let refused = refused.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        let mut statement = self.conn.prepare_cached(
            "SELECT id, results, repeat_of, coalesce(decisions, '') FROM report WHERE entry = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([entry], |r| {
            Ok(ShownReport {
                report: r.get(0)?,
                results: r.get(1)?,
                repeat_of: r.get(2)?,
                holds: Vec::new(),
                messages: Vec::new(),
                decisions: serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default(),
            })
        })?;
        let mut reports: Vec<ShownReport> = rows.collect::<Result<_, _>>()?;
        for report in &mut reports {
            report.holds = self.shown_holds(report.report)?;
            report.messages = self.shown_messages(report.report)?;
        }
        Ok(Shown { entry: found, identity_conflict, replays, refused, reports })
    }

    fn shown_holds(&self, report: ReportId) -> Result<Vec<ShownHold>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, observation, reason, state, note, rule, coalesce(why, '') FROM hold
                 WHERE report = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([report], |r| {
            Ok(ShownHold {
                hold: r.get(0)?,
                observation: r.get(1)?,
                reason: r.get(2)?,
                state: hold_state(r.get(3)?).to_string(),
                note: r.get(4)?,
                rule: r.get(5)?,
                why: r.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn shown_messages(&self, report: ReportId) -> Result<Vec<ShownMessage>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT o.id, o.destination, o.message_id, o.state, o.attempts, o.note, o.settled_ms
             FROM dispatch d JOIN outbox o ON o.dispatch = d.id WHERE d.report = ?1 ORDER BY o.id",
        )?;
        let rows = statement.query_map([report], |r| {
            Ok(ShownMessage {
                outbox: r.get(0)?,
                destination: r.get(1)?,
                message_id: r.get(2)?,
                state: name(&["pending", "delivered", "parked", "discarded"], r.get(3)?).to_string(),
                attempts: r.get(4)?,
                note: r.get(5)?,
                settled_ms: r.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn found(row: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    let received_ms: i64 = row.get(2)?;
    Ok(Found {
        entry: row.get(0)?,
        link: row.get(1)?,
        received_ms,
        clock: clock::quality(row.get(11)?),
        corrected_ms: row.get::<_, Option<i64>>(12)?.map(|shift_ms| received_ms.saturating_add(shift_ms)),
        state: name(&["open", "waiting", "interpreted", "damaged", "orders"], row.get(3)?).to_string(),
        complete: row.get(4)?,
        bytes: row.get(5)?,
        driver: row.get(6)?,
        results: row.get(7)?,
        held: row.get(8)?,
        queued: row.get(9)?,
        parked: row.get(10)?,
    })
}

fn hold_state(state: i64) -> &'static str {
    match state {
        HELD => "held",
        RELEASED => "released",
        SENT => "sent",
        DISCARDED => "discarded",
        COVERED => "covered",
        _ => "unknown",
    }
}

fn name<'a>(names: &[&'a str], state: i64) -> &'a str {
    usize::try_from(state).ok().and_then(|at| names.get(at).copied()).unwrap_or("unknown")
}
