//! The docket: the commands this box has taken, and what became of each. It is kept in `fleet.db`, so that a command is
//! run at most once whatever happens in between, and its result is said until the broker has it.
//!
//! ```text
//! broker -> signed? for me? in time? new? -> COMMIT (accepted) -> PUBACK
//!        -> COMMIT (running) -> run -> COMMIT (how it ended, and the event that says so) -> PUBACK of the event
//! ```
//!
//! A factory reset leaves nobody who could answer for it, so its answer goes first, and nothing is erased before the broker
//! has that:
//!
//! ```text
//! running -> COMMIT (leaving, and the event that says so) -> PUBACK of the event -> the process ends
//!         -> next start, before anything else: counted again, begun, erased ([`crate::reset`])
//! ```
//!
//! A start that did not reset, because something came in meanwhile, says that the command failed.
//!
//! One runs at a time, in the order in which they came, and a capture beside it. After a crash [`command::resume`] says what becomes of one that
//! was under way.

use super::admission::Admission;
use super::command::{self, Command, Kind, Known, Me, Next, Operation, Phase, Refusal, Verdict};
use super::envelope::{Operator, Purpose};
use super::outlives::Outlives;
use super::store::{self, Store, StoreError};
use super::telemetry::{Digest, Document, Event, Failure, Id, Outcome, Stamp, What, Word};
use super::topic::Place;
use crate::clock::Quality;
use crate::journal::{Undelivered, crash};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction};
use std::path::Path;

/// The docket's tables, a migration of [`store`].
pub(super) const TABLES: &str = "
CREATE TABLE command(
  n INTEGER PRIMARY KEY,             -- in the order in which they came
  id TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL,              -- SHA-256 of the document
  document BLOB NOT NULL,
  phase TEXT NOT NULL,
  epoch INTEGER NOT NULL,            -- which run of the program last changed it
  result BLOB,                       -- the event that says how it ended
  ended_ms INTEGER
);
CREATE INDEX command_open ON command(n) WHERE ended_ms IS NULL;
CREATE INDEX command_ended ON command(ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE issuer(kid TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;";

/// Commands that are not finished, at most. Their results have room in the outbox beyond its bound.
const OPEN_MAX: u64 = 32;
/// A command that ended is remembered for this long. Afterwards its issuer's number keeps it from being run again.
const REMEMBERED_MS: i64 = 30 * 24 * 3600 * 1000;

/// See the module docs.
pub(super) struct Docket {
    admission: Admission,
    place: Place,
    epoch: u64,
    /// The one that this process runs now.
    in_hand: Option<Id>,
    /// A capture that runs beside it.
    beside: Option<Id>,
    /// It is one that ends what this box is, and waits until the broker has its answer.
    is_leaving: bool,
    /// See [`Known::reset`].
    reset: Option<Timestamp>,
    /// Commands for others, others under an id that is known, and what this version cannot read, since start: nothing is
    /// kept of them.
    astray: u64,
}

/// A command that is to be run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    /// Which.
    pub id: Id,
    /// What to do.
    pub operation: Operation,
}

/// A command that has not ended.
struct Open {
    id: Id,
    command: Command,
    digest: Digest,
    phase: Phase,
    /// Which run of the program last changed it.
    epoch: u64,
}

impl Docket {
    /// The docket of the box at `place`, in this run of the program.
    pub fn new(operators: &[Operator], place: &Place, epoch: u64, outlives: Outlives) -> Docket {
        let admission = Admission::new(operators, Purpose::Command, |count| What::UnsignedCommands { count });
        let reset = outlives.reset();
        let (in_hand, beside, is_leaving, astray) = (None, None, false, 0);
        Docket { admission, place: place.clone(), epoch, in_hand, beside, is_leaving, reset, astray }
    }

    /// Something came as a command. When this returns, it may be acknowledged to the broker: it is kept, or it is
    /// answered, or nobody who may had signed it.
    ///
    /// # Errors
    /// [`StoreError`]: it is not kept and must come again.
    pub fn take(&mut self, store: &mut Store, payload: &[u8], stamp: Stamp) -> Result<(), StoreError> {
        let Some(signed) = self.admission.open(store, payload, stamp)? else { return Ok(()) };
        let digest = Digest::of(&signed.document);
        let read = command::read(&signed);
        let place = &self.place;
        let (epoch, reset, events_max) = (self.epoch, self.reset, store.events_max());
        let mut astray = self.astray;
        let mut refuse = |tx: &Transaction<'_>, command: Option<&Command>, why: Refusal| {
            let is_astray = command.is_none() || matches!(why, Refusal::NotMine | Refusal::OtherContent);
            astray += u64::from(is_astray);
            // Whoever sends them again and again fills neither the log nor the outbox.
            if is_astray && !astray.is_power_of_two() {
                return Ok(true);
            }
            tracing::warn!(event = "command-refused", "fleet: a command is not obeyed: {why}");
            let what = What::Command {
                command: command.and_then(|command| command.id.parse().ok()),
                document: digest,
                op: command.map(|command| Word::new(command.operation.word())),
                phase: Word::new("refused"),
                why: Some(why),
                outcome: None,
            };
            let event = Event { id: Id::make(), stamp, what };
            // What was refused stays refused, also when it comes again and the reason is gone.
            if let Some(command) = command.filter(|_| !is_astray) {
                refused(tx, command, &signed.document, digest, &event, epoch)?;
            }
            Ok(store::put(tx, &event, events_max)?.is_in)
        };
        let is_kept = store.change(|tx| {
            forget(tx, stamp)?;
            let command = match read {
                Ok(command) => command,
                Err(why) => return refuse(tx, None, why),
            };
            let me = Me { tenant: place.tenant(), gateway: place.gateway() };
            let known = Known { reset, ..known(tx, &command)? };
            match command::judge(&command, &signed, me, &known, trusted(stamp)) {
                // What cannot be answered is not taken: it comes again.
                Err(_) if store::count(tx)? >= events_max => Ok(false),
                Err(why) => refuse(tx, Some(&command), why),
                Ok(Verdict::Repeat) => say_again(tx, &command.id, stamp).map(|()| true),
                // Where not even its result would find room, nothing is begun.
                Ok(Verdict::Accept) if store::count(tx)? >= events_max => Ok(false),
                Ok(Verdict::Accept) => accept(tx, &command, &signed.document, digest, epoch).map(|()| true),
            }
        })?;
        crash::point("fleet-command-kept");
        if !is_kept {
            return Err(StoreError::Full);
        }
        self.astray = astray;
        Ok(())
    }

    /// The command to run now, if any; those that are over without being run are settled on the way.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was begun.
    pub fn next(&mut self, store: &mut Store, stamp: Stamp) -> Result<Option<Work>, StoreError> {
        while self.in_hand.is_none() {
            self.end_unreadable(store, stamp)?;
            let beside = self.beside;
            let Some(open) = store.change(|tx| oldest_open(tx, beside))? else { return Ok(None) };
            if open.phase == Phase::Leaving {
                if store.change(|tx| is_told(tx, open.id))? {
                    // This start would have reset the box, and did not.
                    let failure = Failure::NotReset;
                    self.end(store, &open, Phase::Failed, Some(Outcome::Failed { failure }), stamp)?;
                } else {
                    (self.in_hand, self.is_leaving) = (Some(open.id), true);
                }
                continue;
            }
            match command::resume(&open.command, open.phase, open.epoch == self.epoch, trusted(stamp)) {
                Next::End(phase) => self.end(store, &open, phase, None, stamp)?,
                // Those behind it do not wait for minutes.
                Next::Run(_) if open.command.operation.is_capture() && beside.is_some() => {
                    self.end(store, &open, Phase::Failed, Some(Outcome::Failed { failure: Failure::Busy }), stamp)?;
                }
                Next::Run(phase) => {
                    let (id, epoch) = (open.id, self.epoch);
                    store.change(|tx| set_phase(tx, id, phase, epoch))?;
                    crash::point("fleet-command-running");
                    let issuer = &open.command.issuer;
                    let word = open.command.operation.word();
                    tracing::info!(event = "command", %id, issuer, "fleet: command {word}");
                    match open.command.operation.is_capture() {
                        true => self.beside = Some(id),
                        false => self.in_hand = Some(id),
                    }
                    return Ok(Some(Work { id, operation: open.command.operation }));
                }
            }
        }
        Ok(None)
    }

    /// Settles commands that this version cannot read, which another one took: those behind them must not wait for ever.
    fn end_unreadable(&self, store: &mut Store, stamp: Stamp) -> Result<(), StoreError> {
        let (epoch, events_max) = (self.epoch, store.events_max() + OPEN_MAX);
        store.change(|tx| {
            for (id, digest) in unreadable(tx)? {
                tracing::error!(event = "fleet-trouble", %id, "fleet: a command that this version cannot read has failed");
                let what = What::Command {
                    command: Some(id),
                    document: digest,
                    op: None,
                    phase: Word::new(Phase::Failed.word()),
                    why: Some(Refusal::Unknown),
                    outcome: None,
                };
                let event = Event { id: Id::make(), stamp, what };
                set_phase(tx, id, Phase::Failed, epoch)?;
                settle(tx, id, &event, stamp.at.as_ms())?;
                store::put(tx, &event, events_max)?;
            }
            Ok(())
        })
    }

    /// The command in hand has ended so.
    ///
    /// # Errors
    /// [`StoreError`]: it has not, and this is to be said again.
    pub fn ended(&mut self, store: &mut Store, id: Id, outcome: Outcome, stamp: Stamp) -> Result<(), StoreError> {
        crash::point("fleet-command-run");
        let Some(open) = store.change(|tx| open_of(tx, id))? else { return Ok(()) };
        if let Outcome::Resets { .. } = outcome {
            return self.leave(store, &open, outcome, stamp);
        }
        // A restart ends with the process; the next one says that it is done.
        if open.command.operation.kind() == Kind::Reboot && !outcome.is_failure() {
            return Ok(());
        }
        let phase = if outcome.is_failure() { Phase::Failed } else { Phase::Done };
        self.end(store, &open, phase, Some(outcome), stamp)
    }

    /// Says that the box will be reset; it is not before the broker has that.
    fn leave(&mut self, store: &mut Store, open: &Open, outcome: Outcome, stamp: Stamp) -> Result<(), StoreError> {
        let event = said(open, Phase::Leaving, Some(outcome), stamp);
        let (epoch, events_max) = (self.epoch, store.events_max() + OPEN_MAX);
        let put = store.change(|tx| {
            let put = store::put(tx, &event, events_max)?;
            if put.is_in {
                set_phase(tx, open.id, Phase::Leaving, epoch)?;
                tx.prepare_cached("UPDATE command SET result = ?2 WHERE id = ?1")?
                    .execute((open.id.to_string(), Document::of(&event).bytes()))?;
            }
            Ok(put)
        })?;
        crash::point("fleet-command-leaving");
        self.is_leaving = put.is_in;
        if put.is_in { Ok(()) } else { Err(StoreError::Full) }
    }

    /// True once the broker has the answer of a command that ends what this box is: the process shall end. One whose time
    /// is over before that is not done any more.
    ///
    /// # Errors
    /// [`StoreError`]: not yet.
    pub fn has_left(&mut self, store: &mut Store, stamp: Stamp) -> Result<bool, StoreError> {
        let Some(id) = self.in_hand.filter(|_| self.is_leaving) else { return Ok(false) };
        let Some(open) = store.change(|tx| open_of(tx, id))? else { return Ok(false) };
        if store.change(|tx| is_told(tx, id))? {
            self.is_leaving = false;
            crash::point("fleet-command-left");
            return Ok(true);
        }
        if trusted(stamp).is_none_or(|now| command::has_expired(&open.command, now)) {
            self.is_leaving = false;
            self.end(store, &open, Phase::Expired, None, stamp)?;
        }
        Ok(false)
    }

    /// Settles a command and says so, in one commit.
    fn end(
        &mut self,
        store: &mut Store,
        open: &Open,
        phase: Phase,
        outcome: Option<Outcome>,
        stamp: Stamp,
    ) -> Result<(), StoreError> {
        let event = said(open, phase, outcome, stamp);
        let (epoch, events_max) = (self.epoch, store.events_max() + OPEN_MAX);
        let put = store.change(|tx| {
            set_phase(tx, open.id, phase, epoch)?;
            settle(tx, open.id, &event, ended_ms(&open.command, stamp))?;
            store::put(tx, &event, events_max)
        })?;
        if !put.is_in {
            tracing::error!(event = "fleet-trouble", "fleet: a result found no room");
        }
        crash::point("fleet-command-ended");
        for running in [&mut self.in_hand, &mut self.beside] {
            running.take_if(|id| *id == open.id);
        }
        Ok(())
    }
}

/// What a factory reset throws away that the broker knows of, where the program ended for it: this start does it before
/// anything else. `None` too where the file cannot be read: nothing is erased then.
pub fn resets(data: &Path) -> Option<Undelivered> {
    let mut store = Store::peek(data)?;
    let said: serde_json::Value = serde_json::from_slice(&store.change(left).ok()??).ok()?;
    serde_json::from_value(said["outcome"].clone()).ok()
}

/// What a command said that is leaving, where the broker has that. A capture that ran beside it may be older.
fn left(tx: &Transaction<'_>) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT result FROM command WHERE phase = ?1 AND ended_ms IS NULL AND result IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM event WHERE body = result) ORDER BY n LIMIT 1";
    tx.prepare_cached(sql)?.query_row([Phase::Leaving.word()], |row| row.get(0)).optional()
}

/// The latest moment from which a command counts that this box took, by the clock of whoever signed it.
pub(super) fn latest(tx: &Transaction<'_>) -> rusqlite::Result<Option<Timestamp>> {
    let mut statement = tx.prepare_cached("SELECT document FROM command WHERE phase <> 'refused'")?;
    let mut rows = statement.query([])?;
    let mut latest = None;
    while let Some(row) = rows.next()? {
        let command: Option<Command> = serde_json::from_slice(&row.get::<_, Vec<u8>>(0)?).ok();
        latest = latest.max(command.map(|command| command.not_before));
    }
    Ok(latest)
}

/// The event that says where a command stands.
fn said(open: &Open, phase: Phase, outcome: Option<Outcome>, stamp: Stamp) -> Event {
    let what = What::Command {
        command: Some(open.id),
        document: open.digest,
        op: Some(Word::new(open.command.operation.word())),
        phase: Word::new(phase.word()),
        why: None,
        outcome,
    };
    Event { id: Id::make(), stamp, what }
}

/// Whether the broker has what a command said last.
fn is_told(tx: &Transaction<'_>, id: Id) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM event e JOIN command c ON e.body = c.result WHERE c.id = ?1)";
    tx.prepare_cached(sql)?.query_row([id.to_string()], |row| row.get(0))
}

/// The clock's reading, when it is worth something.
fn trusted(stamp: Stamp) -> Option<Timestamp> {
    (stamp.clock == Quality::Trusted).then(|| stamp.at.timestamp())
}

/// What is known of a command and its issuer.
fn known(tx: &Transaction<'_>, command: &Command) -> rusqlite::Result<Known> {
    let digest = tx
        .prepare_cached("SELECT digest FROM command WHERE id = ?1")?
        .query_row([&command.id], |r| r.get::<_, [u8; 32]>(0))
        .optional()?;
    let last_seq = tx
        .prepare_cached("SELECT seq FROM issuer WHERE kid = ?1")?
        .query_row([&command.issuer], |r| r.get::<_, i64>(0))
        .optional()?;
    let open: i64 =
        tx.prepare_cached("SELECT count(*) FROM command WHERE ended_ms IS NULL")?.query_row([], |r| r.get(0))?;
    Ok(Known { digest, last_seq: last_seq.map(|seq| seq as u64), reset: None, full: open >= OPEN_MAX as i64 })
}

fn accept(
    tx: &Transaction<'_>,
    command: &Command,
    document: &[u8],
    digest: Digest,
    epoch: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO command(id, digest, document, phase, epoch) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((&command.id, digest.bytes(), document, Phase::Accepted.word(), epoch as i64))?;
    tx.prepare_cached("INSERT INTO issuer VALUES (?1, ?2) ON CONFLICT(kid) DO UPDATE SET seq = excluded.seq")?
        .execute((&command.issuer, command.seq as i64))?;
    Ok(())
}

/// Keeps a command that was refused, so that it is answered the same ever after.
fn refused(
    tx: &Transaction<'_>,
    command: &Command,
    document: &[u8],
    digest: Digest,
    event: &Event,
    epoch: u64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO command(id, digest, document, phase, epoch, result, ended_ms)
               VALUES (?1, ?2, ?3, 'refused', ?4, ?5, ?6)";
    let (result, ended_ms) = (Document::of(event), ended_ms(command, event.stamp));
    tx.prepare_cached(sql)?
        .execute((&command.id, digest.bytes(), document, epoch as i64, result.bytes(), ended_ms))
        .map(drop)
}

/// It ended then, and this event says how.
fn settle(tx: &Transaction<'_>, id: Id, event: &Event, ended_ms: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE command SET result = ?2, ended_ms = ?3 WHERE id = ?1")?
        .execute((id.to_string(), Document::of(event).bytes(), ended_ms))
        .map(drop)
}

/// From when on it counts how long ago it ended: not before it could not come again, whatever the clock says.
fn ended_ms(command: &Command, stamp: Stamp) -> i64 {
    stamp.at.as_ms().max(command.expires.as_millisecond())
}

/// Puts the event that said how a command ended into the outbox once more, as it was.
fn say_again(tx: &Transaction<'_>, id: &str, stamp: Stamp) -> rusqlite::Result<()> {
    let result: Option<Vec<u8>> = tx
        .prepare_cached("SELECT result FROM command WHERE id = ?1")?
        .query_row([id], |r| r.get(0))
        .optional()?
        .flatten();
    match result {
        Some(result) => store::put_again(tx, stamp, &Document::stored(result)),
        // It says how it ended when it has.
        None => Ok(()),
    }
}

/// The oldest that has not ended, but for one that runs.
fn oldest_open(tx: &Transaction<'_>, but: Option<Id>) -> rusqlite::Result<Option<Open>> {
    // Ids of UUIDv7 sort by time, but the desk makes them: the order in which they came is that of the rows.
    tx.prepare_cached(
        "SELECT id, digest, document, phase, epoch FROM command WHERE ended_ms IS NULL AND id <> ?1 ORDER BY n LIMIT 1",
    )?
    .query_row([but.map(|id| id.to_string()).unwrap_or_default()], open)
    .optional()
}

fn open_of(tx: &Transaction<'_>, id: Id) -> rusqlite::Result<Option<Open>> {
    tx.prepare_cached("SELECT id, digest, document, phase, epoch FROM command WHERE id = ?1 AND ended_ms IS NULL")?
        .query_row([id.to_string()], open)
        .optional()
}

/// Those that have not ended and that this version cannot read.
fn unreadable(tx: &Transaction<'_>) -> rusqlite::Result<Vec<(Id, Digest)>> {
    let sql = "SELECT id, digest, document, phase, epoch FROM command WHERE ended_ms IS NULL ORDER BY n";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        if open(row).is_err()
            && let Ok(id) = row.get::<_, String>(0)?.parse()
        {
            all.push((id, Digest::stored(row.get(1)?)));
        }
    }
    Ok(all)
}

/// A row. It was written from a command that had been read: one that cannot be read any more is a damaged file.
fn open(row: &rusqlite::Row<'_>) -> rusqlite::Result<Open> {
    let damaged =
        |column: usize| rusqlite::Error::InvalidColumnType(column, "command".into(), rusqlite::types::Type::Blob);
    Ok(Open {
        id: row.get::<_, String>(0)?.parse().map_err(|_| damaged(0))?,
        digest: Digest::stored(row.get(1)?),
        command: serde_json::from_slice(&row.get::<_, Vec<u8>>(2)?).map_err(|_| damaged(2))?,
        phase: Phase::of(&row.get::<_, String>(3)?).ok_or_else(|| damaged(3))?,
        epoch: row.get::<_, i64>(4)? as u64,
    })
}

fn set_phase(tx: &Transaction<'_>, id: Id, phase: Phase, epoch: u64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE command SET phase = ?2, epoch = ?3 WHERE id = ?1")?
        .execute((id.to_string(), phase.word(), epoch as i64))
        .map(drop)
}

/// Forgets what ended long ago. Only a clock that is trusted can tell.
fn forget(tx: &Transaction<'_>, stamp: Stamp) -> rusqlite::Result<()> {
    if stamp.clock != Quality::Trusted {
        return Ok(());
    }
    tx.prepare_cached("DELETE FROM command WHERE ended_ms < ?1")?.execute([stamp.at.as_ms() - REMEMBERED_MS]).map(drop)
}

#[cfg(test)]
mod tests;
