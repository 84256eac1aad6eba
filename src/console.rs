//! The console: a box's own page, for whoever has an account ([`crate::access`]): how each link and destination is, in the
//! doctor's sentences, and what is unusual now. It is a process of its own, which asks the gateway as a command does and
//! reads the journal beside it: whatever becomes of the page, results go on.
//!
//! | path | what | for whom |
//! |---|---|---|
//! | `/login` | name and password | everybody |
//! | `/invitation` | password and second factor of somebody new | whoever has a code |
//! | `/second-factor` | what the telephone shows | whose password was right |
//! | `/` | the page | whoever is in |
//! | `/box` | server-sent events: how the box is, when that changes, looked at every two seconds while somebody looks | the same |
//! | `/account` | one's own password and recovery codes | the same |
//! | `/logout` | out | the same |
//! | `/assets/` | style and script, the same for everybody | everybody |
//!
//! `console/site.rs` decides which of them answers; each has a file of its own. Forms work without script. Nothing of a patient is
//! shown: names of the configuration, counts and constants, as `afferent doctor` prints them. Who comes in, or tries to, and
//! what they change of their account is in the record of the box ([`crate::audit`]).

mod account;
mod answer;
mod change;
mod cookie;
mod invitation;
mod layout;
mod login;
mod overview;
mod second_factor;
mod site;

pub use site::ConsoleSite;

use crate::disk;
use crate::fleet::desired::tree;
use crate::page::{Feed, Ticks, event};
use crate::workbench::doctor::Finding;
use crate::workbench::examination::{Examination, examine_beside};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// The box is looked at this often while somebody looks at the page.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// It rests this many times as long as a look took: a large journal on a slow card has other things to do.
const RESTS: u32 = 10;
/// Whether somebody does is seen this often.
const TICK: Duration = Duration::from_millis(250);
/// A page that hears nothing for longer than this knows that nobody serves it.
const BEAT: Duration = Duration::from_secs(5);
/// Events that wait for a slow browser; one that misses more is told everything anew.
const BEHIND_MAX: usize = 16;
/// The layer of findings that are alerts.
const WATCH: &str = "watch";
/// Where it was served last, for whoever is invited to it.
const ADDRESS: &str = "console.address";
/// Longest host and port.
const ADDRESS_MAX: u64 = 300;
/// What a factory reset erases.
pub(crate) const NAMES: &[&str] = &[ADDRESS, cookie::FILE];

/// Notes where browsers find the console of this data directory, HOST:PORT.
///
/// # Errors
/// What the system says.
pub fn note_address(data: &Path, address: &str) -> std::io::Result<()> {
    disk::as_owner_of(data, || disk::note(&data.join(ADDRESS), address.as_bytes()))?
}

/// Where browsers found the console of this data directory last. What could be no address is none.
pub fn address(data: &Path) -> Option<String> {
    let read = || {
        let mut text = String::new();
        disk::open_regular(&data.join(ADDRESS))?.take(ADDRESS_MAX).read_to_string(&mut text).map(|_| text)
    };
    let noted = disk::as_owner_of(data, read).ok()?.ok()?;
    let is_address = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    Some(noted).filter(|noted| noted.contains(':') && noted.chars().all(is_address))
}

/// How the box is, for whoever looks.
pub struct Console {
    file: PathBuf,
    last: Mutex<Look>,
    events: broadcast::Sender<Arc<str>>,
}

/// What was seen, when, and how long that took.
struct Look {
    at: Instant,
    took: Duration,
    found: Arc<str>,
}

impl Console {
    /// The box with this configuration file.
    pub fn new(file: PathBuf) -> Arc<Console> {
        let last = Mutex::new(Look { at: Instant::now(), took: Duration::ZERO, found: event("wait", &json!({})) });
        Arc::new(Console { file, last, events: broadcast::channel(BEHIND_MAX).0 })
    }

    /// Looks while somebody looks, until another release is to run, or the certificate that the box made for itself is
    /// gone, as after a factory reset: then a console begins anew.
    pub async fn watch(&self, own_certificate: Option<&Path>) {
        let began_as = program();
        let mut told = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            if program() != began_as || own_certificate.is_some_and(|file| !file.exists()) {
                return;
            }
            let (since, took) = {
                let last = self.last();
                (last.at.elapsed(), last.took)
            };
            if self.events.receiver_count() == 0 || since < LOOK_EVERY.max(took * RESTS) {
                continue;
            }
            let (file, began) = (self.file.clone(), Instant::now());
            let Ok(found) = tokio::task::spawn_blocking(move || event("now", &look(&file))).await else { continue };
            let mut last = self.last();
            let is_new = last.found != found || last.at.elapsed() > BEAT;
            *last = Look { at: Instant::now(), took: began.elapsed(), found: found.clone() };
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

impl Feed for Console {
    fn follow(&self) -> (Arc<str>, Ticks) {
        let last = self.last();
        // What was seen before nobody looked is not how the box is now; that comes in a moment.
        let is_fresh = last.at.elapsed() <= BEAT;
        let first = if is_fresh { last.found.clone() } else { event("wait", &json!({})) };
        // Under the lock, so that nothing falls in between.
        (first, self.events.subscribe())
    }
}

/// What runs here. A program that was started by a link is where that leads now.
fn program() -> Option<PathBuf> {
    std::env::args_os().next().and_then(|program| std::fs::canonicalize(program).ok())
}

fn look(file: &Path) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_served_is_an_address_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(address(dir.path()), None);
        for (noted, told) in [
            ("127.0.0.1:9440", true),
            ("bench-1.lab:443", true),
            ("[2001:db8::7]:9440", true),
            ("", false),
            ("bench-1", false),
            ("evil.example:1/\u{1b}[31m", false),
            ("a b:1", false),
        ] {
            note_address(dir.path(), noted).unwrap();
            assert_eq!(address(dir.path()).as_deref(), Some(noted).filter(|_| told), "{noted:?}");
        }
    }
}
