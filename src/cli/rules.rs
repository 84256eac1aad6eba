//! `afferent rules`: the site's autoverification rules, and what they would have done.

use crate::config::{self, Config};
use crate::fleet::desired::tree;
use crate::interpreter::reading::Reading;
use crate::journal::{OpenError, Reader};
use crate::rules::Rulebook;
use crate::workbench::dry_run::{DryRun, dry_run};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Differences printed one by one unless told otherwise.
const LIMIT_DEFAULT: usize = 20;
const DAY_MS: i64 = 86_400_000;

/// List the site's rules, or try rules on what came already.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent rules list
  afferent rules dry-run                              what yesterday's and today's results would have met
  afferent rules dry-run --rules new-rules.toml --since 2026-03-01T00:00:00Z
  afferent rules dry-run --json | jq .changes")]
pub struct Rules {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// What to do
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the rules in the order in which they are tried, each with its version
    #[command(after_help = "Examples:\n  afferent rules list\n  afferent rules list --json | jq '.rules[].version'")]
    List,
    /// Try rules on results the journal has: what would be sent and held, and what became of it really
    ///
    /// Nothing is changed. A result that a control locked counts as held, also where a later control opened the lock.
    #[command(after_help = "\
Examples:
  afferent rules dry-run
  afferent rules dry-run --rules new-rules.toml --since 2026-03-01T00:00:00Z --json")]
    DryRun(Try),
}

#[derive(Debug, clap::Args)]
struct Try {
    /// Rules to try in place of the configuration's: a file of [[rule]] tables
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Received at or after this time (RFC 3339) [default: a day ago]
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Received before this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Most differences to list, the oldest first
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

impl Rules {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = tree::load(&self.config)?.config;
        match self.verb {
            Verb::List => list(&config, self.json),
            Verb::DryRun(tried) => tried.carry_out(&config, self.json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(config: &Config, as_json: bool) {
    let rulebook = config.rulebook();
    if as_json {
        let told = |(rule, version): (&crate::rules::Rule, &str)| json!({ "version": version, "rule": rule });
        println!("{}", json!({ "rules": rulebook.rules().map(told).collect::<Vec<_>>() }));
        return;
    }
    if rulebook.is_empty() {
        println!("there are no rules; `afferent config sample` shows what a [[rule]] may say");
    }
    for (rule, version) in rulebook.rules() {
        let kind = serde_json::to_value(rule.kind).unwrap_or_default();
        let of = |list: &[String], all: &str| if list.is_empty() { all.to_string() } else { list.join(", ") };
        println!(
            "{}@{version}: {} for {} on {}",
            rule.name,
            kind.as_str().unwrap_or_default(),
            of(&rule.analytes, "every test"),
            of(&rule.links, "every link")
        );
    }
}

impl Try {
    fn carry_out(self, config: &Config, as_json: bool) -> anyhow::Result<()> {
        let rulebook = match &self.rules {
            Some(file) => Rulebook::new(&config::load::rules_file(file)?).unwrap_or_default(),
            None => config.rulebook(),
        };
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let since_ms = self.since.map_or(now_ms - DAY_MS, jiff::Timestamp::as_millisecond);
        let until_ms = self.until.map_or(now_ms + 1, jiff::Timestamp::as_millisecond);
        anyhow::ensure!(since_ms < until_ms, "--since must be before --until");
        let reader = match Reader::open(&config.gateway.data, &config.journal) {
            Err(OpenError::Missing(_)) => anyhow::bail!("there is no journal yet: nothing came to try rules on"),
            opened => opened?,
        };
        let reading = Reading::new(config.registry()?, &config.gateway.time_zone(), &config.links);
        let span = (since_ms, until_ms);
        let bar = ProgressBar::new(reader.interpreted_count(span)?);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {eta} left")?);
        let found = dry_run(&reader, &reading, &rulebook, span, |done| bar.set_position(done)).context("dry run")?;
        bar.finish_and_clear();
        if as_json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            print(&found, self.limit);
        }
        Ok(())
    }
}

fn print(found: &DryRun, limit: usize) {
    println!("{} entries, {} results: {} would be sent, {} held", found.entries, found.results, found.sent, found.held);
    for (reason, count) in &found.reasons {
        println!("  {count:6} {reason}");
    }
    println!("\nby rule");
    for (rule, counts) in &found.rules {
        let outcome = |(outcome, count): (&crate::rules::Outcome, &u64)| {
            let name = serde_json::to_value(outcome).unwrap_or_default();
            format!("{count} {}", name.as_str().unwrap_or_default())
        };
        let outcomes: Vec<String> = counts.outcomes.iter().map(outcome).collect();
        let told = if outcomes.is_empty() { "met nothing".to_string() } else { outcomes.join(", ") };
        println!("  {rule}@{}: {told}", counts.version);
    }
    if found.changes.is_empty() {
        println!("\nnothing would have fared otherwise");
        return;
    }
    println!("\nwhat was, and would be");
    for (change, count) in &found.changes {
        println!("  {count:6} {change}");
    }
    println!();
    for d in found.differences.iter().take(limit) {
        let (result, code) = (d.observation + 1, d.code.escape_debug());
        let why = if d.why.is_empty() { String::new() } else { format!(": {}", d.why) };
        println!("  entry {} on {}, result {result} ({code}): {} -> {}{why}", d.entry, d.link, d.was, d.would_be);
    }
    let more = found.changes.values().sum::<u64>().saturating_sub(found.differences.len().min(limit) as u64);
    if more > 0 {
        println!("  and {more} more");
    }
}
