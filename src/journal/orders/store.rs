//! Writing orders, inside the open transaction.

use super::super::custody::{self, NewPart};
use super::super::desk::Desk;
use super::super::error::JournalError;
use super::super::filing::{self, HELD, RELEASED};
use super::super::seal::Place;
use super::super::types::{EntryId, Lookup, ReportId, WorkOrderId};
use super::find::{self, By};
use super::{LinkMark, OrderChange, OrderOutcome, StoredOrder, StoredOrders, patients, perform};
use crate::clinical::imaging::StudyDoubt;
use crate::clinical::{Doubt, ImagingOrder, OrderNumber, OrderStatus, Phi, WorkOrder};
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;

/// `work_order_link.state`.
const DUE: i64 = 0;
const SENT: i64 = 1;
const CANCELLATION_DUE: i64 = 2;
const NOTHING_TO_DO: i64 = 3;

/// Name that stands for a driver in entries that bring orders.
const READER: &str = "orders";

/// Keeps a message, carries its changes out and keeps what became of them.
pub(in super::super) fn store(
    desk: &mut Desk<'_>,
    part: &NewPart,
    changes: &[OrderChange],
    refused: Option<&'static str>,
    links: &[String],
) -> Result<StoredOrders, JournalError> {
    let kept = custody::persist(desk, part)?;
    let entry = kept.entry;
    let received_ms =
        desk.conn.prepare_cached("SELECT received_ms FROM entry WHERE id = ?1")?.query_row([entry], |r| r.get(0))?;
    let mut stored = StoredOrders { outcomes: Vec::new(), entry: EntryId(entry), received_ms, is_new: kept.is_new };
    if !kept.is_new {
        let outcomes: Option<String> = desk
            .conn
            .prepare_cached("SELECT outcomes FROM answer WHERE entry = ?1")?
            .query_row([entry], |r| r.get(0))
            .optional()?;
        let outcomes = outcomes.and_then(|json| serde_json::from_str(&json).ok());
        stored.outcomes = outcomes.ok_or(JournalError::Damaged)?;
        return Ok(stored);
    }
    let source = &*part.session.link;
    for change in changes {
        stored.outcomes.push(carry_out(desk, entry, source, change, links)?);
    }
    custody::settle(desk, entry, READER, refused)?;
    let outcomes = serde_json::to_string(&stored.outcomes).map_err(|_| JournalError::Damaged)?;
    desk.conn.prepare_cached("INSERT INTO answer(entry, outcomes) VALUES (?1, ?2)")?.execute((entry, outcomes))?;
    Ok(stored)
}

/// Results went out for an order. One that was taken back meanwhile stays so.
pub(in super::super) fn answer(
    desk: &mut Desk<'_>,
    order: WorkOrderId,
    status: OrderStatus,
) -> Result<(), JournalError> {
    desk.conn
        .prepare_cached(
            "UPDATE work_order SET status = max(status, ?2), changed_ms = ?3 WHERE id = ?1 AND status <= ?4",
        )?
        .execute((order, number(status), desk.now_ms, number(OrderStatus::Done)))?;
    desk.memory.order_changed(order);
    match find::by_id(desk.conn, desk.seal, order) {
        Ok(stored) => patients::keep_from_now(desk, &stored.ordered_for),
        // It went meanwhile, or nobody can be told of it.
        Err(JournalError::NotFound(_) | JournalError::Damaged) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Notes what a link did about an order.
pub(in super::super) fn mark(
    desk: &mut Desk<'_>,
    id: WorkOrderId,
    link: &str,
    mark: LinkMark,
) -> Result<(), JournalError> {
    let status: i64 = desk
        .conn
        .prepare_cached("SELECT status FROM work_order WHERE id = ?1")?
        .query_row([id], |r| r.get(0))
        .optional()?
        .ok_or(JournalError::NotFound("order"))?;
    let state = match mark {
        // It was taken back while the instrument was being told.
        LinkMark::Sent if status >= number(OrderStatus::Cancelled) => CANCELLATION_DUE,
        LinkMark::Sent => SENT,
        LinkMark::CancellationSent | LinkMark::NotForThis => NOTHING_TO_DO,
    };
    desk.conn
        .prepare_cached("INSERT OR REPLACE INTO work_order_link(work_order, link, state) VALUES (?1, ?2, ?3)")?
        .execute((id, link, state))?;
    if mark == LinkMark::Sent {
        answer(desk, id, OrderStatus::InProgress)?;
    }
    Ok(())
}

/// A person takes an order back.
pub(in super::super) fn cancel(desk: &mut Desk<'_>, id: WorkOrderId) -> Result<(), JournalError> {
    let order = find::by_id(desk.conn, desk.seal, id)?;
    match order.status.is_open() {
        true => take_back(desk, &order, OrderStatus::Cancelled),
        false => Err(JournalError::Refused("the order is not open any more")),
    }
}

fn carry_out(
    desk: &mut Desk<'_>,
    entry: i64,
    source: &str,
    change: &OrderChange,
    links: &[String],
) -> Result<OrderOutcome, JournalError> {
    match change {
        OrderChange::New(order) => place(desk, entry, source, order, links),
        OrderChange::Change(order) => {
            let before = known(desk, source, order.number(), &Phi::default())?;
            let outcome = take_all_back(desk, &before, OrderStatus::Replaced)?;
            if outcome == OrderOutcome::Accepted {
                let replaced = before.last();
                let imaging = replaced.and_then(|before| before.order.imaging.as_ref());
                let id = insert(desk, entry, source, order, imaging, links)?;
                if let Some(replaced) = replaced {
                    perform::carry_over(desk, replaced, id)?;
                }
            }
            Ok(outcome)
        }
        OrderChange::TakeBack { number, specimen, becomes } => {
            let before = known(desk, source, number, specimen)?;
            take_all_back(desk, &before, *becomes)
        }
        OrderChange::Status { number, becomes } => {
            let before = known(desk, source, number, &Phi::default())?;
            tell_status(desk, &before, *becomes)
        }
        OrderChange::Hold { number } => {
            let before = known(desk, source, number, &Phi::default())?;
            hold(desk, &before)
        }
        OrderChange::Patient(patient) => {
            patients::learn(desk, entry, patient)?;
            Ok(OrderOutcome::Accepted)
        }
        OrderChange::Merge { gone, surviving } => {
            patients::merge(desk, entry, gone, surviving)?;
            for id in [gone, &surviving.patient.id] {
                filing::index(desk, Lookup::Patient, id.expose().as_bytes(), entry)?;
                match_again(desk, Lookup::Patient, id)?;
            }
            Ok(OrderOutcome::Accepted)
        }
    }
}

/// A new order. The same order again is no second one; another one under the same number and specimen is refused.
fn place(
    desk: &mut Desk<'_>,
    entry: i64,
    source: &str,
    order: &WorkOrder,
    links: &[String],
) -> Result<OrderOutcome, JournalError> {
    let before = known(desk, source, order.number(), &Phi::default())?;
    let valid = || before.iter().filter(|b| b.status.is_valid());
    if valid().any(|b| b.order.patient.patient.id != order.patient.patient.id) {
        return Ok(OrderOutcome::Duplicate);
    }
    match valid().find(|b| b.order.specimen.id == order.specimen.id) {
        Some(same) if same.order.tests == order.tests && says_the_same(&same.order, order) => {
            return Ok(OrderOutcome::Accepted);
        }
        Some(_) => return Ok(OrderOutcome::Duplicate),
        None => {}
    }
    insert(desk, entry, source, order, None, links)?;
    Ok(OrderOutcome::Accepted)
}

/// True when the imaging part of an order that came again asks for nothing that is not known: what it leaves out the
/// box gave it.
fn says_the_same(known: &WorkOrder, again: &WorkOrder) -> bool {
    let (Some(known), Some(again)) = (&known.imaging, &again.imaging) else {
        return known.imaging.is_none() && again.imaging.is_none();
    };
    let mut again = again.clone();
    again.complete(Some(known), (0, ""), String::new);
    again == *known
}

fn insert(
    desk: &mut Desk<'_>,
    entry: i64,
    source: &str,
    order: &WorkOrder,
    replaced: Option<&ImagingOrder>,
    links: &[String],
) -> Result<WorkOrderId, JournalError> {
    desk.conn
        .prepare_cached(
            "INSERT INTO work_order(entry, source, status, placed_ms, changed_ms, imaging) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
        )?
        .execute((entry, source, number(OrderStatus::Requested), desk.now_ms, order.imaging.is_some()))?;
    let id = desk.conn.last_insert_rowid();
    desk.memory.order_changed(WorkOrderId(id));
    let mut order = order.clone();
    if let Some(imaging) = &mut order.imaging {
        let mut made = Vec::new();
        for _ in &imaging.procedures {
            made.push(desk.seal.make_uid()?);
        }
        let mut made = made.into_iter();
        // Rows are counted anew in a new journal, and modalities and the EHR may know an id of the one before.
        imaging.complete(replaced, (id, &desk.seal.mark()), || made.next().unwrap_or_default());
    }
    // Instruments do not do imaging; modalities ask for their worklist.
    let links = if order.imaging.is_some() { &[] } else { links };
    let order = &order;
    let json = serde_json::to_vec(order).map_err(|_| JournalError::Damaged)?;
    let json = desk.seal.seal(Place::WorkOrder, id, &json)?;
    desk.conn.prepare_cached("UPDATE work_order SET json = ?2 WHERE id = ?1")?.execute((id, json))?;
    let numbers = [&order.placer_order_number, &order.filler_order_number];
    let numbers = numbers.into_iter().map(|n| &n.id).filter(|id| !id.is_empty());
    let studies = order.imaging.iter().flat_map(|imaging| &imaging.procedures);
    let studies: Vec<Phi> = studies.map(|procedure| Phi::new(procedure.study_instance_uid.as_str())).collect();
    let accession = order.imaging.iter().map(|imaging| &imaging.accession_number).filter(|id| !id.is_empty());
    for (by, kind, name) in numbers
        .map(|id| (By::Number, Lookup::Order, id))
        .chain(studies.iter().map(|uid| (By::Study, Lookup::Study, uid)))
        .chain(accession.map(|id| (By::Accession, Lookup::Accession, id)))
        .chain(order.specimen_ids().map(|id| (By::Specimen, Lookup::Specimen, id)))
    {
        desk.conn
            .prepare_cached("INSERT OR IGNORE INTO work_order_lookup(hash, work_order) VALUES (?1, ?2)")?
            .execute((by.hash(desk.seal, name), id))?;
        filing::index(desk, kind, name.expose().as_bytes(), entry)?;
        match_again(desk, kind, name)?;
    }
    filing::index(desk, Lookup::Patient, order.patient.patient.id.expose().as_bytes(), entry)?;
    patients::learn(desk, entry, &order.patient)?;
    patients::keep_from_now(desk, &order.patient.patient.id)?;
    for link in links {
        desk.conn
            .prepare_cached("INSERT INTO work_order_link(work_order, link, state) VALUES (?1, ?2, ?3)")?
            .execute((id, link, DUE))?;
        desk.memory.wake_destination(&super::super::orders_signal(link));
    }
    Ok(WorkOrderId(id))
}

/// Orders of this source under this number; of one specimen when it is given.
fn known(
    desk: &Desk<'_>,
    source: &str,
    number: &OrderNumber,
    specimen: &Phi,
) -> Result<Vec<StoredOrder>, JournalError> {
    let mut found = find::by(desk.conn, desk.seal, By::Number, &number.id)?;
    found.retain(|stored| {
        stored.source == source
            && stored.order.goes_by(number)
            && (specimen.is_empty() || stored.order.specimen_ids().any(|id| id == specimen))
    });
    Ok(found)
}

/// Takes back what is open. What was taken back before needs nothing: the EHR asks again. What is done stays done.
fn take_all_back(
    desk: &mut Desk<'_>,
    orders: &[StoredOrder],
    becomes: OrderStatus,
) -> Result<OrderOutcome, JournalError> {
    for order in open(orders) {
        take_back(desk, order, becomes)?;
    }
    Ok(match orders.last() {
        Some(last) if last.status == becomes => OrderOutcome::Accepted,
        _ => outcome_for_open(orders),
    })
}

/// Lets what is open rest. What it is at stays as it is: a modality that has begun tells of it all the same.
fn hold(desk: &mut Desk<'_>, orders: &[StoredOrder]) -> Result<OrderOutcome, JournalError> {
    for order in open(orders).filter(|order| !order.on_hold) {
        desk.conn
            .prepare_cached("UPDATE work_order SET on_hold = 1, changed_ms = ?2 WHERE id = ?1")?
            .execute((order.id, desk.now_ms))?;
        patients::keep_from_now(desk, &order.ordered_for)?;
        desk.memory.order_changed(order.id);
    }
    Ok(outcome_for_open(orders))
}

fn open(orders: &[StoredOrder]) -> impl Iterator<Item = &StoredOrder> {
    orders.iter().filter(|order| order.status.is_open())
}

/// What comes of a change that open orders take.
fn outcome_for_open(orders: &[StoredOrder]) -> OrderOutcome {
    match open(orders).next() {
        Some(_) => OrderOutcome::Accepted,
        None if orders.is_empty() => OrderOutcome::Unknown,
        None => OrderOutcome::TooLate,
    }
}

/// Notes what the EHR says of an order's standing. One that is taken back or done stays so.
fn tell_status(
    desk: &mut Desk<'_>,
    orders: &[StoredOrder],
    becomes: OrderStatus,
) -> Result<OrderOutcome, JournalError> {
    match becomes {
        OrderStatus::Cancelled | OrderStatus::Replaced => return take_all_back(desk, orders, becomes),
        OrderStatus::InProgress | OrderStatus::Done => {
            for order in orders {
                answer(desk, order.id, becomes)?;
            }
        }
        OrderStatus::Requested => {}
    }
    Ok(if orders.is_empty() { OrderOutcome::Unknown } else { OrderOutcome::Accepted })
}

fn take_back(desk: &mut Desk<'_>, stored: &StoredOrder, becomes: OrderStatus) -> Result<(), JournalError> {
    desk.conn.prepare_cached("UPDATE work_order SET status = ?2, changed_ms = ?3 WHERE id = ?1")?.execute((
        stored.id,
        number(becomes),
        desk.now_ms,
    ))?;
    patients::keep_from_now(desk, &stored.ordered_for)?;
    desk.memory.order_changed(stored.id);
    let links: Vec<String> = desk
        .conn
        .prepare_cached("SELECT link FROM work_order_link WHERE work_order = ?1")?
        .query_map([stored.id], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    for link in links {
        desk.conn
            .prepare_cached(
                "UPDATE work_order_link SET state = iif(state = ?3, ?4, ?5) WHERE work_order = ?1 AND link = ?2",
            )?
            .execute((stored.id, &link, SENT, CANCELLATION_DUE, NOTHING_TO_DO))?;
        desk.memory.wake_destination(&super::super::orders_signal(&link));
    }
    for id in stored.order.specimen_ids() {
        match_again(desk, Lookup::Specimen, id)?;
    }
    if let Some(imaging) = &stored.order.imaging {
        match_again(desk, Lookup::Accession, &imaging.accession_number)?;
        for procedure in &imaging.procedures {
            match_again(desk, Lookup::Study, &Phi::new(procedure.study_instance_uid.as_str()))?;
        }
    }
    Ok(())
}

/// Results that are held for want of an order are decided about again: what the EHR just said may be what they wait for.
fn match_again(desk: &mut Desk<'_>, kind: Lookup, id: &Phi) -> Result<(), JournalError> {
    if id.is_empty() {
        return Ok(());
    }
    let hash = desk.seal.hash(kind.domain(), &[id.expose().as_bytes()]);
    let which = "report IN (SELECT r.id FROM lookup l JOIN report r ON r.entry = l.entry WHERE l.hash = ?3)";
    decide_again(desk, which, hash)
}

/// An order may have come between the decision to hold a report's results for want of one and its filing: then they are
/// decided about again.
pub(in super::super) fn match_overtaken(desk: &mut Desk<'_>, report: ReportId, as_of: i64) -> Result<(), JournalError> {
    if find::as_of(desk.conn)? <= as_of {
        return Ok(());
    }
    decide_again(desk, "report = ?3", report.0)
}

/// Releases, for one more decision, what is held for a reason that orders settle.
fn decide_again(desk: &mut Desk<'_>, which: &str, parameter: i64) -> Result<(), JournalError> {
    let reasons = [Doubt::NoOrder, Doubt::OrderMismatch].map(Doubt::name);
    let reasons: BTreeSet<&str> = reasons.into_iter().chain(StudyDoubt::OF_ORDERS.map(StudyDoubt::name)).collect();
    let reasons = reasons.into_iter().map(|reason| format!("'{reason}'")).collect::<Vec<_>>().join(", ");
    let released = desk
        .conn
        .prepare_cached(&format!(
            "UPDATE hold SET state = ?1, rematch = 1, note = 'an order came'
             WHERE state = ?2 AND reason IN ({reasons}) AND {which}"
        ))?
        .execute((RELEASED, HELD, parameter))?;
    if released > 0 {
        desk.memory.wake_interpreter();
    }
    Ok(())
}

/// The number a status is stored under.
pub(super) fn number(status: OrderStatus) -> i64 {
    OrderStatus::ALL.iter().position(|s| *s == status).map_or(0, |at| at as i64)
}
