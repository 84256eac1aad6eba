//! Where accounts are kept: one file in the data directory, which the command and the console both write. Nothing of it
//! is decided here. Where this is root, the work is done with the rights of whom the data directory belongs to.

use super::account::Unread;
use super::{Accounts, Refusal};
use crate::disk;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

const FILE: &str = "console.json";
/// Held by whoever changes the file, for as long as that takes.
const LOCK: &str = "console.lock";
/// What a factory reset erases.
pub const NAMES: &[&str] = &[FILE, LOCK];
/// Nobody waits longer for whoever changes it now, which takes a few syncs of the disk.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// A larger file is none of ours, bytes: 64 accounts have a tenth of that.
const FILE_MAX: u64 = 1 << 20;

/// Why accounts cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The disk refuses.
    #[error("{file}: {source}")]
    Disk {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: Error,
    },
    /// The file is not one of ours any more.
    #[error(
        "{file} is damaged ({why}): nobody gets in; remove it and make the accounts anew (`afferent console user add`)"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where.
        why: String,
    },
    /// A later release wrote it, in a way that this one does not know.
    #[error(
        "{file} is of a later release (version {version} of the file): nobody gets in while this one runs, and it stays as \
         it is for the later one"
    )]
    Later {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Nothing that nobody can guess is to be had.
    #[error("the system has no random numbers")]
    NoRandom,
    /// It cannot be noted who asked for it, so it is not done.
    #[error("the record of this box cannot be written, so it is not done: {0}")]
    Unnoted(Error),
    /// It is not to be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Random bytes of the system.
///
/// # Errors
/// [`AccessError::NoRandom`].
pub fn random<const N: usize>() -> Result<[u8; N], AccessError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AccessError::NoRandom)?;
    Ok(bytes)
}

/// As long as this is held nobody changes accounts of this data directory, so that what a reset erases is not written once
/// more by who had read it before. None where it cannot be held in time: nothing keeps a reset from erasing.
pub(crate) fn hold_still(data: &Path) -> Option<File> {
    let lock = data.join(LOCK);
    let held = disk::as_owner_of(data, || hold(&lock, HOLD_MAX)).flatten();
    held.inspect_err(|error| tracing::warn!("{}: {error}; it is erased all the same", lock.display())).ok()
}

/// Holds the lock that lies there now: a reset may take the one away that was waited for.
fn hold(lock: &Path, wait: Duration) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    disk::open_locked(lock, &options, wait)
}

/// The accounts of a data directory.
pub struct AccountsFile {
    data: PathBuf,
    file: PathBuf,
    lock: PathBuf,
    hold_max: Duration,
    /// What was read last, and of which file.
    last: Mutex<Option<(Seen, Arc<Accounts>)>>,
}

/// A file that was put in the place of another has another number.
type Seen = (u64, i64, i64, u64);

impl AccountsFile {
    /// Those of this data directory.
    pub fn of(data: &Path) -> AccountsFile {
        let (file, lock) = (data.join(FILE), data.join(LOCK));
        AccountsFile { data: data.to_path_buf(), file, lock, hold_max: HOLD_MAX, last: Mutex::new(None) }
    }

    /// The accounts as they are now; none without a file.
    ///
    /// # Errors
    /// [`AccessError::Disk`], [`AccessError::Damaged`], [`AccessError::Later`].
    pub fn now(&self) -> Result<Arc<Accounts>, AccessError> {
        disk::as_owner_of(&self.data, || self.read_now()).map_err(|source| self.failed(source))?
    }

    fn read_now(&self) -> Result<Arc<Accounts>, AccessError> {
        let seen = match std::fs::metadata(&self.file) {
            Ok(about) => (about.ino(), about.mtime(), about.mtime_nsec(), about.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Arc::default()),
            Err(source) => return Err(self.failed(source)),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, accounts)) = &*last
            && *before == seen
        {
            return Ok(accounts.clone());
        }
        let accounts = Arc::new(self.read()?);
        *last = Some((seen, accounts.clone()));
        Ok(accounts)
    }

    /// Changes accounts: what is decided is on the disk when this returns. After an error nothing is changed, but where a
    /// disk fails so late that what was written can be read all the same. Nothing is changed either where the lock was taken away meanwhile, as by a reset that waited for it in vain: what that erased stays
    /// erased.
    ///
    /// # Errors
    /// [`AccessError`], and what was decided against.
    pub fn change<T: Send, E: From<AccessError> + Send>(
        &self,
        decide: impl FnOnce(&mut Accounts) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        disk::as_owner_of(&self.data, || {
            let locked = |source| AccessError::Disk { file: self.lock.clone(), source };
            let held = hold(&self.lock, self.hold_max).map_err(locked)?;
            let mut accounts = self.read()?;
            let decided = decide(&mut accounts)?;
            let text = Zeroizing::new(accounts.text());
            if !disk::lies_at(&held, &self.lock) {
                return Err(locked(Error::other("it was taken away meanwhile, so nothing is changed")).into());
            }
            disk::replace_secret(&self.file, text.as_bytes()).map_err(|source| self.failed(source))?;
            Ok(decided)
        })
        .map_err(|source| self.failed(source))?
    }

    fn read(&self) -> Result<Accounts, AccessError> {
        let damaged = |why: String| AccessError::Damaged { file: self.file.clone(), why };
        let mut text = Zeroizing::new(String::new());
        let read = disk::open_regular(&self.file).and_then(|open| open.take(FILE_MAX + 1).read_to_string(&mut text));
        match read {
            Ok(length) if length as u64 > FILE_MAX => return Err(damaged("it is larger than any of ours".to_string())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Accounts::default()),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged("it is no text".to_string())),
            Err(source) => return Err(self.failed(source)),
        }
        Accounts::parse(&text).map_err(|unread| match unread {
            Unread::Damaged(why) => damaged(why),
            Unread::Later(version) => AccessError::Later { file: self.file.clone(), version },
        })
    }

    fn failed(&self, source: Error) -> AccessError {
        AccessError::Disk { file: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Code, Role, Stamp};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn add(file: &AccountsFile, name: &str) -> Result<(), AccessError> {
        let add = |all: &mut Accounts| all.add(name, Role::View, &Code::of(&[1; 15]), Stamp::of(&[1; 16]), 0);
        file.change(|all| add(all).map_err(AccessError::from))
    }

    #[test]
    fn what_one_process_changes_the_other_sees_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        assert!(file.now().unwrap().is_empty());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let other = AccountsFile::of(dir.path());
                scope.spawn(move || {
                    (0..4).for_each(|n| add(&other, &format!("{writer}-{n}")).unwrap());
                });
            }
        });
        assert_eq!(file.now().unwrap().all().count(), 32);
        assert!(matches!(add(&file, "0-0"), Err(AccessError::Refused(Refusal::There(_)))));
        let about = std::fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!(about.mode() & 0o777, 0o600);
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, NAMES, "a reset knows all that is made here");
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(file.now().unwrap().is_empty(), "after a reset nobody gets in");
    }

    #[test]
    fn who_waits_while_a_reset_erases_finds_nothing_to_write_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        let lock = dir.path().canonicalize().unwrap().join(LOCK);
        let open = || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            all.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|leads| leads == lock)).count()
        };
        for is_there in [false, true] {
            if is_there {
                add(&file, "anna").unwrap();
            }
            let held = hold_still(dir.path());
            assert!(held.is_some(), "also where nobody has made an account yet");
            std::thread::scope(|scope| {
                let other = AccountsFile::of(dir.path());
                let nobody = |all: &mut Accounts| match all.is_empty() {
                    true => Err(AccessError::Refused(Refusal::Invitation)),
                    false => Ok(()),
                };
                let waits = scope.spawn(move || other.change(nobody));
                // Whoever waits has the lock open that is erased now.
                while open() < 2 {
                    std::thread::yield_now();
                }
                NAMES.iter().for_each(|name| drop(std::fs::remove_file(dir.path().join(name))));
                // Another one comes meanwhile, with the lock that takes its place.
                let third = hold(&dir.path().join(LOCK), HOLD_MAX).unwrap();
                drop(held);
                drop(third);
                assert!(matches!(waits.join().unwrap(), Err(AccessError::Refused(Refusal::Invitation))));
            });
            assert!(!dir.path().join(FILE).exists());
        }
    }

    #[test]
    fn i10_nobody_waits_for_ever_for_who_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile { hold_max: Duration::from_millis(20), ..AccountsFile::of(dir.path()) };
        let held = hold_still(dir.path());
        let why = add(&file, "anna").unwrap_err().to_string();
        assert!(why.contains(LOCK) && why.contains("somebody else holds it"), "{why}");
        assert!(file.now().unwrap().is_empty());
        drop(held);
        add(&file, "anna").unwrap();
    }

    #[test]
    fn what_a_reset_erased_without_the_lock_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        add(&file, "anna").unwrap();
        // A reset that waited in vain for who decides so long erases all the same.
        let changed = file.change(|_| {
            NAMES.iter().for_each(|name| std::fs::remove_file(dir.path().join(name)).unwrap());
            Ok::<(), AccessError>(())
        });
        let why = changed.unwrap_err().to_string();
        assert!(why.contains(LOCK) && why.contains("taken away"), "{why}");
        assert!(!dir.path().join(FILE).exists() && file.now().unwrap().is_empty());
    }

    #[test]
    fn what_lies_in_the_place_of_the_lock_leads_nowhere_and_keeps_no_reset_from_erasing() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(LOCK)).unwrap();
        assert!(matches!(add(&file, "anna"), Err(AccessError::Disk { .. })));
        assert!(!elsewhere.exists(), "nothing is made where it leads");
        assert!(hold_still(dir.path()).is_none());
        crate::reset::erase_all(dir.path()).unwrap();
        assert!(!dir.path().join(LOCK).is_symlink());
        std::fs::create_dir(dir.path().join(LOCK)).unwrap();
        assert!(add(&file, "anna").is_err() && hold_still(dir.path()).is_none());
    }

    #[test]
    fn what_root_changes_stays_the_services_and_no_link_leads_root_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        if chown(&data, Some(4711), Some(4711)).is_err() {
            println!("left out: root's work in another's folder (this is not root)");
            return;
        }
        let file = AccountsFile::of(&data);
        add(&file, "anna").unwrap();
        for name in NAMES {
            let about = std::fs::metadata(data.join(name)).unwrap();
            assert_eq!((about.uid(), about.gid()), (4711, 4711), "{name}");
        }
        let roots = dir.path().join("roots.json");
        std::fs::rename(data.join(FILE), &roots).unwrap();
        chown(&roots, Some(0), Some(0)).unwrap();
        symlink(&roots, data.join(FILE)).unwrap();
        assert!(matches!(AccountsFile::of(&data).now(), Err(AccessError::Disk { .. })), "what is root's is not read");
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        let large = format!("{{\"version\":1,\"accounts\":{{}}}}{}", " ".repeat(FILE_MAX as usize));
        for (text, is_later) in [
            ("", false),
            ("{\"version\":1,\"accounts\":{\"anna\":{\"secret\":\"hunter2\"}}}", false),
            ("{\"version\":0,\"accounts\":{}}", false),
            (large.as_str(), false),
            ("{\"version\":2,\"people\":{}}", true),
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let why = file.now().err().unwrap().to_string();
            assert_eq!(why.contains("damaged") && why.contains("remove it"), !is_later, "{why}");
            assert_eq!(why.contains("version 2"), is_later, "{why}");
            assert!(!why.contains("hunter2"), "{why}");
            assert!(add(&file, "bert").is_err());
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(matches!(file.now(), Err(AccessError::Disk { .. })), "nobody waits for what is no file");
    }
}
