//! Requests that are asked for again: the server would not show them or their patients when it listed them.
//!
//! One that always fails stops no other. It is asked for at ever longer intervals, and left out after a day.

use std::time::{Duration, Instant};

/// Most requests that wait; with more the server is asked for nothing new.
const WAITING_MAX: usize = 1_000;
/// Most that are asked for in one round.
const AT_ONCE: usize = 20;
/// First and longest time until the next try; the very first is in the next round.
const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Tries before it is left out: about a day.
const TRIES_MAX: u32 = 30;

/// The requests that wait.
#[derive(Default)]
pub struct Aside {
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: String,
    tries: u32,
    due: Instant,
}

impl Aside {
    /// These, all of them due.
    pub fn of(ids: &[String], now: Instant) -> Aside {
        let mut aside = Aside::default();
        for id in ids {
            aside.add(id, now);
        }
        aside
    }

    /// Which these are.
    pub fn ids(&self) -> Vec<String> {
        self.waiting.iter().map(|waiting| waiting.id.clone()).collect()
    }

    /// True when it waits.
    pub fn holds(&self, id: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.id == id)
    }

    /// One more; false when there are too many.
    pub fn add(&mut self, id: &str, now: Instant) -> bool {
        if self.holds(id) {
            return true;
        }
        let has_room = self.waiting.len() < WAITING_MAX;
        if has_room {
            self.waiting.push(Waiting { id: id.to_owned(), tries: 0, due: now });
        }
        has_room
    }

    /// Those to ask for now, the longest due first.
    pub fn due(&self, now: Instant) -> Vec<String> {
        let mut due: Vec<&Waiting> = self.waiting.iter().filter(|waiting| waiting.due <= now).collect();
        due.sort_by_key(|waiting| waiting.due);
        due.into_iter().take(AT_ONCE).map(|waiting| waiting.id.clone()).collect()
    }

    /// It could not be taken this time either; true when it was the last.
    pub fn failed(&mut self, id: &str, now: Instant) -> bool {
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) else { return false };
        waiting.due = now + PAUSE_MIN.saturating_mul(1 << waiting.tries.min(8)).min(PAUSE_MAX);
        waiting.tries += 1;
        let is_last = waiting.tries == TRIES_MAX;
        if is_last {
            self.remove(id);
        }
        is_last
    }

    /// It needs nothing more.
    pub fn remove(&mut self, id: &str) {
        self.waiting.retain(|waiting| waiting.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_ever_less_often_for_about_a_day() {
        let start = Instant::now();
        let (mut now, mut aside) = (start, Aside::of(&["1".to_owned()], start));
        let mut tries = 0;
        loop {
            while aside.due(now).is_empty() {
                now += Duration::from_secs(1);
            }
            tries += 1;
            if aside.failed("1", now) {
                break;
            }
        }
        assert_eq!(tries, TRIES_MAX);
        let hours = (now - start).as_secs() / 3_600;
        assert!((20..30).contains(&hours), "{hours} hours");
        assert!(!aside.holds("1"));
    }

    #[test]
    fn they_are_bounded_and_nothing_waits_twice() {
        let now = Instant::now();
        let mut aside = Aside::default();
        for _ in 0..2 {
            assert!((0..WAITING_MAX).all(|id| aside.add(&id.to_string(), now)));
        }
        assert!(!aside.add("more", now) && aside.add("7", now));
        assert_eq!((aside.ids().len(), aside.due(now).len()), (WAITING_MAX, AT_ONCE));
        aside.remove("7");
        assert!(aside.add("more", now));
    }
}
