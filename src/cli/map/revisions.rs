//! Revisions of a site's driver: each accepted mapping makes one, and any of them can be the driver again.
//!
//! `revisions.jsonl` in the driver's folder is only ever added to: number, time, what was decided, the version it made
//! and the one it was made from. `revisions/<number>.toml` is the driver as it was then. The version is what stands
//! behind the `@` on every filed entry, so each report tells the revision it was read by.

use crate::driver::Driver;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const LIST: &str = "revisions.jsonl";
const FOLDER: &str = "revisions";

/// One revision of one driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    /// Counts from 1 in each driver.
    pub number: u32,
    /// When it was made, RFC 3339.
    pub made: jiff::Timestamp,
    /// What was decided.
    pub what: String,
    /// The version it made: what stands behind the `@` on filed entries.
    pub version: String,
    /// The version it was made from; none for what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The revisions of the driver in this folder, the first first.
pub(super) fn list(folder: &Path) -> anyhow::Result<Vec<Revision>> {
    let file = folder.join(LIST);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    // A line that a power cut left unfinished was never followed by the driver it speaks of.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The driver as it was in this revision.
pub(super) fn text_of(folder: &Path, number: u32) -> anyhow::Result<String> {
    let file = text_file(folder, number);
    std::fs::read_to_string(&file)
        .with_context(|| format!("there is no revision {number}: cannot read {}", file.display()))
}

/// Notes that `after` takes the place of `before`, which is noted too when nobody did before; gives the new number.
pub(super) fn note(folder: &Path, id: &str, before: &str, after: &str, what: &str) -> anyhow::Result<u32> {
    let version = |text: &str| Driver::parse(id, text).map(|driver| driver.version);
    let known = list(folder)?;
    let last = known.last();
    let mut number = last.map_or(0, |revision| revision.number);
    let from = version(before).ok();
    if let Some(found) = from.clone().filter(|found| last.is_none_or(|revision| revision.version != *found)) {
        number += 1;
        let what = "as it was found".to_string();
        add(folder, before, &Revision { number, made: jiff::Timestamp::now(), what, version: found, from: None })?;
    }
    number += 1;
    let (made, version) = (jiff::Timestamp::now(), version(after)?);
    add(folder, after, &Revision { number, made, what: what.to_string(), version, from })?;
    Ok(number)
}

fn add(folder: &Path, text: &str, revision: &Revision) -> anyhow::Result<()> {
    let file = text_file(folder, revision.number);
    let list = folder.join(LIST);
    std::fs::create_dir_all(folder.join(FOLDER))
        .with_context(|| format!("cannot make {}", folder.join(FOLDER).display()))?;
    super::write(&file, text)?;
    let failed = || format!("cannot write {}", list.display());
    let mut open = std::fs::File::options().append(true).create(true).open(&list).with_context(failed)?;
    let line = format!("{}\n", serde_json::to_string(revision)?);
    open.write_all(line.as_bytes()).and_then(|()| open.sync_all()).with_context(failed)
}

fn text_file(folder: &Path, number: u32) -> PathBuf {
    folder.join(FOLDER).join(format!("{number:04}.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"astm\"\nheader = [\"One\"]\n";

    #[test]
    fn every_revision_can_be_had_again_and_what_was_edited_by_hand_too() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let with = |note: &str| format!("{DRIVER}# {note}\n");
        assert_eq!(note(folder, "one", DRIVER, &with("a"), "K is 2823-3").unwrap(), 2);
        assert_eq!(note(folder, "one", &with("a"), &with("b"), "NA is 2951-2").unwrap(), 3);
        assert_eq!(note(folder, "one", &with("by hand"), &with("c"), "CL is 2075-0").unwrap(), 5);
        let all = list(folder).unwrap();
        let whats: Vec<&str> = all.iter().map(|revision| revision.what.as_str()).collect();
        assert_eq!(whats, ["as it was found", "K is 2823-3", "NA is 2951-2", "as it was found", "CL is 2075-0"]);
        assert_eq!(all[1].from.as_deref(), Some(all[0].version.as_str()));
        assert_eq!(text_of(folder, 4).unwrap(), with("by hand"));
        assert!(text_of(folder, 6).is_err());
        std::fs::write(folder.join(LIST), "{\"number\":1").unwrap();
        assert_eq!(list(folder).unwrap(), [], "a line that was cut off");
    }
}
