//! The host's side of a link: what its instruments ask is looked up here, and what they are told goes out from here.
//!
//! [`Host`] is what all links share: the drivers and one reading connection. An [`OrderDesk`] is one link's, whatever
//! its protocol. HL7 queries are answered by [`asked`] and the task beside each connection, [`clerk`]; ASTM has
//! [`super::worklist`]. Which connection tells of what nobody asks for is a matter of [`turn`].

pub mod asked;
#[cfg(test)]
mod bench;
pub mod clerk;
pub mod turn;

use super::config::Config;
use super::counters::LinkCounters;
use super::speakers::{Speaker, Speakers};
use crate::clinical::Patient;
use crate::driver::Registry;
use crate::driver::order_code::SiteCodes;
use crate::driver::worklist::why;
use crate::journal::{Journal, JournalError, LinkMark, LinkTask, Reader, SharedReader, StoredOrder, WorkOrderId};
use crate::wire::Event;
use jiff::tz::TimeZone;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use turn::{Teller, Told};

/// Tasks read at once.
const TASKS_PAGE: usize = 64;
/// Most tasks looked through for those that can be told.
const TASKS_LOOK_MAX: usize = 4096;
/// What is counted when somebody asks whom the link does not list: nobody's orders are told (invariant I13).
pub(super) const UNLISTED: &str = "an instrument asked for orders that is none of those the link lists";
/// What is counted when nothing carries a cancellation.
const UNTOLD: &str = "an order was taken back that this instrument cannot be told of";

/// What the links of a gateway need to answer their instruments.
pub struct Host {
    gateway: String,
    zone: TimeZone,
    registry: Registry,
    journal: Journal,
    reader: SharedReader,
}

/// Who is told of what nobody asks for.
pub(super) enum Unasked<'s> {
    /// This one.
    Told(Speaker<'s>),
    /// The link lists several instruments: nobody can ever tell which of them it would be.
    Several,
    /// Nobody has asked yet, and the site names no driver. What is due stays due.
    NotYet,
}

/// The order desk of one link: looks orders up, and notes what its instruments were told of them.
pub struct OrderDesk {
    host: Arc<Host>,
    pub(super) config: Config,
    /// What codes of the EHR stand for on this link.
    pub(super) codes: SiteCodes,
    /// The connection that tells of new orders. One at a time, so that none is told twice.
    herald: Arc<Semaphore>,
    /// Wakes one of those that tell of orders unasked.
    changed: Arc<Notify>,
    /// Wakes all of them.
    changes: watch::Sender<()>,
    told: Mutex<Told>,
    speakers: Speakers,
    counters: Arc<LinkCounters>,
}

impl Host {
    /// A host for the links of this gateway. `zone` is the clock of instruments for which the site names none.
    pub fn new(gateway: &str, zone: &TimeZone, registry: Registry, journal: &Journal) -> Host {
        let (gateway, zone, journal) = (gateway.to_string(), zone.clone(), journal.clone());
        Host { gateway, zone, registry, reader: SharedReader::new(&journal), journal }
    }
}

impl OrderDesk {
    /// The desk of a link.
    pub fn new(host: &Arc<Host>, config: &Config, counters: &Arc<LinkCounters>) -> Arc<OrderDesk> {
        Arc::new(OrderDesk {
            host: host.clone(),
            codes: config.site_codes(),
            herald: Arc::new(Semaphore::new(1)),
            changed: host.journal.orders_changed(&config.name),
            changes: watch::Sender::new(()),
            told: Mutex::default(),
            speakers: Speakers::of(config, &host.zone),
            config: config.clone(),
            counters: counters.clone(),
        })
    }

    /// The gateway's name.
    pub(super) fn gateway(&self) -> &str {
        &self.host.gateway
    }

    /// Who asks.
    pub(super) fn speaker(&self, raw: &[u8]) -> Speaker<'_> {
        self.speakers.speaker(&self.host.registry, raw)
    }

    /// Who is told of what nobody asks for. `asked` is the driver of whoever asked last on that connection, for a link
    /// whose driver nobody names.
    pub(super) fn unasked(&self, asked: Option<&str>) -> Unasked<'_> {
        match self.speakers.only(&self.host.registry, asked) {
            Some(speaker) => Unasked::Told(speaker),
            None if self.config.instrument.len() > 1 => Unasked::Several,
            None => Unasked::NotYet,
        }
    }

    /// Reads from the journal. Blocks.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        self.host.reader.read(work)
    }

    /// An instrument whose line broke dials again in this time, as we do.
    pub(super) fn others_come_back_in(&self) -> Duration {
        Duration::from_millis(self.config.timers.reconnect_max_ms)
    }

    /// What a connection is to tell unasked: what was taken back ([`turn`]), and new orders where the link sends them.
    /// Left out are orders on a tube for which several patients have orders, whoever is to measure them: nobody can
    /// tell whose it is (invariant I13), and those behind them do not wait for it. Blocks.
    pub(super) fn tasks(&self, teller: Teller, limit: usize) -> Result<Vec<LinkTask>, JournalError> {
        let (mut tasks, mut looked_at) = (Vec::new(), 0);
        while looked_at < TASKS_LOOK_MAX {
            let page = self.read(|reader| reader.link_tasks(&self.config.name, looked_at, TASKS_PAGE))?;
            let is_last = page.len() < TASKS_PAGE;
            looked_at += page.len();
            for task in page {
                let is_for_it = match task.is_cancellation {
                    true => self.told().is_to_take_back(teller, task.order.id.0, self.others_come_back_in()),
                    false => teller.pushes && self.is_one_patients(&task.order)?,
                };
                if is_for_it {
                    tasks.push(task);
                }
                if tasks.len() >= limit {
                    return Ok(tasks);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(tasks)
    }

    fn is_one_patients(&self, stored: &StoredOrder) -> Result<bool, JournalError> {
        let on_tube = self.read(|reader| reader.open_work_orders_on(&stored.order.specimen.id))?;
        let is_one = Patient::are_one(on_tube.iter().map(|other| &other.order.patient.patient));
        if !is_one {
            self.left_out(stored.id, "", why::PATIENTS);
        }
        Ok(is_one)
    }

    /// Notes what became of an order on a connection. What cannot be noted is told once more.
    pub(super) async fn mark(&self, teller: Teller, order: WorkOrderId, mark: LinkMark) {
        match mark {
            LinkMark::Sent => self.told().note(teller, order.0),
            LinkMark::CancellationSent if !self.told().forget(teller, order.0) => return,
            LinkMark::CancellationSent | LinkMark::NotForThis => {}
        }
        let link = &self.config.name;
        if let Err(error) = self.host.journal.mark_order(order, link, mark).await {
            let order = order.0;
            tracing::warn!(link, order, "what the instrument was told of an order is not noted: {error}");
        }
    }

    /// Gives a cancellation up that nothing carries to the instrument.
    pub(super) async fn give_up(&self, teller: Teller, order: WorkOrderId) {
        self.count(UNTOLD);
        self.mark(teller, order, LinkMark::CancellationSent).await;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs what is not told of an order. `code` is the EHR's for the test, empty when it is all of it.
    pub(super) fn left_out(&self, order: WorkOrderId, code: &str, why: &'static str) {
        tracing::info!(link = self.config.name, order = order.0, code, "not told: {why}");
        self.count(why);
    }

    /// Counts what is odd.
    pub(super) fn count(&self, what: &'static str) {
        self.counters.event(&Event::Odd(what));
    }

    /// Counts what is refused.
    pub(super) fn count_refused(&self, what: &'static str) {
        self.counters.event(&Event::Refused(what));
    }
}
