//! Simulated instruments from the shell: over TLS, and falling silent inside a message.

use afferent::control::{self, Request, Response};
use afferent::tls::throwaway::Authority;
use serde_json::Value;
use std::path::Path;

use crate::site::{Running, Site, TIME_SCALE, TIMERS, free_port, until, until_served};
use crate::{afferent, err, out};

/// How often the gateway on this data directory counted `reason` on its link `name`.
fn counted(data: &Path, name: &str, reason: &str) -> u64 {
    let Ok(Response::Health(health)) = control::request(data, &Request::Health) else { return 0 };
    let link = health.as_array().unwrap().iter().find(|link| link["link"] == name).unwrap().clone();
    link["reasons"][reason].as_u64().unwrap_or(0)
}

#[test]
fn an_instrument_speaks_hl7_over_mutual_tls() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let (port, data) = (free_port(), dir.path().join("data"));
    let text = format!(
        "[gateway]\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{port}\"\nclock_limit_s = 0\n{TIMERS}\
         [link.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{}\"\n",
        files.server.cert,
        files.server.key,
        files.ca,
        free_port(),
    );
    std::fs::write(path("afferent.toml"), text).unwrap();
    let log = dir.path().join("gateway.log");
    let _gateway = Running::start(&["run", "--config", &path("afferent.toml")], Some(&log));
    until_served(&data, &log);

    let address = format!("localhost:{port}");
    let hl7 = ["sim", "instrument", "--protocol", "hl7", "--time-scale", TIME_SCALE, "-n", "2"];
    let sim = [&hl7[..], &["--connect", &address]].concat();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let own = ["--tls-cert", cert.as_str(), "--tls-key", key.as_str()];
    let trusted = ["--tls-ca", ca.as_str()];
    let sent = afferent(&[&sim[..], &["--json", "--run", "SAFE"], &trusted, &own].concat());
    assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    let summary: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&summary["acknowledged"], &summary["violations"]), (&summary["sent"], &0.into()), "{summary}");
    let named = ["--connect", &format!("127.0.0.1:{port}"), "--tls-name", "localhost"];
    let sent = afferent(&[&hl7[..], &named, &["--run", "NAME"], &trusted, &own].concat());
    assert_eq!(sent.status.code(), Some(0), "by number, with a name: {}", err(&sent));

    // Without a certificate, and without TLS, it gets nothing through and goes on asking.
    let refused = Running::start(&[&sim[..], &["--run", "BARE"], &trusted].concat(), None);
    until("the gateway asks for a certificate", || counted(&data, "ward", "TLS: the peer shows no certificate") > 1);
    drop(refused);
    let refused = Running::start(&[&sim[..], &["--run", "OPEN"]].concat(), None);
    until("the gateway hears no TLS", || counted(&data, "ward", "TLS: the peer does not speak TLS") > 1);
    drop(refused);
    let search = |id: &str| {
        let found = afferent(&["journal", "--json", "--config", &path("afferent.toml"), "search", "--specimen", id]);
        serde_json::from_slice::<Value>(&found.stdout).unwrap().as_array().unwrap().len()
    };
    let found = ["SAFE-0000001", "SAFE-0000002", "NAME-0000001", "BARE-0000001", "OPEN-0000001"].map(search);
    assert!(found[..3].iter().all(|entries| *entries > 0), "{found:?}");
    assert_eq!(found[3..], [0, 0]);
}

#[test]
fn a_certificate_without_an_authority_to_trust_is_refused_not_ignored() {
    let sim = ["sim", "instrument", "--connect", "localhost:4001", "--tls-cert", "a.pem", "--tls-key", "a.key"];
    let refused = afferent(&sim);
    assert_eq!(refused.status.code(), Some(2), "it would dial in the clear");
    assert!(err(&refused).contains("--tls-ca"), "{}", err(&refused));
}

#[test]
fn i1_an_instrument_that_stalls_inside_an_hl7_message_sends_it_again() {
    let site = Site::new();
    let summary = site.ward(&["-n", "2", "--corrections", "0", "--run", "HALT", "--faults", "stall:1"]);
    // Each message stalls once, the gateway's timer runs out and it hangs up; another attempt gets through.
    assert_eq!((&summary["sent"], &summary["acknowledged"], &summary["violations"]), (&2.into(), &2.into(), &0.into()));
    assert_eq!(summary["faults"]["stall"], 2);
    assert!(summary["attempts"].as_u64() >= Some(4), "{summary}");
    assert_eq!(counted(&site.data(), "ward", "a message did not end in time"), 2);
    site.until("everything is delivered", |stats| stats["account"]["parked"] == 8);
    let stats = site.json(&["stats"]);
    assert_eq!((&stats["account"]["received"], &stats["missing"]), (&8.into(), &0.into()), "none twice: {stats}");
    for specimen in ["HALT-0000001", "HALT-0000002"] {
        assert_eq!(site.stored("ehr.jsonl", specimen), [4]);
    }
}

#[test]
fn i1_a_simulated_line_of_no_standard_loses_nothing_on_a_bad_serial_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (terminal, data) = (path("ttyREADER"), dir.path().join("data"));
    let text = format!(
        "[gateway]\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"reader\"\nprotocol = \"lines\"\nserial = {terminal:?}\n\
         [link.framing]\nstart = \"<STX>\"\nend = [\"<ETX>\"]\nreply = \"ack\"\ncheck = {{ form = \"hex\" }}\n\
         [link.timers]\nmessage_timeout_ms = 1500\nreply_timeout_ms = 700\nreconnect_min_ms = 20\n\
         reconnect_max_ms = 200\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{}\"\n",
        free_port(),
    );
    std::fs::write(path("afferent.toml"), text).unwrap();
    let log = dir.path().join("gateway.log");
    let _gateway = Running::start(&["run", "--config", &path("afferent.toml")], Some(&log));
    until_served(&data, &log);
    let sim = ["sim", "instrument", "--json", "--protocol", "lines", "--time-scale", TIME_SCALE, "--pty", &terminal];
    let sent = afferent(&[&sim[..], &["-n", "4", "--corrections", "0", "--faults", "bad-checksum:1"]].concat());
    assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    let summary: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&summary["acknowledged"], &summary["refusals"]), (&4.into(), &4.into()), "{summary}");
    let held = || {
        let stats = afferent(&["journal", "--json", "--config", &path("afferent.toml"), "stats"]);
        serde_json::from_slice::<Value>(&stats.stdout).unwrap()["account"]["held"].clone()
    };
    until("nobody knows the lines, so all their results are held", || held() == 16);
    assert_eq!(counted(&data, "reader", "a message came damaged"), 4);
}
