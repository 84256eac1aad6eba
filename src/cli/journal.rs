//! `afferent journal VERB`.
//!
//! Verbs that only read open the journal beside a running gateway. Verbs that change something are carried out by the
//! gateway's one writer (invariant I3): through the control socket when a gateway runs, else by opening the journal
//! here, which then holds its lock. Patient data is shown only when asked for by name (`--reveal`, `--ids`, `export`).

mod change;
mod copy;
mod look;
mod studies;

pub(super) use change::carry_out;

use crate::audit::Act;
use crate::config;
use crate::journal::{self, Reader};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// See what is kept, and decide about what is held.
///
/// Works beside a running gateway. Patient data is not shown unless asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal stats                         is everything accounted for?
  afferent journal hold                          what waits for a person, and why
  afferent journal search --specimen 4711        what became of this specimen
  afferent journal release 17 18 --note 'checked with the ward'")]
pub struct Journal {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// Which journal.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The configuration file, for the data directory and everything in [journal]
    #[arg(long, global = true, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// The data directory, when there is no configuration file
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The key file, when it is not in the data directory
    #[arg(long, global = true, value_name = "FILE", requires = "data")]
    key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Count everything: the loss account, queues, ages, delivery times.
    Stats(look::Stats),
    /// Find entries by an identifier or a time.
    Search(look::Search),
    /// Show one entry and what became of it.
    Show(look::Show),
    /// List imaging studies, or show one with its series and instances and where each went.
    Studies(studies::Studies),
    /// List held results and parked messages, or images that are safe here alone.
    Hold(look::Hold),
    /// Send held results on.
    Release(change::Release),
    /// Send parked messages again, byte for byte.
    Requeue(change::Requeue),
    /// Interpret entries again, with the drivers and rules of now.
    Replay(change::Replay),
    /// Give held results, parked messages or images that are safe here alone up, with a reason.
    Discard(change::Discard),
    /// Write an entry's raw bytes or image, a report, or all reports as JSON lines.
    Export(copy::Export),
    /// Check every row, every digest and the loss account.
    Verify(copy::Verify),
    /// Copy the journal to a file. It stays sealed: keep the key as well.
    Backup(copy::Backup),
}

impl Journal {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let place = self.place;
        match self.verb {
            Verb::Stats(verb) => verb.execute(&place),
            Verb::Search(verb) => verb.execute(&place),
            Verb::Show(verb) => verb.execute(&place),
            Verb::Studies(verb) => verb.execute(&place),
            Verb::Hold(verb) => verb.execute(&place),
            Verb::Release(verb) => verb.execute(&place),
            Verb::Requeue(verb) => verb.execute(&place),
            Verb::Replay(verb) => verb.execute(&place),
            Verb::Discard(verb) => verb.execute(&place),
            Verb::Export(verb) => verb.execute(&place),
            Verb::Verify(verb) => verb.execute(&place),
            Verb::Backup(verb) => verb.execute(&place),
        }
    }
}

impl Place {
    /// The data directory and how its journal is set up: as the configuration says it.
    fn find(&self) -> anyhow::Result<(PathBuf, journal::Config)> {
        if let Some(data) = &self.data {
            return Ok((data.clone(), without_configuration(self.key_file.clone())));
        }
        let config = config::load(&self.config)?.config;
        Ok((config.gateway.data, config.journal))
    }

    /// Notes what is about to be shown; else it must not be.
    pub(super) fn note(&self, act: Act) -> anyhow::Result<()> {
        super::audit::note(&self.find()?.0, act)
    }

    /// The configuration, when there is one.
    pub(super) fn configuration(&self) -> anyhow::Result<Option<config::Config>> {
        match self.data {
            Some(_) => Ok(None),
            None => Ok(Some(config::load(&self.config)?.config)),
        }
    }

    pub(super) fn reader(&self) -> anyhow::Result<Reader> {
        let (data, settings) = self.find()?;
        Ok(Reader::open(&data, &settings)?)
    }
}

/// Settings for a bare data directory. How long and how much its site wants to keep is not known here, so a verb that
/// opens it for writing removes nothing, rotates no key and has no limits of its own.
fn without_configuration(key_file: Option<PathBuf>) -> journal::Config {
    journal::Config {
        key_file,
        quota_mb: 0,
        free_min_mb: 0,
        retention_days: u32::MAX,
        orders_days: u32::MAX,
        key_rotation_days: 0,
    }
}

/// A time for people, in the zone of this machine.
pub(super) fn shown_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T").to_string())
        .unwrap_or_default()
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A duration for people: `850 ms`, `12 s`, `4 min`, `3 h`, `2 d`.
pub(super) fn shown_age(ms: i64) -> String {
    let units = [(1_000, 1, "ms"), (120_000, 1_000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h")];
    match units.iter().find(|(below, ..)| ms < *below) {
        Some((_, divisor, unit)) => format!("{} {unit}", ms / divisor),
        None => format!("{} d", ms / 86_400_000),
    }
}

/// Prints a table whose columns are as wide as their widest cell.
pub(super) fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(head.get(at).map(|h| h.len())).max().unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.enumerate().map(|(at, cell)| format!("{cell:width$}", width = width(at))).collect();
        padded.join("  ").trim_end().to_string()
    };
    let titles = line(&mut head.iter().copied());
    match super::colour(&std::io::stdout()) {
        true => println!("{0}{titles}{0:#}", anstyle::Style::new().bold()),
        false => println!("{titles}"),
    }
    for row in rows {
        println!("{}", line(&mut row.iter().map(String::as_str)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_configuration_reaches_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("journal.key");
        std::fs::write(&key, "0".repeat(64)).unwrap();
        let wanted = journal::Config {
            orders_days: 45,
            key_file: Some(key),
            quota_mb: 512,
            free_min_mb: 3,
            retention_days: 90,
            key_rotation_days: 30,
        };
        let file = dir.path().join("afferent.toml");
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\n{}[[link]]\nname = \"a\"\nlisten = \"[::1]:4001\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"[::1]:2575\"\n",
            dir.path().join("data"),
            toml::to_string(&wanted).unwrap(),
        );
        std::fs::write(&file, text).unwrap();
        let place = Place { config: file, data: None, key_file: None, json: false };
        assert_eq!(place.find().unwrap(), (dir.path().join("data"), wanted));
    }

    #[test]
    fn i7_a_bare_directory_is_not_swept_by_rules_that_are_not_its_own() {
        let place = Place {
            config: "no-such-file.toml".into(),
            data: Some("data".into()),
            key_file: Some("journal.key".into()),
            json: false,
        };
        let (data, settings) = place.find().unwrap();
        assert_eq!((data, settings.key_file), ("data".into(), Some("journal.key".into())));
        let default = journal::Config::default();
        assert!(settings.retention_days > 100 * 365 && settings.retention_days > default.retention_days);
        assert_eq!((settings.quota_mb, settings.free_min_mb, settings.key_rotation_days), (0, 0, 0));
    }

    #[test]
    fn ages_are_told_in_the_unit_a_person_would_use() {
        let told: Vec<String> = [999, 1_000, 119_999, 120_000, 7_200_000, 172_800_000].map(shown_age).into();
        assert_eq!(told, ["999 ms", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
