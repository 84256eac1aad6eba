//! `afferent desk command`.

use super::SETTINGS;
use super::key::signing_key;
use crate::desk::{self, Config, Line, audit};
use crate::fleet::command::{Command as Order, Operation};
use crate::fleet::envelope::{self, Purpose, SigningKey};
use crate::fleet::telemetry::Id;
use crate::fleet::topic::{Down, Place, Up};
use anyhow::{Context, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Tell a box what to do, and wait for what becomes of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk command bench-1 ping --sign ops-1.key
  afferent desk command bench-1 queue-stats --sign ops-1.key --json
  afferent desk command bench-1 retry-parked ehr --sign ops-1.key
  afferent desk command bench-1 discard-parked ehr --reason 'test patients' --sign ops-1.key --sign ops-2.key
  afferent desk command bench-1 restart --sign ops-1.key --wait-s 120

What a box can be told: ping, report, queue-stats, retry-parked, discard-parked (two signatures), restart. A box that is
away does it when it is back, unless the command has expired by then.

Exit codes: 0 done, 1 refused, failed, or no answer in time.")]
pub(super) struct Command {
    /// The box
    gateway: String,
    /// What to do: ping, report, queue-stats, retry-parked, discard-parked, restart
    operation: String,
    /// The destination it is about
    destination: Option<String>,
    /// Why, for the record; no patient data
    #[arg(long)]
    reason: Option<String>,
    /// Key to sign with; the first one numbers the command. Twice for what takes two signatures
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
    /// Minutes for which it is valid
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    valid_min: u32,
    /// Seconds to wait for what becomes of it
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_s: u64,
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Print the box's answer as JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    fn operation(&self) -> anyhow::Result<Operation> {
        let destination = || self.destination.clone().context("name the destination it is about, behind the operation");
        Ok(match self.operation.as_str() {
            "ping" => Operation::Ping,
            "report" => Operation::Report,
            "queue-stats" => Operation::QueueStats,
            "retry-parked" => Operation::RetryParked { destination: destination()? },
            "discard-parked" => {
                let reason = self.reason.clone().context("say why with --reason")?;
                Operation::DiscardParked { destination: destination()?, reason }
            }
            "restart" => Operation::Restart,
            other => bail!("a box cannot be told to `{other}`: see `afferent desk command --help`"),
        })
    }

    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let operation = self.operation()?;
        let place = Place::new(&config.tenant, &self.gateway);
        let place = place.with_context(|| format!("`{}` cannot be a box's name", self.gateway))?;
        let keys = self.sign.iter().map(|file| signing_key(file)).collect::<anyhow::Result<Vec<_>>>()?;
        if keys.len() < operation.signatures() {
            bail!("{} takes {} signatures: give --sign as often", operation.word(), operation.signatures());
        }
        let now = Timestamp::now();
        let id = Id::make();
        let order = Order {
            v: 1,
            id: id.to_string(),
            tenant: config.tenant.clone(),
            gateway: self.gateway.clone(),
            issuer: keys[0].kid().to_string(),
            // Larger than the last without a memory of it.
            seq: u64::try_from(now.as_millisecond()).unwrap_or_default(),
            not_before: now,
            expires: now + SignedDuration::from_mins(i64::from(self.valid_min)),
            operation,
        };
        let document = serde_json::to_vec(&order)?;
        let mut signed = envelope::seal(&document, Purpose::Command, &keys[0]);
        for key in &keys[1..] {
            signed = envelope::countersign(&signed, Purpose::Command, key)?;
        }
        let folder = &super::folder_of(&self.desk);
        let signers: Vec<&str> = keys.iter().map(SigningKey::kid).collect();
        let asked = json!({ "at": now.to_string(), "signed_by": signers, "command": serde_json::to_value(&order)? });
        audit::note(folder, &asked).with_context(|| format!("{} cannot be written", audit::FILE))?;

        let mut line = Line::connect(&config).await?;
        let mut heard = Vec::new();
        line.tell(place.down(&Down::Command(id.to_string())), signed, &mut heard).await?;
        let wait = tokio::time::timeout(Duration::from_secs(self.wait_s), async {
            loop {
                for said in std::mem::take(&mut heard) {
                    let event = serde_json::from_slice::<Value>(&said.payload).unwrap_or_default();
                    if said.place == place && said.what == Up::Event && event["command"] == id.to_string() {
                        return Ok::<_, desk::DeskError>(event);
                    }
                }
                heard.push(line.hear().await?);
            }
        });
        let Ok(answer) = wait.await else {
            audit::note(folder, &json!({ "command": id.to_string(), "answer": null }))?;
            let minutes = self.valid_min;
            bail!(
                "{} has not answered within {} s; it does it when it is back, within {minutes} min",
                self.gateway,
                self.wait_s
            );
        };
        let answer = answer?;
        audit::note(folder, &json!({ "command": id.to_string(), "answer": answer }))?;
        if self.json {
            println!("{answer}");
        } else {
            println!("{}", sentence(&answer));
        }
        Ok(ExitCode::from(u8::from(answer["phase"] != "done")))
    }
}

/// What became of a command, for a person.
fn sentence(answer: &Value) -> String {
    let phase = answer["phase"].as_str().unwrap_or("?");
    let op = answer["op"].as_str().unwrap_or("command");
    let outcome = &answer["outcome"];
    let more = match (answer["why"].as_str(), outcome["did"].as_str()) {
        (Some(why), _) => format!(": {why}"),
        (None, Some("queues")) => {
            let queues = outcome["queues"].as_array().into_iter().flatten();
            let queues = queues.map(|q| {
                let name = q["destination"].as_str().unwrap_or("?");
                format!("\n  {name:20} {} on the way, {} parked", q["queued"], q["parked"])
            });
            format!(": {} results are held{}", outcome["held"], queues.collect::<String>())
        }
        (None, Some("changed")) => format!(": {} changed, {} left as they were", outcome["done"], outcome["skipped"]),
        (None, Some("failed")) => format!(": {}", outcome["failure"].as_str().unwrap_or("?")),
        _ => String::new(),
    };
    format!("{op} {phase}{more}")
}
