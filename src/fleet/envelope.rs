//! Signed documents: what the desk says to a box, and what nobody else can say. Pure.
//!
//! An envelope holds a document as bytes and signatures over exactly these bytes, so that nothing has to be written the
//! same way twice to be checked:
//!
//! ```json
//! {"payload": "<base64>", "sigs": [{"kid": "ops-1", "alg": "Ed25519", "sig": "<base64>"}]}
//! ```
//!
//! What is signed is `afferent/v1/<purpose>`, a zero byte and the document: a signature under a command is none under a
//! configuration.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Longest envelope, in bytes: what the broker lets through as one message.
pub const ENVELOPE_MAX: usize = 256 * 1024;
/// Most signatures looked at.
const SIGNATURES_MAX: usize = 8;
/// The only algorithm (RFC 8032), by the name JOSE has for it.
const ALGORITHM: &str = "Ed25519";
/// Bytes of a public key.
const PUBLIC_KEY_BYTES: usize = 32;
/// PKCS#8 v1 of an Ed25519 seed up to the seed itself (RFC 8410, section 7), as OpenSSL writes it.
const PKCS8_BEFORE_SEED: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a document is for, and so what a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A command.
    Command,
    /// A desired configuration.
    Config,
    /// A manifest of a release.
    Update,
    /// Whose signatures manifests need; no operator's to sign.
    #[serde(skip)]
    Root,
}

impl Purpose {
    /// Its word in what is signed and in settings.
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Command => "command",
            Purpose::Config => "config",
            Purpose::Update => "update",
            Purpose::Root => "root",
        }
    }

    fn signed_bytes(self, document: &[u8]) -> Vec<u8> {
        [b"afferent/v1/", self.word().as_bytes(), b"\0", document].concat()
    }
}

/// An operator whose signature the box obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Name of the key, as envelopes and the audit trail say it, for example "ops-1".
    pub kid: String,
    /// Ed25519 public key in base64 (32 bytes), as `afferent desk key` prints it.
    pub key: String,
    /// What it may sign; left out, everything.
    #[serde(default = "Operator::everything")]
    pub may: BTreeSet<Purpose>,
}

impl Operator {
    /// Every purpose there is.
    pub fn everything() -> BTreeSet<Purpose> {
        BTreeSet::from([Purpose::Command, Purpose::Config, Purpose::Update])
    }

    /// The public key, when it is one.
    pub fn public_key(&self) -> Option<[u8; PUBLIC_KEY_BYTES]> {
        BASE64_STANDARD.decode(self.key.trim()).ok()?.try_into().ok()
    }
}

/// A signed document as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    sigs: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    kid: String,
    alg: String,
    sig: String,
}

/// A document whose signatures hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The document, exactly as it was signed.
    pub document: Vec<u8>,
    /// Whose keys signed it: each once, at least one, all allowed to.
    pub signers: BTreeSet<String>,
}

impl Signed {
    /// SHA-256 of the document.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.document).as_ref());
        bytes
    }
}

/// Why an envelope is not opened. Nothing it holds may be believed then, its identifiers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// More than [`ENVELOPE_MAX`].
    #[error("larger than {ENVELOPE_MAX} bytes")]
    TooLarge,
    /// No envelope.
    #[error("no signed envelope")]
    Malformed,
    /// No signature of an operator who may sign this.
    #[error("no signature of an operator of this box who may sign it")]
    NoOperator,
    /// A signature in the name of an operator is not that operator's.
    #[error("a signature that is not the operator's")]
    Forged,
}

/// Opens an envelope: what it holds and who signed it.
///
/// Signatures of unknown keys are passed over, since an envelope may be meant for boxes with different operators. One
/// false signature in a known name refuses the whole.
///
/// # Errors
/// [`Unsigned`] when nobody who may has signed it.
pub fn open(bytes: &[u8], purpose: Purpose, operators: &[Operator]) -> Result<Signed, Unsigned> {
    if bytes.len() > ENVELOPE_MAX {
        return Err(Unsigned::TooLarge);
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Unsigned::Malformed)?;
    let document = BASE64_STANDARD.decode(&envelope.payload).map_err(|_| Unsigned::Malformed)?;
    if envelope.sigs.len() > SIGNATURES_MAX {
        return Err(Unsigned::Malformed);
    }
    let signed = purpose.signed_bytes(&document);
    let mut signers = BTreeSet::new();
    for signature in &envelope.sigs {
        let known = operators.iter().find(|operator| operator.kid == signature.kid && operator.may.contains(&purpose));
        let Some(key) = known.and_then(Operator::public_key) else { continue };
        let held = BASE64_STANDARD.decode(&signature.sig).map_err(|_| Unsigned::Malformed)?;
        if signature.alg != ALGORITHM || UnparsedPublicKey::new(&ED25519, key).verify(&signed, &held).is_err() {
            return Err(Unsigned::Forged);
        }
        signers.insert(signature.kid.clone());
    }
    if signers.is_empty() { Err(Unsigned::NoOperator) } else { Ok(Signed { document, signers }) }
}

/// What an envelope holds, whoever signed it: to learn who should have. Nothing of it may be believed.
///
/// # Errors
/// [`Unsigned::TooLarge`] and [`Unsigned::Malformed`].
pub fn unproven(bytes: &[u8]) -> Result<Vec<u8>, Unsigned> {
    if bytes.len() > ENVELOPE_MAX {
        return Err(Unsigned::TooLarge);
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Unsigned::Malformed)?;
    BASE64_STANDARD.decode(&envelope.payload).map_err(|_| Unsigned::Malformed)
}

/// An operator's private key. It prints as nothing.
pub struct SigningKey {
    kid: String,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

impl SigningKey {
    /// From PKCS#8 in DER, as [`new_key`] and `openssl genpkey -algorithm ed25519 -outform DER` make it. `None` when it
    /// is none.
    pub fn from_pkcs8(kid: &str, der: &[u8]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        Some(SigningKey { kid: kid.to_owned(), pair })
    }

    /// Name of the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key in base64, for `[[fleet.operator]]`.
    pub fn public_key(&self) -> String {
        BASE64_STANDARD.encode(self.pair.public_key())
    }

    fn sign(&self, purpose: Purpose, document: &[u8]) -> Signature {
        let sig = self.pair.sign(&purpose.signed_bytes(document));
        Signature { kid: self.kid.clone(), alg: ALGORITHM.to_owned(), sig: BASE64_STANDARD.encode(sig) }
    }
}

/// A new private key in PKCS#8 (DER, version 1, so that OpenSSL reads it too), from 32 random bytes.
pub fn new_key(seed: &[u8; 32]) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new([&PKCS8_BEFORE_SEED[..], seed].concat())
}

/// Seals a document with one key.
pub fn seal(document: &[u8], purpose: Purpose, key: &SigningKey) -> Vec<u8> {
    let envelope = Envelope { payload: BASE64_STANDARD.encode(document), sigs: vec![key.sign(purpose, document)] };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Adds another key's signature to an envelope.
///
/// # Errors
/// [`Unsigned::Malformed`] when it is none.
pub fn countersign(bytes: &[u8], purpose: Purpose, key: &SigningKey) -> Result<Vec<u8>, Unsigned> {
    let mut envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Unsigned::Malformed)?;
    let document = BASE64_STANDARD.decode(&envelope.payload).map_err(|_| Unsigned::Malformed)?;
    envelope.sigs.retain(|signature| signature.kid != key.kid);
    envelope.sigs.push(key.sign(purpose, &document));
    serde_json::to_vec(&envelope).map_err(|_| Unsigned::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(kid: &str, seed: u8) -> SigningKey {
        SigningKey::from_pkcs8(kid, &new_key(&[seed; 32])).unwrap()
    }

    fn operator(key: &SigningKey, may: &[Purpose]) -> Operator {
        Operator { kid: key.kid().to_owned(), key: key.public_key(), may: may.iter().copied().collect() }
    }

    #[test]
    fn what_an_operator_signed_is_opened_and_says_who_signed() {
        let (ann, bob, eve) = (key("ann", 1), key("bob", 2), key("eve", 3));
        let known = [operator(&ann, &[Purpose::Command]), operator(&bob, &[Purpose::Command, Purpose::Config])];
        let one = seal(b"{}", Purpose::Command, &ann);
        let two = countersign(&one, Purpose::Command, &bob).unwrap();
        let more = countersign(&two, Purpose::Command, &eve).unwrap();
        let signers = |bytes: &[u8]| open(bytes, Purpose::Command, &known).map(|s| s.signers.into_iter().collect());
        assert_eq!(signers(&one), Ok(vec!["ann".to_owned()]));
        assert_eq!(signers(&two), Ok(vec!["ann".to_owned(), "bob".to_owned()]));
        assert_eq!(signers(&more), signers(&two), "a stranger's signature neither counts nor spoils");
        let again = countersign(&two, Purpose::Command, &bob).unwrap();
        assert_eq!(again, two, "signing twice is signing once");
    }

    #[test]
    fn a_signature_is_for_one_purpose_by_one_who_may_and_for_these_bytes() {
        let (ann, bob) = (key("ann", 1), key("bob", 2));
        let known = [operator(&ann, &[Purpose::Command])];
        let command = seal(b"{}", Purpose::Command, &ann);
        assert_eq!(open(&command, Purpose::Config, &known), Err(Unsigned::NoOperator));
        let both = [operator(&ann, &[Purpose::Command, Purpose::Config])];
        assert_eq!(open(&command, Purpose::Config, &both), Err(Unsigned::Forged), "a command is no configuration");
        assert_eq!(open(&seal(b"{}", Purpose::Command, &bob), Purpose::Command, &known), Err(Unsigned::NoOperator));
        let forged = SigningKey { kid: "ann".to_owned(), ..key("bob", 2) };
        assert_eq!(open(&seal(b"{}", Purpose::Command, &forged), Purpose::Command, &known), Err(Unsigned::Forged));
        let spoilt = countersign(&command, Purpose::Command, &forged).unwrap();
        assert_eq!(open(&spoilt, Purpose::Command, &known), Err(Unsigned::Forged));
        let other = String::from_utf8(command).unwrap().replace("e30=", "W10=");
        assert_eq!(open(other.as_bytes(), Purpose::Command, &known), Err(Unsigned::Forged));
        assert_eq!(open(&vec![b' '; ENVELOPE_MAX + 1], Purpose::Command, &known), Err(Unsigned::TooLarge));
    }

    proptest! {
        #[test]
        fn no_changed_envelope_is_opened_with_other_content(at in 0_usize..400, with in any::<u8>()) {
            let ann = key("ann", 1);
            let known = [operator(&ann, &[Purpose::Command])];
            let mut bytes = seal(b"{\"op\":\"ping\"}", Purpose::Command, &ann);
            let at = at % bytes.len();
            bytes[at] = with;
            if let Ok(signed) = open(&bytes, Purpose::Command, &known) {
                prop_assert_eq!(signed.document, b"{\"op\":\"ping\"}".to_vec());
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let ann = key("ann", 1);
            prop_assert!(open(&bytes, Purpose::Command, &[operator(&ann, &[Purpose::Command])]).is_err());
        }
    }
}
