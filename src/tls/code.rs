//! The code by which a person tells one key from all others: 80 bits of its digest, in letters that can be told apart.
//!
//! A box that enrols shows it, and an operator who accepts it accepts that key and no other. It is no secret: who sees it
//! cannot use it, and another key with the same code cannot be found in any time that matters.

use super::request::PublicKey;
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: no I, L, O and U.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters, of 5 bits each.
const LENGTH: usize = 16;
/// Letters between two dashes.
const GROUP: usize = 4;

/// See the module docs. As a person reads it: `7H2K-9QWD-0M3X-VT5A`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code([u8; LENGTH]);

impl Code {
    /// That of a key.
    pub fn of(key: &PublicKey) -> Code {
        let digest = key.digest();
        let mut letters = [0; LENGTH];
        for (letter, chunk) in letters.iter_mut().zip(0..) {
            let bit = chunk * 5;
            let pair = u16::from(digest[bit / 8]) << 8 | u16::from(digest[bit / 8 + 1]);
            *letter = LETTERS[usize::from(pair >> (11 - bit % 8) & 0x1f)];
        }
        Code(letters)
    }
}

impl FromStr for Code {
    type Err = String;

    /// Upper or lower case, with or without dashes and blanks; O is read as 0, I and L as 1.
    fn from_str(text: &str) -> Result<Code, String> {
        let wrong = || format!("`{text}` is no code; it is 16 letters and digits, as the box shows them");
        let mut letters = [0; LENGTH];
        let mut read = text.bytes().filter(|b| !matches!(b, b'-' | b' ')).map(|b| match b.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            letter => letter,
        });
        for letter in &mut letters {
            *letter = read.next().filter(|read| LETTERS.contains(read)).ok_or_else(wrong)?;
        }
        if read.next().is_some() { Err(wrong()) } else { Ok(Code(letters)) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, group) in self.0.chunks(GROUP).enumerate() {
            let between = if at == 0 { "" } else { "-" };
            write!(f, "{between}{}", String::from_utf8_lossy(group))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PublicKeyData};

    #[test]
    fn a_code_is_of_one_key_and_is_read_as_people_write_it() {
        let make = || PublicKey::of_info(&KeyPair::generate().unwrap().subject_public_key_info()).unwrap();
        let (key, other) = (make(), make());
        let code = Code::of(&key);
        assert_eq!(code, Code::of(&key));
        assert_ne!(code, Code::of(&other));
        let shown = code.to_string();
        assert_eq!(shown.len(), 19);
        for text in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), shown.replace('0', "o")] {
            assert_eq!(text.parse(), Ok(code), "{text}");
        }
        for text in ["", "7H2K", "UUUU-UUUU-UUUU-UUUU", &format!("{shown}0")] {
            assert!(text.parse::<Code>().is_err(), "{text}");
        }
        // Its bits are those of the digest, from the first on.
        let bits = key.digest()[..10].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let read = code
            .0
            .iter()
            .fold(0u128, |bits, letter| bits << 5 | LETTERS.iter().position(|known| known == letter).unwrap() as u128);
        assert_eq!(read, bits);
    }
}
