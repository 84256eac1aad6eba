//! What a box says of its releases. Of the same kinds of fields as everything in [`super`].

use super::{Digest, Word};
use crate::update::record::{Record, Version};
use serde::{Serialize, Serializer};

/// A release of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release(Version);

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Where an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpdateFacts {
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// The release that ran when it began.
    pub from: Release,
    /// The release it brings.
    pub to: Release,
    /// SHA-256 of the operating system's bundle that it brings, which `update-install` has to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<Digest>,
    /// Its phase, a word of [`crate::update::record::Phase`].
    pub phase: Word,
    /// How often the new release was started on trial.
    pub starts: u32,
    /// Why it was given up or taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Word>,
}

impl UpdateFacts {
    /// What the record of an update says.
    pub fn of(record: &Record) -> UpdateFacts {
        UpdateFacts {
            manifest: digest(&record.manifest),
            from: Release(record.from),
            to: Release(record.version),
            system: record.system.as_ref().map(|system| digest(&system.sha256)),
            phase: Word::new(record.phase.word()),
            starts: record.starts,
            reason: record.reason.map(|reason| Word::new(reason.word())),
        }
    }
}

/// Of the digits that the record has.
fn digest(digits: &str) -> Digest {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2);
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
    }
    Digest::stored(bytes)
}

/// What a box that updates itself says of its releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpdateReport {
    /// The release that runs.
    pub release: Release,
    /// The last update; none when there was none.
    pub update: Option<UpdateFacts>,
}

impl UpdateReport {
    /// The release that runs, and where the last update stands.
    pub fn new(release: Version, last: Option<&Record>) -> UpdateReport {
        UpdateReport { release: Release(release), update: last.map(UpdateFacts::of) }
    }
}
