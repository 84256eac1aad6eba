//! `afferent tap [LINK]`: what passes on a link, live.

use crate::audit::Act;
use crate::config;
use crate::control;
use crate::workbench::tap::{Side, Tapped, capture};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most characters kept for `--save`; a transcript may have 4 MiB.
const SAVED_MAX: usize = 3 << 20;
/// The capture is written so often while something passes.
const SAVE_EVERY: Duration = Duration::from_millis(500);

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
        let saver = self.save.clone().map(Saver::start);
        if let Some(seconds) = self.seconds {
            end_after(Duration::from_secs(seconds), saver.clone());
        }
        if !self.json {
            let what = self.link.as_deref().map_or("every link".to_string(), |link| format!("link {link}"));
            println!("listening to {what}; Ctrl-C ends");
        }
        if self.reveal {
            super::audit::note(&data, Act::Tapped { link: self.link.clone() })?;
        }
        let mut shown = Ok(());
        let refused = control::tap(&data, self.link.as_deref(), self.reveal, |tapped| {
            shown = self.print(&tapped, colour);
            if let Some(saver) = &saver {
                saver.keep(tapped);
            }
            shown.is_ok()
        })?;
        if let Some(saver) = &saver {
            saver.write()?;
        }
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

/// Writes what was heard as a transcript, now and then and at the end, each time whole: however the tap ends, the file
/// is a transcript.
#[derive(Clone)]
struct Saver {
    file: PathBuf,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    runs: Vec<Tapped>,
    bytes: usize,
    changed: bool,
    full: bool,
}

impl Saver {
    fn start(file: PathBuf) -> Saver {
        let saver = Saver { file, kept: Arc::default() };
        let writer = saver.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(SAVE_EVERY);
                if let Err(error) = writer.write() {
                    eprintln!("error: {error:#}");
                    std::process::exit(1);
                }
            }
        });
        saver
    }

    fn keep(&self, tapped: Tapped) {
        let mut kept = self.lock();
        if kept.bytes + tapped.shown.text.len() > SAVED_MAX {
            if !std::mem::replace(&mut kept.full, true) {
                eprintln!("the capture is full: what comes from now on is shown and not saved");
            }
            return;
        }
        kept.bytes += tapped.shown.text.len();
        kept.runs.push(tapped);
        kept.changed = true;
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut kept = self.lock();
        if !std::mem::take(&mut kept.changed) {
            return Ok(());
        }
        let failed = || format!("cannot write {}", self.file.display());
        let mut unfinished = self.file.clone().into_os_string();
        unfinished.push(".new");
        // With --reveal it holds patient data, so it is its owner's alone.
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished).with_context(failed)?;
        file.write_all(capture(&kept.runs).as_bytes()).with_context(failed)?;
        std::fs::rename(&unfinished, &self.file).with_context(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process when the time is over: the line may stay silent, so nothing else would.
fn end_after(time: Duration, saver: Option<Saver>) {
    let end = Instant::now() + time;
    std::thread::spawn(move || {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let saved = saver.map_or(Ok(()), |saver| saver.write());
        if let Err(error) = &saved {
            eprintln!("error: {error:#}");
        }
        std::process::exit(i32::from(saved.is_err()));
    });
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%T%.3f").to_string())
        .unwrap_or_default()
}
