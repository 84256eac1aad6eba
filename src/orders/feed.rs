//! A feed: a FHIR server that is asked for ServiceRequests again and again, where no EHR dials the box.
//!
//! ```text
//! GET ServiceRequest?<query>&_lastUpdated=ge<since> -> page after page
//!   -> each request with its patient -> COMMIT (as they came, and the order they make) -> `since` moves on
//! GET ServiceRequest/<id> of orders that are open here -> COMMIT (what changed, or that it is gone)
//! ```
//!
//! How far the server was read is on disk only after everything before it is in custody (invariant I1), and the next
//! round looks a minute further back: servers show what was written a little late. What comes again, by its bytes,
//! changes nothing (I4). A request that changes while its order is open changes the order, as an XO would. One that is put
//! `on-hold` takes its order off the worklist until it is active again.
//!
//! Servers may ignore what they do not know of a search, so the search is strict where they take that, and what it asks
//! for is looked at in each request ([`wanted`]): another department's is counted and left out, and not kept.
//!
//! An answer of more than 8 MB is not read. A page that is too long is asked for as a list of ids, and its requests one
//! by one; a request that is too long by itself is counted and left out, and those behind it go on.
//!
//! No search tells what was deleted. So the open orders are looked at one by one, over and over ([`known`]): what the
//! server does not have twice in a row is taken back.

pub mod config;
mod cursor;
mod known;
mod page;
mod wanted;

pub use config::Config;

use super::read::service_request::{self, RequestFault};
use crate::backoff::Backoff;
use crate::clinical::{OrderNumber, OrderStatus, Phi};
use crate::delivery::fhir::Fhir;
use crate::journal::{Journal, JournalError, OrderChange, OrderOutcome, Reader, SharedReader};
use crate::link::LinkCounters;
use crate::wire::{Event, Persist, Protocol, Token};
use cursor::Cursor;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use known::{Known, Laps};
use page::{Asked, Page, digest_of};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wanted::Wanted;

/// Requests the server is to put in one page.
const PAGE_REQUESTS: usize = 100;
/// Most pages of one pass.
const PAGES_MAX: usize = 2_000;
/// Most passes of one round.
const PASSES_MAX: usize = 10;
/// How much further back the next round looks.
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// First and longest pause after a round that failed.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Reads of open orders that may fail in one round before the rest waits for the next lap.
const LOOKS_FAILED_MAX: usize = 3;

/// Why a request, or its patient, is left out.
const NOT_ASKED_FOR: &str = "a ServiceRequest is not what the query asks for";
const NOT_SHOWN: &str = "a ServiceRequest is listed and not shown";
const TOO_LARGE: &str = "a ServiceRequest is larger than 8 MB";
const PATIENT_TOO_LARGE: &str = "the Patient of a ServiceRequest is larger than 8 MB";

/// Numbers custody requests: each is whole and ends its own session.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// A feed of orders.
pub struct Feed {
    config: Config,
    journal: Journal,
    reader: Arc<SharedReader>,
    zone: TimeZone,
    server: Fhir,
    wanted: Arc<Wanted>,
    /// False once the server refused a search that was strict and answered the same one that was not.
    is_strict: bool,
    cursor: Cursor,
    /// Digests of the requests that the last pass found.
    seen: HashSet<[u8; 32]>,
    laps: Laps,
    counters: Arc<LinkCounters>,
}

impl Feed {
    /// A feed that asks when it runs. `zone` is that of times without one; how far it came is kept below `data`.
    pub fn new(config: &Config, journal: &Journal, zone: &TimeZone, data: &Path) -> Feed {
        let first = SignedDuration::from_hours(24 * i64::from(config.first_days));
        Feed {
            journal: journal.clone(),
            reader: Arc::new(SharedReader::new(journal)),
            zone: zone.clone(),
            server: Fhir::new(Arc::new(config.server())),
            wanted: Arc::new(Wanted::by(&config.query)),
            is_strict: true,
            cursor: Cursor::open(data, &config.name, &[&config.url, &config.query], Timestamp::now() - first),
            seen: HashSet::new(),
            laps: Laps::default(),
            // The protocol only says how bytes are shown, and none are.
            counters: Arc::new(LinkCounters::new(&config.name, Protocol::Lines)),
            config: config.clone(),
        }
    }

    /// What it counts, for health and people.
    pub fn counters(&self) -> Arc<LinkCounters> {
        self.counters.clone()
    }

    /// Asks until `stopped` becomes true.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let round = tokio::select! {
                round = self.round() => round,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            let pause = match round {
                Ok(orders) => {
                    self.counters.up("the server answers");
                    if orders > 0 {
                        tracing::info!(link = self.config.name, orders, "orders came");
                    }
                    backoff.succeeded();
                    Duration::from_secs(self.config.poll_s.into())
                }
                Err(reason) => {
                    self.counters.down("no orders can be fetched", &reason);
                    backoff.failed()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Asks for everything since the last time, and for some of what is open; tells how many requests were new.
    async fn round(&mut self) -> Result<usize, String> {
        Ok(self.search().await? + self.look_at_known().await?)
    }

    async fn search(&mut self) -> Result<usize, String> {
        let mut all = 0;
        for _ in 0..PASSES_MAX {
            let pass = match self.pass(Listing::Whole).await {
                Err(Stopped::TooLong) => self.pass(Listing::Ids).await,
                pass => pass,
            };
            let pass = pass.map_err(|stopped| match stopped {
                Stopped::TooLong => "a page of ids is larger than 8 MB: does the server know `_elements`?".to_owned(),
                Stopped::For(reason) => reason,
            })?;
            all += pass.new;
            // What changes while pages are turned moves to the end, and what follows it slips onto a page already read.
            if pass.pages > 1 && pass.new > 0 {
                continue;
            }
            // A time the server gave that is yet to come would hide what comes until then.
            let (mut cursor, until) = (self.cursor.clone(), pass.newest.min(Timestamp::now()));
            let advance = move || cursor.advance(until).map(|()| cursor);
            self.cursor = beside(advance)
                .await?
                .map_err(|error| format!("how far the server was read cannot be kept: {error}"))?;
            break;
        }
        Ok(all)
    }

    async fn pass(&mut self, listing: Listing) -> Result<Pass, Stopped> {
        let (mut pass, mut seen) = (Pass { new: 0, pages: 0, newest: self.cursor.since() }, HashSet::new());
        let mut address = Some(self.first_page(listing));
        while let Some(here) = address.take() {
            if pass.pages == PAGES_MAX {
                return Err(format!("there are more than {PAGES_MAX} pages: narrow the `query`").into());
            }
            pass.pages += 1;
            let page = self.page(&here).await?;
            for asked in page.requests {
                pass.newest = pass.newest.max(asked.last_updated.unwrap_or(pass.newest));
                let digest = asked.digest;
                if !self.seen.contains(&digest) && !seen.contains(&digest) {
                    pass.new += usize::from(self.take_listed(asked, listing).await?);
                }
                seen.insert(digest);
            }
            address = page.next;
        }
        self.seen = seen;
        Ok(pass)
    }

    fn first_page(&self, listing: Listing) -> String {
        let since = (self.cursor.since() - OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ");
        let query = Some(self.config.query.as_str()).filter(|query| !query.is_empty());
        // A bar is no character of an address, and some servers refuse it.
        let query = query.map(|query| format!("{}&", query.replace('|', "%7C"))).unwrap_or_default();
        let what = match listing {
            Listing::Whole => "_include=ServiceRequest:subject",
            Listing::Ids => "_elements=id,meta",
        };
        format!("ServiceRequest?{query}_lastUpdated=ge{since}&_sort=_lastUpdated&{what}&_count={PAGE_REQUESTS}")
    }

    async fn page(&mut self, address: &str) -> Result<Page, Stopped> {
        let mut read = self.server.search(address, self.is_strict).await;
        if self.is_strict && read.as_ref().is_err_and(|unread| !unread.may_pass && !unread.is_too_long) {
            let lenient = self.server.search(address, false).await;
            if lenient.as_ref().map_or_else(|unread| unread.is_too_long, |_| true) {
                self.is_strict = false;
                tracing::warn!(
                    link = self.config.name,
                    "the server refuses a strict search, so it may ignore part of the `query`: category and code are \
                     looked at in each request"
                );
                read = lenient;
            }
        }
        let read = read.map_err(|unread| match unread.is_too_long {
            true => Stopped::TooLong,
            false => Stopped::For(unread.reason),
        })?;
        let raw = read.ok_or_else(|| "404: is the url right?".to_owned())?;
        let page = beside(move || Page::read(&raw)).await?;
        Ok(page.ok_or_else(|| "the answer is no Bundle of search results".to_owned())?)
    }

    /// Takes a request of a page; tells whether it is new.
    async fn take_listed(&mut self, listed: Asked, listing: Listing) -> Result<bool, String> {
        let asked = match (listing, listed.address()) {
            (Listing::Whole, _) => listed,
            (Listing::Ids, None) => return Ok(false),
            (Listing::Ids, Some(address)) => match self.server.read(&address).await {
                Ok(Some(raw)) => match beside(move || Asked::read(raw)).await? {
                    Some(asked) => asked,
                    None => return Ok(false),
                },
                // It went since the list was made.
                Ok(None) => return Ok(false),
                Err(unread) if unread.may_pass => return Err(unread.reason),
                Err(unread) => {
                    self.leave_out(if unread.is_too_long { TOO_LARGE } else { NOT_SHOWN }, &address);
                    return Ok(false);
                }
            },
        };
        if !self.wanted.asks_for(&asked.coded) {
            self.counters.event(&Event::Refused(NOT_ASKED_FOR));
            return Ok(false);
        }
        let asked = self.with_patient(asked).await?;
        self.take(asked).await
    }

    /// Counts what is not kept. `address` names the resource at the server, which says nothing of the patient.
    fn leave_out(&self, reason: &'static str, address: &str) {
        tracing::warn!(link = self.config.name, resource = address, reason, "a resource is left out");
        self.counters.event(&Event::Refused(reason));
    }

    /// The request with its patient, who is asked for when the page does not hold them. Without a patient whom the server
    /// does not give: the request is then kept and orders nothing, and those behind it go on.
    async fn with_patient(&mut self, mut asked: Asked) -> Result<Asked, String> {
        if asked.patient.is_none() && asked.names_a_patient() {
            let found = match self.server.read(&asked.subject).await {
                Err(unread) if unread.may_pass => return Err(unread.reason),
                Err(unread) if unread.is_too_long => {
                    let address = asked.address().unwrap_or_default();
                    self.leave_out(PATIENT_TOO_LARGE, &address);
                    None
                }
                found => found.ok().flatten(),
            };
            asked.patient = found.and_then(|raw| String::from_utf8(raw).ok()).filter(|text| page::is_patient(text));
        }
        Ok(asked)
    }

    /// Reads some of the requests whose orders are open here; tells how many had changed.
    async fn look_at_known(&mut self) -> Result<usize, String> {
        let (reader, source, mut laps) = (self.reader.clone(), self.config.name.clone(), self.laps.clone());
        let next = move || reader.read(|reader| laps.next(reader, &source, Instant::now()).map(|next| (next, laps)));
        let (next, laps) = beside(next).await?.map_err(|error| error.to_string())?;
        self.laps = laps;
        let (mut changed, mut failed) = (0, 0);
        for (id, was_missed) in next {
            let reader = self.reader.clone();
            let known = beside(move || reader.read(|reader| Known::read(reader, id))).await?;
            let known = match known {
                Ok(Some(known)) => known,
                // One that is damaged was told when it was opened.
                Ok(None) | Err(JournalError::Damaged | JournalError::NotFound(_)) => continue,
                Err(error) => return Err(error.to_string()),
            };
            match self.server.read(&known.address).await {
                Ok(Some(raw)) => changed += usize::from(self.look_again(known, raw).await?),
                Ok(None) if was_missed => {
                    let gone = known.deletion(Timestamp::now());
                    let identity = digest_of(&gone);
                    changed += usize::from(self.keep(gone, identity, Decided::taken_back(known.number)).await?);
                }
                Ok(None) => self.laps.missed(id),
                // The search was answered, so this is about one request, or passes. The next lap asks again.
                Err(unread) => {
                    tracing::debug!(link = self.config.name, order = id.0, "a request is not shown: {}", unread.reason);
                    failed += 1;
                    if failed == LOOKS_FAILED_MAX {
                        break;
                    }
                }
            }
        }
        Ok(changed)
    }

    /// Takes what the server says now of a request whose order is open.
    async fn look_again(&mut self, known: Known, raw: Vec<u8>) -> Result<bool, String> {
        let wanted = self.wanted.clone();
        let Some(changed) = beside(move || known.changed(raw, &wanted)).await? else { return Ok(false) };
        let (mut asked, mut is_new) = (changed.asked, false);
        if changed.is_wanted {
            asked = self.with_patient(asked).await?;
        }
        if let Some(number) = changed.gone {
            let bytes = asked.bundle();
            // As a request it may be known already; that it takes back the order before it is not.
            let identity = digest_of(&[changed.before.to_string().as_bytes(), &bytes[..]].concat());
            is_new = self.keep(bytes, identity, Decided::taken_back(number)).await?;
        }
        Ok(changed.is_wanted && self.take(asked).await? || is_new)
    }

    /// Makes a request durable with the order it makes; tells whether it is new.
    async fn take(&self, asked: Asked) -> Result<bool, String> {
        let (reader, source, zone) = (self.reader.clone(), self.config.name.clone(), self.zone.clone());
        let decide = move || {
            let bytes = asked.bundle();
            let read = service_request::read_one(&bytes, &zone);
            let decided = reader.read(|reader| Decided::about(read, reader, &source))?;
            Ok::<_, JournalError>((digest_of(&bytes), bytes, decided))
        };
        let (digest, bytes, decided) = beside(decide).await?.map_err(|error| error.to_string())?;
        self.keep(bytes, digest, decided).await
    }

    /// Makes durable what came with what it changes; tells whether it is new.
    async fn keep(&self, bytes: Vec<u8>, identity: [u8; 32], decided: Decided) -> Result<bool, String> {
        let Decided { changes, refused } = decided;
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let identity = Some(identity.to_vec());
        let part = Persist { token: Token(number), session: number, bytes, completes: true, identity };
        let kept = self.journal.persist_orders(&self.config.name, 0, part, changes, refused, Arc::from([])).await;
        let (stored, _receipt) = kept.map_err(|_| "the journal cannot keep orders now".to_owned())?;
        if stored.is_new {
            self.counters.heard();
            self.counters.completed();
            let refusal = stored.outcomes.iter().find_map(|outcome| match outcome {
                OrderOutcome::Accepted => None,
                OrderOutcome::Unknown => Some("a ServiceRequest takes back what was never ordered"),
                OrderOutcome::Duplicate => Some("a ServiceRequest has the number of another order"),
                OrderOutcome::TooLate => Some("a ServiceRequest comes after its order was done or taken back"),
            });
            if let Some(reason) = refused.or(refusal) {
                tracing::info!(
                    link = self.config.name,
                    entry = stored.entry.0,
                    reason,
                    "a ServiceRequest orders nothing"
                );
                self.counters.event(&Event::Refused(reason));
            }
        }
        Ok(stored.is_new)
    }
}

/// What becomes of a request.
struct Decided {
    changes: Vec<OrderChange>,
    /// Why it changes nothing.
    refused: Option<&'static str>,
}

impl Decided {
    /// FHIR says what is so now, not what is to be done: a request whose order is open here changes it, or lets it rest.
    /// Only this task brings orders under its name, so nothing comes in between.
    fn about(read: Result<OrderChange, RequestFault>, reader: &Reader, source: &str) -> Result<Decided, JournalError> {
        let is_open = |number: &OrderNumber| {
            let known = reader.work_orders_numbered(&number.id)?;
            Ok::<_, JournalError>(known.iter().any(|stored| {
                stored.source == source
                    && stored.status.is_open()
                    && stored.order.number().namespace == number.namespace
            }))
        };
        let change = match read {
            Ok(OrderChange::New(order)) if is_open(order.number())? => Ok(OrderChange::Change(order)),
            Ok(OrderChange::Hold { number }) if !is_open(&number)? => Err(RequestFault::OrdersNothing),
            read => read,
        };
        Ok(match change {
            Ok(change) => Decided { changes: vec![change], refused: None },
            Err(fault) => Decided { changes: Vec::new(), refused: Some(fault.text()) },
        })
    }

    fn taken_back(number: OrderNumber) -> Decided {
        let change = OrderChange::TakeBack { number, specimen: Phi::default(), becomes: OrderStatus::Cancelled };
        Decided { changes: vec![change], refused: None }
    }
}

/// Does what takes long on a thread of its own: links and deliveries go on meanwhile.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the work was broken off".to_owned())
}

/// What a search is answered with.
#[derive(Clone, Copy)]
enum Listing {
    /// Requests with their patients.
    Whole,
    /// Ids of requests, each of which is then asked for.
    Ids,
}

/// Why a pass came to no end.
enum Stopped {
    /// A page is longer than what is read.
    TooLong,
    For(String),
}

impl From<String> for Stopped {
    fn from(reason: String) -> Stopped {
        Stopped::For(reason)
    }
}

/// What a pass over all pages found.
struct Pass {
    /// Requests that were new.
    new: usize,
    pages: usize,
    /// `meta.lastUpdated` of the newest.
    newest: Timestamp,
}
