use super::*;
use crate::fleet::envelope::{self, Operator, Purpose, SigningKey, new_key};
use proptest::prelude::*;

const ID: &str = "01936f0e-7a10-7000-8000-000000000001";
const ME: Me<'_> = Me { tenant: "acme", gateway: "box-1" };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn command(operation: Operation) -> Command {
    Command {
        v: 1,
        id: ID.to_owned(),
        tenant: "acme".to_owned(),
        gateway: "box-1".to_owned(),
        issuer: "ann".to_owned(),
        seq: 7,
        not_before: at(0),
        expires: at(600),
        operation,
    }
}

fn discard() -> Operation {
    Operation::DiscardParked { destination: "ehr".to_owned(), reason: "tests".to_owned() }
}

fn signed(command: &Command, kids: &[&str]) -> Signed {
    let document = serde_json::to_vec(command).unwrap();
    let keys: Vec<SigningKey> =
        kids.iter().map(|kid| SigningKey::from_pkcs8(kid, &new_key(&[kid.len() as u8; 32])).unwrap()).collect();
    let operators: Vec<Operator> = keys
        .iter()
        .map(|key| Operator { kid: key.kid().to_owned(), key: key.public_key(), may: [Purpose::Command].into() })
        .collect();
    let mut bytes = envelope::seal(&document, Purpose::Command, &keys[0]);
    for key in &keys[1..] {
        bytes = envelope::countersign(&bytes, Purpose::Command, key).unwrap();
    }
    envelope::open(&bytes, Purpose::Command, &operators).unwrap()
}

fn verdict(command: &Command, kids: &[&str], known: &Known, now: Option<Timestamp>) -> Result<Verdict, Refusal> {
    let signed = signed(command, kids);
    judge(&read(&signed)?, &signed, ME, known, now)
}

#[test]
fn the_document_is_what_the_desk_writes_and_nothing_more_is_understood() {
    let written = serde_json::to_string(&command(Operation::RetryParked { destination: "ehr".to_owned() })).unwrap();
    let expected = r#"{"v":1,"id":"01936f0e-7a10-7000-8000-000000000001","tenant":"acme","gateway":"box-1","issuer":"ann","seq":7,"not_before":"2026-09-21T14:13:20Z","expires":"2026-09-21T14:23:20Z","do":{"op":"retry-parked","args":{"destination":"ehr"}}}"#;
    assert_eq!(written, expected);
    let read_text = |text: &str| {
        read(&Signed { document: text.as_bytes().to_vec(), signers: ["ann".to_owned()].into() }).map(|c| c.operation)
    };
    assert!(read_text(expected).is_ok());
    // As boxes understand it that know of no operating systems.
    let alone = Operation::UpdateInstall { version: "1.2.0".to_owned(), system: None };
    let alone = serde_json::to_string(&alone).unwrap();
    assert_eq!(alone, r#"{"op":"update-install","args":{"version":"1.2.0"}}"#);
    for (from, to, why) in [
        (r#""v":1"#, r#""v":2"#, Refusal::Unknown),
        (r#""seq":7"#, r#""seq":7,"more":1"#, Refusal::Unknown),
        ("retry-parked", "run-shell", Refusal::Unknown),
        (r#""destination""#, r#""path""#, Refusal::Unknown),
        (ID, "../../etc/passwd", Refusal::Unknown),
        (r#""issuer":"ann""#, r#""issuer":"bob""#, Refusal::NotItsIssuer),
    ] {
        assert_eq!(read_text(&expected.replace(from, to)), Err(why), "{to}");
    }
}

#[test]
fn a_command_is_obeyed_by_its_box_in_its_time_in_its_order_once() {
    let ping = command(Operation::Restart);
    let fresh = Known::default();
    let now = Some(at(10));
    assert_eq!(verdict(&ping, &["ann"], &fresh, now), Ok(Verdict::Accept));
    let refused = [
        (Command { gateway: "box-2".to_owned(), ..ping.clone() }, now, Refusal::NotMine),
        (Command { tenant: "other".to_owned(), ..ping.clone() }, now, Refusal::NotMine),
        (ping.clone(), Some(at(601)), Refusal::Expired),
        (ping.clone(), Some(at(-61)), Refusal::NotYet),
        (ping.clone(), None, Refusal::NoClock),
        (Command { expires: at(8 * 86_400), ..ping.clone() }, now, Refusal::Lifetime),
        (Command { expires: at(0), ..ping.clone() }, Some(at(0)), Refusal::Lifetime),
    ];
    for (command, now, why) in refused {
        assert_eq!(verdict(&command, &["ann"], &fresh, now), Err(why), "{why}");
    }
    for (last_seq, expected) in [(6, Ok(Verdict::Accept)), (7, Err(Refusal::Replayed)), (8, Err(Refusal::Replayed))] {
        let known = Known { last_seq: Some(last_seq), ..fresh.clone() };
        assert_eq!(verdict(&ping, &["ann"], &known, now), expected, "after {last_seq}");
    }
    assert_eq!(verdict(&ping, &["ann"], &Known { full: true, ..fresh }, now), Err(Refusal::Busy));
}

#[test]
fn what_is_known_is_answered_again_however_late_unless_it_says_something_else() {
    let restart = command(Operation::Restart);
    let known = Known { digest: Some(signed(&restart, &["ann"]).digest()), last_seq: Some(9), reset: None, full: true };
    assert_eq!(verdict(&restart, &["ann"], &known, Some(at(99_999))), Ok(Verdict::Repeat));
    assert_eq!(verdict(&restart, &["ann"], &known, None), Ok(Verdict::Repeat));
    let other = Command { operation: Operation::Ping, ..restart };
    assert_eq!(verdict(&other, &["ann"], &known, Some(at(1))), Err(Refusal::OtherContent));
}

#[test]
fn dangerous_ones_take_two_operators() {
    let discard = command(discard());
    let now = Some(at(1));
    assert_eq!(verdict(&discard, &["ann"], &Known::default(), now), Err(Refusal::TooFewSignatures));
    assert_eq!(verdict(&discard, &["ann", "ann"], &Known::default(), now), Err(Refusal::TooFewSignatures));
    assert_eq!(verdict(&discard, &["ann", "robert"], &Known::default(), now), Ok(Verdict::Accept));
}

#[test]
fn a_box_that_does_not_know_the_time_answers_a_ping_and_nothing_else() {
    let every = [
        Operation::Ping,
        Operation::Report,
        Operation::QueueStats,
        Operation::RetryParked { destination: "ehr".to_owned() },
        Operation::Restart,
    ];
    for operation in every {
        let wanted = if operation == Operation::Ping { Ok(Verdict::Accept) } else { Err(Refusal::NoClock) };
        assert_eq!(verdict(&command(operation.clone()), &["ann"], &Known::default(), None), wanted, "{operation:?}");
    }
}

#[test]
fn a_crash_runs_again_what_may_be_run_again_and_says_so_of_the_rest() {
    let now = Some(at(10));
    let once = command(discard());
    let again = command(Operation::QueueStats);
    let restart = command(Operation::Restart);
    assert_eq!(resume(&again, Phase::Running, false, now), Next::Run(Phase::RunningAgain));
    assert_eq!(resume(&again, Phase::RunningAgain, false, now), Next::End(Phase::Interrupted), "it may be the cause");
    assert_eq!(resume(&once, Phase::Running, false, now), Next::End(Phase::Interrupted));
    assert_eq!(resume(&restart, Phase::Running, false, now), Next::End(Phase::Done));
    assert_eq!(resume(&restart, Phase::Running, true, now), Next::Run(Phase::Running), "the process did not end yet");
    for command in [&once, &again, &restart] {
        assert_eq!(resume(command, Phase::Accepted, false, now), Next::Run(Phase::Running));
        assert_eq!(resume(command, Phase::Accepted, false, Some(at(601))), Next::End(Phase::Expired));
        assert_eq!(resume(command, Phase::Accepted, false, None), Next::End(Phase::Expired));
        // Begun in time, it is finished however late the box comes back.
        assert_ne!(resume(command, Phase::Running, false, Some(at(9999))), Next::End(Phase::Expired));
    }
}

/// What the durable store of a box holds, and what really happened.
#[derive(Default)]
struct Model {
    row: Option<(Phase, u32)>,
    last_seq: Option<u64>,
    effects: u32,
    process: u32,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrives,
    Begins,
    Acts,
    Ends,
    Crashes,
}

proptest! {
    /// Whatever the order of arrivals and crashes, a `once` command acts at most once, and one that ended stays ended.
    #[test]
    fn no_command_acts_twice(events in proptest::collection::vec(
        prop_oneof![Just(Event::Arrives), Just(Event::Begins), Just(Event::Acts), Just(Event::Ends), Just(Event::Crashes)],
        0..60,
    )) {
        let once = command(discard());
        let signed = signed(&once, &["ann"]);
        let mut box_ = Model::default();
        // What this process does in memory: nothing, runs it, ran it.
        let mut running = None;
        for event in events {
            match event {
                Event::Arrives => {
                    let digest = box_.row.map(|_| signed.digest());
                    let known = Known { digest, last_seq: box_.last_seq, ..Known::default() };
                    if judge(&once, &signed, ME, &known, Some(at(5))) == Ok(Verdict::Accept) {
                        prop_assert!(box_.row.is_none());
                        box_.row = Some((Phase::Accepted, box_.process));
                        box_.last_seq = Some(once.seq);
                    }
                }
                Event::Begins => if let (Some((phase, by)), None) = (box_.row, running) {
                    match resume(&once, phase, by == box_.process, Some(at(5))) {
                        Next::Run(phase) => {
                            box_.row = Some((phase, box_.process));
                            running = Some(false);
                        }
                        Next::End(ended) => box_.row = Some((ended, by)),
                    }
                },
                Event::Acts => if running == Some(false) {
                    box_.effects += 1;
                    running = Some(true);
                },
                Event::Ends => if running == Some(true) {
                    box_.row = Some((Phase::Done, box_.process));
                    running = None;
                },
                Event::Crashes => {
                    running = None;
                    box_.process += 1;
                }
            }
            prop_assert!(box_.effects <= 1);
        }
    }
}
