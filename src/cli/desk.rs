//! `afferent desk`: the operator's side of a fleet.

use super::colour;
use crate::desk::roster::{Roster, Row};
use crate::desk::{self, Config, Line, audit};
use crate::fleet::command::{Command as Order, Operation};
use crate::fleet::envelope::{self, Purpose, SigningKey};
use crate::fleet::telemetry::Id;
use crate::fleet::topic::{Down, Place, Up};
use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where the desk's settings are unless told otherwise.
const SETTINGS: &str = "desk.toml";
/// A broker that has said nothing new for this long has said what it keeps; it may take longer to begin.
const QUIET: Duration = Duration::from_secs(1);
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Look after a fleet of boxes: see how they are, and tell them what to do.
///
/// The desk needs the broker and a certificate of its own, in `desk.toml`:
///
///   broker = "broker.example:8883"
///   tenant = "acme"
///   tls = { ca = "ca.pem", cert = "desk-acme.pem", key = "desk-acme.key" }
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Examples:
  afferent desk key ops-1.key                           a key to sign commands with
  afferent desk broker /etc/mosquitto/fleet             the broker's configuration and rules
  afferent desk fleet                                   how all boxes are
  afferent desk command bench-1 ping --sign ops-1.key
  afferent desk command bench-1 retry-parked ehr --sign ops-1.key")]
pub struct Desk {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Key(Key),
    Broker(BrokerFiles),
    Fleet(Fleet),
    Command(Command),
    Audit(Audit),
}

/// Make a key to sign commands with, and print what boxes need to obey it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk key ops-1.key >> bench-1.toml

The private key stays in the file (PKCS#8, as OpenSSL reads it); keep it off the boxes.")]
struct Key {
    /// Where the key is written; the file's name without its ending is the key's name
    file: PathBuf,
}

/// Write the configuration and the rules of mosquitto for a fleet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk broker /etc/mosquitto/fleet
  mosquitto -c /etc/mosquitto/fleet/mosquitto.conf")]
struct BrokerFiles {
    /// The folder; ca.pem, broker.pem and broker.key belong there too
    folder: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Show how all boxes are, from what they said last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk fleet
  afferent desk fleet --follow
  afferent desk fleet --json | jq '.[] | select(.online | not)'

Exit codes: 0 shown, 1 the broker does not let the desk in.")]
struct Fleet {
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Print one JSON object: boxes by name
    #[arg(long)]
    json: bool,
    /// Go on, show what changes, and answer boxes that ask whether they are heard
    #[arg(long, conflicts_with = "json")]
    follow: bool,
}

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
struct Command {
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

/// Check the record of what was asked of boxes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk audit
  tail audit.jsonl

Exit codes: 0 whole, 1 a line was changed or taken out.")]
struct Audit {
    /// The desk's settings; the record lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

impl Desk {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.verb {
            Verb::Key(key) => key.execute(),
            Verb::Broker(files) => files.execute(),
            Verb::Fleet(fleet) => runtime.block_on(fleet.execute()),
            Verb::Command(command) => runtime.block_on(command.execute()),
            Verb::Audit(audit) => audit.execute(),
        }
    }
}

impl Key {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *seed).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let der = envelope::new_key(&seed);
        let encoded = zeroize::Zeroizing::new(BASE64_STANDARD.encode(&*der));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *encoded);
        let pem = zeroize::Zeroizing::new(pem);
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let shown = self.file.display();
        let mut file =
            opened.with_context(|| format!("{shown} cannot be made; a key that is there is not replaced"))?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("{shown}"))?;
        let key = signing_key(&self.file)?;
        println!("\n[[fleet.operator]]\nkid = \"{}\"\nkey = \"{}\"", key.kid(), key.public_key());
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a key; its name is the file's.
fn signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    let shown = file.display();
    let kid = file.file_stem().and_then(|stem| stem.to_str()).filter(|kid| crate::config::check::name_is_usable(kid));
    let kid = kid.with_context(|| format!("{shown}: the file's name is the key's, of letters, digits and `-`"))?;
    let der = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    let key = SigningKey::from_pkcs8(kid, der.secret_pkcs8_der());
    key.with_context(|| format!("{shown} is no Ed25519 key; make one with `afferent desk key`"))
}

impl BrokerFiles {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let folder = std::path::absolute(&self.folder)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let here = folder.to_str().context("the folder's name is no UTF-8")?;
        let conf = desk::MOSQUITTO_CONF.replace("/etc/mosquitto/fleet", here);
        for (name, text) in [("mosquitto.conf", conf.as_str()), ("acl", desk::MOSQUITTO_ACL)] {
            let file = folder.join(name);
            if file.exists() && !self.force {
                bail!("{} is there already; --force replaces it", file.display());
            }
            std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
            println!("{}", file.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Fleet {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let mut line = Line::connect(&config).await?;
        let mut roster = Roster::default();
        // What the broker keeps comes first, each of it once: the fleet is shown when nothing of it is new for a moment.
        let (mut seen, mut until) = (HashSet::new(), tokio::time::Instant::now() + FIRST_WORD);
        while let Ok(said) = tokio::time::timeout_at(until, line.hear()).await {
            let said = said?;
            roster.heard(&said);
            if said.what.is_retained() && seen.insert((said.place, said.what)) {
                until = tokio::time::Instant::now() + QUIET;
            }
        }
        if self.json {
            println!("{}", serde_json::to_string(roster.rows())?);
            return Ok(ExitCode::SUCCESS);
        }
        print_rows(roster.rows());
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            let said = line.hear().await?;
            if said.what == Up::Echo {
                line.answer(&said);
                continue;
            }
            let name = said.place.gateway().to_string();
            let before = roster.rows().get(&name).cloned();
            roster.heard(&said);
            if roster.rows().get(&name) != before.as_ref()
                && let Some(row) = roster.rows().get(&name)
            {
                print_row(&name, row);
            }
        }
    }
}

fn print_rows<'r>(rows: impl IntoIterator<Item = (&'r String, &'r Row)>) {
    println!(
        "{:20} {:8} {:8} {:>7} {:>9} {:>7} {:>7} {:>7}  alerts",
        "box", "state", "version", "links", "messages", "queued", "parked", "oldest"
    );
    for (name, row) in rows {
        print_row(name, row);
    }
}

fn print_row(name: &str, row: &Row) {
    let paint = |style: Style, text: String| match colour(&std::io::stdout()) {
        true => format!("{style}{text}{style:#}"),
        false => text,
    };
    let (word, style) = match (row.online, row.alerts.is_empty()) {
        (true, true) => ("online", AnsiColor::Green.on_default()),
        (true, false) => ("online", AnsiColor::Yellow.on_default()),
        (false, _) => ("away", AnsiColor::Red.on_default().bold()),
    };
    let links = format!("{}/{}", row.links.values().filter(|link| link.up).count(), row.links.len());
    let messages: u64 = row.links.values().map(|link| link.messages).sum();
    let queued: u64 = row.destinations.values().map(|to| to.queued).sum();
    let parked: u64 = row.destinations.values().map(|to| to.parked).sum();
    let oldest =
        row.destinations.values().filter_map(|to| to.oldest_s).max().map_or("-".to_string(), |s| format!("{s} s"));
    let alerts: Vec<&str> = row.alerts.keys().map(String::as_str).collect();
    println!(
        "{name:20} {} {:8} {links:>7} {messages:>9} {queued:>7} {parked:>7} {oldest:>7}  {}",
        paint(style, format!("{word:8}")),
        row.version,
        alerts.join(", ")
    );
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

    async fn execute(self) -> anyhow::Result<ExitCode> {
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
        let folder = self.desk.parent().unwrap_or(Path::new("."));
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

impl Audit {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let file = self.desk.parent().unwrap_or(Path::new(".")).join(audit::FILE);
        let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        match audit::first_broken(&text) {
            None => println!("{} lines, each follows from the one before", text.lines().count()),
            Some(line) => bail!("{} line {line} does not follow from the one before: it was changed", file.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
