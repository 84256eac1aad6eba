//! DICOM on the network: the upper layer (PS3.8) and the DIMSE messages on it (PS3.7), in both roles.
//!
//! - [`Association`] is the machine: accept or request an association, converse on it.
//! - [`negotiation`] reads and writes what is proposed and answered; [`pdu`] finds PDUs in bytes and writes them.
//! - [`command`] reads and writes command sets; [`uid`] knows the UIDs that matter on the wire.
//!
//! Instances are streamed, never held: their bytes leave a machine as [`Output::Data`] as they come in, whatever the
//! size. Questions ([`Request`]) are short and leave whole. Nothing is parsed that need not be: data sets are opaque.

pub mod association;
pub mod command;
pub mod negotiation;
pub mod pdu;
pub mod uid;

pub use association::{Association, Proposal, Settings};
pub use command::{Command, CommandFault};
pub use negotiation::{Context, Role};
pub use pdu::Rejection;

use super::{Event, Token};

/// What a machine wants done.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Write these whole PDUs to the peer, in one call.
    Send(Vec<u8>),
    /// A peer wants an association. The machine waits for `handle_admission`.
    Associate(Caller),
    /// A C-STORE began: open a file. [`Output::Data`] follow, then [`Output::Commit`] or [`Output::Discard`].
    Begin {
        /// Names the instance until it is committed or discarded.
        token: Token,
        /// What is known of it.
        arrival: Arrival,
    },
    /// More bytes of the instance's data set, as they came.
    Data {
        /// The instance.
        token: Token,
        /// Its next bytes; never none.
        bytes: Vec<u8>,
    },
    /// The data set is whole: make it durable, then call `handle_custody`.
    Commit {
        /// The instance.
        token: Token,
    },
    /// The data set was cut short: remove the file. Nothing is answered.
    Discard {
        /// The instance.
        token: Token,
    },
    /// The peer asks; call `handle_reply`.
    Ask {
        /// Names the question in `handle_reply`.
        token: Token,
        /// The question.
        request: Request,
    },
    /// The peer wants no more answers to this question, and was told that there are none. Replies to it are ignored.
    Cancel {
        /// The question.
        token: Token,
    },
    /// The peer answered a request of ours.
    Answered {
        /// The request of ours.
        token: Token,
        /// Its answer.
        response: Response,
    },
    /// The peer will not answer a request of ours any more.
    Unanswered {
        /// The request of ours.
        token: Token,
    },
    /// An association that we asked for is open.
    Associated,
    /// Close the connection, because of this. What was sent before is to reach the peer.
    Close(&'static str),
    /// Something to count and to log.
    Event(Event),
}

/// Who asks for an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Calling AE title, without padding; some carts leave it blank.
    pub calling_ae_title: String,
    /// Called AE title, without padding.
    pub called_ae_title: String,
    /// True when an instance could be stored on one of the proposed contexts.
    pub wants_to_store: bool,
    /// True when the request names a user, by password or ticket. Who it is, is not looked at.
    pub names_user: bool,
}

/// What the command of a C-STORE says of the instance that follows.
#[derive(Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Affected SOP Class UID.
    pub sop_class_uid: String,
    /// Affected SOP Instance UID: digits and dots, at most 64.
    pub sop_instance_uid: String,
    /// Negotiated transfer syntax, in which the data set comes.
    pub transfer_syntax_uid: String,
    /// Calling AE title.
    pub calling_ae_title: String,
    /// Called AE title.
    pub called_ae_title: String,
    /// Message ID of the request.
    pub message_id: u16,
}

impl std::fmt::Debug for Arrival {
    /// Never prints the instance: its UID leads to a patient (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({}, {})", self.sop_class_uid, self.transfer_syntax_uid)
    }
}

/// A question of the peer that only the shell can answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// C-FIND: the identifier is the query. Replies come one by one, pending ones with `more`.
    Find(Question),
    /// N-CREATE: the attribute list. Without an instance UID the shell makes one and says so in its reply.
    Create(Question),
    /// N-SET: the modification list.
    Set(Question),
    /// N-ACTION of this type: the action's information.
    Action {
        /// Action Type ID.
        action_type_id: u16,
        /// The rest.
        question: Question,
    },
    /// N-EVENT-REPORT of this type: the event's information.
    EventReport {
        /// Event Type ID.
        event_type_id: u16,
        /// The rest.
        question: Question,
    },
}

impl Request {
    /// What every request has.
    pub fn question(&self) -> &Question {
        match self {
            Request::Find(question) | Request::Create(question) | Request::Set(question) => question,
            Request::Action { question, .. } | Request::EventReport { question, .. } => question,
        }
    }
}

impl std::fmt::Debug for Request {
    /// Never prints what is asked for (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Request::Find(_) => "Find",
            Request::Create(_) => "Create",
            Request::Set(_) => "Set",
            Request::Action { .. } => "Action",
            Request::EventReport { .. } => "EventReport",
        };
        write!(f, "{kind}({}, {} bytes)", self.question().sop_class_uid, self.question().data_set.len())
    }
}

/// What every request has.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// Affected or Requested SOP Class UID; that of the presentation context when the command has none.
    pub sop_class_uid: String,
    /// Affected or Requested SOP Instance UID, when it is a UID.
    pub sop_instance_uid: Option<String>,
    /// Negotiated transfer syntax of the data set, and of the one that answers it.
    pub transfer_syntax_uid: String,
    /// Calling AE title.
    pub calling_ae_title: String,
    /// The data set; empty when none came.
    pub data_set: Vec<u8>,
}

/// The shell's answer to a [`Request`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Status; see [`command::status`].
    pub status: u16,
    /// Why, for the person at the modality; cut to 64 characters. Never anything of a patient.
    pub error_comment: Option<String>,
    /// Error ID, where the status alone does not say it (A710H of MPPS).
    pub error_id: Option<u16>,
    /// The UID that was made for an N-CREATE without one.
    pub sop_instance_uid: Option<String>,
    /// The data set that goes with it, in the transfer syntax of the question.
    pub data_set: Option<Vec<u8>>,
    /// True when more replies to the same question come.
    pub more: bool,
}

/// The peer's answer to a request of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Its command set.
    pub command: Command,
    /// The data set that came with it; empty when none did.
    pub data_set: Vec<u8>,
    /// Negotiated transfer syntax of the data set.
    pub transfer_syntax_uid: String,
}

impl Reply {
    /// A reply that refuses, with the reason the person at the modality reads.
    pub fn refusing(status: u16, why: &str) -> Reply {
        Reply { status, error_comment: Some(why.to_string()), ..Reply::default() }
    }

    /// One of several answers to a C-FIND, with its data set.
    pub fn pending(status: u16, data_set: Vec<u8>) -> Reply {
        Reply { status, data_set: Some(data_set), more: true, ..Reply::default() }
    }
}

impl std::fmt::Debug for Reply {
    /// Never prints the data set (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({:04X}, more: {})", self.status, self.more)
    }
}

impl std::fmt::Debug for Response {
    /// Never prints the data set (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Response({:?}, {} bytes)", self.command, self.data_set.len())
    }
}

impl std::fmt::Debug for Output {
    /// Prints lengths, not bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Output::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Output::Associate(caller) => write!(f, "{caller:?}"),
            Output::Begin { token, arrival } => write!(f, "Begin({}, {arrival:?})", token.0),
            Output::Data { token, bytes } => write!(f, "Data({}, {} bytes)", token.0, bytes.len()),
            Output::Commit { token } => write!(f, "Commit({})", token.0),
            Output::Discard { token } => write!(f, "Discard({})", token.0),
            Output::Ask { token, request } => write!(f, "Ask({}, {request:?})", token.0),
            Output::Cancel { token } => write!(f, "Cancel({})", token.0),
            Output::Answered { token, response } => write!(f, "Answered({}, {response:?})", token.0),
            Output::Unanswered { token } => write!(f, "Unanswered({})", token.0),
            Output::Associated => write!(f, "Associated"),
            Output::Close(why) => write!(f, "Close({why})"),
            Output::Event(event) => write!(f, "{event:?}"),
        }
    }
}
