//! Performed procedure steps as a service: kept before they are answered.
//!
//! ```text
//! N-CREATE, N-SET -> read -> COMMIT (message, step, its orders) -> answer
//!                                   -> interpreter -> OUTBOX COMMIT -> EHR, PACS
//! ```
//!
//! What comes is kept as [`request`] says. Who else is told of it: [`super::steps`].

use crate::clinical::PerformedStep;
use crate::journal::{Journal, JournalError};
use crate::message::dicom::performed_step::request::{self, Kind};
use crate::message::dicom::performed_step::{self, StepFault};
use crate::message::dicom::{End, FileMeta, read_data_set};
use crate::wire::dimse::command::status;
use crate::wire::dimse::{Question, Reply, uid};
use crate::wire::{Persist, Token};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers custody requests: each is whole and ends its own session.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// Answers an N-CREATE or N-SET: once this resolves with success, it is on stable storage.
pub async fn take(journal: &Journal, link: &str, kind: Kind, question: &Question) -> Reply {
    if question.sop_class_uid != uid::PERFORMED_PROCEDURE_STEP {
        return Reply::refusing(status::CLASS_NOT_SUPPORTED, "only performed procedure steps are taken here");
    }
    let instance = match (&question.sop_instance_uid, kind) {
        (Some(uid), _) => uid.clone(),
        (None, Kind::Set) => return refused(StepFault::Unknown),
        (None, Kind::Create) => match journal.make_uid() {
            Ok(uid) => uid,
            Err(error) => return unkept(&error),
        },
    };
    // One may list thousands of images.
    let (data_set, syntax) = (question.data_set.clone(), question.transfer_syntax_uid.clone());
    let said = tokio::task::spawn_blocking(move || read_data_set(&data_set, &syntax)).await;
    let (is_readable, said) = said.map_or_else(|_| Default::default(), |said| (said.end == End::Whole, said.data_set));
    let decide = move |uid: &str, known: Option<&PerformedStep>| match kind {
        _ if !is_readable => Err(StepFault::Unreadable),
        Kind::Create => performed_step::create(uid, &said, known),
        Kind::Set => performed_step::set(&said, known),
    };
    let (uid, part) = (instance.clone(), part(kind, &instance, question));
    match journal.persist_step(link, 0, part, &instance, move |known| decide(&uid, known)).await {
        Err(_) => Reply::refusing(status::RESOURCE_LIMITATION, "the gateway cannot keep it now: try again"),
        Ok((stored, _receipt)) => match stored.step {
            Err(fault) => {
                tracing::warn!(link, entry = stored.entry.0, "a performed step was refused: {fault}");
                refused(fault)
            }
            Ok(step) => {
                tracing::info!(link, entry = stored.entry.0, status = step.status.dicom(), "performed step");
                Reply { status: status::SUCCESS, sop_instance_uid: Some(instance), ..Reply::default() }
            }
        },
    }
}

fn part(kind: Kind, instance: &str, question: &Question) -> Persist {
    let meta = FileMeta {
        sop_class_uid: &question.sop_class_uid,
        sop_instance_uid: instance,
        transfer_syntax_uid: &question.transfer_syntax_uid,
        source_ae_title: &question.calling_ae_title,
    };
    let bytes = request::write(kind, &meta, &question.data_set);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    Persist { token: Token(number), session: number, bytes, completes: true, identity: None }
}

fn refused(fault: StepFault) -> Reply {
    Reply { error_id: fault.error_id(), ..Reply::refusing(fault.status(), fault.comment()) }
}

fn unkept(error: &JournalError) -> Reply {
    tracing::error!(event = "storage-trouble", "a performed step cannot be kept: {error}");
    Reply::refusing(status::PROCESSING_FAILURE, "the gateway cannot keep it now: try again")
}
