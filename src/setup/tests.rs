//! The engine without a terminal: what is asked in which order, which answers are turned down, what is written.

use super::answers::Answers;
use super::question::Kind;
use super::*;
use crate::clock::Quality;
use crate::sim::ehr::{Behaviour, Ehr, EhrOptions};
use std::sync::Arc;

/// What is asked, an answer that is right, and wrong ones with what is said of them.
type Asked = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

fn quiet() -> Show {
    Arc::new(|_| {})
}

/// A setup in a folder of its own.
struct Bench {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(None)
    }

    fn with(configuration: Option<&str>) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = configuration {
            std::fs::write(dir.path().join("afferent.toml"), text).unwrap();
        }
        let setup = Setup::open(&dir.path().join("afferent.toml"), false).unwrap_or_else(|error| panic!("{error}"));
        Bench { dir, setup }
    }

    fn key(&self) -> &'static str {
        match self.setup.next() {
            Next::Ask(question) => question.key,
            next => panic!("{next:?} in place of a question"),
        }
    }

    /// Answers these, and the others with their defaults, until something is to be done.
    fn answer(&mut self, answers: &[(&str, &str)]) -> Next {
        loop {
            self.pass_the_network();
            let next = self.setup.next();
            let Next::Ask(question) = &next else { return next };
            assert!(steps::KEYS.contains(&question.key), "a file may answer {}", question.key);
            let names_a_file = question.asks.contains('/');
            assert!(
                question.asks.len() < 65 || names_a_file,
                "a line has room for it and an answer: {}",
                question.asks
            );
            let given = answers.iter().find(|(key, _)| *key == question.key).map(|(_, answer)| (*answer).to_string());
            let Some(answer) = given.or_else(|| question.default.clone()) else { return next };
            self.setup.answer(question.key, &answer).unwrap_or_else(|why| panic!("{}: {answer}: {why}", question.key));
        }
    }

    fn pass_the_place(&mut self) {
        self.setup.answer("gateway.name", "bench-1").unwrap();
        self.setup.answer("gateway.data", "/srv/afferent").unwrap();
    }

    /// As if network and clock had been looked at: what this machine has is no matter.
    fn pass_the_network(&mut self) {
        if self.setup.next() == Next::Do(Work::Look) {
            let address = network::Prefixed::parse("10.0.0.7/24").unwrap();
            let interface = network::Interface { name: "eth0".to_string(), is_up: true, addresses: vec![address] };
            let found = network::Network { interfaces: vec![interface], ..network::Network::default() };
            (self.setup.progress.network, self.setup.progress.clock) = (Some(found), Some(Quality::Trusted));
        }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("afferent.toml")).unwrap()
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }
}

#[test]
fn wrong_answers_are_turned_down_with_what_would_be_right_and_change_nothing() {
    let mut bench = Bench::new();
    let table: [Asked; 22] = [
        ("gateway.name", "bench-1", &[("bench 1", "letters, digits"), ("", "letters, digits")]),
        ("gateway.data", "/srv/data", &[("data", "from the root on"), ("/etc/hostname", "no directory")]),
        ("network.set", "static", &[("fixed", "leave, dhcp, static")]),
        ("network.interface", "eth0", &[("eth1", "answer one of: eth0")]),
        ("network.address", "10.0.0.7/24, 2001:db8::7/64", &[("10.0.0.7", "with its prefix"), ("", "at least one")]),
        ("network.gateway", "10.0.0.1", &[("10.0.1.1", "in none of the networks"), ("10.0.0.7", "this box itself")]),
        ("network.dns", "10.0.0.2", &[("dns.example", "no IP address")]),
        ("network.write", "no", &[("", "yes or no")]),
        ("network.name", "none", &[("ehr.example:2575", "name of a host")]),
        ("network.proxy", "none", &[("proxy.example:3128", "its URL"), ("http://proxy.example", "its URL")]),
        ("time.zone", "Europe/Berlin", &[("Berlin", "no time zone")]),
        ("ehr.kind", "1", &[("xml", "hl7, fhir")]),
        ("ehr.address", "ehr.example:2575", &[("ehr.example", "host and port"), ("[fe80::1%eth0]:2575", "one cable")]),
        ("ehr.tls", "no", &[("perhaps", "yes or no")]),
        ("ehr.plain", "yes", &[("", "yes or no")]),
        ("ehr.name", "ehr", &[("the ehr", "letters, digits")]),
        ("ehr.unreachable", "keep", &[("never", "again, change, keep")]),
        ("link.kind", "1", &[("usb", "listen, serial, dial"), ("7", "listen, serial, dial")]),
        ("link.listen", "127.0.0.1:4001", &[("4001", "address of this box"), ("[fe80::1%2]:4001", "one cable")]),
        ("link.listen_s", "0", &[("soon", "give seconds"), ("9999", "give seconds")]),
        ("link.driver", "roche-cobas-c311", &[("roche-cobas-c31", "is it `roche-cobas-c311`")]),
        ("link.name", "chemistry", &[("a/b", "letters, digits")]),
    ];
    for (key, right, wrong) in table {
        bench.pass_the_network();
        if bench.setup.next() == Next::Do(Work::Handshake) {
            bench.setup.progress.ehr = Some(progress::Tried::new(false, "nobody is there"));
        }
        assert_eq!(bench.key(), key);
        for (answer, says) in wrong {
            let why = bench.setup.answer(key, answer).unwrap_err();
            assert!(why.contains(says), "{key} = {answer}: {why}");
            assert_eq!(bench.key(), key, "it is asked again");
        }
        assert!(bench.setup.answer("test.send", "send").is_err(), "only what is asked is answered");
        bench.setup.answer(key, right).unwrap_or_else(|why| panic!("{key}: {why}"));
    }
    assert_eq!(bench.setup.progress().get("link.kind"), Some("listen"), "by its number");
}

#[test]
fn fixed_addresses_are_written_for_networkd_and_it_is_said_how_they_come_to_count() {
    let mut bench = Bench::new();
    let root = bench.dir.path().join("root");
    let folder = root.join("etc/systemd/network");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("05-lab.network"), "[Match]\nName=eth*\n").unwrap();
    bench.setup.root = root.clone();
    let own = "10.0.0.7/24, 2001:db8::7/64";
    let fixed = [("network.set", "static"), ("network.address", own), ("network.gateway", "fe80::1%eth0 10.0.0.1")];
    bench.answer(&[&fixed[..], &[("network.dns", "10.0.0.2")]].concat());
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, &question.default), ("network.write", &None), "nobody is locked out by pressing enter");
    for says in ["may be cut off", "Gateway=10.0.0.1", "05-lab.network is for eth0 too, and comes before ours"] {
        assert!(question.hint.contains(says), "{}", question.hint);
    }
    bench.setup.answer("network.write", "yes").unwrap();
    let told = bench.setup.perform(&quiet()).unwrap().concat();
    assert!(told.contains("networkctl reload") && told.contains("05-lab.network"), "{told}");
    let written = std::fs::read_to_string(folder.join("10-afferent-eth0.network")).unwrap();
    assert!(written.contains("Address=10.0.0.7/24\nAddress=2001:db8::7/64\nGateway=fe80::1\n"), "{written}");
    assert_eq!(bench.key(), "network.name");

    let mut bench = Bench::new();
    bench.setup.root = root.clone();
    std::fs::remove_dir_all(&root).unwrap();
    bench.answer(&[
        ("network.set", "dhcp"),
        ("network.write", "no"),
        ("ehr.address", "127.0.0.1:9"),
        ("ehr.tls", "no"),
    ]);
    assert!(!root.exists() && bench.setup.progress().get("network.set") == Some("leave"), "it stays as it is");
}

#[test]
fn a_name_that_is_not_known_is_told_by_its_name() {
    let mut bench = Bench::new();
    // RFC 6761: nobody ever has it.
    bench.answer(&[("network.name", "ehr.invalid")]);
    let told = bench.setup.perform(&quiet()).unwrap().concat();
    assert!(told.contains("ehr.invalid"), "{told}");
    assert_eq!(bench.key(), "network.unknown");
    bench.setup.answer("network.unknown", "change").unwrap();
    assert_eq!(bench.key(), "network.name");
    bench.setup.answer("network.name", "localhost").unwrap();
    let told = bench.setup.perform(&quiet()).unwrap().concat();
    assert!(told.contains("localhost is ") && bench.key() == "network.proxy", "{told}");
}

#[test]
fn proxy_zone_and_a_clock_that_somebody_else_keeps_stand_in_the_file() {
    let mut bench = Bench::new();
    let answers =
        [("network.proxy", "http://proxy.example:3128"), ("time.zone", "Asia/Tokyo"), ("time.trusted", "yes")];
    bench.pass_the_place();
    bench.pass_the_network();
    bench.setup.progress.clock = Some(Quality::Floor);
    let ehr = [("ehr.address", "ehr.example:2575"), ("link.listen_s", "0"), ("link.driver", "sysmex-xn")];
    bench.answer(&[&answers[..], &ehr].concat());
    bench.setup.progress.ehr = Some(progress::Tried::new(true, "it answers"));
    assert_eq!(bench.answer(&ehr), Next::Do(Work::Write));
    let config = config::parse("afferent.toml", &bench.setup.text()).unwrap_or_else(|faults| panic!("{faults}")).config;
    let tls = config.destinations[0].tls.clone().unwrap();
    assert_eq!(tls.proxy.as_deref(), Some("http://proxy.example:3128"));
    assert_eq!((config.gateway.time_zone.as_deref(), config.gateway.clock_trusted), (Some("Asia/Tokyo"), true));
}

#[test]
fn patient_data_does_not_cross_an_open_network_in_the_clear() {
    let mut bench = Bench::new();
    let open = [("ehr.address", "ehr.example:2575"), ("ehr.tls", "no")];
    bench.answer(&open);
    assert_eq!(bench.key(), "ehr.plain");
    bench.setup.answer("ehr.plain", "no").unwrap();
    assert_eq!(bench.key(), "ehr.tls", "then it is TLS");
    let mut bench = Bench::new();
    let next = bench.answer(&[("ehr.address", "127.0.0.1:2575"), ("ehr.tls", "no")]);
    assert_eq!(next, Next::Do(Work::Handshake), "nobody else is on this machine's own network");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_is_not_there_is_told_asked_about_and_called_again() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ehr = Ehr::start(EhrOptions { mllp: Some("127.0.0.1:0".into()), ..EhrOptions::default() }).await.unwrap();
    let there = ehr.mllp().unwrap().to_string();
    tokio::task::spawn_blocking(move || {
        let mut bench = Bench::new();
        bench.answer(&[("ehr.address", &silent.to_string()), ("ehr.tls", "no")]);
        let told = bench.setup.perform(&quiet()).unwrap();
        assert!(told[0].contains("refused"), "{told:?}");
        assert_eq!(bench.key(), "ehr.unreachable");
        bench.setup.answer("ehr.unreachable", "again").unwrap();
        assert_eq!(bench.setup.next(), Next::Do(Work::Handshake));
        bench.setup.perform(&quiet()).unwrap();
        bench.setup.answer("ehr.unreachable", "change").unwrap();
        assert_eq!(bench.key(), "ehr.kind");
        bench.answer(&[("ehr.address", &there), ("ehr.tls", "no")]);
        let told = bench.setup.perform(&quiet()).unwrap();
        assert!(told[0].contains("answers without TLS"), "{told:?}");
        assert_eq!(bench.key(), "link.kind");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_that_is_no_fhir_server_is_asked_about() {
    use std::io::{Read, Write};
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let none = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut caller in other.incoming().map(Result::unwrap) {
            let _ = caller.read(&mut [0; 1024]);
            let _ = caller.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let ehr = Ehr::start(EhrOptions { fhir: Some("127.0.0.1:0".into()), ..EhrOptions::default() }).await.unwrap();
    let there = ehr.fhir().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut bench = Bench::new();
        bench.answer(&[("ehr.kind", "fhir"), ("ehr.url", &format!("http://{none}/fhir"))]);
        let told = bench.setup.perform(&quiet()).unwrap();
        assert!(told[0].contains("no CapabilityStatement (HTTP 404)"), "{told:?}");
        assert_eq!(bench.key(), "ehr.unreachable");
        bench.setup.answer("ehr.unreachable", "change").unwrap();
        bench.answer(&[("ehr.kind", "fhir"), ("ehr.url", &format!("http://{there}/fhir"))]);
        let told = bench.setup.perform(&quiet()).unwrap();
        assert!(told[0].contains("FHIR 4.0"), "{told:?}");
        assert_eq!(bench.key(), "link.kind");
    })
    .await
    .unwrap();
}

#[test]
fn that_a_network_is_fenced_is_said_of_one_ehr() {
    let mut bench = Bench::new();
    bench.answer(&[("ehr.address", "ehr.example:2575"), ("ehr.tls", "no"), ("ehr.plain", "yes")]);
    bench.setup.progress.ehr = Some(progress::Tried::new(false, "connection refused"));
    bench.setup.answer("ehr.unreachable", "change").unwrap();
    bench.answer(&[("ehr.address", "other.example:2575"), ("ehr.tls", "no")]);
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, question.default), ("ehr.plain", None));
}

#[test]
fn whoever_has_no_key_goes_back_to_the_certificate_and_to_the_log_in() {
    let mut bench = Bench::new();
    let authority = crate::tls::throwaway::Authority::new().unwrap();
    let files = authority.write(bench.dir.path()).unwrap();
    let cert = files.client.cert.unwrap().display().to_string();
    bench.answer(&[("ehr.address", "ehr.example:2575"), ("ehr.cert", &cert)]);
    assert_eq!(bench.key(), "ehr.key");
    bench.setup.answer("ehr.key", "none").unwrap();
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, question.default.as_deref()), ("ehr.cert", Some(cert.as_str())));
    let mut bench = Bench::new();
    let server = [("ehr.kind", "fhir"), ("ehr.url", "https://ehr.example/fhir"), ("ehr.login", "smart")];
    bench.answer(&[&server[..], &[("ehr.client_id", "box")]].concat());
    assert_eq!(bench.key(), "ehr.login_key");
    bench.setup.answer("ehr.login_key", "none").unwrap();
    assert_eq!(bench.key(), "ehr.login");
}

#[test]
fn what_is_asked_again_offers_what_was_answered_and_the_proxy_is_part_of_it() {
    let mut bench = Bench::new();
    let proxy = "http://proxy.example:3128";
    let first = [("network.proxy", proxy), ("ehr.kind", "fhir"), ("ehr.url", "https://ehr.example/fhir")];
    bench.answer(&[&first[..], &[("ehr.patients", "urn:oid:2.16.840.1")]].concat());
    let before = bench.setup.destination().unwrap();
    bench.setup.progress.ehr = Some(progress::Tried::new(false, "the proxy: connection refused"));
    bench.setup.answer("ehr.unreachable", "change").unwrap();
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, question.default.as_deref()), ("network.proxy", Some(proxy)));
    bench.setup.answer("network.proxy", "none").unwrap();
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, question.default.as_deref()), ("ehr.kind", Some("fhir")));
    // Interrupted here, it still knows.
    bench.setup = Setup::open(&bench.setup.file, false).unwrap();
    assert_eq!(bench.answer(&[]), Next::Do(Work::Handshake), "what was right is answered by pressing enter");
    let now = bench.setup.destination().unwrap();
    assert_eq!((&now.url, &now.fhir), (&before.url, &before.fhir));
    assert_eq!((before.tls.unwrap().proxy.as_deref(), now.tls.unwrap().proxy), (Some(proxy), None));
}

#[test]
fn a_fhir_server_is_asked_about_and_its_questions_turn_wrong_answers_down() {
    let mut bench = Bench::new();
    let key = bench.dir.path().join("key.pem").display().to_string();
    std::fs::write(&key, "-----BEGIN CERTIFICATE-----\n").unwrap();
    bench.answer(&[("ehr.kind", "fhir")]);
    let asked: [Asked; 3] = [
        (
            "ehr.url",
            "http://ehr.example/fhir",
            &[
                ("ehr.example/fhir", "base URL"),
                ("https://doe:secret@ehr.example/fhir", "must not hold a user"),
                ("https://ehr.example/fhir?x=1", "without `?`"),
            ],
        ),
        ("ehr.plain", "no", &[]),
        ("ehr.url", "https://ehr.example/fhir", &[]),
    ];
    for (key, right, wrong) in asked {
        assert_eq!(bench.key(), key);
        for (answer, says) in wrong {
            let why = bench.setup.answer(key, answer).unwrap_err();
            assert!(why.contains(says), "{answer}: {why}");
        }
        bench.setup.answer(key, right).unwrap_or_else(|why| panic!("{right}: {why}"));
    }
    assert_eq!(bench.key(), "ehr.ca");
    bench.answer(&[("ehr.login", "smart"), ("ehr.client_id", "bench-1")]);
    assert_eq!(bench.key(), "ehr.login_key");
    assert!(bench.setup.answer("ehr.login_key", &key).unwrap_err().contains("no key to log in with"));
    assert!(bench.setup.answer("ehr.login_key", "key.pem").unwrap_err().contains("from the root on"));
}

#[test]
fn links_and_destinations_may_be_called_as_they_like() {
    let mut bench = Bench::with(Some(
        "[[link]]\nname = \"another\"\nlisten = \"127.0.0.1:4001\"\n\
         [[destination]]\nname = \"another\"\naddress = \"127.0.0.1:2575\"\n",
    ));
    bench.answer(&[("config.existing", "add"), ("ehr.use", "another")]);
    bench.setup.progress.ehr = Some(progress::Tried::new(true, "it answers"));
    bench.answer(&[("link.use", "another"), ("test.send", "queue")]);
    assert_eq!((bench.setup.ehr_name(), bench.setup.link_name()), ("another", "another"));
    assert_eq!(bench.setup.addition(), "", "both are there");
}

#[test]
#[cfg(feature = "board")]
fn a_board_that_this_machine_may_be_on_is_asked_about_and_its_definition_stands_in_the_file() {
    let set_up = |existing: Option<&str>| {
        let mut bench = Bench::with(existing);
        let tree = bench.dir.path().join("proc/device-tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("compatible"), b"raspberrypi,4-compute-module\0brcm,bcm2711\0").unwrap();
        bench.setup.root = bench.dir.path().to_path_buf();
        bench
    };
    for (answer, is_written) in [("", true), ("yes", true), ("no", false)] {
        let mut bench = set_up(None);
        bench.pass_the_place();
        assert_eq!(bench.key(), "board.use");
        let given: &[(&str, &str)] = if answer.is_empty() { &[] } else { &[("board.use", answer)] };
        bench.answer(given);
        let written = bench.setup.addition();
        assert_eq!(written.contains("definition = \"cm4-carrier-1\""), is_written, "{answer}: {written}");
    }
    let mut bench = set_up(Some(
        "[board]\ndefinition = \"x86-1\"\n[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:4001\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2575\"\n",
    ));
    bench.setup.answer("config.existing", "add").unwrap();
    bench.pass_the_network();
    assert_eq!(bench.key(), "network.set", "its file says already on which it is");
}

#[test]
fn a_proxy_that_wants_a_log_in_is_given_a_file_and_no_password() {
    let mut bench = Bench::new();
    let password = bench.dir.path().join("password");
    let shown = password.display().to_string();
    bench.answer(&[("network.proxy", "http://proxy.example:3128"), ("network.proxy_user", "bench-1")]);
    assert_eq!(bench.key(), "network.proxy_password");
    for (wrong, says) in
        [("open sesame", "no password itself"), (&shown, &*shown), ("credential:p", "LoadCredential=p:FILE")]
    {
        let why = bench.setup.answer("network.proxy_password", wrong).unwrap_err();
        assert!(why.contains(says), "{wrong}: {why}");
    }
    std::fs::write(&password, "open sesame\n").unwrap();
    // Whoever has none goes back to the name.
    bench.setup.answer("network.proxy_password", "none").unwrap();
    assert_eq!(bench.key(), "network.proxy_user");
    bench.answer(&[("network.proxy_password", &shown), ("ehr.address", "ehr.example:2575")]);
    let written = bench.setup.addition();
    let wanted = format!("proxy_user = \"bench-1\"\nproxy_password_file = {password:?}\n");
    assert!(written.contains(&wanted) && !written.contains("sesame"), "{written}");
    assert!(!serde_json::to_string(&bench.setup.progress).unwrap().contains("sesame"));
}

#[test]
fn a_list_with_a_number_among_its_names_is_answered_by_name() {
    let to = |name: &str| format!("[[destination]]\nname = \"{name}\"\naddress = \"127.0.0.1:2575\"\n");
    let link = "[[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:4001\"\n";
    let mut bench = Bench::with(Some(&format!("{link}{}{}", to("2"), to("ehr"))));
    bench.answer(&[("config.existing", "add"), ("ehr.use", "2")]);
    assert_eq!(bench.setup.ehr_name(), "2", "the second of the list is another EHR");
    let mut bench = Bench::with(Some(&format!("{link}{}{}", to("2"), to("ehr"))));
    bench.setup.answer("config.existing", "1").unwrap();
    bench.pass_the_network();
    bench.setup.answer("network.set", "1").unwrap();
    bench.setup.answer("network.name", "none").unwrap();
    bench.setup.answer("network.proxy", "none").unwrap();
    assert!(bench.setup.answer("ehr.use", "1").unwrap_err().contains("answer one of: 2, ehr"));
}

#[test]
fn a_link_nobody_is_heard_on_is_chosen_by_hand_and_the_file_says_so() {
    let mut bench = Bench::new();
    let data = bench.data();
    bench.answer(&[("gateway.data", &data), ("ehr.address", "127.0.0.1:9"), ("ehr.tls", "no")]);
    bench.setup.progress.ehr = Some(progress::Tried::new(true, "it answers"));
    bench.setup.answer("link.kind", "listen").unwrap();
    assert!(bench.setup.answer("link.listen", "127.0.0.1:0").is_err(), "port 0 is none that an analyzer could call");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    bench.answer(&[("link.listen", &free), ("link.listen_s", "1")]);
    bench.setup.perform(&quiet()).unwrap();
    assert_eq!(bench.key(), "link.silent");
    bench.setup.answer("link.silent", "choose").unwrap();
    let Next::Ask(question) = bench.setup.next() else { panic!() };
    assert_eq!((question.key, &question.default), ("link.driver", &None), "nothing is guessed");
    assert!(matches!(&question.kind, Kind::Pick(choices) if choices.len() > 20));
    bench.answer(&[("link.driver", "sysmex-xn"), ("config.write", "yes")]);
    bench.setup.perform(&quiet()).unwrap();
    let text = bench.text();
    assert!(text.contains("not heard yet") && text.contains("driver = \"sysmex-xn\""), "{text}");
    assert!(text.lines().count() <= 17, "a page to read at once: {text}");
    bench.setup.answer("test.send", "queue").unwrap();
    bench.setup.progress.test = Some(progress::Tried::new(true, "in the queue"));
    bench.setup.perform(&quiet()).unwrap();
    assert_eq!(bench.setup.next(), Next::Done);
    let report = std::fs::read_to_string(bench.dir.path().join("afferent.handover.txt")).unwrap();
    assert!(report.contains("the analyzer was not heard yet"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() < 80), "{report}");
    assert!(!progress::place(bench.setup.file()).exists(), "its answers are not kept any longer");
}

#[test]
fn what_a_person_wrote_is_only_added_to() {
    let own = "# mine\n[gateway]\nname = \"mine\"   # as it is on the lid\n[[link]]\nname = \"chemistry\"\n\
               listen = \"127.0.0.1:4001\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2575\"\n";
    let mut bench = Bench::with(Some(own));
    assert_eq!(bench.key(), "config.existing");
    bench.answer(&[("config.existing", "add"), ("ehr.use", "ehr")]);
    bench.setup.progress.ehr = Some(progress::Tried::new(true, "it answers"));
    let answers = [("link.listen", "127.0.0.1:4002"), ("link.listen_s", "0"), ("link.driver", "sysmex-xn")];
    assert_eq!(bench.answer(&answers), Next::Do(Work::Write));
    bench.setup.perform(&quiet()).unwrap();
    let text = bench.text();
    assert!(text.starts_with(own.trim_end()), "{text}");
    assert!(text.contains("name = \"sysmex-xn\"") && text.matches("[[destination]]").count() == 1, "{text}");

    let mut bench = Bench::with(Some(own));
    bench.setup.answer("config.existing", "stop").unwrap();
    assert_eq!((bench.setup.next(), bench.text()), (Next::Stop, own.to_string()));
    bench.setup = Setup::open(&bench.dir.path().join("afferent.toml"), false).unwrap();
    assert_eq!(bench.key(), "config.existing", "the next one asks again");
    assert!(!matches!(Bench::with(Some(SHIPPED)).key(), "config.existing"), "nobody wrote what a new box starts with");
}

#[test]
fn a_configuration_that_changed_meanwhile_is_not_overwritten() {
    let mut bench = Bench::new();
    let data = bench.data();
    bench.answer(&[("gateway.data", &data), ("ehr.address", "127.0.0.1:9"), ("ehr.tls", "no")]);
    bench.setup.progress.ehr = Some(progress::Tried::new(true, "it answers"));
    bench.answer(&[("link.listen", "127.0.0.1:4002"), ("link.listen_s", "0"), ("link.driver", "sysmex-xn")]);
    std::fs::write(bench.setup.file(), "# somebody was quicker\n").unwrap();
    let refused = bench.setup.perform(&quiet()).unwrap_err().to_string();
    assert!(refused.contains("somebody changed it"), "{refused}");
    assert_eq!(bench.text(), "# somebody was quicker\n");
}

#[test]
fn it_goes_on_after_every_answer_and_keeps_no_more_than_those() {
    let mut bench = Bench::new();
    let file = bench.setup.file().to_path_buf();
    let answers = [("gateway.name", "bench-1"), ("gateway.data", "/srv/afferent"), ("network.set", "leave")];
    for (key, answer) in answers {
        bench.pass_the_network();
        bench.setup.answer(key, answer).unwrap();
        bench.pass_the_network();
        bench.setup.keep().unwrap();
        let asked = bench.key();
        bench.setup = Setup::open(&file, false).unwrap();
        assert!(bench.setup.is_resumed());
        assert_eq!(bench.key(), asked, "it goes on where it was");
        assert_eq!(bench.setup.progress().get(key), Some(answer));
    }
    assert!(!Setup::open(&file, true).unwrap().is_resumed(), "unless that is to be forgotten");
}

#[test]
fn a_file_of_answers_says_what_is_wrong_with_it() {
    let refused = |text: &str| Answers::parse(text).unwrap_err();
    assert!(refused("[ehr]\nadress = \"a:1\"\n").contains("is it `ehr.address`"));
    assert!(refused("name = \"bench\"\n").contains("not a table"));
    assert!(refused("[ehr]\naddress = [1]\n").contains("neither text"));
    assert!(refused("[ehr\n").contains("ehr"));
    let mut answers = Answers::parse("[ehr]\ntls = true\n[link]\nlisten_s = 0\n").unwrap();
    assert_eq!((answers.take("ehr.tls"), answers.take("ehr.tls")), (Some("yes".to_string()), None));
    assert_eq!(answers.left().collect::<Vec<_>>(), ["link.listen_s"]);
}

/// A configuration with this link and EHR, on ports that nobody listens on but the EHR.
fn configuration(data: &Path, link: &str, ehr: &str) -> Config {
    let text = format!(
        "[gateway]\nname = \"bench-1\"\ndata = {data:?}\ntime_zone = \"Asia/Tokyo\"\n\
         [[link]]\nname = \"bench\"\nlisten = \"127.0.0.1:4001\"\n{link}\n\
         [[destination]]\nname = \"ehr\"\naddress = \"{ehr}\"\npatient_authority = \"HOSP\"\n"
    );
    config::parse("bench.toml", &text).unwrap_or_else(|faults| panic!("{faults}")).config
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_test_result_reaches_the_ehr_marked_and_about_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let options = EhrOptions { mllp: Some("127.0.0.1:0".into()), keep_bodies: true, ..EhrOptions::default() };
    let ehr = Ehr::start(options).await.unwrap();
    let address = ehr.mllp().unwrap().to_string();
    let links = [
        "protocol = \"astm\"\ndriver = \"roche-cobas-c111\"",
        "protocol = \"hl7\"",
        "protocol = \"astm\"\ndriver = \"sysmex-xn\"",
    ];
    for (before, link) in links.into_iter().enumerate() {
        let config = configuration(dir.path(), link, &address);
        let way = |may_reach| test_result::Way { link: "bench", destination: "ehr", may_reach };
        let tried = test_result::send(&config, &way(false)).await;
        assert!(tried.worked && tried.says.contains("nothing was sent"), "{link}: {}", tried.says);
        assert_eq!(ehr.arrivals().len(), before, "{link}: it ended in the queue");
        let tried = test_result::send(&config, &way(true)).await;
        assert!(tried.worked && tried.says.contains("AA"), "{link}: {}", tried.says);
        let arrivals = ehr.arrivals();
        assert_eq!(arrivals.len(), before + 1, "{link}");
        let body = String::from_utf8_lossy(&arrivals.last().unwrap().body).into_owned();
        let fields = |name: &str| -> Vec<Vec<String>> {
            let segments = body.split('\r').filter(|segment| segment.starts_with(name));
            segments.map(|segment| segment.split('|').map(str::to_string).collect()).collect()
        };
        assert_eq!(fields("MSH")[0][10], "T", "{body}");
        let [pid] = fields("PID").try_into().unwrap();
        assert_eq!((pid[3].as_str(), pid[5].as_str()), ("AFFERENT-TEST^^^AFFERENT-TEST^MR", "ZZTEST^AFFERENT"));
        assert_eq!(fields("OBR")[0][2], "", "no order of the hospital is named");
        assert!(fields("SPM")[0][2].starts_with("TEST-"), "{body}");
        assert!(!dir.path().join("journal.db").exists(), "the journal of the box has no part in it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_result_that_does_not_get_through_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = EhrOptions { mllp: Some("127.0.0.1:0".into()), ..EhrOptions::default() };
    let ehr = Ehr::start(options).await.unwrap();
    ehr.behave(Behaviour::Ar(Some(203)));
    let config = configuration(dir.path(), "protocol = \"hl7\"", &ehr.mllp().unwrap().to_string());
    let way = test_result::Way { link: "bench", destination: "ehr", may_reach: true };
    let tried = test_result::send(&config, &way).await;
    assert!(!tried.worked && tried.says.contains("refused"), "{}", tried.says);
    let config = configuration(dir.path(), "protocol = \"poct1a\"", "127.0.0.1:9");
    let tried = test_result::send(&config, &way).await;
    assert!(!tried.worked && tried.says.contains("no mark for a test message"), "{}", tried.says);
}
