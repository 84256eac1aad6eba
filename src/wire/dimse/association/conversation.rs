//! The DIMSE conversation on an open association (PS3.7): requests of the peer, requests of ours, and their answers, one
//! at a time each way.

use super::incoming::{Incoming, Step};
use crate::wire::dimse::command::{field, status};
use crate::wire::dimse::negotiation::Context;
use crate::wire::dimse::pdu::{self, Fragment};
use crate::wire::dimse::uid::{is_storage_class, is_uid};
use crate::wire::dimse::{Arrival, Command, Output, Question, Reply, Request, Response};
use crate::wire::{Custody, Event, Refusal, Refused, Time, Token};
use std::collections::VecDeque;
use std::time::Duration;

/// Longest data set of a question or an answer, in bytes: a commitment of twenty thousand instances is half of it. An
/// instance may be of any size.
const DATA_SET_MAX: usize = 8 * 1024 * 1024;

/// What is known and under way on an open association.
#[derive(Debug, Default)]
pub struct Conversation {
    calling_ae_title: String,
    called_ae_title: String,
    contexts: Vec<Context>,
    /// What the peer takes in one PDU.
    send_max: u32,
    incoming: Incoming,
    /// Where the data set that is coming in goes.
    sink: Sink,
    /// What the shell has to answer.
    asked: Option<Asked>,
    /// What the peer has to answer.
    sent: Option<Sent>,
    /// The context on which a data set of ours is being sent.
    sending: Option<u8>,
    last_token: u64,
    last_message_id: u16,
}

/// Where a data set goes.
#[derive(Debug, Default)]
enum Sink {
    /// Nowhere.
    #[default]
    Nothing,
    /// Out, piece by piece: it is an instance.
    Instance { token: Token, context: u8, request: Command, is_empty: bool },
    /// Here: it belongs to a question.
    Question { context: u8, request: Command, data_set: Vec<u8> },
    /// Nowhere; this is answered when it is over.
    Refused { context: u8, response: Command },
    /// Here: it belongs to an answer to this request of ours.
    Answer { token: Token, response: Command, transfer_syntax_uid: String, data_set: Vec<u8> },
}

/// A request that the shell has to answer.
#[derive(Debug)]
struct Asked {
    token: Token,
    context: u8,
    request: Command,
    wants: Wants,
}

/// What the shell has to answer with.
#[derive(Debug, PartialEq, Eq)]
enum Wants {
    Custody,
    Reply { since: Time },
}

/// A request that the peer has to answer.
#[derive(Debug)]
struct Sent {
    token: Token,
    message_id: u16,
    since: Time,
}

impl Conversation {
    /// The conversation on these contexts.
    pub fn new(
        calling_ae_title: String,
        called_ae_title: String,
        contexts: Vec<Context>,
        send_max: u32,
    ) -> Conversation {
        Conversation { calling_ae_title, called_ae_title, contexts, send_max, ..Conversation::default() }
    }

    /// What was agreed on.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// True in the middle of a message of the peer.
    pub fn is_inside(&self) -> bool {
        self.incoming.is_inside()
    }

    /// True while no more bytes can be dealt with.
    pub fn is_busy(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.request.field() != field::C_FIND_RQ)
    }

    /// True while an answer is awaited from the shell or the peer.
    pub fn is_waiting(&self) -> bool {
        self.asked.is_some() || self.sent.is_some()
    }

    /// True when nothing is under way.
    pub fn is_idle(&self) -> bool {
        !self.is_waiting() && !self.is_inside() && self.sending.is_none()
    }

    /// When [`Self::expire`] has something to do.
    pub fn deadline(&self, reply: Duration) -> Option<Time> {
        let asked = self.asked.as_ref().and_then(|asked| match asked.wants {
            Wants::Custody => None,
            Wants::Reply { since } => Some(since + reply),
        });
        let sent = self.sent.as_ref().map(|sent| sent.since + reply);
        asked.into_iter().chain(sent).min()
    }

    /// Gives up waiting for answers that are late.
    pub fn expire(&mut self, now: Time, reply: Duration, outputs: &mut VecDeque<Output>) {
        let is_late = |since: Time| since + reply <= now;
        if let Some(Asked { token, wants: Wants::Reply { since }, .. }) = self.asked
            && is_late(since)
        {
            outputs.push_back(Output::Event(Event::Refused("a question was not answered in time")));
            outputs.push_back(Output::Cancel { token });
            self.answer(Reply::refusing(status::PROCESSING_FAILURE, "no answer in time"), outputs);
            self.asked = None;
        }
        if let Some(sent) = self.sent.take_if(|sent| is_late(sent.since)) {
            outputs.push_back(Output::Unanswered { token: sent.token });
        }
    }

    /// The association is over.
    pub fn end(&mut self, outputs: &mut VecDeque<Output>) {
        if let Sink::Instance { token, .. } = std::mem::take(&mut self.sink) {
            outputs.push_back(Output::Discard { token });
        }
        if let Some(Asked { token, wants: Wants::Reply { .. }, .. }) = self.asked.take() {
            outputs.push_back(Output::Cancel { token });
        }
        if let Some(sent) = self.sent.take() {
            outputs.push_back(Output::Unanswered { token: sent.token });
        }
        self.incoming = Incoming::Idle;
        self.sending = None;
    }

    /// The shell has the instance, or not.
    pub fn handle_custody(&mut self, custody: Result<&impl Custody, Refused>, outputs: &mut VecDeque<Output>) {
        let token = match &custody {
            Ok(proof) => proof.token(),
            Err(refused) => refused.token,
        };
        let Some(asked) = self.asked.take_if(|asked| asked.token == token && asked.wants == Wants::Custody) else {
            return;
        };
        let response = match custody.map_err(|refused| refused.reason) {
            Ok(_) => Command::response(&asked.request, status::SUCCESS),
            Err(Refusal::Full) => Command::response(&asked.request, status::OUT_OF_RESOURCES)
                .with_error_comment("the gateway's disk is full: send it again later"),
            Err(Refusal::Storage) => Command::response(&asked.request, status::OUT_OF_RESOURCES)
                .with_error_comment("the gateway's disk has trouble: send it again later"),
        };
        self.respond(asked.context, &response, None, outputs);
    }

    /// The shell answers.
    pub fn handle_reply(&mut self, now: Time, token: Token, reply: Reply, outputs: &mut VecDeque<Output>) {
        let is_asked = |asked: &&mut Asked| asked.token == token && asked.wants != Wants::Custody;
        let Some(asked) = self.asked.as_mut().filter(is_asked) else { return };
        asked.wants = Wants::Reply { since: now };
        let more = reply.more;
        self.answer(reply, outputs);
        if !more {
            self.asked = None;
        }
    }

    /// Sends a request of ours; see [`super::Association::send`].
    pub fn send(
        &mut self,
        now: Time,
        token: Token,
        context: u8,
        command: Command,
        data_set: Option<&[u8]>,
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        let agreed = self.contexts.iter().any(|known| known.id == context);
        if !agreed || self.sent.is_some() || self.sending.is_some() {
            return false;
        }
        self.last_message_id = self.last_message_id.wrapping_add(1).max(1);
        let command = command.with_message_id(self.last_message_id);
        self.sending = (command.has_data_set() && data_set.is_none()).then_some(context);
        self.respond(context, &command, data_set, outputs);
        self.sent = Some(Sent { token, message_id: self.last_message_id, since: now });
        true
    }

    /// Sends more of a data set; see [`super::Association::send_data`].
    pub fn send_data(&mut self, now: Time, bytes: &[u8], last: bool, outputs: &mut VecDeque<Output>) {
        let Some(context) = self.sending else { return };
        let mut pdus = Vec::new();
        pdu::put_fragments(&mut pdus, context, false, bytes, last, self.send_max);
        outputs.push_back(Output::Send(pdus));
        if let Some(sent) = &mut self.sent {
            sent.since = now;
        }
        if last {
            self.sending = None;
        }
    }

    /// A fragment came. `more` is how many bytes the read had from its first one on.
    ///
    /// # Errors
    /// Why it breaks the protocol.
    pub fn handle_fragment(
        &mut self,
        now: Time,
        fragment: Fragment<'_>,
        more: usize,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let on = fragment.context;
        let context = self.contexts.iter().position(|context| context.id == on);
        let context = context.ok_or("a message on a presentation context that was not agreed on")?;
        match self.incoming.take(fragment)? {
            None => Ok(()),
            Some(Step::Data { bytes, last }) => self.data(now, bytes, last, more, outputs),
            Some(Step::Command(command)) if command.is_response() => {
                self.response(now, context, command, outputs);
                Ok(())
            }
            Some(Step::Command(command)) => {
                self.request(now, context, command, outputs);
                Ok(())
            }
        }
    }

    fn request(&mut self, now: Time, at: usize, request: Command, outputs: &mut VecDeque<Output>) {
        let context = self.contexts[at].id;
        match request.field() {
            field::C_ECHO_RQ => {
                // It has no data set, but some say that one follows.
                self.incoming.needs_no_data_set();
                self.respond(context, &Command::response(&request, status::SUCCESS), None, outputs);
            }
            field::C_CANCEL_RQ => self.cancel(&request, outputs),
            _ if self.asked.is_some() => {
                let why = "one request at a time: the last one is not answered";
                self.refuse(context, &request, status::RESOURCE_LIMITATION, why, outputs);
            }
            field::C_STORE_RQ => match self.arrival(at, &request) {
                Ok(arrival) => {
                    if arrival.sop_class_uid != self.contexts[at].abstract_syntax {
                        let why = "C-STORE: another SOP class than that of its presentation context";
                        outputs.push_back(Output::Event(Event::Odd(why)));
                    }
                    let token = self.next_token();
                    self.sink = Sink::Instance { token, context, request, is_empty: true };
                    outputs.push_back(Output::Begin { token, arrival });
                }
                Err((status, why)) => self.refuse(context, &request, status, why, outputs),
            },
            field::C_FIND_RQ | field::N_CREATE_RQ | field::N_SET_RQ | field::N_ACTION_RQ | field::N_EVENT_REPORT_RQ => {
                if request.sop_instance_uid().is_some_and(|uid| !is_uid(&uid)) {
                    let why = "the SOP Instance UID is no UID";
                    self.refuse(context, &request, status::INVALID_INSTANCE, why, outputs);
                } else if request.has_data_set() {
                    self.sink = Sink::Question { context, request, data_set: Vec::new() };
                } else {
                    self.ask(now, context, request, Vec::new(), outputs);
                }
            }
            _ => {
                let why = "this operation is not offered";
                self.refuse(context, &request, status::UNRECOGNISED_OPERATION, why, outputs);
            }
        }
    }

    /// What the command of a C-STORE says, or the status and comment that refuse it.
    fn arrival(&self, at: usize, request: &Command) -> Result<Arrival, (u16, &'static str)> {
        let context = &self.contexts[at];
        let sop_class_uid = request.sop_class_uid().unwrap_or_else(|| context.abstract_syntax.clone());
        if !is_storage_class(&sop_class_uid) || !is_storage_class(&context.abstract_syntax) {
            return Err((status::CLASS_NOT_SUPPORTED, "this is no storage SOP class"));
        }
        let sop_instance_uid = request.sop_instance_uid().filter(|uid| is_uid(uid));
        let sop_instance_uid =
            sop_instance_uid.ok_or((status::INVALID_INSTANCE, "the SOP Instance UID is missing or is no UID"))?;
        if !request.has_data_set() {
            return Err((status::CANNOT_UNDERSTAND, "the data set is missing"));
        }
        Ok(Arrival {
            sop_class_uid,
            sop_instance_uid,
            transfer_syntax_uid: context.transfer_syntax.clone(),
            calling_ae_title: self.calling_ae_title.clone(),
            called_ae_title: self.called_ae_title.clone(),
            message_id: request.message_id(),
        })
    }

    /// The rest of its message is read and dropped first: many senders only listen when they have sent everything.
    fn refuse(
        &mut self,
        context: u8,
        request: &Command,
        status: u16,
        why: &'static str,
        outputs: &mut VecDeque<Output>,
    ) {
        outputs.push_back(Output::Event(Event::Refused(why)));
        let response = Command::response(request, status).with_error_comment(why);
        match self.incoming.is_inside() {
            true => self.sink = Sink::Refused { context, response },
            false => self.respond(context, &response, None, outputs),
        }
    }

    fn cancel(&mut self, request: &Command, outputs: &mut VecDeque<Output>) {
        let named = request.message_id_responded_to();
        let asked = self
            .asked
            .take_if(|asked| asked.request.field() == field::C_FIND_RQ && Some(asked.request.message_id()) == named);
        // A C-CANCEL may cross the last answer.
        let Some(asked) = asked else { return };
        outputs.push_back(Output::Cancel { token: asked.token });
        self.respond(asked.context, &Command::response(&asked.request, status::CANCELLED), None, outputs);
    }

    fn ask(&mut self, now: Time, context: u8, request: Command, data_set: Vec<u8>, outputs: &mut VecDeque<Output>) {
        let token = self.next_token();
        let agreed = self.contexts.iter().find(|known| known.id == context);
        let (abstract_syntax, transfer_syntax_uid) =
            agreed.map(|c| (c.abstract_syntax.clone(), c.transfer_syntax.clone())).unwrap_or_default();
        let question = Question {
            sop_class_uid: request.sop_class_uid().unwrap_or(abstract_syntax),
            sop_instance_uid: request.sop_instance_uid(),
            transfer_syntax_uid,
            calling_ae_title: self.calling_ae_title.clone(),
            data_set,
        };
        let asking = match request.field() {
            field::C_FIND_RQ => Request::Find(question),
            field::N_CREATE_RQ => Request::Create(question),
            field::N_SET_RQ => Request::Set(question),
            field::N_ACTION_RQ => {
                Request::Action { action_type_id: request.action_type_id().unwrap_or_default(), question }
            }
            _ => Request::EventReport { event_type_id: request.event_type_id().unwrap_or_default(), question },
        };
        self.asked = Some(Asked { token, context, request, wants: Wants::Reply { since: now } });
        outputs.push_back(Output::Ask { token, request: asking });
    }

    fn response(&mut self, now: Time, at: usize, response: Command, outputs: &mut VecDeque<Output>) {
        let named = response.message_id_responded_to();
        let Some(sent) = self.sent.as_mut().filter(|sent| Some(sent.message_id) == named) else {
            return outputs.push_back(Output::Event(Event::Odd("an answer to nothing that was asked")));
        };
        sent.since = now;
        let token = sent.token;
        let transfer_syntax_uid = self.contexts[at].transfer_syntax.clone();
        if !response.status().is_some_and(status::is_pending) {
            self.sent = None;
        }
        if response.has_data_set() {
            self.sink = Sink::Answer { token, response, transfer_syntax_uid, data_set: Vec::new() };
        } else {
            let response = Response { command: response, data_set: Vec::new(), transfer_syntax_uid };
            outputs.push_back(Output::Answered { token, response });
        }
    }

    fn data(
        &mut self,
        now: Time,
        bytes: &[u8],
        last: bool,
        more: usize,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        match &mut self.sink {
            Sink::Nothing => return Ok(()),
            Sink::Refused { .. } => {}
            Sink::Instance { token, is_empty, .. } => {
                if !bytes.is_empty() {
                    *is_empty = false;
                    put_data(outputs, *token, bytes, more);
                }
            }
            Sink::Question { context, request, data_set } => {
                if data_set.len() + bytes.len() > DATA_SET_MAX {
                    let (context, request) = (*context, request.clone());
                    let why = "the data set of a question is too long";
                    outputs.push_back(Output::Event(Event::Refused(why)));
                    let response = Command::response(&request, status::RESOURCE_LIMITATION).with_error_comment(why);
                    self.sink = Sink::Refused { context, response };
                } else {
                    data_set.extend_from_slice(bytes);
                }
            }
            Sink::Answer { data_set, .. } => {
                if data_set.len() + bytes.len() > DATA_SET_MAX {
                    return Err("the data set of an answer is too long");
                }
                data_set.extend_from_slice(bytes);
            }
        }
        if last {
            let sink = std::mem::take(&mut self.sink);
            self.whole(now, sink, outputs);
        }
        Ok(())
    }

    /// The data set is whole.
    fn whole(&mut self, now: Time, sink: Sink, outputs: &mut VecDeque<Output>) {
        match sink {
            Sink::Nothing => {}
            Sink::Refused { context, response } => self.respond(context, &response, None, outputs),
            Sink::Question { context, request, data_set } => self.ask(now, context, request, data_set, outputs),
            Sink::Instance { token, context, request, is_empty: true } => {
                outputs.push_back(Output::Discard { token });
                self.refuse(context, &request, status::CANNOT_UNDERSTAND, "the data set is empty", outputs);
            }
            Sink::Instance { token, context, request, is_empty: false } => {
                self.asked = Some(Asked { token, context, request, wants: Wants::Custody });
                outputs.push_back(Output::Commit { token });
            }
            Sink::Answer { token, response, transfer_syntax_uid, data_set } => {
                let response = Response { command: response, data_set, transfer_syntax_uid };
                outputs.push_back(Output::Answered { token, response });
            }
        }
    }

    /// Sends this answer to what was asked.
    fn answer(&mut self, reply: Reply, outputs: &mut VecDeque<Output>) {
        let Some(asked) = &mut self.asked else { return };
        let mut response = Command::response(&asked.request, reply.status);
        if let Some(comment) = &reply.error_comment {
            response = response.with_error_comment(comment);
        }
        if let Some(id) = reply.error_id {
            response = response.with_error_id(id);
        }
        if let Some(uid) = &reply.sop_instance_uid {
            response = response.with_sop_instance_uid(uid);
        }
        if reply.data_set.is_some() {
            response = response.with_data_set();
        }
        let context = asked.context;
        self.respond(context, &response, reply.data_set.as_deref(), outputs);
    }

    fn respond(&self, context: u8, command: &Command, data_set: Option<&[u8]>, outputs: &mut VecDeque<Output>) {
        outputs.push_back(Output::Send(pdu::message(context, command, data_set, self.send_max)));
    }

    fn next_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }
}

/// Hands out bytes of an instance. Pieces of one read leave together: each costs the shell a hand-over.
fn put_data(outputs: &mut VecDeque<Output>, token: Token, piece: &[u8], more: usize) {
    if let Some(Output::Data { token: last, bytes }) = outputs.back_mut()
        && *last == token
        && bytes.capacity() - bytes.len() >= piece.len()
    {
        return bytes.extend_from_slice(piece);
    }
    let mut bytes = Vec::with_capacity(more.max(piece.len()));
    bytes.extend_from_slice(piece);
    outputs.push_back(Output::Data { token, bytes });
}
