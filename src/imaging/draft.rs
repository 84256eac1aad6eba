//! What is about to be told of a document: which of it goes to which EHR, what is held, and what is kept of it.

use super::Desk;
use super::chart::Charts;
use super::content::{Content, kind};
use super::doubt::{Doubt, Record, facts};
use super::line::INCLUDED;
use super::study::{self, Known, Member, Telling, uncarried};
use crate::clinical::imaging::{Charted, ChartedDocument, MeasurementReport, Update};
use crate::delivery;
use crate::journal::{EntryId, FiledReport, Grounds, JournalError, NewHold, NewOutbound, Reader, ReportId, StudyId};
use crate::mapping::imaging::{Document, ImagingMessage, ImagingProfile, StudyFacts};
use crate::mapping::{MapError, Origin, Target, imaging};
use serde::{Deserialize, Serialize};

/// A document takes the place of what an EHR has that does not hear of it.
pub(super) const ELSEWHERE: &str = "replaced-elsewhere";

/// What is kept of what EHRs are told of a document.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub study: StudyId,
    pub entry: EntryId,
    pub first_uid: String,
    /// Its measurements; none of a PDF, which is read again where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurements: Option<MeasurementReport>,
    /// True when it only takes back what stands under that name: it is told under another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_withdrawal: bool,
    /// Where it was certain that it takes the place of what was there.
    #[serde(default, skip_serializing_if = "Certain::is_nowhere")]
    pub certain: Certain,
}

impl Kept {
    /// The place of what is held for EHRs that do not hear of the document: behind all that it has.
    pub fn elsewhere_at(&self) -> usize {
        self.measurements.as_ref().map_or(1, |report| report.measurements.len().max(1))
    }
}

/// Where it is certain that a document takes the place of what an EHR has, though that gets nothing in its place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Certain {
    /// At none of them.
    #[default]
    Nowhere,
    /// At those that hear of the document, under another name.
    WhereHeard,
    /// At all of them: a person has said so.
    Everywhere,
}

impl Certain {
    fn is_nowhere(&self) -> bool {
        *self == Certain::Nowhere
    }
}

/// What is filed of a document.
pub(super) struct Drafted {
    pub report: FiledReport,
    /// Why all of it waits.
    pub waits: Option<Doubt>,
}

/// What is about to be told of a document.
pub(super) struct Draft<'d> {
    pub desk: &'d Desk,
    pub known: &'d Known,
    pub member: &'d Member,
    pub first_uid: &'d str,
    /// Tells its messages from all others about the study.
    pub name: Vec<u8>,
    pub charts: Charts,
    /// Why it is not certain which line it belongs to.
    pub of_line: Option<&'d Doubt>,
    /// The report of which something is released.
    pub released: Option<ReportId>,
    pub certain: Certain,
}

impl Draft<'_> {
    /// What is filed: one that has nothing for an EHR too, which takes the place of what was held of its line.
    pub fn report(
        &self,
        reader: &Reader,
        content: Result<Content, Doubt>,
        (subject_key, content_key): (Vec<u8>, Vec<u8>),
    ) -> Result<Drafted, JournalError> {
        let mut report = FiledReport {
            completed_at_s: Some(self.member.received_ms / 1000),
            repeat_of: None,
            lookups: self.known.lookups(Some(&self.member.object.sop_instance_uid)),
            json: Vec::new(),
            results: 1,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: Vec::new(),
            answered: Vec::new(),
            orders_as_of: i64::MAX,
            subject_key,
            content_key,
        };
        let held = |at: &usize, grounds: Grounds| NewHold { observation: *at as u32, grounds };
        let elsewhere = match &content {
            Err(doubt) if doubt.grounds.reason == INCLUDED => None,
            content => self.elsewhere(reader, matches!(content, Ok(Content::Silent))),
        };
        let mut record = Record::default();
        if let Some(doubt) = self.of_line {
            record.shows(doubt, []);
        }
        // Who releases one sees all that is doubtful about it.
        let of_line = self.charts.doubt.as_ref().map(|doubt| format!("; {}", doubt.grounds.why)).unwrap_or_default();
        let (mut going, mut measurements) = (vec![0], None);
        match &content {
            Err(doubt) => {
                let why = format!("{}{of_line}", doubt.grounds.why);
                report.holds = vec![held(&0, Grounds { why, ..doubt.grounds.clone() })];
                record.shows(doubt, [0]);
            }
            Ok(Content::Pdf { .. }) => {}
            Ok(Content::Silent) => report.results = 0,
            Ok(Content::Measurements(measured)) => {
                going = self.desk.wanted(&self.member.link, measured);
                let doubt = |at: &usize| measured.measurements.get(*at).and_then(|m| m.doubts.first());
                let doubtful = going.iter().filter_map(|at| {
                    let doubt = doubt(at)?;
                    let why = format!("{}{of_line}", doubt.words());
                    Some(held(at, Grounds { reason: doubt.name(), rule: None, why }))
                });
                report.holds = doubtful.collect();
                report.results = going.len() as u32;
                going.retain(|at| doubt(at).is_none());
                measurements = Some(measured.clone());
            }
        }
        let is_withdrawal = matches!(content, Ok(Content::Silent)) && self.certain != Certain::Nowhere;
        let kept = Kept {
            study: self.known.number,
            entry: self.member.entry,
            first_uid: self.first_uid.to_string(),
            measurements,
            is_withdrawal,
            certain: self.certain,
        };
        if let Some(doubt) = elsewhere {
            let at = kept.elsewhere_at();
            record.shows(&doubt, [at as u32]);
            report.holds.push(held(&at, doubt.grounds));
            report.results += 1;
        }
        report.json = study::kept(super::Kept::Document(Box::new(kept)))?;
        let outbox = match (&content, &self.charts.doubt) {
            (Err(_), _) => Ok(Vec::new()),
            (Ok(_), Some(doubt)) => Err(doubt.clone()),
            (Ok(content), None) => {
                let outbox = self.outbound(content, &going);
                outbox.map_err(|error| Doubt::from(uncarried(self.member.entry, &error)))
            }
        };
        let mut waits = content.as_ref().err().cloned();
        match outbox {
            Ok(outbox) => report.outbox = outbox,
            Err(doubt) => {
                waits = Some(doubt.clone());
                if going.is_empty() && report.holds.is_empty() {
                    going.push(0);
                }
                record.shows(&doubt, going.iter().map(|at| *at as u32));
                report.holds.extend(going.iter().map(|at| held(at, doubt.grounds.clone())));
            }
        }
        report.decisions = record.json();
        // One that does nothing but take back is one result, as is one of which nobody knows what it takes back.
        let is_any = !report.outbox.is_empty() || !report.holds.is_empty();
        report.results = report.results.max(is_any.into());
        Ok(Drafted { report, waits })
    }

    /// True when an EHR hears of the document.
    fn is_heard(&self, to: &delivery::Config) -> bool {
        let what = kind(&self.member.object.sop_class_uid);
        to.takes(&self.member.link) && what.is_some_and(|what| to.imaging.takes(what))
    }

    /// True when it is certain for an EHR that what it has counts no more, though it gets nothing in its place.
    fn is_certain(&self, to: &delivery::Config) -> bool {
        match self.certain {
            // What was refused is taken back again.
            _ if self.charts.is_ended(&to.name) => true,
            Certain::Nowhere => false,
            Certain::WhereHeard => self.is_heard(to),
            Certain::Everywhere => true,
        }
    }

    /// Why it is held for the EHRs that do not hear of it, as long as there are any.
    pub fn elsewhere(&self, reader: &Reader, is_silent: bool) -> Option<Doubt> {
        let unheard = self.unheard(is_silent);
        let why = format!(
            "it takes the place of what {} has, which does not hear of it: release this to take that back there, discard \
             it to leave that",
            unheard.join(", ")
        );
        let about = facts(reader, unheard.iter().map(|to| self.charts.told_by(to)));
        (!unheard.is_empty()).then(|| Doubt::new(ELSEWHERE, &why, about))
    }

    /// The EHRs that have something of the line, get nothing in its place, and for which nobody has said that it counts no
    /// more.
    fn unheard(&self, is_silent: bool) -> Vec<&str> {
        let has =
            |to: &delivery::Config| !self.charts.of(&to.name).is_empty() && !self.charts.is_of(&to.name, self.released);
        let gets = |to: &delivery::Config| self.is_heard(to) && !is_silent || self.is_certain(to);
        self.desk.ehrs().filter(|to| has(to) && !gets(to)).map(|to| to.name.as_str()).collect()
    }

    /// A message for each EHR that hears of it, or has something of its line that certainly counts no more.
    pub fn outbound(&self, content: &Content, going: &[usize]) -> Result<Vec<NewOutbound>, MapError> {
        let mut rows = Vec::new();
        let is_for_others = going.is_empty() && self.released.is_some() && !matches!(content, Content::Silent);
        for to in self.desk.ehrs() {
            let charted = self.charts.of(&to.name);
            let is_correction = self.charts.is_correction(&to.name, self.released);
            let told_under = self.charts.told_under(&to.name);
            self.known.with_facts(self.desk, is_correction, told_under, |facts| match content {
                // What a person released is for the EHRs that do not hear of it.
                _ if is_for_others && self.is_heard(to) => Ok(()),
                Content::Measurements(report) if self.is_heard(to) => {
                    rows.extend(self.numbers(facts, to, (report, going), charted)?);
                    Ok(())
                }
                Content::Pdf { object, code, bytes } if self.is_heard(to) => {
                    let told = Document { instance: object, code: code.as_ref(), bytes, first_uid: self.first_uid };
                    rows.extend(self.document(facts, to, told, charted)?);
                    Ok(())
                }
                // It stopped to hear of these, and none took the place of what it heard.
                _ if self.charts.is_of(&to.name, self.released) || !self.is_certain(to) => Ok(()),
                _ => {
                    let instance = &self.member.object;
                    let by = Document { instance, code: None, bytes: &[], first_uid: self.first_uid };
                    rows.extend(self.withdrawal(facts, to, by, charted.withdrawn())?);
                    Ok(())
                }
            })?;
        }
        Ok(rows)
    }

    /// Numbers in place of what was there.
    fn numbers(
        &self,
        facts: &StudyFacts,
        to: &delivery::Config,
        (report, going): (&MeasurementReport, &[usize]),
        charted: Charted,
    ) -> Result<Option<NewOutbound>, MapError> {
        let mut update = charted.measured(report, going, |measurement| to.imaging.wants(measurement));
        update.is_correction = facts.is_correction;
        update.after.is_final |= imaging::is_final(&report.completion, &report.verification);
        let results = going.len() as u32;
        self.row(facts, to, (ImagingMessage::Measurements, results), update, |update, target, profile, origin| {
            imaging::measurements(facts, report, going, update, target, profile, origin)
        })
    }

    /// A document in place of what was there.
    fn document(
        &self,
        facts: &StudyFacts,
        to: &delivery::Config,
        document: Document,
        charted: Charted,
    ) -> Result<Option<NewOutbound>, MapError> {
        let Document { instance, code, .. } = document;
        let mut update = charted.documented(ChartedDocument { instance: instance.clone(), code: code.cloned() });
        update.is_correction = facts.is_correction;
        update.after.is_final |= imaging::is_final(&instance.completion, &instance.verification);
        self.row(facts, to, (ImagingMessage::Documents, 1), update, |update, target, profile, origin| {
            imaging::document(facts, document, update, target, profile, origin)
        })
    }

    /// What is taken back because this document has nothing in place of it.
    fn withdrawal(
        &self,
        facts: &StudyFacts,
        to: &delivery::Config,
        by: Document,
        update: Update,
    ) -> Result<Option<NewOutbound>, MapError> {
        self.row(facts, to, (ImagingMessage::Measurements, 0), update, |update, target, profile, origin| {
            imaging::withdrawal(facts, by, update, target, profile, origin)
        })
    }

    /// A message of so many results, with what it does to the chart.
    fn row(
        &self,
        facts: &StudyFacts,
        to: &delivery::Config,
        (what, results): (ImagingMessage, u32),
        update: Update,
        map: impl FnOnce(&Update, &Target, &ImagingProfile, &Origin) -> Result<Vec<u8>, MapError>,
    ) -> Result<Option<NewOutbound>, MapError> {
        let mut order = None;
        let telling = Telling { desk: self.desk, known: self.known, about: self.member, name: &self.name };
        let row = telling.to(to, what, results, |target, profile, origin| {
            order = Some(imaging::order(facts, target, origin));
            map(&update, target, profile, origin)
        })?;
        Ok(row.map(|row| self.charts.noted(row, Update { order, ..update }, facts.patient)))
    }
}
