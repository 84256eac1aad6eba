//! `afferent desk key`.

use crate::fleet::envelope::{self, SigningKey};
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *seed).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let der = envelope::new_key(&seed);
        let encoded = zeroize::Zeroizing::new(BASE64_STANDARD.encode(&*der));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *encoded);
        let pem = zeroize::Zeroizing::new(pem);
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let shown = self.file.display();
        let mut file =
            opened.with_context(|| format!("{shown} cannot be made; a key that is there is not replaced"))?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("{shown}"))?;
        let key = signing_key(&self.file)?;
        println!("\n[[fleet.operator]]\nkid = \"{}\"\nkey = \"{}\"", key.kid(), key.public_key());
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a key; its name is the file's.
pub(super) fn signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    let shown = file.display();
    let kid = file.file_stem().and_then(|stem| stem.to_str()).filter(|kid| crate::config::check::name_is_usable(kid));
    let kid = kid.with_context(|| format!("{shown}: the file's name is the key's, of letters, digits and `-`"))?;
    let der = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    let key = SigningKey::from_pkcs8(kid, der.secret_pkcs8_der());
    key.with_context(|| format!("{shown} is no Ed25519 key; make one with `afferent desk key`"))
}
