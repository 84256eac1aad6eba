//! What becomes of a request, by what is known of its order.
//!
//! FHIR says what is so now, not what is to be done. So what counts is where the order stands, and not whether the very
//! same bytes came before: a request that is what its order says is nothing new, however it is written, and one whose
//! order is open and says something else changes it.

use super::known::Known;
use super::page::{Asked, digest_of};
use crate::clinical::{OrderNumber, OrderStatus, Phi, WorkOrder};
use crate::journal::{EntryId, JournalError, OrderChange, Reader, StoredOrder, WorkOrderId};
use crate::orders::read::service_request::RequestFault;

/// Two orders under one number: nobody could change or take back one of them.
const OTHERS_NUMBER: &str = "a ServiceRequest has the number of another one that is open";

/// What becomes of a request.
pub struct Decided {
    /// In order.
    pub changes: Vec<OrderChange>,
    /// Why it changes nothing.
    pub refused: Option<&'static str>,
    /// The order this is about: what came before it may come again, and mean something else.
    about: Option<WorkOrderId>,
    /// Under what it is kept that the EHR takes that order back.
    ends: Option<[u8; 32]>,
    /// True when that order is its own, and open.
    is_own: bool,
    /// True when it may become an order later, as it is.
    pub waits: bool,
}

impl Decided {
    /// About a request that was read. `None` when it says nothing new. Only this task brings orders under its name, so
    /// nothing comes in between. Blocks on the database.
    pub fn about(
        read: Result<OrderChange, RequestFault>,
        asked: &Asked,
        reader: &Reader,
        source: &str,
    ) -> Result<Option<Decided>, JournalError> {
        let change = match read {
            Ok(change) => change,
            Err(fault) => return Ok(Some(Decided::refused(fault.text()))),
        };
        let Some(number) = number(&change) else { return Ok(Some(Decided::change(change))) };
        let mut known = reader.work_orders_numbered(&number.id)?;
        known.retain(|stored| stored.source == source && stored.order.goes_by(number));
        let mut own = None;
        for stored in known.iter().filter(|stored| stored.status.is_open()) {
            match Known::of(reader, stored) {
                Ok(Some(before)) if before.asked.id == asked.id => own = Some((stored, before)),
                Ok(_) | Err(JournalError::Damaged | JournalError::NotFound(_)) => {
                    let waits = matches!(change, OrderChange::New(_));
                    return Ok(Some(Decided { about: Some(stored.id), waits, ..Decided::refused(OTHERS_NUMBER) }));
                }
                Err(error) => return Err(error),
            }
        }
        let Some((stored, before)) = own else {
            let was_gone = was_gone(&known, reader, source)?;
            return Ok(match change {
                OrderChange::Hold { .. } => Some(Decided::refused(RequestFault::OrdersNothing.text())),
                // A person took it back, or it is done.
                OrderChange::New(_) if was_gone.is_none() && is_that_of_the_last(asked, &known, reader)? => None,
                change => Some(Decided { about: was_gone, ..Decided::change(change) }),
            });
        };
        let ends = matches!(change, OrderChange::TakeBack { .. }).then(|| before.gone_identity());
        let changes = match change {
            OrderChange::New(order) => {
                if !stored.on_hold && asked.says_the_same(&before.asked) && asked.has_the_same_patient(&before.asked) {
                    return Ok(None);
                }
                match asked.subject == before.asked.subject || is_for_the_same(stored, &order) {
                    true => vec![OrderChange::Change(order)],
                    // What a modality may have begun for one patient is never the other's.
                    false => vec![taken_back(order.number().clone()), OrderChange::New(order)],
                }
            }
            OrderChange::Hold { .. } if stored.on_hold => return Ok(None),
            other => vec![other],
        };
        Ok(Some(Decided { changes, refused: None, about: Some(stored.id), ends, is_own: true, waits: false }))
    }

    /// The order under this number is taken back.
    pub fn taken_back(number: OrderNumber) -> Decided {
        Decided::change(taken_back(number))
    }

    /// The same, with the order under this number taken back first: the request that brought it speaks of another now.
    pub fn instead_of(mut self, number: OrderNumber) -> Decided {
        if !self.is_own {
            self.changes.insert(0, taken_back(number));
            self.refused = None;
        }
        self
    }

    /// Under what a message with these bytes is kept once.
    pub fn identity(&self, bytes: &[u8]) -> [u8; 32] {
        match (self.ends, self.about) {
            (Some(identity), _) => identity,
            // What was refused because of an order may be taken after it.
            (None, Some(order)) => {
                let about = format!("{} {} ", order.0, self.refused.unwrap_or_default());
                digest_of(&[about.as_bytes(), bytes].concat())
            }
            (None, None) => digest_of(bytes),
        }
    }

    fn change(change: OrderChange) -> Decided {
        Decided { changes: vec![change], refused: None, about: None, ends: None, is_own: false, waits: false }
    }

    fn refused(reason: &'static str) -> Decided {
        Decided { changes: Vec::new(), refused: Some(reason), about: None, ends: None, is_own: false, waits: false }
    }
}

/// Under what it is kept that the EHR takes back the order that this message brought, or does not show its request.
pub fn gone_identity(before: EntryId) -> [u8; 32] {
    digest_of(format!("gone {}", before.0).as_bytes())
}

/// The order that the EHR took back, or did not show: when it is shown again it is ordered again.
fn was_gone(known: &[StoredOrder], reader: &Reader, source: &str) -> Result<Option<WorkOrderId>, JournalError> {
    let Some(last) = known.last().filter(|last| last.status == OrderStatus::Cancelled) else { return Ok(None) };
    Ok(reader.has_message(source, &gone_identity(last.entry))?.then_some(last.id))
}

/// True when the last order came from this request, as it is.
fn is_that_of_the_last(asked: &Asked, known: &[StoredOrder], reader: &Reader) -> Result<bool, JournalError> {
    let Some(last) = known.last() else { return Ok(false) };
    match Known::of(reader, last) {
        Ok(before) => Ok(before.is_some_and(|before| {
            let is_same = asked.id == before.asked.id && asked.says_the_same(&before.asked);
            is_same && asked.has_the_same_patient(&before.asked)
        })),
        Err(JournalError::Damaged | JournalError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_for_the_same(stored: &StoredOrder, order: &WorkOrder) -> bool {
    let (was, is) = (&stored.order.patient.patient, &order.patient.patient);
    stored.ordered_for == is.id && was.may_share_authority_with(is)
}

fn taken_back(number: OrderNumber) -> OrderChange {
    OrderChange::TakeBack { number, specimen: Phi::default(), becomes: OrderStatus::Cancelled }
}

fn number(change: &OrderChange) -> Option<&OrderNumber> {
    match change {
        OrderChange::New(order) | OrderChange::Change(order) => Some(order.number()),
        OrderChange::TakeBack { number, .. } | OrderChange::Status { number, .. } | OrderChange::Hold { number } => {
            Some(number)
        }
        OrderChange::Patient(_) | OrderChange::Merge { .. } => None,
    }
}
