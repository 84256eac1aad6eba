//! Finding messages in a stream of bytes, in any split, with bounded memory.

use super::{CR, FS, VT};

/// Largest message by default. Embedded PDF reports are large.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Noise is reported at the latest after so many bytes.
const NOISE_STEP: usize = 4096;
/// What is kept of a message that is too long, so that the refusal can name it.
const HEAD_MAX: usize = 4096;
/// How a message begins when its `VT` was lost; a field separator follows.
const HEADER: &[u8; 3] = b"MSH";

/// What the framer found.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole message without its frame, verbatim.
    Message(Vec<u8>),
    /// So many bytes outside any message. Line ends between frames do not count.
    Noise(usize),
    /// A message began before the one before it had ended; that one is gone.
    Restarted,
    /// A message over the limit. Its first bytes; the rest is skipped to its end.
    TooLong(Vec<u8>),
    /// A whole message in which a character came damaged, without that character.
    Damaged(Vec<u8>),
}

impl std::fmt::Debug for Item {
    /// Prints sizes, not bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::Message(m) => write!(f, "Message({} bytes)", m.len()),
            Item::Noise(n) => write!(f, "Noise({n})"),
            Item::Restarted => f.write_str("Restarted"),
            Item::TooLong(head) => write!(f, "TooLong({} bytes kept)", head.len()),
            Item::Damaged(m) => write!(f, "Damaged({} bytes)", m.len()),
        }
    }
}

/// Deframes MLLP. Tolerates noise between messages, a lost `VT`, a missing or late `CR` after `FS`, and several
/// messages in one read.
///
/// `FS` alone is not the end, because a flipped bit makes one out of a backslash, and half a message must never pass for
/// a whole one. The end is `FS CR` (or `FS LF`), `FS` before the next `VT`, or `FS` before a silence or the end of the
/// line: only the caller knows those, and then calls [`Framer::flush`].
pub struct Framer {
    message_max: usize,
    place: Place,
    buffer: Vec<u8>,
    /// Bytes of the message so far, also those that were not kept.
    length: usize,
    /// A character of the message came damaged.
    damaged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside {
        noise: usize,
    },
    Inside,
    /// After an `FS` that may be the end.
    MaybeEnd,
    /// Skipping the rest of a message that is too long.
    Skipping,
    /// The same, after an `FS`.
    SkippingMaybeEnd,
}

impl Framer {
    /// A framer that refuses messages over `message_max` bytes.
    pub fn new(message_max: usize) -> Self {
        Framer { message_max, place: Place::Outside { noise: 0 }, buffer: Vec::new(), length: 0, damaged: false }
    }

    /// Takes bytes and returns what they completed, in order.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Inside | Place::Skipping => {
                    // The bulk of a message in one go.
                    let plain = bytes.iter().position(|&b| b == VT || b == FS).unwrap_or(bytes.len());
                    if plain > 0 {
                        let (text, after) = bytes.split_at(plain);
                        self.keep(text, &mut items);
                        bytes = after;
                        continue;
                    }
                    self.handle_control(byte, &mut items);
                }
                Place::MaybeEnd | Place::SkippingMaybeEnd => self.handle_after_end(byte, &mut items),
                Place::Outside { noise } => self.handle_outside(byte, noise, &mut items),
            }
            bytes = rest;
        }
        items
    }

    /// A character came damaged (serial lines only): the message it is in must not pass for what was sent.
    pub fn damage(&mut self) {
        match self.place {
            // It may have been a `VT`; what follows tells.
            Place::Outside { .. } => self.buffer.clear(),
            _ => self.damaged = true,
        }
    }

    /// The line went silent or away: an `FS` without `CR` was the end.
    pub fn flush(&mut self) -> Option<Item> {
        let mut items = Vec::new();
        if self.maybe_ended() {
            self.end(&mut items);
        }
        items.pop()
    }

    /// True when the last byte was an `FS`, so that a silence would end the message.
    pub fn maybe_ended(&self) -> bool {
        matches!(self.place, Place::MaybeEnd | Place::SkippingMaybeEnd)
    }

    /// How many bytes of an unfinished message have come; `None` between messages.
    pub fn unfinished(&self) -> Option<usize> {
        match self.place {
            Place::Outside { .. } => None,
            _ => Some(self.length),
        }
    }

    /// Bytes of an unfinished message that are in memory.
    pub fn bytes_held(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets an unfinished message.
    pub fn reset(&mut self) {
        self.place = Place::Outside { noise: 0 };
        self.buffer = Vec::new();
    }

    fn handle_outside(&mut self, byte: u8, noise: usize, items: &mut Vec<Item>) {
        if byte == VT {
            self.begin(noise, items);
            return;
        }
        // `buffer` holds how much of an unframed header has been seen.
        let matched = self.buffer.len();
        if matched == HEADER.len() && !byte.is_ascii_alphanumeric() && byte.is_ascii_graphic() {
            let noise = noise.saturating_sub(matched);
            self.begin(noise, items);
            self.keep(HEADER, items);
            return self.keep(&[byte], items);
        }
        if HEADER.get(matched) == Some(&byte) {
            self.buffer.push(byte);
        } else {
            self.buffer.clear();
            if HEADER.first() == Some(&byte) {
                self.buffer.push(byte);
            }
        }
        let noise = if matches!(byte, CR | b'\n') { noise } else { noise + 1 };
        let full = noise >= NOISE_STEP && self.buffer.is_empty();
        if full {
            items.push(Item::Noise(noise));
        }
        self.place = Place::Outside { noise: if full { 0 } else { noise } };
    }

    fn begin(&mut self, noise: usize, items: &mut Vec<Item>) {
        if noise > 0 {
            items.push(Item::Noise(noise));
        }
        self.buffer.clear();
        self.length = 0;
        self.damaged = false;
        self.place = Place::Inside;
    }

    /// `VT` or `FS` inside a message.
    fn handle_control(&mut self, byte: u8, items: &mut Vec<Item>) {
        let skipping = self.place == Place::Skipping;
        if byte == VT {
            if self.length > 0 && !skipping {
                items.push(Item::Restarted);
            }
            self.begin(0, items);
        } else {
            self.place = if skipping { Place::SkippingMaybeEnd } else { Place::MaybeEnd };
        }
    }

    fn handle_after_end(&mut self, byte: u8, items: &mut Vec<Item>) {
        match byte {
            CR | b'\n' => self.end(items),
            VT => {
                self.end(items);
                self.begin(0, items);
            }
            // That FS was data after all; this one may be the end.
            FS => self.keep(&[FS], items),
            _ => {
                let skipping = self.place == Place::SkippingMaybeEnd;
                self.place = if skipping { Place::Skipping } else { Place::Inside };
                self.keep(&[FS, byte], items);
            }
        }
    }

    fn end(&mut self, items: &mut Vec<Item>) {
        let message = std::mem::take(&mut self.buffer);
        if self.place == Place::MaybeEnd {
            items.push(if self.damaged { Item::Damaged(message) } else { Item::Message(message) });
        }
        self.place = Place::Outside { noise: 0 };
    }

    fn keep(&mut self, bytes: &[u8], items: &mut Vec<Item>) {
        self.length = self.length.saturating_add(bytes.len());
        if matches!(self.place, Place::Skipping | Place::SkippingMaybeEnd) {
            return;
        }
        // Filling up to the limit first keeps what is found independent of how the reads were split.
        let room = self.message_max.saturating_sub(self.buffer.len());
        self.buffer.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if bytes.len() <= room {
            return;
        }
        let mut head = std::mem::take(&mut self.buffer);
        head.truncate(HEAD_MAX);
        head.shrink_to_fit();
        items.push(Item::TooLong(head));
        self.place = if self.place == Place::MaybeEnd { Place::SkippingMaybeEnd } else { Place::Skipping };
    }
}
