//! The host's side of a link: what its instrument asks is looked up here, and what it is told goes out from here.
//!
//! [`Host`] is what all links share: the drivers and one reading connection. [`clerk`] is the task beside each
//! connection.

pub mod clerk;

use crate::clinical::{Coding, Patient, Phi};
use crate::driver::{Driver, Protocol, Registry};
use crate::journal::{Journal, JournalError, Reader, StoredOrder};
use crate::mapping::hl7::dialogue::OnSpecimen;
use crate::mapping::hl7::host::Work;
use crate::message::charset::Charset;
use crate::message::hl7::query::{self, HostQuery, Wanted};
use jiff::tz::TimeZone;
use std::sync::{Arc, Mutex, PoisonError};

/// Most orders one reply tells of.
const ORDERS_MAX: usize = 500;

/// What the links of a gateway need to answer their instruments. One for all of them: a reading connection of its own
/// for each link would cost more memory than the link.
pub struct Host {
    gateway: String,
    zone: TimeZone,
    registry: Arc<Registry>,
    journal: Journal,
    reader: Mutex<Option<Reader>>,
}

/// A query with the orders it asks for.
pub(super) struct Asked {
    pub query: HostQuery,
    pub specimens: Vec<OnSpecimen>,
    /// Orders that cannot be told, and why; in words that are safe to log.
    pub left_out: Vec<(i64, &'static str)>,
}

impl Host {
    /// A host for the links of this gateway. `zone` is the clock of instruments whose link names none.
    pub fn new(gateway: &str, zone: &TimeZone, registry: Arc<Registry>, journal: &Journal) -> Host {
        let (gateway, zone, journal) = (gateway.to_string(), zone.clone(), journal.clone());
        Host { gateway, zone, registry, journal, reader: Mutex::new(None) }
    }

    /// The gateway's name.
    pub(super) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The driver that reads a message of this link.
    pub(super) fn driver(&self, named: Option<&str>, raw: &[u8]) -> &Driver {
        let named = named.and_then(|id| self.registry.get(id));
        named.unwrap_or_else(|| self.registry.identify(Protocol::Hl7, raw))
    }

    /// The time of day in the link's zone, as HL7 writes it.
    pub(super) fn time(&self, ms: i64, zone: Option<&str>) -> String {
        let zone = zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(|| self.zone.clone());
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        at.to_zoned(zone).strftime("%Y%m%d%H%M%S%z").to_string()
    }

    /// Reads a query and looks up what it asks for. Blocks on the database. `None` when it is no query.
    pub(super) fn look_up(&self, settings: &super::Config, raw: &[u8]) -> Result<Option<Asked>, JournalError> {
        let driver = self.driver(settings.driver.as_deref(), raw);
        let declared = settings.charset.as_deref().or(driver.wire().charset.as_deref()).and_then(Charset::named);
        let Some(query) = query::query(raw, declared) else { return Ok(None) };
        let mut asked = Asked { specimens: Vec::new(), left_out: Vec::new(), query };
        match asked.query.wanted.clone() {
            Wanted::Specimens(ids) => {
                for id in ids {
                    let stored = self.read(|reader| reader.open_work_orders_on(&id))?;
                    asked.add(id, &stored, driver, |ms| self.time(ms, settings.time_zone.as_deref()));
                }
            }
            Wanted::All => {
                let stored = self.read(|reader| reader.open_work_orders_for(&settings.name, ORDERS_MAX))?;
                for (id, stored) in by_specimen(stored) {
                    asked.add(id, &stored, driver, |ms| self.time(ms, settings.time_zone.as_deref()));
                }
                asked.specimens.retain(|specimen| !specimen.work.is_empty());
            }
            Wanted::Unanswerable(_) => {}
        }
        Ok(Some(asked))
    }

    /// Reads from the journal, on the one connection there is.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
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

impl Asked {
    fn add(&mut self, id: Phi, stored: &[StoredOrder], driver: &Driver, time: impl Fn(i64) -> String) {
        let mut work: Vec<Work> = Vec::new();
        // All that is on the tube counts, also what this instrument has no code for.
        if !Patient::are_one(stored.iter().map(|stored| &stored.order.patient.patient)) {
            self.left_out.extend(stored.iter().map(|s| (s.id.0, "orders of several patients are on one specimen")));
            return self.specimens.push(OnSpecimen { id, work });
        }
        for stored in stored {
            match as_work(stored, driver, &time) {
                Some(told) => work.push(told),
                None => self.left_out.push((stored.id.0, "this instrument has no code for what is ordered")),
            }
        }
        self.specimens.push(OnSpecimen { id, work });
    }
}

/// An order as the instrument is told it; `None` when it has no code for any of the tests.
pub(super) fn as_work(stored: &StoredOrder, driver: &Driver, time: impl Fn(i64) -> String) -> Option<Work> {
    let tests: Vec<Coding> = stored.order.tests.iter().filter_map(|test| driver.code_to_order(test)).collect();
    (!tests.is_empty()).then(|| Work {
        key: stored.id.0,
        order: stored.order.clone(),
        tests,
        placed: time(stored.placed_ms),
        changed: time(stored.changed_ms),
    })
}

/// Orders grouped by the id on the label, in order. Those without one cannot be told: nobody would find the tube.
pub(super) fn by_specimen(stored: Vec<StoredOrder>) -> Vec<(Phi, Vec<StoredOrder>)> {
    let mut groups: Vec<(Phi, Vec<StoredOrder>)> = Vec::new();
    for stored in stored.into_iter().filter(|stored| !stored.order.specimen.id.is_empty()) {
        let id = stored.order.specimen.id.clone();
        match groups.iter_mut().find(|(own, _)| *own == id) {
            Some((_, group)) => group.push(stored),
            None => groups.push((id, vec![stored])),
        }
    }
    groups
}
