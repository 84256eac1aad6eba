//! A page: one document without anything from elsewhere, served over TLS to whoever has the token, and what it asks for.
//! The desk shows its fleet so ([`crate::desk::page`]), and a box itself ([`crate::console`]).
//!
//! The token stands behind the `#` of the address, which browsers do not send; the page sends it as `Authorization:
//! Bearer`, which no other site can make it do. A browser runs nothing but the one script of the page, by its digest
//! (Content-Security-Policy), and a script makes text of what it is told, never markup.

mod body;

use crate::disk;
use crate::tls::{self, Doorkeeper, ServerTls, TlsError};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{SHA256, digest};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use tokio_rustls::TlsAcceptor;

pub use body::Payload;

/// Connections at once; browsers hold a few each.
const CONNECTIONS_MAX: usize = 256;
/// A request's head and a handshake take no longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody can be accepted for this long when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of the token.
const TOKEN_BYTES: usize = 32;
/// The token's file.
pub const TOKEN: &str = "page.token";
const CERT: &str = "page.pem";
const KEY: &str = "page.key";
/// What lies beside what is shown, and goes with a factory reset.
pub(crate) const NAMES: &[&str] = &[TOKEN, CERT, KEY];
/// What `answer` says a text is.
const PLAIN: &str = "text/plain";

/// In front of every script: the token, and how the stream of events is followed.
const FOLLOW: &str = include_str!("page/follow.js");

/// The events of a stream (HTML, 9.2).
pub type Ticks = broadcast::Receiver<Arc<str>>;

/// The document: markup with the places `/* style */` and `/* script */`, and what comes there.
pub struct Document {
    /// HTML.
    pub markup: &'static str,
    /// CSS.
    pub style: &'static str,
    /// JavaScript, behind `page/follow.js`.
    pub script: &'static str,
}

/// What is shown to whoever has the token.
pub trait Content: Send + Sync + 'static {
    /// Where the stream of events is.
    fn stream_path(&self) -> &'static str;
    /// Everything, as an event, and those that come behind it.
    fn follow(&self) -> (Arc<str>, Ticks);
    /// What else is at this path, as JSON.
    fn json(&self, path: &str) -> Option<String>;
}

/// An event of the stream (HTML, 9.2): JSON has no line ends.
pub fn event(kind: &str, data: &serde_json::Value) -> Arc<str> {
    format!("event: {kind}\ndata: {data}\n\n").into()
}

/// The token kept in this folder; without the file a new one that nobody can guess.
///
/// # Errors
/// The file cannot be written, or the system has no random numbers.
pub fn token(folder: &Path) -> Result<String> {
    let file = folder.join(TOKEN);
    match std::fs::read_to_string(&file) {
        Ok(token) => return Ok(token.trim().to_string()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut bytes = [0; TOKEN_BYTES];
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, &mut bytes)
        .map_err(|_| Error::other("the system has no random numbers"))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    disk::replace_secret(&file, token.as_bytes())?;
    Ok(token)
}

/// A certificate for loopback that nobody else has signed, kept in this folder so that a browser that was told to trust
/// it does so again.
///
/// # Errors
/// It cannot be made or written.
pub fn own_certificate(folder: &Path) -> Result<ServerTls> {
    let (cert, key) = (folder.join(CERT), folder.join(KEY));
    let own = ServerTls { cert, key, client_ca: None };
    // One that cannot be used, as it is half of a pair or of another owner, is nobody's loss.
    if tls::server(&own).is_err() {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_string).to_vec();
        let made = rcgen::generate_simple_self_signed(names).map_err(Error::other)?;
        disk::replace_secret(&own.key, made.signing_key.serialize_pem().as_bytes())?;
        disk::replace(&own.cert, made.cert.pem().as_bytes())?;
    }
    Ok(own)
}

/// Who serves the page.
pub struct Server {
    content: Arc<dyn Content>,
    door: Mutex<Doorkeeper>,
    /// SHA-256, so that the time a comparison takes says nothing.
    token: Vec<u8>,
    page: String,
    policy: HeaderValue,
    seats: Arc<Semaphore>,
}

impl Server {
    /// Over this TLS, to whoever has this token.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(
        content: Arc<dyn Content>,
        document: &Document,
        settings: &ServerTls,
        token: &str,
    ) -> std::result::Result<Arc<Server>, TlsError> {
        let door = Mutex::new(Doorkeeper::new(settings.clone())?);
        let token = hash(token);
        let script = [FOLLOW, document.script].concat();
        let page = document.markup.replace("/* style */", document.style).replace("/* script */", &script);
        let source = |text: &str| BASE64_STANDARD.encode(hash(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source(&script),
            source(document.style)
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Arc::new(Server { content, door, token, page, policy, seats }))
    }

    /// Serves until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(seat) = self.seats.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (server, acceptor) = (self.clone(), self.acceptor());
            tokio::spawn(async move {
                let _seat = seat;
                let accepted = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await;
                let Ok(Ok(stream)) = accepted else { return };
                let service = service_fn(|request| std::future::ready(Ok::<_, hyper::Error>(server.answer(&request))));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    /// With the certificate as it is now: one that was renewed counts from the next connection.
    fn acceptor(&self) -> TlsAcceptor {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.acceptor(|what, why| tracing::warn!("{what}: {why}"))
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Payload> {
        let path = request.uri().path();
        let (status, kind, payload) = if request.method() != Method::GET {
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, Payload::text("GET only\n"))
        } else if path == "/" {
            (StatusCode::OK, "text/html; charset=utf-8", Payload::text(&self.page))
        } else if !self.is_let_in(request) {
            (StatusCode::UNAUTHORIZED, PLAIN, Payload::text("the token is wrong\n"))
        } else if path == self.content.stream_path() {
            (StatusCode::OK, "text/event-stream", Payload::stream(self.content.clone()))
        } else if let Some(json) = self.content.json(path) {
            (StatusCode::OK, "application/json", Payload::text(&json))
        } else {
            (StatusCode::NOT_FOUND, PLAIN, Payload::text("there is nothing here\n"))
        };
        let mut response = Response::new(payload);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        let fixed: [(HeaderName, &'static str); 3] = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn is_let_in(&self, request: &Request<Incoming>) -> bool {
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| hash(token) == self.token)
    }
}

fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_cannot_be_used_is_made_anew_and_one_that_can_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let own = own_certificate(dir.path()).unwrap();
        let first = std::fs::read(&own.cert).unwrap();
        assert!(own_certificate(dir.path()).is_ok() && std::fs::read(&own.cert).unwrap() == first);
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(own_certificate(other.path()).unwrap().key, &own.key).unwrap();
        assert!(tls::server(&own_certificate(dir.path()).unwrap()).is_ok(), "a crash left the key of another");
        assert_ne!(std::fs::read(&own.cert).unwrap(), first);
        assert_eq!(token(dir.path()).unwrap(), token(dir.path()).unwrap());
    }
}
