//! TLS on links: who is let in, who is spoken to, and what happens when a certificate is renewed.

use std::path::Path;
use std::sync::Arc;

use afferent::link::LinkHealth;
use afferent::sim::instrument::line::Line;
use afferent::tls::throwaway::{Authority, Files};
use afferent::tls::{self, ClientTls, ServerTls};
use afferent::wire::Protocol::{Astm, Hl7};
use afferent::wire::mllp;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rig::{Instrument, Rig, code, dial, free_port, health, link, listen, local, oru, read_message, until};

const NO_CERTIFICATE: &str = "TLS: the peer shows no certificate";
const FOREIGN: &str = "TLS: the peer's certificate is from an authority that is not trusted here";
const NOT_TLS: &str = "TLS: the peer does not speak TLS";

/// The certificates of an authority of its own, in a directory of its own.
fn certificates(rig: &Rig, name: &str) -> (Authority, Files) {
    let authority = Authority::new().unwrap();
    let dir = rig.path(name);
    std::fs::create_dir(&dir).unwrap();
    let files = authority.write(&dir).unwrap();
    (authority, files)
}

/// A listening link's TLS; `client_ca` makes it mutual.
fn listening(tls: &ServerTls, client_ca: Option<&Path>) -> String {
    let ca = client_ca.map(|file| format!("client_ca = {file:?}\n")).unwrap_or_default();
    format!("[link.tls]\ncert = {:?}\nkey = {:?}\n{ca}", tls.cert, tls.key)
}

/// An instrument's end of a TLS line.
fn secured(port: u16, tls: &ClientTls) -> Line {
    let name = ServerName::try_from("localhost").unwrap();
    Line::ConnectTls { address: local(port), tls: tls::client(tls).unwrap(), name }
}

/// What this side would trust, showing no certificate.
fn anonymous(files: &Files) -> ClientTls {
    ClientTls { ca: Some(files.ca.clone()), ..ClientTls::default() }
}

async fn handshake(port: u16, tls: &ClientTls) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(local(port)).await?;
    let connector = TlsConnector::from(tls::client(tls).unwrap());
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// Sends a message and reads the answer; `None` when the line is closed instead.
async fn ask(stream: &mut TlsStream<TcpStream>, message: &[u8]) -> Option<String> {
    stream.write_all(&mllp::frame(message)).await.ok()?;
    stream.flush().await.ok()?;
    read_message(stream).await.map(|answer| code(&answer))
}

fn counted(health: &LinkHealth, reason: &str) -> u64 {
    health.reasons.get(reason).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_speak_tls_with_and_without_client_certificates() {
    let rig = Rig::new().await;
    let (_, files) = certificates(&rig, "hospital");
    let [open, astm, hl7] = [(); 3].map(|()| free_port());
    let links = [
        link("open", "hl7", &listen(open)) + &listening(&files.server, None),
        link("mutual-astm", "astm", &listen(astm)) + &listening(&files.server, Some(&files.ca)),
        link("mutual-hl7", "hl7", &listen(hl7)) + &listening(&files.server, Some(&files.ca)),
    ];
    let gateway = rig.gateway(&links.concat()).await;
    let instruments = [
        Instrument::start(secured(open, &anonymous(&files)), Hl7, "OPEN", 5),
        Instrument::start(secured(astm, &files.client), Astm, "ASTM", 5),
        Instrument::start(secured(hl7, &files.client), Hl7, "HL7S", 5),
    ];
    for instrument in instruments {
        let (summary, books) = instrument.finishes().await;
        assert_eq!((books.len(), summary.line_losses), (5, 0));
        rig.everything_arrives(&books).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_turned_away_and_nothing_of_his_is_taken() {
    let rig = Rig::new().await;
    let (_, files) = certificates(&rig, "hospital");
    let (_, foreign) = certificates(&rig, "elsewhere");
    let port = free_port();
    let settings = link("chemistry", "hl7", &listen(port)) + &listening(&files.server, Some(&files.ca));
    let gateway = rig.gateway(&settings).await;

    // With a certificate of another authority, without any, and without TLS.
    let stranger = ClientTls { ca: Some(files.ca.clone()), ..foreign.client.clone() };
    for (tls, reason) in [(&stranger, FOREIGN), (&anonymous(&files), NO_CERTIFICATE)] {
        // In TLS 1.3 the client's handshake may end before the server has looked at its certificate.
        if let Ok(mut stream) = handshake(port, tls).await {
            assert_eq!(ask(&mut stream, &oru("S1", "STRANGER", "1.0")).await, None);
        }
        until(reason, || counted(&health(&gateway, "chemistry"), reason) == 1).await;
    }
    let mut plain = TcpStream::connect(local(port)).await.unwrap();
    plain.write_all(&mllp::frame(&oru("S2", "STRANGER", "1.0"))).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.windows(3).any(|part| part == b"MSA"), "no acknowledgement");
    until(NOT_TLS, || counted(&health(&gateway, "chemistry"), NOT_TLS) == 1).await;

    let mut known = handshake(port, &files.client).await.unwrap();
    assert_eq!(ask(&mut known, &oru("K1", "KNOWN", "2.0")).await.as_deref(), Some("AA"));
    until("the known one is in the chart", || rig.chart().len() == 1).await;
    let stats = gateway.journal().reader().unwrap().stats(0).unwrap();
    assert_eq!(stats.entries, 1, "nothing of the strangers was kept");
    drop(known);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_by_the_next_connection() {
    let rig = Rig::new().await;
    let (authority, files) = certificates(&rig, "hospital");
    let port = free_port();
    let settings = link("chemistry", "hl7", &listen(port)) + &listening(&files.server, Some(&files.ca));
    let gateway = rig.gateway(&settings).await;
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut first = handshake(port, &files.client).await.unwrap();

    // Half-way through a renewal certificate and key do not fit: the old pair stays in use, and somebody is told.
    let renewed = authority.server(&["localhost"]).unwrap();
    std::fs::write(&files.server.cert, &renewed.cert_pem).unwrap();
    let mut between = handshake(port, &files.client).await.unwrap();
    assert_eq!(shown(&between), shown(&first));
    assert_eq!(counted(&health(&gateway, "chemistry"), "a changed certificate is not used"), 1);

    std::fs::write(&files.server.key, &renewed.key_pem).unwrap();
    let mut second = handshake(port, &files.client).await.unwrap();
    assert_ne!(shown(&second), shown(&first));
    for (stream, id) in [(&mut second, "B"), (&mut between, "H"), (&mut first, "A")] {
        let answer = ask(stream, &oru(id, &format!("SPECIMEN-{id}"), "3.0")).await;
        assert_eq!(answer.as_deref(), Some("AA"), "open connections go on");
    }

    // A client authority that was replaced takes effect alike: who was known is a stranger now.
    let (_, other) = certificates(&rig, "merged");
    std::fs::copy(&other.ca, &files.ca).unwrap();
    let trusting_both = ClientTls { ca: Some(rig.path("old.pem")), ..files.client.clone() };
    std::fs::write(rig.path("old.pem"), authority.ca_pem()).unwrap();
    if let Ok(mut stream) = handshake(port, &trusting_both).await {
        assert_eq!(ask(&mut stream, &oru("C", "SPECIMEN-C", "3.0")).await, None);
    }
    until(FOREIGN, || counted(&health(&gateway, "chemistry"), FOREIGN) == 1).await;
    drop((first, between, second));
    gateway.stop().await;
}

/// A TLS front before a plain instrument that listens: what a dialled instrument with TLS is.
async fn front(tls: &ServerTls, port: u16, instrument: u16) -> JoinHandle<()> {
    let listener = TcpListener::bind(local(port)).await.unwrap();
    let acceptor = TlsAcceptor::from(tls::server(tls).unwrap());
    tokio::spawn(async move {
        let acceptor = Arc::new(acceptor);
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let Ok(mut inside) = TcpStream::connect(local(instrument)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn diallers_show_their_certificate_and_check_the_peers() {
    let rig = Rig::new().await;
    let (_, files) = certificates(&rig, "hospital");
    let (_, foreign) = certificates(&rig, "elsewhere");
    let [astm, hl7, behind_astm, behind_hl7] = [(); 4].map(|()| free_port());
    let ca = format!("[link.tls]\nserver_name = \"localhost\"\nca = {:?}\n", files.ca);
    let pair =
        format!("cert = {:?}\nkey = {:?}\n", files.client.cert.as_ref().unwrap(), files.client.key.as_ref().unwrap());
    let links = [link("astm", "astm", &dial(astm)) + &ca, link("hl7", "hl7", &dial(hl7)) + &ca + &pair];

    // An impostor answers first: nobody tells him anything.
    let impostor = front(&foreign.server, astm, behind_astm).await;
    // This one demands a certificate; the link of the other protocol does not have to show one.
    let _demanding = front(&files.server, hl7, behind_hl7).await;
    let gateway = rig.gateway(&links.concat()).await;
    until(FOREIGN, || counted(&health(&gateway, "astm"), FOREIGN) >= 2).await;
    assert_eq!(health(&gateway, "astm").messages, 0);
    impostor.abort();
    let _ = impostor.await;
    let undemanding = ServerTls { client_ca: None, ..files.server.clone() };
    let _right = front(&undemanding, astm, behind_astm).await;

    let instruments = [
        Instrument::start(Line::Listen(local(behind_astm)), Astm, "ASTM", 5),
        Instrument::start(Line::Listen(local(behind_hl7)), Hl7, "HL7S", 5),
    ];
    for instrument in instruments {
        let (_, books) = instrument.finishes().await;
        assert_eq!(books.len(), 5);
        rig.everything_arrives(&books).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_without_the_certificate_that_is_demanded_says_why_it_fails() {
    let rig = Rig::new().await;
    let (_, files) = certificates(&rig, "hospital");
    let (port, behind) = (free_port(), free_port());
    let _demanding = front(&files.server, port, behind).await;
    let settings = format!("[link.tls]\nserver_name = \"localhost\"\nca = {:?}\n", files.ca);
    let gateway = rig.gateway(&(link("astm", "astm", &dial(port)) + &settings)).await;
    let reason = "TLS: the peer does not accept this side; does it trust our certificate?";
    until(reason, || counted(&health(&gateway, "astm"), reason) >= 1).await;
    gateway.stop().await;
}
