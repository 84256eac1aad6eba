//! With the generic drivers alone, `preview` shows everything a capture says: each component of each field of its raw
//! bytes stands in the output as a text of its own, so that a value, unit, flag, time or specimen id in an unexpected
//! place is seen, with the place it stands in.

use super::captures;
use afferent::driver::{Protocol, builtin, guess_protocol};
use afferent::message::astm::deframe::deframe;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// What stands between texts in one of the formats.
const BETWEEN: [char; 7] = ['^', '\\', '~', '&', '@', '\n', '|'];

fn preview(raw: &[u8], driver: &str) -> serde_json::Value {
    let mut child = Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["preview", "--json", "--reveal", "--driver", driver, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let raw = raw.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&raw));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every text in the output, and the pieces of those that were joined.
fn shown(json: &serde_json::Value, texts: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::String(text) => {
            // A slash may be part of a text, or join several places.
            let pieces = text.split(BETWEEN).chain(text.split('/')).chain([text.as_str()]);
            texts.extend(pieces.map(|piece| piece.trim().to_string()));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| shown(item, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| shown(field, texts)),
        _ => {}
    }
}

/// What the bytes say, read without our own readers: records by their letters, fields by the separator behind it.
fn said(raw: &[u8], protocol: Protocol) -> Vec<(String, String)> {
    let text = match protocol {
        Protocol::Astm => String::from_utf8_lossy(&deframe(raw).text).into_owned(),
        _ => String::from_utf8_lossy(raw).into_owned(),
    };
    if protocol == Protocol::Poct1a {
        let attributes = [" V=\"", " U=\""];
        let values = attributes.iter().flat_map(|name| text.split(name).skip(1));
        return values.filter_map(|v| v.split('"').next()).map(|v| ("V".into(), v.into())).collect();
    }
    let mut separator = '|';
    let mut said = Vec::new();
    for line in text.split(['\r', '\n', '\u{b}', '\u{1c}']) {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '\u{feff}');
        let name = line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        if matches!(name, "H" | "MSH") {
            separator = line.chars().nth(name.len()).unwrap_or('|');
        }
        // Sequence numbers and delimiters say nothing; neither does the record type of the value (OBX-2).
        let skipped = if matches!(name, "MSH" | "H") { 2 } else { 1 };
        let known = ["H", "P", "O", "R", "C", "M", "Q", "MSH", "PID", "PV1", "ORC", "OBR", "OBX", "NTE", "SPM", "SAC"];
        if !known.contains(&name) {
            continue;
        }
        for (n, field) in line.split(separator).enumerate().skip(1 + skipped) {
            // An escape is decoded, a byte beyond ASCII read in a character set; both have tests of their own.
            let hl7 = protocol == Protocol::Hl7;
            let plain = |c: &&str| {
                let escaped = c.contains('\0') || (!hl7 && c.contains('&'));
                c.is_ascii() && !c.trim().is_empty() && !escaped
            };
            let parts = field.split(|c| matches!(c, '^' | '\\' | '~' | '@') || (hl7 && c == '&')).filter(plain);
            said.extend(parts.map(|part| (format!("{name} field {n}"), part.trim().to_string())));
        }
    }
    said
}

#[test]
fn i7_preview_shows_every_field_of_every_capture_with_the_generic_driver() {
    let (mut all, mut files) = (0, 0);
    let mut missing = Vec::new();
    for (name, raw) in captures() {
        let protocol = guess_protocol(&raw);
        let said = said(&raw, protocol);
        if said.is_empty() {
            continue;
        }
        let driver = match protocol {
            Protocol::Hl7 => builtin::GENERIC_HL7,
            Protocol::Poct1a => builtin::GENERIC_POCT1A,
            _ => builtin::GENERIC_ASTM,
        };
        let mut texts = BTreeSet::new();
        shown(&preview(&raw, driver), &mut texts);
        files += 1;
        all += said.len();
        for (place, text) in said {
            let time = text.replace(['-', ':', 'T'], "");
            // A document's times are shown without their marks.
            let shortened = |t: &String| t.len() >= 8 && time.starts_with(t.as_str());
            let shown = texts.contains(&text) || (protocol == Protocol::Poct1a && texts.iter().any(shortened));
            if !shown {
                missing.push(format!("{name}: {place}: {text}"));
            }
        }
    }
    eprintln!("{files} captures, {all} texts, {} not shown", missing.len());
    missing.truncate(40);
    assert!(missing.is_empty(), "not shown:\n{}", missing.join("\n"));
    assert!(files == 0 || all > 3000, "only {all} texts were looked for");
}
