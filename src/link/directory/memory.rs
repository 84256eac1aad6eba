//! What a link remembers of files that stay in their folder: those it has taken and left there, and how far it has read
//! those that grow.
//!
//! It is kept beside the journal, under the digest of each name, since instruments put patients into names (invariant I8).
//! What is lost of it costs nothing as long as the journal still has the entries: the same bytes are offered to it again, and
//! it knows them (invariant I4). It has to outlive them, which it does: nothing is forgotten but files that are gone.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder inside the data directory.
const FOLDER: &str = "folders";
/// Largest memory read back, in bytes.
const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// Its size when it was last looked at, in bytes.
    pub size: u64,
    /// When it was last changed then, seconds and nanoseconds.
    pub changed: (i64, i64),
    /// Digest of the top lines of a file that grows: another file under its name has others.
    pub top: String,
    /// How far a file that grows is in the journal, in bytes.
    pub read: u64,
    /// Where the piece ends that the journal was asked to keep; without it, it has answered. Asked again after a crash, the
    /// piece has to be the same one.
    pub asked: Option<u64>,
}

pub(super) struct Memory {
    file: PathBuf,
    known: BTreeMap<String, Known>,
    changed: bool,
}

impl Memory {
    /// The memory of a link, in the data directory.
    pub fn open(data: &Path, link: &str) -> Memory {
        let file = data.join(FOLDER).join(format!("{link}.json"));
        let known = read(&file).unwrap_or_default();
        Memory { file, known, changed: false }
    }

    /// What is known of a file.
    pub fn of(&self, name: &OsStr) -> Option<&Known> {
        self.known.get(&key(name))
    }

    /// Remembers a file.
    pub fn note(&mut self, name: &OsStr, known: Known) {
        let before = self.known.insert(key(name), known);
        self.changed |= before.as_ref() != self.of(name);
    }

    /// Forgets every file that is not among these.
    pub fn keep<'n>(&mut self, names: impl ExactSizeIterator<Item = &'n std::ffi::OsString>) {
        if self.known.len() > names.len() {
            let there: HashSet<String> = names.map(|name| key(name)).collect();
            self.known.retain(|name, _| there.contains(name));
            self.changed = true;
        }
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// It cannot be written; it is tried again the next time.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
        let new = self.file.with_extension("json.new");
        let mut written = File::create(&new)?;
        written.write_all(&serde_json::to_vec(&self.known)?)?;
        written.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        self.changed = false;
        Ok(())
    }
}

fn key(name: &OsStr) -> String {
    hex(digest(&SHA256, name.as_encoded_bytes()).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One that cannot be read is begun anew: the journal knows what it has.
fn read(file: &Path) -> Option<BTreeMap<String, Known>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(SIZE_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_i8_names_are_not() {
        let data = tempfile::tempdir().unwrap();
        let (doe, roe) = (OsString::from("DOE_JANE.csv"), OsString::from("ROE.csv"));
        let known = |size| Known { size, asked: Some(size), ..Known::default() };
        let mut memory = Memory::open(data.path(), "pcr");
        memory.note(&doe, known(1));
        memory.note(&roe, known(2));
        memory.save().unwrap();
        let mut again = Memory::open(data.path(), "pcr");
        assert_eq!((again.of(&doe), again.of(&roe)), (Some(&known(1)), Some(&known(2))));
        let text = std::fs::read_to_string(data.path().join("folders/pcr.json")).unwrap();
        assert!(!text.contains("DOE"), "{text}");
        again.keep([roe.clone()].iter());
        again.save().unwrap();
        assert_eq!(Memory::open(data.path(), "pcr").of(&doe), None);
        std::fs::write(data.path().join("folders/pcr.json"), "{").unwrap();
        assert_eq!(Memory::open(data.path(), "pcr").of(&roe), None, "what is broken is begun anew");
    }
}
