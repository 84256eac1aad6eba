//! The demo's judge: the instruments' ledger against what the EHR stored.

use super::{Outcome, Percentiles};
use crate::delivery::config::Protocol;
use crate::sim::ehr::Arrival;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// What an instrument was told it may forget.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// Specimen id.
    pub id: String,
    /// 0, or 1 for its correction.
    pub version: u8,
    /// The value of each of its results, as sent.
    pub values: Vec<String>,
    /// When it was acknowledged.
    pub at: Instant,
}

impl Acknowledged {
    /// Results in it.
    pub fn results(&self) -> u64 {
        self.values.len() as u64
    }
}

/// Both sides at one moment.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Results sent by specimen, whether acknowledged or not, each version once.
    pub sent: HashMap<String, u64>,
    /// What was acknowledged, in order.
    pub acknowledged: Vec<Acknowledged>,
    /// What each protocol's receiver stored, in order of arrival.
    pub arrivals: BTreeMap<&'static str, Vec<Arrival>>,
}

/// Results of one specimen a destination stored under distinct message ids.
#[derive(Default)]
struct Chart {
    ids: BTreeSet<String>,
    results: u64,
    corrected_first: bool,
}

impl Tally {
    /// Results acknowledged so far.
    pub fn acknowledged_results(&self) -> u64 {
        self.acknowledged.iter().map(Acknowledged::results).sum()
    }

    /// Results stored so far at each destination, each message id once.
    pub fn stored_results(&self) -> BTreeMap<&'static str, u64> {
        let stored = |arrivals: &[Arrival]| charts(arrivals).0.values().map(|c| c.results).sum();
        self.arrivals.iter().map(|(name, arrivals)| (*name, stored(arrivals))).collect()
    }

    /// From acknowledgement at the instrument to storage at the EHR, over everything so far.
    pub fn latencies(&self) -> Percentiles {
        let mut first: HashMap<&str, Instant> = HashMap::new();
        for arrival in self.arrivals.values().flatten().filter(|a| a.stored) {
            for specimen in &arrival.specimens {
                first.entry(specimen).or_insert(arrival.at);
            }
        }
        let originals = self.acknowledged.iter().filter(|a| a.version == 0);
        let mut times: Vec<u64> = originals
            .filter_map(|a| Some(first.get(a.id.as_str())?.saturating_duration_since(a.at).as_millis() as u64))
            .collect();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        Percentiles { p50: at(50).copied().unwrap_or(0), p99: at(99).copied().unwrap_or(0) }
    }

    /// The verdict. `held` counts held results by specimen id, as the gateway's own list shows them.
    pub fn outcome(&self, held: &HashMap<String, u64>) -> Outcome {
        let mut expected: HashMap<&str, u64> = HashMap::new();
        for a in &self.acknowledged {
            *expected.entry(a.id.as_str()).or_default() += a.results();
        }
        let (mut duplicated, mut reordered, mut repeated) = (0, 0, 0);
        let mut missing: HashMap<&str, u64> = HashMap::new();
        let mut complaints = Vec::new();
        for (name, arrivals) in &self.arrivals {
            let (charts, repeats) = charts(arrivals);
            repeated += repeats;
            for (specimen, results) in &expected {
                let stored = charts.get(*specimen).map_or(0, |c| c.results);
                let at_hand = stored + held.get(*specimen).copied().unwrap_or(0);
                let sent = self.sent.get(*specimen).copied().unwrap_or(*results);
                if at_hand < *results || at_hand > sent {
                    complaints.push(format!(
                        "{specimen} at {name}: {results} acknowledged of {sent} sent, {stored} stored, {} held",
                        at_hand - stored
                    ));
                }
                let short = missing.entry(specimen).or_default();
                *short = (*short).max(results.saturating_sub(at_hand));
                duplicated += at_hand.saturating_sub(sent);
            }
            reordered += charts.values().filter(|c| c.corrected_first).count() as u64;
        }
        let lost = missing.values().sum::<u64>();
        let acknowledged = self.acknowledged_results();
        let held = expected.keys().map(|s| held.get(*s).copied().unwrap_or(0)).sum::<u64>();
        let delivered = acknowledged.saturating_sub(held).saturating_sub(lost);
        Outcome {
            sent: self.sent.values().sum(),
            acknowledged,
            delivered,
            held,
            lost,
            duplicated,
            reordered,
            repeated_same_id: repeated,
            lab_to_chart_ms: Percentiles::default(),
            lab_to_chart_calm_ms: Percentiles::default(),
            restart_ms: 0,
            outage_ms: 0,
            complaints,
            balanced: lost == 0 && duplicated == 0 && reordered == 0 && acknowledged == delivered + held,
        }
    }
}

/// What a receiver's chart holds by specimen, and how many messages came again under their own id.
fn charts(arrivals: &[Arrival]) -> (HashMap<&str, Chart>, u64) {
    let mut charts: HashMap<&str, Chart> = HashMap::new();
    let mut repeats = 0;
    for arrival in arrivals.iter().filter(|a| a.stored) {
        for specimen in &arrival.specimens {
            let chart = charts.entry(specimen).or_default();
            if !chart.ids.insert(arrival.message_id.clone()) {
                repeats += 1;
                continue;
            }
            chart.corrected_first |= chart.ids.len() == 1 && is_correction(&arrival.body);
            chart.results += arrival.results as u64;
        }
    }
    (charts, repeats)
}

/// True when the message carries a corrected result (OBX-11 C, Observation.status corrected).
pub fn is_correction(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let obx = |line: &str| line.starts_with("OBX") && line.split('|').nth(11) == Some("C");
    text.split('\r').any(obx) || text.contains("\"status\":\"corrected\"")
}

/// Which receiver an arrival belongs to.
pub fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Mllp => "HL7 over MLLP/TLS",
        Protocol::Fhir => "FHIR over HTTPS",
        Protocol::Dicom | Protocol::Stow => "images over DICOM",
    }
}
