//! Waiting for what takes as long as the machine is busy.

use std::panic::Location;
use std::time::{Duration, Instant};

/// Nothing here takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// [`look_again`] waits this long, at first and in the end.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Waits until it is done. What else this thread had to run, a simulated EHR for one, is run by another meanwhile.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let (began, place) = (Instant::now(), Location::caller());
    tokio::task::block_in_place(|| {
        while !done() {
            assert!(began.elapsed() < PATIENCE, "{place}: {what}: not within {PATIENCE:?}");
            look_again(began);
        }
    });
}

/// Waits a little before something is looked at again, and the longer the longer it takes already: to look is often to
/// run a program, which would be all that the machine does.
pub fn look_again(began: Instant) {
    std::thread::sleep((began.elapsed() / 8).clamp(PAUSE.0, PAUSE.1));
}
