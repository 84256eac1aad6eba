//! What each EHR has of a line of documents: what it was really told, as it was noted with each message.
//!
//! A message that takes numbers back may be refused, given up by a person, or still be on its way. Until it is delivered
//! what it takes back counts as charted, and what is told of the line next takes it back again.

use super::Desk;
use super::doubt::{Doubt, both, facts, of_patient};
use super::study::Known;
use crate::clinical::imaging::{Charted, Update};
use crate::clinical::{Order, Patient, Phi};
use crate::journal::{ChartFate, ChartedBy, JournalError, NewOutbound, Reader, ReportId};
use std::collections::HashMap;

/// What the EHRs have of a line.
#[derive(Default)]
pub(super) struct Charts {
    by_destination: HashMap<String, Chart>,
    /// Why nobody knows what some of them have.
    pub doubt: Option<Doubt>,
}

/// What one of them has.
struct Chart {
    holds: Charted,
    /// What it was told of last; `None` when nobody knows.
    report: Option<ReportId>,
    /// True when that corrected what was told before.
    is_correction: bool,
    /// True when that took back all there was.
    is_ended: bool,
    /// The lane that went in, and whose chart; `None` of one of before these were noted.
    lane: Option<Phi>,
    patient: Option<Patient>,
    /// The order numbers it is known under; `None` likewise.
    order: Option<Order>,
}

/// It names a document of another patient, or is known by the name of one.
pub(super) const ANOTHER_PATIENT: &str = "another-patient";

impl Charts {
    /// What was told under this subject key.
    pub fn read(desk: &Desk, reader: &Reader, subject_key: &[u8]) -> Result<Charts, JournalError> {
        let (mut charts, mut unread) = (Charts::default(), Vec::new());
        for to in desk.ehrs() {
            let told = match reader.charted(subject_key, &to.name) {
                Ok(None) => continue,
                Ok(Some(told)) => chart(&told),
                Err(JournalError::Damaged) => None,
                Err(error) => return Err(error),
            };
            let chart = told.unwrap_or_else(|| {
                unread.push(to.name.clone());
                let holds = Charted { is_final: true, ..Charted::default() };
                Chart {
                    holds,
                    report: None,
                    is_correction: true,
                    is_ended: false,
                    lane: None,
                    patient: None,
                    order: None,
                }
            });
            charts.by_destination.insert(to.name.clone(), chart);
        }
        if !unread.is_empty() {
            let why = "what was told of it before cannot be read: see what the chart has and this one has no more";
            charts.doubt = Some(Doubt::new("damaged", why, facts(reader, unread)));
        }
        Ok(charts)
    }

    /// The same of a document of this study. No message about it changes what was told of another patient, emptied or not.
    pub fn of_study(desk: &Desk, reader: &Reader, subject_key: &[u8], known: &Known) -> Result<Charts, JournalError> {
        let mut charts = Charts::read(desk, reader, subject_key)?;
        let mut others = Vec::new();
        for (to, patient) in charts.patients() {
            if !known.is_of(reader, patient)? {
                others.push([to, &of_patient(patient), &of_patient(known.patient())].join("\u{1f}"));
            }
        }
        if !others.is_empty() {
            let why = "under its own name another patient was told of, whose chart no message about this one may change: \
                       see what both charts ought to have, enter it there, and discard this";
            let another = Doubt::new(ANOTHER_PATIENT, why, facts(reader, others));
            charts.doubt = both(Some(another), charts.doubt.take());
        }
        Ok(charts)
    }

    /// In whose charts it was told, each with the destination.
    pub fn patients(&self) -> impl Iterator<Item = (&str, &Patient)> {
        self.by_destination.iter().filter_map(|(to, chart)| Some((to.as_str(), chart.patient.as_ref()?)))
    }

    /// What this destination has.
    pub fn of(&self, destination: &str) -> Charted {
        self.by_destination.get(destination).map(|chart| chart.holds.clone()).unwrap_or_default()
    }

    /// The order numbers under which this destination was told.
    pub fn told_under(&self, destination: &str) -> Option<&Order> {
        self.by_destination.get(destination)?.order.as_ref()
    }

    /// True when anything of it was told as final anywhere.
    pub fn is_any_final(&self) -> bool {
        self.by_destination.values().any(|chart| chart.holds.is_final)
    }

    /// What of it was told as final besides this report, and where: before it is digested.
    pub fn finals(&self, released: Option<ReportId>) -> Vec<String> {
        let finals = self.by_destination.iter().filter(|(to, chart)| chart.holds.is_final && !self.is_of(to, released));
        finals.map(|(to, _)| self.told_by(to)).collect()
    }

    /// What this destination was told of last, before it is digested.
    pub fn told_by(&self, destination: &str) -> String {
        let report = self.by_destination.get(destination).and_then(|chart| chart.report);
        format!("{destination}\u{1f}{}", report.map_or(0, |report| report.0))
    }

    /// True when this destination was told to forget all it has.
    pub fn is_ended(&self, destination: &str) -> bool {
        self.by_destination.get(destination).is_some_and(|chart| chart.is_ended)
    }

    /// True when all that were told of it were told to forget all they have.
    pub fn are_ended(&self) -> bool {
        !self.by_destination.is_empty() && self.by_destination.values().all(|chart| chart.is_ended)
    }

    /// True when something of it stands anywhere, or nobody knows.
    pub fn is_any(&self) -> bool {
        self.doubt.is_some() || self.by_destination.values().any(|chart| !chart.holds.is_empty())
    }

    /// True when this destination was told of this report last.
    pub fn is_of(&self, destination: &str, report: Option<ReportId>) -> bool {
        report.is_some() && self.by_destination.get(destination).is_some_and(|chart| chart.report == report)
    }

    /// True when more of this report, or another one, corrects what this destination was told as final.
    pub fn is_correction(&self, destination: &str, report: Option<ReportId>) -> bool {
        let more = self.is_of(destination, report);
        let chart = self.by_destination.get(destination);
        chart.is_some_and(|chart| if more { chart.is_correction } else { chart.holds.is_final })
    }

    /// Notes with a message what it does to the chart of its destination. It goes in the lane in which that was told of
    /// the line first, whatever study or link it is of: it never overtakes what it corrects (invariant I6).
    pub fn noted(&self, row: NewOutbound, update: Update, patient: &Patient) -> NewOutbound {
        let before = self.by_destination.get(&row.destination).and_then(|chart| chart.lane.as_ref());
        let lane = before.map_or_else(|| row.lane.clone(), |lane| lane.expose().to_string());
        let patient =
            Patient { id: patient.id.clone(), id_authority: patient.id_authority.clone(), ..Patient::default() };
        let update = Update { lane: Some(Phi::new(lane.as_str())), patient: Some(patient), ..update };
        // Without it nobody would know, and the next document of the line is held.
        NewOutbound { charted: serde_json::to_vec(&update).unwrap_or_default(), lane, ..row }
    }
}

fn chart(told: &ChartedBy) -> Option<Chart> {
    let update: Update = serde_json::from_slice(&told.json).ok()?;
    let (is_correction, is_ended) = (update.is_correction, update.after.is_empty());
    let (lane, patient, order) = (update.lane.clone(), update.patient.clone(), update.order.clone());
    // What a person gave up before anything stood: the next may have better numbers.
    let order = order.filter(|_| told.fate != ChartFate::Discarded || !update.gone.is_empty());
    let holds = match told.fate {
        ChartFate::Delivered => update.after,
        ChartFate::Discarded => update.discarded(),
        ChartFate::Unknown => update.unconfirmed(),
    };
    Some(Chart { holds, report: Some(told.report), is_correction, is_ended, lane, patient, order })
}
