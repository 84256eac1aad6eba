//! An instance on its way to its file, in blocks: filled and digested by whoever reads the network, written by a thread
//! of its own.
//!
//! A full block goes to the disk past the page cache (`O_DIRECT`): copying a large object into it and writing it out
//! again takes the processor as long as receiving it does, and an object that is large does not stay in the memory of a
//! small box until it is forwarded. What is left at the end, which for a small image is all of it, is written the ordinary
//! way, and so is everything where a file system knows no other.

use ring::digest;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes of a block: an uncompressed slice of 512 by 512 pixels with all that is said about it fits into one.
pub const BLOCK_BYTES: usize = 576 << 10;
/// Bytes of memory and of the file to which a block is aligned: a multiple of every disk's sector.
const ALIGNMENT: usize = 4 << 10;
/// After so many bytes they are made durable: a disk that is asked only at the end keeps the sender waiting for all of
/// it.
const SYNC_EVERY: u64 = 16 << 20;

/// Bytes of a file, at most [`BLOCK_BYTES`] of them.
pub struct Block {
    memory: Vec<u8>,
    /// Where in the memory the bytes begin.
    start: usize,
}

impl Block {
    /// An empty one.
    pub fn new() -> Block {
        let mut memory: Vec<u8> = Vec::with_capacity(BLOCK_BYTES + ALIGNMENT);
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        memory.resize(start, 0);
        Block { memory, start }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    /// Appends what fits.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(BLOCK_BYTES - self.bytes().len());
        self.memory.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl Default for Block {
    fn default() -> Block {
        Block::new()
    }
}

/// Cuts an instance into blocks as its bytes come, and makes the digest of its data set on the way.
pub struct BlockFiller {
    block: Block,
    summing: Summing,
}

/// What is known of an instance so far: of its full blocks.
pub struct Summing {
    header_bytes: usize,
    /// With the header, in the blocks that were digested.
    bytes: u64,
    digest: digest::Context,
}

/// What is known of an instance that has come to its end.
pub struct Whole {
    /// Bytes before the data set.
    pub header_bytes: u64,
    /// Bytes of the data set.
    pub bytes: u64,
    /// SHA-256 of the data set.
    pub digest: [u8; 32],
}

impl BlockFiller {
    /// Begins with this header: preamble, `DICM` and group 2 (PS3.10 7.1). It is made of two UIDs and names, and far
    /// shorter than a block.
    pub fn new(header: &[u8]) -> BlockFiller {
        let mut block = Block::new();
        let header_bytes = block.append(header);
        debug_assert_eq!(header_bytes, header.len(), "a header fits into a block");
        BlockFiller {
            block,
            summing: Summing { header_bytes, bytes: 0, digest: digest::Context::new(&digest::SHA256) },
        }
    }

    /// Takes bytes of the data set, exactly as they came (invariant I2), and returns those that did not fit. When there
    /// are any, the block is full and has to be exchanged.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.split_at(self.block.append(bytes)).1
    }

    /// Goes on in an empty block, and hands out the full one.
    pub fn exchange(&mut self, empty: Block) -> Block {
        self.summing.add(&self.block);
        std::mem::replace(&mut self.block, empty)
    }

    /// The data set is complete: its last block, which is full, begun or empty, and what is known without it. While one
    /// writes the block another may look at it ([`Summing::end`]).
    pub fn finish(self) -> (Block, Summing) {
        (self.block, self.summing)
    }
}

impl Summing {
    fn add(&mut self, block: &Block) {
        let header_bytes = if self.bytes == 0 { self.header_bytes } else { 0 };
        self.digest.update(block.bytes().get(header_bytes..).unwrap_or_default());
        self.bytes += block.bytes().len() as u64;
    }

    /// What is known with the last block.
    pub fn end(mut self, last: &Block) -> Whole {
        self.add(last);
        let (header_bytes, mut digest) = (self.header_bytes as u64, [0; 32]);
        digest.copy_from_slice(self.digest.finish().as_ref());
        Whole { header_bytes, bytes: self.bytes.saturating_sub(header_bytes), digest }
    }
}

/// A file that is written from its front to its end.
pub(super) struct BlockFile {
    path: PathBuf,
    file: File,
    /// The same file past the page cache, from the first full block on, where there is such a way.
    direct: Option<File>,
    written: u64,
    synced: u64,
}

impl BlockFile {
    /// Makes the file, which must not exist, private to the gateway's user.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn create(path: PathBuf) -> io::Result<BlockFile> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(BlockFile { path, file, direct: None, written: 0, synced: 0 })
    }

    /// Appends a full block.
    ///
    /// # Errors
    /// What the system says. The file is then of no use.
    pub(super) fn write(&mut self, block: &Block) -> io::Result<()> {
        debug_assert_eq!(block.bytes().len(), BLOCK_BYTES, "only the last block is not full");
        if self.written == 0 {
            self.direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&self.path).ok();
        }
        if let Some(direct) = &self.direct {
            match direct.write_all_at(block.bytes(), self.written) {
                // How a disk with other needs says so, also after it took a part.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.direct = None,
                written => return written.and_then(|()| self.appended(block)),
            }
        }
        self.file.write_all_at(block.bytes(), self.written)?;
        self.appended(block)
    }

    /// Appends the last block, and makes everything durable.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(&mut self, last: &Block) -> io::Result<()> {
        self.file.write_all_at(last.bytes(), self.written)?;
        self.file.sync_data()
    }

    fn appended(&mut self, block: &Block) -> io::Result<()> {
        self.written += block.bytes().len() as u64;
        if self.written - self.synced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as the spool does, in pieces of so many bytes.
    fn write(file: &mut BlockFile, bytes: &[u8], piece: usize) -> io::Result<Whole> {
        let mut filler = BlockFiller::new(b"head");
        for piece in bytes.chunks(piece) {
            let mut rest = filler.take(piece);
            while !rest.is_empty() {
                file.write(&filler.exchange(Block::new()))?;
                rest = filler.take(rest);
            }
        }
        let (last, summing) = filler.finish();
        file.finish(&last)?;
        Ok(summing.end(&last))
    }

    #[test]
    fn i2_whatever_the_sizes_of_pieces_and_file_what_was_appended_is_there_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let first = BLOCK_BYTES - 4;
        let lengths = [0, 1, first - 1, first, first + 1, first + BLOCK_BYTES, 3 * BLOCK_BYTES + 5, (17 << 20) + 1];
        for length in lengths {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7 + at / BLOCK_BYTES) as u8).collect();
            for (turn, piece) in [4099, 128 << 10, 5 * BLOCK_BYTES].into_iter().enumerate() {
                let path = folder.path().join(format!("{length}-{turn}"));
                let mut file = BlockFile::create(path.clone()).unwrap();
                let whole = write(&mut file, &bytes, piece).unwrap();
                let found = std::fs::read(&path).unwrap();
                assert!(found[..4] == *b"head" && found[4..] == bytes, "{length} bytes in pieces of {piece}");
                assert_eq!((whole.header_bytes, whole.bytes), (4, length as u64));
                assert_eq!(whole.digest, digest::digest(&digest::SHA256, &bytes).as_ref());
                std::fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn what_a_disk_does_not_take_past_the_page_cache_goes_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = BlockFile::create(path.clone()).unwrap();
        let mut block = Block::new();
        block.append(&[6; BLOCK_BYTES]);
        file.write(&block).unwrap();
        let other = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path);
        assert_eq!(file.direct.is_some(), other.is_ok(), "past the page cache where there is such a way");
        // At such an address most file systems do not take it.
        let mut memory = vec![7; BLOCK_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT) + 1;
        memory.truncate(start + BLOCK_BYTES);
        let askew = Block { memory, start };
        let is_taken = other.is_ok_and(|other| other.write_all_at(askew.bytes(), BLOCK_BYTES as u64).is_ok());
        file.write(&askew).unwrap();
        assert_eq!(file.direct.is_some(), is_taken);
        block.clear();
        file.finish(&block).unwrap();
        assert!(std::fs::read(&path).unwrap() == [vec![6; BLOCK_BYTES], vec![7; BLOCK_BYTES]].concat());
    }

    #[test]
    fn an_error_of_the_disk_is_told_at_the_latest_when_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        // Not open for writing, so that every write fails.
        let closed = || BlockFile {
            path: path.clone(),
            file: File::open(&path).unwrap(),
            direct: Some(File::open(&path).unwrap()),
            written: BLOCK_BYTES as u64,
            synced: 0,
        };
        let failed = |outcome: io::Result<Whole>| outcome.err().and_then(|error| error.raw_os_error());
        assert_eq!(failed(write(&mut closed(), b"the last block", 5)), Some(libc::EBADF));
        assert_eq!(failed(write(&mut closed(), &vec![7; 2 * BLOCK_BYTES], BLOCK_BYTES)), Some(libc::EBADF));
    }
}
