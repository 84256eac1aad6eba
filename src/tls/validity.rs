//! How long a certificate is valid.

use super::{TlsError, certificates};
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When the first certificate of a PEM file ends (`notAfter`, RFC 5280, 4.1.2.5), Unix seconds. None for one that cannot
/// be read.
///
/// # Errors
/// [`TlsError`] when there is no certificate.
pub fn ends(file: &Path) -> Result<Option<i64>, TlsError> {
    let certificates = certificates(file)?;
    let first = certificates.first().and_then(|der| X509Certificate::from_der(der).ok());
    Ok(first.map(|(_, certificate)| certificate.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::super::throwaway::Authority;
    use super::*;

    #[test]
    fn it_is_what_openssl_says() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = Authority::new().unwrap().client("bench-1").unwrap().write(dir.path(), "bench").unwrap();
        assert!(ends(&key).is_err());
        let ends_s = ends(&cert).unwrap().unwrap();
        let checked = |seconds: i64| {
            let openssl = std::process::Command::new("openssl")
                .args(["x509", "-noout", "-checkend", &seconds.to_string(), "-in"])
                .arg(&cert)
                .output();
            openssl.map(|output| output.status.success())
        };
        let left = ends_s - jiff::Timestamp::now().as_second();
        match (checked(left - 60), checked(left + 60)) {
            (Ok(before), Ok(after)) => assert_eq!((before, after), (true, false), "{ends_s}"),
            _ => println!("left out: no openssl for a second opinion"),
        }
    }
}
