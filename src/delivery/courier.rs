//! The loop of one destination: claim, deliver, settle.
//!
//! Everything slow (an attempt, a claim, a settlement) is a chore beside the loop, which only decides. Chores run in the
//! loop's own task: handing each to another thread would cost more than what it does. The loop keeps no state that a
//! restart would miss: what was claimed and not settled is claimed again.
//!
//! Three clocks, all monotonic: the destination's back-off while nothing can be delivered, each lane's pause in the
//! journal after it was turned down, and the age of what is held in memory.

mod doubts;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::config::OnReject;
use super::counters::DeliveryCounters;
use super::lanes::Lanes;
use super::tryout::{self, Tryout};
use super::window::Windows;
use super::{Config, Destination, Outcome, Scope};
use crate::backoff::Backoff;
use crate::journal::{Journal, JournalError, Outbound, OutboxId, Settlement};
use crate::service::BEAT_EVERY;
use doubts::Doubts;

/// Messages held in memory at most.
const HELD_MAX: usize = 64;
/// What is held longer goes back to the journal, well before the journal takes it for lost (600 s).
pub(super) const HELD_AGE_MAX: Duration = Duration::from_secs(120);
/// A message whose refusal is doubted is sent so often in all.
const DOUBTED_TRIES: u32 = 3;
/// A lost wake-up costs this much latency.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1000);
/// While no window is open, the clock is looked at this often: somebody may set it.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);
/// Pause before the journal is asked again after it failed.
pub(super) const JOURNAL_PAUSE: Duration = Duration::from_millis(200);
/// How long a stop waits for answers that are under way. What comes later is sent again after the restart.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The loop's state.
struct Courier<D> {
    config: Arc<Config>,
    journal: Journal,
    lanes: Lanes,
    /// Connections without a message.
    free: Vec<D>,
    chores: FuturesUnordered<Chore<D>>,
    /// Messages whose attempts have not ended.
    under_way: BTreeSet<OutboxId>,
    attempts_under_way: usize,
    claiming: bool,
    /// Set when the journal may have something for us.
    look: bool,
    /// The destination's back-off, and when it is over.
    backoff: Backoff,
    not_before: Option<Instant>,
    /// When anything may be sent, by the clock of this zone.
    windows: Windows,
    zone: TimeZone,
    /// Counts the failures of the destination, so that one failure that hits several connections counts once.
    outage: u64,
    /// Jitter for the pauses of lanes.
    lane_backoff: Backoff,
    deliveries: u64,
    doubts: Doubts,
    counters: Arc<DeliveryCounters>,
}

type Chore<D> = Pin<Box<dyn Future<Output = Done<D>> + Send>>;

/// What a chore has done.
enum Done<D> {
    Attempted {
        destination: D,
        row: Outbound,
        outcome: Outcome,
        outage: u64,
    },
    Claimed(Result<Vec<Outbound>, JournalError>),
    /// A message is settled for good and its lane goes on.
    Settled {
        lane: i64,
    },
    /// Something went back to the journal, or the journal may answer again.
    Returned,
}

/// Runs a destination until `stopped` says so (or its sender is gone), in a trial if there is one. `connect` makes a
/// connection that is not open yet.
pub(super) async fn run<D: Destination + 'static>(
    config: Arc<Config>,
    journal: Journal,
    zone: TimeZone,
    stopped: watch::Receiver<bool>,
    tryout: Option<Tryout>,
    counters: Arc<DeliveryCounters>,
    connect: impl Fn() -> D,
) {
    if let Some(tryout) = tryout {
        return tryout::run(&config, &journal, zone, stopped, &counters, connect(), tryout).await;
    }
    loop {
        let connections = (0..config.connections).map(|_| connect()).collect();
        let courier =
            Courier::new(Arc::clone(&config), journal.clone(), zone.clone(), connections, Arc::clone(&counters));
        // A loop that panicked takes its messages with it. The journal hands them out again.
        let mut looping = JoinSet::new();
        looping.spawn(courier.run(stopped.clone()));
        match looping.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(
                    event = "delivery-panicked",
                    destination = config.name,
                    "a delivery panicked; the destination starts over"
                );
            }
            _ => return,
        }
        sleep(JOURNAL_PAUSE).await;
    }
}

impl<D: Destination + 'static> Courier<D> {
    fn new(
        config: Arc<Config>,
        journal: Journal,
        zone: TimeZone,
        connections: Vec<D>,
        counters: Arc<DeliveryCounters>,
    ) -> Self {
        let min = Duration::from_millis(config.retry_min_ms);
        let max = Duration::from_millis(config.retry_max_ms);
        Courier {
            journal,
            lanes: Lanes::default(),
            free: connections,
            chores: FuturesUnordered::new(),
            under_way: BTreeSet::new(),
            attempts_under_way: 0,
            claiming: false,
            look: true,
            backoff: Backoff::new(min, max),
            not_before: None,
            // What is no window was told when the destination was started.
            windows: Windows::parse(&config.windows).unwrap_or_default(),
            zone,
            outage: 0,
            lane_backoff: Backoff::new(min, max),
            deliveries: 0,
            doubts: Doubts::default(),
            counters,
            config,
        }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let hint = self.journal.outbox_changed(&self.config.name);
        loop {
            self.counters.pulse().beat();
            self.act();
            let wake = sleep_until(self.wake_at().min(now() + BEAT_EVERY).into());
            tokio::select! {
                () = hint.notified() => self.look = true,
                Some(done) = self.chores.next() => self.finish(done),
                () = wake => self.look = true,
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        let settle_the_rest = async {
            while let Some(done) = self.chores.next().await {
                self.finish(done);
            }
        };
        // What does not end in time is dropped and its message sent again after the restart, under the same id.
        let _ = tokio::time::timeout(STOP_GRACE, settle_the_rest).await;
        self.give_all_back().await;
    }

    /// What is held here is the journal's again at once: another courier of this destination may follow.
    async fn give_all_back(mut self) {
        self.chores.clear();
        let firsts = self.lanes.expire(now(), Duration::ZERO);
        let returns = firsts.into_iter().chain(std::mem::take(&mut self.under_way));
        let returned = async {
            for id in returns {
                note(&self.journal, id, Settlement::Return).await;
            }
        };
        let _ = tokio::time::timeout(STOP_GRACE, returned).await;
    }

    /// Starts whatever can be started now.
    fn act(&mut self) {
        let now = now();
        for first in self.lanes.expire(now, HELD_AGE_MAX) {
            self.give_back(first);
        }
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        self.not_before = None;
        if let Some(closed) = self.windows.closed_for(&Zoned::now().with_time_zone(self.zone.clone())) {
            self.not_before = Some(now + closed.min(LOOK_AT_CLOCK));
            return;
        }
        // While the destination is in trouble one message at a time finds out whether it is well again.
        let limit = if self.backoff.failures() > 0 { 1 } else { self.config.connections };
        while self.attempts_under_way < limit
            && let Some(mut destination) = self.free.pop()
        {
            let Some(row) = self.lanes.next(now) else {
                self.free.push(destination);
                break;
            };
            let (outage, journal) = (self.outage, self.journal.clone());
            self.attempts_under_way += 1;
            self.under_way.insert(row.id);
            self.chores.push(Box::pin(async move {
                let outcome = attempt(&mut destination, &journal, &row).await;
                Done::Attempted { destination, row, outcome, outage }
            }));
        }
        let room = HELD_MAX.saturating_sub(self.lanes.held());
        if self.look && !self.claiming && room >= HELD_MAX / 2 {
            self.look = false;
            self.claiming = true;
            let (journal, config) = (self.journal.clone(), Arc::clone(&self.config));
            self.chores.push(Box::pin(async move { Done::Claimed(journal.claim(&config.name, room).await) }));
        }
    }

    fn finish(&mut self, done: Done<D>) {
        match done {
            Done::Attempted { destination, row, outcome, outage } => {
                self.free.push(destination);
                self.attempts_under_way -= 1;
                self.under_way.remove(&row.id);
                self.conclude(row, outcome, outage);
            }
            Done::Claimed(Ok(rows)) => {
                self.claiming = false;
                // Where something was, there may be more.
                self.look |= !rows.is_empty();
                self.lanes.add(rows, now());
            }
            Done::Claimed(Err(error)) => {
                self.claiming = false;
                tracing::debug!(destination = self.config.name, "cannot read the outbox: {error}");
                self.chores.push(Box::pin(async {
                    sleep(JOURNAL_PAUSE).await;
                    Done::Returned
                }));
            }
            Done::Settled { lane } => self.lanes.go_on(lane),
            Done::Returned => self.look = true,
        }
    }

    /// What an attempt's outcome means for its message, its lane and the destination.
    fn conclude(&mut self, row: Outbound, outcome: Outcome, outage: u64) {
        match outcome {
            Outcome::Delivered { answer } => {
                self.recovered();
                self.deliveries += 1;
                self.counters.delivered(row.received_at_ms, Timestamp::now().as_millisecond());
                let how = delivered(&self.config, answer);
                self.settle(&row, how);
            }
            Outcome::Refused { reason } => {
                self.recovered();
                self.refuse(&row, reason);
            }
            Outcome::Doubted { reason } => {
                self.recovered();
                let tries = self.doubts.again(&row);
                if tries >= DOUBTED_TRIES {
                    return self.refuse(&row, format!("refused {tries} times, last: {reason}"));
                }
                // Somebody may have to change a setting there meanwhile.
                let pause = Duration::from_millis(self.config.retry_max_ms);
                self.turn_down(&row, reason, Some(pause), self.config.attempts_max);
            }
            Outcome::Retry { reason, after, scope: Scope::Lane } => {
                self.recovered();
                self.turn_down(&row, reason, after, self.config.attempts_max);
            }
            Outcome::Retry { reason, after, scope: Scope::Unclear } => {
                let others_get_through = self.lanes.failed_at(row.lane).is_some_and(|then| then < self.deliveries);
                if others_get_through {
                    return self.turn_down(&row, reason, after, self.config.attempts_max);
                }
                let pause = self.troubled(&reason, after, outage);
                let until = now() + pause.min(HELD_AGE_MAX / 2);
                if let Some(behind) = self.lanes.put_last(row, until, self.deliveries) {
                    self.give_back(behind);
                }
            }
            Outcome::Retry { reason, after, scope: Scope::Destination } => {
                self.troubled(&reason, after, outage);
                self.lanes.put_back(row);
            }
        }
    }

    /// The receiver looked at this message and did not take it now. After so many attempts it is refused.
    fn turn_down(&mut self, row: &Outbound, reason: String, after: Option<Duration>, attempts_max: u32) {
        self.counters.failed();
        let attempts = row.attempts + 1;
        if attempts >= attempts_max {
            // The reason first: by how it begins it is known what mends it.
            return self.refuse(row, format!("{reason} (turned down {attempts} times)"));
        }
        let pause = self.lane_backoff.after(row.attempts).max(after.unwrap_or_default());
        if row.attempts == 0 {
            tracing::warn!(
                event = "delivery-turned-down",
                destination = self.config.name,
                outbox = row.id.0,
                reason,
                "a message was turned down and will be sent again"
            );
        }
        self.give_up_for(row, pause, reason);
    }

    /// The receiver will never take this message.
    fn refuse(&mut self, row: &Outbound, reason: String) {
        // One that holds up its lane is refused again and again, and is one message all the same.
        if row.attempts == 0 || self.config.on_reject == OnReject::Park {
            self.counters.refused();
        }
        match self.config.on_reject {
            OnReject::Park => self.settle(row, Settlement::Park { reason }),
            OnReject::HoldLane => {
                tracing::error!(
                    event = "delivery-refused",
                    destination = self.config.name,
                    outbox = row.id.0,
                    reason,
                    "a message is refused and holds up its lane"
                );
                self.give_up_for(row, Duration::from_millis(self.config.retry_max_ms), reason);
            }
        }
    }

    /// The message and its lane go back to the journal and wait there.
    fn give_up_for(&mut self, row: &Outbound, pause: Duration, reason: String) {
        self.lanes.forget(row.lane);
        let (journal, id) = (self.journal.clone(), row.id);
        self.chores.push(Box::pin(async move {
            note(&journal, id, Settlement::Retry { after: pause, reason }).await;
            Done::Returned
        }));
    }

    /// Notes the end of a message; its lane goes on when that is on disk.
    fn settle(&mut self, row: &Outbound, how: Settlement) {
        self.doubts.forget(row.id);
        let (journal, id, lane) = (self.journal.clone(), row.id, row.lane);
        self.chores.push(Box::pin(async move {
            note(&journal, id, how).await;
            Done::Settled { lane }
        }));
    }

    fn give_back(&mut self, first: OutboxId) {
        let journal = self.journal.clone();
        self.chores.push(Box::pin(async move {
            note(&journal, first, Settlement::Return).await;
            Done::Returned
        }));
    }

    /// The destination failed: everything waits. Returns the pause.
    fn troubled(&mut self, reason: &str, after: Option<Duration>, outage: u64) -> Duration {
        self.counters.failed();
        self.counters.away();
        let now = now();
        let running = self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let after = after.unwrap_or_default();
        // A failure of an attempt that began before the last one was known is the same failure.
        let pause = if outage == self.outage {
            self.outage += 1;
            if self.backoff.failures() == 0 {
                let destination = &self.config.name;
                tracing::warn!(event = "destination-away", destination, reason, "the destination takes no messages");
            }
            self.backoff.failed().max(after)
        } else {
            running.max(after)
        };
        self.not_before = Some(now + pause.max(running));
        pause
    }

    /// The destination answered sensibly.
    fn recovered(&mut self) {
        self.counters.answered(Timestamp::now().as_millisecond());
        if self.backoff.failures() > 0 {
            let failures = self.backoff.failures();
            let destination = &self.config.name;
            tracing::info!(event = "destination-back", destination, failures, "the destination takes messages again");
            self.backoff.succeeded();
        }
    }

    fn wake_at(&self) -> Instant {
        // While the destination waits nothing else is worth waking up for.
        self.not_before.unwrap_or_else(|| {
            let look_again = now() + LOOK_AGAIN;
            self.lanes.next_due().map_or(look_again, |due| due.min(look_again))
        })
    }
}

/// The runtime's clock, so that tests can let days go by in a moment.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Tries to deliver a message; it is known to be on its way however long that takes.
pub(super) async fn attempt<D: Destination>(destination: &mut D, journal: &Journal, row: &Outbound) -> Outcome {
    let delivery = destination.deliver(&row.message_id, &row.body);
    tokio::pin!(delivery);
    loop {
        tokio::select! {
            outcome = &mut delivery => return outcome,
            // A large image on a slow line is not lost.
            () = sleep(HELD_AGE_MAX) => journal.keep_flying(row.id),
        }
    }
}

/// How a message ends that was taken with this answer.
pub(super) fn delivered(config: &Config, answer: String) -> Settlement {
    match config.commitment {
        true => Settlement::Entrusted { answer },
        false => Settlement::Delivered { answer },
    }
}

/// Settles, however often the storage fails in between. Ends without success only when the journal is closed.
pub(super) async fn note(journal: &Journal, id: OutboxId, how: Settlement) {
    loop {
        match journal.settle(id, how.clone()).await {
            Ok(()) | Err(JournalError::Closed | JournalError::NotFound(_)) => return,
            Err(_) => sleep(JOURNAL_PAUSE).await,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
