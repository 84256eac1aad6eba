//! A site that lets nothing out but through its proxy: tinyproxy, which knows its callers by name and password. And what a
//! person is told when a name is unknown, the proxy says no, or somebody on the way looks into TLS.

use crate::broker::{Broker, until};
use crate::ports::free_port;
use crate::rig::Rig;
use afferent::delivery::config::{Config, Protocol};
use afferent::delivery::reach;
use afferent::sim::ehr::{Ehr, EhrOptions};
use afferent::tls::ClientTls;
use afferent::tls::throwaway::Authority;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

struct Tinyproxy {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Tinyproxy {
    /// `None`, with a word, on a machine without it.
    fn start() -> Option<Tinyproxy> {
        let dir = tempfile::tempdir().unwrap();
        let (port, file) = (free_port(), dir.path().join("tinyproxy.conf"));
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nLogLevel Connect\nBasicAuth bench-1 s3cret\n\
             LogFile {:?}\n",
            dir.path().join("log")
        );
        std::fs::write(&file, text).unwrap();
        std::fs::write(dir.path().join("password"), "s3cret\n").unwrap();
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            println!("left out: a proxy (no tinyproxy here; tests/all installs it)");
            return None;
        };
        until("the proxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Tinyproxy { process, port, dir })
    }

    fn password(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often somebody was let through to this port.
    fn let_through(&self, port: u16) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.matches(&format!("CONNECT localhost:{port} ")).count()
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_is_reached_through_a_proxy() {
    let (Some(proxy), Some(broker)) = (Tinyproxy::start(), Broker::start()) else { return };
    let settings =
        format!("proxy = {:?}\nproxy_user = \"bench-1\"\nproxy_password_file = {:?}\n", proxy.url(), proxy.password());
    let mut rig = Rig::start_with(&broker, "bench-1", &settings).await;
    until("the box is on the bus", || rig.fleet().status().connected);
    assert!(proxy.let_through(rig.line.port) > 0, "it came by the proxy");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_is_reached_through_a_proxy_and_a_person_is_told_what_is_in_the_way() {
    let Some(proxy) = Tinyproxy::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let any = || Some("127.0.0.1:0".to_owned());
    let tls = Some(files.server.clone());
    let ehr = Ehr::start(EhrOptions { mllp: any(), fhir: any(), tls, ..EhrOptions::default() }).await.unwrap();
    let (mllp, fhir) = (ehr.mllp().unwrap().port(), ehr.fhir().unwrap().port());
    let by = |url: Option<String>, password: Option<&Path>| ClientTls {
        proxy: url,
        proxy_user: password.map(|_| "bench-1".to_owned()),
        proxy_password_file: password.map(Path::to_owned),
        ..files.client.clone()
    };
    let over_mllp = |host: &str, tls: ClientTls| Config {
        address: Some(format!("{host}:{mllp}")),
        tls: Some(tls),
        ..Config::new("ehr", Protocol::Mllp)
    };
    let over_fhir = |host: &str, tls: ClientTls| Config {
        url: Some(format!("https://{host}:{fhir}/fhir")),
        tls: Some(tls),
        ..Config::new("ehr", Protocol::Fhir)
    };
    let (right, wrong) = (proxy.password(), dir.path().join("wrong"));
    std::fs::write(&wrong, "guessed").unwrap();
    for (config, port) in [
        (over_mllp("localhost", by(Some(proxy.url()), Some(&right))), mllp),
        (over_fhir("localhost", by(Some(proxy.url()), Some(&right))), fhir),
    ] {
        assert_eq!(reach::greet(&config).await.map(drop), Ok(()));
        assert!(proxy.let_through(port) > 0, "it came by the proxy");
    }
    let nobody = Some(format!("http://127.0.0.1:{}", free_port()));
    let elsewhere = Authority::new().unwrap();
    let stranger = dir.path().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    let foreign = ClientTls { ca: Some(elsewhere.write(&stranger).unwrap().ca), ..ClientTls::default() };
    for (tls, host, said) in [
        (by(Some(proxy.url()), None), "localhost", "the proxy does not know us (407)"),
        (by(Some(proxy.url()), Some(&wrong)), "localhost", "the proxy does not let us through"),
        (by(nobody, None), "localhost", "the proxy: connection refused"),
        (by(None, None), "nobody.invalid", "the name cannot be looked up (DNS)"),
        (foreign, "localhost", "where a firewall looks into TLS"),
    ] {
        for config in [over_mllp(host, tls.clone()), over_fhir(host, tls.clone())] {
            let why = reach::greet(&config).await.unwrap_err();
            assert!(why.contains(said), "{:?}: {why}", config.protocol);
            if !said.contains("firewall") {
                assert!(reach::connect(&config).await.unwrap_err().contains(said));
            }
        }
    }
    // The signer is named: a person knows the firewall's name.
    let why =
        reach::connect(&over_mllp("localhost", ClientTls { ca: Some(stranger.join("ca.pem")), ..by(None, None) }))
            .await;
    assert!(why.as_ref().unwrap_err().contains("signed by \"throwaway authority"), "{why:?}");
    // IPv6 as well, by number.
    if let Ok(six) = tokio::net::TcpListener::bind("[::1]:0").await {
        assert_eq!(reach::handshake("[::1]", six.local_addr().unwrap().port(), None).await, Ok(()));
    }
}
