//! What a box says of its releases. Of the same kinds of fields as everything in [`super`].

use super::Word;
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
    /// The release that ran when it began.
    pub from: Release,
    /// The release it brings.
    pub to: Release,
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
            from: Release(record.from),
            to: Release(record.version),
            phase: Word::new(record.phase.word()),
            starts: record.starts,
            reason: record.reason.map(|reason| Word::new(reason.word())),
        }
    }
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
