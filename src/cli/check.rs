//! `afferent check FILE`.

mod lines;

use super::EXIT_WRONG;
use crate::backup::restore;
use crate::config::{self, Config, LoadError, Loaded};
use crate::link::settled::{Settled, settled};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file and tell everything that is wrong with it.
///
/// Nothing is started, opened or dialled. What is wrong in the text, or there and unusable, is an error: exit code 2.
/// Files and serial ports that this machine lacks are warnings: a configuration is often written on another machine
/// than the one it is for, so the exit code stays 0. On the box itself, --strict makes them errors too. For each link it
/// tells what the line runs with, and whether link, driver or default said so; then who else talks to the box, and to whom
/// it talks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent check afferent.toml                             on a laptop, while writing it
  afferent check --strict /etc/afferent/afferent.toml      on the box, before the first start
  afferent check --json afferent.toml | jq .faults

Exit codes: 0 sound (there may be warnings), 2 errors; with --strict there are no warnings.")]
pub struct Check {
    /// The configuration file
    pub file: PathBuf,
    /// Everything the file names must be on this machine: warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object: ok, faults (level, kind, line, column, message, hint), links (name, driver, settings),
    /// lines (kind, name, says)
    #[arg(long)]
    pub json: bool,
}

impl Check {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        restore::is_whole(&self.file)?;
        let (loaded, faults) = match config::load(&self.file) {
            Ok(loaded) => {
                let faults = loaded.missing.clone();
                (Some(loaded), faults)
            }
            Err(LoadError::Faults(faults)) => (None, faults),
            Err(error) if self.json => {
                println!("{}", json!({ "ok": false, "error": error.to_string(), "faults": [] }));
                return Ok(ExitCode::from(EXIT_WRONG));
            }
            Err(error) => return Err(error.into()),
        };
        let faults = if self.strict { faults.strict() } else { faults };
        let warnings = faults.warnings();
        let errors = faults.list().len() - warnings;
        let passes = errors == 0;
        if self.json {
            let links = loaded.as_ref().map(|loaded| links(&loaded.config)).transpose()?.unwrap_or_default();
            let lines = loaded.as_ref().map(|loaded| lines::lines(&loaded.config)).unwrap_or_default();
            println!("{}", json!({ "ok": passes, "faults": faults.to_json(), "links": links, "lines": lines }));
        } else {
            if !faults.is_empty() {
                eprintln!("{}\n", faults.render(super::colour(&std::io::stderr())));
            }
            match loaded.filter(|_| passes) {
                Some(loaded) => self.tell_sound(&loaded, warnings)?,
                None => eprintln!("{} is NOT sound: {}", self.file.display(), counted(errors, warnings)),
            }
        }
        Ok(ExitCode::from(if passes { 0 } else { EXIT_WRONG }))
    }

    fn tell_sound(&self, loaded: &Loaded, warnings: usize) -> anyhow::Result<()> {
        let config = &loaded.config;
        match warnings {
            0 => println!("{} is sound", self.file.display()),
            _ => println!("{} is sound, with {} about this machine", self.file.display(), counted(0, warnings)),
        }
        for Link { name, driver, settings } in links(config)? {
            println!("  link {name:20} driver {}", driver.as_deref().unwrap_or("(by each message's header)"));
            let told: Vec<String> = settings.iter().map(ToString::to_string).collect();
            if !told.is_empty() {
                println!("    {}", told.join(", "));
            }
        }
        for lines::Line { kind, name, says } in lines::lines(config) {
            println!("  {:25} {says}", format!("{kind} {name}"));
        }
        Ok(())
    }
}

/// A link and what it runs with.
#[derive(Debug, Serialize)]
struct Link {
    name: String,
    driver: Option<String>,
    settings: Vec<Settled>,
}

fn links(config: &Config) -> anyhow::Result<Vec<Link>> {
    let registry = config.registry()?;
    let link = |link: &crate::link::Config| {
        let driver = link.driver.as_deref().and_then(|id| registry.get(id));
        let settings = settled(link, driver.map(|driver| driver.wire()));
        Link { name: link.name.clone(), driver: link.driver.clone(), settings }
    };
    Ok(config.links.iter().map(link).collect())
}

/// `2 errors`, `1 warning`, `2 errors and 1 warning`.
fn counted(errors: usize, warnings: usize) -> String {
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (errors, warnings) {
        (_, 0) => of(errors, "error"),
        (0, _) => of(warnings, "warning"),
        _ => format!("{} and {}", of(errors, "error"), of(warnings, "warning")),
    }
}
