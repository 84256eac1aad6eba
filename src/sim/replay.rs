//! Replaying transcripts against the receivers in virtual time, with a journal that answers at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::transcript::{Step, spell};
use crate::wire::{
    Custody, ENDED, Event, Message, Output, Persist, Protocol, Refused, Time, Token, astm, line, mllp, poct1a,
};

/// How long an expected answer may take, in virtual time: a sender's own timer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// What follows the last word on a line where silence matters.
const SILENCE: Duration = Duration::from_secs(3600);

/// What a receiver made of a transcript.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Every part taken into custody, in order.
    pub parts: Vec<Persist>,
    /// Sessions given up.
    pub abandoned: Vec<u64>,
    /// What was odd on the line.
    pub events: Vec<Event>,
    /// Answers that were not the expected ones, in words. Transcripts hold synthetic patients only.
    pub mismatches: Vec<String>,
}

impl Replayed {
    /// The bytes of each session in order, and whether they are complete.
    pub fn entries(&self) -> Vec<(Vec<u8>, bool)> {
        let mut entries: Vec<(u64, Vec<u8>, bool)> = Vec::new();
        for part in &self.parts {
            match entries.last_mut() {
                Some((session, bytes, complete)) if *session == part.session => {
                    bytes.extend_from_slice(&part.bytes);
                    *complete |= part.completes;
                }
                _ => entries.push((part.session, part.bytes.clone(), part.completes)),
            }
        }
        entries.into_iter().map(|(_, bytes, complete)| (bytes, complete)).collect()
    }
}

/// Plays the instrument's side of a transcript to a receiver with the standard's timers, `read_bytes` at a time, and
/// compares what comes back. Of tables, each run of bytes is a file, and nothing is answered. Lines are told apart by
/// silence; [`replay_lines`] knows other ways.
pub fn replay(steps: &[Step], protocol: Protocol, read_bytes: usize) -> Replayed {
    replay_both_ways(steps, protocol, read_bytes, astm::SenderConfig::default(), None)
}

/// What an instrument that asks is told.
pub enum Told {
    /// Records that are sent when the line is free (ASTM).
    Records(Vec<Vec<u8>>),
    /// The reply to its question, and what follows by itself (HL7).
    Messages {
        /// In place of an acknowledgment.
        reply: Vec<u8>,
        /// Each answered by the instrument.
        follow: Vec<Vec<u8>>,
    },
}

/// What is made of a complete entry.
pub type Answer<'a> = dyn Fn(&[u8]) -> Option<Told> + 'a;

/// The same, and the instrument is told what `answer` makes of what it asks.
pub fn replay_both_ways(
    steps: &[Step],
    protocol: Protocol,
    read_bytes: usize,
    sender: astm::SenderConfig,
    answer: Option<&Answer<'_>>,
) -> Replayed {
    let now = Instant::now();
    let sender = astm::SenderConfig { role: astm::Role::Computer, ..sender };
    let machine = match protocol {
        Protocol::Table => return files(steps),
        Protocol::Astm => Machine::Astm(Box::new(astm::Station::new(now, astm::ReceiverConfig::default(), sender, 1))),
        Protocol::Hl7 => {
            let config = mllp::ReceiverConfig { host_query: answer.is_some(), ..mllp::ReceiverConfig::default() };
            Machine::Hl7(mllp::Receiver::new(config, 1))
        }
        Protocol::Poct1a => Machine::Poct1a(poct1a::Receiver::new(poct1a::ReceiverConfig::default(), 1)),
        Protocol::Lines => Machine::Lines(Box::new(line::Receiver::new(line::ReceiverConfig::default(), 1))),
    };
    play(machine, now, steps, read_bytes, answer)
}

/// The same for lines that are framed like this. After the last step there is silence.
pub fn replay_lines(steps: &[Step], framing: &line::Framing, read_bytes: usize) -> Replayed {
    let config = line::ReceiverConfig { framing: framing.clone(), ..Default::default() };
    let machine = Machine::Lines(Box::new(line::Receiver::new(config, 1)));
    play(machine, Instant::now(), steps, read_bytes, None)
}

fn play(machine: Machine, now: Time, steps: &[Step], read_bytes: usize, answer: Option<&Answer<'_>>) -> Replayed {
    let mut line = Line { machine, now, sent: Vec::new(), answer, outcome: Replayed::default() };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Instrument(bytes) => {
                for read in bytes.chunks(read_bytes.max(1)) {
                    line.feed(read);
                }
                let expected = matches!(steps.get(at + 1), Some(Step::Gateway(_) | Step::Pause(_)));
                if !expected {
                    line.expect(at, |sent| sent.is_empty(), "nothing");
                }
            }
            Step::Gateway(pattern) => {
                let deadline = line.now + ANSWER_MAX;
                while !pattern.matches(&line.sent) && line.sent.is_empty() && line.pass_until(deadline) {}
                line.expect(at, |sent| pattern.matches(sent), "the answer in the transcript");
            }
            Step::Pause(time) => {
                let deadline = line.now + *time;
                while line.pass_until(deadline) {}
                line.now = deadline;
            }
        }
    }
    // Nobody says when silence begins, so it follows the last word. Other machines would only give up.
    if matches!(line.machine, Machine::Lines(_)) {
        let deadline = line.now + SILENCE;
        while line.pass_until(deadline) {}
        line.expect(steps.len(), |sent| sent.is_empty(), "nothing");
    }
    line.outcome
}

/// Files in a folder: each is taken whole, and the same one again is a repeat.
fn files(steps: &[Step]) -> Replayed {
    let mut outcome = Replayed::default();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Instrument(bytes) => {
                let session = outcome.parts.len() as u64 + 1;
                let (token, identity) = (Token(session), Some(Vec::new()));
                outcome.parts.push(Persist { token, session, bytes: bytes.clone(), completes: true, identity });
            }
            Step::Gateway(_) => outcome.mismatches.push(format!("step {}: a file has no answer", at + 1)),
            Step::Pause(_) => {}
        }
    }
    outcome
}

enum Machine {
    Astm(Box<astm::Station>),
    Hl7(mllp::Receiver),
    Poct1a(poct1a::Receiver),
    Lines(Box<line::Receiver>),
}

/// Runs one expression on whichever machine there is.
macro_rules! each {
    ($machine:expr, $m:ident => $run:expr) => {
        match &mut $machine {
            Machine::Astm($m) => $run,
            Machine::Hl7($m) => $run,
            Machine::Poct1a($m) => $run,
            Machine::Lines($m) => $run,
        }
    };
}

struct Line<'a> {
    machine: Machine,
    answer: Option<&'a Answer<'a>>,
    now: Time,
    /// What the receiver sent and no step has accounted for.
    sent: Vec<u8>,
    outcome: Replayed,
}

struct Taken(Token);

impl Custody for Taken {
    fn token(&self) -> Token {
        self.0
    }
}

impl Line<'_> {
    fn feed(&mut self, bytes: &[u8]) {
        each!(self.machine, m => m.handle_bytes(self.now, bytes));
        self.settle();
    }

    /// Goes to the machine's next deadline; false when it has none before `limit`.
    fn pass_until(&mut self, limit: Time) -> bool {
        let Some(at) = each!(self.machine, m => m.poll_timeout()).filter(|at| *at <= limit) else { return false };
        self.now = self.now.max(at);
        each!(self.machine, m => m.handle_timeout(self.now));
        self.settle();
        true
    }

    fn settle(&mut self) {
        let mut outputs = VecDeque::new();
        loop {
            outputs.extend(std::iter::from_fn(|| each!(self.machine, m => m.poll_output())));
            let Some(output) = outputs.pop_front() else { return };
            match output {
                Output::Send(bytes) => self.sent.extend(bytes),
                Output::Persist(part) => {
                    let answer: Result<&Taken, Refused> = Ok(&Taken(part.token));
                    each!(self.machine, m => m.handle_custody(self.now, answer));
                    let completes = part.completes;
                    self.outcome.parts.push(part);
                    if completes
                        && let Machine::Astm(station) = &mut self.machine
                        && let Some((entry, _)) = self.outcome.entries().last()
                        && let Some(Told::Records(records)) = self.answer.and_then(|answer| answer(entry))
                        && station.send(self.now, Token(0), records).is_err()
                    {
                        self.outcome.mismatches.push("an answer came while another one was under way".to_string());
                    }
                }
                Output::Abandon { session } => self.outcome.abandoned.push(session),
                Output::Ask(asked) => self.tell(&asked),
                Output::Answered(_) | Output::Close(ENDED) => {}
                Output::Close(why) => self.outcome.mismatches.push(format!("the line was closed: {why}")),
                Output::Event(event) => self.outcome.events.push(event),
            }
        }
    }

    /// Answers what an HL7 instrument asks. What nobody here can answer, the machine does by itself in time.
    fn tell(&mut self, asked: &Message) {
        let Machine::Hl7(receiver) = &mut self.machine else { return };
        let Some(Told::Messages { reply, follow }) = self.answer.and_then(|answer| answer(&asked.bytes)) else {
            return;
        };
        receiver.handle_reply(self.now, asked.token, Some(&reply));
        for (at, message) in (0..).zip(follow) {
            if receiver.send(self.now, Token(at), &message).is_err() {
                self.outcome.mismatches.push("more orders than the line takes at once".to_string());
            }
        }
    }

    fn expect(&mut self, step: usize, right: impl Fn(&[u8]) -> bool, what: &str) {
        let sent = std::mem::take(&mut self.sent);
        if !right(&sent) {
            self.outcome.mismatches.push(format!("step {}: expected {what}, got {}", step + 1, spell(&sent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::transcript::parse;

    const SESSION: &str = "> <ENQ>\n< <ACK>\n> <STX>1H|\\^&<CR><ETX><CS><CR><LF>\n< <ACK>\n> <ENQ>\n< <ACK>\n\
        > <STX>1H|\\^&<CR>L|1<CR><ETX>00<CR><LF>\n< <NAK>\n> <STX>1H|\\^&<CR>L|1<CR><ETX><CS><CR><LF>\n< <ACK>\n> <EOT>\n";

    #[test]
    fn a_session_replays_the_same_in_every_split() {
        let steps = parse(SESSION).unwrap();
        for read_bytes in [1, 2, 8, 1000] {
            let replayed = replay(&steps, Protocol::Astm, read_bytes);
            assert_eq!(replayed.mismatches, Vec::<String>::new(), "{read_bytes} bytes a read");
            assert_eq!(replayed.abandoned, [1]);
            let complete: Vec<_> = replayed.entries().into_iter().map(|(_, complete)| complete).collect();
            assert_eq!(complete, [false, true]);
        }
    }

    #[test]
    fn a_wrong_answer_is_found() {
        let steps = parse(&SESSION.replacen("< <ACK>", "< <NAK>", 1)).unwrap();
        assert_eq!(replay(&steps, Protocol::Astm, 8).mismatches.len(), 1);
        let silent = parse("> <CR>\n< <ACK>\n> <ENQ>\n> <EOT>\n").unwrap();
        assert_eq!(replay(&silent, Protocol::Astm, 8).mismatches.len(), 2);
    }

    #[test]
    fn hl7_answers_may_leave_our_words_open() {
        let text = "> x<VT>MSH|^~\\&|SIM|LAB|||1||ORU^R01|K1|P|2.4<CR><FS><CR>\n\
            < <VT>MSH|^~\\&|||SIM|LAB|<*>||ACK^R01^ACK|<*>|P|2.4<CR>MSA|AA|K1<CR><FS><CR>\n";
        let replayed = replay(&parse(text).unwrap(), Protocol::Hl7, 3);
        assert_eq!(replayed.mismatches, Vec::<String>::new());
        assert_eq!(replayed.parts.len(), 1);
    }
}
