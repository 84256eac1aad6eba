//! An association that we request (PS3.8): negotiation, messages out, messages in.
//!
//! PDUs are read and written with the types of dicom-ul; P-DATA is written here, from a file or from memory, so that an
//! object of any size passes in constant memory and nothing cut short is ever marked as whole. Proposals name one
//! transfer syntax a context where an object is meant: it goes as it is or not at all.
//!
//! Whatever fails in the middle ends the association: a peer that lost count would glue two objects together.

use std::fmt;
use std::time::Duration;

use dicom_ul::pdu::{
    AbortRQSource, AssociationRJResult, AssociationRJServiceProviderASCEReason,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ,
    PDataValue, PDataValueType, Pdu, PresentationContextProposed, PresentationContextResultReason, RequestorRoles,
    UserVariableItem, read_pdu, write_pdu,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};

use super::object::{Chunks, ObjectFault};
use crate::delivery::dial::{Stream, dial};
use crate::delivery::window::Pace;
use crate::tls::ClientTls;
use crate::wire::dimse::command::{Command, field, status};
use crate::wire::dimse::uid;

/// The longest PDU we take, in bytes without its header.
const RECEIVE_MAX: u32 = 128 * 1024;
/// The longest PDU we send, whatever the peer would take.
const SEND_MAX: u32 = 128 * 1024;
/// A PDU header: type, reserved, length.
const PDU_HEADER: usize = 6;
/// A PDV header: length, context, flags.
const PDV_HEADER: usize = 6;
/// The longest command or data set of an answer that is kept.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// Presentation contexts in one association: the odd numbers of a byte.
pub const CONTEXTS_MAX: usize = 128;
/// How long the peer may take to answer an A-RELEASE-RQ.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// Who is called, by whom, and how patient to be.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, when the peer speaks it.
    pub tls: Option<ClientTls>,
    /// What the peer is called.
    pub called_ae_title: String,
    /// What we call ourselves.
    pub calling_ae_title: String,
    /// How long connecting may take, TLS and negotiation included.
    pub connect_timeout: Duration,
    /// How long the peer may take to answer, or to read.
    pub answer_timeout: Duration,
}

/// A presentation context as it is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// SOP class.
    pub abstract_syntax: String,
    /// Transfer syntaxes, of which the peer takes one.
    pub transfer_syntaxes: Vec<String>,
    /// Role selection (PS3.7 D.3.3.4): propose that the peer asks and we answer.
    pub as_scp: bool,
}

impl Proposed {
    /// Storage commitment (PS3.4 annex J); `as_scp` to report instead of asking.
    pub fn storage_commitment(as_scp: bool) -> Proposed {
        let syntaxes = [uid::EXPLICIT_VR_LITTLE_ENDIAN, uid::IMPLICIT_VR_LITTLE_ENDIAN];
        Proposed {
            abstract_syntax: uid::STORAGE_COMMITMENT.to_owned(),
            transfer_syntaxes: syntaxes.map(str::to_owned).to_vec(),
            as_scp,
        }
    }
}

/// A presentation context as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Odd number.
    pub id: u8,
    /// SOP class.
    pub abstract_syntax: String,
    /// The transfer syntax the peer took; the refusal otherwise.
    pub transfer_syntax: Result<String, ContextRefusal>,
    /// What was proposed.
    pub proposed: Vec<String>,
}

/// Why a context was not accepted (PS3.8 table 9-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextRefusal {
    /// User rejection, or no reason.
    Unspecified,
    /// The SOP class is not supported.
    AbstractSyntax,
    /// None of the transfer syntaxes is supported.
    TransferSyntaxes,
    /// The peer did not answer for this context.
    Missing,
}

/// Why an association failed. The text is made of constants and codes, never of a peer's text (invariant I8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or no TLS on it.
    Unreachable(String),
    /// A-ASSOCIATE-RJ.
    Rejected {
        /// Coming back later may help.
        is_transient: bool,
        /// It is permanent and has no reason: perhaps none of what was proposed is taken.
        is_unexplained: bool,
        /// Source and reason in words, and what to do about it.
        reason: String,
    },
    /// A-ABORT.
    Aborted(&'static str),
    /// The connection ended.
    Lost(String),
    /// No answer in time, or the peer stopped reading.
    TimedOut(&'static str),
    /// What came is not DICOM, or not what was expected here.
    Protocol(&'static str),
    /// The object cannot be read from disk.
    Object(ObjectFault),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(why) | Failure::Lost(why) => f.write_str(why),
            Failure::Object(fault) => fault.fmt(f),
            Failure::Rejected { reason, .. } => write!(f, "association rejected: {reason}"),
            Failure::Aborted(why) => write!(f, "association aborted by the peer: {why}"),
            Failure::TimedOut(what) => f.write_str(what),
            Failure::Protocol(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

/// A DIMSE message that came.
pub struct Message {
    /// Its command set.
    pub command: Command,
    /// Its data set, when it has one.
    pub data_set: Vec<u8>,
    /// The context it came on.
    pub context: u8,
}

/// An open association.
pub struct Association {
    stream: Box<dyn Stream>,
    probe: std::net::TcpStream,
    /// What was read and is not a whole PDU yet.
    unread: Vec<u8>,
    contexts: Vec<Context>,
    /// Most data bytes in one PDV.
    fragment_max: usize,
    answer_timeout: Duration,
    message_id: u16,
    /// P-DATA that belongs to the message being read.
    values: std::collections::VecDeque<PDataValue>,
}

impl Association {
    /// Connects and negotiates.
    ///
    /// # Errors
    /// [`Failure`]. When every context is refused the association is open all the same: see [`Self::contexts`].
    pub async fn open(peer: &Peer, proposed: &[Proposed]) -> Result<Self, Failure> {
        match timeout(peer.connect_timeout, Self::negotiate(peer, proposed)).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::TimedOut("no association in time")),
        }
    }

    async fn negotiate(peer: &Peer, proposed: &[Proposed]) -> Result<Self, Failure> {
        let dialled = dial(&peer.host, peer.port, peer.tls.as_ref()).await.map_err(Failure::Unreachable)?;
        let mut association = Association {
            stream: dialled.stream,
            probe: dialled.probe,
            unread: Vec::new(),
            contexts: Vec::new(),
            fragment_max: 0,
            answer_timeout: peer.answer_timeout,
            message_id: 0,
            values: std::collections::VecDeque::new(),
        };
        association.write(&encode(&request(peer, proposed))?).await?;
        match association.pdu().await? {
            Pdu::AssociationAC(answer) => {
                let max = answer.user_variables.iter().find_map(|v| match v {
                    UserVariableItem::MaxLength(max) => Some(*max),
                    _ => None,
                });
                // 0 is "no limit" (PS3.8 D.1); a limit no PDV fits in is taken for a slip.
                let max = max.filter(|max| *max as usize > PDV_HEADER).unwrap_or(SEND_MAX).min(SEND_MAX);
                // Fragments are of even length (PS3.8 Annex E).
                association.fragment_max = (max as usize - PDV_HEADER).max(2) & !1;
                association.contexts = contexts(proposed, &answer.presentation_contexts);
                Ok(association)
            }
            Pdu::AssociationRJ(refusal) => Err(rejected(&refusal.result, &refusal.source, peer)),
            _ => Err(Failure::Protocol("the peer answered the request for an association with something else")),
        }
    }

    /// The contexts and what became of each.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// The accepted context for objects of this class in this transfer syntax.
    pub fn context(&self, abstract_syntax: &str, transfer_syntax: &str) -> Option<u8> {
        let fits =
            |c: &&Context| c.abstract_syntax == abstract_syntax && c.transfer_syntax.as_deref() == Ok(transfer_syntax);
        self.contexts.iter().find(fits).map(|c| c.id)
    }

    /// Why there is no context for this pair; `None` when it was not proposed.
    pub fn refusal(&self, abstract_syntax: &str, transfer_syntax: &str) -> Option<ContextRefusal> {
        let proposed = |c: &&Context| {
            c.abstract_syntax == abstract_syntax && c.proposed.iter().any(|proposed| proposed == transfer_syntax)
        };
        self.contexts.iter().filter(proposed).find_map(|c| c.transfer_syntax.as_ref().err().copied())
    }

    /// An accepted context for this class, whatever its transfer syntax, which comes with it.
    pub fn context_of(&self, abstract_syntax: &str) -> Option<(u8, &str)> {
        let of = self.contexts.iter().filter(|c| c.abstract_syntax == abstract_syntax);
        of.filter_map(|c| Some((c.id, c.transfer_syntax.as_deref().ok()?))).next()
    }

    /// The number of the next request.
    pub fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        self.message_id
    }

    /// Sends a C-STORE request with its object and waits for the answer to it.
    ///
    /// # Errors
    /// [`Failure`]: the association must not be used any more.
    pub async fn store(
        &mut self,
        context: u8,
        command: &Command,
        mut object: Chunks,
        pace: &Pace,
    ) -> Result<Message, Failure> {
        // The command waits for the first fragment, so that a small object leaves in one segment less.
        let mut pending = self.fragments(context, &command.write(), true);
        loop {
            let piece = object.next().await.map_err(Failure::Object)?;
            let Some(mut piece) = piece else { break };
            pace.wait(piece.bytes.len()).await;
            head(&mut piece.bytes, context, false, piece.is_last);
            match pending.is_empty() {
                true => self.write(&piece.bytes).await?,
                false => {
                    pending.extend_from_slice(&piece.bytes);
                    self.write(&pending).await?;
                    pending = Vec::new();
                }
            }
        }
        if !pending.is_empty() {
            return Err(Failure::Object(ObjectFault::Damaged("the object is empty".to_owned())));
        }
        self.answer_to(command).await
    }

    /// Room for a PDU's and a PDV's header in front of each piece of an object.
    pub const fn piece_room() -> usize {
        PDU_HEADER + PDV_HEADER
    }

    /// Most bytes in a piece of an object, headers not counted.
    pub fn piece_max(&self) -> usize {
        self.fragment_max
    }

    /// Sends a request with a data set held in memory.
    ///
    /// # Errors
    /// [`Failure`]: the association must not be used any more.
    pub async fn send(&mut self, context: u8, command: &Command, data_set: Option<&[u8]>) -> Result<(), Failure> {
        let mut bytes = self.fragments(context, &command.write(), true);
        if let Some(data_set) = data_set {
            bytes.extend(self.fragments(context, data_set, false));
        }
        self.write(&bytes).await
    }

    /// Sends bytes as they are, for peers that misbehave on purpose.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes).await
    }

    /// Waits for the answer to this request; what else comes meanwhile and wants no answer is passed over.
    ///
    /// # Errors
    /// [`Failure`]: the association must not be used any more.
    pub async fn answer_to(&mut self, request: &Command) -> Result<Message, Failure> {
        let deadline = tokio::time::Instant::now() + self.answer_timeout;
        loop {
            let message = match timeout_at(deadline, self.message()).await {
                Ok(message) => message?,
                Err(_) => return Err(Failure::TimedOut("no answer in time")),
            };
            if !message.command.is_response() {
                self.answer_a_request(&message).await?;
            } else if message.command.message_id_responded_to() == Some(request.message_id()) {
                return Ok(message);
            } else {
                return Err(Failure::Protocol("the answer is to another request"));
            }
        }
    }

    /// The next message, a request or an answer. Without a limit of time.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn message(&mut self) -> Result<Message, Failure> {
        let (context, command) = self.whole(PDataValueType::Command, None).await?;
        let command = Command::read(&command).map_err(|_| Failure::Protocol("the answer's command set is damaged"))?;
        let data_set = match command.has_data_set() {
            true => self.whole(PDataValueType::Data, Some(context)).await?.1,
            false => Vec::new(),
        };
        Ok(Message { command, data_set, context })
    }

    /// Ends the association in order.
    pub async fn release(mut self) {
        let farewell = async {
            self.write(&encode(&Pdu::ReleaseRQ)?).await?;
            while !matches!(self.pdu().await?, Pdu::ReleaseRP) {}
            Ok::<(), Failure>(())
        };
        // Whether the peer says goodbye does not matter: nothing is in flight.
        let _ = timeout(RELEASE_TIMEOUT, farewell).await;
        let _ = self.stream.shutdown().await;
    }

    /// Ends the association at once: what was under way is void.
    pub async fn abort(mut self) {
        if let Ok(bytes) = encode(&Pdu::AbortRQ { source: AbortRQSource::ServiceUser }) {
            let _ = timeout(RELEASE_TIMEOUT, async {
                let _ = self.stream.write_all(&bytes).await;
                let _ = self.stream.shutdown().await;
            })
            .await;
        }
    }

    /// Completes when the peer sends anything or hangs up, which on an idle association ends its use.
    pub async fn disturbed(&mut self) {
        let mut bytes = [0; 256];
        if self.unread.is_empty() && self.values.is_empty() {
            let _ = self.stream.read(&mut bytes).await;
        }
    }

    /// True when nothing is waiting on the line and the peer has not closed it.
    pub fn is_silent(&self) -> bool {
        matches!(self.probe.peek(&mut [0_u8; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// A peer that asks on our association: a C-ECHO is answered, anything else is not known here.
    async fn answer_a_request(&mut self, message: &Message) -> Result<(), Failure> {
        let known = message.command.field() == field::C_ECHO_RQ;
        let status = if known { status::SUCCESS } else { status::UNRECOGNISED_OPERATION };
        self.send(message.context, &Command::response(&message.command, status), None).await
    }

    /// A whole command or data set as PDUs that the peer takes.
    fn fragments(&self, context: u8, whole: &[u8], is_command: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = whole;
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.fragment_max));
            bytes.extend(p_data(context, now, is_command, later.is_empty()));
            if later.is_empty() {
                return bytes;
            }
            rest = later;
        }
    }

    /// The fragments of one command or data set, put together.
    async fn whole(&mut self, kind: PDataValueType, context: Option<u8>) -> Result<(u8, Vec<u8>), Failure> {
        let mut bytes = Vec::new();
        loop {
            let value = match self.values.pop_front() {
                Some(value) => value,
                None => {
                    match self.pdu().await? {
                        Pdu::PData { data } => self.values.extend(data),
                        Pdu::ReleaseRQ => return Err(Failure::Lost("the peer released the association".to_owned())),
                        _ => return Err(Failure::Protocol("the peer sent something else than a message")),
                    }
                    continue;
                }
            };
            if value.value_type != kind || context.is_some_and(|c| c != value.presentation_context_id) {
                return Err(Failure::Protocol("the peer mixed two messages"));
            }
            if bytes.len() + value.data.len() > MESSAGE_MAX {
                return Err(Failure::Protocol("the peer's message is too long"));
            }
            bytes.extend_from_slice(&value.data);
            if value.is_last {
                return Ok((value.presentation_context_id, bytes));
            }
        }
    }

    /// The next PDU. An A-ABORT is a failure.
    async fn pdu(&mut self) -> Result<Pdu, Failure> {
        loop {
            if let Some((header, _)) = self.unread.split_first_chunk::<PDU_HEADER>() {
                let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
                if !(1..=7).contains(&header[0]) {
                    return Err(Failure::Protocol(
                        "the peer does not speak DICOM on this port; is it another protocol or TLS?",
                    ));
                }
                // Negotiation is not bound by the length that it negotiates, but by reason.
                if length > RECEIVE_MAX {
                    return Err(Failure::Protocol("the peer's PDU is longer than we said we take"));
                }
                let end = PDU_HEADER + length as usize;
                if let Some(bytes) = self.unread.get(..end) {
                    let read = read_pdu(bytes, RECEIVE_MAX, true);
                    let pdu = read.ok().flatten().ok_or(Failure::Protocol("the peer's PDU is damaged"))?;
                    self.unread.drain(..end);
                    if let Pdu::AbortRQ { source } = pdu {
                        return Err(Failure::Aborted(abort_source(&source)));
                    }
                    return Ok(pdu);
                }
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes).await {
                Ok(0) => return Err(Failure::Lost("the peer closed the connection".to_owned())),
                Ok(n) => self.unread.extend_from_slice(bytes.get(..n).unwrap_or_default()),
                Err(e) => return Err(Failure::Lost(format!("connection lost: {}", e.kind()))),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.answer_timeout, writing).await {
            Ok(Ok(())) => Ok(()),
            // A peer that aborts says why before it closes.
            Ok(Err(error)) => match timeout(RELEASE_TIMEOUT, self.pdu()).await {
                Ok(Err(aborted @ Failure::Aborted(_))) => Err(aborted),
                _ => Err(Failure::Lost(format!("connection lost while sending: {}", error.kind()))),
            },
            Err(_) => Err(Failure::TimedOut("the peer stopped reading")),
        }
    }
}

/// One P-DATA-TF with one value (PS3.8 9.3.5).
pub fn p_data(context: u8, data: &[u8], is_command: bool, is_last: bool) -> Vec<u8> {
    let mut bytes = vec![0; PDU_HEADER + PDV_HEADER];
    bytes.extend_from_slice(data);
    head(&mut bytes, context, is_command, is_last);
    bytes
}

/// Fills the headers of a P-DATA-TF whose value stands behind the room for them.
fn head(pdu: &mut [u8], context: u8, is_command: bool, is_last: bool) {
    let length = u32::try_from(pdu.len() - PDU_HEADER).unwrap_or(u32::MAX);
    let value_length = length - 4;
    let flags = u8::from(is_command) | u8::from(is_last) << 1;
    if let Some(header) = pdu.first_chunk_mut::<{ PDU_HEADER + PDV_HEADER }>() {
        let [l0, l1, l2, l3] = length.to_be_bytes();
        let [v0, v1, v2, v3] = value_length.to_be_bytes();
        *header = [0x04, 0, l0, l1, l2, l3, v0, v1, v2, v3, context, flags];
    }
}

fn request(peer: &Peer, proposed: &[Proposed]) -> Pdu {
    let mut user_variables = vec![
        UserVariableItem::MaxLength(RECEIVE_MAX),
        UserVariableItem::ImplementationClassUID(uid::IMPLEMENTATION_CLASS.to_owned()),
        UserVariableItem::ImplementationVersionName(uid::IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    for one in proposed.iter().filter(|p| p.as_scp) {
        let roles = RequestorRoles { scu: false, scp: true };
        user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(one.abstract_syntax.clone(), roles));
    }
    let context = |(id, one): (u8, &Proposed)| PresentationContextProposed {
        id,
        abstract_syntax: one.abstract_syntax.clone(),
        transfer_syntaxes: one.transfer_syntaxes.clone(),
    };
    Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: peer.calling_ae_title.clone(),
        called_ae_title: peer.called_ae_title.clone(),
        application_context_name: uid::APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: ids().zip(proposed).map(context).collect(),
        user_variables,
    })
}

/// 1, 3, 5 ... 255.
fn ids() -> impl Iterator<Item = u8> {
    (1..=u8::MAX).step_by(2)
}

fn contexts(proposed: &[Proposed], answered: &[dicom_ul::pdu::PresentationContextResult]) -> Vec<Context> {
    let context = |(id, one): (u8, &Proposed)| {
        let answer = answered.iter().find(|a| a.id == id);
        let transfer_syntax = match answer.map(|a| (&a.reason, a.transfer_syntax.trim_end_matches(['\0', ' ']))) {
            None => Err(ContextRefusal::Missing),
            Some((PresentationContextResultReason::Acceptance, taken)) => {
                // Nobody may take what was not offered.
                one.transfer_syntaxes.iter().find(|t| *t == taken).cloned().ok_or(ContextRefusal::TransferSyntaxes)
            }
            Some((PresentationContextResultReason::AbstractSyntaxNotSupported, _)) => {
                Err(ContextRefusal::AbstractSyntax)
            }
            Some((PresentationContextResultReason::TransferSyntaxesNotSupported, _)) => {
                Err(ContextRefusal::TransferSyntaxes)
            }
            Some(_) => Err(ContextRefusal::Unspecified),
        };
        let (abstract_syntax, proposed) = (one.abstract_syntax.clone(), one.transfer_syntaxes.clone());
        Context { id, abstract_syntax, transfer_syntax, proposed }
    };
    ids().zip(proposed).map(context).collect()
}

/// What a rejection means, in words for the person who has to change a setting (PS3.8 table 9-21).
fn rejected(result: &AssociationRJResult, source: &AssociationRJSource, peer: &Peer) -> Failure {
    use AssociationRJServiceProviderPresentationReason as Presentation;
    use AssociationRJServiceUserReason as User;
    let Peer { called_ae_title: called, calling_ae_title: calling, .. } = peer;
    let reason = match source {
        AssociationRJSource::ServiceUser(User::CalledAETitleNotRecognized) => {
            format!("the peer is not called {called}; set the called AE title to the one its administrator gives")
        }
        AssociationRJSource::ServiceUser(User::CallingAETitleNotRecognized) => {
            format!(
                "the peer does not know {calling}; have this AE title and address entered there, or set the calling one"
            )
        }
        AssociationRJSource::ServiceUser(User::ApplicationContextNameNotSupported) => {
            "the peer does not speak DICOM as of PS3.7".to_owned()
        }
        AssociationRJSource::ServiceUser(_) => {
            "the peer gives no reason; often it does not know our AE title or address, or takes nothing of what is proposed"
                .to_owned()
        }
        AssociationRJSource::ServiceProviderASCE(
            AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported,
        ) => "the peer does not know this protocol version".to_owned(),
        AssociationRJSource::ServiceProviderASCE(_) => "the peer gives no reason".to_owned(),
        AssociationRJSource::ServiceProviderPresentation(Presentation::TemporaryCongestion) => {
            "the peer is busy (temporary congestion)".to_owned()
        }
        AssociationRJSource::ServiceProviderPresentation(Presentation::LocalLimitExceeded) => {
            "the peer has no room (local limit exceeded)".to_owned()
        }
        AssociationRJSource::ServiceProviderPresentation(_) => "the peer gives no reason".to_owned(),
    };
    let has_no_reason = matches!(
        source,
        AssociationRJSource::ServiceUser(User::NoReasonGiven | User::Reserved(_))
            | AssociationRJSource::ServiceProviderASCE(AssociationRJServiceProviderASCEReason::NoReasonGiven)
            | AssociationRJSource::ServiceProviderPresentation(Presentation::Reserved(_))
    );
    let is_transient = *result == AssociationRJResult::Transient;
    Failure::Rejected { is_transient, is_unexplained: has_no_reason && !is_transient, reason }
}

fn abort_source(source: &AbortRQSource) -> &'static str {
    match source {
        AbortRQSource::ServiceUser => "its application gave up",
        AbortRQSource::ServiceProvider(_) => "its network layer did not like what it got",
        AbortRQSource::Reserved => "without a reason",
    }
}

fn encode(pdu: &Pdu) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).map_err(|_| Failure::Protocol("the request for an association cannot be written"))?;
    Ok(bytes)
}
