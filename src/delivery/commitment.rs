//! Storage commitment as its user (PS3.4 annex J): a PACS that took images is asked to commit to keep them.
//!
//! ```text
//! images delivered -> COMMIT (they are asked about) -> N-ACTION -> N-EVENT-REPORT, on the same association or on one
//!                     that the PACS opens to us -> COMMIT -> answered
//! ```
//!
//! What it does not commit to is sent again, a few times, then parked for a person; what it does not report of is asked
//! about again. Through restarts: everything is in the journal before it is said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Config;
use super::dicom::association::{Association, Failure, Message, Proposed};
use super::dicom::object::Header;
use super::dicom::peer;
use super::instance::Images;
use crate::backoff::Backoff;
use crate::journal::{Journal, JournalError, Noted, OutboxId, SharedReader};
use crate::message::dicom::commitment::{self, Report, Request};
use crate::message::dicom::{End, Layout, read_data_set};
use crate::wire::dimse::command::{Command, field, status};
use crate::wire::dimse::uid;

/// Most images asked about in one request.
const BATCH: usize = 500;
/// How long an association is kept open for the report; most archives open one of their own sooner.
const LINGER: Duration = Duration::from_secs(10);
/// Without a signal the journal is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pause after the journal failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Asks a destination about what it took until `stopped` turns true.
pub async fn run(config: Arc<Config>, journal: Journal, mut stopped: watch::Receiver<bool>) {
    let changed = journal.entrusted_changed(&config.name);
    let reader = Arc::new(SharedReader::new(&journal));
    let (backoff, images) = (Backoff::new(config.retry_min(), config.retry_max()), Images::new(&config, &journal));
    let mut asking = Asking { config, journal, reader, images, backoff };
    while !*stopped.borrow() {
        let round = tokio::select! {
            round = asking.round() => round,
            _ = stopped.changed() => return,
        };
        let pause = round.unwrap_or_else(|error| {
            tracing::debug!(destination = asking.config.name, "commitment waits for the journal: {error}");
            JOURNAL_PAUSE
        });
        tokio::select! {
            _ = stopped.changed() => {}
            () = changed.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Takes an N-EVENT-REPORT of an archive; the status that answers it, and why it is refused.
pub async fn take_report(
    journal: &Journal,
    link: &str,
    event_type_id: u16,
    data_set: Vec<u8>,
    transfer_syntax_uid: &str,
) -> Result<(), (u16, &'static str)> {
    let syntax = transfer_syntax_uid.to_string();
    let read = tokio::task::spawn_blocking(move || {
        let said = read_data_set(&data_set, &syntax);
        match said.end {
            End::Whole => commitment::read_report(event_type_id, &said.data_set).map_err(|f| (f.status(), f.comment())),
            _ => Err((status::PROCESSING_FAILURE, "the data set cannot be read")),
        }
    });
    let Report { transaction_uid, outcomes } =
        read.await.unwrap_or(Err((status::PROCESSING_FAILURE, "the report cannot be read")))?;
    match journal.note_report(&transaction_uid, outcomes).await {
        Ok(Noted { is_known: false, .. }) => {
            tracing::warn!(link, "a storage commitment report to nothing that is asked");
            Err((status::INVALID_ARGUMENT, "nothing is asked under this Transaction UID"))
        }
        Ok(Noted { committed, failed, .. }) => {
            tracing::info!(link, committed, failed, "an archive reports storage commitment");
            Ok(())
        }
        Err(_) => Err((status::RESOURCE_LIMITATION, "the gateway cannot keep it now: try again")),
    }
}

struct Asking {
    config: Arc<Config>,
    journal: Journal,
    reader: Arc<SharedReader>,
    images: Images,
    backoff: Backoff,
}

impl Asking {
    /// Asks about what is due; tells how long until more is.
    async fn round(&mut self) -> Result<Duration, JournalError> {
        loop {
            let (reader, name) = (self.reader.clone(), self.config.name.clone());
            let now_ms = jiff::Timestamp::now().as_millisecond();
            let looked = tokio::task::spawn_blocking(move || {
                reader.read(|reader| Ok((reader.entrusted(&name, now_ms, BATCH)?, reader.next_entrusted_ms(&name)?)))
            });
            let (due, next_ms) = looked.await.unwrap_or(Err(JournalError::Closed))?;
            if due.is_empty() {
                let wait = |at: i64| Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs());
                return Ok(next_ms.map_or(LOOK_AGAIN, wait).min(LOOK_AGAIN));
            }
            let mut request = Request { transaction_uid: self.journal.make_uid()?, instances: Vec::new() };
            let mut asked: Vec<(OutboxId, String)> = Vec::new();
            for entrusted in due {
                // The archive knows it as it was sent, which may be under another UID than it came.
                let Ok(sent) = self.images.find(&entrusted.body).await else {
                    // Nobody can be asked about it; it is looked at again in its time.
                    asked.push((entrusted.id, String::new()));
                    continue;
                };
                let Header { sop_class_uid, sop_instance_uid, .. } = sent.header;
                asked.push((entrusted.id, sop_instance_uid.clone()));
                request.instances.push(commitment::Reference { sop_class_uid, sop_instance_uid });
            }
            let instances = request.instances.len();
            let patience = Duration::from_secs(self.config.commitment_wait_s.into());
            self.journal.ask_for_commitment(&request.transaction_uid, asked, patience).await?;
            if request.instances.is_empty() {
                continue;
            }
            match self.ask(&request).await {
                Ok(()) => {
                    tracing::info!(destination = self.config.name, instances, "asked to commit to images");
                    self.backoff.succeeded();
                }
                Err(why) => {
                    if self.backoff.failures() == 0 {
                        tracing::warn!(destination = self.config.name, "cannot be asked to commit to images: {why}");
                    }
                    let pause = self.backoff.failed();
                    self.journal.put_off_commitment(&request.transaction_uid, pause).await?;
                    return Ok(pause);
                }
            }
        }
    }

    /// N-ACTION, and the report if it comes soon.
    async fn ask(&self, request: &Request) -> Result<(), String> {
        let peer = peer(&self.config).ok_or("address is not host:port")?;
        let proposed = Proposed::storage_commitment(false);
        let mut line = Association::open(&peer, &[proposed]).await.map_err(|failure| failure.to_string())?;
        let Some((context, syntax)) = line.context_of(uid::STORAGE_COMMITMENT) else {
            line.release().await;
            return Err("the PACS does not offer storage commitment; have it enabled there, or set commitment = false"
                .to_string());
        };
        let (syntax, data_set) = (syntax.to_string(), commitment::action(request).write(Layout::of(syntax)));
        let (class, instance) = (uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE);
        let command = Command::action_request(line.next_message_id(), class, instance, commitment::ACTION_TYPE);
        let answered = async {
            line.send(context, &command, Some(&data_set)).await?;
            line.answer_to(&command).await
        };
        match answered.await.map(|answer| answer.command.status()) {
            Ok(Some(status::SUCCESS)) => {
                self.linger(line, &syntax, &request.transaction_uid).await;
                Ok(())
            }
            Ok(other) => {
                line.release().await;
                Err(format!("the PACS refuses to be asked with status {:04X}", other.unwrap_or_default()))
            }
            Err(failure) => {
                line.abort().await;
                Err(failure.to_string())
            }
        }
    }

    /// Keeps the association open for the report until it came, here or elsewhere.
    async fn linger(&self, mut line: Association, syntax: &str, transaction_uid: &str) {
        let until = Instant::now() + LINGER;
        let changed = self.journal.entrusted_changed(&self.config.name);
        while Instant::now() < until && self.is_asked(transaction_uid).await {
            let heard = {
                let message = line.message();
                tokio::pin!(message);
                loop {
                    tokio::select! {
                        message = &mut message => break Some(message),
                        () = changed.notified() => if !self.is_asked(transaction_uid).await {
                            break None;
                        },
                        () = sleep_until(until) => break None,
                    }
                }
            };
            let answered = match heard {
                Some(Ok(message)) => self.answer(&mut line, message, syntax).await,
                // The archive ended it, as it may.
                Some(Err(_)) => return,
                None => break,
            };
            if answered.is_err() {
                return line.abort().await;
            }
        }
        // The signal may have been for the loop.
        changed.notify_one();
        line.release().await;
    }

    async fn answer(&self, line: &mut Association, message: Message, syntax: &str) -> Result<(), Failure> {
        let Message { command, data_set, context } = message;
        let answer = match (command.field(), command.event_type_id()) {
            _ if command.is_response() => return Ok(()),
            (field::C_ECHO_RQ, _) => Command::response(&command, status::SUCCESS),
            (field::N_EVENT_REPORT_RQ, Some(kind)) => {
                match take_report(&self.journal, &self.config.name, kind, data_set, syntax).await {
                    Ok(()) => Command::response(&command, status::SUCCESS),
                    Err((status, why)) => Command::response(&command, status).with_error_comment(why),
                }
            }
            _ => Command::response(&command, status::UNRECOGNISED_OPERATION),
        };
        line.send(context, &answer, None).await
    }

    async fn is_asked(&self, transaction_uid: &str) -> bool {
        let (reader, uid) = (self.reader.clone(), transaction_uid.to_string());
        let asked = tokio::task::spawn_blocking(move || reader.read(|reader| reader.is_asked(&uid))).await;
        asked.is_ok_and(|asked| asked.unwrap_or(true))
    }
}
