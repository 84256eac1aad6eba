//! The last lines of the log, kept in memory so that an operator may ask for them. What of a line may be kept and told,
//! [`LogLine`] says; the whole line stays in the log of the box itself.

use super::telemetry::{At, LogLine};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that are kept.
pub const LINES_MAX: usize = 512;

static LINES: Mutex<Lines> = Mutex::new(Lines { all: VecDeque::new(), next: 0 });

struct Lines {
    all: VecDeque<LogLine>,
    /// How many there were since the process started: the number of the line that comes next.
    next: u64,
}

/// Keeps the lines of this process: a layer of its log.
#[derive(Debug, Clone, Copy)]
pub struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::INFO {
            return;
        }
        let line = LogLine::of(event, At::new(Timestamp::now()));
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.all.len() >= LINES_MAX {
            lines.all.pop_front();
        }
        lines.all.push_back(line);
        lines.next += 1;
    }
}

/// The last lines, the newest last.
pub fn last(count: usize) -> Vec<LogLine> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.all.iter().skip(lines.all.len().saturating_sub(count)).cloned().collect()
}

/// The number of the line that comes next.
pub fn next() -> u64 {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).next
}

/// The lines from this number on that are still kept, oldest first, and the number of the first of them.
pub fn since(from: u64, most: usize) -> (u64, Vec<LogLine>) {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let first = from.max(lines.next - lines.all.len() as u64);
    let behind = usize::try_from(lines.next.saturating_sub(first)).unwrap_or_default();
    (first, lines.all.iter().skip(lines.all.len() - behind).take(most).cloned().collect())
}
