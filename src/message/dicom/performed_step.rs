//! Modality performed procedure steps: what an N-CREATE and an N-SET say, and whether they may (PS3.4 F.7). Pure.
//!
//! ```text
//! N-CREATE IN PROGRESS -> in progress -> N-SET ... -> N-SET COMPLETED or DISCONTINUED -> never again
//! ```
//!
//! Liberal in what comes: only what the state rests on is required. Everything else is kept in the raw data set.

pub mod request;

use super::{DataSet, Tag, Value, tags};
use crate::clinical::performed_step::{AnsweredStep, PerformedSeries, PerformedStatus, PerformedStep};
use crate::clinical::{Coding, CodingSystem, Phi};

/// Most scheduled steps, series and instances of a series that are kept of one step.
const LIST_MAX: usize = 10_000;

/// Why an N-CREATE or N-SET is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepFault {
    /// There is one with this UID already.
    Duplicate,
    /// There is none with this UID.
    Unknown,
    /// It was completed or discontinued before.
    Final,
    /// The data set is cut short.
    Unreadable,
    /// (0040,0252) is not there.
    NoStatus,
    /// (0040,0252) is not one that may be said now.
    WrongStatus,
}

impl StepFault {
    /// The DIMSE status (PS3.7 annex C).
    pub fn status(self) -> u16 {
        match self {
            StepFault::Duplicate => 0x0111,
            StepFault::Unknown => 0x0112,
            StepFault::Final | StepFault::Unreadable => 0x0110,
            StepFault::NoStatus => 0x0120,
            StepFault::WrongStatus => 0x0106,
        }
    }

    /// Error ID (0000,0903), where PS3.4 F.7.2.2.2 defines one.
    pub fn error_id(self) -> Option<u16> {
        (self == StepFault::Final).then_some(0xA710)
    }

    /// What the person at the modality reads.
    pub fn comment(self) -> &'static str {
        match self {
            StepFault::Duplicate => "a performed step with this UID is there already",
            StepFault::Unknown => "there is no performed step with this UID",
            StepFault::Final => "Performed Procedure Step Object may no longer be updated",
            StepFault::Unreadable => "the data set cannot be read",
            StepFault::NoStatus => "Performed Procedure Step Status is missing",
            StepFault::WrongStatus => "this Performed Procedure Step Status cannot be set now",
        }
    }
}

impl std::fmt::Display for StepFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.comment())
    }
}

/// What an N-CREATE makes, when nothing is under its UID. The very same one again makes the same again: its sender did
/// not hear the answer (invariant I4).
pub fn create(
    sop_instance_uid: &str,
    said: &DataSet,
    known: Option<&PerformedStep>,
) -> Result<PerformedStep, StepFault> {
    let begun = begin(sop_instance_uid, said);
    match known {
        Some(known) => begun.ok().filter(|step| step == known).ok_or(StepFault::Duplicate),
        None => begun,
    }
}

/// What an N-SET makes of the step under its UID: attributes it names take the place of those before. The very one that
/// ended the step may come again and changes nothing (invariant I4).
pub fn set(said: &DataSet, known: Option<&PerformedStep>) -> Result<PerformedStep, StepFault> {
    let known = known.ok_or(StepFault::Unknown)?;
    let (was, is) = (known.status, status(said)?);
    let mut step = PerformedStep { status: is.unwrap_or(was), ..known.clone() };
    tell(&mut step, said);
    match was.is_final() && (is.is_none() || step != *known) {
        true => Err(StepFault::Final),
        false => Ok(step),
    }
}

fn begin(sop_instance_uid: &str, said: &DataSet) -> Result<PerformedStep, StepFault> {
    match status(said)? {
        None => return Err(StepFault::NoStatus),
        Some(PerformedStatus::InProgress) => {}
        Some(_) => return Err(StepFault::WrongStatus),
    }
    let mut step = PerformedStep { sop_instance_uid: sop_instance_uid.to_string(), ..PerformedStep::default() };
    tell(&mut step, said);
    Ok(step)
}

fn status(said: &DataSet) -> Result<Option<PerformedStatus>, StepFault> {
    match said.first(tags::PERFORMED_PROCEDURE_STEP_STATUS).as_str() {
        "" => Ok(None),
        term => PerformedStatus::from_dicom(term).map(Some).ok_or(StepFault::WrongStatus),
    }
}

fn tell(step: &mut PerformedStep, said: &DataSet) {
    let text = |into: &mut String, tag: Tag| {
        if said.get(tag).is_some() {
            *into = said.first(tag);
        }
    };
    text(&mut step.id, tags::PERFORMED_PROCEDURE_STEP_ID);
    text(&mut step.modality, tags::MODALITY);
    text(&mut step.station_ae_title, tags::PERFORMED_STATION_AE_TITLE);
    text(&mut step.description, tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION);
    for (into, tag) in [(&mut step.patient_id, tags::PATIENT_ID), (&mut step.patient_name, tags::PATIENT_NAME)] {
        if said.get(tag).is_some() {
            *into = Phi::new(said.first(tag));
        }
    }
    for (into, date, time) in [
        (&mut step.start, tags::PERFORMED_PROCEDURE_STEP_START_DATE, tags::PERFORMED_PROCEDURE_STEP_START_TIME),
        (&mut step.end, tags::PERFORMED_PROCEDURE_STEP_END_DATE, tags::PERFORMED_PROCEDURE_STEP_END_TIME),
    ] {
        let (date, time) = (said.first(date), said.first(time));
        if !date.is_empty() {
            *into = date + time.split('.').next().unwrap_or_default();
        }
    }
    if let Some(reason) = said.item(tags::PERFORMED_PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE) {
        step.discontinued_for = Some(Coding {
            code: reason.first(tags::CODE_VALUE),
            text: reason.first(tags::CODE_MEANING),
            system: CodingSystem::from_hl7(&reason.first(tags::CODING_SCHEME_DESIGNATOR)),
        });
    }
    if is_sequence(said, tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE) {
        let items = said.items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE).iter().take(LIST_MAX);
        step.scheduled = items
            .map(|item| AnsweredStep {
                study_instance_uid: item.uid(tags::STUDY_INSTANCE_UID),
                accession_number: Phi::new(item.first(tags::ACCESSION_NUMBER)),
                requested_procedure_id: item.first(tags::REQUESTED_PROCEDURE_ID),
                step_id: item.first(tags::SCHEDULED_PROCEDURE_STEP_ID),
            })
            .collect();
    }
    if is_sequence(said, tags::PERFORMED_SERIES_SEQUENCE) {
        step.series = said.items(tags::PERFORMED_SERIES_SEQUENCE).iter().take(LIST_MAX).map(series).collect();
    }
}

fn series(item: &DataSet) -> PerformedSeries {
    let lists = [tags::REFERENCED_IMAGE_SEQUENCE, tags::REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE];
    let instances = lists.iter().flat_map(|list| item.items(*list)).take(LIST_MAX);
    PerformedSeries {
        series_instance_uid: item.uid(tags::SERIES_INSTANCE_UID),
        protocol_name: item.first(tags::PROTOCOL_NAME),
        instances: instances
            .map(|i| (i.uid(tags::REFERENCED_SOP_CLASS_UID), i.uid(tags::REFERENCED_SOP_INSTANCE_UID)))
            .collect(),
    }
}

fn is_sequence(set: &DataSet, tag: Tag) -> bool {
    set.get(tag).is_some_and(|element| matches!(element.value, Value::Items(_)))
}

#[cfg(test)]
mod tests;
