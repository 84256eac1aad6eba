//! What EHRs are told of studies over a journal, in virtual time: from the object to the message, or to the hold.

mod copies;
mod corrections;
mod discards;
mod doubts;
mod facts;
mod patients;
mod replaced;
mod rivals;
mod withdrawals;

use super::mpps::take;
use super::*;
use crate::delivery::config::Protocol;
use crate::journal::{self, NewInstance, OperatorAction, OutboxId, Settlement};
use crate::mapping::imaging::{ImagingMessage, ImagingProfile};
use crate::message::dicom::performed_step::request::Kind;
use crate::message::dicom::{CharacterSets, DataSet, Element, Layout, VR, Value, tags};
use crate::orders::read;
use crate::wire::dimse::{Arrival, Question, uid};
use crate::wire::{Persist, Token};

const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";
const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
const STUDY: &str = "1.2.826.0.1.3680043.10.1000.7";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DAY_MS: i64 = 86_400_000;

struct Bench {
    _data: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    journal: Journal,
    reader: Reader,
    desk: Desk,
    sent: u64,
}

/// An object of a study.
#[derive(Clone)]
struct Made {
    set: DataSet,
}

impl Made {
    fn new(class: &str, series: &str, number: &str) -> Made {
        let mut made = Made { set: DataSet::new(CharacterSets::utf8()) };
        let series = format!("{STUDY}.{series}");
        for (tag, vr, text) in [
            (tags::SOP_CLASS_UID, VR::UI, class),
            (tags::SOP_INSTANCE_UID, VR::UI, &format!("{series}.{number}")),
            (tags::STUDY_DATE, VR::DA, "20261103"),
            (tags::STUDY_TIME, VR::TM, "0850"),
            (tags::ACCESSION_NUMBER, VR::SH, "ACC-1"),
            (tags::MODALITY, VR::CS, if class == SR { "SR" } else { "US" }),
            (tags::STUDY_DESCRIPTION, VR::LO, "Echo"),
            (tags::PATIENT_NAME, VR::PN, "MUSTER^ADA"),
            (tags::PATIENT_ID, VR::LO, "P-100"),
            (tags::STUDY_INSTANCE_UID, VR::UI, STUDY),
            (tags::SERIES_INSTANCE_UID, VR::UI, &series),
            (tags::INSTANCE_NUMBER, VR::IS, number),
        ] {
            made = made.with(tag, vr, text);
        }
        made
    }

    fn image(number: &str) -> Made {
        Made::new(US, "1", number)
    }

    /// A report with an ejection fraction and a number in a code of the cart's own.
    fn report(number: &str, fraction: &str, replaces: Option<&str>) -> Made {
        let mut made = Made::new(SR, "9", number)
            .with(tags::VALUE_TYPE, VR::CS, "CONTAINER")
            .with(tags::COMPLETION_FLAG, VR::CS, "COMPLETE")
            .with(tags::VERIFICATION_FLAG, VR::CS, "VERIFIED");
        let fraction = num(["18043-0", "LN", "Left Ventricular Ejection Fraction"], fraction);
        let own = num(["99-7", "99CART", "Cart's own index"], "7");
        made.set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(["125200", "DCM", "Echo Report"])]);
        made.set.put_items(tags::CONTENT_SEQUENCE, vec![fraction, own]);
        if let Some(replaces) = replaces {
            let [mut study, mut series, mut document] = [0; 3].map(|_| DataSet::default());
            document.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &format!("{STUDY}.9.{replaces}"));
            series.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![document]);
            study.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
            made.set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study]);
        }
        made
    }

    fn pdf(number: &str, bytes: usize) -> Made {
        let mut made = Made::new(PDF, "8", number).with(tags::DOCUMENT_TITLE, VR::ST, "Befund").with(
            tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
            VR::LO,
            "application/pdf",
        );
        let value = Value::Bytes([&b"%PDF-1.4 "[..], &vec![b'x'; bytes]].concat());
        made.set.put(Element { tag: tags::ENCAPSULATED_DOCUMENT, vr: VR::OB, value });
        made
    }

    fn with(mut self, tag: crate::message::dicom::Tag, vr: VR, text: &str) -> Made {
        self.set.put_text(tag, vr, text);
        self
    }
}

fn code([value, scheme, meaning]: [&str; 3]) -> DataSet {
    let mut item = DataSet::default();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    item.put_text(tags::CODE_MEANING, VR::LO, meaning);
    item
}

fn num(name: [&str; 3], value: &str) -> DataSet {
    let (mut item, mut measured) = (DataSet::default(), DataSet::default());
    item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS");
    item.put_text(tags::VALUE_TYPE, VR::CS, "NUM");
    item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(name)]);
    measured.put_text(tags::NUMERIC_VALUE, VR::DS, value);
    measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(["%", "UCUM", "percent"])]);
    item.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    item
}

impl Bench {
    /// Told to an HL7 receiver.
    fn new() -> Bench {
        Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], Config::default())
    }

    fn with(destinations: &[delivery::Config], config: Config) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        let desk = Desk::new("bench", &jiff::tz::TimeZone::UTC, destinations).with(&config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { _data: data, runtime, reader: journal.reader().unwrap(), journal, desk, sent: 0 }
    }

    /// Stores objects and files them.
    fn store(&self, objects: &[Made]) {
        self.keep(objects);
        self.file();
    }

    /// Files what is stored.
    fn file(&self) {
        for entry in self.reader.pending_entries(100).unwrap() {
            // What tells of steps is not looked at here.
            let Some(instance) = entry.instance.clone() else { continue };
            let filing = self.desk.file(&self.reader, &entry, &instance).unwrap().unwrap();
            self.journal.file(filing).unwrap();
        }
    }

    /// Stores objects.
    fn keep(&self, objects: &[Made]) {
        self.keep_from("VIVID", objects);
    }

    /// Stores objects of whoever calls by this AE title.
    fn keep_from(&self, calling_ae_title: &str, objects: &[Made]) {
        self.keep_on("echo-1", calling_ae_title, objects);
    }

    /// Stores objects of whoever calls by this AE title on this link.
    fn keep_on(&self, link: &str, calling_ae_title: &str, objects: &[Made]) {
        self.keep_in(EXPLICIT, link, calling_ae_title, objects);
    }

    /// The same bytes, said to be in a transfer syntax.
    fn keep_in(&self, transfer_syntax_uid: &str, link: &str, calling_ae_title: &str, objects: &[Made]) {
        for Made { set } in objects {
            let spooled = self.journal.spool().keep(b"", &set.write(Layout::ExplicitLittle)).unwrap();
            let arrival = Arrival {
                sop_class_uid: set.uid(tags::SOP_CLASS_UID),
                sop_instance_uid: set.uid(tags::SOP_INSTANCE_UID),
                transfer_syntax_uid: transfer_syntax_uid.to_string(),
                calling_ae_title: calling_ae_title.to_string(),
                called_ae_title: "AFFERENT".to_string(),
                message_id: 1,
            };
            let instance = NewInstance { arrival, spooled };
            self.runtime.block_on(self.journal.persist_instance(link, Token(1), instance)).unwrap();
        }
    }

    /// A day goes by.
    fn settle(&self) -> usize {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.desk.settle_studies(&self.journal, &self.reader, now_ms + DAY_MS).unwrap()
    }

    /// A moment goes by.
    fn settle_soon(&self) -> usize {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.desk.settle_studies(&self.journal, &self.reader, now_ms + 1).unwrap()
    }

    /// What went out to a destination since it was last asked.
    fn told(&self, destination: &str) -> Vec<String> {
        let told = self.settled(destination, || Settlement::Delivered { answer: "AA".to_string() });
        told.into_iter().map(|(_, body)| body).collect()
    }

    /// The same, with what became of it there.
    fn settled(&self, destination: &str, how: impl Fn() -> Settlement) -> Vec<(OutboxId, String)> {
        let mut told = Vec::new();
        loop {
            let claimed = self.runtime.block_on(self.journal.claim(destination, 100)).unwrap();
            if claimed.is_empty() {
                return told;
            }
            for message in claimed {
                told.push((message.id, String::from_utf8(message.body).unwrap()));
                self.runtime.block_on(self.journal.settle(message.id, how())).unwrap();
            }
        }
    }

    /// The EHR orders an echocardiogram.
    fn order(&mut self, placer: &str, accession: &str, patient: &str, study: &str) {
        self.sent += 1;
        let id = format!("M-{}", self.sent);
        let raw = [
            format!("MSH|^~\\&|RIS|H|BOX|L|20260301||OMI^O23^OMI_O23|{id}|P|2.5.1"),
            format!("PID|1||{patient}^^^HOSP^MR||MUSTER^ADA"),
            format!("ORC|NW|{placer}"),
            "TQ1|1||||||20261103083000||R".to_string(),
            format!("OBR|1|{placer}||ECHO^Echocardiogram^L"),
            format!("IPC|{accession}|RP-1|{study}|SPS-1|US"),
        ];
        let context = read::Context { zone: jiff::tz::TimeZone::UTC, charset: None, specimen_field: None };
        let ris = crate::orders::Desk::new(&self.journal, "ris", context, Vec::new());
        let part = Persist {
            token: Token(self.sent),
            session: self.sent,
            bytes: raw.join("\r").into_bytes(),
            completes: true,
            identity: Some(id.into_bytes()),
        };
        let taken = self.runtime.block_on(ris.take(1, part)).map_err(|_| "refused").unwrap();
        assert_eq!(taken.refused, None);
        self.send_released();
    }

    fn held(&self) -> Vec<String> {
        self.reader.holds(100).unwrap().into_iter().map(|hold| hold.reason).collect()
    }

    fn release(&self) {
        self.say_release();
        self.send_released();
    }

    /// A person releases everything, and nobody has worked on it yet.
    fn say_release(&self) {
        let holds = self.reader.holds(100).unwrap().iter().map(|hold| hold.id).collect();
        self.journal.operate(OperatorAction::Release { holds, note: "seen".to_string() }).unwrap();
    }

    /// Releases everything, and works on each result by itself.
    fn release_in_two(&self) {
        self.say_release();
        for item in self.reader.released(100).unwrap() {
            for at in 0..item.observations.len() {
                let part = item.only(|place| place == at);
                for filing in self.desk.release(&self.journal, &self.reader, &part).unwrap() {
                    self.journal.file_release(filing).unwrap();
                }
            }
        }
    }

    /// Releases what is held of the document that came last.
    fn release_last(&self) {
        let holds = self.reader.holds(100).unwrap();
        let last = holds.iter().map(|hold| hold.entry).max();
        let holds = holds.into_iter().filter(|hold| Some(hold.entry) == last).map(|hold| hold.id).collect();
        self.journal.operate(OperatorAction::Release { holds, note: "seen".to_string() }).unwrap();
        self.send_released();
    }

    fn send_released(&self) {
        for item in self.reader.released(100).unwrap() {
            assert!(Desk::is_its_own(&item));
            for filing in self.desk.release(&self.journal, &self.reader, &item).unwrap() {
                self.journal.file_release(filing).unwrap();
            }
        }
    }

    /// The loss account balances; received, delivered, held and repeated.
    #[track_caller]
    fn account(&self) -> [i64; 4] {
        let account = self.reader.account().unwrap();
        assert_eq!(account.missing(), 0, "{account:?}");
        [account.received, account.delivered, account.held, account.repeated]
    }

    fn step(&self, kind: Kind, said: &DataSet) {
        let question = Question {
            sop_class_uid: uid::PERFORMED_PROCEDURE_STEP.to_string(),
            sop_instance_uid: Some("1.2.3.4".to_string()),
            transfer_syntax_uid: EXPLICIT.to_string(),
            calling_ae_title: "VIVID".to_string(),
            data_set: said.write(Layout::ExplicitLittle),
        };
        let reply = self.runtime.block_on(take(&self.journal, "echo-1", kind, &question));
        assert_eq!(reply.status, 0, "{:?}", reply.error_comment);
    }
}

/// A field of the first segment of this name.
fn field(message: &str, segment: &str, number: usize) -> String {
    let line = message.split('\r').find(|line| line.starts_with(segment)).unwrap_or_default();
    let at = if segment == "MSH" { number - 1 } else { number };
    line.split('|').nth(at).unwrap_or_default().to_string()
}

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn i7_an_image_the_disk_does_not_give_is_set_aside_and_not_routed_by_half_a_head() {
    let bench = Bench::new();
    bench.keep(&[Made::image("1")]);
    let entry = bench.reader.pending_entries(1).unwrap().remove(0);
    let instance = entry.instance.clone().unwrap();
    for stored in std::fs::read_dir(bench.journal.spool().folder()).unwrap() {
        // A folder can be opened, and gives nothing.
        let path = stored.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }
    }
    assert!(bench.desk.file(&bench.reader, &entry, &instance).unwrap().is_none());
}

#[test]
fn a_study_is_told_once_it_is_quiet_and_as_a_correction_when_it_grew() {
    let chart = delivery::Config {
        imaging: ImagingProfile {
            wado_rs: "https://pacs.example/dicom-web".to_string(),
            accession_system: "https://ris.example/accessions".to_string(),
            ..ImagingProfile::default()
        },
        ..delivery::Config::new("chart", Protocol::Fhir)
    };
    let ehr = delivery::Config::new("ehr", Protocol::Mllp);
    let elsewhere =
        delivery::Config { links: vec!["ct-1".to_string()], ..delivery::Config::new("other", Protocol::Mllp) };
    let bench = Bench::with(&[ehr, chart, elsewhere], Config::default());
    bench.store(&[Made::image("1"), Made::image("2")]);
    assert_eq!((bench.settle_soon(), bench.settle(), bench.settle()), (0, 1, 0));
    assert!(bench.told("other").is_empty(), "it does not take this modality");
    let (first, bundle) = (bench.told("ehr"), bench.told("chart"));
    assert_eq!((first.len(), bundle.len()), (1, 1));
    let said = [("MSH", 9), ("PID", 3), ("OBR", 3), ("OBR", 25), ("OBX", 5), ("OBX", 11)];
    let fields = |message: &str| said.map(|(segment, number)| field(message, segment, number));
    assert_eq!(fields(&first[0]), ["ORU^R01^ORU_R01", "P-100^^^^MR", "ACC-1", "R", STUDY, "F"]);
    let bundle = json(&bundle[0]);
    let of = |bundle: &serde_json::Value, kind: &str| {
        let mut entries = bundle["entry"].as_array().unwrap().iter();
        entries.find(|entry| entry["resource"]["resourceType"] == kind).unwrap().clone()
    };
    let study = of(&bundle, "ImagingStudy");
    assert_eq!(study["resource"]["numberOfInstances"], 2);
    assert_eq!(study["resource"]["endpoint"][0]["reference"], of(&bundle, "Endpoint")["fullUrl"]);
    assert_eq!(of(&bundle, "Endpoint")["resource"]["address"], "https://pacs.example/dicom-web");
    assert_eq!(study["resource"]["identifier"][1]["system"], "https://ris.example/accessions");

    bench.store(&[Made::image("1")]);
    assert_eq!(bench.settle(), 0, "an image that came again is none that came");
    bench.store(&[Made::image("3")]);
    assert_eq!(bench.settle(), 1);
    let (second, grown) = (bench.told("ehr"), json(&bench.told("chart")[0]));
    assert_eq!(fields(&second[0]), ["ORU^R01^ORU_R01", "P-100^^^^MR", "ACC-1", "C", STUDY, "C"]);
    assert_ne!(field(&first[0], "MSH", 10), field(&second[0], "MSH", 10));
    assert_eq!(of(&grown, "ImagingStudy")["request"]["url"], study["request"]["url"]);
    assert_eq!(of(&grown, "ImagingStudy")["resource"]["numberOfInstances"], 3);
    // Three images without an archive, and what was told twice.
    assert_eq!(bench.account(), [5, 2, 0, 0]);
}

#[test]
fn i13_documents_go_with_their_study_and_a_private_code_is_held() {
    let bench = Bench::new();
    bench.store(&[Made::image("1"), Made::report("1", "58.30", None), Made::pdf("1", 40)]);
    bench.settle();
    let told = bench.told("ehr");
    assert_eq!(told.len(), 3, "measurements, document and study");
    let fraction = told.iter().find(|message| message.contains("18043-0")).unwrap();
    let said = [("OBX", 2), ("OBX", 3), ("OBX", 5), ("OBX", 6), ("OBX", 11), ("OBR", 25)];
    assert_eq!(
        said.map(|(segment, number)| field(fraction, segment, number)),
        ["NM", "18043-0^Left Ventricular Ejection Fraction^LN", "58.30", "%^percent^UCUM", "F", "F"]
            .map(str::to_string)
    );
    let document = told.iter().find(|message| message.contains("|ED|")).unwrap();
    assert!(field(document, "OBX", 5).contains("^Base64^JVBERi0xLjQg"), "%PDF-1.4");
    assert_eq!((bench.held(), bench.account()), (vec!["unmapped-code".to_string()], [7, 3, 1, 0]));
    bench.release();
    let released = bench.told("ehr");
    assert_eq!(released.len(), 1);
    assert!(field(&released[0], "OBX", 3).starts_with("99-7^"), "{}", released[0]);
    assert_eq!(bench.account(), [7, 4, 0, 0]);
    assert_eq!(bench.settle(), 0);
}

#[test]
fn a_report_that_takes_the_place_of_another_corrects_it_under_the_same_names() {
    let bench = Bench::with(&[delivery::Config::new("chart", Protocol::Fhir)], Config::default());
    let urls = |body: &str| {
        let bundle = json(body);
        let entries = bundle["entry"].as_array().unwrap().iter();
        let put = entries
            .filter(|entry| entry["request"]["method"] == "PUT" && entry["resource"]["resourceType"] != "Patient");
        put.map(|entry| entry["request"]["url"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let report = |bodies: Vec<String>| bodies.into_iter().find(|body| body.contains("DiagnosticReport\",")).unwrap();
    bench.store(&[Made::report("1", "58.30", None)]);
    bench.settle();
    let first = report(bench.told("chart"));
    bench.store(&[Made::report("2", "61.00", Some("1"))]);
    bench.settle();
    let second = report(bench.told("chart"));
    assert_eq!(urls(&first), urls(&second));
    assert!(second.contains("61.00") && second.contains("\"corrected\"") && !first.contains("\"corrected\""));
    assert!(second.contains(&format!("urn:oid:{STUDY}.9.2")), "its own UID is named as well");
    assert_eq!(bench.held().len(), 1, "what was held of the first is covered by the second");
    // Two objects, two studies told, each time one number and one held.
    assert_eq!(bench.account(), [8, 4, 1, 1]);
    // One that replaces what nobody was told of, with the one it replaces.
    bench.store(&[Made::report("3", "50", Some("2")), Made::report("4", "49", Some("3"))]);
    bench.settle();
    let third: Vec<String> = bench.told("chart").into_iter().filter(|body| body.contains("18043-0")).collect();
    assert_eq!(third.len(), 1);
    assert!(third[0].contains(":49,") && urls(&third[0]) == urls(&first), "{}", third[0]);
    bench.account();
}

#[test]
fn what_was_preliminary_becomes_final_and_only_what_was_final_is_corrected() {
    let bench = Bench::new();
    bench.store(&[Made::report("1", "58.30", None).with(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED")]);
    bench.settle();
    bench.store(&[Made::report("1", "58.30", None)]);
    bench.settle();
    bench.store(&[Made::report("1", "57", None)]);
    bench.settle();
    let told: Vec<String> = bench.told("ehr").into_iter().filter(|message| message.contains("18043-0")).collect();
    let said: Vec<(String, String)> =
        told.iter().map(|message| (field(message, "OBX", 5), field(message, "OBX", 11))).collect();
    let expected = [("58.30", "P"), ("58.30", "F"), ("57", "C")];
    assert_eq!(said, expected.map(|(value, status)| (value.to_string(), status.to_string())));
    bench.account();
}

#[test]
fn i13_a_study_without_number_and_order_is_held_until_its_order_comes() {
    let mut bench = Bench::new();
    let unnumbered = |made: Made| made.with(tags::ACCESSION_NUMBER, VR::SH, "");
    bench.store(&[unnumbered(Made::image("1")), unnumbered(Made::report("1", "58.30", None))]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["no-accession".to_string()], 0));
    assert_eq!(bench.account(), [3, 0, 1, 0], "the objects, and the study that is held");
    bench.order("ORD-9", "ACC-9", "P-7", "1.2.3");
    assert_eq!(bench.held(), ["no-accession"], "an order of another study changes nothing");
    bench.order("ORD-1", "ACC-1", "P-100", STUDY);
    let told = bench.told("ehr");
    assert_eq!(told.len(), 2, "the study and its report");
    for message in told {
        assert_eq!((field(&message, "OBR", 2), field(&message, "OBR", 3)), ("ORD-1".into(), "ACC-1".into()));
        assert!(field(&message, "PID", 3).starts_with("P-100^^^HOSP"));
    }
    assert_eq!(bench.held(), ["unmapped-code"], "its report is decided about by itself");
    bench.account();
}

#[test]
fn i13_an_order_for_another_patient_holds_the_study_until_somebody_has_looked() {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-200", "1.2.3");
    bench.store(&[Made::image("1"), Made::pdf("1", 10)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["order-mismatch".to_string()], 0));
    bench.release();
    let told = bench.told("ehr");
    assert_eq!(told.len(), 2);
    for message in told {
        let said = (field(&message, "PID", 3), field(&message, "OBR", 2));
        assert_eq!(said, ("P-100^^^^MR".to_string(), String::new()), "as its objects say");
    }
    assert!(bench.held().is_empty());
    bench.account();
}

#[test]
fn i13_of_several_orders_the_one_its_objects_name_is_answered_and_none_is_guessed() {
    let mut bench = Bench::new();
    bench.order("ORD-1", "ACC-1", "P-100", "1.2.3.1");
    bench.order("ORD-2", "ACC-1", "P-100", "1.2.3.2");
    bench.store(&[Made::image("1")]);
    bench.settle();
    assert_eq!(bench.held(), ["ambiguous-order"]);
    bench.order("ORD-3", "ACC-1", "P-100", STUDY);
    let told = bench.told("ehr");
    assert_eq!(told.iter().map(|message| field(message, "OBR", 2)).collect::<Vec<_>>(), ["ORD-3"]);
    assert!(bench.held().is_empty());
}

#[test]
fn i13_objects_of_two_patients_in_one_study_hold_it_also_in_one_series() {
    let bench = Bench::new();
    bench.store(&[Made::image("1"), Made::image("2").with(tags::PATIENT_ID, VR::LO, "P-101")]);
    bench.settle();
    assert_eq!(bench.held(), ["several-patients"]);
    let allowed = Config { hold: Vec::new(), ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("chart", Protocol::Fhir)], allowed);
    bench.store(&[Made::image("1"), Made::image("2").with(tags::PATIENT_ID, VR::LO, "P-101")]);
    bench.settle();
    assert_eq!(bench.held(), ["several-patients"], "nobody knows whose it is, whatever the site holds");
    bench.release();
    assert_eq!((bench.told("chart"), bench.held()), (Vec::new(), vec!["several-patients".to_string()]));
}

#[test]
fn i13_a_study_of_nobody_is_never_told() {
    let bench =
        Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], Config { hold: Vec::new(), ..Config::default() });
    bench.store(&[Made::image("1").with(tags::PATIENT_ID, VR::LO, "")]);
    bench.settle();
    bench.release();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["no-patient".to_string()], 0));
    bench.account();
}

#[test]
fn i10_a_document_larger_than_the_site_allows_is_held_until_it_allows_more() {
    let small = Config { document_mb_max: 1, ..Config::default() };
    let bench = Bench::with(&[delivery::Config::new("ehr", Protocol::Mllp)], small);
    bench.store(&[Made::pdf("1", 1 << 20), Made::pdf("2", 3 << 20)]);
    bench.settle();
    assert_eq!((bench.held(), bench.told("ehr").len()), (vec!["too-large".to_string(); 2], 1));
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (2, 0), "it is still too large");
    let bench = Bench { desk: bench.desk.with(&Config::default()), ..bench };
    bench.release();
    assert_eq!((bench.held().len(), bench.told("ehr").len()), (0, 2));
    bench.account();
}

#[test]
fn an_ehr_is_not_told_what_it_leaves_out() {
    let imaging = ImagingProfile { leave_out: vec![ImagingMessage::Studies], ..ImagingProfile::default() };
    let bench =
        Bench::with(&[delivery::Config { imaging, ..delivery::Config::new("ehr", Protocol::Mllp) }], Config::default());
    bench.store(&[Made::image("1"), Made::pdf("1", 10)]);
    bench.settle();
    let told = bench.told("ehr");
    assert!(told.len() == 1 && told[0].contains("|ED|"));
    bench.account();
}

#[test]
fn a_study_is_stable_when_its_steps_ended_and_what_they_list_is_here() {
    let bench = Bench::new();
    let mut scheduled = DataSet::default();
    scheduled.put_text(tags::STUDY_INSTANCE_UID, VR::UI, STUDY);
    let mut began = DataSet::default();
    began.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "IN PROGRESS");
    began.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![scheduled]);
    bench.step(Kind::Create, &began);
    bench.store(&[Made::image("1")]);
    assert_eq!(bench.settle_soon(), 0, "it goes on");
    let image = |number: usize| {
        let mut image = DataSet::default();
        image.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, US);
        image.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &format!("{STUDY}.1.{number}"));
        image
    };
    let (mut ended, mut series) = (DataSet::default(), DataSet::default());
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, &format!("{STUDY}.1"));
    series.put_items(tags::REFERENCED_IMAGE_SEQUENCE, (1..=2).map(image).collect());
    ended.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
    ended.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
    bench.step(Kind::Set, &ended);
    assert_eq!(bench.settle_soon(), 0, "an image it lists is still to come");
    bench.store(&[Made::image("2")]);
    assert_eq!((bench.settle_soon(), bench.settle_soon(), bench.told("ehr").len()), (1, 0, 1));
    bench.store(&[Made::image("3")]);
    assert_eq!((bench.settle_soon(), bench.told("ehr").len()), (1, 1), "what comes late is told at once");
}

#[test]
fn i4_a_study_interpreted_again_is_decided_about_again_and_told_once() {
    let bench = Bench::new();
    bench.store(&[Made::image("1"), Made::pdf("1", 10)].map(|made| made.with(tags::ACCESSION_NUMBER, VR::SH, "")));
    bench.settle();
    assert_eq!(bench.held(), ["no-accession"]);
    let entries: Vec<_> = bench.reader.holds(10).unwrap().iter().map(|hold| hold.entry).collect();
    bench.journal.operate(OperatorAction::Replay { entries: entries.clone() }).unwrap();
    bench.store(&[]);
    assert!(bench.held().is_empty());
    bench.settle();
    assert_eq!(bench.held(), ["no-accession"], "it is not lost by that");
    bench.release();
    assert_eq!(bench.told("ehr").len(), 2);
    bench.journal.operate(OperatorAction::Replay { entries }).unwrap();
    bench.store(&[]);
    bench.settle();
    assert!(bench.told("ehr").is_empty() && bench.held().is_empty(), "nothing about it is new");
    bench.account();
}
