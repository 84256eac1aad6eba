//! The box's own page: how each link and destination is, in the doctor's sentences, and what is unusual now. It is a
//! process of its own, which asks the gateway as a command does and reads the journal beside it: whatever becomes of the
//! page, results go on.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page; no secret is in it |
//! | `/box` | server-sent events: how the box is, when that changes, looked at every two seconds while somebody looks |
//!
//! Nothing of a patient is shown: names of the configuration, counts and constants, as `afferent doctor` prints them.

use crate::fleet::desired::tree;
use crate::page::{Content, Document, Ticks, event};
use crate::workbench::doctor::Finding;
use crate::workbench::examination::{Examination, examine_beside};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// The document.
pub const DOCUMENT: Document = Document {
    markup: include_str!("console/page.html"),
    style: include_str!("console/page.css"),
    script: include_str!("console/page.js"),
};
/// The box is looked at this often while somebody looks at the page.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Whether somebody does is seen this often.
const TICK: Duration = Duration::from_millis(250);
/// A page that hears nothing for longer than this knows that nobody serves it.
const BEAT: Duration = Duration::from_secs(5);
/// Events that wait for a slow browser; one that misses more is told everything anew.
const BEHIND_MAX: usize = 16;
/// The layer of findings that are alerts.
const WATCH: &str = "watch";

/// How the box is, for whoever looks.
pub struct Console {
    file: PathBuf,
    last: Mutex<Look>,
    events: broadcast::Sender<Arc<str>>,
}

/// What was seen, and when.
struct Look {
    at: Instant,
    found: Arc<str>,
}

impl Console {
    /// The box with this configuration file, which is looked at once. Blocks.
    pub fn new(file: PathBuf) -> Arc<Console> {
        let last = Mutex::new(Look { at: Instant::now(), found: event("now", &look(&file)) });
        Arc::new(Console { file, last, events: broadcast::channel(BEHIND_MAX).0 })
    }

    /// Looks while somebody looks, for ever.
    pub async fn watch(&self) {
        let mut told = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            if self.events.receiver_count() == 0 || self.last().at.elapsed() < LOOK_EVERY {
                continue;
            }
            let file = self.file.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || event("now", &look(&file))).await else { continue };
            let mut last = self.last();
            let is_new = last.found != found || last.at.elapsed() > BEAT;
            *last = Look { at: Instant::now(), found: found.clone() };
            if is_new || told.elapsed() >= BEAT {
                told = last.at;
                let _ = self.events.send(found);
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Look> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content for Console {
    fn stream_path(&self) -> &'static str {
        "/box"
    }

    fn follow(&self) -> (Arc<str>, Ticks) {
        let last = self.last();
        // What was seen before nobody looked is not how the box is now; that comes in a moment.
        let is_fresh = last.at.elapsed() <= BEAT;
        let first = if is_fresh { last.found.clone() } else { event("wait", &json!({})) };
        // Under the lock, so that nothing falls in between.
        (first, self.events.subscribe())
    }

    fn json(&self, _: &str) -> Option<String> {
        None
    }
}

fn look(file: &std::path::Path) -> Value {
    let config = match tree::load(file) {
        Ok(loaded) => loaded.config,
        Err(error) => return trouble(&error.to_string()),
    };
    match examine_beside(&config) {
        Ok(found) => shown(&config.gateway.name(), &found),
        Err(error) => trouble(&error.to_string()),
    }
}

fn trouble(why: &str) -> Value {
    json!({ "trouble": why })
}

/// What the page is told.
fn shown(name: &str, Examination { findings, alerts, .. }: &Examination) -> Value {
    let findings: Vec<&Finding> = findings.iter().filter(|finding| finding.layer != WATCH).collect();
    let alerts = alerts.iter().map(|standing| {
        let since = Timestamp::from_millisecond(standing.since_ms).map(|at| at.to_string()).unwrap_or_default();
        json!({
            "of": standing.alert.of,
            "says": standing.alert.sentence(),
            "next": crate::workbench::doctor::what_next(standing.alert.trouble),
            "since": since,
        })
    });
    json!({
        "name": name,
        "version": env!("CARGO_PKG_VERSION"),
        "alerts": alerts.collect::<Vec<_>>(),
        "findings": findings,
    })
}
