//! `afferent desk config`.

use super::command::Manner;
use super::key::signing_keys;
use super::{SETTINGS, Signed};
use crate::desk::order::{self, Order, plain_all, plain_json};
use crate::desk::pack::{Packed, pack};
use crate::desk::{Config, DeskError, Interest, Line, Said, audit};
use crate::disk;
use crate::fleet::command::Operation;
use crate::fleet::desired::Why;
use crate::fleet::stick;
use crate::fleet::topic::{Place, Up};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a box said last is there within this time of listening, if it ever said anything.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Minutes for which a box may be asked.
const VALID_MIN: u32 = 5;

/// Send a box its configuration, and see what became of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk config push bench-1 bench-1.toml --sign ops-1.key
  afferent desk config show bench-1
  afferent desk config get bench-1 --sign ops-1.key
  afferent desk config stick bench-1 bench-1.toml --sign ops-1.key --out /media/usb")]
pub(super) struct Configuration {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Push(Push),
    Show(Show),
    Get(Get),
    Stick(Stick),
}

/// Check a configuration, send it to a box, and wait for what becomes of it.
///
/// The box checks it as well, tries what it names, runs it beside everything that is the same, and goes back by itself
/// when it loses the broker, a destination or a link that was well before. Drivers and rules that the file names by a
/// path from there on go with it. `gateway.data`, `gateway.clock_trusted`, `[journal]` and `[fleet]` are the box's own
/// and stand in no file that is sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk config push bench-1 bench-1.toml --sign ops-1.key
  afferent desk config push bench-1 bench-1.toml --sign ops-1.key --sign ops-2.key   [fleet] config_signatures = 2
  afferent desk config push bench-1 bench-1.toml --sign ops-1.key --replace      its own file was edited; that is known

A box that is away takes it when it is back.

Exit codes: 0 it runs and is confirmed, 1 refused, reverted, or no answer in time.")]
struct Push {
    /// The box
    gateway: String,
    /// The configuration
    file: PathBuf,
    #[command(flatten)]
    signed: Signed,
    /// Replace the box's own file as it is now, though somebody edited it there
    #[arg(long)]
    replace: bool,
    /// Seconds to wait for what becomes of it
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait_s: u64,
}

/// Show the whole configuration that a box runs: every setting, as it is understood.
///
/// The box is asked, with a signed command. It says nothing that would let somebody in: secrets lie in files, which
/// settings name, and a password that stands in an address is left out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk config get bench-1 --sign ops-1.key
  afferent desk config get bench-1 --sign ops-1.key --json | jq .outcome.settings.link

Exit codes: 0 shown, 1 refused, or no answer in time.")]
struct Get {
    /// The box
    gateway: String,
    #[command(flatten)]
    signed: Signed,
    /// Seconds to wait for the box's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_s: u64,
}

/// Show which configuration a box runs, and what became of the last one it was sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk config show bench-1
  afferent desk config show bench-1 --json | jq .errors

Exit codes: 0 shown, 1 the box has said nothing, or the broker does not let the desk in.")]
struct Show {
    /// The box
    gateway: String,
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Print what the box reports as JSON
    #[arg(long)]
    json: bool,
}

/// Write a box's configuration to a memory stick, for a box that the broker does not reach.
///
/// It is checked and signed as one that is pushed, and the box goes the same way with it, but needs no broker in its trial
/// unless it had one before. The box looks into the folder that `stick` of its `[fleet]` names, which is where a stick
/// called AFFERENT is mounted where the units of this program are installed: /media/afferent. It applies what lies there
/// once; `afferent doctor` there says what became of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk config stick bench-1 bench-1.toml --sign ops-1.key --out /media/usb
  afferent desk config stick bench-1 bench-1.toml --sign ops-1.key --out . --replace 3f0c...  its own file was edited

Exit codes: 0 written, 1 not.")]
struct Stick {
    /// The box
    gateway: String,
    /// The configuration
    file: PathBuf,
    #[command(flatten)]
    signed: Signed,
    /// The stick's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which revision it is, larger than all that the box has seen; left out, the next after what this desk sent
    #[arg(long, value_name = "N")]
    rev: Option<u64>,
    /// The box's own file was edited, and is to be replaced all the same: its digest, as `afferent doctor` there says it
    #[arg(long, value_name = "SHA-256", value_parser = digest)]
    replace: Option<String>,
}

/// A digest as it is written down.
fn digest(text: &str) -> Result<String, &'static str> {
    let is_one = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_one
        .then(|| text.to_string())
        .ok_or("a digest has 64 of the letters 0 to 9 and a to f: copy what the doctor says")
}

impl Configuration {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Push(push) => push.execute().await,
            Verb::Show(show) => show.execute().await,
            Verb::Get(get) => get.execute().await,
            Verb::Stick(stick) => stick.execute(),
        }
    }
}

fn place(config: &Config, gateway: &str) -> anyhow::Result<Place> {
    Place::new(&config.tenant, gateway).with_context(|| format!("`{gateway}` cannot be a box's name"))
}

/// What the box reported last; none when it has said nothing.
async fn reported(line: &mut Line, place: &Place) -> Result<Option<Value>, DeskError> {
    let until = Instant::now() + FIRST_WORD;
    while let Ok(said) = timeout_at(until, line.hear()).await {
        let said = said?;
        if said.place == *place && said.what == Up::Reported {
            return Ok(serde_json::from_slice(&said.payload).ok());
        }
    }
    Ok(None)
}

impl Show {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let place = place(&config, &self.gateway)?;
        let mut line = Line::connect(&config, Interest::State).await?;
        let reported = reported(&mut line, &place).await?;
        let reported = reported.with_context(|| format!("{} has said nothing of its configuration", self.gateway))?;
        print!("{}", shown(&reported, self.json));
        Ok(ExitCode::SUCCESS)
    }
}

impl Get {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let Signed { sign, desk, json } = self.signed;
        let config = Config::read(&desk)?;
        let place = place(&config, &self.gateway)?;
        let manner = Manner { sign, valid_min: VALID_MIN, wait_s: self.wait_s, json, is_group: false };
        manner.tell(&config, &[place], &Operation::ConfigGet).await
    }
}

impl Stick {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.signed.desk)?;
        let place = place(&config, &self.gateway)?;
        let keys = signing_keys(&self.signed.sign)?;
        let content = pack(&self.file)?.content;
        let sent = audit::last_revs(&config.folder)?.get(&self.gateway).copied();
        let rev = self.rev.unwrap_or_else(|| order::next_rev(None, sent));
        let order = Order::config(&place, content, rev, self.replace, &keys, jiff::Timestamp::now());
        let order = order.map_err(|why| anyhow::anyhow!("{}: {why}", self.file.display()))?;
        audit::note(&config.folder, &order.asked).with_context(|| format!("{} cannot be written", audit::FILE))?;
        let file = self.out.join(stick::file_name(&self.gateway));
        disk::replace(&file, &order.bytes).with_context(|| format!("cannot write {}", file.display()))?;
        if self.signed.json {
            println!("{}", json!({ "file": file, "rev": rev }));
        } else {
            println!("{}: revision {rev} for {}", file.display(), self.gateway);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Push {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.signed.desk)?;
        let place = place(&config, &self.gateway)?;
        let keys = signing_keys(&self.signed.sign)?;
        let Packed { content, loaded } = pack(&self.file)?;
        // A file or a port that is not here may be on the box, which checks it again.
        for fault in loaded.missing.list() {
            tracing::info!("{}", fault.message);
        }
        let mut line = Line::connect(&config, Interest::State).await?;
        let before = reported(&mut line, &place).await?.unwrap_or_default();
        let needed = before["signatures"].as_u64().unwrap_or(1);
        if (order::signers(&keys) as u64) < needed {
            bail!(
                "{} takes configurations with {needed} signatures: give --sign as often, with other keys",
                self.gateway
            );
        }
        let replaces = match (self.replace, before["local"].as_str()) {
            (false, _) => None,
            (true, Some(local)) => Some(local.to_string()),
            (true, None) => bail!("{} has not said what its own file is, so it cannot be replaced", self.gateway),
        };
        let sent = audit::last_revs(&config.folder)?.get(&self.gateway).copied();
        let rev = order::next_rev(before["rev"].as_u64(), sent);
        let order = Order::config(&place, content, rev, replaces, &keys, jiff::Timestamp::now());
        let order = order.map_err(|why| anyhow::anyhow!("{}: {why}", self.file.display()))?;
        audit::note(&config.folder, &order.asked).with_context(|| format!("{} cannot be written", audit::FILE))?;

        let (mut heard, id) = (Vec::new(), order.id.clone());
        line.keep(order.topic(), order.bytes, &mut heard).await?;
        let until = Instant::now() + Duration::from_secs(self.wait_s);
        let answer = loop {
            if let Some(answer) = heard.iter().find_map(|said| ended(said, &place, &id)) {
                break Some(answer);
            }
            heard.clear();
            match timeout_at(until, line.hear()).await {
                Err(_) => break None,
                Ok(said) => {
                    let said = said?;
                    // The box wants to know whether it can still be told anything.
                    if said.place == place {
                        line.answer(&said);
                    }
                    heard.push(said);
                }
            }
        };
        let noted = answer.as_ref().map(audit::in_short);
        audit::note(&config.folder, &json!({ "gateway": self.gateway, "rev": rev, "answer": noted }))?;
        let gateway = &self.gateway;
        let Some(answer) = answer else {
            bail!(
                "{gateway} has not settled revision {rev} within {} s; it goes on, or begins when it is back",
                self.wait_s
            );
        };
        print!("{}", shown(&answer, self.signed.json));
        Ok(ExitCode::from(u8::from(answer["state"] != "committed")))
    }
}

/// What a box reports of the configuration of this digest, once nothing will change any more.
fn ended(said: &Said, place: &Place, digest: &str) -> Option<Value> {
    if said.place != *place || said.what != Up::Reported {
        return None;
    }
    let reported: Value = serde_json::from_slice(&said.payload).ok()?;
    order::settled(&reported, digest).is_some().then_some(reported)
}

/// What a box reports, for a person or as JSON. Boxes are not trusted: nothing of them steers a terminal.
fn shown(reported: &Value, json: bool) -> String {
    if json {
        return plain_json(reported) + "\n";
    }
    let reported = &plain_all(reported);
    let mut text = match reported["running"].as_u64() {
        Some(rev) => format!("runs revision {rev}\n"),
        None => "runs its own file\n".to_string(),
    };
    if let Some(rev) = reported["rev"].as_u64() {
        let why = reported["why"].as_str().map(|word| match Why::of(word) {
            Some(why) => format!(": {word} ({why})"),
            None => format!(": {word}"),
        });
        let why = why.unwrap_or_default();
        text += &match reported["state"].as_str() {
            Some(state) => format!("revision {rev} is {state}{why}\n"),
            None => format!("revision {rev} was the last before it was reset\n"),
        };
    }
    for fault in reported["errors"].as_array().into_iter().flatten() {
        let path = fault["path"].as_str().unwrap_or("the text");
        text += &format!(
            "  line {}, column {}: {path} ({})\n",
            fault["line"],
            fault["column"],
            fault["kind"].as_str().unwrap_or("?")
        );
    }
    if reported["drift"] == true {
        text += "its own file was edited on the box, and the desk knows nothing of it; `--replace` says that you do\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_box_reports_steers_the_terminal() {
        let evil = "\u{1b}]0;pwned\u{7}\u{9b}2J\u{9d}";
        let fault = json!({ "line": evil, "column": evil, "path": evil, "kind": evil });
        let reported = json!({ "rev": 7, "state": evil, "why": evil, "errors": [fault], evil: evil });
        for json in [false, true] {
            let text = shown(&reported, json);
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
        assert!(shown(&reported, false).contains("revision 7 is ]0;pwned2J: ]0;pwned2J\n"));
    }
}
