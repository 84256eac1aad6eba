//! When and how fast images may be sent: windows of the week, and a limit of bytes a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use tokio::time::{Instant, sleep_until};

const DAY_MIN: u32 = 24 * 60;
const WEEK_MIN: u32 = 7 * DAY_MIN;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The windows in which a destination may be sent to. Without any it always may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// Beginning and length of each, in minutes of a week that begins on Monday.
    spans: Vec<(u32, u32)>,
}

impl Windows {
    /// Reads `18:00-06:00`, `sat 08:00-12:00` or `mon-fri 18:00-06:00`. A window that ends before it begins ends on
    /// the next day.
    ///
    /// # Errors
    /// The text that is no window.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut spans = Vec::new();
        for text in texts {
            spans.extend(window(text).ok_or_else(|| text.clone())?);
        }
        Ok(Windows { spans })
    }

    /// How long until the next window opens; `None` while one is open. To be asked again at least once a minute: the
    /// clock may be set.
    pub fn closed_for(&self, now: &Zoned) -> Option<Duration> {
        let weekday = u32::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
        let time = u32::try_from(now.hour()).unwrap_or_default() * 60 + u32::try_from(now.minute()).unwrap_or_default();
        let now_min = weekday * DAY_MIN + time;
        let open = |&(begin, length): &(u32, u32)| (now_min + WEEK_MIN - begin) % WEEK_MIN < length;
        if self.spans.is_empty() || self.spans.iter().any(open) {
            return None;
        }
        let minutes = self.spans.iter().map(|(begin, _)| (begin + WEEK_MIN - now_min) % WEEK_MIN).min()?;
        let into = u64::try_from(now.second()).unwrap_or_default();
        Some(Duration::from_secs((u64::from(minutes) * 60).saturating_sub(into).max(1)))
    }
}

/// The spans of one written window, one for each of its days.
fn window(text: &str) -> Option<Vec<(u32, u32)>> {
    let text = text.trim().to_ascii_lowercase();
    let (days, times) = match text.split_once(' ') {
        Some((days, times)) => (days_of(days)?, times.trim()),
        None => ((0..7).collect(), text.as_str()),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    if from == DAY_MIN || from == to {
        return None;
    }
    let length = (to + DAY_MIN - from) % DAY_MIN;
    let length = if length == 0 { DAY_MIN } else { length };
    Some(days.into_iter().map(|day: u32| (day * DAY_MIN + from, length)).collect())
}

fn days_of(text: &str) -> Option<Vec<u32>> {
    let day = |name: &str| DAYS.iter().position(|d| *d == name).and_then(|at| u32::try_from(at).ok());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    Some((0..=(last + 7 - first) % 7).map(|after| (first + after) % 7).collect())
}

/// `HH:MM`, up to 24:00.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= DAY_MIN).then_some(hour * 60 + minute)
}

/// A limit of bytes a second, shared by all connections of a destination. A clone is the same limit.
#[derive(Debug, Clone)]
pub struct Pace {
    /// When the next byte may be sent; `None` without a limit.
    next: Option<Arc<Mutex<Instant>>>,
    bytes_s: u64,
}

impl Pace {
    /// So many kB (1000 bytes) a second; 0 is no limit.
    pub fn new(kb_s: u64) -> Self {
        let next = (kb_s > 0).then(|| Arc::new(Mutex::new(Instant::now())));
        Pace { next, bytes_s: kb_s.saturating_mul(1000) }
    }

    /// Waits until so many bytes may be sent. Time in which nothing was sent is not made up for later.
    pub async fn wait(&self, bytes: usize) {
        let Some(next) = &self.next else { return };
        let at = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            let micros = (bytes as u64).saturating_mul(1_000_000) / self.bytes_s;
            *next = at + Duration::from_micros(micros);
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(texts: &[&str]) -> Windows {
        Windows::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    /// 2026-03-02 is a Monday.
    fn at(text: &str) -> Zoned {
        text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap()
    }

    fn closed_min(windows: &Windows, text: &str) -> Option<u64> {
        windows.closed_for(&at(text)).map(|closed| closed.as_secs() / 60)
    }

    #[test]
    fn a_window_goes_over_midnight_and_over_the_end_of_the_week() {
        let night = windows(&["18:00-06:00"]);
        assert_eq!(closed_min(&night, "2026-03-02T12:00:00"), Some(360));
        for open in ["2026-03-02T18:00:00", "2026-03-02T05:59:59", "2026-03-08T23:00:00", "2026-03-09T00:00:00"] {
            assert_eq!(closed_min(&night, open), None, "{open}");
        }
        assert_eq!(closed_min(&night, "2026-03-02T06:00:00"), Some(720));
    }

    #[test]
    fn days_are_those_on_which_a_window_begins() {
        let weekend = windows(&["sat-sun 00:00-24:00", "fri 22:00-02:00"]);
        assert_eq!(closed_min(&weekend, "2026-03-06T21:59:00"), Some(1));
        assert_eq!(closed_min(&weekend, "2026-03-06T22:00:00"), None);
        assert_eq!(closed_min(&weekend, "2026-03-08T23:59:00"), None);
        assert_eq!(closed_min(&weekend, "2026-03-09T00:00:00"), Some(4 * 1440 + 22 * 60));
        let around = windows(&["sun-mon 10:00-11:00"]);
        assert_eq!(closed_min(&around, "2026-03-02T10:30:00"), None);
        assert_eq!(closed_min(&around, "2026-03-03T10:30:00"), Some(5 * 1440 - 30));
    }

    #[test]
    fn without_windows_it_is_always_open_and_what_is_none_is_told() {
        assert_eq!(windows(&[]).closed_for(&at("2026-03-02T12:00:00")), None);
        for wrong in ["", "at night", "18:00", "18-06", "25:00-26:00", "10:60-11:00", "8:00-9:00", "foo 10:00-11:00"] {
            assert_eq!(Windows::parse(&[wrong.to_owned()]), Err(wrong.to_owned()));
        }
        assert!(Windows::parse(&["10:00-10:00".to_owned()]).is_err(), "an empty window would never open");
    }

    #[tokio::test(start_paused = true)]
    async fn all_connections_together_keep_the_limit() {
        let pace = Pace::new(100);
        let began = Instant::now();
        let sends = (0..4).map(|_| {
            let pace = pace.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    pace.wait(50_000).await;
                }
            })
        });
        for send in sends.collect::<Vec<_>>() {
            send.await.unwrap();
        }
        // The last of twenty waits for the nineteen before it, half a second each.
        assert_eq!(began.elapsed().as_millis() / 10, 950);
        Pace::new(0).wait(usize::MAX).await;
        assert_eq!(began.elapsed().as_millis() / 10, 950, "no limit, no wait");
    }
}
