//! What a person types once: an invitation, or a recovery code in the place of the second factor.
//!
//! They are random, 80 bits and more, so that a plain digest is as good as a slow one: nobody goes through that many.

use base32::Alphabet;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

/// Letters that are hard to take for another (RFC 4648, 6).
pub(super) const BASE32: Alphabet = Alphabet::Rfc4648 { padding: false };
/// Characters between two hyphens.
const GROUP: usize = 4;

/// A code as it is shown, once.
pub struct Code(Zeroizing<String>);

impl Code {
    /// Of these random bytes.
    pub fn of(bytes: &[u8]) -> Code {
        let plain = Zeroizing::new(base32::encode(BASE32, bytes));
        let mut text = Zeroizing::new(String::with_capacity(plain.len() * 2));
        for (at, character) in plain.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            text.push(character);
        }
        Code(text)
    }

    /// As a person reads it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// As it is kept.
    pub fn digest(&self) -> String {
        digest_of(&self.0)
    }
}

/// What is kept of a code, however it was typed: small letters, and spaces or nothing between the groups.
pub fn digest_of(typed: &str) -> String {
    let plain: Zeroizing<String> =
        typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect::<String>().into();
    BASE64_URL_SAFE_NO_PAD.encode(hash(&plain))
}

/// SHA-256. What is random and secret is kept and compared as this, so that the time a comparison takes says nothing.
pub(crate) fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        let code = Code::of(&[7; 10]);
        assert_eq!(code.text(), "A4DQ-OBYH-A4DQ-OBYH");
        for typed in ["a4dqobyha4dqobyh", " A4DQ OBYH a4dq obyh\r\n", code.text()] {
            assert_eq!(digest_of(typed), code.digest(), "{typed}");
        }
        assert_ne!(digest_of("A4DQ-OBYH-A4DQ-OBYI"), code.digest());
        assert!(!code.digest().contains("A4DQ"), "what is kept is not the code");
    }
}
