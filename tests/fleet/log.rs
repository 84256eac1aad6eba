//! The log of a box, live on the bus: bounded, told of its end, and with nothing of a patient in it.

use crate::broker::{Broker, PATIENCE, until};
use crate::commands::Box;
use crate::desk::Desk;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use afferent::fleet::telemetry::Digest;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever hangs up before it is answered may not have been heard at all.
    for said in ["\x05".to_string(), format!("\x021H|\\^&|||HOST\rP|1||{secret}\r\x0300\r\n")] {
        stream.write_all(said.as_bytes()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn i8_i12_a_box_tells_its_log_live_until_it_is_over() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, "desk-acme-2", ALL_UP) else { return };
    let desk = Desk::new(&broker, &[DESK, "desk-acme-3", "desk-acme-events"]);
    let operator = desk.does(&["key", "ops-1.key"]);
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &operator);
    // Who counts how often it is dialled.
    let ehr = TcpListener::bind(("127.0.0.1", gateway.ehr)).unwrap();
    ehr.set_nonblocking(true).unwrap();
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

    // A restart ends it, and the desk hears of that.
    let third = Following::start(&desk, &["--seconds", "600"]);
    until("the third is open", || {
        disturb(&gateway, secret);
        third.count() > 0
    });
    gateway.stop();
    gateway.run(None);
    let told = third.ends();
    assert!(told.contains("ended (stopped)"), "{told}");
    until("the box is there again", || {
        disturb(&gateway, secret);
        witness.last("up/state").is_some_and(|state| state["online"] == true)
    });

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
    assert!(doctor.iter().any(|found| found["of"] == "ehr" && found["state"] == "look"), "{doctor:?}");
    assert!(ehr.accept().is_err(), "nobody is dialled for it: nothing was sent there yet, and that is what it says");

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

#[test]
fn i8_what_passes_on_a_link_is_captured_on_the_box_and_only_its_name_is_told() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, "desk-acme-2", ALL_UP) else { return };
    let desk = Desk::new(&broker, &[DESK, "desk-acme-3", "desk-acme-events"]);
    let operators = ["ops-1", "ops-2"].map(|key| desk.does(&["key", &format!("{key}.key")])).concat();
    let mut gateway = Box::of(&broker, TENANT, "bench-1", &operators);
    gateway.run(None);
    until("the box is there", || witness.last("up/state").is_some_and(|state| state["online"] == true));

    let one = ["command", "bench-1", "capture", "chemistry", "--seconds", "4", "--json", "--sign", "ops-1.key"];
    assert!(desk.refuses(&one).contains("takes 2 signatures"));
    let both = [&one[..], &["--sign", "ops-2.key"]].concat();
    for (more, is_revealed) in [(&[][..], false), (&["--reveal"][..], true)] {
        let mut asking = desk.command(&[&both[..], more].concat()).stdout(Stdio::piped()).spawn().unwrap();
        // However long it takes until the box listens, something passes then.
        until("it has captured", || {
            disturb(&gateway, "DOE^JANE");
            asking.try_wait().unwrap().is_some()
        });
        let told: Value = serde_json::from_slice(&asking.wait_with_output().unwrap().stdout).unwrap();
        let outcome = &told["outcome"];
        let file = gateway.data().join("captures").join(format!("{}.txt", outcome["capture"].as_str().unwrap()));
        let text = std::fs::read(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let sha256 = Digest::of(&text).to_string();
        assert_eq!((outcome["bytes"].as_u64(), outcome["sha256"].as_str()), (Some(text.len() as u64), Some(&*sha256)));
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("> <ENQ>"), "{text}");
        assert_eq!(text.contains("DOE"), is_revealed, "{text}");
    }
    let unknown = ["command", "bench-1", "capture", "nowhere", "--sign", "ops-1.key", "--sign", "ops-2.key"];
    let unknown = String::from_utf8(desk.run(&unknown).stdout).unwrap();
    assert!(unknown.contains("no-such-link"), "{unknown}");
    for message in witness.messages() {
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!text.contains("DOE") && !text.contains("JANE"), "{}: {text}", message.topic);
    }

    // One that a crash cut off is told as interrupted, and nothing is left of it.
    let long = both.iter().map(|word| if *word == "4" { "300" } else { *word }).collect::<Vec<_>>();
    let asking = desk.command(&long).stdout(Stdio::piped()).spawn().unwrap();
    until("it runs", || {
        let db = rusqlite::Connection::open(gateway.data().join("fleet.db")).unwrap();
        let running = "SELECT count(*) FROM command WHERE phase = 'running'";
        db.query_row(running, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 1)
    });
    disturb(&gateway, "DOE^JANE");
    // Others do not wait for it.
    assert_eq!(desk.does(&["command", "bench-1", "ping", "--sign", "ops-1.key"]), "ping done\n");
    let busy = String::from_utf8(desk.run(&both).stdout).unwrap();
    assert!(busy.contains("\"busy\""), "one at a time: {busy}");
    gateway.kill();
    gateway.run(None);
    let told: Value = serde_json::from_slice(&asking.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(told["phase"], "interrupted");
    assert_eq!(std::fs::read_dir(gateway.data().join("captures")).unwrap().count(), 2);
}
