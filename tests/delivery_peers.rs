//! Delivery to receivers that share no code with us. They are Python packages below `AFFERENT_PEERS` (`tests/all`
//! installs them); without them the tests say what they left out.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use afferent::delivery::config::{Config, Protocol};
use afferent::delivery::mllp::Mllp;
use afferent::delivery::{Destination, Outcome};
use afferent::tls::throwaway::Authority;

/// A peer that ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("AFFERENT_PEERS")?).join("venv/bin/python");
    let has_hl7 = Command::new(&python).args(["-c", "import hl7.mllp"]).stderr(Stdio::null()).status();
    has_hl7.is_ok_and(|status| status.success()).then_some(python)
}

fn oru(id: &str, value: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|GW|LAB|EHR|HOSP|20260101120000+0000||ORU^R01^ORU_R01|{id}|P|2.5.1|||||||UNICODE UTF-8\r\
         PID|1||4711^^^HOSP^MR||DOE^JANE\rOBR|1||F1|1920-8^AST^LN\r\
         OBX|1|NM|1920-8^AST^LN||{value}|U/L^^UCUM|||||F\r"
    )
    .into_bytes()
}

fn line(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[tokio::test]
async fn the_hl7_package_receives_over_mutual_tls_and_its_ack_is_believed() {
    let Some(python) = python() else {
        return println!("left out: the receiver of PyPI hl7 (no AFFERENT_PEERS with it)");
    };
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/hl7_receiver.py");
    let mut child = Command::new(python)
        .arg(script)
        .args([&files.server.cert, &files.server.key, &files.ca])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let _peer = Peer(child);
    let address = Some(format!("127.0.0.1:{}", line(&mut lines)));
    let config = Config { address, tls: Some(files.client.clone()), ..Config::new("ehr", Protocol::Mllp) };

    let mut destination = Mllp::new(Arc::new(config.clone()));
    for (id, value) in [("A1", "8.0"), ("A2", "1.50"), ("A3", "0.017")] {
        let outcome = destination.deliver(id, &oru(id, value)).await;
        assert_eq!(outcome, Outcome::Delivered { answer: "AA".into() });
        assert_eq!(line(&mut lines), format!("{id} 1 {value}"), "digits are kept");
    }

    // Without our certificate nothing gets in.
    let mut anonymous = config;
    if let Some(tls) = &mut anonymous.tls {
        (tls.cert, tls.key) = (None, None);
    }
    let outcome = Mllp::new(Arc::new(anonymous)).deliver("A4", &oru("A4", "1")).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    let outcome = destination.deliver("A5", &oru("A5", "2")).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(line(&mut lines), "A5 1 2");
}
