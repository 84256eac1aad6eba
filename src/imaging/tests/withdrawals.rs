//! What a chart has and the newest document of the line has not is taken back from each EHR until that has taken it, also
//! where the newest has nothing for the EHR at all.

use super::corrections::{fraction, is, mass, report, results, said};
use super::*;
use crate::journal::Verified;

const BASIC_TEXT: &str = "1.2.840.10008.5.1.4.1.1.88.11";
const CHEST_CAD: &str = "1.2.840.10008.5.1.4.1.1.88.65";
const IMAGING_AGENT: &str = "1.2.840.10008.5.1.4.1.1.88.75";

/// An object of any kind that takes the place of the report of this number.
pub(super) fn replacing(mut made: Made, number: &str) -> Made {
    let named = report("0", Vec::new(), Some(number)).set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    made.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, named);
    made
}

pub(super) fn prose(number: &str, replaces: &str) -> Made {
    replacing(Made::new(BASIC_TEXT, "9", number), replaces)
}

/// A number with one that it was inferred from, which is raw.
fn averaged(value: &str, raw: &str) -> DataSet {
    let (mut mean, mut one) = (mass(value), mass(raw));
    one.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "INFERRED FROM");
    mean.put_items(tags::CONTENT_SEQUENCE, vec![one]);
    mean
}

pub(super) fn hl7(name: &str) -> delivery::Config {
    delivery::Config::new(name, Protocol::Mllp)
}

pub(super) fn chart() -> delivery::Config {
    delivery::Config::new("chart", Protocol::Fhir)
}

/// The resources of one type in messages.
pub(super) fn resources(bodies: &[String], kind: &str) -> Vec<serde_json::Value> {
    let bundles = bodies.iter().map(|body| json(body));
    let entries = bundles.flat_map(|bundle| bundle["entry"].as_array().unwrap().clone());
    entries.map(|entry| entry["resource"].clone()).filter(|resource| resource["resourceType"] == kind).collect()
}

pub(super) fn statuses(bodies: &[String], kind: &str) -> Vec<String> {
    resources(bodies, kind).iter().map(|resource| resource["status"].as_str().unwrap().to_string()).collect()
}

impl Bench {
    /// The same journal under other settings of the destinations.
    pub(super) fn now_with(self, destinations: &[delivery::Config]) -> Bench {
        Bench { desk: Desk::new("bench", &jiff::tz::TimeZone::UTC, destinations), ..self }
    }

    pub(super) fn store_and_settle(&self, made: Made) {
        self.store_and_settle_all(&[made]);
    }

    pub(super) fn store_and_settle_all(&self, made: &[Made]) {
        self.store(made);
        self.settle();
    }

    /// Nothing was told of, and this waits, which a person then releases.
    #[track_caller]
    pub(super) fn release_included(&self, destination: &str) {
        assert_eq!((self.held(), self.numbers(destination).len()), (vec!["included-elsewhere".to_string()], 0));
        self.release();
    }

    pub(super) fn discard(&self, holds: Vec<journal::HoldId>, outbox: Vec<OutboxId>) {
        let discard = OperatorAction::Discard { holds, outbox, images: Vec::new(), reason: "wrong".to_string() };
        self.journal.operate(discard).unwrap();
    }

    pub(super) fn sabotage(&self, sql: &str) {
        let database = rusqlite::Connection::open(self._data.path().join("journal.db")).unwrap();
        assert_eq!(database.execute(sql, []).unwrap(), 1, "{sql}");
    }

    pub(super) fn verified(&self) -> Verified {
        self.reader.verify(|_, _| {}).unwrap()
    }
}

#[test]
fn i13_what_a_refused_message_was_to_take_back_is_taken_back_by_the_next() {
    for is_discarded in [false, true] {
        let bench = Bench::with(&[hl7("ehr"), hl7("other")], Config::default());
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        bench.store_and_settle(report("2", vec![fraction("57")], Some("1")));
        let refused = bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
        assert!(refused.iter().any(|(_, body)| body.contains("|12|") && body.contains("|D|")), "{refused:?}");
        is(&said(bench.numbers("other").last().unwrap()), &[("57", "C"), ("12", "D")]);
        if is_discarded {
            bench.discard(Vec::new(), refused.into_iter().map(|(id, _)| id).collect());
        }
        is(&said(&bench.reported(report("3", vec![fraction("56")], Some("2")))), &[("56", "C"), ("12", "D")]);
        is(&said(&bench.numbers("other")[0]), &[("56", "C")]);
        is(&said(&bench.reported(report("4", vec![fraction("55")], Some("3")))), &[("55", "C")]);
        bench.account();
    }
}

#[test]
fn what_a_person_discarded_is_not_corrected_and_may_still_be_taken_back() {
    let bench = Bench::new();
    bench.store_and_settle(report("1", vec![fraction("58"), mass("12")], None));
    let refused = bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    bench.discard(Vec::new(), refused.into_iter().map(|(id, _)| id).collect());
    is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("57", "F"), ("12", "D")]);
    // What was final before it stays so.
    bench.store_and_settle(report("3", vec![fraction("56")], Some("2")));
    let refused = bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    bench.discard(Vec::new(), refused.into_iter().map(|(id, _)| id).collect());
    is(&said(&bench.reported(report("4", vec![fraction("55")], Some("3")))), &[("55", "C")]);
    bench.account();
}

#[test]
fn i13_what_a_message_on_its_way_takes_back_is_taken_back_by_the_next_too() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.store_and_settle(report("2", vec![fraction("57")], Some("1")));
    bench.store_and_settle(report("3", vec![fraction("56")], Some("2")));
    let told = bench.numbers("ehr");
    is(&said(&told[0]), &[("57", "C"), ("12", "D")]);
    is(&said(&told[1]), &[("56", "C"), ("12", "D")]);
    is(&said(&bench.reported(report("4", vec![fraction("55")], Some("3")))), &[("55", "C")]);
    assert!(bench.verified().is_sound());
}

#[test]
fn i13_a_release_takes_back_again_what_was_refused() {
    let bench = Bench::new();
    let own = || num(["99-7", "99CART", "Cart's own index"], "7");
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.store_and_settle(report("2", vec![fraction("57"), own()], Some("1")));
    bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    bench.release();
    is(&said(&bench.numbers("ehr")[0]), &[("7", "C"), ("12", "D")]);
    bench.account();
}

#[test]
fn i13_each_ehr_is_taken_back_what_it_had_whatever_it_is_to_have_now() {
    let raw = |raw_values| {
        let imaging = ImagingProfile { raw_values, ..ImagingProfile::default() };
        delivery::Config { imaging, ..hl7("ehr") }
    };
    let bench = Bench::with(&[raw(true), hl7("other")], Config::default());
    is(&said(&bench.reported(report("1", vec![averaged("12", "11")], None))), &[("12", "F"), ("11", "F")]);
    is(&said(bench.numbers("other").last().unwrap()), &[("12", "F")]);
    // It wants no raw values any more: one of an old report would stand for the new one.
    let bench = bench.now_with(&[raw(false), hl7("other")]);
    is(&said(&bench.reported(report("2", vec![averaged("13", "14")], Some("1")))), &[("13", "C"), ("11", "D")]);
    is(&said(&bench.numbers("other")[0]), &[("13", "C")]);
    // And again, of which it never had any.
    let bench = bench.now_with(&[raw(true), hl7("other")]);
    is(&said(&bench.reported(report("3", vec![mass("15")], Some("2")))), &[("15", "C")]);
    bench.account();
}

#[test]
fn i13_a_destination_that_came_since_is_told_nothing_of_what_it_never_had() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    let bench = bench.now_with(&[hl7("ehr"), hl7("new")]);
    is(&said(&bench.reported(report("2", vec![fraction("57")], Some("1")))), &[("57", "C"), ("12", "D")]);
    is(&said(bench.numbers("new").last().unwrap()), &[("57", "F")]);
}

#[test]
fn i13_numbers_do_not_stand_once_a_person_said_that_something_else_took_their_place() {
    let without_documents = || {
        let imaging = ImagingProfile { leave_out: vec![ImagingMessage::Documents], ..ImagingProfile::default() };
        delivery::Config { imaging, links: vec!["echo-1".to_string()], ..hl7("ehr") }
    };
    let by: [(&str, Made); 3] = [
        ("echo-1", prose("2", "1")),
        ("echo-1", replacing(Made::pdf("1", 10), "1")),
        ("reading-room", report("2", vec![fraction("57")], Some("1"))),
    ];
    for (link, made) in by {
        let own = num(["99-7", "99CART", "Cart's own index"], "7");
        let chart = delivery::Config { links: vec!["echo-1".to_string()], ..chart() };
        let bench = Bench::with(&[without_documents(), chart], Config::default());
        let told = bench.reported(report("1", vec![fraction("58"), own], None));
        let before = results(&told);
        let of_report = resources(&bench.told("chart"), "DiagnosticReport").remove(0);
        assert_eq!(bench.held(), ["unmapped-code"]);
        bench.keep_on(link, "READER", &[made]);
        bench.file();
        bench.settle();
        assert_eq!((bench.held().len(), bench.numbers("ehr").len(), bench.numbers("chart").len()), (2, 0, 0));
        bench.release_last();
        let gone = bench.numbers("ehr");
        assert_eq!(gone.len(), 1, "{link}: {gone:?}");
        assert_eq!(results(&gone[0]), [(before[0].0.clone(), "58".to_string(), "D".to_string())]);
        for at in [4, 24] {
            assert_eq!(field(&gone[0], "OBR", at), field(&told, "OBR", at), "the same service, and its section");
        }
        let told: Vec<String> = bench.numbers("chart");
        let withdrawn =
            resources(&told, "Observation").into_iter().filter(|o| o["status"] == "entered-in-error").count();
        assert_eq!((withdrawn, statuses(&told, "DiagnosticReport")), (2, vec!["entered-in-error".to_string()]));
        let of_withdrawn = resources(&told, "DiagnosticReport").remove(0);
        for said in ["code", "category"] {
            assert_eq!(of_withdrawn[said], of_report[said], "the same report");
        }
        assert!(bench.held().is_empty(), "what was held of the old one cannot be released");
        bench.grows_silently();
        bench.account();
    }
}

#[test]
fn i13_a_withdrawal_that_was_refused_is_made_again() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(prose("2", "1"));
    bench.release_included("ehr");
    bench.settled("ehr", || Settlement::Park { reason: "AR".to_string() });
    is(&said(&bench.reported(prose("3", "2"))), &[("58", "D")]);
    bench.store_and_settle(prose("4", "3"));
    assert!(bench.numbers("ehr").is_empty());
    is(&said(&bench.reported(report("5", vec![fraction("57")], Some("4")))), &[("57", "C")]);
    bench.account();
}

#[test]
fn what_no_ehr_hears_of_is_not_told_and_not_held() {
    let bench = Bench::new();
    bench.store_and_settle(Made::new(BASIC_TEXT, "9", "1"));
    bench.store_and_settle(prose("3", "2"));
    assert!(bench.numbers("ehr").is_empty() && bench.held().is_empty());
    let received = bench.account()[0];
    assert_eq!(received, 4, "two objects, and the study twice");
}

#[test]
fn i13_a_report_is_told_and_stands_whatever_includes_it() {
    let of = |class| replacing(Made::new(class, "9", "2"), "1");
    let pdf = || replacing(Made::pdf("1", 10), "1");
    let including = [vec![prose("2", "1")], vec![of(CHEST_CAD)], vec![of(IMAGING_AGENT)], vec![pdf()]];
    for including in including.into_iter().chain([vec![prose("2", "1"), pdf()]]) {
        for came in 0..3 {
            let bench = Bench::new();
            let waiting = vec!["included-elsewhere".to_string(); including.len()];
            let alone = report("1", vec![fraction("58")], None);
            match came {
                // Before it, after it, with it.
                0 => bench.store_and_settle_all(&including),
                1 => is(&said(&bench.reported(alone.clone())), &[("58", "F")]),
                _ => bench.store(&including),
            }
            let told = match came {
                1 => Vec::new(),
                _ => said(&bench.reported(alone)),
            };
            is(&told, &[("58", "F")][..told.len()]);
            assert_eq!(told.is_empty(), came == 1);
            if came == 1 {
                bench.store_and_settle_all(&including);
            }
            assert_eq!((bench.held(), bench.numbers("ehr").len()), (waiting.clone(), 0));
            bench.grows_silently();
            // It is corrected while they wait, and they may be left where they are.
            is(&said(&bench.reported(report("3", vec![fraction("57")], Some("1")))), &[("57", "C")]);
            assert_eq!(bench.held(), waiting);
            bench.discard(bench.reader.holds(10).unwrap().iter().map(|hold| hold.id).collect(), Vec::new());
            bench.grows_silently();
            assert!(bench.held().is_empty());
            is(&said(&bench.reported(report("4", vec![fraction("56")], Some("3")))), &[("56", "C")]);
            bench.account();
        }
    }
}

#[test]
fn i13_a_correction_of_what_words_include_settles_what_waits_of_them_when_it_names_them() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58"), mass("12")], None));
    bench.store_and_settle(prose("2", "1"));
    assert_eq!(bench.held(), ["included-elsewhere"]);
    is(&said(&bench.reported(report("3", vec![fraction("57")], Some("2")))), &[("57", "C"), ("12", "D")]);
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_once_words_took_the_place_of_a_report_another_in_that_place_is_held() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.store_and_settle(prose("2", "1"));
    bench.release_included("ehr");
    is(&said(&bench.numbers("ehr")[0]), &[("58", "D")]);
    bench.grows_silently();
    bench.store_and_settle(report("3", vec![fraction("57")], Some("1")));
    assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["several-successors".to_string()], 0));
    bench.account();
}

#[test]
fn i13_words_that_take_the_place_of_two_reports_withdraw_both() {
    let bench = Bench::new();
    bench.reported(report("1", vec![fraction("58")], None));
    bench.reported(report("2", vec![mass("12")], None));
    let mut both = prose("3", "1");
    let named = |made: &Made| made.set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    let places = [named(&both), named(&prose("0", "2"))].concat();
    both.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, places);
    bench.store_and_settle(both);
    bench.release_included("ehr");
    let mut gone: Vec<_> = bench.numbers("ehr").iter().flat_map(|message| said(message)).collect();
    gone.sort();
    is(&gone, &[("12", "D"), ("58", "D")]);
    bench.grows_silently();
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_a_pdf_does_not_stand_beside_the_report_that_took_its_place_by_a_persons_word() {
    let bench = Bench::with(&[hl7("ehr"), chart()], Config::default());
    bench.store_and_settle(Made::pdf("1", 10));
    let before = results(&bench.numbers("ehr").remove(0));
    assert_eq!(statuses(&bench.numbers("chart"), "DocumentReference"), ["current"]);
    let mut second = report("2", vec![fraction("58")], None);
    let mut named = report("0", Vec::new(), Some("1")).set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    let mut document = DataSet::default();
    document.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &format!("{STUDY}.8.1"));
    let mut series = DataSet::default();
    series.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![document]);
    named[0].put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    second.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, named);
    bench.store_and_settle(second);
    bench.release_included("ehr");
    let after = results(&bench.numbers("ehr")[0]);
    assert_eq!((after[0].1.as_str(), after.len()), ("58", 2));
    assert_eq!(after[1], (before[0].0.clone(), String::new(), "D".to_string()));
    let told = bench.numbers("chart");
    let documents = resources(&told, "DocumentReference");
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0]["status"], "superseded");
    assert!(documents[0]["content"][0]["attachment"]["data"].is_null(), "its bytes are not said again");
    assert_eq!(statuses(&told, "DiagnosticReport").len(), 1);
    bench.store_and_settle(prose("3", "2"));
    bench.release_included("ehr");
    assert!(statuses(&bench.numbers("chart"), "DocumentReference").is_empty(), "once is enough");
    bench.account();
}

#[test]
fn i13_a_pdf_that_takes_the_place_of_a_report_takes_its_numbers_back() {
    let bench = Bench::with(&[hl7("ehr"), chart()], Config::default());
    bench.reported(report("1", vec![fraction("58")], None));
    bench.numbers("chart");
    bench.store_and_settle(replacing(Made::pdf("1", 10), "1"));
    bench.release_included("ehr");
    let told = bench.numbers("ehr");
    assert_eq!(told.len(), 1, "taken or refused together");
    let [document, number] = results(&told[0]).try_into().unwrap();
    assert_eq!((document.2.as_str(), number.1.as_str(), number.2.as_str()), ("C", "58", "D"));
    assert_eq!(told[0].matches("\rOBR|").count(), 2, "each under the service it is of");
    let told = bench.numbers("chart");
    assert_eq!(told.len(), 1);
    assert_eq!(statuses(&told, "DocumentReference"), ["current"]);
    assert_eq!(statuses(&told, "Observation"), ["entered-in-error"; 2], "the number and its group");
    assert_eq!(statuses(&told, "DiagnosticReport"), ["entered-in-error"]);
    // A document in place of that one leaves numbers alone that were taken back.
    let named = format!("{STUDY}.8.1");
    let mut third = replacing(Made::pdf("2", 12), "1");
    let mut place = third.set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).to_vec();
    let mut document = DataSet::default();
    document.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &named);
    let mut series = DataSet::default();
    series.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![document]);
    place[0].put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    third.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, place);
    assert!(bench.reported(third).contains("|ED|"));
    bench.account();
}

#[test]
fn i13_a_held_document_is_not_sent_once_another_took_its_place() {
    let own = |value: &str| num(["99-7", "99CART", "Cart's own index"], value);
    // By another object, and by itself with other content.
    let by = [report("2", vec![own("8")], Some("1")), report("1", vec![own("8")], None)];
    for made in by {
        let bench = Bench::new();
        bench.store_and_settle(report("1", vec![own("7")], None));
        bench.numbers("ehr");
        assert_eq!(bench.held(), ["unmapped-code"]);
        bench.store(&[made]);
        bench.release();
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["replaced".to_string()], 0));
        bench.settle();
        assert!(!bench.held().contains(&"replaced".to_string()), "it is covered by what took its place");
        bench.account();
    }
}

#[test]
fn i13_what_is_kept_of_a_held_document_and_does_not_open_is_not_sent() {
    let own = num(["99-7", "99CART", "Cart's own index"], "7");
    // As bytes that do not open, and in a form this program does not read.
    for sql in ["UPDATE report SET json = zeroblob(60) WHERE id = (SELECT report FROM hold)", ""] {
        let bench = Bench::new();
        bench.store_and_settle(report("1", vec![own.clone()], None));
        bench.numbers("ehr");
        if sql.is_empty() {
            bench.say_release();
            let mut item = bench.reader.released(10).unwrap().remove(0);
            item.json = br#"{"document":{"study":"1"}}"#.to_vec();
            assert!(bench.desk.release(&bench.journal, &bench.reader, &item).unwrap().is_empty());
        } else {
            bench.sabotage(sql);
            bench.release();
        }
        // What cannot be read is set aside by the writer.
        bench.store(&[]);
        let held: Vec<String> = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                Some(bench.held()).filter(|held| !held.is_empty())
            })
            .unwrap_or_default();
        assert_eq!((held, bench.numbers("ehr").len()), (vec!["damaged".to_string()], 0));
        bench.account();
    }
}

#[test]
fn i13_a_correction_waits_where_it_cannot_be_read_what_the_chart_has() {
    for sql in [
        "UPDATE charted SET sealed = zeroblob(60) WHERE id = (SELECT min(id) FROM charted)",
        "DELETE FROM charted WHERE id = (SELECT min(id) FROM charted)",
    ] {
        let bench = Bench::new();
        bench.reported(report("1", vec![fraction("58"), mass("12")], None));
        assert!(bench.verified().is_sound());
        bench.sabotage(sql);
        assert_eq!(bench.verified().is_sound(), sql.starts_with("DELETE"));
        bench.store_and_settle(report("2", vec![fraction("57")], Some("1")));
        assert_eq!((bench.held(), bench.numbers("ehr").len()), (vec!["damaged".to_string()], 0));
        assert!(bench.reader.holds(1).unwrap()[0].why.contains("see what the chart has"));
        bench.release();
        // A person has seen it.
        is(&said(&bench.numbers("ehr")[0]), &[("57", "C")]);
        is(&said(&bench.reported(report("3", vec![mass("11")], Some("2")))), &[("11", "C"), ("57", "D")]);
        bench.account();
    }
}
