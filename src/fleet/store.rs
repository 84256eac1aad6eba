//! `fleet.db`: what the fleet must not forget. A file of its own, so that it never waits for the journal, nor the journal
//! for it (invariant I12).
//!
//! - **epoch**: how often the program has been started; counted up before anything is published.
//! - **event**: the outbox of events. A row leaves when the broker has acknowledged it (PUBACK) and not before: what a
//!   client library holds in memory a broker that lost its session makes it forget. So an event may be told twice, under
//!   one id, and is never lost but by the rule below.
//!
//! The outbox is bounded. When it is full, the oldest telemetry makes room, and one event tells how many were lost and
//! of which time ([`What::Gap`]). What is no telemetry is never thinned out; when it fills the outbox alone, nothing
//! more is taken, and whoever would have caused another event must not begin ([`StoreError::Full`]).
//!
//! Every change is on disk when the call returns (WAL, `synchronous=FULL`). Calls block: they are for the fleet's own
//! thread. **To add a table**, append a migration; never change one that stands.

use super::desired::ledger;
use super::docket;
use super::telemetry::{At, Document, Event, Id, Stamp, What};
use rusqlite::{Connection, OpenFlags, Row, Transaction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "fleet.db";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FILE, "fleet.db-wal", "fleet.db-shm"];
/// Events kept at most, and how many are thinned out at once.
const EVENTS_MAX: u64 = 10_000;
const THINNED_AT_ONCE: u64 = 500;
/// Nobody else writes here; a backup may read.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// In the order they are applied; `PRAGMA user_version` is how many were.
const MIGRATIONS: [&str; 3] = [
    "
CREATE TABLE epoch(only INTEGER PRIMARY KEY CHECK (only = 1), epoch INTEGER NOT NULL);
INSERT INTO epoch VALUES (1, 0);
CREATE TABLE event(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind INTEGER NOT NULL,             -- 0 telemetry, 1 kept whatever happens, 2 the gap
  at_ms INTEGER NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0, since_ms INTEGER NOT NULL DEFAULT 0,  -- of the gap
  body BLOB NOT NULL
);
CREATE INDEX event_telemetry ON event(id) WHERE kind = 0;",
    docket::TABLES,
    ledger::TABLES,
];

/// Number of the schema that this program gives the file.
pub const SCHEMA: u64 = MIGRATIONS.len() as u64;

const TELEMETRY: i64 = 0;
const KEPT: i64 = 1;
const GAP: i64 = 2;

/// Why the fleet's file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}; the disk may be full or failing", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer version of this program wrote the file.
    #[error("{} was written by a newer version (schema {found}, this one knows {known}): run that version", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest this program knows.
        known: u64,
    },
    /// There is no room for one more event that must not be lost.
    #[error("the fleet's outbox is full of events that nobody takes")]
    Full,
}

/// The fleet's file.
pub struct Store {
    conn: Connection,
    file: PathBuf,
    events_max: u64,
    lost: u64,
}

/// An event that waits to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its row.
    pub row: i64,
    /// What is published.
    pub document: Document,
}

impl Store {
    /// Opens, or makes, the file in `data`.
    pub fn open(data: &Path) -> Result<Store, StoreError> {
        Store::with_room_for(data, EVENTS_MAX)
    }

    /// As [`Store::open`], with an outbox for so many events.
    pub fn with_room_for(data: &Path, events_max: u64) -> Result<Store, StoreError> {
        let file = data.join(FILE);
        let failed = |source| StoreError::Database { file: file.clone(), source };
        let mut conn = Connection::open(&file).map_err(failed)?;
        let found = settle(&mut conn).map_err(failed)?;
        let known = MIGRATIONS.len() as u64;
        if found > known {
            return Err(StoreError::Newer { file, found, known });
        }
        Ok(Store { conn, file, events_max, lost: 0 })
    }

    /// The file for reading alone, as this version writes it; none where there is none.
    pub fn peek(data: &Path) -> Option<Store> {
        let file = data.join(FILE);
        let conn = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        conn.busy_timeout(BUSY_TIMEOUT).ok()?;
        let found: u64 = conn.query_row("PRAGMA user_version", [], |r| unsigned(r, 0)).ok()?;
        (found == SCHEMA).then_some(Store { conn, file, events_max: EVENTS_MAX, lost: 0 })
    }

    /// Counts this start and says how many there have been.
    pub fn next_epoch(&mut self) -> Result<u64, StoreError> {
        self.next_epoch_after(0)
    }

    /// The same, of a box that was started so often before this file was made.
    pub fn next_epoch_after(&mut self, before: u64) -> Result<u64, StoreError> {
        let sql = "UPDATE epoch SET epoch = max(epoch, ?1) + 1 RETURNING epoch";
        self.change(|tx| tx.query_row(sql, [before as i64], |r| unsigned(r, 0)))
    }

    /// Starts that were counted.
    pub fn epoch(&self) -> Result<u64, StoreError> {
        let read = self.conn.query_row("SELECT epoch FROM epoch", [], |r| unsigned(r, 0));
        read.map_err(|source| self.failed(source))
    }

    /// Events kept at most, but for what [`put`] is told else.
    pub fn events_max(&self) -> u64 {
        self.events_max
    }

    /// Keeps an event until the broker has it.
    ///
    /// # Errors
    /// [`StoreError::Full`] for what is no telemetry; telemetry that finds no room is counted in a gap.
    pub fn put(&mut self, event: &Event) -> Result<(), StoreError> {
        match self.put_all(std::slice::from_ref(event))? {
            0 => Ok(()),
            _ => Err(StoreError::Full),
        }
    }

    /// Keeps events, all in one commit. Says how many of them that must not be lost found no room.
    pub fn put_all(&mut self, events: &[Event]) -> Result<usize, StoreError> {
        let events_max = self.events_max;
        let done =
            self.change(|tx| events.iter().map(|event| put(tx, event, events_max)).collect::<Result<Vec<_>, _>>())?;
        self.lost += done.iter().map(|put| put.lost).sum::<u64>();
        Ok(done.iter().filter(|put| !put.is_in).count())
    }

    /// The oldest events behind this row, in order.
    pub fn events_after(&self, row: i64, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        let read = || {
            let mut statement =
                self.conn.prepare_cached("SELECT id, body FROM event WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let rows = statement.query_map((row, limit as i64), |r| {
                Ok(Waiting { row: r.get(0)?, document: Document::stored(r.get(1)?) })
            })?;
            rows.collect::<rusqlite::Result<Vec<Waiting>>>()
        };
        read().map_err(|source| self.failed(source))
    }

    /// The broker has these.
    pub fn remove(&mut self, rows: &[i64]) -> Result<(), StoreError> {
        self.change(|tx| {
            let mut statement = tx.prepare_cached("DELETE FROM event WHERE id = ?1")?;
            rows.iter().try_for_each(|row| statement.execute([row]).map(drop))
        })
    }

    /// How many events wait.
    pub fn waiting(&self) -> Result<u64, StoreError> {
        count(&self.conn).map_err(|source| self.failed(source))
    }

    /// Events that were thinned out since the file was opened.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// One transaction, on disk when this returns. What stands in it happens whole or not at all: a change of a table
    /// and the event that tells of it belong into one ([`put`]).
    pub fn change<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = self.conn.transaction().and_then(|tx| {
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        });
        done.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { file: self.file.clone(), source }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// It is in the outbox, or was counted in a gap. False when it must not be lost and there is no room.
    pub is_in: bool,
    /// How many events were thinned out for it, itself included.
    pub lost: u64,
}

/// Puts an event into the outbox, in a transaction of the caller's.
pub fn put(tx: &Transaction<'_>, event: &Event, events_max: u64) -> rusqlite::Result<Put> {
    let is_telemetry = event.what.is_telemetry();
    let mut lost = 0;
    if count(tx)? >= events_max {
        lost = thin_out(tx, event)?;
        if lost == 0 && !is_telemetry {
            return Ok(Put { is_in: false, lost });
        }
        if lost == 0 {
            lost = 1;
            grow_gap(tx, event, 1, event.stamp.at.as_ms())?;
            return Ok(Put { is_in: true, lost });
        }
    }
    let kind = if is_telemetry { TELEMETRY } else { KEPT };
    tx.prepare_cached("INSERT INTO event(kind, at_ms, body) VALUES (?1, ?2, ?3)")?.execute((
        kind,
        event.stamp.at.as_ms(),
        Document::of(event).bytes(),
    ))?;
    Ok(Put { is_in: true, lost })
}

/// Puts an event into the outbox that was told before, as it was. Whoever asks ever so often fills nothing: while it waits,
/// it is not put once more.
pub fn put_again(tx: &Transaction<'_>, stamp: Stamp, event: &Document) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO event(kind, at_ms, body) SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM event WHERE body = ?3)",
    )?
    .execute((KEPT, stamp.at.as_ms(), event.bytes()))
    .map(drop)
}

/// Takes the oldest telemetry out and counts it in the gap. Returns how many.
fn thin_out(tx: &Transaction<'_>, event: &Event) -> rusqlite::Result<u64> {
    let (lost, since): (u64, Option<i64>) = tx
        .prepare_cached(
            "SELECT count(*), min(at_ms) FROM (SELECT at_ms FROM event WHERE kind = 0 ORDER BY id LIMIT ?1)",
        )?
        .query_row([THINNED_AT_ONCE as i64], |r| Ok((unsigned(r, 0)?, r.get(1)?)))?;
    let Some(since) = since else { return Ok(0) };
    tx.prepare_cached("DELETE FROM event WHERE id IN (SELECT id FROM event WHERE kind = 0 ORDER BY id LIMIT ?1)")?
        .execute([THINNED_AT_ONCE as i64])?;
    grow_gap(tx, event, lost, since)?;
    Ok(lost)
}

/// There is one gap, which grows until it is told. It takes a new row each time, so that one that is on the way to the
/// broker is not taken for the one that has grown.
fn grow_gap(tx: &Transaction<'_>, event: &Event, lost: u64, since_ms: i64) -> rusqlite::Result<()> {
    let before: Option<(u64, i64)> = tx
        .prepare_cached("DELETE FROM event WHERE kind = 2 RETURNING lost, since_ms")?
        .query_map([], |r| Ok((unsigned(r, 0)?, r.get(1)?)))?
        .next()
        .transpose()?;
    let (lost, since_ms) = match before {
        Some((already, earliest)) => (lost + already, since_ms.min(earliest)),
        None => (lost, since_ms),
    };
    let until = event.stamp.at;
    let gap = Event {
        id: Id::make(),
        stamp: Stamp { at: until, clock: event.stamp.clock },
        what: What::Gap { lost, since: At::of_ms(since_ms), until },
    };
    tx.prepare_cached("INSERT INTO event(kind, at_ms, lost, since_ms, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((GAP, until.as_ms(), lost as i64, since_ms, Document::of(&gap).bytes()))?;
    Ok(())
}

/// How many events wait.
pub fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM event")?.query_row([], |r| unsigned(r, 0))
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::unsigned_abs)
}

/// Sets the connection up and brings the file up to date. Returns its schema, which may be newer than this program.
fn settle(conn: &mut Connection) -> rusqlite::Result<u64> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get::<_, String>(0))?;
    conn.execute_batch("PRAGMA synchronous = FULL")?;
    let mut found: u64 = conn.query_row("PRAGMA user_version", [], |r| unsigned(r, 0))?;
    for migration in MIGRATIONS.iter().skip(found as usize) {
        let tx = conn.transaction()?;
        tx.execute_batch(migration)?;
        found += 1;
        tx.execute_batch(&format!("PRAGMA user_version = {found}"))?;
        tx.commit()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::telemetry::Downlink;
    use super::*;
    use crate::clock::Quality;

    fn telemetry(ms: i64) -> Event {
        let what = What::Downlink { now: Downlink::Proven };
        Event { id: Id::make(), stamp: Stamp { at: At::of_ms(ms), clock: Quality::Trusted }, what }
    }

    fn kept(ms: i64) -> Event {
        let at = At::of_ms(ms);
        Event { what: What::Gap { lost: 0, since: at, until: at }, ..telemetry(ms) }
    }

    fn told(store: &Store) -> Vec<serde_json::Value> {
        let waiting = store.events_after(0, 1000).unwrap();
        waiting.iter().map(|waiting| serde_json::from_slice(waiting.document.bytes()).unwrap()).collect()
    }

    #[test]
    fn the_epoch_counts_every_start_and_events_outlive_it() {
        let dir = tempfile::tempdir().unwrap();
        for start in 1..=3 {
            let mut store = Store::open(dir.path()).unwrap();
            assert_eq!(store.next_epoch().unwrap(), start);
            assert_eq!(store.waiting().unwrap(), start - 1);
            store.put(&telemetry(start as i64)).unwrap();
        }
        let mut store = Store::open(dir.path()).unwrap();
        let waiting = store.events_after(0, 2).unwrap();
        assert_eq!(waiting.len(), 2);
        store.remove(&[waiting[0].row, waiting[1].row]).unwrap();
        assert_eq!(store.waiting().unwrap(), 1);
        assert_eq!(store.events_after(waiting[1].row, 10).unwrap().len(), 1);
    }

    #[test]
    fn i10_a_full_outbox_loses_the_oldest_telemetry_and_tells_how_much() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::with_room_for(dir.path(), 1000).unwrap();
        let outcome = kept(1);
        store.put(&outcome).unwrap();
        for ms in 2..5000 {
            store.put(&telemetry(ms)).unwrap();
            assert!(store.waiting().unwrap() <= 1000 + 1);
        }
        let told = told(&store);
        assert_eq!(told[0]["id"], outcome.id.to_string(), "what is no telemetry is still there");
        let gaps: Vec<_> = told.iter().filter(|event| event["event"] == "gap" && event["lost"] != 0).collect();
        let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
        let left = told.iter().filter(|event| event["event"] == "downlink").count() as u64;
        assert_eq!((gap["lost"].as_u64().unwrap() + left, store.lost() + left), (4998, 4998));
        assert_eq!(gap["since"], "1970-01-01T00:00:00.002Z");
    }

    #[test]
    fn what_must_not_be_lost_is_refused_when_it_fills_the_outbox() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::with_room_for(dir.path(), 10).unwrap();
        (0..10).for_each(|ms| store.put(&kept(ms)).unwrap());
        assert!(matches!(store.put(&kept(10)), Err(StoreError::Full)));
        store.put(&telemetry(11)).unwrap();
        store.put(&telemetry(12)).unwrap();
        let told = told(&store);
        assert_eq!((told.len(), told[10]["lost"].as_u64()), (11, Some(2)), "it is counted");
        store.remove(&[1]).unwrap();
        store.remove(&[2]).unwrap();
        store.put(&kept(13)).unwrap();
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        Connection::open(dir.path().join(FILE)).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let refused = Store::open(dir.path()).map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    }
}
