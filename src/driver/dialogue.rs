//! `[query]` and `[orders]` of `driver.toml`: how an instrument asks for orders, and the records it is answered with.
//!
//! Records are written as the manual of the instrument prints them, with names in braces where something is filled in:
//! `O|{n}|{specimen_id}|{Q.3.4}^{Q.3.5}|{tests}|{priority}||||||{action}`. `{Q.3.4}` and `{H.5}` echo what the
//! instrument asked with. In a worklist nobody asked for they are empty, and so are those in Q when everything is asked
//! for; only the place of the specimen id in Q holds the id of the tube even then. What is filled in is escaped.

use super::path::{Paths, Place};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest record of a layout, in characters.
const TEMPLATE_MAX: usize = 1_000;

/// Names a layout may hold, besides places in H and Q.
pub(super) const NAMES: [&str; 18] = [
    "now",
    "n",
    "action",
    "specimen_id",
    "specimen_type",
    "tests",
    "test",
    "code",
    "priority",
    "ordered",
    "collected",
    "patient_id",
    "family",
    "given",
    "birth_date",
    "sex",
    "location",
    "placer_order_number",
];

/// `[query]`: how the instrument asks. Without this section nothing is answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLayout {
    /// Where the specimen id stands in Q; every repeat of the field is one specimen.
    pub specimen_id: Paths,
    /// Where the tests stand that are asked for; empty or `ALL` means all of them.
    pub tests: Paths,
    /// Statuses (Q.13) that take the last question back (LIS02-A2 clause 10.1.13).
    pub cancel_status: Vec<String>,
}

impl Default for QueryLayout {
    fn default() -> Self {
        QueryLayout {
            specimen_id: Paths::of(&["Q.3.2"]),
            tests: Paths::of(&["Q.5.4"]),
            cancel_status: vec!["A".to_string()],
        }
    }
}

/// `[orders]`: the records orders are sent in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderLayout {
    /// The header. Its delimiters hold for the whole message.
    pub header: Template,
    /// The patient. Left out where the instrument takes orders without one.
    pub patient: Option<Template>,
    /// An order. With `{tests}` one for each specimen, with `{test}` one for each test.
    pub order: Template,
    /// One test inside `{tests}` or `{test}`.
    pub test: Template,
    /// Records after the header for a specimen nothing is ordered for; none where the terminator alone says so.
    pub nothing: Vec<Template>,
    /// The terminator.
    pub end: Template,
    /// The terminator of an answer without any order.
    pub end_nothing: Template,
    /// What `{action}` is in an answer to a query (LIS02-A2 clause 7.4.12).
    pub action: String,
    /// What `{action}` is in an order nobody asked for; no order is ever sent so without it.
    pub push_action: Option<String>,
    /// What `{action}` is when an order that was sent is taken back; without it the instrument is not told.
    pub cancel_action: Option<String>,
    /// Specimen type of the EHR = the instrument's. Others are sent as `specimen_type_other`.
    pub specimen_types: BTreeMap<String, String>,
    /// The type of any other specimen.
    pub specimen_type_other: String,
    /// Priority of the EHR = the instrument's. Others are sent as `priority_other`.
    pub priorities: BTreeMap<String, String>,
    /// Any other priority.
    pub priority_other: String,
    /// Code of the EHR = codes of the instrument, for panels and for tests that no analyte or more than one stands for.
    pub codes: BTreeMap<String, Vec<String>>,
    /// The instrument is ordered from by codes that the laboratory chose, and reports by others: only what is listed
    /// in `codes` or by the link is ever sent.
    pub site_codes: bool,
}

impl Default for OrderLayout {
    fn default() -> Self {
        let template = |text: &str| Template::read(text).unwrap_or_default();
        OrderLayout {
            header: template(r"H|\^&||||||||||P|LIS02-A2|{now}"),
            patient: Some(template("P|{n}|{patient_id}|||{family}^{given}||{birth_date}|{sex}")),
            order: template("O|{n}|{specimen_id}||{tests}|{priority}|{ordered}|||||{action}||||{specimen_type}"),
            test: template("^^^{code}"),
            nothing: Vec::new(),
            end: template("L|{n}|N"),
            end_nothing: template("L|{n}|I"),
            action: "A".to_string(),
            push_action: None,
            cancel_action: None,
            specimen_types: BTreeMap::new(),
            specimen_type_other: String::new(),
            priorities: BTreeMap::from([("S".to_string(), "S".to_string()), ("A".to_string(), "A".to_string())]),
            priority_other: "R".to_string(),
            codes: BTreeMap::new(),
            site_codes: false,
        }
    }
}

/// A record, or a part of one, with names to fill in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Stands as it is.
    Text(String),
    /// One of [`NAMES`].
    Name(&'static str),
    /// A place in the query's H or Q.
    Echo(Place),
}

impl Template {
    fn read(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_MAX || text.contains(['\r', '\n']) {
            return Err(format!("a record is one line of at most {TEMPLATE_MAX} characters"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a { without its }")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_string()));
            }
            let echo = || {
                let path = super::path::Path::try_from(name.to_string()).ok()?;
                let [place] = path.places.as_slice() else { return None };
                matches!(place.record.as_str(), "H" | "Q").then(|| Piece::Echo(place.clone()))
            };
            let known = NAMES.iter().find(|known| **known == name).map(|known| Piece::Name(known));
            let piece = known.or_else(echo).ok_or_else(|| {
                format!("`{{{name}}}` is none of the names that are filled in: {}, H.n, Q.n.n", NAMES.join(", "))
            })?;
            pieces.push(piece);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_string()));
        }
        Ok(Template(pieces))
    }

    /// True when it is a record of this type.
    pub(super) fn begins(&self, letter: &str) -> bool {
        matches!(self.0.first(), Some(Piece::Text(text)) if text.starts_with(letter))
    }

    /// True when the record holds this name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Name(n) if *n == name))
    }

    /// The record with everything filled in; `fill` gives the text of a name or place, already escaped.
    pub(super) fn filled(&self, mut fill: impl FnMut(&Piece) -> String) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            other => fill(other),
        };
        self.0.iter().map(text).collect()
    }
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Template::read(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_that_names_something_unknown_is_refused_with_the_names_there_are() {
        let read = Template::read("O|{n}|{specimen_id}^{Q.3.4}|x").unwrap();
        assert!(read.names("n") && !read.names("tests"));
        assert_eq!(read.filled(|_| "7".to_string()), "O|7|7^7|x");
        for wrong in ["{specimen}", "{R.3}", "{Q.3", "{}", "a\rb"] {
            assert!(Template::read(wrong).is_err(), "{wrong}");
        }
        assert!(Template::read("{specimen}").unwrap_err().contains("specimen_id"));
    }
}
