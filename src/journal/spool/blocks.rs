//! Writes a file from its front to its end, in large blocks.
//!
//! Small files are a few writes. Beyond them a thread of the file's own writes blocks while the next one is filled,
//! digested and brought by the network, and another one syncs what was written, so that the final `fdatasync` of a large
//! object has little left to wait for. Writing past the page cache does not help: what takes the time is that the disk
//! empties its own cache, and only a sync makes it begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes of a block. An association that stores a large object has two.
const BLOCK: usize = 256 << 10;
/// So many bytes are written without threads, which take longer to start than small images take to write.
const ALONE_MAX: u64 = 4 << 20;
/// After so many bytes they are made durable, while the next ones come.
const SYNC_EVERY: u64 = 8 << 20;

/// A file that is being written.
pub(super) struct BlockFile {
    file: Arc<File>,
    /// Never longer than [`BLOCK`].
    block: Vec<u8>,
    writer: Option<BlockWriter>,
    /// Bytes in the blocks that were written, or handed to the writer.
    handed_over: u64,
}

impl BlockFile {
    /// Writes to this file, which is new.
    pub(super) fn new(file: File) -> BlockFile {
        BlockFile { file: Arc::new(file), block: Vec::new(), writer: None, handed_over: 0 }
    }

    /// Appends.
    ///
    /// # Errors
    /// What the system says, of these bytes or of earlier ones. The file is then of no use.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let (taken, left) = bytes.split_at((BLOCK - self.block.len()).min(bytes.len()));
            self.block.extend_from_slice(taken);
            bytes = left;
            if bytes.is_empty() {
                return Ok(());
            }
            if self.handed_over < ALONE_MAX {
                self.file.write_all_at(&self.block, self.handed_over)?;
                self.block.clear();
            } else {
                let writer = match &self.writer {
                    Some(writer) => writer,
                    None => self.writer.insert(BlockWriter::start(self.file.clone(), self.handed_over)?),
                };
                if !writer.exchange(&mut self.block) {
                    self.end_writer()?;
                    return Err(io::Error::other("the thread that writes an image ended early"));
                }
            }
            self.handed_over += BLOCK as u64;
        }
    }

    /// Everything was appended: makes it durable.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.end_writer()?;
        self.file.write_all_at(&self.block, self.handed_over)?;
        self.file.sync_data()
    }

    fn end_writer(&mut self) -> io::Result<()> {
        self.writer.take().map_or(Ok(()), BlockWriter::end)
    }
}

/// The thread that writes full blocks.
struct BlockWriter {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
}

impl BlockWriter {
    fn start(file: Arc<File>, at: u64) -> io::Result<BlockWriter> {
        let (full, blocks) = sync_channel(1);
        let (emptied, empty) = sync_channel(2);
        // The second of the two blocks.
        let _ = emptied.send(Vec::with_capacity(BLOCK));
        let write = move || write_blocks(&file, at, &blocks, &emptied);
        let thread = std::thread::Builder::new().name("spool".to_string()).spawn(write)?;
        Ok(BlockWriter { full, empty, thread })
    }

    /// Hands a full block over for an empty one; waits while the disk is behind. False when the thread has failed.
    fn exchange(&self, block: &mut Vec<u8>) -> bool {
        let Ok(empty) = self.empty.recv() else { return false };
        self.full.send(std::mem::replace(block, empty)).is_ok()
    }

    fn end(self) -> io::Result<()> {
        drop(self.full);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes an image is gone")))
    }
}

/// Writes what comes, and meanwhile makes durable what is written: a disk that is asked only at the end keeps the sender
/// waiting for all of it.
fn write_blocks(file: &File, mut at: u64, blocks: &Receiver<Vec<u8>>, emptied: &SyncSender<Vec<u8>>) -> io::Result<()> {
    std::thread::scope(|scope| {
        // Nobody waits for it: what is asked while it is at work is not heard, and asked again after the next block.
        let (ask, asked) = sync_channel(0);
        // An error must be told from here: the system tells it once, and to whoever asks first.
        let sync = move || asked.iter().try_for_each(|()| file.sync_data());
        let syncer = std::thread::Builder::new().name("spool-sync".to_string()).spawn_scoped(scope, sync)?;
        let mut synced = 0;
        while let Ok(mut block) = blocks.recv() {
            file.write_all_at(&block, at)?;
            at += block.len() as u64;
            if at - synced >= SYNC_EVERY && ask.try_send(()).is_ok() {
                synced = at;
            }
            block.clear();
            let _ = emptied.send(block);
        }
        drop(ask);
        syncer.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs an image is gone")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_sizes_of_pieces_and_file_what_was_appended_is_there_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let alone = ALONE_MAX as usize;
        let lengths = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, alone, alone + BLOCK, alone + 3 * BLOCK + 5];
        for length in lengths {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7 + at / BLOCK) as u8).collect();
            for piece in [4099, 128 << 10, 5 * BLOCK] {
                let path = folder.path().join("file");
                let mut file = BlockFile::new(File::create(&path).unwrap());
                bytes.chunks(piece).for_each(|piece| file.write(piece).unwrap());
                file.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_error_of_the_disk_is_told_at_the_latest_when_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        // Not open for writing, so that every write fails.
        let mut file = BlockFile::new(File::open(&path).unwrap());
        let written = (0..10).try_for_each(|_| file.write(&vec![7; BLOCK]));
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EBADF));
        let mut file = BlockFile::new(File::open(&path).unwrap());
        file.write(&vec![7; BLOCK]).unwrap();
        assert_eq!(file.finish().unwrap_err().raw_os_error(), Some(libc::EBADF));
        // The thread's own.
        let mut file = BlockFile::new(File::open(&path).unwrap());
        file.handed_over = ALONE_MAX;
        file.write(&vec![7; 2 * BLOCK]).unwrap();
        assert_eq!(file.finish().unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
