//! Reading places out of whatever record is at hand, and remembering where a text came from.

use super::path::{COLUMN, Path, Paths, Place};
use crate::clinical::Phi;

/// Something that can be asked for the text at a place.
pub(crate) trait Source {
    /// The text, decoded; empty when there is none. Without a component: component 1, or the whole field when `whole`.
    fn text(&self, place: &Place, whole: bool) -> String;
    /// The number of the record the place is in.
    fn number(&self, place: &Place) -> Option<u32>;
}

/// Where one field of a report came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the field, as in `[fields]`.
    pub field: &'static str,
    /// The path that was not empty.
    pub path: String,
    /// Record or segment number.
    pub record: u32,
    /// The text as it stood there, decoded.
    pub text: Phi,
}

/// Most origins remembered of one entry.
const ORIGINS_MAX: usize = 100_000;

/// Collects origins, when somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Collect at all.
    pub on: bool,
    /// What was collected.
    pub origins: Vec<Origin>,
}

impl Trace {
    /// Remembers where a text stood; once, however often it is read.
    pub fn add(&mut self, field: &'static str, path: String, record: u32, text: &str) {
        let is_this = |o: &Origin| o.field == field && o.path == path && o.text.expose() == text;
        let known = || self.origins.iter().rev().take_while(|origin| origin.record == record).any(is_this);
        if self.on && self.origins.len() < ORIGINS_MAX && !known() {
            self.origins.push(Origin { field, path, record, text: Phi::new(text) });
        }
    }
}

/// The first of `paths` that is not empty: which one it was, and its text.
pub(super) fn first<'p>(
    paths: &'p Paths,
    source: &impl Source,
    whole: bool,
    field: &'static str,
    trace: &mut Trace,
) -> (Option<&'p Path>, String) {
    for path in paths.iter() {
        let text = join(path, source, whole);
        if text.trim().is_empty() {
            continue;
        }
        if trace.on {
            let record = path.places.first().and_then(|p| source.number(p)).unwrap_or(0);
            trace.add(field, path.to_string(), record, &text);
        }
        return (Some(path), text);
    }
    (None, String::new())
}

pub(super) fn join(path: &Path, source: &impl Source, whole: bool) -> String {
    if let [place] = path.places.as_slice() {
        return source.text(place, whole);
    }
    let mut parts: Vec<String> = path.places.iter().map(|p| source.text(p, whole).trim().to_string()).collect();
    if path.places.iter().all(|place| place.record == COLUMN) {
        // Columns that are joined are parts of one thing: a date without its time has a path of its own.
        return if parts.iter().any(String::is_empty) { String::new() } else { parts.join(" ") };
    }
    while parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts.join("/")
}
