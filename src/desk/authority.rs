//! The desk's certificate authority: a root that boxes, desk and broker trust, and an issuing key that signs what is used.
//!
//! Both keys are of P-256, in files that only their owner reads. The root's is needed for nothing but another issuing
//! certificate: keep it where the desk is not. What is signed is good for one thing, a server or a client (RFC 5280,
//! 4.2.1.12), and begins a little before now, for clocks are not all alike.

use crate::tls::request::PublicKey;
use crate::tls::{Facts, read_pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Name of its folder beside `desk.toml`.
pub const FOLDER: &str = "ca";
/// The root's certificate there: what boxes and broker trust.
pub const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";
const ISSUING: &str = "issuing.pem";
const ISSUING_KEY: &str = "issuing.key";

const DAY_S: i64 = 24 * 3600;
/// 20 years and 10 years: a fleet outlives its desk.
const ROOT_LIFE_S: i64 = 20 * 365 * DAY_S;
const ISSUING_LIFE_S: i64 = 10 * 365 * DAY_S;
/// A certificate begins this much earlier than it is made, or a tenth of its life when that is less.
const EARLIER_MAX_S: i64 = 3600;

/// Why the authority does not serve. The text is for the person at the desk.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is there and is not replaced.
    #[error(
        "{} is there already: an authority is made once, and what it signed hangs on it. Where `ca init` was interrupted \
         and has signed nothing yet, take the folder away; where the root is whole, `ca issuing` makes the rest",
        .0.display()
    )]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds {what} that cannot be used; make the authority with `afferent desk ca init`", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The issuing key or certificate does not serve, and the root can make others.
    #[error("{} {what}: `afferent desk ca issuing` makes another key and certificate, with the root's key", file.display())]
    Issuing {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The authority itself ends before what it should sign.
    #[error("the issuing certificate has ended, or ends too soon for this: renew it with `afferent desk ca issuing`")]
    Over,
    /// The certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Refused(String),
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// Whoever is reached by these names or addresses, such as the broker.
    Server(Vec<String>),
    /// Whoever is known by this common name, such as a box or a desk.
    Client(String),
}

/// The authority, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    ends_s: i64,
}

/// A certificate and what is behind it up to the root, which is left out.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Signed {
    /// The certificate itself.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// All of it as PEM text.
    pub fn pem(&self) -> String {
        self.chain.iter().map(|certificate| pem(certificate)).collect()
    }
}

/// Makes root and issuing key in a folder, which must not have them. `whose` stands in both certificates.
///
/// # Errors
/// [`AuthorityError`].
pub fn init(folder: &Path, whose: &str, now_s: i64) -> Result<(), AuthorityError> {
    if let Some(there) =
        [ROOT, ROOT_KEY, ISSUING, ISSUING_KEY].map(|name| folder.join(name)).iter().find(|f| f.exists())
    {
        return Err(AuthorityError::Exists(there.clone()));
    }
    let failed = |source| AuthorityError::File { file: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let key = KeyPair::generate().map_err(refused)?;
    let mut params = subject(&format!("{whose} fleet root"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now_s - DAY_S, now_s + ROOT_LIFE_S);
    let root = params.self_signed(&key).map_err(refused)?;
    create(&folder.join(ROOT_KEY), &Zeroizing::new(key.serialize_pem()))?;
    create(&folder.join(ROOT), &root.pem())?;
    // It is public, and the broker, which reads it, is another user.
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.join(ROOT), readable).map_err(failed)?;
    issuing(folder, now_s)
}

/// Makes another issuing key and certificate, signed by the root; what the one before signed stays good.
///
/// # Errors
/// [`AuthorityError`]; the one before stays then.
pub fn issuing(folder: &Path, now_s: i64) -> Result<(), AuthorityError> {
    let (root, file) = (read_certificates(&folder.join(ROOT))?, folder.join(ROOT));
    let broken = || AuthorityError::Broken { file: file.clone(), what: "a certificate" };
    let facts = Facts::of(root.first().ok_or_else(broken)?).ok_or_else(broken)?;
    let whose = facts.common_name.clone().ok_or_else(broken)?;
    let root = Issuer::new(subject(&whose), read_key(&folder.join(ROOT_KEY))?);
    let key = KeyPair::generate().map_err(refused)?;
    // The moment makes the subjects of two issuing certificates differ, so that neither is taken for the other.
    let name = format!("{} issuing {now_s}", whose.strip_suffix(" root").unwrap_or(&whose));
    let mut params = subject(&name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now_s - DAY_S, (now_s + ISSUING_LIFE_S).min(facts.ends_s));
    let certificate = params.signed_by(&key, &root).map_err(refused)?;
    for (name, text) in [(ISSUING_KEY, key.serialize_pem()), (ISSUING, certificate.pem())] {
        let fresh = folder.join(format!("{name}.new"));
        let _ = std::fs::remove_file(&fresh);
        create(&fresh, &Zeroizing::new(text))?;
    }
    for name in [ISSUING_KEY, ISSUING] {
        let (fresh, file) = (folder.join(format!("{name}.new")), folder.join(name));
        std::fs::rename(fresh, &file).map_err(|source| AuthorityError::File { file, source })?;
    }
    Ok(())
}

impl Authority {
    /// Reads it from its folder. The root's key is not needed.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn open(folder: &Path) -> Result<Authority, AuthorityError> {
        let file = folder.join(ISSUING);
        // A crash while they were made may have left one of them alone, or of two keys.
        let roots = read_certificates(&folder.join(ROOT))?;
        let unusable = |name: &str, what| AuthorityError::Issuing { file: folder.join(name), what };
        let chain = read_certificates(&file).map_err(|_| unusable(ISSUING, "is not there, or no certificate"))?;
        let broken = || AuthorityError::Broken { file: file.clone(), what: "a certificate" };
        let facts = Facts::of(chain.first().ok_or_else(broken)?).ok_or_else(broken)?;
        let key = read_key(&folder.join(ISSUING_KEY)).map_err(|_| unusable(ISSUING_KEY, "is not there, or no key"))?;
        if facts.public_key != key.subject_public_key_info() {
            return Err(unusable(ISSUING_KEY, "is not the key of issuing.pem"));
        }
        let issuer = Issuer::new(subject(&facts.common_name.ok_or_else(broken)?), key);
        Ok(Authority { issuer, chain, roots, ends_s: facts.ends_s })
    }

    /// What those who trust it must know: roots, and what is between them and what it signs.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.roots.iter().chain(&self.chain).cloned().collect()
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Signs a certificate for this key, from about now until `ends_s`.
    ///
    /// # Errors
    /// [`AuthorityError::Over`], [`AuthorityError::Refused`].
    pub fn sign(&self, key: &PublicKey, use_: &Use, now_s: i64, ends_s: i64) -> Result<Signed, AuthorityError> {
        self.certify(key, use_, now_s, ends_s)
    }

    /// Makes a key and signs a certificate for it. The key is PEM text.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn make(&self, use_: &Use, now_s: i64, ends_s: i64) -> Result<(Signed, Zeroizing<String>), AuthorityError> {
        let key = KeyPair::generate().map_err(refused)?;
        Ok((self.certify(&key, use_, now_s, ends_s)?, Zeroizing::new(key.serialize_pem())))
    }

    fn certify(&self, key: &impl PublicKeyData, use_: &Use, now_s: i64, ends_s: i64) -> Result<Signed, AuthorityError> {
        if ends_s > self.ends_s {
            return Err(AuthorityError::Over);
        }
        let mut params = match use_ {
            Use::Client(name) => subject(name),
            Use::Server(names) => {
                let mut params = CertificateParams::new(names.clone()).map_err(refused)?;
                params.distinguished_name = subject(names.first().map_or("server", String::as_str)).distinguished_name;
                params
            }
        };
        params.extended_key_usages = vec![match use_ {
            Use::Client(_) => ExtendedKeyUsagePurpose::ClientAuth,
            Use::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let earlier = ((ends_s - now_s) / 10).clamp(0, EARLIER_MAX_S);
        valid(&mut params, now_s - earlier, ends_s);
        let certificate = params.signed_by(key, &self.issuer).map_err(refused)?;
        Ok(self.behind(certificate.der().clone()))
    }

    /// A certificate that it signed, and what is behind that.
    pub fn behind(&self, certificate: CertificateDer<'static>) -> Signed {
        Signed { chain: std::iter::once(certificate).chain(self.chain.iter().cloned()).collect() }
    }
}

/// A certificate as PEM text.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    crate::tls::pem("CERTIFICATE", certificate)
}

/// Writes a file that only its owner reads, and that was not there.
///
/// # Errors
/// [`AuthorityError`].
pub fn create(file: &Path, text: &str) -> Result<(), AuthorityError> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut open| {
        open.write_all(text.as_bytes())?;
        open.sync_all()
    });
    written.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => AuthorityError::Exists(file.to_path_buf()),
        _ => AuthorityError::File { file: file.to_path_buf(), source },
    })
}

fn subject(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// A number of its own for each certificate (RFC 5280, 4.1.2.2): one key may have several, and their numbers differ.
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| AuthorityError::Refused("the system has no random numbers".to_owned()))?;
    // Positive, and of the same length always.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn valid(params: &mut CertificateParams, begins_s: i64, ends_s: i64) {
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    (params.not_before, params.not_after) = (at(begins_s), at(ends_s));
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let broken = || AuthorityError::Broken { file: file.to_path_buf(), what: "a certificate" };
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(broken)
}

fn read_key(file: &Path) -> Result<KeyPair, AuthorityError> {
    let broken = || AuthorityError::Broken { file: file.to_path_buf(), what: "a key" };
    let text = Zeroizing::new(String::from_utf8(read(file)?.to_vec()).map_err(|_| broken())?);
    KeyPair::from_pem(&text).map_err(|_| broken())
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    read_pem(file).map(Zeroizing::new).map_err(|_| match file.exists() {
        true => AuthorityError::Broken { file: file.to_path_buf(), what: "something" },
        false => AuthorityError::File { file: file.to_path_buf(), source: std::io::ErrorKind::NotFound.into() },
    })
}

fn refused(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const NOW_S: i64 = 1_790_000_000;
    const LIFE_S: i64 = 90 * DAY_S;

    fn made() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "acme", NOW_S).unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        (dir, authority)
    }

    #[test]
    fn an_authority_is_made_once_and_its_keys_are_its_owners_alone() {
        let (dir, _) = made();
        assert!(matches!(init(dir.path(), "acme", NOW_S), Err(AuthorityError::Exists(_))));
        for name in [ROOT_KEY, ISSUING_KEY] {
            let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let mode = dir.path().join(ROOT).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "the broker reads it");
    }

    #[test]
    fn a_crash_while_the_issuing_key_was_made_is_made_good() {
        let (dir, _) = made();
        let (key, other) = (dir.path().join(ISSUING_KEY), KeyPair::generate().unwrap().serialize_pem());
        for broken in [Some(other.as_str()), Some("half"), None] {
            match broken {
                Some(text) => std::fs::write(&key, text).unwrap(),
                None => [ISSUING, ISSUING_KEY].iter().for_each(|f| std::fs::remove_file(dir.path().join(f)).unwrap()),
            }
            let why = Authority::open(dir.path()).err().unwrap().to_string();
            assert!(why.contains("`afferent desk ca issuing`"), "{why}");
            issuing(dir.path(), NOW_S).unwrap();
            Authority::open(dir.path()).unwrap();
        }
    }

    #[test]
    fn what_it_signs_does_not_outlive_it_and_says_for_whom() {
        let (dir, authority) = made();
        let client = Use::Client("bench-1".to_owned());
        let (signed, _) = authority.make(&client, NOW_S, NOW_S + LIFE_S).unwrap();
        let facts = Facts::of(signed.certificate()).unwrap();
        assert_eq!(facts.common_name.as_deref(), Some("bench-1"));
        assert_eq!((facts.begins_s, facts.ends_s), (NOW_S - EARLIER_MAX_S, NOW_S + LIFE_S));
        let late = NOW_S + ISSUING_LIFE_S;
        assert!(matches!(authority.make(&client, late, late + LIFE_S), Err(AuthorityError::Over)));
        issuing(dir.path(), late).unwrap();
        Authority::open(dir.path()).unwrap().make(&client, late, late + LIFE_S).unwrap();
    }

    #[test]
    fn openssl_takes_its_certificates_for_what_they_are_for_and_for_nothing_else() {
        let (dir, authority) = made();
        let put = |name: &str, use_: &Use| {
            let (signed, _) = authority.make(use_, NOW_S, NOW_S + LIFE_S).unwrap();
            std::fs::write(dir.path().join(name), signed.pem()).unwrap();
        };
        put("box.pem", &Use::Client("bench-1".to_owned()));
        put("broker.pem", &Use::Server(vec!["broker.example".to_owned(), "192.0.2.1".to_owned()]));
        let verifies = |file: &str, purpose: &str, at_s: i64, more: &[&str]| {
            Command::new("openssl")
                .args(["verify", "-x509_strict", "-CAfile", ROOT, "-untrusted", ISSUING, "-purpose", purpose])
                .args(["-attime", &at_s.to_string()])
                .args(more)
                .arg(file)
                .current_dir(dir.path())
                .output()
                .map(|output| output.status.success())
        };
        let Ok(is_taken) = verifies("box.pem", "sslclient", NOW_S, &[]) else {
            return println!("left out: no openssl for a second opinion");
        };
        assert!(is_taken);
        assert!(!verifies("box.pem", "sslserver", NOW_S, &[]).unwrap());
        assert!(!verifies("box.pem", "sslclient", NOW_S + LIFE_S + 1, &[]).unwrap());
        assert!(!verifies("box.pem", "sslclient", NOW_S - 2 * EARLIER_MAX_S, &[]).unwrap());
        assert!(verifies("broker.pem", "sslserver", NOW_S, &["-verify_hostname", "broker.example"]).unwrap());
        assert!(verifies("broker.pem", "sslserver", NOW_S, &["-verify_ip", "192.0.2.1"]).unwrap());
        assert!(!verifies("broker.pem", "sslserver", NOW_S, &["-verify_hostname", "other.example"]).unwrap());
        assert!(!verifies("broker.pem", "sslclient", NOW_S, &[]).unwrap());
    }
}
