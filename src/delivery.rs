//! Delivery: the loop that carries mapped messages from the outbox to the EHR, and what counts as delivered.
//!
//! One loop per destination takes messages from the journal, hands each to a [`Destination`] and writes down how it
//! ended. What a message *says* was decided before; here bytes are sent as they are stored (invariant I5), lane by
//! lane in order (I6), and a message leaves the outbox only through an answer that names it.
//!
//! | answer | what happens |
//! |---|---|
//! | the receiver says it has exactly this message | [`Outcome::Delivered`]: done |
//! | no answer, a broken one, one for another message | connection dropped, the same bytes again after the destination's back-off |
//! | "not now" (AE, 207, 429, 503 ...) | the same bytes again after the lane's back-off, at most `attempts_max` times |
//! | "never" (AR 202, 422 ...) | [`Outcome::Refused`]: parked for a person, or the lane is held (`on_reject`) |
//!
//! Rooms: [`ack`] reads HL7 acknowledgements (pure), [`mllp`] and [`fhir`] are the two destinations, [`oauth`] gets
//! tokens (SMART Backend Services), [`backoff`] says when to try again, [`lanes`] is the order and the loop.

pub mod ack;
pub mod backoff;
pub mod config;
pub mod fhir;
pub mod mllp;
pub mod oauth;

use std::future::Future;
use std::time::Duration;

pub use config::Config;

/// How one attempt to deliver one message ended.
///
/// Reasons and answers are shown to operators and logged: they are made of constants, codes and numbers, never of a
/// peer's text, which may hold patient data (invariant I8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took custody of exactly this message.
    Delivered {
        /// What it answered, in short: `AA`, `200 transaction-response`.
        answer: String,
    },
    /// Not delivered, or nobody knows: send the same bytes again.
    Retry {
        /// Why.
        reason: String,
        /// The receiver asked for at least this long a pause.
        after: Option<Duration>,
        /// Who waits.
        scope: Scope,
    },
    /// The receiver will never take these bytes.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Who waits after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The receiver looked at this message and did not take it: only what follows it in its lane waits. Counts
    /// against `attempts_max`.
    Lane,
    /// The receiver could not be reached or made no sense: everything to it waits. Never counts, however long the
    /// outage: an outage parks nothing.
    Destination,
}

/// Something that takes messages.
///
/// One message at a time: the next call comes after this one's outcome. Cancelling the future is allowed; the next
/// call then starts on a fresh connection.
pub trait Destination: Send {
    /// Tries once to deliver `body`, the stored bytes of the message `message_id` (MSH-10, or the Bundle's
    /// identifier). Bounded in time by the destination's own time-outs.
    fn deliver(&mut self, message_id: &str, body: &[u8]) -> impl Future<Output = Outcome> + Send;
}

impl Outcome {
    fn unreachable(reason: impl Into<String>) -> Self {
        Outcome::Retry { reason: reason.into(), after: None, scope: Scope::Destination }
    }
}
