//! How something blinks or beeps: how long it is on, off, on, and so forth.

use std::time::Duration;

/// A pattern. Two are the same when they look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Milliseconds on, off, on ... None of them is 0.
    steps: &'static [u16],
    /// Begins again at the end; else it stays off.
    repeats: bool,
}

impl Pattern {
    /// Always off.
    pub const OFF: Pattern = Pattern { steps: &[], repeats: false };
    /// Always on.
    pub const ON: Pattern = Pattern { steps: &[1], repeats: true };

    /// Again and again: milliseconds on, off, on, off ..., an even number of them.
    pub const fn repeating(steps: &'static [u16]) -> Pattern {
        assert!(steps.len().is_multiple_of(2) && !steps.is_empty());
        Pattern { steps, repeats: true }
    }

    /// Once, and off from then on.
    pub const fn once(steps: &'static [u16]) -> Pattern {
        Pattern { steps, repeats: false }
    }

    /// Whether it is on when it began this long ago, and after how long that changes; never when nothing comes.
    pub fn at(self, since: Duration) -> (bool, Option<Duration>) {
        if self == Pattern::ON {
            return (true, None);
        }
        let total = self.length();
        if total.is_zero() || (!self.repeats && since >= total) {
            return (false, None);
        }
        let mut rest = Duration::from_nanos((since.as_nanos() % total.as_nanos()) as u64);
        for (at, step) in self.steps.iter().enumerate() {
            let step = Duration::from_millis(u64::from(*step));
            if rest < step {
                return (at % 2 == 0, Some(step - rest));
            }
            rest -= step;
        }
        (false, None)
    }

    /// One turn of it.
    pub fn length(self) -> Duration {
        Duration::from_millis(self.steps.iter().map(|step| u64::from(*step)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_pattern_says_when_it_changes() {
        let double = Pattern::repeating(&[100, 50, 100, 750]);
        for (since, lit, left) in [(0, true, 100), (99, true, 1), (100, false, 50), (150, true, 100), (250, false, 750)]
        {
            assert_eq!(double.at(ms(since)), (lit, Some(ms(left))), "{since}");
            assert_eq!(double.at(ms(since + 5 * 1000)), (lit, Some(ms(left))), "{since}, some turns later");
        }
        let once = Pattern::once(&[100, 50, 100]);
        assert_eq!(once.at(ms(160)), (true, Some(ms(90))));
        assert_eq!(once.at(ms(250)), (false, None));
        assert_eq!(Pattern::ON.at(ms(7)), (true, None));
        assert_eq!(Pattern::OFF.at(ms(7)), (false, None));
    }

    #[test]
    fn following_its_deadlines_shows_every_change() {
        let pattern = Pattern::repeating(&[30, 70]);
        let (mut now, mut lit) = (Duration::ZERO, Vec::new());
        for _ in 0..6 {
            let (on, left) = pattern.at(now);
            lit.push(on);
            now += left.unwrap();
        }
        assert_eq!((lit, now), (vec![true, false, true, false, true, false], ms(300)));
    }
}
