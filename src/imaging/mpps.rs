//! Performed procedure steps as a service: kept before they are answered.
//!
//! ```text
//! N-CREATE, N-SET -> read -> COMMIT (message, step, its orders) -> answer
//! ```
//!
//! What comes is kept as a DICOM file whose preamble, free for whoever writes it (PS3.10 7.1), names the request.

use crate::clinical::PerformedStep;
use crate::journal::{Journal, JournalError};
use crate::message::dicom::performed_step::{self, StepFault};
use crate::message::dicom::{DataSet, End, FileMeta, Limits, Walked, read_data_set, tags, walk};
use crate::wire::dimse::command::status;
use crate::wire::dimse::{Question, Reply, uid};
use crate::wire::{Persist, Token};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the preamble, and of `DICM` behind it.
const PREAMBLE_BYTES: usize = 128;
const PREFIX_BYTES: usize = 4;
/// What the preamble says.
const CREATE: &[u8] = b"AFFERENT N-CREATE";
const SET: &[u8] = b"AFFERENT N-SET";

/// Numbers custody requests: each is whole and ends its own session.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// Which request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// N-CREATE.
    Create,
    /// N-SET.
    Set,
}

/// A request as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which it is.
    pub kind: Kind,
    /// Of which step.
    pub sop_instance_uid: String,
    /// How the data set is encoded.
    pub transfer_syntax_uid: String,
    /// Byte at which it begins.
    pub begins_at: usize,
    /// What it says.
    pub data_set: DataSet,
}

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
    let said = read_data_set(&question.data_set, &question.transfer_syntax_uid);
    let is_readable = said.end == End::Whole;
    let said = said.data_set;
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

/// The request an entry holds; `None` when it holds none.
pub fn read(raw: &[u8]) -> Option<Kept> {
    let preamble = raw.get(..PREAMBLE_BYTES)?;
    let is = |name: &[u8]| preamble.strip_prefix(name).is_some_and(|rest| rest.iter().all(|b| *b == 0));
    let kind = match () {
        () if is(CREATE) => Kind::Create,
        () if is(SET) => Kind::Set,
        () => return None,
    };
    let limits = Limits { bytes: raw.len(), value_bytes: raw.len() };
    let Walked { data_set, transfer_syntax_uid, begins_at, .. } = walk(raw, "", limits);
    let meta = read_data_set(raw.get(PREAMBLE_BYTES + PREFIX_BYTES..begins_at)?, uid::EXPLICIT_VR_LITTLE_ENDIAN);
    let sop_instance_uid = meta.data_set.uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
    Some(Kept { kind, sop_instance_uid, transfer_syntax_uid, begins_at, data_set })
}

fn part(kind: Kind, instance: &str, question: &Question) -> Persist {
    let mut bytes = FileMeta {
        sop_class_uid: &question.sop_class_uid,
        sop_instance_uid: instance,
        transfer_syntax_uid: &question.transfer_syntax_uid,
        source_ae_title: &question.calling_ae_title,
    }
    .write();
    let name = match kind {
        Kind::Create => CREATE,
        Kind::Set => SET,
    };
    bytes.iter_mut().zip(name).for_each(|(byte, own)| *byte = *own);
    bytes.extend_from_slice(&question.data_set);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    Persist { token: Token(number), session: number, bytes, completes: true, identity: None }
}

fn refused(fault: StepFault) -> Reply {
    Reply { error_id: fault.error_id(), ..Reply::refusing(fault.status(), fault.comment()) }
}

fn unkept(error: &JournalError) -> Reply {
    tracing::error!("a performed step cannot be kept: {error}");
    Reply::refusing(status::PROCESSING_FAILURE, "the gateway cannot keep it now: try again")
}
