//! PKCS#10 (RFC 2986): a request for a certificate, and the proof that who asks has the key. Keys are of P-256; a desk signs
//! no others, and boxes make no others.

use super::der::{BIT_STRING, CONTEXT_0, INTEGER, OID, SEQUENCE, inside, next, whole};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

/// A request with one key is far shorter.
pub const REQUEST_MAX_BYTES: usize = 4096;

/// `ecdsa-with-SHA256`, 1.2.840.10045.4.3.2.
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// What a `SubjectPublicKeyInfo` of P-256 begins with, up to its point (RFC 5480, 2).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point.
const POINT_BYTES: usize = 65;

/// The public key of somebody who has the private one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// It is no PKCS#10 request.
    #[error("this is no PKCS#10 request")]
    Unreadable,
    /// The key is of another kind.
    #[error("the key must be of P-256, the signature ECDSA with SHA-256")]
    Kind,
    /// Who asks does not have the key.
    #[error("the request is not signed with its own key")]
    Signature,
}

impl PublicKey {
    /// That of a request in DER, when it is signed with its own key. Whatever else the request wishes for is passed over.
    ///
    /// # Errors
    /// [`RequestFault`].
    pub fn of_request(der: &[u8]) -> Result<PublicKey, RequestFault> {
        let [info, public_key, algorithm, signature] = parts(der).ok_or(RequestFault::Unreadable)?;
        let key = PublicKey::of_info(public_key).ok_or(RequestFault::Kind)?;
        if inside(OID, algorithm) != Some(&ECDSA_WITH_SHA256) {
            return Err(RequestFault::Kind);
        }
        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point).verify(info, signature);
        verified.map(|()| key).map_err(|_| RequestFault::Signature)
    }

    /// That of a `SubjectPublicKeyInfo` in DER; none when it is of another kind.
    pub fn of_info(der: &[u8]) -> Option<PublicKey> {
        let point = der.strip_prefix(&P256_HEAD)?;
        (point.len() == POINT_BYTES).then(|| PublicKey { point: point.to_vec() })
    }

    /// SHA-256 over its `SubjectPublicKeyInfo`.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &[&P256_HEAD[..], &self.point].concat()).as_ref());
        bytes
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// `certificationRequestInfo` as it is signed, its key, the signature's algorithm and the signature.
fn parts(der: &[u8]) -> Option<[&[u8]; 4]> {
    let (tag, request, behind) = next(der)?;
    if tag != SEQUENCE || !behind.is_empty() {
        return None;
    }
    let (info, rest) = whole(request)?;
    let (sequence, algorithm, rest) = next(rest)?;
    let (kind, bits, behind) = next(rest)?;
    let signature =
        bits.strip_prefix(&[0]).filter(|_| sequence == SEQUENCE && kind == BIT_STRING && behind.is_empty())?;
    let fields = inside(SEQUENCE, info)?;
    let (kind, version, fields) = next(fields)?;
    let (_, fields) = whole(fields).filter(|_| kind == INTEGER && version == [0])?;
    let (public_key, fields) = whole(fields)?;
    let is_end = fields.is_empty() || fields.first() == Some(&CONTEXT_0);
    is_end.then_some([info, public_key, algorithm, signature])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_request_shows_the_key_of_who_asks() {
        let key = KeyPair::generate().unwrap();
        let found = PublicKey::of_request(&request(&key)).unwrap();
        assert_eq!(found.subject_public_key_info(), key.subject_public_key_info());
        assert_eq!(PublicKey::of_info(&key.subject_public_key_info()), Some(found));
    }

    #[test]
    fn a_request_for_anothers_key_is_refused_and_so_is_every_changed_byte() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (sound, stolen) = (request(&key), other.public_key_raw());
        let at = sound.windows(65).position(|bytes| bytes == key.public_key_raw()).unwrap();
        let mut forged = sound.clone();
        forged[at..at + 65].copy_from_slice(stolen);
        assert_eq!(PublicKey::of_request(&forged), Err(RequestFault::Signature));
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 0x01;
            assert!(PublicKey::of_request(&changed).is_err(), "byte {at}");
            assert!(PublicKey::of_request(&sound[..at]).is_err(), "cut at {at}");
        }
        let foreign = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(PublicKey::of_request(&request(&foreign)), Err(RequestFault::Kind));
    }

    #[test]
    fn a_request_that_openssl_makes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("openssl")
            .args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-outform", "DER"])
            .args(["-subj", "/CN=whoever", "-keyout", "key.pem", "-out", "request.der"])
            .current_dir(dir.path())
            .output();
        match made {
            Ok(made) if made.status.success() => {
                PublicKey::of_request(&std::fs::read(dir.path().join("request.der")).unwrap()).unwrap();
            }
            _ => println!("left out: no openssl for a second opinion"),
        }
    }
}
