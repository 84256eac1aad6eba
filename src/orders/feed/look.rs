//! The look at the orders that are open here: what became of their requests.
//!
//! | the server says of a request | its order |
//! |---|---|
//! | here it is, and it is asked for | is changed by what changed in it |
//! | here it is, and it is not asked for | is taken back |
//! | it is gone (410) | is taken back |
//! | it is nowhere (404), twice in a row, and a search finds nothing by its id | is taken back |
//!
//! A wrong url, or a server that was set up anew, says the last two of everything. So they count only of the server that
//! had the requests: it shows one of them still, or the patient of one of those that are gone, by an identifier they had.
//! There may be nobody to ask for, when the patients are within the requests or gone too (410). Then the word of the server
//! about each request counts by itself, as a server that never had it says 404: a 410, twice in a row, when a search is
//! answered and finds nothing by its id. One 404 among them, or one patient whom the server should have and does not show,
//! speaks against the server, and all stay.
//! And a wrong query asks for nothing: where nothing is shown that is asked for, what is shown stays.

use super::decided::{Decided, gone_identity};
use super::known::{Changed, Known, Shown};
use super::page::{self, Asked, Page};
use super::{FAILED_MAX, Feed, NONE_SHOWN, Untaken, beside};
use crate::delivery::fhir::{Found, Unread};
use crate::journal::{JournalError, WorkOrderId};
use crate::wire::Event;
use jiff::Timestamp;
use std::time::Instant;

/// What the server does not show as what is asked for.
enum Absent {
    /// It says that this is gone.
    Gone { id: WorkOrderId, known: Known, was_missed: bool },
    /// It has this nowhere.
    Missed(WorkOrderId),
    /// It has this nowhere again.
    MissedAgain(Known),
    /// It shows this, which is not asked for.
    Unwanted(Box<Changed>),
}

/// What the orders of one round showed.
#[derive(Default)]
struct Looked {
    /// Requests that changed.
    changed: usize,
    /// How many are there, and asked for.
    shown: usize,
    /// Reads that failed.
    failed: usize,
    /// True when the server is the one that had them.
    is_the_server: bool,
}

impl Feed {
    /// Reads some of the requests whose orders are open here; tells how many had changed.
    pub(super) async fn look_at_known(&mut self) -> Result<usize, String> {
        let (reader, source, mut laps) = (self.reader.clone(), self.config.name.clone(), self.laps.clone());
        let next = move || reader.read(|reader| laps.next(reader, &source, Instant::now()).map(|next| (next, laps)));
        let (next, laps) = beside(next).await?.map_err(|error| error.to_string())?;
        self.laps = laps;
        let (mut looked, mut absent) = (Looked::default(), Vec::new());
        for (id, was_missed) in next {
            let reader = self.reader.clone();
            let known = beside(move || reader.read(|reader| Known::read(reader, id))).await?;
            let known = match known {
                Ok(Some(known)) => known,
                // One that is damaged was told when it was opened.
                Ok(None) | Err(JournalError::Damaged | JournalError::NotFound(_)) => continue,
                Err(error) => return Err(error.to_string()),
            };
            match self.look_at(id, known, was_missed, &mut looked).await {
                Ok(found) => absent.extend(found),
                Err(Untaken::Ours(reason)) => return Err(reason),
                // The search was answered, so this is about one request, or passes. The next lap asks again.
                Err(Untaken::Theirs(unread)) => {
                    tracing::debug!(link = self.config.name, order = id.0, "a request is not shown: {}", unread.reason);
                    looked.failed += 1;
                }
            }
            if looked.failed == FAILED_MAX {
                break;
            }
        }
        self.settle(absent, looked).await
    }

    /// Reads one; it, when it is absent.
    async fn look_at(
        &mut self,
        id: WorkOrderId,
        known: Known,
        was_missed: bool,
        looked: &mut Looked,
    ) -> Result<Option<Absent>, Untaken> {
        let raw = match self.server.read(&known.address).await.map_err(Untaken::Theirs)? {
            Found::There(raw) => raw,
            Found::Gone => return Ok(Some(Absent::Gone { id, known, was_missed })),
            Found::Nowhere if was_missed => return Ok(Some(Absent::MissedAgain(known))),
            Found::Nowhere => return Ok(Some(Absent::Missed(id))),
        };
        let (wanted, address) = (self.wanted.clone(), known.address.clone());
        let Some(shown) = beside(move || known.shown(raw, &wanted)).await? else {
            return Err(Untaken::Theirs(Unread::odd("the answer is not the ServiceRequest")));
        };
        looked.is_the_server = true;
        self.laps.witness = Some(address);
        match shown {
            Shown::Same => looked.shown += 1,
            Shown::Changed(changed) if !changed.is_wanted => return Ok(Some(Absent::Unwanted(changed))),
            Shown::Changed(changed) => {
                looked.shown += 1;
                looked.changed += usize::from(self.look_again(changed).await?);
            }
        }
        Ok(None)
    }

    /// Takes back the orders of what is absent, as far as it is sure; tells how many requests had changed in all.
    async fn settle(&mut self, absent: Vec<Absent>, mut looked: Looked) -> Result<usize, String> {
        // True while everything there is to ask says that it is gone, and there is nobody else to ask.
        let mut is_gone = looked.failed == 0;
        is_gone &= !absent.iter().any(|absent| matches!(absent, Absent::Missed(_) | Absent::MissedAgain(_)));
        for absent in &absent {
            if let Absent::Gone { known, .. } | Absent::MissedAgain(known) = absent
                && !looked.is_the_server
            {
                let had = self.had(known).await;
                looked.is_the_server = had == Some(true);
                is_gone &= had.is_none();
            }
        }
        let is_right_query = looked.shown > 0 || absent.len() + looked.failed == 1;
        let mut is_doubtful = false;
        for absent in absent {
            let is_new = match absent {
                Absent::Missed(id) => {
                    self.laps.missed(id);
                    false
                }
                Absent::Unwanted(changed) if is_right_query => self.take_back_unwanted(changed).await?,
                Absent::Gone { known, .. } if looked.is_the_server => self.take_back_gone(known).await?,
                Absent::Gone { id, was_missed: false, .. } if is_gone => {
                    self.laps.missed(id);
                    false
                }
                Absent::Gone { known, .. } if is_gone => {
                    let is_found = self.finds(&known).await;
                    is_doubtful |= is_found;
                    !is_found && self.take_back_gone(known).await?
                }
                // What is found is looked at in the next lap again.
                Absent::MissedAgain(known) if looked.is_the_server => {
                    !self.finds(&known).await && self.take_back_gone(known).await?
                }
                _ => {
                    is_doubtful = true;
                    false
                }
            };
            looked.changed += usize::from(is_new);
        }
        if is_doubtful {
            self.counters.event(&Event::Refused(NONE_SHOWN));
        }
        Ok(looked.changed)
    }

    /// True when this is the server that had a request which is gone: it has another one that it had, or its patient.
    /// `None` when there is neither to ask for, or they are gone as well.
    async fn had(&mut self, known: &Known) -> Option<bool> {
        let mut is_anyone = false;
        if let Some(witness) = self.laps.witness.clone().filter(|witness| *witness != known.address) {
            let shown = self.server.read(&witness).await;
            is_anyone |= shown != Ok(Found::Gone);
            let asked = shown.ok().and_then(Found::there).and_then(Asked::read);
            if asked.and_then(|asked| asked.address()).is_some_and(|address| address == witness) {
                return Some(true);
            }
        }
        if let Some(patient) = known.asked.patient.clone().filter(|_| known.asked.names_a_patient()) {
            let shown = self.server.read(&known.asked.subject).await;
            is_anyone |= shown != Ok(Found::Gone);
            let shown = shown.ok().and_then(Found::there).and_then(|raw| String::from_utf8(raw).ok());
            if shown.is_some_and(|shown| page::is_same_patient(&shown, &patient)) {
                return Some(true);
            }
        }
        is_anyone.then_some(false)
    }

    /// True unless a search finds nothing by the id of a request.
    async fn finds(&mut self, known: &Known) -> bool {
        let found = self.server.search(&known.search(), self.is_strict).await.ok().and_then(Found::there);
        !found.and_then(|raw| Page::read(&raw)).is_some_and(|page| page.requests.is_empty())
    }

    /// Takes back the order of a request that is gone; tells whether that is new.
    async fn take_back_gone(&mut self, known: Known) -> Result<bool, String> {
        let (bytes, identity) = (known.deletion(Timestamp::now()), known.gone_identity());
        self.keep(bytes, identity, Decided::taken_back(known.number)).await
    }

    /// The same of one that is not asked for any more.
    async fn take_back_unwanted(&mut self, changed: Box<Changed>) -> Result<bool, String> {
        let Some(number) = changed.gone else { return Ok(false) };
        self.keep(changed.asked.bundle(), gone_identity(changed.before), Decided::taken_back(number)).await
    }

    /// Takes what the server says now of a request whose order is open.
    pub(super) async fn look_again(&mut self, changed: Box<Changed>) -> Result<bool, Untaken> {
        let id = changed.asked.id.clone();
        let (asked, waits) = self.with_patient(changed.asked).await?;
        let taken = self.take(asked, changed.gone.map(|number| (changed.before, number))).await?;
        if waits || taken.waits {
            self.aside.add(&id, Instant::now());
        }
        Ok(taken.is_new)
    }
}
