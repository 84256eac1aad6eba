//! What of the fleet outlives a factory reset: how often the box was started, and when it was reset. Whoever looks after
//! it goes on telling what it says now from what was said before, and nothing that was signed before counts afterwards.

use super::store::Store;
use crate::clock::{Clock, Quality};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in the data directory; [`crate::reset`] puts it there.
pub const FILE: &str = "last-reset";

/// See the module docs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlives {
    /// Starts before the reset.
    epoch: u64,
    /// When it was, by a clock that could be trusted; in milliseconds since 1970.
    reset_ms: Option<i64>,
}

impl Outlives {
    /// What is to outlive a reset now.
    pub fn now(data: &Path, clock: &Clock) -> Outlives {
        let before = Outlives::read(data);
        let epoch = Store::peek(data).and_then(|store| store.epoch().ok()).unwrap_or_default();
        let (now, quality) = clock.now();
        let reset_ms = (quality == Quality::Trusted).then(|| now.as_millisecond());
        Outlives { epoch: epoch.max(before.epoch), reset_ms: reset_ms.max(before.reset_ms) }
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
}
