//! Filing, lanes, holds, the loss account.

use super::*;

fn bodies(rows: &[Outbound]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8(row.body.clone()).unwrap()).collect()
}

fn retry(after: Duration) -> Settlement {
    Settlement::Retry { after, reason: "AE".to_string() }
}

#[test]
fn i6_a_lane_is_claimed_in_order_and_an_unsettled_row_not_twice() {
    let mut bench = Bench::new();
    bench.filed(1, &["A", "B"], 0);
    bench.filed(2, &["A"], 0);
    let claimed = bench.claim(10);
    assert_eq!(bodies(&claimed), ["MSH 1 0 A", "MSH 2 0 A", "MSH 1 1 B"]);
    assert!(bench.claim(10).is_empty());
}

#[test]
fn i7_what_came_again_complete_is_covered_in_the_commit_that_files_it() {
    let mut bench = Bench::new();
    bench.filed(1, &[], 2);
    let holds: Vec<HoldId> = bench.journal.reader().unwrap().holds(10).unwrap().iter().map(|h| h.id).collect();
    bench.persist(2, b"complete", true).unwrap();
    let entry = bench.pending()[0].id;
    bench
        .journal
        .file(Filing {
            covers: holds.into_iter().map(|hold| (hold, "covered".to_string())).collect(),
            ..filing(entry, &["A"], 0)
        })
        .unwrap();
    let bench = bench.restart();
    let account = bench.account();
    assert_eq!((account.held, account.repeated, account.queued, account.missing()), (0, 2, 1, 0));
}

#[test]
fn i6_a_failed_head_holds_its_lane_back_and_no_other() {
    let mut bench = Bench::new();
    bench.filed(1, &["A", "B"], 0);
    bench.filed(2, &["A"], 0);
    let head = bench.claim(1)[0].clone();
    bench.settle(head.id, retry(Duration::from_secs(3600)));
    assert_eq!(bodies(&bench.claim(10)), ["MSH 1 1 B"]);
    assert!(bench.runtime.block_on(bench.journal.next_due(EHR)).unwrap().is_some());
    let bench = bench.restart();
    let again = bench.claim(10);
    assert_eq!(bodies(&again), ["MSH 1 0 A", "MSH 2 0 A", "MSH 1 1 B"], "after a restart everything is due");
    assert_eq!((again[0].attempts, &again[0].message_id), (1, &head.message_id));
}

#[test]
fn a_pause_that_is_over_makes_the_lane_due_again() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    let head = bench.claim(1)[0].id;
    bench.settle(head, retry(Duration::ZERO));
    assert_eq!(bench.claim(1)[0].id, head);
    bench.settle(head, Settlement::Return);
    assert_eq!(bench.claim(1)[0].attempts, 1, "a return is not an attempt");
}

#[test]
fn i5_a_parked_message_goes_again_with_the_same_id_and_bytes() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    bench.filed(2, &["A"], 0);
    let first = bench.claim(1)[0].clone();
    bench.settle(first.id, Settlement::Park { reason: "AR".to_string() });
    assert_eq!(bench.account().parked, 1);
    assert_eq!(bench.journal.reader().unwrap().waiting_specimens().unwrap(), ["A"]);
    let done = bench.journal.operate(OperatorAction::Requeue { outbox: vec![first.id] }).unwrap();
    assert_eq!(done.done, 1);
    let again = bench.claim(10);
    assert_eq!((again[0].id, &again[0].message_id, &again[0].body), (first.id, &first.message_id, &first.body));
    assert_eq!(again.len(), 2, "the lane goes on behind it");
}

#[test]
fn i6_a_parked_message_that_was_corrected_since_is_not_sent_again() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    let first = bench.claim(1)[0].id;
    bench.settle(first, Settlement::Park { reason: "AR".to_string() });
    bench.persist(2, b"correction", true).unwrap();
    let mut correction = filing(bench.pending()[0].id, &["A"], 0);
    correction.reports[0].subject_key = b"A 0 1".to_vec();
    bench.journal.file(correction).unwrap();
    let refused = bench.journal.operate(OperatorAction::Requeue { outbox: vec![first] }).unwrap();
    assert_eq!((refused.done, refused.skipped.len()), (0, 1));
}

#[test]
fn i7_the_account_balances_after_every_step() {
    let mut bench = Bench::new();
    let balanced = |bench: &Bench, expected: Account| {
        assert_eq!(bench.account(), expected);
        assert_eq!(expected.missing(), 0);
    };
    bench.filed(1, &["A", "B", "C"], 2);
    let mut account = Account { received: 5, queued: 3, held: 2, ..Account::default() };
    balanced(&bench, account);
    let rows = bench.claim(10);
    bench.deliver(rows[0].id);
    (account.queued, account.delivered) = (2, 1);
    balanced(&bench, account);
    bench.deliver(rows[0].id);
    balanced(&bench, account);
    bench.settle(rows[1].id, Settlement::Park { reason: "AR".to_string() });
    (account.queued, account.parked) = (1, 1);
    balanced(&bench, account);
    let discard = OperatorAction::Discard {
        holds: vec![HoldId(1)],
        outbox: vec![rows[1].id],
        images: vec![],
        reason: "test".into(),
    };
    assert_eq!(bench.journal.operate(discard).unwrap().done, 2);
    (account.parked, account.held, account.refused) = (0, 1, 2);
    balanced(&bench, account);
    bench.journal.operate(OperatorAction::Release { holds: vec![HoldId(2)], note: String::new() }).unwrap();
    balanced(&bench, account);
    let released = bench.journal.reader().unwrap().released(10).unwrap();
    assert_eq!((released.len(), released[0].observations.as_slice()), (1, &[1][..]));
    let row = filing(EntryId(1), &["A"], 0).reports.remove(0).outbox.remove(0);
    bench.journal.file_release(ReleaseFiling::sent(&released[0], vec![row.clone()], Vec::new())).unwrap();
    bench.journal.file_release(ReleaseFiling::sent(&released[0], vec![row], Vec::new())).unwrap();
    (account.held, account.queued) = (0, 2);
    balanced(&bench, account);
    let bench = bench.restart();
    balanced(&bench, account);
}

#[test]
fn an_entry_is_filed_once_and_again_only_on_a_persons_order() {
    let mut bench = Bench::new();
    bench.persist(1, b"x", true).unwrap();
    let entry = bench.pending()[0].id;
    assert_eq!(bench.journal.file(filing(entry, &["A"], 1)).unwrap().reports.len(), 2);
    assert!(bench.journal.file(filing(entry, &["A"], 1)).unwrap().reports.is_empty());
    assert!(bench.pending().is_empty());
    assert_eq!(bench.journal.operate(OperatorAction::Replay { entries: vec![entry] }).unwrap().done, 1);
    assert_eq!(bench.pending()[0].replays, 1);
    bench.journal.file(filing(entry, &["A"], 1)).unwrap();
    let account = bench.account();
    assert_eq!((account.held, account.repeated, account.missing()), (1, 1, 0), "the first reading's hold is covered");
}

#[test]
fn the_same_report_again_is_recognised_by_what_it_says() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    let reader = bench.journal.reader().unwrap();
    let latest = reader.latest_of(LINK, b"A 0 1").unwrap().unwrap();
    assert!(latest.same_content(b"5.0") && !latest.same_content(b"5.1"));
    assert!(reader.latest_of("other", b"A 0 1").unwrap().is_none());
}

#[test]
fn a_damaged_message_is_parked_and_its_lane_goes_on() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    bench.filed(2, &["A"], 0);
    bench.sabotage().execute("UPDATE outgoing SET body = zeroblob(60) WHERE id = 1", []).unwrap();
    assert_eq!(bodies(&bench.claim(10)), ["MSH 2 0 A"]);
    assert_eq!((bench.account().parked, bench.account().missing()), (1, 0));
}
