//! What the commands do. Everything here is what a person on the box could do as well; there is no shell.

use super::captures::{self, Wanted};
use super::command::Operation;
use super::log;
use super::snapshot::{QUEUE_COUNTED_MAX, Sources};
use super::telemetry::{
    Bundle, Document, Failure, FindingFacts, Id, LogFacts, Name, Outcome, Packed, QueueFacts, Settings, Word,
};
use crate::audit::{self, Act};
use crate::clock::{Clock, Quality};
use crate::journal::{Condition, Journal, JournalError, OperatorAction, OutboxId};
use crate::service::is_supervised;
use crate::update::manifest::Refusal;
use crate::update::{self, Updates};
use crate::workbench::doctor::Finding;
use crate::workbench::examination::examine_running;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// Parked messages of one destination that a command changes, and how many in one commit, behind which results wait.
const PARKED_MAX: usize = 10_000;
const AT_ONCE: usize = 100;

/// Who does it.
pub(super) struct Performer {
    journal: Journal,
    destinations: Box<dyn Fn() -> Vec<Name> + Send + Sync>,
    updates: Option<Updates>,
    clock: Clock,
    sources: Sources,
    /// Wakes the keeper of the box's certificate, where there is one.
    renew: Option<Arc<Notify>>,
    /// The run of the program.
    epoch: u64,
}

/// What a command did.
pub(super) struct Performed {
    /// Which.
    pub id: Id,
    /// How it ends, once its parts are told.
    pub outcome: Outcome,
    /// What it tells in parts.
    pub parts: Vec<Document>,
}

impl Performer {
    /// For the box of these sources, with the destinations there are when it is asked.
    pub fn new(sources: &Sources, renew: Option<Arc<Notify>>, epoch: u64) -> Performer {
        Performer {
            epoch,
            sources: sources.clone(),
            renew,
            journal: sources.journal().clone(),
            destinations: Box::new(sources.destination_names()),
            updates: sources.updates().cloned(),
            clock: sources.clock().clone(),
        }
    }

    /// Does it. Blocks as long as the journal does.
    pub fn perform(&self, id: Id, operation: Operation) -> Performed {
        let mut parts = Vec::new();
        let done = match operation {
            Operation::LogBundle => self.bundle(id, &mut parts),
            operation => self.try_perform(id, operation),
        };
        Performed { id, outcome: done.unwrap_or_else(|failure| Outcome::Failed { failure }), parts }
    }

    /// Keeps what passes on a link, and takes as long as that was asked for.
    pub async fn capture(&self, id: Id, (link, seconds, reveal): (String, u32, bool)) -> Performed {
        let made = async {
            let found = self.sources.links().into_iter().find(|(name, _)| name.as_str() == link);
            let (_, link) = found.ok_or(Failure::NoSuchLink)?;
            if self.journal.condition() != Condition::Good {
                return Err(Failure::NoRoom);
            }
            let data = self.sources.data().to_path_buf();
            if reveal {
                let (data, act) = (data.clone(), Act::Tapped { link: Some(link.taps().link().to_string()) });
                let noted = tokio::task::spawn_blocking(move || note(&data, id, act));
                noted.await.map_err(|_| Failure::System)?;
            }
            captures::make(Wanted { data, id, link, seconds, reveal }).await
        };
        let outcome = match made.await {
            Ok(capture) => Outcome::Captured { capture },
            Err(failure) => Outcome::Failed { failure },
        };
        Performed { id, outcome, parts: Vec::new() }
    }

    fn bundle(&self, id: Id, parts: &mut Vec<Document>) -> Result<Outcome, Failure> {
        let (config, known) = (self.sources.config(), self.sources.names());
        // What it cannot find out is no reason to tell nothing.
        let destinations = self.sources.destinations();
        let health = |name: &str| {
            let found = destinations.iter().find(|(to, _)| to.as_str() == name);
            found.map(|(_, counters)| counters.health())
        };
        let examined = examine_running(&config, health)
            .inspect_err(|error| tracing::warn!("fleet: the doctor cannot look: {error}"));
        let facts = |finding: &Finding| FindingFacts::of(finding, &known);
        let bundle = Bundle {
            stamp: self.sources.stamp(),
            birth: self.sources.birth(self.epoch),
            settings: Settings::of(&config),
            doctor: examined.ok().map(|examined| examined.findings.iter().map(facts).collect()),
            alerts: self.sources.alerts(),
            links: self.sources.link_reports(),
            destinations: self.sources.destination_reports(),
            log: log::last(log::LINES_MAX).iter().map(|line| line.facts(&known)).collect(),
        };
        let (told, bundle) = bundle.parts(id).ok_or(Failure::TooLong)?;
        *parts = told;
        Ok(Outcome::Bundle { bundle })
    }

    fn try_perform(&self, id: Id, operation: Operation) -> Result<Outcome, Failure> {
        match operation {
            // The fleet's loop does it: it says all anew, opens and ends the live log.
            Operation::Ping | Operation::Report => Ok(Outcome::Done),
            Operation::LogFollow { .. } | Operation::LogStop | Operation::LogBundle => Ok(Outcome::Done),
            // It takes its time; see there.
            Operation::Capture { .. } => Ok(Outcome::Done),
            Operation::Identify if self.sources.config().board.is_none() => Err(Failure::NoBoard),
            // The fleet's loop tells the board.
            Operation::Identify => Ok(Outcome::Done),
            Operation::QueueStats => self.queues(),
            Operation::RetryParked { destination } => {
                let parked = self.parked(&destination)?;
                self.operate(id, &parked, |outbox| OperatorAction::Requeue { outbox })
            }
            Operation::DiscardParked { destination, reason } => {
                let parked = self.parked(&destination)?;
                let discard = |outbox| OperatorAction::Discard {
                    holds: Vec::new(),
                    outbox,
                    images: Vec::new(),
                    reason: reason.clone(),
                };
                self.operate(id, &parked, discard)
            }
            Operation::ConfigGet => {
                let settings = Packed::settings(&self.sources.config()).ok_or(Failure::TooLong)?;
                Ok(Outcome::Settings { settings })
            }
            Operation::CertRenew => {
                self.renew.as_ref().ok_or(Failure::NotEnrolled)?.notify_one();
                Ok(Outcome::Done)
            }
            Operation::LogTail { lines } => {
                let known = self.sources.names();
                let last = log::last(usize::try_from(lines).unwrap_or(log::LINES_MAX));
                let lines: Vec<LogFacts> = last.iter().map(|line| line.facts(&known)).collect();
                Ok(Outcome::Log { lines: Packed::lines(&lines).ok_or(Failure::TooLong)? })
            }
            Operation::UpdateOffer { manifest, roots } => {
                let (now, quality) = self.clock.now();
                let now = (quality == Quality::Trusted).then_some(now);
                Ok(self.update(|updates| updates.offer(manifest.as_bytes(), &roots, now)))
            }
            Operation::UpdateInstall { version, system } => {
                Ok(self.update(|updates| updates.install(&version, system.as_deref())))
            }
            // Without one it would be the end of all results.
            Operation::Restart if !is_supervised() => Err(Failure::Unsupervised),
            Operation::Restart => stop_process().map(|()| Outcome::Done).map_err(|_| Failure::System),
            Operation::FactoryReset { .. } if !is_supervised() => Err(Failure::Unsupervised),
            Operation::FactoryReset { .. } if update::is_on_trial(&self.sources.config()) => Err(Failure::OnTrial),
            // Counted again, with nobody beside, when it is done.
            Operation::FactoryReset { discard } => {
                let found = self.journal.reader().and_then(|reader| reader.undelivered()).map_err(failure)?;
                let total = found.total();
                let is_named = total == discard;
                Ok(if is_named { Outcome::Resets { found } } else { Outcome::Undelivered { total, found } })
            }
        }
    }

    /// The launcher ends with the release: somebody has to start it anew.
    fn update(&self, work: impl FnOnce(&Updates) -> Result<(), Refusal>) -> Outcome {
        let updates = self.updates.as_ref().filter(|_| is_supervised()).ok_or(Refusal::NotHere);
        match updates.and_then(work) {
            Ok(()) => Outcome::Done,
            Err(refusal) => {
                tracing::warn!("fleet: a release is not taken: {refusal}");
                Outcome::NotTaken { refusal: Word::new(refusal.word()) }
            }
        }
    }

    fn queues(&self) -> Result<Outcome, Failure> {
        let reader = self.journal.reader().map_err(failure)?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut queues = Vec::new();
        for name in &(self.destinations)() {
            let queue = reader.destination_queue(name.as_str(), QUEUE_COUNTED_MAX, now_ms).map_err(failure)?;
            queues.push(QueueFacts { destination: name.clone(), queued: queue.queued, parked: queue.parked });
        }
        Ok(Outcome::Queues { held: reader.account().map_err(failure)?.held, queues })
    }

    fn parked(&self, destination: &str) -> Result<Vec<OutboxId>, Failure> {
        if !(self.destinations)().iter().any(|name| name.as_str() == destination) {
            return Err(Failure::NoSuchDestination);
        }
        let reader = self.journal.reader().map_err(failure)?;
        reader.parked_for(destination, PARKED_MAX).map_err(failure)
    }

    /// A few at a time: results that come in meanwhile are committed in between.
    fn operate(
        &self,
        id: Id,
        parked: &[OutboxId],
        action: impl Fn(Vec<OutboxId>) -> OperatorAction,
    ) -> Result<Outcome, Failure> {
        let (mut done, mut skipped) = (0, 0);
        for some in parked.chunks(AT_ONCE) {
            let action = action(some.to_vec());
            note(self.sources.data(), id, Act::Operated { action: action.clone() });
            let operated = self.journal.operate(action).map_err(failure)?;
            (done, skipped) = (done + operated.done as u64, skipped + operated.skipped.len() as u64);
        }
        Ok(Outcome::Changed { done, skipped })
    }
}

fn note(data: &Path, id: Id, act: Act) {
    audit::note_or_tell(data, &format!("desk, command {id}"), act);
}

/// Ends this process as if the service manager had asked.
pub(super) fn stop_process() -> std::io::Result<()> {
    // SAFETY: a signal to this very process.
    match unsafe { libc::kill(libc::getpid(), libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn failure(error: JournalError) -> Failure {
    tracing::warn!("fleet: a command failed: {error}");
    Failure::Journal
}
