//! The operator's side, by its own commands, with real boxes on the broker as it is shipped.

use crate::broker::{Broker, until};
use crate::commands::Box;
use crate::raw::Client;
use crate::rig::{DESK, TENANT};
use afferent::desk::authority;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A desk's folder, and its commands.
pub struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// With these certificates: the first is the main one, the last that for events.
    pub fn new(broker: &Broker, names: &[&str]) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            broker.client_in(dir.path(), name);
        }
        std::fs::copy(broker.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
        let (main, seats, events) = (names[0], &names[1..names.len() - 1], names[names.len() - 1]);
        let text = format!(
            "broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\nseats = {seats:?}\nevents = {events:?}\n\
             tls = {{ ca = \"ca.pem\", cert = \"{main}.pem\", key = \"{main}.key\" }}\n",
            broker.port
        );
        std::fs::write(dir.path().join("desk.toml"), text).unwrap();
        Desk { dir }
    }

    /// The one that the shipped rules name.
    pub fn shipped(broker: &Broker) -> Desk {
        Desk::new(broker, &[DESK, "desk-acme-2", "desk-acme-3", "desk-acme-events"])
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        command(self.path(), words)
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it to a good end and gives what it printed.
    #[track_caller]
    pub fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {told}{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it to a bad end and gives what it said.
    #[track_caller]
    pub fn refuses(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn fleet(&self) -> Value {
        serde_json::from_str(&self.does(&["fleet", "--json"])).unwrap()
    }

    /// How a roll-out stands.
    pub fn status(&self, name: &str) -> Value {
        let output = self.run(&["rollout", "status", name, "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).map(|all| all[0].clone()).unwrap_or_default()
    }

    /// What boxes told, as it is noted.
    pub fn events(&self) -> Vec<Value> {
        lines(&self.file("events.jsonl"))
    }
}

/// `afferent desk` in a folder.
pub fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.arg("desk").args(words).current_dir(folder);
    command
}

/// A process that runs beside the test, and ends with it.
pub struct Beside(pub Child);

impl Beside {
    pub fn start(mut command: Command) -> Beside {
        Beside(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whole lines of JSON of a file that may not be there yet.
pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn the_broker_is_tested_as_the_desk_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("fleet");
    let written = command(dir.path(), &["broker", "fleet"]).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let here = folder.to_str().unwrap();
    let shipped = include_str!("../../src/desk/mosquitto.conf");
    assert_eq!(read("mosquitto.conf"), shipped.replace("/etc/mosquitto/fleet", here));
    assert_eq!(read("acl"), include_str!("../../src/desk/acl"));
    let other = command(dir.path(), &["broker", "lab", "--tenant", "lab"]).output().unwrap();
    let acl = std::fs::read_to_string(dir.path().join("lab/acl")).unwrap();
    assert!(other.status.success() && !acl.contains("acme"), "{acl}");
    assert!(acl.contains("user desk-lab-2\ntopic read afferent/v1/lab/+/up/#"), "{acl}");
    let again = command(dir.path(), &["broker", "fleet"]).output().unwrap();
    assert!(!again.status.success(), "what is there is not replaced");
}

#[test]
fn a_desk_sees_its_boxes_tells_them_and_keeps_a_record() {
    let Some(broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    let operators = ["ops-1", "ops-2"].map(|key| desk.does(&["key", &format!("{key}.key")])).concat();
    // A desk that stays answers their echoes, and does not stand in the way of one that does not.
    let watching = Beside::start(desk.command(&["fleet", "--watch"]));
    let mut boxes = ["bench-1", "bench-2", "bench-9"].map(|name| Box::of(&broker, TENANT, name, &operators));
    // Another tenant's, and one that says it is of this tenant.
    let mut foreign = Box::of(&broker, "globex", "bench-7", &operators);
    let shown = boxes[0].with_board();
    boxes.iter_mut().chain([&mut foreign]).for_each(|gateway| gateway.run(None));
    for (name, ring) in [("bench-1", "0"), ("bench-2", "1")] {
        desk.does(&["inventory", "put", name, "--site", "north", "--ring", ring, "--tag", "chemistry"]);
    }
    let is_up =
        |fleet: &Value, name: &str| fleet[name]["online"] == true && fleet[name]["links"]["chemistry"]["up"] == true;
    until("all boxes are there", || {
        let fleet = desk.fleet();
        ["bench-1", "bench-2", "bench-9"].iter().all(|name| is_up(&fleet, name))
    });
    assert_eq!(desk.fleet()["bench-7"], Value::Null, "a box of another tenant");
    let table = desk.does(&["fleet"]);
    assert!(table.contains("1 strangers") && table.contains("bench-9"), "{table}");
    let north: Value = serde_json::from_str(&desk.does(&["fleet", "--json", "--group", "ring=1"])).unwrap();
    assert_eq!(north.as_object().unwrap().keys().collect::<Vec<_>>(), ["bench-2"]);

    until("they know that they are heard", || desk.fleet()["bench-1"]["downlink"] == true);
    assert_eq!(desk.does(&["command", "bench-1", "ping", "--sign", "ops-1.key"]), "ping done\n");
    assert_eq!(desk.does(&["command", "bench-1", "identify", "--sign", "ops-1.key"]), "identify done\n");
    until("it says which box it is", || {
        std::fs::read_to_string(&shown).unwrap().lines().any(|line| line == "screen identify")
    });
    let nothing = desk.run(&["command", "bench-2", "identify", "--sign", "ops-1.key"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("no-board"), "it has nothing to show it on: {nothing:?}");
    drop(watching);
    let told = desk.does(&["command", "--group", "site=north", "queue-stats", "--sign", "ops-1.key"]);
    assert!(told.contains("bench-1: queue-stats done") && told.contains("bench-2: queue-stats done"), "{told}");

    // What it runs, without secrets, and what its log says, without what came from elsewhere.
    let settings = desk.does(&["config", "get", "bench-1", "--sign", "ops-1.key"]);
    let settings: toml::Table = settings.parse().unwrap();
    assert_eq!(settings["link"][0]["name"].as_str(), Some("chemistry"));
    assert_eq!(settings["destination"][0]["address"].as_str(), Some(&*format!("127.0.0.1:{}", boxes[0].ehr)));
    let log = desk.does(&["command", "bench-1", "log-tail", "300", "--sign", "ops-1.key"]);
    assert!(log.contains("the fleet's broker is there"), "{log}");
    assert!(log.contains("INFO") && log.contains("fleet: command log-tail"), "{log}");
    let renew = desk.run(&["command", "bench-1", "cert-renew", "--sign", "ops-1.key"]);
    assert!(String::from_utf8_lossy(&renew.stdout).contains("not-enrolled"), "somebody gave it: {renew:?}");

    // What takes two people is not asked with one signature, and not done with a stranger's.
    let discard = ["command", "bench-1", "discard-parked", "ehr", "--reason", "test", "--sign", "ops-1.key"];
    assert!(desk.refuses(&discard).contains("takes 2 signatures"));
    desk.does(&["key", "eve.key"]);
    let unheard = [&discard[..], &["--sign", "eve.key"]].concat();
    let refused = desk.run(&unheard);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stdout).contains("too-few-signatures"), "{refused:?}");
    let told = desk.does(&[&discard[..], &["--sign", "ops-2.key"]].concat());
    assert!(told.contains("0 changed"), "{told}");
    let unknown = desk.run(&["command", "bench-1", "retry-parked", "nowhere", "--sign", "ops-1.key"]);
    assert!(String::from_utf8_lossy(&unknown.stdout).contains("no-such-destination"), "{unknown:?}");
    let never_here = ["command", "bench-3", "ping", "--sign", "ops-1.key", "--wait-s", "1"];
    assert!(desk.refuses(&never_here).contains("bench-3 was not told: the broker does not know it"));
    let eve = ["command", "bench-1", "ping", "--sign", "eve.key", "--wait-s", "1"];
    assert!(
        desk.refuses(&eve).contains("bench-1 is there and has not answered within 1 s: it takes longer, or does not")
    );

    // The record has all of it, and shows when it was changed.
    assert!(desk.does(&["audit"]).contains("each follows from the one before"));
    let audit = lines(&desk.file("audit.jsonl"));
    let asked = audit.iter().filter(|line| line["what"]["signed_by"].is_array()).count();
    let put = audit.iter().filter(|line| line["what"]["inventory"] == "put" && line["what"]["by"].is_string()).count();
    assert_eq!((asked, put, audit.len()), (13, 2, 28), "each with an answer or its absence");
    let commands = desk.events().iter().filter(|line| line["event"]["event"] == "command").count();
    assert!(commands >= 6, "{commands}");
    let counted: BTreeMap<String, BTreeMap<String, usize>> =
        serde_json::from_str(&desk.does(&["events", "--count"])).unwrap();
    assert_eq!(counted.values().filter_map(|of| of.get("command")).sum::<usize>(), commands, "{counted:?}");
    let text = std::fs::read_to_string(desk.file("audit.jsonl")).unwrap();
    std::fs::write(desk.file("audit.jsonl"), text.replacen("bench-2", "bench-8", 1)).unwrap();
    assert!(desk.refuses(&["audit"]).contains("line 3: it does not follow"));

    // A box that dies is away once the broker has waited for it.
    boxes[1].kill();
    until("it is away", || desk.fleet()["bench-2"]["online"] == false);
}

#[test]
fn a_broker_whose_certificate_ends_soon_is_told_of() {
    let Some(mut broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    let told = |words: &[&str]| String::from_utf8(desk.run(words).stderr).unwrap();
    let says = format!("the certificate of the broker localhost:{} is good until", broker.port);
    let all = [&["fleet"][..], &["serve", "--listen", "127.0.0.1:0", "--seconds", "1"]];
    for words in all {
        let told = told(words);
        assert!(!told.contains(&says), "{told}");
    }
    let (ca, now_s) = (desk.file("ca"), jiff::Timestamp::now().as_second());
    authority::init(&ca, TENANT, now_s).unwrap();
    let names = authority::Use::Server(vec!["localhost".to_string()]);
    let (signed, key) = authority::Authority::open(&ca).unwrap().make(&names, now_s, now_s + 29 * 86_400).unwrap();
    std::fs::write(broker.path().join("broker.pem"), signed.pem()).unwrap();
    std::fs::write(broker.path().join("broker.key"), key.as_bytes()).unwrap();
    broker.trusts(&ca.join("root.pem"), &desk.file("ca.pem"));
    for words in all {
        let told = told(words);
        assert!(told.contains(&says) && told.contains("ca issue broker"), "{told}");
        assert!(told.contains(&format!("(seen at {}", &jiff::Timestamp::now().to_string()[..4])), "{told}");
    }
    // With a certificate of its own that has ended a desk does not get in, and says why nevertheless.
    let client = authority::Use::Client(DESK.to_string());
    let (signed, key) = authority::Authority::open(&ca).unwrap().make(&client, now_s - 3600, now_s - 60).unwrap();
    std::fs::write(desk.file(&format!("{DESK}.pem")), signed.pem()).unwrap();
    std::fs::write(desk.file(&format!("{DESK}.key")), key.as_bytes()).unwrap();
    for words in all {
        let told = told(words);
        assert!(told.contains(&format!("{DESK}.pem is good until")), "{told}");
    }
}

#[test]
fn a_box_that_the_broker_does_not_know_yet_is_told_when_it_comes() {
    let Some(broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    let operator = desk.does(&["key", "ops-1.key"]);
    assert_eq!(desk.does(&["key", "ops-1.key"]), operator, "a key that is there stays");
    let words = ["command", "bench-1", "ping", "--sign", "ops-1.key", "--wait-s", "60"];
    let mut telling = desk.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    until("it was asked", || desk.file("audit.jsonl").exists());
    let log = || std::fs::read_to_string(broker.path().join("log")).unwrap_or_default();
    until("the desk is there", || log().contains(" as desk-acme "));
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &operator);
    gateway.run(None);
    assert!(telling.wait().unwrap().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut telling.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "ping done\n");
}

#[test]
fn an_answer_that_nobody_heard_waits_for_a_desk() {
    let Some(broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    let operator = desk.does(&["key", "ops-1.key"]);
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &operator);
    gateway.run(None);
    until("the box is there", || desk.fleet()["bench-1"]["online"] == true);
    gateway.kill();
    until("it is away", || desk.fleet()["bench-1"]["online"] == false);
    let away = desk.refuses(&["command", "bench-1", "queue-stats", "--sign", "ops-1.key", "--wait-s", "1"]);
    assert!(away.contains("bench-1 has not answered within 1 s; it does it when it is back"), "{away}");
    // It is back, and does it while no desk listens.
    gateway.run(None);
    let is_done = || {
        let store = rusqlite::Connection::open(gateway.data().join("fleet.db")).unwrap();
        store.query_row("SELECT count(*) FROM command WHERE phase = 'done'", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    until("it has done it", || is_done() == 1);
    let answered = || {
        let events = desk.events();
        events.iter().filter(|line| line["event"]["op"] == "queue-stats" && line["event"]["phase"] == "done").count()
    };
    assert_eq!(answered(), 0);
    let _noting = Beside::start(desk.command(&["events"]));
    until("it is noted", || answered() == 1);
}

#[test]
fn each_event_is_noted_by_one_desk_of_several() {
    let Some(broker) = Broker::start() else { return };
    let names = ["desk-acme-events", "desk-acme-events-2"];
    let desks = names.map(|events| Desk::new(&broker, &[DESK, "desk-acme-2", events]));
    let mut noting: Vec<Beside> = desks.iter().map(|desk| Beside::start(desk.command(&["events"]))).collect();
    let mut gateway = Client::connect(broker.port, &broker.client("bench-1"), "bench-1", None).unwrap();
    let id = |n: usize| format!("{n:08x}-0000-7000-8000-000000000000");
    let mut told = 0;
    let mut tell = |times: usize| {
        for _ in 0..times {
            told += 1;
            let event = format!("{{\"v\":1,\"id\":\"{}\",\"event\":\"started\"}}", id(told));
            gateway.say("afferent/v1/acme/bench-1/up/event", event.as_bytes());
        }
        told
    };
    let ids =
        |desk: &Desk| desk.events().iter().map(|line| line["event"]["id"].as_str().unwrap().to_string()).collect();
    let noted = || -> Vec<Vec<String>> { desks.iter().map(ids).collect() };
    let mut before = 0;
    until("both desks listen", || {
        before = tell(2);
        noted().iter().all(|ids| !ids.is_empty())
    });
    let all_since = |before: usize, last: usize| {
        until("all are noted", || {
            let noted: BTreeSet<String> = noted().concat().into_iter().collect();
            (before + 1..=last).all(|n| noted.contains(&id(n)))
        });
        let ids = noted().concat();
        let once: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "an event is noted by one desk");
    };
    let last = tell(100);
    all_since(before, last);
    assert!(noted().iter().all(|ids| ids.len() > 20), "they share them");

    // One is killed; what it was given and what comes meanwhile is noted when it is back.
    noting.remove(1);
    let last = tell(50);
    noting.push(Beside::start(desks[1].command(&["events"])));
    all_since(before, last);
}
