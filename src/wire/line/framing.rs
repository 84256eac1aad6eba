//! How an instrument frames what it sends, as data: `[wire.framing]` of a driver, `[link.framing]` of a link.

// The words of these settings stand in the sample configuration, where control characters are written as here.
#![allow(rustdoc::invalid_html_tags)]

use crate::wire::spelling::{spell, unspell};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framer::MESSAGE_MAX;

/// Longest byte string that begins or ends a message.
const MARK_MAX: usize = 64;
/// Longest pattern of a line, in characters.
const PATTERN_MAX: usize = 1000;
/// Silence that may be declared to end a message, and times of answers, in milliseconds.
const MS_MAX: u64 = 3_600_000;

/// How messages are told apart on a line that follows no standard. Control characters are written by name, such as
/// "<STX>" or "<CR><LF>". Exactly one of `end`, `length`, `first_line` or `last_line`, and `idle_ms` alone says where
/// a message ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Framing {
    /// Bytes that begin a message, such as "<STX>"; left out, any byte does.
    pub start: Mark,
    /// Bytes that end a message, such as ["<ETX>"], or ["<CR>", "<LF>"] for lines; the first that comes counts.
    pub end: Vec<Mark>,
    /// Bytes that mean nothing between messages, besides CR, LF and NUL.
    pub between: Mark,
    /// Silence that ends a message, in milliseconds. With `end`, `length` or lines it only ends what was cut off.
    pub idle_ms: Option<u64>,
    /// Regular expression of a report's first line.
    pub first_line: Option<String>,
    /// Regular expression of a report's last line; a form feed is part of the line it ends ('\f').
    pub last_line: Option<String>,
    /// The message has a length of its own.
    pub length: Option<Length>,
    /// Check characters.
    pub check: Option<Check>,
    /// What the instrument wants to hear after a message: "none" or "ack" (after custody, and NAK for a damaged one).
    pub reply: Reply,
    /// Bytes of the positive answer; left out, "<ACK>".
    pub ack: Mark,
    /// Position of a byte of the message, from 0, that stands behind the positive answer: the number of the message.
    pub ack_echo: Option<usize>,
    /// Bytes of the negative answer; left out, "<NAK>".
    pub nak: Mark,
    /// The answer is not sent earlier than this after the message, in milliseconds.
    pub reply_after_ms: u64,
    /// The answer is not sent later than this after the message; left out, `reply_timeout_ms` of the link.
    pub reply_within_ms: Option<u64>,
    /// The instrument asks with ENQ whether it may send, is answered ACK, and gives the line back with EOT.
    pub handshake: bool,
    /// All messages between ENQ and EOT belong together and are kept as one.
    pub gather: bool,
}

/// A string of bytes, control characters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Mark(pub Vec<u8>);

/// What the instrument wants to hear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing.
    #[default]
    None,
    /// One answer a message.
    Ack,
}

/// A message with a length of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// Bytes of every message, `start` included; or bytes to add to the number that is sent.
    pub bytes: usize,
    /// Where in the message the number stands, from 0; left out, every message is as long as `bytes`.
    pub at: Option<usize>,
    /// How many bytes the number has, from 1 to 8.
    pub digits: usize,
    /// How the number is written.
    pub form: NumberForm,
}

/// How a number is written in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NumberForm {
    /// Decimal digits.
    #[default]
    Ascii,
    /// Hexadecimal digits.
    Hex,
    /// Binary, most significant byte first.
    BigEndian,
    /// Binary, least significant byte first.
    LittleEndian,
    /// Two decimal digits a byte.
    Bcd,
}

/// Check characters of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// How it is computed.
    pub rule: Rule,
    /// How it is written.
    pub form: CheckForm,
    /// Where it stands.
    pub place: CheckPlace,
    /// `start` is part of what is checked.
    pub with_start: bool,
    /// `end` is part of what is checked.
    pub with_end: bool,
}

/// How check characters are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Exclusive or of all bytes (BCC).
    #[default]
    Xor,
    /// Sum of all bytes, modulo 256.
    Sum,
    /// What is missing of that sum to 256.
    TwosComplement,
}

/// How check characters are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckForm {
    /// One byte.
    #[default]
    Byte,
    /// Two hexadecimal digits, upper or lower case.
    Hex,
}

/// Where check characters stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckPlace {
    /// Behind `end`.
    #[default]
    AfterEnd,
    /// Right before `end`.
    BeforeEnd,
}

impl Framing {
    /// A message is what comes between two silences of this length: for lines of which nothing else is known.
    pub fn by_silence(idle_ms: u64) -> Framing {
        Framing { idle_ms: Some(idle_ms), ..Framing::default() }
    }

    /// What is wrong with it, and what to write instead.
    ///
    /// # Errors
    /// A sentence for the person who wrote it; it begins with the key.
    pub fn check(&self) -> Result<(), String> {
        let by_lines = self.first_line.is_some() || self.last_line.is_some();
        let ways = [!self.end.is_empty(), self.length.is_some(), by_lines].iter().filter(|is| **is).count();
        if ways > 1 {
            return Err("`end`, `length` and `first_line`/`last_line` exclude each other: keep one".into());
        }
        if ways == 0 && self.idle_ms.is_none() {
            return Err("nothing says where a message ends: give `end`, `length`, `last_line` or `idle_ms`".into());
        }
        if ways == 1 && self.first_line.is_some() && self.last_line.is_none() && self.idle_ms.is_none() {
            return Err(
                "`first_line` alone does not say where the last report ends: give `last_line` or `idle_ms`".into()
            );
        }
        if by_lines && !self.start.0.is_empty() {
            return Err("`start` has no meaning for reports: say it in `first_line`".into());
        }
        for (key, mark) in
            self.end.iter().map(|mark| ("end", mark)).chain([("start", &self.start), ("between", &self.between)])
        {
            if mark.0.len() > MARK_MAX || (key == "end" && mark.0.is_empty()) {
                return Err(format!("`{key}` has from 1 to {MARK_MAX} bytes"));
            }
        }
        for (key, pattern) in [("first_line", &self.first_line), ("last_line", &self.last_line)] {
            let Some(pattern) = pattern else { continue };
            if pattern.is_empty() || pattern.chars().count() > PATTERN_MAX {
                return Err(format!("`{key}` has from 1 to {PATTERN_MAX} characters"));
            }
            if let Err(error) = regex_lite::Regex::new(pattern) {
                return Err(format!("`{key}` is no regular expression: {error}"));
            }
        }
        if self.check.is_some() && self.end.is_empty() {
            return Err("`check` needs `end`: without it nobody knows where the check characters stand".into());
        }
        if let Some(length) = &self.length {
            length.check()?;
        }
        if self.gather && !self.handshake {
            return Err("`gather` needs `handshake`: only ENQ and EOT tell what belongs together".into());
        }
        let times = [Some(self.reply_after_ms), self.reply_within_ms, self.idle_ms];
        if times.iter().flatten().any(|ms| *ms > MS_MAX) || self.idle_ms == Some(0) || self.reply_within_ms == Some(0) {
            return Err(format!("times are from 1 to {MS_MAX} ms"));
        }
        if self.reply_within_ms.is_some_and(|within| within <= self.reply_after_ms) {
            return Err("`reply_within_ms` must be more than `reply_after_ms`".into());
        }
        Ok(())
    }

    /// True when silence is what ends a message, by declaration: it then ended well.
    pub fn ends_by_silence(&self) -> bool {
        self.end.is_empty() && self.length.is_none() && self.last_line.is_none()
    }

    /// True when nothing but silence tells messages apart, so that all of an entry is one.
    pub fn is_silence_only(&self) -> bool {
        self.ends_by_silence() && self.start.0.is_empty() && self.first_line.is_none()
    }

    /// The positive answer to this message.
    pub fn ack_bytes(&self, message: &[u8]) -> Vec<u8> {
        let mut answer = if self.ack.0.is_empty() { vec![0x06] } else { self.ack.0.clone() };
        answer.extend(self.ack_echo.and_then(|at| message.get(at)));
        answer
    }

    /// The negative answer.
    pub fn nak_bytes(&self) -> Vec<u8> {
        if self.nak.0.is_empty() { vec![0x15] } else { self.nak.0.clone() }
    }

    /// What a whole message says, its frame taken off.
    pub fn payload<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        let message = message.strip_prefix(self.start.0.as_slice()).unwrap_or(message);
        let behind = self.check.as_ref().filter(|c| c.place == CheckPlace::AfterEnd).map_or(0, Check::len);
        let before = self.check.as_ref().filter(|c| c.place == CheckPlace::BeforeEnd).map_or(0, Check::len);
        let body = message.get(..message.len().saturating_sub(behind)).unwrap_or_default();
        let end = self.end_of(body).map_or(0, <[u8]>::len);
        // A message that was cut off has no end, and then no check characters either.
        if end == 0 && !self.end.is_empty() {
            return message;
        }
        body.get(..body.len().saturating_sub(end + before)).unwrap_or_default()
    }

    /// A whole message that says this: `start`, the first `end` and the check characters around it. A text that holds
    /// one of them makes no such message, nor does a framing by lines, lengths or silence.
    pub fn enclose(&self, text: &[u8]) -> Vec<u8> {
        let end = self.end.first().map_or(&[][..], |end| &end.0);
        let Some(check) = &self.check else { return [&self.start.0, text, end].concat() };
        let start_checked = if check.with_start { self.start.0.as_slice() } else { &[] };
        let end_checked = if check.with_end { end } else { &[] };
        let stated = check.write(check.rule.over([start_checked, text, end_checked].concat().iter()));
        match check.place {
            CheckPlace::AfterEnd => [&self.start.0, text, end, &stated].concat(),
            CheckPlace::BeforeEnd => [&self.start.0, text, &stated, end].concat(),
        }
    }

    /// True when the check characters of a whole message fit, or there are none.
    pub fn is_sound(&self, message: &[u8]) -> bool {
        let Some(check) = &self.check else { return true };
        let behind = if check.place == CheckPlace::AfterEnd { check.len() } else { 0 };
        let (framed, stated_behind) = message.split_at(message.len().saturating_sub(behind));
        let end = self.end_of(framed).unwrap_or_default();
        let text = framed.get(..framed.len().saturating_sub(end.len())).unwrap_or_default();
        let before = if check.place == CheckPlace::BeforeEnd { check.len() } else { 0 };
        let Some(at) = text.len().checked_sub(before) else { return false };
        let (text, stated_before) = text.split_at(at);
        let skip = if check.with_start { 0 } else { self.start.0.len() };
        let Some(text) = text.get(skip..) else { return false };
        let end = if check.with_end { end } else { &[] };
        let sum = check.rule.over(text.iter().chain(end));
        check.says(if behind > 0 { stated_behind } else { stated_before }, sum)
    }

    /// The longest of the ends that these bytes end with.
    pub(super) fn end_of<'m>(&self, bytes: &'m [u8]) -> Option<&'m [u8]> {
        let fitting = self.end.iter().filter(|end| bytes.ends_with(&end.0)).map(|end| end.0.len()).max()?;
        bytes.get(bytes.len() - fitting..)
    }
}

impl Length {
    fn check(&self) -> Result<(), String> {
        match self.at {
            None if self.bytes == 0 || self.bytes > MESSAGE_MAX => {
                Err(format!("`length.bytes` is from 1 to {MESSAGE_MAX}"))
            }
            Some(at) if at > MESSAGE_MAX || self.bytes > MESSAGE_MAX || !(1..=8).contains(&self.digits) => {
                Err("`length.digits` is from 1 to 8, and `at` and `bytes` are less than a message may have".into())
            }
            _ => Ok(()),
        }
    }

    /// How long the message that begins like this is: `None` while that cannot be told yet.
    ///
    /// # Errors
    /// What stands there is no length.
    pub(super) fn of(&self, message: &[u8]) -> Result<Option<usize>, ()> {
        let Some(at) = self.at else { return Ok(Some(self.bytes)) };
        let Some(digits) = message.get(at..at + self.digits) else { return Ok(None) };
        let number = self.form.read(digits).ok_or(())?;
        let length = usize::try_from(number).ok().and_then(|n| n.checked_add(self.bytes)).ok_or(())?;
        if (at + self.digits..=MESSAGE_MAX).contains(&length) { Ok(Some(length)) } else { Err(()) }
    }
}

impl NumberForm {
    /// The number these bytes write, if they do.
    pub fn read(self, bytes: &[u8]) -> Option<u64> {
        let fold = |base: u64, digit: fn(u8) -> Option<u8>| {
            bytes.iter().try_fold(0u64, |sum, byte| sum.checked_mul(base)?.checked_add(u64::from(digit(*byte)?)))
        };
        match self {
            NumberForm::Ascii => fold(10, |b| b.is_ascii_digit().then(|| b - b'0')),
            NumberForm::Hex => u64::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok(),
            NumberForm::BigEndian => fold(256, Some),
            NumberForm::LittleEndian => {
                bytes.iter().rev().try_fold(0u64, |sum, b| sum.checked_mul(256)?.checked_add(u64::from(*b)))
            }
            NumberForm::Bcd => fold(100, |b| (b >> 4 < 10 && b & 15 < 10).then_some((b >> 4) * 10 + (b & 15))),
        }
    }
}

impl Check {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self.form {
            CheckForm::Byte => 1,
            CheckForm::Hex => 2,
        }
    }

    fn write(&self, sum: u8) -> Vec<u8> {
        match self.form {
            CheckForm::Byte => vec![sum],
            CheckForm::Hex => format!("{sum:02X}").into_bytes(),
        }
    }

    fn says(&self, stated: &[u8], sum: u8) -> bool {
        stated.eq_ignore_ascii_case(&self.write(sum)) && (self.form == CheckForm::Hex || stated == [sum])
    }
}

impl Rule {
    /// The check number of these bytes.
    pub fn over<'b>(self, bytes: impl Iterator<Item = &'b u8>) -> u8 {
        match self {
            Rule::Xor => bytes.fold(0, |sum, byte| sum ^ byte),
            Rule::Sum => bytes.fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
            Rule::TwosComplement => Rule::Sum.over(bytes).wrapping_neg(),
        }
    }
}

impl TryFrom<String> for Mark {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        unspell(&text).map(Mark)
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> String {
        spell(&mark.0)
    }
}
