//! Orders from the EHR: kept with the message that brought them, found again by specimen and by number.
//!
//! A message, what it changed and how it is to be answered are one commit, before it is acknowledged (invariant I1);
//! the same message again changes nothing and is answered the same (invariant I4). Orders and patients are sealed like
//! reports; they are found through keyed hashes and compared once they are open, so a collision finds nothing wrong.
//!
//! | order | changes to | by |
//! |---|---|---|
//! | requested | in progress | a link has it, a preliminary result went out, a modality began a step of it |
//! | requested, in progress | done | its results went out, or modalities completed all its steps |
//! | requested, in progress | cancelled, replaced | the EHR, or a person (cancelled) |
//!
//! An order for imaging that the EHR puts on hold stays where it stands and is off the worklist until the EHR sends it
//! again.
//!
//! Each link an order is for has a task of its own: first to be told of it, and, when it was told and the order is then
//! taken back, to be told that.
//!
//! Orders and patients go `orders_days` after their last change, open orders not before as many days after their
//! appointment, and their patients with them. The raw message stays as long as anything made from it
//! is kept: a data key is dropped when no entry is left that could have used it.

mod find;
mod patients;
mod perform;
mod store;
mod sweep;

pub(super) use perform::perform;
pub(super) use store::{answer, cancel, mark, match_overtaken, store};
pub(super) use sweep::{are_due, sweep};

use super::types::WorkOrderId;
use crate::clinical::{OrderNumber, OrderStatus, OrderedPatient, Phi, WorkOrder};
use serde::{Deserialize, Serialize};

/// Most orders one look-up hands out, the newest: a specimen with more is not matched by guesswork.
pub const ORDERS_FOUND_MAX: usize = 200;

/// One change an EHR message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderChange {
    /// A new order (ORC-1 NW, RO).
    New(Box<WorkOrder>),
    /// The order under this number changes to this one (ORC-1 XO).
    Change(Box<WorkOrder>),
    /// The order is taken back (ORC-1 CA, DC, OC) or makes room for others that follow (RP).
    TakeBack {
        /// The placer's number, else the filler's.
        number: OrderNumber,
        /// The specimen, when the message names it: one number may stand on several.
        specimen: Phi,
        /// [`OrderStatus::Cancelled`] or [`OrderStatus::Replaced`].
        becomes: OrderStatus,
    },
    /// The EHR tells where the order under this number stands (ORC-1 SC).
    Status {
        /// The placer's number, else the filler's.
        number: OrderNumber,
        /// Where it stands; [`OrderStatus::Requested`] says nothing new.
        becomes: OrderStatus,
    },
    /// The order under this number is for imaging and rests: modalities are not told of it until a [`OrderChange::Change`]
    /// brings it back (FHIR R4 request status `on-hold`).
    Hold {
        /// The placer's number, else the filler's.
        number: OrderNumber,
    },
    /// What is known of a patient (ADT^A01, A04, A08).
    Patient(Box<OrderedPatient>),
    /// Two patient ids turned out to be one person (ADT^A40).
    Merge {
        /// The id that goes (MRG-1).
        gone: Phi,
        /// The patient that stays (PID).
        surviving: Box<OrderedPatient>,
    },
}

/// What became of a change. Stored with the message, so that it is answered the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderOutcome {
    /// Done as asked. Also for an order that was there already, the same.
    Accepted,
    /// There is no such order.
    Unknown,
    /// Another order has this number.
    Duplicate,
    /// The order is done already.
    TooLate,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrders {
    /// One for each change, in order.
    pub outcomes: Vec<OrderOutcome>,
    /// Its entry.
    pub entry: super::EntryId,
    /// When it came the first time, Unix milliseconds.
    pub received_ms: i64,
    /// False when the very same message had come before.
    pub is_new: bool,
}

/// An order as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its number here.
    pub id: WorkOrderId,
    /// The EHR connection it came in on.
    pub source: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// True while it rests: modalities are not told of it.
    pub on_hold: bool,
    /// The message that brought it.
    pub entry: super::EntryId,
    /// When it came, Unix milliseconds.
    pub placed_ms: i64,
    /// When it changed last, Unix milliseconds.
    pub changed_ms: i64,
    /// The patient id it came with.
    pub ordered_for: Phi,
    /// The order, for the patient as the EHR last described them: merged ids are followed, corrections applied.
    pub order: WorkOrder,
}

/// What a link is to tell its instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTask {
    /// About which order.
    pub order: StoredOrder,
    /// False: measure it. True: it was sent, and then taken back.
    pub is_cancellation: bool,
}

/// What a link did about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMark {
    /// The instrument has the order: it is in progress from now on. Also when it asked for it by itself.
    Sent,
    /// The instrument was told that the order was taken back, or cannot be told.
    CancellationSent,
    /// The instrument does not do these tests.
    NotForThis,
}

/// Where an order stands on one link; the place in [`LinkState::ALL`] is the number under which it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Nobody there has it yet.
    Due,
    /// The instrument has it.
    Told,
    /// The instrument has it and is to be told that it was taken back.
    CancellationDue,
    /// It needs nothing more there: the instrument does not do it, or it was taken back.
    NothingToDo,
}

impl LinkState {
    /// All of them, by number.
    pub const ALL: [LinkState; 4] =
        [LinkState::Due, LinkState::Told, LinkState::CancellationDue, LinkState::NothingToDo];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            LinkState::Due => "not told yet",
            LinkState::Told => "the instrument has it",
            LinkState::CancellationDue => "the instrument has it, and is to be told that it was taken back",
            LinkState::NothingToDo => "nothing to do",
        }
    }
}
