//! The machine's clock, and what it is worth. A box without a battery starts in the past, and TLS and expiry checks must
//! not take such a time for the truth; what comes in never waits for it.
//!
//! - **trusted**: a time server keeps it, as the kernel says; or a battery-backed clock set it, or the site vouches for
//!   it, and it is not earlier than what is known.
//! - **floor**: it is not earlier than what is known, and nobody keeps it.
//! - **unset**: it is earlier than what is known: than this program, or than a moment that this box has seen.
//!
//! The latest moment seen is kept beside the journal every few minutes. A time server or the site's word may set it back,
//! which is how a box that was once far in the future comes home.

use crate::disk;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// No right clock is earlier than this program: 2026-01-01, Unix milliseconds.
const PROGRAM_MS: i64 = 1_767_225_600_000;
/// The latest moment seen is written this often.
const KEPT_EVERY_MS: i64 = 10 * 60 * 1000;
/// Name of the file in the data directory.
const FILE: &str = "clock.json";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FILE];
/// `STA_UNSYNC`: the kernel's clock is not kept by anybody.
const UNSYNCHRONISED: libc::c_int = 0x0040;
/// There once systemd-timesyncd has set the clock.
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";
/// "1" where the kernel took its time from this clock when it started.
const BATTERY: &str = "/sys/class/rtc/rtc0/hctosys";

/// What a clock is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Right.
    Trusted,
    /// No earlier than it is known to be, and kept by nobody.
    Floor,
    /// Earlier than it is known to be.
    Unset,
}

/// What is known of a clock at one moment. Times are Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Evidence {
    now_ms: i64,
    /// A time server keeps it.
    is_synchronised: bool,
    /// A battery-backed clock set it.
    is_by_battery: bool,
    /// The site vouches for it.
    is_by_site: bool,
    /// The latest moment that is known to be over.
    floor_ms: i64,
}

fn judge(evidence: Evidence) -> Quality {
    match evidence {
        Evidence { is_synchronised: true, .. } => Quality::Trusted,
        Evidence { is_by_site: true, now_ms, .. } if now_ms >= PROGRAM_MS => Quality::Trusted,
        Evidence { now_ms, floor_ms, .. } if now_ms < floor_ms => Quality::Unset,
        Evidence { is_by_battery: true, .. } => Quality::Trusted,
        _ => Quality::Floor,
    }
}

/// The clock of this box. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    is_by_battery: bool,
    is_by_site: bool,
    floor_ms: AtomicI64,
    kept_ms: AtomicI64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    seen_ms: i64,
}

impl Clock {
    /// The clock, with what a data directory remembers of it. `is_by_site` is the site's word for it.
    pub fn open(data: &Path, is_by_site: bool) -> Clock {
        let file = data.join(FILE);
        let kept = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        let kept_ms = kept.map_or(0, |kept| kept.seen_ms);
        Clock(Arc::new(Inner {
            file,
            is_by_battery: std::fs::read_to_string(BATTERY).is_ok_and(|text| text.trim() == "1"),
            is_by_site,
            floor_ms: AtomicI64::new(kept_ms.max(PROGRAM_MS)),
            kept_ms: AtomicI64::new(kept_ms),
        }))
    }

    /// This moment, and what it is worth.
    pub fn now(&self) -> (Timestamp, Quality) {
        let now = Timestamp::now();
        (now, self.quality(now.as_millisecond(), is_synchronised()))
    }

    /// What the clock is worth now.
    pub fn is_trusted(&self) -> bool {
        self.now().1 == Quality::Trusted
    }

    fn quality(&self, now_ms: i64, is_synchronised: bool) -> Quality {
        let floor_ms = self.0.floor_ms.load(Ordering::Relaxed);
        let Inner { is_by_battery, is_by_site, .. } = *self.0;
        judge(Evidence { now_ms, is_synchronised, is_by_battery, is_by_site, floor_ms })
    }

    /// Keeps the latest moment seen. Called now and then; it writes a small file, and a failure means that the box knows
    /// less after its next start.
    pub fn keep(&self) {
        self.keep_at(Timestamp::now().as_millisecond(), is_synchronised());
    }

    fn keep_at(&self, now_ms: i64, is_synchronised: bool) {
        let quality = self.quality(now_ms, is_synchronised);
        let since_ms = now_ms - self.0.kept_ms.load(Ordering::Relaxed);
        let is_set_back = (is_synchronised || self.0.is_by_site) && since_ms < 0;
        if quality == Quality::Unset || (since_ms < KEPT_EVERY_MS && !is_set_back) {
            return;
        }
        self.0.floor_ms.store(now_ms.max(PROGRAM_MS), Ordering::Relaxed);
        self.0.kept_ms.store(now_ms, Ordering::Relaxed);
        let text = serde_json::to_vec(&Kept { seen_ms: now_ms }).unwrap_or_default();
        if let Err(error) = disk::note(&self.0.file, &text) {
            tracing::debug!("the latest moment seen is not written: {error}");
        }
    }
}

/// True while a time server keeps this machine's clock right, as far as the kernel knows.
pub fn is_synchronised() -> bool {
    // SAFETY: a zeroed timex asks for nothing to be changed; the call only fills it in.
    let by_kernel = unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut clock) >= 0 && clock.status & UNSYNCHRONISED == 0
    };
    // A service that may not set the clock may not be allowed to look either.
    by_kernel || Path::new(TIMESYNCD).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER_MS: i64 = PROGRAM_MS + 86_400_000;

    #[test]
    fn a_clock_is_worth_what_vouches_for_it() {
        let evidence = Evidence {
            now_ms: LATER_MS,
            is_synchronised: false,
            is_by_battery: false,
            is_by_site: false,
            floor_ms: PROGRAM_MS,
        };
        assert_eq!(judge(evidence), Quality::Floor);
        assert_eq!(judge(Evidence { is_by_battery: true, ..evidence }), Quality::Trusted);
        assert_eq!(judge(Evidence { is_by_site: true, floor_ms: i64::MAX, ..evidence }), Quality::Trusted);
        assert_eq!(judge(Evidence { is_synchronised: true, ..evidence }), Quality::Trusted);
        let before = Evidence { now_ms: 1000, ..evidence };
        assert_eq!(judge(before), Quality::Unset);
        assert_eq!(judge(Evidence { is_by_battery: true, ..before }), Quality::Unset, "an empty battery");
        assert_eq!(judge(Evidence { is_by_site: true, ..before }), Quality::Unset);
    }

    #[test]
    fn what_was_seen_outlives_a_start_and_only_a_time_server_sets_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::open(dir.path(), false);
        assert_eq!(clock.quality(LATER_MS, false), Quality::Floor);
        clock.keep_at(LATER_MS, false);
        clock.keep_at(LATER_MS - 3_600_000, false);
        let again = Clock::open(dir.path(), false);
        assert_eq!(again.quality(LATER_MS - 1000, false), Quality::Unset);
        assert_eq!(again.quality(LATER_MS + 1000, false), Quality::Floor);
        again.keep_at(LATER_MS - 3_600_000, true);
        assert_eq!(Clock::open(dir.path(), false).quality(LATER_MS - 1000, false), Quality::Floor);
    }

    #[test]
    fn a_clock_in_the_past_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        Clock::open(dir.path(), false).keep_at(1000, false);
        assert!(!dir.path().join(FILE).exists());
    }
}
