use super::*;
use crate::fleet::envelope::{SigningKey, new_key, seal};
use crate::fleet::telemetry::{At, Failure};
use proptest::prelude::*;
use serde_json::Value;

const NOW_MS: i64 = 1_790_000_000_000;

fn stamp(after_s: i64) -> Stamp {
    Stamp { at: At::of_ms(NOW_MS + after_s * 1000), clock: Quality::Trusted }
}

fn ann() -> SigningKey {
    SigningKey::from_pkcs8("ann", &new_key(&[7; 32])).unwrap()
}

fn operators() -> Vec<Operator> {
    vec![Operator { kid: "ann".to_owned(), key: ann().public_key(), may: Operator::everything() }]
}

fn docket(store: &mut Store) -> Docket {
    let epoch = store.next_epoch().unwrap();
    Docket::new(&operators(), &Place::new("acme", "box-1").unwrap(), epoch, Outlives::default())
}

/// A signed command, and its id.
fn command(seq: u64, operation: Operation) -> (Vec<u8>, Id) {
    let id = Id::new(NOW_MS + seq as i64, [seq as u8; 10]);
    let at = |s: i64| Timestamp::from_millisecond(NOW_MS + s * 1000).unwrap();
    let command = Command {
        v: 1,
        id: id.to_string(),
        tenant: "acme".to_owned(),
        gateway: "box-1".to_owned(),
        issuer: "ann".to_owned(),
        seq,
        not_before: at(0),
        expires: at(600),
        operation,
    };
    (seal(&serde_json::to_vec(&command).unwrap(), Purpose::Command, &ann()), id)
}

/// What the outbox says of commands: which, phase, why.
fn said(store: &Store) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = store.events_after(0, 1000).unwrap();
    let events = events.iter().map(|waiting| serde_json::from_slice::<Value>(waiting.document.bytes()).unwrap());
    let of_commands = events.filter(|event| event["event"] == "command");
    of_commands.map(|event| (text(&event["command"]), text(&event["phase"]), text(&event["why"]))).collect()
}

#[test]
fn a_command_is_kept_run_and_reported_and_its_result_is_said_again_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let (bytes, id) = command(1, Operation::Ping);
    docket.take(&mut store, &bytes, stamp(1)).unwrap();
    docket.take(&mut store, &bytes, stamp(1)).unwrap();
    assert_eq!(said(&store), [], "there is nothing to say yet");
    let work = docket.next(&mut store, stamp(1)).unwrap().unwrap();
    assert_eq!(work, Work { id, operation: Operation::Ping });
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap(), None, "one at a time, and each once");
    docket.ended(&mut store, id, Outcome::Done, stamp(2)).unwrap();
    let done = (id.to_string(), "done".to_owned(), String::new());
    assert_eq!(said(&store), [done]);
    assert_eq!(docket.next(&mut store, stamp(3)).unwrap(), None);
    docket.take(&mut store, &bytes, stamp(99_999)).unwrap();
    let told = store.events_after(0, 10).unwrap();
    assert_eq!(told.len(), 1, "while it waits to be told it is not put once more");
    store.remove(&[told[0].row]).unwrap();
    docket.take(&mut store, &bytes, stamp(99_999)).unwrap();
    let again = store.events_after(0, 10).unwrap();
    assert_eq!(again[0].document, told[0].document, "the same event, under the same id");
}

#[test]
fn what_is_not_obeyed_is_answered_once_signed_and_only_counted_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let (late, id) = command(1, Operation::Restart);
    docket.take(&mut store, &late, stamp(601)).unwrap();
    assert_eq!(said(&store), [(id.to_string(), "refused".to_owned(), "expired".to_owned())]);
    let unknown = seal(br#"{"v":1,"do":{"op":"shell"}}"#, Purpose::Command, &ann());
    docket.take(&mut store, &unknown, stamp(1)).unwrap();
    assert_eq!(said(&store)[1], (String::new(), "refused".to_owned(), "unknown".to_owned()));
    let eve = SigningKey::from_pkcs8("eve", &new_key(&[9; 32])).unwrap();
    for _ in 0..1000 {
        docket.take(&mut store, &seal(b"{}", Purpose::Command, &eve), stamp(1)).unwrap();
    }
    assert_eq!(store.waiting().unwrap(), 2 + 10, "a flood is told of at its 1st, 2nd, 4th, 8th ... command");
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap(), None);
}

#[test]
fn commands_that_went_astray_do_not_fill_the_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let epoch = store.next_epoch().unwrap();
    let mut other = Docket::new(&operators(), &Place::new("acme", "box-2").unwrap(), epoch, Outlives::default());
    for seq in 1..=1000 {
        other.take(&mut store, &command(seq % 200, Operation::Ping).0, stamp(1)).unwrap();
    }
    let all = said(&store);
    assert!(all.iter().all(|(_, phase, why)| phase == "refused" && why == "not-mine"), "{all:?}");
    assert_eq!((all.len(), all[0].0.is_empty()), (10, false), "the 1st, 2nd, 4th, 8th ... is told");
    // Others under the id of one that was taken are counted with them.
    let mut mine = docket(&mut store);
    let first = command(1, Operation::Ping).0;
    mine.take(&mut store, &first, stamp(1)).unwrap();
    for _ in 0..100 {
        mine.take(&mut store, &command(1, Operation::Restart).0, stamp(1)).unwrap();
    }
    let others = said(&store).into_iter().filter(|(_, _, why)| why == "other-content");
    assert_eq!(others.count(), 7);
    // And so is what cannot be read, ever so often.
    let mut mine = docket(&mut store);
    let unknown = seal(br#"{"v":1,"do":{"op":"shell"}}"#, Purpose::Command, &ann());
    for _ in 0..100 {
        mine.take(&mut store, &unknown, stamp(1)).unwrap();
    }
    assert_eq!(said(&store).iter().filter(|(_, _, why)| why == "unknown").count(), 7);
}

#[test]
fn a_replay_is_refused_even_after_the_command_was_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let (bytes, id) = command(5, Operation::Ping);
    docket.take(&mut store, &bytes, stamp(1)).unwrap();
    docket.next(&mut store, stamp(1)).unwrap().unwrap();
    docket.ended(&mut store, id, Outcome::Done, stamp(1)).unwrap();
    // A clock that was wrong for a while forgets too early.
    docket.take(&mut store, &command(6, Operation::Ping).0, stamp(31 * 86_400)).unwrap();
    docket.take(&mut store, &bytes, stamp(2)).unwrap();
    let refused = (id.to_string(), "refused".to_owned(), "replayed".to_owned());
    assert_eq!(said(&store).last(), Some(&refused));
}

#[test]
fn a_restart_is_done_when_another_process_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut before = docket(&mut store);
    let (bytes, id) = command(1, Operation::Restart);
    before.take(&mut store, &bytes, stamp(1)).unwrap();
    before.next(&mut store, stamp(1)).unwrap().unwrap();
    before.ended(&mut store, id, Outcome::Done, stamp(1)).unwrap();
    assert_eq!(said(&store), [], "this process still runs");
    assert_eq!(before.next(&mut store, stamp(1)).unwrap(), None);
    let mut after = docket(&mut store);
    assert_eq!(after.next(&mut store, stamp(5)).unwrap(), None);
    assert_eq!(said(&store), [(id.to_string(), "done".to_owned(), String::new())]);
}

#[test]
fn a_restart_that_the_machine_refuses_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let (bytes, id) = command(1, Operation::Restart);
    docket.take(&mut store, &bytes, stamp(1)).unwrap();
    docket.next(&mut store, stamp(1)).unwrap().unwrap();
    let failed = Outcome::Failed { failure: Failure::System };
    docket.ended(&mut store, id, failed, stamp(1)).unwrap();
    assert_eq!(said(&store), [(id.to_string(), "failed".to_owned(), String::new())]);
}

#[test]
fn i10_commands_that_come_faster_than_they_are_run_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    for seq in 1..=OPEN_MAX + 3 {
        docket.take(&mut store, &command(seq, Operation::Ping).0, stamp(1)).unwrap();
    }
    let busy = said(&store).iter().filter(|(_, phase, why)| phase == "refused" && why == "busy").count();
    assert_eq!(busy, 3);
}

#[test]
fn where_its_result_would_find_no_room_a_command_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::with_room_for(dir.path(), 2).unwrap();
    let mut docket = docket(&mut store);
    let (first, id) = command(1, Operation::Ping);
    docket.take(&mut store, &first, stamp(1)).unwrap();
    for seq in [0, 1] {
        let other = seal(format!("{{\"v\":{seq}}}").as_bytes(), Purpose::Command, &ann());
        docket.take(&mut store, &other, stamp(1)).unwrap();
    }
    let (second, _) = command(2, Operation::Ping);
    assert!(matches!(docket.take(&mut store, &second, stamp(1)), Err(StoreError::Full)));
    docket.next(&mut store, stamp(1)).unwrap().unwrap();
    docket.ended(&mut store, id, Outcome::Done, stamp(1)).unwrap();
    assert_eq!(said(&store).len(), 3, "the result of what was taken has room");
    store.remove(&[1, 2]).unwrap();
    docket.take(&mut store, &second, stamp(1)).unwrap();
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Comes(u64),
    Runs,
    Acts,
    Ends,
    Restarts,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Commands that come in any order and again, and a program that ends at any moment: what may not act twice does not,
    /// and each command ends in one way, which is said.
    #[test]
    fn each_command_ends_once_whatever_happens_in_between(steps in proptest::collection::vec(
        prop_oneof![
            (1_u64..6).prop_map(Step::Comes), Just(Step::Runs), Just(Step::Acts), Just(Step::Ends), Just(Step::Restarts)
        ],
        1..40,
    )) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut docket = docket(&mut store);
        let mut acts = std::collections::BTreeMap::<Id, u32>::new();
        let mut work: Option<(Work, bool)> = None;
        // Odd ones may run again, even ones end the program.
        let operation = |seq: u64| if seq % 2 == 1 { Operation::QueueStats } else { Operation::Restart };
        for step in steps {
            match step {
                Step::Comes(seq) => docket.take(&mut store, &command(seq, operation(seq)).0, stamp(1)).unwrap(),
                Step::Runs => if let Some(next) = docket.next(&mut store, stamp(1)).unwrap() {
                    prop_assert!(work.is_none());
                    work = Some((next, false));
                },
                Step::Acts => if let Some((work, acted)) = work.as_mut().filter(|(_, acted)| !acted) {
                    *acts.entry(work.id).or_default() += 1;
                    *acted = true;
                },
                Step::Ends => if let Some((ended, true)) = &work {
                    docket.ended(&mut store, ended.id, Outcome::Done, stamp(2)).unwrap();
                    // A restart stays in hand until the program ends.
                    if ended.operation != Operation::Restart {
                        work = None;
                    }
                },
                Step::Restarts => {
                    docket = Docket::new(&operators(), &docket.place.clone(), store.next_epoch().unwrap(), Outlives::default());
                    work = None;
                }
            }
        }
        let mut ended = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
        for (id, phase, _) in said(&store) {
            ended.entry(id).or_default().insert(phase);
        }
        prop_assert!(ended.values().all(|phases| phases.len() == 1), "{ended:?}");
        for seq in [2, 4] {
            prop_assert!(acts.get(&command(seq, operation(seq)).1).copied().unwrap_or_default() <= 1);
        }
    }
}

/// Two operators' signatures are the admission's business: one is enough to put it there.
fn reset_command(store: &mut Store, docket: &Docket, seq: u64) -> Id {
    let (_, id) = command(seq, Operation::FactoryReset { discard: 0 });
    let at = |s: i64| Timestamp::from_millisecond(NOW_MS + s * 1000).unwrap();
    let command = Command {
        v: 1,
        id: id.to_string(),
        tenant: "acme".to_owned(),
        gateway: "box-1".to_owned(),
        issuer: "ann".to_owned(),
        seq,
        not_before: at(0),
        expires: at(600),
        operation: Operation::FactoryReset { discard: 0 },
    };
    let document = serde_json::to_vec(&command).unwrap();
    store.change(|tx| accept(tx, &command, &document, Digest::of(&document), docket.epoch)).unwrap();
    id
}

fn found() -> Undelivered {
    Undelivered { queued: 3, newest: 7, ..Undelivered::default() }
}

#[test]
fn a_reset_has_left_when_the_broker_has_its_answer_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let id = reset_command(&mut store, &docket, 1);
    docket.next(&mut store, stamp(1)).unwrap().unwrap();
    assert_eq!(resets(dir.path()), None);
    docket.ended(&mut store, id, Outcome::Resets { found: found() }, stamp(1)).unwrap();
    assert_eq!(said(&store), [(id.to_string(), "leaving".to_owned(), String::new())]);
    assert!(!docket.has_left(&mut store, stamp(2)).unwrap());
    assert_eq!((docket.next(&mut store, stamp(2)).unwrap(), resets(dir.path())), (None, None));
    // Another process goes on waiting, and says nothing twice.
    docket = self::docket(&mut store);
    assert_eq!((docket.next(&mut store, stamp(3)).unwrap(), store.waiting().unwrap()), (None, 1));
    let row = store.events_after(0, 10).unwrap()[0].row;
    store.remove(&[row]).unwrap();
    assert!(docket.has_left(&mut store, stamp(4)).unwrap());
    assert!(!docket.has_left(&mut store, stamp(4)).unwrap(), "it ends the process once");
    assert_eq!(resets(dir.path()), Some(found()));
    // A start that did not reset says so.
    docket = self::docket(&mut store);
    assert_eq!(docket.next(&mut store, stamp(5)).unwrap(), None);
    assert_eq!(said(&store), [(id.to_string(), "failed".to_owned(), String::new())]);
    assert_eq!(resets(dir.path()), None);
}

#[test]
fn a_reset_whose_answer_comes_too_late_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let id = reset_command(&mut store, &docket, 1);
    docket.next(&mut store, stamp(1)).unwrap().unwrap();
    docket.ended(&mut store, id, Outcome::Resets { found: Default::default() }, stamp(1)).unwrap();
    assert!(!docket.has_left(&mut store, stamp(601)).unwrap());
    let phases: Vec<_> = said(&store).into_iter().map(|(_, phase, _)| phase).collect();
    assert_eq!(phases, ["leaving", "expired"]);
    store.events_after(0, 10).unwrap().iter().for_each(|event| store.remove(&[event.row]).unwrap());
    assert!(!docket.has_left(&mut store, stamp(602)).unwrap());
    assert_eq!(resets(dir.path()), None);
}

#[test]
fn nothing_that_was_signed_before_a_reset_counts_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(super::super::outlives::FILE), format!(r#"{{"epoch":7,"reset_ms":{NOW_MS}}}"#))
        .unwrap();
    let outlives = Outlives::read(dir.path());
    let mut store = Store::open(dir.path()).unwrap();
    let epoch = store.next_epoch_after(outlives.epoch()).unwrap();
    assert_eq!(epoch, 8);
    let mut docket = Docket::new(&operators(), &Place::new("acme", "box-1").unwrap(), epoch, outlives);
    let (bytes, id) = command(1, Operation::Ping);
    docket.take(&mut store, &bytes, stamp(1)).unwrap();
    assert_eq!(said(&store), [(id.to_string(), "refused".to_owned(), "before-reset".to_owned())]);
}

#[test]
fn a_capture_hinders_no_other_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let capture = || Operation::Capture { link: "chemistry".to_owned(), seconds: 300, reveal: false };
    let put = |store: &mut Store, docket: &Docket, seq, operation: Operation| {
        let id = reset_command(store, docket, seq);
        let sql = "UPDATE command SET document = CAST(json_set(CAST(document AS TEXT), '$.do', json(?2)) AS BLOB) WHERE id = ?1";
        let operation = serde_json::to_string(&operation).unwrap();
        store.change(|tx| tx.execute(sql, (id.to_string(), operation))).unwrap();
        id
    };
    let [first, ping, second] = [capture(), Operation::Ping, capture()]
        .into_iter()
        .enumerate()
        .map(|(n, operation)| put(&mut store, &docket, n as u64 + 1, operation))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap().map(|work| work.id), Some(first));
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap().map(|work| work.id), Some(ping), "beside it");
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap(), None);
    docket.ended(&mut store, ping, Outcome::Done, stamp(2)).unwrap();
    // A second at the same time is told so, in place of holding up what comes behind it.
    assert_eq!(docket.next(&mut store, stamp(2)).unwrap(), None);
    docket.ended(&mut store, first, Outcome::Done, stamp(3)).unwrap();
    let wanted = [(ping, "done"), (second, "failed"), (first, "done")];
    let wanted = wanted.map(|(id, phase)| (id.to_string(), phase.to_owned(), String::new()));
    assert_eq!(said(&store), wanted);
}

#[test]
fn a_capture_that_runs_beside_it_hinders_no_reset() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let capture = reset_command(&mut store, &docket, 1);
    let sql = "UPDATE command SET document = CAST(json_set(CAST(document AS TEXT), '$.do', json(?1)) AS BLOB)";
    let operation = Operation::Capture { link: "chemistry".to_owned(), seconds: 300, reveal: false };
    store.change(|tx| tx.execute(sql, [serde_json::to_string(&operation).unwrap()])).unwrap();
    let reset = reset_command(&mut store, &docket, 2);
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap().map(|work| work.id), Some(capture));
    assert_eq!(docket.next(&mut store, stamp(1)).unwrap().map(|work| work.id), Some(reset));
    docket.ended(&mut store, reset, Outcome::Resets { found: found() }, stamp(1)).unwrap();
    let row = store.events_after(0, 10).unwrap()[0].row;
    assert_eq!(resets(dir.path()), None);
    store.remove(&[row]).unwrap();
    assert!(docket.has_left(&mut store, stamp(2)).unwrap());
    assert_eq!(resets(dir.path()), Some(found()));
}

#[test]
fn a_reset_is_not_done_twice_though_the_desks_clock_is_ahead_or_the_boxs_is_worth_nothing() {
    let (bytes, id) = command(1, Operation::Ping);
    let now = Timestamp::from_millisecond(NOW_MS - 49_000).unwrap();
    for now in [Some(now), None] {
        let before = tempfile::tempdir().unwrap();
        let mut store = Store::open(before.path()).unwrap();
        docket(&mut store).take(&mut store, &bytes, stamp(-50)).unwrap();
        assert_eq!(said(&store), [], "it counts from a moment that comes yet");
        let outlives = Outlives::at(before.path(), now);
        let after = tempfile::tempdir().unwrap();
        std::fs::write(after.path().join(super::super::outlives::FILE), outlives.bytes()).unwrap();
        let mut store = Store::open(after.path()).unwrap();
        let epoch = store.next_epoch_after(outlives.epoch()).unwrap();
        let place = Place::new("acme", "box-1").unwrap();
        let mut docket = Docket::new(&operators(), &place, epoch, Outlives::read(after.path()));
        docket.take(&mut store, &bytes, stamp(-40)).unwrap();
        assert_eq!(said(&store), [(id.to_string(), "refused".to_owned(), "before-reset".to_owned())], "{now:?}");
    }
}

#[test]
fn i12_a_command_that_ends_the_program_is_given_up_and_those_behind_it_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (deadly, id) = command(1, Operation::QueueStats);
    let (behind, other) = command(2, Operation::Ping);
    let mut first = docket(&mut store);
    first.take(&mut store, &deadly, stamp(1)).unwrap();
    first.take(&mut store, &behind, stamp(1)).unwrap();
    assert_eq!(first.next(&mut store, stamp(1)).unwrap().unwrap().id, id);
    assert_eq!(docket(&mut store).next(&mut store, stamp(2)).unwrap().unwrap().id, id, "once more");
    assert_eq!(docket(&mut store).next(&mut store, stamp(3)).unwrap().unwrap().id, other);
    assert_eq!(said(&store), [(id.to_string(), "interrupted".to_owned(), String::new())]);
}

#[test]
fn a_command_that_another_version_took_fails_and_those_behind_it_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let [(newer, id), (behind, other)] = [command(1, Operation::QueueStats), command(2, Operation::Ping)];
    docket.take(&mut store, &newer, stamp(1)).unwrap();
    docket.take(&mut store, &behind, stamp(1)).unwrap();
    let sql = "UPDATE command SET document = replace(CAST(document AS TEXT), 'queue-stats', 'sing') WHERE n = 1";
    store.change(|tx| tx.execute(sql, ())).unwrap();
    assert_eq!(docket.next(&mut store, stamp(2)).unwrap().unwrap().id, other);
    assert_eq!(said(&store), [(id.to_string(), "failed".to_owned(), "unknown".to_owned())]);
}

#[test]
fn what_was_refused_by_a_clock_worth_nothing_stays_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut docket = docket(&mut store);
    let (bytes, id) = command(1, Operation::QueueStats);
    let unset = Stamp { at: At::of_ms(0), clock: Quality::Unset };
    docket.take(&mut store, &bytes, unset).unwrap();
    let told = store.events_after(0, 10).unwrap();
    store.remove(&[told[0].row]).unwrap();
    docket.take(&mut store, &bytes, stamp(5)).unwrap();
    assert_eq!(docket.next(&mut store, stamp(5)).unwrap(), None);
    assert_eq!(said(&store), [(id.to_string(), "refused".to_owned(), "no-clock".to_owned())]);
}
