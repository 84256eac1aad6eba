//! What goes in and out of the journal.

use super::instances::Instance;
use super::seal::Seal;
use super::studies::{Placement, Told};
use crate::clinical::OrderStatus;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Makes a row number its own type, so that numbers of different tables cannot be mixed up.
macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                i64::column_result(value).map($name)
            }
        }
    };
}

row_id! {
    /// What the journal took custody of: one message, or one session that ended early. Grows in order of the first part.
    EntryId
}
row_id! {
    /// One filed report.
    ReportId
}
row_id! {
    /// One held result.
    HoldId
}
row_id! {
    /// One message for one destination. Grows in the order of filing.
    OutboxId
}

row_id! {
    /// One order of the EHR. Grows in the order of arrival.
    WorkOrderId
}

row_id! {
    /// One imaging study. Grows in the order in which they began.
    StudyId
}

row_id! {
    /// One storage commitment a modality asked for.
    CommitmentId
}

/// An entry that waits to be interpreted, in order of completion.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// The link it came in on.
    pub link: String,
    /// False when the session ended before its message was complete.
    pub complete: bool,
    /// All its parts in order, verbatim (invariant I2); none when it is an instance.
    pub raw: Vec<u8>,
    /// The DICOM instance it is, when it is one.
    pub instance: Option<Instance>,
    /// When its first part was taken into custody, Unix milliseconds.
    pub received_at_ms: i64,
    /// How often a person asked for it to be interpreted again.
    pub replays: u32,
}

impl std::fmt::Debug for Entry {
    /// Never prints the bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("link", &self.link)
            .field("complete", &self.complete)
            .field("len", &self.raw.len())
            .finish_non_exhaustive()
    }
}

/// What an identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// Specimen id.
    Specimen,
    /// Patient id.
    Patient,
    /// Placer or filler order number.
    Order,
    /// Control id the sender gave its message (MSH-10).
    Control,
    /// Message id we gave an outgoing message.
    Message,
    /// A control run: link and test code (see [`qc_run_key`]).
    QcRun,
    /// Accession Number of an imaging study.
    Accession,
    /// Study Instance UID.
    Study,
    /// SOP Instance UID.
    Instance,
}

/// What [`Lookup::QcRun`] finds the control runs of a test on a link by.
pub fn qc_run_key(link: &str, code: &str) -> String {
    format!("{link}\u{1f}{code}")
}

impl Lookup {
    pub(super) fn domain(self) -> &'static str {
        match self {
            Lookup::Specimen => "specimen",
            Lookup::Patient => "patient",
            Lookup::Order => "order",
            Lookup::Control => "control",
            Lookup::Message => "message",
            Lookup::QcRun => "qc-run",
            Lookup::Accession => "accession",
            Lookup::Study => "study",
            Lookup::Instance => "sop-instance",
        }
    }
}

/// The outcome of interpreting one entry, filed in one transaction.
pub struct Filing {
    /// The entry.
    pub entry: EntryId,
    /// Driver and version that read it.
    pub driver: String,
    /// Results in it, counted independently of the reports; the loss account is checked against it (invariant I7).
    pub inbound_results: u32,
    /// Records that are no result: their number in the message and why (closed set of reasons).
    pub refused: Vec<(u32, String)>,
    /// Its reports.
    pub reports: Vec<FiledReport>,
    /// Results held before that this entry has come to cover, and how: nobody needs to look at them any more.
    pub covers: Vec<(HoldId, String)>,
    /// The series and study it belongs to, when it is an instance that says so and is filed for the first time.
    pub placement: Option<Placement>,
}

/// One report of an entry and what becomes of its results.
pub struct FiledReport {
    /// What it is about: specimen and tests. It is so within its link, unless it begins with
    /// [`FiledReport::OF_EVERY_LINK`].
    pub subject_key: Vec<u8>,
    /// What it says: values, units, flags, status, but no times.
    pub content_key: Vec<u8>,
    /// When it was measured, Unix seconds.
    pub completed_at_s: Option<i64>,
    /// The report this one repeats. All its results then count as repeated, and nothing is sent.
    pub repeat_of: Option<ReportId>,
    /// Identifiers it can be found by.
    pub lookups: Vec<(Lookup, String)>,
    /// The canonical report.
    pub json: Vec<u8>,
    /// Number of results in it.
    pub results: u32,
    /// What the rules decided, as JSON without values; empty when no rule had to.
    pub decisions: String,
    /// Results that wait for a person.
    pub holds: Vec<NewHold>,
    /// Messages that carry all results that are not held; empty when no destination takes this link's results.
    pub outbox: Vec<NewOutbound>,
    /// Where the orders stand that these messages answer.
    pub answered: Vec<Answered>,
    /// State of the orders this was decided by ([`super::Reader::orders_as_of`]).
    pub orders_as_of: i64,
}

impl FiledReport {
    /// A subject key that begins so is about the same thing whatever link tells of it.
    pub const OF_EVERY_LINK: &[u8] = b"\0box\0";
}

/// An order that results go out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The order.
    pub order: WorkOrderId,
    /// Where it stands then: in progress after preliminary results, done after final ones.
    pub status: OrderStatus,
}

/// A result that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold {
    /// Its place in the report's observations, from 0.
    pub observation: u32,
    /// Why.
    pub grounds: Grounds,
}

/// Why a result is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grounds {
    /// Why, from a closed set.
    pub reason: &'static str,
    /// Name and version of the rule that holds it, `name@version`, when a rule does.
    pub rule: Option<String>,
    /// Why, in plain words and without patient data.
    pub why: String,
}

/// A message to one destination.
#[derive(Clone, PartialEq, Eq)]
pub struct NewOutbound {
    /// Name of the destination.
    pub destination: String,
    /// Ordering key; only its keyed hash is stored.
    pub lane: String,
    /// MSH-10 or Bundle identifier.
    pub message_id: String,
    /// The bytes to send, now and at every retry (invariant I5).
    pub body: Vec<u8>,
    /// Results it carries.
    pub results: u32,
    /// What its destination has of a document by this message, as JSON ([`super::Reader::charted`]); empty of others.
    pub charted: Vec<u8>,
}

/// What a filing made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filed {
    /// The reports, in the filing's order. Empty when the entry was not waiting any more.
    pub reports: Vec<ReportId>,
    /// Messages queued.
    pub queued: usize,
    /// Results held.
    pub held: usize,
}

/// The report last filed about a subject.
#[derive(Clone)]
pub struct Latest {
    /// Its number.
    pub report: ReportId,
    /// When it was measured, Unix seconds.
    pub completed_at_s: Option<i64>,
    pub(super) entry: EntryId,
    pub(super) held: bool,
    pub(super) undone: bool,
    pub(super) content: [u8; 32],
    pub(super) seal: Arc<Seal>,
}

impl Latest {
    /// True when it was made of this very entry and some of it is still held: interpreting the entry again then decides
    /// again, and repeats nothing.
    pub fn is_held_of(&self, entry: EntryId) -> bool {
        self.entry == entry && self.held
    }

    /// The entry it was made of.
    pub fn entry(&self) -> EntryId {
        self.entry
    }

    /// True when it was made of this very entry, which is interpreted again.
    pub fn is_of(&self, entry: EntryId) -> bool {
        self.entry == entry
    }

    /// True when something of it was held and its entry was then interpreted again: it is to be decided about anew.
    pub fn is_undone(&self) -> bool {
        self.undone
    }

    /// True when that report said the same as one with this content key.
    pub fn same_content(&self, content_key: &[u8]) -> bool {
        self.content == self.seal.digest("content", &[content_key])
    }
}

/// Results a person released, ready to be mapped and filed.
#[derive(Clone, PartialEq, Eq)]
pub struct Released {
    /// Their report.
    pub report: ReportId,
    /// Which release of this report this is. Stays the same until it is filed.
    pub serial: i64,
    /// Its entry.
    pub entry: EntryId,
    /// The link the report came in on.
    pub link: String,
    /// The driver that read it, `id@version`.
    pub driver: String,
    /// When the entry was taken into custody, Unix milliseconds.
    pub received_at_ms: i64,
    /// Which observations, from 0, ascending.
    pub observations: Vec<u32>,
    /// Why each of them was held.
    pub reasons: Vec<String>,
    /// True when an order released them, not a person: they are decided about once more.
    pub rematch: bool,
    /// The canonical report.
    pub json: Vec<u8>,
    /// What the rules decided about it when it was filed, as JSON; empty when no rule had to.
    pub decisions: String,
    pub(super) holds: Vec<HoldId>,
}

/// What becomes of released results, as long as all of them are released: of what a person discarded since, nothing goes
/// out, and what is left is read again.
pub struct ReleaseFiling {
    pub(super) report: ReportId,
    pub(super) holds: Vec<HoldId>,
    pub(super) outcome: ReleaseOutcome,
    pub(super) answered: Vec<Answered>,
    pub(super) orders_as_of: i64,
    pub(super) decisions: Option<String>,
    pub(super) lookups: Vec<(Lookup, String)>,
    pub(super) covers: Vec<HoldId>,
    pub(super) told: Vec<Told>,
}

pub(super) enum ReleaseOutcome {
    Sent(Vec<NewOutbound>),
    HeldAgain(Grounds),
    /// What is told takes the place of what was released.
    Anew,
    /// What was released is settled after more was told.
    Begun,
}

impl Released {
    /// The same, with only those results whose place in the list fits.
    pub fn only(&self, fits: impl Fn(usize) -> bool) -> Released {
        fn kept<T: Clone>(all: &[T], fits: &impl Fn(usize) -> bool) -> Vec<T> {
            all.iter().enumerate().filter(|(at, _)| fits(*at)).map(|(_, item)| item.clone()).collect()
        }
        Released {
            report: self.report,
            serial: self.serial,
            entry: self.entry,
            link: self.link.clone(),
            driver: self.driver.clone(),
            received_at_ms: self.received_at_ms,
            observations: kept(&self.observations, &fits),
            reasons: kept(&self.reasons, &fits),
            rematch: self.rematch,
            json: self.json.clone(),
            decisions: self.decisions.clone(),
            holds: kept(&self.holds, &fits),
        }
    }
}

impl ReleaseFiling {
    /// The released results go out in these messages, for these orders.
    pub fn sent(item: &Released, outbox: Vec<NewOutbound>, answered: Vec<Answered>) -> Self {
        ReleaseFiling { answered, ..ReleaseFiling::new(item, ReleaseOutcome::Sent(outbox)) }
    }

    /// The released results cannot be sent after all and are held on other grounds.
    pub fn held_again(item: &Released, grounds: Grounds) -> Self {
        ReleaseFiling::new(item, ReleaseOutcome::HeldAgain(grounds))
    }

    /// This is filed in place of what was released, to be told or held.
    pub fn anew(item: &Released, told: Vec<Told>) -> Self {
        ReleaseFiling::new(item, ReleaseOutcome::Anew).told(told)
    }

    /// This is told by the release, and what was released is settled by a filing that comes after it.
    pub fn begun(item: &Released, told: Vec<Told>) -> Self {
        ReleaseFiling::new(item, ReleaseOutcome::Begun).told(told)
    }

    fn new(item: &Released, outcome: ReleaseOutcome) -> Self {
        ReleaseFiling {
            report: item.report,
            holds: item.holds.clone(),
            outcome,
            answered: Vec::new(),
            orders_as_of: i64::MAX,
            decisions: None,
            lookups: Vec::new(),
            covers: Vec::new(),
            told: Vec::new(),
        }
    }

    /// State of the orders this was decided by: what came after it is looked at once more.
    pub fn orders_as_of(self, orders_as_of: i64) -> Self {
        ReleaseFiling { orders_as_of, ..self }
    }

    /// What the rules decide now about the report, as JSON, in place of what they decided before.
    pub fn decisions(self, decisions: String) -> Self {
        ReleaseFiling { decisions: Some(decisions), ..self }
    }

    /// What else is held and has its place taken by what goes out.
    pub fn covers(self, covers: Vec<HoldId>) -> Self {
        ReleaseFiling { covers, ..self }
    }

    /// What EHRs are told before it goes out.
    pub fn told(self, told: Vec<Told>) -> Self {
        ReleaseFiling { told, ..self }
    }

    /// What the report may be searched by besides, since its order is known.
    pub fn lookups(self, lookups: Vec<(Lookup, String)>) -> Self {
        ReleaseFiling { lookups, ..self }
    }
}

/// A message a deliverer holds until it settles it.
#[derive(Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Its number.
    pub id: OutboxId,
    /// Keyed hash of its ordering key: equal for messages of one lane.
    pub lane: i64,
    /// MSH-10 or Bundle identifier.
    pub message_id: String,
    /// The bytes to send.
    pub body: Vec<u8>,
    /// Results it carries.
    pub results: u32,
    /// Counted attempts that failed so far.
    pub attempts: u32,
    /// When its entry was taken into custody, Unix milliseconds.
    pub received_at_ms: i64,
}

impl std::fmt::Debug for Outbound {
    /// Never prints the bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("id", &self.id)
            .field("message_id", &self.message_id)
            .field("len", &self.body.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// How one attempt to deliver ended. Texts hold no patient data: they are stored and shown unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The destination has it.
    Delivered {
        /// What it answered, in short.
        answer: String,
    },
    /// The same, and it is to be asked to commit to keep it (storage commitment).
    Entrusted {
        /// What it answered, in short.
        answer: String,
    },
    /// This message failed: it and its lane wait. Counts as an attempt.
    Retry {
        /// At least this long.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// Nothing was tried, or the destination could not be reached: back as it was, due at once, not counted.
    Return,
    /// The destination will never take it. A person must look; the lane goes on.
    Park {
        /// Why.
        reason: String,
    },
}
