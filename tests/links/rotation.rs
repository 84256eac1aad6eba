//! Certificates that change while the gateway runs, as openssl sees it from the other end of the line: the next connection
//! has the new one, the one in use goes on, files that do not work change nothing, and no session outlives them.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use afferent::tls::ServerTls;
use afferent::tls::throwaway::Authority;
use afferent::wire::mllp;

use crate::rig::{Rig, free_port, link, listen, local, oru, until};

/// A running openssl, and what it has printed.
struct Openssl {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Openssl {
    fn start(args: &[&str], dir: &Path) -> Option<Openssl> {
        let command = Command::new("openssl")
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = command else {
            println!("left out: certificates that change, seen by openssl (no openssl here)");
            return None;
        };
        let (printed, mut stdout) = (Arc::<Mutex<Vec<u8>>>::default(), child.stdout.take().unwrap());
        let all = printed.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                all.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Some(Openssl { child, printed })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned()
    }

    /// Tells the peer something.
    fn say(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap();
    }

    /// The certificate that the peer showed, as PEM text, once it has.
    async fn shown(&self) -> String {
        let pem = || {
            let text = self.text();
            let from = text.find("-----BEGIN CERTIFICATE-----")?;
            let end = "-----END CERTIFICATE-----";
            Some(text[from..from + text[from..].find(end)? + end.len()].to_string())
        };
        until("openssl prints the certificate", || pem().is_some() && self.text().contains("TLSv1.")).await;
        pem().unwrap()
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `openssl s_client` as a modality or an instrument.
fn calls(port: u16, dir: &Path, more: &[&str]) -> Option<Openssl> {
    let address = local(port);
    let own = ["s_client", "-connect", &address, "-CAfile", "ca.pem", "-cert", "client.pem", "-key", "client.key"];
    Openssl::start(&[&own[..], more].concat(), dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_show_the_new_certificate_and_keep_their_connections() {
    let rig = Rig::new().await;
    let authority = Authority::new().unwrap();
    let files = authority.write(rig.dir.path()).unwrap();
    let (hl7, dicom) = (free_port(), free_port());
    let ServerTls { cert, key, .. } = &files.server;
    let tls = format!("cert = {cert:?}\nkey = {key:?}\nclient_ca = {:?}\n", files.ca);
    let settings = link("chemistry", "hl7", &listen(hl7))
        + "[link.tls]\n"
        + &tls
        + &format!("[dicom]\nlisten_tls = \"{}\"\n[dicom.tls]\n{tls}", local(dicom));
    let gateway = rig.gateway(&settings).await;
    for port in [hl7, dicom] {
        let Some(mut first) = calls(port, rig.dir.path(), &["-quiet", "-ign_eof"]) else { return };
        if port == hl7 {
            first.say(&mllp::frame(&oru("0", "SPECIMEN-0", "3.0")));
            until("a connection is in use", || first.text().contains("MSA|AA|0")).await;
        }
        let Some(before) = calls(port, rig.dir.path(), &[]) else { return };
        let before = before.shown().await;
        let renewed = authority.server(&["localhost", "127.0.0.1"]).unwrap();
        std::fs::write(cert, &renewed.cert_pem).unwrap();
        let between = calls(port, rig.dir.path(), &[]).unwrap().shown().await;
        assert_eq!(between, before, "half of a renewal changes nothing");
        std::fs::write(key, &renewed.key_pem).unwrap();
        let after = calls(port, rig.dir.path(), &[]).unwrap().shown().await;
        assert_eq!(after.replace(['\r', '\n'], ""), renewed.cert_pem.trim().replace(['\r', '\n'], ""));
        if port == hl7 {
            first.say(&mllp::frame(&oru("A", "SPECIMEN-A", "3.0")));
            until("the connection in use goes on", || first.text().contains("MSA|AA|A")).await;
        }
        assert!(first.child.try_wait().unwrap().is_none(), "it was not hung up");

        // TLS 1.2 has session ids, 1.3 tickets; neither is resumed.
        for version in ["-tls1_2", "-tls1_3"] {
            let mut one = calls(port, rig.dir.path(), &[version, "-sess_out", "session"]).unwrap();
            one.shown().await;
            drop(one.child.stdin.take());
            let _ = one.child.wait();
            if !rig.path("session").exists() {
                continue;
            }
            let again = calls(port, rig.dir.path(), &[version, "-sess_in", "session"]).unwrap();
            again.shown().await;
            assert!(!again.text().contains("Reused, "), "{}", again.text());
            std::fs::remove_file(rig.path("session")).unwrap();
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_shown_the_new_certificate_and_checked_by_the_new_authorities() {
    let rig = Rig::new().await;
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let files = authority.write(rig.dir.path()).unwrap();
    authority.client("box-old").unwrap().write(rig.dir.path(), "box").unwrap();
    let (port, instrument) = (free_port(), free_port());
    let serve = || {
        let accept = local(port);
        let args = ["s_server", "-accept", &accept, "-cert", "server.pem", "-key", "server.key", "-Verify", "1"];
        Openssl::start(&[&args[..], &["-CAfile", "ca.pem", "-verify_return_error"]].concat(), rig.dir.path())
    };
    let Some(ehr) = serve() else { return };
    let theirs = format!(
        "[[destination]]\nname = \"theirs\"\naddress = \"{}\"\nretry_min_ms = 20\nretry_max_ms = 100\n\
         ack_timeout_ms = 1000\n[destination.tls]\nca = {ca:?}\nserver_name = \"localhost\"\ncert = {cert:?}\nkey = {key:?}\n",
        local(port),
        ca = rig.path("trust.pem"),
        cert = rig.path("box.pem"),
        key = rig.path("box.key"),
    );
    std::fs::copy(&files.ca, rig.path("trust.pem")).unwrap();
    let gateway = rig.gateway(&(link("chemistry", "hl7", &listen(instrument)) + &theirs)).await;
    let mut stream = tokio::net::TcpStream::connect(local(instrument)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &mllp::frame(&oru("A", "SPECIMEN-A", "3.0"))).await.unwrap();
    // It acknowledges nothing, so that the box comes again and again.
    until("the EHR sees the certificate", || ehr.text().contains("box-old")).await;

    // A certificate whose key is not there yet: the old pair is shown still.
    let renewed = authority.client("box-new").unwrap();
    let seen = || ehr.text().matches("box-old").count();
    let before = seen();
    std::fs::write(rig.path("box.pem"), &renewed.cert_pem).unwrap();
    until("it comes with the old pair", || seen() > before + 2).await;
    assert!(!ehr.text().contains("box-new"));
    std::fs::write(rig.path("box.key"), &renewed.key_pem).unwrap();
    until("the EHR sees the new one", || ehr.text().contains("box-new")).await;

    // The EHR moves to another authority: it is refused until the box is told, and then not.
    drop(ehr);
    let server = stranger.server(&["localhost"]).unwrap();
    server.write(rig.dir.path(), "server").unwrap();
    let Some(ehr) = serve() else { return };
    std::fs::write(rig.path("trust.pem"), [authority.ca_pem(), stranger.ca_pem()].concat()).unwrap();
    until("the EHR is trusted", || ehr.text().contains("box-new")).await;
    gateway.stop().await;
}
