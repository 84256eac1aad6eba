//! One attempt to send one message over an open line, with at most one fault on the way.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::faults::Fault;
use super::line::Stream;
use crate::sim::random::Random;
use crate::wire::astm::{self, ACK, ENQ, EOT, NAK, STX};
use crate::wire::{Event, Output, Time, Token, mllp};

/// Bytes read at once.
const READ_MAX: usize = 4096;
/// The silence that outlasts a receiver's 30 s timer.
const STALL: Duration = Duration::from_secs(32);
/// What a noisy line brings, without the characters that mean something.
const NOISE: [u8; 8] = [0, 1, 9, b'!', b'A', 127, 200, 255];
/// How long a sender waits for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A message on its way.
pub enum Letter {
    /// Records for an ASTM sender.
    Astm(astm::Sender, Vec<Vec<u8>>),
    /// An HL7 message.
    Hl7(mllp::Sender, Vec<u8>),
    /// A block of a line that follows no standard; one byte answers it.
    Block(Vec<u8>),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The gateway has the message.
    Acknowledged,
    /// It does not; the message must be sent again.
    Failed,
    /// No answer was seen. One may still come, and must not be taken for the answer to the next question.
    Unanswered,
}

/// What was seen during an attempt.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Refusals by the gateway.
    pub refusals: u64,
    /// Answers that no gateway may give: a damaged frame accepted, a repeated one refused.
    pub violations: u64,
    /// What came behind the last acknowledgment in the same read (ASTM): the gateway has something to say itself.
    pub rest: Vec<u8>,
}

/// The fault of one attempt, until it has been committed.
#[derive(Clone, Copy)]
pub struct Mischief {
    /// What to do.
    pub fault: Option<Fault>,
    /// At which frame.
    pub at: usize,
    /// False on a serial line, which only goes quiet.
    pub can_cut: bool,
}

/// Runs one attempt.
///
/// # Errors
/// The line went away, by itself or by [`Fault::Cut`].
pub async fn attempt(
    io: &mut dyn Stream,
    letter: Letter,
    mischief: Mischief,
    random: &mut Random,
    time_scale: f64,
) -> (io::Result<Attempt>, Seen) {
    let mut talk = Talk { io, random, mischief, time_scale, seen: Seen::default(), frames: 0, total: 0, quiet: false };
    let outcome = match letter {
        Letter::Astm(sender, records) => talk.astm(sender, &records).await,
        Letter::Hl7(sender, message) => talk.hl7(sender, &message).await,
        Letter::Block(block) => talk.block(&block).await,
    };
    (outcome, talk.seen)
}

/// Is quiet for a sender's whole timer and throws away what comes.
///
/// # Errors
/// The line went away.
pub async fn hush(io: &mut dyn Stream, time_scale: f64) -> io::Result<()> {
    let end = Instant::now() + ANSWER_MAX.mul_f64(time_scale);
    let mut buffer = [0; 64];
    while let Ok(count) = tokio::time::timeout_at(end, io.read(&mut buffer)).await {
        if count? == 0 {
            return Err(closed());
        }
    }
    Ok(())
}

struct Talk<'a> {
    io: &'a mut dyn Stream,
    random: &'a mut Random,
    mischief: Mischief,
    time_scale: f64,
    seen: Seen,
    /// Frames begun, retransmissions not counted.
    frames: usize,
    /// Frames of the message.
    total: usize,
    /// The next `EOT` was already written.
    quiet: bool,
}

/// What to do after a write.
enum Next {
    Go,
    /// Behave as if this had come from the gateway.
    Hear(u8),
    /// Begin anew, now.
    Restart,
}

impl Talk<'_> {
    async fn astm(&mut self, mut sender: astm::Sender, records: &[Vec<u8>]) -> io::Result<Attempt> {
        let mut last_frame: Vec<u8> = Vec::new();
        // One message per sender and nothing under way: it is always taken.
        if sender.send(now(), Token(0), records).is_err() {
            return Ok(Attempt::Failed);
        }
        self.total = sender.frame_count();
        loop {
            while let Some(output) = sender.poll_output() {
                match output {
                    Output::Send(bytes) => {
                        if bytes.first() == Some(&STX) && bytes != last_frame {
                            self.frames += 1;
                            last_frame.clone_from(&bytes);
                        }
                        match self.write_astm(&bytes).await? {
                            Next::Go => {}
                            Next::Hear(byte) => sender.handle_bytes(now(), &[byte]),
                            Next::Restart => return Ok(Attempt::Failed),
                        }
                    }
                    Output::Event(Event::Accepted(_)) => return Ok(Attempt::Acknowledged),
                    Output::Event(Event::Failed(_, reason)) => {
                        let silent = reason == "no answer";
                        return Ok(if silent { Attempt::Unanswered } else { Attempt::Failed });
                    }
                    _ => {}
                }
            }
            let Some(bytes) = self.read(sender.poll_timeout()).await? else {
                sender.handle_timeout(now());
                continue;
            };
            for byte in bytes {
                if byte == NAK {
                    self.seen.refusals += 1;
                }
                if sender.is_free() {
                    self.seen.rest.push(byte);
                } else if self.pass_answer(byte, &last_frame).await? {
                    sender.handle_bytes(now(), &[byte]);
                }
            }
        }
    }

    async fn write_astm(&mut self, bytes: &[u8]) -> io::Result<Next> {
        let frame = bytes.first() == Some(&STX);
        let here = frame && self.frames == self.mischief.at.min(self.total);
        match self.mischief.fault {
            Some(Fault::Noise) if bytes == [ENQ] => {
                self.mischief.fault = None;
                self.write_noise().await?;
            }
            Some(Fault::Contention) if bytes == [ENQ] => {
                self.mischief.fault = None;
                self.write(bytes).await?;
                return Ok(Next::Hear(ENQ));
            }
            Some(Fault::BadChecksum) if here => {
                self.mischief.fault = None;
                let answer = self.write_damaged(bytes).await?;
                // What was refused is sent again by the machine, unharmed; silence is for the machine to count.
                return Ok(answer.map_or(Next::Go, Next::Hear));
            }
            Some(Fault::Stall) if here => {
                self.mischief.fault = None;
                self.write_in_halves(bytes).await?;
                return Ok(Next::Go);
            }
            Some(Fault::Cut) if here => {
                self.mischief.fault = None;
                return self.cut(bytes).await.map(|()| Next::Restart);
            }
            Some(Fault::EnqInSession) if here && self.frames > 1 => return Ok(Next::Restart),
            Some(Fault::GluedEot) if frame && self.frames == self.total => {
                self.mischief.fault = None;
                self.quiet = true;
                self.write(&[bytes, &[EOT]].concat()).await?;
                return Ok(Next::Go);
            }
            _ => {}
        }
        if bytes == [EOT] && std::mem::take(&mut self.quiet) {
            return Ok(Next::Go);
        }
        self.write(bytes).await?;
        Ok(Next::Go)
    }

    /// False when the answer is to be lost.
    async fn pass_answer(&mut self, byte: u8, last_frame: &[u8]) -> io::Result<bool> {
        if byte != ACK || self.frames == 0 || self.frames != self.mischief.at.min(self.total) {
            return Ok(true);
        }
        match self.mischief.fault {
            Some(Fault::DroppedAck) => {
                self.mischief.fault = None;
                Ok(false)
            }
            Some(Fault::DupFrame) => {
                self.mischief.fault = None;
                self.write(last_frame).await?;
                if self.one_byte().await?.is_some_and(|answer| answer != ACK) {
                    self.seen.violations += 1;
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    async fn hl7(&mut self, mut sender: mllp::Sender, message: &[u8]) -> io::Result<Attempt> {
        let mut doubled = false;
        if sender.send(now(), Token(0), message).is_err() {
            return Ok(Attempt::Failed);
        }
        loop {
            while let Some(output) = sender.poll_output() {
                match output {
                    Output::Send(bytes) => match self.mischief.fault.take() {
                        Some(Fault::Noise) => self.write(&[b"\r\n noise\0", bytes.as_slice()].concat()).await?,
                        Some(Fault::Stall) => self.write_in_halves(&bytes).await?,
                        Some(Fault::Cut) => self.cut(&bytes).await?,
                        Some(Fault::DupFrame) => {
                            doubled = true;
                            self.write(&[bytes.as_slice(), &bytes].concat()).await?;
                        }
                        other => {
                            self.mischief.fault = other;
                            self.write(&bytes).await?;
                        }
                    },
                    Output::Event(Event::Accepted(_)) => {
                        // The answer to the copy comes as well and must not meet the next message.
                        return if doubled { Err(closed()) } else { Ok(Attempt::Acknowledged) };
                    }
                    Output::Event(Event::Failed(_, reason)) => {
                        self.seen.refusals += u64::from(reason != "no answer");
                        return Ok(Attempt::Failed);
                    }
                    Output::Close(_) => return Err(closed()),
                    _ => {}
                }
            }
            match self.read(sender.poll_timeout()).await? {
                Some(_) if self.mischief.fault == Some(Fault::DroppedAck) => self.mischief.fault = None,
                Some(bytes) => sender.handle_bytes(now(), &bytes),
                None => sender.handle_timeout(now()),
            }
        }
    }

    /// Sends a block and hears its answer. There is no number in it: one that is sent again is kept again, and its results
    /// are known to be the same.
    async fn block(&mut self, block: &[u8]) -> io::Result<Attempt> {
        match self.mischief.fault.take() {
            Some(Fault::BadChecksum) => {
                let answer = self.write_damaged(block).await?;
                self.seen.refusals += u64::from(answer == Some(NAK));
            }
            Some(Fault::Noise) => self.write_noise().await?,
            Some(Fault::Stall) => {
                self.write_in_halves(block).await?;
                return Ok(Attempt::Unanswered);
            }
            Some(Fault::Cut) => {
                self.cut(block).await?;
                return Ok(Attempt::Failed);
            }
            Some(Fault::DupFrame | Fault::DroppedAck) => {
                self.write(block).await?;
                if self.one_byte().await?.is_some_and(|answer| answer != ACK) {
                    self.seen.violations += 1;
                }
            }
            _ => {}
        }
        self.write(block).await?;
        match self.one_byte().await? {
            Some(ACK) => Ok(Attempt::Acknowledged),
            Some(_) => {
                self.seen.refusals += 1;
                Ok(Attempt::Failed)
            }
            None => Ok(Attempt::Unanswered),
        }
    }

    async fn write_noise(&mut self) -> io::Result<()> {
        let noise: Vec<u8> = (0..20).filter_map(|_| NOISE.get(self.random.below(NOISE.len())).copied()).collect();
        self.write(&noise).await
    }

    /// Writes it with one bit wrong; the answer, which may not be an acknowledgment.
    async fn write_damaged(&mut self, bytes: &[u8]) -> io::Result<Option<u8>> {
        let mut wrong = bytes.to_vec();
        let middle = wrong.len() / 2;
        if let Some(byte) = wrong.get_mut(middle) {
            *byte ^= 1;
        }
        self.write(&wrong).await?;
        let answer = self.one_byte().await?;
        if answer == Some(ACK) {
            self.seen.violations += 1;
        }
        Ok(answer)
    }

    /// Half, then silence until the receiver's timer ran out, then the rest.
    async fn write_in_halves(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.write(first).await?;
        tokio::time::sleep(STALL.mul_f64(self.time_scale)).await;
        self.write(second).await
    }

    /// Half, and the line is gone.
    async fn cut(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes.get(..bytes.len() / 2).unwrap_or_default()).await?;
        if self.mischief.can_cut {
            return Err(closed());
        }
        tokio::time::sleep(STALL.mul_f64(self.time_scale)).await;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// One answer outside the machine's own exchange.
    async fn one_byte(&mut self) -> io::Result<Option<u8>> {
        let deadline = Instant::now() + ANSWER_MAX.mul_f64(self.time_scale);
        match tokio::time::timeout_at(deadline, self.io.read_u8()).await {
            Ok(byte) => byte.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Bytes from the gateway; `None` at the deadline.
    async fn read(&mut self, deadline: Option<Time>) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; READ_MAX];
        let read = self.io.read(&mut buffer);
        let count = match deadline {
            Some(at) => match tokio::time::timeout_at(Instant::from_std(at), read).await {
                Ok(count) => count?,
                Err(_) => return Ok(None),
            },
            None => read.await?,
        };
        if count == 0 {
            return Err(closed());
        }
        buffer.truncate(count);
        Ok(Some(buffer))
    }
}

/// The machines' time, which is also tokio's, so that paused test time works.
fn now() -> Time {
    Instant::now().into_std()
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
