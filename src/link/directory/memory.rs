//! What a link remembers of files that stay in their folder: those it has taken and left there, and how far it has read
//! those that grow.
//!
//! It is kept beside the journal, under the digest of each name, since instruments put patients into names (invariant I8).
//! Files that grow rest on it alone: without it they are read from the top again, in other pieces than the journal knows,
//! and every result comes twice. The same goes for files left in place that are older than the journal's entries. Therefore
//! it is on the disk before anything rests on it, one that cannot be read stops the link, and a file that is gone is
//! remembered for more than a year: a share that is not mounted looks like an empty folder.

use crate::{disk, wire::hex};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The folder inside the data directory.
const FOLDER: &str = "folders";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FOLDER];
/// Largest memory read back, in bytes: more than [`KNOWN_MAX`] files need.
const SIZE_MAX: u64 = 64 * 1024 * 1024;
/// Files remembered of one folder; with more, those that have been gone longest are forgotten.
const KNOWN_MAX: usize = 100_000;
/// How long a file that is gone is remembered, in seconds: 400 days.
const GONE_FOR_S: i64 = 400 * 24 * 60 * 60;
/// Files that are gone in which one is looked for again.
const FOUND_AMONG: usize = 1_000;

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// Its size when it was last looked at, in bytes.
    pub size: u64,
    /// When it was last changed then, seconds and nanoseconds.
    pub changed: (i64, i64),
    /// Digest of the top lines of a file that grows: another file under its name has others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub top: String,
    /// Digest of the last bytes before `read`: a file that has others there is another one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tail: String,
    /// Key of the name under which a file that grows was begun: it stays when the file is renamed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub begun_as: String,
    /// How far a file that grows is in the journal, in bytes.
    pub read: u64,
    /// Where the piece ends that the journal was asked to keep; without it, it has answered. Asked again after a crash, the
    /// piece has to be the same one.
    pub asked: Option<u64>,
    /// Since when the folder has no file of this name, Unix seconds.
    pub gone_since_s: Option<i64>,
}

pub(super) struct Memory {
    file: PathBuf,
    known: BTreeMap<String, Known>,
    /// Those known that the listing under way has had.
    there: HashSet<String>,
    /// The listing under way has had any name at all.
    any: bool,
    changed: bool,
}

impl Memory {
    /// The memory of a link, in the data directory; an empty one when there is none yet.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub fn open(data: &Path, link: &str) -> io::Result<Memory> {
        let folder = data.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        File::open(data)?.sync_all()?;
        let file = folder.join(format!("{link}.json"));
        let known = match read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            known => known.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?,
        };
        Ok(Memory { file, known, there: HashSet::new(), any: false, changed: false })
    }

    /// What is known of a file.
    pub fn of(&self, name: &OsStr) -> Option<&Known> {
        self.known.get(&key(name))
    }

    /// False when one file more cannot be remembered.
    pub fn has_room(&self) -> bool {
        self.known.len() < KNOWN_MAX
    }

    /// Remembers a file.
    pub fn note(&mut self, name: &OsStr, known: Known) {
        let key = key(name);
        self.there.insert(key.clone());
        let before = self.known.insert(key, known);
        self.changed |= before.as_ref() != self.of(name);
    }

    /// Another file is under this name now; what is known of the one before is kept, as of one that is gone.
    pub fn set_aside(&mut self, name: &OsStr, now_s: i64) {
        let key = key(name);
        if let Some(known) = self.known.remove(&key) {
            self.known.insert(format!("{key}-{}", known.tail), Known { gone_since_s: Some(now_s), ..known });
            self.changed = true;
        }
    }

    /// Files with these top lines that are gone, the last to go first.
    pub fn gone(&self, top: &str) -> Vec<Known> {
        let is_gone = |known: &&Known| known.gone_since_s.is_some() && known.top == top;
        let mut gone: Vec<Known> = self.known.values().filter(is_gone).cloned().collect();
        gone.sort_by_key(|known| std::cmp::Reverse(known.gone_since_s));
        gone.truncate(FOUND_AMONG);
        gone
    }

    /// A listing of the folder begins.
    pub fn list(&mut self) {
        self.there.clear();
        self.any = false;
    }

    /// The listing has this name.
    pub fn listed(&mut self, name: &OsStr) {
        self.any = true;
        let key = key(name);
        if self.known.contains_key(&key) {
            self.there.insert(key);
        }
    }

    /// The listing was complete: notes what is gone and forgets what has long been. An empty one says nothing, since that
    /// is what a share looks like that is not mounted. True when files had to be forgotten to make room.
    pub fn end_listing(&mut self, now_s: i64) -> bool {
        self.any && self.keep(now_s, KNOWN_MAX)
    }

    fn keep(&mut self, now_s: i64, most: usize) -> bool {
        for (key, known) in &mut self.known {
            let gone = (!self.there.contains(key)).then(|| known.gone_since_s.unwrap_or(now_s));
            self.changed |= gone != known.gone_since_s;
            known.gone_since_s = gone;
        }
        let before = self.known.len();
        self.known.retain(|_, known| known.gone_since_s.is_none_or(|since| now_s.saturating_sub(since) < GONE_FOR_S));
        let is_full = self.known.len() >= most;
        if is_full {
            let since = |(key, known): (&String, &Known)| known.gone_since_s.map(|since| (since, key.clone()));
            let mut gone: Vec<(i64, String)> = self.known.iter().filter_map(since).collect();
            gone.sort();
            // A little more than needed, so that it is not done again for each file.
            for (_, key) in gone.into_iter().take(self.known.len() - most + most / 100 + 1) {
                self.known.remove(&key);
            }
        }
        self.changed |= self.known.len() != before;
        is_full
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// It cannot be written; it is tried again the next time.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        disk::replace(&self.file, &serde_json::to_vec(&self.known)?)?;
        self.changed = false;
        Ok(())
    }
}

/// Under what a name is known.
pub(super) fn key(name: &OsStr) -> String {
    digest_of(name.as_encoded_bytes())
}

/// SHA-256, in hexadecimal digits.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex::digits(digest(&SHA256, bytes).as_ref())
}

fn read(file: &Path) -> io::Result<BTreeMap<String, Known>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(file)?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn open(data: &Path) -> Memory {
        Memory::open(data, "pcr").unwrap()
    }

    fn list(memory: &mut Memory, names: &[&str], now_s: i64, most: usize) -> bool {
        memory.list();
        names.iter().for_each(|name| memory.listed(OsStr::new(name)));
        memory.any && memory.keep(now_s, most)
    }

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_i8_names_are_not() {
        let data = tempfile::tempdir().unwrap();
        let (doe, roe) = (OsString::from("DOE_JANE.csv"), OsString::from("ROE.csv"));
        let known = |size| Known { size, asked: Some(size), ..Known::default() };
        let mut memory = open(data.path());
        memory.note(&doe, known(1));
        memory.note(&roe, known(2));
        memory.save().unwrap();
        let again = open(data.path());
        assert_eq!((again.of(&doe), again.of(&roe)), (Some(&known(1)), Some(&known(2))));
        let text = std::fs::read_to_string(data.path().join("folders/pcr.json")).unwrap();
        assert!(!text.contains("DOE"), "{text}");
        std::fs::write(data.path().join("folders/pcr.json"), "{").unwrap();
        let broken = Memory::open(data.path(), "pcr").err().unwrap().to_string();
        assert!(broken.contains("pcr.json"), "one that is broken is not begun anew: {broken}");
    }

    #[test]
    fn an_empty_listing_forgets_nothing_and_a_file_that_is_gone_is_known_for_400_days() {
        let data = tempfile::tempdir().unwrap();
        let mut memory = open(data.path());
        memory.note(OsStr::new("a"), Known::default());
        memory.note(OsStr::new("b"), Known::default());
        let gone = |memory: &Memory, name| memory.of(OsStr::new(name)).map(|known| known.gone_since_s);
        list(&mut memory, &[], 5, 10);
        assert_eq!((gone(&memory, "a"), gone(&memory, "b")), (Some(None), Some(None)));
        list(&mut memory, &["b"], 10, 10);
        list(&mut memory, &["b", "c"], 10 + GONE_FOR_S - 1, 10);
        assert_eq!((gone(&memory, "a"), gone(&memory, "b")), (Some(Some(10)), Some(None)));
        list(&mut memory, &["a", "b"], 20, 10);
        assert_eq!(gone(&memory, "a"), Some(None), "it is there again");
        list(&mut memory, &["b"], 30, 10);
        list(&mut memory, &["b"], 30 + GONE_FOR_S, 10);
        assert_eq!((gone(&memory, "a"), gone(&memory, "b")), (None, Some(None)));
        list(&mut memory, &[], 2 * GONE_FOR_S, 10);
        assert_eq!(gone(&memory, "b"), Some(None));
    }

    #[test]
    fn with_no_room_those_gone_longest_are_forgotten_and_never_one_that_is_there() {
        let data = tempfile::tempdir().unwrap();
        let mut memory = open(data.path());
        let names = ["a", "b", "c", "d"];
        names.iter().for_each(|name| memory.note(OsStr::new(name), Known::default()));
        assert!(!list(&mut memory, &["a", "c", "d"], 1, 5));
        assert!(!list(&mut memory, &["a", "d"], 2, 5));
        let known = |memory: &Memory| names.map(|name| memory.of(OsStr::new(name)).is_some());
        assert!(list(&mut memory, &["a", "d"], 3, 4), "it says so");
        assert_eq!(known(&memory), [true, false, true, true]);
        assert!(list(&mut memory, &["a", "d"], 4, 1));
        assert_eq!(known(&memory), [true, false, false, true]);
    }
}
