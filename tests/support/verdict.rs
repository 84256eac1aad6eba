//! What must be true after everything that can go wrong has gone wrong: the instruments' ledger, the EHR's record and
//! the gateway's own books against each other.

use afferent::clinical::{Doubt, Report, Value};
use afferent::demo::account::{Tally, is_correction};
use afferent::demo::stage::Stage;
use afferent::sim::ehr::Arrival;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

/// Complaints shown at most.
const SHOWN: usize = 20;

/// Held results looked at; far more than any run makes.
const HOLDS_MAX: usize = 100_000;

/// What a passed judgement was about.
#[derive(Debug)]
pub struct Figures {
    pub acknowledged: u64,
    pub delivered: u64,
    pub held: u64,
    pub repeated_same_id: u64,
    /// Specimens and corrections acknowledged, by instrument.
    pub messages: BTreeMap<String, u64>,
}

/// Judges a stage whose instruments and gateway have stopped and whose queue was drained.
///
/// # Panics
/// When any promise is broken, with the first complaints and where everything lies.
pub fn judge(stage: &Stage, context: &str) -> Figures {
    let tally = stage.tally();
    let (held, _) = stage.held_and_latency().unwrap();
    let outcome = tally.outcome(&held);
    let mut complaints = outcome.complaints.clone();
    if !outcome.balanced {
        complaints.push(format!(
            "not balanced: {} acknowledged, {} delivered, {} held, {} lost, {} doubled, {} out of order",
            outcome.acknowledged, outcome.delivered, outcome.held, outcome.lost, outcome.duplicated, outcome.reordered
        ));
    }
    let mut messages: BTreeMap<String, u64> = BTreeMap::new();
    for acknowledged in &tally.acknowledged {
        *messages.entry(acknowledged.id.chars().take(4).collect()).or_default() += 1;
    }
    for (name, arrivals) in &tally.arrivals {
        let chart = Chart::of(arrivals, &tally);
        complaints.extend(chart.identities().into_iter().map(|c| format!("{name}: {c}")));
        complaints.extend(chart.order().into_iter().map(|c| format!("{name}: {c}")));
        complaints.extend(chart.values(&tally, &held).into_iter().map(|c| format!("{name}: {c}")));
    }
    complaints.extend(books(stage));
    complaints.extend(verify(stage));
    let more = complaints.len().saturating_sub(SHOWN);
    complaints.truncate(SHOWN);
    assert!(
        complaints.is_empty(),
        "{context}: broken promises (and {more} more), everything lies in {}:\n  {}",
        stage.dir().display(),
        complaints.join("\n  ")
    );
    Figures {
        acknowledged: outcome.acknowledged,
        delivered: outcome.delivered,
        held: outcome.held,
        repeated_same_id: outcome.repeated_same_id,
        messages,
    }
}

/// What one destination stored, by specimen, in order of arrival, repeats included.
struct Chart<'a> {
    stored: BTreeMap<&'a str, Vec<&'a Arrival>>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { acknowledged, delivered, held, repeated_same_id, messages } = self;
        write!(
            f,
            "{acknowledged} results acknowledged, {delivered} delivered, {held} held; {repeated_same_id} messages repeated \
             under their id; {messages:?}"
        )
    }
}

impl<'a> Chart<'a> {
    /// Ids that no instrument sent are other parts of the message that stand beside the specimen's.
    fn of(arrivals: &'a [Arrival], tally: &Tally) -> Self {
        let mut stored: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
        for arrival in arrivals.iter().filter(|a| a.stored) {
            for specimen in arrival.specimens.iter().filter(|id| tally.sent.contains_key(*id)) {
                stored.entry(specimen).or_default().push(arrival);
            }
        }
        Chart { stored }
    }

    /// Invariant I5: one id stands for one sequence of bytes, and what was said once is not said again under another
    /// id.
    fn identities(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut digests: HashMap<&str, &str> = HashMap::new();
        for (specimen, arrivals) in &self.stored {
            let mut said: HashMap<(bool, Vec<String>), &str> = HashMap::new();
            for arrival in arrivals {
                let id = arrival.message_id.as_str();
                if digests.insert(id, &arrival.digest).is_some_and(|digest| digest != arrival.digest) {
                    complaints.push(format!("{id} came with two contents"));
                }
                let content = (is_correction(&arrival.body), values_in(&arrival.body));
                if said.insert(content, id).is_some_and(|other| other != id) {
                    complaints.push(format!("{specimen} came twice, the second time as {id}"));
                }
            }
        }
        complaints
    }

    /// Invariant I6: once the correction is there, what it corrects does not come any more, not even as a repeat.
    fn order(&self) -> Vec<String> {
        let corrected = |arrivals: &[&Arrival]| arrivals.iter().map(|a| is_correction(&a.body)).collect::<Vec<_>>();
        let wrong = self.stored.iter().filter(|(_, arrivals)| !corrected(arrivals).is_sorted());
        wrong.map(|(specimen, _)| format!("{specimen}: an original after its correction")).collect()
    }

    /// Every digit of what was acknowledged is there (invariant I11), or held.
    fn values(&self, tally: &Tally, held: &HashMap<String, u64>) -> Vec<String> {
        let mut missing: BTreeMap<&str, u64> = BTreeMap::new();
        for acknowledged in &tally.acknowledged {
            let arrivals = self.stored.get(acknowledged.id.as_str()).map_or(&[][..], Vec::as_slice);
            let of_version = arrivals.iter().filter(|a| is_correction(&a.body) == (acknowledged.version > 0));
            let there: BTreeSet<String> = of_version.flat_map(|a| values_in(&a.body)).collect();
            let absent = acknowledged.values.iter().filter(|v| !there.contains(v.trim_start_matches('<'))).count();
            *missing.entry(&acknowledged.id).or_default() += absent as u64;
        }
        let unexplained = missing.iter().filter(|(id, count)| **count > held.get(**id).copied().unwrap_or(0));
        unexplained.map(|(id, count)| format!("{id}: {count} values are not there as they were sent")).collect()
    }
}

/// The numerals of a message, digit for digit: OBX-5, or the value of each Observation. Sorted.
fn values_in(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let mut values: Vec<String> = if text.starts_with("MSH") {
        let obx = text.split('\r').filter(|segment| segment.starts_with("OBX|"));
        obx.filter_map(|segment| Some(segment.split('|').nth(5)?.trim_start_matches("<^").to_string())).collect()
    } else {
        let quantities = text.split("\"valueQuantity\"").skip(1);
        quantities
            .filter_map(|quantity| {
                let (_, value) = quantity.split_once("\"value\":")?;
                Some(value.trim_start().split([',', '}']).next()?.trim().to_string())
            })
            .collect()
    };
    values.sort_unstable();
    values
}

/// The gateway's own loss account (invariant I7).
fn books(stage: &Stage) -> Vec<String> {
    let reader = stage.reader().unwrap();
    let stats = reader.stats(0).unwrap();
    let mut complaints = Vec::new();
    let mut must_be_zero = |what: &str, count: i64| {
        if count != 0 {
            complaints.push(format!("the gateway's books: {what} {count}"));
        }
    };
    must_be_zero("missing", stats.account.missing());
    must_be_zero("queued", stats.account.queued);
    must_be_zero("parked", stats.account.parked);
    must_be_zero("refused", stats.account.refused);
    must_be_zero("entries that wait", stats.waiting);
    must_be_zero("entries that are damaged", stats.damaged);
    must_be_zero("identities with two contents", stats.identity_conflicts);
    // A fragment whose message came complete afterwards is covered by it; a person is bothered only with the rest.
    let sent_again: BTreeSet<(String, String)> = stage
        .tally()
        .acknowledged
        .into_iter()
        .flat_map(|a| a.values.into_iter().map(move |v| (a.id.clone(), v)))
        .collect();
    let holds = reader.holds(HOLDS_MAX).unwrap();
    for hold in holds.into_iter().filter(|hold| hold.reason == Doubt::Incomplete.name()) {
        let report: Report = serde_json::from_slice(&reader.report(hold.report).unwrap()).unwrap();
        let value = match &report.observations[hold.observation as usize].value {
            Value::Number(number) => number.to_string(),
            Value::Compared { comparator, number } => format!("{comparator}{number}"),
            other => panic!("instruments here send numbers, not {other:?}"),
        };
        if sent_again.contains(&(report.specimen.id.expose().to_string(), value)) {
            complaints.push(format!("entry {}: held as incomplete although it came complete", hold.entry));
        }
    }
    complaints
}

/// `afferent journal verify`, as a person would run it.
fn verify(stage: &Stage) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["journal", "verify", "--data"])
        .arg(stage.dir().join("data"))
        .output()
        .unwrap();
    (!output.status.success()).then(|| {
        let text = [output.stdout, output.stderr].concat();
        format!("journal verify: {}", String::from_utf8_lossy(&text))
    })
}
