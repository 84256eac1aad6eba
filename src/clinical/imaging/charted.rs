//! Names for the numbers of structured reports, and what is in a chart of them.
//!
//! A corrected report is another tree: a number that is left out moves the ones behind it. So a number is known by what
//! it is a number of, never by its place, and what is in the chart is kept by these names until it is taken back.

use super::{Measurement, MeasurementReport, Modifier, ModifierValue};
use crate::clinical::Coding;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What EHRs were told of a line of reports, and not told to forget.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Charted {
    /// The numbers, by their names.
    pub numbers: BTreeMap<String, Measurement>,
    /// What the groups are called that are panels of their own, by their names.
    pub panels: BTreeMap<String, Coding>,
}

/// A group of numbers that is a panel of its own.
pub struct Panel<'r> {
    /// The place of the container.
    pub group: &'r str,
    /// What it is known by: the numbers in it.
    pub name: String,
    /// What it is called.
    pub called: &'r Coding,
}

impl Charted {
    /// True when there is nothing in the chart.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.panels.is_empty()
    }

    /// What is in the chart after this report was told, of which these numbers went out, by their index.
    pub fn after(self, report: &MeasurementReport, sent: &[usize]) -> Charted {
        let names = report.names();
        let (known, went): (HashSet<&String>, HashSet<usize>) =
            (names.iter().collect(), sent.iter().copied().collect());
        let mut numbers: BTreeMap<String, Measurement> =
            self.numbers.into_iter().filter(|(name, _)| known.contains(name)).collect();
        let mut groups: HashSet<&str> = HashSet::new();
        for (at, measurement) in report.measurements.iter().enumerate().filter(|(at, _)| went.contains(at)) {
            let mut measurement = measurement.clone();
            if measurement.observed.is_empty() {
                measurement.observed.clone_from(&report.made);
            }
            numbers.insert(names[at].clone(), measurement);
            groups.insert(&report.measurements[at].group);
        }
        let panels = report.panels(&names);
        let stay = panels.iter().filter(|panel| groups.contains(panel.group) || self.panels.contains_key(&panel.name));
        let panels = stay.map(|panel| (panel.name.clone(), panel.called.clone())).collect();
        Charted { numbers, panels }
    }

    /// The numbers in the chart that this report has no more, with their names.
    pub fn gone(&self, report: &MeasurementReport) -> Vec<(&str, &Measurement)> {
        let names: HashSet<String> = report.names().into_iter().collect();
        self.numbers.iter().filter(|(name, _)| !names.contains(*name)).map(|(name, m)| (name.as_str(), m)).collect()
    }
}

impl MeasurementReport {
    /// A name for each number, in their order: all that is said of what it is a number of, and nothing of how much that
    /// is. Numbers that nothing tells apart are counted.
    pub fn names(&self) -> Vec<String> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut name = |measurement: &Measurement| {
            let said = said(measurement);
            let count = counts.entry(said.clone()).or_default();
            *count += 1;
            format!("{count}:{said}")
        };
        self.measurements.iter().map(&mut name).collect()
    }

    /// The groups that are panels, in the order of the tree: every one but the root that has a name. `names` are those
    /// of the numbers.
    pub fn panels(&self, names: &[String]) -> Vec<Panel<'_>> {
        let mut members: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (measurement, name) in self.measurements.iter().zip(names) {
            members.entry(&measurement.group).or_default().insert(name);
        }
        let mut panels = Vec::new();
        for measurement in &self.measurements {
            let Some(called) = measurement.group_name.as_ref().filter(|_| measurement.group != "1") else { continue };
            if let Some(members) = members.remove(measurement.group.as_str()) {
                let name = members.into_iter().collect::<Vec<_>>().join("\u{1f}");
                panels.push(Panel { group: &measurement.group, name, called });
            }
        }
        panels
    }
}

/// Everything that says what it is a number of, in an order of its own. One that is raw is another than the chosen one.
fn said(m: &Measurement) -> String {
    let around: Vec<Said> = m.sections.iter().chain(&m.group_name).map(coded).collect();
    let codes = [&m.site, &m.laterality, &m.mode, &m.method, &m.derivation, &m.cycle_point, &m.direction, &m.selection]
        .map(|coding| coding.as_ref().map(coded));
    let mut modifiers: Vec<String> = m.modifiers.iter().map(modified).collect();
    modifiers.sort();
    format!("{:?}", (coded(&m.code), around, codes, &m.fetus, &m.tracking, &m.tracking_uid, modifiers, m.is_raw))
}

/// A code as far as it tells: words may be others from one writing to the next.
type Said<'c> = (&'c str, &'c str);

fn coded(coding: &Coding) -> Said<'_> {
    match coding.code.as_str() {
        "" => ("", &coding.text),
        code => (coding.system.hl7(), code),
    }
}

fn modified(modifier: &Modifier) -> String {
    let name = coded(&modifier.name);
    match &modifier.value {
        ModifierValue::Coded(value) => format!("{:?}", (name, coded(value))),
        ModifierValue::Text(text) => format!("{:?}", (name, text)),
        ModifierValue::Number { value, unit } => format!("{:?}", (name, value, unit)),
    }
}
