//! Ports for servers of tests that run beside each other, whichever test program they are of.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where [`free_port`] looks, and how many ports each test has before it meets the next one's.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const PORTS_EACH: u32 = 64;

/// A port that nobody listens on, below those the system gives to connections, and for each test from a place of its own:
/// a server that is started a moment later still finds it free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut candidates = std::iter::repeat_with(|| {
        let place = std::process::id().wrapping_mul(PORTS_EACH).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + (place % u32::from(PORTS.end - PORTS.start)) as u16
    });
    candidates.find(|port| is_ours(*port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// Takes a port for this process until it ends, by that of UDP of the same number: process numbers far apart lead to the
/// same place, and nobody listens there yet.
fn is_ours(port: u16) -> bool {
    let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    let is_ours = claim.is_ok();
    std::mem::forget(claim);
    is_ours
}
