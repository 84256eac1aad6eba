//! The record of what was asked of boxes and by whom, a chain of lines ([`crate::audit::chain`]). What a box answered
//! stands there in short. A name (`by`) is what whoever asked says it is.

use super::order::plain;
use crate::audit::chain::{Chain, digest_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "audit.jsonl";
/// What a box answered is noted as it came up to this length, bytes; of what is longer, its digest.
const ANSWER_MAX: usize = 4 << 10;
/// Most characters of each word of an answer that is noted in short.
const WORD_MAX: usize = 256;

/// The record beside `desk.toml`, which only grows.
pub fn chain(folder: &Path) -> Chain {
    Chain::new(folder, "audit", None)
}

/// Adds a line.
///
/// # Errors
/// When the record cannot be read or written; nothing may be asked then.
pub fn note(folder: &Path, what: &Value) -> std::io::Result<()> {
    note_all(folder, std::slice::from_ref(what))
}

/// Adds lines, which share a sync of the disk.
///
/// # Errors
/// As [`note`].
pub fn note_all(folder: &Path, all: &[Value]) -> std::io::Result<()> {
    chain(folder).note(all)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

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
    fn what_a_box_answers_at_length_is_noted_in_short() {
        let long = json!({ "event": "command", "phase": "failed", "why": "\u{1b}x".repeat(70_000) });
        let short = in_short(&long);
        assert_eq!((&short["phase"], short["bytes"].as_u64()), (&json!("failed"), Some(long.to_string().len() as u64)));
        assert!(short.to_string().len() < ANSWER_MAX && in_short(&short) == short);
        assert!(!short["why"].as_str().unwrap().contains('\u{1b}'), "it steers no terminal");
    }
}
