//! The page of the fleet: who may see it, what it is told and when, and that a browser shows it and runs nothing of
//! what a hostile box says.

use crate::desk::{Beside, command};
use crate::ports::free_port;
use crate::raw::Client;
use crate::served::Page;
use crate::simulated::Stage;
use afferent::sim::fleet::stage;
use std::time::{Duration, Instant};

const ONLINE: &[u8] = br#"{"v":1,"online":true,"epoch":1,"downlink":"proven"}"#;

/// The desk's page.
fn serve(stage: &Stage) -> (Page, Beside) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let serving = Beside::start(command(stage.path(), &["serve", "--listen", &listen]));
    (Page::of(stage.path(), port), serving)
}

fn say(client: &mut Client, name: &str, end: &str, payload: &[u8]) {
    client.say(&format!("afferent/v1/acme/{name}/up/{end}"), payload);
}

fn alerts(n: usize) -> Vec<u8> {
    format!("{{\"alerts\":[{{\"trouble\":\"mark-{n}\",\"since\":\"2026-09-21T14:13:20Z\"}}]}}").into_bytes()
}

#[test]
fn only_who_has_the_token_sees_the_fleet() {
    let Some(stage) = Stage::make(1) else { return };
    let (page, _serving) = serve(&stage);
    page.answers_only(&[
        ("GET", "/fleet", "", "401"),
        ("GET", "/fleet", "wrong", "401"),
        ("GET", "/box/box-00001", "wrong", "401"),
        ("GET", "/box/nobody", &page.token, "404"),
        ("GET", "/../etc/passwd", &page.token, "404"),
        ("POST", "/fleet", &page.token, "405"),
        ("GET", "/fleet", &page.token, "200"),
    ]);
    let secret = std::fs::metadata(stage.path().join("page.token")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
    // Open to the network it needs a certificate that somebody trusts.
    let open = command(stage.path(), &["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&open.stderr).contains("name a certificate"), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_all_boxes_and_then_of_what_changes() {
    // A real fleet goes on beside the box that is looked at.
    let boxes = std::env::var("AFFERENT_FLEET").ok().and_then(|boxes| boxes.parse().ok()).unwrap_or(200);
    let Some(stage) = Stage::make(boxes) else { return };
    let births = Duration::from_millis(10 * boxes as u64);
    let fleet = stage.start(afferent::sim::fleet::Options { births, ..stage.options() });
    let (page, serving) = serve(&stage);
    let began = Instant::now();
    let mut told = page.told("/fleet");
    let mut seen = std::collections::HashSet::new();
    while seen.len() < boxes {
        for row in told.next().unwrap()["rows"].as_array().unwrap() {
            if row["trouble"] != "away" && row["links"] == 2 {
                seen.insert(row["name"].as_str().unwrap().to_string());
            }
        }
    }
    println!("{boxes} boxes on the page after {:?}; {:?}", began.elapsed(), fleet.account());
    println!("the broker's processor time so far: {:?} ms", stage.mosquitto.cpu_ms());

    let name = stage::name(boxes + 1);
    let tls = stage::client(stage.path(), &name);
    let mut client = Client::connect(stage.port(), &tls, &name, None).unwrap();
    say(&mut client, &name, "state", ONLINE);
    let mut delays: Vec<Duration> = Vec::new();
    for n in 0..100 {
        let said = Instant::now();
        say(&mut client, &name, "alerts", &alerts(n));
        let mark = format!("mark-{n}");
        while !told.next().unwrap()["rows"].as_array().unwrap().iter().any(|row| row["alerts"][0] == mark) {}
        delays.push(said.elapsed());
        std::thread::sleep(Duration::from_millis(7 * n as u64 % 100));
    }
    delays.sort();
    println!("from a box to a page: p50 {:?}, p99 {:?}", delays[50], delays[98]);
    println!("the broker's processor time so far: {:?} ms", stage.mosquitto.cpu_ms());
    let memory = std::fs::read_to_string(format!("/proc/{}/status", serving.0.id())).unwrap();
    let memory: Vec<&str> =
        memory.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect();
    println!("the desk with {boxes} boxes and a page: {memory:?}");
    println!("{:?}", fleet.account());
}

#[test]
fn a_browser_shows_it_and_runs_nothing_of_what_a_box_says() {
    let Some(stage) = Stage::make(3) else { return };
    let (page, _serving) = serve(&stage);
    let evil = r#"<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"#;
    let mut clients: Vec<Client> = (1..=3)
        .map(|number| {
            let name = stage::name(number);
            let tls = stage::client(stage.path(), &name);
            let mut client = Client::connect(stage.port(), &tls, &name, None).unwrap();
            let birth = format!("{{\"v\":1,\"epoch\":1,\"version\":\"{evil}\",\"hardware\":\"{evil}\"}}");
            say(&mut client, &name, "birth", birth.as_bytes());
            say(&mut client, &name, "state", ONLINE);
            say(&mut client, &name, "if/chemistry", br#"{"up":true,"messages":1234,"naks":2}"#);
            say(&mut client, &name, "to/ehr", br#"{"up":true,"queued":0,"parked":0}"#);
            client
        })
        .collect();
    let alert = format!("{{\"alerts\":[{{\"trouble\":\"{evil}\",\"since\":\"{evil}\"}}]}}");
    say(&mut clients[1], "box-00002", "alerts", alert.as_bytes());
    say(&mut clients[2], "box-00003", "to/ehr", br#"{"up":false,"queued":7,"parked":3,"oldest_s":4000}"#);

    let Some(dom) = page.in_a_browser(">box-00003<") else { return };
    assert!(dom.contains("<title>Fleet</title>"), "a box's text became script");
    assert!(dom.contains("&lt;img src=x") && !dom.contains("<img"), "a box's text became markup");
    let stuck = dom.find("box-00003").unwrap();
    assert!(stuck < dom.find("box-00001").unwrap(), "trouble comes first");
    assert!(dom.contains(">Stuck <b>1</b>") && dom.contains(">Unusual <b>1</b>"), "{dom}");
}
