//! What is read from messages of the EHR, and what is refused.

use super::*;
use proptest::prelude::*;

pub(in crate::orders) fn context() -> Context {
    Context { zone: jiff::tz::TimeZone::UTC, charset: None, specimen_field: None }
}

/// A message with this type and these segments behind its header and a patient.
pub(in crate::orders) fn message(kind: &str, segments: &[&str]) -> Vec<u8> {
    let header = format!("MSH|^~\\&|EHR|H|LAB|L|20260301120000||{kind}|M-1|P|2.5.1");
    let patient = "PID|1||4711^^^HOSP^MR~V9^^^HOSP^VN||SYNTHETIC^PAT^A||19700102|F||||||||||A77";
    let mut lines = vec![header.as_str(), patient, "PV1|1|I|WARD^1^2||||||||||||||||V-5"];
    lines.extend(segments);
    (lines.join("\r") + "\r").into_bytes()
}

fn asked(kind: &str, segments: &[&str]) -> Asked {
    read(&message(kind, segments), &context()).unwrap()
}

fn orders(asked: &Asked) -> Vec<WorkOrder> {
    let changes = asked.requests.iter().filter_map(|r| r.changes.as_ref().ok()).flatten();
    changes
        .filter_map(|change| match change {
            OrderChange::New(order) | OrderChange::Change(order) => Some((**order).clone()),
            _ => None,
        })
        .collect()
}

fn fault(kind: &str, segments: &[&str]) -> (&'static str, Option<(&'static str, usize, u16)>) {
    let fault = match read(&message(kind, segments), &context()) {
        Err(fault) => fault,
        Ok(asked) => asked.requests.into_iter().find_map(|r| r.changes.err()).expect("a refusal"),
    };
    (fault.code, fault.place)
}

#[test]
fn an_oml_o21_is_an_order_with_its_patient_specimen_and_numbers_as_they_stand() {
    let asked = asked(
        "OML^O21^OML_O21",
        &[
            "ORC|NW|A-1^EHR^1.2.3^ISO|F-1^LAB|G-1^EHR|||||20260301110000",
            "TQ1|1||||||||S^Stat",
            "OBR|1|A-1^EHR^1.2.3^ISO||GLU^Glucose^L^2345-7^Glucose^LN",
            "NTE|1||fasting",
            "SPM|1|S-1&EHR^S-9&LAB||SER^Serum^HL70487|||||||||||||20260301100000",
            "SAC|||TUBE-3",
        ],
    );
    let [order] = orders(&asked).try_into().unwrap();
    assert_eq!(order.placer_order_number, OrderNumber { id: Phi::new("A-1"), namespace: "EHR^1.2.3^ISO".into() });
    assert_eq!(order.filler_order_number, OrderNumber { id: Phi::new("F-1"), namespace: "LAB".into() });
    assert_eq!((order.placer_group_number.id.expose(), order.priority.as_str()), ("G-1", "S"));
    let names: Vec<&str> = order.specimen_ids().map(Phi::expose).collect();
    assert_eq!(names, ["S-1", "S-9", "TUBE-3"]);
    assert_eq!(order.specimen.collected.unwrap().hl7(), "20260301100000+0000");
    let codes: Vec<&str> = order.tests[0].codings().map(|c| c.code.as_str()).collect();
    assert_eq!(codes, ["GLU", "2345-7"]);
    assert_eq!(order.comments, ["fasting"]);
    let patient = &order.patient;
    assert_eq!((patient.patient.id.expose(), patient.patient.id_authority.as_str()), ("4711", "HOSP"));
    assert_eq!((patient.patient.family.expose(), patient.patient.given.expose()), ("SYNTHETIC", "PAT"));
    assert_eq!((patient.patient.birth_date.expose(), patient.patient.location.expose()), ("19700102", "WARD"));
    let others: Vec<&str> = patient.other_ids.iter().map(Phi::expose).collect();
    assert_eq!(others, ["V9", "A77", "V-5"]);
}

#[test]
fn an_oml_o33_orders_tests_on_each_specimen() {
    let asked = asked(
        "OML^O33^OML_O33",
        &[
            "SPM|1|S-1||SER",
            "SAC|||TUBE-1",
            "ORC|NW|A-1",
            "OBR|1|A-1||GLU",
            "ORC|NW|A-2",
            "OBR|2|A-2||K",
            "SPM|2|S-2||BLD",
            "ORC|NW|A-3",
            "OBR|3|A-3||CBC",
        ],
    );
    let read: Vec<(String, String)> = orders(&asked)
        .iter()
        .map(|o| (o.specimen.id.expose().to_string(), o.placer_order_number.id.expose().to_string()))
        .collect();
    let pair = |s: &str, n: &str| (s.to_string(), n.to_string());
    assert_eq!(read, [pair("S-1", "A-1"), pair("S-1", "A-2"), pair("S-2", "A-3")]);
}

#[test]
fn further_tests_of_one_order_join_it_and_other_numbers_are_other_orders() {
    let joined = asked("ORM^O01", &["ORC|NW|A-1", "OBR|1|A-1||GLU", "ORC|NW|A-1", "OBR|2|A-1||K", "OBR|3|||NA"]);
    assert_eq!(joined.requests.len(), 2, "each ORC is answered");
    let [order] = orders(&joined).try_into().unwrap();
    assert_eq!(order.tests.len(), 3);
    let apart = asked("ORM^O01", &["ORC|NW", "OBR|1|A-1||GLU", "OBR|2|A-2||K"]);
    assert_eq!(orders(&apart).len(), 2);
}

#[test]
fn an_orm_names_its_specimen_only_where_the_site_says_so() {
    let segments = ["ORC|NW|A-1", "OBR|1|A-1|S-7^LAB|GLU^Glucose|||20260301100000||||||||SER&Serum"];
    let plain = orders(&asked("ORM^O01", &segments)).remove(0);
    assert!(plain.specimen.id.is_empty());
    assert_eq!(plain.specimen.type_code.unwrap().code, "SER");
    let there = Context { specimen_field: Place::parse("OBR-3.1"), ..context() };
    let told = read(&message("ORM^O01", &segments), &there).unwrap();
    assert_eq!(orders(&told)[0].specimen.id.expose(), "S-7");
    for wrong in ["", "OBR", "OBR-0", "OBR-x", "PID-3", "OBR-3.0"] {
        assert_eq!(Place::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn orders_are_changed_replaced_and_taken_back() {
    let asked = asked(
        "OML^O21",
        &[
            "ORC|CA|A-1",
            "ORC|DC|A-2",
            "ORC|RP|A-3",
            "OBR|1|A-3||GLU",
            "ORC|RO|A-4",
            "OBR|2|A-4||K",
            "ORC|XO|A-5",
            "OBR|3|A-5||NA",
            "ORC|CA||F-6",
        ],
    );
    let back =
        |id: &str, becomes| OrderChange::TakeBack { number: OrderNumber::new(id), specimen: Phi::default(), becomes };
    let changes: Vec<OrderChange> = asked.requests.iter().flat_map(|r| r.changes.clone().unwrap()).collect();
    assert_eq!(changes[0], back("A-1", OrderStatus::Cancelled));
    assert_eq!(changes[1], back("A-2", OrderStatus::Cancelled));
    assert_eq!(changes[2], back("A-3", OrderStatus::Replaced));
    assert!(matches!(changes[3], OrderChange::New(_)));
    assert!(matches!(changes[4], OrderChange::Change(_)));
    assert_eq!(changes[5], back("F-6", OrderStatus::Cancelled), "the filler's number when there is no other");
}

#[test]
fn what_an_order_lacks_is_named_with_its_place() {
    assert_eq!(fault("OML^O21", &["ORC|NW", "OBR|1|||GLU"]), ("101", Some(("ORC", 1, 2))));
    assert_eq!(fault("OML^O21", &["ORC|NW|A-1", "OBR|1|A-1"]), ("101", Some(("OBR", 1, 4))));
    assert_eq!(fault("OML^O21", &["ORC|NW|A-1"]), ("100", Some(("OBR", 1, 0))));
    assert_eq!(fault("OML^O21", &["ORC|NW|A-1", "OBR|1|A-2||GLU"]), ("102", Some(("OBR", 1, 2))));
    assert_eq!(fault("OML^O21", &["ORC||A-1", "OBR|1|A-1||GLU"]), ("101", Some(("ORC", 1, 1))));
    assert_eq!(fault("OML^O21", &["ORC|SN|A-1", "OBR|1|A-1||GLU"]), ("103", Some(("ORC", 1, 1))));
    assert_eq!(fault("OML^O21", &["OBR|1|A-1||GLU"]), ("100", Some(("ORC", 1, 0))));
    assert_eq!(fault("OML^O33", &["SPM|1", "ORC|NW|A-1", "OBR|1|A-1||GLU"]), ("101", Some(("SPM", 1, 2))));
    assert_eq!(fault("OML^O33", &["ORC|NW|A-1", "OBR|1|A-1||GLU"]), ("100", Some(("SPM", 1, 0))));
    let nobody = b"MSH|^~\\&|||||||OML^O21|1|P|2.5\rPID|1\rORC|NW|A-1\rOBR|1|A-1||GLU\r";
    let refused = read(nobody, &context()).unwrap().requests.remove(0).changes.unwrap_err();
    assert_eq!((refused.code, refused.place), ("101", Some(("PID", 1, 3))));
}

#[test]
fn messages_for_somebody_else_are_refused_whole() {
    let code = |raw: &[u8]| read(raw, &context()).unwrap_err().code;
    assert_eq!(code(b"MSH|^~\\&|||||||ORU^R01|1|P|2.5\r"), "200");
    assert_eq!(code(b"MSH|^~\\&|||||||ADT^A99|1|P|2.5\rPID|1||1\r"), "201");
    assert_eq!(code(b"MSH|^~\\&|||||||OML^O21|1|T|2.5\rPID|1||1\r"), "202");
    assert_eq!(code(b"MSH|^~\\&|||||||OML^O21|1|P|2.5\rPID|1||1\r"), "100");
    assert_eq!(code(b"not HL7"), "100");
}

#[test]
fn i13_results_sent_along_are_no_orders_and_a_second_patient_has_none_here() {
    let along = [
        "ORC|NW|A-1",
        "OBR|1|A-1||GLU",
        "PID|1||OTHER",
        "ORC|PR|OLD-1",
        "OBR|1|OLD-1||K||||||||||||||||||||F",
        "OBX|1|NM|K||4.1",
    ];
    assert_eq!(orders(&asked("OML^O21", &along)).len(), 1);
    let without_orc = ["ORC|NW|A-1", "OBR|1|A-1||GLU", "OBR|1|OLD-1||K|||||||||||||||||||||F", "OBX|1|NM|K||4.1"];
    assert_eq!(orders(&asked("OML^O21", &without_orc)).len(), 1);
    let second = ["ORC|NW|A-1", "OBR|1|A-1||GLU", "PID|1||OTHER", "ORC|NW|A-2", "OBR|1|A-2||K"];
    assert_eq!(fault("OML^O21", &second).1, Some(("PID", 2, 0)));
}

#[test]
fn adt_messages_tell_of_patients_and_merge_them() {
    for event in ["A01", "A04", "A08"] {
        let asked = asked(&format!("ADT^{event}"), &[]);
        assert!(matches!(asked.requests[0].changes.as_deref(), Ok([OrderChange::Patient(_)])), "{event}");
    }
    let merged = asked("ADT^A40^ADT_A39", &["MRG|OLD-1^^^HOSP~OLD-2", "PID|2||NEXT", "MRG|OLD-3"]);
    let pairs: Vec<(String, String)> = merged.requests[0]
        .changes
        .as_ref()
        .unwrap()
        .iter()
        .map(|change| match change {
            OrderChange::Merge { gone, surviving } => {
                (gone.expose().to_string(), surviving.patient.id.expose().to_string())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let pair = |gone: &str, stays: &str| (gone.to_string(), stays.to_string());
    assert_eq!(pairs, [pair("OLD-1", "4711"), pair("OLD-2", "4711"), pair("OLD-3", "NEXT")]);
    assert_eq!(fault("ADT^A40", &[]), ("100", Some(("MRG", 1, 0))));
    assert_eq!(fault("ADT^A40", &["MRG|"]), ("101", Some(("MRG", 1, 1))));
}

proptest! {
    #[test]
    fn no_input_makes_reading_panic(
        kind in prop_oneof![Just("OML^O21"), Just("OML^O33"), Just("ORM^O01"), Just("ADT^A40"), Just("ADT^A08")],
        segments in proptest::collection::vec(
            ("(PID|PV1|ORC|OBR|SPM|SAC|TQ1|NTE|MRG|OBX|Z)", "[|^~&\\\\A-C0-9NWCXO\" ]{0,40}"),
            0..12,
        ),
    ) {
        let lines: Vec<String> = segments.iter().map(|(name, rest)| format!("{name}|{rest}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let raw = message(kind, &lines);
        if let Ok(asked) = read(&raw, &context()) {
            for order in orders(&asked) {
                prop_assert!(!order.placer_order_number.is_empty());
                prop_assert!(!order.patient.patient.id.is_empty());
                prop_assert!(order.tests.iter().all(|test| test.codings().next().is_some()));
                prop_assert!(kind != "OML^O33" || !order.specimen.id.is_empty());
            }
        }
    }
}
