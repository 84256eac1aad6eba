//! The value representations of the attributes that are read, for data sets that do not spell them (Implicit VR).
//!
//! Reading needs no more: what is not read needs no representation, and sequences of other attributes are known by
//! their first item. Who has to judge every attribute asks the whole data dictionary of PS3.6.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

/// The value representation of any standard attribute, retired ones and repeating groups included, of private creators
/// and group lengths. Where the Standard allows more than one, the first: US of US or SS, OW of OB or OW.
pub fn standard_value_representation(tag: Tag) -> Option<VR> {
    StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed())
}

/// The value representation of a standard attribute, when it is one that is read here.
#[expect(deprecated, reason = "old modalities still write what is retired by now")]
pub fn value_representation(tag: Tag) -> Option<VR> {
    Some(match tag {
        Tag(_, 0) => VR::UL,
        Tag(group, 0x0010..=0x00ff) if group % 2 == 1 => VR::LO,
        tags::PERFORMED_STATION_AE_TITLE | tags::RETRIEVE_AE_TITLE | tags::SCHEDULED_STATION_AE_TITLE => VR::AE,
        tags::PATIENT_AGE => VR::AS,
        tags::BODY_PART_EXAMINED
        | tags::BURNED_IN_ANNOTATION
        | tags::COMPLETION_FLAG
        | tags::CONTENT_LABEL
        | tags::CONTINUITY_OF_CONTENT
        | tags::GRAPHIC_TYPE
        | tags::IDENTIFIER_TYPE_CODE
        | tags::IMAGE_LATERALITY
        | tags::IMAGE_TYPE
        | tags::LATERALITY
        | tags::MAPPING_RESOURCE
        | tags::MODALITIES_IN_STUDY
        | tags::MODALITY
        | tags::PATIENT_IDENTITY_REMOVED
        | tags::PATIENT_SEX
        | tags::PATIENT_SEX_NEUTERED
        | tags::PERFORMED_PROCEDURE_STEP_STATUS
        | tags::PRELIMINARY_FLAG
        | tags::QUERY_RETRIEVE_LEVEL
        | tags::RELATIONSHIP_TYPE
        | tags::SCHEDULED_PROCEDURE_STEP_STATUS
        | tags::SMOKING_STATUS
        | tags::SPECIFIC_CHARACTER_SET
        | tags::TEMPLATE_IDENTIFIER
        | tags::TEMPORAL_RANGE_TYPE
        | tags::TYPE_OF_PATIENT_ID
        | tags::UNIFIED_PROCEDURE_STEP_LIST_STATUS
        | tags::UNIVERSAL_ENTITY_ID_TYPE
        | tags::VALUE_TYPE
        | tags::VERIFICATION_FLAG => VR::CS,
        tags::ACQUISITION_DATE
        | tags::CONTENT_DATE
        | tags::DATE
        | tags::INSTANCE_CREATION_DATE
        | tags::LAST_MENSTRUAL_DATE
        | tags::PATIENT_BIRTH_DATE
        | tags::PERFORMED_PROCEDURE_STEP_END_DATE
        | tags::PERFORMED_PROCEDURE_STEP_START_DATE
        | tags::SCHEDULED_PROCEDURE_STEP_END_DATE
        | tags::SCHEDULED_PROCEDURE_STEP_START_DATE
        | tags::SERIES_DATE
        | tags::STUDY_DATE => VR::DA,
        tags::NUMERIC_VALUE | tags::PATIENT_SIZE | tags::PATIENT_WEIGHT => VR::DS,
        tags::ACQUISITION_DATE_TIME | tags::DATE_TIME | tags::OBSERVATION_DATE_TIME | tags::VERIFICATION_DATE_TIME => {
            VR::DT
        }
        tags::GRAPHIC_DATA => VR::FL,
        tags::INSTANCE_NUMBER
        | tags::NUMBER_OF_FRAMES
        | tags::NUMBER_OF_SERIES_RELATED_INSTANCES
        | tags::NUMBER_OF_STUDY_RELATED_INSTANCES
        | tags::NUMBER_OF_STUDY_RELATED_SERIES
        | tags::REFERENCED_FRAME_NUMBER
        | tags::SERIES_NUMBER => VR::IS,
        tags::ADMISSION_ID
        | tags::ADMITTING_DIAGNOSES_DESCRIPTION
        | tags::ALLERGIES
        | tags::BRANCH_OF_SERVICE
        | tags::CODE_MEANING
        | tags::COMPLETION_FLAG_DESCRIPTION
        | tags::CONFIDENTIALITY_CODE
        | tags::CONFIDENTIALITY_CONSTRAINT_ON_PATIENT_DATA_DESCRIPTION
        | tags::CONTENT_DESCRIPTION
        | tags::CURRENT_PATIENT_LOCATION
        | tags::DEIDENTIFICATION_METHOD
        | tags::DEVICE_SERIAL_NUMBER
        | tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST
        | tags::INSTITUTIONAL_DEPARTMENT_NAME
        | tags::INSTITUTION_NAME
        | tags::ISSUER_OF_PATIENT_ID
        | tags::MANUFACTURER
        | tags::MANUFACTURER_MODEL_NAME
        | tags::MEDICAL_ALERTS
        | tags::MILITARY_RANK
        | tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT
        | tags::OTHER_PATIENT_I_DS
        | tags::PATIENT_ADDRESS
        | tags::PATIENT_ID
        | tags::PATIENT_RELIGIOUS_PREFERENCE
        | tags::PATIENT_SPECIES_DESCRIPTION
        | tags::PATIENT_STATE
        | tags::PATIENT_TRANSPORT_ARRANGEMENTS
        | tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION
        | tags::PERFORMED_PROCEDURE_TYPE_DESCRIPTION
        | tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST
        | tags::PRE_MEDICATION
        | tags::PROTOCOL_NAME
        | tags::REASON_FOR_THE_REQUESTED_PROCEDURE
        | tags::REQUESTED_PROCEDURE_DESCRIPTION
        | tags::REQUESTED_PROCEDURE_LOCATION
        | tags::REQUESTING_SERVICE
        | tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION
        | tags::SERIES_DESCRIPTION
        | tags::SERVICE_EPISODE_ID
        | tags::SOFTWARE_VERSIONS
        | tags::SPECIAL_NEEDS
        | tags::STUDY_DESCRIPTION
        | tags::VERIFYING_ORGANIZATION => VR::LO,
        tags::ADDITIONAL_PATIENT_HISTORY
        | tags::IMAGE_COMMENTS
        | tags::PATIENT_COMMENTS
        | tags::REQUESTED_PROCEDURE_COMMENTS
        | tags::STUDY_COMMENTS => VR::LT,
        tags::ENCAPSULATED_DOCUMENT => VR::OB,
        tags::CONTENT_CREATOR_NAME
        | tags::NAME_OF_PHYSICIANS_READING_STUDY
        | tags::OPERATORS_NAME
        | tags::OTHER_PATIENT_NAMES
        | tags::PATIENT_MOTHER_BIRTH_NAME
        | tags::PATIENT_NAME
        | tags::PERFORMING_PHYSICIAN_NAME
        | tags::PERSON_NAME
        | tags::PHYSICIANS_OF_RECORD
        | tags::REFERRING_PHYSICIAN_NAME
        | tags::REQUESTING_PHYSICIAN
        | tags::RESPONSIBLE_PERSON
        | tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME
        | tags::VERIFYING_OBSERVER_NAME => VR::PN,
        tags::ACCESSION_NUMBER
        | tags::CODE_VALUE
        | tags::CODING_SCHEME_DESIGNATOR
        | tags::CODING_SCHEME_VERSION
        | tags::ETHNIC_GROUP
        | tags::OCCUPATION
        | tags::PATIENT_TELEPHONE_NUMBERS
        | tags::PERFORMED_LOCATION
        | tags::PERFORMED_PROCEDURE_STEP_ID
        | tags::PERFORMED_STATION_NAME
        | tags::REPORTING_PRIORITY
        | tags::REQUESTED_PROCEDURE_ID
        | tags::REQUESTED_PROCEDURE_PRIORITY
        | tags::SCHEDULED_PROCEDURE_STEP_ID
        | tags::SCHEDULED_PROCEDURE_STEP_LOCATION
        | tags::SCHEDULED_STATION_NAME
        | tags::STATION_NAME
        | tags::STUDY_ID
        | tags::TIMEZONE_OFFSET_FROM_UTC => VR::SH,
        tags::ANATOMIC_REGION_MODIFIER_SEQUENCE
        | tags::ANATOMIC_REGION_SEQUENCE
        | tags::CONCEPT_CODE_SEQUENCE
        | tags::CONCEPT_NAME_CODE_SEQUENCE
        | tags::CONTENT_SEQUENCE
        | tags::CONTENT_TEMPLATE_SEQUENCE
        | tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE
        | tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE
        | tags::FAILED_SOP_SEQUENCE
        | tags::IDENTICAL_DOCUMENTS_SEQUENCE
        | tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE
        | tags::ISSUER_OF_ADMISSION_ID_SEQUENCE
        | tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE
        | tags::MEASURED_VALUE_SEQUENCE
        | tags::MEASUREMENT_UNITS_CODE_SEQUENCE
        | tags::MODIFIER_CODE_SEQUENCE
        | tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE
        | tags::ORDER_FILLER_IDENTIFIER_SEQUENCE
        | tags::ORDER_PLACER_IDENTIFIER_SEQUENCE
        | tags::OTHER_PATIENT_I_DS_SEQUENCE
        | tags::PERFORMED_PROCEDURE_CODE_SEQUENCE
        | tags::PERFORMED_PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE
        | tags::PERFORMED_PROTOCOL_CODE_SEQUENCE
        | tags::PERFORMED_SERIES_SEQUENCE
        | tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE
        | tags::PREDECESSOR_DOCUMENTS_SEQUENCE
        | tags::PRIMARY_ANATOMIC_STRUCTURE_SEQUENCE
        | tags::PROCEDURE_CODE_SEQUENCE
        | tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE
        | tags::REASON_FOR_REQUESTED_PROCEDURE_CODE_SEQUENCE
        | tags::REFERENCED_IMAGE_SEQUENCE
        | tags::REFERENCED_INSTANCE_SEQUENCE
        | tags::REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE
        | tags::REFERENCED_PATIENT_SEQUENCE
        | tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE
        | tags::REFERENCED_REQUEST_SEQUENCE
        | tags::REFERENCED_SERIES_SEQUENCE
        | tags::REFERENCED_SOP_SEQUENCE
        | tags::REFERENCED_STUDY_SEQUENCE
        | tags::REFERENCED_VISIT_SEQUENCE
        | tags::REQUESTED_PROCEDURE_CODE_SEQUENCE
        | tags::REQUEST_ATTRIBUTES_SEQUENCE
        | tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE
        | tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE
        | tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE
        | tags::SERIES_DESCRIPTION_CODE_SEQUENCE
        | tags::SOURCE_IMAGE_SEQUENCE
        | tags::SOURCE_INSTANCE_SEQUENCE
        | tags::VERIFYING_OBSERVER_SEQUENCE => VR::SQ,
        tags::COMMENTS_ON_THE_PERFORMED_PROCEDURE_STEP
        | tags::DERIVATION_DESCRIPTION
        | tags::DOCUMENT_TITLE
        | tags::INSTITUTION_ADDRESS => VR::ST,
        tags::ACQUISITION_TIME
        | tags::CONTENT_TIME
        | tags::INSTANCE_CREATION_TIME
        | tags::PATIENT_BIRTH_TIME
        | tags::PERFORMED_PROCEDURE_STEP_END_TIME
        | tags::PERFORMED_PROCEDURE_STEP_START_TIME
        | tags::SCHEDULED_PROCEDURE_STEP_END_TIME
        | tags::SCHEDULED_PROCEDURE_STEP_START_TIME
        | tags::SERIES_TIME
        | tags::STUDY_TIME
        | tags::TIME => VR::TM,
        tags::LONG_CODE_VALUE => VR::UC,
        tags::FRAME_OF_REFERENCE_UID
        | tags::REFERENCED_SOP_CLASS_UID
        | tags::REFERENCED_SOP_INSTANCE_UID
        | tags::SERIES_INSTANCE_UID
        | tags::SOP_CLASSES_IN_STUDY
        | tags::SOP_CLASS_UID
        | tags::SOP_INSTANCE_UID
        | tags::STUDY_INSTANCE_UID
        | tags::TRANSACTION_UID
        | tags::UID => VR::UI,
        tags::ENCAPSULATED_DOCUMENT_LENGTH
        | tags::REFERENCED_CONTENT_ITEM_IDENTIFIER
        | tags::REFERENCED_SAMPLE_POSITIONS => VR::UL,
        tags::RETRIEVE_URI | tags::RETRIEVE_URL | tags::URN_CODE_VALUE => VR::UR,
        tags::ANNOTATION_GROUP_NUMBER | tags::COLUMNS | tags::FAILURE_REASON | tags::PREGNANCY_STATUS | tags::ROWS => {
            VR::US
        }
        tags::LOCAL_NAMESPACE_ENTITY_ID | tags::TEXT_VALUE | tags::UNIVERSAL_ENTITY_ID => VR::UT,
        _ => return None,
    })
}
