//! Workbooks (XLSX, ISO/IEC 29500): a ZIP archive of XML, read into the same rows of cells as text.
//!
//! The sheets follow each other as they stand in the workbook, each under its name as a title when there are several. A
//! workbook keeps binary numbers: of a broken one with more digits than the fifteen every spreadsheet shows, those fifteen are
//! read, and as many decimals as its format asks for (`5.1` under `0.00` is `5.10`). Dates are numbers of days too; their format
//! says so. Only formats are read that show a number as itself, padded or in percent; whatever else a cell may show (`<0.5`,
//! `POS`, `1/2`) is not worked out: its row is damaged, as is one with an error in it. Formulas are not computed: what the
//! workbook holds as their value is read. Everything is bounded (invariant I10).

use super::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX, Row};
use jiff::ToSpan;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Most bytes all parts of a workbook may have, unpacked; and all cells, once read.
const UNPACKED_MAX: usize = 64 * 1024 * 1024;
/// Most parts of the archive looked at, most sheets and most relations to them.
const PARTS_MAX: usize = 1000;
/// Most styles of cells; spreadsheets stop there, too.
const STYLES_MAX: usize = 65_536;
/// Longest number format that is read as one of digits.
const PLACES_MAX: usize = 30;
/// Digits a spreadsheet shows of a number.
const DIGITS_SHOWN: usize = 15;
/// How every ZIP archive that is not empty begins.
const MAGIC: &[u8] = b"PK\x03\x04";
const NOT_ONE: &str = "the workbook cannot be read: its archive is damaged or not XLSX";

/// True for a ZIP archive that says it holds a workbook, be it cut off.
pub fn looks_like(raw: &[u8]) -> bool {
    let name = b"xl/workbook.xml";
    raw.starts_with(MAGIC) && raw.windows(name.len()).any(|window| window == name)
}

/// The rows of all sheets, numbered as in the workbook (those of the second sheet go on after the first); true when more
/// stands there than is read. Of blank rows that follow each other one is kept.
///
/// # Errors
/// The archive or one of its parts is damaged, missing or too large; safe to log.
pub fn rows(raw: &[u8]) -> Result<(Vec<Row>, bool), &'static str> {
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
        room: UNPACKED_MAX,
        cut_off: false,
    };
    for (name, id) in &book.sheets {
        let target = targets.get(id).ok_or(NOT_ONE)?;
        let path = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_string(),
            None => format!("xl/{target}"),
        };
        let xml = text(&path)?.ok_or(NOT_ONE)?;
        if book.sheets.len() > 1 {
            let last = sheet.last();
            sheet.begin(last.saturating_add(2), vec![format!("[{name}]")]);
        }
        sheet.read(&xml)?;
    }
    Ok((sheet.rows, sheet.cut_off))
}

/// One part of the archive.
struct Part {
    method: u16,
    /// CRC-32 of what it is unpacked.
    crc: usize,
    packed: usize,
    /// Bytes unpacked.
    size: usize,
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
        let part = Part {
            method: u16_at(raw, at + 10)?,
            crc: u32_at(raw, at + 16)?,
            packed: u32_at(raw, at + 20)?,
            size: u32_at(raw, at + 24)?,
            at: u32_at(raw, at + 42)?,
        };
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
        let bytes = match self.method {
            0 => (packed.len() <= room).then(|| packed.to_vec()),
            8 => miniz_oxide::inflate::decompress_to_vec_with_limit(packed, room).ok(),
            _ => None,
        }?;
        (bytes.len() == self.size && usize::try_from(crc_32(&bytes)) == Ok(self.crc)).then_some(bytes)
    }
}

/// CRC-32 as ZIP has it (ISO/IEC 21320-1).
fn crc_32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

fn u16_at(raw: &[u8], at: usize) -> Option<u16> {
    raw.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(raw: &[u8], at: usize) -> Option<usize> {
    let number = raw.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)?;
    usize::try_from(number).ok()
}

/// Calls `visit` with each event of a document.
fn each(xml: &str, mut visit: impl FnMut(&Event<'_>) -> Result<(), &'static str>) -> Result<(), &'static str> {
    let mut reader = Reader::from_str(xml);
    let mut open = 0usize;
    loop {
        let event = reader.read_event().map_err(|_| NOT_ONE)?;
        match event {
            Event::Eof if open > 0 => return Err(NOT_ONE),
            Event::Eof => return Ok(()),
            Event::Start(_) => open += 1,
            Event::End(_) => open = open.saturating_sub(1),
            _ => {}
        }
        visit(&event)?;
    }
}

/// Adds to what is bounded.
fn push<T>(all: &mut Vec<T>, one: T, max: usize) -> Result<(), &'static str> {
    if all.len() >= max {
        return Err(NOT_ONE);
    }
    all.push(one);
    Ok(())
}

fn is(tag: &BytesStart<'_>, name: &str) -> bool {
    tag.local_name().into_inner() == name
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> String {
    let found = tag.attributes().filter_map(Result::ok).find(|a| a.key.local_name().into_inner() == name);
    let value = found.and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.into_owned()));
    value.unwrap_or_default()
}

/// What a text or reference stands for; nothing for anything else.
fn said(event: &Event<'_>) -> Result<String, &'static str> {
    match event {
        Event::Text(text) => Ok(text.to_string()),
        Event::CData(text) => Ok(text.to_string()),
        Event::GeneralRef(entity) => match quick_xml::escape::unescape(&format!("&{};", &**entity)) {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(NOT_ONE),
        },
        _ => Ok(String::new()),
    }
}

fn strings(xml: &str) -> Result<Vec<String>, &'static str> {
    let (mut all, mut inside, mut phonetic) = (Vec::new(), false, false);
    each(xml, |event| {
        match event {
            Event::Start(tag) | Event::Empty(tag) if is(tag, "si") => push(&mut all, String::new(), CELLS_MAX)?,
            Event::Start(tag) if is(tag, "t") => inside = true,
            Event::Start(tag) if is(tag, "rPh") => phonetic = true,
            Event::End(tag) if tag.local_name().into_inner() == "t" => inside = false,
            Event::End(tag) if tag.local_name().into_inner() == "rPh" => phonetic = false,
            other if inside && !phonetic => {
                if let Some(last) = all.last_mut() {
                    last.push_str(&said(other)?);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(all)
}

/// How a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// With at least so many digits before and behind the point.
    Number {
        whole: usize,
        decimals: usize,
        percent: bool,
    },
    Date,
    /// Numbers in a way that is not read.
    Other,
    /// Texts, too.
    OtherText,
}

/// `General`, and `@`.
const PLAIN: Format = Format::Number { whole: 0, decimals: 0, percent: false };

/// The format of each style.
fn formats(xml: &str) -> Result<Vec<Format>, &'static str> {
    let mut codes: BTreeMap<String, String> = BTreeMap::new();
    let (mut styles, mut inside) = (Vec::new(), false);
    each(xml, |event| {
        match event {
            Event::Start(tag) if is(tag, "cellXfs") => inside = true,
            Event::End(tag) if tag.local_name().into_inner() == "cellXfs" => inside = false,
            Event::Start(tag) | Event::Empty(tag) if is(tag, "numFmt") && codes.len() < STYLES_MAX => {
                // Those of conditional formats come later and are none of the cells'.
                codes.entry(attribute(tag, "numFmtId")).or_insert_with(|| attribute(tag, "formatCode"));
            }
            Event::Start(tag) | Event::Empty(tag) if inside && is(tag, "xf") => {
                push(&mut styles, attribute(tag, "numFmtId"), STYLES_MAX)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    let format = |id: &String| match (codes.get(id), id.as_str()) {
        (Some(code), _) => of_code(code),
        (None, "" | "0" | "49") => PLAIN,
        (None, "1" | "3") => of_code("0"),
        (None, "2" | "4") => of_code("0.00"),
        (None, "9") => of_code("0%"),
        (None, "10") => of_code("0.00%"),
        (None, id) => match id.parse::<u16>() {
            Ok(14..=22 | 27..=36 | 50..=58) => Format::Date,
            _ => Format::Other,
        },
    };
    Ok(styles.iter().map(format).collect())
}

/// ISO/IEC 29500-1, 18.8.30 and 18.8.31.
fn of_code(code: &str) -> Format {
    // What stands behind is for texts, which are shown as they are, or a blank.
    let shape = code.strip_suffix(";@").unwrap_or(code);
    let shape = shape.strip_suffix("_ ").unwrap_or(shape);
    let digits = shape.strip_suffix('%');
    match places(digits.unwrap_or(shape)) {
        _ if shape.eq_ignore_ascii_case("general") || shape == "@" => PLAIN,
        Some((whole, decimals)) => Format::Number { whole, decimals, percent: digits.is_some() },
        None if is_date(shape) => Format::Date,
        None if code.contains('@') || code.matches(';').count() > 2 => Format::OtherText,
        None => Format::Other,
    }
}

/// How many digits a format of nothing but places for digits shows at least, before and behind the point.
fn places(code: &str) -> Option<(usize, usize)> {
    let (whole, decimals) = code.split_once('.').unwrap_or((code, ""));
    let is_place = |c: char| matches!(c, '0' | '#' | '?');
    let digits = whole.find('0').map_or(0, |at| whole.len() - at);
    let is_grouped = whole.contains(',');
    // A comma at the end divides by a thousand.
    let reads = code.len() <= PLACES_MAX
        && code.contains(is_place)
        && whole.chars().all(|c| is_place(c) || c == ',')
        && decimals.chars().all(is_place)
        && !whole.starts_with(',')
        && !whole.ends_with(',')
        && !(is_grouped && digits > 1);
    reads.then(|| (digits, decimals.rfind('0').map_or(0, |at| at + 1)))
}

/// True for the format of a date or a time of the day, not of a time that has passed (`[h]:mm`, `mm:ss`).
fn is_date(code: &str) -> bool {
    let mut plain = String::new();
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for c in code.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' | '_' | '*' if !quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => bracketed = true,
            ']' if !quoted => bracketed = false,
            _ if quoted || bracketed => {}
            c => plain.extend(c.to_lowercase()),
        }
    }
    let plain = plain.replace("am/pm", "").replace("a/p", "");
    let whole = plain.trim_end().trim_end_matches('0');
    // Brackets that name a language change nothing; colours, conditions and currencies are not read.
    code.matches('[').count() == code.matches("[$-").count()
        && whole.chars().all(|c| "ymdhs/-:., ".contains(c) || !c.is_ascii())
        && whole.contains(['y', 'd', 'h'])
        && (whole.contains('h') || !whole.contains('s'))
        && (whole.len() == plain.trim_end().len() || whole.ends_with("s."))
}

fn targets(xml: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let mut targets = Vec::new();
    each(xml, |event| match event {
        Event::Start(tag) | Event::Empty(tag) if is(tag, "Relationship") => {
            push(&mut targets, (attribute(tag, "Id"), attribute(tag, "Target")), PARTS_MAX)
        }
        _ => Ok(()),
    })?;
    Ok(targets.into_iter().collect())
}

#[derive(Default)]
struct Book {
    /// Name and relation of each sheet.
    sheets: Vec<(String, String)>,
    since_1904: bool,
}

fn book(xml: &str) -> Result<Book, &'static str> {
    let mut book = Book::default();
    each(xml, |event| match event {
        Event::Start(tag) | Event::Empty(tag) if is(tag, "sheet") => {
            push(&mut book.sheets, (attribute(tag, "name"), attribute(tag, "id")), PARTS_MAX)
        }
        Event::Start(tag) | Event::Empty(tag) if is(tag, "workbookPr") => {
            book.since_1904 = matches!(attribute(tag, "date1904").as_str(), "1" | "true");
            Ok(())
        }
        _ => Ok(()),
    })?;
    if book.sheets.is_empty() { Err(NOT_ONE) } else { Ok(book) }
}

struct Sheet<'w> {
    strings: &'w [String],
    formats: &'w [Format],
    since_1904: bool,
    rows: Vec<Row>,
    cells: usize,
    /// Bytes all further cells may have.
    room: usize,
    cut_off: bool,
}

/// A cell that is being read.
#[derive(Default)]
struct Cell {
    column: usize,
    kind: String,
    style: usize,
    /// Its value is computed.
    formula: bool,
    text: String,
}

impl Sheet<'_> {
    fn read(&mut self, xml: &str) -> Result<(), &'static str> {
        let before = self.last();
        let (mut cell, mut inside): (Option<Cell>, bool) = (None, false);
        // Whether the row has room, once there is one.
        let mut has_room = Err(NOT_ONE);
        let mut next_column = 0usize;
        each(xml, |event| {
            match event {
                Event::Start(tag) | Event::Empty(tag) if is(tag, "row") => {
                    let number: u32 = attribute(tag, "r").parse().unwrap_or(0);
                    has_room = Ok(self.begin(before.saturating_add(number), Vec::new()));
                    next_column = 0;
                }
                Event::Start(tag) | Event::Empty(tag) if is(tag, "c") => {
                    let column = column(&attribute(tag, "r")).unwrap_or(next_column);
                    next_column = column.saturating_add(1);
                    let style = attribute(tag, "s");
                    let style = if style.is_empty() { 0 } else { style.parse().unwrap_or(usize::MAX) };
                    let kind = attribute(tag, "t");
                    let has_content = matches!(event, Event::Start(_));
                    cell = has_content.then(|| Cell { column, kind, style, ..Cell::default() });
                }
                Event::Start(tag) | Event::Empty(tag) if is(tag, "f") => {
                    if let Some(cell) = &mut cell {
                        cell.formula = true;
                    }
                }
                Event::Start(tag) if is(tag, "v") || is(tag, "t") => inside = true,
                Event::End(tag) if matches!(tag.local_name().into_inner(), "v" | "t") => inside = false,
                Event::End(tag) if tag.local_name().into_inner() == "c" => {
                    if let Some(done) = cell.take()
                        && has_room?
                    {
                        self.put(done)?;
                    }
                }
                other if inside => {
                    if let Some(cell) = &mut cell {
                        cell.text.push_str(&said(other)?);
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Number of the last row, 0 before the first.
    fn last(&self) -> u32 {
        self.rows.last().map_or(0, |row| row.number)
    }

    /// Begins a row of this number, or the next one when that stands already; false when there is no room.
    fn begin(&mut self, number: u32, cells: Vec<String>) -> bool {
        let next = self.last().saturating_add(1);
        let number = number.max(next);
        if usize::try_from(number).is_ok_and(|number| number > ROWS_MAX) {
            self.cut_off = true;
            return false;
        }
        // Blank rows are left out of the file; they end what stands above them.
        if number > next {
            self.rows.push(Row { number: next, cells: Vec::new(), damaged: false });
        }
        self.rows.push(Row { number, cells, damaged: false });
        true
    }

    fn put(&mut self, cell: Cell) -> Result<(), &'static str> {
        let format = match self.formats.get(cell.style) {
            Some(format) => *format,
            None if cell.style == 0 => PLAIN,
            None => Format::OtherText,
        };
        let trimmed = cell.text.trim();
        let strings = self.strings;
        let (text, is_read) = match cell.kind.as_str() {
            "s" => {
                let text = trimmed.parse().ok().and_then(|at: usize| strings.get(at)).ok_or(NOT_ONE)?;
                (Cow::from(text), format != Format::OtherText)
            }
            "str" | "inlineStr" | "d" => (Cow::from(&cell.text), format != Format::OtherText),
            "b" if matches!(trimmed, "1" | "true") => ("TRUE".into(), true),
            "b" if matches!(trimmed, "0" | "false") => ("FALSE".into(), true),
            "" | "n" if trimmed.is_empty() && cell.formula => ("=".into(), false),
            "" | "n" if trimmed.is_empty() => return Ok(()),
            "" | "n" => match number(trimmed, format, self.since_1904) {
                Some(text) => (text.into(), true),
                None => (trimmed.into(), false),
            },
            _ => (trimmed.into(), false),
        };
        let Some(row) = self.rows.last_mut() else { return Err(NOT_ONE) };
        let made = cell.column.saturating_add(1).saturating_sub(row.cells.len());
        if cell.column >= COLUMNS_MAX || made > CELLS_MAX - self.cells || text.len() > self.room {
            self.cut_off = true;
            return Ok(());
        }
        (self.cells, self.room) = (self.cells + made, self.room - text.len());
        row.cells.resize(row.cells.len() + made, String::new());
        row.damaged |= !is_read;
        if let Some(place) = row.cells.get_mut(cell.column) {
            // Two cells in one place: neither is known to be the one.
            row.damaged |= !place.is_empty();
            *place = text.into_owned();
        }
        Ok(())
    }
}

/// A number as its format shows it; `None` when that is not known.
fn number(text: &str, format: Format, since_1904: bool) -> Option<String> {
    let plain = shown(text)?;
    match format {
        Format::Number { whole, decimals, percent } => placed(&plain, whole, decimals, percent),
        Format::Date => date(&plain, since_1904),
        Format::Other | Format::OtherText => None,
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

/// A number as a spreadsheet shows it: fifteen digits, no exponent. A longer whole number is an identifier that was written as
/// such and keeps its digits. In decimal text throughout (invariant I11).
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
    if exponent == 0 && (!long || whole.trim_start_matches('0').len() > DIGITS_SHOWN) {
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

/// With so many digits at least before and behind the point. In percent, and with leading zeros, a number is not known to be
/// shown as it is when it has more decimals.
fn placed(number: &str, whole: usize, decimals: usize, percent: bool) -> Option<String> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    let (mut before, mut after) = (before.to_string(), after.to_string());
    if percent {
        let digits = format!("{before}{after:0<2}");
        let (shifted, rest) = digits.split_at_checked(before.len() + 2)?;
        after = rest.to_string();
        before = format!("{:0>1}", shifted.trim_start_matches('0'));
    }
    if percent || whole > 1 {
        after.truncate(after.trim_end_matches('0').len());
        if after.len() > decimals {
            return None;
        }
    }
    let point = if after.is_empty() && decimals == 0 { "" } else { "." };
    let sign_of_percent = if percent { "%" } else { "" };
    Some(format!("{sign}{before:0>whole$}{point}{after:0<decimals$}{sign_of_percent}"))
}

/// Days since the end of 1899 (or the beginning of 1904), and the part of the day; without a day that part alone.
fn date(number: &str, since_1904: bool) -> Option<String> {
    let (days, part) = number.split_once('.').unwrap_or((number, ""));
    let days: i64 = days.parse().ok().filter(|days| (0..2_958_466).contains(days))?;
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let seconds = (part.parse::<u64>().ok()? * 86_400 + 500_000_000) / 1_000_000_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match days {
        0 => return (seconds < 86_400).then_some(clock),
        // Spreadsheets count a 29th of February that 1900 never had.
        1..=60 if !since_1904 => return None,
        _ => {}
    }
    let (days, clock) = if seconds == 86_400 { (days + 1, "00:00:00".to_string()) } else { (days, clock) };
    let first = if since_1904 { jiff::civil::date(1904, 1, 1) } else { jiff::civil::date(1899, 12, 30) };
    let day = first.checked_add(days.days()).ok()?;
    let day = day.strftime("%Y-%m-%d");
    Some(if seconds == 0 { day.to_string() } else { format!("{day} {clock}") })
}

#[cfg(test)]
mod tests;
