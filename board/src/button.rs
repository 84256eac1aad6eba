//! The button: what a press means. Pure; levels and time go in, events come out.
//!
//! | what somebody does | what it means |
//! |---|---|
//! | presses it shortly | [`Event::Identify`] |
//! | holds it for 5 seconds and lets go | [`Event::SetUp`] |
//! | holds it for 15 seconds, lets go, and within 10 seconds holds it for 5 seconds more | [`Event::FactoryReset`] |
//! | anything else after those 15 seconds | [`Event::ResetCancelled`] |
//! | holds it for a minute | [`Event::Stuck`]: something lies on it, and it means nothing |
//!
//! A button that is down when the box starts counts for nothing until it was up. What a button may do is in the board's
//! definition; what it may not do never happens, however long it is held.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// A contact bounces for less than this.
const DEBOUNCE: Duration = Duration::from_millis(30);
/// Held for so long it means set-up.
pub const SET_UP_AFTER: Duration = Duration::from_secs(5);
/// Held for so long it arms the factory reset.
pub const RESET_AFTER: Duration = Duration::from_secs(15);
/// Once armed, the second hold has to begin within this.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// The second hold.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(5);
/// Nobody holds a button for so long.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
/// A button that was not looked at for longer means nothing until it was up.
const LOOK_GAP: Duration = Duration::from_secs(3);
/// A press that is shorter than this is not worth a hint.
const HINT_AFTER: Duration = Duration::from_secs(1);
/// Events that nobody fetched; more cannot come within one turn.
const EVENTS_MAX: usize = 8;

/// What a button may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Show which box it is.
    Identify,
    /// Show how it is set up.
    SetUp,
    /// Forget everything.
    FactoryReset,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Identify, Role::SetUp, Role::FactoryReset];
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Show which box it is, or stop that.
    Identify,
    /// Show how it is set up.
    SetUp,
    /// The first half of a factory reset: the second is waited for.
    ResetArmed,
    /// The second half did not come.
    ResetCancelled,
    /// Forget everything.
    FactoryReset,
    /// It is down for too long.
    Stuck,
}

/// What letting go or holding on would do, for the display. Seconds are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is under way.
    None,
    /// Held on for so many seconds more it would mean set-up.
    Holding {
        /// Seconds.
        left_s: u64,
    },
    /// Let go now it means set-up; held on for so many seconds more it arms the factory reset.
    SetUp {
        /// Seconds; none where the button may not do that.
        left_s: Option<u64>,
    },
    /// Let go now it is armed.
    LetGo,
    /// Armed; a second hold has to begin within so many seconds.
    Armed {
        /// Seconds.
        left_s: u64,
    },
    /// Held on for so many seconds more it is done.
    Confirming {
        /// Seconds.
        left_s: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Down since the start, or what it was down for is done: waits until it is up.
    Spent,
    Up,
    Down {
        since: Duration,
    },
    /// Up, and armed since then.
    Armed {
        since: Duration,
    },
    Confirming {
        since: Duration,
    },
}

/// See the module docs.
#[derive(Debug)]
pub struct Button {
    roles: Vec<Role>,
    state: State,
    /// The level that counts.
    is_down: bool,
    /// Another one, and since when.
    other_since: Option<Duration>,
    /// When it was looked at last, and what it was.
    looked: Option<(Duration, bool)>,
    events: VecDeque<Event>,
}

impl Button {
    /// A button that may do this.
    pub fn new(roles: &[Role]) -> Button {
        let (state, is_down) = (State::Spent, true);
        Button { roles: roles.to_vec(), state, is_down, other_since: None, looked: None, events: VecDeque::new() }
    }

    /// The level is this now.
    pub fn handle_level(&mut self, is_down: bool, now: Duration) {
        // What was due is due before what happens now.
        self.handle_timeout(now);
        self.looked = Some((now, is_down));
        if is_down == self.is_down {
            self.other_since = None;
        } else if self.other_since.is_none() {
            self.other_since = Some(now);
        }
        self.handle_timeout(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(since) = self.other_since.filter(|since| now >= *since + DEBOUNCE) {
            self.other_since = None;
            self.is_down = !self.is_down;
            // It counts from when it began, not from when it was believed.
            if self.is_down { self.pressed(since) } else { self.released(since) }
        }
        let was_looked_at = self.looked.is_none_or(|(at, _)| now <= at + LOOK_GAP);
        match self.state {
            // Nobody knows what somebody did meanwhile.
            State::Armed { .. } | State::Confirming { .. } if !was_looked_at => self.spend(Event::ResetCancelled),
            State::Down { .. } if !was_looked_at => self.state = State::Spent,
            State::Down { since } if now >= since + STUCK_AFTER => self.spend(Event::Stuck),
            State::Armed { since } if now >= since + CONFIRM_WITHIN && self.other_since.is_none() => {
                self.state = State::Up;
                self.say(Event::ResetCancelled);
            }
            // Only while it is seen to be down.
            State::Confirming { since } if now >= since + CONFIRM_AFTER && self.looked == Some((now, true)) => {
                self.spend(Event::FactoryReset);
            }
            _ => {}
        }
    }

    /// When something may change by itself.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let whole_second =
            |since: Duration| Some(since + Duration::from_secs((now.saturating_sub(since)).as_secs() + 1));
        let by_state = match self.state {
            State::Spent | State::Up => None,
            // Hints count seconds.
            State::Down { since } | State::Armed { since } | State::Confirming { since } => whole_second(since),
        };
        let settles = self.other_since.map(|since| since + DEBOUNCE);
        by_state.into_iter().chain(settles).min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is under way.
    pub fn hint(&self, now: Duration) -> Hint {
        let left_s =
            |since: Duration, limit: Duration| (since + limit).saturating_sub(now).as_millis().div_ceil(1000) as u64;
        match self.state {
            State::Spent | State::Up => Hint::None,
            State::Down { since } => {
                let held = now.saturating_sub(since);
                let may_reset = self.may(Role::FactoryReset);
                if held < HINT_AFTER || !(self.may(Role::SetUp) || may_reset) {
                    Hint::None
                } else if may_reset && held >= RESET_AFTER {
                    Hint::LetGo
                } else if held < SET_UP_AFTER {
                    Hint::Holding { left_s: left_s(since, SET_UP_AFTER) }
                } else {
                    Hint::SetUp { left_s: may_reset.then(|| left_s(since, RESET_AFTER)) }
                }
            }
            State::Armed { since } => Hint::Armed { left_s: left_s(since, CONFIRM_WITHIN) },
            State::Confirming { since } => Hint::Confirming { left_s: left_s(since, CONFIRM_AFTER) },
        }
    }

    fn pressed(&mut self, at: Duration) {
        self.state = match self.state {
            State::Armed { since } if at < since + CONFIRM_WITHIN => State::Confirming { since: at },
            State::Armed { .. } => {
                self.say(Event::ResetCancelled);
                State::Down { since: at }
            }
            State::Up => State::Down { since: at },
            other => other,
        };
    }

    fn released(&mut self, at: Duration) {
        let state = std::mem::replace(&mut self.state, State::Up);
        match state {
            State::Down { since } => {
                let held = at.saturating_sub(since);
                if held < SET_UP_AFTER {
                    self.say_if(Role::Identify, Event::Identify);
                } else if held < RESET_AFTER || !self.may(Role::FactoryReset) {
                    self.say_if(Role::SetUp, Event::SetUp);
                } else {
                    self.state = State::Armed { since: at };
                    self.say(Event::ResetArmed);
                }
            }
            State::Confirming { .. } => self.say(Event::ResetCancelled),
            State::Spent | State::Up | State::Armed { .. } => {}
        }
    }

    fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    fn spend(&mut self, event: Event) {
        self.state = State::Spent;
        self.say(event);
    }

    fn say_if(&mut self, role: Role, event: Event) {
        if self.may(role) {
            self.say(event);
        }
    }

    fn say(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Presses and releases at these moments (milliseconds), looked at every 20 ms until `until`; what was said and when.
    fn play(roles: &[Role], edges: &[u64], until: u64) -> Vec<(u64, Event)> {
        let (mut button, mut said) = (Button::new(roles), Vec::new());
        for at in (0..=until).step_by(20) {
            let now = Duration::from_millis(at);
            let is_down = edges.iter().filter(|edge| **edge <= at).count() % 2 == 1;
            button.handle_level(is_down, now);
            while let Some(event) = button.poll_event() {
                said.push((at, event));
            }
        }
        said
    }

    fn events(edges: &[u64], until: u64) -> Vec<Event> {
        play(&Role::ALL, edges, until).into_iter().map(|(_, event)| event).collect()
    }

    #[test]
    fn what_a_press_means() {
        for (story, edges, said) in [
            ("nothing", &[][..], &[][..]),
            ("a short press", &[1000, 1200], &[Event::Identify]),
            ("two", &[1000, 1200, 2000, 2100], &[Event::Identify, Event::Identify]),
            ("just too short for set-up", &[1000, 5980], &[Event::Identify]),
            ("set-up", &[1000, 6000], &[Event::SetUp]),
            ("just too short for a reset", &[1000, 15980], &[Event::SetUp]),
            ("armed, and nothing more", &[1000, 16000], &[Event::ResetArmed, Event::ResetCancelled]),
            ("a short press behind it", &[1000, 16000, 17000, 17200], &[Event::ResetArmed, Event::ResetCancelled]),
            ("let go too early", &[1000, 16000, 17000, 21980], &[Event::ResetArmed, Event::ResetCancelled]),
            ("confirmed", &[1000, 16000, 17000, 22040], &[Event::ResetArmed, Event::FactoryReset]),
            ("confirmed, and held on", &[1000, 16000, 25980, 90000], &[Event::ResetArmed, Event::FactoryReset]),
            ("too late", &[1000, 16000, 26020, 32000], &[Event::ResetArmed, Event::ResetCancelled, Event::SetUp]),
            ("something lies on it", &[1000, 80000], &[Event::Stuck]),
            ("held since the start", &[0, 16000, 20000, 20100], &[Event::Identify]),
            ("a contact that bounces", &[1000, 1020, 1040, 6040, 6060, 6080], &[Event::SetUp]),
            ("a glitch", &[1000, 1020], &[]),
        ] {
            assert_eq!(events(edges, 100_000), said, "{story}");
        }
    }

    #[test]
    fn a_reset_comes_while_it_is_held_and_never_before_its_five_seconds() {
        let said = play(&Role::ALL, &[1000, 16000, 17000, 30000], 40_000);
        let (at, event) = said[1];
        assert_eq!(event, Event::FactoryReset);
        assert!((22_000..22_060).contains(&at), "{at}");
    }

    #[test]
    fn what_a_button_may_not_do_never_happens() {
        let confirmed = [1000, 16000, 17000, 22040];
        let without_reset = [Role::Identify, Role::SetUp];
        let said: Vec<Event> = play(&without_reset, &confirmed, 40_000).into_iter().map(|(_, event)| event).collect();
        assert_eq!(said, [Event::SetUp, Event::SetUp]);
        assert_eq!(play(&[], &confirmed, 40_000), []);
        assert_eq!(play(&[Role::FactoryReset], &[1000, 1200, 3000, 9000], 20_000), []);
    }

    /// A button that is armed, and held since 17 seconds to confirm.
    fn confirming() -> Button {
        let mut button = Button::new(&Role::ALL);
        for at in (0..17_200).step_by(20) {
            let is_down = (1000..16_000).contains(&at) || at >= 17_000;
            button.handle_level(is_down, Duration::from_millis(at));
        }
        assert_eq!(button.poll_event(), Some(Event::ResetArmed));
        button
    }

    #[test]
    fn nobody_is_taken_to_hold_a_button_that_was_not_looked_at() {
        let at = Duration::from_millis;
        let said = |mut button: Button| std::iter::from_fn(|| button.poll_event()).collect::<Vec<Event>>();
        let mut late = confirming();
        late.handle_level(false, at(23_000));
        late.handle_level(false, at(23_100));
        assert_eq!(said(late), [Event::ResetCancelled], "let go while nobody looked");
        let mut held = confirming();
        for ms in (23_000..40_000).step_by(20) {
            held.handle_level(true, at(ms));
        }
        assert_eq!(said(held), [Event::ResetCancelled], "nor is it known that it was held");
        let mut unknown = confirming();
        for ms in (17_200..40_000).step_by(1000) {
            unknown.handle_timeout(at(ms));
        }
        assert_eq!(said(unknown), [Event::ResetCancelled], "it cannot be read any more");
    }

    #[test]
    fn the_display_counts_down_and_is_woken_for_it() {
        let mut button = Button::new(&Role::ALL);
        let at = Duration::from_millis;
        button.handle_level(false, at(0));
        button.handle_level(false, at(40));
        button.handle_level(true, at(1000));
        assert_eq!(button.poll_timeout(at(1000)), Some(at(1030)));
        let mut seen = Vec::new();
        let (mut now, mut level) = (at(1030), true);
        while now < at(40_000) {
            button.handle_level(level, now);
            let hint = button.hint(now);
            if seen.last() != Some(&hint) {
                seen.push(hint);
            }
            let next = button.poll_timeout(now).unwrap_or(at(40_000));
            assert!(next > now, "{now:?}");
            now = next;
            // Let go after 16 s, pressed again after 3 s more.
            level = !(at(17_000)..at(20_000)).contains(&now);
            button.handle_level(level, now);
        }
        let holding = (1..=4).rev().map(|left_s| Hint::Holding { left_s });
        let set_up = (1..=10).rev().map(|left_s| Hint::SetUp { left_s: Some(left_s) });
        let expected: Vec<Hint> = std::iter::once(Hint::None)
            .chain(holding)
            .chain(set_up)
            .chain([Hint::LetGo])
            .chain((7..=10).rev().map(|left_s| Hint::Armed { left_s }))
            .chain((1..=5).rev().map(|left_s| Hint::Confirming { left_s }))
            .chain([Hint::None])
            .collect();
        assert_eq!(seen, expected);
    }
}
