//! `afferent check FILE`.

use super::EXIT_WRONG;
use crate::config::{self, Faults, LoadError, Loaded};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file and tell everything that is wrong with it.
///
/// Nothing is started, opened or dialled. Faults in the text are errors. Files and serial ports that are missing on this
/// machine now are warnings here and keep a gateway from nothing, but both make the exit code 2.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent check /etc/afferent/afferent.toml
  afferent check --json afferent.toml | jq .faults")]
pub struct Check {
    /// The configuration file
    pub file: PathBuf,
    /// Print one JSON object: ok, faults (kind, line, column, message, hint)
    #[arg(long)]
    pub json: bool,
}

impl Check {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match config::load(&self.file) {
            Ok(loaded) if loaded.missing.is_empty() => self.sound(&loaded),
            Ok(loaded) => self.wrong(&loaded.missing),
            Err(LoadError::Faults(faults)) => self.wrong(&faults),
            Err(error) if self.json => {
                println!("{}", json!({ "ok": false, "error": error.to_string(), "faults": [] }));
                Ok(ExitCode::from(EXIT_WRONG))
            }
            Err(error) => {
                eprintln!("error: {error}");
                Ok(ExitCode::from(EXIT_WRONG))
            }
        }
    }

    fn sound(&self, loaded: &Loaded) -> anyhow::Result<ExitCode> {
        let config = &loaded.config;
        if self.json {
            println!("{}", json!({ "ok": true, "faults": [] }));
            return Ok(ExitCode::SUCCESS);
        }
        println!("{} is sound", self.file.display());
        for link in &config.links {
            let driver = link.driver.as_deref().unwrap_or("(by each message's header)");
            println!("  link {:20} driver {driver}", link.name);
        }
        for destination in &config.destinations {
            let to = destination.address.as_deref().or(destination.url.as_deref()).unwrap_or_default();
            println!("  destination {:13} {to}", destination.name);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wrong(&self, faults: &Faults) -> anyhow::Result<ExitCode> {
        if self.json {
            println!("{}", json!({ "ok": false, "faults": faults.to_json() }));
        } else {
            eprintln!("{}", faults.render(super::colour(&std::io::stderr())));
            let count = faults.list().len();
            eprintln!("\n{count} {} in {}", if count == 1 { "fault" } else { "faults" }, self.file.display());
        }
        Ok(ExitCode::from(EXIT_WRONG))
    }
}
