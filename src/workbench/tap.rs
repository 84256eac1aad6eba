//! The live view of a line. Pure: bytes and times in, text out.
//!
//! Patient data is masked character by character as it passes, whatever the reads were (`tap/mask.rs`). Delimiters,
//! control characters, frame numbers and checksums always show, since they are what one looks for.

mod mask;

use mask::Mask;

use crate::sim::transcript::{Step, parse, spell};
use crate::wire::Protocol;
use crate::wire::astm::{ACK, ChecksumRule, ENQ, EOT, ETB, ETX, NAK, STX, checksum};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Silence that is written into a capture, in milliseconds.
const PAUSE_MIN_MS: i64 = 1000;
/// Longest frame whose checksum is looked at, in bytes; LIS01-A2 allows 64 000.
const FRAME_MAX: usize = 64_000;
/// The character that ends an MLLP message (FS).
const MESSAGE_END: u8 = 0x1C;
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

/// A session transcript of what passed on one connection, the first one heard: a driver's case.
pub fn capture(passed: &[Tapped]) -> String {
    let heard = || passed.iter().filter(|run| run.side != Side::Link);
    let first = heard().next().map(|run| run.connection);
    let mut transcript = Transcript::default();
    heard().filter(|run| Some(run.connection) == first).for_each(|run| transcript.take(run));
    format!("{RECORDED}{}", transcript.text())
}

/// What a transcript begins with.
pub const RECORDED: &str = "# Recorded with afferent tap.\n";

/// A session transcript of one connection, as it grows. Frames whose checksum was right have a right one again, whatever
/// was masked in them. What a gateway says differently each time (MSH-7, MSH-10) may be anything.
#[derive(Default)]
pub struct Transcript {
    text: String,
    before: Option<i64>,
    frame: Frame,
    verdicts: VecDeque<bool>,
    /// Where the first digit of the checksum under way stands in the text, and how many characters it takes.
    digit: Option<(usize, usize)>,
}

impl Transcript {
    /// What was written so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The next run of bytes of this connection.
    pub fn take(&mut self, run: &Tapped) {
        if run.missed > 0 {
            self.text.push_str(&format!("# {} runs are missing here.\n", run.missed));
        }
        let gap = self.before.map_or(0, |before| run.at_ms.saturating_sub(before));
        if gap >= PAUSE_MIN_MS && !self.frame.is_open() {
            self.text.push_str(&format!("@ {gap}ms\n"));
        }
        self.before = Some(run.at_ms);
        match run.side {
            Side::Link => {}
            Side::Gateway => self.text.push_str(&format!("< {}\n", left_open(&run.shown.text))),
            Side::Instrument => self.heard(&run.shown),
        }
    }

    fn heard(&mut self, shown: &Shown) {
        self.verdicts.extend(shown.sums.iter().copied());
        self.text.push_str("> ");
        // What was spelled is read back: only its place is needed, and masks have left that as it was.
        let bytes = match parse(&format!("> {}", shown.text)).unwrap_or_default().pop() {
            Some(Step::Instrument(bytes)) => bytes,
            _ => Vec::new(),
        };
        for byte in bytes {
            let spelled = spell(&[byte]);
            let was_first = self.frame.wants_first_digit();
            let ended = self.frame.take(byte).is_some();
            if was_first {
                self.digit = Some((self.text.len(), spelled.len()));
            }
            match self.digit.filter(|_| ended) {
                // The digits were right: whoever replays this computes them anew.
                Some((at, length)) if self.verdicts.pop_front() == Some(true) => {
                    self.text.replace_range(at..at + length, "<CS>");
                }
                _ => self.text.push_str(&spelled),
            }
        }
        self.text.push('\n');
    }
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
        let masks = [Mask::new(protocol), Mask::new(protocol)];
        View { protocol, reveal, masks, frame: Frame::default(), open: None }
    }

    /// Bytes passed at `now`, a time since some beginning.
    pub fn show(&mut self, side: Side, bytes: &[u8], now: Duration) -> Shown {
        let mut shown = Shown::default();
        let mask = &mut self.masks[usize::from(side == Side::Gateway)];
        let masked: Vec<u8> = bytes.iter().map(|byte| mask.take(*byte)).collect();
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
    /// The wrong way to sum that gives what was stated.
    fits: Option<ChecksumRule>,
}

impl Verdict {
    fn is_right(&self) -> bool {
        self.stated.eq_ignore_ascii_case(format!("{:02X}", self.expected).as_bytes())
    }

    fn words(&self) -> String {
        let stated: String = self.stated.iter().map(|b| char::from(*b)).filter(char::is_ascii_graphic).collect();
        match self.is_right() {
            true => format!("frame {}: checksum {stated} is right", self.number),
            false => {
                let fits = self.fits.map_or(String::new(), |rule| format!(" ({})", rule.finding()));
                format!("frame {}: checksum {stated}, expected {:02X}{fits}", self.number, self.expected)
            }
        }
    }
}

impl Frame {
    /// In a frame or its checksum.
    fn is_open(&self) -> bool {
        self.state != FrameState::Outside
    }

    /// The first digit of the checksum comes next.
    fn wants_first_digit(&self) -> bool {
        self.state == FrameState::Sum && self.first.is_none()
    }

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
                    let stated = [first, byte];
                    let sum = std::str::from_utf8(&stated).ok().and_then(|s| u8::from_str_radix(s, 16).ok());
                    let fits = ChecksumRule::ALL.into_iter().find(|rule| sum.is_some() && rule.sum(&self.body) == sum);
                    let verdict = Verdict { number, stated, expected: checksum(&self.body), fits };
                    *self = Frame::default();
                    return Some(verdict);
                }
            },
        }
        None
    }
}

#[cfg(test)]
mod tests;
