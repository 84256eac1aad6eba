//! What the box's clock was worth when entries came in, and when they came in truth. Clocks that are set are in
//! `tests/cli/clock.rs`: here the machine's own goes on as it does.

use super::*;
use crate::clock::Quality;

impl Bench {
    fn clocks(&self) -> Vec<(Option<Quality>, bool)> {
        let found = self.journal.reader().unwrap().search(&Query { limit: 10, ..Query::default() }).unwrap();
        let mut found: Vec<_> = found.into_iter().map(|f| (f.entry, f.clock, f.corrected_ms.is_some())).collect();
        found.sort_by_key(|(entry, ..)| *entry);
        found.into_iter().map(|(_, clock, corrected)| (clock, corrected)).collect()
    }

    fn rows(&self) -> i64 {
        let conn = rusqlite::Connection::open(self.journal.data().join("journal.db")).unwrap();
        conn.query_row("SELECT count(*) FROM clock", [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn an_entry_is_corrected_once_the_clock_of_its_machine_is_trusted() {
    let mut bench = Bench::new();
    bench.persist(1, b"before anybody said", true).unwrap();
    bench.journal.note_clock(Quality::Unset).unwrap();
    bench.persist(2, b"unset", true).unwrap();
    bench.journal.note_clock(Quality::Floor).unwrap();
    bench.persist(3, b"floor", true).unwrap();
    let known = |corrected| vec![(None, false), (Some(Quality::Unset), corrected), (Some(Quality::Floor), corrected)];
    assert_eq!(bench.clocks(), known(false));
    // The program may start anew in between: it is the same machine.
    bench.journal.clone().close();
    let mut bench = bench.restart();
    bench.journal.note_clock(Quality::Trusted).unwrap();
    bench.persist(4, b"trusted", true).unwrap();
    assert_eq!(bench.clocks(), [known(true), vec![(Some(Quality::Trusted), false)]].concat());
    let shown = bench.journal.reader().unwrap().show(EntryId(2)).unwrap().entry;
    assert_eq!(shown.corrected_ms, Some(shown.received_ms), "the clock was right all the time");
}

#[test]
fn a_machine_that_starts_anew_before_the_next_entry_does_not_forget_what_is_known() {
    let mut bench = Bench::new();
    bench.journal.note_clock(Quality::Unset).unwrap();
    bench.persist(1, b"unset", true).unwrap();
    bench.journal.note_clock(Quality::Trusted).unwrap();
    bench.journal.clone().close();
    let path = bench.journal.data().join("journal.db");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE clock SET boot = 'an earlier one'", []).unwrap();
    let mut bench = bench.restart();
    for quality in [Quality::Floor, Quality::Trusted, Quality::Floor] {
        bench.journal.note_clock(quality).unwrap();
    }
    bench.persist(2, b"floor", true).unwrap();
    assert_eq!(bench.clocks(), [(Some(Quality::Unset), true), (Some(Quality::Floor), false)]);
    assert_eq!(bench.rows(), 3, "the unset one, the trusted one behind it, and the present one");
}

#[test]
fn what_is_said_of_the_clock_again_and_again_is_noted_once() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.journal.note_clock(Quality::Floor).unwrap();
    }
    // Nothing came in by the clock before.
    bench.journal.note_clock(Quality::Trusted).unwrap();
    assert_eq!(bench.rows(), 1);
    bench.persist(1, b"one", true).unwrap();
    bench.journal.note_clock(Quality::Trusted).unwrap();
    assert_eq!(bench.rows(), 1);
    bench.journal.note_clock(Quality::Floor).unwrap();
    assert_eq!(bench.rows(), 2);
}

#[test]
fn i1_nothing_is_old_because_a_clock_that_was_behind_is_set() {
    const BACK_MS: i64 = 30 * 86_400_000;
    let mut bench = Bench::new();
    bench.journal.note_clock(Quality::Unset).unwrap();
    for session in 1..=2 {
        bench.filed(session, &["delivered"], 0);
        let row = bench.claim(1).remove(0);
        bench.deliver(row.id);
    }
    bench.journal.clone().close();
    // The clock showed a time of a month ago, and the second came in a month before that.
    let path = bench.journal.data().join("journal.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE entry SET received_ms = received_ms - ?1 * id", [BACK_MS]).unwrap();
    conn.execute("UPDATE clock SET base_ms = base_ms - ?1", [BACK_MS]).unwrap();
    conn.execute(
        "INSERT INTO commitment(hash, entry, link, state, asked_ms, due_ms, changed_ms)
         SELECT zeroblob(8), id, 'echo', 1, received_ms, received_ms, received_ms FROM entry",
        [],
    )
    .unwrap();
    (bench.config.retention_days, bench.config.orders_days) = (7, 7);
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while reader.show(EntryId(2)).is_ok() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(reader.show(EntryId(2)).is_err(), "it is two months old by a clock that is one month behind");
    assert!(reader.show(EntryId(1)).is_ok(), "it came in just now");
    let kept: i64 = conn.query_row("SELECT count(*) FROM commitment", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1, "what hangs on it too");
    // What was put forward once stays where it is, whatever is said of the clock.
    let changed = || conn.query_row("SELECT changed_ms FROM commitment", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = changed();
    for quality in [Quality::Trusted, Quality::Floor, Quality::Trusted] {
        bench.journal.note_clock(quality).unwrap();
    }
    assert_eq!(changed(), before);
}

#[test]
fn i1_what_came_in_by_a_clock_that_was_never_set_is_not_old_after_a_new_start() {
    let mut bench = Bench::new();
    bench.journal.note_clock(Quality::Unset).unwrap();
    bench.filed(1, &["delivered"], 0);
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    bench.journal.clone().close();
    let conn = rusqlite::Connection::open(bench.journal.data().join("journal.db")).unwrap();
    conn.execute("UPDATE entry SET received_ms = 1000", []).unwrap();
    conn.execute("UPDATE clock SET base_ms = 0, boot = 'an earlier one'", []).unwrap();
    let mut bench = bench.restart();
    bench.journal.note_clock(Quality::Trusted).unwrap();
    // Another that is old shows that retention went by.
    for (session, days) in [(2, 0), (3, 60_i64)] {
        bench.filed(session, &["delivered"], 0);
        let row = bench.claim(1).remove(0);
        bench.deliver(row.id);
        let back = days * 86_400_000;
        conn.execute("UPDATE entry SET received_ms = received_ms - ?1 WHERE id = ?2", (back, session as i64)).unwrap();
    }
    let reader = bench.journal.reader().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while reader.show(EntryId(3)).is_ok() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(reader.show(EntryId(3)).is_err() && reader.show(EntryId(1)).is_ok(), "1970 is no age");
}
