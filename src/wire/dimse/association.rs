//! An association (PS3.8 section 9.2): the upper layer machine of both roles, and the DIMSE conversation on it.
//!
//! [`Association::accept`] waits for a request, [`Association::request`] makes one. Once it is open the roles differ in
//! nothing: either side may ask, one request at a time each way.
//!
//! Whether a caller is let in is the shell's to say ([`Output::Associate`]), what a question's answer is as well
//! ([`Output::Ask`]). C-ECHO is answered here. An instance leaves as it comes in, and its C-STORE-RSP says success only
//! when the shell hands over a [`Custody`] for it (invariant I1). While custody or an answer is awaited the machine wants
//! no bytes ([`Association::wants_bytes`]); a C-FIND alone lets bytes in, for the C-CANCEL that may come.
//!
//! A peer that breaks the protocol is told by A-ABORT and heard no further; one that is told to go is given
//! [`Settings::artim`] to close first, so that what it was told reaches it.

mod conversation;
mod incoming;

use super::negotiation::{AssociateAc, AssociateRq, Context, Malformed, ProposedContext, Role, UserInformation};
use super::pdu::{self, Abort, PduFault, Piece, Rejection, Splitter};
use super::{Caller, Output, Reply, uid};
use crate::wire::{Custody, ENDED, Event, Refused, Time, Token};
use conversation::Conversation;
use std::collections::VecDeque;
use std::time::Duration;

/// Longest P-DATA that is announced and taken, in bytes. Larger ones win little, and some old senders reserve as much.
pub const MAX_PDU: u32 = 128 * 1024;
/// Bytes that are kept while the machine is busy: what the shell had read already when it was told to wait.
const BACKLOG_MAX: usize = 1024 * 1024;

/// Limits of an association. The defaults suit modalities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Longest P-DATA that is announced and taken, in bytes.
    pub max_pdu: u32,
    /// ARTIM: a request must come within this time of the connection, an answer to ours within it, and a peer that was
    /// told that the association is over must close within it.
    pub artim: Duration,
    /// An association on which nothing is said for this long is over. Ultrasound carts keep one open for a whole
    /// examination.
    pub idle: Duration,
    /// The same in the middle of a message.
    pub stall: Duration,
    /// The shell must answer a question within this time, and a peer a request of ours.
    pub reply: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_pdu: MAX_PDU,
            artim: Duration::from_secs(15),
            idle: Duration::from_secs(10 * 60),
            stall: Duration::from_secs(60),
            reply: Duration::from_secs(60),
        }
    }
}

/// What a requestor proposes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proposal {
    /// Title of the peer.
    pub called_ae_title: String,
    /// Our own.
    pub calling_ae_title: String,
    /// SOP classes with the transfer syntaxes of each, the preferred first; at most 128.
    pub contexts: Vec<(String, Vec<String>)>,
    /// Roles, where they are not the usual ones.
    pub roles: Vec<Role>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was asked yet.
    AwaitRequest { until: Time },
    /// The shell decides.
    AwaitAdmission(Box<AssociateRq>),
    /// We asked.
    AwaitAnswer { until: Time, request: Box<AssociateRq> },
    /// Both sides may speak.
    Open,
    /// We asked for the end.
    Releasing { until: Time },
    /// Everything is said; the peer is to close.
    Closing { until: Time },
    /// Nothing happens any more.
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Association {
    settings: Settings,
    phase: Phase,
    splitter: Splitter,
    /// When the peer was last heard.
    heard: Time,
    /// What came while the machine was busy.
    backlog: Vec<u8>,
    conversation: Conversation,
    outputs: VecDeque<Output>,
}

impl Association {
    /// A peer has connected and is to ask.
    pub fn accept(now: Time, settings: Settings) -> Association {
        Association::new(now, settings, Phase::AwaitRequest { until: now + settings.artim })
    }

    /// Asks the peer that we have connected to. [`Output::Associated`] says when it agrees.
    pub fn request(now: Time, settings: Settings, proposal: &Proposal) -> Association {
        let ids = (1..=u8::MAX).step_by(2);
        let contexts = ids.zip(&proposal.contexts).map(|(id, (abstract_syntax, transfer_syntaxes))| ProposedContext {
            id,
            abstract_syntax: abstract_syntax.clone(),
            transfer_syntaxes: transfer_syntaxes.clone(),
        });
        let request = AssociateRq {
            version: 1,
            called_ae_title: proposal.called_ae_title.clone(),
            calling_ae_title: proposal.calling_ae_title.clone(),
            application_context: Some(uid::APPLICATION_CONTEXT.to_string()),
            contexts: contexts.collect(),
            user: UserInformation { roles: proposal.roles.clone(), ..UserInformation::ours(settings.max_pdu) },
        };
        let bytes = request.write();
        let phase = Phase::AwaitAnswer { until: now + settings.artim, request: Box::new(request) };
        let mut association = Association::new(now, settings, phase);
        association.outputs.push_back(Output::Send(bytes));
        association
    }

    fn new(now: Time, settings: Settings, phase: Phase) -> Association {
        Association {
            settings,
            phase,
            splitter: Splitter::new(settings.max_pdu),
            heard: now,
            backlog: Vec::new(),
            conversation: Conversation::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Bytes came, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.heard = now;
        if self.is_busy() {
            self.backlog.extend_from_slice(bytes);
            if self.backlog.len() > BACKLOG_MAX {
                self.fail(now, Abort::UNEXPECTED_PDU, "too many bytes while an answer was awaited");
            }
            return;
        }
        self.consume(now, bytes);
    }

    /// The shell lets the caller in, or not. Called once for each [`Output::Associate`].
    pub fn handle_admission(&mut self, now: Time, admission: Result<(), Rejection>) {
        let Phase::AwaitAdmission(request) = std::mem::replace(&mut self.phase, Phase::Open) else { return };
        if let Err(rejection) = admission {
            return self.say_last(now, pdu::associate_rj(rejection));
        }
        let (answer, agreed) = request.answer(self.settings.max_pdu);
        if agreed.is_empty() {
            self.event(Event::Refused("an association with no service that is offered here"));
        }
        self.outputs.push_back(Output::Send(answer.write(&request)));
        self.open(&request, agreed, request.user.max_pdu);
        self.resume(now);
    }

    /// The shell made an instance durable, or could not.
    pub fn handle_custody(&mut self, now: Time, custody: Result<&impl Custody, Refused>) {
        self.conversation.handle_custody(custody, &mut self.outputs);
        self.resume(now);
    }

    /// The shell answers a question.
    pub fn handle_reply(&mut self, now: Time, token: Token, reply: Reply) {
        self.conversation.handle_reply(now, token, reply, &mut self.outputs);
        self.resume(now);
    }

    /// The deadline of [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.phase {
            Phase::AwaitRequest { until } if until <= now => {
                self.event(Event::Refused("no association was asked for in time"));
                self.end();
            }
            Phase::AwaitAnswer { until, .. } if until <= now => {
                self.event(Event::Refused("the peer does not answer the association request"));
                self.end();
            }
            Phase::Releasing { until } | Phase::Closing { until } if until <= now => self.end(),
            Phase::Open => {
                self.conversation.expire(now, self.settings.reply, &mut self.outputs);
                self.resume(now);
                if let Some((at, why)) = self.silence()
                    && at <= now
                {
                    self.fail(now, Abort::USER, why);
                }
            }
            _ => {}
        }
    }

    /// The connection is gone.
    pub fn handle_disconnect(&mut self, _now: Time) {
        let was_open = matches!(self.phase, Phase::Open);
        if was_open && (self.conversation.is_inside() || self.splitter.is_inside()) {
            self.event(Event::Odd("the connection was lost in the middle of a message"));
        }
        self.end();
    }

    /// The next thing to do; take them until `None` after each call of another verb.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::AwaitRequest { until } | Phase::AwaitAnswer { until, .. } => Some(until),
            Phase::Releasing { until } | Phase::Closing { until } => Some(until),
            Phase::AwaitAdmission(_) | Phase::Over => None,
            Phase::Open => {
                let silence = self.silence().map(|(at, _)| at);
                silence.into_iter().chain(self.conversation.deadline(self.settings.reply)).min()
            }
        }
    }

    /// False while bytes would only be kept: the shell is to read nothing, which slows the peer down.
    pub fn wants_bytes(&self) -> bool {
        !self.is_busy()
    }

    /// True on an association on which nothing is under way and either side may begin.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.conversation.is_idle() && !self.splitter.is_inside()
    }

    /// What was agreed on.
    pub fn contexts(&self) -> &[Context] {
        self.conversation.contexts()
    }

    /// Sends a request of ours with its data set, under a Message ID of the machine's. False when none can be sent now:
    /// the association is not open, one is under way, or the peer did not agree to the context.
    /// [`Output::Answered`] with this token follows, several times for a C-FIND, or [`Output::Unanswered`].
    pub fn send(
        &mut self,
        now: Time,
        token: Token,
        context: u8,
        command: super::Command,
        data_set: Option<&[u8]>,
    ) -> bool {
        matches!(self.phase, Phase::Open)
            && self.conversation.send(now, token, context, command, data_set, &mut self.outputs)
    }

    /// Sends more of the data set of the request that was sent without one although its command announces it; `last`
    /// with its end. Nothing else may be sent meanwhile.
    pub fn send_data(&mut self, now: Time, bytes: &[u8], last: bool) {
        if matches!(self.phase, Phase::Open) {
            self.conversation.send_data(now, bytes, last, &mut self.outputs);
        }
    }

    /// Asks for the end, in good order.
    pub fn release(&mut self, now: Time) {
        if matches!(self.phase, Phase::Open) {
            self.outputs.push_back(Output::Send(pdu::release_rq()));
            self.conversation.end(&mut self.outputs);
            self.phase = Phase::Releasing { until: now + self.settings.artim };
        }
    }

    /// Ends the association at once.
    pub fn abort(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            self.say_last(now, pdu::abort(Abort::USER));
        }
    }

    fn is_busy(&self) -> bool {
        match self.phase {
            Phase::AwaitAdmission(_) => true,
            Phase::Open => self.conversation.is_busy(),
            _ => false,
        }
    }

    /// When the peer has been silent for too long, and what to say then.
    fn silence(&self) -> Option<(Time, &'static str)> {
        if self.conversation.is_waiting() {
            return None;
        }
        let inside = self.conversation.is_inside() || self.splitter.is_inside();
        Some(match inside {
            true => (self.heard + self.settings.stall, "the peer fell silent in the middle of a message"),
            false => (self.heard + self.settings.idle, "nothing was said on the association for too long"),
        })
    }

    /// Takes up what came while the machine was busy.
    fn resume(&mut self, now: Time) {
        if !self.backlog.is_empty() && !self.is_busy() {
            let backlog = std::mem::take(&mut self.backlog);
            self.consume(now, &backlog);
        }
    }

    fn consume(&mut self, now: Time, mut input: &[u8]) {
        while !matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            if self.is_busy() {
                self.backlog.extend_from_slice(input);
                return;
            }
            let more = input.len();
            match self.splitter.next(&mut input) {
                Ok(None) => return,
                Ok(Some(piece)) => self.piece(now, piece, more),
                Err(fault) => self.fault(now, fault),
            }
        }
    }

    /// `more` is how many bytes there were before this piece was taken from them.
    fn piece(&mut self, now: Time, piece: Piece<'_>, more: usize) {
        match (&self.phase, piece) {
            (_, Piece::Abort(_)) => {
                self.event(Event::Odd("the peer aborted the association"));
                self.end();
            }
            (Phase::AwaitRequest { .. }, Piece::AssociateRq(body)) => self.asked(now, &body),
            (Phase::AwaitAnswer { .. }, Piece::AssociateAc(body)) => self.agreed(now, &body),
            (Phase::AwaitAnswer { .. }, Piece::AssociateRj(rejection)) => {
                self.event(Event::Refused(rejected(rejection)));
                self.end();
            }
            (Phase::Open, Piece::Fragment(fragment)) => {
                if let Err(why) = self.conversation.handle_fragment(now, fragment, more, &mut self.outputs) {
                    self.fail(now, Abort::UNEXPECTED_PDU, why);
                }
            }
            (Phase::Open | Phase::Releasing { .. }, Piece::ReleaseRq) => {
                self.conversation.end(&mut self.outputs);
                self.say_last(now, pdu::release_rp());
            }
            (Phase::Releasing { .. }, Piece::ReleaseRp) => self.end(),
            // What was under way when we asked for the end is of no interest any more.
            (Phase::Releasing { .. }, Piece::Fragment(_)) => {}
            _ => self.fail(now, Abort::UNEXPECTED_PDU, "a PDU that does not belong here"),
        }
    }

    fn asked(&mut self, now: Time, body: &[u8]) {
        let request = match AssociateRq::read(body) {
            Ok(request) => request,
            Err(Malformed(why)) => return self.fail(now, Abort::INVALID_PARAMETER, why),
        };
        if let Some((rejection, why)) = request.rejection() {
            self.event(Event::Refused(why));
            return self.say_last(now, pdu::associate_rj(rejection));
        }
        let caller = Caller {
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            wants_to_store: request.contexts.iter().any(|context| uid::is_storage_class(&context.abstract_syntax)),
            names_user: request.user.identity.is_some(),
        };
        self.phase = Phase::AwaitAdmission(Box::new(request));
        self.outputs.push_back(Output::Associate(caller));
    }

    fn agreed(&mut self, now: Time, body: &[u8]) {
        let Phase::AwaitAnswer { request, .. } = std::mem::replace(&mut self.phase, Phase::Open) else { return };
        match AssociateAc::read(body) {
            Ok(answer) => {
                self.open(&request, answer.agreed(&request), answer.user.max_pdu);
                self.outputs.push_back(Output::Associated);
            }
            Err(Malformed(why)) => self.fail(now, Abort::INVALID_PARAMETER, why),
        }
    }

    fn open(&mut self, request: &AssociateRq, agreed: Vec<Context>, peer_max: u32) {
        let (calling, called) = (request.calling_ae_title.clone(), request.called_ae_title.clone());
        self.conversation = Conversation::new(calling, called, agreed, pdu::send_max(peer_max));
    }

    fn fault(&mut self, now: Time, fault: PduFault) {
        self.fail(now, fault.abort(), fault.reason());
    }

    /// The peer broke the protocol, or fell silent.
    fn fail(&mut self, now: Time, abort: Abort, why: &'static str) {
        self.event(Event::Refused(why));
        self.say_last(now, pdu::abort(abort));
    }

    /// Sends what ends the association and waits for the peer to close.
    fn say_last(&mut self, now: Time, bytes: Vec<u8>) {
        self.conversation.end(&mut self.outputs);
        self.backlog = Vec::new();
        self.outputs.push_back(Output::Send(bytes));
        self.phase = Phase::Closing { until: now + self.settings.artim };
    }

    fn end(&mut self) {
        if !matches!(self.phase, Phase::Over) {
            self.conversation.end(&mut self.outputs);
            self.backlog = Vec::new();
            self.phase = Phase::Over;
            self.outputs.push_back(Output::Close(ENDED));
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// What a rejection means for the person who set the association up.
fn rejected(rejection: Rejection) -> &'static str {
    match (rejection.result, rejection.source, rejection.reason) {
        (2, ..) => "the peer takes no association for now",
        (_, 1, 3) => "the peer does not know our AE title: add it there",
        (_, 1, 7) => "the peer has another AE title: correct the called AE title here",
        _ => "the peer refuses the association",
    }
}

#[cfg(test)]
mod tests;
