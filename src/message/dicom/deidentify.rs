//! The Basic Application Level Confidentiality Profile (PS3.15 annex E), as a table: attribute, action.
//!
//! A subset: the attributes that modalities and structured reports write. What the table does not name is treated by
//! what it is: private attributes, overlays, curves and group lengths go, and so do dates, times, text short and long,
//! names of stations, addresses, bytes without a meaning and what no dictionary knows, unless they are listed as
//! technical; names of persons are emptied, a UID that is not one of the Standard's is replaced. Pixels are not looked
//! at: objects that have, or may have, text burned in or drawn over them, and encapsulated documents, are refused by the
//! rewriter. Bits of the pixels in which neither the image nor an overlay lies are passed on as they are.

use super::{Tag, VR, standard_value_representation, tags};
use ring::hmac;

/// What is written to (0012,0063) of a data set that was treated.
pub const METHOD: &str = "PS3.15 Basic Profile, subset of afferent";

/// What becomes of an attribute (PS3.15 table E.1-1a), the stricter the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// K: kept; the items of a sequence are treated each.
    Keep,
    /// U: a UID derived from the old one by a keyed hash, the same wherever the old one stands.
    NewUid,
    /// D, derived by a keyed hash: the objects of one patient stay together and lead back to nobody.
    Pseudonym,
    /// D: a value of the same kind that says nothing.
    Dummy,
    /// Z: no value.
    Empty,
    /// X: gone.
    Remove,
}

/// What the basic profile does to an attribute that the data set spells so; UN where it spells none (Implicit VR). Where
/// the Standard has it otherwise, the stricter of both is done: senders make mistakes, and what is spelled is not checked.
pub fn basic(tag: Tag, spelled: VR) -> Action {
    match tag {
        Tag(_, 0) => Action::Remove,
        Tag(group, _) if group % 2 == 1 => Action::Remove,
        // Curves and overlays may hold drawn names; overlay planes are kept as little as private data.
        Tag(0x5000..=0x50ff | 0x6000..=0x60ff, _) => Action::Remove,
        // What cameras write (Exif), with owner, place and serial numbers.
        Tag(0x0016, _) => Action::Remove,
        tags::PATIENT_NAME | tags::PATIENT_ID => Action::Pseudonym,
        _ if EMPTIED.contains(&tag) => Action::Empty,
        _ if REPLACED.contains(&tag) => Action::Dummy,
        _ if REMOVED.contains(&tag) => Action::Remove,
        _ if KINDS.contains(&tag) || TECHNICAL.contains(&tag) => Action::Keep,
        _ => match (standard_value_representation(tag), spelled) {
            (None, _) => Action::Remove,
            (Some(standard), VR::UN) => by_representation(standard),
            (Some(standard), _) => by_representation(standard).max(by_representation(spelled)),
        },
    }
}

/// What is done to an attribute of which only this is known.
fn by_representation(vr: VR) -> Action {
    match vr {
        VR::UI => Action::NewUid,
        VR::PN => Action::Empty,
        VR::DA | VR::TM | VR::DT | VR::LT | VR::ST | VR::UT => Action::Remove,
        VR::AE | VR::LO | VR::SH | VR::UC | VR::UR | VR::OB | VR::UN => Action::Remove,
        _ => Action::Keep,
    }
}

/// A value that says nothing, for attributes that must have one.
pub fn dummy(vr: VR) -> &'static str {
    match vr {
        VR::DA => "19000101",
        VR::TM => "000000",
        VR::DT => "19000101000000",
        VR::AS => "000Y",
        VR::DS | VR::IS => "0",
        VR::PN => "REMOVED^",
        _ => "REMOVED",
    }
}

/// Makes names from names, with a key that only the site has.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// With a secret of the destination, of any length.
    pub fn new(secret: &[u8]) -> Pseudonyms {
        Pseudonyms(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The UID that stands for another: `2.25.` and a UUID (PS3.5 B.2). One of the Standard's own stays as it is.
    pub fn uid(&self, uid: &str) -> String {
        if uid.is_empty() || uid.starts_with("1.2.840.10008.") {
            return uid.to_string();
        }
        let digest = self.digest("uid", uid);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        // Version 8, "custom" (RFC 9562), and its variant.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        format!("2.25.{}", u128::from_be_bytes(bytes))
    }

    /// What stands for the value of an attribute that names a patient. `issuer`: who gave the name, as two hospitals may
    /// give the same number to two patients; empty where nobody says it.
    pub fn name(&self, tag: Tag, issuer: &str, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        // A backslash stands in neither (PS3.5 6.2), so that no two pairs read the same.
        let digest = self.digest(&format!("{:04X}{:04X}", tag.0, tag.1), &format!("{issuer}\\{text}"));
        let digits: String = digest.as_ref()[..8].iter().map(|b| format!("{b:02X}")).collect();
        format!("ANON{digits}")
    }

    fn digest(&self, kind: &str, text: &str) -> hmac::Tag {
        hmac::sign(&self.0, format!("{kind}:{text}").as_bytes())
    }
}

/// UIDs of kinds of things, not of a thing. A maker's own would lose its meaning.
const KINDS: [Tag; 7] = [
    tags::SOP_CLASS_UID,
    tags::RELATED_GENERAL_SOP_CLASS_UID,
    tags::ORIGINAL_SPECIALIZED_SOP_CLASS_UID,
    tags::REFERENCED_SOP_CLASS_UID,
    tags::CODING_SCHEME_UID,
    tags::CONTEXT_UID,
    tags::MAPPING_RESOURCE_UID,
];

/// K: short text and bytes that say how an image was made and is shown, in the words of makers and of the Standard.
#[expect(deprecated)]
const TECHNICAL: &[Tag] = &[
    tags::MANUFACTURER,
    tags::MANUFACTURER_MODEL_NAME,
    tags::MANUFACTURER_RELATED_MODEL_GROUP,
    tags::SOFTWARE_VERSIONS,
    tags::CODE_VALUE,
    tags::LONG_CODE_VALUE,
    tags::URN_CODE_VALUE,
    tags::CODE_MEANING,
    tags::CODING_SCHEME_DESIGNATOR,
    tags::CODING_SCHEME_VERSION,
    tags::CODING_SCHEME_REGISTRY,
    tags::CODING_SCHEME_URL,
    tags::MAPPING_RESOURCE_NAME,
    tags::STAGE_NAME,
    tags::VIEW_NAME,
    tags::SEQUENCE_NAME,
    tags::RADIONUCLIDE,
    tags::RADIOPHARMACEUTICAL,
    tags::RADIOPHARMACEUTICAL_ROUTE,
    tags::IMAGED_NUCLEUS,
    tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER,
    tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER_MODEL_NAME,
    tags::SECONDARY_CAPTURE_DEVICE_SOFTWARE_VERSIONS,
    tags::VIDEO_IMAGE_FORMAT_ACQUIRED,
    tags::DIGITAL_IMAGE_FORMAT_ACQUIRED,
    tags::CONTRAST_BOLUS_ROUTE,
    tags::TRIGGER_SOURCE_OR_TYPE,
    tags::CARDIAC_FRAMING_TYPE,
    tags::PVC_REJECTION,
    tags::FILTER_TYPE,
    tags::TYPE_OF_FILTERS,
    tags::COLLIMATOR_GRID_NAME,
    tags::PADDLE_DESCRIPTION,
    tags::ACQUISITION_MODE,
    tags::DOSE_MODE_NAME,
    tags::ACQUISITION_FIELD_OF_VIEW_LABEL,
    tags::CONVOLUTION_KERNEL,
    tags::RECEIVE_COIL_NAME,
    tags::RECEIVE_COIL_MANUFACTURER_NAME,
    tags::TRANSMIT_COIL_NAME,
    tags::TRANSMIT_COIL_MANUFACTURER_NAME,
    tags::MULTI_COIL_CONFIGURATION,
    tags::MULTI_COIL_ELEMENT_NAME,
    tags::PLATE_TYPE,
    tags::PHOSPHOR_TYPE,
    tags::ACQUISITION_DEVICE_PROCESSING_CODE,
    tags::FRAME_LABEL_VECTOR,
    tags::DISPLAY_WINDOW_LABEL_VECTOR,
    tags::OUTPUT_POWER,
    tags::TRANSDUCER_DATA,
    tags::PROCESSING_FUNCTION,
    tags::POSTPROCESSING_FUNCTION,
    tags::DETECTOR_MANUFACTURER_NAME,
    tags::DETECTOR_MANUFACTURER_MODEL_NAME,
    tags::FIELD_OF_VIEW_DESCRIPTION,
    tags::PULSE_SEQUENCE_NAME,
    tags::APPLICABLE_SAFETY_STANDARD_DESCRIPTION,
    tags::ASL_TECHNIQUE_DESCRIPTION,
    tags::ASL_CRUSHER_DESCRIPTION,
    tags::ASL_BOLUS_CUTOFF_TECHNIQUE,
    tags::IMAGE_FILTER,
    tags::APPLICATION_NAME,
    tags::APPLICATION_VERSION,
    tags::APPLICATION_MANUFACTURER,
    tags::IMAGE_GEOMETRY_TYPE,
    tags::TARGET_POSITION_REFERENCE_INDICATOR,
    tags::POSITION_REFERENCE_INDICATOR,
    tags::STACK_ID,
    tags::DIMENSION_INDEX_PRIVATE_CREATOR,
    tags::FUNCTIONAL_GROUP_PRIVATE_CREATOR,
    tags::DIMENSION_DESCRIPTION_LABEL,
    tags::PIXEL_SPACING_CALIBRATION_DESCRIPTION,
    tags::RESCALE_TYPE,
    tags::WINDOW_CENTER_WIDTH_EXPLANATION,
    tags::ICC_PROFILE,
    tags::LUT_EXPLANATION,
    tags::MODALITY_LUT_TYPE,
    tags::LUT_LABEL,
    tags::MULTIPLEX_GROUP_LABEL,
    tags::CHANNEL_LABEL,
    tags::WAVEFORM_DATA,
    tags::WAVEFORM_PADDING_VALUE,
    tags::CHANNEL_MINIMUM_VALUE,
    tags::CHANNEL_MAXIMUM_VALUE,
    tags::OPTICAL_PATH_IDENTIFIER,
    tags::REFERENCED_OPTICAL_PATH_IDENTIFIER,
    tags::ENERGY_WINDOW_NAME,
    tags::ATTENUATION_CORRECTION_METHOD,
    tags::RECONSTRUCTION_METHOD,
    tags::DETECTOR_LINES_OF_RESPONSE_USED,
    tags::SCATTER_CORRECTION_METHOD,
    tags::SEGMENT_ALGORITHM_NAME,
    tags::ALGORITHM_NAME,
    tags::ALGORITHM_VERSION,
];

/// Z of the table.
const EMPTIED: [Tag; 15] = [
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::STUDY_ID,
    tags::CONTENT_DATE,
    tags::CONTENT_TIME,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::CONTENT_CREATOR_NAME,
    tags::CONTENT_DESCRIPTION,
    tags::CONTRAST_BOLUS_AGENT,
    tags::ROI_NAME,
    tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
];

/// D of the table: required where they stand, so they cannot be emptied.
const REPLACED: [Tag; 14] = [
    tags::VERIFYING_OBSERVER_NAME,
    tags::VERIFYING_ORGANIZATION,
    tags::VERIFICATION_DATE_TIME,
    tags::PERSON_NAME,
    tags::DATE_TIME,
    tags::DATE,
    tags::TIME,
    tags::TEXT_VALUE,
    tags::UNFORMATTED_TEXT_VALUE,
    tags::CONTAINER_IDENTIFIER,
    tags::SPECIMEN_IDENTIFIER,
    tags::SEGMENT_LABEL,
    tags::STRUCTURE_SET_LABEL,
    tags::RT_PLAN_LABEL,
];

/// X of the table. Old modalities still write what is retired by now.
#[expect(deprecated)]
const REMOVED: &[Tag] = &[
    tags::ADMITTING_DATE,
    tags::ADMITTING_TIME,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    tags::ADMISSION_ID,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::ALLERGIES,
    tags::ACQUISITION_COMMENTS,
    tags::ACQUISITION_DEVICE_PROCESSING_DESCRIPTION,
    tags::ACQUISITION_PROTOCOL_DESCRIPTION,
    tags::AUTHOR_OBSERVER_SEQUENCE,
    tags::BRANCH_OF_SERVICE,
    tags::CASSETTE_ID,
    tags::CLINICAL_TRIAL_SPONSOR_NAME,
    tags::COMMENTS_ON_THE_PERFORMED_PROCEDURE_STEP,
    tags::CONFIDENTIALITY_CONSTRAINT_ON_PATIENT_DATA_DESCRIPTION,
    tags::CONTENT_CREATOR_IDENTIFICATION_CODE_SEQUENCE,
    tags::CONTRIBUTING_EQUIPMENT_SEQUENCE,
    tags::CONTRIBUTION_DESCRIPTION,
    tags::COUNTRY_OF_RESIDENCE,
    tags::CURRENT_PATIENT_LOCATION,
    tags::CUSTODIAL_ORGANIZATION_SEQUENCE,
    tags::DERIVATION_DESCRIPTION,
    tags::DETECTOR_ID,
    tags::DEVICE_SERIAL_NUMBER,
    tags::DISCHARGE_DIAGNOSIS_DESCRIPTION,
    tags::ETHNIC_GROUP,
    tags::FRAME_COMMENTS,
    tags::GANTRY_ID,
    tags::GENERATOR_ID,
    tags::IMAGE_COMMENTS,
    tags::IMAGE_PRESENTATION_COMMENTS,
    tags::IMAGING_SERVICE_REQUEST_COMMENTS,
    tags::IMPRESSIONS,
    tags::INSTITUTION_ADDRESS,
    tags::INSTITUTION_CODE_SEQUENCE,
    tags::INSTITUTION_NAME,
    tags::INSTITUTIONAL_DEPARTMENT_NAME,
    tags::INSURANCE_PLAN_IDENTIFICATION,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::ISSUER_OF_ADMISSION_ID,
    tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
    tags::ISSUER_OF_PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::LAST_MENSTRUAL_DATE,
    tags::MEDICAL_ALERTS,
    tags::MEDICAL_RECORD_LOCATOR,
    tags::MILITARY_RANK,
    tags::MODIFIED_ATTRIBUTES_SEQUENCE,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::PHYSICIANS_READING_STUDY_IDENTIFICATION_SEQUENCE,
    tags::PHYSICIANS_OF_RECORD,
    tags::PHYSICIANS_OF_RECORD_IDENTIFICATION_SEQUENCE,
    tags::OCCUPATION,
    tags::OPERATOR_IDENTIFICATION_SEQUENCE,
    tags::OPERATORS_NAME,
    tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
    tags::ORDER_CALLBACK_PHONE_NUMBER,
    tags::ORDER_ENTERED_BY,
    tags::ORDER_ENTERER_LOCATION,
    tags::OTHER_PATIENT_I_DS,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::OTHER_PATIENT_NAMES,
    tags::PARTICIPANT_SEQUENCE,
    tags::PATIENT_ADDRESS,
    tags::PATIENT_AGE,
    tags::PATIENT_BIRTH_NAME,
    tags::PATIENT_BIRTH_TIME,
    tags::PATIENT_COMMENTS,
    tags::PATIENT_INSTITUTION_RESIDENCE,
    tags::PATIENT_INSURANCE_PLAN_CODE_SEQUENCE,
    tags::PATIENT_MOTHER_BIRTH_NAME,
    tags::PATIENT_PRIMARY_LANGUAGE_CODE_SEQUENCE,
    tags::PATIENT_RELIGIOUS_PREFERENCE,
    tags::PATIENT_SIZE,
    tags::PATIENT_STATE,
    tags::PATIENT_TELECOM_INFORMATION,
    tags::PATIENT_TELEPHONE_NUMBERS,
    tags::PATIENT_TRANSPORT_ARRANGEMENTS,
    tags::PATIENT_WEIGHT,
    tags::PERFORMED_LOCATION,
    tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION,
    tags::PERFORMED_PROCEDURE_STEP_ID,
    tags::PERFORMED_PROCEDURE_STEP_START_DATE,
    tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    tags::PERFORMED_PROCEDURE_STEP_END_DATE,
    tags::PERFORMED_PROCEDURE_STEP_END_TIME,
    tags::PERFORMED_STATION_AE_TITLE,
    tags::PERFORMED_STATION_NAME,
    tags::PERFORMED_STATION_NAME_CODE_SEQUENCE,
    tags::PERFORMING_PHYSICIAN_NAME,
    tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::PERSON_ADDRESS,
    tags::PERSON_IDENTIFICATION_CODE_SEQUENCE,
    tags::PERSON_TELEPHONE_NUMBERS,
    tags::PLATE_ID,
    tags::PREGNANCY_STATUS,
    tags::PRE_MEDICATION,
    tags::PROTOCOL_NAME,
    tags::REASON_FOR_STUDY,
    tags::REASON_FOR_THE_REQUESTED_PROCEDURE,
    tags::REFERENCED_PATIENT_SEQUENCE,
    tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE,
    tags::REFERENCED_REQUEST_SEQUENCE,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERENCED_VISIT_SEQUENCE,
    tags::REFERRING_PHYSICIAN_ADDRESS,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::REFERRING_PHYSICIAN_TELEPHONE_NUMBERS,
    tags::REGION_OF_RESIDENCE,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
    tags::REQUESTED_PROCEDURE_COMMENTS,
    tags::REQUESTED_PROCEDURE_DESCRIPTION,
    tags::REQUESTED_PROCEDURE_ID,
    tags::REQUESTED_PROCEDURE_LOCATION,
    tags::REQUESTING_PHYSICIAN,
    tags::REQUESTING_SERVICE,
    tags::RESPONSIBLE_ORGANIZATION,
    tags::RESPONSIBLE_PERSON,
    tags::RETRIEVE_AE_TITLE,
    tags::REVIEWER_NAME,
    tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME,
    tags::SCHEDULED_PROCEDURE_STEP_ID,
    tags::SCHEDULED_PROCEDURE_STEP_LOCATION,
    tags::SCHEDULED_STATION_AE_TITLE,
    tags::SCHEDULED_STATION_NAME,
    tags::SERIES_DATE,
    tags::SERIES_TIME,
    tags::SERIES_DESCRIPTION,
    tags::SERVICE_EPISODE_DESCRIPTION,
    tags::SERVICE_EPISODE_ID,
    tags::SMOKING_STATUS,
    tags::SPECIAL_NEEDS,
    tags::STATION_NAME,
    tags::STUDY_COMMENTS,
    tags::STUDY_DESCRIPTION,
    tags::TEXT_COMMENTS,
    tags::TEXT_STRING,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::VISIT_COMMENTS,
    tags::ACQUISITION_DATE,
    tags::ACQUISITION_TIME,
    tags::ACQUISITION_DATE_TIME,
    tags::DATE_OF_LAST_CALIBRATION,
    tags::TIME_OF_LAST_CALIBRATION,
    tags::DATE_OF_SECONDARY_CAPTURE,
    tags::TIME_OF_SECONDARY_CAPTURE,
    tags::FRAME_ACQUISITION_DATE_TIME,
    tags::FRAME_REFERENCE_DATE_TIME,
    tags::INSTANCE_CREATION_DATE,
    tags::INSTANCE_CREATION_TIME,
    tags::ICON_IMAGE_SEQUENCE,
    tags::DIGITAL_SIGNATURES_SEQUENCE,
    tags::ENCRYPTED_ATTRIBUTES_SEQUENCE,
    tags::CURVE_DATE,
    tags::OVERLAY_DATE,
    tags::CURVE_TIME,
    tags::OVERLAY_TIME,
    tags::OBSERVATION_DATE_TIME,
    tags::RADIOPHARMACEUTICAL_START_DATE_TIME,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// All there are.
    const SPELLED: [VR; 34] = [
        VR::AE,
        VR::AS,
        VR::AT,
        VR::CS,
        VR::DA,
        VR::DS,
        VR::DT,
        VR::FL,
        VR::FD,
        VR::IS,
        VR::LO,
        VR::LT,
        VR::OB,
        VR::OD,
        VR::OF,
        VR::OL,
        VR::OV,
        VR::OW,
        VR::PN,
        VR::SH,
        VR::SL,
        VR::SQ,
        VR::SS,
        VR::ST,
        VR::SV,
        VR::TM,
        VR::UC,
        VR::UI,
        VR::UL,
        VR::UN,
        VR::UR,
        VR::US,
        VR::UT,
        VR::UV,
    ];

    #[test]
    fn a_uid_is_replaced_the_same_way_everywhere_and_only_with_the_key() {
        let (ours, theirs) = (Pseudonyms::new(b"ours"), Pseudonyms::new(b"theirs"));
        assert_eq!(ours.uid("1.2.3"), ours.uid("1.2.3"));
        assert_ne!(ours.uid("1.2.3"), theirs.uid("1.2.3"));
        assert_ne!(ours.uid("1.2.3"), ours.uid("1.2.4"));
        assert!(super::super::is_uid(&ours.uid("1.2.3")));
        assert_eq!(ours.uid("1.2.840.10008.5.1.4.1.1.2"), "1.2.840.10008.5.1.4.1.1.2");
    }

    #[test]
    fn the_same_number_of_two_issuers_is_two_patients_and_of_one_the_same_in_every_version() {
        let names = Pseudonyms::new(b"secret");
        // HMAC-SHA-256 of `00100020:A\\P-1`, by hand.
        assert_eq!(names.name(tags::PATIENT_ID, "A", "P-1"), "ANON316DAF300269FEC2");
        assert_eq!(names.name(tags::PATIENT_ID, "", "P-1"), "ANON4CAA5ECBD0145C8C");
        assert_ne!(names.name(tags::PATIENT_ID, "B", "P-1"), names.name(tags::PATIENT_ID, "A", "P-1"));
        assert_ne!(names.name(tags::PATIENT_NAME, "A", "P-1"), names.name(tags::PATIENT_ID, "A", "P-1"));
        assert_eq!(names.name(tags::PATIENT_ID, "A", ""), "");
    }

    #[test]
    fn no_attribute_stands_in_two_lists() {
        let mut all: Vec<Tag> =
            EMPTIED.iter().chain(&REPLACED).chain(REMOVED).chain(&KINDS).chain(TECHNICAL).copied().collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn identifiers_of_the_standards_table_go_whatever_their_representation() {
        let identifiers = [
            // Of clinical trials.
            (0x0012, 0x0010),
            (0x0012, 0x0020),
            (0x0012, 0x0030),
            (0x0012, 0x0031),
            (0x0012, 0x0040),
            (0x0012, 0x0042),
            (0x0012, 0x0081),
            // Cameras: owner, serial number, place.
            (0x0016, 0x0072),
            (0x0016, 0x004f),
            (0x0016, 0x0076),
            // Addresses and stations.
            (0x0008, 0x0055),
            (0x0008, 0x1000),
            (0x0008, 0x1190),
            (0x0040, 0xe010),
            // Requests and their reasons.
            (0x0040, 0x2001),
            (0x0040, 0x2006),
            (0x0040, 0x2007),
            (0x0032, 0x1066),
            (0x0038, 0x0011),
            (0x0040, 0x4037),
            // Topics, labels, keys and signatures.
            (0x0088, 0x0904),
            (0x0088, 0x0906),
            (0x0088, 0x0910),
            (0x0088, 0x0912),
            (0x3006, 0x0004),
            (0x300a, 0x0003),
            (0x0400, 0x0115),
            (0x0400, 0x0404),
        ];
        for (group, element) in identifiers {
            let tag = Tag(group, element);
            assert!(standard_value_representation(tag).is_some(), "{tag} is no attribute");
            for spelled in SPELLED {
                let action = basic(tag, spelled);
                assert!(matches!(action, Action::Remove | Action::Empty), "{tag} as {spelled:?}: {action:?}");
            }
        }
        // An object without one of its own is not valid.
        for tag in [Tag(0x0040, 0x0512), Tag(0x0040, 0x0551)] {
            assert_eq!(basic(tag, VR::LO), Action::Dummy, "{tag}");
        }
        for vr in SPELLED {
            assert_eq!(basic(Tag(0x0018, 0x9ffe), vr), Action::Remove, "of a later standard, {vr:?}");
        }
    }

    #[test]
    fn a_representation_that_is_spelled_wrongly_saves_nothing() {
        for spelled in SPELLED {
            let uid = basic(tags::FRAME_OF_REFERENCE_UID, spelled);
            assert!(uid >= Action::NewUid, "a UID as {spelled:?}: {uid:?}");
            let person = basic(tags::CONSULTING_PHYSICIAN_NAME, spelled);
            assert!(person >= Action::Empty, "a person as {spelled:?}: {person:?}");
            // And the other way round: who spells a technical one as text or time means text or time.
            let text = matches!(by_representation(spelled), Action::Remove | Action::Empty | Action::NewUid);
            let rows = basic(tags::ROWS, spelled);
            assert_eq!(rows != Action::Keep, text && spelled != VR::UN, "rows as {spelled:?}: {rows:?}");
        }
    }

    #[test]
    fn what_is_technical_stays_and_would_go_if_it_were_not_listed() {
        for tag in TECHNICAL {
            let vr = standard_value_representation(*tag).expect("an attribute");
            assert!(matches!(vr, VR::LO | VR::SH | VR::UC | VR::UR | VR::OB | VR::OW), "{tag}: {vr:?}");
            assert_eq!(basic(*tag, vr), Action::Keep, "{tag}");
        }
    }
}
