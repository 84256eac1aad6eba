//! Orders down an ASTM link: the answers to what its instrument asks, and worklists it is sent.
//!
//! The pump hands a [`Worklist`] every part that comes in and sends what it says; look-ups run beside the pump, so that
//! a frame acknowledgment never waits for one. The query itself is in custody first: a crash before the answer means
//! that the instrument asks again, and is answered again. A worklist is marked as sent after the acknowledgment of its
//! last frame; a crash in between sends it again with the same content.

use super::config::Config;
use super::counters::LinkCounters;
use crate::clinical::{Phi, WorkOrder};
use crate::driver::{Context, Driver, Registry, query, worklist};
use crate::journal::{Journal, JournalError, LinkMark, LinkTask, Reader, StoredOrder, WorkOrderId};
use crate::wire::{Event, Persist, Protocol, Token};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Longest entry looked through for a query, in bytes. One with 100 specimens takes less than 8 KiB.
const QUERY_MAX: usize = 64 * 1024;
/// Tasks looked at in one go; each order is a message of its own.
const TASKS_MAX: usize = 32;
/// Without a signal, tasks are looked for this often.
const TASKS_POLL: Duration = Duration::from_secs(15);
/// An instrument that did not take a worklist is offered it again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What the ASTM links of a gateway share: the drivers and one connection that reads.
pub struct Worklists {
    registry: Registry,
    zone: jiff::tz::TimeZone,
    journal: Journal,
    reader: Mutex<Option<Reader>>,
}

/// What the connections of one link share.
pub struct LinkWorklist {
    all: Arc<Worklists>,
    config: Config,
    counters: Arc<LinkCounters>,
    site: worklist::Site,
    changed: Arc<Notify>,
    /// One connection at a time sends what nobody asked for.
    herald: Arc<Semaphore>,
}

/// One connection's end.
pub struct Worklist {
    link: Arc<LinkWorklist>,
    session: u64,
    entry: Vec<u8>,
    work: Option<JoinHandle<Result<Found, JournalError>>>,
    marking: Option<JoinHandle<()>>,
    /// What was handed to the line and is not acknowledged yet.
    sent: Option<(Token, Vec<WorkOrderId>, LinkMark)>,
    next_token: u64,
    /// Tasks are not looked for before.
    not_before: Instant,
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

impl Worklists {
    /// For the links of a gateway. `zone` is the clock of instruments whose link names none.
    pub fn new(registry: Registry, zone: &jiff::tz::TimeZone, journal: &Journal) -> Arc<Self> {
        Arc::new(Worklists { registry, zone: zone.clone(), journal: journal.clone(), reader: Mutex::new(None) })
    }

    /// For one link; `None` where the protocol is not ASTM.
    pub fn of_link(self: &Arc<Self>, config: &Config, counters: &Arc<LinkCounters>) -> Option<Arc<LinkWorklist>> {
        (config.protocol == Protocol::Astm).then(|| {
            Arc::new(LinkWorklist {
                all: self.clone(),
                config: config.clone(),
                counters: counters.clone(),
                site: worklist::Site {
                    codes: config.order_codes.iter().map(|c| (c.ordered.clone(), c.codes.clone())).collect(),
                    charset: config.charset.clone(),
                },
                changed: self.journal.orders_changed(&config.name),
                herald: Arc::new(Semaphore::new(1)),
            })
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match reader.take() {
            Some(open) => open,
            None => self.journal.reader()?,
        };
        // One that failed is opened anew the next time.
        let done = work(&open)?;
        *reader = Some(open);
        Ok(done)
    }
}

impl LinkWorklist {
    /// The end of a new connection.
    pub fn connection(self: &Arc<Self>) -> Worklist {
        Worklist {
            link: self.clone(),
            session: 0,
            entry: Vec::new(),
            work: None,
            marking: None,
            sent: None,
            next_token: 0,
            not_before: Instant::now(),
            herald: None,
        }
    }

    fn zone(&self) -> jiff::tz::TimeZone {
        let own = self.config.time_zone.as_deref().and_then(|name| jiff::tz::TimeZone::get(name).ok());
        own.unwrap_or_else(|| self.all.zone.clone())
    }

    fn now(&self) -> String {
        jiff::Timestamp::now().to_zoned(self.zone()).strftime("%Y%m%d%H%M%S").to_string()
    }

    fn driver(&self, raw: &[u8]) -> &Driver {
        let named = self.config.driver.as_deref().and_then(|id| self.all.registry.get(id));
        named.unwrap_or_else(|| self.all.registry.identify(Protocol::Astm, raw))
    }

    /// Answers the query in an entry. Blocks on the database.
    fn answer(&self, raw: &[u8]) -> Result<Found, JournalError> {
        let driver = self.driver(raw);
        let context = Context {
            zone: self.zone(),
            charset: self.config.charset.clone(),
            framing: self.config.framing.clone(),
            complete: true,
        };
        let Some(query) = query::query(driver, raw, &context) else { return Ok(Found::Nothing) };
        self.count("the instrument asked for orders");
        if query.cancels {
            return Ok(Found::Cancelled);
        }
        let mut stored: Vec<StoredOrder> = Vec::new();
        self.all.read(|reader| {
            for id in query.specimens.iter().filter_map(|asked| asked.specimen_id.as_ref()) {
                stored.extend(reader.open_work_orders_on(id)?);
            }
            if query.all {
                stored.extend(reader.open_work_orders_for(&self.config.name, worklist::ORDERS_MAX)?);
            }
            Ok(())
        })?;
        let mut seen = HashSet::new();
        stored.retain(|order| seen.insert(order.id.0));
        let orders: Vec<WorkOrder> = stored.iter().map(|stored| stored.order.clone()).collect();
        let message = worklist::answer(driver, &self.site, &query, &orders, &self.now());
        if query.specimens.iter().any(|asked| asked.specimen_id.is_none()) {
            self.count("an instrument asked for a specimen whose id cannot be read");
        }
        Ok(Found::Records(self.outgoing(&stored, message, LinkMark::Sent, true)))
    }

    /// The next worklist, and marks for tasks that make none. Blocks on the database.
    fn task(&self) -> Result<(Found, Vec<(WorkOrderId, LinkMark)>), JournalError> {
        let driver = self.driver(b"");
        let tasks = self.all.read(|reader| reader.link_tasks(&self.config.name, TASKS_MAX))?;
        let mut marks = Vec::new();
        for LinkTask { order, is_cancellation } in tasks {
            let mark = if is_cancellation { LinkMark::CancellationSent } else { LinkMark::Sent };
            let alone = std::slice::from_ref(&order.order);
            let Some(message) = worklist::push(driver, &self.site, alone, is_cancellation, &self.now()) else {
                if is_cancellation {
                    self.count("an order was taken back that this instrument cannot be told of");
                    marks.push((order.id, mark));
                }
                continue;
            };
            let several = !is_cancellation && !message.records.is_empty() && self.has_several_patients(&order.order)?;
            if several {
                self.count(worklist::why::PATIENTS);
                continue;
            }
            let outgoing = self.outgoing(std::slice::from_ref(&order), message, mark, false);
            if !outgoing.records.is_empty() {
                return Ok((Found::Records(outgoing), marks));
            }
            marks.push((order.id, if is_cancellation { mark } else { LinkMark::NotForThis }));
        }
        Ok((Found::Nothing, marks))
    }

    fn has_several_patients(&self, order: &WorkOrder) -> Result<bool, JournalError> {
        let id: &Phi = &order.specimen.id;
        let on_it = self.all.read(|reader| reader.open_work_orders_on(id))?;
        Ok(on_it.iter().any(|other| !other.order.patient.patient.shares_id_with(&order.patient.patient)))
    }

    fn outgoing(&self, stored: &[StoredOrder], message: worklist::Message, mark: LinkMark, asked: bool) -> Outgoing {
        for left in &message.left_out {
            self.count(left.why);
            if let Some(order) = stored.get(left.order) {
                tracing::info!(link = self.config.name, order = order.id.0, code = left.code, "not sent: {}", left.why);
            }
        }
        let orders = message.told.iter().filter_map(|at| stored.get(*at)).map(|order| order.id).collect();
        Outgoing { records: message.records, orders, mark, asked }
    }

    fn count(&self, what: &'static str) {
        self.counters.event(&Event::Odd(what));
    }
}

impl Worklist {
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
        let link = self.link.clone();
        self.work = Some(tokio::task::spawn_blocking(move || link.answer(&entry)));
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
                        self.link.count("orders could not be looked up");
                        tracing::debug!(link = self.link.config.name, "orders could not be looked up: {error}");
                    }
                    // It panicked; the panic hook has told.
                    Err(_) => self.link.count("orders could not be looked up"),
                }
                self.not_before = Instant::now() + TASKS_POLL;
                continue;
            }
            if !self.link.config.push_orders || self.sent.is_some() {
                return std::future::pending().await;
            }
            if self.herald.is_none() {
                self.herald = self.link.herald.clone().acquire_owned().await.ok();
            }
            let changed = self.link.changed.clone();
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep_until(self.not_before.into()) => {}
            }
            let link = self.link.clone();
            self.work = Some(tokio::task::spawn_blocking(move || {
                let (found, marks) = link.task()?;
                for (order, mark) in marks {
                    // What cannot be noted now is noted the next time.
                    let noted = link.all.journal.mark_order(order, &link.config.name, mark);
                    let _ = tokio::runtime::Handle::current().block_on(noted);
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
            self.link.count("orders were not taken by the instrument");
            self.not_before = now + AGAIN_AFTER;
            return;
        }
        self.not_before = now;
        let link = self.link.clone();
        self.marking = Some(tokio::spawn(async move {
            for order in orders {
                if let Err(error) = link.all.journal.mark_order(order, &link.config.name, mark).await {
                    tracing::warn!(link = link.config.name, order = order.0, "sent, but not noted as sent: {error}");
                }
            }
        }));
    }

    fn say(&mut self, outgoing: Outgoing) -> Say {
        let token = Token(self.next_token);
        self.next_token += 1;
        // A worklist that still waits gives way to an answer; it is looked up again.
        self.sent = Some((token, outgoing.orders, outgoing.mark));
        if outgoing.asked {
            self.link.count("a query was answered");
        }
        Say::Send(token, outgoing.records)
    }
}

/// Whether it is worth reading: a record that may begin with Q.
fn may_hold_query(entry: &[u8]) -> bool {
    entry.windows(2).any(|pair| matches!(pair[0], b'Q' | b'q') && pair[1].is_ascii_punctuation())
}
