//! Both roles on one line: a receiver that takes what the peer sends and a sender that answers it.
//!
//! The line is half duplex and has one rule of precedence: the instrument goes first (LIS01-A2 clause 6.2.7). So the
//! sender of a computer asks for the line only when the receiver is neutral, gives way when both ask, and begins its
//! message anew, whole, after the instrument has had its turn. The receiver never learns that there is a sender: what
//! it takes, keeps and acknowledges is byte for byte what it would be alone.
//!
//! A fresh station does not know whether the peer is in the middle of a session with the one before it, and an `EOT`
//! sent into that session would acknowledge the peer's last frame (LIS01-A2 clause 6.3.5). So it says nothing of its
//! own until the peer has asked for the line, or has been silent for longer than its timer.

use std::collections::VecDeque;
use std::time::Duration;

use super::receiver::{Receiver, ReceiverConfig};
use super::sender::{Busy, Sender, SenderConfig};
use crate::wire::{Custody, Event, Output, Refused, Time, Token};

/// By how much the silence that frees a line is longer than the reply timeout, as a part of it: 16 s for 15 s.
const QUIET_DIVISOR: u32 = 15;

/// An LIS01-A2 station. See [`crate::wire`] for the verbs.
pub struct Station {
    receiver: Receiver,
    sender: Sender,
    /// What is sent as soon as the line is neutral.
    next: Option<(Token, Vec<Vec<u8>>)>,
    /// Set until it is known that the peer is in no session: its silence must last until then.
    quiet_until: Option<Time>,
    /// How long that silence has to be.
    quiet: Duration,
    /// The receiver has answered the peer since the sender last had a chance: the peer has had its turn.
    answered: bool,
    outputs: VecDeque<Output>,
}

impl Station {
    /// A station on a line of which nothing is known. Entries are numbered from `first_session`.
    pub fn new(now: Time, receiver: ReceiverConfig, sender: SenderConfig, first_session: u64) -> Self {
        let quiet = sender.reply_timeout + sender.reply_timeout / QUIET_DIVISOR;
        Station {
            quiet_until: Some(now + quiet),
            quiet,
            receiver: Receiver::new(receiver, first_session),
            sender: Sender::new(sender),
            next: None,
            answered: false,
            outputs: VecDeque::new(),
        }
    }

    /// Sends a message when the line is neutral: its records in order, each without its closing `CR`. Ends in
    /// [`Event::Accepted`] after the acknowledgment of its last frame, or in [`Event::Failed`].
    ///
    /// # Errors
    /// [`Busy`] while another message is under way or waits.
    pub fn send(&mut self, now: Time, token: Token, records: Vec<Vec<u8>>) -> Result<(), Busy> {
        if !self.is_free() {
            return Err(Busy);
        }
        self.next = Some((token, records));
        self.take_turn(now);
        Ok(())
    }

    /// True when a message would be taken.
    pub fn is_free(&self) -> bool {
        self.next.is_none() && self.sender.is_free()
    }

    /// True while the line is neutral and nothing waits for it.
    pub fn is_neutral(&self) -> bool {
        self.is_free() && !self.sender.holds_line() && self.receiver.is_neutral()
    }

    /// Takes back the message in hand, unless it is being sent at this moment. It ends in no event.
    pub fn withdraw(&mut self) -> Option<Token> {
        self.next.take().map(|(token, _)| token).or_else(|| self.sender.withdraw())
    }

    /// Bytes came from the peer, in any split.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        let mut rest = bytes;
        while self.sender.holds_line()
            && let Some((&byte, after)) = rest.split_first()
        {
            rest = after;
            if !self.sender.handle_byte(now, byte) {
                self.collect();
                self.receiver.handle_bytes(now, &[byte]);
            }
            self.collect();
        }
        if !rest.is_empty() {
            self.hear(now);
            self.receiver.handle_bytes(now, rest);
        }
        self.take_turn(now);
    }

    /// A character came damaged (serial lines only).
    pub fn handle_damage(&mut self, now: Time) {
        if self.sender.holds_line() {
            // It stands for an answer that nobody can read, as a NUL does.
            self.sender.handle_byte(now, 0);
        } else {
            self.hear(now);
            self.receiver.handle_damage(now);
        }
        self.take_turn(now);
    }

    /// The journal answered a `Persist`.
    pub fn handle_custody(&mut self, now: Time, answer: Result<&impl Custody, Refused>) {
        self.receiver.handle_custody(now, answer);
        self.take_turn(now);
    }

    /// Some deadline may have passed. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        self.receiver.handle_timeout(now);
        self.take_turn(now);
    }

    /// The line went away. What was being received is given up, what was being sent has failed.
    pub fn handle_disconnect(&mut self, now: Time) {
        self.receiver.handle_disconnect(now);
        self.sender.handle_disconnect(now);
        self.collect();
        if let Some((token, _)) = self.next.take() {
            self.outputs.push_back(Output::Event(Event::Failed(token, "the line went away")));
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Station::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        // While the peer has its turn, what the sender waits for comes after it.
        let sender = self.sender.poll_timeout().filter(|_| self.receiver.is_neutral());
        let quiet = self.quiet_until.filter(|_| self.next.is_some() && self.receiver.is_neutral());
        [self.receiver.poll_timeout(), sender, quiet].into_iter().flatten().min()
    }

    /// False while so much input waits for custody that reading on would end the session.
    pub fn wants_bytes(&self) -> bool {
        self.receiver.wants_bytes()
    }

    /// Bytes of the peer that are in memory now.
    pub fn bytes_held(&self) -> usize {
        self.receiver.bytes_held()
    }

    /// Lets the sender act when the line is neutral.
    fn take_turn(&mut self, now: Time) {
        self.collect();
        if !self.receiver.is_neutral() {
            return;
        }
        if std::mem::take(&mut self.answered) {
            self.quiet_until = None;
            self.sender.handle_turn(now);
        }
        if self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        self.quiet_until = None;
        self.sender.handle_timeout(now);
        if self.sender.is_free()
            && let Some((token, records)) = self.next.take()
            && self.sender.send(now, token, &records).is_err()
        {
            self.outputs.push_back(Output::Event(Event::Failed(token, "the message is too large")));
        }
        self.collect();
    }

    /// The peer makes itself heard: if it is in a session, its timer has begun anew.
    fn hear(&mut self, now: Time) {
        if let Some(until) = &mut self.quiet_until {
            *until = now + self.quiet;
        }
    }

    /// Takes what both roles want done, in the order in which they wanted it.
    fn collect(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            self.answered |= matches!(output, Output::Send(_));
            self.outputs.push_back(output);
        }
        while let Some(output) = self.sender.poll_output() {
            self.outputs.push_back(output);
        }
    }
}
