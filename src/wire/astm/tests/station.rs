//! Promises of a station: who goes first, and what happens to a message when the line does not let it through.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sim::random::Random;

const MESSAGE: [&str; 3] = ["H|\\^&", "O|1|S1", "L|1|N"];

/// A station whose journal answers at once.
struct Post {
    now: Time,
    station: Station,
    kept: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Post {
    fn new() -> Self {
        let mut post = Post { station: fresh(Role::Computer, Instant::now(), 1), ..Post::unknown() };
        // The instrument has come and gone: the line is known to be neutral.
        assert_eq!(post.feed(&[ENQ, EOT]), [ACK]);
        post
    }

    /// A station that has heard nothing yet.
    fn unknown() -> Self {
        let now = Instant::now();
        Post { now, station: fresh(Role::Computer, now, 1), kept: vec![], events: vec![] }
    }

    fn send(&mut self, number: u64) -> Vec<u8> {
        assert_eq!(self.station.send(self.now, Token(number), records(&MESSAGE)), Ok(()));
        self.settle()
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.station.handle_bytes(self.now, bytes);
        self.settle()
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, time: Duration) -> Vec<u8> {
        let until = self.now + time;
        let mut sent = self.settle();
        while let Some(at) = self.station.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.station.handle_timeout(self.now);
            sent.extend(self.settle());
        }
        self.now = until;
        sent
    }

    fn settle(&mut self) -> Vec<u8> {
        let mut sent = vec![];
        while let Some(output) = self.station.poll_output() {
            match output {
                Output::Send(bytes) => sent.extend(bytes),
                Output::Persist(part) => {
                    self.kept.push(part.bytes);
                    self.station.handle_custody(self.now, Ok(&Proof(part.token)));
                }
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
        sent
    }

    /// Grants the line and acknowledges everything.
    fn take_all(&mut self) -> Vec<u8> {
        let mut all = vec![];
        loop {
            let said = self.feed(&[ACK]);
            all.extend_from_slice(&said);
            if said.ends_with(&[EOT]) || said.is_empty() {
                return all;
            }
        }
    }

    fn is_accepted(&self, number: u64) -> bool {
        self.events.contains(&Event::Accepted(Token(number)))
    }
}

fn fresh(role: Role, now: Time, first_session: u64) -> Station {
    Station::new(now, ReceiverConfig::default(), SenderConfig { role, ..SenderConfig::default() }, first_session)
}

fn records(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn frame(number: u8) -> Vec<u8> {
    encode_frame(number, format!("{}\r", MESSAGE[usize::from(number) - 1]).as_bytes(), true)
}

fn whole() -> Vec<u8> {
    [frame(1), frame(2), frame(3), vec![EOT]].concat()
}

#[test]
fn a_message_goes_out_when_the_line_is_neutral_and_is_accepted_after_its_last_frame() {
    let mut post = Post::new();
    assert_eq!(post.send(7), [ENQ]);
    assert_eq!(post.feed(&[ACK]), frame(1));
    assert_eq!(post.feed(&[ACK]), frame(2));
    assert_eq!(post.feed(&[NAK]), frame(2), "refused, so sent again");
    assert_eq!(post.feed(&[ACK]), frame(3));
    assert!(!post.is_accepted(7));
    assert_eq!(post.feed(&[ACK]), [EOT]);
    assert!(post.is_accepted(7));
    assert_eq!(post.station.poll_timeout(), None);
}

#[test]
fn an_answer_waits_for_the_end_of_the_instruments_session() {
    let mut post = Post::new();
    assert_eq!(post.feed(&[ENQ]), [ACK]);
    assert_eq!(post.feed(&encode_frame(1, b"H|\\^&\rQ|1|^S1\rL|1\r", true)), [ACK]);
    assert!(post.send(1).is_empty(), "the instrument has the line");
    assert!(post.wait(Duration::from_secs(5)).is_empty());
    assert_eq!(post.feed(&[EOT]), [ENQ]);
    assert_eq!(post.take_all(), whole());
}

#[test]
fn when_both_ask_the_instrument_goes_first_and_the_message_follows_whole() {
    let mut post = Post::new();
    assert_eq!(post.send(1), [ENQ]);
    assert!(post.feed(&[ENQ]).is_empty(), "the instrument wins; its next ENQ is the one to answer");
    assert!(post.wait(Duration::from_secs(1)).is_empty());
    assert_eq!(post.feed(&[ENQ]), [ACK]);
    assert_eq!(post.feed(&encode_frame(1, b"H|\\^&\rL|1\r", true)), [ACK]);
    assert_eq!(post.feed(&[EOT]), [ENQ]);
    assert_eq!(post.take_all(), whole());
    assert_eq!(post.kept.len(), 1);
}

#[test]
fn an_instrument_that_does_not_come_back_after_contention_is_asked_after_twenty_seconds() {
    let mut post = Post::new();
    post.send(1);
    post.feed(&[ENQ]);
    assert!(post.wait(Duration::from_millis(19_900)).is_empty());
    assert_eq!(post.wait(Duration::from_millis(200)), [ENQ]);
}

#[test]
fn a_busy_instrument_is_asked_again_after_ten_seconds_and_given_up_after_six() {
    let mut post = Post::new();
    assert_eq!(post.send(1), [ENQ]);
    for _ in 1..6 {
        assert!(post.feed(&[NAK]).is_empty());
        assert!(post.wait(Duration::from_millis(9_900)).is_empty());
        assert_eq!(post.wait(Duration::from_millis(200)), [ENQ]);
    }
    assert_eq!(post.feed(&[NAK]), [EOT]);
    assert_eq!(post.events.last(), Some(&Event::Failed(Token(1), "the line was not granted")));
    assert_eq!(post.send(2), [ENQ], "it is offered again whole");
    assert_eq!(post.take_all(), whole());
}

#[test]
fn six_refusals_of_a_frame_end_the_message() {
    let mut post = Post::new();
    post.send(1);
    assert_eq!(post.feed(&[ACK]), frame(1));
    for _ in 1..6 {
        assert_eq!(post.feed(&[NAK]), frame(1));
    }
    assert_eq!(post.feed(&[NAK]), [EOT]);
    assert_eq!(post.events, [Event::Failed(Token(1), "a frame was refused too often")]);
}

#[test]
fn a_receiver_interrupt_gives_the_line_back_and_the_message_goes_whole_afterwards() {
    let mut post = Post::new();
    post.send(1);
    assert_eq!(post.feed(&[ACK]), frame(1));
    assert_eq!(post.feed(&[EOT]), [EOT]);
    assert!(post.wait(Duration::from_secs(14)).is_empty());
    assert_eq!(post.feed(&[ENQ]), [ACK]);
    assert_eq!(post.feed(&[EOT]), [ENQ], "the instrument has spoken");
    assert_eq!(post.take_all(), whole());
    assert!(post.is_accepted(1));
}

#[test]
fn an_instrument_that_always_interrupts_does_not_keep_the_message_for_ever() {
    let mut post = Post::new();
    post.send(1);
    for _ in 0..6 {
        post.feed(&[ACK]);
        post.feed(&[EOT]);
        post.wait(Duration::from_secs(21));
    }
    assert_eq!(post.events.last(), Some(&Event::Failed(Token(1), "the receiver asked to stop too often")));
    assert!(post.station.is_neutral());
}

#[test]
fn an_instrument_that_restarts_while_it_is_sent_to_gets_the_line() {
    let mut post = Post::new();
    post.send(1);
    assert_eq!(post.feed(&[ACK]), frame(1));
    assert!(post.feed(&[ENQ]).is_empty(), "a refusal with a flipped bit looks the same");
    assert_eq!(post.wait(Duration::from_secs(1)), frame(1));
    post.feed(&[ENQ]);
    assert_eq!(post.wait(Duration::from_secs(1)), frame(1), "each frame is sent again once more");
    assert!(post.events.is_empty());

    let mut post = Post::new();
    post.send(1);
    post.feed(&[ACK]);
    post.feed(&[ENQ]);
    assert_eq!(post.feed(&[ENQ]), [ACK], "asked twice with nothing between");
    assert_eq!(post.feed(&encode_frame(1, b"H|\\^&\rL|1\r", true)), [ACK]);
    assert_eq!(post.feed(&[EOT]), [ENQ]);
    assert_eq!(post.take_all(), whole());
}

#[test]
fn noise_in_place_of_an_answer_does_not_bring_two_answers_to_one_frame() {
    let mut post = Post::new();
    post.send(1);
    assert_eq!(post.feed(&[ACK]), frame(1));
    assert!(post.feed(b"\0").is_empty());
    assert_eq!(post.feed(&[ACK]), frame(2), "the answer came right behind the noise");
    post.station.handle_damage(post.now);
    assert!(post.settle().is_empty());
    assert_eq!(post.wait(Duration::from_secs(1)), frame(2));
}

#[test]
fn no_answer_ends_the_message_and_a_late_one_is_no_answer_to_the_next_question() {
    let mut post = Post::new();
    post.send(1);
    assert_eq!(post.feed(&[ACK]), frame(1));
    assert_eq!(post.wait(Duration::from_secs(15)), [EOT]);
    assert_eq!(post.events, [Event::Failed(Token(1), "no answer")]);
    assert!(post.send(2).is_empty());
    assert!(post.feed(&[ACK]).is_empty());
    assert_eq!(post.wait(Duration::from_secs(15)), [ENQ]);
}

#[test]
fn i1_a_fresh_station_says_nothing_into_a_session_it_does_not_know_of() {
    let mut post = Post::unknown();
    assert!(post.send(1).is_empty());
    assert!(post.wait(Duration::from_secs(10)).is_empty());
    assert!(post.feed(&encode_frame(3, b"L|1\r", true)).is_empty(), "the rest of a session with our predecessor");
    assert!(post.wait(Duration::from_millis(15_900)).is_empty(), "the instrument waits 15 s for an answer");
    assert_eq!(post.wait(Duration::from_secs(1)), [ENQ]);

    let mut post = Post::unknown();
    post.send(1);
    assert_eq!(post.feed(&[ENQ, EOT]), [ACK, ENQ], "an instrument that asks is in no other session");
}

#[test]
fn i1_who_talks_instead_of_granting_the_line_gets_no_eot() {
    let mut post = Post::new();
    post.send(1);
    assert!(post.feed(&encode_frame(3, b"L|1\r", true)).is_empty());
    assert!(post.wait(Duration::from_secs(15)).is_empty());
    assert!(post.events.contains(&Event::Failed(Token(1), "no answer")));
}

#[test]
fn a_message_that_is_not_under_way_can_be_taken_back() {
    let mut post = Post::new();
    post.feed(&[ENQ]);
    post.send(1);
    assert_eq!(post.station.withdraw(), Some(Token(1)));
    assert!(post.feed(&[EOT]).is_empty());
    post.send(2);
    assert_eq!(post.station.withdraw(), None, "ENQ is out");
    post.feed(&[ENQ]);
    assert_eq!(post.station.withdraw(), Some(Token(2)), "given way");
    assert!(post.wait(Duration::from_secs(60)).is_empty());
    assert!(post.events.iter().all(|event| matches!(event, Event::Odd(_))));
}

#[test]
fn a_line_that_goes_away_fails_what_is_sent_and_what_waits() {
    for waiting in [false, true] {
        let mut post = Post::new();
        if waiting {
            post.feed(&[ENQ]);
        }
        post.send(1);
        post.station.handle_disconnect(post.now);
        post.settle();
        assert_eq!(post.events, [Event::Failed(Token(1), "the line went away")]);
        assert!(post.station.is_free());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a station receives while it sends nothing is what a receiver alone makes of it, in every split.
    #[test]
    fn a_silent_station_is_a_receiver(
        bytes in prop::collection::vec(prop_oneof![
            Just(encode_frame(1, b"H|\\^&\r", true)), Just(encode_frame(2, b"L|1\r", true)),
            Just(vec![ENQ]), Just(vec![EOT]), prop::collection::vec(any::<u8>(), 0..8),
        ], 0..20),
        read in 1usize..9,
    ) {
        let bytes = bytes.concat();
        let (mut alone, mut post) = (Bench::new(), Post::unknown());
        for part in bytes.chunks(read) {
            prop_assert_eq!(alone.feed(part), post.feed(part));
        }
        prop_assert_eq!(alone.wait(Duration::from_secs(90)), post.wait(Duration::from_secs(90)));
        prop_assert_eq!(alone.events, post.events);
        prop_assert_eq!(alone.parts.into_iter().map(|part| part.1).collect::<Vec<_>>(), post.kept);
    }

    #[test]
    fn two_stations_get_everything_through_a_bad_line(seed in any::<u64>()) {
        everything_gets_through(seed);
    }
}

/// It restarts in the middle of a frame in which a CR comes as ENQ.
#[test]
fn i1_a_restart_in_a_frame_with_a_flipped_bit_loses_nothing() {
    everything_gets_through(4_519_589_718_067_557_761);
}

fn everything_gets_through(seed: u64) {
    let mut world = World::new(seed);
    world.run();
    for side in [0, 1] {
        let kept = world.entries(1 - side);
        for number in 0..MESSAGES {
            let is_kept = kept.contains(&text(side, number));
            assert!(is_kept, "side {side}, message {number} was accepted and is not kept, seed {seed}");
        }
        let known = |entry: &Vec<u8>| (0..MESSAGES).any(|number| text(side, number) == *entry);
        assert!(kept.iter().all(known), "an entry is complete that nobody sent, seed {seed}");
    }
}

/// Messages each side has to get through.
const MESSAGES: u64 = 4;
/// Things that may go wrong before the line behaves.
const FAULTS: usize = 14;

/// The instrument (0) and the computer (1) on one line. Both have something to say all the time, so they ask at once
/// again and again; writes are lost, cut, flipped and late, and either side restarts.
struct World {
    random: Random,
    now: Time,
    sides: [Side; 2],
    faults: usize,
}

struct Side {
    station: Station,
    /// What comes to this side, and when.
    inbox: VecDeque<(Time, Vec<u8>)>,
    journal: VecDeque<(Time, Token)>,
    next: u64,
    parts: Vec<(u64, Vec<u8>, bool)>,
    pending: Vec<(Token, u64, Vec<u8>, bool)>,
    /// Sessions are numbered on across restarts.
    first_session: u64,
}

fn message(side: usize, number: u64) -> Vec<Vec<u8>> {
    let sender = ["instrument", "computer"][side];
    let order = format!("O|1|S{number}");
    records(&[&format!("H|\\^&|||{sender}"), &order, "L|1|N"])
}

fn text(side: usize, number: u64) -> Vec<u8> {
    [message(side, number).join(&b'\r'), b"\r".to_vec()].concat()
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let side = |role| Side {
            station: fresh(role, now, 1),
            inbox: VecDeque::new(),
            journal: VecDeque::new(),
            next: 0,
            parts: vec![],
            pending: vec![],
            first_session: 1,
        };
        let sides = [side(Role::Instrument), side(Role::Computer)];
        World { random: Random::new(seed), now, sides, faults: FAULTS }
    }

    fn run(&mut self) {
        for _ in 0..30_000 {
            for side in [0, 1] {
                self.outputs(side);
                let Side { station, next, .. } = &mut self.sides[side];
                if station.is_free() && *next < MESSAGES {
                    assert_eq!(station.send(self.now, Token(*next), message(side, *next)), Ok(()));
                }
                self.outputs(side);
            }
            let done = self.sides.iter().all(|side| side.next == MESSAGES && side.inbox.is_empty());
            if done && self.sides.iter().all(|side| side.journal.is_empty()) {
                return;
            }
            self.step();
        }
        panic!("the world does not come to an end");
    }

    fn step(&mut self) {
        let due = |side: &Side| {
            let inbox = side.inbox.front().map(|(at, _)| *at);
            let journal = side.journal.front().map(|(at, _)| *at);
            [inbox, journal, side.station.poll_timeout()]
        };
        let all = [due(&self.sides[0]), due(&self.sides[1])].concat();
        let Some(at) = all.iter().flatten().min().copied() else { return };
        self.now = self.now.max(at);
        let first = all.iter().position(|time| *time == Some(at)).unwrap();
        let side = &mut self.sides[first / 3];
        match first % 3 {
            0 => {
                let (_, bytes) = side.inbox.pop_front().unwrap();
                side.station.handle_bytes(self.now, &bytes);
            }
            1 => {
                let (_, token) = side.journal.pop_front().unwrap();
                let at = side.pending.iter().position(|part| part.0 == token);
                if let Some((_, session, bytes, completes)) = at.map(|at| side.pending.remove(at)) {
                    side.parts.push((session, bytes, completes));
                    side.station.handle_custody(self.now, Ok(&Proof(token)));
                }
            }
            _ => side.station.handle_timeout(self.now),
        }
        if self.random.chance(0.01) && self.fault() {
            self.restart(first / 3);
        }
    }

    /// The process ends and starts again on the same line. What it did not hear accepted it sends again.
    fn restart(&mut self, side: usize) {
        let role = [Role::Instrument, Role::Computer][side];
        let side = &mut self.sides[side];
        side.first_session += 1000;
        side.station = fresh(role, self.now, side.first_session);
        side.pending.clear();
        side.journal.clear();
    }

    fn outputs(&mut self, from: usize) {
        while let Some(output) = self.sides[from].station.poll_output() {
            match output {
                Output::Send(bytes) => self.put(1 - from, bytes),
                Output::Persist(part) => {
                    let wait = Duration::from_millis(self.random.below(50) as u64);
                    let side = &mut self.sides[from];
                    side.journal.push_back((self.now + wait, part.token));
                    side.pending.push((part.token, part.session, part.bytes, part.completes));
                }
                Output::Event(Event::Accepted(token)) => {
                    assert_eq!(token, Token(self.sides[from].next));
                    self.sides[from].next += 1;
                }
                _ => {}
            }
        }
    }

    fn fault(&mut self) -> bool {
        let commit = self.faults > 0;
        self.faults -= usize::from(commit);
        commit
    }

    /// Puts bytes on the line, whole or spoiled.
    fn put(&mut self, to: usize, mut bytes: Vec<u8>) {
        let mut delay = 2;
        if self.random.chance(0.1) && self.fault() {
            let at = self.random.below(bytes.len());
            match self.random.below(4) {
                0 => bytes.clear(),
                1 => bytes.truncate(at),
                2 => bytes[at] ^= 1 << self.random.below(8),
                _ => delay = self.random.below(7_000),
            }
        }
        let inbox = &mut self.sides[to].inbox;
        let earliest = inbox.back().map_or(self.now, |(at, _)| *at);
        let arrival = (self.now + Duration::from_millis(delay as u64)).max(earliest);
        let middle = bytes.len() / 2;
        let rest = bytes.split_off(middle);
        inbox.extend([bytes, rest].into_iter().filter(|part| !part.is_empty()).map(|part| (arrival, part)));
    }

    /// Texts of the complete entries a side has.
    fn entries(&self, side: usize) -> Vec<Vec<u8>> {
        let mut entries: Vec<(u64, Vec<u8>, bool)> = vec![];
        for (session, bytes, completes) in &self.sides[side].parts {
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
