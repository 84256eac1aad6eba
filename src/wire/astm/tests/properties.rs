//! Properties: any split, any bytes, and a sender and a receiver over a line that spoils things.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sim::random::Random;

/// A whole session as one run of bytes, `EOT` glued to the last frame.
fn session() -> impl Strategy<Value = Vec<u8>> {
    let record = prop::collection::vec(prop::sample::select(b"RLlO|^12 \n".to_vec()), 1..40);
    (prop::collection::vec(record, 1..12), 1usize..50, any::<bool>()).prop_map(|(records, text_max, etx)| {
        let text = records.join(&b'\r');
        let parts: Vec<_> = text.chunks(text_max).collect();
        let mut bytes = vec![ENQ];
        for (at, part) in parts.iter().enumerate() {
            bytes.extend(encode_frame((at % 8) as u8 + 1, part, etx || at + 1 == parts.len()));
        }
        bytes.push(EOT);
        bytes
    })
}

/// Pieces of traffic in any order.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => (0u8..8, any::<bool>()).prop_map(|(n, last)| encode_frame(n, b"R|1\rL|1\r", last)),
        3 => (1u8..4).prop_map(|n| encode_frame(n, b"H|\r", true)),
        2 => Just(vec![ENQ]),
        1 => Just(vec![EOT]),
        1 => Just(vec![STX]),
        1 => Just(b"\x021R|1\r\x0300\r\n".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn story(bytes: &[u8], cuts: &[usize]) -> Bench {
    let mut bench = Bench::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*cut).min(rest.len()));
        bench.feed(part);
        rest = after;
    }
    bench.wait(Duration::from_secs(120));
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_a_session_tells_the_same_story(
        bytes in session(),
        cuts in prop::collection::vec(1usize..20, 1..20),
    ) {
        let (whole, split) = (story(&bytes, &[usize::MAX]), story(&bytes, &cuts));
        prop_assert_eq!(whole.sent, split.sent);
        prop_assert_eq!(whole.parts, split.parts);
        prop_assert_eq!(whole.abandoned, split.abandoned);
        prop_assert_eq!(whole.events, split.events);
    }

    #[test]
    fn every_split_of_anything_keeps_the_same_bytes(
        bytes in traffic(),
        cuts in prop::collection::vec(1usize..20, 1..20),
    ) {
        // Answers may differ: a sender that has gone on in the same read gets none for what it left behind.
        let (whole, split) = (story(&bytes, &[usize::MAX]), story(&bytes, &cuts));
        prop_assert_eq!(whole.parts, split.parts);
        prop_assert_eq!(whole.abandoned, split.abandoned);
    }

    #[test]
    fn i10_any_bytes_are_survived_and_the_line_is_free_in_the_end(bytes in traffic()) {
        let mut bench = story(&bytes, &[7]);
        prop_assert_eq!(bench.receiver.poll_timeout(), None);
        prop_assert_eq!(bench.receiver.bytes_held(), 0);
        prop_assert_eq!(bench.feed(&[ENQ]), [ACK]);
        prop_assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), [ACK]);
    }

    #[test]
    fn i1_what_a_sender_counts_as_accepted_was_kept_whole(seed in any::<u64>(), packing in 0usize..3) {
        let mut world = World::new(seed, packing);
        world.run();
        let kept = world.entries();
        for (at, message) in world.messages.iter().enumerate() {
            let text = [message.join(&b'\r').as_slice(), b"\r"].concat();
            prop_assert!(kept.contains(&text), "message {} was accepted and is not kept whole, seed {}", at, seed);
        }
        for entry in kept {
            let message = world.messages.iter().any(|m| [m.join(&b'\r').as_slice(), b"\r"].concat() == entry);
            prop_assert!(message, "an entry is complete that nobody sent, seed {}", seed);
        }
    }
}

/// Faults the world may commit before it behaves.
const FAULTS: usize = 12;
/// Messages that must get through.
const MESSAGES: usize = 4;

/// A sender, a receiver, a journal that dawdles and refuses, and a line that spoils at most one thing per write. The
/// line keeps the order of bytes, as lines do.
struct World {
    random: Random,
    now: Time,
    sender: Sender,
    receiver: Receiver,
    /// When they arrive, and what.
    to_receiver: VecDeque<(Time, Vec<u8>)>,
    to_sender: VecDeque<(Time, Vec<u8>)>,
    /// Answers of the journal that are due.
    journal: VecDeque<(Time, Token, bool)>,
    faults: usize,
    messages: Vec<Vec<Vec<u8>>>,
    next: usize,
    parts: Vec<(Token, u64, Vec<u8>, bool)>,
    taken: Vec<Token>,
}

impl World {
    fn new(seed: u64, packing: usize) -> Self {
        let packing = [Packing::RecordPerFrame, Packing::RecordPerFrameEtb, Packing::Packed][packing];
        let config = SenderConfig { packing, frame_text_max: 12, ..SenderConfig::default() };
        let message = |n: usize| -> Vec<Vec<u8>> {
            let result = format!("R|1|^^^GLU|{n}.50|mmol/L");
            ["H|\\^&", "O|1|S", &result, "L|1|N"].iter().map(|r| r.as_bytes().to_vec()).collect()
        };
        World {
            random: Random::new(seed),
            now: Time::now(),
            sender: Sender::new(config),
            receiver: Receiver::new(ReceiverConfig::default(), 1),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            journal: VecDeque::new(),
            faults: FAULTS,
            messages: (0..MESSAGES).map(message).collect(),
            next: 0,
            parts: vec![],
            taken: vec![],
        }
    }

    fn run(&mut self) {
        for _ in 0..20_000 {
            self.outputs();
            if self.next == self.messages.len() && self.to_receiver.is_empty() && self.journal.is_empty() {
                return;
            }
            if self.sender.is_free() && self.next < self.messages.len() {
                let records = self.messages[self.next].clone();
                let token = Token(self.next as u64);
                assert_eq!(self.sender.send(self.now, token, &records), Ok(()));
            }
            self.outputs();
            self.step();
        }
        panic!("the world does not come to an end");
    }

    /// Goes to the next thing that happens.
    fn step(&mut self) {
        let times = [
            self.to_receiver.front().map(|(at, _)| *at),
            self.to_sender.front().map(|(at, _)| *at),
            self.journal.front().map(|(at, ..)| *at),
            self.sender.poll_timeout(),
            self.receiver.poll_timeout(),
        ];
        let Some(at) = times.into_iter().flatten().min() else { return };
        self.now = self.now.max(at);
        let now = self.now;
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if due(times[0]) {
            let (_, bytes) = self.to_receiver.pop_front().unwrap();
            self.receiver.handle_bytes(now, &bytes);
        } else if due(times[1]) {
            let (_, bytes) = self.to_sender.pop_front().unwrap();
            self.sender.handle_bytes(now, &bytes);
        } else if due(times[2]) {
            let (_, token, full) = self.journal.pop_front().unwrap();
            match full {
                true => self.receiver.handle_custody(now, Err::<&Proof, _>(Refused { token, reason: Refusal::Full })),
                false => {
                    self.taken.push(token);
                    self.receiver.handle_custody(now, Ok(&Proof(token)));
                }
            }
        } else {
            self.sender.handle_timeout(now);
            self.receiver.handle_timeout(now);
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Send(bytes) => {
                    let queue = std::mem::take(&mut self.to_receiver);
                    self.to_receiver = self.spoil(queue, bytes);
                }
                Output::Event(Event::Accepted(token)) => {
                    assert_eq!(token, Token(self.next as u64));
                    self.next += 1;
                }
                _ => {}
            }
        }
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Send(bytes) => {
                    let queue = std::mem::take(&mut self.to_sender);
                    self.to_sender = self.spoil(queue, bytes);
                }
                Output::Persist(part) => {
                    let bad = self.fault();
                    let wait = if bad { self.random.below(20_000) } else { self.random.below(50) };
                    let full = bad && self.random.chance(0.5);
                    self.journal.push_back((self.now + Duration::from_millis(wait as u64), part.token, full));
                    self.parts.push((part.token, part.session, part.bytes, part.completes));
                }
                _ => {}
            }
        }
    }

    fn fault(&mut self) -> bool {
        let commit = self.faults > 0 && self.random.chance(0.2);
        self.faults -= usize::from(commit);
        commit
    }

    /// Puts bytes on the line; sometimes some are lost, one has a flipped bit, or they come late.
    fn spoil(&mut self, mut queue: VecDeque<(Time, Vec<u8>)>, mut bytes: Vec<u8>) -> VecDeque<(Time, Vec<u8>)> {
        let mut delay = 2;
        if self.fault() {
            let at = self.random.below(bytes.len());
            match self.random.below(4) {
                0 => bytes.clear(),
                1 => bytes.truncate(at),
                2 => bytes[at] ^= 1 << self.random.below(8),
                // Twice this is less than two sender timers: nothing older can come after the hush.
                _ => delay = self.random.below(14_000),
            }
        }
        let earliest = queue.back().map_or(self.now, |(at, _)| *at);
        let arrival = (self.now + Duration::from_millis(delay as u64)).max(earliest);
        let middle = bytes.len() / 2;
        let rest = bytes.split_off(middle);
        queue.extend([bytes, rest].into_iter().filter(|part| !part.is_empty()).map(|part| (arrival, part)));
        queue
    }

    /// Texts of the complete entries, as the journal has them.
    fn entries(&self) -> Vec<Vec<u8>> {
        let mut entries: Vec<(u64, Vec<u8>, bool)> = vec![];
        for (token, session, bytes, completes) in &self.parts {
            if !self.taken.contains(token) {
                continue;
            }
            let end = bytes.iter().position(|&b| b == ETX || b == ETB).unwrap();
            match entries.last_mut() {
                Some((last, text, complete)) if last == session => {
                    text.extend_from_slice(&bytes[2..end]);
                    *complete |= completes;
                }
                _ => entries.push((*session, bytes[2..end].to_vec(), *completes)),
            }
        }
        entries.into_iter().filter(|(_, _, complete)| *complete).map(|(_, text, _)| text).collect()
    }
}
