//! What can be read in lines of which nothing is declared: `TEST value unit`, `NAME = value`, labels such as
//! `Sample ID:`, and tables with a heading. It serves a person who looks; nothing of it is ever sent by itself.

use super::{Bag, Reading};
use crate::message::lines::Line;
use crate::message::tables::split_line;

/// Longest label before a `:` or `=`, in characters.
const LABEL_MAX: usize = 40;
/// Most words of a test's name.
const NAME_WORDS_MAX: usize = 5;
/// What may stand between the fields of a line.
const SEPARATORS: [char; 7] = ['\t', '\u{1e}', '\u{1d}', '\u{1f}', ';', '|', ','];
/// Words that are results.
const WORDS: [&str; 17] = [
    "neg",
    "negative",
    "pos",
    "positive",
    "trace",
    "normal",
    "abnormal",
    "reactive",
    "nonreactive",
    "non-reactive",
    "nil",
    "detected",
    "invalid",
    "error",
    "clear",
    "cloudy",
    "indeterminate",
];
/// What prints beside a value that is out of range or in doubt.
const FLAGS: [&str; 17] =
    ["H", "L", "HH", "LL", "N", "A", "AA", "*", "**", "!", "H*", "L*", "*H", "*L", "HIGH", "LOW", "C"];
/// Labels, reduced to their letters and digits, and the fields they stand for.
const LABELS: [(&str, &[&str]); 18] = [
    (
        "specimen_id",
        &[
            "sample",
            "sampleid",
            "sampleno",
            "samplenumber",
            "specimen",
            "specimenid",
            "specimenno",
            "barcode",
            "sid",
            "tube",
            "tubeid",
            "accession",
            "accessionno",
            "id",
            "idno",
            "smpl",
            "smp",
        ],
    ),
    ("patient_id", &["patientid", "patid", "pid", "patientno", "mrn", "patno"]),
    ("family", &["name", "patientname", "patient", "lastname", "surname"]),
    ("given", &["firstname", "givenname"]),
    ("birth_date", &["dob", "birthdate", "dateofbirth", "born"]),
    ("sex", &["sex", "gender"]),
    ("operator", &["operator", "operatorid", "user", "tech", "op"]),
    ("completed_date", &["date", "testdate", "resultdate", "dateoftest", "analysisdate"]),
    ("completed_time", &["time", "testtime", "resulttime", "timeoftest", "analysistime"]),
    ("completed", &["datetime", "testdatetime", "dateandtime", "analyzed", "analysed", "measured"]),
    ("test_code", &["test", "testcode", "testname", "assay", "analyte", "parameter", "param", "testid", "code"]),
    ("value", &["result", "value", "results", "conc", "concentration"]),
    ("unit", &["unit", "units"]),
    ("flag", &["flag", "flags", "alarm", "abn"]),
    ("reference_range", &["range", "refrange", "reference", "referencerange", "normalrange", "ref", "normals"]),
    ("position", &["rack", "pos", "position", "cup", "tray", "well", "rackpos"]),
    ("serial_number", &["serial", "serialno", "serialnumber", "instrumentsn", "sn"]),
    ("comment", &["comment", "comments", "remark", "remarks", "note", "notes"]),
];

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
        readings.push((line, one(line)));
        at += 1;
    }
    readings
}

/// A heading over rows with as many fields.
struct Table {
    separator: char,
    names: Vec<String>,
}

impl Table {
    fn at(lines: &[Line]) -> Option<Table> {
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

    fn fits(&self, row: &Line) -> bool {
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
                    put(&mut reading.shared, field, cell, row.number);
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
    for separator in SEPARATORS {
        let least = if matches!(separator, ',' | '\t') { 3 } else { 2 };
        let fields = split(text, separator);
        if fields.len() >= least
            && let Some(reading) = by_fields(&fields, line.number)
        {
            return Some(reading);
        }
    }
    labelled(text, line.number).or_else(|| by_words(text, line.number))
}

/// Fields of which a name stands before a value.
fn by_fields(fields: &[String], number: u32) -> Option<Reading> {
    let mut reading = Reading::default();
    let mut rest = Vec::new();
    let mut at = 0;
    while let Some(field) = fields.get(at).map(|field| field.trim()) {
        at += 1;
        let Some(value) = fields.get(at).map(|f| f.trim()).filter(|v| is_value(v) && is_test(field)) else {
            match labelled(field, number) {
                Some(one) => {
                    reading.shared.extend(one.shared);
                    reading.results.extend(one.results);
                }
                None if field.is_empty() => {}
                None => rest.push(field.to_string()),
            }
            continue;
        };
        at += 1;
        let mut result = Bag::new();
        put(&mut result, "test_code", field, number);
        put(&mut result, "value", value, number);
        while let Some(next) = fields.get(at).map(|field| field.trim()) {
            let begins_next = is_test(next) && !is_flag(next) && fields.get(at + 1).is_some_and(|f| is_value(f.trim()));
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
fn labelled(text: &str, number: u32) -> Option<Reading> {
    let mut reading = Reading::default();
    let mut rest = Vec::new();
    for piece in pieces(text) {
        let split_at = piece.find(['=', ':']).filter(|at| (1..=LABEL_MAX).contains(at));
        let pair = split_at.and_then(|at| piece.get(..at).zip(piece.get(at + 1..)));
        let pair = pair.filter(|(name, _)| name.chars().any(char::is_alphabetic) && !is_clock(name));
        match pair.map(|(name, said)| (name.trim(), said.trim_start_matches(['=', ':']).trim())) {
            Some((name, "")) if label(name) == Some("specimen_id") => {
                put(&mut reading.shared, "specimen_id", "", number)
            }
            Some((_, "")) | None => rest.push(piece.to_string()),
            Some((name, said)) => match label(name) {
                Some("comment") => rest.push(said.to_string()),
                Some(field) => put(&mut reading.shared, field, said, number),
                None => {
                    let mut result = Bag::new();
                    put(&mut result, "test_code", name, number);
                    let words: Vec<&str> = said.split_whitespace().collect();
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

/// `TEST value unit flag range`, again and again.
fn by_words(text: &str, number: u32) -> Option<Reading> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut reading = Reading::default();
    let mut name: Vec<&str> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let named = name.iter().any(|word| word.chars().any(char::is_alphabetic));
        if !(named && is_value(word) && name.len() <= NAME_WORDS_MAX) {
            name.push(word);
            continue;
        }
        let mut result = Bag::new();
        // A mark before the name is a flag.
        let marks = name.iter().take_while(|word| word.chars().all(|c| matches!(c, '*' | '!' | '+' | '-'))).count();
        let (marks, called) = name.split_at(marks);
        put(&mut result, "test_code", &called.join(" "), number);
        put_value(&mut result, word, number);
        for mark in marks {
            add_flag(&mut result, mark, number);
        }
        while let Some(next) = words.get(at) {
            let begins_next = is_test(next) && !is_flag(next) && words.get(at + 1).is_some_and(|w| is_value(w));
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
    if reading.results.is_empty() {
        return None;
    }
    reading.rest = name.join(" ");
    Some(reading)
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
    let is_unit = text.chars().any(|c| c.is_alphabetic() || matches!(c, '%' | '/' | 'µ'))
        && !text.contains(' ')
        && !text.contains(':')
        && !is_value(text);
    if is_unit && !result.contains_key("unit") {
        put(result, "unit", text, number);
        return true;
    }
    false
}

/// A range at the beginning of these words: `(3.5-5.0)`, `3.5 - 5.0`, `[ 3.5 5.0 ]`.
fn range_in(words: &[&str]) -> Option<(usize, String)> {
    let first = words.first()?;
    if first.starts_with(['(', '[']) {
        let length = words.iter().position(|word| word.ends_with([')', ']']))? + 1;
        let text = words.get(..length)?.join(" ");
        return text.chars().any(|c| c.is_ascii_digit()).then_some((length, text));
    }
    let is_span = |text: &str| text.split_once('-').is_some_and(|(low, high)| is_number(low) && is_number(high));
    if is_span(first) {
        return Some((1, first.to_string()));
    }
    match words {
        [low, "-" | "to", high, ..] if is_number(low) && is_number(high) => Some((3, format!("{low} - {high}"))),
        _ => None,
    }
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
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for part in text.split("  ").flat_map(|part| part.split('\t')).map(str::trim).filter(|part| !part.is_empty()) {
        let open = pieces.last().is_some_and(|before| before.ends_with([':', '=']));
        let goes_on = open || part.starts_with([':', '=']) || (!part.contains([':', '=']) && !pieces.is_empty());
        match pieces.last_mut().filter(|_| goes_on) {
            Some(before) => before.push_str(&format!(" {part}")),
            None => pieces.push(part.to_string()),
        }
    }
    pieces
}

fn split(text: &str, separator: char) -> Vec<String> {
    let text = text.trim_matches(|c: char| c.is_control() && c != separator);
    if text.contains(separator) { split_line(text, separator) } else { Vec::new() }
}

fn label(text: &str) -> Option<&'static str> {
    let reduced: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    LABELS.iter().find(|(_, labels)| labels.contains(&reduced.as_str())).map(|(field, _)| *field)
}

/// A name of a test: a few words, of which one has a letter.
fn is_test(text: &str) -> bool {
    let letters = text.chars().any(char::is_alphabetic);
    letters && text.chars().count() <= LABEL_MAX && !is_value(text) && !text.contains([':', '='])
}

fn is_flag(text: &str) -> bool {
    FLAGS.iter().any(|flag| flag.eq_ignore_ascii_case(text))
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let separators = digits.matches(['.', ',']).count();
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
        && separators <= 1
}

/// Looks like a result: a number, a limit, a titre, plus signs, a word such as NEG, or what prints where none is.
fn is_value(text: &str) -> bool {
    let bare = text.trim_end_matches(['*', '!']).trim_end_matches(['H', 'L']);
    let limit = bare.trim_start_matches(['<', '>', '=', '≤', '≥', '*']);
    let graded = bare.trim_end_matches('+');
    is_number(limit)
        || bare.strip_prefix("1:").is_some_and(is_number)
        || (graded.len() < bare.len() && (graded.is_empty() || is_number(graded)))
        || (bare.starts_with('+') && is_number(bare))
        || (text.len() > 1 && text.chars().all(|c| matches!(c, '-' | '*' | '.')))
        || WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn is_clock(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit()) && text.split_whitespace().last().is_some_and(is_number)
}

fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_string()
}
