//! Patient data at rest: rows sealed one by one, identifiers searchable only by keyed hash.
//!
//! Three kinds of keys. The **key-encryption key** comes from outside the database and only wraps the others. **Data
//! keys** seal rows (ChaCha20-Poly1305, a random 96-bit nonce each) and rotate; dropping one is a crypto-erase of
//! what it sealed. The **index key** (HMAC-SHA256) hashes identifiers and never rotates, or nothing could be found.
//!
//! A sealed row is `key number (4) | nonce (12) | ciphertext | tag (16)`. Table and row id are authenticated with it,
//! so a row that is altered, cut, or put in another row's place does not open.

use super::error::{JournalError, OpenError};
use crate::credential;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

/// Bytes of every key.
const KEY_BYTES: usize = 32;
/// Bytes before the ciphertext: key number and nonce.
const HEAD_BYTES: usize = 4 + NONCE_LEN;
/// Name of the systemd credential.
const CREDENTIAL: &str = "afferent-journal-key";
/// Name of the key file made at first start.
const KEY_FILE: &str = "journal.key";
/// The same while it is being made.
const KEY_UNFINISHED: &str = ".journal.key.new";
/// What a factory reset erases first: what is sealed with it is worth nothing afterwards.
pub const KEY_NAMES: &[&str] = &[KEY_FILE, KEY_UNFINISHED];
/// `data_key.purpose` of the one index key.
const PURPOSE_INDEX: &str = "index";
/// `data_key.purpose` of data keys.
const PURPOSE_DATA: &str = "data";

/// Letters of a journal's mark: no digit, and none that is taken for one.
const LETTERS: &[u8; 16] = b"ABCDEFGHJKMNPQRT";
const MARK_CHARS: usize = 4;

/// The column a sealed value sits in; authenticated with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// `part.sealed`, by part id.
    Part = 1,
    /// `report.json`, by report id.
    Report = 2,
    /// `report.ids`, by report id.
    Ids = 3,
    /// `outgoing.body`, by outbox id.
    Body = 4,
    /// `data_key.wrapped`, by key number.
    Key = 5,
    /// `work_order.json`, by work order id.
    WorkOrder = 6,
    /// `patient.json`, by the keyed hash of the patient id.
    Patient = 7,
    /// `instance.sealed`, by entry.
    Instance = 8,
    /// `study.sealed`, by study.
    Study = 9,
    /// `series.sealed`, by series.
    Series = 10,
    /// `performed_step.json`, by its id.
    PerformedStep = 11,
    /// `commitment.json`, by its id.
    Commitment = 12,
    /// `charted.sealed`, by outbox id.
    Charted = 13,
}

/// All keys of one open journal. Shared by the writer and its readers.
pub(super) struct Seal {
    wrapping: LessSafeKey,
    random: SystemRandom,
    index: hmac::Key,
    data: RwLock<DataKeys>,
}

struct DataKeys {
    by_number: HashMap<u32, LessSafeKey>,
    current: u32,
}

/// The key-encryption key, wiped from memory when dropped.
pub(super) struct OuterKey(Zeroizing<[u8; KEY_BYTES]>);

impl OuterKey {
    /// Finds the key: the systemd credential, else the configured file, else the file in the data directory, which is
    /// made when `may_create`.
    ///
    /// A new key is on disk, with its name in the directory, before anything is sealed with it: a journal without its
    /// key would be worse than no journal.
    pub(super) fn find(data: &Path, configured: Option<&Path>, may_create: bool) -> Result<OuterKey, OpenError> {
        if let Some(path) = credential::unasked(CREDENTIAL) {
            return Self::read(&path);
        }
        if let Some(path) = configured {
            return Self::read(path);
        }
        let path = data.join(KEY_FILE);
        match path.exists() {
            true => Self::read(&path),
            false if may_create => Self::create(data, &path),
            false => Err(OpenError::KeyMissing(path)),
        }
    }

    fn read(path: &Path) -> Result<OuterKey, OpenError> {
        let failed = |source| OpenError::File { what: "cannot read the key", path: path.to_path_buf(), source };
        let mut file = credential::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "the journal key can be read by others than its owner");
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 2));
        Read::by_ref(&mut file).take(1024).read_to_end(&mut bytes).map_err(failed)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let readable = match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(raw) => {
                *key = raw;
                true
            }
            Err(_) => from_hex(bytes.trim_ascii(), &mut key),
        };
        readable.then_some(OuterKey(key)).ok_or_else(|| OpenError::KeyUnreadable(path.to_path_buf()))
    }

    fn create(data: &Path, path: &Path) -> Result<OuterKey, OpenError> {
        let failed = |source| OpenError::File { what: "cannot write the key", path: path.to_path_buf(), source };
        let key = new_key(&SystemRandom::new()).ok_or(OpenError::NoRandom)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        for byte in key.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        let unfinished = data.join(KEY_UNFINISHED);
        let _ = std::fs::remove_file(&unfinished);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&unfinished, path).map_err(failed)?;
        File::open(data).and_then(|d| d.sync_all()).map_err(failed)?;
        tracing::warn!(
            file = %path.display(),
            "a journal key was made beside the data it protects; keep a copy elsewhere, or give the key as a credential"
        );
        Ok(OuterKey(key))
    }

    fn wrapping(&self) -> Result<LessSafeKey, OpenError> {
        sealing_key(self.0.as_slice()).ok_or(OpenError::WrongKey)
    }
}

impl Seal {
    /// A UID that nobody else has: a random UUID under 2.25 (PS3.5 B.2).
    pub(super) fn make_uid(&self) -> Result<String, JournalError> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| JournalError::Storage("the system has no random numbers".into()))?;
        let version_4 = (u128::from_be_bytes(bytes) & !(0xF << 76 | 0x3 << 62)) | 0x4 << 76 | 0x2 << 62;
        Ok(format!("2.25.{version_4}"))
    }

    /// Four letters that tell this journal from others: what is numbered in it has another name than in the one before.
    pub(super) fn mark(&self) -> String {
        let digest = self.digest("mark of the journal", &[]);
        digest.iter().take(MARK_CHARS).map(|byte| char::from(LETTERS[usize::from(byte & 15)])).collect()
    }

    /// Makes the keys of a new journal. Runs inside the transaction that creates it.
    pub(super) fn create(conn: &Connection, outer: &OuterKey, now_ms: i64) -> Result<(), OpenError> {
        let random = SystemRandom::new();
        let wrapping = outer.wrapping()?;
        for (number, purpose) in [(1, PURPOSE_INDEX), (2, PURPOSE_DATA)] {
            let key = new_key(&random).ok_or(OpenError::NoRandom)?;
            let wrapped =
                seal_with(&wrapping, &random, 0, Place::Key, number, key.as_slice()).ok_or(OpenError::NoRandom)?;
            conn.execute(
                "INSERT INTO data_key(id, purpose, wrapped, created_ms, first_entry) VALUES (?1, ?2, ?3, ?4, 0)",
                (number, purpose, wrapped, now_ms),
            )?;
        }
        Ok(())
    }

    /// Unwraps the keys of an existing journal.
    pub(super) fn load(conn: &Connection, outer: &OuterKey) -> Result<Seal, OpenError> {
        let wrapping = outer.wrapping()?;
        let wrapped: Vec<u8> =
            conn.query_row("SELECT wrapped FROM data_key WHERE purpose = ?1", [PURPOSE_INDEX], |r| r.get(0))?;
        let index = Zeroizing::new(open_with(&wrapping, Place::Key, 1, &wrapped).ok_or(OpenError::WrongKey)?);
        let seal = Seal {
            wrapping,
            random: SystemRandom::new(),
            index: hmac::Key::new(hmac::HMAC_SHA256, &index),
            data: RwLock::new(DataKeys { by_number: HashMap::new(), current: 0 }),
        };
        seal.reload(conn).map_err(|error| match error {
            JournalError::Damaged => OpenError::WrongKey,
            other => OpenError::Unsafe(other.to_string()),
        })?;
        Ok(seal)
    }

    /// Reads the data keys again: another process may have made a new one.
    pub(super) fn reload(&self, conn: &Connection) -> Result<(), JournalError> {
        let mut statement = conn.prepare_cached("SELECT id, wrapped FROM data_key WHERE purpose = ?1 ORDER BY id")?;
        let rows = statement.query_map([PURPOSE_DATA], |r| Ok((r.get::<_, u32>(0)?, r.get::<_, Vec<u8>>(1)?)))?;
        let mut keys = DataKeys { by_number: HashMap::new(), current: 0 };
        for row in rows {
            let (number, wrapped) = row?;
            let plain = open_with(&self.wrapping, Place::Key, number.into(), &wrapped).map(Zeroizing::new);
            let key = plain.and_then(|p| sealing_key(&p)).ok_or(JournalError::Damaged)?;
            keys.by_number.insert(number, key);
            keys.current = number;
        }
        *self.data.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Writes a new data key; it is used after [`Seal::reload`], that is, only once it is committed.
    pub(super) fn add_data_key(&self, conn: &Connection, now_ms: i64, first_entry: i64) -> Result<(), JournalError> {
        let number: i64 = conn.query_row("SELECT max(id) + 1 FROM data_key", [], |r| r.get(0))?;
        let no_random = || JournalError::Storage("no random numbers".to_string());
        let key = new_key(&self.random).ok_or_else(no_random)?;
        let wrapped =
            seal_with(&self.wrapping, &self.random, 0, Place::Key, number, key.as_slice()).ok_or_else(no_random)?;
        conn.execute(
            "INSERT INTO data_key(id, purpose, wrapped, created_ms, first_entry) VALUES (?1, ?2, ?3, ?4, ?5)",
            (number, PURPOSE_DATA, wrapped, now_ms, first_entry),
        )?;
        Ok(())
    }

    /// Seals `plain` for one place.
    pub(super) fn seal(&self, place: Place, row: i64, plain: &[u8]) -> Result<Vec<u8>, JournalError> {
        let keys = self.data.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.by_number.get(&keys.current).ok_or(JournalError::Damaged)?;
        seal_with(key, &self.random, keys.current, place, row, plain)
            .ok_or_else(|| JournalError::Storage("no random numbers".to_string()))
    }

    /// True for what was sealed with the key in use.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        let keys = self.data.read().unwrap_or_else(PoisonError::into_inner);
        key_number(sealed) == Some(keys.current)
    }

    /// Opens what was sealed for exactly this place. `conn` is asked for a key that is not known yet.
    pub(super) fn open(
        &self,
        conn: &Connection,
        place: Place,
        row: i64,
        sealed: &[u8],
    ) -> Result<Vec<u8>, JournalError> {
        let number = key_number(sealed).ok_or(JournalError::Damaged)?;
        let open = || {
            let keys = self.data.read().unwrap_or_else(PoisonError::into_inner);
            keys.by_number.get(&number).map(|key| open_with(key, place, row, sealed).ok_or(JournalError::Damaged))
        };
        if let Some(outcome) = open() {
            return outcome;
        }
        self.reload(conn)?;
        open().unwrap_or(Err(JournalError::Damaged))
    }

    /// A keyed hash for look-ups: 63 bits suffice to find, the caller compares what it found where it matters.
    pub(super) fn hash(&self, domain: &str, parts: &[&[u8]]) -> i64 {
        let digest = self.digest(domain, parts);
        digest.first_chunk::<8>().map_or(0, |head| i64::from_be_bytes(*head) & i64::MAX)
    }

    /// The whole keyed hash.
    pub(super) fn digest(&self, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = self.context(domain);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        finish(context)
    }

    /// A keyed hash to be fed piece by piece.
    pub(super) fn context(&self, domain: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.index);
        context.update(domain.as_bytes());
        context.update(&[0]);
        context
    }
}

/// Ends a keyed hash.
pub(super) fn finish(context: hmac::Context) -> [u8; 32] {
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    digest
}

fn key_number(sealed: &[u8]) -> Option<u32> {
    sealed.first_chunk::<4>().map(|number| u32::from_be_bytes(*number))
}

fn new_key(random: &SystemRandom) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random.fill(key.as_mut_slice()).ok()?;
    Some(key)
}

fn sealing_key(bytes: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?))
}

fn associated(place: Place, row: i64) -> Aad<[u8; 9]> {
    let mut data = [place as u8; 9];
    for (to, from) in data.iter_mut().skip(1).zip(row.to_be_bytes()) {
        *to = from;
    }
    Aad::from(data)
}

fn seal_with(
    key: &LessSafeKey,
    random: &SystemRandom,
    number: u32,
    place: Place,
    row: i64,
    plain: &[u8],
) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).ok()?;
    let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + CHACHA20_POLY1305.tag_len());
    sealed.extend(number.to_be_bytes());
    sealed.extend(nonce);
    sealed.extend(plain);
    let (_, body) = sealed.split_at_mut_checked(HEAD_BYTES)?;
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), associated(place, row), body).ok()?;
    sealed.extend(tag.as_ref());
    Some(sealed)
}

fn open_with(key: &LessSafeKey, place: Place, row: i64, sealed: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = sealed.split_at_checked(HEAD_BYTES)?;
    let nonce = *head.last_chunk::<NONCE_LEN>()?;
    let mut body = body.to_vec();
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), associated(place, row), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

fn from_hex(text: &[u8], key: &mut [u8; KEY_BYTES]) -> bool {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    if text.len() != 2 * KEY_BYTES {
        return false;
    }
    for (to, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return false };
        match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => *to = high << 4 | low,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LessSafeKey {
        sealing_key(&[7; 32]).unwrap()
    }

    #[test]
    fn a_sealed_row_opens_only_in_its_own_place() {
        let sealed = seal_with(&key(), &SystemRandom::new(), 2, Place::Part, 5, b"R|1|^^^GLU|5.0").unwrap();
        assert_eq!(open_with(&key(), Place::Part, 5, &sealed).unwrap(), b"R|1|^^^GLU|5.0");
        assert!(open_with(&key(), Place::Part, 6, &sealed).is_none(), "another row");
        assert!(open_with(&key(), Place::Body, 5, &sealed).is_none(), "another table");
    }

    #[test]
    fn every_single_flipped_bit_and_every_cut_is_noticed() {
        let sealed = seal_with(&key(), &SystemRandom::new(), 2, Place::Part, 5, b"5.0").unwrap();
        // The key number picks the key and is covered by the choice itself, so bits after it are tried here.
        for bit in 32..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open_with(&key(), Place::Part, 5, &damaged).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open_with(&key(), Place::Part, 5, &sealed[..length]).is_none(), "cut to {length}");
        }
    }

    #[test]
    fn a_made_key_is_private_and_found_again() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(OuterKey::find(data.path(), None, false), Err(OpenError::KeyMissing(_))));
        let made = OuterKey::find(data.path(), None, true).unwrap();
        let mode = std::fs::metadata(data.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(*OuterKey::find(data.path(), None, false).unwrap().0, *made.0);
    }

    #[test]
    fn a_key_file_with_anything_else_in_it_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("k");
        std::fs::write(&path, "not a key").unwrap();
        assert!(matches!(OuterKey::find(data.path(), Some(&path), true), Err(OpenError::KeyUnreadable(_))));
    }
}
