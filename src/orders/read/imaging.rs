//! What an order says of imaging: IPC, TQ1, OBR and ZDS as IHE RAD TF-2 (RAD-2, RAD-4) and HL7 v2 chapter 4 use them.
//!
//! | read | from |
//! |---|---|
//! | accession number | IPC-1, else OBR-18, else the filler's order number |
//! | study instance UID | IPC-3, else ZDS-1 |
//! | requested procedure | IPC-2, else OBR-19; its code OBR-44, else OBR-4 |
//! | scheduled step | IPC-4, else OBR-20; a step begins where that changes |
//! | modality, protocol | IPC-5, else OBR-24; IPC-6, else OBR-4.4, else OBR-4.1 |
//! | station, location, AE title | IPC-7, IPC-8, IPC-9 |
//! | start | TQ1-7, else OBR-27.4, ORC-7.4, OBR-36 |
//!
//! An order is for imaging when its message is `OMI^O23`, holds an IPC or ZDS, or its OBR-24 names a modality
//! and it names no specimen.

use crate::clinical::imaging_order::SHORT_STRING_MAX;
use crate::clinical::{ImagingOrder, OrderNumber, Phi, RequestedProcedure, ScheduledStep, Timestamp};
use crate::message::hl7::{Message, Segment};
use jiff::tz::TimeZone;

/// Modalities of PS3.3 C.7.3.1.1.1 by which an OBR-24 marks an order as one for imaging.
const MODALITIES: [&str; 40] = [
    "AR",
    "BDUS",
    "BI",
    "BMD",
    "CR",
    "CT",
    "CTPROTOCOL",
    "DG",
    "DX",
    "ECG",
    "EPS",
    "ES",
    "GM",
    "HD",
    "IO",
    "IVOCT",
    "IVUS",
    "KER",
    "LS",
    "MG",
    "MR",
    "NM",
    "OAM",
    "OCT",
    "OP",
    "OPM",
    "OPT",
    "OPV",
    "OSS",
    "PT",
    "PX",
    "RF",
    "RG",
    "TG",
    "US",
    "VA",
    "XA",
    "XC",
    "RTIMAGE",
    "DXA",
];
/// Table 0074 by its modality where it is one.
const SECTIONS: [(&str, &str); 7] =
    [("NMR", "MR"), ("NMS", "NM"), ("CUS", "US"), ("OUS", "US"), ("RUS", "US"), ("VUS", "US"), ("EC", "ECG")];
/// Table 0074 without one: radiology, radiograph, cineradiograph, x-ray imaging.
const SECTIONS_OF_MANY: [&str; 4] = ["RAD", "RX", "XRC", "IMG"];
/// LOINC of body weight and height.
const WEIGHTS: [&str; 2] = ["29463-7", "3141-9"];
const HEIGHTS: [&str; 2] = ["8302-2", "3137-7"];

/// The segments of an order that only imaging reads.
#[derive(Default)]
pub(super) struct Draft<'m> {
    /// TQ1-7.
    pub start: String,
    /// Each OBR with its IPCs.
    pub groups: Vec<(&'m Segment, Vec<&'m Segment>)>,
    pub observations: Vec<&'m Segment>,
}

impl<'m> Draft<'m> {
    /// Takes an IPC or OBX of the order's last OBR.
    pub fn take(&mut self, segment: &'m Segment) {
        match (segment.name.as_str(), self.groups.last_mut()) {
            ("IPC", Some((_, ipcs))) => ipcs.push(segment),
            ("OBX", _) => self.observations.push(segment),
            _ => {}
        }
    }
}

/// What stands around the orders of a message.
#[derive(Clone, Copy)]
pub(super) struct Around<'m> {
    pub message: &'m Message,
    pub pid: &'m Segment,
    pub visit: Option<&'m Segment>,
    pub zone: &'m TimeZone,
}

/// True when every order of the message is for imaging.
pub(super) fn is_imaging(message: &Message) -> bool {
    let kind = message.msh().map(|msh| msh.component(9, 1, None));
    kind.as_deref() == Some("OMI") || message.segments.iter().any(|s| matches!(s.name.as_str(), "IPC" | "ZDS"))
}

/// The imaging part of an order; `None` when it is none.
pub(super) fn read(
    around: Around<'_>,
    orc: &Segment,
    draft: &Draft<'_>,
    filler: &OrderNumber,
    comments: &[String],
) -> Option<ImagingOrder> {
    let section = |obr: &Segment| obr.component(24, 1, None);
    // A laboratory may have sections that are called like modalities; its orders name specimens.
    let has_specimen = around.message.segments.iter().any(|s| s.name == "SPM");
    let named = !has_specimen && draft.groups.iter().any(|(obr, _)| is_section(&section(obr)));
    let (first, _) = draft.groups.first().filter(|_| named || is_imaging(around.message))?;
    let physician = |segment: &Segment, field| Phi::new(name(segment, field, 2));
    let ipcs = || draft.groups.iter().flat_map(|(_, ipcs)| ipcs.iter());
    let accession = ipcs().map(|ipc| ipc.component(1, 1, None)).chain([first.component(18, 1, None)]);
    let accession = accession.map(|a| a.trim().to_string()).find(|a| !a.is_empty());
    let filler = Some(filler.id.expose()).filter(|id| id.chars().count() <= SHORT_STRING_MAX);
    let mut imaging = ImagingOrder {
        accession_number: Phi::new(accession.or(filler.map(str::to_string)).unwrap_or_default()),
        patient_name: Phi::new(patient_name(around.pid)),
        requesting_physician: physician(first, 16),
        referring_physician: around.visit.map(|pv1| physician(pv1, 8)).unwrap_or_default(),
        reason: Phi::new(either(first, 31, 2, 1)),
        medical_alerts: Phi::new(first.component(13, 1, None)),
        allergies: Phi::new(allergies(around.message)),
        weight_kg: Phi::new(measured(&draft.observations, &WEIGHTS, "kg")),
        height_m: Phi::new(measured(&draft.observations, &HEIGHTS, "m")),
        procedures: Vec::new(),
    };
    for (obr, ipcs) in &draft.groups {
        let read = |ipc| procedure(around, orc, obr, ipc, draft, comments);
        let none = ipcs.is_empty().then(|| read(None));
        for procedure in none.into_iter().chain(ipcs.iter().map(|ipc| read(Some(*ipc)))) {
            imaging.join(ImagingOrder { procedures: vec![procedure], ..ImagingOrder::default() });
        }
    }
    Some(imaging)
}

/// One step and the procedure it belongs to.
fn procedure(
    around: Around<'_>,
    orc: &Segment,
    obr: &Segment,
    ipc: Option<&Segment>,
    draft: &Draft<'_>,
    comments: &[String],
) -> RequestedProcedure {
    let of_ipc = |field| ipc.map(|ipc| ipc.component(field, 1, None).trim().to_string()).unwrap_or_default();
    let or =
        |field, other: u16| some(of_ipc(field)).unwrap_or_else(|| obr.component(other, 1, None).trim().to_string());
    let study = some(of_ipc(3)).or_else(|| {
        let zds = zds_of(&around.message.segments, obr)?;
        Some(zds.component(1, 1, None).trim().to_string())
    });
    let section = obr.component(24, 1, None);
    let modality = some(of_ipc(5)).unwrap_or_else(|| match section.as_str() {
        many if SECTIONS_OF_MANY.contains(&many) => String::new(),
        one => SECTIONS.iter().find(|(known, _)| *known == one).map_or(section.clone(), |(_, is)| is.to_string()),
    });
    let coded =
        |segment: &Segment, field, from| Some(super::coding(segment, field, from)).filter(|c| !c.code.is_empty());
    let ordered = coded(obr, 4, 1);
    let protocol = ipc.and_then(|ipc| coded(ipc, 6, 1)).or_else(|| coded(obr, 4, 4)).or_else(|| ordered.clone());
    let starts =
        [draft.start.clone(), obr.component(27, 4, None), orc.component(7, 4, None), obr.component(36, 1, None)];
    let step = ScheduledStep {
        id: or(4, 20),
        modality,
        station_ae_titles: ipc.map(|ipc| ipc.repeats(9, 1, None)).unwrap_or_default(),
        station_name: of_ipc(7),
        location: of_ipc(8),
        start: starts
            .iter()
            .filter(|text| !text.is_empty())
            .find_map(|text| Timestamp::parse(text, around.zone))
            .map(|start| start.on_clock_of(around.zone)),
        performing_physician: Phi::new(performer(obr)),
        protocols: protocol.into_iter().collect(),
        comments: comments.to_vec(),
    };
    let step = ScheduledStep {
        station_ae_titles: step.station_ae_titles.into_iter().filter(|ae| !ae.trim().is_empty()).collect(),
        ..step
    };
    RequestedProcedure {
        id: or(2, 19),
        study_instance_uid: study.filter(|uid| is_uid(uid)).unwrap_or_default(),
        code: coded(obr, 44, 1).or(ordered).unwrap_or_default(),
        steps: vec![step],
    }
}

/// True for the text of a UID (PS3.5 9.1): at most 64 digits and dots.
pub(super) fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// The ZDS behind an OBR and before the next order; a single one of the message is of all its orders.
fn zds_of<'m>(segments: &'m [Segment], obr: &Segment) -> Option<&'m Segment> {
    let is_zds = |s: &&Segment| s.name == "ZDS";
    let behind = segments.iter().skip_while(|s| !std::ptr::eq(*s, obr)).skip(1);
    let own = behind.take_while(|s| !matches!(s.name.as_str(), "ORC" | "OBR")).find(is_zds);
    let mut all = segments.iter().filter(is_zds);
    own.or_else(|| all.next().filter(|_| all.next().is_none()))
}

fn is_section(code: &str) -> bool {
    MODALITIES.contains(&code) || SECTIONS_OF_MANY.contains(&code) || SECTIONS.iter().any(|(known, _)| *known == code)
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn either(segment: &Segment, field: u16, first: u16, second: u16) -> String {
    some(segment.component(field, first, None)).unwrap_or_else(|| segment.component(field, second, None))
}

/// A name as DICOM writes it (PS3.5 6.2.1): family, given, middle, prefix, suffix. HL7 has suffix before prefix, from
/// component `from` on: 2 in XCN, where the identifier comes first.
fn name(segment: &Segment, field: u16, from: u16) -> String {
    let part = |n| segment.component(field, from + n, if n == 0 { Some(1) } else { None });
    [part(0), part(1), part(2), part(4), part(3)].join("^").trim_end_matches('^').to_string()
}

/// OBR-34: an NDL keeps the name in subcomponents of its first component; many systems send an XCN.
fn performer(obr: &Segment) -> String {
    let as_xcn = name(obr, 34, 2);
    if !obr.component(34, 2, Some(1)).is_empty() && obr.component(34, 1, Some(2)).is_empty() {
        return as_xcn;
    }
    let part = |n| obr.component(34, 1, Some(n));
    [part(2), part(3), part(4), part(6), part(5)].join("^").trim_end_matches('^').to_string()
}

/// PID-5 with its representations (XPN.8 A, I, P) as the groups of a PN.
fn patient_name(pid: &Segment) -> String {
    let all = |component, sub| pid.repeats(5, component, sub);
    let (families, givens, middles) = (all(1, Some(1)), all(2, None), all(3, None));
    let (suffixes, prefixes, kinds) = (all(4, None), all(5, None), all(8, None));
    let mut groups = [String::new(), String::new(), String::new()];
    for (at, family) in families.iter().enumerate() {
        let part = |parts: &[String]| parts.get(at).cloned().unwrap_or_default();
        let text = [family.clone(), part(&givens), part(&middles), part(&prefixes), part(&suffixes)].join("^");
        let place = match part(&kinds).as_str() {
            "I" => 1,
            "P" => 2,
            _ => 0,
        };
        if let Some(group) = groups.get_mut(place).filter(|group| group.is_empty()) {
            *group = text.trim_end_matches('^').to_string();
        }
    }
    groups.join("=").trim_end_matches('=').to_string()
}

fn allergies(message: &Message) -> String {
    let all = message.segments.iter().filter(|s| s.name == "AL1").map(|al1| either(al1, 3, 2, 1));
    all.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The value of the first OBX of these codes in this unit; a height in cm as well. Digits stay as they are.
fn measured(observations: &[&Segment], codes: &[&str], unit: &str) -> String {
    for obx in observations.iter().filter(|obx| codes.contains(&obx.component(3, 1, None).as_str())) {
        let value = obx.component(5, 1, None).trim().to_string();
        let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match obx.component(6, 1, None).as_str() {
            own if own == unit && is_number => return value,
            "cm" if unit == "m" && value.len() == 3 && value.bytes().all(|b| b.is_ascii_digit()) => {
                return format!("{}.{}", &value[..1], &value[1..]);
            }
            _ => {}
        }
    }
    String::new()
}

#[cfg(test)]
mod tests;
