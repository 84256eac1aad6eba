//! The same specimen again and again: an analyzer that sends in a circle, a bar code that is on every tube.
//!
//! What was seen is remembered as a hash with a key of this process, for a few minutes, a bounded number of them.

use crate::clinical::Report;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same again within this time is a repeat.
const WITHIN: Duration = Duration::from_secs(300);
/// What is remembered of one link.
const REMEMBERED_MAX: usize = 512;

/// What came again, by link. The interpreter notes, the watch reads.
#[derive(Default)]
pub struct Repeats {
    key: RandomState,
    links: Mutex<BTreeMap<String, Recent>>,
}

#[derive(Default)]
struct Recent {
    seen: VecDeque<(u64, Instant)>,
    count: u64,
}

impl Repeats {
    /// A message brought these reports. The same tests of the same specimen are a repeat; controls are none, nor is what
    /// names no specimen.
    pub fn note(&self, link: &str, reports: &[Report], now: Instant) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports.iter().filter(|report| report.control.is_none() && !report.specimen.id.is_empty()) {
            let codes: Vec<&str> = report.observations.iter().map(|o| o.instrument_code.as_str()).collect();
            let subject = self.key.hash_one((report.specimen.id.expose(), codes));
            if !links.contains_key(link) {
                links.insert(link.to_owned(), Recent::default());
            }
            let Some(recent) = links.get_mut(link) else { return };
            recent.seen.retain(|(_, at)| now.saturating_duration_since(*at) < WITHIN);
            recent.count += u64::from(recent.seen.iter().any(|(seen, _)| *seen == subject));
            recent.seen.push_back((subject, now));
            if recent.seen.len() > REMEMBERED_MAX {
                recent.seen.pop_front();
            }
        }
    }

    /// How often something came again on a link, since the start.
    pub fn count(&self, link: &str) -> u64 {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).get(link).map_or(0, |recent| recent.count)
    }
}
