//! `afferent sim modality` and `afferent sim pacs` on both sides of the real gateway: every service and every fault.

use crate::peers::{Running, afferent, free_port, until};
use crate::site::Site;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Objects of the examinations here; every third image is compressed and the last object is a report.
const OBJECTS: u64 = 8;

/// A simulated PACS as a process of its own.
struct SimPacs {
    port: u16,
    running: Running,
    told: std::path::PathBuf,
}

impl SimPacs {
    fn start(site: &Site, options: &[&str], port: u16) -> SimPacs {
        let told = site.path("pacs.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["sim", "pacs", &format!("127.0.0.1:{port}"), "--json"]).args(options);
        command.stdout(std::fs::File::create(&told).unwrap()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        until("the PACS listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        SimPacs { port, running, told }
    }

    /// Ends it as a person would and tells what it counted.
    fn account(mut self) -> Value {
        self.running.interrupt();
        until("the PACS ends", || self.running.has_ended());
        let told = std::fs::read(&self.told).unwrap();
        serde_json::from_slice(&told).unwrap_or_else(|_| panic!("{}: {told:?}", self.port))
    }
}

/// What became of an examination behind a PACS with these options, and what the PACS counted: queued, delivered, parked.
fn behind(options: &[&str], settings: &str, settled: impl Fn([u64; 3]) -> bool) -> ([u64; 3], Value) {
    let port = free_port();
    let mut site = Site::new(&format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"127.0.0.1:{port}\"\n\
         called_ae_title = \"PACS\"\nretry_min_ms = 20\nretry_max_ms = 100\nconnections = 2\n{settings}"
    ));
    let pacs = SimPacs::start(&site, options, port);
    site.start();
    let objects = OBJECTS.to_string();
    let sent = afferent(&["sim", "modality", &site.address(), "--objects", &objects]);
    assert!(sent.status.success(), "whatever the PACS does, the modality does not notice: {sent:?}");
    let data = site.data().display().to_string();
    let mut counts = [0; 3];
    until("everything is settled", || {
        let told = afferent(&["journal", "studies", "--json", "--data", &data]);
        let studies: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        counts = ["queued", "delivered", "parked"].map(|key| studies[0][key].as_u64().unwrap_or_default());
        counts.iter().sum::<u64>() == OBJECTS && settled(counts)
    });
    site.kill();
    (counts, pacs.account())
}

fn nothing_waits([queued, ..]: [u64; 3]) -> bool {
    queued == 0
}

/// Everything arrives, each object once, however often the PACS does this.
fn arrives_through(fault: &[&str], settings: &str) {
    let ([_, delivered, _], account) = behind(fault, settings, nothing_waits);
    assert_eq!(delivered, OBJECTS, "{fault:?}: {account}");
    assert_eq!((&account["stored"], &account["conflicting"]), (&json!(OBJECTS), &json!(0)), "{fault:?}: {account}");
}

#[test]
fn a_pacs_that_is_busy_at_first_gets_everything() {
    arrives_through(&["--reject", "4"], "");
}

#[test]
fn a_pacs_that_is_out_of_resources_now_and_then_gets_everything() {
    arrives_through(&["--mix", "a700:0.4"], "attempts_max = 1000\n");
}

#[test]
fn a_pacs_that_aborts_in_the_middle_gets_everything() {
    arrives_through(&["--mix", "abort:0.3"], "attempts_max = 1000\n");
}

#[test]
fn a_pacs_that_hangs_up_in_the_middle_gets_everything() {
    arrives_through(&["--mix", "close:0.3"], "attempts_max = 1000\n");
}

#[test]
fn a_pacs_that_is_slow_gets_everything_once() {
    let (_, account) = behind(&["--mix", "slow:1", "--slow-ms", "200"], "", nothing_waits);
    assert_eq!((&account["arrived"], &account["stored"]), (&json!(OBJECTS), &json!(OBJECTS)), "{account}");
}

#[test]
fn a_pacs_that_never_answers_now_and_then_gets_everything() {
    arrives_through(&["--mix", "hang:0.2"], "ack_timeout_ms = 500\nattempts_max = 1000\n");
}

#[test]
fn a_pacs_that_understands_nothing_has_it_parked_after_a_few_tries() {
    let (counts, account) = behind(&["--mix", "c000:1"], "", nothing_waits);
    assert_eq!(counts, [0, 0, OBJECTS], "{account}");
    assert_eq!(account["stored"], json!(0));
}

#[test]
fn a_pacs_that_refuses_a_transfer_syntax_has_the_objects_in_it_parked_and_gets_the_others() {
    const RLE: &str = "1.2.840.10008.1.2.5";
    let (counts, account) = behind(&["--refuse", RLE], "", nothing_waits);
    // Of seven images the third and the sixth are compressed.
    assert_eq!(counts, [0, OBJECTS - 2, 2], "{account}");
    assert_eq!(account["stored"], json!(OBJECTS - 2));
}

#[test]
fn a_pacs_that_commits_to_nothing_has_everything_sent_four_times_and_parked() {
    let (counts, account) =
        behind(&["--commitment", "fails"], "commitment = true\n", |[_, _, parked]| parked == OBJECTS);
    assert_eq!(counts, [0, 0, OBJECTS], "{account}");
    assert_eq!((&account["stored"], &account["arrived"]), (&json!(OBJECTS), &json!(4 * OBJECTS)), "{account}");
    assert_eq!((&account["asked"], &account["committed"]), (&json!(4 * OBJECTS), &json!(0)), "{account}");
}

#[test]
fn a_pacs_that_never_reports_is_asked_again_and_keeps_what_it_took() {
    let port = free_port();
    let mut site = Site::new(&format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"127.0.0.1:{port}\"\n\
         called_ae_title = \"PACS\"\ncommitment = true\ncommitment_wait_s = 1\n"
    ));
    let pacs = SimPacs::start(&site, &["--commitment", "silent"], port);
    site.start();
    assert!(afferent(&["sim", "modality", &site.address(), "--objects", "2"]).status.success());
    let log = site.path("log");
    let asked = || std::fs::read_to_string(&log).unwrap().matches("asked to commit to images").count();
    until("it is asked twice", || asked() >= 2);
    site.kill();
    let account = pacs.account();
    assert_eq!((&account["stored"], &account["repeated"]), (&json!(2), &json!(0)), "{account}");
    assert!(account["asked"].as_u64().unwrap() >= 4, "{account}");
}

#[test]
fn a_simulated_modality_does_what_is_ordered_from_the_worklist_to_commitment() {
    let ris = free_port();
    let mut site = Site::new(&format!(
        "[[orders]]\nname = \"ris\"\nlisten = \"127.0.0.1:{ris}\"\n\
         [[modality]]\nname = \"echo-1\"\nae_title = \"VIVID\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n"
    ));
    site.start();
    until("the gateway takes orders", || std::net::TcpStream::connect(("127.0.0.1", ris)).is_ok());
    let entry = ["MÜLLER^JÜRGEN", "MJ2000", "A-6", "1.2.840.99.6", "US", "VIVID", "20260302", "101500", "BROWN"];
    assert_eq!(crate::questions::send(ris, &crate::questions::order(0, entry)), "AA");
    let run = |seed: &str| -> Value {
        let address = site.address();
        let arguments = ["sim", "modality", &address, "--calling", "VIVID", "--worklist", "--mpps", "--commit", "60"];
        let done = afferent(&[&arguments[..], &["--json", "--seed", seed]].concat());
        let told = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert!(done.status.success(), "{told}");
        told
    };
    let told = run("1");
    for (key, count) in [("scheduled", 1), ("steps", 1), ("stored", 6), ("committed", 6), ("failures", 0)] {
        assert_eq!(told[key], json!(count), "{key}: {told}");
    }
    let data = site.data().display().to_string();
    let orders = afferent(&["orders", "list", "--all", "--json", "--data", &data]);
    let orders: Value = serde_json::from_slice(&orders.stdout).unwrap();
    assert_eq!(orders[0]["status"], "done");
    // What is done is not on the worklist any more.
    let told = run("2");
    assert_eq!((&told["scheduled"], &told["committed"]), (&json!(0), &json!(6)), "{told}");
}
