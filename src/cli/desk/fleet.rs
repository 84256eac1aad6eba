//! `afferent desk fleet`.

use super::SETTINGS;
use crate::cli::colour;
use crate::desk::roster::{Roster, Row};
use crate::desk::{Config, Line};
use crate::fleet::topic::Up;
use anstyle::{AnsiColor, Style};
use clap::Args;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A broker that has said nothing new for this long has said what it keeps; it may take longer to begin.
const QUIET: Duration = Duration::from_secs(1);
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Show how all boxes are, from what they said last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk fleet
  afferent desk fleet --follow
  afferent desk fleet --json | jq '.[] | select(.online | not)'

Exit codes: 0 shown, 1 the broker does not let the desk in.")]
pub(super) struct Fleet {
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Print one JSON object: boxes by name
    #[arg(long)]
    json: bool,
    /// Go on, show what changes, and answer boxes that ask whether they are heard
    #[arg(long, conflicts_with = "json")]
    follow: bool,
}

impl Fleet {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let mut line = Line::connect(&config).await?;
        let mut roster = Roster::default();
        // What the broker keeps comes first, each of it once: the fleet is shown when nothing of it is new for a moment.
        let (mut seen, mut until) = (HashSet::new(), tokio::time::Instant::now() + FIRST_WORD);
        while let Ok(said) = tokio::time::timeout_at(until, line.hear()).await {
            let said = said?;
            roster.heard(&said);
            if said.what.is_retained() && seen.insert((said.place, said.what)) {
                until = tokio::time::Instant::now() + QUIET;
            }
        }
        if self.json {
            println!("{}", serde_json::to_string(roster.rows())?);
            return Ok(ExitCode::SUCCESS);
        }
        print_rows(roster.rows());
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            let said = line.hear().await?;
            if said.what == Up::Echo {
                line.answer(&said);
                continue;
            }
            let name = said.place.gateway().to_string();
            let before = roster.rows().get(&name).cloned();
            roster.heard(&said);
            if roster.rows().get(&name) != before.as_ref()
                && let Some(row) = roster.rows().get(&name)
            {
                print_row(&name, row);
            }
        }
    }
}

fn print_rows<'r>(rows: impl IntoIterator<Item = (&'r String, &'r Row)>) {
    println!(
        "{:20} {:8} {:8} {:>7} {:>9} {:>7} {:>7} {:>7}  alerts",
        "box", "state", "version", "links", "messages", "queued", "parked", "oldest"
    );
    for (name, row) in rows {
        print_row(name, row);
    }
}

fn print_row(name: &str, row: &Row) {
    let paint = |style: Style, text: String| match colour(&std::io::stdout()) {
        true => format!("{style}{text}{style:#}"),
        false => text,
    };
    let (word, style) = match (row.online, row.alerts.is_empty()) {
        (true, true) => ("online", AnsiColor::Green.on_default()),
        (true, false) => ("online", AnsiColor::Yellow.on_default()),
        (false, _) => ("away", AnsiColor::Red.on_default().bold()),
    };
    let links = format!("{}/{}", row.links.values().filter(|link| link.up).count(), row.links.len());
    let messages: u64 = row.links.values().map(|link| link.messages).sum();
    let queued: u64 = row.destinations.values().map(|to| to.queued).sum();
    let parked: u64 = row.destinations.values().map(|to| to.parked).sum();
    let oldest =
        row.destinations.values().filter_map(|to| to.oldest_s).max().map_or("-".to_string(), |s| format!("{s} s"));
    let alerts: Vec<&str> = row.alerts.keys().map(String::as_str).collect();
    println!(
        "{name:20} {} {:8} {links:>7} {messages:>9} {queued:>7} {parked:>7} {oldest:>7}  {}",
        paint(style, format!("{word:8}")),
        row.version,
        alerts.join(", ")
    );
}
