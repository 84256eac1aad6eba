//! One thread at a time for a folder and for the memory of a link. One that hangs on its share is left to itself when the
//! link stops, and may go on when the share comes back: whoever follows it would move the same files under its hands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the threads of this process hold.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Holds a folder and a link's memory until it is dropped.
pub(super) struct Claim([PathBuf; 2]);

impl Claim {
    /// Takes hold of a folder, and of what the link of this name remembers in `data`; none while another thread has one of
    /// them.
    pub fn take(folder: &Path, data: &Path, link: &str) -> Option<Claim> {
        let claim = [folder.to_path_buf(), data.join(link)];
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if claim.iter().any(|path| held.contains(path)) {
            return None;
        }
        held.extend(claim.iter().cloned());
        Some(Claim(claim))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|path| !self.0.contains(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_nobody_follows_a_thread_that_has_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (data, share, other) = (dir.path().join("data"), dir.path().join("share"), dir.path().join("other"));
        let hangs = Claim::take(&share, &data, "pcr").unwrap();
        assert!(Claim::take(&share, &data, "pcr").is_none());
        assert!(Claim::take(&share, &data, "renamed").is_none(), "the same files");
        assert!(Claim::take(&other, &data, "pcr").is_none(), "the same memory");
        let elsewhere = Claim::take(&other, &data, "elisa").unwrap();
        drop(hangs);
        assert!(Claim::take(&share, &data, "pcr").is_some());
        drop(elsewhere);
    }
}
