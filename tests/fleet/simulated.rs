//! A fleet of simulated boxes, on mosquitto as it is shipped. `AFFERENT_FLEET=10000` makes it as large.

use crate::broker::until;
use crate::desk::{Beside, command};
use crate::ports::free_port;
use afferent::sim::fleet::stage::{self, Mosquitto};
use afferent::sim::fleet::{Fleet, Options};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BOXES: usize = 250;

/// Everything for a fleet, and its broker.
pub struct Stage {
    pub mosquitto: Mosquitto,
    dir: tempfile::TempDir,
    boxes: usize,
    port: u16,
}

impl Stage {
    /// `None`, with a word, on a machine without mosquitto.
    pub fn make(boxes: usize) -> Option<Stage> {
        if Mosquitto::program().is_none() {
            println!("left out: a simulated fleet (no mosquitto here)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("afferent-fleet-").tempdir().unwrap();
        let port = free_port();
        stage::make(dir.path(), boxes, port).unwrap();
        let mosquitto = Mosquitto::start(dir.path(), port).unwrap();
        Some(Stage { mosquitto, dir, boxes, port })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Boxes that do as they should.
    pub fn options(&self) -> Options {
        Options {
            boxes: self.boxes,
            broker: ("localhost".to_string(), self.port),
            folder: self.path().to_path_buf(),
            births: Duration::from_secs(2),
            report_every: Duration::from_secs(60),
            failing: 0.0,
            silent: 0.0,
            flapping: 0.0,
            dying: 0.0,
            alarming: 0.0,
            seed: 1,
        }
    }

    pub fn start(&self, options: Options) -> Fleet {
        Fleet::start(options).unwrap()
    }

    pub fn fleet(&self) -> Value {
        let output = command(self.path(), &["fleet", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

/// More than any list a broker keeps for one client by default: none may be missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_that_comes_late_is_told_of_every_box() {
    let Some(stage) = Stage::make(BOXES) else { return };
    let fleet = stage.start(Options { flapping: 0.2, report_every: Duration::from_secs(5), ..stage.options() });
    until("all boxes are there", || fleet.account().born == BOXES as u64);
    let (mut whole, mut told) = (0, Value::Null);
    until("every box is told of with all its parts", || {
        told = stage.fleet();
        let rows = told.as_object().unwrap().values();
        let is_whole = |row: &&Value| {
            let parts = ["links", "destinations"].map(|part| row[part].as_object().unwrap().len());
            row["version"] == env!("CARGO_PKG_VERSION") && parts == [2, 1]
        };
        whole = rows.filter(is_whole).count();
        whole == BOXES
    });
    let log = std::fs::read_to_string(stage.path().join("log")).unwrap();
    assert!(!log.contains("dropped"), "the broker drops messages: {log}");
    assert!(fleet.account().lost > 0, "some have lost their connection meanwhile");
    drop(fleet);
    // One desk that stays answers all that ask whether they are heard.
    let fleet = stage.start(stage.options());
    until("all boxes are there", || fleet.account().born == BOXES as u64);
    assert_eq!(fleet.account().echoed, 0);
    let watching = Beside::start(command(stage.path(), &["fleet", "--watch"]));
    // They asked when they came, and nobody was there; they ask again because it says that it is here.
    until("all boxes know that they are heard", || fleet.account().echoed >= BOXES as u64);
    drop(watching);
}

#[test]
fn the_command_makes_all_it_needs() {
    let Some(_) = Mosquitto::program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("fleet");
    let mut sim = Command::new(env!("CARGO_BIN_EXE_afferent"));
    sim.args(["sim", "fleet", "20", "--births-s", "1", "--seconds", "20", "--json", "--folder"]).arg(&folder);
    sim.args(["--port", &free_port().to_string()]);
    let output = sim.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((&told["born"], &told["run_twice"]), (&20.into(), &0.into()), "{told}");
    assert!(told["broker_cpu_ms"].as_u64().is_some_and(|ms| ms > 0), "{told}");
}

#[test]
fn a_fleet_that_cannot_be_says_why() {
    let Some(_) = Mosquitto::program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let says = |boxes: &str| {
        let mut sim = Command::new(env!("CARGO_BIN_EXE_afferent"));
        sim.args(["sim", "fleet", boxes, "--seconds", "1", "--port", &port, "--folder"]).arg(dir.path());
        let output = sim.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let why = says("2");
    assert!(why.contains(&format!("port {port}")) && why.contains("choose another with --port"), "{why}");
    let why = says("8");
    assert!(why.contains("was made for fewer boxes"), "{why}");
}
