//! Instruments nobody wrote a driver for, as their families are known to send: everything they say can be read with the
//! generic driver of the protocol, and cuts and repeats cost nothing that came whole. Shapes are those of the families,
//! patients, ids and values are invented.
//!
//! `UPDATE_GOLDEN=1 cargo test --test strangers` rewrites each `readable.txt`; the diff is the review.

#[path = "support/golden.rs"]
mod golden;

use afferent::clinical::{Observation, Value};
use afferent::driver::{Context, Interpretation, Origin, Protocol, Registry, explain, guess_protocol};
use afferent::sim::transcript::{Step, parse};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes between two cuts of one session.
const CUT_STEP: usize = 5;
/// Bytes between two damaged bytes, one at a time.
const DAMAGE_STEP: usize = 7;

fn strangers() -> Vec<(PathBuf, Vec<u8>)> {
    let list = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers")).unwrap();
    let mut folders: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("session.txt")).unwrap();
        let steps = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).into_iter();
        steps.filter_map(|step| if let Step::Instrument(bytes) = step { Some(bytes) } else { None }).flatten().collect()
    };
    folders.into_iter().map(|folder| (folder.clone(), read(&folder))).collect()
}

fn read(registry: &Registry, protocol: Protocol, raw: &[u8], complete: bool) -> (Interpretation, Vec<Origin>) {
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete };
    let (interpretation, origins) = explain(registry.generic(protocol), raw, &context);
    let seen = interpretation.reports.iter().map(|report| report.observations.len()).sum::<usize>();
    assert_eq!(
        seen + interpretation.refused.len(),
        interpretation.inbound_results as usize,
        "the account balances (I7): {:?}",
        String::from_utf8_lossy(raw)
    );
    (interpretation, origins)
}

/// What a person reads: the specimen, then each result, then what no field takes.
fn readable(interpretation: &Interpretation, origins: &[Origin]) -> String {
    let mut text = String::new();
    for report in &interpretation.reports {
        let mut about = vec![format!("specimen {:?}", report.specimen.id.expose())];
        for (name, said) in [("patient", report.patient.id.expose()), ("position", &report.specimen.position)] {
            if !said.is_empty() {
                about.push(format!("{name} {said:?}"));
            }
        }
        text.push_str(&format!("{}\n", about.join(", ")));
        for observation in &report.observations {
            text.push_str(&format!("  {}\n", result(observation)));
        }
        for comment in &report.comments {
            text.push_str(&format!("  comment {comment:?}\n"));
        }
    }
    for refused in &interpretation.refused {
        text.push_str(&format!("refused, record {}: {}\n", refused.record, refused.reason));
    }
    let mut told = BTreeSet::new();
    for origin in origins {
        let said = origin.text.expose();
        match origin.field {
            "unread" => text.push_str(&format!("{} {said:?}\n", origin.path)),
            // As it was sent: a time is not always one that can be read.
            "completed" | "collected" if told.insert(said) => text.push_str(&format!("{} {said:?}\n", origin.field)),
            _ => {}
        }
    }
    text
}

fn result(o: &Observation) -> String {
    let value = match &o.value {
        Value::Number(number) => number.to_string(),
        Value::Compared { comparator, number } => format!("{comparator}{number}"),
        Value::Range { low, high } => format!("{low} to {high}"),
        Value::Ratio { numerator, separator, denominator } => format!("{numerator}{separator}{denominator}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Coded(coding) => format!("{} {:?}", coding.code, coding.text),
        Value::Absent => "-".to_string(),
        Value::Data { media_type, .. } => media_type.clone(),
    };
    let mut parts = vec![o.instrument_code.clone(), value, o.unit.clone()];
    for (name, said) in [("range", o.reference_range.as_str()), ("flags", &o.flags.join(" ")), ("status", &o.status)] {
        // Final is what most are.
        let is_plain = name == "status" && said == "F";
        if !said.is_empty() && !is_plain {
            parts.push(format!("{name} {said}"));
        }
    }
    if let Some(time) = &o.completed {
        parts.push(format!("at {}", time.hl7()));
    }
    parts.extend(o.comments.iter().map(|comment| format!("comment {comment:?}")));
    parts.join(" | ")
}

#[test]
fn i7_everything_a_stranger_says_can_be_read() {
    let registry = Registry::builtin();
    let (mut wrong, mut protocols, strangers) = (String::new(), BTreeSet::new(), strangers());
    for (folder, raw) in &strangers {
        let protocol = guess_protocol(raw);
        protocols.insert(format!("{protocol:?}"));
        let (interpretation, origins) = read(&registry, protocol, raw, true);
        let made = format!("{protocol:?}\n{}", readable(&interpretation, &origins));
        wrong.push_str(&golden::difference(&folder.join("readable.txt"), &made));
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_GOLDEN=1 rewrites the expected files");
    assert!(strangers.len() >= 45 && protocols.len() >= 4, "{} of {protocols:?}", strangers.len());
}

#[test]
fn i7_every_word_with_a_digit_is_shown_somewhere() {
    let registry = Registry::builtin();
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let mut looked_at = 0;
    for (folder, raw) in strangers().into_iter().filter(|(_, raw)| guess_protocol(raw) == Protocol::Lines) {
        let (interpretation, origins) = read(&registry, Protocol::Lines, &raw, true);
        let mut shown: Vec<String> = origins.iter().map(|origin| origin.text.expose().to_string()).collect();
        for report in &interpretation.reports {
            shown.extend(report.observations.iter().map(result));
            shown.extend(report.comments.iter().cloned());
        }
        let text = String::from_utf8_lossy(&raw).into_owned();
        let between = |c: char| c.is_whitespace() || c.is_control() || ";|,".contains(c);
        for word in text.split(between).filter(|word| word.chars().any(|c| c.is_ascii_digit())) {
            looked_at += 1;
            // A time is shown without its marks, a value without the flag behind it.
            let is_shown = |said: &String| said.contains(word) || digits(said).contains(&digits(word));
            assert!(shown.iter().any(is_shown), "{}: {word} is nowhere", folder.display());
        }
    }
    assert!(looked_at > 200, "only {looked_at} words");
}

#[test]
fn i13_what_was_cut_is_held_and_what_came_twice_is_read_twice() {
    let registry = Registry::builtin();
    for (folder, raw) in strangers() {
        let protocol = guess_protocol(&raw);
        for end in (0..raw.len()).step_by(CUT_STEP) {
            let (cut, _) = read(&registry, protocol, &raw[..end], false);
            let observations = cut.reports.iter().flat_map(|report| &report.observations);
            let whole = observations.filter(|observation| observation.doubts.is_empty()).count();
            assert_eq!(whole, 0, "{} cut at {end} sends a result", folder.display());
        }
        // A damaged byte may make another session of it, but loses no result without a word: `read` sees to it.
        for at in (0..raw.len()).step_by(DAMAGE_STEP) {
            let mut damaged = raw.clone();
            damaged[at] ^= 0x41;
            read(&registry, protocol, &damaged, true);
        }
        let once = read(&registry, protocol, &raw, true).0.inbound_results;
        let twice = read(&registry, protocol, &raw.repeat(2), true).0.inbound_results;
        assert_eq!(twice, 2 * once, "{} twice", folder.display());
    }
}
