//! A PACS as a destination: C-STORE as SCU (PS3.4 Annex B), one spool file a message.
//!
//! The association stays open between messages. Each SOP class is proposed with exactly the transfer syntax its objects
//! have, in a context of its own: an object goes as it came or not at all, and nothing is ever transcoded. A pair that is
//! new leads to a new association that proposes all pairs seen before as well. A peer that aborts more than once because
//! of what is proposed is asked again without the new pair, so that one private class stops no other. A connection that
//! is lost meanwhile is nobody's fault. A peer may also reject an association of which it takes nothing (DCMTK's DcmSCP),
//! and then gives no reason: that says as little about the others.
//!
//! | answer | meaning |
//! |---|---|
//! | 0000, Bxxx and the other warnings, 0111 (already there) | delivered |
//! | A7xx, 0124, 0213; no answer, an abort, a broken line while sending | not now, and perhaps because of this object |
//! | 0110 | this object not now, and only so many times |
//! | no connection, an association rejected for an AE title or for now | not now: everything waits |
//! | an association rejected for good without a reason | not now, and perhaps because of this class |
//! | A9xx, Cxxx, 0122 and the other failures, a refused context | a few tries, then a person |
//! | 0111 for the second of two images of one UID; a spool file that is gone or cut short | a person |
//! | a disk that does not give the spool file | not now, and perhaps because of this object |
//!
//! Performed steps go the same way ([`step`]).
//!
//! After any failure on the way the association is aborted and never used again: the peer would glue two objects
//! together.

pub mod association;
pub mod object;
pub mod status;
pub mod step;

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::association::{Association, ContextRefusal, Failure, Peer, Proposed};
use self::object::Chunks;
use super::instance::{Images, Stored};
use super::window::Pace;
use super::{Config, Destination, Outcome};
use crate::message::dicom::performed_step::request;
use crate::wire::dimse::command::{self, Command};
use crate::wire::dimse::uid;

/// Pairs of SOP class and transfer syntax that are proposed at once. The one not seen for longest makes room.
const PAIRS_MAX: usize = 120;
/// A-ABORTs of a peer that hears the same proposal, after which something proposed is to blame.
const ABORTS_BLAMED: u32 = 2;

/// A PACS as a destination.
pub struct Dicom {
    config: Arc<Config>,
    images: Images,
    pace: Pace,
    /// Pairs that were or will be sent, the last one last.
    pairs: Vec<Pair>,
    idle: Option<Idle>,
}

/// A SOP class and the transfer syntax of its objects.
type Pair = (String, String);

/// An association without anything in flight. It ends by itself when it is not wanted for a while.
struct Idle {
    want: oneshot::Sender<()>,
    held: JoinHandle<Option<Association>>,
}

impl Dicom {
    /// A destination that connects when it has the first object to deliver. `pace` is shared by all connections of the
    /// destination.
    pub fn new(config: Arc<Config>, images: Images, pace: Pace) -> Self {
        Dicom { config, images, pace, pairs: Vec::new(), idle: None }
    }

    /// The association of the last message when it can carry this pair, else a new one. Says whether it was used
    /// before.
    async fn ready(&mut self, pair: &Pair) -> Result<(Association, bool), Outcome> {
        if let Some(idle) = self.idle.take()
            && let Some(association) = idle.end().await
        {
            let proposed = |a: &Association| a.refusal(&pair.0, &pair.1).is_some();
            if association.context(&pair.0, &pair.1).is_some() || proposed(&association) {
                return Ok((association, true));
            }
            association.release().await;
        }
        self.want(pair.clone());
        let mut aborts = 1;
        let failure = loop {
            match self.open().await {
                Ok(association) => return Ok((association, false)),
                // Once may be chance.
                Err(Failure::Aborted(_)) if aborts < ABORTS_BLAMED => aborts += 1,
                Err(failure) => break failure,
            }
        };
        match failure {
            Failure::Aborted(_) | Failure::Rejected { is_unexplained: true, .. } => {}
            // A line that broke says nothing of what was proposed. Peers that hang up on a pair without a word are not
            // asked for it together with others: each is proposed anew as its objects come.
            Failure::Lost(_) | Failure::Protocol(_) => {
                self.pairs.clear();
                return Err(Outcome::unclear(failure.to_string()));
            }
            _ => return Err(Outcome::unreachable(failure.to_string())),
        }
        // It gives no association when it hears what is proposed. Whether that is for the pair that is new, the next one
        // tells; it serves the messages after this one.
        self.pairs.pop();
        if self.pairs.is_empty() {
            return Err(Outcome::unclear(failure.to_string()));
        }
        match self.open().await {
            Ok(association) => {
                self.idle = Some(Idle::begin(association, self.config.idle_close()));
                Err(Outcome::Doubted { reason: gives_no_association(pair) })
            }
            // Each pair is tried by itself from now on.
            Err(_) => {
                self.pairs.clear();
                Err(Outcome::unclear(failure.to_string()))
            }
        }
    }

    /// The same with the context of the pair.
    async fn ready_with_context(&mut self, pair: &Pair) -> Result<(Association, u8, bool), Outcome> {
        let (association, used) = self.ready(pair).await?;
        if let Some(context) = association.context(&pair.0, &pair.1) {
            return Ok((association, context, used));
        }
        let refusal = association.refusal(&pair.0, &pair.1).unwrap_or(ContextRefusal::Missing);
        // The next try negotiates anew: somebody may have changed a setting there.
        association.release().await;
        Err(Outcome::Doubted { reason: refused_context(refusal, pair) })
    }

    /// A new association that proposes all pairs.
    async fn open(&self) -> Result<Association, Failure> {
        let peer = peer(&self.config).ok_or_else(|| Failure::Unreachable("address is not host:port".to_owned()))?;
        let proposed: Vec<Proposed> = self.pairs.iter().map(propose).collect();
        Association::open(&peer, &proposed).await
    }

    fn want(&mut self, pair: Pair) {
        self.pairs.retain(|known| *known != pair);
        self.pairs.push(pair);
        let surplus = self.pairs.len().saturating_sub(PAIRS_MAX);
        self.pairs.drain(..surplus);
    }

    /// Proposes these pairs of SOP class and transfer syntax with the first association, because they will be sent.
    pub fn expect(&mut self, pairs: impl IntoIterator<Item = (String, String)>) {
        for pair in pairs {
            self.want(pair);
        }
    }

    /// Ends the association in order.
    pub async fn close(mut self) {
        if let Some(idle) = self.idle.take()
            && let Some(association) = idle.end().await
        {
            association.release().await;
        }
    }

    /// Tries once to send an object that goes as it came.
    pub async fn store(&mut self, stored: &Stored) -> Outcome {
        loop {
            if let Some(outcome) = self.attempt(stored.clone()).await {
                return outcome;
            }
        }
    }

    /// Sends an object; a head that was made for it is not kept. `None` when the peer had given the association up in the
    /// meantime: nothing is wrong with the object, and the next attempt has a new one.
    async fn attempt(&mut self, stored: Stored) -> Option<Outcome> {
        let (header, conflict) = (stored.header.clone(), stored.conflict);
        let pair = (header.sop_class_uid.clone(), header.transfer_syntax_uid);
        let (mut association, context, used) = match self.ready_with_context(&pair).await {
            Ok(ready) => ready,
            Err(outcome) => return Some(outcome),
        };
        let object = match Chunks::open(stored.data_set(), association.piece_max(), Association::piece_room()) {
            Ok(object) => object,
            Err(fault) => return Some(fault.into()),
        };
        let id = association.next_message_id();
        let command = Command::store_request(id, &header.sop_class_uid, &header.sop_instance_uid);
        match association.store(context, &command, object, &self.pace).await {
            Ok(answer) => {
                self.idle = Some(Idle::begin(association, self.config.idle_close()));
                Some(status::outcome(answer.command.status(), conflict))
            }
            Err(failure) => {
                association.abort().await;
                match failure {
                    Failure::Object(fault) => Some(fault.into()),
                    Failure::Lost(_) | Failure::Aborted(_) if used => None,
                    failure => Some(Outcome::unclear(failure.to_string())),
                }
            }
        }
    }
}

impl Destination for Dicom {
    async fn deliver(&mut self, _message_id: &str, body: &[u8]) -> Outcome {
        if let Some(request) = request::read(body) {
            return self.tell(&request, body.get(request.begins_at..).unwrap_or_default()).await;
        }
        loop {
            let stored = match self.images.find(body).await {
                Ok(stored) => stored,
                Err(outcome) => return outcome,
            };
            if let Some(outcome) = self.attempt(stored).await {
                return outcome;
            }
        }
    }
}

impl Idle {
    fn begin(mut association: Association, limit: std::time::Duration) -> Self {
        let (want, wanted) = oneshot::channel();
        let held = tokio::spawn(async move {
            tokio::select! {
                wanted = wanted => if wanted.is_ok() {
                    return Some(association);
                },
                () = association.disturbed() => return None,
                () = sleep(limit) => {}
            }
            association.release().await;
            None
        });
        Idle { want, held }
    }

    /// The association, when it is still good.
    async fn end(self) -> Option<Association> {
        // When this fails the association has ended, which the task says as well.
        let _ = self.want.send(());
        self.held.await.ok().flatten().filter(Association::is_silent)
    }
}

/// Who is called. `None` when the address is not usable.
pub fn peer(config: &Config) -> Option<Peer> {
    let (host, port) = config.host_and_port()?;
    Some(Peer {
        host,
        port,
        tls: config.tls.clone(),
        called_ae_title: config.called_ae_title().to_owned(),
        calling_ae_title: config.calling_ae_title().to_owned(),
        connect_timeout: config.connect_timeout(),
        answer_timeout: config.ack_timeout(),
    })
}

/// Asks a peer whether it is there and lets this box in (C-ECHO, PS3.4 annex A).
///
/// # Errors
/// [`Failure`]: it does not, or not so.
pub async fn echo(peer: &Peer) -> Result<(), Failure> {
    let proposed = Proposed {
        abstract_syntax: uid::VERIFICATION.to_owned(),
        transfer_syntaxes: vec![uid::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
        as_scp: false,
    };
    let mut association = Association::open(peer, &[proposed]).await?;
    let Some((context, _)) = association.context_of(uid::VERIFICATION) else {
        association.release().await;
        return Err(Failure::Protocol("the peer lets this box in, but refuses the Verification SOP class"));
    };
    let request = Command::echo_request(association.next_message_id());
    association.send(context, &request, None).await?;
    let answer = association.answer_to(&request).await?;
    association.release().await;
    match answer.command.status() {
        Some(command::status::SUCCESS) => Ok(()),
        _ => Err(Failure::Protocol("the peer answers the echo with a failure")),
    }
}

fn propose((sop_class, transfer_syntax): &Pair) -> Proposed {
    Proposed { abstract_syntax: sop_class.clone(), transfer_syntaxes: vec![transfer_syntax.clone()], as_scp: false }
}

/// In words for the person who has to change a setting of the PACS.
fn refused_context(refusal: ContextRefusal, (sop_class, transfer_syntax): &Pair) -> String {
    match refusal {
        ContextRefusal::AbstractSyntax => {
            format!("the PACS does not take SOP class {sop_class}; have it enabled there")
        }
        ContextRefusal::TransferSyntaxes => {
            format!(
                "the PACS does not take transfer syntax {transfer_syntax} for SOP class {sop_class}; have it enabled there"
            )
        }
        ContextRefusal::Unspecified | ContextRefusal::Missing => {
            format!("the PACS refused SOP class {sop_class} in transfer syntax {transfer_syntax} without a reason")
        }
    }
}

/// As [`refused_context`], of a peer that does not even say no.
fn gives_no_association((sop_class, transfer_syntax): &Pair) -> String {
    format!(
        "the PACS aborts or rejects the association when SOP class {sop_class} in transfer syntax {transfer_syntax} is proposed; \
         have it enabled there, or send this class elsewhere"
    )
}

#[cfg(test)]
mod tests;
