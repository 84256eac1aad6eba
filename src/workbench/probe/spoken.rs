//! What bytes are: which protocol, which file format, or nothing that is known.

use crate::message::{hl7, poct1a};
use crate::wire::Protocol;
use crate::wire::astm::{ACK, ChecksumRule, ENQ, EOT, ETB, ETX, NAK, STX, checksum};
use crate::wire::mllp::{FS, VT};
use serde::Serialize;

/// As sure as one gets.
const SURE: u8 = 100;
/// More than this is taken for the truth and listened to no further.
pub const CERTAIN: u8 = 90;
/// More than this, and speed and layout are taken for right.
pub const PLAUSIBLE: u8 = 60;
/// More than this, and it is worth hearing more at the same speed.
pub const POSSIBLE: u8 = 40;
/// Fewest characters that are taken for a text.
const TEXT_MIN: usize = 12;
/// Share of a text that has to be printable, in percent.
const PRINTABLE_PERCENT: usize = 92;
/// Bytes that are looked at.
const LOOK_MAX: usize = 64 * 1024;
/// The second and the last of the four separators that begin with FS.
const GS: u8 = 0x1D;
const US: u8 = 0x1F;
/// The application context name of every DICOM association (PS3.7, annex A.2.1).
const DICOM_CONTEXT: &[u8] = b"1.2.840.10008.3.1.1.1";

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spoken {
    /// LIS01-A2 frames with LIS02-A2 records.
    Astm,
    /// LIS02-A2 records without a link protocol.
    AstmBare,
    /// HL7 v2 over MLLP.
    Mllp,
    /// HL7 v2 without MLLP.
    Hl7Bare,
    /// POCT1-A documents.
    Poct1a,
    /// STX, text, ETX, and no checksum of LIS01-A2.
    StxEtx,
    /// Lines of fields with a separator.
    Csv,
    /// Lines for people: a printer's report.
    Printed,
    /// A DICOM association.
    Dicom,
    /// TLS.
    Tls,
    /// Bytes that are none of these.
    Binary,
}

/// What was recognised, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// What.
    pub spoken: Spoken,
    /// How sure, 0 to 100.
    pub score: u8,
    /// Why, in words that say nothing of what was sent.
    pub says: String,
    /// How often the sender asked for the line (ASTM).
    pub asked: usize,
}

impl Spoken {
    /// The protocol a link has to have for it, if there is one.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Spoken::Astm | Spoken::AstmBare => Some(Protocol::Astm),
            Spoken::Mllp | Spoken::Hl7Bare => Some(Protocol::Hl7),
            Spoken::Poct1a => Some(Protocol::Poct1a),
            Spoken::StxEtx | Spoken::Csv | Spoken::Printed => Some(Protocol::Lines),
            Spoken::Dicom | Spoken::Tls | Spoken::Binary => None,
        }
    }

    /// Whether a sender keeps what is not acknowledged to it.
    pub fn waits_for_answers(self) -> bool {
        match self {
            Spoken::Astm | Spoken::Mllp | Spoken::Poct1a | Spoken::Dicom | Spoken::Tls | Spoken::Binary => true,
            Spoken::AstmBare | Spoken::Hl7Bare | Spoken::StxEtx | Spoken::Csv | Spoken::Printed => false,
        }
    }

    /// What an engineer calls it.
    pub fn name(self) -> &'static str {
        match self {
            Spoken::Astm => "ASTM: LIS01-A2 frames with LIS02-A2 records",
            Spoken::AstmBare => "LIS02-A2 records without a link protocol",
            Spoken::Mllp => "HL7 v2 over MLLP",
            Spoken::Hl7Bare => "HL7 v2 without MLLP",
            Spoken::Poct1a => "POCT1-A",
            Spoken::StxEtx => "text between STX and ETX",
            Spoken::Csv => "lines of separated fields (CSV)",
            Spoken::Printed => "printed text",
            Spoken::Dicom => "DICOM",
            Spoken::Tls => "TLS",
            Spoken::Binary => "something unknown",
        }
    }
}

/// What these bytes are; `None` for none at all.
pub fn recognise(bytes: &[u8]) -> Option<Recognised> {
    let bytes = bytes.get(..LOOK_MAX).unwrap_or(bytes);
    if bytes.is_empty() {
        return None;
    }
    let asked = bytes.iter().filter(|b| **b == ENQ).count();
    let found = |spoken, score, says: String| Some(Recognised { spoken, score, says, asked });
    if let Some(wide) = narrow(bytes) {
        let mut read = recognise(&wide)?;
        read.says = format!("UTF-16; {}", read.says);
        return Some(read);
    }
    if bytes.windows(DICOM_CONTEXT.len()).any(|w| w == DICOM_CONTEXT) || bytes.get(128..132) == Some(b"DICM") {
        return found(Spoken::Dicom, SURE, "DICOM's application context name".to_string());
    }
    if let [0x16, 3, 0..=4, ..] = bytes {
        return found(Spoken::Tls, SURE, "a TLS record begins it".to_string());
    }
    if poct1a::looks_like(bytes) {
        return found(Spoken::Poct1a, SURE, "an XML document with a root of POCT1-A".to_string());
    }
    let frames = Frames::count(bytes);
    if frames.right > 0 {
        let says = format!("{} frames with the checksum of LIS01-A2, {} with another", frames.right, frames.wrong);
        return found(Spoken::Astm, SURE, says);
    }
    if let Some(rule) = frames.rule {
        return found(Spoken::Astm, CERTAIN, format!("frames of LIS01-A2 whose {}", rule.finding()));
    }
    if hl7::looks_like(bytes) {
        let is_framed = bytes.contains(&VT);
        let is_whole = is_framed && bytes.contains(&FS);
        return match (is_framed, is_whole) {
            (_, true) => found(Spoken::Mllp, SURE, "an MSH segment between VT and FS".to_string()),
            (true, _) => found(Spoken::Mllp, CERTAIN, "an MSH segment after VT".to_string()),
            _ => found(Spoken::Hl7Bare, CERTAIN, "an MSH segment, and neither VT nor FS".to_string()),
        };
    }
    let is_header = header(bytes);
    if is_header && frames.wrong > 0 {
        return found(Spoken::Astm, 80, "frames of LIS01-A2 with checksums that fit no rule".to_string());
    }
    if is_header {
        let is_framed = bytes.contains(&STX);
        return match is_framed {
            true => found(Spoken::StxEtx, 80, "a header record of LIS02-A2 after STX, and no checksum".to_string()),
            false => found(Spoken::AstmBare, CERTAIN, "a header record of LIS02-A2, and no STX".to_string()),
        };
    }
    if let Some((score, says)) = controls(bytes) {
        return found(Spoken::Astm, score, says);
    }
    text(bytes, &frames).map(|(spoken, score, says)| Recognised { spoken, score, says, asked }).or_else(|| {
        found(Spoken::Binary, 20, format!("{} bytes that are neither text nor a known protocol", bytes.len()))
    })
}

/// Only `ENQ`, or the answer of a host or an instrument: too little to be sure at once.
fn controls(bytes: &[u8]) -> Option<(u8, String)> {
    let asks = bytes.iter().filter(|b| **b == ENQ).count();
    let ends = bytes.iter().filter(|b| **b == EOT).count();
    let answers = bytes.iter().filter(|b| matches!(**b, ACK | NAK)).count();
    match (asks, answers, asks + ends + answers == bytes.len()) {
        (1, 0, true) if ends == 0 => Some((50, "one ENQ: somebody asks for the line".to_string())),
        (1.., 0, true) => Some((75, format!("ENQ {asks} times, EOT {ends} times: somebody asks for the line"))),
        (_, 1.., true) => Some((70, "an answer of one byte, ACK or NAK".to_string())),
        _ => None,
    }
}

fn text(bytes: &[u8], frames: &Frames) -> Option<(Spoken, u8, String)> {
    let is_plain = |b: &u8| matches!(b, 0x20..=0x7E | b'\r' | b'\n' | b'\t' | 0x0C);
    let plain = bytes.iter().filter(|b| is_plain(b)).count();
    let controls = bytes.iter().filter(|b| matches!(**b, STX | ETX | ETB | ENQ | EOT | VT | FS..=US)).count();
    // Letters of other alphabets are no sign against a text, as long as they come as UTF-8.
    let foreign = std::str::from_utf8(bytes).map_or(0, |text| text.bytes().filter(|b| *b >= 0x80).count());
    if bytes.len() < TEXT_MIN || (plain + controls + foreign) * 100 < bytes.len() * PRINTABLE_PERCENT {
        return None;
    }
    if frames.bare > 0 {
        let says = format!("{} texts after STX, without a checksum of LIS01-A2", frames.bare);
        return Some((Spoken::StxEtx, 85, says));
    }
    let lines: Vec<&[u8]> =
        bytes.split(|b| matches!(b, b'\r' | b'\n')).filter(|line| !line.trim_ascii().is_empty()).collect();
    for separator in [b'\t', b';', b',', b'|'] {
        let fields = |line: &&[u8]| line.iter().filter(|b| **b == separator).count();
        let most = lines.iter().map(fields).max().unwrap_or(0);
        let alike = lines.iter().filter(|line| fields(line) + 1 >= most && most >= 2).count();
        if alike >= 2 && alike * 2 > lines.len() {
            let name = if separator == b'\t' { "tab".to_string() } else { char::from(separator).to_string() };
            return Some((
                Spoken::Csv,
                80,
                format!("{alike} of {} lines have {} fields between `{name}`", lines.len(), most + 1),
            ));
        }
    }
    // A few letters come out of many a wrong speed; several lines do not.
    let score = if lines.len() > 1 { 70 } else { 55 };
    Some((Spoken::Printed, score, format!("{} lines of printable text", lines.len())))
}

/// UTF-16 as bytes of one each; `None` when it is not UTF-16.
fn narrow(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(b"\xFF\xFE").or_else(|| bytes.strip_prefix(b"\xFE\xFF"))?;
    Some(rest.iter().copied().filter(|b| *b != 0).collect())
}

/// A record `H` with its delimiters begins a line.
fn header(bytes: &[u8]) -> bool {
    bytes.split(|b| matches!(b, b'\r' | b'\n' | &STX)).any(|line| {
        let line = line.trim_ascii_start();
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let number = line.first().is_some_and(u8::is_ascii_digit);
        let [kind, delimiters @ ..] = line.get(usize::from(number)..).unwrap_or_default() else { return false };
        let are_delimiters = delimiters.get(..4).is_some_and(|d| d.iter().all(u8::is_ascii_punctuation));
        kind.eq_ignore_ascii_case(&b'H') && are_delimiters
    })
}

/// What lies between STX and ETX or ETB.
#[derive(Default)]
struct Frames {
    /// With the right checksum.
    right: usize,
    /// With two hexadecimal digits that are not it.
    wrong: usize,
    /// Without any.
    bare: usize,
    /// The wrong way to sum that fits all wrong ones.
    rule: Option<ChecksumRule>,
}

impl Frames {
    fn count(bytes: &[u8]) -> Frames {
        let mut frames = Frames::default();
        let mut rules = ChecksumRule::ALL.to_vec();
        for piece in bytes.split(|b| *b == STX).skip(1) {
            // Some makers end a text of tagged fields with GS.
            let Some(end) = piece.iter().position(|b| matches!(*b, ETX | ETB | GS)) else { continue };
            if piece.get(end) == Some(&GS) {
                frames.bare += 1;
                continue;
            }
            let (body, tail) = piece.split_at(end + 1);
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                None => frames.bare += 1,
                Some(stated) if stated == checksum(body) => frames.right += 1,
                Some(stated) => {
                    frames.wrong += 1;
                    rules.retain(|rule| rule.sum(body) == Some(stated));
                }
            }
        }
        // One frame may fit a rule by chance; a number before the text says that it is a frame of the standard.
        let is_numbered = bytes.windows(2).any(|w| w[0] == STX && w[1].is_ascii_digit());
        frames.rule = rules.first().copied().filter(|_| frames.wrong > 0 && is_numbered);
        frames
    }
}
