//! The sending side of a link: asks for the line, sends frames one by one, sends refused ones again.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::encode_frame;
use super::{ACK, ENQ, EOT, NAK};
use crate::wire::{Event, Output, Time, Token};

/// How long to wait for an answer (LIS01-A2 clause 6.5.2).
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait after `NAK` to an `ENQ`: the receiver is busy.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// How long an instrument waits when both sides asked for the line.
const CONTENTION_WAIT_INSTRUMENT: Duration = Duration::from_secs(1);
/// How long a computer waits for the instrument to ask again.
const CONTENTION_WAIT_COMPUTER: Duration = Duration::from_secs(20);
/// How often one frame, or the line, is tried before the message is given up.
const TRIES: u32 = 6;
/// Text characters a frame, the E1381-95 limit that every receiver takes.
const FRAME_TEXT_MAX: usize = 240;
/// The silence after something that was no answer, as a part of the reply timeout: 1 s of 15 s. Sending the frame again
/// at once would bring two answers to one frame, and the second would be taken for the answer to the next.
const SETTLE_DIVISOR: u32 = 15;
/// Records and record bytes taken in one message.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Who gives way when both sides ask for the line: the instrument wins (LIS01-A2 clause 6.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks again after a second.
    Instrument,
    /// Stops asking, lets the instrument talk, tries again when it has not asked for 20 s.
    Computer,
}

/// How records are laid into frames. Receivers must take all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Each record begins its own frame and ends in `ETX`, as the standard has it.
    RecordPerFrame,
    /// Each record begins its own frame; only the last ends in `ETX`.
    RecordPerFrameEtb,
    /// The records are one run of text, cut where a frame is full.
    Packed,
}

/// Limits and timers of a [`Sender`]. The default is the standard's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderConfig {
    /// Who gives way.
    pub role: Role,
    /// How records are laid into frames.
    pub packing: Packing,
    /// Most text bytes in a frame; 240 by E1381-95, up to 63 993 by LIS01-A2.
    pub frame_text_max: usize,
    /// How long to wait for an answer.
    pub reply_timeout: Duration,
    /// How long to wait after the receiver said it is busy.
    pub busy_wait: Duration,
    /// How long to wait after both sides asked for the line; `None` is the standard's time for the role.
    pub contention_wait: Option<Duration>,
}

impl Default for SenderConfig {
    fn default() -> Self {
        SenderConfig {
            role: Role::Instrument,
            packing: Packing::RecordPerFrame,
            frame_text_max: FRAME_TEXT_MAX,
            reply_timeout: REPLY_TIMEOUT,
            busy_wait: BUSY_WAIT,
            contention_wait: None,
        }
    }
}

/// The sender has a message in hand, or this one is larger than a message may be. The message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sender cannot take this message now")]
pub struct Busy;

/// An LIS01-A2 sender for one line and one message at a time. See [`crate::wire`] for the verbs.
///
/// A message ends in [`Event::Accepted`] after the peer acknowledged its last frame, or in [`Event::Failed`]; a failed
/// message must be sent again whole.
pub struct Sender {
    config: SenderConfig,
    state: State,
    outputs: VecDeque<Output>,
    message: Option<Message>,
}

struct Message {
    token: Token,
    /// Text of each frame, and whether it ends in `ETX`.
    frames: Vec<(Vec<u8>, bool)>,
    /// The frame that is being sent.
    at: usize,
    /// How often that frame, or `ENQ`, has been sent.
    tries: u32,
    /// How often the receiver made us stop in the middle.
    stops: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Quiet until then, so that no late answer is taken for the answer to the next question.
    Hush {
        until: Time,
    },
    /// Ask for the line then, or as soon as the peer has had its turn when that is what we wait for.
    Wait {
        until: Time,
        for_peer: bool,
    },
    /// `ENQ` is out. `noise` says that something came that is no answer.
    Asking {
        until: Time,
        noise: bool,
    },
    /// A frame is out.
    Sending {
        until: Time,
    },
    /// Something came that is no answer; the frame goes out again after a silence. `enq` says that it was `ENQ`.
    Unclear {
        until: Time,
        enq: bool,
    },
}

impl Sender {
    /// A sender on a quiet line.
    pub fn new(config: SenderConfig) -> Self {
        Sender { config, state: State::Idle, outputs: VecDeque::new(), message: None }
    }

    /// Sends a message: its records in order, each without its closing `CR`.
    ///
    /// # Errors
    /// [`Busy`] while another message is under way, and for one over 16 MiB.
    pub fn send(&mut self, now: Time, token: Token, records: &[Vec<u8>]) -> Result<(), Busy> {
        let size = records.iter().map(|r| r.len() + 1).sum::<usize>();
        if self.message.is_some() || size > MESSAGE_MAX {
            return Err(Busy);
        }
        let frames = lay_out(records, self.config.packing, self.config.frame_text_max.max(1));
        self.message = Some(Message { token, frames, at: 0, tries: 0, stops: 0 });
        if self.state == State::Idle {
            self.ask(now);
        }
        Ok(())
    }

    /// True while this sender has asked for or holds the line, so that incoming bytes are answers to it. Otherwise they
    /// are for the receiver of the line.
    pub fn holds_line(&self) -> bool {
        matches!(self.state, State::Asking { .. } | State::Sending { .. } | State::Unclear { .. })
    }

    /// The peer has had its turn: what waited for that may ask now.
    pub fn handle_turn(&mut self, now: Time) {
        if let State::Wait { for_peer: true, .. } = self.state {
            self.ask(now);
        }
    }

    /// Takes back a message of which nothing is under way on the line.
    pub fn withdraw(&mut self) -> Option<Token> {
        if self.holds_line() {
            return None;
        }
        self.message.take().map(|message| message.token)
    }

    /// True when a message would be taken.
    pub fn is_free(&self) -> bool {
        self.message.is_none()
    }

    /// Frames of the message in hand; 0 without one.
    pub fn frame_count(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.frames.len())
    }

    /// Bytes came from the peer.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        for &byte in bytes {
            self.handle_byte(now, byte);
        }
    }

    /// One byte came from the peer. False when it is no answer to us: it is for the receiver of the line.
    pub(super) fn handle_byte(&mut self, now: Time, byte: u8) -> bool {
        self.handle_timeout(now);
        match self.state {
            State::Asking { until, .. } => self.handle_grant(now, byte, until),
            State::Sending { .. } => return self.handle_reply(now, byte, false),
            State::Unclear { enq, .. } => return self.handle_reply(now, byte, enq),
            // Nothing was asked, so nothing can be an answer.
            State::Idle | State::Hush { .. } | State::Wait { .. } => return false,
        }
        true
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.state {
            State::Hush { until } if now >= until => {
                self.state = State::Idle;
                if self.message.is_some() {
                    self.ask(now);
                }
            }
            State::Wait { until, .. } if now >= until => self.ask(now),
            State::Unclear { until, .. } if now >= until => self.send_frame(now),
            // Whoever talks without granting the line may have it. EOT would acknowledge what it says.
            State::Asking { until, noise: true } if now >= until => {
                self.fail(now, "no answer", self.config.reply_timeout);
            }
            State::Asking { until, .. } | State::Sending { until } if now >= until => {
                self.give_up(now, "no answer", self.config.reply_timeout);
            }
            _ => {}
        }
    }

    /// The line went away: a message under way has failed, however far it was.
    pub fn handle_disconnect(&mut self, _now: Time) {
        self.state = State::Idle;
        if let Some(message) = self.message.take() {
            self.event(Event::Failed(message.token, "the line went away"));
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Sender::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Idle => None,
            State::Hush { until }
            | State::Wait { until, .. }
            | State::Asking { until, .. }
            | State::Sending { until }
            | State::Unclear { until, .. } => Some(until),
        }
    }

    fn ask(&mut self, now: Time) {
        let Some(message) = &mut self.message else {
            self.state = State::Idle;
            return;
        };
        message.tries += 1;
        self.outputs.push_back(Output::Send(vec![ENQ]));
        self.state = State::Asking { until: now + self.config.reply_timeout, noise: false };
    }

    fn handle_grant(&mut self, now: Time, byte: u8, until: Time) {
        let tried = self.message.as_ref().map_or(0, |m| m.tries);
        match byte {
            ACK => {
                if let Some(message) = &mut self.message {
                    message.at = 0;
                    message.tries = 0;
                }
                self.send_frame(now);
            }
            NAK | ENQ if tried >= TRIES => self.give_up(now, "the line was not granted", Duration::ZERO),
            NAK => self.state = State::Wait { until: now + self.config.busy_wait, for_peer: false },
            ENQ => {
                self.event(Event::Odd("both sides asked for the line"));
                self.give_way(now);
            }
            _ => {
                if self.state == (State::Asking { until, noise: false }) {
                    self.event(Event::Odd("noise in place of an answer"));
                }
                self.state = State::Asking { until, noise: true };
            }
        }
    }

    /// Any answer but `ACK` and `EOT` refuses the frame (LIS01-A2 clause 6.3.2), but only `NAK` is sure to be one.
    fn handle_reply(&mut self, now: Time, byte: u8, asked_before: bool) -> bool {
        match byte {
            ACK => self.next_frame(),
            NAK => {}
            EOT => return self.handle_stop(now),
            // A NAK with a flipped bit is an ENQ too. Asked twice for the same frame, the instrument began anew.
            ENQ if asked_before && self.config.role == Role::Computer => {
                self.event(Event::Odd("the instrument asked for the line while it was sent to"));
                self.stop(now);
                return false;
            }
            _ => {
                let settle = self.config.reply_timeout / SETTLE_DIVISOR;
                self.state = State::Unclear { until: now + settle, enq: byte == ENQ };
                return true;
            }
        }
        self.send_frame(now);
        true
    }

    /// `EOT` accepts the frame and asks the sender to stop (LIS01-A2 clause 6.3.5). An instrument goes on, as it may; a
    /// computer gives the line back, is silent until the instrument has spoken and begins anew.
    fn handle_stop(&mut self, now: Time) -> bool {
        self.event(Event::Odd("the receiver asks to stop"));
        self.next_frame();
        let more = self.message.as_ref().is_some_and(|message| message.at < message.frames.len());
        if self.config.role == Role::Computer && more {
            self.outputs.push_back(Output::Send(vec![EOT]));
            self.stop(now);
        } else {
            self.send_frame(now);
        }
        true
    }

    /// Leaves the line to the peer; the message begins anew, unless that has happened too often.
    fn stop(&mut self, now: Time) {
        let Some(message) = &mut self.message else { return };
        message.stops += 1;
        if message.stops >= TRIES {
            let token = message.token;
            self.message = None;
            self.event(Event::Failed(token, "the receiver asked to stop too often"));
        } else {
            (message.at, message.tries) = (0, 0);
        }
        self.give_way(now);
    }

    fn give_way(&mut self, now: Time) {
        let wait = self.config.contention_wait.unwrap_or(match self.config.role {
            Role::Instrument => CONTENTION_WAIT_INSTRUMENT,
            Role::Computer => CONTENTION_WAIT_COMPUTER,
        });
        self.state = State::Wait { until: now + wait, for_peer: self.config.role == Role::Computer };
    }

    fn next_frame(&mut self) {
        if let Some(message) = &mut self.message {
            message.at += 1;
            message.tries = 0;
        }
    }

    /// Sends the frame that is due, or ends the session after the last one or too many tries.
    fn send_frame(&mut self, now: Time) {
        let Some(message) = &mut self.message else {
            self.state = State::Idle;
            return;
        };
        let Some((text, last)) = message.frames.get(message.at) else {
            let token = message.token;
            self.message = None;
            self.state = State::Idle;
            self.outputs.push_back(Output::Send(vec![EOT]));
            self.event(Event::Accepted(token));
            return;
        };
        if message.tries >= TRIES {
            return self.give_up(now, "a frame was refused too often", Duration::ZERO);
        }
        message.tries += 1;
        let number = u8::try_from((message.at + 1) % 8).unwrap_or_default();
        self.outputs.push_back(Output::Send(encode_frame(number, text, *last)));
        self.state = State::Sending { until: now + self.config.reply_timeout };
    }

    fn give_up(&mut self, now: Time, reason: &'static str, hush: Duration) {
        self.outputs.push_back(Output::Send(vec![EOT]));
        self.fail(now, reason, hush);
    }

    fn fail(&mut self, now: Time, reason: &'static str, hush: Duration) {
        self.state = State::Hush { until: now + hush };
        if let Some(message) = self.message.take() {
            self.event(Event::Failed(message.token, reason));
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Frame texts for the records, with the mark of the frames that end in `ETX`.
fn lay_out(records: &[Vec<u8>], packing: Packing, text_max: usize) -> Vec<(Vec<u8>, bool)> {
    let with_end = records.iter().map(|record| [record.as_slice(), b"\r"].concat());
    let units: Vec<Vec<u8>> = match packing {
        Packing::Packed => vec![with_end.collect::<Vec<_>>().concat()],
        Packing::RecordPerFrame | Packing::RecordPerFrameEtb => with_end.collect(),
    };
    let mut frames = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        let ends = packing != Packing::RecordPerFrameEtb || at + 1 == units.len();
        let mut parts = unit.chunks(text_max).peekable();
        while let Some(part) = parts.next() {
            frames.push((part.to_vec(), ends && parts.peek().is_none()));
        }
    }
    frames
}
