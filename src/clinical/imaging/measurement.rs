//! Measurements: what a structured report says in numbers (PS3.16 TID 300, 1500, 5000, 5100, 5200, 5300).

use super::DicomTime;
use crate::clinical::{Coding, Doubt};
use serde::{Deserialize, Serialize};

/// The measurements of one structured report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeasurementReport {
    /// The name of its root: which kind of report it is.
    pub title: Coding,
    /// The root's template (0040,DB00), such as `5200`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// (0008,0016).
    pub sop_class_uid: String,
    /// (0008,0018).
    pub sop_instance_uid: String,
    /// SOP Instance UIDs of the documents it takes the place of, (0040,A360).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<String>,
    /// The first document of the line it belongs to, under whose name all of them are kept; empty when that is itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub first_uid: String,
    /// (0040,A491): PARTIAL or COMPLETE.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub completion: String,
    /// (0040,A493): UNVERIFIED or VERIFIED.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verification: String,
    /// (0008,0023) and (0008,0033).
    #[serde(skip_serializing_if = "DicomTime::is_empty")]
    pub made: DicomTime,
    /// In the order of the tree.
    pub measurements: Vec<Measurement>,
    /// Numbers of the tree that say again what a chosen one says, and stand for nothing of their own.
    pub repeats: u32,
    /// True when it has more numbers, or more is said about them, than is read of one report.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// One number of a structured report, with everything that says what it is a number of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measurement {
    /// Its place in the tree, from `1` (PS3.3 C.17.3.2.5); in a corrected report it may be that of another.
    pub path: String,
    /// The place of the container it stands in.
    pub group: String,
    /// What that container is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<Coding>,
    /// What the containers around that one are called, from the outermost; its root names the report and is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Coding>,
    /// What was measured.
    pub code: Coding,
    /// Decimal text as it was written (DS); empty when there is none.
    pub value: String,
    /// Why there is no value, or what is odd about it (CID 42).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<Coding>,
    /// The unit as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Coding>,
    /// The same unit, when it is one of UCUM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ucum: String,
    /// Finding Site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Coding>,
    /// Laterality of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub laterality: Option<Coding>,
    /// Image Mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Coding>,
    /// Measurement Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Coding>,
    /// Derivation: mean, maximum, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Coding>,
    /// Cardiac Cycle Point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle_point: Option<Coding>,
    /// Direction of Flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Coding>,
    /// Which fetus it is of, as the report names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fetus: String,
    /// Tracking Identifier.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tracking: String,
    /// Tracking Unique Identifier.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tracking_uid: String,
    /// Selection Status: why this one of several was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<Coding>,
    /// Everything else said about it, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modifiers: Vec<Modifier>,
    /// SOP Instance UIDs of the images it was taken from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// When it was observed, when the report says so of this number.
    #[serde(skip_serializing_if = "DicomTime::is_empty")]
    pub observed: DicomTime,
    /// True when the report chose or derived another value in place of this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_raw: bool,
    /// Why it may not go out as a plain result (invariant I13).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
}

/// Something said about a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modifier {
    /// Its name.
    pub name: Coding,
    /// What it says.
    pub value: ModifierValue,
}

/// What a modifier says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModifierValue {
    /// A code.
    Coded(Coding),
    /// Words.
    Text(String),
    /// A number, such as the limit of a normal range.
    Number {
        /// Decimal text.
        value: String,
        /// The unit, as a UCUM code where it is one.
        unit: String,
    },
}

impl MeasurementReport {
    /// The SOP Instance UID its numbers are known under at the EHR, through all corrections.
    pub fn identity_uid(&self) -> &str {
        if self.first_uid.is_empty() { &self.sop_instance_uid } else { &self.first_uid }
    }

    /// Those that go out unless the site asks for raw values too.
    pub fn results(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(|m| !m.is_raw)
    }
}

/// The SNOMED CT code of a SNOMED RT code, for the sites, sides, modes and derivations that cardiac, vascular and
/// obstetric templates use; PS3.16 lists both beside each other in its context groups. `None` for any other.
pub fn snomed_ct_twin(snomed_rt: &str) -> Option<&'static str> {
    TWINS.iter().find(|(rt, _)| *rt == snomed_rt).map(|(_, ct)| *ct)
}

const TWINS: [(&str, &str); 43] = [
    ("F-32020", "111973004"),
    ("G-0394", "399155008"),
    ("G-03A2", "399064001"),
    ("G-A100", "24028007"),
    ("G-A101", "7771000"),
    ("G-A102", "51440002"),
    ("G-A437", "56851009"),
    ("R-00317", "373098007"),
    ("R-10047", "386136009"),
    ("R-404FB", "255605001"),
    ("R-409E2", "261197005"),
    ("R-409E3", "261198000"),
    ("R-409E4", "261199008"),
    ("R-42047", "263677008"),
    ("R-42E61", "312004007"),
    ("R-FAB5B", "416430001"),
    ("R-FAB5C", "416190007"),
    ("T-32200", "73829009"),
    ("T-32300", "82471001"),
    ("T-32500", "53085002"),
    ("T-32600", "87878005"),
    ("T-32602", "128564006"),
    ("T-32603", "277631004"),
    ("T-35100", "46030003"),
    ("T-35200", "39057004"),
    ("T-35300", "91134007"),
    ("T-35400", "34202007"),
    ("T-42000", "15825003"),
    ("T-44100", "45341000"),
    ("T-45005", "119568004"),
    ("T-45010", "69105007"),
    ("T-45100", "32062004"),
    ("T-45200", "22286001"),
    ("T-45230", "113264009"),
    ("T-45300", "86117002"),
    ("T-45700", "85234005"),
    ("T-46600", "2841007"),
    ("T-46700", "10293006"),
    ("T-47400", "7657000"),
    ("T-62000", "10200004"),
    ("T-83000", "35039007"),
    ("T-87000", "15497006"),
    ("T-D6007", "281496003"),
];
