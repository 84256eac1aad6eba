//! Whose turn it is to tell of what nobody asks for, on a link with several connections.
//!
//! New orders go out on one connection at a time, so that none is told twice. What was taken back goes out on the
//! connections that told of it: another instrument would hear of an order it does not have, and whoever has it would
//! measure it. Who told what is known while the connection is open. What no open connection told of (after a restart,
//! or when its connection is gone) is told by the link's only connection, once others have had the time to come back
//! (`reconnect_max_ms`). While there are several, nobody can tell which of them leads to the instrument that has it, and
//! it stays due (invariant I13).

use super::OrderDesk;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Without a signal, tasks are looked for this often: what was not answered is told again.
const LOOKS_EVERY: Duration = Duration::from_secs(15);
/// After a message that the instrument did not take, its connection tells nothing unasked for this time (LIS01-A2 asks for
/// 10 s at least).
const RESTS_FOR: Duration = Duration::from_secs(10);
/// Most orders remembered of one connection. The oldest are forgotten first, as if their connection were gone.
const TOLD_MAX: usize = 10_000;

/// One connection's turn.
pub struct Turn {
    desk: Arc<OrderDesk>,
    connection: u64,
    /// This connection may tell of orders unasked: its link sends them, or the instrument asked here and so is who has
    /// what is taken back.
    pub tells: bool,
    /// The one that tells of new orders has it.
    permit: Option<OwnedSemaphorePermit>,
    looks_at: Instant,
    rests_until: Instant,
    changes: watch::Receiver<()>,
}

/// Who tells.
#[derive(Clone, Copy)]
pub struct Teller {
    connection: u64,
    /// It is the one that tells of new orders.
    pub(super) pushes: bool,
}

/// Which orders each open connection told of, by their numbers in the journal.
#[derive(Default)]
pub(super) struct Told {
    next: u64,
    by: BTreeMap<u64, BTreeSet<i64>>,
    /// Since when the connections are those there are.
    unchanged_since: Option<Instant>,
}

impl Turn {
    /// The turn of a new connection. `tells` as the field; `is_told` is false where the instrument only asks, and is
    /// told on another connection.
    pub fn new(desk: &Arc<OrderDesk>, tells: bool, is_told: bool) -> Turn {
        let connection = desk.told().open(is_told);
        let (looks_at, changes) = (Instant::now(), desk.changes.subscribe());
        Turn { desk: desk.clone(), connection, tells, permit: None, looks_at, rests_until: looks_at, changes }
    }

    /// Waits until it is time to look for tasks. Cancelling the future loses nothing.
    pub async fn come(&mut self) {
        if !self.tells {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.rests_until.into()).await;
        let wants_permit = self.desk.config.push_orders && self.permit.is_none();
        tokio::select! {
            // A connection that is half open keeps its turn until it is found out; whoever waits comes next.
            permit = self.desk.herald.clone().acquire_owned(), if wants_permit => self.permit = permit.ok(),
            // The journal wakes one of the connections, and what has changed may be another's.
            () = self.desk.changed.notified() => {
                self.desk.changes.send_replace(());
                self.changes.mark_unchanged();
            }
            _ = self.changes.changed() => {}
            () = tokio::time::sleep_until(self.looks_at.into()) => {}
        }
        let settled = self.desk.told().settles_in(self.desk.others_come_back_in());
        self.looks_at = Instant::now() + settled.filter(|rest| *rest < LOOKS_EVERY).unwrap_or(LOOKS_EVERY);
    }

    /// There may be more to tell: the next look is at once.
    pub fn look_again(&mut self) {
        self.looks_at = Instant::now();
    }

    /// The instrument did not take a message. Perhaps nobody is there any more: another connection may try.
    pub fn failed(&mut self) {
        self.permit = None;
        self.rests_until = Instant::now() + RESTS_FOR;
        self.looks_at = self.rests_until;
    }

    /// Who tells on this connection.
    pub fn teller(&self) -> Teller {
        Teller { connection: self.connection, pushes: self.permit.is_some() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.desk.told().close(self.connection);
    }
}

impl Told {
    fn open(&mut self, is_told: bool) -> u64 {
        self.next += 1;
        if is_told {
            self.by.insert(self.next, BTreeSet::new());
            self.unchanged_since = Some(Instant::now());
        }
        self.next
    }

    fn close(&mut self, connection: u64) {
        if self.by.remove(&connection).is_some() {
            self.unchanged_since = Some(Instant::now());
        }
    }

    /// How long it still takes until nobody else is expected to come back; `None` when that is over.
    fn settles_in(&self, come_back: Duration) -> Option<Duration> {
        let left = come_back.saturating_sub(self.unchanged_since?.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// Notes that this connection told of an order.
    pub(super) fn note(&mut self, teller: Teller, order: i64) {
        let Some(orders) = self.by.get_mut(&teller.connection) else { return };
        orders.insert(order);
        if orders.len() > TOLD_MAX {
            orders.pop_first();
        }
    }

    /// Notes that this connection is done with an order. True when no other has to be.
    pub(super) fn forget(&mut self, teller: Teller, order: i64) -> bool {
        if let Some(orders) = self.by.get_mut(&teller.connection) {
            orders.remove(&order);
        }
        !self.by.values().any(|orders| orders.contains(&order))
    }

    /// True when this connection is to tell that an order was taken back.
    pub(super) fn is_to_take_back(&self, teller: Teller, order: i64, come_back: Duration) -> bool {
        let Some(own) = self.by.get(&teller.connection) else { return false };
        own.contains(&order) || (self.by.len() == 1 && self.settles_in(come_back).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::LinkMark;
    use crate::link::host::bench::Bench;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_taken_back_goes_out_where_it_was_told_and_is_noted_when_all_of_these_are_done() {
        let bench = Bench::new(false);
        let order = bench.order("A1").await;
        let [one, two, idle] = [true, true, false].map(|tells| Turn::new(&bench.desk, tells, true));
        for turn in [&one, &two] {
            bench.desk.mark(turn.teller(), order, LinkMark::Sent).await;
        }
        bench.take_back("A1").await;
        let tasks = || [&one, &two, &idle].map(|turn| bench.desk.tasks(turn.teller(), 8).unwrap().len());
        assert_eq!(tasks(), [1, 1, 0]);
        bench.desk.mark(one.teller(), order, LinkMark::CancellationSent).await;
        assert_eq!(tasks(), [0, 1, 0]);
        bench.desk.mark(two.teller(), order, LinkMark::CancellationSent).await;
        assert_eq!(tasks(), [0, 0, 0]);
        assert!(bench.journal.reader().unwrap().link_tasks("chemistry", 0, 8).unwrap().is_empty());
    }

    #[test]
    fn i13_the_first_that_comes_back_is_not_told_what_another_was_told() {
        let mut told = Told::default();
        let teller = Teller { connection: told.open(true), pushes: false };
        assert!(!told.is_to_take_back(teller, 7, Duration::from_secs(3600)), "the one that has it may be on its way");
        assert!(told.is_to_take_back(teller, 7, Duration::ZERO));
        told.note(teller, 7);
        assert!(told.is_to_take_back(teller, 7, Duration::from_secs(3600)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn i13_what_no_open_connection_told_of_waits_for_the_links_only_one() {
        let bench = Bench::new(false);
        let order = bench.order("A1").await;
        let told = Turn::new(&bench.desk, true, true);
        bench.desk.mark(told.teller(), order, LinkMark::Sent).await;
        bench.take_back("A1").await;
        drop(told);
        let [one, two] = [true, true].map(|tells| Turn::new(&bench.desk, tells, true));
        let tasks = |turn: &Turn| bench.desk.tasks(turn.teller(), 8).unwrap().len();
        assert_eq!((tasks(&one), tasks(&two)), (0, 0));
        drop(one);
        assert_eq!(tasks(&two), 1);
        // One that only asks, while orders go out elsewhere, is told nothing.
        let asking = Turn::new(&bench.desk, false, false);
        assert_eq!((tasks(&two), tasks(&asking)), (1, 0));
    }
}
