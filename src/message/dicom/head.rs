//! What a data set says of its patient, study, series and instance: read before the pixel data, for the index and for
//! routing.

use super::{DataSet, End, HEAD_BYTES_MAX, HEAD_VALUE_BYTES_MAX, Layout, Limits, Oddity, Tag, tags, walk};
use crate::clinical::imaging::{DicomTime, ImagingRequest, Instance, Series, Study};
use crate::clinical::{Coding, CodingSystem, Patient, Phi};
use std::io::Read;

/// Most requests read of one object.
const REQUESTS_MAX: usize = 16;

/// The head of an instance.
#[derive(Debug)]
pub struct Head {
    /// Who it is of. The name is read by its alphabetic group, else by the first that is not empty.
    pub patient: Patient,
    /// The patient's name as written (PN), all groups.
    pub patient_name: Phi,
    /// The study it belongs to.
    pub study: Study,
    /// The series it belongs to.
    pub series: Series,
    /// The instance itself, as the data set names it. The command that brought it may have named another.
    pub instance: Instance,
    /// The requests it answers.
    pub requests: Vec<ImagingRequest>,
    /// The transfer syntax the file names; empty without file meta information.
    pub transfer_syntax_uid: String,
    /// How the data set is really laid out.
    pub layout: Layout,
    /// Everything before the pixel data.
    pub data_set: DataSet,
    /// Byte of the file at which the data set begins.
    pub begins_at: usize,
    /// Byte at which reading ended; of the inflated data set where it is deflated.
    pub ended_at: usize,
    /// Why it ended.
    pub end: End,
    /// What is odd; the record is the tag as a number. Never a reason to refuse the bytes.
    pub oddities: Vec<Oddity>,
}

/// Reads the head of a DICOM file or of a bare data set: at most [`HEAD_BYTES_MAX`] bytes, never past the pixel data.
/// `transfer_syntax_uid` is used when the file names none.
pub fn read_head(reader: impl Read, transfer_syntax_uid: &str) -> Head {
    Head::of(walk(reader, transfer_syntax_uid, Limits { bytes: HEAD_BYTES_MAX, value_bytes: HEAD_VALUE_BYTES_MAX }))
}

impl Head {
    /// The head of a data set that was walked.
    pub fn of(walked: super::Walked) -> Head {
        let set = walked.data_set;
        Head {
            patient: patient(&set),
            patient_name: phi(&set, tags::PATIENT_NAME),
            study: study(&set),
            series: series(&set),
            instance: instance(&set),
            requests: requests(&set),
            transfer_syntax_uid: walked.transfer_syntax_uid,
            layout: walked.layout,
            data_set: set,
            begins_at: walked.begins_at,
            ended_at: walked.ended_at,
            end: walked.end,
            oddities: walked.oddities,
        }
    }
}

/// A code of a code sequence item (PS3.3 8.8).
pub fn coding(item: &DataSet) -> Option<Coding> {
    let values = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE];
    let code = values.into_iter().map(|tag| item.first(tag)).find(|code| !code.is_empty()).unwrap_or_default();
    let text = item.text(tags::CODE_MEANING);
    let scheme = item.first(tags::CODING_SCHEME_DESIGNATOR);
    (!code.is_empty() || !text.is_empty()).then(|| Coding { code, text, system: system(&scheme) })
}

/// The code of the first item of a code sequence.
pub fn first_coding(set: &DataSet, sequence: Tag) -> Option<Coding> {
    set.item(sequence).and_then(coding)
}

/// A coding scheme designator (PS3.16 chapter 8). DICOM's names are those of HL7 table 0396 but for SNOMED CT.
fn system(scheme: &str) -> CodingSystem {
    match scheme {
        "SCT" => CodingSystem::Snomed,
        "LN" => CodingSystem::Loinc,
        local if local.is_empty() || local == "L" => CodingSystem::Local,
        other => CodingSystem::Other(other.to_string()),
    }
}

/// The name of an assigning authority (HL7v2 Hierarchic Designator Macro, PS3.3 10.14): the universal id counts most.
fn authority(set: &DataSet, sequence: Tag) -> String {
    let Some(item) = set.item(sequence) else { return String::new() };
    let parts = [tags::LOCAL_NAMESPACE_ENTITY_ID, tags::UNIVERSAL_ENTITY_ID, tags::UNIVERSAL_ENTITY_ID_TYPE];
    let [name, universal, kind] = parts.map(|tag| item.first(tag));
    if universal.is_empty() { name } else { format!("{name}^{universal}^{kind}") }
}

fn phi(set: &DataSet, tag: Tag) -> Phi {
    Phi::new(set.text(tag))
}

fn patient(set: &DataSet) -> Patient {
    let name = set.text(tags::PATIENT_NAME);
    let group = name.split('=').find(|g| !g.trim_matches(['^', ' ']).is_empty()).unwrap_or_default();
    let mut parts = group.split('^').map(str::trim);
    let (family, given) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let issuer = match set.first(tags::ISSUER_OF_PATIENT_ID) {
        none if none.is_empty() => authority(set, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE),
        named => named,
    };
    Patient {
        id: Phi::new(set.first(tags::PATIENT_ID)),
        id_authority: issuer,
        family: Phi::new(family),
        given: Phi::new(given),
        birth_date: Phi::new(set.first(tags::PATIENT_BIRTH_DATE).replace('.', "")),
        sex: set.first(tags::PATIENT_SEX).chars().take(1).collect(),
        location: Phi::default(),
    }
}

fn study(set: &DataSet) -> Study {
    Study {
        instance_uid: set.uid(tags::STUDY_INSTANCE_UID),
        id: phi(set, tags::STUDY_ID),
        started: time(set, tags::STUDY_DATE, tags::STUDY_TIME),
        description: set.text(tags::STUDY_DESCRIPTION),
        accession_number: phi(set, tags::ACCESSION_NUMBER),
        accession_authority: authority(set, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE),
        referring_physician: phi(set, tags::REFERRING_PHYSICIAN_NAME),
        procedures: set.items(tags::PROCEDURE_CODE_SEQUENCE).iter().filter_map(coding).collect(),
    }
}

fn series(set: &DataSet) -> Series {
    Series {
        instance_uid: set.uid(tags::SERIES_INSTANCE_UID),
        modality: set.first(tags::MODALITY),
        number: set.first(tags::SERIES_NUMBER),
        description: set.text(tags::SERIES_DESCRIPTION),
        body_part: set.first(tags::BODY_PART_EXAMINED),
        body_site: first_coding(set, tags::ANATOMIC_REGION_SEQUENCE),
        laterality: set.first(tags::LATERALITY),
        started: time(set, tags::SERIES_DATE, tags::SERIES_TIME),
        protocol: set.text(tags::PROTOCOL_NAME),
        manufacturer: set.text(tags::MANUFACTURER),
        model: set.text(tags::MANUFACTURER_MODEL_NAME),
        serial_number: set.text(tags::DEVICE_SERIAL_NUMBER),
        software_version: set.first(tags::SOFTWARE_VERSIONS),
        station: set.text(tags::STATION_NAME),
    }
}

fn instance(set: &DataSet) -> Instance {
    let title = match set.text(tags::DOCUMENT_TITLE) {
        none if none.is_empty() => first_coding(set, tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default().text,
        title => title,
    };
    Instance {
        sop_class_uid: set.uid(tags::SOP_CLASS_UID),
        sop_instance_uid: set.uid(tags::SOP_INSTANCE_UID),
        number: set.first(tags::INSTANCE_NUMBER),
        frames: set.number(tags::NUMBER_OF_FRAMES).filter(|n| *n > 1),
        made: time(set, tags::CONTENT_DATE, tags::CONTENT_TIME),
        title,
        media_type: set.first(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT),
        completion: set.first(tags::COMPLETION_FLAG),
        verification: set.first(tags::VERIFICATION_FLAG),
    }
}

/// The requests of the sequences made for it; else what stands in the data set itself.
fn requests(set: &DataSet) -> Vec<ImagingRequest> {
    let sequences = [tags::REFERENCED_REQUEST_SEQUENCE, tags::REQUEST_ATTRIBUTES_SEQUENCE];
    let items = sequences.iter().flat_map(|tag| set.items(*tag)).take(REQUESTS_MAX);
    let mut requests: Vec<ImagingRequest> = items.map(request).filter(|r| !r.is_empty()).collect();
    if requests.is_empty() {
        requests.extend(Some(request(set)).filter(|r| !r.is_empty()));
    }
    requests
}

fn request(set: &DataSet) -> ImagingRequest {
    ImagingRequest {
        accession_number: phi(set, tags::ACCESSION_NUMBER),
        accession_authority: authority(set, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE),
        placer_order_number: phi(set, tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
        placer_authority: authority(set, tags::ORDER_PLACER_IDENTIFIER_SEQUENCE),
        filler_order_number: phi(set, tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
        filler_authority: authority(set, tags::ORDER_FILLER_IDENTIFIER_SEQUENCE),
        requested_procedure_id: phi(set, tags::REQUESTED_PROCEDURE_ID),
        scheduled_procedure_step_id: phi(set, tags::SCHEDULED_PROCEDURE_STEP_ID),
        description: set.text(tags::REQUESTED_PROCEDURE_DESCRIPTION),
        procedure: first_coding(set, tags::REQUESTED_PROCEDURE_CODE_SEQUENCE),
    }
}

fn time(set: &DataSet, date: Tag, time: Tag) -> DicomTime {
    DicomTime { date: set.first(date), time: set.first(time), offset: set.first(tags::TIMEZONE_OFFSET_FROM_UTC) }
}
