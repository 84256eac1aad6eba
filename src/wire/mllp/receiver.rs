//! The receiving side: takes whole messages into custody, one at a time, and answers each in the mode it asks for.
//!
//! On a link that is asked for orders it is the whole of our side: a query is put to the shell once it is in custody, and
//! its reply goes out in place of an acknowledgment; messages of our own ([`super::outgoing`]) go out between the
//! peer's, and an answer that names one of them is taken into custody like any message before it counts.

use std::collections::VecDeque;
use std::time::Duration;

use super::ack::{Fault, acknowledgment};
use super::framer::{Framer, Item, MESSAGE_MAX};
use super::msh::{Msh, msa, msh};
use super::outgoing::{Meaning, Outgoing};
use super::sender::Busy;
use super::{CR, frame};
use crate::wire::waiting::Waiting;
use crate::wire::{Custody, Event, Message, Output, Persist, Refusal, Refused, Time, Token};

/// How long a message may take from `VT` to `FS`, on top of the time its bytes need.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Time each byte adds to it, as a part of it: 1 ms of 30 s, the pace of a serial line at 9600 baud.
const BYTE_DIVISOR: u32 = 30_000;
/// How long `CR` may lag behind `FS`, as a part of the frame timeout: 300 ms of 30 s.
const TAIL_DIVISOR: u32 = 100;
/// Senders wait 10 s and more for an answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a peer may take to answer a message of ours. Analyzers ask an operator nothing; the standards allow minutes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest header segment that is answered.
const HEADER_MAX: usize = 4096;
/// The header assumed when a peer sent none.
const NO_HEADER: &[u8] = b"MSH|^~\\&";

/// MSH-9.1 of what an instrument asks. An instrument orders nothing, so its ORM is a query for a worklist (Mindray).
const QUERIES: [&[u8]; 3] = [b"QBP", b"QRY", b"ORM"];
/// MSH-9.1 of what is never acknowledged, because it is an answer itself.
const ANSWERS: [&[u8]; 3] = [b"ACK", b"ORL", b"ORR"];

const NO_CONTROL_ID: Fault = Fault {
    location: &["MSH", "1", "10"],
    code: "101",
    meaning: "Required field missing",
    text: "MSH-10 is empty: the message cannot be told from another and was not kept",
};
const NOT_HL7: Fault = Fault {
    location: &[],
    code: "100",
    meaning: "Segment sequence error",
    text: "The message does not begin with MSH and was not kept",
};
const HEADER_TOO_LONG: Fault = Fault {
    location: &["MSH", "1"],
    code: "102",
    meaning: "Data type error",
    text: "The MSH segment is too long; the message was not kept",
};
const DAMAGED: Fault = Fault {
    location: &[],
    code: "207",
    meaning: "Application internal error",
    text: "A character of the message was damaged on the line; the message was not kept, send it again",
};
const TOO_LONG: Fault = Fault {
    location: &[],
    code: "207",
    meaning: "Application internal error",
    text: "The message is over the size limit and was not kept",
};
const STORAGE_FULL: Fault = Fault {
    location: &[],
    code: "207",
    meaning: "Application internal error",
    text: "Storage is full; the message was not kept, send it again later",
};
const STORAGE_FAILED: Fault = Fault {
    location: &[],
    code: "207",
    meaning: "Application internal error",
    text: "Storage failed; the message was not kept, send it again later",
};

const NO_REPLY: Fault = Fault {
    location: &[],
    code: "207",
    meaning: "Application internal error",
    text: "The orders could not be looked up now; ask again",
};

/// Limits and timers of a [`Receiver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Largest message accepted, in bytes. Larger ones are answered AR and skipped.
    pub message_max: usize,
    /// How long a message may take from `VT` to `FS`; 1 ms is added for each of its bytes at the default of 30 s, and
    /// in proportion at other values.
    pub frame_timeout: Duration,
    /// Custody that takes longer than this is not acknowledged; the line is closed. A query the shell has not answered
    /// within it is answered AE.
    pub reply_timeout: Duration,
    /// How long the peer may take to answer a message of ours before it is sent again.
    pub answer_timeout: Duration,
    /// Queries are put to the shell. Otherwise they are acknowledged like any message.
    pub host_query: bool,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        ReceiverConfig {
            message_max: MESSAGE_MAX,
            frame_timeout: FRAME_TIMEOUT,
            reply_timeout: REPLY_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            host_query: false,
        }
    }
}

/// An MLLP receiver for one connection. See [`crate::wire`] for the verbs.
///
/// After `handle_disconnect` it still asks for custody of messages that had come whole, since a sender that wants no
/// answers (`NE`) may close right behind its last message; it sends nothing more.
pub struct Receiver {
    config: ReceiverConfig,
    framer: Framer,
    outputs: VecDeque<Output>,
    /// What came behind the message in flight.
    waiting: Waiting<Item>,
    pending: Option<Pending>,
    outgoing: Outgoing,
    /// When the unfinished message began.
    began_at: Option<Time>,
    /// When the last byte came.
    heard_at: Option<Time>,
    /// False once nothing can or may be sent any more.
    connected: bool,
    /// We gave the connection up; nothing more is taken from it.
    closed: bool,
    wall_time: String,
    next_token: u64,
    next_session: u64,
}

struct Pending {
    token: Token,
    since: Time,
    header: Vec<u8>,
    session: u64,
    purpose: Purpose,
}

/// What becomes of a message once it is in custody.
enum Purpose {
    /// It is acknowledged.
    Acknowledge,
    /// It is a query: the shell is asked with its bytes.
    Ask(Vec<u8>),
    /// The shell has been asked.
    Asked,
    /// It answers the message of ours with this control id, or nothing that is known.
    Answer { code: Vec<u8>, control_id: Vec<u8>, bytes: Vec<u8> },
}

/// Outcome of a message, for the choice of MSA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Accepted,
    /// Not now, or not like this.
    Failed,
    /// Never.
    Rejected,
}

impl Verdict {
    /// MSA-1 of the application.
    pub fn application_code(self) -> &'static str {
        match self {
            Verdict::Accepted => "AA",
            Verdict::Failed => "AE",
            Verdict::Rejected => "AR",
        }
    }

    /// MSA-1 of the commit level.
    fn commit_code(self) -> &'static str {
        match self {
            Verdict::Accepted => "CA",
            Verdict::Failed => "CE",
            Verdict::Rejected => "CR",
        }
    }

    /// True when everything was done.
    pub fn is_accepted(self) -> bool {
        self == Verdict::Accepted
    }
}

/// The application's own answer to a message that is in custody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its MSA-1, for senders that want to hear only of success or only of errors.
    pub verdict: Verdict,
    /// The answer, unframed.
    pub message: Vec<u8>,
}

impl Receiver {
    /// A receiver on a fresh connection. Entries are numbered from `first_session`.
    pub fn new(config: ReceiverConfig, first_session: u64) -> Self {
        Receiver {
            framer: Framer::new(config.message_max),
            outgoing: Outgoing::new(config.answer_timeout),
            config,
            outputs: VecDeque::new(),
            waiting: Waiting::new(),
            pending: None,
            began_at: None,
            heard_at: None,
            connected: true,
            closed: false,
            wall_time: String::new(),
            next_token: 0,
            next_session: first_session,
        }
    }

    /// The time of day for MSH-7 of the answers that follow, as HL7 writes it (`20260102030405+0000`). The shell calls
    /// this before each `handle_*`; a machine has no clock.
    pub fn set_wall_time(&mut self, time: &str) {
        self.wall_time.clear();
        self.wall_time.push_str(time);
    }

    /// Bytes came from the peer, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        self.heard_at = Some(now);
        let items = self.framer.push(bytes);
        let ended = items.iter().any(|item| matches!(item, Item::Message(_) | Item::Damaged(_)));
        self.began_at = match self.framer.unfinished() {
            Some(_) if ended => Some(now),
            Some(_) => self.began_at.or(Some(now)),
            None => None,
        };
        for item in items {
            self.enqueue(item);
        }
        self.work(now);
    }

    /// A character came damaged (parity, framing or a break; serial lines only). MLLP has no checksum, so the message it
    /// is in is answered AE and not kept.
    pub fn handle_damage(&mut self, now: Time) {
        self.handle_timeout(now);
        self.heard_at = Some(now);
        self.framer.damage();
    }

    /// The journal answered a `Persist`. An answer to a question that is no longer open changes nothing.
    pub fn handle_custody(&mut self, now: Time, answer: Result<&impl Custody, Refused>) {
        self.handle_answer(now, answer, None);
    }

    /// The same, with what the application says to the message at once.
    pub fn handle_answer(&mut self, now: Time, answer: Result<&impl Custody, Refused>, reply: Option<Reply>) {
        self.handle_timeout(now);
        let token = match &answer {
            Ok(custody) => custody.token(),
            Err(refused) => refused.token,
        };
        let Some(mut pending) = self.pending.take_if(|pending| pending.token == token) else { return };
        if let (Ok(_), Some(reply)) = (&answer, &reply) {
            self.pass_on(&pending, reply);
            return self.work(now);
        }
        match (answer, std::mem::replace(&mut pending.purpose, Purpose::Asked)) {
            (Ok(_), Purpose::Acknowledge) => self.acknowledge(&pending, Verdict::Accepted, None),
            (Ok(_), Purpose::Ask(bytes)) => {
                if self.connected {
                    self.outputs.push_back(Output::Ask(Message { token, bytes }));
                    self.pending = Some(pending);
                }
            }
            (Ok(_), Purpose::Answer { code, control_id, bytes }) => {
                self.acknowledge_answer(&pending, Verdict::Accepted);
                match self.outgoing.settle(now, &code, &control_id) {
                    Meaning::Answer(token) => self.outputs.push_back(Output::Answered(Message { token, bytes })),
                    Meaning::Committed => {}
                    Meaning::Stray => self.event(Event::Odd("an answer to nothing that was sent")),
                }
            }
            (Err(_), Purpose::Answer { .. }) => {
                // Its message goes out again, and is answered again.
                self.event(Event::Refused("no custody"));
                self.acknowledge_answer(&pending, Verdict::Failed);
            }
            (Err(refused), _) => {
                self.event(Event::Refused("no custody"));
                let fault = match refused.reason {
                    Refusal::Full => &STORAGE_FULL,
                    Refusal::Storage => &STORAGE_FAILED,
                };
                self.acknowledge(&pending, Verdict::Failed, Some(fault));
            }
            (Ok(_), Purpose::Asked) => self.pending = Some(pending),
        }
        self.work(now);
    }

    /// The shell's reply to an [`Output::Ask`], unframed; `None` when it cannot tell now, which is answered AE. A reply
    /// that comes after its time changes nothing.
    pub fn handle_reply(&mut self, now: Time, token: Token, reply: Option<&[u8]>) {
        self.handle_timeout(now);
        let open = |pending: &mut Pending| pending.token == token && matches!(pending.purpose, Purpose::Asked);
        let Some(pending) = self.pending.take_if(open) else { return };
        match reply {
            Some(reply) if self.connected => self.outputs.push_back(Output::Send(frame(reply))),
            Some(_) => {}
            None => self.send_error(&pending),
        }
        self.work(now);
    }

    /// Sends a message of our own, unframed, once those before it are answered. The outcome is an
    /// [`Output::Answered`], or [`Event::Failed`] when no answer came or the line went away.
    ///
    /// # Errors
    /// [`Busy`] when too many wait, when no answer could name this one or another with its control id waits.
    pub fn send(&mut self, now: Time, token: Token, message: &[u8]) -> Result<(), Busy> {
        if !self.connected {
            return Err(Busy);
        }
        self.outgoing.push(token, message.to_vec())?;
        self.work(now);
        Ok(())
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(late) = self.pending.take_if(|pending| now >= pending.since + self.config.reply_timeout) {
            match late.purpose {
                Purpose::Asked => {
                    self.event(Event::Refused("a query was not answered in time"));
                    self.send_error(&late);
                    self.work(now);
                }
                _ => self.close("custody came too late"),
            }
        }
        if let Some(token) = self.outgoing.handle_timeout(now) {
            self.event(Event::Failed(token, "no answer"));
        }
        self.write(now);
        if self.tail_deadline().is_some_and(|deadline| now >= deadline) {
            self.flush();
            self.work(now);
        }
        if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
            self.close("a message did not end in time");
        }
    }

    /// The line went away.
    pub fn handle_disconnect(&mut self, now: Time) {
        self.connected = false;
        self.flush();
        if self.framer.unfinished().is_some() {
            self.event(Event::Odd("the line went away inside a message"));
        }
        self.framer.reset();
        self.began_at = None;
        self.pending.take_if(|pending| matches!(pending.purpose, Purpose::Asked));
        self.give_up("the line went away");
        self.work(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Receiver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let reply = self.pending.as_ref().map(|pending| pending.since + self.config.reply_timeout);
        [reply, self.outgoing.poll_timeout(), self.tail_deadline(), self.frame_deadline()].into_iter().flatten().min()
    }

    /// False while messages wait behind the one in flight. A pump that stops reading then lets TCP hold the rest.
    pub fn wants_bytes(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the peer that are in memory now. At most three times `message_max`.
    pub fn bytes_held(&self) -> usize {
        self.framer.bytes_held() + self.waiting.bytes()
    }

    fn enqueue(&mut self, item: Item) {
        if self.closed {
            return;
        }
        // One more than may wait is too many, unless it is about to be taken.
        let too_many = self.waiting.is_long() && self.pending.is_some();
        self.waiting.push(size(&item), item);
        let bytes_max = self.config.message_max.saturating_mul(2);
        if too_many || self.waiting.bytes() > bytes_max {
            self.event(Event::Refused("the sender does not wait for answers"));
            self.close("the sender does not wait for answers");
        }
    }

    /// Takes items until one needs custody.
    fn work(&mut self, now: Time) {
        while self.pending.is_none() {
            let Some(item) = self.waiting.take() else { break };
            match item {
                Item::Noise(_) => self.event(Event::Odd("bytes between messages")),
                Item::Restarted => self.event(Event::Refused("a message began before the last one ended")),
                Item::TooLong(head) => self.refuse(&head, "message over the size limit", Verdict::Rejected, &TOO_LONG),
                Item::Damaged(message) => {
                    self.refuse(&message, "damaged character inside a message", Verdict::Failed, &DAMAGED);
                }
                Item::Message(message) => self.take(now, message),
            }
        }
        self.write(now);
    }

    /// Sends the next message of our own when it is its turn.
    fn write(&mut self, now: Time) {
        if self.connected
            && let Some(bytes) = self.outgoing.next(now)
        {
            self.outputs.push_back(Output::Send(bytes));
        }
    }

    fn take(&mut self, now: Time, message: Vec<u8>) {
        if message.trim_ascii().is_empty() {
            return self.event(Event::Odd("empty message"));
        }
        let Some(header) = msh(&message) else {
            return self.refuse(&message, "no MSH", Verdict::Rejected, &NOT_HL7);
        };
        if header.field(10).trim_ascii().is_empty() {
            return self.refuse(&message, "no MSH-10", Verdict::Failed, &NO_CONTROL_ID);
        }
        if header.segment().len() > HEADER_MAX {
            return self.refuse(&message, "MSH too long", Verdict::Rejected, &HEADER_TOO_LONG);
        }
        let identity = [header.field(3), header.field(4), header.field(10)].join(&b'|');
        let token = Token(self.next_token);
        self.next_token += 1;
        let session = self.session();
        let purpose = self.purpose(now, &header, &message);
        self.pending = Some(Pending { token, since: now, header: header.segment().to_vec(), session, purpose });
        let persist = Persist { token, session, bytes: message, completes: true, identity: Some(identity) };
        self.outputs.push_back(Output::Persist(persist));
    }

    fn purpose(&mut self, now: Time, header: &Msh<'_>, message: &[u8]) -> Purpose {
        let kind = header.component(9, 1).to_ascii_uppercase();
        let (code, answered) = msa(message).unwrap_or_default();
        if ANSWERS.contains(&kind.as_slice()) || !answered.is_empty() && self.outgoing.awaits(answered) {
            self.outgoing.extend(now, answered);
            let (code, control_id) = (code.trim_ascii().to_vec(), answered.to_vec());
            return Purpose::Answer { code, control_id, bytes: message.to_vec() };
        }
        match self.config.host_query && QUERIES.contains(&kind.as_slice()) {
            true => Purpose::Ask(message.to_vec()),
            false => Purpose::Acknowledge,
        }
    }

    fn acknowledge(&mut self, pending: &Pending, outcome: Verdict, fault: Option<&Fault>) {
        if let Some(msh) = msh(&pending.header) {
            self.reply(&msh, pending.session, outcome, fault);
        }
    }

    /// Sends the application's answer, and the commit's before it, as the message asks for.
    fn pass_on(&mut self, pending: &Pending, reply: &Reply) {
        let Some(msh) = msh(&pending.header) else { return };
        let (commit, application) = (wanted(msh.field(15), Verdict::Accepted), wanted(msh.field(16), reply.verdict));
        if commit == Some(true) {
            self.send_acknowledgment(&msh, pending.session, "CA", None);
        }
        if self.connected && (application == Some(true) || (commit, application) == (None, None)) {
            self.outputs.push_back(Output::Send(frame(&reply.message)));
        }
    }

    /// Nobody waits for an acknowledgment of an answer, except in enhanced mode for the commit ack.
    fn acknowledge_answer(&mut self, pending: &Pending, outcome: Verdict) {
        let Some(msh) = msh(&pending.header) else { return };
        if let Some(code) = codes(&msh, outcome).into_iter().find(|code| code.starts_with('C')) {
            self.send_acknowledgment(&msh, pending.session, code, None);
        }
    }

    /// A query that is in custody and that nobody could answer. It is always told, in every acknowledgment mode.
    fn send_error(&mut self, pending: &Pending) {
        if let Some(msh) = msh(&pending.header) {
            self.send_acknowledgment(&msh, pending.session, "AE", Some(&NO_REPLY));
        }
    }

    fn give_up(&mut self, reason: &'static str) {
        let failed = self.outgoing.give_up();
        self.outputs.extend(failed.map(|token| Output::Event(Event::Failed(token, reason))));
    }

    /// Answers a message that is not taken.
    fn refuse(&mut self, message: &[u8], reason: &'static str, outcome: Verdict, fault: &Fault) {
        self.event(Event::Refused(reason));
        let header = msh(message).or_else(|| msh(NO_HEADER));
        let session = self.session();
        if let Some(header) = header {
            self.reply(&header, session, outcome, Some(fault));
        }
    }

    /// Sends what the message's acknowledgment mode asks for (HL7 v2 chapter 2.9.2 and 2.9.3).
    fn reply(&mut self, msh: &Msh<'_>, session: u64, outcome: Verdict, fault: Option<&Fault>) {
        for code in codes(msh, outcome) {
            self.send_acknowledgment(msh, session, code, fault);
        }
    }

    fn send_acknowledgment(&mut self, msh: &Msh<'_>, session: u64, code: &str, fault: Option<&Fault>) {
        if self.connected {
            let id = control_id(msh, session, &self.wall_time);
            let bytes = frame(&acknowledgment(msh, code, fault, &id, &self.wall_time));
            self.outputs.push_back(Output::Send(bytes));
        }
    }

    /// Ends the connection. Nothing that waits has been acknowledged, so its sender still has it.
    fn close(&mut self, reason: &'static str) {
        self.connected = false;
        self.closed = true;
        self.waiting.clear();
        self.framer.reset();
        self.began_at = None;
        self.give_up("the line was closed");
        self.outputs.push_back(Output::Close(reason));
    }

    fn flush(&mut self) {
        if let Some(item) = self.framer.flush() {
            self.began_at = None;
            self.enqueue(item);
        }
    }

    fn session(&mut self) -> u64 {
        let session = self.next_session;
        self.next_session += 1;
        session
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn tail_deadline(&self) -> Option<Time> {
        let heard = self.heard_at.filter(|_| self.framer.maybe_ended())?;
        Some(heard + self.config.frame_timeout / TAIL_DIVISOR)
    }

    fn frame_deadline(&self) -> Option<Time> {
        let bytes = u32::try_from(self.framer.unfinished()?).unwrap_or(u32::MAX);
        let allowance = (self.config.frame_timeout / BYTE_DIVISOR).saturating_mul(bytes);
        self.began_at.map(|at| at + self.config.frame_timeout + allowance)
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Message(bytes) | Item::TooLong(bytes) | Item::Damaged(bytes) => bytes.len(),
        Item::Noise(_) | Item::Restarted => 0,
    }
}

/// MSA-1 of each acknowledgment that is due. Fields 15 and 16 empty, or holding something else than the standard's
/// words (some analyzers put a sample kind there), mean original mode.
fn codes(msh: &Msh<'_>, outcome: Verdict) -> Vec<&'static str> {
    match (wanted(msh.field(15), outcome), wanted(msh.field(16), outcome)) {
        (None, None) => vec![outcome.application_code()],
        (accept, processed) => {
            let mut codes = Vec::new();
            if accept == Some(true) {
                codes.push(outcome.commit_code());
            }
            // A message that was not even committed gets no second answer.
            if processed == Some(true) && (outcome.is_accepted() || codes.is_empty()) {
                codes.push(outcome.application_code());
            }
            codes
        }
    }
}

/// Whether an acknowledgment of this outcome is wanted (table 0155); `None` when the field does not say.
fn wanted(field: &[u8], outcome: Verdict) -> Option<bool> {
    match field {
        b"AL" => Some(true),
        b"NE" => Some(false),
        b"ER" => Some(!outcome.is_accepted()),
        b"SU" => Some(outcome.is_accepted()),
        _ => None,
    }
}

/// Our MSH-10: 16 characters made from what is answered, and when, so that two answers differ and a test can tell.
fn control_id(msh: &Msh<'_>, session: u64, time: &str) -> String {
    let session = session.to_be_bytes();
    let parts = [msh.field(3), msh.field(4), msh.field(10), time.as_bytes(), &session];
    // FNV-1a: spreads well, needs no dependency, and nothing here is a secret.
    let hash = parts
        .join(&CR)
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    format!("{hash:016X}")
}
