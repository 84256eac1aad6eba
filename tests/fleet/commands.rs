//! What a box is told to do over a real broker: by whom, once, and whatever happens in between.

use crate::broker::{Broker, until};
use crate::ports::free_port;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use afferent::fleet::command::{Command, Operation};
use afferent::fleet::envelope::{self, Purpose, SigningKey, new_key};
use afferent::fleet::telemetry::Id;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

pub const BOX: &str = "bench-1";

/// A box as its own process, which may die.
pub struct Box {
    config: PathBuf,
    child: Option<Child>,
    /// Where its link listens.
    pub astm: u16,
    /// Where its destination shall be; nobody is there.
    pub ehr: u16,
    dir: tempfile::TempDir,
}

impl Box {
    /// A box that obeys ann and bob.
    pub fn new(broker: &Broker) -> Box {
        let operators = ["ann", "bob"]
            .map(|kid| format!("[[fleet.operator]]\nkid = \"{kid}\"\nkey = \"{}\"\n", key(kid).public_key()));
        Box::of(broker, TENANT, BOX, &operators.concat())
    }

    /// A box of this tenant with this name, which obeys these operators.
    pub fn of(broker: &Broker, tenant: &str, name: &str, operators: &str) -> Box {
        let dir = tempfile::tempdir().unwrap();
        let tls = toml::to_string(&broker.client(name)).unwrap();
        let (astm, ehr) = (free_port(), free_port());
        let text = format!(
            "[gateway]\ndata = {data:?}\nclock_trusted = true\n[journal]\nfree_min_mb = 0\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\n\
             [fleet]\nbroker = \"localhost:{port}\"\ntenant = \"{tenant}\"\n{operators}[fleet.tls]\n{tls}",
            data = dir.path().join("data"),
            port = broker.port,
        );
        let config = dir.path().join("box.toml");
        std::fs::write(&config, text).unwrap();
        Box { config, child: None, astm, ehr, dir }
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs it, to die at the n-th passing of a place when there is one.
    pub fn run(&mut self, dies_at: Option<&str>) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["run", "--config"]).arg(&self.config).stdout(Stdio::null()).stderr(Stdio::null());
        // As a service manager does.
        command.env("INVOCATION_ID", "0");
        command.envs(dies_at.map(|at| ("AFFERENT_ABORT_AT", at)));
        self.child = Some(command.spawn().unwrap());
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.as_ref().unwrap().id() as i32, signal) }, 0);
    }

    /// It stays connected and does nothing more.
    pub fn hold(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        assert!(self.child.take().unwrap().wait().unwrap().success());
    }

    /// Gives it a board that is a folder, and tells where the board notes what it shows.
    pub fn with_board(&self) -> PathBuf {
        let folder = self.dir.path().join("board");
        let text = std::fs::read_to_string(&self.config).unwrap();
        let board = format!("[board]\ndefinition = \"cm4-carrier-1\"\nfolder = {folder:?}\n");
        std::fs::write(&self.config, text + &board).unwrap();
        folder.join("shown")
    }

    /// Somebody edits its file.
    pub fn edit(&self) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, format!("{text}# by hand\n")).unwrap();
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end and says whether it died.
    pub fn died(&mut self) -> bool {
        let status = self.child.take().unwrap().wait().unwrap();
        status.signal() == Some(libc::SIGABRT)
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn key(kid: &str) -> SigningKey {
    SigningKey::from_pkcs8(kid, &new_key(&[kid.as_bytes()[0]; 32])).unwrap()
}

/// A command of ann's, signed by these, as it is published.
pub fn signed(seq: u64, operation: Operation, signers: &[&str]) -> (String, Vec<u8>) {
    let id = Id::make().to_string();
    let now = Timestamp::now();
    let command = Command {
        v: 1,
        id: id.clone(),
        tenant: TENANT.to_string(),
        gateway: BOX.to_string(),
        issuer: "ann".to_string(),
        seq,
        not_before: now,
        expires: now + SignedDuration::from_mins(30),
        operation,
    };
    let mut bytes = envelope::seal(&serde_json::to_vec(&command).unwrap(), Purpose::Command, &key(signers[0]));
    for kid in &signers[1..] {
        bytes = envelope::countersign(&bytes, Purpose::Command, &key(kid)).unwrap();
    }
    (id, bytes)
}

pub fn topic(id: &str) -> String {
    format!("afferent/v1/{TENANT}/{BOX}/dn/cmd/{id}")
}

/// What was said of a command: phase and event id of each event.
pub fn said(witness: &Witness, id: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let events = witness.heard("up/event").into_iter().map(|event| event.json());
    let of_it = events.filter(|event| event["event"] == "command" && event["command"] == id);
    of_it.map(|event| (text(&event["phase"]), text(&event["id"]))).collect()
}

/// `AFFERENT_SEED`, or the clock.
pub fn seed() -> u64 {
    let seed = std::env::var("AFFERENT_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| Timestamp::now().as_nanosecond() as u64 | 1)
}

/// xorshift64.
pub fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn is_up(witness: &Witness) -> bool {
    witness.last("up/state").is_some_and(|state| state["online"] == true)
}

#[test]
fn a_box_obeys_its_operators_and_answers_and_nobody_else() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut gateway = Box::new(&broker);
    gateway.run(None);
    until("the box is there", || is_up(&desk));
    let (ping, bytes) = signed(1, Operation::Ping, &["ann"]);
    desk.say(&topic(&ping), &bytes, false);
    until("it answers", || !said(&desk, &ping).is_empty());
    let (queues, bytes) = signed(2, Operation::QueueStats, &["ann"]);
    desk.say(&topic(&queues), &bytes, false);
    until("it tells its queues", || !said(&desk, &queues).is_empty());
    let event = desk.heard("up/event").into_iter().map(|e| e.json()).find(|e| e["command"] == *queues).unwrap();
    assert_eq!(
        (&event["outcome"]["did"], &event["outcome"]["queues"][0]["destination"]),
        (&"queues".into(), &"ehr".into())
    );

    // A replay, a second signature that is missing, another's signature, a command that is none.
    let (old, bytes) = signed(1, Operation::Restart, &["ann"]);
    desk.say(&topic(&old), &bytes, false);
    let discard = || Operation::DiscardParked { destination: "ehr".to_string(), reason: "test".to_string() };
    let (alone, bytes) = signed(3, discard(), &["ann"]);
    desk.say(&topic(&alone), &bytes, false);
    let eve = SigningKey::from_pkcs8("ann", &new_key(&[99; 32])).unwrap();
    desk.say(&topic("x"), &envelope::seal(b"{}", Purpose::Command, &eve), false);
    desk.say(&topic("x"), b"restart", false);
    let (both, bytes) = signed(4, discard(), &["ann", "bob"]);
    desk.say(&topic(&both), &bytes, false);
    until("the last is done", || !said(&desk, &both).is_empty());
    let phases = |desk: &Witness, id: &str| said(desk, id).into_iter().map(|(phase, _)| phase).collect::<Vec<_>>();
    assert_eq!([&old, &alone, &both].map(|id| phases(&desk, id)), [vec!["refused"], vec!["refused"], vec!["done"]]);
    assert!(desk.heard("up/event").iter().any(|event| event.json()["event"] == "unsigned-commands"));

    // A restart ends the process, and the next one says that it is done.
    let (restart, bytes) = signed(5, Operation::Restart, &["ann"]);
    desk.say(&topic(&restart), &bytes, false);
    assert!(!gateway.died(), "it stopped in order");
    assert!(said(&desk, &restart).is_empty(), "nobody says that it is done before");
    gateway.run(None);
    until("it says that it was restarted", || !said(&desk, &restart).is_empty());
    assert_eq!(phases(&desk, &restart), ["done"]);
}

#[test]
fn i12_kill_a_command_ends_once_wherever_the_box_dies() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut gateway = Box::new(&broker);
    // Once, so that the broker knows it and keeps what it is told.
    gateway.run(None);
    until("the box is there", || is_up(&desk));
    gateway.kill();
    let discard = || Operation::DiscardParked { destination: "ehr".to_string(), reason: "test".to_string() };
    let places = ["fleet-command-kept", "fleet-command-running", "fleet-command-run", "fleet-command-ended"];
    // Whether what was under way may be run again, and so how each ends.
    type Make = fn() -> Operation;
    let kinds: [(Make, &str); 2] = [(|| Operation::QueueStats, "done"), (discard, "interrupted")];
    let mut seq = 0;
    for (make, under_way) in kinds {
        for place in places {
            seq += 1;
            gateway.run(Some(&format!("{place}:1")));
            let (id, bytes) = signed(seq, make(), &["ann", "bob"]);
            desk.say(&topic(&id), &bytes, false);
            assert!(gateway.died(), "{place}");
            gateway.run(None);
            until("the command ends", || !said(&desk, &id).is_empty());
            // Sent again by a desk that heard nothing, it is answered again and not run again.
            // While the first answer waits for the broker there is no second.
            while said(&desk, &id).len() < 2 {
                desk.say(&topic(&id), &bytes, false);
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            let wanted = match place {
                "fleet-command-running" | "fleet-command-run" => under_way,
                _ => "done",
            };
            let ends: std::collections::BTreeSet<_> = said(&desk, &id).into_iter().collect();
            assert_eq!(ends.iter().map(|(phase, _)| phase.as_str()).collect::<Vec<_>>(), [wanted], "{place}");
            gateway.kill();
        }
    }
}

#[test]
fn i12_kill_twenty_deaths_at_any_moment_end_each_command_once() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut random = seed();
    eprintln!("AFFERENT_SEED={random}");
    let mut gateway = Box::new(&broker);
    gateway.run(None);
    until("the box is there", || is_up(&desk));
    let discard = || Operation::DiscardParked { destination: "ehr".to_string(), reason: "test".to_string() };
    let mut all = Vec::new();
    for seq in 1..=20 {
        let operation = if seq % 2 == 0 { discard() } else { Operation::QueueStats };
        let (id, bytes) = signed(seq, operation, &["ann", "bob"]);
        desk.say(&topic(&id), &bytes, false);
        // A moment within what a command takes, from its way there to the acknowledgement of its answer.
        std::thread::sleep(std::time::Duration::from_micros(next(&mut random) % 60_000));
        gateway.kill();
        gateway.run(None);
        until("the command ends", || !said(&desk, &id).is_empty());
        all.push(id);
    }
    let ends = |id: &String| said(&desk, id).into_iter().collect::<std::collections::BTreeSet<_>>();
    for (at, id) in all.iter().enumerate() {
        let ends: Vec<_> = ends(id).into_iter().map(|(phase, _)| phase).collect();
        let is_once = at % 2 == 1;
        let is_right = ends == ["done"] || is_once && ends == ["interrupted"];
        assert!(is_right, "command {}: {ends:?}", at + 1);
    }
}
