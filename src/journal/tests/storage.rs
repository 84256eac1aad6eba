//! Disks that are full, slow to empty or damaged; retention; verification.

use super::*;

#[test]
fn a_full_disk_refuses_custody_and_lets_deliveries_go_on() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    bench.journal.clone().close();
    // 0.95 of one megabyte is used up by an entry of that size, so the quota is over without a full disk.
    bench.config.quota_mb = 1;
    let mut bench = bench.restart();
    let mut session = 1;
    let refused = loop {
        session += 1;
        match bench.persist(session, &vec![b'x'; 100_000], true) {
            Ok(_) => std::thread::sleep(Duration::from_millis(100)),
            Err(refused) => break refused.reason,
        }
        assert!(session < 40, "the quota is never reached");
    };
    assert_eq!(refused, Refusal::Full);
    assert_eq!(bench.journal.condition(), Condition::Full);
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    assert_eq!(bench.account().delivered, 1);
}

#[test]
fn i1_once_custody_is_ended_nothing_is_taken_and_deliveries_are_still_noted() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    let row = bench.claim(1).remove(0);
    let wal = bench.journal.data().join("journal.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    assert_eq!(bench.journal.end_custody().recv(), Ok(true), "the log was copied");
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    for session in [2, 3] {
        assert_eq!(bench.persist(session, b"too late", true).unwrap_err().reason, Refusal::Storage);
    }
    bench.deliver(row.id);
    assert_eq!(bench.account().delivered, 1);
    let mut bench = bench.restart();
    bench.persist(4, b"taken again", true).unwrap();
}

#[test]
fn what_is_delivered_goes_when_it_is_old_and_nothing_else_does() {
    let mut bench = Bench::new();
    bench.filed(1, &["delivered"], 0);
    bench.filed(2, &["pending"], 0);
    bench.filed(3, &["parked"], 0);
    bench.filed(4, &[], 1);
    bench.persist(5, b"not interpreted", true).unwrap();
    let rows = bench.claim(10);
    bench.deliver(rows[0].id);
    bench.settle(rows[2].id, Settlement::Park { reason: "AR".to_string() });
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    let kept = loop {
        let found = bench.journal.reader().unwrap().search(&Query { limit: 10, ..Query::default() }).unwrap();
        let kept: Vec<i64> = found.iter().map(|f| f.entry.0).collect();
        if kept.len() < 5 || Instant::now() > deadline {
            break kept;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(kept, [5, 4, 3, 2]);
    let account = bench.account();
    assert_eq!((account.delivered, account.missing()), (1, 0), "the account outlives the rows");
    let verified = bench.journal.reader().unwrap().verify(|_, _| {}).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
}

#[test]
fn i6_nobody_takes_a_result_for_the_newest_when_later_ones_are_gone() {
    let mut bench = Bench::new();
    let held = bench.filed(1, &[], 1).reports[0];
    bench.filed(2, &["delivered"], 0);
    let last = bench.filed(3, &[], 1).reports[0];
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    assert!(!bench.journal.reader().unwrap().is_overtaken(held).unwrap());
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while reader.show(EntryId(2)).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(reader.is_overtaken(held).unwrap() && reader.was_overtaken(EntryId(1), "any", b"any").unwrap());
    assert!(!reader.is_overtaken(last).unwrap() && !reader.was_overtaken(EntryId(3), "any", b"any").unwrap());
}

#[test]
fn verification_names_what_is_damaged_and_what_does_not_add_up() {
    let mut bench = Bench::new();
    bench.filed(1, &["A", "B"], 1);
    let reader = bench.journal.reader().unwrap();
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
    let conn = bench.sabotage();
    conn.execute_batch(
        "UPDATE part SET sealed = zeroblob(60); UPDATE outgoing SET body = zeroblob(60) WHERE id = 2;
         UPDATE report SET json = zeroblob(60) WHERE id = 1; UPDATE account SET held = held + 1;
         UPDATE outbox SET head = NULL WHERE id = 1;",
    )
    .unwrap();
    let verified = reader.verify(|_, _| {}).unwrap();
    assert_eq!(verified.damaged, ["entry 1", "report 1", "message 2"]);
    assert_eq!((verified.broken_lanes, verified.account.missing()), (1, -1));
    assert_eq!(verified.account_faults, ["held 2 1"]);
}

#[test]
fn a_backup_is_a_journal_and_stays_sealed() {
    let mut bench = Bench::new();
    bench.filed(1, &["CANARY-4711"], 1);
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("journal.db");
    bench.journal.reader().unwrap().backup(&file, |_, _| {}).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(11).any(|w| w == b"CANARY-4711"));
    assert!(matches!(Reader::open(copy.path(), &Config::default()), Err(OpenError::KeyMissing(_))));
    let config = Config { key_file: Some(bench.data.path().join("journal.key")), ..Config::default() };
    let restored = Journal::open(copy.path(), &config).unwrap();
    assert_eq!(restored.reader().unwrap().waiting_specimens().unwrap(), ["held"]);
    assert!(restored.reader().unwrap().verify(|_, _| {}).unwrap().is_sound());
    restored.close();
}

#[test]
fn entries_are_found_by_every_identifier_and_by_time() {
    let mut bench = Bench::new();
    bench.persist_named(1, b"MSH", true, Some(b"LAB|X|C-77")).unwrap();
    let entry = bench.pending()[0].id;
    bench.journal.file(filing(entry, &["SPEC-1"], 0)).unwrap();
    let reader = bench.journal.reader().unwrap();
    let find = |kind, id: &str| {
        let query = Query { id: Some((kind, id.to_string())), limit: 5, ..Query::default() };
        reader.search(&query).unwrap().len()
    };
    assert_eq!(find(Lookup::Specimen, "SPEC-1"), 1);
    assert_eq!(find(Lookup::Control, "C-77"), 1);
    assert_eq!(find(Lookup::Message, &format!("{entry}-0")), 1);
    assert_eq!(find(Lookup::Specimen, "C-77"), 0, "an identifier is found only as what it is");
    let ahead = Query { from_ms: Some(wall_clock_ms() + 60_000), limit: 5, ..Query::default() };
    assert!(reader.search(&ahead).unwrap().is_empty());
    assert_eq!(reader.show(entry).unwrap().reports[0].messages[0].state, "pending");
}

#[test]
fn a_data_key_is_dropped_only_when_nothing_is_sealed_with_it() {
    let mut bench = Bench::new();
    bench.filed(1, &["A"], 0);
    bench.journal.clone().close();
    {
        let conn = bench.sabotage();
        conn.execute("UPDATE data_key SET created_ms = 0", []).unwrap();
    }
    let mut bench = bench.restart();
    let keys = |bench: &Bench| -> i64 {
        bench.sabotage().query_row("SELECT count(*) FROM data_key WHERE purpose = 'data'", [], |r| r.get(0)).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while keys(&bench) < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(keys(&bench), 2, "the old key stays while its rows do");
    bench.filed(2, &["B"], 0);
    let mut bench = bench.restart();
    bench.filed(3, &["C"], 0);
    assert!(bench.journal.reader().unwrap().verify(|_, _| {}).unwrap().is_sound());
}
