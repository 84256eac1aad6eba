//! The writer thread: the one write connection, group commit, and what happens when storage fails.
//!
//! **Group commit.** The thread runs a group of commands in one transaction and answers all of it after the commit.
//! Which commands make a group, and whether it is worth waiting for more, is decided in `queue.rs`.
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
use super::queue::{Next, Queue};
use super::retention::Sweep;
use super::schema;
use super::seal::Seal;
use super::signals::{Condition, Signals};
use super::space::{Level, Space};
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Without commands for this long, the log is copied into the database file.
const IDLE_BEFORE_CHECKPOINT: Duration = Duration::from_millis(200);
/// Without commands for this long, the log file is cut to nothing as well.
const IDLE_BEFORE_TRUNCATE: Duration = Duration::from_secs(30);
/// The thread looks no sooner than this whether the commands it waits for have come, nor more often than so many times
/// in the time of a commit.
const LOOK_FOR_COMPANY: Duration = Duration::from_micros(50);
const LOOKS_A_COMMIT: u32 = 64;
/// On a slow disk the log waits for a pause of so many commits' time before it is copied.
const IDLE_COMMITS: u32 = 8;
/// A busy thread still does its chores this often.
const CHORES_EVERY: Duration = Duration::from_secs(2);
/// The same while space is short: retention and copying the log are what makes room.
const CHORES_WHEN_SHORT: Duration = Duration::from_millis(100);
/// A log that could not be copied whole is not tried again sooner.
const LOG_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// SQLite's page size; the default, and never set otherwise.
const PAGE_BYTES: u64 = 4096;
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

/// What the channel carries.
pub(super) enum Message {
    /// Do this.
    Command(Box<dyn Command>),
    /// Finish, checkpoint, stop.
    Close(std::sync::mpsc::SyncSender<()>),
}

/// The state of the writer thread.
pub(super) struct Writer {
    data: PathBuf,
    conn: Option<Connection>,
    seal: Arc<Seal>,
    memory: Memory,
    space: Space,
    sweep: Sweep,
    signals: Arc<Signals>,
    failed: Option<Failed>,
    queue: Queue,
    /// Told to close: by whom. What is queued is still done.
    closing: Option<std::sync::mpsc::SyncSender<()>>,
    /// How long the last commit took.
    commit_took: Duration,
    /// Something was committed since the log was last copied into the database file.
    log_dirty: bool,
    /// Pages in the log, told by SQLite after each commit.
    log_pages: Arc<AtomicU64>,
    /// A reader or a full disk kept the log from being copied whole; not to be tried before.
    log_retry_at: Option<Instant>,
    /// The last copy failed because the database file could not grow.
    log_has_no_room: bool,
    chores_at: Instant,
    /// Held for the life of the thread: one process per data directory.
    _lock: File,
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
        conn: Connection,
        seal: Arc<Seal>,
        memory: Memory,
        signals: Arc<Signals>,
        lock: File,
    ) -> Self {
        Writer {
            data: data.to_path_buf(),
            conn: Some(conn),
            seal,
            memory,
            space: Space::new(data, config),
            sweep: Sweep::new(config),
            signals,
            failed: None,
            queue: Queue::default(),
            closing: None,
            commit_took: Duration::ZERO,
            log_dirty: true,
            log_pages: Arc::default(),
            log_retry_at: None,
            log_has_no_room: false,
            chores_at: Instant::now(),
            _lock: lock,
        }
    }

    /// Serves until the channel closes or a close is asked for.
    pub(super) fn run(mut self, commands: &Receiver<Message>) {
        self.space.keep_reserve();
        self.watch_log();
        let mut idle_since = Instant::now();
        loop {
            self.take_in(commands);
            self.recover_when_due();
            let wait = match self.queue.next(Instant::now()) {
                Next::Wait(until) => {
                    // Company comes within a moment. Looking now and then is cheaper than being woken by each of them.
                    let look = (self.commit_took / LOOKS_A_COMMIT).max(LOOK_FOR_COMPANY);
                    std::thread::sleep(until.saturating_duration_since(Instant::now()).min(look));
                    continue;
                }
                Next::Commit(group) => {
                    let custody = group.iter().filter(|c| c.kind() == Kind::Custody).count();
                    self.settle(group);
                    self.take_in(commands);
                    idle_since = Instant::now();
                    self.queue.committed(custody, self.commit_took, idle_since);
                    None
                }
                Next::Nothing if self.closing.is_some() => return self.close(),
                Next::Nothing => Some(self.next_wait(idle_since)),
            };
            if let Some(wait) = wait {
                match commands.recv_timeout(wait) {
                    Ok(message) => self.take(message),
                    Err(RecvTimeoutError::Timeout) => self.idle(idle_since),
                    Err(RecvTimeoutError::Disconnected) => return self.close(),
                }
            }
            let short = self.log_has_no_room || self.signals.condition() != Condition::Good;
            let every = if short { CHORES_WHEN_SHORT } else { CHORES_EVERY };
            if self.chores_at.elapsed() >= every {
                self.chores();
            }
        }
    }

    /// Queues everything the channel holds.
    fn take_in(&mut self, commands: &Receiver<Message>) {
        while self.closing.is_none()
            && let Ok(message) = commands.try_recv()
        {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Command(command) => self.queue.push(command, Instant::now()),
            Message::Close(reply) => self.closing = Some(reply),
        }
    }

    /// Commits a group and answers it.
    fn settle(&mut self, mut group: Vec<Box<dyn Command>>) {
        if self.failed.is_some() {
            return refuse(group, &JournalError::Storage("the storage is being recovered".to_string()));
        }
        let level = self.level();
        // A log that cannot be copied for want of room must not grow: only what makes room may still add to it.
        let admitted = |kind: Kind| match (self.log_has_no_room, kind) {
            (true, kind) => kind.may_use_reserve(),
            (false, Kind::Custody) => level != Level::Full,
            (false, _) => true,
        };
        let (rest, refused) = group.into_iter().partition(|c| admitted(c.kind()));
        refuse(refused, &JournalError::Full);
        group = rest;
        if group.is_empty() {
            return;
        }
        match self.commit(&mut group) {
            Ok(()) => {
                accept(group);
                self.cap_log();
            }
            Err(JournalError::Full) => {
                self.space.look_again();
                let (draining, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|c| c.kind().may_use_reserve());
                refuse(rest, &JournalError::Full);
                self.settle_from_reserve(draining);
            }
            Err(error) => {
                self.fail(&error);
                refuse(group, &error);
            }
        }
    }

    /// The disk is full: gives deliveries the room that was held back for them.
    fn settle_from_reserve(&mut self, mut group: Vec<Box<dyn Command>>) {
        if group.is_empty() {
            return;
        }
        self.space.release_reserve();
        match self.commit(&mut group) {
            Ok(()) => accept(group),
            Err(JournalError::Full) => refuse(group, &JournalError::Full),
            Err(error) => {
                self.fail(&error);
                refuse(group, &error);
            }
        }
    }

    /// One transaction. On an error nothing of it is kept, in the database or in memory.
    fn commit(&mut self, group: &mut [Box<dyn Command>]) -> Result<(), JournalError> {
        let conn = self.conn.as_ref().ok_or(JournalError::Closed)?;
        let mark = self.memory.mark();
        let began = Instant::now();
        let mut desk =
            Desk { conn, seal: &self.seal, memory: &mut self.memory, now_ms: super::wall_clock_ms(), now: began };
        match transact(&mut desk, group) {
            Ok(()) => {
                self.commit_took = began.elapsed();
                crash::point("after-commit");
                self.log_dirty = true;
                self.signals.wake(self.memory.committed());
                Ok(())
            }
            Err(error) => {
                self.memory.undo_to(mark);
                if !conn.is_autocommit() {
                    let _ = conn.execute_batch("ROLLBACK");
                }
                Err(error)
            }
        }
    }

    fn fail(&mut self, error: &JournalError) {
        if self.failed.is_none() {
            tracing::error!("the storage failed, nothing is acknowledged until it is recovered: {error}");
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
                tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the storage works again");
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
        let conn = schema::open_writer(&self.data)?;
        self.seal.reload(&conn).map_err(|error| OpenError::Unsafe(error.to_string()))?;
        self.conn = Some(conn);
        self.log_dirty = true;
        self.watch_log();
        Ok(())
    }

    /// Has SQLite tell the length of its log after each commit.
    fn watch_log(&mut self) {
        let pages = self.log_pages.clone();
        let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
            pages.store(now.unsigned_abs().into(), Ordering::Relaxed);
            Ok(())
        };
        if let Some(Err(error)) = self.conn.as_mut().map(|conn| conn.wal_hook(Some(hook))) {
            tracing::warn!("the length of the log is not known, it is copied when idle only: {error}");
        }
    }

    fn level(&mut self) -> Level {
        let Some(conn) = &self.conn else { return Level::Ample };
        let level = self.space.measure(conn, Instant::now()).unwrap_or(Level::Ample);
        self.signals.set_level(level);
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
        let chore = match self.log_dirty {
            true => (idle_since + self.idle_before_checkpoint()).max(now + Duration::from_millis(1)),
            false => now + CHORES_EVERY,
        };
        let due = self.memory.pauses().map(|(_, pause)| pause.until).filter(|at| *at > now).min();
        chore.min(due.unwrap_or(chore)).saturating_duration_since(now)
    }

    /// Nobody asked for anything: wakes lanes whose pause is over and tidies the log.
    fn idle(&mut self, idle_since: Instant) {
        self.signals.wake_paused(&self.memory);
        if self.failed.is_some() {
            return;
        }
        let idle = idle_since.elapsed();
        if self.log_dirty && idle >= self.idle_before_checkpoint() {
            self.tidy_log("PASSIVE");
        } else if idle >= IDLE_BEFORE_TRUNCATE && self.log_bytes() > 0 {
            self.tidy_log("TRUNCATE");
        }
    }

    /// What must happen now and then, busy or not.
    fn chores(&mut self) {
        self.chores_at = Instant::now();
        self.signals.wake_paused(&self.memory);
        if self.failed.is_some() {
            return;
        }
        if self.log_has_no_room && self.log_retry_at.is_none_or(|at| at <= Instant::now()) {
            self.tidy_log("PASSIVE");
        }
        let level = self.level();
        if level == Level::Ample {
            self.space.keep_reserve();
        }
        let Some(conn) = &self.conn else { return };
        let mut desk = Desk {
            conn,
            seal: &self.seal,
            memory: &mut self.memory,
            now_ms: super::wall_clock_ms(),
            now: Instant::now(),
        };
        match self.sweep.slice(&mut desk, level) {
            Ok(changed) => self.log_dirty |= changed,
            Err(JournalError::Full) => {
                if !conn.is_autocommit() {
                    let _ = conn.execute_batch("ROLLBACK");
                }
                self.space.release_reserve();
            }
            Err(error) if error.breaks_connection() => self.fail(&error),
            Err(error) => tracing::error!("retention failed: {error}"),
        }
    }

    /// Keeps the log short under load. A reader in the way makes it longer for a while; it is not asked all the time.
    fn cap_log(&mut self) {
        let bytes = self.log_pages.load(Ordering::Relaxed) * PAGE_BYTES;
        if bytes > self.space.wal_max() && self.log_retry_at.is_none_or(|at| at <= Instant::now()) {
            self.tidy_log("PASSIVE");
        }
    }

    fn tidy_log(&mut self, mode: &str) {
        let Some(conn) = &self.conn else { return };
        self.log_dirty = false;
        self.log_retry_at = None;
        self.log_has_no_room = false;
        crash::point("checkpoint");
        let mut outcome = checkpoint(conn, mode).map_err(JournalError::from);
        if outcome == Err(JournalError::Full) && self.space.release_reserve() {
            // The database file has no room to grow. Without it the log would take what is left of the disk.
            outcome = checkpoint(conn, mode).map_err(JournalError::from);
        }
        match outcome {
            Ok(true) => {}
            Ok(false) => self.log_retry_at = Some(Instant::now() + LOG_RETRY_PAUSE),
            Err(JournalError::Full) => {
                self.log_has_no_room = true;
                self.log_retry_at = Some(Instant::now() + LOG_RETRY_PAUSE);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.data.join("journal.db-wal")).map_or(0, |m| m.len())
    }

    /// Empties the log and lets go of every file before it says so: whoever waits may be about to unmount the disk.
    fn close(mut self) {
        self.tidy_log("TRUNCATE");
        let closing = self.closing.take();
        // A child between fork and exec may still have the descriptor; the lock itself must be gone.
        let _ = self._lock.unlock();
        drop(self);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }
}

/// Runs the commands between BEGIN and COMMIT. One that fails by itself takes only its own changes back.
fn transact(desk: &mut Desk<'_>, group: &mut [Box<dyn Command>]) -> Result<(), JournalError> {
    let run = |sql: &str| desk.conn.prepare_cached(sql)?.execute([]).map(drop);
    run("BEGIN IMMEDIATE")?;
    for command in group.iter_mut() {
        if command.kind() == Kind::Custody {
            match command.perform(desk) {
                Ok(()) | Err(JournalError::Refused(_)) => continue,
                Err(error) => return Err(error),
            }
        }
        let mark = desk.memory.mark();
        step(desk.conn, "SAVEPOINT command")?;
        match command.perform(desk) {
            Ok(()) => step(desk.conn, "RELEASE command")?,
            Err(error @ (JournalError::Full | JournalError::Storage(_))) => return Err(error),
            Err(_) => {
                step(desk.conn, "ROLLBACK TO command")?;
                step(desk.conn, "RELEASE command")?;
                desk.memory.undo_to(mark);
            }
        }
    }
    crash::point("before-commit");
    step(desk.conn, "COMMIT")
}

fn step(conn: &Connection, sql: &str) -> Result<(), JournalError> {
    Ok(conn.prepare_cached(sql)?.execute([]).map(drop)?)
}

/// Copies the log into the database file. False when a reader kept it from finishing.
fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<bool> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| r.get::<_, i64>(0)).map(|busy| busy == 0)
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
