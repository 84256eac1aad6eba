//! A gateway between instruments and a simulated EHR, and the books that say whether everything arrived.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use afferent::config::{self, Config};
use afferent::control;
use afferent::gateway::Gateway;
use afferent::link::LinkHealth;
use afferent::sim::ehr::{Arrival, Ehr, EhrOptions};
use afferent::sim::instrument::line::Line;
use afferent::sim::instrument::results::MadeResult;
use afferent::sim::instrument::{self, Ledger, Settings, Summary};
use afferent::wire::Protocol;
use afferent::wire::mllp::{Framer, Item, MESSAGE_MAX};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use crate::ports::free_port;

/// Nothing here takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Timers of the standards are shrunk to this on both sides: 15 s become 1.5 s.
pub const TIME_SCALE: f64 = 0.1;
/// The gateway's side of that.
pub const TIMERS: &str = "[link.timers]\nframe_timeout_ms = 3000\nmessage_timeout_ms = 3000\nreply_timeout_ms = 1400\n\
                          reconnect_min_ms = 20\nreconnect_max_ms = 200\n";

/// An EHR and the directory in which everything happens.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub ehr: Ehr,
}

/// What one instrument was told is safe.
pub struct Acknowledged {
    pub id: String,
    pub results: Vec<MadeResult>,
}

/// A running simulated instrument.
pub struct Instrument {
    task: JoinHandle<std::io::Result<Summary>>,
    books: JoinHandle<Vec<Acknowledged>>,
    acknowledged: watch::Receiver<usize>,
    _stop: watch::Sender<bool>,
}

impl Rig {
    pub async fn new() -> Rig {
        let options = EhrOptions { mllp: Some("127.0.0.1:0".into()), keep_bodies: true, ..EhrOptions::default() };
        Rig { dir: tempfile::tempdir().unwrap(), ehr: Ehr::start(options).await.unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The configuration: these links, and the simulated EHR as the only destination.
    pub fn text(&self, links: &str) -> String {
        format!(
            "[gateway]\nname = \"rig\"\ndata = {:?}\ntime_zone = \"UTC\"\n[journal]\nfree_min_mb = 0\n{links}\n\
             [[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"{}\"\nretry_min_ms = 20\n\
             retry_max_ms = 200\n",
            self.data(),
            self.ehr.mllp().unwrap()
        )
    }

    /// Starts a gateway in this process.
    pub async fn gateway(&self, links: &str) -> Gateway {
        let config: Config = match config::parse("rig.toml", &self.text(links)) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{error}"),
        };
        Gateway::start(&config).await.unwrap()
    }

    /// Starts a gateway in this process that has the drivers in `drivers/` beside the built-in ones.
    pub async fn gateway_with_drivers(&self, links: &str) -> Gateway {
        let drivers = format!("[gateway]\ndrivers = {:?}\n", self.path("drivers"));
        let text = self.text(links).replacen("[gateway]\n", &drivers, 1);
        let config = config::parse("rig.toml", &text).unwrap_or_else(|error| panic!("{error}")).config;
        Gateway::start(&config).await.unwrap()
    }

    /// Starts the real binary, its log in a file, and waits until it answers commands.
    pub async fn child(&self, links: &str) -> Served {
        let served = self.spawn(links, None);
        until("the gateway answers", || served.try_health().is_some()).await;
        served
    }

    /// The same, but it dies at the n-th passing of a place in the journal's writer, `point:n`, which may be before it
    /// answers anything. Only a debug build can.
    pub async fn child_that_dies(&self, links: &str, at: &str) -> Served {
        let mut served = self.spawn(links, Some(at));
        until("the gateway answers or is dead", || {
            served.try_health().is_some() || served.child.try_wait().unwrap().is_some()
        })
        .await;
        served
    }

    /// The same, and it is dead when this returns.
    pub async fn child_dies(&self, links: &str, at: &str) {
        let mut served = self.spawn(links, Some(at));
        until("the gateway died at the point", || served.child.try_wait().unwrap().is_some()).await;
    }

    fn spawn(&self, links: &str, abort_at: Option<&str>) -> Served {
        let file = self.path("rig.toml");
        std::fs::write(&file, self.text(links)).unwrap();
        let log = self.path("gateway.log");
        let written = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command
            .args(["--log", "afferent=trace", "run", "--config"])
            .arg(&file)
            .env_remove("AFFERENT_LOG")
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .env_remove("AFFERENT_ABORT_AT")
            .envs(abort_at.map(|at| ("AFFERENT_ABORT_AT", at)))
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written);
        Served { child: command.spawn().unwrap(), data: self.data(), log }
    }

    /// Waits until everything these instruments were told is safe is in the chart, digit for digit.
    pub async fn everything_arrives(&self, books: &[Acknowledged]) {
        assert!(!books.is_empty());
        until("everything acknowledged is in the chart", || {
            let chart = self.chart();
            books.iter().all(|wanted| chart.iter().any(|arrival| holds(arrival, wanted)))
        })
        .await;
    }

    /// What the EHR stored.
    pub fn chart(&self) -> Vec<Arrival> {
        self.ehr.arrivals().into_iter().filter(|arrival| arrival.stored).collect()
    }
}

/// True when this message says all of that.
pub fn holds(arrival: &Arrival, wanted: &Acknowledged) -> bool {
    let body = String::from_utf8_lossy(&arrival.body);
    let value = |result: &MadeResult| match result.value.strip_prefix('<') {
        Some(limit) => format!("|<^{limit}|"),
        None => format!("|{}|", result.value),
    };
    arrival.specimens.contains(&wanted.id)
        && arrival.results == wanted.results.len()
        && wanted.results.iter().all(|result| body.contains(&value(result)))
}

impl Instrument {
    /// Starts an instrument that sends `count` specimens of run `run` and has no corrections.
    pub fn start(line: Line, protocol: Protocol, run: &str, count: u64) -> Instrument {
        let settings =
            Settings { count: Some(count), run: run.to_owned(), corrections: 0.0, ..Settings::new(line, protocol) };
        Instrument::with(settings)
    }

    pub fn with(settings: Settings) -> Instrument {
        let (stop, stopped) = watch::channel(false);
        let (ledger, mut lines) = mpsc::channel(16);
        let (count, acknowledged) = watch::channel(0);
        let task =
            tokio::spawn(instrument::run(Settings { time_scale: TIME_SCALE, ..settings }, Some(ledger), stopped));
        let books = tokio::spawn(async move {
            let mut books = Vec::new();
            while let Some(line) = lines.recv().await {
                if let Ledger::Acknowledged { id, results, .. } = line {
                    books.push(Acknowledged { id, results });
                    count.send_replace(books.len());
                }
            }
            books
        });
        Instrument { task, books, acknowledged, _stop: stop }
    }

    /// Waits until so many specimens are acknowledged.
    pub async fn reaches(&mut self, count: usize) {
        let reached = self.acknowledged.wait_for(|now| *now >= count);
        tokio::time::timeout(PATIENCE, reached).await.expect("the instrument is served in time").unwrap();
    }

    /// Waits until it has sent everything.
    pub async fn finishes(self) -> (Summary, Vec<Acknowledged>) {
        let summary = tokio::time::timeout(PATIENCE, self.task).await.expect("the instrument is served in time");
        (summary.unwrap().unwrap(), self.books.await.unwrap())
    }
}

/// The real binary at work. It ends with the test.
pub struct Served {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Served {
    /// What the control channel says about one link.
    pub fn health(&self, link: &str) -> serde_json::Value {
        let all = self.try_health().expect("the gateway answers");
        all.as_array().unwrap().iter().find(|health| health["link"] == link).expect("the link is there").clone()
    }

    /// How often this reason was counted on a link.
    pub fn counted(&self, link: &str, reason: &str) -> u64 {
        self.health(link)["reasons"][reason].as_u64().unwrap_or(0)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Most memory it ever had resident, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    }

    fn try_health(&self) -> Option<serde_json::Value> {
        match control::request(&self.data, &control::Request::Health) {
            Ok(control::Response::Health(health)) => Some(health),
            _ => None,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The health of one link of a gateway in this process.
pub fn health(gateway: &Gateway, link: &str) -> LinkHealth {
    gateway.links().iter().map(|counters| counters.health()).find(|health| health.link == link).unwrap()
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A link's table. `line` is its transport, such as `listen = "..."`, with any other setting.
pub fn link(name: &str, protocol: &str, line: &str) -> String {
    format!(
        "[[link]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nunmapped = \"send-local\"\nclock_limit_s = 0\n\
         {line}\n{TIMERS}"
    )
}

pub fn listen(port: u16) -> String {
    format!("listen = \"{}\"", local(port))
}

pub fn dial(port: u16) -> String {
    format!("dial = \"{}\"", local(port))
}

pub fn serial(path: &Path) -> String {
    format!("serial = {path:?}")
}

/// An ORU^R01 with one result.
pub fn oru(control_id: &str, specimen: &str, value: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r\
         PID|1||PT1^^^HOSP^MR||DOE^JANE||19700101|F\rOBR|1||{specimen}|PANEL^Panel^L|||20260101120000\r\
         OBX|1|NM|2345-7^Glucose^LN||{value}|mg/dL||N|||F|||20260101120000\rSPM|1|{specimen}||SER\r"
    )
    .into_bytes()
}

/// The next MLLP message, or what came before the line ended or fell silent.
pub async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut framer = Framer::new(MESSAGE_MAX);
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer in time");
        let Ok(count @ 1..) = read else { return None };
        for item in framer.push(&buffer[..count]) {
            if let Item::Message(message) = item {
                return Some(message);
            }
        }
    }
}

/// The code of the acknowledgement in MSA-1.
pub fn code(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer).into_owned();
    let msa = text.split('\r').find(|segment| segment.starts_with("MSA|")).expect("an acknowledgement has an MSA");
    msa.split('|').nth(1).unwrap_or_default().to_owned()
}
