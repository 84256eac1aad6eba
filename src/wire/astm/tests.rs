//! Promises of the ASTM machines.

mod properties;
mod station;

use std::time::{Duration, Instant};

use super::*;
use crate::wire::{Custody, Event, Output, Refusal, Refused, Time, Token};

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

/// A receiver whose journal answers at once, and what came of it.
struct Bench {
    now: Time,
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
                Output::Ask(_) | Output::Answered(_) => panic!("ASTM records are no questions of the link"),
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

#[test]
fn i1_custody_refused_is_a_nak_and_the_frame_may_come_again() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.full = true;
    let frame = encode_frame(1, b"H|\\^&\rL|1\r", true);
    assert_eq!(bench.feed(&frame), [NAK]);
    bench.full = false;
    assert_eq!(bench.feed(&frame), [ACK]);
    assert!(bench.abandoned.is_empty());
    assert!(bench.parts.last().is_some_and(|part| part.2));
}

/// Feeds a frame whose character at `at` comes damaged.
fn feed_damaged(bench: &mut Bench, frame: &[u8], at: usize) -> Vec<u8> {
    let before = bench.sent.len();
    bench.feed(&frame[..at]);
    bench.receiver.handle_damage(bench.now);
    bench.settle();
    bench.feed(&frame[at + 1..]);
    bench.sent[before..].to_vec()
}

#[test]
fn i2_a_frame_with_a_damaged_character_is_refused_wherever_that_is_and_taken_when_it_comes_again() {
    let frame = encode_frame(1, b"H|\\^&\rL|1\r", true);
    let etx = frame.len() - 5;
    for at in 0..frame.len() {
        let mut bench = Bench::new();
        bench.feed(&[ENQ]);
        let mut answer = feed_damaged(&mut bench, &frame, at);
        answer.extend(bench.wait(Duration::from_secs(1)));
        // Without its STX it is no frame, and without its ETX it has not ended: the sender's timer helps.
        let ends = at != 0 && at != etx;
        assert_eq!(answer, if ends { &[NAK][..] } else { &[] }, "damaged at {at}");
        let told = bench.events.contains(&Event::Refused("damaged character inside a frame"));
        assert_eq!(told, ends, "damaged at {at}: {:?}", bench.events);
        assert!(bench.parts.is_empty(), "damaged at {at}");
        if !ends {
            bench.feed(&[EOT]);
            bench.wait(Duration::from_secs(10));
            assert_eq!(bench.feed(&[ENQ]), [ACK], "damaged at {at}");
        }
        assert_eq!(bench.feed(&frame), [ACK], "damaged at {at}");
        assert_eq!(bench.parts, [(1, frame.clone(), true)]);
    }
}

#[test]
fn i2_damage_that_the_checksum_cannot_see_is_refused() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    // A NUL in place of a NUL: the sum is right.
    let frame = encode_frame(1, b"R|1|\0|5.0\r", true);
    let nul = frame.iter().position(|&b| b == 0).unwrap();
    assert_eq!(feed_damaged(&mut bench, &frame, nul), [NAK]);
}

#[test]
fn a_damaged_character_outside_a_frame_is_noise() {
    let mut bench = Bench::new();
    bench.receiver.handle_damage(bench.now);
    bench.feed(&[ENQ]);
    assert_eq!(bench.wait(Duration::from_secs(1)), [ACK]);
    bench.receiver.handle_damage(bench.now);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), [ACK]);
    // It speaks against an ENQ in doubt as any other character does.
    bench.feed(&[ENQ]);
    bench.receiver.handle_damage(bench.now);
    assert_eq!(bench.wait(Duration::from_secs(2)), NOTHING);
    assert!(bench.abandoned.is_empty());
}

#[test]
fn i2_what_is_damaged_while_custody_is_pending_is_refused_after_it() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.held = true;
    bench.feed(&encode_frame(1, b"H|\r", true));
    assert_eq!(feed_damaged(&mut bench, &encode_frame(2, b"L|1\r", true), 4), NOTHING);
    bench.held = false;
    bench.answer(Token(0), false);
    bench.settle();
    assert_eq!(bench.sent, [ACK, ACK, NAK], "the line, the frame that came whole, the one that did not");
    assert_eq!(bench.parts.len(), 1);
}

#[test]
fn i1_custody_after_the_session_acknowledges_nothing() {
    for end in [&[EOT][..], &[ENQ][..], &[EOT, ENQ][..]] {
        let mut bench = Bench::new();
        bench.feed(&[ENQ]);
        bench.held = true;
        bench.feed(&encode_frame(1, b"H|\\^&\r", true));
        bench.now += Duration::from_secs(3);
        assert_eq!(bench.feed(end), NOTHING, "{end:?}");
        bench.answer(Token(0), false);
        bench.settle();
        let after = bench.wait(Duration::from_secs(2));
        let line_granted = usize::from(end.contains(&ENQ));
        assert_eq!(bench.sent.len(), 1 + line_granted, "{end:?}: {after:?}");
        assert_eq!(bench.abandoned, [1], "{end:?}");
    }
}

#[test]
fn i1_a_disconnect_gives_up_what_is_incomplete_and_keeps_what_is_complete() {
    for (text, abandoned) in [(&b"R|1\r"[..], vec![1]), (b"L|1\r", vec![])] {
        let mut bench = Bench::new();
        bench.feed(&[ENQ]);
        bench.held = true;
        bench.feed(&encode_frame(1, text, true));
        bench.receiver.handle_disconnect(bench.now);
        bench.settle();
        assert_eq!(bench.abandoned, abandoned);
        bench.answer(Token(0), false);
        bench.settle();
        assert_eq!(bench.sent, [ACK]);
    }
}

#[test]
fn i4_same_frame_again_is_acked_once_and_kept_once() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    let frames = frames(&MESSAGE);
    for frame in &frames {
        assert_eq!(bench.feed(frame), [ACK]);
        assert_eq!(bench.feed(frame), [ACK]);
    }
    assert_eq!(bench.parts.len(), frames.len());
}

#[test]
fn i4_same_number_with_other_bytes_is_refused_and_told() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\\^&\r", true)), [ACK]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\\^&|x\r", true)), [NAK]);
    assert_eq!(bench.events, [Event::Refused("frame sent again with other bytes")]);
    assert_eq!(bench.feed(&encode_frame(2, b"L|1\r", true)), [ACK], "the session goes on");
}

#[test]
fn frame_numbers_begin_at_one_and_wrap_to_zero() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    assert_eq!(bench.feed(&encode_frame(0, b"H|\r", true)), [NAK]);
    for n in 1..=20u8 {
        assert_eq!(bench.feed(&encode_frame(n, b"R|1\r", true)), [ACK], "frame {n}");
        assert_eq!(bench.feed(&encode_frame(n + 2, b"R|1\r", true)), [NAK], "frame {n}");
    }
    assert_eq!(bench.feed(b"\x02xR|1\r\x03D1\r\n"), [NAK], "no number at all");
    bench.feed(&[EOT, ENQ]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), [ACK], "each session counts from one");
}

#[test]
fn a_long_message_in_one_frame_and_a_long_text_over_many_are_the_same() {
    let text = [&b"H|\\^&\r"[..], b"C|1|", &[b'x'; 60_000], b"\rL|1|N\r"].concat();
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    assert_eq!(bench.feed(&encode_frame(1, &text, true)), [ACK]);
    bench.feed(&[EOT, ENQ]);
    let parts: Vec<_> = text.chunks(240).collect();
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        assert_eq!(bench.feed(&encode_frame((at % 8) as u8 + 1, part, last)), [ACK]);
        assert_eq!(bench.parts.last().map(|part| part.2), Some(last), "complete at the end only");
    }
    assert_eq!(bench.parts.last().map(|part| part.0), Some(2));
}

#[test]
fn i10_a_frame_over_the_limit_is_refused_at_its_end() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.feed(b"\x021");
    for _ in 0..100 {
        assert_eq!(bench.feed(&[b'9'; 25_000]), NOTHING);
    }
    assert!(bench.receiver.bytes_held() <= 64_000);
    assert_eq!(bench.feed(b"\x0300\r\n"), [NAK]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), [ACK]);
}

#[test]
fn an_enq_in_session_is_answered_after_a_silence_and_gives_the_old_session_up() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.feed(&encode_frame(1, b"H|\\^&\r", true));
    assert_eq!(bench.feed(&[ENQ]), NOTHING);
    assert_eq!(bench.wait(Duration::from_secs(1)), [ACK]);
    assert_eq!(bench.abandoned, [1]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\\^&\r", true)), [ACK]);
    assert_eq!(bench.parts.last().map(|part| part.0), Some(2));
}

#[test]
fn an_enq_that_was_a_flipped_bit_is_never_an_ack() {
    // E becomes ENQ inside the text, CR becomes ENQ behind the checksum: the sender goes on talking.
    let good = encode_frame(1, b"H|\\^&|WERT\r", true);
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] = ENQ;
        let mut bench = Bench::new();
        bench.feed(&[ENQ]);
        let mut answer = Vec::new();
        for byte in &flipped {
            answer.extend(bench.feed(&[*byte]));
        }
        answer.extend(bench.wait(Duration::from_millis(900)));
        assert!(!answer.contains(&ACK), "byte {at}: {answer:?}");
    }
}

#[test]
fn a_double_enq_grants_the_line_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed(&[ENQ, ENQ]), [ACK]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), [ACK]);
}

#[test]
fn an_eot_inside_a_frame_ends_the_session_after_a_silence() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.feed(&encode_frame(1, b"H|\r", true));
    bench.feed(b"\x022P|1|ab\x04");
    assert_eq!(bench.wait(Duration::from_secs(2)), NOTHING);
    assert_eq!(bench.abandoned, [1]);
    assert_eq!(bench.feed(&[ENQ]), [ACK]);
}

#[test]
fn silence_inside_a_session_ends_it_after_the_receiver_timer() {
    for start in [&[ENQ][..], b"\x05\x021H|\\^"] {
        let mut bench = Bench::new();
        bench.feed(start);
        bench.wait(Duration::from_secs(29));
        assert!(bench.receiver.poll_timeout().is_some());
        bench.wait(Duration::from_secs(2));
        assert_eq!(bench.receiver.poll_timeout(), None);
        assert_eq!(bench.feed(&encode_frame(1, b"H|\r", true)), NOTHING, "nobody has the line");
        assert_eq!(bench.feed(&[ENQ]), [ACK]);
    }
}

#[test]
fn a_slow_line_may_take_its_time_for_a_long_frame() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    let frame = encode_frame(1, &[b'x'; 60_000], true);
    let mut answer = Vec::new();
    for second in frame.chunks(960) {
        answer.extend(bench.feed(second));
        answer.extend(bench.wait(Duration::from_secs(1)));
    }
    assert_eq!(answer, [ACK], "62 s at 9600 baud");
}

#[test]
fn i1_a_flipped_bit_in_a_frame_of_a_session_before_ours_is_not_granted_the_line() {
    let mut bench = Bench::new();
    // What our predecessor did not hear of the last frame, with CR come as ENQ: an ACK would be that frame's.
    assert!(bench.feed(&[b'N', ENQ, ETX, b'0', b'6', CR, LF]).is_empty());
    assert!(bench.wait(Duration::from_secs(15)).is_empty());
    assert_eq!(bench.feed(&[EOT, ENQ]), [ACK], "the sender gave up, and begins anew");
}

#[test]
fn i1_behind_a_damaged_character_outside_a_session_the_line_is_not_granted_at_once() {
    let mut bench = Bench::new();
    bench.receiver.handle_damage(bench.now);
    assert!(bench.feed(&[ENQ, ETX, b'0', b'6', CR, LF]).is_empty());
    assert!(bench.wait(Duration::from_secs(15)).is_empty());
}

#[test]
fn who_asks_right_behind_noise_gets_the_line_after_a_silence() {
    let mut bench = Bench::new();
    assert!(bench.feed(&[0xFF, ENQ]).is_empty());
    assert_eq!(bench.wait(Duration::from_secs(1)), [ACK]);
    assert_eq!(bench.feed(&encode_frame(1, b"H|\\^&\rL|1\r", true)), [ACK]);
    assert!(!bench.events.contains(&Event::Odd("the sender ended its session without EOT")));
}

#[test]
fn noise_between_frames_is_ignored_and_told_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed(b"\0\r\n garbage \x7f"), NOTHING);
    assert_eq!(bench.feed(b"more\x05"), NOTHING);
    assert_eq!(bench.wait(Duration::from_secs(1)), [ACK]);
    let [first, second] = &frames(&["H|\\^&", "L|1"])[..] else { panic!("two frames") };
    assert_eq!(bench.feed(&[b"~~", first.as_slice(), b"!!"].concat()), [ACK]);
    assert_eq!(bench.feed(second), [ACK]);
    assert_eq!(bench.events, [Event::Odd("noise between frames"); 2]);
}

#[test]
fn a_frame_that_begins_again_is_read_from_there() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    let frame = encode_frame(1, b"H|\\^&\r", true);
    assert_eq!(bench.feed(&[&frame[..5], &frame].concat()), [ACK]);
    assert_eq!(bench.parts[0].1, frame);
}

#[test]
fn a_frame_without_its_line_end_is_taken() {
    for tail in [&b""[..], b"\r"] {
        let mut bench = Bench::new();
        bench.feed(&[ENQ]);
        let frame = encode_frame(1, b"H|\\^&\r", true);
        let bare = [&frame[..frame.len() - 2], tail].concat();
        assert_eq!(bench.feed(&bare), NOTHING);
        assert_eq!(bench.wait(Duration::from_millis(400)), [ACK]);
        assert_eq!(bench.parts[0].1, bare);
        assert_eq!(bench.feed(&[b"\r\n", encode_frame(2, b"L|1\r", true).as_slice()].concat()), [ACK]);
    }
}

#[test]
fn eot_glued_to_the_last_frame_changes_nothing() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    let frame = encode_frame(1, b"H|\\^&\rL|1|N\r", true);
    assert_eq!(bench.feed(&[frame.as_slice(), &[EOT]].concat()), [ACK]);
    assert_eq!(bench.parts, [(1, frame, true)]);
    assert!(bench.abandoned.is_empty());
}

#[test]
fn each_message_of_a_session_is_an_entry_of_its_own() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    for (at, frame) in frames(&["H|\\^&", "l|1", "H|\\^&", "R|1", "L|1|F", "H|\\^&"]).iter().enumerate() {
        assert_eq!(bench.feed(frame), [ACK], "frame {at}");
    }
    bench.feed(&[EOT]);
    let shape: Vec<_> = bench.parts.iter().map(|part| (part.0, part.2)).collect();
    assert_eq!(shape, [(1, false), (1, true), (2, false), (2, false), (2, true), (3, false)]);
    assert_eq!(bench.abandoned, [3], "only the one without its end");
}

#[test]
fn a_wrong_checksum_rule_is_named_after_two_refusals_and_taken_up_only_when_allowed() {
    let body = "1H|\\^&|||µ\r\u{3}";
    let sum = ChecksumRule::CodePoints.sum(body.as_bytes()).unwrap();
    let frame = [&[STX], body.as_bytes(), format!("{sum:02X}\r\n").as_bytes()].concat();
    let mut strict = Bench::new();
    strict.feed(&[ENQ]);
    assert_eq!(strict.feed(&frame), [NAK]);
    assert_eq!(strict.events, [Event::Refused("bad checksum")]);
    assert_eq!(strict.feed(&frame), [NAK]);
    assert_eq!(strict.events.last(), Some(&Event::Refused(ChecksumRule::CodePoints.finding())));
    for _ in 2..6 {
        assert_eq!(strict.feed(&frame), [NAK]);
    }
    assert_eq!(strict.events.last(), Some(&Event::Refused("the same frame was refused as often as a sender tries")));
    assert!(strict.parts.is_empty());
    let rules = vec![ChecksumRule::CodePoints];
    let mut lenient = Bench::with(ReceiverConfig { checksum_rules: rules, ..ReceiverConfig::default() });
    lenient.feed(&[ENQ]);
    assert_eq!(lenient.feed(&frame), [NAK]);
    assert_eq!(lenient.feed(&frame), [NAK], "never before bytes that fit were refused twice");
    let taken_up = Event::Odd("checksum rule taken up from the next frame on, as the driver allows");
    assert_eq!(lenient.events[1..], [Event::Refused("bad checksum"), strict.events[2], taken_up]);
    assert_eq!(lenient.feed(&frame), [ACK]);
    assert_eq!(lenient.events.last(), Some(&Event::Odd("frame taken by the instrument's own checksum rule")));
    assert_eq!(lenient.feed(&encode_frame(2, b"L|1\r", true)), [ACK], "the right way is always right");
    lenient.feed(&[EOT, ENQ]);
    assert_eq!(lenient.feed(&frame), [ACK], "it stays taken up");
    let flipped = String::from_utf8(frame).unwrap().replace("&||", "&|A").into_bytes();
    assert_eq!(lenient.feed(&flipped), [NAK], "damage is still damage");
}

#[test]
fn a_checksum_in_lower_case_is_right() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    let frame = encode_frame(1, b"H|\\^&|z\r", true);
    let lower = [&frame[..frame.len() - 4], frame[frame.len() - 4..].to_ascii_lowercase().as_slice()].concat();
    assert_ne!(frame, lower, "the sum has a letter");
    assert_eq!(bench.feed(&lower), [ACK]);
}

#[test]
fn i10_a_sender_that_waits_for_nothing_is_cut_off() {
    let mut bench = Bench::new();
    bench.feed(&[ENQ]);
    bench.held = true;
    bench.feed(&encode_frame(1, b"H|\r", true));
    for _ in 0..100 {
        if bench.closed.is_empty() {
            bench.feed(&[b'x'; 8192]);
        }
    }
    assert_eq!(bench.closed, ["the sender does not wait for replies"]);
    assert_eq!(bench.receiver.bytes_held(), 0);
}
