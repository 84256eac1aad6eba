//! Simulated instruments that work by orders, from the shell: the EHR orders, an analyzer asks over TCP, another is told
//! over a serial line, and their results come back under the order.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::site::{Running, TIME_SCALE, free_port, until, until_served};
use crate::{afferent, err, out};

/// The gateway's side of [`TIME_SCALE`].
const TIMERS: &str = "[link.timers]\nframe_timeout_ms = 1500\nreply_timeout_ms = 700\nreconnect_min_ms = 20\n\
                      reconnect_max_ms = 200\n";

/// The EHR orders TSH on a tube.
fn place(port: u16, number: &str, tube: &str) {
    let message = format!(
        "MSH|^~\\&|EHR|HOSP|LAB|L|20260101110000||OML^O21^OML_O21|M{number}|P|2.5.1\r\
         PID|1||PAT7^^^HOSP^MR||SYNTHETIC^PAT||19700101|F\rORC|NW|{number}\rOBR|1|{number}||TSH^Thyrotropin^L\r\
         SPM|1|{tube}||SER\r"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("\x0b{message}\x1c\r").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while byte != *b"\x1c" {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&answer).contains(&format!("MSA|AA|M{number}")));
}

/// What `sim instrument` was told, one tube a line.
fn told(arguments: &[&str]) -> Vec<Value> {
    let sim = ["sim", "instrument", "--json", "--time-scale", TIME_SCALE];
    let asked = afferent(&[&sim[..], arguments].concat());
    assert_eq!(asked.status.code(), Some(0), "{}{}", out(&asked), err(&asked));
    out(&asked).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn instruments_work_by_the_orders_of_the_ehr_over_tcp_and_a_serial_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let [asks, orders, ehr] = [(); 3].map(|()| free_port());
    let (terminal, ledger) = (path("ttyANALYZER"), path("ehr.jsonl"));
    let link = "clock_limit_s = 0\nunmapped = \"send-local\"\norders = \"required\"\norder_codes = [\"TSH = 10\"]\n";
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"immunology\"\ndriver = \"roche-cobas-e411\"\nlisten = \"127.0.0.1:{asks}\"\n{link}{TIMERS}\
         [[link]]\nname = \"middleware\"\ndriver = \"roche-cobas-psm\"\nserial = {terminal:?}\npush_orders = true\n\
         {link}{TIMERS}\
         [[orders]]\nname = \"hospital\"\nlisten = \"127.0.0.1:{orders}\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\nretry_min_ms = 20\nretry_max_ms = 200\n",
        path("data"),
    );
    std::fs::write(path("afferent.toml"), text).unwrap();
    let address = format!("127.0.0.1:{ehr}");
    let _ehr = Running::start(&["sim", "ehr", "--mllp", &address, "--ledger", &ledger], None);
    let log = dir.path().join("gateway.log");
    let _gateway = Running::start(&["run", "--config", &path("afferent.toml")], Some(&log));
    until_served(&dir.path().join("data"), &log);

    place(orders, "N-1", "TUBE1");
    let address = format!("127.0.0.1:{asks}");
    let analyzer = ["--connect", &address, "--driver", "roche-cobas-e411", "--faults", "answer-nak:1"];
    let answers = told(&[&analyzer[..], &["--ask", "TUBE1", "--ask", "TUBE9"]].concat());
    assert_eq!((&answers[0]["tube"], &answers[0]["orders"][0]), (&"TUBE1".into(), &"10".into()), "{answers:?}");
    assert_eq!(answers[0]["faults"][0], "answer-nak", "{answers:?}");
    assert_eq!((&answers[1]["orders"], answers.len()), (&Value::Array(vec![]), 2), "{answers:?}");
    let answers = told(&[&analyzer[..4], &["--ask", "TUBE1", "--take-back"]].concat());
    assert_eq!((&answers[0]["orders"], &answers[0]["violations"]), (&Value::Array(vec![]), &0.into()), "{answers:?}");

    // The middleware is told unasked.
    place(orders, "N-2", "TUBE2");
    let answers = told(&["--pty", &terminal, "--driver", "roche-cobas-psm", "--wait", "1"]);
    assert_eq!((&answers[0]["tube"], &answers[0]["orders"][0]), (&"TUBE2".into(), &"10".into()), "{answers:?}");
    assert_eq!(answers[0]["results_acknowledged"], 1, "{answers:?}");
    for tube in ["TUBE1", "TUBE2"] {
        until("the result is in the chart", || in_chart(Path::new(&ledger), tube) == 1);
    }
}

fn in_chart(ledger: &Path, specimen: &str) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    let arrivals = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    arrivals.filter(|a| a["stored"] == true && a["specimens"].as_array().unwrap().iter().any(|s| s == specimen)).count()
}

#[test]
fn what_only_an_astm_instrument_does_is_refused_to_others_with_the_way_out() {
    for only in [&["--ask", "T", "--take-back"][..], &["--ask", "T", "--together"]] {
        let refused =
            afferent(&[&["sim", "instrument", "--connect", "127.0.0.1:9", "--dialect", "law"], only].concat());
        assert_eq!(refused.status.code(), Some(1), "{only:?}");
        assert!(err(&refused).contains("--dialect astm"), "{}", err(&refused));
    }
}
