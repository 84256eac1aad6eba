//! Promises of the MLLP machines.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::wire::{Custody, Event, Output, Refusal, Refused, Time, Token};

mod dialogue;

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

const TIME: &str = "20260102030405+0000";
const BODY: &[u8] =
    b"MSH|^~\\&|SIM|LAB|GW|HOSP|20260102||ORU^R01^ORU_R01|K1|P|2.5.1||||||UNICODE UTF-8\rOBX|1|NM|GLU||5.10\r";

/// Everything a receiver did with some bytes, under a journal that answers at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    kept: Vec<(u64, Vec<u8>, Option<Vec<u8>>)>,
    sent: Vec<u8>,
    events: Vec<Event>,
    closed: Vec<&'static str>,
    asked: Vec<(Token, Vec<u8>)>,
    answered: Vec<(Token, Vec<u8>)>,
}

struct Bench {
    now: Time,
    receiver: Receiver,
    story: Story,
    refusal: Option<Refusal>,
    /// Questions that were answered.
    replied: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(ReceiverConfig::default())
    }

    fn with(config: ReceiverConfig) -> Self {
        let mut receiver = Receiver::new(config, 1);
        receiver.set_wall_time(TIME);
        Bench { now: Instant::now(), receiver, story: Story::default(), refusal: None, replied: 0 }
    }

    fn feed(&mut self, bytes: &[u8]) -> String {
        let before = self.story.sent.len();
        self.receiver.handle_bytes(self.now, bytes);
        self.settle();
        String::from_utf8_lossy(&self.story.sent[before..]).into_owned()
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.receiver.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.receiver.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn settle(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Send(bytes) => self.story.sent.extend(bytes),
                Output::Persist(part) => {
                    assert!(part.completes);
                    let token = part.token;
                    match self.refusal {
                        None => {
                            self.story.kept.push((part.session, part.bytes, part.identity));
                            self.receiver.handle_custody(self.now, Ok(&Proof(token)));
                        }
                        Some(reason) => {
                            self.receiver.handle_custody(self.now, Err::<&Proof, _>(Refused { token, reason }))
                        }
                    }
                }
                Output::Abandon { .. } => panic!("a message is kept whole or not at all"),
                Output::Ask(message) => self.story.asked.push((message.token, message.bytes)),
                Output::Answered(message) => self.story.answered.push((message.token, message.bytes)),
                Output::Close(why) => self.story.closed.push(why),
                Output::Event(event) => self.story.events.push(event),
            }
        }
    }
}

/// The answer with our control id masked.
fn masked(answer: &str, id_at: usize) -> String {
    let mut fields: Vec<&str> = answer.split('|').collect();
    assert_eq!(fields[id_at].len(), 16);
    fields[id_at] = "ID";
    fields.join("|")
}

#[test]
fn i1_a_message_is_kept_verbatim_and_answered_in_its_own_words() {
    let mut bench = Bench::new();
    let answer = bench.feed(&frame(BODY));
    assert_eq!(
        masked(&answer, 9),
        "\x0bMSH|^~\\&|GW|HOSP|SIM|LAB|20260102030405+0000||ACK^R01^ACK|ID|P|2.5.1||||||UNICODE UTF-8\rMSA|AA|K1\r\x1c\r"
    );
    assert_eq!(bench.story.kept, [(1, BODY.to_vec(), Some(b"SIM|LAB|K1".to_vec()))]);
}

#[test]
fn i1_custody_that_comes_late_or_never_is_not_acknowledged() {
    let mut receiver = Receiver::new(ReceiverConfig::default(), 1);
    let now = Instant::now();
    receiver.handle_bytes(now, &frame(BODY));
    let Some(Output::Persist(part)) = receiver.poll_output() else { panic!("custody is asked for") };
    assert_eq!(receiver.poll_output(), None);
    receiver.handle_custody(now, Ok(&Proof(Token(99))));
    assert_eq!(receiver.poll_output(), None, "a proof of something else proves nothing");
    receiver.handle_custody(now + Duration::from_secs(20), Ok(&Proof(part.token)));
    assert_eq!(receiver.poll_output(), Some(Output::Close("custody came too late")));
    assert_eq!(receiver.poll_output(), None);
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let mut bench = Bench::new();
    bench.refusal = Some(Refusal::Full);
    let answer = bench.feed(&frame(BODY));
    assert!(
        answer.contains("\rMSA|AE|K1\rERR|||207^Application internal error^HL70357|E||||Storage is full"),
        "{answer}"
    );
    assert!(bench.story.kept.is_empty());
}

#[test]
fn a_message_without_control_id_is_refused_and_never_given_one() {
    let mut bench = Bench::new();
    let nameless = String::from_utf8_lossy(BODY).replace("|K1|", "||");
    let answer = bench.feed(&frame(nameless.as_bytes()));
    assert!(
        answer.contains("\rMSA|AE\rERR||MSH^1^10|101^Required field missing^HL70357|E||||MSH-10 is empty"),
        "{answer}"
    );
    let old = nameless.replace("|2.5.1|", "|2.3.1|");
    let answer = bench.feed(&frame(old.as_bytes()));
    assert!(answer.contains("||ACK|"), "below 2.4 the type has no trigger: {answer}");
    assert!(answer.contains("\rERR|MSH^1^10^101&Required field missing&HL70357\r"), "{answer}");
    assert!(bench.story.kept.is_empty());
}

#[test]
fn what_is_not_hl7_is_rejected() {
    let mut bench = Bench::new();
    let answer = bench.feed(&frame(b"FHS|^~\\&|X\r"));
    assert!(answer.contains("\rMSA|AR||The message does not begin with MSH"), "{answer}");
    assert_eq!(bench.feed(&frame(b"")), "", "an empty frame is how some analyzers keep a line alive");
    assert!(bench.story.kept.is_empty());
}

#[test]
fn the_message_chooses_its_acknowledgment_mode() {
    for (mode, expected) in [
        ("|", vec!["AA"]),
        ("0|1", vec!["AA"]),
        ("ER|AL", vec!["AA"]),
        ("AL|NE", vec!["CA"]),
        ("AL|", vec!["CA"]),
        ("AL|AL", vec!["CA", "AA"]),
        ("NE|AL", vec!["AA"]),
        ("NE|NE", vec![]),
    ] {
        let mut bench = Bench::new();
        let body = format!("MSH|^~\\&|SIM|LAB|GW|HOSP|20260102||ORU^R01|K1|P|2.4|||{mode}\r");
        let answer = bench.feed(&frame(body.as_bytes()));
        let codes: Vec<_> = answer.split("MSA|").skip(1).map(|msa| &msa[..2]).collect();
        assert_eq!(codes, expected, "{mode}");
        assert_eq!(bench.story.kept.len(), 1, "{mode}");
        bench.refusal = Some(Refusal::Storage);
        let answer = bench.feed(&frame(body.as_bytes()));
        let codes: Vec<_> = answer.split("MSA|").skip(1).map(|msa| &msa[..2]).collect();
        let refusal: Vec<_> = match mode {
            "ER|AL" => vec!["CE"],
            _ => expected.first().map(|code| if *code == "AA" { "AE" } else { "CE" }).into_iter().collect(),
        };
        assert_eq!(codes, refusal, "{mode}");
    }
}

#[test]
fn delimiters_and_the_fifth_encoding_character_are_the_senders() {
    let mut bench = Bench::new();
    let answer = bench.feed(&frame(b"\xEF\xBB\xBFMSH$%~\\&#$SIM$LAB$GW$HOSP$2026$$ORU%R01$K1$P$2.8\nOBX$1\n"));
    assert!(answer.starts_with("\x0bMSH$%~\\&#$GW$HOSP$SIM$LAB$20260102030405+0000$$ACK%R01%ACK$"), "{answer}");
    assert!(answer.ends_with("$P$2.8\rMSA$AA$K1\r\x1c\r"), "{answer}");
}

#[test]
fn a_message_cut_by_another_is_never_taken_for_whole() {
    let mut bench = Bench::new();
    let answer = bench.feed(&[b"\r\n  noise\0\x0b", &BODY[..40], &frame(BODY)].concat());
    assert_eq!(answer.matches("MSA|AA|K1").count(), 1);
    assert_eq!(bench.story.kept.len(), 1);
    assert_eq!(bench.story.kept[0].1, BODY);
    assert_eq!(
        bench.story.events,
        [Event::Odd("bytes between messages"), Event::Refused("a message began before the last one ended")]
    );
    let flipped = [&[VT], &BODY[..60], &[FS], &BODY[60..], &[FS, CR]].concat();
    bench.feed(&flipped);
    assert_eq!(bench.story.kept[1].1.len(), BODY.len() + 1, "FS inside a message does not end it");
}

#[test]
fn a_lost_start_block_and_a_lost_final_cr_are_forgiven() {
    let mut bench = Bench::new();
    bench.feed(&[BODY, &[FS, CR]].concat());
    assert_eq!(bench.story.kept[0].1, BODY);
    assert_eq!(bench.feed(&[&[VT], BODY, &[FS]].concat()), "");
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.story.kept.len(), 2, "a silence after FS is the end");
    bench.feed(&[&[VT], BODY, &[FS]].concat());
    bench.receiver.handle_disconnect(bench.now);
    bench.settle();
    assert_eq!(bench.story.kept.len(), 3, "so is the end of the line");
}

#[test]
fn i10_endless_messages_are_refused_and_the_next_one_is_read() {
    let mut bench = Bench::with(ReceiverConfig { message_max: 1000, ..ReceiverConfig::default() });
    let mut answer = bench.feed(&[&[VT], BODY].concat());
    for _ in 0..1000 {
        answer += &bench.feed(&[b'9'; 1000]);
        assert!(bench.receiver.bytes_held() <= 1000);
    }
    assert_eq!(answer.matches("MSA|AR|K1\r").count(), 1, "{answer}");
    assert!(bench.feed(&[&[FS, CR], frame(BODY).as_slice()].concat()).contains("MSA|AA|K1"));
    assert_eq!(bench.story.kept.len(), 1);
}

#[test]
fn i10_a_message_that_drips_is_cut_off() {
    let mut bench = Bench::new();
    bench.feed(&[VT]);
    for _ in 0..40 {
        bench.wait(Duration::from_secs(1));
        if bench.story.closed.is_empty() {
            bench.feed(b"a");
        }
    }
    assert_eq!(bench.story.closed, ["a message did not end in time"]);
}

#[test]
fn a_sender_credits_no_answer_to_another_message() {
    let now = Instant::now();
    let mut sender = Sender::new(SenderConfig::default());
    assert_eq!(sender.send(now, Token(1), BODY), Ok(()));
    assert_eq!(sender.send(now, Token(2), BODY), Err(Busy));
    assert_eq!(sender.poll_output(), Some(Output::Send(frame(BODY))));
    sender.handle_bytes(now, &frame(b"MSH|^~\\&\rMSA|AA|K0\r"));
    assert_eq!(sender.poll_output(), Some(Output::Event(Event::Odd("an answer to another message"))));
    sender.handle_bytes(now, &frame(b"MSH|^~\\&\rMSA|AA|K1\r"));
    assert_eq!(sender.poll_output(), Some(Output::Event(Event::Accepted(Token(1)))));
    assert_eq!(sender.send(now, Token(2), BODY), Ok(()));
    sender.handle_timeout(now + Duration::from_secs(10));
    let rest: Vec<_> = std::iter::from_fn(|| sender.poll_output()).skip(1).collect();
    assert_eq!(rest, [Output::Event(Event::Failed(Token(2), "no answer")), Output::Close("no answer")]);
}

#[test]
fn i2_a_message_with_a_damaged_character_is_refused_wherever_that_is_and_taken_when_it_comes_again() {
    let whole = frame(BODY);
    let (vt, fs) = (0, whole.len() - 2);
    for at in 0..whole.len() {
        let mut bench = Bench::new();
        bench.feed(&whole[..at]);
        bench.receiver.handle_damage(bench.now);
        bench.feed(&whole[at + 1..]);
        bench.wait(Duration::from_secs(1));
        let answer = String::from_utf8_lossy(&bench.story.sent).into_owned();
        if at == vt {
            assert!(answer.contains("MSA|AA|K1"), "only the VT is damaged, the message is whole: {answer}");
            continue;
        }
        assert!(bench.story.kept.is_empty(), "damaged at {at}");
        assert!(!answer.contains("MSA|AA"), "damaged at {at}: {answer}");
        let told = bench.story.events.contains(&Event::Refused("damaged character inside a message"));
        // Without its FS it has not ended: the next one begins inside it.
        assert_eq!(told, at != fs, "damaged at {at}: {:?}", bench.story.events);
        assert!(bench.feed(&whole).contains("MSA|AA|K1"), "damaged at {at}");
        assert_eq!(bench.story.kept.len(), 1, "damaged at {at}");
    }
}

/// Traffic made of the pieces that matter, in any order. Never more than twice the longest message of the tests below:
/// a sender that has more than that under way at once is cut off, and then the split does matter.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(frame(BODY)),
        1 => Just(frame(b"MSH|^~\\&|A|B|||||||P|2.3\r")),
        1 => Just(BODY[..50].to_vec()),
        1 => Just(vec![VT]),
        1 => Just(vec![FS]),
        1 => Just(vec![CR]),
        1 => Just(b"MSH|".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_tells_the_same_story(bytes in traffic(), cuts in prop::collection::vec(1usize..30, 1..20)) {
        let config = ReceiverConfig { message_max: 400, ..ReceiverConfig::default() };
        let mut whole = Bench::with(config.clone());
        whole.feed(&bytes);
        let mut split = Bench::with(config);
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            split.feed(part);
            rest = after;
        }
        prop_assert_eq!(whole.story, split.story);
    }

    #[test]
    fn i10_any_bytes_are_survived_in_bounded_memory(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut bench = Bench::with(ReceiverConfig { message_max: 500, ..ReceiverConfig::default() });
        for chunk in bytes.chunks(97) {
            bench.feed(chunk);
            prop_assert!(bench.receiver.bytes_held() <= 1500);
        }
        bench.wait(Duration::from_secs(60));
        prop_assert!(bench.receiver.poll_timeout().is_none());
    }
}
