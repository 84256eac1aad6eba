//! What is usual on a link: how many messages it brings in each hour of the week. Pure.

use serde::{Deserialize, Serialize};

/// Hours of a week, from Monday 00:00.
pub const HOURS: usize = 168;
/// An hour is learnt from as many of the last weeks as this, older ones fading.
const WEEKS: f32 = 4.0;
/// An hour that was watched for less than this is not learnt from, in seconds.
const WATCHED_MIN_S: u64 = 55 * 60;

/// Messages per hour, by hour of the week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// Mean of each hour; negative while it was never watched.
    means: Vec<f32>,
    #[serde(skip)]
    current: Current,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Current {
    hour: usize,
    watched_s: u64,
    messages: u64,
}

impl Default for Learnt {
    fn default() -> Self {
        Learnt { means: vec![NEVER; HOURS], current: Current::default() }
    }
}

const NEVER: f32 = -1.0;

impl Learnt {
    /// Notes what came in the last `elapsed_s` seconds, which lie in `hour`.
    pub fn note(&mut self, hour: usize, elapsed_s: u64, messages: u64) {
        let hour = hour % HOURS;
        self.means.resize(HOURS, NEVER);
        if hour != self.current.hour {
            self.close();
            self.current = Current { hour, ..Current::default() };
        }
        self.current.watched_s += elapsed_s;
        self.current.messages = self.current.messages.saturating_add(messages);
    }

    fn close(&mut self) {
        let Current { hour, watched_s, messages } = self.current;
        let Some(mean) = self.means.get_mut(hour).filter(|_| watched_s >= WATCHED_MIN_S) else { return };
        let messages = messages as f32;
        *mean = if *mean < 0.0 { messages } else { *mean + (messages - *mean) / WEEKS };
    }

    /// The least and the most that is usual about `hour`, in messages per hour: of it and its neighbours, since work
    /// begins a little earlier or later on other days. `None` while one of them was never watched.
    pub fn usual(&self, hour: usize) -> Option<(f32, f32)> {
        let near = [hour + HOURS - 1, hour, hour + 1].map(|hour| self.means.get(hour % HOURS).copied());
        let mut range = (f32::MAX, 0.0_f32);
        for mean in near {
            let mean = mean.filter(|mean| *mean >= 0.0)?;
            range = (range.0.min(mean), range.1.max(mean));
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weeks(learnt: &mut Learnt, weeks: usize, messages: impl Fn(usize) -> u64) {
        for at in 0..weeks * HOURS {
            for _ in 0..60 {
                learnt.note(at % HOURS, 60, messages(at % HOURS) / 60);
            }
        }
        learnt.note(0, 60, 0);
    }

    #[test]
    fn an_hour_is_known_once_it_and_its_neighbours_were_watched() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.usual(9), None);
        weeks(&mut learnt, 1, |hour| if (8..17).contains(&(hour % 24)) { 120 } else { 0 });
        assert_eq!(learnt.usual(10), Some((120.0, 120.0)));
        assert_eq!(learnt.usual(8), Some((0.0, 120.0)), "work may begin an hour later");
        assert_eq!(learnt.usual(3), Some((0.0, 0.0)));
        let kept: Learnt = serde_json::from_str(&serde_json::to_string(&learnt).unwrap()).unwrap();
        assert_eq!(kept.usual(10), learnt.usual(10));
    }

    #[test]
    fn new_weeks_count_more_than_old_ones() {
        let mut learnt = Learnt::default();
        weeks(&mut learnt, 4, |_| 60);
        weeks(&mut learnt, 8, |_| 600);
        let (least, _) = learnt.usual(50).unwrap();
        assert!(least > 500.0, "{least}");
    }

    #[test]
    fn an_hour_that_was_hardly_watched_teaches_nothing() {
        let mut learnt = Learnt::default();
        for hour in 0..HOURS {
            learnt.note(hour, 600, 500);
        }
        assert_eq!(learnt.usual(50), None);
    }
}
