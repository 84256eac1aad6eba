//! Factory reset: nothing is left of what a box came to know, and it starts as new.
//!
//! It throws data away for good, so it is refused while anything is here that went nowhere yet ([`Undelivered`]), unless
//! whoever asks names exactly how much that is. Where that is asked from afar, nothing may have come in either since the box
//! said that it will.
//!
//! ```text
//! journal locked, recovered, counted -> the intent is on disk (no way back) -> keys -> the rest -> the intent is history
//! ```
//!
//! The journal stays locked from the count to the intent, so what is counted is what is there. A process that dies behind
//! the intent leaves a box that is not used: the gateway's next start goes on with it before anything else ([`finish`]).
//! The journal's key goes first, as what is sealed with it is worth nothing afterwards. On flash memory its bytes may
//! stay where nobody can read them without taking the memory apart.
//!
//! What stays is when that was and how often the box had started ([`outlives`]), so that no command of before counts
//! afterwards.
//!
//! Only names that this program makes are erased, never a whole directory: somebody may have put other things there.
//! What lies elsewhere is not ours to erase: the box's own configuration file and what it names.

use crate::clock::Clock;
use crate::config::Config;
use crate::fleet::outlives::{self, Outlives};
use crate::journal::{self, Journal, JournalError, OpenError, Undelivered, crash};
use crate::service::Pulse;
use crate::update::{self, slots};
use crate::{access, audit, clock, console, control, disk, fleet, interpreter, link, orders, page, watch};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// The intent, in the data directory. In the end it becomes what outlives a reset ([`outlives`]).
const INTENT: &str = "factory-reset";
/// What is erased, in this order: each room says which names it makes in the data directory.
pub(crate) const NAMES: [&[&str]; 17] = [
    journal::KEY_NAMES,
    fleet::identity::folder::NAMES,
    fleet::captures::NAMES,
    fleet::desired::tree::NAMES,
    fleet::store::NAMES,
    access::NAMES,
    console::NAMES,
    page::NAMES,
    journal::NAMES,
    link::directory::memory::NAMES,
    orders::feed::cursor::NAMES,
    interpreter::register::NAMES,
    watch::station::NAMES,
    clock::NAMES,
    control::NAMES,
    update::gate::NAMES,
    audit::NAMES,
];

/// What whoever asks knows to be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// So much as is here.
    Number(u64),
    /// What was found here before, in number, and nothing that came in since.
    Found(Undelivered),
}

impl Consent {
    fn is_for(self, found: &Undelivered) -> bool {
        match self {
            Consent::Number(number) => found.total() == number,
            Consent::Found(then) => (found.total(), found.newest) == (then.total(), then.newest),
        }
    }
}

/// Why there is no reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The journal cannot be opened, or a gateway runs on it: nothing was done.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal cannot be read: nothing was done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is here that went nowhere yet, and it was not said how much: nothing was done.
    #[error("{found} went nowhere yet; to throw that away, say exactly how much it is")]
    Undelivered {
        /// What.
        found: Undelivered,
    },
    /// A release is on trial: nothing was done.
    #[error(
        "a release is on trial, and the journal may have to be put back; wait for its end (`afferent update status`)"
    )]
    OnTrial,
    /// The disk refuses. Behind the intent the next start goes on.
    #[error("{what}: {source}")]
    Disk {
        /// The file.
        what: String,
        /// What the system said.
        source: Error,
    },
}

/// Counts what is here, and makes sure that it will be erased: from here there is no way back. No gateway may run.
/// `consent` says what may be thrown away that went nowhere yet;
/// `progress` beats as the journal is recovered.
///
/// # Errors
/// [`ResetError`]: nothing was done.
pub fn begin(config: &Config, consent: Consent, progress: &Pulse) -> Result<Undelivered, ResetError> {
    let data = &config.gateway.data;
    if update::is_on_trial(config) {
        return Err(ResetError::OnTrial);
    }
    let journal = Journal::open_with(data, &config.journal, progress)?;
    let begun = count(&journal, consent).and_then(|found| {
        crash::point("reset-counted");
        let intent = data.join(INTENT);
        let kept = Outlives::now(data, &Clock::open(data, config.gateway.clock_trusted));
        disk::replace_secret(&intent, &kept.bytes()).map_err(|source| at(&intent, source))?;
        crash::point("reset-begun");
        Ok(found)
    });
    journal.close();
    begun
}

fn count(journal: &Journal, consent: Consent) -> Result<Undelivered, ResetError> {
    let found = journal.reader()?.undelivered()?;
    if consent.is_for(&found) { Ok(found) } else { Err(ResetError::Undelivered { found }) }
}

/// True behind the point of no return.
pub fn is_begun(data: &Path) -> bool {
    data.join(INTENT).exists()
}

/// Goes on with a reset that was begun, if one was, to its end. Says whether there was one.
///
/// # Errors
/// [`ResetError::Open`] while a gateway runs; [`ResetError::Disk`], then it is still begun.
pub fn finish(config: &Config) -> Result<bool, ResetError> {
    let data = &config.gateway.data;
    if !is_begun(data) {
        return Ok(false);
    }
    let _lock = journal::lock(data)?;
    erase_all(data).map_err(|(path, source)| at(&path, source))?;
    // The copies that the trial of a release keeps are of what is erased.
    if let Some(settings) = &config.update {
        slots::forget_before(&settings.releases).map_err(|source| at(&settings.releases, source))?;
    }
    disk::sync_folder(&data.join(INTENT)).map_err(|source| at(data, source))?;
    crash::point("reset-synced");
    let (intent, outlives) = (data.join(INTENT), data.join(outlives::FILE));
    let ended = std::fs::rename(&intent, &outlives).and_then(|()| disk::sync_folder(&intent));
    ended.map_err(|source| at(&intent, source))?;
    crash::point("reset-ended");
    tracing::warn!(event = "reset", "this box was reset: it knows nothing of before");
    Ok(true)
}

/// Erases everything that this program makes in a data directory, but for what outlives a reset.
pub(crate) fn erase_all(data: &Path) -> Result<(), (PathBuf, Error)> {
    // Whoever changes accounts now would write once more what is erased.
    let _held = access::hold_still(data);
    for name in NAMES.into_iter().flatten() {
        let path = data.join(name);
        let erased = erase(&path).and_then(|()| erase(&disk::unfinished(&path)));
        erased.map_err(|source| (path, source))?;
        crash::point("reset-erased");
    }
    Ok(())
}

/// A file or a folder, and never what a link points to.
fn erase(path: &Path) -> std::io::Result<()> {
    let erased = match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match erased {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: Error) -> ResetError {
    ResetError::Disk { what: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_who_consented_to_what_was_here_did_not_to_what_came_in_since() {
        let then = Undelivered { queued: 3, newest: 7, ..Undelivered::default() };
        let read = Undelivered { queued: 2, held: 1, ..then };
        let another = Undelivered { newest: 8, ..then };
        let more = Undelivered { queued: 4, ..then };
        let is_for = |consent: Consent| [then, read, another, more].map(|found| consent.is_for(&found));
        assert_eq!(is_for(Consent::Number(3)), [true, true, true, false], "whoever stands before it sees what it is");
        assert_eq!(is_for(Consent::Found(then)), [true, true, false, false]);
    }
}
