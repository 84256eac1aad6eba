//! Documents that take the place of others: what the chart had of those and these have no more is taken back.

use super::*;

/// Measured in percent, with where it was measured.
fn at_site(name: [&str; 3], value: &str, site: [&str; 3]) -> DataSet {
    let (mut number, mut modifier) = (num(name, value), DataSet::default());
    modifier.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "HAS CONCEPT MOD");
    modifier.put_text(tags::VALUE_TYPE, VR::CS, "CODE");
    modifier.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(["363698007", "SCT", "Finding Site"])]);
    modifier.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code(site)]);
    number.put_items(tags::CONTENT_SEQUENCE, vec![modifier]);
    number
}

fn stenosis(value: &str, site: [&str; 3]) -> DataSet {
    at_site(["408714007", "SCT", "Stenosis"], value, site)
}

pub(super) fn fraction(value: &str) -> DataSet {
    num(["18043-0", "LN", "Left Ventricular Ejection Fraction"], value)
}

pub(super) fn mass(value: &str) -> DataSet {
    num(["18087-7", "LN", "Left Ventricular Mass"], value)
}

const AORTA: [&str; 3] = ["15825003", "SCT", "Aorta"];
const CAROTID: [&str; 3] = ["69105007", "SCT", "Carotid artery"];

/// A report with these numbers, in a group of their own.
pub(super) fn report(number: &str, numbers: Vec<DataSet>, replaces: Option<&str>) -> Made {
    let mut made = Made::report(number, "1", replaces);
    let mut group = DataSet::default();
    group.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS");
    group.put_text(tags::VALUE_TYPE, VR::CS, "CONTAINER");
    group.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(["125007", "DCM", "Measurement Group"])]);
    group.put_items(tags::CONTENT_SEQUENCE, numbers);
    made.set.put_items(tags::CONTENT_SEQUENCE, vec![group]);
    made
}

/// OBX-3.1 with OBX-4, OBX-5 and OBX-11 of a message.
pub(super) fn results(message: &str) -> Vec<(String, String, String)> {
    let obx = message.split('\r').filter(|segment| segment.starts_with("OBX|"));
    obx.map(|segment| {
        let fields: Vec<&str> = segment.split('|').collect();
        let place = format!("{} {}", fields[3].split('^').next().unwrap(), fields[4]);
        (place, fields[5].to_string(), fields[11].to_string())
    })
    .collect()
}

/// Values and status of a message.
pub(super) fn said(message: &str) -> Vec<(String, String)> {
    results(message).into_iter().map(|(_, value, status)| (value, status)).collect()
}

pub(super) fn is(said: &[(String, String)], expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|(v, s)| (v.to_string(), s.to_string())).collect();
    assert_eq!(said, expected);
}

impl Bench {
    /// What went out of structured reports since it was last asked.
    pub(super) fn numbers(&self, destination: &str) -> Vec<String> {
        let is_study = |body: &String| body.contains("|113014^") || body.contains(r#""resourceType":"ImagingStudy""#);
        self.told(destination).into_iter().filter(|body| !is_study(body)).collect()
    }

    /// The study grows twice by images, and no EHR hears of a document.
    #[track_caller]
    pub(super) fn grows_silently(&self) {
        for number in 80..82 {
            self.store(&[Made::image(&(number + self.reader.account().unwrap().received).to_string())]);
            self.settle();
            let numbers = self.numbers("ehr");
            assert!(numbers.is_empty(), "{numbers:?}");
        }
    }

    /// Stores a report, lets a day go by and gives the one message about it.
    #[track_caller]
    pub(super) fn reported(&self, made: Made) -> String {
        self.store(&[made]);
        self.settle();
        let mut numbers = self.numbers("ehr");
        assert_eq!(numbers.len(), 1, "{numbers:?}");
        numbers.remove(0)
    }
}

/// What a chart holds that keeps a resource by the address it is put to: value and status of every Observation.
fn chart(bodies: &[String]) -> std::collections::BTreeMap<String, (String, String, String)> {
    let mut chart = std::collections::BTreeMap::new();
    for body in bodies {
        for entry in json(body)["entry"].as_array().unwrap() {
            let resource = &entry["resource"];
            if resource["resourceType"] == "Observation" {
                let site = resource["bodySite"]["text"].as_str().unwrap_or_default().to_string();
                let value = resource["valueQuantity"]["value"].to_string();
                let status = resource["status"].as_str().unwrap().to_string();
                chart.insert(entry["request"]["url"].as_str().unwrap().to_string(), (site, value, status));
            }
        }
    }
    chart
}

#[test]
fn i13_a_number_that_a_corrected_report_has_no_more_is_taken_back() {
    for replaces in [None, Some("1")] {
        let destinations =
            [delivery::Config::new("ehr", Protocol::Mllp), delivery::Config::new("chart", Protocol::Fhir)];
        let bench = Bench::with(&destinations, Config::default());
        // The same object with other content, or another that names it.
        let second = if replaces.is_some() { "2" } else { "1" };
        let before = results(&bench.reported(report("1", vec![mass("12"), fraction("58.30")], None)));
        let after = results(&bench.reported(report(second, vec![fraction("61.00")], replaces)));
        let [(fraction_at, value, status), (mass_at, gone, deleted)] = after.try_into().unwrap();
        assert_eq!([&value, &status, &gone, &deleted], ["61.00", "C", "12", "D"]);
        assert_eq!((&mass_at, &fraction_at), (&before[0].0, &before[1].0), "each in the place it had");
        let observations = chart(&bench.numbers("chart"));
        let mut status: Vec<(&str, &str)> =
            observations.values().map(|(_, value, status)| (value.as_str(), status.as_str())).collect();
        status.sort();
        let panel = [("null", "corrected"), ("null", "entered-in-error")];
        assert_eq!(status, [[("12", "entered-in-error"), ("61.00", "corrected")], panel].concat());
        assert!(bench.settle() == 0 && bench.numbers("ehr").is_empty());
        bench.account();
    }
}

#[test]
fn i13_a_neighbour_never_moves_into_the_place_of_a_number_that_is_gone() {
    let destinations = [delivery::Config::new("ehr", Protocol::Mllp), delivery::Config::new("chart", Protocol::Fhir)];
    let bench = Bench::with(&destinations, Config::default());
    let before = results(&bench.reported(report("1", vec![stenosis("70", AORTA), stenosis("20", CAROTID)], None)));
    let charted = chart(&bench.numbers("chart"));
    assert_eq!(charted.len(), 3, "two numbers and their panel");
    let after = results(&bench.reported(report("2", vec![stenosis("20", CAROTID)], Some("1"))));
    let corrected = chart(&bench.numbers("chart"));
    assert_eq!(after[0], (before[1].0.clone(), "20".into(), "C".into()));
    assert_eq!(after[1], (before[0].0.clone(), "70".into(), "D".into()));
    for (url, (site, value, status)) in charted.iter().filter(|(_, (_, value, _))| value != "null") {
        let now = if site == "Aorta" { "entered-in-error" } else { "corrected" };
        assert_eq!(status, "final");
        assert_eq!(corrected[url], (site.clone(), value.clone(), now.to_string()));
    }
    // The same in another order is the same.
    let again = results(&bench.reported(report("3", vec![stenosis("30", AORTA), stenosis("20", CAROTID)], Some("2"))));
    assert_eq!(again.iter().map(|(place, ..)| place).collect::<Vec<_>>(), [&before[0].0, &before[1].0]);
    let turned = results(&bench.reported(report("4", vec![stenosis("20", CAROTID), stenosis("30", AORTA)], Some("3"))));
    assert_eq!(turned.iter().map(|(place, ..)| place).collect::<Vec<_>>(), [&before[1].0, &before[0].0]);
}

#[test]
fn i13_what_a_held_number_stands_for_is_taken_back_by_a_later_report() {
    let bench = Bench::new();
    let own = |value: &str| {
        let mut number = mass(value);
        let mut measured = DataSet::default();
        measured.put_text(tags::NUMERIC_VALUE, VR::DS, value);
        measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(["stone", "99CART", "stone"])]);
        number.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
        number
    };
    is(&said(&bench.reported(report("1", vec![fraction("58"), mass("12")], None))), &[("58", "F"), ("12", "F")]);
    is(&said(&bench.reported(report("2", vec![fraction("58"), own("9")], Some("1")))), &[("58", "C")]);
    assert_eq!(bench.held(), ["unknown-unit"], "the chart has the number of the first");
    is(&said(&bench.reported(report("3", vec![fraction("58")], Some("2")))), &[("58", "C"), ("12", "D")]);
    is(&said(&bench.reported(report("4", vec![fraction("57")], Some("3")))), &[("57", "C")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_report_without_any_number_takes_all_of_them_back_once_a_person_said_so() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.store(&[report("2", Vec::new(), Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["included-elsewhere".to_string()], 0));
    bench.release();
    let mut gone = said(&bench.numbers("ehr")[0]);
    gone.sort();
    is(&gone, &[("12", "D"), ("58", "D")]);
    bench.store(&[report("3", Vec::new(), Some("2"))]);
    bench.settle();
    assert!(bench.numbers("ehr").is_empty() && bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_held_number_that_a_later_report_has_no_more_cannot_be_released() {
    let bench = Bench::new();
    let own = num(["99-7", "99CART", "Cart's own index"], "7");
    bench.store(&[report("1", vec![own], None)]);
    bench.settle();
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.store(&[report("2", Vec::new(), Some("1"))]);
    bench.settle();
    assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (2, 0), "the other may only include it");
    bench.release_last();
    assert_eq!((bench.held().len(), bench.numbers("ehr").len()), (0, 0));
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_report_without_any_number_waits_where_it_is_not_known_what_it_takes_back() {
    let bench = Bench::new();
    bench.store(&[report("2", Vec::new(), Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["no-predecessor".to_string()], 0));
    is(&said(&bench.reported(report("1", vec![fraction("58")], None))), &[("58", "F")]);
    assert_eq!(bench.held(), ["included-elsewhere"], "now it is known");
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
    bench.account();
}

#[test]
fn a_held_correction_says_corrected_when_it_is_released() {
    let bench = Bench::new();
    let fractions = |made: Made| said(&bench.reported(made)).into_iter().take(1).collect::<Vec<_>>();
    is(&fractions(Made::report("1", "58", None)), &[("58", "F")]);
    bench.release();
    is(&said(&bench.told("ehr")[0]), &[("7", "F")]);
    is(&fractions(Made::report("2", "57", Some("1"))), &[("57", "C")]);
    bench.release();
    is(&said(&bench.told("ehr")[0]), &[("7", "C")]);
    bench.account();
}

#[test]
fn a_document_is_amended_only_when_it_was_final() {
    let bench = Bench::with(&[delivery::Config::new("chart", Protocol::Fhir)], Config::default());
    let told = |verification: &str, bytes: usize| {
        let made = Made::pdf("1", bytes).with(tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
        bench.store(&[made.with(tags::VERIFICATION_FLAG, VR::CS, verification)]);
        bench.settle();
        let told = bench.told("chart").into_iter().find(|body| body.contains("DocumentReference\",")).unwrap();
        let bundle = json(&told);
        let mut entries = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
        entries.find(|r| r["resourceType"] == "DocumentReference").unwrap()["docStatus"].as_str().unwrap().to_string()
    };
    let status = [told("UNVERIFIED", 10), told("VERIFIED", 12), told("VERIFIED", 14)];
    assert_eq!(status, ["preliminary", "final", "amended"]);
}

#[test]
fn i5_the_same_content_told_again_is_another_message() {
    let bench = Bench::new();
    let first = bench.reported(Made::report("1", "58", None));
    let entries: Vec<_> = bench.reader.holds(10).unwrap().iter().map(|hold| hold.entry).collect();
    bench.journal.operate(OperatorAction::Replay { entries }).unwrap();
    bench.store(&[]);
    bench.settle();
    let again = bench.numbers("ehr").remove(0);
    is(&[said(&first), said(&again)].concat(), &[("58", "F"), ("58", "C")]);
    assert_ne!(field(&first, "MSH", 10), field(&again, "MSH", 10), "one message id never names two contents");
    bench.account();
}

#[test]
fn i13_a_document_waits_for_the_one_it_takes_the_place_of() {
    let bench = Bench::new();
    is(&said(&bench.reported(report("1", vec![fraction("58"), mass("12")], None))), &[("58", "F"), ("12", "F")]);
    bench.store(&[report("3", vec![fraction("56")], Some("2"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["no-predecessor".to_string()], 0));
    // With the one between them it is certain whose place it takes.
    is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("56", "C"), ("12", "D")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn a_person_may_send_a_document_whose_predecessor_never_comes() {
    let bench = Bench::new();
    bench.store(&[report("2", vec![fraction("57")], Some("1"))]);
    bench.settle();
    assert_eq!(bench.held(), ["no-predecessor"]);
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("57", "F")]);
    is(&said(&bench.reported(report("3", vec![fraction("56")], Some("2")))), &[("56", "C")]);
    bench.account();
}

#[test]
fn i13_what_a_person_sent_or_discarded_of_a_doubtful_document_stays_so() {
    let bench = Bench::new();
    bench.store(&[report("2", vec![fraction("57"), mass("12")], Some("1"))]);
    bench.settle();
    assert_eq!(bench.held(), ["no-predecessor"; 2]);
    let holds = bench.reader.holds(10).unwrap();
    let (sent, gone) = (vec![holds[0].id], vec![holds[1].id]);
    bench.journal.operate(OperatorAction::Release { holds: sent, note: "seen".to_string() }).unwrap();
    bench
        .journal
        .operate(OperatorAction::Discard {
            holds: gone,
            outbox: Vec::new(),
            images: Vec::new(),
            reason: "wrong".to_string(),
        })
        .unwrap();
    bench.send_released();
    let sent = said(&bench.numbers("ehr")[0]);
    assert_eq!(sent.len(), 1);
    // The study grows: that the name is in the chart by now is no news.
    bench.store(&[Made::image("9")]);
    bench.settle();
    assert!(bench.numbers("ehr").is_empty() && bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_one_that_takes_the_place_of_two_is_not_told_as_one_of_them_unseen() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    let mut both = report("3", vec![fraction("57"), mass("11")], Some("1"));
    let second = report("0", Vec::new(), Some("2")).set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    let first = both.set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    both.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, [first, second].concat());
    bench.store(&[both]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-predecessors".to_string(); 2], 0));
    bench.account();
}

#[test]
fn a_predecessor_is_found_however_late_it_is_named() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let mut late = report("2", vec![fraction("57")], Some("1"));
    let long =
        Element { tag: crate::message::dicom::Tag(0x0009, 0x1010), vr: VR::OB, value: Value::Bytes(vec![0; 1 << 18]) };
    late.set.put(long);
    is(&said(&bench.reported(late)), &[("57", "C")]);
    bench.account();
}

#[test]
fn i13_a_document_that_names_itself_is_told_and_those_that_name_each_other_are_held() {
    let bench = Bench::new();
    is(&said(&bench.reported(report("1", vec![fraction("58")], Some("1")))), &[("58", "F")]);
    let bench = Bench::new();
    bench.store(&[report("1", vec![fraction("58")], Some("2")), report("2", vec![fraction("57")], Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-successors".to_string(); 2], 0));
    bench.release_last();
    is(&said(&bench.numbers("ehr")[0]), &[("57", "F")]);
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_of_two_documents_that_take_one_place_both_are_held_and_none_is_told_unseen() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store(&[report("2", vec![fraction("57")], Some("1")), report("3", vec![fraction("56")], Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-successors".to_string(); 2], 0));
    bench.grows_silently();
    bench.release_last();
    is(&said(&bench.numbers("ehr")[0]), &[("56", "C")]);
    bench.grows_silently();
    assert_eq!(bench.held(), ["several-successors"], "the other may be the right one still");
    let entries = bench.reader.holds(10).unwrap().iter().map(|hold| hold.entry).collect();
    bench.journal.operate(OperatorAction::Replay { entries }).unwrap();
    bench.file();
    bench.grows_silently();
    assert_eq!(bench.held(), ["several-successors"], "also when it is interpreted again");
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("57", "C")]);
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_a_document_that_takes_a_place_already_taken_is_held() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("57", "C")]);
    bench.store(&[report("3", vec![fraction("56")], Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-successors".to_string()], 0));
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_an_older_document_is_not_told_over_a_newer_one_whose_file_is_lost() {
    let bench = Bench::new();
    let files = || -> Vec<_> {
        let stored = std::fs::read_dir(bench.journal.spool().folder()).unwrap();
        stored.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect()
    };
    bench.reported(report("1", vec![fraction("58")], None));
    let before = files();
    bench.reported(report("2", vec![fraction("57")], Some("1")));
    for lost in files().iter().filter(|path| !before.contains(path)) {
        std::fs::remove_file(lost).unwrap();
    }
    bench.grows_silently();
    bench.account();
}

#[test]
fn i13_an_older_document_is_not_told_over_a_newer_one_of_another_study() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let elsewhere = |made: Made| {
        made.with(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4").with(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4.9")
    };
    is(&said(&bench.reported(elsewhere(report("2", vec![fraction("57")], Some("1"))))), &[("57", "C")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_of_one_document_in_two_series_the_newest_is_told() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    let again = report("1", vec![fraction("57")], None).with(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.9");
    is(&said(&bench.reported(again)), &[("57", "C")]);
    bench.grows_silently();
    bench.account();
}

#[test]
fn i7_a_report_that_is_read_only_when_it_is_released_gives_all_its_numbers() {
    let small = Config { document_mb_max: 1, ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], small);
    let own = num(["99-7", "99CART", "Cart's own index"], "7");
    let mut large = report("1", vec![fraction("58"), mass("12"), own], None);
    let tag = crate::message::dicom::Tag(0x0071, 0x1010);
    large.set.put(Element { tag, vr: VR::OB, value: Value::Bytes(vec![0; 3 << 20]) });
    bench.store(&[large]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["too-large".to_string()], 0));
    let bench = Bench { desk: bench.desk.with(&Config::default()), ..bench };
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("58", "F"), ("12", "F")]);
    assert_eq!(bench.held(), ["unmapped-code"]);
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("7", "F")]);
    bench.settle();
    assert!(bench.numbers("ehr").is_empty() && bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_document_held_whole_says_what_is_doubtful_about_its_line() {
    let small = Config { document_mb_max: 1, ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], small);
    let mut large = report("2", vec![fraction("58")], Some("1"));
    let tag = crate::message::dicom::Tag(0x0071, 0x1010);
    large.set.put(Element { tag, vr: VR::OB, value: Value::Bytes(vec![0; 3 << 20]) });
    bench.store(&[large]);
    bench.settle();
    let held = bench.reader.holds(10).unwrap().remove(0);
    assert_eq!(held.reason, "too-large");
    assert!(held.why.contains("the place of a document that is not here"), "{}", held.why);
}

#[test]
fn i10_a_report_with_more_numbers_than_are_read_is_held_and_takes_nothing_back() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    let mut numbers = vec![fraction("57"); 10_000];
    numbers.push(mass("11"));
    bench.store(&[report("2", numbers, Some("1"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["too-large".to_string()], 0));
    // Words that every number inherits.
    let mut words = DataSet::default();
    words.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "HAS CONCEPT MOD");
    words.put_text(tags::VALUE_TYPE, VR::CS, "TEXT");
    words.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(["121106", "DCM", "Comment"])]);
    words.put_text(tags::TEXT_VALUE, VR::UT, &"x".repeat(1 << 17));
    bench.store(&[report("3", [vec![words], vec![fraction("57"); 5_000]].concat(), Some("2"))]);
    bench.settle();
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["too-large".to_string(); 2], 0));
    bench.account();
}

#[test]
fn i13_two_documents_of_a_study_never_take_one_place_in_the_chart() {
    let bench = Bench::new();
    let places = |objects: &[Made]| -> Vec<String> {
        bench.store(objects);
        bench.settle();
        bench.numbers("ehr").iter().map(|message| results(message).remove(0).0).collect()
    };
    let both = places(&[Made::pdf("1", 10), Made::pdf("2", 10)]);
    assert_ne!(both[0], both[1]);
    assert_eq!(places(&[Made::pdf("2", 12)]), [both[1].as_str()], "a correction takes that of its first");
}

#[test]
fn i5_what_a_person_and_an_order_release_of_one_report_at_once_are_two_messages() {
    let bench = Bench::new();
    let own = |name: &str, value: &str| num([name, "99CART", "Cart's own index"], value);
    bench.store(&[report("1", vec![own("99-7", "7"), own("99-8", "8")], None)]);
    bench.settle();
    bench.numbers("ehr");
    bench.release_in_two();
    let told = bench.numbers("ehr");
    assert_eq!(told.len(), 2);
    is(&[said(&told[0]), said(&told[1])].concat(), &[("7", "F"), ("8", "F")]);
    assert_ne!(field(&told[0], "MSH", 10), field(&told[1], "MSH", 10), "one message id never names two contents");
    bench.account();
}
