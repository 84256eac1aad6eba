//! The register of instruments: what was heard of each, and how far its clock is from the box's. For people to look at;
//! no decision rests on it.
//!
//! It is kept beside the journal as one small file without patient data, written whole, at most every few seconds and
//! when the gateway stops. A crash loses what was counted since; the clocks are learnt anew from the next messages.

use crate::clinical::Report;
use crate::disk;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file in the data directory.
pub const FILE: &str = "instruments.json";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FILE];
/// Messages an instrument's clock is judged by.
const DRIFTS_MAX: usize = 31;
/// Most instruments told apart on one link; further ones are counted under the link's own name.
const INSTRUMENTS_MAX: usize = 64;
/// Most links in the file.
const LINKS_MAX: usize = 1024;
/// Longest name, in characters.
const NAME_MAX_CHARS: usize = 40;
/// The file is written no more often than this.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// One instrument on one link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Driver and version that read it last.
    pub driver: String,
    /// Messages with results.
    pub messages: u64,
    /// Results in them.
    pub results: u64,
    /// Of these, held.
    pub held: u64,
    /// When it was last heard, Unix milliseconds.
    pub last_ms: i64,
    /// How far its last messages were ahead of their receipt, in seconds; negative is behind.
    pub drifts_s: VecDeque<i64>,
}

/// Instruments by name, of each link by name.
pub type Instruments = BTreeMap<String, BTreeMap<String, Seen>>;

/// The register, owned by the interpreter.
pub struct Register {
    file: Option<PathBuf>,
    seen: Instruments,
    written: Instant,
    changed: bool,
}

impl Register {
    /// The register of a data directory; none means in memory only.
    pub fn open(data: Option<&Path>) -> Register {
        let file = data.map(|data| data.join(FILE));
        // One that cannot be read is begun anew: nothing rests on it.
        let seen = data.map(read).unwrap_or_default();
        Register { file, seen, written: Instant::now(), changed: false }
    }

    /// Notes a message's reports, each with how many of its results are held.
    pub fn note(&mut self, link: &str, driver: &str, received_ms: i64, reports: &[(&Report, usize)]) {
        let mut counted: BTreeMap<String, Option<i64>> = BTreeMap::new();
        for (report, held) in reports {
            let Some((name, seen)) = self.entry(link, name_of(report)) else { return };
            seen.driver = driver.to_string();
            seen.last_ms = received_ms;
            seen.results += report.observations.len() as u64;
            seen.held += *held as u64;
            counted.entry(name).or_insert(drift_s(report, received_ms));
        }
        for (name, drift) in counted {
            let Some((_, seen)) = self.entry(link, &name) else { return };
            seen.messages += 1;
            if let Some(drift) = drift {
                seen.drifts_s.truncate(DRIFTS_MAX - 1);
                seen.drifts_s.push_front(drift);
            }
            self.changed = true;
        }
    }

    /// Writes the file when it is time, or at once at the end.
    pub fn write(&mut self, at_the_end: bool) {
        let due = self.changed && (at_the_end || self.written.elapsed() >= WRITE_PAUSE);
        let (true, Some(file)) = (due, &self.file) else { return };
        let text = serde_json::to_vec(&self.seen).unwrap_or_default();
        if let Err(error) = disk::note(file, &text) {
            tracing::debug!("the register of instruments is not written: {error}");
        }
        self.written = Instant::now();
        self.changed = false;
    }

    fn entry(&mut self, link: &str, name: &str) -> Option<(String, &mut Seen)> {
        if self.seen.len() >= LINKS_MAX && !self.seen.contains_key(link) {
            return None;
        }
        let instruments = self.seen.entry(link.to_string()).or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect();
        let room = instruments.len() < INSTRUMENTS_MAX || instruments.contains_key(&name);
        let name = if room && !name.is_empty() { name } else { link.to_string() };
        Some((name.clone(), instruments.entry(name).or_default()))
    }
}

/// What the register of a data directory says; nothing when there is none.
pub fn read(data: &Path) -> Instruments {
    std::fs::read(data.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// What an instrument is called: as the site says, else as it says itself.
fn name_of(report: &Report) -> &str {
    let instrument = &report.instrument;
    if instrument.name.is_empty() { &instrument.sender } else { &instrument.name }
}

/// How far a message's own time is ahead of its receipt. A day alone says nothing.
fn drift_s(report: &Report, received_ms: i64) -> Option<i64> {
    let sent = report.message_time.as_ref()?.instant()?;
    Some(sent.as_second() - received_ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clinical::{Instrument, Timestamp};

    fn report(sender: &str, time: &str) -> Report {
        let message_time = Timestamp::parse(time, &jiff::tz::TimeZone::UTC);
        let instrument = Instrument { sender: sender.into(), ..Instrument::default() };
        let observations = vec![crate::clinical::Observation::default(); 3];
        Report { instrument, message_time, observations, ..Report::default() }
    }

    const RECEIVED_MS: i64 = 1_793_707_200_000;

    #[test]
    fn each_instrument_of_a_link_is_counted_and_timed_by_itself() {
        let data = tempfile::tempdir().unwrap();
        let mut register = Register::open(Some(data.path()));
        let received = jiff::Timestamp::from_millisecond(RECEIVED_MS).unwrap();
        let at =
            |ahead_s: i64| (received + jiff::SignedDuration::from_secs(ahead_s)).strftime("%Y%m%d%H%M%S").to_string();
        for _ in 0..40 {
            let (first, second) = (report("A", &at(7)), report("A", &at(7)));
            register.note("bench", "d@1", RECEIVED_MS, &[(&first, 1), (&second, 0)]);
            register.note("bench", "d@1", RECEIVED_MS, &[(&report("B", &at(-3600)), 0)]);
        }
        register.note("bench", "d@1", RECEIVED_MS, &[(&report("C", "20261103"), 0)]);
        register.write(true);
        let bench = &read(data.path())["bench"];
        assert_eq!((bench["A"].messages, bench["A"].results, bench["A"].drifts_s.len()), (40, 240, DRIFTS_MAX));
        assert_eq!(bench["A"].held, 40);
        assert_eq!((bench["A"].drifts_s[0], bench["B"].drifts_s[0]), (7, -3600));
        assert!(bench["C"].drifts_s.is_empty(), "a day is no time");
        assert_eq!(Register::open(Some(data.path())).seen["bench"], *bench, "and it is there after a restart");
    }

    #[test]
    fn i10_senders_with_ever_new_names_do_not_fill_it() {
        let mut register = Register::open(None);
        for n in 0..500 {
            register.note("bench", "d@1", RECEIVED_MS, &[(&report(&format!("X{n}"), ""), 0)]);
        }
        let bench = &register.seen["bench"];
        assert!(bench.len() <= INSTRUMENTS_MAX + 1);
        assert_eq!(bench.values().map(|seen| seen.messages).sum::<u64>(), 500);
    }
}
