//! What modalities ask: their worklist, that their steps are noted, that their images are safe.
//!
//! A question is answered on a task of its own, reply by reply through a short queue, so that a long worklist costs no
//! memory and a modality that cancels stops it.

use super::admission::Way;
use crate::delivery::commitment::{Archives, take_report};
use crate::imaging::commitment::Commitments;
use crate::imaging::mpps;
use crate::journal::Journal;
use crate::message::dicom::performed_step::request::Kind;
use crate::orders::Worklist;
use crate::wire::dimse::command::status;
use crate::wire::dimse::{Question, Reply, Request, uid};
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// Replies that wait for the line.
const REPLIES_WAITING: usize = 16;

/// A question of a modality.
#[derive(Debug)]
pub struct Asking {
    /// Name of the link: that of the modality, or "dicom".
    pub link: Arc<str>,
    /// True when nothing but reports is taken from it.
    pub only_reports: bool,
    /// How it called.
    pub way: Way,
    /// The question.
    pub request: Request,
    /// Where an N-EVENT-REPORT for the same association can be left, as long as it is open.
    pub reports: Sender<EventReport>,
}

/// An N-EVENT-REPORT of storage commitment for a modality.
#[derive(Debug)]
pub struct EventReport {
    /// Event Type ID.
    pub event_type_id: u16,
    /// The event's information.
    pub data_set: Vec<u8>,
    /// The transfer syntax it is in, which is that in which the modality asked.
    pub transfer_syntax_uid: String,
    /// Hears the status of the modality's answer; dropped when none came.
    pub answered: oneshot::Sender<u16>,
}

/// Who answers.
#[derive(Clone)]
pub struct Services {
    journal: Journal,
    worklist: Arc<Worklist>,
    commitments: Arc<Commitments>,
    archives: Archives,
}

impl Services {
    /// Answers from this journal. `archives` are asked to commit, and report here.
    pub fn new(journal: &Journal, worklist: Worklist, commitments: Arc<Commitments>, archives: Archives) -> Services {
        let worklist = Arc::new(worklist);
        let cold = worklist.clone();
        tokio::task::spawn_blocking(move || cold.warm());
        Services { journal: journal.clone(), worklist, commitments, archives }
    }

    /// The answers to a question, the last one without `more`.
    pub fn ask(&self, asking: Asking) -> Receiver<Reply> {
        let (replies, receiver) = channel(REPLIES_WAITING);
        let services = self.clone();
        tokio::spawn(async move { services.answer(asking, replies).await });
        receiver
    }

    /// An archive reports what it commits to.
    async fn report(&self, link: &str, way: Way, event_type_id: u16, question: Question) -> Reply {
        if question.sop_class_uid != uid::STORAGE_COMMITMENT {
            return Reply::refusing(status::CLASS_NOT_SUPPORTED, "of all events only storage commitment is known here");
        }
        let Question { data_set, transfer_syntax_uid: syntax, calling_ae_title, .. } = question;
        let reporters = self.archives.spoken_for(&calling_ae_title, way.is_secured);
        let taken = take_report(&self.journal, link, reporters, event_type_id, data_set, &syntax).await;
        match taken {
            Ok(()) => Reply { status: status::SUCCESS, ..Reply::default() },
            Err((status, why)) => Reply::refusing(status, why),
        }
    }

    async fn answer(&self, asking: Asking, replies: Sender<Reply>) {
        let link = &*asking.link;
        let only = match asking.request {
            Request::EventReport { event_type_id, question } => {
                self.report(link, asking.way, event_type_id, question).await
            }
            _ if asking.only_reports => {
                tracing::warn!(link, "an archive asks for more than it may: add a [[modality]] with its ae_title");
                Reply::refusing(status::NOT_AUTHORISED, "only reports are taken from this AE title")
            }
            Request::Find(question) if question.sop_class_uid == uid::MODALITY_WORKLIST => {
                let worklist = self.worklist.clone();
                let found = move || worklist.answer(&question.data_set, &question.transfer_syntax_uid);
                // A modality that cancels, or whose line waits for nobody, ends this.
                for reply in tokio::task::spawn_blocking(found).await.unwrap_or_default() {
                    if replies.send(reply).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Request::Create(question) => mpps::take(&self.journal, link, Kind::Create, &question).await,
            Request::Set(question) => mpps::take(&self.journal, link, Kind::Set, &question).await,
            Request::Action { action_type_id, question } => {
                self.commitments.take(link, action_type_id, question, asking.reports).await
            }
            _ => Reply::refusing(status::CLASS_NOT_SUPPORTED, "this service is not offered"),
        };
        let _ = replies.send(only).await;
    }
}
