//! Finds the captures of real instruments, which live outside of the repository because of their licences.

use std::path::{Path, PathBuf};

/// A folder of captures, "analyzers" or "dicom", below `AFFERENT_CORPUS` or beside the repository; `None` when this
/// machine has none.
pub fn folder(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("AFFERENT_CORPUS").map(PathBuf::from);
    let beside = ["../shared/corpus", "../../shared/corpus"].map(|p| root.join(p));
    named.into_iter().chain(beside).map(|p| p.join(name)).find(|p| p.is_dir())
}
