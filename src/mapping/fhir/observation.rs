//! One result as an Observation.

use super::super::{MapError, Optional, Outgoing, flag};
use super::resource::{Annotation, CodeableConcept, Coding, Observation, Reference};
use super::{Paper, coded_concept, is_code, made, some, status, value};
use crate::clinical::{Coding as Code, Value};

const CATEGORIES: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
const ABSENT_REASONS: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";

impl Paper<'_> {
    pub(super) fn observation(&self, result: &Outgoing) -> Result<Observation, MapError> {
        let (sent, number) = (result.observation, result.index + 1);
        if status::is_order_only(&sent.status) {
            return Err(MapError::Status(number));
        }
        let document = matches!(sent.value, Value::Data { .. });
        if document && !self.has(Optional::DiagnosticReport) {
            return Err(MapError::Attachment(number));
        }
        let local = Code::local(&sent.instrument_code, &sent.instrument_name);
        let mut codes: Vec<&Code> = sent.code.iter().collect();
        // The instrument's code is not said twice when it is the LOINC itself.
        if sent.code.as_ref().is_none_or(|c| c.code != local.code) {
            codes.push(&local);
        }
        let value = self.value(sent);
        // obs-6: a reason for absence only where there is no value. A document stands in the report.
        let absent = match (&value, document) {
            (Some(_), _) => None,
            (None, true) => Some("unsupported"),
            (None, false) => Some(status::absent(&sent.status)),
        };
        let interpretation = sent.flags.iter().filter_map(|f| self.interpretation(f)).collect();
        let unit_kept = sent.unit.is_empty() || value.as_ref().is_some_and(value::has_unit);
        let unit = (!unit_kept).then(|| format!("Unit as sent: {}", sent.unit));
        let comments = self.parcel.report.comments.iter().chain(&sent.comments);
        let notes = comments.filter_map(|c| some(c)).chain(unit);
        Ok(Observation {
            resource_type: "Observation",
            identifier: vec![self.own_identifier("Observation", &result.name)],
            based_on: self.based_on(),
            status: status::fhir(&sent.status),
            category: vec![coded_concept(CATEGORIES, "laboratory", "Laboratory")],
            code: self.concept(&codes).ok_or(MapError::NoCode(number))?,
            subject: self.subject(),
            effective_date_time: self.effective(sent.completed.as_ref())?,
            issued: made(self.parcel),
            performer: some(&sent.operator)
                .map(|operator| Reference {
                    kind: Some("Practitioner"),
                    display: Some(operator),
                    ..Reference::default()
                })
                .into_iter()
                .collect(),
            value,
            data_absent_reason: absent.map(reason),
            interpretation,
            note: notes.map(|text| Annotation { text }).collect(),
            specimen: self.specimen_reference(),
            device: self.device_reference(),
            reference_range: value::reference_range(sent).into_iter().collect(),
            ..Observation::default()
        })
    }

    /// A flag. One that FHIR does not know keeps the instrument's own letters.
    fn interpretation(&self, sent: &str) -> Option<CodeableConcept> {
        if let Some(display) = flag::display(sent) {
            return Some(coded_concept(flag::FHIR_SYSTEM, sent, display));
        }
        let text = some(sent)?;
        let own = Coding { system: Some(self.local_system("flag")), code: text.clone(), display: None };
        let coding = if is_code(&text) { vec![own] } else { Vec::new() };
        Some(CodeableConcept { coding, text: Some(text) })
    }
}

fn reason(code: &'static str) -> CodeableConcept {
    let display = match code {
        "error" => "Error",
        "not-asked" => "Not Asked",
        "temp-unknown" => "Temporarily Unknown",
        "unsupported" => "Unsupported",
        _ => "Unknown",
    };
    coded_concept(ABSENT_REASONS, code, display)
}
