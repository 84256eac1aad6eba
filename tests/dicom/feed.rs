//! Imaging orders from a FHIR server that the box asks: from the ServiceRequest to what findscu is told.

use crate::peers::{afferent, free_port, needed, until};
use crate::site::{AE_TITLE, Site};
use afferent::clinical::OrderStatus;
use afferent::journal::{self, Query, Reader};
use afferent::message::dicom::{DataSet, Limits, tags, walk};
use afferent::sim::ehr::{Behaviour, Ehr, EhrOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The EHR's folder of orders.
struct Orders {
    folder: tempfile::TempDir,
    port: u16,
}

impl Orders {
    fn new(port: u16) -> Orders {
        let orders = Orders { folder: tempfile::tempdir().unwrap(), port };
        for (id, family) in [("p1", "SYNTHETIC"), ("p2", "BEISPIEL")] {
            let identifier = json!([{ "type": { "coding": [{ "code": "MR" }] }, "value": format!("MR-{id}") }]);
            orders.put(
                id,
                &json!({ "resourceType": "Patient", "id": id, "identifier": identifier,
                         "name": [{ "family": family, "given": ["PAT"] }], "gender": "female" }),
            );
        }
        orders
    }

    /// The EHR writes a request for an echocardiogram at an hour of the second of March.
    fn request(&self, number: u32, status: &str, hour: u32, written: &str) {
        // Half of them name their patient in a way that the server's search does not follow.
        let subject = match number % 2 {
            0 => "Patient/p1".to_owned(),
            _ => format!("http://127.0.0.1:{}/fhir/Patient/p2", self.port),
        };
        self.put(
            &format!("sr-{number}"),
            &json!({ "resourceType": "ServiceRequest", "id": format!("sr-{number}"),
                     "meta": { "lastUpdated": written }, "status": status, "intent": "order",
                     "identifier": [{ "value": format!("ORDER-{number}") }],
                     "code": { "coding": [{ "system": "http://loinc.org", "code": "34552-0", "display": "Echo" }] },
                     "orderDetail": [{ "coding": [{ "system": "http://dicom.nema.org/resources/ontology/DCM",
                                                    "code": "US" }] }],
                     "subject": { "reference": subject },
                     "occurrenceDateTime": format!("2026-03-02T{hour:02}:00:00Z") }),
        );
    }

    /// The EHR that shows them.
    async fn served(&self) -> Ehr {
        let options = EhrOptions {
            fhir: Some(format!("127.0.0.1:{}", self.port)),
            orders: Some(self.folder.path().to_owned()),
            ..EhrOptions::default()
        };
        Ehr::start(options).await.unwrap()
    }

    /// A gateway that asks for them.
    fn asked_by_a_site(&self) -> Site {
        Site::new(&format!(
            "[[destination]]\nname = \"away\"\naddress = \"127.0.0.1:9\"\n\
             [[order_feed]]\nname = \"ehr-orders\"\nurl = \"http://127.0.0.1:{}/fhir\"\npoll_s = 1\n\
             first_days = 36500\n",
            self.port
        ))
    }

    /// The EHR changes one key of a request.
    fn edit(&self, number: u32, key: &str, value: Value, written: &str) {
        let file = self.folder.path().join(format!("sr-{number}.json"));
        let mut request: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        request[key] = value;
        request["meta"]["lastUpdated"] = written.into();
        self.put(&format!("sr-{number}"), &request);
    }

    fn delete(&self, number: u32) {
        std::fs::remove_file(self.folder.path().join(format!("sr-{number}.json"))).unwrap();
    }

    fn put(&self, name: &str, resource: &serde_json::Value) {
        // The server must never see half a file.
        let new = self.folder.path().join("new");
        std::fs::write(&new, resource.to_string()).unwrap();
        std::fs::rename(new, self.folder.path().join(format!("{name}.json"))).unwrap();
    }
}

/// What findscu is told when it asks for everything: patient name, placer number, start and study of each entry.
fn told(findscu: &Path, port: u16) -> Vec<[String; 4]> {
    let into = tempfile::tempdir().unwrap();
    let asked = Command::new(findscu)
        .args(["-W", "-X", "-od"])
        .arg(into.path())
        .args(["-aec", AE_TITLE, "-aet", "VIVID", "127.0.0.1", &port.to_string()])
        .args(["-k", "0010,0010", "-k", "0040,2016", "-k", "0020,000d"])
        .args(["-k", "(0040,0100)[0].Modality=US", "-k", "(0040,0100)[0].ScheduledProcedureStepStartTime"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let mut files: Vec<PathBuf> = std::fs::read_dir(into.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| -> DataSet {
        let raw = std::fs::read(file).unwrap();
        walk(&raw[..], "", Limits { bytes: raw.len(), value_bytes: raw.len() }).data_set
    };
    let entry = |file: PathBuf| {
        let entry = read(file);
        let step = entry.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).unwrap();
        [
            entry.text(tags::PATIENT_NAME),
            entry.text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
            step.text(tags::SCHEDULED_PROCEDURE_STEP_START_TIME),
            entry.text(tags::STUDY_INSTANCE_UID),
        ]
    };
    files.into_iter().map(entry).collect()
}

/// What the doctor says of the orders.
fn doctor(site: &Site) -> String {
    let config = site.path("box.toml").display().to_string();
    let told: Value = serde_json::from_slice(&afferent(&["doctor", "--json", "--config", &config]).stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let of_feed = findings.iter().find(|f| f["layer"] == "orders" && f["subject"] == "ehr-orders");
    of_feed.map_or_else(String::new, |finding| finding["state"].as_str().unwrap().to_owned())
}

/// Placer numbers on the worklist.
fn listed(findscu: &Path, site: &Site) -> BTreeSet<String> {
    told(findscu, site.port).into_iter().map(|[_, number, ..]| number).collect()
}

fn numbered(numbers: &[u32]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("ORDER-{number}")).collect()
}

fn of<'t>(told: &'t [[String; 4]], number: &str) -> Option<&'t [String; 4]> {
    told.iter().find(|entry| entry[1] == number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_request_of_the_ehr_is_on_the_worklist_once_through_changes_outages_and_a_kill() {
    let Some(findscu) = needed("findscu", "ServiceRequests to findscu") else { return };
    let ehr_port = free_port();
    let orders = Orders::new(ehr_port);
    for number in 0..45 {
        orders.request(number, "active", 8 + number / 10, &format!("2026-03-01T08:00:{number:02}Z"));
    }
    let ehr = orders.served().await;
    let mut site = orders.asked_by_a_site();
    site.start();
    until("every request is on the worklist", || told(&findscu, site.port).len() == 45);
    let before = told(&findscu, site.port);
    assert_eq!(of(&before, "ORDER-0").unwrap()[0], "SYNTHETIC^PAT");
    assert_eq!(of(&before, "ORDER-1").unwrap()[0], "BEISPIEL^PAT", "the patient was asked for");

    // The box is away while the EHR changes its mind, and the EHR while the box comes back.
    site.kill();
    orders.request(0, "active", 17, "2026-03-01T09:00:00Z");
    orders.request(1, "revoked", 8, "2026-03-01T09:00:01Z");
    orders.request(45, "active", 9, "2026-03-01T09:00:02Z");
    orders.request(46, "draft", 9, "2026-03-01T09:00:03Z");
    ehr.behave(Behaviour::Status(503));
    site.start();
    assert_eq!(told(&findscu, site.port).len(), 45, "what was known stays known");
    until("the doctor names the trouble", || doctor(&site) == "bad");
    ehr.behave(Behaviour::Ok);
    until("the changes are on the worklist", || of(&told(&findscu, site.port), "ORDER-45").is_some());
    let after = told(&findscu, site.port);
    assert_eq!((after.len(), of(&after, "ORDER-1"), of(&after, "ORDER-46")), (45, None, None));
    let (was, is) = (of(&before, "ORDER-0").unwrap(), of(&after, "ORDER-0").unwrap());
    assert_eq!((was[2].as_str(), is[2].as_str()), ("080000", "170000"));
    assert_eq!(was[3], is[3], "a modality may have the study already");

    // The draft was kept, and is worth a look.
    until("the doctor finds nothing worse", || doctor(&site) == "look");

    let reader = Reader::open(&site.data(), &journal::Config::default()).unwrap();
    let kept: Vec<OrderStatus> =
        reader.work_orders(false, 100).unwrap().into_iter().map(|order| order.status).collect();
    let count = |status| kept.iter().filter(|kept| **kept == status).count();
    let counts = [OrderStatus::Requested, OrderStatus::Replaced, OrderStatus::Cancelled].map(count);
    assert_eq!((counts, kept.len()), ([45, 1, 1], 47), "asked for again and again, each change came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_request_that_rests_or_is_gone_is_off_the_worklist() {
    let Some(findscu) = needed("findscu", "ServiceRequests to findscu") else { return };
    let orders = Orders::new(free_port());
    for number in 0..8 {
        orders.request(number, "active", 8, &format!("2026-03-01T08:00:0{number}Z"));
    }
    let _ehr = orders.served().await;
    let mut site = orders.asked_by_a_site();
    site.start();
    until("every request is on the worklist", || listed(&findscu, &site).len() == 8);
    let before = told(&findscu, site.port);

    site.kill();
    orders.edit(0, "status", "on-hold".into(), "2026-03-01T09:00:00Z");
    orders.edit(1, "status", "revoked".into(), "2026-03-01T09:00:01Z");
    orders.delete(2);
    // Of what should never have been some servers keep little more than that.
    orders.edit(3, "identifier", json!([]), "2026-03-01T09:00:02Z");
    orders.edit(3, "status", "entered-in-error".into(), "2026-03-01T09:00:03Z");
    orders.edit(4, "identifier", json!([{ "value": "ORDER-40" }]), "2026-03-01T09:00:04Z");
    orders.edit(5, "status", "draft".into(), "2026-03-01T09:00:05Z");
    // This one's change is behind what the next search asks for.
    orders.edit(6, "status", "revoked".into(), "2026-03-01T08:00:06Z");
    site.start();
    until("the worklist is what the EHR wants", || listed(&findscu, &site) == numbered(&[7, 40]));

    orders.edit(0, "status", "active".into(), "2026-03-01T10:00:00Z");
    until("what rested is back", || listed(&findscu, &site) == numbered(&[0, 7, 40]));
    let after = told(&findscu, site.port);
    assert_eq!(of(&after, "ORDER-0"), of(&before, "ORDER-0"), "as the same study");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_the_laboratory_or_too_large_is_counted_and_those_behind_it_go_on() {
    let Some(findscu) = needed("findscu", "ServiceRequests to findscu") else { return };
    let orders = Orders::new(free_port());
    for number in 0..8 {
        orders.request(number, "active", 8, &format!("2026-03-01T08:00:0{number}Z"));
    }
    // The server knows no category, and gives what the laboratory was asked for as well.
    let laboratory = json!([{ "coding": [{ "system": "http://snomed.info/sct", "code": "108252007" }] }]);
    orders.edit(1, "category", laboratory, "2026-03-01T08:00:01Z");
    orders.edit(1, "orderDetail", json!([]), "2026-03-01T08:00:01Z");
    let photo = |megabytes: usize| Value::from("x".repeat(megabytes << 20));
    orders.edit(2, "note", json!([{ "text": photo(9) }]), "2026-03-01T08:00:02Z");
    let patient = json!({ "resourceType": "Patient", "id": "p3", "identifier": [{ "value": "MR-p3" }],
                          "photo": [{ "data": photo(9) }] });
    orders.put("p3", &patient);
    orders.edit(4, "subject", json!({ "reference": "Patient/p3" }), "2026-03-01T08:00:04Z");
    let _ehr = orders.served().await;
    let mut site = orders.asked_by_a_site();
    site.start();
    until("all others are on the worklist", || listed(&findscu, &site) == numbered(&[0, 3, 5, 6, 7]));
    until("what was left out is counted", || doctor(&site) == "look");
    let reader = Reader::open(&site.data(), &journal::Config::default()).unwrap();
    let entries = reader.search(&Query { limit: 99, ..Query::default() }).unwrap();
    assert_eq!(entries.len(), 6, "five orders and one that has no patient; nothing of the laboratory is kept");

    // An order that turns out to be for somebody else leaves the worklist.
    site.kill();
    orders.edit(7, "orderDetail", json!([]), "2026-03-01T08:00:07Z");
    site.start();
    until("it is gone", || listed(&findscu, &site) == numbered(&[0, 3, 5, 6]));
}
