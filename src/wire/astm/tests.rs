//! Promises of the ASTM machines.

use std::time::{Duration, Instant};

use super::*;
use crate::wire::{Custody, Event, Output, Refusal, Refused, Token};

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

/// A receiver whose journal answers at once, and what came of it.
struct Bench {
    now: Instant,
    receiver: Receiver,
    /// Every byte sent.
    sent: Vec<u8>,
    /// Session, bytes and completion of every part taken.
    parts: Vec<(u64, Vec<u8>, bool)>,
    abandoned: Vec<u64>,
    closed: Vec<&'static str>,
    events: Vec<Event>,
    /// Custody is refused while true.
    full: bool,
    /// Custody is not answered while true.
    held: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(ReceiverConfig::default())
    }

    fn with(config: ReceiverConfig) -> Self {
        Bench {
            now: Instant::now(),
            receiver: Receiver::new(config, 1),
            sent: vec![],
            parts: vec![],
            abandoned: vec![],
            closed: vec![],
            events: vec![],
            full: false,
            held: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let before = self.sent.len();
        self.receiver.handle_bytes(self.now, bytes);
        self.settle();
        self.sent[before..].to_vec()
    }

    /// Lets time pass, calling the machine at each deadline it asked for.
    fn wait(&mut self, time: Duration) -> Vec<u8> {
        let before = self.sent.len();
        let end = self.now + time;
        while let Some(at) = self.receiver.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.receiver.handle_timeout(self.now);
            self.settle();
            if self.held {
                break;
            }
        }
        self.now = end;
        self.receiver.handle_timeout(self.now);
        self.settle();
        self.sent[before..].to_vec()
    }

    fn answer(&mut self, token: Token, full: bool) {
        match full {
            true => self.receiver.handle_custody(self.now, Err::<&Proof, _>(Refused { token, reason: Refusal::Full })),
            false => self.receiver.handle_custody(self.now, Ok(&Proof(token))),
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Send(bytes) => self.sent.extend(bytes),
                Output::Persist(part) => {
                    self.parts.push((part.session, part.bytes, part.completes));
                    if !self.held {
                        self.answer(part.token, self.full);
                    }
                }
                Output::Abandon { session } => self.abandoned.push(session),
                Output::Close(why) => self.closed.push(why),
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}

fn frames(records: &[&str]) -> Vec<Vec<u8>> {
    (1..).zip(records).map(|(n, r)| encode_frame(n, format!("{r}\r").as_bytes(), true)).collect()
}

const NOTHING: [u8; 0] = [];

const MESSAGE: [&str; 5] = ["H|\\^&", "P|1", "O|1|S1", "R|1|^^^GLU|5.10", "L|1|N"];

#[test]
fn i1_each_frame_is_acked_after_custody_and_kept_verbatim() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed(&[ENQ]), [ACK]);
    let frames = frames(&MESSAGE);
    for frame in &frames {
        assert_eq!(bench.feed(frame), [ACK]);
    }
    assert_eq!(bench.feed(&[EOT]), NOTHING);
    let kept: Vec<_> = bench.parts.iter().map(|(_, bytes, _)| bytes.clone()).collect();
    assert_eq!(kept, frames);
    assert_eq!(
        bench.parts.iter().map(|p| (p.0, p.2)).collect::<Vec<_>>(),
        [(1, false), (1, false), (1, false), (1, false), (1, true)]
    );
    assert!(bench.abandoned.is_empty());
}

#[test]
fn i1_no_answer_from_the_journal_means_no_ack_ever() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.held = true;
    let frame = encode_frame(1, b"H|\\^&\r", true);
    assert_eq!(bench.feed(&frame), NOTHING);
    assert_eq!(bench.wait(Duration::from_secs(14)), NOTHING);
    assert_eq!(bench.closed, ["custody came too late"]);
    bench.answer(Token(0), false);
    bench.settle();
    assert_eq!(bench.sent, [ACK], "only the line was granted");
    assert_eq!(bench.abandoned, [1]);
}
