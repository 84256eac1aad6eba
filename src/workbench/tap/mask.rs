//! What of a line may be shown. Closed: only fields that are known to hold no patient data show, in records that are
//! known; whatever else passes, and whatever cannot be told yet, is masked (invariant I8).
//!
//! A bad line is just when somebody looks, so nothing here trusts it: a frame whose `STX` was lost is no record, a frame
//! that comes again is read as it was the first time, and after a loss everything is masked until a record begins.

use crate::wire::Protocol;
use crate::wire::astm::{ENQ, EOT, ETB, ETX, STX};

/// Stands for each character that is not shown.
const MASK: u8 = b'*';
/// The character that begins an MLLP message (VT).
const MESSAGE_BEGIN: u8 = 0x0B;

/// Which fields of a record are shown, counted as its standard does.
enum Fields {
    All,
    These(&'static [u16]),
}
use Fields::{All, These};

/// LIS02-A2 records, counted with the letter as field 1. Not among them: names, ids, physicians, free text, operators.
const ASTM: [(&str, Fields); 9] = [
    ("H", These(&[1, 2, 5, 7, 10, 11, 12, 13, 14])),
    ("P", These(&[1, 2])),
    ("O", These(&[1, 2, 5, 6, 7, 8, 12, 16, 23, 26])),
    ("R", These(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14])),
    ("C", These(&[1, 2, 3])),
    ("Q", These(&[1, 2, 5, 6, 7, 8, 13])),
    ("L", All),
    ("OBR", These(&[1, 4, 7, 8, 22, 24, 25])),
    ("OBX", These(&[1, 2, 3, 5, 6, 7, 8, 11, 14, 19])),
];
/// HL7 segments, the name not counted.
const HL7: [(&str, Fields); 17] = [
    ("MSH", These(&[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21])),
    ("MSA", These(&[1, 2])),
    ("ERR", These(&[1, 2, 3, 4])),
    ("PID", These(&[1])),
    ("PV1", These(&[1])),
    ("ORC", These(&[1, 5, 9])),
    ("TQ1", These(&[1, 9])),
    ("OBR", These(&[1, 4, 7, 8, 22, 24, 25])),
    ("OBX", These(&[1, 2, 3, 5, 6, 7, 8, 11, 14, 18, 19])),
    ("NTE", These(&[1, 2])),
    ("SPM", These(&[1, 4, 11, 17, 18])),
    ("SAC", These(&[])),
    ("INV", All),
    ("QAK", All),
    ("QPD", These(&[1, 2])),
    ("RCP", All),
    ("EQU", All),
];
/// OBX-2 of values that are text or a document: they may hold anything.
const FREE_TEXT: [&[u8]; 5] = [b"TX", b"FT", b"ED", b"RP", b"XPN"];

/// Knows where the next character belongs. See the module docs.
pub(super) struct Mask {
    protocol: Protocol,
    at: Place,
    delimiter: Option<u8>,
    /// Where the record stood at the end of the last frame; the next one goes on from there.
    carried: Place,
    /// The number of the last frame, and where the record stood at its beginning: it may come again.
    last_frame: Option<(u8, Place)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    /// Nobody knows: masked until a record begins.
    Unknown,
    /// Between frames.
    Outside,
    /// The frame number comes next.
    Number,
    /// So many digits of a checksum may come.
    Sum(u8),
    /// In the name of a record, so much of it.
    Name(Vec<u8>),
    /// In a record that is known: its name, the field, and the text of OBX-2.
    Inside { name: Vec<u8>, field: u16, kind: Vec<u8> },
    /// In a record that is not known, or whose delimiter is not.
    Hidden,
    /// In the tag of an XML element, outside of quotes: names.
    Tag,
    /// In a quoted value of an XML attribute, which ends with this character.
    Quoted(u8),
}

impl Mask {
    pub(super) fn new(protocol: Protocol) -> Self {
        Mask { protocol, at: Place::Unknown, delimiter: None, carried: Place::Unknown, last_frame: None }
    }

    /// The character as it may be shown.
    pub(super) fn take(&mut self, byte: u8) -> u8 {
        if self.protocol == Protocol::Poct1a {
            return self.xml(byte);
        }
        let framed = self.protocol == Protocol::Astm;
        match byte {
            MESSAGE_BEGIN if !framed => self.at = begin(),
            ENQ | EOT if framed => {
                self.at = Place::Outside;
                self.last_frame = None;
                self.carried = if byte == ENQ { begin() } else { Place::Unknown };
            }
            STX if framed => self.at = Place::Number,
            ETX | ETB if framed => {
                self.carried = match (&self.at, byte) {
                    (Place::Name(name), _) if name.is_empty() => begin(),
                    // A record ends with its CR; one that a last frame leaves open is followed by nobody knows what.
                    (at @ (Place::Name(_) | Place::Inside { .. }), ETB) => at.clone(),
                    _ => Place::Unknown,
                };
                self.at = Place::Sum(2);
            }
            // Behind a frame's end they begin no record: a frame that lost its STX would pass for one.
            b'\r' | b'\n' if matches!(self.at, Place::Sum(_) | Place::Outside) && framed => self.at = Place::Outside,
            b'\r' | b'\n' => self.at = begin(),
            0..0x20 => {}
            _ => return self.text(byte),
        }
        byte
    }

    /// POCT1-A: the names of elements and attributes show, no value does. A `<` is always the beginning of a tag, so the
    /// view finds its place again whatever was lost before.
    fn xml(&mut self, byte: u8) -> u8 {
        match (&self.at, byte) {
            (_, b'<') => self.at = Place::Tag,
            (Place::Tag, b'"' | b'\'') => self.at = Place::Quoted(byte),
            (Place::Tag, b'>') => self.at = Place::Hidden,
            (Place::Quoted(end), _) if *end == byte => self.at = Place::Tag,
            (Place::Tag, _) | (_, 0..0x20) => {}
            _ => return masked(byte),
        }
        byte
    }

    fn text(&mut self, byte: u8) -> u8 {
        match &mut self.at {
            Place::Unknown | Place::Hidden | Place::Tag | Place::Quoted(_) => masked(byte),
            Place::Outside => {
                self.at = Place::Unknown;
                masked(byte)
            }
            Place::Sum(left) => {
                if *left > 0 && byte.is_ascii_hexdigit() {
                    *left -= 1;
                    return byte;
                }
                self.at = Place::Unknown;
                masked(byte)
            }
            Place::Number => {
                self.at = match self.last_frame.take() {
                    Some((number, begun)) if number == byte => begun,
                    _ => std::mem::replace(&mut self.carried, Place::Unknown),
                };
                self.last_frame = Some((byte, self.at.clone()));
                if byte.is_ascii_digit() { byte } else { masked(byte) }
            }
            Place::Name(name) => {
                let mut longer = name.clone();
                longer.push(byte.to_ascii_uppercase());
                if known(self.protocol).iter().any(|(known, _)| known.as_bytes().starts_with(&longer)) {
                    *name = longer;
                    return byte;
                }
                let name = std::mem::take(name);
                self.enter(name, byte)
            }
            Place::Inside { name, field, kind } => {
                if Some(byte) == self.delimiter {
                    *field = field.saturating_add(1);
                    return byte;
                }
                if *field == 2 && name == b"OBX" && kind.len() < 4 {
                    kind.push(byte);
                }
                let free_text = *field == 5 && name == b"OBX" && FREE_TEXT.contains(&kind.as_slice());
                match shows(self.protocol, name, *field) && !free_text {
                    true => byte,
                    false => masked(byte),
                }
            }
        }
    }

    /// What comes behind the name of a record is its delimiter, or it was none.
    fn enter(&mut self, name: Vec<u8>, byte: u8) -> u8 {
        let is_known = known(self.protocol).iter().any(|(known, _)| known.as_bytes() == name);
        let is_header = matches!(name.as_slice(), b"H" | b"MSH");
        if is_header && byte.is_ascii_punctuation() {
            self.delimiter = Some(byte);
        }
        if is_known && byte.is_ascii_punctuation() && byte == *self.delimiter.get_or_insert(b'|') {
            let counts_its_name = self.protocol == Protocol::Astm && name.len() == 1;
            // In a header the delimiter itself is a field: H.1 and MSH-1 (LIS02-A2 clause 6.2, HL7 2.5.1 2.14.9).
            let field = if counts_its_name || name == b"MSH" { 2 } else { 1 };
            self.at = Place::Inside { name, field, kind: Vec::new() };
            return byte;
        }
        self.at = Place::Hidden;
        masked(byte)
    }
}

fn begin() -> Place {
    Place::Name(Vec::new())
}

fn known(protocol: Protocol) -> &'static [(&'static str, Fields)] {
    match protocol {
        Protocol::Astm => &ASTM,
        Protocol::Hl7 => &HL7,
        Protocol::Poct1a | Protocol::Table | Protocol::Lines => &[],
    }
}

fn shows(protocol: Protocol, name: &[u8], field: u16) -> bool {
    known(protocol).iter().any(|(known, fields)| {
        known.as_bytes() == name
            && match fields {
                All => true,
                These(these) => these.contains(&field),
            }
    })
}

/// Letters, digits, blanks and all that is no ASCII; what remains is the shape.
fn masked(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || byte == b' ' || byte >= 0x7F { MASK } else { byte }
}
