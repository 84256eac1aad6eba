//! The database file: connection settings that are read back, and numbered schema changes.
//!
//! `PRAGMA user_version` holds the number of the last change that was applied. Each change runs in one transaction
//! with its number, so a crash in the middle leaves the schema before it. A file with a higher number than this
//! program knows is refused unread.

use super::error::OpenError;
use super::seal::{OuterKey, Seal};
use crate::service::Pulse;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::Path;
use std::time::Duration;

/// Name of the database in the data directory.
pub(crate) const FILE: &str = "journal.db";
/// 3.51.3 fixed a WAL-reset race that could corrupt the file; nothing older may touch a journal.
const SQLITE_MIN: i32 = 3_051_003;
/// Page cache of the writer and of each reader, in KiB. Idle memory of the whole process is to stay under 20 MB.
const CACHE_KIB: i64 = 1024;
/// How long a connection waits for another's lock. Readers never block the writer in WAL mode; checkpoints may.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Prepared statements kept per connection.
const STATEMENTS: usize = 64;

/// A pulse is beaten after so many steps of SQLite's machine, of which even a small box does millions a second.
const STEPS_PER_BEAT: i32 = 10_000;

/// The schema changes in order; the first makes the schema number 1.
const MIGRATIONS: [&str; 19] = [
    CUSTODY,
    FILING,
    LATENCY,
    ORDERS,
    RULES,
    IMAGING,
    WORKLIST,
    ENTRUSTED,
    COMMITMENTS,
    PROMISED,
    ON_HOLD,
    BOOKED,
    PROMISED_BEFORE,
    ORIGINAL,
    ASKERS,
    CHARTED,
    LET_GO,
    CLOCK,
    PARKED_FOR,
];

/// The number of the schema this program writes.
pub(super) const NUMBER: u64 = MIGRATIONS.len() as u64;

/// 1: keys, entries and their parts.
const CUSTODY: &str = "
CREATE TABLE data_key(
  id INTEGER PRIMARY KEY, purpose TEXT NOT NULL, wrapped BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  first_entry INTEGER NOT NULL      -- entries from here on use this key or a later one
);
CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK (id = 1), entry_floor INTEGER NOT NULL);
INSERT INTO meta VALUES (1, 0);
CREATE TABLE entry(
  id INTEGER PRIMARY KEY,
  link TEXT NOT NULL,
  received_ms INTEGER NOT NULL,     -- wall clock; order is by id and waiting, never by this
  state INTEGER NOT NULL,           -- 0 open, 1 waiting to be interpreted, 2 interpreted, 3 damaged
  complete INTEGER NOT NULL,        -- 1 when the sender finished it
  waiting INTEGER,                  -- 0 while open, place in the interpreter's queue while waiting, else NULL
  parts INTEGER NOT NULL, bytes INTEGER NOT NULL,
  identity INTEGER,                 -- keyed hash of link and the sender's own name for the message
  digest BLOB                       -- keyed hash of all bytes
);
CREATE INDEX entry_waiting ON entry(waiting) WHERE waiting IS NOT NULL;
CREATE INDEX entry_identity ON entry(identity) WHERE identity IS NOT NULL;
CREATE INDEX entry_received ON entry(received_ms);
-- In the order of arrival, so that parts of many sessions at once fill the same few pages; found by id.
CREATE TABLE part(seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, sealed BLOB NOT NULL);  -- id = entry << 20 | place in it
CREATE UNIQUE INDEX part_id ON part(id);
";

/// 2: what became of the entries.
const FILING: &str = "
ALTER TABLE entry ADD COLUMN conflict INTEGER NOT NULL DEFAULT 0;  -- same identity as an earlier one, other bytes
ALTER TABLE entry ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN driver TEXT;
ALTER TABLE entry ADD COLUMN inbound INTEGER NOT NULL DEFAULT 0;   -- results in it
ALTER TABLE entry ADD COLUMN refused TEXT;                         -- JSON: [[record, reason], ...]
CREATE TABLE report(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  entry INTEGER NOT NULL REFERENCES entry(id),
  subject INTEGER NOT NULL, content BLOB NOT NULL,
  completed_s INTEGER, repeat_of INTEGER,
  results INTEGER NOT NULL,
  releases INTEGER NOT NULL DEFAULT 0,
  json BLOB, ids BLOB                -- sealed
);
CREATE INDEX report_entry ON report(entry);
CREATE INDEX report_subject ON report(subject, id) WHERE repeat_of IS NULL;
CREATE TABLE lookup(hash INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (hash, entry)) WITHOUT ROWID;
CREATE INDEX lookup_entry ON lookup(entry);
CREATE TABLE hold(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  report INTEGER NOT NULL REFERENCES report(id),
  observation INTEGER NOT NULL,
  reason TEXT NOT NULL,
  state INTEGER NOT NULL,            -- 0 held, 1 released by a person, 2 sent, 3 discarded, 4 covered by another report
  note TEXT
);
CREATE INDEX hold_state ON hold(state, report, id);
CREATE INDEX hold_report ON hold(report);
CREATE TABLE dispatch(               -- results that went out together, to one or more destinations
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  report INTEGER NOT NULL REFERENCES report(id),
  day INTEGER NOT NULL,
  results INTEGER NOT NULL,
  pending INTEGER NOT NULL, parked INTEGER NOT NULL DEFAULT 0, discarded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX dispatch_report ON dispatch(report);
CREATE TABLE outbox(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  dispatch INTEGER NOT NULL REFERENCES dispatch(id),
  destination TEXT NOT NULL,
  lane INTEGER NOT NULL,             -- keyed hash of the ordering key
  state INTEGER NOT NULL,            -- 0 pending, 1 delivered, 2 parked, 3 discarded
  head INTEGER,                      -- oldest pending row of its lane: 1 ready, 2 waits for its back-off; else NULL
  message_id TEXT NOT NULL,
  results INTEGER NOT NULL,
  received_ms INTEGER NOT NULL, queued_ms INTEGER NOT NULL, settled_ms INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  note TEXT
);
CREATE INDEX outbox_head ON outbox(head, destination, id) WHERE head IS NOT NULL;
CREATE INDEX outbox_lane ON outbox(destination, lane, id) WHERE state = 0;
CREATE INDEX outbox_parked ON outbox(id) WHERE state = 2;
CREATE INDEX outbox_dispatch ON outbox(dispatch);
CREATE TABLE outgoing(id INTEGER PRIMARY KEY REFERENCES outbox(id), body BLOB NOT NULL);  -- sealed; apart: never rewritten
CREATE TABLE latency(slot INTEGER PRIMARY KEY, ms INTEGER NOT NULL);  -- dropped in 3
CREATE TABLE account(                -- the loss account, in results, by day of custody
  day INTEGER PRIMARY KEY,
  received INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0, queued INTEGER NOT NULL DEFAULT 0,
  parked INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0,
  repeated INTEGER NOT NULL DEFAULT 0, unrouted INTEGER NOT NULL DEFAULT 0
);
";

/// 3: how long messages took is in the outbox.
const LATENCY: &str = "DROP TABLE latency;";

/// 4: orders from the EHR, and the patients they are for.
const ORDERS: &str = "
CREATE TABLE work_order(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  entry INTEGER NOT NULL REFERENCES entry(id),   -- the message that brought it
  source TEXT NOT NULL,                          -- the EHR connection it came in on
  status INTEGER NOT NULL,                       -- 0 requested, 1 in progress, 2 done, 3 cancelled, 4 replaced
  placed_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
  json BLOB                                      -- sealed
);
CREATE INDEX work_order_entry ON work_order(entry);
CREATE INDEX work_order_changed ON work_order(changed_ms);
CREATE INDEX work_order_open ON work_order(id) WHERE status <= 1;
CREATE TABLE work_order_lookup(hash INTEGER NOT NULL, work_order INTEGER NOT NULL, PRIMARY KEY (hash, work_order))
  WITHOUT ROWID;
CREATE INDEX work_order_lookup_order ON work_order_lookup(work_order);
CREATE TABLE work_order_link(        -- the links an order is for
  work_order INTEGER NOT NULL, link TEXT NOT NULL,
  state INTEGER NOT NULL,            -- 0 to be sent, 1 sent, 2 cancellation to be sent, 3 nothing to do
  PRIMARY KEY (work_order, link)
) WITHOUT ROWID;
CREATE INDEX work_order_link_due ON work_order_link(link, work_order) WHERE state IN (0, 2);
CREATE TABLE patient(
  hash INTEGER PRIMARY KEY,          -- keyed hash of the patient id
  entry INTEGER NOT NULL REFERENCES entry(id), changed_ms INTEGER NOT NULL,
  json BLOB NOT NULL                 -- sealed: what the EHR last said, or the id that survived a merge
);
CREATE INDEX patient_entry ON patient(entry);
CREATE INDEX patient_changed ON patient(changed_ms);
CREATE TABLE answer(entry INTEGER PRIMARY KEY REFERENCES entry(id), outcomes TEXT NOT NULL);
ALTER TABLE hold ADD COLUMN rematch INTEGER NOT NULL DEFAULT 0;  -- 1 when an order released it, not a person
";

/// 5: what the rules decided, and why a result is held.
const RULES: &str = "
ALTER TABLE report ADD COLUMN decisions TEXT;                      -- JSON; no values
ALTER TABLE hold ADD COLUMN rule TEXT;                             -- name@version of the rule that holds it
ALTER TABLE hold ADD COLUMN why TEXT;                              -- in plain words
CREATE INDEX hold_locked ON hold(id) WHERE state = 0 AND reason = 'qc-lock';
";

/// 6: DICOM instances, whose bytes are files of the spool, and the studies they belong to.
const IMAGING: &str = "
CREATE TABLE study(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash INTEGER NOT NULL,             -- keyed hash of the Study Instance UID
  state INTEGER NOT NULL,            -- 0 growing: an instance came that the EHR was not told of; 1 stable
  changed_ms INTEGER NOT NULL,       -- when its last instance was filed; 0 when its modality is done with it
  version INTEGER NOT NULL,          -- grows with every instance
  sealed BLOB                        -- what it is about
);
CREATE UNIQUE INDEX study_hash ON study(hash);
CREATE INDEX study_growing ON study(changed_ms) WHERE state = 0;
CREATE TABLE series(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  study INTEGER NOT NULL REFERENCES study(id),
  hash INTEGER NOT NULL,             -- keyed hash of study and Series Instance UID
  modality TEXT NOT NULL,
  sealed BLOB
);
CREATE UNIQUE INDEX series_hash ON series(hash);
CREATE INDEX series_study ON series(study);
CREATE TABLE instance(               -- an entry without parts
  entry INTEGER PRIMARY KEY REFERENCES entry(id),
  spool TEXT NOT NULL,               -- name of its file
  header INTEGER NOT NULL,           -- bytes in it before the data set
  sop_class TEXT NOT NULL, transfer_syntax TEXT NOT NULL, calling TEXT NOT NULL, called TEXT NOT NULL,
  series INTEGER REFERENCES series(id),   -- NULL until its head is read, or when it names none
  number INTEGER,                    -- Instance Number
  sealed BLOB NOT NULL               -- SOP Instance UID
);
CREATE UNIQUE INDEX instance_spool ON instance(spool);
CREATE INDEX instance_series ON instance(series) WHERE series IS NOT NULL;
";

/// 7: what modalities are asked to do, what they say they did, and what they ask to be answered for.
const WORKLIST: &str = "
ALTER TABLE work_order ADD COLUMN imaging INTEGER NOT NULL DEFAULT 0;   -- 1 when modalities do it
CREATE INDEX work_order_imaging ON work_order(id) WHERE imaging = 1 AND status <= 1;
CREATE TABLE work_order_step(        -- scheduled steps that were done
  work_order INTEGER NOT NULL,
  procedure INTEGER NOT NULL, step INTEGER NOT NULL,   -- its place in the order
  PRIMARY KEY (work_order, procedure, step)
) WITHOUT ROWID;
CREATE TABLE performed_step(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash INTEGER NOT NULL,             -- keyed hash of its SOP Instance UID
  entry INTEGER NOT NULL REFERENCES entry(id),   -- the N-CREATE
  state INTEGER NOT NULL,            -- 0 in progress, 1 completed, 2 discontinued
  changed_ms INTEGER NOT NULL,
  json BLOB                          -- sealed
);
CREATE UNIQUE INDEX performed_step_hash ON performed_step(hash);
CREATE INDEX performed_step_entry ON performed_step(entry);
CREATE INDEX performed_step_changed ON performed_step(changed_ms);
CREATE TABLE commitment(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash INTEGER NOT NULL,             -- keyed hash of link and transaction UID
  entry INTEGER NOT NULL REFERENCES entry(id),   -- the N-ACTION
  link TEXT NOT NULL,
  state INTEGER NOT NULL,            -- 0 due, 1 reported, 2 given up
  attempts INTEGER NOT NULL DEFAULT 0,
  asked_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
  json BLOB                          -- sealed
);
CREATE INDEX commitment_hash ON commitment(hash);
CREATE INDEX commitment_entry ON commitment(entry);
CREATE INDEX commitment_due ON commitment(due_ms) WHERE state = 0;
CREATE INDEX commitment_changed ON commitment(changed_ms) WHERE state > 0;
";

/// 8: images that archives took and are to commit to keep.
const ENTRUSTED: &str = "
CREATE TABLE entrusted(
  outbox INTEGER PRIMARY KEY REFERENCES outbox(id),
  destination TEXT NOT NULL,
  state INTEGER NOT NULL,            -- 0 to be asked about, or asked; 1 committed; 2 not committed
  request INTEGER,                   -- keyed hash of the transaction UID under which it was asked about last
  sent_as INTEGER,                   -- keyed hash of the SOP Instance UID by which the archive knows it
  due_ms INTEGER NOT NULL,           -- when it is asked about, or again
  asked INTEGER NOT NULL DEFAULT 0,  -- requests since it was delivered
  failed INTEGER NOT NULL DEFAULT 0  -- reports that said it is not committed
);
CREATE INDEX entrusted_due ON entrusted(destination, due_ms) WHERE state = 0;
CREATE INDEX entrusted_request ON entrusted(request) WHERE request IS NOT NULL;
";

/// 9: every request for commitment is known as long as its images are, and how often it was asked for.
const COMMITMENTS: &str = "
CREATE TABLE asked_about(            -- an image and a request for commitment
  request INTEGER NOT NULL,          -- keyed hash of its transaction UID
  outbox INTEGER NOT NULL REFERENCES entrusted(outbox) ON DELETE CASCADE,
  sent_as INTEGER,                   -- keyed hash of the SOP Instance UID by which the archive knows it; NULL when the
                                     -- report is of no use any more
  PRIMARY KEY (request, outbox)
) WITHOUT ROWID;
CREATE INDEX asked_about_outbox ON asked_about(outbox);
INSERT INTO asked_about SELECT request, outbox, iif(asked > 0, sent_as, NULL) FROM entrusted WHERE request IS NOT NULL;
DROP INDEX entrusted_request;
ALTER TABLE entrusted DROP COLUMN request;
ALTER TABLE entrusted DROP COLUMN sent_as;
ALTER TABLE entrusted ADD COLUMN is_last INTEGER NOT NULL DEFAULT 0;  -- 1 when it was asked about for the last time
ALTER TABLE entrusted ADD COLUMN reason INTEGER;                      -- why it is not committed, as it was reported last
ALTER TABLE commitment ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;    -- grows when it is asked for again
";

/// 10: images of which a modality was told that they are safe, and who else keeps images.
const PROMISED: &str = "
ALTER TABLE instance ADD COLUMN promised INTEGER NOT NULL DEFAULT 0;  -- 1 when its modality was told that it is safe
CREATE INDEX instance_promised ON instance(entry) WHERE promised = 1;
CREATE TABLE archive(destination TEXT PRIMARY KEY) WITHOUT ROWID;     -- destinations that are archives, or were last
";

/// 11: orders that rest until the EHR says otherwise.
const ON_HOLD: &str = "
ALTER TABLE work_order ADD COLUMN on_hold INTEGER NOT NULL DEFAULT 0;  -- 1 while modalities are not told of it
";

/// 12: bookings far ahead.
const BOOKED: &str = "
ALTER TABLE work_order ADD COLUMN booked_ms INTEGER;  -- end of its last appointment, or 0; NULL until it would go
ALTER TABLE patient ADD COLUMN booked_ms INTEGER;     -- that of an order the patient is kept for
";

/// 13: what modalities were told is safe before that was noted. Which images they were is sealed, so all of them are kept
/// that may have been.
const PROMISED_BEFORE: &str = "
UPDATE instance SET promised = 1 WHERE EXISTS (SELECT 1 FROM commitment);
";

/// 14: whether what was delivered went to an archive as that was then.
const ORIGINAL: &str = "
ALTER TABLE outbox ADD COLUMN original INTEGER;  -- 1 when its destination was an archive when it took it, else 0; NULL
                                                 -- before, and in what was delivered before this was noted
";

/// 15: who asked for commitment: one link may be that of many.
const ASKERS: &str = "
ALTER TABLE commitment ADD COLUMN calling TEXT NOT NULL DEFAULT '';  -- AE title
";

/// 16: what destinations have of documents.
const CHARTED: &str = "
CREATE TABLE charted(                -- what a destination has of a line of documents by a message
  id INTEGER PRIMARY KEY REFERENCES outbox(id),
  sealed BLOB NOT NULL
);
";

/// 17: images that are not owed to their modality any more.
const LET_GO: &str = "
ALTER TABLE instance ADD COLUMN let_go TEXT;  -- why a person said that this box need not keep it, though it was promised
";

/// 18: what the box's clock was worth.
const CLOCK: &str = "
CREATE TABLE clock(
  id INTEGER PRIMARY KEY,
  first_entry INTEGER NOT NULL,     -- entries from here on, up to that of the next row, came in by this clock
  boot TEXT NOT NULL,               -- run of the machine
  base_ms INTEGER NOT NULL,         -- wall clock less the time since the machine started: another one after it was set
  quality INTEGER NOT NULL          -- 0 earlier than is known, 1 kept by nobody, 2 trusted
);
";

/// 19: what waits for a person, by destination: however much of it there is, each is found at once. Only a row that is
/// parked takes a place in it, so a result that is delivered costs what it did.
const PARKED_FOR: &str = "CREATE INDEX outbox_parked_for ON outbox(destination) WHERE state = 2;";

/// Opens the one write connection and asserts every setting that durability rests on (invariant I3).
pub(super) fn open_writer(data: &Path) -> Result<Connection, OpenError> {
    let version = rusqlite::version_number();
    if version < SQLITE_MIN {
        return Err(OpenError::Unsafe(format!("SQLite {version} is older than {SQLITE_MIN}")));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(data.join(FILE), flags)?;
    settle(&conn)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))?;
    if mode != "wal" {
        return Err(OpenError::Unsafe(format!("journal_mode is {mode}")));
    }
    for (pragma, value) in [("synchronous", 2), ("wal_autocheckpoint", 0), ("secure_delete", 1), ("foreign_keys", 1)] {
        assert_pragma(&conn, pragma, value)?;
    }
    Ok(conn)
}

/// Has SQLite beat this pulse as it works, or no more. Only when it reads its log back at the open it does not, and that is
/// not much: it is copied at 16 MiB, or as soon as a reader or a full disk lets it.
pub(super) fn beating(mut conn: Connection, progress: Option<&Pulse>) -> Result<Connection, OpenError> {
    let beats = progress.cloned().map(|pulse| {
        move || {
            pulse.beat();
            // It goes on.
            false
        }
    });
    conn.progress_handler(STEPS_PER_BEAT, beats)?;
    Ok(conn)
}

/// Opens a connection that can only read.
pub(super) fn open_reader(data: &Path) -> Result<Connection, OpenError> {
    let path = data.join(FILE);
    if !path.exists() {
        return Err(OpenError::Missing(data.to_path_buf()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    settle(&conn)?;
    let found = user_version(&conn)?;
    match found == MIGRATIONS.len() as i64 {
        true => Ok(conn),
        false if found > MIGRATIONS.len() as i64 => Err(OpenError::Newer { found, known: MIGRATIONS.len() as i64 }),
        false => Err(OpenError::Missing(data.to_path_buf())),
    }
}

/// Brings the schema up to date. A new journal gets its keys in the same transaction.
pub(super) fn migrate(conn: &mut Connection, outer: &OuterKey, now_ms: i64) -> Result<(), OpenError> {
    let found = user_version(conn)?;
    migrate_to(conn, outer, now_ms, MIGRATIONS.len())?;
    if (1..MIGRATIONS.len() as i64).contains(&found) {
        tracing::info!("the journal was of schema {found}, and is of schema {NUMBER} now");
    }
    Ok(())
}

/// True when the file holds no journal yet.
pub(super) fn is_new(conn: &Connection) -> Result<bool, OpenError> {
    Ok(user_version(conn)? == 0)
}

fn migrate_to(conn: &mut Connection, outer: &OuterKey, now_ms: i64, wanted: usize) -> Result<(), OpenError> {
    let found = user_version(conn)?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    for (number, change) in (1_i64..).zip(MIGRATIONS).take(wanted).skip(found as usize) {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(change)?;
        if number == 1 {
            Seal::create(&transaction, outer, now_ms)?;
        }
        transaction.pragma_update(None, "user_version", number)?;
        super::crash::point("migration");
        transaction.commit()?;
    }
    Ok(())
}

/// Makes a closed journal what it was under schema `number`, with the rows it has, as far as they were in that already.
#[cfg(test)]
pub(super) fn take_back_to(data: &Path, outer: &OuterKey, number: usize) -> Result<(), OpenError> {
    let later = data.join("later.db");
    std::fs::rename(data.join(FILE), &later).unwrap();
    let mut conn = open_writer(data)?;
    migrate_to(&mut conn, outer, 0, number)?;
    conn.pragma_update(None, "foreign_keys", 0)?;
    conn.execute("ATTACH ?1 AS later", [later.to_str()])?;
    let names = |sql: &str| -> Result<Vec<String>, rusqlite::Error> {
        conn.prepare(sql)?.query_map([], |r| r.get(0))?.collect()
    };
    for table in names("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name <> 'sqlite_sequence'")? {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"))?.join(", ");
        conn.execute_batch(&format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table}({columns}) SELECT {columns} FROM later.{table};"
        ))?;
    }
    Ok(())
}

fn user_version(conn: &Connection) -> Result<i64, OpenError> {
    Ok(conn.query_row("PRAGMA user_version", [], |r| r.get(0))?)
}

/// Settings that readers and the writer share.
fn settle(conn: &Connection) -> Result<(), OpenError> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it SQLite prepares a statement again whenever a bound value might suit a partial index better.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    for (pragma, value) in [("mmap_size", 0), ("temp_store", 2), ("cache_size", -CACHE_KIB)] {
        assert_pragma(conn, pragma, value)?;
    }
    Ok(())
}

/// Sets a pragma and reads it back: an unknown or refused one is silent in SQLite.
fn assert_pragma(conn: &Connection, pragma: &str, value: i64) -> Result<(), OpenError> {
    conn.pragma_update(None, pragma, value)?;
    let found: i64 = conn.pragma_query_value(None, pragma, |r| r.get(0))?;
    match found == value {
        true => Ok(()),
        false => Err(OpenError::Unsafe(format!("{pragma} is {found}, not {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;
    use crate::journal::Journal;

    fn outer(data: &Path) -> OuterKey {
        OuterKey::find(data, None, true).unwrap()
    }

    #[test]
    fn old_data_is_brought_up_to_date_and_keeps_its_rows() {
        let data = tempfile::tempdir().unwrap();
        let key = outer(data.path());
        let mut conn = open_writer(data.path()).unwrap();
        migrate_to(&mut conn, &key, 0, 1).unwrap();
        conn.execute(
            "INSERT INTO entry(id, link, received_ms, state, complete, waiting, parts, bytes)
             VALUES (1, 'chemistry', 5, 1, 1, 1, 1, 3)",
            [],
        )
        .unwrap();
        migrate(&mut conn, &key, 0).unwrap();
        let row: (String, i64) =
            conn.query_row("SELECT link, replays FROM entry", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, ("chemistry".to_string(), 0));
        assert!(Seal::load(&conn, &key).is_ok());
    }

    /// A journal of the schema before there were orders, with a report of which so many results are held.
    fn without_orders(data: &Path, key: &OuterKey, held: u32) -> Connection {
        let mut conn = open_writer(data).unwrap();
        migrate_to(&mut conn, key, 0, 3).unwrap();
        conn.execute_batch(&format!(
            "INSERT INTO entry(id, link, received_ms, state, complete, parts, bytes) VALUES (1, 'chemistry', 5, 2, 1, 1, 3);
             INSERT INTO report(id, entry, subject, content, results) VALUES (1, 1, 1, x'00', 1);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {held})
             INSERT INTO hold(report, observation, reason, state) SELECT 1, i - 1, 'unmapped-code', 1 FROM n;"
        ))
        .unwrap();
        conn
    }

    #[test]
    fn a_start_makes_progress_as_long_as_the_database_works() {
        let data = tempfile::tempdir().unwrap();
        drop(without_orders(data.path(), &outer(data.path()), 20_000));
        let progress = Pulse::default();
        let began = progress.beaten_ms();
        std::thread::sleep(std::time::Duration::from_millis(2));
        drop(Journal::open_with(data.path(), &Config::default(), &progress).unwrap());
        assert!(progress.beaten_ms() > began, "a long migration is no start that hangs");
    }

    #[test]
    fn held_results_of_a_journal_without_orders_wait_for_a_person_as_before() {
        let data = tempfile::tempdir().unwrap();
        let key = outer(data.path());
        let mut conn = without_orders(data.path(), &key, 1);
        migrate(&mut conn, &key, 0).unwrap();
        let rematch: i64 = conn.query_row("SELECT rematch FROM hold", [], |r| r.get(0)).unwrap();
        assert_eq!(rematch, 0);
        let orders: i64 = conn.query_row("SELECT count(*) FROM work_order", [], |r| r.get(0)).unwrap();
        assert_eq!(orders, 0);
    }

    #[test]
    fn entries_of_a_journal_without_images_are_messages_as_before() {
        let data = tempfile::tempdir().unwrap();
        let key = outer(data.path());
        let mut conn = open_writer(data.path()).unwrap();
        migrate_to(&mut conn, &key, 0, 5).unwrap();
        conn.execute_batch(
            "INSERT INTO entry(id, link, received_ms, state, complete, parts, bytes) VALUES (1, 'chemistry', 5, 2, 1, 1, 3);",
        )
        .unwrap();
        migrate(&mut conn, &key, 0).unwrap();
        let images: i64 = conn
            .query_row("SELECT count(*) FROM entry JOIN instance ON instance.entry = entry.id", [], |r| r.get(0))
            .unwrap();
        assert_eq!(images, 0);
        assert!(
            conn.execute(
                "INSERT INTO instance(entry, spool, header, sop_class, transfer_syntax, calling, called, sealed)
                              VALUES (2, 'x', 0, '', '', '', '', x'00')",
                []
            )
            .is_err(),
            "no instance without its entry"
        );
    }

    #[test]
    fn i7_what_was_told_and_asked_before_it_was_noted_is_kept_and_known() {
        for was_told in [true, false] {
            let data = tempfile::tempdir().unwrap();
            let key = outer(data.path());
            let mut conn = open_writer(data.path()).unwrap();
            migrate_to(&mut conn, &key, 0, 8).unwrap();
            conn.execute_batch(
                "INSERT INTO entry(id, link, received_ms, state, complete, parts, bytes)
                 VALUES (1, 'echo', 5, 2, 1, 0, 3), (2, 'echo', 6, 2, 1, 1, 3);
                 INSERT INTO instance(entry, spool, header, sop_class, transfer_syntax, calling, called, sealed)
                 VALUES (1, 'x', 0, '', '', '', '', x'00');
                 INSERT INTO report(id, entry, subject, content, results) VALUES (1, 1, 1, x'00', 1);
                 INSERT INTO dispatch(id, report, day, results, pending) VALUES (1, 1, 0, 1, 0);
                 INSERT INTO outbox(id, dispatch, destination, lane, state, message_id, results, received_ms, queued_ms)
                 VALUES (1, 1, 'pacs', 1, 1, '1', 1, 5, 5), (2, 1, 'other', 1, 1, '1', 1, 5, 5);
                 INSERT INTO entrusted(outbox, destination, state, request, sent_as, due_ms, asked)
                 VALUES (1, 'pacs', 0, 7, 8, 9, 1), (2, 'other', 0, 7, 8, 9, 0);",
            )
            .unwrap();
            if was_told {
                conn.execute(
                    "INSERT INTO commitment(hash, entry, link, state, asked_ms, due_ms, changed_ms)
                     VALUES (1, 2, 'echo', 1, 6, 6, 6)",
                    [],
                )
                .unwrap();
            }
            migrate(&mut conn, &key, 0).unwrap();
            let promised: bool = conn.query_row("SELECT promised FROM instance", [], |r| r.get(0)).unwrap();
            assert_eq!(promised, was_told);
            let mut statement =
                conn.prepare("SELECT outbox, request, sent_as FROM asked_about ORDER BY outbox").unwrap();
            let asked: Vec<(i64, i64, Option<i64>)> = statement
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(asked, [(1, 7, Some(8)), (2, 7, None)]);
            let open: i64 = conn
                .query_row("SELECT count(*) FROM entrusted WHERE state = 0 AND is_last = 0", [], |r| r.get(0))
                .unwrap();
            assert_eq!(open, 2, "they are asked about as before");
        }
    }

    #[test]
    fn newer_data_is_refused_by_an_old_program() {
        let data = tempfile::tempdir().unwrap();
        let key = outer(data.path());
        let mut conn = open_writer(data.path()).unwrap();
        migrate(&mut conn, &key, 0).unwrap();
        conn.pragma_update(None, "user_version", MIGRATIONS.len() as i64 + 1).unwrap();
        assert!(matches!(migrate(&mut conn, &key, 0), Err(OpenError::Newer { .. })));
        assert!(matches!(open_reader(data.path()), Err(OpenError::Newer { .. })));
    }

    #[test]
    fn i3_a_connection_is_full_sync_and_never_checkpoints_by_itself() {
        let data = tempfile::tempdir().unwrap();
        let conn = open_writer(data.path()).unwrap();
        let read = |pragma: &str| conn.pragma_query_value(None, pragma, |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!((read("synchronous"), read("wal_autocheckpoint"), read("mmap_size")), (2, 0, 0));
    }
}
