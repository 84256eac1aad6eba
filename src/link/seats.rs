//! Who may stay on a listener when it is full: an idle or dripping connection never keeps an instrument out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// One open connection's place.
pub struct Seat {
    /// Grows with each connection; the lower, the longer it is here.
    number: u64,
    /// When it last completed a message, as a count of completions on the listener; 0 = never.
    completed: AtomicU64,
    evicted: Notify,
}

/// The places of one listener.
pub struct Seats {
    max: usize,
    clock: AtomicU64,
    taken: Mutex<Vec<Arc<Seat>>>,
}

impl Seats {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Self {
        Seats { max: max.max(1), clock: AtomicU64::new(0), taken: Mutex::default() }
    }

    /// Takes a place. When none is free, the least useful connection is told to go: one that never completed a
    /// message, oldest first, before one that did, longest ago first. True beside the seat when that happened.
    pub fn take(&self, number: u64) -> (Arc<Seat>, bool) {
        let seat = Arc::new(Seat { number, completed: AtomicU64::new(0), evicted: Notify::new() });
        let mut taken = self.lock();
        let full = taken.len() >= self.max;
        if full {
            evict(&mut taken);
        }
        taken.push(seat.clone());
        (seat, full)
    }

    /// Sends the least useful connection away, for example because the process ran out of descriptors.
    pub fn make_room(&self) {
        evict(&mut self.lock());
    }

    /// Gives a place back.
    pub fn leave(&self, seat: &Arc<Seat>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Notes that this connection just completed a message.
    pub fn completed(&self, seat: &Seat) {
        seat.completed.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Seat>>> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Seat {
    /// Resolves when this connection has to go.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

fn evict(taken: &mut Vec<Arc<Seat>>) {
    let least = taken.iter().enumerate().min_by_key(|(_, s)| (s.completed.load(Ordering::Relaxed), s.number));
    if let Some(at) = least.map(|(at, _)| at) {
        taken.remove(at).evicted.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::Seats;

    #[test]
    fn i10_a_full_listener_sends_away_the_useless_before_the_useful() {
        let seats = Seats::new(3);
        let (instrument, _) = seats.take(1);
        seats.completed(&instrument);
        let (first_idle, _) = seats.take(2);
        let (second_idle, full) = seats.take(3);
        assert!(!full);
        let (_, full) = seats.take(4);
        assert!(full);
        let left: Vec<u64> = seats.lock().iter().map(|s| s.number).collect();
        assert_eq!(left, [1, 3, 4], "the oldest connection that never completed a message goes first");
        drop(first_idle);
        seats.leave(&second_idle);
        assert_eq!(seats.lock().len(), 2);
    }
}
