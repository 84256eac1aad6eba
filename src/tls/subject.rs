//! Whose a certificate is, by its common name. No more of X.509 is read than leads there.

use super::{TlsError, certificates};
use std::path::Path;

/// `commonName`, 2.5.4.3 (X.520).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
/// `[0]`, the version, which may be left out.
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, IA5String.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The common name of the first certificate of a PEM file; none when it has none.
///
/// # Errors
/// [`TlsError`] when there is no certificate to read.
pub fn common_name(file: &Path) -> Result<Option<String>, TlsError> {
    Ok(certificates(file)?.first().and_then(|certificate| of_certificate(certificate)))
}

/// RFC 5280, 4.1: the subject comes behind version, serial number, signature, issuer and validity.
fn of_certificate(der: &[u8]) -> Option<String> {
    let certificate = inside(SEQUENCE, der)?;
    let mut fields = inside(SEQUENCE, certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = next(fields)?.2;
    }
    for _ in ["serialNumber", "signature", "issuer", "validity"] {
        fields = next(fields)?.2;
    }
    let mut names = inside(SEQUENCE, fields)?;
    while !names.is_empty() {
        let (_, set, behind) = next(names)?;
        names = behind;
        let attribute = inside(SEQUENCE, set)?;
        let (kind, value, _) = next(inside_of(attribute, OID, &COMMON_NAME).unwrap_or_default()).unwrap_or_default();
        if STRINGS.contains(&kind) {
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}

/// What follows this value in an attribute, when the attribute begins with it.
fn inside_of<'d>(attribute: &'d [u8], tag: u8, value: &[u8]) -> Option<&'d [u8]> {
    let (found, content, behind) = next(attribute)?;
    (found == tag && content == value).then_some(behind)
}

/// The content of the element that comes first, when it is of this kind.
fn inside(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let (found, content, _) = next(der)?;
    (found == tag).then_some(content)
}

/// The first element: tag, content, and what comes behind it (X.690, 8.1; definite lengths, as DER has them).
fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 3 || rest.len() < bytes {
            return None;
        }
        let (digits, behind) = rest.split_at(bytes);
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = behind;
    }
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

#[cfg(test)]
mod tests {
    use super::super::throwaway::Authority;
    use super::*;

    #[test]
    fn a_certificate_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Authority::new().unwrap().client("bench-1").unwrap();
        let (cert, key) = identity.write(dir.path(), "bench").unwrap();
        assert_eq!(common_name(&cert).unwrap().as_deref(), Some("bench-1"));
        assert!(matches!(common_name(&key), Err(TlsError::NoCertificate { .. })));
    }

    #[test]
    fn what_is_no_certificate_has_no_name_and_no_byte_is_read_beyond_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, _) = Authority::new().unwrap().client("bench-1").unwrap().write(dir.path(), "bench").unwrap();
        let der = certificates(&cert).unwrap().remove(0).to_vec();
        for end in 0..der.len() {
            assert_eq!(of_certificate(&der[..end]), None, "cut at {end}");
        }
        for at in 0..der.len().min(200) {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = der.clone();
                broken[at] = value;
                let _ = of_certificate(&broken);
            }
        }
    }
}
