//! How often somebody may try. What is remembered is bounded, and nothing stays locked.
//!
//! - **An address** has so many tries of anything.
//! - **A password** is waited for by account and address: whoever knows no more than a name makes nobody wait but those
//!   who come from where they come from. Where many addresses fail, each of them is given one failure instead of five;
//!   one that has not failed itself waits for none of them.
//! - **What is shown behind the password** is waited for by account, from wherever it comes: a code has six digits, and
//!   only who knows the password can guess at it. Who is in has a count of their own: whoever has stolen the password
//!   keeps its owner from changing it no longer than that takes.

use super::ACCOUNTS_MAX;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Who fails waits from this failure on.
pub const FAILURES_FREE: u32 = 5;
/// Passwords of an account that fail, from wherever: behind so many, an address waits from its first failure on.
pub const FAILURES_ANYWHERE: u32 = 50;
/// So long at first, and twice as long each time.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// Never longer: a person who has been locked out by somebody else is let in after that.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten after this long without one.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// An address may try so often at once.
pub const TRIES_AT_ONCE: u32 = 20;
/// And once more after each of these.
const TRY_EVERY: Duration = Duration::from_secs(3);
/// Addresses that are remembered, and as many that failed for an account.
pub const ADDRESSES_MAX: usize = 1024;

/// Failures, and tries of addresses. Moments are counted from any one on.
#[derive(Default)]
pub(super) struct Tries {
    /// Passwords, by account and address.
    passwords: HashMap<(String, IpAddr), Failures>,
    /// Passwords, by account.
    anywhere: HashMap<String, Failures>,
    /// What is shown behind the password, by account, and whether by who is in.
    behind: HashMap<(String, bool), Failures>,
    /// When each would have its full number of tries again: the one number that a token bucket is.
    addresses: HashMap<IpAddr, Duration>,
}

#[derive(Default, Clone, Copy)]
struct Failures {
    number: u32,
    last: Duration,
    until: Duration,
}

impl Failures {
    /// One more; each from `free` on waits twice as long as the one before.
    fn more(&mut self, free: u32, now: Duration) {
        (self.number, self.last) = (self.number.saturating_add(1), now);
        if let Some(doubled) = self.number.checked_sub(free) {
            let factor = 1_u32.checked_shl(doubled).unwrap_or(u32::MAX);
            self.until = now + WAIT_MIN.saturating_mul(factor).min(WAIT_MAX);
        }
    }
}

/// Those of this one, in a map that never has more than `most`.
fn failures_of<K: Hash + Eq + Clone>(
    all: &mut HashMap<K, Failures>,
    of: K,
    most: usize,
    now: Duration,
) -> &mut Failures {
    all.retain(|_, failures| now < failures.last + FORGOTTEN);
    if !all.contains_key(&of) && all.len() >= most {
        let first = all.iter().min_by_key(|(_, failures)| failures.last).map(|(first, _)| first.clone());
        first.map(|first| all.remove(&first));
    }
    all.entry(of).or_default()
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

    /// Whether a password of this account counts now, from this address. One that does not neither succeeds nor fails.
    pub(super) fn counts(&self, name: &str, address: IpAddr, now: Duration) -> bool {
        self.passwords.get(&(name.to_string(), whose(address))).is_none_or(|failures| now >= failures.until)
    }

    /// A password of an account that there is was wrong, and it counted.
    pub(super) fn failed(&mut self, name: &str, address: IpAddr, now: Duration) {
        let anywhere = failures_of(&mut self.anywhere, name.to_string(), ACCOUNTS_MAX, now);
        anywhere.more(u32::MAX, now);
        let free = if anywhere.number > FAILURES_ANYWHERE { 1 } else { FAILURES_FREE };
        failures_of(&mut self.passwords, (name.to_string(), whose(address)), ADDRESSES_MAX, now).more(free, now);
    }

    /// Whether what is shown behind the password of this account counts now. `is_in`: by who is in.
    pub(super) fn counts_again(&self, name: &str, is_in: bool, now: Duration) -> bool {
        self.behind.get(&(name.to_string(), is_in)).is_none_or(|failures| now >= failures.until)
    }

    /// What was shown behind the password was wrong, and it counted.
    pub(super) fn failed_again(&mut self, name: &str, is_in: bool, now: Duration) {
        failures_of(&mut self.behind, (name.to_string(), is_in), 2 * ACCOUNTS_MAX, now).more(FAILURES_FREE, now);
    }

    /// Somebody got in from this address.
    pub(super) fn succeeded(&mut self, name: &str, address: IpAddr) {
        self.passwords.remove(&(name.to_string(), whose(address)));
        self.behind.retain(|(of, _), _| of != name);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 4] {
        [self.passwords.len(), self.anywhere.len(), self.behind.len(), self.addresses.len()]
    }
}

/// What stands for the machine with this address: one has a whole network of addresses of IPv6 (RFC 4291, 2.5.4: 64
/// bits), and this very one all that are loopback.
pub(crate) fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn address(last: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    /// How long each of so many failures has one wait.
    fn waits(number: usize, mut counts: impl FnMut(Duration) -> bool, mut fails: impl FnMut(Duration)) -> Vec<u64> {
        let mut now = at(0);
        let each = (0..number).map(|_| {
            fails(now);
            let began = now;
            while !counts(now) {
                now += at(1);
            }
            (now - began).as_secs()
        });
        each.collect()
    }

    #[test]
    fn from_the_fifth_failure_on_each_waits_twice_as_long_and_never_longer_than_a_quarter_of_an_hour() {
        let doubled = [0, 0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 640, 900, 900];
        let tries = RefCell::new(Tries::default());
        let counts = |now| tries.borrow().counts("anna", address(1), now);
        assert_eq!(waits(14, counts, |now| tries.borrow_mut().failed("anna", address(1), now)), doubled);
        for is_in in [false, true] {
            let again = |now| tries.borrow().counts_again("anna", is_in, now);
            assert_eq!(waits(14, again, |now| tries.borrow_mut().failed_again("anna", is_in, now)), doubled);
        }
        let mut tries = tries.into_inner();
        let now = at(10_000);
        tries.failed("anna", address(1), now);
        tries.failed_again("anna", false, now);
        for (name, of, counts) in [("anna", address(1), false), ("anna", address(2), true), ("bert", address(1), true)]
        {
            assert_eq!(tries.counts(name, of, now), counts, "{name} {of}: nobody waits for another's failures");
        }
        assert!(!tries.counts_again("anna", false, now) && tries.counts_again("bert", false, now));
        tries.succeeded("anna", address(1));
        let begins_anew = tries.counts("anna", address(1), now) && tries.counts_again("anna", false, now);
        assert!(begins_anew, "who got in");
        tries.failed("anna", address(1), now);
        assert!(tries.counts("anna", address(1), now));
    }

    #[test]
    fn where_many_addresses_fail_each_has_one_failure_and_who_has_none_waits_for_nobody() {
        let mut tries = Tries::default();
        for n in 0..FAILURES_ANYWHERE {
            tries.failed("anna", address(n), at(0));
            assert!(tries.counts("anna", address(n), at(0)), "{n}");
        }
        for n in FAILURES_ANYWHERE..2 * FAILURES_ANYWHERE {
            tries.failed("anna", address(n), at(0));
            assert!(!tries.counts("anna", address(n), at(0)), "{n}");
            assert!(tries.counts("anna", address(n), at(0) + WAIT_MIN), "{n}");
        }
        assert!(tries.counts("anna", address(1000), at(0)), "anna herself, at her own desk");
        assert!(tries.counts_again("anna", false, at(0)));
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
    fn all_of_loopback_is_one_machine() {
        for (address, machine) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.255.3.2", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("::ffff:127.0.0.2", "127.0.0.1"),
            ("126.0.0.1", "126.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1:0:0:7", "2001:db8::"),
            ("::2", "::"),
        ] {
            assert_eq!(whose(address.parse().unwrap()), machine.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[test]
    fn ten_thousand_tries_grow_nothing() {
        let mut tries = Tries::default();
        for n in 0..10_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            let name = format!("removed-{n}");
            let _ = tries.take(address(n), now);
            tries.failed(&name, address(n), now);
            tries.failed_again(&name, n % 2 == 0, now);
        }
        assert_eq!(tries.remembered(), [ADDRESSES_MAX, ACCOUNTS_MAX, 2 * ACCOUNTS_MAX, ADDRESSES_MAX]);
        // Those who are remembered are bounded still, and later all is forgotten.
        tries.failed("anna", address(1), FORGOTTEN * 2);
        tries.failed_again("anna", false, FORGOTTEN * 2);
        assert_eq!(tries.remembered()[..3], [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn whatever_happens_nobody_waits_longer_than_the_longest_wait(
            steps in prop::collection::vec((0_u64..2000, 0_u32..3), 1..200)
        ) {
            let (mut tries, mut now) = (Tries::default(), Duration::ZERO);
            for (seconds, from) in steps {
                now += at(seconds);
                tries.failed("anna", address(from), now);
                tries.failed_again("anna", false, now);
                prop_assert!(tries.counts("anna", address(from), now + WAIT_MAX));
                prop_assert!(tries.counts_again("anna", false, now + WAIT_MAX));
                prop_assert!(tries.counts_again("anna", true, now));
                prop_assert!(tries.counts("anna", address(3), now));
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
