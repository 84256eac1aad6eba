//! The outbox: messages on their way, in lanes.
//!
//! A lane is one destination and one ordering key (invariant I6). The oldest pending row of each lane is its **head**
//! and is marked as such; a claim looks only at heads, through an index that holds nothing else, so it costs the same
//! with a million rows waiting behind them. A head whose attempt failed leaves the index of ready heads until its
//! pause is over. Pauses are kept in memory on the monotonic clock, so a jump of the wall clock neither sends early
//! nor waits a year; after a restart everything is due at once.

use super::account::{self, Bucket};
use super::desk::{Desk, Flight, Pause};
use super::entrusted;
use super::error::JournalError;
use super::instances;
use super::seal::Place;
use super::spool::IMAGE_LOST;
use super::types::{NewOutbound, Outbound, OutboxId, Settlement};
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most rows one claim hands out.
const CLAIM_ROWS: usize = 64;
/// Most bytes one claim hands out, besides the row that exceeds it.
const CLAIM_BYTES: usize = 4 << 20;
/// A row that was handed out and never settled is handed out again after this long.
const FLIGHT_MAX: Duration = Duration::from_secs(600);

/// What to do about an image that came again with other bytes.
const SUPERSEDED: &str = "under its UID something newer was filed since, after which it is not sent: see which of them \
                          the archive is to have, then discard this message";

/// `outbox.state`.
pub(super) const PENDING: i64 = 0;
pub(super) const DELIVERED: i64 = 1;
pub(super) const PARKED: i64 = 2;
pub(super) const DISCARDED: i64 = 3;
/// `outbox.head`.
const READY: i64 = 1;
const PAUSED: i64 = 2;

/// Adds a message at the end of its lane.
pub(super) fn queue(
    desk: &mut Desk<'_>,
    dispatch: i64,
    received_ms: i64,
    row: &NewOutbound,
) -> Result<(), JournalError> {
    let lane = desk.seal.hash("lane", &[row.destination.as_bytes(), row.lane.as_bytes()]);
    let head = oldest_pending(desk.conn, &row.destination, lane)?.is_none().then_some(READY);
    desk.conn
        .prepare_cached(
            "INSERT INTO outbox(dispatch, destination, lane, state, head, message_id, results, received_ms, queued_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            dispatch,
            &row.destination,
            lane,
            PENDING,
            head,
            &row.message_id,
            row.results,
            received_ms,
            desk.now_ms,
        ))?;
    let id = desk.conn.last_insert_rowid();
    let sealed = desk.seal.seal(Place::Body, id, &row.body)?;
    desk.conn.prepare_cached("INSERT INTO outgoing(id, body) VALUES (?1, ?2)")?.execute((id, sealed))?;
    if !row.charted.is_empty() {
        let sealed = desk.seal.seal(Place::Charted, id, &row.charted)?;
        desk.conn.prepare_cached("INSERT INTO charted(id, sealed) VALUES (?1, ?2)")?.execute((id, sealed))?;
    }
    desk.memory.wake_destination(&row.destination);
    Ok(())
}

/// Hands out due rows: heads in order, each followed by the next rows of its lane.
pub(super) fn claim(desk: &mut Desk<'_>, destination: &str, limit: usize) -> Result<Vec<Outbound>, JournalError> {
    let limit = limit.min(CLAIM_ROWS);
    end_pauses(desk, destination)?;
    let mut claimed: Vec<Outbound> = Vec::new();
    let mut bytes = 0;
    let mut after = 0;
    while claimed.len() < limit && bytes < CLAIM_BYTES {
        let head: Option<(i64, i64)> = desk
            .conn
            .prepare_cached(
                "SELECT id, lane FROM outbox WHERE head = 1 AND destination = ?1 AND id > ?2 ORDER BY id LIMIT 1",
            )?
            .query_row((destination, after), |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        let Some((head, lane)) = head else { break };
        after = head;
        if is_flying(desk, head) {
            continue;
        }
        let mut next = Some(head);
        while let Some(id) = next.filter(|_| claimed.len() < limit && bytes < CLAIM_BYTES) {
            next = pending_after(desk.conn, destination, lane, id)?;
            match load(desk, id, lane)? {
                Some(row) => {
                    bytes += row.body.len();
                    desk.memory.set_flight(id, Some(Flight { lane, since: desk.now }));
                    claimed.push(row);
                }
                // The lane goes on behind a row that cannot be read; the row waits, visibly, for a person.
                None => park(desk, id, "the stored message is damaged")?,
            }
        }
    }
    Ok(claimed)
}

/// A row that was handed out is still being sent.
pub(super) fn keep_flying(desk: &mut Desk<'_>, id: OutboxId) -> Result<(), JournalError> {
    if let Some(flight) = desk.memory.flight(id.0) {
        let lane = flight.lane;
        desk.memory.set_flight(id.0, Some(Flight { lane, since: desk.now }));
    }
    Ok(())
}

/// Notes how an attempt ended. A row that is not pending any more is left alone.
pub(super) fn settle(desk: &mut Desk<'_>, id: OutboxId, how: &Settlement) -> Result<(), JournalError> {
    let id = id.0;
    let Some(row) = Row::pending(desk.conn, id)? else {
        desk.memory.set_flight(id, None);
        return Ok(());
    };
    match how {
        Settlement::Delivered { answer } => leave(desk, id, &row, DELIVERED, answer, 1)?,
        Settlement::Entrusted { answer } => {
            leave(desk, id, &row, DELIVERED, answer, 1)?;
            entrusted::begin(desk, id, &row.destination)?;
        }
        Settlement::Park { reason } => park(desk, id, reason)?,
        Settlement::Return => land(desk, id, row.lane),
        Settlement::Retry { after, reason } => {
            desk.conn
                .prepare_cached(
                    "UPDATE outbox SET attempts = attempts + 1, note = ?2, head = iif(head IS NULL, NULL, 2) WHERE id = ?1",
                )?
                .execute((id, reason))?;
            land(desk, id, row.lane);
            if row.head.is_some() {
                let until = desk.now.checked_add(*after).unwrap_or(desk.now);
                desk.memory.set_pause(id, Some(Pause { destination: Arc::from(row.destination.as_str()), until }));
            }
        }
    }
    Ok(())
}

/// When the next paused lane of a destination is due; `None` when none is paused.
pub(super) fn next_due(desk: &Desk<'_>, destination: &str) -> Option<Instant> {
    desk.memory.pauses().filter(|(_, pause)| &*pause.destination == destination).map(|(_, pause)| pause.until).min()
}

/// Puts a parked row back: same number, same message id, same bytes (invariant I5), first in its lane again.
///
/// Refused when a newer report about the same subject was filed since: the old message would arrive after what
/// corrected it (invariant I6).
pub(super) fn requeue(desk: &mut Desk<'_>, id: OutboxId) -> Result<(), JournalError> {
    let id = id.0;
    let row = Row::parked(desk.conn, id)?;
    if is_superseded(desk.conn, row.dispatch)? {
        return Err(JournalError::Refused("a newer report about the same specimen and tests was filed since"));
    }
    entrusted::forget(desk, id)?;
    put_back(desk, id, &row, Duration::ZERO)?;
    count(desk, row.dispatch, 1, -1, 0)
}

/// A row that was delivered is not there after all: it is sent `again` as it was, after this pause, or parked. One about
/// which something newer was filed since is parked: sent now, it would arrive after that (invariant I6).
pub(super) fn take_back(desk: &mut Desk<'_>, id: i64, why: &str, again: Option<Duration>) -> Result<(), JournalError> {
    let Some(row) = Row::in_state(desk.conn, id, DELIVERED)? else { return Ok(()) };
    let (why, again) = match is_superseded(desk.conn, row.dispatch)? {
        true => (format!("{why}; {SUPERSEDED}"), None),
        false => (why.to_string(), again),
    };
    desk.conn.prepare_cached("UPDATE outbox SET note = ?2 WHERE id = ?1")?.execute((id, &why))?;
    if let Some(pause) = again {
        put_back(desk, id, &row, pause)?;
        tracing::warn!(destination = row.destination, outbox = id, ?pause, "an image is sent again: {why}");
        return count(desk, row.dispatch, 1, 0, 0);
    }
    desk.conn.prepare_cached("UPDATE outbox SET state = ?2 WHERE id = ?1")?.execute((id, PARKED))?;
    tracing::error!(
        event = "message-parked",
        destination = row.destination,
        outbox = id,
        "an image is parked and waits for a person: {why}"
    );
    count(desk, row.dispatch, 0, 1, 0)
}

/// True when something newer was filed about the same subject: sent now, the older would arrive after it.
fn is_superseded(conn: &Connection, dispatch: i64) -> Result<bool, JournalError> {
    let superseded = conn
        .prepare_cached(
            "SELECT EXISTS (
               SELECT 1 FROM dispatch d JOIN report r ON r.id = d.report JOIN report n
                 ON n.subject = r.subject AND n.id > r.id AND n.repeat_of IS NULL
               WHERE d.id = ?1)",
        )?
        .query_row([dispatch], |r| r.get(0))?;
    Ok(superseded)
}

/// A settled row is pending again, first in its lane by its age. As its head it is due after this pause.
fn put_back(desk: &mut Desk<'_>, id: i64, row: &Row, pause: Duration) -> Result<(), JournalError> {
    let mut head = Some(READY);
    if let Some((first, first_head)) = oldest_pending(desk.conn, &row.destination, row.lane)? {
        if first < id || is_flying(desk, first) {
            head = None;
        } else if first_head.is_some() {
            desk.conn.prepare_cached("UPDATE outbox SET head = NULL WHERE id = ?1")?.execute([first])?;
            desk.memory.set_pause(first, None);
        }
    }
    if head.is_some() && !pause.is_zero() {
        head = Some(PAUSED);
        let until = desk.now.checked_add(pause).unwrap_or(desk.now);
        desk.memory.set_pause(id, Some(Pause { destination: Arc::from(row.destination.as_str()), until }));
    }
    desk.conn
        .prepare_cached("UPDATE outbox SET state = ?2, head = ?3, settled_ms = NULL, attempts = 0 WHERE id = ?1")?
        .execute((id, PENDING, head))?;
    desk.memory.wake_destination(&row.destination);
    Ok(())
}

/// Gives a parked row up, by a person's order.
pub(super) fn discard(desk: &Desk<'_>, id: OutboxId, note: &str) -> Result<(), JournalError> {
    let row = Row::parked(desk.conn, id.0)?;
    desk.conn
        .prepare_cached("UPDATE outbox SET state = ?2, note = ?3 WHERE id = ?1")?
        .execute((id, DISCARDED, note))?;
    count(desk, row.dispatch, 0, -1, 1)
}

/// After a restart nothing is paused: every head is due.
pub(super) fn forget_pauses(conn: &Connection) -> Result<(), JournalError> {
    conn.execute("UPDATE outbox SET head = 1 WHERE head = 2", [])?;
    Ok(())
}

struct Row {
    dispatch: i64,
    destination: String,
    lane: i64,
    head: Option<i64>,
}

impl Row {
    fn pending(conn: &Connection, id: i64) -> Result<Option<Row>, JournalError> {
        Self::in_state(conn, id, PENDING)
    }

    fn parked(conn: &Connection, id: i64) -> Result<Row, JournalError> {
        Self::in_state(conn, id, PARKED)?.ok_or(JournalError::NotFound("parked message"))
    }

    fn in_state(conn: &Connection, id: i64, state: i64) -> Result<Option<Row>, JournalError> {
        let row = conn
            .prepare_cached("SELECT dispatch, destination, lane, head FROM outbox WHERE id = ?1 AND state = ?2")?
            .query_row((id, state), |r| {
                Ok(Row { dispatch: r.get(0)?, destination: r.get(1)?, lane: r.get(2)?, head: r.get(3)? })
            })
            .optional()?;
        Ok(row)
    }
}

fn park(desk: &mut Desk<'_>, id: i64, reason: &str) -> Result<(), JournalError> {
    if let Some(row) = Row::pending(desk.conn, id)? {
        // A whole copy may have come before anybody saw that the file is lost.
        let copy = if reason.starts_with(IMAGE_LOST) { instances::replaced_by_copy(desk, OutboxId(id))? } else { None };
        if let Some(note) = copy {
            leave(desk, id, &row, DISCARDED, &note, 1)?;
            tracing::info!(
                event = "message-given-up",
                destination = row.destination,
                outbox = id,
                "a message is given up: {note}"
            );
            return Ok(());
        }
        leave(desk, id, &row, PARKED, reason, 1)?;
        tracing::error!(
            event = "message-parked",
            destination = row.destination,
            outbox = id,
            "a message is parked and waits for a person: {reason}"
        );
    }
    Ok(())
}

/// A pending row is settled for good, and the next of its lane becomes head.
fn leave(desk: &mut Desk<'_>, id: i64, row: &Row, state: i64, note: &str, attempts: i64) -> Result<(), JournalError> {
    desk.conn
        .prepare_cached(
            "UPDATE outbox SET state = ?2, head = NULL, settled_ms = ?3, note = ?4, attempts = attempts + ?5,
               original = iif(?2 = 1, destination IN (SELECT destination FROM archive), NULL)
             WHERE id = ?1",
        )?
        .execute((id, state, desk.now_ms, note, attempts))?;
    desk.memory.set_flight(id, None);
    desk.memory.set_pause(id, None);
    match state {
        PARKED => count(desk, row.dispatch, -1, 1, 0)?,
        DISCARDED => count(desk, row.dispatch, -1, 0, 1)?,
        _ => count(desk, row.dispatch, -1, 0, 0)?,
    }
    if let Some((next, None)) = oldest_pending(desk.conn, &row.destination, row.lane)? {
        desk.conn.prepare_cached("UPDATE outbox SET head = ?2 WHERE id = ?1")?.execute((next, READY))?;
        desk.memory.wake_destination(&row.destination);
    }
    Ok(())
}

/// A row was not settled for good: it and what was handed out behind it in its lane are not held by anyone any more.
fn land(desk: &mut Desk<'_>, id: i64, lane: i64) {
    let behind: Vec<i64> =
        desk.memory.flights().filter(|(other, flight)| *other >= id && flight.lane == lane).map(|(id, _)| id).collect();
    for id in behind {
        desk.memory.set_flight(id, None);
    }
}

fn is_flying(desk: &Desk<'_>, id: i64) -> bool {
    desk.memory.flight(id).is_some_and(|flight| desk.now.saturating_duration_since(flight.since) < FLIGHT_MAX)
}

fn end_pauses(desk: &mut Desk<'_>, destination: &str) -> Result<(), JournalError> {
    let over: Vec<i64> = desk
        .memory
        .pauses()
        .filter(|(_, pause)| &*pause.destination == destination && pause.until <= desk.now)
        .map(|(id, _)| id)
        .collect();
    for id in over {
        desk.conn
            .prepare_cached("UPDATE outbox SET head = ?2 WHERE id = ?1 AND head = ?3")?
            .execute((id, READY, PAUSED))?;
        desk.memory.set_pause(id, None);
    }
    Ok(())
}

/// The oldest pending row of a lane and its head mark.
fn oldest_pending(conn: &Connection, destination: &str, lane: i64) -> Result<Option<(i64, Option<i64>)>, JournalError> {
    let row = conn
        .prepare_cached(
            "SELECT id, head FROM outbox WHERE destination = ?1 AND lane = ?2 AND state = 0 ORDER BY id LIMIT 1",
        )?
        .query_row((destination, lane), |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    Ok(row)
}

fn pending_after(conn: &Connection, destination: &str, lane: i64, id: i64) -> Result<Option<i64>, JournalError> {
    let row = conn
        .prepare_cached(
            "SELECT id FROM outbox WHERE destination = ?1 AND lane = ?2 AND state = 0 AND id > ?3 ORDER BY id LIMIT 1",
        )?
        .query_row((destination, lane, id), |r| r.get(0))
        .optional()?;
    Ok(row)
}

/// Reads a row; `None` when its body is damaged.
fn load(desk: &Desk<'_>, id: i64, lane: i64) -> Result<Option<Outbound>, JournalError> {
    let (sealed, mut row) = desk
        .conn
        .prepare_cached(
            "SELECT o.message_id, o.results, o.attempts, o.received_ms, b.body
             FROM outbox o LEFT JOIN outgoing b ON b.id = o.id WHERE o.id = ?1",
        )?
        .query_row([id], |r| {
            let row = Outbound {
                id: OutboxId(id),
                lane,
                message_id: r.get(0)?,
                body: Vec::new(),
                results: r.get(1)?,
                attempts: r.get(2)?,
                received_at_ms: r.get(3)?,
            };
            Ok((r.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default(), row))
        })?;
    match desk.seal.open(desk.conn, Place::Body, id, &sealed) {
        Ok(body) => {
            row.body = body;
            Ok(Some(row))
        }
        Err(JournalError::Damaged) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes a dispatch's counts and moves its results in the account when that changes where they are.
fn count(desk: &Desk<'_>, dispatch: i64, pending: i64, parked: i64, discarded: i64) -> Result<(), JournalError> {
    let (day, results, is): (i64, i64, [i64; 3]) = desk
        .conn
        .prepare_cached(
            "UPDATE dispatch SET pending = pending + ?2, parked = parked + ?3, discarded = discarded + ?4 WHERE id = ?1
             RETURNING day, results, pending, parked, discarded",
        )?
        .query_row((dispatch, pending, parked, discarded), |r| {
            Ok((r.get(0)?, r.get(1)?, [r.get(2)?, r.get(3)?, r.get(4)?]))
        })?;
    let was = [is[0] - pending, is[1] - parked, is[2] - discarded];
    let (from, to) = (bucket(was), bucket(is));
    match from == to {
        true => Ok(()),
        false => account::shift(desk, day, from, to, results),
    }
}

/// Results that went to several destinations are where the least lucky message is.
fn bucket([pending, parked, discarded]: [i64; 3]) -> Bucket {
    match (pending, parked, discarded) {
        (1.., _, _) => Bucket::Queued,
        (_, 1.., _) => Bucket::Parked,
        (_, _, 1..) => Bucket::Refused,
        _ => Bucket::Delivered,
    }
}
