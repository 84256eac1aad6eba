//! Storage commitment as its user (PS3.4 annex J): a PACS that took images is asked to commit to keep them.
//!
//! ```text
//! images delivered -> COMMIT (they are asked about) -> N-ACTION -> N-EVENT-REPORT, on the same association or on one
//!                     that the PACS opens to us -> COMMIT -> answered
//! ```
//!
//! What it has not got is sent again, a few times, then parked for a person; what it does not report of, or cannot commit
//! to at that time, is asked about again, for some days. Through restarts: everything is in the journal before it is
//! said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Config;
use super::dicom::association::{Association, Failure, Message, Proposed};
use super::dicom::object::Header;
use super::dicom::peer;
use super::instance::Images;
use crate::backoff::Backoff;
use crate::journal::{Journal, JournalError, Noted, OutboxId, SharedReader, Terms, Verdict};
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
/// An archive that nobody could ask for so long is not only being restarted: what it took longer ago than
/// `commitment_days` is given up, as if it had been asked.
const AWAY_MAX: Duration = Duration::from_secs(6 * 3600);
/// Pause after the journal failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Asks a destination about what it took until `stopped` turns true.
pub async fn run(config: Arc<Config>, journal: Journal, mut stopped: watch::Receiver<bool>) {
    let changed = journal.entrusted_changed(&config.name);
    let reader = Arc::new(SharedReader::new(&journal));
    let (backoff, images) = (Backoff::new(config.retry_min(), config.retry_max()), Images::new(&config, &journal));
    let mut asking = Asking { config, journal, reader, images, backoff, away_since: None };
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

/// The archives that are asked to commit, as they call to report.
#[derive(Debug, Clone, Default)]
pub struct Archives(Vec<Archive>);

#[derive(Debug, Clone)]
struct Archive {
    ae_title: String,
    /// It is to call over TLS, as it is called.
    must_be_secured: bool,
    terms: Terms,
}

impl Archives {
    /// Those among these destinations. `has_tls` says whether they can call over TLS.
    pub fn new(destinations: &[Config], has_tls: bool) -> Archives {
        let archive = |to: &Config| Archive {
            ae_title: to.called_ae_title().trim().to_string(),
            must_be_secured: has_tls && to.tls.is_some(),
            terms: terms(to),
        };
        Archives(destinations.iter().filter(|to| to.commitment).map(archive).collect())
    }

    /// The AE titles by which they call.
    pub fn ae_titles(&self) -> Vec<String> {
        self.0.iter().map(|archive| archive.ae_title.clone()).collect()
    }

    /// Those that somebody who calls by this AE title, over TLS or not, may speak for.
    pub fn spoken_for(&self, ae_title: &str, is_secured: bool) -> Vec<Terms> {
        let may = |a: &&Archive| a.ae_title == ae_title.trim() && (is_secured || !a.must_be_secured);
        self.0.iter().filter(may).map(|archive| archive.terms.clone()).collect()
    }
}

/// How a destination is asked.
fn terms(config: &Config) -> Terms {
    Terms {
        destination: config.name.clone(),
        wait: Duration::from_secs(config.commitment_wait_s.into()),
        resend_after: config.retry_max(),
        give_up_after: Duration::from_secs(u64::from(config.commitment_days) * 86_400),
    }
}

/// Takes an N-EVENT-REPORT of an archive, which is one of `reporters`; the status that answers it, and why it is refused.
pub async fn take_report(
    journal: &Journal,
    link: &str,
    reporters: Vec<Terms>,
    event_type_id: u16,
    data_set: Vec<u8>,
    transfer_syntax_uid: &str,
) -> Result<(), (u16, &'static str)> {
    if reporters.is_empty() {
        tracing::warn!(
            link,
            "a storage commitment report of somebody who is not asked: what is asked calls by its called_ae_title, and \
             over TLS where it is called over TLS"
        );
        return Err((status::NOT_AUTHORISED, "this AE title is not asked to commit to anything"));
    }
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
    let outcomes = outcomes.into_iter().map(|(uid, reason)| (uid, verdict(reason))).collect();
    match journal.note_report(&transaction_uid, reporters, outcomes).await {
        Ok(Noted { is_known: false, .. }) => {
            tracing::warn!(link, "a storage commitment report to nothing that it was asked");
            Err((status::INVALID_ARGUMENT, "nothing is asked under this Transaction UID"))
        }
        Ok(Noted { committed, failed, .. }) => {
            tracing::info!(link, committed, failed, "an archive reports storage commitment");
            Ok(())
        }
        Err(_) => Err((status::RESOURCE_LIMITATION, "the gateway cannot keep it now: try again")),
    }
}

/// What the reason for which an image is not committed, if there is one, means.
fn verdict(reason: Option<u16>) -> Verdict {
    use commitment::Failure;
    match reason.map(|reason| (Failure::from_reason(reason), reason)) {
        None => Verdict::Committed,
        Some((Failure::NoSuchInstance, reason)) => Verdict::Missing(reason),
        Some((failure, reason)) if failure.is_passing() => Verdict::NotNow(reason),
        Some((_, reason)) => Verdict::Never(reason),
    }
}

/// True when nobody was there to be asked, or not for now. What breaks off says nothing either: the next may not.
fn is_away(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) | Failure::TimedOut(_) | Failure::Aborted(_) | Failure::Lost(_) => true,
        Failure::Rejected { is_transient, .. } => *is_transient,
        Failure::Protocol(_) | Failure::Object(_) => false,
    }
}

/// Why a request could not be made.
struct NotAsked {
    /// Nobody was there to be asked.
    away: bool,
    why: String,
}

impl From<Failure> for NotAsked {
    fn from(failure: Failure) -> NotAsked {
        NotAsked { away: is_away(&failure), why: failure.to_string() }
    }
}

struct Asking {
    config: Arc<Config>,
    journal: Journal,
    reader: Arc<SharedReader>,
    images: Images,
    backoff: Backoff,
    /// Since when nobody was there to be asked.
    away_since: Option<Instant>,
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
            let (given_up, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|entrusted| entrusted.is_given_up);
            if !given_up.is_empty() {
                let ids = given_up.into_iter().map(|entrusted| entrusted.id).collect();
                self.journal.give_up_commitment(ids).await?;
                continue;
            }
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
            self.journal.ask_for_commitment(&request.transaction_uid, asked, terms(&self.config)).await?;
            if request.instances.is_empty() {
                continue;
            }
            match self.ask(&request).await {
                Ok(()) => {
                    tracing::info!(destination = self.config.name, instances, "asked to commit to images");
                    self.backoff.succeeded();
                    self.away_since = None;
                }
                Err(NotAsked { away, why }) => {
                    if self.backoff.failures() == 0 {
                        tracing::warn!(destination = self.config.name, "cannot be asked to commit to images: {why}");
                    }
                    let pause = self.backoff.failed();
                    self.away_since = self.away_since.filter(|_| away).or_else(|| away.then(Instant::now));
                    let is_waited_for = self.away_since.is_some_and(|since| since.elapsed() < AWAY_MAX);
                    self.journal.put_off_commitment(&request.transaction_uid, pause, is_waited_for).await?;
                    return Ok(pause);
                }
            }
        }
    }

    /// N-ACTION, and the report if it comes soon. Once it was sent it was asked, whatever becomes of the answer: the
    /// report alone counts, and it may come before the answer (PS3.4 J.3.3), after it, or instead of it.
    async fn ask(&self, request: &Request) -> Result<(), NotAsked> {
        let not_asked = |away, why: &str| NotAsked { away, why: why.to_string() };
        let peer = peer(&self.config).ok_or_else(|| not_asked(false, "address is not host:port"))?;
        let proposed = Proposed::storage_commitment(false);
        let mut line = Association::open(&peer, &[proposed]).await.map_err(NotAsked::from)?;
        let Some((context, syntax)) = line.context_of(uid::STORAGE_COMMITMENT) else {
            line.release().await;
            let why = "the PACS does not offer storage commitment; have it enabled there, or set commitment = false";
            return Err(not_asked(false, why));
        };
        let (syntax, data_set) = (syntax.to_string(), commitment::action(request).write(Layout::of(syntax)));
        let (class, instance) = (uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE);
        let command = Command::action_request(line.next_message_id(), class, instance, commitment::ACTION_TYPE);
        if let Err(failure) = line.send(context, &command, Some(&data_set)).await {
            line.abort().await;
            return Err(failure.into());
        }
        let destination = &self.config.name;
        match self.answer_to(&mut line, &command, &syntax, peer.answer_timeout).await {
            Ok(Some(status::SUCCESS)) => self.linger(line, &syntax, &request.transaction_uid).await,
            Ok(other) => {
                let status = other.unwrap_or_default();
                tracing::warn!(
                    destination,
                    "the PACS refuses to be asked to commit to images with status {status:04X}"
                );
                line.release().await;
            }
            Err(failure) => {
                tracing::warn!(destination, "the PACS does not answer what it is asked to commit to: {failure}");
                line.abort().await;
            }
        }
        Ok(())
    }

    /// The status of the answer to our request. What the archive asks meanwhile, or reports, is answered.
    async fn answer_to(
        &self,
        line: &mut Association,
        request: &Command,
        syntax: &str,
        patience: Duration,
    ) -> Result<Option<u16>, Failure> {
        let until = Instant::now() + patience;
        loop {
            let late = Failure::TimedOut("no answer in time");
            let message = timeout_at(until, line.message()).await.map_err(|_| late)??;
            if !message.command.is_response() {
                self.answer(line, message, syntax).await?;
            } else if message.command.message_id_responded_to() == Some(request.message_id()) {
                return Ok(message.command.status());
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
                let reporters = vec![terms(&self.config)];
                match take_report(&self.journal, &self.config.name, reporters, kind, data_set, syntax).await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Protocol;
    use crate::delivery::config::Routed;
    use crate::delivery::instance::Reference;
    use crate::journal::{FiledReport, Filing, NewInstance, Settlement};
    use crate::message::dicom::FileMeta;
    use crate::tls::ClientTls;
    use crate::wire::Token;
    use crate::wire::dimse::Arrival;

    fn pacs(name: &str, title: &str, tls: bool) -> Config {
        let mut to = Config::new(name, Protocol::Dicom);
        (to.commitment, to.called_ae_title) = (true, Some(title.to_string()));
        to.tls = tls.then(ClientTls::default);
        to
    }

    #[test]
    fn an_archive_is_spoken_for_by_its_title_and_over_tls_where_it_is_called_so() {
        let mut unasked = pacs("unasked", "PACS", false);
        unasked.commitment = false;
        let all = [pacs("plain", "PACS", false), pacs("secured", "PACS", true), pacs("other", "OTHER", false), unasked];
        let of = |has_tls, title, is_secured| {
            let spoken_for = Archives::new(&all, has_tls).spoken_for(title, is_secured);
            spoken_for.into_iter().map(|terms| terms.destination).collect::<Vec<_>>()
        };
        assert_eq!(of(true, "PACS", true), ["plain", "secured"]);
        assert_eq!(of(true, "PACS", false), ["plain"]);
        assert_eq!(of(false, "PACS", false), ["plain", "secured"], "it cannot call over TLS");
        assert_eq!(of(true, "VIVID", true), [""; 0]);
    }

    /// An image in custody that this archive took and is to commit to.
    async fn entrusted(journal: &Journal, to: &Config) {
        let arrival = Arrival {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_string(),
            sop_instance_uid: "1.2.3".to_string(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".to_string(),
            calling_ae_title: "CT".to_string(),
            called_ae_title: "AFFERENT".to_string(),
            message_id: 1,
        };
        let meta = FileMeta {
            sop_class_uid: &arrival.sop_class_uid,
            sop_instance_uid: &arrival.sop_instance_uid,
            transfer_syntax_uid: &arrival.transfer_syntax_uid,
            source_ae_title: "CT",
        };
        let spooled = journal.spool().keep(&meta.write(), b"data set").unwrap();
        let reference = Reference {
            spool: spooled.name.clone(),
            sop_class_uid: arrival.sop_class_uid.clone(),
            sop_instance_uid: arrival.sop_instance_uid.clone(),
            transfer_syntax_uid: arrival.transfer_syntax_uid.clone(),
            bytes: spooled.header_bytes + spooled.bytes,
            conflict: false,
        };
        let (kept, _) = journal.persist_instance("ct", Token(1), NewInstance { arrival, spooled }).await.unwrap();
        let report = FiledReport {
            subject_key: b"1.2.3".to_vec(),
            content_key: Vec::new(),
            completed_at_s: None,
            repeat_of: None,
            lookups: Vec::new(),
            json: b"{}".to_vec(),
            results: 1,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: reference.outbound(to, &Routed::default(), "1.2").into_iter().collect(),
            answered: Vec::new(),
            orders_as_of: i64::MAX,
        };
        let filing = Filing {
            entry: kept.entry,
            driver: "test@1".to_string(),
            inbound_results: 1,
            refused: Vec::new(),
            reports: vec![report],
            covers: Vec::new(),
            placement: None,
        };
        journal.file(filing).unwrap();
        let row = journal.claim(&to.name, 1).await.unwrap().remove(0);
        journal.settle(row.id, Settlement::Entrusted { answer: "0000".to_string() }).await.unwrap();
    }

    #[tokio::test]
    async fn i10_an_archive_that_never_listens_again_is_asked_no_longer_than_commitment_days() {
        let data = tempfile::tempdir().unwrap();
        let settings = crate::journal::Config { free_min_mb: 0, ..crate::journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        let mut to = pacs("pacs", "PACS", false);
        // Nobody listens there, and the image was delivered longer ago than that.
        (to.address, to.commitment_days) = (Some("127.0.0.1:9".to_string()), 0);
        (to.retry_min_ms, to.retry_max_ms) = (10, 20);
        entrusted(&journal, &to).await;
        let config = Arc::new(to);
        let (backoff, images) = (Backoff::new(config.retry_min(), config.retry_max()), Images::new(&config, &journal));
        let reader = Arc::new(SharedReader::new(&journal));
        let mut asking = Asking { config, journal: journal.clone(), reader, images, backoff, away_since: None };
        let parked = || journal.reader().unwrap().parked(10).unwrap();
        while asking.backoff.failures() < 3 {
            let pause = asking.round().await.unwrap();
            sleep(pause).await;
        }
        assert_eq!(parked(), [], "it may only be restarted");
        asking.away_since = Instant::now().checked_sub(AWAY_MAX);
        for _ in 0..10 {
            let pause = asking.round().await.unwrap();
            match parked().first() {
                Some(row) => return assert!(row.reason.contains("commitment_days"), "{row:?}"),
                None => sleep(pause).await,
            }
        }
        panic!("it is asked for ever");
    }

    #[test]
    fn i7_an_archive_that_does_not_listen_for_now_parks_nothing() {
        let rejected = |is_transient| Failure::Rejected { is_transient, is_unexplained: false, reason: String::new() };
        let away = [
            Failure::Unreachable(String::new()),
            Failure::TimedOut(""),
            Failure::Aborted(""),
            Failure::Lost(String::new()),
            rejected(true),
        ];
        assert!(away.iter().all(is_away), "a person would be shown whole backlogs for one restart of the archive");
        assert!(![rejected(false), Failure::Protocol("")].iter().any(is_away), "that does not pass by itself");
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (reason, expected) in [
            (None, Verdict::Committed),
            (Some(0x0112), Verdict::Missing(0x0112)),
            (Some(0x0110), Verdict::NotNow(0x0110)),
            (Some(0x0213), Verdict::NotNow(0x0213)),
            (Some(0x0131), Verdict::NotNow(0x0131)),
            (Some(0xC123), Verdict::NotNow(0xC123)),
            (Some(0x0119), Verdict::Never(0x0119)),
            (Some(0x0122), Verdict::Never(0x0122)),
        ] {
            assert_eq!(verdict(reason), expected);
        }
    }
}
