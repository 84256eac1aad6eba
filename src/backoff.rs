//! When to try again: exponential, with jitter, bounded at both ends. Links reopen a lost line by it, destinations
//! resend by it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pauses between attempts on one line, one lane or one destination.
///
/// The n-th pause lies between half and all of `min * 2^(n-1)`, never above `max`. The jitter keeps a ward full of
/// boxes from knocking in step when the EHR, or a switch full of instruments, comes back.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Starts without a failure, with jitter of its own from the operating system's random numbers.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self::seeded(min, max, RandomState::new().build_hasher().finish())
    }

    /// Starts with a known jitter, for tests and simulations.
    pub fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        Backoff { min, max: max.max(min), failures: 0, random: seed }
    }

    /// Counts a failure and says how long to wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let pause = self.after(self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// The pause after one more failure than `failures`, for callers that count themselves.
    pub fn after(&mut self, failures: u32) -> Duration {
        let doubled = self.min.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let whole = doubled.min(self.max);
        let half = whole / 2;
        half + half * u32::from(self.next_random()) / u32::from(u16::MAX)
    }

    /// Forgets all failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// SplitMix64 (Steele, Lea, Flood 2014); the upper bits are the good ones.
    fn next_random(&mut self) -> u16 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z >> 48) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over_after_a_success() {
        for seed in 0..200 {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            for n in 0..100_u32 {
                let whole = MIN.saturating_mul(2_u32.saturating_pow(n)).min(MAX);
                let pause = backoff.failed();
                assert!(pause >= whole / 2 && pause <= whole, "seed {seed}, failure {n}: {pause:?}");
            }
            backoff.succeeded();
            assert!(backoff.failed() <= MIN);
        }
    }

    #[test]
    fn two_boxes_do_not_knock_in_step() {
        let pauses = |seed| {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            (0..5).map(|_| backoff.failed()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
        assert_ne!(Backoff::new(MIN, MAX).random, Backoff::new(MIN, MAX).random);
    }

    #[test]
    fn a_maximum_below_the_minimum_still_waits_the_minimum() {
        let mut backoff = Backoff::seeded(MIN, Duration::ZERO, 7);
        assert!(backoff.failed() >= MIN / 2);
    }
}
