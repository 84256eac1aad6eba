//! What modalities ask: their worklist, that their steps are noted, that their images are safe.
//!
//! A question is answered on a task of its own, reply by reply through a short queue, so that a long worklist costs no
//! memory and a modality that cancels stops it.

use crate::imaging::mpps;
use crate::journal::Journal;
use crate::message::dicom::performed_step::request::Kind;
use crate::orders::Worklist;
use crate::wire::dimse::command::status;
use crate::wire::dimse::{Reply, Request, uid};
use std::net::IpAddr;
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
    /// Where it called from.
    pub from: IpAddr,
    /// The question.
    pub request: Request,
    /// Where an N-EVENT-REPORT for the same association can be left, as long as it is open.
    pub reports: Sender<EventReport>,
}

/// An N-EVENT-REPORT for a modality.
#[derive(Debug)]
pub struct EventReport {
    /// SOP class; one of its presentation contexts must be open.
    pub sop_class_uid: String,
    /// SOP instance.
    pub sop_instance_uid: String,
    /// Event Type ID.
    pub event_type_id: u16,
    /// The event's information, in the transfer syntax in which the modality asked.
    pub data_set: Vec<u8>,
    /// Hears the status of the modality's answer; dropped when none came.
    pub answered: oneshot::Sender<u16>,
}

/// Who answers.
#[derive(Clone)]
pub struct Services {
    journal: Journal,
    worklist: Arc<Worklist>,
}

impl Services {
    /// Answers from this journal.
    pub fn new(journal: &Journal, worklist: Worklist) -> Services {
        let worklist = Arc::new(worklist);
        let cold = worklist.clone();
        tokio::task::spawn_blocking(move || cold.warm());
        Services { journal: journal.clone(), worklist }
    }

    /// The answers to a question, the last one without `more`.
    pub fn ask(&self, asking: Asking) -> Receiver<Reply> {
        let (replies, receiver) = channel(REPLIES_WAITING);
        let services = self.clone();
        tokio::spawn(async move { services.answer(asking, replies).await });
        receiver
    }

    async fn answer(&self, asking: Asking, replies: Sender<Reply>) {
        let link = &*asking.link;
        let only = match asking.request {
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
            _ => Reply::refusing(status::CLASS_NOT_SUPPORTED, "this service is not offered"),
        };
        let _ = replies.send(only).await;
    }
}
