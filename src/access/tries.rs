//! How often somebody may try: each address, and each account. What is remembered is bounded, and nothing stays locked.

use super::ACCOUNTS_MAX;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// An account waits from this failure on.
pub const FAILURES_FREE: u32 = 5;
/// So long at first, and twice as long each time.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// Never longer: a person who has been locked out by somebody else is let in after that.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures of an account are forgotten after this long without one.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// An address may try so often at once.
pub const TRIES_AT_ONCE: u32 = 20;
/// And once more after each of these.
const TRY_EVERY: Duration = Duration::from_secs(3);
/// Addresses that are remembered.
pub const ADDRESSES_MAX: usize = 1024;

/// Failures of accounts and tries of addresses. Moments are counted from any one on.
#[derive(Default)]
pub(super) struct Tries {
    accounts: HashMap<String, Failures>,
    /// When each would have its full number of tries again: the one number that a token bucket is.
    addresses: HashMap<IpAddr, Duration>,
}

struct Failures {
    number: u32,
    last: Duration,
    until: Duration,
}

impl Tries {
    /// Takes one try of an address.
    ///
    /// # Errors
    /// How long it has to wait for the next.
    pub(super) fn take(&mut self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let address = whose(address);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, full_at| *full_at > now);
            // Whoever has so many addresses is not kept by this; accounts wait for all of them.
            if self.addresses.len() >= ADDRESSES_MAX
                && let Some(first) = self.addresses.iter().min_by_key(|(_, full_at)| **full_at).map(|(first, _)| *first)
            {
                self.addresses.remove(&first);
            }
        }
        let full_at = self.addresses.entry(address).or_insert(now);
        let later = (*full_at).max(now) + TRY_EVERY;
        if let Some(wait) = later.checked_sub(now + TRY_EVERY * TRIES_AT_ONCE).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        *full_at = later;
        Ok(())
    }

    /// Whether a try of this account counts now. One that does not neither succeeds nor fails.
    pub(super) fn counts(&self, name: &str, now: Duration) -> bool {
        self.accounts.get(name).is_none_or(|failures| now >= failures.until)
    }

    /// A try of an account that there is has failed.
    pub(super) fn failed(&mut self, name: &str, now: Duration) {
        self.accounts.retain(|_, failures| now < failures.last + FORGOTTEN);
        if !self.accounts.contains_key(name) && self.accounts.len() >= ACCOUNTS_MAX {
            // Accounts that were removed: there are no more than that.
            let first = self.accounts.iter().min_by_key(|(_, failures)| failures.last).map(|(name, _)| name.clone());
            first.map(|first| self.accounts.remove(&first));
        }
        let none = || Failures { number: 0, last: now, until: now };
        let failures = self.accounts.entry(name.to_string()).or_insert_with(none);
        (failures.number, failures.last) = (failures.number.saturating_add(1), now);
        if let Some(doubled) = failures.number.checked_sub(FAILURES_FREE) {
            let factor = 1_u32.checked_shl(doubled).unwrap_or(u32::MAX);
            failures.until = now + WAIT_MIN.saturating_mul(factor).min(WAIT_MAX);
        }
    }

    /// Somebody got in.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.accounts.remove(name);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.accounts.len(), self.addresses.len())
    }
}

/// One machine has a whole network of addresses of IPv6 (RFC 4291, 2.5.4: 64 bits).
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            // Loopback is no network of somebody.
            IpAddr::V6(if address.is_loopback() { address } else { Ipv6Addr::from(network) })
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn from_the_fifth_failure_on_each_waits_twice_as_long_and_never_longer_than_a_quarter_of_an_hour() {
        let mut tries = Tries::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..14 {
            assert!(tries.counts("anna", now));
            tries.failed("anna", now);
            let mut waited = 0;
            while !tries.counts("anna", now) {
                (now, waited) = (now + at(1), waited + 1);
            }
            waits.push(waited);
        }
        assert_eq!(waits, [0, 0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        tries.failed("anna", now);
        assert!(!tries.counts("anna", now) && tries.counts("bert", now), "nobody waits for another's failures");
        tries.succeeded("anna");
        assert!(tries.counts("anna", now));
        tries.failed("anna", now);
        assert!(tries.counts("anna", now), "who got in begins anew");
    }

    #[test]
    fn an_address_has_so_many_tries_and_then_one_after_another() {
        let mut tries = Tries::default();
        let [here, there] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
        let now = at(100);
        let at_once = (0..TRIES_AT_ONCE + 5).filter(|_| tries.take(here, now).is_ok()).count();
        assert_eq!(at_once, TRIES_AT_ONCE as usize);
        assert_eq!(tries.take(here, now), Err(TRY_EVERY));
        assert_eq!(tries.take(there, now), Ok(()));
        assert_eq!(tries.take(here, now + TRY_EVERY), Ok(()));
        assert!(tries.take(here, now + TRY_EVERY).is_err());
        // One machine takes any address of its network.
        let of = |low: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, low));
        let at_once = (0..TRIES_AT_ONCE as u16 + 5).filter(|low| tries.take(of(*low), now).is_ok()).count();
        assert_eq!(at_once, TRIES_AT_ONCE as usize);
        assert!(
            tries.take("::ffff:10.0.0.1".parse().unwrap(), now + TRY_EVERY).is_err(),
            "the same address in another dress"
        );
    }

    #[test]
    fn ten_thousand_tries_grow_nothing() {
        let mut tries = Tries::default();
        for n in 0..10_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            let _ = tries.take(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), now);
            tries.failed(&format!("removed-{n}"), now);
        }
        assert_eq!(tries.remembered(), (ACCOUNTS_MAX, ADDRESSES_MAX));
        // Those who are remembered are bounded still, and later all is forgotten.
        tries.failed("anna", FORGOTTEN * 2);
        assert_eq!(tries.remembered().0, 1);
    }

    proptest! {
        #[test]
        fn whatever_happens_nobody_waits_longer_than_the_longest_wait(
            steps in prop::collection::vec((0_u64..2000, any::<bool>()), 1..200)
        ) {
            let (mut tries, mut now) = (Tries::default(), Duration::ZERO);
            for (seconds, fails) in steps {
                now += at(seconds);
                if fails {
                    tries.failed("anna", now);
                }
                prop_assert!(tries.counts("anna", now + WAIT_MAX));
            }
        }

        #[test]
        fn an_address_never_gets_more_than_its_share(gaps in prop::collection::vec(0_u64..5_000, 1..300)) {
            let (mut tries, mut now, mut taken) = (Tries::default(), Duration::ZERO, 0);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u32::from(tries.take(IpAddr::V4(Ipv4Addr::LOCALHOST), now).is_ok());
                prop_assert!(taken <= TRIES_AT_ONCE + (now.as_millis() / TRY_EVERY.as_millis()) as u32);
            }
        }
    }
}
