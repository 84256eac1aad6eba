//! Our own messages to the peer: one in flight, sent again unchanged when no answer comes.
//!
//! Answers name what they answer (MSA-2), so a late one still counts for its own message and never for another.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame;
use super::msh::msh;
use super::sender::Busy;
use crate::wire::{Time, Token};

/// Messages that may wait behind the one in flight.
const QUEUE_MAX: usize = 256;
/// How often a message is sent before it is given up.
const TRIES: u32 = 3;

/// What waits to be sent or answered.
pub(super) struct Outgoing {
    answer_timeout: Duration,
    queue: VecDeque<Letter>,
}

struct Letter {
    token: Token,
    control_id: Vec<u8>,
    message: Vec<u8>,
    /// How often it went out.
    tries: u32,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    /// It is out; sent again then.
    InFlight(Time),
}

/// What an answer means for the message it names.
pub(super) enum Meaning {
    /// It names no message of ours.
    Stray,
    /// The peer has it and will answer later.
    Committed,
    /// It is answered.
    Answer(Token),
}

impl Outgoing {
    pub fn new(answer_timeout: Duration) -> Self {
        Outgoing { answer_timeout, queue: VecDeque::new() }
    }

    /// Takes a message, unframed.
    pub fn push(&mut self, token: Token, message: Vec<u8>) -> Result<(), Busy> {
        let control_id = msh(&message).map(|msh| msh.field(10).to_vec()).unwrap_or_default();
        if self.queue.len() >= QUEUE_MAX || control_id.is_empty() || self.awaits(&control_id) {
            return Err(Busy);
        }
        self.queue.push_back(Letter { token, control_id, message, tries: 0, place: Place::Waiting });
        Ok(())
    }

    /// The next bytes to write, when nothing is in flight.
    pub fn next(&mut self, now: Time) -> Option<Vec<u8>> {
        let head = self.queue.front_mut().filter(|letter| letter.place == Place::Waiting)?;
        head.tries += 1;
        head.place = Place::InFlight(now + self.answer_timeout);
        Some(frame(&head.message))
    }

    /// The peer is at work on it: its time begins anew.
    pub fn extend(&mut self, now: Time, control_id: &[u8]) {
        let until = now + self.answer_timeout;
        if let Some(letter) = self.queue.iter_mut().find(|letter| letter.control_id == control_id) {
            letter.place = Place::InFlight(until);
        }
    }

    /// The answer is in custody.
    pub fn settle(&mut self, now: Time, code: &[u8], control_id: &[u8]) -> Meaning {
        let Some(at) = self.queue.iter().position(|letter| letter.control_id == control_id) else {
            return Meaning::Stray;
        };
        // MSH-16: after the commit ack comes the answer, unless none is wanted.
        let wants_more = |letter: &Letter| msh(&letter.message).is_some_and(|msh| msh.field(16) == b"AL");
        if code == b"CA" && self.queue.get(at).is_some_and(wants_more) {
            self.extend(now, control_id);
            return Meaning::Committed;
        }
        self.queue.remove(at).map_or(Meaning::Stray, |letter| Meaning::Answer(letter.token))
    }

    /// Sends again what was not answered in time; tells what is given up.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Token> {
        let head = self.queue.front_mut()?;
        match head.place {
            Place::InFlight(until) if now >= until && head.tries >= TRIES => {
                self.queue.pop_front().map(|letter| letter.token)
            }
            Place::InFlight(until) if now >= until => {
                head.place = Place::Waiting;
                None
            }
            _ => None,
        }
    }

    /// The line went away: nothing that waits will be answered on it.
    pub fn give_up(&mut self) -> impl Iterator<Item = Token> {
        std::mem::take(&mut self.queue).into_iter().map(|letter| letter.token)
    }

    /// When to call [`Outgoing::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.queue.front()?.place {
            Place::InFlight(until) => Some(until),
            Place::Waiting => None,
        }
    }

    /// True while an answer to this message would count.
    pub fn awaits(&self, control_id: &[u8]) -> bool {
        self.queue.iter().any(|letter| letter.control_id == control_id)
    }
}
