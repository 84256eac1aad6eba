//! What modalities do about imaging orders.

use super::super::desk::Desk;
use super::super::error::JournalError;
use super::find::{self, By};
use super::store::answer;
use crate::clinical::performed_step::AnsweredStep;
use crate::clinical::{OrderStatus, PerformedStatus, PerformedStep, Phi};

/// Brings the orders a performed step answers to where they stand then. A step that was broken off is still to be done.
pub(in super::super) fn perform(desk: &mut Desk<'_>, step: &PerformedStep) -> Result<(), JournalError> {
    for answered in step.scheduled.iter().filter(|answered| !answered.study_instance_uid.is_empty()) {
        let study = Phi::new(answered.study_instance_uid.as_str());
        for stored in find::by(desk.conn, desk.seal, By::Study, &study)? {
            let Some(imaging) = stored.order.imaging.as_ref().filter(|_| stored.status.is_open()) else { continue };
            let mut status = OrderStatus::InProgress;
            if step.status == PerformedStatus::Completed {
                for (procedure, place) in places(imaging, answered) {
                    desk.conn
                        .prepare_cached(
                            "INSERT OR IGNORE INTO work_order_step(work_order, procedure, step) VALUES (?1, ?2, ?3)",
                        )?
                        .execute((stored.id, procedure as i64, place as i64))?;
                }
                if find::steps_done(desk.conn, stored.id)?.len() == imaging.steps().count() {
                    status = OrderStatus::Done;
                }
            }
            answer(desk, stored.id, status)?;
        }
    }
    Ok(())
}

/// The scheduled steps that are meant: the one with this id, or all of the study where the modality names none.
fn places(imaging: &crate::clinical::ImagingOrder, answered: &AnsweredStep) -> Vec<(usize, usize)> {
    let of_study = imaging.procedures.iter().enumerate();
    let of_study = of_study.filter(|(_, p)| p.study_instance_uid == answered.study_instance_uid);
    let steps = of_study.flat_map(|(at, p)| p.steps.iter().enumerate().map(move |(place, step)| ((at, place), step)));
    let meant = |id: &str| answered.step_id.is_empty() || id == answered.step_id;
    steps.filter(|(_, step)| meant(&step.id)).map(|(place, _)| place).collect()
}
