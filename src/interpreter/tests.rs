//! Promises of the loop: what goes out in which order, what is held and why, and what does not stop it.

use super::*;
use crate::clinical::{Coding, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, WorkOrder};
use crate::journal::{self, FiledReport, Grounds, HoldRow, NewHold, OrderChange};
use crate::mapping::Charset;
use crate::rules::{Orders, Rule, Unmapped};
use crate::wire::{Persist, Token};
use std::sync::Arc;

const LINK: &str = "chemistry";

struct Bench {
    data: tempfile::TempDir,
    journal: Journal,
    interpreter: Interpreter,
    runtime: tokio::runtime::Runtime,
    count: u64,
}

impl Bench {
    fn new(orders: Orders, rules: &[Rule], charset: Charset) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        let links = [link::Config {
            name: LINK.into(),
            unmapped: Unmapped::SendLocal,
            clock_limit_s: 0,
            charset: Some("utf-8".into()),
            orders,
            order_codes: vec!["PANEL = 15074-8, 1920-8".to_string().try_into().unwrap()],
            ..link::Config::default()
        }];
        let destinations = [delivery::Config { name: "ehr".into(), charset, ..delivery::Config::default() }];
        let (rulebook, zone) = (Rulebook::new(rules).unwrap(), jiff::tz::TimeZone::UTC);
        let registry = Registry::builtin();
        let interpreter = Interpreter::new(&journal, registry, "GW", &zone, &links, rulebook, &destinations).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { data, journal, interpreter, runtime, count: 0 }
    }

    /// A result comes in; the number of its entry.
    fn result(&mut self, patient: &str, specimen: &str, value: &str) -> i64 {
        self.part(&message(patient, specimen, value, ""), true)
    }

    fn part(&mut self, text: &str, completes: bool) -> i64 {
        self.count += 1;
        let (session, bytes) = (self.count, text.as_bytes().to_vec());
        let part = Persist { token: Token(session), session, bytes, completes, identity: None };
        self.runtime.block_on(self.journal.persist(LINK, 1, part)).unwrap();
        if !completes {
            self.journal.abandon(LINK, 1, session);
            // The writer has heard of it a moment later.
            while self.journal.reader().unwrap().pending_entries(1).unwrap().is_empty() {
                std::thread::yield_now();
            }
        }
        self.count as i64
    }

    /// The EHR orders glucose.
    fn order(&mut self, number: &str, patient: &str, specimen: &str) {
        self.change(OrderChange::New(Box::new(ordered(number, patient, specimen))));
    }

    fn status(&self, number: &str) -> OrderStatus {
        self.journal.reader().unwrap().work_orders_numbered(&Phi::new(number)).unwrap()[0].status
    }

    fn change(&mut self, change: OrderChange) {
        self.count += 1;
        let identity = Some(self.count.to_be_bytes().to_vec());
        let bytes = format!("MSH {}", self.count).into_bytes();
        let part = Persist { token: Token(self.count), session: self.count, bytes, completes: true, identity };
        let stored = self.journal.persist_orders("ehr", 2, part, vec![change], None, Arc::from([]));
        let (stored, _) = self.runtime.block_on(stored).unwrap();
        assert!(stored.outcomes.iter().all(|outcome| *outcome == journal::OrderOutcome::Accepted));
    }

    /// Files an entry's result as a version of the program whose reports this one cannot read would have.
    fn file_as_another_version(&mut self, entry: i64, reason: &'static str) {
        let grounds = Grounds { reason, rule: None, why: String::new() };
        let report = FiledReport {
            subject_key: b"subject".to_vec(),
            content_key: b"content".to_vec(),
            completed_at_s: None,
            repeat_of: None,
            lookups: vec![(Lookup::Specimen, "S1".to_string())],
            json: b"{\"of another version\": true}".to_vec(),
            results: 1,
            decisions: String::new(),
            holds: vec![NewHold { observation: 0, grounds }],
            outbox: Vec::new(),
            answered: Vec::new(),
            orders_as_of: i64::MAX,
        };
        let filing = Filing {
            entry: EntryId(entry),
            driver: "generic-astm@0".to_string(),
            inbound_results: 1,
            refused: Vec::new(),
            reports: vec![report],
            covers: Vec::new(),
            placement: None,
        };
        self.journal.file_all(vec![filing]).into_iter().for_each(|filed| drop(filed.unwrap()));
    }

    fn spoil_reports(&self) {
        let conn = rusqlite::Connection::open(self.data.path().join("journal.db")).unwrap();
        conn.execute("UPDATE report SET json = zeroblob(40)", []).unwrap();
    }

    /// Until nothing is left to do.
    fn settle(&mut self) {
        while self.interpreter.round().unwrap() > 0 {}
    }

    /// The entries whose results went out, in that order.
    fn sent(&self) -> Vec<i64> {
        let conn = rusqlite::Connection::open(self.data.path().join("journal.db")).unwrap();
        let sql = "SELECT r.entry FROM outbox o JOIN dispatch d ON d.id = o.dispatch JOIN report r ON r.id = d.report
                   ORDER BY o.id";
        conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn held(&self) -> Vec<HoldRow> {
        self.journal.reader().unwrap().holds(50).unwrap()
    }

    fn reasons(&self) -> Vec<(i64, String)> {
        self.held().into_iter().map(|hold| (hold.entry.0, hold.reason)).collect()
    }
}

fn message(patient: &str, specimen: &str, value: &str, range: &str) -> String {
    format!("H|\\^&|||X\rP|1|{patient}\rO|1|{specimen}\rR|1|15074-8^Glucose|{value}|mmol/L|{range}|N||F\rL|1|N\r")
}

fn ordered(number: &str, patient: &str, specimen: &str) -> WorkOrder {
    let mut order = WorkOrder {
        placer_order_number: OrderNumber::new(number),
        patient: OrderedPatient {
            patient: Patient { id: Phi::new(patient), id_authority: "HOSP".into(), ..Patient::default() },
            other_ids: Vec::new(),
        },
        tests: vec![OrderedTest { universal_service_id: Coding::local("GLU", ""), alternate: None }],
        ..WorkOrder::default()
    };
    order.specimen.id = Phi::new(specimen);
    order
}

fn delta() -> Rule {
    Rule {
        name: "delta".into(),
        kind: rule::Kind::Delta,
        analytes: vec!["15074-8".into()],
        percent: Some("20".into()),
        within_days: Some(3),
        ..Rule::default()
    }
}

fn repeat() -> Rule {
    Rule {
        name: "repeat".into(),
        kind: rule::Kind::Repeat,
        analytes: vec!["15074-8".into()],
        reasons: vec!["rule-delta".into()],
        max_age_hours: Some(2),
        ..Rule::default()
    }
}

#[test]
fn i6_what_an_order_releases_goes_out_before_what_came_later() {
    let mut bench = Bench::new(Orders::Required, &[], Charset::Utf8);
    let first = bench.result("", "S1", "5.0");
    bench.settle();
    assert_eq!(bench.reasons(), [(first, "no-order".to_string())]);
    let second = bench.result("", "S1", "6.0");
    bench.interpreter.send_released().unwrap();
    // The order comes after the loop looked for what is released, and before it decides about the second result.
    bench.order("A1", "P1", "S1");
    bench.interpreter.interpret_waiting().unwrap();
    bench.settle();
    assert_eq!(bench.sent(), [first, second]);
    assert!(bench.held().is_empty());
}

#[test]
fn i6_an_older_result_that_an_order_releases_does_not_follow_a_newer_one() {
    let mut bench = Bench::new(Orders::WhenKnown, &[], Charset::Utf8);
    bench.order("A1", "P1", "S1");
    let first = bench.result("P2", "S1", "5.0");
    let preliminary = message("P1", "S1", "6.0", "").replace("||F", "||P");
    let second = bench.part(&preliminary, true);
    bench.settle();
    assert_eq!(bench.sent(), [second]);
    assert_eq!(bench.reasons(), [(first, "order-mismatch".to_string())]);
    // The EHR moves the order: the first result fits now, and is older than what the chart has.
    bench.change(OrderChange::Change(Box::new(ordered("A1", "P2", "S1"))));
    bench.settle();
    assert_eq!(bench.sent(), [second]);
    let held = bench.held();
    assert_eq!((held[0].entry.0, held[0].reason.as_str()), (first, "overtaken"));
    assert!(held[0].why.contains("newer results"), "{}", held[0].why);
}

#[test]
fn i13_what_a_link_brought_that_is_no_more_is_held_until_it_is_read_by_its_settings_again() {
    let mut bench = Bench::new(Orders::WhenKnown, &[], Charset::Utf8);
    let entry = bench.result("P1", "S1", "5.0");
    let destinations = [delivery::Config { name: "ehr".into(), ..delivery::Config::default() }];
    let (zone, registry) = (jiff::tz::TimeZone::UTC, Registry::builtin());
    let without =
        Interpreter::new(&bench.journal, registry, "GW", &zone, &[], Rulebook::default(), &destinations).unwrap();
    let with = std::mem::replace(&mut bench.interpreter, without);
    bench.settle();
    assert_eq!((bench.sent(), bench.reasons()), (vec![], vec![(entry, "no-link".to_string())]));
    bench.interpreter = with;
    bench.journal.operate(OperatorAction::Replay { entries: vec![EntryId(entry)] }).unwrap();
    bench.settle();
    assert_eq!((bench.sent(), bench.reasons()), (vec![entry], vec![]));
}

#[test]
fn i13_a_delta_is_to_the_earlier_value_of_the_patient_the_order_names() {
    let mut bench = Bench::new(Orders::WhenKnown, &[delta()], Charset::Utf8);
    // The instrument names no patient.
    for (number, patient, specimen) in [("A1", "P1", "S1"), ("A2", "P2", "S2"), ("A3", "P1", "S3")] {
        bench.order(number, patient, specimen);
    }
    let first = bench.result("", "S1", "5.0");
    let others = bench.result("", "S2", "50");
    let second = bench.result("", "S3", "50");
    bench.settle();
    assert_eq!(bench.sent(), [first, others], "another patient's value is no earlier one");
    assert_eq!(bench.reasons(), [(second, "rule-delta".to_string())]);
}

#[test]
fn i13_a_result_whose_order_comes_late_is_judged_by_it_and_says_why_it_is_held_now() {
    let mut bench = Bench::new(Orders::Required, &[delta()], Charset::Utf8);
    let first = bench.result("", "S1", "5.0");
    let second = bench.result("", "S2", "50");
    bench.settle();
    assert!(bench.held().iter().all(|hold| hold.reason == "no-order" && hold.rule.is_none()));
    bench.order("A1", "P1", "S1");
    bench.settle();
    assert_eq!(bench.sent(), [first]);
    bench.order("A2", "P1", "S2");
    bench.settle();
    let held = bench.held();
    assert_eq!((held.len(), held[0].entry.0, held[0].reason.as_str()), (1, second, "rule-delta"));
    assert!(held[0].rule.as_deref().is_some_and(|rule| rule.starts_with("delta@")), "{:?}", held[0].rule);
    assert!(!held[0].why.contains("order"), "{}", held[0].why);
    let shown = bench.journal.reader().unwrap().show(EntryId(second)).unwrap();
    let decisions = serde_json::to_string(&shown.reports[0].decisions).unwrap();
    assert!(decisions.contains("held"), "the decision is on record: {decisions}");
}

#[test]
fn i7_a_held_report_that_cannot_be_read_does_not_stop_what_comes_after_it() {
    for another_version in [false, true] {
        let mut bench = Bench::new(Orders::Off, &[], Charset::Utf8);
        let whole = message("P1", "S1", "5.0", "");
        let fragment = bench.part(&whole[..whole.len() - 6], false);
        match another_version {
            true => bench.file_as_another_version(fragment, "incomplete"),
            false => {
                bench.settle();
                bench.spoil_reports();
            }
        }
        assert_eq!(bench.reasons(), [(fragment, "incomplete".to_string())]);
        let again = bench.result("P1", "S1", "5.0");
        bench.settle();
        assert_eq!(bench.sent(), [again]);
        assert_eq!(bench.held().len(), 1, "a person looks at it");
    }
}

#[test]
fn i13_a_complete_message_covers_a_fragment_of_the_same_patient_only() {
    for (patient, held) in [("P1", 0), ("P2", 1)] {
        let mut bench = Bench::new(Orders::Off, &[], Charset::Utf8);
        let whole = message("P1", "S1", "5.0", "");
        bench.part(&whole[..whole.len() - 6], false);
        bench.settle();
        bench.result(patient, "S1", "5.0");
        bench.settle();
        assert_eq!(bench.held().len(), held, "{patient}");
    }
}

#[test]
fn i13_a_repeat_that_cannot_be_sent_covers_nothing() {
    for (range, covered) in [("4-6", true), ("4\u{2013}6", false)] {
        let mut bench = Bench::new(Orders::Off, &[delta(), repeat()], Charset::Ascii);
        bench.result("P1", "S1", "5.0");
        let high = bench.result("P1", "S2", "50");
        bench.settle();
        assert_eq!(bench.reasons(), [(high, "rule-delta".to_string())]);
        let again = bench.part(&message("P1", "S2", "5.1", range), true);
        bench.settle();
        let held = bench.reasons();
        match covered {
            true => assert!(held.is_empty(), "{held:?}"),
            false => assert_eq!(held.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [high, again], "{held:?}"),
        }
    }
}

#[test]
fn i13_a_repeat_of_another_patient_covers_nothing() {
    let mut bench = Bench::new(Orders::Off, &[delta(), repeat()], Charset::Utf8);
    bench.result("P1", "S1", "5.0");
    let high = bench.result("P1", "S2", "50");
    bench.settle();
    bench.result("P2", "S2", "5.1");
    bench.settle();
    assert_eq!(bench.reasons(), [(high, "rule-delta".to_string())]);
}

#[test]
fn i7_a_released_report_that_cannot_be_read_is_held_as_damaged_and_stops_nothing() {
    let mut bench = Bench::new(Orders::Required, &[], Charset::Utf8);
    let first = bench.result("", "S1", "5.0");
    bench.file_as_another_version(first, "no-order");
    bench.order("A1", "P1", "S1");
    bench.order("A2", "P1", "S2");
    let second = bench.result("", "S2", "6.0");
    bench.settle();
    assert_eq!(bench.sent(), [second]);
    assert_eq!(bench.reasons(), [(first, "damaged".to_string())]);
}

#[test]
fn i13_of_two_orders_on_a_tube_a_panels_result_answers_the_panel_whichever_came_first() {
    for result_first in [false, true] {
        let mut bench = Bench::new(Orders::Required, &[], Charset::Utf8);
        let mut panel = ordered("A1", "P1", "S1");
        panel.tests[0].universal_service_id = Coding::local("PANEL", "");
        if result_first {
            bench.result("", "S1", "5.0");
            bench.settle();
        }
        bench.order("A2", "P1", "S1");
        bench.change(OrderChange::New(Box::new(panel)));
        if !result_first {
            bench.result("", "S1", "5.0");
        }
        bench.settle();
        assert_eq!((bench.status("A1"), bench.status("A2")), (OrderStatus::Done, OrderStatus::Requested));
    }
}

#[test]
fn the_loop_ends_when_nobody_is_left_to_stop_it() {
    let bench = Bench::new(Orders::default(), &[], Charset::default());
    let (stop, stopped) = watch::channel(false);
    let interpreter = bench.interpreter;
    let thread = std::thread::spawn(move || interpreter.run(&stopped));
    drop(stop);
    thread.join().unwrap();
}
