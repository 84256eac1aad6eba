//! Certificates made on the spot for `afferent demo`, the simulators and the tests.
//!
//! A throwaway authority lives in memory, signs for one run and is forgotten. Nothing of a real site may ever trust
//! one: its key was never protected.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::{ClientTls, ServerTls, TlsError};

/// A certificate authority that exists for one run.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A certificate and its key, as PEM text.
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key (PKCS#8).
    pub key_pem: String,
}

/// The files that [`Authority::write`] made, as configurations for both ends of a connection.
pub struct Files {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// For the end that listens, demanding a client certificate.
    pub server: ServerTls,
    /// For the end that connects, showing one.
    pub client: ClientTls,
}

impl Authority {
    /// Makes an authority with a fresh key (P-256, about a millisecond).
    ///
    /// # Errors
    /// [`TlsError::Throwaway`] when the system has no random numbers.
    pub fn new() -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params("throwaway authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key).map_err(refused)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), ca_pem })
    }

    /// The authority's own certificate, as PEM text.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A server certificate for these host names or IP addresses.
    ///
    /// # Errors
    /// [`TlsError::Throwaway`] when a name cannot stand in a certificate.
    pub fn server(&self, names: &[&str]) -> Result<Identity, TlsError> {
        let mut params = params("throwaway server", names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A server certificate that ran out in 2001, to prove that nobody takes it.
    ///
    /// # Errors
    /// [`TlsError::Throwaway`] when a name cannot stand in a certificate.
    pub fn expired_server(&self, names: &[&str]) -> Result<Identity, TlsError> {
        let mut params = params("throwaway expired server", names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    /// A client certificate with this common name.
    ///
    /// # Errors
    /// [`TlsError::Throwaway`] when the system has no random numbers.
    pub fn client(&self, common_name: &str) -> Result<Identity, TlsError> {
        let mut params = params(common_name, &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Writes `ca.pem` and a server and a client identity for `localhost` and the loopback addresses into `dir`.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<Files, TlsError> {
        let server = self.server(&["localhost", "127.0.0.1", "::1"])?;
        let client = self.client("afferent")?;
        let ca = put(dir, "ca.pem", &self.ca_pem)?;
        Ok(Files {
            server: ServerTls {
                cert: put(dir, "server.pem", &server.cert_pem)?,
                key: put(dir, "server.key", &server.key_pem)?,
                client_ca: Some(ca.clone()),
            },
            client: ClientTls {
                ca: Some(ca.clone()),
                cert: Some(put(dir, "client.pem", &client.cert_pem)?),
                key: Some(put(dir, "client.key", &client.key_pem)?),
                ..ClientTls::default()
            },
            ca,
        })
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity, TlsError> {
        let key = KeyPair::generate().map_err(refused)?;
        let cert_pem = params.signed_by(&key, &self.issuer).map_err(refused)?.pem();
        Ok(Identity { cert_pem, key_pem: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes the certificate to `NAME.pem` and the key to `NAME.key` in `dir`, and says where they are.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(PathBuf, PathBuf), TlsError> {
        let cert = put(dir, &format!("{name}.pem"), &self.cert_pem)?;
        Ok((cert, put(dir, &format!("{name}.key"), &self.key_pem)?))
    }
}

/// The dates stand in RFC 5280's UTCTime, which every TLS library reads.
fn params(common_name: &str, names: &[&str]) -> Result<CertificateParams, TlsError> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(refused)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn put(dir: &Path, name: &str, text: &str) -> Result<PathBuf, TlsError> {
    let file = dir.join(name);
    match std::fs::write(&file, text) {
        Ok(()) => Ok(file),
        Err(source) => Err(TlsError::Unreadable { file, source }),
    }
}

fn refused(error: rcgen::Error) -> TlsError {
    TlsError::Throwaway(error.to_string())
}
