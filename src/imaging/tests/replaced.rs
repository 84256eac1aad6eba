//! Documents that take the place of others, elsewhere, of several, and in one message with what they take back.

use super::corrections::{fraction, is, mass, report, results, said};
use super::withdrawals::{chart, hl7, prose, statuses};
use super::*;

/// Partial, addended, replaced report (CID 7009), and another purpose (CID 7006).
const PURPOSES: [(&str, bool); 5] =
    [("121360", true), ("121362", true), ("121363", true), ("121361", false), ("121335", false)];
const SIMPLIFIED_ECHO: &str = "1.2.840.10008.5.1.4.1.1.88.72";

/// The object with these as its predecessors.
pub(super) fn naming(mut made: Made, uids: &[String]) -> Made {
    let documents = uids.iter().map(|uid| {
        let mut document = DataSet::default();
        document.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, uid);
        document
    });
    let [mut study, mut series] = [0; 2].map(|_| DataSet::default());
    series.put_items(tags::REFERENCED_SOP_SEQUENCE, documents.collect());
    study.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    made.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study]);
    made
}

pub(super) fn reports(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(|number| format!("{STUDY}.9.{number}")).collect()
}

/// A PDF of this kind, in the place of another.
pub(super) fn pdf(number: &str, kind: &str, replaces: Option<&str>) -> Made {
    let mut made = Made::pdf(number, 10);
    made.set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code([kind, "LN", "Report"])]);
    let replaces: Vec<String> = replaces.iter().map(|number| format!("{STUDY}.8.{number}")).collect();
    if replaces.is_empty() { made } else { naming(made, &replaces) }
}

/// The same in another study.
pub(super) fn elsewhere(made: Made) -> Made {
    made.with(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4").with(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4.9")
}

/// OBX-3.1 and OBX-11 of each result.
fn kinds(message: &str) -> Vec<(String, String)> {
    let results = results(message).into_iter();
    results.map(|(place, _, status)| (place.split(' ').next().unwrap().to_string(), status)).collect()
}

impl Bench {
    fn lanes(&self, destination: &str) -> Vec<(i64, String)> {
        let claimed = self.runtime.block_on(self.journal.claim(destination, 100)).unwrap();
        let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
        claimed.into_iter().map(|message| (message.lane, text(message.body))).collect()
    }
}

#[test]
fn i13_a_pdf_under_another_code_takes_the_old_one_back_in_the_same_message() {
    let bench = Bench::with(&[hl7("ehr"), chart()], Config::default());
    let final_ = |made: Made| {
        let made = made.with(tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
        made.with(tags::VERIFICATION_FLAG, VR::CS, "VERIFIED")
    };
    let first = results(&bench.reported(final_(pdf("1", "11111-1", None))));
    bench.store_and_settle(final_(pdf("2", "22222-2", Some("1"))));
    // It is refused: then both may be there, and the next takes both back.
    let refused = bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    let refused = refused.iter().find(|(_, body)| body.contains("|ED|")).unwrap();
    is(&kinds(&refused.1), &[("22222-2", "C"), ("11111-1", "D")]);
    assert_eq!(results(&refused.1)[1].0, first[0].0, "in the place it had");
    is(
        &kinds(&bench.reported(final_(pdf("3", "33333-3", Some("2"))))),
        &[("33333-3", "C"), ("22222-2", "D"), ("11111-1", "D")],
    );
    is(&kinds(&bench.reported(final_(pdf("4", "33333-3", Some("3"))))), &[("33333-3", "C")]);
    let told = bench.numbers("chart");
    assert_eq!(statuses(&told, "DocumentReference"), ["current"; 4], "one resource, which the last one replaces");
    bench.account();
}

#[test]
fn i13_what_is_named_for_another_purpose_is_not_replaced() {
    for (purpose, is_replaced) in PURPOSES {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        let mut second = naming(report("2", vec![fraction("57")], None), &reports(&["1"]));
        let mut places = second.set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
        let mut series = places[0].items(tags::REFERENCED_SERIES_SEQUENCE).to_vec();
        let mut documents = series[0].items(tags::REFERENCED_SOP_SEQUENCE).to_vec();
        let coded = vec![code([purpose, "DCM", "purpose"])];
        documents[0].put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, coded);
        series[0].put_items(tags::REFERENCED_SOP_SEQUENCE, documents);
        places[0].put_items(tags::REFERENCED_SERIES_SEQUENCE, series);
        second.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, places);
        let told = said(&bench.reported(second));
        let expected = if is_replaced { &[("57", "C"), ("12", "D")][..] } else { &[("57", "F")] };
        is(&told, expected);
        assert!(bench.held().is_empty(), "{purpose}");
        bench.account();
    }
}

#[test]
fn i13_nothing_is_taken_back_from_an_ehr_that_does_not_hear_of_what_takes_its_place() {
    for is_released in [true, false] {
        let some = delivery::Config { links: vec!["echo-1".to_string()], ..hl7("ehr") };
        let bench = Bench::with(&[some, hl7("all")], Config::default());
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        bench.numbers("all");
        bench.keep_on("reading-room", "READER", &[report("2", vec![fraction("57")], Some("1"))]);
        bench.file();
        bench.settle();
        is(&said(bench.numbers("all").last().unwrap()), &[("57", "C"), ("12", "D")]);
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["replaced-elsewhere".to_string()], 0));
        let hold = bench.reader.holds(1).unwrap().remove(0);
        assert!(hold.why.contains("what ehr has"), "{}", hold.why);
        bench.grows_silently();
        bench.numbers("all");
        if is_released {
            bench.release();
            let mut gone = said(&bench.numbers("ehr")[0]);
            gone.sort();
            is(&gone, &[("12", "D"), ("58", "D")]);
        } else {
            bench.discard(vec![hold.id], Vec::new());
        }
        assert!(bench.numbers("ehr").is_empty() && bench.numbers("all").is_empty(), "it was told there already");
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_a_document_without_a_page_takes_nothing_back_unseen() {
    let bench = Bench::new();
    assert!(bench.reported(pdf("1", "11111-1", None)).contains("|ED|"));
    let mut blank = pdf("2", "11111-1", Some("1"));
    blank.set.put(Element { tag: tags::ENCAPSULATED_DOCUMENT, vr: VR::OB, value: Value::Bytes(Vec::new()) });
    bench.store_and_settle(blank.clone());
    bench.release_included("ehr");
    is(&kinds(&bench.numbers("ehr")[0]), &[("11111-1", "D")]);
    // The same object with nothing in it.
    let bench = Bench::new();
    bench.reported(pdf("1", "11111-1", None));
    blank.set.put_text(tags::SOP_INSTANCE_UID, VR::UI, &format!("{STUDY}.8.1"));
    bench.store_and_settle(blank);
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["replaced-elsewhere".to_string()], 0));
    bench.account();
}

#[test]
fn i13_a_document_of_another_study_takes_nothing_back_of_another_kind_or_of_one_nobody_knows() {
    let others: [(Made, Option<&str>); 3] = [
        (elsewhere(naming(report("2", vec![fraction("57")], None), &[format!("{STUDY}.8.1")])), None),
        (elsewhere(naming(report("2", vec![fraction("57")], None), &reports(&["1"]))), Some("12")),
        (elsewhere(pdf("2", "11111-1", Some("1"))), Some("12")),
    ];
    for (at, (other, is_lost)) in others.into_iter().enumerate() {
        let bench = Bench::new();
        match at {
            1 => bench.reported(report("1", vec![fraction("58")], None)),
            _ => bench.reported(pdf("1", "11111-1", None)),
        };
        if is_lost.is_some() {
            // Its rows are gone, and what EHRs were told of it is not.
            bench.sabotage("DELETE FROM instance");
        }
        bench.store_and_settle(other);
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["included-elsewhere".to_string()], 0), "{at}");
        bench.release();
        let told = bench.numbers("ehr");
        assert_eq!(told.len(), 1, "{at}: {told:?}");
        assert!(told[0].contains("|D|") == (at == 0), "{at}: {told:?}");
        bench.account();
    }
}

#[test]
fn i13_a_document_of_another_study_is_of_the_line_of_what_it_names() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    is(&said(&bench.reported(report("2", vec![fraction("57"), mass("11")], Some("1")))), &[("57", "C"), ("11", "C")]);
    // It names the second, which is known under the name of the first.
    is(&said(&bench.reported(elsewhere(report("3", vec![fraction("56")], Some("2"))))), &[("56", "C"), ("11", "D")]);
    assert!(bench.held().is_empty());
    bench.grows_silently();
    bench.account();
}

/// ORC-2, ORC-3, OBR-2, OBR-3 and OBR-4.1 of a message.
pub(super) fn order_numbers(message: &str) -> Vec<String> {
    let of = [("ORC", 2), ("ORC", 3), ("OBR", 2), ("OBR", 3), ("OBR", 4)];
    of.map(|(segment, number)| field(message, segment, number).split('^').next().unwrap().to_string()).into()
}

#[test]
fn i13_a_correction_across_studies_goes_under_the_order_numbers_of_what_it_corrects() {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-100", STUDY);
    bench.order("ORD-2", "ACC-2", "P-100", "1.2.3.4");
    let second = |made: Made| elsewhere(made).with(tags::ACCESSION_NUMBER, VR::SH, "ACC-2");
    let first = bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    assert_eq!(order_numbers(&first)[0], "ORD-1");
    let corrected = bench.reported(second(report("2", vec![fraction("57")], Some("1"))));
    is(&said(&corrected), &[("57", "C"), ("12", "D")]);
    assert_eq!(order_numbers(&corrected), order_numbers(&first), "an EHR finds by them what is corrected");
    let again = bench.reported(second(naming(report("3", vec![fraction("56")], None), &reports(&["2"]))));
    assert_eq!((order_numbers(&again), said(&again)[0].1.as_str()), (order_numbers(&first), "C"));
    // What is told there for the first time has the numbers of its own order.
    let own = bench.reported(second(report("4", vec![mass("11")], None)));
    assert_eq!(order_numbers(&own)[0], "ORD-2");
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_was_taken_back_for_a_doubtful_number_is_told_again_under_the_same_order() {
    let own = num(["99-7", "99CART", "Cart's own index"], "7");
    for is_delivered in [true, false] {
        let mut bench = Bench::new();
        bench.order("ORD-1", "ACC-1", "P-100", STUDY);
        bench.order("ORD-2", "ACC-2", "P-100", "1.2.3.4");
        let first = bench.reported(report("1", vec![fraction("58")], None));
        let second = elsewhere(report("2", vec![own.clone()], Some("1"))).with(tags::ACCESSION_NUMBER, VR::SH, "ACC-2");
        bench.store_and_settle(second);
        if is_delivered {
            is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
        }
        bench.release();
        let told = bench.numbers("ehr");
        let last = told.last().unwrap();
        assert_eq!(
            order_numbers(last)[..4],
            order_numbers(&first)[..4],
            "whatever of it is on its way: {is_delivered}"
        );
        assert_eq!(said(last)[0], ("7".to_string(), "C".to_string()));
        bench.account();
    }
}

#[test]
fn i13_a_document_that_nobody_verified_is_held_also_once_a_person_said_that_it_replaces() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let pdf = Made::pdf("2", 10).with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    bench.store_and_settle(naming(pdf, &reports(&["1"])));
    assert_eq!(bench.held(), ["included-elsewhere"]);
    bench.release();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["unverified-correction".to_string()], 0));
    bench.release();
    let told = results(&bench.numbers("ehr")[0]);
    assert_eq!((told[0].2.as_str(), told[1].1.as_str(), told[1].2.as_str()), ("C", "58", "D"));
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_numbers_of_a_document_that_names_what_was_replaced_are_not_lost() {
    let bench = Bench::new();
    assert!(bench.reported(pdf("1", "11111-1", None)).contains("|ED|"));
    assert!(bench.reported(pdf("2", "11111-1", Some("1"))).contains("|ED|"));
    let named = naming(report("3", vec![fraction("57")], None), &[format!("{STUDY}.8.1")]);
    bench.store_and_settle(named);
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["included-elsewhere".to_string()], 0));
    bench.release();
    assert_eq!(said(&bench.numbers("ehr")[0])[0], ("57".to_string(), "F".to_string()));
    bench.account();
}

#[test]
fn i5_two_journals_never_give_one_id_to_two_messages() {
    // As on a box and on the one that took its place, or before a reset and after it: rows are counted anew.
    let released = |value: &str| {
        let bench = Bench::new();
        let named = naming(report("3", vec![fraction(value)], None), &[format!("{STUDY}.8.1")]);
        bench.store_and_settle(named);
        bench.told("ehr");
        bench.release();
        bench.told("ehr").iter().map(|message| field(message, "MSH", 10)).collect::<Vec<_>>()
    };
    let (ours, theirs) = (released("57"), released("58"));
    assert!(!ours.is_empty() && ours.iter().all(|id| !theirs.contains(id)), "{ours:?}, {theirs:?}");
}

#[test]
fn i13_what_is_released_for_one_ehr_tells_another_nothing() {
    let some = delivery::Config { links: vec!["echo-1".to_string()], ..hl7("ehr") };
    let bench = Bench::with(&[some, hl7("all")], Config::default());
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.numbers("all");
    let both = ["2", "3"].map(|number| report(number, vec![fraction("57")], Some("1")));
    bench.keep_on("reading-room", "READER", &both);
    bench.file();
    bench.settle();
    assert!(bench.numbers("all").is_empty() && bench.numbers("ehr").is_empty());
    let holds = bench.reader.holds(10).unwrap().into_iter();
    let elsewhere: Vec<_> = holds.filter(|hold| hold.reason == "replaced-elsewhere").map(|hold| hold.id).collect();
    assert!(!elsewhere.is_empty(), "{:?}", bench.held());
    bench.journal.operate(OperatorAction::Release { holds: elsewhere, note: "seen".to_string() }).unwrap();
    bench.send_released();
    assert!(bench.numbers("all").is_empty(), "of what is held it has heard nothing");
    bench.account();
}

#[test]
fn i13_what_nobody_verified_does_not_take_the_place_of_what_is_final_unseen() {
    let unverified = |made: Made| made.with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    for is_released in [true, false] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        bench.store_and_settle(unverified(report("2", vec![fraction("57")], Some("1"))));
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["unverified-correction".to_string()], 0));
        if is_released {
            bench.release();
            is(&said(&bench.numbers("ehr")[0]), &[("57", "C"), ("12", "D")]);
        }
        // The verified one settles it either way.
        is(
            &said(&bench.reported(report("3", vec![fraction("56")], Some("2")))),
            if is_released { &[("56", "C")] } else { &[("56", "C"), ("12", "D")] },
        );
        assert!(bench.held().is_empty());
        bench.account();
    }
}

/// A key object selection with this title, of these objects.
fn key_objects(title: &str, named: impl Iterator<Item = (&'static str, String)>) -> Made {
    let mut note = Made::new("1.2.840.10008.5.1.4.1.1.88.59", "7", "1").with(tags::VALUE_TYPE, VR::CS, "CONTAINER");
    let objects = named.map(|(class, uid)| {
        let mut object = DataSet::default();
        object.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class);
        object.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &uid);
        object
    });
    let [mut study, mut series] = [0; 2].map(|_| DataSet::default());
    series.put_items(tags::REFERENCED_SOP_SEQUENCE, objects.collect());
    study.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    note.set.put_items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![study]);
    note.set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code([title, "DCM", "title"])]);
    note
}

#[test]
fn i10_a_rejection_note_of_more_documents_than_are_read_takes_none_of_them_back() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let note = |count: usize| key_objects("113001", (1..=count).map(|number| (SR, format!("{STUDY}.9.{number}"))));
    bench.store_and_settle(note(33));
    for _ in 0..2 {
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["too-large".to_string()], 0));
        bench.grows_silently();
        bench.release();
    }
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["too-large".to_string()], 0));
    bench.discard(bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
    // As many as are read.
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(note(32));
    bench.release_included("ehr");
    is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
    bench.account();
}

#[test]
fn i13_a_rejection_note_asks_whether_what_it_names_is_taken_back() {
    for (title, is_rejection) in
        [("113001", true), ("113037", true), ("113038", true), ("113039", false), ("113000", false)]
    {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        // Images first, as many as fill a line of documents.
        let images = (1..200).map(|number| (US, format!("{STUDY}.1.{number}")));
        let note = key_objects(title, images.chain([(SR, format!("{STUDY}.9.1"))]));
        bench.store_and_settle(note.clone());
        assert!(bench.numbers("ehr").is_empty(), "{title}");
        if is_rejection {
            assert_eq!(bench.held(), ["included-elsewhere"], "{title}");
            bench.release();
            let mut gone = said(&bench.numbers("ehr")[0]);
            gone.sort();
            is(&gone, &[("12", "D"), ("58", "D")]);
        }
        assert!(bench.held().is_empty(), "{title}");
        bench.grows_silently();
        bench.account();
        // What would take its place and is held does not answer that.
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        let unverified =
            report("2", vec![fraction("57")], Some("1")).with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
        bench.store_and_settle(unverified);
        bench.store_and_settle(note.clone());
        let waits = bench.held().iter().any(|reason| reason == "included-elsewhere");
        assert_eq!(waits, is_rejection, "{title}: {:?}", bench.held());
        // What took the place of the rejected report since stands.
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.store_and_settle(note);
        is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("57", "C")]);
        bench.release();
        assert!(bench.numbers("ehr").is_empty(), "{title}: {:?}", bench.held());
        bench.account();
    }
}

#[test]
fn i13_the_chart_of_another_patient_is_not_touched_unseen() {
    let of = |made: Made, patient: &str| elsewhere(made).with(tags::PATIENT_ID, VR::LO, patient);
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.store_and_settle(of(report("2", vec![fraction("57")], Some("1")), "P-200"));
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["another-patient".to_string()], 0));
    bench.grows_silently();
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("57", "F")]);
    bench.account();
    // One who goes by another number since the order came is the same.
    let mut bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.order("ORD-1", "ACC-1", "E-7^^^HOSP^MR~P-100", "1.2.3");
    is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("57", "C"), ("12", "D")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i6_all_messages_of_a_line_go_in_one_lane() {
    for lane in [delivery::Lane::Specimen, delivery::Lane::Link, delivery::Lane::Patient] {
        let bench = Bench::with(&[delivery::Config { lane, ..hl7("ehr") }], Config::default());
        bench.store_and_settle(report("1", vec![fraction("58")], None));
        bench.keep_on("reading-room", "READER", &[elsewhere(report("2", vec![fraction("57")], Some("1")))]);
        bench.file();
        bench.settle();
        bench.keep_on("ward", "READER", &[report("3", vec![fraction("56")], Some("2"))]);
        bench.file();
        bench.settle();
        let told = bench.lanes("ehr");
        let of = |what: &str| -> Vec<i64> {
            told.iter().filter(|(_, body)| body.contains(what)).map(|(lane, _)| *lane).collect()
        };
        let numbers = of("|18043-0^");
        assert!(numbers.len() == 3 && numbers.iter().all(|lane| *lane == numbers[0]), "{lane:?}: {numbers:?}");
        let studies = of(&format!("|{STUDY}|"));
        assert!(studies.len() == 2 && studies[0] == studies[1], "{lane:?}: what is said of a study too");
        bench.account();
    }
}

#[test]
fn i13_one_that_takes_the_place_of_two_takes_both_back_once_a_person_said_so() {
    let bench = Bench::with(&[hl7("ehr"), chart()], Config::default());
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    let second = results(&bench.reported(report("2", vec![fraction("48"), mass("11")], None)));
    bench.numbers("chart");
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"])));
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-predecessors".to_string()], 0));
    bench.release();
    let told = bench.numbers("ehr");
    assert_eq!(told.len(), 2);
    let of_second = told.iter().find(|message| message.contains("|48|")).unwrap();
    let mut gone = results(of_second);
    gone.sort();
    let mut expected: Vec<_> = second.into_iter().map(|(place, value, _)| (place, value, "D".to_string())).collect();
    expected.sort();
    assert_eq!(gone, expected, "all of the second, in the places it had");
    let of_first = told.iter().find(|message| message.contains("|57|")).unwrap();
    is(&said(of_first), &[("57", "C"), ("12", "D")]);
    let mut reports_now = statuses(&bench.numbers("chart"), "DiagnosticReport");
    reports_now.sort();
    assert_eq!(reports_now, ["corrected", "entered-in-error"]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    // From here on it is one line.
    is(&said(&bench.reported(report("4", vec![fraction("56")], Some("3")))), &[("56", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_is_taken_back_of_a_second_predecessor_and_refused_is_taken_back_by_the_next() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("11")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"])));
    bench.release();
    bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    bench.store_and_settle(report("4", vec![fraction("56")], Some("3")));
    let mut told: Vec<_> = bench.numbers("ehr").iter().map(|message| said(message)).collect();
    told.sort();
    is(&told.concat(), &[("11", "D"), ("56", "C")]);
    bench.account();
}

#[test]
fn a_report_of_which_nothing_stands_is_entered_in_error_however_it_came_to_that() {
    let last = |bench: &Bench| statuses(&bench.numbers("chart"), "DiagnosticReport").pop();
    let own = || num(["99-7", "99CART", "Cart's own index"], "7");
    let bench = Bench::with(&[chart()], Config::default());
    bench.store_and_settle(report("1", vec![fraction("58")], None));
    assert_eq!(last(&bench).as_deref(), Some("final"));
    // Its only number is held, so the chart has nothing for now.
    bench.store_and_settle(report("2", vec![own()], Some("1")));
    assert_eq!((last(&bench).as_deref(), bench.held()), (Some("entered-in-error"), vec!["unmapped-code".to_string()]));
    bench.release();
    assert_eq!(last(&bench).as_deref(), Some("corrected"));
    bench.store_and_settle(prose("3", "2"));
    bench.release_included("chart");
    assert_eq!(last(&bench).as_deref(), Some("entered-in-error"));
    // As it was noted by a version before, that let the report stand.
    let noted = r#"{"after":{"title":{"code":"1","text":"Echo","system":"loinc"},"is_final":true},"was_final":true}"#;
    let before: crate::clinical::imaging::Update = serde_json::from_str(noted).unwrap();
    assert!(before.after.withdrawn().ends_report());
    let noted =
        r#"{"after":{"document":{"instance":{"sop_instance_uid":"1.2"},"code":null}},"gone":{"document":null}}"#;
    let before: crate::clinical::imaging::Update = serde_json::from_str(noted).unwrap();
    assert_eq!((before.after.documents.len(), before.gone.documents.len()), (1, 0), "one document, not in a list");
    bench.account();
}

#[test]
fn a_simplified_echo_report_is_read_for_its_measurements() {
    let bench = Bench::new();
    let echo = |made: Made| made.with(tags::SOP_CLASS_UID, VR::UI, SIMPLIFIED_ECHO);
    is(&said(&bench.reported(echo(report("1", vec![fraction("58"), mass("12")], None)))), &[("58", "F"), ("12", "F")]);
    is(&said(&bench.reported(echo(report("2", vec![fraction("57")], Some("1"))))), &[("57", "C"), ("12", "D")]);
    bench.account();
}
