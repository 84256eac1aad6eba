//! Conditions on what stands at a place, and what a driver concludes from them: the one way in which a driver says
//! "when this field looks like that". `[[when]]`, `identity.where` and a link's `[[link.instrument]]` all use it.

use super::identify::wildcard;
use super::lines;
use super::path::{COLUMN, Paths, Place};
use super::read::{Source, join};
use crate::clinical::Doubt;
use serde::Deserialize;

/// `{ field = "O.4.5", is = ["QC", "C*"] }`: the first of `field` that is not empty is one of `is` and none of `not`.
///
/// Patterns match the whole text, blanks around it removed; `*` stands for anything and `""` for an empty field. A path
/// without a component takes the whole field. Case-sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Where the text stands.
    pub field: Paths,
    /// What it has to be, one of these; none means anything.
    #[serde(default)]
    pub is: Vec<String>,
    /// What it must not be.
    #[serde(default)]
    pub not: Vec<String>,
}

/// `[[when]]`: what follows when a field looks like that. A rule on a header, patient or order holds for each of its
/// results, one on a result for that result, and one on a comment for what the comment belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// As in [`Condition`].
    pub field: Paths,
    /// As in [`Condition`].
    #[serde(default)]
    pub is: Vec<String>,
    /// As in [`Condition`].
    #[serde(default)]
    pub not: Vec<String>,
    /// Further conditions, all of which have to hold too.
    #[serde(default)]
    pub and: Vec<Condition>,
    /// What follows.
    pub then: Then,
}

/// What follows from a [`When`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// A control run. One such result makes its whole report one.
    Control,
    /// The run gave no result.
    Failed,
    /// The instrument questions its result.
    Questionable,
    /// Training, debugging, a calibration: nothing about a patient.
    NotProduction,
    /// The specimen id is none.
    NoSpecimen,
    /// For the service engineer: a result is counted and refused as "technical value", a comment is left out.
    Technical,
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Headers, patient, order, specimen: everything the results of a report share.
    Report,
    /// One result.
    Result,
    /// One comment.
    Comment,
}

impl Condition {
    /// True when it holds for what is at hand.
    pub(crate) fn holds(&self, source: &impl Source) -> bool {
        holds(&self.field, &self.is, &self.not, source)
    }

    /// Characters of the pattern that fits, stars not counted: how much of the text is known. `None` when it does not
    /// hold.
    pub(super) fn literal(&self, source: &impl Source) -> Option<usize> {
        let text = text(&self.field, source);
        let fits = self.is.iter().filter(|pattern| wildcard(pattern, text.trim()));
        self.holds(source).then(|| fits.map(|p| literal(p)).max().unwrap_or(0))
    }

    /// What is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        fault(&self.field, &self.is, &self.not)
    }
}

impl When {
    /// True when all of it holds for what is at hand.
    pub(super) fn holds(&self, source: &impl Source) -> bool {
        holds(&self.field, &self.is, &self.not, source) && self.and.iter().all(|c| c.holds(source))
    }

    /// Every place it names.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.field.places().chain(self.and.iter().flat_map(|c| c.field.places()))
    }

    /// What it is asked about: the innermost of the records it names.
    pub(super) fn stage(&self) -> Stage {
        let names = |records: &[&str]| self.places().any(|p| records.contains(&p.record.as_str()));
        let of_line = |of: fn(&str) -> bool| {
            self.places().any(|p| p.record == lines::RECORD && p.item.as_ref().is_some_and(|item| of(&item.name)))
        };
        // A row of a table is a result.
        if names(&[COLUMN]) {
            Stage::Result
        } else if names(&["C", "NTE"]) || of_line(|name| name == "comment") {
            Stage::Comment
        } else if names(&["R", "OBX", "OBS"]) || of_line(|name| lines::OF_RESULT.contains(&name)) {
            Stage::Result
        } else {
            Stage::Report
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        fault(&self.field, &self.is, &self.not).or_else(|| self.and.iter().find_map(Condition::fault))
    }
}

impl Then {
    /// The doubt it puts a result in; a technical result is none.
    pub(super) fn doubt(self) -> Option<Doubt> {
        match self {
            Then::Control => Some(Doubt::Control),
            Then::Failed => Some(Doubt::FailedRun),
            Then::Questionable => Some(Doubt::Questionable),
            Then::NotProduction => Some(Doubt::NotProduction),
            Then::NoSpecimen => Some(Doubt::NoSpecimen),
            Then::Technical => None,
        }
    }
}

/// Characters of a pattern, stars not counted.
pub(super) fn literal(pattern: &str) -> usize {
    pattern.chars().filter(|c| *c != '*').count()
}

fn holds(field: &Paths, is: &[String], not: &[String], source: &impl Source) -> bool {
    let text = text(field, source);
    let fits = |patterns: &[String]| patterns.iter().any(|pattern| wildcard(pattern, text.trim()));
    (is.is_empty() || fits(is)) && !fits(not)
}

fn text(field: &Paths, source: &impl Source) -> String {
    let texts = field.iter().map(|path| join(path, source, true));
    texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default()
}

fn fault(field: &Paths, is: &[String], not: &[String]) -> Option<&'static str> {
    if field.is_empty() {
        return Some("a condition needs a `field`, such as \"O.4.5\"");
    }
    if is.is_empty() && not.is_empty() {
        return Some("a condition needs `is` or `not`; `not = [\"\"]` asks that the field is not empty");
    }
    is.iter()
        .any(|p| p == "*")
        .then_some("`is = [\"*\"]` is always true; `not = [\"\"]` asks that the field is not empty")
}
