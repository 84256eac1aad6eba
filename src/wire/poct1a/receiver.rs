//! The host's side: greets the device, fetches its observations, takes them into custody one at a time, and lets the
//! device send by itself from then on.

use std::collections::VecDeque;
use std::time::Duration;

use super::document::{Element, parse};
use super::framer::{DOCUMENT_MAX, Framer, Item};
use super::operators::Operator;
use super::speech::{Answer, Fault, Speech, entry};
use crate::wire::waiting::Waiting;
use crate::wire::{Custody, ENDED, Event, Output, Persist, Refusal, Refused, Time, Token};

/// How long a document may take from its first byte to its last, on top of the time its bytes need.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time each byte adds to it, as a part of it: 1 ms of 30 s.
const BYTE_DIVISOR: u32 = 30_000;
/// Custody that takes longer is not acknowledged.
const REPLY_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a device may be silent when something is due from it and it names no `DCP.application_timeout`.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Least and most that is believed of `DCP.application_timeout`, in seconds.
const SILENCE_S: std::ops::RangeInclusive<u64> = 1..=3600;
/// A device that keeps its line alive is given up after so many of its own timeouts without a word.
const KEEP_ALIVES_MISSED: u32 = 2;
/// Largest message sent to a device that names no `DSC.max_message_sz`, and least that is believed, in bytes.
const MESSAGE_MAX: usize = 16_000;
const MESSAGE_MIN: usize = 1_000;
/// Room for a message's header in it.
const HEADER_BYTES: usize = 400;
/// The topic of operator lists, in `DSC.topics_supported_cd` and `REQ.request_cd`.
const OPERATORS: &str = "OP_LST";
/// Longest `HDR.control_id` that is answered, in bytes.
const CONTROL_ID_MAX: usize = 256;

const MALFORMED: Fault = Fault { code: "100", text: "The message is not well-formed XML and was not kept" };
const NO_CONTROL_ID: Fault =
    Fault { code: "101", text: "HDR.control_id is empty or too long: the message cannot be named and was not kept" };
const TOO_LONG: Fault = Fault { code: "207", text: "The message is over the size limit and was not kept" };
const STORAGE_FULL: Fault = Fault { code: "207", text: "Storage is full; the message was not kept, send it later" };
const STORAGE_FAILED: Fault = Fault { code: "207", text: "Storage failed; the message was not kept, send it later" };

/// Limits and timers of a [`Receiver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Largest document accepted, in bytes. Larger ones are answered AE and skipped.
    pub document_max: usize,
    /// How long a document may take; 1 ms is added for each of its bytes at the default of 30 s, and in proportion at
    /// other values.
    pub document_timeout: Duration,
    /// Custody that takes longer than this, or than the device's own timeout, is not acknowledged; the line is closed.
    pub reply_timeout: Duration,
    /// How long the device may be silent when it owes a message and has named no timeout of its own.
    pub silence_timeout: Duration,
    /// Set the device's clock at the start of each conversation, when the device can do that.
    pub set_time: bool,
    /// Who may use the device; sent to one that supports the topic, or asks for it. Empty: nothing is sent.
    pub operators: Vec<Operator>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        ReceiverConfig {
            document_max: DOCUMENT_MAX,
            document_timeout: DOCUMENT_TIMEOUT,
            reply_timeout: REPLY_TIMEOUT,
            silence_timeout: SILENCE_TIMEOUT,
            set_time: false,
            operators: Vec::new(),
        }
    }
}

/// A POCT1-A host for one connection. See [`crate::wire`] for the verbs.
///
/// After `handle_disconnect` it still asks for custody of observations that had come whole; it sends nothing more.
pub struct Receiver {
    config: ReceiverConfig,
    framer: Framer,
    outputs: VecDeque<Output>,
    /// What came behind the observation in custody.
    waiting: Waiting<Item>,
    pending: Option<Pending>,
    /// When the unfinished document began.
    began_at: Option<Time>,
    /// When the last byte came.
    heard_at: Option<Time>,
    /// False once nothing can or may be sent any more.
    connected: bool,
    /// We gave the connection up, or the conversation is over; nothing more is taken from it.
    closed: bool,
    speech: Speech,
    device: Device,
    stage: Stage,
    /// What the host still has to say in this conversation.
    agenda: VecDeque<Step>,
    /// What the host said last and has no answer to.
    asked: Option<Asked>,
    next_token: u64,
    next_session: u64,
}

/// Custody that has been asked for.
struct Pending {
    token: Token,
    since: Time,
    control_id: String,
}

/// What the hello told.
struct Device {
    id: String,
    timeout: Option<Duration>,
    can_push: bool,
    can_set_time: bool,
    takes_operators: bool,
    message_max: usize,
    /// It has sent a keep-alive, so silence means that it is gone.
    keeps_alive: bool,
}

/// How far the conversation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was said yet.
    Silent,
    /// The device said hello and owes its status.
    Greeted,
    /// The host leads.
    Led,
    /// The device sends by itself.
    Continuous,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Request,
    SetTime,
    /// Some of the operators, by their place in the list.
    Operators {
        from: usize,
        to: usize,
    },
    /// The list is whole. A topic's end has no answer.
    EndOfOperators,
    StartContinuous,
    End,
}

struct Asked {
    step: Step,
    control_id: u64,
    since: Time,
}

impl Receiver {
    /// A host on a fresh connection. Entries are numbered from `first_session`.
    pub fn new(config: ReceiverConfig, first_session: u64) -> Self {
        Receiver {
            framer: Framer::new(config.document_max),
            config,
            outputs: VecDeque::new(),
            waiting: Waiting::new(),
            pending: None,
            began_at: None,
            heard_at: None,
            connected: true,
            closed: false,
            speech: Speech::default(),
            device: Device::unknown(),
            stage: Stage::Silent,
            agenda: VecDeque::new(),
            asked: None,
            next_token: 0,
            next_session: first_session,
        }
    }

    /// Sets the operators of [`ReceiverConfig::operators`], before the device says hello.
    pub fn set_operators(&mut self, operators: Vec<Operator>) {
        self.config.operators = operators;
    }

    /// The time of day for `HDR.creation_dttm` and `SET_TIME`, as ISO 8601 writes it (`2026-01-02T03:04:05+01:00`). The
    /// shell calls this before each `handle_*`; a machine has no clock.
    pub fn set_wall_time(&mut self, time: &str) {
        self.speech.set_time(time);
    }

    /// Bytes came from the device, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        if self.closed {
            return;
        }
        self.heard_at = Some(now);
        let items = self.framer.push(bytes);
        let ended = items.iter().any(|item| *item != Item::Noise);
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

    /// A character came damaged. XML has no checksum, so the document it is in is answered AE and not kept.
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
            Ok(_) => self.answer(&pending.control_id, Answer::Accept),
            Err(refused) => {
                self.event(Event::Refused("no custody"));
                let fault = match refused.reason {
                    Refusal::Full => STORAGE_FULL,
                    Refusal::Storage => STORAGE_FAILED,
                };
                self.answer(&pending.control_id, Answer::Refuse(fault));
            }
        }
        // The device was waiting for us, not we for the device.
        self.heard_at = Some(now);
        self.work(now);
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        let passed = |deadline: Option<Time>| deadline.is_some_and(|deadline| now >= deadline);
        if passed(self.custody_deadline()) {
            self.pending = None;
            self.close("custody came too late");
        } else if passed(self.document_deadline()) {
            self.close("a document did not end in time");
        } else if passed(self.silence_deadline()) {
            self.close("the device was silent for longer than its timeout");
        }
    }

    /// The line went away.
    pub fn handle_disconnect(&mut self, now: Time) {
        self.connected = false;
        if self.framer.unfinished().is_some() {
            self.event(Event::Odd("the line went away inside a document"));
        }
        self.framer.reset();
        self.began_at = None;
        self.asked = None;
        self.agenda.clear();
        self.work(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Receiver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.custody_deadline(), self.document_deadline(), self.silence_deadline()].into_iter().flatten().min()
    }

    /// False while documents wait behind the one in custody. A pump that stops reading then lets TCP hold the rest.
    pub fn wants_bytes(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the device that are in memory now. At most three times `document_max`.
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
        let bytes_max = self.config.document_max.saturating_mul(2);
        if too_many || self.waiting.bytes() > bytes_max {
            self.event(Event::Refused("the device does not wait for answers"));
            self.close("the device does not wait for answers");
        }
    }

    /// Takes items until one needs custody, and says what is next on the agenda after each, however they were read.
    fn work(&mut self, now: Time) {
        while self.pending.is_none() && !self.closed {
            self.speak(now);
            let Some(item) = self.waiting.take() else { return };
            match item {
                Item::Noise => self.event(Event::Odd("bytes between documents")),
                Item::TooLong(head) => self.refuse(&head, "document over the size limit", TOO_LONG),
                Item::Torn(bytes) => self.refuse(&bytes, "a document ended before its end", MALFORMED),
                Item::Document(bytes) => self.take(now, bytes),
            }
        }
    }

    fn take(&mut self, now: Time, bytes: Vec<u8>) {
        // Names and codes are ASCII; whatever else the text is, it is kept as it came.
        let parsed = parse(&String::from_utf8_lossy(&bytes));
        let root = match (parsed.root, parsed.flaw) {
            (Some(root), None) => root,
            (_, flaw) => return self.refuse(&bytes, flaw.unwrap_or("an empty document"), MALFORMED),
        };
        let announced = root.value("HDR.message_type");
        if !announced.is_empty() && announced != root.name {
            self.event(Event::Odd("HDR.message_type is not the root element"));
        }
        match root.name.as_str() {
            "ACK.R01" => return self.acknowledged(&root, now),
            "EOT.R01" => return self.topic_ended(&root),
            "ESC.R01" => return self.escaped(),
            _ => {}
        }
        let control_id = root.value("HDR.control_id");
        if control_id.is_empty() || control_id.len() > CONTROL_ID_MAX {
            return self.refuse(&bytes, "no usable control id", NO_CONTROL_ID);
        }
        match root.name.as_str() {
            name if name.starts_with("OBS.") => return self.keep(&root, control_id, now, bytes),
            "HEL.R01" => self.greet(&root),
            "DST.R01" => self.plan(&root),
            "KPA.R01" => self.device.keeps_alive = true,
            "END.R01" => {
                self.answer(control_id, Answer::Accept);
                return self.close(ENDED);
            }
            "REQ.R01" if root.value("REQ.request_cd") == OPERATORS && !self.config.operators.is_empty() => {
                self.plan_operators();
            }
            "REQ.R01" => {
                self.event(Event::Odd("the device asks for something this host does not have"));
                let escape = self.speech.escape(control_id);
                return self.send(escape);
            }
            "EVS.R01" => self.event(Event::Odd("a device event was acknowledged and not kept")),
            _ => self.event(Event::Odd("a message of a vendor's own was acknowledged and not kept")),
        }
        self.answer(control_id, Answer::Accept);
    }

    /// Observations go to custody before the device hears anything (invariant I1).
    fn keep(&mut self, root: &Element, control_id: &str, now: Time, bytes: Vec<u8>) {
        if self.stage == Stage::Silent {
            self.event(Event::Odd("observations of a device that did not say hello"));
        }
        // Control ids begin anew when some devices restart; the time tells those messages apart.
        let identity = [&self.device.id, control_id, root.value("HDR.creation_dttm")].join("|");
        let token = Token(self.next_token);
        self.next_token += 1;
        let session = self.next_session;
        self.next_session += 1;
        self.pending = Some(Pending { token, since: now, control_id: control_id.to_string() });
        let identity = Some(identity.into_bytes());
        self.outputs.push_back(Output::Persist(Persist { token, session, bytes, completes: true, identity }));
    }

    /// A hello begins the conversation, also in the middle of another one.
    fn greet(&mut self, root: &Element) {
        self.device = Device::of(root);
        self.stage = Stage::Greeted;
        self.agenda.clear();
        self.asked = None;
    }

    /// A status after the hello says whether there is anything to fetch. Later ones are only acknowledged: a device
    /// that sends by itself takes a request for an error.
    fn plan(&mut self, root: &Element) {
        if self.stage != Stage::Greeted {
            if self.stage == Stage::Silent {
                self.event(Event::Odd("the status of a device that did not say hello"));
            }
            return;
        }
        self.stage = Stage::Led;
        // Whoever does not say how many there are is asked.
        if root.value("DST.new_observations_qty") != "0" {
            self.agenda.push_back(Step::Request);
        }
        if self.config.set_time && self.device.can_set_time {
            self.agenda.push_back(Step::SetTime);
        }
        if self.device.takes_operators {
            self.plan_operators();
        }
        self.agenda.push_back(if self.device.can_push { Step::StartContinuous } else { Step::End });
    }

    /// Puts the operator list on the agenda, in messages the device can take.
    fn plan_operators(&mut self) {
        let all = &self.config.operators;
        if all.is_empty() || self.agenda.contains(&Step::EndOfOperators) {
            return;
        }
        let room = self.device.message_max - HEADER_BYTES;
        let (mut from, mut bytes) = (0, 0);
        for (at, operator) in all.iter().enumerate() {
            let more = entry(operator).len();
            if bytes + more > room && at > from {
                self.agenda.push_back(Step::Operators { from, to: at });
                (from, bytes) = (at, 0);
            }
            bytes += more;
        }
        self.agenda.push_back(Step::Operators { from, to: all.len() });
        self.agenda.push_back(Step::EndOfOperators);
    }

    fn topic_ended(&mut self, root: &Element) {
        let Some(asked) = self.asked.take_if(|asked| asked.step == Step::Request) else {
            return self.event(Event::Odd("the end of a topic nobody asked for"));
        };
        let of = root.value("EOT.eot_control_id");
        if !of.is_empty() && of != asked.control_id.to_string() {
            self.event(Event::Odd("the end of a topic names another request"));
        }
    }

    /// The device cannot do now what it was asked; that is no error, and nothing is lost by going on.
    fn escaped(&mut self) {
        self.event(Event::Odd("the device cannot do now what it was asked"));
        self.settle(false);
    }

    /// The device answers what the host said. An error code counts even where the answer is AA.
    fn acknowledged(&mut self, root: &Element, now: Time) {
        // Some makers' own documents call these fields `type_id` and `control_id`.
        let either = |one, other| Some(root.value(one)).filter(|v| !v.is_empty()).unwrap_or_else(|| root.value(other));
        let accepted = either("ACK.type_cd", "ACK.type_id") == "AA";
        let code = root.value("ACK.error_detail_cd");
        if !accepted {
            self.event(Event::Refused("the device refused what the host said"));
        } else if !code.trim_start_matches('0').is_empty() {
            self.event(Event::Odd("the device accepted what the host said, with an error code"));
        }
        let of = either("ACK.ack_control_id", "ACK.control_id");
        let Some(asked) = self.asked.as_mut().filter(|asked| of == asked.control_id.to_string()) else {
            return self.event(Event::Odd("an answer to nothing the host said"));
        };
        // What was requested is still to come.
        if asked.step == Step::Request && accepted {
            asked.since = now;
            return;
        }
        self.settle(accepted);
    }

    /// What the host said last has its answer.
    fn settle(&mut self, accepted: bool) {
        match self.asked.take().map(|asked| asked.step) {
            Some(Step::StartContinuous) if accepted => self.stage = Stage::Continuous,
            Some(Step::End) => self.close(ENDED),
            // A part of a list is none: the device keeps the one it has, and is sent this one when it connects again.
            Some(Step::Operators { .. }) if !accepted => {
                self.agenda.retain(|step| !matches!(step, Step::Operators { .. } | Step::EndOfOperators));
                self.event(Event::Refused("the device did not take the operator list"));
            }
            _ => {}
        }
    }

    /// Says the next thing on the agenda, when nothing else is open.
    fn speak(&mut self, now: Time) {
        if self.asked.is_some() || !self.connected {
            return;
        }
        let Some(step) = self.agenda.pop_front() else { return };
        let (bytes, control_id) = match step {
            Step::Request => self.speech.request(),
            Step::SetTime => self.speech.set_clock(),
            Step::Operators { from, to } => {
                self.speech.operators(self.config.operators.get(from..to).unwrap_or_default())
            }
            Step::EndOfOperators => {
                let end = self.speech.end_of_operators();
                self.send(end);
                return self.speak(now);
            }
            Step::StartContinuous => self.speech.start_continuous(),
            Step::End => self.speech.end(),
        };
        self.asked = Some(Asked { step, control_id, since: now });
        self.send(bytes);
    }

    /// Answers a document that is not taken, as far as it says which one it is.
    fn refuse(&mut self, bytes: &[u8], reason: &'static str, fault: Fault) {
        self.event(Event::Refused(reason));
        let parsed = parse(&String::from_utf8_lossy(bytes));
        let control_id = parsed.root.as_ref().map_or("", |root| root.value("HDR.control_id"));
        let known = if control_id.len() > CONTROL_ID_MAX { "" } else { control_id };
        self.answer(known, Answer::Refuse(fault));
    }

    fn answer(&mut self, control_id: &str, answer: Answer) {
        let bytes = self.speech.acknowledge(control_id, answer);
        self.send(bytes);
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if self.connected {
            self.outputs.push_back(Output::Send(bytes));
        }
    }

    /// Ends the connection. Nothing that waits has been acknowledged, so the device still has it.
    fn close(&mut self, reason: &'static str) {
        self.connected = false;
        self.closed = true;
        self.waiting.clear();
        self.framer.reset();
        self.began_at = None;
        self.asked = None;
        self.agenda.clear();
        self.outputs.push_back(Output::Close(reason));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn patience(&self) -> Duration {
        self.device.timeout.unwrap_or(self.config.silence_timeout)
    }

    fn custody_deadline(&self) -> Option<Time> {
        let most = self.device.timeout.map_or(self.config.reply_timeout, |own| own.min(self.config.reply_timeout));
        self.pending.as_ref().map(|pending| pending.since + most)
    }

    fn document_deadline(&self) -> Option<Time> {
        let bytes = u32::try_from(self.framer.unfinished()?).unwrap_or(u32::MAX);
        let allowance = (self.config.document_timeout / BYTE_DIVISOR).saturating_mul(bytes);
        self.began_at.map(|at| at + self.config.document_timeout + allowance)
    }

    /// When a device that owes a message, or keeps its line alive, has been silent for too long. A device that sends by
    /// itself and keeps nothing alive may be silent for ever; TCP notices when it is gone.
    fn silence_deadline(&self) -> Option<Time> {
        if self.pending.is_some() || !self.connected {
            return None;
        }
        let heard = self.heard_at?;
        match &self.asked {
            Some(asked) => Some(heard.max(asked.since) + self.patience()),
            None if self.stage == Stage::Greeted => Some(heard + self.patience()),
            None if self.device.keeps_alive => Some(heard + self.patience() * KEEP_ALIVES_MISSED),
            None => None,
        }
    }
}

impl Device {
    fn unknown() -> Self {
        Device {
            id: String::new(),
            timeout: None,
            can_push: false,
            can_set_time: false,
            takes_operators: false,
            message_max: MESSAGE_MAX,
            keeps_alive: false,
        }
    }

    fn of(hello: &Element) -> Self {
        // The standard has a decimal number here; parts of a second do not matter.
        let seconds = hello.value("DCP.application_timeout").split('.').next().and_then(|s| s.parse::<u64>().ok());
        let believed = |s: &u64| *s > 0;
        let timeout = seconds.filter(believed).map(|s| s.clamp(*SILENCE_S.start(), *SILENCE_S.end()));
        let (mut can_push, mut can_set_time) = (false, false);
        hello.each("DSC.directives_supported_cd", &mut |directive| match directive.attribute("V").trim() {
            "START_CONTINUOUS" => can_push = true,
            "SET_TIME" => can_set_time = true,
            _ => {}
        });
        let mut takes_operators = false;
        hello.each("DSC.topics_supported_cd", &mut |topic| {
            takes_operators |= topic.attribute("V").trim() == OPERATORS;
        });
        let message_max = hello.value("DSC.max_message_sz").parse::<usize>().unwrap_or(MESSAGE_MAX);
        Device {
            id: hello.value("DEV.device_id").to_string(),
            timeout: timeout.map(Duration::from_secs),
            can_push,
            can_set_time,
            takes_operators,
            message_max: message_max.clamp(MESSAGE_MIN, DOCUMENT_MAX),
            keeps_alive: false,
        }
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Document(bytes) | Item::TooLong(bytes) | Item::Torn(bytes) => bytes.len(),
        Item::Noise => 0,
    }
}
