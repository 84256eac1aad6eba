//! `afferent desk key`.

use crate::desk::{DeskError, keys};
use crate::fleet::envelope::SigningKey;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a key to sign commands with, and print what boxes need to obey it. One that is there already stays, and that of it
/// is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk key ops-1.key >> afferent.toml

What it prints belongs into the box's own file, not into one that `config push` sends: `[fleet]` is the box's own.
The private key stays in the file (PKCS#8, as OpenSSL reads it); keep it off the boxes.")]
pub(super) struct Key {
    /// Where the key is written; the file's name without its ending is the key's name
    file: PathBuf,
}

impl Key {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let is_there = self.file.exists();
        let key = if is_there { keys::read(&self.file)? } else { keys::make(&self.file)? };
        if is_there {
            eprintln!("{} was there already, and is as it was", self.file.display());
        }
        println!("\n[[fleet.operator]]\nkid = \"{}\"\nkey = \"{}\"", key.kid(), key.public_key());
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads keys.
pub(super) fn signing_keys(files: &[PathBuf]) -> Result<Vec<SigningKey>, DeskError> {
    files.iter().map(|file| keys::read(file)).collect()
}
