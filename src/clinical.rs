//! The canonical clinical model: what an instrument said, free of any wire format.
//!
//! A leaf: it knows no other module. A [`Report`] is a pure function of (raw bytes, driver version) and can be made
//! again at any time (invariant I2). Every field that names or describes a patient sits in a [`Phi`], which prints as
//! redacted (invariant I8). Numbers stay decimal text (invariant I11).

pub mod code;
pub mod decimal;
pub mod exact;
pub mod imaging;
pub mod imaging_order;
pub mod performed_step;
pub mod phi;
pub mod time;
pub mod ucum;
pub mod work_order;

pub use code::{Coding, CodingSystem};
pub use decimal::Decimal;
pub use exact::Exact;
pub use imaging_order::{ImagingOrder, RequestedProcedure, ScheduledStep};
pub use performed_step::{PerformedStatus, PerformedStep};
pub use phi::Phi;
pub use time::Timestamp;
pub use ucum::Unit;
pub use work_order::{OrderNumber, OrderStatus, OrderedPatient, OrderedTest, WorkOrder};

use serde::{Deserialize, Serialize};

/// One order's results on one specimen, as the instrument reported them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Who measured.
    pub instrument: Instrument,
    /// Whose specimen it is, as far as the instrument knows.
    #[serde(skip_serializing_if = "Patient::is_empty")]
    pub patient: Patient,
    /// What was measured.
    pub specimen: Specimen,
    /// What was asked for.
    pub order: Order,
    /// The results, in the instrument's order.
    pub observations: Vec<Observation>,
    /// Present when this is a control (QC) run and not a patient's result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Comments on the order or the patient, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// When the message says it was made (H.14, MSH-7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_time: Option<Timestamp>,
    /// True when the message is marked as training or debugging (H.12 T or D, MSH-11 T or D).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_production: bool,
}

/// The instrument as it names itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instrument {
    /// Maker, from the driver.
    pub vendor: String,
    /// Model, from the driver.
    pub model: String,
    /// Name the site gives it, where several share a link.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Name the instrument sent for itself (H.5 component 1, MSH-3).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// Serial number, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// Software version, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub software_version: String,
}

/// The patient as the instrument knows them. Often empty: the EHR knows better.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patient {
    /// Identifier used for the EHR (PID-3, or P.3 / P.4 as the driver says).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub id: Phi,
    /// Who assigned the identifier (PID-3 CX.4): a name, or `name^universal id^type`, such as `^http://hospital.example^URI`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id_authority: String,
    /// Family name.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub family: Phi,
    /// Given name.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub given: Phi,
    /// Birth date, `YYYYMMDD`.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub birth_date: Phi,
    /// HL7 table 0001: M, F, O, U.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sex: String,
    /// Ward or bed, as sent.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub location: Phi,
}

impl Patient {
    /// True when nothing at all is known.
    pub fn is_empty(&self) -> bool {
        *self == Patient::default()
    }

    /// True when both have the same identifier of the same authority. The same number of two authorities is two people;
    /// where one side names no authority, the number alone decides. So it does where one side names it by a name and the
    /// other by a universal id: a modality has its own word for who a FHIR server names by a URI.
    pub fn shares_id_with(&self, other: &Patient) -> bool {
        let (name, universal) = hierarchic(&self.id_authority);
        let (other_name, other_universal) = hierarchic(&other.id_authority);
        let is_one =
            match (universal.is_empty() || other_universal.is_empty(), name.is_empty() || other_name.is_empty()) {
                (false, _) => is_same_authority(&format!("^{universal}"), &format!("^{other_universal}")),
                (true, false) => name == other_name,
                (true, true) => true,
            };
        self.id == other.id && is_one
    }

    /// True when these are one person, each with every other: with orders of two people on one id nobody can tell whose
    /// tube this is.
    pub fn are_one<'p>(mut patients: impl Iterator<Item = &'p Patient>) -> bool {
        let Some(mut named) = patients.next() else { return true };
        patients.all(|patient| {
            let is_same = patient.shares_id_with(named);
            // Who names an authority decides for those that come after: a bare number fits two of them.
            if named.id_authority.is_empty() {
                named = patient;
            }
            is_same
        })
    }

    /// True when the authorities of both identifiers may be one, as far as who orders names them: one that is named in
    /// another way is another.
    pub fn may_share_authority_with(&self, other: &Patient) -> bool {
        let (ours, theirs) = (&self.id_authority, &other.id_authority);
        ours.is_empty() || theirs.is_empty() || is_same_authority(ours, theirs)
    }
}

/// An authority that only a URI names, as HD, or EI.2 to EI.4: `^universal id^type`, where the namespace id may be left
/// out (HL7 v2.5.1 2.A.33). What IHE and most receivers look up is an OID, so one in a URN stands by itself, as does a
/// UUID (table 0301).
pub fn authority_by_uri(uri: &str) -> String {
    let named = |scheme: &str| {
        let (urn, id) = uri.split_at_checked(scheme.len())?;
        (urn.eq_ignore_ascii_case(scheme) && !id.is_empty()).then_some(id)
    };
    let is_oid = |id: &&str| id.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_uuid = |id: &&str| id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match (named("urn:oid:").filter(is_oid), named("urn:uuid:").filter(is_uuid)) {
        (Some(oid), _) => format!("^{oid}^ISO"),
        (None, Some(uuid)) => format!("^{}^UUID", uuid.to_ascii_lowercase()),
        (None, None) => format!("^{}^URI", uri.replace(['^', '\u{1f}'], "")),
    }
}

/// True for one authority, written the same way or as the URN of the same universal id: orders were kept with that before.
pub(crate) fn is_same_authority(one: &str, other: &str) -> bool {
    let plain = |authority: &str| match authority.strip_prefix('^').and_then(|rest| rest.strip_suffix("^URI")) {
        Some(uri) => authority_by_uri(uri),
        None => authority.to_owned(),
    };
    one == other || plain(one) == plain(other)
}

/// The name of an authority, and its universal id with its type (HL7v2 data type HD).
fn hierarchic(authority: &str) -> (&str, &str) {
    let (name, universal) = authority.split_once('^').unwrap_or((authority, ""));
    (name, universal.trim_matches('^'))
}

/// The specimen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Specimen {
    /// Specimen identifier, carried exactly as read except for padding the driver names (hazard H2).
    pub id: Phi,
    /// Specimen type as sent (O.16, SPM-4, OBR-15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_code: Option<Coding>,
    /// Position in rack or tray, as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub position: String,
    /// When it was collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collected: Option<Timestamp>,
}

/// The order the results answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// Placer's number, echoed byte for byte (ORC-2, OBR-2).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub placer_order_number: Phi,
    /// Who gave the placer's number (EI.2 to EI.4, separated by `^`; empty when the EHR did not say), when it is an
    /// order's. What the instrument alone sent may be any number, of a specimen for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placer_namespace: Option<String>,
    /// Filler's number, when the instrument sent one (ORC-3, OBR-3).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub filler_order_number: Phi,
    /// Who gave the filler's number, when it is an order's and not the instrument's own count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filler_namespace: Option<String>,
    /// What was ordered (OBR-4); empty when the instrument names only results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub universal_service_id: Option<Coding>,
    /// Priority as sent (S, R, A, ...).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub priority: String,
    /// Report status in HL7 table 0123 (O.26, OBR-25).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// A control (QC) run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Control material's name, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Lot, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lot: String,
    /// Level, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub level: String,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observation {
    /// Test code exactly as the instrument sent it.
    pub instrument_code: String,
    /// Instrument's own name for the test, when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instrument_name: String,
    /// LOINC, when the driver or the site maps the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Coding>,
    /// The value.
    pub value: Value,
    /// Unit exactly as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The same unit in UCUM, when the driver or the site maps it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ucum: String,
    /// Reference range exactly as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reference_range: String,
    /// Abnormal flags as sent and read by the driver, HL7 table 0078 where known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Result status, HL7 table 0085 (F, C, P, X, R, ...).
    pub status: String,
    /// When the measurement completed (R.13, OBX-19, OBX-14).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// Who operated, as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator: String,
    /// Instrument or module that made this one result, as sent (R.14, OBX-18).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub equipment: String,
    /// Dilution as sent: a factor or a name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dilution: String,
    /// Comments on this result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// Why this is not a plain result; each becomes a reason to hold (invariant I13).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// Where it stood: record or segment number in the message, from 1 (loss account, invariant I7).
    pub record: u32,
}

/// The value of a result. Digits are never touched (invariant I11).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Nothing was sent.
    #[default]
    Absent,
    /// A plain decimal number.
    Number(Decimal),
    /// Below or above a limit: `<`, `<=`, `>`, `>=`.
    Compared { comparator: String, number: Decimal },
    /// `low-high`.
    Range { low: Decimal, high: Decimal },
    /// `1:64` and the like; the separator is kept.
    Ratio { numerator: Decimal, separator: String, denominator: Decimal },
    /// Words.
    Text(String),
    /// A code.
    Coded(Coding),
    /// An attached document or image, Base64 as sent.
    Data { media_type: String, base64: String },
}

/// Why a result may not go out as a normal final one. A closed list: rules, counters and pages branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// No LOINC for the instrument's code.
    UnmappedCode,
    /// The unit is not in the driver's list for this analyte.
    UnknownUnit,
    /// Control run.
    Control,
    /// The instrument says the run failed.
    FailedRun,
    /// The instrument itself questions the result (status W, flag W, asterisks, ...).
    Questionable,
    /// The value is missing or cannot be read as what the driver promised.
    UnreadableValue,
    /// No specimen id, or an id that is a barcode misread marker.
    NoSpecimen,
    /// Instrument time and box time disagree by more than the limit.
    ClockDisagreement,
    /// Training or debugging message.
    NotProduction,
    /// The session ended before the message was complete.
    Incomplete,
    /// A segment or record could not be read; what else the message says may be incomplete too.
    Unreadable,
    /// The result status is not one that may be sent as it is (table 0085 codes with no agreed meaning).
    UnknownStatus,
    /// The text could not be decoded in the link's character set.
    Charset,
    /// No order of the EHR fits, and the link sends nothing without one.
    NoOrder,
    /// The instrument and the order name different patients, or orders of several patients are on this specimen.
    OrderMismatch,
    /// The link lists its instruments, and the message is from none of them.
    UnknownInstrument,
}

impl Doubt {
    /// The kebab-case name used in configuration, counters and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Doubt::UnmappedCode => "unmapped-code",
            Doubt::UnknownUnit => "unknown-unit",
            Doubt::Control => "control",
            Doubt::FailedRun => "failed-run",
            Doubt::Questionable => "questionable",
            Doubt::UnreadableValue => "unreadable-value",
            Doubt::NoSpecimen => "no-specimen",
            Doubt::ClockDisagreement => "clock-disagreement",
            Doubt::NotProduction => "not-production",
            Doubt::Incomplete => "incomplete",
            Doubt::Unreadable => "unreadable",
            Doubt::UnknownStatus => "unknown-status",
            Doubt::Charset => "charset",
            Doubt::NoOrder => "no-order",
            Doubt::OrderMismatch => "order-mismatch",
            Doubt::UnknownInstrument => "unknown-instrument",
        }
    }

    /// What it means, in plain words.
    pub fn words(self) -> &'static str {
        match self {
            Doubt::UnmappedCode => "nobody has said which LOINC its code is",
            Doubt::UnknownUnit => "nobody has said which UCUM unit its unit is",
            Doubt::Control => "it is a control run",
            Doubt::FailedRun => "the instrument says the run failed",
            Doubt::Questionable => "the instrument itself questions it",
            Doubt::UnreadableValue => "its value is missing or is not what this test can be",
            Doubt::NoSpecimen => "no specimen id could be read",
            Doubt::ClockDisagreement => "the instrument's clock and the box's disagree",
            Doubt::NotProduction => "its message is marked as training or debugging",
            Doubt::Incomplete => "its message was cut off",
            Doubt::Unreadable => "a record of its message could not be read",
            Doubt::UnknownStatus => "its status has no agreed meaning",
            Doubt::NoOrder => "no order was found that it answers",
            Doubt::UnknownInstrument => "none of the instruments its link lists says such things",
            Doubt::OrderMismatch => "the order found is for somebody or something else",
            Doubt::Charset => "its text does not fit the character set",
        }
    }
}
