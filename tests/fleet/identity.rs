//! Who a box is: it asks, a person accepts its code, it is let in, renews, is proven, sleeps and comes back. The desk is
//! its own process, as the box is; the broker is mosquitto, which knows the box by the certificate that the desk signed;
//! openssl has the second opinion, and libfaketime lets months go by.

use crate::broker::{Broker, until};
use crate::ports::free_port;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const BOX: &str = "bench-1";

/// libfaketime, where it is.
fn faketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|place| place.path());
    let found = places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    if found.is_none() {
        println!("left out: months that go by (no faketime here)");
    }
    found
}

/// So many days later, for a process: its wall clock, and nothing else.
fn later(days: u32) -> Vec<(String, String)> {
    let Some(library) = faketime().filter(|_| days > 0) else { return Vec::new() };
    [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", &format!("+{days}d")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .to_vec()
}

fn afferent(args: &[&str], days: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(args).envs(later(days)).env_remove("AFFERENT_LOG");
    command
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A desk with an authority and an endpoint, and one box.
pub struct Site {
    dir: tempfile::TempDir,
    port: u16,
    desk: Option<Running>,
    gateway: Option<Running>,
    days: u32,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let site = Site { dir, port: free_port(), desk: None, gateway: None, days: 0 };
        site.says(&["desk", "ca", "init", TENANT]);
        std::fs::copy(site.path("ca/root.pem"), site.path("trust.pem")).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where boxes ask.
    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = afferent(args, self.days);
        // As the service manager does, where there are secrets to hand over.
        command.current_dir(self.dir.path()).env("CREDENTIALS_DIRECTORY", self.path("handed"));
        command
    }

    pub fn says(&self, args: &[&str]) -> String {
        ok(self.command(args).output().unwrap())
    }

    /// The desk's endpoint, from now on, with certificates of this life.
    pub fn serve(&mut self, life: &str) {
        self.desk = None;
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = self.command(&["desk", "enrol", "serve", "--listen", &address, "--life", life]);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("desk.log")).unwrap();
        self.desk = Some(Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap()));
        until("the desk listens", || std::net::TcpStream::connect(&address).is_ok());
    }

    /// The box's settings, on the bus behind this port.
    pub fn configure(&self, broker: u16) {
        let text = format!(
            "[gateway]\ndata = {data:?}\nclock_trusted = true\n[journal]\nfree_min_mb = 0\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n\
             [fleet]\nbroker = \"localhost:{broker}\"\ntenant = \"{TENANT}\"\n\
             [fleet.enrol]\nurl = \"https://localhost:{port}\"\n[fleet.tls]\nca = {ca:?}\n",
            data = self.path("data"),
            astm = free_port(),
            port = self.port,
            ca = self.path("trust.pem"),
        );
        std::fs::write(self.path("box.toml"), text).unwrap();
    }

    /// Runs the box until it dies at a place.
    fn run_to_death(&mut self, place: &str) {
        let mut command = self.command(&["run", "--config", "box.toml"]);
        command.env("AFFERENT_ABORT_AT", format!("{place}:1")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut dying = Running(command.spawn().unwrap());
        until(place, || dying.0.try_wait().unwrap().is_some());
    }

    pub fn run(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("box.log")).unwrap();
        let mut command = self.command(&["run", "--config", "box.toml"]);
        // As a service manager does.
        command.env("INVOCATION_ID", "0").stdout(Stdio::null()).stderr(log);
        self.gateway = Some(Running(command.spawn().unwrap()));
    }

    pub fn kill(&mut self) {
        self.gateway = None;
    }

    /// Waits until the box has ended by itself, in order.
    pub fn ended(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        until("the box has ended", || gateway.0.try_wait().unwrap().is_some());
        assert!(gateway.0.wait().unwrap().success());
    }

    /// What the box shows.
    fn identity(&self) -> Value {
        let output = self.command(&["fleet", "identity", "--config", "box.toml", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn serial(&self) -> Option<String> {
        self.identity()["certificate"]["serial"].as_str().map(str::to_string)
    }

    fn list(&self) -> Value {
        serde_json::from_str(&self.says(&["desk", "enrol", "list", "--json"])).unwrap()
    }

    /// It runs, its code is accepted, and it is on the bus; the serial number of its certificate.
    fn let_in(&mut self, witness: &Witness) -> String {
        self.run();
        let code = self.code();
        self.says(&["desk", "enrol", "accept", &code, "--name", BOX]);
        until("the box is on the bus", || is_up(witness));
        self.serial().unwrap()
    }

    /// Waits until the box has asked, and says the code that both sides show.
    pub fn code(&self) -> String {
        until("the box has asked", || self.list()["waiting"].as_array().is_some_and(|all| !all.is_empty()));
        let code = self.identity()["code"].as_str().unwrap().to_string();
        assert_eq!(self.list()["waiting"][0]["code"], *code, "box and desk show the same");
        code
    }

    /// The broker's clock is the site's, and whoever answers echoes has come back to it.
    fn days_go_by(&self, broker: &mut Broker, witness: &Witness) {
        let ups = witness.ups();
        broker.days_later(&later(self.days));
        until("the witness is back", || witness.ups() > ups);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("box.log")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "box:\n{}\ndesk:\n{}",
                self.log(),
                std::fs::read_to_string(self.path("desk.log")).unwrap_or_default()
            );
        }
    }
}

pub fn is_up(witness: &Witness) -> bool {
    witness.last("up/state").is_some_and(|state| state["online"] == true && state["downlink"] == "proven")
}

/// openssl's word on what the box shows.
pub fn openssl_takes(site: &Site) {
    let current = site.path("data/identity/current.pem");
    let now_s = jiff::Timestamp::now().as_second() + i64::from(site.days) * 24 * 3600;
    let verify = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-attime", &now_s.to_string(), "-CAfile"])
        .arg(site.path("ca/root.pem"))
        .arg("-untrusted")
        .arg(&current)
        .arg(&current)
        .output();
    match verify {
        Ok(verify) => assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr)),
        Err(_) => println!("left out: no openssl for a second opinion"),
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_box_is_let_in_by_its_code_renews_by_itself_and_comes_back_after_months() {
    let Some(mut broker) = Broker::start() else { return };
    let mut site = Site::new();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    site.serve("90d");
    site.configure(broker.port);
    site.run();
    let code = site.code();
    assert!(
        site.command(&["desk", "enrol", "accept", &code, "--name", "desk-acme"]).status().unwrap().code() == Some(1)
    );
    site.says(&["desk", "enrol", "accept", &code, "--name", BOX]);
    until("the box is on the bus", || is_up(&witness));
    openssl_takes(&site);
    assert_eq!(mode(&site.path("data/identity/current.pem")), 0o600);
    let first = site.serial().unwrap();
    assert_eq!(site.list()["boxes"][0]["serial"], *first);
    if faketime().is_none() {
        return;
    }

    // Seventy days later two thirds of its life are over. What is next is proven, on a broker that answers echoes.
    (site.gateway, site.days) = (None, 70);
    site.serve("180d");
    site.days_go_by(&mut broker, &witness);
    for place in
        ["identity-key-kept", "identity-issued", "identity-next-kept", "identity-previous-kept", "identity-promoted"]
    {
        site.run_to_death(place);
        openssl_takes(&site);
        openssl_reads(&site);
        assert_eq!(site.serial().as_ref() == Some(&first), place != "identity-promoted", "{place}");
    }
    site.run();
    until("it has renewed", || site.serial().is_some_and(|serial| serial != first));
    until("it is on the bus", || is_up(&witness));
    openssl_takes(&site);
    assert!(site.path("data/identity/previous.pem").exists() && site.identity()["next"].is_null());
    assert_eq!(site.list()["boxes"][0]["how"], "renewed");
    let second = site.serial().unwrap();

    // A year later it has slept through the end of that: it asks again with the key it had, and a person says yes.
    (site.gateway, site.days) = (None, 70 + 365);
    site.serve("90d");
    site.days_go_by(&mut broker, &witness);
    site.run();
    let code = site.code();
    assert_eq!(site.list()["waiting"][0]["was"], BOX);
    assert_eq!(site.serial().as_ref(), Some(&second));
    site.says(&["desk", "enrol", "accept", &code]);
    until("it is back", || site.serial().is_some_and(|serial| serial != second));
    until("it is on the bus", || is_up(&witness));
    assert_eq!(site.list()["boxes"][0]["how"], "recovered");
    let record = site.says(&["desk", "audit"]);
    assert!(record.contains("each follows from the one before"), "{record}");
}

#[test]
fn a_box_renews_when_the_desk_says_so() {
    let Some(mut broker) = Broker::start() else { return };
    let mut site = Site::new();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let tls = toml::to_string(&broker.client("desk-acme-2")).unwrap();
    let desk = format!("broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\n[tls]\n{tls}", broker.port);
    site.serve("90d");
    site.configure(broker.port);
    std::fs::write(site.path("desk.toml"), desk).unwrap();
    let operator = site.says(&["desk", "key", "ops-1.key"]);
    let settings = std::fs::read_to_string(site.path("box.toml")).unwrap();
    std::fs::write(site.path("box.toml"), settings + &operator).unwrap();
    let first = site.let_in(&witness);
    let said = site.says(&["desk", "command", BOX, "cert-renew", "--sign", "ops-1.key"]);
    assert_eq!(said, "cert-renew done\n");
    until("it has renewed", || site.serial().is_some_and(|serial| serial != first));
    until("it is on the bus", || is_up(&witness));
    openssl_takes(&site);
    assert_eq!(site.list()["boxes"][0]["how"], "renewed");
}

/// A server of EST that shares no code with ours (`tests/peers/est`), where `tests/all` has built it.
fn foreign_server() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = std::env::var_os("AFFERENT_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
    let program = peers.join("est/debug/est-peer");
    let found = program.exists().then_some(program);
    if found.is_none() {
        println!("left out: enrolling at another's server of EST (no est-peer: tests/all builds it)");
    }
    found
}

#[test]
fn a_box_enrols_and_renews_at_a_server_of_est_that_is_not_ours() {
    let Some(program) = foreign_server() else { return };
    let Some(mut broker) = Broker::start() else { return };
    let mut site = Site::new();
    let mut server = Command::new(program);
    server.arg(site.port.to_string()).arg(site.dir.path()).args([BOX, "one-time"]);
    server.stdout(std::fs::File::create(site.path("est.log")).unwrap());
    let _server = Running(server.spawn().unwrap());
    until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", site.port)).is_ok());
    broker.trusts(&site.path("root.pem"), &site.path("trust.pem"));
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let tls = toml::to_string(&broker.client("desk-acme-2")).unwrap();
    let desk = format!("broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\n[tls]\n{tls}", broker.port);
    std::fs::write(site.path("desk.toml"), desk).unwrap();
    site.configure(broker.port);
    let settings = std::fs::read_to_string(site.path("box.toml")).unwrap() + &site.says(&["desk", "key", "ops-1.key"]);
    let log_in = format!("[fleet.enrol]\nuser = \"{BOX}\"\npassword_file = \"credential:est-password\"\n");
    std::fs::create_dir(site.path("handed")).unwrap();
    std::fs::write(site.path("box.toml"), settings.replace("[fleet.enrol]\n", &log_in)).unwrap();

    std::fs::write(site.path("handed/est-password"), "guessed\n").unwrap();
    site.run();
    until("it is told that it may not", || site.log().contains("does not let this box in (403)"));
    assert_eq!(site.serial(), None);
    site.gateway = None;
    std::fs::write(site.path("handed/est-password"), "one-time\n").unwrap();
    site.run();
    until("the box is on the bus", || is_up(&witness));
    let first = site.serial().unwrap();
    let asked = || std::fs::read_to_string(site.path("est.log")).unwrap();
    assert!(asked().contains("/.well-known/est/simpleenroll - 403\n"), "{}", asked());
    assert!(asked().contains("/.well-known/est/simpleenroll - 200\n"), "{}", asked());

    // It renews with what it has, proves that on the broker, and uses it from then on.
    assert_eq!(site.says(&["desk", "command", BOX, "cert-renew", "--sign", "ops-1.key"]), "cert-renew done\n");
    until("it has renewed", || site.serial().is_some_and(|serial| serial != first));
    until("it is on the bus", || is_up(&witness));
    assert!(asked().contains(&format!("/.well-known/est/simplereenroll {BOX} 200\n")), "{}", asked());
    let current = site.path("data/identity/current.pem");
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-purpose", "sslclient", "-CAfile"]);
    match verify.arg(site.path("root.pem")).arg(&current).output() {
        Ok(verify) => assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr)),
        Err(_) => println!("left out: no openssl for a second opinion"),
    }
    openssl_reads(&site);
}

#[test]
fn a_next_certificate_that_the_broker_refuses_costs_nothing() {
    let Some(mut broker) = Broker::start() else { return };
    if faketime().is_none() {
        return;
    }
    let mut site = Site::new();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    site.serve("90d");
    site.configure(broker.port);
    let first = site.let_in(&witness);

    // The desk signs with another root, which it hands out beside the old one; nobody told the broker.
    (site.gateway, site.days) = (None, 70);
    let old = std::fs::read(site.path("ca/root.pem")).unwrap();
    std::fs::rename(site.path("ca"), site.path("old")).unwrap();
    site.says(&["desk", "ca", "init", TENANT]);
    let fresh = std::fs::read(site.path("ca/root.pem")).unwrap();
    std::fs::write(site.path("ca/root.pem"), [&fresh[..], &old].concat()).unwrap();
    std::fs::write(site.path("trust.pem"), [std::fs::read(site.path("trust.pem")).unwrap(), fresh].concat()).unwrap();
    site.serve("180d");
    site.days_go_by(&mut broker, &witness);
    site.run();
    until("the next one was tried", || site.log().contains("is_proven=false"));
    until("the box is on the bus", || is_up(&witness));
    let shown = site.identity();
    assert_eq!((&shown["certificate"]["serial"], shown["next"].is_null()), (&Value::from(first.clone()), false));

    // Told of the root, the broker takes it at the next try.
    site.gateway = None;
    let ups = witness.ups();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    until("the witness is back", || witness.ups() > ups);
    site.run();
    until("it has its next certificate", || site.serial().is_some_and(|serial| serial != first));
    until("the box is on the bus", || is_up(&witness));
}

#[test]
fn kill_a_box_has_a_working_identity_wherever_it_died() {
    let mut site = Site::new();
    site.configure(9);
    // Certificates that have ended when they are looked at again: each round is a box that slept.
    site.serve("2s");
    let enrol = |site: &Site, dies_at: &str| {
        let mut command = site.command(&["fleet", "enrol", "--config", "box.toml", "--wait-s", "60"]);
        command.env("AFFERENT_ABORT_AT", dies_at).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    let mut rounds = 0;
    for (is_first, places) in [
        (true, &["identity-key-kept", "identity-issued", "identity-next-kept", "identity-promoted"][..]),
        (false, &["identity-issued", "identity-next-kept", "identity-previous-kept", "identity-promoted"]),
    ] {
        for place in places {
            rounds += 1;
            if is_first {
                let _ = std::fs::remove_dir_all(site.path("data"));
            }
            let asked = site.list()["waiting"].as_array().unwrap().len();
            let mut dying = enrol(&site, &format!("{place}:1"));
            if *place == "identity-key-kept" {
                assert!(!dying.0.wait().unwrap().success(), "{place}");
                dying = enrol(&site, "");
            }
            until("it has asked", || {
                let waiting = site.list()["waiting"].as_array().unwrap().clone();
                waiting.len() > asked || waiting.iter().any(|one| one["accepted"].is_null())
            });
            let waiting = site.list()["waiting"].as_array().unwrap().clone();
            let code =
                waiting.iter().find(|one| one["accepted"].is_null()).unwrap()["code"].as_str().unwrap().to_string();
            let name = format!("bench-{rounds}");
            let accept = ["desk", "enrol", "accept", &code, "--name", &name, "--replace"];
            site.says(if is_first { &accept } else { &accept[..4] });
            let died = !dying.0.wait().unwrap().success();
            assert_eq!(died, *place != "identity-key-kept", "{place}");
            // It died; what it has is whole, and it goes on from there.
            let mut again = enrol(&site, "");
            until("it is let in or asks", || {
                again.0.try_wait().unwrap().is_some()
                    || site.list()["waiting"].as_array().unwrap().iter().any(|one| one["accepted"].is_null())
            });
            if again.0.try_wait().unwrap().is_none() {
                let waiting = site.list()["waiting"].as_array().unwrap().clone();
                let code =
                    waiting.iter().find(|one| one["accepted"].is_null()).unwrap()["code"].as_str().unwrap().to_string();
                site.says(&["desk", "enrol", "accept", &code]);
            }
            assert!(again.0.wait().unwrap().success(), "{place}");
            assert!(site.serial().is_some(), "{place}");
            openssl_reads(&site);
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
    }
}

/// Certificate and key belong together, whatever the date.
fn openssl_reads(site: &Site) {
    let current = site.path("data/identity/current.pem");
    let public = |args: &[&str]| Command::new("openssl").args(args).arg("-in").arg(&current).output();
    let (Ok(cert), Ok(key)) = (public(&["x509", "-noout", "-pubkey"]), public(&["pkey", "-pubout"])) else {
        return println!("left out: no openssl for a second opinion");
    };
    assert!(cert.status.success() && cert.stdout == key.stdout);
}

#[test]
fn the_endpoint_speaks_est_as_openssl_and_curl_read_it() {
    let mut site = Site::new();
    site.serve("90d");
    let base = format!("https://localhost:{}/.well-known/est", site.port);
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--cacert"]).arg(site.path("ca/root.pem")).args(args).current_dir(site.dir.path());
        command.output()
    };
    let Ok(authorities) = curl(&[&format!("{base}/cacerts")]) else {
        return println!("left out: EST with other programs (no curl here)");
    };
    let openssl = |args: &[&str]| Command::new("openssl").args(args).current_dir(site.dir.path()).output().unwrap();
    let certificates = |base64: &[u8], name: &str| {
        std::fs::write(site.path("answer.b64"), base64).unwrap();
        assert!(openssl(&["base64", "-d", "-A", "-in", "answer.b64", "-out", "answer.der"]).status.success());
        let printed = openssl(&["pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs", "-out", name]);
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    };
    certificates(&authorities.stdout, "cacerts.pem");
    assert!(openssl(&["verify", "-CAfile", "cacerts.pem", "ca/issuing.pem"]).status.success());

    // A stranger's request: openssl's key, and a name that the desk does not heed.
    let made = openssl(&[
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=desk-acme",
        "-keyout",
        "stranger.key",
        "-outform",
        "DER",
        "-out",
        "stranger.der",
    ]);
    assert!(made.status.success());
    assert!(openssl(&["base64", "-in", "stranger.der", "-out", "stranger.b64"]).status.success());
    let ask = |what: &str, more: &[&str]| {
        let url = format!("{base}/{what}");
        let fixed = ["-i", "-H", "Content-Type: application/pkcs10", "--data-binary", "@stranger.b64", &url];
        let output = curl(&[&fixed[..], more].concat()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = ask("simpleenroll", &[]);
    assert!(answer.starts_with("HTTP/1.1 202") && answer.to_lowercase().contains("retry-after: "), "{answer}");
    assert!(ask("simplereenroll", &[]).starts_with("HTTP/1.1 401"));
    let code = site.list()["waiting"][0]["code"].as_str().unwrap().to_string();
    site.says(&["desk", "enrol", "accept", &code, "--name", BOX]);
    let answer = ask("simpleenroll", &[]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/pkcs7-mime; smime-type=certs-only"));
    certificates(answer.split("\r\n\r\n").nth(1).unwrap().as_bytes(), "stranger.pem");
    let subject = openssl(&["x509", "-in", "stranger.pem", "-noout", "-subject", "-ext", "extendedKeyUsage"]);
    let subject = String::from_utf8(subject.stdout).unwrap();
    assert!(subject.contains("CN = bench-1") && subject.contains("TLS Web Client Authentication"), "{subject}");
    let verify = ["verify", "-x509_strict", "-CAfile", "ca/root.pem", "-untrusted", "ca/issuing.pem", "stranger.pem"];
    assert!(openssl(&verify).status.success());

    // It renews with that, and not once it is barred; what is no request is refused.
    std::fs::copy(site.path("stranger.pem"), site.path("chain.pem")).unwrap();
    let own = ["--cert", "chain.pem", "--key", "stranger.key"];
    let chain =
        [std::fs::read(site.path("stranger.pem")).unwrap(), std::fs::read(site.path("ca/issuing.pem")).unwrap()];
    std::fs::write(site.path("chain.pem"), chain.concat()).unwrap();
    let answer = ask("simplereenroll", &own);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    site.says(&["desk", "enrol", "bar", BOX]);
    assert!(ask("simplereenroll", &own).starts_with("HTTP/1.1 403"));
    std::fs::write(site.path("stranger.b64"), "bm8gcmVxdWVzdA==").unwrap();
    assert!(ask("simpleenroll", &[]).starts_with("HTTP/1.1 400"));
}

#[test]
fn a_certificate_is_replaced_when_that_is_said_and_the_record_has_all_that_was_signed() {
    let site = Site::new();
    let issue = ["desk", "ca", "issue", "desk-acme", "--client", "desk-acme"];
    site.says(&issue);
    let read = |name: &str| std::fs::read(site.path(name)).unwrap();
    let (key, certificate) = (read("desk-acme.key"), read("desk-acme.pem"));
    let again = site.command(&issue).output().unwrap();
    let why = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && why.contains("desk-acme.key is there already: --replace"), "{why}");
    assert_eq!((read("desk-acme.key"), read("desk-acme.pem")), (key.clone(), certificate.clone()));
    site.says(&[&issue[..], &["--replace"]].concat());
    assert!(read("desk-acme.key") != key && read("desk-acme.pem") != certificate);
    assert_eq!(mode(&site.path("desk-acme.key")), 0o600);
    site.says(&["desk", "ca", "issuing"]);
    let record = crate::desk::lines(&site.path("audit.jsonl"));
    let verbs: Vec<_> = record.iter().filter_map(|line| line["what"]["ca"].as_str()).collect();
    assert_eq!(verbs, ["init", "issue", "issue", "issuing"]);
    let whole = |line: &Value| line["uid"].is_u64() && line["what"]["by"].is_string() && line["what"]["at"].is_string();
    assert!(record.iter().all(whole), "{record:?}");
    assert_eq!(record[1]["what"]["for"]["client"], "desk-acme");
    site.says(&["desk", "audit"]);
}

/// The README's way to let a box in, as it stands there: only names, ports and the code are this machine's.
#[test]
fn the_readmes_way_to_let_a_box_in_works() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let shown = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (port, astm) = (free_port(), free_port());
    let settings = format!(
        "[gateway]\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm}\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n\
         [fleet]\nbroker = \"localhost:9\"\ntenant = \"acme\"\n[fleet.enrol]\nurl = \"https://localhost:{port}\"\n\
         [fleet.tls]\nca = {ca:?}\n",
        data = dir.path().join("data"),
        ca = dir.path().join("ca/root.pem"),
    );
    let (mut running, mut commands, mut code) = (Vec::new(), 0, String::new());
    for line in shown.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.split(" #").next().unwrap().trim();
        let line = line.replace("0.0.0.0:8443", &format!("127.0.0.1:{port}")).replace("desk.example", "localhost");
        let args: Vec<&str> = line.strip_prefix("afferent ").unwrap().split_whitespace().collect();
        let args: Vec<String> =
            args.iter().map(|arg| if arg.contains("-9QWD-") { code.clone() } else { arg.to_string() }).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(&args).current_dir(dir.path()).stderr(Stdio::null());
        commands += 1;
        let goes_on = args[..2] == ["fleet", "enrol"] || args[..3] == ["desk", "enrol", "serve"];
        if goes_on {
            std::fs::write(dir.path().join("afferent.toml"), &settings).unwrap();
            running.push(Running(command.stdout(Stdio::null()).spawn().unwrap()));
            if args[0] == "desk" {
                until("the desk listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
                continue;
            }
            let list = || {
                let mut list = Command::new(env!("CARGO_BIN_EXE_afferent"));
                let output = list.args(["desk", "enrol", "list", "--json"]).current_dir(dir.path()).output().unwrap();
                serde_json::from_slice::<Value>(&output.stdout).unwrap()["waiting"][0]["code"].clone()
            };
            until("the box has asked", || list().is_string());
            code = list().as_str().unwrap().to_string();
            continue;
        }
        let last = args[..2] == ["fleet", "identity"];
        until(&line, || command.output().unwrap().status.success() || !last);
        assert!(last || commands > 0);
    }
    assert_eq!(commands, 9, "the README shows {commands} commands");
}
