//! An object on disk, read piece by piece on its way out: a Part 10 file (PS3.10), of which the header stays here.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::delivery::Outcome;
use crate::journal::IMAGE_LOST;
use crate::wire::dimse::uid;

/// Preamble and prefix of a Part 10 file.
const PREAMBLE: usize = 128;
const PREFIX: &[u8] = b"DICM";
/// A file meta group longer than this is no header of a file somebody sends.
const META_MAX: usize = 64 * 1024;
/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 2;

/// What the header of a file says.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class_uid: String,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    /// Where the data set begins, in bytes.
    pub data_set_at: u64,
}

/// Why an object is not sent. The text names no patient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectFault {
    /// It is gone, cut short or none: a person has to look.
    #[error("{0}")]
    Damaged(String),
    /// The disk did not give it, which may pass.
    #[error("the stored image cannot be read: {0}")]
    Unread(io::ErrorKind),
}

/// The bytes of an object: some that were made here, then a stretch of a file. An object that goes as it came has none of
/// the former.
#[derive(Clone)]
pub struct Content {
    /// What comes first.
    pub made: Bytes,
    /// The file behind it.
    pub path: PathBuf,
    /// Which of its bytes.
    pub stretch: Range<u64>,
}

/// A piece of a data set.
pub struct Piece {
    /// Its bytes, behind the room that was asked for.
    pub bytes: Vec<u8>,
    /// Nothing comes after it.
    pub is_last: bool,
}

/// The pieces of a data set, read by a thread of their own.
pub struct Chunks {
    pieces: mpsc::Receiver<io::Result<Piece>>,
}

impl Header {
    /// Reads the header of a Part 10 file.
    ///
    /// # Errors
    /// [`ObjectFault`]: it has none, or one that does not say what is sent; or it cannot be read.
    pub fn read(file: &mut File) -> Result<Header, ObjectFault> {
        let no_header = || ObjectFault::Damaged("the file has no DICOM header (PS3.10)".to_owned());
        let unread = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => no_header(),
            _ => e.into(),
        };
        file.seek(SeekFrom::Start(0))?;
        // Preamble, prefix and the group length, which is always the first element: (0002,0000) UL 4.
        let mut start = [0; PREAMBLE + 16];
        file.read_exact(&mut start).map_err(unread)?;
        let (prefix, element) = start.get(PREAMBLE..).and_then(|s| s.split_at_checked(4)).ok_or_else(no_header)?;
        if prefix != PREFIX || element.get(..8) != Some(&[2, 0, 0, 0, b'U', b'L', 4, 0][..]) {
            return Err(no_header());
        }
        let length = element.get(8..12).and_then(|l| l.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
        if length > META_MAX {
            return Err(no_header());
        }
        let mut meta = vec![0; length];
        file.read_exact(&mut meta).map_err(unread)?;
        let text = |element| value(&meta, element).ok_or_else(no_header);
        Ok(Header {
            sop_class_uid: text(0x0002)?,
            sop_instance_uid: text(0x0003)?,
            transfer_syntax_uid: text(0x0010)?,
            data_set_at: (PREAMBLE + 16 + length) as u64,
        })
    }
}

/// The UID in an element of group 2, which is in Explicit VR Little Endian.
fn value(mut meta: &[u8], wanted: u16) -> Option<String> {
    while let Some((header, rest)) = meta.split_first_chunk::<8>() {
        let [2, 0, e0, e1, v0, v1, l0, l1] = *header else { return None };
        let long = matches!(&[v0, v1], b"OB" | b"OW" | b"UN" | b"UT" | b"SQ" | b"UC" | b"UR" | b"OD" | b"OF" | b"OL");
        let (length, rest) = match long {
            true => rest.split_first_chunk::<4>().map(|(l, rest)| (u32::from_le_bytes(*l) as usize, rest))?,
            false => (usize::from(u16::from_le_bytes([l0, l1])), rest),
        };
        let (value, rest) = rest.split_at_checked(length)?;
        if u16::from_le_bytes([e0, e1]) == wanted {
            let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\0', ' ']).to_owned();
            return uid::is_uid(&text).then_some(text);
        }
        meta = rest;
    }
    None
}

impl From<io::Error> for ObjectFault {
    fn from(error: io::Error) -> ObjectFault {
        match error.kind() {
            io::ErrorKind::NotFound => ObjectFault::Damaged("the stored image is gone".to_owned()),
            io::ErrorKind::UnexpectedEof => ObjectFault::Damaged("the stored image is cut short".to_owned()),
            kind => ObjectFault::Unread(kind),
        }
    }
}

impl From<ObjectFault> for Outcome {
    fn from(fault: ObjectFault) -> Outcome {
        match fault {
            ObjectFault::Damaged(why) => Outcome::Refused { reason: format!("{IMAGE_LOST}: {why}") },
            // Too many open files concern all images, a bad sector this one: whether others get through tells. Where it
            // does not pass, the image is as good as lost.
            ObjectFault::Unread(_) => Outcome::unclear(format!("{IMAGE_LOST}: {fault}")),
        }
    }
}

impl Content {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.made.len() as u64 + (self.stretch.end - self.stretch.start)
    }

    /// What is behind the first `bytes`, all of which were made here when any were: a file's header is never half of it.
    pub fn behind(self, bytes: u64) -> Content {
        let made = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.made.len());
        let start = (self.stretch.start + bytes - made as u64).min(self.stretch.end);
        Content { made: self.made.slice(made..), path: self.path, stretch: start..self.stretch.end }
    }
}

impl Chunks {
    /// Opens an object to be read in pieces of at most `piece_max` bytes behind `room` zero bytes. What was made here is
    /// let go as soon as it was read, long before the end of the file.
    ///
    /// # Errors
    /// [`ObjectFault`]: the file cannot be opened, or is shorter than that.
    pub fn open(content: Content, piece_max: usize, room: usize) -> Result<Chunks, ObjectFault> {
        let mut file = File::open(&content.path)?;
        if file.metadata()?.len() < content.stretch.end {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        file.seek(SeekFrom::Start(content.stretch.start))?;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let (rest, mut from) = (content.bytes(), Source { made: content.made, file });
        tokio::task::spawn_blocking(move || read(&mut from, rest, piece_max.max(1), room, &sender));
        Ok(Chunks { pieces })
    }

    /// The next piece; `None` behind the last one.
    ///
    /// # Errors
    /// [`ObjectFault`]: the file could not be read to its end.
    pub async fn next(&mut self) -> Result<Option<Piece>, ObjectFault> {
        Ok(self.pieces.recv().await.transpose()?)
    }
}

/// What was made here, and the file behind it.
struct Source {
    made: Bytes,
    file: File,
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.made.is_empty() {
            return self.file.read(to);
        }
        let read = (&self.made[..]).read(to)?;
        self.made.advance(read);
        if self.made.is_empty() {
            // An empty rest would hold on to all of it.
            self.made = Bytes::new();
        }
        Ok(read)
    }
}

/// Hands the pieces on until the receiver is gone.
fn read(from: &mut impl Read, mut rest: u64, piece_max: usize, room: usize, to: &mpsc::Sender<io::Result<Piece>>) {
    while rest > 0 {
        let size = usize::try_from(rest).unwrap_or(usize::MAX).min(piece_max);
        let mut bytes = vec![0; room + size];
        let read = bytes.get_mut(room..).map_or(Ok(()), |to| from.read_exact(to));
        rest -= size as u64;
        let piece = read.map(|()| Piece { bytes, is_last: rest == 0 });
        let failed = piece.is_err();
        if to.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}
