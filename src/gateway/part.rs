//! The parts of a running gateway: each starts and stops by itself, and is known by the settings it runs with. What two
//! configurations make of a box differs in parts, and only those are touched.

use super::GatewayError;
use crate::config::Config;
use crate::delivery::commitment::Archives;
use crate::delivery::{self, DeliveryCounters, Tryout};
use crate::driver::Registry;
use crate::imaging::commitment::Commitments;
use crate::interpreter::Interpreter;
use crate::journal::Journal;
use crate::link::dicom::admission::Callers;
use crate::link::dicom::services::Services;
use crate::link::host::Host;
use crate::link::{self, Custodian, LinkCounters};
use crate::orders;
use crate::service::{FRESH, INTERPRETED, Pulse};
use crate::watch::repeats::Repeats;
use futures_util::FutureExt;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Descriptors kept for the journal, the destinations and the process itself.
pub(super) const DESCRIPTORS_RESERVED: u64 = 40;
/// However few descriptors there are, each link may hold this many connections.
const CONNECTIONS_MIN: u64 = 4;

/// Which part. In this order they start, so that nothing is accepted before it can be kept; in the other they stop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartId {
    /// The loop from stored bytes to the outbox.
    Interpreter,
    /// A destination, by name.
    Destination(String),
    /// Links and connections of the EHR that share an address, by the name of the first; mostly there is one.
    Line(String),
    /// Where modalities call.
    Dicom,
    /// A FHIR server that is asked for orders, by name.
    OrderFeed(String),
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartId::Interpreter => f.write_str("interpreter"),
            PartId::Destination(name) => write!(f, "destination {name}"),
            PartId::Line(name) => write!(f, "link {name}"),
            PartId::Dicom => f.write_str("dicom"),
            PartId::OrderFeed(name) => write!(f, "order feed {name}"),
        }
    }
}

/// A part that runs.
pub(super) struct Part {
    pub id: PartId,
    settings: Vec<u8>,
    stop: watch::Sender<bool>,
    pub(super) tasks: Vec<JoinHandle<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// A task of it came to a bad end.
    has_died: bool,
    /// Its loops, and how long each may take to go round.
    pulses: Vec<(Pulse, Duration)>,
    pub links: Vec<Arc<LinkCounters>>,
    pub destinations: Vec<Arc<DeliveryCounters>>,
}

impl Part {
    /// True when it runs as it would with this plan.
    pub fn is(&self, plan: &Plan) -> bool {
        self.id == plan.id && self.settings == plan.settings
    }

    /// True when it ends where what comes in is accepted.
    pub fn accepts(&self) -> bool {
        matches!(self.id, PartId::Line(_) | PartId::Dicom | PartId::OrderFeed(_))
    }

    /// Asks it to stop; [`Part::ended`] waits for it.
    pub fn ask_to_stop(&self) {
        let _ = self.stop.send(true);
    }

    /// True when it does not do any more what it is for: a task of it panicked, its thread ended, or one of its loops does
    /// not go round.
    pub fn is_stuck(&mut self) -> bool {
        self.tasks.retain_mut(|task| {
            let ended = if task.is_finished() { task.now_or_never() } else { None };
            self.has_died |= matches!(&ended, Some(Err(error)) if error.is_panic());
            ended.is_none()
        });
        let has_ended = self.thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished);
        self.has_died || has_ended || self.pulses.iter().any(|(pulse, fresh)| pulse.is_stuck(*fresh))
    }

    /// Waits until it has ended. Custody answers that are under way are given first, answers of an EHR noted.
    pub async fn ended(self, journal: &Journal) {
        for task in self.tasks {
            let _ = task.await;
        }
        if let Some(thread) = self.thread {
            journal.wake_interpreter();
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// What a configuration makes of a part.
pub(super) struct Plan {
    pub id: PartId,
    /// Everything that decides how it runs.
    settings: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Interpreter,
    Destination(Box<delivery::Config>, Option<Tryout>),
    Lines(Vec<Line>),
    Dicom,
    OrderFeed(Box<orders::feed::Config>),
}

/// A line, and who takes custody of what comes over it.
#[derive(Clone)]
enum Line {
    Results(Box<link::Config>),
    Orders(Box<orders::Config>),
}

impl Line {
    fn settings(&self) -> link::Config {
        match self {
            Line::Results(link) => (**link).clone(),
            Line::Orders(orders) => orders.line(),
        }
    }
}

/// What lasts as long as the gateway does.
pub(super) struct Ground {
    pub journal: Journal,
    /// Descriptors that the process may open.
    pub descriptors: u64,
    pub connections: Arc<AtomicU64>,
    pub repeats: Arc<Repeats>,
}

/// All parts of a configuration, in the order in which they start.
pub(super) fn plan(config: &Config, registry: &Registry) -> Vec<Plan> {
    let zone = config.gateway.time_zone();
    let box_wide = (config.gateway.name(), format!("{zone:?}"));
    let mut plans = Vec::new();
    if !config.results_wait() {
        plans.push(Plan {
            id: PartId::Interpreter,
            settings: bytes(&(
                &box_wide,
                &config.links,
                &config.rules,
                &config.destinations,
                &config.imaging,
                config.site_drivers(),
            )),
            kind: Kind::Interpreter,
        });
    }
    for destination in config.destinations_called() {
        let tryout = config.tryout_of(&destination.name).cloned();
        let how = format!("{destination:?} {}", tryout.is_some());
        plans.push(Plan {
            id: PartId::Destination(destination.name.clone()),
            settings: [bytes(&(&box_wide, &destination)), how.into_bytes()].concat(),
            kind: Kind::Destination(Box::new(destination), tryout),
        });
    }
    for lines in lines(config, registry) {
        let names: Vec<String> = lines.iter().map(|line| line.settings().name).collect();
        let each: Vec<_> = lines
            .iter()
            .map(|line| match line {
                // What the driver says of the wire stands in no file.
                Line::Results(link) => (format!("{link:?}"), site_drivers_of(config, link)),
                Line::Orders(orders) => (format!("{orders:?} {:?}", orders.told(&config.links)), Vec::new()),
            })
            .collect();
        plans.push(Plan {
            id: PartId::Line(names.first().cloned().unwrap_or_default()),
            settings: bytes(&(&box_wide, each)),
            kind: Kind::Lines(lines),
        });
    }
    if let Some(dicom) = &config.dicom {
        let archives: Vec<_> = config.destinations.iter().filter(|to| to.is_archive() || to.commitment).collect();
        plans.push(Plan {
            id: PartId::Dicom,
            settings: bytes(&(&box_wide, dicom, &config.modalities, &config.worklist, archives)),
            kind: Kind::Dicom,
        });
    }
    for feed in &config.order_feeds {
        plans.push(Plan {
            id: PartId::OrderFeed(feed.name.clone()),
            settings: bytes(&(&box_wide, feed)),
            kind: Kind::OrderFeed(Box::new(feed.clone())),
        });
    }
    plans
}

fn bytes(settings: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(settings).unwrap_or_default()
}

/// The lines, those together that share an address.
fn lines(config: &Config, registry: &Registry) -> Vec<Vec<Line>> {
    let settled = |link: &link::Config| {
        let driver = link.driver.as_deref().and_then(|id| registry.get(id));
        driver.map_or_else(|| link.clone(), |driver| link.with_driver(driver.wire()))
    };
    let results = config.links.iter().map(|link| Line::Results(Box::new(settled(link))));
    let all = results.chain(config.orders.iter().map(|orders| Line::Orders(Box::new(orders.clone()))));
    let mut groups: Vec<(Option<String>, Vec<Line>)> = Vec::new();
    for line in all {
        let address = line.settings().listen;
        match groups.iter_mut().find(|(at, _)| address.is_some() && *at == address) {
            Some((_, group)) => group.push(line),
            None => groups.push((address, vec![line])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The site's drivers by which a link is read, or might be: all of them where it names none of its own.
fn site_drivers_of<'c>(config: &'c Config, link: &link::Config) -> Vec<&'c (String, String)> {
    let named: Vec<Option<&String>> = match link.instrument.as_slice() {
        [] => vec![link.driver.as_ref()],
        several => several.iter().map(|one| one.driver.as_ref().or(link.driver.as_ref())).collect(),
    };
    let is_built_in =
        |name: &Option<&String>| name.is_some_and(|name| config.site_drivers().iter().all(|(site, _)| site != name));
    if named.iter().all(is_built_in) { Vec::new() } else { config.site_drivers().iter().collect() }
}

impl Ground {
    /// Starts a part.
    ///
    /// # Errors
    /// Why it does not start, and what of it did.
    pub fn start(&self, plan: Plan, config: &Config, host: &Arc<Host>) -> Result<Part, Box<(Part, GatewayError)>> {
        let (stop, stopped) = watch::channel(false);
        let mut part = Part {
            id: plan.id,
            settings: plan.settings,
            stop,
            tasks: Vec::new(),
            thread: None,
            has_died: false,
            pulses: Vec::new(),
            links: Vec::new(),
            destinations: Vec::new(),
        };
        match self.fill(&mut part, plan.kind, config, host, stopped) {
            Ok(()) => Ok(part),
            Err(error) => Err(Box::new((part, error))),
        }
    }

    fn fill(
        &self,
        part: &mut Part,
        kind: Kind,
        config: &Config,
        host: &Arc<Host>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), GatewayError> {
        let zone = config.gateway.time_zone();
        let journal = &self.journal;
        match kind {
            Kind::Interpreter => self.interpret(part, config, stopped)?,
            Kind::Destination(settings, tryout) => {
                if settings.commitment && tryout.is_none() {
                    let asked = (Arc::new((*settings).clone()), journal.clone(), stopped.clone());
                    part.tasks.push(tokio::spawn(delivery::commitment::run(asked.0, asked.1, asked.2)));
                }
                let goes_round = tryout.is_none();
                let (counters, task) = delivery::start_in(tryout, *settings, journal.clone(), zone, stopped)?;
                // In a trial it waits for the end of that.
                part.pulses.extend(goes_round.then(|| (counters.pulse().clone(), FRESH)));
                part.destinations.push(counters);
                part.tasks.push(task);
            }
            Kind::Lines(lines) => self.open(part, &lines, config, host, &stopped)?,
            Kind::Dicom => self.let_modalities_in(part, config, &stopped)?,
            Kind::OrderFeed(settings) => {
                let feed = orders::Feed::new(&settings, journal, &zone, &config.gateway.data);
                part.links.push(feed.counters());
                part.tasks.push(tokio::spawn(feed.run(stopped)));
            }
        }
        Ok(())
    }

    fn interpret(&self, part: &mut Part, config: &Config, stopped: watch::Receiver<bool>) -> Result<(), GatewayError> {
        let (name, zone) = (config.gateway.name(), config.gateway.time_zone());
        let (registry, rulebook) = (config.registry()?, config.rulebook());
        let interpreter =
            Interpreter::new(&self.journal, registry, &name, &zone, &config.links, rulebook, &config.destinations)?
                .registering(&config.gateway.data)
                .noting(self.repeats.clone())
                .imaging(&config.imaging);
        part.pulses.push((interpreter.pulse(), INTERPRETED));
        let thread = std::thread::Builder::new()
            .name("interpreter".to_string())
            .spawn(move || interpreter.run(&stopped))
            .map_err(|source| GatewayError::System { what: "cannot start the interpreter".to_string(), source })?;
        part.thread = Some(thread);
        Ok(())
    }

    fn open(
        &self,
        part: &mut Part,
        lines: &[Line],
        config: &Config,
        host: &Arc<Host>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(), GatewayError> {
        let (share, mut listeners) = (self.share(config), Vec::new());
        for line in lines {
            let custodian = match line {
                Line::Results(_) => Custodian::Results(self.journal.clone()),
                Line::Orders(settings) => {
                    let (told, context) = (settings.told(&config.links), settings.context(&config.gateway.time_zone()));
                    let desk = orders::Desk::new(&self.journal, &settings.name, context, told);
                    Custodian::Orders(self.journal.clone(), Arc::new(desk))
                }
            };
            let (counters, tasks) =
                link::open(&line.settings(), &custodian, host, stopped, &self.connections, share, &mut listeners)?;
            part.links.push(counters);
            part.tasks.extend(tasks);
        }
        part.tasks.extend(listeners.into_iter().map(|listener| tokio::spawn(listener.serve())));
        Ok(())
    }

    fn let_modalities_in(
        &self,
        part: &mut Part,
        config: &Config,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(), GatewayError> {
        let Some(settings) = &config.dicom else { return Ok(()) };
        let journal = &self.journal;
        let archives = config.destinations.iter().filter(|to| to.is_archive());
        let archives = archives.map(|to| to.name.clone()).collect();
        let commitments = Commitments::new(journal, &settings.ae_title, &config.modalities, archives);
        let worklist = orders::Worklist::new(journal, config.worklist.clone(), config.gateway.time_zone());
        let archives = Archives::new(&config.destinations, settings.listen_tls.is_some());
        let callers = Callers::new(settings, &config.modalities, archives.ae_titles(), self.share(config));
        let services = Services::new(journal, worklist, commitments.clone(), archives);
        let (counters, tasks) = link::dicom::open(settings, callers, journal, services, stopped, &self.connections)?;
        part.links.extend(counters);
        part.tasks.extend(tasks);
        part.tasks.push(tokio::spawn(commitments.run(stopped.clone())));
        Ok(())
    }

    /// Connections that each link may hold.
    fn share(&self, config: &Config) -> usize {
        let lines = config.links.len() + config.orders.len() + usize::from(config.dicom.is_some());
        let share = self.descriptors.saturating_sub(DESCRIPTORS_RESERVED) / (lines as u64).max(1);
        share.max(CONNECTIONS_MIN) as usize
    }
}
