//! What opens a backup: a recovery key that the machine made, or a passphrase of a person.
//!
//! A recovery key is 26 letters of Crockford's base 32, 130 bits, and two that check them: the number that the letters
//! are, modulo the prime 1021. So every slip of one letter and every pair of neighbours swapped is told as a slip, before
//! anybody wonders whether it is the key of another backup.

use super::BackupError;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// Crockford's base 32: no I, L, O and U.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters of a recovery key that were drawn, and those that check them.
const DRAWN: usize = 26;
const LENGTH: usize = DRAWN + 2;
/// Letters between two dashes.
const GROUP: usize = 4;
/// The largest prime below what two letters can say.
const MODULUS: u32 = 1021;
/// Shortest passphrase, in characters.
const PASSPHRASE_MIN: usize = 12;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Made by the machine.
    RecoveryKey,
    /// Chosen by a person.
    Passphrase,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::RecoveryKey => "recovery key",
            Kind::Passphrase => "passphrase",
        })
    }
}

/// See the module docs. It is never printed by itself.
pub struct Secret {
    kind: Kind,
    text: Zeroizing<String>,
}

impl Secret {
    /// Makes a recovery key.
    ///
    /// # Errors
    /// [`BackupError::NoRandom`].
    pub fn make() -> Result<Secret, BackupError> {
        let mut drawn = Zeroizing::new([0; DRAWN]);
        SystemRandom::new().fill(drawn.as_mut_slice()).map_err(|_| BackupError::NoRandom)?;
        let mut values: Zeroizing<Vec<u32>> = Zeroizing::new(drawn.iter().map(|byte| u32::from(byte & 31)).collect());
        let check = check_of(&values);
        values.extend([check / 32, check % 32]);
        let text = values.iter().map(|value| char::from(LETTERS[*value as usize])).collect();
        Ok(Secret { kind: Kind::RecoveryKey, text: Zeroizing::new(text) })
    }

    /// What a person wrote where this kind of secret is asked for.
    ///
    /// # Errors
    /// [`BackupError::Slip`] for a recovery key that cannot be one, [`BackupError::Short`] for a passphrase.
    pub fn written(kind: Kind, text: &str) -> Result<Secret, BackupError> {
        match kind {
            Kind::RecoveryKey => Secret::recovery_key(text),
            Kind::Passphrase => Secret::passphrase(text),
        }
    }

    /// A passphrase: every character counts, but for the line's end.
    ///
    /// # Errors
    /// [`BackupError::Short`].
    pub fn passphrase(text: &str) -> Result<Secret, BackupError> {
        let text = text.trim_end_matches(['\r', '\n']);
        match text.chars().count() {
            PASSPHRASE_MIN.. => Ok(Secret { kind: Kind::Passphrase, text: Zeroizing::new(text.to_string()) }),
            _ => Err(BackupError::Short(PASSPHRASE_MIN)),
        }
    }

    /// Upper or lower case, with or without dashes and blanks; O is read as 0, I and L as 1.
    fn recovery_key(text: &str) -> Result<Secret, BackupError> {
        let written = text.bytes().filter(|byte| !matches!(byte, b'-') && !byte.is_ascii_whitespace());
        let letters = written.map(|byte| match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            letter => letter,
        });
        let text: Zeroizing<String> = Zeroizing::new(letters.map(char::from).collect());
        let value = |letter: u8| LETTERS.iter().position(|known| *known == letter).map(|at| at as u32);
        let values: Option<Vec<u32>> = text.bytes().map(value).collect();
        let values = Zeroizing::new(values.filter(|values| values.len() == LENGTH).ok_or(BackupError::Slip)?);
        let (drawn, check) = values.split_at(DRAWN);
        match check {
            [high, low] if check_of(drawn) == high * 32 + low => Ok(Secret { kind: Kind::RecoveryKey, text }),
            _ => Err(BackupError::Slip),
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True for the same one.
    pub fn is(&self, other: &Secret) -> bool {
        self.text == other.text
    }

    /// As a person writes it down, in groups.
    pub fn shown(&self) -> Zeroizing<String> {
        let groups: Vec<&str> =
            self.text.as_bytes().chunks(GROUP).map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
        Zeroizing::new(groups.join("-"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn check_of(values: &[u32]) -> u32 {
    values.iter().fold(0, |rest, value| (rest * 32 + value) % MODULUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_key_is_read_as_people_write_it_and_every_slip_is_told() {
        let secret = Secret::make().unwrap();
        let shown = secret.shown();
        assert_eq!((shown.len(), shown.split('-').count()), (LENGTH + 6, 7));
        assert_ne!(*shown, *Secret::make().unwrap().shown());
        let read = |text: &str| Secret::written(Kind::RecoveryKey, text);
        for text in [shown.to_lowercase(), shown.replace('-', " "), shown.replace('0', "o"), format!("{}\n", *shown)] {
            assert_eq!(read(&text).unwrap().bytes(), secret.bytes(), "{text}");
        }
        let bytes = secret.bytes();
        for at in 0..LENGTH {
            for letter in LETTERS.iter().filter(|letter| **letter != bytes[at]) {
                let mut slip = bytes.to_vec();
                slip[at] = *letter;
                assert!(read(std::str::from_utf8(&slip).unwrap()).is_err(), "{at}");
            }
            let mut swapped = bytes.to_vec();
            swapped.swap(at, (at + 1).min(LENGTH - 1));
            assert_eq!(read(std::str::from_utf8(&swapped).unwrap()).is_ok(), swapped == bytes, "{at}");
        }
        for text in ["", "0", &format!("{}0", *shown), &shown.replace('-', "U")] {
            assert!(read(text).is_err());
        }
    }

    #[test]
    fn a_passphrase_has_a_least_length_and_no_line_end() {
        assert!(matches!(Secret::passphrase("elevenchars\n"), Err(BackupError::Short(12))));
        assert_eq!(Secret::passphrase("Größer als 12 \r\n").unwrap().bytes(), "Größer als 12 ".as_bytes());
    }
}
