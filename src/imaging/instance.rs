//! One instance: where it belongs and where it goes.

use crate::clinical::Patient;
use crate::clinical::imaging::{ImagingRequest, Series};
use crate::delivery;
use crate::delivery::config::Routed;
use crate::delivery::instance::Reference;
use crate::journal::{
    Entry, FiledReport, Filing, Instance, JournalError, Latest, Lookup, NewOutbound, Placement, Reader,
};
use crate::message::dicom::{End, Head, read_head};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What reads instances, and its version.
pub(super) const READER: &str = "dicom@1";

/// What is kept of a series: its own words, and whose it is.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSeries {
    pub series: Series,
    pub patient: Patient,
    pub requests: Vec<ImagingRequest>,
}

/// The outcome of an entry that is an instance.
///
/// # Errors
/// Those of the reader; `Damaged` when its file is lost, or the disk does not give it.
pub(super) fn file(
    destinations: &[delivery::Config],
    reader: &Reader,
    entry: &Entry,
    instance: &Instance,
) -> Result<Filing, JournalError> {
    let head = read_head(reader.open_instance(instance)?, &instance.transfer_syntax_uid);
    // Half a head would decide where the image goes.
    if let End::Unread(_) = head.end {
        return Err(JournalError::Damaged);
    }
    let subject = [&head.study.instance_uid, &head.series.instance_uid, &instance.sop_instance_uid];
    let subject_key = subject.map(String::as_str).join("\u{1f}").into_bytes();
    let content_key = instance.content_key();
    let latest = reader.latest_of(&entry.link, &subject_key)?;
    // Who has an image filed again wants it sent as the routes are now.
    let is_same = |latest: &Latest| latest.same_content(&content_key) && !latest.is_of(entry.id);
    let repeat_of = match latest.filter(is_same) {
        Some(latest) if reader.needs_no_other_copy(&latest)? => Some(latest.report),
        _ => None,
    };
    let kept = json!({ "study": head.study.instance_uid, "series": head.series.instance_uid,
                       "instance": instance.sop_instance_uid, "modality": head.series.modality });
    let report = FiledReport {
        subject_key,
        content_key,
        completed_at_s: Some(entry.received_at_ms / 1000),
        repeat_of,
        lookups: lookups(&head, &instance.sop_instance_uid),
        json: kept.to_string().into_bytes(),
        results: 1,
        decisions: String::new(),
        holds: Vec::new(),
        outbox: if repeat_of.is_some() { Vec::new() } else { references(destinations, &entry.link, instance, &head) },
        answered: Vec::new(),
        orders_as_of: i64::MAX,
    };
    Ok(Filing {
        entry: entry.id,
        driver: READER.to_string(),
        inbound_results: 1,
        refused: Vec::new(),
        reports: vec![report],
        covers: Vec::new(),
        placement: if repeat_of.is_some() { None } else { placement(&head) },
    })
}

/// The outbox rows of an instance. Its bytes are those that came, so it keeps its UID as message id (invariant I5).
fn references(destinations: &[delivery::Config], link: &str, instance: &Instance, head: &Head) -> Vec<NewOutbound> {
    let routed = Routed {
        link,
        calling_ae_title: &instance.calling_ae_title,
        modality: &head.series.modality,
        body_part: &head.series.body_part,
        study_description: &head.study.description,
    };
    let reference = Reference {
        spool: instance.spool.clone(),
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        transfer_syntax_uid: instance.transfer_syntax_uid.clone(),
        bytes: instance.header_bytes + instance.bytes,
        conflict: instance.conflict,
    };
    // Objects of no known study are kept in the order in which one modality sent them.
    let study = if head.study.instance_uid.is_empty() { link } else { &head.study.instance_uid };
    destinations.iter().filter_map(|destination| reference.outbound(destination, &routed, study)).collect()
}

/// What a person may search it by.
fn lookups(head: &Head, sop_instance_uid: &str) -> Vec<(Lookup, String)> {
    let named = [
        (Lookup::Instance, sop_instance_uid),
        (Lookup::Study, &head.study.instance_uid),
        (Lookup::Accession, head.study.accession_number.expose()),
        (Lookup::Patient, head.patient.id.expose()),
    ];
    named.into_iter().filter(|(_, id)| !id.is_empty()).map(|(kind, id)| (kind, id.to_string())).collect()
}

/// Where it belongs; an object without the UIDs of study and series belongs to none.
fn placement(head: &Head) -> Option<Placement> {
    if head.study.instance_uid.is_empty() || head.series.instance_uid.is_empty() {
        return None;
    }
    let series =
        KeptSeries { series: head.series.clone(), patient: head.patient.clone(), requests: head.requests.clone() };
    Some(Placement {
        study_instance_uid: head.study.instance_uid.clone(),
        study: serde_json::to_vec(&head.study).ok()?,
        series_instance_uid: head.series.instance_uid.clone(),
        series: serde_json::to_vec(&series).ok()?,
        patient_id: head.patient.id.expose().to_string(),
        modality: head.series.modality.clone(),
        number: head.instance.number.parse().ok(),
    })
}
