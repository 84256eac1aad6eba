//! STOW-RS to a server of Python's standard library behind a client certificate and a token.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use afferent::delivery::config::{Config, OAuth, Protocol};
use afferent::delivery::instance::{Images, Reference};
use afferent::delivery::stow::Stow;
use afferent::delivery::window::Pace;
use afferent::delivery::{Destination, Outcome, Scope};
use afferent::tls::ClientTls;
use afferent::tls::throwaway::{Authority, Files};
use serde::Deserialize;

use crate::forward::{Spool, assert_delivered, objects, send};
use crate::peers::{PATIENCE, needed};

/// The server of `tests/peers/web_server.py`.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) files: Files,
    pub(crate) port: u16,
    lines: Receiver<String>,
    process: Child,
}

/// What it said of a request.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) status: u64,
    /// The common name of the client's certificate.
    pub(crate) peer: String,
    /// Of the connection.
    pub(crate) port: u64,
    /// Whether the TLS session is one of before.
    pub(crate) reused: bool,
    /// SOP Instance UIDs, or identifiers of specimens.
    pub(crate) ids: Vec<String>,
}

impl Server {
    /// A server whose tokens are good for so many posts; with 0 it wants none.
    pub(crate) fn start(uses: u32, what: &str) -> Option<Server> {
        let python = needed("python3", what)?;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let files = authority.write(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("kept")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/web_server.py");
        let mut command = Command::new(python);
        command.arg(script).arg(&files.server.cert).arg(&files.server.key).arg(&files.ca);
        command.arg(dir.path().join("kept")).arg(uses.to_string());
        // A client that is turned away at the door is told there, not here.
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (told, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let port = lines.recv_timeout(PATIENCE).unwrap().parse().unwrap();
        Some(Server { dir, authority, files, port, lines, process })
    }

    pub(crate) fn kept(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    /// A destination that logs in there with this certificate.
    fn config(&self, tls: ClientTls) -> Config {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let key_file = self.dir.path().join("oauth.key");
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let base = format!("https://127.0.0.1:{}", self.port);
        let oauth = OAuth {
            token_url: Some(format!("{base}/token")),
            client_id: "bench-1".into(),
            kid: "2026".into(),
            key_file,
            ..OAuth::default()
        };
        let url = Some(format!("{base}/dicom-web"));
        Config { url, tls: Some(tls), oauth: Some(oauth), ..Config::new("web", Protocol::Stow) }
    }

    /// What it said of the requests since the last time.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.lines.try_iter().map(|line| serde_json::from_str(&line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn stow(config: Config, spool: &Spool) -> Stow {
    assert_eq!(config.problems(), []);
    Stow::new(Arc::new(config), Images::unchanged(spool.path().to_owned()), Pace::new(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_certificate_and_token_gets_every_object_as_it_is() {
    let Some(server) = Server::start(3, "STOW-RS with mutual TLS and a token") else { return };
    let spool = Spool::new();
    let mut web = stow(server.config(server.files.client.clone()), &spool);
    let objects = objects();
    for object in &objects {
        assert_delivered(&send(&mut web, &spool, object).await);
        let kept = std::fs::read(server.kept().join(format!("{}.dcm", object.sop_instance_uid))).unwrap();
        assert!(kept == object.file(), "{} was changed on the way", object.sop_instance_uid);
    }
    let requests = server.requests();
    let posts = |status: u64| requests.iter().filter(|r| r.path == "/dicom-web/studies" && r.status == status).count();
    // A token that is used up costs a new one, not an attempt.
    assert_eq!((posts(200), posts(401)), (objects.len(), (objects.len() - 1) / 3));
    assert_eq!(requests.iter().filter(|r| r.path == "/token").count(), 1 + posts(401));
    assert!(requests.iter().all(|r| r.peer == "afferent"), "{requests:?}");
    let connections: BTreeSet<u64> = requests.iter().map(|r| r.port).collect();
    assert!(connections.len() < requests.len(), "no connection was used twice: {requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_certificate_or_a_strangers_gets_nothing_through() {
    let Some(server) = Server::start(9, "STOW-RS with mutual TLS") else { return };
    let spool = Spool::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Authority::new().unwrap().write(elsewhere.path()).unwrap();
    let ours = server.files.client.clone();
    let anonymous = ClientTls { cert: None, key: None, ..ours.clone() };
    let unknown = ClientTls { cert: stranger.client.cert, key: stranger.client.key, ..ours.clone() };
    let trusts_others = ClientTls { ca: Some(stranger.ca), ..ours };
    for tls in [anonymous, unknown, trusts_others] {
        let outcome = send(&mut stow(server.config(tls), &spool), &spool, &objects()[0]).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Destination, .. }), "{outcome:?}");
    }
    assert_eq!(server.requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_of_each_object_decides_about_it() {
    let Some(server) = Server::start(99, "STOW-RS with failures") else { return };
    let spool = Spool::new();
    let mut web = stow(server.config(server.files.client.clone()), &spool);
    let objects = objects();
    std::fs::write(server.kept().join("refused"), &objects[0].sop_instance_uid).unwrap();
    let outcome = send(&mut web, &spool, &objects[0]).await;
    assert!(matches!(&outcome, Outcome::Doubted { reason } if reason.starts_with("C000")), "{outcome:?}");
    let body = spool.keep(&objects[1]);
    assert_delivered(&web.deliver("1", &body).await);
    assert_delivered(&web.deliver("1", &body).await);
    // Another image of the same UID.
    let mut other = objects[1].clone();
    other.data_set.truncate(other.data_set.len() - 2);
    let reference: Reference = serde_json::from_slice(&spool.keep(&other)).unwrap();
    let outcome = web.deliver("1", &Reference { conflict: true, ..reference }.body()).await;
    assert!(matches!(&outcome, Outcome::Refused { reason } if reason.starts_with("0111")), "{outcome:?}");
}
