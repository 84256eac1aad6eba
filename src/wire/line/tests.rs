//! Promises of the receiver of foreign lines.

mod properties;

use std::time::{Duration, Instant};

use super::framing::{Check, CheckForm, CheckPlace, Length, Mark, NumberForm, Reply, Rule};
use super::*;
use crate::wire::{Custody, Event, Output, Refusal, Refused, Time, Token};

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

fn mark(text: &str) -> Mark {
    Mark::try_from(text.to_string()).unwrap()
}

fn framed(start: &str, end: &[&str]) -> Framing {
    Framing { start: mark(start), end: end.iter().map(|end| mark(end)).collect(), ..Framing::default() }
}

fn answered(framing: Framing) -> Framing {
    Framing { reply: Reply::Ack, ..framing }
}

/// A receiver whose journal answers at once, and what came of it.
struct Bench {
    now: Time,
    receiver: Receiver,
    said: Vec<u8>,
    /// When something was said, since the beginning.
    said_at: Vec<Duration>,
    began: Time,
    /// Every part: session, bytes, whether it completes its entry.
    kept: Vec<(u64, Vec<u8>, bool)>,
    abandoned: Vec<u64>,
    events: Vec<Event>,
    refusal: Option<Refusal>,
    custody_takes: Duration,
}

impl Bench {
    fn new(framing: Framing) -> Self {
        framing.check().unwrap();
        Self::with(ReceiverConfig { framing, ..ReceiverConfig::default() })
    }

    fn with(config: ReceiverConfig) -> Self {
        let began = Instant::now();
        Bench {
            now: began,
            receiver: Receiver::new(config, 1),
            said: Vec::new(),
            said_at: Vec::new(),
            began,
            kept: Vec::new(),
            abandoned: Vec::new(),
            events: Vec::new(),
            refusal: None,
            custody_takes: Duration::ZERO,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.receiver.handle_bytes(self.now, bytes);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Send(bytes) => {
                    self.said.extend(bytes);
                    self.said_at.push(self.now - self.began);
                }
                Output::Persist(part) => {
                    self.now += self.custody_takes;
                    match self.refusal {
                        Some(reason) => {
                            let no: Result<&Proof, _> = Err(Refused { token: part.token, reason });
                            self.receiver.handle_custody(self.now, no);
                        }
                        None => {
                            self.receiver.handle_custody(self.now, Ok(&Proof(part.token)));
                            self.kept.push((part.session, part.bytes, part.completes));
                        }
                    }
                }
                Output::Abandon { session } => self.abandoned.push(session),
                Output::Close(why) => panic!("closed: {why}"),
                Output::Event(event) => self.events.push(event),
                Output::Ask(_) | Output::Answered(_) => panic!("lines ask and answer nothing"),
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.receiver.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.receiver.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn leave(&mut self) {
        self.receiver.handle_disconnect(self.now);
        self.settle();
    }

    fn complete(&self) -> Vec<&[u8]> {
        self.kept.iter().filter(|(_, _, completes)| *completes).map(|(_, bytes, _)| bytes.as_slice()).collect()
    }

    fn incomplete(&self) -> Vec<&[u8]> {
        self.kept.iter().filter(|(_, _, completes)| !completes).map(|(_, bytes, _)| bytes.as_slice()).collect()
    }
}

#[test]
fn i1_a_block_is_acknowledged_after_custody_and_only_then() {
    let mut bench = Bench::new(answered(framed("<STX>", &["<ETX>"])));
    bench.feed(b"\x021 is data here\x03\x02next\x03");
    assert_eq!(bench.complete(), [b"\x021 is data here\x03".as_slice(), b"\x02next\x03"]);
    assert_eq!(bench.said, b"\x06\x06");
    bench.refusal = Some(Refusal::Full);
    bench.feed(b"\x02third\x03");
    assert_eq!(bench.said, b"\x06\x06\x15", "the instrument keeps what was not stored");
    assert_eq!(bench.complete().len(), 2);
}

#[test]
fn a_damaged_block_is_refused_counted_and_never_kept_as_a_result() {
    for (check, good) in [
        (Check { rule: Rule::Xor, with_end: true, ..Check::default() }, b"\x02AB\x03\x00".as_slice()),
        (Check { rule: Rule::Xor, form: CheckForm::Hex, ..Check::default() }, b"\x02AB\x0303"),
        (
            Check { rule: Rule::Sum, form: CheckForm::Hex, place: CheckPlace::BeforeEnd, ..Check::default() },
            b"\x02AB83\x03",
        ),
        (
            Check { rule: Rule::TwosComplement, form: CheckForm::Hex, with_start: true, ..Check::default() },
            b"\x02AB\x037b",
        ),
    ] {
        let framing = Framing { check: Some(check), ..framed("<STX>", &["<ETX>"]) };
        let mut bench = Bench::new(answered(framing.clone()));
        bench.feed(good);
        assert_eq!((bench.complete(), bench.said.as_slice()), (vec![good], b"\x06".as_slice()));
        assert_eq!(framing.payload(good), b"AB");
        let mut bad = good.to_vec();
        bad[1] ^= 0x20;
        bench.feed(&bad);
        assert_eq!((bench.kept.len(), bench.said.as_slice()), (1, b"\x06\x15".as_slice()));
        assert_eq!(bench.events, [Event::Refused("a message came damaged")]);

        let mut silent = Bench::new(framing);
        silent.feed(&bad);
        assert_eq!((silent.complete(), silent.incomplete()), (vec![], vec![bad.as_slice()]), "nobody sends it again");
        assert_eq!(silent.abandoned, [1]);
    }
}

#[test]
fn an_answer_comes_in_the_time_the_instrument_listens_or_not_at_all() {
    let framing = Framing { reply_after_ms: 500, reply_within_ms: Some(2500), ..answered(framed("<STX>", &["<ETX>"])) };
    let mut bench = Bench::new(framing);
    bench.feed(b"\x02A\x03");
    assert_eq!(bench.said, b"", "not before its time");
    bench.wait(Duration::from_secs(5));
    assert_eq!((bench.said.as_slice(), bench.said_at[0]), (b"\x06".as_slice(), Duration::from_millis(500)));
    bench.custody_takes = Duration::from_millis(2600);
    bench.feed(b"\x02B\x03");
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.said, b"\x06", "a late answer would be taken for the next one's");
    assert_eq!(bench.complete().len(), 2, "it is kept all the same");
    assert_eq!(bench.events, [Event::Refused("the answer would come too late and was not sent")]);
}

#[test]
fn a_checksum_over_tags_without_a_frame_end_is_understood() {
    // RS tags, GS, then the sum from after STX through GS in lower case.
    let check = Check { rule: Rule::Sum, form: CheckForm::Hex, with_end: true, ..Check::default() };
    let framing = Framing { check: Some(check), between: mark("<ETX>"), ..framed("<STX>", &["<GS>"]) };
    let mut bench = Bench::new(framing);
    let text = b"\x1emtx\x1eciA1\x1e\x1d";
    let sum = text.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    let message = [b"\x02".as_slice(), text, format!("{sum:02x}").as_bytes()].concat();
    bench.feed(&[message.as_slice(), b"\x03"].concat());
    assert_eq!(bench.complete(), [message.as_slice()]);
    assert_eq!(bench.events, []);
}

#[test]
fn lines_end_with_any_line_end_and_empty_ones_are_none() {
    let mut bench = Bench::new(framed("", &["<CR>", "<LF>"]));
    bench.feed(b"a;1\r\n\r\nb;2\nc;3\rd;");
    assert_eq!(bench.complete(), [b"a;1\r".as_slice(), b"b;2\n", b"c;3\r"]);
    bench.leave();
    assert_eq!(bench.incomplete(), [b"d;"], "a line that was cut is never taken for a whole one");
    assert_eq!(bench.abandoned, [4]);
}

#[test]
fn silence_ends_a_message_where_that_is_declared_and_only_there() {
    let mut bench = Bench::new(Framing::by_silence(500));
    bench.feed(b"GLU 5.1\r\n");
    bench.wait(Duration::from_millis(499));
    bench.feed(b"K 4.1\r\n");
    assert_eq!(bench.kept.len(), 0);
    bench.wait(Duration::from_millis(500));
    assert_eq!(bench.complete(), [b"GLU 5.1\r\nK 4.1\r\n"]);
    bench.feed(b"next");
    bench.leave();
    assert_eq!(bench.incomplete(), [b"next"], "the line went away in the middle of a line");

    let mut bench = Bench::new(framed("<STX>", &["<ETX>"]));
    bench.feed(b"\x02GLU 5.");
    bench.wait(Duration::from_secs(60));
    assert_eq!((bench.complete(), bench.incomplete()), (vec![], vec![b"\x02GLU 5.".as_slice()]));
    assert_eq!(bench.events, [Event::Refused("a message ended before its end")]);
    assert_eq!(bench.receiver.poll_timeout(), None);
}

#[test]
fn a_report_begins_and_ends_at_lines_that_say_so() {
    let by = |first: Option<&str>, last: Option<&str>, idle_ms| Framing {
        first_line: first.map(Into::into),
        last_line: last.map(Into::into),
        idle_ms,
        ..Framing::default()
    };
    let mut bench = Bench::new(by(Some("^\\*+ REPORT"), Some("^END"), None));
    bench.feed(b"boot 1\r\n** REPORT\r\nGLU 5.1\r\nEND\r\n** REPORT\r\nK 4.1\r\n** REPORT\r\nNA 140\r\nEND");
    bench.wait(Duration::from_secs(60));
    assert_eq!(
        bench.complete(),
        [b"** REPORT\r\nGLU 5.1\r\nEND\r".as_slice(), b"** REPORT\r\nNA 140\r\nEND"],
        "also one whose last line has no line end"
    );
    assert_eq!(bench.incomplete(), [b"boot 1\r\n".as_slice(), b"** REPORT\r\nK 4.1\r\n"], "one without its end");

    let mut bench = Bench::new(by(None, Some("\\f$"), None));
    bench.feed(b"GLU 5.1\r\nK 4.1\r\n\x0cNA 140\r\n\x0c");
    assert_eq!(bench.complete(), [b"GLU 5.1\r\nK 4.1\r\n\x0c".as_slice(), b"NA 140\r\n\x0c"]);

    let mut bench = Bench::new(by(Some("^ID"), None, Some(500)));
    bench.feed(b"ID 1\r\nGLU 5.1\r\nID 2\r\nGLU 6.1\r\n");
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.complete(), [b"ID 1\r\nGLU 5.1\r\n".as_slice(), b"ID 2\r\nGLU 6.1\r\n"]);
}

#[test]
fn blocks_of_a_length_may_hold_any_byte() {
    let fixed =
        Framing { start: mark("<SOH>"), length: Some(Length { bytes: 6, ..Length::default() }), ..Framing::default() };
    let mut bench = Bench::new(fixed);
    bench.feed(b"\0\x01\x01\0\x03\x05\x04\x01ABCDE");
    assert_eq!(bench.complete(), [b"\x01\x01\0\x03\x05\x04".as_slice(), b"\x01ABCDE"]);

    let sized =
        |form, digits| Framing { length: Some(Length { at: Some(1), digits, form, bytes: 2 }), ..Framing::default() };
    for (framing, bytes) in [
        (sized(NumberForm::BigEndian, 2), b"R\0\x04\0\x01\0\0\0".get(..6).unwrap()),
        (sized(NumberForm::LittleEndian, 2), b"R\x04\0\0\x01\0".as_slice()),
        (sized(NumberForm::Ascii, 3), b"R004\0\0"),
        (sized(NumberForm::Hex, 2), b"R0Aabcdefghi"),
        (sized(NumberForm::Bcd, 1), b"R\x10abcdefghij"),
    ] {
        let mut bench = Bench::new(framing);
        bench.feed(&[bytes, bytes].concat());
        assert_eq!(bench.complete(), [bytes, bytes]);
    }
    let mut bench = Bench::new(sized(NumberForm::Ascii, 3));
    bench.feed(b"Rxyz");
    assert_eq!((bench.complete().len(), bench.incomplete()), (0, vec![b"Rxyz".as_slice()]), "no length stands there");
}

#[test]
fn a_conversation_is_gathered_from_enq_to_eot() {
    let framing = Framing { handshake: true, gather: true, ..answered(framed("<STX>", &["<ETX>"])) };
    let mut bench = Bench::new(framing.clone());
    bench.feed(b"\x05");
    assert_eq!(bench.said, b"\x06");
    bench.feed(b"\x02A\x03");
    bench.feed(b"\x02B\x03\x04");
    assert_eq!(bench.said, b"\x06\x06\x06");
    let sessions: Vec<_> = bench.kept.iter().map(|(session, _, completes)| (*session, *completes)).collect();
    assert_eq!(sessions, [(1, false), (1, false), (1, true)]);
    assert_eq!(
        bench.kept.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect::<Vec<_>>(),
        b"\x02A\x03\x02B\x03\x04"
    );

    bench.feed(b"\x05\x02C\x03");
    bench.wait(Duration::from_secs(60));
    assert_eq!(bench.abandoned, [2], "a conversation that does not end is not complete");
    bench.feed(b"\x05\x02D\x03");
    bench.leave();
    assert_eq!(bench.abandoned, [2, 3]);
    let loose = Framing { gather: false, ..framing };
    let mut bench = Bench::new(loose);
    bench.feed(b"\x05\x02A\x03\x04");
    assert_eq!((bench.complete(), bench.said.as_slice()), (vec![b"\x02A\x03".as_slice()], b"\x06\x06".as_slice()));
}

#[test]
fn what_nobody_sends_again_is_offered_to_the_journal_again() {
    let mut bench = Bench::new(framed("", &["<LF>"]));
    bench.refusal = Some(Refusal::Full);
    bench.feed(b"GLU 5.1\n");
    bench.wait(Duration::from_secs(3));
    assert_eq!(bench.kept.len(), 0);
    assert_eq!(bench.receiver.bytes_held(), 8, "it waits");
    bench.refusal = None;
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.complete(), [b"GLU 5.1\n"]);
    assert_eq!(bench.kept[0].0, 1);
}

#[test]
fn noise_is_counted_and_what_can_be_read_in_it_is_kept() {
    let mut bench = Bench::new(answered(framed("<STX>", &["<ETX>"])));
    bench.feed(b"\xff\xfe?\r\n\x02A\x03GLU 5.1\r\n\x02B\x03");
    assert_eq!(bench.complete(), [b"\x02A\x03".as_slice(), b"\x02B\x03"]);
    assert_eq!(bench.incomplete(), [b"GLU 5.1\r\n"]);
    assert_eq!(bench.events, [Event::Odd("bytes between messages"); 2]);
    assert_eq!(bench.said, b"\x06\x06");
}

#[test]
fn i10_a_message_without_an_end_is_kept_in_pieces_and_its_tail_is_no_message() {
    let config = ReceiverConfig { framing: framed("", &["<LF>"]), message_max: 16, ..ReceiverConfig::default() };
    let mut bench = Bench::with(config);
    bench.feed(b"0123456789abcdefghij\nnext\n");
    assert_eq!(bench.incomplete(), [b"0123456789abcdef".as_slice(), b"ghij\n"]);
    assert_eq!(bench.complete(), [b"next\n"]);
    // The line that begins a report reaches the limit by itself.
    let report = Framing { first_line: Some("^A".into()), last_line: Some("^B".into()), ..Framing::default() };
    let mut bench = Bench::with(ReceiverConfig { framing: report, message_max: 16, ..ReceiverConfig::default() });
    bench.feed(b"A123456789abcde\nB\n");
    assert_eq!(bench.incomplete(), [b"A123456789abcde\n"]);
}

#[test]
fn a_damaged_character_damages_its_message() {
    let mut bench = Bench::new(answered(framed("<STX>", &["<ETX>"])));
    bench.feed(b"\x02GLU 5");
    bench.receiver.handle_damage(bench.now);
    bench.feed(b"1\x03\x02GLU 5.1\x03");
    assert_eq!(bench.complete(), [b"\x02GLU 5.1\x03"]);
    assert_eq!(bench.said, b"\x15\x06");
}

#[test]
fn a_framing_that_cannot_work_says_what_to_write() {
    let good = || framed("<STX>", &["<ETX>"]);
    for (framing, word) in [
        (Framing::default(), "where a message ends"),
        (Framing { length: Some(Length { bytes: 3, ..Length::default() }), ..good() }, "exclude each other"),
        (Framing { length: Some(Length::default()), ..Framing::default() }, "`length.bytes`"),
        (Framing { first_line: Some("x".into()), ..Framing::default() }, "`last_line` or `idle_ms`"),
        (Framing { last_line: Some("(".into()), ..Framing::default() }, "regular expression"),
        (Framing { gather: true, ..good() }, "`handshake`"),
        (Framing { check: Some(Check::default()), ..Framing::by_silence(1) }, "`check` needs `end`"),
        (Framing { reply_after_ms: 500, reply_within_ms: Some(400), ..good() }, "more than `reply_after_ms`"),
        (Framing::by_silence(0), "times are"),
    ] {
        let said = framing.check().unwrap_err();
        assert!(said.contains(word), "{said}");
    }
    assert!(Mark::try_from("<STP>".to_string()).is_err());
}

#[test]
fn what_is_enclosed_is_a_sound_message_that_says_it() {
    for (form, place, with_start, with_end) in [
        (CheckForm::Byte, CheckPlace::AfterEnd, false, true),
        (CheckForm::Hex, CheckPlace::AfterEnd, true, false),
        (CheckForm::Hex, CheckPlace::BeforeEnd, false, false),
    ] {
        for rule in [Rule::Xor, Rule::Sum, Rule::TwosComplement] {
            let check = Check { rule, form, place, with_start, with_end };
            let framing = answered(Framing { check: Some(check), ..framed("<STX>", &["<ETX>"]) });
            let message = framing.enclose(b"GLU 5.1 mmol/L");
            assert!(framing.is_sound(&message), "{framing:?}");
            assert_eq!(framing.payload(&message), b"GLU 5.1 mmol/L", "{framing:?}");
        }
    }
    assert_eq!(framed("<STX>", &["<ETX>"]).enclose(b"K 4.1"), b"\x02K 4.1\x03");
}
