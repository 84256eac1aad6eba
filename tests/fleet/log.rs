//! The log of a box, live on the bus: bounded, told of its end, and with nothing of a patient in it.

use crate::broker::{Broker, until};
use crate::commands::Box;
use crate::desk::Desk;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// `afferent desk log --follow` as it runs, and what it printed so far.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Following {
    fn start(desk: &Desk, words: &[&str]) -> Following {
        let words = [&["log", "bench-1", "--follow", "--json", "--sign", "ops-1.key"], words].concat();
        let mut child = desk.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (out, into) = (BufReader::new(child.stdout.take().unwrap()), lines.clone());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Following { child, lines }
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// What it said at its end.
    fn ends(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told
    }
}

/// An instrument that comes and says what no ASTM is: the log tells of it.
fn disturb(gateway: &Box, secret: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.astm)).unwrap();
    write!(stream, "\x05\x021H|\\^&|||{secret}\rP|1||{secret}\r\x0300\r\n").unwrap();
}

#[test]
fn i8_i12_a_box_tells_its_log_live_until_it_is_over() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, "desk-acme-2", ALL_UP) else { return };
    let desk = Desk::new(&broker, &[DESK, "desk-acme-3", "desk-acme-events"]);
    let operator = desk.does(&["key", "ops-1.key"]);
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &operator);
    gateway.run(None);
    until("the box is there", || witness.last("up/state").is_some_and(|state| state["online"] == true));

    // Lines come as they are logged, with the names of the configuration.
    let secret = "DOE^JANE";
    let following = Following::start(&desk, &["--seconds", "600"]);
    until("lines come", || {
        disturb(&gateway, secret);
        following.lines.lock().unwrap().iter().any(|line| line["names"]["link"] == "chemistry")
    });
    // A command ends it, and what it told is told.
    desk.does(&["command", "bench-1", "log-stop", "--sign", "ops-1.key"]);
    let shown = following.lines.clone();
    let told = following.ends();
    let shown = shown.lock().unwrap().len();
    assert!(told.contains(&format!("ended (asked): {shown} lines, 0 dropped, 0 not seen here")), "{told}");

    // Another takes the place of the one there was; so many lines end it.
    let first = Following::start(&desk, &["--seconds", "600"]);
    until("the first is open", || {
        disturb(&gateway, secret);
        first.count() > 0
    });
    let second = Following::start(&desk, &["--lines", "3"]);
    assert!(first.ends().contains("ended (replaced)"));
    until("so many lines were told", || {
        disturb(&gateway, secret);
        second.count() == 3
    });
    assert!(second.ends().contains("ended (lines): 3 lines"));

    // Its time ends it.
    assert!(Following::start(&desk, &["--seconds", "1"]).ends().contains("ended (time)"));

    // All that helps, in one file, its owner's alone.
    let file = desk.file("bundle.json");
    desk.does(&["log", "bench-1", "--bundle", "bundle.json", "--sign", "ops-1.key"]);
    let bundle: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(bundle["birth"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bundle["settings"]["link"][0]["name"], "chemistry");
    assert!(bundle["links"][0]["naks"].as_u64().unwrap() > 0, "{}", bundle["links"]);
    assert!(bundle["log"].as_array().unwrap().len() > 5);
    let doctor = bundle["doctor"].as_array().unwrap();
    assert!(doctor.iter().any(|found| found["of"] == "ehr" && found["state"] == "bad"), "{doctor:?}");

    // Everything on the bus was heard by another's program.
    let all = witness.messages();
    let chunks: Vec<_> = all.iter().filter(|message| message.topic.contains("/up/log/")).collect();
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| !chunk.retain));
    for message in &all {
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!text.contains("DOE") && !text.contains("JANE"), "{}: {text}", message.topic);
    }
    let text = bundle.to_string();
    assert!(!text.contains("DOE") && !text.contains("JANE"), "{text}");
}
