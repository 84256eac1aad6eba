//! Files to which an instrument appends: each complete new line is taken once, with the top lines that say what it means.
//!
//! A piece ends at a line end, so that nothing has to be waited for but that. Where it ends is remembered before the journal
//! is asked and again once it has answered: after a crash in between, the same piece is offered again, and the journal
//! knows it (invariant I4).
//!
//! Reading goes on only where the top lines and the last bytes before that place are those that were read. Otherwise
//! another file is under the name: a new one, an old one that was moved there, or one that is being written over. What is
//! known of the one before is set aside and found again by the same two marks, under whatever name. A file that nothing is
//! known of is begun once it keeps still and two listings had the time to show what has gone.

use super::memory::{Known, digest_of, key};
use super::{Folder, NAMES_MAX, Seen, Stamp};
use crate::journal::crash;
use crate::wire::{Event, Persist, Refusal, Token};
use ring::digest::{SHA256, digest};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Most bytes the top lines may have.
const TOP_MAX: u64 = 64 * 1024;
/// Most bytes before the place where reading goes on by which a file is known again.
const TAIL_MAX: u64 = 4096;
/// Listings that begin before a file is begun: the first may have had its old name before it was moved.
const LISTINGS_BEFORE: u64 = 2;
/// A file that is always written to is begun after this many times `stable_ms`.
const STABLE_TIMES_MAX: u32 = 20;
/// After this time it is told that a line has no end.
const UNFINISHED_FOR: Duration = Duration::from_secs(600);

impl Folder {
    /// Takes what is new in a file. False when the journal takes nothing more for now.
    pub(super) fn grow(&mut self, name: &OsStr, stamp: Stamp) -> bool {
        if !self.look_at(name, stamp) {
            return true;
        }
        if let Some(known) = self.memory.of(name)
            && (known.size, known.changed, known.asked) == (stamp.size, stamp.changed, None)
        {
            if known.read < stamp.size {
                self.waits(name, &Event::Odd("the last line of a growing file has had no end for long: it waits"));
            }
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

    /// Notes how the file is now; false when there is no room for one more.
    fn look_at(&mut self, name: &OsStr, stamp: Stamp) -> bool {
        if let Some(seen) = self.seen.get_mut(name) {
            if seen.stamp != stamp {
                *seen = Seen { first: seen.first, ..Seen::now(stamp, self.listings) };
            }
            return true;
        }
        let has_room = self.seen.len() < NAMES_MAX && (self.memory.of(name).is_some() || self.memory.has_room());
        if has_room {
            self.seen.insert(name.to_os_string(), Seen::now(stamp, self.listings));
        } else {
            self.no_room();
        }
        has_room
    }

    /// Tells once that a file has waited long as it is.
    fn waits(&mut self, name: &OsStr, event: &Event) {
        if let Some(seen) = self.seen.get_mut(name)
            && !seen.told
            && seen.since.elapsed() >= UNFINISHED_FOR
        {
            seen.told = true;
            self.shell.counters.event(event);
        }
    }

    fn pieces(&mut self, name: &OsStr, stamp: Stamp) -> io::Result<Result<(), Refusal>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(self.path.join(name))?;
        let mut top = Vec::new();
        file.by_ref().take(TOP_MAX).read_to_end(&mut top)?;
        let length = top_length(&top, self.files.header_lines);
        if length.is_none() {
            const WHY: Event = Event::Refused(
                "no line end in the top lines of a growing file, so it is not taken (a carriage return alone is none)",
            );
            match top.len() as u64 == TOP_MAX {
                true => self.shell.counters.event(&WHY),
                false => self.waits(name, &WHY),
            }
        }
        top.truncate(length.unwrap_or(0));
        let mark = length.map(|_| digest_of(&top));
        let Some(mut known) = self.place(name, &mut file, mark, &top)? else { return Ok(Ok(())) };
        loop {
            let before = known.read.min(TAIL_MAX);
            file.seek(SeekFrom::Start(known.read - before))?;
            let room = self.files.size_max().saturating_sub(top.len() as u64);
            let wanted = known.asked.map_or(room, |end| end.saturating_sub(known.read).min(room));
            let mut tail = Vec::new();
            file.by_ref().take(before + wanted).read_to_end(&mut tail)?;
            let mut piece = tail.split_off(tail.len().min(before as usize));
            if digest_of(&tail) != known.tail {
                // It is being written over; the next round finds it as it is.
                return Ok(Ok(()));
            }
            let Some(end) = last_line_end(&top, &piece) else {
                if known.asked.take().is_some() {
                    continue;
                }
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
            if let Err(refusal) = self.keep_piece(&known, bytes) {
                return Ok(Err(refusal));
            }
            crash::point("file-taken");
            tail.extend_from_slice(&piece);
            tail.drain(..tail.len().saturating_sub(TAIL_MAX as usize));
            known = Known { read: end, tail: digest_of(&tail), asked: None, ..known };
            self.remember(name, known.clone())?;
        }
        self.remember(name, Known { size: stamp.size, changed: stamp.changed, ..known })?;
        Ok(Ok(()))
    }

    /// Where the reading of a file goes on; `None` when that is not clear yet. `mark` is the digest of its top lines.
    fn place(&mut self, name: &OsStr, file: &mut File, mark: Option<String>, top: &[u8]) -> io::Result<Option<Known>> {
        if let Some(known) = self.memory.of(name).cloned() {
            if mark.as_ref() == Some(&known.top) && tail_before(file, known.read)? == known.tail {
                return Ok(Some(known));
            }
            const WHY: &str =
                "a growing file was begun anew or another one has its name: it is read once it keeps still";
            self.shell.counters.event(&Event::Odd(WHY));
            self.memory.set_aside(name, jiff::Timestamp::now().as_second());
            self.seen.remove(name);
            return Ok(None);
        }
        let Some(mark) = mark else { return Ok(None) };
        let mut found: Option<Known> = None;
        for known in self.memory.gone(&mark) {
            // One of which nothing was read but the top is like any other.
            let says_something = known.read > top.len() as u64 || known.asked.is_some();
            let is_further = found.as_ref().is_none_or(|found| known.read > found.read);
            if says_something && is_further && tail_before(file, known.read)? == known.tail {
                found = Some(Known { gone_since_s: None, ..known });
            }
        }
        if found.is_some() || !self.may_begin(name) {
            return Ok(found);
        }
        let read = top.len() as u64;
        let (tail, begun_as) = (tail_before(file, read)?, key(name));
        Ok(Some(Known { top: mark, tail, begun_as, read, ..Known::default() }))
    }

    fn may_begin(&self, name: &OsStr) -> bool {
        let Some(seen) = self.seen.get(name) else { return false };
        let (first, listing) = seen.first;
        let stable = Duration::from_millis(self.files.stable_ms);
        let is_still = seen.since.elapsed() >= stable || first.elapsed() >= stable.saturating_mul(STABLE_TIMES_MAX);
        is_still && self.listings >= listing + LISTINGS_BEFORE
    }

    fn keep_piece(&mut self, known: &Known, bytes: Vec<u8>) -> Result<(), Refusal> {
        let mut identity = b"grown|".to_vec();
        identity.extend_from_slice(digest(&SHA256, &bytes).as_ref());
        identity.extend_from_slice(&known.read.to_be_bytes());
        identity.extend_from_slice(known.begun_as.as_bytes());
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

/// Digest of the last bytes before a place in a file.
fn tail_before(file: &mut File, place: u64) -> io::Result<String> {
    let length = place.min(TAIL_MAX);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(place - length))?;
    file.by_ref().take(length).read_to_end(&mut tail)?;
    Ok(digest_of(&tail))
}

/// Bytes of the first lines, with the byte order mark if they are in UTF-16; `None` while they are not complete.
fn top_length(start: &[u8], lines: u32) -> Option<usize> {
    let (wide, _) = newline(start);
    let mut length = if wide > 1 { wide } else { 0 };
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
        assert_eq!(top_length(&utf16, 0), Some(2), "without its mark a piece could not be read by itself");
        assert_eq!(top_length(&utf16, 1), Some(8), "a character that holds the byte of a line feed is none");
        assert_eq!(last_line_end(&utf16, &utf16), Some(12));
    }
}
