//! `afferent desk log`.

use super::Signed;
use super::command::{LINES_DEFAULT, Manner, lines_of, sentence, unknown};
use super::key::signing_keys;
use crate::desk::events::Record;
use crate::desk::order::{self, Order, plain, plain_json};
use crate::desk::{Config, Interest, Line, Said, audit};
use crate::disk;
use crate::fleet::command::Operation;
use crate::fleet::tail;
use crate::fleet::telemetry::Bundle;
use crate::fleet::topic::{Place, Up};
use anyhow::{Context, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Minutes for which it is valid.
const VALID_MIN: u32 = 60;
/// A box that says nothing for this long behind the end of a session has told its end to nobody, seconds.
const GRACE_S: u64 = 30;
/// Parts of a bundle that are kept; one has fewer.
const PARTS_MAX: usize = 64;

/// See the log of a box: its last lines, those that come, or all that helps to find out what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk log bench-1 --sign ops-1.key
  afferent desk log bench-1 --follow --sign ops-1.key
  afferent desk log bench-1 --bundle bench-1.json --sign ops-1.key
  afferent desk log bench-1 --follow --seconds 3600 --lines 10000 --sign ops-1.key --json

A bundle is one JSON file for whoever helps: the last lines, the configuration without secrets, how the doctor finds each
layer, counters, versions. It comes in parts, and is written once all of it is there and has its digest.

Lines come without anything that came from elsewhere: \u{2026} stands in its place, and the box's own log has it. A session
ends by itself: by its time, by its number of lines, when the bus is slow, when nobody listens, and when another is opened.
Ctrl-C ends it; `afferent desk command bench-1 log-stop` does from elsewhere.

Exit codes: 0 it came to its end, 1 refused, no answer in time, or the broker is gone.")]
pub(super) struct Log {
    /// The box
    gateway: String,
    /// Show lines as they come
    #[arg(long)]
    follow: bool,
    /// Fetch everything that helps to find out what is wrong, into this file
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    bundle: Option<PathBuf>,
    /// Lines at most; up to 512 of the last, up to 10,000 of those that come
    #[arg(long, value_name = "N")]
    lines: Option<u32>,
    /// Seconds to follow, up to 3600
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    #[command(flatten)]
    signed: Signed,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_s: u64,
}

impl Log {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.signed.desk)?;
        let place = Place::new(&config.tenant, &self.gateway);
        let place = place.with_context(|| format!("`{}` cannot be a box's name", self.gateway))?;
        if self.follow || self.bundle.is_some() {
            return self.follow(&config, &place).await;
        }
        let Log { signed: Signed { sign, json, .. }, lines, wait_s, .. } = self;
        let manner = Manner { sign, valid_min: VALID_MIN, wait_s, json, is_group: false };
        let lines = lines.map_or_else(|| LINES_DEFAULT.parse(), Ok)?;
        manner.tell(&config, &[place], &Operation::LogTail { lines }).await
    }

    async fn follow(&self, config: &Config, place: &Place) -> anyhow::Result<ExitCode> {
        let keys = signing_keys(&self.signed.sign)?;
        let asked = |operation| {
            let valid = SignedDuration::from_mins(i64::from(VALID_MIN));
            let order = Order::command(place, operation, &keys, Timestamp::now(), valid).map_err(anyhow::Error::msg)?;
            let noted = audit::note_all(&config.folder, std::slice::from_ref(&order.asked));
            noted.with_context(|| format!("{} cannot be written", audit::FILE))?;
            Ok::<_, anyhow::Error>(order)
        };
        let lines = self.lines.unwrap_or(tail::LINES_MAX);
        let order = asked(match self.bundle {
            Some(_) => Operation::LogBundle,
            None => Operation::LogFollow { seconds: self.seconds, lines },
        })?;
        let mut line = Line::connect(config, Interest::LogOf(place)).await?;
        let mut record = Record::open(&config.folder)?;
        let mut session = Session { id: order.id.clone(), json: self.signed.json, ..Session::default() };
        let mut heard = Vec::new();
        if !line.tell(order.topic(), order.bytes, &mut heard).await? {
            bail!("{}", unknown(&self.gateway));
        }
        let mut quiet = Duration::from_secs(self.wait_s);
        let ended = crate::cli::sim::over(None);
        tokio::pin!(ended);
        let mut was_asked_to_end = false;
        loop {
            for said in heard.drain(..) {
                if said.what == Up::Event {
                    record.note(std::slice::from_ref(&said))?;
                }
                let end = session.hear(&said);
                line.noted(&said);
                if let Some(end) = end {
                    let answer = json!({ "command": order.id, "answer": audit::in_short(&end) });
                    audit::note_all(&config.folder, &[answer])?;
                    if let Some(file) = self.bundle.as_ref().filter(|_| end["phase"] == "done") {
                        return session.write(&end["outcome"], file);
                    }
                    return Ok(ExitCode::from(u8::from(end["event"] != "log-ended")));
                }
            }
            if session.is_open && self.bundle.is_none() {
                quiet = Duration::from_secs(u64::from(self.seconds) + GRACE_S);
            }
            if was_asked_to_end {
                quiet = Duration::from_secs(self.wait_s);
            }
            tokio::select! {
                said = line.hear() => heard.push(said?),
                () = &mut ended, if !was_asked_to_end => {
                    if self.bundle.is_some() {
                        bail!("stopped; nothing was written");
                    }
                    was_asked_to_end = true;
                    let stop = asked(Operation::LogStop)?;
                    line.tell(stop.topic(), stop.bytes, &mut heard).await?;
                }
                () = tokio::time::sleep(quiet) => {
                    bail!("{} has not answered within {} s", self.gateway, quiet.as_secs());
                }
            }
        }
    }
}

/// What was seen of a session.
#[derive(Default)]
struct Session {
    id: String,
    json: bool,
    /// The box said that it began.
    is_open: bool,
    /// Lines that were shown, and those that were dropped before them.
    shown: u64,
    dropped: u64,
    /// Parts of a bundle.
    parts: BTreeMap<usize, String>,
}

impl Session {
    /// Shows what a box said of it. The event that ends it, once it has come.
    fn hear(&mut self, said: &Said) -> Option<Value> {
        let told: Value = serde_json::from_slice(&said.payload).unwrap_or_default();
        match &said.what {
            Up::Log(session) if *session == self.id => {
                match (told["part"].as_u64().and_then(|n| usize::try_from(n).ok()), told["data"].as_str()) {
                    (Some(n), Some(data)) if n < PARTS_MAX => drop(self.parts.insert(n, data.to_string())),
                    _ => self.show(&told),
                }
                None
            }
            Up::Event if told["event"] == "log-ended" && told["session"] == self.id => {
                let end = plain(told["why"].as_str().unwrap_or("?"));
                let dropped = told["dropped"].as_u64().unwrap_or_default();
                let unseen = told["lines"].as_u64().unwrap_or_default().saturating_sub(self.shown);
                eprintln!("ended ({end}): {} lines, {dropped} dropped, {unseen} not seen here", self.shown);
                Some(told)
            }
            Up::Event => match order::outcome(&told, &self.id) {
                Some(Ok(())) => {
                    self.is_open = true;
                    Some(told).filter(|told| told["op"] == "log-bundle")
                }
                Some(Err(_)) => {
                    println!("{}", sentence(&told));
                    Some(told)
                }
                None => None,
            },
            _ => None,
        }
    }

    /// Writes a bundle that is whole.
    fn write(&self, outcome: &Value, file: &Path) -> anyhow::Result<ExitCode> {
        let sha256 = outcome["sha256"].as_str().unwrap_or_default();
        let bundle = Bundle::unpack(self.parts.values().map(String::as_str), sha256);
        let bundle = bundle.context("the bundle is not whole; ask for it again")?;
        let text = serde_json::to_vec_pretty(&bundle)?;
        disk::replace_secret(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {} bytes", file.display(), text.len());
        Ok(ExitCode::SUCCESS)
    }

    /// Lines that were not shown before: a chunk may come twice.
    fn show(&mut self, chunk: &Value) {
        let Some(lines) = chunk["lines"].as_array() else { return };
        let from = chunk["from"].as_u64().unwrap_or_default();
        let dropped = chunk["dropped"].as_u64().unwrap_or_default();
        if dropped > self.dropped {
            eprintln!("{} lines were dropped here: they came faster than they may", dropped - self.dropped);
            self.dropped = dropped;
        }
        let known = usize::try_from(self.shown.saturating_sub(from)).unwrap_or(usize::MAX).min(lines.len());
        let new = &lines[known..];
        self.shown = self.shown.max(from.saturating_add(lines.len() as u64));
        if self.json {
            new.iter().for_each(|line| println!("{}", plain_json(line)));
        } else {
            print!("{}", lines_of(&Value::Array(new.to_vec())));
        }
    }
}
