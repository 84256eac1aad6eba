//! Locks of files that several processes write: held while a file is opened, read and written, and bounded in time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A lock that somebody else holds is looked at this often.
const AGAIN: Duration = Duration::from_millis(10);

/// Opens a file with these options and locks it, also where another one takes its place meanwhile: what is locked is what
/// lies there.
///
/// # Errors
/// What the system refuses, [`ErrorKind::InvalidInput`] for what is no regular file, and [`ErrorKind::WouldBlock`]
/// where somebody else holds it for longer than this, or another one lies there each time.
pub fn open_locked(file: &Path, options: &OpenOptions, wait: Duration) -> Result<File> {
    open_until(file, options, wait, lies_at)
}

/// [`open_locked`], where `is_it` says whether what was locked lies there.
fn open_until(
    file: &Path,
    options: &OpenOptions,
    wait: Duration,
    is_it: impl Fn(&File, &Path) -> bool,
) -> Result<File> {
    let until = Instant::now() + wait;
    loop {
        let open = options.open(file)?;
        if !open.metadata()?.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        lock(&open, until.saturating_duration_since(Instant::now()))?;
        if is_it(&open, file) {
            return Ok(open);
        }
        if Instant::now() >= until {
            return Err(held());
        }
    }
}

fn held() -> Error {
    Error::new(ErrorKind::WouldBlock, "somebody else holds it")
}

/// Locks an open file, as [`open_locked`] does.
fn lock(open: &File, wait: Duration) -> Result<()> {
    let until = Instant::now() + wait;
    loop {
        match open.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(AGAIN),
            Err(TryLockError::WouldBlock) => return Err(held()),
        }
    }
}

/// Whether the file that lies there is this one still.
pub fn lies_at(open: &File, file: &Path) -> bool {
    let number = |about: std::fs::Metadata| (about.dev(), about.ino());
    open.metadata().is_ok_and(|own| std::fs::metadata(file).is_ok_and(|there| number(there) == number(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_what_lies_there_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let held = open_locked(&file, &options, Duration::ZERO).unwrap();
        let why = open_locked(&file, &options, Duration::from_millis(20)).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::WouldBlock);
        assert!(lies_at(&held, &file));
        std::fs::rename(&file, dir.path().join("aside")).unwrap();
        assert!(!lies_at(&held, &file), "there is none");
        let other = open_locked(&file, &options, Duration::ZERO).unwrap();
        assert!(lies_at(&other, &file) && !lies_at(&held, &file));
        drop((held, other));
        let another = open_until(&file, &options, Duration::from_millis(20), |_, _| false).unwrap_err();
        assert_eq!(another.kind(), ErrorKind::WouldBlock, "another one lies there each time");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(open_locked(&file, &options, Duration::ZERO).is_err());
    }
}
