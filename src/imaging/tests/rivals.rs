//! Documents of which each would take one place, what came after a person had looked, and more than is read.

use super::corrections::{fraction, is, mass, report, results, said};
use super::replaced::{elsewhere, naming, pdf, reports};
use super::withdrawals::{hl7, prose};
use super::*;
use crate::mapping::Charset;

/// A number in a code of the cart's own, which is held.
pub(super) fn own() -> DataSet {
    num(["99-7", "99CART", "Cart's own index"], "7")
}

impl Bench {
    /// A person lets pass what waits for this.
    pub(super) fn release_for(&self, reason: &str) {
        let holds = self.reader.holds(100).unwrap().into_iter().filter(|hold| hold.reason == reason);
        let holds = holds.map(|hold| hold.id).collect();
        self.journal.operate(OperatorAction::Release { holds, note: "seen".to_string() }).unwrap();
        self.send_released();
    }

    /// The reasons why something waits, in order of their names.
    pub(super) fn waiting(&self) -> Vec<String> {
        let mut held = self.held();
        held.sort();
        held
    }
}

/// A report of which one number waits, and a rival for its place, which waits.
fn rivals(rival: impl Fn(Made) -> Made) -> Bench {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    is(&said(&bench.reported(report("2", vec![fraction("57"), own()], Some("1")))), &[("57", "C")]);
    bench.store_and_settle(rival(report("3", vec![fraction("56")], Some("1"))));
    assert_eq!(
        (bench.waiting(), bench.numbers("ehr").len()),
        (vec!["several-successors".into(), "unmapped-code".into()], 0)
    );
    bench
}

#[test]
fn i13_a_number_does_not_go_out_unseen_after_another_document_took_the_place() {
    for rival in [|made| made, elsewhere] {
        let bench = rivals(rival);
        bench.release_for("several-successors");
        is(&said(&bench.numbers("ehr")[0]), &[("56", "C")]);
        bench.release_for("unmapped-code");
        assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["several-successors".to_string()], 0));
        bench.release();
        let told = said(&bench.numbers("ehr")[0]);
        assert!(told.contains(&("7".to_string(), "C".to_string())), "{told:?}");
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.account();
    }
}

#[test]
fn i13_a_rival_waits_also_when_its_study_grows() {
    for rival in [|made| made, elsewhere] {
        let bench = rivals(rival);
        for number in 80..82 {
            bench.store_and_settle(rival(Made::image(&number.to_string())));
        }
        assert_eq!(bench.waiting(), ["several-successors", "unmapped-code"]);
        assert!(bench.numbers("ehr").is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_waits_of_a_document_goes_out_once_its_rival_is_discarded() {
    for rival in [|made| made, elsewhere] {
        let bench = rivals(rival);
        let holds = bench.reader.holds(100).unwrap().into_iter();
        bench.discard(
            holds.filter(|hold| hold.reason == "several-successors").map(|hold| hold.id).collect(),
            Vec::new(),
        );
        bench.release();
        is(&said(&bench.numbers("ehr")[0]), &[("7", "C")]);
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.account();
    }
}

#[test]
fn i13_a_rival_that_was_told_since_is_not_the_one_that_was_seen() {
    let bench = rivals(|made| made);
    // Both wait beside what the second told; then the fourth is told.
    bench.store_and_settle(elsewhere(report("4", vec![fraction("55")], Some("1"))));
    bench.release_last();
    is(&said(&bench.numbers("ehr")[0]), &[("55", "C")]);
    bench.release_for("several-successors");
    assert_eq!(
        (bench.waiting(), bench.numbers("ehr").len()),
        (vec!["several-successors".into(), "unmapped-code".into()], 0)
    );
    bench.release_for("several-successors");
    is(&said(&bench.numbers("ehr")[0]), &[("56", "C")]);
    bench.account();
}

#[test]
fn i13_a_correction_that_was_told_since_is_not_taken_back_by_who_saw_what_it_corrects() {
    let bench = Bench::new();
    assert!(bench.reported(pdf("1", "11111-1", None)).contains("|ED|"));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &[format!("{STUDY}.8.1")]));
    assert_eq!(bench.held(), ["included-elsewhere"]);
    assert!(bench.reported(pdf("2", "11111-1", Some("1"))).contains("|ED|"));
    assert_eq!(bench.held(), ["included-elsewhere"], "that it is corrected is nothing new as long as it waits");
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["included-elsewhere".to_string()], 0));
    bench.release();
    let told = results(&bench.numbers("ehr")[0]);
    assert_eq!((told[0].1.as_str(), told[1].2.as_str()), ("57", "D"), "{told:?}");
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_a_released_document_named_and_comes_later_is_told_and_asked_about() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(naming(prose("3", "1"), &reports(&["1", "4"])));
    bench.release_included("ehr");
    is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
    is(&said(&bench.reported(report("4", vec![mass("40")], None))), &[("40", "F")]);
    assert_eq!(bench.held(), ["included-elsewhere"], "nobody has said that of this one");
    bench.grows_silently();
    bench.release();
    is(&bench.all_said(), &[("40", "D")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_a_released_document_named_and_is_of_another_kind_is_not_dropped_when_it_comes() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    // It is told under the name of the missing one, and the first stands beside it.
    bench.store_and_settle(naming(Made::pdf("3", 10), &reports(&["1", "4"])));
    assert_eq!(bench.held(), ["several-predecessors"]);
    bench.release();
    let told = bench.numbers("ehr");
    assert!(told.len() == 1 && told[0].contains("|ED|") && !told[0].contains("|58|"), "{told:?}");
    bench.store_and_settle(report("4", vec![mass("40")], None));
    assert!(bench.numbers("ehr").is_empty());
    assert_eq!(bench.waiting(), ["included-elsewhere", "several-successors"]);
    bench.grows_silently();
    bench.release_for("several-successors");
    let told = bench.numbers("ehr").concat();
    assert!(told.contains("|40|"), "{told}");
    bench.account();
}

#[test]
fn i13_a_correction_of_what_a_document_took_the_place_of_is_held_also_while_that_is_asked_about_again() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(naming(prose("3", "1"), &reports(&["1", "4"])));
    bench.release_included("ehr");
    is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
    is(&said(&bench.reported(report("4", vec![mass("40")], None))), &[("40", "F")]);
    bench.store_and_settle(report("2", vec![fraction("57")], Some("1")));
    assert_eq!(bench.waiting(), ["included-elsewhere", "several-successors"]);
    assert!(bench.numbers("ehr").is_empty());
    bench.account();
}

#[test]
fn i13_what_a_released_document_took_the_place_of_stays_so_when_an_older_one_of_it_comes() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    is(&said(&bench.reported(naming(report("2", vec![fraction("57")], None), &reports(&["1", "5"])))), &[("57", "C")]);
    bench.store_and_settle(prose("3", "2"));
    bench.release_included("ehr");
    is(&said(&bench.numbers("ehr")[0]), &[("57", "D")]);
    // The second said that it takes the place of this one, and it has nothing in its own place.
    bench.store_and_settle(report("5", vec![fraction("59")], None));
    assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 0));
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_a_document_that_names_more_than_are_read_is_held() {
    let named = |count: usize| (1..=count).map(|number| format!("{STUDY}.9.{number}")).collect::<Vec<_>>();
    let several = || vec!["several-predecessors".to_string()];
    for (count, reasons) in [(63, vec![]), (64, several()), (65, several())] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.store_and_settle(naming(report("99", vec![fraction("57")], None), &named(count)[..]));
        let held = bench.held();
        assert_eq!(held, reasons, "{count}");
        if !reasons.is_empty() {
            assert!(bench.numbers("ehr").is_empty());
            bench.release();
        }
        is(&said(&bench.numbers("ehr")[0]), &[("57", "C")]);
        bench.grows_silently();
        bench.account();
    }
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(naming(prose("99", "1"), &named(65)[..]));
    let hold = bench.reader.holds(1).unwrap().remove(0);
    assert!(hold.reason == "included-elsewhere" && hold.why.contains("more documents than are read"), "{}", hold.why);
    bench.account();
}

#[test]
fn i13_a_line_of_more_documents_than_are_read_is_held() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    for number in 2..=64 {
        let before = (number - 1).to_string();
        is(&said(&bench.reported(report(&number.to_string(), vec![fraction("57")], Some(&before)))), &[("57", "C")]);
    }
    bench.store_and_settle(report("65", vec![fraction("56")], Some("64")));
    let hold = bench.reader.holds(1).unwrap().remove(0);
    assert!(hold.why.contains("more documents than are read"), "{}", hold.why);
    assert!(bench.numbers("ehr").is_empty());
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_a_document_whose_predecessors_were_not_all_looked_for_is_held() {
    let bench = Bench::new();
    bench.reported(elsewhere(report("1", vec![fraction("58")], None)));
    // What is named first is looked for last.
    let missing = |of: usize| (0..64).map(move |number| format!("1.2.77.{of}.{number}"));
    let mut many = vec![naming(report("2", vec![fraction("57")], None), &reports(&["1"]))];
    many.extend(
        (0..4).map(|of| naming(report(&format!("3{of}"), vec![mass("11")], None), &missing(of).collect::<Vec<_>>())),
    );
    bench.store_and_settle_all(&many);
    let of_first = bench.reader.holds(100).unwrap().into_iter().find(|hold| hold.reason == "several-predecessors");
    let of_first = of_first.expect("it goes back to one that was not looked for");
    assert!(of_first.why.contains("more documents than are read"), "{}", of_first.why);
    assert!(bench.numbers("ehr").is_empty());
    bench.account();
}

#[test]
fn i13_a_document_that_is_named_twice_is_one_document() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    is(&said(&bench.reported(naming(report("3", vec![fraction("57")], None), &reports(&["1", "1"])))), &[("57", "C")]);
    bench.grows_silently();
    bench.account();
}

/// Two reports of which a third takes the place by a person's word, and a correction of the second by itself.
fn merged() -> Bench {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"])));
    bench
}

#[test]
fn i13_what_was_told_since_under_a_name_that_was_taken_back_is_not_taken_back_unseen() {
    let bench = merged();
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("57", "C")]);
    bench.store_and_settle(report("4", vec![mass("11")], Some("2")));
    bench.waits("several-successors");
    bench.release();
    is(&bench.all_said(), &[("11", "C")]);
    bench.store_and_settle(report("5", vec![fraction("56")], Some("3")));
    bench.waits("several-predecessors");
    bench.release();
    is(&bench.all_said(), &[("11", "D"), ("56", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_correction_under_the_second_name_is_not_taken_back_by_who_saw_what_it_corrects() {
    let bench = merged();
    bench.waits("several-predecessors");
    is(&said(&bench.reported(report("4", vec![mass("11")], Some("2")))), &[("11", "C")]);
    bench.release();
    bench.waits("several-predecessors");
    bench.release();
    is(&bench.all_said(), &[("11", "D"), ("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_waits_is_not_covered_by_what_may_be_discarded() {
    let unverified = |made: Made| made.with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    let waiting: [(&str, Made); 4] = [
        ("included-elsewhere", elsewhere(prose("3", "1"))),
        ("included-elsewhere", prose("3", "1")),
        ("unverified-correction", unverified(report("2", vec![fraction("57")], Some("1")))),
        ("unverified-correction", unverified(elsewhere(report("2", vec![fraction("57")], Some("1"))))),
    ];
    for (reason, made) in waiting {
        let bench = Bench::new();
        is(&said(&bench.reported(report("1", vec![fraction("58"), own()], None))), &[("58", "F")]);
        bench.store_and_settle(made);
        let mut waiting = [reason, "unmapped-code"];
        waiting.sort();
        assert_eq!(bench.waiting(), waiting);
        let holds = bench.reader.holds(100).unwrap().into_iter();
        bench.discard(holds.filter(|hold| hold.reason == reason).map(|hold| hold.id).collect(), Vec::new());
        assert_eq!(bench.held(), ["unmapped-code"]);
        bench.release();
        is(&bench.all_said(), &[("7", "F")]);
        bench.grows_silently();
        bench.account();
    }
}

#[test]
fn i13_a_correction_of_what_was_told_after_a_rival_is_told() {
    let bench = rivals(|made| made);
    bench.release_for("several-successors");
    is(&bench.all_said(), &[("56", "C")]);
    is(&said(&bench.reported(report("4", vec![fraction("55")], Some("3")))), &[("55", "C")]);
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.account();
}

#[test]
fn i13_what_was_held_without_a_name_goes_out_under_the_one_its_line_has_by_then() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", vec![fraction("56")], Some("2")));
    bench.waits("no-predecessor");
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("57")], Some("1"))))), &[("57", "C")]);
    bench.release();
    is(&bench.all_said(), &[("56", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_rival_that_had_nothing_to_take_back_took_the_place_all_the_same() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    is(&said(&bench.reported(report("2", vec![own()], Some("1")))), &[("58", "D")]);
    bench.reported(report("4", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["4", "1"])));
    assert_eq!(bench.waiting().len(), 2, "{:?}", bench.held());
    bench.release_last();
    while bench.waiting().len() == 2 && bench.numbers("ehr").is_empty() {
        bench.release_last();
    }
    bench.numbers("ehr");
    bench.release_for("unmapped-code");
    bench.waits("several-successors");
    bench.account();
}

#[test]
fn i13_what_a_correction_in_another_study_covered_is_not_asked_about_when_its_own_study_grows() {
    let bench = Bench::new();
    is(&said(&bench.reported(report("1", vec![fraction("58"), own()], None))), &[("58", "F")]);
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("57")], Some("1"))))), &[("57", "C")]);
    assert!(bench.held().is_empty());
    bench.grows_silently();
    assert!(bench.held().is_empty(), "{:?}", bench.held());
    bench.account();
}

#[test]
fn i13_what_a_person_said_stays_said_while_the_numbers_of_that_wait() {
    let bench = Bench::new();
    bench.reported(pdf("1", "11111-1", None));
    bench.store_and_settle(naming(report("3", vec![own()], None), &[format!("{STUDY}.8.1")]));
    bench.waits("included-elsewhere");
    bench.release();
    bench.numbers("ehr");
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.grows_silently();
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.account();
}

#[test]
fn i13_a_question_that_was_only_shown_is_not_answered() {
    for is_discarded in [false, true] {
        let bench = Bench::new();
        bench.reported(pdf("1", "11111-1", None));
        bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &[format!("{STUDY}.8.2")]));
        bench.waits("no-predecessor");
        assert!(bench.reported(elsewhere(pdf("2", "11111-1", Some("1")))).contains("|ED|"));
        bench.release();
        bench.waits("included-elsewhere");
        if is_discarded {
            bench.discard(bench.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
        }
        bench.grows_silently();
        bench.account();
    }
}

#[test]
fn i13_a_number_that_was_discarded_does_not_go_out_with_another_of_its_report() {
    for is_grown in [false, true] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.store_and_settle(report("3", vec![fraction("57"), mass("12")], Some("2")));
        let holds = bench.reader.holds(10).unwrap();
        assert_eq!(holds.len(), 2);
        bench.discard(vec![holds[1].id], Vec::new());
        is(&said(&bench.reported(elsewhere(report("2", vec![fraction("59")], Some("1"))))), &[("59", "C")]);
        if is_grown {
            bench.grows_silently();
        }
        assert_eq!(bench.held(), ["no-predecessor"]);
        bench.release();
        bench.grows_silently();
        assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (2, 0), "{:?}", bench.held());
        let holds = bench.reader.holds(10).unwrap();
        bench.discard(vec![holds[1].id], Vec::new());
        bench.release();
        is(&bench.all_said(), &[("57", "C")]);
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_was_discarded_under_a_name_it_had_before_stays_so() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(report("3", vec![fraction("57")], Some("2")));
    bench.discard(bench.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("59")], Some("1"))))), &[("59", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_was_in_doubt_covers_what_it_takes_the_place_of_once_it_is_released() {
    for place in [|made| made, elsewhere] {
        let bench = Bench::new();
        is(&said(&bench.reported(report("1", vec![fraction("58"), own()], None))), &[("58", "F")]);
        let unverified =
            report("2", vec![fraction("57")], Some("1")).with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
        bench.store_and_settle(place(unverified));
        bench.release_for("unverified-correction");
        is(&bench.all_said(), &[("57", "C")]);
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.grows_silently();
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.account();
    }
}

#[test]
fn i13_a_second_document_that_stands_is_not_taken_back_unasked_by_one_that_names_both() {
    let bench = merged();
    bench.release();
    bench.all_said();
    bench.store_and_settle(report("4", vec![mass("11")], Some("2")));
    bench.release();
    is(&bench.all_said(), &[("11", "C")]);
    bench.store_and_settle(naming(report("5", vec![fraction("56")], None), &reports(&["3", "4"])));
    bench.waits("several-predecessors");
    bench.release();
    is(&bench.all_said(), &[("11", "D"), ("56", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_stands_under_a_second_name_is_not_taken_back_while_a_rival_waits() {
    let names = |made: Made, named: [&str; 2]| naming(made, &reports(&named));
    let rival = report("4", vec![fraction("55")], None);
    let unverified = rival.clone().with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    let both = (names(rival, ["1", "2"]), "several-predecessors", vec![("55", "C"), ("57", "D")]);
    for (rival, reason, told) in [both, (names(unverified, ["1", "3"]), "unverified-correction", vec![("55", "C")])] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.reported(report("2", vec![mass("12")], None));
        bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["2", "1"])));
        bench.release();
        bench.all_said();
        bench.store_and_settle(rival);
        bench.waits(reason);
        bench.grows_silently();
        bench.release();
        is(&bench.all_said(), &told);
        assert!(bench.held().is_empty(), "{:?}", bench.held());
        bench.grows_silently();
        bench.account();
    }
}

/// Two reports, of which a third takes the place and stands under the name of the second.
fn under_the_second() -> Bench {
    let small = Config { document_mb_max: 1, ..Config::default() };
    let bench = Bench::with(&[delivery::Config { charset: Charset::Latin1, ..hl7("ehr") }], small);
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["2", "1"])));
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("57", "C"), ("58", "D")]);
    bench
}

/// The same, larger than the site allows.
pub(super) fn large(mut made: Made) -> Made {
    let tag = crate::message::dicom::Tag(0x0071, 0x1010);
    made.set.put(Element { tag, vr: VR::OB, value: Value::Bytes(vec![0; 3 << 20]) });
    made
}

/// The same, with a character that the EHR does not take.
fn foreign(mut made: Made) -> Made {
    let mut name = DataSet::new(CharacterSets::utf8());
    name.put_text(tags::CODE_VALUE, VR::SH, "18043-0");
    name.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "LN");
    name.put_text(tags::CODE_MEANING, VR::LO, "駆出率");
    let mut number = fraction("55");
    number.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![name]);
    made.set.put_items(tags::CONTENT_SEQUENCE, vec![number]);
    made
}

#[test]
fn i13_what_names_an_ended_document_before_the_one_that_stands_corrects_that_in_one_message() {
    let bench = under_the_second();
    let fourth = bench.reported(naming(report("4", vec![fraction("55")], None), &reports(&["1", "3"])));
    is(&said(&fourth), &[("55", "C")]);
    is(&said(&bench.reported(report("5", vec![fraction("54")], Some("4")))), &[("54", "C")]);
    assert!(bench.held().is_empty());
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_what_cannot_be_told_takes_nothing_back_and_covers_nothing() {
    let places: [fn(Made) -> Made; 2] = [elsewhere, |made| made];
    let made = [("too-large", large as fn(Made) -> Made), ("unsendable-character", foreign)];
    for (place, (reason, made)) in places.into_iter().flat_map(|place| made.map(|made| (place, made))) {
        let bench = under_the_second();
        bench.store_and_settle(made(naming(report("4", vec![fraction("55")], None), &reports(&["1", "3"]))));
        bench.waits(reason);
        bench.grows_silently();
        bench.release();
        bench.waits(reason);
        // What waits of an earlier one waits still.
        bench.store_and_settle(report("6", vec![mass("11"), own()], None));
        is(&bench.all_said(), &[("11", "F")]);
        bench.store_and_settle(made(place(report("7", vec![mass("10")], Some("6")))));
        let mut waiting = [reason, reason, "unmapped-code"];
        waiting.sort();
        assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (waiting.map(String::from).to_vec(), 0));
        let holds = bench.reader.holds(10).unwrap().into_iter().filter(|hold| hold.reason == reason);
        bench.discard(holds.map(|hold| hold.id).collect(), Vec::new());
        bench.release();
        is(&bench.all_said(), &[("7", "F")]);
        bench.account();
    }
}

#[test]
fn i7_what_a_document_names_that_was_discarded_as_it_could_not_be_told_is_told() {
    for (reason, made) in [("too-large", large as fn(Made) -> Made), ("unsendable-character", foreign)] {
        let bench = under_the_second();
        bench.store_and_settle_all(&[
            report("6", vec![mass("11")], None),
            made(report("7", vec![mass("10")], Some("6"))),
        ]);
        bench.waits(reason);
        bench.grows_silently();
        bench.discard(bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
        bench.settle();
        is(&bench.all_said(), &[("11", "F")]);
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_stands_is_not_taken_back_for_a_document_that_cannot_be_told() {
    let bench = under_the_second();
    bench.store_and_settle(report("4", vec![mass("11")], None));
    is(&bench.all_said(), &[("11", "F")]);
    bench.store_and_settle(large(naming(Made::pdf("5", 10), &reports(&["3", "4"]))));
    bench.waits("included-elsewhere");
    for _ in 0..2 {
        bench.release();
        bench.waits("too-large");
    }
    bench.grows_silently();
    let bench = Bench { desk: bench.desk.with(&Config::default()), ..bench };
    bench.release();
    let told: Vec<_> = bench.numbers("ehr").iter().flat_map(|message| results(message)).collect();
    let gone: Vec<_> = told.iter().filter(|(.., status)| status == "D").map(|(_, value, _)| value.as_str()).collect();
    assert!(gone.contains(&"57") && gone.contains(&"11") && told.len() == 3, "{told:?}");
    assert!(bench.held().is_empty(), "{:?}", bench.held());
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_what_can_be_read_since_and_not_be_told_takes_nothing_back() {
    let bench = under_the_second();
    bench.store_and_settle(report("4", vec![mass("11")], None));
    is(&bench.all_said(), &[("11", "F")]);
    bench.store_and_settle(large(foreign(naming(report("5", vec![fraction("55")], None), &reports(&["3", "4"])))));
    bench.waits("too-large");
    let bench = Bench { desk: bench.desk.with(&Config::default()), ..bench };
    bench.release();
    bench.waits("several-predecessors");
    for _ in 0..2 {
        bench.release();
        bench.waits("unsendable-character");
    }
    bench.discard(bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
    bench.grows_silently();
    bench.account();
}

/// A report that was told to two EHRs of one link and to one of all.
fn of_three_ehrs() -> Bench {
    let some = |name| delivery::Config { links: vec!["echo-1".to_string()], ..hl7(name) };
    let bench = Bench::with(&[some("ehr"), some("second"), hl7("all")], Config::default());
    bench.reported(report("1", vec![fraction("58")], None));
    assert_eq!((bench.numbers("second").len(), bench.numbers("all").len()), (1, 1));
    bench
}

#[test]
fn i13_what_stands_in_one_ehr_more_than_was_seen_is_not_taken_back_there() {
    let some = |name| delivery::Config { links: vec!["echo-1".to_string()], ..hl7(name) };
    let bench = of_three_ehrs().now_with(&[some("ehr"), hl7("all")]);
    bench.keep_on("reading-room", "READER", &[report("2", vec![fraction("57")], Some("1"))]);
    bench.file();
    bench.settle();
    assert_eq!(bench.held(), ["replaced-elsewhere"]);
    // The second EHR is back.
    let bench = bench.now_with(&[some("ehr"), some("second"), hl7("all")]);
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["replaced-elsewhere".to_string()], 0));
    let hold = bench.reader.holds(1).unwrap().remove(0);
    assert!(hold.why.contains("ehr, second"), "{}", hold.why);
    bench.release();
    for name in ["ehr", "second"] {
        is(&said(&bench.numbers(name)[0]), &[("58", "D")]);
    }
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_chart_more_that_cannot_be_read_is_not_the_one_that_was_seen() {
    let bench = of_three_ehrs();
    let damage = |name: &str| {
        let of = format!("SELECT min(id) FROM outbox WHERE destination = '{name}'");
        bench.sabotage(&format!("UPDATE charted SET sealed = zeroblob(60) WHERE id = ({of})"));
    };
    damage("ehr");
    bench.store_and_settle(report("2", vec![fraction("57")], Some("1")));
    assert_eq!(bench.held(), ["damaged"]);
    damage("second");
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["damaged".to_string()], 0));
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("57", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}
