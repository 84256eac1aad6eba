//! FHIR R4 over HTTPS: a transaction Bundle in one request, or ordered single writes.
//!
//! Which of the two it is shows in the stored body: a JSON object is a transaction Bundle, a JSON array is a list of
//! writes (`method`, `url`, `ifNoneExist`, `resource`). Resources are sent as they are stored, number by number
//! (invariants I5, I11).
//!
//! A status line proves nothing: a login page comes with 200 as well. A transaction is delivered when the answer *is* a
//! `transaction-response` with as many entries as were sent, each with a status of 2xx. A single write is delivered when
//! the answer is the resource, an OperationOutcome without an error, or nothing but a version (`ETag`, `Location`).
//!
//! | answer | meaning |
//! |---|---|
//! | 400 404 409 412 413 415 422 | never: refused, with the OperationOutcome's codes |
//! | 401 | one new token and one more try, then like the rest |
//! | the rest: 3xx, 403, 408, 425, 429 and 5xx (`Retry-After` is kept), no answer | not now |
//!
//! Redirects are not followed: patient data goes to the host that is configured or nowhere. A time-out after sending
//! is ambiguous; conditional writes make sending again safe.

mod capabilities;
mod read;

pub use read::{Found, Unread};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::capabilities::Statement;
use super::dial::unreachable;
use super::oauth::{Bearer, Tokens};
use super::reach::Greeting;
use super::{Config, Destination, Outcome, Scope};
use crate::tls;

/// An answer to a write larger than this is not read to its end.
const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;
/// A server may ask us to stay away this long; a longer wish is cut.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// A CapabilityStatement of a full server has a few megabytes.
const CAPABILITIES_MAX_BYTES: usize = 32 * 1024 * 1024;

const FHIR_JSON: &str = "application/fhir+json";

/// A FHIR server as a destination. A clone is another connection to the same server, with the same log-in.
#[derive(Clone)]
pub struct Fhir {
    config: Arc<Config>,
    tokens: Option<Arc<Tokens>>,
    /// Whether the server's CapabilityStatement was asked for.
    asked: Arc<AtomicBool>,
    files: tls::Files,
    link: Option<Link>,
}

/// A client built from the files as they are now. It keeps its connections.
#[derive(Clone)]
struct Link {
    client: Client,
    base: Url,
}

/// One request of an ordered list of writes.
#[derive(Deserialize)]
struct Write<'a> {
    method: &'a str,
    url: String,
    #[serde(rename = "ifNoneExist")]
    if_none_exist: Option<String>,
    #[serde(borrow)]
    resource: &'a RawValue,
}

/// An answer that was read whole.
struct Answer {
    status: StatusCode,
    has_version: bool,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Fhir {
    /// A destination that connects when it has the first message to deliver.
    pub fn new(config: Arc<Config>) -> Self {
        let files = config.tls.clone().unwrap_or_default().files();
        let base = config.url.as_deref().and_then(|u| Url::parse(u).ok());
        let tokens = base.zip(config.oauth.clone()).map(|(base, oauth)| Arc::new(Tokens::new(oauth, base)));
        Fhir { config, tokens, asked: Arc::default(), files, link: None }
    }

    fn link(&mut self) -> Result<Link, String> {
        if self.files.changed() {
            self.link = None;
        }
        if let Some(link) = &self.link {
            return Ok(link.clone());
        }
        let link = Link::new(&self.config)?;
        if !self.asked.swap(true, Ordering::Relaxed) {
            tokio::spawn(report_capabilities(link.clone(), self.tokens.clone(), self.config.name.clone()));
        }
        Ok(self.link.insert(link).clone())
    }

    async fn send(&self, link: &Link, body: &[u8]) -> Outcome {
        match body.trim_ascii_start().first() {
            Some(b'[') => self.send_writes(link, body).await,
            _ => self.send_transaction(link, body).await,
        }
    }

    async fn send_transaction(&self, link: &Link, body: &[u8]) -> Outcome {
        #[derive(Deserialize)]
        struct Sent {
            #[serde(default)]
            entry: Vec<IgnoredAny>,
        }
        let Ok(sent) = serde_json::from_slice::<Sent>(body) else { return unreadable() };
        match self.request(link, Method::POST, link.base.clone(), None, body.to_vec()).await {
            Ok(answer) if answer.status.is_success() => transaction_outcome(&answer, sent.entry.len()),
            Ok(answer) => failure(&answer),
            Err(failed) => failed,
        }
    }

    async fn send_writes(&self, link: &Link, body: &[u8]) -> Outcome {
        let Ok(writes) = serde_json::from_slice::<Vec<Write<'_>>>(body) else { return unreadable() };
        let count = writes.len();
        for write in writes {
            let Some((method, url)) = write.target(&link.base) else { return unreadable() };
            let body = write.resource.get().as_bytes().to_vec();
            let ended = match self.request(link, method, url, write.if_none_exist.clone(), body).await {
                Ok(answer) if answer.status.is_success() => write_outcome(&answer, write.resource),
                Ok(answer) => Some(failure(&answer)),
                Err(failed) => Some(failed),
            };
            // What was written before stays written: the writes are conditional, so starting over changes nothing.
            if let Some(ended) = ended {
                return ended;
            }
        }
        Outcome::Delivered { answer: format!("{count} writes") }
    }

    /// One write.
    async fn request(
        &self,
        link: &Link,
        method: Method,
        url: Url,
        if_none_exist: Option<String>,
        body: Vec<u8>,
    ) -> Result<Answer, Outcome> {
        let answer = self.ask(link, method, url, "return=minimal", if_none_exist, body).await?;
        answer.map_err(|fault| Outcome::unclear(fault.to_string()))
    }

    /// One request and its answer, read whole. `prefer` is the header of this name (RFC 7240).
    async fn ask(
        &self,
        link: &Link,
        method: Method,
        url: Url,
        prefer: &'static str,
        if_none_exist: Option<String>,
        body: Vec<u8>,
    ) -> Result<Result<Answer, BodyFault>, Outcome> {
        Ok(Answer::read(self.respond(link, method, url, prefer, if_none_exist, body).await?).await)
    }

    /// One request, with a new token and a second try when the first is not taken.
    async fn respond(
        &self,
        link: &Link,
        method: Method,
        url: Url,
        prefer: &'static str,
        if_none_exist: Option<String>,
        body: Vec<u8>,
    ) -> Result<Response, Outcome> {
        let mut renewed = false;
        loop {
            let bearer = match &self.tokens {
                Some(tokens) => {
                    Some(tokens.bearer(&link.client).await.map_err(|e| Outcome::unreachable(e.to_string()))?)
                }
                None => None,
            };
            let mut request = link.client.request(method.clone(), url.clone());
            request = authorize(request, bearer.as_ref()).header(ACCEPT, FHIR_JSON).header(CONTENT_TYPE, FHIR_JSON);
            request = request.header("Prefer", prefer);
            if let Some(condition) = &if_none_exist {
                request = request.header("If-None-Exist", condition);
            }
            let response = request.body(body.clone()).send().await.map_err(|e| transport_failure(&e))?;
            match (&self.tokens, bearer) {
                (Some(tokens), Some(bearer)) if response.status() == StatusCode::UNAUTHORIZED && !renewed => {
                    tokens.refused(&bearer).await;
                    renewed = true;
                }
                _ => return Ok(response),
            }
        }
    }
}

impl Destination for Fhir {
    async fn deliver(&mut self, _message_id: &str, body: &[u8]) -> Outcome {
        match self.link() {
            Ok(link) => self.send(&link, body).await,
            Err(reason) => Outcome::unreachable(reason),
        }
    }
}

impl Link {
    fn new(config: &Config) -> Result<Self, String> {
        let (client, base) = client(config, Some(config.ack_timeout()))?;
        Ok(Link { client, base })
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base.as_str().trim_end_matches('/'))
    }
}

impl Write<'_> {
    /// The request's method and address below `base`. `None` when it would leave the server's base.
    fn target(&self, base: &Url) -> Option<(Method, Url)> {
        let method = match self.method {
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            _ => return None,
        };
        let url = Url::parse(&format!("{}/{}", base.as_str().trim_end_matches('/'), self.url)).ok()?;
        let below = url.origin() == base.origin() && url.path().starts_with(base.path().trim_end_matches('/'));
        below.then_some((method, url))
    }
}

impl Answer {
    async fn read(response: Response) -> Result<Self, BodyFault> {
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = retry_after.and_then(|v| pause(v, Timestamp::now()));
        let has_version = headers.contains_key(ETAG) || headers.contains_key(LOCATION);
        let status = response.status();
        let body = body_within(response, ANSWER_MAX_BYTES).await?;
        Ok(Answer { status, has_version, retry_after, body })
    }
}

/// Why the body of an answer was not read.
pub(crate) enum BodyFault {
    TooLong,
    Broken(String),
}

impl std::fmt::Display for BodyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyFault::TooLong => f.write_str("the answer is too long"),
            BodyFault::Broken(reason) => f.write_str(reason),
        }
    }
}

/// The part of a resource that says what it is and, for an OperationOutcome, what is wrong.
#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    #[serde(default)]
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    severity: String,
    #[serde(default)]
    code: String,
}

fn transaction_outcome(answer: &Answer, sent: usize) -> Outcome {
    #[derive(Deserialize)]
    struct Bundle {
        #[serde(rename = "resourceType")]
        resource_type: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        entry: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        response: EntryResponse,
    }
    #[derive(Deserialize)]
    struct EntryResponse {
        status: String,
    }
    let status = answer.status.as_u16();
    let bundle = serde_json::from_slice::<Bundle>(&answer.body).ok();
    let Some(bundle) = bundle.filter(|b| b.resource_type == "Bundle" && b.kind == "transaction-response") else {
        return Outcome::unclear(format!("{status}, but not with a transaction-response"));
    };
    if bundle.entry.len() != sent {
        return Outcome::unclear(format!("{status}, but with {} answers to {sent} entries", bundle.entry.len()));
    }
    for (at, entry) in bundle.entry.iter().enumerate() {
        if !is_success(&entry.response.status) {
            let reason = format!("{status}, but entry {} was not taken", at + 1);
            return Outcome::Retry { reason, after: None, scope: Scope::Lane };
        }
    }
    Outcome::Delivered { answer: format!("{status} transaction-response, {sent} entries") }
}

/// `None` when the write was done.
fn write_outcome(answer: &Answer, sent: &RawValue) -> Option<Outcome> {
    let status = answer.status.as_u16();
    if answer.body.trim_ascii().is_empty() {
        let done = answer.has_version || answer.status == StatusCode::NO_CONTENT;
        return (!done).then(|| Outcome::unclear(format!("{status}, but without a resource or a version")));
    }
    let read = |body: &[u8]| serde_json::from_slice::<Resource>(body).ok();
    let done = match (read(&answer.body), read(sent.get().as_bytes())) {
        (Some(got), _) if got.resource_type == "OperationOutcome" => {
            !got.issue.iter().any(|i| matches!(i.severity.as_str(), "error" | "fatal"))
        }
        (Some(got), Some(sent)) => got.resource_type == sent.resource_type,
        _ => false,
    };
    (!done).then(|| Outcome::unclear(format!("{status}, but not with what was written")))
}

/// What an answer other than 2xx means.
fn failure(answer: &Answer) -> Outcome {
    let status = answer.status.as_u16();
    let reason = match outcome_codes(&answer.body) {
        Some(codes) => format!("{status} {codes}"),
        None => status.to_string(),
    };
    match status {
        400 | 404 | 409 | 412 | 413 | 415 | 422 => Outcome::Refused { reason },
        300..=399 => Outcome::unreachable(format!("{status}: redirects are not followed; is the url right?")),
        500 => Outcome::Retry { reason, after: answer.retry_after, scope: Scope::Unclear },
        _ => Outcome::Retry { reason, after: answer.retry_after, scope: Scope::Destination },
    }
}

/// Severity and code of an OperationOutcome's first issue. Both are codes of closed sets; texts and diagnostics may
/// hold patient data and stay unread (invariant I8).
fn outcome_codes(body: &[u8]) -> Option<String> {
    let outcome: Resource = serde_json::from_slice(body).ok()?;
    let issue = outcome.issue.first().filter(|_| outcome.resource_type == "OperationOutcome")?;
    let is_code = |s: &str| (1..=20).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    (is_code(&issue.severity) && is_code(&issue.code)).then(|| format!("{} {}", issue.severity, issue.code))
}

/// `201 Created`, `200 OK`, `200`.
fn is_success(status: &str) -> bool {
    let code = status.split(' ').next().unwrap_or_default();
    code.len() == 3 && code.starts_with('2') && code.bytes().all(|b| b.is_ascii_digit())
}

/// A stored body that is not what this destination sends. It was made by us, so a person has to look.
fn unreadable() -> Outcome {
    Outcome::Refused { reason: "the stored message is neither a Bundle nor a list of writes".to_owned() }
}

/// `Retry-After` of RFC 9110 10.2.3: seconds, or a date.
pub(crate) fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wish = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or(Duration::ZERO),
    };
    Some(wish.min(RETRY_AFTER_MAX))
}

/// A date as HTTP writes it (IMF-fixdate).
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim());
    zoned.ok()
}

/// A client for the server at `url` of a destination, and that address. `timeout` bounds a whole request with its answer.
pub(super) fn client(config: &Config, timeout: Option<Duration>) -> Result<(Client, Url), String> {
    let base = config.url.as_deref().and_then(|u| Url::parse(u).ok()).ok_or("url is not a URL")?;
    let builder = http_client(&base, config.tls.as_ref())?
        .connect_timeout(config.connect_timeout())
        .pool_idle_timeout(config.idle_close());
    let builder = match timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    };
    Ok((builder.build().map_err(|e| transport_reason(&e))?, base))
}

/// What every client of ours for the server at `url` has in common: HTTP/1.1, no detours, and over TLS only to whom the
/// settings trust, by default the authorities that the operating system trusts.
pub(crate) fn http_client(url: &Url, tls: Option<&tls::ClientTls>) -> Result<reqwest::ClientBuilder, String> {
    let builder = through_proxy(tls)?;
    let tls = match (tls, url.scheme()) {
        (Some(tls), _) => tls::client_or_last(tls).map_err(|e| e.to_string())?,
        (None, "https") => tls::client_or_last(&tls::ClientTls::default()).map_err(|e| e.to_string())?,
        (None, _) => tls::trusting_nobody().map_err(|e| e.to_string())?,
    };
    Ok(builder
        .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
        .https_only(url.scheme() == "https")
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .pool_max_idle_per_host(1)
        .user_agent(concat!("afferent/", env!("CARGO_PKG_VERSION"))))
}

/// The beginning of a client: through the proxy of these settings, or through none.
///
/// # Errors
/// In words, what is wrong with the proxy.
pub(crate) fn through_proxy(tls: Option<&tls::ClientTls>) -> Result<reqwest::ClientBuilder, String> {
    let proxy = tls.map_or(Ok(None), tls::ClientTls::proxy).map_err(|e| e.to_string())?;
    match proxy {
        Some(proxy) => Ok(Client::builder().proxy(proxy.for_http().map_err(|e| e.to_string())?)),
        None => Ok(Client::builder().no_proxy()),
    }
}

/// A client for the server of a destination, its address, and the token that is sent with each request, if there is one.
///
/// # Errors
/// In words, why nobody is let in.
pub(super) async fn log_in(config: &Config) -> Result<(Client, Url, Option<Bearer>), String> {
    let (client, base) = client(config, Some(config.ack_timeout()))?;
    let bearer = match config.oauth.clone() {
        Some(oauth) => Some(Tokens::new(oauth, base.clone()).bearer(&client).await.map_err(|error| error.to_string())?),
        None => None,
    };
    Ok((client, base, bearer))
}

/// Asks the server of a destination for its CapabilityStatement, as messages are sent, and says what stands there. One
/// that offers none, or not to this box, is there all the same.
///
/// # Errors
/// In words, why it does not answer, or not with that.
pub(super) async fn greet(config: &Config) -> Result<Greeting, String> {
    let (client, base, bearer) = log_in(config).await?;
    let link = Link { client, base };
    let request = authorize(link.client.get(link.at("metadata")), bearer.as_ref()).header(ACCEPT, FHIR_JSON);
    let response = request.send().await.map_err(|error| transport_reason(&error))?;
    let status = response.status();
    if matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
        let says = format!("it offers this box no CapabilityStatement (HTTP {})", status.as_u16());
        return Ok(Greeting { says, is_doubtful: true });
    }
    let body = body_within(response, CAPABILITIES_MAX_BYTES).await.unwrap_or_default();
    // A login page comes with 200 as well.
    match Statement::read(&body) {
        Some(statement) if status.is_success() => {
            let is_doubtful = !statement.is_r4() || !statement.has_transactions();
            Ok(Greeting { says: statement.to_string(), is_doubtful })
        }
        _ => Err(format!("asked for its CapabilityStatement it answers otherwise (HTTP {})", status.as_u16())),
    }
}

pub(super) fn authorize(request: reqwest::RequestBuilder, bearer: Option<&Bearer>) -> reqwest::RequestBuilder {
    match bearer {
        Some(bearer) => request.header(AUTHORIZATION, bearer.header()),
        None => request,
    }
}

/// Reads an answer's body, up to a limit.
pub(crate) async fn body_within(mut response: Response, max: usize) -> Result<Vec<u8>, BodyFault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| BodyFault::Broken(transport_reason(&e)))? {
        if body.len() + chunk.len() > max {
            return Err(BodyFault::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(super) fn transport_failure(error: &reqwest::Error) -> Outcome {
    let reason = transport_reason(error);
    // Without a connection nothing was sent; after that nobody knows.
    if error.is_connect() || error.is_builder() { Outcome::unreachable(reason) } else { Outcome::unclear(reason) }
}

/// Why a request failed, without the address (its query may hold a patient's identifier).
pub(crate) fn transport_reason(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        return "no answer in time".to_owned();
    } else if error.is_connect() {
        "cannot connect"
    } else if error.is_builder() {
        "the request cannot be made"
    } else {
        "connection lost before the answer was whole"
    };
    match std::error::Error::source(error).and_then(cause) {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    }
}

/// The TLS error or the kind of system error at the bottom of a chain. An `io::Error` hides the error it wraps from
/// `source`, so it is opened on the way down.
fn cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls::reason(tls));
    }
    if ["dns error", "tunnel error"].iter().any(|known| error.to_string().starts_with(known)) {
        return Some(unreachable(error));
    }
    let below = match error.downcast_ref::<std::io::Error>() {
        Some(io) => match io.get_ref() {
            Some(wrapped) => cause(wrapped),
            None => return Some(io.kind().to_string()),
        },
        None => error.source().and_then(cause),
    };
    below.or_else(|| error.downcast_ref::<std::io::Error>().map(|io| io.kind().to_string()))
}

/// Reads the server's CapabilityStatement and says what it lacks. Nothing waits for this.
async fn report_capabilities(link: Link, tokens: Option<Arc<Tokens>>, destination: String) {
    let bearer = match &tokens {
        Some(tokens) => tokens.bearer(&link.client).await.ok(),
        None => None,
    };
    let request = authorize(link.client.get(link.at("metadata")), bearer.as_ref()).header(ACCEPT, FHIR_JSON);
    let Ok(response) = request.send().await else { return };
    let Ok(body) = body_within(response, CAPABILITIES_MAX_BYTES).await else { return };
    let Some(statement) = Statement::read(&body) else { return };
    let (is_r4, transaction) = (statement.is_r4(), statement.has_transactions());
    tracing::info!(destination, fhir_r4 = is_r4, transaction, "read the server's CapabilityStatement");
    if !is_r4 {
        tracing::warn!(destination, "the server does not say that it speaks FHIR 4.0");
    }
    if !transaction {
        tracing::warn!(destination, "the server does not offer transactions; if it refuses Bundles, use single writes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            has_version: false,
            retry_after: Some(Duration::from_secs(7)),
            body: body.as_bytes().to_vec(),
        }
    }

    fn delivered(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Delivered { .. })
    }

    #[test]
    fn a_transaction_is_delivered_only_by_a_whole_transaction_response() {
        let response = |kind: &str, statuses: &[&str]| {
            let entries: Vec<_> = statuses.iter().map(|s| serde_json::json!({ "response": { "status": s } })).collect();
            serde_json::json!({ "resourceType": "Bundle", "type": kind, "entry": entries }).to_string()
        };
        let judge = |body: &str| transaction_outcome(&answer(200, body), 2);
        assert!(delivered(&judge(&response("transaction-response", &["201 Created", "200 OK"]))));
        for bad in [
            String::new(),
            "<html>log in</html>".to_owned(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"login"}]}"#.to_owned(),
            response("batch-response", &["201 Created", "200 OK"]),
            response("transaction-response", &["201 Created"]),
            response("transaction-response", &["201 Created", "422 Unprocessable"]),
            response("transaction-response", &["201 Created", "2"]),
            response("transaction-response", &["201 Created", "200 OK", "200 OK"]),
        ] {
            assert!(!delivered(&judge(&bad)), "{bad}");
        }
    }

    #[test]
    fn a_single_write_is_done_only_by_a_resource_or_a_version() {
        let sent = RawValue::from_string(r#"{"resourceType":"Observation"}"#.to_owned()).unwrap();
        let done = |a: &Answer| write_outcome(a, &sent).is_none();
        assert!(done(&answer(201, r#"{"resourceType":"Observation","id":"1"}"#)));
        let information =
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}]}"#;
        assert!(done(&answer(200, information)));
        assert!(done(&Answer { has_version: true, ..answer(200, "") }));
        assert!(!done(&answer(200, "")));
        assert!(!done(&answer(200, "<html>")));
        assert!(!done(&answer(200, r#"{"resourceType":"Patient"}"#)));
        assert!(!done(&answer(200, &information.replace("information\"", "error\""))));
    }

    #[test]
    fn every_status_has_one_meaning() {
        for status in [400, 404, 409, 412, 413, 415, 422] {
            assert!(matches!(failure(&answer(status, "")), Outcome::Refused { .. }), "{status}");
        }
        for status in [301, 302, 307, 308] {
            assert!(matches!(failure(&answer(status, "")), Outcome::Retry { scope: Scope::Destination, .. }));
        }
        for status in [401, 403, 408, 425, 429, 500, 502, 503, 504] {
            let scope = if status == 500 { Scope::Unclear } else { Scope::Destination };
            let expected = Outcome::Retry { reason: status.to_string(), after: Some(Duration::from_secs(7)), scope };
            assert_eq!(failure(&answer(status, "")), expected);
        }
    }

    #[test]
    fn i8_a_refusal_repeats_codes_and_never_texts() {
        let outcome = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing",
            "diagnostics":"no patient DOE^JANE","details":{"text":"DOE"}}]}"#;
        assert_eq!(failure(&answer(422, outcome)), Outcome::Refused { reason: "422 error processing".to_owned() });
        let abused = outcome.replace("processing", "DOE^JANE");
        assert_eq!(failure(&answer(422, &abused)), Outcome::Refused { reason: "422".to_owned() });
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Thu, 01 Jan 2026 00:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(pause("Wed, 31 Dec 2025 00:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(pause("999999999", now), Some(RETRY_AFTER_MAX));
        assert_eq!(pause("soon", now), None);
    }

    #[test]
    fn a_write_never_leaves_the_server_it_is_meant_for() {
        let base = Url::parse("https://ehr.example/fhir").unwrap();
        let resource = RawValue::from_string("{}".to_owned()).unwrap();
        let target = |method: &'static str, url: &str| {
            let write = Write { method, url: url.to_owned(), if_none_exist: None, resource: &resource };
            write.target(&base).map(|(_, u)| u.to_string())
        };
        let put = target("PUT", "Observation?identifier=urn:x|1").unwrap();
        assert_eq!(put, "https://ehr.example/fhir/Observation?identifier=urn:x|1");
        assert_eq!(target("POST", "../admin"), None);
        assert_eq!(target("DELETE", "Observation/1"), None);
    }
}
