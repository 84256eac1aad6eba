//! `afferent tap [LINK]`: what passes on a link, live.

use crate::config;
use crate::control;
use crate::workbench::tap::{Side, Tapped, capture};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Most runs of bytes kept for `--save`: about a day of a busy analyzer.
const SAVED_MAX: usize = 200_000;

/// Show what passes on a link of the running gateway, both directions, as it happens.
///
/// Control characters are named, each frame is judged ("frame 3: checksum 7A, expected 7B, NAK sent"), and what names a
/// patient or a specimen is masked. Listening changes nothing on the line and never slows it. A saved capture is a
/// session transcript: a driver's case when it is put in its folder as cases/STORY/session.txt.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent tap                                  every link, until Ctrl-C
  afferent tap chemistry --seconds 60 --save cases/normal-run/session.txt
  afferent tap chemistry --json | jq -r '.shown.remarks[]'")]
pub struct Tap {
    /// The link; left out, all of them
    link: Option<String>,
    /// The configuration file, for the data directory
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// The data directory, when there is no configuration file
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Show patient data
    #[arg(long)]
    reveal: bool,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Write a session transcript as well; needs the name of one link
    #[arg(long, value_name = "FILE", requires = "link")]
    save: Option<PathBuf>,
    /// Print one JSON object for each run of bytes
    #[arg(long)]
    json: bool,
}

impl Tap {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => config::load(&self.config)?.config.gateway.data,
        };
        let colour = super::colour(&std::io::stdout());
        if let Some(seconds) = self.seconds {
            end_after(Duration::from_secs(seconds));
        }
        if !self.json {
            let what = self.link.as_deref().map_or("every link".to_string(), |link| format!("link {link}"));
            println!("listening to {what}; Ctrl-C ends");
        }
        let mut saved: Vec<Tapped> = Vec::new();
        let mut shown = Ok(());
        let refused = control::tap(&data, self.link.as_deref(), self.reveal, |tapped| {
            shown = self.print(&tapped, colour);
            if let Some(file) = &self.save
                && saved.len() < SAVED_MAX
            {
                saved.push(tapped);
                // Written as it grows: however the tap ends, the file is a whole transcript of what came before.
                shown = std::mem::replace(&mut shown, Ok(())).and_then(|()| {
                    std::fs::write(file, capture(&saved)).with_context(|| format!("cannot write {}", file.display()))
                });
            }
            shown.is_ok()
        })?;
        shown?;
        match refused {
            Some(why) => anyhow::bail!(why),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn print(&self, tapped: &Tapped, colour: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(tapped)?)?;
        } else {
            let paint = |style: Style, text: &str| match colour {
                true => format!("{style}{text}{style:#}"),
                false => text.to_string(),
            };
            let place = match (&self.link, tapped.connection) {
                (Some(_), 0) => String::new(),
                (Some(_), n) => format!("#{n} "),
                (None, 0) => format!("{} ", tapped.link),
                (None, n) => format!("{}#{n} ", tapped.link),
            };
            let head = format!("{} {place}", time(tapped.at_ms));
            if tapped.missed > 0 {
                writeln!(out, "{head}... {} left out: the line is faster than this terminal", tapped.missed)?;
            }
            let (mark, style) = match tapped.side {
                Side::Instrument => (">", AnsiColor::Green.on_default()),
                Side::Gateway => ("<", AnsiColor::Cyan.on_default()),
                Side::Link => ("!", AnsiColor::Yellow.on_default()),
            };
            if !tapped.shown.text.is_empty() {
                writeln!(out, "{head}{mark} {}", paint(style, &tapped.shown.text))?;
            }
            for remark in &tapped.shown.remarks {
                let style = match remark.contains("expected") || remark.contains("NAK") {
                    true => AnsiColor::Red.on_default().bold(),
                    false => Style::new().dimmed(),
                };
                let mark = if tapped.side == Side::Link { "!" } else { " " };
                writeln!(out, "{head}{mark} {}", paint(style, remark))?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// Ends the process when the time is over: the line may stay silent, so nothing else would.
fn end_after(time: Duration) {
    let end = Instant::now() + time;
    std::thread::spawn(move || {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        std::process::exit(0);
    });
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%T%.3f").to_string())
        .unwrap_or_default()
}
