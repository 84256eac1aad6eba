//! `afferent config sample|schema|jwks`.

use super::EXIT_WRONG;
use crate::config::{self, sample, schema};
use crate::delivery::config::OAuth;
use crate::delivery::oauth::SigningKey;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print a sample configuration, its JSON Schema, or what to register with a FHIR server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent config sample > afferent.toml
  afferent config schema > afferent.schema.json    for editors that complete TOML
  afferent config jwks --config /etc/afferent/afferent.toml > jwks.json")]
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
    Jwks(Jwks),
}

/// Print the public key set (JWKS) of a destination's log-in, to register with its authorization server.
///
/// Made from `key_file` and `kid` of [destination.oauth] (SMART Backend Services, ES384 or RS384). The private key stays
/// where it is: nothing of it is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out /etc/afferent/oauth.key
  afferent config jwks --config /etc/afferent/afferent.toml > jwks.json
  afferent config jwks --config afferent.toml --destination repository")]
struct Jwks {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The destination, when more than one logs in
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
}

impl Config {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Sample => print!("{}", sample::SAMPLE),
            What::Schema => println!("{}", serde_json::to_string_pretty(&schema::schema())?),
            What::Jwks(jwks) => return jwks.execute(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Jwks {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config)?.config;
        let log_ins: Vec<(&str, &OAuth)> =
            config.destinations.iter().filter_map(|d| Some((d.name.as_str(), d.oauth.as_ref()?))).collect();
        match choose(&log_ins, self.destination.as_deref(), &self.config) {
            Ok(oauth) => {
                println!("{}", serde_json::to_string_pretty(&SigningKey::load(oauth)?.key_set())?);
                Ok(ExitCode::SUCCESS)
            }
            Err(why) => {
                eprintln!("error: {why}");
                Ok(ExitCode::from(EXIT_WRONG))
            }
        }
    }
}

/// The log-in that is meant, or why there is not exactly one.
fn choose<'a>(log_ins: &[(&str, &'a OAuth)], wanted: Option<&str>, file: &Path) -> Result<&'a OAuth, String> {
    let names = || log_ins.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match (wanted, log_ins) {
        (_, []) => Err(format!("no destination of {} has a [destination.oauth]", file.display())),
        (None, [(_, oauth)]) => Ok(oauth),
        (None, _) => Err(format!("several destinations log in; name one with --destination: {}", names())),
        (Some(wanted), _) => {
            let found = log_ins.iter().find(|(name, _)| *name == wanted).map(|(_, oauth)| *oauth);
            found.ok_or_else(|| format!("no destination `{wanted}` logs in; those that do: {}", names()))
        }
    }
}
