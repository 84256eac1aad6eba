//! Workbooks (XLSX, ISO/IEC 29500): a ZIP archive of XML, read into the same rows of cells as text.
//!
//! The sheets follow each other as they stand in the workbook, each under its name as a title when there are several. A
//! workbook keeps binary numbers: of one with more digits than the fifteen every spreadsheet shows, those fifteen are read,
//! and as many decimals as its format asks for (`5.1` under `0.00` is `5.10`). Dates are numbers of days too; their format says
//! so. Formulas are not computed: what the workbook holds as their value is read. Everything is bounded (invariant I10).

use super::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX};
use jiff::ToSpan;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use std::collections::BTreeMap;

/// Most bytes all parts of a workbook may have, unpacked.
const UNPACKED_MAX: usize = 64 * 1024 * 1024;
/// Most parts of the archive looked at.
const PARTS_MAX: usize = 1000;
/// Digits a spreadsheet shows of a number.
const DIGITS_SHOWN: usize = 15;
/// How every ZIP archive that is not empty begins.
const MAGIC: &[u8] = b"PK\x03\x04";
const NOT_ONE: &str = "the workbook cannot be read: its archive is damaged or not XLSX";

/// True for a ZIP archive that says it holds a workbook.
pub fn looks_like(raw: &[u8]) -> bool {
    raw.starts_with(MAGIC) && parts(raw).is_some_and(|parts| parts.contains_key("xl/workbook.xml"))
}

/// The rows of all sheets; true when more stands there than is read.
///
/// # Errors
/// The archive or one of its parts cannot be read; safe to log.
pub fn rows(raw: &[u8]) -> Result<(Vec<Vec<String>>, bool), &'static str> {
    let parts = parts(raw).ok_or(NOT_ONE)?;
    let mut room = UNPACKED_MAX;
    let mut text = |name: &str| -> Result<Option<String>, &'static str> {
        let Some(part) = parts.get(name) else { return Ok(None) };
        let bytes = part.unpack(raw, room).ok_or(NOT_ONE)?;
        room = room.saturating_sub(bytes.len());
        String::from_utf8(bytes).map(Some).map_err(|_| NOT_ONE)
    };
    let strings = text("xl/sharedStrings.xml")?.map(|xml| strings(&xml)).transpose()?.unwrap_or_default();
    let formats = text("xl/styles.xml")?.map(|xml| formats(&xml)).transpose()?.unwrap_or_default();
    let targets = text("xl/_rels/workbook.xml.rels")?.map(|xml| targets(&xml)).transpose()?.unwrap_or_default();
    let book = book(&text("xl/workbook.xml")?.ok_or(NOT_ONE)?)?;
    let mut sheet = Sheet {
        strings: &strings,
        formats: &formats,
        since_1904: book.since_1904,
        rows: Vec::new(),
        cells: 0,
        cut_off: false,
    };
    for (name, id) in &book.sheets {
        let Some(target) = targets.get(id) else { continue };
        let path = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_string(),
            None => format!("xl/{target}"),
        };
        let Some(xml) = text(&path)? else { continue };
        if book.sheets.len() > 1 {
            sheet.rows.extend([Vec::new(), vec![format!("[{name}]")]]);
        }
        sheet.read(&xml)?;
    }
    Ok((sheet.rows, sheet.cut_off))
}

/// One part of the archive.
struct Part {
    method: u16,
    packed: usize,
    /// Where its local header stands.
    at: usize,
}

/// The parts by name, from the central directory.
fn parts(raw: &[u8]) -> Option<BTreeMap<String, Part>> {
    let end = raw.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let (count, mut at) = (u16_at(raw, end + 10)?, u32_at(raw, end + 16)?);
    let mut parts = BTreeMap::new();
    for _ in 0..usize::from(count).min(PARTS_MAX) {
        if raw.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (name, extra, comment) = (u16_at(raw, at + 28)?, u16_at(raw, at + 30)?, u16_at(raw, at + 32)?);
        let text = raw.get(at + 46..at + 46 + usize::from(name))?;
        let part = Part { method: u16_at(raw, at + 10)?, packed: u32_at(raw, at + 20)?, at: u32_at(raw, at + 42)? };
        parts.insert(String::from_utf8_lossy(text).into_owned(), part);
        at += 46 + usize::from(name) + usize::from(extra) + usize::from(comment);
    }
    Some(parts)
}

impl Part {
    fn unpack(&self, raw: &[u8], room: usize) -> Option<Vec<u8>> {
        let (name, extra) = (u16_at(raw, self.at + 26)?, u16_at(raw, self.at + 28)?);
        let from = self.at + 30 + usize::from(name) + usize::from(extra);
        let packed = raw.get(from..from.checked_add(self.packed)?)?;
        match self.method {
            0 => (packed.len() <= room).then(|| packed.to_vec()),
            8 => miniz_oxide::inflate::decompress_to_vec_with_limit(packed, room).ok(),
            _ => None,
        }
    }
}

fn u16_at(raw: &[u8], at: usize) -> Option<u16> {
    raw.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(raw: &[u8], at: usize) -> Option<usize> {
    let number = raw.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)?;
    usize::try_from(number).ok()
}

/// Calls `visit` with each event of a document.
fn each(xml: &str, mut visit: impl FnMut(&Event<'_>)) -> Result<(), &'static str> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return Ok(()),
            Ok(event) => visit(&event),
            Err(_) => return Err(NOT_ONE),
        }
    }
}

fn is(tag: &BytesStart<'_>, name: &str) -> bool {
    tag.local_name().into_inner() == name
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> String {
    let found = tag.attributes().filter_map(Result::ok).find(|a| a.key.local_name().into_inner() == name);
    let value = found.and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.into_owned()));
    value.unwrap_or_default()
}

/// What a text or reference stands for.
fn said(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Text(text) => Some(text.to_string()),
        Event::CData(text) => Some(text.to_string()),
        Event::GeneralRef(entity) => {
            quick_xml::escape::unescape(&format!("&{};", &**entity)).ok().map(|t| t.into_owned())
        }
        _ => None,
    }
}

fn strings(xml: &str) -> Result<Vec<String>, &'static str> {
    let (mut all, mut inside, mut phonetic) = (Vec::new(), false, false);
    each(xml, |event| match event {
        Event::Start(tag) if is(tag, "si") => all.push(String::new()),
        Event::Empty(tag) if is(tag, "si") => all.push(String::new()),
        Event::Start(tag) if is(tag, "t") => inside = true,
        Event::Start(tag) if is(tag, "rPh") => phonetic = true,
        Event::End(tag) if tag.local_name().into_inner() == "t" => inside = false,
        Event::End(tag) if tag.local_name().into_inner() == "rPh" => phonetic = false,
        other if inside && !phonetic => {
            if let (Some(last), Some(text)) = (all.last_mut(), said(other)) {
                last.push_str(&text);
            }
        }
        _ => {}
    })?;
    Ok(all)
}

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    /// With at least so many decimals.
    Decimals(usize),
    Date,
}

/// The format of each style.
fn formats(xml: &str) -> Result<Vec<Format>, &'static str> {
    let mut codes: BTreeMap<String, String> = BTreeMap::new();
    let (mut styles, mut inside) = (Vec::new(), false);
    each(xml, |event| match event {
        Event::Start(tag) if is(tag, "cellXfs") => inside = true,
        Event::End(tag) if tag.local_name().into_inner() == "cellXfs" => inside = false,
        Event::Start(tag) | Event::Empty(tag) if is(tag, "numFmt") => {
            codes.insert(attribute(tag, "numFmtId"), attribute(tag, "formatCode"));
        }
        Event::Start(tag) | Event::Empty(tag) if inside && is(tag, "xf") => styles.push(attribute(tag, "numFmtId")),
        _ => {}
    })?;
    let format = |id: &String| match (codes.get(id), id.parse::<u16>().unwrap_or(0)) {
        (Some(code), _) => of_code(code),
        (None, 14..=22 | 27..=36 | 45..=47 | 50..=58) => Format::Date,
        (None, 2 | 4 | 10) => Format::Decimals(2),
        _ => Format::Plain,
    };
    Ok(styles.iter().map(format).collect())
}

fn of_code(code: &str) -> Format {
    let first = code.split(';').next().unwrap_or("");
    let mut plain = String::new();
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for c in first.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' | '_' | '*' => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => bracketed = true,
            ']' if !quoted => bracketed = false,
            _ if quoted || bracketed => {}
            c => plain.extend(c.to_lowercase()),
        }
    }
    if plain != "general" && plain.contains(['y', 'd', 'h', 's']) {
        return Format::Date;
    }
    let decimals = plain.split_once('.').map_or(0, |(_, after)| after.chars().take_while(|c| *c == '0').count());
    if decimals > 0 { Format::Decimals(decimals) } else { Format::Plain }
}

fn targets(xml: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let mut targets = BTreeMap::new();
    each(xml, |event| {
        if let Event::Start(tag) | Event::Empty(tag) = event
            && is(tag, "Relationship")
        {
            targets.insert(attribute(tag, "Id"), attribute(tag, "Target"));
        }
    })?;
    Ok(targets)
}

#[derive(Default)]
struct Book {
    /// Name and relation of each sheet.
    sheets: Vec<(String, String)>,
    since_1904: bool,
}

fn book(xml: &str) -> Result<Book, &'static str> {
    let mut book = Book::default();
    each(xml, |event| {
        if let Event::Start(tag) | Event::Empty(tag) = event {
            if is(tag, "sheet") {
                book.sheets.push((attribute(tag, "name"), attribute(tag, "id")));
            } else if is(tag, "workbookPr") {
                book.since_1904 = matches!(attribute(tag, "date1904").as_str(), "1" | "true");
            }
        }
    })?;
    Ok(book)
}

struct Sheet<'w> {
    strings: &'w [String],
    formats: &'w [Format],
    since_1904: bool,
    rows: Vec<Vec<String>>,
    cells: usize,
    cut_off: bool,
}

/// A cell that is being read.
#[derive(Default)]
struct Cell {
    column: usize,
    kind: String,
    style: usize,
    text: String,
}

impl Sheet<'_> {
    fn read(&mut self, xml: &str) -> Result<(), &'static str> {
        let before = self.rows.len();
        let (mut cell, mut inside): (Option<Cell>, bool) = (None, false);
        let mut next_column = 0;
        each(xml, |event| match event {
            Event::Start(tag) | Event::Empty(tag) if is(tag, "row") => {
                // Blank rows are left out of the file; they end what stands above them.
                let number: usize = attribute(tag, "r").parse().unwrap_or(0);
                let wanted = before + number.saturating_sub(1);
                let blank = wanted.saturating_sub(self.rows.len()).min(2);
                self.rows.extend(std::iter::repeat_n(Vec::new(), if number == 0 { 0 } else { blank }));
                self.rows.push(Vec::new());
                next_column = 0;
            }
            Event::Start(tag) | Event::Empty(tag) if is(tag, "c") => {
                let column = column(&attribute(tag, "r")).unwrap_or(next_column);
                next_column = column + 1;
                let style = attribute(tag, "s").parse().unwrap_or(0);
                cell = Some(Cell { column, kind: attribute(tag, "t"), style, text: String::new() });
            }
            Event::Start(tag) if is(tag, "v") || is(tag, "t") => inside = true,
            Event::End(tag) if matches!(tag.local_name().into_inner(), "v" | "t") => inside = false,
            Event::End(tag) if tag.local_name().into_inner() == "c" => {
                if let Some(done) = cell.take() {
                    self.put(done);
                }
            }
            other if inside => {
                if let (Some(cell), Some(text)) = (&mut cell, said(other)) {
                    cell.text.push_str(&text);
                }
            }
            _ => {}
        })
    }

    fn put(&mut self, cell: Cell) {
        if self.rows.len() > ROWS_MAX || self.cells >= CELLS_MAX || cell.column >= COLUMNS_MAX {
            self.cut_off = true;
            return;
        }
        let text = match cell.kind.as_str() {
            "s" => {
                cell.text.trim().parse().ok().and_then(|at: usize| self.strings.get(at)).cloned().unwrap_or_default()
            }
            "str" | "inlineStr" | "e" | "b" | "d" => cell.text,
            _ => self.number(&cell),
        };
        let Some(row) = self.rows.last_mut() else { return };
        if row.len() <= cell.column {
            row.resize(cell.column + 1, String::new());
        }
        if let Some(place) = row.get_mut(cell.column) {
            *place = text;
        }
        self.cells += 1;
    }

    fn number(&self, cell: &Cell) -> String {
        let text = cell.text.trim();
        let Some(plain) = shown(text) else { return text.to_string() };
        match self.formats.get(cell.style).copied().unwrap_or(Format::Plain) {
            Format::Plain => plain,
            Format::Decimals(wanted) => padded(plain, wanted),
            Format::Date => date(&plain, self.since_1904).unwrap_or(plain),
        }
    }
}

/// `C7` is column 2.
fn column(reference: &str) -> Option<usize> {
    let letters = reference.bytes().take_while(u8::is_ascii_alphabetic);
    let number = letters.fold(0usize, |sum, letter| {
        sum.saturating_mul(26).saturating_add(usize::from(letter.to_ascii_uppercase() - b'A') + 1)
    });
    number.checked_sub(1)
}

/// A number as a spreadsheet shows it: fifteen digits, no exponent. In decimal text throughout (invariant I11).
fn shown(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| (-400..400).contains(e))?),
        None => (text, 0),
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let mut point = i32::try_from(whole.len()).ok()? + exponent;
    let zeros = digits.iter().take_while(|d| **d == 0).count();
    let long = digits.len() - zeros > DIGITS_SHOWN;
    if !long && exponent == 0 {
        return Some(text.to_string());
    }
    digits.drain(..zeros);
    point -= i32::try_from(zeros).ok()?;
    if long {
        let up = digits.get(DIGITS_SHOWN).is_some_and(|digit| *digit >= 5);
        digits.truncate(DIGITS_SHOWN);
        if up {
            let nines = digits.iter().rev().take_while(|d| **d == 9).count();
            digits.truncate(digits.len() - nines);
            match digits.last_mut() {
                Some(last) => *last += 1,
                None => {
                    digits.push(1);
                    point += 1;
                }
            }
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
    }
    let digit = |at: i32| usize::try_from(at).ok().and_then(|at| digits.get(at)).map_or('0', |d| char::from(b'0' + d));
    let mut shown: String = (0..point.max(1)).map(|at| digit(at - point.max(1) + point)).collect();
    let decimals = i32::try_from(digits.len()).ok()? - point;
    if decimals > 0 {
        shown.push('.');
        shown.extend((point..point + decimals).map(digit));
    }
    Some(format!("{sign}{shown}"))
}

fn padded(number: String, decimals: usize) -> String {
    let there = number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let point = if there == 0 { "." } else { "" };
    format!("{number}{point}{}", "0".repeat(decimals.saturating_sub(there))).trim_end_matches('.').to_string()
}

/// Days since the end of 1899 (or the beginning of 1904), and the part of the day.
fn date(number: &str, since_1904: bool) -> Option<String> {
    let (days, part) = number.split_once('.').unwrap_or((number, ""));
    let days: i64 = days.parse().ok().filter(|days| (0..2_958_466).contains(days))?;
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let seconds = (part.parse::<u64>().ok()? * 86_400 + 500_000_000) / 1_000_000_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if days == 0 && !since_1904 {
        return Some(clock);
    }
    let (days, clock) = if seconds == 86_400 { (days + 1, "00:00:00".to_string()) } else { (days, clock) };
    let first = if since_1904 { jiff::civil::date(1904, 1, 1) } else { jiff::civil::date(1899, 12, 30) };
    let day = first.checked_add(days.days()).ok()?;
    let day = day.strftime("%Y-%m-%d");
    Some(if seconds == 0 { day.to_string() } else { format!("{day} {clock}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workbook of stored parts, as the smallest writers make them.
    pub(super) fn workbook(sheet: &str, styles: &str, strings: &str) -> Vec<u8> {
        let rels = "<Relationships><Relationship Id=\"r1\" Target=\"worksheets/sheet1.xml\"/></Relationships>";
        let book = "<workbook><sheets><sheet name=\"Results\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>";
        let parts = [
            ("xl/workbook.xml", book),
            ("xl/_rels/workbook.xml.rels", rels),
            ("xl/styles.xml", styles),
            ("xl/sharedStrings.xml", strings),
            ("xl/worksheets/sheet1.xml", sheet),
        ];
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (at, (name, text)) in parts.iter().enumerate() {
            // Half of them packed, as a spreadsheet does.
            let (method, packed) = match at % 2 {
                0 => (8u16, miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 6)),
                _ => (0u16, text.as_bytes().to_vec()),
            };
            let sizes = [(packed.len() as u32).to_le_bytes(), (text.len() as u32).to_le_bytes()].concat();
            let offset = (file.len() as u32).to_le_bytes();
            let common =
                [&method.to_le_bytes()[..], &[0; 8], &sizes, &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
            file.extend([b"PK\x03\x04\x14\0\0\0".as_slice(), &common, name.as_bytes(), &packed].concat());
            directory.extend(
                [b"PK\x01\x02\x14\0\x14\0\0\0".as_slice(), &common, &[0; 10], &offset, name.as_bytes()].concat(),
            );
        }
        let (count, size, at) = (parts.len() as u16, directory.len() as u32, file.len() as u32);
        file.extend(directory);
        file.extend(
            [b"PK\x05\x06\0\0\0\0".as_slice(), &count.to_le_bytes(), &count.to_le_bytes(), &size.to_le_bytes()]
                .concat(),
        );
        file.extend([&at.to_le_bytes()[..], &[0, 0]].concat());
        file
    }

    const STYLES: &str = "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"yyyy\\-mm\\-dd\\ hh:mm\"/></numFmts>\
        <cellStyleXfs><xf numFmtId=\"9\"/></cellStyleXfs>\
        <cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"2\"/><xf numFmtId=\"164\"/></cellXfs></styleSheet>";
    const STRINGS: &str =
        "<sst><si><t>Sample ID</t></si><si><r><t>Re</t></r><r><t>sult &amp; so</t></r></si><si><t>S1</t></si></sst>";
    const SHEET: &str = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" t=\"s\"><v>1</v></c>\
        <c r=\"D1\" t=\"inlineStr\"><is><t>Date</t></is></c></row><row r=\"3\"><c r=\"A3\" t=\"s\"><v>2</v></c>\
        <c r=\"B3\" s=\"1\"><v>5.0999999999999996</v></c><c r=\"C3\"><v>1.2E-2</v></c><c r=\"D3\" s=\"2\"><v>46329.5</v></c></row>\
        </sheetData></worksheet>";

    #[test]
    fn a_workbook_is_read_as_people_see_it() {
        let raw = workbook(SHEET, STYLES, STRINGS);
        assert!(looks_like(&raw));
        let (rows, cut_off) = rows(&raw).unwrap();
        let expected: [&[&str]; 3] =
            [&["Sample ID", "Result & so", "", "Date"], &[], &["S1", "5.10", "0.012", "2026-11-03 12:00:00"]];
        assert_eq!(
            (rows, cut_off),
            (expected.map(|row| row.iter().map(ToString::to_string).collect()).to_vec(), false)
        );
        let reading = super::super::read(&raw, None, None);
        assert_eq!(reading.rows[2].cells[1], "5.10");
    }

    #[test]
    fn i11_numbers_keep_the_digits_a_spreadsheet_shows() {
        for (held, seen) in [
            ("5.1", "5.1"),
            ("8", "8"),
            ("5.0999999999999996", "5.1"),
            ("0.30000000000000004", "0.3"),
            ("99.999999999999999", "100"),
            ("1E+3", "1000"),
            ("-1.25E-7", "-0.000000125"),
            ("123456789012345678", "123456789012346000"),
        ] {
            assert_eq!(shown(held).as_deref(), Some(seen), "{held}");
        }
        assert_eq!(shown("n/a"), None);
        assert_eq!(
            (padded("5.1".into(), 2), padded("5".into(), 0), padded("5.123".into(), 2)),
            ("5.10".into(), "5".into(), "5.123".into())
        );
    }

    #[test]
    fn dates_are_days_and_times_parts_of_them() {
        for (number, since_1904, text) in [
            ("46329", false, "2026-11-03"),
            ("46329.7118055556", false, "2026-11-03 17:05:00"),
            ("0.5", false, "12:00:00"),
            ("46328.9999999999", false, "2026-11-03"),
            ("44867", true, "2026-11-03"),
        ] {
            let read = date(number, since_1904).unwrap();
            assert_eq!(read.trim_end_matches(" 00:00:00"), text, "{number}");
        }
        assert_eq!(
            (of_code("General"), of_code("0.000"), of_code("[Red]0.0\" s\"")),
            (Format::Plain, Format::Decimals(3), Format::Decimals(1))
        );
    }

    #[test]
    fn i10_what_is_no_workbook_or_a_broken_one_is_survived() {
        let whole = workbook(SHEET, STYLES, STRINGS);
        for cut in 0..whole.len() {
            let _ = rows(&whole[..cut]);
            let mut spoilt = whole.clone();
            spoilt[cut] ^= 0xFF;
            let _ = rows(&spoilt);
        }
        assert!(!looks_like(b"PK\x03\x04 a zip of something else"));
    }
}
