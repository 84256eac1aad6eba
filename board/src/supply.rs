//! The supply: when it is lost, and when it is back. Pure.
//!
//! What holds a box up when its supply goes lasts a second or two. In that time it stops in order:
//!
//! 1. it stops acknowledging, so that instruments keep what they have and send it again;
//! 2. it writes the journal's log into the journal (checkpoint), so that the next start is short;
//! 3. its LEDs go dark.
//!
//! Nothing depends on it: what was acknowledged is on disk already. An input that never said "good" is wired otherwise
//! than its definition says, and never stops anything. One that cannot be read says nothing: neither that a supply which
//! began to fall is gone, nor that a lost one is back.

use std::collections::VecDeque;
use std::time::Duration;

/// A supply that is good for so long is back.
pub const BACK_AFTER: Duration = Duration::from_secs(5);
/// Not good for so long since the start, it is wired otherwise.
pub const NEVER_GOOD_AFTER: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is gone: stop in order, now.
    Lost,
    /// It is back: start anew.
    Back,
    /// It was not good once since the start.
    NeverGood,
}

/// See the module docs.
#[derive(Debug)]
pub struct Supply {
    lost_after: Duration,
    level: Level,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Copy)]
enum Level {
    /// Not good yet; since the start, which is where the first look was, and whether that was told.
    Never {
        since: Option<Duration>,
        is_told: bool,
    },
    Good,
    /// Not good since then.
    Falling {
        since: Duration,
    },
    /// Lost; good again since then.
    Lost {
        good_since: Option<Duration>,
    },
}

impl Supply {
    /// One that is lost when it is not good for so long.
    pub fn new(lost_after: Duration) -> Supply {
        Supply { lost_after, level: Level::Never { since: None, is_told: false }, events: VecDeque::new() }
    }

    /// The input says this now; none where it cannot be read.
    pub fn handle_level(&mut self, is_good: Option<bool>, now: Duration) {
        match is_good {
            Some(is_good) => self.handle_known(is_good, now),
            None => {
                self.level = match self.level {
                    Level::Falling { .. } => Level::Good,
                    Level::Lost { .. } => Level::Lost { good_since: None },
                    other => other,
                };
            }
        }
    }

    fn handle_known(&mut self, is_good: bool, now: Duration) {
        self.level = match self.level {
            Level::Never { .. } | Level::Good | Level::Falling { .. } if is_good => {
                // A look that comes too late has missed the loss, and all is well.
                Level::Good
            }
            Level::Never { since: None, .. } => Level::Never { since: Some(now), is_told: false },
            Level::Good => Level::Falling { since: now },
            Level::Lost { good_since } if is_good => Level::Lost { good_since: good_since.or(Some(now)) },
            Level::Lost { .. } => Level::Lost { good_since: None },
            other => other,
        };
        match self.level {
            Level::Falling { since } if now >= since + self.lost_after => {
                self.level = Level::Lost { good_since: None };
                self.events.push_back(Event::Lost);
            }
            Level::Lost { good_since: Some(since) } if now >= since + BACK_AFTER => {
                self.level = Level::Good;
                self.events.push_back(Event::Back);
            }
            Level::Never { since: Some(since), is_told: false } if now >= since + NEVER_GOOD_AFTER => {
                self.level = Level::Never { since: Some(since), is_told: true };
                self.events.push_back(Event::NeverGood);
            }
            _ => {}
        }
    }

    /// The next event. There is at most one for each change of the level.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True from its loss until it is back.
    pub fn is_lost(&self) -> bool {
        matches!(self.level, Level::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Levels from these moments on, looked at every 10 ms; what was said and when.
    fn play(levels: &[(u64, bool)], until: u64) -> Vec<(u64, Event)> {
        let levels: Vec<_> = levels.iter().map(|(from, is_good)| (*from, Some(*is_good))).collect();
        play_known(&levels, until)
    }

    /// The same with levels that cannot be read.
    fn play_known(levels: &[(u64, Option<bool>)], until: u64) -> Vec<(u64, Event)> {
        let (mut supply, mut said) = (Supply::new(ms(20)), Vec::new());
        for at in (0..=until).step_by(10) {
            let (_, is_good) = levels.iter().rev().find(|(from, _)| *from <= at).unwrap();
            supply.handle_level(*is_good, ms(at));
            said.extend(std::iter::from_fn(|| supply.poll_event()).map(|event| (at, event)));
        }
        said
    }

    #[test]
    fn a_supply_is_lost_once_and_back_once() {
        assert_eq!(play(&[(0, true)], 20_000), []);
        assert_eq!(play(&[(0, true), (100, false), (110, true)], 1000), [], "a dip");
        assert_eq!(play(&[(0, true), (100, false)], 60_000), [(120, Event::Lost)]);
        let flicker = [(0, true), (100, false), (500, true), (4000, false), (4100, true)];
        assert_eq!(play(&flicker, 20_000), [(120, Event::Lost), (9100, Event::Back)]);
    }

    #[test]
    fn an_input_that_is_wired_otherwise_stops_nothing() {
        assert_eq!(play(&[(0, false)], 60_000), [(10_000, Event::NeverGood)]);
        // A supply that comes up slowly is one.
        assert_eq!(play(&[(0, false), (500, true), (700, false)], 1000), [(720, Event::Lost)]);
    }

    #[test]
    fn an_input_that_cannot_be_read_says_nothing() {
        let (good, gone, unread) = (Some(true), Some(false), None);
        assert_eq!(play_known(&[(0, good), (100, unread)], 60_000), []);
        // It began to fall when it went silent; a fall that is seen from then on is one.
        assert_eq!(play_known(&[(0, good), (100, gone), (110, unread)], 60_000), []);
        let falls = [(0, good), (100, gone), (110, unread), (500, gone)];
        assert_eq!(play_known(&falls, 60_000), [(520, Event::Lost)]);
        // Silence is no supply either.
        let silent = [(0, good), (100, gone), (200, good), (300, unread), (6000, good)];
        assert_eq!(play_known(&silent, 60_000), [(120, Event::Lost), (11_000, Event::Back)]);
        assert_eq!(play_known(&[(0, unread)], 60_000), [], "nor is it wired otherwise");
    }
}
