//! Retention: what is delivered goes, first by age and sooner when space is short; what is not delivered never goes.
//!
//! An image that no destination takes is as old as any other before it goes, however short space is: nobody else may have
//! it, and a route that was forgotten can still be added. Until then a person is told (`imaging`). One of which its
//! modality was told that it is safe (storage commitment) stays until an archive took it, or a person says that it may go.
//!
//! Works in small slices between other commands, so that an acknowledgement never waits for it. Freed pages are
//! overwritten (`secure_delete`) and reused; the file itself does not shrink.

use super::config::Config;
use super::custody::{INTERPRETED, ORDERS, part_range};
use super::desk::Desk;
use super::error::JournalError;
use super::filing::RELEASED;
use super::space::Level;
use super::spool::Spool;
use super::standing::IS_ONLY_HERE;
use super::{clock, crash, instances, orders};
use std::thread::JoinHandle;

/// Entries looked at in one slice.
const SLICE: usize = 100;
const DAY_MS: i64 = 86_400_000;

/// Goes round the journal again and again.
pub(super) struct Sweep {
    keep_ms: i64,
    orders_ms: i64,
    rotate_ms: i64,
    after: i64,
    pinned: Pinned,
    /// Removes files of the last slice. That takes long on some disks, and nobody's acknowledgement is to wait for it.
    remover: Option<JoinHandle<()>>,
}

impl Sweep {
    pub(super) fn new(config: &Config) -> Self {
        Sweep {
            keep_ms: i64::from(config.retention_days) * DAY_MS,
            orders_ms: i64::from(config.orders_days) * DAY_MS,
            rotate_ms: i64::from(config.key_rotation_days) * DAY_MS,
            after: 0,
            pinned: Pinned::default(),
            remover: None,
        }
    }

    /// Waits until the files of the last slice are gone.
    pub(super) fn finish(&mut self) {
        if let Some(remover) = self.remover.take() {
            let _ = remover.join();
        }
    }

    /// One slice in its own transaction; true when anything was changed. Files go once their rows are gone for good.
    pub(super) fn slice(&mut self, desk: &mut Desk<'_>, spool: &Spool, level: Level) -> Result<bool, JournalError> {
        if self.remover.as_ref().is_some_and(|remover| !remover.is_finished()) {
            return Ok(false);
        }
        // Nothing is old because the clock was set.
        clock::look_alone(desk)?;
        let old = desk.now_ms.saturating_sub(self.keep_ms);
        let before = match level {
            Level::Ample => old,
            Level::Tight | Level::Full => i64::MAX,
        };
        let Looked { removable: entries, pinned, last } = self.look(desk, before, old)?;
        self.after = last;
        if let Some(images) = self.pinned.met(pinned, last == 0, level) {
            tracing::warn!(
                images,
                "space is short, and these images stay: their modality was told that they are safe, and no archive has \
                 taken them yet; where none is to, name a [[destination]] that keeps images, then have them filed again with \
                 `afferent journal replay`; what is kept elsewhere, give up with `afferent journal discard --image`"
            );
        }
        let rotate = self.rotation_due(desk)?;
        let orders_before = desk.now_ms.saturating_sub(self.orders_ms);
        let orders = orders::are_due(desk, orders_before)?;
        if entries.is_empty() && !rotate && !orders {
            return Ok(false);
        }
        desk.conn.execute_batch("BEGIN IMMEDIATE")?;
        orders::sweep(desk, orders_before)?;
        let mut files = Vec::new();
        for entry in &entries {
            files.extend(remove(desk, *entry)?);
        }
        if let Some(last) = entries.last() {
            desk.conn.execute("UPDATE meta SET entry_floor = max(entry_floor, ?1)", [last])?;
        }
        if rotate {
            desk.seal.add_data_key(desk.conn, desk.now_ms, desk.memory.next_entry)?;
            drop_unused_keys(desk)?;
        }
        desk.conn.execute_batch("COMMIT")?;
        crash::point("rows-removed");
        self.remove(files, spool);
        if rotate {
            desk.seal.reload(desk.conn)?;
        }
        Ok(true)
    }

    fn remove(&mut self, files: Vec<(String, u64)>, spool: &Spool) {
        if files.is_empty() {
            return;
        }
        let spool = spool.clone();
        let remove = move || files.iter().for_each(|(file, bytes)| spool.remove(file, *bytes));
        // Without a thread the files stay until the next start.
        self.remover = std::thread::Builder::new().name("retention".to_string()).spawn(remove).ok();
    }

    /// Looks at the next slice: removable is what is from before this time and nothing needs any more. Images that went
    /// nowhere must be from before `old_ms`.
    fn look(&self, desk: &Desk<'_>, before_ms: i64, old_ms: i64) -> Result<Looked, JournalError> {
        let sql = format!(
            "SELECT e.id, e.state IN (?3, ?6) AND e.received_ms < ?2
               AND NOT EXISTS (SELECT 1 FROM work_order w WHERE w.entry = e.id)
               AND NOT EXISTS (SELECT 1 FROM patient p WHERE p.entry = e.id)
               AND NOT EXISTS (SELECT 1 FROM performed_step s WHERE s.entry = e.id)
               AND NOT EXISTS (SELECT 1 FROM commitment c WHERE c.entry = e.id)
               AND NOT EXISTS (SELECT 1 FROM report r JOIN hold h ON h.report = r.id
                               WHERE r.entry = e.id AND h.state <= ?4)
               AND NOT EXISTS (SELECT 1 FROM report r JOIN dispatch d ON d.report = r.id
                               WHERE r.entry = e.id AND (d.pending > 0 OR d.parked > 0))
               AND NOT EXISTS (SELECT 1 FROM report r JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
                               JOIN entrusted n ON n.outbox = o.id WHERE r.entry = e.id AND n.state = 0)
               AND NOT EXISTS (SELECT 1 FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study
                               WHERE i.entry = e.id AND (t.state = 0 OR t.changed_ms >= ?2))
               , {IS_ONLY_HERE},
               EXISTS (SELECT 1 FROM instance i WHERE i.entry = e.id)
               AND EXISTS (SELECT 1 FROM report r
                           WHERE r.id = (SELECT min(id) FROM report WHERE entry = e.id)
                             AND r.repeat_of IS NULL
                             AND NOT EXISTS (SELECT 1 FROM dispatch d WHERE d.report = r.id))
             FROM entry e WHERE e.id > ?1 ORDER BY e.id LIMIT ?5",
        );
        let mut statement = desk.conn.prepare_cached(&sql)?;
        let bounds = (self.after, before_ms, INTERPRETED, RELEASED, SLICE as i64, ORDERS);
        let mut rows = statement.query(bounds)?;
        let (mut looked, mut seen) = (Looked::default(), 0);
        while let Some(row) = rows.next()? {
            let (is_free, is_only_here, went_nowhere): (bool, bool, bool) = (row.get(1)?, row.get(2)?, row.get(3)?);
            seen += 1;
            looked.last = row.get(0)?;
            looked.pinned += u64::from(is_only_here);
            let before_ms = if went_nowhere { old_ms } else { before_ms };
            if is_free && !is_only_here && clock::is_before(desk, looked.last, before_ms)? {
                looked.removable.push(looked.last);
            }
        }
        if seen < SLICE {
            looked.last = 0;
        }
        Ok(looked)
    }

    fn rotation_due(&self, desk: &Desk<'_>) -> Result<bool, JournalError> {
        if self.rotate_ms == 0 {
            return Ok(false);
        }
        let created: i64 = desk
            .conn
            .prepare_cached("SELECT created_ms FROM data_key ORDER BY id DESC LIMIT 1")?
            .query_row([], |r| r.get(0))?;
        Ok(desk.now_ms.saturating_sub(created) >= self.rotate_ms)
    }
}

/// What a slice holds.
#[derive(Default)]
struct Looked {
    /// Entries that nothing needs any more.
    removable: Vec<i64>,
    /// Images that are safe here alone.
    pinned: u64,
    /// Its last entry, after which the next slice starts; 0 at the end of the journal.
    last: i64,
}

/// Images that stay however short space is, counted on the way round the journal.
#[derive(Default)]
struct Pinned {
    met: u64,
    is_told: bool,
}

impl Pinned {
    /// A slice held so many. Tells how many there are when a round is over, once while space is short.
    fn met(&mut self, pinned: u64, is_round_over: bool, level: Level) -> Option<u64> {
        self.met += pinned;
        self.is_told &= level != Level::Ample;
        if !is_round_over {
            return None;
        }
        let all = std::mem::take(&mut self.met);
        let tells = all > 0 && level != Level::Ample && !self.is_told;
        self.is_told |= tells;
        tells.then_some(all)
    }
}

/// Removes one entry and everything made from it; names the file that is left, if it is one.
fn remove(desk: &Desk<'_>, entry: i64) -> Result<Option<(String, u64)>, JournalError> {
    let file = instances::remove(desk, entry)?;
    let of_reports = "SELECT id FROM report WHERE entry = ?1";
    let of_dispatches = "SELECT d.id FROM dispatch d JOIN report r ON r.id = d.report WHERE r.entry = ?1";
    let of_outbox = format!("SELECT id FROM outbox WHERE dispatch IN ({of_dispatches})");
    for sql in [
        format!("DELETE FROM outgoing WHERE id IN ({of_outbox})"),
        format!("DELETE FROM charted WHERE id IN ({of_outbox})"),
        format!("DELETE FROM entrusted WHERE outbox IN ({of_outbox})"),
        format!("DELETE FROM outbox WHERE dispatch IN ({of_dispatches})"),
        format!("DELETE FROM dispatch WHERE report IN ({of_reports})"),
        format!("DELETE FROM hold WHERE report IN ({of_reports})"),
        "DELETE FROM lookup WHERE entry = ?1".to_string(),
        "DELETE FROM answer WHERE entry = ?1".to_string(),
        "DELETE FROM report WHERE entry = ?1".to_string(),
        "DELETE FROM entry WHERE id = ?1".to_string(),
    ] {
        desk.conn.prepare_cached(&sql)?.execute([entry])?;
    }
    desk.conn.prepare_cached("DELETE FROM part WHERE id >= ?1 AND id < ?2")?.execute(part_range(entry))?;
    Ok(file)
}

/// Drops data keys that no row can be sealed with: every entry left was taken in after the next key came into use.
/// That makes what they sealed unreadable wherever a copy of it may be.
fn drop_unused_keys(desk: &Desk<'_>) -> Result<(), JournalError> {
    desk.conn.execute(
        "DELETE FROM data_key WHERE purpose = 'data' AND EXISTS (
           SELECT 1 FROM data_key later WHERE later.id > data_key.id
             AND later.first_entry <= coalesce((SELECT min(id) FROM entry), 0))",
        [],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_once_of_each_shortage_how_many_images_stay_all_the_same() {
        let mut pinned = Pinned::default();
        assert_eq!(pinned.met(2, true, Level::Ample), None, "there is room for them");
        assert_eq!(pinned.met(2, false, Level::Tight), None, "there may be more");
        assert_eq!(pinned.met(1, true, Level::Tight), Some(3));
        assert_eq!(pinned.met(3, true, Level::Full), None, "they are known");
        assert_eq!(pinned.met(0, false, Level::Ample), None);
        assert_eq!(pinned.met(0, true, Level::Tight), None, "none is left");
        assert_eq!(pinned.met(3, true, Level::Tight), Some(3));
    }
}
