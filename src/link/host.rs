//! The host's side of a link: what its instruments ask is looked up here, and what they are told goes out from here.
//!
//! [`Host`] is what all links share: the drivers and one reading connection. An [`OrderDesk`] is one link's, whatever
//! its protocol. HL7 queries are answered by [`asked`] and the task beside each connection, [`clerk`]; ASTM has
//! [`super::worklist`].

pub mod asked;
pub mod clerk;

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
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Tasks read at once.
const TASKS_PAGE: usize = 64;
/// Most tasks looked through for those that can be told.
const TASKS_LOOK_MAX: usize = 4096;
/// What is counted when somebody asks whom the link does not list: nobody's orders are told (invariant I13).
pub(super) const UNLISTED: &str = "an instrument asked for orders that is none of those the link lists";
/// What is counted when nothing carries a cancellation.
pub(super) const UNTOLD: &str = "an order was taken back that this instrument cannot be told of";

/// What the links of a gateway need to answer their instruments.
pub struct Host {
    gateway: String,
    zone: TimeZone,
    registry: Registry,
    journal: Journal,
    reader: SharedReader,
}

/// The order desk of one link: looks orders up, and notes what its instruments were told of them.
pub struct OrderDesk {
    host: Arc<Host>,
    pub(super) config: Config,
    /// What codes of the EHR stand for on this link.
    pub(super) codes: SiteCodes,
    /// The connection that tells of orders unasked. One at a time, so that none is told twice.
    pub(super) herald: Arc<Semaphore>,
    /// Wakes whoever tells of orders unasked.
    pub(super) changed: Arc<Notify>,
    speakers: Speakers,
    counters: Arc<LinkCounters>,
    /// The driver of whoever asked last.
    asked: Mutex<Option<String>>,
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
            speakers: Speakers::of(config, &host.zone),
            config: config.clone(),
            counters: counters.clone(),
            asked: Mutex::default(),
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

    /// Notes who asked: on a link whose driver nobody names it is who is told of what was taken back.
    pub(super) fn note_asked(&self, speaker: &Speaker<'_>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(speaker.driver.id.clone());
    }

    /// Who is told of what nobody asks for; `None` when nobody can tell which instrument it would be.
    pub(super) fn unasked(&self) -> Option<Speaker<'_>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.speakers.only(&self.host.registry, asked.as_deref())
    }

    /// Reads from the journal. Blocks.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        self.host.reader.read(work)
    }

    /// What the link's instrument is to be told unasked: what was taken back, and new orders where the link sends them.
    /// Left out are orders on a tube for which several patients have orders, whoever is to measure them: nobody can
    /// tell whose it is (invariant I13), and those behind them do not wait for it. Blocks.
    pub(super) fn tasks(&self, limit: usize) -> Result<Vec<LinkTask>, JournalError> {
        let (mut tasks, mut looked_at) = (Vec::new(), 0);
        while looked_at < TASKS_LOOK_MAX {
            let page = self.read(|reader| reader.link_tasks(&self.config.name, looked_at, TASKS_PAGE))?;
            let is_last = page.len() < TASKS_PAGE;
            looked_at += page.len();
            for task in page {
                if task.is_cancellation || self.config.push_orders && self.is_one_patients(&task.order)? {
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

    /// Notes what became of an order here. What cannot be noted is told once more.
    pub(super) async fn mark(&self, order: WorkOrderId, mark: LinkMark) {
        let link = &self.config.name;
        if let Err(error) = self.host.journal.mark_order(order, link, mark).await {
            let order = order.0;
            tracing::warn!(link, order, "what the instrument was told of an order is not noted: {error}");
        }
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
