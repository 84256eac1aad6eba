//! A destination while a configuration that sends what waits elsewhere, or otherwise, is in its trial: what waits goes on
//! waiting, so that whoever stood there before can have it when the trial fails.
//!
//! When all else is well, a single message shows whether the receiver takes any; of what it turns down it is shown three.
//! One that was taken counts as delivered once the configuration is kept; all else goes out again, under the same id and as
//! if it had not been tried, to where the configuration that runs then says. A receiver that took one may have it besides,
//! but nobody lacks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::sync::watch;

use super::counters::DeliveryCounters;
use super::courier::{self, HELD_AGE_MAX, JOURNAL_PAUSE, LOOK_AGAIN};
use super::window::Windows;
use super::{Config, Destination, Outcome, Scope};
use crate::journal::{Journal, Outbound, Settlement};

/// Messages that a receiver may turn down in a trial. It is shown no more.
const TURNED_DOWN_MAX: usize = 3;

/// How far a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing is sent.
    Waits,
    /// A message may go.
    TriesOne,
    /// The configuration is kept.
    Keeps,
}

/// What whoever watches a trial and the destinations in it say to each other. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tryout {
    stage: watch::Sender<Stage>,
    tried: Arc<AtomicUsize>,
}

impl Default for Tryout {
    fn default() -> Self {
        Tryout { stage: watch::Sender::new(Stage::Waits), tried: Arc::default() }
    }
}

impl Tryout {
    /// Each destination may send a message.
    pub fn begin(&self) {
        self.stage.send_if_modified(|stage| std::mem::replace(stage, Stage::TriesOne.max(*stage)) != *stage);
    }

    /// The configuration is kept: what was taken is delivered.
    pub fn keep(&self) {
        self.stage.send_replace(Stage::Keeps);
    }

    /// True since each destination may send a message.
    pub fn has_begun(&self) -> bool {
        *self.stage.borrow() != Stage::Waits
    }

    /// Destinations that took a message, or for which none waits.
    pub fn tried(&self) -> usize {
        self.tried.load(Ordering::Relaxed)
    }
}

/// Where a destination's messages come from, and where it is told how they ended.
struct Bench<'c> {
    config: &'c Config,
    journal: &'c Journal,
    counters: &'c DeliveryCounters,
    stopped: watch::Receiver<bool>,
}

/// Runs a destination in a trial until `stopped` says so.
pub(super) async fn run<D: Destination>(
    config: &Config,
    journal: &Journal,
    zone: TimeZone,
    stopped: watch::Receiver<bool>,
    counters: &DeliveryCounters,
    destination: D,
    tryout: Tryout,
) {
    let mut bench = Bench { config, journal, counters, stopped };
    let mut stage = tryout.stage.subscribe();
    tokio::select! {
        () = bench.stops() => return,
        _ = stage.wait_for(|stage| *stage != Stage::Waits) => {}
    }
    // What is no window was told when the destination was started.
    let windows = Windows::parse(&config.windows).unwrap_or_default();
    let is_open = || windows.closed_for(&Zoned::now().with_time_zone(zone.clone())).is_none();
    let is_kept = || *tryout.stage.borrow() == Stage::Keeps;
    let has_tried = || {
        tryout.tried.fetch_add(1, Ordering::Relaxed);
    };
    bench.try_one(destination, is_open, has_tried, is_kept).await;
}

impl Bench<'_> {
    async fn stops(&mut self) {
        let _ = self.stopped.wait_for(|stop| *stop).await;
    }

    /// True when it stopped meanwhile.
    async fn stops_within(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stops()).await.is_ok()
    }

    /// Keeps these from everybody until the trial ends, and gives them back as they were.
    async fn hold(&mut self, rows: &[Outbound]) {
        while !self.stops_within(HELD_AGE_MAX).await {
            rows.iter().for_each(|row| self.journal.keep_flying(row.id));
        }
    }

    /// Tries messages, one after the other, until one is taken or several are turned down; then waits for the end of the
    /// trial.
    async fn try_one<D: Destination>(
        &mut self,
        mut destination: D,
        is_open: impl Fn() -> bool,
        has_tried: impl FnOnce(),
        is_kept: impl Fn() -> bool,
    ) {
        let (mut has_tried, mut turned_down) = (Some(has_tried), Vec::new());
        loop {
            if turned_down.len() >= TURNED_DOWN_MAX {
                self.hold(&turned_down).await;
                return self.give_back(turned_down).await;
            }
            turned_down.iter().for_each(|row: &Outbound| self.journal.keep_flying(row.id));
            let claimed = match is_open() {
                true => self.journal.claim(&self.config.name, 1).await,
                false => Ok(Vec::new()),
            };
            let row = match claimed.map(|rows| rows.into_iter().next()) {
                Ok(Some(row)) => row,
                nothing => {
                    // What was turned down is no sign that nothing is amiss.
                    if nothing.is_ok() && !self.counters.health().failing && !self.waits_for_its_time().await {
                        has_tried.take().into_iter().for_each(|tell| tell());
                    }
                    if self.stops_within(LOOK_AGAIN).await {
                        return self.give_back(turned_down).await;
                    }
                    continue;
                }
            };
            let outcome = tokio::select! {
                outcome = courier::attempt(&mut destination, self.journal, &row) => Some(outcome),
                () = self.stops() => None,
            };
            let Some(outcome) = outcome else {
                turned_down.push(row);
                return self.give_back(turned_down).await;
            };
            if let Outcome::Delivered { answer } = outcome {
                let now_ms = Timestamp::now().as_millisecond();
                self.counters.answered(now_ms);
                self.counters.delivered(row.received_at_ms, now_ms);
                has_tried.take().into_iter().for_each(|tell| tell());
                turned_down.push(row.clone());
                self.hold(&turned_down).await;
                turned_down.pop();
                self.give_back(turned_down).await;
                if is_kept() {
                    return self.note(&row, courier::delivered(self.config, answer)).await;
                }
                tracing::warn!(
                    destination = self.config.name,
                    outbox = row.id.0,
                    "what it took in the trial of a configuration goes out again, as the one that runs now says"
                );
                return self.note(&row, Settlement::Return).await;
            }
            let (pause, is_turned_down) = self.was_not_taken(outcome);
            match is_turned_down {
                true => turned_down.push(row),
                false => self.note(&row, Settlement::Return).await,
            }
            if self.stops_within(pause).await {
                return self.give_back(turned_down).await;
            }
        }
    }

    /// True when the destination turned down before the trial all that there is, and it is not due yet.
    async fn waits_for_its_time(&self) -> bool {
        !matches!(self.journal.next_due(&self.config.name).await, Ok(None))
    }

    /// What waits is as it was before it was tried.
    async fn give_back(&self, rows: Vec<Outbound>) {
        for row in rows {
            self.note(&row, Settlement::Return).await;
        }
    }

    /// Counts a message that was not taken; how long to wait, and whether it was this message that the receiver turned down.
    fn was_not_taken(&self, outcome: Outcome) -> (Duration, bool) {
        let answered = || self.counters.answered(Timestamp::now().as_millisecond());
        match outcome {
            Outcome::Retry { reason, scope: Scope::Destination | Scope::Unclear, .. } => {
                tracing::warn!(destination = self.config.name, reason, "the destination takes no messages");
                self.counters.failed();
                self.counters.away();
                (Duration::from_millis(self.config.retry_min_ms).max(JOURNAL_PAUSE), false)
            }
            Outcome::Retry { reason, scope: Scope::Lane, .. } => {
                answered();
                self.counters.failed();
                tracing::warn!(destination = self.config.name, reason, "a message is turned down in a trial and waits");
                (JOURNAL_PAUSE, true)
            }
            Outcome::Refused { reason } | Outcome::Doubted { reason } => {
                answered();
                self.counters.refused();
                tracing::warn!(destination = self.config.name, reason, "a message is refused in a trial and waits");
                (JOURNAL_PAUSE, true)
            }
            Outcome::Delivered { .. } => (Duration::ZERO, false),
        }
    }

    async fn note(&self, row: &Outbound, how: Settlement) {
        courier::note(self.journal, row.id, how).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Protocol;
    use crate::delivery::courier::tests::{EHR, LANES, queue};
    use crate::journal;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// A receiver that answers so, and then no more.
    #[derive(Clone)]
    struct Scripted(Arc<Mutex<(VecDeque<Outcome>, Vec<String>)>>);

    impl Scripted {
        fn new(outcomes: &[Outcome]) -> Self {
            Scripted(Arc::new(Mutex::new((outcomes.iter().cloned().collect(), Vec::new()))))
        }

        fn heard(&self) -> Vec<String> {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl Destination for Scripted {
        async fn deliver(&mut self, message_id: &str, _: &[u8]) -> Outcome {
            let mut script = self.0.lock().unwrap();
            script.1.push(message_id.to_string());
            script.0.pop_front().unwrap_or_else(|| Outcome::unreachable("nobody is there"))
        }
    }

    fn taken() -> Outcome {
        Outcome::Delivered { answer: "AA".to_string() }
    }

    /// What a receiver heard of so many rounds of messages, what is queued after the trial, and what the destination
    /// counted as delivered.
    async fn tried(outcomes: &[Outcome], rounds: usize, is_kept: bool) -> (Vec<String>, Vec<String>, u64) {
        let data = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        for n in 0..rounds {
            queue(&journal, n).await;
        }
        let config = Config { retry_min_ms: 10, ..Config::new(EHR, Protocol::Mllp) };
        let (receiver, tryout) = (Scripted::new(outcomes), Tryout::default());
        let counters = DeliveryCounters::new(EHR);
        let (stop, stopped) = watch::channel(false);
        let running = run(&config, &journal, TimeZone::UTC, stopped, &counters, receiver.clone(), tryout.clone());
        let watched = async {
            tokio::task::yield_now().await;
            assert!(receiver.heard().is_empty(), "everything waits");
            tryout.begin();
            while tryout.tried() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if is_kept {
                tryout.keep();
            }
            stop.send_replace(true);
        };
        tokio::join!(running, watched);
        let left = journal.claim(EHR, 9).await.unwrap().into_iter().map(|row| row.message_id).collect();
        (receiver.heard(), left, counters.health().delivered)
    }

    #[tokio::test]
    async fn i7_what_is_taken_in_a_trial_is_delivered_only_when_that_is_kept() {
        let (heard, left, delivered) = tried(&[taken()], 1, true).await;
        assert_eq!((heard, left.len(), delivered), (vec!["0 000".to_string()], LANES - 1, 1));
        assert!(!left.contains(&"0 000".to_string()));
        let (heard, left, _) = tried(&[taken()], 1, false).await;
        assert_eq!((heard, left.len(), left[0].as_str()), (vec!["0 000".to_string()], LANES, "0 000"));
    }

    #[tokio::test]
    async fn what_is_not_taken_waits_and_another_is_tried() {
        let refused = Outcome::Refused { reason: "AR".to_string() };
        let (heard, left, delivered) = tried(&[refused, taken()], 1, true).await;
        assert_eq!((heard, left.len(), delivered), (vec!["0 000".to_string(), "1 000".to_string()], LANES - 1, 1));
        assert!(left.contains(&"0 000".to_string()), "it waits as before, and for nothing");
        let (heard, _, delivered) = tried(&[Outcome::unreachable("away"), taken()], 1, true).await;
        assert_eq!((heard, delivered), (vec!["0 000".to_string(), "0 000".to_string()], 1));
        let (heard, left, delivered) = tried(&[], 0, true).await;
        assert_eq!((heard.len(), left.len(), delivered), (0, 0, 0), "where nothing waits nothing is tried");
    }

    #[tokio::test]
    async fn i7_what_turns_messages_down_in_a_trial_is_shown_three_and_what_it_was_shown_goes_out_as_before() {
        let data = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        queue(&journal, 0).await;
        let config = Config { retry_min_ms: 10, ..Config::new(EHR, Protocol::Mllp) };
        let receiver = Scripted::new(&vec![Outcome::Refused { reason: "AR".to_string() }; LANES]);
        let (tryout, counters) = (Tryout::default(), DeliveryCounters::new(EHR));
        let (stop, stopped) = watch::channel(false);
        let running = run(&config, &journal, TimeZone::UTC, stopped, &counters, receiver.clone(), tryout.clone());
        let watched = async {
            tryout.begin();
            while receiver.heard().len() < TURNED_DOWN_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Long enough for one more, if there were one.
            tokio::time::sleep(JOURNAL_PAUSE * 2).await;
            stop.send_replace(true);
        };
        tokio::join!(running, watched);
        assert_eq!((receiver.heard().len(), tryout.tried()), (TURNED_DOWN_MAX, 0));
        let left = journal.claim(EHR, 99).await.unwrap();
        assert!(
            left.len() == LANES && left.iter().all(|row| row.attempts == 0),
            "nothing waits, and nothing is counted"
        );
    }
}
