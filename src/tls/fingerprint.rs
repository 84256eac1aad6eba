//! The fingerprint of a certificate: how a site says which certificate it means, whoever signed it.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

/// SHA-256 over the certificate in DER, as `openssl x509 -noout -fingerprint -sha256` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// 64 hexadecimal digits, upper or lower case, with or without `:` between the bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let no_fingerprint = || format!("`{text}` is no SHA-256 fingerprint of a certificate");
        let mut bytes = [0; 32];
        let mut digits = text.trim().chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(no_fingerprint());
            };
            *byte = (high << 4 | low) as u8;
        }
        if digits.next().is_some() { Err(no_fingerprint()) } else { Ok(Fingerprint(bytes)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { ":" };
            write!(f, "{between}{byte:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_and_others_print_it() {
        let known = Fingerprint::of(&CertificateDer::from(b"abc".to_vec()));
        let printed = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";
        assert_eq!(known.to_string(), printed);
        for text in [printed.to_string(), printed.replace(':', ""), printed.replace(':', "").to_lowercase()] {
            assert_eq!(text.parse(), Ok(known), "{text}");
        }
        for text in ["", "BA:78", "xyz", &format!("{printed}:00"), &printed[1..]] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
