//! The file: a head that can be read, and behind it what nobody reads or alters without the secret.
//!
//! ```text
//! afferent-backup 1\n
//! {"kdf":"pbkdf2-hmac-sha256","iterations":600000,"salt":"<hex>","check":"<hex>","length":1234,"secret":"recovery-key"}\n
//! chunk chunk ... last chunk
//! ```
//!
//! The secret is stretched to 64 bytes (PBKDF2-HMAC-SHA256, RFC 8018) with a salt that no other file has: 32 are the key,
//! and of the others the digest is `check`, which tells a wrong secret from a damaged file. Each chunk of 64 KiB is sealed
//! with ChaCha20-Poly1305 (RFC 8439), its number and whether it is the last are its nonce, and the head goes in as
//! associated data (STREAM, Hoang and others 2015): chunks that were altered, swapped, left out or taken from another file
//! do not open.
//!
//! **Why not argon2.** It makes guessing dear in memory as well, and costs nine crates. The secret to use is the
//! recovery key, which is made by the machine and cannot be guessed at any price; a passphrase has a least length.

use super::BackupError;
use super::secret::{Kind, Secret};
use crate::wire::hex;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// How the first line begins; behind it stands the number of the format.
const MAGIC: &str = "afferent-backup ";
/// The format that this program writes, and the newest it reads.
const FORMAT: u32 = 1;
/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 << 10;
/// Rounds of the key derivation, as OWASP asks for in 2023: half a second on a server, some seconds on a small box.
const ITERATIONS: u32 = 600_000;
/// No file makes a box count for minutes.
const ITERATIONS_MAX: u32 = 20_000_000;
/// Longest head, in bytes.
const HEAD_MAX: usize = 1024;
/// Longest file that is read: what is more is not one of ours.
pub const LENGTH_MAX: u64 = 128 << 20;
const KDF: &str = "pbkdf2-hmac-sha256";
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// The second line.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    kdf: String,
    iterations: u32,
    salt: String,
    check: String,
    /// Bytes before they were sealed.
    length: u64,
    secret: Kind,
}

/// A file whose head was read.
pub struct Sealed<'f> {
    head: Head,
    associated: &'f [u8],
    chunks: &'f [u8],
}

struct Key {
    sealing: LessSafeKey,
    check: String,
}

impl Key {
    fn derive(secret: &Secret, salt: &str, iterations: u32) -> Option<Key> {
        let mut bytes = Zeroizing::new([0; 2 * KEY_BYTES]);
        let rounds = NonZeroU32::new(iterations)?;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt.as_bytes(), secret.bytes(), bytes.as_mut_slice());
        let (key, rest) = bytes.split_at(KEY_BYTES);
        let sealing = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
        Some(Key { sealing, check: hex::digits(digest(&SHA256, rest).as_ref()) })
    }
}

fn nonce(number: usize, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    bytes[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals `plain`, which may be empty.
///
/// # Errors
/// [`BackupError::NoRandom`].
pub fn seal(plain: &[u8], secret: &Secret) -> Result<Vec<u8>, BackupError> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| BackupError::NoRandom)?;
    let salt = hex::digits(&salt);
    let key = Key::derive(secret, &salt, ITERATIONS).ok_or(BackupError::NoRandom)?;
    let (length, check) = (plain.len() as u64, key.check.clone());
    let head = Head { kdf: KDF.to_string(), iterations: ITERATIONS, salt, check, length, secret: secret.kind() };
    let head = serde_json::to_string(&head).unwrap_or_default();
    let mut sealed = format!("{MAGIC}{FORMAT}\n{head}\n").into_bytes();
    let associated = sealed.clone();
    let count = plain.len().div_ceil(CHUNK).max(1);
    for number in 0..count {
        let chunk = plain.chunks(CHUNK).nth(number).unwrap_or_default();
        let mut chunk = chunk.to_vec();
        key.sealing
            .seal_in_place_append_tag(nonce(number, number + 1 == count), Aad::from(&associated), &mut chunk)
            .map_err(|_| BackupError::NoRandom)?;
        sealed.extend(chunk);
    }
    Ok(sealed)
}

/// True for a file that begins as a backup does, of whatever format.
pub fn is_backup(file: &[u8]) -> bool {
    file.starts_with(MAGIC.as_bytes())
}

impl<'f> Sealed<'f> {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`], [`BackupError::Newer`], [`BackupError::Altered`], [`BackupError::Cut`].
    pub fn read(file: &'f [u8]) -> Result<Sealed<'f>, BackupError> {
        if !is_backup(file) {
            return Err(BackupError::NoBackup);
        }
        let line = |from: usize| {
            let rest = file.get(from..)?;
            let length = rest.iter().take(HEAD_MAX).position(|byte| *byte == b'\n')?;
            Some((std::str::from_utf8(&rest[..length]).ok()?, from + length + 1))
        };
        let (first, second_at) = line(0).ok_or(BackupError::Altered)?;
        match first.trim_start_matches(MAGIC).parse::<u32>() {
            Ok(FORMAT) => {}
            Ok(found) if found > FORMAT => return Err(BackupError::Newer { found, known: FORMAT }),
            _ => return Err(BackupError::Altered),
        }
        let (second, chunks_at) = line(second_at).ok_or(BackupError::Altered)?;
        let head: Head = serde_json::from_str(second).map_err(|_| BackupError::Altered)?;
        if head.kdf != KDF || head.iterations == 0 || head.iterations > ITERATIONS_MAX {
            return Err(BackupError::Altered);
        }
        let (associated, chunks) = file.split_at(chunks_at);
        let tags = head.length.div_ceil(CHUNK as u64).max(1) * CHACHA20_POLY1305.tag_len() as u64;
        let (wanted, there) = (head.length.saturating_add(tags), chunks.len() as u64);
        match there {
            there if there < wanted => Err(BackupError::Cut { there, wanted }),
            there if there > wanted => Err(BackupError::Altered),
            _ => Ok(Sealed { head, associated, chunks }),
        }
    }

    /// What it was sealed with.
    pub fn secret(&self) -> Kind {
        self.head.secret
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`BackupError::WrongSecret`], [`BackupError::Altered`].
    pub fn open(&self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let key = Key::derive(secret, &self.head.salt, self.head.iterations).ok_or(BackupError::Altered)?;
        if key.check != self.head.check {
            return Err(BackupError::WrongSecret(self.head.secret));
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(self.chunks.len()));
        let all = self.chunks.chunks(CHUNK + CHACHA20_POLY1305.tag_len());
        let count = all.len();
        for (number, chunk) in all.enumerate() {
            let mut chunk = Zeroizing::new(chunk.to_vec());
            let nonce = nonce(number, number + 1 == count);
            let opened = key.sealing.open_in_place(nonce, Aad::from(self.associated), chunk.as_mut_slice());
            plain.extend_from_slice(opened.map_err(|_| BackupError::Altered)?);
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::passphrase("correct horse battery").unwrap()
    }

    fn opened(file: &[u8]) -> Result<Vec<u8>, BackupError> {
        Sealed::read(file)?.open(&secret()).map(|plain| plain.to_vec())
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let file = seal(&plain, &secret()).unwrap();
            assert_eq!(opened(&file).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn each_wrong_file_is_named() {
        let plain = vec![7; 2 * CHUNK + 5];
        let file = seal(&plain, &secret()).unwrap();
        let at = file.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
        let sealed = CHUNK + CHACHA20_POLY1305.tag_len();
        assert!(matches!(opened(b"PK\x03\x04"), Err(BackupError::NoBackup)));
        assert!(matches!(opened(&file[..40]), Err(BackupError::Altered)), "cut within its head");
        for length in [at, at + 10, at + sealed, file.len() - 1] {
            assert!(matches!(opened(&file[..length]), Err(BackupError::Cut { .. })), "cut to {length}");
        }
        assert!(matches!(opened(&[&file[..], b"x"].concat()), Err(BackupError::Altered)), "longer");
        let other = Sealed::read(&file).unwrap().open(&Secret::passphrase("correct horse batterx").unwrap());
        assert!(matches!(other, Err(BackupError::WrongSecret(Kind::Passphrase))));
        // A bit in each part; swapped chunks; the head's word on what is to be asked for.
        for byte in [at, at + sealed + 100, file.len() - 1] {
            let mut altered = file.clone();
            altered[byte] ^= 1;
            assert!(matches!(opened(&altered), Err(BackupError::Altered)), "byte {byte}");
        }
        let swapped =
            [&file[..at], &file[at + sealed..at + 2 * sealed], &file[at..at + sealed], &file[at + 2 * sealed..]];
        assert!(matches!(opened(&swapped.concat()), Err(BackupError::Altered)));
        let text = String::from_utf8_lossy(&file[..at]).replace("passphrase", "recovery-key");
        assert!(matches!(opened(&[text.as_bytes(), &file[at..]].concat()), Err(BackupError::Altered)));
        let newer = [b"afferent-backup 2\n", &file[at..]].concat();
        assert!(matches!(opened(&newer), Err(BackupError::Newer { found: 2, known: 1 })));
        let counting = String::from_utf8_lossy(&file[..at]).replace("600000", "4000000000");
        assert!(matches!(opened(&[counting.as_bytes(), &file[at..]].concat()), Err(BackupError::Altered)));
    }
}
