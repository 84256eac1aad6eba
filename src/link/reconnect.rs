//! Pauses before a lost line is opened again: doubling, bounded, with jitter so that a hall full of boxes does not
//! knock at the same moment.

use super::config::Timers;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pauses of one link.
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    current_ms: AtomicU64,
}

impl Backoff {
    /// Starts at the shortest pause.
    pub fn new(timers: &Timers) -> Self {
        let min_ms = timers.reconnect_min_ms.max(1);
        Backoff { min_ms, max_ms: timers.reconnect_max_ms.max(min_ms), current_ms: AtomicU64::new(min_ms) }
    }

    /// The next pause, between half and the whole of the current step; the step doubles.
    pub fn next(&self) -> Duration {
        let step_ms = self.current_ms.load(Ordering::Relaxed);
        self.current_ms.store(step_ms.saturating_mul(2).min(self.max_ms), Ordering::Relaxed);
        let step = Duration::from_millis(step_ms);
        step / 2 + step.mul_f64(0.5 * fraction())
    }

    /// The line worked: start over.
    pub fn reset(&self) {
        self.current_ms.store(self.min_ms, Ordering::Relaxed);
    }
}

/// A random number in 0..1 from the operating system; 0.5 when it has none.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    let random = ring::rand::SystemRandom::new();
    match ring::rand::SecureRandom::fill(&random, &mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Timers};
    use std::time::Duration;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_over() {
        let timers = Timers { reconnect_min_ms: 100, reconnect_max_ms: 350, ..Timers::default() };
        let backoff = Backoff::new(&timers);
        for limit_ms in [100, 200, 350, 350] {
            let pause = backoff.next();
            let limit = Duration::from_millis(limit_ms);
            assert!(pause >= limit / 2 && pause <= limit, "{pause:?} of {limit:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
