//! A page of search results (FHIR R4 Bundle of type searchset). Pure. Resources keep their bytes (invariant I2).

use super::wanted::Coded;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;

/// A page.
pub struct Page {
    /// Its ServiceRequests, in order.
    pub requests: Vec<Asked>,
    /// Address of the page behind it.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(default, borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    relation: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "fullUrl", default)]
    full_url: String,
    #[serde(default, borrow)]
    resource: Option<&'a RawValue>,
}

/// What is looked at of a resource.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: String,
    meta: Meta,
    subject: Subject,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    #[serde(rename = "lastUpdated")]
    last_updated: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subject {
    reference: String,
}

/// A ServiceRequest of a page.
pub struct Asked {
    /// Its id at the server; empty when it has none.
    pub id: String,
    /// As it came.
    pub request: String,
    /// `subject.reference`.
    pub subject: String,
    /// The patient it leads to, when the page holds them.
    pub patient: Option<Arc<str>>,
    /// `meta.lastUpdated`.
    pub last_updated: Option<Timestamp>,
    /// What it says it is.
    pub coded: Coded,
    /// SHA-256 of the request, or of the version of it that is listed. `None` when the list tells no version.
    pub digest: Option<[u8; 32]>,
}

impl Page {
    /// Reads a page; `None` when these bytes are none.
    pub fn read(raw: &[u8]) -> Option<Page> {
        let bundle: Bundle<'_> = serde_json::from_slice(raw).ok()?;
        let next = bundle.link.iter().find(|link| link.relation == "next" && !link.url.is_empty());
        let next = next.map(|link| link.url.clone());
        (bundle.resource_type == "Bundle").then(|| Page { requests: bundle.requests(), next })
    }
}

impl Bundle<'_> {
    fn requests(&self) -> Vec<Asked> {
        let resources = self.entry.iter().filter_map(|entry| Some((entry, entry.resource?)));
        let resources: Vec<_> =
            resources.filter_map(|(entry, resource)| Some((entry, resource, head(resource.get())?))).collect();
        let mut patients = HashMap::new();
        for (entry, resource, head) in resources.iter().filter(|(_, _, head)| head.resource_type == "Patient") {
            // Hundreds of requests may be for one patient, who may have a portrait.
            let patient: Arc<str> = resource.get().into();
            patients.insert(format!("Patient/{}", head.id), patient.clone());
            patients.insert(entry.full_url.clone(), patient);
        }
        let requests = resources.iter().filter(|(_, _, head)| head.resource_type == "ServiceRequest");
        let asked = requests.map(|(_, resource, head)| Asked {
            patient: patients.get(&head.subject.reference).cloned(),
            ..Asked::of(resource.get(), head)
        });
        asked.collect()
    }
}

impl Asked {
    /// A ServiceRequest by itself; `None` when these bytes are none.
    pub fn read(raw: Vec<u8>) -> Option<Asked> {
        let request = String::from_utf8(raw).ok()?;
        let head = head(&request).filter(|head| head.resource_type == "ServiceRequest")?;
        Some(Asked::of(&request, &head))
    }

    /// A ServiceRequest of which no more is known than its id, `meta.versionId` and `meta.lastUpdated`.
    pub fn listed(id: String, version: &str, last_updated: &str) -> Asked {
        let at: Option<Timestamp> = last_updated.parse().ok();
        // What changes twice in one second has the same time to the second.
        let tells_versions = !version.is_empty() || at.is_some_and(|at| at.subsec_nanosecond() != 0);
        Asked {
            digest: tells_versions.then(|| digest_of(format!("{id} {version} {last_updated}").as_bytes())),
            id,
            request: String::new(),
            subject: String::new(),
            patient: None,
            last_updated: at,
            coded: Coded::default(),
        }
    }

    fn of(request: &str, head: &Head) -> Asked {
        Asked {
            id: head.id.clone(),
            request: request.to_owned(),
            subject: head.subject.reference.clone(),
            patient: None,
            last_updated: head.meta.last_updated.parse().ok(),
            coded: Coded::read(request),
            digest: Some(digest_of(request.as_bytes())),
        }
    }

    /// True when it says what the other says, however and whenever it was written.
    pub fn says_the_same(&self, other: &Asked) -> bool {
        says_the_same(&self.request, &other.request)
    }

    /// The same of their patients.
    pub fn has_the_same_patient(&self, other: &Asked) -> bool {
        match (&self.patient, &other.patient) {
            (Some(own), Some(others)) => says_the_same(own, others),
            (own, others) => own.is_none() && others.is_none(),
        }
    }

    /// Where it is below the server's base; `None` when it has no id.
    pub fn address(&self) -> Option<String> {
        is_id(&self.id).then(|| format!("ServiceRequest/{}", self.id))
    }

    /// True when its subject is a patient of the same server, who can be asked for.
    pub fn names_a_patient(&self) -> bool {
        let mut parts = self.subject.rsplit('/');
        is_id(parts.next().unwrap_or_default()) && parts.next() == Some("Patient")
    }

    /// The request and its patient in one Bundle, each as it came.
    pub fn bundle(&self) -> Vec<u8> {
        let mut entries = format!("{{\"resource\":{}}}", self.request);
        if let Some(patient) = &self.patient {
            let subject = serde_json::Value::from(self.subject.as_str());
            entries += &format!(",{{\"fullUrl\":{subject},\"resource\":{patient}}}");
        }
        format!("{{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[{entries}]}}").into_bytes()
    }
}

/// True when two resources differ in nothing but `meta`: some servers stamp what nobody changed.
fn says_the_same(one: &str, other: &str) -> bool {
    let content = |resource: &str| {
        let mut value: serde_json::Value = serde_json::from_str(resource).ok()?;
        value.as_object_mut()?.remove("meta");
        Some(value)
    };
    one == other || content(one).is_some_and(|content_of_one| Some(content_of_one) == content(other))
}

/// SHA-256.
pub fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut own = [0; 32];
    own.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(own, byte)| *own = *byte);
    own
}

/// True when the text is a Patient.
pub fn is_patient(text: &str) -> bool {
    head(text).is_some_and(|head| head.resource_type == "Patient")
}

/// True when two texts are Patients who have an identifier in common.
pub fn is_same_patient(one: &str, other: &str) -> bool {
    #[derive(Deserialize)]
    struct Identified {
        #[serde(default)]
        identifier: Vec<Identifier>,
    }
    #[derive(Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Identifier {
        system: String,
        value: String,
    }
    let identifiers = |text: &str| {
        let identified = serde_json::from_str::<Identified>(text).ok().filter(|_| is_patient(text));
        identified.map_or_else(Vec::new, |identified| identified.identifier)
    };
    let (ones, others) = (identifiers(one), identifiers(other));
    ones.iter().any(|identifier| !identifier.value.is_empty() && others.contains(identifier))
}

/// True for what may be the id of a resource (FHIR R4 2.24.0.1), whatever its length.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

/// What a resource is; of one whose subject or dates cannot be read only that, so that it is kept with its reason.
fn head(resource: &str) -> Option<Head> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "resourceType")]
        resource_type: String,
    }
    let only_kind = |kind: Kind| Head { resource_type: kind.resource_type, ..Head::default() };
    serde_json::from_str(resource).ok().or_else(|| serde_json::from_str(resource).ok().map(only_kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::OrderChange;
    use crate::orders::read::service_request;

    const PAGE: &str = r#"{"resourceType":"Bundle","type":"searchset",
      "link":[{"relation":"self","url":"https://e/x"},{"relation":"next","url":"https://e/fhir?page=2"}],
      "entry":[
        {"fullUrl":"https://e/fhir/ServiceRequest/1","resource":{"resourceType":"ServiceRequest","id":"1",
          "meta":{"lastUpdated":"2026-03-01T08:00:00.5+01:00"},"status":"active","intent":"order",
          "identifier":[{"value":"P-1"}],"code":{"text":"Echo"},"subject":{"reference":"Patient/7"}}},
        {"resource":{"resourceType":"ServiceRequest","id":"2","subject":{"reference":"https://e/fhir/Patient/8"}}},
        {"fullUrl":"https://e/fhir/Patient/7","resource":{"resourceType":"Patient","id":"7",
          "identifier":[{"value":"4711"}],"name":[{"family":"SYNTHETIC"}] , "weight": 70.0}},
        {"search":{"mode":"outcome"}}]}"#;

    #[test]
    fn a_page_gives_each_request_with_its_patient_as_they_came() {
        let Page { requests, next } = Page::read(PAGE.as_bytes()).unwrap();
        assert_eq!((requests.len(), next.as_deref()), (2, Some("https://e/fhir?page=2")));
        assert_eq!(requests[0].last_updated, "2026-03-01T07:00:00.5Z".parse().ok());
        let bundle = String::from_utf8(requests[0].bundle()).unwrap();
        assert!(bundle.contains("[{\"family\":\"SYNTHETIC\"}] , \"weight\": 70.0}"), "byte for byte: {bundle}");
        let read = service_request::read(bundle.as_bytes(), &jiff::tz::TimeZone::UTC).unwrap().remove(0);
        let Ok(OrderChange::New(order)) = read else { panic!("an order") };
        assert_eq!(order.patient.patient.id.expose(), "4711");
        assert!(requests[1].patient.is_none() && requests[1].names_a_patient(), "to be asked for");
    }

    #[test]
    fn requests_for_one_patient_share_them() {
        let page = PAGE.replace("https://e/fhir/Patient/8", "Patient/7");
        let patients: Vec<_> = Page::read(page.as_bytes()).unwrap().requests.into_iter().map(|r| r.patient).collect();
        assert!(Arc::ptr_eq(patients[0].as_ref().unwrap(), patients[1].as_ref().unwrap()));
    }

    #[test]
    fn a_patient_is_the_same_by_an_identifier_and_not_by_an_id() {
        let patient =
            |identifiers: &str| format!("{{\"resourceType\":\"Patient\",\"id\":\"7\",\"identifier\":[{identifiers}]}}");
        let (mr, other) = ("{\"system\":\"a\",\"value\":\"1\"}", "{\"system\":\"b\",\"value\":\"1\"}");
        assert!(is_same_patient(&patient(mr), &patient(&format!("{other},{mr}"))));
        for no in [patient(other), patient(""), patient("{\"value\":\"\"}"), patient(mr).replace("Patient", "Person")] {
            assert!(!is_same_patient(&patient(mr), &no), "{no}");
        }
        assert!(!is_same_patient(&patient("{}"), &patient("{}")));
    }

    #[test]
    fn a_stamp_changes_nothing_and_anything_else_does() {
        let of = |page: &str| Page::read(page.as_bytes()).unwrap().requests.remove(0);
        let asked = of(PAGE);
        assert!(of(&PAGE.replace("08:00:00.5", "09:00:00.5")).says_the_same(&asked));
        assert!(!of(&PAGE.replace("Echo", "CT")).says_the_same(&asked));
        assert!(asked.has_the_same_patient(&asked));
        assert!(!of(&PAGE.replace("SYNTHETIC", "OTHER")).has_the_same_patient(&asked));
    }

    #[test]
    fn a_request_that_cannot_be_read_is_there_all_the_same() {
        let page = PAGE.replace("{\"reference\":\"Patient/7\"}", "7");
        let requests = Page::read(page.as_bytes()).unwrap().requests;
        assert_eq!(requests.len(), 2);
        let read = service_request::read(&requests[0].bundle(), &jiff::tz::TimeZone::UTC).unwrap().remove(0);
        assert_eq!(read.unwrap_err(), service_request::RequestFault::NoPatient);
    }

    #[test]
    fn what_is_no_page_is_none_and_only_patients_are_asked_for() {
        for bad in ["", "<html>", "[]", "{\"resourceType\":\"OperationOutcome\"}"] {
            assert!(Page::read(bad.as_bytes()).is_none(), "{bad}");
        }
        for subject in ["#p", "Group/7", "Patient/", "Patient/7?x=1", "urn:uuid:7"] {
            let request =
                format!("{{\"resourceType\":\"ServiceRequest\",\"subject\":{{\"reference\":\"{subject}\"}}}}");
            let asked = Asked::read(request.into_bytes()).unwrap();
            assert!(!asked.names_a_patient(), "{subject}");
        }
        assert!(is_patient("{\"resourceType\":\"Patient\"}") && !is_patient("{\"resourceType\":\"Group\"}"));
    }
}
