//! `afferent desk command`.

use super::Signed;
use super::key::signing_keys;
use crate::desk::events::Record;
use crate::desk::order::{self, Order, plain, plain_all, plain_json};
use crate::desk::registry::{Group, Registry};
use crate::desk::{Config, Interest, Line, Said, audit};
use crate::fleet::command::Operation;
use crate::fleet::telemetry::Packed;
use crate::fleet::topic::{Place, Up};
use anyhow::{Context, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Lines of the log that are asked for unless somebody says otherwise.
pub(super) const LINES_DEFAULT: &str = "100";

/// Tell a box, or a group of boxes, what to do, and wait for what becomes of it.
#[derive(Debug, Args)]
#[command(override_usage = "\
afferent desk command [OPTIONS] --sign <FILE> <GATEWAY> <OPERATION> [DESTINATION]
       afferent desk command [OPTIONS] --sign <FILE> --group <GROUP> <OPERATION> [DESTINATION]")]
#[command(after_help = "\
Examples:
  afferent desk command bench-1 ping --sign ops-1.key
  afferent desk command --group ring=0 ping --sign ops-1.key
  afferent desk command bench-1 identify --sign ops-1.key
  afferent desk command bench-1 queue-stats --sign ops-1.key --json
  afferent desk command bench-1 retry-parked ehr --sign ops-1.key
  afferent desk command bench-1 log-tail 200 --sign ops-1.key
  afferent desk command bench-1 config-get --sign ops-1.key --json | jq .outcome.settings.link
  afferent desk command bench-1 cert-renew --sign ops-1.key
  afferent desk command bench-1 discard-parked ehr --reason 'test patients' --sign ops-1.key --sign ops-2.key
  afferent desk command bench-1 capture chemistry --seconds 120 --sign ops-1.key --sign ops-2.key
  afferent desk command bench-1 restart --sign ops-1.key --wait-s 120
  afferent desk command bench-1 factory-reset --discard 12 --sign ops-1.key --sign ops-2.key
  afferent desk command bench-1 update-install 1.2.0 --sign ops-1.key --sign ops-2.key
  afferent desk command bench-1 update-install 1.2.0 --system SHA256 --sign ops-1.key --sign ops-2.key

What a box can be told: ping, report, identify (it blinks, beeps and shows its name), queue-stats, config-get (what runs, without secrets), log-tail (its last lines,
100 or as many as you say, up to 512), log-stop (ends what `desk log --follow` began), capture (two signatures; keeps
what passes on a link for --seconds, on the box, for a week; it tells the name, never what is in it), cert-renew,
retry-parked, discard-parked (two signatures), restart, update-install (two signatures; it lies ready after `afferent
desk update push`; where an operating system comes with it, --system names its bundle by the SHA-256 that `desk update
manifest` and `sign` print, and anything else is refused as `other-system`), factory-reset (two signatures, one box at a time; refused while anything is there that went nowhere
yet, unless --discard says exactly how much; `leaving` says that it is new after its next start and enrols anew, or says
`failed` then, because something came in before: `afferent desk events` has it). Lines of the log come without anything that came from elsewhere: \u{2026} stands in its place, and
the box's own log has it. A box that is away does it when it is back, unless the command has expired by then; one
that the broker does not know yet is told when it comes, as long as this waits. `afferent
desk rollout` does the same in stages.

Exit codes: 0 done by all, 1 refused, failed, or no answer in time.")]
pub(super) struct Command {
    /// The box, what to do, and the destination it is about
    #[arg(required = true, num_args = 1..=3, value_names = ["GATEWAY", "OPERATION", "DESTINATION"])]
    words: Vec<String>,
    /// These boxes of the inventory in place of one
    #[arg(long, value_name = "GROUP")]
    group: Option<Group>,
    #[command(flatten)]
    details: Details,
    /// How much a factory reset throws away that went nowhere yet
    #[arg(long, value_name = "N", default_value_t = 0)]
    discard: u64,
    #[command(flatten)]
    signed: Signed,
    /// Minutes for which it is valid
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    valid_min: u32,
    /// Seconds to wait for what becomes of it
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_s: u64,
}

/// What single operations are told besides.
#[derive(Debug, Clone, Args)]
pub(super) struct Details {
    /// Why, for the record; no patient data
    #[arg(long)]
    reason: Option<String>,
    /// Seconds that a capture takes
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Capture what names patients and specimens as well
    #[arg(long)]
    reveal: bool,
    /// SHA-256 of the bundle of the operating system that update-install installs with the release
    #[arg(long, value_name = "SHA256")]
    system: Option<String>,
}

/// What a box is told to do.
#[derive(Debug, Args)]
pub(super) struct What {
    /// What to do: ping, report, identify, queue-stats, config-get, log-tail, log-stop, capture, cert-renew, retry-parked,
    /// discard-parked, restart, update-install
    operation: String,
    /// The destination, the release, or how many lines, it is about
    destination: Option<String>,
    #[command(flatten)]
    details: Details,
}

impl What {
    pub fn operation(&self) -> anyhow::Result<Operation> {
        let destination = || self.destination.clone().context("name the destination it is about, behind the operation");
        Ok(match self.operation.as_str() {
            "ping" => Operation::Ping,
            "report" => Operation::Report,
            "identify" => Operation::Identify,
            "queue-stats" => Operation::QueueStats,
            "config-get" => Operation::ConfigGet,
            "cert-renew" => Operation::CertRenew,
            "log-stop" => Operation::LogStop,
            "log-tail" => {
                let lines = self.destination.as_deref().unwrap_or(LINES_DEFAULT);
                let lines = lines.parse().with_context(|| format!("`{lines}` is no number of lines"))?;
                Operation::LogTail { lines }
            }
            "retry-parked" => Operation::RetryParked { destination: destination()? },
            "discard-parked" => {
                let reason = self.details.reason.clone().context("say why with --reason")?;
                Operation::DiscardParked { destination: destination()?, reason }
            }
            "capture" => {
                let link = self.destination.clone().context("name the link, behind the operation")?;
                Operation::Capture { link, seconds: self.details.seconds, reveal: self.details.reveal }
            }
            "restart" => Operation::Restart,
            "update-install" => {
                let version = self.destination.clone().context("name the release, behind the operation")?;
                Operation::UpdateInstall { version, system: self.details.system.clone() }
            }
            other => bail!("a box cannot be told to `{other}`: see `afferent desk command --help`"),
        })
    }
}

impl Command {
    /// The boxes, and what they are told.
    fn read(&self, config: &Config) -> anyhow::Result<(Vec<Place>, What)> {
        let mut words = self.words.iter().cloned();
        let names = match &self.group {
            None => words.next().into_iter().collect(),
            Some(group) => {
                let registry = Registry::read(&config.folder)?;
                let names: Vec<String> = registry.of(group).map(|entry| entry.name.clone()).collect();
                if names.is_empty() {
                    bail!("no box of the inventory is in {group}: see `afferent desk inventory`");
                }
                names
            }
        };
        let place = |name: &String| {
            Place::new(&config.tenant, name).with_context(|| format!("`{name}` cannot be a box's name"))
        };
        let places = names.iter().map(place).collect::<anyhow::Result<Vec<_>>>()?;
        let operation = words.next().context("name a box, or --group, and what it shall do")?;
        let what = What { operation, destination: words.next(), details: self.details.clone() };
        if let Some(more) = words.next() {
            bail!("`{more}` is one word too many");
        }
        Ok((places, what))
    }

    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.signed.desk)?;
        let (places, what) = self.read(&config)?;
        let Command { signed: Signed { sign, json, .. }, valid_min, wait_s, group, discard, .. } = self;
        let operation = match what.operation.as_str() {
            "factory-reset" if group.is_some() => bail!("a factory reset is for one box at a time"),
            "factory-reset" => Operation::FactoryReset { discard },
            _ => what.operation()?,
        };
        let takes_s = if let Operation::Capture { seconds, .. } = operation { u64::from(seconds) } else { 0 };
        let wait_s = wait_s + takes_s;
        let manner = Manner { sign, valid_min, wait_s, json, is_group: group.is_some() };
        manner.tell(&config, &places, &operation).await
    }
}

/// How boxes are told, and what is shown of it.
pub(super) struct Manner {
    /// As [`Signed::sign`].
    pub sign: Vec<PathBuf>,
    /// As [`Command::valid_min`].
    pub valid_min: u32,
    /// As [`Command::wait_s`].
    pub wait_s: u64,
    /// As [`Signed::json`].
    pub json: bool,
    /// Each answer is shown with the box's name.
    pub is_group: bool,
}

impl Manner {
    /// Tells boxes, notes it, and waits for what becomes of it.
    pub async fn tell(&self, config: &Config, places: &[Place], operation: &Operation) -> anyhow::Result<ExitCode> {
        let keys = signing_keys(&self.sign)?;
        let valid = SignedDuration::from_mins(i64::from(self.valid_min));
        let order = |place| Order::command(place, operation.clone(), &keys, Timestamp::now(), valid);
        let orders: Vec<Order> = places.iter().map(order).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
        let asked: Vec<Value> = orders.iter().map(|order| order.asked.clone()).collect();
        let audit = |lines: &[Value]| {
            audit::note_all(&config.folder, lines).with_context(|| format!("{} cannot be written", audit::FILE))
        };
        audit(&asked)?;

        let interest = match places {
            [one] => Interest::AnswersOf(one),
            _ => Interest::Answers,
        };
        let mut line = Line::connect(config, interest).await?;
        let mut record = Record::open(&config.folder)?;
        let mut open: BTreeMap<&str, &Order> = orders.iter().map(|order| (order.place.gateway(), order)).collect();
        let (mut there, mut untold) = (BTreeSet::new(), BTreeSet::new());
        let (mut answers, mut is_done) = (Vec::new(), true);
        let mut to_tell: VecDeque<&Order> = orders.iter().collect();
        let mut heard = Vec::new();
        let until = tokio::time::Instant::now() + Duration::from_secs(self.wait_s);
        while !open.is_empty() {
            if let Some(order) = to_tell.pop_front() {
                let gateway = order.place.gateway();
                match line.tell(order.topic(), order.bytes.clone(), &mut heard).await? {
                    true => untold.remove(gateway),
                    false => untold.insert(gateway),
                };
            } else {
                match tokio::time::timeout_at(until, line.hear()).await {
                    Ok(said) => heard.push(said?),
                    Err(_) => break,
                }
            }
            let events: Vec<Said> = heard.iter().filter(|said| said.what == Up::Event).cloned().collect();
            record.note(&events)?;
            for said in heard.drain(..) {
                let document: Value = serde_json::from_slice(&said.payload).unwrap_or_default();
                let Some((&gateway, &order)) = open.get_key_value(said.place.gateway()) else { continue };
                match said.what {
                    Up::State if document["online"] == true => {
                        there.insert(gateway);
                        // It has come, or has a session again.
                        to_tell.extend(untold.contains(gateway).then_some(order));
                    }
                    Up::State => drop(there.remove(gateway)),
                    Up::Event => {
                        if let Some(outcome) = order::outcome(&document, &order.id) {
                            self.show(gateway, &document);
                            is_done &= outcome.is_ok();
                            open.remove(gateway);
                            answers.push(json!({ "command": order.id, "answer": audit::in_short(&document) }));
                        }
                    }
                    _ => {}
                }
            }
            events.iter().for_each(|said| line.noted(said));
        }
        answers.extend(open.values().map(|order| json!({ "command": order.id, "answer": null })));
        audit(&answers)?;
        if !open.is_empty() {
            let sentences = open.keys().map(|gateway| self.unanswered(gateway, &there, &untold));
            bail!("{}", sentences.collect::<Vec<_>>().join("\n"));
        }
        Ok(ExitCode::from(u8::from(!is_done)))
    }

    /// Why a box has not answered, and what becomes of the command.
    fn unanswered(&self, gateway: &str, there: &BTreeSet<&str>, untold: &BTreeSet<&str>) -> String {
        let Manner { wait_s, valid_min, .. } = self;
        if untold.contains(gateway) {
            return unknown(gateway);
        }
        if there.contains(gateway) {
            return format!(
                "{gateway} is there and has not answered within {wait_s} s: it takes longer, or does not know who \
                 signed ([[fleet.operator]]), which its log says"
            );
        }
        format!("{gateway} has not answered within {wait_s} s; it does it when it is back, within {valid_min} min")
    }

    fn show(&self, name: &str, answer: &Value) {
        let answer = &unpacked(answer);
        match (self.json, self.is_group) {
            (true, false) => println!("{}", plain_json(answer)),
            (true, true) => println!("{}", plain_json(&json!({ "box": name, "answer": answer }))),
            (false, false) => println!("{}", sentence(answer)),
            (false, true) => println!("{name}: {}", sentence(answer)),
        }
    }
}

/// Why a box was not told that the broker has no session of.
pub(super) fn unknown(gateway: &str) -> String {
    format!(
        "{gateway} was not told: the broker does not know it, for it was never there, or not since the broker lost its \
         sessions; say it again once `afferent desk fleet` shows it"
    )
}

/// An answer with what the box packed taken out.
fn unpacked(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for name in ["settings", "lines"] {
        let packed = answer["outcome"][name].as_str().map(Packed::unpack);
        if let Some(told) = packed {
            answer["outcome"][name] = told.unwrap_or_default();
        }
    }
    answer
}

/// A configuration as its file would have it.
fn toml_of(settings: &Value) -> String {
    fn known(value: &Value) -> Value {
        match value {
            // What is not set has no place there.
            Value::Object(all) => {
                all.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), known(v))).collect()
            }
            Value::Array(all) => all.iter().map(known).collect(),
            one => one.clone(),
        }
    }
    toml::to_string(&known(settings)).unwrap_or_default()
}

/// Lines of a box's log. Boxes are not trusted: nothing of them moves a terminal's cursor.
pub(super) fn lines_of(lines: &Value) -> String {
    let line = |line: &Value| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        let pairs = ["names", "numbers"].into_iter().flat_map(|kind| line[kind].as_object().into_iter().flatten());
        let pairs: String = pairs.map(|(name, value)| format!(" {name}={value}")).collect();
        let [at, level, module, said] = ["at", "level", "module", "text"].map(text);
        let line = format!("{at} {level:5} {module}:{}: {said}{pairs}", line["line"]);
        plain(&line) + "\n"
    };
    lines.as_array().into_iter().flatten().map(line).collect()
}

/// What a box counts, without what there is none of.
fn counts(outcome: &Value) -> String {
    let all =
        outcome.as_object().into_iter().flatten().filter(|(name, _)| !["total", "newest"].contains(&name.as_str()));
    let some = all.filter_map(|(name, n)| Some(format!("{} {name}", n.as_u64().filter(|n| *n > 0)?)));
    let some = some.collect::<Vec<_>>().join(", ");
    if some.is_empty() { some } else { format!(" ({some})") }
}

/// What became of a command, for a person. Boxes are not trusted: nothing of them steers a terminal.
pub(super) fn sentence(answer: &Value) -> String {
    let answer = &plain_all(answer);
    let phase = answer["phase"].as_str().unwrap_or("?");
    let op = answer["op"].as_str().unwrap_or("command");
    let outcome = &answer["outcome"];
    match outcome["did"].as_str() {
        Some("settings") => return toml_of(&outcome["settings"]).trim_end().to_string(),
        Some("log") => return lines_of(&outcome["lines"]).trim_end().to_string(),
        _ => {}
    }
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
        (None, Some("captured")) => format!(
            ": captures/{}.txt in its data directory, {} bytes, until {}",
            outcome["capture"].as_str().unwrap_or("?"),
            outcome["bytes"],
            outcome["expires"].as_str().unwrap_or("?")
        ),
        (None, Some("changed")) => format!(": {} changed, {} left as they were", outcome["done"], outcome["skipped"]),
        (None, Some("resets")) => {
            ": it forgets everything at its next start, and is new then; where something came in \
                                   before that it does not, and says that it failed (afferent desk events)"
                .to_string()
        }
        (None, Some("undelivered")) => format!(
            ": {} went nowhere yet{}; to throw that away, say exactly how much it is with --discard",
            outcome["total"],
            counts(outcome)
        ),
        (None, Some("not-taken")) => format!(": {}", outcome["refusal"].as_str().unwrap_or("?")),
        (None, Some("failed")) => format!(": {}", outcome["failure"].as_str().unwrap_or("?")),
        _ => String::new(),
    };
    format!("{op} {phase}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_box_answers_steers_the_terminal() {
        let evil = "\u{1b}]0;pwned\u{7}\u{9b}2J\nbench-2: ping done";
        let settings = json!({ "link": [{ "name": evil }] });
        let log = json!([{ "at": evil, "text": evil, "names": { evil: evil }, "line": 1 }]);
        for outcome in [
            json!(null),
            json!({ "did": "settings", "settings": settings }),
            json!({ "did": "log", "lines": log }),
            json!({ "did": "queues", "held": evil, "queues": [{ "destination": evil, "queued": evil }] }),
            json!({ "did": "captured", "capture": evil, "bytes": evil, "expires": evil }),
            json!({ "did": "changed", "done": evil, "skipped": evil }),
            json!({ "did": "undelivered", "total": evil, evil: 3 }),
            json!({ "did": "not-taken", "refusal": evil }),
            json!({ "did": "failed", "failure": evil }),
        ] {
            for why in [json!(null), json!(evil)] {
                let answer = json!({ "phase": evil, "op": evil, "why": why, "outcome": outcome });
                let said = sentence(&answer);
                assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
                assert!(!said.lines().any(|line| line.starts_with("bench-2")), "{said:?}");
                assert!(!plain_json(&answer).contains(char::is_control));
            }
        }
    }
}
