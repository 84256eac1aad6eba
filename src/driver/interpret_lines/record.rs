//! Reading one line by one record of `[lines]`.

use super::{Bag, Reading};
use crate::driver::lines::{Columns, Pattern, Record};
use crate::message::lines::Line;
use crate::message::tables::split_line;

/// What the line says by this record; `None` when it does not fit.
pub(super) fn read(record: &Record, line: &Line) -> Option<Reading> {
    if record.when.as_ref().is_some_and(|when| !when.0.is_match(&line.text)) {
        return None;
    }
    let note = Note { record, number: line.number };
    let mut reading = if record.pattern.is_some() {
        note.by_pattern(&line.text)?
    } else if !record.columns.is_empty() {
        note.by_columns(&line.text)
    } else if record.separator.is_some() {
        note.by_separator(&line.text)
    } else {
        note.by_bytes(&line.block)?
    };
    let known: Vec<_> = record.set.iter().map(|(name, text)| (name.clone(), (text.clone(), line.number))).collect();
    match reading.results.as_mut_slice() {
        // What is known of a result holds for each of them.
        results if !results.is_empty() => results.iter_mut().for_each(|result| result.extend(known.clone())),
        _ => reading.shared.extend(known),
    }
    reading.begins_report = record.begins_report;
    Some(reading)
}

struct Note<'r> {
    record: &'r Record,
    number: u32,
}

impl Note<'_> {
    fn by_pattern(&self, text: &str) -> Option<Reading> {
        let pattern = self.record.pattern.as_ref()?;
        let mut reading = Reading::default();
        let mut rest = String::new();
        let repeated = self.record.repeat.as_ref().and_then(|repeat| repeat.pattern.as_ref());
        if let Some(repeated) = repeated {
            let head = pattern.0.find(text)?;
            let (before, tail) = (text.get(..head.start())?, text.get(head.end()..)?);
            reading.shared = self.matches(pattern, head.as_str(), &mut rest).pop()?;
            rest.insert_str(0, before);
            reading.results = self.matches(repeated, tail, &mut rest);
        } else {
            let mut bags = self.matches(pattern, text, &mut rest);
            match bags.len() {
                0 => return None,
                1 => reading.shared = bags.pop().unwrap_or_default(),
                _ => reading.results = bags,
            }
        }
        if rest.chars().any(char::is_alphanumeric) {
            reading.rest = rest.trim().to_string();
        }
        Some(reading)
    }

    /// What each match says; `rest` takes what stands between them.
    fn matches(&self, pattern: &Pattern, text: &str, rest: &mut String) -> Vec<Bag> {
        let mut bags = Vec::new();
        let mut at = 0;
        for found in pattern.0.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            rest.push_str(text.get(at..whole.start()).unwrap_or_default());
            at = whole.end();
            let mut bag = Bag::new();
            for name in pattern.0.capture_names().flatten() {
                if let Some(text) = found.name(name) {
                    self.put(&mut bag, name, text.as_str());
                }
            }
            bags.push(bag);
        }
        rest.push_str(text.get(at..).unwrap_or_default());
        bags
    }

    fn by_columns(&self, text: &str) -> Reading {
        let characters: Vec<char> = text.chars().collect();
        let mut reading = Reading { shared: self.columns(&self.record.columns, &characters), ..Reading::default() };
        if let Some(repeat) = &self.record.repeat {
            let rest = characters.get(repeat.from - 1..).unwrap_or_default();
            let pieces = rest.chunks(repeat.width).filter(|piece| piece.iter().any(|c| !c.is_whitespace()));
            reading.results = pieces.map(|piece| self.columns(&repeat.columns, piece)).collect();
        }
        reading
    }

    fn columns(&self, columns: &std::collections::BTreeMap<String, Columns>, characters: &[char]) -> Bag {
        let mut bag = Bag::new();
        for (name, range) in columns {
            let last = range.last.min(characters.len());
            let text: String = characters.get(range.first - 1..last).unwrap_or_default().iter().collect();
            self.put(&mut bag, name, &text);
        }
        bag
    }

    fn by_separator(&self, text: &str) -> Reading {
        let cells = split_line(text, self.record.separator.map_or(',', |separator| separator.0));
        let mut reading = Reading::default();
        let repeat_at = self.record.repeat.as_ref().map_or(usize::MAX, |repeat| repeat.from - 1);
        for (name, cell) in self.record.fields.iter().zip(cells.iter().take(repeat_at)) {
            self.put(&mut reading.shared, name, cell);
        }
        let mut rest = Vec::new();
        for cell in cells.iter().skip(self.record.fields.len()).filter(|_| self.record.repeat.is_none()) {
            // The longest tag that fits: `t` and `tm` may both be one.
            let tagged = self.record.tags.iter().filter(|(tag, _)| cell.trim_start().starts_with(tag.as_str()));
            match tagged.max_by_key(|(tag, _)| tag.len()) {
                Some((tag, name)) => {
                    let text = cell.trim_start().get(tag.len()..).unwrap_or_default();
                    self.put(&mut reading.shared, name, text);
                }
                None if cell.chars().any(char::is_alphanumeric) => rest.push(cell.trim().to_string()),
                None => {}
            }
        }
        reading.rest = rest.join("; ");
        if let Some(repeat) = &self.record.repeat {
            let pieces = cells.get(repeat_at..).unwrap_or_default().chunks(repeat.width);
            for piece in pieces.filter(|piece| piece.iter().any(|cell| !cell.trim().is_empty())) {
                let mut bag = Bag::new();
                for (name, cell) in repeat.fields.iter().zip(piece) {
                    self.put(&mut bag, name, cell);
                }
                reading.results.push(bag);
            }
        }
        reading
    }

    /// `None` for what stands between blocks.
    fn by_bytes(&self, block: &[u8]) -> Option<Reading> {
        let mut reading = Reading::default();
        for (name, field) in &self.record.bytes {
            let bytes = block.get(field.at..field.at + field.bytes)?;
            // A number that is not written as promised stays visible as what it is.
            let text = field.form.read(bytes).unwrap_or_else(|| crate::wire::spelling::spell(bytes));
            self.put(&mut reading.shared, name, &text);
        }
        Some(reading)
    }

    /// Notes a text, unless it is empty or says nothing. An empty specimen id says something: what follows has none, and
    /// must not get the one before it (hazard H2).
    fn put(&self, bag: &mut Bag, name: &str, text: &str) {
        let trimmed = text.trim_matches(|c: char| c.is_whitespace() || self.record.trim.contains(c));
        if !name.is_empty() && (!trimmed.is_empty() || name == "specimen_id") {
            bag.insert(name.to_string(), (trimmed.to_string(), self.number));
        }
    }
}
