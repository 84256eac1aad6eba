//! Wire machines: the link protocols as values, not tasks.
//!
//! A machine owns no socket, no file and no clock. The shell hands it bytes, custody outcomes and the time, and takes
//! outputs and the next deadline back. So the same machine runs on a serial port, inside a simulator, under a fuzzer
//! and in virtual time.
//!
//! Every machine has the same verbs (there is no common trait, because no code is generic over them except
//! [`crate::link`]'s pump, which knows the closed list):
//!
//! | verb | when |
//! |---|---|
//! | `handle_bytes(now, &[u8])` | bytes arrived, in any split |
//! | `handle_damage(now)` | a character came damaged (serial lines; receivers only) |
//! | `handle_custody(now, Result<&impl Custody, Refused>)` | the journal answered a [`Output::Persist`] |
//! | `handle_timeout(now)` | the deadline of `poll_timeout` passed |
//! | `handle_disconnect(now)` | the line went away |
//! | `poll_output() -> Option<Output>` | take outputs until `None` after each `handle_*` |
//! | `poll_timeout() -> Option<Time>` | when to call `handle_timeout` |
//!
//! A machine that also speaks for us has `send(now, Token, ..)`, and one that is asked has `handle_reply(now, Token, ..)`.
//!
//! `handle_*` never blocks and never fails on what a peer sent: bad input becomes an output (invariant I10, "bad input
//! is an output"). A machine acknowledges data only when it is handed a [`Custody`] (invariant I1).

pub mod astm;
pub mod dimse;
pub mod hex;
pub mod line;
pub mod mllp;
pub mod poct1a;
pub mod spelling;
mod waiting;

/// The time as the shell saw it. Machines compare and add; they never ask a clock (invariant I9).
pub type Time = std::time::Instant;

/// What instruments speak.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// LIS01-A2 (E1381) link carrying LIS02-A2 (E1394) records.
    #[default]
    Astm,
    /// HL7 v2 over MLLP.
    Hl7,
    /// POCT1-A device messages over TCP.
    Poct1a,
    /// Rows and columns in files an instrument leaves in a folder: no link protocol, so no machine.
    Table,
    /// Anything else: lines, reports and blocks, framed as the driver or the link says.
    Lines,
}

impl Protocol {
    const ALL: [Protocol; 5] = [Protocol::Astm, Protocol::Hl7, Protocol::Poct1a, Protocol::Table, Protocol::Lines];

    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Astm => "astm",
            Protocol::Hl7 => "hl7",
            Protocol::Poct1a => "poct1a",
            Protocol::Table => "table",
            Protocol::Lines => "lines",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
    }
}

/// The reason of an [`Output::Close`] that is no fault: both sides have said that they are done.
pub const ENDED: &str = "the conversation is over";

/// Names one custody request of one machine, so that the answer finds its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Proof that the bytes named by a token are on stable storage.
///
/// Outside tests and simulators only `journal::Receipt` implements it, and only the journal can make one of those.
pub trait Custody {
    /// The request this is the proof for.
    fn token(&self) -> Token;
}

/// The journal did not take custody. Nothing may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The request that was refused.
    pub token: Token,
    /// Why.
    pub reason: Refusal,
}

/// Why custody was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The disk, or the share of it that may be used, is full. The instrument keeps the result.
    Full,
    /// The storage failed; the journal is reopening.
    Storage,
}

/// Bytes that must be durable before the peer hears anything.
#[derive(Clone, PartialEq, Eq)]
pub struct Persist {
    /// Comes back with the answer.
    pub token: Token,
    /// Parts with the same session number belong to one entry. Numbers grow and are never used twice on a connection.
    pub session: u64,
    /// The bytes exactly as they were on the wire (invariant I2).
    pub bytes: Vec<u8>,
    /// True when these bytes complete the entry (the L record's frame, or a whole HL7 message).
    pub completes: bool,
    /// Says which message this is in the sender's own words (MSH-3, MSH-4 and MSH-10), when the protocol has such a
    /// thing. The same identity with the same bytes is a retransmission and makes no second entry (invariant I4).
    pub identity: Option<Vec<u8>>,
}

impl std::fmt::Debug for Persist {
    /// Never prints the bytes: they are patient data (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Persist")
            .field("token", &self.token)
            .field("session", &self.session)
            .field("len", &self.bytes.len())
            .field("completes", &self.completes)
            .finish_non_exhaustive()
    }
}

/// A whole message of the peer, verbatim, that is in custody and that the shell has to act on.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it belongs to.
    pub token: Token,
    /// The message, unframed.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Message {
    /// Never prints the bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} bytes", self.token, self.bytes.len())
    }
}

/// What a machine wants done.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes to the peer, in this order.
    Send(Vec<u8>),
    /// Make these bytes durable, then call `handle_custody`.
    Persist(Persist),
    /// The session ended before it was complete. What was persisted stays, is shown, and is never taken for a result
    /// without a person (hazard H6).
    Abandon {
        /// The session that ended.
        session: u64,
    },
    /// The peer asks something that only the shell can answer, and its question is in custody. The machine keeps the
    /// peer's turn until `handle_reply` is called with this token, or its reply timeout has passed.
    Ask(Message),
    /// The peer answered the message of ours that this token names, and its answer is in custody.
    Answered(Message),
    /// Close the line (TCP) or go quiet on it (serial), because of this.
    Close(&'static str),
    /// Something to count and to log.
    Event(Event),
}

impl std::fmt::Debug for Output {
    /// Prints the length of what is sent, not the bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Output::Send(b) if b.len() == 1 => write!(f, "Send({:02X})", b[0]),
            Output::Send(b) => write!(f, "Send({} bytes)", b.len()),
            Output::Persist(p) => write!(f, "{p:?}"),
            Output::Ask(message) => write!(f, "Ask({message:?})"),
            Output::Answered(message) => write!(f, "Answered({message:?})"),
            Output::Abandon { session } => write!(f, "Abandon({session})"),
            Output::Close(why) => write!(f, "Close({why})"),
            Output::Event(e) => write!(f, "{e:?}"),
        }
    }
}

/// What happened on the line, in words that are safe to log: every text is a constant, never a peer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Input that the protocol refuses; the refusal itself is a `Send`.
    Refused(&'static str),
    /// Odd input that loses nothing, such as noise between frames.
    Odd(&'static str),
    /// A sender's message was accepted by the peer.
    Accepted(Token),
    /// A sender gave a message up for now; it is sent again whole later.
    Failed(Token, &'static str),
}
