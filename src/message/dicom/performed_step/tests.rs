//! The life of a performed step, against a model of PS3.4 F.7.

use super::*;
use crate::message::dicom::{CharacterSets, VR};
use proptest::prelude::*;

const UID: &str = "1.2.3";

fn said(status: Option<&str>) -> DataSet {
    let mut scheduled = DataSet::default();
    scheduled.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.840.99.7");
    scheduled.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S-1");
    let mut set = DataSet::new(CharacterSets::default());
    set.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![scheduled]);
    set.put_text(tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260302");
    set.put_text(tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "143000.25");
    if let Some(status) = status {
        set.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status);
    }
    set
}

#[test]
fn a_step_keeps_what_was_said_of_it_until_something_else_is_said() {
    let step = create(UID, &said(Some("IN PROGRESS")), None).unwrap();
    assert_eq!((step.start.as_str(), step.scheduled[0].step_id.as_str()), ("20260302143000", "S-1"));
    let mut image = DataSet::default();
    image.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.6.1");
    image.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.9");
    let mut series = DataSet::default();
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4");
    series.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![image]);
    let mut end = DataSet::default();
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
    end.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
    let done = set(&end, Some(&step)).unwrap();
    assert_eq!((done.status, done.scheduled), (PerformedStatus::Completed, step.scheduled));
    assert_eq!(done.series[0].instances, [("1.2.840.10008.5.1.4.1.1.6.1".to_string(), "1.2.3.9".to_string())]);
}

#[test]
fn every_refusal_has_the_status_of_the_standard() {
    let open = create(UID, &said(Some("IN PROGRESS")), None).unwrap();
    let closed = set(&said(Some("DISCONTINUED")), Some(&open)).unwrap();
    let mut other = said(Some("IN PROGRESS"));
    other.put_text(tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "OTHER");
    for (refused, status, error_id) in [
        (create(UID, &said(Some("IN PROGRESS")), Some(&closed)), 0x0111, None),
        (create(UID, &other, Some(&open)), 0x0111, None),
        (create(UID, &said(None), None), 0x0120, None),
        (create(UID, &said(Some("COMPLETED")), None), 0x0106, None),
        (create(UID, &said(Some("WHATEVER")), None), 0x0106, None),
        (set(&said(Some("COMPLETED")), None), 0x0112, None),
        (set(&said(None), Some(&closed)), 0x0110, Some(0xA710)),
        (set(&said(Some("COMPLETED")), Some(&closed)), 0x0110, Some(0xA710)),
        (set(&said(Some("SOON")), Some(&open)), 0x0106, None),
    ] {
        let fault = refused.unwrap_err();
        assert_eq!((fault.status(), fault.error_id()), (status, error_id), "{fault:?}");
        assert!(fault.comment().len() <= 64);
    }
}

proptest! {
    /// Whatever a modality sends in whatever order, the step is what the model says.
    #[test]
    fn a_step_begins_once_and_never_changes_after_its_end(
        messages in prop::collection::vec((any::<bool>(), 0..5_usize), 0..12)
    ) {
        let terms = [None, Some("IN PROGRESS"), Some("COMPLETED"), Some("DISCONTINUED"), Some("NONSENSE")];
        let mut known: Option<PerformedStep> = None;
        let mut model: Option<&str> = None;
        for (is_create, term) in messages {
            let term = terms[term];
            let made = match is_create {
                true => create(UID, &said(term), known.as_ref()),
                false => set(&said(term), known.as_ref()),
            };
            let expected = match (is_create, model, term) {
                (true, None | Some("IN PROGRESS"), Some("IN PROGRESS")) => Some("IN PROGRESS"),
                (false, Some("IN PROGRESS"), None) => Some("IN PROGRESS"),
                (false, Some("IN PROGRESS"), Some(next)) if next != "NONSENSE" => Some(next),
                (false, Some(end), Some(again)) if end == again => Some(end),
                _ => None,
            };
            prop_assert_eq!(made.as_ref().ok().map(|step| step.status.dicom()), expected);
            if let Ok(step) = made {
                model = Some(step.status.dicom());
                known = Some(step);
            }
        }
    }
}
