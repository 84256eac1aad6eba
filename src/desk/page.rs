//! What the page of the fleet shows ([`crate::page::document`] serves it).
//!
//! | path | what |
//! |---|---|
//! | `/` | the page; no secret is in it |
//! | `/fleet` | server-sent events: all boxes first, then those that changed, every quarter of a second at most |
//! | `/box/NAME` | one box with its links, destinations and counters of the last hour |

use super::registry::Registry;
use super::roster::{Brief, Roster};
use crate::page::document::{Content, Document};
use crate::page::{Feed, Ticks, event};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// The document.
pub const DOCUMENT: Document = Document {
    markup: include_str!("page/page.html"),
    style: include_str!("page/page.css"),
    script: include_str!("page/page.js"),
};
/// What changed is told this often.
const TICK: Duration = Duration::from_millis(250);
/// A page that hears nothing for longer than this knows that the desk is gone.
const BEAT: Duration = Duration::from_secs(5);
/// Ticks that wait for a slow browser; one that misses more is told everything anew.
const BEHIND_MAX: usize = 16;

/// The fleet behind the page: what was heard, and what is known.
pub struct Fleet {
    inner: Mutex<Inner>,
    ticks: broadcast::Sender<Arc<str>>,
}

struct Inner {
    roster: Roster,
    registry: Registry,
    /// Why the broker is not there; empty while it is.
    trouble: String,
    is_news: bool,
}

impl Fleet {
    /// Nothing was heard yet.
    pub fn new(registry: Registry) -> Arc<Fleet> {
        let inner = Inner { roster: Roster::default(), registry, trouble: String::new(), is_news: false };
        Arc::new(Fleet { inner: Mutex::new(inner), ticks: broadcast::channel(BEHIND_MAX).0 })
    }

    /// A box said something.
    pub fn heard(&self, said: &super::Said) {
        self.inner().roster.heard(said, Instant::now());
    }

    /// The broker is gone, and why, or (empty) there again.
    pub fn trouble(&self, why: String) {
        let mut inner = self.inner();
        inner.is_news |= inner.trouble != why;
        if why.is_empty() {
            inner.roster.back(Instant::now());
        }
        inner.trouble = why;
    }

    /// The registry is this now.
    pub fn knows(&self, registry: Registry) {
        let mut inner = self.inner();
        if inner.registry != registry {
            inner.registry = registry;
            // Any box may be shown differently.
            let _ = self.ticks.send(inner.all());
        }
    }

    /// Tells pages what changed, for ever.
    pub async fn tick(&self) {
        let mut idle = Duration::ZERO;
        loop {
            tokio::time::sleep(TICK).await;
            let mut inner = self.inner();
            if inner.trouble.is_empty() {
                inner.roster.look(Instant::now());
            }
            let changed = inner.roster.take_changed();
            idle += TICK;
            if changed.is_empty() && !inner.is_news && idle < BEAT {
                continue;
            }
            (idle, inner.is_news) = (Duration::ZERO, false);
            if self.ticks.receiver_count() > 0 {
                let rows = inner.roster.rows();
                if changed.iter().any(|name| !rows.contains_key(name)) {
                    // Pages forget a box only so.
                    let _ = self.ticks.send(inner.all());
                    continue;
                }
                let rows = changed.iter().filter_map(|name| Some(rows.get(name)?.brief(name, &inner.registry)));
                let tick = tick("some", &inner.trouble, rows);
                let _ = self.ticks.send(tick);
            }
        }
    }

    fn detail(&self, name: &str) -> Option<String> {
        let inner = self.inner();
        let row = inner.roster.rows().get(name)?;
        let brief = row.brief(name, &inner.registry);
        let note = inner.registry.get(name).map_or("", |entry| &entry.note);
        Some(json!({ "brief": brief, "box": row, "note": note, "samples": row.samples }).to_string())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed for Fleet {
    fn follow(&self) -> (Arc<str>, Ticks) {
        let inner = self.inner();
        // Under the lock, so that no tick falls in between; one that is in both is the same twice.
        (inner.all(), self.ticks.subscribe())
    }
}

impl Content for Fleet {
    fn stream_path(&self) -> &'static str {
        "/fleet"
    }

    fn json(&self, path: &str) -> Option<String> {
        self.detail(path.strip_prefix("/box/")?)
    }
}

impl Inner {
    fn all(&self) -> Arc<str> {
        let rows = self.roster.rows().iter().map(|(name, row)| row.brief(name, &self.registry));
        tick("all", &self.trouble, rows)
    }
}

fn tick<'r>(kind: &str, trouble: &str, rows: impl Iterator<Item = Brief<'r>>) -> Arc<str> {
    let rows: Vec<Brief<'_>> = rows.collect();
    event(kind, &json!({ "trouble": trouble, "rows": rows }))
}
