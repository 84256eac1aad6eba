//! Worklist queries of a real worklist server's own tests, and its answers.

use crate::corpus;
use afferent::message::dicom::{DataSet, Limits, Tag, VR, matching, tags, walk};
use serde_json::Value;
use std::path::Path;

/// Queries where the oracle is one of two right answers: it compares names by case and takes `?` in LO literally.
const BOTH_RIGHT: [&str; 2] = ["w11_name_case", "w12_qmark"];

fn read(path: &Path) -> DataSet {
    let raw = std::fs::read(path).unwrap();
    walk(&raw[..], "", Limits { bytes: raw.len(), value_bytes: raw.len() }).data_set
}

/// `PatientName=V*` or `ScheduledProcedureStepSequence[0].Modality=MR` as an identifier, as findscu makes it.
fn query(keys: &Value) -> DataSet {
    let (mut outer, mut step) = (DataSet::default(), DataSet::default());
    outer.put_text(tags::PATIENT_NAME, VR::PN, "");
    outer.put_text(tags::PATIENT_ID, VR::LO, "");
    for key in keys.as_array().unwrap() {
        let (name, value) = key.as_str().unwrap().split_once('=').unwrap();
        let (into, name) = match name.strip_prefix("ScheduledProcedureStepSequence[0].") {
            Some(name) => (&mut step, name),
            None => (&mut outer, name),
        };
        let (tag, vr): (Tag, VR) = match name {
            "PatientName" => (tags::PATIENT_NAME, VR::PN),
            "PatientID" => (tags::PATIENT_ID, VR::LO),
            "AccessionNumber" => (tags::ACCESSION_NUMBER, VR::SH),
            "Modality" => (tags::MODALITY, VR::CS),
            "ScheduledStationAETitle" => (tags::SCHEDULED_STATION_AE_TITLE, VR::AE),
            "ScheduledProcedureStepStartDate" => (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA),
            "ScheduledProcedureStepStartTime" => (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM),
            other => panic!("{other} is not known here"),
        };
        into.put_text(tag, vr, value);
    }
    if !step.elements().is_empty() {
        outer.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    }
    outer
}

#[test]
fn every_query_finds_what_a_real_worklist_server_finds() {
    let Some(folder) = corpus::folder("dicom").map(|folder| folder.join("mwl")) else { return };
    let entries: Vec<DataSet> = (1..=10).map(|n| read(&folder.join(format!("wklist{n}.dcm")))).collect();
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let mut queries = 0;
    for (name, expected) in expected.as_object().unwrap() {
        let keys = match expected.get("keys") {
            Some(keys) => query(keys),
            None => read(&folder.join(format!("{name}.dcm"))),
        };
        let found: Vec<u64> =
            (1..).zip(&entries).filter(|(_, entry)| matching::matches(&keys, entry)).map(|(n, _)| n).collect();
        let count = expected["count"].as_u64().unwrap();
        let as_right = BOTH_RIGHT.contains(&name.as_str()) && found == [1, 2, 3];
        assert!(found.len() as u64 == count || as_right, "{name}: {found:?}, not {count} entries");
        // Where a query does not ask for what tells entries apart the oracle only counted.
        let named: Vec<u64> = expected["matches"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        assert!(named.is_empty() || named == found, "{name}: {found:?}, not {named:?}");
        if let Some(returned) = expected["returned_keys"].as_array().filter(|keys| !keys.is_empty()) {
            let entry = &entries[found[0] as usize - 1];
            let answer = matching::answer(&keys, entry, std::slice::from_ref(&entry.charset));
            returned_keys_are_there(name, &answer, entry, returned);
        }
        queries += 1;
    }
    assert_eq!(queries, 26);
}

/// Everything the oracle returns and the entry knows is returned here.
fn returned_keys_are_there(name: &str, answer: &DataSet, entry: &DataSet, returned: &[Value]) {
    let step = tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE;
    let (own, known) = (answer.item(step).cloned().unwrap_or_default(), entry.item(step).cloned().unwrap_or_default());
    for key in returned.iter().filter_map(Value::as_str) {
        let (answer, entry, key) = match key.strip_prefix("SPS:") {
            Some(key) => (&own, &known, key),
            None => (answer, entry, key),
        };
        let part = |at: usize| u16::from_str_radix(&key[at..at + 4], 16).unwrap();
        let tag = Tag(part(0), part(4));
        assert!(answer.get(tag).is_some() || entry.get(tag).is_none(), "{name} lacks {tag}");
    }
}
