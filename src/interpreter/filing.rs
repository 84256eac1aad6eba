//! What becomes of one report: which of its results go out, to whom and in which bytes, and which are held and why.
//! Pure but for the one question whether the same report was filed before.

use crate::clinical::{Observation, Phi, Report};
use crate::delivery::{self, Lane};
use crate::journal::{
    EntryId, FiledReport, JournalError, Latest, Lookup, NewHold, NewOutbound, ReleaseFiling, Released,
};
use crate::mapping::{self, Origin, message_id};
use crate::rules::{self, Verdict};

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

    /// Decides about one report of an entry. `latest_of` answers which report was last filed about the same subject.
    pub fn file(
        &self,
        source: &Source<'_>,
        number: usize,
        report: &Report,
        latest_of: impl FnOnce(&[u8]) -> Result<Option<Latest>, JournalError>,
    ) -> Result<FiledReport, JournalError> {
        let subject_key = subject_key(source, report);
        let content_key = content_key(report);
        let measured_s = measured_at_s(report, source.received_ms);
        let mut filed = FiledReport {
            subject_key,
            completed_at_s: Some(measured_s),
            repeat_of: None,
            lookups: lookups(report),
            json: serde_json::to_vec(report).map_err(|_| JournalError::Damaged)?,
            results: report.observations.len() as u32,
            holds: Vec::new(),
            outbox: Vec::new(),
            answered: Vec::new(),
            content_key,
        };
        if let Some(latest) = latest_of(&filed.subject_key)?
            && latest.same_content(&filed.content_key)
            && is_retransmission(report, latest.completed_at_s, measured_s, source.resend_window_s)
        {
            filed.repeat_of = Some(latest.report);
            return Ok(filed);
        }
        let received = jiff::Timestamp::from_millisecond(source.received_ms).unwrap_or_default();
        let mut going = Vec::new();
        for (at, verdict) in rules::decide(report, source.policy, received).into_iter().enumerate() {
            match verdict {
                Verdict::Release => going.push(at as u32),
                Verdict::Hold(doubt) => filed.holds.push(NewHold { observation: at as u32, reason: doubt.name() }),
            }
        }
        let name = [&b"entry"[..], &source.entry.0.to_be_bytes(), &(number as u64).to_be_bytes()].concat();
        match self.outbound(source.link, source.received_ms, report, &going, (&name, &filed.content_key)) {
            Ok(outbox) => filed.outbox = outbox,
            Err(error) => {
                tracing::error!(link = source.link, entry = source.entry.0, "held: {error}");
                filed.holds.extend(going.iter().map(|&observation| NewHold { observation, reason: error.reason() }));
            }
        }
        Ok(filed)
    }

    /// Makes the outbox rows of held results a person released.
    pub fn release(&self, item: &Released, report: &Report) -> ReleaseFiling {
        let name = [&b"release"[..], &item.report.0.to_be_bytes(), &item.serial.to_be_bytes()].concat();
        let content = content_key(report);
        match self.outbound(&item.link, item.received_at_ms, report, &item.observations, (&name, &content)) {
            Ok(outbox) => ReleaseFiling::sent(item, outbox, Vec::new()),
            Err(error) => {
                tracing::error!(link = item.link, report = item.report.0, "held again: {error}");
                ReleaseFiling::held_again(item, error.reason())
            }
        }
    }

    /// The rows for every destination that takes this link's results, or why one of them cannot carry them. `name` and
    /// `content` tell the messages from all others.
    fn outbound(
        &self,
        link: &str,
        received_ms: i64,
        report: &Report,
        observations: &[u32],
        (name, content): (&[u8], &[u8]),
    ) -> Result<Vec<NewOutbound>, mapping::MapError> {
        if observations.is_empty() {
            return Ok(Vec::new());
        }
        let part: Vec<usize> = observations.iter().map(|&at| at as usize).collect();
        let made = jiff::Timestamp::from_millisecond(received_ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        let mut rows = Vec::new();
        for destination in self.destinations.iter().filter(|d| d.takes(link)) {
            let message_id = message_id(&[
                self.gateway.as_bytes(),
                destination.name.as_bytes(),
                link.as_bytes(),
                &received_ms.to_be_bytes(),
                name,
                content,
                &observations.iter().flat_map(|at| at.to_be_bytes()).collect::<Vec<_>>(),
            ]);
            let origin = Origin {
                message_id: message_id.clone(),
                gateway: self.gateway.clone(),
                link: link.to_string(),
                made: made.clone(),
            };
            let body = mapping::map_part(report, &part, &destination.target(&self.gateway), &origin)?;
            rows.push(NewOutbound {
                destination: destination.name.clone(),
                lane: lane(destination.lane, link, report),
                message_id,
                body,
                results: observations.len() as u32,
            });
        }
        Ok(rows)
    }
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

/// What a person may search by.
fn lookups(report: &Report) -> Vec<(Lookup, String)> {
    [
        (Lookup::Specimen, &report.specimen.id),
        (Lookup::Patient, &report.patient.id),
        (Lookup::Order, &report.order.placer_order_number),
        (Lookup::Order, &report.order.filler_order_number),
    ]
    .into_iter()
    .filter(|(_, id)| !id.is_empty())
    .map(|(kind, id)| (kind, id.expose().to_string()))
    .collect()
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
