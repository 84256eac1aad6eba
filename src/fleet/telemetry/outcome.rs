//! What became of a command, of fields as all that is said has (invariant I8).

use super::{At, BundleFacts, Digest, Id, Name, Packed, Word};
use crate::journal::Undelivered;
use serde::Serialize;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum Outcome {
    /// What it says.
    Done,
    /// How the queues are.
    Queues {
        /// Results that wait for a person before they go anywhere.
        held: i64,
        /// By destination.
        queues: Vec<QueueFacts>,
    },
    /// It changed something in the journal.
    Changed {
        /// Items changed.
        done: u64,
        /// Items left as they were.
        skipped: u64,
    },
    /// What runs.
    Settings {
        /// The configuration, as it is understood.
        settings: Packed,
    },
    /// What the log says.
    Log {
        /// Its last lines, each a `LogFacts`.
        lines: Packed,
    },
    /// It told a bundle, part by part.
    Bundle {
        /// What it is.
        #[serde(flatten)]
        bundle: BundleFacts,
    },
    /// What passed on a link is kept on the box.
    Captured {
        /// What it is.
        #[serde(flatten)]
        capture: CaptureFacts,
    },
    /// The box will forget everything.
    Resets {
        /// What is thrown away that went nowhere yet.
        #[serde(flatten)]
        found: Undelivered,
    },
    /// It will not, because another number was named than went nowhere yet.
    Undelivered {
        /// How much that is.
        total: u64,
        /// What.
        #[serde(flatten)]
        found: Undelivered,
    },
    /// The release is not taken.
    NotTaken {
        /// Why: a word of [`crate::update::manifest::Refusal`].
        refusal: Word,
    },
    /// It could not.
    Failed {
        /// Why.
        failure: Failure,
    },
}

impl Outcome {
    /// True when it could not.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed { .. } | Outcome::NotTaken { .. } | Outcome::Undelivered { .. })
    }
}

/// A capture of a link that is kept on the box: nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CaptureFacts {
    /// Its name there.
    pub capture: Id,
    /// Its length.
    pub bytes: usize,
    /// SHA-256 of it.
    pub sha256: Digest,
    /// Runs of bytes that are not in it, because the line was faster.
    pub missed: u64,
    /// When it is deleted.
    pub expires: At,
}

/// The queue of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueFacts {
    /// Its name.
    pub destination: Name,
    /// Messages on the way.
    pub queued: i64,
    /// Messages that wait for a person.
    pub parked: i64,
}

/// Why a command could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The box has no destination of that name.
    NoSuchDestination,
    /// The journal refuses or fails.
    Journal,
    /// The machine refuses.
    System,
    /// No service manager would start the program anew.
    Unsupervised,
    /// A release is on trial, and the journal may have to be put back.
    OnTrial,
    /// The box was not reset: something came in after it had said that it would be, or its disk refuses. Its log says which.
    NotReset,
    /// The box does not ask for its certificate: somebody gave it.
    NotEnrolled,
    /// The box has no hardware of its own that its configuration names: nothing could be shown.
    NoBoard,
    /// It is more than can be told at once.
    TooLong,
    /// The box has no link of that name.
    NoSuchLink,
    /// There is no room, or there are as many as may be.
    NoRoom,
    /// Too many others do it already.
    Busy,
    /// The box is simulated, and has nothing that could be told or changed.
    Simulated,
    /// The bus does not take what it would tell, or nobody listens.
    Bus,
}
