//! Imaging in HL7 v2: ORU^R01 for studies, measurements and documents, and the status of an order.
//!
//! | | |
//! |---|---|
//! | OBX-3 | the code as the report has it, `18043-0^...^LN` |
//! | OBX-4 | site, side and fetus of a measurement, and what tells it from every other: `T-45100-L.7Q2MKC8D`; of a document the latter |
//! | OBX-11 | F for a verified report, C for one that corrects what was sent, else P; D for what it has no more |
//! | OBX-17 | measurement method; OBX-20 from 2.8 on: the site |
//! | NTE | everything else said about the number, in words |

use super::super::identity::SUB_ID_CHARS;
use super::super::imaging::{Document, ImagingOrderStatus, Named, Numbers, Sending, accession, is_final};
use super::segment::{Message, Segment};
use super::{Hl7Version, MapError, comments, made, msh, obr, obx, pid, time};
use crate::clinical::imaging::{Charted, IMAGING_DOCUMENT, Instance, Measurement, MeasurementReport, ModifierValue};
use crate::clinical::{Coding, CodingSystem, Decimal, Observation, Value};
use crate::mapping::Outgoing;
use base64::Engine;

/// OBX-11 of what is taken back.
const TAKEN_BACK: &str = "D";
/// OBX-4 is ST(20) up to HL7 2.6.
const SUB_ID_CHARS_MAX: usize = 20;
/// DICOM's own code for the UID of a study.
const DICOM_STUDY: (&str, &str) = ("113014", "DICOM Study");

/// The study: its UID, and how much of it there is.
pub fn study(sending: &Sending, version: Hl7Version) -> Result<Vec<u8>, MapError> {
    let facts = sending.facts;
    let uid = Observation {
        code: Some(Coding { code: DICOM_STUDY.0.into(), text: DICOM_STUDY.1.into(), system: dicom() }),
        value: Value::Text(facts.study.instance_uid.clone()),
        status: sending.status(true).into(),
        completed: sending.started(),
        ..Observation::default()
    };
    let instances: usize = facts.series.iter().map(|(_, instances)| instances.len()).sum();
    let mut count = vec![format!("Series: {}, instances: {instances}", facts.series.len())];
    let modalities = sending.modalities().join(", ");
    if !modalities.is_empty() {
        count.push(format!("Modalities: {modalities}"));
    }
    let mut message = head(sending, version, None, if facts.is_correction { "C" } else { "R" });
    push(&mut message, sending, version, 1, &uid, "1");
    comments(&mut message, &count);
    message.encode(sending.parcel.target.charset)
}

/// Measurements, an OBX each; then what is taken back.
pub fn measurements(sending: &Sending, numbers: &Numbers, version: Hl7Version) -> Result<Vec<u8>, MapError> {
    let status = numbers.status(sending);
    let Numbers { report, part, gone, .. } = numbers;
    let title = match (part.is_empty(), gone.numbers.is_empty()) {
        (false, _) => Some(&report.title),
        (true, false) => gone.title.as_ref().or(Some(&report.title)),
        (true, true) => None,
    };
    let mut group = Group::first(sending, version, title, status);
    for number in part {
        let status = if number.measurement.value.is_empty() { "X" } else { status };
        group.number(report, *number, status);
    }
    group.taken_back(numbers, status);
    group.message.encode(sending.parcel.target.charset)
}

/// A message while its results are written, each under the service it belongs to.
struct Group<'s> {
    sending: &'s Sending<'s>,
    version: Hl7Version,
    message: Message,
    /// OBR-4 and OBR-24 of the results that come.
    service: (String, &'static str),
    /// OBR-1 and OBX-1 of what was written last.
    set_ids: (usize, usize),
}

impl<'s> Group<'s> {
    fn first(sending: &'s Sending<'s>, version: Hl7Version, title: Option<&Coding>, status: &str) -> Group<'s> {
        let message = head(sending, version, title, status);
        Group { sending, version, message, service: service(sending, title), set_ids: (1, 0) }
    }

    /// What comes is told under the service it was told under before, in an OBR of its own when that is another one.
    fn under(&mut self, title: Option<&Coding>, status: &str) {
        let service = service(self.sending, title);
        if self.service != service {
            self.service = service;
            self.set_ids = (self.set_ids.0 + 1, 0);
            self.message.push(order(self.sending));
            let request = observation_request(self.sending, self.version, title, status);
            self.message.push(request.text(1, &self.set_ids.0.to_string()));
        }
    }

    fn next(&mut self) -> usize {
        self.set_ids.1 += 1;
        self.set_ids.1
    }

    fn number(&mut self, report: &MeasurementReport, number: Named, status: &str) {
        let at = self.next();
        self.message.push(result(self.sending, self.version, report, number, (at, status)));
        comments(&mut self.message, &[words(number.measurement)]);
    }

    /// What a chart has no more: numbers under the title of their report, and documents.
    fn taken_back(&mut self, numbers: &Numbers, status: &str) {
        let (report, Charted { title, documents, .. }) = (numbers.report, numbers.gone);
        for (at, number) in numbers.gone().enumerate() {
            if at == 0 {
                self.under(title.as_ref().or(Some(&report.title)), status);
            }
            self.number(report, number, TAKEN_BACK);
        }
        for document in documents {
            self.under(None, status);
            let (sending, at) = (self.sending, self.next());
            let observation = observed(sending, &document.instance, document.code.as_ref(), Value::Absent, TAKEN_BACK);
            let sub_id = sending.parcel.identity.imaging_sub_id(&[report.identity_uid()]);
            self.message.push(segment(sending, self.version, at, &observation, &sub_id).text(2, "ED"));
        }
    }
}

fn result(
    sending: &Sending,
    version: Hl7Version,
    report: &MeasurementReport,
    number: Named,
    (at, status): (usize, &str),
) -> Segment {
    let measurement = number.measurement;
    let value = match Decimal::parse(&measurement.value) {
        _ if measurement.value.is_empty() => Value::Absent,
        Some(number) => Value::Number(number),
        None => Value::Text(measurement.value.clone()),
    };
    let unit = measurement.unit.clone().unwrap_or_default();
    let observation = Observation {
        code: Some(measurement.code.clone()),
        value,
        unit: if unit.text.is_empty() { unit.code } else { unit.text },
        ucum: measurement.ucum.clone(),
        status: status.into(),
        completed: sending.effective(report, Some(measurement)),
        ..Observation::default()
    };
    let sub_id = sub_id(sending, report, number);
    let mut segment = segment(sending, version, at, &observation, &sub_id);
    if let Some(method) = &measurement.method {
        segment = segment.written(17, super::coded(method));
    }
    if let Some(site) = measurement.site.as_ref().filter(|_| version >= Hl7Version::V28) {
        segment = segment.written(20, super::coded(site));
    }
    segment
}

/// A document as OBX ED; then what is taken back.
pub fn document(
    sending: &Sending,
    document: &Document,
    before: &Numbers,
    version: Hl7Version,
) -> Result<Vec<u8>, MapError> {
    let instance = document.instance;
    let status = sending.status(is_final(&instance.completion, &instance.verification));
    let value = Value::Data {
        media_type: if instance.media_type.is_empty() { "application/pdf" } else { &instance.media_type }.into(),
        base64: base64::engine::general_purpose::STANDARD.encode(document.bytes),
    };
    let observation = observed(sending, instance, document.code, value, status);
    let mut group = Group::first(sending, version, None, status);
    let sub_id = sending.parcel.identity.imaging_sub_id(&[document.first_uid]);
    let at = group.next();
    push(&mut group.message, sending, version, at, &observation, &sub_id);
    let title = Some(instance.title.clone()).filter(|t| !t.is_empty());
    comments(&mut group.message, &title.into_iter().collect::<Vec<_>>());
    group.taken_back(before, before.status(sending));
    group.message.encode(sending.parcel.target.charset)
}

/// A document as a result, the same whether it is told of or taken back.
fn observed(sending: &Sending, instance: &Instance, code: Option<&Coding>, value: Value, status: &str) -> Observation {
    Observation {
        code: Some(code.cloned().unwrap_or_else(|| Coding::loinc(IMAGING_DOCUMENT.0, IMAGING_DOCUMENT.1))),
        value,
        status: status.into(),
        completed: instance.made.timestamp(sending.facts.zone).or_else(|| sending.started()),
        ..Observation::default()
    }
}

/// The status of an order. From 2.5.1 on an order with everything IPC asks for goes as OMI, another as OMG.
pub fn order_status(sending: &Sending, status: ImagingOrderStatus, version: Hl7Version) -> Result<Vec<u8>, MapError> {
    let parcel = &sending.parcel;
    let (order_status, step_status) = match status {
        ImagingOrderStatus::InProgress => ("IP", "I"),
        ImagingOrderStatus::Completed => ("CM", "R"),
        ImagingOrderStatus::Discontinued => ("DC", "X"),
    };
    let request = sending.facts.request;
    let (accession, _) = accession(sending.facts);
    let ipc = request.filter(|r| {
        !r.requested_procedure_id.is_empty() && !r.scheduled_procedure_step_id.is_empty() && !accession.is_empty()
    });
    let kind = match (version < Hl7Version::V251, ipc) {
        (true, _) => ["ORM", "O01", "ORM_O01"],
        (false, Some(_)) => ["OMI", "O23", "OMI_O23"],
        (false, None) => ["OMG", "O19", "OMG_O19"],
    };
    let mut message = Message::default();
    message.push(msh(parcel, version).components(9, &kind));
    message.push(pid(parcel));
    let (placer, filler) = (super::placer(parcel), super::filler(parcel));
    message.push(
        Segment::new("ORC")
            .text(1, "SC")
            .written(2, placer.clone())
            .written(3, filler.clone())
            .text(5, order_status)
            .text(9, &made(parcel)),
    );
    message.push(observation_request(sending, version, None, step_status));
    if let Some(request) = ipc.filter(|_| kind[0] == "OMI") {
        let modality = sending.modalities().first().map_or("", |m| *m);
        message.push(
            Segment::new("IPC")
                .components(1, &[accession.expose()])
                .components(2, &[request.requested_procedure_id.expose()])
                .components(3, &[&sending.facts.study.instance_uid])
                .components(4, &[request.scheduled_procedure_step_id.expose()])
                .components(5, &[modality]),
        );
    }
    message.encode(parcel.target.charset)
}

/// MSH, PID, ORC, OBR.
fn head(sending: &Sending, version: Hl7Version, title: Option<&Coding>, status: &str) -> Message {
    let parcel = &sending.parcel;
    let mut message = Message::default();
    message.push(msh(parcel, version));
    message.push(pid(parcel));
    message.push(order(sending));
    message.push(observation_request(sending, version, title, status));
    message
}

fn order(sending: &Sending) -> Segment {
    let (placer, filler) = (super::placer(&sending.parcel), super::filler(&sending.parcel));
    Segment::new("ORC").text(1, "RE").written(2, placer).written(3, filler)
}

/// OBR-4 and OBR-24.
fn service(sending: &Sending, title: Option<&Coding>) -> (String, &'static str) {
    let service = sending.parcel.report.order.universal_service_id.as_ref().or(title).cloned();
    let service = service.unwrap_or_else(|| Coding::loinc(IMAGING_DOCUMENT.0, IMAGING_DOCUMENT.1));
    (super::coded(&service), sending.section(title).0)
}

fn observation_request(sending: &Sending, version: Hl7Version, title: Option<&Coding>, status: &str) -> Segment {
    let parcel = &sending.parcel;
    let (service, section) = service(sending, title);
    obr(parcel, version, super::placer(parcel), super::filler(parcel))
        .written(4, service)
        .text(7, &time(sending.started().as_ref()))
        .text(24, section)
        .text(25, status)
}

fn push(message: &mut Message, sending: &Sending, version: Hl7Version, at: usize, of: &Observation, sub_id: &str) {
    message.push(segment(sending, version, at, of, sub_id));
}

fn segment(sending: &Sending, version: Hl7Version, at: usize, of: &Observation, sub_id: &str) -> Segment {
    let outgoing = Outgoing { observation: of, index: at - 1, name: String::new(), sub_id: 1 };
    obx(&sending.parcel, version, at, &outgoing).text(4, sub_id)
}

/// OBX-4: site, side and fetus for people where there is room, and then what tells this number from every other, in a
/// corrected report as well.
fn sub_id(sending: &Sending, report: &MeasurementReport, number: Named) -> String {
    let Named { name, measurement } = number;
    let code = |coding: &Option<Coding>| coding.as_ref().map(|c| c.code.clone()).unwrap_or_default();
    let side = side(&code(&measurement.laterality)).to_string();
    let fetus = Some(&measurement.fetus).filter(|f| !f.is_empty()).map(|f| format!("F{f}")).unwrap_or_default();
    let parts: Vec<String> = [code(&measurement.site), side, fetus].into_iter().filter(|p| !p.is_empty()).collect();
    let place = parts.join("-");
    let own = sending.parcel.identity.imaging_sub_id(&[report.identity_uid(), name]);
    let has_room = !place.is_empty() && place.chars().count() < SUB_ID_CHARS_MAX - SUB_ID_CHARS;
    if has_room { format!("{place}.{own}") } else { own }
}

/// Sides in SNOMED RT and CT; another code stands for itself.
fn side(code: &str) -> &str {
    match code {
        "G-A101" | "7771000" => "L",
        "G-A100" | "24028007" => "R",
        "G-A102" | "51440002" => "B",
        other => other,
    }
}

/// What is said about a measurement, in words.
fn words(m: &Measurement) -> String {
    let text = |c: &Coding| if c.text.is_empty() { c.code.clone() } else { c.text.clone() };
    let named = [
        ("Site", &m.site),
        ("Laterality", &m.laterality),
        ("Mode", &m.mode),
        ("Method", &m.method),
        ("Derivation", &m.derivation),
        ("Cardiac cycle point", &m.cycle_point),
        ("Direction of flow", &m.direction),
        ("Selection", &m.selection),
        ("Qualifier", &m.qualifier),
    ];
    let mut words: Vec<String> =
        named.into_iter().filter_map(|(name, coding)| Some(format!("{name}: {}", text(coding.as_ref()?)))).collect();
    for (name, value) in [("Fetus", &m.fetus), ("Tracking id", &m.tracking)] {
        if !value.is_empty() {
            words.push(format!("{name}: {value}"));
        }
    }
    words.extend(m.modifiers.iter().map(|modifier| {
        let value = match &modifier.value {
            ModifierValue::Coded(coding) => text(coding),
            ModifierValue::Text(text) => text.clone(),
            ModifierValue::Number { value, unit } => format!("{value} {unit}"),
        };
        format!("{}: {value}", text(&modifier.name))
    }));
    words.join("; ")
}

fn dicom() -> CodingSystem {
    CodingSystem::Other("DCM".into())
}
