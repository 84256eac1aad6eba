//! Where accounts are kept: one file in the data directory, which the command and the console both write. Nothing of it
//! is decided here.

use super::{Accounts, Refusal};
use crate::disk;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

const FILE: &str = "console.json";
/// Held by whoever changes the file, for as long as that takes.
const LOCK: &str = "console.lock";
/// What a factory reset erases.
pub const NAMES: &[&str] = &[FILE, LOCK];

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
    /// Nothing that nobody can guess is to be had.
    #[error("the system has no random numbers")]
    NoRandom,
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
/// more by who had read it before. None where nobody has made any.
///
/// # Errors
/// What the system refuses.
pub(crate) fn hold_still(data: &Path) -> std::io::Result<Option<File>> {
    match disk::open_regular(&data.join(LOCK)) {
        Ok(file) => file.lock().map(|()| Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The accounts of a data directory.
pub struct AccountsFile {
    file: PathBuf,
    lock: PathBuf,
    /// What was read last, and of which file.
    last: Mutex<Option<(Seen, Arc<Accounts>)>>,
}

/// A file that was put in the place of another has another number.
type Seen = (u64, i64, i64, u64);

impl AccountsFile {
    /// Those of this data directory.
    pub fn of(data: &Path) -> AccountsFile {
        AccountsFile { file: data.join(FILE), lock: data.join(LOCK), last: Mutex::new(None) }
    }

    /// The accounts as they are now; none without a file.
    ///
    /// # Errors
    /// [`AccessError::Disk`], [`AccessError::Damaged`].
    pub fn now(&self) -> Result<Arc<Accounts>, AccessError> {
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

    /// Changes accounts: what is decided is on the disk when this returns, or nothing is changed.
    ///
    /// # Errors
    /// [`AccessError`], and what was decided against.
    pub fn change<T>(&self, decide: impl FnOnce(&mut Accounts) -> Result<T, Refusal>) -> Result<T, AccessError> {
        let _held = self.hold().map_err(|source| AccessError::Disk { file: self.lock.clone(), source })?;
        let mut accounts = self.read()?;
        let decided = decide(&mut accounts)?;
        let text = Zeroizing::new(accounts.text());
        disk::replace_secret(&self.file, text.as_bytes()).map_err(|source| self.failed(source))?;
        Ok(decided)
    }

    fn read(&self) -> Result<Accounts, AccessError> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Accounts::default()),
            Err(source) => return Err(self.failed(source)),
        };
        Accounts::parse(&text).map_err(|why| AccessError::Damaged { file: self.file.clone(), why })
    }

    /// Waits for whoever changes it now, which takes a moment.
    fn hold(&self) -> std::io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.lock)?;
        file.lock()?;
        Ok(file)
    }

    fn failed(&self, source: Error) -> AccessError {
        AccessError::Disk { file: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Code, Role, Stamp};

    fn add(file: &AccountsFile, name: &str) -> Result<(), AccessError> {
        file.change(|accounts| accounts.add(name, Role::View, &Code::of(&[1; 15]), Stamp::of(&[1; 16]), 0))
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
        assert!(hold_still(dir.path()).unwrap().is_none());
        add(&file, "anna").unwrap();
        let held = hold_still(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let other = AccountsFile::of(dir.path());
            let waits = scope.spawn(move || other.change(|accounts| accounts.set_recovery("anna", &[])));
            NAMES.iter().for_each(|name| std::fs::remove_file(dir.path().join(name)).unwrap());
            drop(held);
            assert!(matches!(waits.join().unwrap(), Err(AccessError::Refused(Refusal::Nobody(_)))));
        });
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = AccountsFile::of(dir.path());
        for text in
            ["", "{\"version\":1,\"accounts\":{\"anna\":{\"secret\":\"hunter2\"}}}", "{\"version\":2,\"accounts\":{}}"]
        {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let why = file.now().err().unwrap().to_string();
            assert!(why.contains("damaged") && !why.contains("hunter2"), "{why}");
            assert!(matches!(add(&file, "bert"), Err(AccessError::Damaged { .. })));
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
    }
}
