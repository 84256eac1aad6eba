//! Messages of foreign lines: the frame taken off, the text decoded and cut into lines, or the bytes into blocks.

use super::charset::Charset;
use crate::wire::line::{Framer, Framing, Item, MESSAGE_MAX};
use crate::wire::spelling::spell;

/// Most lines read of one entry.
const LINES_MAX: usize = 100_000;

/// What one frame of an entry says.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// How whole it is.
    pub state: State,
    /// True when every byte fitted the character set.
    pub clean: bool,
    /// What it says.
    pub lines: Vec<Line>,
}

/// How whole a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It began and ended as declared.
    Whole,
    /// Its check characters do not fit.
    Damaged,
    /// It did not end as declared, or belongs to no message.
    Loose,
}

/// One line, or one block of bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// Number in the entry, from 1.
    pub number: u32,
    /// The text, without its line end. Of a block: its bytes, spelled.
    pub text: String,
    /// The bytes of a block; empty for text.
    pub block: Vec<u8>,
}

/// How to cut.
#[derive(Debug, Clone, Default)]
pub struct Cut<'c> {
    /// Texts that end a line, besides CR, LF and form feed.
    pub split: Vec<&'c [u8]>,
    /// Blocks of so many bytes in place of lines.
    pub block_bytes: Option<usize>,
    /// Bytes every block begins with; what stands between blocks is a line.
    pub block_start: &'c [u8],
}

/// Reads an entry. Never fails; what belongs to no message is a part of its own.
pub fn read(raw: &[u8], framing: Option<&Framing>, cut: &Cut, charset: Option<Charset>) -> Vec<Part> {
    let Some(framing) = framing.filter(|framing| !framing.is_silence_only()) else {
        let mut number = 0;
        return vec![part(State::Whole, raw, cut, charset, &mut number)];
    };
    let mut framer = Framer::new(framing, MESSAGE_MAX);
    let mut items = framer.push(raw);
    items.extend(framer.silence());
    let mut number = 0;
    let mut parts = Vec::new();
    for item in items {
        let (state, bytes) = match &item {
            Item::Message(bytes) => (State::Whole, framing.payload(bytes)),
            Item::Damaged(bytes) => (State::Damaged, framing.payload(bytes)),
            Item::Cut(bytes) => (State::Loose, framing.payload(bytes)),
            Item::Noise(bytes) => (State::Loose, bytes.as_slice()),
            Item::Enquiry | Item::End => continue,
        };
        parts.push(part(state, bytes, cut, charset, &mut number));
    }
    parts
}

fn part(state: State, bytes: &[u8], cut: &Cut, charset: Option<Charset>, number: &mut u32) -> Part {
    let mut line = |text: String, block: &[u8]| {
        *number = number.saturating_add(1);
        Line { number: *number, text, block: block.to_vec() }
    };
    if let Some(length) = cut.block_bytes.filter(|length| *length > 0) {
        let pieces = blocks(bytes, length, cut.block_start);
        let lines = pieces.into_iter().take(LINES_MAX).map(|(whole, bytes)| {
            let block = if whole { bytes } else { &[] };
            line(spell(bytes), block)
        });
        return Part { state, clean: true, lines: lines.collect() };
    }
    let decoded = Charset::decode_declared(charset, None, bytes);
    let mut text = decoded.text.replace("\r\n", "\n");
    for split in &cut.split {
        text = text.replace(String::from_utf8_lossy(split).as_ref(), "\n");
    }
    let lines = text.split(['\r', '\n', '\u{c}']).take(LINES_MAX).map(|text| line(text.to_string(), &[]));
    Part { state, clean: decoded.clean, lines: lines.filter(|line| !line.text.trim().is_empty()).collect() }
}

/// The blocks, and what stands between them.
fn blocks<'b>(bytes: &'b [u8], length: usize, start: &[u8]) -> Vec<(bool, &'b [u8])> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = match start.is_empty() {
            true => Some(0),
            false => rest.windows(start.len()).position(|window| window == start),
        };
        let at = at.filter(|at| at + length <= rest.len()).unwrap_or(rest.len());
        let (between, from) = rest.split_at(at);
        if !between.is_empty() {
            pieces.push((false, between));
        }
        let (block, after) = from.split_at(length.min(from.len()));
        if !block.is_empty() {
            pieces.push((true, block));
        }
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(parts: &[Part]) -> Vec<(u32, &str)> {
        parts.iter().flat_map(|p| &p.lines).map(|l| (l.number, l.text.as_str())).collect()
    }

    #[test]
    fn lines_are_cut_and_numbered_whatever_ends_them() {
        let parts = read(b"a\r\nb\n\rc\x0cd", None, &Cut::default(), None);
        assert_eq!(texts(&parts), [(1, "a"), (2, "b"), (4, "c"), (5, "d")]);
        let cut = Cut { split: vec![&[0x1E]], ..Cut::default() };
        assert_eq!(texts(&read(b"x\x1ey", None, &cut, None)), [(1, "x"), (2, "y")]);
        let utf16: Vec<u8> = "\u{feff}a\nb".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(texts(&read(&utf16, None, &Cut::default(), None)), [(1, "a"), (2, "b")]);
    }

    #[test]
    fn blocks_begin_where_their_mark_is_and_nothing_between_is_lost() {
        let cut = Cut { block_bytes: Some(4), block_start: b"\x00R", ..Cut::default() };
        let parts = read(b"head\x00R12junk\x00R34\x00R5", None, &cut, None);
        assert_eq!(texts(&parts), [(1, "head"), (2, "<NUL>R12"), (3, "junk"), (4, "<NUL>R34"), (5, "<NUL>R5")]);
        let whole: Vec<usize> = parts[0].lines.iter().map(|l| l.block.len()).collect();
        assert_eq!(whole, [0, 4, 0, 4, 0]);
    }
}
