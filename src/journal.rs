//! The journal: the durability promise. This page is its contract; the files below keep it.
//!
//! ## What an acknowledgement means
//!
//! [`Journal::persist`] returns a [`Receipt`] after the bytes were committed to SQLite in WAL mode with
//! `synchronous=FULL`, that is, after an `fsync` that reported success. Nobody else can make a receipt, and machines of
//! [`crate::wire`] acknowledge data only when handed one (invariant I1). An error is the only other answer: then
//! nothing was kept and nothing may be acknowledged. Honest disks are assumed; a disk that acknowledges a flush it did
//! not do cannot be helped in software.
//!
//! ## Order of writes
//!
//! 1. `persist`: part (and entry) rows, commit, receipt, acknowledgement to the instrument.
//!
//!    `persist_instance`: before that, the image's file: written under an unfinished name, `fdatasync`, renamed, `fsync`
//!    of the spool's directory (which several associations share). Then entry and instance rows, commit, receipt,
//!    C-STORE-RSP 0000. A crash before the commit leaves a file without a row: it was never acknowledged and is removed
//!    at the next start, as unfinished ones are. A row without a file is never written; where a file is lost later,
//!    `verify` names it and its entry is damaged. The same image again: commit, then its file is renamed onto the one on
//!    record and the directory synced, then the entry is to be read again if it was set aside, then the receipt.
//! 2. `file`: the entry's reports, holds and outgoing bytes, in one commit. A crash before it interprets again, with the
//!    same outcome; a crash after it never does.
//! 3. `claim`: bytes are handed out as they were filed; nothing is written.
//! 4. `settle`: the outcome of an attempt. It may lag behind the destination's answer: a crash in between sends the
//!    same bytes with the same id once more (invariant I5).
//! 5. Retention: rows first, commit, then their files, on a thread of its own. A crash in between leaves files without
//!    rows, see 1.
//!
//! ## Rows
//!
//! | table | a row is | sealed |
//! |---|---|---|
//! | `entry` | a message, or a session that ended early: link, state, keyed digest | |
//! | `part` | one acknowledged frame or message, verbatim | bytes |
//! | `instance` | a DICOM instance, whose bytes are a file of the spool (`spool.rs`) | SOP Instance UID |
//! | `series`, `study` | what instances belong to | what they say of themselves |
//! | `report` | a canonical report made from an entry | JSON, identifiers |
//! | `hold` | one result that waits for a person | |
//! | `dispatch` | the results of a report that went out together | |
//! | `outbox`, `outgoing` | a message for one destination; its bytes | body |
//! | `charted` | what a destination has of a line of documents by a message | JSON |
//! | `lookup` | keyed hash of an identifier, and its entry | |
//! | `account` | the loss account of one day | |
//! | `work_order` | an order of the EHR; `work_order_lookup`, `work_order_link`: found by, for which links | JSON |
//! | `patient` | what the EHR last said of a patient id | JSON |
//! | `answer` | what became of an EHR message's changes | |
//! | `performed_step` | what a modality says it did; `work_order_step`: scheduled steps that are done | JSON |
//! | `commitment` | what a modality asked to be answered for | JSON |
//! | `entrusted` | an image that an archive took and is to commit to | |
//! | `asked_about` | an image and a request for commitment | |
//! | `archive` | a destination that keeps images | |
//! | `data_key` | a key, wrapped | key |
//!
//! What is sealed and how: `seal.rs`. Files of the spool are not: they are private to the gateway's user (0600).
//! Schema: `schema.rs`.
//!
//! ## Recovery
//!
//! At open SQLite replays its log; entries that were still open become incomplete (they are shown, held, and never
//! turn into results by themselves); rows that were handed out are due again. After a storage error the writer thread
//! does the same without restarting: see `writer.rs`, which also says why a failed commit is never retried on trust.
//!
//! ## Limits
//!
//! | what | limit |
//! |---|---|
//! | data waiting for the writer | 64 MiB, then callers wait |
//! | one commit | 64 commands of custody and 16 others, or 4 MiB |
//! | write-ahead log | copied into the database when idle or over 16 MiB (a 32nd of a small disk); see `log.rs` |
//! | disk | `quota_mb`, `free_min_mb`; images are refused at 90 %, all custody at 95 %, deliveries go on from a reserve |
//!
//! ## Old and new
//!
//! | data | program | |
//! |---|---|---|
//! | old schema | new | migrated at open, each step in one transaction |
//! | new schema | old | refused with a clear message, nothing is touched |
//! | any, with another key | any | refused |

mod account;
mod clock;
mod commitments;
mod config;
pub(crate) mod crash;
mod custody;
mod desk;
mod entrusted;
mod error;
mod export;
mod filing;
mod history;
mod inbox;
mod instances;
mod log;
mod operate;
mod orders;
mod outbox;
mod performed;
mod queue;
mod reader;
mod receipt;
mod retention;
mod schema;
mod search;
mod seal;
mod shared;
mod signals;
mod space;
mod spool;
mod standing;
mod studies;
mod types;
mod undelivered;
mod verify;
mod view;
mod writer;

pub use account::Account;
pub use commitments::{Asker, CommitmentStep, DueCommitment};
pub use config::Config;
pub use entrusted::{Entrusted, Noted, Terms, Verdict};
pub use error::{JournalError, OpenError};
pub use history::{Locked, Past};
use instances::Persisted;
pub use instances::{Instance, KeptInstance, NewInstance};
pub use operate::{ITEMS_MAX, Operated, OperatorAction};
pub use orders::{
    LinkMark, LinkState, LinkTask, ORDERS_FOUND_MAX, OrderChange, OrderOutcome, StoredOrder, StoredOrders,
};
pub use performed::StoredStep;
pub use reader::Reader;
pub use receipt::Receipt;
pub use search::{Found, Query, Shown, ShownHold, ShownMessage, ShownReport};
pub use shared::SharedReader;
pub use signals::{Condition, OrderChanges};
pub use space::{free_bytes, room};
pub use spool::{BLOCK_BYTES, Block, BlockFiller, IMAGE_LOST, Spool, SpoolFile, Spooled, Summing, Whole, refusal};
pub use standing::{Archives, InstanceStanding, OnlyHere};
pub use studies::{
    ChartFate, ChartedBy, Grown, ListedStudy, Placement, SeriesInstance, StoredSeries, StoredStudy, StudyFiling, Told,
};
pub use types::{
    Answered, CommitmentId, Entry, EntryId, Filed, FiledReport, Filing, Grounds, HoldId, Latest, Lookup, NewHold,
    NewOutbound, Outbound, OutboxId, ReleaseFiling, Released, ReportId, Settlement, StudyId, WorkOrderId, qc_run_key,
};
pub use undelivered::Undelivered;
pub use verify::Verified;
pub use view::{DestinationStats, HoldRow, ParkedRow, Stats};

use crate::clinical::PerformedStep;
use crate::clock::Quality;
use crate::service::Pulse;
use crate::wire::{Persist, Refusal, Refused, Token};
use custody::NewPart;
use desk::{Desk, Memory, SessionKey};
use inbox::Inbox;
use seal::{OuterKey, Seal};
use signals::Signals;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, oneshot};
use writer::{Kind, Message, Request, Store, Writer};

/// The database, in the data directory.
pub(crate) use schema::FILE;

/// Data that may wait for the writer, in KiB; callers wait beyond it.
const WAITING_KIB: u32 = 64 << 10;
/// Name of the lock file in the data directory.
pub(crate) const LOCK_FILE: &str = "journal.lock";
/// What a factory reset erases of it in the data directory; the lock stays, and holds nothing.
pub(crate) const NAMES: &[&str] = &[schema::FILE, "journal.db-wal", "journal.db-shm", spool::FOLDER, space::RESERVE];
pub(crate) use seal::KEY_NAMES;

/// Number of the schema that this program gives a journal.
pub const SCHEMA: u64 = schema::NUMBER;

/// A handle to the one writer. Cheap to clone; all clones share the writer thread.
#[derive(Clone)]
pub struct Journal {
    commands: Commands,
    room: Arc<Semaphore>,
    signals: Arc<Signals>,
    seal: Arc<Seal>,
    data: PathBuf,
    spool: Spool,
}

/// The way to the writer thread, which ends when the last of these goes.
#[derive(Clone)]
struct Commands(Arc<Line>);

struct Line(Arc<Inbox>);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.push(Message::Close(None));
    }
}

impl Journal {
    /// Opens, or makes, the journal in `data`, recovers it and starts the writer thread. One process at a time: the lock is
    /// the operating system's, so it goes with the process.
    pub fn open(data: &Path, config: &Config) -> Result<Journal, OpenError> {
        Journal::open_with(data, config, &Pulse::default())
    }

    /// The same, with a pulse that beats as recovery goes along, however long that takes.
    pub(crate) fn open_with(data: &Path, config: &Config, progress: &Pulse) -> Result<Journal, OpenError> {
        let lock = lock(data)?;
        let mut conn = schema::beating(schema::open_writer(data)?, Some(progress))?;
        let outer = OuterKey::find(data, config.key_file.as_deref(), schema::is_new(&conn)?)?;
        schema::migrate(&mut conn, &outer, wall_clock_ms())?;
        let seal = Arc::new(Seal::load(&conn, &outer)?);
        let memory = recover(&conn, &seal).map_err(|error| OpenError::Unsafe(error.to_string()))?;
        let spool = Spool::open(data, space::spool_limits(data, config), &conn, progress)?;
        sync_directory(data)?;
        let signals = Arc::new(Signals::default());
        let inbox = Arc::new(Inbox::default());
        let store = Store { conn: schema::beating(conn, None)?, spool: spool.clone(), lock };
        let writer = Writer::new(data, config, store, seal.clone(), memory, signals.clone());
        std::thread::Builder::new()
            .name("journal".to_string())
            .spawn({
                let inbox = inbox.clone();
                move || writer.run(&inbox)
            })
            .map_err(|source| file_error("cannot start the writer of", data, source))?;
        Ok(Journal {
            commands: Commands(Arc::new(Line(inbox))),
            room: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            signals,
            seal,
            data: data.to_path_buf(),
            spool,
        })
    }

    /// Brings the schema of the journal in `data` up to date and does nothing else: no row is touched that no step of it
    /// touches, no file removed. A directory without a journal is left as it is.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn bring_up_to_date(data: &Path, config: &Config) -> Result<(), OpenError> {
        let _lock = lock(data)?;
        if !data.join(schema::FILE).exists() {
            return Ok(());
        }
        let mut conn = schema::open_writer(data)?;
        let outer = OuterKey::find(data, config.key_file.as_deref(), schema::is_new(&conn)?)?;
        schema::migrate(&mut conn, &outer, wall_clock_ms())?;
        Seal::load(&conn, &outer).map(drop)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Makes `part` durable. Resolves once it is on stable storage, or refused.
    ///
    /// `connection` is a number that no other connection of this handle's life has. Dropping the future does not take
    /// the request back: the bytes may still be committed, and nobody acknowledges them.
    pub async fn persist(&self, link: &str, connection: u64, part: Persist) -> Result<Receipt, Refused> {
        let token = part.token;
        let new = NewPart::of(link, connection, part);
        let bytes = new.bytes.len();
        let work = move |desk: &mut Desk<'_>| custody::persist(desk, &new).map(drop);
        self.take_custody(token, bytes, work).await.map(|((), receipt)| receipt)
    }

    /// Where images are written before they are given into custody.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// True when there is room for another image: when there is not, a sender should be told to come back before it
    /// begins (A-ASSOCIATE-RJ, transient, local limit exceeded; PS3.8 9.3.4).
    pub fn instance_room(&self) -> bool {
        self.spool.expect_images();
        !matches!(self.condition(), Condition::Full | Condition::Failed) && self.spool.has_room()
    }

    /// Takes custody of an image whose file is durable already. Resolves once its rows are on stable storage, or it is
    /// refused, and then its file is gone.
    ///
    /// The very same image again adds nothing: its file takes the place of the one on record, which may have been
    /// damaged or lost meanwhile. From another sender, or with a head of another length, it adds nothing as long as the
    /// file on record is whole, which is read to find out, and is one more when that is not. Other bytes, another SOP
    /// class or another transfer syntax under the same UID are kept as well, marked as a conflict (invariant I4).
    /// Dropping the future does not take the request back.
    pub async fn persist_instance(
        &self,
        link: &str,
        token: Token,
        instance: NewInstance,
    ) -> Result<(KeptInstance, Receipt), Refused> {
        let (link, instance): (Arc<str>, _) = (link.into(), Arc::new(instance));
        let mut lost = Vec::new();
        loop {
            let work = {
                let (link, instance, lost) = (link.clone(), instance.clone(), lost.clone());
                move |desk: &mut Desk<'_>| instances::persist(desk, &link, &instance, &lost)
            };
            let settle = {
                let instance = instance.clone();
                move |outcome: &Result<Persisted, JournalError>| match outcome {
                    Ok(Persisted::New(_)) => instance.spooled.settle(true),
                    Ok(Persisted::Same(_) | Persisted::OtherHead(_)) => {}
                    // After a failed commit the log may still hold the rows for a while.
                    Err(JournalError::Storage(_)) => instance.spooled.doubt(),
                    Err(_) => instance.spooled.settle(false),
                }
            };
            let (persisted, receipt) = taken(token, self.ask_and_tell(Kind::Custody, 0, work, settle).await)?;
            let kept = match persisted {
                Persisted::New(kept) => return Ok((kept, receipt)),
                Persisted::Same(found) => {
                    let kept = found.kept();
                    with_file(token, &instance, move |file| file.replace(&found.spool)).await?;
                    kept
                }
                Persisted::OtherHead(found) => {
                    let kept = found.kept();
                    let look = move |file: &Spooled| file.is_whole_in(&found.spool, found.header_bytes);
                    if !with_file(token, &instance, look).await? {
                        lost.push(kept.entry);
                        continue;
                    }
                    kept
                }
            };
            // It may have been set aside, even since the rows were looked at.
            let revived = self.ask(Kind::Draining, 0, move |desk| instances::revive(desk, kept.entry)).await;
            return revived.map(|()| (kept, receipt)).map_err(|_| Refused { token, reason: Refusal::Storage });
        }
    }

    /// Makes a message of the EHR durable together with everything it changes, in one commit. The very same message
    /// again changes nothing and gets the outcomes it got the first time.
    ///
    /// `refused` is why the message as a whole changes nothing, for the record. `links` are the links new orders are
    /// for: each gets a task ([`Reader::link_tasks`]).
    pub async fn persist_orders(
        &self,
        source: &str,
        connection: u64,
        part: Persist,
        changes: Vec<OrderChange>,
        refused: Option<&'static str>,
        links: Arc<[String]>,
    ) -> Result<(StoredOrders, Receipt), Refused> {
        let (token, bytes) = (part.token, part.bytes.len());
        let new = NewPart::of(source, connection, part);
        let work = move |desk: &mut Desk<'_>| orders::store(desk, &new, &changes, refused, &links);
        self.take_custody(token, bytes, work).await
    }

    /// A UID that nobody else has (PS3.5 B.2).
    pub fn make_uid(&self) -> Result<String, JournalError> {
        self.seal.make_uid()
    }

    /// A key that only this journal has, for pseudonyms at one destination. The same as long as the journal lives.
    pub fn pseudonym_key(&self, destination: &str) -> [u8; 32] {
        self.seal.digest("pseudonyms", &[destination.as_bytes()])
    }

    /// Makes a modality's message about a performed step durable together with what `decide` makes of it and where the
    /// orders it answers stand then, in one commit. `decide` is told the step as it is.
    pub async fn persist_step<E: std::fmt::Display + Send + 'static>(
        &self,
        link: &str,
        connection: u64,
        part: Persist,
        sop_instance_uid: &str,
        decide: impl Fn(Option<&PerformedStep>) -> Result<PerformedStep, E> + Send + 'static,
    ) -> Result<(StoredStep<E>, Receipt), Refused> {
        let (token, bytes, uid) = (part.token, part.bytes.len(), sop_instance_uid.to_string());
        let new = NewPart::of(link, connection, part);
        self.take_custody(token, bytes, move |desk| performed::store(desk, &new, &uid, &decide)).await
    }

    /// Makes a request for storage commitment durable. `content` makes what [`DueCommitment::content`] will be; it is
    /// told whether the transaction UID stands for another request of this modality already.
    pub async fn persist_commitment(
        &self,
        link: &str,
        connection: u64,
        part: Persist,
        calling_ae_title: &str,
        transaction_uid: &str,
        content: impl Fn(bool) -> Vec<u8> + Send + 'static,
    ) -> Result<(CommitmentId, Receipt), Refused> {
        let (token, bytes) = (part.token, part.bytes.len());
        let [calling, uid] = [calling_ae_title, transaction_uid].map(str::to_string);
        let new = NewPart::of(link, connection, part);
        self.take_custody(token, bytes, move |desk| commitments::store(desk, &new, &calling, &uid, &content)).await
    }

    /// Notes how an attempt to answer for a commitment ended, with its content when that changed. One that was asked for
    /// again since this turn of it was looked at stays due.
    pub async fn settle_commitment(
        &self,
        (id, turn): (CommitmentId, i64),
        how: CommitmentStep,
        content: Option<Vec<u8>>,
    ) -> Result<(), JournalError> {
        self.ask(Kind::Draining, 0, move |desk| commitments::settle(desk, (id, turn), how, content.as_deref())).await
    }

    /// These images are asked about under this transaction UID, each under the SOP Instance UID by which the archive
    /// knows it. Resolves once that is committed: from then on a report to it is believed. Without one they are due
    /// again.
    pub async fn ask_for_commitment(
        &self,
        transaction_uid: &str,
        instances: Vec<(OutboxId, String)>,
        terms: Terms,
    ) -> Result<(), JournalError> {
        let uid = transaction_uid.to_string();
        self.ask(Kind::Draining, 0, move |desk| entrusted::ask(desk, &uid, &instances, &terms)).await
    }

    /// A request could not be made: what was to be asked about is due again after this. Where the archive was `away` that
    /// counts as not asked.
    pub async fn put_off_commitment(
        &self,
        transaction_uid: &str,
        after: Duration,
        away: bool,
    ) -> Result<(), JournalError> {
        let uid = transaction_uid.to_string();
        self.ask(Kind::Draining, 0, move |desk| entrusted::put_off(desk, &uid, after, away)).await
    }

    /// Parks images that were asked about for the last time, in vain.
    pub async fn give_up_commitment(&self, ids: Vec<OutboxId>) -> Result<(), JournalError> {
        self.ask(Kind::Draining, 0, move |desk| entrusted::give_up(desk, &ids)).await
    }

    /// Notes what an archive, which is one of `reporters`, says in a report of a request: by SOP Instance UID.
    pub async fn note_report(
        &self,
        transaction_uid: &str,
        reporters: Vec<Terms>,
        outcomes: Vec<(String, Verdict)>,
    ) -> Result<Noted, JournalError> {
        let uid = transaction_uid.to_string();
        self.ask(Kind::Draining, 0, move |desk| entrusted::note(desk, &uid, &reporters, &outcomes)).await
    }

    /// Only these destinations are asked to commit to images: nothing waits for others any more.
    pub fn ask_only(&self, destinations: Vec<String>) -> Result<(), JournalError> {
        self.commands.ask(Kind::Draining, move |desk| entrusted::keep_only(desk, &destinations))
    }

    /// Says of destinations whether they are archives, before anything is delivered to them: what those take from now on
    /// need not be kept here. What they took before is judged by what they were then.
    pub fn name_archives(&self, destinations: Vec<(String, bool)>) -> Result<(), JournalError> {
        self.commands.ask(Kind::Draining, move |desk| standing::name_archives(desk, &destinations))
    }

    /// Says what the box's clock is worth, for entries from now on; those that came before by a worse one, in the same run
    /// of the machine, are corrected by it ([`search::Found::corrected_ms`]).
    pub fn note_clock(&self, quality: Quality) -> Result<(), JournalError> {
        self.commands.ask(Kind::Draining, move |desk| clock::note(desk, quality))
    }

    /// Signalled when a destination may be to be asked, or has reported. A hint: look once before waiting for it.
    pub fn entrusted_changed(&self, destination: &str) -> Arc<Notify> {
        self.signals.destination(&entrusted::signal(destination))
    }

    /// Signalled when a commitment may be due. A hint: look once before waiting for it.
    pub fn commitments_changed(&self) -> Arc<Notify> {
        self.signals.destination(commitments::COMMITMENTS_SIGNAL)
    }

    /// Notes what a link did about an order. Resolves once it is committed: an instrument that was told of an order
    /// is told again after a crash in between, so tell it in a way that it may hear twice.
    pub async fn mark_order(&self, order: WorkOrderId, link: &str, mark: LinkMark) -> Result<(), JournalError> {
        let link = link.to_string();
        self.ask(Kind::Draining, 0, move |desk| orders::mark(desk, order, &link, mark)).await
    }

    /// Signalled when a link may have a new task. A hint: look once before waiting for it.
    pub fn orders_changed(&self, link: &str) -> Arc<Notify> {
        self.signals.destination(&orders_signal(link))
    }

    /// What changed of orders and patients since this was asked last; everything the first time. For the one who keeps
    /// a list of them.
    pub fn take_order_changes(&self) -> OrderChanges {
        self.signals.take_order_changes()
    }

    /// The session ended before its message was complete. What was persisted becomes an incomplete entry.
    pub fn abandon(&self, link: &str, connection: u64, session: u64) {
        let key = SessionKey { link: Arc::from(link), connection, session };
        self.commands.tell(Kind::Ending, move |desk| custody::abandon(desk, &key));
    }

    /// A reading connection of its own.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::beside(&self.data, self.seal.clone(), self.commands.clone())
            .map_err(|error| JournalError::Storage(error.to_string()))
    }

    /// Files the outcome of an entry in one transaction. Blocks until it is committed.
    pub fn file(&self, filing: Filing) -> Result<Filed, JournalError> {
        self.commands.ask(Kind::Work, move |desk| filing::file(desk, &filing))
    }

    /// Files the outcomes of several entries, each by itself and in this order, in as few commits as can be. Blocks
    /// until all are committed or refused.
    pub fn file_all(&self, filings: Vec<Filing>) -> Vec<Result<Filed, JournalError>> {
        let asked: Vec<_> = filings
            .into_iter()
            .map(|filing| self.commands.begin(Kind::Work, move |desk| filing::file(desk, &filing)))
            .collect();
        asked.into_iter().map(|answer| answer.recv().unwrap_or(Err(JournalError::Closed))).collect()
    }

    /// Files results a person released in one transaction. Blocks until it is committed.
    pub fn file_release(&self, filing: ReleaseFiling) -> Result<Filed, JournalError> {
        self.commands.ask(Kind::Work, move |desk| filing::file_release(desk, &filing))
    }

    /// Files what is said of a study in one transaction, unless it has grown since it was read. Blocks until it is
    /// committed.
    pub fn file_study(&self, filing: StudyFiling) -> Result<Filed, JournalError> {
        self.commands.ask(Kind::Work, move |desk| studies::file(desk, &filing))
    }

    /// Files what EHRs are told of a document of a study, under each name it has, in one transaction. Blocks until it is
    /// committed.
    pub fn file_told(&self, told: Vec<Told>) -> Result<(), JournalError> {
        self.commands.ask(Kind::Work, move |desk| told.iter().try_for_each(|told| studies::tell(desk, told).map(drop)))
    }

    /// Their modality is about to be told that these instances are safe, and may delete them: from now on retention leaves
    /// those alone that no archive took, however old they are. False when one is gone already.
    pub async fn promise(&self, instances: Vec<EntryId>) -> Result<bool, JournalError> {
        self.ask(Kind::Draining, 0, move |desk| standing::promise(desk, &instances)).await
    }

    /// The modality is done with these instances (storage commitment): a study that has no others is told of at once and
    /// not after it was quiet for a while.
    pub async fn studies_are_complete(&self, instances: Vec<EntryId>) -> Result<(), JournalError> {
        self.ask(Kind::Draining, 0, move |desk| studies::complete(desk, &instances)).await
    }

    /// Due messages of a destination, at most `limit`: heads of lanes in order, each followed by the next of its lane.
    /// They are the caller's until it settles them; a message behind another of its lane must wait for that one.
    pub async fn claim(&self, destination: &str, limit: usize) -> Result<Vec<Outbound>, JournalError> {
        let destination = destination.to_string();
        self.ask(Kind::Draining, 0, move |desk| outbox::claim(desk, &destination, limit)).await
    }

    /// Notes how an attempt ended. A retry or a return also gives back what was claimed behind it in its lane.
    pub async fn settle(&self, id: OutboxId, how: Settlement) -> Result<(), JournalError> {
        self.ask(Kind::Draining, 0, move |desk| outbox::settle(desk, id, &how)).await
    }

    /// An attempt that takes long is still under way: the message is not taken for lost.
    pub fn keep_flying(&self, id: OutboxId) {
        self.commands.tell(Kind::Ending, move |desk| outbox::keep_flying(desk, id));
    }

    /// How long until the next paused lane of a destination is due; `None` when no lane is paused. The destination's
    /// signal also comes when a pause ends.
    pub async fn next_due(&self, destination: &str) -> Result<Option<Duration>, JournalError> {
        let destination = destination.to_string();
        let due = self.ask(Kind::Draining, 0, move |desk| Ok(outbox::next_due(desk, &destination))).await?;
        Ok(due.map(|at| at.saturating_duration_since(Instant::now())))
    }

    /// Carries out a person's order. Blocks until it is committed.
    pub fn operate(&self, action: OperatorAction) -> Result<Operated, JournalError> {
        self.commands.ask(Kind::Draining, move |desk| operate::operate(desk, &action))
    }

    /// Blocks until an entry may wait to be interpreted, at most this long.
    pub fn wait_for_entries(&self, longest: Duration) {
        self.signals.wait_for_entries(longest);
    }

    /// Wakes whoever waits for entries.
    pub fn wake_interpreter(&self) {
        self.signals.wake_interpreter();
    }

    /// Signalled when a destination may have something due. A hint: look once before waiting for it.
    pub fn outbox_changed(&self, destination: &str) -> Arc<Notify> {
        self.signals.destination(destination)
    }

    /// When its writer went round last.
    pub fn pulse(&self) -> Pulse {
        self.signals.pulse.clone()
    }

    /// How the journal is.
    pub fn condition(&self) -> Condition {
        self.signals.condition()
    }

    /// The box has seconds left: takes nothing into custody any more, then copies the log into the database file, before
    /// anything else that waits. All the rest goes on, and what was acknowledged can still be delivered. Does not block;
    /// what comes is whether the log is empty.
    pub fn end_custody(&self) -> Receiver<bool> {
        let (reply, done) = sync_channel(1);
        self.commands.0.0.push(Message::EndCustody(reply));
        done
    }

    /// Finishes what is waiting, copies the log into the database file and gives the lock back. Blocks. Other clones
    /// get [`JournalError::Closed`] from then on.
    pub fn close(self) {
        let (reply, done) = sync_channel(1);
        self.commands.0.0.push(Message::Close(Some(reply)));
        // When the writer is gone already the reply was dropped, which is an answer too.
        let _ = done.recv();
    }

    async fn take_custody<T: Send + 'static>(
        &self,
        token: Token,
        bytes: usize,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<(T, Receipt), Refused> {
        taken(token, self.ask(Kind::Custody, bytes, work).await)
    }

    async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask_and_tell(kind, bytes, work, |_| {}).await
    }

    /// Asks, and has the writer tell the outcome to `tell` too, also when nobody waits for the answer any more.
    async fn ask_and_tell<T: Send + 'static>(
        &self,
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
        tell: impl FnOnce(&Result<T, JournalError>) + Send + 'static,
    ) -> Result<T, JournalError> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1).min(WAITING_KIB);
        let permit = self.room.clone().acquire_many_owned(kib).await.map_err(|_| JournalError::Closed)?;
        let (sender, receiver) = oneshot::channel();
        self.commands.send(kind, bytes, work, move |outcome| {
            tell(&outcome);
            drop(permit);
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or(Err(JournalError::Closed))
    }
}

impl Commands {
    /// Asks and blocks for the answer.
    fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.begin(kind, work).recv().unwrap_or(Err(JournalError::Closed))
    }

    /// Asks, and hands out where the answer will be. The callers are few and wait, so nothing else bounds them.
    fn begin<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Receiver<Result<T, JournalError>> {
        let (sender, receiver) = sync_channel(1);
        self.send(kind, 0, work, move |outcome| {
            let _ = sender.send(outcome);
        });
        receiver
    }

    /// Says something that needs no answer.
    fn tell(&self, kind: Kind, work: impl FnMut(&mut Desk<'_>) -> Result<(), JournalError> + Send + 'static) {
        self.send(kind, 0, work, |_| {});
    }

    fn report_damaged_entry(&self, entry: EntryId) {
        self.tell(Kind::Draining, move |desk| filing::set_damaged(desk, entry.0));
    }

    fn report_damaged_report(&self, report: ReportId) {
        self.tell(Kind::Draining, move |desk| filing::set_unreadable(desk, report));
    }

    fn send<T: Send + 'static>(
        &self,
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, JournalError> + Send + 'static,
        reply: impl FnOnce(Result<T, JournalError>) + Send + 'static,
    ) {
        // When the writer is gone the reply is dropped with the command, and the caller sees `Closed`.
        self.0.0.push(Message::Command(Box::new(Request { kind, bytes, work, outcome: None, reply })));
    }
}

/// Works with an image's file where that may block.
async fn with_file<T: Send + 'static, E: Send + 'static>(
    token: Token,
    instance: &Arc<NewInstance>,
    work: impl FnOnce(&Spooled) -> Result<T, E> + Send + 'static,
) -> Result<T, Refused> {
    let instance = instance.clone();
    match tokio::task::spawn_blocking(move || work(&instance.spooled)).await {
        Ok(Ok(done)) => Ok(done),
        _ => Err(Refused { token, reason: Refusal::Storage }),
    }
}

/// The outcome of a request for custody. Called with what the writer said after the commit.
fn taken<T>(token: Token, outcome: Result<T, JournalError>) -> Result<(T, Receipt), Refused> {
    match outcome {
        Ok(done) => Ok((done, Receipt::after_commit(token))),
        Err(JournalError::Full) => Err(Refused { token, reason: Refusal::Full }),
        Err(_) => Err(Refused { token, reason: Refusal::Storage }),
    }
}

/// Name of the signal for a link's tasks. No destination has a blank in its name.
fn orders_signal(link: &str) -> String {
    format!("orders for {link}")
}

/// Unix milliseconds of the wall clock. For people; order never depends on it.
fn wall_clock_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Makes the data directory when it is missing, private to its owner, and locks it.
pub(crate) fn lock(data: &Path) -> Result<File, OpenError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|source| file_error("cannot make", data, source))?;
    let path = data.join(LOCK_FILE);
    let failed = |source| file_error("cannot lock", &path, source);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(data.to_path_buf())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// True while another process works on this data directory. Nothing is made to find out.
pub(crate) fn is_in_use(data: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(data.join(LOCK_FILE));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Settles what the last run left behind, in one transaction, and reads the counters.
fn recover(conn: &rusqlite::Connection, seal: &Seal) -> Result<Memory, JournalError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let waiting: i64 =
        conn.query_row("SELECT coalesce(max(waiting), 0) + 1 FROM entry WHERE waiting > 0", [], |r| r.get(0))?;
    let ended = custody::end_left_open(conn, seal, waiting)?;
    outbox::forget_pauses(conn)?;
    crash::point("recovery");
    conn.execute_batch("COMMIT")?;
    if ended > 0 {
        tracing::warn!(entries = ended, "sessions of the last run were not complete");
    }
    let next_entry: i64 =
        conn.query_row("SELECT max(entry_floor, (SELECT coalesce(max(id), 0) FROM entry)) + 1 FROM meta", [], |r| {
            r.get(0)
        })?;
    let boot = clock::boot_id();
    let by = clock::recover(conn, &boot)?;
    Ok(Memory::starting_at(next_entry, waiting + ended as i64).by_clock(boot, by))
}

fn sync_directory(data: &Path) -> Result<(), OpenError> {
    File::open(data).and_then(|d| d.sync_all()).map_err(|source| file_error("cannot sync", data, source))
}

fn file_error(what: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::File { what, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
