use super::*;
use crate::wire::Refusal;
use crate::wire::dimse::command::{field, status};
use crate::wire::dimse::pdu::{kind, message};
use crate::wire::dimse::{Command, Request, Response};
use proptest::prelude::*;
use std::time::Instant;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

/// Both ends of a line and the shells behind them, in virtual time.
struct Pair {
    now: Time,
    modality: Association,
    gateway: Association,
    /// What the gateway keeps, with the data as it came.
    stored: Vec<(String, Vec<u8>)>,
    open: Vec<(Token, String, Vec<u8>)>,
    /// What the modality was answered.
    answers: Vec<Response>,
    asked: Vec<(Token, Request)>,
    told: Vec<Output>,
    /// What custody says, when not yes.
    refusal: Option<Refusal>,
}

impl Pair {
    fn new(contexts: &[(&str, &[&str])]) -> Pair {
        Pair::with(contexts, Settings::default())
    }

    fn with(contexts: &[(&str, &[&str])], of_gateway: Settings) -> Pair {
        let now = Instant::now();
        let proposal = proposal(contexts);
        let mut pair = Pair {
            now,
            modality: Association::request(now, Settings::default(), &proposal),
            gateway: Association::accept(now, of_gateway),
            stored: Vec::new(),
            open: Vec::new(),
            answers: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            refusal: None,
        };
        pair.run();
        pair
    }

    fn send(&mut self, context: u8, command: Command, data_set: Option<&[u8]>) {
        assert!(self.modality.send(self.now, Token(9), context, command, data_set));
        self.run();
    }

    /// Moves bytes and outcomes until nobody has anything more to say.
    fn run(&mut self) {
        loop {
            if let Some(output) = self.modality.poll_output() {
                match output {
                    Output::Send(bytes) => self.gateway.handle_bytes(self.now, &bytes),
                    Output::Answered { response, .. } => self.answers.push(response),
                    other => self.told.push(other),
                }
            } else if let Some(output) = self.gateway.poll_output() {
                match output {
                    Output::Send(bytes) => self.modality.handle_bytes(self.now, &bytes),
                    Output::Associate(_) => self.gateway.handle_admission(self.now, Ok(())),
                    Output::Begin { token, arrival } => self.open.push((token, arrival.sop_instance_uid, vec![])),
                    Output::Data { token, bytes } => {
                        assert!(!bytes.is_empty());
                        self.open.iter_mut().find(|(t, ..)| *t == token).unwrap().2.extend(bytes);
                    }
                    Output::Commit { token } => {
                        let at = self.open.iter().position(|(t, ..)| *t == token).unwrap();
                        let (_, uid, bytes) = self.open.remove(at);
                        match self.refusal {
                            None => {
                                self.stored.push((uid, bytes));
                                self.gateway.handle_custody(self.now, Ok(&Proof(token)));
                            }
                            Some(reason) => {
                                let refused = Err::<&Proof, _>(Refused { token, reason });
                                self.gateway.handle_custody(self.now, refused);
                            }
                        }
                    }
                    Output::Discard { token } => self.open.retain(|(t, ..)| *t != token),
                    Output::Ask { token, request } => self.asked.push((token, request)),
                    other => self.told.push(other),
                }
            } else {
                return;
            }
        }
    }

    fn status(&self) -> Option<u16> {
        self.answers.last().and_then(|answer| answer.command.status())
    }
}

fn proposal(contexts: &[(&str, &[&str])]) -> Proposal {
    let owned = |(class, syntaxes): &(&str, &[&str])| {
        (class.to_string(), syntaxes.iter().map(|syntax| syntax.to_string()).collect())
    };
    Proposal {
        called_ae_title: "AFFERENT".to_string(),
        calling_ae_title: "ECHO-1".to_string(),
        contexts: contexts.iter().map(owned).collect(),
        roles: Vec::new(),
    }
}

const USUAL: [(&str, &[&str]); 3] = [
    (uid::VERIFICATION, &[uid::IMPLICIT_VR_LITTLE_ENDIAN]),
    (CT, &[JPEG_2000, uid::EXPLICIT_VR_LITTLE_ENDIAN]),
    (uid::MODALITY_WORKLIST, &[uid::IMPLICIT_VR_LITTLE_ENDIAN]),
];

#[test]
fn an_instance_arrives_as_it_is_and_is_answered() {
    let mut pair = Pair::new(&USUAL);
    assert_eq!(pair.gateway.contexts()[1].transfer_syntax, JPEG_2000, "a compressed original stays compressed");
    let data: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    pair.send(3, Command::store_request(0, CT, "1.2.3"), Some(&data));
    assert_eq!(pair.stored, [("1.2.3".to_string(), data)]);
    assert_eq!(pair.status(), Some(status::SUCCESS));
    assert_eq!(pair.answers[0].command.sop_instance_uid().as_deref(), Some("1.2.3"));
    pair.send(1, Command::echo_request(0), None);
    assert_eq!(pair.answers[1].command.message_id_responded_to(), Some(2), "an echo answers its own Message ID");
    pair.modality.release(pair.now);
    pair.run();
    assert_eq!(pair.told.last(), Some(&Output::Close(ENDED)));
}

#[test]
fn a_data_set_can_be_sent_piece_by_piece() {
    let mut pair = Pair::new(&USUAL);
    assert!(pair.modality.send(pair.now, Token(1), 3, Command::store_request(0, CT, "1.2.3"), None));
    assert!(!pair.modality.send(pair.now, Token(2), 1, Command::echo_request(0), None), "one at a time");
    for piece in [&b"abcd"[..], b"ef", b""] {
        pair.modality.send_data(pair.now, piece, piece.is_empty());
        pair.run();
    }
    assert_eq!(pair.stored, [("1.2.3".to_string(), b"abcdef".to_vec())]);
}

#[test]
fn i1_nothing_is_acknowledged_before_custody() {
    let now = Instant::now();
    let mut gateway = opened(now, &USUAL);
    gateway.handle_bytes(now, &message(3, &Command::store_request(5, CT, "1.2.3"), Some(b"data"), 0));
    let outputs: Vec<Output> = std::iter::from_fn(|| gateway.poll_output()).collect();
    let [Output::Begin { token, .. }, Output::Data { .. }, Output::Commit { .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert!(!gateway.wants_bytes() && gateway.poll_timeout().is_none());
    gateway.handle_custody(now, Ok(&Proof(Token(token.0 + 1))));
    assert_eq!(gateway.poll_output(), None, "the proof of something else proves nothing");
    gateway.handle_reply(now, *token, Reply::default());
    assert_eq!(gateway.poll_output(), None, "a reply is no custody");
    gateway.handle_custody(now, Ok(&Proof(*token)));
    assert!(matches!(gateway.poll_output(), Some(Output::Send(_))));
    assert!(gateway.wants_bytes());
}

#[test]
fn a_full_disk_is_said_and_the_association_stays() {
    let mut pair = Pair::new(&USUAL);
    for reason in [Refusal::Full, Refusal::Storage] {
        pair.refusal = Some(reason);
        pair.send(3, Command::store_request(0, CT, "1.2.3"), Some(b"data"));
        assert_eq!(pair.status(), Some(status::OUT_OF_RESOURCES));
        assert!(pair.answers.last().unwrap().command.error_comment().unwrap().contains("later"));
    }
    pair.refusal = None;
    pair.send(3, Command::store_request(0, CT, "1.2.3"), Some(b"data"));
    assert_eq!(pair.status(), Some(status::SUCCESS));
}

#[test]
fn what_cannot_be_stored_gets_a_status_of_its_own_and_costs_nothing() {
    let good = || Command::store_request(0, CT, "1.2.3");
    let cases: [(u8, Command, Option<&[u8]>, u16); 9] = [
        (3, Command::store_request(0, uid::VERIFICATION, "1.2.3"), Some(b"data"), status::CLASS_NOT_SUPPORTED),
        (1, good(), Some(b"data"), status::CLASS_NOT_SUPPORTED),
        (3, Command::store_request(0, CT, ""), Some(b"data"), status::INVALID_INSTANCE),
        (3, Command::store_request(0, CT, "../../x"), Some(b"data"), status::INVALID_INSTANCE),
        (3, Command::store_request(0, CT, &"1".repeat(65)), Some(b"data"), status::INVALID_INSTANCE),
        (3, good(), Some(b""), status::CANNOT_UNDERSTAND),
        (3, Command::delete_request(0, CT, "1.2.3"), None, status::UNRECOGNISED_OPERATION),
        (3, Command::get_request(0, CT), Some(b"data"), status::UNRECOGNISED_OPERATION),
        (5, Command::create_request(0, CT, Some("x")), Some(b"data"), status::INVALID_INSTANCE),
    ];
    let mut pair = Pair::new(&USUAL);
    for (context, command, data_set, wanted) in cases {
        let what = format!("{command:?} on {context}");
        pair.send(context, command, data_set);
        assert_eq!(pair.status(), Some(wanted), "{what}");
        assert!(pair.answers.last().unwrap().command.error_comment().is_some(), "{what}");
        assert!(pair.stored.is_empty() && pair.open.is_empty() && pair.asked.is_empty(), "{what}");
    }
    pair.send(3, good(), Some(b"data"));
    assert_eq!((pair.status(), pair.stored.len()), (Some(status::SUCCESS), 1));
    // Another class of the same kind on the same context: the bytes are what counts.
    pair.send(3, Command::store_request(0, "1.2.840.10008.5.1.4.1.1.4", "1.2.4"), Some(b"data"));
    assert_eq!((pair.status(), pair.stored.len()), (Some(status::SUCCESS), 2));
}

#[test]
fn a_store_that_announces_no_data_set_is_answered_at_once() {
    let now = Instant::now();
    let mut gateway = opened(now, &USUAL);
    // 0101H: no data set.
    let command = Command::store_request(1, CT, "1.2.3").write();
    let at = command.windows(4).position(|w| w == [0, 0, 0, 8]).unwrap() + 8;
    let mut bare = command.clone();
    bare[at..at + 2].copy_from_slice(&[1, 1]);
    let mut bytes = Vec::new();
    pdu::put_fragments(&mut bytes, 3, true, &bare, true, 0);
    gateway.handle_bytes(now, &bytes);
    assert_eq!(answered(&mut gateway), [status::CANNOT_UNDERSTAND]);
}

#[test]
fn an_echo_that_announces_a_data_set_is_answered_all_the_same() {
    let now = Instant::now();
    let echo = Command::echo_request(1).with_data_set();
    for data_set in [None, Some(&b"stray"[..])] {
        let mut gateway = opened(now, &USUAL);
        gateway.handle_bytes(now, &message(1, &echo, data_set, 0));
        gateway.handle_bytes(now, &message(1, &Command::echo_request(2), None, 0));
        assert_eq!(answered(&mut gateway), [status::SUCCESS; 2], "with {data_set:?}");
    }
}

#[test]
fn a_query_is_answered_match_by_match_and_can_be_cancelled() {
    let mut pair = Pair::new(&USUAL);
    pair.send(5, Command::find_request(0, uid::MODALITY_WORKLIST), Some(b"keys"));
    let (token, Request::Find(question)) = pair.asked.pop().unwrap() else { panic!("no query") };
    assert_eq!((question.data_set.as_slice(), question.calling_ae_title.as_str()), (&b"keys"[..], "ECHO-1"));
    assert_eq!(question.transfer_syntax_uid, uid::IMPLICIT_VR_LITTLE_ENDIAN);
    for entry in [b"one ", b"two "] {
        pair.gateway.handle_reply(pair.now, token, Reply::pending(status::PENDING, entry.to_vec()));
    }
    pair.gateway.handle_reply(pair.now, token, Reply::default());
    pair.run();
    let got: Vec<_> = pair.answers.iter().map(|a| (a.command.status().unwrap(), a.data_set.clone())).collect();
    let wanted = [(status::PENDING, b"one ".to_vec()), (status::PENDING, b"two ".to_vec()), (0, Vec::new())];
    assert_eq!(got, wanted);
    assert!(pair.modality.is_idle() && pair.gateway.is_idle());

    pair.send(5, Command::find_request(0, uid::MODALITY_WORKLIST), Some(b"keys"));
    let (token, _) = pair.asked.pop().unwrap();
    pair.gateway.handle_bytes(pair.now, &message(5, &Command::cancel_request(2), None, 0));
    pair.run();
    assert_eq!(pair.status(), Some(status::CANCELLED));
    assert!(pair.told.contains(&Output::Cancel { token }));
    pair.gateway.handle_reply(pair.now, token, Reply::pending(status::PENDING, b"late".to_vec()));
    assert_eq!(pair.gateway.poll_output(), None);
    assert!(pair.gateway.is_idle());
}

#[test]
fn a_second_request_during_a_query_is_refused_and_the_query_goes_on() {
    let now = Instant::now();
    let mut gateway = opened(now, &USUAL);
    let find = |id| Command::find_request(id, uid::MODALITY_WORKLIST);
    gateway.handle_bytes(now, &message(5, &find(1), Some(b"keys"), 0));
    let Some(Output::Ask { token, .. }) = gateway.poll_output() else { panic!("no question") };
    gateway.handle_bytes(now, &message(5, &find(2), Some(b"keys"), 0));
    assert_eq!(answered(&mut gateway), [status::RESOURCE_LIMITATION]);
    gateway.handle_reply(now, token, Reply::default());
    assert_eq!(answered(&mut gateway), [status::SUCCESS]);
}

#[test]
fn what_is_sent_before_the_last_answer_waits_its_turn() {
    let now = Instant::now();
    let mut gateway = opened(now, &USUAL);
    let two: Vec<u8> =
        ["1.1", "1.2"].iter().flat_map(|uid| message(3, &Command::store_request(1, CT, uid), Some(b"d"), 0)).collect();
    gateway.handle_bytes(now, &two);
    for uid in ["1.1", "1.2"] {
        let begun = std::iter::from_fn(|| gateway.poll_output()).find_map(|output| match output {
            Output::Begin { token, arrival } => Some((token, arrival.sop_instance_uid)),
            _ => None,
        });
        let (token, name) = begun.unwrap();
        assert_eq!(name, uid);
        gateway.handle_custody(now, Ok(&Proof(token)));
    }
    gateway.handle_bytes(now, &pdu::release_rq());
    assert!(std::iter::from_fn(|| gateway.poll_output()).any(|o| o == Output::Send(pdu::release_rp())));
}

#[test]
fn either_side_may_report_an_event() {
    let mut pair = Pair::new(&[(uid::STORAGE_COMMITMENT, &[uid::EXPLICIT_VR_LITTLE_ENDIAN])]);
    let class = uid::STORAGE_COMMITMENT;
    pair.send(1, Command::action_request(0, class, uid::STORAGE_COMMITMENT_INSTANCE, 1), Some(b"refs"));
    let (token, Request::Action { action_type_id: 1, .. }) = pair.asked.pop().unwrap() else { panic!("no action") };
    pair.gateway.handle_reply(pair.now, token, Reply::default());
    pair.run();
    assert_eq!(pair.status(), Some(0));
    assert!(pair.gateway.is_idle());
    let report = Command::event_report_request(0, class, uid::STORAGE_COMMITMENT_INSTANCE, 1);
    assert!(pair.gateway.send(pair.now, Token(77), 1, report, Some(b"done")));
    pair.run();
    let Some(Output::Ask { token, request: Request::EventReport { event_type_id: 1, question } }) = pair.told.pop()
    else {
        panic!("no event report: {:?}", pair.told)
    };
    assert_eq!(question.data_set, b"done");
    pair.modality.handle_reply(pair.now, token, Reply::default());
    pair.run();
    let answered = pair.told.iter().any(|o| matches!(o, Output::Answered { token: Token(77), .. }));
    assert!(answered, "{:?}", pair.told);
}

#[test]
fn time_runs_out_for_whoever_says_nothing() {
    let settings = Settings::default();
    let now = Instant::now();
    let mut silent = Association::accept(now, settings);
    assert_eq!(silent.poll_timeout(), Some(now + settings.artim));
    silent.handle_timeout(now + settings.artim);
    let outputs: Vec<Output> = std::iter::from_fn(|| silent.poll_output()).collect();
    assert!(matches!(&outputs[..], [Output::Event(Event::Refused(_)), Output::Close(_)]), "{outputs:?}");

    let mut idle = opened(now, &USUAL);
    assert_eq!(idle.poll_timeout(), Some(now + settings.idle));
    // Half a message, and half a PDU.
    for half in [&message(3, &Command::store_request(1, CT, "1.2"), Some(b"d"), 0)[..90], &[kind::DATA]] {
        let mut stalled = opened(now, &USUAL);
        stalled.handle_bytes(now, half);
        while stalled.poll_output().is_some() {}
        assert_eq!(stalled.poll_timeout(), Some(now + settings.stall));
        stalled.handle_timeout(now + settings.stall);
        let aborted = Output::Send(pdu::abort(Abort::USER));
        assert!(std::iter::from_fn(|| stalled.poll_output()).any(|output| output == aborted));
        // It has ARTIM to close, whatever it still sends.
        let until = now + settings.stall + settings.artim;
        stalled.handle_bytes(until, b"more");
        assert_eq!(stalled.poll_timeout(), Some(until));
        stalled.handle_timeout(until);
        assert_eq!(stalled.poll_output(), Some(Output::Close(ENDED)));
    }
    idle.handle_timeout(now + settings.idle);
    assert!(idle.poll_output().is_some());
}

#[test]
fn a_question_that_nobody_answers_is_answered_with_a_failure() {
    let mut pair = Pair::new(&USUAL);
    pair.send(5, Command::find_request(0, uid::MODALITY_WORKLIST), Some(b"keys"));
    let (token, _) = pair.asked.pop().unwrap();
    pair.now = pair.gateway.poll_timeout().unwrap();
    pair.gateway.handle_timeout(pair.now);
    pair.run();
    assert_eq!(pair.status(), Some(status::PROCESSING_FAILURE));
    assert!(pair.told.contains(&Output::Cancel { token }));
    assert!(pair.gateway.is_idle());
}

#[test]
fn a_lost_connection_leaves_no_half_instance() {
    let now = Instant::now();
    let command = message(3, &Command::store_request(1, CT, "1.2.3"), None, 0);
    let mut half = command.clone();
    pdu::put_fragments(&mut half, 3, false, &[7; 5000], false, 256);
    let last_words = [vec![], pdu::abort(Abort::USER), pdu::release_rq(), vec![kind::DATA, 0, 0], vec![0xFF]];
    for words in last_words {
        for begun in [&half, &command] {
            let mut gateway = opened(now, &USUAL);
            gateway.handle_bytes(now, begun);
            gateway.handle_bytes(now, &words);
            gateway.handle_disconnect(now);
            let outputs: Vec<Output> = std::iter::from_fn(|| gateway.poll_output()).collect();
            let discarded = outputs.iter().filter(|o| matches!(o, Output::Discard { .. })).count();
            let committed = outputs.iter().filter(|o| matches!(o, Output::Commit { .. })).count();
            assert_eq!((discarded, committed), (1, 0), "{words:?}: {outputs:?}");
            assert!(gateway.poll_timeout().is_none());
        }
    }
}

#[test]
fn a_question_is_bounded_and_an_instance_is_not() {
    let now = Instant::now();
    let mut gateway = opened(now, &USUAL);
    let megabyte = vec![0; 1024 * 1024];
    let find = Command::find_request(1, uid::MODALITY_WORKLIST);
    gateway.handle_bytes(now, &message(5, &find, None, 0));
    for n in 0..10 {
        let mut bytes = Vec::new();
        pdu::put_fragments(&mut bytes, 5, false, &megabyte, n == 9, MAX_PDU);
        gateway.handle_bytes(now, &bytes);
    }
    assert_eq!(answered(&mut gateway), [status::RESOURCE_LIMITATION]);
}

#[test]
fn a_peer_that_takes_little_is_sent_little() {
    let now = Instant::now();
    let mut pair = Pair::with(&USUAL, Settings { max_pdu: 128, ..Settings::default() });
    pair.send(3, Command::store_request(0, CT, "1.2.3"), Some(&[1; 999]));
    assert_eq!((pair.status(), pair.stored[0].1.len()), (Some(0), 999));
    // It announced 7 bytes, in which nothing can be said.
    let mut gateway = Association::accept(now, Settings::default());
    let mut request = request(&USUAL);
    request.user.max_pdu = 7;
    gateway.handle_bytes(now, &request.write());
    gateway.handle_admission(now, Ok(()));
    gateway.handle_bytes(now, &message(1, &Command::echo_request(1), None, 0));
    assert_eq!(answered(&mut gateway), [status::SUCCESS]);
}

#[test]
fn a_caller_that_is_not_let_in_hears_why() {
    let now = Instant::now();
    for rejection in [Rejection::CALLING_AE_TITLE, Rejection::LOCAL_LIMIT] {
        let mut gateway = Association::accept(now, Settings::default());
        gateway.handle_bytes(now, &request(&USUAL).write());
        assert!(matches!(gateway.poll_output(), Some(Output::Associate(_))));
        gateway.handle_admission(now, Err(rejection));
        assert_eq!(gateway.poll_output(), Some(Output::Send(pdu::associate_rj(rejection))));
        let mut modality = Association::request(now, Settings::default(), &proposal(&USUAL));
        modality.poll_output();
        modality.handle_bytes(now, &pdu::associate_rj(rejection));
        assert!(matches!(modality.poll_output(), Some(Output::Event(Event::Refused(_)))));
        assert_eq!(modality.poll_output(), Some(Output::Close(ENDED)));
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_association() {
    let now = Instant::now();
    let echo = message(1, &Command::echo_request(1), None, 0);
    let store = message(3, &Command::store_request(1, CT, "1.2"), None, 0);
    let mut on_another = store.clone();
    on_another.extend(message(1, &Command::echo_request(1), None, 0));
    let too_long = [&[kind::DATA, 0][..], &(MAX_PDU + 1).to_be_bytes()].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a request on an open association", request(&USUAL).write()),
        ("a data set without a command", message(3, &Command::echo_request(1), None, 0)[..0].to_vec()),
        ("a context that was not agreed on", message(99, &Command::echo_request(1), None, 0)),
        ("two messages mixed", on_another),
        ("P-DATA that is too long", too_long),
        ("P-DATA without a fragment", pdu::pdu(kind::DATA, &[])),
        ("a fragment longer than its PDU", pdu::pdu(kind::DATA, &[0, 0, 0x13, 0x88, 3, 3, 0, 0])),
        ("a fragment of one byte", pdu::pdu(kind::DATA, &[0, 0, 0, 1, 3, 3])),
        ("no command set", pdu::pdu(kind::DATA, &[0, 0, 0, 4, 1, 3, 9, 9])),
    ];
    for (what, mut bytes) in cases {
        if bytes.is_empty() {
            pdu::put_fragments(&mut bytes, 3, false, b"data", true, 0);
        }
        let mut gateway = opened(now, &USUAL);
        gateway.handle_bytes(now, &bytes);
        let outputs: Vec<Output> = std::iter::from_fn(|| gateway.poll_output()).collect();
        let aborted = |o: &Output| matches!(o, Output::Send(bytes) if bytes[0] == kind::ABORT);
        assert!(outputs.iter().any(aborted), "{what}: {outputs:?}");
        assert!(outputs.iter().any(|o| matches!(o, Output::Event(Event::Refused(_)))), "{what}");
        gateway.handle_bytes(now, &echo);
        assert_eq!(gateway.poll_output(), None, "{what}: it is heard no further");
    }
}

#[test]
fn another_protocol_on_the_port_is_noticed_at_its_first_byte() {
    let now = Instant::now();
    for (first, hint) in [(0x16, "TLS"), (b'G', "web browser"), (0x0A, "unknown type")] {
        let mut gateway = Association::accept(now, Settings::default());
        gateway.handle_bytes(now, &[first]);
        let Some(Output::Event(Event::Refused(why))) = gateway.poll_output() else { panic!("{first:02X} passed") };
        assert!(why.contains(hint), "{why}");
        assert_eq!(gateway.poll_output(), Some(Output::Send(pdu::abort(Abort::UNRECOGNIZED_PDU))));
    }
}

proptest! {
    /// However the bytes are cut, the same comes of them.
    #[test]
    fn every_split_gives_the_same(cuts in proptest::collection::vec(1usize..200, 1..64)) {
        let transcript = transcript();
        prop_assert_eq!(converse(&transcript, &cuts), converse(&transcript, &[transcript.len()]));
    }

    /// Whatever comes, nothing panics, and no more is kept or handed out than came in.
    #[test]
    fn damaged_bytes_cost_nothing(
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..12),
        cuts in proptest::collection::vec(1usize..300, 1..16),
    ) {
        let mut transcript = transcript();
        for (at, value) in damage {
            let at = usize::from(at) % transcript.len();
            transcript[at] = value;
        }
        let (instances, ..) = converse(&transcript, &cuts);
        prop_assert!(instances.iter().map(Vec::len).sum::<usize>() <= transcript.len());
    }
}

/// A modality's side of a conversation with everything in it.
fn transcript() -> Vec<u8> {
    let mut bytes = request(&USUAL).write();
    bytes.extend(message(1, &Command::echo_request(1), None, 0));
    let data: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
    bytes.extend(message(3, &Command::store_request(2, CT, "1.2.3"), Some(&data), 700));
    bytes.extend(message(3, &Command::store_request(3, CT, "no uid"), Some(&data), 700));
    bytes.extend(message(5, &Command::find_request(4, uid::MODALITY_WORKLIST), Some(b"keys"), 64));
    bytes.extend(message(5, &Command::cancel_request(4), None, 0));
    bytes.extend(pdu::release_rq());
    bytes
}

/// What a gateway hands out and says when it hears these bytes in pieces of these lengths, over and over.
fn converse(bytes: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>, usize) {
    let now = Instant::now();
    let mut gateway = Association::accept(now, Settings::default());
    let (mut instances, mut sent, mut asked): (Vec<Vec<u8>>, Vec<u8>, usize) = Default::default();
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    loop {
        while let Some(output) = gateway.poll_output() {
            match output {
                Output::Send(bytes) => sent.extend(bytes),
                Output::Associate(_) => gateway.handle_admission(now, Ok(())),
                Output::Begin { .. } => instances.push(Vec::new()),
                Output::Data { bytes, .. } => instances.last_mut().unwrap().extend(bytes),
                Output::Commit { token } => gateway.handle_custody(now, Ok(&Proof(token))),
                Output::Ask { .. } => asked += 1,
                _ => {}
            }
        }
        assert!(gateway.backlog.len() <= bytes.len());
        if rest.is_empty() {
            return (instances, sent, asked);
        }
        if !gateway.wants_bytes() {
            // Nobody answers: the bytes that are left would only wait.
            return (instances, sent, asked);
        }
        let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
        gateway.handle_bytes(now, piece);
        rest = left;
    }
}

fn request(contexts: &[(&str, &[&str])]) -> AssociateRq {
    let mut modality = Association::request(Instant::now(), Settings::default(), &proposal(contexts));
    let Some(Output::Send(bytes)) = modality.poll_output() else { panic!("no request") };
    AssociateRq::read(&bytes[6..]).unwrap()
}

/// A gateway with an open association.
fn opened(now: Time, contexts: &[(&str, &[&str])]) -> Association {
    let mut gateway = Association::accept(now, Settings::default());
    gateway.handle_bytes(now, &request(contexts).write());
    gateway.handle_admission(now, Ok(()));
    while gateway.poll_output().is_some() {}
    gateway
}

/// The statuses of the answers a gateway has given.
fn answered(gateway: &mut Association) -> Vec<u16> {
    let mut modality = Splitter::new(MAX_PDU);
    let mut statuses = Vec::new();
    while let Some(output) = gateway.poll_output() {
        let Output::Send(bytes) = output else { continue };
        let (mut input, mut command) = (&bytes[..], Vec::new());
        while let Some(piece) = modality.next(&mut input).unwrap() {
            let Piece::Fragment(fragment) = piece else { continue };
            if fragment.is_command {
                command.extend_from_slice(fragment.bytes);
                if fragment.last {
                    let response = Command::read(&command).unwrap();
                    assert_ne!(response.field(), field::C_CANCEL_RQ);
                    statuses.push(response.status().unwrap());
                    command.clear();
                }
            }
        }
    }
    statuses
}
