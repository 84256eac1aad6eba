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
