//! Makes what a box is to run out of a configuration file and the drivers and rules that it names.

use crate::config::{Config, LoadError, Loaded, load};
use crate::fleet::desired::{self, File};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a file cannot be sent to a box.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path that would not stay beside the configuration.
    #[error(
        "{0}: drivers and rules are named by a path from the configuration file on, of letters, digits, `-`, `_` and `.`"
    )]
    Path(String),
    /// The text is wrong.
    #[error(transparent)]
    Wrong(#[from] LoadError),
}

/// A configuration with the files it names, as a box is sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The text.
    pub config: String,
    /// The files, by their paths beside it.
    pub files: BTreeMap<String, File>,
}

/// A configuration that was checked.
pub struct Packed {
    /// What is sent.
    pub content: Content,
    /// As it was understood; what it names on the box itself may be missing here.
    pub loaded: Loaded,
}

/// Reads and checks a file, and what it names.
///
/// # Errors
/// [`PackError`].
pub fn pack(file: &Path) -> Result<Packed, PackError> {
    let config = read(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Which machine it is for is not known: it stands on whatever that has.
    let loaded = load::parse_for(&file.display().to_string(), &config, folder, &Config::default())?;
    let mut files = BTreeMap::new();
    let mut add = |path: PathBuf| -> Result<(), PackError> {
        let within = path.strip_prefix(folder).ok().and_then(Path::to_str).filter(|path| desired::is_path(path));
        let within = within.ok_or_else(|| PackError::Path(path.display().to_string()))?.to_string();
        files.insert(within, File::of(read(&path)?));
        Ok(())
    };
    if let Some(drivers) = &loaded.config.gateway.drivers {
        loaded.config.site_drivers().iter().try_for_each(|(id, _)| add(drivers.join(id).join("driver.toml")))?;
    }
    loaded.config.gateway.rules.clone().into_iter().try_for_each(&mut add)?;
    Ok(Packed { content: Content { config, files }, loaded })
}

fn read(file: &Path) -> Result<String, PackError> {
    std::fs::read_to_string(file).map_err(|source| PackError::Unreadable { file: file.to_path_buf(), source })
}
