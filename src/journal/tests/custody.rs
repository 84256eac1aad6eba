//! Custody, restart, damage.

use super::*;

#[test]
fn i1_what_has_a_receipt_is_there_after_a_restart() {
    let mut bench = Bench::new();
    bench.persist(1, b"H|", false).unwrap();
    bench.persist(1, b"L|", true).unwrap();
    let bench = bench.restart();
    let entries = bench.pending();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].raw, b"H|L|");
    assert!(entries[0].complete);
    assert_eq!(entries[0].link, LINK);
}

#[test]
fn a_session_cut_by_a_restart_becomes_incomplete_and_a_new_one_starts_a_new_entry() {
    let mut bench = Bench::new();
    bench.persist(1, b"H|", false).unwrap();
    assert!(bench.pending().is_empty(), "an open entry is not handed out");
    let mut bench = bench.restart();
    bench.persist(1, b"H|L|", true).unwrap();
    let entries = bench.pending();
    assert_eq!(
        entries.iter().map(|e| (e.complete, e.raw.as_slice())).collect::<Vec<_>>(),
        [(false, &b"H|"[..]), (true, &b"H|L|"[..])]
    );
}

#[test]
fn an_abandoned_session_is_incomplete_and_an_empty_one_is_nothing() {
    let mut bench = Bench::new();
    bench.journal.abandon(LINK, 1, 7);
    bench.persist(8, b"H|", false).unwrap();
    bench.journal.abandon(LINK, 1, 8);
    bench.persist(9, b"other", true).unwrap();
    let entries = bench.pending();
    assert_eq!(entries.iter().map(|e| e.complete).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn i4_the_same_message_again_is_acknowledged_once_more_and_kept_once() {
    let mut bench = Bench::new();
    bench.persist_named(1, b"MSH|5.0", true, Some(b"LAB|X|1")).unwrap();
    bench.persist_named(2, b"MSH|5.0", true, Some(b"LAB|X|1")).unwrap();
    let mut bench = bench.restart();
    bench.persist_named(1, b"MSH|5.0", true, Some(b"LAB|X|1")).unwrap();
    assert_eq!(bench.pending().len(), 1);
}

#[test]
fn i4_the_same_id_with_other_bytes_is_kept_and_counted() {
    let mut bench = Bench::new();
    bench.persist_named(1, b"MSH|5.0", true, Some(b"LAB|X|1")).unwrap();
    bench.persist_named(2, b"MSH|6.0", true, Some(b"LAB|X|1")).unwrap();
    assert_eq!(bench.pending().len(), 2);
    assert_eq!(bench.journal.reader().unwrap().stats(0).unwrap().identity_conflicts, 1);
}

#[test]
fn a_flipped_bit_never_becomes_a_value_and_does_not_stop_the_next_entry() {
    let mut bench = Bench::new();
    bench.persist(1, b"R|1|5.0", true).unwrap();
    bench.persist(2, b"R|1|6.0", true).unwrap();
    let sealed: Vec<u8> =
        bench.sabotage().query_row("SELECT sealed FROM part ORDER BY id LIMIT 1", [], |r| r.get(0)).unwrap();
    for bit in (0..sealed.len() * 8).step_by(7) {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let conn = bench.sabotage();
        conn.execute("UPDATE part SET sealed = ?1 WHERE id = (SELECT min(id) FROM part)", [damaged]).unwrap();
        conn.execute("UPDATE entry SET state = 1, waiting = 1 WHERE id = 1", []).unwrap();
        let entries = bench.pending();
        assert_eq!(entries.iter().map(|e| e.raw.as_slice()).collect::<Vec<_>>(), [b"R|1|6.0"], "bit {bit}");
    }
    bench.filed(3, &[], 0);
    assert_eq!(bench.journal.reader().unwrap().stats(0).unwrap().damaged, 1);
}

#[test]
fn rows_that_changed_places_do_not_open() {
    let mut bench = Bench::new();
    bench.persist(1, b"R|1|5.0", true).unwrap();
    bench.persist(2, b"R|1|6.0", true).unwrap();
    let conn = bench.sabotage();
    conn.execute_batch(
        "CREATE TEMP TABLE swap AS SELECT id, sealed FROM part;
         UPDATE part SET sealed = (SELECT sealed FROM swap WHERE swap.id <> part.id);",
    )
    .unwrap();
    assert!(bench.pending().is_empty());
}

#[test]
fn the_wrong_key_opens_nothing() {
    let mut bench = Bench::new();
    bench.persist(1, b"R|1|5.0", true).unwrap();
    bench.journal.clone().close();
    std::fs::write(bench.data.path().join("journal.key"), "00".repeat(32)).unwrap();
    assert!(matches!(Journal::open(bench.data.path(), &bench.config), Err(OpenError::WrongKey)));
    std::fs::remove_file(bench.data.path().join("journal.key")).unwrap();
    assert!(matches!(Journal::open(bench.data.path(), &bench.config), Err(OpenError::KeyMissing(_))));
}

#[test]
fn i8_patient_data_is_nowhere_in_the_files() {
    let mut bench = Bench::new();
    bench.persist(1, b"P|1||4711^DOE^JANE", true).unwrap();
    let entry = bench.pending()[0].id;
    bench.journal.file(filing(entry, &["CANARY-4711"], 1)).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        let bytes = std::fs::read(bench.data.path().join(name)).unwrap();
        for canary in [&b"DOE^JANE"[..], b"CANARY-4711"] {
            assert!(!bytes.windows(canary.len()).any(|w| w == canary), "{name}");
        }
    }
}

#[test]
fn many_callers_at_once_are_all_answered() {
    let bench = Bench::new();
    let journal = bench.journal.clone();
    let receipts = bench.runtime.block_on(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200_u64 {
            let journal = journal.clone();
            tasks.spawn(async move {
                let part = Persist {
                    token: Token(n),
                    session: 1,
                    bytes: n.to_be_bytes().to_vec(),
                    completes: true,
                    identity: None,
                };
                journal.persist(LINK, n, part).await.is_ok()
            });
        }
        tasks.join_all().await
    });
    assert!(receipts.iter().all(|ok| *ok));
    assert_eq!(bench.journal.reader().unwrap().pending_entries(500).unwrap().len(), 200);
}
