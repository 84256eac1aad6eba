//! What of the fleet outlives a factory reset: how often the box was started, when it was reset, and which configuration it
//! had seen. Whoever looks after it goes on telling what it says now from what was said before, no command that was signed
//! before counts afterwards, and no configuration that had been replaced before: the latest may come again.

use super::desired::ledger;
use super::docket;
use super::store::Store;
use super::telemetry::Digest;
use crate::clock::{Clock, Quality};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in the data directory; [`crate::reset`] puts it there.
pub const FILE: &str = "last-reset";

/// Starts that a box is taken to have had since a backup: one each two seconds for three weeks.
const STARTS_SINCE: u64 = 1_000_000;

/// See the module docs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlives {
    /// Starts before the reset.
    epoch: u64,
    /// When it was, by a clock that could be trusted, and no earlier than from when on the last command counted; in
    /// milliseconds since 1970.
    reset_ms: Option<i64>,
    /// The highest revision of a configuration that was seen, and the digest of its document.
    #[serde(default)]
    seen: Option<(u64, [u8; 32])>,
}

impl Outlives {
    /// What is to outlive a reset now.
    pub fn now(data: &Path, clock: &Clock) -> Outlives {
        let (now, quality) = clock.now();
        // A clock that is wrong, and ahead, would refuse what is signed for years.
        Outlives::at(data, (quality == Quality::Trusted).then_some(now))
    }

    /// The same at this moment; none where nobody knows it.
    pub(crate) fn at(data: &Path, now: Option<Timestamp>) -> Outlives {
        let before = Outlives::read(data);
        let Some(mut store) = Store::peek(data) else { return before.later(now) };
        let epoch = store.epoch().unwrap_or_default();
        let newest = store.change(ledger::newest).ok().flatten().map(|entry| (entry.rev, *entry.digest.bytes()));
        // The desk's clock may be ahead of this one, and what it signed must not count twice.
        let latest = store.change(docket::latest).ok().flatten();
        let kept = Outlives { epoch: epoch.max(before.epoch), seen: newest.max(before.seen), ..before };
        kept.later(now.max(latest))
    }

    /// As a box goes on with it that takes the place of the one it was written down of, at this moment: it may have been
    /// started often since.
    pub fn taken_over(self, now: Option<Timestamp>) -> Outlives {
        Outlives { epoch: self.epoch.saturating_add(STARTS_SINCE), ..self.later(now) }
    }

    /// The later of two about one box.
    pub fn max(self, other: Outlives) -> Outlives {
        Outlives {
            epoch: self.epoch.max(other.epoch),
            reset_ms: self.reset_ms.max(other.reset_ms),
            seen: self.seen.max(other.seen),
        }
    }

    /// No earlier than at this moment.
    pub(crate) fn later(self, at: Option<Timestamp>) -> Outlives {
        // Up to its millisecond's end: commands are signed to the nanosecond.
        let at_ms = at.map(|at| at.as_millisecond().saturating_add(1));
        Outlives { reset_ms: at_ms.max(self.reset_ms), ..self }
    }

    /// As it is kept.
    pub fn bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// What outlived the last one; nothing where there was none.
    pub fn read(data: &Path) -> Outlives {
        std::fs::read(data.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Starts before the last reset.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// When the last one was, where that is known.
    pub fn reset(self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.reset_ms?).ok()
    }

    /// The highest revision of a configuration that was seen before, and the digest of its document.
    pub fn seen(self) -> Option<(u64, Digest)> {
        self.seen.map(|(rev, digest)| (rev, Digest::stored(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Quality;
    use crate::fleet::telemetry::{At, Stamp};

    #[test]
    fn the_highest_revision_outlives_two_resets() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"seven");
        let stamp = Stamp { at: At::of_ms(1), clock: Quality::Trusted };
        let mut store = Store::open(dir.path()).unwrap();
        store.change(|tx| ledger::offer(tx, 7, digest, b"seven", stamp)).unwrap();
        let kept = Outlives::at(dir.path(), None);
        assert_eq!((kept.seen(), kept.reset()), (Some((7, digest)), None));
        std::fs::write(dir.path().join(FILE), kept.bytes()).unwrap();
        store.change(|tx| tx.execute("DELETE FROM desired", [])).unwrap();
        assert_eq!(Outlives::at(dir.path(), None), kept, "nothing came in between");
        let old: Outlives = serde_json::from_slice(br#"{"epoch":7,"reset_ms":1}"#).unwrap();
        assert_eq!((old.epoch(), old.seen()), (7, None));
    }
}
