//! `afferent desk rollout`.

use super::command::What;
use super::key::signing_keys;
use super::{SETTINGS, note};
use crate::desk::Config;
use crate::desk::order;
use crate::desk::pack::{PackError, pack};
use crate::desk::registry::{Group, Registry};
use crate::desk::rollout::log::Log;
use crate::desk::rollout::{self, Change, Contents, Plan, Ring, Rollout, Stage};
use crate::fleet::envelope::SigningKey;
use crate::update::digest_of;
use crate::update::manifest::Manifest;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bring a change to a group of boxes, ring by ring, and stop by itself when too many fail.
///
/// Ring after ring, some boxes at a time: each is told, and answers, fails, or is silent for too long. A ring that
/// ended is watched for a while; boxes that are away then have failed as well, and so has one that tells of something
/// unusual that was not before. Enough successes open the next ring; too many failures stop it for good. All of it is
/// written down before it is done (`rollouts/` beside the settings), so that `resume` goes on after a crash of the desk
/// and no box does anything twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk rollout start restart --group 'site=north' --name night-restart --sign ops-1.key --batch 50 --wait-s 900
  afferent desk rollout start ping --dry-run --sign ops-1.key
  afferent desk rollout config chemistry.toml --group tag=chemistry --sign ops-1.key --wait-s 3600
  afferent desk rollout update 1.2.0.json --sign ops-1.key --sign ops-2.key --wait-s 86400
  afferent desk rollout status
  afferent desk rollout pause night-restart
  afferent desk rollout resume night-restart --sign ops-1.key
  afferent desk rollout stop night-restart --reason 'the EHR is down'

Exit codes: 0 finished or shown, 1 stopped, paused, or the broker is gone.")]
pub(super) struct Rollouts {
    #[command(subcommand)]
    verb: Verb,
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS, global = true)]
    desk: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a plan of the inventory and carry it out
    #[command(after_help = "Example:\n  afferent desk rollout start report --group all --sign ops-1.key")]
    Start(Start),
    /// Make a plan that sends boxes a configuration, and carry it out
    ///
    /// A box has it when it says that it confirmed it, and has failed when it refuses it or goes back by itself. Revisions
    /// go on from the last that each box was sent. What a box that stays silent was sent is taken back from the broker.
    #[command(after_help = "\
Examples:
  afferent desk rollout config chemistry.toml --group tag=chemistry --sign ops-1.key --wait-s 3600
  afferent desk rollout config boxes/ --group site=north --sign ops-1.key           boxes/bench-1.toml for bench-1")]
    Config(Configuration),
    /// Make a plan that brings boxes a release, and carry it out
    ///
    /// A box is offered the release, says that it lies ready, and is told to install it, which it does once the bench is
    /// idle. It has it when it says that results flow through it, and has failed when it goes back by itself.
    #[command(after_help = "\
Example:
  afferent desk rollout update 1.2.0.json --group all --sign ops-1.key --sign ops-2.key --batch 20 --wait-s 86400")]
    Update(Release),
    /// Show how it stands; left out, all
    #[command(after_help = "Example:\n  afferent desk rollout status")]
    Status {
        /// Which
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell no other box until it is resumed
    #[command(after_help = "Example:\n  afferent desk rollout pause report-1")]
    Pause {
        /// Which
        name: String,
    },
    /// Go on, after a pause or a crash of the desk
    #[command(after_help = "Example:\n  afferent desk rollout resume report-1 --sign ops-1.key")]
    Resume {
        /// Which
        name: String,
        /// The keys it was started with, in the same order
        #[arg(long, value_name = "FILE", required = true)]
        sign: Vec<PathBuf>,
    },
    /// Tell no other box, for good
    ///
    /// A configuration that boxes were sent and have not taken is taken back from the broker.
    #[command(after_help = "Example:\n  afferent desk rollout stop report-1 --reason 'links went down'")]
    Stop {
        /// Which
        name: String,
        /// Why, for the record
        #[arg(long, default_value = "a person stopped it")]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct Start {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Configuration {
    /// The configuration for all of them, or a folder with one for each: NAME.toml
    path: PathBuf,
    /// Replace the boxes' own files as they are when they are told, though somebody edited them there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Release {
    /// Its manifest
    manifest: PathBuf,
    /// Roots behind the first, in order
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// To whom it comes, and how fast.
#[derive(Debug, Args)]
struct How {
    /// Which boxes of the inventory; each comes in its own ring
    #[arg(long, value_name = "GROUP", default_value = "all")]
    group: Group,
    /// Its name; left out, the moment
    #[arg(long)]
    name: Option<String>,
    /// Key to sign with; twice for what takes two signatures
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
    /// Boxes that are at it at the same time, at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Seconds for which a ring that ended is watched before the next is opened
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait_s: u32,
    /// Seconds after which a box that has not answered has failed; 3600, of an update 50400
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    silent_s: Option<u32>,
    /// Percent of a ring that must succeed
    #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    success: u8,
    /// Percent of a ring that may fail
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    failure: u8,
    /// Show who would get it, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Rollouts {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let noted = |name: &str, what: rollout::What| -> anyhow::Result<ExitCode> {
            let mut log = Log::open(&config.folder, name)?;
            note(&config.folder, json!({ "rollout": name, "does": what }))?;
            log.note([what])?;
            show(log.rollout());
            Ok(ExitCode::SUCCESS)
        };
        match self.verb {
            Verb::Start(Start { what, how }) => {
                let operation = what.operation()?;
                how.execute(&config, |_| Ok(Change::Command { operation })).await
            }
            Verb::Config(Configuration { path, replace, how }) => {
                how.execute(&config, |rings| change_to(&path, replace, rings)).await
            }
            Verb::Update(Release { manifest, root, how }) => {
                how.execute(&config, |_| release_of(&manifest, &root)).await
            }
            Verb::Status { name, json } => status(&config, name, json),
            Verb::Pause { name } => noted(&name, rollout::What::Paused),
            Verb::Stop { name, reason } => {
                noted(&name, rollout::What::Stopped { why: reason })?;
                take_back(&config, &name).await
            }
            Verb::Resume { name, sign } => {
                let mut log = Log::open(&config.folder, &name)?;
                signers_of(&log, &sign)?;
                note(&config.folder, json!({ "rollout": name, "does": "resume" }))?;
                if log.rollout().stage() == Stage::Paused {
                    log.note([rollout::What::Resumed])?;
                }
                carry_out(&config, log, &sign).await
            }
        }
    }
}

/// What each of these boxes is sent.
fn change_to(path: &Path, replace: bool, rings: &BTreeMap<u32, Vec<String>>) -> anyhow::Result<Change> {
    let read = |file: &Path| pack(file).map(|packed| packed.content);
    let content = if path.is_dir() {
        let of = |name: &String| Ok((name.clone(), read(&path.join(format!("{name}.toml")))?));
        Contents::Each(rings.values().flatten().map(of).collect::<Result<_, PackError>>()?)
    } else {
        Contents::Same(read(path)?)
    };
    Ok(Change::Config { content, replace })
}

fn release_of(manifest: &Path, roots: &[PathBuf]) -> anyhow::Result<Change> {
    let text = super::update::text(manifest)?;
    let read = Manifest::unproven(text.as_bytes());
    let read = read.with_context(|| format!("{} is no manifest of a release", manifest.display()))?;
    let with_system = (!read.systems.is_empty()).then(|| digest_of(text.as_bytes()));
    let roots = roots.iter().map(|root| super::update::text(root)).collect::<anyhow::Result<_>>()?;
    Ok(Change::Update { version: read.version.to_string(), manifest: text, roots, with_system })
}

impl How {
    /// Makes the plan of what `change` makes of the rings, and carries it out.
    async fn execute(
        self,
        config: &Config,
        change: impl FnOnce(&BTreeMap<u32, Vec<String>>) -> anyhow::Result<Change>,
    ) -> anyhow::Result<ExitCode> {
        let registry = Registry::read(&config.folder)?;
        let mut rings: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for entry in registry.of(&self.group) {
            rings.entry(entry.ring).or_default().push(entry.name.clone());
        }
        if rings.is_empty() {
            bail!("no box of the inventory is in {}: see `afferent desk inventory`", self.group);
        }
        let change = change(&rings)?;
        let keys = signing_keys(&self.sign)?;
        if order::signers(&keys) < change.signatures() {
            bail!("{} takes {} signatures: give --sign as often, with other keys", change.word(), change.signatures());
        }
        let made = Timestamp::now();
        let silent_s = self.silent_s.unwrap_or_else(|| change.silent_s());
        let plan = Plan {
            name: self.name.unwrap_or_else(|| format!("{}-{}", change.word(), made.strftime("%Y%m%dT%H%M%S"))),
            made,
            signed_by: keys.iter().map(|key| key.kid().to_string()).collect(),
            change,
            rings: rings.into_iter().map(|(ring, boxes)| Ring { ring, boxes }).collect(),
            batch: self.batch.into(),
            wait_s: self.wait_s,
            silent_s,
            success_percent: self.success,
            failure_percent: self.failure,
        };
        if self.dry_run {
            for Ring { ring, boxes } in &plan.rings {
                println!("ring {ring}: {} boxes: {}", boxes.len(), boxes.join(", "));
            }
            return Ok(ExitCode::SUCCESS);
        }
        note(&config.folder, json!({ "rollout": plan.name, "does": "start", "change": plan.change.word() }))?;
        carry_out(config, Log::create(&config.folder, plan)?, &self.sign).await
    }
}

/// The keys, which are those it was started with.
fn signers_of(log: &Log, sign: &[PathBuf]) -> anyhow::Result<Vec<SigningKey>> {
    let (keys, plan) = (signing_keys(sign)?, log.rollout().plan());
    if !keys.iter().map(SigningKey::kid).eq(plan.signed_by.iter().map(String::as_str)) {
        bail!("{} was started with the keys {}: give the same", plan.name, plan.signed_by.join(", "));
    }
    Ok(keys)
}

async fn carry_out(config: &Config, mut log: Log, sign: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let keys = signers_of(&log, sign)?;
    let name = log.rollout().plan().name.clone();
    let Some(_turn) = log.turn()? else {
        println!("{name} is carried out by another process, which goes on");
        return Ok(ExitCode::SUCCESS);
    };
    let resume = format!("`afferent desk rollout resume {name} --sign ...` goes on");
    let mut before = None;
    let carried = rollout::run::carry_out(config, &mut log, &keys, |rollout| {
        let now = (rollout.ring(), rollout.counts(rollout.ring()));
        if before.replace(now) != Some(now) {
            eprintln!("{}", line(rollout, rollout.ring()));
        }
    });
    let stage = carried.await.with_context(|| resume.clone())?;
    show(log.rollout());
    match stage {
        Stage::Finished => Ok(ExitCode::SUCCESS),
        Stage::Paused | Stage::Running => bail!("{name} is paused; {resume}"),
        Stage::Stopped(why) => bail!("{name} is stopped: {why}"),
    }
}

/// What boxes were sent and have not taken is not kept for them any longer. The process that carries it out sees to that;
/// where there is none any more, this one does.
async fn take_back(config: &Config, name: &str) -> anyhow::Result<ExitCode> {
    let mut log = Log::open(&config.folder, name)?;
    let is_config = matches!(log.rollout().plan().change, Change::Config { .. });
    if !is_config || log.rollout().told().next().is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(_turn) = log.turn()? else {
        println!("what boxes have not taken is taken back by the process that carries it out");
        return Ok(ExitCode::SUCCESS);
    };
    let taken_back = rollout::run::carry_out(config, &mut log, &[], |_| ()).await;
    taken_back.with_context(|| {
        format!(
            "{name} is stopped, but what boxes were sent is still kept for them and they take it when they are back: \
             `afferent desk rollout resume {name} --sign ...` takes it back"
        )
    })?;
    println!("what boxes had not taken is taken back");
    Ok(ExitCode::SUCCESS)
}

fn status(config: &Config, name: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let names = name.map_or_else(|| Log::all(&config.folder), |name| vec![name]);
    let logs = names.iter().map(|name| Log::open(&config.folder, name));
    let logs: Vec<Log> = logs.collect::<Result<_, _>>()?;
    if json {
        let all: Vec<Value> = logs.iter().map(|log| of(log.rollout())).collect();
        println!("{}", Value::Array(all));
        return Ok(ExitCode::SUCCESS);
    }
    if logs.is_empty() {
        println!("nothing was rolled out from this desk");
    }
    logs.iter().for_each(|log| show(log.rollout()));
    Ok(ExitCode::SUCCESS)
}

fn of(rollout: &Rollout) -> Value {
    let plan = rollout.plan();
    let rings = plan.rings.iter().enumerate();
    let rings: Vec<Value> =
        rings.map(|(at, ring)| json!({ "ring": ring.ring, "counts": rollout.counts(at) })).collect();
    let failures: BTreeMap<&str, &str> = rollout.failures().collect();
    json!({
        "name": plan.name, "change": plan.change.word(), "made": plan.made.to_string(), "signed_by": plan.signed_by,
        "stage": rollout.stage(), "rings": rings, "failures": failures,
    })
}

fn show(rollout: &Rollout) {
    let plan = rollout.plan();
    let stage = match rollout.stage() {
        Stage::Running => "under way".to_string(),
        Stage::Paused => "paused".to_string(),
        Stage::Finished => "finished".to_string(),
        Stage::Stopped(why) => format!("stopped: {why}"),
    };
    println!("{}: {}, signed by {}: {stage}", plan.name, plan.change.word(), plan.signed_by.join(", "));
    for at in 0..plan.rings.len() {
        println!("  {}", line(rollout, at));
    }
    for (name, why) in rollout.failures() {
        println!("  {name} failed: {why}");
    }
}

fn line(rollout: &Rollout, at: usize) -> String {
    let ring = rollout.plan().rings.get(at).map_or(0, |ring| ring.ring);
    let counts = rollout.counts(at);
    let ready = if counts.ready > 0 { format!(", {} ready", counts.ready) } else { String::new() };
    format!(
        "ring {ring}: {} done, {} failed, {} told{ready}, {} waiting",
        counts.done, counts.failed, counts.told, counts.waiting
    )
}
