//! What a person has seen of a doubt is what it was about then.

use super::corrections::{fraction, is, mass, report, said};
use super::replaced::{elsewhere, naming, reports};
use super::withdrawals::prose;
use super::*;

impl Bench {
    /// What stands beside the reports about doubts, in clear.
    fn noted_in_clear(&self) -> String {
        let database = rusqlite::Connection::open(self._data.path().join("journal.db")).unwrap();
        database.query_row("SELECT group_concat(decisions) FROM report", [], |row| row.get(0)).unwrap()
    }

    /// Nothing was told of, and this alone waits.
    #[track_caller]
    pub(super) fn waits(&self, reason: &str) {
        assert_eq!((self.held(), self.numbers("ehr").len()), (vec![reason.to_string()], 0));
    }

    /// Values and status of all that went out, in order.
    pub(super) fn all_said(&self) -> Vec<(String, String)> {
        let mut said: Vec<_> = self.numbers("ehr").iter().flat_map(|message| said(message)).collect();
        said.sort();
        said
    }
}

#[test]
fn i13_an_order_for_one_more_patient_is_not_the_mismatch_that_was_seen() {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-200", "1.2.3");
    bench.store_and_settle(Made::report("1", "58", None));
    bench.waits("order-mismatch");
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["unmapped-code".to_string()], 1));
    bench.order("ORD-2", "ACC-1", "P-300", "1.2.4");
    bench.release();
    bench.waits("order-mismatch");
    let noted = bench.noted_in_clear();
    assert!(noted.contains("order-mismatch"), "{noted}");
    for patient in ["P-100", "P-200", "P-300", "ORD-", "ACC-"] {
        assert!(!noted.contains(patient), "{noted}");
    }
    bench.release();
    assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 1), "now it was seen");
    bench.account();
}

#[test]
fn i13_a_document_that_goes_to_another_chart_than_was_seen_is_held_again() {
    let mut bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let second = elsewhere(report("2", vec![fraction("57")], Some("1")));
    bench.store_and_settle(second.with(tags::PATIENT_ID, VR::LO, "P-200"));
    bench.waits("another-patient");
    bench.order("ORD-9", "ACC-9", "E-9^^^HOSP^MR~P-200", "1.2.3.4");
    bench.release();
    bench.waits("another-patient");
    bench.release();
    let told = bench.numbers("ehr");
    is(&said(&told[0]), &[("57", "F")]);
    assert!(field(&told[0], "PID", 3).starts_with("E-9^^^HOSP"));
    bench.account();
}

/// A report in the place of two that were told of, and of a third that is not here.
fn of_three() -> Bench {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2", "4"])));
    bench.waits("several-predecessors");
    bench
}

/// The third, in a study of its own.
fn third() -> Made {
    elsewhere(report("4", vec![mass("40")], None))
}

#[test]
fn i13_a_third_predecessor_is_not_taken_back_by_who_saw_two() {
    let bench = of_three();
    is(&said(&bench.reported(third())), &[("40", "F")]);
    bench.release();
    bench.waits("several-predecessors");
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("40", "D"), ("57", "C")]);
    assert!(bench.held().is_empty());
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_a_third_predecessor_that_came_after_the_release_does_not_stand_beside_unseen() {
    let bench = of_three();
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("57", "C")]);
    is(&said(&bench.reported(third())), &[("40", "F")]);
    bench.store_and_settle(Made::image("9"));
    bench.waits("several-predecessors");
    bench.grows_silently();
    bench.release();
    is(&bench.all_said(), &[("40", "D"), ("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty(), "once is enough");
    bench.account();
}

#[test]
fn i13_what_words_name_and_came_since_is_not_taken_back_by_who_saw_the_other() {
    for is_released in [true, false] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.store_and_settle(naming(prose("3", "1"), &reports(&["1", "4"])));
        bench.waits("included-elsewhere");
        is(&said(&bench.reported(third())), &[("40", "F")]);
        if is_released {
            bench.release();
        } else {
            bench.discard(bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
            bench.store_and_settle(Made::image("9"));
        }
        bench.waits("included-elsewhere");
        bench.grows_silently();
        bench.release();
        is(&bench.all_said(), &[("40", "D"), ("58", "D")]);
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_an_earlier_version_noted_as_seen_is_seen_of_nothing() {
    for noted in ["NULL", r#"'["several-predecessors"]'"#, "'{'"] {
        let bench = of_three();
        bench.sabotage(&format!("UPDATE report SET decisions = {noted} WHERE id IN (SELECT report FROM hold)"));
        bench.release();
        bench.waits("several-predecessors");
        bench.release();
        is(&bench.all_said(), &[("12", "D"), ("57", "C")]);
        bench.account();
    }
    for noted in ["NULL", r#"'["no-accession"]'"#] {
        let bench = Bench::new();
        bench.store_and_settle(Made::pdf("1", 10).with(tags::ACCESSION_NUMBER, VR::SH, ""));
        bench.sabotage(&format!("UPDATE report SET decisions = {noted} WHERE id IN (SELECT report FROM hold)"));
        bench.release();
        bench.waits("no-accession");
        bench.release();
        assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 1));
        bench.account();
    }
}

#[test]
fn i13_what_takes_the_place_of_another_final_one_than_was_seen_is_held_again() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    let unverified = report("2", vec![fraction("57")], Some("1")).with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    bench.store_and_settle(unverified);
    bench.waits("unverified-correction");
    // One that somebody verified only says what it replaces: what waits beside it takes no place from it.
    is(&said(&bench.reported(report("3", vec![fraction("56")], Some("1")))), &[("56", "C"), ("12", "D")]);
    bench.waits("unverified-correction");
    bench.grows_silently();
    bench.release();
    bench.waits("unverified-correction");
    bench.release();
    is(&bench.all_said(), &[("57", "C")]);
    bench.grows_silently();
    bench.account();
}
