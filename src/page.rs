//! Pages, served over TLS: the desk shows its fleet so ([`crate::desk::page`]), and a box itself ([`crate::console`]). What
//! is shown, and to whom, is said by a [`Site`]: [`document`] is the one of a single page for whoever has a token.
//!
//! Connections are bounded and their buffers small, as a box has little memory; who is silent or takes no answer keeps
//! nobody else out (`page/seats.rs`). What is no request at all (400), and a head that is too long (431), hyper answers
//! before a site is asked: with a status and nothing else, so without the headers that a site sends with all it shows.

mod body;
pub mod document;
mod seats;

use crate::disk;
use crate::tls::{self, Doorkeeper, ServerTls, TlsError};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::ServerName;
use seats::{Seat, Seats};
use socket2::SockRef;
use std::io::{Error, Result};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;

pub use body::Payload;
pub use seats::Limits;

/// A request's head, its body and a handshake take no longer each.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever takes nothing of what they are sent for this long is gone: the system ends the connection, also where nobody
/// else needs its place.
const UNREAD_MAX: Duration = Duration::from_secs(20);
/// Most of a connection in memory that is read or written; a head is no longer. Left alone, hyper takes 417 kB.
const BUFFER_MAX: usize = 16 << 10;
/// Most of a connection in the system's memory that is not taken yet, which counts as the service's: of what is sent, and
/// of what comes in. Left alone, the system takes megabytes.
const SEND_MAX: usize = 64 << 10;
const RECEIVE_MAX: usize = 32 << 10;
/// Nobody can be accepted for this long when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// Largest body of a request: forms are small.
pub const BODY_MAX: usize = 16 << 10;
/// So much of a larger one is read still, for whoever sends it to come to the answer.
const DRAINED_MAX: usize = 1 << 20;
const CERT: &str = "page.pem";
const KEY: &str = "page.key";
/// What lies beside what is shown, and goes with a factory reset. A token in the data of a box is of an older release.
pub(crate) const NAMES: &[&str] = &[document::TOKEN, CERT, KEY];

/// The events of a stream (HTML, 9.2).
pub type Ticks = broadcast::Receiver<Arc<str>>;

/// What a stream of events is made of.
pub trait Feed: Send + Sync + 'static {
    /// Everything, as an event, and those that come behind it.
    fn follow(&self) -> (Arc<str>, Ticks);

    /// False once whoever follows may not any more.
    fn goes_on(&self) -> bool {
        true
    }
}

/// A request as it came in.
pub struct Asked {
    /// GET, POST and others.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// Its head.
    pub headers: HeaderMap,
    /// Its body, or why there is none: too large, or too slow.
    pub body: std::result::Result<Bytes, StatusCode>,
    /// Who asks.
    pub peer: IpAddr,
}

/// Who answers requests.
pub trait Site: Send + Sync + 'static {
    /// The whole answer, with every header that it is to have.
    fn answer(self: Arc<Self>, asked: Asked) -> BoxFuture<'static, Response<Payload>>;
}

/// An event of the stream (HTML, 9.2): JSON has no line ends.
pub fn event(kind: &str, data: &serde_json::Value) -> Arc<str> {
    format!("event: {kind}\ndata: {data}\n\n").into()
}

/// A certificate for loopback, these names and addresses, and others as they are now, that nobody else has signed. It is
/// kept in this folder, so that a browser that was told to trust it does so again, as long as it is for `names`: other
/// addresses come and go.
///
/// # Errors
/// It cannot be made or written.
pub fn own_certificate(folder: &Path, names: &[String], others: &[String]) -> Result<ServerTls> {
    let (cert, key) = (folder.join(CERT), folder.join(KEY));
    let own = ServerTls { cert, key, client_ca: None };
    // One that cannot be used, as it is half of a pair, of another owner or for other names, is nobody's loss.
    if tls::server(&own).is_err() || !is_for(&own.cert, names) {
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_string);
        let all: Vec<String> = loopback.iter().chain(names).chain(others).cloned().collect();
        let made = rcgen::generate_simple_self_signed(all).map_err(Error::other)?;
        disk::replace_secret(&own.key, made.signing_key.serialize_pem().as_bytes())?;
        disk::replace(&own.cert, made.cert.pem().as_bytes())?;
    }
    Ok(own)
}

/// Whether the certificate in this file is for all of these names.
fn is_for(cert: &Path, names: &[String]) -> bool {
    let Ok(certificates) = tls::certificates(cert) else { return false };
    let Some(parsed) = certificates.first().and_then(|first| ParsedCertificate::try_from(first).ok()) else {
        return false;
    };
    let is_in = |name: &String| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    names.iter().all(is_in)
}

/// Who serves a site.
pub struct Server {
    site: Arc<dyn Site>,
    door: Mutex<Doorkeeper>,
    seats: Arc<Seats>,
}

impl Server {
    /// Over this TLS, to so many at once.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(
        site: Arc<dyn Site>,
        settings: &ServerTls,
        limits: Limits,
    ) -> std::result::Result<Arc<Server>, TlsError> {
        let door = Mutex::new(Doorkeeper::new(settings.clone())?);
        Ok(Arc::new(Server { site, door, seats: Seats::new(limits) }))
    }

    /// Serves until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Whoever finds no place is hung up on: all of them are being answered.
            let Some(seat) = self.seats.take(peer.ip()) else { continue };
            let (server, seat) = (self.clone(), Arc::new(seat));
            tokio::spawn(async move {
                tokio::select! {
                    () = seat.gives_way() => {}
                    () = server.talk(stream, peer.ip(), &seat) => {}
                }
            });
        }
    }

    async fn talk(&self, stream: TcpStream, peer: IpAddr, seat: &Arc<Seat>) {
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(UNREAD_MAX));
        let _ = socket.set_send_buffer_size(SEND_MAX).and_then(|()| socket.set_recv_buffer_size(RECEIVE_MAX));
        let accepted = tokio::time::timeout(PART_TIMEOUT, self.acceptor().accept(stream)).await;
        let Ok(Ok(stream)) = accepted else { return };
        let service = service_fn(|request| {
            let (site, seat) = (self.site.clone(), seat.clone());
            async move {
                let asked = asked(request, peer).await;
                let answering = seat.answers();
                Ok::<_, hyper::Error>(site.answer(asked).await.map(|payload| payload.keeping(answering)))
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PART_TIMEOUT).max_buf_size(BUFFER_MAX);
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    /// With the certificate as it is now: one that was renewed counts from the next connection.
    fn acceptor(&self) -> TlsAcceptor {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.acceptor(|what, why| tracing::warn!("{what}: {why}"))
    }
}

async fn asked(request: Request<Incoming>, peer: IpAddr) -> Asked {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(PART_TIMEOUT, read(body)).await;
    let body = body.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT));
    Asked { method: head.method, path: head.uri.path().to_string(), headers: head.headers, body, peer }
}

async fn read(mut body: Incoming) -> std::result::Result<Bytes, StatusCode> {
    let (mut kept, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(StatusCode::BAD_REQUEST) };
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length > DRAINED_MAX {
            break;
        }
        if length <= BODY_MAX {
            kept.extend_from_slice(&data);
        }
    }
    if length > BODY_MAX { Err(StatusCode::PAYLOAD_TOO_LARGE) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_cannot_be_used_is_made_anew_and_one_that_can_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let own = own_certificate(dir.path(), &[], &[]).unwrap();
        let first = std::fs::read(&own.cert).unwrap();
        assert!(own_certificate(dir.path(), &[], &[]).is_ok() && std::fs::read(&own.cert).unwrap() == first);
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(own_certificate(other.path(), &[], &[]).unwrap().key, &own.key).unwrap();
        assert!(
            tls::server(&own_certificate(dir.path(), &[], &[]).unwrap()).is_ok(),
            "a crash left the key of another"
        );
        let second = std::fs::read(&own.cert).unwrap();
        assert_ne!(second, first);
        let names = ["bench-1.lab".to_string(), "192.0.2.7".to_string()];
        own_certificate(dir.path(), &names[..1], &names[1..]).unwrap();
        let third = std::fs::read(&own.cert).unwrap();
        assert_ne!(third, second, "it was for other names");
        assert!(is_for(&own.cert, &names) && is_for(&own.cert, &["localhost".to_string()]));
        for (names, others) in [(&names[1..], &names[..0]), (&names[..1], &["192.0.2.8".to_string()])] {
            own_certificate(dir.path(), names, others).unwrap();
            assert_eq!(std::fs::read(&own.cert).unwrap(), third, "it is for those as well, and others come and go");
        }
    }
}
