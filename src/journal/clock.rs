//! What the box's clock was worth when entries came in. Custody never waits for a right time: an entry keeps the time
//! that the clock showed, and a row says by which clock. Once that is trusted, the entries before it of the same run of
//! the machine are known to be so much off, however often the program was started in between.

use super::desk::Desk;
use super::error::JournalError;
use crate::clock::Quality;
use rusqlite::OptionalExtension;

/// A clock that is this far from where it would have gone by itself was set, milliseconds.
const SET_BY_MS: i64 = 1_000;

/// The clock that entries come in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Wall clock less the time since the machine started, milliseconds.
    pub base_ms: i64,
    pub quality: Quality,
}

/// The run of this machine. Without its id, every start of the program counts as one.
pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let own = || crate::fleet::telemetry::Id::make().to_string();
    Some(id.trim().to_owned()).filter(|id| !id.is_empty()).unwrap_or_else(own)
}

/// Says what the clock is worth from the next entry on.
pub(super) fn note(desk: &mut Desk<'_>, quality: Quality) -> Result<(), JournalError> {
    let mut base_ms = base_ms();
    match desk.memory.clock() {
        Some(span) if is_as_before(span.base_ms, base_ms) => {
            if span.quality == quality {
                return Ok(());
            }
            // Nobody set it: what came before was not off.
            base_ms = span.base_ms;
        }
        _ => {}
    }
    begin(desk, Span { base_ms, quality })
}

/// Before an entry is made: a clock that was set meanwhile is another clock.
pub(super) fn look(desk: &mut Desk<'_>) -> Result<(), JournalError> {
    let base_ms = base_ms();
    match desk.memory.clock() {
        // Whoever watches the clock says what it is worth now; until then nobody vouches for it.
        Some(span) if !is_as_before(span.base_ms, base_ms) => {
            let quality = if span.quality == Quality::Unset { Quality::Unset } else { Quality::Floor };
            begin(desk, Span { base_ms, quality })
        }
        _ => Ok(()),
    }
}

fn begin(desk: &mut Desk<'_>, span: Span) -> Result<(), JournalError> {
    if let Some(before_ms) = desk.memory.clock().map(|before| before.base_ms)
        && span.base_ms - before_ms >= SET_BY_MS
    {
        forward(desk, before_ms, span.base_ms - before_ms)?;
    }
    desk.conn
        .prepare_cached("INSERT INTO clock(first_entry, boot, base_ms, quality) VALUES (?1, ?2, ?3, ?4)")?
        .execute((desk.memory.next_entry, desk.memory.boot(), span.base_ms, number(span.quality)))?;
    desk.memory.set_clock(span);
    // No entry came in by what has a later row for the same entry, and such a row only tells of others when it is
    // trusted. Rows before the oldest entry's are of nothing that is kept.
    desk.conn
        .prepare_cached(
            "DELETE FROM clock WHERE
               first_entry < (SELECT max(first_entry) FROM clock WHERE first_entry <=
                 coalesce((SELECT min(id) FROM entry), ?1))
               OR EXISTS (SELECT 1 FROM clock later WHERE later.first_entry = clock.first_entry AND later.id > clock.id)
                 AND (clock.quality < 2 OR NOT EXISTS (SELECT 1 FROM clock before
                   WHERE before.boot = clock.boot AND before.first_entry < clock.first_entry AND before.quality < 2))",
        )?
        .execute([desk.memory.next_entry])?;
    Ok(())
}

/// What retention counts the age of from `changed_ms`.
const AGEING: [&str; 5] = ["work_order", "patient", "performed_step", "commitment", "study"];

/// Puts forward what changed by a clock that was behind by so much, now that it was set: an order that came an hour ago is
/// not months old because of that. What changed at such a time in truth is kept for longer, no more.
fn forward(desk: &Desk<'_>, before_ms: i64, by_ms: i64) -> Result<(), JournalError> {
    let latest_ms = super::wall_clock_ms() - by_ms;
    for table in AGEING {
        // 0 is no time.
        let sql = format!("UPDATE {table} SET changed_ms = changed_ms + ?1 WHERE changed_ms BETWEEN max(?2, 1) AND ?3");
        desk.conn.execute(&sql, (by_ms, before_ms, latest_ms))?;
    }
    Ok(())
}

/// The same in a transaction of its own, before the age of anything counts.
pub(super) fn look_alone(desk: &mut Desk<'_>) -> Result<(), JournalError> {
    if desk.memory.clock().is_none_or(|span| is_as_before(span.base_ms, base_ms())) {
        return Ok(());
    }
    desk.conn.execute_batch("BEGIN IMMEDIATE")?;
    let looked = look(desk).and_then(|()| Ok(desk.conn.execute_batch("COMMIT")?));
    match looked {
        Ok(()) => drop(desk.memory.committed()),
        Err(_) => desk.memory.undo_to(0),
    }
    looked
}

/// True when an entry came in before this time: by what is known of the clock it came in by, and else, in the same run of
/// the machine, as long ago as the machine itself says. Of one that came in by a clock that was never set, and an earlier
/// run, only what came after it says how old it is.
pub(super) fn is_before(desk: &Desk<'_>, entry: i64, before_ms: i64) -> Result<bool, JournalError> {
    if before_ms == i64::MAX {
        return Ok(true);
    }
    let sql = format!(
        "SELECT e.received_ms, {FOUND},
           (SELECT max(?2 - c.base_ms, 0) FROM clock c
            WHERE c.id = (SELECT max(id) FROM clock WHERE first_entry <= e.id) AND c.boot = ?3),
           EXISTS (SELECT 1 FROM clock c WHERE c.quality > 0 AND c.first_entry > e.id
             AND (SELECT n.received_ms FROM entry n WHERE n.id >= c.first_entry ORDER BY n.id LIMIT 1) < ?4)
         FROM entry e WHERE e.id = ?1"
    );
    let base_ms = desk.memory.clock().map_or(0, |span| span.base_ms);
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let (received_ms, worth, known, since_set, is_followed): (i64, Option<i64>, Option<i64>, Option<i64>, bool) =
        desk.conn.prepare_cached(&sql)?.query_row((entry, base_ms, desk.memory.boot(), before_ms), row)?;
    Ok(match known.or(since_set) {
        None if quality(worth) == Some(Quality::Unset) => is_followed,
        off => received_ms + off.unwrap_or(0) < before_ms,
    })
}

fn is_as_before(before_ms: i64, now_ms: i64) -> bool {
    (now_ms - before_ms).abs() < SET_BY_MS
}

/// What the clock was worth, as [`FOUND`] selects it.
pub(super) fn quality(number: Option<i64>) -> Option<Quality> {
    [Quality::Unset, Quality::Floor, Quality::Trusted]
        .into_iter()
        .find(|quality| Some(self::number(*quality)) == number)
}

fn number(quality: Quality) -> i64 {
    match quality {
        Quality::Unset => 0,
        Quality::Floor => 1,
        Quality::Trusted => 2,
    }
}

/// Columns about the clock of entry `e`: what it was worth, and by how much it was wrong as is known since.
pub(super) const FOUND: &str = "
  (SELECT c.quality FROM clock c WHERE c.first_entry <= e.id ORDER BY c.id DESC LIMIT 1),
  (SELECT t.base_ms - c.base_ms FROM clock c JOIN clock t
     ON t.boot = c.boot AND t.quality = 2 AND t.id > c.id
   WHERE c.quality < 2 AND c.id = (SELECT max(id) FROM clock WHERE first_entry <= e.id)
   ORDER BY t.id LIMIT 1)";

/// Milliseconds from the start of the machine, by the wall clock.
fn base_ms() -> i64 {
    let since_start = || -> Option<i64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call only fills in the struct it is given.
        let answer = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
        #[allow(clippy::unnecessary_cast)] // 32-bit targets
        (answer == 0).then(|| time.tv_sec as i64 * 1000 + time.tv_nsec as i64 / 1_000_000)
    };
    super::wall_clock_ms() - since_start().unwrap_or(0)
}

/// The latest clock on record, unless it is of another run of the machine.
pub(super) fn recover(conn: &rusqlite::Connection, boot: &str) -> Result<Option<Span>, JournalError> {
    let last = "SELECT base_ms, quality, boot FROM clock ORDER BY id DESC LIMIT 1";
    let row = |r: &rusqlite::Row<'_>| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?));
    let found = conn.query_row(last, [], row).optional()?.filter(|(_, _, of)| of == boot);
    Ok(found.and_then(|(base_ms, number, _)| Some(Span { base_ms, quality: quality(Some(number))? })))
}
