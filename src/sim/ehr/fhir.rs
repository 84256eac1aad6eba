//! The simulated FHIR R4 server: transactions, single writes, conditions, and a token endpoint.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, LOCATION, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::record::Message;
use super::{Behaviour, Breaker, State, search};
use crate::delivery::config::Protocol;

/// Largest request that is read.
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A host no client may follow a redirect to (RFC 5737).
const ELSEWHERE: &str = "http://192.0.2.1/fhir";

/// The resources of the server: which condition or id leads to which resource, and its version.
#[derive(Default)]
pub(super) struct Store(Mutex<HashMap<String, (u64, u64)>>);

/// The connection is closed in place of an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
struct Closed;

/// A body that may end too early.
struct Payload {
    bytes: Option<Bytes>,
    cut: bool,
}

/// An answer before it is damaged.
struct Answer {
    status: u16,
    body: Value,
    location: Option<String>,
}

pub(super) async fn serve(tcp: TcpStream, state: Arc<State>) {
    let breaker = Breaker::of(&tcp);
    match &state.acceptor {
        None => requests(tcp, &state, &breaker).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(tcp).await {
                requests(stream, &state, &breaker).await;
            }
        }
    }
}

async fn requests<S>(stream: S, state: &State, breaker: &Breaker)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| answer(request, state, breaker));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // Every error here is one that the script asked for, or the client's own.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: &State, breaker: &Breaker) -> Result<Response<Payload>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX_BYTES).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, &outcome("too-long")));
    };
    let body = body.to_bytes();
    let path = head.uri.path();
    if let Some(issuer) = &state.log_in {
        if path.ends_with("/token") && head.method == Method::POST {
            let (status, answer) = issuer.issue(&body);
            return Ok(plain(StatusCode::from_u16(status).unwrap_or_default(), &answer));
        }
        if path.ends_with("/.well-known/smart-configuration") {
            return Ok(plain(StatusCode::OK, &issuer.configuration(state.acceptor.is_some(), &head.headers)));
        }
    }
    if path.ends_with("/metadata") {
        return Ok(plain(StatusCode::OK, &capabilities()));
    }
    if let (&Method::GET, Some(folder)) = (&head.method, &state.orders) {
        let authorization = head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let logged_in = state.log_in.as_ref().is_none_or(|issuer| issuer.knows(authorization.unwrap_or_default()));
        let behaviour = if logged_in { *state.behaviour.borrow() } else { Behaviour::Status(401) };
        let (status, body) = search::answer(folder, &head.uri, &head.headers, state.acceptor.is_some());
        return respond(over_http(behaviour), Answer { status, body, location: None }, breaker).await;
    }
    let resource: Option<Value> = serde_json::from_slice(&body).ok();
    let condition = head.headers.get("if-none-exist").and_then(|v| v.to_str().ok());
    let message = message(&head.method, &head.uri, condition, resource.as_ref(), &body);
    let authorization = head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let logged_in = state.log_in.as_ref().is_none_or(|issuer| issuer.knows(authorization.unwrap_or_default()));
    let readable = resource.is_some();
    let treat = |number, id: &str| match state.behaviour_for(number, id) {
        _ if !logged_in => Behaviour::Status(401),
        Behaviour::Ok if !readable => Behaviour::Status(400),
        behaviour => over_http(behaviour),
    };
    let (behaviour, _) = state.record.arrived(message, treat);
    let stored = match &resource {
        Some(resource) if behaviour.stores() => state.store.take(&head.method, &head.uri, condition, resource),
        _ => Answer { status: 500, body: outcome("exception"), location: None },
    };
    respond(behaviour, stored, breaker).await
}

/// What stands for a behaviour of HL7 v2.
fn over_http(behaviour: Behaviour) -> Behaviour {
    match behaviour {
        Behaviour::Ae(_) => Behaviour::Status(503),
        Behaviour::Ar(_) => Behaviour::Status(422),
        Behaviour::WrongId | Behaviour::StaleId | Behaviour::NoMsa => Behaviour::Stored500,
        Behaviour::Garbage | Behaviour::Noise => Behaviour::Html,
        behaviour => behaviour,
    }
}

async fn respond(behaviour: Behaviour, stored: Answer, breaker: &Breaker) -> Result<Response<Payload>, Closed> {
    match behaviour {
        Behaviour::Slow(pause) => sleep(pause).await,
        Behaviour::Hang | Behaviour::Lose => std::future::pending().await,
        Behaviour::Reset => {
            breaker.reset_on_close();
            return Err(Closed);
        }
        Behaviour::Close | Behaviour::Down => return Err(Closed),
        _ => {}
    }
    let status = StatusCode::from_u16(stored.status).unwrap_or_default();
    Ok(match behaviour {
        Behaviour::Status(code) => plain(
            StatusCode::from_u16(code).unwrap_or_default(),
            &outcome(if code == 401 { "login" } else { "processing" }),
        ),
        Behaviour::TooMany(seconds) => {
            let mut response = plain(StatusCode::TOO_MANY_REQUESTS, &outcome("throttled"));
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            response
        }
        Behaviour::Stored500 => plain(StatusCode::INTERNAL_SERVER_ERROR, &outcome("exception")),
        Behaviour::Html => {
            with(StatusCode::OK, "text/html", b"<html><body>Please log in</body></html>".as_slice().into())
        }
        Behaviour::Empty => with(StatusCode::OK, "application/fhir+json", Bytes::new()),
        Behaviour::Redirect => {
            let mut response = with(StatusCode::TEMPORARY_REDIRECT, "text/plain", Bytes::new());
            response.headers_mut().insert(LOCATION, hyper::header::HeaderValue::from_static(ELSEWHERE));
            response
        }
        Behaviour::Half => {
            let mut response = plain(status, &stored.body);
            response.body_mut().cut = true;
            response
        }
        _ => {
            let mut response = plain(status, &stored.body);
            if let Some(location) = stored.location.and_then(|l| l.try_into().ok()) {
                response.headers_mut().insert(LOCATION, location);
                response.headers_mut().insert(ETAG, hyper::header::HeaderValue::from_static("W/\"1\""));
            }
            response
        }
    })
}

impl Store {
    fn take(&self, method: &Method, uri: &Uri, condition: Option<&str>, resource: &Value) -> Answer {
        let kind = text(resource, "resourceType");
        if kind == "Bundle" && text(resource, "type") == "transaction" {
            let entries = resource.get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let responses: Vec<Value> = entries.iter().map(|entry| self.take_entry(entry)).collect();
            let body = json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": responses });
            return Answer { status: 200, body, location: None };
        }
        let key = match (method, condition) {
            (&Method::PUT, _) => Some(below_base(uri, kind)),
            (_, Some(condition)) => Some(format!("{kind}?{condition}")),
            _ => None,
        };
        let (id, version) = self.write(key, method == Method::PUT);
        let mut body = resource.clone();
        if let Some(members) = body.as_object_mut() {
            members.insert("id".to_owned(), json!(id.to_string()));
        }
        let status = if version == 1 { 201 } else { 200 };
        Answer { status, body, location: Some(format!("{kind}/{id}/_history/{version}")) }
    }

    fn take_entry(&self, entry: &Value) -> Value {
        let empty = Value::Null;
        let request = entry.get("request").unwrap_or(&empty);
        let kind = text(entry.get("resource").unwrap_or(&empty), "resourceType");
        let updates = text(request, "method") == "PUT";
        let key = match request.get("ifNoneExist").and_then(Value::as_str) {
            _ if updates => Some(text(request, "url").to_owned()),
            Some(condition) => Some(format!("{kind}?{condition}")),
            None => None,
        };
        let (id, version) = self.write(key, updates);
        let status = if version == 1 { "201 Created" } else { "200 OK" };
        json!({ "response": { "status": status, "location": format!("{kind}/{id}/_history/{version}") } })
    }

    /// Id and version after a write. A condition that is met again updates (PUT) or changes nothing (POST); both
    /// answer with a version above 1.
    fn write(&self, key: Option<String>, updates: bool) -> (u64, u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = known.len() as u64 + 1;
        let key = key.unwrap_or_else(|| format!("unconditional {id}"));
        let entry = known.entry(key).or_insert((id, 0));
        if entry.1 < 2 || updates {
            entry.1 += 1;
        }
        *entry
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        match self.bytes.take() {
            Some(whole) if self.cut => Poll::Ready(Some(Ok(Frame::data(whole.slice(..whole.len() / 2))))),
            Some(whole) => Poll::Ready(Some(Ok(Frame::data(whole)))),
            None if self.cut => Poll::Ready(Some(Err(Closed))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| b.len() as u64))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && !self.cut
    }
}

fn message<'a>(
    method: &Method,
    uri: &Uri,
    condition: Option<&str>,
    resource: Option<&Value>,
    body: &'a Bytes,
) -> Message<'a> {
    let mut message =
        Message { protocol: Protocol::Fhir, message_id: String::new(), specimens: Vec::new(), results: 0, body };
    let Some(resource) = resource else { return message };
    look(resource, &mut message);
    message.message_id = match resource.pointer("/identifier/value").and_then(Value::as_str) {
        Some(id) if text(resource, "resourceType") == "Bundle" => id.to_owned(),
        _ => format!("{method} {} {}", uri.path_and_query().map_or("/", |p| p.as_str()), condition.unwrap_or_default()),
    };
    message
}

/// Finds the specimens and counts the Observations in a resource and all it holds.
fn look(value: &Value, message: &mut Message<'_>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| look(item, message)),
        Value::Object(members) => {
            let kind = text(value, "resourceType");
            message.results += usize::from(kind == "Observation");
            let identifiers =
                members.get("identifier").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let own = identifiers.iter().filter(|_| kind == "Specimen");
            let accession = members.get("accessionIdentifier").filter(|_| kind == "Specimen");
            let logical = value.pointer("/specimen/identifier");
            for id in own.chain(accession).chain(logical).map(|i| text(i, "value")) {
                if !id.is_empty() && !message.specimens.iter().any(|s| s == id) {
                    message.specimens.push(id.to_owned());
                }
            }
            members.values().for_each(|member| look(member, message));
        }
        _ => {}
    }
}

/// `Observation?identifier=...` or `Observation/1` of a request, whatever the base.
fn below_base(uri: &Uri, kind: &str) -> String {
    let all = uri.path_and_query().map_or("/", |p| p.as_str());
    all.find(kind).and_then(|at| all.get(at..)).unwrap_or(all).to_owned()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn plain(status: StatusCode, body: &Value) -> Response<Payload> {
    with(status, "application/fhir+json", Bytes::from(body.to_string()))
}

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Payload> {
    let mut response = Response::new(Payload { bytes: Some(body), cut: false });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn outcome(code: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{ "severity": "error", "code": code, "diagnostics": "the simulated EHR says no" }],
    })
}

fn capabilities() -> Value {
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "kind": "instance",
        "date": "2026-01-01",
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{ "mode": "server", "interaction": [{ "code": "transaction" }] }],
    })
}

/// The host a client used, for addresses that lead back here.
pub(super) fn host(headers: &HeaderMap) -> &str {
    headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or("localhost")
}
