//! Imaging for the EHR: a study, the measurements of a structured report, an encapsulated document, the status of an
//! order. Pure, like the rest of the mapping: the same facts give the same bytes (invariant I5).
//!
//! | | FHIR R4 | HL7 v2 |
//! |---|---|---|
//! | [`study`] | ImagingStudy, Endpoint | ORU^R01 with the Study Instance UID |
//! | [`measurements`] | an Observation a number, a panel a group, DiagnosticReport | ORU^R01, an OBX NM a number |
//! | [`document`] | DocumentReference | ORU^R01, OBX ED |
//! | [`withdrawal`] | the same as `entered-in-error`, a document as `superseded` | ORU^R01, OBX-11 `D` |
//! | [`order_status`] | nothing: the EHR owns the ServiceRequest | ORM^O01, from 2.5.1 on OMG^O19 or OMI^O23 |
//!
//! What takes the place of something and what takes that back are one message: the EHR takes both or refuses both.

use super::fhir::imaging as fhir;
use super::hl7::imaging as hl7;
use super::{Format, Identity, MESSAGE_ID_CHARS_MAX, MapError, Optional, Origin, Parcel, Target};
use crate::clinical::imaging::{
    Charted, IMAGING_DOCUMENT, ImagingRequest, Instance, Measurement, MeasurementReport, Series, Study, Update,
};
use crate::clinical::{Coding, Instrument, Order, Patient, Phi, Report, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an EHR wants of imaging, besides [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImagingProfile {
    /// Base address of the PACS' WADO-RS, such as `https://pacs.example/dicom-web`: named in ImagingStudy as Endpoint.
    pub wado_rs: String,
    /// Identifier system (URI) of accession numbers whose issuer the modality does not name.
    pub accession_system: String,
    /// Send the single values too where a report chose one of them or took their mean.
    pub raw_values: bool,
    /// What this EHR is not told of: "studies", "measurements" (of structured reports) or "documents" (PDF).
    pub leave_out: Vec<ImagingMessage>,
}

/// What an EHR is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImagingMessage {
    /// That a study is there, and where.
    Studies,
    /// The numbers of structured reports.
    Measurements,
    /// Encapsulated PDF.
    Documents,
}

impl ImagingProfile {
    /// True when the EHR is told of these.
    pub fn takes(&self, what: ImagingMessage) -> bool {
        !self.leave_out.contains(&what)
    }

    /// True when it wants such a number.
    pub fn wants(&self, measurement: &Measurement) -> bool {
        self.raw_values || !measurement.is_raw
    }
}

/// True when a document says that somebody answers for it: by (0040,A491) and (0040,A493).
pub fn is_final(completion: &str, verification: &str) -> bool {
    verification == "VERIFIED" && completion != "PARTIAL"
}

/// What is known of a study.
#[derive(Debug, Clone)]
pub struct StudyFacts<'a> {
    /// Whose it is: of the order where there is one, else of the objects.
    pub patient: &'a Patient,
    /// The study.
    pub study: &'a Study,
    /// The request it answers, with the numbers the EHR gave it.
    pub request: Option<&'a ImagingRequest>,
    /// Every series that is in custody, with its instances.
    pub series: Vec<(&'a Series, Vec<&'a Instance>)>,
    /// Zone of the site, for objects that name no offset of their own.
    pub zone: &'a jiff::tz::TimeZone,
    /// True when the same was told before as final, and this takes its place.
    pub is_correction: bool,
    /// The order numbers under which the EHR has what this takes the place of, which may be of another study. HL7 v2
    /// results are found again by them (OBR-2, OBR-3), so their correction keeps them; FHIR resources have identifiers of
    /// their own.
    pub told_under: Option<&'a Order>,
}

/// A document that came as an instance (PS3.3 A.45).
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// The instance: its UID, title, media type and flags.
    pub instance: &'a Instance,
    /// What kind of document it is, (0040,A043).
    pub code: Option<&'a Coding>,
    /// The document, without padding.
    pub bytes: &'a [u8],
    /// The first document of the line it belongs to, under whose name all of them are kept; itself without corrections.
    pub first_uid: &'a str,
}

/// Where an imaging order stands (HL7 table 0038).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagingOrderStatus {
    /// The modality began: MPPS IN PROGRESS.
    InProgress,
    /// Done: MPPS COMPLETED, or the study is stable.
    Completed,
    /// Broken off: MPPS DISCONTINUED.
    Discontinued,
}

/// The study itself. Sent again whenever something was added; it replaces what was sent before.
pub fn study(
    facts: &StudyFacts,
    target: &Target,
    profile: &ImagingProfile,
    origin: &Origin,
) -> Result<Vec<u8>, MapError> {
    send(facts, target, profile, origin, |sending| match target.format {
        Format::Hl7V2(version) => hl7::study(sending, version),
        Format::FhirTransaction | Format::FhirWrites => fhir::study(sending),
    })
}

/// Some measurements of a report, named by their index: those without doubts now, others when they are released.
/// Raw values among them go out only where the profile wants them. What is gone by this update is taken back.
pub fn measurements(
    facts: &StudyFacts,
    report: &MeasurementReport,
    part: &[usize],
    update: &Update,
    target: &Target,
    profile: &ImagingProfile,
    origin: &Origin,
) -> Result<Vec<u8>, MapError> {
    let names = report.names();
    let part: Vec<Named> = part
        .iter()
        .filter_map(|at| Some(Named { name: names.get(*at)?, measurement: report.measurements.get(*at)? }))
        .filter(|named| profile.wants(named.measurement))
        .collect();
    if part.is_empty() && !is_anything_gone(update, target) {
        return Err(MapError::Empty);
    }
    if let Some(at) = part.iter().position(|m| m.measurement.code.code.is_empty() && m.measurement.code.text.is_empty())
    {
        return Err(MapError::NoCode(at + 1));
    }
    let (gone, is_withdrawn) = (&update.gone, update.ends_report());
    Numbers { report, names: &names, part, gone, is_withdrawn }.send(facts, target, profile, origin)
}

/// What is gone by this update is taken back, for an object takes its place that has nothing for this EHR. It goes out as
/// the report it was of, under whose title the numbers stand.
pub fn withdrawal(
    facts: &StudyFacts,
    by: Document,
    update: &Update,
    target: &Target,
    profile: &ImagingProfile,
    origin: &Origin,
) -> Result<Vec<u8>, MapError> {
    if !is_anything_gone(update, target) {
        return Err(MapError::Empty);
    }
    Numbers::gone_by(&by.report_before(update), update).send(facts, target, profile, origin)
}

/// An encapsulated document. What is gone by this update is taken back, numbers under the title of their report.
pub fn document(
    facts: &StudyFacts,
    document: Document,
    update: &Update,
    target: &Target,
    profile: &ImagingProfile,
    origin: &Origin,
) -> Result<Vec<u8>, MapError> {
    if document.bytes.is_empty() {
        return Err(MapError::Empty);
    }
    let before = document.report_before(update);
    let before = Numbers::gone_by(&before, update);
    send(facts, target, profile, origin, |sending| match target.format {
        Format::Hl7V2(version) => hl7::document(sending, &document, &before, version),
        Format::FhirTransaction | Format::FhirWrites => fhir::document(sending, &document, &before),
    })
}

/// True when a message would say that something is taken back. In HL7 groups and reports have no place of their own.
fn is_anything_gone(update: &Update, target: &Target) -> bool {
    let Charted { numbers, panels, documents, .. } = &update.gone;
    let ends_report = update.ends_report() && !target.fhir.leave_out.contains(&Optional::DiagnosticReport);
    let is_shown = !matches!(target.format, Format::Hl7V2(_)) && (!panels.is_empty() || ends_report);
    is_shown || !numbers.is_empty() || !documents.is_empty()
}

/// Where an order stands, for the EHR that placed it. `None` for a study nobody ordered, and in FHIR, where the EHR
/// owns its ServiceRequest.
pub fn order_status(
    facts: &StudyFacts,
    status: ImagingOrderStatus,
    target: &Target,
    origin: &Origin,
) -> Result<Option<Vec<u8>>, MapError> {
    let is_ordered = facts.request.is_some_and(|r| !r.placer_order_number.is_empty());
    let Format::Hl7V2(version) = target.format else { return Ok(None) };
    if !is_ordered {
        return Ok(None);
    }
    send(facts, target, &ImagingProfile::default(), origin, |sending| hl7::order_status(sending, status, version))
        .map(Some)
}

impl Document<'_> {
    /// The report whose numbers this takes the place of, as far as what is taken back is told of it.
    fn report_before(&self, update: &Update) -> MeasurementReport {
        let title = update.gone.title.clone();
        MeasurementReport {
            title: title.unwrap_or_else(|| Coding::loinc(IMAGING_DOCUMENT.0, IMAGING_DOCUMENT.1)),
            sop_class_uid: self.instance.sop_class_uid.clone(),
            sop_instance_uid: self.instance.sop_instance_uid.clone(),
            first_uid: self.first_uid.to_string(),
            made: self.instance.made.clone(),
            ..MeasurementReport::default()
        }
    }
}

/// A number with its name ([`MeasurementReport::names`]).
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub name: &'a str,
    pub measurement: &'a Measurement,
}

/// What is said of the numbers of a report.
pub(super) struct Numbers<'a> {
    pub report: &'a MeasurementReport,
    /// The names of all its numbers.
    pub names: &'a [String],
    /// Those that go out.
    pub part: Vec<Named<'a>>,
    /// What is taken back.
    pub gone: &'a Charted,
    /// True when nothing takes the place of that.
    pub is_withdrawn: bool,
}

impl<'a> Numbers<'a> {
    /// None that go out: all that there is to say is what is gone.
    fn gone_by(report: &'a MeasurementReport, update: &'a Update) -> Numbers<'a> {
        Numbers { report, names: &[], part: Vec::new(), gone: &update.gone, is_withdrawn: true }
    }

    /// True when the report itself was told of, or is now.
    pub fn is_of_a_report(&self) -> bool {
        let Charted { numbers, panels, title, .. } = self.gone;
        !self.is_withdrawn || !numbers.is_empty() || !panels.is_empty() || title.is_some()
    }

    /// The numbers that are taken back.
    pub fn gone(&self) -> impl Iterator<Item = Named<'a>> + use<'a> {
        self.gone.numbers.iter().map(|(name, measurement)| Named { name, measurement })
    }

    /// HL7 table 0085 and 0123, see [`Sending::status`].
    pub fn status(&self, sending: &Sending) -> &'static str {
        let is_final = match self.is_withdrawn {
            true => sending.facts.is_correction,
            false => is_final(&self.report.completion, &self.report.verification),
        };
        sending.status(is_final)
    }

    fn send(
        &self,
        facts: &StudyFacts,
        target: &Target,
        profile: &ImagingProfile,
        origin: &Origin,
    ) -> Result<Vec<u8>, MapError> {
        send(facts, target, profile, origin, |sending| match target.format {
            Format::Hl7V2(version) => hl7::measurements(sending, self, version),
            Format::FhirTransaction | Format::FhirWrites => fhir::measurements(sending, self),
        })
    }
}

/// Everything one message about a study is made from.
pub(super) struct Sending<'a> {
    pub facts: &'a StudyFacts<'a>,
    pub profile: &'a ImagingProfile,
    /// Patient, order and equipment, as results of analyzers have them.
    pub parcel: Parcel<'a>,
}

impl Sending<'_> {
    /// When the study began.
    pub fn started(&self) -> Option<Timestamp> {
        self.facts.study.started.timestamp(self.facts.zone)
    }

    /// When a number was true of the patient: observed, else when the report was made, else when the study began.
    pub fn effective(&self, report: &MeasurementReport, measurement: Option<&Measurement>) -> Option<Timestamp> {
        let observed = measurement.and_then(|m| m.observed.timestamp(self.facts.zone));
        observed.or_else(|| report.made.timestamp(self.facts.zone)).or_else(|| self.started())
    }

    /// The modalities of the study, each once.
    pub fn modalities(&self) -> Vec<&str> {
        let mut modalities: Vec<&str> = Vec::new();
        for (series, _) in &self.facts.series {
            if !series.modality.is_empty() && !modalities.contains(&series.modality.as_str()) {
                modalities.push(&series.modality);
            }
        }
        modalities
    }

    /// HL7 table 0074: the section that makes such studies, with its name.
    pub fn section(&self, title: Option<&Coding>) -> (&'static str, &'static str) {
        match title.map(|t| t.code.as_str()) {
            Some("125200") => return ("CUS", "Cardiac Ultrasound"),
            Some("125100") => return ("VUS", "Vascular Ultrasound"),
            Some("125000") => return ("OUS", "OB Ultrasound"),
            _ => {}
        }
        let known = self.modalities().into_iter().find_map(|modality| match modality {
            "US" => Some(("RUS", "Radiology Ultrasound")),
            "CT" => Some(("CT", "CAT Scan")),
            "MR" => Some(("NMR", "Nuclear Magnetic Resonance")),
            "NM" | "PT" => Some(("NMS", "Nuclear Medicine Scan")),
            "CR" | "DX" | "MG" => Some(("RX", "Radiograph")),
            "ECG" => Some(("EC", "Electrocardiac (e.g., EKG, EEC, Holter)")),
            _ => None,
        });
        known.unwrap_or(("RAD", "Radiology"))
    }

    /// HL7 table 0085 and 0123: a preliminary result, a final one, or one that takes the place of a final one, which is
    /// never preliminary again.
    pub fn status(&self, is_final: bool) -> &'static str {
        match (is_final, self.facts.is_correction) {
            (_, true) => "C",
            (true, false) => "F",
            (false, false) => "P",
        }
    }
}

/// Makes the parcel and hands it to one of the formats.
fn send(
    facts: &StudyFacts,
    target: &Target,
    profile: &ImagingProfile,
    origin: &Origin,
    write: impl FnOnce(&Sending) -> Result<Vec<u8>, MapError>,
) -> Result<Vec<u8>, MapError> {
    if !(1..=MESSAGE_ID_CHARS_MAX).contains(&origin.message_id.chars().count()) {
        return Err(MapError::MessageId);
    }
    if facts.patient.id.is_empty() {
        return Err(MapError::NoPatient);
    }
    if facts.study.instance_uid.is_empty() {
        return Err(MapError::NoStudy);
    }
    let report = Report { order: order(facts, target, origin), ..report(facts) };
    let identity = Identity::new(&report, &report.order, origin, &target.fhir.gateway_system);
    write(&Sending {
        facts,
        profile,
        parcel: Parcel { report: &report, results: Vec::new(), target, origin, identity },
    })
}

/// The equipment of the first series that names any.
fn instrument(facts: &StudyFacts) -> Instrument {
    let named =
        facts.series.iter().map(|(series, _)| *series).find(|s| !s.manufacturer.is_empty() || !s.model.is_empty());
    let Some(series) = named else { return Instrument::default() };
    Instrument {
        vendor: series.manufacturer.clone(),
        model: series.model.clone(),
        name: series.station.clone(),
        sender: String::new(),
        serial_number: series.serial_number.clone(),
        software_version: series.software_version.clone(),
    }
}

fn report(facts: &StudyFacts) -> Report {
    Report { instrument: instrument(facts), patient: facts.patient.clone(), ..Report::default() }
}

/// The numbers of the order a message names: those under which the EHR has what it corrects; else the EHR's as they came,
/// and as the filler's the accession number, as IHE has it.
pub fn order(facts: &StudyFacts, target: &Target, origin: &Origin) -> Order {
    if let Some(told_under) = facts.told_under.filter(|_| matches!(target.format, Format::Hl7V2(_))) {
        return told_under.clone();
    }
    let nothing = ImagingRequest::default();
    let request = facts.request.unwrap_or(&nothing);
    let (accession, accession_authority) = accession(facts);
    let (filler, namespace) = if !request.filler_order_number.is_empty() {
        (request.filler_order_number.clone(), request.filler_authority.clone())
    } else if !accession.is_empty() {
        (accession.clone(), accession_authority.to_string())
    } else {
        let report = report(facts);
        let identity = Identity::new(&report, &report.order, origin, &target.fhir.gateway_system);
        (Phi::new(identity.study_filler(&facts.study.instance_uid)), origin.gateway.clone())
    };
    let performed = || facts.study.procedures.first().cloned();
    let described = || {
        let text = [&request.description, &facts.study.description].into_iter().find(|d| !d.is_empty());
        text.map(|text| Coding::local("", text.as_str()))
    };
    Order {
        placer_order_number: request.placer_order_number.clone(),
        placer_namespace: Some(request.placer_authority.clone()),
        filler_order_number: filler,
        filler_namespace: Some(namespace),
        universal_service_id: request.procedure.clone().or_else(performed).or_else(described),
        ..Order::default()
    }
}

/// The accession number with who gave it: of the request, else of the study.
pub(super) fn accession<'a>(facts: &StudyFacts<'a>) -> (&'a Phi, &'a str) {
    match facts.request {
        Some(request) if !request.accession_number.is_empty() => {
            (&request.accession_number, &request.accession_authority)
        }
        _ => (&facts.study.accession_number, &facts.study.accession_authority),
    }
}
