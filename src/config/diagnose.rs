//! Faults in a configuration file, and how they are shown: each with its line, the text itself and what to do.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use std::ops::Range;

/// Two names this alike or more (0 to 1, Jaro-Winkler) are taken for a slip of the finger.
const ALIKE_MIN: f64 = 0.75;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the text it is about.
    pub at: Range<usize>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What is to blame.
    pub kind: Kind,
}

/// What is to blame for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The text: a gateway does not start with it.
    Setting,
    /// Something outside the text that this machine lacks now, such as a certificate or a USB adapter: it may come
    /// later, or be on the machine the text is written for. A gateway starts, says so and keeps trying; what else it
    /// serves must not wait for it.
    Environment,
    /// Something outside the text that is there and cannot work, such as a key that is not its certificate's. A gateway
    /// starts all the same.
    Unusable,
}

/// Everything that is wrong with one text.
#[derive(Debug, Clone)]
pub struct Faults {
    path: String,
    text: String,
    list: Vec<Fault>,
    strict: bool,
}

/// One fault for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    level: &'static str,
    kind: Kind,
    line: usize,
    column: usize,
    message: &'a str,
    hint: Option<&'a str>,
}

impl Fault {
    /// The text is wrong at `at`.
    pub fn setting(at: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into(), hint: None, kind: Kind::Setting }
    }

    /// Something the text names at `at` is missing.
    pub fn environment(at: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { kind: Kind::Environment, ..Fault::setting(at, message) }
    }

    /// What the text names at `at` is there and cannot work.
    pub fn unusable(at: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { kind: Kind::Unusable, ..Fault::setting(at, message) }
    }

    /// True for what is only missing here: a warning, not an error.
    pub fn is_warning(&self) -> bool {
        self.kind == Kind::Environment
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the nearest of `known`, when one is near enough to be meant, else the list of them.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
        let known: Vec<&str> = known.into_iter().collect();
        let hint = match nearest(wrong, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => return self,
            None => format!("known are {}", known.join(", ")),
        };
        self.hint(hint)
    }
}

impl Faults {
    /// Faults of the text of `path`, in the order of the text.
    pub fn new(path: &str, text: &str, mut list: Vec<Fault>) -> Faults {
        list.sort_by_key(|fault| fault.at.start);
        list.dedup();
        Faults { path: path.to_owned(), text: text.to_owned(), list, strict: false }
    }

    /// The faults, in the order of the text.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The same faults where everything the text names has to be there: none of them is a warning any more.
    #[must_use]
    pub fn strict(mut self) -> Faults {
        self.strict = true;
        self
    }

    /// How many of them are warnings.
    pub fn warnings(&self) -> usize {
        self.list.iter().filter(|fault| self.is_warning(fault)).count()
    }

    fn is_warning(&self, fault: &Fault) -> bool {
        fault.is_warning() && !self.strict
    }

    /// For people: the lines themselves, marked. `colour` adds terminal styles.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(if colour { DecorStyle::Unicode } else { DecorStyle::Ascii });
        let shown: Vec<String> = self.list.iter().map(|fault| renderer.render(&self.groups(fault))).collect();
        shown.join("\n\n")
    }

    /// For programs: an array of objects with `level` (error or warning), `kind`, `line`, `column` (both from 1), `message` and `hint`.
    pub fn to_json(&self) -> serde_json::Value {
        let told = self.list.iter().map(|fault| {
            let (line, column) = self.line_and_column(fault.at.start);
            let level = if self.is_warning(fault) { "warning" } else { "error" };
            Told { level, kind: fault.kind, line, column, message: &fault.message, hint: fault.hint.as_deref() }
        });
        serde_json::Value::Array(told.filter_map(|t| serde_json::to_value(t).ok()).collect())
    }

    /// Line and column in characters, both from 1.
    pub fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    fn groups<'a>(&'a self, fault: &'a Fault) -> Vec<Group<'a>> {
        let level = if self.is_warning(fault) { Level::WARNING } else { Level::ERROR };
        let start = floor(&self.text, fault.at.start);
        // Only the first line is marked: the rest of a table says nothing more.
        let rest = self.text.get(start..).unwrap_or_default();
        let line_end = start + rest.find('\n').unwrap_or(rest.len());
        let end = floor(&self.text, fault.at.end).clamp(start, line_end);
        let snippet = Snippet::source(self.text.as_str())
            .path(self.path.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut group = level.primary_title(fault.message.as_str()).element(snippet);
        if let Some(hint) = &fault.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        vec![group]
    }
}

/// The nearest of `known`, when it is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    let alike = |name: &str| strsim::jaro_winkler(&lower, &name.to_lowercase());
    let best = known.into_iter().map(|name| (alike(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE_MIN).then_some(best.1)
}

/// The nearest place at or before `at` where the text can be cut.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}
