//! Promises of queries and the orders that answer them.

use super::*;
use crate::clinical::{Coding, OrderNumber, OrderedPatient, OrderedTest, Patient, Specimen};
use crate::driver::query::{Query, query};
use crate::driver::{Context, Registry};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: &str = "20261103180000";

fn context() -> Context {
    Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true }
}

fn driver(more: &str) -> Driver {
    let head = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"astm\"\n[fields]\nspecimen_misread = [\"@*\"]\n\
        [[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\n[[analyte]]\ncode = \"K\"\nloinc = \"2823-3\"\n\
        [[analyte]]\ncode = \"NA1\"\nloinc = \"2951-2\"\n[[analyte]]\ncode = \"NA2\"\nloinc = \"2951-2\"\n";
    Driver::parse("test", &format!("{head}{more}")).unwrap()
}

fn order(number: &str, specimen: &str, patient: &str, loincs: &[&str]) -> WorkOrder {
    let test = |code: &&str| OrderedTest { universal_service_id: Coding::loinc(*code, "x"), alternate: None };
    WorkOrder {
        placer_order_number: OrderNumber::new(number),
        patient: OrderedPatient {
            patient: Patient { id: Phi::new(patient), family: Phi::new("O^Neil"), ..Patient::default() },
            other_ids: Vec::new(),
        },
        specimen: Specimen { id: Phi::new(specimen), ..Specimen::default() },
        tests: loincs.iter().map(test).collect(),
        ..WorkOrder::default()
    }
}

fn asked(driver: &Driver, q: &str) -> Query {
    query(driver, format!("H|\\^&|||cobas^1\r{q}\rL|1|N\r").as_bytes(), &context()).unwrap()
}

fn answered(driver: &Driver, q: &str, orders: &[WorkOrder]) -> (Vec<String>, Message) {
    let message = answer(driver, &Site::default(), &asked(driver, q), orders, NOW);
    let text = |record: &Vec<u8>| String::from_utf8_lossy(record).into_owned();
    (message.records.iter().map(text).collect(), message)
}

#[test]
fn a_specimen_that_is_asked_for_gets_its_own_orders_in_one_record() {
    let driver = driver("[query]\n");
    let orders = [
        order("P1", "S1", "H1", &["2345-7"]),
        order("P2", "S2", "H2", &["2345-7"]),
        order("P3", "S1", "H1", &["2823-3", "2345-7"]),
    ];
    let (records, message) = answered(&driver, "Q|1|^S1||ALL||||||||O", &orders);
    assert_eq!(
        records,
        ["H|\\^&||||||||||P|LIS02-A2|20261103180000", "P|1|H1|||O&S&Neil", "O|1|S1||^^^GLU\\^^^K|R||||||A", "L|1|N"]
    );
    assert_eq!(message.told, [0, 2]);
    assert!(message.left_out.is_empty());
}

#[test]
fn several_specimens_are_answered_in_the_order_asked_and_all_gets_every_order() {
    let driver = driver("[query]\n");
    let orders = [order("P1", "S1", "H1", &["2345-7"]), order("P2", "S2", "H2", &["2823-3"])];
    let (records, _) = answered(&driver, "Q|1|^S2\\^S9\\^S1", &orders);
    let o = |records: &[String]| records.iter().filter(|r| r.starts_with("O|")).cloned().collect::<Vec<_>>();
    assert_eq!(o(&records), ["O|1|S2||^^^K|R||||||A", "O|1|S1||^^^GLU|R||||||A"]);
    for all in ["Q|1|ALL||ALL", "Q|1|^ALL||ALL"] {
        let (records, message) = answered(&driver, all, &orders);
        assert_eq!(o(&records).len(), 2);
        assert_eq!(message.told, [0, 1]);
    }
    let (records, _) = answered(&driver, "Q|1|^S1||^^^K\\^^^CL", &orders);
    assert_eq!(records.last().unwrap(), "L|1|I", "of the tests asked for none is ordered");
}

#[test]
fn i13_who_cannot_be_read_or_is_unknown_gets_nobodys_order() {
    let driver = driver("[query]\n");
    let orders = [
        order("P1", "@17", "H1", &["2345-7"]),
        order("P2", "", "H2", &["2345-7"]),
        order("P3", "S10", "H3", &["2345-7"]),
    ];
    for q in ["Q|1|^@17||ALL", "Q|1|||ALL", "Q|1|^ ||ALL", "Q|1|^S1||ALL", "Q|1|^S1|^S99|ALL", "Q|1|ALL|^S1"] {
        let (records, message) = answered(&driver, q, &orders[..if q == "Q|1|ALL|^S1" { 0 } else { 3 }]);
        assert_eq!(records.len(), 2, "{q}");
        assert_eq!(records[1], "L|1|I", "{q}");
        assert!(message.told.is_empty(), "{q}");
    }
    let damaged = Context { complete: false, ..context() };
    let half = query(&driver, b"H|\\^&|||x\rQ|1|^S10||ALL\rL|1|N\r", &damaged).unwrap();
    assert!(answer(&driver, &Site::default(), &half, &orders, NOW).told.is_empty());
    let all = query(&driver, b"H|\\^&|||x\rQ|1|ALL\rL|1|N\r", &damaged).unwrap();
    assert!(!all.all && answer(&driver, &Site::default(), &all, &orders, NOW).told.is_empty());
}

#[test]
fn i13_orders_of_two_patients_on_one_tube_are_not_sent() {
    let driver = driver("[query]\n");
    let orders = [order("P1", "S1", "H1", &["2345-7"]), order("P2", "S1", "H2", &["2823-3"])];
    let (records, message) = answered(&driver, "Q|1|^S1", &orders);
    assert_eq!(records[1], "L|1|I");
    assert_eq!(message.left_out.iter().map(|l| l.why).collect::<Vec<_>>(), [why::PATIENTS; 2]);
    // The same number of two authorities is two people.
    let mut orders = [order("P1", "S1", "H1", &["2345-7"]), order("P2", "S1", "H1", &["2823-3"])];
    for (order, authority) in orders.iter_mut().zip(["NORTH", "SOUTH"]) {
        order.patient.patient.id_authority = authority.to_string();
    }
    assert_eq!(answered(&driver, "Q|1|^S1", &orders).0[1], "L|1|I");
}

#[test]
fn i13_a_test_without_exactly_one_code_is_left_out_and_named() {
    let driver = driver("[query]\n[orders.codes]\nPANEL = [\"GLU\", \"K\"]\n");
    let mut orders = [order("P1", "S1", "H1", &["2951-2", "718-7", "2345-7"])];
    let (records, message) = answered(&driver, "Q|1|^S1", &orders);
    assert_eq!(records[2], "O|1|S1||^^^GLU|R||||||A");
    let out = |code: &str, why| LeftOut { order: 0, code: code.to_string(), why };
    assert_eq!(message.left_out, [out("2951-2", why::AMBIGUOUS), out("718-7", why::UNKNOWN)]);
    let site = Site { codes: BTreeMap::from([("2951-2".to_string(), vec!["NA2".to_string()])]), charset: None };
    let codes = driver.codes_to_order(&site.codes, &orders[0].tests[0]);
    assert_eq!(codes, Ok(vec![Coding::local("NA2", "x")]));
    // A local code is never taken for LOINC; a map of codes says what it stands for.
    orders[0].tests = vec![
        OrderedTest { universal_service_id: Coding::local("2345-7", ""), alternate: None },
        OrderedTest { universal_service_id: Coding::local("PANEL", ""), alternate: None },
    ];
    let (records, message) = answered(&driver, "Q|1|^S1", &orders);
    assert_eq!(records[2], "O|1|S1||^^^GLU\\^^^K|R||||||A");
    assert_eq!(message.left_out, [out("2345-7", why::UNKNOWN)]);
}

#[test]
fn i13_asked_for_everything_no_order_goes_without_its_specimen() {
    let text = "[query]\nspecimen_id = [\"Q.3.3\"]\n[orders]\norder = \"O|{n}|{Q.3.3}|{Q.3.4}|{tests}\"\n\
        nothing = [\"P|{n}\", \"O|{n}|{Q.3.3}|{Q.3.4}\"]\n";
    let orders = [order("P1", "S1", "H1", &["2345-7"]), order("P2", "S2", "H2", &["2823-3"])];
    let (records, _) = answered(&driver(text), "Q|1|ALL", &orders);
    assert_eq!((&records[2][..], &records[4][..]), ("O|1|S1||^^^GLU", "O|1|S2||^^^K"));
    // Asked by id, the id comes back as it was written, and a tube without orders is a patient of its own.
    let (records, _) = answered(&driver(text), "Q|1|^^S9^7\\^^S1^8", &orders);
    assert_eq!(records[1..5], ["P|1", "O|1|S9|7", "P|2|H1|||O&S&Neil", "O|1|S1|8|^^^GLU"]);
}

#[test]
fn codes_of_the_laboratory_are_not_guessed_from_what_the_results_are_called() {
    let driver = driver("[query]\n[orders]\nsite_codes = true\n");
    let order = order("P1", "S1", "H1", &["2345-7"]);
    assert_eq!(driver.codes_to_order(&BTreeMap::new(), &order.tests[0]), Err(why::UNKNOWN));
    let site = BTreeMap::from([("2345-7".to_string(), vec!["SUGAR".to_string()])]);
    assert_eq!(driver.codes_to_order(&site, &order.tests[0]), Ok(vec![Coding::local("SUGAR", "x")]));
}

#[test]
fn a_question_that_is_taken_back_is_known() {
    let driver = driver("[query]\n");
    assert!(asked(&driver, "Q|1|^S1||ALL||||||||A").cancels);
    assert!(!asked(&driver, "Q|1|^S1||ALL||||||||O").cancels);
    assert!(query(&driver, b"H|\\^&\rO|1|S1\rR|1|^^^GLU|5\rL|1\r", &context()).is_none());
    let silent = Registry::builtin().generic(crate::wire::Protocol::Astm).clone();
    assert!(query(&silent, b"H|\\^&\rQ|1|^S1\rL|1\r", &context()).is_none(), "its driver does not say how");
}

#[test]
fn a_worklist_is_only_for_those_that_take_one_and_a_cancellation_says_so() {
    let orders = [order("P1", "S1", "H1", &["2345-7"]), order("P2", "", "H1", &["2823-3"])];
    let site = Site::default();
    assert!(push(&driver(""), &site, &orders, false, NOW).is_none());
    let taking = driver(
        "[orders]\npush_action = \"A\"\ncancel_action = \"C\"\norder = \"O|{n}|{specimen_id}||{test}|||||||{action}\"\n",
    );
    let message = push(&taking, &site, &orders, false, NOW).unwrap();
    assert_eq!(message.records[2], b"O|1|S1||^^^GLU|||||||A");
    assert_eq!((message.told, message.left_out[0].why), (vec![0], why::NO_SPECIMEN));
    let cancel = push(&taking, &site, &orders[..1], true, NOW).unwrap();
    assert_eq!(cancel.records[2], b"O|1|S1||^^^GLU|||||||C");
    assert!(push(&taking, &site, &orders[1..], false, NOW).unwrap().records.is_empty(), "nothing to say");
}

#[test]
fn a_name_in_other_letters_does_not_stop_an_order_and_an_id_does() {
    let driver = driver("[wire]\ncharset = \"latin-1\"\n[query]\n");
    let mut named = order("P1", "S1", "H1", &["2345-7"]);
    named.patient.patient.family = Phi::new("Иван\r");
    assert_eq!(answered(&driver, "Q|1|^S1", &[named]).0[1], "P|1|H1|||???? ");
    let strange = order("P1", "Ж1", "H1", &["2345-7"]);
    let push_driver = Driver::parse("t", "[identity]\nvendor=\"V\"\nmodel=\"M\"\nprotocol=\"astm\"\n[orders]\npush_action=\"A\"\n[[analyte]]\ncode=\"GLU\"\nloinc=\"2345-7\"\n").unwrap();
    let message = push(&push_driver, &Site::default(), &[strange], false, NOW).unwrap();
    assert_eq!(message.left_out[0].why, why::UNWRITABLE);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked and ordered: an O record holds an id that was asked for and only tests ordered for it.
    #[test]
    fn i13_an_order_is_only_put_to_the_specimen_it_names(
        asked_ids in prop::collection::vec("[S@ ]?[0-3]?", 1..5),
        orders in prop::collection::vec(("S[0-3]", "H[0-1]", any::<bool>()), 0..6),
    ) {
        let driver = driver("[query]\n");
        let q = format!("Q|1|{}", asked_ids.iter().map(|id| format!("^{id}")).collect::<Vec<_>>().join("\\"));
        let orders: Vec<WorkOrder> = orders.iter().enumerate().map(|(at, (specimen, patient, glucose))| {
            order(&format!("P{at}"), specimen, patient, &[if *glucose { "2345-7" } else { "2823-3" }])
        }).collect();
        let (records, message) = answered(&driver, &q, &orders);
        for record in records.iter().filter(|record| record.starts_with("O|")) {
            let fields: Vec<&str> = record.split('|').collect();
            prop_assert!(asked_ids.iter().any(|id| id == fields[2]) && fields[2].starts_with('S'));
            let of_it: Vec<&WorkOrder> = orders.iter().filter(|o| o.specimen.id.expose() == fields[2]).collect();
            prop_assert!(of_it.iter().all(|o| o.patient.patient.id == of_it[0].patient.patient.id));
            for code in fields[4].split('\\') {
                let loinc = if code == "^^^GLU" { "2345-7" } else { "2823-3" };
                prop_assert!(of_it.iter().any(|o| o.tests[0].universal_service_id.code == loinc));
            }
        }
        prop_assert_eq!(records.last().unwrap() == "L|1|N", !message.told.is_empty());
    }
}

#[test]
fn the_cobas_e411_gets_what_public_hosts_send_it() {
    let registry = Registry::builtin();
    let driver = registry.get("roche-cobas-e411").unwrap();
    let q = query(
        driver,
        b"H|\\^&|||cobas-e411^1|||||host|TSREQ^REAL|P|1\rQ|1|^^  0000041209^301^0^4^^S1^SC||ALL||||||||O\rL|1|N\r",
        &context(),
    )
    .unwrap();
    let site = Site { codes: BTreeMap::from([("14928-6".to_string(), vec!["2450".to_string()])]), charset: None };
    let message = answer(driver, &site, &q, &[order("P1", "0000041209", "H1", &["14928-6"])], NOW);
    let records: Vec<_> = message.records.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect();
    assert_eq!(
        records,
        [
            "H|\\^&|||host^1|||||cobas-e411|TSDWN^REPLY|P|1",
            "P|1",
            "O|1|  0000041209|301^0^4^^S1^SC|^^^2450^|R||||||A||||1||||||||||O",
            "L|1|N"
        ]
    );
}
