//! Imaging in FHIR R4: ImagingStudy with its Endpoint, an Observation a number, DiagnosticReport, DocumentReference.
//!
//! | resource | found again by |
//! |---|---|
//! | ImagingStudy | `urn:dicom:uid`, the Study Instance UID |
//! | Observation | our name, from the UID of the first report of its line and what it is a number of |
//! | Observation, panel of a group | the same, from the numbers in it |
//! | DiagnosticReport, DocumentReference | `urn:dicom:uid`, the SOP Instance UID of the first document of its line |
//! | Endpoint | our name, from the address |

use super::super::imaging::{Document, Named, Numbers, Sending, accession, is_final};
use super::resource::*;
use super::value::UCUM;
use super::{
    Paper, bundle, coded_concept, date_time, finished, identifier, identifier_type, made, percent_encoded, some,
};
use crate::clinical::imaging::{
    Instance, Measurement, MeasurementReport, ModifierValue, Panel, Series, snomed_ct_twin,
};
use crate::clinical::{Coding as Code, CodingSystem};
use crate::mapping::{Format, MapError, Optional};
use base64::Engine;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};

/// Observation.status of what a corrected report has no more.
const TAKEN_BACK: &str = "entered-in-error";
const DICOM_UID: &str = "urn:dicom:uid";
const URI: &str = "urn:ietf:rfc:3986";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const CATEGORIES: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
const ABSENT_REASONS: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";
const CONNECTION_TYPES: &str = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type";

/// The study, and the endpoint where its images are.
pub(in crate::mapping) fn study(sending: &Sending) -> Result<Vec<u8>, MapError> {
    let paper = paper(sending);
    let facts = sending.facts;
    let mut writes = Vec::new();
    let mut endpoints = Vec::new();
    if let Some(address) = some(&sending.profile.wado_rs) {
        let key = sending.parcel.identity.imaging("endpoint", &[&address]);
        endpoints.push(paper.imaging_reference("Endpoint", "endpoint", &key, true));
        let endpoint = Endpoint {
            resource_type: "Endpoint",
            identifier: vec![identifier(paper.system("endpoint"), &key)],
            status: "active",
            connection_type: Coding {
                system: Some(CONNECTION_TYPES.into()),
                code: "dicom-wado-rs".into(),
                display: Some("DICOM WADO-RS".into()),
            },
            payload_type: vec![CodeableConcept { coding: Vec::new(), text: Some("DICOM".into()) }],
            address,
        };
        writes.push(paper.put_as("Endpoint", &paper.system("endpoint"), key.clone(), key, &endpoint)?);
    }
    let procedures = facts.study.procedures.iter().filter_map(|code| paper.concept(&[code]));
    let key = sending.parcel.identity.imaging("study", &[&facts.study.instance_uid]);
    let study = ImagingStudy {
        resource_type: "ImagingStudy",
        identifier: [Some(dicom_uid(&facts.study.instance_uid)), paper.accession(sending)]
            .into_iter()
            .flatten()
            .collect(),
        status: "available",
        modality: sending.modalities().into_iter().map(modality).collect(),
        subject: paper.subject().ok_or(MapError::NoPatient)?,
        started: date_time(sending.started().as_ref(), "ImagingStudy.started")?,
        based_on: paper.based_on(),
        referrer: some(&person(facts.study.referring_physician.expose()))
            .map(|display| Reference { display: Some(display), ..Reference::default() }),
        endpoint: endpoints,
        number_of_series: facts.series.len(),
        number_of_instances: facts.series.iter().map(|(_, instances)| instances.len()).sum(),
        procedure_code: procedures.collect(),
        description: some(&facts.study.description),
        series: facts
            .series
            .iter()
            .map(|(series, all)| paper.series(sending, series, all))
            .collect::<Result<_, _>>()?,
    };
    let target = vec![paper.study_reference(sending)];
    writes.push(paper.put_as("ImagingStudy", DICOM_UID, urn_oid(&facts.study.instance_uid), key, &study)?);
    paper.finish(writes, target)
}

/// The numbers of a report, their groups and the report; and what is taken back of those before.
pub(in crate::mapping) fn measurements(sending: &Sending, numbers: &Numbers) -> Result<Vec<u8>, MapError> {
    let paper = paper(sending);
    let (mut writes, mut target) = told(sending, &paper, numbers)?;
    // All documents of a line are one resource.
    if let Some(document) = numbers.gone.documents.first() {
        let first_uid = numbers.report.identity_uid();
        let gone = Document { instance: &document.instance, code: document.code.as_ref(), bytes: &[], first_uid };
        let (write, written) = paper.document(sending, &gone, None)?;
        writes.push(write);
        target.push(written);
    }
    paper.finish(writes, target)
}

/// What is written of the numbers of a report, and which resources that are.
fn told(sending: &Sending, paper: &Paper, numbers: &Numbers) -> Result<(Vec<Write>, Vec<Reference>), MapError> {
    let Numbers { report, names, part, gone, is_withdrawn } = numbers;
    let status = match numbers.status(sending) {
        "C" => "corrected",
        "F" => "final",
        _ => "preliminary",
    };
    let key = |of: &str, name: &str| sending.parcel.identity.imaging(of, &[report.identity_uid(), name]);
    let (number, panel) = (|name: &str| key("measurement", name), |name: &str| key("panel", name));
    let reference = |key: String, is_written| paper.imaging_reference("Observation", "observation", &key, is_written);
    let mut writes = Vec::new();
    if paper.has(Optional::Device) {
        writes.push(paper.put("Device", sending.parcel.identity.device(), &paper.device())?);
    }
    for Named { name, measurement } in part {
        let observation = paper.measurement(sending, report, measurement, number(name), status)?;
        writes.push(paper.put("Observation", number(name), &observation)?);
    }
    // A part that goes out later replaces panels and report: they always list all there is.
    let listed: Vec<Named> = names
        .iter()
        .zip(&report.measurements)
        .filter(|(_, m)| sending.profile.wants(m))
        .map(|(name, measurement)| Named { name, measurement })
        .collect();
    let panels = report.panels(names);
    let mut open: HashMap<&str, &Panel> = panels.iter().map(|panel| (panel.group, panel)).collect();
    let written: HashSet<&str> = part.iter().map(|n| n.name).collect();
    let written_groups: HashSet<&str> = part.iter().map(|n| n.measurement.group.as_str()).collect();
    let is_panel: HashSet<&str> = panels.iter().map(|panel| panel.group).collect();
    let mut results = Vec::new();
    for Named { name, measurement } in &listed {
        let group = measurement.group.as_str();
        if !is_panel.contains(group) {
            results.push(reference(number(name), written.contains(name)));
            continue;
        }
        let Some(first) = open.remove(group) else { continue };
        let is_sent = written_groups.contains(group);
        results.push(reference(panel(&first.name), is_sent));
        if !is_sent {
            continue;
        }
        let members: Vec<&Named> = listed.iter().filter(|m| m.measurement.group == group).collect();
        let shared = |of: fn(&Measurement) -> &Option<Code>| {
            let all_same = members.iter().all(|m| of(m.measurement) == of(measurement));
            of(measurement).as_ref().filter(|_| all_same)
        };
        let observation = Observation {
            body_site: shared(|m| &m.site).and_then(|site| paper.body_site(site, shared(|m| &m.laterality))),
            has_member: members.iter().map(|m| reference(number(m.name), written.contains(m.name))).collect(),
            ..paper.imaging_observation(sending, report, first.called, panel(&first.name), status)?
        };
        writes.push(paper.put("Observation", panel(&first.name), &observation)?);
    }
    for Named { name, measurement } in numbers.gone() {
        let observation = paper.measurement(sending, report, measurement, number(name), TAKEN_BACK)?;
        writes.push(paper.put("Observation", number(name), &observation)?);
    }
    for (name, called) in &gone.panels {
        // Without members it says why it has no value (obs-6).
        let observation = Observation {
            data_absent_reason: Some(coded_concept(ABSENT_REASONS, "not-applicable", "Not Applicable")),
            ..paper.imaging_observation(sending, report, called, panel(name), TAKEN_BACK)?
        };
        writes.push(paper.put("Observation", panel(name), &observation)?);
    }
    if *is_withdrawn {
        results.clear();
    }
    let mut target = results.clone();
    // One that was never told of is not withdrawn.
    if paper.has(Optional::DiagnosticReport) && numbers.is_of_a_report() {
        let key = sending.parcel.identity.imaging("report", &[report.identity_uid()]);
        let (section, section_name) = sending.section(Some(&report.title));
        let ordered = sending.parcel.report.order.universal_service_id.as_ref();
        let resource = DiagnosticReport {
            resource_type: "DiagnosticReport",
            identifier: line_of(&report.sop_instance_uid, report.identity_uid())
                .into_iter()
                .chain(paper.accession(sending))
                .collect(),
            based_on: paper.based_on(),
            status: if *is_withdrawn { TAKEN_BACK } else { status },
            category: vec![coded_concept(super::DIAGNOSTIC_SERVICES, section, section_name)],
            code: paper.imaging_concept(&report.title).or_else(|| paper.concept(&[ordered?])).unwrap_or_default(),
            subject: paper.subject(),
            effective_date_time: date_time(sending.effective(report, None).as_ref(), "effectiveDateTime")?,
            issued: made(&sending.parcel),
            specimen: Vec::new(),
            result: results,
            imaging_study: vec![paper.study_reference(sending)],
            presented_form: Vec::new(),
        };
        let uid = urn_oid(report.identity_uid());
        target.push(paper.whole_or_logical("DiagnosticReport", &key, dicom_uid(report.identity_uid())));
        writes.push(paper.put_as("DiagnosticReport", DICOM_UID, uid, key, &resource)?);
    }
    Ok((writes, target))
}

/// A document; and what is taken back of the report whose place it takes. An earlier document is the same resource.
pub(in crate::mapping) fn document(
    sending: &Sending,
    document: &Document,
    before: &Numbers,
) -> Result<Vec<u8>, MapError> {
    let paper = paper(sending);
    let instance = document.instance;
    let doc_status = match sending.status(is_final(&instance.completion, &instance.verification)) {
        "C" => "amended",
        "F" => "final",
        _ => "preliminary",
    };
    let (write, written) = paper.document(sending, document, Some(doc_status))?;
    // First what is new: where each is written by itself, one that is refused leaves what was there.
    let (mut writes, mut target) = (vec![write], vec![written]);
    if before.is_of_a_report() {
        let (withdrawn, of) = told(sending, &paper, before)?;
        writes.extend(withdrawn);
        target.extend(of);
    }
    paper.finish(writes, target)
}

fn paper<'s>(sending: &'s Sending) -> Paper<'s> {
    Paper { parcel: &sending.parcel, whole: sending.parcel.target.format == Format::FhirTransaction }
}

impl Paper<'_> {
    fn finish(&self, mut writes: Vec<Write>, target: Vec<Reference>) -> Result<Vec<u8>, MapError> {
        if self.has(Optional::Provenance) {
            writes.push(self.provenance(target)?);
        }
        if self.whole { bundle(self.parcel, writes) } else { finished(&writes) }
    }

    /// A document and the reference to it; without a status one that is superseded, of which the bytes are not repeated.
    fn document(
        &self,
        sending: &Sending,
        document: &Document,
        doc_status: Option<&'static str>,
    ) -> Result<(Write, Reference), MapError> {
        let instance = document.instance;
        let made_at = instance.made.timestamp(sending.facts.zone).or_else(|| sending.started());
        let key = sending.parcel.identity.imaging("document", &[document.first_uid]);
        let data = doc_status.map(|_| base64::engine::general_purpose::STANDARD.encode(document.bytes));
        let resource = DocumentReference {
            resource_type: "DocumentReference",
            master_identifier: Identifier { system: Some(URI.into()), ..dicom_uid(&instance.sop_instance_uid) },
            identifier: line_of(&instance.sop_instance_uid, document.first_uid),
            status: if doc_status.is_some() { "current" } else { "superseded" },
            doc_status,
            kind: document.code.and_then(|c| self.imaging_concept(c)),
            subject: self.subject(),
            date: made(&sending.parcel),
            description: some(&instance.title),
            content: vec![DocumentContent {
                attachment: DocumentAttachment {
                    content_type: some(&instance.media_type).unwrap_or_else(|| "application/pdf".into()),
                    data,
                    title: some(&instance.title),
                    creation: date_time(made_at.as_ref(), "Attachment.creation")?,
                },
            }],
            context: DocumentContext {
                related: vec![self.study_reference(sending)].into_iter().chain(self.based_on()).collect(),
            },
        };
        let written = self.whole_or_logical("DocumentReference", &key, dicom_uid(document.first_uid));
        let uid = urn_oid(document.first_uid);
        Ok((self.put_as("DocumentReference", DICOM_UID, uid, key, &resource)?, written))
    }

    /// A conditional update by an identifier of any system.
    fn put_as(
        &self,
        kind: &'static str,
        system: &str,
        value: String,
        key: String,
        resource: &impl Serialize,
    ) -> Result<Write, MapError> {
        let url = format!("{kind}?identifier={}", percent_encoded(&format!("{system}|{value}")));
        Ok(Write { kind, key, method: "PUT", url, if_none_exist: None, resource: super::raw(resource)? })
    }

    /// A reference to a resource of ours with an identifier below our own system.
    fn imaging_reference(&self, kind: &'static str, system: &str, key: &str, is_written: bool) -> Reference {
        match self.whole && is_written {
            true => Reference { reference: Some(super::urn(key)), ..Reference::default() },
            false => {
                let identifier = Some(identifier(self.system(system), key));
                Reference { kind: Some(kind), identifier, ..Reference::default() }
            }
        }
    }

    fn whole_or_logical(&self, kind: &'static str, key: &str, identifier: Identifier) -> Reference {
        match self.whole {
            true => Reference { reference: Some(super::urn(key)), ..Reference::default() },
            false => Reference { kind: Some(kind), identifier: Some(identifier), ..Reference::default() },
        }
    }

    /// The study by its UID: it may be written before or after, by us or by the PACS.
    fn study_reference(&self, sending: &Sending) -> Reference {
        let identifier = Some(dicom_uid(&sending.facts.study.instance_uid));
        Reference { kind: Some("ImagingStudy"), identifier, ..Reference::default() }
    }

    fn accession(&self, sending: &Sending) -> Option<Identifier> {
        let (number, authority) = accession(sending.facts);
        let system = match authority {
            "" => some(&sending.profile.accession_system),
            authority => self.order_system(authority),
        };
        let value = some(number.expose())?;
        Some(Identifier { kind: identifier_type("ACSN"), system, value, assigner: None })
    }

    fn series(&self, sending: &Sending, series: &Series, instances: &[&Instance]) -> Result<StudySeries, MapError> {
        let site = series.body_site.as_ref().map(|site| SeriesCoding {
            system: self.code_system(&site.system),
            code: some(&site.code),
            display: some(&site.text),
        });
        let part =
            || some(&series.body_part).map(|part| SeriesCoding { system: None, code: None, display: Some(part) });
        let (code, display) = match series.laterality.as_str() {
            "L" => (Some("7771000"), "Left"),
            "R" => (Some("24028007"), "Right"),
            _ => (None, ""),
        };
        let laterality = code.map(|code| SeriesCoding {
            system: Some(super::SNOMED.into()),
            code: Some(code.into()),
            display: some(display),
        });
        let started = series.started.timestamp(sending.facts.zone);
        Ok(StudySeries {
            uid: series.instance_uid.clone(),
            number: unsigned(&series.number),
            modality: modality(if series.modality.is_empty() { "OT" } else { &series.modality }),
            description: some(&series.description),
            number_of_instances: instances.len(),
            body_site: site.or_else(part),
            laterality,
            started: date_time(started.as_ref(), "ImagingStudy.series.started")?,
            instance: instances
                .iter()
                .map(|instance| SeriesInstance {
                    uid: instance.sop_instance_uid.clone(),
                    sop_class: Coding {
                        system: Some(URI.into()),
                        code: urn_oid(&instance.sop_class_uid),
                        display: None,
                    },
                    number: unsigned(&instance.number),
                    title: some(&instance.title),
                })
                .collect(),
        })
    }

    /// What every Observation of a report says: all there is of a panel but its members.
    fn imaging_observation(
        &self,
        sending: &Sending,
        report: &MeasurementReport,
        code: &Code,
        key: String,
        status: &'static str,
    ) -> Result<Observation, MapError> {
        Ok(Observation {
            resource_type: "Observation",
            identifier: vec![identifier(self.system("observation"), &key)],
            based_on: self.based_on(),
            status,
            category: vec![category()],
            code: self.imaging_concept(code).unwrap_or_default(),
            subject: self.subject(),
            effective_date_time: date_time(sending.effective(report, None).as_ref(), "effectiveDateTime")?,
            issued: made(&sending.parcel),
            device: self.device_reference(),
            derived_from: vec![self.study_reference(sending)],
            ..Observation::default()
        })
    }

    fn measurement(
        &self,
        sending: &Sending,
        report: &MeasurementReport,
        m: &Measurement,
        key: String,
        status: &'static str,
    ) -> Result<Observation, MapError> {
        let value = quantity(m);
        let images = m.images.iter().map(|uid| Reference {
            kind: Some("Media"),
            identifier: Some(dicom_uid(uid)),
            ..Reference::default()
        });
        let mut component = Vec::new();
        let mut say = |name: Code, value: Option<Value>| {
            if let (Some(code), Some(value)) = (self.imaging_concept(&name), value) {
                component.push(Component { code, value });
            }
        };
        let coded = |c: &Option<Code>| c.as_ref().and_then(|c| self.imaging_concept(c)).map(Value::Concept);
        let words = |text: &str| some(text).map(Value::Text);
        say(snomed("272741003", "Laterality"), coded(&m.laterality));
        say(snomed("399264008", "Image Mode"), coded(&m.mode));
        say(dcm("121401", "Derivation"), coded(&m.derivation));
        say(snomed("272518008", "Cardiac Cycle Point"), coded(&m.cycle_point));
        say(snomed("260674002", "Direction of Flow"), coded(&m.direction));
        say(dcm("121404", "Selection Status"), coded(&m.selection));
        say(Code::loinc("11951-1", "Fetus ID"), words(&m.fetus));
        say(dcm("112039", "Tracking Identifier"), words(&m.tracking));
        say(dcm("112040", "Tracking Unique Identifier"), words(&m.tracking_uid));
        for modifier in &m.modifiers {
            let value = match &modifier.value {
                ModifierValue::Coded(coding) => self.imaging_concept(coding).map(Value::Concept),
                ModifierValue::Text(text) => words(text),
                ModifierValue::Number { value, unit } => words(format!("{value} {unit}").trim()),
            };
            say(modifier.name.clone(), value);
        }
        Ok(Observation {
            effective_date_time: date_time(sending.effective(report, Some(m)).as_ref(), "effectiveDateTime")?,
            data_absent_reason: value.is_none().then(|| self.absent(m)),
            value,
            body_site: m.site.as_ref().and_then(|site| self.body_site(site, m.laterality.as_ref())),
            method: m.method.as_ref().and_then(|c| self.imaging_concept(c)),
            derived_from: std::iter::once(self.study_reference(sending)).chain(images).collect(),
            component,
            ..self.imaging_observation(sending, report, &m.code, key, status)?
        })
    }

    /// Why a number has no value (CID 42).
    fn absent(&self, m: &Measurement) -> CodeableConcept {
        let code = m.qualifier.as_ref().map_or("", |q| q.code.as_str());
        let (code, display) = match code {
            "114000" => ("not-a-number", "Not a Number (NaN)"),
            "114001" => ("negative-infinity", "Negative Infinity (NINF)"),
            "114002" => ("positive-infinity", "Positive Infinity (PINF)"),
            "114003" | "114004" | "114005" | "114006" | "114008" | "114009" => ("error", "Error"),
            "114007" => ("not-performed", "Not Performed"),
            _ => ("unknown", "Unknown"),
        };
        let mut concept = coded_concept(ABSENT_REASONS, code, display);
        concept.text = m.qualifier.as_ref().and_then(|q| some(&q.text));
        concept
    }

    /// The site; its text names the side too, for readers that show nothing else.
    fn body_site(&self, site: &Code, laterality: Option<&Code>) -> Option<CodeableConcept> {
        let mut concept = self.imaging_concept(site)?;
        if let (Some(side), Some(text)) = (laterality.and_then(|side| some(&side.text)), &concept.text) {
            concept.text = Some(format!("{side} {text}"));
        }
        Some(concept)
    }

    /// A code as the report has it; one of SNOMED RT with its twin of SNOMED CT, where that is sure.
    fn imaging_concept(&self, code: &Code) -> Option<CodeableConcept> {
        let is_retired = matches!(self.code_system(&code.system).as_deref(), Some("http://snomed.info/srt"));
        let twin = snomed_ct_twin(&code.code).filter(|_| is_retired);
        match twin.map(|twin| Code { code: twin.into(), text: code.text.clone(), system: CodingSystem::Snomed }) {
            Some(twin) => self.concept(&[&twin, code]),
            None => self.concept(&[code]),
        }
    }
}

/// The number with its unit. One that is no JSON number as it was written goes as text; it is never made into one.
fn quantity(m: &Measurement) -> Option<Value> {
    let text = some(&m.value)?;
    let Some(value) = json_number(&text) else { return Some(Value::Text(text)) };
    let unit = m.unit.as_ref().and_then(|u| some(&u.text).or_else(|| some(&u.code)));
    let code = some(&m.ucum);
    Some(Value::Quantity(Quantity { value, comparator: None, unit, system: code.is_some().then_some(UCUM), code }))
}

/// A numeral that is a FHIR decimal letter for letter, exponents included.
fn json_number(text: &str) -> Option<Box<RawValue>> {
    let number = text.strip_prefix('-').unwrap_or(text);
    // serde_json reads exactly the grammar of JSON, and keeps the digits.
    let is_number = number.starts_with(|c: char| c.is_ascii_digit());
    is_number.then(|| RawValue::from_string(text.to_string()).ok()).flatten()
}

fn category() -> CodeableConcept {
    coded_concept(CATEGORIES, "imaging", "Imaging")
}

fn modality(code: &str) -> Coding {
    Coding { system: Some(DICOM.into()), code: code.to_string(), display: None }
}

fn dicom_uid(uid: &str) -> Identifier {
    identifier(DICOM_UID.to_string(), &urn_oid(uid))
}

/// The identifiers of a document: its own UID, and that of the first of its line, by which it is found again.
fn line_of(uid: &str, first_uid: &str) -> Vec<Identifier> {
    let first = Some(first_uid).filter(|first| *first != uid);
    std::iter::once(uid).chain(first).map(dicom_uid).collect()
}

fn urn_oid(uid: &str) -> String {
    format!("urn:oid:{uid}")
}

fn snomed(code: &str, text: &str) -> Code {
    Code { code: code.into(), text: text.into(), system: CodingSystem::Snomed }
}

fn dcm(code: &str, text: &str) -> Code {
    Code { code: code.into(), text: text.into(), system: CodingSystem::Other("DCM".into()) }
}

/// FHIR unsignedInt; a number that is none is left out.
fn unsigned(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|n| *n <= i32::MAX as u32)
}

/// A person name (PN) for people: given before family.
fn person(name: &str) -> String {
    let group = name.split('=').next().unwrap_or_default();
    let mut parts = group.split('^').map(str::trim);
    let (family, given) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    [given, family].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ")
}
