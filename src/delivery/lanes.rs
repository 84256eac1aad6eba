//! Which message may go next: lanes in memory, between a claim and a settlement.
//!
//! A lane's messages go out one after the other, each only after the one before it is settled *on disk* (invariant I6):
//! a crash between an answer and its note then repeats the last message and never an older one after a newer one.
//! Different lanes do not wait for each other.
//!
//! This is bookkeeping only: no clock, no journal, no sockets.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::journal::{Outbound, OutboxId};

/// Messages of some lanes, handed out by the journal and not settled yet.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// Lanes that have something to send and nothing under way, in the order in which they get their turn.
    turns: VecDeque<i64>,
    held: usize,
}

struct Lane {
    rows: VecDeque<Outbound>,
    /// A message of this lane is being delivered or settled.
    busy: bool,
    claimed: Instant,
    not_before: Option<Instant>,
    /// Count of deliveries by all lanes when a message of this lane last failed for an unclear reason.
    failed_at: Option<u64>,
}

impl Lanes {
    /// Takes what the journal handed out.
    pub(super) fn add(&mut self, rows: Vec<Outbound>, now: Instant) {
        for row in rows {
            let key = row.lane;
            let lane = self.lanes.entry(key).or_insert_with(|| Lane {
                rows: VecDeque::new(),
                busy: false,
                claimed: now,
                not_before: None,
                failed_at: None,
            });
            if lane.rows.is_empty() && !lane.busy {
                self.turns.push_back(key);
            }
            lane.rows.push_back(row);
            self.held += 1;
        }
    }

    /// Messages in memory that are not under way.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The next message whose turn it is. Its lane is busy until one of the methods below says how it ended.
    pub(super) fn next(&mut self, now: Instant) -> Option<Outbound> {
        let due = |key: &i64| self.lanes.get(key).is_some_and(|l| l.not_before.is_none_or(|at| at <= now));
        let at = self.turns.iter().position(due)?;
        let key = self.turns.remove(at)?;
        let lane = self.lanes.get_mut(&key)?;
        let row = lane.rows.pop_front()?;
        lane.busy = true;
        self.held -= 1;
        Some(row)
    }

    /// When the next waiting lane gets its turn, if all that have one wait.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.turns.iter().filter_map(|key| self.lanes.get(key)?.not_before).min()
    }

    /// The message under way in this lane is settled for good: the lane goes on.
    pub(super) fn go_on(&mut self, key: i64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.busy = false;
        lane.not_before = None;
        lane.failed_at = None;
        if lane.rows.is_empty() {
            self.lanes.remove(&key);
        } else {
            self.turns.push_back(key);
        }
    }

    /// The journal has the whole lane back: it is forgotten here.
    pub(super) fn forget(&mut self, key: i64) {
        if let Some(lane) = self.lanes.remove(&key) {
            self.held -= lane.rows.len();
            self.turns.retain(|turn| *turn != key);
        }
    }

    /// The message under way failed because nothing can be delivered at all: it is first again.
    pub(super) fn put_back(&mut self, row: Outbound) {
        let key = row.lane;
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.busy = false;
        lane.rows.push_front(row);
        self.held += 1;
        self.turns.push_front(key);
    }

    /// The message under way failed and nobody knows whether it is to blame: its lane is last now and waits. Returned
    /// is the first message behind it, which should go back to the journal with all that follow.
    pub(super) fn put_last(&mut self, row: Outbound, until: Instant, deliveries: u64) -> Option<OutboxId> {
        let key = row.lane;
        let lane = self.lanes.get_mut(&key)?;
        let behind = lane.rows.front().map(|r| r.id);
        self.held -= lane.rows.len();
        lane.rows.clear();
        lane.rows.push_back(row);
        lane.busy = false;
        lane.not_before = Some(until);
        lane.failed_at = Some(deliveries);
        self.held += 1;
        self.turns.push_back(key);
        behind
    }

    /// Count of deliveries when a message of this lane last failed for an unclear reason.
    pub(super) fn failed_at(&self, key: i64) -> Option<u64> {
        self.lanes.get(&key)?.failed_at
    }

    /// Forgets the idle lanes that were claimed longer ago than `age` and returns the first message of each: they go
    /// back to the journal before it takes them for lost.
    pub(super) fn expire(&mut self, now: Instant, age: Duration) -> Vec<OutboxId> {
        let old = |l: &Lane| !l.busy && now.saturating_duration_since(l.claimed) >= age;
        let keys: Vec<i64> = self.lanes.iter().filter(|(_, l)| old(l)).map(|(key, _)| *key).collect();
        let firsts = keys.iter().filter_map(|key| Some(self.lanes.get(key)?.rows.front()?.id)).collect();
        for key in keys {
            self.forget(key);
        }
        firsts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, lane: i64) -> Outbound {
        Outbound {
            id: OutboxId(id),
            lane,
            message_id: format!("M{id}"),
            body: Vec::new(),
            results: 1,
            attempts: 0,
            received_at_ms: 0,
        }
    }

    fn lanes(rows: &[(i64, i64)], now: Instant) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.add(rows.iter().map(|(id, lane)| row(*id, *lane)).collect(), now);
        lanes
    }

    fn next(lanes: &mut Lanes, now: Instant) -> Option<i64> {
        lanes.next(now).map(|r| r.id.0)
    }

    #[test]
    fn i6_one_message_of_a_lane_is_under_way_and_others_do_not_wait_for_it() {
        let now = Instant::now();
        let mut l = lanes(&[(1, 10), (2, 10), (3, 20)], now);
        assert_eq!((next(&mut l, now), next(&mut l, now), next(&mut l, now)), (Some(1), Some(3), None));
        l.go_on(10);
        assert_eq!((next(&mut l, now), next(&mut l, now)), (Some(2), None));
        assert_eq!(l.held(), 0);
    }

    #[test]
    fn an_outage_keeps_the_order() {
        let now = Instant::now();
        let mut l = lanes(&[(1, 10), (2, 10), (3, 20)], now);
        let first = l.next(now).unwrap();
        l.put_back(first);
        assert_eq!(l.held(), 3);
        assert_eq!(next(&mut l, now), Some(1));
    }

    #[test]
    fn a_suspect_lets_the_others_go_first_and_gives_back_what_is_behind_it() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut l = lanes(&[(1, 10), (2, 10), (3, 20)], now);
        let first = l.next(now).unwrap();
        assert_eq!(l.put_last(first, later, 7), Some(OutboxId(2)));
        assert_eq!((next(&mut l, now), next(&mut l, now)), (Some(3), None));
        assert_eq!((l.next_due(), l.failed_at(10)), (Some(later), Some(7)));
        assert_eq!((next(&mut l, later), l.held()), (Some(1), 0));
    }

    #[test]
    fn a_lane_that_went_back_is_forgotten() {
        let now = Instant::now();
        let mut l = lanes(&[(1, 10), (2, 10), (3, 20), (4, 20)], now);
        assert_eq!(next(&mut l, now), Some(1));
        let age = Duration::from_secs(60);
        assert_eq!(l.expire(now, age), []);
        assert_eq!(l.expire(now + age, age), [OutboxId(3)], "the busy lane stays");
        l.forget(10);
        assert_eq!((l.held(), next(&mut l, now)), (0, None));
    }
}
