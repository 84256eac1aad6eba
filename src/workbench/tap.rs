//! The live view of a line. Pure: bytes and times in, text out.
//!
//! What names a patient or a specimen is masked character by character as it passes, whatever the reads were; what
//! cannot be told yet (the view began in the middle of a record) is masked too. Delimiters, control characters, frame
//! numbers and checksums always show, since they are what one looks for.

use crate::sim::transcript::spell;
use crate::wire::Protocol;
use crate::wire::astm::{ACK, ENQ, EOT, ETB, ETX, NAK, STX, checksum};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Silence that is written into a capture, in milliseconds.
const PAUSE_MIN_MS: i64 = 1000;
/// Longest frame whose checksum is looked at, in bytes; LIS01-A2 allows 64 000.
const FRAME_MAX: usize = 64_000;
/// The character that ends an MLLP message (FS).
const MESSAGE_END: u8 = 0x1C;
/// The character that begins one (VT).
const MESSAGE_BEGIN: u8 = 0x0B;
/// Longest name of a record or segment.
const NAME_MAX: usize = 4;
/// Stands for each character of a patient's data.
const MASK: u8 = b'*';
/// Fields that name or describe a patient, a specimen or an order: record and field, counted as the standards do. Field
/// 0 stands for all of them. Comments and notes are free text, so they are masked whole.
const PATIENT: [(&str, u16); 24] = [
    ("P", 0),
    ("O", 3),
    ("O", 4),
    ("O", 17),
    ("Q", 3),
    ("Q", 4),
    ("C", 4),
    ("M", 0),
    ("PID", 0),
    ("NK1", 0),
    ("PV1", 0),
    ("PV2", 0),
    ("IN1", 0),
    ("NTE", 3),
    ("ORC", 2),
    ("ORC", 3),
    ("OBR", 2),
    ("OBR", 3),
    ("OBR", 16),
    ("OBR", 28),
    ("SPM", 2),
    ("SAC", 3),
    ("QPD", 3),
    ("QRD", 8),
];

/// Who spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The instrument.
    Instrument,
    /// The gateway.
    Gateway,
    /// The link itself: connections, refusals, oddities.
    Link,
}

/// What one run of bytes looks like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shown {
    /// The bytes, spelled as in transcripts, patient data masked.
    pub text: String,
    /// What is worth saying about them.
    pub remarks: Vec<String>,
    /// For each frame that ended in them, whether its checksum was right.
    pub sums: Vec<bool>,
}

/// One run of bytes, or one event, on a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tapped {
    /// The link.
    pub link: String,
    /// The connection, 0 when it is about the link itself.
    pub connection: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub side: Side,
    /// What it looks like.
    pub shown: Shown,
    /// How many were left out before it because the asker did not keep up.
    pub missed: u64,
}

/// A session transcript of what passed on one link: a driver's case. Frames whose checksum was right have a right one
/// again, whatever was masked in them. What a gateway says differently each time (MSH-7, MSH-10) may be anything.
pub fn capture(passed: &[Tapped]) -> String {
    let mut text = String::from("# Recorded with afferent tap.\n");
    let mut before: Option<&Tapped> = None;
    let mut sums = VecDeque::new();
    for run in passed.iter().filter(|run| run.side != Side::Link) {
        let gap = before.map_or(0, |b| run.at_ms.saturating_sub(b.at_ms));
        if gap >= PAUSE_MIN_MS {
            text.push_str(&format!("@ {gap}ms\n"));
        }
        match run.side {
            Side::Gateway => text.push_str(&format!("< {}\n", left_open(&run.shown.text))),
            _ => text.push_str(&format!("> {}\n", run.shown.text)),
        }
        sums.extend(run.shown.sums.iter().copied());
        before = Some(run);
    }
    with_sums(&text, sums)
}

/// Puts `<CS>` in place of the digits of each frame whose checksum was right.
fn with_sums(text: &str, mut sums: VecDeque<bool>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The digits may stand in a line of their own, so they are looked for character by character.
    while let Some(at) = [rest.find("<ETX>"), rest.find("<ETB>")].into_iter().flatten().min() {
        let (upto, after) = rest.split_at(at + "<ETX>".len());
        out.push_str(upto);
        let mut digits = after.strip_prefix("\n> ").unwrap_or(after).char_indices();
        let between = after.len() - after.strip_prefix("\n> ").unwrap_or(after).len();
        let two: Vec<(usize, char)> = digits.by_ref().take(2).collect();
        let together = two.len() == 2 && two.iter().all(|(_, c)| c.is_ascii_hexdigit());
        if together && sums.pop_front() == Some(true) {
            out.push_str("<CS>");
            rest = after.get(between + 2..).unwrap_or_default();
        } else {
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The gateway's answer with MSH-7 and MSH-10 left open.
fn left_open(text: &str) -> String {
    let Some((before, message)) = text.split_once("MSH|") else { return text.to_string() };
    let (header, rest) = message.split_at(message.find("<CR>").unwrap_or(message.len()));
    let fields: Vec<&str> =
        header.split('|').enumerate().map(|(at, f)| if matches!(at, 5 | 8) { "<*>" } else { f }).collect();
    format!("{before}MSH|{}{rest}", fields.join("|"))
}

/// The view of one connection.
pub struct View {
    protocol: Protocol,
    reveal: bool,
    masks: [Mask; 2],
    frame: Frame,
    /// What was found out about the frame that was not answered yet, and when it ended.
    open: Option<(String, Duration)>,
}

impl View {
    /// A view of a line that may be in the middle of anything.
    pub fn new(protocol: Protocol, reveal: bool) -> Self {
        View { protocol, reveal, masks: Default::default(), frame: Frame::default(), open: None }
    }

    /// Bytes passed at `now`, a time since some beginning.
    pub fn show(&mut self, side: Side, bytes: &[u8], now: Duration) -> Shown {
        let mut shown = Shown::default();
        let mask = &mut self.masks[usize::from(side == Side::Gateway)];
        let masked: Vec<u8> = bytes.iter().map(|byte| mask.take(self.protocol, *byte)).collect();
        shown.text = spell(if self.reveal { bytes } else { &masked });
        match (side, self.protocol) {
            (Side::Instrument, Protocol::Astm) => self.heard_astm(bytes, now, &mut shown),
            (Side::Gateway, Protocol::Astm) => self.answered_astm(bytes, now, &mut shown),
            (Side::Instrument, _) if bytes.contains(&MESSAGE_END) => self.open = Some(("message".to_string(), now)),
            (Side::Instrument, _) => {}
            (Side::Gateway, _) => self.answered_hl7(bytes, now, &mut shown),
            (Side::Link, _) => {}
        }
        shown
    }

    fn heard_astm(&mut self, bytes: &[u8], now: Duration, shown: &mut Shown) {
        for byte in bytes {
            if let Some(verdict) = self.frame.take(*byte) {
                shown.sums.push(verdict.is_right());
                self.open = Some((verdict.words(), now));
            } else if *byte == ENQ {
                self.open = Some(("the instrument asks for the line".to_string(), now));
            } else if *byte == EOT {
                self.open = None;
                shown.remarks.push("the instrument gives the line back".to_string());
            }
        }
    }

    fn answered_astm(&mut self, bytes: &[u8], now: Duration, shown: &mut Shown) {
        for byte in bytes {
            let answer = match *byte {
                ACK => "ACK",
                NAK => "NAK",
                EOT => "EOT",
                _ => continue,
            };
            let Some((what, since)) = self.open.take() else { continue };
            shown.remarks.push(format!("{what}, {answer} sent after {}", took(now, since)));
        }
    }

    fn answered_hl7(&mut self, bytes: &[u8], now: Duration, shown: &mut Shown) {
        let Some((what, since)) = self.open.take() else { return };
        let text = String::from_utf8_lossy(bytes);
        let msa = text.split('\r').find_map(|segment| segment.strip_prefix("MSA|"));
        let code = msa.and_then(|rest| rest.split('|').next()).unwrap_or("something else");
        shown.remarks.push(format!("{what} answered {code} after {}", took(now, since)));
    }
}

fn took(now: Duration, since: Duration) -> String {
    let us = now.saturating_sub(since).as_micros();
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

/// Follows frames for their checksums.
#[derive(Default)]
struct Frame {
    /// From the frame number on; empty outside of a frame.
    body: Vec<u8>,
    /// The checksum's first digit, once the terminator is in.
    first: Option<u8>,
    state: FrameState,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum FrameState {
    #[default]
    Outside,
    Text,
    Sum,
}

/// What became of a frame.
struct Verdict {
    number: char,
    stated: [u8; 2],
    expected: u8,
}

impl Verdict {
    fn is_right(&self) -> bool {
        self.stated.eq_ignore_ascii_case(format!("{:02X}", self.expected).as_bytes())
    }

    fn words(&self) -> String {
        let stated: String = self.stated.iter().map(|b| char::from(*b)).filter(char::is_ascii_graphic).collect();
        match self.is_right() {
            true => format!("frame {}: checksum {stated} is right", self.number),
            false => format!("frame {}: checksum {stated}, expected {:02X}", self.number, self.expected),
        }
    }
}

impl Frame {
    fn take(&mut self, byte: u8) -> Option<Verdict> {
        match (self.state, byte) {
            (_, STX) => {
                self.body.clear();
                self.first = None;
                self.state = FrameState::Text;
            }
            (FrameState::Outside, _) => {}
            (FrameState::Text, _) => {
                self.body.push(byte);
                if matches!(byte, ETX | ETB) {
                    self.state = FrameState::Sum;
                } else if self.body.len() > FRAME_MAX {
                    *self = Frame::default();
                }
            }
            (FrameState::Sum, _) => match self.first.take() {
                None => self.first = Some(byte),
                Some(first) => {
                    let number = self.body.first().map_or('?', |b| char::from(*b));
                    let verdict = Verdict { number, stated: [first, byte], expected: checksum(&self.body) };
                    *self = Frame::default();
                    return Some(verdict);
                }
            },
        }
        None
    }
}

/// Knows in which field the next character is.
#[derive(Default)]
struct Mask {
    place: Place,
    name: Vec<u8>,
    field: u16,
    delimiter: Option<u8>,
    /// The sender of ASTM frames goes on with its record in the next frame.
    before_frame_end: Option<Inside>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nobody knows: the view began in the middle.
    #[default]
    Unknown,
    /// At the beginning of a record.
    Begin,
    /// In a record.
    Inside,
    /// Between frames: checksum, line end, and the number of the next frame.
    Between,
    /// The frame number comes next.
    Number,
}

/// A record that a frame's end interrupts.
#[derive(Clone)]
struct Inside {
    name: Vec<u8>,
    field: u16,
}

impl Mask {
    /// The character as it may be shown.
    fn take(&mut self, protocol: Protocol, byte: u8) -> u8 {
        match byte {
            MESSAGE_BEGIN => self.begin(),
            b'\r' | b'\n' if self.place != Place::Between => self.begin(),
            ENQ | EOT => {
                self.before_frame_end = None;
                self.place = Place::Between;
            }
            STX => self.place = Place::Number,
            ETX | ETB => {
                let goes_on = self.place == Place::Inside;
                self.before_frame_end = goes_on.then(|| Inside { name: self.name.clone(), field: self.field });
                self.place = Place::Between;
            }
            0..0x20 => {}
            _ => return self.text(protocol, byte),
        }
        byte
    }

    fn begin(&mut self) {
        self.place = Place::Begin;
        self.name.clear();
        self.field = 0;
    }

    fn text(&mut self, protocol: Protocol, byte: u8) -> u8 {
        match self.place {
            Place::Between => byte,
            Place::Number => {
                match self.before_frame_end.take() {
                    Some(Inside { name, field }) => {
                        (self.name, self.field) = (name, field);
                        self.place = Place::Inside;
                    }
                    None => self.begin(),
                }
                byte
            }
            Place::Unknown if byte.is_ascii_alphanumeric() || byte >= 0x80 => MASK,
            Place::Unknown => byte,
            Place::Begin => {
                if byte.is_ascii_alphanumeric() && self.name.len() < NAME_MAX {
                    self.name.push(byte.to_ascii_uppercase());
                    return byte;
                }
                // The header's own delimiter holds until the next header.
                if matches!(self.name.as_slice(), b"H" | b"MSH") {
                    self.delimiter = Some(byte);
                }
                self.place = Place::Inside;
                self.field = first_field(protocol, &self.name);
                if byte == self.delimiter() { byte } else { self.shown(byte) }
            }
            Place::Inside if byte == self.delimiter() => {
                self.field = self.field.saturating_add(1);
                byte
            }
            Place::Inside => self.shown(byte),
        }
    }

    fn delimiter(&self) -> u8 {
        self.delimiter.unwrap_or(b'|')
    }

    fn shown(&self, byte: u8) -> u8 {
        let hidden = PATIENT.iter().any(|(record, field)| {
            record.as_bytes() == self.name.as_slice() && (*field == self.field || *field == 0 && self.field > 0)
        });
        // A record of a name that nobody knows may hold anything.
        let strange = self.name.is_empty() || self.name.len() > 3;
        let is_data = byte.is_ascii_alphanumeric() || byte == b' ' || byte >= 0x80;
        if (hidden || strange) && is_data { MASK } else { byte }
    }
}

/// The number of the field behind the first delimiter: in LIS02-A2 the record's letter is field 1, in HL7 the name
/// counts as none.
fn first_field(protocol: Protocol, name: &[u8]) -> u16 {
    match (protocol, name) {
        (Protocol::Hl7, _) | (_, b"OBR" | b"OBX") => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
