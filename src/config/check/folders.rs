//! Folders that files are taken from, and where the gateway keeps its own.

use super::Checks;
use crate::config::Config;
use std::path::{Component, Path, PathBuf};

impl Checks<'_> {
    /// What is taken from a folder is moved away or removed, so none may be where the journal lies.
    pub(super) fn folders(&mut self, config: &Config) {
        let data = plain(&config.gateway.data);
        for (index, link) in config.links.iter().enumerate() {
            let Some(directory) = &link.directory else { continue };
            let folders = [directory.clone(), directory.join(&link.files.archive), directory.join(&link.files.refused)];
            if folders.iter().map(|folder| plain(folder)).any(|f| f.starts_with(&data) || data.starts_with(f)) {
                let message = "files would be taken from where the gateway keeps its own";
                let hint = "name a folder that is not in `gateway.data`, and not above it";
                self.say(&format!("link[{index}].directory"), message, hint);
            }
        }
    }
}

/// A path without detours; where the file system knows it, without links too.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    std::fs::canonicalize(path).unwrap_or(plain)
}
