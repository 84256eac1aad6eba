//! Documents that name what is of another patient.

use super::corrections::{fraction, is, mass, report, said};
use super::replaced::{elsewhere, naming, order_numbers, pdf, reports};
use super::rivals::own;
use super::withdrawals::{chart, hl7, prose};
use super::*;

/// The same, of another patient in a study of that one.
fn anothers(made: Made) -> Made {
    elsewhere(made).with(tags::PATIENT_ID, VR::LO, "P-200").with(tags::ACCESSION_NUMBER, VR::SH, "ACC-2")
}

/// An HL7 receiver and a FHIR server.
fn both() -> Bench {
    Bench::with(&[hl7("ehr"), chart()], Config::default())
}

impl Bench {
    /// Where the FHIR server was told to put results, and of whom it has them there.
    fn put(&self) -> std::collections::BTreeMap<String, String> {
        let bundles: Vec<_> = self.numbers("chart").iter().map(|body| json(body)).collect();
        let entries = bundles.iter().flat_map(|bundle| {
            let of = if bundle.to_string().contains("P-200") { "P-200" } else { "P-100" };
            bundle["entry"].as_array().unwrap().iter().map(move |entry| (entry, of))
        });
        let results = entries.filter(|(entry, _)| {
            ["Observation", "DiagnosticReport", "DocumentReference"]
                .contains(&entry["resource"]["resourceType"].as_str().unwrap())
        });
        results.map(|(entry, of)| (entry["request"]["url"].as_str().unwrap().to_string(), of.to_string())).collect()
    }

    /// What waits for the other patient is released, and told as new.
    #[track_caller]
    fn told_as_new(&self, value: &str) {
        self.release_for("another-patient");
        let told = self.numbers("ehr");
        assert_eq!(told.len(), 1, "{told:?}, {:?}", self.held());
        is(&said(&told[0]), &[(value, "F")]);
        assert!(field(&told[0], "PID", 3).starts_with("P-200"), "{}", told[0]);
    }
}

#[test]
fn i13_what_names_a_document_of_another_patient_is_told_beside_it_in_every_ehr() {
    for is_pdf in [false, true] {
        let bench = both();
        let of = |number: &str, value: &str, replaces: Option<&str>| match is_pdf {
            true => pdf(number, "11111-1", replaces).with(tags::COMPLETION_FLAG, VR::CS, "COMPLETE").with(
                tags::VERIFICATION_FLAG,
                VR::CS,
                "VERIFIED",
            ),
            false => report(number, vec![fraction(value)], replaces),
        };
        bench.reported(of("1", "58", None));
        let first = bench.put();
        bench.store_and_settle(anothers(of("2", "57", Some("1"))));
        bench.waits("another-patient");
        bench.grows_silently();
        bench.release();
        let told = bench.numbers("ehr");
        assert_eq!((told.len(), bench.held().len()), (1, 0));
        assert_eq!(field(&told[0], "OBX", 11), "F");
        assert!(field(&told[0], "PID", 3).starts_with("P-200"), "{}", told[0]);
        let second = bench.put();
        assert!(!first.is_empty() && !second.is_empty());
        assert!(first.values().all(|of| of == "P-100") && second.values().all(|of| of == "P-200"));
        assert!(second.keys().all(|url| !first.contains_key(url)), "{second:?} over {first:?}");
        bench.grows_silently();
        // Each is corrected where it stands, and nobody is asked again.
        let third = bench.reported(anothers(of("3", "56", Some("2"))));
        assert!(field(&third, "PID", 3).starts_with("P-200"), "{third}");
        assert_eq!(bench.put(), second);
        let fourth = bench.reported(of("4", "55", Some("1")));
        assert!(field(&fourth, "PID", 3).starts_with("P-100"), "{fourth}");
        assert_eq!((field(&third, "OBX", 11), field(&fourth, "OBX", 11)), ("C".to_string(), "C".to_string()));
        assert_eq!(bench.put(), first);
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_names_a_document_of_another_patient_waits_also_where_the_chart_was_emptied() {
    let mut bench = both();
    bench.order("ORD-1", "ACC-1", "P-100", STUDY);
    let first = bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(prose("2", "1"));
    bench.release_included("ehr");
    is(&bench.all_said(), &[("58", "D")]);
    let of_first = bench.put();
    bench.store_and_settle(anothers(report("5", vec![fraction("57")], Some("2"))));
    bench.waits("another-patient");
    bench.release();
    let told = bench.numbers("ehr");
    is(&said(&told[0]), &[("57", "F")]);
    assert_ne!(order_numbers(&told[0])[..2], order_numbers(&first)[..2], "under the order of the other");
    assert!(bench.put().keys().all(|url| !of_first.contains_key(url)));
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_waits_of_one_patient_is_not_covered_by_a_document_of_another() {
    // Told of and emptied, and never told of.
    for is_told in [true, false] {
        let bench = both();
        if is_told {
            bench.reported(report("1", vec![fraction("58")], None));
        }
        bench.store_and_settle(report("2", vec![own()], is_told.then_some("1")));
        is(&bench.all_said(), if is_told { &[("58", "D")] } else { &[] });
        assert_eq!(bench.held(), ["unmapped-code"]);
        let of_first = bench.put();
        bench.store_and_settle(anothers(report("3", vec![fraction("57")], Some("2"))));
        assert_eq!(
            (bench.waiting(), bench.numbers("ehr").len()),
            (vec!["another-patient".into(), "unmapped-code".into()], 0)
        );
        bench.told_as_new("57");
        assert!(bench.put().keys().all(|url| !of_first.contains_key(url)));
        assert_eq!(bench.held(), ["unmapped-code"]);
        bench.release();
        let told = bench.numbers("ehr");
        assert!(told.len() == 1 && field(&told[0], "PID", 3).starts_with("P-100"), "{told:?}");
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_a_document_of_another_patient_that_names_two_takes_neither_back() {
    let bench = both();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    bench.store_and_settle(naming(report("3", vec![fraction("57")], None), &reports(&["2", "1"])));
    bench.release();
    is(&bench.all_said(), &[("12", "D"), ("57", "C"), ("58", "D")]);
    let of_first = bench.put();
    bench.store_and_settle(anothers(naming(report("4", vec![fraction("56")], None), &reports(&["1", "3"]))));
    bench.waits("another-patient");
    bench.told_as_new("56");
    assert!(bench.put().keys().all(|url| !of_first.contains_key(url)));
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_document_that_names_one_of_its_own_patient_and_one_of_another_corrects_its_own() {
    let bench = both();
    bench.reported(report("1", vec![fraction("58")], None));
    let own = bench.reported(anothers(report("2", vec![fraction("48")], None)));
    bench.store_and_settle(anothers(naming(report("3", vec![fraction("57")], None), &reports(&["1", "2"]))));
    bench.waits("another-patient");
    bench.release();
    let told = bench.numbers("ehr");
    is(&said(&told[0]), &[("57", "C")]);
    assert_eq!((field(&told[0], "PID", 3), told.len()), (field(&own, "PID", 3), 1));
    is(&said(&bench.reported(anothers(report("4", vec![fraction("56")], Some("3"))))), &[("56", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_words_about_another_patient_take_nothing_back() {
    for is_released in [true, false] {
        let bench = both();
        bench.reported(report("1", vec![fraction("58")], None));
        bench.store_and_settle(anothers(prose("2", "1")));
        bench.waits("another-patient");
        if is_released {
            bench.release();
        } else {
            bench.discard(bench.reader.holds(1).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
        }
        bench.grows_silently();
        bench.store_and_settle(anothers(Made::image("9")));
        assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 0));
        bench.account();
    }
}

#[test]
fn i13_a_document_whose_own_name_is_in_the_chart_of_another_is_never_told_there() {
    let bench = both();
    // The second was told under the name of the first, which was not here.
    bench.store_and_settle(anothers(report("2", vec![fraction("57")], Some("1"))));
    bench.waits("no-predecessor");
    bench.release();
    is(&bench.all_said(), &[("57", "F")]);
    bench.store_and_settle(report("1", vec![fraction("58")], None));
    for _ in 0..3 {
        bench.waits("another-patient");
        bench.grows_silently();
        bench.release();
    }
    let hold = bench.reader.holds(1).unwrap().remove(0);
    assert!(hold.why.contains("under its own name") && hold.why.contains("discard this"), "{}", hold.why);
    is(&said(&bench.reported(anothers(report("3", vec![fraction("56")], Some("2"))))), &[("56", "C")]);
    bench.discard(vec![hold.id], Vec::new());
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

/// Two numbers of a report that waits for one that is not here. That comes, and is of another patient.
fn missing_is_anothers(discarded: std::ops::Range<usize>) -> Bench {
    let bench = Bench::new();
    bench.store_and_settle(anothers(report("3", vec![fraction("57"), mass("12")], Some("2"))));
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["no-predecessor".to_string(); 2], 0));
    let holds = bench.reader.holds(10).unwrap();
    bench.discard(holds[discarded].iter().map(|hold| hold.id).collect(), Vec::new());
    bench.settle();
    bench.store_and_settle(report("2", vec![fraction("58")], None));
    bench.release_for("several-successors");
    is(&bench.all_said(), &[("58", "F")]);
    bench
}

#[test]
fn i13_what_was_discarded_under_a_name_that_is_another_patients_since_does_not_go_out_with_the_rest() {
    for grows in [true, false] {
        let bench = missing_is_anothers(1..2);
        if grows {
            bench.store_and_settle(anothers(Made::image("9")));
        } else {
            bench.release();
            bench.waits("another-patient");
            bench.release();
        }
        assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["another-patient".to_string(); 2], 0));
        let holds = bench.reader.holds(10).unwrap();
        assert!(holds.iter().all(|hold| hold.why.contains("was discarded before")), "{}", holds[0].why);
        bench.store_and_settle(anothers(Made::image("8")));
        assert_eq!(bench.waiting().len(), 2);
        bench.discard(vec![holds[1].id], Vec::new());
        bench.told_as_new("57");
        bench.store_and_settle(anothers(Made::image("7")));
        bench.grows_silently();
        assert!(bench.held().is_empty());
        bench.account();
    }
}

#[test]
fn i13_what_waits_under_a_name_that_is_another_patients_since_goes_out_once() {
    let bench = missing_is_anothers(0..0);
    bench.store_and_settle(anothers(Made::image("9")));
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["another-patient".to_string(); 2], 0));
    bench.release();
    is(&bench.all_said(), &[("12", "F"), ("57", "F")]);
    bench.store_and_settle(anothers(Made::image("8")));
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_what_was_discarded_whole_is_not_asked_about_again_because_what_it_names_is_another_patients() {
    let bench = missing_is_anothers(0..2);
    for number in ["8", "9"] {
        bench.store_and_settle(anothers(Made::image(number)));
        assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 0));
    }
    bench.account();
}

#[test]
fn i13_what_was_discarded_under_its_own_name_does_not_go_out_in_place_of_what_it_includes() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let names = [reports(&["1"]), vec![format!("{STUDY}.8.1")]].concat();
    bench.store_and_settle(anothers(naming(report("3", vec![fraction("57"), mass("12")], None), &names)));
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["another-patient".to_string(); 2], 0));
    bench.discard(vec![bench.reader.holds(10).unwrap()[1].id], Vec::new());
    assert!(
        bench
            .reported(anothers(pdf("1", "11111-1", None)).with(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.5"))
            .contains("|ED|")
    );
    bench.store_and_settle(anothers(Made::image("9")));
    bench.waits("included-elsewhere");
    bench.release();
    assert_eq!((bench.waiting(), bench.numbers("ehr").len()), (vec!["discarded-before".to_string(); 2], 0));
    bench.discard(vec![bench.reader.holds(10).unwrap()[1].id], Vec::new());
    bench.release();
    bench.waits("another-patient");
    bench.release();
    let told = bench.numbers("ehr");
    assert!(told.len() == 1 && told[0].contains("|57|") && !told[0].contains("|12|"), "{told:?}");
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}
