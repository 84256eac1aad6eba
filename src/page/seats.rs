//! Whose connections a server holds, and which one gives way when there are too many: nobody who is silent keeps anybody
//! else out.
//!
//! What it cannot keep: where as many machines as there is room for all ask without end, each place is being answered,
//! and whoever comes is hung up on now and then. A site has to answer soon, and to bound who waits.

use crate::access::whose;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many connections a server has at once; browsers hold a few each.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all machines.
    pub connections: usize,
    /// Of one machine.
    pub machine: usize,
    /// Of this very machine: whoever comes through ssh comes from here.
    pub loopback: usize,
}

/// The places of a server, in the order in which they were taken.
pub(super) struct Seats {
    limits: Limits,
    taken: Mutex<Vec<Arc<Place>>>,
}

struct Place {
    machine: IpAddr,
    /// A whole request has come in, and its answer was not handed over yet: what waits in the connection's buffer was.
    is_busy: AtomicBool,
    gives_way: Notify,
}

impl Seats {
    /// So many, none of them taken.
    pub(super) fn new(limits: Limits) -> Arc<Seats> {
        Arc::new(Seats { limits, taken: Mutex::default() })
    }

    /// A place for a connection from this address. Where there is none, one gives way that is not being answered, of
    /// the machine that has most, the one that came first; where all are, there is none.
    pub(super) fn take(self: &Arc<Seats>, address: IpAddr) -> Option<Seat> {
        let machine = whose(address);
        let most = if machine.is_loopback() { self.limits.loopback } else { self.limits.machine };
        let mut taken = self.taken();
        let theirs = taken.iter().filter(|place| place.machine == machine).count();
        if theirs >= most || taken.len() >= self.limits.connections {
            let idle =
                |place: &Place| !place.is_busy.load(Ordering::Relaxed) && (theirs < most || place.machine == machine);
            let held = |machine| taken.iter().filter(|place| place.machine == machine).count();
            let may_go = taken.iter().enumerate().filter(|(_, place)| idle(place));
            let (first, _) = may_go.min_by_key(|(_, place)| Reverse(held(place.machine)))?;
            taken.remove(first).gives_way.notify_one();
        }
        let place = Arc::new(Place { machine, is_busy: AtomicBool::new(false), gives_way: Notify::new() });
        taken.push(place.clone());
        Some(Seat { seats: self.clone(), place })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, for as long as it stands.
pub(super) struct Seat {
    seats: Arc<Seats>,
    place: Arc<Place>,
}

impl Seat {
    /// Comes back when this connection has to go.
    pub(super) async fn gives_way(&self) {
        self.place.gives_way.notified().await;
    }

    /// A whole request has come in: the connection stays until its whole answer was handed over.
    pub(super) fn answers(&self) -> Answering {
        self.place.is_busy.store(true, Ordering::Relaxed);
        Answering(self.place.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().retain(|other| !Arc::ptr_eq(other, &self.place));
    }
}

/// As long as this is there, an answer is not handed over yet.
pub(super) struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::net::Ipv4Addr;

    const CONNECTIONS_MAX: usize = 64;
    const MACHINE_MAX: usize = 16;
    const LOOPBACK_MAX: usize = 48;

    fn seats() -> Arc<Seats> {
        Seats::new(Limits { connections: CONNECTIONS_MAX, machine: MACHINE_MAX, loopback: LOOPBACK_MAX })
    }

    fn machine(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn is_told_to_go(seat: &Seat) -> bool {
        seat.gives_way().now_or_never().is_some()
    }

    #[test]
    fn i10_a_machine_has_so_many_connections_and_the_oldest_that_asks_nothing_gives_way() {
        for (address, most) in [
            (machine(1), MACHINE_MAX),
            (Ipv4Addr::LOCALHOST.into(), LOOPBACK_MAX),
            ("::1".parse().unwrap(), LOOPBACK_MAX),
        ] {
            let seats = seats();
            let held: Vec<Seat> = (0..most).map(|_| seats.take(address).unwrap()).collect();
            let first = held[0].answers();
            let one_more = seats.take(address).unwrap();
            let gone: Vec<usize> = (0..most).filter(|n| is_told_to_go(&held[*n])).collect();
            assert_eq!(gone, [1], "{address}: the first is being answered");
            let answered: Vec<Answering> = held.iter().chain([&one_more]).map(Seat::answers).collect();
            assert!(seats.take(address).is_none(), "{address}: nobody who is being answered is hung up on");
            assert!(seats.take(machine(2)).is_some(), "{address}: others have their own");
            drop((first, answered));
            assert!(seats.take(address).is_some(), "{address}");
            drop((held, one_more));
            assert!(seats.taken().is_empty());
        }
    }

    #[test]
    fn i10_whoever_comes_is_let_in_however_many_are_silent() {
        let seats = seats();
        let silent: Vec<Seat> =
            (0..CONNECTIONS_MAX).map(|n| seats.take(machine((n / MACHINE_MAX) as u8)).unwrap()).collect();
        let mut let_in = Vec::new();
        for n in 0..2 * CONNECTIONS_MAX {
            let seat = seats.take(machine(100 + n as u8));
            let_in.push(seat.unwrap_or_else(|| panic!("{n} waits for who is silent")));
            assert_eq!(seats.taken().len(), CONNECTIONS_MAX);
        }
        assert!(silent.iter().all(is_told_to_go));
    }

    #[test]
    fn i10_the_machine_that_has_most_gives_way() {
        let seats = seats();
        let few: Vec<Seat> = (MACHINE_MAX..CONNECTIONS_MAX).map(|n| seats.take(machine(n as u8)).unwrap()).collect();
        let many: Vec<Seat> = (0..MACHINE_MAX).map(|_| seats.take(machine(200)).unwrap()).collect();
        let let_in: Vec<Seat> = (0..MACHINE_MAX - 1).map(|n| seats.take(machine(201 + n as u8)).unwrap()).collect();
        assert!(many[..MACHINE_MAX - 1].iter().all(is_told_to_go) && !is_told_to_go(&many[MACHINE_MAX - 1]));
        assert!(!few.iter().chain(&let_in).any(is_told_to_go), "who has one keeps it, however long they had it");
    }

    #[test]
    fn one_machine_has_a_whole_network_of_addresses() {
        let seats = seats();
        let address = |low: usize| -> IpAddr { format!("2001:db8::{low:x}").parse().unwrap() };
        let held: Vec<Seat> = (0..=MACHINE_MAX).map(|low| seats.take(address(low)).unwrap()).collect();
        assert!(is_told_to_go(&held[0]));
    }
}
