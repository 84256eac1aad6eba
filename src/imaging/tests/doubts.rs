//! A person lets pass what was seen, and nothing that came since.

use super::*;

fn unnumbered(made: Made) -> Made {
    made.with(tags::ACCESSION_NUMBER, VR::SH, "")
}

/// An EHR that hears of documents and not of studies.
fn without_studies() -> delivery::Config {
    let imaging = ImagingProfile { leave_out: vec![ImagingMessage::Studies], ..ImagingProfile::default() };
    delivery::Config { imaging, ..delivery::Config::new("ehr", Protocol::Mllp) }
}

#[test]
fn i7_documents_of_a_doubtful_study_are_held_also_where_no_ehr_hears_of_studies() {
    let bench = Bench::with(&[without_studies()], Config::default());
    bench.store(&[unnumbered(Made::image("1")), unnumbered(Made::pdf("1", 10))]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["no-accession".to_string()], 0));
    bench.release();
    let told = bench.told("ehr");
    assert!(told.len() == 1 && told[0].contains("|ED|"), "{told:?}");
    assert!(bench.held().is_empty());
    bench.account();
    let bench = Bench::with(&[without_studies()], Config::default());
    bench.store(&[unnumbered(Made::image("1"))]);
    bench.settle();
    assert!(bench.held().is_empty(), "nobody would hear of this one at all");
}

#[test]
fn i7_what_is_held_where_no_ehr_hears_of_studies_is_settled_by_what_comes() {
    let mut bench = Bench::with(&[without_studies()], Config::default());
    bench.store(&[unnumbered(Made::pdf("1", 10))]);
    bench.settle();
    bench.order("ORD-1", "ACC-1", "P-100", STUDY);
    assert_eq!((bench.told("ehr").len(), bench.held().len()), (1, 0));
    bench.account();
}

#[test]
fn i13_a_release_for_one_doubt_does_not_pass_another_that_came_since() {
    let mut bench = Bench::new();
    bench.store(&[unnumbered(Made::image("1")), unnumbered(Made::pdf("1", 10))]);
    bench.settle();
    assert_eq!(bench.held(), ["no-accession"]);
    bench.say_release();
    // Before that is worked on, an order comes that is for somebody else.
    bench.order("ORD-1", "ACC-1", "P-200", STUDY);
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 2), "now it was seen");
    bench.account();
}

#[test]
fn i13_several_doubts_are_seen_together() {
    let config = Config { hold: vec![StudyDoubt::NoAccession, StudyDoubt::NoOrder], ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], config);
    bench.store(&[unnumbered(Made::image("1"))]);
    bench.settle();
    let held = bench.reader.holds(10).unwrap().remove(0);
    assert!(held.why.contains("no order") && held.why.contains("no accession number"), "{}", held.why);
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 1));
}

#[test]
fn i13_a_held_number_does_not_pass_a_doubt_about_its_study() {
    let mut bench = Bench::new();
    bench.store(&[Made::report("1", "58.30", None)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["unmapped-code".to_string()], 2));
    bench.order("ORD-1", "ACC-1", "P-200", STUDY);
    bench.release();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 1));
    bench.account();
}

#[test]
fn a_doubt_that_was_seen_of_a_study_is_seen_for_its_numbers() {
    let bench = Bench::new();
    bench.store(&[unnumbered(Made::report("1", "58.30", None))]);
    bench.settle();
    bench.release();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["unmapped-code".to_string()], 2));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 1));
    bench.account();
}

/// A report held with its study, which a person let pass, as far as its numbers are named in codes that are known.
fn passed() -> Bench {
    let bench = Bench::new();
    bench.store(&[unnumbered(Made::image("1")), unnumbered(Made::report("1", "58.30", None))]);
    bench.settle();
    assert_eq!(bench.held(), ["no-accession"]);
    bench.release();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["unmapped-code".to_string()], 2));
    bench
}

#[test]
fn i7_a_correction_in_a_study_that_a_person_let_pass_is_held_until_it_is_seen() {
    let bench = passed();
    bench.store(&[unnumbered(Made::report("1", "61.00", None))]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["unmapped-code".into(), "no-accession".into()], 0));
    bench.release();
    let told = bench.told("ehr");
    assert!(told.iter().any(|message| message.contains("|61.00|") && message.contains("|C|")), "{told:?}");
    bench.release();
    bench.told("ehr");
    bench.settle();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 0), "once is enough");
    bench.account();
}

#[test]
fn i7_a_held_number_interpreted_again_in_a_study_that_a_person_let_pass_is_not_lost() {
    let bench = passed();
    let entries: Vec<_> = bench.reader.holds(10).unwrap().iter().map(|hold| hold.entry).collect();
    bench.journal.operate(OperatorAction::Replay { entries }).unwrap();
    bench.store(&[]);
    bench.settle();
    assert_eq!(bench.held(), ["no-accession"]);
    bench.release();
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.account();
}

#[test]
fn i7_a_correction_in_a_study_that_became_doubtful_is_held() {
    let mut bench = Bench::new();
    bench.store(&[Made::image("1"), Made::pdf("1", 10)]);
    bench.settle();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 2));
    bench.order("ORD-1", "ACC-1", "P-200", STUDY);
    bench.store(&[Made::pdf("1", 12)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 2));
    bench.account();
}

#[test]
fn i13_a_doubt_that_an_order_took_away_before_anybody_released_it_was_not_seen() {
    let config = Config { hold: vec![StudyDoubt::NoOrder, StudyDoubt::OrderMismatch], ..Config::default() };
    let mut bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], config);
    let cancel = |bench: &Bench| {
        let orders = bench.reader.work_orders(true, 10).unwrap().into_iter().map(|stored| stored.id).collect();
        bench.journal.operate(OperatorAction::CancelOrders { orders }).unwrap();
    };
    bench.order("ORD-1", "ACC-1", "P-100", STUDY);
    bench.store(&[Made::report("1", "58.30", None)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["unmapped-code".to_string()], 2));
    cancel(&bench);
    bench.release();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["no-order".to_string()], 0));
    // Nobody has released that: an order came, for another patient.
    bench.order("ORD-2", "ACC-1", "P-200", STUDY);
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.say_release();
    cancel(&bench);
    bench.send_released();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["no-order".to_string()], 0));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 1), "now it was seen");
    bench.account();
}

#[test]
fn i13_a_doubtful_study_that_was_discarded_with_its_documents_is_held_again_only_when_one_of_them_comes_again() {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-200", "1.2.3");
    bench.store(&[Made::image("1"), Made::pdf("1", 10)]);
    bench.settle();
    assert_eq!(bench.held(), ["order-mismatch"]);
    bench.discard(bench.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
    for studies in [1, 0] {
        assert_eq!(bench.settle(), studies);
        assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 0));
    }
    bench.store(&[Made::pdf("1", 12)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 2));
    bench.account();
}
