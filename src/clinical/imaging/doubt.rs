//! What may be doubtful about whose study it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why an EHR is not told of a study before a person has looked (invariant I13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StudyDoubt {
    /// It names no patient. No EHR can be told of such a study.
    NoPatient,
    /// Its objects name different patients.
    SeveralPatients,
    /// An order it answers is for another patient.
    OrderMismatch,
    /// It answers several orders, and nothing says which.
    AmbiguousOrder,
    /// No order of the EHR is known that it answers.
    NoOrder,
    /// It names no accession number, and no order is known that it answers.
    NoAccession,
}

impl StudyDoubt {
    /// Those that an order of the EHR may settle, or raise anew.
    pub const OF_ORDERS: [StudyDoubt; 4] =
        [StudyDoubt::OrderMismatch, StudyDoubt::AmbiguousOrder, StudyDoubt::NoOrder, StudyDoubt::NoAccession];

    /// The kebab-case name used in configuration, counters and JSON.
    pub fn name(self) -> &'static str {
        match self {
            StudyDoubt::NoPatient => "no-patient",
            StudyDoubt::SeveralPatients => "several-patients",
            StudyDoubt::OrderMismatch => "order-mismatch",
            StudyDoubt::AmbiguousOrder => "ambiguous-order",
            StudyDoubt::NoOrder => "no-order",
            StudyDoubt::NoAccession => "no-accession",
        }
    }

    /// What it means, in plain words.
    pub fn words(self) -> &'static str {
        match self {
            StudyDoubt::NoPatient => "the study names no patient",
            StudyDoubt::SeveralPatients => "objects of the study name different patients",
            StudyDoubt::OrderMismatch => "the order the study answers is for another patient",
            StudyDoubt::AmbiguousOrder => "the study answers several orders, and nothing says which",
            StudyDoubt::NoOrder => "no order was found that the study answers",
            StudyDoubt::NoAccession => "the study names no accession number, and no order was found that it answers",
        }
    }
}
