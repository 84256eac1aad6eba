//! `afferent desk key`.

use crate::desk::{DeskError, keys};
use crate::fleet::envelope::SigningKey;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a key to sign commands with, and print what boxes need to obey it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk key ops-1.key >> bench-1.toml

The private key stays in the file (PKCS#8, as OpenSSL reads it); keep it off the boxes.")]
pub(super) struct Key {
    /// Where the key is written; the file's name without its ending is the key's name
    file: PathBuf,
}

impl Key {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let key = keys::make(&self.file)?;
        println!("\n[[fleet.operator]]\nkid = \"{}\"\nkey = \"{}\"", key.kid(), key.public_key());
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads keys.
pub(super) fn signing_keys(files: &[PathBuf]) -> Result<Vec<SigningKey>, DeskError> {
    files.iter().map(|file| keys::read(file)).collect()
}
