//! `afferent config sample|schema`.

use crate::config::{sample, schema};
use std::process::ExitCode;

/// Print a sample configuration, or its JSON Schema.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent config sample > afferent.toml
  afferent config schema > afferent.schema.json    for editors that complete TOML")]
pub struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print a configuration with every setting, its sentence and its default.
    #[command(after_help = "Example:\n  afferent config sample > afferent.toml")]
    Sample,
    /// Print the JSON Schema (2020-12) of the configuration file.
    #[command(after_help = "Example:\n  afferent config schema > afferent.schema.json")]
    Schema,
}

impl Config {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Sample => print!("{}", sample::SAMPLE),
            What::Schema => println!("{}", serde_json::to_string_pretty(&schema::schema())?),
        }
        Ok(ExitCode::SUCCESS)
    }
}
