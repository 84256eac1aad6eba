//! Mapping: the canonical [`Report`] as the bytes one EHR takes. Pure: the same report, target and origin give the same
//! bytes on every run (invariant I5), so a stored message can always be explained and made again.
//!
//! Two formats: HL7 v2 `ORU^R01` in four versions (`mapping/hl7.rs`) and FHIR R4 as a transaction Bundle or as ordered single
//! writes (`mapping/fhir.rs`). What both must say the same way stands beside them: `status` (result status), `flag`
//! (abnormal flags), `identity` (the names under which an EHR finds a result again, so that a correction replaces
//! what it corrects).
//!
//! What modalities made goes the same two ways (`mapping/imaging.rs`).
//!
//! Nothing is repaired, rounded, shortened or replaced by `?` on the way (invariants I11, I13). What cannot be said in
//! the target's format is a [`MapError`], and the result is held.

mod charset;
mod fhir;
mod flag;
pub mod hl7;
mod identity;
pub mod imaging;
mod status;

pub use charset::Charset;
pub use identity::message_id;
pub use status::published as status_table;

use crate::clinical::{Observation, Report};
use identity::Identity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Longest message identifier: MSH-10 is ST(20) up to HL7 2.6.
pub const MESSAGE_ID_CHARS_MAX: usize = 20;
/// Who a test message is about: number, who assigns it, and name. No hospital's numbers are assigned by that authority.
pub const TEST_PATIENT: [&str; 4] = ["AFFERENT-TEST", "AFFERENT-TEST", "ZZTEST", "AFFERENT"];
/// LOINC of a report whose order names no service ("Laboratory report").
const LABORATORY_REPORT: (&str, &str) = ("11502-2", "Laboratory report");

/// What an EHR takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An HL7 v2 `ORU^R01` message, without MLLP framing.
    Hl7V2(Hl7Version),
    /// A FHIR R4 transaction Bundle.
    FhirTransaction,
    /// A JSON array of single FHIR R4 writes, to be made in order.
    FhirWrites,
}

/// HL7 v2 versions that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub enum Hl7Version {
    /// HL7 2.3.1.
    #[serde(rename = "2.3.1")]
    V231,
    /// HL7 2.4.
    #[serde(rename = "2.4")]
    V24,
    /// HL7 2.5.1.
    #[default]
    #[serde(rename = "2.5.1")]
    V251,
    /// HL7 2.8.
    #[serde(rename = "2.8")]
    V28,
}

impl Hl7Version {
    /// MSH-12.
    pub fn name(self) -> &'static str {
        match self {
            Hl7Version::V231 => "2.3.1",
            Hl7Version::V24 => "2.4",
            Hl7Version::V251 => "2.5.1",
            Hl7Version::V28 => "2.8",
        }
    }
}

/// One EHR, as far as the content of a message depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it takes.
    pub format: Format,
    /// MSH-3; `NAME^OID^ISO` when the receiver wants all of the HD.
    pub sending_application: String,
    /// MSH-4, likewise.
    pub sending_facility: String,
    /// MSH-5, likewise.
    pub receiving_application: String,
    /// MSH-6, likewise.
    pub receiving_facility: String,
    /// Who assigns the patient identifiers that instruments send without an authority (PID-3 CX.4).
    pub patient_authority: String,
    /// Character set of HL7 v2 messages; FHIR is always UTF-8.
    pub charset: Charset,
    /// What the FHIR server wants.
    pub fhir: FhirProfile,
    /// It gets test messages and nothing else: marked as such (MSH-11 `T`, FHIR security label and tag `HTEST`), and about
    /// a patient who is nobody ([`TEST_PATIENT`]) and an order that nobody placed, whatever the report says. All others
    /// get no test message.
    pub tests_only: bool,
}

/// What a FHIR server takes and how it names things.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FhirProfile {
    /// How the patient is named. Patients are never created: the EHR owns them.
    pub patient: PatientReference,
    /// Identifier system (URI) of each authority that instruments and order numbers (EI.2) name.
    pub systems: Vec<AuthoritySystem>,
    /// Identifier system (URI) of patient identifiers sent without an authority. Without it such a patient is never
    /// looked up by the bare number, which could be somebody else's elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub patient_system: String,
    /// Identifier system (URI) of specimen numbers, as the laboratory prints them on tubes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub specimen_system: String,
    /// Identifier system (URI) of order numbers that the EHR sends without a name space. One with a universal id (EI.3)
    /// names its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub order_system: String,
    /// URI under which this gateway's own identifiers and local codes stand. Default: `urn:afferent:<gateway name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway_system: String,
    /// Resources this server does not take. They are then named by identifier only.
    pub leave_out: Vec<Optional>,
    /// Send one coding a code (LOINC where known), for servers that refuse a second.
    pub single_coding: bool,
}

/// An assigning authority and its FHIR identifier system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthoritySystem {
    /// The authority as instruments, or the EHR in its order numbers, write it.
    pub authority: String,
    /// Its URI, such as `urn:oid:2.16.840.1.113883.19.5`.
    pub system: String,
}

/// How a patient is named in a FHIR resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatientReference {
    /// `Patient?identifier=system|value`, resolved by the server; a transaction fails when there is not exactly one.
    /// Single writes cannot hold it and name the patient logically.
    #[default]
    Conditional,
    /// By identifier only, not resolved when it is written.
    Logical,
}

/// Resources that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optional {
    /// The instrument.
    Device,
    /// The specimen.
    Specimen,
    /// The report that holds the results together.
    DiagnosticReport,
    /// Which gateway made the resources, from which message.
    Provenance,
}

/// Where and when a message is made. All of it is stored with the message, so mapping again gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// MSH-10, Bundle.identifier: at most [`MESSAGE_ID_CHARS_MAX`] characters.
    pub message_id: String,
    /// Name of the gateway.
    pub gateway: String,
    /// Name of the link the results came over.
    pub link: String,
    /// When the message is made, with the offset it is written in (MSH-7, Bundle.timestamp).
    pub made: jiff::Zoned,
}

/// Why a report cannot be said in the target's format. Names places, never what stands there (invariant I8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The report holds nothing to send.
    #[error("there is no result to send")]
    Empty,
    /// A training or debugging message is no result.
    #[error("the message is marked as training or debugging")]
    NotProduction,
    /// A message that is not marked as a test, for a target that gets nothing else.
    #[error("the message is not marked as a test, and nothing else goes there")]
    NoTest,
    /// A control run that the target would take for a patient's result.
    #[error("{0} has no place that marks a control run")]
    Control(&'static str),
    /// The message identifier is empty or too long for MSH-10.
    #[error("the message identifier must have 1 to {MESSAGE_ID_CHARS_MAX} characters")]
    MessageId,
    /// A character the target's character set lacks.
    #[error("{place} holds a character that {charset} lacks")]
    Charset {
        /// Such as `OBX-5`.
        place: String,
        /// MSH-18.
        charset: &'static str,
    },
    /// A control character, which FHIR forbids.
    #[error("a text holds a control character that FHIR forbids")]
    ControlCharacter,
    /// A result without any code.
    #[error("result {0} has neither the instrument's code nor a LOINC")]
    NoCode(usize),
    /// A result status no message may carry.
    #[error("result {0} has a status that is an order, not a result")]
    Status(usize),
    /// A time the format cannot write.
    #[error("{0} has an offset from UTC that does not exist")]
    Time(&'static str),
    /// A document, for a server that takes no DiagnosticReport to carry it.
    #[error("result {0} is a document, which only a DiagnosticReport can carry")]
    Attachment(usize),
    /// A study of nobody: an EHR files it under a patient.
    #[error("the study names no patient")]
    NoPatient,
    /// A study without a UID.
    #[error("the study has no Study Instance UID")]
    NoStudy,
    /// JSON could not be written; never seen.
    #[error("JSON could not be written")]
    Json,
}

impl MapError {
    /// The kebab-case reason under which results are held and counted.
    pub fn reason(&self) -> &'static str {
        match self {
            MapError::Empty => "unsendable-empty",
            MapError::NotProduction => "not-production",
            MapError::NoTest => "no-test",
            MapError::Control(_) => "control",
            MapError::MessageId => "unsendable-message-id",
            MapError::Charset { .. } => "unsendable-character",
            MapError::ControlCharacter => "unsendable-character",
            MapError::NoCode(_) => "unsendable-without-code",
            MapError::Status(_) => "unknown-status",
            MapError::Time(_) => "unsendable-time",
            MapError::Attachment(_) => "unsendable-attachment",
            MapError::NoPatient => "no-patient",
            MapError::NoStudy => "no-study",
            MapError::Json => "unsendable-json",
        }
    }
}

/// Maps every result of a report.
///
/// HL7 v2: the message, unframed, every segment ended by CR. FHIR transaction: one Bundle as compact JSON. FHIR writes:
/// a compact JSON array of `{method, url, ifNoneExist?, resource}` in the order in which they are to be made.
pub fn map(report: &Report, target: &Target, origin: &Origin) -> Result<Vec<u8>, MapError> {
    let all: Vec<usize> = (0..report.observations.len()).collect();
    map_part(report, &all, target, origin)
}

/// Maps some results of a report, named by their index: what is released now while the rest is held, or what is
/// released later. Repeats of one test keep the number they have in the whole report, so parts sent at different times
/// never take each other's place in the chart.
pub fn map_part(whole: &Report, part: &[usize], target: &Target, origin: &Origin) -> Result<Vec<u8>, MapError> {
    map_ordered(whole, whole, part, target, origin)
}

/// The same for a report that an order completed: `whole` goes out, and its results are named after what the instrument
/// itself `heard`, so that a correction replaces a result that went out before its order came.
pub fn map_ordered(
    heard: &Report,
    whole: &Report,
    part: &[usize],
    target: &Target,
    origin: &Origin,
) -> Result<Vec<u8>, MapError> {
    match (whole.not_production, target.tests_only) {
        (true, false) => return Err(MapError::NotProduction),
        (false, true) => return Err(MapError::NoTest),
        (true, true) | (false, false) => {}
    }
    if !(1..=MESSAGE_ID_CHARS_MAX).contains(&origin.message_id.chars().count()) {
        return Err(MapError::MessageId);
    }
    let identity = Identity::new(heard, &whole.order, origin, &target.fhir.gateway_system);
    let part: HashSet<usize> = part.iter().copied().collect();
    let results: Vec<Outgoing> = numbered(whole, &identity).filter(|o| part.contains(&o.index)).collect();
    if let Some(nameless) = results.iter().find(|o| out_code(o.observation).is_empty()) {
        return Err(MapError::NoCode(nameless.index + 1));
    }
    if results.is_empty() {
        return Err(MapError::Empty);
    }
    let parcel = Parcel { report: whole, results, target, origin, identity };
    match target.format {
        Format::Hl7V2(version) => hl7::message(&parcel, version),
        Format::FhirTransaction => fhir::transaction(&parcel),
        Format::FhirWrites => fhir::writes(&parcel),
    }
}

/// Everything one message is made from.
struct Parcel<'a> {
    report: &'a Report,
    results: Vec<Outgoing<'a>>,
    target: &'a Target,
    origin: &'a Origin,
    identity: Identity,
}

/// A result on its way out.
struct Outgoing<'a> {
    observation: &'a Observation,
    /// Place in the whole report, from 0.
    index: usize,
    /// The name under which an EHR finds it again.
    name: String,
    /// From 1: which of the results that go out under this code it is (OBX-4: two instrument codes may share a LOINC).
    sub_id: usize,
}

impl Parcel<'_> {
    /// What was ordered: code, text, HL7 table 0396 system.
    fn service(&self) -> (&str, &str, &str) {
        match &self.report.order.universal_service_id {
            Some(c) if !c.code.is_empty() || !c.text.is_empty() => (&c.code, &c.text, c.system.hl7()),
            _ => (LABORATORY_REPORT.0, LABORATORY_REPORT.1, "LN"),
        }
    }

    /// The status of the report, from its results.
    fn report_status(&self) -> status::OfReport {
        status::of_report(self.results.iter().map(|r| r.observation.status.as_str()))
    }
}

/// The code a result goes out under.
fn out_code(observation: &Observation) -> &str {
    match &observation.code {
        Some(code) if !code.code.is_empty() => &code.code,
        _ => &observation.instrument_code,
    }
}

/// The results with what tells those with the same code apart: their count, from 1.
fn numbered<'r>(whole: &'r Report, identity: &Identity) -> impl Iterator<Item = Outgoing<'r>> {
    fn next<'r>(counts: &mut HashMap<&'r str, usize>, key: &'r str) -> usize {
        let count = counts.entry(key).or_insert(0);
        *count += 1;
        *count
    }
    let (mut by_instrument, mut by_code) = (HashMap::new(), HashMap::new());
    whole.observations.iter().enumerate().map(move |(index, observation)| {
        let occurrence = next(&mut by_instrument, &observation.instrument_code);
        let sub_id = next(&mut by_code, out_code(observation));
        let name = identity.observation(&observation.instrument_code, occurrence);
        Outgoing { observation, index, name, sub_id }
    })
}
