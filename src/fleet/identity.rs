//! Who the box is: the key it made, the certificate that says so, and how both are renewed without a visit.
//!
//! The machine in this file is pure: what is on disk and the time go in, what to do comes out. It keeps up:
//!
//! - **renewal** at two thirds of a certificate's life and up to a twelfth more, other for each box; what fails is tried
//!   again, more often as the end comes near, until the end and beyond.
//! - **a new key each time**, and the one in use stays until its successor is proven: the broker let the box in with it
//!   and, where an echo was answered before, answers one again. What is not proven is tried again later; the box goes on
//!   with what it has.
//! - **months switched off.** A box whose certificate has ended asks as it did at first, but with the key it had: the desk
//!   knows it, and a person says yes. It takes a certificate that it has in reserve at once, for there is nothing to lose.
//!
//! [`folder`] is what is on disk, [`est`] how the desk, or another server of EST (RFC 7030), is asked, [`keeper`] the
//! thread that does both, [`proof`] what is asked of a new certificate.

pub mod est;
pub mod folder;
pub mod keeper;
pub mod proof;

use crate::backoff::Backoff;
use std::time::Duration;

/// No pause between two attempts is shorter or longer, seconds, but for certificates of less than hours.
const PAUSE_MIN_S: i64 = 60;
const PAUSE_MAX_S: i64 = 6 * 3600;
/// What a server says of when to ask again is taken within these bounds, seconds.
const ASK_AGAIN_S: std::ops::RangeInclusive<i64> = 1..=3600;
/// A box without a certificate asks again after a failure within this: somebody waits in front of it.
const ENROL_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// When a certificate is good, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// `notBefore`.
    pub begins_s: i64,
    /// `notAfter`.
    pub ends_s: i64,
}

impl Life {
    fn length_s(self) -> i64 {
        (self.ends_s - self.begins_s).max(1)
    }

    /// When it is renewed: after two thirds, and up to a twelfth more by the box's own jitter.
    pub fn renewed_at_s(self, jitter: u64) -> i64 {
        let spread = self.length_s() / 12;
        self.begins_s + self.length_s() * 2 / 3 + (jitter % (spread.unsigned_abs() + 1)) as i64
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask for the first certificate.
    Enrol,
    /// Ask for another one as a box whose certificate has ended, with the key of that.
    Recover,
    /// Ask for the next one, with the one there is.
    Renew,
    /// Connect with the next one, and ask for an echo.
    Prove,
    /// Use the next one from now on: the present one is over, or was never there.
    Adopt,
    /// The next one is over before it was used.
    Discard,
}

/// See the module docs.
#[derive(Debug)]
pub struct Identity {
    current: Option<Life>,
    next: Option<Life>,
    jitter: u64,
    backoff: Backoff,
    paused_until_s: i64,
    /// Somebody wants it renewed before its time.
    is_wanted: bool,
}

impl Identity {
    /// With what is on disk. `jitter` is the box's own.
    pub fn new(current: Option<Life>, next: Option<Life>, jitter: u64) -> Identity {
        let mut identity = Identity {
            current: None,
            next: None,
            jitter,
            backoff: Backoff::seeded(ENROL_PAUSE.0, ENROL_PAUSE.1, jitter),
            paused_until_s: i64::MIN,
            is_wanted: false,
        };
        identity.holds(current, next);
        identity
    }

    /// What is on disk has changed: nothing has failed yet.
    pub fn holds(&mut self, current: Option<Life>, next: Option<Life>) {
        (self.current, self.next) = (current, next);
        self.is_wanted &= next.is_none();
        let (min, max) = match current {
            None => ENROL_PAUSE,
            Some(life) => {
                let pause = |part: i64, most_s: i64| {
                    Duration::from_secs((life.length_s() / part).clamp(1, most_s).unsigned_abs())
                };
                (pause(1000, PAUSE_MIN_S), pause(20, PAUSE_MAX_S))
            }
        };
        self.backoff = Backoff::seeded(min, max, self.jitter);
        self.paused_until_s = i64::MIN;
    }

    /// What is to be done now, if anything is.
    pub fn step(&self, now_s: i64) -> Option<Step> {
        match (self.current, self.next) {
            (_, Some(next)) if next.ends_s <= now_s => Some(Step::Discard),
            (None, Some(_)) => Some(Step::Adopt),
            (Some(current), Some(_)) if current.ends_s <= now_s => Some(Step::Adopt),
            _ if now_s < self.paused_until_s => None,
            (Some(_), Some(_)) => Some(Step::Prove),
            (None, None) => Some(Step::Enrol),
            (Some(current), None) if current.ends_s <= now_s => Some(Step::Recover),
            (Some(current), None) => {
                (self.is_wanted || current.renewed_at_s(self.jitter) <= now_s).then_some(Step::Renew)
            }
        }
    }

    /// When something is to be done next, at the latest; [`Identity::step`] says what.
    pub fn due_s(&self) -> i64 {
        let planned = match (self.current, self.next) {
            (Some(current), None) if !self.is_wanted => current.renewed_at_s(self.jitter).max(self.paused_until_s),
            _ => self.paused_until_s,
        };
        // The end of the present one changes what is to be done.
        let ends = self.current.filter(|current| current.ends_s > planned).map(|current| current.ends_s);
        ends.map_or(planned, |ends_s| planned.min(ends_s))
    }

    /// What was tried did not work, or proved nothing.
    pub fn failed(&mut self, now_s: i64) {
        let pause_s = self.backoff.failed().as_secs().max(1) as i64;
        // Near the end, and not beyond it: then there is something else to do.
        let left_s = self.current.map(|current| current.ends_s - now_s).filter(|left_s| *left_s > 0);
        self.paused_until_s = now_s + left_s.map_or(pause_s, |left_s| pause_s.min((left_s / 8).max(1)));
    }

    /// Somebody wants the present one renewed now. Where there is none, or the next is there already, it changes nothing.
    pub fn renew(&mut self) {
        self.is_wanted = self.current.is_some() && self.next.is_none();
    }

    /// The server wants to be asked again after so many seconds.
    pub fn later(&mut self, after_s: i64, now_s: i64) {
        let after_s = after_s.clamp(*ASK_AGAIN_S.start(), *ASK_AGAIN_S.end());
        let spread = after_s / 4;
        self.paused_until_s = now_s + after_s + (self.jitter % (spread.unsigned_abs() + 1)) as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 24 * 3600;
    const LIFE: Life = Life { begins_s: 1_790_000_000, ends_s: 1_790_000_000 + 90 * DAY_S };

    fn after(life: Life) -> Life {
        Life { begins_s: life.ends_s - 30 * DAY_S, ends_s: life.ends_s + 60 * DAY_S }
    }

    #[test]
    fn it_renews_at_two_thirds_and_boxes_do_so_apart() {
        let mut at: Vec<i64> = (0..1000u64).map(|n| LIFE.renewed_at_s(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        at.sort_unstable();
        assert!(at[0] >= LIFE.begins_s + 60 * DAY_S && at[999] <= LIFE.begins_s + 68 * DAY_S);
        assert!(at.windows(100).all(|few| few[99] - few[0] > DAY_S / 4), "they come in one crowd");
        let identity = Identity::new(Some(LIFE), None, 7);
        let due = LIFE.renewed_at_s(7);
        assert_eq!((identity.step(due - 1), identity.step(due), identity.due_s()), (None, Some(Step::Renew), due));
    }

    #[test]
    fn it_is_renewed_before_its_time_when_somebody_wants_it_and_once() {
        let mut identity = Identity::new(Some(LIFE), None, 7);
        let now_s = LIFE.begins_s + DAY_S;
        assert_eq!(identity.step(now_s), None);
        identity.renew();
        assert_eq!(identity.step(now_s), Some(Step::Renew));
        identity.failed(now_s);
        assert_eq!(identity.step(now_s), None);
        assert_eq!(identity.step(identity.due_s()), Some(Step::Renew), "until it is done");
        identity.holds(Some(LIFE), Some(after(LIFE)));
        assert_eq!(identity.step(now_s), Some(Step::Prove));
        identity.renew();
        identity.holds(Some(after(LIFE)), None);
        assert_eq!(identity.step(after(LIFE).begins_s), None);
        let mut none = Identity::new(None, None, 7);
        none.renew();
        assert_eq!(none.step(now_s), Some(Step::Enrol));
    }

    #[test]
    fn what_fails_is_tried_until_the_end_and_then_the_box_recovers() {
        for seed in 0..20 {
            let mut identity = Identity::new(Some(LIFE), None, seed);
            let (mut now_s, mut tries, mut last_s) = (LIFE.renewed_at_s(seed), 0, 0);
            while identity.step(now_s) == Some(Step::Renew) {
                (tries, last_s) = (tries + 1, now_s);
                identity.failed(now_s);
                assert_eq!(identity.step(now_s), None, "seed {seed}");
                assert!(identity.due_s() > now_s && identity.due_s() - now_s <= PAUSE_MAX_S, "seed {seed}");
                now_s = identity.due_s();
            }
            assert!((20..5000).contains(&tries), "seed {seed}: {tries} tries");
            assert!(last_s > LIFE.ends_s - 3600, "seed {seed}: nothing was tried in the last hour");
            now_s = now_s.max(LIFE.ends_s);
            assert_eq!(identity.step(now_s).or(identity.step(identity.due_s())), Some(Step::Recover), "seed {seed}");
        }
    }

    #[test]
    fn the_next_is_proven_before_it_is_used_unless_the_present_is_over() {
        let next = after(LIFE);
        let mut identity = Identity::new(Some(LIFE), Some(next), 7);
        let now_s = LIFE.ends_s - 20 * DAY_S;
        assert_eq!(identity.step(now_s), Some(Step::Prove));
        identity.failed(now_s);
        assert_eq!(identity.step(now_s), None);
        assert_eq!(identity.step(identity.due_s()), Some(Step::Prove));
        assert_eq!(identity.step(LIFE.ends_s), Some(Step::Adopt));
        assert_eq!(identity.step(next.ends_s), Some(Step::Discard));
        identity.holds(Some(next), None);
        assert_eq!(identity.step(now_s), None);
    }

    #[test]
    fn a_box_without_a_certificate_asks_and_asks_again_as_it_is_told() {
        let mut identity = Identity::new(None, None, 7);
        let now_s = LIFE.begins_s;
        assert_eq!(identity.step(now_s), Some(Step::Enrol));
        identity.later(5, now_s);
        assert_eq!((identity.step(now_s + 4), identity.step(now_s + 6)), (None, Some(Step::Enrol)));
        for (wished, most_s) in [(0, 2), (-5, 2), (i64::MAX, 3600 * 5 / 4)] {
            identity.later(wished, now_s);
            assert!((1..=most_s).contains(&(identity.due_s() - now_s)), "{wished}");
        }
        identity.failed(now_s);
        assert!(identity.due_s() - now_s <= 60);
        assert_eq!(Identity::new(None, Some(LIFE), 7).step(now_s), Some(Step::Adopt));
    }

    #[test]
    fn a_box_that_slept_asks_with_the_key_it_had_or_takes_what_it_has_in_reserve() {
        let months = LIFE.ends_s + 100 * DAY_S;
        assert_eq!(Identity::new(Some(LIFE), None, 7).step(months), Some(Step::Recover));
        let good = Life { begins_s: LIFE.begins_s, ends_s: months + DAY_S };
        assert_eq!(Identity::new(Some(LIFE), Some(good), 7).step(months), Some(Step::Adopt));
        assert_eq!(Identity::new(Some(LIFE), Some(after(LIFE)), 7).step(months), Some(Step::Discard));
    }

    #[test]
    fn a_certificate_of_a_minute_is_renewed_in_time_too() {
        let life = Life { begins_s: LIFE.begins_s, ends_s: LIFE.begins_s + 60 };
        let mut identity = Identity::new(Some(life), None, 3);
        let mut now_s = life.renewed_at_s(3);
        let mut tries = 0;
        while identity.step(now_s) == Some(Step::Renew) {
            tries += 1;
            identity.failed(now_s);
            now_s = identity.due_s();
        }
        assert!(tries >= 3, "{tries}");
    }
}
