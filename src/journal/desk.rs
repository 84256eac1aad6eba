//! What a command works with while its transaction is open, and the writer's memory beside the database.
//!
//! The memory holds only what a restart may forget: half-heard entries' running digests, which rows a deliverer is
//! holding, and back-off timers. It must never say more than the database, so every change to it is noted and undone
//! when the transaction is.

use super::clock::{self, Span};
use super::error::JournalError;
use super::seal::Seal;
use super::types::WorkOrderId;
use ring::hmac;
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// An open transaction and everything a command needs in it.
pub(super) struct Desk<'a> {
    pub conn: &'a Connection,
    pub seal: &'a Seal,
    pub memory: &'a mut Memory,
    /// Wall clock, Unix milliseconds.
    pub now_ms: i64,
    /// Monotonic clock.
    pub now: Instant,
}

impl<'a> Desk<'a> {
    /// A desk at this moment.
    pub(super) fn now(conn: &'a Connection, seal: &'a Seal, memory: &'a mut Memory) -> Self {
        Desk { conn, seal, memory, now_ms: super::wall_clock_ms(), now: Instant::now() }
    }

    /// Takes the next entry number.
    pub(super) fn take_entry(&mut self) -> Result<i64, JournalError> {
        clock::look(self)?;
        Ok(self.memory.take_entry())
    }
}

/// A session of one connection of one link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    pub link: Arc<str>,
    pub connection: u64,
    pub session: u64,
}

/// An entry whose sender has not finished.
#[derive(Clone)]
pub(super) struct OpenEntry {
    pub id: i64,
    pub parts: i64,
    pub bytes: i64,
    pub digest: hmac::Context,
}

/// A row a deliverer is holding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub lane: i64,
    pub since: Instant,
}

/// A lane that waits after a failed attempt.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    pub destination: Arc<str>,
    pub until: Instant,
}

/// See the module docs.
#[derive(Default)]
pub(super) struct Memory {
    open: HashMap<SessionKey, Box<OpenEntry>>,
    flights: HashMap<i64, Flight>,
    pauses: HashMap<i64, Pause>,
    /// Number of the next entry.
    pub next_entry: i64,
    /// Next place in the interpreter's queue.
    next_waiting: i64,
    /// The clock that entries come in by; none before anybody said what it is worth.
    clock: Option<Span>,
    /// The run of the machine.
    boot: String,
    undo: Vec<Undo>,
    hints: Hints,
}

/// Whom to wake once the transaction is committed.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub entries: bool,
    /// Images came, which wait for more of them.
    pub images: bool,
    pub destinations: BTreeSet<String>,
    /// Orders that came or stand elsewhere now.
    pub orders: Vec<WorkOrderId>,
    /// Keyed hashes of the ids of patients of whom something else is known now.
    pub patients: Vec<i64>,
}

enum Undo {
    Open(SessionKey, Option<Box<OpenEntry>>),
    Flight(i64, Option<Flight>),
    Pause(i64, Option<Pause>),
    Counters { next_entry: i64, next_waiting: i64 },
    Clock(Option<Span>),
}

impl Memory {
    /// An empty memory whose next entry and next place in the queue have these numbers.
    pub(super) fn starting_at(next_entry: i64, next_waiting: i64) -> Self {
        Memory { next_entry, next_waiting, ..Memory::default() }
    }

    /// The same in this run of the machine, by this clock.
    pub(super) fn by_clock(self, boot: String, clock: Option<Span>) -> Self {
        Memory { boot, clock, ..self }
    }

    pub(super) fn clock(&self) -> Option<&Span> {
        self.clock.as_ref()
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    pub(super) fn set_clock(&mut self, clock: Span) {
        let before = self.clock.replace(clock);
        self.undo.push(Undo::Clock(before));
    }

    pub(super) fn open(&self, key: &SessionKey) -> Option<&OpenEntry> {
        self.open.get(key).map(Box::as_ref)
    }

    pub(super) fn set_open(&mut self, key: SessionKey, entry: Option<OpenEntry>) {
        let before = match entry {
            Some(entry) => self.open.insert(key.clone(), Box::new(entry)),
            None => self.open.remove(&key),
        };
        self.undo.push(Undo::Open(key, before));
    }

    pub(super) fn flight(&self, id: i64) -> Option<&Flight> {
        self.flights.get(&id)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = (i64, &Flight)> {
        self.flights.iter().map(|(id, flight)| (*id, flight))
    }

    pub(super) fn set_flight(&mut self, id: i64, flight: Option<Flight>) {
        let before = match flight {
            Some(flight) => self.flights.insert(id, flight),
            None => self.flights.remove(&id),
        };
        self.undo.push(Undo::Flight(id, before));
    }

    pub(super) fn pauses(&self) -> impl Iterator<Item = (i64, &Pause)> {
        self.pauses.iter().map(|(id, pause)| (*id, pause))
    }

    pub(super) fn set_pause(&mut self, id: i64, pause: Option<Pause>) {
        let before = match pause {
            Some(pause) => self.pauses.insert(id, pause),
            None => self.pauses.remove(&id),
        };
        self.undo.push(Undo::Pause(id, before));
    }

    fn take_entry(&mut self) -> i64 {
        self.note_counters();
        self.next_entry += 1;
        self.next_entry - 1
    }

    pub(super) fn take_waiting(&mut self) -> i64 {
        self.note_counters();
        self.next_waiting += 1;
        self.next_waiting - 1
    }

    pub(super) fn wake_interpreter(&mut self) {
        self.hints.entries = true;
    }

    pub(super) fn image_came(&mut self) {
        self.hints.images = true;
    }

    pub(super) fn wake_destination(&mut self, destination: &str) {
        if !self.hints.destinations.contains(destination) {
            self.hints.destinations.insert(destination.to_string());
        }
    }

    pub(super) fn order_changed(&mut self, order: WorkOrderId) {
        self.hints.orders.push(order);
    }

    pub(super) fn patient_changed(&mut self, hash: i64) {
        self.hints.patients.push(hash);
    }

    /// The point to go back to.
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Forgets every change since `mark`.
    pub(super) fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Undo::Open(key, Some(entry))) => drop(self.open.insert(key, entry)),
                Some(Undo::Open(key, None)) => drop(self.open.remove(&key)),
                Some(Undo::Flight(id, Some(flight))) => drop(self.flights.insert(id, flight)),
                Some(Undo::Flight(id, None)) => drop(self.flights.remove(&id)),
                Some(Undo::Pause(id, Some(pause))) => drop(self.pauses.insert(id, pause)),
                Some(Undo::Pause(id, None)) => drop(self.pauses.remove(&id)),
                Some(Undo::Clock(clock)) => self.clock = clock,
                Some(Undo::Counters { next_entry, next_waiting }) => {
                    (self.next_entry, self.next_waiting) = (next_entry, next_waiting);
                }
                None => return,
            }
        }
    }

    /// The transaction is committed: keeps all changes and tells whom to wake.
    pub(super) fn committed(&mut self) -> Hints {
        self.undo.clear();
        std::mem::take(&mut self.hints)
    }

    fn note_counters(&mut self) {
        self.undo.push(Undo::Counters { next_entry: self.next_entry, next_waiting: self.next_waiting });
    }
}
