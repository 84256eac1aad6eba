//! What a person discarded takes no place, does not go out, and keeps nothing back.

use super::corrections::{fraction, is, mass, report, results, said};
use super::replaced::{elsewhere, naming, pdf, reports};
use super::rivals::own;
use super::*;

fn unverified(made: Made) -> Made {
    made.with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED")
}

impl Bench {
    /// Files what came last, and nothing that came before it.
    fn file_newest(&self) {
        let entry = self.reader.pending_entries(100).unwrap().pop().unwrap();
        let filing = self.desk.file(&self.reader, &entry, entry.instance.as_ref().unwrap()).unwrap().unwrap();
        self.journal.file(filing).unwrap();
    }

    /// A person discards what waits for this.
    fn discard_for(&self, reason: &str) {
        let holds = self.reader.holds(100).unwrap().into_iter().filter(|hold| hold.reason == reason);
        self.discard(holds.map(|hold| hold.id).collect(), Vec::new());
    }

    fn words(&self) -> String {
        self.reader.holds(1).unwrap().remove(0).why
    }
}

#[test]
fn i7_what_a_discarded_document_replaced_before_it_was_told_is_told() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let second = report("2", vec![fraction("57")], Some("1"));
    bench.store_and_settle_all(&[second, unverified(report("3", vec![fraction("56")], Some("2")))]);
    bench.waits("unverified-correction");
    bench.grows_silently();
    bench.discard_for("unverified-correction");
    bench.settle();
    is(&bench.all_said(), &[("57", "C")]);
    bench.grows_silently();
    is(&said(&bench.reported(report("4", vec![fraction("55")], Some("3")))), &[("55", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i7_what_comes_late_and_is_named_by_a_discarded_document_is_told() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.waits("no-predecessor");
    bench.discard_for("no-predecessor");
    is(&said(&bench.reported(report("2", vec![fraction("59")], None))), &[("59", "F")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_number_that_is_discarded_does_not_bring_back_the_report_that_its_own_replaced() {
    let bench = Bench::new();
    let second = report("2", vec![own()], Some("1"));
    bench.store_and_settle_all(&[report("1", vec![fraction("58")], None), second]);
    bench.waits("unmapped-code");
    bench.discard_for("unmapped-code");
    bench.settle();
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_number_whose_place_another_document_may_take_waits_for_that_one() {
    let bench = Bench::new();
    is(&said(&bench.reported(report("1", vec![fraction("58"), own()], None))), &[("58", "F")]);
    bench.store_and_settle(unverified(report("2", vec![fraction("57")], Some("1"))));
    bench.release_for("unmapped-code");
    assert_eq!(
        (bench.waiting(), bench.numbers("ehr").len()),
        (vec!["replaced".into(), "unverified-correction".into()], 0)
    );
    let hold = bench.reader.holds(10).unwrap().into_iter().find(|hold| hold.reason == "replaced").unwrap();
    assert!(hold.why.contains("waits") && !hold.why.contains("told of that one"), "{}", hold.why);
    bench.discard_for("unverified-correction");
    bench.release();
    is(&bench.all_said(), &[("7", "F")]);
    bench.grows_silently();
    bench.account();
}

#[test]
fn i7_a_correction_is_not_dropped_because_one_that_came_later_was_filed_first() {
    for is_verified in [false, true] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        let rival = elsewhere(report("9", vec![fraction("56")], Some("1")));
        bench
            .keep(&[report("2", vec![fraction("57")], Some("1")), if is_verified { rival } else { unverified(rival) }]);
        bench.file_newest();
        bench.settle();
        is(&bench.all_said(), if is_verified { &[("56", "C")] } else { &[] });
        bench.file();
        bench.settle();
        if is_verified {
            bench.waits("several-successors");
            bench.grows_silently();
            bench.release();
            is(&bench.all_said(), &[("57", "C")]);
        } else {
            is(&bench.all_said(), &[("57", "C")]);
            assert_eq!(bench.held(), ["unverified-correction"]);
            bench.discard_for("unverified-correction");
        }
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i7_a_correction_is_told_after_one_that_came_later_was_discarded() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let rival = unverified(elsewhere(report("9", vec![fraction("56")], Some("1"))));
    bench.keep(&[report("2", vec![fraction("57")], Some("1")), rival]);
    bench.file_newest();
    bench.settle();
    bench.waits("unverified-correction");
    bench.discard_for("unverified-correction");
    bench.file();
    bench.settle();
    is(&bench.all_said(), &[("57", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_number_that_was_discarded_does_not_go_out_in_place_of_what_it_includes() {
    for place in [|made| made, elsewhere] {
        let bench = Bench::new();
        bench.store_and_settle(naming(report("3", vec![fraction("57"), mass("12")], None), &[format!("{STUDY}.8.1")]));
        let holds = bench.reader.holds(10).unwrap();
        assert_eq!(bench.waiting(), ["no-predecessor", "no-predecessor"]);
        bench.discard(vec![holds[1].id], Vec::new());
        assert!(bench.reported(place(pdf("1", "11111-1", None))).contains("|ED|"));
        // In a study of its own the number waits as before until somebody looks.
        if bench.held() == ["no-predecessor"] {
            bench.release();
        }
        bench.waits("included-elsewhere");
        bench.release();
        assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["discarded-before".to_string(); 2], 0));
        bench.grows_silently();
        let holds = bench.reader.holds(10).unwrap();
        bench.discard(vec![holds[1].id], Vec::new());
        bench.release();
        let told = bench.numbers("ehr");
        let told: Vec<_> = results(&told[0]).into_iter().map(|(_, value, status)| (value, status)).collect();
        assert!(told.len() == 2 && told[0].0 == "57" && told[1].1 == "D", "{told:?}");
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_who_saw_that_some_was_discarded_has_not_seen_that_more_is_named_than_is_read() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", vec![fraction("57"), mass("12")], Some("2")));
    let holds = bench.reader.holds(10).unwrap();
    bench.discard(vec![holds[1].id], Vec::new());
    let second = elsewhere(report("2", vec![fraction("59")], Some("1")));
    is(&said(&bench.reported(second)), &[("59", "C")]);
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["discarded-before".to_string(); 2], 0));
    // The second comes again, and names more.
    let many: Vec<String> =
        std::iter::once(format!("{STUDY}.9.1")).chain((10..80).map(|of| format!("1.2.77.{of}"))).collect();
    bench.store(&[elsewhere(naming(report("2", vec![fraction("59")], None), &many))]);
    let holds = bench.reader.holds(10).unwrap();
    bench.discard(vec![holds[1].id], Vec::new());
    bench.release();
    bench.waits("several-predecessors");
    assert!(bench.words().contains("more documents than are read"), "{}", bench.words());
    bench.release();
    is(&bench.all_said(), &[("57", "C")]);
    bench.account();
}

#[test]
fn i13_who_saw_several_predecessors_has_not_seen_that_more_is_named_than_is_read() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(elsewhere(report("2", vec![mass("12")], None)));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"])));
    bench.waits("several-predecessors");
    let many: Vec<String> = (10..80).map(|of| format!("1.2.77.{of}")).collect();
    bench.store(&[elsewhere(naming(report("2", vec![mass("12")], None), &many))]);
    bench.release();
    bench.waits("several-predecessors");
    assert!(bench.words().contains("more documents than are read"), "{}", bench.words());
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("57", "C")]);
    bench.account();
}

#[test]
fn i7_what_was_told_under_a_name_that_was_taken_back_is_told_under_the_one_its_line_has() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], Some("1"))));
    bench.waits("several-predecessors");
    bench.release();
    is(&bench.all_said(), &[("57", "D"), ("59", "C")]);
    bench.store_and_settle(Made::image("9"));
    is(&bench.all_said(), &[("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i7_what_is_discarded_before_its_release_is_filed_takes_nothing_back() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"])));
    bench.waits("several-predecessors");
    let holds: Vec<_> = bench.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect();
    let release = OperatorAction::Release { holds: holds.clone(), note: "seen".to_string() };
    bench.journal.operate(release).unwrap();
    let item = bench.reader.released(1).unwrap().remove(0);
    let filings = bench.desk.release(&bench.journal, &bench.reader, &item).unwrap();
    assert_eq!(filings.len(), 1);
    bench.discard(holds, Vec::new());
    filings.into_iter().for_each(|filing| drop(bench.journal.file_release(filing).unwrap()));
    is(&bench.all_said(), &[]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i7_what_takes_the_place_of_what_was_told_after_it_is_told_again() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], None)));
    bench.waits("several-successors");
    assert!(bench.words().contains("or the place of this one"), "{}", bench.words());
    bench.release();
    is(&bench.all_said(), &[("59", "C")]);
    bench.store_and_settle(Made::image("9"));
    is(&bench.all_said(), &[("57", "C")]);
    bench.store_and_settle(elsewhere(Made::image("8")));
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_was_discarded_is_not_told_with_what_was_told_over() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57"), mass("12")], Some("2")));
    let holds = bench.reader.holds(10).unwrap();
    assert_eq!(holds.len(), 2);
    bench.discard(vec![holds[1].id], Vec::new());
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], None)));
    bench.release();
    is(&bench.all_said(), &[("59", "C")]);
    bench.store_and_settle(Made::image("9"));
    assert!(bench.all_said().is_empty() && bench.held().is_empty(), "{:?}", bench.held());
    bench.account();
}
