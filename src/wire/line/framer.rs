//! Finds messages in bytes as a [`Framing`] declares them. Nothing that came is dropped but what means nothing between
//! messages: line ends, NULs and what the framing names.

use super::framing::{CheckForm, CheckPlace, Framing};
use regex_lite::Regex;

/// Longest message taken whole, in bytes.
pub const MESSAGE_MAX: usize = 1 << 20;

const ENQ: u8 = 0x05;
const EOT: u8 = 0x04;
const FORM_FEED: u8 = 0x0C;

/// What was found.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// A message, whole, with its frame; its check characters fit.
    Message(Vec<u8>),
    /// A message whose check characters do not fit, or in which a character came damaged.
    Damaged(Vec<u8>),
    /// A message that did not end as declared: silence or another message came first, or it is over the limit.
    Cut(Vec<u8>),
    /// Bytes that belong to no message.
    Noise(Vec<u8>),
    /// The instrument asks for the line (ENQ).
    Enquiry,
    /// The instrument gives the line back (EOT).
    End,
}

impl std::fmt::Debug for Item {
    /// Never prints the bytes: they are patient data (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, bytes) = match self {
            Item::Message(bytes) => ("Message", bytes.len()),
            Item::Damaged(bytes) => ("Damaged", bytes.len()),
            Item::Cut(bytes) => ("Cut", bytes.len()),
            Item::Noise(bytes) => ("Noise", bytes.len()),
            Item::Enquiry => ("Enquiry", 1),
            Item::End => ("End", 1),
        };
        write!(f, "{name}({bytes})")
    }
}

/// Splits bytes into [`Item`]s. Holds at most `message_max` bytes of a message and as many of noise.
pub struct Framer {
    framing: Framing,
    message_max: usize,
    first_line: Option<Regex>,
    last_line: Option<Regex>,
    place: Place,
    /// The message at hand.
    buffer: Vec<u8>,
    /// What came outside of a message.
    outside: Vec<u8>,
    /// Where the line at hand begins, in whichever of the two grows.
    line_at: usize,
    /// A character of the message at hand came damaged.
    damaged: bool,
    /// The beginning of the message at hand was given up, so that what is left of it is no message.
    beheaded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    /// Behind the end: so many check characters are still to come.
    Check(usize),
}

impl Framer {
    /// A framer between two messages. A framing that [`Framing::check`] refuses finds nothing but noise.
    pub fn new(framing: &Framing, message_max: usize) -> Self {
        let regex = |pattern: &Option<String>| pattern.as_deref().and_then(|p| Regex::new(p).ok());
        Framer {
            first_line: regex(&framing.first_line),
            last_line: regex(&framing.last_line),
            framing: framing.clone(),
            message_max,
            place: Place::Outside,
            buffer: Vec::new(),
            outside: Vec::new(),
            line_at: 0,
            damaged: false,
            beheaded: false,
        }
    }

    /// Takes bytes and gives what they completed.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for byte in bytes {
            self.take(*byte, &mut items);
        }
        items
    }

    /// The line was silent for as long as a message may be interrupted. By declaration that may be its end.
    pub fn silence(&mut self) -> Vec<Item> {
        let by_declaration = self.framing.ends_by_silence();
        self.stop(by_declaration)
    }

    /// The line went away. What silence would have ended has ended well only where a line or a block ended.
    pub fn disconnect(&mut self) -> Vec<Item> {
        let at_an_end = self.buffer.last().is_some_and(|byte| *byte < b' ');
        let by_declaration = self.framing.ends_by_silence() && at_an_end;
        self.stop(by_declaration)
    }

    /// A character came damaged.
    pub fn damage(&mut self) {
        self.damaged = true;
    }

    /// True while bytes are held that may become a message.
    pub fn is_unfinished(&self) -> bool {
        self.bytes_held() > 0
    }

    /// Bytes held.
    pub fn bytes_held(&self) -> usize {
        self.buffer.len() + self.outside.len()
    }

    fn by_lines(&self) -> bool {
        self.framing.first_line.is_some() || self.framing.last_line.is_some()
    }

    fn take(&mut self, byte: u8, items: &mut Vec<Item>) {
        match self.place {
            Place::Check(left) => self.take_check(byte, left, items),
            Place::Outside => self.take_outside(byte, items),
            Place::Inside => self.take_inside(byte, items),
        }
        if self.outside.len() >= self.message_max {
            self.end_noise(items);
        }
        if self.buffer.len() >= self.message_max {
            self.end(Item::Cut, items);
            self.beheaded = self.framing.start.0.is_empty();
        }
    }

    fn take_outside(&mut self, byte: u8, items: &mut Vec<Item>) {
        if self.framing.handshake && matches!(byte, ENQ | EOT) {
            self.end_noise(items);
            items.push(if byte == ENQ { Item::Enquiry } else { Item::End });
            return;
        }
        let start = &self.framing.start.0;
        if self.outside.is_empty() && self.means_nothing(byte) && !start.contains(&byte) {
            return;
        }
        if start.is_empty() && !self.by_lines() {
            self.place = Place::Inside;
            return self.take_inside(byte, items);
        }
        self.outside.push(byte);
        if self.by_lines() {
            self.end_line_outside(byte, items);
        } else if self.outside.ends_with(start) {
            let start = self.outside.split_off(self.outside.len() - start.len());
            self.end_noise(items);
            self.begin(start);
        }
    }

    fn take_inside(&mut self, byte: u8, items: &mut Vec<Item>) {
        if self.framing.handshake && byte == ENQ && self.framing.length.is_none() {
            self.end(Item::Cut, items);
            items.push(Item::Enquiry);
            return;
        }
        self.buffer.push(byte);
        if self.begins_again() {
            let start = self.buffer.split_off(self.buffer.len() - self.framing.start.0.len());
            self.end(Item::Cut, items);
            return self.begin(start);
        }
        if let Some(length) = &self.framing.length {
            match length.of(&self.buffer) {
                Ok(Some(length)) if self.buffer.len() >= length => self.finish(items),
                Ok(_) => {}
                Err(()) => self.end(Item::Cut, items),
            }
        } else if self.by_lines() {
            self.end_line_inside(byte, items);
        } else if self.at_end() {
            match self.check_behind() {
                0 => self.finish(items),
                digits => self.place = Place::Check(digits),
            }
        }
    }

    fn take_check(&mut self, byte: u8, left: usize, items: &mut Vec<Item>) {
        let is_hex = self.framing.check.as_ref().is_some_and(|check| check.form == CheckForm::Hex);
        if is_hex && !byte.is_ascii_hexdigit() {
            // The check characters are missing; what comes may be the next message.
            self.end(Item::Damaged, items);
            return self.take(byte, items);
        }
        self.buffer.push(byte);
        match left {
            0 | 1 => self.finish(items),
            _ => self.place = Place::Check(left - 1),
        }
    }

    /// A line outside of any report ended, perhaps: it may be a report's first.
    fn end_line_outside(&mut self, byte: u8, items: &mut Vec<Item>) {
        if !ends_line(byte) {
            return;
        }
        let line = self.outside.get(self.line_at..).unwrap_or_default();
        let begins = match &self.first_line {
            Some(pattern) => fits(pattern, line),
            None => !is_blank(line),
        };
        if !begins {
            self.line_at = self.outside.len();
            if is_blank(&self.outside) {
                self.outside.clear();
                self.line_at = 0;
            }
            return;
        }
        let line = self.outside.split_off(self.line_at);
        self.end_noise(items);
        let last = self.last_line.as_ref().is_some_and(|pattern| fits(pattern, &line));
        self.begin(line);
        self.line_at = self.buffer.len();
        if last {
            self.finish(items);
        }
    }

    /// A line of a report ended, perhaps: it may be its last, or the first of the next one.
    fn end_line_inside(&mut self, byte: u8, items: &mut Vec<Item>) {
        if !ends_line(byte) {
            return;
        }
        let line = self.buffer.get(self.line_at..).unwrap_or_default();
        let last = self.last_line.as_ref().is_some_and(|pattern| fits(pattern, line));
        if self.first_line.as_ref().is_some_and(|pattern| fits(pattern, line)) {
            let line = self.buffer.split_off(self.line_at);
            match self.last_line {
                Some(_) => self.end(Item::Cut, items),
                None => self.finish(items),
            }
            self.begin(line);
        }
        self.line_at = self.buffer.len();
        if last {
            self.finish(items);
        }
    }

    /// True when the bytes that begin a message stand in the middle of one: its end was lost. Text never holds the
    /// control characters that frame it; a start of other characters may well occur in a message.
    fn begins_again(&self) -> bool {
        let start = &self.framing.start.0;
        start.first().is_some_and(|byte| *byte < b' ')
            && self.framing.length.is_none()
            && self.buffer.len() > start.len()
            && self.buffer.ends_with(start)
    }

    fn at_end(&self) -> bool {
        let text = self.buffer.get(self.framing.start.0.len()..).unwrap_or_default();
        self.framing.end_of(text).is_some()
    }

    fn check_behind(&self) -> usize {
        self.framing.check.as_ref().filter(|check| check.place == CheckPlace::AfterEnd).map_or(0, |check| check.len())
    }

    fn begin(&mut self, bytes: Vec<u8>) {
        self.buffer = bytes;
        self.place = Place::Inside;
        self.line_at = 0;
        self.beheaded = false;
    }

    /// The message at hand ended as declared.
    fn finish(&mut self, items: &mut Vec<Item>) {
        let kind = match () {
            () if self.beheaded => Item::Cut,
            () if self.damaged || !self.framing.is_sound(&self.buffer) => Item::Damaged,
            () => Item::Message,
        };
        self.end(kind, items);
    }

    /// The message at hand is over.
    fn end(&mut self, kind: fn(Vec<u8>) -> Item, items: &mut Vec<Item>) {
        let message = std::mem::take(&mut self.buffer);
        self.place = Place::Outside;
        self.line_at = 0;
        (self.damaged, self.beheaded) = (false, false);
        // An empty line is no message; an empty frame is one, and may want an answer.
        let bare = self.framing.start.0.is_empty() && self.framing.length.is_none();
        if !(bare && is_blank(&message)) {
            items.push(kind(message));
        }
    }

    fn end_noise(&mut self, items: &mut Vec<Item>) {
        let noise = std::mem::take(&mut self.outside);
        self.line_at = 0;
        if !is_blank(&noise) {
            items.push(Item::Noise(noise));
        }
    }

    fn stop(&mut self, by_declaration: bool) -> Vec<Item> {
        let mut items = Vec::new();
        // A report's last line may come without its line end.
        if self.place == Place::Outside && self.by_lines() && !self.outside.is_empty() {
            self.end_line_outside(b'\n', &mut items);
        }
        let line = self.buffer.get(self.line_at..).unwrap_or_default();
        let last_line = self.last_line.as_ref().is_some_and(|pattern| fits(pattern, line));
        match self.place {
            Place::Outside => self.end_noise(&mut items),
            Place::Inside if by_declaration || last_line => self.finish(&mut items),
            Place::Inside | Place::Check(_) => self.end(Item::Cut, &mut items),
        }
        self.damaged = false;
        items
    }

    fn means_nothing(&self, byte: u8) -> bool {
        matches!(byte, 0 | b'\r' | b'\n') && self.framing.length.is_none() || self.framing.between.0.contains(&byte)
    }
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | FORM_FEED)
}

/// True for a line of text that fits; each byte is read as the character of its number.
fn fits(pattern: &Regex, line: &[u8]) -> bool {
    let text: String = line.iter().map(|byte| char::from(*byte)).collect();
    let text = text.trim_end_matches(['\r', '\n']);
    (!is_blank(line) || line.contains(&FORM_FEED)) && pattern.is_match(text)
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte <= b' ')
}
