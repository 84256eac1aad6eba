//! A staged roll-out: a change comes to a fleet ring by ring, some boxes at a time, and stops by itself when too many
//! of a ring fail. This file is pure: [`Rollout::steps`] says what to do next, [`Rollout::apply`] takes what was
//! written down.
//!
//! ```text
//! ring 0: told (batch at a time) -> each answers, fails, or is silent for too long -> all ended
//!         -> wait -> those that are away now count as failed -> enough succeeded? -> ring 1 ...
//! at any time: more failed than may -> stopped; a person pauses, resumes, stops
//! ```
//!
//! What happens is a list of [`Record`]s on disk ([`log`]), written before it is done, and the roll-out is what they
//! make of the plan. A box is told the very document that stands there, also by the next process after a crash; a box
//! that has it already says its result again and does nothing twice ([`crate::fleet::command`]).

pub mod log;
pub mod run;

use crate::fleet::command::Operation;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Each box is given this command; it succeeds when the box says that it is done.
    Command {
        /// What it does.
        operation: Operation,
    },
}

impl Change {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Change::Command { operation } => operation.word(),
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
    ring: usize,
    ring_ended: Option<Timestamp>,
    is_paused: bool,
    over: Option<Stage>,
}

impl Rollout {
    /// One of which nothing has happened.
    pub fn new(plan: Plan) -> Rollout {
        let all = plan.rings.iter().flat_map(|ring| &ring.boxes);
        let boxes = all.map(|name| (name.clone(), Standing::Waiting)).collect();
        Rollout { plan, boxes, ring: 0, ring_ended: None, is_paused: false, over: None }
    }

    /// Something was written down.
    pub fn apply(&mut self, record: Record) {
        let at = record.at;
        match record.what {
            What::Told { gateway, id, document } => self.set(&gateway, Standing::Told { at, id, document }),
            What::Ended { gateway, failure } => {
                self.set(&gateway, failure.map_or(Standing::Done, Standing::Failed));
            }
            What::RingEnded => self.ring_ended = Some(at),
            What::RingOpened => (self.ring, self.ring_ended) = (self.ring + 1, None),
            What::Paused => self.is_paused = true,
            What::Resumed => self.is_paused = false,
            What::Stopped { why } => self.over = self.over.take().or(Some(Stage::Stopped(why))),
            What::Finished => self.over = self.over.take().or(Some(Stage::Finished)),
        }
    }

    fn set(&mut self, gateway: &str, standing: Standing) {
        if let Some(is) = self.boxes.get_mut(gateway) {
            *is = standing;
        }
    }

    /// What is to be done now; nothing when it waits. Each of them changes what comes next, so it is asked again.
    pub fn steps(&self, now: Timestamp, is_away: impl Fn(&str) -> bool) -> Vec<Step> {
        let Some(ring) = self.plan.rings.get(self.ring).filter(|_| self.over.is_none()) else {
            return match self.over {
                None => vec![Step::Note(What::Finished)],
                Some(_) => Vec::new(),
            };
        };
        // What was told cannot be taken back, so it is counted also while it pauses.
        let silent = self.in_flight().filter(|(_, at)| is_over(*at, self.plan.silent_s, now));
        let why = format!("no answer within {} s", self.plan.silent_s);
        let silent: Vec<Step> = silent.map(|(name, _)| failed(name, &why)).collect();
        if !silent.is_empty() {
            return silent;
        }
        let counts = self.counts(self.ring);
        let all = ring.boxes.len();
        if counts.failed * 100 > all * usize::from(self.plan.failure_percent) {
            let why = format!("{} of the {all} boxes of ring {} failed", counts.failed, ring.ring);
            return vec![Step::Note(What::Stopped { why })];
        }
        if self.is_paused {
            return Vec::new();
        }
        if counts.waiting > 0 {
            let room = self.plan.batch.max(1).saturating_sub(counts.told);
            let next = ring.boxes.iter().filter(|name| self.standing(name) == Some(&Standing::Waiting));
            return next.take(room).map(|name| Step::Tell(name.clone())).collect();
        }
        if counts.told > 0 {
            return Vec::new();
        }
        match self.ring_ended {
            None => vec![Step::Note(What::RingEnded)],
            Some(ended) if !is_over(ended, self.plan.wait_s, now) => Vec::new(),
            Some(_) => self.judge(ring, counts, is_away),
        }
    }

    /// The wait is over: those that succeeded and are away now have failed, and then there are enough, or not.
    fn judge(&self, ring: &Ring, counts: Counts, is_away: impl Fn(&str) -> bool) -> Vec<Step> {
        let done = ring.boxes.iter().filter(|name| self.standing(name) == Some(&Standing::Done));
        let away: Vec<Step> =
            done.filter(|name| is_away(name)).map(|name| failed(name, "it is away after the change")).collect();
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

    /// The next moment at which [`Rollout::steps`] says something else by time alone.
    pub fn wakes(&self) -> Option<Timestamp> {
        if self.over.is_some() {
            return None;
        }
        let silent = self.in_flight().map(|(_, at)| at + SignedDuration::from_secs(self.plan.silent_s.into()));
        let wait = self.ring_ended.map(|at| at + SignedDuration::from_secs(self.plan.wait_s.into()));
        silent.chain(wait).min()
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
