//! What a case's instrument is told when it asks: the orders in `orders.json`, by the codes in `order_codes.json`.

use super::{CaseError, GATEWAY, LINK, NOW, ZONE, read};
use crate::clinical::{Coding, Phi, WorkOrder};
use crate::driver::{Context, Driver, Protocol, query, worklist};
use crate::mapping::hl7::dialogue::{self, Names, OnSpecimen};
use crate::mapping::hl7::host::Work;
use crate::message::charset::Charset;
use crate::message::hl7::query::{self as hl7_query, Wanted};
use crate::sim::replay::Told;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The orders of a case.
pub struct Orders {
    placed: Vec<WorkOrder>,
    /// Codes of the site, as the link's `order_codes` has them (ASTM).
    site: worklist::Site,
}

impl Orders {
    /// Those in a case's folder; `None` when nothing is answered there.
    ///
    /// # Errors
    /// A file cannot be read, or is not in the format.
    pub fn of(folder: &Path) -> Result<Option<Orders>, CaseError> {
        let Some(placed) = json(&folder.join("orders.json"))? else { return Ok(None) };
        let codes = json(&folder.join("order_codes.json"))?.unwrap_or_default();
        Ok(Some(Orders { placed, site: worklist::Site { codes, charset: None } }))
    }

    /// The answer to an entry that asks.
    pub fn answer(&self, driver: &Driver, raw: &[u8]) -> Option<Told> {
        match driver.protocol() {
            Protocol::Astm => self.records(driver, raw),
            Protocol::Hl7 => self.messages(driver, raw),
            _ => None,
        }
    }

    fn records(&self, driver: &Driver, raw: &[u8]) -> Option<Told> {
        let zone = jiff::tz::TimeZone::get(ZONE).unwrap_or(jiff::tz::TimeZone::UTC);
        let context = Context { zone, charset: None, framing: None, complete: true };
        let query = query::query(driver, raw, &context).filter(|query| !query.cancels)?;
        Some(Told::Records(worklist::answer(driver, &self.site, &query, &self.placed, NOW).records))
    }

    fn messages(&self, driver: &Driver, raw: &[u8]) -> Option<Told> {
        let query = hl7_query::query(raw, driver.wire().charset.as_deref().and_then(Charset::named))?;
        let mut ids: Vec<Phi> = match &query.wanted {
            Wanted::Specimens(ids) => ids.clone(),
            Wanted::All => self.placed.iter().map(|order| order.specimen.id.clone()).collect(),
            Wanted::Place(_) | Wanted::Unanswerable(_) => Vec::new(),
        };
        ids.dedup();
        let specimens: Vec<OnSpecimen> =
            ids.into_iter().map(|id| OnSpecimen { work: self.work(driver, &id), id }).collect();
        let reply = dialogue::reply(&query, &specimens, &Names { gateway: GATEWAY, link: LINK, time: NOW }).ok()?;
        let follow = reply.follow.into_iter().map(|dispatch| dispatch.message).collect();
        Some(Told::Messages { reply: reply.message, follow })
    }

    /// The orders on this specimen as the instrument is told them.
    fn work(&self, driver: &Driver, id: &Phi) -> Vec<Work> {
        let of_it = self.placed.iter().enumerate().filter(|(_, order)| order.specimen_ids().any(|own| own == id));
        let told = of_it.map(|(at, order)| {
            let codes = |test| driver.codes_to_order(&self.site.codes, test).unwrap_or_default();
            let tests: Vec<Coding> = order.tests.iter().flat_map(codes).collect();
            let key = i64::try_from(at).unwrap_or(i64::MAX);
            Work { key, order: order.clone(), tests, placed: NOW.to_string(), changed: NOW.to_string() }
        });
        told.filter(|work| !work.tests.is_empty()).collect()
    }
}

/// What a file holds, when it is there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CaseError> {
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_str(&read(path)?).map(Some).map_err(|e| CaseError::Orders(path.to_path_buf(), e))
}
