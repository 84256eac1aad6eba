//! The edge node: a pure machine. Time and readings go in; what is to be done comes out.
//!
//! - A connection begins with the subscription to commands, the birth of the node (`seq` 0) and the births of its devices;
//!   each message behind it counts `seq` up, 0 to 255 and around (5.5, 6.4.4 of Sparkplug 3.0.0).
//! - Every connection has a number (`bdSeq`), which its birth and its death share.
//! - Afterwards only what changed is told of, no more often than it is looked; figures that change all the time, those of
//!   the node, no more often than `every`.
//! - A host that asks for a birth gets it, no more often than every [`REBIRTH_MIN`].
//! - Where there is a primary host, a birth waits until that says that it is online, and when it says that it is not, the
//!   connection ends with its death and begins anew (5.4 and 6.4.26: `STATE`; of two the one with the later moment counts).

use super::super::telemetry::At;
use super::payload::{self, Figure};
use crate::backoff::Backoff;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Between two births.
pub const REBIRTH_MIN: Duration = Duration::from_secs(2);
/// A primary host that is not online so long after the box is connected is told of.
pub const HOST_LATE: Duration = Duration::from_secs(60);
/// Between two connections.
const RECONNECT_MIN: Duration = Duration::from_secs(2);
const RECONNECT_MAX: Duration = Duration::from_secs(300);

/// Numbers of connections begin so far apart from one start of the program to the next (odd, so that all come round).
const STARTS_APART: u8 = 101;

/// How the box is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// When.
    pub at: At,
    /// The box.
    pub node: Vec<Figure>,
    /// Its links and destinations.
    pub devices: BTreeMap<String, Vec<Figure>>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial the broker, leaving this will with it.
    Connect {
        /// Where the broker says it.
        topic: String,
        /// What.
        will: Vec<u8>,
    },
    /// Ask for what comes there.
    Subscribe(String),
    /// End the connection, with the will.
    Disconnect,
    /// Tell a person how it is with the primary host.
    Host(HostIs),
    /// Publish, at most once and not retained.
    Publish {
        /// Where.
        topic: String,
        /// What.
        payload: Vec<u8>,
    },
}

/// How it is with the primary host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIs {
    /// It is not online since [`HOST_LATE`].
    Awaited,
    /// It says that it is online.
    Here,
    /// It says that it is not any more.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting(Instant),
    Connecting,
    Up,
}

/// See the module docs.
pub struct Node {
    group: String,
    name: String,
    phase: Phase,
    backoff: Backoff,
    /// Number of the connection there is, or is next.
    birth: u8,
    seq: u8,
    every: Duration,
    node_at: Option<Instant>,
    born_at: Option<Instant>,
    /// What the host was told last.
    told: Option<Reading>,
    primary: Option<Primary>,
    outputs: VecDeque<Output>,
}

/// The host without which nothing is said.
struct Primary {
    topic: String,
    /// What it said last on this connection.
    state: State,
    /// When it is late, on this connection.
    late_at: Option<Instant>,
    /// What a person was told last.
    is: Option<HostIs>,
}

impl Primary {
    /// True when a person was not told so yet.
    fn becomes(&mut self, is: HostIs) -> bool {
        self.late_at = None;
        self.is.replace(is) != Some(is)
    }
}

/// What a host says of itself; what it adds is passed over.
#[derive(Clone, Copy, Default, Deserialize)]
struct State {
    online: bool,
    timestamp: u64,
}

impl Node {
    /// A node that dials at once. `epoch` counts starts of the program. There are 256 numbers of connections and nothing is
    /// kept of them: another start takes the number of the connection that has just died where that was the
    /// `STARTS_APART` + 1st of its run, and so on every 256, and else not.
    pub fn new(group: &str, name: &str, epoch: u64, every: Duration, now: Instant) -> Node {
        Node {
            group: group.to_owned(),
            name: name.to_owned(),
            phase: Phase::Waiting(now),
            backoff: Backoff::seeded(RECONNECT_MIN, RECONNECT_MAX, seed(name, epoch)),
            birth: epoch.to_le_bytes()[0].wrapping_mul(STARTS_APART),
            seq: 0,
            every,
            node_at: None,
            born_at: None,
            told: None,
            primary: None,
            outputs: VecDeque::new(),
        }
    }

    /// The same, of a node that has a primary host of this id.
    pub fn waits_for(mut self, host: Option<&str>) -> Node {
        let topic = |host| format!("spBv1.0/STATE/{host}");
        let primary = |host| Primary { topic: topic(host), state: State::default(), late_at: None, is: None };
        self.primary = host.map(primary);
        self
    }

    /// The broker let the node in.
    pub fn connected(&mut self, now: Instant) {
        if self.phase == Phase::Connecting {
            self.backoff.succeeded();
            self.phase = Phase::Up;
            self.outputs.push_back(Output::Subscribe(self.topic("NCMD")));
            if let Some(primary) = &mut self.primary {
                primary.state = State::default();
                // Of one that has gone was told already.
                let is_known = matches!(primary.is, Some(HostIs::Awaited | HostIs::Gone));
                primary.late_at = (!is_known).then_some(now + HOST_LATE);
                self.outputs.push_back(Output::Subscribe(primary.topic.clone()));
            }
            (self.told, self.born_at) = (None, None);
        }
    }

    /// The connection is gone, or was not made.
    pub fn lost(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Waiting(_)) {
            self.phase = Phase::Waiting(now + self.backoff.failed());
            self.birth = self.birth.wrapping_add(1);
            self.told = None;
        }
    }

    /// Something came.
    pub fn received(&mut self, topic: &str, bytes: &[u8]) {
        if topic == self.topic("NCMD") && payload::asks_for_birth(bytes) {
            self.told = None;
        }
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.topic == topic) else { return };
        let said = serde_json::from_slice::<State>(bytes).ok().filter(|said| said.timestamp >= primary.state.timestamp);
        let Some(said) = said else { return };
        let was_online = std::mem::replace(&mut primary.state, said).online;
        if said.online && primary.becomes(HostIs::Here) {
            self.outputs.push_back(Output::Host(HostIs::Here));
        }
        if was_online && !said.online && self.phase == Phase::Up {
            self.outputs.extend(primary.becomes(HostIs::Gone).then_some(Output::Host(HostIs::Gone)));
            self.outputs.push_back(Output::Disconnect);
        }
    }

    /// Whether a birth is due, for which a reading is wanted now.
    pub fn wants_reading(&self, now: Instant) -> bool {
        self.birth_at().is_some_and(|at| at.is_none_or(|at| at <= now))
    }

    /// When a birth may be, where one is due; at once for `Some(None)`.
    fn birth_at(&self) -> Option<Option<Instant>> {
        let is_awaited = self.primary.as_ref().is_none_or(|primary| primary.state.online);
        let is_due = self.phase == Phase::Up && self.told.is_none() && is_awaited;
        is_due.then(|| self.born_at.map(|at| at + REBIRTH_MIN))
    }

    /// The box is so now.
    pub fn look(&mut self, reading: Reading, now: Instant) {
        if self.wants_reading(now) {
            return self.give_birth(reading, now);
        }
        let is_leaving = self.primary.as_ref().is_some_and(|primary| !primary.state.online);
        let Some(mut told) = self.told.take().filter(|_| !is_leaving) else { return };
        let at = reading.at;
        let changed = |new: &[Figure], old: &[Figure]| -> Vec<Figure> {
            new.iter().filter(|figure| !old.contains(figure)).copied().collect()
        };
        let node = changed(&reading.node, &told.node);
        if !node.is_empty() && self.node_at.is_none_or(|last| now.saturating_duration_since(last) >= self.every) {
            self.node_at = Some(now);
            self.say("NDATA", None, |seq| payload::figures(at, seq, &node));
            told.node = reading.node;
        }
        for gone in told.devices.keys().filter(|name| !reading.devices.contains_key(*name)) {
            self.say("DDEATH", Some(gone), |seq| payload::figures(at, seq, &[]));
        }
        for (name, figures) in &reading.devices {
            match told.devices.get(name) {
                None => self.say("DBIRTH", Some(name), |seq| payload::figures(at, seq, figures)),
                Some(old) => {
                    let changed = changed(figures, old);
                    if !changed.is_empty() {
                        self.say("DDATA", Some(name), |seq| payload::figures(at, seq, &changed));
                    }
                }
            }
        }
        told.devices = reading.devices;
        self.told = Some(told);
    }

    fn give_birth(&mut self, reading: Reading, now: Instant) {
        self.seq = 0;
        let (at, birth) = (reading.at, self.birth);
        self.say("NBIRTH", None, |seq| payload::node_birth(at, seq, birth, &reading.node));
        for (name, figures) in &reading.devices {
            self.say("DBIRTH", Some(name), |seq| payload::figures(at, seq, figures));
        }
        (self.node_at, self.born_at, self.told) = (Some(now), Some(now), Some(reading));
    }

    /// A moment came that [`Node::poll_timeout`] asked for.
    /// `at` is the wall clock's.
    pub fn timeout(&mut self, now: Instant, at: At) {
        if let Phase::Waiting(until) = self.phase
            && until <= now
        {
            self.phase = Phase::Connecting;
            let will = payload::node_death(at, self.birth);
            self.outputs.push_back(Output::Connect { topic: self.topic("NDEATH"), will });
        }
        if self.late_at().is_some_and(|late_at| late_at <= now)
            && let Some(primary) = &mut self.primary
            && primary.becomes(HostIs::Awaited)
        {
            self.outputs.push_back(Output::Host(HostIs::Awaited));
        }
    }

    /// The next moment at which something is to be done, but for looking.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Connecting => None,
            Phase::Up => self.birth_at().flatten().or(self.late_at()),
        }
    }

    fn late_at(&self) -> Option<Instant> {
        self.primary.as_ref().filter(|_| self.phase == Phase::Up)?.late_at
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn topic(&self, kind: &str) -> String {
        format!("spBv1.0/{}/{kind}/{}", self.group, self.name)
    }

    fn say(&mut self, kind: &str, device: Option<&String>, payload: impl FnOnce(u8) -> Vec<u8>) {
        let topic = match device {
            Some(device) => format!("{}/{device}", self.topic(kind)),
            None => self.topic(kind),
        };
        self.outputs.push_back(Output::Publish { topic, payload: payload(self.seq) });
        self.seq = self.seq.wrapping_add(1);
    }
}

/// Boxes that started as often as each other do not dial in step.
fn seed(name: &str, epoch: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, epoch).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
