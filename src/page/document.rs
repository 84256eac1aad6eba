//! A site of one document without anything from elsewhere, for whoever has the token, and what it asks for.
//!
//! The token stands behind the `#` of the address, which browsers do not send; the page sends it as `Authorization:
//! Bearer`, which no other site can make it do. A browser runs nothing but the one script of the page, by its digest
//! (Content-Security-Policy), and a script makes text of what it is told, never markup.

use super::{Asked, Feed, Payload, Site};
use crate::access::{hash, random};
use crate::disk;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// Bytes of the token.
const TOKEN_BYTES: usize = 32;
/// The token's file.
pub const TOKEN: &str = "page.token";
/// What `answer` says a text is.
const PLAIN: &str = "text/plain";

/// How the page asks, with the token.
const ASK: &str = include_str!("token.js");
/// How the stream of events is followed; in front of every script.
pub const FOLLOW: &str = include_str!("follow.js");

/// The document: markup with the places `/* style */` and `/* script */`, and what comes there.
pub struct Document {
    /// HTML.
    pub markup: &'static str,
    /// CSS.
    pub style: &'static str,
    /// JavaScript, behind `page/token.js` and `page/follow.js`.
    pub script: &'static str,
}

/// What is shown to whoever has the token.
pub trait Content: Feed {
    /// Where the stream of events is.
    fn stream_path(&self) -> &'static str;
    /// What else is at this path, as JSON.
    fn json(&self, path: &str) -> Option<String>;
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
    let token = BASE64_URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>().map_err(Error::other)?);
    disk::replace_secret(&file, token.as_bytes())?;
    Ok(token)
}

/// The document, and what it asks for.
pub struct Page<C> {
    content: Arc<C>,
    /// SHA-256, so that the time a comparison takes says nothing.
    token: Vec<u8>,
    page: String,
    policy: HeaderValue,
}

impl<C: Content> Page<C> {
    /// For whoever has this token.
    pub fn new(content: Arc<C>, document: &Document, token: &str) -> Arc<Page<C>> {
        let token = hash(token);
        let script = [ASK, FOLLOW, document.script].concat();
        let page = document.markup.replace("/* style */", document.style).replace("/* script */", &script);
        let source = |text: &str| BASE64_STANDARD.encode(hash(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source(&script),
            source(document.style)
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Arc::new(Page { content, token, page, policy })
    }

    fn answer_now(&self, asked: &Asked) -> Response<Payload> {
        let path = asked.path.as_str();
        let (status, kind, payload) = if asked.method != Method::GET {
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, Payload::text("GET only\n"))
        } else if path == "/" {
            (StatusCode::OK, "text/html; charset=utf-8", Payload::text(&self.page))
        } else if !self.is_let_in(asked) {
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

    fn is_let_in(&self, asked: &Asked) -> bool {
        let shown = asked.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| hash(token) == self.token)
    }
}

impl<C: Content> Site for Page<C> {
    fn answer(self: Arc<Self>, asked: Asked) -> BoxFuture<'static, Response<Payload>> {
        Box::pin(async move { self.answer_now(&asked) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_there_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        assert!(first.len() > TOKEN_BYTES && token(dir.path()).unwrap() == first);
    }
}
