//! What must not be forgotten of revisions: one row each in `fleet.db`, changed before what it says is begun.

use super::machine::Phase;
use super::{Known, Why};
use crate::fleet::telemetry::{Digest, Stamp};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The table, a migration of [`crate::fleet::store`].
pub const TABLES: &str = "
CREATE TABLE desired(
  rev INTEGER PRIMARY KEY,
  digest BLOB NOT NULL,              -- SHA-256 of the document
  document BLOB NOT NULL,            -- empty once it is final
  phase TEXT NOT NULL,
  why TEXT,                          -- it does not run
  boots INTEGER NOT NULL DEFAULT 0,  -- starts of the program with it in its trial
  before BLOB,                       -- how the box was before its trial
  changed_ms INTEGER NOT NULL
);";

/// Revisions remembered.
const REMEMBERED: i64 = 16;

/// How a box was before another configuration ran: what was well, by the names that it has in that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Somebody carried the revision here: the broker need not be there.
    #[serde(default)]
    pub by_hand: bool,
    /// What the box is told reached it.
    pub downlink: bool,
    /// Links whose line was open.
    pub links: BTreeSet<String>,
    /// Of these, those with a connection.
    pub connected: BTreeSet<String>,
    /// Destinations that took messages or could be reached, and those that are new.
    pub destinations: BTreeSet<String>,
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub rev: u64,
    /// Digest of its document.
    pub digest: Digest,
    /// The document; empty once it is final.
    pub document: Vec<u8>,
    /// Where it stands.
    pub phase: Phase,
    /// Why it does not run.
    pub why: Option<Why>,
    /// Starts of the program with it in its trial; before that, starts that began to look at it.
    pub boots: u32,
    /// How the box was before its trial.
    pub before: Option<Before>,
    /// When it came to this phase, Unix milliseconds; of the last start it was counted at, else.
    pub changed_ms: i64,
}

const COLUMNS: &str = "rev, digest, document, phase, why, boots, before, changed_ms";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let damaged = |column: usize| rusqlite::Error::InvalidColumnType(column, "desired".into(), Type::Text);
    let before: Option<Vec<u8>> = row.get(6)?;
    Ok(Entry {
        rev: row.get::<_, i64>(0)?.unsigned_abs(),
        digest: Digest::stored(row.get(1)?),
        document: row.get(2)?,
        phase: Phase::of(&row.get::<_, String>(3)?).ok_or_else(|| damaged(3))?,
        why: row.get::<_, Option<String>>(4)?.as_deref().and_then(Why::of),
        boots: row.get(5)?,
        before: before.and_then(|json| serde_json::from_slice(&json).ok()),
        changed_ms: row.get(7)?,
    })
}

/// The highest revision there is.
pub fn newest(tx: &Transaction<'_>) -> rusqlite::Result<Option<Entry>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM desired ORDER BY rev DESC LIMIT 1"))?
        .query_row([], entry)
        .optional()
}

/// All that are remembered, in order.
pub fn all(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Entry>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM desired ORDER BY rev"))?.query_map([], entry)?.collect()
}

/// The last good revision as it lies on disk: where the file was lost, its number is not forgotten, nor what it was.
pub fn remember(tx: &Transaction<'_>, (rev, digest): (u64, Digest), stamp: Stamp) -> rusqlite::Result<()> {
    if newest(tx)?.is_some_and(|newest| newest.rev >= rev) {
        return Ok(());
    }
    let sql = "INSERT INTO desired(rev, digest, document, phase, changed_ms) VALUES (?1, ?2, x'', ?3, ?4)";
    tx.prepare_cached(sql)?.execute((rev as i64, digest.bytes(), Phase::Committed.word(), stamp.at.as_ms())).map(drop)
}

/// What is known of revisions.
pub fn known(tx: &Transaction<'_>) -> rusqlite::Result<Known> {
    Ok(Known { highest: newest(tx)?.map(|entry| (entry.rev, entry.digest)), ..Known::default() })
}

/// A revision came.
pub fn offer(tx: &Transaction<'_>, rev: u64, digest: Digest, document: &[u8], stamp: Stamp) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO desired(rev, digest, document, phase, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((rev as i64, digest.bytes(), document, Phase::Offered.word(), stamp.at.as_ms()))?;
    tx.prepare_cached("DELETE FROM desired WHERE rev NOT IN (SELECT rev FROM desired ORDER BY rev DESC LIMIT ?1)")?
        .execute([REMEMBERED])
        .map(drop)
}

/// The revision in its trial.
pub fn in_trial(tx: &Transaction<'_>) -> rusqlite::Result<Option<Entry>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM desired WHERE phase = ?1 ORDER BY rev DESC LIMIT 1"))?
        .query_row([Phase::Trial.word()], entry)
        .optional()
}

/// Revisions that are not final, in order.
pub fn open(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM desired WHERE phase NOT IN (?1, ?2, ?3) ORDER BY rev");
    let finals = [Phase::Committed, Phase::Reverted, Phase::Refused].map(Phase::word);
    tx.prepare_cached(&sql)?.query_map(finals, entry)?.collect()
}

/// A revision is in another phase. In its trial, starts of the program are counted anew.
pub fn set(tx: &Transaction<'_>, rev: u64, phase: Phase, why: Option<Why>) -> rusqlite::Result<()> {
    let sql = "UPDATE desired SET phase = ?2, why = ?3, document = iif(?4, x'', document), boots = iif(?5, 0, boots)
               WHERE rev = ?1";
    let changed = (rev as i64, phase.word(), why.map(Why::word), phase.is_final(), phase == Phase::Trial);
    tx.prepare_cached(sql)?.execute(changed).map(drop)
}

/// The moment of the last change.
pub fn stamp(tx: &Transaction<'_>, rev: u64, stamp: Stamp) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE desired SET changed_ms = ?2 WHERE rev = ?1")?
        .execute((rev as i64, stamp.at.as_ms()))
        .map(drop)
}

/// How the box is before the trial of a revision.
pub fn note_before(tx: &Transaction<'_>, rev: u64, before: &Before) -> rusqlite::Result<()> {
    let json = serde_json::to_vec(before).unwrap_or_default();
    tx.prepare_cached("UPDATE desired SET before = ?2 WHERE rev = ?1")?.execute((rev as i64, json)).map(drop)
}

/// The program was started with a revision as it is, so often by now.
pub fn count_boot(tx: &Transaction<'_>, rev: u64, boots: u32) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE desired SET boots = ?2 WHERE rev = ?1")?.execute((rev as i64, boots)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Quality;
    use crate::fleet::store::Store;
    use crate::fleet::telemetry::At;

    #[test]
    fn a_lost_file_forgets_neither_the_number_nor_the_content_of_the_last_good_revision() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let stamp = Stamp { at: At::of_ms(1), clock: Quality::Trusted };
        let (digest, other) = (Digest::of(b"seven"), Digest::of(b"six"));
        store.change(|tx| remember(tx, (7, digest), stamp)).unwrap();
        assert_eq!(store.change(known).unwrap().highest, Some((7, digest)));
        assert!(store.change(open).unwrap().is_empty(), "nothing is left to do with it");
        store.change(|tx| remember(tx, (6, other), stamp)).unwrap();
        store.change(|tx| remember(tx, (7, other), stamp)).unwrap();
        assert_eq!(store.change(known).unwrap().highest, Some((7, digest)), "what is noted stands");
    }

    #[test]
    fn starts_are_counted_anew_in_the_trial() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let stamp = Stamp { at: At::of_ms(1), clock: Quality::Trusted };
        store.change(|tx| offer(tx, 1, Digest::of(b"x"), b"x", stamp)).unwrap();
        store.change(|tx| count_boot(tx, 1, 2)).unwrap();
        store.change(|tx| set(tx, 1, Phase::Checked, None)).unwrap();
        assert_eq!(store.change(open).unwrap()[0].boots, 2);
        store.change(|tx| set(tx, 1, Phase::Trial, None)).unwrap();
        assert_eq!(store.change(in_trial).unwrap().unwrap().boots, 0);
    }
}
