//! What a person discarded takes no place, does not go out, and keeps nothing back.

use super::corrections::{fraction, is, mass, report, results, said};
use super::replaced::{elsewhere, naming, pdf, reports};
use super::rivals::{large, own};
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

    /// A person releases what waits, and what becomes of it is not filed yet.
    fn released_up_to_the_filing(&self) -> Vec<ReleaseFiling> {
        self.say_release();
        let item = self.reader.released(1).unwrap().remove(0);
        self.desk.release(&self.journal, &self.reader, &item).unwrap()
    }

    /// A person releases what waits, and discards it before that is filed: nothing goes out.
    #[track_caller]
    fn discarded_in_between(&self) {
        let holds = self.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect();
        let filings = self.released_up_to_the_filing();
        assert_eq!(filings.len(), 1);
        self.discard(holds, Vec::new());
        filings.into_iter().for_each(|filing| drop(self.journal.file_release(filing).unwrap()));
        assert!(self.numbers("ehr").is_empty());
        self.grows_silently();
        assert!(self.held().is_empty(), "{:?}", self.held());
        self.account();
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
    bench.discarded_in_between();
}

#[test]
fn i7_what_stands_aside_and_is_discarded_before_its_release_is_filed_takes_nothing_back() {
    let bench = Bench::new();
    bench.reported(pdf("1", "11111-1", None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &[format!("{STUDY}.8.1")]));
    bench.waits("included-elsewhere");
    bench.discarded_in_between();
}

#[test]
fn i7_what_is_discarded_before_it_is_filed_under_another_name_is_not_told() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", vec![fraction("56")], Some("2")));
    bench.waits("no-predecessor");
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("57")], Some("1"))))), &[("57", "C")]);
    bench.discarded_in_between();
}

#[test]
fn i7_what_can_be_read_since_and_is_discarded_before_its_release_is_filed_is_not_told() {
    let small = Config { document_mb_max: 1, ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], small);
    bench.store_and_settle(large(report("1", vec![fraction("58")], None)));
    bench.waits("too-large");
    let bench = Bench { desk: bench.desk.with(&Config::default()), ..bench };
    bench.discarded_in_between();
}

#[test]
fn i7_a_number_that_is_discarded_before_its_release_is_filed_does_not_go_out_with_another() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57"), mass("12")], Some("2")));
    let second = bench.reader.holds(10).unwrap()[1].id;
    let filings = bench.released_up_to_the_filing();
    bench.discard(vec![second], Vec::new());
    filings.into_iter().for_each(|filing| drop(bench.journal.file_release(filing).unwrap()));
    is(&bench.all_said(), &[]);
    bench.send_released();
    is(&bench.all_said(), &[("57", "F")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

/// A study of two orders, which waits with its documents.
fn ambiguous() -> Bench {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-100", "1.2.3.1");
    bench.order("ORD-2", "ACC-1", "P-100", "1.2.3.2");
    bench.store_and_settle_all(&[report("1", vec![fraction("58")], None), Made::pdf("1", 10)]);
    bench.waits("ambiguous-order");
    bench
}

#[test]
fn i7_the_documents_of_a_study_that_is_discarded_before_its_release_is_filed_are_not_told() {
    let bench = ambiguous();
    let holds = bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect();
    bench.say_release();
    let item = bench.reader.released(1).unwrap().remove(0);
    bench.discard(holds, Vec::new());
    for filing in bench.desk.release(&bench.journal, &bench.reader, &item).unwrap() {
        bench.journal.file_release(filing).unwrap();
    }
    assert!(bench.told("ehr").is_empty());
    bench.grows_silently();
    bench.account();
}

#[test]
fn i4_a_crash_between_the_documents_of_a_released_study_and_the_study_tells_nothing_twice() {
    let bench = ambiguous();
    drop(bench.released_up_to_the_filing());
    bench.send_released();
    let told = bench.told("ehr");
    let count = |of: &str| told.iter().filter(|message| message.contains(of)).count();
    assert_eq!((count("18043-0"), count("|ED|"), told.len()), (1, 1, 3));
    assert!(bench.held().is_empty() && bench.settle() == 0);
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
    // Its study does not grow, and the other has nothing to say to that.
    assert_eq!(bench.settle(), 1);
    is(&bench.all_said(), &[("57", "C")]);
    assert_eq!((bench.settle(), bench.settle()), (1, 0));
    is(&bench.all_said(), &[]);
    bench.store_and_settle(elsewhere(Made::image("8")));
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i7_a_number_of_a_report_that_was_told_over_is_not_told_without_the_others() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57"), own()], Some("2")));
    assert_eq!(bench.waiting(), ["no-predecessor", "unmapped-code"]);
    bench.release_for("no-predecessor");
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], None)));
    bench.release_for("several-successors");
    is(&bench.all_said(), &[("59", "C")]);
    // Before its own study is looked at again.
    bench.release();
    is(&bench.all_said(), &[("57", "C")]);
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.release();
    is(&bench.all_said(), &[("7", "C")]);
    bench.settle();
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

/// A report that is held under the name of a missing one and, since that came, was filed under the name of its line: an
/// earlier version left the first.
fn doubled(numbers: Vec<DataSet>) -> Bench {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", numbers, Some("2")));
    let held = bench.reader.holds(10).unwrap()[0].id;
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("59")], Some("1"))))), &[("59", "C")]);
    bench.store_and_settle(Made::image("9"));
    bench.sabotage(&format!("UPDATE hold SET state = 0 WHERE id = {}", held.0));
    bench
}

#[test]
fn i4_what_an_earlier_version_held_under_two_names_goes_out_once() {
    let bench = doubled(vec![fraction("57")]);
    is(&bench.all_said(), &[("57", "C")]);
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[]);
    assert!(bench.held().is_empty());
    bench.grows_silently();
    for is_new_first in [false, true] {
        let bench = doubled(vec![own()]);
        bench.all_said();
        assert_eq!(bench.held(), ["unmapped-code"; 2]);
        let at = usize::from(is_new_first);
        let holds = vec![bench.reader.holds(10).unwrap()[at].id];
        bench.journal.operate(OperatorAction::Release { holds, note: "seen".to_string() }).unwrap();
        bench.send_released();
        assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (usize::from(!is_new_first), at));
        bench.release();
        is(&bench.all_said(), if is_new_first { &[] } else { &[("7", "C")] });
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.grows_silently();
    }
}

#[test]
fn i4_documents_of_two_studies_that_take_the_place_of_each_other_come_to_rest() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], Some("3"))));
    bench.waits("several-successors");
    bench.release();
    is(&bench.all_said(), &[("59", "C")]);
    let rounds = (0..10).take_while(|_| bench.settle() > 0).count();
    assert!(rounds < 3, "{rounds}");
    assert!(bench.all_said().is_empty() && bench.held().is_empty(), "{:?}", bench.held());
    bench.account();
}

/// A report of which one number was told and another discarded, and over which the one it names was told.
fn partly_told_over() -> Bench {
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
    bench.settle();
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["discarded-before".to_string(); 2], 0));
    bench.grows_silently();
    assert_eq!(bench.waiting().len(), 2);
    bench
}

#[test]
fn i13_what_was_discarded_is_not_told_with_what_was_told_over() {
    let bench = partly_told_over();
    let second = bench.reader.holds(10).unwrap()[1].id;
    bench.discard(vec![second], Vec::new());
    bench.release();
    is(&bench.all_said(), &[("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_was_told_over_and_discarded_is_asked_about_once() {
    let bench = partly_told_over();
    bench.discard_for("discarded-before");
    bench.settle();
    bench.grows_silently();
    assert!(bench.held().is_empty());
    // It comes again.
    bench.store_and_settle(report("3", vec![fraction("55"), mass("12")], Some("2")));
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["discarded-before".to_string(); 2], 0));
    bench.account();
}

#[test]
fn i13_what_was_told_over_and_discarded_as_a_message_waits() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.release();
    let refused = bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    bench.discard(Vec::new(), refused.into_iter().map(|(id, _)| id).collect());
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], None)));
    bench.release();
    is(&bench.all_said(), &[("59", "F")]);
    bench.settle();
    bench.waits("discarded-before");
    bench.grows_silently();
    bench.release();
    is(&bench.all_said(), &[("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_a_person_chose_of_two_rivals_is_not_told_over_by_the_other() {
    let bench = Bench::new();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    let third = report("4", vec![fraction("55")], Some("2"));
    let third =
        third.with(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.5").with(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.5.9");
    bench.store_and_settle(third);
    bench.waits("several-successors");
    bench.release();
    is(&bench.all_said(), &[("55", "C")]);
    bench.store_and_settle(elsewhere(report("2", vec![fraction("59")], None)));
    bench.waits("several-successors");
    bench.release();
    is(&bench.all_said(), &[("59", "C")]);
    // What a person let take the place takes it still, and what that person let it take the place of does not.
    bench.settle();
    is(&bench.all_said(), &[("55", "C")]);
    for _ in 0..4 {
        bench.settle();
    }
    assert!(bench.all_said().is_empty() && bench.held().is_empty());
}

#[test]
fn i7_of_what_an_earlier_version_held_under_two_names_each_number_is_told_or_held() {
    for (discarded, released) in [([0, 3], [2, 1]), ([2, 1], [0, 3])] {
        let bench = doubled(vec![own(), num(["99-8", "99CART", "Another of the cart's own"], "8")]);
        bench.all_said();
        bench.sabotage("UPDATE hold SET state = 0 WHERE state = 4");
        let mut holds: Vec<_> = bench.reader.holds(10).unwrap().into_iter().map(|hold| hold.id).collect();
        holds.sort_by_key(|hold| hold.0);
        assert_eq!(holds.len(), 4);
        let these = |at: [usize; 2]| at.iter().map(|at| holds[*at]).collect();
        bench.discard(these(discarded), Vec::new());
        bench.journal.operate(OperatorAction::Release { holds: these(released), note: "seen".to_string() }).unwrap();
        let mut said = Vec::new();
        for _ in 0..3 {
            bench.send_released();
            bench.settle();
            said.extend(bench.all_said());
        }
        println!("released {released:?}: said {said:?}, held {:?}", bench.held());
        assert!(said.len() + bench.held().len() >= 2, "said {said:?}, held {:?}", bench.held());
    }
}
