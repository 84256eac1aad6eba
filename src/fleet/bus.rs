//! The bus: what the fleet needs of a message broker, and no more. [`mqtt`] speaks MQTT 5.
//!
//! Nothing here waits: what is asked for is handed to a task of its own, and what came of it is heard later. A lost
//! connection is heard once, whatever was under way; nothing that was asked for is kept for the next.

pub mod mqtt;

use super::telemetry::Document;
use crate::tls::ClientTls;
use std::future::Future;

/// A connection to a broker, one at a time.
pub trait Bus: Send {
    /// Dials. [`Heard::Connected`] or [`Heard::Lost`] follows. The broker publishes the will, retained, on this topic
    /// when the box is gone without a word.
    fn connect(&mut self, will_topic: String, will: Document);
    /// Dials beside the connection there is, with another certificate. That connection goes on until the broker has let the
    /// other in ([`Heard::Switched`]), which takes its place; or it goes on as if nothing had been
    /// ([`Heard::NotSwitched`]).
    fn switch(&mut self, tls: ClientTls, will_topic: String, will: Document);
    /// Asks for what comes on these topics.
    fn subscribe(&mut self, filter: String);
    /// Publishes; unless it is at most once, [`Heard::Acknowledged`], [`Heard::Refused`] or [`Heard::Lost`] follows.
    fn publish(&mut self, id: PublishId, topic: String, document: Document, quality: Quality);
    /// What came with this receipt is safe. A receipt of an earlier connection means nothing: it will come again.
    fn acknowledge(&mut self, receipt: Receipt);
    /// Hangs up; with the will, unless the broker knows already that the box goes. [`Heard::Lost`] follows.
    fn disconnect(&mut self, has_said_so: bool);
    /// What happened next. Cancelling the future loses nothing.
    fn heard(&mut self) -> impl Future<Output = Heard> + Send;
}

/// What is heard of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The broker let us in.
    Connected {
        /// It still has the session: subscriptions, what it kept for us.
        session_present: bool,
        /// It takes so many publishes before it has acknowledged the first.
        in_flight_max: usize,
        /// Until when its certificate is good, Unix seconds.
        ends_s: Option<i64>,
    },
    /// As [`Heard::Connected`], of the connection that [`Bus::switch`] asked for: it is the one there is now.
    Switched {
        /// It still has the session.
        session_present: bool,
        /// As in [`Heard::Connected`].
        in_flight_max: usize,
    },
    /// What [`Bus::switch`] asked for was not made; why, in words of ours.
    NotSwitched(String),
    /// The broker has what was published.
    Acknowledged(PublishId),
    /// The broker does not take what was published; its reason code (MQTT 5, 2.4).
    Refused(PublishId, u8),
    /// The broker refuses the subscription to this.
    Unheard(String),
    /// Something came.
    Received {
        /// On this topic.
        topic: String,
        /// What.
        payload: Vec<u8>,
        /// For [`Bus::acknowledge`].
        receipt: Receipt,
    },
    /// The connection is gone or was not made; why, in words of ours.
    Lost(String),
}

/// Names one publish among all of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(u64);

impl PublishId {
    /// Where counting begins.
    pub const FIRST: PublishId = PublishId(1);

    /// The one behind this.
    pub fn next(self) -> PublishId {
        PublishId(self.0 + 1)
    }
}

/// Names something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    connection: u64,
    packet: u16,
    is_kept: bool,
}

impl Receipt {
    /// That of a packet, 0 for one that wants no acknowledgement, which came on the n-th connection.
    pub fn new(connection: u64, packet: u16) -> Receipt {
        Receipt { connection, packet, is_kept: false }
    }

    /// The same, of something that the broker had kept.
    pub fn kept(self) -> Receipt {
        Receipt { is_kept: true, ..self }
    }

    /// True when it was said before it was asked for, however long ago (MQTT 5, 3.3.1.3: RETAIN of what a subscription
    /// begins with).
    pub fn is_kept(self) -> bool {
        self.is_kept
    }
}

/// The reason code of a broker that has nobody to keep something for (MQTT 5, 3.4.2.1: no matching subscribers).
pub const NOBODY_LISTENS: u8 = 0x10;

/// How something is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Once or never, and of no use after two minutes.
    AtMostOnce,
    /// Until it is acknowledged.
    AtLeastOnce,
    /// Until the broker has it for somebody: where nobody listens, it is refused.
    UntilHeard,
    /// Until it is acknowledged, and kept by the broker for whoever asks later.
    Retained,
}
