//! The middle loop: complete entry -> message -> canonical report -> rules -> mapped bytes -> outbox.
//!
//! It runs on one thread of its own, reads the journal through its own connection and writes each entry's outcome in
//! one transaction. It keeps nothing between entries: a crash at any point only means that the entry is interpreted
//! again, with the same outcome and the same message ids (invariants I2, I5).
//!
//! [`filing`] is the pure half: what becomes of one report. This file is the loop around it.

pub mod filing;

use crate::clinical::{Doubt, Phi, Report};
use crate::delivery;
use crate::driver::{self, Interpretation, Registry};
use crate::journal::{Entry, Filing, HoldId, Journal, JournalError, Lookup, Reader, ReleaseFiling, Released, ReportId};
use crate::{link, rules, wire};
use filing::{Desk, Source};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::watch;

/// Entries read at once.
const BATCH: usize = 32;
/// The journal's signal is a hint; without one the interpreter looks this often.
const POLL: Duration = Duration::from_millis(500);
/// Nice value of the interpreter's thread.
const GIVE_WAY: libc::c_int = 10;
/// Pause after a storage error.
const STORAGE_PAUSE: Duration = Duration::from_millis(200);

/// What the interpreter knows of a link.
struct LinkRules {
    protocol: wire::Protocol,
    driver: Option<String>,
    zone: jiff::tz::TimeZone,
    charset: Option<String>,
    policy: rules::Policy,
    resend_window_s: i64,
}

/// The loop's state. It owns everything; it shares only the journal.
pub struct Interpreter {
    journal: Journal,
    reader: Reader,
    registry: Registry,
    links: HashMap<String, LinkRules>,
    /// For entries whose link is not configured any more.
    removed_astm: LinkRules,
    removed_hl7: LinkRules,
    removed_poct1a: LinkRules,
    removed_table: LinkRules,
    desk: Desk,
}

/// Outcomes that are filed together.
#[derive(Default)]
struct Batch {
    filings: Vec<Filing>,
    specimens: HashSet<Phi>,
}

impl Batch {
    fn mentions(&self, report: &Report) -> bool {
        !report.specimen.id.is_empty() && self.specimens.contains(&report.specimen.id)
    }
}

impl Interpreter {
    /// An interpreter for these links and destinations. `zone` is the clock of instruments whose link names none.
    pub fn new(
        journal: &Journal,
        registry: Registry,
        gateway: &str,
        zone: &jiff::tz::TimeZone,
        links: &[link::Config],
        destinations: &[delivery::Config],
    ) -> Result<Self, JournalError> {
        let rules_of = |config: &link::Config| LinkRules {
            protocol: config.protocol,
            driver: config.driver.clone(),
            zone: config
                .time_zone
                .as_deref()
                .and_then(|name| jiff::tz::TimeZone::get(name).ok())
                .unwrap_or_else(|| zone.clone()),
            charset: config.charset.clone(),
            policy: config.policy(),
            resend_window_s: config.resend_window_s.into(),
        };
        Ok(Interpreter {
            journal: journal.clone(),
            reader: journal.reader()?,
            registry,
            removed_astm: LinkRules::of_a_removed_link(wire::Protocol::Astm),
            removed_hl7: LinkRules::of_a_removed_link(wire::Protocol::Hl7),
            removed_poct1a: LinkRules::of_a_removed_link(wire::Protocol::Poct1a),
            removed_table: LinkRules::of_a_removed_link(wire::Protocol::Table),
            links: links.iter().map(|config| (config.name.clone(), rules_of(config))).collect(),
            desk: Desk::new(gateway, destinations),
        })
    }

    /// Runs until `stop` turns true; the journal's change signal wakes it.
    pub fn run(mut self, stop: &watch::Receiver<bool>) {
        give_way();
        while !*stop.borrow() {
            match self.round() {
                Ok(0) => self.journal.wait_for_entries(POLL),
                Ok(_) => {}
                Err(error) => {
                    // The journal itself reports storage trouble; the entry stays and is interpreted later.
                    tracing::debug!("interpreting waits: {error}");
                    std::thread::sleep(STORAGE_PAUSE);
                }
            }
        }
    }

    /// Interprets what is waiting; tells how much it was.
    fn round(&mut self) -> Result<usize, JournalError> {
        let entries = self.reader.pending_entries(BATCH)?;
        let mut ready = Batch::default();
        for entry in &entries {
            let (rules, interpretation) = self.interpret(entry);
            // What is decided about a specimen depends on what was filed about it before.
            if interpretation.reports.iter().any(|report| ready.mentions(report)) {
                self.file(std::mem::take(&mut ready))?;
            }
            ready.specimens.extend(interpretation.reports.iter().map(|report| report.specimen.id.clone()));
            ready.filings.push(self.decide(entry, rules, interpretation)?);
        }
        self.file(ready)?;
        let released = self.reader.released(BATCH)?;
        for item in &released {
            let filing = self.release(item)?;
            self.journal.file_release(filing)?;
        }
        Ok(entries.len() + released.len())
    }

    fn file(&self, batch: Batch) -> Result<(), JournalError> {
        self.journal.file_all(batch.filings).into_iter().try_for_each(|filed| filed.map(drop))
    }

    fn interpret(&self, entry: &Entry) -> (&LinkRules, Interpretation) {
        // A link that was renamed or removed after it heard this: the safest rules apply.
        let removed = || match driver::guess_protocol(&entry.raw) {
            wire::Protocol::Poct1a => &self.removed_poct1a,
            wire::Protocol::Table => &self.removed_table,
            _ if wire::mllp::msh(&entry.raw).is_some() => &self.removed_hl7,
            _ => &self.removed_astm,
        };
        let rules = self.links.get(&entry.link).unwrap_or_else(removed);
        let driver = rules
            .driver
            .as_deref()
            .and_then(|id| self.registry.get(id))
            .unwrap_or_else(|| self.registry.identify(rules.protocol, &entry.raw));
        let context =
            driver::Context { zone: rules.zone.clone(), charset: rules.charset.clone(), complete: entry.complete };
        (rules, driver::interpret(driver, &entry.raw, &context))
    }

    fn decide(&self, entry: &Entry, rules: &LinkRules, interpretation: Interpretation) -> Result<Filing, JournalError> {
        let source = Source {
            link: &entry.link,
            entry: entry.id,
            received_ms: entry.received_at_ms,
            complete: entry.complete,
            policy: &rules.policy,
            resend_window_s: rules.resend_window_s,
        };
        let mut reports = Vec::new();
        for (number, report) in interpretation.reports.iter().enumerate() {
            let filed =
                self.desk.file(&source, number, report, |subject| self.reader.latest_of(&entry.link, subject))?;
            reports.push(filed);
        }
        for note in &interpretation.notes {
            tracing::debug!(link = entry.link, entry = entry.id.0, record = note.record, "{}", note.what);
        }
        let covers = if entry.complete { self.covered(&interpretation.reports)? } else { Vec::new() };
        Ok(Filing {
            entry: entry.id,
            driver: interpretation.driver,
            inbound_results: interpretation.inbound_results,
            refused: interpretation.refused.into_iter().map(|r| (r.record, r.reason.to_string())).collect(),
            reports,
            covers,
        })
    }

    /// A sender that was cut off sends the whole message again. What was held of the first, incomplete attempt is then
    /// covered: the same specimen, test and value came complete, so nobody needs to look at the fragment.
    fn covered(&self, reports: &[Report]) -> Result<Vec<HoldId>, JournalError> {
        let mut covered = Vec::new();
        for report in reports.iter().filter(|r| !r.specimen.id.is_empty()) {
            for hold in self.reader.holds_of(Lookup::Specimen, report.specimen.id.expose())? {
                if hold.reason == Doubt::Incomplete.name()
                    && let Some(held) = self.report(hold.report)?.observations.get(hold.observation as usize)
                    && filing::contains(report, held)
                {
                    covered.push(hold.id);
                }
            }
        }
        Ok(covered)
    }

    fn report(&self, id: ReportId) -> Result<Report, JournalError> {
        serde_json::from_slice(&self.reader.report(id)?).map_err(|_| JournalError::Damaged)
    }

    fn release(&self, item: &Released) -> Result<ReleaseFiling, JournalError> {
        let report: Report = serde_json::from_slice(&item.json).map_err(|_| JournalError::Damaged)?;
        Ok(self.desk.release(item, &report))
    }
}

/// Lets the threads that acknowledge go first when processors are short: what is in custody can wait a moment, an
/// instrument cannot.
fn give_way() {
    // SAFETY: changes only this thread's own nice value; Linux counts it per thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, GIVE_WAY) };
}

impl LinkRules {
    fn of_a_removed_link(protocol: wire::Protocol) -> Self {
        LinkRules {
            protocol,
            driver: None,
            zone: jiff::tz::TimeZone::UTC,
            charset: None,
            policy: rules::Policy { clock_limit: Duration::from_secs(900), ..Default::default() },
            resend_window_s: 600,
        }
    }
}
