//! The record of what was asked of boxes and by whom: one JSON object a line, each with the digest of the line before it,
//! so that one that is changed or taken out later shows, unless it is the last.

use crate::wire::hex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "audit.jsonl";

/// Adds a line.
///
/// # Errors
/// When the file cannot be read or written; nothing may be asked then.
pub fn note(folder: &Path, what: &Value) -> std::io::Result<()> {
    let file = folder.join(FILE);
    let mut open = std::fs::OpenOptions::new().create(true).append(true).read(true).open(&file)?;
    // Two desks in one folder write one after the other.
    open.lock()?;
    let mut before = String::new();
    open.read_to_string(&mut before)?;
    let line = json!({ "after": link_of(before.lines().next_back()), "what": what });
    // What a power cut left of a line is a line that does not follow.
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    open.write_all(format!("{gap}{line}\n").as_bytes())?;
    open.sync_data()
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
    fn a_line_that_is_changed_or_taken_out_shows() {
        let dir = tempfile::tempdir().unwrap();
        for n in 1..=5 {
            note(dir.path(), &json!({ "n": n })).unwrap();
        }
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!((text.lines().count(), first_broken(&text)), (5, None));
        assert_eq!(first_broken(&text.replace("\"n\":2", "\"n\":9")), Some(3));
        let without: Vec<&str> = text.lines().filter(|line| !line.contains("\"n\":3")).collect();
        assert_eq!(first_broken(&without.join("\n")), Some(3));
    }
}
