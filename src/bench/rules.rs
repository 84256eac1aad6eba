//! What the site's rules cost: evaluations per second on one core, by a rulebook as strict as a site may have.

use crate::clinical::{Report, Value};
use crate::driver::{Context, Protocol, Registry, interpret};
use crate::rules::Rulebook;
use crate::rules::autoverification::{ControlRun, Facts, Previous, code};
use crate::rules::rule::{self, Kind, Rule};
use crate::sim::instrument::results::{Shape, make, records};
use crate::wire::astm::encode_frame;
use std::time::{Duration, Instant};

/// Results in the report: about what a chemistry panel has.
const RESULTS: usize = 8;
/// Reports judged between two looks at the clock.
const BATCH: usize = 50;

/// A report as an instrument of a known family sends it.
pub fn report() -> Report {
    let registry = Registry::builtin();
    let shape = registry.get("roche-cobas-c111").map_or_else(Shape::generic, Shape::of);
    let specimen = make(&shape, "BNCH", 1, 1, 0, RESULTS);
    let records = records(&shape, &specimen, "20260301120000");
    let raw: Vec<u8> = (1..).zip(&records).flat_map(|(at, record)| encode_frame(at % 8, record, true)).collect();
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
    let read = interpret(registry.identify(Protocol::Astm, &raw), &raw, &context);
    let mut report = read.reports.into_iter().next().unwrap_or_default();
    // Words and limits ask less of a rule.
    report.observations.retain(|observation| matches!(observation.value, Value::Number(_)));
    report
}

/// For each test of the report a range, critical limits, a delta and a control, each of which lets the result pass; and
/// what they ask the box to remember.
pub fn strict_rules(report: &Report) -> (Rulebook, Facts) {
    let (mut rules, mut facts) = (Vec::new(), Facts::default());
    for observation in &report.observations {
        let code = code(observation);
        let of_kind = |kind: Kind| Rule {
            name: format!("{kind:?} {code}"),
            kind,
            analytes: vec![code.to_string()],
            unit: Some(observation.ucum.clone()),
            ..Rule::default()
        };
        let (low, high) = (Some("0.001".to_string()), Some("99999".to_string()));
        rules.push(Rule { low: low.clone(), high: high.clone(), ..of_kind(Kind::Range) });
        rules.push(Rule { low, high, ..of_kind(Kind::Critical) });
        rules.push(Rule { percent: Some("50".into()), within_days: Some(7), ..of_kind(Kind::Delta) });
        let control = rule::Target { low: "0.001".into(), high: "99999".into(), ..rule::Target::default() };
        rules.push(Rule { controls: vec![control], max_age_hours: Some(24), ..of_kind(Kind::Qc) });
        let (value, ucum) = (observation.value.clone(), observation.ucum.clone());
        facts.previous.insert(code.into(), Previous { value: value.clone(), ucum: ucum.clone(), received_ms: 0 });
        let run = ControlRun { control: Default::default(), value, ucum, failed: false, received_ms: 0 };
        facts.controls.insert(code.into(), vec![run]);
    }
    (Rulebook::new(&rules).unwrap_or_default(), facts)
}

/// Decisions per second on this one thread: a rule that looks at a result and says what becomes of it.
pub fn per_second(time: Duration) -> f64 {
    let report = report();
    let (rulebook, facts) = strict_rules(&report);
    let began = Instant::now();
    let mut decided = 0;
    while began.elapsed() < time {
        for _ in 0..BATCH {
            decided += std::hint::black_box(rulebook.judge("bench", std::hint::black_box(&report), 0, &facts)).len();
        }
    }
    decided as f64 / began.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Outcome;

    #[test]
    fn every_rule_decides_about_every_result() {
        let report = report();
        let (rulebook, facts) = strict_rules(&report);
        let decided = rulebook.judge("bench", &report, 0, &facts);
        assert!(report.observations.len() >= RESULTS / 2);
        assert_eq!(decided.len(), 4 * report.observations.len(), "{decided:?}");
        assert!(decided.iter().all(|d| d.outcome == Outcome::Passed), "{decided:?}");
    }
}
