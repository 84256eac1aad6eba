//! Frames as bytes: checksums, encoding, and finding the end of a message across frames.

use super::{CR, ETB, ETX, LF, STX};

/// How a sender sums a frame. The standard's way is always accepted, its digits in either case; the others are mistakes
/// seen in the field. Each is taken up on a link only where its driver allows it (`[wire] checksum`), after bytes that
/// fit it were refused twice. A closed list; no built-in driver needs one yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumRule {
    /// Sum of the characters of the text (as UTF-8), though bytes go over the line.
    CodePoints,
    /// The sum stops before the closing `ETX` or `ETB`.
    WithoutTerminator,
    /// The sum was made before line feeds were added to the text.
    WithoutLineFeeds,
    /// The sum was made while records ended in `LF` that then went out as `CR`.
    LineFeedForReturn,
}

impl ChecksumRule {
    /// Every rule that is tried when a frame fails the standard's.
    pub const ALL: [ChecksumRule; 4] = [
        ChecksumRule::CodePoints,
        ChecksumRule::WithoutTerminator,
        ChecksumRule::WithoutLineFeeds,
        ChecksumRule::LineFeedForReturn,
    ];

    /// What the engineer reads when this rule would have fitted.
    pub fn finding(self) -> &'static str {
        match self {
            ChecksumRule::CodePoints => "checksum fits a sum over characters, not bytes",
            ChecksumRule::WithoutTerminator => "checksum fits a sum without ETX or ETB",
            ChecksumRule::WithoutLineFeeds => "checksum fits a sum without line feeds",
            ChecksumRule::LineFeedForReturn => "checksum fits a sum with LF in place of CR",
        }
    }

    /// The sum of `body` (frame number to terminator inclusive) by this rule; `None` when the rule cannot be applied.
    pub fn sum(self, body: &[u8]) -> Option<u8> {
        match self {
            ChecksumRule::CodePoints => {
                let text = std::str::from_utf8(body).ok()?;
                // Only the low byte counts, and it adds up the same whether cut before or after the sum.
                Some(text.chars().fold(0u8, |sum, c| sum.wrapping_add((u32::from(c) & 0xFF) as u8)))
            }
            ChecksumRule::WithoutTerminator => body.split_last().map(|(_, text)| checksum(text)),
            ChecksumRule::WithoutLineFeeds => Some(sum(body.iter().copied().filter(|&b| b != LF))),
            ChecksumRule::LineFeedForReturn => Some(sum(body.iter().map(|&b| if b == CR { LF } else { b }))),
        }
    }
}

/// The standard's checksum: the sum modulo 256 of every byte from the frame number to `ETX` or `ETB` inclusive.
pub fn checksum(body: &[u8]) -> u8 {
    sum(body.iter().copied())
}

/// One whole frame: `STX FN text ETB|ETX C1 C2 CR LF`. `number` is taken modulo 8.
pub fn encode_frame(number: u8, text: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 7);
    frame.push(STX);
    frame.push(b'0' + number % 8);
    frame.extend_from_slice(text);
    frame.push(if last { ETX } else { ETB });
    let sum = checksum(frame.get(1..).unwrap_or_default());
    frame.extend_from_slice(format!("{sum:02X}\r\n").as_bytes());
    frame
}

/// The value of two hexadecimal digits of either case.
pub(super) fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn sum(bytes: impl Iterator<Item = u8>) -> u8 {
    bytes.fold(0, u8::wrapping_add)
}

/// Follows records across frames to find the terminator record (LIS02-A2 clause 12, `L`).
///
/// Text may be cut anywhere by `ETB`, so this looks at one byte at a time and is kept between frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RecordScan {
    /// The next character begins a record.
    #[default]
    Start,
    /// An `L` began a record; the next character tells whether it is the record's type.
    MaybeTerminator,
    /// Inside the terminator record.
    Terminator,
    /// Inside any other record.
    Record,
    /// The terminator record has ended and nothing has followed.
    Ended,
}

impl RecordScan {
    /// The state after one frame's text. `last` says that the frame ended in `ETX`, which ends a record as `CR` does.
    pub(super) fn after_frame(self, text: &[u8], last: bool) -> RecordScan {
        let state = text.iter().fold(self, |state, &byte| state.after_byte(byte));
        if last { state.after_byte(CR) } else { state }
    }

    fn after_byte(self, byte: u8) -> RecordScan {
        use RecordScan::*;
        match (self, byte) {
            // Line feeds after CR and empty lines belong to no record.
            (Start, CR | LF) => Start,
            (Ended, CR | LF) => Ended,
            (MaybeTerminator | Terminator, CR) => Ended,
            (Record, CR) => Start,
            (Start | Ended, b'L' | b'l') => MaybeTerminator,
            (Start | Ended, _) => Record,
            // `Leukocytes` is the rest of a text that was cut; a type letter is followed by the field delimiter.
            (MaybeTerminator, b) if b.is_ascii_alphanumeric() || b == b' ' => Record,
            (MaybeTerminator | Terminator, _) => Terminator,
            (Record, _) => Record,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_byte_sum_through_the_terminator() {
        assert_eq!(encode_frame(1, b"L|1|N\r", true), b"\x021L|1|N\r\x0304\r\n");
        assert_eq!(encode_frame(9, b"", false), b"\x021\x1748\r\n");
        assert_eq!(hex(b'f', b'F'), Some(255));
        assert_eq!(hex(b'G', b'0'), None);
    }

    #[test]
    fn each_known_wrong_rule_is_told_from_the_standard_one() {
        let body = "1R|1|^^^µ|5\r\nL|1\r\n\x03".as_bytes();
        let sums: Vec<_> = ChecksumRule::ALL.iter().map(|rule| rule.sum(body)).collect();
        for (at, sum) in sums.iter().enumerate() {
            assert_ne!(*sum, Some(checksum(body)), "rule {at}");
            assert!(!sums[..at].contains(sum), "rule {at}");
        }
        assert_eq!(ChecksumRule::CodePoints.sum(b"1\xB5\x03"), None);
    }

    #[test]
    fn the_terminator_is_found_across_any_cut() {
        let text = b"H|\\^&\r\nR|1|Level\rC|1|L|x\r\nL|1|N\r";
        for cut in 0..=text.len() {
            let state = RecordScan::Start.after_frame(&text[..cut], false);
            assert_eq!(state == RecordScan::Ended, cut == text.len(), "cut at {cut}");
            assert_eq!(state.after_frame(&text[cut..], true), RecordScan::Ended, "cut at {cut}");
        }
        let end = |text: &[u8], last| RecordScan::Start.after_frame(text, last) == RecordScan::Ended;
        assert!(end(b"l|1", true), "lower case, no CR");
        assert!(end(b"L", true));
        assert!(!end(b"L|1|N", false), "ETB: the record may go on");
        assert!(!end(b"Leukocytes", true), "a word is no record type");
        assert!(!end(b"L|1|N\rH|\\^&\r", true), "another message began");
    }
}
