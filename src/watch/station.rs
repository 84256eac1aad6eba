//! The shell of the watch: it reads the counters every half minute, tells of alerts in the log, keeps those that stand
//! for whoever asks, and keeps what was learnt beside the journal.
//!
//! It has a thread of its own, because it reads and writes small files; nothing waits for it.

use super::learnt::{HOURS, Learnt};
use super::repeats::Repeats;
use super::{Alert, Config, Counts, Sample, Sent, Trouble, Watch};
use crate::clock::Clock;
use crate::delivery::DeliveryCounters;
use crate::disk;
use crate::fleet::snapshot::QUEUE_COUNTED_MAX;
use crate::interpreter::filing::NO_LINK;
use crate::journal::{self, Journal, SharedReader};
use crate::link::LinkCounters;
use crate::tls;
use crate::update::Updates;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Name of the file in the data directory.
const FILE: &str = "watch.json";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FILE];
/// What was learnt is written this often, and at the end.
const WRITE_EVERY: Duration = Duration::from_secs(3600);
/// Certificates are read this often.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(600);
const DAY_S: i64 = 24 * 3600;

/// An alert that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingAlert {
    /// What it is.
    #[serde(flatten)]
    pub alert: Alert,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
}

/// The alerts that stand now, for whoever asks.
#[derive(Clone, Default)]
pub struct Standing(Arc<Mutex<BTreeMap<(Trouble, String), StandingAlert>>>);

impl Standing {
    /// All of them.
    pub fn list(&self) -> Vec<StandingAlert> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn note(&self, alert: &Alert, now_ms: i64) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (alert.trouble, alert.of.clone());
        if alert.began {
            standing.insert(key, StandingAlert { alert: alert.clone(), since_ms: now_ms });
        } else {
            standing.remove(&key);
        }
    }
}

/// What the station looks at.
pub struct Scene {
    /// When the gateway began; moments of a watch count from it.
    pub began: Instant,
    /// Limits.
    pub config: Config,
    /// The data directory.
    pub data: PathBuf,
    /// What must stay free there.
    pub journal: journal::Config,
    /// Where it is noted what the clock is worth.
    pub custody: Journal,
    /// The clock by which hours of the week are counted.
    pub zone: TimeZone,
    /// The clock itself, whose latest moment is kept.
    pub clock: Clock,
    /// Links there are, which may be others in a moment.
    pub links: watch::Receiver<Vec<Arc<LinkCounters>>>,
    /// Destinations there are, which may be others as well.
    pub destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
    /// The configuration that runs, which may be another in a moment as well.
    pub running: watch::Receiver<Arc<crate::config::Config>>,
    /// The box's updates; none where it does not update itself.
    pub updates: Option<Updates>,
    /// What came again.
    pub repeats: Arc<Repeats>,
    /// The box's own certificates: the setting that names each, and its file.
    pub certificates: Vec<(String, PathBuf)>,
}

/// Watches until the other end of `running` is dropped, and gives the watch back. Blocks; `tell` hears of each alert. What
/// stood in the watch `before`, with other settings, stands in this one and is not told again.
pub fn run(
    scene: &Scene,
    before: Option<Watch>,
    standing: &Standing,
    running: &Receiver<()>,
    mut tell: impl FnMut(&Alert),
) -> Watch {
    let began = scene.began;
    let look_every = Duration::from_secs(scene.config.look_s.max(1));
    let mut watch = before.unwrap_or_else(|| Watch::new(scene.config.clone(), read(&scene.data)));
    watch.set(scene.config.clone());
    let mut certificates = days_left(&scene.certificates);
    let reader = SharedReader::new(&scene.custody);
    let (mut read, mut written) = (Instant::now(), Instant::now());
    let mut waiting = Waiting::default();
    loop {
        if read.elapsed() >= CERTIFICATES_EVERY {
            (certificates, read) = (days_left(&scene.certificates), Instant::now());
        }
        let now = Timestamp::now();
        scene.look_at_journal(&reader, &mut waiting);
        for alert in watch.observe(began.elapsed(), &scene.sample(began, now, &certificates, &waiting)) {
            say(&alert);
            standing.note(&alert, now.as_millisecond());
            tell(&alert);
        }
        scene.clock.keep();
        scene.note_clock();
        if written.elapsed() >= WRITE_EVERY {
            written = Instant::now();
            write(&scene.data, &watch);
        }
        if running.recv_timeout(look_every) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    write(&scene.data, &watch);
    watch
}

/// What waits in the journal for nobody.
#[derive(Default)]
struct Waiting {
    /// As [`Sample::stranded`].
    stranded: Vec<(String, i64)>,
    /// As [`Sample::without_link`].
    without_link: Vec<(String, i64)>,
}

impl Scene {
    /// Tells the journal what the clock is worth; it notes what is news.
    fn note_clock(&self) {
        // It is told again at the next look; the journal's own condition says what is wrong.
        if let Err(error) = self.custody.note_clock(self.clock.now().1) {
            tracing::debug!("what the clock is worth is not noted: {error}");
        }
    }

    /// What waits for nobody. Where the journal cannot be read, which its own condition tells, it is what it was.
    fn look_at_journal(&self, reader: &SharedReader, waiting: &mut Waiting) {
        let running = self.running.borrow().clone();
        let named: Vec<&str> = running.destinations.iter().map(|to| to.name.as_str()).collect();
        if let Ok(found) = reader.read(|reader| reader.stranded(&named, QUEUE_COUNTED_MAX)) {
            waiting.stranded = found;
        }
        if let Ok(found) = reader.read(|reader| reader.held_for(NO_LINK, QUEUE_COUNTED_MAX)) {
            waiting.without_link = found;
        }
    }

    fn sample(&self, began: Instant, now: Timestamp, certificates: &[(String, i64)], waiting: &Waiting) -> Sample {
        let counts = |link: &Arc<LinkCounters>| {
            let counted = link.counts();
            let counts = Counts {
                messages: counted.messages,
                refusals: counted.refused,
                strangers: counted.strangers,
                authentication: counted.turned_away,
                repeats: self.repeats.count(link.name()),
            };
            (link.name().to_owned(), counts)
        };
        let sent = |to: &Arc<DeliveryCounters>| {
            let health = to.health();
            (to.name().to_owned(), Sent { delivered: health.delivered, refused: health.refused })
        };
        Sample {
            destinations: self.destinations.borrow().iter().map(sent).collect(),
            links: self.links.borrow().iter().map(counts).collect(),
            certificates: certificates.to_vec(),
            stranded: waiting.stranded.clone(),
            without_link: waiting.without_link.clone(),
            system_is_away: self.updates.as_ref().and_then(Updates::record).is_some_and(|last| last.system_is_away()),
            disk_free: journal::room(&self.data, &self.journal),
            wall_less_monotonic_ms: now.as_millisecond() - began.elapsed().as_millis() as i64,
            hour: self.clock.is_trusted().then(|| hour_of_week(now, &self.zone)),
        }
    }
}

/// From Monday 00:00.
fn hour_of_week(now: Timestamp, zone: &TimeZone) -> usize {
    let local = zone.to_datetime(now);
    let day = local.date().weekday().to_monday_zero_offset() as usize;
    (day * 24 + local.time().hour() as usize) % HOURS
}

/// One line when it begins and one when it ends. `alert` is the stable id that collectors go by.
fn say(alert: &Alert) {
    let (trouble, of, sentence) = (alert.trouble.word(), alert.of.as_str(), alert.sentence());
    if alert.began {
        tracing::warn!(event = "alert-began", alert = trouble, state = "began", of, "{sentence}");
    } else {
        tracing::info!(event = "alert-ended", alert = trouble, state = "ended", of, "{sentence}");
    }
}

/// The days that certificates have left. One that cannot be read is somebody else's trouble: whoever uses it says so.
fn days_left(certificates: &[(String, PathBuf)]) -> Vec<(String, i64)> {
    let now_s = Timestamp::now().as_second();
    let left = |(setting, file): &(String, PathBuf)| {
        let ends_s = tls::ends(file).ok()??;
        Some((setting.clone(), (ends_s - now_s).div_euclid(DAY_S)))
    };
    certificates.iter().filter_map(left).collect()
}

/// What was learnt before. A file that cannot be read is begun anew: only alerts rest on it.
fn read(data: &Path) -> BTreeMap<String, Learnt> {
    std::fs::read(data.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(data: &Path, watch: &Watch) {
    let text = serde_json::to_vec(&watch.learnt()).unwrap_or_default();
    if let Err(error) = disk::note(&data.join(FILE), &text) {
        tracing::debug!("what the watch has learnt is not written: {error}");
    }
}
