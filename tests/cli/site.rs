//! A site in miniature, made of nothing but the real binary: a gateway with two links, simulated instruments on them,
//! and two simulated EHRs, one of which refuses everything until it is replaced.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use afferent::control;
use serde_json::Value;

use crate::patience::{PATIENCE, look_again};
use crate::{afferent, case, err, out};

pub use crate::patience::until;
pub use crate::ports::free_port;

/// Shrinks the instruments' timers: an answer may take 0.75 s, and an instrument that stalls does so for 1.6 s.
pub const TIME_SCALE: &str = "0.05";
/// The gateway gives a half-received HL7 message up long before that.
pub const TIMERS: &str = "[link.timers]\nmessage_timeout_ms = 400\n";

/// The transcript [`Site::filled`] plays: of its seven results six are sent and one is held.
pub const SERUM: &str = "roche-cobas-c311/cases/normal-serum-seven-tests";
/// Specimen of [`SERUM`].
pub const SERUM_SPECIMEN: &str = "SP-26-0481";
/// Specimens that the ward's instrument sends, of four results each.
pub const WARD_SPECIMENS: usize = 3;

/// The site's directory and who is at work in it.
pub struct Site {
    dir: tempfile::TempDir,
    /// Ports where it is asked for metrics, and where a collector would be told.
    pub metrics: [u16; 2],
    registry: u16,
    chemistry: u16,
    ward: u16,
    gateway: Option<Running>,
    receivers: Vec<Running>,
}

/// A process that ends with the test, whatever happens.
pub struct Running(pub Child);

impl Running {
    /// The binary with these arguments, its output in a file or nowhere.
    pub fn start(arguments: &[&str], log: Option<&Path>) -> Running {
        Running::start_by(None, arguments, log)
    }

    /// The same, started by another program, which becomes it.
    pub fn start_by(starter: Option<Command>, arguments: &[&str], log: Option<&Path>) -> Running {
        let to = || match log {
            Some(log) => Stdio::from(std::fs::File::options().create(true).append(true).open(log).unwrap()),
            None => Stdio::null(),
        };
        const AFFERENT: &str = env!("CARGO_BIN_EXE_afferent");
        let mut command = match starter {
            None => Command::new(AFFERENT),
            Some(mut starter) => {
                starter.arg(AFFERENT);
                starter
            }
        };
        command.args(arguments).env_remove("AFFERENT_LOG").env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        Running(command.stdin(Stdio::null()).stdout(to()).stderr(to()).spawn().unwrap())
    }

    /// Tells it to stop; it must end well.
    pub fn stop(mut self) {
        // SAFETY: kill takes no memory of ours, and the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        assert!(ended(&mut self.0).success(), "told to stop, it ends well");
    }
}

/// How a process ended, which it does by itself.
pub fn ended(process: &mut Child) -> ExitStatus {
    until("it ends", || process.try_wait().unwrap().is_some());
    process.wait().unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    /// Links, EHRs and a running gateway; nothing has been sent yet.
    pub fn new() -> Site {
        let [ehr, registry, chemistry, ward, asked, told] = [(); 6].map(|()| free_port());
        let dir = tempfile::tempdir().unwrap();
        let mut site =
            Site { dir, metrics: [asked, told], registry, chemistry, ward, gateway: None, receivers: Vec::new() };
        let text = format!(
            "[gateway]\nname = \"bench-1\"\ndata = {:?}\ndrivers = {:?}\ntime_zone = \"UTC\"\n[journal]\nfree_min_mb = 0\n\
             [[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:{chemistry}\"\nclock_limit_s = 0\n\
             [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{ward}\"\nclock_limit_s = 0\n{TIMERS}\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\nretry_min_ms = 20\nretry_max_ms = 200\n\
             [[destination]]\nname = \"registry\"\naddress = \"127.0.0.1:{registry}\"\nlinks = [\"ward\"]\n\
             retry_min_ms = 20\nretry_max_ms = 200\n\
             [metrics]\nlisten = \"127.0.0.1:{asked}\"\notlp = \"http://127.0.0.1:{told}/v1/metrics\"\nevery_s = 1\n",
            site.data(),
            site.path("drivers"),
        );
        std::fs::create_dir(site.path("drivers")).unwrap();
        std::fs::write(site.config(), text).unwrap();
        site.receive(ehr, "", "ehr.jsonl");
        site.receive(registry, "ar:203=100", "registry.jsonl");
        site.start_gateway();
        site
    }

    /// Everything is sent and has come to rest: of the serum's seven results six are delivered and one is held, the
    /// ward's are delivered to the EHR and parked at the registry.
    pub fn filled() -> Site {
        let site = Site::new();
        let address = site.chemistry();
        let played = afferent(&["sim", "instrument", "--connect", &address, "--session", &case(SERUM)]);
        assert_eq!(played.status.code(), Some(0), "{}{}", out(&played), err(&played));
        let count = WARD_SPECIMENS.to_string();
        site.ward(&["-n", &count, "--corrections", "0", "--run", "WARD"]);
        site.until("everything comes to rest", |stats| {
            stats["account"]["parked"] == 12 && stats["account"]["queued"] == 0 && stats["waiting"] == 0
        });
        site
    }

    /// Has the ward's instrument send; everything must be acknowledged. What it says as JSON.
    pub fn ward(&self, options: &[&str]) -> Value {
        let address = format!("127.0.0.1:{}", self.ward);
        let sim = ["sim", "instrument", "--protocol", "hl7", "--json", "--time-scale", TIME_SCALE, "--connect"];
        let sent = afferent(&[&sim[..], &[&address], options].concat());
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
        serde_json::from_slice(&sent.stdout).unwrap()
    }

    /// Starts the gateway and waits until it takes commands.
    pub fn start_gateway(&mut self) {
        assert!(self.gateway.is_none());
        let (config, log) = (self.config().display().to_string(), self.path("gateway.log"));
        self.gateway = Some(Running::start(&["run", "--config", &config], Some(&log)));
        until_served(&self.data(), &log);
    }

    /// Stops the gateway in order.
    pub fn stop_gateway(&mut self) {
        self.gateway.take().expect("it runs").stop();
    }

    /// Puts a registry that takes everything in the place of the one that refuses.
    pub fn replace_registry(&mut self) {
        drop(self.receivers.pop());
        self.receive(self.registry, "", "registry.jsonl");
    }

    fn receive(&mut self, port: u16, mix: &str, ledger: &str) {
        let (address, ledger) = (format!("127.0.0.1:{port}"), self.path(ledger).display().to_string());
        let receiver = Running::start(&["sim", "ehr", "--mllp", &address, "--mix", mix, "--ledger", &ledger], None);
        self.receivers.push(receiver);
    }

    /// A verb of `afferent journal` on this site's journal.
    pub fn journal(&self, arguments: &[&str]) -> Output {
        let config = self.config().display().to_string();
        afferent(&[&["journal", "--config", &config], arguments].concat())
    }

    /// What a verb that ends well prints.
    pub fn told(&self, arguments: &[&str]) -> String {
        let told = self.journal(arguments);
        assert_eq!(told.status.code(), Some(0), "{arguments:?}: {}{}", out(&told), err(&told));
        out(&told)
    }

    /// The same with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.told(&[&["--json"], arguments].concat())).unwrap()
    }

    /// Waits until `journal stats` says so.
    pub fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let started = Instant::now();
        loop {
            let stats = self.json(&["stats"]);
            if condition(&stats) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {stats}");
            look_again(started);
        }
    }

    /// Messages a receiver stored, from its ledger.
    pub fn chart(&self, ledger: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(ledger)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|arrival| arrival["stored"] == true).collect()
    }

    /// How many results each message it stored about this specimen has, in the order of arrival.
    pub fn stored(&self, ledger: &str, specimen: &str) -> Vec<u64> {
        let names = |arrival: &Value| arrival["specimens"].as_array().unwrap().iter().any(|id| id == specimen);
        let about = self.chart(ledger).into_iter().filter(names);
        about.map(|arrival| arrival["results"].as_u64().unwrap()).collect()
    }

    /// Address of the chemistry link.
    pub fn chemistry(&self) -> String {
        format!("127.0.0.1:{}", self.chemistry)
    }

    /// Connects to the chemistry link and hangs up.
    pub fn knock(&self) {
        drop(std::net::TcpStream::connect(self.chemistry()).unwrap());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("afferent.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }
}

/// Waits until the gateway on this data directory answers commands.
pub fn until_served(data: &Path, log: &Path) {
    let started = Instant::now();
    while !matches!(control::request(data, &control::Request::Health), Ok(control::Response::Health(_))) {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(started.elapsed() < PATIENCE, "the gateway does not answer:\n{}", log());
        look_again(started);
    }
}
