//! Answers, each with every header that a browser is to keep to.

use super::cookie::Cookie;
use crate::page::Payload;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use maud::Markup;

/// What a browser does with an answer: it runs and shows nothing that is not a file of this box.
const FIXED: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// An answer in the making.
pub struct Answer(Response<Payload>);

impl Answer {
    /// A page.
    pub fn page(status: StatusCode, page: Markup) -> Answer {
        Answer::of(status, "text/html; charset=utf-8", Payload::text(&page.into_string()))
    }

    /// A sentence, for whoever has no page.
    pub fn sentence(status: StatusCode, sentence: &str) -> Answer {
        Answer::of(status, "text/plain; charset=utf-8", Payload::text(&format!("{sentence}\n")))
    }

    /// A stream of events.
    pub fn stream(payload: Payload) -> Answer {
        Answer::of(StatusCode::OK, "text/event-stream", payload)
    }

    /// What is the same for everybody for as long as its path is the same.
    pub fn asset(kind: &'static str, text: &str) -> Answer {
        let answer = Answer::of(StatusCode::OK, kind, Payload::text(text));
        answer.with(header::CACHE_CONTROL, "public, max-age=31536000, immutable")
    }

    /// On to another page (RFC 9110, 15.4.4).
    pub fn on_to(path: &'static str) -> Answer {
        Answer::of(StatusCode::SEE_OTHER, "text/plain", Payload::text("")).with(header::LOCATION, path)
    }

    /// What this path is asked with.
    pub fn only(methods: &'static str) -> Answer {
        let sentence = format!("this is asked with {methods}");
        Answer::sentence(StatusCode::METHOD_NOT_ALLOWED, &sentence).with(header::ALLOW, methods)
    }

    /// With this header, in the place of one that is there.
    pub fn with(mut self, name: HeaderName, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// With this session.
    pub fn with_session(self, cookie: &Cookie, id: &str) -> Answer {
        self.with(header::SET_COOKIE, &cookie.with(id))
    }

    /// Without a session.
    pub fn without_session(self, cookie: &Cookie) -> Answer {
        self.with(header::SET_COOKIE, &cookie.without())
    }

    /// For a browser that is to come over TLS alone from now on, whatever it is told (RFC 6797).
    pub fn over_tls_alone(self) -> Answer {
        self.with(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000")
    }

    /// For the wire.
    pub fn response(self) -> Response<Payload> {
        self.0
    }

    fn of(status: StatusCode, kind: &'static str, payload: Payload) -> Answer {
        let mut response = Response::new(payload);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        for (name, value) in FIXED {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Answer(response)
    }
}
