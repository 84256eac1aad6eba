//! Coded concepts.

use serde::{Deserialize, Serialize};

/// A code with its text and its system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coding {
    /// The code.
    pub code: String,
    /// The text that goes with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Where the code comes from.
    pub system: CodingSystem,
}

impl Coding {
    /// A LOINC code with its text.
    pub fn loinc(code: impl Into<String>, text: impl Into<String>) -> Self {
        Coding { code: code.into(), text: text.into(), system: CodingSystem::Loinc }
    }

    /// The instrument's or site's own code.
    pub fn local(code: impl Into<String>, text: impl Into<String>) -> Self {
        Coding { code: code.into(), text: text.into(), system: CodingSystem::Local }
    }
}

/// Code systems the gateway tells apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodingSystem {
    /// The instrument's or the site's own (HL7 table 0396 `L`).
    #[default]
    Local,
    /// LOINC (`LN`).
    Loinc,
    /// SNOMED CT (`SCT`).
    Snomed,
    /// Any other HL7 table 0396 name, kept as sent.
    Other(String),
}

impl CodingSystem {
    /// The HL7 table 0396 name.
    pub fn hl7(&self) -> &str {
        match self {
            CodingSystem::Local => "L",
            CodingSystem::Loinc => "LN",
            CodingSystem::Snomed => "SCT",
            CodingSystem::Other(name) => name,
        }
    }

    /// From an HL7 table 0396 name.
    pub fn from_hl7(name: &str) -> Self {
        match name {
            "" | "L" | "99LOC" => CodingSystem::Local,
            "LN" => CodingSystem::Loinc,
            "SCT" | "SNM" => CodingSystem::Snomed,
            other => CodingSystem::Other(other.to_string()),
        }
    }
}
