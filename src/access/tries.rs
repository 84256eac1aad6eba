//! How often somebody may try. What is remembered is bounded, and so is each wait.
//!
//! - **An address** has so many tries of anything.
//! - **A password** is waited for by account and address: whoever knows no more than a name makes nobody wait but those
//!   who come from where they come from. Where many addresses fail, one password of the account counts every five
//!   seconds, from all of them together; an address from which somebody got in with it waits for none of the others.
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
/// Passwords of an account that fail, from wherever: from so many on, the next one counts only after [`GAP`].
const FAILURES_ANYWHERE: u32 = 50;
/// Between two passwords of such an account, from wherever nobody got in with it: 17280 a day, however many addresses
/// somebody has.
const GAP: Duration = Duration::from_secs(5);
/// So long at first, and twice as long each time.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// Never longer; whoever goes on guessing behind it has the next one begin, for all who come from the same address.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten after this long without one.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// An address may try so often at once.
pub const TRIES_AT_ONCE: u32 = 20;
/// And once more after each of these.
const TRY_EVERY: Duration = Duration::from_secs(3);
/// Addresses that are remembered, as many that failed for an account, and as many from which somebody got in.
pub const ADDRESSES_MAX: usize = 1024;

/// Failures, and tries of addresses. Moments are counted from any one on.
#[derive(Default)]
pub(super) struct Tries {
    /// Passwords, by account and address.
    passwords: HashMap<(String, IpAddr), Failures>,
    /// Passwords, by account.
    anywhere: HashMap<String, Failures>,
    /// When somebody got in last, by account and address.
    got_in: HashMap<(String, IpAddr), Duration>,
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

/// Those of this one, in a map that never has more than `most`: who waits no more is forgotten before who does.
fn failures_of<K: Hash + Eq + Clone>(
    all: &mut HashMap<K, Failures>,
    of: K,
    most: usize,
    now: Duration,
) -> &mut Failures {
    all.retain(|_, failures| now < failures.last + FORGOTTEN);
    if !all.contains_key(&of) && all.len() >= most {
        let first = all.iter().min_by_key(|(_, failures)| (now < failures.until, failures.last));
        first.map(|(first, _)| first.clone()).map(|first| all.remove(&first));
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
            // Whoever has so many addresses is not kept by this, but by the gap of each account.
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
        let (pair, got_in) = self.pair(name, address);
        let is_over = |failures: &Failures| now >= failures.until;
        let anywhere = got_in || self.anywhere.get(name).is_none_or(is_over);
        anywhere && self.passwords.get(&pair).is_none_or(is_over)
    }

    /// By whom the failures of an account are counted, and whether somebody got in there: where they did, by that very
    /// address, so that none of its network keeps them out.
    fn pair(&self, name: &str, address: IpAddr) -> ((String, IpAddr), bool) {
        let very = (name.to_string(), very(address));
        if self.got_in.contains_key(&very) { (very, true) } else { ((name.to_string(), whose(address)), false) }
    }

    /// A password of an account that there is was wrong, and it counted.
    pub(super) fn failed(&mut self, name: &str, address: IpAddr, now: Duration) {
        let anywhere = failures_of(&mut self.anywhere, name.to_string(), ACCOUNTS_MAX, now);
        anywhere.more(u32::MAX, now);
        if anywhere.number >= FAILURES_ANYWHERE {
            anywhere.until = now + GAP;
        }
        let (pair, _) = self.pair(name, address);
        failures_of(&mut self.passwords, pair, ADDRESSES_MAX, now).more(FAILURES_FREE, now);
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
    pub(super) fn succeeded(&mut self, name: &str, address: IpAddr, now: Duration) {
        let pair = (name.to_string(), very(address));
        for of in [whose(address), pair.1] {
            self.passwords.remove(&(name.to_string(), of));
        }
        self.got_in.retain(|_, last| now < *last + FORGOTTEN);
        if !self.got_in.contains_key(&pair) && self.got_in.len() >= ADDRESSES_MAX {
            let first = self.got_in.iter().min_by_key(|(_, last)| **last).map(|(first, _)| first.clone());
            first.map(|first| self.got_in.remove(&first));
        }
        self.got_in.insert(pair, now);
        self.behind.retain(|(of, _), _| of != name);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 5] {
        let [passwords, anywhere, behind] = [self.passwords.len(), self.anywhere.len(), self.behind.len()];
        [passwords, anywhere, behind, self.got_in.len(), self.addresses.len()]
    }
}

/// What stands for the machine with this address: one has a whole network of addresses of IPv6 (RFC 4291, 2.5.4: 64
/// bits), and this very one all that are loopback.
pub(crate) fn whose(address: IpAddr) -> IpAddr {
    match very(address) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        address => address,
    }
}

/// The address itself, however it is written; loopback is this very machine, by whichever of its addresses.
fn very(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
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
        tries.succeeded("anna", address(1), now);
        let begins_anew = tries.counts("anna", address(1), now) && tries.counts_again("anna", false, now);
        assert!(begins_anew, "who got in");
        tries.failed("anna", address(1), now);
        assert!(tries.counts("anna", address(1), now));
    }

    #[test]
    fn where_many_addresses_fail_all_of_them_wait_but_where_somebody_got_in() {
        let mut tries = Tries::default();
        tries.succeeded("anna", address(1000), at(0));
        for n in 1..FAILURES_ANYWHERE {
            tries.failed("anna", address(n), at(0));
            assert!(tries.counts("anna", address(n + 1), at(0)), "{n}");
        }
        let mut counted = 0;
        for second in 0..3600 {
            let from = address(FAILURES_ANYWHERE + second as u32);
            if tries.counts("anna", from, at(second)) {
                tries.failed("anna", from, at(second));
                counted += 1;
            }
            assert!(tries.counts("anna", address(1000), at(second)), "anna herself, at her own desk");
            assert!(tries.counts("bert", from, at(second)) && tries.counts_again("anna", false, at(second)));
        }
        assert_eq!(counted, 720, "one in five seconds, for as long as it goes on");
    }

    #[test]
    fn who_got_in_before_is_not_kept_out_by_a_neighbour_of_the_same_network() {
        let of = |low: u16| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, low));
        let mut tries = Tries::default();
        tries.succeeded("anna", of(1), at(0));
        (0..FAILURES_FREE).for_each(|_| tries.failed("anna", of(2), at(0)));
        assert!(!tries.counts("anna", of(3), at(0)), "one network, one machine");
        assert!(tries.counts("anna", of(1), at(0)), "but anna's own");
        (0..FAILURES_FREE).for_each(|_| tries.failed("anna", of(1), at(0)));
        assert!(!tries.counts("anna", of(1), at(0)), "her own failures count");
        tries.succeeded("bert", of(2), FORGOTTEN);
        (0..FAILURES_FREE).for_each(|_| tries.failed("anna", of(2), FORGOTTEN));
        assert!(!tries.counts("anna", of(1), FORGOTTEN), "for a day");
    }

    #[test]
    fn whoever_has_many_addresses_has_no_wait_forgotten() {
        let mut tries = Tries::default();
        (0..20).for_each(|_| tries.failed("anna", address(0), at(0)));
        for n in 1..=2 * ADDRESSES_MAX as u32 {
            tries.failed(&format!("n{}", n % 60), address(n), at(1));
        }
        assert_eq!(tries.remembered()[0], ADDRESSES_MAX);
        assert!(!tries.counts("anna", address(0), at(1)), "it waits still");
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
    fn thousands_of_tries_grow_nothing() {
        let mut tries = Tries::default();
        for n in 0..3_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            let name = format!("removed-{n}");
            let _ = tries.take(address(n), now);
            tries.failed(&name, address(n), now);
            tries.failed_again(&name, n % 2 == 0, now);
            tries.succeeded(&format!("got-in-{n}"), address(n), now);
        }
        let most = [ADDRESSES_MAX, ACCOUNTS_MAX, 2 * ACCOUNTS_MAX, ADDRESSES_MAX, ADDRESSES_MAX];
        assert_eq!(tries.remembered(), most);
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
            tries.succeeded("anna", address(3), now);
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
