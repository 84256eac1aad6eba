//! `afferent desk`: the operator's side of a fleet. A file for each verb.

mod audit;
mod broker;
mod ca;
mod command;
mod config;
mod enrol;
mod events;
mod fleet;
mod inventory;
mod key;
mod log;
mod rollout;
mod serve;
mod update;

use anyhow::Context;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the desk's settings are unless told otherwise.
const SETTINGS: &str = "desk.toml";

/// Look after a fleet of boxes: see how they are, and tell them what to do.
///
/// The desk needs the broker and a certificate of its own, in `desk.toml`:
///
///   broker = "broker.example:8883"
///   tenant = "acme"
///   tls = { ca = "ca/root.pem", cert = "desk-acme.pem", key = "desk-acme.key" }
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Examples:
  afferent desk ca init acme                            the fleet's certificate authority
  afferent desk enrol serve                             where boxes ask to be let in
  afferent desk key ops-1.key                           a key to sign commands with
  afferent desk broker /etc/mosquitto/fleet             the broker's configuration and rules
  afferent desk inventory put bench-1 --ring 0          a box that belongs to the fleet
  afferent desk fleet                                   how all boxes are
  afferent desk serve                                   the same as a page, live
  afferent desk command bench-1 ping --sign ops-1.key
  afferent desk command bench-1 retry-parked ehr --sign ops-1.key
  afferent desk log bench-1 --follow --sign ops-1.key
  afferent desk config push bench-1 bench-1.toml --sign ops-1.key
  afferent desk rollout start restart --group site=north --sign ops-1.key
  afferent desk events                                  note what boxes tell of")]
pub struct Desk {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ca(ca::Ca),
    Enrol(enrol::Enrol),
    Key(key::Key),
    Broker(broker::BrokerFiles),
    Inventory(inventory::Inventory),
    Fleet(fleet::Fleet),
    Serve(serve::Serve),
    Command(command::Command),
    Log(log::Log),
    Config(config::Configuration),
    Rollout(rollout::Rollouts),
    Events(events::Events),
    Update(update::Update),
    Audit(audit::Audit),
}

/// Who signs what boxes are told, and how their answers are shown.
#[derive(Debug, Args)]
struct Signed {
    /// Key to sign with; the first one numbers a command. Twice for what takes two signatures
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Print what a box answers as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Where everything of the desk is kept: beside its settings.
fn folder_of(settings: &Path) -> PathBuf {
    match settings.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Writes down what somebody does at the desk that no key signs.
fn note(folder: &Path, mut what: serde_json::Value) -> anyhow::Result<()> {
    (what["at"], what["by"]) = (jiff::Timestamp::now().to_string().into(), crate::audit::operator().into());
    let file = crate::desk::audit::FILE;
    crate::desk::audit::note(folder, &what).with_context(|| format!("{file} cannot be written"))
}

/// Tells of certificates of this desk that end soon. With one that has ended it does not get through to the broker, so this
/// comes before.
fn tell_of_own_ends(config: &crate::desk::Config) {
    for (file, ends_s) in config.ends_soon(jiff::Timestamp::now().as_second()) {
        tracing::warn!(
            "{} is good until {}: `afferent desk ca issue ... --replace` makes the next",
            file.display(),
            crate::desk::enrol::moment(ends_s)
        );
    }
}

/// Tells of the broker's certificate when it ends soon.
fn tell_of_broker_end(config: &crate::desk::Config, line: &crate::desk::Line) {
    let moment = crate::desk::enrol::moment;
    if let Some(shown) = line.broker_ends_soon(jiff::Timestamp::now().as_second()) {
        tracing::warn!(
            "the certificate of the broker {} is good until {} (seen at {}), and no box gets in after that: `afferent \
             desk ca issue broker --server ... --replace` makes the next; mosquitto reads it at SIGHUP",
            config.broker,
            moment(shown.ends_s),
            moment(shown.seen_s)
        );
    }
}

impl Desk {
    /// Whether it may stay beside others: then neither a reader nor a broker that hangs up while something is written to
    /// it ends the process (SIGPIPE).
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.verb, Verb::Serve(_) | Verb::Rollout(_) | Verb::Events(_) | Verb::Enrol(_))
    }

    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.verb {
            Verb::Ca(ca) => ca.execute(),
            Verb::Enrol(enrol) => runtime.block_on(enrol.execute()),
            Verb::Key(key) => key.execute(),
            Verb::Broker(files) => files.execute(),
            Verb::Inventory(inventory) => inventory.execute(),
            Verb::Fleet(fleet) => runtime.block_on(fleet.execute()),
            Verb::Serve(serve) => runtime.block_on(serve.execute()),
            Verb::Rollout(rollouts) => runtime.block_on(rollouts.execute()),
            Verb::Events(events) => runtime.block_on(events.execute()),
            Verb::Log(log) => runtime.block_on(log.execute()),
            Verb::Command(command) => runtime.block_on(command.execute()),
            Verb::Config(config) => runtime.block_on(config.execute()),
            Verb::Update(update) => runtime.block_on(update.execute()),
            Verb::Audit(audit) => audit.execute(),
        }
    }
}
