//! `afferent update`: where an update of this box stands, and whether results flow.

use super::ThisBox;
use crate::fleet::desired::tree;
use crate::update::about::About;
use crate::update::record::Record;
use crate::update::{gate, slots};
use anstyle::AnsiColor;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// See where an update of this box stands, and whether results would flow.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent update status --config /etc/afferent/afferent.toml
  afferent update gate --config /etc/afferent/afferent.toml
  afferent update about

Releases come from the operator: afferent desk update --help")]
pub struct Update {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(Status),
    Gate(Gate),
    About(AboutThis),
}

/// Tell where the last update of this box stands.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent update status
  afferent update status --json | jq .phase")]
struct Status {
    #[command(flatten)]
    this: ThisBox,
}

/// See whether results flow: the gate that a new release has to pass.
///
/// Made-up messages come in over loop-back links with this box's settings, are read, mapped and put into a queue that
/// nobody delivers; each link's line is looked at, and each destination dialled, with TLS, without sending anything.
/// Works beside a running gateway and without one. No patient data is shown. Its JSON has ok and checks (check, passed,
/// says).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent update gate
  afferent update gate --json | jq '.checks[] | select(.passed | not)'

Exit codes: 0 everything works, 1 something does not, 2 the configuration is wrong.")]
struct Gate {
    #[command(flatten)]
    this: ThisBox,
}

/// Say what this program is: version, kind of machine, shape of its databases.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent update about
  afferent update about --json")]
struct AboutThis {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Update {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Status(status) => status.execute(),
            Verb::Gate(gate) => gate.execute(),
            Verb::About(about) => about.execute(),
        }
    }
}

impl Status {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = tree::load(&self.this.config)?.config;
        let settings =
            config.update.context("this box does not update itself: there is no [update] in its configuration")?;
        let shown = settings.releases.display();
        let record = slots::read(&settings.releases).with_context(|| format!("{shown}"))?;
        let running = slots::current(&settings.releases).with_context(|| format!("{shown}"))?;
        let version = slots::version_in(&settings.releases, running).map(|version| version.to_string());
        if self.this.json {
            let update = record.as_ref().map(|record| {
                json!({
                    "phase": record.phase.word(), "version": record.version.to_string(),
                    "system": record.system.as_ref().map(|system| &system.version),
                    "system_sha256": record.system.as_ref().map(|system| &system.sha256),
                    "from": record.from.to_string(), "starts": record.starts,
                    "reason": record.reason.map(|reason| reason.word()), "worked": record.worked,
                })
            });
            println!("{}", json!({ "slot": running.name(), "version": version, "update": update }));
            return Ok(ExitCode::SUCCESS);
        }
        println!("release {} runs, from slot {}", version.as_deref().unwrap_or("?"), running.name());
        println!("{}", record.map_or("there was no update".to_string(), |record| sentence(&record)));
        Ok(ExitCode::SUCCESS)
    }
}

fn sentence(record: &Record) -> String {
    let why = record.reason.map_or(String::new(), |reason| format!(" ({})", reason.word()));
    let system =
        record.system.as_ref().map_or(String::new(), |system| format!(", operating system {}", system.version));
    format!("update from {} to {}{system}: {}{why}", record.from, record.version, record.phase.word())
}

impl Gate {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = tree::load(&self.this.config)?.config;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let found = runtime.block_on(gate::look(&config));
        let ok = found.iter().all(|check| check.passed);
        if self.this.json {
            println!("{}", json!({ "ok": ok, "checks": found }));
            return Ok(ExitCode::from(u8::from(!ok)));
        }
        let is_coloured = super::colour(&std::io::stdout());
        for check in &found {
            let (word, colour) = if check.passed { ("ok   ", AnsiColor::Green) } else { ("WRONG", AnsiColor::Red) };
            let style = colour.on_default();
            let word = if is_coloured { format!("{style}{word}{style:#}") } else { word.to_string() };
            println!("{word} {:24} {}", check.check, check.says);
        }
        Ok(ExitCode::from(u8::from(!ok)))
    }
}

impl AboutThis {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let about = About::this();
        if self.json {
            println!("{}", serde_json::to_string(&about)?);
        } else {
            println!(
                "afferent {} for {}, journal schema {}, fleet schema {}",
                about.version, about.arch, about.journal_schema, about.fleet_schema
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
