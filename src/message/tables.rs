//! Tables: separated text (CSV, TSV and their kin) and workbooks ([`workbook`]) as analyzers export them, read into rows of
//! cells.
//!
//! RFC 4180 as far as instruments follow it: the delimiter is declared or detected, a cell may stand in double quotes
//! and then hold delimiters, line ends and doubled quotes, a line ends in CR, LF or both. Text is UTF-8, UTF-16 (with a
//! byte order mark, or recognised by its NULs) or what the driver declares. Cells keep their text exactly (I11).
//! What the rows mean (titles, keys, headers, data) is [`layout`]'s.

pub mod layout;
pub mod workbook;

use super::charset::Charset;
use super::{Oddity, note};
use std::collections::BTreeMap;

/// Most rows read of one file; real exports stay under some thousand.
pub const ROWS_MAX: usize = 200_000;
/// Most cells read of one row. A result of a wide table is numbered `row * 10 000 + column`.
pub const COLUMNS_MAX: usize = 9_999;
/// Most cells read of one file.
const CELLS_MAX: usize = 1_000_000;
/// Longest cell in quotes, in bytes; a quote that is not closed before that is an ordinary character.
const QUOTED_MAX: usize = 64 * 1024;
/// Lines by which the delimiter is detected.
const DETECT_LINES: usize = 200;
/// What may separate cells, most telling first: text is full of commas, and numbers hold them.
const DELIMITERS: [char; 4] = ['\t', ';', '|', ','];
/// What lines of ASTM records and HL7 segments begin with, before the usual delimiter.
const RECORDS: [&str; 15] = ["H", "P", "O", "R", "C", "Q", "M", "S", "L", "MSH", "PID", "OBR", "OBX", "ORC", "NTE"];
/// Bytes looked at to recognise a table.
const LOOK_MAX: usize = 64 * 1024;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the row in the file, from 1, blank ones counted. Lines inside of a quoted cell are no rows.
    pub number: u32,
    /// The cells, decoded, without their quotes, otherwise as they are.
    pub cells: Vec<String>,
    /// A quote in it does not fit, or what a cell of a workbook shows is not known.
    pub damaged: bool,
}

impl Row {
    /// The cell at this place, from 0, blanks around it removed; empty when there is none.
    pub fn cell(&self, at: usize) -> &str {
        self.cells.get(at).map_or("", |cell| bare(cell))
    }

    /// True when nothing is in it.
    pub fn is_blank(&self) -> bool {
        self.filled() == 0
    }

    /// How many cells hold something.
    pub fn filled(&self) -> usize {
        self.cells.iter().filter(|cell| !bare(cell).is_empty()).count()
    }

    /// Cells up to the last one that holds something.
    pub fn width(&self) -> usize {
        self.cells.iter().rposition(|cell| !bare(cell).is_empty()).map_or(0, |at| at + 1)
    }
}

/// A file as rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// What separates the cells.
    pub delimiter: char,
    /// False when some bytes did not fit the character set.
    pub clean: bool,
    /// True when the last line has its line end: a file that was cut off mostly has not.
    pub ended: bool,
    /// More rows or cells than are read.
    pub cut_off: bool,
    /// What was odd.
    pub oddities: Vec<Oddity>,
}

/// Reads a file. `charset` is what the link or the driver declares; a byte order mark goes before it.
pub fn read(raw: &[u8], charset: Option<Charset>, delimiter: Option<char>) -> Reading {
    if workbook::looks_like(raw) {
        return of_workbook(raw);
    }
    let decoded = Charset::decode_declared(charset.or_else(|| silent_utf16(raw)), None, raw);
    let (declared, text) = declared_delimiter(&decoded.text);
    let delimiter = delimiter.or(declared).unwrap_or_else(|| detect(text));
    let reading = Reading {
        rows: Vec::new(),
        delimiter,
        clean: decoded.clean,
        ended: text.is_empty() || text.ends_with(['\r', '\n']),
        cut_off: false,
        oddities: Vec::new(),
    };
    let first = if declared.is_some() { 2 } else { 1 };
    Splitter { rest: text, reading, cells: 0, quotes: true }.run(first)
}

/// A workbook says itself where a cell begins, and that it is whole.
fn of_workbook(raw: &[u8]) -> Reading {
    let mut oddities = Vec::new();
    let (rows, cut_off) = workbook::rows(raw).unwrap_or_else(|flaw| {
        note(&mut oddities, 0, flaw);
        (Vec::new(), true)
    });
    Reading { rows, delimiter: '\t', clean: true, ended: true, cut_off, oddities }
}

/// The cells of one line by the same rules.
pub fn split_line(line: &str, delimiter: char) -> Vec<String> {
    let mut rest = line;
    let mut cells = Vec::new();
    loop {
        let cell = cell(rest, delimiter, true);
        rest = rest.get(cell.length..).unwrap_or("");
        cells.push(cell.text);
        match rest.strip_prefix(delimiter) {
            Some(after) if cells.len() < COLUMNS_MAX => rest = after,
            _ => return cells,
        }
    }
}

/// What most probably separates the cells of a text: the delimiter that stands equally often in the most lines.
pub fn detect(text: &str) -> char {
    let mut best = (0, 0, ',');
    for delimiter in DELIMITERS {
        let mut lines_by_count: BTreeMap<usize, usize> = BTreeMap::new();
        for line in text.split(['\r', '\n']).filter(|line| !line.is_empty()).take(DETECT_LINES) {
            *lines_by_count.entry(unquoted(line, delimiter)).or_default() += 1;
        }
        lines_by_count.remove(&0);
        let usual = lines_by_count.iter().map(|(count, lines)| (*lines, *count)).max();
        if let Some((lines, count)) = usual.filter(|found| *found > (best.0, best.1)) {
            best = (lines, count, delimiter);
        }
    }
    best.2
}

/// True when the bytes look like a table and like nothing else that is read here: printable text in which at least two
/// lines hold the same delimiter, and no line is a record of ASTM or HL7 or a log of such.
pub fn looks_like(raw: &[u8]) -> bool {
    if workbook::looks_like(raw) {
        return true;
    }
    let start = raw.get(..LOOK_MAX).unwrap_or(raw);
    let text = Charset::decode_declared(silent_utf16(start), Some(Charset::Latin1), start).text;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
        return false;
    }
    let delimiter = detect(&text);
    let is_record = |line: &str| line.split_once('|').is_some_and(|(name, _)| RECORDS.contains(&name));
    if text.split(['\r', '\n']).any(is_record) {
        return false;
    }
    let rows = || text.split(['\r', '\n']).filter(|line| unquoted(line, delimiter) > 0);
    let are_numbers = delimiter == ',' && rows().all(|line| unquoted(line, ',') == 1 && has_decimal_comma(line));
    !text.contains("|\\^&") && rows().nth(1).is_some() && !are_numbers
}

/// True when some row of at least two cells has no number in it, as headers have none.
pub fn may_have_header(raw: &[u8]) -> bool {
    let start = raw.get(..LOOK_MAX).unwrap_or(raw);
    let text = Charset::decode_declared(silent_utf16(start), Some(Charset::Latin1), start).text;
    let delimiter = detect(&text);
    let is_header = |line: &str| {
        let cells = split_line(line, delimiter);
        let filled: Vec<&String> = cells.iter().filter(|cell| !bare(cell).is_empty()).collect();
        filled.len() >= 2 && !filled.iter().any(|cell| is_numeric(cell))
    };
    text.split(['\r', '\n']).any(is_header)
}

/// A word of the line is a number with a decimal comma.
fn has_decimal_comma(line: &str) -> bool {
    let is_number = |word: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        word.trim_start_matches(['<', '>', '-'])
            .split_once(',')
            .is_some_and(|(whole, part)| digits(whole) && digits(part))
    };
    line.split_whitespace().any(is_number)
}

/// A cell's text without blanks around it, among them the byte order marks some exports leave between their parts.
pub fn bare(cell: &str) -> &str {
    cell.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Text that stands for a number as far as telling headers from data goes.
pub fn is_numeric(cell: &str) -> bool {
    let cell = bare(cell).trim_start_matches(['<', '>', '=', '-', '+', '.', ',']);
    cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.chars().all(|c| c.is_ascii_digit() || ".,:/-+eE %".contains(c))
}

/// UTF-16 without a byte order mark: every second byte of plain text is NUL.
fn silent_utf16(raw: &[u8]) -> Option<Charset> {
    let start = raw.get(..512.min(raw.len() & !1)).unwrap_or_default();
    let nul = |odd: usize| start.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let (even, odd, pairs) = (nul(0), nul(1), start.len() / 2);
    match () {
        () if pairs < 4 => None,
        () if even == 0 && odd * 4 >= pairs * 3 => Charset::named("utf-16le"),
        () if odd == 0 && even * 4 >= pairs * 3 => Charset::named("utf-16be"),
        () => None,
    }
}

/// The first line `sep=;` with which spreadsheets are told the delimiter, and what comes after it.
fn declared_delimiter(text: &str) -> (Option<char>, &str) {
    let end = text.find(['\r', '\n']).unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    let mut said = line.strip_prefix("sep=").unwrap_or("").chars();
    match (said.next(), said.next()) {
        (Some(delimiter), None) => (Some(delimiter), rest.strip_prefix("\r\n").or(rest.get(1..)).unwrap_or("")),
        _ => (None, text),
    }
}

/// How often a delimiter stands outside of quotes.
fn unquoted(line: &str, delimiter: char) -> usize {
    let mut quoted = false;
    let mut count = 0;
    for c in line.chars() {
        quoted ^= c == '"';
        count += usize::from(c == delimiter && !quoted);
    }
    count
}

struct Splitter<'t> {
    rest: &'t str,
    reading: Reading,
    cells: usize,
    /// False once a quote was not closed: from there on they are taken for ordinary characters.
    quotes: bool,
}

impl Splitter<'_> {
    fn run(mut self, first: u32) -> Reading {
        let mut number = first;
        while !self.rest.is_empty() {
            if self.reading.rows.len() >= ROWS_MAX || self.cells >= CELLS_MAX {
                self.reading.cut_off = true;
                break;
            }
            let row = self.row(number);
            self.cells += row.cells.len();
            // A blank row is kept: it ends what stands before it.
            self.reading.rows.push(row);
            number += 1;
        }
        self.reading
    }

    fn row(&mut self, number: u32) -> Row {
        let mut row = Row { number, cells: Vec::new(), damaged: false };
        loop {
            let cell = cell(self.rest, self.reading.delimiter, self.quotes);
            self.rest = self.rest.get(cell.length..).unwrap_or("");
            if let Some(fault) = cell.fault {
                note(&mut self.reading.oddities, number, fault);
                row.damaged = true;
                self.quotes &= fault != UNCLOSED;
            }
            if row.cells.len() < COLUMNS_MAX {
                row.cells.push(cell.text);
            } else {
                self.reading.cut_off = true;
            }
            let mut after = self.rest.chars();
            match after.next() {
                Some(c) if c == self.reading.delimiter => self.rest = after.as_str(),
                Some('\r') => {
                    self.rest = after.as_str().strip_prefix('\n').unwrap_or(after.as_str());
                    return row;
                }
                Some(_) => {
                    self.rest = after.as_str();
                    return row;
                }
                None => return row,
            }
        }
    }
}

const UNCLOSED: &str = "a quote that is never closed";
const AFTER_QUOTE: &str = "text behind a closing quote";

struct Cell {
    text: String,
    /// Bytes it takes, up to the delimiter or the line end.
    length: usize,
    fault: Option<&'static str>,
}

fn cell(rest: &str, delimiter: char, quotes: bool) -> Cell {
    let ends = |c: char| c == delimiter || c == '\r' || c == '\n';
    let plain = |fault| {
        let length = rest.find(ends).unwrap_or(rest.len());
        Cell { text: rest.get(..length).unwrap_or("").to_string(), length, fault }
    };
    let Some(inside) = rest.strip_prefix('"').filter(|_| quotes) else { return plain(None) };
    let mut text = String::new();
    let mut from = 0;
    loop {
        let Some(quote) = inside.get(from..).and_then(|s| s.find('"')).filter(|at| from + at <= QUOTED_MAX) else {
            return plain(Some(UNCLOSED));
        };
        text.push_str(inside.get(from..from + quote).unwrap_or(""));
        from += quote + 1;
        let after = inside.get(from..).unwrap_or("");
        if after.starts_with('"') {
            text.push('"');
            from += 1;
            continue;
        }
        let more = after.find(ends).unwrap_or(after.len());
        let left = after.get(..more).unwrap_or("");
        text.push_str(left);
        let fault = (!left.trim().is_empty()).then_some(AFTER_QUOTE);
        return Cell { text, length: 1 + from + more, fault };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(raw: &[u8]) -> Vec<Vec<String>> {
        read(raw, None, None).rows.into_iter().map(|row| row.cells).collect()
    }

    #[test]
    fn the_delimiter_is_the_one_all_lines_share() {
        for (text, delimiter) in [
            ("Sample;ALB;\n3;3,40;g/dL\n4;3,50;g/dL\n", ';'),
            ("a,b,c\n1,2,3\n", ','),
            ("a\tb, c\td\n1\t2,5\t3\n", '\t'),
            ("Assay,Ebola\nResult,GP DETECTED|NP DETECTED|\nUser,x\n", ','),
            ("\"a;b;c\",d\n\"1;2;3\",e\n", ','),
            ("S1|GLU|5.0\r", '|'),
            ("nothing here", ','),
        ] {
            assert_eq!(detect(text), delimiter, "{text}");
        }
        let told = read(b"sep=;\r\na,b;c\r\n", None, None);
        assert_eq!((told.delimiter, told.rows[0].number), (';', 2));
        assert_eq!(told.rows[0].cells, ["a,b", "c"]);
    }

    #[test]
    fn quotes_hold_delimiters_line_ends_and_quotes() {
        assert_eq!(cells(b"\"a,\"\"b\"\"\r\nc\",d\r\n,\"\"\n"), [vec!["a,\"b\"\r\nc", "d"], vec!["", ""]]);
        assert_eq!(cells(b"a\rb\r\nc\nd"), [["a"], ["b"], ["c"], ["d"]]);
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_row_and_no_other() {
        let reading = read(b"a,\"5.0,x\n1,\"2\n3,4\n", None, None);
        let rows: Vec<_> = reading.rows.iter().map(|row| (row.cells.join("+"), row.damaged)).collect();
        // Between the two quotes stands what they hold together; the row says that something is wrong with it.
        assert_eq!(rows, [("a+5.0,x\n1,2".to_string(), true), ("3+4".to_string(), false)]);
        let reading = read(b"a,\"5.0,x\n3,4\n", None, None);
        assert_eq!(reading.rows[0].cells, ["a", "\"5.0", "x"]);
        assert!(reading.rows[0].damaged && !reading.rows[1].damaged);
    }

    #[test]
    fn every_encoding_says_the_same() {
        let text = "Probe;Wert\nS1;5,0 µg\n";
        let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let with = |mark: &[u8], body: Vec<u8>| [mark, &body].concat();
        for raw in [
            text.as_bytes().to_vec(),
            with(b"\xef\xbb\xbf", text.as_bytes().to_vec()),
            with(b"\xff\xfe", utf16(u16::to_le_bytes)),
            with(b"\xfe\xff", utf16(u16::to_be_bytes)),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            let reading = read(&raw, None, None);
            assert!(reading.clean && reading.ended, "{raw:?}");
            assert_eq!(reading.rows[1].cells, ["S1", "5,0 µg"]);
        }
        let latin1 = b"S1;5,0 \xb5g\n";
        assert!(!read(latin1, None, None).clean, "what is not declared is not guessed");
        let declared = read(latin1, Some(Charset::Latin1), None);
        assert!(declared.clean);
        assert_eq!(declared.rows[0].cells, ["S1", "5,0 µg"]);
    }

    #[test]
    fn a_table_is_told_from_records_and_noise() {
        for (raw, is_table) in [
            (&b"Sample ID,Result\nS1,5\n"[..], true),
            (b"S1;GLU;5.0\nS2;GLU;6.0", true),
            (b"[2, 49, 72, 124]", false),
            (b"Host -> [STX]1H|\\^&|x\nHost -> [STX]2P|1|\n", false),
            (b"\x02S1,5\x03", false),
            (b"hello\nworld\n", false),
            (b"Glukose 5,61 mmol/l\nKalium 4,1 mmol/l\n", false),
            (b"Probe 1,5\nSample,Result\n", true),
            (b"R|1|^^^GLU|5.0\rR|2|^^^K|4.1\r", false),
            (b"", false),
        ] {
            assert_eq!(looks_like(raw), is_table, "{raw:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_by_the_rules_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a-z0-9 ,;\"\r\n\t|µ]{0,12}", 2..6), 1..12),
            delimiter in prop::sample::select(DELIMITERS.to_vec()),
            end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(&delimiter.to_string());
            let text: String = rows.iter().map(|row| line(row) + end).collect();
            let reading = read(text.as_bytes(), None, Some(delimiter));
            let read_back: Vec<Vec<String>> = reading.rows.into_iter().map(|row| row.cells).collect();
            prop_assert_eq!(read_back, rows);
        }

        #[test]
        fn nothing_is_lost_of_any_text(text in "[a-c,;\"\r\n\t|]{0,200}") {
            let reading = read(text.as_bytes(), None, None);
            let kept = |text: &str| text.chars().filter(|c| c.is_ascii_lowercase()).collect::<String>();
            let all: String = reading.rows.iter().flat_map(|row| &row.cells).map(String::as_str).collect();
            prop_assert_eq!(kept(&all), kept(&text));
        }

        #[test]
        fn any_bytes_are_read(raw in prop::collection::vec(any::<u8>(), 0..400)) {
            let reading = read(&raw, None, None);
            prop_assert!(reading.rows.len() <= raw.len());
        }
    }
}
