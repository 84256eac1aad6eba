//! FHIR R4: Device, Specimen, Observations, DiagnosticReport and Provenance for one report.
//!
//! | resource | write | found again by |
//! |---|---|---|
//! | Device, Specimen, Observation, DiagnosticReport | `PUT Type?identifier=` | our name for it ([`super::identity`]) |
//! | Provenance | `POST`, `ifNoneExist _tag=` | the message identifier |
//! | Patient, ServiceRequest | never written, only referred to | the EHR's own identifiers |
//!
//! Conditional updates carry corrections (a conditional create that matches writes nothing) and make sending again
//! safe. No condition stands twice in one Bundle, which servers leave undefined. In a transaction resources refer to
//! each other by `urn:uuid`; in single writes, where no server id is known yet, by identifier.

pub(super) mod imaging;
mod observation;
mod resource;
mod value;

use super::{FhirProfile, MapError, Optional, Parcel, PatientReference, TEST_PATIENT};
use super::{identity::percent_encoded, status};
use crate::clinical::{Coding as Code, CodingSystem, Timestamp};
use resource::*;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashSet;

const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const IDENTIFIER_TYPES: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";
const DIAGNOSTIC_SERVICES: &str = "http://terminology.hl7.org/CodeSystem/v2-0074";
/// Coding scheme designators of PS3.16 chapter 8 that have a URI of their own.
const DICOM_SCHEMES: [(&str, &str); 6] = [
    ("DCM", "http://dicom.nema.org/resources/ontology/DCM"),
    ("SRT", "http://snomed.info/srt"),
    ("SNM3", "http://snomed.info/srt"),
    ("99SDM", "http://snomed.info/srt"),
    ("RADLEX", "http://www.radlex.org"),
    ("UCUM", "http://unitsofmeasure.org"),
];
/// Where a resource is marked as one of a test (R4 security-labels, "test health data").
const ACT_REASONS: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const PROVENANCE_AGENTS: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";

/// One transaction Bundle.
pub(super) fn transaction(parcel: &Parcel) -> Result<Vec<u8>, MapError> {
    bundle(parcel, Paper { parcel, whole: true }.writes()?)
}

/// Writes as one transaction, none of them twice.
fn bundle(parcel: &Parcel, writes: Vec<Write>) -> Result<Vec<u8>, MapError> {
    let mut seen = HashSet::new();
    let mut entry = Vec::new();
    for write in writes {
        if seen.insert((write.kind, write.key.clone())) {
            let request = Request { method: write.method, url: write.url, if_none_exist: write.if_none_exist };
            entry.push(Entry { full_url: urn(&write.key), resource: write.resource, request });
        }
    }
    finished(&Bundle {
        resource_type: "Bundle",
        meta: parcel.target.tests_only.then(Meta::of_a_test),
        identifier: identifier(parcel.identity.system("message"), &parcel.origin.message_id),
        kind: "transaction",
        timestamp: made(parcel),
        entry,
    })
}

/// The same resources as a list of writes to be made in order.
pub(super) fn writes(parcel: &Parcel) -> Result<Vec<u8>, MapError> {
    let mut seen = HashSet::new();
    let mut writes = Paper { parcel, whole: false }.writes()?;
    writes.retain(|w| seen.insert((w.kind, w.key.clone())));
    finished(&writes)
}

/// One report being written down.
struct Paper<'p> {
    parcel: &'p Parcel<'p>,
    /// All resources stand in one Bundle and may refer to each other there.
    whole: bool,
}

impl Paper<'_> {
    fn writes(&self) -> Result<Vec<Write>, MapError> {
        let mut writes = Vec::new();
        if self.has(Optional::Device) {
            writes.push(self.put("Device", self.parcel.identity.device(), &self.device())?);
        }
        if self.has(Optional::Specimen) && self.specimen_known() {
            writes.push(self.put("Specimen", self.parcel.identity.specimen(), &self.specimen()?)?);
        }
        for result in &self.parcel.results {
            writes.push(self.put("Observation", result.name.clone(), &self.observation(result)?)?);
        }
        if self.has(Optional::DiagnosticReport) {
            writes.push(self.put("DiagnosticReport", self.report_key(), &self.diagnostic_report()?)?);
        }
        if self.has(Optional::Provenance) {
            let mut target = self.results();
            if self.has(Optional::DiagnosticReport) {
                target.push(self.reference("DiagnosticReport", self.report_key(), true, None));
            }
            writes.push(self.provenance(target)?);
        }
        Ok(writes)
    }

    fn profile(&self) -> &FhirProfile {
        &self.parcel.target.fhir
    }

    fn has(&self, resource: Optional) -> bool {
        !self.profile().leave_out.contains(&resource)
    }

    fn system(&self, of: &str) -> String {
        self.parcel.identity.system(of)
    }

    fn report_key(&self) -> String {
        self.parcel.identity.report(&self.parcel.results)
    }

    fn put(&self, kind: &'static str, key: String, resource: &impl Serialize) -> Result<Write, MapError> {
        let token = percent_encoded(&format!("{}|{key}", self.own_system(kind)));
        let url = format!("{kind}?identifier={token}");
        let meta = self.parcel.target.tests_only.then(Meta::of_a_test);
        let resource = raw(&Labelled { resource, meta })?;
        Ok(Write { kind, key, method: "PUT", url, if_none_exist: None, resource })
    }

    /// The identifier system of our own names for a kind of resource. Those of a test are apart, so that it never takes
    /// the place of a real one: servers keep the labels of what they update, and the instrument is the same.
    fn own_system(&self, kind: &str) -> String {
        let of = match kind {
            "Device" => "device",
            "Specimen" => "specimen",
            "Observation" => "observation",
            _ => "report",
        };
        match self.parcel.target.tests_only {
            true => self.system(&format!("test-{of}")),
            false => self.system(of),
        }
    }

    fn own_identifier(&self, kind: &str, key: &str) -> Identifier {
        identifier(self.own_system(kind), key)
    }

    /// A reference to one of our own resources.
    fn reference(&self, kind: &'static str, key: String, written: bool, display: Option<String>) -> Reference {
        if self.whole && written {
            return Reference { reference: Some(urn(&key)), display, ..Reference::default() };
        }
        let identifier = Some(self.own_identifier(kind, &key));
        Reference { kind: Some(kind), identifier, display, ..Reference::default() }
    }

    fn device_reference(&self) -> Reference {
        let written = self.has(Optional::Device);
        self.reference("Device", self.parcel.identity.device(), written, some(&self.device_name()))
    }

    fn specimen_known(&self) -> bool {
        let specimen = &self.parcel.report.specimen;
        !specimen.id.is_empty() || specimen.type_code.is_some() || specimen.collected.is_some()
    }

    fn specimen_reference(&self) -> Option<Reference> {
        let display = some(self.parcel.report.specimen.id.expose());
        let written = self.has(Optional::Specimen);
        self.specimen_known().then(|| self.reference("Specimen", self.parcel.identity.specimen(), written, display))
    }

    /// The patient, or for a control run the instrument: a control is about no patient. A test is about nobody, whom no
    /// server looks up.
    fn subject(&self) -> Option<Reference> {
        if self.parcel.target.tests_only {
            let [id, authority, family, given] = TEST_PATIENT;
            let system = Some(self.system(&authority.to_ascii_lowercase()));
            let nobody = Identifier { kind: identifier_type("MR"), system, value: id.to_string(), assigner: None };
            let display = Some(format!("{family}, {given}"));
            return Some(Reference {
                kind: Some("Patient"),
                identifier: Some(nobody),
                display,
                ..Reference::default()
            });
        }
        if self.parcel.report.control.is_some() {
            return Some(self.device_reference());
        }
        let patient = &self.parcel.report.patient;
        let id = some(patient.id.expose())?;
        let authority = match patient.id_authority.as_str() {
            "" => self.parcel.target.patient_authority.as_str(),
            own => own,
        };
        let own = &self.profile().patient_system;
        let system =
            self.authority_system(authority, own).or_else(|| some(own).filter(|_| patient.id_authority.is_empty()));
        if let (Some(system), PatientReference::Conditional, true) = (&system, self.profile().patient, self.whole) {
            let token = percent_encoded(&format!("{system}|{id}"));
            return Some(Reference { reference: Some(format!("Patient?identifier={token}")), ..Reference::default() });
        }
        let name = authority.split('^').next().unwrap_or_default();
        let assigner = some(name).map(|display| Reference { display: Some(display), ..Reference::default() });
        let identifier =
            Identifier { kind: identifier_type("MR"), system, value: id, assigner: assigner.map(Box::new) };
        Some(Reference { kind: Some("Patient"), identifier: Some(identifier), ..Reference::default() })
    }

    /// The order the EHR placed, by the number it gave it. A number that only the instrument says is in no system: it
    /// may be a specimen's, and another order of the EHR may have it (invariant I13). Nobody ordered a test.
    fn based_on(&self) -> Vec<Reference> {
        if self.parcel.target.tests_only {
            return Vec::new();
        }
        let order = &self.parcel.report.order;
        let placer = some(order.placer_order_number.expose());
        let reference = placer.map(|value| {
            let system = order.placer_namespace.as_deref().and_then(|namespace| self.order_system(namespace));
            let identifier = Identifier { kind: identifier_type("PLAC"), system, value, assigner: None };
            Reference { kind: Some("ServiceRequest"), identifier: Some(identifier), ..Reference::default() }
        });
        reference.into_iter().collect()
    }

    /// The identifier system of an order number: as the site names the one who gave it, else what EI.3 and EI.4 say.
    fn order_system(&self, namespace: &str) -> Option<String> {
        self.authority_system(namespace, &self.profile().order_system)
    }

    /// The system of an authority: as listed by its name, else its universal id; `unnamed` where nobody is named.
    fn authority_system(&self, authority: &str, unnamed: &str) -> Option<String> {
        let mut parts = authority.split('^');
        let [name, universal_id, kind] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let listed = self.profile().systems.iter().find(|s| s.authority == name && !name.is_empty());
        match (listed, universal_id, kind) {
            (Some(listed), ..) => some(&listed.system),
            (None, "", _) if name.is_empty() => some(unnamed),
            (None, "", _) => None,
            (None, oid, "ISO") => Some(format!("urn:oid:{oid}")),
            (None, uuid, "UUID" | "GUID") => Some(format!("urn:uuid:{}", uuid.to_ascii_lowercase())),
            (None, uri, "URI") => some(uri),
            (None, ..) => None,
        }
    }

    fn device_name(&self) -> String {
        let instrument = &self.parcel.report.instrument;
        let words = [&instrument.vendor, &instrument.model];
        let name = words.into_iter().filter(|w| !w.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
        if name.is_empty() { instrument.sender.clone() } else { name }
    }

    fn device(&self) -> Device {
        let instrument = &self.parcel.report.instrument;
        Device {
            resource_type: "Device",
            identifier: vec![self.own_identifier("Device", &self.parcel.identity.device())],
            status: "active",
            manufacturer: some(&instrument.vendor),
            serial_number: some(&instrument.serial_number),
            device_name: some(if instrument.name.is_empty() { &instrument.sender } else { &instrument.name })
                .map(|name| DeviceName { name, kind: "user-friendly-name" })
                .into_iter()
                .collect(),
            model_number: some(&instrument.model),
            version: some(&instrument.software_version).map(|value| DeviceVersion { value }).into_iter().collect(),
        }
    }

    fn specimen(&self) -> Result<Specimen, MapError> {
        let specimen = &self.parcel.report.specimen;
        let tube = some(specimen.id.expose()).map(|value| Identifier {
            kind: None,
            system: some(&self.profile().specimen_system),
            value,
            assigner: None,
        });
        let own = self.own_identifier("Specimen", &self.parcel.identity.specimen());
        Ok(Specimen {
            resource_type: "Specimen",
            identifier: [Some(own), tube].into_iter().flatten().collect(),
            kind: specimen.type_code.as_ref().and_then(|c| self.concept(&[c])),
            subject: self.subject(),
            collection: date_time(specimen.collected.as_ref(), "Specimen.collection")?
                .map(|collected_date_time| Collection { collected_date_time }),
        })
    }

    fn diagnostic_report(&self) -> Result<DiagnosticReport, MapError> {
        let (report, identity) = (self.parcel.report, &self.parcel.identity);
        let (code, text, system) = self.parcel.service();
        let (number, space) = match report.order.filler_order_number.expose() {
            "" => (identity.filler(), self.system("order")),
            // Instruments count from 1: their numbers are unique on their link only.
            sent => (sent.to_string(), self.system(&format!("order-{}", self.parcel.origin.link))),
        };
        let filler = Identifier { kind: identifier_type("FILL"), system: Some(space), value: number, assigner: None };
        let service = Code { code: code.to_string(), text: text.to_string(), system: CodingSystem::from_hl7(system) };
        Ok(DiagnosticReport {
            resource_type: "DiagnosticReport",
            identifier: vec![self.own_identifier("DiagnosticReport", &self.report_key()), filler],
            based_on: self.based_on(),
            status: self.parcel.report_status().fhir,
            category: vec![coded_concept(DIAGNOSTIC_SERVICES, "LAB", "Laboratory")],
            code: self.concept(&[&service]).unwrap_or_default(),
            subject: self.subject(),
            effective_date_time: self.effective(None)?,
            issued: made(self.parcel),
            specimen: self.specimen_reference().into_iter().collect(),
            result: self.results(),
            imaging_study: Vec::new(),
            presented_form: self.parcel.results.iter().filter_map(value::attachment).collect(),
        })
    }

    fn results(&self) -> Vec<Reference> {
        self.parcel.results.iter().map(|r| self.reference("Observation", r.name.clone(), true, None)).collect()
    }

    /// Who made these resources, from which message.
    fn provenance(&self, target: Vec<Reference>) -> Result<Write, MapError> {
        let (origin, identity) = (self.parcel.origin, &self.parcel.identity);
        let system = self.system("message");
        let gateway = Reference {
            kind: Some("Device"),
            identifier: Some(identifier(self.system(""), &origin.gateway)),
            display: some(&format!("gateway {}", origin.gateway)),
            ..Reference::default()
        };
        let tag = Coding { system: Some(system.clone()), code: origin.message_id.clone(), display: None };
        let mut meta = if self.parcel.target.tests_only { Meta::of_a_test() } else { Meta::default() };
        meta.tag.push(tag);
        let provenance = Provenance {
            resource_type: "Provenance",
            meta,
            target,
            recorded: made(self.parcel),
            agent: vec![Agent { kind: coded_concept(PROVENANCE_AGENTS, "assembler", "Assembler"), who: gateway }],
            entity: vec![Entity {
                role: "source",
                what: Reference {
                    identifier: Some(identifier(system.clone(), &origin.message_id)),
                    ..Reference::default()
                },
            }],
        };
        Ok(Write {
            kind: "Provenance",
            key: identity.of_message("provenance", &origin.message_id),
            method: "POST",
            url: "Provenance".to_string(),
            if_none_exist: Some(format!("_tag={}", percent_encoded(&format!("{system}|{}", origin.message_id)))),
            resource: raw(&provenance)?,
        })
    }

    /// A code with its translations; the first one's text is the concept's.
    fn concept(&self, codes: &[&Code]) -> Option<CodeableConcept> {
        let kept = if self.profile().single_coding { 1 } else { codes.len() };
        let coding = codes.iter().filter(|c| is_code(&c.code)).take(kept).map(|c| Coding {
            system: self.code_system(&c.system),
            code: c.code.clone(),
            display: some(&c.text),
        });
        let texts = codes.iter().map(|c| &c.text).chain(codes.iter().map(|c| &c.code));
        let text = texts.into_iter().find_map(|t| some(t));
        let concept = CodeableConcept { coding: coding.collect(), text };
        (concept != CodeableConcept::default()).then_some(concept)
    }

    fn code_system(&self, system: &CodingSystem) -> Option<String> {
        if let Some((_, uri)) = DICOM_SCHEMES.iter().find(|(scheme, _)| *scheme == system.hl7()) {
            return Some((*uri).to_string());
        }
        Some(match system {
            CodingSystem::Loinc => LOINC.to_string(),
            CodingSystem::Snomed => SNOMED.to_string(),
            CodingSystem::Local => self.local_system("code"),
            CodingSystem::Other(name) => match name.strip_prefix("HL7").filter(|n| n.len() == 4) {
                Some(table) if table.bytes().all(|b| b.is_ascii_digit()) => {
                    format!("http://terminology.hl7.org/CodeSystem/v2-{table}")
                }
                _ => self.local_system(name),
            },
        })
    }

    /// A code system of this instrument model: the same code means other things elsewhere.
    fn local_system(&self, of: &str) -> String {
        let instrument = &self.parcel.report.instrument;
        let name = format!("{of} {} {}", instrument.vendor, instrument.model).to_lowercase();
        self.system(&name.split_whitespace().collect::<Vec<_>>().join("-"))
    }

    /// When it was true of the patient: collection, else measurement.
    fn effective(&self, completed: Option<&Timestamp>) -> Result<Option<String>, MapError> {
        let first = || self.parcel.results.iter().find_map(|r| r.observation.completed.as_ref());
        let time = self.parcel.report.specimen.collected.as_ref().or(completed).or_else(first);
        date_time(time, "effectiveDateTime")
    }
}

/// FHIR dateTime. One with hours must have a zone that exists.
fn date_time(time: Option<&Timestamp>, place: &'static str) -> Result<Option<String>, MapError> {
    const DAY_CHARS: usize = 8;
    match time {
        Some(t) if t.local.len() > DAY_CHARS && t.instant().is_none() => Err(MapError::Time(place)),
        Some(t) => Ok(Some(t.fhir())),
        None => Ok(None),
    }
}

/// FHIR `code`: no blanks at the ends, single ones inside.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.split(' ').all(|word| !word.is_empty()) && !text.contains(['\t', '\r', '\n'])
}

/// A FHIR string has at least one character that is no blank.
fn some(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.to_string())
}

fn identifier(system: String, value: &str) -> Identifier {
    Identifier { kind: None, system: Some(system), value: value.to_string(), assigner: None }
}

fn identifier_type(code: &str) -> Option<CodeableConcept> {
    let coding = Coding { system: Some(IDENTIFIER_TYPES.to_string()), code: code.to_string(), display: None };
    Some(CodeableConcept { coding: vec![coding], text: None })
}

fn coded_concept(system: &str, code: &str, display: &str) -> CodeableConcept {
    let coding =
        Coding { system: Some(system.to_string()), code: code.to_string(), display: Some(display.to_string()) };
    CodeableConcept { coding: vec![coding], text: None }
}

fn urn(key: &str) -> String {
    format!("urn:uuid:{key}")
}

/// FHIR instant: seconds and a zone.
fn made(parcel: &Parcel) -> String {
    parcel.origin.made.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn raw(resource: &impl Serialize) -> Result<Box<RawValue>, MapError> {
    serde_json::value::to_raw_value(resource).map_err(|_| MapError::Json)
}

fn finished(document: &impl Serialize) -> Result<Vec<u8>, MapError> {
    let bytes = serde_json::to_vec(document).map_err(|_| MapError::Json)?;
    // JSON writes the control characters FHIR forbids as \b, \f and \u00XX, and nothing else so.
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'\\' && matches!(rest.next(), Some(b'u' | b'b' | b'f')) {
            return Err(MapError::ControlCharacter);
        }
    }
    Ok(bytes)
}
