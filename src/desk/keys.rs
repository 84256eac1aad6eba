//! The desk's keys to sign with: Ed25519 in PKCS#8 PEM, as OpenSSL reads it, one file each, whose name is the key's.

use super::DeskError;
use crate::config::check::name_is_usable;
use crate::fleet::envelope::{self, SigningKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Makes a key; nobody but the owner may read it, and one that is there is not replaced.
///
/// # Errors
/// [`DeskError::File`].
pub fn make(file: &Path) -> Result<SigningKey, DeskError> {
    let wrong = |why: String| DeskError::File { file: file.to_path_buf(), why };
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *seed).map_err(|_| wrong("the system has no random numbers".to_string()))?;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*envelope::new_key(&seed)));
    let pem = Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *encoded));
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.map_err(|error| wrong(format!("{error}; a key that is there is not replaced")))?;
    opened.write_all(pem.as_bytes()).and_then(|()| opened.sync_all()).map_err(|error| wrong(error.to_string()))?;
    read(file)
}

/// Reads a key.
///
/// # Errors
/// [`DeskError::File`].
pub fn read(file: &Path) -> Result<SigningKey, DeskError> {
    let wrong = |why: String| DeskError::File { file: file.to_path_buf(), why };
    let kid = file.file_stem().and_then(|stem| stem.to_str()).filter(|kid| name_is_usable(kid));
    let kid = kid.ok_or_else(|| wrong("the file's name is the key's, of letters, digits and `-`".to_string()))?;
    let der = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| wrong(error.to_string()))?;
    let key = SigningKey::from_pkcs8(kid, der.secret_pkcs8_der());
    key.ok_or_else(|| wrong("it is no Ed25519 key; make one with `afferent desk key`".to_string()))
}
