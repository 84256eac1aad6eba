//! HL7 v2 `ORU^R01`, structure `ORU_R01`, in 2.3.1, 2.4, 2.5.1 and 2.8 (chapter 7 of each).
//!
//! `MSH [PID [PV1]] ORC OBR {NTE} { OBX {NTE} } [SPM]`, one order a message. What the versions do differently:
//!
//! | | 2.3.1 | 2.4 | 2.5.1 | 2.8 |
//! |---|---|---|---|---|
//! | specimen | OBR-15, number in OBR-20 | the same | SPM after the results | SPM |
//! | control run | refused | OBR-15.7 `Q` | SPM-11 `Q` | SPM-11 `Q` |
//! | codes | CE | CE | CE | CWE |
//! | flags (OBX-8) | codes | one code, the others in NTE | codes | CWE, table 0078 |
//! | instrument, time of analysis | none, OBX-14 | OBX-18, OBX-19 | OBX-18, OBX-19 | OBX-18, OBX-19 |
//!
//! PID is left out when no patient identifier is known: PID-3 is required, the PATIENT group is not. A patient without
//! a name gets PID-5 with name type U (unspecified). A placer order number is only ever echoed, never made; a filler
//! order number the instrument did not send is derived (`mapping/identity.rs`), and ORC-3 is OBR-3.

pub mod dialogue;
mod escape;
pub(super) mod imaging;
pub mod host;
mod segment;

use super::{Hl7Version, MapError, Outgoing, Parcel, TEST_PATIENT, flag, status};
use crate::clinical::{Coding, CodingSystem, Observation, Timestamp, Value};
use segment::{Message, Segment};

/// Longest ST; longer text goes as FT.
const ST_CHARS_MAX: usize = 199;
/// Longest NM (2.5.1 chapter 2A.3.47); a longer numeral goes as text, whole.
const NM_CHARS_MAX: usize = 16;
/// Name type "unspecified" (table 0200): the patient has an identifier, but no name here.
const NAME_UNKNOWN: [&str; 7] = ["", "", "", "", "", "", "U"];
/// SPM-4 is required; this says that the type is not known.
const SPECIMEN_TYPE_UNKNOWN: [&str; 3] = ["UNK", "Unknown", "NULLFL"];

/// The message, unframed.
pub(super) fn message(parcel: &Parcel, version: Hl7Version) -> Result<Vec<u8>, MapError> {
    let report = parcel.report;
    if report.control.is_some() && version == Hl7Version::V231 {
        return Err(MapError::Control("HL7 2.3.1"));
    }
    if let Some(result) = parcel.results.iter().find(|r| status::is_order_only(&r.observation.status)) {
        return Err(MapError::Status(result.index + 1));
    }
    let mut message = Message::default();
    message.push(msh(parcel, version));
    // A control run has no patient, whatever the instrument wrote there.
    if parcel.target.tests_only {
        let [id, authority, family, given] = TEST_PATIENT;
        let pid = Segment::new("PID").text(1, "1").written(3, record_number(id, authority));
        message.push(pid.components(5, &[family, given]));
    } else if !report.patient.id.is_empty() && report.control.is_none() {
        message.push(pid(parcel));
        if !report.patient.location.is_empty() {
            message.push(Segment::new("PV1").text(1, "1").text(2, "U").text(3, report.patient.location.expose()));
        }
    }
    let (placer, filler) = (placer(parcel), filler(parcel));
    message.push(Segment::new("ORC").text(1, "RE").written(2, placer.clone()).written(3, filler.clone()));
    message.push(obr(parcel, version, placer, filler));
    comments(&mut message, &report.comments);
    for (at, result) in parcel.results.iter().enumerate() {
        message.push(obx(parcel, version, at + 1, result));
        let more = more_flags(result.observation, version);
        comments(&mut message, result.observation.comments.iter().chain(&more));
    }
    if version >= Hl7Version::V251
        && let Some(spm) = spm(parcel)
    {
        message.push(spm);
    }
    message.encode(parcel.target.charset)
}

fn msh(parcel: &Parcel, version: Hl7Version) -> Segment {
    let (target, origin) = (parcel.target, parcel.origin);
    Segment::new("MSH")
        .written(2, "^~\\&".to_string())
        .hierarchic(3, &target.sending_application)
        .hierarchic(4, &target.sending_facility)
        .hierarchic(5, &target.receiving_application)
        .hierarchic(6, &target.receiving_facility)
        .text(7, &made(parcel))
        .components(9, &["ORU", "R01", "ORU_R01"])
        .text(10, &origin.message_id)
        .text(11, if target.tests_only { "T" } else { "P" })
        .text(12, version.name())
        .text(18, target.charset.hl7())
}

fn pid(parcel: &Parcel) -> Segment {
    let patient = &parcel.report.patient;
    let authority = match patient.id_authority.as_str() {
        "" => &parcel.target.patient_authority,
        own => own,
    };
    let named = !(patient.family.is_empty() && patient.given.is_empty());
    let pid = Segment::new("PID").text(1, "1").written(3, record_number(patient.id.expose(), authority));
    let pid = match named {
        true => pid.components(5, &[patient.family.expose(), patient.given.expose()]),
        false => pid.components(5, &NAME_UNKNOWN),
    };
    pid.text(7, patient.birth_date.expose()).text(8, &patient.sex)
}

/// A medical record number as CX, with its authority as HD.
fn record_number(id: &str, authority: &str) -> String {
    let authority: Vec<&str> = authority.split('^').collect();
    let [none, kind] = [String::new(), "MR".to_owned()];
    escape::joined(&[escape::text(id), none.clone(), none, escape::subcomponents(&authority), kind], '^')
}

fn obr(parcel: &Parcel, version: Hl7Version, placer: String, filler: String) -> Segment {
    let specimen = &parcel.report.specimen;
    let (code, text, system) = parcel.service();
    let mut obr = Segment::new("OBR")
        .text(1, "1")
        .written(2, placer)
        .written(3, filler)
        .components(4, &[code, text, system])
        .text(7, &time(specimen.collected.as_ref()))
        .text(22, &made(parcel))
        .text(24, "LAB")
        .text(25, parcel.report_status().hl7);
    if version < Hl7Version::V251 {
        let code = specimen.type_code.as_ref().map(|c| escape::subcomponents(&[&c.code, &c.text, c.system.hl7()]));
        let role = if parcel.report.control.is_some() { "Q" } else { "" };
        let source = [code.unwrap_or_default(), "".into(), "".into(), "".into(), "".into(), "".into(), role.into()];
        obr = obr.written(15, escape::joined(&source, '^')).text(20, specimen.id.expose());
    }
    obr
}

fn obx(parcel: &Parcel, version: Hl7Version, set_id: usize, result: &Outgoing) -> Segment {
    let (observation, specimen) = (result.observation, &parcel.report.specimen);
    let (kind, value) = value(&observation.value, version);
    let completed = observation.completed.as_ref();
    let kept = if version == Hl7Version::V24 { 1 } else { observation.flags.len() };
    let flags = observation.flags.iter().take(kept).map(|f| match (version, flag::display(f)) {
        (Hl7Version::V28, Some(display)) => escape::components(&[f, display, "HL70078"]),
        (Hl7Version::V28, None) => escape::components(&[f, "", "L"]),
        _ => escape::text(f),
    });
    let obx = Segment::new("OBX")
        .text(1, &set_id.to_string())
        .text(2, kind)
        .written(3, identifier(observation))
        .text(4, &result.sub_id.to_string())
        .written(5, value)
        .written(6, unit(observation))
        .text(7, &observation.reference_range)
        .written(8, flags.collect::<Vec<_>>().join("~"))
        .text(11, status::hl7(&observation.status, version))
        .components(16, &[&observation.operator]);
    if version == Hl7Version::V231 {
        return obx.text(14, &time(completed.or(specimen.collected.as_ref())));
    }
    obx.text(14, &time(specimen.collected.as_ref().or(completed)))
        .written(18, instrument(parcel, observation))
        .text(19, &time(completed))
}

/// OBX-8 does not repeat in 2.4: flags after the first go as a comment.
fn more_flags(observation: &Observation, version: Hl7Version) -> Option<String> {
    let more = observation.flags.get(1..).filter(|m| version == Hl7Version::V24 && !m.is_empty())?;
    Some(format!("Further flags: {}", more.join(", ")))
}

/// The specimen, when anything is known of it.
fn spm(parcel: &Parcel) -> Option<Segment> {
    let specimen = &parcel.report.specimen;
    let control = parcel.report.control.is_some();
    if specimen.id.is_empty() && specimen.type_code.is_none() && specimen.collected.is_none() && !control {
        return None;
    }
    let kind = match &specimen.type_code {
        Some(code) => coded(code),
        None => escape::components(&SPECIMEN_TYPE_UNKNOWN),
    };
    let role: &[&str] = if control { &["Q", "Control specimen", "HL70369"] } else { &[] };
    Some(
        Segment::new("SPM")
            .text(1, "1")
            .text(2, specimen.id.expose())
            .written(4, kind)
            .components(11, role)
            .text(17, &time(specimen.collected.as_ref())),
    )
}

fn comments<'c>(message: &mut Message, comments: impl IntoIterator<Item = &'c String>) {
    for (at, comment) in comments.into_iter().filter(|c| !c.trim().is_empty()).enumerate() {
        let nte = Segment::new("NTE").text(1, &(at + 1).to_string()).text(2, "L");
        message.push(nte.written(3, escape::formatted(comment)));
    }
}

/// The placer's number exactly as it was ordered. Nobody ordered a test.
fn placer(parcel: &Parcel) -> String {
    if parcel.target.tests_only {
        return String::new();
    }
    let order = &parcel.report.order;
    entity(order.placer_order_number.expose(), order.placer_namespace.as_deref().unwrap_or_default())
}

/// The filler order number with its name space: instruments count from 1, so a bare number is not unique. One that
/// came with the order goes back as it came.
fn filler(parcel: &Parcel) -> String {
    let order = &parcel.report.order;
    match (order.filler_order_number.expose(), &order.filler_namespace) {
        ("", _) => escape::components(&[&parcel.identity.filler(), &parcel.origin.gateway]),
        (ordered, Some(namespace)) => entity(ordered, namespace),
        (sent, None) => escape::components(&[sent, &parcel.origin.link]),
    }
}

/// EI, from its number and the rest of it.
fn entity(number: &str, namespace: &str) -> String {
    let parts: Vec<&str> =
        std::iter::once(number).chain(namespace.split('^').filter(|_| !namespace.is_empty())).collect();
    escape::components(&parts)
}

/// OBX-3: LOINC first, the instrument's own code as the alternate.
fn identifier(observation: &Observation) -> String {
    let local = [observation.instrument_code.as_str(), observation.instrument_name.as_str(), "L"];
    match &observation.code {
        None => escape::components(&local),
        Some(c) if c.code == observation.instrument_code || observation.instrument_code.is_empty() => coded(c),
        Some(c) if c.code.is_empty() => escape::components(&local),
        Some(c) => escape::components(&[&c.code, &c.text, c.system.hl7(), local[0], local[1], local[2]]),
    }
}

fn coded(coding: &Coding) -> String {
    let system = match (&coding.system, coding.code.is_empty()) {
        (_, true) => "",
        (CodingSystem::Other(name), _) => name,
        (system, _) => system.hl7(),
    };
    escape::components(&[&coding.code, &coding.text, system])
}

/// OBX-6: UCUM where mapped, always with the unit as sent. A number sent bare still has a unit where the driver knows it
/// (`[pH]`, or `1` for none), as in FHIR; receivers that follow the US ELR 2.5.1 guide require it.
fn unit(observation: &Observation) -> String {
    match (observation.unit.as_str(), observation.ucum.as_str()) {
        ("", ucum) => escape::components(&[ucum, "", if ucum.is_empty() { "" } else { "UCUM" }]),
        (sent, "") => escape::text(sent),
        (sent, ucum) => escape::components(&[ucum, sent, "UCUM"]),
    }
}

/// OBX-2 and OBX-5.
fn value(value: &Value, version: Hl7Version) -> (&'static str, String) {
    let structured = |parts: [&str; 4]| {
        let [_, first, _, second] = parts;
        match first.len().max(second.len()) > NM_CHARS_MAX {
            true => ("ST", escape::text(&parts.concat())),
            false => ("SN", escape::components(&parts)),
        }
    };
    match value {
        Value::Absent => ("ST", String::new()),
        Value::Number(number) if number.as_str().len() > NM_CHARS_MAX => ("ST", number.as_str().to_string()),
        Value::Number(number) => ("NM", number.as_str().to_string()),
        Value::Compared { comparator, number } => structured([comparator, number.as_str(), "", ""]),
        Value::Range { low, high } => structured(["", low.as_str(), "-", high.as_str()]),
        Value::Ratio { numerator, separator, denominator } => {
            structured(["", numerator.as_str(), separator, denominator.as_str()])
        }
        Value::Text(text) if text.chars().count() > ST_CHARS_MAX || text.contains(['\r', '\n']) => {
            ("FT", escape::formatted(text))
        }
        Value::Text(text) => ("ST", escape::text(text)),
        Value::Coded(coding) if version >= Hl7Version::V28 => ("CWE", coded(coding)),
        Value::Coded(coding) => ("CE", coded(coding)),
        Value::Data { media_type, base64 } => {
            let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
            ("ED", escape::components(&["", kind, subtype, "Base64", base64]))
        }
    }
}

/// OBX-18 (EI): serial number, else the name the site or the instrument itself gives it; then who makes it. What made this very result
/// is a second one.
fn instrument(parcel: &Parcel, observation: &Observation) -> String {
    let instrument = &parcel.report.instrument;
    let candidates = [&instrument.serial_number, &instrument.name, &instrument.sender, &parcel.origin.link];
    let id = candidates.into_iter().find(|c| !c.is_empty()).map_or("", String::as_str);
    let named = |id: &str| escape::components(&[id, &instrument.model]);
    match observation.equipment.as_str() {
        equipment if equipment.is_empty() || equipment == id => named(id),
        equipment => format!("{}~{}", named(id), named(equipment)),
    }
}

fn time(time: Option<&Timestamp>) -> String {
    time.map(Timestamp::hl7).unwrap_or_default()
}

fn made(parcel: &Parcel) -> String {
    parcel.origin.made.strftime("%Y%m%d%H%M%S%z").to_string()
}
