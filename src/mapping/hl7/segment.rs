//! Segments and the message they make.

use super::super::{Charset, MapError};
use super::escape;

/// A segment being written; fields are numbered as the standard does.
pub(super) struct Segment {
    name: &'static str,
    fields: Vec<String>,
    /// The whole segment as somebody else wrote it, in place of name and fields.
    verbatim: Option<String>,
}

impl Segment {
    pub fn new(name: &'static str) -> Self {
        Segment { name, fields: Vec::new(), verbatim: None }
    }

    /// A segment that repeats a peer's, escaped as it was.
    pub fn verbatim(text: &str) -> Self {
        Segment { name: "", fields: Vec::new(), verbatim: Some(text.to_string()) }
    }

    /// Field `n` as one text.
    pub fn text(self, n: usize, text: &str) -> Self {
        self.written(n, escape::text(text))
    }

    /// Field `n` from components.
    pub fn components(self, n: usize, parts: &[&str]) -> Self {
        self.written(n, escape::components(parts))
    }

    /// Field `n` as HD, from a setting in which `^` separates its components.
    pub fn hierarchic(self, n: usize, setting: &str) -> Self {
        let parts: Vec<&str> = setting.split('^').collect();
        self.components(n, &parts)
    }

    /// Field `n`, escaped already.
    pub fn written(mut self, n: usize, field: String) -> Self {
        if self.fields.len() < n {
            self.fields.resize(n, String::new());
        }
        if let Some(slot) = n.checked_sub(1).and_then(|at| self.fields.get_mut(at)) {
            *slot = field;
        }
        self
    }
}

/// A message being written.
#[derive(Default)]
pub(super) struct Message(Vec<Segment>);

impl Message {
    pub fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    /// The bytes, every segment ended by CR.
    pub fn encode(&self, charset: Charset) -> Result<Vec<u8>, MapError> {
        let mut out = Vec::new();
        for segment in &self.0 {
            if let Some(text) = &segment.verbatim {
                charset.append(&mut out, text, || "an echoed segment".to_string())?;
                out.push(b'\r');
                continue;
            }
            out.extend_from_slice(segment.name.as_bytes());
            // MSH-1 is the separator itself.
            let skipped = usize::from(segment.name == "MSH");
            let filled = segment.fields.iter().rposition(|f| !f.is_empty()).map_or(0, |last| last + 1);
            for (at, field) in segment.fields.iter().enumerate().take(filled).skip(skipped) {
                out.push(b'|');
                charset.append(&mut out, field, || format!("{}-{}", segment.name, at + 1))?;
            }
            out.push(b'\r');
        }
        Ok(out)
    }
}
