//! Who signed a certificate that is not trusted: a person sees by the name whether a firewall looks into TLS here.

use super::subject::Facts;
use rustls::CertificateError::{BadSignature, UnknownIssuer};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// As much of the name is shown.
const NAME_MAX: usize = 64;

/// The certificate was signed by one that is not trusted here.
#[derive(Debug)]
pub(super) struct Stranger {
    issuer: String,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the certificate is signed by \"{}\", which is not trusted here; where a firewall looks into TLS, have it leave \
             this peer alone, or name its authority in `ca`",
            self.issuer
        )
    }
}

impl std::error::Error for Stranger {}

/// True when this is what a certificate is refused for.
pub(super) fn is_stranger(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(OtherError(other)) if other.is::<Stranger>())
}

/// Checks as webpki does, and names who signed what it refuses. A bad signature is that of an authority of the same name.
#[derive(Debug)]
pub(super) struct Naming(pub Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match (checked, Facts::of(end_entity).and_then(|facts| facts.issuer_name())) {
            (Err(Error::InvalidCertificate(UnknownIssuer | BadSignature)), Some(issuer)) => {
                let issuer = shown(&issuer);
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Stranger { issuer })))))
            }
            (checked, _) => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whoever is on the line chose the name: nothing of it steers a terminal, and it is no longer than a name is.
fn shown(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric() || " .,-_@()'&/".contains(*c)).take(NAME_MAX).collect()
}
