//! A worklist entry as DICOM says it: every attribute of PS3.4 table K.6-1 an order can tell. Pure.

use crate::clinical::{Coding, ImagingOrder, Patient, RequestedProcedure, ScheduledStep, WorkOrder};
use crate::message::dicom::{CharacterSets, DataSet, Tag, VR, tags};

/// Most characters of an LO (PS3.5 6.2): what describes is cut there, numbers and ids never are.
const LONG_STRING_MAX: usize = 64;
/// Most characters of a code in (0008,0100); a longer one is a long code value.
const CODE_VALUE_MAX: usize = 16;

/// Retired, and asked for all the same.
const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1000);

/// One scheduled step of an order.
#[derive(Debug, Clone, Copy)]
pub struct Scheduled<'a> {
    /// The order, for the patient as the EHR last described them.
    pub order: &'a WorkOrder,
    /// Its imaging part.
    pub imaging: &'a ImagingOrder,
    /// The step's procedure.
    pub procedure: &'a RequestedProcedure,
    /// The step.
    pub step: &'a ScheduledStep,
}

impl Scheduled<'_> {
    /// The entry, in UTF-8.
    pub fn data_set(&self) -> DataSet {
        let Scheduled { order, imaging, procedure, .. } = *self;
        let patient = &order.patient.patient;
        let mut entry = DataSet::new(CharacterSets::utf8());
        let mut authority = patient.id_authority.split('^');
        let [issuer, universal, kind] = std::array::from_fn(|_| authority.next().unwrap_or_default());
        let others: Vec<&str> = order.patient.other_ids.iter().map(|id| id.expose()).collect();
        let comments = order.comments.join("\n");
        for (tag, vr, text) in [
            (tags::ACCESSION_NUMBER, VR::SH, imaging.accession_number.expose()),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, imaging.referring_physician.expose()),
            (tags::PATIENT_NAME, VR::PN, &self.patient_name()),
            (tags::PATIENT_ID, VR::LO, patient.id.expose()),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer),
            (tags::PATIENT_BIRTH_DATE, VR::DA, patient.birth_date.expose()),
            (tags::PATIENT_SEX, VR::CS, sex(patient)),
            (OTHER_PATIENT_IDS, VR::LO, &others.join("\\")),
            (tags::PATIENT_SIZE, VR::DS, imaging.height_m.expose()),
            (tags::PATIENT_WEIGHT, VR::DS, imaging.weight_kg.expose()),
            (tags::MEDICAL_ALERTS, VR::LO, short(imaging.medical_alerts.expose())),
            (tags::ALLERGIES, VR::LO, short(imaging.allergies.expose())),
            (tags::ADDITIONAL_PATIENT_HISTORY, VR::LT, ""),
            (tags::PATIENT_COMMENTS, VR::LT, ""),
            (tags::STUDY_INSTANCE_UID, VR::UI, &procedure.study_instance_uid),
            (tags::REQUESTING_PHYSICIAN, VR::PN, imaging.requesting_physician.expose()),
            (tags::REQUESTING_SERVICE, VR::LO, ""),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, short(described(&procedure.code))),
            (tags::ADMISSION_ID, VR::LO, ""),
            (tags::SPECIAL_NEEDS, VR::LO, ""),
            (tags::CURRENT_PATIENT_LOCATION, VR::LO, short(patient.location.expose())),
            (tags::PATIENT_STATE, VR::LO, ""),
            (tags::CONFIDENTIALITY_CONSTRAINT_ON_PATIENT_DATA_DESCRIPTION, VR::LO, ""),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, &procedure.id),
            (tags::REASON_FOR_THE_REQUESTED_PROCEDURE, VR::LO, short(imaging.reason.expose())),
            (tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, priority(&order.priority)),
            (tags::PATIENT_TRANSPORT_ARRANGEMENTS, VR::LO, ""),
            (tags::REQUESTED_PROCEDURE_LOCATION, VR::LO, ""),
            (tags::NAMES_OF_INTENDED_RECIPIENTS_OF_RESULTS, VR::PN, ""),
            (tags::REQUESTED_PROCEDURE_COMMENTS, VR::LT, &comments),
            (tags::IMAGING_SERVICE_REQUEST_COMMENTS, VR::LT, ""),
            (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, order.placer_order_number.id.expose()),
            (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, order.filler_order_number.id.expose()),
        ] {
            entry.put_text(tag, vr, text);
        }
        if !universal.is_empty() {
            let mut qualifiers = item();
            qualifiers.put_text(tags::UNIVERSAL_ENTITY_ID, VR::UT, universal);
            qualifiers.put_text(tags::UNIVERSAL_ENTITY_ID_TYPE, VR::CS, kind);
            entry.put_items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![qualifiers]);
        }
        for unknown in [tags::REFERENCED_STUDY_SEQUENCE, tags::REFERENCED_PATIENT_SEQUENCE] {
            entry.put_items(unknown, Vec::new());
        }
        entry.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, coded(std::slice::from_ref(&procedure.code)));
        entry.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![self.step()]);
        entry
    }

    /// The name as the order had it, with all its parts and scripts, while the EHR still calls the patient so.
    pub fn patient_name(&self) -> String {
        let patient = &self.order.patient.patient;
        let whole = self.imaging.patient_name.expose();
        let mut parts = whole.split('=').next().unwrap_or_default().split('^');
        let same = parts.next().unwrap_or_default() == patient.family.expose()
            && parts.next().unwrap_or_default() == patient.given.expose();
        match same {
            true => whole.to_string(),
            false => [patient.family.expose(), patient.given.expose()].join("^").trim_end_matches('^').to_string(),
        }
    }

    fn step(&self) -> DataSet {
        let step = self.step;
        let mut item = item();
        let (date, time) = start(step);
        let description = step.protocols.first().or(Some(&self.procedure.code)).map(described).unwrap_or_default();
        for (tag, vr, text) in [
            (tags::MODALITY, VR::CS, step.modality.as_str()),
            (tags::REQUESTED_CONTRAST_AGENT, VR::LO, ""),
            (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, &step.station_ae_titles.join("\\")),
            (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, date),
            (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, time),
            (tags::SCHEDULED_PROCEDURE_STEP_END_DATE, VR::DA, ""),
            (tags::SCHEDULED_PROCEDURE_STEP_END_TIME, VR::TM, ""),
            (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, step.performing_physician.expose()),
            (tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, VR::LO, short(description)),
            (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, &step.id),
            (tags::SCHEDULED_STATION_NAME, VR::SH, &step.station_name),
            (tags::SCHEDULED_PROCEDURE_STEP_LOCATION, VR::SH, &step.location),
            (tags::PRE_MEDICATION, VR::LO, ""),
            (tags::SCHEDULED_PROCEDURE_STEP_STATUS, VR::CS, "SCHEDULED"),
            (tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP, VR::LT, &step.comments.join("\n")),
        ] {
            item.put_text(tag, vr, text);
        }
        item.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, coded(&step.protocols));
        item
    }
}

/// Date and time of a step's start, as DICOM writes them; empty where they are not known.
pub fn start(step: &ScheduledStep) -> (&str, &str) {
    let local = step.start.as_ref().map_or("", |start| start.local.as_str());
    let (date, time) = (local.get(..8).unwrap_or_default(), local.get(8..).unwrap_or_default());
    (date, if time.split('.').next().is_some_and(|whole| matches!(whole.len(), 2 | 4 | 6)) { time } else { "" })
}

/// Code sequence items (PS3.3 8.8). A code without a meaning is its own.
fn coded(codings: &[Coding]) -> Vec<DataSet> {
    let coded = |coding: &Coding| {
        let mut item = item();
        let long: (Tag, VR) = (tags::LONG_CODE_VALUE, VR::UC);
        let fits = coding.code.chars().count() <= CODE_VALUE_MAX;
        let (tag, vr) = if fits { (tags::CODE_VALUE, VR::SH) } else { long };
        item.put_text(tag, vr, &coding.code);
        item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, coding.system.hl7());
        item.put_text(tags::CODING_SCHEME_VERSION, VR::SH, "");
        item.put_text(tags::CODE_MEANING, VR::LO, short(described(coding)));
        item
    };
    codings.iter().filter(|coding| !coding.code.is_empty()).map(coded).collect()
}

fn described(coding: &Coding) -> &str {
    if coding.text.is_empty() { &coding.code } else { &coding.text }
}

/// HL7 table 0001 to PS3.3 C.7.1.1: M, F, O; what is unknown is empty.
fn sex(patient: &Patient) -> &'static str {
    match patient.sex.as_str() {
        "M" => "M",
        "F" => "F",
        "O" | "A" => "O",
        _ => "",
    }
}

/// Table 0485 to PS3.3 C.4.11.
fn priority(sent: &str) -> &'static str {
    match sent {
        "S" => "STAT",
        "A" | "P" | "C" => "HIGH",
        "R" => "ROUTINE",
        "T" => "MEDIUM",
        _ => "",
    }
}

/// An empty item, in UTF-8.
fn item() -> DataSet {
    let mut item = DataSet::default();
    item.charset = CharacterSets::utf8();
    item
}

/// The start of a description that is too long.
fn short(text: &str) -> &str {
    text.char_indices().nth(LONG_STRING_MAX).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}
