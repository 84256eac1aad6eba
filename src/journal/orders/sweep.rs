//! Orders, patients, performed steps and answered commitments go when nothing can need them any more.
//!
//! An open order counts from its appointment where that is later than its last change. It is sealed, so the order is
//! opened for it once, when it would go otherwise; its patient, as the EHR described them since, stays with it: whatever
//! changes an order keeps them from then on.

use super::super::desk::Desk;
use super::super::error::JournalError;
use super::super::types::WorkOrderId;
use super::super::{commitments, performed};
use super::{find, patients};
use crate::clinical::WorkOrder;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Rows removed in one go.
const SLICE: i64 = 100;
const DAY_MS: i64 = 86_400_000;
/// An appointment further ahead than this from the day it was ordered is kept for no longer: five years.
const BOOKED_AHEAD_MAX_MS: i64 = 1_827 * DAY_MS;
/// Days that an appointment is surely over by, in whatever zone its day began.
const OVER_AFTER_DAYS: i64 = 2;
/// Orders that nothing keeps, as far as is known before they are opened.
const OLD_ORDERS: &str = "changed_ms < ?1 AND NOT (status <= 1 AND coalesce(booked_ms, 0) >= ?1)";
/// Patients that nothing keeps.
const OLD_PATIENTS: &str = "changed_ms < ?1 AND coalesce(booked_ms, 0) < ?1";

/// True when [`sweep`] would remove something.
pub(in super::super) fn are_due(desk: &Desk<'_>, before_ms: i64) -> Result<bool, JournalError> {
    Ok(desk
        .conn
        .prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM work_order WHERE {OLD_ORDERS})
                 OR EXISTS (SELECT 1 FROM patient WHERE {OLD_PATIENTS})
                 OR EXISTS (SELECT 1 FROM performed_step WHERE changed_ms < ?1)
                 OR EXISTS (SELECT 1 FROM commitment WHERE state > 0 AND changed_ms < ?1)",
        ))?
        .query_row([before_ms], |r| r.get(0))?)
}

/// Removes a slice of what has not changed since `before_ms`: orders whatever their status, but for open ones with an
/// appointment since then, patients and the rest. Called in an open transaction.
pub(in super::super) fn sweep(desk: &Desk<'_>, before_ms: i64) -> Result<(), JournalError> {
    let old: Vec<(WorkOrderId, bool)> = desk
        .conn
        .prepare_cached(&format!(
            "SELECT id, status <= 1 AND booked_ms IS NULL FROM work_order WHERE {OLD_ORDERS} ORDER BY changed_ms LIMIT ?2"
        ))?
        .query_map((before_ms, SLICE), |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, may_be_booked) in &old {
        if *may_be_booked && book(desk, *id)? >= before_ms {
            continue;
        }
        for sql in [
            "DELETE FROM work_order_lookup WHERE work_order = ?1",
            "DELETE FROM work_order_link WHERE work_order = ?1",
            "DELETE FROM work_order_step WHERE work_order = ?1",
            "DELETE FROM work_order WHERE id = ?1",
        ] {
            desk.conn.prepare_cached(sql)?.execute([id])?;
        }
    }
    // One of the orders that are still to be opened may keep its patient.
    if (old.len() as i64) < SLICE {
        desk.conn
            .prepare_cached(&format!(
                "DELETE FROM patient WHERE hash IN
                   (SELECT hash FROM patient WHERE {OLD_PATIENTS} ORDER BY changed_ms LIMIT ?2)"
            ))?
            .execute((before_ms, SLICE))?;
    }
    performed::sweep(desk, before_ms, SLICE)?;
    commitments::sweep(desk, before_ms, SLICE)
}

/// Notes until when an order's appointments last, and its patient with it.
fn book(desk: &Desk<'_>, id: WorkOrderId) -> Result<i64, JournalError> {
    let stored = match find::by_id(desk.conn, desk.seal, id) {
        Ok(stored) => stored,
        // Nobody can be told of it.
        Err(JournalError::Damaged) => return Ok(0),
        Err(error) => return Err(error),
    };
    let booked_ms = appointment_ms(&stored.order).min(stored.placed_ms.saturating_add(BOOKED_AHEAD_MAX_MS));
    desk.conn.prepare_cached("UPDATE work_order SET booked_ms = ?2 WHERE id = ?1")?.execute((id, booked_ms))?;
    patients::keep_until(desk, &stored.ordered_for, booked_ms)?;
    Ok(booked_ms)
}

/// When the last of its scheduled steps is over, Unix milliseconds; 0 when none has a day.
fn appointment_ms(order: &WorkOrder) -> i64 {
    let steps = order.imaging.iter().flat_map(|imaging| imaging.steps());
    let days = steps.filter_map(|(_, step)| step.start.as_ref()?.local.get(..8)?.parse::<Date>().ok());
    let midnight = days.max().and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    midnight.map_or(0, |midnight| midnight.timestamp().as_millisecond().saturating_add(OVER_AFTER_DAYS * DAY_MS))
}
