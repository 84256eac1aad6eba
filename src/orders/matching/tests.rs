//! What is matched, and what is not.

use super::*;
use crate::clinical::{Coding, Control, OrderStatus, Specimen, WorkOrder};
use crate::journal::{EntryId, WorkOrderId};

fn order(id: i64, number: &str, of: &str, tests: &[&str]) -> StoredOrder {
    let test = |code: &&str| OrderedTest { universal_service_id: Coding::local(*code, ""), alternate: None };
    StoredOrder {
        id: WorkOrderId(id),
        ordered_for: Phi::new(of),
        source: "hospital".into(),
        status: OrderStatus::Requested,
        on_hold: false,
        entry: EntryId(id),
        placed_ms: 0,
        changed_ms: 0,
        order: WorkOrder {
            placer_order_number: OrderNumber { id: Phi::new(number), namespace: "EHR".into() },
            patient: OrderedPatient {
                patient: Patient { id: Phi::new(of), family: Phi::new("SYNTHETIC"), ..Patient::default() },
                other_ids: vec![Phi::new("V-1")],
            },
            specimen: Specimen { id: Phi::new("S1"), ..Specimen::default() },
            tests: tests.iter().map(test).collect(),
            ..WorkOrder::default()
        },
    }
}

fn report(codes: &[&str]) -> Report {
    let observation =
        |code: &&str| Observation { instrument_code: code.to_string(), status: "F".into(), ..Observation::default() };
    let specimen = Specimen { id: Phi::new("S1"), ..Specimen::default() };
    Report { specimen, observations: codes.iter().map(observation).collect(), ..Report::default() }
}

fn on_specimen(orders: &[StoredOrder]) -> Known {
    Known { on_specimen: orders.to_vec(), ..Known::default() }
}

/// Which results go out under which number.
fn numbers(matched: &Matched) -> Vec<(Vec<u32>, String)> {
    let number = |part: &Part| part.report(&matched.report).order.placer_order_number.expose().to_string();
    matched.parts.iter().map(|part| (part.observations.clone(), number(part))).collect()
}

fn doubts(matched: &Matched) -> Vec<Option<Doubt>> {
    (0..matched.report.observations.len() as u32).map(|at| matched.doubt(at)).collect()
}

#[test]
fn a_single_order_takes_all_results_of_its_specimen_and_gives_them_its_patient() {
    let known = on_specimen(&[order(1, "A1", "P1", &["CBC"])]);
    let matched = match_up(&report(&["WBC", "RBC"]), &known, Orders::Required);
    assert_eq!(numbers(&matched), [(vec![0, 1], "A1".to_string())]);
    assert_eq!(doubts(&matched), [None, None]);
    let out = matched.parts[0].report(&matched.report);
    assert_eq!(out.patient.id.expose(), "P1");
    assert_eq!(out.patient.family.expose(), "SYNTHETIC");
    assert_eq!(out.order.placer_namespace.as_deref(), Some("EHR"));
    assert_eq!(out.order.universal_service_id.unwrap().code, "CBC");
}

#[test]
fn of_several_orders_each_takes_the_tests_it_asks_for_and_what_fits_none_has_no_number() {
    let known = on_specimen(&[order(1, "A1", "P1", &["GLU"]), order(2, "A2", "P1", &["K", "NA"])]);
    let heard = report(&["K", "GLU", "TSH", "NA"]);
    let expected = [(vec![0, 3], "A2".to_string()), (vec![1], "A1".to_string()), (vec![2], String::new())];
    let matched = match_up(&heard, &known, Orders::WhenKnown);
    assert_eq!(numbers(&matched), expected);
    assert_eq!(doubts(&matched), [None; 4]);
    assert_eq!(matched.report.patient.id.expose(), "P1", "the patient is known all the same");
    let required = match_up(&heard, &known, Orders::Required);
    assert_eq!(doubts(&required), [None, None, Some(Doubt::NoOrder), None]);
}

#[test]
fn i13_the_same_test_ordered_twice_is_not_decided_by_guessing() {
    let (first, second) = (order(1, "A1", "P1", &["GLU"]), order(2, "A2", "P1", &["GLU"]));
    let heard = report(&["GLU"]);
    let both_open = on_specimen(&[first.clone(), second.clone()]);
    assert_eq!(numbers(&match_up(&heard, &both_open, Orders::WhenKnown)), [(vec![0], String::new())]);
    let done = StoredOrder { status: OrderStatus::Done, ..first };
    let one_open = on_specimen(&[done, second]);
    assert_eq!(numbers(&match_up(&heard, &one_open, Orders::WhenKnown)), [(vec![0], "A2".to_string())]);
    let mut correction = report(&["GLU"]);
    correction.observations[0].status = "C".into();
    assert_eq!(numbers(&match_up(&correction, &one_open, Orders::WhenKnown)), [(vec![0], String::new())]);
    let mut numbered = report(&["GLU"]);
    numbered.order.placer_order_number = Phi::new("A1");
    assert_eq!(numbers(&match_up(&numbered, &both_open, Orders::WhenKnown)), [(vec![0], "A1".to_string())]);
}

#[test]
fn i13_orders_of_two_patients_on_one_specimen_hold_everything() {
    let known = on_specimen(&[order(1, "A1", "P1", &["GLU"]), order(2, "A2", "P2", &["K"])]);
    let matched = match_up(&report(&["GLU"]), &known, Orders::WhenKnown);
    assert_eq!(doubts(&matched), [Some(Doubt::OrderMismatch)]);
    assert!(matched.report.patient.is_empty(), "nobody's name is put on it");
}

#[test]
fn i13_a_number_without_authority_does_not_make_one_of_two_patients() {
    let of = |id, authority: &str| {
        let mut stored = order(id, &format!("A{id}"), "P1", &["GLU"]);
        stored.order.patient.patient.id_authority = authority.into();
        stored
    };
    for [first, second, third] in [["", "NORTH", "SOUTH"], ["NORTH", "", "SOUTH"], ["NORTH", "SOUTH", ""]] {
        let known = on_specimen(&[of(1, first), of(2, second), of(3, third)]);
        let matched = match_up(&report(&["GLU"]), &known, Orders::WhenKnown);
        assert_eq!(doubts(&matched), [Some(Doubt::OrderMismatch)], "{first} {second} {third}");
    }
    let known = on_specimen(&[of(1, ""), of(2, "NORTH"), of(3, "NORTH")]);
    assert_eq!(doubts(&match_up(&report(&["GLU"]), &known, Orders::WhenKnown)), [None]);
}

#[test]
fn i13_an_instrument_that_names_another_patient_holds_everything() {
    let known = on_specimen(&[order(1, "A1", "P1", &["GLU"])]);
    let named = |id: &str| {
        let mut heard = report(&["GLU"]);
        heard.patient.id = Phi::new(id);
        heard
    };
    assert_eq!(doubts(&match_up(&named("P2"), &known, Orders::WhenKnown)), [Some(Doubt::OrderMismatch)]);
    for own in ["P1", "V-1", ""] {
        assert_eq!(doubts(&match_up(&named(own), &known, Orders::WhenKnown)), [None], "{own:?}");
    }
    let merged = Known { patient: Some(known.on_specimen[0].order.patient.clone()), ..known.clone() };
    assert_eq!(doubts(&match_up(&named("OLD"), &merged, Orders::WhenKnown)), [None], "an id that was merged into it");
}

#[test]
fn an_order_that_was_taken_back_is_no_order() {
    for status in [OrderStatus::Cancelled, OrderStatus::Replaced] {
        let known = on_specimen(&[StoredOrder { status, ..order(1, "A1", "P1", &["GLU"]) }]);
        let heard = report(&["GLU"]);
        assert_eq!(numbers(&match_up(&heard, &known, Orders::WhenKnown)), [(vec![0], String::new())]);
        assert_eq!(doubts(&match_up(&heard, &known, Orders::Required)), [Some(Doubt::NoOrder)]);
    }
}

#[test]
fn an_order_without_specimen_is_found_by_its_number_and_one_with_another_specimen_is_not() {
    let mut heard = report(&["GLU"]);
    heard.order.placer_order_number = Phi::new("A1");
    let elsewhere = order(1, "A1", "P1", &["GLU"]);
    let known = Known { numbered: vec![elsewhere.clone()], ..Known::default() };
    assert_eq!(doubts(&match_up(&heard, &known, Orders::Required)), [Some(Doubt::NoOrder)], "a number is no tube");
    let mut nowhere = elsewhere;
    nowhere.order.specimen.id = Phi::default();
    let known = Known { numbered: vec![nowhere], ..Known::default() };
    let matched = match_up(&heard, &known, Orders::Required);
    assert_eq!((doubts(&matched), matched.report.patient.id.expose()), (vec![None], "P1"));
}

#[test]
fn a_merged_id_goes_out_as_the_surviving_one_even_without_an_order() {
    let mut heard = report(&["GLU"]);
    heard.patient.id = Phi::new("OLD");
    let known = Known { patient: Some(order(1, "", "NEW", &[]).order.patient), ..Known::default() };
    assert_eq!(match_up(&heard, &known, Orders::WhenKnown).report.patient.id.expose(), "NEW");
    assert_eq!(match_up(&heard, &known, Orders::Off).report.patient.id.expose(), "OLD");
}

#[test]
fn controls_and_links_that_ask_for_no_orders_are_left_alone() {
    let known = on_specimen(&[order(1, "A1", "P1", &["GLU"])]);
    let control = Report { control: Some(Control::default()), ..report(&["GLU"]) };
    assert_eq!(match_up(&control, &known, Orders::Required).report, control);
    let heard = report(&["GLU"]);
    assert_eq!(match_up(&heard, &known, Orders::Off).report, heard);
}

#[test]
fn a_panel_asks_for_each_of_its_tests() {
    let codes = SiteCodes::from([("LIVER".to_string(), vec!["ALT".to_string(), "AST".to_string()])]);
    let orders = [order(1, "A1", "P1", &["GLU"]), order(2, "A2", "P1", &["LIVER", "K"])];
    let known = Known { codes, ..on_specimen(&orders) };
    let matched = match_up(&report(&["ALT", "GLU", "AST", "CRP"]), &known, Orders::Required);
    let expected = [(vec![0, 2], "A2"), (vec![1], "A1"), (vec![3], "")].map(|(at, number)| (at, number.to_string()));
    assert_eq!(numbers(&matched), expected);
    assert_eq!(doubts(&matched), [None, None, None, Some(Doubt::NoOrder)]);
    assert_eq!(matched.parts[0].report(&matched.report).order.universal_service_id.unwrap().code, "LIVER");
}

#[test]
fn an_order_for_the_test_itself_goes_before_one_for_a_panel_that_has_it() {
    let codes = |lines: &[(&str, &[&str])]| -> SiteCodes {
        lines.iter().map(|(ehr, own)| (ehr.to_string(), own.iter().map(ToString::to_string).collect())).collect()
    };
    let lines = codes(&[("BMP", &["GLU", "K"]), ("SUGAR", &["GLU"])]);
    for alone in ["GLU", "SUGAR"] {
        let orders = [order(1, "A1", "P1", &[alone]), order(2, "A2", "P1", &["BMP"])];
        let known = Known { codes: lines.clone(), ..on_specimen(&orders) };
        let matched = match_up(&report(&["GLU", "K"]), &known, Orders::Required);
        assert_eq!(numbers(&matched), [(vec![0], "A1".to_string()), (vec![1], "A2".to_string())], "{alone}");
    }
}

#[test]
fn what_was_ordered_by_a_code_of_the_laboratory_is_found_by_what_the_instrument_says_was_ordered() {
    let orders = [order(1, "A1", "P1", &["TB"]), order(2, "A2", "P1", &["FLU"])];
    let codes = SiteCodes::from([("TB".into(), vec!["MTB-RIF".into()]), ("FLU".into(), vec!["FLU-RSV".into()])]);
    let known = Known { codes, ..on_specimen(&orders) };
    let mut heard = report(&["Rif", "MTB"]);
    heard.order.universal_service_id = Some(Coding::local("MTB-RIF", ""));
    assert_eq!(numbers(&match_up(&heard, &known, Orders::Required)), [(vec![0, 1], "A1".to_string())]);
}

#[test]
fn i13_a_number_that_no_order_has_is_nobodys_but_the_instruments() {
    let mut heard = report(&["GLU"]);
    heard.order.placer_order_number = Phi::new("S1");
    let matched = match_up(&heard, &Known::default(), Orders::WhenKnown);
    let out = matched.parts[0].report(&matched.report);
    assert_eq!((out.order.placer_order_number.expose(), out.order.placer_namespace), ("S1", None));
}

#[test]
fn an_order_that_has_its_results_leaves_a_new_one_to_an_open_panel_and_takes_a_correction() {
    let codes = SiteCodes::from([("BMP".to_string(), vec!["GLU".to_string(), "K".to_string()])]);
    let done = StoredOrder { status: OrderStatus::Done, ..order(1, "A1", "P1", &["GLU"]) };
    let known = Known { codes, ..on_specimen(&[done, order(2, "A2", "P1", &["BMP"])]) };
    let heard = report(&["GLU"]);
    assert_eq!(numbers(&match_up(&heard, &known, Orders::Required)), [(vec![0], "A2".to_string())]);
    let mut corrected = heard;
    corrected.observations[0].status = "C".into();
    assert_eq!(numbers(&match_up(&corrected, &known, Orders::Required)), [(vec![0], "A1".to_string())]);
}

#[test]
fn i13_a_code_the_site_explains_is_not_the_instruments_by_chance() {
    // The EHR's 10 is HbA1c, the instrument's 55; the instrument's own 10 is glucose.
    let codes = SiteCodes::from([("10".into(), vec!["55".into()]), ("BMP".into(), vec!["10".into(), "11".into()])]);
    let known = Known { codes, ..on_specimen(&[order(1, "A1", "P1", &["10"]), order(2, "A2", "P1", &["BMP"])]) };
    let matched = match_up(&report(&["10", "55"]), &known, Orders::Required);
    assert_eq!(numbers(&matched), [(vec![0], "A2".to_string()), (vec![1], "A1".to_string())]);
}
