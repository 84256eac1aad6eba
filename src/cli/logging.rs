//! Log lines on standard error: for people on a terminal, for journald under systemd, as JSON for collectors. Nothing waits
//! for whoever reads them (`logging/stderr.rs`).

mod journal;
mod stderr;

use super::Logging;
use crate::fleet::log::Keep;
use anyhow::Context;
use std::fmt;
use std::sync::Arc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless somebody says otherwise.
pub const FILTER_DEFAULT: &str = "info";
/// Where a filter is looked for when none is given, in this order.
const FILTER_VARIABLES: [&str; 2] = ["AFFERENT_LOG", "RUST_LOG"];

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Time, level, text; in colour on a terminal.
    Human,
    /// For journald: with fields and ids of events over its own socket where standard error leads to it, else each line
    /// without time and with its syslog priority in front.
    Journald,
    /// One JSON object a line.
    Json,
}

/// Starts logging, with this filter when nobody says otherwise; once in a process.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(options: &Logging, default: &str) -> anyhow::Result<()> {
    let variable = || FILTER_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let filter = options.log.clone().or_else(variable).unwrap_or_else(|| default.to_owned());
    let filter: Targets = filter.parse().with_context(|| {
        format!("`{filter}` is no log filter; write a level such as debug, or afferent::link=debug")
    })?;
    // systemd sets the variable for a service whose standard error goes to the journal.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = options.log_format.unwrap_or(if under_systemd { Format::Journald } else { Format::Human });
    if format == Format::Journald
        && let Some(native) = journal::Native::connect()
    {
        tracing_subscriber::registry().with(filter).with(native).with(Keep).init();
        return Ok(());
    }
    let lost: fn(u64) -> String = match format {
        Format::Human => |lost| format!(" WARN afferent: {}", lost_lines(lost)),
        Format::Journald => |lost| format!("<{}>afferent: {}", priority(Level::WARN), lost_lines(lost)),
        Format::Json => |lost| {
            let at = jiff::Timestamp::now().to_string();
            let message = lost_lines(lost);
            serde_json::json!({ "timestamp": at, "level": "WARN", "message": message, "target": "afferent" })
                .to_string()
        },
    };
    let stderr = Arc::new(stderr::Stderr::new(std::io::stderr(), lost));
    let builder = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(stderr);
    match format {
        Format::Human => builder.with_ansi(super::colour(&std::io::stderr())).finish().with(Keep).with(filter).init(),
        Format::Journald => {
            let format = Prefixed(tracing_subscriber::fmt::format().without_time());
            builder.with_ansi(false).event_format(format).finish().with(Keep).with(filter).init();
        }
        Format::Json => builder.json().flatten_event(true).finish().with(Keep).with(filter).init(),
    }
    Ok(())
}

/// Says that lines of the log were lost.
fn lost_lines(lost: u64) -> String {
    format!("{lost} lines of the log were lost before this one: whatever reads it took none")
}

/// The syslog priority of a level (RFC 5424, 6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Puts the syslog priority in front of each line: journald reads it and takes it off (sd-daemon(3)).
struct Prefixed(tracing_subscriber::fmt::format::Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
