//! TLS for links and destinations: what a site writes in its configuration, made into rustls configurations.
//!
//! The rules, the same in both directions:
//!
//! - TLS 1.2 and 1.3 with the suites of BCP 195; nothing can be weakened by configuration.
//! - One cryptography provider (ring), named explicitly, so that no other crate can choose another.
//! - A server that names `client_ca` *requires* a client certificate (IHE ATNA, ITI-19). Nobody is let in without.
//! - No tickets and no resumption: a resumed session would outlive the certificate it was checked with, and a
//!   connection here lives for hours, so resumption saves nothing.
//! - Every call reads the files again. Callers build a configuration when they connect (or when [`Files`] says that a
//!   file changed), so a renewed certificate is used at the next connection without a restart; a connection in use goes
//!   on. Files that were changed and do not work leave what worked before in use ([`client_or_last`]).
//!
//! Errors name the setting, the file and what to do about it, and never hold key material.

pub mod certs_only;
mod code;
mod der;
mod doorkeeper;
mod fingerprint;
mod last_good;
pub mod proxy;
pub mod request;
mod stranger;
mod subject;
pub mod throwaway;

pub use code::Code;
pub use doorkeeper::Doorkeeper;
pub use fingerprint::Fingerprint;
pub use last_good::client_or_last;
pub use proxy::Proxy;
pub use subject::{Facts, common_name, ends};

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::credential;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PEM file larger than this is not a certificate file somebody meant to name. The system bundle is about 220 KB.
const PEM_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where Linux distributions keep the certificate authorities they trust, in the order they are tried.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How we connect to a peer over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// PEM file with the certificate authorities that may sign the peer's certificate. Without it those the operating
    /// system trusts are used. Name the hospital's own authority here: then no other can vouch for a false EHR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name the peer's certificate must carry, when it is not the host of the address (an address written as an
    /// IP number, a tunnel).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM file with our own certificate and its chain, for peers that ask for one (mutual TLS). Needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of `cert` (PKCS#8, SEC1 or PKCS#1, not encrypted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The HTTP proxy that leads to the peer, where nothing leaves the site but through one, such as
    /// `http://proxy.example:3128`; left out, the peer is dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Who we are to the proxy; left out, nobody in particular. Needs `proxy_password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_user: Option<String>,
    /// File with the password of `proxy_user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_password_file: Option<PathBuf>,
}

/// How we accept peers over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with our certificate and its chain.
    pub cert: PathBuf,
    /// PEM file with the private key of `cert` (PKCS#8, SEC1 or PKCS#1, not encrypted).
    pub key: PathBuf,
    /// PEM file with the certificate authorities of the peers. When it is set, a peer without a certificate signed by
    /// one of them is turned away before it can send a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Why TLS could not be set up. The text is for the person who edits the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is named cannot be read.
    #[error("cannot read {file}: {source}; give its path and let the service's user read it")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is far too large for what it should hold.
    #[error("{file} is larger than {max} bytes; this is not a PEM file of certificates or a key", max = PEM_MAX_BYTES)]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// A file holds no certificate.
    #[error("{file} holds no certificate; expected PEM text with -----BEGIN CERTIFICATE-----")]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// A file holds no private key that can be used.
    #[error(
        "{file} holds no private key that can be used; expected unencrypted PEM text with -----BEGIN PRIVATE KEY----- \
         (`openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` converts and decrypts)"
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// A certificate in a file of authorities cannot be used.
    #[error("{file} holds a certificate that cannot be used as an authority: {source}")]
    BadAuthority {
        /// The file.
        file: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    #[error("{cert} and {key} cannot be used together: {source}; is the key the one the certificate was made for?")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// Only one of `cert` and `key` is given.
    #[error("`cert` and `key` belong together; give both or neither")]
    HalfPair,
    /// What is said of a proxy is none.
    #[error("`{url}` is no proxy; write it as \"http://proxy.example:3128\", its user as `proxy_user`")]
    Proxy {
        /// What is said.
        url: String,
    },
    /// Only one of the proxy's user and password is given, or they cannot be told it.
    #[error("`proxy_user` and `proxy_password_file` belong together; give both or neither, and `proxy`")]
    HalfProxyUser,
    /// What is named as the proxy's password is none.
    #[error("{file} holds no password of a proxy; expected one line of printable ASCII, at most 256 bytes")]
    ProxyPassword {
        /// The file.
        file: PathBuf,
    },
    /// No authorities are named and the operating system has none.
    #[error("no `ca` is given and this system has no bundle of trusted authorities; set `ca` to the peer's authority")]
    NoSystemBundle,
    /// The name to look for in the peer's certificate is neither a host name nor an IP address.
    #[error(
        "`{name}` is neither a host name nor an IP address; set `server_name` to the name in the peer's certificate"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// What checks the peer could not be built.
    #[error("{file} cannot be used to check peers: {reason}")]
    Verifier {
        /// The file of authorities.
        file: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// rustls refused the protocol versions; only a broken build can cause this.
    #[error("this build supports neither TLS 1.2 nor TLS 1.3: {0}")]
    Versions(rustls::Error),
    /// A throwaway certificate could not be made.
    #[error("cannot make a throwaway certificate: {0}")]
    Throwaway(String),
}

/// The one cryptography provider of this program. Also makes it the process default, once, for crates that ask for it.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let provider = rustls::crypto::ring::default_provider();
        // An error means that somebody installed one before us; ours is passed explicitly everywhere anyway.
        let _ = provider.clone().install_default();
        Arc::new(provider)
    }))
}

/// Reads the files of `config` and builds what a connection to a peer needs.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn client(config: &ClientTls) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &config.ca {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    // Told now and not at the first connection.
    config.proxy()?;
    let file = config.ca.clone().unwrap_or_default();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::Verifier { file, reason: error.to_string() })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(TlsError::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(stranger::Naming(verifier)));
    let mut built = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let pair = |source| TlsError::Pair { cert: cert.clone(), key: key.clone(), source };
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(pair)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfPair),
    };
    built.resumption = Resumption::disabled();
    Ok(Arc::new(built))
}

/// Reads the files of `config` and builds what a listener needs.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn server(config: &ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(TlsError::Versions)?;
    let builder = match &config.client_ca {
        Some(file) => {
            let roots = Arc::new(authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| TlsError::Verifier { file: file.clone(), reason: e.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let pair = |source| TlsError::Pair { cert: config.cert.clone(), key: config.key.clone(), source };
    let mut built = builder.with_single_cert(certificates(&config.cert)?, private_key(&config.key)?).map_err(pair)?;
    built.session_storage = Arc::new(NoServerSessionStorage {});
    built.send_tls13_tickets = 0;
    Ok(Arc::new(built))
}

/// For an endpoint at which some show a certificate of these authorities, and others have none yet. The key is PEM text.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn server_that_asks(
    chain: Vec<CertificateDer<'static>>,
    key: &str,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let refused = |reason: String| TlsError::Verifier { file: PathBuf::from("the desk's authority"), reason };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| refused(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| refused(error.to_string()))?;
    let mut built = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(TlsError::Versions)?
        .with_client_cert_verifier(verifier.build().map_err(|error| refused(error.to_string()))?)
        .with_single_cert(chain, key)
        .map_err(|error| refused(error.to_string()))?;
    built.session_storage = Arc::new(NoServerSessionStorage {});
    built.send_tls13_tickets = 0;
    Ok(Arc::new(built))
}

/// For a client that speaks to loopback without TLS: any TLS peer is refused.
///
/// # Errors
/// [`TlsError::Versions`].
pub fn trusting_nobody() -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).map_err(TlsError::Versions)?;
    Ok(Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
}

/// The fingerprint of the certificate that the peer of a connection has shown, if it has shown one.
pub fn shown(connection: &rustls::CommonState) -> Option<Fingerprint> {
    connection.peer_certificates()?.first().map(Fingerprint::of)
}

/// What rustls holds against a peer, in words for a log; of a certificate that is not trusted, who signed it.
pub fn reason(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error, OtherError};
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.to_string(),
        Error::InvalidMessage(_) => "what answers there does not speak TLS".to_string(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it lets in nobody without a certificate; give it one (`cert` and `key`)".to_string()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => format!(
            "it does not accept this side's certificate ({alert:?}); is `cert` one that it knows, and not over?"
        ),
        error => error.to_string(),
    }
}

const NOT_TRUSTED: &str = "TLS: the peer's certificate is from an authority that is not trusted here";

/// Why a TLS connection failed, in words that are constant: safe to log, and few enough to count by.
pub fn failure(error: &std::io::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => "TLS: the peer shows no certificate",
        // A bad signature: an authority of the same name, but not the same authority.
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)) => NOT_TRUSTED,
        Some(Error::InvalidCertificate(other)) if stranger::is_stranger(other) => NOT_TRUSTED,
        Some(Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        )) => "TLS: the peer's certificate is not valid now; is the clock right?",
        Some(Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. })) => {
            "TLS: the peer's certificate is for another name"
        }
        Some(Error::InvalidCertificate(_)) => "TLS: the peer's certificate is not usable",
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => "TLS: the peer does not speak TLS",
        Some(Error::PeerIncompatible(_)) => "TLS: no version or cipher in common with the peer",
        Some(Error::AlertReceived(_)) => "TLS: the peer does not accept this side; does it trust our certificate?",
        Some(_) => "TLS: the connection failed",
        None => "TLS: the peer hung up during the handshake",
    }
}

impl ClientTls {
    /// The name to look for in the peer's certificate: `server_name` when it is set, else `host` of the address.
    ///
    /// # Errors
    /// [`TlsError::BadName`].
    pub fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName { name: name.to_owned() })
    }

    /// The proxy on the way to the peer, if there is one. Its password is read anew.
    ///
    /// # Errors
    /// [`TlsError`] when it is none, or its user and password are not whole.
    pub fn proxy(&self) -> Result<Option<Proxy>, TlsError> {
        match (&self.proxy, &self.proxy_user, &self.proxy_password_file) {
            (None, None, None) => Ok(None),
            (Some(url), user, file) => Proxy::new(url, user.as_deref(), file.as_deref()).map(Some),
            _ => Err(TlsError::HalfProxyUser),
        }
    }

    /// The files this configuration reads: without a `ca`, those of the operating system too, which are renewed as well.
    pub fn files(&self) -> Files {
        let named = [&self.ca, &self.cert, &self.key, &self.proxy_password_file].into_iter().flatten().cloned();
        let system = SYSTEM_BUNDLES.iter().map(PathBuf::from).filter(|_| self.ca.is_none());
        Files::new(named.chain(system))
    }
}

impl ServerTls {
    /// The files this configuration reads.
    pub fn files(&self) -> Files {
        Files::new([self.cert.clone(), self.key.clone()].into_iter().chain(self.client_ca.clone()))
    }
}

/// Files as they were when they were last looked at, so that a caller can tell when to build its configuration again.
#[derive(Debug, Clone, Default)]
pub struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// When a file was changed, how long it is, and which one it is: a file that is renamed to its name is another.
type Stamp = (SystemTime, u64, u64);

impl Files {
    fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Files(paths.into_iter().map(|p| (p.clone(), stamp(&p))).collect())
    }

    /// True when a file changed since the last call (or since the files were named). Costs one `stat` a file.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.0 {
            let now = stamp(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(credential::place(path).ok()?).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// Reads a PEM file whole, refusing one that is absurdly large before it takes memory.
pub(crate) fn read_pem(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { file: file.to_owned(), source };
    let open = credential::open(file).map_err(unreadable)?;
    let length = open.metadata().map_err(unreadable)?.len();
    if length > PEM_MAX_BYTES {
        return Err(TlsError::TooLarge { file: file.to_owned() });
    }
    // Room for all of it: a key that moves leaves itself behind.
    let mut bytes = Vec::with_capacity(length as usize + 1);
    open.take(length).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// DER as PEM text (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_pem(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|f| !f.is_empty()).ok_or_else(|| TlsError::NoCertificate { file: file.to_owned() })
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = zeroize::Zeroizing::new(read_pem(file)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey { file: file.to_owned() })
}

/// Every certificate of a file the site named must be usable: a broken one is a mistake to be told about.
fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|source| TlsError::BadAuthority { file: file.to_owned(), source })?;
    }
    Ok(roots)
}

/// Certificates of the system's bundle that cannot be parsed are passed over: they are not the site's doing.
fn system_authorities() -> Result<RootCertStore, TlsError> {
    for bundle in SYSTEM_BUNDLES {
        let Ok(found) = certificates(Path::new(bundle)) else { continue };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        if !roots.is_empty() {
            return Ok(roots);
        }
    }
    Err(TlsError::NoSystemBundle)
}

#[cfg(test)]
mod tests;
