//! Certificates as EST hands them out (RFC 7030, 4.1.3 and 4.2.3): a degenerate PKCS#7 `SignedData` without signers
//! (RFC 5652, 5.1; RFC 8551, 3.2.2).

use super::der::{CONTEXT_0, INTEGER, OID, SEQUENCE, SET, element, inside, next, whole};
use rustls_pki_types::CertificateDer;

/// `id-data` and `id-signedData`, 1.2.840.113549.1.7.1 and .2.
const DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// A chain is shorter.
const CERTIFICATES_MAX: usize = 16;

/// These certificates.
pub fn write(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let content_type = element(SEQUENCE, &element(OID, &DATA));
    let all: Vec<u8> = certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect();
    let parts = [element(INTEGER, &[1]), element(SET, &[]), content_type, element(CONTEXT_0, &all), element(SET, &[])];
    let signed = element(CONTEXT_0, &element(SEQUENCE, &parts.concat()));
    element(SEQUENCE, &[element(OID, &SIGNED_DATA), signed].concat())
}

/// The certificates in it; none when it is something else.
pub fn read(der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let (kind, content_type, rest) = next(inside(SEQUENCE, der)?)?;
    let mut fields = inside(SEQUENCE, inside(CONTEXT_0, rest)?)?;
    if kind != OID || content_type != SIGNED_DATA {
        return None;
    }
    for _ in ["version", "digestAlgorithms", "encapContentInfo"] {
        fields = next(fields)?.2;
    }
    let mut unread = inside(CONTEXT_0, fields)?;
    let mut found = Vec::new();
    while !unread.is_empty() && found.len() < CERTIFICATES_MAX {
        let (certificate, behind) = whole(unread)?;
        found.push(CertificateDer::from(certificate.to_vec()));
        unread = behind;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::{certificates, throwaway::Authority};
    use super::*;

    fn two() -> Vec<CertificateDer<'static>> {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let names = ["bench-1", "bench-2"];
        let files = names.map(|name| authority.client(name).unwrap().write(dir.path(), name).unwrap().0);
        files.iter().flat_map(|file| certificates(file).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_read_beyond_its_end() {
        let der = write(&two());
        assert_eq!(read(&der).unwrap(), read(&write(&read(&der).unwrap())).unwrap());
        assert_eq!((read(&der).unwrap().len(), read(&write(&[]))), (2, Some(vec![])));
        for end in 0..der.len() {
            let _ = read(&der[..end]);
        }
        for at in 0..der.len().min(80) {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = der.clone();
                broken[at] = value;
                let _ = read(&broken);
            }
        }
    }

    #[test]
    fn openssl_reads_what_is_written_and_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| std::process::Command::new("openssl").args(args).current_dir(dir.path()).output();
        std::fs::write(dir.path().join("ours.p7"), write(&two())).unwrap();
        let Ok(printed) = openssl(&["pkcs7", "-inform", "DER", "-in", "ours.p7", "-print_certs"]) else {
            return println!("left out: no openssl for a second opinion");
        };
        let printed = String::from_utf8(printed.stdout).unwrap();
        assert!(printed.contains("bench-1") && printed.contains("bench-2"), "{printed}");
        std::fs::write(dir.path().join("both.pem"), &printed).unwrap();
        let args = ["crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", "DER", "-out", "theirs.p7"];
        assert!(openssl(&args).unwrap().status.success());
        assert_eq!(read(&std::fs::read(dir.path().join("theirs.p7")).unwrap()).unwrap().len(), 2);
    }
}
