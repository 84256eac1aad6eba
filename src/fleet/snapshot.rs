//! How the box is, read from what it counts anyway: links' and destinations' counters, the journal's queues and
//! condition. Nothing that is asked here can hold up a result, and no table is read through.

use super::telemetry::{
    Alerts, At, Birth, DestinationFacts, DestinationReport, Digest, Document, Downlink, Hardware, LinkFacts,
    LinkReport, Metrics, Name, SerialPort, Stamp, UpdateReport, Word, word_of,
};
use super::topic::Up;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::DeliveryCounters;
use crate::journal::{self, Journal, SharedReader};
use crate::link::LinkCounters;
use crate::link::serial::ports;
use crate::update::Updates;
use crate::watch::station::{Standing, StandingAlert};
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Messages of a queue that are counted; more are told as this many.
pub const QUEUE_COUNTED_MAX: i64 = 100_000;
/// The journal is asked for queues this often.
const QUEUES_EVERY: Duration = Duration::from_secs(10);

/// Where the box's state is read.
#[derive(Clone)]
pub struct Sources {
    data: PathBuf,
    journal: Journal,
    config: watch::Receiver<Arc<Config>>,
    links: watch::Receiver<Vec<Arc<LinkCounters>>>,
    destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
    started: (Instant, Stamp),
    clock: Clock,
    alerts: Standing,
    updates: Option<Updates>,
}

impl Sources {
    /// Those of a gateway, whose configuration, links and destinations may be others in a moment.
    pub fn new(
        journal: &Journal,
        config: watch::Receiver<Arc<Config>>,
        links: watch::Receiver<Vec<Arc<LinkCounters>>>,
        destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
        clock: &Clock,
        alerts: &Standing,
    ) -> Sources {
        let (data, updates) = (config.borrow().gateway.data.clone(), Updates::of(&config.borrow()));
        Sources {
            data,
            journal: journal.clone(),
            config,
            links,
            destinations,
            started: (Instant::now(), stamp(clock)),
            clock: clock.clone(),
            alerts: alerts.clone(),
            updates,
        }
    }

    /// This moment by the box's clock.
    pub fn stamp(&self) -> Stamp {
        stamp(&self.clock)
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The box's updates; none where it does not update itself.
    pub fn updates(&self) -> Option<&Updates> {
        self.updates.as_ref()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The configuration that runs now.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// The links there are now.
    pub fn links(&self) -> Vec<(Name, Arc<LinkCounters>)> {
        self.links.borrow().iter().map(|link| (Name::of_link(link), link.clone())).collect()
    }

    /// The destinations there are now.
    pub fn destinations(&self) -> Vec<(Name, Arc<DeliveryCounters>)> {
        self.destinations.borrow().iter().map(|to| (Name::of_destination(to), to.clone())).collect()
    }

    /// The destinations' names, whenever they are asked for.
    pub fn destination_names(&self) -> impl Fn() -> Vec<Name> + Send + Sync + use<> {
        let destinations = self.destinations.clone();
        move || destinations.borrow().iter().map(|to| Name::of_destination(to)).collect()
    }

    /// The names of links and destinations there are now.
    pub fn names(&self) -> Vec<Name> {
        let links = self.links.borrow().iter().map(|link| Name::of_link(link)).collect::<Vec<_>>();
        links.into_iter().chain(self.destinations.borrow().iter().map(|to| Name::of_destination(to))).collect()
    }

    /// How links are.
    pub fn link_reports(&self) -> Vec<LinkReport> {
        let stamp = self.stamp();
        let report = |(link, counters): (Name, Arc<LinkCounters>)| {
            let facts = link_facts(&counters);
            LinkReport { stamp, link, facts }
        };
        self.links().into_iter().map(report).collect()
    }

    /// How destinations are; a queue that cannot be read is told as empty, as the journal's condition tells why.
    pub fn destination_reports(&self) -> Vec<DestinationReport> {
        let (stamp, reader) = (self.stamp(), SharedReader::new(&self.journal));
        let report = |(destination, counters): (Name, Arc<DeliveryCounters>)| {
            let queue = read_queue(&reader, &destination).unwrap_or_default();
            let facts = destination_facts(&counters, queue);
            DestinationReport { stamp, oldest_s: queue.oldest_s, destination, facts }
        };
        self.destinations().into_iter().map(report).collect()
    }

    /// What is unusual now.
    pub fn alerts(&self) -> Alerts {
        Alerts::of(&self.alerts.list())
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the box is.
    pub fn birth(&self, epoch: u64) -> Birth {
        Birth {
            started: self.started.1,
            epoch,
            boot_id: Hardware::boot_id(),
            version: Word::new(env!("CARGO_PKG_VERSION")),
            arch: Word::new(std::env::consts::ARCH),
            hardware: Hardware::model(),
            config: Digest::of(&serde_json::to_vec(&*self.config()).unwrap_or_default()),
            ports: SerialPort::all(&ports::list(Path::new("/"))),
            links: self.links().into_iter().map(|(name, _)| name).collect(),
            destinations: self.destinations().into_iter().map(|(name, _)| name).collect(),
        }
    }
}

fn stamp(clock: &Clock) -> Stamp {
    let (now, clock) = clock.now();
    Stamp { at: At::new(now), clock }
}

/// What was told last, so that what is the same is not told again too soon.
pub struct Snapshot {
    sources: Sources,
    reader: SharedReader,
    every: Duration,
    links: Told<LinkFacts>,
    destinations: Told<DestinationFacts>,
    queues: HashMap<Name, Queue>,
    queues_at: Option<Instant>,
    alerts: Option<Vec<StandingAlert>>,
    update: Option<UpdateReport>,
}

/// By name, what was told and when.
type Told<F> = HashMap<Name, (Instant, F)>;

#[derive(Clone, Copy, Default)]
struct Queue {
    queued: u64,
    parked: u64,
    oldest_s: Option<u64>,
}

/// The box's own part of [`Metrics`].
pub struct Own {
    /// As [`Birth::epoch`].
    pub epoch: u64,
    /// As [`Metrics::events_waiting`].
    pub events_waiting: u64,
    /// As [`Metrics::events_lost`].
    pub events_lost: u64,
    /// As [`Metrics::downlink`].
    pub downlink: Downlink,
}

impl Snapshot {
    /// Nothing was told yet. What does not change is told again after `every`.
    pub fn new(sources: Sources, every: Duration) -> Snapshot {
        Snapshot {
            reader: SharedReader::new(&sources.journal),
            sources,
            every,
            links: HashMap::new(),
            destinations: HashMap::new(),
            queues: HashMap::new(),
            queues_at: None,
            alerts: None,
            update: None,
        }
    }

    /// Where this is read.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What changed, or was not told for a while.
    pub fn look(&mut self, now: Instant) -> Vec<(Up, Document)> {
        if self.queues_at.is_none_or(|at| now.saturating_duration_since(at) >= QUEUES_EVERY) {
            self.queues_at = Some(now);
            self.read_queues();
        }
        let (stamp, every) = (self.sources.stamp(), self.every);
        let mut said = Vec::new();
        let alerts = self.sources.alerts.list();
        if self.alerts.as_ref() != Some(&alerts) {
            said.push((Up::Alerts, Document::of(&Alerts::of(&alerts))));
            self.alerts = Some(alerts);
        }
        if let Some(updates) = &self.sources.updates {
            let report = UpdateReport::new(updates.version(), updates.record().as_ref());
            if self.update != Some(report) {
                said.push((Up::Update, Document::of(&report)));
                self.update = Some(report);
            }
        }
        let (links, destinations) = (self.sources.links(), self.sources.destinations());
        // What is no more is taken back.
        let mut gone = Vec::new();
        self.links.retain(|name, _| {
            let stays = links.iter().any(|(there, _)| there == name);
            gone.extend((!stays).then(|| Up::Link(name.as_str().to_string())));
            stays
        });
        self.destinations.retain(|name, _| {
            let stays = destinations.iter().any(|(there, _)| there == name);
            gone.extend((!stays).then(|| Up::Destination(name.as_str().to_string())));
            stays
        });
        said.extend(gone.into_iter().map(|topic| (topic, Document::nothing())));
        for (name, counters) in &links {
            let facts = link_facts(counters);
            if is_news(&mut self.links, name, &facts, now, every) {
                let report = LinkReport { stamp, link: name.clone(), facts };
                said.push((Up::Link(name.as_str().to_string()), Document::of(&report)));
            }
        }
        for (name, counters) in &destinations {
            let queue = self.queues.get(name).copied().unwrap_or_default();
            let facts = destination_facts(counters, queue);
            if is_news(&mut self.destinations, name, &facts, now, every) {
                let (destination, oldest_s) = (name.clone(), queue.oldest_s);
                let report = DestinationReport { stamp, destination, oldest_s, facts };
                said.push((Up::Destination(name.as_str().to_string()), Document::of(&report)));
            }
        }
        said
    }

    /// How links were when it was looked last.
    pub fn links(&self) -> impl Iterator<Item = (&Name, &LinkFacts)> {
        self.links.iter().map(|(name, (_, facts))| (name, facts))
    }

    /// How destinations were then.
    pub fn destinations(&self) -> impl Iterator<Item = (&Name, &DestinationFacts)> {
        self.destinations.iter().map(|(name, (_, facts))| (name, facts))
    }

    /// The counters of the whole box.
    pub fn metrics(&self, own: &Own) -> Metrics {
        let links: Vec<_> = self.sources.links().iter().map(|(_, link)| link.counts()).collect();
        let delivered: Vec<u64> = self.sources.destinations().iter().map(|(_, to)| to.health().delivered).collect();
        Metrics {
            stamp: self.sources.stamp(),
            epoch: own.epoch,
            uptime_s: self.sources.started.0.elapsed().as_secs(),
            journal: word_of(self.sources.journal.condition()),
            disk_free_bytes: journal::free_bytes(&self.sources.data),
            memory_kb: memory_kb(),
            links_up: links.iter().filter(|link| link.up).count() as u64,
            messages: links.iter().map(|link| link.messages).sum(),
            delivered: delivered.iter().sum(),
            queued: self.queues.values().map(|queue| queue.queued).sum(),
            events_waiting: own.events_waiting,
            events_lost: own.events_lost,
            downlink: own.downlink,
        }
    }

    /// What cannot be read stays as it was: the journal's own condition tells of it.
    fn read_queues(&mut self) {
        let names: Vec<Name> = self.sources.destinations().into_iter().map(|(name, _)| name).collect();
        self.queues.retain(|name, _| names.contains(name));
        for name in names {
            if let Some(queue) = read_queue(&self.reader, &name) {
                self.queues.insert(name, queue);
            }
        }
    }
}

fn read_queue(reader: &SharedReader, destination: &Name) -> Option<Queue> {
    let now_ms = Timestamp::now().as_millisecond();
    let read = reader.read(|reader| reader.destination_queue(destination.as_str(), QUEUE_COUNTED_MAX, now_ms));
    read.ok().map(|stats| Queue {
        queued: stats.queued.unsigned_abs(),
        parked: stats.parked.unsigned_abs(),
        oldest_s: stats.oldest_ms.map(|ms| ms.unsigned_abs() / 1000),
    })
}

/// True when this was not told, or not for a while; then it counts as told.
fn is_news<F: PartialEq + Clone>(told: &mut Told<F>, name: &Name, facts: &F, now: Instant, every: Duration) -> bool {
    let is_old = |(at, before): &(Instant, F)| before == facts && now.saturating_duration_since(*at) < every;
    if told.get(name).is_some_and(is_old) {
        return false;
    }
    told.insert(name.clone(), (now, facts.clone()));
    true
}

fn link_facts(counters: &LinkCounters) -> LinkFacts {
    let counts = counters.counts();
    LinkFacts {
        up: counts.up,
        open: counts.open_connections,
        connections: counts.connections,
        parts: counts.parts,
        messages: counts.messages,
        naks: counts.refused,
        last_heard: counts.heard_ms.map(At::of_ms),
        reasons: counts.reasons.into_iter().map(|(reason, count)| (Word::new(reason), count)).collect(),
    }
}

fn destination_facts(counters: &DeliveryCounters, queue: Queue) -> DestinationFacts {
    let health = counters.health();
    DestinationFacts {
        up: health.up,
        queued: queue.queued,
        parked: queue.parked,
        delivered: health.delivered,
        refused: health.refused,
        failed: health.failed,
        last_answer: health.answered_ms.map(At::of_ms),
        lab_to_chart_p50_ms: health.latency_p50_ms,
        lab_to_chart_p99_ms: health.latency_p99_ms,
    }
}

/// Memory that the program holds, kilobytes; 0 where the kernel does not say.
pub fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
