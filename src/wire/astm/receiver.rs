//! The receiving side of a link: grants the line, takes frames into custody, and only then acknowledges them.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::{ChecksumRule, RecordScan, checksum, hex};
use super::{ACK, CR, ENQ, EOT, ETB, ETX, LF, NAK, STX};
use crate::wire::{Custody, Event, Output, Persist, Refused, Time, Token};

/// Receiver timer of LIS01-A2 clause 6.5.2.4: silence after a reply ends the session.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// The sender's timer is 15 s. A reply is not sent in its last second, because it would arrive after it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(14);
/// Largest frame of LIS01-A2 clause 6.3.1.2, all characters counted.
const FRAME_MAX: usize = 64_000;
/// The silence that proves an `ENQ` or `EOT` inside a frame was meant, as a part of the frame timeout: 1 s of 30 s.
const SETTLE_DIVISOR: u32 = 30;
/// How long `CR LF` may lag behind the checksum, as a part of the frame timeout: 300 ms of 30 s.
const TAIL_DIVISOR: u32 = 100;
/// Time each byte of a frame adds to the frame timeout, as a part of it: 4.2 ms of 30 s, a line of 2400 baud. At
/// 9600 baud a frame of 64 000 characters takes over a minute, so the plain timer would cut it.
const BYTE_DIVISOR: u32 = 7_200;
/// A sender gives a frame up after this many refusals (LIS01-A2 clause 6.5.1.2); we say so once.
const TRIES: u32 = 6;
/// Refusals of the same bytes after which other checksum rules are tried.
const DIAGNOSE_AFTER: u32 = 2;
/// Bytes kept while custody of a frame is pending. A sender that waits for replies sends none; whole captures do.
const BACKLOG_MAX: usize = 256 * 1024;

/// Limits and timers of a [`Receiver`]. The default is the standard's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Silence after which a session ends; the time a frame needs at 2400 baud is added.
    pub frame_timeout: Duration,
    /// Custody that takes longer than this is not acknowledged: the sender has stopped waiting.
    pub reply_timeout: Duration,
    /// Largest frame accepted, in bytes from `STX` to `LF`. Longer ones are read to their end and refused.
    pub frame_max: usize,
    /// Wrong ways to sum that may be taken up on this line beside the right one: the first that fits bytes refused
    /// twice counts from the next frame on.
    pub checksum_rules: Vec<ChecksumRule>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        ReceiverConfig {
            frame_timeout: FRAME_TIMEOUT,
            reply_timeout: REPLY_TIMEOUT,
            frame_max: FRAME_MAX,
            checksum_rules: Vec::new(),
        }
    }
}

/// An LIS01-A2 receiver for one line. See [`crate::wire`] for the verbs.
pub struct Receiver {
    config: ReceiverConfig,
    state: State,
    outputs: VecDeque<Output>,
    /// What came while custody was pending; looked at after the answer. `None` is a character that came damaged.
    backlog: VecDeque<Option<u8>>,
    /// The frame being received, from `STX`, verbatim. Empty between frames.
    frame: Vec<u8>,
    /// Where in `frame` the `ETX` or `ETB` is.
    terminator_at: usize,
    /// Why the frame being received will be refused at its end.
    damage: Option<&'static str>,
    /// An `ENQ` or `EOT` where it may be a flipped bit, and when it came. Believed after a silence.
    asked: Option<(u8, Time)>,
    /// When something that stands in frames came outside of any session, if that was the last character.
    astray: Option<Time>,
    /// Frame number that comes next.
    expected: u8,
    /// The frame accepted last in this session, from its number through its checksum.
    last: Option<Vec<u8>>,
    /// The frame refused last, and how often in a row.
    refused: Option<(Vec<u8>, u32)>,
    /// The wrong way to sum that was taken up on this line.
    taken_up: Option<ChecksumRule>,
    scan: RecordScan,
    entry: Option<Entry>,
    /// The custody question that was open when the session ended, if its frame would have completed this entry.
    left_open: Option<(Token, Entry)>,
    next_token: u64,
    next_session: u64,
    /// When the session began or we replied last.
    replied_at: Option<Time>,
    /// Noise was already reported since the last session event.
    noise_told: bool,
}

/// The journal entry that the frames of the current message go to.
#[derive(Clone, Copy)]
struct Entry {
    session: u64,
    /// Parts that are in custody.
    parts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has the line.
    Neutral,
    /// In a session, between frames.
    Between,
    /// In a frame, before its terminator.
    Text,
    /// The first or second checksum character comes next.
    Sum { first: bool },
    /// The checksum is in; `CR LF` should follow.
    Tail { since: Time },
    /// A good frame waits for the journal.
    Custody(Pending),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Pending {
    token: Token,
    since: Time,
    number: u8,
    scan: RecordScan,
    /// The sender ended its session so long after the frame that it cannot have been in the same breath.
    given_up: bool,
}

/// What becomes of a frame.
enum Verdict {
    New { number: u8 },
    Again,
    Refused(&'static str),
}

impl Receiver {
    /// A receiver on a quiet line. Entries are numbered from `first_session`.
    pub fn new(config: ReceiverConfig, first_session: u64) -> Self {
        Receiver {
            config,
            state: State::Neutral,
            outputs: VecDeque::new(),
            backlog: VecDeque::new(),
            frame: Vec::new(),
            terminator_at: 0,
            damage: None,
            asked: None,
            astray: None,
            expected: 1,
            last: None,
            refused: None,
            taken_up: None,
            scan: RecordScan::Start,
            entry: None,
            left_open: None,
            next_token: 0,
            next_session: first_session,
            replied_at: None,
            noise_told: false,
        }
    }

    /// Bytes came from the instrument, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        if let State::Custody(pending) = &mut self.state {
            let late = now.saturating_duration_since(pending.since) > self.config.frame_timeout / SETTLE_DIVISOR;
            pending.given_up |= late && bytes.contains(&EOT);
        }
        self.take_in(now, bytes.iter().copied().map(Some));
    }

    /// A character came damaged (parity, framing or a break; serial lines only). As LIS01-A2 clause 6.5 has it, the
    /// frame it is in is refused, whatever the checksum says.
    pub fn handle_damage(&mut self, now: Time) {
        self.handle_timeout(now);
        self.take_in(now, std::iter::once(None));
    }

    fn take_in(&mut self, now: Time, heard: impl ExactSizeIterator<Item = Option<u8>>) {
        let room = BACKLOG_MAX.saturating_sub(self.backlog.len());
        if heard.len() > room {
            self.event(Event::Refused("the sender does not wait for replies"));
            self.end_session();
            self.backlog.clear();
            self.outputs.push_back(Output::Close("the sender does not wait for replies"));
            return;
        }
        self.backlog.extend(heard);
        self.work(now);
    }

    /// The journal answered a `Persist`. An answer to a question that is no longer open changes nothing.
    pub fn handle_custody(&mut self, now: Time, answer: Result<&impl Custody, Refused>) {
        self.handle_timeout(now);
        let token = match &answer {
            Ok(custody) => custody.token(),
            Err(refused) => refused.token,
        };
        let pending = match self.state {
            State::Custody(pending) if pending.token == token => pending,
            _ => return self.settle_left_open(token, answer.is_ok()),
        };
        self.state = State::Between;
        let moved_on = self.sender_moved_on(pending);
        match answer {
            Ok(_) => {
                self.accept(pending);
                if moved_on {
                    self.event(Event::Odd("the sender went on before its frame was acknowledged"));
                } else {
                    self.reply(now, ACK);
                }
            }
            Err(_) => {
                if let Some(entry) = self.entry
                    && entry.parts == 0
                {
                    self.entry = None;
                }
                self.event(Event::Refused("no custody"));
                if !moved_on {
                    self.reply(now, NAK);
                }
            }
        }
        self.frame.clear();
        self.work(now);
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if let State::Custody(pending) = self.state {
            if now >= pending.since + self.config.reply_timeout {
                self.end_session();
                self.backlog.clear();
                self.outputs.push_back(Output::Close("custody came too late"));
            }
            return;
        }
        if let Some((control, since)) = self.asked
            && now >= since + self.settle()
        {
            self.believe(now, control);
        }
        if let State::Tail { since } = self.state
            && self.asked.is_none()
            && now >= since + self.config.frame_timeout / TAIL_DIVISOR
        {
            self.finish(now);
        }
        if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
            self.event(Event::Refused("silence inside a session"));
            self.end_session();
        }
    }

    /// The line went away. What was being received is given up; what is in custody stays.
    pub fn handle_disconnect(&mut self, _now: Time) {
        if matches!(self.state, State::Text | State::Sum { .. } | State::Tail { .. }) {
            self.event(Event::Odd("the line went away inside a frame"));
        }
        self.end_session();
        self.backlog.clear();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Receiver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        if let State::Custody(pending) = self.state {
            return Some(pending.since + self.config.reply_timeout);
        }
        let asked = self.asked.map(|(_, since)| since + self.settle());
        let tail = match self.state {
            State::Tail { since } if asked.is_none() => Some(since + self.config.frame_timeout / TAIL_DIVISOR),
            _ => None,
        };
        [asked, tail, self.frame_deadline()].into_iter().flatten().min()
    }

    /// True when nobody has the line as far as this side knows, so that the other role of a station may ask for it.
    pub fn is_neutral(&self) -> bool {
        self.state == State::Neutral && self.asked.is_none()
    }

    /// False while so much input waits for custody that reading on would end the session. A pump that stops reading
    /// then lets the peer's own flow control hold the rest.
    pub fn wants_bytes(&self) -> bool {
        self.backlog.len() < BACKLOG_MAX / 2
    }

    /// Bytes of the peer that are in memory now. Bounded by `frame_max` and 256 KiB.
    pub fn bytes_held(&self) -> usize {
        self.frame.len() + self.backlog.len()
    }

    /// Takes backlog bytes one by one until they are gone or a frame needs custody. One byte at a time is what makes
    /// the result independent of how reads were split.
    fn work(&mut self, now: Time) {
        while !matches!(self.state, State::Custody(_)) {
            match self.backlog.pop_front() {
                Some(Some(byte)) => self.handle_byte(now, byte),
                Some(None) => self.handle_damaged(now),
                None => return,
            }
        }
    }

    /// Whatever that character was, it takes its place in the frame and spoils it.
    fn handle_damaged(&mut self, now: Time) {
        self.asked = None;
        match self.state {
            State::Neutral => {
                self.astray = Some(now);
                return self.tell_noise();
            }
            State::Between => return self.tell_noise(),
            State::Text => self.keep(0),
            State::Sum { first } => {
                self.keep(0);
                self.state = if first { State::Sum { first: false } } else { State::Tail { since: now } };
            }
            State::Tail { .. } | State::Custody(_) => {}
        }
        self.damage = Some("damaged character inside a frame");
    }

    fn handle_byte(&mut self, now: Time, byte: u8) {
        if self.asked.take().is_some() && matches!(self.state, State::Neutral | State::Between) {
            self.tell_noise();
        }
        match self.state {
            State::Neutral => {
                let astray = self.astray.take().filter(|at| now < *at + self.settle());
                match byte {
                    // Right behind what looks like a frame of a session that began before we did it may be a flipped
                    // bit, and our answer the acknowledgment of that frame.
                    ENQ if astray.is_some() => self.asked = Some((ENQ, now)),
                    ENQ => self.begin_session(now),
                    // An EOT ends nothing here; NUL, CR and LF are how idle lines sound.
                    EOT | 0 | CR | LF => {}
                    STX => self.event(Event::Odd("frame outside a session")),
                    _ => self.tell_noise(),
                }
                self.astray = matches!(byte, STX | ETX | ETB | b' '..).then_some(now);
            }
            State::Between => match byte {
                STX => self.begin_frame(),
                EOT => self.end_session(),
                ENQ => self.asked = Some((ENQ, now)),
                0 | CR | LF => {}
                _ => self.tell_noise(),
            },
            State::Text => match byte {
                STX => {
                    self.event(Event::Odd("frame began again"));
                    self.begin_frame();
                }
                ETX | ETB => {
                    self.terminator_at = self.frame.len();
                    self.keep(byte);
                    self.state = State::Sum { first: true };
                }
                ENQ | EOT => self.doubt(now, byte),
                _ => self.keep(byte),
            },
            State::Sum { first } => {
                match byte {
                    STX => return self.begin_frame(),
                    ENQ | EOT => self.doubt(now, byte),
                    _ => self.keep(byte),
                }
                self.state = if first { State::Sum { first: false } } else { State::Tail { since: now } };
            }
            State::Tail { .. } => self.handle_tail(now, byte),
            // `work` never hands a byte over here.
            State::Custody(_) => {}
        }
    }

    fn handle_tail(&mut self, now: Time, byte: u8) {
        match byte {
            CR => self.keep(byte),
            LF => {
                self.keep(byte);
                self.finish(now);
            }
            ENQ => self.doubt(now, byte),
            // A frame without its CR LF: this byte is already the next thing.
            _ if self.sum_fits() && self.damage.is_none() => {
                self.finish(now);
                self.backlog.push_front(Some(byte));
            }
            STX => self.begin_frame(),
            EOT => self.doubt(now, byte),
            // A flipped bit made an ETX inside the text. Answering now would talk into the frame.
            _ => {
                self.damage = Some("bad checksum");
                self.state = State::Text;
            }
        }
    }

    fn begin_session(&mut self, now: Time) {
        self.state = State::Between;
        self.expected = 1;
        self.last = None;
        self.refused = None;
        self.noise_told = false;
        self.reply(now, ACK);
    }

    /// Leaves the session; an entry that is not complete is given up.
    fn end_session(&mut self) {
        if let Some(entry) = self.entry.take() {
            match self.state {
                // The journal's answer alone tells whether this entry is complete.
                State::Custody(pending) if pending.scan == RecordScan::Ended => {
                    self.left_open = Some((pending.token, entry));
                }
                State::Custody(_) => self.abandon(entry),
                _ if self.scan != RecordScan::Ended && entry.parts > 0 => self.abandon(entry),
                _ => {}
            }
        }
        self.scan = RecordScan::Start;
        self.state = State::Neutral;
        self.asked = None;
        self.damage = None;
        self.frame.clear();
        self.last = None;
        self.refused = None;
        self.replied_at = None;
        self.noise_told = false;
    }

    fn abandon(&mut self, entry: Entry) {
        self.outputs.push_back(Output::Abandon { session: entry.session });
    }

    /// An answer came after its session. Nothing is acknowledged, but an entry whose last part was refused will not
    /// become complete any more.
    fn settle_left_open(&mut self, token: Token, taken: bool) {
        if let Some((_, entry)) = self.left_open.take_if(|(left, _)| *left == token)
            && !taken
            && entry.parts > 0
        {
            self.abandon(entry);
        }
    }

    fn begin_frame(&mut self) {
        self.frame.clear();
        self.frame.push(STX);
        self.damage = None;
        self.state = State::Text;
    }

    /// Keeps a byte of a frame, up to the limit.
    fn keep(&mut self, byte: u8) {
        if self.frame.len() < self.config.frame_max {
            self.frame.push(byte);
        } else {
            self.damage = Some("frame over the limit");
        }
    }

    /// `ENQ` or `EOT` inside a frame: either the sender began anew, or a bit flipped. What follows will tell.
    fn doubt(&mut self, now: Time, control: u8) {
        self.damage = Some("control character inside a frame");
        self.asked = Some((control, now));
    }

    /// The line stayed silent after an `ENQ` or `EOT` in doubt, so it was meant.
    fn believe(&mut self, now: Time, control: u8) {
        if self.state != State::Neutral {
            self.event(Event::Odd("the sender ended its session without EOT"));
            self.end_session();
        }
        self.asked = None;
        if control == ENQ {
            self.begin_session(now);
        }
    }

    /// The frame has ended: asks for custody of it, or answers it.
    fn finish(&mut self, now: Time) {
        self.state = State::Between;
        match self.judge() {
            Verdict::New { number } => self.ask_custody(now, number),
            Verdict::Again => {
                self.event(Event::Odd("frame sent again"));
                self.frame.clear();
                self.reply(now, ACK);
            }
            Verdict::Refused(reason) => self.refuse(now, reason),
        }
        self.damage = None;
    }

    fn judge(&self) -> Verdict {
        if let Some(reason) = self.damage {
            return Verdict::Refused(reason);
        }
        if !self.sum_fits() {
            return Verdict::Refused("bad checksum");
        }
        let number = match self.body().first() {
            Some(&digit @ b'0'..=b'7') => digit - b'0',
            _ => return Verdict::Refused("no frame number"),
        };
        if number == self.expected {
            return Verdict::New { number };
        }
        match &self.last {
            Some(last) if last.first() == self.body().first() => {
                if last.as_slice() == self.body() {
                    Verdict::Again
                } else {
                    Verdict::Refused("frame sent again with other bytes")
                }
            }
            _ => Verdict::Refused("frame number out of order"),
        }
    }

    fn ask_custody(&mut self, now: Time, number: u8) {
        if !self.sum_is_right() {
            self.event(Event::Odd("frame taken by the instrument's own checksum rule"));
        }
        if self.scan == RecordScan::Ended {
            // The message is complete; whatever follows belongs to another one.
            self.scan = RecordScan::Start;
            self.entry = None;
        }
        let next = self.next_session;
        let entry = self.entry.get_or_insert(Entry { session: next, parts: 0 });
        let session = entry.session;
        if session == next {
            self.next_session += 1;
        }
        let text = self.frame.get(2..self.terminator_at).unwrap_or_default();
        let last_frame = self.frame.get(self.terminator_at) == Some(&ETX);
        let scan = self.scan.after_frame(text, last_frame);
        let token = Token(self.next_token);
        self.next_token += 1;
        self.outputs.push_back(Output::Persist(Persist {
            token,
            session,
            bytes: self.frame.clone(),
            completes: scan == RecordScan::Ended,
            identity: None,
        }));
        self.state = State::Custody(Pending { token, since: now, number, scan, given_up: false });
    }

    /// The frame is on stable storage: the session moves on.
    fn accept(&mut self, pending: Pending) {
        self.last = Some(self.body().to_vec());
        self.expected = (pending.number + 1) % 8;
        self.scan = pending.scan;
        self.refused = None;
        if let Some(entry) = &mut self.entry {
            entry.parts += 1;
        }
    }

    fn refuse(&mut self, now: Time, reason: &'static str) {
        let frame = std::mem::take(&mut self.frame);
        let times = match &self.refused {
            Some((before, times)) if *before == frame => times + 1,
            _ => 1,
        };
        self.event(Event::Refused(reason));
        if times == DIAGNOSE_AFTER && reason == "bad checksum" {
            self.diagnose(&frame);
        }
        if times == TRIES {
            self.event(Event::Refused("the same frame was refused as often as a sender tries"));
        }
        self.refused = Some((frame, times));
        self.reply(now, NAK);
    }

    /// Says which wrong rule fits a frame that was refused for its checksum, and takes it up where that is allowed.
    fn diagnose(&mut self, frame: &[u8]) {
        let allowed = self.config.checksum_rules.iter().copied();
        let fits = allowed.chain(ChecksumRule::ALL).find(|&rule| self.sum_fits_by(frame, rule));
        self.event(Event::Refused(fits.map_or("checksum fits no known rule", ChecksumRule::finding)));
        if let Some(rule) = fits.filter(|rule| self.config.checksum_rules.contains(rule)) {
            self.taken_up = Some(rule);
            self.event(Event::Odd("checksum rule taken up from the next frame on, as the driver allows"));
        }
    }

    /// True when the sender has given its frame up and asks (or will ask) for the line anew: one reply is due then, and
    /// it is not the one to the frame.
    fn sender_moved_on(&self, pending: Pending) -> bool {
        let signs = self.backlog.iter().flatten().find(|&&b| matches!(b, STX | ENQ | EOT));
        match signs {
            Some(&ENQ) => true,
            Some(&EOT) => pending.given_up || self.backlog.contains(&Some(ENQ)),
            _ => false,
        }
    }

    /// From the frame number through the terminator.
    fn body(&self) -> &[u8] {
        self.frame.get(1..=self.terminator_at).unwrap_or_default()
    }

    fn sum_is_right(&self) -> bool {
        self.stated_sum(&self.frame) == Some(checksum(self.body()))
    }

    fn sum_fits(&self) -> bool {
        self.sum_is_right() || self.taken_up.is_some_and(|rule| self.sum_fits_by(&self.frame, rule))
    }

    fn sum_fits_by(&self, frame: &[u8], rule: ChecksumRule) -> bool {
        let stated = self.stated_sum(frame);
        stated.is_some() && frame.get(1..=self.terminator_at).and_then(|body| rule.sum(body)) == stated
    }

    fn stated_sum(&self, frame: &[u8]) -> Option<u8> {
        hex(*frame.get(self.terminator_at + 1)?, *frame.get(self.terminator_at + 2)?)
    }

    fn reply(&mut self, now: Time, byte: u8) {
        self.replied_at = Some(now);
        self.outputs.push_back(Output::Send(vec![byte]));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Reports noise once per session or idle time: a noisy line must not flood the log.
    fn tell_noise(&mut self) {
        if !self.noise_told {
            self.noise_told = true;
            self.event(Event::Odd("noise between frames"));
        }
    }

    fn settle(&self) -> Duration {
        self.config.frame_timeout / SETTLE_DIVISOR
    }

    /// When silence ends the session. Not while custody is pending: then it is our turn to speak.
    fn frame_deadline(&self) -> Option<Time> {
        let bytes = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        let allowance = (self.config.frame_timeout / BYTE_DIVISOR).saturating_mul(bytes);
        self.replied_at.map(|at| at + self.config.frame_timeout + allowance)
    }
}
