//! What a person may change in the journal. Each item stands alone: one that cannot be done does not stop the others.

use super::custody::{DAMAGED, INTERPRETED, WAITING};
use super::desk::Desk;
use super::error::JournalError;
use super::filing::{self, DISCARDED, HELD, RELEASED};
use super::types::{EntryId, HoldId, OutboxId, WorkOrderId};
use super::{orders, outbox, standing, studies};
use serde::{Deserialize, Serialize};

/// Most items of one action.
pub const ITEMS_MAX: usize = 10_000;
/// Longest note kept, in characters.
const NOTE_CHARS: usize = 200;

/// A person's order. Notes are stored and shown unsealed: they must not hold patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperatorAction {
    /// Send these held results on. The interpreter files them.
    Release {
        /// Which.
        holds: Vec<HoldId>,
        /// Why, for the record.
        note: String,
    },
    /// Send these parked messages again, byte for byte.
    Requeue {
        /// Which.
        outbox: Vec<OutboxId>,
    },
    /// Interpret these entries again, with the drivers and rules of now.
    Replay {
        /// Which.
        entries: Vec<EntryId>,
    },
    /// Never send these.
    Discard {
        /// Held results.
        holds: Vec<HoldId>,
        /// Parked messages.
        outbox: Vec<OutboxId>,
        /// Images that are safe here alone, as their modality was told: they need not be kept for it any more.
        #[serde(default)]
        images: Vec<EntryId>,
        /// Why, for the record.
        reason: String,
    },
    /// Take these orders back: instruments that have them are told, and results do not find them any more.
    CancelOrders {
        /// Which.
        orders: Vec<WorkOrderId>,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operated {
    /// Items changed.
    pub done: usize,
    /// Items left as they were: number and why.
    pub skipped: Vec<(i64, String)>,
}

impl Operated {
    /// A storage error ends the whole action; anything else only skips the item.
    fn note(&mut self, id: i64, outcome: Result<(), JournalError>) -> Result<(), JournalError> {
        match outcome {
            Ok(()) => self.done += 1,
            Err(error @ (JournalError::NotFound(_) | JournalError::Refused(_))) => {
                self.skipped.push((id, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Carries an order out in the open transaction.
pub(super) fn operate(desk: &mut Desk<'_>, action: &OperatorAction) -> Result<Operated, JournalError> {
    let mut operated = Operated::default();
    match action {
        OperatorAction::Release { holds, note } => {
            bounded(holds.len())?;
            for hold in holds {
                let changed = desk
                    .conn
                    .prepare_cached("UPDATE hold SET state = ?2, note = ?3, rematch = 0 WHERE id = ?1 AND state = ?4")?
                    .execute((hold, RELEASED, short(note), HELD))?;
                operated.note(hold.0, found(changed, "held result"))?;
            }
            desk.memory.wake_interpreter();
        }
        OperatorAction::Requeue { outbox } => {
            bounded(outbox.len())?;
            for id in outbox {
                let outcome = outbox::requeue(desk, *id);
                operated.note(id.0, outcome)?;
            }
        }
        OperatorAction::Replay { entries } => {
            bounded(entries.len())?;
            for entry in entries {
                let waiting = desk.memory.take_waiting();
                let changed = desk
                    .conn
                    .prepare_cached(
                        "UPDATE entry SET state = ?2, waiting = ?3, replays = replays + 1 WHERE id = ?1 AND state IN (?4, ?5)",
                    )?
                    .execute((entry, WAITING, waiting, INTERPRETED, DAMAGED))?;
                operated.note(entry.0, found(changed, "interpreted entry"))?;
            }
            desk.memory.wake_interpreter();
        }
        OperatorAction::Discard { holds, outbox, images, reason } => {
            bounded(holds.len() + outbox.len() + images.len())?;
            for hold in holds {
                let closed = filing::close_holds(desk, &[*hold], DISCARDED, &short(reason))?;
                studies::reopen_of(desk, *hold)?;
                operated.note(hold.0, found(closed, "held result"))?;
            }
            for id in outbox {
                let outcome = outbox::discard(desk, *id, &short(reason));
                operated.note(id.0, outcome)?;
            }
            for image in images {
                let outcome = standing::let_go(desk, *image, &short(reason));
                operated.note(image.0, outcome)?;
            }
        }
        OperatorAction::CancelOrders { orders } => {
            bounded(orders.len())?;
            for order in orders {
                let outcome = orders::cancel(desk, *order);
                operated.note(order.0, outcome)?;
            }
        }
    }
    Ok(operated)
}

fn bounded(items: usize) -> Result<(), JournalError> {
    match items <= ITEMS_MAX {
        true => Ok(()),
        false => Err(JournalError::Refused("too many items at once")),
    }
}

fn found(changed: usize, what: &'static str) -> Result<(), JournalError> {
    if changed == 0 { Err(JournalError::NotFound(what)) } else { Ok(()) }
}

fn short(note: &str) -> String {
    note.chars().take(NOTE_CHARS).collect()
}
