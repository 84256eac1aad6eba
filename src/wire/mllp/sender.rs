//! The sending side, one message in flight: what a simulated analyzer uses.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame;
use super::framer::{Framer, Item};
use super::msh::{msa, msh};
use crate::wire::{Event, Output, Time, Token};

/// How long to wait for the answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers are short; a longer one is garbage.
const ANSWER_MAX: usize = 64 * 1024;

/// Limits and timers of a [`Sender`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderConfig {
    /// How long to wait for the answer.
    pub reply_timeout: Duration,
}

impl Default for SenderConfig {
    fn default() -> Self {
        SenderConfig { reply_timeout: REPLY_TIMEOUT }
    }
}

/// A message is under way, or this one has no MSH-10. The message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sender cannot take this message now")]
pub struct Busy;

/// An MLLP sender for one connection. See [`crate::wire`] for the verbs.
///
/// After a time-out it asks for the connection to be closed: the answer that may still come must not be credited to the
/// next message.
pub struct Sender {
    config: SenderConfig,
    framer: Framer,
    outputs: VecDeque<Output>,
    in_flight: Option<InFlight>,
}

struct InFlight {
    token: Token,
    control_id: Vec<u8>,
    until: Time,
}

impl Sender {
    /// A sender on a fresh connection.
    pub fn new(config: SenderConfig) -> Self {
        Sender { config, framer: Framer::new(ANSWER_MAX), outputs: VecDeque::new(), in_flight: None }
    }

    /// Sends one message, unframed as handed in.
    ///
    /// # Errors
    /// [`Busy`] while another is in flight, or when no answer could name this one.
    pub fn send(&mut self, now: Time, token: Token, message: &[u8]) -> Result<(), Busy> {
        let control_id = msh(message).map(|msh| msh.field(10)).unwrap_or_default();
        if self.in_flight.is_some() || control_id.is_empty() {
            return Err(Busy);
        }
        let until = now + self.config.reply_timeout;
        self.in_flight = Some(InFlight { token, control_id: control_id.to_vec(), until });
        self.outputs.push_back(Output::Send(frame(message)));
        Ok(())
    }

    /// True when a message would be taken.
    pub fn is_free(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Bytes came from the peer.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        for item in self.framer.push(bytes) {
            match item {
                Item::Message(answer) => self.handle_answer(&answer),
                _ => self.outputs.push_back(Output::Event(Event::Odd("garbage in place of an answer"))),
            }
        }
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.in_flight.as_ref().is_some_and(|message| now >= message.until) {
            self.fail("no answer");
            self.outputs.push_back(Output::Close("no answer"));
        }
    }

    /// The line went away: the message in flight has failed.
    pub fn handle_disconnect(&mut self, _now: Time) {
        self.framer.reset();
        self.fail("the line went away");
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Sender::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.in_flight.as_ref().map(|message| message.until)
    }

    fn handle_answer(&mut self, answer: &[u8]) {
        let Some((code, id)) = msa(answer) else {
            return self.outputs.push_back(Output::Event(Event::Odd("an answer without MSA")));
        };
        let Some(message) = self.in_flight.take_if(|message| message.control_id == id) else {
            return self.outputs.push_back(Output::Event(Event::Odd("an answer to another message")));
        };
        let event = match code {
            b"AA" | b"CA" => Event::Accepted(message.token),
            b"AE" | b"CE" => Event::Failed(message.token, "error (AE or CE)"),
            b"AR" | b"CR" => Event::Failed(message.token, "rejected (AR or CR)"),
            _ => Event::Failed(message.token, "unknown acknowledgment code"),
        };
        self.outputs.push_back(Output::Event(event));
    }

    fn fail(&mut self, reason: &'static str) {
        if let Some(message) = self.in_flight.take() {
            self.outputs.push_back(Output::Event(Event::Failed(message.token, reason)));
        }
    }
}
