//! `afferent sim fleet`: boxes by the thousand.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::sim::fleet::stage::{self, Mosquitto};
use crate::sim::fleet::{Account, Fleet, Options};

/// How often it tells how it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Run any number of simulated boxes on a broker, to see what a fleet and its desk do.
///
/// The folder gets all that is needed: throwaway certificates, mosquitto's configuration as it is shipped, a desk
/// (`desk.toml`), a key to sign with (`ops-1.key`) and an inventory in three rings. mosquitto is started with it. A folder
/// that has all this already is used as it is, with its port. Two certificates more than boxes are made, for real boxes that join them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim fleet 200 --folder /tmp/fleet
  afferent desk serve --desk /tmp/fleet/desk.toml           beside it
  afferent desk rollout start ping --desk /tmp/fleet/desk.toml --sign /tmp/fleet/ops-1.key --wait-s 5
  afferent sim fleet 10000 --folder /tmp/fleet --births-s 300 --failing 0.02 --flapping 0.01 --seconds 900 --json

Exit codes: 0 no command was run twice, 1 one was, or the broker is gone.")]
pub(super) struct Boxes {
    /// How many boxes
    boxes: usize,
    /// Where all that is needed lies
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// The broker's port on loopback
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    port: u16,
    /// Use the broker that runs there already, at HOST:PORT, with the certificates of the folder
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// The boxes come within so many seconds, each at a moment of its own
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    births_s: u64,
    /// Seconds between two reports of a box
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    report_s: u64,
    /// Share of the commands that fail
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    failing: f64,
    /// Share of the boxes that never answer commands
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    silent: f64,
    /// Share of the boxes that lose their connection between two reports
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    flapping: f64,
    /// Share of the boxes that are gone for good after each report
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dying: f64,
    /// Share of the boxes that begin or end an alert between two reports
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    alarming: f64,
    /// Same seed, same fleet
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl Boxes {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        if !self.folder.join("mosquitto.conf").exists() {
            stage::make(&self.folder, self.boxes, self.port).map_err(anyhow::Error::msg)?;
        }
        let last = stage::client(&self.folder, &stage::name(self.boxes)).cert;
        if let Some(missing) = last.filter(|file| !file.exists()) {
            bail!(
                "{} was made for fewer boxes ({} is not there): choose another folder",
                self.folder.display(),
                missing.display()
            );
        }
        let mosquitto = match self.broker {
            Some(_) => None,
            None => Some(Mosquitto::start(&self.folder, self.port).map_err(anyhow::Error::msg)?),
        };
        let at = self.broker.clone().unwrap_or_else(|| format!("localhost:{}", self.port));
        let (host, port) = at.rsplit_once(':').context("--broker is HOST:PORT")?;
        let options = Options {
            boxes: self.boxes,
            broker: (host.to_string(), port.parse().context("--broker ends in a port")?),
            folder: self.folder.clone(),
            births: Duration::from_secs(self.births_s),
            report_every: Duration::from_secs(self.report_s.max(1)),
            failing: self.failing,
            silent: self.silent,
            flapping: self.flapping,
            dying: self.dying,
            alarming: self.alarming,
            seed: self.seed,
        };
        let fleet = Fleet::start(options).map_err(anyhow::Error::msg)?;
        eprintln!("desk: afferent desk fleet --desk {}", self.folder.join(stage::DESK).display());
        let over = super::over(self.seconds);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                () = tokio::time::sleep(TELL_EVERY) => eprintln!("{}", line(&fleet.account())),
            }
        }
        let account = fleet.account();
        if self.json {
            let mut told = serde_json::to_value(&account)?;
            told["broker_cpu_ms"] = mosquitto.as_ref().and_then(Mosquitto::cpu_ms).map_or(json!(null), |ms| json!(ms));
            println!("{told}");
        } else {
            println!("{}", line(&account));
        }
        Ok(ExitCode::from(u8::from(account.run_twice > 0)))
    }
}

fn line(account: &Account) -> String {
    let Account { boxes, born, born_ms, connected, died, lost, published, run, .. } = account;
    format!(
        "{boxes} boxes: {born} born (the last after {:.1} s), {connected} connected, {died} dead; {lost} connections \
         lost, {published} documents, {run} commands run",
        *born_ms as f64 / 1000.0
    )
}
