//! `[metrics]`: what the box counts, for the monitoring that a site has already: Prometheus asks for it, an
//! OpenTelemetry collector is told. The same counters go to a fleet's broker ([`crate::fleet`]); here is no broker.
//!
//! Nothing here can hold patient data (invariant I8): names of the configuration, constants and numbers. Nothing waits
//! for it (I12): a reading takes counters and asks indexes of the journal, at most once a second.
//!
//! Rooms: [`family`] is what is measured, pure; [`prometheus`] and [`otlp`] are the two ways to write it down.
//!
//! **To measure one more thing**: a [`Family`] where [`Sources`] are read, named as OpenTelemetry names things.

pub mod family;
pub mod otlp;
pub mod prometheus;

use crate::clock::{Clock, Quality};
use crate::delivery::{DeliveryCounters, http_client, transport_reason};
use crate::fleet::snapshot::{QUEUE_COUNTED_MAX, memory_kb};
use crate::fleet::telemetry::word_of;
use crate::journal::{self, Condition, Journal, SharedReader};
use crate::link::{LinkCounters, stopped};
use crate::tls::ClientTls;
use crate::watch::station::Standing;
use bytes::Bytes;
use family::{Family, Kind, Point};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Where Prometheus asks.
pub const PATH: &str = "/metrics";
/// Seconds between two pushes.
pub const EVERY_S: RangeInclusive<u64> = 1..=3600;
const EVERY_DEFAULT_S: u64 = 60;
/// A reading serves whoever asks within this time.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Who asks has this long for the head of a request, and a connection lasts no longer than [`CONNECTION_MAX`].
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 8;
/// An address that cannot be listened on is tried again after this.
const BIND_PAUSE: Duration = Duration::from_secs(5);
/// A collector has this long for its answer.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Counters for the monitoring that a site has: Prometheus asks, an OpenTelemetry collector is told. They are counts,
/// times and names of this file, never anything of a patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where Prometheus asks, over plain HTTP at `/metrics`: an address and port, such as "127.0.0.1:9464"; left out,
    /// nobody can. On an address that others reach, everybody there can read the counters.
    pub listen: Option<String>,
    /// Where an OpenTelemetry collector is told, as OTLP over HTTP in JSON; left out, none is.
    pub otlp: Option<String>,
    /// Seconds between two pushes to the collector.
    pub every_s: u64,
    /// How the collector is known, and we to it; left out, by the authorities the operating system trusts.
    pub tls: Option<ClientTls>,
}

impl Default for Config {
    fn default() -> Self {
        Config { listen: None, otlp: None, every_s: EVERY_DEFAULT_S, tls: None }
    }
}

/// Where the figures are read.
pub struct Sources {
    /// Name of the box.
    pub name: String,
    /// The data directory.
    pub data: PathBuf,
    /// The journal.
    pub journal: Journal,
    /// What is counted of links.
    pub links: watch::Receiver<Vec<Arc<LinkCounters>>>,
    /// What is counted of destinations.
    pub destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
    /// The box's clock.
    pub clock: Clock,
    /// What is unusual now.
    pub alerts: Standing,
    /// When the program started.
    pub started: Timestamp,
}

/// Serves whoever `config` names until `stopped` becomes true. What is in the way of that is logged, and tried again:
/// results go on without it (I12).
pub fn start(config: &Config, sources: Sources, stopped: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let meter = Arc::new(Meter::new(sources));
    let mut tasks = Vec::new();
    if let Some(address) = &config.listen {
        tasks.push(tokio::spawn(listen(address.clone(), meter.clone(), stopped.clone())));
    }
    if let Some(collector) = &config.otlp {
        match client(collector, config) {
            Ok((client, url)) => {
                let every = Duration::from_secs(config.every_s);
                tasks.push(tokio::spawn(push(client, url, every, meter, stopped.clone())));
            }
            Err(why) => tracing::error!(
                event = "metrics-trouble",
                "metrics cannot be pushed to {collector}: {why}; see [metrics]"
            ),
        }
    }
    tasks
}

fn client(collector: &str, config: &Config) -> Result<(reqwest::Client, reqwest::Url), String> {
    let url = reqwest::Url::parse(collector).map_err(|error| error.to_string())?;
    let client = http_client(&url, config.tls.as_ref())?.timeout(PUSH_TIMEOUT).build();
    Ok((client.map_err(|error| transport_reason(&error))?, url))
}

/// Reads, and remembers what it read for a moment.
struct Meter {
    sources: Sources,
    reader: SharedReader,
    last: Mutex<Option<(Instant, Arc<Vec<Family>>)>>,
}

impl Meter {
    fn new(sources: Sources) -> Meter {
        Meter { reader: SharedReader::new(&sources.journal), sources, last: Mutex::new(None) }
    }

    /// The figures of this moment. Blocks for a few reads of the journal's indexes.
    fn read(&self) -> Arc<Vec<Family>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, families)) if at.elapsed() < READ_EVERY => families.clone(),
            _ => {
                let families = Arc::new(self.sources.read(&self.reader));
                *last = Some((Instant::now(), families.clone()));
                families
            }
        }
    }
}

impl Sources {
    fn read(&self, reader: &SharedReader) -> Vec<Family> {
        let mut families = self.of_the_box(reader);
        families.extend(self.of_links());
        families.extend(self.of_destinations(reader));
        families
    }

    fn of_the_box(&self, reader: &SharedReader) -> Vec<Family> {
        use Kind::Gauge;
        let number = |figure: u64| vec![Point::number([], figure)];
        let (now, quality) = self.clock.now();
        let started_s = self.started.as_second().unsigned_abs();
        let condition = self.journal.condition();
        let held = reader.read(|reader| Ok(reader.account()?.held)).ok();
        let alerts = self.alerts.list();
        let alert = |alert: &crate::watch::station::StandingAlert| {
            Point::number([("alert", alert.alert.trouble.word()), ("of", &alert.alert.of)], 1)
        };
        vec![
            Family::new("afferent.build_info", "", Gauge, "Version of the program, as a label.")
                .with(vec![Point::number([("version", env!("CARGO_PKG_VERSION"))], 1)]),
            Family::new("process.start_time", "s", Gauge, "When the program started, Unix time.")
                .with(number(started_s)),
            Family::new("process.resident_memory", "By", Gauge, "Memory that the program holds.")
                .with(number(memory_kb() * 1024)),
            Family::new("afferent.time", "s", Gauge, "The box's clock, Unix time.")
                .with(number(now.as_second().unsigned_abs())),
            Family::new("afferent.clock.trusted", "", Gauge, "1 while the clock is known to be right.")
                .with(number(u64::from(quality == Quality::Trusted))),
            Family::new("afferent.disk.free", "By", Gauge, "Bytes free where the journal lies.")
                .with(number(journal::free_bytes(&self.data))),
            Family::new("afferent.journal.good", "", Gauge, "1 while the journal takes everything; else why not.")
                .with(vec![Point::number(
                    [("condition", word_of(condition).as_str())],
                    u64::from(condition == Condition::Good),
                )]),
            Family::new("afferent.results.held", "", Gauge, "Results that wait for a person before they go anywhere.")
                .with(held.map(|held| Point::number([], held.unsigned_abs())).into_iter().collect()),
            Family::new("afferent.alert", "", Gauge, "1 for what is unusual now, as the log and the doctor call it.")
                .with(alerts.iter().map(alert).collect()),
        ]
    }

    fn of_links(&self) -> Vec<Family> {
        use Kind::{Counter, Gauge};
        let links: Vec<_> = self.links.borrow().iter().map(|link| (link.name().to_owned(), link.counts())).collect();
        let each = |figure: &dyn Fn(&crate::link::LinkCounts) -> Option<u64>| {
            let point = |(name, counts): &(String, _)| Some(Point::number([("link", name)], figure(counts)?));
            links.iter().filter_map(point).collect::<Vec<_>>()
        };
        let reasons = links.iter().flat_map(|(name, counts)| {
            let of =
                |(reason, count): (&&'static str, &u64)| Point::number([("link", name), ("reason", reason)], *count);
            counts.reasons.iter().map(of).collect::<Vec<_>>()
        });
        vec![
            Family::new("afferent.link.up", "", Gauge, "1 while the line is open.")
                .with(each(&|counts| Some(u64::from(counts.up)))),
            Family::new("afferent.link.connections.open", "", Gauge, "Connections open now.")
                .with(each(&|counts| Some(counts.open_connections))),
            Family::new("afferent.link.connections", "", Counter, "Connections since start.")
                .with(each(&|counts| Some(counts.connections))),
            Family::new("afferent.link.parts", "", Counter, "Frames or messages offered for custody since start.")
                .with(each(&|counts| Some(counts.parts))),
            Family::new("afferent.link.messages", "", Counter, "Complete messages taken into custody since start.")
                .with(each(&|counts| Some(counts.messages))),
            Family::new("afferent.link.refused", "", Counter, "NAKs, negative acknowledgements, refused connections.")
                .with(each(&|counts| Some(counts.refused))),
            Family::new("afferent.link.events", "", Counter, "Refusals, oddities and losses of the line, by reason.")
                .with(reasons.collect()),
            Family::new("afferent.link.last_heard", "s", Gauge, "When the instrument was last heard, Unix time.")
                .with(each(&|counts| counts.heard_ms.map(|ms| ms.unsigned_abs() / 1000))),
        ]
    }

    fn of_destinations(&self, reader: &SharedReader) -> Vec<Family> {
        use Kind::{Counter, Gauge, Histogram};
        let now_ms = Timestamp::now().as_millisecond();
        let destinations = self.destinations.borrow().clone();
        let mut figures: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for to in &destinations {
            let health = to.health();
            let mut say = |figure, point| figures.entry(figure).or_default().push(point);
            let number = |figure| Point::number([("destination", to.name())], figure);
            say("up", number(u64::from(health.up)));
            say("delivered", number(health.delivered));
            say("refused", number(health.refused));
            say("failed", number(health.failed));
            say("latency", Point::times([("destination", to.name())], to.latency()));
            // What cannot be read is left out: the journal's own condition tells of it.
            let queue = reader.read(|reader| reader.destination_queue(to.name(), QUEUE_COUNTED_MAX, now_ms));
            if let Ok(queue) = queue {
                say("queued", number(queue.queued.unsigned_abs()));
                say("parked", number(queue.parked.unsigned_abs()));
                say("oldest", number(queue.oldest_ms.unwrap_or_default().unsigned_abs() / 1000));
            }
        }
        let mut family = |figure: &str, family: Family| family.with(figures.remove(figure).unwrap_or_default());
        vec![
            family(
                "up",
                Family::new("afferent.destination.up", "", Gauge, "0 while the destination takes no messages."),
            ),
            family("queued", Family::new("afferent.destination.queued", "", Gauge, "Messages on the way now.")),
            family(
                "parked",
                Family::new("afferent.destination.parked", "", Gauge, "Messages that wait for a person now."),
            ),
            family(
                "oldest",
                Family::new(
                    "afferent.destination.oldest",
                    "s",
                    Gauge,
                    "Age of the oldest message on the way; 0: none.",
                ),
            ),
            family(
                "delivered",
                Family::new("afferent.destination.delivered", "", Counter, "Messages it took since start."),
            ),
            family(
                "refused",
                Family::new("afferent.destination.refused", "", Counter, "Messages it refused for good since start."),
            ),
            family(
                "failed",
                Family::new("afferent.destination.failed", "", Counter, "Attempts that failed and are made again."),
            ),
            family(
                "latency",
                Family::new("afferent.lab_to_chart", "s", Histogram, "From custody to the destination's answer."),
            ),
        ]
    }
}

async fn listen(address: String, meter: Arc<Meter>, mut stop: watch::Receiver<bool>) {
    let listener = tokio::select! {
        listener = bind(&address) => listener,
        () = stopped(&mut stop) => return,
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stopped(&mut stop) => return,
        };
        let Some((stream, permit)) = accepted else { continue };
        let meter = meter.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_MAX, answer_all(stream, &meter)).await;
            drop(permit);
        });
    }
}

/// An address that is taken, or not there yet, is tried again and told of once.
async fn bind(address: &str) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !is_told => {
                is_told = true;
                tracing::error!(
                    event = "metrics-trouble",
                    "cannot listen on {address} for whoever asks for metrics: {error}; tried again, unless [metrics] \
                     gets another `listen`"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, impl Sized + use<>)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Without descriptors it would fail again at once.
            tracing::warn!("cannot accept who asks for metrics: {error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        }
    }
}

async fn answer_all(stream: TcpStream, meter: &Arc<Meter>) {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let service = service_fn(|request| answer(request, meter.clone()));
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("who asks for metrics: {error}");
    }
}

async fn answer(request: Request<Incoming>, meter: Arc<Meter>) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, prometheus::CONTENT_TYPE);
        response
    };
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n")));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are only read\n".to_owned());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let text = tokio::task::spawn_blocking(move || prometheus::text(&meter.read())).await;
    Ok(match text {
        Ok(text) => plain(StatusCode::OK, text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    })
}

/// Tells a collector again and again. What it does not take is not told later: the counters go on counting.
async fn push(
    client: reqwest::Client,
    url: reqwest::Url,
    every: Duration,
    meter: Arc<Meter>,
    mut stop: watch::Receiver<bool>,
) {
    let mut trouble = String::new();
    loop {
        let said = tokio::select! {
            said = push_once(&client, &url, &meter) => said,
            () = stopped(&mut stop) => return,
        };
        let why = said.err().unwrap_or_default();
        match (trouble.is_empty(), why.is_empty()) {
            (true, false) => tracing::warn!("the collector of metrics: {why}"),
            (false, true) => tracing::info!("the collector of metrics takes them again"),
            _ => {}
        }
        trouble = why;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

async fn push_once(client: &reqwest::Client, url: &reqwest::Url, meter: &Arc<Meter>) -> Result<(), String> {
    let read = meter.clone();
    let body = tokio::task::spawn_blocking(move || {
        let (name, started, now) = (&read.sources.name, read.sources.started, Timestamp::now());
        otlp::request(name, started, now, &read.read())
    });
    let body = body.await.map_err(|_| "it could not be read what to tell".to_owned())?;
    let request = client.post(url.clone()).header(CONTENT_TYPE.as_str(), "application/json").body(body);
    let answer = request.send().await.map_err(|error| transport_reason(&error))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
