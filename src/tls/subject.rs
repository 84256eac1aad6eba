//! Whose a certificate is, by its common name, when it begins and ends, and who signed it. No more of X.509 is read than
//! leads there: a crate that reads all of it takes more room in the binary than the box has left.

use super::der::{OID, SEQUENCE, inside, inside_of, next, whole};
use super::{TlsError, certificates};
use std::path::Path;

/// `commonName`, 2.5.4.3 (X.520).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
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
    Ok(certificates(file)?.first().and_then(|certificate| Facts::of(certificate)?.common_name))
}

/// The common name in a `Name` (RFC 5280, 4.1.2.4).
fn common_name_of(name: &[u8]) -> Option<String> {
    let mut names = inside(SEQUENCE, name)?;
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
    Ok(certificates(file)?.first().and_then(|certificate| Facts::of(certificate)).map(|facts| facts.ends_s))
}

/// What is read of a certificate in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The serial number, as hexadecimal digits.
    pub serial: String,
    /// `notBefore`, Unix seconds.
    pub begins_s: i64,
    /// `notAfter`, Unix seconds.
    pub ends_s: i64,
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// `Name` of who signed it, in DER.
    pub issuer: Vec<u8>,
    /// `Name` of whose it is, in DER.
    pub subject: Vec<u8>,
    /// Its `SubjectPublicKeyInfo`, in DER.
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Those of a certificate (RFC 5280, 4.1); none when it cannot be read.
    pub fn of(der: &[u8]) -> Option<Facts> {
        let mut fields = inside(SEQUENCE, inside(SEQUENCE, der)?)?;
        if fields.first() == Some(&VERSION) {
            fields = next(fields)?.2;
        }
        let (_, serial, fields) = next(fields)?;
        let fields = next(fields)?.2;
        let (issuer, fields) = whole(fields)?;
        let (_, validity, fields) = next(fields)?;
        let (_, _, not_after) = next(validity)?;
        let (subject, fields) = whole(fields)?;
        let (public_key, _) = whole(fields)?;
        Some(Facts {
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            begins_s: time(validity)?,
            ends_s: time(not_after)?,
            common_name: common_name_of(subject),
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            public_key: public_key.to_vec(),
        })
    }

    /// The common name of who signed it.
    pub fn issuer_name(&self) -> Option<String> {
        common_name_of(&self.issuer)
    }

    /// True for one that signed itself, as roots do.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// The moment that comes first, Unix seconds.
fn time(der: &[u8]) -> Option<i64> {
    let (kind, digits, _) = next(der)?;
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
            assert_eq!(Facts::of(&der[..end]), None, "cut at {end}");
        }
        for at in 0..der.len().min(200) {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = der.clone();
                broken[at] = value;
                let _ = Facts::of(&broken);
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
        let written = |kind: u8, text: &[u8]| super::time(&super::super::der::element(kind, text));
        assert_eq!(written(UTC_TIME, b"260921141320Z"), Some(1_790_000_000));
        assert_eq!(written(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(written(GENERALIZED_TIME, b"20550101000000Z"), Some(2_682_374_400));
        for wrong in [&b""[..], b"26", b"261399000000Z", b"\xff\xff"] {
            assert_eq!(written(UTC_TIME, wrong), None);
        }
    }
}
