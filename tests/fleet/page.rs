//! The page of the fleet: who may see it, what it is told and when, and that a browser shows it and runs nothing of
//! what a hostile box says.

use crate::broker::{PATIENCE, until};
use crate::desk::{Beside, command};
use crate::ports::free_port;
use crate::raw::Client;
use crate::simulated::Stage;
use afferent::sim::fleet::stage;
use afferent::tls::{self, ClientTls};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ONLINE: &[u8] = br#"{"v":1,"online":true,"epoch":1,"downlink":"proven"}"#;

struct Page {
    port: u16,
    token: String,
    tls: ClientTls,
    serving: Beside,
}

impl Page {
    fn serve(stage: &Stage) -> Page {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let serving = Beside::start(command(stage.path(), &["serve", "--listen", &listen]));
        let token = stage.path().join("page.token");
        until("the page is served", || token.exists() && TcpStream::connect(("127.0.0.1", port)).is_ok());
        let token = std::fs::read_to_string(token).unwrap();
        let tls = ClientTls { ca: Some(stage.path().join("page.pem")), ..ClientTls::default() };
        Page { port, token, tls, serving }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/#{}", self.port, self.token)
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> BufReader<impl Read + use<>> {
        tls::provider();
        let connection =
            ClientConnection::new(tls::client(&self.tls).unwrap(), "localhost".try_into().unwrap()).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The head of an answer.
    fn head(&self, method: &str, path: &str, token: &str) -> String {
        let lines = self.ask(method, path, token).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect()
    }
}

/// What the page is told: each event's rows.
fn told(page: &Page) -> impl Iterator<Item = Value> + use<> {
    let lines = page.ask("GET", "/fleet", &page.token).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
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
    let page = Page::serve(&stage);
    let front = page.head("GET", "/", "");
    assert!(front.starts_with("HTTP/1.1 200"), "{front}");
    let policy = front.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (method, path, token, status) in [
        ("GET", "/fleet", "", "401"),
        ("GET", "/fleet", "wrong", "401"),
        ("GET", "/box/box-00001", "wrong", "401"),
        ("GET", "/box/nobody", &page.token, "404"),
        ("GET", "/../etc/passwd", &page.token, "404"),
        ("POST", "/fleet", &page.token, "405"),
        ("GET", "/fleet", &page.token, "200"),
    ] {
        let head = page.head(method, path, token);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
    }
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
    let page = Page::serve(&stage);
    let began = Instant::now();
    let mut told = told(&page);
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
    let memory = std::fs::read_to_string(format!("/proc/{}/status", page.serving.0.id())).unwrap();
    let memory: Vec<&str> =
        memory.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect();
    println!("the desk with {boxes} boxes and a page: {memory:?}");
    println!("{:?}", fleet.account());
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().map(|name| Path::new("/usr/bin").join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("left out: the page in a browser (no chromium here)");
    }
    found
}

#[test]
fn a_browser_shows_it_and_runs_nothing_of_what_a_box_says() {
    let Some(browser) = browser() else { return };
    let Some(stage) = Stage::make(3) else { return };
    let page = Page::serve(&stage);
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

    let profile = tempfile::tempdir().unwrap();
    let look = || -> String {
        let mut command = Command::new(&browser);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let output = command.args(["--timeout=4000", "--dump-dom"]).arg(page.url()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut dom = String::new();
    until("the browser shows the boxes", || {
        dom = look();
        dom.contains("box-00003")
    });
    assert!(dom.contains("<title>Fleet</title>"), "a box's text became script");
    assert!(dom.contains("&lt;img src=x") && !dom.contains("<img"), "a box's text became markup");
    let stuck = dom.find("box-00003").unwrap();
    assert!(stuck < dom.find("box-00001").unwrap(), "trouble comes first");
    assert!(dom.contains(">Stuck <b>1</b>") && dom.contains(">Unusual <b>1</b>"), "{dom}");
}
