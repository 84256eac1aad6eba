//! Certificates and authorities that change while the box delivers over HTTPS, as a server of Python's standard library sees
//! it: the next connection has the new ones, an answer that is waited for comes over the old one, a pair that does not fit
//! changes nothing, no session outlives its certificate, and everything arrives once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use afferent::sim::modality::exam::{Exam, Kind};
use afferent::tls::throwaway::{Authority, Identity};
use afferent::wire::mllp;

use crate::peers::{afferent, free_port, until};
use crate::site::{AE_TITLE, Site};
use crate::web::{Request, Server};

/// What the log says of files that do not work, and once they do.
const BROKEN: &str = "files of certificates, keys or passwords were changed and do not work";
const MENDED: &str = "the files of certificates, keys and passwords work again";

#[test]
fn a_fhir_server_is_shown_the_new_certificate_and_checked_by_the_new_authorities() {
    let Some(server) = Server::start(0, "certificates that change, seen by a FHIR server") else { return };
    let port = free_port();
    let more = format!(
        "[destination.fhir]\npatient_system = \"urn:oid:2.16.840.1.113883.19.5\"\n[[link]]\nname = \"chemistry\"\n\
         protocol = \"hl7\"\nunmapped = \"send-local\"\nclock_limit_s = 0\nlisten = \"127.0.0.1:{port}\"\n"
    );
    changes_while_it_delivers(server, "fhir", "fhir", &more, |_, number| {
        let specimen = format!("TUBE-{number}");
        let message = format!(
            "MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||ORU^R01^ORU_R01|{number}|P|2.5.1||||||UNICODE UTF-8\r\
             PID|1||PT{number}^^^HOSP^MR||DOE^JANE||19700101|F\rOBR|1||{specimen}|PANEL^Panel^L|||20260101120000\r\
             OBX|1|NM|2345-7^Glucose^LN||3.0|mg/dL||N|||F|||20260101120000\rSPM|1|{specimen}||SER\r"
        );
        let mut line = TcpStream::connect(("127.0.0.1", port)).unwrap();
        line.write_all(&mllp::frame(message.as_bytes())).unwrap();
        let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(&[0x1c, 0x0d]) {
            let length = line.read(&mut bytes).unwrap();
            assert!(length > 0, "the gateway hung up");
            answer.extend_from_slice(&bytes[..length]);
        }
        assert!(String::from_utf8_lossy(&answer).contains("MSA|AA|"), "{}", String::from_utf8_lossy(&answer));
        specimen
    });
}

#[test]
fn a_dicomweb_server_is_shown_the_new_certificate_and_checked_by_the_new_authorities() {
    let Some(server) = Server::start(0, "certificates that change, seen by a DICOMweb server") else { return };
    changes_while_it_delivers(server, "stow", "dicom-web", "", |site, number| {
        let object = Exam::new(Kind::Ct, 7, number, 1).object(0);
        let file = site.path("object.dcm");
        std::fs::write(&file, object.file()).unwrap();
        let sent = afferent(&["dicom", "send", &site.address(), "--called", AE_TITLE, file.to_str().unwrap()]);
        assert!(sent.status.success(), "{sent:?}");
        object.sop_instance_uid
    });
}

/// The files that the box was told of, and what the server has said so far.
struct Rotation {
    server: Server,
    cert: PathBuf,
    key: PathBuf,
    trust: PathBuf,
    log: PathBuf,
    requests: Vec<Request>,
}

impl Rotation {
    fn shows(&self, identity: &Identity) {
        std::fs::write(&self.cert, &identity.cert_pem).unwrap();
        std::fs::write(&self.key, &identity.key_pem).unwrap();
    }

    /// Waits until this has arrived; the place among the requests.
    fn arrives(&mut self, id: &str) -> usize {
        let mut found = None;
        until(&format!("{id} arrives"), || {
            self.requests.extend(self.server.requests());
            found = self.requests.iter().position(|request| request.ids.iter().any(|one| one == id));
            found.is_some()
        });
        found.unwrap()
    }

    fn log_says(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap().contains(text)
    }
}

/// `feed` has the box deliver something, and tells by which identifier the server knows it.
fn changes_while_it_delivers(
    server: Server,
    protocol: &str,
    path: &str,
    more: &str,
    feed: impl Fn(&Site, u64) -> String,
) {
    let dir = server.dir.path();
    let (old, new, newer) =
        ["box-old", "box-new", "box-newer"].map(|name| server.authority.client(name).unwrap()).into();
    let (cert, key) = old.write(dir, "box").unwrap();
    let trust = dir.join("trust.pem");
    std::fs::copy(&server.files.ca, &trust).unwrap();
    let mut site = Site::new(&format!(
        "[imaging]\nstudy_idle_s = 3600\n[[destination]]\nname = \"there\"\nprotocol = \"{protocol}\"\n\
         url = \"https://localhost:{port}/{path}\"\nconnections = 2\nretry_min_ms = 20\nretry_max_ms = 100\n\
         [destination.tls]\nca = {trust:?}\ncert = {cert:?}\nkey = {key:?}\n{more}",
        port = server.port,
    ));
    site.start();
    let mut all = Rotation { server, cert, key, trust, log: site.path("log"), requests: Vec::new() };
    let first = feed(&site, 0);
    let first = all.arrives(&first);
    assert_eq!(all.requests[first].peer, "box-old");

    // One is on its way, and its answer takes long.
    std::fs::write(all.server.kept().join("hold"), "").unwrap();
    let held = feed(&site, 1);
    let held_at = all.arrives(&held);

    // A certificate whose key is not there yet: a new connection shows the old pair.
    std::fs::write(&all.cert, &new.cert_pem).unwrap();
    let half = feed(&site, 2);
    let half = all.arrives(&half);
    assert_eq!(all.requests[half].peer, "box-old");
    assert_ne!(all.requests[half].port, all.requests[held_at].port);
    until("the log tells of it", || all.log_says(BROKEN));
    assert!(!all.log_says(MENDED));

    std::fs::write(&all.key, &new.key_pem).unwrap();
    let renewed = feed(&site, 3);
    let renewed = all.arrives(&renewed);
    assert_eq!(all.requests[renewed].peer, "box-new");
    until("the log tells that it is over", || all.log_says(MENDED));

    // All this time the first was waited for, and it is not sent again.
    std::fs::remove_file(all.server.kept().join("held")).unwrap();
    site.everything_is_delivered();

    // The server moves to another authority: it is refused until the box is told of that, and then not.
    let stranger = Authority::new().unwrap();
    let moved = stranger.server(&["localhost"]).unwrap();
    let (of_server, key_of_server) = (all.server.files.server.cert.clone(), all.server.files.server.key.clone());
    std::fs::write(of_server, &moved.cert_pem).unwrap();
    std::fs::write(key_of_server, &moved.key_pem).unwrap();
    all.shows(&newer);
    let last = feed(&site, 4);
    until("the server is not trusted", || all.log_says("the destination takes no messages"));
    std::fs::write(&all.trust, stranger.ca_pem()).unwrap();
    let last = all.arrives(&last);
    assert_eq!(all.requests[last].peer, "box-newer");
    site.everything_is_delivered();

    all.requests.extend(all.server.requests());
    let posts: Vec<&Request> = all.requests.iter().filter(|request| !request.ids.is_empty()).collect();
    assert_eq!(posts.len(), 5, "each arrives once: {posts:?}");
    assert!(posts.iter().all(|post| post.status == 200 && !post.reused), "{posts:?}");
}
