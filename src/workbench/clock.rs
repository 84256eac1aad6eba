//! What an instrument's clock is worth, from the times its messages carry and when they came. Pure.

use serde::Serialize;

/// Fewer messages than this say nothing: one may have waited in a queue.
const SAMPLES_MIN: usize = 3;
/// Zones differ by whole quarters of an hour, in seconds.
const QUARTER_S: i64 = 900;
/// A drift this near to whole quarters of an hour is a wrong zone rather than a wrong clock, in seconds.
const NEAR_S: i64 = 120;
/// No two zones are further apart, in seconds (-12:00 to +14:00).
const ZONES_MAX_S: i64 = 26 * 3600;

/// An instrument's clock beside the box's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clock {
    /// Median of what its messages were ahead of their receipt, in seconds; negative is behind.
    pub drift_s: i64,
    /// From so many messages.
    pub samples: usize,
    /// What its offset from UTC is assumed to be too little or too much, in seconds, when the drift looks like a wrong
    /// zone and not like a wrong clock.
    pub zone_error_s: Option<i64>,
}

/// Judges the drifts of the last messages, in seconds. `None` when there are too few.
pub fn judge(drifts_s: &[i64]) -> Option<Clock> {
    if drifts_s.len() < SAMPLES_MIN {
        return None;
    }
    let mut sorted = drifts_s.to_vec();
    sorted.sort_unstable();
    let drift_s = *sorted.get(sorted.len() / 2)?;
    // Halves are rounded away from zero.
    let quarters = (drift_s.abs() + QUARTER_S / 2) / QUARTER_S * drift_s.signum();
    let near = (drift_s - quarters * QUARTER_S).abs() <= NEAR_S;
    let zone_error_s = (quarters != 0 && near && drift_s.abs() <= ZONES_MAX_S).then_some(quarters * QUARTER_S);
    Some(Clock { drift_s, samples: drifts_s.len(), zone_error_s })
}

/// `2 h 15 min`, `40 s`.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.abs();
    match (seconds / 3600, seconds % 3600 / 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_firm_against_messages_that_waited() {
        let clock = judge(&[4, 3, -86_000, 5, 4, -7_000, 4]).unwrap();
        assert_eq!((clock.drift_s, clock.samples, clock.zone_error_s), (4, 7, None));
        assert_eq!(judge(&[3600, 3600]), None, "too few");
    }

    #[test]
    fn whole_quarters_of_an_hour_are_a_wrong_zone() {
        for (drift, error) in [
            (3_597, Some(3_600)),
            (-7_210, Some(-7_200)),
            (19_800, Some(19_800)),
            (-1_000, Some(-900)),
            (1_400, None),
            (95, None),
            (-300, None),
            (90_000 + 3_600 * 3, None),
        ] {
            assert_eq!(judge(&[drift; 5]).unwrap().zone_error_s, error, "{drift}");
        }
    }

    #[test]
    fn a_span_is_said_in_words() {
        for (seconds, words) in [(-40, "40 s"), (130, "2 min 10 s"), (-7_260, "2 h 01 min")] {
            assert_eq!(span(seconds), words);
        }
    }
}
