//! Who listens in on a link. Listening is free when nobody does, and never slows the line: a listener that does not
//! keep up misses something and is told how much.

use crate::wire::Protocol;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Runs of bytes a listener may be behind.
const BEHIND_MAX: usize = 512;
/// Listeners of one link at a time.
const LISTENERS_MAX: usize = 4;

/// What passed on a line.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The link.
    pub link: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The connection, 0 when it is about the link itself.
    pub connection: u64,
    /// When, Unix milliseconds of the wall clock.
    pub at_ms: i64,
    /// The same on the monotonic clock.
    pub at: Instant,
    /// What.
    pub what: What,
    /// How much was left out before this because the listener did not keep up.
    pub missed: u64,
}

/// See [`Passed`].
#[derive(Clone)]
pub enum What {
    /// Bytes from the instrument.
    Heard(Arc<[u8]>),
    /// Bytes to the instrument.
    Said(Arc<[u8]>),
    /// Something happened on the link, in words that are safe to show.
    Event(&'static str),
}

impl std::fmt::Debug for What {
    /// Never prints the bytes: they are patient data (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Heard(bytes) => write!(f, "Heard({} bytes)", bytes.len()),
            What::Said(bytes) => write!(f, "Said({} bytes)", bytes.len()),
            What::Event(event) => write!(f, "Event({event})"),
        }
    }
}

/// The listeners of one link.
pub struct Taps {
    link: Arc<str>,
    protocol: Protocol,
    anybody: AtomicBool,
    listeners: Mutex<Vec<Listener>>,
}

struct Listener {
    to: Sender<Passed>,
    missed: u64,
}

impl Taps {
    pub(super) fn new(link: &str, protocol: Protocol) -> Self {
        Taps { link: Arc::from(link), protocol, anybody: AtomicBool::new(false), listeners: Mutex::default() }
    }

    /// A way for listeners: one receiver can listen to several links.
    pub fn channel() -> (Sender<Passed>, Receiver<Passed>) {
        channel(BEHIND_MAX)
    }

    /// The link's name.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Tells `to` what passes from now on; false when too many listen already.
    pub fn listen(&self, to: Sender<Passed>) -> bool {
        let mut listeners = self.lock();
        listeners.retain(|listener| !listener.to.is_closed());
        if listeners.len() >= LISTENERS_MAX {
            return false;
        }
        listeners.push(Listener { to, missed: 0 });
        self.anybody.store(true, Ordering::Relaxed);
        true
    }

    pub(super) fn heard(&self, connection: u64, bytes: &[u8]) {
        if self.anybody.load(Ordering::Relaxed) {
            self.tell(connection, What::Heard(Arc::from(bytes)));
        }
    }

    pub(super) fn said(&self, connection: u64, bytes: &[u8]) {
        if self.anybody.load(Ordering::Relaxed) {
            self.tell(connection, What::Said(Arc::from(bytes)));
        }
    }

    pub(super) fn event(&self, event: &'static str) {
        if self.anybody.load(Ordering::Relaxed) {
            self.tell(0, What::Event(event));
        }
    }

    fn tell(&self, connection: u64, what: What) {
        let mut listeners = self.lock();
        let (at_ms, at) = (jiff::Timestamp::now().as_millisecond(), Instant::now());
        listeners.retain_mut(|listener| {
            let passed = Passed {
                link: self.link.clone(),
                protocol: self.protocol,
                connection,
                at_ms,
                at,
                what: what.clone(),
                missed: listener.missed,
            };
            match listener.to.try_send(passed) {
                Ok(()) => listener.missed = 0,
                Err(TrySendError::Full(_)) => listener.missed += 1,
                Err(TrySendError::Closed(_)) => return false,
            }
            true
        });
        self.anybody.store(!listeners.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_does_not_keep_up_is_told_what_it_missed_and_slows_nobody() {
        let taps = Taps::new("chemistry", Protocol::Astm);
        taps.heard(1, b"nobody listens");
        let (to, mut slow) = Taps::channel();
        assert!(taps.listen(to));
        (0..BEHIND_MAX + 5).for_each(|_| taps.heard(1, b"x"));
        for _ in 0..BEHIND_MAX {
            assert_eq!(slow.try_recv().unwrap().missed, 0);
        }
        taps.said(1, b"y");
        let next = slow.try_recv().unwrap();
        assert_eq!(next.missed, 5);
        assert!(matches!(next.what, What::Said(bytes) if &*bytes == b"y"));
    }

    #[test]
    fn i10_listeners_are_few_and_leave_when_they_hang_up() {
        let taps = Taps::new("chemistry", Protocol::Astm);
        let (to, listener) = Taps::channel();
        assert!((0..LISTENERS_MAX).all(|_| taps.listen(to.clone())));
        assert!(!taps.listen(to.clone()));
        drop(listener);
        taps.heard(1, b"x");
        assert!(!taps.anybody.load(Ordering::Relaxed));
        assert!(taps.listen(Taps::channel().0));
    }
}
