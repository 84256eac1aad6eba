//! `[lines]` of `driver.toml`: how to read what follows no standard (`protocol = "lines"`).
//!
//! The text is cut into lines (or blocks of bytes). Each `[[lines.record]]` is tried in order on each line; the first
//! that fits reads it. What it reads has the names of `[fields]`, so that `[fields]`, `[[analyte]]`, `[qc]` and
//! `[failure]` hold as for every other driver. A line that no record fits is held for a person to see, unless `ignore`
//! says that it means nothing.

use super::schema::{Fields, Qc};
use crate::wire::line::framing::{Mark, NumberForm};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest regular expression, in characters.
const PATTERN_MAX: usize = 2000;
/// Most records, and most fields of one.
const RECORDS_MAX: usize = 200;
/// Last column or byte that can be named.
const COLUMN_MAX: usize = 65_535;
/// Fields that belong to one result, when they stand beside it.
pub(super) const OF_RESULT: [&str; 15] = [
    "test_code",
    "test_name",
    "value",
    "qualitative",
    "unit",
    "reference_range",
    "flag",
    "result_status",
    "completed",
    "completed_date",
    "completed_time",
    "operator",
    "equipment",
    "dilution",
    "comment",
];
/// Names besides those of `[fields]`: parts of a time, and what tells a control.
const MORE_NAMES: [&str; 7] = [
    "completed_date",
    "completed_time",
    "collected_date",
    "collected_time",
    "control_name",
    "control_lot",
    "control_level",
];

/// `[lines]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lines {
    /// Bytes that end a line, besides CR, LF and form feed, such as `["<RS>"]`.
    pub split: Vec<Mark>,
    /// The message is no text but blocks of so many bytes.
    pub block_bytes: Option<usize>,
    /// Bytes every block begins with; what stands between blocks is read as a line.
    pub block_start: Mark,
    /// Regular expressions of lines that say nothing: headings, rules, page numbers.
    pub ignore: Vec<Pattern>,
    /// What becomes of a line that fits nothing.
    pub unmatched: Unmatched,
    /// How dates are written when the year is not first.
    pub date_order: DateOrder,
    /// How lines are read, tried in order.
    pub record: Vec<Record>,
}

/// What becomes of a line that fits nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// It is held as a result that cannot be read, so that a person sees it.
    #[default]
    Hold,
    /// It is a comment on the report.
    Comment,
}

/// In which order a date is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateOrder {
    /// Year, month, day.
    #[default]
    Ymd,
    /// Day, month, year.
    Dmy,
    /// Month, day, year.
    Mdy,
    /// Nobody said: only a date that can be read in one way is one, with the year first and in four digits, or with the
    /// month's name and the year in four digits last.
    #[serde(skip)]
    Unsaid,
}

/// `[[lines.record]]`: one of `pattern`, `columns`, `separator` and `bytes` reads a line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Regular expression that the line must fit for the record to be tried; left out, every line does.
    pub when: Option<Pattern>,
    /// Regular expression with named groups, such as `(?<test_code>\w+) +(?<value>\S+)`.
    pub pattern: Option<Pattern>,
    /// Columns from 1, such as { specimen_id = "14-23", value = "30-35" }; blanks around a text are not part of it.
    pub columns: BTreeMap<String, Columns>,
    /// The line is fields between this character, such as "," or ";" or `<RS>`.
    pub separator: Option<Separator>,
    /// With `separator`: names of the fields, in order; "" is a field that says nothing.
    pub fields: Vec<String>,
    /// With `separator`: names of the fields by the characters they begin with, such as { ci = "specimen_id" }.
    pub tags: BTreeMap<String, String>,
    /// Bytes of a block, from 0, such as { specimen_id = { at = 11, bytes = 13 } }.
    pub bytes: BTreeMap<String, ByteField>,
    /// What repeats in the rest of the line, each time a result of its own.
    pub repeat: Option<Repeat>,
    /// Characters trimmed from both ends of each text, besides blanks.
    pub trim: String,
    /// What is not sent but known, such as { test_code = "ESR", unit = "mm/h" }.
    pub set: BTreeMap<String, String>,
    /// A new report begins with this line. A line with another specimen id than before always begins one.
    pub begins_report: bool,
}

/// What of a line repeats.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repeat {
    /// In a record with a pattern: the pattern of each result in what is left of the line.
    pub pattern: Option<Pattern>,
    /// First column, from 1, or first field of a separated line.
    pub from: usize,
    /// Width in columns, or number of fields.
    pub width: usize,
    /// Columns of each, from 1.
    pub columns: BTreeMap<String, Columns>,
    /// Names of the fields of each.
    pub fields: Vec<String>,
}

/// A field of a block of bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteField {
    /// First byte, from 0.
    pub at: usize,
    /// How many.
    pub bytes: usize,
    /// Text, or how the number is written; "bcd" keeps every digit.
    #[serde(default)]
    pub form: ByteForm,
}

/// How a field of a block is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByteForm {
    /// Text.
    #[default]
    Text,
    /// Binary number, most significant byte first.
    BigEndian,
    /// Binary number, least significant byte first.
    LittleEndian,
    /// Two digits a byte, in order.
    Bcd,
    /// Two digits a byte, last byte first, as clocks keep day, month and year.
    BcdReversed,
}

/// From one column to another, both included: `"14-23"`, or `"5"`, or `"40-"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Columns {
    /// First, from 1.
    pub first: usize,
    /// Last.
    pub last: usize,
}

/// The character between fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Mark")]
pub struct Separator(pub char);

/// A regular expression that compiles.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub regex_lite::Regex);

impl Lines {
    /// What is wrong with it, with a text that stands on the line at fault.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |message: String, needle: &str| Err((message, needle.to_string()));
        if self.record.len() > RECORDS_MAX {
            return wrong(format!("more than {RECORDS_MAX} records"), "[[lines.record]]");
        }
        if self.block_bytes.is_some_and(|bytes| bytes == 0 || bytes > COLUMN_MAX) {
            return wrong(format!("a block has from 1 to {COLUMN_MAX} bytes"), "block_");
        }
        for record in &self.record {
            record.check(self.block_bytes)?;
        }
        Ok(())
    }
}

impl Record {
    fn check(&self, block_bytes: Option<usize>) -> Result<(), (String, String)> {
        let wrong = |message: &str, needle: &str| Err((message.to_string(), needle.to_string()));
        let ways = [self.pattern.is_some(), !self.columns.is_empty(), self.separator.is_some(), !self.bytes.is_empty()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return wrong("a record has one of `pattern`, `columns`, `separator` and `bytes`", "[[lines.record]]");
        }
        if self.bytes.values().any(|f| f.bytes == 0 || f.at.saturating_add(f.bytes) > block_bytes.unwrap_or(0)) {
            return wrong("`bytes` lie inside a block of `lines.block_bytes`", "bytes");
        }
        if let Some(repeat) = &self.repeat {
            let patterns = self.pattern.is_some() && repeat.pattern.is_some();
            let columns = !self.columns.is_empty() && !repeat.columns.is_empty();
            let fields = self.separator.is_some() && !repeat.fields.is_empty();
            let counted = repeat.from > 0 && repeat.width > 0;
            if !(patterns || (counted && columns != fields)) {
                return wrong(
                    "`repeat` has `pattern` in a record with one, `from`, `width` and `columns` in a record of columns, or \
                     `from`, `width` and `fields` in a separated one",
                    "repeat",
                );
            }
        }
        for name in self.names() {
            if !name.is_empty() && !is_name(name) {
                return wrong(&format!("`{name}` is no field; the names are those of [fields], such as value"), name);
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let repeats = self.repeat.iter().flat_map(|repeat| &repeat.pattern);
        let groups = self.pattern.iter().chain(repeats).flat_map(|pattern| pattern.0.capture_names().flatten());
        let repeated = self.repeat.iter().flat_map(|r| r.columns.keys().chain(&r.fields)).map(String::as_str);
        let maps = self.columns.keys().chain(self.bytes.keys()).chain(self.set.keys());
        let own = maps.chain(&self.fields).chain(self.tags.values()).map(String::as_str);
        groups.chain(repeated).chain(own)
    }
}

fn is_name(name: &str) -> bool {
    MORE_NAMES.contains(&name) || Fields::default().named().iter().any(|(known, _)| *known == name)
}

impl Fields {
    /// Every list with its name.
    #[rustfmt::skip]
    fn named(&mut self) -> Vec<(&'static str, &mut super::path::Paths)> {
        vec![
            ("specimen_id", &mut self.specimen_id),
            ("specimen_type", &mut self.specimen_type),
            ("position", &mut self.position),
            ("collected", &mut self.collected),
            ("patient_id", &mut self.patient_id),
            ("patient_id_authority", &mut self.patient_id_authority),
            ("family", &mut self.family),
            ("given", &mut self.given),
            ("birth_date", &mut self.birth_date),
            ("sex", &mut self.sex),
            ("location", &mut self.location),
            ("placer_order_number", &mut self.placer_order_number),
            ("filler_order_number", &mut self.filler_order_number),
            ("service", &mut self.service),
            ("priority", &mut self.priority),
            ("test_code", &mut self.test_code),
            ("test_name", &mut self.test_name),
            ("value", &mut self.value),
            ("qualitative", &mut self.qualitative),
            ("unit", &mut self.unit),
            ("reference_range", &mut self.reference_range),
            ("flag", &mut self.flag),
            ("result_status", &mut self.result_status),
            ("completed", &mut self.completed),
            ("operator", &mut self.operator),
            ("comment", &mut self.comment),
            ("equipment", &mut self.equipment),
            ("dilution", &mut self.dilution),
            ("instrument_name", &mut self.instrument_name),
            ("serial_number", &mut self.serial_number),
            ("software_version", &mut self.software_version),
        ]
    }

    /// Fills every list a driver left empty with the field of its own name.
    pub(super) fn fill_by_name(&mut self) {
        for (name, paths) in self.named() {
            if paths.is_empty() {
                *paths = place(name);
            }
        }
    }
}

impl Qc {
    /// The same for what tells a control.
    pub(super) fn fill_by_name(&mut self) {
        for (name, paths) in [
            ("control_name", &mut self.control_name),
            ("control_lot", &mut self.control_lot),
            ("control_level", &mut self.control_level),
        ] {
            if paths.is_empty() {
                *paths = place(name);
            }
        }
    }
}

/// The record of every place on such a line: `LN.value`.
pub(super) const RECORD: &str = "LN";

fn place(name: &str) -> super::path::Paths {
    super::path::Paths::of(&[&format!("{RECORD}.{name}")])
}

impl ByteForm {
    /// The field as text; `None` when it is not written like that.
    pub(super) fn read(self, bytes: &[u8]) -> Option<String> {
        let digits = |byte: &u8| (byte >> 4 < 10 && byte & 15 < 10).then(|| format!("{byte:02x}"));
        match self {
            ByteForm::Text => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            ByteForm::BigEndian => NumberForm::BigEndian.read(bytes).map(|n| n.to_string()),
            ByteForm::LittleEndian => NumberForm::LittleEndian.read(bytes).map(|n| n.to_string()),
            ByteForm::Bcd => bytes.iter().map(digits).collect(),
            ByteForm::BcdReversed => bytes.iter().rev().map(digits).collect(),
        }
    }
}

impl DateOrder {
    /// A date in the digits all reports have (`YYYYMMDD`); `None` when it is none. A year of two digits is of this
    /// century: instruments that send results were not built in the last one.
    pub(super) fn digits(self, text: &str) -> Option<String> {
        let parts: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()).collect();
        let run = parts.first().copied().unwrap_or_default();
        let parts: Vec<&str> = match (parts.as_slice(), run.len(), self) {
            ([_], 8, DateOrder::Ymd | DateOrder::Unsaid) => vec![run.get(..4)?, run.get(4..6)?, run.get(6..)?],
            ([_], 8, _) => vec![run.get(..2)?, run.get(2..4)?, run.get(4..)?],
            ([_], 6, DateOrder::Ymd | DateOrder::Dmy | DateOrder::Mdy) => {
                vec![run.get(..2)?, run.get(2..4)?, run.get(4..)?]
            }
            _ => parts,
        };
        let [a, b, c] = parts.as_slice() else { return None };
        let (year, month, day) = match self {
            _ if a.len() == 4 => (*a, *b, *c),
            DateOrder::Ymd => (*a, *b, *c),
            DateOrder::Dmy => (*c, *b, *a),
            DateOrder::Mdy => (*c, *a, *b),
            DateOrder::Unsaid if c.len() == 4 && month_named(b).is_some() => (*c, *b, *a),
            DateOrder::Unsaid => return None,
        };
        let two = |part: &str| match month_named(part) {
            Some(month) => Some(format!("{month:02}")),
            None => part.parse::<u8>().ok().map(|n| format!("{n:02}")),
        };
        let year = match year.len() {
            4 => year.to_string(),
            2 => format!("20{year}"),
            _ => return None,
        };
        let all = format!("{year}{}{}", two(month)?, two(day)?);
        (all.len() == 8 && all.bytes().all(|b| b.is_ascii_digit())).then_some(all)
    }

    /// A date and a time of day, together or either; `None` when it is none.
    pub(super) fn time(self, date: &str, time: &str) -> Option<String> {
        let date = self.digits(date.trim())?;
        if time.trim().is_empty() { Some(date) } else { Some(date + &clock(time)?) }
    }

    /// A text that holds both, as far as it does.
    pub(super) fn both(self, text: &str) -> Option<String> {
        let text = text.trim();
        if text.len() >= 8
            && text.bytes().all(|b| b.is_ascii_digit())
            && matches!(self, DateOrder::Ymd | DateOrder::Unsaid)
        {
            return Some(text.to_string());
        }
        let at = text.find(':').and_then(|colon| text.get(..colon)?.rfind([' ', 'T', ',']));
        match at {
            Some(at) => self.time(text.get(..at)?, text.get(at + 1..)?),
            None => self.digits(text),
        }
    }
}

/// `HHMM` or `HHMMSS` of a time of day.
fn clock(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase().replace('.', "");
    let (digits, shift) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(rest), _) => (rest.trim_end(), Some(0)),
        (_, Some(rest)) => (rest.trim_end(), Some(12)),
        _ => (lower.as_str(), None),
    };
    let parts: Vec<&str> = match digits.contains(':') {
        true => digits.split(':').collect(),
        false if digits.is_ascii() => digits.as_bytes().chunks(2).filter_map(|c| std::str::from_utf8(c).ok()).collect(),
        false => return None,
    };
    let numbers = parts.iter().map(|p| p.trim().parse::<u8>().ok()).collect::<Option<Vec<u8>>>()?;
    let (hour, rest) = numbers.split_first()?;
    if !(1..=2).contains(&rest.len()) || rest.iter().any(|n| *n > 59) {
        return None;
    }
    let hour = match shift {
        Some(_) if !(1..=12).contains(hour) => return None,
        Some(shift) => hour % 12 + shift,
        None => *hour,
    };
    if hour > 23 {
        return None;
    }
    Some(std::iter::once(&hour).chain(rest).map(|n| format!("{n:02}")).collect())
}

/// The number of an English month, by its first three letters.
fn month_named(text: &str) -> Option<u8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = text.get(..3)?.to_ascii_lowercase();
    MONTHS.iter().zip(1u8..).find(|(month, _)| **month == start).map(|(_, number)| number)
}

impl TryFrom<String> for Columns {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| (1..=COLUMN_MAX).contains(n));
        let read = match text.split_once('-') {
            None => number(&text).map(|n| (n, n)),
            Some((first, "")) => number(first).map(|n| (n, COLUMN_MAX)),
            Some((first, last)) => number(first).zip(number(last)),
        };
        match read {
            Some((first, last)) if first <= last => Ok(Columns { first, last }),
            _ => Err(format!("`{text}` is no range of columns, such as \"14-23\"")),
        }
    }
}

impl TryFrom<Mark> for Separator {
    type Error = String;
    fn try_from(mark: Mark) -> Result<Self, String> {
        let text = String::from_utf8_lossy(&mark.0);
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(only), None) => Ok(Separator(only)),
            _ => Err(format!("`{text}` is no separator: it is one character, such as \";\" or \"<RS>\"")),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.chars().count() > PATTERN_MAX {
            return Err(format!("a regular expression has at most {PATTERN_MAX} characters"));
        }
        regex_lite::Regex::new(&text)
            .map(Pattern)
            .map_err(|error| format!("`{text}` is no regular expression: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_read_in_the_order_the_driver_says() {
        for (order, text, expected) in [
            (DateOrder::Ymd, "2026-01-02 03:04:05", Some("20260102030405")),
            (DateOrder::Ymd, "20260102030405", Some("20260102030405")),
            (DateOrder::Dmy, "02.01.2026 3:04", Some("202601020304")),
            (DateOrder::Mdy, "1/2/26 12:04 AM", Some("202601020004")),
            (DateOrder::Mdy, "1/2/2026 4:42 p.m.", Some("202601021642")),
            (DateOrder::Dmy, "2-Jan-2026", Some("20260102")),
            (DateOrder::Dmy, "2026/01/02", Some("20260102")),
            (DateOrder::Dmy, "soon", None),
            (DateOrder::Unsaid, "2026-01-02 03:04", Some("202601020304")),
            (DateOrder::Unsaid, "2-Jan-2026", Some("20260102")),
            (DateOrder::Unsaid, "02/01/2026", None),
            (DateOrder::Unsaid, "02/01/26", None),
            (DateOrder::Unsaid, "12-Jan-26", None),
            (DateOrder::Dmy, "02.01.2026 31:04", None),
        ] {
            assert_eq!(order.both(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn columns_are_read() {
        let read = |text: &str| Columns::try_from(text.to_string()).map(|c| (c.first, c.last)).ok();
        assert_eq!(read("14-23"), Some((14, 23)));
        assert_eq!(read("5"), Some((5, 5)));
        assert_eq!(read("40-"), Some((40, COLUMN_MAX)));
        assert_eq!([read("0-3"), read("9-3"), read("x")], [None; 3]);
    }

    #[test]
    fn numbers_in_bytes_keep_their_digits() {
        assert_eq!(ByteForm::Bcd.read(&[0x00, 0x15]).as_deref(), Some("0015"));
        assert_eq!(ByteForm::BcdReversed.read(&[0x07, 0x12, 0x19]).as_deref(), Some("191207"));
        assert_eq!(ByteForm::Bcd.read(&[0x1A]), None);
        assert_eq!(ByteForm::LittleEndian.read(&[0x10, 0x01]).as_deref(), Some("272"));
    }
}
