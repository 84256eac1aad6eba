//! Orders down an ASTM link: the answers to what its instrument asks, and worklists it is sent.
//!
//! The pump hands a [`Worklist`] every part that comes in and sends what it says; look-ups run beside the pump, so that
//! a frame acknowledgment never waits for one. The query itself is in custody first: a crash before the answer means
//! that the instrument asks again, and is answered again. A worklist is marked as sent after the acknowledgment of its
//! last frame; a crash in between sends it again with the same content.

use super::host::turn::{Teller, Turn};
use super::host::{OrderDesk, UNLISTED, Unasked};
use super::listed::From;
use super::speakers::Speaker;
use crate::clinical::WorkOrder;
use crate::driver::{query, worklist};
use crate::journal::{JournalError, LinkMark, LinkTask, StoredOrder, WorkOrderId};
use crate::wire::{Event, Persist, Token};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Longest entry looked through for a query, in bytes. One with 100 specimens takes less than 8 KiB.
const QUERY_MAX: usize = 64 * 1024;
/// Tasks looked at in one go; each order is a message of its own.
const TASKS_MAX: usize = 8;

/// One connection's end.
pub struct Worklist {
    desk: Arc<OrderDesk>,
    session: u64,
    entry: Vec<u8>,
    work: Option<JoinHandle<Result<Found, JournalError>>>,
    marking: Option<JoinHandle<()>>,
    /// What was handed to the line and is not acknowledged yet.
    sent: Option<(Token, Vec<WorkOrderId>, LinkMark)>,
    next_token: u64,
    turn: Turn,
    /// The driver of whoever asked here last.
    asker: Option<String>,
}

/// What a look-up came to.
enum Found {
    /// No query, or no task.
    Nothing,
    /// The instrument takes its question back.
    Cancelled,
    /// Records to send, and the orders in them.
    Records(Outgoing),
}

struct Outgoing {
    records: Vec<Vec<u8>>,
    orders: Vec<WorkOrderId>,
    mark: LinkMark,
    /// The instrument asked for them.
    asked: bool,
    /// Its driver, when the link knows who asked.
    asker: Option<String>,
}

/// What the pump is to do.
pub enum Say {
    /// Send these records, in place of what still waits to be sent.
    Send(Token, Vec<Vec<u8>>),
    /// Take back what waits to be sent.
    Withdraw,
}

impl Worklist {
    /// The end of a new connection.
    pub fn new(desk: &Arc<OrderDesk>) -> Self {
        Worklist {
            desk: desk.clone(),
            session: 0,
            entry: Vec::new(),
            work: None,
            marking: None,
            sent: None,
            next_token: 0,
            turn: Turn::new(desk, desk.config.push_orders, true),
            asker: None,
        }
    }

    /// A part is offered for custody.
    pub fn heard(&mut self, part: &Persist) {
        if self.session != part.session {
            self.session = part.session;
            self.entry.clear();
        }
        if self.entry.len() + part.bytes.len() <= QUERY_MAX {
            self.entry.extend_from_slice(&part.bytes);
        } else {
            // Too long for a query. What is left of it would be read as something it is not.
            self.entry = vec![0; QUERY_MAX];
        }
    }

    /// The entry is complete and in custody. True when it may hold a query: what waits to be sent is then to be taken
    /// back, because the answer goes first. A worklist among it is looked up again.
    pub fn completed(&mut self) -> bool {
        let entry = std::mem::take(&mut self.entry);
        if !may_hold_query(&entry) {
            return false;
        }
        let desk = self.desk.clone();
        self.work = Some(tokio::task::spawn_blocking(move || answer(&desk, &entry)));
        self.sent = None;
        true
    }

    /// What is to be sent next. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Say {
        loop {
            if let Some(marking) = &mut self.marking {
                let _ = marking.await;
                self.marking = None;
            }
            if let Some(work) = &mut self.work {
                let found = work.await;
                self.work = None;
                match found {
                    Ok(Ok(Found::Records(outgoing))) => return self.say(outgoing),
                    Ok(Ok(Found::Cancelled)) => {
                        self.sent = None;
                        return Say::Withdraw;
                    }
                    Ok(Ok(Found::Nothing)) => {}
                    Ok(Err(error)) => {
                        self.desk.count("orders could not be looked up");
                        tracing::debug!(link = self.desk.config.name, "orders could not be looked up: {error}");
                    }
                    // It panicked; the panic hook has told.
                    Err(_) => self.desk.count("orders could not be looked up"),
                }
                continue;
            }
            if self.sent.is_some() {
                return std::future::pending().await;
            }
            self.turn.come().await;
            let (desk, teller, asker) = (self.desk.clone(), self.turn.teller(), self.asker.clone());
            self.work = Some(tokio::task::spawn_blocking(move || task(&desk, teller, asker.as_deref())));
        }
    }

    /// The peer acknowledged the last frame, or did not: what is told of a message of ours.
    pub fn told(&mut self, event: &Event) {
        let (token, accepted) = match *event {
            Event::Accepted(token) => (token, true),
            Event::Failed(token, _) => (token, false),
            _ => return,
        };
        let Some((_, orders, mark)) = self.sent.take_if(|(sent, ..)| *sent == token) else { return };
        if !accepted {
            self.desk.count("orders were not taken by the instrument");
            return self.turn.failed();
        }
        self.turn.look_again();
        let (desk, teller) = (self.desk.clone(), self.turn.teller());
        self.marking = Some(tokio::spawn(async move {
            for order in orders {
                desk.mark(teller, order, mark).await;
            }
        }));
    }

    fn say(&mut self, outgoing: Outgoing) -> Say {
        let token = Token(self.next_token);
        self.next_token += 1;
        // A worklist that still waits gives way to an answer; it is looked up again.
        self.sent = Some((token, outgoing.orders, outgoing.mark));
        if outgoing.asker.is_some() {
            self.asker = outgoing.asker;
            self.turn.tells = true;
        }
        if outgoing.asked {
            self.desk.count("a query was answered");
        }
        Say::Send(token, outgoing.records)
    }
}

/// Answers the query in an entry. Blocks on the database.
fn answer(desk: &OrderDesk, raw: &[u8]) -> Result<Found, JournalError> {
    let speaker = desk.speaker(raw);
    let Some(query) = query::query(speaker.driver, raw, &speaker.context(true)) else { return Ok(Found::Nothing) };
    desk.count("the instrument asked for orders");
    if query.cancels {
        return Ok(Found::Cancelled);
    }
    let mut stored: Vec<StoredOrder> = Vec::new();
    let mut asker = None;
    if matches!(speaker.from, From::Unknown) {
        desk.count(UNLISTED);
    } else {
        asker = Some(speaker.driver.id.clone());
        desk.read(|reader| {
            for id in query.specimens.iter().filter_map(|asked| asked.specimen_id.as_ref()) {
                stored.extend(reader.open_work_orders_on(id)?);
            }
            if query.all {
                stored.extend(reader.open_work_orders_for(&desk.config.name, worklist::ORDERS_MAX)?);
            }
            Ok(())
        })?;
    }
    let mut seen = HashSet::new();
    stored.retain(|order| seen.insert(order.id.0));
    let orders: Vec<WorkOrder> = stored.iter().map(|stored| stored.order.clone()).collect();
    let message = worklist::answer(speaker.driver, &site(desk, &speaker), &query, &orders, &now(&speaker));
    if query.specimens.iter().any(|asked| asked.specimen_id.is_none()) {
        desk.count("an instrument asked for a specimen whose id cannot be read");
    }
    Ok(Found::Records(Outgoing { asked: true, asker, ..outgoing(desk, &stored, message, LinkMark::Sent) }))
}

/// The next worklist. Tasks that make none are marked. Blocks on the database.
fn task(desk: &OrderDesk, teller: Teller, asker: Option<&str>) -> Result<Found, JournalError> {
    let told = match desk.unasked(asker) {
        Unasked::NotYet => return Ok(Found::Nothing),
        Unasked::Several => None,
        Unasked::Told(told) => Some(told),
    };
    let runtime = tokio::runtime::Handle::current();
    for LinkTask { order, is_cancellation } in desk.tasks(teller, TASKS_MAX)? {
        let mark = if is_cancellation { LinkMark::CancellationSent } else { LinkMark::Sent };
        let alone = std::slice::from_ref(&order.order);
        let message = told
            .as_ref()
            .and_then(|told| worklist::push(told.driver, &site(desk, told), alone, is_cancellation, &now(told)));
        let Some(message) = message else {
            if is_cancellation {
                runtime.block_on(desk.give_up(teller, order.id));
            }
            continue;
        };
        let outgoing = outgoing(desk, std::slice::from_ref(&order), message, mark);
        if !outgoing.records.is_empty() {
            return Ok(Found::Records(outgoing));
        }
        let mark = if is_cancellation { mark } else { LinkMark::NotForThis };
        runtime.block_on(desk.mark(teller, order.id, mark));
    }
    Ok(Found::Nothing)
}

fn outgoing(desk: &OrderDesk, stored: &[StoredOrder], message: worklist::Message, mark: LinkMark) -> Outgoing {
    for left in &message.left_out {
        if let Some(order) = stored.get(left.order) {
            desk.left_out(order.id, &left.code, left.why);
        }
    }
    let orders = message.told.iter().filter_map(|at| stored.get(*at)).map(|order| order.id).collect();
    Outgoing { records: message.records, orders, mark, asked: false, asker: None }
}

/// What the link knows beside the driver.
fn site(desk: &OrderDesk, speaker: &Speaker<'_>) -> worklist::Site {
    worklist::Site { codes: desk.codes.clone(), charset: speaker.charset.clone() }
}

/// The time of day on the instrument's clock.
fn now(speaker: &Speaker<'_>) -> String {
    jiff::Timestamp::now().to_zoned(speaker.zone.clone()).strftime("%Y%m%d%H%M%S").to_string()
}

/// Whether it is worth reading: a record that may begin with Q.
fn may_hold_query(entry: &[u8]) -> bool {
    entry.windows(2).any(|pair| matches!(pair[0], b'Q' | b'q') && pair[1].is_ascii_punctuation())
}
