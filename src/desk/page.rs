//! The page of the fleet: one document without anything from elsewhere, served over TLS to whoever has the token.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page; no secret is in it |
//! | `/fleet` | server-sent events: all boxes first, then those that changed, every quarter of a second at most |
//! | `/box/NAME` | one box with its links, destinations and counters of the last hour |
//!
//! The token stands behind the `#` of the address, which browsers do not send; the page sends it as `Authorization:
//! Bearer`, which no other site can make it do. A browser runs nothing but the one script of the page, by its digest
//! (Content-Security-Policy), and the script makes text of what boxes say, never markup.

mod body;

use super::registry::Registry;
use super::roster::{Brief, Roster};
use crate::tls::{self, ServerTls, TlsError};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use body::Payload;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{SHA256, digest};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use tokio_rustls::TlsAcceptor;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// What changed is told this often.
const TICK: Duration = Duration::from_millis(250);
/// A page that hears nothing for longer than this knows that the desk is gone.
const BEAT: Duration = Duration::from_secs(5);
/// Connections at once; browsers hold a few each.
const CONNECTIONS_MAX: usize = 256;
/// A request's head and a handshake take no longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Ticks that wait for a slow browser; one that misses more is told everything anew.
const BEHIND_MAX: usize = 16;
/// Bytes of the token.
const TOKEN_BYTES: usize = 32;

/// The fleet behind the page: what was heard, and what is known.
pub struct Fleet {
    inner: Mutex<Inner>,
    ticks: broadcast::Sender<Arc<str>>,
}

struct Inner {
    roster: Roster,
    registry: Registry,
    /// Why the broker is not there; empty while it is.
    trouble: String,
    is_news: bool,
}

impl Fleet {
    /// Nothing was heard yet.
    pub fn new(registry: Registry) -> Arc<Fleet> {
        let inner = Inner { roster: Roster::default(), registry, trouble: String::new(), is_news: false };
        Arc::new(Fleet { inner: Mutex::new(inner), ticks: broadcast::channel(BEHIND_MAX).0 })
    }

    /// A box said something.
    pub fn heard(&self, said: &super::Said) {
        self.inner().roster.heard(said, Instant::now());
    }

    /// The broker is gone, and why, or (empty) there again.
    pub fn trouble(&self, why: String) {
        let mut inner = self.inner();
        inner.is_news |= inner.trouble != why;
        if why.is_empty() {
            inner.roster.back(Instant::now());
        }
        inner.trouble = why;
    }

    /// The registry is this now.
    pub fn knows(&self, registry: Registry) {
        let mut inner = self.inner();
        if inner.registry != registry {
            inner.registry = registry;
            // Any box may be shown differently.
            let _ = self.ticks.send(inner.all());
        }
    }

    /// Tells pages what changed, for ever.
    pub async fn tick(&self) {
        let mut idle = Duration::ZERO;
        loop {
            tokio::time::sleep(TICK).await;
            let mut inner = self.inner();
            if inner.trouble.is_empty() {
                inner.roster.look(Instant::now());
            }
            let changed = inner.roster.take_changed();
            idle += TICK;
            if changed.is_empty() && !inner.is_news && idle < BEAT {
                continue;
            }
            (idle, inner.is_news) = (Duration::ZERO, false);
            if self.ticks.receiver_count() > 0 {
                let rows = inner.roster.rows();
                let rows = changed.iter().filter_map(|name| Some(rows.get(name)?.brief(name, &inner.registry)));
                let tick = event("some", &inner.trouble, rows);
                let _ = self.ticks.send(tick);
            }
        }
    }

    /// Everything, and what comes behind it.
    fn follow(&self) -> (Arc<str>, broadcast::Receiver<Arc<str>>) {
        let inner = self.inner();
        // Under the lock, so that no tick falls in between; one that is in both is the same twice.
        (inner.all(), self.ticks.subscribe())
    }

    fn detail(&self, name: &str) -> Option<String> {
        let inner = self.inner();
        let row = inner.roster.rows().get(name)?;
        let brief = row.brief(name, &inner.registry);
        let note = inner.registry.get(name).map_or("", |entry| &entry.note);
        Some(json!({ "brief": brief, "box": row, "note": note, "samples": row.samples }).to_string())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn all(&self) -> Arc<str> {
        let rows = self.roster.rows().iter().map(|(name, row)| row.brief(name, &self.registry));
        event("all", &self.trouble, rows)
    }
}

/// An event of the stream (HTML, 9.2): JSON has no line ends.
fn event<'r>(kind: &str, trouble: &str, rows: impl Iterator<Item = Brief<'r>>) -> Arc<str> {
    let rows: Vec<Brief<'_>> = rows.collect();
    format!("event: {kind}\ndata: {}\n\n", json!({ "trouble": trouble, "rows": rows })).into()
}

/// A token nobody can guess.
///
/// # Errors
/// A sentence when the system has no random numbers.
pub fn new_token() -> Result<String, String> {
    let mut bytes = [0; TOKEN_BYTES];
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, &mut bytes).map_err(|_| "the system has no random numbers".to_string())?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Who serves the page.
pub struct Server {
    fleet: Arc<Fleet>,
    acceptor: TlsAcceptor,
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
    pub fn new(fleet: Arc<Fleet>, config: &ServerTls, token: &str) -> Result<Arc<Server>, TlsError> {
        let acceptor = TlsAcceptor::from(tls::server(config)?);
        let token = hash(token);
        let page = PAGE.replace("/* style */", STYLE).replace("/* script */", SCRIPT);
        let source = |text: &str| BASE64_STANDARD.encode(hash(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source(SCRIPT),
            source(STYLE)
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Arc::new(Server { fleet, acceptor, token, page, policy, seats }))
    }

    /// Serves until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(seat) = self.seats.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(TICK).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let _seat = seat;
                let accepted = tokio::time::timeout(HEAD_TIMEOUT, server.acceptor.accept(stream)).await;
                let Ok(Ok(stream)) = accepted else { return };
                let service = service_fn(|request| std::future::ready(Ok::<_, hyper::Error>(server.answer(&request))));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Payload> {
        let path = request.uri().path();
        let (status, kind, payload) = if request.method() != Method::GET {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", Payload::text("GET only\n"))
        } else if path == "/" {
            (StatusCode::OK, "text/html; charset=utf-8", Payload::text(&self.page))
        } else if !self.is_let_in(request) {
            (StatusCode::UNAUTHORIZED, "text/plain", Payload::text("the token is wrong\n"))
        } else if path == "/fleet" {
            let (all, ticks) = self.fleet.follow();
            (StatusCode::OK, "text/event-stream", Payload::stream(self.fleet.clone(), all, ticks))
        } else if let Some(detail) = path.strip_prefix("/box/").and_then(|name| self.fleet.detail(name)) {
            (StatusCode::OK, "application/json", Payload::text(&detail))
        } else {
            (StatusCode::NOT_FOUND, "text/plain", Payload::text("there is nothing here\n"))
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
