//! The record of what was asked of boxes and by whom: one JSON object a line, each with the digest of the line before
//! it, so that one that is changed or taken out later shows, unless it is the last.

use crate::wire::hex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "audit.jsonl";
/// Longest line, bytes: who, when, and a command or the digest of a document.
const LINE_MAX: u64 = 64 << 10;

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
    // What a power cut left of a line is a line that does not follow.
    let mut lines = if end.is_empty() || end.ends_with('\n') { String::new() } else { "\n".to_string() };
    let mut before = end.lines().next_back().map(str::to_owned);
    for what in all {
        let line = json!({ "after": link_of(before.as_deref()), "what": what }).to_string();
        lines.push_str(&line);
        lines.push('\n');
        before = Some(line);
    }
    open.write_all(lines.as_bytes())?;
    open.sync_data()
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
    for line in BufReader::new(file).lines() {
        // What a power cut left of a line says nothing.
        let line: Value = serde_json::from_str(&line?).unwrap_or_default();
        let config = &line["what"]["config"];
        if let (Some(gateway), Some(rev)) = (config["gateway"].as_str(), config["rev"].as_u64()) {
            let known = last.entry(gateway.to_string()).or_default();
            *known = rev.max(*known);
        }
    }
    Ok(last)
}

/// As much of the end of a file as holds its last line.
fn end_of(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LINE_MAX)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// The number of the first line that does not follow from the one before it; none when all do.
pub fn first_broken(text: &str) -> Option<usize> {
    let mut before = None;
    for (index, line) in text.lines().enumerate() {
        let after = serde_json::from_str::<Value>(line).ok().map(|line| line["after"].clone());
        if after != Some(Value::String(link_of(before))) {
            return Some(index + 1);
        }
        before = Some(line);
    }
    None
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
        assert_eq!((text.lines().count(), first_broken(&text)), (5, None));
        assert_eq!(first_broken(&text.replace("\"n\":2", "\"n\":9")), Some(3));
        let without: Vec<&str> = text.lines().filter(|line| !line.contains("\"n\":3")).collect();
        assert_eq!(first_broken(&without.join("\n")), Some(3));
    }
}
