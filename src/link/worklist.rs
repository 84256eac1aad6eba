//! Orders down an ASTM link: the answers to what its instrument asks, and worklists it is sent.
//!
//! The pump hands a [`Worklist`] every part that comes in and sends what it says; look-ups run beside the pump, so that
//! a frame acknowledgment never waits for one. The query itself is in custody first: a crash before the answer means
//! that the instrument asks again, and is answered again. A worklist is marked as sent after the acknowledgment of its
//! last frame; a crash in between sends it again with the same content.

use super::host::{OrderDesk, UNLISTED, UNTOLD};
use super::listed::From;
use super::speakers::Speaker;
use crate::clinical::WorkOrder;
use crate::driver::{query, worklist};
use crate::journal::{JournalError, LinkMark, LinkTask, StoredOrder, WorkOrderId};
use crate::wire::{Event, Persist, Token};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// Longest entry looked through for a query, in bytes. One with 100 specimens takes less than 8 KiB.
const QUERY_MAX: usize = 64 * 1024;
/// Tasks looked at in one go; each order is a message of its own.
const TASKS_MAX: usize = 8;
/// Without a signal, tasks are looked for this often.
const TASKS_POLL: Duration = Duration::from_secs(15);
/// An instrument that did not take a worklist is offered it again after this time (LIS01-A2 asks for 10 s at least).
const AGAIN_AFTER: Duration = Duration::from_secs(10);

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
    /// Tasks are not looked for before.
    not_before: Instant,
    /// This connection may tell of orders unasked, when it is its turn: its link sends worklists, or the instrument
    /// asked here and so is who has what is taken back.
    tells: bool,
    herald: Option<OwnedSemaphorePermit>,
}

/// What a look-up came to.
enum Found {
    /// No query, or no task.
    Nothing,
    /// The instrument takes its question back.
    Cancelled,
    /// Records to send, the orders in them, and whether the instrument asked.
    Records(Outgoing),
}

struct Outgoing {
    records: Vec<Vec<u8>>,
    orders: Vec<WorkOrderId>,
    mark: LinkMark,
    asked: bool,
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
            not_before: Instant::now(),
            tells: desk.config.push_orders,
            herald: None,
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
                self.not_before = Instant::now() + TASKS_POLL;
                continue;
            }
            if !self.tells || self.sent.is_some() {
                return std::future::pending().await;
            }
            if self.herald.is_none() {
                self.herald = self.desk.herald.clone().acquire_owned().await.ok();
            }
            let desk = self.desk.clone();
            tokio::select! {
                () = desk.changed.notified() => {}
                () = tokio::time::sleep_until(self.not_before.into()) => {}
            }
            self.work = Some(tokio::task::spawn_blocking(move || {
                let (found, marks) = task(&desk)?;
                for (order, mark) in marks {
                    tokio::runtime::Handle::current().block_on(desk.mark(order, mark));
                }
                Ok(found)
            }));
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
        let now = Instant::now();
        if !accepted {
            self.desk.count("orders were not taken by the instrument");
            self.not_before = now + AGAIN_AFTER;
            // Perhaps nobody is there any more: another connection may try.
            self.herald = None;
            return;
        }
        self.not_before = now;
        let desk = self.desk.clone();
        self.marking = Some(tokio::spawn(async move {
            for order in orders {
                desk.mark(order, mark).await;
            }
        }));
    }

    fn say(&mut self, outgoing: Outgoing) -> Say {
        let token = Token(self.next_token);
        self.next_token += 1;
        // A worklist that still waits gives way to an answer; it is looked up again.
        self.sent = Some((token, outgoing.orders, outgoing.mark));
        if outgoing.asked {
            self.tells = true;
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
    if matches!(speaker.from, From::Unknown) {
        desk.count(UNLISTED);
    } else {
        desk.note_asked(&speaker);
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
    Ok(Found::Records(outgoing(desk, &stored, message, LinkMark::Sent, true)))
}

/// The next worklist, and marks for tasks that make none. Blocks on the database.
fn task(desk: &OrderDesk) -> Result<(Found, Vec<(WorkOrderId, LinkMark)>), JournalError> {
    let told = desk.unasked();
    let mut marks = Vec::new();
    for LinkTask { order, is_cancellation } in desk.tasks(TASKS_MAX)? {
        let mark = if is_cancellation { LinkMark::CancellationSent } else { LinkMark::Sent };
        let alone = std::slice::from_ref(&order.order);
        let message = told
            .as_ref()
            .and_then(|told| worklist::push(told.driver, &site(desk, told), alone, is_cancellation, &now(told)));
        let Some(message) = message else {
            if is_cancellation {
                desk.count(UNTOLD);
                marks.push((order.id, mark));
            }
            continue;
        };
        let outgoing = outgoing(desk, std::slice::from_ref(&order), message, mark, false);
        if !outgoing.records.is_empty() {
            return Ok((Found::Records(outgoing), marks));
        }
        marks.push((order.id, if is_cancellation { mark } else { LinkMark::NotForThis }));
    }
    Ok((Found::Nothing, marks))
}

fn outgoing(
    desk: &OrderDesk,
    stored: &[StoredOrder],
    message: worklist::Message,
    mark: LinkMark,
    asked: bool,
) -> Outgoing {
    for left in &message.left_out {
        if let Some(order) = stored.get(left.order) {
            desk.left_out(order.id, &left.code, left.why);
        }
    }
    let orders = message.told.iter().filter_map(|at| stored.get(*at)).map(|order| order.id).collect();
    Outgoing { records: message.records, orders, mark, asked }
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
