//! LIS02-A2 (ASTM E1394) records, read out of verbatim frames, bare records or a whole capture.
//!
//! Delimiters come from each header (H.2), record letters are read in either case, escapes are decoded last. Records
//! keep their text and are split when asked, so that a hostile record costs no memory beyond itself.

pub mod deframe;

use super::Oddity;
use super::charset::Charset;

/// Record types a driver's path may name. `OBR` and `OBX` occur in E1238 hybrids.
pub const RECORDS: &[&str] = &["H", "P", "O", "R", "C", "Q", "M", "S", "L", "OBR", "OBX"];
/// Most records read from one entry.
pub const RECORDS_MAX: usize = 100_000;
/// Only this much is looked at to tell what it is, in bytes.
const LOOK_MAX: usize = 65_536;
/// Longest escape sequence looked for, in bytes, delimiters not counted.
const ESCAPE_MAX: usize = 512;

/// Everything read from one entry.
pub struct Reading {
    /// The messages, header to terminator.
    pub messages: Vec<Message>,
    /// What was odd.
    pub oddities: Vec<Oddity>,
    /// False when some bytes did not fit the character set.
    pub clean: bool,
    /// True when there were more than [`RECORDS_MAX`] records.
    pub cut_off: bool,
}

/// One message: a header and what follows it, up to its terminator.
pub struct Message {
    /// The delimiters in force.
    pub delimiters: Delimiters,
    /// The records, header and terminator included.
    pub records: Vec<Record>,
    /// A record or the header could not be read, so what the rest says may be incomplete.
    pub damaged: bool,
    /// The terminator (L) was there.
    pub ended: bool,
}

/// One record.
#[derive(Clone)]
pub struct Record {
    /// Position in the entry, from 1.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Its text, without CR.
    text: String,
    delimiters: Delimiters,
    charset: Option<Charset>,
}

/// Record types (LIS02-A2 clause 5.3 and 6 to 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// H.
    Header,
    /// P.
    Patient,
    /// O.
    Order,
    /// R.
    Result,
    /// C.
    Comment,
    /// Q.
    Query,
    /// M, the vendor's own.
    Manufacturer,
    /// S.
    Scientific,
    /// L.
    Terminator,
    /// OBR in an E1238 hybrid.
    Request,
    /// OBX in an E1238 hybrid.
    Observation,
    /// Nothing the standard knows.
    Unknown,
}

/// The delimiters of a message (H.1 and H.2; LIS02-A2 clause 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiters {
    /// Between fields.
    pub field: char,
    /// Between repeats.
    pub repeat: char,
    /// Between components.
    pub component: char,
    /// Around escape sequences.
    pub escape: char,
}

impl Default for Delimiters {
    fn default() -> Self {
        Delimiters { field: '|', repeat: '\\', component: '^', escape: '&' }
    }
}

/// Reads an entry. `declared` is the character set of the link or the driver.
pub fn read(raw: &[u8], declared: Option<Charset>) -> Reading {
    let deframed = deframe::deframe(raw);
    let decoded = Charset::decode_declared(declared, Some(Charset::Latin1), &deframed.text);
    let mut reader = Reader {
        reading: Reading { messages: Vec::new(), oddities: deframed.oddities, clean: decoded.clean, cut_off: false },
        open: None,
        declared,
        number: 0,
    };
    let numbered = !deframed.framed
        && decoded.text.split(['\r', '\n']).find(|l| !l.trim().is_empty()).is_some_and(has_frame_number);
    for line in decoded.text.split(['\r', '\n']) {
        let line = line.trim_start_matches(['\u{feff}', ' ', '\t', '\0', '\u{b}']);
        let line = if numbered && has_frame_number(line) { line.get(1..).unwrap_or(line) } else { line };
        if line.trim_end().is_empty() {
            continue;
        }
        if reader.number as usize >= RECORDS_MAX {
            reader.reading.cut_off = true;
            break;
        }
        reader.line(line);
    }
    if deframed.cut
        && let Some(message) = &mut reader.open
    {
        message.damaged = true;
    }
    reader.close();
    reader.reading
}

/// True for bytes that hold at least one record of the standard, and for bytes that say nothing at all.
pub fn looks_like(raw: &[u8]) -> bool {
    let start = raw.get(..LOOK_MAX).unwrap_or(raw);
    let is_record = |r: &Record| r.kind != Kind::Unknown && r.text.contains(r.delimiters.field);
    !start.iter().any(|byte| byte.is_ascii_graphic())
        || read(start, None).messages.iter().flat_map(|m| &m.records).any(is_record)
}

/// What the first header says about its sender: H.5 with its delimiters.
pub fn sender(reading: &Reading) -> Option<String> {
    let header = reading.messages.iter().find_map(|m| m.records.iter().find(|r| r.kind == Kind::Header))?;
    Some(header.raw_field(5).to_string())
}

struct Reader {
    reading: Reading,
    open: Option<Message>,
    declared: Option<Charset>,
    number: u32,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if is_header(line) {
            self.close();
            let (delimiters, sound) = Delimiters::from_header(line);
            if !sound {
                self.odd("header without usable delimiters");
            }
            self.open = Some(Message { delimiters, records: Vec::new(), damaged: !sound, ended: false });
        }
        let delimiters = self.open.as_ref().map_or(Delimiters::default(), |m| m.delimiters);
        let kind = Kind::of(line, delimiters);
        if self.open.is_none() {
            if kind == Kind::Unknown || kind == Kind::Terminator {
                self.number += 1;
                return self.odd("text outside of a message");
            }
            self.open = Some(Message { delimiters, records: Vec::new(), damaged: true, ended: false });
            self.odd("record before any header");
        }
        self.number += 1;
        if kind == Kind::Unknown {
            self.odd("record of unknown type");
        }
        let record = Record { number: self.number, kind, text: line.to_string(), delimiters, charset: self.declared };
        if let Some(message) = &mut self.open {
            message.records.push(record);
            message.damaged |= kind == Kind::Unknown;
            message.ended = kind == Kind::Terminator;
            if message.ended {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.reading.messages.extend(self.open.take());
    }

    fn odd(&mut self, what: &'static str) {
        super::note(&mut self.reading.oddities, self.number, what);
    }
}

impl Kind {
    fn of(line: &str, delimiters: Delimiters) -> Kind {
        let letters = line.split(delimiters.field).next().unwrap_or("").trim_end();
        match letters.to_ascii_uppercase().as_str() {
            "H" => Kind::Header,
            "P" => Kind::Patient,
            "O" => Kind::Order,
            "R" => Kind::Result,
            "C" => Kind::Comment,
            "Q" => Kind::Query,
            "M" => Kind::Manufacturer,
            "S" => Kind::Scientific,
            "L" => Kind::Terminator,
            "OBR" => Kind::Request,
            "OBX" => Kind::Observation,
            _ => Kind::Unknown,
        }
    }

    /// `R`, `OBX`, ... as paths and the loss account name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Header => "H",
            Kind::Patient => "P",
            Kind::Order => "O",
            Kind::Result => "R",
            Kind::Comment => "C",
            Kind::Query => "Q",
            Kind::Manufacturer => "M",
            Kind::Scientific => "S",
            Kind::Terminator => "L",
            Kind::Request => "OBR",
            Kind::Observation => "OBX",
            Kind::Unknown => "?",
        }
    }
}

impl Delimiters {
    /// Those a header line declares, else the defaults.
    pub fn declared_by(header: &str) -> Delimiters {
        Delimiters::from_header(header).0
    }

    /// From a header line; `false` when it declares none that can be used, and the defaults stand in.
    ///
    /// Three characters are repeat, component, escape. Four are the HL7 order of E1238 hybrids (component, repeat,
    /// escape, subcomponent), unless one is merely doubled, as senders do that escaped their own source code.
    fn from_header(line: &str) -> (Delimiters, bool) {
        let usable = |c: &char| c.is_ascii_punctuation();
        let Some(field) = line.chars().nth(1).filter(usable) else { return (Delimiters::default(), false) };
        let declared = line.split(field).nth(1).unwrap_or("");
        let mut chars: Vec<char> = declared.chars().take(8).collect();
        chars.dedup();
        let (repeat, component, escape) = match chars[..] {
            [repeat, component, escape] => (repeat, component, escape),
            [component, repeat, escape, _] => (repeat, component, escape),
            _ => return (Delimiters { field, ..Delimiters::default() }, false),
        };
        let all = [field, repeat, component, escape];
        let distinct = all.iter().enumerate().all(|(i, c)| usable(c) && !all.iter().skip(i + 1).any(|d| d == c));
        if distinct {
            (Delimiters { field, repeat, component, escape }, true)
        } else {
            (Delimiters { field, ..Delimiters::default() }, false)
        }
    }
}

impl Record {
    /// Field `n` as it stands, escapes and delimiters included. Field 1 is the type, but in OBR and OBX the type is not
    /// counted, as in HL7.
    pub fn raw_field(&self, n: u16) -> &str {
        let before = if matches!(self.kind, Kind::Request | Kind::Observation) { 0 } else { 1 };
        self.text.split(self.delimiters.field).nth(usize::from(n.max(1)) - before).unwrap_or("").trim_end_matches('\0')
    }

    /// Every field that is not empty, in one pass: its number as [`Record::raw_field`] counts, the field whole, and its
    /// components unless it repeats.
    pub fn filled(&self) -> impl Iterator<Item = (u16, String, Option<Vec<String>>)> {
        let first = if matches!(self.kind, Kind::Request | Kind::Observation) { 0 } else { 1 };
        let fields = (first..=u16::MAX).zip(self.text.split(self.delimiters.field));
        fields.filter(|(_, raw)| !raw.trim().is_empty()).map(|(n, raw)| {
            let raw = raw.trim_end_matches('\0');
            let parts = raw.split(self.delimiters.component).map(|c| self.decode(c)).collect();
            let whole = self.decode(raw.trim_end_matches([self.delimiters.component, ' ']));
            (n, whole, (!raw.contains(self.delimiters.repeat)).then_some(parts))
        })
    }

    /// Component `component` of the first repeat of field `n`, decoded.
    pub fn component(&self, n: u16, component: u16) -> String {
        self.component_of(self.first_repeat(n), component)
    }

    /// The same component of every repeat of field `n`, decoded.
    pub fn repeats(&self, n: u16, component: u16) -> Vec<String> {
        self.raw_field(n).split(self.delimiters.repeat).map(|r| self.component_of(r, component)).collect()
    }

    /// Every component of every repeat of field `n`, decoded.
    pub fn components(&self, n: u16) -> Vec<String> {
        self.raw_field(n).split([self.delimiters.repeat, self.delimiters.component]).map(|c| self.decode(c)).collect()
    }

    /// Field `n` whole and decoded; delimiters inside stay, empty components at the end go.
    pub fn whole(&self, n: u16) -> String {
        self.decode(self.raw_field(n).trim_end_matches([self.delimiters.component, ' ']))
    }

    /// How many components the first repeat of field `n` fills.
    pub fn components_filled(&self, n: u16) -> usize {
        self.first_repeat(n).split(self.delimiters.component).filter(|c| !c.trim().is_empty()).count()
    }

    fn first_repeat(&self, n: u16) -> &str {
        self.raw_field(n).split(self.delimiters.repeat).next().unwrap_or("")
    }

    fn component_of(&self, repeat: &str, component: u16) -> String {
        let nth = repeat.split(self.delimiters.component).nth(usize::from(component.max(1)) - 1);
        self.decode(nth.unwrap_or(""))
    }

    /// Decodes `&F& &S& &R& &E& &Xhh..&`; `&H&` and `&N&` (highlighting) go, anything else stays as it is.
    fn decode(&self, text: &str) -> String {
        let d = self.delimiters;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(d.escape) {
            out.push_str(before);
            let close = after.char_indices().take(ESCAPE_MAX).find(|(_, c)| *c == d.escape).map(|(at, _)| at);
            let code = close.and_then(|at| after.get(..at));
            let decoded = match code {
                Some("F" | "f") => Some(d.field.to_string()),
                Some("S" | "s") => Some(d.component.to_string()),
                Some("R" | "r") => Some(d.repeat.to_string()),
                Some("E" | "e") => Some(d.escape.to_string()),
                Some("H" | "N" | "h" | "n") => Some(String::new()),
                Some(hex) => hex.strip_prefix(['X', 'x']).and_then(|h| self.hex(h)),
                None => None,
            };
            match (decoded, close) {
                (Some(decoded), Some(at)) => {
                    out.push_str(&decoded);
                    rest = after.get(at + d.escape.len_utf8()..).unwrap_or("");
                }
                _ => {
                    out.push(d.escape);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn hex(&self, digits: &str) -> Option<String> {
        let bytes = super::hl7::escape::hex_bytes(digits)?;
        let decoded = Charset::decode_declared(self.charset, Some(Charset::Latin1), &bytes);
        decoded.clean.then_some(decoded.text)
    }
}

fn is_header(line: &str) -> bool {
    let mut chars = line.chars();
    matches!(chars.next(), Some('H' | 'h')) && chars.next().is_some_and(|c| c.is_ascii_punctuation())
}

/// A printed frame number before a record letter (`1H|`), as logs keep it when they drop the control characters.
fn has_frame_number(line: &str) -> bool {
    let mut chars = line.chars();
    matches!(chars.next(), Some('0'..='7'))
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.next().is_some_and(|c| c.is_ascii_punctuation())
}

#[cfg(test)]
mod tests;
