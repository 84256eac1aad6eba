//! Images: what becomes of the DICOM instances that modalities store.

pub mod mpps;

use crate::journal::{Entry, FiledReport, Filing, Instance, Lookup};

/// What reads instances, and its version.
const READER: &str = "dicom@1";

/// The outcome of one instance: it is on record, and goes nowhere yet.
pub fn file(entry: &Entry, instance: &Instance) -> Filing {
    let report = FiledReport {
        subject_key: instance.sop_instance_uid.clone().into_bytes(),
        content_key: instance.digest.to_vec(),
        completed_at_s: Some(entry.received_at_ms / 1000),
        repeat_of: None,
        lookups: vec![(Lookup::Instance, instance.sop_instance_uid.clone())],
        json: b"{}".to_vec(),
        results: 1,
        decisions: String::new(),
        holds: Vec::new(),
        outbox: Vec::new(),
        answered: Vec::new(),
        orders_as_of: i64::MAX,
    };
    Filing {
        entry: entry.id,
        driver: READER.to_string(),
        inbound_results: 1,
        refused: Vec::new(),
        reports: vec![report],
        covers: Vec::new(),
        placement: None,
    }
}
