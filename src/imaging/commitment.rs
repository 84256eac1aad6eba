//! Storage commitment as a service (PS3.4 annex J): what a modality asks to be answered for, and the answer it gets.
//!
//! ```text
//! N-ACTION -> COMMIT (request) -> answer
//!          -> each instance is looked at: whole in the spool, or the archives have it
//!          -> N-EVENT-REPORT on the same association while it is open, else on one of our own, until it is taken
//! ```
//!
//! Modalities delete what they are told is committed, so before each report, a repeated one too, every byte is checked of
//! what is to be safe here, and it is kept for good unless an archive takes it or a person lets it go. What it takes to be
//! safe is the site's to say ([`Safe`]): where archives are to have it, they answer for its bytes. Instances that have not
//! come yet are waited for, for some sending side by side ask before the last one is in.

#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::delivery::dicom::association::{Association, Peer, Proposed};
use crate::journal::{
    Asker, CommitmentStep, DueCommitment, EntryId, InstanceStanding, Journal, JournalError, Reader, SharedReader,
};
use crate::link::dicom::config::{Modality, Safe};
use crate::link::dicom::services::EventReport;
use crate::message::dicom::commitment::{self, Failure, Request};
use crate::message::dicom::{DataSet, End, FileMeta, Layout, read_data_set};
use crate::wire::dimse::command::{Command, status};
use crate::wire::dimse::{Question, Reply, uid};
use crate::wire::{Persist, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How long a modality may take to answer a report.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting to a modality may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pauses between reports that fail.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);
/// Pauses between looks at instances and archives that are waited for: an eighth of the wait so far, within these.
const LOOK_MIN: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(5 * 60);
/// An archive that has not taken an instance for this long never will, as far as its modality is told: a week.
const ARCHIVE_PATIENCE_MS: i64 = 7 * 86_400_000;
/// A report that could not be given for this long is given up, and a person is told: two weeks.
const GIVE_UP_AFTER_MS: i64 = 14 * 86_400_000;
/// Without a signal it is looked at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Most instances in one commit, which keeps others waiting.
const PROMISES: usize = 500;
/// Most instances that make their studies complete, in one commit as well. A study of more is told once it was quiet.
const COMPLETES_MAX: usize = 5_000;
/// So many modalities are answered at once: whoever calls may call by one AE title after the other.
const ANSWERS_MAX: usize = 32;
/// Pause after the journal failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Numbers custody requests: each is whole and ends its own session.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// Numbers lines.
static LINES: AtomicU64 = AtomicU64::new(1);

/// The service: takes requests, and answers for them on a task of its own.
pub struct Commitments {
    journal: Journal,
    reader: SharedReader,
    ae_title: String,
    modalities: Vec<Modality>,
    /// Names of the destinations that take images.
    archives: Vec<String>,
    lines: Mutex<HashMap<Name, Line>>,
}

/// Link and transaction UID of a request.
type Name = (String, String);

/// The association on which a request came, while it may be open.
#[derive(Clone)]
struct Line {
    /// Of its own, though it be asked twice on one association.
    number: u64,
    reports: Sender<EventReport>,
    transfer_syntax_uid: String,
}

/// What is kept of a request.
#[derive(Clone, Serialize, Deserialize)]
struct Content {
    request: Request,
    calling_ae_title: String,
    /// The transaction UID stood for another request already.
    is_duplicate: bool,
    /// What became of each instance, once it is decided.
    outcomes: Option<Vec<Option<Failure>>>,
}

/// What is decided of a commitment.
struct Decision {
    /// Of each instance.
    outcomes: Vec<Option<Failure>>,
    /// Those that are safe.
    safe: Vec<EntryId>,
}

impl Commitments {
    /// For these modalities and destinations of images; `ae_title` is ours.
    pub fn new(journal: &Journal, ae_title: &str, modalities: &[Modality], archives: Vec<String>) -> Arc<Commitments> {
        Arc::new(Commitments {
            journal: journal.clone(),
            reader: SharedReader::new(journal),
            ae_title: ae_title.to_string(),
            modalities: modalities.to_vec(),
            archives,
            lines: Mutex::default(),
        })
    }

    /// Answers an N-ACTION: once this resolves with success, the request is on stable storage. The report follows. The
    /// very same request again is answered the same, and reported again.
    pub async fn take(
        &self,
        link: &str,
        action_type_id: u16,
        question: Question,
        reports: Sender<EventReport>,
    ) -> Reply {
        let asked = tokio::task::spawn_blocking(move || read(action_type_id, &question).map(|asked| (asked, question)));
        let (request, question) = match asked.await {
            Ok(Ok(asked)) => asked,
            Ok(Err((status, why))) => {
                tracing::warn!(link, "a request for storage commitment was refused: {why}");
                return Reply::refusing(status, why);
            }
            Err(_) => return Reply::refusing(status::PROCESSING_FAILURE, "the gateway cannot answer this now"),
        };
        let (transaction_uid, instances) = (request.transaction_uid.clone(), request.instances.len());
        let part = part(&question, &transaction_uid);
        let calling_ae_title = question.calling_ae_title;
        let content =
            Content { request, calling_ae_title: calling_ae_title.clone(), is_duplicate: false, outcomes: None };
        // Before it is committed: the report may come at once.
        let name = (link.to_string(), transaction_uid.clone());
        let number = LINES.fetch_add(1, Ordering::Relaxed);
        let line = Line { number, reports, transfer_syntax_uid: question.transfer_syntax_uid };
        self.keep_line(name.clone(), line.clone());
        let kept = move |is_duplicate| Content { is_duplicate, ..content.clone() }.write();
        match self.journal.persist_commitment(link, 0, part, &calling_ae_title, &transaction_uid, kept).await {
            Ok((id, _receipt)) => {
                tracing::info!(link, commitment = id.0, instances, "storage commitment was asked for");
                Reply { status: status::SUCCESS, ..Reply::default() }
            }
            Err(_) => {
                self.forget_line(&name, &line);
                Reply::refusing(status::RESOURCE_LIMITATION, "the gateway cannot keep it now: try again")
            }
        }
    }

    /// Answers for what is due until `stopped` turns true.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let changed = self.journal.commitments_changed();
        let mut answers: JoinSet<Asker> = JoinSet::new();
        // A modality takes one report at a time. One that does not answer, and one that asks for much, keep no other
        // waiting.
        let mut busy: BTreeSet<Asker> = BTreeSet::new();
        while !*stopped.borrow() {
            let service = self.clone();
            let occupied = busy.clone();
            let due = tokio::task::spawn_blocking(move || service.due(&occupied)).await;
            let pause = match due.unwrap_or(Err(JournalError::Closed)) {
                Ok((due, pause)) => {
                    for due in due {
                        busy.insert(due.asker.clone());
                        answers.spawn(self.clone().answer_for(due, stopped.clone()));
                    }
                    pause
                }
                Err(error) => {
                    tracing::debug!("storage commitments wait for the journal: {error}");
                    JOURNAL_PAUSE
                }
            };
            tokio::select! {
                _ = stopped.changed() => {}
                () = changed.notified() => {}
                Some(done) = answers.join_next() => match done {
                    Ok(asker) => { busy.remove(&asker); }
                    // Whose task it was is not known any more.
                    Err(_) => busy.clear(),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is due of modalities that are not busy, one of each; and how long until the next is. Blocks on the database.
    fn due(&self, busy: &BTreeSet<Asker>) -> Result<(Vec<DueCommitment>, Duration), JournalError> {
        let (now_ms, room) = (now_ms(), ANSWERS_MAX.saturating_sub(busy.len()));
        let (due, next) = self
            .reader
            .read(|reader| Ok((reader.due_commitments(now_ms, busy, room)?, reader.next_commitment_ms(now_ms)?)))?;
        let pause = next.map_or(LOOK_AGAIN, |at| {
            Duration::from_millis(u64::try_from(at.saturating_sub(now_ms)).unwrap_or_default())
        });
        Ok((due, pause.min(LOOK_AGAIN)))
    }

    /// Looks at one, and reports it when it is decided; tells whose it was.
    async fn answer_for(self: Arc<Self>, due: DueCommitment, stopped: watch::Receiver<bool>) -> Asker {
        let asker = due.asker.clone();
        if let Err(error) = self.try_answer(due, stopped).await {
            tracing::debug!(link = asker.link, "a storage commitment waits for the journal: {error}");
            tokio::time::sleep(JOURNAL_PAUSE).await;
        }
        asker
    }

    async fn try_answer(
        self: Arc<Self>,
        mut due: DueCommitment,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), JournalError> {
        let content: Option<Content> = serde_json::from_slice(&std::mem::take(&mut due.content)).ok();
        let (id, link) = ((due.id, due.turn), due.asker.link.clone());
        let Some(content) = content else {
            tracing::error!(
                event = "stored-damaged",
                link,
                commitment = due.id.0,
                "a request for storage commitment is damaged: nothing is reported"
            );
            return self.journal.settle_commitment(id, CommitmentStep::GivenUp, None).await;
        };
        // Its images were looked at, and are not again as long as nobody can be told.
        if content.outcomes.is_some()
            && let Err(why) = self.listener(&due, &content)
        {
            return self.journal.settle_commitment(id, not_reported(&due, &why), None).await;
        }
        // On a connection of its own: what is asked for may be many, and large.
        let looking = tokio::task::spawn_blocking(move || {
            let decided = self.decide(&self.journal.reader()?, &due, &content, &|| !*stopped.borrow())?;
            Ok::<_, JournalError>((self, due, content, decided))
        });
        let (service, due, mut content, decided) = looking.await.unwrap_or(Err(JournalError::Closed))?;
        let Some(Decision { outcomes, safe }) = decided else {
            let age_ms = now_ms().saturating_sub(due.asked_ms);
            let after = Duration::from_millis(age_ms.unsigned_abs() / 8).clamp(LOOK_MIN, LOOK_MAX);
            return service.journal.settle_commitment(id, CommitmentStep::Wait { after, failed: false }, None).await;
        };
        // Before it is told, for it may delete them at once; each time, for it may be another copy that is safe by now.
        for some in safe.chunks(PROMISES) {
            if !service.journal.promise(some.to_vec()).await? {
                let again = CommitmentStep::Wait { after: LOOK_MIN, failed: false };
                return service.journal.settle_commitment(id, again, None).await;
            }
        }
        // The modality is done with what it has committed: nothing more comes.
        if content.outcomes.is_none() && safe.len() <= COMPLETES_MAX {
            service.journal.studies_are_complete(safe).await?;
        }
        content.outcomes = Some(outcomes);
        let how = service.conclude(&due, &content).await;
        service.journal.settle_commitment(id, how, Some(content.write())).await
    }

    /// What becomes of each instance; `None` while something is waited for. Decided anew before each report, for days may
    /// have passed since the last; what was not safe then stays so. Blocks on the database and on the spool.
    ///
    /// # Errors
    /// `Closed` as soon as `is_wanted` says no.
    fn decide(
        &self,
        reader: &Reader,
        due: &DueCommitment,
        content: &Content,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Decision>, JournalError> {
        let asked = &content.request.instances;
        if content.is_duplicate {
            let outcomes = vec![Some(Failure::DuplicateTransaction); asked.len()];
            return Ok(Some(Decision { outcomes, safe: Vec::new() }));
        }
        let modality = self.modality(&due.asker.link);
        let (safe, wait_s) = (modality.commitment, modality.commitment_wait_s);
        let age_ms = now_ms().saturating_sub(due.asked_ms);
        let mut found: Vec<Result<EntryId, Failure>> = Vec::new();
        for instance in asked {
            if !is_wanted() {
                return Err(JournalError::Closed);
            }
            let standing =
                match reader.instance_standing(&instance.sop_instance_uid, &instance.sop_class_uid, &self.archives) {
                    // One damaged row is one instance that is not safe.
                    Err(JournalError::Damaged) => {
                        found.push(Err(Failure::Processing));
                        continue;
                    }
                    standing => standing?,
                };
            found.push(match standing {
                InstanceStanding::Unknown if age_ms < i64::from(wait_s) * 1000 => return Ok(None),
                InstanceStanding::Unknown => Err(Failure::NoSuchInstance),
                InstanceStanding::OtherClass => Err(Failure::ClassConflict),
                InstanceStanding::Kept { entry, archives } => match safe {
                    Safe::Custody => Ok(entry),
                    Safe::Delivered if archives.is_delivered() => Ok(entry),
                    Safe::Committed if archives.is_committed() => Ok(entry),
                    _ if archives.is_pending() && age_ms < ARCHIVE_PATIENCE_MS => return Ok(None),
                    _ => Err(Failure::Processing),
                },
            });
        }
        let before = content.outcomes.iter().flatten().copied().chain(std::iter::repeat(None));
        let mut decision = Decision { outcomes: Vec::new(), safe: Vec::new() };
        for (found, before) in found.into_iter().zip(before) {
            decision.outcomes.push(match (before, found) {
                (Some(failure), _) | (None, Err(failure)) => Some(failure),
                // Only now, for it reads every byte.
                (None, Ok(entry)) if safe != Safe::Custody || reader.is_whole(entry, is_wanted)? => {
                    decision.safe.push(entry);
                    None
                }
                (None, Ok(_)) => Some(Failure::Processing),
            });
        }
        Ok(Some(decision))
    }

    /// Reports what is decided; tells how that went.
    async fn conclude(&self, due: &DueCommitment, content: &Content) -> CommitmentStep {
        let (id, link) = (due.id, due.asker.link.as_str());
        let outcomes = content.outcomes.as_deref().unwrap_or_default();
        let (instances, failed) = (outcomes.len(), outcomes.iter().flatten().count());
        match self.report(due, content, outcomes).await {
            Ok(()) => {
                tracing::info!(link, commitment = id.0, instances, failed, "storage commitment was reported");
                CommitmentStep::Reported
            }
            Err(why) => not_reported(due, &why),
        }
    }

    /// N-EVENT-REPORT, on the association on which it was asked while that is open, else on one of our own.
    async fn report(&self, due: &DueCommitment, content: &Content, outcomes: &[Option<Failure>]) -> Result<(), String> {
        let (event_type_id, said) = commitment::report(&content.request, outcomes, "");
        let name = name_of(due, content);
        let line = self.lines().get(&name).cloned();
        if let Some(line) = line {
            let told = tokio::time::timeout(ANSWER_TIMEOUT, tell(&line, event_type_id, &said)).await;
            if let Ok(Some(status)) = told {
                self.forget_line(&name, &line);
                return accepted(status);
            }
            // It ended, or is at something else, or its modality does not listen there.
        }
        let peer = self.peer(&due.asker.link, &content.calling_ae_title)?;
        let proposed = Proposed::storage_commitment(true);
        let mut line = Association::open(&peer, &[proposed]).await.map_err(|failure| failure.to_string())?;
        let Some((context, syntax)) = line.context_of(uid::STORAGE_COMMITMENT) else {
            line.release().await;
            return Err("it takes no storage commitment reports on an association of ours".to_string());
        };
        let data_set = said.write(Layout::of(syntax));
        let (class, instance) = (uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE);
        let command = Command::event_report_request(line.next_message_id(), class, instance, event_type_id);
        let answered = async {
            line.send(context, &command.clone().with_data_set(), Some(&data_set)).await?;
            line.answer_to(&command).await
        };
        match answered.await {
            Ok(answer) => {
                line.release().await;
                accepted(answer.command.status().unwrap_or(status::PROCESSING_FAILURE))
            }
            Err(failure) => {
                line.abort().await;
                Err(failure.to_string())
            }
        }
    }

    /// Why nobody can be told: the association on which it was asked ended, and there is none of our own.
    fn listener(&self, due: &DueCommitment, content: &Content) -> Result<(), String> {
        match self.lines().get(&name_of(due, content)) {
            Some(line) if !line.reports.is_closed() => Ok(()),
            _ => self.peer(&due.asker.link, &content.calling_ae_title).map(drop),
        }
    }

    fn peer(&self, link: &str, called_ae_title: &str) -> Result<Peer, String> {
        let modality = self.modality(link);
        let address = modality.address.as_deref().and_then(|address| address.rsplit_once(':'));
        let (host, port) = address.ok_or("set `address` of its [[modality]], where it takes reports")?;
        Ok(Peer {
            host: host.trim_matches(['[', ']']).to_string(),
            port: port.parse().map_err(|_| "`address` of its [[modality]] has no port".to_string())?,
            tls: None,
            called_ae_title: called_ae_title.to_string(),
            calling_ae_title: self.ae_title.clone(),
            connect_timeout: CONNECT_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        })
    }

    /// The settings of a link; those of a modality that nobody named are the defaults.
    fn modality(&self, link: &str) -> Modality {
        self.modalities.iter().find(|modality| modality.name == link).cloned().unwrap_or_default()
    }

    fn keep_line(&self, name: Name, line: Line) {
        let mut lines = self.lines();
        lines.retain(|_, line| !line.reports.is_closed());
        lines.insert(name, line);
    }

    /// It is of no use any more, unless it was asked again meanwhile.
    fn forget_line(&self, name: &Name, line: &Line) {
        let mut lines = self.lines();
        if lines.get(name).is_some_and(|known| known.number == line.number) {
            lines.remove(name);
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(due: &DueCommitment, content: &Content) -> Name {
    (due.asker.link.clone(), content.request.transaction_uid.clone())
}

/// What becomes of one that could not be reported.
fn not_reported(due: &DueCommitment, why: &str) -> CommitmentStep {
    let (link, commitment) = (due.asker.link.as_str(), due.id.0);
    if now_ms().saturating_sub(due.asked_ms) > GIVE_UP_AFTER_MS {
        tracing::error!(
            event = "commitment-failed",
            link,
            commitment,
            "a storage commitment could not be reported: {why}"
        );
        return CommitmentStep::GivenUp;
    }
    tracing::warn!(link, commitment, "a storage commitment cannot be reported yet: {why}");
    CommitmentStep::Wait { after: Backoff::new(RETRY_MIN, RETRY_MAX).after(due.attempts), failed: true }
}

impl Content {
    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The status with which the modality answers a report on this association; `None` when it does not.
async fn tell(line: &Line, event_type_id: u16, said: &DataSet) -> Option<u16> {
    let (answered, answer) = oneshot::channel();
    let transfer_syntax_uid = line.transfer_syntax_uid.clone();
    let data_set = said.write(Layout::of(&transfer_syntax_uid));
    line.reports.send(EventReport { event_type_id, data_set, transfer_syntax_uid, answered }).await.ok()?;
    answer.await.ok()
}

/// What an N-ACTION asks for, or the status and the reason that refuse it.
fn read(action_type_id: u16, question: &Question) -> Result<Request, (u16, &'static str)> {
    let instance = question.sop_instance_uid.as_deref().unwrap_or(uid::STORAGE_COMMITMENT_INSTANCE);
    if question.sop_class_uid != uid::STORAGE_COMMITMENT {
        return Err((status::CLASS_NOT_SUPPORTED, "of all actions only storage commitment is offered"));
    }
    if instance != uid::STORAGE_COMMITMENT_INSTANCE {
        return Err((status::NO_SUCH_INSTANCE, "storage commitment has another SOP Instance UID"));
    }
    if action_type_id != commitment::ACTION_TYPE {
        return Err((status::NO_SUCH_ACTION, "Action Type ID 1 alone is offered"));
    }
    let said = read_data_set(&question.data_set, &question.transfer_syntax_uid);
    if said.end != End::Whole {
        return Err((status::PROCESSING_FAILURE, "the data set cannot be read"));
    }
    commitment::request(&said.data_set).map_err(|fault| (fault.status(), fault.comment()))
}

/// By the wall clock, as the journal has it.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn accepted(status: u16) -> Result<(), String> {
    match status {
        status::SUCCESS => Ok(()),
        other => Err(format!("it refuses the report with status {other:04X}")),
    }
}

fn part(question: &Question, transaction_uid: &str) -> Persist {
    let mut bytes = FileMeta {
        sop_class_uid: &question.sop_class_uid,
        sop_instance_uid: uid::STORAGE_COMMITMENT_INSTANCE,
        transfer_syntax_uid: &question.transfer_syntax_uid,
        source_ae_title: &question.calling_ae_title,
    }
    .write();
    bytes.extend_from_slice(&question.data_set);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let identity = Some(format!("storage commitment|{transaction_uid}").into_bytes());
    Persist { token: Token(number), session: number, bytes, completes: true, identity }
}
