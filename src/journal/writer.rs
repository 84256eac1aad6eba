//! The writer thread: the one write connection, group commit, and what happens when storage fails.
//!
//! **Group commit.** The thread runs a group of commands in one transaction and answers all of it after the commit.
//! Which commands make a group, and whether it is worth waiting for more, is decided in `queue.rs`. They run as they
//! come, so that only the commit itself is left to do when the group is complete.
//!
//! **A commit that returns an error was not made.** The kernel may have thrown away the dirty pages and will report
//! the next fsync as fine, so nothing is retried on trust. The transaction is rolled back on the same connection,
//! which makes SQLite write the same frames of the log again rather than append to doubtful ones; then a truncating
//! checkpoint copies everything that was committed into the database file, syncs it and empties the log; then the
//! connection is closed and opened again from the file. Only when all that has worked is anything acknowledged again.
//! Meanwhile every request is refused at once, so that instruments hear a NAK and not silence.

use super::config::Config;
use super::crash;
use super::desk::{Desk, Memory};
use super::error::{JournalError, OpenError};
use super::inbox::Inbox;
use super::log::{Log, checkpoint};
use super::queue::{Next, Queue};
use super::retention::Sweep;
use super::schema;
use super::seal::Seal;
use super::signals::{Condition, Signals};
use super::space::{Level, Space};
use super::spool::Spool;
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without commands for this long, the log is copied into the database file.
const IDLE_BEFORE_CHECKPOINT: Duration = Duration::from_millis(200);
/// Without commands for this long, a log file that should be shorter is cut.
const IDLE_BEFORE_CUT: Duration = Duration::from_secs(30);
/// A lone link that was answered sends its next frame within this time, or takes a pause.
const LINGER: Duration = Duration::from_micros(200);
/// How late the thread may be woken, in nanoseconds: its waits are fractions of a millisecond, and the kernel would add
/// 50 us to each.
const TIMER_SLACK_NS: libc::c_ulong = 1_000;
/// On a slow disk the log waits for a pause of so many commits' time before it is copied.
const IDLE_COMMITS: u32 = 8;
/// A busy thread still does its chores this often.
const CHORES_EVERY: Duration = Duration::from_secs(2);
/// The same while space is short: retention and copying the log are what makes room.
const CHORES_WHEN_SHORT: Duration = Duration::from_millis(100);
/// First and longest pause between attempts to recover.
const RECOVERY_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A request to the writer. Implemented by [`Request`] only.
pub(super) trait Command: Send {
    /// Does the work inside the open transaction. May be called again after a rollback.
    fn perform(&mut self, desk: &mut Desk<'_>) -> Result<(), JournalError>;
    /// Answers, once the fate of the transaction is known.
    fn answer(self: Box<Self>, committed: Result<(), JournalError>);
    /// Bytes of new data it brings.
    fn bytes(&self) -> usize;
    /// What it is allowed to do.
    fn kind(&self) -> Kind;
}

/// How a command is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes new data in: refused when the disk is full. Only refuses before it writes, so it needs no savepoint.
    Custody,
    /// Ends a session: keeps its place among what that session brought.
    Ending,
    /// Works on what is there.
    Work,
    /// Work that may use the reserve when the disk is full, because it makes room or is a person's order.
    Draining,
}

impl Kind {
    fn may_use_reserve(self) -> bool {
        matches!(self, Kind::Ending | Kind::Draining)
    }
}

/// A closure with a place for its outcome and someone to tell it to.
pub(super) struct Request<T, F, R> {
    pub kind: Kind,
    pub bytes: usize,
    pub work: F,
    pub outcome: Option<Result<T, JournalError>>,
    pub reply: R,
}

impl<T, F, R> Command for Request<T, F, R>
where
    T: Send,
    F: FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send,
    R: FnOnce(Result<T, JournalError>) + Send,
{
    fn perform(&mut self, desk: &mut Desk<'_>) -> Result<(), JournalError> {
        let outcome = (self.work)(desk);
        let told = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        told
    }

    fn answer(self: Box<Self>, committed: Result<(), JournalError>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(JournalError::Closed),
            (Err(error), _) => Err(error),
        };
        (self.reply)(outcome);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn kind(&self) -> Kind {
        self.kind
    }
}

/// What the writer is told.
pub(super) enum Message {
    /// Do this.
    Command(Box<dyn Command>),
    /// Take nothing into custody any more; commit, copy the log, and say whether all of it is in the database.
    EndCustody(std::sync::mpsc::SyncSender<bool>),
    /// Finish, checkpoint, stop; and say so, if somebody waits.
    Close(Option<std::sync::mpsc::SyncSender<()>>),
}

impl Message {
    /// What kind of command it is, if it is one.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Message::Command(command) => Some(command.kind()),
            Message::EndCustody(_) | Message::Close(_) => None,
        }
    }
}

/// The state of the writer thread.
pub(super) struct Writer {
    data: PathBuf,
    conn: Option<Connection>,
    seal: Arc<Seal>,
    memory: Memory,
    space: Space,
    spool: Spool,
    sweep: Sweep,
    signals: Arc<Signals>,
    failed: Option<Failed>,
    queue: Queue,
    /// What ran in the open transaction.
    group: Vec<Box<dyn Command>>,
    /// Nothing is taken into custody any more.
    ended: bool,
    /// Who waits for the log to be copied because of that.
    enders: Vec<std::sync::mpsc::SyncSender<bool>>,
    /// Told to close. What is queued is still done.
    closing: bool,
    /// Who waits for that.
    closers: Vec<std::sync::mpsc::SyncSender<()>>,
    /// How long the disk took for the last commit.
    commit_took: Duration,
    log: Log,
    chores_at: Instant,
    /// Held for the life of the thread: one process per data directory.
    _lock: File,
}

/// What the writer has on disk.
pub(super) struct Store {
    pub conn: Connection,
    pub spool: Spool,
    pub lock: File,
}

/// Since when, and until when, nothing is tried.
struct Failed {
    since: Instant,
    pause: Duration,
    retry_at: Instant,
}

impl Writer {
    pub(super) fn new(
        data: &Path,
        config: &Config,
        store: Store,
        seal: Arc<Seal>,
        memory: Memory,
        signals: Arc<Signals>,
    ) -> Self {
        let Store { conn, spool, lock } = store;
        Writer {
            data: data.to_path_buf(),
            conn: Some(conn),
            seal,
            memory,
            space: Space::new(data, config, spool.clone()),
            spool,
            sweep: Sweep::new(config),
            signals,
            failed: None,
            queue: Queue::default(),
            group: Vec::new(),
            ended: false,
            enders: Vec::new(),
            closing: false,
            closers: Vec::new(),
            commit_took: Duration::ZERO,
            log: Log::new(data),
            chores_at: Instant::now(),
            _lock: lock,
        }
    }

    /// Serves until it is told to close.
    pub(super) fn run(mut self, inbox: &Inbox) {
        // SAFETY: changes only how punctually this thread's own timers fire. A refusal changes nothing.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) };
        let open = inbox.open();
        self.space.keep_reserve();
        self.level();
        self.conn.iter_mut().for_each(|conn| self.log.watch(conn));
        let mut idle_since = Instant::now();
        loop {
            self.signals.pulse.beat();
            self.take_in(inbox);
            self.end_custody();
            self.recover_when_due();
            let now = Instant::now();
            let next = match self.queue.next(now) {
                // Nobody else is heard any more.
                Next::Wait { .. } if self.closing => Next::Commit,
                next => next,
            };
            match next {
                Next::Perform(command) => {
                    self.perform(command);
                    continue;
                }
                Next::Wait { custody, until } => {
                    // Half of them first: their rows are written while the other half is on its way.
                    inbox.wait(custody.div_ceil(2), until.saturating_duration_since(now));
                    continue;
                }
                Next::Commit => {
                    self.commit();
                    self.take_in(inbox);
                    idle_since = Instant::now();
                    self.queue.committed(self.commit_took, idle_since);
                }
                Next::Nothing if self.closing => {
                    self.close();
                    return drop(open);
                }
                Next::Nothing if self.queue.is_alone() && inbox.linger(idle_since + LINGER) => {}
                Next::Nothing => {
                    if !inbox.wait(1, self.next_wait(idle_since)) {
                        self.idle(idle_since);
                    }
                }
            }
            let short = self.log.has_no_room() || self.signals.condition() != Condition::Good;
            let every = if short { CHORES_WHEN_SHORT } else { CHORES_EVERY };
            if self.group.is_empty() && self.chores_at.elapsed() >= every {
                self.chores();
            }
        }
    }

    /// Queues everything that came.
    fn take_in(&mut self, inbox: &Inbox) {
        if self.closing {
            return;
        }
        let now = Instant::now();
        for message in inbox.take() {
            match message {
                Message::Command(command) => self.queue.push(command, now),
                Message::EndCustody(reply) => {
                    self.ended = true;
                    self.enders.push(reply);
                }
                Message::Close(reply) => {
                    self.closing = true;
                    self.closers.extend(reply);
                }
            }
        }
    }

    /// The box has seconds left: before anything else that waits, what is in the open transaction is committed and
    /// answered, and the log copied, so that the next start is short.
    fn end_custody(&mut self) {
        if self.enders.is_empty() {
            return;
        }
        self.commit();
        self.queue.committed(self.commit_took, Instant::now());
        self.tidy_log("TRUNCATE");
        let is_copied = self.conn.is_some() && self.log.copy_due().is_none();
        for ender in self.enders.drain(..) {
            let _ = ender.send(is_copied);
        }
    }

    /// Runs a command in the open transaction; it is answered when that has ended.
    fn perform(&mut self, mut command: Box<dyn Command>) {
        if self.failed.is_some() {
            return command.answer(Err(JournalError::Storage("the storage is being recovered".to_string())));
        }
        if self.ended && command.kind() == Kind::Custody {
            return command.answer(Err(JournalError::Closed));
        }
        if !self.admits(command.kind()) {
            return command.answer(Err(JournalError::Full));
        }
        let performed = self.attempt(&mut *command, self.group.is_empty());
        self.group.push(command);
        if let Err(error) = performed {
            self.give_up(&error);
        }
    }

    /// A log that cannot be copied for want of room must not grow: only what makes room may still add to it.
    fn admits(&mut self, kind: Kind) -> bool {
        match (self.log.has_no_room(), kind) {
            (true, kind) => kind.may_use_reserve(),
            (false, Kind::Custody) => self.level() != Level::Full,
            (false, _) => true,
        }
    }

    /// Runs a command in the transaction, which the first of a group begins. A command that fails by itself takes only
    /// its own changes back; an error means that the whole transaction is lost.
    fn attempt(&mut self, command: &mut dyn Command, is_first: bool) -> Result<(), JournalError> {
        let conn = self.conn.as_ref().ok_or(JournalError::Closed)?;
        // By our own count, not by SQLite's state: a transaction that should not be there, or is gone, is an error.
        match is_first {
            true => step(conn, "BEGIN IMMEDIATE")?,
            false if conn.is_autocommit() => return Err(JournalError::Storage("the transaction is gone".to_string())),
            false => {}
        }
        let mut desk = Desk::now(conn, &self.seal, &mut self.memory);
        if command.kind() == Kind::Custody {
            return match command.perform(&mut desk) {
                Ok(()) | Err(JournalError::Refused(_)) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let mark = desk.memory.mark();
        step(conn, "SAVEPOINT command")?;
        match command.perform(&mut desk) {
            Ok(()) => step(conn, "RELEASE command"),
            Err(error @ (JournalError::Full | JournalError::Storage(_))) => Err(error),
            Err(_) => {
                step(conn, "ROLLBACK TO command")?;
                step(conn, "RELEASE command")?;
                desk.memory.undo_to(mark);
                Ok(())
            }
        }
    }

    /// Commits what ran and answers it.
    fn commit(&mut self) {
        if self.group.is_empty() {
            return;
        }
        match self.sync() {
            Ok(()) => {
                accept(std::mem::take(&mut self.group));
                self.cap_log();
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// The commit itself, that is, the fsync.
    fn sync(&mut self) -> Result<(), JournalError> {
        let conn = self.conn.as_ref().ok_or(JournalError::Closed)?;
        crash::point("before-commit");
        let began = Instant::now();
        step(conn, "COMMIT")?;
        self.commit_took = began.elapsed();
        crash::point("after-commit");
        self.log.written();
        self.signals.wake(self.memory.committed());
        Ok(())
    }

    /// The transaction failed: nothing of it is kept, in the database or in memory, and its commands are told. When
    /// the disk is full, what makes room is tried again with the room that was held back for it.
    fn give_up(&mut self, error: &JournalError) {
        self.take_back();
        let group = std::mem::take(&mut self.group);
        if *error != JournalError::Full {
            self.fail(error);
            return refuse(group, error);
        }
        self.space.look_again();
        let (mut draining, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|c| c.kind().may_use_reserve());
        refuse(rest, error);
        if draining.is_empty() {
            return;
        }
        self.space.release_reserve();
        let again = draining.iter_mut().enumerate().try_for_each(|(at, c)| self.attempt(&mut **c, at == 0));
        let settled = again.and_then(|()| self.sync());
        match settled {
            Ok(()) => accept(draining),
            Err(error) => {
                self.take_back();
                if error != JournalError::Full {
                    self.fail(&error);
                }
                refuse(draining, &error);
            }
        }
    }

    fn take_back(&mut self) {
        self.memory.undo_to(0);
        if let Some(conn) = self.conn.as_ref().filter(|conn| !conn.is_autocommit()) {
            let _ = conn.execute_batch("ROLLBACK");
        }
    }

    fn fail(&mut self, error: &JournalError) {
        if self.failed.is_none() {
            tracing::error!(
                event = "storage-failed",
                "the storage failed, nothing is acknowledged until it is recovered: {error}"
            );
            let now = Instant::now();
            self.failed = Some(Failed { since: now, pause: RECOVERY_PAUSE.0, retry_at: now + RECOVERY_PAUSE.0 });
            self.signals.set_failed(true);
        }
    }

    fn recover_when_due(&mut self) {
        let now = Instant::now();
        let Some(failed) = self.failed.as_mut().filter(|failed| failed.retry_at <= now) else { return };
        failed.pause = (failed.pause * 2).min(RECOVERY_PAUSE.1);
        failed.retry_at = now + failed.pause;
        let since = failed.since;
        match self.recover() {
            Ok(()) => {
                self.failed = None;
                self.signals.set_failed(false);
                tracing::info!(
                    event = "storage-back",
                    after_ms = since.elapsed().as_millis() as u64,
                    "the storage works again"
                );
            }
            Err(error) => tracing::debug!("recovery failed: {error}"),
        }
    }

    /// See the module docs.
    fn recover(&mut self) -> Result<(), OpenError> {
        if let Some(conn) = &self.conn {
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK")?;
            }
            if !checkpoint(conn, "TRUNCATE")? {
                return Err(OpenError::Unsafe("a reader is in the way of the checkpoint".to_string()));
            }
        }
        self.conn = None;
        let mut conn = schema::open_writer(&self.data)?;
        self.seal.reload(&conn).map_err(|error| OpenError::Unsafe(error.to_string()))?;
        self.log.watch(&mut conn);
        self.log.begin_again();
        self.conn = Some(conn);
        Ok(())
    }

    fn level(&mut self) -> Level {
        let Some(conn) = &self.conn else { return Level::Ample };
        let level = self.space.measure(conn, Instant::now()).unwrap_or(Level::Ample);
        self.signals.set_level(level);
        self.signals.set_images_refused(self.space.images_refused_since());
        level
    }

    /// Copying the log costs more than a commit; on a slow disk nobody should be about to need the thread.
    fn idle_before_checkpoint(&self) -> Duration {
        IDLE_BEFORE_CHECKPOINT.max(self.commit_took * IDLE_COMMITS)
    }

    /// How long to sleep when nobody asks for anything.
    fn next_wait(&self, idle_since: Instant) -> Duration {
        let now = Instant::now();
        if let Some(failed) = &self.failed {
            return failed.retry_at.saturating_duration_since(now);
        }
        let due = self.log.copy_due().or_else(|| self.should_lay_out().then_some(now));
        let chore = match due {
            Some(due) => due.max(idle_since + self.idle_before_checkpoint()).max(now + Duration::from_millis(1)),
            None => now + CHORES_EVERY,
        };
        let due = self.memory.pauses().map(|(_, pause)| pause.until).filter(|at| *at > now).min();
        chore.min(due.unwrap_or(chore)).saturating_duration_since(now)
    }

    /// A longer log is only worth its room while there is enough of it.
    fn should_lay_out(&self) -> bool {
        self.log.wants_to_be_laid_out() && self.signals.condition() == Condition::Good
    }

    /// Nobody asked for anything: wakes lanes whose pause is over and tidies the log.
    fn idle(&mut self, idle_since: Instant) {
        self.signals.wake_paused(&self.memory);
        if self.failed.is_some() {
            return;
        }
        let idle = idle_since.elapsed();
        if idle < self.idle_before_checkpoint() {
            return;
        }
        let short = self.signals.condition() != Condition::Good;
        if self.log.copy_due().is_some_and(|due| due <= Instant::now()) {
            self.tidy_log("PASSIVE");
        } else if self.should_lay_out() {
            self.log.lay_out(&self.space);
        } else if idle >= IDLE_BEFORE_CUT && self.log.is_worth_cutting(&self.space, short) {
            self.tidy_log("TRUNCATE");
            // A reader in the way leaves it as it is.
            if self.log.copy_due().is_none() {
                self.log.begin_again();
            }
        }
    }

    /// What must happen now and then, busy or not.
    fn chores(&mut self) {
        self.chores_at = Instant::now();
        self.signals.wake_paused(&self.memory);
        if self.failed.is_some() {
            return;
        }
        if self.log.has_no_room() && self.log.may_retry() {
            self.tidy_log("PASSIVE");
        }
        let level = self.level();
        if level == Level::Ample {
            self.space.keep_reserve();
        }
        let Some(conn) = &self.conn else { return };
        if let Err(error) = self.spool.settle_doubted(conn) {
            tracing::error!(event = "storage-trouble", "images whose commit failed cannot be looked up: {error}");
        }
        let mut desk = Desk::now(conn, &self.seal, &mut self.memory);
        let swept = self.sweep.slice(&mut desk, &self.spool, level);
        if swept.is_err() && !conn.is_autocommit() {
            let _ = conn.execute_batch("ROLLBACK");
        }
        match swept {
            Ok(true) => self.log.removed(),
            Ok(false) => {}
            Err(JournalError::Full) => drop(self.space.release_reserve()),
            Err(error) if error.breaks_connection() => self.fail(&error),
            Err(error) => tracing::error!(event = "storage-trouble", "retention failed: {error}"),
        }
    }

    /// Keeps the log short under load. A reader in the way makes it longer for a while; it is not asked all the time.
    fn cap_log(&mut self) {
        if self.log.is_too_long(&self.space) {
            self.tidy_log("PASSIVE");
        }
    }

    fn tidy_log(&mut self, mode: &str) {
        let Some(conn) = &self.conn else { return };
        if let Err(error) = self.log.copy(conn, mode, &self.space) {
            self.fail(&error);
        }
    }

    /// Empties the log and lets go of every file before it says so: whoever waits may be about to unmount the disk.
    fn close(mut self) {
        self.sweep.finish();
        self.tidy_log("TRUNCATE");
        self.conn = None;
        // A child between fork and exec may still have the descriptor; the lock itself must be gone.
        let _ = self._lock.unlock();
        let closers = std::mem::take(&mut self.closers);
        drop(self);
        for closer in closers {
            let _ = closer.send(());
        }
    }
}

fn step(conn: &Connection, sql: &str) -> Result<(), JournalError> {
    Ok(conn.prepare_cached(sql)?.execute([]).map(drop)?)
}

fn accept(group: Vec<Box<dyn Command>>) {
    for command in group {
        command.answer(Ok(()));
    }
    crash::point("after-answer");
}

fn refuse(group: Vec<Box<dyn Command>>, error: &JournalError) {
    for command in group {
        command.answer(Err(error.clone()));
    }
}
