//! Filing: what became of an entry, in one transaction.

use super::account::{self, Bucket};
use super::custody::{DAMAGED, INTERPRETED, WAITING};
use super::desk::Desk;
use super::error::JournalError;
use super::seal::{Place, Seal};
use super::types::{
    Answered, Filed, FiledReport, Filing, Grounds, HoldId, Lookup, NewOutbound, ReleaseFiling, ReleaseOutcome, ReportId,
};
use super::{instances, orders, outbox, studies};
use rusqlite::OptionalExtension;

/// `hold.state`.
pub(super) const HELD: i64 = 0;
pub(super) const RELEASED: i64 = 1;
pub(super) const SENT: i64 = 2;
pub(super) const DISCARDED: i64 = 3;
pub(super) const COVERED: i64 = 4;
/// Note of a hold that was covered by what took its place.
pub(super) const SAID_SINCE: &str = "what came since says it all";
/// Note of a hold that was covered because its entry is interpreted again.
pub(super) const INTERPRETED_AGAIN: &str = "interpreted again";

/// Files an entry. An entry that is not waiting any more is left alone: its outcome is on record.
pub(super) fn file(desk: &mut Desk<'_>, filing: &Filing) -> Result<Filed, JournalError> {
    let (state, received_ms, link): (i64, i64, String) = desk
        .conn
        .prepare_cached("SELECT state, received_ms, link FROM entry WHERE id = ?1")?
        .query_row([filing.entry], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?
        .ok_or(JournalError::NotFound("entry"))?;
    let mut filed = Filed::default();
    if state != WAITING {
        return Ok(filed);
    }
    let refused = serde_json::to_string(&filing.refused).map_err(|_| JournalError::Damaged)?;
    desk.conn
        .prepare_cached(
            "UPDATE entry SET state = ?2, waiting = NULL, driver = ?3, inbound = ?4, refused = ?5 WHERE id = ?1",
        )?
        .execute((filing.entry, INTERPRETED, &filing.driver, filing.inbound_results, refused))?;
    let day = account::day(received_ms);
    cover_earlier(desk, filing.entry.0)?;
    for (hold, how) in &filing.covers {
        close_holds(desk, &[*hold], COVERED, how)?;
    }
    account::add(desk, day, Bucket::Received, filing.inbound_results.into())?;
    account::add(desk, day, Bucket::Refused, filing.refused.len() as i64)?;
    let accounted: usize = filing.reports.iter().map(|r| r.results as usize).sum::<usize>() + filing.refused.len();
    if accounted != filing.inbound_results as usize {
        tracing::error!(
            event = "account-unbalanced",
            entry = filing.entry.0,
            inbound = filing.inbound_results,
            accounted,
            "the loss account of an entry does not balance"
        );
    }
    for report in &filing.reports {
        let id = file_report(desk, filing.entry.0, &link, received_ms, day, report, &mut filed)?;
        filed.reports.push(id);
    }
    if let Some(placement) = &filing.placement {
        studies::place(desk, filing.entry, placement)?;
    }
    if filed.queued > 0 {
        instances::settle_lost(desk, filing.entry)?;
    }
    instances::settle_damaged(desk, filing.entry)?;
    Ok(filed)
}

/// Files results a person released, unless one of them is released no more.
pub(super) fn file_release(desk: &mut Desk<'_>, filing: &ReleaseFiling) -> Result<Filed, JournalError> {
    let mut filed = Filed { reports: vec![filing.report], ..Filed::default() };
    let mut released = 0;
    for hold in &filing.holds {
        let state: Option<i64> = desk
            .conn
            .prepare_cached("SELECT state FROM hold WHERE id = ?1 AND report = ?2")?
            .query_row((hold, filing.report), |r| r.get(0))
            .optional()?;
        released += usize::from(state == Some(RELEASED));
    }
    // What is left without what a person discarded since is read again.
    if released == 0 || released < filing.holds.len() {
        return Ok(filed);
    }
    let (received_ms, entry): (i64, i64) = desk
        .conn
        .prepare_cached("SELECT e.received_ms, e.id FROM report r JOIN entry e ON e.id = r.entry WHERE r.id = ?1")?
        .query_row([filing.report], |r| Ok((r.get(0)?, r.get(1)?)))?;
    if let Some(decisions) = &filing.decisions {
        desk.conn
            .prepare_cached("UPDATE report SET decisions = nullif(?2, '') WHERE id = ?1")?
            .execute((filing.report, decisions))?;
    }
    if !filing.lookups.is_empty() {
        add_lookups(desk, filing.report, entry, &filing.lookups)?;
    }
    let outbox = match &filing.outcome {
        ReleaseOutcome::HeldAgain(Grounds { reason, rule, why }) => {
            for hold in &filing.holds {
                desk.conn
                    .prepare_cached("UPDATE hold SET state = ?2, reason = ?3, rule = ?4, why = ?5 WHERE id = ?1")?
                    .execute((hold, HELD, reason, rule, why))?;
            }
            orders::match_overtaken(desk, filing.report, filing.orders_as_of)?;
            filed.held = released;
            return Ok(filed);
        }
        ReleaseOutcome::Sent(outbox) => {
            for hold in &filing.holds {
                desk.conn.prepare_cached("UPDATE hold SET state = ?2 WHERE id = ?1")?.execute((hold, SENT))?;
            }
            close_holds(desk, &filing.covers, COVERED, SAID_SINCE)?;
            filing.told.iter().try_for_each(|told| studies::tell(desk, told).map(drop))?;
            outbox
        }
        ReleaseOutcome::Anew => {
            close_holds(desk, &filing.holds, COVERED, SAID_SINCE)?;
            filing.told.iter().try_for_each(|told| studies::tell(desk, told).map(drop))?;
            return Ok(filed);
        }
        ReleaseOutcome::Begun => {
            filing.told.iter().try_for_each(|told| studies::tell(desk, told).map(drop))?;
            return Ok(filed);
        }
    };
    desk.conn.prepare_cached("UPDATE report SET releases = releases + 1 WHERE id = ?1")?.execute([filing.report])?;
    let (day, results) = (account::day(received_ms), released as i64);
    account::add(desk, day, Bucket::Held, -results)?;
    dispatch(desk, filing.report, day, results, received_ms, outbox)?;
    answer_orders(desk, &filing.answered)?;
    if !outbox.is_empty() {
        studies::reopen_others(desk, filing.report)?;
    }
    filed.queued = outbox.len();
    Ok(filed)
}

/// An entry whose stored bytes do not open: it is set aside, visibly, so that the next one is read.
pub(super) fn set_damaged(desk: &mut Desk<'_>, entry: i64) -> Result<(), JournalError> {
    let changed = desk
        .conn
        .prepare_cached("UPDATE entry SET state = ?2, waiting = NULL WHERE id = ?1 AND state = ?3")?
        .execute((entry, DAMAGED, WAITING))?;
    if changed > 0 {
        tracing::error!(
            event = "stored-damaged",
            entry,
            "stored bytes of an entry are damaged: ask the instrument to send it again"
        );
    }
    Ok(())
}

/// A report whose stored form does not open cannot be released: its results are held, with that reason.
pub(super) fn set_unreadable(desk: &mut Desk<'_>, report: ReportId) -> Result<(), JournalError> {
    let changed = desk
        .conn
        .prepare_cached("UPDATE hold SET state = ?2, reason = 'damaged' WHERE report = ?1 AND state = ?3")?
        .execute((report, HELD, RELEASED))?;
    if changed > 0 {
        tracing::error!(
            event = "stored-damaged",
            report = report.0,
            "a stored report is damaged: interpret its entry again"
        );
    }
    Ok(())
}

/// Closes holds whose results are covered by another report or discarded. Moves them in the account.
pub(super) fn close_holds(
    desk: &mut Desk<'_>,
    holds: &[HoldId],
    state: i64,
    note: &str,
) -> Result<usize, JournalError> {
    let bucket = if state == DISCARDED { Bucket::Refused } else { Bucket::Repeated };
    let mut closed = 0;
    for hold in holds {
        let received_ms: Option<i64> = desk
            .conn
            .prepare_cached(
                "SELECT e.received_ms FROM hold h JOIN report r ON r.id = h.report JOIN entry e ON e.id = r.entry
                 WHERE h.id = ?1 AND h.state <= ?2",
            )?
            .query_row((hold, RELEASED), |r| r.get(0))
            .optional()?;
        let Some(received_ms) = received_ms else { continue };
        desk.conn
            .prepare_cached("UPDATE hold SET state = ?2, note = ?3 WHERE id = ?1")?
            .execute((hold, state, note))?;
        account::shift(desk, account::day(received_ms), Bucket::Held, bucket, 1)?;
        closed += 1;
    }
    Ok(closed)
}

/// When an entry is interpreted again, what an earlier reading held is covered by the new one.
fn cover_earlier(desk: &mut Desk<'_>, entry: i64) -> Result<(), JournalError> {
    let holds: Vec<HoldId> = desk
        .conn
        .prepare_cached(
            "SELECT h.id FROM report r JOIN hold h ON h.report = r.id WHERE r.entry = ?1 AND h.state <= ?2",
        )?
        .query_map((entry, RELEASED), |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    close_holds(desk, &holds, COVERED, INTERPRETED_AGAIN).map(drop)
}

/// What a report is about, as it is stored: the key within its link, or within the box.
pub(super) fn subject(seal: &Seal, link: &str, key: &[u8]) -> i64 {
    let link = if key.starts_with(FiledReport::OF_EVERY_LINK) { "" } else { link };
    seal.hash("subject", &[link.as_bytes(), key])
}

pub(super) fn file_report(
    desk: &mut Desk<'_>,
    entry: i64,
    link: &str,
    received_ms: i64,
    day: i64,
    report: &FiledReport,
    filed: &mut Filed,
) -> Result<ReportId, JournalError> {
    let subject = subject(desk.seal, link, &report.subject_key);
    let content = desk.seal.digest("content", &[&report.content_key]);
    desk.conn
        .prepare_cached(
            "INSERT INTO report(entry, subject, content, completed_s, repeat_of, results, decisions)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, nullif(?7, ''))",
        )?
        .execute((
            entry,
            subject,
            content,
            report.completed_at_s,
            report.repeat_of,
            report.results,
            &report.decisions,
        ))?;
    let id = ReportId(desk.conn.last_insert_rowid());
    let ids = serde_json::to_vec(&report.lookups).map_err(|_| JournalError::Damaged)?;
    let json = desk.seal.seal(Place::Report, id.0, &report.json)?;
    let ids = desk.seal.seal(Place::Ids, id.0, &ids)?;
    desk.conn.prepare_cached("UPDATE report SET json = ?2, ids = ?3 WHERE id = ?1")?.execute((id, json, ids))?;
    for (kind, value) in &report.lookups {
        index(desk, *kind, value.as_bytes(), entry)?;
    }
    if report.repeat_of.is_some() {
        account::add(desk, day, Bucket::Repeated, report.results.into())?;
        return Ok(id);
    }
    for hold in &report.holds {
        desk.conn
            .prepare_cached(
                "INSERT INTO hold(report, observation, reason, state, rule, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((id, hold.observation, hold.grounds.reason, HELD, &hold.grounds.rule, &hold.grounds.why))?;
    }
    orders::match_overtaken(desk, id, report.orders_as_of)?;
    let held = report.holds.len() as i64;
    filed.held += report.holds.len();
    filed.queued += report.outbox.len();
    account::add(desk, day, Bucket::Held, held)?;
    dispatch(desk, id, day, i64::from(report.results) - held, received_ms, &report.outbox)?;
    for row in &report.outbox {
        index(desk, Lookup::Message, row.message_id.as_bytes(), entry)?;
    }
    answer_orders(desk, &report.answered)?;
    Ok(id)
}

fn answer_orders(desk: &mut Desk<'_>, answered: &[Answered]) -> Result<(), JournalError> {
    answered.iter().try_for_each(|Answered { order, status }| orders::answer(desk, *order, *status))
}

/// Queues the messages that carry `results` results; with none of them the results have nowhere to go.
fn dispatch(
    desk: &mut Desk<'_>,
    report: ReportId,
    day: i64,
    results: i64,
    received_ms: i64,
    rows: &[NewOutbound],
) -> Result<(), JournalError> {
    if rows.is_empty() {
        return account::add(desk, day, Bucket::Unrouted, results);
    }
    desk.conn
        .prepare_cached("INSERT INTO dispatch(report, day, results, pending) VALUES (?1, ?2, ?3, ?4)")?
        .execute((report, day, results, rows.len() as i64))?;
    let dispatch = desk.conn.last_insert_rowid();
    account::add(desk, day, Bucket::Queued, results)?;
    for row in rows {
        outbox::queue(desk, dispatch, received_ms, row)?;
    }
    Ok(())
}

/// What a report is found by besides, from now on.
fn add_lookups(
    desk: &mut Desk<'_>,
    report: ReportId,
    entry: i64,
    more: &[(Lookup, String)],
) -> Result<(), JournalError> {
    for (kind, value) in more {
        index(desk, *kind, value.as_bytes(), entry)?;
    }
    let sealed: Vec<u8> =
        desk.conn.prepare_cached("SELECT ids FROM report WHERE id = ?1")?.query_row([report], |r| r.get(0))?;
    let plain = match desk.seal.open(desk.conn, Place::Ids, report.0, &sealed) {
        Ok(plain) => plain,
        // It goes out all the same; `journal verify` tells of the damage.
        Err(JournalError::Damaged) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut ids: Vec<(Lookup, String)> = serde_json::from_slice(&plain).unwrap_or_default();
    let before = ids.len();
    ids.extend(more.iter().filter(|lookup| !ids.contains(lookup)).cloned().collect::<Vec<_>>());
    if ids.len() == before {
        return Ok(());
    }
    let ids = serde_json::to_vec(&ids).map_err(|_| JournalError::Damaged)?;
    let ids = desk.seal.seal(Place::Ids, report.0, &ids)?;
    desk.conn.prepare_cached("UPDATE report SET ids = ?2 WHERE id = ?1")?.execute((report, ids))?;
    Ok(())
}

pub(super) fn index(desk: &Desk<'_>, kind: Lookup, value: &[u8], entry: i64) -> Result<(), JournalError> {
    let hash = desk.seal.hash(kind.domain(), &[value]);
    desk.conn.prepare_cached("INSERT OR IGNORE INTO lookup(hash, entry) VALUES (?1, ?2)")?.execute((hash, entry))?;
    Ok(())
}
