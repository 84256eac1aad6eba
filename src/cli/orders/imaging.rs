//! The scheduled steps of an imaging order: what is to be done where and when, and what is missing of it.

use crate::journal::{JournalError, Reader, StoredOrder};
use crate::orders::worklist::entry;
use serde_json::{Value, json};

/// For people, a line each; none for an order of the laboratory. Holds nothing that leads to a patient.
pub(super) fn lines(reader: &Reader, stored: &StoredOrder) -> Result<Vec<String>, JournalError> {
    let Some(imaging) = &stored.order.imaging else { return Ok(Vec::new()) };
    let done = reader.steps_done(stored.id)?;
    let mut lines = Vec::new();
    for (at, procedure) in imaging.procedures.iter().enumerate() {
        lines.push(format!("requested procedure {}: {}", procedure.code.code, procedure.code.text));
        for (place, step) in procedure.steps.iter().enumerate() {
            let (date, time) = entry::start(step);
            let or = |text: &str, none: &str| if text.is_empty() { none.to_string() } else { text.to_string() };
            let state = if done.contains(&(at, place)) { "done" } else { "to do" };
            let start = format!("{date} {time}");
            lines.push(format!(
                "  {} at {} in {}, {}: {state}",
                or(&step.modality, "no modality"),
                or(&step.station_ae_titles.join(", "), "no station"),
                or(&step.location, "no room"),
                or(start.trim(), "no start: a modality that asks for a date does not see it"),
            ));
        }
    }
    Ok(lines)
}

/// The same as JSON; none for an order of the laboratory.
pub(super) fn shown(reader: &Reader, stored: &StoredOrder) -> Result<Option<Value>, JournalError> {
    let Some(imaging) = &stored.order.imaging else { return Ok(None) };
    let done = reader.steps_done(stored.id)?;
    let mut steps = Vec::new();
    for (at, procedure) in imaging.procedures.iter().enumerate() {
        for (place, step) in procedure.steps.iter().enumerate() {
            let (date, time) = entry::start(step);
            steps.push(json!({
                "procedure": procedure.code,
                "modality": step.modality,
                "station_ae_titles": step.station_ae_titles,
                "location": step.location,
                "start_date": date,
                "start_time": time,
                "done": done.contains(&(at, place)),
            }));
        }
    }
    Ok(Some(steps.into()))
}
