//! What data sets mean: the heads of real objects.

use crate::corpus;
use afferent::clinical::Coding;
use afferent::clinical::imaging::Measurement;
use afferent::message::dicom::{End, Head, measurement_report, read_head, tags};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The objects of the corpus, by name.
fn objects() -> Vec<(String, PathBuf)> {
    let Some(folder) = corpus::folder("dicom/objects") else { return Vec::new() };
    let paths = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = paths.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), p)).collect();
    found.sort();
    assert!(found.len() >= 40, "objects have gone missing");
    found
}

fn head(path: &PathBuf) -> Head {
    read_head(std::fs::File::open(path).unwrap(), "")
}

#[test]
fn every_object_of_the_corpus_has_a_head() {
    // Made without a modality's attributes: a sequence alone, a nested one, text alone.
    const BARE: [&str; 7] = [
        "UN_sequence.dcm",
        "chrSQEncoding.dcm",
        "chrSQEncoding1.dcm",
        "empty_charset_LEI.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta_group_length.dcm",
    ];
    for (name, path) in objects() {
        let head = head(&path);
        assert!(!head.data_set.elements().is_empty(), "{name} has no elements");
        assert_ne!(head.end, End::Depth, "{name}");
        if !BARE.contains(&name.as_str()) {
            assert!(!head.study.instance_uid.is_empty(), "{name} has no study: {:?}", head.oddities);
            assert!(!head.series.modality.is_empty(), "{name} has no modality");
        }
    }
}

#[test]
fn names_are_read_in_their_character_sets() {
    let names = [
        ("chrFren.dcm", "Buc^Jérôme"),
        ("chrGerm.dcm", "Äneas^Rüdiger"),
        ("chrGreek.dcm", "Διονυσιος"),
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32.dcm", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2.dcm", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrRuss.dcm", "Люкceмбypг"),
        ("chrX1.dcm", "Wang^XiaoDong=王^小東"),
    ];
    let objects = objects();
    for (name, expected) in names.iter().filter(|_| !objects.is_empty()) {
        let (_, path) = objects.iter().find(|(n, _)| n == name).unwrap();
        assert_eq!(head(path).patient_name.expose().trim_end_matches('='), *expected, "{name}");
    }
    for (name, path) in objects.iter().filter(|(n, _)| n.starts_with("chrSQ")) {
        let head = head(path);
        let item = head.data_set.item(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).unwrap();
        assert_eq!(item.text(tags::PATIENT_NAME), names[4].1, "{name}: an item has sets of its own");
    }
}

#[test]
fn odd_files_are_read_and_noted() {
    let noted = |name: &str| -> Option<(Head, Vec<&'static str>)> {
        let objects = objects();
        let (_, path) = objects.iter().find(|(n, _)| n == name)?;
        let head = head(path);
        let what = head.oddities.iter().map(|o| o.what).collect();
        Some((head, what))
    };
    if let Some((head, what)) = noted("no_meta.dcm") {
        assert_eq!(what, ["a stray byte stands before the data set"]);
        assert_eq!(head.patient.id.expose(), "1CT1");
    }
    if let Some((head, _)) = noted("rtplan_truncated.dcm") {
        assert_eq!((head.end, head.patient.id.expose()), (End::Cut, "id00001"));
    }
    if let Some((head, _)) = noted("image_dfl.dcm") {
        assert_eq!(
            (head.study.instance_uid.as_str(), head.end),
            ("1.3.6.1.4.1.5962.1.2.0.977067310.6001.0", End::PixelData)
        );
    }
    if let Some((head, _)) = noted("MR_small_bigendian.dcm") {
        assert_eq!((head.data_set.number(tags::ROWS), head.patient.id.expose()), (Some(64), "4MR1"));
    }
    if let Some((head, _)) = noted("UN_sequence.dcm") {
        let item = &head.data_set.elements()[0];
        assert!(format!("{item:?}").contains("(0008,1115) SQ"), "{item:?}");
    }
}

#[test]
fn the_measurements_of_structured_reports_are_as_expected() {
    let Some(folder) = corpus::folder("dicom/sr") else { return };
    for name in ["echo-a", "echo-b", "vasc-a", "meas-a"] {
        let file = std::fs::File::open(folder.join(format!("{name}.dcm"))).unwrap();
        let head = read_head(file, "");
        let report = measurement_report(&head.data_set).unwrap();
        let text = std::fs::read_to_string(folder.join(format!("{name}.expected.json"))).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(expected["accession"], head.study.accession_number.expose());
        assert_eq!(expected["patient_id"], head.patient.id.expose());
        assert_eq!(expected["template"], report.template.as_str());
        assert_eq!(expected["sop_instance"], report.sop_instance_uid.as_str());
        let title = json!([report.title.code, report.title.system.hl7(), report.title.text]);
        assert_eq!(expected["title"], title);
        let measured: Vec<Value> = report.measurements.iter().map(as_expected).collect();
        let mut wanted = expected["measurements"].as_array().unwrap().clone();
        for measurement in &mut wanted {
            // `null` says the same as nothing.
            measurement.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        assert_eq!(measured, wanted, "{name}");
    }
    let whole = std::fs::File::open(folder.join("dcmqi-tid1500.dcm")).unwrap();
    let report = measurement_report(&read_head(whole, "").data_set).unwrap();
    assert!(!report.measurements.is_empty() && report.measurements.iter().all(|m| !m.tracking_uid.is_empty()));
    assert!(report.measurements.iter().all(|m| !m.value.is_empty() && !m.ucum.is_empty()), "{report:#?}");
}

/// A measurement in the words of the expected files.
fn as_expected(m: &Measurement) -> Value {
    let mut out = serde_json::Map::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            out.insert(key.to_string(), value.into());
        }
    };
    let text = |coding: &Option<Coding>| coding.as_ref().map(|c| c.text.clone()).unwrap_or_default();
    put("code", &m.code.code);
    put("scheme", m.code.system.hl7());
    put("display", &m.code.text);
    put("value", &m.value);
    put("unit", &m.ucum);
    for (key, coding) in [
        ("site", &m.site),
        ("laterality", &m.laterality),
        ("mode", &m.mode),
        ("method", &m.method),
        ("cycle", &m.cycle_point),
        ("direction", &m.direction),
        ("derivation", &m.derivation),
    ] {
        put(key, &text(coding));
    }
    put("tracking", &m.tracking);
    put("tracking_uid", &m.tracking_uid);
    if m.selection.is_some() {
        out.insert("selected".to_string(), true.into());
    }
    Value::Object(out)
}
