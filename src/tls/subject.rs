//! Whose a certificate is, by its common name, and when it ends. No more of X.509 is read than leads there: a crate that
//! reads all of it takes more room in the binary than the box has left.

use super::{TlsError, certificates};
use std::path::Path;

/// `commonName`, 2.5.4.3 (X.520).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
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
    let fields = next(from_validity(der)?)?.2;
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

/// When the first certificate of a PEM file ends (`notAfter`, RFC 5280, 4.1.2.5), Unix seconds; none when it cannot be
/// read.
///
/// # Errors
/// [`TlsError`] when there is no certificate to read.
pub fn ends(file: &Path) -> Result<Option<i64>, TlsError> {
    Ok(certificates(file)?.first().and_then(|certificate| end_of_certificate(certificate)))
}

fn end_of_certificate(der: &[u8]) -> Option<i64> {
    let (_, _, not_after) = next(inside(SEQUENCE, from_validity(der)?)?)?;
    let (kind, digits, _) = next(not_after)?;
    let text = std::str::from_utf8(digits).ok()?;
    let text = match kind {
        // Of two digits, years from 50 on are of the last century (4.1.2.5.1).
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// The fields of a certificate from `validity` on (RFC 5280, 4.1).
fn from_validity(der: &[u8]) -> Option<&[u8]> {
    let mut fields = inside(SEQUENCE, inside(SEQUENCE, der)?)?;
    if fields.first() == Some(&VERSION) {
        fields = next(fields)?.2;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        fields = next(fields)?.2;
    }
    Some(fields)
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

    #[test]
    fn it_ends_when_openssl_says_so() {
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

    #[test]
    fn both_forms_of_time_are_read() {
        let certificate = |kind: u8, time: &[u8]| {
            let sequence = |content: &[u8]| [&[SEQUENCE, content.len() as u8], content].concat();
            let time = [&[kind, time.len() as u8], time].concat();
            let validity = sequence(&[time.clone(), time].concat());
            sequence(&sequence(&[&[0x02, 1, 1], &sequence(&[])[..], &sequence(&[]), &validity].concat()))
        };
        assert_eq!(end_of_certificate(&certificate(UTC_TIME, b"260921141320Z")), Some(1_790_000_000));
        assert_eq!(end_of_certificate(&certificate(UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(end_of_certificate(&certificate(GENERALIZED_TIME, b"20550101000000Z")), Some(2_682_374_400));
        for wrong in [&b""[..], b"26", b"261399000000Z", b"\xff\xff"] {
            assert_eq!(end_of_certificate(&certificate(UTC_TIME, wrong)), None);
        }
    }
}
