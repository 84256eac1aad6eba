//! What a box is told to run over a real broker: it runs the old configuration or the new one that was confirmed, whoever
//! sends what, whatever is lost in between, and wherever the box dies. Results go on meanwhile.

use crate::broker::{Broker, until};
use crate::commands::{key, next, seed};
use crate::data_path::{ASTM, of_round, send, session};
use crate::line::{Line, Way};
use crate::ports::free_port;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use afferent::fleet::desired::{Desired, write};
use afferent::fleet::envelope::{self, Purpose, SigningKey, new_key};
use afferent::sim::ehr::{Ehr, EhrOptions};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

pub const BOX: &str = "bench-1";
const RULES: &str = "[[rule]]\nname = \"flags\"\nkind = \"flag\"\nflags = [\"HH\"]\n";

/// A box as its own process, with an analyzer's link and an EHR.
pub struct Site {
    broker: Line,
    pub ehr: Ehr,
    pub astm: u16,
    pub own: String,
    child: Option<Child>,
    rounds: usize,
    pub dir: tempfile::TempDir,
}

fn link(name: &str, port: u16) -> String {
    format!("[[link]]\nname = \"{name}\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{port}\"\n")
}

pub fn destination(name: &str, address: SocketAddr) -> String {
    format!("[[destination]]\nname = \"{name}\"\naddress = \"{address}\"\nretry_min_ms = 50\nretry_max_ms = 500\n")
}

impl Site {
    pub async fn new(broker: &Broker, confirm_s: u64) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let options = EhrOptions { mllp: Some("127.0.0.1:0".to_string()), ..EhrOptions::default() };
        let ehr = Ehr::start(options).await.unwrap();
        let line = Line::to(broker.port);
        let astm = free_port();
        let tls = toml::to_string(&broker.client(BOX)).unwrap();
        let own = format!(
            "[gateway]\ndata = {data:?}\nclock_trusted = true\n[journal]\nfree_min_mb = 0\n\
             [fleet]\nbroker = \"localhost:{port}\"\ntenant = \"{TENANT}\"\nconfirm_s = {confirm_s}\n\
             [[fleet.operator]]\nkid = \"ann\"\nkey = \"{key}\"\n[fleet.tls]\n{tls}",
            data = dir.path().join("data"),
            port = line.port,
            key = key("ann").public_key(),
        );
        let site = Site { broker: line, ehr, astm, own, child: None, rounds: 0, dir };
        std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
        site
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("box.toml")
    }

    /// What runs: the analyzer's link, these links, and the EHR.
    pub fn text(&self, links: &[(&str, u16)]) -> String {
        let links: String = links.iter().map(|(name, port)| link(name, *port)).collect();
        // A link that names its driver does not depend on others.
        let chemistry = format!("{}driver = \"generic-astm\"\n", link("chemistry", self.astm));
        format!("{chemistry}{links}{}", destination("ehr", self.ehr.mllp().unwrap()))
    }

    pub fn run(&mut self, dies_at: Option<&str>) {
        let dies_at: Vec<_> = dies_at.map(|at| ("AFFERENT_ABORT_AT", at.into())).into_iter().collect();
        self.run_with(&dies_at);
    }

    /// The same in this environment.
    pub fn run_with(&mut self, environment: &[(&str, OsString)]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["run", "--config"]).arg(self.file()).stdout(Stdio::null()).stderr(log);
        command.env("INVOCATION_ID", "0").env_remove("AFFERENT_ABORT_AT").envs(environment.iter().cloned());
        self.child = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    #[track_caller]
    pub fn died(&mut self, place: &str) {
        let status = self.child.take().unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{place}: {status}\n{}", self.log());
    }

    /// What the fleet keeps, for whoever is in its way.
    pub fn store(&self) -> rusqlite::Connection {
        let store = rusqlite::Connection::open(self.dir.path().join("data/fleet.db")).unwrap();
        store.busy_timeout(Duration::from_secs(30)).unwrap();
        store
    }

    /// The certificate that the box shows the broker.
    pub fn cert(&self) -> PathBuf {
        let own: toml::Table = self.own.parse().unwrap();
        own["fleet"]["tls"]["cert"].as_str().unwrap().into()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A specimen more, which the box has acknowledged when this returns.
    pub async fn send(&mut self) {
        let port = self.astm;
        until("the box listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.rounds += 1;
        send(port, &of_round(&session(ASTM), self.rounds)).await;
    }

    /// Everything that was sent is in the chart, under one id each.
    pub fn everything_arrives(&self) {
        self.everything_arrives_and(0);
    }

    /// The same, and so many more that came over other links.
    pub fn everything_arrives_and(&self, more: usize) {
        let stored = || -> BTreeSet<String> {
            let arrivals = self.ehr.arrivals().into_iter().filter(|arrival| arrival.stored);
            arrivals.map(|arrival| arrival.message_id).collect()
        };
        let wanted = self.rounds + more;
        until("every result arrives", || stored().len() >= wanted);
        assert_eq!(stored().len(), wanted, "each under one id");
    }

    /// What the desk says to the box, as it is published.
    pub fn desired(&self, rev: u64, config: &str) -> Desired {
        Desired {
            v: 1,
            tenant: TENANT.to_string(),
            gateway: BOX.to_string(),
            rev,
            config: config.to_string(),
            files: BTreeMap::new(),
            replaces: None,
        }
    }

    /// The desk's command line, in a folder of its own.
    pub fn desk(&self, broker: &Broker, arguments: &[&str]) -> Output {
        let folder = self.dir.path().join("desk");
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            let tls = toml::to_string(&broker.client("desk-acme-2")).unwrap();
            let text = format!("broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\n[tls]\n{tls}", broker.port);
            std::fs::write(folder.join("desk.toml"), text).unwrap();
            let pem = pem::encode(&new_key(&[b'a'; 32]));
            std::fs::write(folder.join("ann.key"), pem).unwrap();
        }
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["desk", "config"]).args(arguments).current_dir(folder).output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the box's log:\n{}", self.log());
        }
    }
}

mod pem {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    pub fn encode(der: &[u8]) -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
    }
}

pub fn sealed(desired: &Desired, with: &SigningKey) -> Vec<u8> {
    envelope::seal(&write(desired), Purpose::Config, with)
}

/// A broker, a desk and a box that runs its own configuration; none where there is no broker or no witness.
pub async fn a_box(confirm_s: u64) -> Option<(Broker, Witness, Site)> {
    let broker = Broker::start()?;
    let desk = Witness::start(&broker, DESK, ALL_UP)?;
    let mut site = Site::new(&broker, confirm_s).await;
    site.run(None);
    until("the box is there", || is_up(&desk));
    Some((broker, desk, site))
}

/// Sends the box this configuration as this revision, signed by one who may.
pub fn push(site: &Site, desk: &mut Witness, rev: u64, text: &str) {
    desk.say(&topic(), &sealed(&site.desired(rev, text), &key("ann")), true);
}

pub fn in_trial(desk: &Witness, rev: u64) {
    until("its trial begins", || events(desk, "config").iter().any(|e| e["rev"] == rev && e["state"] == "trial"));
}

/// Waits until so many are connected to the analyzer's link, as the box counts them.
#[track_caller]
pub fn is_connected(desk: &Witness, open: u64) {
    until("the analyzer is connected", || desk.last("up/if/chemistry").is_some_and(|link| link["open"] == open));
}

pub fn topic() -> String {
    format!("afferent/v1/{TENANT}/{BOX}/dn/desired")
}

pub fn reported(witness: &Witness) -> Value {
    witness.last("up/reported").unwrap_or_default()
}

/// Waits until nothing will change any more with this revision, and says how it ended.
#[track_caller]
pub fn ended(witness: &Witness, rev: u64) -> (String, String) {
    let is = |value: &Value, state: &str| value["rev"] == rev && value["state"] == state;
    until(&format!("revision {rev} ends"), || {
        let last = reported(witness);
        ["committed", "reverted", "refused"].iter().any(|state| is(&last, state))
    });
    let last = reported(witness);
    let text = |key: &str| last[key].as_str().unwrap_or_default().to_string();
    (text("state"), text("why"))
}

pub fn committed() -> (String, String) {
    ("committed".to_string(), String::new())
}

pub fn because(state: &str, why: &str) -> (String, String) {
    (state.to_string(), why.to_string())
}

pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

pub fn events(witness: &Witness, event: &str) -> Vec<Value> {
    let events = witness.heard("up/event").into_iter().map(|message| message.json());
    events.filter(|value| value["event"] == event).collect()
}

pub fn is_up(witness: &Witness) -> bool {
    witness.last("up/state").is_some_and(|state| state["online"] == true && state["downlink"] == "proven")
}

#[track_caller]
fn ok(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_runs_what_the_desk_sends_and_untouched_links_keep_their_sockets() {
    let Some((broker, witness, mut site)) = a_box(4).await else { return };
    until("it reports", || reported(&witness)["running"].is_null() && reported(&witness)["drift"] == false);
    site.send().await;
    // An analyzer is in the middle of a message.
    let mut analyzer = TcpStream::connect(("127.0.0.1", site.astm)).unwrap();
    analyzer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut ack = [0];
    analyzer.write_all(b"\x05").unwrap();
    analyzer.read_exact(&mut ack).unwrap();
    assert_eq!(ack, [0x06]);

    let folder = site.dir.path().join("site");
    std::fs::create_dir_all(folder.join("drivers/site-x")).unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/generic-astm/driver.toml");
    let driver = std::fs::read_to_string(driver).unwrap().replace("generic-astm", "site-x");
    std::fs::write(folder.join("drivers/site-x/driver.toml"), driver).unwrap();
    std::fs::write(folder.join("rules.toml"), RULES).unwrap();
    let (second, third) = (free_port(), free_port());
    let head = "[gateway]\ndrivers = \"drivers\"\nrules = \"rules.toml\"\n";
    let with_driver = |site: &Site, port: u16| {
        let text = site.text(&[("second", port)]);
        text.replace("name = \"second\"\n", "name = \"second\"\ndriver = \"site-x\"\n")
    };
    let file = folder.join("bench-1.toml");
    std::fs::write(&file, format!("{head}{}", with_driver(&site, second))).unwrap();
    let push = ["push", BOX, file.to_str().unwrap(), "--sign", "ann.key"];
    let said = ok(&site.desk(&broker, &push));
    assert!(said.contains("runs revision 1\nrevision 1 is committed"), "{said}");
    assert!(listens(second));
    let shown = ok(&site.desk(&broker, &["show", BOX]));
    assert_eq!(shown, said);
    assert_eq!(reported(&witness)["running"], 1);
    until("the birth tells of the new link", || {
        witness.last("up/birth").is_some_and(|birth| birth["links"] == serde_json::json!(["chemistry", "second"]))
    });
    until("the link itself is told of", || witness.last("up/if/second").is_some());
    analyzer.write_all(b"\x04\x05").unwrap();
    analyzer.read_exact(&mut ack).unwrap();
    assert_eq!(ack, [0x06], "the same connection goes on");
    drop(analyzer);
    site.send().await;

    // It outlives a restart, and what the broker keeps and says again changes nothing.
    site.kill();
    let told = events(&witness, "config").len();
    site.run(None);
    until("it runs revision 1 again", || listens(second));
    site.send().await;
    std::fs::write(&file, format!("{head}{}", with_driver(&site, third))).unwrap();
    let said = ok(&site.desk(&broker, &push));
    assert!(said.contains("runs revision 2\nrevision 2 is committed"), "{said}");
    assert_eq!((listens(second), listens(third)), (false, true));
    let again: Vec<_> = events(&witness, "config").into_iter().skip(told).collect();
    assert!(again.iter().all(|event| event["rev"] == 2), "{again:?}");
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["doctor", "--json", "--config"])
        .arg(site.file())
        .output()
        .unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("revision 2 runs; revision 2 is committed"), "{doctor}");
    assert!(doctor.contains("second"), "the doctor looks at what runs: {doctor}");

    // The desk finds what the box would, and what is the box's own it does not send.
    for wrong in
        ["[fleet]\ntenant = \"other\"\n", "[journal]\nretention_days = 1\n", "[[link]]\nname = \"x\"\nlisen = 1\n"]
    {
        std::fs::write(&file, format!("{}{wrong}", site.text(&[]))).unwrap();
        assert!(!site.desk(&broker, &push).status.success(), "{wrong}");
    }
    assert_eq!(reported(&witness)["rev"], 2);
    let audit = std::fs::read_to_string(site.dir.path().join("desk/audit.jsonl")).unwrap();
    assert!(audit.contains("\"rev\":2") && audit.contains("\"signed_by\":[\"ann\"]"), "{audit}");
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_and_the_old_one_goes_on() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    let text = site.text(&[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = destination("other", format!("127.0.0.1:{}", free_port()).parse().unwrap());
    let wrong = [
        (format!("{text}[fleet]\nbroker = \"elsewhere:8883\"\n"), "faults", Some("fleet")),
        (format!("[gateway]\ndata = \"/tmp/elsewhere\"\n{text}"), "faults", Some("gateway.data")),
        (text.replace("protocol = \"astm\"", "protocol = \"asmt\""), "faults", Some("link[0].protocol")),
        (site.text(&[("second", taken.local_addr().unwrap().port())]), "port-taken", None),
        (format!("{text}{nobody}"), "unreachable", None),
    ];
    let mut rev = 0;
    for (config, why, path) in &wrong {
        rev += 1;
        push(&site, &mut desk, rev, config);
        assert_eq!(ended(&desk, rev), because("refused", why), "{config}");
        if let Some(path) = path {
            let errors = reported(&desk)["errors"].clone();
            assert_eq!(errors[0]["path"], *path, "{errors}");
            assert!(errors[0]["line"].as_u64() > Some(0));
        }
        assert!(reported(&desk)["running"].is_null());
        site.send().await;
    }
    // Who may not, what is not whole, what is another's, what is old or the same again and yet not.
    let eve = SigningKey::from_pkcs8("ann", &new_key(&[99; 32])).unwrap();
    let good = site.desired(9, &site.text(&[("second", free_port())]));
    let whole = sealed(&good, &key("ann"));
    let forged: [Vec<u8>; 5] = [
        b"forged".to_vec(),
        sealed(&good, &eve),
        whole[..whole.len() / 2].to_vec(),
        envelope::seal(&write(&good), Purpose::Command, &key("ann")),
        whole.iter().map(|byte| if *byte == b'A' { b'B' } else { *byte }).collect(),
    ];
    for bytes in &forged {
        desk.say(&topic(), bytes, true);
    }
    let unsigned = |desk: &Witness| events(desk, "unsigned-configs").last().map(|event| event["count"].clone());
    until("forgeries are counted", || unsigned(&desk) == Some(4.into()));
    let me = || site.desired(9, &site.text(&[]));
    let others = [
        (Desired { gateway: "bench-2".to_string(), ..me() }, "not-mine"),
        (Desired { tenant: "other".to_string(), ..me() }, "not-mine"),
        (Desired { rev: 2, ..me() }, "older"),
        (Desired { rev, config: "other".to_string(), ..me() }, "other-content"),
        (Desired { v: 9, ..me() }, "unknown"),
    ];
    for (index, (desired, why)) in others.iter().enumerate() {
        desk.say(&topic(), &sealed(desired, &key("ann")), true);
        let told = || events(&desk, "config").into_iter().filter(|event| event["why"] == *why).count();
        until(&format!("{index}: it is told {why}"), || told() >= 1);
    }
    assert_eq!(reported(&desk)["rev"], rev, "none of it was taken");
    // And after all that a good one runs.
    let second = free_port();
    push(&site, &mut desk, 10, &site.text(&[("second", second)]));
    assert_eq!(ended(&desk, 10), committed());
    assert!(listens(second));
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_loses_what_was_well_reverts_by_itself() {
    let Some((_broker, mut desk, mut site)) = a_box(8).await else { return };
    site.send().await;
    // The EHR goes once the new one runs.
    let way = Line::to(site.ehr.mllp().unwrap().port());
    let through = site.text(&[]).replace(&site.ehr.mllp().unwrap().to_string(), &format!("127.0.0.1:{}", way.port));
    push(&site, &mut desk, 1, &through);
    in_trial(&desk, 1);
    way.becomes(Way::Closed);
    // It still accepts and hangs up at once: only a message finds out.
    site.send().await;
    assert_eq!(ended(&desk, 1), because("reverted", "destination-lost"));
    site.everything_arrives();
    // An analyzer that was connected does not come to the new port.
    let mut analyzer = TcpStream::connect(("127.0.0.1", site.astm)).unwrap();
    let other = free_port();
    let moved = site.text(&[]).replace(&site.astm.to_string(), &other.to_string());
    is_connected(&desk, 1);
    push(&site, &mut desk, 2, &moved);
    assert_eq!(ended(&desk, 2), because("reverted", "link-lost"));
    until("it listens where it did", || listens(site.astm));
    assert!(!listens(other));
    let _ = analyzer.write_all(b"\x05");
    drop(analyzer);
    // The broker is lost in the trial, and hears of it once it is back.
    push(&site, &mut desk, 3, &site.text(&[("second", other)]));
    in_trial(&desk, 3);
    site.broker.becomes(Way::Closed);
    until("the new one ran and runs no more", || site.log().contains("is reverted: the broker was lost"));
    until("the old one runs", || !listens(other));
    site.send().await;
    site.broker.becomes(Way::Open);
    assert_eq!(ended(&desk, 3), because("reverted", "bus-lost"));
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_on_the_box_is_shown_and_not_overwritten_in_silence() {
    let Some((broker, desk, mut site)) = a_box(4).await else { return };
    let (second, third) = (free_port(), free_port());
    let file = site.dir.path().join("bench-1.toml");
    std::fs::write(&file, site.text(&[("second", second)])).unwrap();
    let push = ["push", BOX, file.to_str().unwrap(), "--sign", "ann.key"];
    ok(&site.desk(&broker, &push));
    // Somebody stands at the bench.
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[("third", third)]))).unwrap();
    until("the drift is shown", || reported(&desk)["drift"] == true);
    assert_eq!((reported(&desk)["running"].clone(), listens(second)), (1.into(), true), "nothing has changed yet");
    let refused = site.desk(&broker, &push);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("revision 2 is refused: drift"), "{refused:?}");
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["doctor", "--config"])
        .arg(site.file())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("was edited on this box"), "{doctor:?}");
    // From the next start on it runs, for whoever edited it was there.
    site.kill();
    site.run(None);
    until("what was edited runs", || listens(third) && !listens(second));
    until("and is told", || reported(&desk)["running"].is_null());
    // It is told as drift, and not overwritten, after that start as well.
    assert_eq!(reported(&desk)["drift"], true);
    let refused = site.desk(&broker, &push);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("revision 3 is refused: drift"), "{refused:?}");
    // The desk says that it knows, and sends another.
    let mut push = push.to_vec();
    push.push("--replace");
    let said = ok(&site.desk(&broker, &push));
    assert!(said.contains("revision 4 is committed"), "{said}");
    assert_eq!((listens(second), listens(third)), (true, false));
    // Whoever pushed has heard it; the witness hears it beside them.
    until("the drift is over", || reported(&desk)["drift"] == false);
    // An edit that names other drivers is known as it is, and what replaces it outlives a start.
    let drivers = site.dir.path().join("bench-drivers");
    std::fs::create_dir_all(drivers.join("site-y")).unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/generic-astm/driver.toml");
    let driver = std::fs::read_to_string(driver).unwrap().replace("generic-astm", "site-y");
    std::fs::write(drivers.join("site-y/driver.toml"), driver).unwrap();
    let own = std::fs::read_to_string(site.file()).unwrap();
    std::fs::write(site.file(), own.replace("[gateway]\n", &format!("[gateway]\ndrivers = {drivers:?}\n"))).unwrap();
    until("the drift is shown", || reported(&desk)["drift"] == true);
    let said = ok(&site.desk(&broker, &push));
    assert!(said.contains("revision 5 is committed"), "{said}");
    site.kill();
    site.run(None);
    until("it runs again", || is_up(&desk) && listens(second));
    until("what was committed is told to run", || reported(&desk)["running"] == 5 && reported(&desk)["drift"] == false);
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_kill_a_box_runs_the_old_or_the_new_one_wherever_it_dies() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    site.kill();
    let places = [
        "fleet-config-offered",
        "fleet-config-checked",
        "fleet-config-probed",
        "fleet-config-file",
        "fleet-config-renamed",
        "fleet-config-written",
        "fleet-config-trial",
        "fleet-config-applied",
        "fleet-config-good",
        "fleet-config-committed",
    ];
    let mut old = None;
    for (index, place) in places.into_iter().enumerate() {
        let (rev, port) = (index as u64 + 1, free_port());
        site.run(Some(&format!("{place}:1")));
        site.send().await;
        push(&site, &mut desk, rev, &site.text(&[("second", port)]));
        site.died(place);
        site.run(None);
        site.send().await;
        assert_eq!(ended(&desk, rev), committed(), "{place}");
        assert!(listens(port), "{place}");
        assert!(old.is_none_or(|old| !listens(old)), "{place}: the old one is gone");
        old = Some(port);
        site.kill();
    }
    // On the way back it is the old one, wherever the box dies.
    let old = old.unwrap();
    let way = Line::to(site.ehr.mllp().unwrap().port());
    way.becomes(Way::Open);
    for (index, place) in ["fleet-config-reverted", "fleet-config-refused"].into_iter().enumerate() {
        let (rev, port) = (places.len() as u64 + index as u64 + 1, free_port());
        let text = site.text(&[("second", port)]);
        let bad = match place {
            "fleet-config-refused" => format!("{text}[journal]\nretention_days = 1\n"),
            _ => text.replace(&site.ehr.mllp().unwrap().to_string(), &format!("127.0.0.1:{}", way.port)),
        };
        site.run(Some(&format!("{place}:1")));
        until("the box runs", || listens(old));
        push(&site, &mut desk, rev, &bad);
        if place == "fleet-config-reverted" {
            until("its trial begins", || {
                events(&desk, "config").iter().any(|e| e["rev"] == rev && e["state"] == "trial")
            });
            way.becomes(Way::Closed);
            site.send().await;
        }
        site.died(place);
        site.run(None);
        until("the old one runs", || listens(old));
        assert_ne!(ended(&desk, rev), committed());
        assert!(!listens(port), "{place}");
        site.send().await;
        site.kill();
    }
    site.run(None);
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_without_confirmation_go_back_to_the_last_good_one() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    site.run(Some("fleet-config-trial:1"));
    until("the box is there", || is_up(&desk));
    let port = free_port();
    push(&site, &mut desk, 1, &site.text(&[("second", port)]));
    site.died("fleet-config-trial");
    site.run(Some("fleet-config-boot:1"));
    site.died("fleet-config-boot");
    // The desk hears nothing of it before.
    assert!(reported(&desk)["running"].is_null());
    site.run(Some("fleet-config-boot-reverted:1"));
    site.died("fleet-config-boot-reverted");
    site.run(None);
    site.send().await;
    assert_eq!(ended(&desk, 1), because("reverted", "never-confirmed"));
    until("it is told as an event", || events(&desk, "config").iter().any(|event| event["why"] == "never-confirmed"));
    assert!(!listens(port));
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_program_each_time_it_is_looked_at_is_given_up() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    site.run(Some("fleet-config-checked:1"));
    until("the box is there", || is_up(&desk));
    let port = free_port();
    push(&site, &mut desk, 1, &site.text(&[("second", port)]));
    site.died("fleet-config-checked");
    for _ in 0..2 {
        site.run(Some("fleet-config-checked:1"));
        site.died("fleet-config-checked");
    }
    site.run(Some("fleet-config-checked:1"));
    site.send().await;
    assert_eq!(ended(&desk, 1), because("refused", "never-tried"));
    until("it is told as an event", || events(&desk, "config").iter().any(|event| event["why"] == "never-tried"));
    site.everything_arrives();
    // The next one is looked at.
    site.kill();
    site.run(None);
    push(&site, &mut desk, 2, &site.text(&[("second", port)]));
    assert_eq!(ended(&desk, 2), committed());
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_do_not_look_at_a_revision_are_not_counted_against_it() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    site.run(Some("fleet-config-offered:1"));
    until("the box is there", || is_up(&desk));
    push(&site, &mut desk, 1, &site.text(&[("second", free_port())]));
    site.died("fleet-config-offered");
    let looked_at =
        || -> u32 { site.store().query_row("SELECT boots FROM desired WHERE rev = 1", [], |row| row.get(0)).unwrap() };
    assert_eq!(looked_at(), 0);
    site.run(None);
    assert_eq!(ended(&desk, 1), committed());
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_kill_twenty_deaths_at_any_moment_leave_the_old_or_the_new_one() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    let mut random = seed();
    eprintln!("AFFERENT_SEED={random}");
    site.run(None);
    until("the box is there", || is_up(&desk));
    let mut good: Option<u16> = None;
    for rev in 1..=20 {
        let port = free_port();
        site.send().await;
        push(&site, &mut desk, rev, &site.text(&[("second", port)]));
        // A moment within what a revision takes.
        std::thread::sleep(Duration::from_millis(next(&mut random) % 2500));
        site.kill();
        site.run(None);
        let (state, why) = ended(&desk, rev);
        until("what it says runs", || match state.as_str() {
            "committed" => listens(port) && good.is_none_or(|old| !listens(old)),
            _ => !listens(port) && good.is_none_or(listens),
        });
        eprintln!("{rev}: {state} {why}");
        if state == "committed" {
            good = Some(port);
        }
    }
    site.everything_arrives();
}
