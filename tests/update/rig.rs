//! A box that updates itself, and everything around it: service manager, broker, desk, server of releases, an EHR, and
//! an instrument that sends all along.

use crate::broker::{Broker, until};
use crate::ports::free_port;
use crate::rauc::Rauc;
use crate::server::serve;
use crate::witness::Witness;
use afferent::journal::{self, Reader};
use afferent::sim::ehr::{Ehr, EhrOptions};
use afferent::sim::instrument::line::Line;
use afferent::sim::instrument::{self, Ledger, Settings};
use afferent::sim::random::Random;
use afferent::update::record::{PHASES, Phase, Record, Slot, Version};
use afferent::update::slots;
use afferent::wire::Protocol;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const TENANT: &str = "acme";
const BOX: &str = "bench-1";
/// Common names of certificates: who gives commands, who answers echoes, who listens.
const DESKS: [&str; 3] = ["desk-acme", "echo-acme", "witness-acme"];
/// Releases are this long, so that a fetch takes a moment.
const RELEASE_BYTES: usize = 200_000;
/// Specimens a second: now and then, so that the bench is idle in between.
const RATE: f64 = 0.2;

/// What a release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// It does not run.
    Dead,
    /// It is not what its manifest says.
    OtherVersion,
    CrashesAtStart,
    Hangs,
    /// It runs with a link fewer.
    LosesALink,
    /// It gives the databases another number, and else the shape they have.
    OtherShape,
    /// It gives the journal a shape that the old one refuses, and crashes.
    SpoilsTheJournal,
}

/// A release as it was published.
pub struct Release {
    version: Version,
    manifest: PathBuf,
    /// SHA-256 of its operating system's bundle.
    pub system: Option<String>,
}

pub struct Rig {
    dir: tempfile::TempDir,
    url: String,
    astm: u16,
    ehr: Ehr,
    manager: Manager,
    rauc: Option<Rauc>,
    witness: Witness,
    echo: Child,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    stop: watch::Sender<bool>,
    instrument: JoinHandle<std::io::Result<instrument::Summary>>,
    broker: Broker,
}

impl Rig {
    /// A box that runs release 1.0.0. `None`, with a word, on a machine without what it takes.
    pub async fn start() -> Option<Rig> {
        Rig::start_with(false).await
    }

    /// The same, with two slots for an operating system, which RAUC looks after.
    pub async fn start_with_slots() -> Option<Rig> {
        if Rauc::is_here() { Rig::start_with(true).await } else { None }
    }

    async fn start_with(has_slots: bool) -> Option<Rig> {
        let mut broker = Broker::start()?;
        let mut rules = std::fs::read_to_string(broker.path().join("acl")).unwrap();
        for desk in &DESKS[1..] {
            let topics = format!("topic read afferent/v1/{TENANT}/+/up/#\ntopic write afferent/v1/{TENANT}/+/dn/#");
            rules.push_str(&format!("\nuser {desk}\n{topics}\n"));
        }
        std::fs::write(broker.path().join("acl"), rules).unwrap();
        broker.kill();
        broker.restart();
        let witness = Witness::start(&broker, DESKS[2], "afferent/v1/acme/+/up/#")?;
        let dir = tempfile::Builder::new().prefix("afferent-update-").tempdir().unwrap();
        let here = dir.path();
        for folder in ["site", "releases"] {
            std::fs::create_dir(here.join(folder)).unwrap();
        }
        let url = serve(&here.join("site"));
        for desk in &DESKS[..2] {
            let tls = toml::to_string(&broker.client(desk)).unwrap();
            let text = format!("broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\n[tls]\n{tls}", broker.port);
            std::fs::write(here.join(format!("{desk}.toml")), text).unwrap();
        }
        let operators: Vec<String> =
            ["ops-1", "ops-2"].map(|name| said(&desk(here, &["key", &format!("{name}.key")]))).to_vec();
        let trusted = ["rel-1", "rel-2"].map(|name| {
            let operator = said(&desk(here, &["key", &format!("{name}.key")]));
            let operator: toml::Table = operator.parse().unwrap();
            format!("{name}={}", operator["fleet"]["operator"][0]["key"].as_str().unwrap())
        });
        let [one, two] = &trusted;
        desk(
            here,
            &["update", "root", "root.json", "--trust", one, "--trust", two, "--threshold", "2", "--sign", "rel-1.key"],
        );
        desk(here, &["update", "sign", "root.json", "--sign", "rel-2.key"]);

        let options = EhrOptions { mllp: Some("127.0.0.1:0".to_string()), ..EhrOptions::default() };
        let ehr = Ehr::start(options).await.unwrap();
        let (astm, hl7) = (free_port(), free_port());
        let hl7 = format!("[[link]]\nname = \"point-of-care\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{hl7}\"\n");
        let text = format!(
            "[gateway]\nname = \"bench\"\ndata = {data:?}\ntime_zone = \"UTC\"\nclock_trusted = true\n\
             [journal]\nfree_min_mb = 0\n[watch]\nlook_s = 1\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm}\"\n{hl7}\
             [[destination]]\nname = \"ehr\"\naddress = \"{ehr}\"\nretry_min_ms = 50\nretry_max_ms = 500\n\
             [update]\nreleases = {releases:?}\nroot = {root:?}\nbandwidth_kb_s = 400\ntrial_s = 30\nquiet_s = 1\n\
             wait_max_min = 1\nreboot = [\"/bin/sh\", {reboot:?}]\n\
             [fleet]\nbroker = \"localhost:{port}\"\ntenant = \"{TENANT}\"\nmetrics_s = 5\n{operators}[fleet.tls]\n{tls}",
            data = here.join("data"),
            releases = here.join("releases"),
            root = here.join("root.json"),
            reboot = Rauc::reboot(here),
            ehr = ehr.mllp().unwrap(),
            port = broker.port,
            operators = operators.concat(),
            tls = toml::to_string(&broker.client(BOX)).unwrap(),
        );
        std::fs::write(here.join("box.toml"), &text).unwrap();
        std::fs::write(here.join("fewer.toml"), text.replace(&hl7, "")).unwrap();
        std::fs::write(here.join("first"), script(here, Version(1, 0, 0), Kind::Good)).unwrap();
        slots::unpack(&here.join("releases"), Slot::A, &here.join("first"), Version(1, 0, 0)).unwrap();
        slots::point_at(&here.join("releases"), Slot::A).unwrap();

        let mut echo = Command::new(env!("CARGO_BIN_EXE_afferent"))
            .args(["desk", "fleet", "--follow", "--desk", &format!("{}.toml", DESKS[1])])
            .current_dir(here)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It answers from the moment on at which it shows the boxes there are; what it says is read to its end.
        let mut shown = BufReader::new(echo.stdout.take().unwrap()).lines();
        shown.next().unwrap().unwrap();
        std::thread::spawn(move || shown.map_while(Result::ok).for_each(drop));
        let rauc = has_slots.then(|| Rauc::start(here));
        let manager = Manager::start(here);
        let (stop, stopped) = watch::channel(false);
        let settings = Settings {
            rate: Some(RATE),
            corrections: 0.0,
            time_scale: 0.05,
            ..Settings::new(Line::Connect(format!("127.0.0.1:{astm}")), Protocol::Astm)
        };
        let (ledger, mut lines) = mpsc::channel(256);
        let instrument = tokio::spawn(instrument::run(settings, Some(ledger), stopped));
        let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let noted = acknowledged.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if let Ledger::Acknowledged { id, .. } = line {
                    noted.lock().unwrap().insert(id);
                }
            }
        });
        let rig = Rig { dir, url, astm, ehr, manager, rauc, witness, echo, acknowledged, stop, instrument, broker };
        until("the box is there and heard", || {
            rig.witness.last("up/state").is_some_and(|state| state["downlink"] == "proven")
        });
        Some(rig)
    }

    /// Makes a release and its manifest, signed by both keys.
    pub fn publish(&self, version: Version, kind: Kind) -> Release {
        self.publish_with(version, Some(kind), None)
    }

    /// The same, with an operating system (version and bundle in `site`), or with that alone.
    pub fn publish_with(&self, version: Version, kind: Option<Kind>, system: Option<(&str, &Path)>) -> Release {
        let (here, name) = (self.dir.path(), format!("afferent-{version}"));
        let program = format!("{}=site/{name}", std::env::consts::ARCH);
        let manifest = format!("{version}{}.json", system.map_or(String::new(), |(version, _)| format!("-{version}")));
        let release = version.to_string();
        let mut words = vec!["update", "manifest", &manifest, "--url", &self.url, "--sign", "rel-1.key"];
        match kind {
            Some(kind) => {
                std::fs::write(here.join("site").join(&name), script(here, version, kind)).unwrap();
                words.extend(["--program", &program]);
            }
            None => words.extend(["--release", &release]),
        }
        let system = system.map(|(version, bundle)| format!("{}={version}={}", Rauc::COMPATIBLE, bundle.display()));
        words.extend(system.iter().flat_map(|system| ["--system", system]));
        let made = said(&desk(here, &words));
        let signed = said(&desk(here, &["update", "sign", &manifest, "--sign", "rel-2.key"]));
        assert_eq!(made, signed, "whoever signs sees which operating system it is");
        let system = signed.split_whitespace().last().map(str::to_string);
        Release { version, manifest: here.join(manifest), system }
    }

    /// Offers it to the box, which takes it.
    pub fn push(&self, release: &Release) {
        self.try_push(release).unwrap();
    }

    /// Offers it to the box. What it printed, or what went wrong.
    pub fn try_push(&self, release: &Release) -> Result<String, String> {
        let (manifest, settings) = (release.manifest.to_str().unwrap(), settings());
        self.tries(&["update", "push", BOX, manifest, "--sign", "ops-1.key", "--wait-s", "100", "--desk", &settings])
    }

    pub fn install(&self, release: &Release) {
        assert!(self.install_signed_by(release, &["ops-1", "ops-2"]));
    }

    pub fn install_signed_by(&self, release: &Release, keys: &[&str]) -> bool {
        let version = release.version.to_string();
        let (settings, keys) = (settings(), keys.iter().map(|key| format!("{key}.key")));
        let mut words = vec!["command", BOX, "update-install", &version, "--wait-s", "100", "--desk", &settings];
        let keys: Vec<String> = keys.collect();
        words.extend(keys.iter().flat_map(|key| ["--sign", key]));
        words.extend(release.system.iter().flat_map(|system| ["--system", system]));
        let done = try_desk(self.dir.path(), &words);
        done.status.success()
    }

    /// The words that roll a release out to the box.
    fn roll_out_words(release: &Release, name: &str) -> Vec<String> {
        let manifest = release.manifest.display().to_string();
        let words = ["rollout", "update", &manifest, "--name", name, "--wait-s", "1", "--sign", "ops-1.key"];
        words.iter().chain(&["--sign", "ops-2.key", "--desk", &settings()]).map(ToString::to_string).collect()
    }

    /// The desk's inventory knows the box.
    pub fn enlist(&self) {
        desk(self.dir.path(), &["inventory", "put", BOX, "--desk", &settings()]);
    }

    /// Rolls it out, in a process that is killed when the box has come to this phase, or to a later one.
    pub fn roll_out_and_die(&self, release: &Release, phase: Phase) {
        self.enlist();
        let mut desk = Command::new(env!("CARGO_BIN_EXE_afferent"))
            .arg("desk")
            .args(Self::roll_out_words(release, &release.version.to_string()))
            .current_dir(self.dir.path())
            .spawn()
            .unwrap();
        let at = |phase| PHASES.iter().position(|other| *other == phase);
        until("the box has begun", || {
            self.record().is_some_and(|record| record.version == release.version && at(record.phase) >= at(phase))
        });
        desk.kill().unwrap();
        desk.wait().unwrap();
    }

    /// Goes on with that. What it printed, or what went wrong.
    pub fn resume(&self, release: &Release) -> Result<String, String> {
        let (name, settings) = (release.version.to_string(), settings());
        self.tries(&["rollout", "resume", &name, "--sign", "ops-1.key", "--sign", "ops-2.key", "--desk", &settings])
    }

    /// Rolls it out. What it printed, or what went wrong.
    pub fn roll_out(&self, release: &Release, name: &str) -> Result<String, String> {
        let words = Self::roll_out_words(release, name);
        self.tries(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Tells the box what to do, signed by two. What it printed, or what went wrong.
    pub fn command(&self, what: &[&str]) -> Result<String, String> {
        let settings = settings();
        let signed = ["--sign", "ops-1.key", "--sign", "ops-2.key", "--wait-s", "100", "--desk", &settings];
        self.tries(&[&["command", BOX], what, &signed].concat())
    }

    fn tries(&self, words: &[&str]) -> Result<String, String> {
        let done = try_desk(self.dir.path(), words);
        match done.status.success() {
            true => Ok(said(&done)),
            false => Err(format!("{}{}", said(&done), String::from_utf8_lossy(&done.stderr))),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rauc(&self) -> &Rauc {
        self.rauc.as_ref().unwrap()
    }

    pub fn record(&self) -> Option<Record> {
        slots::read(&self.releases()).unwrap()
    }

    pub fn comes_to(&self, phase: Phase) {
        let began = Instant::now();
        while self.record().is_none_or(|record| record.phase != phase) {
            let record = self.record();
            let is_over = record.as_ref().is_some_and(|record| record.phase.is_final() && record.phase != phase);
            let is_late = began.elapsed() > 3 * crate::broker::PATIENCE;
            assert!(!is_over && !is_late, "it never came to {phase:?}: {record:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Version of the release that runs.
    pub fn running(&self) -> Version {
        slots::version_in(&self.releases(), slots::current(&self.releases()).unwrap()).unwrap()
    }

    /// The bus tells of the last update's end, under one id.
    pub fn is_told(&self, phase: &str) {
        let version = self.record().unwrap().version.to_string();
        let told = || {
            let events = self.witness.heard("up/event").into_iter().map(|event| event.json());
            let of_it = events.filter(|event| event["event"] == "update" && event["update"]["to"] == *version);
            let of_it = of_it.filter(|event| event["update"]["phase"] == phase);
            of_it.map(|event| event["id"].as_str().unwrap().to_string()).collect::<HashSet<String>>()
        };
        until("it is told", || !told().is_empty());
        assert_eq!(told().len(), 1);
        let shown = |told: &Value| told["update"]["to"] == *version && told["update"]["phase"] == phase;
        until("what is retained says so", || self.witness.last("up/update").as_ref().is_some_and(shown));
    }

    /// Whether the bus tells that this is unusual: `began` in its events, and in what stands.
    pub fn is_unusual(&self, trouble: &str, began: bool) -> bool {
        let mut events = self.witness.heard("up/event").into_iter().map(|event| event.json());
        let last = events.rfind(|event| event["event"] == "alert" && event["trouble"] == trouble);
        let standing = self.witness.last("up/alerts").unwrap_or_default();
        let stands = standing["alerts"].as_array().is_some_and(|all| all.iter().any(|one| one["trouble"] == trouble));
        last.is_some_and(|event| event["began"] == began) && stands == began
    }

    /// What the desk lists of the box.
    pub fn listed(&self) -> String {
        self.tries(&["fleet", "--desk", &settings()]).unwrap()
    }

    /// The box's log has it so often.
    pub fn logged(&self, text: &str) -> usize {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap().matches(text).count()
    }

    /// What `afferent update status` says.
    pub fn status(&self) -> String {
        let config = self.dir.path().join("box.toml");
        let output =
            Command::new(env!("CARGO_BIN_EXE_afferent")).args(["update", "status", "--config"]).arg(config).output();
        said(&output.unwrap())
    }

    pub fn link_is_open(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.astm)).is_ok()
    }

    pub fn has_copies(&self) -> bool {
        self.releases().join("before").exists()
    }

    /// From the next start on it dies at these places, one after another.
    pub fn die_at(&self, points: &[&str]) {
        self.manager.0.lock().unwrap().points = points.iter().map(|point| (*point).to_string()).collect();
        // The one that runs knows nothing of it.
        self.manager.kill(false);
    }

    /// The power fails and is back.
    pub fn power(&self) {
        self.rauc().power();
        self.manager.kill(false);
    }

    /// Places at which it should have died and did not.
    pub fn never_came_to(&self) -> Vec<String> {
        self.manager.0.lock().unwrap().points.iter().cloned().collect()
    }

    /// Takes an update to its end, and kills the box once in each of these phases, a random moment after it began. The
    /// phase it ended in.
    pub fn go_through(&self, release: &Release, phases: &[Phase], random: &mut Random) -> Phase {
        let mut left: VecDeque<Phase> = phases.iter().copied().collect();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let pushes = scope.spawn(|| {
                self.push(release);
                until("it lies ready, or more", || {
                    self.record().is_some_and(|r| {
                        r.version == release.version
                            && (r.phase.is_final()
                                || !matches!(r.phase, Phase::Offered | Phase::Downloading | Phase::Verifying))
                    })
                });
                if self.record().is_some_and(|record| record.phase == Phase::Staged) {
                    self.install(release);
                }
            });
            loop {
                assert!(began.elapsed() < 3 * crate::broker::PATIENCE, "{:?}\n{}", self.record(), self.log());
                let record = self.record().filter(|record| record.version == release.version);
                let Some(record) = record else { continue };
                // A phase may be over before it was seen.
                let at = left.iter().position(|phase| *phase == record.phase);
                if let Some(at) = at {
                    left.drain(..=at);
                    std::thread::sleep(Duration::from_millis(random.below(400) as u64));
                    self.manager.kill(random.below(2) == 0);
                }
                if record.phase.is_final() && record.is_told && pushes.is_finished() {
                    pushes.join().unwrap();
                    return record.phase;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    }

    /// Ends it all, and judges: what was acknowledged is in the chart, once.
    pub async fn finish(mut self) {
        until("something is sent", || self.acknowledged.lock().unwrap().len() > 3);
        self.stop.send(true).unwrap();
        let summary = (&mut self.instrument).await.unwrap().unwrap();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        let messages = |id: &String| {
            let of_it =
                self.ehr.arrivals().into_iter().filter(|arrival| arrival.stored && arrival.specimens.contains(id));
            of_it.map(|arrival| arrival.message_id).collect::<BTreeSet<String>>()
        };
        for id in &acknowledged {
            until("every result is delivered", || !messages(id).is_empty());
            assert_eq!(messages(id).len(), 1, "{id} is in the chart twice");
        }
        self.manager.stop();
        let reader = Reader::open(&self.dir.path().join("data"), &journal::Config::default()).unwrap();
        assert_eq!(reader.account().unwrap().missing(), 0);
        println!("{} specimens acknowledged and delivered once; {summary:?}", acknowledged.len());
    }

    fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.manager.stop();
        let _ = self.echo.kill();
        let _ = self.echo.wait();
        self.broker.kill();
    }
}

/// A service manager: starts the launcher whenever it has ended.
struct Manager(Arc<Mutex<Managed>>);

#[derive(Default)]
struct Managed {
    points: VecDeque<String>,
    launcher: Option<u32>,
    is_stopped: bool,
}

impl Manager {
    fn start(here: &Path) -> Manager {
        let managed: Arc<Mutex<Managed>> = Arc::default();
        let (state, here) = (managed.clone(), here.to_path_buf());
        std::thread::spawn(move || {
            loop {
                let (mut child, point) = {
                    let mut managed = state.lock().unwrap();
                    if managed.is_stopped {
                        return;
                    }
                    let point = managed.points.front().cloned();
                    let child = launch(&here, point.as_deref());
                    managed.launcher = Some(child.id());
                    (child, point)
                };
                let status = child.wait().unwrap();
                let mut managed = state.lock().unwrap();
                managed.launcher = None;
                let has_died = status.signal() == Some(libc::SIGABRT) || status.code() == Some(128 + libc::SIGABRT);
                if has_died && managed.points.front() == point.as_ref() {
                    managed.points.pop_front();
                }
                drop(managed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Manager(managed)
    }

    /// Kills what runs without warning: the launcher, or, while it is still there beside it, the program.
    fn kill(&self, program: bool) {
        let managed = self.0.lock().unwrap();
        let Some(launcher) = managed.launcher else { return };
        let children =
            std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
        let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).filter(|_| program);
        // SAFETY: processes of this test that were not waited for while the lock is held, or their children.
        unsafe { libc::kill(child.unwrap_or(launcher as i32), libc::SIGKILL) };
    }

    fn stop(&self) {
        self.0.lock().unwrap().is_stopped = true;
        until("the box has stopped", || {
            self.kill(false);
            self.0.lock().unwrap().launcher.is_none()
        });
    }
}

fn launch(here: &Path, point: Option<&str>) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(here.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent-launcher"));
    command.arg(here.join("releases")).args(["run", "--config"]).arg(here.join("box.toml"));
    // Never the machine's own.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", Rauc::bus(here)).env("AFFERENT_RAUC_TIMEOUT_MS", "2000");
    // As systemd does.
    command.env("INVOCATION_ID", "0").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    if let Some(point) = point {
        command.env("AFFERENT_ABORT_AT", format!("{point}:1"));
    }
    command.spawn().unwrap()
}

/// A release: a script that becomes the program under test, or does what its kind says.
fn script(here: &Path, version: Version, kind: Kind) -> Vec<u8> {
    let real = env!("CARGO_BIN_EXE_afferent");
    let fleet_schema = afferent::fleet::store::SCHEMA;
    let shape = format!("export AFFERENT_SCHEMAS='{} {fleet_schema}'", journal::SCHEMA + 1);
    let journal_schema = journal::SCHEMA + u64::from(matches!(kind, Kind::OtherShape | Kind::SpoilsTheJournal));
    let mark = format!("# afferent-release {version} {} {journal_schema} {fleet_schema};", std::env::consts::ARCH);
    let at_start = |what: &str| format!("[ \"$1\" = run ] && {what}\nexec {real:?} \"$@\"\n");
    let fewer = format!("exec {real:?} run --config {:?}", here.join("fewer.toml"));
    let spoil = "python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(\"PRAGMA user_version = 99\")'";
    let body = match kind {
        Kind::Good | Kind::OtherVersion => at_start("true"),
        Kind::Dead => "exit 1\n".to_string(),
        Kind::CrashesAtStart => at_start("exit 1"),
        Kind::Hangs => at_start("exec sleep 1000"),
        Kind::LosesALink => at_start(&fewer),
        Kind::OtherShape => format!("{shape}\n{}", at_start("true")),
        Kind::SpoilsTheJournal => {
            format!("{shape}\n{}", at_start(&format!("{{ {spoil} {:?}; exit 1; }}", here.join("data/journal.db"))))
        }
    };
    let said = if kind == Kind::OtherVersion { Version(9, 9, 9) } else { version };
    let mut text = format!("#!/bin/sh\n{mark}\nexport AFFERENT_VERSION={said}\n{body}exit 1\n").into_bytes();
    // A shell reads no further than the exit.
    while text.len() < RELEASE_BYTES {
        writeln!(text, "# {:064}", text.len()).unwrap();
    }
    text
}

fn settings() -> String {
    format!("{}.toml", DESKS[0])
}

fn try_desk(here: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_afferent")).arg("desk").args(words).current_dir(here).output().unwrap()
}

fn desk(here: &Path, words: &[&str]) -> Output {
    let output = try_desk(here, words);
    assert!(output.status.success(), "desk {words:?}: {}{}", said(&output), String::from_utf8_lossy(&output.stderr));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
