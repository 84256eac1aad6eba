//! HL7 queries and the orders they ask for.

use super::{OrderDesk, UNLISTED};
use crate::clinical::{Coding, Patient, Phi};
use crate::driver::Driver;
use crate::driver::worklist::why;
use crate::journal::{JournalError, StoredOrder};
use crate::link::listed::From;
use crate::link::speakers::Speaker;
use crate::mapping::hl7::dialogue::OnSpecimen;
use crate::mapping::hl7::host::Work;
use crate::message::charset::Charset;
use crate::message::hl7::query::{self, HostQuery, Wanted};
use jiff::tz::TimeZone;

/// Most orders one reply tells of.
const ORDERS_MAX: usize = 500;

/// A query with the orders it asks for.
pub struct Asked {
    /// The query.
    pub query: HostQuery,
    /// The orders on each specimen.
    pub specimens: Vec<OnSpecimen>,
    /// The zone of the instrument's clock.
    pub zone: TimeZone,
    /// The driver that reads it.
    pub driver: String,
}

/// Reads a query and looks up what it asks for. Blocks on the database. `None` when it is no query.
///
/// # Errors
/// The journal cannot be read now.
pub fn look_up(desk: &OrderDesk, raw: &[u8]) -> Result<Option<Asked>, JournalError> {
    let speaker = desk.speaker(raw);
    let declared = speaker.charset.as_deref().or(speaker.driver.wire().charset.as_deref()).and_then(Charset::named);
    let Some(query) = query::query(raw, declared) else { return Ok(None) };
    let (zone, driver) = (speaker.zone.clone(), speaker.driver.id.clone());
    let mut asked = Asked { query, specimens: Vec::new(), zone, driver };
    if matches!(speaker.from, From::Unknown) {
        desk.count(UNLISTED);
        asked.query.wanted = Wanted::Unanswerable(UNLISTED);
        return Ok(Some(asked));
    }
    match &asked.query.wanted {
        Wanted::Specimens(ids) => {
            for id in ids {
                let stored = desk.read(|reader| reader.open_work_orders_on(id))?;
                asked.specimens.push(on_specimen(desk, &speaker, id, &stored));
            }
        }
        Wanted::All => {
            let stored = desk.read(|reader| reader.open_work_orders_for(&desk.config.name, ORDERS_MAX))?;
            for (id, stored) in by_specimen(stored) {
                asked.specimens.push(on_specimen(desk, &speaker, &id, &stored));
            }
            asked.specimens.retain(|specimen| !specimen.work.is_empty());
        }
        // Which specimen stands where, only the analyzer knows: nothing is ordered for a place.
        Wanted::Place(_) | Wanted::Unanswerable(_) => {}
    }
    Ok(Some(asked))
}

fn on_specimen(desk: &OrderDesk, speaker: &Speaker<'_>, id: &Phi, stored: &[StoredOrder]) -> OnSpecimen {
    // All that is on the tube counts, also what this instrument has no code for.
    let work = match Patient::are_one(stored.iter().map(|stored| &stored.order.patient.patient)) {
        true => stored.iter().filter_map(|stored| as_work(desk, speaker.driver, &speaker.zone, stored)).collect(),
        false => {
            stored.iter().for_each(|stored| desk.left_out(stored.id, "", why::PATIENTS));
            Vec::new()
        }
    };
    OnSpecimen { id: id.clone(), work }
}

/// An order as the instrument is told it; `None` when it has no code for any of the tests.
pub(super) fn as_work(desk: &OrderDesk, driver: &Driver, zone: &TimeZone, stored: &StoredOrder) -> Option<Work> {
    let mut tests: Vec<Coding> = Vec::new();
    for test in &stored.order.tests {
        match driver.codes_to_order(&desk.codes, test) {
            Ok(codes) => codes.into_iter().for_each(|code| {
                // Two panels may share a test.
                if !tests.iter().any(|told| told.code == code.code) {
                    tests.push(code);
                }
            }),
            Err(why) => desk.left_out(stored.id, &test.universal_service_id.code, why),
        }
    }
    (!tests.is_empty()).then(|| Work {
        key: stored.id.0,
        order: stored.order.clone(),
        tests,
        placed: time(stored.placed_ms, zone),
        changed: time(stored.changed_ms, zone),
    })
}

/// A moment on the instrument's clock, as HL7 writes it.
pub(super) fn time(ms: i64, zone: &TimeZone) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    at.to_zoned(zone.clone()).strftime("%Y%m%d%H%M%S%z").to_string()
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
