//! Promises of a receiver that is asked and that speaks for us.

use super::*;

const QUERY: &[u8] =
    b"MSH|^~\\&|AN|LAB|GW|HOSP|20260102||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r\
    QPD|WOS^Work Order Step^IHELAW|TAG1|TUBE1\rRCP|I||R^^HL70394\r";
const REPLY: &[u8] = b"MSH|^~\\&|GW|HOSP|AN|LAB|20260102||RSP^K11^RSP_K11|R1|P|2.5.1\rMSA|AA|Q1\r";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

fn asking() -> Bench {
    Bench::with(ReceiverConfig { host_query: true, ..ReceiverConfig::default() })
}

fn order(id: &str) -> Vec<u8> {
    format!("MSH|^~\\&|GW|HOSP|AN|LAB|20260102||OML^O33^OML_O33|{id}|P|2.5.1|||ER|AL\rSPM|1\r").into_bytes()
}

fn answer(kind: &str, code: &str, to: &str) -> Vec<u8> {
    format!("MSH|^~\\&|AN|LAB|GW|HOSP|20260102||{kind}|A{to}|P|2.5.1|||ER|NE\rMSA|{code}|{to}\r").into_bytes()
}

impl Bench {
    fn send(&mut self, token: u64, id: &str) {
        self.receiver.send(self.now, Token(token), &order(id)).unwrap();
        self.settle();
    }

    fn reply(&mut self, reply: Option<&[u8]>) -> String {
        let (token, _) = self.story.asked.last().unwrap().clone();
        let before = self.story.sent.len();
        self.receiver.handle_reply(self.now, token, reply);
        self.settle();
        String::from_utf8_lossy(&self.story.sent[before..]).into_owned()
    }

    /// How often this message of ours went out.
    fn sent(&self, id: &str) -> usize {
        let framed = frame(&order(id));
        self.story.sent.windows(framed.len()).filter(|window| *window == framed).count()
    }

    fn failed(&self) -> Vec<(u64, &'static str)> {
        let failed = |event: &Event| match event {
            Event::Failed(token, why) => Some((token.0, *why)),
            _ => None,
        };
        self.story.events.iter().filter_map(failed).collect()
    }
}

#[test]
fn i1_a_query_is_in_custody_before_the_shell_is_asked_and_gets_its_reply_alone() {
    let mut bench = asking();
    assert_eq!(bench.feed(&frame(QUERY)), "", "no acknowledgment goes before the reply");
    assert_eq!(bench.story.kept.len(), 1);
    assert_eq!(bench.story.asked, [(Token(0), QUERY.to_vec())]);
    // What comes meanwhile waits for its turn.
    assert_eq!(bench.feed(&frame(BODY)), "");
    let replied = bench.reply(Some(REPLY));
    let (first, then) = replied.as_bytes().split_at(frame(REPLY).len());
    assert_eq!(first, frame(REPLY));
    assert!(String::from_utf8_lossy(then).contains("MSA|AA|K1"));
    assert_eq!(bench.reply(Some(REPLY)), "", "one question has one reply");
}

#[test]
fn a_query_is_acknowledged_like_any_message_on_a_link_that_answers_none() {
    assert!(Bench::new().feed(&frame(QUERY)).contains("MSA|AA|Q1"));
}

#[test]
fn a_query_that_cannot_be_answered_now_is_an_error_in_time() {
    let mut bench = asking();
    bench.feed(&frame(QUERY));
    assert!(bench.reply(None).contains("MSA|AE|Q1"));
    bench.feed(&frame(QUERY));
    let before = bench.story.sent.len();
    bench.wait(ReceiverConfig::default().reply_timeout);
    assert!(String::from_utf8_lossy(&bench.story.sent[before..]).contains("MSA|AE|Q1"));
    assert!(bench.story.events.contains(&Event::Refused("a query was not answered in time")));
    assert_eq!(bench.reply(Some(REPLY)), "", "late is as good as never");
    assert_eq!(bench.story.closed, Vec::<&str>::new());
    assert!(bench.feed(&frame(BODY)).contains("MSA|AA|K1"));
}

#[test]
fn i1_a_query_without_custody_is_never_put_to_the_shell() {
    let mut bench = asking();
    bench.refusal = Some(Refusal::Full);
    assert!(bench.feed(&frame(QUERY)).contains("MSA|CE|Q1"));
    assert_eq!(bench.story.asked, []);
}

#[test]
fn one_message_of_ours_is_in_flight_and_the_next_follows_its_answer() {
    let mut bench = asking();
    bench.send(1, "OUT1");
    bench.send(2, "OUT2");
    assert_eq!((bench.sent("OUT1"), bench.sent("OUT2")), (1, 0));
    let orl = answer("ORL^O34^ORL_O34", "AA", "OUT1");
    bench.feed(&frame(&orl));
    assert_eq!(bench.sent("OUT2"), 1);
    assert_eq!(bench.story.answered, [(Token(1), orl.clone())]);
    assert_eq!(bench.story.kept.last().unwrap().1, orl, "the answer is in custody");
    assert!(!String::from_utf8_lossy(&bench.story.sent).contains("MSA|"), "an answer is not answered");
}

#[test]
fn i5_without_an_answer_the_same_bytes_go_out_again_and_then_no_more() {
    let mut bench = asking();
    bench.send(1, "OUT1");
    bench.send(2, "OUT2");
    bench.wait(ANSWER_TIMEOUT);
    assert_eq!(bench.sent("OUT1"), 2);
    // The answer to the first copy counts, however late.
    bench.feed(&frame(&answer("ORL^O34", "AA", "OUT1")));
    assert_eq!((bench.story.answered.len(), bench.sent("OUT2")), (1, 1));
    bench.feed(&frame(&answer("ORL^O34", "AA", "OUT1")));
    assert_eq!(bench.story.answered.len(), 1, "the answer to the second copy is not the next one's");
    bench.wait(ANSWER_TIMEOUT * 10);
    assert_eq!(bench.sent("OUT2"), 3);
    assert_eq!(bench.failed(), [(2, "no answer")]);
}

#[test]
fn a_commit_ack_is_no_answer_where_one_was_asked_for() {
    let mut bench = asking();
    bench.send(1, "OUT1");
    bench.feed(&frame(&answer("ACK^O33^ACK", "CA", "OUT1")));
    assert_eq!(bench.story.answered, []);
    bench.feed(&frame(&answer("ORL^O34^ORL_O34", "AA", "OUT1")));
    assert_eq!(bench.story.answered.len(), 1);
    bench.send(2, "OUT2");
    bench.feed(&frame(&answer("ACK^O33^ACK", "CR", "OUT2")));
    assert_eq!(bench.story.answered.len(), 2, "a commit error is final");
}

#[test]
fn i1_an_answer_without_custody_does_not_count() {
    let mut bench = asking();
    bench.send(1, "OUT1");
    bench.refusal = Some(Refusal::Storage);
    bench.feed(&frame(&answer("ORL^O34", "AA", "OUT1")));
    assert_eq!(bench.story.answered, []);
    bench.refusal = None;
    bench.wait(ANSWER_TIMEOUT);
    assert_eq!(bench.sent("OUT1"), 2);
    bench.feed(&frame(&answer("ORL^O34", "AA", "OUT1")));
    assert_eq!(bench.story.answered.len(), 1);
}

#[test]
fn what_was_not_answered_when_the_line_went_away_has_failed() {
    let mut bench = asking();
    bench.send(1, "OUT1");
    bench.send(2, "OUT2");
    bench.feed(&frame(QUERY));
    bench.receiver.handle_disconnect(bench.now);
    bench.settle();
    assert_eq!(bench.failed(), [(1, "the line went away"), (2, "the line went away")]);
    assert_eq!(bench.reply(Some(REPLY)), "");
    assert!(bench.receiver.send(bench.now, Token(3), &order("OUT3")).is_err());
}

#[test]
fn what_no_answer_could_name_is_not_sent() {
    let mut bench = asking();
    assert!(bench.receiver.send(bench.now, Token(1), b"MSH|^~\\&|GW\r").is_err());
    bench.send(1, "OUT1");
    assert!(bench.receiver.send(bench.now, Token(2), &order("OUT1")).is_err());
}

#[test]
fn an_unasked_answer_is_kept_counted_and_never_answered() {
    let mut bench = asking();
    for kind in ["ACK^R22^ACK", "ORL^O34^ORL_O34", "ORR^O02"] {
        assert_eq!(bench.feed(&frame(&answer(kind, "AA", "NOBODY"))), "");
    }
    assert_eq!((bench.story.kept.len(), bench.story.events.len()), (3, 3));
}

/// What an analyzer may say, in any order, with damage between.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        3 => Just(frame(QUERY)),
        3 => Just(frame(BODY)),
        2 => (0..4_u8, prop_oneof!["AA", "AR", "CA", "CE"]).prop_map(|(n, code)| {
            frame(&answer("ORL^O34^ORL_O34", &code, &format!("OUT{n}")))
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// Plays it in pieces; queries are answered at once.
fn play(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> Story {
    let mut bench = asking();
    for n in 0..4 {
        bench.send(n, &format!("OUT{n}"));
    }
    let mut rest = bytes;
    let mut pieces = pieces;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = after;
        bench.feed(piece);
        while bench.story.asked.len() > bench.replied {
            bench.replied += 1;
            bench.reply(Some(REPLY));
        }
    }
    bench.story
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_dialogue_is_the_same_in_every_split(
        bytes in speech(),
        splits in proptest::collection::vec(1..40_usize, 0..200),
    ) {
        let whole = play(&bytes, std::iter::empty());
        let split = play(&bytes, splits.into_iter().chain(std::iter::repeat(1)));
        prop_assert_eq!(&whole.kept, &split.kept);
        prop_assert_eq!(&whole.asked, &split.asked);
        prop_assert_eq!(&whole.answered, &split.answered);
        // No message of ours is answered twice, and every answer was in custody first.
        let mut tokens: Vec<_> = whole.answered.iter().map(|(token, _)| token).collect();
        tokens.dedup();
        prop_assert_eq!(tokens.len(), whole.answered.len());
        for (_, answer) in &whole.answered {
            prop_assert!(whole.kept.iter().any(|(_, kept, _)| kept == answer));
        }
    }
}
