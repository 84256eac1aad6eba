//! The record of what was asked of boxes and by whom: one JSON object a line, each with the digest of the line before
//! it, so that one that is changed or taken out later shows. What a box answered stands there in short.
//!
//! Each line has the user id of the process that wrote it (`uid`); a name (`by`) is what whoever asked says it is.
//!
//! What it cannot show: the digests have no key, so whoever may write the file can make all of it anew, or take away any
//! number of lines at its end. Against those, copy it to where they cannot write, as it grows.

use super::order::plain;
use crate::wire::hex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "audit.jsonl";
/// Longest line that is written, bytes: who, when, and a command or the digest of a document. Of a command that is longer,
/// such as the offer of a release with many roots, the texts that make it so stand there by their digests.
const LINE_MAX: usize = 64 << 10;
/// What a box answered is noted as it came up to this length, bytes; of what is longer, its digest. The same of each part
/// of a command that is too long.
const ANSWER_MAX: usize = 4 << 10;
/// Most characters of each word of an answer that is noted in short.
const WORD_MAX: usize = 256;

/// Adds a line.
///
/// # Errors
/// When the file cannot be read or written; nothing may be asked then.
pub fn note(folder: &Path, what: &Value) -> std::io::Result<()> {
    note_all(folder, std::slice::from_ref(what))
}

/// Adds lines, which share a sync of the disk.
///
/// # Errors
/// As [`note`].
pub fn note_all(folder: &Path, all: &[Value]) -> std::io::Result<()> {
    let file = folder.join(FILE);
    let mut open = std::fs::OpenOptions::new().create(true).append(true).read(true).open(&file)?;
    // Two desks in one folder write one after the other.
    open.lock()?;
    let end = end_of(&mut open)?;
    // What a power cut left of a line is ended, and stays.
    let mut lines = if end.is_empty() || end.ends_with('\n') { String::new() } else { "\n".to_string() };
    let mut before = end.lines().next_back().map(str::to_owned);
    // SAFETY: the call reads a number and nothing else.
    let uid = unsafe { libc::getuid() };
    for what in all {
        let line = |what: &Value| json!({ "after": link_of(before.as_deref()), "uid": uid, "what": what }).to_string();
        let whole = Some(line(what)).filter(|line| line.len() <= LINE_MAX);
        let fitting = || Some(line(&digested(what))).filter(|line| line.len() <= LINE_MAX);
        let line = whole.or_else(fitting).unwrap_or_else(|| line(&digest_of(what)));
        lines.push_str(&line);
        lines.push('\n');
        before = Some(line);
    }
    open.write_all(lines.as_bytes())?;
    open.sync_data()
}

/// What a box said, as it may be noted: a box may say more than a line holds, and then it is what became of what, how
/// long the whole was, and its digest.
pub fn in_short(said: &Value) -> Value {
    in_short_of(said, ANSWER_MAX)
}

/// The same for another length, bytes.
pub fn in_short_of(said: &Value, bytes_max: usize) -> Value {
    let text = said.to_string();
    if text.len() <= bytes_max {
        return said.clone();
    }
    let words = ["id", "event", "command", "op", "phase", "state", "why"];
    let word = |name: &str| {
        let word: String = plain(said[name].as_str()?).chars().take(WORD_MAX).collect();
        Some((name.to_string(), Value::String(word)))
    };
    let mut short: Value = words.into_iter().filter_map(word).collect();
    let Value::Object(of_all) = digest_of(said) else { return short };
    short.as_object_mut().into_iter().for_each(|short| short.extend(of_all.clone()));
    short
}

/// The same with its length and SHA-256 in the place of each part that is long.
fn digested(what: &Value) -> Value {
    match what {
        short if short.to_string().len() <= ANSWER_MAX => short.clone(),
        Value::Object(all) => all.iter().map(|(name, part)| (name.clone(), digested(part))).collect(),
        long => digest_of(long),
    }
}

/// How long something is, bytes, and its SHA-256: of a text itself, of anything else as JSON.
fn digest_of(what: &Value) -> Value {
    let text = what.as_str().map_or_else(|| what.to_string(), str::to_string);
    json!({ "bytes": text.len(), "sha256": hex::digits(digest(&SHA256, text.as_bytes()).as_ref()) })
}

/// The highest revision of a configuration that this desk sent to each box, by the box's name.
///
/// # Errors
/// When the file cannot be read.
pub fn last_revs(folder: &Path) -> std::io::Result<BTreeMap<String, u64>> {
    let file = match File::open(folder.join(FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        open => open?,
    };
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in BufReader::new(file).split(b'\n') {
        // What a power cut left of a line says nothing.
        let line: Value = serde_json::from_slice(&line?).unwrap_or_default();
        let config = &line["what"]["config"];
        if let (Some(gateway), Some(rev)) = (config["gateway"].as_str(), config["rev"].as_u64()) {
            let known = last.entry(gateway.to_string()).or_default();
            *known = rev.max(*known);
        }
    }
    Ok(last)
}

/// As much of the end of a file as holds its last line, however long that is.
fn end_of(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    let mut most = LINE_MAX as u64;
    loop {
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let line = end.strip_suffix(b"\n").unwrap_or(&end);
        if most >= length || line.contains(&b'\n') {
            return Ok(String::from_utf8_lossy(&end).into_owned());
        }
        most = most.saturating_mul(2);
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It does not follow from the one before: that or this one was changed, or one between them was taken out.
    DoesNotFollow,
    /// It is half a line, as a power cut leaves it.
    Torn,
}

/// Every line with which something is wrong, by its number from 1 on.
pub fn flaws(text: &str) -> Vec<(usize, Flaw)> {
    let (mut before, mut flaws) = (None, Vec::new());
    for (index, line) in text.lines().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Err(_) => flaws.push((index + 1, Flaw::Torn)),
            Ok(read) if read["after"] != link_of(before) => flaws.push((index + 1, Flaw::DoesNotFollow)),
            Ok(_) => {}
        }
        before = Some(line);
    }
    flaws
}

fn link_of(line: Option<&str>) -> String {
    let digest = digest(&SHA256, line.unwrap_or_default().as_bytes());
    hex::digits(digest.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_revision_of_a_box_is_the_highest_that_was_sent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(last_revs(dir.path()).unwrap().is_empty());
        let sent = |gateway: &str, rev: u64| json!({ "config": { "gateway": gateway, "rev": rev } });
        let all =
            [sent("bench-1", 3), sent("bench-2", 9), sent("bench-1", 2), json!({ "gateway": "bench-1", "rev": 7 })];
        note_all(dir.path(), &all).unwrap();
        std::fs::OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap().write_all(b"{\"aft").unwrap();
        let last = BTreeMap::from([("bench-1".to_string(), 3), ("bench-2".to_string(), 9)]);
        assert_eq!(last_revs(dir.path()).unwrap(), last);
    }

    #[test]
    fn a_line_that_is_changed_or_taken_out_shows() {
        let dir = tempfile::tempdir().unwrap();
        note_all(dir.path(), &[json!({ "n": 1 }), json!({ "n": 2 })]).unwrap();
        for n in 3..=5 {
            note(dir.path(), &json!({ "n": n })).unwrap();
        }
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!((text.lines().count(), flaws(&text)), (5, vec![]));
        let changed = text.replace("\"n\":2", "\"n\":9");
        assert_eq!(flaws(&changed), [(3, Flaw::DoesNotFollow)]);
        let without: Vec<&str> = changed.lines().filter(|line| !line.contains("\"n\":4")).collect();
        assert_eq!(flaws(&without.join("\n")), [(3, Flaw::DoesNotFollow), (4, Flaw::DoesNotFollow)]);
    }

    #[test]
    fn what_a_power_cut_left_of_a_line_is_torn_and_hides_nothing_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        note(dir.path(), &json!({ "n": 1 })).unwrap();
        // In the middle of a letter.
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"after\":\"\xc3").unwrap();
        note_all(dir.path(), &[json!({ "n": 2 }), json!({ "n": 3 })]).unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert_eq!(flaws(&text), [(2, Flaw::Torn)]);
        let changed = text.replace("\"n\":2", "\"n\":9");
        assert_eq!(flaws(&changed), [(2, Flaw::Torn), (4, Flaw::DoesNotFollow)]);
        assert!(last_revs(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_long_is_noted_by_its_digest_with_who_and_whom() {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, root) = ("m".repeat(100_000), "r".repeat(3_000));
        let command = json!({ "id": "c-1", "op": "update-offer", "gateway": "bench-1", "manifest": manifest,
                              "roots": vec![&root; 30] });
        let offer = json!({ "at": "2026-01-01T00:00:00Z", "signed_by": ["ops-1"], "command": command });
        let shapeless = json!((0..20_000).collect::<Vec<_>>());
        let many: Value = (0..20_000).map(|n| (n.to_string(), n.into())).collect::<serde_json::Map<_, _>>().into();
        note_all(dir.path(), &[json!({ "n": 1 }), offer, shapeless, many.clone(), json!({ "n": 2 })]).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(flaws(&text).is_empty() && text.lines().all(|line| line.len() <= LINE_MAX));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (offer, noted) = (&lines[1]["what"], &lines[1]["what"]["command"]);
        assert_eq!(
            (&offer["signed_by"][0], &noted["op"], &noted["gateway"]),
            (&json!("ops-1"), &json!("update-offer"), &json!("bench-1"))
        );
        // As `sha256sum` says of the file.
        let sha256 = hex::digits(digest(&SHA256, manifest.as_bytes()).as_ref());
        assert_eq!(noted["manifest"], json!({ "bytes": 100_000, "sha256": sha256 }));
        assert_eq!(noted["roots"]["bytes"], json!(vec![root; 30]).to_string().len());
        assert_eq!((lines[2]["what"]["bytes"].is_u64(), &lines[3]["what"]), (true, &digest_of(&many)));
    }

    #[test]
    fn a_box_that_answers_at_length_does_not_break_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let long = json!({ "event": "command", "phase": "failed", "why": "\u{1b}x".repeat(70_000) });
        let short = in_short(&long);
        assert_eq!((&short["phase"], short["bytes"].as_u64()), (&json!("failed"), Some(long.to_string().len() as u64)));
        assert!(short.to_string().len() < ANSWER_MAX && in_short(&short) == short);
        // A line of a desk that wrote them whole.
        let line = json!({ "after": link_of(None), "what": long }).to_string();
        std::fs::write(&file, line + "\n").unwrap();
        note_all(dir.path(), &[json!({ "answer": short }), json!({ "n": 1 })]).unwrap();
        assert_eq!(flaws(&std::fs::read_to_string(&file).unwrap()), []);
    }
}
