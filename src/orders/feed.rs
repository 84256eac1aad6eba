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
//! changes nothing (I4). A request that changes while its order is open changes the order, as an XO would (`decided`).
//! One that is put `on-hold` takes its order off the worklist until it is active again.
//!
//! Servers may ignore what they do not know of a search, so the search is strict where they take that, and what it asks
//! for is looked at in each request (`wanted`): another department's is counted and left out, and not kept.
//!
//! An answer of more than 8 MB is not read. Of a page that is too long only the ids and versions are taken (`heads`), and
//! its requests are asked for one by one: those of which it tells no version in each round. A request that is too long by
//! itself is counted and left out, and those behind it go on. One that the server fails to show, or whose patient it does
//! not show, is asked for again later (`aside`), and those behind it go on.
//!
//! No search tells what was deleted. So the open orders are looked at one by one, over and over (`look`), and an order
//! whose request the server surely has no more is taken back. What was, and is shown again, is ordered again.

mod aside;
pub mod config;
pub(crate) mod cursor;
mod decided;
mod heads;
mod known;
mod look;
mod page;
mod wanted;

pub use config::Config;

use super::read::service_request;
use crate::backoff::Backoff;
use crate::clinical::OrderNumber;
use crate::delivery::fhir::{Fhir, Found, Unread};
use crate::journal::{EntryId, Journal, JournalError, OrderOutcome, SharedReader};
use crate::link::LinkCounters;
use crate::wire::{Event, Persist, Protocol, Token};
use aside::Aside;
use cursor::Cursor;
use decided::{Decided, gone_identity};
use heads::Heads;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use known::Laps;
use page::{Asked, Page};
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

/// Reads that may fail one after the other before it is the server that fails.
const FAILED_MAX: usize = 3;

/// Why a search has no page.
const NO_SEARCH: &str = "404: is the url right?";
const NO_PAGE: &str = "the answer is no Bundle of search results, or a page lists more than 100,000 ServiceRequests, or such \
                       whose ids are longer than 19 MB in all";
/// Why a request, or its patient, is left out.
const NOT_ASKED_FOR: &str = "a ServiceRequest is not what the query asks for";
const NOT_SHOWN: &str = "a ServiceRequest is listed and not shown";
const TOO_LARGE: &str = "a ServiceRequest is larger than 8 MB";
const SET_ASIDE: &str = "a ServiceRequest or its Patient cannot be read now and is asked for again";
const GIVEN_UP: &str = "a ServiceRequest or its Patient could not be read for a day";
const NONE_SHOWN: &str =
    "the server shows neither the open orders' ServiceRequests nor their Patients, or nothing that the query asks for";
const LONG_PAGE: &str = "a page of the search is larger than 8 MB, and its ServiceRequests are asked for one by one";
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
    aside: Aside,
    counters: Arc<LinkCounters>,
}

impl Feed {
    /// A feed that asks when it runs. `zone` is that of times without one; how far it came is kept below `data`.
    pub fn new(config: &Config, journal: &Journal, zone: &TimeZone, data: &Path) -> Feed {
        let first = SignedDuration::from_hours(24 * i64::from(config.first_days));
        let cursor = Cursor::open(data, &config.name, &[&config.url, &config.query], Timestamp::now() - first);
        Feed {
            journal: journal.clone(),
            reader: Arc::new(SharedReader::new(journal)),
            zone: zone.clone(),
            server: Fhir::new(Arc::new(config.server())),
            wanted: Arc::new(Wanted::by(&config.query)),
            is_strict: true,
            aside: Aside::of(cursor.aside(), Instant::now()),
            cursor,
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
        let again = self.ask_again().await?;
        Ok(again + self.search().await? + self.look_at_known().await?)
    }

    async fn search(&mut self) -> Result<usize, String> {
        let mut all = 0;
        for _ in 0..PASSES_MAX {
            let pass = match self.pass(Listing::Whole).await {
                Err(unread) if unread.is_too_long => {
                    self.counters.event(&Event::Odd(LONG_PAGE));
                    self.pass(Listing::Ids).await
                }
                pass => pass,
            };
            let pass = pass.map_err(|unread| unread.reason)?;
            all += pass.new;
            // What changes while pages are turned moves to the end, and what follows it slips onto a page already read.
            if pass.pages > 1 && pass.new > 0 {
                continue;
            }
            // A time the server gave that is yet to come would hide what comes until then.
            let (mut cursor, until) = (self.cursor.clone(), pass.newest.min(Timestamp::now()));
            let aside = self.aside.ids();
            let advance = move || cursor.advance(until, aside).map(|()| cursor);
            self.cursor = beside(advance)
                .await?
                .map_err(|error| format!("how far the server was read cannot be kept: {error}"))?;
            break;
        }
        Ok(all)
    }

    async fn pass(&mut self, listing: Listing) -> Result<Pass, Unread> {
        let (mut pass, mut seen) = (Pass { new: 0, pages: 0, newest: self.cursor.since() }, HashSet::new());
        let mut address = Some(self.first_page(listing));
        let mut failed = 0;
        while let Some(here) = address.take() {
            if pass.pages == PAGES_MAX {
                return Err(Unread::odd(format!("there are more than {PAGES_MAX} pages: narrow the `query`")));
            }
            pass.pages += 1;
            let page = self.page(&here, listing).await?;
            for asked in page.requests {
                pass.newest = pass.newest.max(asked.last_updated.unwrap_or(pass.newest));
                let digest = asked.digest;
                let is_seen = digest.is_some_and(|digest| self.seen.contains(&digest) || seen.contains(&digest));
                if !is_seen && !self.aside.holds(&asked.id) {
                    let (id, address) = (asked.id.clone(), asked.address());
                    match self.take_listed(asked, listing).await {
                        Ok(is_new) => (pass.new, failed) = (pass.new + usize::from(is_new), 0),
                        Err(Untaken::Ours(reason)) => return Err(Unread::odd(reason)),
                        Err(Untaken::Theirs(unread)) => {
                            failed += 1;
                            let is_aside = address.is_some() && self.aside.add(&id, Instant::now());
                            if is_aside {
                                self.leave_out(SET_ASIDE, &address.unwrap_or_default());
                            }
                            if !is_aside || failed == FAILED_MAX {
                                return Err(Unread::odd(unread.reason));
                            }
                        }
                    }
                }
                seen.extend(digest);
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

    async fn page(&mut self, address: &str, listing: Listing) -> Result<Page, Unread> {
        let mut read = self.listed(address, listing, self.is_strict).await;
        if self.is_strict && read.as_ref().is_err_and(|unread| !unread.may_pass && !unread.is_too_long) {
            let lenient = self.listed(address, listing, false).await;
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
        read?.ok_or_else(|| Unread::odd(NO_PAGE))
    }

    /// The page at an address, once; `None` when there is something else.
    async fn listed(&mut self, address: &str, listing: Listing, is_strict: bool) -> Result<Option<Page>, Unread> {
        let there = match listing {
            Listing::Whole => self.server.search(address, is_strict).await?.there(),
            Listing::Ids => {
                let mut heads = Heads::default();
                let found = self.server.list(address, is_strict, &mut |piece| heads.push(piece)).await?;
                return match found {
                    Found::There(_) => Ok(heads.finish()),
                    _ => Err(Unread::odd(NO_SEARCH)),
                };
            }
        };
        let raw = there.ok_or_else(|| Unread::odd(NO_SEARCH))?;
        beside(move || Page::read(&raw)).await.map_err(Unread::odd)
    }

    /// Takes a request of a page; tells whether it is new.
    async fn take_listed(&mut self, listed: Asked, listing: Listing) -> Result<bool, Untaken> {
        let id = listed.id.clone();
        let asked = match (listing, listed.address()) {
            (Listing::Whole, _) => Some(listed),
            (Listing::Ids, None) => None,
            (Listing::Ids, Some(address)) => self.read(&address).await?,
        };
        let Some(asked) = asked else { return Ok(false) };
        let taken = self.take_wanted(asked).await?;
        if taken.waits {
            self.aside.add(&id, Instant::now());
        }
        Ok(taken.is_new)
    }

    /// Asks again for what could not be taken before; tells how many were new.
    async fn ask_again(&mut self) -> Result<usize, String> {
        let (mut new, mut failed) = (0, 0);
        for id in self.aside.due(Instant::now()) {
            let address = format!("ServiceRequest/{id}");
            let taken = match self.read(&address).await {
                Ok(Some(asked)) => self.take_wanted(asked).await,
                Ok(None) => Ok(Taken::default()),
                Err(untaken) => Err(untaken),
            };
            let waits = match taken {
                Ok(taken) => {
                    (new, failed) = (new + usize::from(taken.is_new), 0);
                    taken.waits
                }
                Err(Untaken::Ours(reason)) => return Err(reason),
                Err(Untaken::Theirs(_)) => {
                    failed += 1;
                    true
                }
            };
            if !waits {
                self.aside.remove(&id);
            } else if self.aside.failed(&id, Instant::now()) {
                self.leave_out(GIVEN_UP, &address);
            }
            if failed == FAILED_MAX {
                break;
            }
        }
        Ok(new)
    }

    /// The request at an address; `None` when there is none, or none that will ever be read.
    async fn read(&mut self, address: &str) -> Result<Option<Asked>, Untaken> {
        match self.server.read(address).await {
            Ok(Found::There(raw)) => Ok(beside(move || Asked::read(raw)).await?),
            // It went since the list was made.
            Ok(Found::Gone | Found::Nowhere) => Ok(None),
            Err(unread) if unread.may_pass => Err(Untaken::Theirs(unread)),
            Err(unread) => {
                self.leave_out(if unread.is_too_long { TOO_LARGE } else { NOT_SHOWN }, address);
                Ok(None)
            }
        }
    }

    /// Takes a request if it is what is asked for.
    async fn take_wanted(&mut self, asked: Asked) -> Result<Taken, Untaken> {
        if !self.wanted.asks_for(&asked.coded) {
            self.counters.event(&Event::Refused(NOT_ASKED_FOR));
            return Ok(Taken::default());
        }
        let (asked, waits) = self.with_patient(asked).await?;
        let taken = self.take(asked, None).await?;
        Ok(Taken { waits: taken.waits || waits, ..taken })
    }

    /// Counts what is not kept. `address` names the resource at the server, which says nothing of the patient.
    fn leave_out(&self, reason: &'static str, address: &str) {
        tracing::warn!(link = self.config.name, resource = address, reason, "a resource is left out");
        self.counters.event(&Event::Refused(reason));
    }

    /// The request with its patient, who is asked for when the page does not hold them. Without a patient whom the server
    /// does not give: the request is then kept and orders nothing. True when the patient may be there later.
    async fn with_patient(&mut self, mut asked: Asked) -> Result<(Asked, bool), Untaken> {
        if asked.patient.is_some() || !asked.names_a_patient() {
            return Ok((asked, false));
        }
        let (found, is_too_long) = match self.server.read(&asked.subject).await {
            Err(unread) if unread.may_pass => return Err(Untaken::Theirs(unread)),
            Err(unread) => (None, unread.is_too_long),
            Ok(found) => (found.there(), false),
        };
        if is_too_long {
            self.leave_out(PATIENT_TOO_LARGE, &asked.address().unwrap_or_default());
        }
        let found = found.and_then(|raw| String::from_utf8(raw).ok()).filter(|text| page::is_patient(text));
        asked.patient = found.map(Arc::from);
        let waits = asked.patient.is_none() && !is_too_long;
        Ok((asked, waits))
    }

    /// Makes a request durable with the order it makes, and in one with that the order that `instead_of` brought is taken
    /// back, under its number.
    async fn take(&self, asked: Asked, instead_of: Option<(EntryId, OrderNumber)>) -> Result<Taken, String> {
        let (reader, source, zone) = (self.reader.clone(), self.config.name.clone(), self.zone.clone());
        let decide = move || {
            let bytes = asked.bundle();
            let read = service_request::read_one(&bytes, &zone);
            let decided = reader.read(|reader| Decided::about(read, &asked, reader, &source))?;
            Ok::<_, JournalError>(match (decided, instead_of) {
                (Some(decided), Some((before, number))) => {
                    Some((gone_identity(before), decided.instead_of(number), bytes))
                }
                (None, Some((before, number))) => Some((gone_identity(before), Decided::taken_back(number), bytes)),
                (Some(decided), None) => Some((decided.identity(&bytes), decided, bytes)),
                (None, None) => None,
            })
        };
        let decided = beside(decide).await?.map_err(|error| error.to_string())?;
        let Some((identity, decided, bytes)) = decided else { return Ok(Taken::default()) };
        let waits = decided.waits;
        Ok(Taken { is_new: self.keep(bytes, identity, decided).await?, waits })
    }

    /// Makes durable what came with what it changes; tells whether it is new.
    async fn keep(&self, bytes: Vec<u8>, identity: [u8; 32], decided: Decided) -> Result<bool, String> {
        let Decided { changes, refused, .. } = decided;
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

/// What became of a request.
#[derive(Default)]
struct Taken {
    /// True when it was not known.
    is_new: bool,
    /// True when it may become an order later.
    waits: bool,
}

/// Why a request was not taken.
enum Untaken {
    /// Nothing can be kept now.
    Ours(String),
    /// The server did not show it, or its patient.
    Theirs(Unread),
}

impl From<String> for Untaken {
    fn from(reason: String) -> Untaken {
        Untaken::Ours(reason)
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

/// What a pass over all pages found.
struct Pass {
    /// Requests that were new.
    new: usize,
    pages: usize,
    /// `meta.lastUpdated` of the newest.
    newest: Timestamp,
}

#[cfg(test)]
mod tests;
