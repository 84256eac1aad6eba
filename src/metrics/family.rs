//! Figures with names and labels, as OpenTelemetry names them. Pure.

use crate::delivery::Latency;

/// What a figure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up from the start of the program.
    Counter,
    /// Times, counted by how long they are.
    Histogram,
}

/// Figures of one meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name as OpenTelemetry writes it: words with dots.
    pub name: &'static str,
    /// Unit in UCUM: "s", "By", or nothing where things are counted.
    pub unit: &'static str,
    /// What they do.
    pub kind: Kind,
    /// What they mean.
    pub help: &'static str,
    /// One for each set of labels.
    pub points: Vec<Point>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name and text of each label.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: Value,
}

/// A figure, or many.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// Times.
    Times(Times),
}

/// Times since start, by [`BOUNDS_MS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// How many there are up to each bound and above the one before it; the last is of those above all bounds.
    pub counts: [u64; BOUNDS_MS.len() + 1],
    /// All of them together, milliseconds.
    pub sum_ms: u64,
}

/// The longest times of buckets, milliseconds: where buckets of [`Latency`] end, from a commit to a day.
pub const BOUNDS_MS: [u64; 18] = [
    7,
    15,
    31,
    63,
    127,
    255,
    511,
    1023,
    2047,
    4095,
    8191,
    16_383,
    65_535,
    262_143,
    1_048_575,
    4_194_303,
    16_777_215,
    134_217_727,
];

impl Family {
    /// Figures of this meaning, none yet.
    pub const fn new(name: &'static str, unit: &'static str, kind: Kind, help: &'static str) -> Family {
        Family { name, unit, kind, help, points: Vec::new() }
    }

    /// The same with these figures.
    pub fn with(self, points: Vec<Point>) -> Family {
        Family { points, ..self }
    }
}

impl Point {
    /// A number.
    pub fn number<const N: usize>(labels: [(&'static str, &str); N], figure: u64) -> Point {
        Point { labels: owned(labels), value: Value::Number(figure) }
    }

    /// Times.
    pub fn times<const N: usize>(labels: [(&'static str, &str); N], latency: &Latency) -> Point {
        let mut counts = [0; BOUNDS_MS.len() + 1];
        for (longest_ms, count) in latency.buckets() {
            counts[BOUNDS_MS.partition_point(|bound| *bound < longest_ms)] += count;
        }
        Point { labels: owned(labels), value: Value::Times(Times { counts, sum_ms: latency.sum_ms() }) }
    }
}

fn owned<const N: usize>(labels: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    labels.into_iter().map(|(name, text)| (name, text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_up_to_the_bound_they_do_not_exceed() {
        for bound in BOUNDS_MS {
            let latency = Latency::default();
            latency.add(bound);
            latency.add(bound + 1);
            let Value::Times(times) = Point::times([], &latency).value else { panic!("no times") };
            let at = BOUNDS_MS.iter().position(|b| *b == bound).unwrap();
            assert_eq!((times.counts[at], times.counts[at + 1]), (1, 1), "{bound} ms and one more");
            assert_eq!(times.sum_ms, 2 * bound + 1);
        }
    }
}
