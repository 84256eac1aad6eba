//! What an EHR gets of imaging, against goldens in `tests/imaging`: `results` and `orders`, as the judges read them.
//! `UPDATE_GOLDEN=1` rewrites them; the diff is the review.

use crate::receiver::{self, VERSIONS, formats};
use crate::{documents, golden};
use afferent::clinical::imaging::{
    Charted, ChartedDocument, ImagingRequest, Instance, Measurement, MeasurementReport, Series, Study, Update,
};
use afferent::clinical::{Coding, Patient, Phi};
use afferent::mapping::imaging::{
    Document, ImagingOrderStatus, ImagingProfile, StudyFacts, document, measurements, order_status, study, withdrawal,
};
use afferent::mapping::{FhirProfile, Format, Hl7Version, MapError, Origin, Target};
use afferent::message::dicom::{DataSet, Layout, measurement_report, read_data_set};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A document as its cart writes it.
type Tree = fn() -> DataSet;

const TREES: [(&str, Tree); 4] = [
    ("echo", documents::echo),
    ("vascular", documents::vascular),
    ("obstetric", documents::obstetric),
    ("lesion", documents::lesion),
];

fn target(format: Format) -> Target {
    receiver::target(
        format,
        "RAD",
        FhirProfile { order_system: "https://ehr.example/orders".into(), ..FhirProfile::default() },
    )
}

fn profile() -> ImagingProfile {
    ImagingProfile {
        wado_rs: "https://pacs.example/dicom-web".into(),
        accession_system: "https://ris.example/accessions".into(),
        raw_values: false,
        leave_out: Vec::new(),
    }
}

fn origin() -> Origin {
    receiver::origin("echo-1")
}

/// A study of two series, as the index knows it.
struct Known {
    patient: Patient,
    study: Study,
    request: ImagingRequest,
    series: Vec<(Series, Vec<Instance>)>,
    zone: jiff::tz::TimeZone,
}

impl Known {
    fn new() -> Known {
        let time = |date: &str, time: &str| afferent::clinical::imaging::DicomTime {
            date: date.into(),
            time: time.into(),
            offset: String::new(),
        };
        let instance = |number: usize| Instance {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.6.1".into(),
            sop_instance_uid: format!("1.2.826.0.1.3680043.10.1000.7.1.{number}"),
            number: number.to_string(),
            ..Instance::default()
        };
        let images = Series {
            instance_uid: "1.2.826.0.1.3680043.10.1000.7.1".into(),
            modality: "US".into(),
            number: "1".into(),
            description: "Herz, 4 Kammern".into(),
            body_part: "HEART".into(),
            started: time("20261103", "085500.25"),
            manufacturer: "ACME Ultrasound".into(),
            model: "Sono 9".into(),
            serial_number: "S-4711".into(),
            ..Series::default()
        };
        let report = Series {
            instance_uid: "1.2.826.0.1.3680043.10.1000.7.9".into(),
            modality: "SR".into(),
            number: "9".into(),
            laterality: "L".into(),
            body_site: Some(Coding { code: "T-32000".into(), text: "Heart".into(), system: srt() }),
            ..Series::default()
        };
        let document = Instance {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.33".into(),
            sop_instance_uid: "1.2.826.0.1.3680043.10.1000.7.9.1".into(),
            title: "Adult Echocardiography Procedure Report".into(),
            ..Instance::default()
        };
        Known {
            patient: Patient {
                id: Phi::new("P-100"),
                id_authority: "HOSP".into(),
                family: Phi::new("Muster"),
                given: Phi::new("Äda"),
                birth_date: Phi::new("19700102"),
                sex: "F".into(),
                ..Patient::default()
            },
            study: Study {
                instance_uid: "1.2.826.0.1.3680043.10.1000.7".into(),
                started: time("20261103", "085000"),
                description: "Echokardiographie".into(),
                referring_physician: Phi::new("Haus^Gregor^^Dr."),
                ..Study::default()
            },
            request: ImagingRequest {
                accession_number: Phi::new("ACC-1"),
                placer_order_number: Phi::new("ORD-1"),
                requested_procedure_id: Phi::new("RP-1"),
                scheduled_procedure_step_id: Phi::new("SPS-1"),
                procedure: Some(Coding::local("US-HEART", "Ultraschall Herz")),
                ..ImagingRequest::default()
            },
            series: vec![(images, vec![instance(1), instance(2)]), (report, vec![document])],
            zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
        }
    }

    fn facts(&self) -> StudyFacts<'_> {
        StudyFacts {
            patient: &self.patient,
            study: &self.study,
            request: Some(&self.request),
            series: self.series.iter().map(|(series, all)| (series, all.iter().collect())).collect(),
            zone: &self.zone,
            is_correction: false,
            told_under: None,
        }
    }
}

fn srt() -> afferent::clinical::CodingSystem {
    afferent::clinical::CodingSystem::Other("SRT".into())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imaging").join(name)
}

/// The bytes as they stand in a golden: CR as LF, JSON indented.
fn shown(bytes: &[u8], ending: &str) -> String {
    if !ending.ends_with("json") {
        return String::from_utf8(bytes.to_vec()).unwrap().replace('\r', "\n");
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, indent)).unwrap();
    String::from_utf8(out).unwrap() + "\n"
}

/// The report of a tree, as it comes from an object that was stored and read again.
fn stored(tree: Tree) -> MeasurementReport {
    let bytes = tree().write(Layout::ImplicitLittle);
    let walked = read_data_set(&bytes, "1.2.840.10008.1.2");
    assert!(walked.oddities.is_empty(), "{:?}", walked.oddities);
    measurement_report(&walked.data_set).unwrap()
}

/// Those that may go out without a person looking.
fn sure(report: &MeasurementReport) -> Vec<usize> {
    (0..report.measurements.len()).filter(|at| report.measurements[*at].doubts.is_empty()).collect()
}

#[test]
fn imaging_is_written_as_its_goldens_say() {
    let known = Known::new();
    let (facts, nothing) = (known.facts(), Update::default());
    let mut wrong = String::new();
    for (ending, format) in formats() {
        let target = target(format);
        let mut check = |name: &str, made: Result<Vec<u8>, MapError>| {
            let made = shown(&made.unwrap(), &ending);
            wrong += &golden::difference(&folder("results").join(format!("{name}.{ending}")), &made);
        };
        check("study", study(&facts, &target, &profile(), &origin()));
        for (name, tree) in TREES {
            let report = stored(tree);
            check(name, measurements(&facts, &report, &sure(&report), &nothing, &target, &profile(), &origin()));
        }
        // A corrected report that has no ejection fraction any more.
        let mut corrected = stored(documents::echo);
        let wants = |m: &Measurement| profile().wants(m);
        let charted = Charted::default().measured(&corrected, &sure(&corrected), wants).after;
        corrected.measurements.retain(|m| m.code.code != "18043-0");
        let correcting = StudyFacts { is_correction: true, ..facts.clone() };
        let part = sure(&corrected);
        let update = charted.clone().measured(&corrected, &part, wants);
        check("corrected", measurements(&correcting, &corrected, &part, &update, &target, &profile(), &origin()));
        let instance = Instance {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.104.1".into(),
            sop_instance_uid: "1.2.826.0.1.3680043.10.1000.7.8.1".into(),
            title: "Befund".into(),
            media_type: "application/pdf".into(),
            ..Instance::default()
        };
        let code = Coding::loinc("18842-5", "Discharge summary");
        let pdf = Document {
            instance: &instance,
            code: Some(&code),
            bytes: b"%PDF-1.4 not much of one",
            first_uid: &instance.sop_instance_uid,
        };
        check("document", document(&facts, pdf, &nothing, &target, &profile(), &origin()));
        // It takes the place of a report, and of a document that was called otherwise.
        let named = |code| ChartedDocument { instance: instance.clone(), code };
        let before = Charted { documents: vec![named(None)], ..charted.clone() };
        let update = before.documented(named(pdf.code.cloned()));
        check("replaced", document(&correcting, pdf, &update, &target, &profile(), &origin()));
        // An object takes the place of report and document that has nothing for the EHR.
        let charted = Charted { documents: vec![named(pdf.code.cloned())], ..charted };
        let silent = Instance { sop_instance_uid: "1.2.826.0.1.3680043.10.1000.7.9.3".into(), ..Instance::default() };
        let by = Document { instance: &silent, code: None, bytes: &[], first_uid: &instance.sop_instance_uid };
        check("withdrawn", withdrawal(&correcting, by, &charted.withdrawn(), &target, &profile(), &origin()));
    }
    for (name, tree) in TREES {
        let made = serde_json::to_vec(&stored(tree)).unwrap();
        wrong += &golden::difference(&folder("results").join(format!("{name}.json")), &shown(&made, "json"));
    }
    for version in VERSIONS {
        for (name, status) in [
            ("in-progress", ImagingOrderStatus::InProgress),
            ("completed", ImagingOrderStatus::Completed),
            ("discontinued", ImagingOrderStatus::Discontinued),
        ] {
            let made = order_status(&facts, status, &target(Format::Hl7V2(version)), &origin()).unwrap().unwrap();
            let file = folder("orders").join(format!("{name}.{}.hl7", version.name()));
            wrong += &golden::difference(&file, &shown(&made, "hl7"));
        }
    }
    assert!(wrong.is_empty(), "not as expected; UPDATE_GOLDEN=1 rewrites the files{wrong}");
}

#[test]
fn i13_what_is_doubtful_is_said() {
    let report = stored(documents::echo);
    let doubtful: Vec<_> = report.measurements.iter().filter(|m| !m.doubts.is_empty()).collect();
    assert_eq!(doubtful.len(), 1, "the cart's own code in the cart's own unit");
    assert_eq!(doubtful[0].doubts.iter().map(|d| d.name()).collect::<Vec<_>>(), ["unmapped-code", "unknown-unit"]);
    assert_eq!((report.repeats, report.results().count()), (1, 6));
}

#[test]
fn two_numbers_never_take_one_place_in_the_chart() {
    let known = Known::new();
    for (name, tree) in TREES {
        let report = stored(tree);
        let all: Vec<usize> = (0..report.measurements.len()).collect();
        let wanted = ImagingProfile { raw_values: true, ..profile() };
        let sent = |format| {
            measurements(&known.facts(), &report, &all, &Update::default(), &target(format), &wanted, &origin())
                .unwrap()
        };
        let message = String::from_utf8(sent(Format::Hl7V2(Hl7Version::V251))).unwrap();
        let segments = message.split('\r').filter(|s| s.starts_with("OBX|"));
        let mut places: Vec<(&str, &str)> =
            segments.map(|s| (s.split('|').nth(3).unwrap(), s.split('|').nth(4).unwrap())).collect();
        assert_eq!(places.len(), report.measurements.len(), "{name}");
        places.sort();
        places.dedup();
        assert_eq!(places.len(), report.measurements.len(), "{name}: OBX-3 and OBX-4 tell every number");
        assert!(places.iter().all(|(_, sub_id)| sub_id.len() <= 20));
        let bundle: serde_json::Value = serde_json::from_slice(&sent(Format::FhirTransaction)).unwrap();
        let urls = bundle["entry"].as_array().unwrap().iter().map(|e| e["request"]["url"].as_str().unwrap());
        let mut urls: Vec<&str> = urls.collect();
        let count = urls.len();
        urls.sort();
        urls.dedup();
        assert_eq!(urls.len(), count, "{name}");
    }
}

#[test]
fn i5_a_part_sent_later_keeps_the_names_of_the_whole() {
    let known = Known::new();
    let report = stored(documents::vascular);
    let sent = |part: &[usize]| {
        let target = target(Format::Hl7V2(Hl7Version::V251));
        let bytes =
            measurements(&known.facts(), &report, part, &Update::default(), &target, &profile(), &origin()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let whole: Vec<usize> = (0..report.measurements.len()).collect();
    let place = |message: &str, value: &str| {
        let segment = message.split('\r').find(|s| s.contains(&format!("|{value}|"))).unwrap().to_string();
        segment.split('|').nth(4).unwrap().to_string()
    };
    assert_eq!(place(&sent(&whole), "0.70"), place(&sent(&[8]), "0.70"));
    assert!(place(&sent(&[8]), "0.70").starts_with("T-45100-R."));
}

#[test]
fn what_cannot_be_filed_is_held_with_its_reason() {
    let known = Known::new();
    let nobody = Patient::default();
    let target = target(Format::FhirTransaction);
    let facts = StudyFacts { patient: &nobody, ..known.facts() };
    assert_eq!(study(&facts, &target, &profile(), &origin()).unwrap_err().reason(), "no-patient");
    let unnamed = Study::default();
    let facts = StudyFacts { study: &unnamed, ..known.facts() };
    assert_eq!(study(&facts, &target, &profile(), &origin()).unwrap_err().reason(), "no-study");
    let report = stored(documents::lesion);
    assert!(measurements(&known.facts(), &report, &[], &Update::default(), &target, &profile(), &origin()).is_err());
    let facts = StudyFacts { request: None, ..known.facts() };
    assert_eq!(order_status(&facts, ImagingOrderStatus::Completed, &target, &origin()), Ok(None));
}
