//! The box's side of a foreign line: custody of each message, and an answer where the instrument wants one.

use std::collections::VecDeque;
use std::time::Duration;

use super::framer::{Framer, Item, MESSAGE_MAX};
use super::framing::{Framing, Reply};
use crate::wire::waiting::Waiting;
use crate::wire::{Custody, Event, Output, Persist, Refused, Time, Token};

/// How long a message may be interrupted when its framing names no silence.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Custody that takes longer is not acknowledged.
const REPLY_TIMEOUT: Duration = Duration::from_secs(9);
/// An instrument that hears no answers sends nothing again, so what the journal refused is offered to it again.
const CUSTODY_RETRY: Duration = Duration::from_secs(1);
/// Letters and digits from which noise is kept for a person to look at. Less is a disturbance of the line.
const NOISE_KEPT_MIN: usize = 3;

const ACK: u8 = 0x06;
const EOT: u8 = 0x04;

/// Framing, limits and timers of a [`Receiver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// How messages are told apart. One that [`Framing::check`] refuses keeps everything as noise.
    pub framing: Framing,
    /// Longest message taken whole, in bytes. A longer one is kept in pieces and never complete.
    pub message_max: usize,
    /// How long a message may be interrupted, when the framing does not say.
    pub message_timeout: Duration,
    /// Custody that takes longer is not acknowledged, when the framing does not say.
    pub reply_timeout: Duration,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        ReceiverConfig {
            framing: Framing::by_silence(2000),
            message_max: MESSAGE_MAX,
            message_timeout: MESSAGE_TIMEOUT,
            reply_timeout: REPLY_TIMEOUT,
        }
    }
}

/// A receiver for one connection. See [`crate::wire`] for the verbs.
///
/// It never closes the line: an instrument on such a line would not notice. After `handle_disconnect` it still asks
/// for custody of what had come.
pub struct Receiver {
    config: ReceiverConfig,
    framer: Framer,
    outputs: VecDeque<Output>,
    /// What came behind the message in custody, and when.
    waiting: Waiting<(Time, Item)>,
    pending: Option<Pending>,
    /// The answer that is due, not before its time.
    answer: Option<(Time, Vec<u8>)>,
    /// When the journal is asked again.
    retry_at: Option<Time>,
    /// When the last byte came.
    heard_at: Option<Time>,
    connected: bool,
    /// The conversation is over as soon as what came of it is kept.
    forsaken: bool,
    /// The conversation whose messages are gathered, between ENQ and EOT.
    gathering: Option<u64>,
    next_token: u64,
    next_session: u64,
}

/// Custody that has been asked for.
struct Pending {
    token: Token,
    /// When the message was whole.
    came_at: Time,
    session: u64,
    /// What was asked for, for another try.
    item: Item,
    outcome: Outcome,
}

/// What becomes of a message once it is in custody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is acknowledged, where the instrument wants that.
    Answered,
    /// Nothing is said; it was the end of a conversation.
    Silent,
    /// It is no whole message, and kept for a person.
    Abandoned,
}

impl Receiver {
    /// A receiver on a fresh line. Entries are numbered from `first_session`.
    pub fn new(config: ReceiverConfig, first_session: u64) -> Self {
        Receiver {
            framer: Framer::new(&config.framing, config.message_max),
            config,
            outputs: VecDeque::new(),
            waiting: Waiting::new(),
            pending: None,
            answer: None,
            retry_at: None,
            heard_at: None,
            connected: true,
            forsaken: false,
            gathering: None,
            next_token: 0,
            next_session: first_session,
        }
    }

    /// Bytes came, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        self.heard_at = Some(now);
        let items = self.framer.push(bytes);
        self.enqueue(now, items);
    }

    /// A character came damaged: the message it is in is none.
    pub fn handle_damage(&mut self, now: Time) {
        self.handle_timeout(now);
        self.heard_at = Some(now);
        self.framer.damage();
    }

    /// The journal answered a `Persist`. An answer to a question that is no longer open changes nothing.
    pub fn handle_custody(&mut self, now: Time, answer: Result<&impl Custody, Refused>) {
        self.handle_timeout(now);
        let token = match &answer {
            Ok(custody) => custody.token(),
            Err(refused) => refused.token,
        };
        let Some(pending) = self.pending.take_if(|pending| pending.token == token) else { return };
        match answer {
            Ok(_) => self.kept(now, &pending),
            Err(_) => self.refused(now, pending),
        }
        self.work(now);
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.silence_deadline().is_some_and(|at| now >= at) {
            let was_open = self.framer.is_unfinished();
            let items = self.framer.silence();
            // Whoever stops in the middle, or says nothing more in a conversation, does not go on with it.
            self.forsaken |= !was_open || items.iter().any(|item| matches!(item, Item::Cut(_)));
            self.heard_at = self.heard_at.filter(|_| !self.forsaken);
            self.enqueue(now, items);
        }
        if self.answer.as_ref().is_some_and(|(at, _)| now >= *at) {
            self.outputs.extend(self.answer.take().map(|(_, bytes)| Output::Send(bytes)));
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
        self.work(now);
    }

    /// The line went away.
    pub fn handle_disconnect(&mut self, now: Time) {
        self.connected = false;
        self.answer = None;
        self.retry_at = None;
        let items = self.framer.disconnect();
        self.enqueue(now, items);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Receiver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let answer_at = self.answer.as_ref().map(|(at, _)| *at);
        [self.silence_deadline(), answer_at, self.retry_at].into_iter().flatten().min()
    }

    /// False while too much waits behind the message in custody. A pump that stops reading then lets TCP or the flow
    /// control hold the rest.
    pub fn wants_bytes(&self) -> bool {
        !self.waiting.is_long() && self.waiting.bytes() <= self.config.message_max
    }

    /// Bytes that are in memory and not in custody.
    pub fn bytes_held(&self) -> usize {
        self.framer.bytes_held() + self.waiting.bytes() + self.pending.as_ref().map_or(0, |p| size(&p.item))
    }

    fn enqueue(&mut self, now: Time, items: Vec<Item>) {
        for item in items {
            self.waiting.push(size(&item), (now, item));
        }
        self.work(now);
    }

    /// Takes items until one needs custody or its answer has to wait.
    fn work(&mut self, now: Time) {
        while self.pending.is_none() && self.answer.is_none() && self.retry_at.is_none() {
            let Some((came_at, item)) = self.waiting.take() else {
                if !self.connected || self.forsaken {
                    self.end_conversation();
                }
                return;
            };
            self.take(now, came_at, item);
        }
    }

    fn take(&mut self, now: Time, came_at: Time, item: Item) {
        match item {
            Item::Message(_) => self.ask(came_at, item, Outcome::Answered),
            Item::Damaged(_) => {
                self.event(Event::Refused("a message came damaged"));
                if self.answers() {
                    // The instrument sends it again; kept, it could be taken for a result.
                    let nak = self.config.framing.nak_bytes();
                    return self.say(now, came_at, nak);
                }
                self.ask(came_at, item, Outcome::Abandoned);
            }
            Item::Cut(_) => {
                self.event(Event::Refused("a message ended before its end"));
                self.ask(came_at, item, Outcome::Abandoned);
            }
            Item::Noise(ref bytes) => {
                self.event(Event::Odd("bytes between messages"));
                let readable = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
                if readable >= NOISE_KEPT_MIN {
                    self.ask(came_at, item, Outcome::Abandoned);
                }
            }
            Item::Enquiry => {
                self.end_conversation();
                self.say(now, came_at, vec![ACK]);
            }
            Item::End if self.gathering.is_some() => self.ask(came_at, item, Outcome::Silent),
            Item::End => {}
        }
    }

    /// Custody comes before anything else is said or done (invariant I1).
    fn ask(&mut self, came_at: Time, item: Item, outcome: Outcome) {
        let whole = outcome != Outcome::Abandoned;
        let session = match self.gathering {
            Some(session) if whole => session,
            _ => {
                let session = self.next_session;
                self.next_session += 1;
                if self.config.framing.gather && whole {
                    self.gathering = Some(session);
                }
                session
            }
        };
        let gathers = self.config.framing.gather;
        let completes = whole && (!gathers || outcome == Outcome::Silent);
        let bytes = match &item {
            Item::Message(bytes) | Item::Damaged(bytes) | Item::Cut(bytes) | Item::Noise(bytes) => bytes.clone(),
            Item::Enquiry | Item::End => vec![EOT],
        };
        let token = Token(self.next_token);
        self.next_token += 1;
        self.pending = Some(Pending { token, came_at, session, item, outcome });
        self.outputs.push_back(Output::Persist(Persist { token, session, bytes, completes, identity: None }));
    }

    fn kept(&mut self, now: Time, pending: &Pending) {
        match pending.outcome {
            Outcome::Answered if self.answers() => {
                let message = if let Item::Message(bytes) = &pending.item { bytes.as_slice() } else { &[] };
                let ack = self.config.framing.ack_bytes(message);
                self.say(now, pending.came_at, ack);
            }
            Outcome::Answered => {}
            Outcome::Silent => self.gathering = None,
            Outcome::Abandoned => self.outputs.push_back(Output::Abandon { session: pending.session }),
        }
    }

    /// The journal did not take it. Who hears answers sends it again; what others sent is offered to the journal again.
    fn refused(&mut self, now: Time, pending: Pending) {
        self.event(Event::Refused("no custody"));
        if pending.outcome == Outcome::Answered && self.answers() {
            let nak = self.config.framing.nak_bytes();
            return self.say(now, pending.came_at, nak);
        }
        if !self.connected {
            return self.event(Event::Refused("no custody, and the line is gone: what had come is lost"));
        }
        // The number of the session is used again: nothing was stored under it.
        if self.gathering != Some(pending.session) {
            self.next_session = pending.session;
        }
        self.waiting.put_back(size(&pending.item), (pending.came_at, pending.item));
        self.retry_at = Some(now + CUSTODY_RETRY);
    }

    /// Says something in the time the instrument listens, or not at all: later it would be taken for the answer to the
    /// next message.
    fn say(&mut self, now: Time, came_at: Time, bytes: Vec<u8>) {
        if !self.connected {
            return;
        }
        let framing = &self.config.framing;
        let within = framing.reply_within_ms.map_or(self.config.reply_timeout, Duration::from_millis);
        if now > came_at + within {
            return self.event(Event::Refused("the answer would come too late and was not sent"));
        }
        let at = came_at + Duration::from_millis(framing.reply_after_ms);
        if now >= at {
            self.outputs.push_back(Output::Send(bytes));
        } else {
            self.answer = Some((at, bytes));
        }
    }

    /// A conversation that did not end is not complete.
    fn end_conversation(&mut self) {
        self.forsaken = false;
        self.outputs.extend(self.gathering.take().map(|session| Output::Abandon { session }));
    }

    fn answers(&self) -> bool {
        self.config.framing.reply == Reply::Ack
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// When silence ends what has begun.
    fn silence_deadline(&self) -> Option<Time> {
        let declared = self.config.framing.idle_ms.map(Duration::from_millis);
        let open = self.framer.is_unfinished();
        let patience = match declared {
            Some(idle) if open => idle,
            _ if open || (self.gathering.is_some() && self.pending.is_none() && self.waiting.is_empty()) => {
                self.config.message_timeout
            }
            _ => return None,
        };
        self.heard_at.map(|at| at + patience)
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Message(bytes) | Item::Damaged(bytes) | Item::Cut(bytes) | Item::Noise(bytes) => bytes.len(),
        Item::Enquiry | Item::End => 0,
    }
}
