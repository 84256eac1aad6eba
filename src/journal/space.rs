//! How much room is left, and the reserve that keeps deliveries going when there is none.
//!
//! A full disk must not stop what empties it: noting an EHR's answer needs a little room too. So a file that
//! holds nothing keeps that room back. When the disk is full it is removed for deliveries and operators, never for new custody, and
//! it is made again when there is space.

use super::config::Config;
use super::error::JournalError;
use super::spool::Spool;
use jiff::Timestamp;
use rusqlite::Connection;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file that keeps the journal its last room.
pub(super) const RESERVE: &str = "journal.reserve";
/// Largest write-ahead log before the writer checkpoints even under load, in bytes; on small disks a 32nd of the disk.
const WAL_BYTES: u64 = 16 << 20;
/// Largest size of the reserve, in bytes; on small disks a 16th of the disk. More than the log may hold, so that there
/// is always room to copy the log into the database file, without which the log could only grow.
const RESERVE_BYTES: u64 = 20 << 20;
/// The disk is asked at most this often.
const MEASURE_EVERY: Duration = Duration::from_millis(50);
/// Share of the quota at which a warning comes, in percent.
const TIGHT_PERCENT: u64 = 80;
/// Share of the quota at which new custody is refused, in percent.
const FULL_PERCENT: u64 = 95;
/// Share of the quota at which images are refused, in percent: results of the laboratory are small and still find room.
const FULL_OF_IMAGES_PERCENT: u64 = 90;
/// So many parts of four of what must stay free on the disk must be there for images, for the same reason.
const FREE_FOR_IMAGES: u64 = 5;
/// Images are said to be refused until there was room for them for so long: what goes lets in one, and no more.
const ROOM_FOR_IMAGES_FOR: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// How full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing to do.
    Ample,
    /// A person is warned, and delivered results are removed before their time.
    Tight,
    /// New custody is refused.
    Full,
}

/// Bytes that may still be written below `path`, or below the nearest folder above it that is there; 0 when it cannot
/// be told.
pub fn free_bytes(path: &Path) -> u64 {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    Disk::of(there).free
}

/// The view of the disk below the data directory.
pub(super) struct Space {
    data: PathBuf,
    spool: Spool,
    quota: u64,
    free_min: u64,
    level: Level,
    measured: Option<Instant>,
    refusing: Option<Refusing>,
    disk: Disk,
}

/// Images are refused.
#[derive(Clone, Copy)]
struct Refusing {
    since_ms: i64,
    /// When there was no room for them last.
    last: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    total: u64,
    free: u64,
}

impl Space {
    pub(super) fn new(data: &Path, config: &Config, spool: Spool) -> Self {
        let disk = Disk::of(data);
        Space {
            data: data.to_path_buf(),
            spool,
            quota: config.quota_mb.saturating_mul(MIB),
            free_min: free_min(config, &disk),
            level: Level::Ample,
            measured: None,
            refusing: None,
            disk,
        }
    }

    /// Bytes the write-ahead log may have before a checkpoint is due.
    pub(super) fn wal_max(&self) -> u64 {
        WAL_BYTES.min(self.disk.total / 32)
    }

    /// Looks again, unless it did just now. Free pages inside the database count as free: they are reused first.
    pub(super) fn measure(&mut self, conn: &Connection, now: Instant) -> Result<Level, JournalError> {
        if self.measured.is_some_and(|at| now.duration_since(at) < MEASURE_EVERY) {
            return Ok(self.level);
        }
        self.measured = Some(now);
        self.disk = Disk::of(&self.data);
        let pragma = |name: &str| conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map(i64::unsigned_abs);
        let (page, pages, reusable) = (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
        let rows = pages.saturating_sub(reusable).saturating_mul(page);
        if self.quota > 0 {
            self.spool.allow((self.quota / 100 * FULL_OF_IMAGES_PERCENT).saturating_sub(rows));
        }
        let used = rows.saturating_add(self.spool.bytes());
        let free = self.disk.free.saturating_add(reusable.saturating_mul(page));
        self.look_for_images(now, used, free);
        // What was delivered goes before its time here as well.
        let least = if self.refusing.is_some() { Level::Tight } else { Level::Ample };
        let level = judge(used, self.quota, free, self.free_min).max(least);
        if level > self.level {
            match level {
                Level::Full => tracing::error!(
                    event = "journal-full",
                    used_mb = used / MIB,
                    free_mb = free / MIB,
                    "the journal is full: instruments keep their results until deliveries make room"
                ),
                _ => tracing::warn!(
                    event = "journal-filling",
                    used_mb = used / MIB,
                    free_mb = free / MIB,
                    "the journal is filling up"
                ),
            }
        } else if level == Level::Ample && self.level != Level::Ample {
            tracing::info!(event = "journal-roomy", free_mb = free / MIB, "the journal has room again");
        }
        self.level = level;
        Ok(level)
    }

    /// Since when images are refused, Unix milliseconds.
    pub(super) fn images_refused_since(&self) -> Option<i64> {
        self.refusing.map(|refusing| refusing.since_ms)
    }

    fn look_for_images(&mut self, now: Instant, used: u64, free: u64) {
        match (self.spool.refuses(), &mut self.refusing) {
            (true, Some(refusing)) => refusing.last = now,
            (true, None) => {
                self.refusing = Some(Refusing { since_ms: Timestamp::now().as_millisecond(), last: now });
                tracing::error!(
                    event = "images-refused",
                    used_mb = used / MIB,
                    free_mb = free / MIB,
                    "images are refused: modalities keep theirs until deliveries make room"
                );
            }
            (false, Some(refusing)) if now.duration_since(refusing.last) >= ROOM_FOR_IMAGES_FOR => {
                self.refusing = None;
                tracing::info!(event = "images-taken", free_mb = free / MIB, "images are taken again");
            }
            (false, _) => {}
        }
    }

    /// Forgets the last measurement, so that the next one looks.
    pub(super) fn look_again(&mut self) {
        self.measured = None;
    }

    /// Gives the reserve up. True when there was one.
    pub(super) fn release_reserve(&self) -> bool {
        std::fs::remove_file(self.reserve()).is_ok()
    }

    /// Makes the reserve when it is missing and there is room for it twice.
    pub(super) fn keep_reserve(&self) {
        let (path, wanted) = (self.reserve(), RESERVE_BYTES.min(self.disk.total / 16));
        let present = std::fs::metadata(&path).is_ok_and(|m| m.len() >= wanted);
        if present || Disk::of(&self.data).free < wanted.saturating_mul(2) {
            return;
        }
        let allocate = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            // SAFETY: the descriptor is open for writing for as long as the call lasts.
            match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, wanted.try_into().unwrap_or(0)) } {
                0 => Ok(()),
                error => Err(std::io::Error::from_raw_os_error(error)),
            }
        };
        if allocate().is_err() {
            self.release_reserve();
        }
    }

    fn reserve(&self) -> PathBuf {
        self.data.join(RESERVE)
    }
}

impl Disk {
    /// The file system `path` is on; all zeros when it cannot be asked, which refuses nothing.
    // How wide its numbers are depends on the machine.
    #[allow(clippy::useless_conversion)]
    fn of(path: &Path) -> Disk {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Disk::default() };
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is a C string and `found` has room for what the call writes; it is read only on success.
        let found = unsafe {
            if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
                return Disk::default();
            }
            found.assume_init()
        };
        let block = u64::from(found.f_frsize);
        let bytes = |blocks| block.saturating_mul(u64::from(blocks));
        Disk { total: bytes(found.f_blocks), free: bytes(found.f_bavail) }
    }
}

/// Bytes that images leave free on the disk of the data directory, and how much more a sender of them should find.
pub(super) fn spool_limits(data: &Path, config: &Config) -> (u64, u64) {
    let disk = Disk::of(data);
    let quota = config.quota_mb.saturating_mul(MIB);
    let room = if quota == 0 { disk.total } else { disk.total.min(quota) };
    (free_min(config, &disk) / 4 * FREE_FOR_IMAGES, room / 16)
}

fn free_min(config: &Config, disk: &Disk) -> u64 {
    config.free_min_mb.saturating_mul(MIB).min(disk.total / 20)
}

/// Bytes free where the data directory lies, above what must stay free there; none when the system does not say.
pub fn room(data: &Path, config: &Config) -> Option<u64> {
    let disk = Disk::of(data);
    (disk.total > 0).then(|| disk.free.saturating_sub(free_min(config, &disk)))
}

/// The stricter of what quota and free space say; a zero limit says nothing.
fn judge(used: u64, quota: u64, free: u64, free_min: u64) -> Level {
    let share = |percent: u64| quota / 100 * percent;
    let by_quota = match quota {
        0 => Level::Ample,
        _ if used >= share(FULL_PERCENT) => Level::Full,
        _ if used >= share(TIGHT_PERCENT) => Level::Tight,
        _ => Level::Ample,
    };
    let by_disk = match free_min {
        0 => Level::Ample,
        _ if free < free_min => Level::Full,
        _ if free < free_min.saturating_mul(2) => Level::Tight,
        _ => Level::Ample,
    };
    by_quota.max(by_disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Pulse;

    /// As much of the tables as is looked at here.
    fn rows() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE entry(id, bytes); CREATE TABLE instance(entry, spool, header)").unwrap();
        conn
    }

    #[test]
    fn the_stricter_of_quota_and_free_space_counts_and_zero_is_off() {
        assert_eq!(judge(79, 100, 1000, 10), Level::Ample);
        assert_eq!(judge(0, 0, 0, 0), Level::Ample);
        assert_eq!(judge(8_000, 10_000, 1000, 10), Level::Tight);
        assert_eq!(judge(9_500, 10_000, 1000, 10), Level::Full);
        assert_eq!(judge(0, 10_000, 9, 10), Level::Full);
        assert_eq!(judge(0, 10_000, 19, 10), Level::Tight);
    }

    #[test]
    fn that_images_are_refused_is_known_with_its_hour_until_there_is_room_for_a_while() {
        let data = tempfile::tempdir().unwrap();
        let conn = rows();
        let spool = Spool::open(data.path(), (0, 0), &conn, &Pulse::default()).unwrap();
        let config = Config { quota_mb: 1, free_min_mb: 0, ..Config::default() };
        let mut space = Space::new(data.path(), &config, spool.clone());
        let began = Timestamp::now().as_millisecond();
        let mut now = Instant::now();
        let mut look = |space: &mut Space, after: Duration| {
            now += after;
            (space.measure(&conn, now).unwrap(), space.images_refused_since())
        };
        assert_eq!(look(&mut space, MEASURE_EVERY), (Level::Ample, None));
        // 92 % of the quota: results still find room.
        let image = spool.keep(b"", &vec![0; (MIB / 100 * 92) as usize]).unwrap();
        let (level, since) = look(&mut space, MEASURE_EVERY);
        assert_eq!(level, Level::Tight);
        assert!(since.is_some_and(|since| since >= began), "{since:?}");
        assert_eq!(look(&mut space, ROOM_FOR_IMAGES_FOR).1, since, "the hour it began");
        spool.remove(&image.name, image.bytes);
        assert_eq!(look(&mut space, MEASURE_EVERY).1, since, "one that goes makes room for one");
        assert_eq!(look(&mut space, ROOM_FOR_IMAGES_FOR), (Level::Ample, None));
    }

    #[test]
    fn where_no_images_come_nobody_is_told_that_they_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let conn = rows();
        let spool = Spool::open(data.path(), (u64::MAX, 0), &conn, &Pulse::default()).unwrap();
        let mut space = Space::new(data.path(), &Config { free_min_mb: 0, ..Config::default() }, spool.clone());
        space.measure(&conn, Instant::now()).unwrap();
        assert_eq!(space.images_refused_since(), None);
        spool.expect_images();
        space.measure(&conn, Instant::now() + MEASURE_EVERY).unwrap();
        assert!(space.images_refused_since().is_some());
    }

    #[test]
    fn the_reserve_takes_real_room_and_is_given_up_once() {
        let data = tempfile::tempdir().unwrap();
        let conn = rows();
        let spool = Spool::open(data.path(), (0, 0), &conn, &Pulse::default()).unwrap();
        let space = Space::new(data.path(), &Config::default(), spool);
        space.keep_reserve();
        assert_eq!(std::fs::metadata(space.reserve()).unwrap().len(), RESERVE_BYTES.min(space.disk.total / 16));
        assert!(space.release_reserve());
        assert!(!space.release_reserve());
    }
}
