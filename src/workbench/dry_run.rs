//! What the rules would have made of results that came already. Reads the journal and changes nothing.
//!
//! Each entry is read again by today's drivers and judged by the rules that are to be tried, with what the journal knew
//! when the entry came: the patient's values before it, the controls that had run. A lock counts as a hold, also where a
//! later control opened it.

use crate::driver::builtin::guesses_codes;
use crate::interpreter::facts;
use crate::interpreter::reading::Reading;
use crate::journal::{Entry, EntryId, JournalError, Reader, Shown};
use crate::orders::matching::match_up;
use crate::rules::autoverification::held;
use crate::rules::{Outcome, Rulebook, Verdict, decide_with};
use serde::Serialize;
use std::collections::BTreeMap;

/// Entries read at once.
const BATCH: usize = 64;
/// Differences listed one by one; all are counted.
const LISTED_MAX: usize = 200;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Entries that were looked at.
    pub entries: u64,
    /// Results in them, retransmissions left out.
    pub results: u64,
    /// Results that would be sent.
    pub sent: u64,
    /// Results that would be held.
    pub held: u64,
    /// Decisions by rule, in order of name.
    pub rules: BTreeMap<String, RuleCounts>,
    /// Why results would be held, and how many.
    pub reasons: BTreeMap<String, u64>,
    /// Results that would fare otherwise, by what became of them and what would.
    pub changes: BTreeMap<String, u64>,
    /// The first of those one by one, the oldest first.
    pub differences: Vec<Difference>,
}

/// What one rule decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Its version.
    pub version: String,
    /// Decisions by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
}

/// A result that would fare otherwise. Without patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its entry.
    pub entry: EntryId,
    /// The link it came in on.
    pub link: String,
    /// Its place in its report, from 0.
    pub observation: u32,
    /// The instrument's code of the test.
    pub code: String,
    /// What became of it: `sent`, or why it was held.
    pub was: String,
    /// What would: `sent`, or why it would be held.
    pub would_be: String,
    /// Why, in plain words.
    pub why: String,
}

/// Tries rules on what came in this span of time, Unix milliseconds. `progress` is told the entries done so far.
///
/// # Errors
/// The journal cannot be read.
pub fn dry_run(
    reader: &Reader,
    reading: &Reading,
    rulebook: &Rulebook,
    span_ms: (i64, i64),
    mut progress: impl FnMut(u64),
) -> Result<DryRun, JournalError> {
    let mut found = DryRun::default();
    for (rule, version) in rulebook.rules() {
        let counts = RuleCounts { version: version.to_string(), outcomes: BTreeMap::new() };
        found.rules.insert(rule.name.clone(), counts);
    }
    let mut after = EntryId(0);
    loop {
        let entries = reader.interpreted(span_ms, after, BATCH)?;
        let Some(last) = entries.last() else { return Ok(found) };
        after = last.id;
        for entry in &entries {
            found.try_entry(reader, reading, rulebook, entry)?;
            found.entries += 1;
        }
        progress(found.entries);
    }
}

impl DryRun {
    fn try_entry(
        &mut self,
        reader: &Reader,
        reading: &Reading,
        rulebook: &Rulebook,
        entry: &Entry,
    ) -> Result<(), JournalError> {
        let (rules, interpretation) = reading.read(entry);
        let shown = reader.show(entry.id)?;
        // An entry that was interpreted several times has the reports of each time; the last are what counts.
        let earlier = shown.reports.len().saturating_sub(interpretation.reports.len());
        let received = jiff::Timestamp::from_millisecond(entry.received_at_ms).unwrap_or_default();
        for (number, report) in interpretation.reports.iter().enumerate() {
            let real = shown.reports.get(earlier + number);
            if real.is_some_and(|real| real.repeat_of.is_some()) {
                continue;
            }
            let codes = || reading.order_codes(&entry.link, &interpretation.driver);
            let known = facts::known(reader, report, rules.policy.orders, codes)?;
            let report = &match_up(report, &known, rules.policy.orders).report;
            let needs = rulebook.needs(&entry.link, report);
            let of = (entry.link.as_str(), entry.id, entry.received_at_ms);
            let facts = facts::fetch(reader, &needs, of, report, entry.id)?;
            let decisions = rulebook.judge(&entry.link, report, entry.received_at_ms, &facts);
            for decision in &decisions {
                if let Some(counts) = self.rules.get_mut(&decision.rule) {
                    *counts.outcomes.entry(decision.outcome).or_default() += 1;
                }
            }
            let verdicts = decide_with(report, &rules.policy, received, &decisions);
            for ((at, observation), verdict) in (0_u32..).zip(&report.observations).zip(verdicts) {
                let (would_be, why) = match verdict {
                    Verdict::Hold(doubt) => (doubt.name(), doubt.words().to_string()),
                    Verdict::Release => match held(&decisions, at) {
                        Some(d) => (d.kind.reason(), format!("{}, rule {}@{}", d.why, d.rule, d.version)),
                        None => ("sent", String::new()),
                    },
                };
                self.results += 1;
                if would_be == "sent" {
                    self.sent += 1;
                } else {
                    self.held += 1;
                    *self.reasons.entry(would_be.to_string()).or_default() += 1;
                }
                let was = became(&shown, earlier + number, at);
                if was == would_be {
                    continue;
                }
                *self.changes.entry(format!("{was} -> {would_be}")).or_default() += 1;
                if self.differences.len() < LISTED_MAX {
                    self.differences.push(Difference {
                        entry: entry.id,
                        link: entry.link.clone(),
                        observation: at,
                        code: match guesses_codes(&interpretation.driver) {
                            true => String::new(),
                            false => observation.instrument_code.clone(),
                        },
                        was,
                        would_be: would_be.to_string(),
                        why,
                    });
                }
            }
        }
        Ok(())
    }
}

/// What became of a result when it came: `sent`, or why it was held then, whatever a person did about it later.
fn became(shown: &Shown, report: usize, observation: u32) -> String {
    let holds = shown.reports.get(report).map_or(&[][..], |report| &report.holds);
    holds.iter().find(|hold| hold.observation == observation).map_or("sent", |hold| hold.reason.as_str()).to_string()
}
