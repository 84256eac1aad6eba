//! What matching and the rules must know besides the report: read from the journal, which remembers it.

use crate::clinical::{Doubt, Patient, Phi, Report};
use crate::driver::order_code::SiteCodes;
use crate::journal::{EntryId, JournalError, Lookup, Past, Reader, qc_run_key};
use crate::orders::matching::Known;
use crate::rules::autoverification::{ControlRun, Needs, Previous, code};
use crate::rules::{Facts, Orders};

/// Reports of one patient, or control runs of one test, that are looked through; the newest first.
const REPORTS_MAX: usize = 64;
/// Doubts with which a control run says nothing.
const SPOILS: [Doubt; 6] = [
    Doubt::FailedRun,
    Doubt::Questionable,
    Doubt::UnreadableValue,
    Doubt::Incomplete,
    Doubt::Unreadable,
    Doubt::Charset,
];
const DAY_MS: i64 = 86_400_000;

/// Fetches what `needs` asks for, for a report of the entry `entry` on `link`. Previous values are those of entries
/// before it; control runs those of entries before `controls_before`.
pub fn fetch(
    reader: &Reader,
    needs: &Needs,
    (link, entry, received_ms): (&str, EntryId, i64),
    report: &Report,
    controls_before: EntryId,
) -> Result<Facts, JournalError> {
    let mut facts = Facts::default();
    if let Some(days) = needs.previous.values().max() {
        let from_ms = received_ms.saturating_sub(i64::from(*days) * DAY_MS);
        let patient = report.patient.id.expose();
        let past = reader.reports_of((Lookup::Patient, patient), entry, from_ms, REPORTS_MAX)?;
        for (past, earlier) in opened(&past) {
            // The same specimen measured again is no earlier value, and another patient's never.
            if earlier.specimen.id == report.specimen.id
                || earlier.control.is_some()
                || earlier.not_production
                || !is_of(reader, past, &earlier, &report.patient)?
            {
                continue;
            }
            for observation in earlier.observations.iter().filter(|o| o.doubts.is_empty()) {
                let code = code(observation);
                if needs.previous.contains_key(code) && !facts.previous.contains_key(code) {
                    let (value, ucum) = (observation.value.clone(), observation.ucum.clone());
                    let previous = Previous { value, ucum, received_ms: past.received_ms };
                    facts.previous.insert(code.to_string(), previous);
                }
            }
        }
    }
    for wanted in &needs.controls {
        let key = qc_run_key(link, wanted);
        let past = reader.reports_of((Lookup::QcRun, &key), controls_before, i64::MIN, REPORTS_MAX)?;
        let mut runs = Vec::new();
        for (past, report) in opened(&past).filter(|(past, _)| past.link == link) {
            let Some(control) = &report.control else { continue };
            // The last result of a run is the one that counts.
            let of_test = report.observations.iter().rev().filter(|observation| code(observation) == wanted);
            runs.extend(of_test.map(|observation| ControlRun {
                control: control.clone(),
                value: observation.value.clone(),
                ucum: observation.ucum.clone(),
                failed: report.not_production || observation.doubts.iter().any(|doubt| SPOILS.contains(doubt)),
                received_ms: past.received_ms,
            }));
        }
        facts.controls.insert(wanted.clone(), runs);
    }
    Ok(facts)
}

/// What the EHR ordered on a report's specimen, and what it knows of its patient. `codes` tells what its codes stand for.
pub fn known(
    reader: &Reader,
    report: &Report,
    orders: Orders,
    codes: impl FnOnce() -> SiteCodes,
) -> Result<Known, JournalError> {
    if orders == Orders::Off || report.control.is_some() {
        return Ok(Known::default());
    }
    // Read first: what comes after it is noticed when the outcome is filed.
    let as_of = reader.orders_as_of()?;
    let mut numbered = Vec::new();
    for number in [&report.order.placer_order_number, &report.order.filler_order_number] {
        numbered.extend(reader.work_orders_numbered(number)?);
    }
    let on_specimen = reader.work_orders_on(&report.specimen.id)?;
    Ok(Known {
        codes: if on_specimen.is_empty() && numbered.is_empty() { SiteCodes::new() } else { codes() },
        on_specimen,
        numbered,
        patient: if report.patient.id.is_empty() { None } else { reader.patient(&report.patient.id)? },
        as_of,
    })
}

/// True when an earlier report is about this patient: it says so itself, or the order it answers does.
fn is_of(reader: &Reader, past: &Past, earlier: &Report, patient: &Patient) -> Result<bool, JournalError> {
    if !earlier.patient.id.is_empty() && earlier.patient.id == patient.id {
        return Ok(earlier.patient.shares_id_with(patient));
    }
    let found = match reader.lookups(past.report) {
        Ok(found) => found,
        Err(JournalError::Damaged) => return Ok(false),
        Err(error) => return Err(error),
    };
    if !found.contains(&(Lookup::Patient, patient.id.expose().to_string())) {
        return Ok(false);
    }
    for (_, number) in found.into_iter().filter(|(kind, _)| *kind == Lookup::Order) {
        let orders = reader.work_orders_numbered(&Phi::new(number))?;
        if orders.iter().any(|stored| stored.order.patient.patient.shares_id_with(patient)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Each with its report; what cannot be read any more, for example of an older version, is left out.
fn opened(past: &[Past]) -> impl Iterator<Item = (&Past, Report)> {
    past.iter().filter_map(|past| Some((past, serde_json::from_slice(&past.json).ok()?)))
}
