//! The spool: DICOM instances as files, too large for rows.
//!
//! One file an instance in `spool/` of the data directory, named by an own id, which is the time it began and chance:
//! nothing a peer sends ever becomes a file name. A file is `<id>.part` while it is written and `<id>.dcm` once it is whole and durable, so a cut
//! file is never taken for an instance. Which file is whose is in the `instance` table alone.
//!
//! The order of writes is part of the journal's contract: see [`crate::journal`].
//!
//! Nothing here holds an object in memory: its bytes go to the file in blocks as they come, and the digest is made on
//! the way ([`BlockFiller`]).

mod blocks;

use super::crash;
use super::error::{JournalError, OpenError};
use super::space::free_bytes;
use super::{file_error, wall_clock_ms};
use crate::service::Pulse;
use crate::wire::Refusal;
use blocks::BlockFile;
pub use blocks::{BLOCK_BYTES, Block, BlockFiller, Summing, Whole};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Name of the folder in the data directory.
pub(super) const FOLDER: &str = "spool";
/// How a whole file's name ends.
const WHOLE: &str = ".dcm";
/// How the name of one that is being written ends.
const UNFINISHED: &str = ".part";
/// Bytes of randomness in a name. The time before them keeps the index of names growing at its end.
const NAME_BYTES: usize = 8;
/// Room there should be beyond what must stay free before a sender may begin, in bytes: most objects fit into it.
const HEADROOM: u64 = 64 << 20;
/// Longest file, in bytes: far longer than any object modalities make.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// How the reason begins for which a message is parked whose image cannot be read from the spool. When the image comes
/// again, the message is sent.
pub const IMAGE_LOST: &str = "image-lost";

/// The folder and what is known of it. Cheap to clone.
#[derive(Clone)]
pub struct Spool(Arc<Shelf>);

struct Shelf {
    folder: PathBuf,
    directory: File,
    /// Bytes always left free on the disk, and how much room a new sender should find.
    free_min: u64,
    headroom: u64,
    /// Bytes of all files, the unfinished ones too. One on record counts as what it was when it came, also when it was
    /// cut or lost meanwhile.
    bytes: AtomicU64,
    /// Bytes all files may have before the journal counts as full; set by whoever knows what else there is.
    allowed: AtomicU64,
    /// A sender of images was there.
    expected: AtomicBool,
    /// Whole files of which it is not known whether a row speaks of them, with their bytes: their commit failed, or
    /// their row may have gone while they were replaced.
    doubted: Mutex<Vec<(String, u64)>>,
    random: SystemRandom,
    syncs: Syncs,
}

/// A file that is being written. Dropped unfinished, it is removed.
pub struct SpoolFile {
    spool: Spool,
    id: String,
    file: BlockFile,
    written: u64,
    is_finished: bool,
}

/// A whole, durable file that is not in custody yet. Dropped like that, it is removed.
pub struct Spooled {
    /// Name of the file in the spool.
    pub name: String,
    /// Bytes before the data set: preamble, `DICM` and group 2.
    pub header_bytes: u64,
    /// Bytes of the data set.
    pub bytes: u64,
    /// SHA-256 of the data set.
    pub digest: [u8; 32],
    spool: Spool,
    is_settled: AtomicBool,
}

impl Spool {
    /// Opens, or makes, the folder and removes what no row speaks of: unfinished files, and whole ones whose custody
    /// was never committed or whose row is gone.
    pub(super) fn open(
        data: &Path,
        (free_min, headroom): (u64, u64),
        conn: &Connection,
        progress: &Pulse,
    ) -> Result<Spool, OpenError> {
        let folder = data.join(FOLDER);
        let failed = |source| file_error("cannot use the spool", &folder, source);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let directory = File::open(&folder).map_err(failed)?;
        let mut removed = 0;
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            progress.beat();
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(UNFINISHED) || name.ends_with(WHOLE) && !is_spoken_of(conn, &name)? {
                std::fs::remove_file(entry.path()).map_err(failed)?;
                removed += 1;
            }
        }
        if removed > 0 {
            directory.sync_all().map_err(failed)?;
            tracing::info!(files = removed, "removed images that were never acknowledged, or not needed any more");
        }
        Ok(Spool(Arc::new(Shelf {
            folder,
            directory,
            free_min,
            headroom: headroom.min(HEADROOM),
            bytes: AtomicU64::new(bytes_on_record(conn)?),
            allowed: AtomicU64::new(u64::MAX),
            expected: AtomicBool::new(false),
            doubted: Mutex::default(),
            random: SystemRandom::new(),
            syncs: Syncs::default(),
        })))
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Begins a file.
    ///
    /// # Errors
    /// `StorageFull` when the disk has no room but what must stay free; what the system says otherwise.
    pub fn create(&self) -> io::Result<SpoolFile> {
        self.look_for_room()?;
        let mut name = [0; NAME_BYTES];
        self.0.random.fill(&mut name).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let id = format!("{:012x}{:016x}", wall_clock_ms(), u64::from_be_bytes(name));
        let file = BlockFile::create(self.path(&format!("{id}{UNFINISHED}")))?;
        Ok(SpoolFile { spool: self.clone(), id, file, written: 0, is_finished: false })
    }

    /// Writes an instance whose bytes are all there.
    #[cfg(test)]
    pub(crate) fn keep(&self, header: &[u8], data_set: &[u8]) -> io::Result<Spooled> {
        let mut file = self.create()?;
        let mut filler = BlockFiller::new(header);
        let mut rest = filler.take(data_set);
        while !rest.is_empty() {
            file.write(&filler.exchange(Block::new()))?;
            rest = filler.take(rest);
        }
        let (last, summing) = filler.finish();
        file.finish(&last, || Ok(summing.end(&last)))
    }

    /// Where a file of this name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.folder.join(name)
    }

    /// True when there is room for what must stay free and for an object besides.
    pub fn has_room(&self) -> bool {
        self.has_room_for(self.0.headroom)
    }

    /// Notes that a sender of images was there.
    pub(super) fn expect_images(&self) {
        self.0.expected.store(true, Ordering::Relaxed);
    }

    /// True when senders of images are turned away, or would be.
    pub(super) fn refuses(&self) -> bool {
        let expects_images = self.0.expected.load(Ordering::Relaxed) || self.bytes() > 0;
        expects_images && !self.has_room()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Says how many bytes all files may have.
    pub(super) fn allow(&self, bytes: u64) {
        self.0.allowed.store(bytes, Ordering::Relaxed);
    }

    /// Removes files in doubt, unless a row speaks of them after all. To be called once the database was
    /// recovered.
    pub(super) fn settle_doubted(&self, conn: &Connection) -> Result<(), JournalError> {
        let mut doubted = lock(&self.0.doubted);
        while let Some((name, bytes)) = doubted.last() {
            if !is_spoken_of(conn, name)? {
                self.remove(name, *bytes);
            }
            doubted.pop();
        }
        Ok(())
    }

    /// Removes a file whose row is gone, which counted for so many bytes. One that cannot be removed now is removed at
    /// the next start.
    pub(super) fn remove(&self, name: &str, bytes: u64) {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => self.less(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.less(bytes),
            Err(error) => tracing::warn!("an image that is not needed any more cannot be removed: {error}"),
        }
    }

    /// What is being written counts: many large objects at once must not fill the disk before the first is whole.
    fn look_for_room(&self) -> io::Result<()> {
        match self.has_room_for(0) {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.bytes().saturating_add(bytes) < self.0.allowed.load(Ordering::Relaxed)
            && free_bytes(&self.0.folder) >= self.0.free_min.saturating_add(bytes)
    }

    fn less(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.syncs.join(|| self.0.directory.sync_all())
    }
}

impl SpoolFile {
    /// Appends a full block.
    ///
    /// # Errors
    /// As those of [`Spool::create`]. The file is then of no use; drop it.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        self.count(block)?;
        self.spool.look_for_room()?;
        self.file.write(block)
    }

    /// Appends the last block and makes the file durable under its final name. Blocks for as long as the disk takes.
    /// `whole` is asked once it has: what is known of the instance may be found out meanwhile.
    ///
    /// # Errors
    /// What the system says, or `whole`; the file is gone then.
    pub fn finish(mut self, last: &Block, whole: impl FnOnce() -> io::Result<Whole>) -> io::Result<Spooled> {
        self.count(last)?;
        self.file.finish(last)?;
        let Whole { header_bytes, bytes, digest } = whole()?;
        crash::point("spool-written");
        let name = format!("{}{WHOLE}", self.id);
        std::fs::rename(self.unfinished(), self.spool.path(&name))?;
        self.is_finished = true;
        let (spool, is_settled) = (self.spool.clone(), AtomicBool::new(false));
        let spooled = Spooled { name, header_bytes, bytes, digest, spool, is_settled };
        crash::point("spool-renamed");
        self.spool.sync_directory()?;
        crash::point("spool-durable");
        Ok(spooled)
    }

    fn count(&mut self, block: &Block) -> io::Result<()> {
        let bytes = block.bytes().len() as u64;
        self.written += bytes;
        self.spool.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.written {
            ..=FILE_BYTES_MAX => Ok(()),
            _ => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn unfinished(&self) -> PathBuf {
        self.spool.path(&format!("{}{UNFINISHED}", self.id))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed now is removed at the next start.
            let _ = std::fs::remove_file(self.unfinished());
            self.spool.less(self.written);
        }
    }
}

impl Spooled {
    /// True when a file of this name in the same spool has the same data set behind so many bytes of header. Reads all
    /// of it.
    ///
    /// # Errors
    /// When the process lacks what it takes to look. A file that is damaged or gone is none.
    pub(super) fn is_whole_in(&self, name: &str, header_bytes: u64) -> Result<bool, JournalError> {
        match read_digest(&self.spool.path(name), header_bytes, &|| true) {
            Ok(found) => Ok(found == (self.digest, self.bytes)),
            Err(JournalError::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the place of the file of this name, which counts for as many bytes, whether that is whole, damaged or gone: durable when it returns.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn replace(&self, name: &str) -> io::Result<()> {
        crash::point("spool-replacing");
        std::fs::rename(self.spool.path(&self.name), self.spool.path(name))?;
        crash::point("spool-moved");
        self.is_settled.store(true, Ordering::Relaxed);
        self.spool.less(self.length());
        // Its row may be gone meanwhile, and the bytes that row counted with it.
        lock(&self.spool.0.doubted).push((name.to_string(), 0));
        self.spool.sync_directory()?;
        crash::point("spool-replaced");
        Ok(())
    }

    /// A row speaks of it now, or none does, and it is removed.
    pub(super) fn settle(&self, is_kept: bool) {
        if !self.is_settled.swap(true, Ordering::Relaxed) && !is_kept {
            self.spool.remove(&self.name, self.length());
        }
    }

    /// A row may speak of it: that will be known when the database was recovered.
    pub(super) fn doubt(&self) {
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            lock(&self.spool.0.doubted).push((self.name.clone(), self.length()));
        }
    }

    fn length(&self) -> u64 {
        self.header_bytes + self.bytes
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// What a peer is told when its bytes cannot be spooled.
pub fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Refusal::Full,
        _ => Refusal::Storage,
    }
}

fn is_spoken_of(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM instance WHERE spool = ?1")?.exists([name])
}

fn bytes_on_record(conn: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(i.header + e.bytes), 0) FROM instance i JOIN entry e ON e.id = i.entry";
    conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a file lies in the spool of a data directory.
pub(super) fn path_in(data: &Path, name: &str) -> PathBuf {
    data.join(FOLDER).join(name)
}

/// What it means that a file of the spool cannot be read: damage, which sets that one aside and stops nobody, unless it
/// is the process that lacks something.
pub(super) fn lost(error: &io::Error) -> JournalError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => JournalError::Storage(error.to_string()),
        _ => JournalError::Damaged,
    }
}

/// SHA-256 of the data set of a file, and how many bytes it has. Gives up as soon as `is_wanted` says no more.
///
/// # Errors
/// `Closed` when it gave up.
pub(super) fn read_digest(
    path: &Path,
    header_bytes: u64,
    is_wanted: &dyn Fn() -> bool,
) -> Result<([u8; 32], u64), JournalError> {
    let mut file = File::open(path).map_err(|error| lost(&error))?;
    file.seek(SeekFrom::Start(header_bytes)).map_err(|error| lost(&error))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut piece, mut bytes) = (vec![0; 128 << 10], 0);
    loop {
        if !is_wanted() {
            return Err(JournalError::Closed);
        }
        let count = file.read(&mut piece).map_err(|error| lost(&error))?;
        if count == 0 {
            break;
        }
        context.update(piece.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((digest, bytes))
}

/// Syncs of the directory that several associations share: whoever comes while one runs is served by the next one,
/// together with all others who came meanwhile. A lone one never waits.
#[derive(Default)]
struct Syncs {
    state: Mutex<Gathering>,
    ended: Condvar,
}

#[derive(Default)]
struct Gathering {
    /// The next sync, which whoever comes now waits for.
    next: Arc<Round>,
    is_running: bool,
}

/// How one sync ended: the system's error number when it failed.
#[derive(Default)]
struct Round(OnceLock<Result<(), i32>>);

impl Syncs {
    /// Returns once a sync that began after this call has ended.
    fn join(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let round = state.next.clone();
        loop {
            if let Some(outcome) = round.0.get() {
                return outcome.map_err(io::Error::from_raw_os_error);
            }
            if !state.is_running {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_running = true;
        state.next = Arc::default();
        drop(state);
        let outcome = sync().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        let _ = round.0.set(outcome);
        lock(&self.state).is_running = false;
        self.ended.notify_all();
        outcome.map_err(io::Error::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// As much of the tables as the spool looks at.
    fn rows() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE entry(id INTEGER PRIMARY KEY, bytes INTEGER);
             CREATE TABLE instance(entry INTEGER, spool TEXT, header INTEGER)";
        conn.execute_batch(tables).unwrap();
        conn
    }

    fn spool(data: &Path) -> Spool {
        Spool::open(data, (0, 0), &rows(), &Pulse::default()).unwrap()
    }

    fn full_block() -> Block {
        BlockFiller::new(&[7; BLOCK_BYTES]).exchange(Block::new())
    }

    fn files(spool: &Spool) -> Vec<String> {
        let entries = std::fs::read_dir(&spool.0.folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_private_and_visible_only_when_it_is_whole() {
        let data = tempfile::tempdir().unwrap();
        let spool = spool(data.path());
        let file = spool.create().unwrap();
        assert!(matches!(&files(&spool)[..], [name] if name.ends_with(UNFINISHED)));
        drop(file);
        let spooled = spool.keep(b"header", b"data set").unwrap();
        assert_eq!((spooled.header_bytes, spooled.bytes, spool.bytes()), (6, 8, 14));
        assert_eq!(spooled.digest, digest::digest(&digest::SHA256, b"data set").as_ref());
        assert_eq!(read_digest(&spool.path(&spooled.name), 6, &|| true).unwrap(), (spooled.digest, 8));
        assert_eq!(files(&spool), [spooled.name.as_str()]);
        assert_eq!(std::fs::read(spool.path(&spooled.name)).unwrap(), b"headerdata set");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&spool.0.folder), mode(&spool.path(&spooled.name))), (0o700, 0o600));
    }

    #[test]
    fn what_is_not_finished_or_not_kept_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let spool = spool(data.path());
        let mut cut_short = spool.create().unwrap();
        cut_short.write(&full_block()).unwrap();
        assert_eq!((files(&spool).len(), spool.bytes()), (1, BLOCK_BYTES as u64));
        drop(cut_short);
        drop(spool.keep(b"header", b"").unwrap());
        assert_eq!((files(&spool), spool.bytes()), (vec![], 0));
        let kept = spool.keep(b"header", b"").unwrap();
        kept.settle(true);
        let name = kept.name.clone();
        drop(kept);
        assert_eq!((files(&spool), spool.bytes()), (vec![name], 6));
    }

    #[test]
    fn at_start_a_file_without_a_row_is_removed_and_one_with_a_row_stays() {
        let data = tempfile::tempdir().unwrap();
        let conn = rows();
        conn.execute_batch("INSERT INTO entry VALUES (1, 3); INSERT INTO instance VALUES (1, 'a.dcm', 2)").unwrap();
        let folder = data.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        for name in ["a.dcm", "b.dcm", "c.part"] {
            std::fs::write(folder.join(name), "12345").unwrap();
        }
        let spool = Spool::open(data.path(), (0, 0), &conn, &Pulse::default()).unwrap();
        assert_eq!((files(&spool), spool.bytes()), (vec!["a.dcm".to_string()], 5));
    }

    #[test]
    fn a_file_that_is_replaced_while_its_row_goes_is_gone_in_the_end() {
        let make = |spool: &Spool| spool.keep(b"header", b"data set").unwrap();
        for retention_is_first in [false, true] {
            let data = tempfile::tempdir().unwrap();
            let spool = spool(data.path());
            let (old, new) = (make(&spool), make(&spool));
            old.settle(true);
            if retention_is_first {
                spool.remove(&old.name, 14);
            }
            new.replace(&old.name).unwrap();
            assert_eq!(files(&spool), [old.name.as_str()]);
            if !retention_is_first {
                spool.remove(&old.name, 14);
            }
            spool.settle_doubted(&rows()).unwrap();
            assert_eq!((files(&spool), spool.bytes()), (vec![], 0), "retention first: {retention_is_first}");
        }
    }

    #[test]
    fn i7_without_room_nothing_begins_and_what_has_begun_ends() {
        let data = tempfile::tempdir().unwrap();
        let full = Spool::open(data.path(), (u64::MAX, 0), &rows(), &Pulse::default()).unwrap();
        assert_eq!(refusal(&full.create().err().unwrap()), Refusal::Full);
        assert!(!full.has_room());
        let mut begun = spool(data.path()).create().unwrap();
        begun.spool = full;
        let error = begun.write(&full_block()).unwrap_err();
        assert_eq!(refusal(&error), Refusal::Full);
    }

    #[test]
    fn who_comes_while_the_directory_is_synced_is_served_by_the_next_sync_with_all_others() {
        let syncs = Arc::new(Syncs::default());
        let (began, begun) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let first = std::thread::spawn({
            let syncs = syncs.clone();
            move || {
                syncs.join(|| {
                    began.send(()).unwrap();
                    ends.recv().unwrap();
                    Ok(())
                })
            }
        });
        begun.recv().unwrap();
        let ran = Arc::new(AtomicU64::new(0));
        let later: Vec<_> = (0..4)
            .map(|_| {
                let (syncs, ran) = (syncs.clone(), ran.clone());
                std::thread::spawn(move || {
                    syncs.join(|| {
                        ran.fetch_add(1, Ordering::Relaxed);
                        Err(io::Error::from_raw_os_error(libc::EIO))
                    })
                })
            })
            .collect();
        // The four hold the next round, and the gathering itself does.
        while Arc::strong_count(&lock(&syncs.state).next) < 5 {
            std::thread::yield_now();
        }
        end.send(()).unwrap();
        assert!(first.join().unwrap().is_ok());
        assert!(later.into_iter().all(|thread| thread.join().unwrap().is_err()), "all of them hear of the failure");
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    }
}
