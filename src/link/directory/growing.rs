//! Files to which an instrument appends: each complete new line is taken once, with the top lines that say what it means.
//!
//! A piece ends at a line end, so that nothing has to be waited for but that. Where it ends is remembered before the journal
//! is asked and again once it has answered: after a crash in between, the same piece is offered again, and the journal
//! knows it (invariant I4).

use super::memory::{Known, hex};
use super::{Folder, Stamp};
use crate::journal::crash;
use crate::wire::{Event, Persist, Refusal, Token};
use ring::digest::{SHA256, digest};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Most bytes the top lines may have.
const TOP_MAX: u64 = 64 * 1024;

impl Folder {
    /// Takes what is new in a file. False when the journal takes nothing more for now.
    pub(super) fn grow(&mut self, name: &OsStr, stamp: Stamp) -> bool {
        let known = self.memory.of(name);
        if known
            .is_some_and(|known| known.size == stamp.size && known.changed == stamp.changed && known.asked.is_none())
        {
            return true;
        }
        match self.pieces(name, stamp) {
            Ok(Ok(())) => true,
            Ok(Err(refusal)) => {
                self.refused(refusal);
                false
            }
            Err(error) => {
                self.shell.counters.trouble("a file cannot be read", &error);
                true
            }
        }
    }

    fn pieces(&mut self, name: &OsStr, stamp: Stamp) -> io::Result<Result<(), Refusal>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(self.path.join(name))?;
        let mut top = Vec::new();
        file.by_ref().take(TOP_MAX).read_to_end(&mut top)?;
        let Some(length) = top_length(&top, self.files.header_lines) else { return Ok(Ok(())) };
        top.truncate(length);
        let mark = hex(digest(&SHA256, &top).as_ref());
        let begun = Known { top: mark.clone(), read: length as u64, ..Known::default() };
        let mut known = match self.memory.of(name).cloned() {
            Some(known) if known.top == mark && known.read <= stamp.size => known,
            Some(_) => {
                self.shell.counters.event(&Event::Odd("a growing file was begun anew: it is read from its beginning"));
                begun
            }
            None => begun,
        };
        loop {
            file.seek(SeekFrom::Start(known.read))?;
            let room = self.files.size_max().saturating_sub(top.len() as u64);
            let wanted = known.asked.map_or(room, |end| end.saturating_sub(known.read).min(room));
            let mut piece = Vec::new();
            file.by_ref().take(wanted).read_to_end(&mut piece)?;
            let Some(end) = last_line_end(&top, &piece) else {
                if piece.len() as u64 == room {
                    self.shell.counters.event(&Event::Refused("a line of a growing file is longer than size_max_kb"));
                }
                break;
            };
            piece.truncate(end);
            let end = known.read + piece.len() as u64;
            known.asked = Some(end);
            self.remember(name, known.clone())?;
            let bytes = [top.as_slice(), &piece].concat();
            if let Err(refusal) = self.keep_piece(name, known.read, bytes) {
                return Ok(Err(refusal));
            }
            crash::point("file-taken");
            known.read = end;
            known.asked = None;
            self.remember(name, known.clone())?;
        }
        self.remember(name, Known { size: stamp.size, changed: stamp.changed, ..known })?;
        Ok(Ok(()))
    }

    fn keep_piece(&mut self, name: &OsStr, from: u64, bytes: Vec<u8>) -> Result<(), Refusal> {
        let mut identity = b"grown|".to_vec();
        identity.extend_from_slice(digest(&SHA256, &bytes).as_ref());
        identity.extend_from_slice(&from.to_be_bytes());
        identity.extend_from_slice(name.as_encoded_bytes());
        self.session += 1;
        self.shell.counters.heard();
        let (token, session) = (Token(self.session), self.session);
        let part = Persist { token, session, bytes, completes: true, identity: Some(identity) };
        let kept = self.runtime.block_on(self.shell.custodian.take(&self.shell.link, self.connection, part));
        kept.map_err(|refused| refused.reason)?;
        self.shell.counters.completed();
        self.shell.counters.taps().event("new lines of a file were taken; the journal has them");
        Ok(())
    }

    /// Before anything rests on it, it is on the disk.
    fn remember(&mut self, name: &OsStr, known: Known) -> io::Result<()> {
        self.memory.note(name, known);
        self.memory.save()
    }
}

/// Bytes of the first lines; `None` while they are not complete.
fn top_length(start: &[u8], lines: u32) -> Option<usize> {
    let mut length = 0;
    for _ in 0..lines {
        length += line_end(start, start.get(length..)?)?;
    }
    Some(length)
}

/// Where the first line of `text` ends; `start` is the beginning of the file, which says what a character is.
fn line_end(start: &[u8], text: &[u8]) -> Option<usize> {
    let (wide, mark) = newline(start);
    (1..)
        .map(|n| n * wide)
        .take_while(|end| *end <= text.len())
        .find(|end| text.get(..*end).is_some_and(|t| t.ends_with(mark)))
}

fn last_line_end(start: &[u8], text: &[u8]) -> Option<usize> {
    let (wide, mark) = newline(start);
    (1..=text.len() / wide).rev().map(|n| n * wide).find(|end| text.get(..*end).is_some_and(|t| t.ends_with(mark)))
}

/// Bytes of a character, and those of a line feed: files in UTF-16 begin with a byte order mark.
fn newline(start: &[u8]) -> (usize, &'static [u8]) {
    match start {
        [0xFF, 0xFE, ..] => (2, b"\n\0"),
        [0xFE, 0xFF, ..] => (2, b"\0\n"),
        _ => (1, b"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_end_in_every_encoding() {
        assert_eq!(top_length(b"a,b\n1,2\n3", 1), Some(4));
        assert_eq!(top_length(b"a,b\n1,2\n3", 2), Some(8));
        assert_eq!(top_length(b"a,b", 1), None);
        assert_eq!(top_length(b"a,b", 0), Some(0));
        assert_eq!(last_line_end(b"a", b"1\n2\n3"), Some(4));
        assert_eq!(last_line_end(b"a", b"123"), None);
        let utf16: Vec<u8> = "\u{feff}a\u{0a00}\n1\n2".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(top_length(&utf16, 1), Some(8), "a character that holds the byte of a line feed is none");
        assert_eq!(last_line_end(&utf16, &utf16), Some(12));
    }
}
