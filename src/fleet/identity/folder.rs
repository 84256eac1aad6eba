//! `identity/` in the data directory: keys and certificates, as files that are each whole at every moment.
//!
//! | file | what |
//! |---|---|
//! | `current.pem` | the certificate in use, what is behind it, and its key |
//! | `next.key` | the key for which a certificate is asked |
//! | `next.pem` | the next certificate with its key, not proven yet |
//! | `previous.pem` | the one before, until it ends |
//! | `anchors.pem` | authorities that the desk has handed out |
//! | `trust.pem` | those and the site's own: whom the box trusts |
//!
//! Certificate and key are one file, so no crash parts them. Each file is written aside, synced and renamed; only its
//! owner reads it. At every moment `current.pem` is there, once it was.

use super::Life;
use crate::disk;
use crate::journal::crash;
use crate::tls::request::PublicKey;
use crate::tls::{Code, Facts, read_pem};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the folder in the data directory.
pub(super) const FOLDER: &str = "identity";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FOLDER];
const CURRENT: &str = "current.pem";
const NEXT: &str = "next.pem";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.pem";
const ANCHORS: &str = "anchors.pem";
const TRUST: &str = "trust.pem";
const LOCK: &str = "lock";

/// Where the certificate in use is, with its key.
pub fn current(data: &Path) -> PathBuf {
    data.join(FOLDER).join(CURRENT)
}

/// Where those are that the desk has handed out.
pub fn anchors(data: &Path) -> PathBuf {
    data.join(FOLDER).join(ANCHORS)
}

/// Where those are whom the box trusts.
pub fn trust(data: &Path) -> PathBuf {
    data.join(FOLDER).join(TRUST)
}

/// The code of this box: of the key it was let in with, else of the one it asks with, which is made when there is none.
/// Root makes it as whom the data directory belongs to.
///
/// # Errors
/// When it cannot be made or kept.
pub fn code(data: &Path) -> std::io::Result<Option<Code>> {
    disk::as_owner_of(data, || {
        std::fs::create_dir_all(data)?;
        let folder = Folder::open(data)?;
        match folder.current().and_then(|held| held.code) {
            Some(code) => Ok(Some(code)),
            None => folder.new_key().map(|key| key.code()),
        }
    })
    .flatten()
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// A certificate that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// When it is good.
    pub life: Life,
    /// Whose it is.
    pub common_name: Option<String>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The code of its key; none for one of another kind than boxes make.
    pub code: Option<Code>,
}

/// A key, as PEM text.
pub struct Key {
    pem: Zeroizing<String>,
    pair: KeyPair,
}

impl Key {
    fn read(file: &Path) -> std::io::Result<Key> {
        let bytes = Zeroizing::new(read_pem(file).map_err(Error::other)?);
        let der = rustls_pki_types::PrivateKeyDer::from_pem_slice(&bytes).map_err(Error::other)?;
        let pair = KeyPair::try_from(&der).map_err(Error::other)?;
        Ok(Key { pem: Zeroizing::new(pair.serialize_pem()), pair })
    }

    /// For signing a request.
    pub fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// What a person tells it by.
    pub fn code(&self) -> Option<Code> {
        PublicKey::of_info(&self.pair.subject_public_key_info()).as_ref().map(Code::of)
    }
}

impl Folder {
    /// Opens, or makes, the folder.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(data: &Path) -> std::io::Result<Folder> {
        let path = data.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Folder { path })
    }

    /// Nobody else works here while the file is held.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when somebody does.
    pub fn lock(&self) -> std::io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.join(LOCK))?;
        file.try_lock().map_err(Error::from)?;
        Ok(file)
    }

    /// The certificate in use.
    pub fn current(&self) -> Option<Held> {
        held(&self.path.join(CURRENT))
    }

    /// The one that is not proven yet.
    pub fn next(&self) -> Option<Held> {
        held(&self.path.join(NEXT))
    }

    /// Where that is, with its key.
    pub fn next_file(&self) -> PathBuf {
        self.path.join(NEXT)
    }

    /// Where the one in use is, with its key.
    pub fn current_file(&self) -> PathBuf {
        self.path.join(CURRENT)
    }

    /// The key of the certificate in use.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn current_key(&self) -> std::io::Result<Key> {
        Key::read(&self.path.join(CURRENT))
    }

    /// The key for which a certificate is asked, if there is one.
    pub fn asking_key(&self) -> Option<Key> {
        Key::read(&self.path.join(NEXT_KEY)).ok()
    }

    /// The key for which a certificate is to be asked; made when there is none.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn new_key(&self) -> std::io::Result<Key> {
        if let Some(key) = self.asking_key() {
            return Ok(key);
        }
        let pair = KeyPair::generate().map_err(Error::other)?;
        let pem = Zeroizing::new(pair.serialize_pem());
        self.put(NEXT_KEY, pem.as_bytes())?;
        crash::point("identity-key-kept");
        Ok(Key { pem, pair })
    }

    /// Keeps the certificate that was made for this key.
    ///
    /// # Errors
    /// When it cannot be kept; or is for another key, has ended, or is nobody's.
    pub fn keep_next(&self, chain: &[CertificateDer<'_>], key: &Key, now_s: i64) -> std::io::Result<()> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidData, why);
        let facts = chain.first().and_then(|first| Facts::of(first));
        let facts = facts.ok_or_else(|| wrong("the server sends what is no certificate"))?;
        if facts.public_key != key.pair.subject_public_key_info() {
            return Err(wrong("the server sends a certificate for another key"));
        }
        if facts.ends_s <= now_s {
            return Err(wrong("the server sends a certificate that has ended; is the clock right?"));
        }
        if let Some(current) = self.current()
            && current.common_name != facts.common_name
        {
            return Err(wrong("the server sends a certificate for another name"));
        }
        let mut text = Zeroizing::new(String::new());
        chain.iter().for_each(|certificate| text.push_str(&crate::tls::pem("CERTIFICATE", certificate)));
        text.push_str(&key.pem);
        self.put(NEXT, text.as_bytes())?;
        crash::point("identity-next-kept");
        self.remove(NEXT_KEY)
    }

    /// The next one is used from now on; the one before is kept until it ends.
    ///
    /// # Errors
    /// When it cannot be; then the one before is used still.
    pub fn promote(&self) -> std::io::Result<()> {
        let (current, next) = (self.path.join(CURRENT), self.path.join(NEXT));
        if current.exists() {
            let aside = self.path.join("previous.pem.new");
            let _ = std::fs::remove_file(&aside);
            std::fs::hard_link(&current, &aside)?;
            std::fs::rename(&aside, self.path.join(PREVIOUS))?;
            crash::point("identity-previous-kept");
        }
        std::fs::rename(next, current)?;
        crash::point("identity-promoted");
        self.sync()
    }

    /// The next one is of no use.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard_next(&self) -> std::io::Result<()> {
        self.remove(NEXT)
    }

    /// The one before is not needed once it has ended.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_previous(&self, now_s: i64) -> std::io::Result<()> {
        match held(&self.path.join(PREVIOUS)) {
            Some(previous) if previous.life.ends_s <= now_s => self.remove(PREVIOUS),
            _ => Ok(()),
        }
    }

    /// Keeps the authorities that the desk hands out.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub fn keep_anchors(&self, anchors: &[CertificateDer<'_>]) -> std::io::Result<()> {
        let text: String = anchors.iter().map(|anchor| crate::tls::pem("CERTIFICATE", anchor)).collect();
        match std::fs::read(self.path.join(ANCHORS)) {
            Ok(held) if held == text.as_bytes() => Ok(()),
            _ => self.put(ANCHORS, text.as_bytes()),
        }
    }

    /// Writes down whom the box trusts: the site's own authorities and those that the desk handed out. Says where.
    ///
    /// # Errors
    /// When the site's cannot be read, or it cannot be written.
    pub fn trust(&self, site: &Path) -> std::io::Result<PathBuf> {
        let mut text = read_pem(site).map_err(Error::other)?;
        text.push(b'\n');
        text.extend(std::fs::read(self.path.join(ANCHORS)).unwrap_or_default());
        let file = self.path.join(TRUST);
        if std::fs::read(&file).ok().as_ref() != Some(&text) {
            self.put(TRUST, &text)?;
        }
        Ok(file)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        disk::replace_secret(&self.path.join(name), bytes)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// What is in a file that holds a certificate and a key that can be used.
fn held(file: &Path) -> Option<Held> {
    let pem = Zeroizing::new(read_pem(file).ok()?);
    let first = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
    let facts = Facts::of(&first)?;
    Key::read(file).ok()?;
    Some(Held {
        life: Life { begins_s: facts.begins_s, ends_s: facts.ends_s },
        common_name: facts.common_name,
        serial: facts.serial,
        code: PublicKey::of_info(&facts.public_key).as_ref().map(Code::of),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::authority::{self, Authority, Use};

    const NOW_S: i64 = 1_790_000_000;

    fn signed(ca: &Authority, key: &Key, name: &str, ends_s: i64) -> Vec<CertificateDer<'static>> {
        let public = PublicKey::of_info(&key.pair().subject_public_key_info()).unwrap();
        ca.sign(&public, &Use::Client(name.into()), NOW_S, ends_s).unwrap().chain
    }

    fn ca() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        authority::init(&dir.path().join("ca"), "acme", NOW_S).unwrap();
        let authority = Authority::open(&dir.path().join("ca")).unwrap();
        (dir, authority)
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let code = folder.new_key().unwrap().code().unwrap();
        assert_eq!(folder.new_key().unwrap().code(), Some(code));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path.join(NEXT_KEY)), 0o600);
        assert_eq!(mode(&folder.path), 0o700);
    }

    #[test]
    fn the_next_takes_the_place_of_the_present_which_is_kept_until_it_ends() {
        let (dir, ca) = ca();
        let folder = Folder::open(dir.path()).unwrap();
        for (n, ends_s) in [(1, NOW_S + 1000), (2, NOW_S + 2000)] {
            let key = folder.new_key().unwrap();
            folder.keep_next(&signed(&ca, &key, "bench-1", ends_s), &key, NOW_S).unwrap();
            assert!(folder.asking_key().is_none() && folder.next().is_some(), "{n}");
            folder.promote().unwrap();
            assert_eq!((folder.next(), folder.current().unwrap().life.ends_s), (None, ends_s));
            assert_eq!(folder.current_key().unwrap().code(), key.code());
        }
        assert_eq!(held(&folder.path.join(PREVIOUS)).unwrap().life.ends_s, NOW_S + 1000);
        folder.forget_previous(NOW_S + 999).unwrap();
        assert!(folder.path.join(PREVIOUS).exists());
        folder.forget_previous(NOW_S + 1000).unwrap();
        assert!(!folder.path.join(PREVIOUS).exists());
    }

    #[test]
    fn what_is_not_the_boxs_own_is_not_kept() {
        let (dir, ca) = ca();
        let folder = Folder::open(dir.path()).unwrap();
        let key = folder.new_key().unwrap();
        let other = Folder::open(&dir.path().join("other")).unwrap().new_key().unwrap();
        let keep = |chain: &[CertificateDer<'_>], now_s| folder.keep_next(chain, &key, now_s).is_ok();
        assert!(!keep(&signed(&ca, &other, "bench-1", NOW_S + 1000), NOW_S), "another's key");
        assert!(!keep(&signed(&ca, &key, "bench-1", NOW_S + 1000), NOW_S + 1000), "one that has ended");
        assert!(!keep(&[], NOW_S) && !keep(&[CertificateDer::from(vec![1, 2, 3])], NOW_S));
        assert!(keep(&signed(&ca, &key, "bench-1", NOW_S + 1000), NOW_S));
        folder.promote().unwrap();
        let key = folder.new_key().unwrap();
        let renamed = signed(&ca, &key, "bench-2", NOW_S + 1000);
        assert!(folder.keep_next(&renamed, &key, NOW_S).is_err(), "another name");
        assert_eq!(folder.current().unwrap().common_name.as_deref(), Some("bench-1"));
    }

    #[test]
    fn a_file_that_is_damaged_is_as_one_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        std::fs::write(folder.path.join(CURRENT), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        assert!(folder.current().is_none() && folder.current_key().is_err());
        std::fs::write(folder.path.join(NEXT_KEY), "").unwrap();
        folder.new_key().unwrap();
    }
}
