//! What a destination counts. Nothing here can hold patient data: numbers, and moments (invariant I8).

use crate::service::Pulse;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Buckets of [`Latency`]: four to a doubling, from 1 ms to about 12 days.
const BUCKETS: usize = 120;

/// Counters of one destination, since start.
pub struct DeliveryCounters {
    name: String,
    delivered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    away: AtomicBool,
    failing: AtomicBool,
    answered_ms: AtomicI64,
    latency: Latency,
    pulse: Pulse,
}

/// A destination's counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryHealth {
    /// False while the destination takes no messages.
    pub up: bool,
    /// Messages it took.
    pub delivered: u64,
    /// Messages it refused for good.
    pub refused: u64,
    /// Attempts that failed and are made again.
    pub failed: u64,
    /// The last attempt did not get a message through, whoever is to blame.
    pub failing: bool,
    /// When it last answered sensibly, Unix milliseconds.
    pub answered_ms: Option<i64>,
    /// From custody to its answer, milliseconds, median, at most a quarter too high; none before the first message.
    pub latency_p50_ms: Option<u64>,
    /// The same, 99th percentile.
    pub latency_p99_ms: Option<u64>,
}

impl DeliveryCounters {
    /// Counters for the destination of this name.
    pub fn new(name: &str) -> Self {
        DeliveryCounters {
            name: name.to_string(),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            away: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            answered_ms: AtomicI64::new(0),
            latency: Latency::default(),
            pulse: Pulse::default(),
        }
    }

    /// When its loop went round last.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The destination's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A message that was taken into custody at `received_ms` was taken by the destination at `now_ms`, both Unix
    /// milliseconds.
    pub fn delivered(&self, received_ms: i64, now_ms: i64) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
        self.latency.add(u64::try_from(now_ms - received_ms).unwrap_or(0));
    }

    /// A message was refused for good.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// An attempt failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// The destination takes no messages.
    pub fn away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// The destination answered sensibly, at this moment in Unix milliseconds.
    pub fn answered(&self, now_ms: i64) {
        self.away.store(false, Ordering::Relaxed);
        self.answered_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How it is now.
    pub fn health(&self) -> DeliveryHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeliveryHealth {
            up: !self.away.load(Ordering::Relaxed),
            failing: self.failing.load(Ordering::Relaxed),
            delivered: get(&self.delivered),
            refused: get(&self.refused),
            failed: get(&self.failed),
            answered_ms: Some(self.answered_ms.load(Ordering::Relaxed)).filter(|at| *at != 0),
            latency_p50_ms: self.latency.at_most(50),
            latency_p99_ms: self.latency.at_most(99),
        }
    }

    /// How long results took to the destination, all of them since start.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }
}

/// A histogram of times. Two additions for each time, and never more memory.
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_ms: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_ms: AtomicU64::new(0) }
    }
}

impl Latency {
    /// Counts a time.
    pub fn add(&self, ms: u64) {
        self.buckets[bucket(ms)].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// A time that this many percent of all do not exceed; none when there is none.
    pub fn at_most(&self, percent: u64) -> Option<u64> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen > 0 && seen >= wanted
        })?;
        Some(upper(found))
    }

    /// All times together, milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms.load(Ordering::Relaxed)
    }

    /// The buckets that are not empty: the longest time of each, milliseconds, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(at, count)| (upper(at), count))
    }
}

/// Four to a doubling: the two bits behind the highest say which. Below four milliseconds each has its own.
fn bucket(ms: u64) -> usize {
    if ms < 4 {
        return ms as usize;
    }
    let doublings = ms.ilog2() as usize;
    let quarter = (ms >> (doublings - 2)) as usize & 3;
    (4 + (doublings - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// The longest time of a bucket, milliseconds.
fn upper(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (doublings, quarter) = ((bucket - 4) / 4 + 2, (bucket - 4) as u64 % 4);
    ((5 + quarter) << (doublings - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_no_shorter_and_at_most_a_quarter_longer_than_it_was() {
        for ms in (0..10_000).chain([86_400_000, 7 * 86_400_000]) {
            let told = upper(bucket(ms));
            assert!(told >= ms && told <= ms + ms / 4, "{ms} is told as {told}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let counters = DeliveryCounters::new("ehr");
        assert_eq!(counters.health().latency_p50_ms, None);
        for ms in 0..100 {
            counters.delivered(1_000, 1_000 + ms);
        }
        let health = counters.health();
        assert_eq!((health.delivered, health.latency_p50_ms, health.latency_p99_ms), (100, Some(55), Some(111)));
        counters.delivered(2_000, 1_000);
        assert_eq!(counters.latency().buckets().next(), Some((0, 2)), "a clock that was set back makes no long time");
    }
}
