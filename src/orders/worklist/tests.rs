//! The worklist over a journal: from the HL7 order to the C-FIND answer.

use super::*;
use crate::clinical::OrderStatus;
use crate::imaging::mpps;
use crate::message::dicom::performed_step::request::Kind;
use crate::orders::{Desk, read};
use crate::wire::dimse::{Question, uid};
use crate::wire::{Persist, Token};

const IMPLICIT: &str = "1.2.840.10008.1.2";
const TODAY: Date = Date::constant(2026, 3, 2);

struct Bench {
    _data: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    journal: Journal,
    worklist: Worklist,
    sent: u64,
}

impl Bench {
    fn new(config: Config) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &crate::journal::Config::default()).unwrap();
        let worklist = Worklist::new(&journal, config, TimeZone::UTC);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { _data: data, runtime, journal, worklist, sent: 0 }
    }

    /// The EHR sends a message of these segments behind a header and patient `id`.
    fn send(&mut self, kind: &str, patient: &str, segments: &[&str]) {
        self.sent += 1;
        let header = format!("MSH|^~\\&|RIS|H|BOX|L|20260301||{kind}|M-{}|P|2.5.1|||||||UNICODE UTF-8", self.sent);
        let raw = [&[header.as_str(), patient], segments].concat().join("\r");
        let context = read::Context { zone: jiff::tz::TimeZone::UTC, charset: None, specimen_field: None };
        let desk = Desk::new(&self.journal, "ris", context, vec!["chemistry".into()]);
        let part = Persist {
            token: Token(self.sent),
            session: self.sent,
            bytes: raw.into_bytes(),
            completes: true,
            identity: Some(format!("RIS|H|M-{}", self.sent).into_bytes()),
        };
        let taken = self.runtime.block_on(desk.take(1, part)).map_err(|_| "refused").unwrap();
        assert_eq!(taken.refused, None);
    }

    /// A modality does scheduled step `id` of a study.
    fn perform(&self, study: &str, id: &str) {
        let mut answered = DataSet::default();
        answered.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
        answered.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, id);
        for (kind, status) in [(Kind::Create, "IN PROGRESS"), (Kind::Set, "COMPLETED")] {
            let mut said = DataSet::default();
            said.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status);
            said.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![answered.clone()]);
            let question = Question {
                sop_class_uid: uid::PERFORMED_PROCEDURE_STEP.into(),
                sop_instance_uid: Some(format!("{study}.9")),
                transfer_syntax_uid: IMPLICIT.into(),
                data_set: said.write(Layout::ImplicitLittle),
                calling_ae_title: "VIVID".into(),
            };
            let reply = self.runtime.block_on(mpps::take(&self.journal, "echo-1", kind, &question));
            assert_eq!(reply.status, SUCCESS);
        }
    }

    /// Asks for name, study and station, each with this key, and tells the names, in order.
    fn names(&self, keys: &[(Tag, VR, &str)], step_keys: &[(Tag, VR, &str)]) -> Vec<String> {
        self.ask(keys, step_keys).iter().map(|entry| entry.text(tags::PATIENT_NAME)).collect()
    }

    fn ask(&self, keys: &[(Tag, VR, &str)], step_keys: &[(Tag, VR, &str)]) -> Vec<DataSet> {
        let mut step = DataSet::default();
        for (tag, vr, text) in
            [(tags::MODALITY, VR::CS, ""), (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "")].iter().chain(step_keys)
        {
            step.put_text(*tag, *vr, text);
        }
        let mut query = DataSet::new(CharacterSets::utf8());
        for (tag, vr, text) in
            [(tags::PATIENT_NAME, VR::PN, ""), (tags::STUDY_INSTANCE_UID, VR::UI, "")].iter().chain(keys)
        {
            query.put_text(*tag, *vr, text);
        }
        query.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
        let replies = self.worklist.answer_on(TODAY, &query.write(Layout::ImplicitLittle), IMPLICIT);
        let (last, pending) = replies.split_last().unwrap();
        assert_eq!((last.status, last.more, last.data_set.is_none()), (SUCCESS, false, true));
        let read = |reply: &Reply| {
            assert!(reply.more && matches!(reply.status, PENDING | PENDING_KEYS_IGNORED));
            read_data_set(reply.data_set.as_deref().unwrap(), IMPLICIT).data_set
        };
        pending.iter().map(read).collect()
    }
}

const HAYDN: &str = "PID|1||4711^^^HOSP^MR||HAYDN^FRANZ^JOSEPH||17320331|M";
const MOZART: &str = "PID|1||4712^^^HOSP^MR||MOZART^WOLFGANG||17560127|M";

fn order(number: &str, start: &str, ipc: &str) -> [String; 4] {
    [
        format!("ORC|NW|{number}"),
        format!("TQ1|1||||||{start}||R"),
        format!("OBR|1|{number}||ECHO^Echocardiogram^L"),
        format!("IPC|{ipc}"),
    ]
}

fn slices(segments: &[String; 4]) -> [&str; 4] {
    segments.each_ref().map(String::as_str)
}

#[test]
fn an_order_is_on_the_worklist_until_it_is_taken_back_and_changes_with_it() {
    let mut bench = Bench::new(Config::default());
    assert!(bench.names(&[], &[]).is_empty());
    bench.send("OMI^O23", MOZART, &slices(&order("P-2", "202603020900", "A2|R2||S2|US|||ROOM 3|VIVID")));
    bench.send("OMI^O23", HAYDN, &slices(&order("P-1", "202603020800", "A1|R1||S1|CT|||ROOM 4|SCANNER")));
    assert_eq!(bench.names(&[], &[]), ["HAYDN^FRANZ^JOSEPH", "MOZART^WOLFGANG"], "by their start");
    assert_eq!(bench.names(&[], &[(tags::MODALITY, VR::CS, "US")]), ["MOZART^WOLFGANG"]);
    let station = |ae| [(tags::SCHEDULED_STATION_AE_TITLE, VR::AE, ae)];
    assert_eq!(bench.names(&[], &station("SCANNER")), ["HAYDN^FRANZ^JOSEPH"]);
    let study = bench.ask(&[], &station("SCANNER"))[0].text(tags::STUDY_INSTANCE_UID);
    assert!(study.starts_with("2.25."), "made by the box: {study}");

    let mut moved = order("P-1", "202603021000", "A1|R1||S1|CT|||ROOM 4|SCANNER2");
    moved[0] = moved[0].replace("NW", "XO");
    bench.send("OMI^O23", HAYDN, &slices(&moved));
    assert!(bench.names(&[], &station("SCANNER")).is_empty());
    let after = bench.ask(&[], &station("SCANNER2"));
    assert_eq!(after[0].text(tags::STUDY_INSTANCE_UID), study, "a modality may have it already");
    assert_eq!(bench.names(&[], &[]), ["MOZART^WOLFGANG", "HAYDN^FRANZ^JOSEPH"]);

    bench.send("ADT^A08", "PID|1||4711^^^HOSP^MR||HAYDN^JOSEPH||17320331|M", &[]);
    assert_eq!(bench.names(&[], &station("SCANNER2")), ["HAYDN^JOSEPH"], "as the EHR calls the patient now");
    bench.send("OMI^O23", HAYDN, &["ORC|CA|P-1", "OBR|1|P-1||ECHO", "IPC|A1|R1||S1|CT"]);
    bench.send("ORM^O01", MOZART, &["ORC|SC|P-2|||CM", "OBR|1|P-2||ECHO"]);
    assert!(bench.names(&[], &[]).is_empty());
}

#[test]
fn a_step_that_was_done_stays_done_when_the_order_changes() {
    let mut bench = Bench::new(Config::default());
    let of_two = |control: &str, start: &str| {
        let mut segments = order("P-1", start, "A1|R1|2.25.7|S1|CT|||R|AE").to_vec();
        segments[0] = segments[0].replace("NW", control);
        segments.push("IPC|A1|R1|2.25.7|S2|CT|||R|AE".into());
        segments
    };
    let send = |bench: &mut Bench, segments: Vec<String>| {
        bench.send("OMI^O23", HAYDN, &segments.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let ids = |bench: &Bench| -> Vec<String> {
        let step = tags::SCHEDULED_PROCEDURE_STEP_ID;
        let asked = bench.ask(&[], &[(step, VR::SH, "")]);
        asked.iter().map(|e| e.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).unwrap().text(step)).collect()
    };
    send(&mut bench, of_two("NW", "202603020800"));
    bench.perform("2.25.7", "S1");
    assert_eq!(ids(&bench), ["S2"]);
    send(&mut bench, of_two("XO", "202603021000"));
    assert_eq!(ids(&bench), ["S2"], "what was done is not offered again");
    let orders = bench.journal.reader().unwrap().work_orders(true, 9).unwrap();
    assert_eq!(orders.iter().map(|o| o.status).collect::<Vec<_>>(), [OrderStatus::InProgress]);
    let mut alone = order("P-1", "202603021000", "A1|R1|2.25.7|S1|CT|||R|AE").to_vec();
    alone[0] = alone[0].replace("NW", "XO");
    send(&mut bench, alone);
    assert!(ids(&bench).is_empty(), "what is left of it was done");
    assert!(bench.journal.reader().unwrap().work_orders(true, 9).unwrap().is_empty());
}

#[test]
fn a_patient_who_was_merged_or_corrected_since_is_told_as_now() {
    let mut bench = Bench::new(Config::default());
    bench.send("OMI^O23", HAYDN, &slices(&order("P-1", "202603020800", "A1|R1||S1|CT|||R|AE")));
    assert_eq!(bench.names(&[], &[]).len(), 1);
    bench.send("ADT^A40", "PID|1||9000^^^HOSP^MR||HAYDN^FJ", &["MRG|4711"]);
    let merged = bench.ask(&[(tags::PATIENT_ID, VR::LO, "9000")], &[]);
    assert_eq!(merged.iter().map(|e| e.text(tags::PATIENT_NAME)).collect::<Vec<_>>(), ["HAYDN^FJ"]);
    bench.send("ADT^A08", "PID|1||9000^^^HOSP^MR||HAYDN^PAPA", &[]);
    assert_eq!(bench.names(&[(tags::PATIENT_ID, VR::LO, "9000")], &[]), ["HAYDN^PAPA"]);
}

#[test]
fn a_room_stands_for_its_station_where_orders_name_rooms_only() {
    let room = config::Room { location: "ROOM 3".into(), ae_title: "VIVID".into(), modality: Some("US".into()) };
    let mut bench = Bench::new(Config { rooms: vec![room], ..Config::default() });
    bench.send("OMI^O23", HAYDN, &slices(&order("P-1", "202603020800", "A1|R1||S1||||ROOM 3")));
    let keys = [(tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "VIVID"), (tags::MODALITY, VR::CS, "US")];
    assert_eq!(bench.names(&[], &keys), ["HAYDN^FRANZ^JOSEPH"]);
}

#[test]
fn no_more_than_the_site_allows_are_told_and_those_nearest_to_today() {
    let mut bench = Bench::new(Config { answers_max: 3, ..Config::default() });
    let starts = [
        "202603021100",
        "202602010900",
        "202603020900",
        "202509010900",
        "202603030900",
        "202703020900",
        "202604010900",
    ];
    for (number, start) in starts.into_iter().enumerate() {
        bench.send("OMI^O23", HAYDN, &slices(&order(&format!("P-{number}"), start, &format!("P-{number}|R||S|CT"))));
    }
    let accessions = |step: &[(Tag, VR, &str)]| -> Vec<String> {
        let asked = bench.ask(&[(tags::ACCESSION_NUMBER, VR::SH, "")], step);
        asked.iter().map(|e| e.text(tags::ACCESSION_NUMBER)).collect()
    };
    assert_eq!(accessions(&[]), ["P-2", "P-0", "P-4"], "what was never done does not crowd out today; by their start");
    let since_march = [(tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260301-20270101")];
    assert_eq!(accessions(&since_march), ["P-2", "P-0", "P-4"]);
    let before = [(tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "-20260228")];
    assert_eq!(accessions(&before), ["P-3", "P-1"], "who asks for what is old gets it");
}

#[test]
fn a_laboratory_order_is_no_entry_and_an_imaging_order_no_task_of_an_instrument() {
    let mut bench = Bench::new(Config::default());
    bench.send("ORM^O01", HAYDN, &["ORC|NW|L-1", "OBR|1|L-1||GLU"]);
    bench.send("OMI^O23", HAYDN, &slices(&order("P-1", "202603020800", "A1|R1||S1|CT")));
    assert_eq!(bench.names(&[], &[]).len(), 1);
    let tasks = bench.journal.reader().unwrap().link_tasks("chemistry", 0, 10).unwrap();
    let numbers: Vec<&str> = tasks.iter().map(|t| t.order.order.placer_order_number.id.expose()).collect();
    assert_eq!(numbers, ["L-1"]);
}

#[test]
fn bytes_that_are_no_query_are_refused_and_nothing_panics() {
    let bench = Bench::new(Config::default());
    for raw in [&b"\x08\x00\x05"[..], b"\x10\x00\x10\x00PN\xff\xff"] {
        let replies = bench.worklist.answer(raw, "1.2.840.10008.1.2.1");
        assert_eq!(replies.last().map(|r| r.status), Some(CANNOT_UNDERSTAND));
    }
}

#[test]
fn a_modality_is_told_who_gave_the_patient_id_by_name_and_by_universal_id() {
    let step = crate::clinical::ScheduledStep::default();
    let procedure = crate::clinical::RequestedProcedure { steps: vec![step.clone()], ..Default::default() };
    let imaging = crate::clinical::ImagingOrder::default();
    let told = |authority: &str| {
        let mut order = crate::clinical::WorkOrder::default();
        order.patient.patient.id_authority = authority.to_owned();
        entry::Scheduled { order: &order, imaging: &imaging, procedure: &procedure, step: &step }.data_set()
    };
    let qualifiers = |set: &DataSet| set.item(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE).cloned();
    assert!(qualifiers(&told("HOSP")).is_none());
    let set = told("HOSP^http://hospital.example^URI");
    let universal = qualifiers(&set).unwrap();
    assert_eq!(set.text(tags::ISSUER_OF_PATIENT_ID), "HOSP");
    assert_eq!(universal.text(tags::UNIVERSAL_ENTITY_ID), "http://hospital.example");
    assert_eq!(universal.text(tags::UNIVERSAL_ENTITY_ID_TYPE), "URI");
}
