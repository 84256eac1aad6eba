//! `afferent check FILE`.

use super::EXIT_WRONG;
use crate::config::{self, LoadError, Loaded};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file and tell everything that is wrong with it.
///
/// Nothing is started, opened or dialled. What is wrong in the text, or there and unusable, is an error: exit code 2.
/// Files and serial ports that this machine lacks are warnings: a configuration is often written on another machine
/// than the one it is for, so the exit code stays 0. On the box itself, --strict makes them errors too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent check afferent.toml                             on a laptop, while writing it
  afferent check --strict /etc/afferent/afferent.toml      on the box, before the first start
  afferent check --json afferent.toml | jq .faults

Exit codes: 0 sound (there may be warnings), 2 errors; with --strict, 2 for warnings too.")]
pub struct Check {
    /// The configuration file
    pub file: PathBuf,
    /// Everything the file names must be on this machine: warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object: ok, faults (level, kind, line, column, message, hint)
    #[arg(long)]
    pub json: bool,
}

impl Check {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
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
        let warnings = faults.list().iter().filter(|fault| fault.is_warning()).count();
        let errors = faults.list().len() - warnings;
        let passes = errors == 0 && (warnings == 0 || !self.strict);
        if self.json {
            println!("{}", json!({ "ok": passes, "faults": faults.to_json() }));
        } else {
            if !faults.is_empty() {
                eprintln!("{}\n", faults.render(super::colour(&std::io::stderr())));
            }
            match loaded.filter(|_| passes) {
                Some(loaded) => self.tell_sound(&loaded, warnings),
                None => eprintln!("{} is NOT sound: {}", self.file.display(), counted(errors, warnings)),
            }
        }
        Ok(ExitCode::from(if passes { 0 } else { EXIT_WRONG }))
    }

    fn tell_sound(&self, loaded: &Loaded, warnings: usize) {
        let config = &loaded.config;
        match warnings {
            0 => println!("{} is sound", self.file.display()),
            _ => println!("{} is sound, with {} about this machine", self.file.display(), counted(0, warnings)),
        }
        for link in &config.links {
            let driver = link.driver.as_deref().unwrap_or("(by each message's header)");
            println!("  link {:20} driver {driver}", link.name);
        }
        for destination in &config.destinations {
            let to = destination.address.as_deref().or(destination.url.as_deref()).unwrap_or_default();
            println!("  destination {:13} {to}", destination.name);
        }
    }
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
