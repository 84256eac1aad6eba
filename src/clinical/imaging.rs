//! Imaging: study, series and instance as a modality describes them (PS3.3 C.7), free of their encoding.
//!
//! UIDs name things and no person. Everything that names or describes a patient, or the order made for one, sits in a
//! [`Phi`] (invariant I8).

mod charted;
mod doubt;
mod measurement;

pub use charted::{Charted, ChartedDocument, IMAGING_DOCUMENT, Panel, Update};
pub use doubt::StudyDoubt;
pub use measurement::{Measurement, MeasurementReport, Modifier, ModifierValue, snomed_ct_twin};

use super::{Coding, Phi, Timestamp, WorkOrder};
use serde::{Deserialize, Serialize};

/// A study: what one request for imaging led to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Study {
    /// (0020,000D); empty when the object names none that is a UID.
    pub instance_uid: String,
    /// (0020,0010), as the modality counts.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub id: Phi,
    /// (0008,0020) to (0008,0030), and the offset of (0008,0201).
    #[serde(skip_serializing_if = "DicomTime::is_empty")]
    pub started: DicomTime,
    /// (0008,1030).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// (0008,0050).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub accession_number: Phi,
    /// Who gave the accession number, (0008,0051).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub accession_authority: String,
    /// (0008,0090), as a person name (PN).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub referring_physician: Phi,
    /// What was done, (0008,1032).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub procedures: Vec<Coding>,
}

/// A series: what one piece of equipment made in one go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Series {
    /// (0020,000E); empty when the object names none that is a UID.
    pub instance_uid: String,
    /// (0008,0060).
    pub modality: String,
    /// (0020,0011).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub number: String,
    /// (0008,103E).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// (0018,0015).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body_part: String,
    /// The anatomic region as a code, (0008,2218).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_site: Option<Coding>,
    /// (0020,0060): R or L.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub laterality: String,
    /// (0008,0021) and (0008,0031).
    #[serde(skip_serializing_if = "DicomTime::is_empty")]
    pub started: DicomTime,
    /// (0018,1030).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// (0008,0070).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
    /// (0008,1090).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// (0018,1000).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// (0018,1020), the first value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub software_version: String,
    /// (0008,1010).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub station: String,
}

/// An instance: one object a modality stores.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// (0008,0016).
    pub sop_class_uid: String,
    /// (0008,0018).
    pub sop_instance_uid: String,
    /// (0020,0013).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub number: String,
    /// (0028,0008), when it says more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// (0008,0023) and (0008,0033).
    #[serde(skip_serializing_if = "DicomTime::is_empty")]
    pub made: DicomTime,
    /// (0042,0010), or the name of the root of a structured report.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// (0042,0012): what an encapsulated document is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// (0040,A491): PARTIAL or COMPLETE.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub completion: String,
    /// (0040,A493): UNVERIFIED or VERIFIED.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verification: String,
}

/// A request an object says it answers (PS3.3 table 10-9).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagingRequest {
    /// (0008,0050).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub accession_number: Phi,
    /// Who gave the accession number, (0008,0051).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub accession_authority: String,
    /// (0040,2016).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub placer_order_number: Phi,
    /// Who gave the placer's number, (0040,0026).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub placer_authority: String,
    /// (0040,2017).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub filler_order_number: Phi,
    /// Who gave the filler's number, (0040,0027).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filler_authority: String,
    /// (0040,1001).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub requested_procedure_id: Phi,
    /// (0040,0009).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub scheduled_procedure_step_id: Phi,
    /// (0032,1060).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// (0032,1064).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procedure: Option<Coding>,
}

impl ImagingRequest {
    /// The request an order makes for a study; `None` when it asks for no such study.
    pub fn of(order: &WorkOrder, study_instance_uid: &str) -> Option<ImagingRequest> {
        let imaging = order.imaging.as_ref()?;
        let procedure = imaging.procedures.iter().find(|p| p.study_instance_uid == study_instance_uid)?;
        let step = procedure.steps.first();
        Some(ImagingRequest {
            accession_number: imaging.accession_number.clone(),
            accession_authority: String::new(),
            placer_order_number: order.placer_order_number.id.clone(),
            placer_authority: order.placer_order_number.namespace.clone(),
            filler_order_number: order.filler_order_number.id.clone(),
            filler_authority: order.filler_order_number.namespace.clone(),
            requested_procedure_id: Phi::new(procedure.id.as_str()),
            scheduled_procedure_step_id: Phi::new(step.map(|step| step.id.clone()).unwrap_or_default()),
            description: procedure.code.text.clone(),
            procedure: Some(procedure.code.clone()).filter(|code| !code.code.is_empty()),
        })
    }

    /// True when it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == ImagingRequest::default()
    }
}

/// A date and a time as DICOM writes them: DA, TM and the offset of (0008,0201), digits as they came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DicomTime {
    /// `YYYYMMDD`.
    pub date: String,
    /// `HHMMSS.FFFFFF`, or less of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub time: String,
    /// `+HHMM` or `-HHMM`; empty when the object does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub offset: String,
}

impl DicomTime {
    /// True without a date: a time alone says nothing.
    pub fn is_empty(&self) -> bool {
        self.date.is_empty()
    }

    /// From a DT value, `YYYYMMDDHHMMSS.FFFFFF&ZZXX` or less of it.
    pub fn from_date_time(text: &str) -> DicomTime {
        let (local, offset) = text.trim().split_at(text.trim().find(['+', '-']).unwrap_or(text.trim().len()));
        let (date, time) = local.split_at_checked(8).unwrap_or((local, ""));
        DicomTime { date: date.to_string(), time: time.to_string(), offset: offset.to_string() }
    }

    /// The time; `zone` is that of the site, for objects that name no offset. `None` when it is no time.
    pub fn timestamp(&self, zone: &jiff::tz::TimeZone) -> Option<Timestamp> {
        // Before 1993 dates had dots and times colons.
        let date = self.date.replace('.', "");
        let time = self.time.replace(':', "");
        let whole = format!("{date}{time}{}", if time.is_empty() { "" } else { &self.offset });
        Timestamp::parse(&whole, zone).or_else(|| Timestamp::parse(&date, zone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn time(date: &str, time: &str, offset: &str) -> String {
        let written = DicomTime { date: date.into(), time: time.into(), offset: offset.into() };
        written.timestamp(&TimeZone::fixed(jiff::tz::offset(1))).map_or(String::new(), |t| t.hl7())
    }

    #[test]
    fn a_time_keeps_its_digits_and_its_own_offset() {
        assert_eq!(time("20260115", "083000.123", ""), "20260115083000.123+0100");
        assert_eq!(time("20260115", "0830", "-0500"), "202601150830-0500");
        assert_eq!(time("20260115", "", "-0500"), "20260115");
        assert_eq!(time("1992.01.15", "08:30:00", ""), "19920115083000+0100");
        assert_eq!(time("20260115", "at noon", ""), "20260115");
        assert_eq!(time("", "0830", ""), "");
        let dt = DicomTime::from_date_time("20260115083000.5-0330");
        assert_eq!((dt.date.as_str(), dt.time.as_str(), dt.offset.as_str()), ("20260115", "083000.5", "-0330"));
        assert_eq!(DicomTime::from_date_time("2026").date, "2026");
    }
}
