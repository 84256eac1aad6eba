//! The middle loop: complete entry -> message -> canonical report -> rules -> mapped bytes -> outbox.
//!
//! It runs on one thread of its own, reads the journal through its own connection and writes each entry's outcome in
//! one transaction. It keeps nothing between entries: a crash at any point only means that the entry is interpreted
//! again, with the same outcome and the same message ids (invariants I2, I5).
//!
//! [`filing`] is the pure half: what becomes of one report. [`reading`] says how a link's entries are read, [`facts`]
//! what the rules must know besides. This file is the loop around them. [`register`] is what was heard of each
//! instrument, for people to look at.

pub mod facts;
pub mod filing;
pub mod reading;
pub mod register;

use crate::clinical::{Doubt, Observation, Phi, Report};
use crate::delivery;
use crate::driver::{Interpretation, Registry};
use crate::imaging;
use crate::journal::{
    Entry, EntryId, Filing, HoldId, Journal, JournalError, Lookup, OperatorAction, Reader, ReleaseFiling, Released,
    ReportId,
};
use crate::link;
use crate::rules::autoverification::{self, Needs};
use crate::rules::{Decision, Facts, Outcome, Rulebook, rule};
use crate::service::Pulse;
use crate::watch::repeats::Repeats;
use filing::{Desk, Source};
use reading::{LinkRules, Reading};
use register::Register;
use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Entries read at once.
const BATCH: usize = 32;
/// The journal's signal is a hint; without one the interpreter looks this often.
const POLL: Duration = Duration::from_millis(500);
/// Nice value of the interpreter's thread.
const GIVE_WAY: libc::c_int = 10;
/// Pause after a storage error.
const STORAGE_PAUSE: Duration = Duration::from_millis(200);
/// Locked results looked at, and unlocked, at once.
const LOCKED: usize = 500;
const HOUR_MS: i64 = 3_600_000;

/// The loop's state. It owns everything; it shares only the journal.
pub struct Interpreter {
    journal: Journal,
    reader: Reader,
    reading: Reading,
    rulebook: Rulebook,
    links: Vec<String>,
    register: Register,
    repeats: Arc<Repeats>,
    desk: Desk,
    imaging: imaging::Desk,
    steps: imaging::steps::Desk,
    /// State of the orders when what they released was last sent.
    orders_as_of: Cell<i64>,
    pulse: Pulse,
}

/// Outcomes that are filed together.
#[derive(Default)]
struct Batch {
    filings: Vec<Filing>,
    /// Specimens and patients the filings are about.
    subjects: HashSet<Phi>,
}

impl Batch {
    fn mentions<'r>(&self, mut subjects: impl Iterator<Item = &'r Phi>) -> bool {
        subjects.any(|subject| self.subjects.contains(subject))
    }
}

impl Interpreter {
    /// An interpreter for these links, rules and destinations. `zone` is the clock of instruments whose link names none.
    pub fn new(
        journal: &Journal,
        registry: Registry,
        gateway: &str,
        zone: &jiff::tz::TimeZone,
        links: &[link::Config],
        rulebook: Rulebook,
        destinations: &[delivery::Config],
    ) -> Result<Self, JournalError> {
        Ok(Interpreter {
            journal: journal.clone(),
            reader: journal.reader()?,
            reading: Reading::new(registry, zone, links),
            rulebook,
            links: links.iter().map(|config| config.name.clone()).collect(),
            register: Register::open(None),
            repeats: Arc::default(),
            desk: Desk::new(gateway, destinations),
            imaging: imaging::Desk::new(gateway, zone, destinations),
            steps: imaging::steps::Desk::new(gateway, zone, destinations),
            orders_as_of: Cell::new(0),
            pulse: Pulse::default(),
        })
    }

    /// Keeps its register of instruments in this data directory.
    pub fn registering(self, data: &Path) -> Self {
        Interpreter { register: Register::open(Some(data)), ..self }
    }

    /// Notes what came again.
    pub fn noting(self, repeats: Arc<Repeats>) -> Self {
        Interpreter { repeats, ..self }
    }

    /// With these settings of imaging studies.
    pub fn imaging(self, config: &imaging::Config) -> Self {
        Interpreter { imaging: self.imaging.with(config), ..self }
    }

    /// When it went round last.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until `stop` turns true, or nobody is left who could turn it; the journal's change signal wakes it.
    pub fn run(mut self, stop: &watch::Receiver<bool>) {
        give_way();
        // A crash may have come between a good control and what it unlocks, and the rules may be others now.
        let mut unlocked = false;
        while !*stop.borrow() && stop.has_changed().is_ok() {
            self.pulse.beat();
            self.register.write(false);
            let round = if unlocked { self.round() } else { self.unlock_all().map(|()| 1) };
            unlocked |= round.is_ok();
            match round {
                Ok(0) => self.journal.wait_for_entries(POLL),
                Ok(_) => {}
                Err(error) => {
                    // The journal itself reports storage trouble; the entry stays and is interpreted later.
                    tracing::debug!("interpreting waits: {error}");
                    std::thread::sleep(STORAGE_PAUSE);
                }
            }
        }
        self.register.write(true);
    }

    /// Interprets what is waiting; tells how much it was, for there may be more. Images that were all there were wait for
    /// others that come.
    fn round(&mut self) -> Result<usize, JournalError> {
        // What was released before a crash goes out before what came after it (invariant I6).
        let sent = self.send_released()?;
        let interpreted = self.interpret_waiting()?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        Ok(sent + interpreted + self.imaging.settle_studies(&self.journal, &self.reader, now_ms)?)
    }

    fn interpret_waiting(&mut self) -> Result<usize, JournalError> {
        let entries = self.reader.pending_entries(BATCH)?;
        let mut ready = Batch::default();
        for entry in &entries {
            self.pulse.beat();
            if let Some(instance) = &entry.instance {
                ready.filings.extend(self.imaging.file(&self.reader, entry, instance)?);
                continue;
            }
            // An instrument that sends the same bytes is read by its driver.
            let request = self.steps.request(entry).filter(|_| !self.links.contains(&entry.link));
            if let Some(request) = request {
                // What the EHR is told depends on what it was told before.
                self.file(std::mem::take(&mut ready))?;
                ready.filings.push(self.steps.file(&self.reader, entry, &request)?);
                continue;
            }
            let (rules, interpretation) = self.reading.read(entry);
            // What is decided about a specimen or a patient depends on what was filed about it before.
            if ready.mentions(self.subjects(&interpretation.reports)) {
                self.file(std::mem::take(&mut ready))?;
            }
            let unlocks =
                self.rulebook.locks(&entry.link) && interpretation.reports.iter().any(|r| r.control.is_some());
            let filing = loop {
                let filing = self.decide(entry, rules, &interpretation)?;
                let orders_came = filing.reports.iter().any(|report| report.orders_as_of > self.orders_as_of.get());
                if !orders_came && !ready.mentions(self.patients(&filing).iter()) {
                    break filing;
                }
                self.file(std::mem::take(&mut ready))?;
                if orders_came {
                    // What they release came before this entry and goes out before it (invariant I6).
                    self.send_released()?;
                }
            };
            ready.subjects.extend(self.subjects(&interpretation.reports).cloned());
            ready.subjects.extend(self.patients(&filing));
            if entry.replays == 0 {
                let seen = interpretation.reports.iter().zip(&filing.reports).map(|(r, filed)| (r, filed.holds.len()));
                let seen: Vec<(&Report, usize)> = seen.collect();
                self.repeats.note(&entry.link, &interpretation.reports, Instant::now());
                self.register.note(&entry.link, &interpretation.driver, entry.received_at_ms, &seen);
            }
            ready.filings.push(filing);
            if unlocks {
                // What a good control unlocks goes out before anything that came after the control (invariant I6).
                self.file(std::mem::take(&mut ready))?;
                self.unlock(&entry.link)?;
                self.send_released()?;
            }
        }
        self.file(ready)?;
        let were_images = entries.len() < BATCH && entries.iter().all(|entry| entry.instance.is_some());
        Ok(if were_images { 0 } else { entries.len() })
    }

    /// Whom reports are about, as far as it matters to what comes after them. Only rules look at a patient's history.
    fn subjects<'r>(&self, reports: &'r [Report]) -> impl Iterator<Item = &'r Phi> {
        let with_patients = !self.rulebook.is_empty();
        let of = move |r: &'r Report| [Some(&r.specimen.id), with_patients.then_some(&r.patient.id)];
        reports.iter().flat_map(of).flatten().filter(|id| !id.is_empty())
    }

    /// The patients results go out for, also those only an order names, as far as it matters to what comes after them.
    fn patients(&self, filing: &Filing) -> Vec<Phi> {
        if self.rulebook.is_empty() {
            return Vec::new();
        }
        let lookups = filing.reports.iter().flat_map(|report| &report.lookups);
        lookups.filter(|(kind, _)| *kind == Lookup::Patient).map(|(_, id)| Phi::new(id.as_str())).collect()
    }

    /// Files what a person or a rule released; tells how much it was.
    fn send_released(&self) -> Result<usize, JournalError> {
        // Read first: what an order releases after this is looked for once more.
        self.orders_as_of.set(self.reader.orders_as_of()?);
        let mut sent = 0;
        loop {
            let released = self.reader.released(BATCH)?;
            for item in &released {
                self.pulse.beat();
                for filing in self.release(item)? {
                    self.journal.file_release(filing)?;
                }
            }
            sent += released.len();
            // What is damaged is set aside by the writer, so a batch that is not full is the last for now.
            if released.len() < BATCH {
                return Ok(sent);
            }
        }
    }

    fn unlock_all(&self) -> Result<(), JournalError> {
        self.links.iter().try_for_each(|link| self.unlock(link))
    }

    /// Releases what the controls of a link lock no longer, in the order in which it was locked.
    fn unlock(&self, link: &str) -> Result<(), JournalError> {
        let (mut after, mut facts) = (HoldId(0), Facts::default());
        loop {
            let locked = self.reader.locked(link, after, LOCKED)?;
            let Some(last) = locked.last() else { return Ok(()) };
            after = last.hold;
            let mut open = Vec::new();
            for item in &locked {
                self.pulse.beat();
                let Ok(report) = serde_json::from_slice::<Report>(&item.json) else { continue };
                let Some(observation) = report.observations.get(item.observation as usize) else { continue };
                let code = autoverification::code(observation);
                if !facts.controls.contains_key(code) {
                    let needs = Needs { controls: [code.to_string()].into(), ..Needs::default() };
                    let now = EntryId(i64::MAX);
                    let fetched = facts::fetch(&self.reader, &needs, (link, now, item.received_ms), &report, now)?;
                    facts.controls.extend(fetched.controls);
                }
                if self.rulebook.lock(link, observation, item.received_ms, &facts).is_none() {
                    open.push(item.hold);
                }
            }
            if !open.is_empty() {
                tracing::info!(link, results = open.len(), "controls are good: locked results go out");
                let note = "its controls are good".to_string();
                self.journal.operate(OperatorAction::Release { holds: open, note })?;
            }
        }
    }

    /// What the site's rules say about this report, with what they must know.
    fn judge(
        &self,
        link: &str,
        entry: EntryId,
        received_ms: i64,
        report: &Report,
    ) -> Result<Vec<Decision>, JournalError> {
        let needs = self.rulebook.needs(link, report);
        let facts = facts::fetch(&self.reader, &needs, (link, entry, received_ms), report, EntryId(i64::MAX))?;
        Ok(self.rulebook.judge(link, report, received_ms, &facts))
    }

    fn file(&self, batch: Batch) -> Result<(), JournalError> {
        self.journal.file_all(batch.filings).into_iter().try_for_each(|filed| filed.map(drop))
    }

    fn decide(
        &self,
        entry: &Entry,
        rules: &LinkRules,
        interpretation: &Interpretation,
    ) -> Result<Filing, JournalError> {
        let source = Source {
            link: &entry.link,
            entry: entry.id,
            received_ms: entry.received_at_ms,
            complete: entry.complete,
            policy: &rules.policy,
            resend_window_s: rules.resend_window_s,
        };
        let mut reports = Vec::new();
        let mut covers = if entry.complete { self.covered(&interpretation.reports)? } else { Vec::new() };
        for (number, report) in interpretation.reports.iter().enumerate() {
            let codes = || self.reading.order_codes(&entry.link, &interpretation.driver);
            let known = facts::known(&self.reader, report, rules.policy.orders, codes)?;
            let judge = |report: &Report| self.judge(&entry.link, entry.id, entry.received_at_ms, report);
            let latest_of = |subject: &[u8]| self.reader.latest_of(&entry.link, subject);
            let mut draft = self.desk.file(&source, number, report, &known, latest_of, judge)?;
            if entry.replays > 0 && self.reader.was_overtaken(entry.id, &entry.link, &draft.filed.subject_key)? {
                draft.hold_overtaken();
            }
            if !self.links.contains(&entry.link) {
                draft.hold_without_link();
            }
            draft.map_what_goes();
            covers.extend(self.covered_by_repeats(entry, report, &mut draft)?);
            reports.push(draft.finish()?);
        }
        for note in &interpretation.notes {
            tracing::debug!(link = entry.link, entry = entry.id.0, record = note.record, "{}", note.what);
        }
        Ok(Filing {
            entry: entry.id,
            driver: interpretation.driver.clone(),
            inbound_results: interpretation.inbound_results,
            refused: interpretation.refused.iter().map(|r| (r.record, r.reason.to_string())).collect(),
            reports,
            covers,
            placement: None,
        })
    }

    /// A sender that was cut off sends the whole message again. What was held of the first, incomplete attempt is then
    /// covered: the same specimen, test and value came complete, so nobody needs to look at the fragment.
    fn covered(&self, reports: &[Report]) -> Result<Vec<(HoldId, String)>, JournalError> {
        let mut covered = Vec::new();
        for report in reports.iter().filter(|r| !r.specimen.id.is_empty()) {
            for hold in self.reader.holds_of(Lookup::Specimen, report.specimen.id.expose())? {
                if hold.reason == Doubt::Incomplete.name()
                    && let Some(earlier) = self.held(hold.report)?
                    && filing::is_about_the_same(report, &earlier)
                    && let Some(held) = earlier.observations.get(hold.observation as usize)
                    && filing::contains(report, held)
                {
                    covered.push((hold.id, "came again in a complete message".to_string()));
                }
            }
        }
        Ok(covered)
    }

    /// What was held of the same specimen and test and is covered by a good repeat, as the site's rules allow it.
    fn covered_by_repeats(
        &self,
        entry: &Entry,
        report: &Report,
        draft: &mut filing::Draft<'_>,
    ) -> Result<Vec<(HoldId, String)>, JournalError> {
        let mut covered = Vec::new();
        let good: Vec<(u32, Observation)> = draft.going().map(|(at, o)| (at, o.clone())).collect();
        let may = good.iter().any(|(_, observation)| self.rulebook.may_cover(&entry.link, observation));
        if report.specimen.id.is_empty() || !may {
            return Ok(covered);
        }
        for hold in self.reader.holds_of(Lookup::Specimen, report.specimen.id.expose())? {
            if hold.link != entry.link || hold.entry >= entry.id {
                continue;
            }
            let Some(earlier) = self.held(hold.report)? else { continue };
            let Some(held) = earlier.observations.get(hold.observation as usize) else { continue };
            let hours = entry.received_at_ms.saturating_sub(hold.received_ms) / HOUR_MS;
            let same = |o: &Observation| o.instrument_code == held.instrument_code;
            let Some((at, repeat)) = good.iter().find(|(_, o)| same(o)) else { continue };
            if !filing::is_about_the_same(report, &earlier) || earlier.control.is_some() {
                continue;
            }
            if let Some((rule, version)) = self.rulebook.covers(&entry.link, repeat, &hold.reason, hours) {
                covered.push((hold.id, format!("covered by a good repeat: rule {rule}@{version}")));
                draft.decisions.push(Decision {
                    observation: *at,
                    rule: rule.to_string(),
                    version: version.to_string(),
                    kind: rule::Kind::Repeat,
                    outcome: Outcome::Covers,
                    why: format!("covers what is held of entry {}", hold.entry),
                    change: None,
                });
            }
        }
        Ok(covered)
    }

    /// A report that was filed before; `None` when it cannot be read any more, as one of an older version or a damaged
    /// one. Its results stay as they are, for a person.
    fn held(&self, id: ReportId) -> Result<Option<Report>, JournalError> {
        match self.reader.report(id) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(JournalError::Damaged) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn release(&self, item: &Released) -> Result<Vec<ReleaseFiling>, JournalError> {
        if imaging::Desk::is_its_own(item) {
            return self.imaging.release(&self.journal, &self.reader, item);
        }
        let Ok(report) = serde_json::from_slice::<Report>(&item.json) else {
            self.reader.set_unreadable(item.report);
            return Ok(Vec::new());
        };
        let decisions: Vec<Decision> = serde_json::from_str(&item.decisions).unwrap_or_default();
        let policy = self.reading.policy(&item.link);
        let codes = || self.reading.order_codes(&item.link, &item.driver);
        let known = facts::known(&self.reader, &report, policy.orders, codes)?;
        // A person has seen what else there is of the specimen; an order has not (invariant I6).
        let overtaken = item.rematch && self.reader.is_overtaken(item.report)?;
        let judge = |report: &Report| self.judge(&item.link, item.entry, item.received_at_ms, report);
        self.desk.release(item, &report, decisions, &known, (policy, overtaken), judge)
    }
}

/// Lets the threads that acknowledge go first when processors are short: what is in custody can wait a moment, an
/// instrument cannot.
fn give_way() {
    // SAFETY: changes only this thread's own nice value; Linux counts it per thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, GIVE_WAY) };
}

#[cfg(test)]
mod tests;
