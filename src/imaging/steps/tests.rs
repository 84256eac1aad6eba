//! What EHR and PACS are told, from the message of the modality to the outbox.

use super::*;
use crate::clinical::{
    Coding, ImagingOrder, OrderNumber, OrderedTest, Phi, RequestedProcedure, ScheduledStep, WorkOrder,
};
use crate::delivery::Protocol;
use crate::imaging::mpps;
use crate::journal::{Journal, OperatorAction, OrderChange};
use crate::message::dicom::performed_step::request::Kind;
use crate::message::dicom::{DataSet, Layout, VR};
use crate::wire::dimse::command::status::SUCCESS;
use crate::wire::dimse::{Question, uid};
use crate::wire::{Persist, Token};
use std::sync::Arc;

const STUDY: &str = "2.25.7";

struct Bench {
    _data: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    journal: Journal,
    desk: Desk,
}

impl Bench {
    /// A box with an order `P-1` of two steps.
    fn new() -> Bench {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &crate::journal::Config::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pacs = delivery::Config { mpps: true, ..delivery::Config::new("pacs", Protocol::Dicom) };
        let told = |name: &str, of: &str| delivery::Config {
            order_status: vec![of.to_string()],
            ..delivery::Config::new(name, Protocol::Mllp)
        };
        let others = [told("ehr", "ris"), told("lis", "lis"), delivery::Config::new("fhir", Protocol::Fhir)];
        let destinations = [&[pacs][..], &others].concat();
        let desk = Desk::new("box", &jiff::tz::TimeZone::UTC, &destinations);
        let bytes = b"an order".to_vec();
        let part = Persist { token: Token(1), session: 1, bytes, completes: true, identity: None };
        let change = vec![OrderChange::New(Box::new(order()))];
        runtime.block_on(journal.persist_orders("ris", 1, part, change, None, Arc::from([]))).map_err(drop).unwrap();
        Bench { _data: data, runtime, journal, desk }
    }

    /// A modality says something of the step `name`, which answers this scheduled step.
    fn says(&self, kind: Kind, name: &str, status: &str, scheduled: Option<&str>) {
        self.says_on("echo-1", kind, name, status, scheduled);
    }

    fn says_on(&self, link: &str, kind: Kind, name: &str, status: &str, scheduled: Option<&str>) {
        let mut said = DataSet::default();
        if !status.is_empty() {
            said.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status);
        }
        if kind == Kind::Create {
            let mut answered = DataSet::default();
            answered.put_text(tags::STUDY_INSTANCE_UID, VR::UI, if scheduled.is_some() { STUDY } else { "" });
            answered.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, scheduled.unwrap_or_default());
            said.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![answered]);
        }
        let question = Question {
            sop_class_uid: uid::PERFORMED_PROCEDURE_STEP.into(),
            sop_instance_uid: Some(name.into()),
            transfer_syntax_uid: uid::IMPLICIT_VR_LITTLE_ENDIAN.into(),
            calling_ae_title: "VIVID".into(),
            data_set: said.write(Layout::ImplicitLittle),
        };
        let reply = self.runtime.block_on(mpps::take(&self.journal, link, kind, &question));
        assert_eq!(reply.status, SUCCESS);
    }

    fn begins(&self, name: &str, scheduled: Option<&str>) {
        self.says(Kind::Create, name, "IN PROGRESS", scheduled);
    }

    /// Files what waits: `ehr IP`, or `pacs` and the step, of each message that goes out.
    fn told(&self) -> Vec<String> {
        let reader = self.journal.reader().unwrap();
        let mut told = Vec::new();
        for entry in reader.pending_entries(32).unwrap() {
            let request = self.desk.request(&entry).unwrap();
            let filing = self.desk.file(&reader, &entry, &request).unwrap();
            for row in filing.reports.iter().flat_map(|report| &report.outbox) {
                told.push(match row.destination.as_str() {
                    "pacs" => {
                        assert!(row.body == entry.raw && row.lane == request.sop_instance_uid);
                        format!("pacs {}", request.sop_instance_uid)
                    }
                    ehr => {
                        let message = String::from_utf8(row.body.clone()).unwrap();
                        let orc: Vec<&str> =
                            message.split('\r').find(|line| line.starts_with("ORC")).unwrap().split('|').collect();
                        assert_eq!((orc[1], orc[2]), ("SC", "P-1"));
                        format!("{ehr} {}", orc[5])
                    }
                });
            }
            self.journal.file_all(vec![filing]).into_iter().for_each(|filed| drop(filed.unwrap()));
        }
        told
    }
}

fn order() -> WorkOrder {
    let step = |id: &str| ScheduledStep { id: id.into(), modality: "US".into(), ..ScheduledStep::default() };
    let mut order = WorkOrder {
        placer_order_number: OrderNumber::new("P-1"),
        tests: vec![OrderedTest { universal_service_id: Coding::local("ECHO", "Echo"), alternate: None }],
        imaging: Some(ImagingOrder {
            accession_number: Phi::new("A-1"),
            procedures: vec![RequestedProcedure {
                id: "R-1".into(),
                study_instance_uid: STUDY.into(),
                code: Coding::local("ECHO", "Echo"),
                steps: vec![step("S-1"), step("S-2")],
            }],
            ..ImagingOrder::default()
        }),
        ..WorkOrder::default()
    };
    order.patient.patient.id = Phi::new("4711");
    order
}

#[test]
fn an_order_is_complete_when_all_its_steps_are_and_nothing_is_told_twice() {
    let bench = Bench::new();
    bench.begins("2.25.1", Some("S-1"));
    assert_eq!(bench.told(), ["pacs 2.25.1", "ehr IP"]);
    bench.begins("2.25.2", Some("S-2"));
    bench.says(Kind::Set, "2.25.1", "COMPLETED", None);
    assert_eq!(bench.told(), ["pacs 2.25.2", "pacs 2.25.1"], "it is in progress still");
    bench.says(Kind::Set, "2.25.2", "", None);
    assert_eq!(bench.told(), ["pacs 2.25.2"], "says nothing of where the order stands");
    bench.says(Kind::Set, "2.25.2", "COMPLETED", None);
    assert_eq!(bench.told(), ["pacs 2.25.2", "ehr CM"]);
    assert_eq!(bench.told(), Vec::<String>::new(), "filed once");
}

#[test]
fn an_order_is_broken_off_when_nobody_goes_on_with_it_and_complete_for_good() {
    let bench = Bench::new();
    bench.begins("2.25.1", Some("S-1"));
    bench.says_on("ct-1", Kind::Create, "2.25.2", "IN PROGRESS", Some("S-2"));
    assert_eq!(bench.told(), ["pacs 2.25.1", "ehr IP", "pacs 2.25.2"], "once, whichever modality says so");
    bench.says(Kind::Set, "2.25.1", "DISCONTINUED", None);
    assert_eq!(bench.told(), ["pacs 2.25.1"], "the other step is under way");
    bench.says_on("ct-1", Kind::Set, "2.25.2", "DISCONTINUED", None);
    assert_eq!(bench.told(), ["pacs 2.25.2", "ehr DC"]);
    bench.begins("2.25.3", Some("S-1"));
    bench.says(Kind::Set, "2.25.3", "COMPLETED", None);
    bench.says_on("ct-1", Kind::Create, "2.25.4", "IN PROGRESS", Some("S-2"));
    bench.says_on("ct-1", Kind::Set, "2.25.4", "DISCONTINUED", None);
    let pacs = |step: &str| format!("pacs {step}");
    let told = bench.told();
    assert_eq!(
        told.iter().filter(|told| told.starts_with("ehr")).collect::<Vec<_>>(),
        ["ehr IP"],
        "one of two is done"
    );
    bench.begins("2.25.5", Some("S-2"));
    bench.says(Kind::Set, "2.25.5", "COMPLETED", None);
    assert_eq!(bench.told(), [pacs("2.25.5"), pacs("2.25.5"), "ehr CM".to_string()]);
    bench.begins("2.25.6", Some("S-1"));
    bench.says(Kind::Set, "2.25.6", "DISCONTINUED", None);
    assert_eq!(bench.told(), [pacs("2.25.6"), pacs("2.25.6")], "more images do not take it back");
}

#[test]
fn the_step_that_was_done_is_the_one_that_is_named() {
    let bench = Bench::new();
    bench.begins("2.25.1", Some("S-2"));
    let reader = bench.journal.reader().unwrap();
    let entry = reader.pending_entries(1).unwrap().remove(0);
    let filing = bench.desk.file(&reader, &entry, &bench.desk.request(&entry).unwrap()).unwrap();
    let row = filing.reports.iter().flat_map(|report| &report.outbox).find(|row| row.destination == "ehr").unwrap();
    let message = String::from_utf8(row.body.clone()).unwrap();
    let ipc: Vec<&str> = message.split('\r').find(|line| line.starts_with("IPC")).unwrap().split('|').collect();
    assert_eq!((ipc[1], ipc[2], ipc[3], ipc[4]), ("A-1", "R-1", STUDY, "S-2"));
}

#[test]
fn what_is_interpreted_again_tells_what_is_true_now() {
    let bench = Bench::new();
    bench.begins("2.25.1", None);
    assert_eq!(bench.told(), ["pacs 2.25.1"], "nobody ordered it: the EHR has nothing to be told");
    bench.begins("2.25.2", Some(""));
    let entry = bench.journal.reader().unwrap().pending_entries(1).unwrap()[0].id;
    bench.says(Kind::Set, "2.25.2", "COMPLETED", None);
    assert_eq!(bench.told(), ["pacs 2.25.2", "ehr IP", "pacs 2.25.2", "ehr CM"], "a step without an id is all of them");
    bench.journal.operate(OperatorAction::Replay { entries: vec![entry] }).unwrap();
    assert_eq!(bench.told(), ["pacs 2.25.2"], "not in progress again, and not complete once more");
}
