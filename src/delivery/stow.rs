//! A DICOMweb server as a destination: STOW-RS (PS3.18 10.5) over HTTPS, one spool file a message.
//!
//! One object a request: then the answer is about exactly this object, and the next one goes on the same connection. The
//! file is streamed as it is, with the length told beforehand, because some proxies refuse what they cannot measure.
//!
//! Many objects of a study in one request were measured with Orthanc, in objects of half a megabyte a second. On a fast
//! line ten or fifty at once are no faster than one: 103 and 90 against 100. Over a round trip of 30 ms ten at once are,
//! 100 against 24 by one connection; but sixteen `connections` with one object each reach 167, and with ten each no
//! more. So connections gain what batches would, and each answer settles one object: no 413, and no answer that is lost,
//! is about fifty. Only a study sent in order over a long line, which has one connection at a time, would be faster.
//!
//! | answer | meaning |
//! |---|---|
//! | 200, 202, 409 that name the object as stored; failure reason 45070 (already there) | delivered |
//! | failure reasons A9xx, C000 and the like; 400, 405, 406, 409, 411, 415, 422, 424 without one | a few tries, then a person |
//! | failure reasons A7xx, 0124; 500, 502, 504; no answer | not now, and perhaps because of this object |
//! | failure reason 0110 | this object not now, and only so many times |
//! | 413 | never |
//! | 401 | one new token and one more try, then like the rest |
//! | the rest: 3xx, 403, 404, 429, 503 (`Retry-After` is kept) | not now: everything waits |

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::dicom::object::{Chunks, Content, ObjectFault};
use super::dicom::status;
use super::fhir::{authorize, body_within, client, pause, transport_failure};
use super::instance::{Images, Stored};
use super::oauth::{Bearer, Tokens};
use super::window::Pace;
use super::{Config, Destination, Outcome, Scope};
use crate::tls;

/// An answer larger than this is not read to its end. About one object it has a few hundred bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Bytes handed to the connection at once.
const PIECE_MAX: usize = 128 * 1024;
/// Pieces ahead of the connection.
const PIECES_AHEAD: usize = 2;
/// Separates the parts. No object holds it by accident.
const BOUNDARY: &str = "afferent-7c9e1f0c4f7b4a0b9d5b4f1c2f3e6a58";
/// Failure reason "already there" of servers that tell (0xB00E).
const ALREADY_THERE: u16 = 45070;
/// The same as a status of C-STORE.
const ALREADY_THERE_DIMSE: u16 = 0x0111;

/// A DICOMweb server as a destination. A clone is another connection to the same server, with the same log-in.
#[derive(Clone)]
pub struct Stow {
    config: Arc<Config>,
    images: Images,
    pace: Pace,
    tokens: Option<Arc<Tokens>>,
    files: tls::Files,
    client: Option<Client>,
}

impl Stow {
    /// A destination that connects when it has the first object to deliver. `pace` is shared by all connections of the
    /// destination.
    pub fn new(config: Arc<Config>, images: Images, pace: Pace) -> Self {
        let files = config.tls.clone().unwrap_or_default().files();
        let base = config.url.as_deref().and_then(|u| Url::parse(u).ok());
        let tokens = base.zip(config.oauth.clone()).map(|(base, oauth)| Arc::new(Tokens::new(oauth, base)));
        Stow { config, images, pace, tokens, files, client: None }
    }

    /// Sends an object; a head that was made for it is not kept. `None` when the server wants a new token, if that is worth
    /// a try.
    async fn attempt(&mut self, stored: Stored, may_renew: bool) -> Option<Outcome> {
        if self.files.changed() {
            self.client = None;
        }
        let client = match &self.client {
            Some(client) => client.clone(),
            // The body takes as long as it takes; that it moves and that an answer comes is watched below.
            None => match client(&self.config, None) {
                Ok((built, _)) => self.client.insert(built).clone(),
                Err(reason) => return Some(Outcome::unreachable(reason)),
            },
        };
        let bearer = match &self.tokens {
            Some(tokens) => match tokens.bearer(&client).await {
                Ok(bearer) => Some(bearer),
                Err(error) => return Some(Outcome::unreachable(error.to_string())),
            },
            None => None,
        };
        let Stored { header, file, conflict } = stored;
        let (status, retry_after, body) = match self.post(&client, bearer.as_ref(), file).await {
            Ok(answer) => answer,
            Err(outcome) => return Some(outcome),
        };
        match (&self.tokens, bearer) {
            (Some(tokens), Some(bearer)) if status == StatusCode::UNAUTHORIZED && may_renew => {
                tokens.refused(&bearer).await;
                None
            }
            _ => Some(outcome(status, retry_after, &body, &header.sop_instance_uid, conflict)),
        }
    }

    async fn post(
        &self,
        client: &Client,
        bearer: Option<&Bearer>,
        file: Content,
    ) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Outcome> {
        let limit = self.config.ack_timeout();
        let base = self.config.url.as_deref().unwrap_or_default().trim_end_matches('/');
        let bytes = file.bytes();
        let object = Chunks::open(file, PIECE_MAX, 0)?;
        // The file names its transfer syntax itself; a parameter that says so too makes some servers pass the part over.
        let head = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n");
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let (pieces, coming) = mpsc::channel(PIECES_AHEAD);
        let body = Streamed { coming, rest: bytes + (head.len() + tail.len()) as u64 };
        let kind = format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
        let request = authorize(client.post(format!("{base}/studies")), bearer)
            .header(ACCEPT, "application/dicom+json")
            .header(CONTENT_TYPE, kind)
            .body(reqwest::Body::wrap(body));
        let answering = request.send();
        let feeding = feed(object, head, tail, pieces, self.pace.clone(), limit);
        tokio::pin!(answering, feeding);
        let stalled = async {
            match feeding.await {
                Fed::Whole => sleep(limit).await,
                // The answer is on its way, or the reason why there is none.
                Fed::Unwanted => sleep(limit).await,
                Fed::Stalled => return Outcome::unclear("the server stopped reading"),
                Fed::Unread(fault) => return fault.into(),
            }
            Outcome::unclear("no answer in time")
        };
        let response = tokio::select! {
            response = &mut answering => response.map_err(|e| transport_failure(&e))?,
            outcome = stalled => return Err(outcome),
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let after = after.and_then(|v| pause(v, jiff::Timestamp::now()));
        let body = match timeout(limit, body_within(response, ANSWER_MAX_BYTES)).await {
            Ok(body) => body.map_err(|fault| Outcome::unclear(fault.to_string()))?,
            Err(_) => return Err(Outcome::unclear("no answer in time")),
        };
        Ok((status, after, body))
    }
}

impl Destination for Stow {
    async fn deliver(&mut self, _message_id: &str, body: &[u8]) -> Outcome {
        let mut may_renew = true;
        loop {
            let stored = match self.images.find(body).await {
                Ok(stored) => stored,
                Err(outcome) => return outcome,
            };
            if let Some(outcome) = self.attempt(stored, may_renew).await {
                return outcome;
            }
            may_renew = false;
        }
    }
}

/// How the body ended.
enum Fed {
    Whole,
    /// The connection takes no more of it.
    Unwanted,
    /// The connection did not move for too long.
    Stalled,
    /// The file could not be read to its end.
    Unread(ObjectFault),
}

/// Hands the body to the connection, no faster than it may go.
async fn feed(
    mut object: Chunks,
    head: String,
    tail: String,
    pieces: mpsc::Sender<Bytes>,
    pace: Pace,
    limit: Duration,
) -> Fed {
    let mut next = Some(Bytes::from(head));
    let mut tail = Some(Bytes::from(tail));
    while let Some(piece) = next {
        pace.wait(piece.len()).await;
        match timeout(limit, pieces.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Fed::Unwanted,
            Err(_) => return Fed::Stalled,
        }
        next = match object.next().await {
            Ok(Some(piece)) => Some(Bytes::from(piece.bytes)),
            Ok(None) => tail.take(),
            Err(fault) => return Fed::Unread(fault),
        };
    }
    Fed::Whole
}

/// A body of known length that comes piece by piece.
struct Streamed {
    coming: mpsc::Receiver<Bytes>,
    rest: u64,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.coming.poll_recv(context).map(|piece| match piece {
            Some(piece) => {
                self.rest = self.rest.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(piece)))
            }
            None if self.rest == 0 => None,
            // Ending here would leave the server waiting; an error cuts the connection.
            None => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}

/// The parts of a Store Instances Response (PS3.18 table 10.5.3-1) in DICOM JSON that say what became of objects.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    /// Failed SOP Sequence.
    #[serde(rename = "00081198")]
    failed: Sequence,
    /// Referenced SOP Sequence.
    #[serde(rename = "00081199")]
    stored: Sequence,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sequence {
    #[serde(rename = "Value")]
    items: Vec<Item>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    /// Referenced SOP Instance UID.
    #[serde(rename = "00081155")]
    sop_instance_uid: Values<String>,
    /// Failure Reason.
    #[serde(rename = "00081197")]
    failure_reason: Values<u16>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Values<T> {
    #[serde(rename = "Value")]
    values: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Values { values: Vec::new() }
    }
}

/// What an answer says about this object.
fn outcome(status: StatusCode, after: Option<Duration>, body: &[u8], ours: &str, conflict: bool) -> Outcome {
    let code = status.as_u16();
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let is_ours = |item: &&Item| item.sop_instance_uid.values.iter().any(|uid| uid.trim_end() == ours);
    if let Some(answer) = answer.filter(|_| matches!(code, 200..=299 | 400 | 409)) {
        if let Some(failed) = answer.failed.items.iter().find(is_ours) {
            return refused(code, failed.failure_reason.values.first().copied(), conflict);
        }
        if answer.stored.items.iter().any(|item| is_ours(&item)) {
            return Outcome::Delivered { answer: code.to_string() };
        }
    }
    match code {
        // A page of another service says 200 as well.
        200..=299 => Outcome::unclear(format!("{code}, but without a word about the image")),
        400 | 405 | 406 | 409 | 411 | 415 | 422 | 424 => Outcome::Doubted { reason: code.to_string() },
        413 => {
            Outcome::Refused { reason: "413: the image is too large for the server or a proxy before it".to_owned() }
        }
        300..=399 => Outcome::unreachable(format!("{code}: redirects are not followed; is the url right?")),
        404 => Outcome::unreachable("404: is the url right?"),
        // A proxy may give up on one image while the server takes others.
        500 | 502 | 504 => Outcome::Retry { reason: code.to_string(), after, scope: Scope::Unclear },
        _ => Outcome::Retry { reason: code.to_string(), after, scope: Scope::Destination },
    }
}

/// Failure reasons are statuses of C-STORE (PS3.18 table 10.5.3-2), and then some.
fn refused(code: u16, reason: Option<u16>, conflict: bool) -> Outcome {
    let reason = match reason {
        None | Some(0) => return Outcome::Doubted { reason: format!("{code}, without a failure reason") },
        // One of servers' own.
        Some(ALREADY_THERE) => ALREADY_THERE_DIMSE,
        Some(reason) => reason,
    };
    match status::outcome(Some(reason), conflict) {
        // Warnings and the like have no place among failures.
        Outcome::Delivered { .. } if reason != ALREADY_THERE_DIMSE => {
            Outcome::Doubted { reason: format!("{code}, failure reason {reason:04X}") }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1.2.3.4";

    fn answered(code: u16, body: &str) -> Outcome {
        outcome(StatusCode::from_u16(code).unwrap(), None, body.as_bytes(), UID, false)
    }

    fn failed(uid: &str, reason: u16) -> String {
        format!(
            r#"{{"00081198":{{"vr":"SQ","Value":[{{"00081150":{{"vr":"UI","Value":["1.2"]}},
            "00081155":{{"vr":"UI","Value":["{uid}"]}},"00081197":{{"vr":"US","Value":[{reason}]}}}}]}}}}"#
        )
    }

    #[test]
    fn only_an_answer_that_names_the_image_delivers_it() {
        let stored = r#"{"00081190":{"vr":"UR","Value":["http://x"]},
            "00081199":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["1.2.3.4"]}}]}}"#;
        assert_eq!(answered(200, stored), Outcome::Delivered { answer: "200".into() });
        assert_eq!(answered(202, stored), Outcome::Delivered { answer: "202".into() });
        let others = stored.replace("1.2.3.4", "1.2.3.5");
        for body in ["", "<html>log in</html>", "{}", "[]", &others] {
            assert!(matches!(answered(200, body), Outcome::Retry { scope: Scope::Unclear, .. }), "{body}");
        }
    }

    #[test]
    fn a_failure_reason_says_whether_it_may_pass() {
        assert_eq!(answered(409, &failed(UID, 45070)), Outcome::Delivered { answer: "0111 already there".into() });
        assert_eq!(answered(409, &failed(UID, 0x0111)), Outcome::Delivered { answer: "0111 already there".into() });
        for reason in [43264, 49152, 0, 0xB000] {
            assert!(matches!(answered(409, &failed(UID, reason)), Outcome::Doubted { .. }), "{reason}");
        }
        for (reason, who_waits) in [(0xA700, Scope::Unclear), (272, Scope::Lane)] {
            let later = answered(202, &failed(UID, reason));
            assert!(matches!(later, Outcome::Retry { scope, .. } if scope == who_waits), "{later:?}");
        }
        let other = outcome(StatusCode::CONFLICT, None, failed(UID, 45070).as_bytes(), UID, true);
        assert!(matches!(other, Outcome::Refused { .. }), "another image of this UID is there: {other:?}");
        // A failure of another image says nothing about this one.
        assert!(matches!(answered(200, &failed("1.2.3.5", 272)), Outcome::Retry { .. }));
    }

    #[test]
    fn a_status_alone_says_who_waits() {
        assert!(matches!(answered(413, ""), Outcome::Refused { .. }));
        for code in [400, 405, 406, 409, 411, 415, 422, 424] {
            assert!(matches!(answered(code, ""), Outcome::Doubted { .. }), "{code}");
        }
        for code in [301, 401, 403, 404, 429, 503] {
            assert!(matches!(answered(code, ""), Outcome::Retry { scope: Scope::Destination, .. }), "{code}");
        }
        for code in [500, 502, 504] {
            assert!(matches!(answered(code, ""), Outcome::Retry { scope: Scope::Unclear, .. }), "{code}");
        }
    }
}
