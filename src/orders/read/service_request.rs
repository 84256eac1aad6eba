//! FHIR R4 ServiceRequest as an order for imaging. Pure.
//!
//! | read | from |
//! |---|---|
//! | placer, filler, accession number | identifier of type PLAC, FILL, ACSN; where none is of type PLAC, one without a type is the placer's |
//! | study instance UID | identifier of system `urn:dicom:uid` |
//! | patient | subject: contained, in the Bundle, or by its identifier; of type MR before others, none of use `old`; its authority is the system, as `&http://hospital.example&URI` or, of `urn:oid:1.2.3`, `&1.2.3&ISO` in PID-3.4 (it has no namespace id), else the name of the assigner |
//! | requested procedure | code; priority |
//! | modality | orderDetail or category of the DICOM code system |
//! | start, room | occurrenceDateTime or occurrencePeriod.start, on the clock of the site; locationReference.display, locationCode.text |
//!
//! `active` orders, `revoked` and `entered-in-error` take back, `completed` is done. `on-hold` and what else a request may
//! be (a draft, a plan, unknown) let an open order rest, and order nothing.

use crate::clinical::{
    Coding, CodingSystem, ImagingOrder, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, Phi,
    RequestedProcedure, ScheduledStep, Specimen, Timestamp, WorkOrder, authority_by_uri,
};
use crate::journal::OrderChange;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Most requests one Bundle may hold.
pub const REQUESTS_MAX: usize = super::ORDERS_MAX;
/// Code system of modalities (PS3.16 CID 29).
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// Identifier system of UIDs.
const UIDS: &str = "urn:dicom:uid";

/// Why a resource orders nothing. Holds no text of it (invariant I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFault {
    /// No JSON, or no ServiceRequest in it.
    NoRequest,
    /// More than [`REQUESTS_MAX`].
    TooMany,
    /// It is on hold, a draft or a plan, or its status is not known, and there is no open order that could rest.
    OrdersNothing,
    /// It has no identifier by which it could be changed.
    NoNumber,
    /// Its subject is not there or has no identifier.
    NoPatient,
    /// Its code has neither a coding nor a text.
    NoCode,
}

impl RequestFault {
    /// For the record and for people.
    pub fn text(self) -> &'static str {
        match self {
            RequestFault::NoRequest => "there is no ServiceRequest in it",
            RequestFault::TooMany => "the Bundle holds too many requests",
            RequestFault::OrdersNothing => "its status or intent orders nothing",
            RequestFault::NoNumber => "it has no identifier",
            RequestFault::NoPatient => "its patient has no identifier",
            RequestFault::NoCode => "it does not say what is ordered",
        }
    }
}

/// Reads a ServiceRequest or a Bundle of them, each by itself.
pub fn read(json: &[u8], zone: &TimeZone) -> Result<Vec<Result<OrderChange, RequestFault>>, RequestFault> {
    let document: Value = serde_json::from_slice(json).map_err(|_| RequestFault::NoRequest)?;
    let entries: Vec<&Value> = list(&document, "entry").collect();
    let resources: Vec<&Value> = match kind(&document) {
        "Bundle" => entries.iter().map(|entry| &entry["resource"]).collect(),
        _ => vec![&document],
    };
    let requests: Vec<&Value> = resources.into_iter().filter(|resource| kind(resource) == "ServiceRequest").collect();
    match requests.len() {
        0 => Err(RequestFault::NoRequest),
        many if many > REQUESTS_MAX => Err(RequestFault::TooMany),
        _ => Ok(requests.into_iter().map(|request| Request { request, entries: &entries, zone }.change()).collect()),
    }
}

/// The ServiceRequest that stands alone or with what it refers to.
pub fn read_one(json: &[u8], zone: &TimeZone) -> Result<OrderChange, RequestFault> {
    read(json, zone)?.pop().unwrap_or(Err(RequestFault::NoRequest))
}

/// True when a ServiceRequest goes by this number, whatever else it says.
pub fn goes_by(json: &str, number: &OrderNumber) -> bool {
    let Ok(request) = serde_json::from_str(json) else { return false };
    Request { request: &request, entries: &[], zone: &TimeZone::UTC }.numbers().iter().any(|own| own.may_be(number))
}

struct Request<'a> {
    request: &'a Value,
    entries: &'a [&'a Value],
    zone: &'a TimeZone,
}

impl Request<'_> {
    fn change(&self) -> Result<OrderChange, RequestFault> {
        let [placer, filler] = self.numbers();
        let number = if placer.is_empty() { filler.clone() } else { placer.clone() };
        if number.is_empty() {
            return Err(RequestFault::NoNumber);
        }
        Ok(match (text(self.request, "status"), text(self.request, "intent")) {
            ("revoked" | "entered-in-error", _) => {
                OrderChange::TakeBack { number, specimen: Phi::default(), becomes: OrderStatus::Cancelled }
            }
            ("completed", _) => OrderChange::Status { number, becomes: OrderStatus::Done },
            ("active", "order" | "original-order" | "reflex-order" | "filler-order" | "instance-order") => {
                OrderChange::New(Box::new(self.order(placer, filler)?))
            }
            _ => OrderChange::Hold { number },
        })
    }

    fn order(&self, placer: OrderNumber, filler: OrderNumber) -> Result<WorkOrder, RequestFault> {
        let request = self.request;
        let code = codings(&request["code"]).into_iter().next().unwrap_or_default();
        if code.code.is_empty() && code.text.is_empty() {
            return Err(RequestFault::NoCode);
        }
        let named = list(request, "orderDetail").chain(list(request, "category"));
        let modality = named.flat_map(|concept| list(concept, "coding")).find(|coding| text(coding, "system") == DICOM);
        let uid = list(request, "identifier").find(|identifier| text(identifier, "system") == UIDS);
        let uid = uid.map(|i| text(i, "value").trim_start_matches("urn:oid:").to_string()).unwrap_or_default();
        let start = [text(request, "occurrenceDateTime"), text(&request["occurrencePeriod"], "start")];
        let start = start.into_iter().find(|start| !start.is_empty()).unwrap_or_default();
        let room = list(request, "locationReference").map(|r| text(r, "display"));
        let room = room.chain(list(request, "locationCode").map(|c| text(c, "text"))).find(|room| !room.is_empty());
        let step = ScheduledStep {
            modality: modality.map(|m| text(m, "code").to_string()).unwrap_or_default(),
            location: room.unwrap_or_default().to_string(),
            start: self.time(start).map(|start| start.on_clock_of(self.zone)),
            protocols: vec![code.clone()],
            comments: list(request, "note").map(|note| text(note, "text").to_string()).collect(),
            ..ScheduledStep::default()
        };
        let reasons: Vec<&str> = list(request, "reasonCode").map(|reason| text(reason, "text")).collect();
        let imaging = ImagingOrder {
            accession_number: self.number("ACSN").id,
            reason: Phi::new(reasons.join(", ")),
            procedures: vec![RequestedProcedure {
                study_instance_uid: if super::imaging::is_uid(&uid) { uid } else { String::new() },
                code: code.clone(),
                steps: vec![step],
                ..RequestedProcedure::default()
            }],
            ..ImagingOrder::default()
        };
        Ok(WorkOrder {
            placer_order_number: placer,
            filler_order_number: filler,
            patient: self.patient()?,
            specimen: Specimen::default(),
            tests: vec![OrderedTest { universal_service_id: code, alternate: None }],
            priority: priority(text(request, "priority")).to_string(),
            ordered: self.time(text(request, "authoredOn")),
            imaging: Some(imaging),
            ..WorkOrder::default()
        })
    }

    /// The placer's and the filler's.
    fn numbers(&self) -> [OrderNumber; 2] {
        let [placer, filler] = [self.number("PLAC"), self.number("FILL")];
        let untyped = || {
            let mut all = list(self.request, "identifier");
            all.find(|i| type_of(i).is_empty() && text(i, "system") != UIDS).map(number).unwrap_or_default()
        };
        // Also where there is a filler's: one that the EHR adds later makes no other order of it.
        [if placer.is_empty() { untyped() } else { placer }, filler]
    }

    fn number(&self, kind: &str) -> OrderNumber {
        list(self.request, "identifier").find(|i| type_of(i) == kind).map(number).unwrap_or_default()
    }

    fn patient(&self) -> Result<OrderedPatient, RequestFault> {
        let subject = &self.request["subject"];
        let reference = text(subject, "reference");
        let contained = list(self.request, "contained").find(|r| reference.strip_prefix('#') == Some(text(r, "id")));
        let in_bundle = || {
            let is_meant = |entry: &&&Value| {
                let (url, resource) = (text(entry, "fullUrl"), &entry["resource"]);
                let relative = format!("{}/{}", kind(resource), text(resource, "id"));
                !reference.is_empty() && (url == reference || relative == reference)
            };
            self.entries.iter().find(is_meant).map(|entry| &entry["resource"])
        };
        let patient = contained.or_else(in_bundle).unwrap_or(&Value::Null);
        let mut identifiers: Vec<&Value> = list(patient, "identifier").collect();
        identifiers.extend(Some(&subject["identifier"]).filter(|i| i.is_object()));
        // What was the patient's once may be somebody else's now.
        identifiers.retain(|i| !text(i, "value").is_empty() && text(i, "use") != "old");
        identifiers.sort_by_key(|i| type_of(i) != "MR");
        let first = identifiers.first().ok_or(RequestFault::NoPatient)?;
        let name = list(patient, "name").find(|n| text(n, "use") != "old").unwrap_or(&Value::Null);
        let given = list(name, "given").next().and_then(Value::as_str).unwrap_or_default();
        let patient = Patient {
            id: Phi::new(text(first, "value")),
            id_authority: match authority(first) {
                unnamed if unnamed.is_empty() => text(&first["assigner"], "display").to_string(),
                named => named,
            },
            family: Phi::new(text(name, "family")),
            given: Phi::new(given),
            birth_date: Phi::new(text(patient, "birthDate").replace('-', "")),
            sex: match text(patient, "gender") {
                "male" => "M",
                "female" => "F",
                "other" => "O",
                _ => "",
            }
            .to_string(),
            ..Patient::default()
        };
        let other_ids = identifiers.iter().skip(1).map(|i| Phi::new(text(i, "value"))).collect();
        Ok(OrderedPatient { patient, other_ids })
    }

    /// A FHIR dateTime as HL7 writes it.
    fn time(&self, text: &str) -> Option<Timestamp> {
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        let at = time.find(['+', '-', 'Z']).unwrap_or(time.len());
        let (clock, offset) = time.split_at(at);
        let offset = if offset == "Z" { "+0000".to_string() } else { offset.replace(':', "") };
        let local = date.replace('-', "") + &clock.replace(':', "");
        Timestamp::parse(&(local + &offset), self.zone)
    }
}

/// R4 RequestPriority to HL7 table 0485.
fn priority(code: &str) -> &'static str {
    match code {
        "stat" => "S",
        "asap" | "urgent" => "A",
        "routine" => "R",
        _ => "",
    }
}

fn codings(concept: &Value) -> Vec<Coding> {
    let fallback = text(concept, "text");
    let read = |coding: &Value| {
        let display = text(coding, "display");
        let system = match text(coding, "system") {
            "http://loinc.org" => CodingSystem::Loinc,
            "http://snomed.info/sct" => CodingSystem::Snomed,
            _ => CodingSystem::Local,
        };
        let words = if display.is_empty() { fallback } else { display };
        Coding { code: text(coding, "code").to_string(), text: words.to_string(), system }
    };
    let mut all: Vec<Coding> = list(concept, "coding").map(read).filter(|coding| !coding.code.is_empty()).collect();
    if all.is_empty() && !fallback.is_empty() {
        all.push(Coding::local(fallback, fallback));
    }
    all
}

fn number(identifier: &Value) -> OrderNumber {
    OrderNumber { id: Phi::new(text(identifier, "value")), namespace: authority(identifier) }
}

/// Who gave an identifier, by a universal id: two systems may give the same one. Empty without a system.
fn authority(identifier: &Value) -> String {
    match text(identifier, "system") {
        "" => String::new(),
        system => authority_by_uri(system),
    }
}

fn type_of(identifier: &Value) -> &str {
    list(&identifier["type"], "coding").map(|coding| text(coding, "code")).find(|code| !code.is_empty()).unwrap_or("")
}

fn kind(resource: &Value) -> &str {
    text(resource, "resourceType")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"message","entry":[
      {"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient","identifier":[
        {"type":{"coding":[{"code":"SS"}]},"value":"SS-9"},{"type":{"coding":[{"code":"MR"}]},"value":"4711"}],
        "name":[{"family":"SYNTHETIC","given":["PAT","A"]}],"gender":"female","birthDate":"1970-01-02"}},
      {"resource":{"resourceType":"ServiceRequest","status":"active","intent":"order","priority":"stat",
        "identifier":[{"type":{"coding":[{"code":"PLAC"}]},"value":"P-1"},
          {"type":{"coding":[{"code":"ACSN"}]},"value":"ACC-1"},{"system":"urn:dicom:uid","value":"urn:oid:1.2.840.99.7"}],
        "code":{"coding":[{"system":"http://loinc.org","code":"34552-0","display":"Echo"}]},
        "orderDetail":[{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"US"}]}],
        "subject":{"reference":"urn:uuid:p"},"occurrenceDateTime":"2026-03-02T14:30:00+01:00",
        "locationReference":[{"display":"ROOM 3"}]}}]}"#;

    fn only(json: &str) -> Result<OrderChange, RequestFault> {
        read(json.as_bytes(), &TimeZone::UTC)?.remove(0)
    }

    #[test]
    fn a_service_request_is_an_order_for_imaging_with_its_patient() {
        let Ok(OrderChange::New(order)) = only(BUNDLE) else { panic!("an order") };
        assert_eq!((order.placer_order_number.id.expose(), order.priority.as_str()), ("P-1", "S"));
        let patient = &order.patient.patient;
        assert_eq!((patient.id.expose(), patient.family.expose(), patient.sex.as_str()), ("4711", "SYNTHETIC", "F"));
        let imaging = order.imaging.unwrap();
        assert_eq!(imaging.accession_number.expose(), "ACC-1");
        let (procedure, step) = imaging.steps().next().unwrap();
        assert_eq!(procedure.study_instance_uid, "1.2.840.99.7");
        assert_eq!((step.modality.as_str(), step.location.as_str()), ("US", "ROOM 3"));
        assert_eq!(step.start.as_ref().unwrap().hl7(), "20260302133000+0000");
    }

    #[test]
    fn it_begins_when_the_clock_on_the_wall_says_so() {
        let zone = TimeZone::get("America/Los_Angeles").unwrap();
        let utc = BUNDLE.replace("2026-03-02T14:30:00+01:00", "2026-03-03T01:00:00Z");
        let Ok(OrderChange::New(order)) = read(utc.as_bytes(), &zone).unwrap().remove(0) else { panic!("an order") };
        let start = |order: WorkOrder| order.imaging.unwrap().steps().next().unwrap().1.start.clone().unwrap().hl7();
        assert_eq!(start(*order), "20260302170000-0800");
        let day = BUNDLE.replace("2026-03-02T14:30:00+01:00", "2026-03-03");
        let Ok(OrderChange::New(order)) = read(day.as_bytes(), &zone).unwrap().remove(0) else { panic!("an order") };
        assert_eq!(start(*order), "20260303", "a day is a day everywhere");
    }

    #[test]
    fn a_fillers_number_that_comes_later_leaves_the_order_its_own() {
        let number = |identifiers: &str| {
            let json = format!(
                "{{\"resourceType\":\"ServiceRequest\",\"status\":\"revoked\",\"identifier\":[{identifiers}]}}"
            );
            match only(&json) {
                Ok(OrderChange::TakeBack { number, .. }) => number.id.expose().to_string(),
                other => panic!("{other:?}"),
            }
        };
        let filler = "{\"type\":{\"coding\":[{\"code\":\"FILL\"}]},\"value\":\"F-1\"}";
        let placer = "{\"type\":{\"coding\":[{\"code\":\"PLAC\"}]},\"value\":\"P-1\"}";
        assert_eq!(number("{\"value\":\"U-1\"}"), "U-1");
        assert_eq!(number(&format!("{{\"value\":\"U-1\"}},{filler}")), "U-1");
        assert_eq!(number(&format!("{{\"value\":\"U-1\"}},{filler},{placer}")), "P-1");
        assert_eq!(number(filler), "F-1");
    }

    #[test]
    fn numbers_of_two_systems_are_two() {
        let of = |system: &str| {
            let json = BUNDLE.replace("\"value\":\"P-1\"", &format!("\"system\":\"{system}\",\"value\":\"P-1\""));
            let Ok(OrderChange::New(order)) = only(&json) else { panic!("an order") };
            order.placer_order_number
        };
        assert_eq!(of("http://x").namespace, "^http://x^URI");
        assert_ne!(of("http://x"), of("http://y"));
        assert_eq!(of("urn:oid:1.2.3").namespace, "^1.2.3^ISO");
        // As it was kept before.
        let kept = OrderNumber { namespace: "^urn:oid:1.2.3^URI".into(), ..of("http://x") };
        assert!(kept.may_be(&of("urn:oid:1.2.3")) && !kept.may_be(&of("urn:oid:1.2.4")));
    }

    #[test]
    fn i13_the_same_patient_number_of_two_systems_is_two_people() {
        let of = |system: &str| {
            let json = BUNDLE.replace("\"value\":\"4711\"", &format!("\"system\":\"{system}\",\"value\":\"4711\""));
            let Ok(OrderChange::New(order)) = only(&json) else { panic!("an order") };
            order.patient.patient
        };
        let (north, south) = (of("http://north"), of("http://south"));
        assert_eq!(north.id_authority, "^http://north^URI");
        assert!(!north.may_share_authority_with(&south) && !north.shares_id_with(&south));
        // An HL7 interface that gives the same number may be another hospital's: it says nothing of this patient here.
        let named = |id_authority: &str| Patient { id_authority: id_authority.into(), ..north.clone() };
        assert!(!north.may_share_authority_with(&named("SOUTH")));
        // A modality that has the study of this very order has its own word for the hospital, or what it was told.
        for same in ["", "NORTH", "^http://north^URI", "NORTH^http://north^URI"] {
            assert!(north.shares_id_with(&named(same)), "{same}");
        }
        for other in ["^http://south^URI", "NORTH^http://south^URI"] {
            assert!(!north.shares_id_with(&named(other)), "{other}");
        }
        assert!(named("NORTH").shares_id_with(&named("NORTH^1.2.3^ISO")));
        let by_oid = of("urn:oid:1.2.3");
        assert_eq!(by_oid.id_authority, "^1.2.3^ISO");
        assert!(by_oid.shares_id_with(&named("NORTH^1.2.3^ISO")) && !by_oid.shares_id_with(&named("NORTH^1.2.4^ISO")));
        let kept = named("^urn:oid:1.2.3^URI");
        assert!(by_oid.may_share_authority_with(&kept) && by_oid.shares_id_with(&kept), "as it was kept before");
        assert!(!named("NORTH").shares_id_with(&named("SOUTH^1.2.3^ISO")));
    }

    #[test]
    fn an_identifier_that_is_old_is_nobodys() {
        let old = BUNDLE.replace("\"value\":\"4711\"", "\"use\":\"old\",\"value\":\"4711\"");
        let Ok(OrderChange::New(order)) = only(&old) else { panic!("an order") };
        assert_eq!(order.patient.patient.id.expose(), "SS-9");
        assert!(order.patient.other_ids.is_empty());
        let all = old.replace("\"value\":\"SS-9\"", "\"use\":\"old\",\"value\":\"SS-9\"");
        assert_eq!(only(&all).unwrap_err(), RequestFault::NoPatient);
    }

    #[test]
    fn its_status_takes_it_back_ends_it_or_lets_it_rest() {
        let with = |status: &str| only(&BUNDLE.replace("\"active\"", &format!("\"{status}\"")));
        assert!(matches!(with("revoked"), Ok(OrderChange::TakeBack { becomes: OrderStatus::Cancelled, .. })));
        assert!(matches!(with("completed"), Ok(OrderChange::Status { becomes: OrderStatus::Done, .. })));
        for rests in ["on-hold", "draft", "unknown", ""] {
            assert!(matches!(with(rests), Ok(OrderChange::Hold { .. })), "{rests}");
        }
        assert!(matches!(only(&BUNDLE.replace("\"order\"", "\"plan\"")), Ok(OrderChange::Hold { .. })));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(only("no json").unwrap_err(), RequestFault::NoRequest);
        assert_eq!(only("{\"resourceType\":\"Patient\"}").unwrap_err(), RequestFault::NoRequest);
        assert_eq!(only(&BUNDLE.replace("urn:uuid:p\"}", "urn:uuid:q\"}")).unwrap_err(), RequestFault::NoPatient);
        assert_eq!(only(&BUNDLE.replace("P-1", "").replace("\"PLAC\"", "\"X\"")).unwrap_err(), RequestFault::NoNumber);
    }
}
