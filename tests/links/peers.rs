//! PyPI `hl7` on both sides of the gateway: a sender with a client certificate, and a receiver that demands one. It
//! shares no code with us. It is looked for below `AFFERENT_PEERS`, else where `tests/all` puts it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use afferent::clinical::OrderStatus;
use afferent::config;
use afferent::gateway::Gateway;
use afferent::tls::throwaway::Authority;

use crate::law::{order, place, status};
use crate::rig::{Rig, free_port, health, link, listen, until};

/// A Python program that ends with the test.
struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, script: &str, arguments: &[&std::ffi::OsStr]) -> Peer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
        let mut child = Command::new(python).arg(script).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Peer { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// PyPI `hl7`, when it is installed.
fn python() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let peers = std::env::var_os("AFFERENT_PEERS").map_or(built, PathBuf::from);
    let python = peers.join("venv/bin/python");
    let has_hl7 = Command::new(&python).args(["-c", "import hl7.mllp"]).stderr(Stdio::null()).status();
    has_hl7.is_ok_and(|status| status.success()).then_some(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hl7_package_places_orders_over_mutual_tls_and_hl7apy_finds_the_answers_sound() {
    let Some(python) = python() else {
        return println!("left out: PyPI hl7 as an EHR (it is not installed; tests/all does that)");
    };
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let (server, client) = (&files.server, &files.client);
    let (cert, key) = (client.cert.as_ref().unwrap(), client.key.as_ref().unwrap());
    let port = free_port();
    let text = format!(
        "[gateway]\nname = \"peers\"\ndata = {:?}\n[journal]\nfree_min_mb = 0\n{}\
         [[orders]]\nname = \"hospital\"\n{}\n[orders.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         [[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"localhost:1\"\n",
        dir.path().join("data"),
        link("chemistry", "hl7", &listen(free_port())),
        listen(port),
        server.cert,
        server.key,
        files.ca,
    );
    let loaded = config::parse("peers.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let gateway = Gateway::start(&loaded.config).await.unwrap();
    let port = port.to_string();
    let arguments = [port.as_ref(), files.ca.as_os_str(), cert.as_os_str(), key.as_os_str()];
    let mut ehr = Peer::start(&python, "hl7_orders.py", &arguments);
    for expected in [
        "PEER-1 AA PEER-1 ORL^O22^ORL_O22 OK valid",
        "PEER-2 AA PEER-2 ORL^O34^ORL_O34 OK OK valid",
        "PEER-3 AA PEER-3 ORR^O02^ORR_O02 OK valid",
        "PEER-4 AE PEER-4 ORL^O22^ORL_O22 UC valid",
        "PEER-5 AA PEER-5 ACK^A40^ACK valid",
    ] {
        assert_eq!(ehr.line(), expected);
    }
    assert!(ehr.child.wait().unwrap().success());
    assert_eq!(gateway.journal().reader().unwrap().work_order_counts().unwrap()[0], 4);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_pass_from_the_hl7_package_to_the_hl7_package_over_mutual_tls() {
    let Some(python) = python() else {
        return println!("left out: PyPI hl7 as sender and receiver (it is not installed; tests/all does that)");
    };
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let (server, client) = (&files.server, &files.client);
    let (cert, key) = (client.cert.as_ref().unwrap(), client.key.as_ref().unwrap());

    let receiving = [&server.cert, &server.key, &files.ca].map(|path| path.as_os_str());
    let mut receiver = Peer::start(&python, "hl7_receiver.py", &receiving);
    let receiver_port = receiver.line();
    let port = free_port();
    let tls = format!("[link.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n", server.cert, server.key, files.ca);
    let text = format!(
        "[gateway]\nname = \"peers\"\ndata = {:?}\n[journal]\nfree_min_mb = 0\n{}{tls}\
         [[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"localhost:{receiver_port}\"\n\
         [destination.tls]\nca = {:?}\ncert = {cert:?}\nkey = {key:?}\n",
        dir.path().join("data"),
        link("chemistry", "hl7", &listen(port)),
        files.ca,
    );
    let loaded = config::parse("peers.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let gateway = Gateway::start(&loaded.config).await.unwrap();

    let port = port.to_string();
    let sending = [port.as_ref(), files.ca.as_os_str(), cert.as_os_str(), key.as_os_str()];
    let mut sender = Peer::start(&python, "hl7_sender.py", &sending);
    for (id, value) in [("PEER-1", "8.0"), ("PEER-2", "1.50"), ("PEER-3", "0.017")] {
        assert_eq!(sender.line(), format!("{id} AA {id}"), "the sender reads an acknowledgement of its own message");
        let arrived = receiver.line();
        assert!(arrived.ends_with(&format!(" 1 {value}")), "the receiver reads {value} in one OBX: {arrived}");
    }
    assert!(sender.child.wait().unwrap().success());

    // Without its certificate the same sender gets nothing across.
    let mut stranger = Peer::start(&python, "hl7_sender.py", &sending[..2]);
    assert_eq!(stranger.line(), "refused");
    until("the refusal is counted", || {
        health(&gateway, "chemistry").reasons.contains_key("TLS: the peer shows no certificate")
    })
    .await;
    assert_eq!(health(&gateway, "chemistry").messages, 3);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzer_made_of_the_hl7_package_asks_is_told_and_reports_in_the_clear_and_over_tls() {
    let Some(python) = python() else {
        return println!("left out: PyPI hl7 as LAW analyzer (it is not installed; tests/all does that)");
    };
    let rig = Rig::new().await;
    let certificates = rig.path("certificates");
    std::fs::create_dir(&certificates).unwrap();
    let files = Authority::new().unwrap().write(&certificates).unwrap();
    let (plain, secured) = (free_port(), free_port());
    let tls = format!(
        "[link.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        files.server.cert, files.server.key, files.ca
    );
    let links = [link("chemistry", "hl7", &listen(plain)), link("secured", "hl7", &listen(secured)) + &tls];
    let gateway = rig.gateway(&links.concat()).await;
    let orders = vec![order("A1", "TUBE1"), order("A2", "TUBE1"), order("B1", "TUBE2")];
    place(gateway.journal(), "E1", orders).await;

    let (cert, key) = (files.client.cert.as_ref().unwrap(), files.client.key.as_ref().unwrap());
    let over_tls = [files.ca.as_os_str(), cert.as_os_str(), key.as_os_str()];
    for (port, tube, numbers, files) in
        [(plain, "TUBE1", "A1 A2", &[][..]), (secured, "TUBE2", "B1", &over_tls[..]), (plain, "TUBE9", "", &[][..])]
    {
        let port = port.to_string();
        let arguments = [&[port.as_ref(), tube.as_ref()][..], files].concat();
        let mut analyzer = Peer::start(&python, "law_analyzer.py", &arguments);
        let found = if numbers.is_empty() { "NF" } else { "OK" };
        assert_eq!(analyzer.line(), format!("RSP^K11^RSP_K11 AA {found}"));
        let count = numbers.split_whitespace().count();
        let controls = if count == 0 { "DC".to_string() } else { vec!["NW"; count].join(" ") };
        assert_eq!(analyzer.line(), format!("OML^O33^OML_O33 {controls} {numbers}").trim_end());
        for _ in 0..count {
            assert_eq!(analyzer.line(), "ACK^R22^ACK AA");
        }
        assert!(analyzer.child.wait().unwrap().success());
    }
    until("all three results are in the chart", || rig.chart().len() == 3).await;
    let all = ["A1", "A2", "B1"];
    until("the orders were taken", || all.iter().all(|n| status(gateway.journal(), n) >= OrderStatus::InProgress))
        .await;
    gateway.stop().await;
}
