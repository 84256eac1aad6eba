//! What modalities do about imaging orders.

use super::super::desk::Desk;
use super::super::error::JournalError;
use super::super::types::WorkOrderId;
use super::StoredOrder;
use super::find::{self, By};
use super::store::answer;
use crate::clinical::performed_step::AnsweredStep;
use crate::clinical::{ImagingOrder, OrderStatus, PerformedStatus, PerformedStep, Phi};

/// Brings the orders a performed step answers to where they stand then. A step that was broken off is still to be done.
pub(in super::super) fn perform(desk: &mut Desk<'_>, step: &PerformedStep) -> Result<(), JournalError> {
    for answered in step.scheduled.iter().filter(|answered| !answered.study_instance_uid.is_empty()) {
        let study = Phi::new(answered.study_instance_uid.as_str());
        for stored in find::by(desk.conn, desk.seal, By::Study, &study)? {
            let Some(imaging) = stored.order.imaging.as_ref().filter(|_| stored.status.is_open()) else { continue };
            if step.status == PerformedStatus::Completed {
                mark_done(desk, stored.id, imaging, answered)?;
            }
            let status = standing(desk, stored.id, imaging)?;
            answer(desk, stored.id, status)?;
        }
    }
    Ok(())
}

/// What modalities did of an order stays done in the one that takes its place: steps are known by study and id.
pub(super) fn carry_over(desk: &mut Desk<'_>, replaced: &StoredOrder, id: WorkOrderId) -> Result<(), JournalError> {
    let Some(before) = replaced.order.imaging.as_ref().filter(|_| replaced.status == OrderStatus::InProgress) else {
        return Ok(());
    };
    let Some(now) = find::by_id(desk.conn, desk.seal, id)?.order.imaging else { return Ok(()) };
    for (procedure, step) in find::steps_done(desk.conn, replaced.id)? {
        let done = before.procedures.get(procedure).and_then(|procedure| Some((procedure, procedure.steps.get(step)?)));
        let Some((procedure, step)) = done else { continue };
        let answered = AnsweredStep {
            study_instance_uid: procedure.study_instance_uid.clone(),
            step_id: step.id.clone(),
            ..AnsweredStep::default()
        };
        mark_done(desk, id, &now, &answered)?;
    }
    let status = standing(desk, id, &now)?;
    answer(desk, id, status)
}

fn mark_done(
    desk: &Desk<'_>,
    id: WorkOrderId,
    imaging: &ImagingOrder,
    answered: &AnsweredStep,
) -> Result<(), JournalError> {
    for (procedure, place) in places(imaging, answered) {
        desk.conn
            .prepare_cached("INSERT OR IGNORE INTO work_order_step(work_order, procedure, step) VALUES (?1, ?2, ?3)")?
            .execute((id, procedure as i64, place as i64))?;
    }
    Ok(())
}

/// Where an order stands that a modality began.
fn standing(desk: &Desk<'_>, id: WorkOrderId, imaging: &ImagingOrder) -> Result<OrderStatus, JournalError> {
    let is_done = find::steps_done(desk.conn, id)?.len() == imaging.steps().count();
    Ok(if is_done { OrderStatus::Done } else { OrderStatus::InProgress })
}

/// The scheduled steps that are meant: the one with this id, or all of the study where the modality names none.
fn places(imaging: &ImagingOrder, answered: &AnsweredStep) -> Vec<(usize, usize)> {
    let of_study = imaging.procedures.iter().enumerate();
    let of_study = of_study.filter(|(_, p)| p.study_instance_uid == answered.study_instance_uid);
    let steps = of_study.flat_map(|(at, p)| p.steps.iter().enumerate().map(move |(place, step)| ((at, place), step)));
    let meant = |id: &str| answered.step_id.is_empty() || id == answered.step_id;
    steps.filter(|(_, step)| meant(&step.id)).map(|(place, _)| place).collect()
}
