//! The loss account (invariant I7): what came in is what is somewhere.
//!
//! Counted in results, by day of custody, in the same transactions that move them, so it is true after every commit:
//! `received = delivered + queued + parked + held + refused + repeated + unrouted`. It outlives retention.

use super::desk::Desk;
use super::error::JournalError;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Where results can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket {
    Received,
    Delivered,
    Queued,
    Parked,
    Held,
    Refused,
    Repeated,
    Unrouted,
}

impl Bucket {
    fn column(self) -> &'static str {
        match self {
            Bucket::Received => "received",
            Bucket::Delivered => "delivered",
            Bucket::Queued => "queued",
            Bucket::Parked => "parked",
            Bucket::Held => "held",
            Bucket::Refused => "refused",
            Bucket::Repeated => "repeated",
            Bucket::Unrouted => "unrouted",
        }
    }
}

/// The account, in results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Results in interpreted entries.
    pub received: i64,
    /// Taken by every destination they go to.
    pub delivered: i64,
    /// On the way.
    pub queued: i64,
    /// Refused for good by a destination; wait for a person.
    pub parked: i64,
    /// Wait for a person before they go anywhere.
    pub held: i64,
    /// Records that are no result, and results a person discarded.
    pub refused: i64,
    /// Sent before: the instrument repeated them, or another report covers them.
    pub repeated: i64,
    /// No destination takes results of their link.
    pub unrouted: i64,
}

impl Account {
    /// Results that are nowhere. Zero, or something was lost.
    pub fn missing(&self) -> i64 {
        self.received
            - self.delivered
            - self.queued
            - self.parked
            - self.held
            - self.refused
            - self.repeated
            - self.unrouted
    }
}

/// The day a time belongs to.
pub(super) fn day(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// Adds to one bucket of one day.
pub(super) fn add(desk: &Desk<'_>, day: i64, bucket: Bucket, results: i64) -> Result<(), JournalError> {
    if results == 0 {
        return Ok(());
    }
    let column = bucket.column();
    desk.conn
        .prepare_cached(&format!(
            "INSERT INTO account(day, {column}) VALUES (?1, ?2)
             ON CONFLICT(day) DO UPDATE SET {column} = {column} + excluded.{column}"
        ))?
        .execute((day, results))?;
    Ok(())
}

/// Moves results from one bucket to another.
pub(super) fn shift(desk: &Desk<'_>, day: i64, from: Bucket, to: Bucket, results: i64) -> Result<(), JournalError> {
    let (less, more) = (from.column(), to.column());
    let moved = desk
        .conn
        .prepare_cached(&format!("UPDATE account SET {less} = {less} - ?2, {more} = {more} + ?2 WHERE day = ?1"))?
        .execute((day, results))?;
    if moved == 0 {
        add(desk, day, from, -results)?;
        add(desk, day, to, results)?;
    }
    Ok(())
}

/// The account of all days, or of one.
pub(super) fn read(conn: &Connection, day: Option<i64>) -> Result<Account, JournalError> {
    let account = conn
        .prepare_cached(
            "SELECT coalesce(sum(received), 0), coalesce(sum(delivered), 0), coalesce(sum(queued), 0), coalesce(sum(parked), 0), coalesce(sum(held), 0), coalesce(sum(refused), 0),
                    coalesce(sum(repeated), 0), coalesce(sum(unrouted), 0)
             FROM account WHERE ?1 IS NULL OR day = ?1",
        )?
        .query_row([day], |r| {
            let n = |at| r.get(at);
            Ok(Account {
                received: n(0)?,
                delivered: n(1)?,
                queued: n(2)?,
                parked: n(3)?,
                held: n(4)?,
                refused: n(5)?,
                repeated: n(6)?,
                unrouted: n(7)?,
            })
        })?;
    Ok(account)
}
