//! A staged roll-out: a change comes to a fleet ring by ring, some boxes at a time, and stops by itself when too many
//! of a ring fail. This file is pure: [`Rollout::steps`] says what to do next, [`Rollout::apply`] takes what was
//! written down.
//!
//! ```text
//! ring 0: told (batch at a time) -> each answers, fails, or is silent for too long -> all ended
//!         -> wait -> those that are away now count as failed -> enough succeeded? -> ring 1 ...
//! at any time: a box that has it tells of something unusual -> it has failed;
//!              more failed than may -> stopped; a person pauses, resumes, stops
//! ```
//!
//! | change | a box has it when | it has failed when |
//! |---|---|---|
//! | command | it says that it is done | it says that it is not |
//! | configuration | it says that the revision is committed | it says that it is refused or reverted |
//! | update | it says that the release is committed | it refuses it, could not fetch it, or took it back |
//!
//! A box that has it counts once it has said something itself since the desk hears the broker: what the broker kept of it
//! may be from before both ended.
//!
//! When the broker was gone, boxes get the time to dial it again before any counts as away or silent ([`Now::Coming`]).
//! After that, and when a desk goes on, all that have not answered are told again, also those whose time is over: they
//! may have done it and said so to nobody ([`Rollout::attend`]).
//!
//! A box that is away is told when it is back. An update is two commands: the release is offered, and installed by the
//! second once the box says that it lies ready.
//!
//! What happens is a list of [`Record`]s on disk ([`log`]), written before it is done, and the roll-out is what they
//! make of the plan. A box is told the very document that stands there, also by the next process after a crash; a box
//! that has it already says its result again and does nothing twice ([`crate::fleet::command`]).

pub mod log;
pub mod run;

use super::pack::Content;
use crate::fleet::command::Operation;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A box whose time is over while nobody looked is told again, and has so many seconds to say what it did.
const SAYS_AGAIN_S: u32 = 120;

/// What is rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Each box is given this command; it succeeds when the box says that it is done.
    Command {
        /// What it does.
        operation: Operation,
    },
    /// Each box is sent a configuration; it succeeds when the box has confirmed it.
    Config {
        /// What is sent to whom.
        content: Contents,
        /// It replaces the boxes' own files as they are then, though somebody edited them there.
        #[serde(default)]
        replace: bool,
    },
    /// Each box fetches a release and installs it; it succeeds when the box has confirmed it.
    Update {
        /// Which.
        version: String,
        /// Its manifest, signed.
        manifest: String,
        /// Roots behind the one that boxes may have, in order.
        roots: Vec<String>,
        /// SHA-256 of the manifest when it brings an operating system: then the release does not tell it from others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with_system: Option<String>,
    },
}

/// Configurations for boxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// All get this one.
    Same(Content),
    /// Each gets one of its own, by name.
    Each(BTreeMap<String, Content>),
}

impl Contents {
    /// That of a box.
    pub fn of(&self, gateway: &str) -> Option<&Content> {
        match self {
            Contents::Same(content) => Some(content),
            Contents::Each(all) => all.get(gateway),
        }
    }
}

impl Change {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Change::Command { operation } => operation.word(),
            Change::Config { .. } => "config",
            Change::Update { .. } => "update",
        }
    }

    /// After so many seconds without an answer a box has failed, unless a person says otherwise. One with an update may
    /// wait for an idle bench for half a day (`wait_max_min`), and tries the release after that.
    pub fn silent_s(&self) -> u32 {
        match self {
            Change::Command { .. } | Change::Config { .. } => 3_600,
            Change::Update { .. } => 14 * 3_600,
        }
    }

    /// How many operators must sign it.
    pub fn signatures(&self) -> usize {
        match self {
            Change::Command { operation } => operation.signatures(),
            Change::Config { .. } => 1,
            Change::Update { version, .. } => {
                Operation::UpdateInstall { version: version.clone(), system: None }.signatures()
            }
        }
    }
}

/// What is to be done. It is written once and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: Timestamp,
    /// Names of the keys that sign.
    pub signed_by: Vec<String>,
    /// What is rolled out.
    #[serde(flatten)]
    pub change: Change,
    /// Who gets it, in this order.
    pub rings: Vec<Ring>,
    /// Boxes that are at it at the same time, at most.
    pub batch: usize,
    /// A ring that ended is watched for this long before the next is opened, seconds.
    pub wait_s: u32,
    /// A box that has not answered for this long has failed, seconds; its document is not valid any longer either.
    pub silent_s: u32,
    /// The next ring is opened when so many percent of the ring succeeded.
    pub success_percent: u8,
    /// When more than so many percent of a ring failed, no other box is told.
    pub failure_percent: u8,
}

/// Boxes that get a change at the same stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// As in the registry.
    pub ring: u32,
    /// Their names.
    pub boxes: Vec<String>,
}

/// Something that happened, with its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// A box is told this, from now on.
    Told {
        /// Which.
        gateway: String,
        /// What its answer names.
        id: String,
        /// The signed document.
        document: String,
        /// How it was.
        #[serde(default)]
        before: Before,
    },
    /// A box has fetched what it is to install.
    Ready {
        /// Which.
        gateway: String,
    },
    /// A box has it, or has failed.
    Ended {
        /// Which.
        gateway: String,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// All boxes of the ring have ended.
    RingEnded,
    /// The next ring is opened.
    RingOpened,
    /// No box is told until it goes on.
    Paused,
    /// It goes on.
    Resumed,
    /// No other box is told, ever.
    Stopped {
        /// Why.
        why: String,
    },
    /// All rings are through.
    Finished,
}

/// How a box was when it was told: what is the same afterwards is no news.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// What was unusual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// What it said of its last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
}

/// How a box is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// It is connected, and nothing is unusual that was not before.
    Well,
    /// This is unusual and was not before.
    Unusual(String),
    /// It is not connected.
    Away,
    /// It is not connected, and the broker has not been there again for long enough that it had to be; or it is, has just
    /// started, and has not said yet how it is.
    Coming,
    /// The broker kept that it is connected, and it has not said anything itself yet.
    Unheard,
}

impl Now {
    /// It can be told something.
    fn is_there(&self) -> bool {
        matches!(self, Now::Well | Now::Unusual(_) | Now::Unheard)
    }
}

/// Where a box stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Not told yet.
    #[default]
    Waiting,
    /// Told, and has not answered.
    Told {
        /// When.
        at: Timestamp,
        /// What its answer names.
        id: String,
        /// The signed document.
        document: String,
    },
    /// It has fetched what it is to install, and is to be told so.
    Ready,
    /// It has it.
    Done,
    /// It has failed, and why.
    Failed(String),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a document for this box, write it down ([`What::Told`]) and publish it.
    Tell(String),
    /// Write this down.
    Note(What),
}

/// How it stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Under way.
    Running,
    /// Until a person lets it go on.
    Paused,
    /// For good.
    Stopped(String),
    /// Through.
    Finished,
}

/// Boxes of a ring by where they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Not told yet.
    pub waiting: usize,
    /// Told, and have not answered.
    pub told: usize,
    /// Have fetched what they are to install.
    pub ready: usize,
    /// Have it.
    pub done: usize,
    /// Have failed.
    pub failed: usize,
}

/// A plan and what became of it.
#[derive(Debug, Clone)]
pub struct Rollout {
    plan: Plan,
    boxes: BTreeMap<String, Standing>,
    /// How boxes were when they were told first.
    before: BTreeMap<String, Before>,
    /// Boxes that have fetched what they are to install.
    fetched: BTreeSet<String>,
    ring: usize,
    ring_ended: Option<Timestamp>,
    /// When something happened last, or somebody began to look.
    last: Timestamp,
    /// When somebody began to look.
    attended: Timestamp,
    is_paused: bool,
    over: Option<Stage>,
}

impl Rollout {
    /// One of which nothing has happened.
    pub fn new(plan: Plan) -> Rollout {
        let all = plan.rings.iter().flat_map(|ring| &ring.boxes);
        let boxes = all.map(|name| (name.clone(), Standing::Waiting)).collect();
        let (before, fetched, last) = (BTreeMap::new(), BTreeSet::new(), plan.made);
        let (ring, ring_ended, attended, is_paused, over) = (0, None, last, false, None);
        Rollout { plan, boxes, before, fetched, ring, ring_ended, last, attended, is_paused, over }
    }

    /// From now on somebody hears what boxes say. That nothing was heard of one before is not held against it.
    pub fn attend(&mut self, now: Timestamp) {
        (self.last, self.attended) = (self.last.max(now), now);
    }

    /// Something was written down.
    pub fn apply(&mut self, record: Record) {
        let at = record.at;
        self.last = self.last.max(at);
        match record.what {
            What::Told { gateway, id, document, before } => {
                self.set(&gateway, Standing::Told { at, id, document });
                // What was unusual before it installs what it fetched is not of that.
                let alerts = before.alerts.clone();
                self.before.entry(gateway).or_insert(before).alerts = alerts;
            }
            What::Ready { gateway } => {
                if matches!(self.standing(&gateway), Some(Standing::Told { .. })) {
                    self.set(&gateway, Standing::Ready);
                    self.fetched.insert(gateway);
                }
            }
            What::Ended { gateway, failure } => {
                self.set(&gateway, failure.map_or(Standing::Done, Standing::Failed));
            }
            What::RingEnded => self.ring_ended = Some(at),
            What::RingOpened => (self.ring, self.ring_ended) = (self.ring + 1, None),
            What::Paused => self.is_paused = true,
            What::Resumed => (self.is_paused, self.attended) = (false, at),
            What::Stopped { why } => self.over = self.over.take().or(Some(Stage::Stopped(why))),
            What::Finished => self.over = self.over.take().or(Some(Stage::Finished)),
        }
    }

    fn set(&mut self, gateway: &str, standing: Standing) {
        if let Some(is) = self.boxes.get_mut(gateway) {
            *is = standing;
        }
    }

    /// What is to be done now; nothing when it waits. Each of them changes what comes next, so it is asked again. `is`
    /// says how a box is now.
    pub fn steps(&self, now: Timestamp, is: impl Fn(&str) -> Now) -> Vec<Step> {
        let Some(ring) = self.plan.rings.get(self.ring).filter(|_| self.over.is_none()) else {
            return match self.over {
                None => vec![Step::Note(What::Finished)],
                Some(_) => Vec::new(),
            };
        };
        // What was told cannot be taken back, so what became of it is counted also while it pauses; but nobody is told
        // again then, so no silence is.
        let why = format!("no answer within {} s", self.plan.silent_s);
        let in_flight = self.in_flight().filter(|_| !self.is_paused);
        let silent = in_flight.filter(|(name, _)| self.is_overdue(name, now) && is(name) != Now::Coming);
        let silent = silent.map(|(name, _)| failed(name, &why));
        let opened = self.plan.rings.iter().take(self.ring + 1);
        let unusual = opened.clone().flat_map(|ring| self.of(ring, Standing::Done)).filter_map(|name| match is(name) {
            Now::Unusual(what) => Some(failed(name, &format!("{what} since the change"))),
            Now::Well | Now::Away | Now::Coming | Now::Unheard => None,
        });
        let troubled: Vec<Step> = silent.chain(unusual).collect();
        if !troubled.is_empty() {
            return troubled;
        }
        for (at, ring) in opened.enumerate() {
            let (failed, all) = (self.counts(at).failed, ring.boxes.len());
            if failed * 100 > all * usize::from(self.plan.failure_percent) {
                let why = format!("{failed} of the {all} boxes of ring {} failed", ring.ring);
                return vec![Step::Note(What::Stopped { why })];
            }
        }
        let counts = self.counts(self.ring);
        if self.is_paused {
            return Vec::new();
        }
        if counts.waiting + counts.ready > 0 {
            let room = self.plan.batch.max(1).saturating_sub(counts.told + counts.ready);
            let is_there = |name: &&str| is(name).is_there();
            let next = self.of(ring, Standing::Waiting).filter(is_there).take(room);
            let next: Vec<&str> = self.of(ring, Standing::Ready).filter(is_there).chain(next).collect();
            if next.is_empty() && counts.told == 0 && is_over(self.last, self.plan.silent_s, now) {
                let away = self.of(ring, Standing::Waiting).chain(self.of(ring, Standing::Ready));
                let why = format!("it was away for {} s", self.plan.silent_s);
                return away.filter(|name| is(name) == Now::Away).map(|name| failed(name, &why)).collect();
            }
            return next.into_iter().map(|name| Step::Tell(name.to_string())).collect();
        }
        if counts.told > 0 {
            return Vec::new();
        }
        match self.ring_ended {
            None => vec![Step::Note(What::RingEnded)],
            Some(ended) if !is_over(ended, self.plan.wait_s, now) => Vec::new(),
            Some(_) => self.judge(ring, counts, is),
        }
    }

    /// The wait is over: those that succeeded and are away now have failed, and then there are enough, or not.
    fn judge(&self, ring: &Ring, counts: Counts, is: impl Fn(&str) -> Now) -> Vec<Step> {
        if self.of(ring, Standing::Done).any(|name| matches!(is(name), Now::Coming | Now::Unheard)) {
            return Vec::new();
        }
        let away = self.of(ring, Standing::Done).filter(|name| is(name) == Now::Away);
        let away: Vec<Step> = away.map(|name| failed(name, "it is away after the change")).collect();
        if !away.is_empty() {
            return away;
        }
        let all = ring.boxes.len();
        if counts.done * 100 < all * usize::from(self.plan.success_percent) {
            let why = format!("only {} of the {all} boxes of ring {} succeeded", counts.done, ring.ring);
            return vec![Step::Note(What::Stopped { why })];
        }
        let is_last = self.ring + 1 >= self.plan.rings.len();
        vec![Step::Note(if is_last { What::Finished } else { What::RingOpened })]
    }

    /// Boxes of a ring that stand there.
    fn of<'r>(&'r self, ring: &'r Ring, standing: Standing) -> impl Iterator<Item = &'r str> {
        let all = ring.boxes.iter().map(String::as_str);
        all.filter(move |name| self.standing(name) == Some(&standing))
    }

    /// Boxes that are told and have not answered, and since when.
    fn in_flight(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.boxes.iter().filter_map(|(name, standing)| match standing {
            Standing::Told { at, .. } => Some((name.as_str(), *at)),
            _ => None,
        })
    }

    /// Boxes that are told and have not answered: name, what their answer names, and the signed document.
    pub fn told(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.boxes.iter().filter_map(|(name, standing)| match standing {
            Standing::Told { id, document, .. } => Some((name.as_str(), id.as_str(), document.as_str())),
            _ => None,
        })
    }

    /// Whether a box was told too long ago, and has not answered, though somebody was there to hear it.
    pub fn is_overdue(&self, name: &str, now: Timestamp) -> bool {
        let silent_s = self.plan.silent_s;
        is_over(self.attended, silent_s.min(SAYS_AGAIN_S), now)
            && matches!(self.standing(name), Some(Standing::Told { at, .. }) if is_over(*at, silent_s, now))
    }

    /// How a box was when it was told.
    pub fn before(&self, name: &str) -> Option<&Before> {
        self.before.get(name)
    }

    /// Whether a box has fetched what it is to install.
    pub fn has_fetched(&self, name: &str) -> bool {
        self.fetched.contains(name)
    }

    /// How it ended, once it has.
    pub fn over(&self) -> Option<&Stage> {
        self.over.as_ref()
    }

    /// Where a box stands.
    pub fn standing(&self, name: &str) -> Option<&Standing> {
        self.boxes.get(name)
    }

    /// Boxes of a ring by where they stand.
    pub fn counts(&self, ring: usize) -> Counts {
        let mut counts = Counts::default();
        for name in self.plan.rings.get(ring).into_iter().flat_map(|ring| &ring.boxes) {
            match self.boxes.get(name) {
                Some(Standing::Told { .. }) => counts.told += 1,
                Some(Standing::Ready) => counts.ready += 1,
                Some(Standing::Done) => counts.done += 1,
                Some(Standing::Failed(_)) => counts.failed += 1,
                Some(Standing::Waiting) | None => counts.waiting += 1,
            }
        }
        counts
    }

    /// Boxes that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.boxes.iter().filter_map(|(name, standing)| match standing {
            Standing::Failed(why) => Some((name.as_str(), why.as_str())),
            _ => None,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Which ring is open, counted from 0.
    pub fn ring(&self) -> usize {
        self.ring
    }

    /// How it stands.
    pub fn stage(&self) -> Stage {
        match (&self.over, self.is_paused) {
            (Some(over), _) => over.clone(),
            (None, true) => Stage::Paused,
            (None, false) => Stage::Running,
        }
    }
}

fn failed(name: &str, why: &str) -> Step {
    Step::Note(What::Ended { gateway: name.to_string(), failure: Some(why.to_string()) })
}

fn is_over(since: Timestamp, seconds: u32, now: Timestamp) -> bool {
    now.duration_since(since) >= SignedDuration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests;
