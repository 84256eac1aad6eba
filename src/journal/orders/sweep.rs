//! Orders, patients, performed steps and answered commitments go when nothing can need them any more.

use super::super::desk::Desk;
use super::super::error::JournalError;
use super::super::{commitments, performed};

/// Rows removed in one go.
const SLICE: i64 = 100;

/// True when [`sweep`] would remove something.
pub(in super::super) fn are_due(desk: &Desk<'_>, before_ms: i64) -> Result<bool, JournalError> {
    Ok(desk
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM work_order WHERE changed_ms < ?1)
                 OR EXISTS (SELECT 1 FROM patient WHERE changed_ms < ?1)
                 OR EXISTS (SELECT 1 FROM performed_step WHERE changed_ms < ?1)
                 OR EXISTS (SELECT 1 FROM commitment WHERE state > 0 AND changed_ms < ?1)",
        )?
        .query_row([before_ms], |r| r.get(0))?)
}

/// Removes a slice of what has not changed since `before_ms`: orders whatever their status, then patients and the rest. Called in an
/// open transaction.
pub(in super::super) fn sweep(desk: &Desk<'_>, before_ms: i64) -> Result<(), JournalError> {
    let old: Vec<i64> = desk
        .conn
        .prepare_cached("SELECT id FROM work_order WHERE changed_ms < ?1 ORDER BY changed_ms LIMIT ?2")?
        .query_map((before_ms, SLICE), |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &old {
        for sql in [
            "DELETE FROM work_order_lookup WHERE work_order = ?1",
            "DELETE FROM work_order_link WHERE work_order = ?1",
            "DELETE FROM work_order_step WHERE work_order = ?1",
            "DELETE FROM work_order WHERE id = ?1",
        ] {
            desk.conn.prepare_cached(sql)?.execute([id])?;
        }
    }
    desk.conn
        .prepare_cached(
            "DELETE FROM patient WHERE hash IN (SELECT hash FROM patient WHERE changed_ms < ?1 ORDER BY changed_ms LIMIT ?2)",
        )?
        .execute((before_ms, SLICE))?;
    performed::sweep(desk, before_ms, SLICE)?;
    commitments::sweep(desk, before_ms, SLICE)
}
