//! Performed steps: what a modality says of its work reaches the EHR that ordered it and the PACS, in order and once.

use crate::orders::{Line, order};
use crate::peers::{free_port, until, until_async};
use crate::site::{AE_TITLE, Site};
use afferent::clinical::{PerformedStatus, PerformedStep};
use afferent::delivery::Outcome;
use afferent::delivery::config::{Config, Protocol};
use afferent::delivery::dicom::Dicom;
use afferent::delivery::instance::Images;
use afferent::delivery::window::Pace;
use afferent::journal::{self, Reader};
use afferent::message::dicom::performed_step::request::{self, Kind};
use afferent::message::dicom::{DataSet, FileMeta, Layout, VR, tags};
use afferent::sim::ehr::{Ehr, EhrOptions};
use afferent::wire::dimse::uid;
use std::sync::Arc;

/// A modality that reports its steps.
struct Modality(Dicom);

impl Modality {
    fn of(site: &Site) -> Modality {
        let config = Config {
            address: Some(site.address()),
            called_ae_title: Some(AE_TITLE.to_owned()),
            calling_ae_title: Some("VIVID".to_owned()),
            ..Config::new("box", Protocol::Dicom)
        };
        Modality(Dicom::new(Arc::new(config), Images::unchanged(std::env::temp_dir()), Pace::new(0)))
    }

    async fn says(&mut self, kind: Kind, step: &str, said: &DataSet) {
        let meta = FileMeta {
            sop_class_uid: uid::PERFORMED_PROCEDURE_STEP,
            sop_instance_uid: step,
            transfer_syntax_uid: uid::IMPLICIT_VR_LITTLE_ENDIAN,
            source_ae_title: "VIVID",
        };
        let raw = request::write(kind, &meta, &said.write(Layout::ImplicitLittle));
        let kept = request::read(&raw).unwrap();
        let outcome = self.0.tell(&kept, &raw[kept.begins_at..]).await;
        assert_eq!(outcome, Outcome::Delivered { answer: "0000".to_owned() });
    }

    async fn begins(&mut self, step: &str, study: &str) {
        let mut said = status("IN PROGRESS");
        let mut answered = DataSet::default();
        answered.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
        said.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![answered]);
        said.put_text(tags::MODALITY, VR::CS, "US");
        said.put_text(tags::PERFORMED_STATION_AE_TITLE, VR::AE, "VIVID");
        said.put_text(tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260302");
        said.put_text(tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "081500");
        self.says(Kind::Create, step, &said).await;
    }

    async fn ends(&mut self, step: &str, how: &str) {
        let mut note = DataSet::default();
        note.put_text(tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION, VR::LO, "Echo, transthoracic");
        self.says(Kind::Set, step, &note).await;
        self.says(Kind::Set, step, &status(how)).await;
    }
}

fn status(term: &str) -> DataSet {
    let mut said = DataSet::default();
    said.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, term);
    said
}

/// The step as another box keeps it.
fn step_at(site: &Site, step: &str) -> Option<PerformedStep> {
    let reader = Reader::open(&site.data(), &journal::Config::default()).ok()?;
    reader.performed_step(step).unwrap()
}

/// ORC-2 and ORC-5 of every order status the EHR took, in the order in which they came.
fn told(ehr: &Ehr) -> Vec<(String, String)> {
    let arrivals = ehr.arrivals();
    let bodies = arrivals.iter().filter(|a| a.stored).map(|arrival| String::from_utf8(arrival.body.clone()).unwrap());
    let orc = |body: &str| {
        let orc: Vec<&str> = body.split('\r').find(|line| line.starts_with("ORC|"))?.split('|').collect();
        (orc[1] == "SC").then(|| (orc[2].split('^').next().unwrap().to_owned(), orc[5].to_owned()))
    };
    bodies.filter_map(|body| orc(&body)).collect()
}

fn pairs<'t>(told: &'t [(String, String)], number: &str) -> Vec<&'t str> {
    told.iter().filter(|(of, _)| of == number).map(|(_, status)| status.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_step_reaches_the_ehr_and_the_pacs_in_order_and_once_through_outages_and_a_kill() {
    let (ehr_port, orders_port) = (free_port(), free_port());
    // The PACS is another box: it is as strict about performed steps as the Standard.
    let mut pacs = Site::new("[[destination]]\nname = \"away\"\naddress = \"127.0.0.1:9\"\n");
    let retry = "retry_min_ms = 50\nretry_max_ms = 500\n";
    let mut site = Site::new(&format!(
        "[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr_port}\"\norder_status = [\"ris\"]\n{retry}\
         [[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"{AE_TITLE}\"\n\
         mpps = true\nconnections = 4\n{retry}\
         [[orders]]\nname = \"ris\"\nlisten = \"127.0.0.1:{orders_port}\"\n",
        pacs.address()
    ));
    site.start();
    let mut line = Line::dial(orders_port);
    for (number, study) in [("P-1", "2.25.11"), ("P-2", "2.25.12")] {
        line.send(&order(number, study, "202603020800"));
    }
    let mut modality = Modality::of(&site);
    modality.begins("2.25.21", "2.25.11").await;
    modality.ends("2.25.21", "COMPLETED").await;
    modality.begins("2.25.22", "2.25.12").await;
    modality.ends("2.25.22", "DISCONTINUED").await;
    // Everything that was answered is kept, wherever it was on its way.
    site.kill();
    site.start();
    modality.begins("2.25.23", "2.25.12").await;

    let options =
        EhrOptions { mllp: Some(format!("127.0.0.1:{ehr_port}")), keep_bodies: true, ..EhrOptions::default() };
    let ehr = Ehr::start(options).await.unwrap();
    pacs.start();
    let is = |step: &str, status| step_at(&pacs, step).is_some_and(|known| known.status == status);
    until("the PACS knows every step", || {
        is("2.25.21", PerformedStatus::Completed)
            && is("2.25.22", PerformedStatus::Discontinued)
            && is("2.25.23", PerformedStatus::InProgress)
    });
    let step = step_at(&pacs, "2.25.21").unwrap();
    assert_eq!(step.description, "Echo, transthoracic", "the N-SET in between came too");
    assert_eq!((step.start.as_str(), step.scheduled.len()), ("20260302081500", 1));
    until_async("the EHR was told", || async { told(&ehr).len() >= 5 }).await;
    let told = told(&ehr);
    assert_eq!(pairs(&told, "P-1"), ["IP", "CM"]);
    assert_eq!(pairs(&told, "P-2"), ["IP", "DC", "IP"], "broken off, and begun again");
    let account = ehr.account();
    assert_eq!((account.stored, account.repeated_after_answer, account.conflicting), (5, 0, 0), "each once");

    modality.ends("2.25.23", "COMPLETED").await;
    until("the PACS knows the end", || is("2.25.23", PerformedStatus::Completed));
}
