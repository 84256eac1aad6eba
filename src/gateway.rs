//! The composition root: the only file that knows every module, and the order in which they start and stop.
//!
//! Start: journal (recovery), interpreter, destinations, links last, so that nothing is accepted before it can be
//! kept. Stop: links first (a custody answer that is under way is still given), then destinations (an EHR answer that
//! is under way is still noted), interpreter, journal last.

use crate::clock::Clock;
use crate::config::Config;
use crate::control;
use crate::delivery;
use crate::delivery::commitment::Archives;
use crate::fleet::telemetry::What;
use crate::fleet::{self, Fleet};
use crate::imaging::commitment::Commitments;
use crate::interpreter::Interpreter;
use crate::journal::{self, Journal};
use crate::link::dicom::admission::Callers;
use crate::link::host::Host;
use crate::link::{self, Custodian, LinkCounters};
use crate::orders;
use crate::watch::Alert;
use crate::watch::repeats::Repeats;
use crate::watch::station;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Descriptors kept for the journal, the destinations and the process itself.
const DESCRIPTORS_RESERVED: u64 = 40;
/// However few descriptors there are, each link may hold this many connections.
const CONNECTIONS_MIN: u64 = 4;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// A reader of the journal cannot be opened.
    #[error(transparent)]
    Reader(#[from] journal::JournalError),
    /// A link cannot be opened.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// A destination's settings do not work.
    #[error(transparent)]
    Delivery(#[from] delivery::DeliveryError),
    /// A driver does not load.
    #[error(transparent)]
    Driver(#[from] crate::driver::DriverError),
    /// The settings contradict each other in a way the check lets through.
    #[error("{0}")]
    Settings(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running gateway.
pub struct Gateway {
    journal: Journal,
    links: Vec<Arc<LinkCounters>>,
    fleet: Option<Fleet>,
    stop_links: watch::Sender<bool>,
    stop_rest: watch::Sender<bool>,
    link_tasks: Vec<JoinHandle<()>>,
    rest_tasks: Vec<JoinHandle<()>>,
    interpreter: std::thread::JoinHandle<()>,
    /// Dropped, it ends the watch.
    watching: mpsc::Sender<()>,
    watch: std::thread::JoinHandle<()>,
}

impl Gateway {
    /// Starts everything and returns once results can come in.
    pub async fn start(config: &Config) -> Result<Gateway, GatewayError> {
        crate::tls::provider();
        let descriptors = raise_descriptor_limit();
        let data = &config.gateway.data;
        let journal = Journal::open(data, &config.journal)?;
        let started = Self::start_on(config, &journal, descriptors);
        match started {
            Ok(gateway) => Ok(gateway),
            Err(error) => {
                journal.close();
                Err(error)
            }
        }
    }

    fn start_on(config: &Config, journal: &Journal, descriptors: u64) -> Result<Gateway, GatewayError> {
        let (stop_links, links_stopped) = watch::channel(false);
        let (stop_rest, rest_stopped) = watch::channel(false);
        let name = config.gateway.name();
        let zone = config.gateway.time_zone();

        let registry = config.registry()?;
        let settled = |link: &link::Config| {
            let driver = link.driver.as_deref().and_then(|id| registry.get(id));
            driver.map_or_else(|| link.clone(), |driver| link.with_driver(driver.wire()))
        };
        let settled: Vec<link::Config> = config.links.iter().map(settled).collect();

        let host = Arc::new(Host::new(&name, &zone, registry.clone(), journal));
        let rulebook = config.rulebook();
        let repeats = Arc::new(Repeats::default());
        let interpreter =
            Interpreter::new(journal, registry, &name, &zone, &config.links, rulebook, &config.destinations)?
                .registering(&config.gateway.data)
                .noting(repeats.clone())
                .imaging(&config.imaging);
        let interpreter = std::thread::Builder::new()
            .name("interpreter".to_string())
            .spawn({
                let stop = rest_stopped.clone();
                move || interpreter.run(&stop)
            })
            .map_err(|source| GatewayError::System { what: "cannot start the interpreter".to_string(), source })?;

        let asked = config.destinations.iter().filter(|to| to.commitment).map(|to| to.name.clone());
        journal.ask_only(asked.collect())?;
        journal.name_archives(config.destinations.iter().map(|to| (to.name.clone(), to.is_archive())).collect())?;
        let (mut rest_tasks, mut destinations) = (Vec::new(), Vec::new());
        for destination in &config.destinations {
            let destination = match &config.dicom {
                Some(dicom) => destination.clone().of_gateway(&dicom.ae_title),
                None => destination.clone(),
            };
            if destination.commitment {
                let asked = (Arc::new(destination.clone()), journal.clone(), rest_stopped.clone());
                rest_tasks.push(tokio::spawn(delivery::commitment::run(asked.0, asked.1, asked.2)));
            }
            let (counters, task) = delivery::start(destination, journal.clone(), zone.clone(), rest_stopped.clone())?;
            destinations.push(counters);
            rest_tasks.push(task);
        }

        let alerts = station::Standing::default();
        let clock = Clock::open(&config.gateway.data, config.gateway.clock_trusted);
        let connections = Arc::new(AtomicU64::new(0));
        let lines = config.links.len() + config.orders.len() + usize::from(config.dicom.is_some());
        let share = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / (lines as u64).max(1);
        let share = share.max(CONNECTIONS_MIN) as usize;
        let (mut links, mut link_tasks, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        let mut open = |line: &link::Config, custodian: &Custodian| -> Result<(), GatewayError> {
            let (counters, tasks) =
                link::open(line, custodian, &host, &links_stopped, &connections, share, &mut listeners)?;
            links.push(counters);
            link_tasks.extend(tasks);
            Ok(())
        };
        for settings in &settled {
            open(settings, &Custodian::Results(journal.clone()))?;
        }
        for settings in &config.orders {
            let told = settings.told(&config.links);
            let desk = orders::Desk::new(journal, &settings.name, settings.context(&zone), told);
            open(&settings.line(), &Custodian::Orders(journal.clone(), Arc::new(desk)))?;
        }
        if let Some(settings) = &config.dicom {
            let archives = config.destinations.iter().filter(|to| to.is_archive());
            let archives = archives.map(|to| to.name.clone()).collect();
            let commitments = Commitments::new(journal, &settings.ae_title, &config.modalities, archives);
            rest_tasks.push(tokio::spawn(commitments.clone().run(rest_stopped.clone())));
            let worklist = orders::Worklist::new(journal, config.worklist.clone(), zone.clone());
            let archives = Archives::new(&config.destinations, settings.listen_tls.is_some());
            let callers = Callers::new(settings, &config.modalities, archives.ae_titles(), share);
            let services = link::dicom::services::Services::new(journal, worklist, commitments, archives);
            let (counters, tasks) =
                link::dicom::open(settings, callers, journal, services, &links_stopped, &connections)?;
            links.extend(counters);
            link_tasks.extend(tasks);
        }
        for settings in &config.order_feeds {
            let feed = orders::Feed::new(settings, journal, &zone, &config.gateway.data);
            links.push(feed.counters());
            link_tasks.push(tokio::spawn(feed.run(links_stopped.clone())));
        }
        link_tasks.extend(listeners.into_iter().map(|listener| tokio::spawn(listener.serve())));
        let mut fleet = None;
        if let Some(settings) = &config.fleet {
            let sources = fleet::Sources::new(config, journal, &links, &destinations, &clock, &alerts);
            let (handle, task) = fleet::start(settings, sources, rest_stopped.clone());
            fleet = Some(handle);
            rest_tasks.push(task);
        }
        rest_tasks.push(tokio::spawn(control::serve(
            config.gateway.data.clone(),
            journal.clone(),
            links.clone(),
            fleet.clone(),
            alerts.clone(),
            rest_stopped,
        )));
        let scene = station::Scene {
            config: config.watch.clone(),
            data: config.gateway.data.clone(),
            journal: config.journal.clone(),
            zone,
            clock,
            links: links.clone(),
            repeats,
            certificates: config.own_certificates(),
        };
        let (watching, watched) = mpsc::channel();
        let watch = std::thread::Builder::new()
            .name("watch".to_string())
            .spawn({
                let (alerts, fleet) = (alerts, fleet.clone());
                let tell = move |alert: &Alert| fleet.iter().for_each(|fleet| fleet.tell(What::alert(alert)));
                move || station::run(&scene, &alerts, &watched, tell)
            })
            .map_err(|source| GatewayError::System { what: "cannot start the watch".to_string(), source })?;
        let journal = journal.clone();
        Ok(Gateway {
            journal,
            links,
            fleet,
            stop_links,
            stop_rest,
            link_tasks,
            rest_tasks,
            interpreter,
            watching,
            watch,
        })
    }

    /// The journal, for reading and for operator verbs.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The links' counters.
    pub fn links(&self) -> &[Arc<LinkCounters>] {
        &self.links
    }

    /// The way to the fleet; none without `[fleet]`.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// Stops in order. What was acknowledged is on disk before this is called and after it returns.
    pub async fn stop(self) {
        let _ = self.stop_links.send(true);
        for task in self.link_tasks {
            let _ = task.await;
        }
        let _ = self.stop_rest.send(true);
        for task in self.rest_tasks {
            let _ = task.await;
        }
        self.journal.wake_interpreter();
        drop(self.watching);
        let (interpreter, watch, journal) = (self.interpreter, self.watch, self.journal);
        let _ = tokio::task::spawn_blocking(move || {
            let _ = interpreter.join();
            let _ = watch.join();
            journal.close();
        })
        .await;
    }
}

/// Runs a gateway until SIGTERM or SIGINT.
pub async fn run(config: &Config) -> Result<(), GatewayError> {
    use tokio::signal::unix::{SignalKind, signal};
    let system = |what: &str| {
        let what = what.to_string();
        move |source| GatewayError::System { what, source }
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot listen for SIGINT"))?;
    let gateway = Gateway::start(config).await?;
    tracing::info!(links = config.links.len(), destinations = config.destinations.len(), "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    gateway.stop().await;
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one and tells what it is.
fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write the struct they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return DESCRIPTORS_RESERVED;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
            limit = raised;
        }
    }
    limit.rlim_cur
}
