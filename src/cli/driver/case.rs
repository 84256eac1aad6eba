//! A driver's cases: a session replayed against the receiver, and what must come out of it.
//!
//! A case is a folder named by its story. `session.txt` is both sides of the line, or `session.csv` (any ending but
//! `txt`) a file as the instrument leaves it; `report.json` is what the driver
//! makes of it; then either `ehr.hl7` and `ehr.fhir.json` are what goes out, or `error.txt` says why nothing does. A
//! second message is in `ehr.2.hl7`, and so on. With an `orders.json` (a list of orders of the EHR) the instrument's
//! queries are answered in `session.txt`; `order_codes.json` holds codes of the site, as a link has them.

pub mod orders;

use self::orders::Orders;
use crate::cli::outgoing::{self, As};
use crate::clinical::Doubt;
use crate::driver::{Context, Driver, Interpretation, Protocol, interpret};
use crate::mapping::Origin;
use crate::rules::{Policy, Verdict, decide};
use crate::sim::replay::{Answer, Replayed, replay_both_ways, replay_lines};
use crate::sim::transcript::{Step, TranscriptError, parse};
use crate::wire::astm::SenderConfig;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Read sizes every session is replayed in: whole, byte by byte, in threes, and as an 8-byte UART FIFO delivers.
pub const SPLITS: [usize; 4] = [usize::MAX, 1, 3, 8];
/// Zone of the instruments' clocks in every case; it has summer time, so offsets show.
pub const ZONE: &str = "Europe/Berlin";
/// Name of the gateway in every case.
const GATEWAY: &str = "bench-1";
/// Name of the link in every case.
const LINK: &str = "instrument";
/// When every outgoing message of a case is made.
const MADE: &str = "2026-11-03T18:00:00+01:00[Europe/Berlin]";
/// The time of day in the answers to queries of a case.
const NOW: &str = "20261103180000";
/// Longest session or expected file read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// What one entry of a session came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The session was finished by the instrument.
    pub complete: bool,
    /// What the driver reads in it.
    pub interpretation: Interpretation,
}

/// What a session came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Answers of the receiver that the transcript does not have.
    pub mismatches: Vec<String>,
    /// The entries, without retransmissions.
    pub entries: Vec<Entry>,
}

/// A case cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// The transcript is not in the format.
    #[error("{0}: {1}")]
    Transcript(PathBuf, #[source] TranscriptError),
    /// The orders are not in the format.
    #[error("{0}: {1}")]
    Orders(PathBuf, #[source] serde_json::Error),
    /// Longer than a case may be.
    #[error("{0} is longer than 16 MiB")]
    Long(PathBuf),
}

/// One way in which a case does not come out as it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which file, or the split of the reads.
    pub at: String,
    /// Lines: ` ` as expected, `-` missing, `+` too many.
    pub lines: Vec<String>,
}

/// Replays a session in one split and interprets what was taken into custody. With `orders`, queries are answered.
pub fn run(driver: &Driver, steps: &[Step], read_bytes: usize, orders: Option<&Orders>) -> Outcome {
    let zone = jiff::tz::TimeZone::get(ZONE).unwrap_or(jiff::tz::TimeZone::UTC);
    let replayed = play(driver, steps, read_bytes, orders);
    // The same message under the same identity is a retransmission; the journal keeps one (invariant I4).
    let mut seen: Vec<(&Option<Vec<u8>>, &Vec<u8>)> = Vec::new();
    let mut again: Vec<u64> = Vec::new();
    for part in replayed.parts.iter().filter(|p| p.identity.is_some()) {
        if seen.contains(&(&part.identity, &part.bytes)) {
            again.push(part.session);
        }
        seen.push((&part.identity, &part.bytes));
    }
    let sessions = {
        let mut sessions: Vec<u64> = replayed.parts.iter().map(|p| p.session).collect();
        sessions.dedup();
        sessions
    };
    let kept = sessions.iter().zip(replayed.entries()).filter(|(session, _)| !again.contains(session));
    let entries = kept
        .map(|(_, (raw, complete))| {
            let context = Context { zone: zone.clone(), charset: None, framing: None, complete };
            Entry { complete, interpretation: interpret(driver, &raw, &context) }
        })
        .collect();
    Outcome { mismatches: replayed.mismatches, entries }
}

/// Plays a transcript to the receiver this driver's instruments talk to. With `orders`, queries are answered.
pub fn play(driver: &Driver, steps: &[Step], read_bytes: usize, orders: Option<&Orders>) -> Replayed {
    let answer = orders.map(|orders| move |raw: &[u8]| orders.answer(driver, raw));
    let answer = answer.as_ref().map(|answer| answer as &Answer<'_>);
    let standard = SenderConfig::default();
    let sender = SenderConfig {
        packing: driver.wire().packing.unwrap_or(standard.packing),
        frame_text_max: driver.wire().frame_text_max.map_or(standard.frame_text_max, |max| max as usize),
        ..standard
    };
    match &driver.wire().framing {
        Some(framing) if driver.protocol() == Protocol::Lines => replay_lines(steps, framing, read_bytes),
        _ => replay_both_ways(steps, driver.protocol(), read_bytes, sender, answer),
    }
}

/// Runs the case in `folder` and compares every expected file; with `update` it writes them instead.
///
/// # Errors
/// A file cannot be read or written, or the transcript is not in the format.
pub fn check(driver: &Driver, folder: &Path, update: bool) -> Result<Vec<Difference>, CaseError> {
    let session = session(folder)?;
    let orders = Orders::of(folder)?;
    let mut differences = Vec::new();
    let mut first: Option<Outcome> = None;
    for split in SPLITS {
        let mut outcome = run(driver, &session, split, orders.as_ref());
        let name = if split == usize::MAX { "whole reads".to_string() } else { format!("reads of {split} bytes") };
        let lines = std::mem::take(&mut outcome.mismatches);
        if !lines.is_empty() {
            differences.push(Difference { at: format!("session.txt in {name}"), lines });
        }
        match &first {
            None => first = Some(outcome),
            Some(expected) if *expected != outcome => {
                let lines = vec!["the reports are not those of whole reads".to_string()];
                differences.push(Difference { at: format!("session.txt in {name}"), lines });
            }
            Some(_) => {}
        }
    }
    let Some(outcome) = first else { return Ok(differences) };
    let mut expected = expected_files(&outcome);
    for name in outgoing_in(folder)? {
        if !expected.iter().any(|(known, _)| *known == name) {
            expected.push((name, None));
        }
    }
    for (name, made) in expected {
        let path = folder.join(&name);
        let there = if path.exists() { Some(read(&path)?) } else { None };
        if there == made {
            continue;
        }
        if update {
            match &made {
                Some(text) => std::fs::write(&path, text),
                None => std::fs::remove_file(&path),
            }
            .map_err(|e| CaseError::File(path.clone(), e))?;
            continue;
        }
        let lines = diff(there.as_deref().unwrap_or(""), made.as_deref().unwrap_or(""));
        differences.push(Difference { at: name, lines });
    }
    Ok(differences)
}

/// The steps of a case's session.
///
/// # Errors
/// The file cannot be read, or the transcript is not in the format.
pub fn session(folder: &Path) -> Result<Vec<Step>, CaseError> {
    let path = session_file(folder).unwrap_or_else(|| folder.join("session.txt"));
    if path.extension().is_some_and(|ending| ending == "txt") {
        return parse(&read(&path)?).map_err(|e| CaseError::Transcript(path.clone(), e));
    }
    Ok(vec![Step::Instrument(read_bytes(&path)?)])
}

/// `session.txt`, else the first `session.*` of a case.
fn session_file(folder: &Path) -> Option<PathBuf> {
    let list = std::fs::read_dir(folder).ok()?;
    let mut files: Vec<PathBuf> = list.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file() && path.file_stem().is_some_and(|stem| stem == "session"));
    files.sort_by_key(|path| (path.extension().is_none_or(|ending| ending != "txt"), path.clone()));
    files.into_iter().next()
}

/// The folders of cases below a driver's folder, by name.
///
/// # Errors
/// The folder cannot be listed.
pub fn folders(driver_folder: &Path) -> Result<Vec<PathBuf>, CaseError> {
    let cases = driver_folder.join("cases");
    let list = std::fs::read_dir(&cases).map_err(|e| CaseError::File(cases.clone(), e))?;
    let mut folders: Vec<PathBuf> =
        list.filter_map(Result::ok).map(|entry| entry.path()).filter(|p| session_file(p).is_some()).collect();
    folders.sort();
    Ok(folders)
}

/// Every expected file of a case, and what it must hold; `None` when it must not be there.
fn expected_files(outcome: &Outcome) -> Vec<(String, Option<String>)> {
    let (messages, unsendable) = outgoing_messages(outcome);
    let mut files = vec![("report.json".to_string(), Some(report_json(outcome)))];
    for (number, (hl7, fhir)) in messages.iter().enumerate() {
        let stem = if number == 0 { "ehr".to_string() } else { format!("ehr.{}", number + 1) };
        files.push((format!("{stem}.hl7"), Some(hl7.clone())));
        files.push((format!("{stem}.fhir.json"), Some(fhir.clone())));
    }
    let error = (messages.is_empty() || !unsendable.is_empty()).then(|| unsendable + &why_held(outcome));
    files.push(("error.txt".to_string(), error));
    files
}

/// The expected messages a case's folder holds, for those that must not be there any more.
fn outgoing_in(folder: &Path) -> Result<Vec<String>, CaseError> {
    let list = std::fs::read_dir(folder).map_err(|e| CaseError::File(folder.to_path_buf(), e))?;
    let mut names: Vec<String> =
        list.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("ehr."));
    names.sort();
    Ok(names)
}

/// What the default rules release, as HL7 and as FHIR, one pair a report; and a line for each report that cannot be
/// said so. The rule about clocks is off: a case is as old as it is.
fn outgoing_messages(outcome: &Outcome) -> (Vec<(String, String)>, String) {
    let (mut messages, mut unsendable) = (Vec::new(), String::new());
    for (number, entry) in outcome.entries.iter().enumerate() {
        for report in &entry.interpretation.reports {
            let verdicts = decide(report, &Policy::default(), jiff::Timestamp::UNIX_EPOCH);
            let released = verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::Release);
            let part: Vec<usize> = released.map(|(at, _)| at).collect();
            if part.is_empty() {
                continue;
            }
            let origin = Origin {
                message_id: format!("CASE{:04}", messages.len() + 1),
                gateway: GATEWAY.to_string(),
                link: LINK.to_string(),
                made: MADE.parse().unwrap_or_default(),
            };
            let say = |form| outgoing::message(report, &part, form, &origin);
            match say(As::Hl7).and_then(|hl7| Ok((hl7, say(As::Fhir)?))) {
                Ok(pair) => messages.push(pair),
                Err(error) => unsendable.push_str(&format!("entry {}: held, {error}\n", number + 1)),
            }
        }
    }
    (messages, unsendable)
}

/// The entries as JSON. The driver's version is left out: it changes with every comment in `driver.toml`.
fn report_json(outcome: &Outcome) -> String {
    let entry = |entry: &Entry| {
        let mut made = serde_json::to_value(&entry.interpretation).unwrap_or(Value::Null);
        if let Some(fields) = made.as_object_mut() {
            fields.remove("driver");
            fields.insert("complete".into(), json!(entry.complete));
        }
        made
    };
    let entries: Vec<Value> = outcome.entries.iter().map(entry).collect();
    format!("{:#}\n", Value::Array(entries))
}

/// One line for every result the rules hold or the driver refuses, and for everything odd.
fn why_held(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for (number, entry) in outcome.entries.iter().enumerate() {
        let number = number + 1;
        if !entry.complete {
            lines.push(format!("entry {number}: the session was not finished"));
        }
        let observations = entry.interpretation.reports.iter().flat_map(|r| &r.observations);
        for observation in observations.filter(|o| !o.doubts.is_empty()) {
            let doubts: Vec<&str> = observation.doubts.iter().copied().map(Doubt::name).collect();
            lines.push(format!("entry {number}, record {}: held, {}", observation.record, doubts.join(", ")));
        }
        for refused in &entry.interpretation.refused {
            lines.push(format!("entry {number}, record {}: refused, {}", refused.record, refused.reason));
        }
        for note in &entry.interpretation.notes {
            lines.push(format!("entry {number}, record {}: {}", note.record, note.what));
        }
    }
    if lines.is_empty() {
        lines.push("nothing was taken into custody".to_string());
    }
    lines.join("\n") + "\n"
}

/// A line diff: the common beginning and end are left out but for a few lines around.
fn diff(expected: &str, made: &str) -> Vec<String> {
    const AROUND: usize = 2;
    let (expected, made): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), made.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = expected.iter().zip(&made).take_while(same).count();
    let room = expected.len().min(made.len()) - head;
    let tail = expected.iter().rev().zip(made.iter().rev()).take(room).take_while(same).count();
    let lines = |mark: char, of: &[&str], from: usize, to: usize| {
        of.get(from..to).unwrap_or_default().iter().map(|l| format!("{mark}{l}")).collect::<Vec<_>>()
    };
    let mut out = lines(' ', &expected, head.saturating_sub(AROUND), head);
    out.extend(lines('-', &expected, head, expected.len() - tail));
    out.extend(lines('+', &made, head, made.len() - tail));
    out.extend(lines(' ', &expected, expected.len() - tail, (expected.len() - tail + AROUND).min(expected.len())));
    out
}

fn read(path: &Path) -> Result<String, CaseError> {
    let not_text = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
    String::from_utf8(read_bytes(path)?).map_err(|e| CaseError::File(path.to_path_buf(), not_text(e)))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, CaseError> {
    let failed = |e| CaseError::File(path.to_path_buf(), e);
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_MAX {
        return Err(CaseError::Long(path.to_path_buf()));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changed_and_little_around() {
        let made = diff("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nX\ne\nf\n");
        assert_eq!(made, [" b", " c", "-d", "+X", " e", " f"]);
        assert_eq!(diff("", "x\n"), ["+x"]);
        assert!(diff("a\na\n", "a\n").contains(&"-a".to_string()));
    }
}
