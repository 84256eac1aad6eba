//! Names for the numbers of structured reports, and what is in a chart of a line of documents.
//!
//! A corrected report is another tree: a number that is left out moves the ones behind it. So a number is known by what
//! it is a number of, never by its place, and what is in the chart is kept by these names until it is taken back.

use super::{Instance, Measurement, MeasurementReport, Modifier, ModifierValue};
use crate::clinical::{Coding, Order, Patient, Phi};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// LOINC of a document that does not say what it is.
pub const IMAGING_DOCUMENT: (&str, &str) = ("18748-4", "Diagnostic imaging study");

/// What one EHR was told of a line of documents, and not told to forget.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Charted {
    /// The numbers, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, Measurement>,
    /// What the groups are called that are panels of their own, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub panels: BTreeMap<String, Coding>,
    /// What the report with the numbers is called; none when it does not stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Coding>,
    /// The encapsulated document; before it is known that it took the place of another that is called otherwise, both.
    #[serde(alias = "document", deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<ChartedDocument>,
    /// True when anything of the line was ever told as final, so that what comes now corrects it.
    pub is_final: bool,
}

/// An encapsulated document, as far as it takes to tell of it without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChartedDocument {
    /// The object it came in.
    pub instance: Instance,
    /// What kind of document it is.
    pub code: Option<Coding>,
}

/// What a message does to a chart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// What the chart holds once the message arrived.
    pub after: Charted,
    /// What the message takes back.
    pub gone: Charted,
    /// True when it corrects what was told of an earlier document.
    pub is_correction: bool,
    /// True when anything of the line was told as final before it.
    pub was_final: bool,
    /// The lane it goes in, and all that is told of the line after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Phi>,
    /// Whose chart it is told in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient: Option<Patient>,
    /// The order numbers it is told under, and all that corrects it in HL7 v2 after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
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
        self.numbers.is_empty() && self.panels.is_empty() && self.documents.is_empty() && self.title.is_none()
    }

    /// This report takes the place of what is there. These of its numbers go out, by their index; `is_wanted` says which
    /// the EHR wants at all. What of those does not go out is in the chart as it was.
    pub fn measured(
        self,
        report: &MeasurementReport,
        part: &[usize],
        is_wanted: impl Fn(&Measurement) -> bool,
    ) -> Update {
        let names = report.names();
        let wanted: HashSet<usize> = (0..names.len()).filter(|at| is_wanted(&report.measurements[*at])).collect();
        let known: HashSet<&String> = wanted.iter().map(|at| &names[*at]).collect();
        let (mut numbers, gone): (BTreeMap<_, _>, _) =
            self.numbers.into_iter().partition(|(name, _)| known.contains(name));
        let mut groups: HashSet<&str> = HashSet::new();
        for at in part.iter().copied().filter(|at| wanted.contains(at)) {
            let mut measurement = report.measurements[at].clone();
            if measurement.observed.is_empty() {
                measurement.observed.clone_from(&report.made);
            }
            numbers.insert(names[at].clone(), measurement);
            groups.insert(&report.measurements[at].group);
        }
        let wanted_groups: HashSet<&str> = wanted.iter().map(|at| report.measurements[*at].group.as_str()).collect();
        let mut panels = report.panels(&names);
        panels.retain(|panel| wanted_groups.contains(panel.group));
        let (stay, gone_panels): (BTreeMap<_, _>, _) =
            self.panels.into_iter().partition(|(name, _)| panels.iter().any(|panel| panel.name == *name));
        let there = panels.iter().filter(|panel| groups.contains(panel.group) || stay.contains_key(&panel.name));
        let panels = there.map(|panel| (panel.name.clone(), panel.called.clone())).collect();
        // A report of which nothing stands does not stand itself.
        let title = Some(report.title.clone()).filter(|_| !numbers.is_empty());
        let gone = Charted { numbers: gone, panels: gone_panels, ..self };
        Update::of(Charted { numbers, panels, title, ..Charted::default() }, gone)
    }

    /// This document takes the place of what is there. One that is called as it takes its place by itself.
    pub fn documented(mut self, document: ChartedDocument) -> Update {
        self.documents.retain(|before| !before.is_called_as(&document));
        Update::of(Charted { documents: vec![document], ..Charted::default() }, self)
    }

    /// Nothing takes the place of what is there.
    pub fn withdrawn(self) -> Update {
        Update::of(Charted::default(), self)
    }
}

impl ChartedDocument {
    /// What it is called in the chart.
    pub fn called(&self) -> Coding {
        self.code.clone().unwrap_or_else(|| Coding::loinc(IMAGING_DOCUMENT.0, IMAGING_DOCUMENT.1))
    }

    fn is_called_as(&self, other: &ChartedDocument) -> bool {
        coded(&self.called()) == coded(&other.called())
    }
}

impl Update {
    /// A chart that holds this, and this no more.
    fn of(after: Charted, gone: Charted) -> Update {
        let was_final = gone.is_final;
        Update {
            after: Charted { is_final: was_final, ..after },
            gone: Charted { is_final: false, ..gone },
            is_correction: was_final,
            was_final,
            ..Update::default()
        }
    }

    /// True when it leaves nothing of the report with the numbers.
    pub fn ends_report(&self) -> bool {
        self.gone.title.is_some() && self.after.title.is_none()
    }

    /// What the chart may hold when a person discarded the message. Whether that ever arrived is not known, so its
    /// numbers count; but what it said as final does not, for then the next would correct what nobody was told.
    pub fn discarded(self) -> Charted {
        let is_final = self.was_final;
        Charted { is_final, ..self.unconfirmed() }
    }

    /// What the chart may hold when it is not known that the message arrived.
    pub fn unconfirmed(self) -> Charted {
        let mut all = self.gone;
        all.numbers.extend(self.after.numbers);
        all.panels.extend(self.after.panels);
        let mut documents = self.after.documents;
        let others = all.documents.iter().filter(|gone| !documents.iter().any(|now| now.is_called_as(gone)));
        let others: Vec<ChartedDocument> = others.cloned().collect();
        documents.extend(others);
        Charted { title: self.after.title.or(all.title), documents, is_final: self.after.is_final, ..all }
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

/// Records of before hold one document at most, and not in a list.
fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ChartedDocument>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Documents {
        Several(Vec<ChartedDocument>),
        One(Option<Box<ChartedDocument>>),
    }
    Ok(match Documents::deserialize(from)? {
        Documents::Several(all) => all,
        Documents::One(one) => one.into_iter().map(|one| *one).collect(),
    })
}
