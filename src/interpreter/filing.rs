//! What becomes of one report: which of its results go out, to whom and in which bytes, and which are held and why.
//! Pure but for the one question whether the same report was filed before.

use crate::clinical::{Doubt, Observation, OrderStatus, Phi, Report};
use crate::delivery::{self, Lane};
use crate::journal::{
    Answered, EntryId, FiledReport, Grounds, JournalError, Latest, Lookup, NewHold, NewOutbound, ReleaseFiling,
    Released, qc_run_key,
};
use crate::mapping::{self, Origin, message_id};
use crate::orders::matching::{Known, Matched, Part, match_up};
use crate::rules::{self, Decision, Outcome, Verdict};

/// Where a report came from.
pub struct Source<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// The entry it is in.
    pub entry: EntryId,
    /// When the entry was complete, Unix milliseconds.
    pub received_ms: i64,
    /// False when the session ended before its message was complete.
    pub complete: bool,
    /// The link's hold rules.
    pub policy: &'a rules::Policy,
    /// Seconds in which the same results under a new time still count as a retransmission.
    pub resend_window_s: i64,
}

/// A report that is decided about, before its messages are made.
pub struct Draft<'f> {
    /// What is filed.
    pub filed: FiledReport,
    /// What the rules decided.
    pub decisions: Vec<Decision>,
    desk: &'f Desk,
    source: &'f Source<'f>,
    number: usize,
    report: &'f Report,
    matched: Matched,
    going: Vec<u32>,
}

/// Where reports are made ready for the destinations.
pub struct Desk {
    gateway: String,
    destinations: Vec<delivery::Config>,
}

impl Desk {
    /// A desk for these destinations.
    pub fn new(gateway: &str, destinations: &[delivery::Config]) -> Self {
        Desk { gateway: gateway.to_string(), destinations: destinations.to_vec() }
    }

    /// Decides about one report of an entry. `known` is what the EHR ordered; `latest_of` answers which report was last
    /// filed about the same subject, `judge` what the site's rules say about the report under the patient it goes out
    /// for; it is not asked about a retransmission.
    pub fn file<'f>(
        &'f self,
        source: &'f Source<'f>,
        number: usize,
        report: &'f Report,
        known: &Known,
        latest_of: impl FnOnce(&[u8]) -> Result<Option<Latest>, JournalError>,
        judge: impl FnOnce(&Report) -> Result<Vec<Decision>, JournalError>,
    ) -> Result<Draft<'f>, JournalError> {
        let subject_key = subject_key(source, report);
        let content_key = content_key(report);
        let measured_s = measured_at_s(report, source.received_ms);
        let matched = match_up(report, known, source.policy.orders);
        let filed = FiledReport {
            subject_key,
            completed_at_s: Some(measured_s),
            repeat_of: None,
            lookups: lookups(source.link, report, &matched),
            json: serde_json::to_vec(report).map_err(|_| JournalError::Damaged)?,
            results: report.observations.len() as u32,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: Vec::new(),
            answered: Vec::new(),
            orders_as_of: known.as_of,
            content_key,
        };
        let (going, decisions) = (Vec::new(), Vec::new());
        let mut draft = Draft { desk: self, source, number, report, matched, filed, going, decisions };
        if let Some(latest) = latest_of(&draft.filed.subject_key)?
            && latest.same_content(&draft.filed.content_key)
            && is_retransmission(report, latest.completed_at_s, measured_s, source.resend_window_s)
            && !latest.is_held_of(source.entry)
        {
            draft.filed.repeat_of = Some(latest.report);
            return Ok(draft);
        }
        draft.decisions = judge(&draft.matched.report)?;
        let received = jiff::Timestamp::from_millisecond(source.received_ms).unwrap_or_default();
        let verdicts = rules::decide_with(&draft.matched.report, source.policy, received, &draft.decisions);
        for (at, verdict) in (0..).zip(verdicts) {
            match verdict {
                Verdict::Hold(doubt) => draft.hold(at, doubted(doubt)),
                Verdict::Release => match rules::autoverification::held(&draft.decisions, at).map(ruled) {
                    Some(grounds) => draft.hold(at, grounds),
                    None => draft.going.push(at),
                },
            }
        }
        Ok(draft)
    }

    /// What becomes of held results that were released: by a person, who has seen why they were held, or because an
    /// order came, after which everything is decided once more. Some of them may stay held, for another reason.
    /// `overtaken` says that newer results of the subject went out, `judge` what the rules say of the report as an
    /// order makes it; `decisions` is what they said before.
    ///
    /// # Errors
    /// Those of `judge`.
    pub fn release(
        &self,
        item: &Released,
        report: &Report,
        decisions: Vec<Decision>,
        known: &Known,
        (policy, overtaken): (&rules::Policy, bool),
        judge: impl FnOnce(&Report) -> Result<Vec<Decision>, JournalError>,
    ) -> Result<Vec<ReleaseFiling>, JournalError> {
        let mut matched = match_up(report, known, policy.orders);
        let mut decisions = decisions;
        if item.rematch {
            // Of the results that are not decided about now, and of what was covered, the record stays.
            let is_now = |at: u32| item.observations.contains(&at);
            decisions.retain(|d| d.outcome == Outcome::Covers || !is_now(d.observation));
            decisions.extend(judge(&matched.report)?.into_iter().filter(|d| is_now(d.observation)));
        }
        let received = jiff::Timestamp::from_millisecond(item.received_at_ms).unwrap_or_default();
        let verdicts = rules::decide_with(&matched.report, policy, received, &decisions);
        let by_rule = |at: u32| rules::autoverification::held(&decisions, at).map(|d| Course::Stays(ruled(d)));
        let again = |at: u32| match verdicts.get(at as usize) {
            Some(Verdict::Hold(doubt)) => Course::Stays(doubted(*doubt)),
            _ => by_rule(at).unwrap_or(if overtaken { Course::Stays(newer_sent()) } else { Course::AsMatched }),
        };
        let by_person = |at: u32, reason: &str| match matched.doubt(at) {
            // The person saw that the order is another's: then the result is only what the instrument says.
            _ if reason == Doubt::OrderMismatch.name() => Course::AsHeard,
            Some(Doubt::NoOrder) if reason == Doubt::NoOrder.name() => Course::AsMatched,
            // Nobody has decided yet about an order that is missing, or another's, as well.
            Some(doubt) => Course::Stays(doubted(doubt)),
            None => Course::AsMatched,
        };
        let is_of_orders =
            |reason: &String| [Doubt::NoOrder, Doubt::OrderMismatch].iter().any(|doubt| reason == doubt.name());
        let course = |(at, reason): (&u32, &String)| match item.rematch {
            true => again(*at),
            // What a rule says was hidden behind the order: nobody has decided about it yet.
            false => by_rule(*at).filter(|_| is_of_orders(reason)).unwrap_or_else(|| by_person(*at, reason)),
        };
        let courses: Vec<Course> = item.observations.iter().zip(&item.reasons).map(course).collect();
        let mut different = courses.clone();
        different.sort_unstable();
        different.dedup();
        matched.report = rules::autoverification::changed(&matched.report, &decisions).into_owned();
        let untouched = Matched::untouched(&rules::autoverification::changed(report, &decisions));
        let record = match (item.rematch, decisions.is_empty()) {
            (false, _) => None,
            (true, true) => Some(String::new()),
            (true, false) => Some(serde_json::to_string(&decisions).map_err(|_| JournalError::Damaged)?),
        };
        let file = |course: Course| {
            let some = item.only(|at| courses.get(at) == Some(&course));
            let filing = match course {
                Course::AsMatched => {
                    self.send_released(&some, report, &matched).lookups(lookups(&item.link, report, &matched))
                }
                Course::AsHeard => self.send_released(&some, report, &untouched),
                Course::Stays(grounds) => ReleaseFiling::held_again(&some, grounds),
            };
            match &record {
                Some(record) => filing.decisions(record.clone()),
                None => filing,
            }
            .orders_as_of(known.as_of)
        };
        Ok(different.into_iter().map(file).collect())
    }

    fn send_released(&self, item: &Released, report: &Report, matched: &Matched) -> ReleaseFiling {
        let name = [&b"release"[..], &item.report.0.to_be_bytes(), &item.serial.to_be_bytes()].concat();
        match self.outbound(&item.link, item.received_at_ms, report, matched, &item.observations, &name) {
            Ok(outbox) => ReleaseFiling::sent(item, outbox, answered(matched, &item.observations)),
            Err(error) => {
                tracing::error!(event = "not-carried", link = item.link, report = item.report.0, "held again: {error}");
                ReleaseFiling::held_again(item, uncarried(&error))
            }
        }
    }

    /// The rows for every destination that takes this link's results, or why one of them cannot carry them: a message
    /// for each order they answer. `name` and what is said tell the messages from all others.
    fn outbound(
        &self,
        link: &str,
        received_ms: i64,
        heard: &Report,
        matched: &Matched,
        observations: &[u32],
        name: &[u8],
    ) -> Result<Vec<NewOutbound>, mapping::MapError> {
        let made = jiff::Timestamp::from_millisecond(received_ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        let mut rows = Vec::new();
        for part in &matched.parts {
            let going: Vec<u32> = part.observations.iter().copied().filter(|at| observations.contains(at)).collect();
            if going.is_empty() {
                continue;
            }
            let report = part.report(&matched.report);
            let content = content_key(&report);
            let places: Vec<usize> = going.iter().map(|&at| at as usize).collect();
            for destination in self.destinations.iter().filter(|d| d.takes(link)) {
                let message_id = message_id(&[
                    self.gateway.as_bytes(),
                    destination.name.as_bytes(),
                    link.as_bytes(),
                    &received_ms.to_be_bytes(),
                    name,
                    &content,
                    &going.iter().flat_map(|at| at.to_be_bytes()).collect::<Vec<_>>(),
                ]);
                let origin = Origin {
                    message_id: message_id.clone(),
                    gateway: self.gateway.clone(),
                    link: link.to_string(),
                    made: made.clone(),
                };
                let target = destination.target(&self.gateway);
                rows.push(NewOutbound {
                    destination: destination.name.clone(),
                    lane: lane(destination.lane, link, &report),
                    message_id,
                    body: mapping::map_ordered(heard, &report, &places, &target, &origin)?,
                    results: going.len() as u32,
                    charted: Vec::new(),
                });
            }
        }
        Ok(rows)
    }
}

impl Draft<'_> {
    /// The results that go out as things stand, by their place.
    pub fn going(&self) -> impl Iterator<Item = (u32, &Observation)> {
        self.going.iter().filter_map(|&at| Some((at, self.report.observations.get(at as usize)?)))
    }

    /// Holds what would go out: it would follow newer results of the same specimen and tests (invariant I6).
    pub fn hold_overtaken(&mut self) {
        for at in std::mem::take(&mut self.going) {
            self.hold(at, newer_sent());
        }
    }

    /// Holds what would go out: its link's settings, by which it should be read and sent, are gone (invariant I13).
    pub fn hold_without_link(&mut self) {
        for at in std::mem::take(&mut self.going) {
            self.hold(at, no_link());
        }
    }

    /// Makes the outbox rows of what goes out. What a destination cannot carry is held, and goes no longer.
    pub fn map_what_goes(&mut self) {
        self.matched.report = rules::autoverification::changed(&self.matched.report, &self.decisions).into_owned();
        let name = [&b"entry"[..], &self.source.entry.0.to_be_bytes(), &(self.number as u64).to_be_bytes()].concat();
        let (link, received_ms) = (self.source.link, self.source.received_ms);
        match self.desk.outbound(link, received_ms, self.report, &self.matched, &self.going, &name) {
            Ok(outbox) => {
                self.filed.outbox = outbox;
                self.filed.answered = answered(&self.matched, &self.going);
            }
            Err(error) => {
                tracing::error!(event = "not-carried", link, entry = self.source.entry.0, "held: {error}");
                for at in std::mem::take(&mut self.going) {
                    self.hold(at, uncarried(&error));
                }
            }
        }
    }

    /// What is filed, with the record of what was decided.
    ///
    /// # Errors
    /// The decisions cannot be written.
    pub fn finish(mut self) -> Result<FiledReport, JournalError> {
        if !self.decisions.is_empty() {
            self.filed.decisions = serde_json::to_string(&self.decisions).map_err(|_| JournalError::Damaged)?;
        }
        Ok(self.filed)
    }

    fn hold(&mut self, observation: u32, grounds: Grounds) {
        self.filed.holds.push(NewHold { observation, grounds });
    }
}

fn doubted(doubt: Doubt) -> Grounds {
    Grounds { reason: doubt.name(), rule: None, why: doubt.words().to_string() }
}

fn ruled(decision: &Decision) -> Grounds {
    let rule = Some(format!("{}@{}", decision.rule, decision.version));
    Grounds { reason: decision.kind.reason(), rule, why: decision.why.clone() }
}

fn newer_sent() -> Grounds {
    let why = "newer results of the same specimen and tests were sent since, or what came since is no longer kept"
        .to_string();
    Grounds { reason: "overtaken", rule: None, why }
}

/// Why results of a link are held that the configuration does not name any more.
pub const NO_LINK: &str = "no-link";

fn no_link() -> Grounds {
    let why = "the configuration has no link of this name any more: name it again, then read the entry anew \
               (afferent journal replay)"
        .to_string();
    Grounds { reason: NO_LINK, rule: None, why }
}

fn uncarried(error: &mapping::MapError) -> Grounds {
    Grounds { reason: error.reason(), rule: None, why: "a destination cannot carry it as it is".to_string() }
}

/// What becomes of one released result.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    /// It goes out, under the order it answers.
    AsMatched,
    /// It goes out as the instrument said it.
    AsHeard,
    /// It stays held.
    Stays(Grounds),
}

/// Where the orders stand that these results answer, once they have gone out.
fn answered(matched: &Matched, going: &[u32]) -> Vec<Answered> {
    let preliminary = |at: &u32| {
        let status = matched.report.observations.get(*at as usize).map(|o| o.status.as_str());
        matches!(status, Some("P" | "R" | "S" | "I"))
    };
    let of = |part: &Part| {
        let order = part.order.as_ref()?.id;
        let mut going = part.observations.iter().filter(|at| going.contains(at)).peekable();
        going.peek()?;
        let status = if going.all(preliminary) { OrderStatus::InProgress } else { OrderStatus::Done };
        Some(Answered { order, status })
    };
    matched.parts.iter().filter_map(of).collect()
}

/// True when both are about the same specimen of the same patient.
pub fn is_about_the_same(report: &Report, earlier: &Report) -> bool {
    report.specimen.id == earlier.specimen.id && report.patient.shares_id_with(&earlier.patient)
}

/// True when `report` says what `held` says: the same test with the same value, unit and status.
pub fn contains(report: &Report, held: &Observation) -> bool {
    report.observations.iter().any(|o| {
        o.instrument_code == held.instrument_code
            && o.value == held.value
            && o.unit == held.unit
            && o.status == held.status
    })
}

/// The ordering key: results under the same key reach a destination in the order they came (invariant I6).
fn lane(lane: Lane, link: &str, report: &Report) -> String {
    let own = |kind: &str, id: &Phi| (!id.is_empty()).then(|| format!("{kind} {}", id.expose()));
    match lane {
        Lane::Specimen => own("specimen", &report.specimen.id),
        Lane::Patient => own("patient", &report.patient.id).or_else(|| own("specimen", &report.specimen.id)),
        Lane::Link => None,
    }
    .unwrap_or_else(|| format!("link {link}"))
}

/// What a report is about: link, specimen and the tests. An incomplete message never stands for a complete one.
fn subject_key(source: &Source<'_>, report: &Report) -> Vec<u8> {
    let mut codes: Vec<&str> = report.observations.iter().map(|o| o.instrument_code.as_str()).collect();
    codes.sort_unstable();
    let mut parts = vec![source.link, report.specimen.id.expose(), if source.complete { "complete" } else { "part" }];
    // Two instruments of one link may well measure the same and agree.
    parts.extend(Some(report.instrument.name.as_str()).filter(|name| !name.is_empty()));
    parts.extend(codes);
    joined(parts)
}

/// What a report says, without any time: a retransmission may carry a new time of transmission.
fn content_key(report: &Report) -> Vec<u8> {
    let mut parts = vec![
        report.order.placer_order_number.expose().to_string(),
        report.patient.id.expose().to_string(),
        report.order.status.clone(),
    ];
    for o in &report.observations {
        let Observation { instrument_code, value, unit, reference_range, flags, status, doubts, .. } = o;
        parts.push(format!(
            "{instrument_code}\u{1f}{unit}\u{1f}{reference_range}\u{1f}{status}\u{1f}{}",
            flags.join("\u{1f}")
        ));
        parts.push(serde_json::to_string(value).unwrap_or_default());
        parts.push(doubts.iter().map(|d| d.name()).collect::<Vec<_>>().join("\u{1f}"));
    }
    joined(parts.iter().map(String::as_str))
}

/// Each part with its length before it, so that no two lists look the same.
fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut key = Vec::new();
    for part in parts {
        key.extend((part.len() as u64).to_be_bytes());
        key.extend(part.as_bytes());
    }
    key
}

/// When it was measured, as well as can be told: the latest result's time, else the message's, else custody.
fn measured_at_s(report: &Report, received_ms: i64) -> i64 {
    let completed = report.observations.iter().filter_map(|o| o.completed.as_ref()?.instant()).max();
    let sent = || report.message_time.as_ref().and_then(|t| t.instant());
    completed.or_else(sent).map_or(received_ms / 1000, |t| t.as_second())
}

/// True when `report`, whose content equals the latest one about its subject, is that one sent again. Specimens
/// without an id have no subject of their own: two patients may well share every value.
fn is_retransmission(report: &Report, latest_s: Option<i64>, measured_s: i64, window_s: i64) -> bool {
    !report.specimen.id.is_empty() && latest_s.is_some_and(|latest_s| (measured_s - latest_s).abs() <= window_s)
}

/// What a person may search by: what the instrument said, what the orders add to it, and for a control run what the
/// rules find it by.
fn lookups(link: &str, report: &Report, matched: &Matched) -> Vec<(Lookup, String)> {
    let ordered = matched.parts.iter().filter_map(|part| part.order.as_ref());
    let ordered = ordered.map(|stored| (Lookup::Order, &stored.order.placer_order_number.id));
    let ids = [
        (Lookup::Specimen, &report.specimen.id),
        (Lookup::Patient, &report.patient.id),
        (Lookup::Patient, &matched.report.patient.id),
        (Lookup::Order, &report.order.placer_order_number),
        (Lookup::Order, &report.order.filler_order_number),
    ];
    let runs = report.observations.iter().filter(|_| report.control.is_some());
    let runs = runs.map(|o| (Lookup::QcRun, qc_run_key(link, rules::autoverification::code(o))));
    let ids = ids.into_iter().chain(ordered).filter(|(_, id)| !id.is_empty());
    let mut found = Vec::new();
    for lookup in ids.map(|(kind, id)| (kind, id.expose().to_string())).chain(runs) {
        if !found.contains(&lookup) {
            found.push(lookup);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_the_same_results_soon_again_are_a_retransmission_and_a_rerun_is_not() {
        let mut report = Report::default();
        report.specimen.id = Phi::new("S1");
        assert!(is_retransmission(&report, Some(1000), 1002, 600));
        assert!(!is_retransmission(&report, Some(1000), 1601, 600));
        assert!(!is_retransmission(&Report::default(), Some(1000), 1000, 600), "no specimen, no subject");
    }
}
