//! What can be read in lines of which nothing is declared: `TEST value unit`, `NAME = value`, labels such as
//! `Sample ID:`, and tables with a heading. It serves a person who looks; nothing of it is ever sent by itself.

pub(super) mod label;
pub(super) mod shape;

use super::{Bag, Reading};
use crate::message::lines::Line;
use crate::message::tables::split_line;
use label::{TOLD_WITHOUT_COLON, label, name_and_said, ranked_label, told_without_colon};
use shape::{
    is_day, is_flag, is_flag_in_name, is_number, is_test, is_time_of_day, is_unit_like, is_value, part_of_a_time,
    range_in, value_and_unit, words_of,
};

/// Most words of a test's name.
const NAME_WORDS_MAX: usize = 5;
/// What may stand between the fields of a line.
const SEPARATORS: [char; 8] = ['\t', '\u{1c}', '\u{1e}', '\u{1d}', '\u{1f}', ';', '|', ','];

/// What each line says; `None` for a line in which nothing is obvious.
pub(super) fn read(lines: &[Line]) -> Vec<(&Line, Option<Reading>)> {
    let mut readings = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(table) = Table::at(lines.get(at..).unwrap_or_default()) {
            readings.push((line, Some(Reading { rest: visible(&line.text), ..Reading::default() })));
            at += 1;
            while let Some(row) = lines.get(at).filter(|row| table.fits(row)) {
                readings.push((row, Some(table.row(row))));
                at += 1;
            }
            continue;
        }
        let reading = one(line).filter(|reading| !(readings.is_empty() && is_title(reading)));
        readings.push((line, reading));
        at += 1;
    }
    readings
}

/// True for what the first line says when it is the name of the instrument: `URISYS 1100`.
fn is_title(reading: &Reading) -> bool {
    let bare = |result: &Bag| {
        let number = result.get("value").map_or("", |(text, _)| text.as_str());
        result.len() == 2 && number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit())
    };
    reading.shared.is_empty() && matches!(reading.results.as_slice(), [only] if bare(only))
}

/// A heading over rows with as many fields.
pub(super) struct Table {
    pub separator: char,
    pub names: Vec<String>,
}

impl Table {
    pub fn at(lines: &[Line]) -> Option<Table> {
        let [heading, row, ..] = lines else { return None };
        SEPARATORS.into_iter().find_map(|separator| {
            let names = split(&heading.text, separator);
            let named = names.iter().filter(|name| name.chars().any(char::is_alphabetic)).count();
            let table = Table { separator, names };
            let is_heading = table.names.len() >= 3
                && named * 2 > table.names.len()
                && !table.names.iter().any(|name| is_number(name.trim()));
            let row_cells = split(&row.text, separator);
            let has_values = row_cells.iter().any(|cell| is_value(cell.trim()));
            let knows = table.names.iter().any(|name| label(name).is_some());
            (is_heading && table.fits(row) && has_values && knows).then_some(table)
        })
    }

    pub fn fits(&self, row: &Line) -> bool {
        let count = split(&row.text, self.separator).len();
        // Some end their rows with a separator and the heading without, or the other way round.
        count >= 3 && count.abs_diff(self.names.len()) <= 1
    }

    fn row(&self, row: &Line) -> Reading {
        let mut reading = Reading::default();
        let cells = split(&row.text, self.separator);
        let fields: Vec<Option<&str>> = self.names.iter().map(|name| label(name)).collect();
        // A column of tests and one of values: each row is one result. Otherwise each column is a test.
        let long = fields.contains(&Some("test_code")) && fields.contains(&Some("value"));
        let mut rest = Vec::new();
        for (at, cell) in cells.iter().enumerate() {
            let cell = cell.trim();
            let name = self.names.get(at).map_or("", |name| name.trim());
            match fields.get(at).copied().flatten() {
                // A row without an id has none; it is not that of the row above.
                _ if cell.is_empty() && fields.get(at) != Some(&Some("specimen_id")) => {}
                Some(field) if long || !matches!(field, "test_code" | "value" | "unit" | "flag") => {
                    reading.share(field, name, cell, row.number);
                }
                _ if long => rest.push(format!("{name} {cell}").trim().to_string()),
                // A column without a name belongs to the one before: its unit, or its flag.
                _ if name.is_empty() || matches!(label(name), Some("unit" | "flag")) => {
                    let field = if is_flag(cell) { "flag" } else { "unit" };
                    match reading.results.last_mut() {
                        Some(result) => put(result, field, cell, row.number),
                        None => rest.push(cell.to_string()),
                    }
                }
                _ => {
                    let mut result = Bag::new();
                    put(&mut result, "test_code", name, row.number);
                    put(&mut result, "value", cell, row.number);
                    reading.results.push(result);
                }
            }
        }
        reading.rest = rest.join("; ");
        reading
    }
}

/// A line by itself.
fn one(line: &Line) -> Option<Reading> {
    let text = line.text.trim_matches(|c: char| c.is_control() || c.is_whitespace());
    let by_fields = separated(text).and_then(|(_, fields)| by_fields(&fields, line.number));
    by_fields.or_else(|| labelled(text, line.number)).or_else(|| by_words(text, line.number))
}

/// What separates the fields of a line in which something is obvious, and the fields.
pub(super) fn separated(text: &str) -> Option<(char, Vec<String>)> {
    SEPARATORS.into_iter().find_map(|separator| {
        let least = if matches!(separator, ',' | '\t') { 3 } else { 2 };
        let fields = split(text, separator);
        (fields.len() >= least && by_fields(&fields, 0).is_some()).then_some((separator, fields))
    })
}

/// Fields of which a name stands before a value.
fn by_fields(fields: &[String], number: u32) -> Option<Reading> {
    let mut reading = Reading::default();
    let mut rest = Vec::new();
    let mut at = 0;
    while let Some(field) = fields.get(at).map(|field| field.trim()) {
        at += 1;
        let value = fields.get(at).and_then(|f| value_and_unit(f.trim())).filter(|_| is_test(field));
        let told = label(field).filter(|told| TOLD_WITHOUT_COLON.contains(told));
        if let Some((told, said)) = told.zip(fields.get(at).map(|said| said.trim()))
            && !said.is_empty()
            && label(said).is_none()
        {
            reading.share(told, field, said, number);
            at += 1;
            continue;
        }
        let Some((value, unit)) = value else {
            match labelled(field, number) {
                Some(one) => {
                    reading.specimen_rank = one.specimen_rank;
                    for (name, said) in one.shared {
                        // What is said twice stays, as what it first was and beside it.
                        let before = reading.shared.insert(name, said);
                        rest.extend(before.map(|(text, _)| text));
                    }
                    reading.results.extend(one.results);
                }
                None if field.is_empty() => {}
                None if let Some(part) = part_of_a_time(field).filter(|part| !reading.shared.contains_key(*part)) => {
                    put(&mut reading.shared, part, field, number);
                }
                None => rest.push(field.to_string()),
            }
            continue;
        };
        at += 1;
        let mut result = named(field, number);
        put(&mut result, "value", value, number);
        if let Some(unit) = unit {
            put(&mut result, "unit", unit, number);
        }
        while let Some(next) = fields.get(at).map(|field| field.trim()) {
            let is_unit = is_unit_like(next) && !result.contains_key("unit");
            let begins_next = is_test(next)
                && !is_flag(next)
                && !is_unit
                && fields.get(at + 1).is_some_and(|f| value_and_unit(f.trim()).is_some());
            if begins_next || !beside(&mut result, next, number) {
                break;
            }
            at += 1;
        }
        reading.results.push(result);
    }
    reading.rest = rest.join("; ");
    (!reading.results.is_empty() || !reading.shared.is_empty()).then_some(reading)
}

/// `Label: text` or `Label = text`, several of them when wide gaps are between.
pub(super) fn labelled(text: &str, number: u32) -> Option<Reading> {
    let mut reading = Reading::default();
    let mut rest = Vec::new();
    for piece in pieces(text) {
        let pair = name_and_said(&piece);
        match pair.map(|(name, said)| (name.trim(), said.trim_start_matches(['=', ':']).trim())) {
            Some((name, "")) if label(name) == Some("specimen_id") => reading.share("specimen_id", name, "", number),
            Some((_, "")) | None => rest.push(piece.to_string()),
            Some((name, said)) => match label(name) {
                Some("comment") => rest.push(said.to_string()),
                Some(field) => reading.share(field, name, said, number),
                None if is_value(name) && rest.last().is_some_and(|test| is_test(test)) => {
                    // `AFP      ERR:12` is no test called ERR.
                    let mut result = Bag::new();
                    put(&mut result, "test_code", &rest.pop().unwrap_or_default(), number);
                    put(&mut result, "value", &piece, number);
                    reading.results.push(result);
                }
                None => {
                    let mut result = Bag::new();
                    put(&mut result, "test_code", name, number);
                    let words = words_of(said);
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    match words.split_first() {
                        Some((value, more)) if is_value(value) => {
                            put_value(&mut result, value, number);
                            rest.extend(all_beside(&mut result, more, number));
                        }
                        _ => put(&mut result, "value", said, number),
                    }
                    reading.results.push(result);
                }
            },
        }
    }
    if reading.results.is_empty() && reading.shared.is_empty() {
        return None;
    }
    reading.rest = rest.join("; ");
    Some(reading)
}

/// `TEST value unit flag range`, again and again; before it a date, a time and `ID 4711`.
pub(super) fn by_words(text: &str, number: u32) -> Option<Reading> {
    let words = words_of(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut reading = Reading::default();
    let (mut name, mut rest): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        // What looks like a value names nothing: `002 18.20H 003` are three numbers.
        let is_name = |word: &&str| word.chars().any(char::is_alphabetic) && !is_value(word);
        if !name.iter().any(is_name) && (is_day(word) || is_time_of_day(word)) {
            let field = if is_day(word) { "completed_date" } else { "completed_time" };
            if !reading.shared.contains_key(field) {
                let half = words.get(at).filter(|half| !is_day(word) && matches!(**half, "am" | "pm" | "AM" | "PM"));
                at += usize::from(half.is_some());
                let said = half.map_or_else(|| word.to_string(), |half| format!("{word} {half}"));
                put(&mut reading.shared, field, &said, number);
                rest.append(&mut name);
                continue;
            }
        }
        if word.chars().any(|c| c.is_ascii_digit())
            && let Some((field, length)) = told_without_colon(&name)
        {
            let called = name.split_off(name.len() - length).join(" ");
            reading.share(field, &called, word, number);
            rest.append(&mut name);
            continue;
        }
        if !(name.iter().any(is_name) && is_value(word) && name.len() <= NAME_WORDS_MAX) {
            name.push(word);
            continue;
        }
        let mut result = named(&name.join(" "), number);
        put_value(&mut result, word, number);
        while let Some(next) = words.get(at) {
            let is_unit = is_unit_like(next) && !result.contains_key("unit");
            let begins_next =
                is_test(next) && !is_flag(next) && !is_unit && words.get(at + 1).is_some_and(|w| is_value(w));
            let range = words.get(at..).and_then(range_in);
            if let Some((length, range)) = range {
                put(&mut result, "reference_range", &range, number);
                at += length;
            } else if !begins_next && beside(&mut result, next, number) {
                at += 1;
            } else {
                break;
            }
        }
        reading.results.push(result);
        name.clear();
    }
    if reading.results.is_empty() && reading.shared.is_empty() {
        return None;
    }
    rest.append(&mut name);
    reading.rest = rest.join(" ");
    Some(reading)
}

/// A result of this test; marks before its name and a flag behind it are flags.
fn named(name: &str, number: u32) -> Bag {
    let mut result = Bag::new();
    let marks: String = name.chars().take_while(|c| matches!(c, '*' | '!' | '?' | '+' | '-' | ' ')).collect();
    let called = name.get(marks.len()..).unwrap_or(name);
    let (called, flag) = called.rsplit_once(' ').filter(|(_, last)| is_flag_in_name(last)).unwrap_or((called, ""));
    put(&mut result, "test_code", called, number);
    for mark in marks.split_whitespace().chain(flag.split_whitespace()) {
        add_flag(&mut result, mark, number);
    }
    result
}

/// Takes what may stand beside a value, as long as it does; the rest.
fn all_beside(result: &mut Bag, words: &[&str], number: u32) -> Option<String> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if let Some((length, range)) = words.get(at..).and_then(range_in) {
            put(result, "reference_range", &range, number);
            at += length;
        } else if beside(result, word, number) {
            at += 1;
        } else {
            break;
        }
    }
    let rest = words.get(at..).unwrap_or_default().join(" ");
    (!rest.is_empty()).then_some(rest)
}

/// Takes a unit, a flag or a range that stands beside a value; false when it is something else.
fn beside(result: &mut Bag, text: &str, number: u32) -> bool {
    if text.is_empty() {
        return true;
    }
    if is_flag(text) {
        add_flag(result, text, number);
        return true;
    }
    if let Some((_, range)) = range_in(&[text]) {
        put(result, "reference_range", &range, number);
        return true;
    }
    // `7B` behind the last field is a checksum.
    let has_plain_digit = text.chars().any(|c| c.is_ascii_digit()) && !text.contains(['/', '*', '^', '%']);
    let is_person = text.contains(',') && !text.contains('/');
    let is_unit = text.chars().any(|c| c.is_alphabetic() || matches!(c, '%' | '/' | 'µ'))
        && !has_plain_digit
        && !is_person
        && !text.contains(' ')
        && !text.contains(':')
        && !is_value(text);
    if is_unit && !result.contains_key("unit") {
        put(result, "unit", text, number);
        return true;
    }
    false
}

/// A value, from which a flag printed right behind it is taken off.
fn put_value(result: &mut Bag, word: &str, number: u32) {
    let digits = word.trim_end_matches(['H', 'L']);
    if digits.len() < word.len() && is_number(digits) {
        put(result, "value", digits, number);
        return add_flag(result, word.get(digits.len()..).unwrap_or_default(), number);
    }
    put(result, "value", word, number);
}

fn add_flag(result: &mut Bag, flag: &str, number: u32) {
    let flags = match result.get("flag") {
        Some((before, _)) => format!("{before} {flag}"),
        None => flag.to_string(),
    };
    put(result, "flag", &flags, number);
}

fn put(bag: &mut Bag, name: &str, text: &str, number: u32) {
    bag.insert(name.to_string(), (text.trim().to_string(), number));
}

/// The parts of a line with wide gaps or tabs between them; a gap right behind a `:` or `=` is none.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let parts = text.split("  ").flat_map(|part| part.split('\t')).flat_map(before_labels);
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let open = pieces.last().is_some_and(|before| before.ends_with([':', '=']));
        let goes_on = open || part.starts_with([':', '=']) || (!part.contains([':', '=']) && !pieces.is_empty());
        match pieces.last_mut().filter(|_| goes_on) {
            Some(before) => before.push_str(&format!(" {part}")),
            None => pieces.push(part.to_string()),
        }
    }
    pieces
}

/// Cuts before a label that is known and ends in a colon: `Fecha: 12/06/2024 Hora: 10:02`.
fn before_labels(part: &str) -> Vec<&str> {
    let mut cut = Vec::new();
    let mut from = 0;
    for (at, _) in part.match_indices(' ') {
        let word = part.get(at + 1..).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let earlier = part.get(from..at).unwrap_or_default();
        if word.strip_suffix(':').is_some_and(|word| label(word).is_some())
            && name_and_said(earlier).is_some_and(|(_, said)| !said.is_empty())
        {
            cut.push(earlier);
            from = at + 1;
        }
    }
    cut.push(part.get(from..).unwrap_or_default());
    cut
}

fn split(text: &str, separator: char) -> Vec<String> {
    let text = text.trim_matches(|c: char| c.is_control() && c != separator);
    if text.contains(separator) { split_line(text, separator) } else { Vec::new() }
}

impl Reading {
    /// Takes what a label of the whole line says.
    fn share(&mut self, field: &str, called: &str, said: &str, number: u32) {
        if field == "specimen_id" {
            self.specimen_rank = ranked_label(called).map_or(0, |(_, rank)| rank);
        }
        put(&mut self.shared, field, said, number);
    }
}

fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_string()
}
