//! The composition root: the only file that knows every module, and the order in which they start and stop.
//!
//! Start: journal (recovery), interpreter, destinations, links last, so that nothing is accepted before it can be
//! kept. Stop: links first (a custody answer that is under way is still given), then destinations (an EHR answer that
//! is under way is still noted), interpreter, journal last.
//!
//! Each of them is a [`part`] that starts and stops by itself. Another configuration is applied as the difference
//! ([`Gateway::apply`]): parts whose settings are the same are not touched and keep their connections.

pub mod part;

use crate::audit::{self, Act};
use crate::board;
use crate::board::front::Front;
use crate::clock::Clock;
use crate::config::Config;
use crate::control;
use crate::delivery::{self, DeliveryCounters};
use crate::fleet::telemetry::What;
use crate::fleet::{self, Change, Fleet};
use crate::journal::{self, Journal, crash};
use crate::link::host::Host;
use crate::link::{self, LinkCounters};
use crate::metrics;
use crate::service::{FRESH, INTERPRETED, Manager, Pulse, is_supervised, unused};
use crate::update::{self, Updates};
use crate::watch::station;
use crate::watch::syslog::Syslog;
use crate::watch::{Alert, Watch};
use jiff::Timestamp;
pub use part::PartId;
use part::{DESCRIPTORS_RESERVED, Ground, Part, plan};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
    ground: Ground,
    /// In the order in which they start.
    parts: Vec<Part>,
    running: Running,
    fleet: Option<Fleet>,
    stop_rest: watch::Sender<bool>,
    rest_tasks: Vec<JoinHandle<()>>,
    watch: Option<Watching>,
    metrics: Option<Metrics>,
    started: Timestamp,
    began: Instant,
    clock: Clock,
    alerts: station::Standing,
    changes: (tokio::sync::mpsc::Sender<Change>, tokio::sync::mpsc::Receiver<Change>),
}

/// What runs now, for whoever looks at it: it changes with the configuration.
struct Running {
    config: watch::Sender<Arc<Config>>,
    links: watch::Sender<Vec<Arc<LinkCounters>>>,
    destinations: watch::Sender<Vec<Arc<DeliveryCounters>>>,
}

/// The thread of the watch, and the settings it runs with.
struct Watching {
    settings: String,
    /// Dropped, it ends the watch.
    running: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Watch>,
}

/// Whoever is told what is counted, and the settings of that.
struct Metrics {
    settings: (String, metrics::Config),
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What became of the parts when another configuration was applied.
#[derive(Debug, Default)]
pub struct Changes {
    /// Parts that run as before, untouched.
    pub kept: Vec<PartId>,
    /// Parts that were started, anew or for the first time.
    pub started: Vec<PartId>,
    /// Parts that are no more.
    pub removed: Vec<PartId>,
    /// Parts that do not start, and why. [`Gateway::apply`] with the same configuration tries them again.
    pub failed: Vec<(PartId, GatewayError)>,
}

impl Gateway {
    /// Starts everything and returns once results can come in.
    pub async fn start(config: &Config) -> Result<Gateway, GatewayError> {
        Gateway::start_on(config, &Front::default(), &Pulse::default()).await
    }

    /// The same on a box with hardware of its own, which hears of the journal before anything can be acknowledged. The
    /// pulse beats as the start goes along.
    async fn start_on(config: &Config, front: &Front, progress: &Pulse) -> Result<Gateway, GatewayError> {
        crate::tls::provider();
        let descriptors = raise_descriptor_limit();
        let journal = Journal::open_with(&config.gateway.data, &config.journal, progress)?;
        progress.beat();
        front.guards(&journal);
        let clock = Clock::open(&config.gateway.data, config.gateway.clock_trusted);
        // Before the first entry can come in by it.
        if let Err(error) = journal.note_clock(clock.now().1) {
            tracing::warn!("what the clock is worth is not noted yet: {error}");
        }
        let ground =
            Ground { journal: journal.clone(), descriptors, connections: Arc::default(), repeats: Arc::default() };
        let mut gateway = Gateway::on(ground, clock, config);
        let failure = match gateway.apply(config).await {
            Ok(changes) => changes.failed.into_iter().next().map(|(_, error)| error),
            Err(error) => Some(error),
        };
        match failure.map_or_else(|| gateway.serve_others(config), Err) {
            Ok(()) => Ok(gateway),
            Err(error) => {
                gateway.stop().await;
                Err(error)
            }
        }
    }

    /// What stands around the parts, of which there is none yet.
    fn on(ground: Ground, clock: Clock, config: &Config) -> Gateway {
        Gateway {
            ground,
            parts: Vec::new(),
            running: Running {
                config: watch::Sender::new(Arc::new(config.clone())),
                links: watch::Sender::new(Vec::new()),
                destinations: watch::Sender::new(Vec::new()),
            },
            fleet: None,
            stop_rest: watch::Sender::new(false),
            rest_tasks: Vec::new(),
            watch: None,
            metrics: None,
            started: Timestamp::now(),
            began: Instant::now(),
            clock,
            alerts: station::Standing::default(),
            changes: tokio::sync::mpsc::channel(1),
        }
    }

    /// What serves those who look after the box.
    fn serve_others(&mut self, config: &Config) -> Result<(), GatewayError> {
        let journal = &self.ground.journal;
        if let Some(settings) = &config.fleet {
            let sources = fleet::Sources::new(
                journal,
                self.running.config.subscribe(),
                self.running.links.subscribe(),
                self.running.destinations.subscribe(),
                &self.clock,
                &self.alerts,
            );
            let (handle, task) = fleet::start(settings, sources, self.changes.0.clone(), self.stop_rest.subscribe());
            self.fleet = Some(handle);
            self.rest_tasks.push(task);
        }
        self.rest_tasks.push(tokio::spawn(control::serve(
            config.gateway.data.clone(),
            control::Answers {
                journal: journal.clone(),
                links: self.running.links.subscribe(),
                destinations: self.running.destinations.subscribe(),
                fleet: self.fleet.clone(),
                alerts: self.alerts.clone(),
            },
            self.stop_rest.subscribe(),
        )));
        self.metrics = self.measure(config);
        self.watch_over(config)
    }

    /// Makes the gateway run with another configuration. Parts with other settings are stopped, sources first, and
    /// started anew; the others go on as if nothing had happened. Nothing is lost on the way: what was acknowledged is
    /// in the journal, and so is what waits for a destination.
    ///
    /// A part that does not start is among [`Changes::failed`], and the others run.
    ///
    /// # Errors
    /// What the gateway stands on is another: the data directory, `[journal]`, `[fleet]` or the word for the clock. Or
    /// drivers do not load. Then nothing was changed.
    pub async fn apply(&mut self, config: &Config) -> Result<Changes, GatewayError> {
        let now = self.running.config.borrow().clone();
        if let Some(setting) = now.foundation_differs(config) {
            return Err(GatewayError::Settings(format!("`{setting}` takes a start of the program to change")));
        }
        let registry = config.registry()?;
        // Before anything is stopped: it may fail.
        self.name_destinations(config)?;
        let plans = plan(config, &registry);
        let (kept, old): (Vec<Part>, Vec<Part>) =
            std::mem::take(&mut self.parts).into_iter().partition(|part| plans.iter().any(|plan| part.is(plan)));
        let mut changes = Changes::default();
        let planned = |part: &Part| plans.iter().any(|plan| plan.id == part.id);
        changes.removed = old.iter().filter(|part| !planned(part)).map(|part| part.id.clone()).collect();
        self.stop_parts(old).await;
        crash::point("parts-stopped");

        let host =
            Arc::new(Host::new(&config.gateway.name(), &config.gateway.time_zone(), registry, &self.ground.journal));
        let mut kept: std::collections::VecDeque<Part> = kept.into();
        for plan in plans {
            if let Some(at) = kept.iter().position(|part| part.id == plan.id)
                && let Some(part) = kept.remove(at)
            {
                changes.kept.push(part.id.clone());
                self.parts.push(part);
                continue;
            }
            let id = plan.id.clone();
            match self.ground.start(plan, config, &host) {
                Ok(part) => {
                    changes.started.push(id);
                    self.parts.push(part);
                }
                Err(failed) => {
                    let (half, error) = *failed;
                    self.stop_parts(vec![half]).await;
                    changes.failed.push((id, error));
                }
            }
        }
        self.running.links.send_replace(self.parts.iter().flat_map(|part| part.links.clone()).collect());
        self.running.destinations.send_replace(self.parts.iter().flat_map(|part| part.destinations.clone()).collect());
        self.running.config.send_replace(Arc::new(config.clone()));
        if self.watch.is_some() {
            self.measure_otherwise(config).await;
            self.watch_over(config)?;
        }
        Ok(changes)
    }

    /// The next configuration that the fleet asks for. Whoever runs the gateway waits for it and [`Gateway::change`]s it.
    pub async fn asked(&mut self) -> Change {
        match self.changes.1.recv().await {
            Some(change) => change,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Does what the fleet asked for, and tells it.
    pub async fn change(&mut self, change: Change) {
        let data = &change.config.gateway.data;
        let applied = self.apply(&change.config).await;
        let told = match applied {
            Err(error) => Err(error.to_string()),
            Ok(changes) => {
                let Changes { kept, started, removed, failed } = &changes;
                tracing::info!(event = "config-changed", ?kept, ?started, ?removed, "the configuration is another");
                let named = |parts: &[PartId]| parts.iter().map(PartId::to_string).collect();
                drop(noted(data, Act::Configured { started: named(started), removed: named(removed) }));
                let failed: Vec<String> = failed.iter().map(|(part, why)| format!("{part}: {why}")).collect();
                if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
            }
        };
        let _ = change.done.send(told);
    }

    /// What does not do any more what it is for; nothing as long as all is well.
    pub fn stuck(&mut self) -> Vec<String> {
        let parts = self.parts.iter_mut().filter_map(|part| part.is_stuck().then(|| part.id.to_string()));
        stuck_journal(&self.ground.journal.pulse()).into_iter().chain(parts).collect()
    }

    /// Sources first, then destinations, the interpreter last.
    async fn stop_parts(&self, mut parts: Vec<Part>) {
        parts.sort_by(|a, b| b.id.cmp(&a.id));
        let (sources, rest): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(Part::accepts);
        let (destinations, interpreter): (Vec<Part>, Vec<Part>) =
            rest.into_iter().partition(|part| part.id != PartId::Interpreter);
        for kind in [sources, destinations, interpreter] {
            kind.iter().for_each(Part::ask_to_stop);
            for part in kind {
                part.ended(&self.ground.journal).await;
            }
        }
    }

    /// Tells the journal which destinations are asked to commit to images, and which are archives.
    fn name_destinations(&self, config: &Config) -> Result<(), GatewayError> {
        // What is not asked about any more is forgotten for good, and a trial may go back.
        if config.trial.is_none() {
            let asked = config.destinations.iter().filter(|to| to.commitment).map(|to| to.name.clone());
            self.ground.journal.ask_only(asked.collect())?;
        }
        let archives = config.destinations.iter().map(|to| (to.name.clone(), to.is_archive()));
        Ok(self.ground.journal.name_archives(archives.collect())?)
    }

    /// Serves whoever is told what is counted.
    fn measure(&self, config: &Config) -> Option<Metrics> {
        let settings = config.metrics.as_ref()?;
        let sources = metrics::Sources {
            name: config.gateway.name(),
            data: config.gateway.data.clone(),
            journal: self.ground.journal.clone(),
            links: self.running.links.subscribe(),
            destinations: self.running.destinations.subscribe(),
            clock: self.clock.clone(),
            alerts: self.alerts.clone(),
            started: self.started,
        };
        let stop = watch::Sender::new(false);
        let tasks = metrics::start(settings, sources, &stop.subscribe());
        Some(Metrics { settings: (config.gateway.name(), settings.clone()), stop, tasks })
    }

    /// The same anew when the settings are others.
    async fn measure_otherwise(&mut self, config: &Config) {
        let settings = config.metrics.clone().map(|settings| (config.gateway.name(), settings));
        if self.metrics.as_ref().map(|metrics| &metrics.settings) != settings.as_ref() {
            if let Some(metrics) = self.metrics.take() {
                metrics.end().await;
            }
            self.metrics = self.measure(config);
        }
    }

    /// Starts the watch, anew when it has other settings.
    fn watch_over(&mut self, config: &Config) -> Result<(), GatewayError> {
        let zone = config.gateway.time_zone();
        let settings = format!("{:?}", (&config.watch, config.own_certificates(), &zone));
        let before = self.watch.take_if(|watching| watching.settings != settings).and_then(Watching::end);
        if self.watch.is_some() {
            return Ok(());
        }
        let scene = station::Scene {
            began: self.began,
            config: config.watch.clone(),
            data: config.gateway.data.clone(),
            journal: config.journal.clone(),
            custody: self.ground.journal.clone(),
            zone,
            clock: self.clock.clone(),
            links: self.running.links.subscribe(),
            destinations: self.running.destinations.subscribe(),
            running: self.running.config.subscribe(),
            updates: Updates::of(config),
            repeats: self.ground.repeats.clone(),
            certificates: config.own_certificates(),
        };
        let (running, watched) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("watch".to_string())
            .spawn({
                let (alerts, fleet) = (self.alerts.clone(), self.fleet.clone());
                let network = tokio::runtime::Handle::current();
                let mut syslog =
                    config.watch.syslog.as_ref().and_then(|config| Syslog::start(config, &self.clock, &network));
                let tell = move |alert: &Alert| {
                    fleet.iter().for_each(|fleet| fleet.tell(What::alert(alert)));
                    syslog.iter_mut().for_each(|syslog| syslog.tell(alert));
                };
                move || station::run(&scene, before, &alerts, &watched, tell)
            })
            .map_err(|source| GatewayError::System { what: "cannot start the watch".to_string(), source })?;
        self.watch = Some(Watching { settings, running, thread });
        Ok(())
    }

    /// What the box's own hardware shows.
    fn seen_by_board(&self) -> board::Sources {
        board::Sources {
            journal: self.ground.journal.clone(),
            links: self.running.links.subscribe(),
            destinations: self.running.destinations.subscribe(),
            alerts: self.alerts.clone(),
            fleet: self.fleet.clone(),
        }
    }

    /// Why the box is not to be reset by its button, for whoever stands in front of it.
    fn why_no_reset(&self, config: &Config) -> Option<String> {
        let found = match self.ground.journal.reader().and_then(|reader| reader.undelivered()) {
            Ok(found) => found,
            Err(error) => return Some(error.to_string()),
        };
        if !is_supervised() {
            Some("nobody would start it again; stop it, and see `afferent reset --help`".to_string())
        } else if update::is_on_trial(config) {
            Some("a release is on trial; wait for its end (`afferent update status`)".to_string())
        } else if found.total() > 0 {
            Some(format!("{found} went nowhere yet; see `afferent journal stats`, and `afferent reset --help`"))
        } else {
            None
        }
    }

    /// The journal, for reading and for operator verbs.
    pub fn journal(&self) -> &Journal {
        &self.ground.journal
    }

    /// The links' counters.
    pub fn links(&self) -> Vec<Arc<LinkCounters>> {
        self.running.links.borrow().clone()
    }

    /// The way to the fleet; none without `[fleet]`.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// Stops in order. What was acknowledged is on disk before this is called and after it returns.
    pub async fn stop(mut self) {
        let parts = std::mem::take(&mut self.parts);
        let (sources, rest): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(Part::accepts);
        self.stop_parts(sources).await;
        let _ = self.stop_rest.send(true);
        self.stop_parts(rest).await;
        if let Some(metrics) = self.metrics {
            metrics.end().await;
        }
        for task in self.rest_tasks {
            let _ = task.await;
        }
        let (watch, journal) = (self.watch, self.ground.journal);
        let _ = tokio::task::spawn_blocking(move || {
            let _ = watch.and_then(Watching::end);
            journal.close();
        })
        .await;
    }
}

impl Metrics {
    /// Serves nobody any more; who is just asking may not get an answer.
    async fn end(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

impl Watching {
    /// Ends the watch, which writes what it has learnt, for another to go on with.
    fn end(self) -> Option<Watch> {
        drop(self.running);
        self.thread.join().ok()
    }
}

/// A box that runs for so long without its supply has one.
const SUPPLY_GONE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A stop waits for its line of the record no longer than this.
const NOTED: std::time::Duration = std::time::Duration::from_secs(2);

/// Notes something of the gateway itself, beside what it does.
fn noted(data: &Path, act: Act) -> tokio::task::JoinHandle<()> {
    let data = data.to_path_buf();
    tokio::task::spawn_blocking(move || audit::note_or_tell(&data, "gateway", act))
}

/// Why a gateway ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to: SIGTERM, SIGINT.
    Told,
    /// The supply went, and nothing is acknowledged any more. It is back now, or the box runs without for a minute, or the
    /// program was told to end.
    Supply,
    /// Somebody in front of the box wants it to be as new.
    Reset,
}

/// Runs a gateway until SIGTERM or SIGINT, or until the box's own hardware ends it.
pub async fn run(config: &Config) -> Result<Ended, GatewayError> {
    use tokio::signal::unix::{SignalKind, signal};
    let system = |what: &str| {
        let what = what.to_string();
        move |source| GatewayError::System { what, source }
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot listen for SIGINT"))?;
    let mut front = Front::start(config.board.as_ref(), &config.gateway.name());
    let mut manager = Manager::of_environment(front.lease()).map_err(system("cannot start a thread"))?;
    let mut gateway = match Gateway::start_on(config, &front, &manager.started()).await {
        Ok(gateway) => gateway,
        Err(error) => {
            front.end().await;
            return Err(error);
        }
    };
    let (links, destinations) = (config.links.len(), config.destinations.len());
    tracing::info!(event = "gateway-ready", links, destinations, "ready");
    manager.ready(&format!("{links} links, {destinations} destinations"));
    let data = &config.gateway.data;
    let started = noted(data, Act::GatewayStarted { version: env!("CARGO_PKG_VERSION") });
    for address in unused() {
        tracing::warn!(
            "the service manager listens on {address} (afferent.socket), and nothing here does: whoever calls there waits \
             for ever; give a `listen` this address, or take it out of `ListenStream=`"
        );
    }
    front.runs(|| gateway.seen_by_board());
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ended::Told,
            _ = interrupt.recv() => break Ended::Told,
            // The journal has heard of it already, whatever is under way here.
            () = front.supply_lost() => break Ended::Supply,
            change = gateway.asked() => {
                let journal = gateway.ground.journal.pulse();
                let changed = gateway.change(change);
                tokio::pin!(changed);
                // Parts end in order, which takes as long as they take.
                let until = Instant::now() + INTERPRETED;
                loop {
                    tokio::select! {
                        () = &mut changed => break,
                        () = manager.due(), if Instant::now() < until => {
                            manager.alive(stuck_journal(&journal).into_iter().collect());
                        }
                    }
                }
            }
            () = manager.due() => manager.alive(gateway.stuck()),
            () = front.reset_asked() => match gateway.why_no_reset(config) {
                None => break Ended::Reset,
                Some(why) => tracing::error!(event = "reset-failed", "this box is not reset: {why}"),
            },
        }
    };
    tracing::info!(event = "gateway-stopping", ?ended, "stopping");
    front.stopping();
    manager.stopping();
    // Nothing is written that need not be while the supply is gone, and a reset takes the record with it.
    let stopped = async {
        let _ = started.await;
        if ended == Ended::Told {
            let _ = noted(data, Act::GatewayStopped).await;
        }
    };
    tokio::join!(gateway.stop(), async { drop(tokio::time::timeout(NOTED, stopped).await) });
    front.stopped();
    if ended == Ended::Supply {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Whoever still runs has power: it is the wire that is broken, and results go on without.
            () = tokio::time::sleep(SUPPLY_GONE_MAX) => {}
            () = front.supply_back() => {}
        }
    }
    front.end().await;
    Ok(ended)
}

/// The journal, when its writer does not go round any more.
fn stuck_journal(writer: &Pulse) -> Option<String> {
    writer.is_stuck(FRESH).then(|| "journal".to_string())
}

/// Raises the soft limit of open descriptors to the hard one and tells what it is.
// How wide the number is depends on the machine.
#[allow(clippy::useless_conversion)]
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
    limit.rlim_cur.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing here takes longer, however busy the machine is.
    #[cfg(feature = "board")]
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

    #[tokio::test(flavor = "multi_thread")]
    async fn what_came_to_a_bad_end_is_told_and_what_ends_by_itself_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"chemistry\"\n\
             listen = \"127.0.0.1:0\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:1\"\n",
            dir.path().join("data")
        );
        let mut gateway = Gateway::start(&toml::from_str(&text).unwrap()).await.unwrap();
        assert_eq!(gateway.stuck(), Vec::<String>::new());
        let link = gateway.parts.iter().position(|part| part.id == PartId::Line("chemistry".to_string())).unwrap();
        let mut ends = async |task: JoinHandle<()>| {
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
            gateway.parts[link].tasks.push(task);
            gateway.stuck()
        };
        assert_eq!(ends(tokio::spawn(async {})).await, Vec::<String>::new());
        assert_eq!(ends(tokio::spawn(async { panic!("on purpose") })).await, ["link chemistry"]);
        gateway.stop().await;
    }

    #[cfg(feature = "board")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_hardware_watchdog_is_not_fed_any_more_once_something_that_results_need_is_stuck() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, definition) = (dir.path().join("board"), dir.path().join("board.toml"));
        std::fs::write(
            &definition,
            "[board]\nname = \"b\"\nrevision = \"1\"\n[watchdog]\ndevice = \"/dev/watchdog0\"\n",
        )
        .unwrap();
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[board]\ndefinition = {definition:?}\n\
             folder = {folder:?}\n[[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:0\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:1\"\n",
            dir.path().join("data")
        );
        let config: Config = toml::from_str(&text).unwrap();
        let fed = || std::fs::read_to_string(folder.join("watchdog")).unwrap_or_default();
        let front = Front::start(config.board.as_ref(), "bench-1");
        let mut manager = Manager::of_environment(front.lease()).unwrap();
        let mut gateway = Gateway::start_on(&config, &front, &manager.started()).await.unwrap();
        manager.ready("all of it");
        let at_first = fed();
        let is_fed = async {
            while fed().is_empty() || fed() == at_first {
                manager.due().await;
                manager.alive(gateway.stuck());
            }
        };
        tokio::time::timeout(PATIENCE, is_fed).await.expect("it is fed");
        let task = tokio::spawn(async { panic!("on purpose") });
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
        gateway.parts[0].tasks.push(task);
        let is_let_go = async {
            while front.lease().is_some_and(|lease| lease.holds()) {
                manager.due().await;
                manager.alive(gateway.stuck());
            }
        };
        tokio::time::timeout(PATIENCE, is_let_go).await.expect("it is not fed any more");
        let last = fed();
        for _ in 0..2 {
            manager.due().await;
            manager.alive(gateway.stuck());
        }
        assert_eq!(fed(), last, "nobody says that all goes on");
        manager.stopping();
        gateway.stop().await;
        front.end().await;
        assert_eq!(fed(), "disarmed\n", "it ended in order");
    }
}
