//! What a document says to EHRs: the measurements of a structured report, or an encapsulated PDF.
//!
//! | SOP class | what EHRs get |
//! |---|---|
//! | Enhanced, Comprehensive, Comprehensive 3D, Extensible, Simplified Adult Echo SR | its measurements, whatever its template |
//! | Encapsulated PDF | the document |
//!
//! Other documents (basic text, dose reports, CAD, key objects, CDA) are for the archive alone.

use super::Desk;
use super::study::Member;
use crate::clinical::Coding;
use crate::clinical::imaging::{Instance as Object, MeasurementReport};
use crate::journal::{Grounds, Instance, JournalError, Reader};
use crate::mapping::imaging::{self, ImagingMessage};
use crate::message::dicom::{
    End, HEAD_BYTES_MAX, Head, Limits, Value, Walked, first_coding, measurement_report, tags, walk,
};

/// What the UIDs of SOP classes begin with that may name a document they take the place of: structured reports and
/// encapsulated documents.
const DOCUMENTS: [&str; 2] = ["1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.104."];
/// Structured reports whose numbers are measurements (PS3.4 B.5).
const MEASUREMENT_REPORTS: [&str; 5] = [
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.35",
    "1.2.840.10008.5.1.4.1.1.88.72",
];
/// Encapsulated PDF Storage.
const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";

/// A document, read.
pub(super) enum Content {
    Measurements(MeasurementReport),
    Pdf {
        object: Object,
        code: Option<Coding>,
        bytes: Vec<u8>,
    },
    /// One of which no EHR hears. By a person's word it takes the place of another.
    Silent,
}

impl Content {
    /// True when nobody has verified it. A PDF need not say (PS3.3 C.24.2); one that does not is not known to be.
    pub(super) fn is_unverified(&self) -> bool {
        match self {
            Content::Measurements(report) => !imaging::is_final(&report.completion, &report.verification),
            Content::Pdf { object, .. } => object.verification == "UNVERIFIED" || object.completion == "PARTIAL",
            Content::Silent => false,
        }
    }
}

impl Desk {
    /// The measurements that count: all but raw ones, unless some EHR wants these too.
    pub(super) fn wanted(&self, link: &str, measured: &MeasurementReport) -> Vec<usize> {
        let with_raw = self.hearing(ImagingMessage::Measurements, link).any(|to| to.imaging.raw_values);
        let all = measured.measurements.iter().enumerate();
        all.filter(|(_, measurement)| with_raw || !measurement.is_raw).map(|(at, _)| at).collect()
    }

    /// What a document is for the EHRs that hear of it; `None` when none does.
    pub(super) fn heard_as(&self, member: &Member) -> Option<ImagingMessage> {
        kind(&member.object.sop_class_uid).filter(|what| self.hear_of(*what, &member.link))
    }

    /// A document, or why a person must look at it.
    pub(super) fn read(
        &self,
        reader: &Reader,
        member: &Member,
        instance: &Instance,
        first_uid: &str,
    ) -> Result<Result<Content, Grounds>, JournalError> {
        if self.heard_as(member).is_none() {
            return Ok(Ok(Content::Silent));
        }
        let max = self.config.document_bytes_max();
        let held = |reason: &'static str, why: String| Ok(Err(Grounds { reason, rule: None, why }));
        let too_large = || {
            let why = format!("the document is larger than document_mb_max = {}", self.config.document_mb_max);
            held("too-large", why)
        };
        if instance.bytes > (max + HEAD_BYTES_MAX) as u64 {
            return too_large();
        }
        let file = match reader.open_instance(instance) {
            Err(JournalError::Damaged) => return held("damaged", "the file of the document is lost".to_string()),
            file => file?,
        };
        let limits = Limits { bytes: max + HEAD_BYTES_MAX, value_bytes: max };
        let walked = walk(file, &instance.transfer_syntax_uid, limits);
        let end = walked.end;
        if end == End::Limit {
            return too_large();
        }
        if end != End::Whole {
            return held("unreadable", "the document is cut short, nested too deeply or out of order".to_string());
        }
        if instance.sop_class_uid == PDF {
            return match pdf(walked, instance) {
                Some(Content::Pdf { bytes, .. }) if bytes.is_empty() => Ok(Ok(Content::Silent)),
                Some(pdf) => Ok(Ok(pdf)),
                None => too_large(),
            };
        }
        match measurement_report(&walked.data_set) {
            None => held("unreadable", "the structured report has no content tree".to_string()),
            Some(report) if report.is_cut => held(
                "too-large",
                "the structured report has more measurements, or longer words, than are read".to_string(),
            ),
            Some(mut report) => {
                // The command that brought it says which instance it is.
                report.sop_instance_uid.clone_from(&instance.sop_instance_uid);
                if first_uid != instance.sop_instance_uid {
                    report.first_uid = first_uid.to_string();
                }
                Ok(Ok(Content::Measurements(report)))
            }
        }
    }
}

/// True when a document of this kind has something for EHRs, as far as it was read.
pub(super) fn says_anything(what: ImagingMessage, walked: &Walked) -> bool {
    let says_nothing = match what {
        ImagingMessage::Measurements => {
            measurement_report(&walked.data_set).is_some_and(|r| r.measurements.is_empty() && !r.is_cut)
        }
        _ => walked
            .data_set
            .get(tags::ENCAPSULATED_DOCUMENT)
            .is_none_or(|element| !matches!(element.value, Value::PassedOver(_)) && element.bytes().is_empty()),
    };
    walked.end != End::Whole || !says_nothing
}

/// The document in an object, without its padding; `None` when it is longer than may be read.
fn pdf(walked: Walked, instance: &Instance) -> Option<Content> {
    let code = first_coding(&walked.data_set, tags::CONCEPT_NAME_CODE_SEQUENCE);
    let head = Head::of(walked);
    let element = head.data_set.get(tags::ENCAPSULATED_DOCUMENT);
    if matches!(element.map(|e| &e.value), Some(Value::PassedOver(_))) {
        return None;
    }
    let mut bytes = element.map(|e| e.bytes().to_vec()).unwrap_or_default();
    match head.data_set.number(tags::ENCAPSULATED_DOCUMENT_LENGTH) {
        Some(length) if (length as usize) < bytes.len() => bytes.truncate(length as usize),
        // A document of odd length is padded with a zero byte (PS3.5 6.2).
        _ => {
            if bytes.len().is_multiple_of(2) && bytes.last() == Some(&0) {
                bytes.pop();
            }
        }
    }
    let object = Object {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        ..head.instance
    };
    Some(Content::Pdf { object, code, bytes })
}

/// True for the SOP classes of documents that may name one they take the place of.
pub(super) fn is_document(sop_class_uid: &str) -> bool {
    DOCUMENTS.iter().any(|class| sop_class_uid.starts_with(class))
}

/// What a document of this SOP class is for EHRs.
pub(super) fn kind(sop_class_uid: &str) -> Option<ImagingMessage> {
    if MEASUREMENT_REPORTS.contains(&sop_class_uid) {
        Some(ImagingMessage::Measurements)
    } else {
        (sop_class_uid == PDF).then_some(ImagingMessage::Documents)
    }
}
