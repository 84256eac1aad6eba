//! `afferent backup FILE`.

use super::CONFIG_DEFAULT;
use crate::backup::gather::gather;
use crate::backup::sealed::{self, Sealed};
use crate::backup::secret::{Kind, Secret};
use crate::backup::{BackupError, Contents, Role};
use crate::disk;
use crate::fleet::desired::tree;
use crate::journal::crash;
use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Longest file with a passphrase, in bytes.
const SECRET_MAX: u64 = 4096;

/// Write an encrypted backup of this box: what another one needs to take its place, and nothing of a patient.
///
/// In it are the configuration and all files it names (certificates and keys, passwords, drivers, rules), the desk's
/// revision that runs, what links remember of files they took, and how low revisions, commands and releases may not go
/// again. The journal is not: a box that still runs delivers it, and the disk of a dead one is read with `afferent
/// journal export`. The gateway may run. An older backup of the same name is replaced. Keep the recovery key or the
/// passphrase elsewhere than the file: without it nobody opens it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent backup /media/stick/bench-1.backup                       asks twice for a passphrase
  afferent backup /media/stick/bench-1.backup --recovery-key        makes a key and shows it, once
  afferent backup bench-1.backup --passphrase-file /etc/afferent/backup-passphrase --json

On the other box: afferent restore bench-1.backup --look")]
pub struct Backup {
    /// The file to write
    file: PathBuf,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// Make a recovery key, and show it
    #[arg(long, conflicts_with = "passphrase_file")]
    recovery_key: bool,
    /// File with the passphrase, in its first line
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Print one JSON object: file, gateway, revision, files (role, path), absent, credentials, recovery_key
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        self.is_free()?;
        // What runs, which is the desk's revision where there is one.
        let config = tree::load(&self.config)?.config;
        let secret = self.secret()?;
        let contents = gather(&self.config, &config)?;
        let file = sealed::seal(&contents.write()?, &secret)?;
        if let (false, Some(key)) = (self.json, self.key(&secret)) {
            // Before an older backup is replaced by one that only this opens.
            println!("recovery key: {}", key.as_str());
            println!("write it down: it is shown this once, and without it nobody opens this backup");
        }
        // An older backup stays until this one is known to be good.
        let put = disk::replace_checked(&self.file, &file, |written| self.verify(written, &file, &secret));
        put.with_context(|| format!("cannot write {}", self.file.display()))??;
        self.tell(&contents, &secret);
        Ok(ExitCode::SUCCESS)
    }

    /// Nobody loses another file by a slip.
    fn is_free(&self) -> anyhow::Result<()> {
        let shown = self.file.display();
        match disk::open_regular(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot write {shown}")),
            Ok(open) => {
                let mut head = Vec::new();
                open.take(64).read_to_end(&mut head).with_context(|| format!("cannot write {shown}"))?;
                ensure!(sealed::is_backup(&head), "{shown} is there and is no backup: give another name");
                Ok(())
            }
        }
    }

    fn secret(&self) -> anyhow::Result<Secret> {
        if self.recovery_key {
            return Ok(Secret::make()?);
        }
        if let Some(file) = &self.passphrase_file {
            return Ok(Secret::passphrase(&first_line(file)?)?);
        }
        let secret = Secret::passphrase(&asked("passphrase for this backup: ")?)?;
        let again = Secret::passphrase(&asked("once more: ")?);
        ensure!(again.is_ok_and(|again| again.is(&secret)), "these are two passphrases; nothing was written");
        Ok(secret)
    }

    /// Reads the file that was written once more, from the disk, and opens it: a stick may have taken it and not have it.
    fn verify(&self, place: &Path, written: &[u8], secret: &Secret) -> anyhow::Result<()> {
        let shown = self.file.display();
        crash::point("backup-written");
        let open = File::open(place).with_context(|| format!("cannot read {shown} back"))?;
        disk::forget_cached(&open);
        let read = bounded(open).with_context(|| format!("cannot read {shown} back"))?;
        ensure!(read == written, "{shown} does not read back as it was written: use another stick");
        let plain = Sealed::read(&read)?.open(secret)?;
        Contents::read(&plain)?;
        Ok(())
    }

    fn tell(&self, contents: &Contents, secret: &Secret) {
        let manifest = &contents.manifest;
        let key = self.key(secret);
        if self.json {
            let files: Vec<_> =
                manifest.files.iter().map(|file| json!({ "role": file.role, "path": file.path })).collect();
            let told = json!({
                "file": self.file, "gateway": manifest.gateway, "revision": manifest.revision, "files": files,
                "absent": manifest.absent, "credentials": manifest.credentials,
                "recovery_key": key.as_ref().map(|key| key.as_str()),
            });
            println!("{told}");
            return;
        }
        let is_one = |file: &&crate::backup::File| !matches!(file.role, Role::Document | Role::Base);
        println!("{} is in {}:", manifest.gateway, self.file.display());
        for file in manifest.files.iter().filter(is_one) {
            println!("  {}", file.path.display());
        }
        if let Some(revision) = manifest.revision {
            println!("  revision {revision} of the desk");
        }
        for named in &manifest.credentials {
            println!("  {}: a systemd credential, not in this backup", named.display());
        }
        for path in &manifest.absent {
            eprintln!("warning: {} is named by the configuration and is not there", path.display());
        }
    }

    /// The key that was made.
    fn key(&self, secret: &Secret) -> Option<Zeroizing<String>> {
        (secret.kind() == Kind::RecoveryKey).then(|| secret.shown())
    }
}

/// A file, as far as a backup may be long.
fn bounded(open: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open.take(sealed::LENGTH_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a backup with what whoever restores has.
pub(super) fn open(file: &Path, secret: Option<&Path>) -> anyhow::Result<Contents> {
    let shown = file.display();
    let bytes = disk::open_regular(file).and_then(bounded).with_context(|| format!("cannot read {shown}"))?;
    let open = || -> anyhow::Result<Contents> {
        let sealed = Sealed::read(&bytes)?;
        let text = match secret {
            Some(secret) => first_line(secret)?,
            None => asked(&format!("{} of this backup: ", sealed.secret()))?,
        };
        let plain = sealed.open(&Secret::written(sealed.secret(), &text)?)?;
        Contents::read(&plain).map_err(BackupError::into)
    };
    open().with_context(|| format!("{shown}; nothing was changed"))
}

fn first_line(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let shown = file.display();
    let mut text = Zeroizing::new(String::new());
    let open = File::open(file).with_context(|| format!("cannot read {shown}"))?;
    open.take(SECRET_MAX).read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_string()))
}

fn asked(question: &str) -> anyhow::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask at: give --passphrase-file");
    }
    Ok(Zeroizing::new(rpassword::prompt_password(question)?))
}
