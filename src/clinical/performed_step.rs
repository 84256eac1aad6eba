//! What a modality says it did: a modality performed procedure step (PS3.3 C.4.14, C.4.15).

use super::{Coding, Phi};
use serde::{Deserialize, Serialize};

/// A performed procedure step as its modality last described it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerformedStep {
    /// Its SOP Instance UID.
    pub sop_instance_uid: String,
    /// Where it stands.
    pub status: PerformedStatus,
    /// (0040,0253): the modality's own number for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// (0008,0060).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub modality: String,
    /// (0040,0241).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub station_ae_title: String,
    /// (0040,0254).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// (0010,0020): whom it was done to, as the modality knows the patient.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub patient_id: Phi,
    /// (0010,0010).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub patient_name: Phi,
    /// (0040,0244) and (0040,0245): `YYYYMMDD[HHMM[SS]]`, local time of the modality.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub start: String,
    /// (0040,0250) and (0040,0251).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub end: String,
    /// (0040,0281): why it was discontinued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discontinued_for: Option<Coding>,
    /// (0040,0270): the scheduled steps it answers; one without a step id when nothing was scheduled.
    pub scheduled: Vec<AnsweredStep>,
    /// (0040,0340): what was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<PerformedSeries>,
}

/// A scheduled step as the modality echoes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnsweredStep {
    /// (0020,000D).
    pub study_instance_uid: String,
    /// (0008,0050).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub accession_number: Phi,
    /// (0040,1001).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requested_procedure_id: String,
    /// (0040,0009).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub step_id: String,
}

/// A series that was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerformedSeries {
    /// (0020,000E).
    pub series_instance_uid: String,
    /// (0018,1030).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol_name: String,
    /// SOP class and SOP instance UID of every image and other composite instance in it.
    pub instances: Vec<(String, String)>,
}

/// (0040,0252).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PerformedStatus {
    /// It may still change.
    #[default]
    InProgress,
    /// It was done, and never changes again.
    Completed,
    /// It was broken off, and never changes again.
    Discontinued,
}

impl PerformedStatus {
    /// All of them; the place in this list is the number under which one is stored.
    pub const ALL: [PerformedStatus; 3] =
        [PerformedStatus::InProgress, PerformedStatus::Completed, PerformedStatus::Discontinued];

    /// From its defined term.
    pub fn from_dicom(term: &str) -> Option<PerformedStatus> {
        PerformedStatus::ALL.into_iter().find(|status| status.dicom() == term)
    }

    /// Its defined term.
    pub fn dicom(self) -> &'static str {
        match self {
            PerformedStatus::InProgress => "IN PROGRESS",
            PerformedStatus::Completed => "COMPLETED",
            PerformedStatus::Discontinued => "DISCONTINUED",
        }
    }

    /// True when it never changes again.
    pub fn is_final(self) -> bool {
        self != PerformedStatus::InProgress
    }
}
