//! A performed procedure step as SCU (PS3.4 Annex F): what a modality said of it goes on to the PACS as it came.
//!
//! The outbox holds the request as it was kept ([`Kept`]), and a step is a lane: its N-CREATE goes before its N-SET.
//!
//! | answer | meaning |
//! |---|---|
//! | 0000, 0001, 0107, 0116 | delivered |
//! | N-CREATE: 0111, there already | delivered: the answer to an earlier try was lost |
//! | N-SET: 0110 with error id A710, never updated any more | delivered, for the same reason: it was ended before |
//! | 0213; no answer, an abort, a broken line | not now |
//! | other failures, a refused context | a few tries, then a person |
//! | none: the destination gets images changed | a person |

use super::association::{Association, Failure, Message};
use super::{Dicom, Idle};
use crate::delivery::Outcome;
use crate::message::dicom::performed_step::StepFault;
use crate::message::dicom::performed_step::request::{Kept, Kind};
use crate::wire::dimse::command::{Command, status};
use crate::wire::dimse::uid;

/// Why a step is parked.
const NOT_CHANGED: &str = "step-not-changed: a performed step names the patient, and what this destination changes \
    (`deidentify`, `coerce`) it changes in images only; nothing was sent";

impl Dicom {
    /// Tries once to tell the PACS of a performed step. `data_set` is that of the request, as it came.
    pub async fn tell(&mut self, request: &Kept, data_set: &[u8]) -> Outcome {
        // The configuration allows no steps then, but one may have been waiting since before.
        if self.images.are_changed() {
            return Outcome::Refused { reason: NOT_CHANGED.to_owned() };
        }
        let pair = (uid::PERFORMED_PROCEDURE_STEP.to_owned(), request.transfer_syntax_uid.clone());
        loop {
            let (mut association, context, used) = match self.ready_with_context(&pair).await {
                Ok(ready) => ready,
                Err(outcome) => return outcome,
            };
            match ask(&mut association, context, request, data_set).await {
                Ok(answer) => {
                    self.idle = Some(Idle::begin(association, self.config.idle_close()));
                    return outcome(request.kind, &answer.command);
                }
                Err(failure) => {
                    association.abort().await;
                    match failure {
                        // The peer had given the association up in the meantime.
                        Failure::Lost(_) | Failure::Aborted(_) if used => {}
                        failure => return Outcome::unclear(failure.to_string()),
                    }
                }
            }
        }
    }
}

async fn ask(association: &mut Association, context: u8, request: &Kept, data_set: &[u8]) -> Result<Message, Failure> {
    let (id, class, instance) =
        (association.next_message_id(), uid::PERFORMED_PROCEDURE_STEP, &request.sop_instance_uid);
    let command = match request.kind {
        Kind::Create => Command::create_request(id, class, Some(instance)),
        Kind::Set => Command::set_request(id, class, instance),
    };
    association.send(context, &command, Some(data_set)).await?;
    association.answer_to(&command).await
}

/// What the answer means (PS3.7 10.1.3, 10.1.5 and annex C).
fn outcome(kind: Kind, answer: &Command) -> Outcome {
    let Some(status) = answer.status() else { return Outcome::unclear("the answer has no status") };
    let told = |what: &str| format!("{status:04X} {what}");
    match (status, kind) {
        (status::SUCCESS, _) => Outcome::Delivered { answer: "0000".to_owned() },
        (0x0001 | 0x0107 | 0x0116, _) => Outcome::Delivered { answer: told("with a warning") },
        (status::DUPLICATE_INSTANCE, Kind::Create) => Outcome::Delivered { answer: told("already there") },
        (status::PROCESSING_FAILURE, Kind::Set) if answer.error_id() == StepFault::Final.error_id() => {
            Outcome::Delivered { answer: told("ended before") }
        }
        (status::RESOURCE_LIMITATION, _) => Outcome::unclear(told("out of resources")),
        (status::NO_SUCH_INSTANCE, _) => {
            Outcome::Doubted { reason: told("the PACS does not know this performed step") }
        }
        (status::CLASS_NOT_SUPPORTED, _) => Outcome::Doubted { reason: told("performed steps are not supported") },
        _ => Outcome::Doubted { reason: told("refused") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_try_did_counts_as_delivered_and_nothing_else_does() {
        let answer = |kind, status, error_id| {
            let answer = Command::response(&Command::echo_request(1), status);
            let answer = if error_id == 0 { answer } else { answer.with_error_id(error_id) };
            matches!(outcome(kind, &answer), Outcome::Delivered { .. })
        };
        assert!(answer(Kind::Create, 0x0000, 0) && answer(Kind::Set, 0x0000, 0) && answer(Kind::Set, 0x0116, 0));
        assert!(answer(Kind::Create, 0x0111, 0) && !answer(Kind::Set, 0x0111, 0));
        assert!(answer(Kind::Set, 0x0110, 0xA710) && !answer(Kind::Create, 0x0110, 0xA710));
        assert!(!answer(Kind::Set, 0x0110, 0) && !answer(Kind::Set, 0x0112, 0) && !answer(Kind::Set, 0x0213, 0));
    }
}
