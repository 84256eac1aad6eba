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

static LINES: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());

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
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// The last lines, the newest last.
pub fn last(count: usize) -> Vec<LogLine> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
}
