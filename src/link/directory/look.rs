//! How a folder is, without taking anything from it: for the doctor.

use super::Files;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Names looked at.
const NAMES_MAX: usize = 10_000;

/// What is to be said about a link's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// Why it cannot be listed, in the system's words.
    pub unreachable: Option<String>,
    /// Files can be moved out of it.
    pub writable: bool,
    /// Files that wait to be taken, at most ten thousand.
    pub waiting: usize,
    /// How long ago the one that waits longest was last written.
    pub oldest: Option<Duration>,
    /// Files that were refused and wait for a person.
    pub refused: usize,
}

/// Looks at a folder.
pub fn look(directory: &Path, files: &Files) -> Look {
    let list = match std::fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) => return Look { unreachable: Some(error.to_string()), ..Look::default() },
    };
    let mut found = Look { writable: is_writable(directory), ..Look::default() };
    // Files that grow stay: none of them waits.
    let waits = |entry: &std::fs::DirEntry| !files.grows && files.takes(&entry.file_name());
    for entry in list.filter_map(Result::ok).take(NAMES_MAX).filter(waits) {
        let Some(file) = entry.metadata().ok().filter(|file| file.is_file()) else { continue };
        found.waiting += 1;
        let age = file.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        found.oldest = found.oldest.max(age);
    }
    let refused = std::fs::read_dir(directory.join(&files.refused)).into_iter().flatten();
    let is_reason = |name: &std::ffi::OsStr| name.as_bytes().ends_with(super::REASON_ENDING.as_bytes());
    found.refused = refused.filter_map(Result::ok).take(NAMES_MAX).filter(|e| is_reason(&e.file_name())).count();
    found
}

fn is_writable(directory: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(directory.as_os_str().as_bytes()) else { return false };
    // SAFETY: the pointer is to a string that ends in NUL and lives until the call returns.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}
