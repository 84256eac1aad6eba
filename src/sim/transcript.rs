//! Transcripts: what both sides of a line said, as text a person can read and write.
//!
//! ```text
//! # A comment.
//! > <ENQ>
//! < <ACK>
//! > <STX>1H|\^&<CR><ETX><CS><CR><LF>
//! < <ACK>
//! @ 31s
//! ```
//!
//! `> ` is the instrument, `< ` the gateway, `@ ` a pause (`ms`, `s` or `m`). Lines of the same direction that follow
//! each other are one run of bytes; the line ends of the file are not part of it. Control characters are spelled
//! (`<STX>`, `<CR>`), any byte can be given in hexadecimal (`<E4>` or `<xE4>`), `<LT>` is `<`. `<CS>` stands for the checksum of
//! the frame before it, `<*>` on the gateway's side for any text up to the next delimiter.
//!
//! `>= ` and `<= ` are lines of XML: `<` and `>` stand for themselves, nothing is spelled but `<*>`.

use std::time::Duration;

use crate::wire::astm::{STX, checksum};
use crate::wire::spelling::byte_named;
pub use crate::wire::spelling::spell;

/// Longest transcript accepted, in bytes.
const TEXT_MAX: usize = 4 * 1024 * 1024;

/// One step of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The instrument sends these bytes.
    Instrument(Vec<u8>),
    /// The gateway answers like this.
    Gateway(Pattern),
    /// Nobody speaks for so long.
    Pause(Duration),
}

/// Expected bytes, some of which may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    /// Any text without HL7 delimiters, double quotes or control characters.
    Anything,
}

/// A transcript that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TranscriptError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Reads a transcript.
///
/// # Errors
/// The first line that is not in the format.
pub fn parse(text: &str) -> Result<Vec<Step>, TranscriptError> {
    let mut steps: Vec<Step> = Vec::new();
    if text.len() > TEXT_MAX {
        return Err(TranscriptError { line: 1, problem: "longer than 4 MiB" });
    }
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem| TranscriptError { line: at + 1, problem };
        let (mark, rest) = line.split_at_checked(1).unwrap_or((line, ""));
        let (literal, rest) = rest.strip_prefix("= ").map_or((false, rest), |rest| (true, rest));
        let content = if literal { rest } else { rest.strip_prefix(' ').unwrap_or(rest) };
        let parts = |content| if literal { Ok(literal_parts(content)) } else { parts(content) };
        match mark {
            "" | "#" => {}
            ">" => {
                if !matches!(steps.last(), Some(Step::Instrument(_))) {
                    steps.push(Step::Instrument(Vec::new()));
                }
                if let Some(Step::Instrument(bytes)) = steps.last_mut() {
                    parts(content).and_then(|parts| read_instrument(parts, bytes)).map_err(wrong)?;
                }
            }
            "<" => {
                if !matches!(steps.last(), Some(Step::Gateway(_))) {
                    steps.push(Step::Gateway(Pattern::default()));
                }
                if let Some(Step::Gateway(pattern)) = steps.last_mut() {
                    parts(content).and_then(|parts| read_pattern(parts, pattern)).map_err(wrong)?;
                }
            }
            "@" => steps.push(Step::Pause(read_pause(content.trim()).ok_or(wrong("not a time like 15s"))?)),
            _ => return Err(wrong("a line begins with >, <, @ or #")),
        }
    }
    Ok(steps)
}

impl Pattern {
    /// True when these are the expected bytes, all of them and nothing more.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        for piece in &self.pieces {
            let taken = match piece {
                Piece::Bytes(expected) if rest.starts_with(expected) => expected.len(),
                Piece::Bytes(_) => return false,
                Piece::Anything => rest.iter().position(|&b| is_delimiter(b)).unwrap_or(rest.len()),
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        rest.is_empty()
    }
}

enum Part<'a> {
    Text(&'a str),
    Byte(u8),
    Checksum,
    Anything,
}

fn read_instrument(parts: Vec<Part<'_>>, bytes: &mut Vec<u8>) -> Result<(), &'static str> {
    for part in parts {
        match part {
            Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Part::Byte(byte) => bytes.push(byte),
            Part::Checksum => {
                let start = bytes.iter().rposition(|&b| b == STX).ok_or("<CS> without a frame before it")?;
                let sum = checksum(bytes.get(start + 1..).unwrap_or_default());
                bytes.extend_from_slice(format!("{sum:02X}").as_bytes());
            }
            Part::Anything => return Err("<*> stands only on the gateway's side"),
        }
    }
    Ok(())
}

fn read_pattern(parts: Vec<Part<'_>>, pattern: &mut Pattern) -> Result<(), &'static str> {
    for part in parts {
        let bytes: &[u8] = match &part {
            Part::Text(text) => text.as_bytes(),
            Part::Byte(byte) => std::slice::from_ref(byte),
            Part::Checksum => return Err("<CS> stands only on the instrument's side"),
            Part::Anything => {
                pattern.pieces.push(Piece::Anything);
                continue;
            }
        };
        match pattern.pieces.last_mut() {
            Some(Piece::Bytes(before)) => before.extend_from_slice(bytes),
            _ => pattern.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }
    Ok(())
}

fn parts(content: &str) -> Result<Vec<Part<'_>>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = content;
    while let Some((text, after)) = rest.split_once('<') {
        let (name, after) = after.split_once('>').ok_or("a < without its >; a literal one is <LT>")?;
        parts.push(Part::Text(text));
        parts.push(named(name).ok_or("unknown name between < and >")?);
        rest = after;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// A line of XML.
fn literal_parts(content: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (at, text) in content.split("<*>").enumerate() {
        if at > 0 {
            parts.push(Part::Anything);
        }
        parts.push(Part::Text(text));
    }
    parts
}

fn named(name: &str) -> Option<Part<'static>> {
    match name {
        "CS" => Some(Part::Checksum),
        "*" => Some(Part::Anything),
        _ => byte_named(name).map(Part::Byte),
    }
}

fn read_pause(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count = digits.parse::<u32>().ok()?;
    match text.get(digits.len()..)? {
        "ms" => Some(Duration::from_millis(count.into())),
        "s" => Some(Duration::from_secs(count.into())),
        "m" => Some(Duration::from_secs(u64::from(count) * 60)),
        _ => None,
    }
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'|' | b'^' | b'~' | b'&' | b'"') || byte < 0x20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_xml_stand_as_they_are() {
        let steps = parse(">= <ACK>5 > 4</ACK>\n> <CR>\n<= <A V=\"<*>\"/>\n").unwrap();
        assert_eq!(steps[0], Step::Instrument(b"<ACK>5 > 4</ACK>\r".to_vec()));
        let Step::Gateway(pattern) = &steps[1] else { panic!("{steps:?}") };
        assert!(pattern.matches(b"<A V=\"12:30\"/>") && pattern.matches(b"<A V=\"\"/>"));
        assert!(!pattern.matches(b"<A V=\"12\" B=\"\"/>"));
    }

    #[test]
    fn a_transcript_is_read_as_written() {
        let text = "# story\n> <ENQ>\n< <ACK>\n\n> <STX>1L|1|N<CR>\n> x<LT>5<CR><ETX><CS><CR><LF>\n@ 1500ms\n> <00><E4>ä<EOT>\n";
        let steps = parse(text).unwrap();
        let frame = b"\x021L|1|N\rx<5\r\x03";
        let sum = format!("{:02X}\r\n", checksum(&frame[1..]));
        assert_eq!(steps[0], Step::Instrument(vec![5]));
        assert!(matches!(&steps[1], Step::Gateway(p) if p.matches(&[6]) && !p.matches(&[6, 6]) && !p.matches(&[])));
        assert_eq!(steps[2], Step::Instrument([frame.as_slice(), sum.as_bytes()].concat()));
        assert_eq!(steps[3], Step::Pause(Duration::from_millis(1500)));
        assert_eq!(steps[4], Step::Instrument(b"\x00\xE4\xC3\xA4\x04".to_vec()));
    }

    #[test]
    fn what_a_machine_chooses_may_be_left_open() {
        let [Step::Gateway(answer)] = &parse("< <VT>MSH|^~\\&|<*>|LAB|ACK^<*><CR><FS><CR>").unwrap()[..] else {
            panic!("one step")
        };
        assert!(answer.matches(b"\x0bMSH|^~\\&|GW|LAB|ACK^R01\r\x1c\r"));
        assert!(answer.matches(b"\x0bMSH|^~\\&||LAB|ACK^\r\x1c\r"));
        assert!(!answer.matches(b"\x0bMSH|^~\\&|GW|X|LAB|ACK^R01\r\x1c\r"));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line) in [
            ("> <ENQ>\nENQ", 2),
            ("> <WAT>", 1),
            ("> a < b", 1),
            ("> <CS>", 1),
            ("> <*>", 1),
            ("\n< <CS>", 2),
            ("@ soon", 1),
            ("é", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn every_byte_can_be_spelled_and_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = format!("> {}", spell(&all));
        assert_eq!(parse(&text).unwrap(), [Step::Instrument(all)]);
    }
}
