//! Hints between the loops, and how the journal is. Losing a hint costs latency, never data.

use super::desk::{Hints, Memory};
use super::space::Level;
use super::types::WorkOrderId;
use crate::service::Pulse;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How the journal is, for health pages and monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Everything is accepted.
    Good,
    /// Filling up: 80 % of the quota, or twice the free space that must stay.
    Tight,
    /// Images are refused, results are accepted: 90 % of the quota, or little more free than must stay.
    FullOfImages {
        /// Since when, Unix milliseconds.
        since_ms: i64,
    },
    /// Nothing new is accepted; deliveries go on.
    Full,
    /// The storage failed; nothing is acknowledged until it is recovered.
    Failed,
}

/// Most changes kept for a worklist that is not asked for; beyond it everything is read again.
const CHANGES_MAX: usize = 4096;

/// What changed of orders and patients since the last time somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderChanges {
    /// True when too much changed to tell, or nobody looked before.
    pub everything: bool,
    /// Orders that came or stand elsewhere.
    pub orders: BTreeSet<WorkOrderId>,
    /// Patients of whom something else is known, by [`super::Reader::patient_key`].
    pub patients: BTreeSet<i64>,
}

impl OrderChanges {
    fn add(&mut self, orders: Vec<WorkOrderId>, patients: Vec<i64>) {
        self.orders.extend(orders);
        self.patients.extend(patients);
        if self.orders.len() + self.patients.len() > CHANGES_MAX {
            *self = OrderChanges { everything: true, ..OrderChanges::default() };
        }
    }
}

/// Images are interpreted together with those that come within this: each by itself would cost the next one a commit.
const GATHERED: Duration = Duration::from_millis(50);

/// What waits to be interpreted.
#[derive(Default)]
struct Waiting {
    entries: bool,
    /// Since when images do.
    images: Option<Instant>,
}

/// See the module docs.
#[derive(Default)]
pub(super) struct Signals {
    order_changes: Mutex<Option<OrderChanges>>,
    waiting: Mutex<Waiting>,
    waiting_changed: Condvar,
    destinations: Mutex<HashMap<String, Arc<Notify>>>,
    level: AtomicU8,
    /// Since when images are refused, Unix milliseconds; 0 while they are not.
    images_refused_ms: AtomicI64,
    failed: AtomicBool,
    /// Of the writer.
    pub(super) pulse: Pulse,
}

impl Signals {
    /// Waits for a waiting entry, at most this long.
    pub(super) fn wait_for_entries(&self, longest: Duration) {
        let until = Instant::now() + longest;
        let mut waiting = self.waiting();
        while !waiting.entries {
            let until = waiting.images.map_or(until, |since| until.min(since + GATHERED));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.waiting_changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *waiting = Waiting::default();
    }

    pub(super) fn wake_interpreter(&self) {
        self.waiting().entries = true;
        self.waiting_changed.notify_all();
    }

    fn image_came(&self) {
        self.waiting().images.get_or_insert_with(Instant::now);
        self.waiting_changed.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The signal of one destination. It keeps one wake-up when nobody waits.
    pub(super) fn destination(&self, name: &str) -> Arc<Notify> {
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        match destinations.get(name) {
            Some(notify) => notify.clone(),
            None => destinations.entry(name.to_string()).or_default().clone(),
        }
    }

    /// What changed since this was asked last; everything the first time.
    pub(super) fn take_order_changes(&self) -> OrderChanges {
        let mut changes = self.order_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let first = || OrderChanges { everything: true, ..OrderChanges::default() };
        changes.replace(OrderChanges::default()).unwrap_or_else(first)
    }

    pub(super) fn wake(&self, hints: Hints) {
        if !hints.orders.is_empty() || !hints.patients.is_empty() {
            let mut changes = self.order_changes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(changes) = changes.as_mut().filter(|changes| !changes.everything) {
                changes.add(hints.orders, hints.patients);
            }
        }
        if hints.entries {
            self.wake_interpreter();
        } else if hints.images {
            self.image_came();
        }
        for destination in hints.destinations {
            self.destination(&destination).notify_one();
        }
    }

    /// Wakes the deliverers of lanes whose pause is over.
    pub(super) fn wake_paused(&self, memory: &Memory) {
        let now = Instant::now();
        for (_, pause) in memory.pauses().filter(|(_, pause)| pause.until <= now) {
            self.destination(&pause.destination).notify_one();
        }
    }

    pub(super) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub(super) fn set_images_refused(&self, since_ms: Option<i64>) {
        self.images_refused_ms.store(since_ms.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
    }

    pub(super) fn condition(&self) -> Condition {
        match (self.failed.load(Ordering::Relaxed), self.level.load(Ordering::Relaxed)) {
            (true, _) => Condition::Failed,
            (_, level) if level == Level::Full as u8 => Condition::Full,
            (_, level) => match (self.images_refused_ms.load(Ordering::Relaxed), level) {
                (since_ms, _) if since_ms > 0 => Condition::FullOfImages { since_ms },
                (_, level) if level == Level::Tight as u8 => Condition::Tight,
                _ => Condition::Good,
            },
        }
    }
}
