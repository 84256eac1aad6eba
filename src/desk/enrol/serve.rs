//! The endpoint at which boxes enrol and renew: EST (RFC 7030) over HTTPS, so that what speaks EST can enrol here, and a box
//! elsewhere.
//!
//! | path | who | answer |
//! |---|---|---|
//! | `GET /.well-known/est/cacerts` | anybody | root and issuing certificate (4.1) |
//! | `POST /.well-known/est/simpleenroll` | who has the key it asks for | 202 and Retry-After until a person accepts, then 200 (4.2.1, 4.2.3) |
//! | `POST /.well-known/est/simplereenroll` | who shows the certificate it has, in TLS | 200, or 403 (4.2.2) |
//!
//! Bodies are base64 of PKCS#10 and of certs-only PKCS#7. The endpoint's own certificate is made when it starts, and again
//! each day, and is not kept.

use super::{Answer, EnrolError, Registry};
use crate::desk::authority::{Authority, Use};
use crate::tls::request::{PublicKey, REQUEST_MAX_BYTES};
use crate::tls::{self, certs_only};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Where EST lies (RFC 7030, 3.2.2).
pub const EST: &str = "/.well-known/est";
/// Base64 of the longest request, with line breaks.
const BODY_MAX_BYTES: usize = 2 * REQUEST_MAX_BYTES;
/// Connections at once; boxes that find no room come again.
const CONNECTIONS_MAX: usize = 256;
/// A box has a question or two: its connection ends after this.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// The endpoint's own certificate lives for this long and is made anew each day.
const OWN_LIFE_S: i64 = 7 * 24 * 3600;
const OWN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// An endpoint that listens.
pub struct Endpoint {
    socket: TcpListener,
    names: Vec<String>,
    authority: PathBuf,
    state: Arc<State>,
    acceptor: Option<(Instant, TlsAcceptor)>,
}

struct State {
    registry: Mutex<Registry>,
    authority: PathBuf,
}

impl Endpoint {
    /// Binds the address. `names` are the names and addresses by which boxes reach it; `authority` is its folder.
    ///
    /// # Errors
    /// In words for the person at the desk.
    pub async fn bind(
        address: &str,
        names: Vec<String>,
        authority: PathBuf,
        registry: Registry,
    ) -> Result<Endpoint, String> {
        let socket = TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}"))?;
        let state = Arc::new(State { registry: Mutex::new(registry), authority: authority.clone() });
        let mut endpoint = Endpoint { socket, names, authority, state, acceptor: None };
        endpoint.acceptor()?;
        Ok(endpoint)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the process ends.
    pub async fn serve(mut self) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok((stream, _)) = self.socket.accept().await else {
                // Out of descriptors, most likely.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
            let acceptor = match self.acceptor() {
                Ok(acceptor) => acceptor,
                Err(why) => {
                    tracing::error!(event = "desk-trouble", "nobody can enrol: {why}");
                    continue;
                }
            };
            let state = self.state.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(CONNECTION_MAX, converse(stream, acceptor, state)).await;
                drop(seat);
            });
        }
    }

    fn acceptor(&mut self) -> Result<TlsAcceptor, String> {
        if let Some((made, acceptor)) = &self.acceptor
            && made.elapsed() < OWN_EVERY
        {
            return Ok(acceptor.clone());
        }
        let authority = Authority::open(&self.authority).map_err(|e| e.to_string())?;
        let now_s = now_s();
        let own = authority.make(&Use::Server(self.names.clone()), now_s, now_s + OWN_LIFE_S);
        let (signed, key) = own.map_err(|e| e.to_string())?;
        let config = tls::server_that_asks(signed.chain, &key, authority.roots()).map_err(|e| e.to_string())?;
        let acceptor = TlsAcceptor::from(config);
        self.acceptor = Some((Instant::now(), acceptor.clone()));
        Ok(acceptor)
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::info!("a box was turned away: {}", tls::failure(&error)),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|shown| shown.clone().into_owned());
    let service = service_fn(|request| answer(request, &state, shown.as_ref()));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(CONNECTION_MAX);
    // Every error here is the client's own.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    state: &Arc<State>,
    shown: Option<&CertificateDer<'static>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let (path, wanted) = match head.uri.path().strip_prefix(EST) {
        Some("/cacerts") => ("/cacerts", Method::GET),
        Some("/simpleenroll") => ("/simpleenroll", Method::POST),
        Some("/simplereenroll") => ("/simplereenroll", Method::POST),
        _ => return Ok(plain(StatusCode::NOT_FOUND, "this is an enrolment endpoint: EST, RFC 7030")),
    };
    if head.method != wanted {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(if path == "/cacerts" { "GET" } else { "POST" }));
        return Ok(response);
    }
    let Ok(body) = Limited::new(body, BODY_MAX_BYTES).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "this is larger than a request is"));
    };
    let (body, state, shown) = (body.to_bytes(), state.clone(), shown.cloned());
    let done = tokio::task::spawn_blocking(move || decide(path, &body, shown.as_ref(), &state)).await;
    Ok(match done {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(event = "desk-trouble", "a box could not be answered: {error}");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the desk cannot do it now")
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
    })
}

fn decide(
    path: &str,
    body: &[u8],
    shown: Option<&CertificateDer<'static>>,
    state: &State,
) -> Result<Response<Full<Bytes>>, EnrolError> {
    let authority = Authority::open(&state.authority)?;
    if path == "/cacerts" {
        return Ok(certificates(&authority.certificates(), "application/pkcs7-mime"));
    }
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let Ok(der) = BASE64_STANDARD.decode(text) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the request is not base64 of PKCS#10"));
    };
    let key = match PublicKey::of_request(&der) {
        Ok(key) => key,
        Err(fault) => return Ok(plain(StatusCode::BAD_REQUEST, &fault.to_string())),
    };
    let mut registry = state.registry.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match (path, shown) {
        ("/simpleenroll", _) => registry.enrol(&authority, &key, now_s())?,
        (_, Some(shown)) => registry.renew(&authority, shown, &key, now_s())?,
        (_, None) => return Ok(plain(StatusCode::UNAUTHORIZED, "show the certificate that is to be renewed")),
    };
    Ok(match answer {
        // The certificate alone (4.2.3); what is behind it is among the cacerts.
        Answer::Certificate(signed) => {
            certificates(&signed.chain[..1], "application/pkcs7-mime; smime-type=certs-only")
        }
        Answer::Later { after_s } => {
            let mut response = plain(StatusCode::ACCEPTED, "a person at the desk has to accept this box first");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after_s));
            response
        }
        Answer::Refused(why) => plain(StatusCode::FORBIDDEN, why),
    })
}

fn certificates(certificates: &[CertificateDer<'_>], kind: &'static str) -> Response<Full<Bytes>> {
    let encoded = BASE64_STANDARD.encode(certs_only::write(certificates));
    let mut response = Response::new(Full::new(Bytes::from(encoded)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert("content-transfer-encoding", HeaderValue::from_static("base64"));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
