//! What an instrument is told by its host: replies to its queries, orders and cancellations.
//!
//! | profile | messages |
//! |---|---|
//! | IHE LAW (PaLM TF-2b 3.27, 3.28; HL7 2.5.1) | `RSP^K11^RSP_K11`, `OML^O33^OML_O33` |
//! | Cepheid GeneXpert (HL7 2.5) | `RSP^Z02` |
//! | Mindray BS (HL7 2.3.1) | `QCK^Q02`, `DSR^Q03` |
//! | Mindray BC (HL7 2.3.1) | `ORR^O02` |
//!
//! Each order keeps the placer's number: in ORC-2 and OBR-2 it is the AWOS id of LAW, and the results bring it back.
//! A patient's name that the instrument's character set lacks is left out; everything else that does not fit is an
//! error, and nothing is sent.

use super::escape;
use super::segment::{Message, Segment};
use crate::clinical::{Coding, OrderNumber, OrderedPatient, Phi, Specimen, Timestamp, WorkOrder};
use crate::mapping::{Charset, MapError};
use crate::message::hl7::query::{HostQuery, Peer, Place};

/// Lines of a `DSR^Q03` that come before its tests: patient and specimen, most of them empty.
const DISPLAY_LINES: usize = 28;
/// "" says that the sender knows the field and has no value for it.
const NULL: &str = "\"\"";

/// One order as this instrument is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The caller's name for it.
    pub key: i64,
    /// The order.
    pub order: WorkOrder,
    /// Its tests, each as the instrument names it. Never empty.
    pub tests: Vec<Coding>,
    /// When it was placed, as HL7 writes it.
    pub placed: String,
    /// When it last changed, likewise.
    pub changed: String,
}

/// What names a message of ours.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// MSH-10, at most 20 characters.
    pub control_id: &'a str,
    /// MSH-7.
    pub time: &'a str,
}

/// What was asked about, in SAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container<'a> {
    /// By the id on its label (SAC-3).
    Labelled(&'a Phi),
    /// By where it stands: carrier and position (SAC-10 and 11), or tray and position (SAC-13 and 14).
    At(&'a Place),
}

/// What an order message says (ORC-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `NW`: measure it.
    New,
    /// `CA`: it was sent, and then taken back.
    Cancel,
}

/// How a query fared (QAK-2, table 0208).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There are orders.
    Orders,
    /// There are none.
    Nothing,
    /// It could not be understood; in words for a person.
    Fault(&'static str),
}

impl Found {
    fn code(self) -> &'static str {
        match self {
            Found::Orders => "OK",
            Found::Nothing => "NF",
            Found::Fault(_) => "AE",
        }
    }

    fn acknowledgment(self) -> &'static str {
        match self {
            Found::Fault(_) => "AE",
            _ => "AA",
        }
    }
}

/// `RSP^K11`: the query has been heard (LAB-27). The orders, or that there are none, follow by themselves.
pub fn law_response(query: &HostQuery, found: Found, stamp: &Stamp<'_>) -> Result<Vec<u8>, MapError> {
    let peer = &query.peer;
    let mut message = Message::default();
    message.push(law_header(peer, ["RSP", "K11", "RSP_K11"], stamp).text(16, "NE").profile("27"));
    message.push(Segment::new("MSA").text(1, found.acknowledgment()).written(2, peer.control_id.clone()));
    if let Found::Fault(text) = found {
        message.push(error(text));
    }
    message.push(acknowledged_query(query, found));
    echo(&mut message, query);
    message.encode(Charset::Utf8)
}

/// `OML^O33`: orders for one specimen (LAB-28). Every order is for `container`, the id on the label.
pub fn law_orders(
    peer: &Peer,
    container: &Phi,
    work: &[Work],
    control: Control,
    stamp: &Stamp<'_>,
) -> Result<Vec<u8>, MapError> {
    let mut message = Message::default();
    message.push(law_header(peer, ["OML", "O33", "OML_O33"], stamp).text(16, "AL").profile("28"));
    let Some(first) = work.first() else { return Err(MapError::Empty) };
    if !first.order.patient.patient.id.is_empty() {
        message.push(patient(&first.order.patient, true));
        let location = first.order.patient.patient.location.expose();
        if !location.is_empty() {
            message.push(Segment::new("PV1").text(1, "1").text(2, "U").text(3, location));
        }
    }
    message.push(specimen(&first.order.specimen, container));
    message.push(Segment::new("SAC").text(3, container.expose()));
    let code = match control {
        Control::New => "NW",
        Control::Cancel => "CA",
    };
    for (work, number, test) in each_test(work) {
        message.push(Segment::new("ORC").text(1, code).written(2, number.field()).text(9, &work.placed));
        message.push(timing(&work.order));
        message.push(Segment::new("OBR").written(2, number.field()).written(4, super::coded(test)));
    }
    message.encode(Charset::Utf8)
}

/// `OML^O33` that says there is nothing to do for a specimen: only MSH, SPM, SAC and ORC (LAB-28, negative query
/// response).
pub fn law_nothing(peer: &Peer, container: &Container<'_>, stamp: &Stamp<'_>) -> Result<Vec<u8>, MapError> {
    let mut message = Message::default();
    message.push(law_header(peer, ["OML", "O33", "OML_O33"], stamp).text(16, "AL").profile("28"));
    let unknown = Segment::new("SPM").text(1, "1").written(4, NULL.to_string());
    message.push(unknown.components(11, &["U", "Unknown", "HL70369"]));
    message.push(match container {
        Container::Labelled(id) => Segment::new("SAC").text(3, id.expose()),
        Container::At(place) => {
            let field = if place.is_tray { 13 } else { 10 };
            Segment::new("SAC").written(field, place.holder.clone()).written(field + 1, place.position.clone())
        }
    });
    message.push(Segment::new("ORC").text(1, "DC").text(9, stamp.time));
    message.encode(Charset::Utf8)
}

/// `RSP^Z02` of a GeneXpert, orders and all. Without any it says that there are none.
pub fn genexpert_response(
    query: &HostQuery,
    found: Found,
    work: &[Work],
    stamp: &Stamp<'_>,
) -> Result<Vec<u8>, MapError> {
    in_its_charset(query, |named, charset| {
        let mut message = Message::default();
        message.push(header(&query.peer, &["RSP", "Z02"], stamp).text(15, "NE").text(16, "NE"));
        message.push(Segment::new("MSA").text(1, found.acknowledgment()).written(2, query.peer.control_id.clone()));
        if let Found::Fault(text) = found {
            message.push(error(text));
        }
        // "OK" also where there is nothing: that is how this instrument is told.
        let found = if found == Found::Nothing { Found::Orders } else { found };
        message.push(acknowledged_query(query, found));
        echo(&mut message, query);
        for (at, work) in work.iter().enumerate() {
            message.push(patient(&work.order.patient, named).text(1, &(at + 1).to_string()));
            let numbered = each_test(std::slice::from_ref(work)).enumerate();
            for (at, (work, _, test)) in numbered {
                let number = (at + 1).to_string();
                message.push(Segment::new("ORC").text(1, "NW").text(2, &number).text(9, &work.placed));
                message.push(Segment::new("OBR").text(1, &number).text(4, &test.code).text(11, "A"));
                message.push(Segment::new("TQ1").text(9, priority(&work.order)));
                let id = work.order.specimen.id.expose();
                message.push(Segment::new("SPM").text(1, &number).text(2, id).text(4, "ORH").text(11, "P"));
            }
        }
        message.encode(charset)
    })
}

/// `QCK^Q02`: the query has been heard, and whether a `DSR^Q03` follows.
pub fn display_acknowledgment(query: &HostQuery, found: Found, stamp: &Stamp<'_>) -> Result<Vec<u8>, MapError> {
    let mut message = Message::default();
    message.push(header(&query.peer, &["QCK", "Q02"], stamp));
    heard(&mut message, query, found);
    message.encode(charset(&query.peer))
}

/// `DSR^Q03`: the orders on one specimen, one line a fact (Mindray BS host interface manual, appendix). Every line is
/// sent, because the instruments count them. `more` says that another `DSR^Q03` follows.
pub fn display_orders(
    query: &HostQuery,
    specimen: &Phi,
    work: &[Work],
    more: bool,
    stamp: &Stamp<'_>,
) -> Result<Vec<u8>, MapError> {
    let Some(first) = work.first() else { return Err(MapError::Empty) };
    in_its_charset(query, |named, charset| {
        let mut message = Message::default();
        message.push(header(&query.peer, &["DSR", "Q03"], stamp));
        heard(&mut message, query, Found::Orders);
        echo(&mut message, query);
        let (order, person) = (&first.order, &first.order.patient.patient);
        let name = if named { full_name(&first.order.patient) } else { String::new() };
        let mut lines = vec![String::new(); DISPLAY_LINES];
        let urgent = if work.iter().any(|work| priority(&work.order) == "S") { "Y" } else { "N" };
        let kind = order.specimen.type_code.as_ref().map(display_kind).unwrap_or_default();
        for (line, text) in [
            (1, escape::text(person.id.expose())),
            (3, escape::text(&name)),
            (4, escape::text(person.birth_date.expose())),
            (5, escape::text(&person.sex)),
            (21, escape::text(specimen.expose())),
            (23, time(order.specimen.collected.as_ref())),
            (24, urgent.to_string()),
            (26, kind),
        ] {
            if let Some(slot) = lines.get_mut(line - 1) {
                *slot = text;
            }
        }
        // The code alone: some of these instruments read a number into the parts that follow it.
        lines.extend(each_test(work).map(|(_, _, test)| format!("{}^^^", escape::text(&test.code))));
        for (at, line) in lines.into_iter().enumerate() {
            message.push(Segment::new("DSP").text(1, &(at + 1).to_string()).written(3, line));
        }
        message.push(Segment::new("DSC").text(1, if more { "1" } else { "" }));
        message.encode(charset)
    })
}

/// `ORR^O02`: the order for the specimen that was asked for, in the same message; `AR` and nothing else when there is
/// none, so that the instrument does not wait.
pub fn order_response(
    query: &HostQuery,
    specimen: &Phi,
    work: &[Work],
    stamp: &Stamp<'_>,
) -> Result<Vec<u8>, MapError> {
    in_its_charset(query, |named, charset| {
        let mut message = Message::default();
        message.push(header(&query.peer, &["ORR", "O02"], stamp));
        let code = if work.is_empty() { "AR" } else { "AA" };
        message.push(Segment::new("MSA").text(1, code).written(2, query.peer.control_id.clone()));
        let Some(first) = work.first() else { return message.encode(charset) };
        message.push(patient(&first.order.patient, named));
        message
            .push(Segment::new("PV1").text(1, "1").text(2, "U").text(3, first.order.patient.patient.location.expose()));
        for (at, (work, _, test)) in each_test(work).enumerate() {
            let set_id = (at + 1).to_string();
            message.push(Segment::new("ORC").text(1, "AF").text(2, specimen.expose()));
            let obr = Segment::new("OBR").text(1, &set_id).text(2, specimen.expose()).written(4, super::coded(test));
            message.push(obr.text(7, &time(work.order.specimen.collected.as_ref())).text(24, "HM"));
            let mode = Segment::new("OBX").text(1, "1").text(2, "IS").components(3, &["08003", "Test Mode", "99MRC"]);
            message.push(mode.text(5, &test.code).text(11, "F"));
        }
        message.encode(charset)
    })
}

/// The tests one by one, each with its order and its number: the placer's, and for a second test of the same order that
/// number with `-2` behind it, because an AWOS id names one test.
pub(super) fn each_test(work: &[Work]) -> impl Iterator<Item = (&Work, Number, &Coding)> {
    work.iter().flat_map(|work| {
        work.tests
            .iter()
            .enumerate()
            .map(move |(at, test)| (work, Number::new(&work.order.placer_order_number, at), test))
    })
}

/// The number under which an instrument knows a test.
pub(super) struct Number {
    pub id: String,
    namespace: String,
}

impl Number {
    fn new(placer: &OrderNumber, at: usize) -> Number {
        let id = placer.id.expose();
        let id = if at == 0 { id.to_string() } else { format!("{id}-{}", at + 1) };
        Number { id, namespace: placer.namespace.clone() }
    }

    /// As EI.
    fn field(&self) -> String {
        let parts: Vec<&str> = std::iter::once(self.id.as_str()).chain(self.namespace.split('^')).collect();
        escape::components(&parts)
    }
}

fn law_header(peer: &Peer, kind: [&str; 3], stamp: &Stamp<'_>) -> Segment {
    // LAW is 2.5.1 in UTF-8, whatever the query says.
    header(peer, &kind, stamp).text(12, "2.5.1").text(15, "ER").text(18, "UNICODE UTF-8")
}

/// MSH of a message to this peer, in its own version and character set.
fn header(peer: &Peer, kind: &[&str], stamp: &Stamp<'_>) -> Segment {
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_string() } else { text.to_string() };
    Segment::new("MSH")
        .written(2, "^~\\&".to_string())
        .written(3, peer.receiver[0].clone())
        .written(4, peer.receiver[1].clone())
        .written(5, peer.sender[0].clone())
        .written(6, peer.sender[1].clone())
        .text(7, stamp.time)
        .components(9, kind)
        .text(10, stamp.control_id)
        .written(11, or(&peer.processing_id, "P"))
        .written(12, or(&peer.version, "2.3.1"))
        .written(18, peer.charset.clone())
}

impl Segment {
    /// MSH-21 of a LAW transaction.
    fn profile(self, transaction: &str) -> Segment {
        self.components(21, &[&format!("LAB-{transaction}"), "IHE"])
    }
}

fn acknowledged_query(query: &HostQuery, found: Found) -> Segment {
    let [name, tag] = query.name_and_tag.clone();
    Segment::new("QAK").written(1, tag).text(2, found.code()).written(3, name)
}

fn echo(message: &mut Message, query: &HostQuery) {
    for segment in &query.echo {
        message.push(Segment::verbatim(segment.expose()));
    }
}

/// MSA, ERR and QAK as the display query has them.
fn heard(message: &mut Message, query: &HostQuery, found: Found) {
    let (text, error) = match found {
        Found::Fault(text) => (text, "100"),
        _ => ("Message accepted", "0"),
    };
    let msa = Segment::new("MSA").text(1, found.acknowledgment()).written(2, query.peer.control_id.clone());
    message.push(msa.text(3, text).text(6, error));
    message.push(Segment::new("ERR").text(1, error));
    message.push(Segment::new("QAK").text(1, "SR").text(2, found.code()));
}

/// ERR from 2.5 on.
fn error(text: &str) -> Segment {
    let coded = ["207", "Application internal error", "HL70357"];
    Segment::new("ERR").components(3, &coded).text(4, "E").text(8, text)
}

fn patient(patient: &OrderedPatient, named: bool) -> Segment {
    let person = &patient.patient;
    let pid = Segment::new("PID").text(1, "1");
    let pid = match person.id.is_empty() {
        true => pid,
        false => pid.written(3, super::record_number(person.id.expose(), &person.id_authority)),
    };
    let pid = match named && !(person.family.is_empty() && person.given.is_empty()) {
        true => pid.components(5, &[person.family.expose(), person.given.expose()]),
        false => pid.components(5, &super::NAME_UNKNOWN),
    };
    pid.text(7, person.birth_date.expose()).text(8, &person.sex)
}

fn full_name(patient: &OrderedPatient) -> String {
    let names = [patient.patient.given.expose(), patient.patient.family.expose()];
    names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ")
}

fn specimen(specimen: &Specimen, container: &Phi) -> Segment {
    let kind = specimen.type_code.as_ref().map_or(NULL.to_string(), super::coded);
    Segment::new("SPM")
        .text(1, "1")
        .text(2, container.expose())
        .written(4, kind)
        .components(11, &["P", "Patient", "HL70369"])
        .text(17, &time(specimen.collected.as_ref()))
}

fn timing(order: &WorkOrder) -> Segment {
    Segment::new("TQ1").components(9, &[priority(order), "", "HL70485"])
}

/// Priority as instruments know it: urgent or routine.
fn priority(order: &WorkOrder) -> &'static str {
    match order.priority.as_str() {
        "S" | "A" => "S",
        _ => "R",
    }
}

/// The kind of specimen in the words of the display query.
fn display_kind(kind: &Coding) -> String {
    match kind.code.as_str() {
        "SER" => "serum".to_string(),
        "PLAS" => "plasma".to_string(),
        "UR" => "urine".to_string(),
        "CSF" => "csf".to_string(),
        _ => String::new(),
    }
}

fn time(time: Option<&Timestamp>) -> String {
    time.map(Timestamp::hl7).unwrap_or_default()
}

/// The peer's character set; ASCII when it names none we write.
fn charset(peer: &Peer) -> Charset {
    let name = peer.charset.to_ascii_uppercase();
    match name.split('~').next().unwrap_or_default().trim() {
        "UNICODE UTF-8" | "UNICODE" | "UTF-8" | "UTF8" => Charset::Utf8,
        "8859/1" => Charset::Latin1,
        _ => Charset::Ascii,
    }
}

/// Makes a message in the peer's character set: with the patient's name, or without it when it does not fit.
fn in_its_charset(
    query: &HostQuery,
    make: impl Fn(bool, Charset) -> Result<Vec<u8>, MapError>,
) -> Result<Vec<u8>, MapError> {
    let charset = charset(&query.peer);
    match make(true, charset) {
        Err(MapError::Charset { .. }) => make(false, charset),
        made => made,
    }
}
