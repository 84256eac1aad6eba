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
//! | "never", which in this protocol is not always meant (C-STORE A900, C000) | [`Outcome::Doubted`]: a few tries, then the same |
//! | "never" (AR 202, 422 ...) | [`Outcome::Refused`]: parked for a person, or the lane is held (`on_reject`) |
//!
//! Images travel the same way; what the outbox holds of one is a reference to its file ([`instance`]).
//!
//! Rooms: [`mllp`] and [`fhir`] are the destinations of results, [`dicom`] and [`stow`] those of images, [`commitment`]
//! asks a PACS to commit to what it took. [`ack`] reads
//! HL7 acknowledgements (pure), [`oauth`] gets tokens (SMART Backend Services), [`window`] says when and how fast images
//! may go, [`crate::backoff`] when to try again, [`counters`] what is counted; `dial` connects, `lanes` is the order and `courier` the
//! loop, [`tryout`] what takes its place while another configuration is in its trial.

pub mod ack;
pub mod config;
pub mod commitment;
pub mod counters;
mod courier;
pub(crate) mod dial;
pub mod dicom;
pub mod fhir;
pub mod instance;
mod lanes;
pub mod mllp;
pub mod oauth;
pub mod reach;
pub mod stow;
pub mod tryout;
pub mod window;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::journal::Journal;

pub use config::{Config, Lane, Protocol};
pub use counters::{DeliveryCounters, DeliveryHealth, Latency};
pub(crate) use fhir::{http_client, transport_reason};
pub use tryout::Tryout;

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
    /// The receiver says it will never take these bytes, but such answers have been seen to pass: sent again a few
    /// times, then refused.
    Doubted {
        /// Why.
        reason: String,
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
    /// The receiver could not be reached or takes nothing at the moment: everything to it waits. Never counts,
    /// however long the outage: an outage parks nothing.
    Destination,
    /// The message was sent, but what came back made no sense, or nothing came; or it could not be read here. Everything waits; but when other
    /// messages get through in between and this one fails again, it is the message that is to blame, and its lane.
    Unclear,
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

/// A destination cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A setting is wrong. `afferent check` tells all of them at once.
    #[error("destination {destination}: {key}: {text}")]
    Setting {
        /// Name of the destination.
        destination: String,
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        text: String,
    },
}

/// Starts the loop of one destination. It runs until `stopped` becomes true, then lets answers that are under way be
/// noted for a few seconds. `zone` is the clock of its windows. What it counts comes back beside it.
///
/// Certificates and keys are read when they are needed, and a file that cannot be read counts as an outage: results
/// keep coming in and wait.
///
/// # Errors
/// [`DeliveryError`] when a setting is wrong.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(
    config: Config,
    journal: Journal,
    zone: TimeZone,
    stopped: watch::Receiver<bool>,
) -> Result<(Arc<DeliveryCounters>, JoinHandle<()>), DeliveryError> {
    start_in(None, config, journal, zone, stopped)
}

/// As [`start`], in the trial of a configuration, if there is one.
///
/// # Errors
/// [`DeliveryError`] when a setting is wrong.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start_in(
    trial: Option<Tryout>,
    config: Config,
    journal: Journal,
    zone: TimeZone,
    stopped: watch::Receiver<bool>,
) -> Result<(Arc<DeliveryCounters>, JoinHandle<()>), DeliveryError> {
    if let Some(problem) = config.problems().into_iter().next() {
        return Err(DeliveryError::Setting { destination: config.name, key: problem.key, text: problem.text });
    }
    let config = Arc::new(config);
    let images = instance::Images::new(&config, &journal);
    let counters = Arc::new(DeliveryCounters::new(&config.name));
    let counted = Arc::clone(&counters);
    let task = match config.protocol {
        config::Protocol::Mllp => {
            let settings = Arc::clone(&config);
            tokio::spawn(courier::run(config, journal, zone, stopped, trial, counted, move || {
                mllp::Mllp::new(Arc::clone(&settings))
            }))
        }
        config::Protocol::Fhir => {
            let server = fhir::Fhir::new(Arc::clone(&config));
            tokio::spawn(courier::run(config, journal, zone, stopped, trial, counted, move || server.clone()))
        }
        config::Protocol::Dicom => {
            let (settings, pace) = (Arc::clone(&config), window::Pace::new(config.bandwidth_kb_s));
            let connect = move || dicom::Dicom::new(Arc::clone(&settings), images.clone(), pace.clone());
            tokio::spawn(courier::run(config, journal, zone, stopped, trial, counted, connect))
        }
        config::Protocol::Stow => {
            let server = stow::Stow::new(Arc::clone(&config), images, window::Pace::new(config.bandwidth_kb_s));
            tokio::spawn(courier::run(config, journal, zone, stopped, trial, counted, move || server.clone()))
        }
    };
    Ok((counters, task))
}

impl Outcome {
    fn unreachable(reason: impl Into<String>) -> Self {
        Outcome::Retry { reason: reason.into(), after: None, scope: Scope::Destination }
    }

    fn unclear(reason: impl Into<String>) -> Self {
        Outcome::Retry { reason: reason.into(), after: None, scope: Scope::Unclear }
    }
}
