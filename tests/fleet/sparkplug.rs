//! The Sparkplug B view, read by a host of another maker (npm `mqtt` and `sparkplug-payload`) on mosquitto with the rules
//! that are shipped.

use crate::broker::{Broker, until};
use crate::commands::Box;
use crate::data_path::{ASTM, of_round, send, session};
use crate::rig::TENANT;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const GROUP: &str = "acme";
const NODE: &str = "bench-1.view";

struct Host {
    child: Child,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Host {
    /// `None`, with a word, on a machine without node or its packages.
    fn start(broker: &Broker) -> Option<Host> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let peers = std::env::var_os("AFFERENT_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
        let modules = peers.join("node/node_modules");
        if !modules.join("sparkplug-payload").exists() || Command::new("node").arg("--version").output().is_err() {
            println!("left out: the Sparkplug host (no npm sparkplug-client here)");
            return None;
        }
        let tls = broker.client("scada");
        let mut child = Command::new("node")
            .arg(root.join("tests/fleet/sparkplug_host.cjs"))
            .arg(modules)
            .args([&broker.port.to_string(), "scada", GROUP])
            .args([tls.ca.unwrap(), tls.cert.unwrap(), tls.key.unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (out, into) = (BufReader::new(child.stdout.take().unwrap()), heard.clone());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let host = Host { child, heard };
        until("the host listens", || !host.heard.lock().unwrap().is_empty());
        Some(host)
    }

    /// Everything but its own word.
    fn all(&self) -> Vec<Value> {
        self.heard.lock().unwrap().iter().skip(1).cloned().collect()
    }

    fn of(&self, kind: &str) -> Vec<Value> {
        let topic = format!("spBv1.0/{GROUP}/{kind}");
        let all = self.all().into_iter();
        all.filter(|said| said["topic"].as_str().is_some_and(|found| found == topic)).collect()
    }

    fn asks_for_birth(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{NODE}").unwrap();
    }

    /// Says that it is there, or is not.
    fn is(&mut self, state: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "STATE {state}").unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn metric(said: &Value, name: &str) -> Value {
    let metrics = said["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["name"] == name).map_or(Value::Null, |metric| metric["value"].clone())
}

/// Each message behind a birth counts on: nothing is missing, and nothing is doubled.
fn is_in_order(said: &[Value]) {
    let mut next: Option<u64> = None;
    for one in said.iter().filter(|one| !one["topic"].as_str().unwrap().contains("/NDEATH/")) {
        let seq = one["seq"].as_u64().unwrap();
        if one["topic"].as_str().unwrap().contains("/NBIRTH/") {
            assert_eq!(seq, 0, "{one}");
        } else {
            assert_eq!(Some(seq), next, "{one}");
        }
        next = Some((seq + 1) % 256);
    }
}

/// A host that the broker's rules know, with the lines for boxes that are shipped as comments.
fn let_in(broker: &mut Broker) -> Option<Host> {
    let shipped = std::fs::read_to_string(broker.path().join("acl")).unwrap();
    let rules = shipped.replace("#pattern", "pattern");
    assert_ne!(rules, shipped, "where there is no host nobody may say anything to one");
    let host = format!(
        "user scada\ntopic read spBv1.0/{GROUP}/#\ntopic write spBv1.0/{GROUP}/NCMD/+\ntopic write spBv1.0/STATE/scada\n"
    );
    std::fs::write(broker.path().join("acl"), format!("{rules}\n{host}")).unwrap();
    broker.kill();
    broker.restart();
    Host::start(broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_sparkplug_host_of_another_maker_sees_how_a_box_is() {
    let Some(mut broker) = Broker::start() else { return };
    let Some(mut host) = let_in(&mut broker) else { return };
    let tls = toml::to_string(&broker.client(NODE)).unwrap();
    let view = format!("[fleet.sparkplug]\ngroup = \"{GROUP}\"\n[fleet.sparkplug.tls]\n{tls}");
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &view);
    gateway.run(None);

    // Its birth, and those of its link and destination, with every metric there will be.
    let devices = ["if:chemistry", "to:ehr"].map(|device| format!("DBIRTH/{NODE}/{device}"));
    until("it is born", || devices.iter().all(|device| !host.of(device).is_empty()));
    let birth = host.of(&format!("NBIRTH/{NODE}"))[0].clone();
    assert_eq!(metric(&birth, "Node Control/Rebirth"), false);
    assert_eq!(metric(&birth, "version"), env!("CARGO_PKG_VERSION"));
    let number = metric(&birth, "bdSeq");
    assert!(number.is_u64(), "{birth}");
    let types: Vec<_> = birth["metrics"].as_array().unwrap().iter().map(|metric| metric["type"].clone()).collect();
    assert!(types.iter().all(|kind| kind.is_string()), "{birth}");
    assert_eq!(metric(&host.of(&devices[0])[0], "messages"), 0);

    // What changes is told of, by name.
    send(gateway.astm, &of_round(&session(ASTM), 1)).await;
    let data = format!("DDATA/{NODE}/if:chemistry");
    until("a message is counted", || host.of(&data).iter().any(|said| metric(said, "messages") == 1));
    until("it waits", || host.of(&format!("DDATA/{NODE}/to:ehr")).iter().any(|said| metric(said, "queued") == 1));

    // Asked, it is born again: the same connection, so the same number.
    host.asks_for_birth();
    until("it is born again", || host.of(&format!("NBIRTH/{NODE}")).len() == 2);
    assert_eq!(metric(&host.of(&format!("NBIRTH/{NODE}"))[1], "bdSeq"), number);
    until("its devices are", || devices.iter().all(|device| host.of(device).len() == 2));

    // Killed, its death is said at once, and with the number of the birth.
    gateway.kill();
    let deaths = format!("NDEATH/{NODE}");
    until("it is dead", || host.of(&deaths).len() == 1);
    assert_eq!(metric(&host.of(&deaths)[0], "bdSeq"), number);
    gateway.run(None);
    until("it is there again", || host.of(&format!("NBIRTH/{NODE}")).len() == 3);
    assert_ne!(metric(&host.of(&format!("NBIRTH/{NODE}"))[2], "bdSeq"), number);

    let all = host.all();
    is_in_order(&all);
    let text = session(ASTM);
    let patient = text.split("P|1|").nth(1).unwrap().split('|').find(|field| field.len() > 3).unwrap().to_string();
    for said in &all {
        assert_eq!(said["retain"], false, "{said}");
        assert!(!said["text"].as_str().unwrap().contains(&patient), "{said}");
    }
}

#[test]
fn a_box_is_born_while_its_primary_host_is_online() {
    let Some(mut broker) = Broker::start() else { return };
    let Some(mut host) = let_in(&mut broker) else { return };
    let tls = toml::to_string(&broker.client(NODE)).unwrap();
    let view =
        format!("[fleet.sparkplug]\ngroup = \"{GROUP}\"\nprimary_host = \"scada\"\n[fleet.sparkplug.tls]\n{tls}");
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &view);
    let connected = |broker: &Broker| {
        let log = std::fs::read_to_string(broker.path().join("log")).unwrap();
        log.matches(&format!("as {NODE} ")).count()
    };
    host.is("offline");
    gateway.run(None);
    until("the view is connected", || connected(&broker) == 1);
    let (births, deaths) = (format!("NBIRTH/{NODE}"), format!("NDEATH/{NODE}"));
    assert_eq!(host.all(), Vec::<Value>::new());
    host.is("online");
    until("it is born", || host.of(&births).len() == 1);
    host.is("offline");
    until("it is dead, and dials again", || host.of(&deaths).len() == 1 && connected(&broker) == 2);
    let number = |said: &[Value], at: usize| metric(&said[at], "bdSeq");
    assert_eq!(number(&host.of(&deaths), 0), number(&host.of(&births), 0));
    host.is("online");
    until("it is born again", || host.of(&births).len() == 2);
    assert_ne!(number(&host.of(&births), 1), number(&host.of(&births), 0));
    is_in_order(&host.all());
}
