//! Roll-outs of configurations: real boxes on a real broker, a desk that is killed, and boxes that do not take it.

use crate::broker::{Broker, until};
use crate::commands::Box;
use crate::desk::{Beside, Desk, lines};
use crate::ports::free_port;
use crate::raw::Client;
use crate::rig::{DESK, TENANT};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};

const BOXES: [(&str, &str); 3] = [("bench-1", "0"), ("bench-2", "1"), ("bench-3", "1")];
const KEY: [&str; 2] = ["--sign", "ops-1.key"];
const KEYS: [&str; 4] = ["--sign", "ops-1.key", "--sign", "ops-2.key"];

struct Fleet {
    boxes: Vec<Box>,
    desk: Desk,
}

impl Fleet {
    /// Boxes that take configurations with so many signatures.
    fn start(broker: &Broker, signatures: usize) -> Fleet {
        let desk = Desk::shipped(broker);
        let operators = ["ops-1.key", "ops-2.key"].map(|key| desk.does(&["key", key])).concat();
        let settings = format!("confirm_s = 8\nconfig_signatures = {signatures}\n{operators}");
        let mut boxes: Vec<Box> = BOXES.iter().map(|(name, _)| Box::of(broker, TENANT, name, &settings)).collect();
        boxes.iter_mut().for_each(|gateway| gateway.run(None));
        for (name, ring) in BOXES {
            desk.does(&["inventory", "put", name, "--ring", ring]);
        }
        let fleet = Fleet { boxes, desk };
        until("all have said what they run", || {
            BOXES.iter().all(|(name, _)| fleet.row(name)["online"] == true && fleet.row(name)["seen"] == 0)
        });
        fleet
    }

    fn row(&self, name: &str) -> Value {
        self.desk.fleet()[name].clone()
    }

    fn drifted(&self, name: &str) -> bool {
        let shown = self.desk.does(&["config", "show", name, "--json"]);
        serde_json::from_str::<Value>(&shown).unwrap()["drift"] == true
    }

    fn revision(&self, name: &str) -> Value {
        self.row(name)["revision"].clone()
    }

    /// The configuration of each, in a folder: its link on this port, and another one.
    fn write(&self, ports: &[(u16, u16); 3]) {
        let folder = self.desk.file("configs");
        std::fs::create_dir_all(&folder).unwrap();
        for ((gateway, (name, _)), (chemistry, second)) in self.boxes.iter().zip(BOXES).zip(ports) {
            let link = |name: &str, port: &u16| {
                format!("[[link]]\nname = \"{name}\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{port}\"\n")
            };
            let text = [
                link("chemistry", chemistry),
                link("second", second),
                format!("[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{}\"\n", gateway.ehr),
            ];
            std::fs::write(folder.join(format!("{name}.toml")), text.concat()).unwrap();
        }
    }

    fn chemistry(&self) -> [u16; 3] {
        [0, 1, 2].map(|at| self.boxes[at].astm)
    }

    fn status(&self, name: &str) -> Value {
        self.desk.status(name)
    }

    fn told(&self, name: &str) -> Vec<String> {
        let log = lines(&self.desk.file(&format!("rollouts/{name}/log.jsonl")));
        let told = log.into_iter().filter(|line| line["what"] == "told");
        told.map(|line| line["gateway"].as_str().unwrap().to_string()).collect()
    }

    fn roll_out(&self, name: &str) -> String {
        let words = ["rollout", "config", "configs", "--name", name, "--wait-s", "1"];
        self.desk.refuses(&[&words[..], &KEY[..]].concat())
    }
}

fn passes(seconds: u64) {
    let began = std::time::Instant::now();
    until("time passes", || began.elapsed() > std::time::Duration::from_secs(seconds));
}

/// Somebody else who may hear what boxes say.
fn hearer(broker: &Broker) -> Client {
    Client::connect(broker.port, &broker.client("desk-acme-3"), "desk-acme-3", None).unwrap()
}

#[test]
fn a_broker_that_was_gone_makes_no_box_fail() {
    let Some(mut broker) = Broker::start() else { return };
    let mut fleet = Fleet::start(&broker, 1);
    let start = ["rollout", "start", "report", "--name", "report", "--wait-s", "8"];
    let running = Beside::start(fleet.desk.command(&[&start[..], &KEY[..]].concat()));
    until("the first ring has it", || fleet.status("report")["rings"][0]["counts"]["done"] == 1);
    broker.kill_and_forget();
    fleet.boxes[0].kill();
    // The ring has been watched for long enough before the broker is there again, and the box comes long after the desk.
    passes(9);
    broker.restart();
    passes(20);
    assert_eq!(fleet.status("report")["stage"], "running");
    fleet.boxes[0].run(None);
    until("it is finished", || fleet.status("report")["stage"] == "finished");
    assert_eq!(fleet.status("report")["failures"], serde_json::json!({}));
    drop(running);
    // The same when the desk ends with them, and another goes on before the box is back.
    let start = ["rollout", "start", "report", "--name", "again", "--wait-s", "4"];
    let running = Beside::start(fleet.desk.command(&[&start[..], &KEY[..]].concat()));
    until("the first ring has it", || fleet.status("again")["rings"][0]["counts"]["done"] == 1);
    drop(running);
    broker.kill_and_forget();
    fleet.boxes[0].kill();
    passes(5);
    broker.restart();
    let running = Beside::start(fleet.desk.command(&[&["rollout", "resume", "again"], &KEY[..]].concat()));
    passes(10);
    assert_eq!(fleet.status("again")["stage"], "running");
    fleet.boxes[0].run(None);
    until("it is finished", || fleet.status("again")["stage"] == "finished");
    drop(running);
}

#[test]
fn a_box_that_comes_back_without_its_session_is_told_again() {
    let Some(mut broker) = Broker::start() else { return };
    let mut fleet = Fleet::start(&broker, 1);
    fleet.boxes[0].hold();
    let start = ["rollout", "start", "report", "--name", "report"];
    let running = Beside::start(fleet.desk.command(&[&start[..], &KEY[..]].concat()));
    until("the first is told", || fleet.told("report") == ["bench-1"]);
    // What it was told dies with the broker, and the desk is there again before it is.
    broker.kill_and_forget();
    fleet.boxes[0].kill();
    fleet.desk.does(&["rollout", "pause", "report"]);
    broker.restart();
    passes(10);
    assert_eq!(fleet.status("report")["rings"][0]["counts"]["told"], 1);
    fleet.boxes[0].run(None);
    until("it is there", || fleet.row("bench-1")["online"] == true && fleet.row("bench-1")["downlink"] == true);
    passes(3);
    assert_eq!(fleet.status("report")["rings"][0]["counts"]["told"], 1, "nobody is told while it pauses");
    fleet.desk.does(&["rollout", "resume", "report", KEY[0], KEY[1]]);
    until("it has done it", || fleet.status("report")["rings"][0]["counts"]["done"] == 1);
    drop(running);
}

#[test]
fn a_configuration_comes_ring_by_ring_and_a_desk_that_is_killed_goes_on() {
    let Some(broker) = Broker::start() else { return };
    let fleet = Fleet::start(&broker, 2);
    let [a, b, c] = fleet.chemistry();
    let second = [free_port(), free_port(), free_port()];
    fleet.write(&[(a, second[0]), (b, second[1]), (c, second[2])]);
    // What a box would refuse as a text is not sent to any.
    std::fs::write(fleet.desk.file("wrong.toml"), "[[link]]\nname = \"x\"\nlisen = 1\n").unwrap();
    fleet.desk.refuses(&[&["rollout", "config", "wrong.toml"], &KEY[..]].concat());
    // With fewer signatures than it takes it is not sent either.
    fleet.roll_out("alone");
    let why = fleet.status("alone")["failures"]["bench-1"].clone();
    assert_eq!((why, fleet.told("alone").len()), ("it takes configurations with 2 signatures".into(), 0));
    let start = ["rollout", "config", "configs", "--name", "two-links", "--wait-s", "1", "--batch", "1"];
    let mut running = Beside::start(fleet.desk.command(&[&start[..], &KEYS[..]].concat()));
    // It is killed when the first was told, and when the next ring was; nobody else answers the boxes' echoes.
    for told in [1, 2] {
        until("one more is told", || fleet.told("two-links").len() >= told);
        drop(running);
        let resume = ["rollout", "resume", "two-links"];
        running = Beside::start(fleet.desk.command(&[&resume[..], &KEYS[..]].concat()));
    }
    until("it is finished", || fleet.status("two-links")["stage"] == "finished");
    drop(running);
    assert_eq!(fleet.told("two-links"), ["bench-1", "bench-2", "bench-3"], "each was told once");
    let log = lines(&fleet.desk.file("rollouts/two-links/log.jsonl"));
    let at = |what: &str, gateway: &str| {
        log.iter().position(|line| line["what"] == what && line["gateway"] == gateway).unwrap()
    };
    assert!(at("ended", "bench-1") < at("told", "bench-2"), "the first ring came first");
    for ((name, _), port) in BOXES.iter().zip(second) {
        assert_eq!(fleet.revision(name), 1);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "{name} has its own second link");
    }
    assert!(fleet.desk.does(&["audit"]).contains("each follows from the one before"));

    // Somebody edited the file of one of them: that is not replaced unless whoever rolls out says so.
    fleet.boxes[0].edit();
    until("the drift is known", || fleet.drifted("bench-1"));
    let again = |name: &str, more: &[&str]| {
        let words = ["rollout", "config", "configs", "--name", name, "--wait-s", "1"];
        fleet.desk.run(&[&words[..], more, &KEYS[..]].concat())
    };
    assert!(!again("drifted", &[]).status.success());
    assert_eq!(fleet.status("drifted")["failures"]["bench-1"], "refused: drift");
    let replaced = again("replaced", &["--replace"]);
    assert!(replaced.status.success(), "{replaced:?}");
    // What became of it is told as an event, and how it is now a moment later.
    until("there is no drift", || !fleet.drifted("bench-1"));
}

#[test]
fn a_configuration_that_a_box_refuses_or_takes_back_comes_to_no_other_ring() {
    let Some(broker) = Broker::start() else { return };
    let mut fleet = Fleet::start(&broker, 1);
    let [a, b, c] = fleet.chemistry();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    fleet.write(&[(a, taken.local_addr().unwrap().port()), (b, free_port()), (c, free_port())]);
    let told = fleet.roll_out("refused");
    assert!(told.contains("is stopped: 1 of the 1 boxes of ring 0 failed"), "{told}");
    assert_eq!(fleet.status("refused")["failures"]["bench-1"], "refused: port-taken");
    assert_eq!(fleet.told("refused"), ["bench-1"]);

    // It runs, and an analyzer that was connected does not find it any more: the box goes back by itself.
    let analyzer = TcpStream::connect(("127.0.0.1", a)).unwrap();
    let (link, mut ear) = (format!("afferent/v1/{TENANT}/bench-1/up/if/chemistry"), hearer(&broker));
    ear.subscribe(&link);
    while !ear.came.last().is_some_and(|(_, said)| String::from_utf8_lossy(said).contains("\"open\":1")) {
        ear.came.clear();
        ear.hear(&link);
    }
    fleet.write(&[(free_port(), free_port()), (b, free_port()), (c, free_port())]);
    let told = fleet.roll_out("reverted");
    assert!(told.contains("is stopped: 1 of the 1 boxes of ring 0 failed"), "{told}");
    assert_eq!(fleet.status("reverted")["failures"]["bench-1"], "reverted: link-lost");
    drop(analyzer);
    until("it runs its own file again", || fleet.revision("bench-1").is_null());

    // One that is away is not told, and what one that goes silent was sent is not kept for it.
    fleet.write(&[(a, free_port()), (b, free_port()), (c, free_port())]);
    fleet.boxes[0].kill();
    until("it is away", || fleet.row("bench-1")["online"] == false);
    let short = ["rollout", "config", "configs", "--name", "away", "--silent-s", "3"];
    fleet.desk.refuses(&[&short[..], &KEY[..]].concat());
    assert_eq!(fleet.status("away")["failures"]["bench-1"], "it was away for 3 s");
    assert_eq!(fleet.told("away"), Vec::<String>::new());
    for (name, _) in BOXES {
        assert_eq!(fleet.revision(name), Value::Null, "{name} runs its own file");
    }
}

/// A box that says what it likes, as one that is there and well.
struct Puppet {
    desk: Desk,
    client: Client,
}

impl Puppet {
    fn start(broker: &Broker) -> Puppet {
        let desk = Desk::shipped(broker);
        desk.does(&["key", "ops-1.key"]);
        desk.does(&["inventory", "put", "bench-1"]);
        let text = "[[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:4001\"\n\
                    [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n";
        std::fs::write(desk.file("one.toml"), text).unwrap();
        let mut client = Client::connect(broker.port, &broker.client("bench-1"), "bench-1", None).unwrap();
        client.say(&topic("up/state"), br#"{"v":1,"online":true,"epoch":1,"downlink":"proven"}"#);
        client.say(&topic("up/alerts"), br#"{"v":1,"alerts":[]}"#);
        client.say(&topic("up/reported"), br#"{"v":1,"running":null,"rev":null,"signatures":1}"#);
        client.subscribe(&topic("dn/desired"));
        client.subscribe(&topic("dn/cmd/+"));
        Puppet { desk, client }
    }

    /// Waits until it was given a command, and says on which topic.
    fn told(&mut self) -> String {
        let is_command = |(on, _): &(String, Vec<u8>)| on.starts_with(&topic("dn/cmd/"));
        while !self.client.came.iter().any(is_command) {
            assert!(self.client.is_alive());
            passes(1);
        }
        let told = self.client.came.iter().find(|one| is_command(one)).unwrap().0.clone();
        self.client.came.clear();
        told
    }

    /// Says that it has done that.
    fn has_done(&mut self, on: &str) {
        let id = on.rsplit('/').next().unwrap();
        let event = format!(
            "{{\"v\":1,\"id\":\"00000001-0000-7000-8000-000000000000\",\"event\":\"command\",\
             \"command\":\"{id}\",\"op\":\"restart\",\"phase\":\"done\"}}"
        );
        self.client.say(&topic("up/event"), event.as_bytes());
    }

    /// The record says that revision 1 was taken back, and who did it, so many times.
    fn was_noted(&self, times: usize) {
        let record = lines(&self.desk.file("audit.jsonl"));
        let sent = record.iter().find_map(|line| line["what"]["config"].as_object()).unwrap();
        let taken: Vec<_> = record.iter().filter(|line| line["what"]["does"] == "take-back").collect();
        assert_eq!(taken.len(), times, "{record:?}");
        for line in taken {
            let what = &line["what"];
            assert!(what["at"].is_string() && line["uid"].is_u64(), "{line}");
            let of = [&what["rollout"], &what["gateway"], &what["rev"], &what["sha256"]];
            assert_eq!(of, [&"silent".into(), &"bench-1".into(), &1.into(), &sent["sha256"]]);
        }
        assert!(self.desk.does(&["audit"]).contains("each follows from the one before"));
    }

    /// It comes back, and hears what the broker keeps for it: something later, and nothing of what it was sent.
    fn finds_nothing(self, broker: &Broker) {
        let connect = |name: &str| Client::connect(broker.port, &broker.client(name), name, None).unwrap();
        drop(self.client);
        let mut back = connect("bench-1");
        back.subscribe(&topic("dn/#"));
        connect(DESK).say(&topic("dn/cmd/later"), b"later");
        back.hear(&topic("dn/cmd/later"));
        assert_eq!(back.came.len(), 1, "{:?}", back.came);
    }
}

fn topic(end: &str) -> String {
    format!("afferent/v1/{TENANT}/bench-1/{end}")
}

#[test]
fn what_a_silent_box_was_sent_is_not_there_when_it_comes_back() {
    let Some(broker) = Broker::start() else { return };
    let mut silent = Puppet::start(&broker);
    let words = ["rollout", "config", "one.toml", "--name", "silent", "--silent-s", "2"];
    let told = silent.desk.refuses(&[&words[..], &KEY[..]].concat());
    assert!(told.contains("is stopped: 1 of the 1 boxes of ring 0 failed"), "{told}");
    silent.client.hear(&topic("dn/desired"));
    assert!(!silent.client.came[0].1.is_empty(), "it was sent");
    silent.was_noted(1);
    silent.finds_nothing(&broker);
}

#[test]
fn what_a_box_was_sent_is_taken_back_by_a_stop_though_the_desk_that_sent_it_is_dead() {
    let Some(mut broker) = Broker::start() else { return };
    let mut silent = Puppet::start(&broker);
    let words = ["rollout", "config", "one.toml", "--name", "silent"];
    let running = Beside::start(silent.desk.command(&[&words[..], &KEY[..]].concat()));
    silent.client.hear(&topic("dn/desired"));
    drop(running);
    let told = silent.desk.does(&["rollout", "stop", "silent"]);
    assert!(told.contains("what boxes had not taken is taken back"), "{told}");
    silent.was_noted(1);
    silent.finds_nothing(&broker);
    // Where that cannot be, it says so.
    let mut silent = Puppet::start(&broker);
    let running = Beside::start(silent.desk.command(&[&words[..], &KEY[..]].concat()));
    silent.client.hear(&topic("dn/desired"));
    drop((running, silent.client));
    broker.kill();
    let told = silent.desk.refuses(&["rollout", "stop", "silent"]);
    assert!(told.contains("is still kept for them") && told.contains("resume silent"), "{told}");
}

#[test]
fn a_box_that_did_it_while_no_desk_was_there_is_asked_again() {
    let Some(broker) = Broker::start() else { return };
    let mut gateway = Puppet::start(&broker);
    let words = ["rollout", "start", "restart", "--name", "late", "--wait-s", "1", "--silent-s", "4"];
    let running = Beside::start(gateway.desk.command(&[&words[..], &KEY[..]].concat()));
    let on = gateway.told();
    drop(running);
    // Its answer goes to another desk, which notes it, and its time is over.
    passes(5);
    let resume = gateway.desk.command(&["rollout", "resume", "late", KEY[0], KEY[1]]);
    let running = Beside::start(resume);
    gateway.client.came.clear();
    gateway.client.hear(&on);
    gateway.has_done(&on);
    until("it is finished", || gateway.desk.status("late")["stage"] == "finished");
    drop(running);
}

#[test]
fn another_operating_system_than_the_manifest_names_is_not_installed() {
    let Some(broker) = Broker::start() else { return };
    let mut gateway = Puppet::start(&broker);
    gateway.desk.does(&["key", "ops-2.key"]);
    gateway.desk.does(&["key", "rel-1.key"]);
    std::fs::write(gateway.desk.file("os.raucb"), "a bundle").unwrap();
    let words = ["update", "manifest", "os.json", "--release", "1.2.0", "--system", "acme-box=7.0=os.raucb"];
    let words = [&words[..], &["--url", "https://releases.example/os", "--sign", "rel-1.key"]].concat();
    gateway.desk.does(&words);
    // With what makes the offer longer than a line of the record, which is no reason not to send it.
    std::fs::write(gateway.desk.file("roots.json"), "r".repeat(100_000)).unwrap();
    let words = ["rollout", "update", "os.json", "--name", "os", "--wait-s", "1", "--root", "roots.json"];
    let running = Beside::start(gateway.desk.command(&[&words[..], &KEYS[..]].concat()));
    let offer = gateway.told();
    gateway.has_done(&offer);
    // A hostile box: two operators would sign a bundle that nobody released.
    let plan: Value =
        serde_json::from_slice(&std::fs::read(gateway.desk.file("rollouts/os/plan.json")).unwrap()).unwrap();
    let update = serde_json::json!({ "manifest": plan["with_system"], "to": "1.2.0", "phase": "staged",
                                     "system": "00".repeat(32) });
    let said = serde_json::json!({ "v": 1, "release": "1.2.0", "update": update });
    gateway.client.say(&topic("up/update"), said.to_string().as_bytes());
    until("it is stopped", || gateway.desk.status("os")["stage"]["stopped"].is_string());
    drop(running);
    let why = "another operating system lies ready there than the manifest names";
    assert_eq!(gateway.desk.status("os")["failures"]["bench-1"], why);
    assert!(gateway.client.is_alive() && gateway.client.came.is_empty(), "{:?}", gateway.client.came);
    let record = lines(&gateway.desk.file("audit.jsonl"));
    let asked: Vec<_> =
        record.iter().map(|line| &line["what"]["command"]["do"]).filter(|what| what.is_object()).collect();
    let [offer] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(offer["op"], "update-offer");
    let roots = &offer["args"]["roots"];
    assert!(roots["bytes"].as_u64() >= Some(100_000) && roots["sha256"].is_string(), "{offer}");
}
