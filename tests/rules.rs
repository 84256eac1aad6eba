//! The site's rules as a laboratory writes them: a folder a story, with rules, a message and what the box remembers;
//! every decision comes out with the rule's name and version, and what becomes of each result.
//!
//! `UPDATE_GOLDEN=1 cargo test --test rules` rewrites `decisions.txt`; the diff is the review.

#[path = "support/golden.rs"]
mod golden;

use afferent::clinical::{Control, Decimal, Observation, Value};
use afferent::config::load::rules_file;
use afferent::driver::{Context, Driver, interpret};
use afferent::rules::autoverification::{ControlRun, Facts, Previous, changed, held};
use afferent::rules::{Decision, Policy, Rulebook, Verdict, decide_with};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The link of every story.
const LINK: &str = "chemistry";
/// When every message came.
const RECEIVED: &str = "2026-11-03T09:00:00Z";
const HOUR_MS: i64 = 3_600_000;

/// `known.json`: what the box remembers, by LOINC.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Known {
    previous: HashMap<String, Run>,
    controls: HashMap<String, Vec<Run>>,
}

/// A value that came before.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Run {
    value: String,
    ucum: String,
    hours_ago: i64,
    name: String,
    lot: String,
    level: String,
    failed: bool,
}

fn stories() -> Vec<PathBuf> {
    let list = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules")).unwrap();
    let mut folders: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn facts(folder: &Path, received_ms: i64) -> Facts {
    let file = folder.join("known.json");
    let known: Known = if file.exists() { serde_json::from_str(&read(&file)).unwrap() } else { Known::default() };
    let value = |run: &Run| Value::Number(Decimal::parse(&run.value).unwrap());
    let at = |run: &Run| received_ms - run.hours_ago * HOUR_MS;
    let previous = |run: &Run| Previous { value: value(run), ucum: run.ucum.clone(), received_ms: at(run) };
    let control = |run: &Run| ControlRun {
        control: Control { name: run.name.clone(), lot: run.lot.clone(), level: run.level.clone() },
        value: value(run),
        ucum: run.ucum.clone(),
        failed: run.failed,
        received_ms: at(run),
    };
    Facts {
        previous: known.previous.iter().map(|(code, run)| (code.clone(), previous(run))).collect(),
        controls: known
            .controls
            .iter()
            .map(|(code, runs)| (code.clone(), runs.iter().map(control).collect()))
            .collect(),
    }
}

/// Every result with what becomes of it, and below it what each rule decided.
fn decisions(folder: &Path, driver: &Driver, kinds: &mut BTreeSet<&'static str>) -> String {
    let rulebook = Rulebook::new(&rules_file(&folder.join("rules.toml")).unwrap()).unwrap();
    kinds.extend(rulebook.rules().map(|(rule, _)| rule.kind.reason()));
    let received: jiff::Timestamp = RECEIVED.parse().unwrap();
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
    let raw = read(&folder.join("message.txt")).replace('\n', "\r");
    let interpretation = interpret(driver, raw.as_bytes(), &context);
    let facts = facts(folder, received.as_millisecond());
    let mut text = String::new();
    for report in &interpretation.reports {
        let decided = rulebook.judge(LINK, report, received.as_millisecond(), &facts);
        let verdicts = decide_with(report, &Policy::default(), received, &decided);
        let sent = changed(report, &decided);
        for ((at, observation), verdict) in (0..).zip(&report.observations).zip(verdicts) {
            let fate = match (verdict, held(&decided, at)) {
                (Verdict::Hold(doubt), _) => format!("held, {}", doubt.name()),
                (Verdict::Release, Some(decision)) => format!("held, {}", decision.kind.reason()),
                (Verdict::Release, None) => format!("sent as {}", said(&sent.observations[at as usize])),
            };
            let (specimen, code) = (report.specimen.id.expose(), &observation.instrument_code);
            text.push_str(&format!("{specimen} {code} {}: {fate}\n", said(observation)));
            for Decision { rule, version, outcome, why, .. } in decided.iter().filter(|d| d.observation == at) {
                let outcome = serde_json::to_value(outcome).unwrap();
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                text.push_str(&format!("    {rule}@{version} {}{why}\n", outcome.as_str().unwrap()));
            }
        }
    }
    text
}

fn said(observation: &Observation) -> String {
    let value = match &observation.value {
        Value::Number(number) => number.to_string(),
        Value::Compared { comparator, number } => format!("{comparator}{number}"),
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let flags = observation.flags.join(" ");
    let loinc = observation.code.as_ref().map_or("", |code| code.code.as_str());
    format!("{value} {} {flags} ({loinc})", observation.ucum).replace("  ", " ")
}

#[test]
fn every_story_is_decided_as_expected_with_rule_and_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let driver = Driver::parse("acme-rules", &read(&root.join("driver.toml"))).unwrap();
    let (mut wrong, mut kinds) = (String::new(), BTreeSet::new());
    for folder in stories() {
        let made = decisions(&folder, &driver, &mut kinds);
        wrong.push_str(&golden::difference(&folder.join("decisions.txt"), &made));
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_GOLDEN=1 rewrites the expected files");
    // A repeat covers what the journal holds; tests/cli/rules.rs has it.
    let told = ["qc-lock", "rule-convert", "rule-critical", "rule-delta", "rule-dilution", "rule-flag", "rule-range"];
    assert!(told.iter().all(|kind| kinds.contains(kind)), "no story has some kind of rule: {kinds:?}");
}

#[test]
fn a_rule_that_changes_gets_another_version_and_one_that_does_not_keeps_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/limits");
    let rules = rules_file(&folder.join("rules.toml")).unwrap();
    let versions = |rules: &[afferent::rules::Rule]| {
        let book = Rulebook::new(rules).unwrap();
        book.rules().map(|(_, version)| version.to_string()).collect::<Vec<_>>()
    };
    let before = versions(&rules);
    let mut other = rules.clone();
    other[0].high = Some("99.9".to_string());
    let after = versions(&other);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}
