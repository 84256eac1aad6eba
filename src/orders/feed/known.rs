//! What the server was asked for before: the orders that are open here, and what the server says of them now.
//!
//! A search tells what there is, not what is gone. So the open orders are read at the server one by one, some in each
//! round and over and over: that needs nothing of the server but the plain read every one has.

use super::decided::gone_identity;
use super::page::{Asked, Page};
use super::wanted::Wanted;
use crate::clinical::OrderNumber;
use crate::journal::{EntryId, JournalError, Reader, StoredOrder, WorkOrderId};
use crate::orders::read::service_request;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Open orders looked at in one round; the setting `query` tells people of it.
const LOOKS: usize = 50;
/// No open order is looked at more often.
const LAP_MIN: Duration = Duration::from_secs(300);

/// Which open order is looked at next.
#[derive(Clone, Default)]
pub struct Laps {
    /// The last one that was looked at in this lap.
    after: Option<WorkOrderId>,
    /// When this lap began.
    pub(super) began: Option<Instant>,
    /// Those that were not found when they were looked at last.
    missed: Vec<WorkOrderId>,
    /// Where the server showed a request last: while it does, this is the server that had the others.
    pub witness: Option<String>,
}

/// An open order, and the request that made it.
pub struct Known {
    /// The number it is known by here.
    pub number: OrderNumber,
    /// The request as it came.
    pub asked: Asked,
    /// Where it is at the server.
    pub address: String,
    entry: EntryId,
    on_hold: bool,
}

impl Laps {
    /// The orders of this source to look at in a round, each with whether it was missed before. Blocks on the database.
    pub fn next(
        &mut self,
        reader: &Reader,
        source: &str,
        now: Instant,
    ) -> Result<Vec<(WorkOrderId, bool)>, JournalError> {
        let mut next: Vec<_> = self.missed.drain(..).map(|id| (id, true)).collect();
        let begins = self.after.is_none();
        if begins && self.began.is_some_and(|began| now.duration_since(began) < LAP_MIN) {
            return Ok(next);
        }
        if begins {
            self.began = Some(now);
        }
        let found = reader.open_work_orders_from(source, self.after, LOOKS)?;
        self.after = match found.last() {
            Some(last) if found.len() == LOOKS => Some(*last),
            _ => None,
        };
        let again: Vec<_> = next.iter().map(|(id, _)| *id).collect();
        next.extend(found.into_iter().filter(|id| !again.contains(id)).map(|id| (id, false)));
        Ok(next)
    }

    /// The server has no such request: it is looked at once more in the next round.
    pub fn missed(&mut self, id: WorkOrderId) {
        self.missed.push(id);
    }
}

/// What the server shows of a request.
pub enum Shown {
    /// What it said before.
    Same,
    /// Something else.
    Changed(Box<Changed>),
}

/// What the server says now of a request, other than it said.
pub struct Changed {
    /// The request as it is now.
    pub asked: Asked,
    /// True when it is what is asked for.
    pub is_wanted: bool,
    /// The number of the order it made, when it does not speak of that order any more.
    pub gone: Option<OrderNumber>,
    /// The message that brought that order.
    pub before: EntryId,
}

impl Known {
    /// The open order under this number; `None` when it is not open any more, or its request has no id. Blocks on the
    /// database.
    pub fn read(reader: &Reader, id: WorkOrderId) -> Result<Option<Known>, JournalError> {
        let stored = reader.work_order(id)?;
        if stored.status.is_open() { Known::of(reader, &stored) } else { Ok(None) }
    }

    /// The same of an order, wherever it stands.
    pub fn of(reader: &Reader, stored: &StoredOrder) -> Result<Option<Known>, JournalError> {
        let page = Page::read(&reader.raw(stored.entry)?);
        let known = page.and_then(|mut page| page.requests.pop()).and_then(|asked| {
            let (address, number) = (asked.address()?, stored.order.number().clone());
            Some(Known { number, address, asked, entry: stored.entry, on_hold: stored.on_hold })
        });
        Ok(known)
    }

    /// What the server shows of the request; `None` when that is no such request.
    pub fn shown(self, raw: Vec<u8>, wanted: &Wanted) -> Option<Shown> {
        let asked = Asked::read(raw).filter(|asked| asked.id == self.asked.id)?;
        let is_wanted = wanted.asks_for(&asked.coded);
        if is_wanted && !self.on_hold && asked.says_the_same(&self.asked) {
            return Some(Shown::Same);
        }
        // Of what was entered in error some servers keep no more than that.
        let speaks_of_it = is_wanted && service_request::goes_by(&asked.request, &self.number);
        let gone = (!speaks_of_it).then_some(self.number);
        Some(Shown::Changed(Box::new(Changed { asked, is_wanted, gone, before: self.entry })))
    }

    /// Under what it is kept that it is taken back.
    pub fn gone_identity(&self) -> [u8; 32] {
        gone_identity(self.entry)
    }

    /// Where the server is asked whether it has it: a search, which a page of the same address that is no server does
    /// not answer.
    pub fn search(&self) -> String {
        format!("ServiceRequest?_id={}", self.asked.id)
    }

    /// What is kept of a request that is gone: a Bundle of type history, as a server would tell it (FHIR R4 2.36.4).
    pub fn deletion(&self, at: Timestamp) -> Vec<u8> {
        let gone = serde_json::json!({
            "resourceType": "Bundle", "type": "history",
            "entry": [{ "request": { "method": "DELETE", "url": self.address },
                        "response": { "status": "404", "lastModified": at.to_string() } }]
        });
        gone.to_string().into_bytes()
    }
}
