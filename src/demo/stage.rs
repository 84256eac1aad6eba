//! The demo's stage: certificates, the EHR, the instruments and the gateway, and how each is put up and taken down.
//!
//! The durability tests play a harder piece on the same stage; what differs is the [`Scenery`].

use super::Percentiles;
use super::account::{Acknowledged, Tally, name_of};
use crate::journal::{self, Lookup, Reader};
use crate::sim::ehr::{Behaviour, Ehr, EhrOptions, Mix};
use crate::sim::instrument::line::Line;
use crate::sim::instrument::results::{Analyte, Shape};
use crate::sim::instrument::{self, Ledger, Settings};
use crate::tls::throwaway::Authority;
use crate::wire::Protocol;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The gateway must listen within this time.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A gateway told to stop must be gone within this time.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks whether the gateway listens.
const LISTEN_PAUSE: Duration = Duration::from_millis(5);
/// Results in a specimen.
const RESULTS: usize = 4;
/// Held results read at the end; far more than the demo makes.
const HOLDS_MAX: usize = 100_000;
/// Ledger lines an instrument may be ahead of the bookkeeping.
const LEDGER_LINES: usize = 256;

/// What a piece needs.
#[derive(Debug, Clone)]
pub struct Scenery {
    /// The gateway: a program that understands `run --config FILE`.
    pub program: PathBuf,
    /// Where everything lies; made when it is missing.
    pub dir: PathBuf,
    /// Both destinations over mutual TLS, or both in the clear.
    pub tls: bool,
    /// Specimens a second of one instrument.
    pub rate: f64,
    /// Shrinks the instruments' timers; see [`Settings::time_scale`].
    pub time_scale: f64,
    /// How the EHR misbehaves at random.
    pub mix: Mix,
    /// Names the run: same seed, same results.
    pub seed: u64,
}

/// Everything that plays.
pub struct Stage {
    scenery: Scenery,
    config: PathBuf,
    ready_port: u16,
    /// The simulated EHR.
    pub ehr: Ehr,
    gateway: Option<Child>,
    stop: watch::Sender<bool>,
    instruments: Vec<JoinHandle<std::io::Result<instrument::Summary>>>,
    bookkeeping: Vec<JoinHandle<()>>,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    sent: HashMap<(String, u8), u64>,
    acknowledged: Vec<Acknowledged>,
}

impl Stage {
    /// Puts everything up, starts the gateway and the instruments.
    pub async fn set(scenery: Scenery) -> anyhow::Result<Self> {
        let dir = &scenery.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let certs = if scenery.tls { Some(Authority::new()?.write(dir)?) } else { None };
        let ehr = Ehr::start(EhrOptions {
            mllp: Some("127.0.0.1:0".to_string()),
            fhir: Some("127.0.0.1:0".to_string()),
            tls: certs.as_ref().map(|certs| certs.server.clone()),
            mix: scenery.mix.clone(),
            seed: scenery.seed,
            keep_bodies: true,
            ..EhrOptions::default()
        })
        .await?;
        let (mllp, fhir) = (ehr.mllp().context("no MLLP port")?.port(), ehr.fhir().context("no FHIR port")?.port());

        let [astm_port, hl7_port] = free_ports(2)?[..] else { bail!("no free ports") };
        let tty = dir.join("ttyANALYZER");
        let (scheme, tls) = match &certs {
            Some(certs) => ("https", format!("[destination.tls]\n{}", toml::to_string(&certs.client)?)),
            None => ("http", String::new()),
        };
        let text = format!(
            "[gateway]\nname = \"demo\"\ndata = {:?}\ntime_zone = \"UTC\"\n\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nserial = {tty:?}\ndriver = \"roche-cobas-c111\"\n\
             [link.timers]\nreconnect_min_ms = 20\nreconnect_max_ms = 100\n\n\
             [[link]]\nname = \"hematology\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm_port}\"\n\n\
             [[link]]\nname = \"point-of-care\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{hl7_port}\"\n\n\
             [[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"localhost:{mllp}\"\nretry_min_ms = 50\n\
             retry_max_ms = 500\n{tls}\n\
             [[destination]]\nname = \"repository\"\nprotocol = \"fhir\"\nurl = \"{scheme}://localhost:{fhir}/fhir\"\n\
             retry_min_ms = 50\nretry_max_ms = 500\n{tls}",
            dir.join("data")
        );
        let config = dir.join("gateway.toml");
        std::fs::write(&config, text)?;

        let (stop, stopped) = watch::channel(false);
        let (rate, time_scale, first_seed) = (Some(scenery.rate), scenery.time_scale, scenery.seed);
        let mut stage = Stage {
            scenery,
            config,
            ready_port: astm_port,
            ehr,
            gateway: None,
            stop,
            instruments: Vec::new(),
            bookkeeping: Vec::new(),
            books: Arc::default(),
        };
        let drivers = crate::driver::Registry::builtin();
        let shape = |id: &str| drivers.get(id).map_or_else(Shape::generic, Shape::of);
        let mut hematology = shape("sysmex-xn");
        // One test the driver does not know: its results must be held, not guessed.
        hematology.analytes.truncate(7);
        hematology.analytes.push(Analyte { code: "XTRA".to_string(), name: String::new(), unit: "fL".to_string() });
        let lines = [
            (Line::Pty(tty), Protocol::Astm, shape("roche-cobas-c111"), "CHEM"),
            (Line::Connect(format!("127.0.0.1:{astm_port}")), Protocol::Astm, hematology, "HEMA"),
            (Line::Connect(format!("127.0.0.1:{hl7_port}")), Protocol::Hl7, Shape::generic(), "POCT"),
        ];
        for (seed, (line, protocol, shape, run)) in lines.into_iter().enumerate() {
            let settings = Settings {
                shape,
                rate,
                results: RESULTS,
                run: run.to_string(),
                seed: first_seed.wrapping_add(seed as u64),
                time_scale,
                ..Settings::new(line, protocol)
            };
            let (ledger, lines) = mpsc::channel(LEDGER_LINES);
            stage.instruments.push(tokio::spawn(instrument::run(settings, Some(ledger), stopped.clone())));
            stage.bookkeeping.push(tokio::spawn(keep_books(lines, stage.books.clone())));
        }
        stage.start_gateway().await?;
        Ok(stage)
    }

    /// Starts the gateway and waits until it listens.
    pub async fn start_gateway(&mut self) -> anyhow::Result<()> {
        self.spawn_gateway(&[])?;
        let deadline = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(("127.0.0.1", self.ready_port)).await.is_err() {
            let child = self.gateway.as_mut().context("no gateway is running")?;
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                bail!("the gateway did not start:\n{log}");
            }
            tokio::time::sleep(LISTEN_PAUSE).await;
        }
        Ok(())
    }

    /// Starts the gateway with these environment variables and does not wait for anything.
    pub fn spawn_gateway(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = Command::new(&self.scenery.program)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .envs(environment.iter().copied())
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the gateway")?;
        self.gateway = Some(child);
        Ok(())
    }

    /// True when the gateway ended by itself within this time; otherwise it goes on.
    pub async fn gateway_ended(&mut self, within: Duration) -> anyhow::Result<bool> {
        let child = self.gateway.as_mut().context("no gateway is running")?;
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => {
                status.context("cannot wait for the gateway")?;
                self.gateway = None;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Kills the gateway as a power cut would: no warning, no goodbye.
    pub async fn kill_gateway(&mut self) -> anyhow::Result<()> {
        let mut child = self.gateway.take().context("no gateway is running")?;
        child.kill().await.context("cannot kill the gateway")
    }

    /// Stops the gateway in order.
    pub async fn stop_gateway(&mut self) -> anyhow::Result<()> {
        let mut child = self.gateway.take().context("no gateway is running")?;
        if let Some(pid) = child.id() {
            // SAFETY: a signal to a child that has not been waited for; its number cannot be anybody else's.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|s| s.success()) => Ok(()),
            Ok(status) => bail!("the gateway ended with {status:?}"),
            Err(_) => bail!("the gateway did not stop within {STOP_TIMEOUT:?}"),
        }
    }

    /// Stops the instruments where they are.
    pub async fn stop_instruments(&mut self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        for instrument in self.instruments.drain(..) {
            instrument.await?.context("an instrument's line could not be set up")?;
        }
        for books in self.bookkeeping.drain(..) {
            books.await?;
        }
        Ok(())
    }

    /// Both sides now.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        if let Ok(books) = self.books.lock() {
            tally.acknowledged.clone_from(&books.acknowledged);
            for ((id, _), results) in &books.sent {
                *tally.sent.entry(id.clone()).or_default() += results;
            }
        }
        for arrival in self.ehr.arrivals() {
            tally.arrivals.entry(name_of(arrival.protocol)).or_default().push(arrival);
        }
        tally
    }

    /// True while the EHR answers.
    pub fn ehr_is_up(&self) -> bool {
        self.ehr.behaviour() != Behaviour::Down
    }

    /// True when the journal has nothing left to interpret or to deliver.
    pub fn drained(&self) -> anyhow::Result<bool> {
        let stats = self.reader()?.stats(jiff::Timestamp::now().as_millisecond())?;
        Ok(stats.waiting == 0 && stats.account.queued == 0)
    }

    /// Where everything lies.
    pub fn dir(&self) -> &Path {
        &self.scenery.dir
    }

    /// Held results by specimen, and lab-to-chart latency, as the journal knows them.
    pub fn held_and_latency(&self) -> anyhow::Result<(HashMap<String, u64>, Percentiles)> {
        let reader = self.reader()?;
        let mut held = HashMap::new();
        // Fragments of sessions that were cut off were never acknowledged as results.
        let fragment = crate::clinical::Doubt::Incomplete.name();
        for hold in reader.holds(HOLDS_MAX)?.into_iter().filter(|hold| hold.reason != fragment) {
            for (kind, id) in reader.lookups(hold.report)? {
                if kind == Lookup::Specimen {
                    *held.entry(id).or_default() += 1;
                }
            }
        }
        let stats = reader.stats(jiff::Timestamp::now().as_millisecond())?;
        let ms = |latency: Option<i64>| latency.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        Ok((held, Percentiles { p50: ms(stats.latency_p50_ms), p99: ms(stats.latency_p99_ms) }))
    }

    /// The journal, read beside the gateway or after it.
    pub fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader::open(&self.dir().join("data"), &journal::Config::default())?)
    }

    /// Clears everything away.
    pub fn strike(self) {
        let _ = std::fs::remove_dir_all(self.dir());
    }

    fn log(&self) -> PathBuf {
        self.dir().join("gateway.log")
    }
}

async fn keep_books(mut lines: mpsc::Receiver<Ledger>, books: Arc<Mutex<Books>>) {
    while let Some(line) = lines.recv().await {
        let Ok(mut books) = books.lock() else { return };
        match line {
            Ledger::Sent { specimen, .. } => {
                books.sent.insert((specimen.id, specimen.version), specimen.results.len() as u64);
            }
            Ledger::Acknowledged { id, version, results, at, .. } => {
                let values = results.into_iter().map(|result| result.value).collect();
                books.acknowledged.push(Acknowledged { id, version, values, at });
            }
        }
    }
}

/// Ports of loopback that nobody listens on.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All are held at once, so that none is handed out twice.
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}
