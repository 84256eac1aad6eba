//! Orders from the EHR: custody, changes, tasks, merges, retention.

use super::*;
use crate::clinical::{
    Coding, ImagingOrder, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, Phi, RequestedProcedure,
    ScheduledStep, Specimen, Timestamp, WorkOrder,
};
use jiff::tz::TimeZone;

const SOURCE: &str = "hospital";

fn patient(id: &str) -> OrderedPatient {
    OrderedPatient { patient: Patient { id: Phi::new(id), ..Patient::default() }, other_ids: Vec::new() }
}

fn order(number: &str, specimen: &str, of: &str, tests: &[&str]) -> WorkOrder {
    WorkOrder {
        placer_order_number: OrderNumber { id: Phi::new(number), namespace: "EHR".into() },
        patient: patient(of),
        specimen: Specimen { id: Phi::new(specimen), ..Specimen::default() },
        tests: tests
            .iter()
            .map(|code| OrderedTest { universal_service_id: Coding::local(*code, ""), alternate: None })
            .collect(),
        ..WorkOrder::default()
    }
}

fn new(number: &str, specimen: &str, of: &str) -> OrderChange {
    OrderChange::New(Box::new(order(number, specimen, of, &["GLU"])))
}

/// An imaging order with an appointment in so many days.
fn booked(number: &str, of: &str, days: i64) -> OrderChange {
    let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let start = Timestamp::parse(&day.strftime("%Y%m%d").to_string(), &TimeZone::UTC);
    let steps = vec![ScheduledStep { start, ..ScheduledStep::default() }];
    let procedures = vec![RequestedProcedure { steps, ..RequestedProcedure::default() }];
    let imaging = Some(ImagingOrder { procedures, ..ImagingOrder::default() });
    OrderChange::New(Box::new(WorkOrder { imaging, ..order(number, "", of, &["ECHO"]) }))
}

fn take_back(number: &str, becomes: OrderStatus) -> OrderChange {
    OrderChange::TakeBack { number: OrderNumber::new(number), specimen: Phi::default(), becomes }
}

impl Bench {
    /// Persists a message with this control id and these changes, for the analyzers `chemistry` and `spare`.
    fn order(&mut self, control_id: &str, changes: Vec<OrderChange>) -> StoredOrders {
        self.token += 1;
        let part = Persist {
            token: Token(self.token),
            session: self.token,
            bytes: format!("MSH {control_id} {changes:?}").into_bytes(),
            completes: true,
            identity: Some(format!("EHR|X|{control_id}").into_bytes()),
        };
        let links = [LINK.to_string(), "spare".to_string()];
        let stored = self.journal.persist_orders(SOURCE, 9, part, changes, None, Arc::new(links));
        let (stored, receipt) = self.runtime.block_on(stored).unwrap();
        assert_eq!(receipt.token(), Token(self.token));
        stored
    }

    fn mark(&self, order: WorkOrderId, link: &str, mark: LinkMark) {
        self.runtime.block_on(self.journal.mark_order(order, link, mark)).unwrap();
    }

    fn on(&self, specimen: &str) -> Vec<(String, OrderStatus)> {
        let found = self.journal.reader().unwrap().work_orders_on(&Phi::new(specimen)).unwrap();
        found.into_iter().map(|o| (o.order.placer_order_number.id.expose().to_string(), o.status)).collect()
    }

    fn tasks(&self, link: &str) -> Vec<(String, bool)> {
        let tasks = self.journal.reader().unwrap().link_tasks(link, 0, 10).unwrap();
        let name = |t: &LinkTask| t.order.order.placer_order_number.id.expose().to_string();
        tasks.iter().map(|t| (name(t), t.is_cancellation)).collect()
    }

    fn id_of(&self, number: &str) -> WorkOrderId {
        self.journal.reader().unwrap().work_orders_numbered(&Phi::new(number)).unwrap().last().unwrap().id
    }
}

#[test]
fn i1_an_order_that_has_a_receipt_is_there_after_a_restart_and_is_no_result() {
    let mut bench = Bench::new();
    let stored = bench.order("1", vec![new("A1", "S1", "P1")]);
    assert_eq!(stored.outcomes, [OrderOutcome::Accepted]);
    let bench = bench.restart();
    assert_eq!(bench.on("S1"), [("A1".to_string(), OrderStatus::Requested)]);
    assert!(bench.pending().is_empty(), "nothing to interpret");
    let reader = bench.journal.reader().unwrap();
    assert_eq!(reader.show(stored.entry).unwrap().entry.state, "orders");
    assert_eq!(reader.work_order(bench.id_of("A1")).unwrap().order.placer_order_number.namespace, "EHR");
    let query = Query { id: Some((Lookup::Specimen, "S1".to_string())), limit: 9, ..Query::default() };
    assert_eq!(reader.search(&query).unwrap().len(), 1, "the message is found by its specimen");
    // A person who asks for it to be interpreted again is told no: it is not a result.
    let replay = bench.journal.operate(OperatorAction::Replay { entries: vec![stored.entry] }).unwrap();
    assert_eq!(replay.done, 0);
}

#[test]
fn i4_the_same_message_again_gets_the_same_outcomes_and_makes_no_second_order() {
    let mut bench = Bench::new();
    let changes = vec![new("A1", "S1", "P1"), take_back("ghost", OrderStatus::Cancelled)];
    let first = bench.order("1", changes.clone());
    bench.order("2", vec![take_back("A1", OrderStatus::Cancelled)]);
    let mut bench = bench.restart();
    let again = bench.order("1", changes);
    assert_eq!((again.entry, again.received_ms, again.is_new), (first.entry, first.received_ms, false));
    assert_eq!(again.outcomes, [OrderOutcome::Accepted, OrderOutcome::Unknown]);
    assert_eq!(bench.on("S1"), [("A1".to_string(), OrderStatus::Cancelled)], "and does not bring it back");
}

#[test]
fn i4_the_same_order_in_another_message_is_no_second_one_and_a_contradicting_one_is_refused() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1")]);
    assert_eq!(bench.order("2", vec![new("A1", "S1", "P1")]).outcomes, [OrderOutcome::Accepted]);
    let other_tests = OrderChange::New(Box::new(order("A1", "S1", "P1", &["K"])));
    assert_eq!(bench.order("3", vec![other_tests]).outcomes, [OrderOutcome::Duplicate]);
    assert_eq!(bench.order("4", vec![new("A1", "S2", "P2")]).outcomes, [OrderOutcome::Duplicate], "another patient's");
    assert_eq!(bench.on("S1").len(), 1);
    assert!(bench.on("S2").is_empty());
}

#[test]
fn an_order_changes_is_replaced_and_cancelled_only_while_it_is_open() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1"), new("A2", "S1", "P1"), new("A3", "S1", "P1")]);
    let changed = OrderChange::Change(Box::new(order("A1", "S9", "P1", &["K"])));
    let replaced = [take_back("A2", OrderStatus::Replaced), new("A4", "S1", "P1")];
    let outcomes = bench.order("2", [changed.clone()].into_iter().chain(replaced).collect()).outcomes;
    assert_eq!(outcomes, [OrderOutcome::Accepted; 3]);
    let status = |s: OrderStatus, n: &str| (n.to_string(), s);
    assert_eq!(
        bench.on("S1"),
        [
            status(OrderStatus::Replaced, "A1"),
            status(OrderStatus::Replaced, "A2"),
            status(OrderStatus::Requested, "A3"),
            status(OrderStatus::Requested, "A4"),
        ]
    );
    assert_eq!(bench.on("S9"), [status(OrderStatus::Requested, "A1")]);
    let mut filing = filing_for(&mut bench);
    filing.reports[0].answered = vec![Answered { order: bench.id_of("A3"), status: OrderStatus::Done }];
    bench.journal.file(filing).unwrap();
    let late = bench.order("3", vec![take_back("A3", OrderStatus::Cancelled)]);
    assert_eq!(late.outcomes, [OrderOutcome::TooLate]);
    let unknown = OrderChange::Change(Box::new(order("ghost", "S7", "P1", &["K"])));
    assert_eq!(bench.order("4", vec![unknown]).outcomes, [OrderOutcome::Unknown]);
    assert!(bench.on("S7").is_empty(), "a change of nothing is no new order");
    let cancel = |bench: &mut Bench, id| bench.order(id, vec![take_back("A4", OrderStatus::Cancelled)]).outcomes;
    assert_eq!(cancel(&mut bench, "5"), [OrderOutcome::Accepted]);
    assert_eq!(cancel(&mut bench, "6"), [OrderOutcome::Accepted], "asked again, it is cancelled still");
}

fn filing_for(bench: &mut Bench) -> Filing {
    bench.persist(700, b"result", true).unwrap();
    filing(bench.pending()[0].id, &["A"], 0)
}

#[test]
fn a_link_is_told_of_an_order_and_of_its_cancellation_only_if_it_was_told() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1"), new("A2", "S2", "P1")]);
    let told = |n: &str, cancelled| (n.to_string(), cancelled);
    assert_eq!(bench.tasks(LINK), [told("A1", false), told("A2", false)]);
    bench.mark(bench.id_of("A1"), LINK, LinkMark::Sent);
    assert_eq!(bench.tasks(LINK), [told("A2", false)]);
    assert_eq!(bench.on("S1"), [("A1".to_string(), OrderStatus::InProgress)]);
    let both = vec![take_back("A1", OrderStatus::Cancelled), take_back("A2", OrderStatus::Cancelled)];
    bench.order("2", both);
    assert_eq!(bench.tasks(LINK), [told("A1", true)], "it never heard of A2");
    assert!(bench.tasks("spare").is_empty());
    bench.mark(bench.id_of("A1"), LINK, LinkMark::CancellationSent);
    // Sent at the very moment it was cancelled: the instrument has it, so it is told.
    bench.mark(bench.id_of("A2"), "spare", LinkMark::Sent);
    assert_eq!((bench.tasks(LINK), bench.tasks("spare")), (vec![], vec![told("A2", true)]));
    let open = bench.journal.reader().unwrap().open_work_orders_for("spare", 9).unwrap();
    assert!(open.is_empty());
}

#[test]
fn an_order_is_found_by_every_name_of_its_specimen_and_by_no_other() {
    let mut bench = Bench::new();
    let mut named = order("A1", "S1", "P1", &["GLU"]);
    named.other_specimen_ids = vec![Phi::new("TUBE-7")];
    bench.order("1", vec![OrderChange::New(Box::new(named)), new("A2", "", "P1")]);
    assert_eq!(bench.on("S1"), bench.on("TUBE-7"));
    for id in ["", "S", "S11", " S1"] {
        assert!(bench.on(id).is_empty(), "{id:?}");
    }
    let reader = bench.journal.reader().unwrap();
    assert_eq!(reader.open_work_orders_on(&Phi::new("S1")).unwrap().len(), 1);
    assert!(reader.work_orders_numbered(&Phi::new("A2")).unwrap()[0].order.specimen.id.is_empty());
}

#[test]
fn a_merge_changes_whose_an_order_is_and_a_correction_changes_what_is_known() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "OLD")]);
    let mut surviving = patient("NEW");
    surviving.patient.family = Phi::new("SYNTHETIC");
    bench.order("2", vec![OrderChange::Merge { gone: Phi::new("OLD"), surviving: Box::new(surviving) }]);
    let mut corrected = patient("OLD");
    corrected.patient.birth_date = Phi::new("19700101");
    bench.order("3", vec![OrderChange::Patient(Box::new(corrected))]);
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let found = &reader.work_orders_on(&Phi::new("S1")).unwrap()[0].order.patient;
    let known = &found.patient;
    assert_eq!((known.id.expose(), known.family.expose(), known.birth_date.expose()), ("NEW", "SYNTHETIC", "19700101"));
    assert!(found.goes_by(&Phi::new("OLD")));
    assert_eq!(reader.patient(&Phi::new("OLD")).unwrap().as_ref(), Some(found));
    assert_eq!(reader.patient(&Phi::new("nobody")).unwrap(), None);
}

#[test]
fn i13_the_same_number_of_two_authorities_is_two_people() {
    let mut bench = Bench::new();
    let of = |authority: &str, family: &str| {
        let mut patient = patient("4711");
        patient.patient.id_authority = authority.to_string();
        patient.patient.family = Phi::new(family);
        patient
    };
    let order = |number: &str, specimen: &str, patient: OrderedPatient| match new(number, specimen, "4711") {
        OrderChange::New(order) => OrderChange::New(Box::new(WorkOrder { patient, ..*order })),
        other => other,
    };
    bench.order("1", vec![order("A1", "S1", of("NORTH", "ONE"))]);
    bench.order("2", vec![order("A2", "S2", of("SOUTH", "TWO"))]);
    let mut moved = of("SOUTH", "TWO");
    moved.patient.birth_date = Phi::new("19700101");
    bench.order("3", vec![OrderChange::Patient(Box::new(moved))]);
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let found = |specimen| reader.work_orders_on(&Phi::new(specimen)).unwrap()[0].order.patient.patient.clone();
    let (north, south) = (found("S1"), found("S2"));
    assert_eq!((north.id_authority.as_str(), north.family.expose()), ("NORTH", "ONE"));
    assert!(north.birth_date.is_empty());
    assert_eq!((south.family.expose(), south.birth_date.expose()), ("TWO", "19700101"));
    assert!(!north.shares_id_with(&south));
}

#[test]
fn an_order_that_changed_ever_so_often_is_one_order_and_can_be_taken_back() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1")]);
    let change = || OrderChange::Change(Box::new(order("A1", "S1", "P1", &["GLU"])));
    bench.order("2", (0..ORDERS_FOUND_MAX + 5).map(|_| change()).collect());
    let open = |bench: &Bench| bench.journal.reader().unwrap().work_orders(true, 999).unwrap().len();
    assert_eq!(open(&bench), 1);
    let outcomes = bench.order("3", vec![take_back("A1", OrderStatus::Cancelled)]).outcomes;
    assert_eq!((outcomes, open(&bench)), (vec![OrderOutcome::Accepted], 0));
}

#[test]
fn a_ring_of_merges_ends() {
    let mut bench = Bench::new();
    let merge =
        |gone: &str, stays: &str| OrderChange::Merge { gone: Phi::new(gone), surviving: Box::new(patient(stays)) };
    bench.order("1", vec![new("A1", "S1", "A"), merge("A", "B"), merge("B", "C"), merge("C", "A")]);
    let found = bench.journal.reader().unwrap().work_orders_on(&Phi::new("S1")).unwrap();
    assert_eq!(found[0].order.patient.patient.id.expose(), "A", "the last word of the EHR");
}

#[test]
fn results_held_for_want_of_an_order_are_decided_again_when_it_comes() {
    let mut bench = Bench::new();
    bench.persist(1, b"message", true).unwrap();
    let entry = bench.pending()[0].id;
    let mut held = filing(entry, &["S1"], 2);
    held.reports[1].holds[0].grounds.reason = "no-order";
    held.reports[1].lookups = vec![(Lookup::Specimen, "S1".to_string())];
    bench.journal.file(held).unwrap();
    let released = |bench: &Bench| bench.journal.reader().unwrap().released(9).unwrap();
    bench.order("1", vec![new("A1", "S2", "P1")]);
    assert!(released(&bench).is_empty(), "another specimen's order");
    bench.order("2", vec![new("A2", "S1", "P1")]);
    let again = released(&bench);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].rematch, again[0].observations.as_slice()), (true, &[0][..]), "only what waited for an order");
    let holds = bench.journal.reader().unwrap().holds(9).unwrap();
    let person = OperatorAction::Release { holds: vec![holds[0].id], note: String::new() };
    bench.journal.operate(person).unwrap();
    assert_eq!(released(&bench).iter().map(|r| r.rematch).collect::<Vec<_>>(), [false, true], "kept apart");
    assert_eq!(bench.account().missing(), 0);
}

#[test]
fn i7_orders_stay_out_of_the_loss_account() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1")]);
    assert_eq!(bench.account(), Account::default());
}

#[test]
fn i8_no_order_and_no_patient_is_readable_in_the_files() {
    let mut bench = Bench::new();
    let mut named = order("CANARY-ORDER", "CANARY-TUBE", "CANARY-ID", &["GLU"]);
    named.patient.patient.family = Phi::new("CANARY-NAME");
    bench.order("1", vec![OrderChange::New(Box::new(named))]);
    for name in ["journal.db", "journal.db-wal"] {
        let bytes = std::fs::read(bench.data.path().join(name)).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"CANARY-"), "{name}");
    }
}

#[test]
fn a_damaged_order_is_left_out_and_the_others_are_found() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1"), new("A2", "S1", "P1")]);
    bench.sabotage().execute("UPDATE work_order SET json = x'00' WHERE id = 1", []).unwrap();
    assert_eq!(bench.on("S1"), [("A2".to_string(), OrderStatus::Requested)]);
    bench.sabotage().execute("UPDATE patient SET json = x'00'", []).unwrap();
    assert_eq!(bench.on("S1").len(), 1, "the order itself still says whose it is");
}

#[test]
fn orders_and_patients_go_when_their_days_are_over_and_their_message_with_them() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1")]);
    bench.order("2", vec![new("A2", "S2", "P2")]);
    let sabotage = bench.sabotage();
    sabotage
        .execute_batch("UPDATE work_order SET changed_ms = 0 WHERE id = 1; UPDATE entry SET received_ms = 0")
        .unwrap();
    sabotage.execute("UPDATE patient SET changed_ms = 0 WHERE entry = 1", []).unwrap();
    drop(sabotage);
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        bench.sabotage().query_row(&sql, [], |r| r.get(0)).unwrap()
    };
    // The writer sweeps by itself between commands.
    let gone = (0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        count("entry") == 1
    });
    assert!(gone, "the message of the order that went");
    assert_eq!(["work_order", "patient", "answer", "work_order_link"].map(count), [1, 1, 1, 2]);
    assert_eq!(bench.on("S2").len(), 1);
}

#[test]
fn a_booking_stays_until_its_appointment_is_as_old_as_orders_may_be_and_its_patient_with_it() {
    let mut bench = Bench::new();
    let ahead = [("AHEAD", "P1", 90), ("JUST-OVER", "P2", -20), ("OVER", "P3", -60), ("AGES", "P4", 365 * 30)];
    let mut changes: Vec<OrderChange> = ahead.map(|(number, of, days)| booked(number, of, days)).into();
    changes.extend([
        booked("CANCELLED", "P5", 90),
        take_back("CANCELLED", OrderStatus::Cancelled),
        new("LAB", "S1", "P6"),
    ]);
    bench.order("1", changes);
    // The id it was ordered for is merged, and what is known of who stays is as old as the order.
    let renamed = Patient { id: Phi::new("P9"), family: Phi::new("NEUNAME"), ..Patient::default() };
    let surviving = OrderedPatient { patient: renamed, other_ids: Vec::new() };
    bench.order("2", vec![OrderChange::Merge { gone: Phi::new("P1"), surviving: Box::new(surviving) }]);
    let bench = bench.restart();
    let placed_ago = |days: i64| jiff::Timestamp::now().as_millisecond() - days * 86_400_000;
    let age = |which: &str, days: i64| {
        let sql = format!("UPDATE {which} SET changed_ms = ?1");
        bench.sabotage().execute(&sql, [placed_ago(days)]).unwrap();
    };
    // Ordered so long ago that five years ahead of then are over by now.
    let ages = bench.id_of("AGES");
    bench.sabotage().execute("UPDATE work_order SET placed_ms = 0 WHERE id = ?1", [ages]).unwrap();
    age("work_order", 40);
    age("patient", 40);
    let left = || {
        let mut left: Vec<String> = bench
            .journal
            .reader()
            .unwrap()
            .work_orders(false, 9)
            .unwrap()
            .into_iter()
            .map(|stored| stored.order.placer_order_number.id.expose().to_string())
            .collect();
        left.sort();
        left
    };
    let patients = || -> i64 { bench.sabotage().query_row("SELECT count(*) FROM patient", [], |r| r.get(0)).unwrap() };
    let swept = (0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        left().len() == 2 && patients() == 3
    });
    assert!(swept, "{:?} and {} patients are left", left(), patients());
    assert_eq!(left(), ["AHEAD", "JUST-OVER"]);
    let kept = bench.journal.reader().unwrap().work_order(bench.id_of("AHEAD")).unwrap();
    assert_eq!(kept.order.patient.patient.family.expose(), "NEUNAME", "as the EHR last described them");
}

#[test]
fn orders_of_before_there_were_holds_and_bookings_are_on_the_worklist_and_stay_until_their_appointments() {
    let mut bench = Bench::new();
    bench.order("1", vec![booked("AHEAD", "P1", 90), booked("OVER", "P2", -60), booked("CANCELLED", "P3", 90)]);
    let described = Patient { id: Phi::new("P1"), family: Phi::new("NEUNAME"), ..Patient::default() };
    let described = OrderedPatient { patient: described, other_ids: Vec::new() };
    bench.order("2", vec![take_back("CANCELLED", OrderStatus::Cancelled), OrderChange::Patient(Box::new(described))]);
    let Bench { data, config, journal, runtime, token } = bench;
    journal.close();
    let key = seal::OuterKey::find(data.path(), None, false).unwrap();
    schema::take_back_to(data.path(), &key, 10).unwrap();
    let old = |sql: &str| rusqlite::Connection::open(data.path().join("journal.db")).unwrap().execute(sql, []);
    assert!(old("UPDATE work_order SET on_hold = 0").is_err() && old("UPDATE patient SET booked_ms = 0").is_err());
    // Longer ago than orders are kept.
    let ago = jiff::Timestamp::now().as_millisecond() - 40 * 86_400_000;
    for table in ["work_order", "patient"] {
        old(&format!("UPDATE {table} SET changed_ms = {ago}")).unwrap();
    }

    let journal = Journal::open(data.path(), &config).unwrap();
    let mut bench = Bench { data, config, journal, runtime, token };
    let listed = |bench: &Bench| {
        let mut listed = Vec::new();
        let number = |stored: &StoredOrder| stored.order.placer_order_number.id.expose().to_owned();
        bench.journal.reader().unwrap().for_each_imaging_order(|stored| listed.push(number(&stored))).unwrap();
        listed
    };
    let patients = |bench: &Bench| -> i64 {
        bench.sabotage().query_row("SELECT count(*) FROM patient", [], |r| r.get(0)).unwrap()
    };
    let swept = (0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        patients(&bench) == 1 && bench.journal.reader().unwrap().work_orders(false, 9).unwrap().len() == 1
    });
    assert!(swept, "{:?} and {} patients are left", listed(&bench), patients(&bench));
    assert_eq!(listed(&bench), ["AHEAD"]);
    let kept = bench.journal.reader().unwrap().work_order(bench.id_of("AHEAD")).unwrap();
    assert_eq!(kept.order.patient.patient.family.expose(), "NEUNAME");
    bench.order("3", vec![OrderChange::Hold { number: OrderNumber::new("AHEAD") }]);
    assert!(listed(&bench).is_empty());
}

#[test]
fn whatever_changes_an_order_keeps_what_is_known_of_its_patient_as_long_as_it() {
    let mut bench = Bench::new();
    let imaging = |number: &str, of: &str| {
        let procedures = vec![RequestedProcedure { steps: vec![ScheduledStep::default()], ..Default::default() }];
        let imaging = Some(ImagingOrder { procedures, ..ImagingOrder::default() });
        Box::new(WorkOrder { imaging, ..order(number, "", of, &["ECHO"]) })
    };
    let orders = [("HELD", "P1"), ("TOLD", "P2"), ("CHANGED", "P3"), ("BACK", "P4")];
    bench.order("1", orders.map(|(number, of)| OrderChange::New(imaging(number, of))).into());
    let into =
        |gone: &str| OrderChange::Merge { gone: Phi::new(gone), surviving: Box::new(patient(&format!("{gone}+"))) };
    bench.order("2", orders.map(|(_, of)| into(of)).into());
    bench
        .sabotage()
        .execute("UPDATE patient SET changed_ms = (SELECT min(changed_ms) - 9 FROM work_order)", [])
        .unwrap();
    let kept = |bench: &Bench| -> i64 {
        let sql = "SELECT count(*) FROM patient WHERE changed_ms >= (SELECT min(changed_ms) FROM work_order)";
        bench.sabotage().query_row(sql, [], |r| r.get(0)).unwrap()
    };
    assert_eq!(kept(&bench), 0);
    bench.order("3", vec![OrderChange::Hold { number: OrderNumber::new("HELD") }]);
    bench.mark(bench.id_of("TOLD"), LINK, LinkMark::Sent);
    bench.order("4", vec![OrderChange::Change(imaging("CHANGED", "P3")), take_back("BACK", OrderStatus::Cancelled)]);
    assert_eq!(kept(&bench), 8, "each of four, and what their ids were merged into");
}

#[test]
fn a_person_takes_an_order_back() {
    let mut bench = Bench::new();
    bench.order("1", vec![new("A1", "S1", "P1")]);
    let id = bench.id_of("A1");
    let cancel = || bench.journal.operate(OperatorAction::CancelOrders { orders: vec![id, WorkOrderId(77)] }).unwrap();
    let done = cancel();
    assert_eq!((done.done, done.skipped.len()), (1, 1));
    assert_eq!(bench.on("S1"), [("A1".to_string(), OrderStatus::Cancelled)]);
    assert_eq!(cancel().done, 0);
    let counts = bench.journal.reader().unwrap().work_order_counts().unwrap();
    assert_eq!(counts, [0, 0, 0, 1, 0]);
}

#[test]
fn an_imaging_order_on_hold_is_off_the_worklist_and_comes_back_as_the_same_study() {
    let mut bench = Bench::new();
    let imaging = |patient: &str| {
        let procedure = RequestedProcedure { steps: vec![ScheduledStep::default()], ..RequestedProcedure::default() };
        let imaging = ImagingOrder { procedures: vec![procedure], ..ImagingOrder::default() };
        Box::new(WorkOrder { imaging: Some(imaging), ..order("A1", "", patient, &["ECHO"]) })
    };
    let hold = |number: &str| OrderChange::Hold { number: OrderNumber::new(number) };
    let listed = |bench: &Bench| {
        let mut listed = Vec::new();
        bench.journal.reader().unwrap().for_each_imaging_order(|stored| listed.push(stored)).unwrap();
        listed
    };
    bench.order("1", vec![OrderChange::New(imaging("P1"))]);
    let before = listed(&bench).remove(0);
    assert_eq!(
        bench.order("2", vec![hold("A1"), hold("ghost")]).outcomes,
        [OrderOutcome::Accepted, OrderOutcome::Unknown]
    );
    let mut bench = bench.restart();
    assert!(listed(&bench).is_empty());
    let reader = bench.journal.reader().unwrap();
    assert_eq!(reader.open_imaging_order(before.id).unwrap(), None);
    let resting = reader.work_order(before.id).unwrap();
    assert!(resting.on_hold && resting.status.is_open() && resting.status.is_valid(), "its images are still its own");
    assert_eq!(reader.open_work_orders_from(SOURCE, None, 9).unwrap(), [before.id]);
    drop(reader);
    assert_eq!(bench.order("3", vec![OrderChange::Change(imaging("P1"))]).outcomes, [OrderOutcome::Accepted]);
    let after = listed(&bench);
    assert_eq!((after.len(), after[0].on_hold), (1, false));
    let study = |stored: &StoredOrder| stored.order.imaging.as_ref().unwrap().procedures[0].study_instance_uid.clone();
    assert_eq!(study(&after[0]), study(&before), "a modality may have the study already");
    bench.order("4", vec![hold("A1"), take_back("A1", OrderStatus::Cancelled)]);
    assert_eq!(bench.order("5", vec![hold("A1")]).outcomes, [OrderOutcome::TooLate]);
    assert!(listed(&bench).is_empty());
}

#[test]
fn i5_ids_that_the_ehr_leaves_out_are_others_in_another_journal() {
    let ids = || {
        let mut bench = Bench::new();
        let procedure = RequestedProcedure { steps: vec![ScheduledStep::default(); 2], ..Default::default() };
        let imaging = ImagingOrder { procedures: vec![procedure], ..ImagingOrder::default() };
        let order = WorkOrder { imaging: Some(imaging), ..order("A1", "", "P1", &["ECHO"]) };
        bench.order("1", vec![OrderChange::New(Box::new(order))]);
        let mut found = Vec::new();
        let reader = bench.restart().journal.reader().unwrap();
        reader.for_each_imaging_order(|stored| found.push(stored.order.imaging.unwrap())).unwrap();
        let procedure = &found[0].procedures[0];
        [&procedure.id, &procedure.steps[0].id, &procedure.steps[1].id].map(Clone::clone)
    };
    let (here, elsewhere) = (ids(), ids());
    for (ours, theirs) in here.iter().zip(&elsewhere) {
        assert!(ours.len() <= 16 && ours[..3] == theirs[..3] && ours != theirs, "{ours} {theirs}: the same row");
    }
    assert_eq!(here[2], format!("{}.1", here[1]));
}
