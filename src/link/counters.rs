//! What a link counts and logs. Nothing here can hold patient data: every reason is a constant (invariant I8).

use super::serial::port::{LineErrors, ModemLines};
use super::taps::Taps;
use crate::wire::{Event, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::time::Instant;

/// Counters of one link, shared by its connections.
pub struct LinkCounters {
    name: String,
    taps: Taps,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    parts: u64,
    messages: u64,
    connections: u64,
    open: u64,
    heard: Option<Instant>,
    heard_ms: Option<i64>,
    refused: u64,
    strangers: u64,
    turned_away: u64,
    up: bool,
    line_errors: Option<LineErrors>,
    modem_lines: Option<ModemLines>,
    reasons: BTreeMap<&'static str, u64>,
}

/// A link's health at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkHealth {
    /// The link's name.
    pub link: String,
    /// True while the line is open: the port is there, the listener listens, the dialled peer answers.
    pub up: bool,
    /// Connections open now.
    pub open_connections: u64,
    /// Connections since start.
    pub connections: u64,
    /// Frames or messages offered for custody since start.
    pub parts: u64,
    /// Complete messages taken into custody since start.
    pub messages: u64,
    /// Seconds since the instrument was last heard.
    pub silent_s: Option<u64>,
    /// What the kernel counted on the serial port since it was opened; none when it keeps no count.
    #[serde(default)]
    pub line_errors: Option<LineErrors>,
    /// The serial port's handshake lines; none when it has none.
    #[serde(default)]
    pub modem_lines: Option<ModemLines>,
    /// Refusals, oddities and losses of the line since start, by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// A link's counts at one moment, without a word that is not a constant of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCounts {
    /// As [`LinkHealth::up`].
    pub up: bool,
    /// As [`LinkHealth::open_connections`].
    pub open_connections: u64,
    /// As [`LinkHealth::connections`].
    pub connections: u64,
    /// As [`LinkHealth::parts`].
    pub parts: u64,
    /// As [`LinkHealth::messages`].
    pub messages: u64,
    /// What was refused since start: NAKs, negative acknowledgements, connections.
    pub refused: u64,
    /// Of these, connections of somebody the configuration does not name.
    pub strangers: u64,
    /// Of these, connections of somebody who could not prove who they are.
    pub turned_away: u64,
    /// When the instrument was last heard, Unix milliseconds.
    pub heard_ms: Option<i64>,
    /// As [`LinkHealth::reasons`].
    pub reasons: BTreeMap<&'static str, u64>,
}

impl LinkCounters {
    /// Counters for the link of this name.
    pub fn new(name: &str, protocol: Protocol) -> Self {
        LinkCounters { name: name.to_string(), taps: Taps::new(name, protocol), inner: Mutex::default() }
    }

    /// Counters for a link that images come over. What listens in hears events alone: no bytes are ever told.
    pub fn of_images(name: &str) -> Self {
        // The protocol only says how bytes are shown.
        LinkCounters::new(name, Protocol::Lines)
    }

    /// The link's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who listens in on the link.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// A part was offered for custody.
    pub fn heard(&self) {
        self.with(|inner| {
            inner.parts += 1;
            inner.heard = Some(Instant::now());
            inner.heard_ms = Some(jiff::Timestamp::now().as_millisecond());
        });
    }

    /// A complete message was taken into custody.
    pub fn completed(&self) {
        self.with(|inner| inner.messages += 1);
    }

    /// A connection opened.
    pub fn connected(&self) {
        self.taps.event("connected");
        self.with(|inner| {
            inner.connections += 1;
            inner.open += 1;
        });
    }

    /// A connection closed.
    pub fn disconnected(&self) {
        self.taps.event("disconnected");
        self.with(|inner| inner.open = inner.open.saturating_sub(1));
    }

    /// The line itself is open: the port, the listener, the connection to a dialled peer.
    pub fn up(&self, what: &'static str) {
        if !self.with(|inner| std::mem::replace(&mut inner.up, true)) {
            tracing::info!(event = "link-open", link = self.name, "{what}");
        }
    }

    /// The line itself is gone, or does not open: counted each time, logged when it had been open and at the 1st, 2nd,
    /// 4th, 8th ... time. `detail` is what the system said.
    pub fn down(&self, reason: &'static str, detail: &dyn Display) {
        let was_up = self.with(|inner| std::mem::replace(&mut inner.up, false));
        let count = self.count(reason);
        if was_up || count.is_power_of_two() {
            tracing::warn!(event = "link-lost", link = self.name, count, "{reason}: {detail}");
        }
    }

    /// What the kernel knows of the serial port: what it has counted since it was opened, of which each kind that grew
    /// is an event, and the handshake lines.
    pub fn port(&self, counted: Option<LineErrors>, lines: Option<ModemLines>) {
        self.with(|inner| inner.modem_lines = lines);
        let before = self.with(|inner| std::mem::replace(&mut inner.line_errors, counted)).unwrap_or_default();
        for (kind, _) in counted.into_iter().flat_map(|now| now.since(before).words()) {
            self.event(&Event::Odd(kind));
        }
    }

    /// Something a person has to mend; counted, and logged at the 1st, 2nd, 4th, 8th ... time.
    pub fn trouble(&self, reason: &'static str, detail: &dyn Display) {
        let count = self.count(reason);
        if count.is_power_of_two() {
            tracing::error!(event = "link-trouble", link = self.name, count, "{reason}: {detail}");
        }
    }

    /// Counts an event and logs it, the 1st, 2nd, 4th, 8th ... time only, so that a broken or hostile peer cannot
    /// flood the log.
    pub fn event(&self, event: &Event) {
        let (reason, refused) = match *event {
            Event::Refused(reason) => (reason, true),
            Event::Odd(reason) | Event::Failed(_, reason) => (reason, false),
            Event::Accepted(_) => return,
        };
        let count = self.count(reason);
        if refused {
            self.with(|inner| inner.refused += 1);
        }
        if !count.is_power_of_two() {
            return;
        }
        if refused {
            tracing::warn!(event = "link-refused", link = self.name, count, "refused: {reason}");
        } else {
            tracing::info!(event = "link-odd", link = self.name, count, "{reason}");
        }
    }

    /// Somebody the configuration does not name was refused.
    pub fn stranger(&self, reason: &'static str) {
        self.with(|inner| inner.strangers += 1);
        self.event(&Event::Refused(reason));
    }

    /// Somebody who could not prove who they are was refused.
    pub fn turned_away(&self, reason: &'static str) {
        self.with(|inner| inner.turned_away += 1);
        self.event(&Event::Refused(reason));
    }

    /// The link's health now.
    pub fn health(&self) -> LinkHealth {
        self.with(|inner| LinkHealth {
            link: self.name.clone(),
            up: inner.up,
            open_connections: inner.open,
            connections: inner.connections,
            parts: inner.parts,
            messages: inner.messages,
            silent_s: inner.heard.map(|at| at.elapsed().as_secs()),
            line_errors: inner.line_errors,
            modem_lines: inner.modem_lines,
            reasons: inner.reasons.iter().map(|(reason, n)| (reason.to_string(), *n)).collect(),
        })
    }

    /// The link's counts now.
    pub fn counts(&self) -> LinkCounts {
        self.with(|inner| LinkCounts {
            up: inner.up,
            open_connections: inner.open,
            connections: inner.connections,
            parts: inner.parts,
            messages: inner.messages,
            refused: inner.refused,
            strangers: inner.strangers,
            turned_away: inner.turned_away,
            heard_ms: inner.heard_ms,
            reasons: inner.reasons.clone(),
        })
    }

    fn count(&self, reason: &'static str) -> u64 {
        self.taps.event(reason);
        self.with(|inner| {
            let count = inner.reasons.entry(reason).or_default();
            *count += 1;
            *count
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}
