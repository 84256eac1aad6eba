//! `afferent desk fleet`.

use super::SETTINGS;
use crate::cli::colour;
use crate::desk::registry::{Group, Registry};
use crate::desk::roster::{Brief, Roster, SILENT_AFTER, Trouble};
use crate::desk::{Config, Interest, Kept, Line, News};
use anstyle::{AnsiColor, Style};
use anyhow::bail;
use clap::Args;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// A terminal is painted this often, when something has changed.
const PAINT_EVERY: Duration = Duration::from_millis(500);
/// Boxes that have gone silent are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Lines of a terminal that does not say how many it has.
const LINES_DEFAULT: usize = 24;
/// Lines of the table that are no boxes, and the one the cursor stands in.
const LINES_AROUND: usize = 4;

/// Show how all boxes are, from what they said last; those in trouble first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk fleet
  afferent desk fleet --group ring=0,site=north
  afferent desk fleet --watch
  afferent desk fleet --json | jq '.[] | select(.online | not)'

States: `away`, the box is not there; `stuck`, something waits and does not get on, or is parked; `unusual`, it has an
alert; `deaf`, it is there and no desk has answered its echo, so that it does not know whether it can be told anything:
`--watch`, `afferent desk serve` and a roll-out answer, a look like this one does not; `online`, all is well.

Exit codes: 0 shown, 1 the broker does not let the desk in.")]
pub(super) struct Fleet {
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Only these boxes of the inventory
    #[arg(long, value_name = "GROUP")]
    group: Option<Group>,
    /// Print one JSON object: boxes by name
    #[arg(long)]
    json: bool,
    /// Go on, show what changes, and answer boxes that ask whether they are heard
    #[arg(long, visible_alias = "follow", conflicts_with = "json")]
    watch: bool,
    /// Stop watching after so many seconds
    #[arg(long, value_name = "N", requires = "watch")]
    seconds: Option<u64>,
}

impl Fleet {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let registry = Registry::read(&config.folder)?;
        if let Some(group) = &self.group
            && registry.of(group).next().is_none()
        {
            bail!("no box of the inventory is in {group}: see `afferent desk inventory`");
        }
        super::tell_of_own_ends(&config);
        let mut line = Line::connect(&config, Interest::State).await?;
        super::tell_of_broker_end(&config, &line);
        let mut roster = Roster::default();
        let mut kept = Kept::default();
        while let Ok(said) = tokio::time::timeout_at(kept.until(), line.hear()).await {
            let said = said?;
            if self.watch {
                line.answer(&said);
            }
            roster.heard(&said, Instant::now().into_std());
            kept.heard(&said);
        }
        if self.json {
            let rows = roster.rows().iter().filter(|(name, _)| self.shows(name, &registry));
            let rows: std::collections::BTreeMap<_, _> = rows.collect();
            println!("{}", serde_json::to_string(&rows)?);
            return Ok(ExitCode::SUCCESS);
        }
        if !self.watch {
            print!("{}", self.table(&roster, &registry, usize::MAX));
            let minutes = SILENT_AFTER.as_secs().div_ceil(60);
            println!(
                "as the broker keeps it: a box that ended while the broker was down is shown as it was; --watch knows \
                 after {minutes} min"
            );
            return Ok(ExitCode::SUCCESS);
        }
        self.follow(line, roster, registry).await
    }

    fn shows(&self, name: &str, registry: &Registry) -> bool {
        let chosen = |group: &Group| registry.get(name).is_some_and(|entry| group.has(entry));
        self.group.as_ref().is_none_or(chosen)
    }

    async fn follow(self, mut line: Line, mut roster: Roster, registry: Registry) -> anyhow::Result<ExitCode> {
        let is_terminal = std::io::stdout().is_terminal();
        let over = crate::cli::sim::over(self.seconds);
        tokio::pin!(over);
        let (mut paint_at, mut is_due) = (Instant::now(), true);
        let mut looking = tokio::time::interval(LOOK_EVERY);
        if !is_terminal {
            print!("{}", self.table(&roster, &registry, usize::MAX));
        }
        loop {
            if is_terminal && is_due && paint_at <= Instant::now() {
                (paint_at, is_due) = (Instant::now() + PAINT_EVERY, false);
                let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(LINES_DEFAULT);
                // Home, the table, and nothing of what was there below it.
                print!("\x1b[H{}\x1b[J", self.table(&roster, &registry, lines).replace('\n', "\x1b[K\n"));
                std::io::stdout().flush()?;
            }
            let news = tokio::select! {
                () = &mut over => return Ok(ExitCode::SUCCESS),
                () = tokio::time::sleep_until(paint_at), if is_terminal && is_due => continue,
                _ = looking.tick() => {
                    let gone = if line.is_up() { roster.look(Instant::now().into_std()) } else { Vec::new() };
                    for name in gone.iter().filter(|name| self.shows(name, &registry)) {
                        is_due = true;
                        if let (false, Some(row)) = (is_terminal, roster.rows().get(name)) {
                            print!("{}", one(&row.brief(name, &registry)));
                        }
                    }
                    continue;
                }
                news = line.follow() => news,
            };
            match news {
                News::Said(said) => {
                    line.answer(&said);
                    let name = said.place.gateway();
                    if !roster.heard(&said, Instant::now().into_std()) || !self.shows(name, &registry) {
                        continue;
                    }
                    is_due = true;
                    if let (false, Some(row)) = (is_terminal, roster.rows().get(name)) {
                        print!("{}", one(&row.brief(name, &registry)));
                    }
                }
                News::Lost(why) => eprintln!("{why}"),
                News::Back => roster.back(Instant::now().into_std()),
            }
        }
    }

    /// The worst first, as many as there are lines for.
    fn table(&self, roster: &Roster, registry: &Registry, lines: usize) -> String {
        let rows = roster.rows().iter().filter(|(name, _)| self.shows(name, registry));
        let mut rows: Vec<Brief<'_>> = rows.map(|(name, row)| row.brief(name, registry)).collect();
        rows.sort_by_key(|row| (row.trouble, std::cmp::Reverse((row.stranger, row.parked, row.queued)), row.name));
        let heads = ["box", "state", "ring", "version", "links", "messages", "queued", "parked", "oldest"];
        let [name, state, ring, version, links, messages, queued, parked, oldest] = heads;
        let mut table = format!(
            "{name:20} {state:8} {ring:>4} {version:8} {links:>7} {messages:>9} {queued:>7} {parked:>7} {oldest:>8}  alerts\n"
        );
        let room = lines.saturating_sub(LINES_AROUND);
        rows.iter().take(room).for_each(|row| table.push_str(&one(row)));
        if rows.len() > room {
            let _ = writeln!(table, "... and {} more", rows.len() - room);
        }
        let with = |trouble: Trouble| rows.iter().filter(|row| row.trouble == trouble).count();
        let strangers = rows.iter().filter(|row| row.stranger).count();
        if rows.is_empty() && self.group.is_none() {
            table.push_str("no box is heard: none was there yet, `tenant` in the settings is not theirs, or the broker's acl does\n\
                            not name this desk (`afferent desk broker --tenant`)\n");
        }
        let _ = writeln!(
            table,
            "{} boxes: {} away, {} stuck, {} unusual, {} deaf, {} well; {strangers} strangers",
            rows.len(),
            with(Trouble::Away),
            with(Trouble::Stuck),
            with(Trouble::Unusual),
            with(Trouble::Deaf),
            with(Trouble::None),
        );
        table
    }
}

fn one(row: &Brief<'_>) -> String {
    let paint = |style: Style, text: String| match colour(&std::io::stdout()) {
        true => format!("{style}{text}{style:#}"),
        false => text,
    };
    let (word, style) = match row.trouble {
        Trouble::Away => ("away", AnsiColor::Red.on_default().bold()),
        Trouble::Stuck => ("stuck", AnsiColor::Red.on_default()),
        Trouble::Unusual => ("unusual", AnsiColor::Yellow.on_default()),
        Trouble::Deaf => ("deaf", AnsiColor::Cyan.on_default()),
        Trouble::None => ("online", AnsiColor::Green.on_default()),
    };
    let links = format!("{}/{}", row.links_up, row.links);
    let oldest = row.oldest_s.map_or("-".to_string(), |s| format!("{s} s"));
    let ring = match row.ring {
        Some(ring) => ring.to_string(),
        None => if row.stranger { "?" } else { "-" }.to_string(),
    };
    format!(
        "{:20} {} {ring:>4} {:8} {links:>7} {:>9} {:>7} {:>7} {oldest:>8}  {}\n",
        row.name,
        paint(style, format!("{word:8}")),
        row.version,
        row.messages,
        row.queued,
        row.parked,
        row.alerts.join(", ")
    )
}
