//! EHRs as sites have them: a FHIR server with a log-in, private authorities, certificates on both sides, and a firewall
//! that looks into TLS.

use super::{Bench, report};
use crate::ports::free_port;
use crate::site::Running;
use crate::{afferent, err, out};
use afferent::delivery::config::OAuth;
use afferent::delivery::oauth::SigningKey;
use afferent::sim::ehr::{Ehr, EhrOptions, LogIn};
use afferent::tls;
use afferent::tls::ClientTls;
use afferent::tls::throwaway::{Authority, Files};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const KINDS: [&str; 2] = ["hl7", "fhir"];

/// An EHR that lets in nobody without a certificate of its authority, with both of its servers.
async fn secured(folder: &Path) -> (Ehr, Files) {
    let files = Authority::new().unwrap().write(folder).unwrap();
    let any = || Some("127.0.0.1:0".to_string());
    let (tls, keep_bodies) = (Some(files.server.clone()), true);
    let options = EhrOptions { mllp: any(), fhir: any(), tls, keep_bodies, ..EhrOptions::default() };
    (Ehr::start(options).await.unwrap(), files)
}

/// Where it is, as a file of answers says it.
fn place(ehr: &Ehr, kind: &str) -> String {
    match kind {
        "fhir" => format!("kind = \"fhir\"\nurl = \"https://localhost:{}/fhir\"\n", ehr.fhir().unwrap().port()),
        _ => format!("address = \"localhost:{}\"\n", ehr.mllp().unwrap().port()),
    }
}

fn shown(tls: &ClientTls) -> String {
    let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    files.iter().filter_map(|(key, file)| Some(format!("{key} = {:?}\n", file.as_ref()?))).collect()
}

/// A setup with these answers about the EHR, and a link nobody listens on.
fn set_up(bench: &Bench, ehr: &str, rest: &str) -> Output {
    let (file, data) = (bench.path("answers.toml"), bench.path("data"));
    let place = format!("[gateway]\nname = \"bench-1\"\ndata = {data:?}\n");
    std::fs::write(&file, format!("{place}[ehr]\n{ehr}{}{rest}", bench.by_hand())).unwrap();
    afferent(&["setup", "--config", &bench.config(), "--answers", &file.display().to_string(), "--json"])
}

/// A FHIR server that lets in who has the key in this file, and the TLS files of whom it knows.
async fn with_log_in(folder: &Path, key_file: &Path) -> (Ehr, Files) {
    let files = Authority::new().unwrap().write(folder).unwrap();
    std::fs::write(key_file, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem()).unwrap();
    let oauth = OAuth { key_file: key_file.to_path_buf(), kid: "1".into(), ..OAuth::default() };
    let log_in = LogIn {
        client_id: "bench-1".into(),
        key_set: SigningKey::load(&oauth).unwrap().key_set().to_string(),
        audience: None,
        token_life: Duration::from_secs(300),
    };
    let options = EhrOptions {
        fhir: Some("127.0.0.1:0".into()),
        tls: Some(files.server.clone()),
        log_in: Some(log_in),
        keep_bodies: true,
        ..EhrOptions::default()
    };
    (Ehr::start(options).await.unwrap(), files)
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_fhir_server_is_greeted_and_gets_a_test_that_is_no_patients() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("log-in.key");
    let (ehr, files) = with_log_in(dir.path(), &key_file).await;
    let log_in = format!("login = \"smart\"\nclient_id = \"bench-1\"\nlogin_key = {key_file:?}\n");
    let about = format!("{}{}{log_in}patients = \"urn:oid:2.16.840.1\"\n", place(&ehr, "fhir"), shown(&files.client));
    tokio::task::spawn_blocking(move || {
        let bench = Bench::new();
        let report = report(&set_up(&bench, &about, "[test]\nsend = \"send\"\n"));
        assert!(report["handshake"]["says"].as_str().unwrap().contains("over TLS: FHIR 4.0.1"), "{report}");
        assert_eq!(report["test"]["worked"], true, "{report}");
        assert!(report["test"]["says"].as_str().unwrap().contains("transaction-response"), "its answer: {report}");
        let [only] = ehr.arrivals().try_into().unwrap_or_else(|all: Vec<_>| panic!("{} messages", all.len()));
        assert!(only.stored && only.specimens.contains(&"TEST-0000001".to_string()), "{:?}", only.specimens);
        let sent: Value = serde_json::from_slice(&only.body).unwrap();
        let resources = sent["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
        for resource in resources.chain([&sent]) {
            assert_eq!(resource["meta"]["security"][0]["code"], "HTEST", "{resource}");
            let subject = &resource["subject"];
            assert!(subject.is_null() || subject["display"] == "ZZTEST, AFFERENT", "{resource}");
        }
        assert!(!sent.to_string().contains("Patient?"), "no patient is looked up: {sent}");
        let text = bench.text();
        assert!(text.contains("protocol = \"fhir\"") && text.contains("patient_system = \"urn:oid"), "{text}");
        let checked = afferent(&["check", "--strict", &bench.config()]);
        assert_eq!(checked.status.code(), Some(0), "{}{}", out(&checked), err(&checked));
        let keys = afferent(&["config", "jwks", "--config", &bench.config()]);
        assert!(out(&keys).contains("\"kid\": \"1\""), "what is to be registered: {}", err(&keys));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_systemd_hands_over_is_named_in_the_configuration_and_logs_in() {
    let (dir, handed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ehr, files) = with_log_in(dir.path(), &handed.path().join("ehr-login")).await;
    let log_in = "login = \"smart\"\nclient_id = \"bench-1\"\nlogin_key = \"credential:ehr-login\"\n";
    let about = format!("{}{}{log_in}", place(&ehr, "fhir"), shown(&files.client));
    tokio::task::spawn_blocking(move || {
        let bench = Bench::new();
        let refused = set_up(&bench, &about, "");
        assert!(err(&refused).contains("`LoadCredential=ehr-login:FILE` hands it over"), "{}", err(&refused));
        // With what the failed one left.
        let answers = bench.path("answers.toml").display().to_string();
        let text = std::fs::read_to_string(&answers).unwrap() + "[test]\nsend = \"send\"\n";
        std::fs::write(&answers, text).unwrap();
        let mut again = Command::new(env!("CARGO_BIN_EXE_afferent"));
        again.args(["setup", "--config", &bench.config(), "--answers", &answers, "--json"]);
        let report = report(&again.env("CREDENTIALS_DIRECTORY", handed.path()).output().unwrap());
        assert_eq!(
            (&report["handshake"]["worked"], &report["test"]["worked"]),
            (&true.into(), &true.into()),
            "{report}"
        );
        assert_eq!(ehr.arrivals().len(), 1);
        let text = bench.text();
        assert!(text.lines().any(|line| line == "key_file = \"credential:ehr-login\""), "{text}");
    })
    .await
    .unwrap();
}

/// A FHIR server that shares nothing with ours, and its base; none where it is not installed.
fn foreign_server() -> Option<(Running, String)> {
    let modules = Path::new(&std::env::var_os("AFFERENT_PEERS")?).join("node/node_modules");
    if !modules.join("@medplum/fhir-router").is_dir() {
        return None;
    }
    let mut server = Command::new("node");
    server.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/fhir_server.cjs")).env("NODE_PATH", modules);
    let mut server = Running(server.stdout(Stdio::piped()).spawn().unwrap());
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.0.stdout.take().unwrap()), &mut port).unwrap();
    Some((server, format!("http://127.0.0.1:{}/fhir", port.trim())))
}

#[test]
fn i13_a_server_that_is_not_ours_takes_the_test_and_has_nobodys_patient_in_it() {
    let Some((_server, base)) = foreign_server() else {
        println!(
            "left out: setting a FHIR server up that is not ours (no @medplum/fhir-router: tests/all installs it)"
        );
        return;
    };
    let bench = Bench::new();
    let about = format!("kind = \"fhir\"\nurl = \"{base}\"\nunreachable = \"keep\"\n");
    let report = report(&set_up(&bench, &about, "[test]\nsend = \"send\"\n"));
    let greeted = report["handshake"]["says"].as_str().unwrap();
    assert!(greeted.contains("offers this box no CapabilityStatement (HTTP 404)"), "{greeted}");
    assert_eq!(report["test"]["worked"], true, "{report}");
    tls::provider();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kept = |kind: &str| {
        let asked = async { reqwest::get(format!("{base}/{kind}")).await?.bytes().await };
        let found: Value = serde_json::from_slice(&runtime.block_on(asked).unwrap()).unwrap();
        let all = found["entry"].as_array().cloned().unwrap_or_default();
        all.into_iter().map(|entry| entry["resource"].clone()).collect::<Vec<_>>()
    };
    let (reports, results) = (kept("DiagnosticReport"), kept("Observation"));
    assert_eq!((reports.len(), reports[0]["result"].as_array().map(Vec::len)), (1, Some(results.len())), "{reports:?}");
    assert!(!results.is_empty());
    for resource in reports.iter().chain(&results) {
        assert_eq!(resource["meta"]["security"][0]["code"], "HTEST", "{resource}");
        assert_eq!(resource["subject"]["display"], "ZZTEST, AFFERENT", "{resource}");
    }
    assert!(kept("Patient").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_a_fhir_server_must_not_get_ends_in_the_queue() {
    let ehr = Ehr::start(EhrOptions { fhir: Some("127.0.0.1:0".into()), ..EhrOptions::default() }).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let bench = Bench::new();
        let about = format!("kind = \"fhir\"\nurl = \"http://{}/fhir\"\n", ehr.fhir().unwrap());
        let report = report(&set_up(&bench, &about, "[test]\nsend = \"queue\"\n"));
        assert!(report["handshake"]["says"].as_str().unwrap().contains("without TLS"), "{report}");
        assert!(report["test"]["says"].as_str().unwrap().contains("nothing was sent"), "{report}");
        assert!(ehr.arrivals().is_empty());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_on_both_sides_are_set_up_and_what_is_wrong_with_them_is_named() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ehr, files) = secured(dir.path()).await;
    let foreign = Authority::new().unwrap().write(elsewhere.path()).unwrap();
    let plain = Ehr::start(EhrOptions {
        mllp: Some("127.0.0.1:0".into()),
        fhir: Some("127.0.0.1:0".into()),
        ..EhrOptions::default()
    });
    let plain = plain.await.unwrap();
    let right = files.client.clone();
    let cases = [
        (&ehr, ClientTls { ca: foreign.client.ca.clone(), ..right.clone() }, "is signed by \"throwaway authority"),
        (&ehr, ClientTls { cert: None, key: None, ..right.clone() }, "lets in nobody without a certificate"),
        (&ehr, ClientTls { ca: right.ca.clone(), ..foreign.client.clone() }, "does not accept this side's certificate"),
        (&plain, right.clone(), "speak TLS"),
    ];
    let mut wrong = Vec::new();
    for kind in KINDS {
        for (to, tls, says) in &cases {
            wrong.push((format!("{}{}", place(to, kind), shown(tls)), *says));
        }
    }
    let right: Vec<String> = KINDS.map(|kind| format!("{}{}", place(&ehr, kind), shown(&files.client))).to_vec();
    let (ca, key) = (files.client.ca.clone().unwrap(), foreign.client.key.clone().unwrap());
    tokio::task::spawn_blocking(move || {
        for (about, says) in wrong {
            let refused = set_up(&Bench::new(), &about, "");
            assert!(err(&refused).contains(says), "{about}: {}", err(&refused));
            assert!(err(&refused).contains("`ehr.unreachable`"), "whoever is there is asked: {}", err(&refused));
        }
        for about in right {
            let bench = Bench::new();
            let report = report(&set_up(&bench, &about, "[test]\nsend = \"send\"\n"));
            assert_eq!((&report["handshake"]["worked"], &report["test"]["worked"]), (&true.into(), &true.into()));
            assert!(bench.text().contains("[destination.tls]\nca = "), "{}", bench.text());
        }
        // What cannot be used is told before anybody is called.
        let not_a_certificate = format!("address = \"localhost:1\"\nca = {key:?}\n");
        let refused = set_up(&Bench::new(), &not_a_certificate, "");
        assert!(err(&refused).contains("holds no certificate"), "{}", err(&refused));
        let others = format!("address = \"localhost:1\"\nca = {ca:?}\ncert = {ca:?}\nkey = {key:?}\n");
        let refused = set_up(&Bench::new(), &others, "");
        assert!(err(&refused).contains("cannot be used together"), "{}", err(&refused));
    })
    .await
    .unwrap();
    drop((ehr, plain));
}

/// A proxy that looks into what goes through it: it shows a certificate of its own authority, and speaks TLS again beyond.
async fn inspecting(folder: &Path, beyond: ClientTls) -> (u16, Files) {
    let files = Authority::new().unwrap().write(folder).unwrap();
    let unasked = tls::ServerTls { client_ca: None, ..files.server.clone() };
    let acceptor = tokio_rustls::TlsAcceptor::from(tls::server(&unasked).unwrap());
    let connector = tokio_rustls::TlsConnector::from(tls::client(&beyond).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut wanted, mut line) = (String::new(), String::new());
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    if let Some(rest) = line.strip_prefix("CONNECT ") {
                        wanted = rest.split(' ').next().unwrap_or_default().to_string();
                    }
                    line.clear();
                }
                let beyond = TcpStream::connect(wanted.replace("localhost", "127.0.0.1")).await?;
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                let mut inside = acceptor.accept(stream).await?;
                let mut outside = connector.connect("localhost".try_into().unwrap(), beyond).await?;
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    (port, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_looks_into_tls_is_named_and_passed_once_it_is_trusted() {
    let (dir, between) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ehr, files) = secured(dir.path()).await;
    let (proxy, firewall) = inspecting(between.path(), files.client.clone()).await;
    let cases: Vec<_> = KINDS
        .iter()
        .map(|kind| {
            let about = |ca: &Path| format!("{}ca = {ca:?}\n", place(&ehr, kind));
            (about(&files.ca), about(&firewall.ca))
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        let network = format!("[network]\nproxy = \"http://127.0.0.1:{proxy}\"\n");
        for (hospital, trusting) in cases {
            let refused = set_up(&Bench::new(), &hospital, &network);
            let told = err(&refused);
            assert!(
                told.contains("signed by \"throwaway authority") && told.contains("a firewall looks into TLS"),
                "{told}"
            );
            assert!(told.contains("or name its authority in `ca`"), "what to do next: {told}");
            let report = report(&set_up(&Bench::new(), &trusting, &format!("{network}[test]\nsend = \"send\"\n")));
            assert_eq!(report["test"]["worked"], true, "{report}");
        }
    })
    .await
    .unwrap();
    assert_eq!(ehr.arrivals().len(), 2);
}
