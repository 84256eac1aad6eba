//! The box's own page: who may see it, what it is told and when, and that a browser shows it.

use crate::served::Page;
use crate::site::{Running, TIMERS, ended, free_port, until_served};
use crate::{afferent, err, out};
use serde_json::Value;
use std::path::PathBuf;

/// A gateway with one link, which is silent for too long after five seconds, and its page.
struct Bench {
    dir: tempfile::TempDir,
    link: u16,
    gateway: Option<Running>,
    console: Running,
    page: Page,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let [link, listen] = [(); 2].map(|()| free_port());
        let (config, data) = (dir.path().join("afferent.toml"), dir.path().join("data"));
        let text = format!(
            "[gateway]\nname = \"bench-1\"\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n[watch]\nlook_s = 1\n\
             [[watch.link]]\nname = \"ward\"\nsilence_s = 5\n\
             [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{link}\"\nclock_limit_s = 0\n{TIMERS}\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let gateway = Some(Running::start(&["run", "--config", &config], None));
        until_served(&data, &dir.path().join("none"));
        let address = format!("127.0.0.1:{listen}");
        let log = dir.path().join("console.log");
        let console = Running::start(&["console", "--config", &config, "--listen", &address], Some(&log));
        let page = Page::of(&data, listen);
        Bench { dir, link, gateway, console, page }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn send(&self) {
        let address = format!("127.0.0.1:{}", self.link);
        let sim = ["sim", "instrument", "--protocol", "hl7", "-n", "1", "--corrections", "0", "--connect", &address];
        let sent = afferent(&sim);
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    }
}

fn alerts(now: &Value) -> &Vec<Value> {
    now["alerts"].as_array().unwrap_or_else(|| panic!("no alerts: {now}"))
}

#[test]
fn only_who_has_the_token_sees_the_box() {
    let bench = Bench::new();
    bench.page.answers_only(&[
        ("GET", "/box", "", "401"),
        ("GET", "/box", "wrong", "401"),
        ("GET", "/box/ward", &bench.page.token, "404"),
        ("GET", "/../etc/passwd", &bench.page.token, "404"),
        ("POST", "/box", &bench.page.token, "405"),
        ("GET", "/box", &bench.page.token, "200"),
    ]);
    let secret = std::fs::metadata(bench.path("data/page.token")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
    let log = std::fs::read_to_string(bench.path("console.log")).unwrap();
    assert!(log.contains("page.token") && !log.contains(&bench.page.token), "a log is no place for it: {log}");
    let config = bench.path("afferent.toml").display().to_string();
    let open = afferent(&["console", "--config", &config, "--listen", "0.0.0.0:0"]);
    assert!(err(&open).contains("open to the network") && open.status.code() == Some(1), "{}", err(&open));
}

#[test]
fn a_certificate_that_was_renewed_counts_from_the_next_connection() {
    let bench = Bench::new();
    let mut watching = bench.page.told("/box");
    assert!(watching.next().is_some());
    let other = tempfile::tempdir().unwrap();
    let renewed = afferent::page::own_certificate(other.path()).unwrap();
    // Half of a pair is not used, and the old one goes on.
    std::fs::copy(&renewed.key, bench.path("data/page.key")).unwrap();
    let before = bench.page.head("GET", "/box", &bench.page.token);
    assert!(before.starts_with("HTTP/1.1 200"), "{before}");
    std::fs::copy(&renewed.cert, bench.path("data/page.pem")).unwrap();
    // The client trusts what lies in the folder now, and nothing else.
    let after = bench.page.head("GET", "/box", &bench.page.token);
    assert!(after.starts_with("HTTP/1.1 200"), "{after}");
    let log = std::fs::read_to_string(bench.path("console.log")).unwrap();
    assert!(log.contains("a changed certificate is not used"), "{log}");
    assert!(watching.nth(1).is_some(), "who was watching goes on");
}

#[test]
fn it_shows_an_alert_while_it_stands_and_what_keeps_results_from_the_ehr() {
    let mut bench = Bench::new();
    let mut told = bench.page.told("/box").filter(|now| now["alerts"].is_array());
    let standing = told.find(|now| !alerts(now).is_empty()).unwrap();
    assert_eq!((&alerts(&standing)[0]["of"], &standing["name"]), (&"ward".into(), &"bench-1".into()), "{standing}");
    let says = alerts(&standing)[0]["says"].as_str().unwrap();
    assert!(says.contains("nothing came for"), "{says}");
    bench.send();
    let over = told.find(|now| alerts(now).is_empty()).unwrap();
    let of_ehr = |now: &Value| -> Vec<Value> {
        let findings = now["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["subject"] == "ehr" && finding["state"] == "bad").cloned().collect()
    };
    assert!(!of_ehr(&over).is_empty(), "nobody answers there: {over}");
    if let Some(dom) = bench.page.in_a_browser("<title>bench-1</title>") {
        assert!(dom.contains("does not work"), "{dom}");
        assert!(dom.contains("Something keeps results from getting through"), "{dom}");
    }
    bench.gateway.take().unwrap().stop();
    let gone = told.find(|now| {
        let findings = now["findings"].as_array().unwrap();
        findings.iter().any(|finding| finding["layer"] == "gateway" && finding["state"] == "bad")
    });
    assert!(gone.is_some(), "the page outlives the gateway and says so");
    // A factory reset takes the token, and with it whoever had that.
    std::fs::remove_file(bench.path("data/page.token")).unwrap();
    assert_eq!(ended(&mut bench.console.0).code(), Some(1));
}
