//! The fleet as it is heard: one row for each box, from what the broker keeps and what comes. Pure.
//!
//! Boxes are not trusted: what they say is cut to `TEXT_MAX` characters without control characters, and there is a
//! bound to everything they can add. Whoever shows it escapes it nevertheless.
//!
//! What the broker keeps says how a box was when it spoke last. It says that a box has gone, unless the broker went with
//! it: a crash takes the wills. So a box that says nothing for [`SILENT_AFTER`] on a line that is up is away.

use super::Said;
use super::registry::{BOXES_MAX, Registry};
use crate::fleet::session::{ECHO_INTERVAL, ECHO_TIMEOUT};
use crate::fleet::topic::Up;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A box that is connected says something within this: it asks whether it is heard, however seldom its settings let it
/// tell of anything else (`metrics_s`).
pub const SILENT_AFTER: Duration = ECHO_INTERVAL.saturating_add(ECHO_TIMEOUT.saturating_mul(3));
/// Links, destinations and alerts of a box kept at most.
const PARTS_MAX: usize = 64;
/// Said of a box that tells of more, of which the rest is not shown.
const CROWDED: &str = "more than 64 links or destinations";
/// Longest text of a box, characters.
const TEXT_MAX: usize = 64;
/// Counters of the last hour, when they come each minute.
const SAMPLES_MAX: usize = 60;

/// One box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// It is connected.
    pub online: bool,
    /// How often its program has been started.
    pub epoch: u64,
    /// Version of its program.
    pub version: String,
    /// The machine, as it says itself.
    pub hardware: String,
    /// When its program started.
    pub started: String,
    /// What its clock was worth then.
    pub clock: String,
    /// What it is told reaches it.
    pub downlink: bool,
    /// The configuration it runs: its revision, when it was told one.
    pub revision: Option<u64>,
    /// The highest revision it was told, 0 for none; none while it has said nothing of its configuration.
    pub seen: Option<u64>,
    /// How many operators must have signed a configuration for it.
    #[serde(skip)]
    pub signatures: usize,
    /// Digest of its own file, as that is now.
    #[serde(skip)]
    pub local: Option<String>,
    /// It has said what is unusual, since its program started.
    #[serde(skip)]
    pub has_said_alerts: bool,
    /// Its releases.
    pub update: Update,
    /// Its links: whether each is up, and what came over it since its program started.
    pub links: BTreeMap<String, Link>,
    /// Its destinations: what waits for each.
    pub destinations: BTreeMap<String, Destination>,
    /// What is unusual there now, and since when.
    pub alerts: BTreeMap<String, String>,
    /// It has told of more links or destinations than are kept here, 64 of each, since this listens to the broker. No box
    /// has as many.
    pub crowded: bool,
    /// Its counters, the last of an hour.
    #[serde(skip)]
    pub samples: VecDeque<Sample>,
    /// When it said something last; before that, when it was first known of.
    #[serde(skip)]
    heard: Option<Instant>,
    /// It has said something itself since this listens: what the broker keeps may be from before both ended.
    #[serde(skip)]
    pub has_spoken: bool,
    /// It has gone without a word.
    #[serde(skip)]
    is_silent: bool,
    /// When its program was heard to start; one that starts again within [`SILENT_AFTER`] does not count.
    #[serde(skip)]
    began: Option<Instant>,
    /// It has had the time to say how it is: [`SILENT_AFTER`].
    #[serde(skip)]
    is_late: bool,
    /// The links and destinations that its last birth names; none when it names none.
    #[serde(skip)]
    named: [Option<BTreeSet<String>>; 2],
    /// Of those that it does not name: what the broker still keeps of them, or a birth that is yet to come names them.
    #[serde(skip)]
    unnamed: (BTreeMap<String, Link>, BTreeMap<String, Destination>),
}

/// What a box says of its releases; all empty where it does not update itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The release that runs.
    pub release: String,
    /// What makes the last update that one: the SHA-256 of its manifest.
    pub manifest: String,
    /// The release that the last update brings.
    pub to: String,
    /// SHA-256 of the operating system's bundle that comes with it; empty when none does.
    pub system: String,
    /// Where that stands, a word of [`crate::update::record::Phase`].
    pub phase: String,
    /// Why it was given up or taken back.
    pub reason: String,
}

impl Update {
    /// The last update in one line; none when there was none.
    pub fn text(&self) -> Option<String> {
        (!self.phase.is_empty()).then(|| format!("{} {} {}", self.to, self.phase, self.reason))
    }

    /// Where the update to this release stands, when it was the last; of one with an operating system, with this
    /// manifest.
    pub fn phase_of(&self, release: &str, with_system: Option<&str>) -> Option<&str> {
        let is_it = self.to == release && with_system.is_none_or(|manifest| self.manifest == manifest);
        (is_it && !self.phase.is_empty()).then_some(&*self.phase)
    }

    /// Whether this release runs for good; with an operating system, since an update with this manifest.
    pub fn runs(&self, release: &str, with_system: Option<&str>) -> bool {
        let phase = self.phase_of(release, with_system);
        let is_there = with_system.is_none() && phase.is_none();
        self.release == release && (is_there || phase == Some("committed"))
    }
}

/// A link of a box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its line is open.
    pub up: bool,
    /// Messages taken into custody.
    pub messages: u64,
    /// Refusals.
    pub naks: u64,
}

/// A destination of a box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// It takes messages.
    pub up: bool,
    /// Messages on the way.
    pub queued: u64,
    /// Messages that wait for a person.
    pub parked: u64,
    /// Age of the oldest on the way, seconds.
    pub oldest_s: Option<u64>,
    /// From custody to its answer, milliseconds, 99th percentile.
    pub lab_to_chart_p99_ms: Option<u64>,
}

/// Counters of a box at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Messages taken into custody since its program started.
    pub messages: u64,
    /// Messages delivered since then.
    pub delivered: u64,
    /// Messages on the way.
    pub queued: u64,
}

/// How bad it is; the worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nothing can be said of it.
    Away,
    /// Results wait for a person, or cannot be delivered.
    Stuck,
    /// It says that something is unusual, or a link is down.
    Unusual,
    /// It cannot be told anything.
    Deaf,
    /// All is well.
    None,
}

/// A box in one line: what the page lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Brief<'r> {
    /// Its name.
    pub name: &'r str,
    /// The worst of it.
    pub trouble: Trouble,
    /// It is not in the registry, which knows others.
    pub stranger: bool,
    /// Where it stands.
    pub site: &'r str,
    /// As in the registry; none for a stranger.
    pub ring: Option<u32>,
    /// Tags of the registry.
    pub tags: Vec<&'r str>,
    /// As [`Row::version`].
    pub version: &'r str,
    /// As [`Row::revision`].
    pub revision: Option<u64>,
    /// Links whose line is open.
    pub links_up: usize,
    /// Links.
    pub links: usize,
    /// Messages of all links.
    pub messages: u64,
    /// Messages on the way.
    pub queued: u64,
    /// Messages that wait for a person.
    pub parked: u64,
    /// Age of the oldest on the way, seconds.
    pub oldest_s: Option<u64>,
    /// What is unusual.
    pub alerts: Vec<&'r str>,
}

/// All boxes by name.
#[derive(Debug, Default)]
pub struct Roster {
    boxes: BTreeMap<String, Row>,
    changed: BTreeSet<String>,
    /// Of boxes behind which somebody cleaned up, [`Row::began`]: one that does so itself has no more time.
    removed: BTreeMap<String, Instant>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Birth {
    epoch: u64,
    version: String,
    hardware: Option<String>,
    at: String,
    clock: String,
    links: Option<Vec<String>>,
    destinations: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    online: bool,
    epoch: u64,
    downlink: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reported {
    running: Option<u64>,
    rev: Option<u64>,
    signatures: Option<usize>,
    local: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Releases {
    release: String,
    update: Option<LastUpdate>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LastUpdate {
    manifest: String,
    to: String,
    system: Option<String>,
    phase: String,
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Alert {
    trouble: String,
    of: Option<String>,
    since: String,
}

impl Roster {
    /// A box said something. What cannot be read changes nothing. True when it is shown differently now.
    pub fn heard(&mut self, said: &Said, now: Instant) -> bool {
        let name = said.place.gateway();
        let is_empty = said.payload.is_empty();
        if !self.boxes.contains_key(name) && (self.boxes.len() >= BOXES_MAX || is_empty) {
            return false;
        }
        if is_empty && said.what == Up::State {
            return self.remove(name);
        }
        let removed = &mut self.removed;
        let new = || Row { began: removed.remove(name), ..Row::default() };
        let row = self.boxes.entry(name.to_string()).or_insert_with(new);
        // Whoever cleans up behind a box takes back what the broker keeps of it.
        let is_live = !said.receipt.is_kept() && !is_empty;
        if is_live || row.heard.is_none() {
            row.heard = Some(now);
        }
        row.has_spoken |= is_live;
        let had_said = row.has_said_alerts;
        let is_there_again = is_live && std::mem::take(&mut row.is_silent);
        row.online |= is_there_again;
        let is_changed = row.heard(&said.what, &said.payload).unwrap_or(false) || is_there_again;
        // However often it starts again meanwhile, it has no more time.
        if row.began.is_none() || row.is_late && had_said && !row.has_said_alerts {
            (row.began, row.is_late) = (Some(now), false);
        }
        if is_changed {
            self.changed.insert(name.to_string());
        }
        is_changed
    }

    /// Nothing is kept of a box any more.
    fn remove(&mut self, name: &str) -> bool {
        let Some(row) = self.boxes.remove(name) else { return false };
        if self.removed.len() >= BOXES_MAX {
            self.removed.pop_first();
        }
        self.removed.extend(row.began.map(|began| (name.to_string(), began)));
        self.changed.insert(name.to_string());
        true
    }

    /// To be called from time to time while the broker is there: a box that has said nothing for [`SILENT_AFTER`] is away.
    /// Names of those.
    pub fn look(&mut self, now: Instant) -> Vec<String> {
        let is_late = |heard: Instant| now.saturating_duration_since(heard) >= SILENT_AFTER;
        let mut gone = Vec::new();
        for (name, row) in &mut self.boxes {
            row.is_late |= row.began.is_some_and(is_late);
            if row.online && row.heard.is_some_and(is_late) {
                (row.online, row.is_silent) = (false, true);
                gone.push(name.clone());
            }
        }
        self.changed.extend(gone.iter().cloned());
        gone
    }

    /// The broker is there again: that nothing was heard meanwhile says nothing.
    pub fn back(&mut self, now: Instant) {
        for (name, row) in &mut self.boxes {
            (row.heard, row.began, row.is_late) = (Some(now), Some(now), false);
            // What is too much of what it keeps comes again.
            if std::mem::take(&mut row.crowded) {
                self.changed.insert(name.clone());
            }
        }
        self.removed.clear();
    }

    /// All boxes, in order of name.
    pub fn rows(&self) -> &BTreeMap<String, Row> {
        &self.boxes
    }

    /// Those that have changed since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }
}

impl Row {
    fn heard(&mut self, what: &Up, payload: &[u8]) -> Option<bool> {
        let is_changed = match what {
            Up::Birth => {
                let birth: Birth = serde_json::from_slice(payload).ok()?;
                let told = [birth.version, birth.hardware.unwrap_or_default(), birth.at, birth.clock].map(plain);
                let [version, hardware, started, clock] = told;
                let is_new = birth.epoch != self.epoch || version != self.version;
                // A machine that took the name of another counts from 1 again.
                self.starts(birth.epoch);
                (self.version, self.hardware) = (version, hardware);
                (self.started, self.clock) = (started, clock);
                let (names, was_crowded) = ([birth.links, birth.destinations], self.crowded);
                self.crowded |= names.iter().flatten().any(|names| names.len() > PARTS_MAX);
                self.named = names.map(|names| names.map(|names| names.into_iter().take(PARTS_MAX).collect()));
                let [links, destinations] = &self.named;
                let is_other = part(&mut self.links, &mut self.unnamed.0, links.as_ref(), &mut self.crowded)
                    | part(&mut self.destinations, &mut self.unnamed.1, destinations.as_ref(), &mut self.crowded);
                is_new || is_other || self.crowded != was_crowded
            }
            Up::State => {
                let state: State = serde_json::from_slice(payload).ok()?;
                // A will of an earlier run that comes late says nothing of this one.
                if state.epoch < self.epoch {
                    return None;
                }
                self.starts(state.epoch);
                self.is_silent &= state.online;
                let now = (state.online && !self.is_silent, state.downlink == "proven");
                let is_new = (self.online, self.downlink) != now;
                (self.online, self.downlink) = now;
                is_new
            }
            Up::Reported => {
                let reported: Reported = serde_json::from_slice(payload).ok()?;
                self.seen = Some(reported.rev.unwrap_or(0));
                self.signatures = reported.signatures.unwrap_or(1);
                self.local = reported.local.map(plain);
                std::mem::replace(&mut self.revision, reported.running) != reported.running
            }
            Up::Link(link) => {
                tell(&mut self.links, &mut self.unnamed.0, self.named[0].as_ref(), (link, payload), &mut self.crowded)?
            }
            Up::Destination(to) => {
                let (shown, aside) = (&mut self.destinations, &mut self.unnamed.1);
                tell(shown, aside, self.named[1].as_ref(), (to, payload), &mut self.crowded)?
            }
            Up::Alerts => {
                let told: Alerts = serde_json::from_slice(payload).ok()?;
                let named = |alert: Alert| match alert.of {
                    Some(of) => (plain(format!("{} of {of}", alert.trouble)), plain(alert.since)),
                    None => (plain(alert.trouble), plain(alert.since)),
                };
                let alerts = told.alerts.into_iter().take(PARTS_MAX).map(named).collect();
                self.has_said_alerts = true;
                let is_new = self.alerts != alerts;
                self.alerts = alerts;
                is_new
            }
            Up::Metrics => {
                let sample: Sample = serde_json::from_slice(payload).ok()?;
                self.samples.push_back(sample);
                if self.samples.len() > SAMPLES_MAX {
                    self.samples.pop_front();
                }
                false
            }
            Up::Update => {
                let Releases { release, update } = serde_json::from_slice(payload).ok()?;
                let LastUpdate { manifest, to, system, phase, reason } = update.unwrap_or_default();
                let said = [release, manifest, to, system.unwrap_or_default(), phase, reason.unwrap_or_default()];
                let [release, manifest, to, system, phase, reason] = said.map(plain);
                let told = Update { release, manifest, to, system, phase, reason };
                let is_new = self.update != told;
                self.update = told;
                is_new
            }
            Up::Event | Up::Echo | Up::Log(_) => false,
        };
        Some(is_changed)
    }

    /// It speaks of this start of its program. One that has started again says everything anew; until then it is not known.
    fn starts(&mut self, epoch: u64) {
        if self.epoch > 0 && epoch != self.epoch {
            (self.seen, self.has_said_alerts) = (None, false);
        }
        self.epoch = epoch;
    }

    /// It is there, and what it has not said of its start yet may still come.
    pub fn is_beginning(&self) -> bool {
        self.online && !self.is_late
    }

    /// The worst of it.
    pub fn trouble(&self) -> Trouble {
        let is_stuck = |to: &Destination| to.parked > 0 || !to.up && to.queued > 0;
        if !self.online {
            Trouble::Away
        } else if self.destinations.values().any(is_stuck) {
            Trouble::Stuck
        } else if self.crowded || !self.alerts.is_empty() || self.links.values().any(|link| !link.up) {
            Trouble::Unusual
        } else if !self.downlink {
            Trouble::Deaf
        } else {
            Trouble::None
        }
    }

    /// It in one line, with what the registry knows of it.
    pub fn brief<'r>(&'r self, name: &'r str, registry: &'r Registry) -> Brief<'r> {
        let entry = registry.get(name);
        let to = || self.destinations.values();
        Brief {
            name,
            trouble: self.trouble(),
            stranger: entry.is_none() && !registry.is_empty(),
            site: entry.map_or("", |entry| &entry.site),
            ring: entry.map(|entry| entry.ring),
            tags: entry.into_iter().flat_map(|entry| &entry.tags).map(String::as_str).collect(),
            version: &self.version,
            revision: self.revision,
            links_up: self.links.values().filter(|link| link.up).count(),
            links: self.links.len(),
            messages: self.links.values().map(|link| link.messages).fold(0, u64::saturating_add),
            queued: to().map(|to| to.queued).fold(0, u64::saturating_add),
            parked: to().map(|to| to.parked).fold(0, u64::saturating_add),
            oldest_s: to().filter_map(|to| to.oldest_s).max(),
            alerts: self.alerts.keys().map(String::as_str).chain(self.crowded.then_some(CROWDED)).collect(),
        }
    }
}

/// A box told of one of its parts: of one that it has no more, with nothing. `None` when that changes nothing, else whether
/// the box is shown differently now. What finds no room makes it crowded for good: the broker keeps it all the same.
fn tell<T>(
    shown: &mut BTreeMap<String, T>,
    aside: &mut BTreeMap<String, T>,
    named: Option<&BTreeSet<String>>,
    (name, payload): (&str, &[u8]),
    crowded: &mut bool,
) -> Option<bool>
where
    T: for<'de> Deserialize<'de> + PartialEq + Clone + Default,
{
    if payload.is_empty() {
        aside.remove(name);
        return Some(shown.remove(name).is_some());
    }
    let (part, is_shown) = match serde_json::from_slice::<T>(payload) {
        Ok(part) => (part, named.is_none_or(|named| named.contains(name))),
        Err(_) if shown.contains_key(name) || aside.contains_key(name) => return None,
        // It takes a place, as at the broker, and is not shown.
        Err(_) => (T::default(), false),
    };
    let parts = if is_shown { &mut *shown } else { &mut *aside };
    if parts.len() >= PARTS_MAX && !parts.contains_key(name) {
        return Some(!std::mem::replace(crowded, true));
    }
    let before = parts.insert(name.to_string(), part.clone());
    if is_shown {
        aside.remove(name);
    }
    Some(is_shown && before.as_ref() != Some(&part))
}

/// Puts aside what a birth does not name, as far as there is room, and takes back what it does. True when that changes what
/// is shown.
fn part<T>(
    shown: &mut BTreeMap<String, T>,
    aside: &mut BTreeMap<String, T>,
    named: Option<&BTreeSet<String>>,
    crowded: &mut bool,
) -> bool {
    let before: BTreeSet<String> = shown.keys().cloned().collect();
    let all = std::mem::take(shown).into_iter().chain(std::mem::take(aside));
    (*shown, *aside) = all.partition(|(name, _)| named.is_none_or(|named| named.contains(name)));
    for parts in [&mut *shown, aside] {
        while parts.len() > PARTS_MAX {
            parts.pop_last();
            *crowded = true;
        }
    }
    !before.iter().eq(shown.keys())
}

/// Text of a box as a person may see it, on a terminal as well.
fn plain(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::registry::Entry;
    use crate::fleet::bus::Receipt;
    use crate::fleet::topic::Place;

    fn hear(roster: &mut Roster, what: Up, payload: &str) -> bool {
        roster.heard(&said(what, payload, Receipt::new(1, 0)), Instant::now())
    }

    fn said(what: Up, payload: &str, receipt: Receipt) -> Said {
        let place = Place::new("acme", "bench-1").unwrap();
        Said { place, what, payload: payload.as_bytes().to_vec(), receipt }
    }

    #[test]
    fn a_box_that_ended_together_with_the_broker_is_away() {
        let mut roster = Roster::default();
        let (began, live) = (Instant::now(), Receipt::new(1, 0));
        let online = r#"{"online":true,"epoch":3,"downlink":"proven"}"#;
        roster.heard(&said(Up::State, online, live.kept()), began);
        let nearly = began + SILENT_AFTER - Duration::from_secs(1);
        assert!(roster.look(nearly).is_empty() && roster.rows()["bench-1"].online);
        // What is kept is no sign of life.
        roster.heard(&said(Up::Alerts, r#"{"alerts":[]}"#, live.kept()), nearly);
        let late = began + SILENT_AFTER;
        assert_eq!(roster.look(late), ["bench-1"]);
        roster.heard(&said(Up::State, online, live.kept()), late);
        assert_eq!((roster.rows()["bench-1"].trouble(), roster.look(late).len()), (Trouble::Away, 0));
        // Whatever it says itself is.
        roster.take_changed();
        assert!(roster.heard(&said(Up::Metrics, "{}", live), late));
        assert!(roster.rows()["bench-1"].online && roster.take_changed().contains("bench-1"));
        // While the broker was gone nobody could hear it.
        roster.back(late + SILENT_AFTER);
        assert!(roster.look(late + SILENT_AFTER).is_empty());
        assert_eq!(roster.look(late + SILENT_AFTER * 2), ["bench-1"]);
    }

    #[test]
    fn a_row_is_what_the_box_said_last() {
        let mut roster = Roster::default();
        hear(&mut roster, Up::Birth, r#"{"v":1,"epoch":3,"version":"0.1.0","ports":[]}"#);
        hear(&mut roster, Up::State, r#"{"v":1,"online":true,"epoch":3,"downlink":"proven"}"#);
        hear(&mut roster, Up::Link("chemistry".into()), r#"{"up":true,"messages":7,"naks":1,"reasons":{}}"#);
        hear(&mut roster, Up::Destination("ehr".into()), r#"{"up":false,"queued":4,"parked":1,"oldest_s":60}"#);
        let alert = r#"{"trouble":"silence","of":"chemistry","since":"2026-09-21T14:13:20Z","figure":9,"limit":1}"#;
        hear(&mut roster, Up::Alerts, &format!("{{\"v\":1,\"alerts\":[{alert}]}}"));
        assert!(!hear(&mut roster, Up::State, r#"{"v":1,"online":false,"epoch":2}"#));
        assert!(!hear(&mut roster, Up::Link("chemistry".into()), "no json"));
        assert_eq!(roster.take_changed().into_iter().collect::<Vec<_>>(), ["bench-1"]);
        let row = &roster.rows()["bench-1"];
        assert!(row.online && row.downlink, "an old will says nothing of this run");
        assert_eq!((row.links["chemistry"].messages, row.destinations["ehr"].queued), (7, 4));
        assert_eq!(
            (row.alerts["silence of chemistry"].as_str(), row.trouble()),
            ("2026-09-21T14:13:20Z", Trouble::Stuck)
        );
        assert!(!hear(&mut roster, Up::State, r#"{"v":1,"online":true,"epoch":3,"downlink":"proven"}"#));
        assert!(roster.take_changed().is_empty(), "the same again is no news");
        assert!(hear(&mut roster, Up::Link("chemistry".into()), ""), "a link that is gone is shown no more");
        assert!(hear(&mut roster, Up::Destination("ehr".into()), ""));
        assert!(!hear(&mut roster, Up::Destination("ehr".into()), ""));
        let row = &roster.rows()["bench-1"];
        assert!(row.links.is_empty() && row.destinations.is_empty());
        hear(&mut roster, Up::Alerts, r#"{"v":1,"alerts":[]}"#);
        hear(&mut roster, Up::State, r#"{"v":1,"online":false,"epoch":3}"#);
        let row = &roster.rows()["bench-1"];
        assert!(!row.online && row.alerts.is_empty() && row.trouble() == Trouble::Away);
    }

    #[test]
    fn what_a_box_said_before_it_started_again_is_not_how_it_is() {
        let mut roster = Roster::default();
        let known = |roster: &Roster| (roster.rows()["bench-1"].has_said_alerts, roster.rows()["bench-1"].seen);
        // What the broker keeps comes in any order.
        hear(&mut roster, Up::Alerts, r#"{"alerts":[]}"#);
        hear(&mut roster, Up::Reported, r#"{"rev":4,"local":"ab"}"#);
        hear(&mut roster, Up::State, r#"{"online":true,"epoch":3}"#);
        assert_eq!(known(&roster), (true, Some(4)));
        assert_eq!(roster.rows()["bench-1"].local.as_deref(), Some("ab"));
        hear(&mut roster, Up::State, r#"{"online":false,"epoch":3}"#);
        // A birth comes before the state.
        hear(&mut roster, Up::Birth, r#"{"epoch":4,"version":"0.1.0"}"#);
        assert_eq!(known(&roster), (false, None));
        hear(&mut roster, Up::State, r#"{"online":true,"epoch":4}"#);
        hear(&mut roster, Up::Alerts, r#"{"alerts":[]}"#);
        assert_eq!(known(&roster), (true, None));
        // The same start, said again.
        hear(&mut roster, Up::Birth, r#"{"epoch":4,"version":"0.1.0"}"#);
        assert_eq!(known(&roster), (true, None));
        hear(&mut roster, Up::State, r#"{"online":true,"epoch":5}"#);
        assert_eq!(known(&roster), (false, None), "the birth was not heard");
    }

    #[test]
    fn a_machine_that_takes_the_name_of_another_is_shown_as_it_is() {
        let mut roster = Roster::default();
        hear(&mut roster, Up::Birth, r#"{"epoch":57,"version":"0.1.0"}"#);
        hear(&mut roster, Up::State, r#"{"online":false,"epoch":57}"#);
        hear(&mut roster, Up::Alerts, r#"{"alerts":[]}"#);
        assert!(hear(&mut roster, Up::Birth, r#"{"epoch":1,"version":"0.1.0"}"#));
        assert!(hear(&mut roster, Up::State, r#"{"online":true,"epoch":1,"downlink":"proven"}"#));
        let row = &roster.rows()["bench-1"];
        assert_eq!((row.online, row.epoch, row.has_said_alerts), (true, 1, false));
    }

    #[test]
    fn what_a_birth_does_not_name_is_not_shown() {
        let mut roster = Roster::default();
        let shown = |roster: &Roster| {
            let row = &roster.rows()["bench-1"];
            let names = row.links.keys().chain(row.destinations.keys());
            names.cloned().collect::<Vec<_>>().join(" ")
        };
        hear(&mut roster, Up::Link("old".into()), r#"{"up":false}"#);
        hear(&mut roster, Up::Destination("was".into()), r#"{"up":false,"queued":4}"#);
        let birth = r#"{"epoch":2,"version":"0.1.0","links":["new"],"destinations":["ehr"]}"#;
        assert!(hear(&mut roster, Up::Birth, birth));
        hear(&mut roster, Up::Link("new".into()), r#"{"up":true}"#);
        hear(&mut roster, Up::Destination("ehr".into()), r#"{"up":true}"#);
        assert!(
            !hear(&mut roster, Up::Link("old".into()), r#"{"up":false,"messages":1}"#),
            "it is kept, and is no more"
        );
        hear(&mut roster, Up::State, r#"{"online":true,"epoch":2,"downlink":"proven"}"#);
        assert_eq!((shown(&roster).as_str(), roster.rows()["bench-1"].trouble()), ("new ehr", Trouble::None));
        // A part may come before the birth that names it.
        hear(&mut roster, Up::Link("next".into()), r#"{"up":true}"#);
        assert_eq!(shown(&roster), "new ehr");
        let birth = r#"{"epoch":2,"version":"0.1.0","links":["new","next"],"destinations":["ehr"]}"#;
        assert!(hear(&mut roster, Up::Birth, birth));
        assert_eq!(shown(&roster), "new next ehr");
        assert!(!hear(&mut roster, Up::Link("old".into()), "") && hear(&mut roster, Up::Link("new".into()), ""));
    }

    #[test]
    fn a_hostile_box_fills_neither_memory_nor_a_terminal() {
        let mut roster = Roster::default();
        for n in 0..1000 {
            hear(&mut roster, Up::Link(format!("link-{n}")), r#"{"up":true,"messages":18446744073709551615}"#);
            hear(&mut roster, Up::Metrics, r#"{"messages":1}"#);
        }
        let long = format!("{}\u{1b}[2J<script>{}", "x".repeat(10), "y".repeat(1000));
        let json = serde_json::json!({ "epoch": 1, "version": long, "hardware": long }).to_string();
        hear(&mut roster, Up::Birth, &json);
        let alerts: Vec<_> = (0..1000).map(|n| serde_json::json!({ "trouble": format!("{n}{long}") })).collect();
        hear(&mut roster, Up::Alerts, &serde_json::json!({ "alerts": alerts }).to_string());
        let brief = roster.rows()["bench-1"].brief("bench-1", &Registry::default()).alerts.join(" ");
        assert!(brief.contains(&format!("more than {PARTS_MAX} links or destinations")), "{brief}");
        // Nor by calling its links otherwise, again and again.
        for n in 0..50 {
            let names: Vec<String> = (0..PARTS_MAX).map(|link| format!("{n}-{link}")).collect();
            hear(&mut roster, Up::Birth, &serde_json::json!({ "epoch": 1, "links": names }).to_string());
            for name in names {
                hear(&mut roster, Up::Link(name), r#"{"up":true,"messages":18446744073709551615}"#);
            }
        }
        let row = &roster.rows()["bench-1"];
        assert_eq!((row.links.len(), row.unnamed.0.len()), (PARTS_MAX, PARTS_MAX));
        hear(&mut roster, Up::Birth, &json);
        let row = &roster.rows()["bench-1"];
        assert_eq!((row.links.len(), row.unnamed.0.len()), (PARTS_MAX, 0));
        assert_eq!((row.alerts.len(), row.samples.len()), (PARTS_MAX, SAMPLES_MAX));
        let mut shown = row.alerts.keys().chain([&row.version, &row.hardware]);
        assert!(shown.all(|text| text.chars().count() <= TEXT_MAX && !text.contains('\u{1b}')));
        assert_eq!(row.brief("bench-1", &Registry::default()).messages, u64::MAX);
    }

    #[test]
    fn what_cannot_be_read_takes_its_place_and_crowded_stays() {
        let mut roster = Roster::default();
        let crowded = |roster: &Roster| roster.rows()["bench-1"].crowded;
        for n in 0..PARTS_MAX {
            hear(&mut roster, Up::Link(n.to_string()), "no json");
        }
        assert!(!crowded(&roster) && roster.rows()["bench-1"].links.is_empty());
        assert!(hear(&mut roster, Up::Link("x".into()), "no json") && crowded(&roster));
        // Taking back anything does not make it well: the broker keeps the rest.
        assert!(!hear(&mut roster, Up::Link("0".into()), "") && crowded(&roster));
        assert!(hear(&mut roster, Up::Link("1".into()), r#"{"up":true}"#), "it can be read now");
        assert_eq!(
            (roster.rows()["bench-1"].links.len(), roster.rows()["bench-1"].unnamed.0.len()),
            (1, PARTS_MAX - 2)
        );
        // What it keeps comes again.
        roster.back(Instant::now());
        assert!(!crowded(&roster));
    }

    #[test]
    fn who_cleans_up_behind_a_box_gives_no_sign_of_its_life() {
        let mut roster = Roster::default();
        let (began, live) = (Instant::now(), Receipt::new(1, 0));
        let online = r#"{"online":true,"epoch":3,"downlink":"proven"}"#;
        roster.heard(&said(Up::State, online, live.kept()), began);
        roster.heard(&said(Up::Link("chemistry".into()), r#"{"up":true}"#, live.kept()), began);
        roster.look(began + SILENT_AFTER);
        assert!(roster.heard(&said(Up::Link("chemistry".into()), "", live), began + SILENT_AFTER));
        let row = &roster.rows()["bench-1"];
        assert_eq!((row.online, row.has_spoken, row.links.len()), (false, false, 0));
        roster.take_changed();
        assert!(roster.heard(&said(Up::State, "", live), began + SILENT_AFTER));
        for what in [Up::State, Up::Alerts, Up::Birth] {
            assert!(!roster.heard(&said(what, "", live), began + SILENT_AFTER));
        }
        assert!(roster.rows().is_empty() && roster.take_changed().contains("bench-1"));
        // A box that does so itself gets no more time to say how it is.
        roster.heard(&said(Up::State, online, live), began + SILENT_AFTER);
        roster.look(began + SILENT_AFTER);
        assert!(roster.rows()["bench-1"].online && !roster.rows()["bench-1"].is_beginning());
    }

    #[test]
    fn who_is_not_in_the_registry_is_a_stranger_once_it_knows_somebody() {
        let mut roster = Roster::default();
        hear(&mut roster, Up::State, r#"{"online":true,"epoch":1}"#);
        let row = &roster.rows()["bench-1"];
        let mut registry = Registry::default();
        assert!(!row.brief("bench-1", &registry).stranger);
        registry.put(Entry { name: "bench-2".into(), ..Entry::default() });
        assert!(row.brief("bench-1", &registry).stranger);
        registry.put(Entry { name: "bench-1".into(), ring: 2, ..Entry::default() });
        assert_eq!((row.brief("bench-1", &registry).stranger, row.brief("bench-1", &registry).ring), (false, Some(2)));
    }
}
