//! Passwords: which ones are taken, and how they are kept (argon2id, RFC 9106, as PHC strings).

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// A shorter one is found.
pub const CHARACTERS_MIN: usize = 12;
/// A longer one is no password.
pub const CHARACTERS_MAX: usize = 128;
/// Besides obvious words and the name of the account this many characters are left.
const OWN_MIN: usize = 6;
/// Different characters.
const DIFFERENT_MIN: usize = 5;
/// What everybody tries first.
const OBVIOUS: [&str; 16] = [
    "password",
    "passwort",
    "123456789",
    "12345678",
    "1234567",
    "123456",
    "12345",
    "1234",
    "qwertyuiop",
    "qwertzuiop",
    "afferent",
    "hospital",
    "laboratory",
    "letmein",
    "welcome",
    "administrator",
];
/// Memory of one hash: the floor that OWASP names. One is computed at a time, or the memory is the attack.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a password is compared with where nobody has the name: of nobody's password, and as slow.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWF0LWFsbC4$u1Wd3Ck0c9XyV7hQ2mJt8sLr5pZ4nEgKb6aHf0oMvTI";

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Too few characters.
    #[error(
        "the password is too short: it needs at least {CHARACTERS_MIN} characters; four or five words are easy to keep"
    )]
    Short,
    /// Too many.
    #[error("the password is too long: it may have at most {CHARACTERS_MAX} characters")]
    Long,
    /// Hardly anything but the name of the account.
    #[error("the password is hardly more than the name of the account: take something that nobody knows of you")]
    Name,
    /// Hardly anything but what everybody tries.
    #[error(
        "the password is one that is tried first: take something else, such as four or five words that do not belong together"
    )]
    Obvious,
}

/// Whether a password is taken for the account of this name.
///
/// # Errors
/// [`Weak`]: why not.
pub fn judge(password: &str, name: &str) -> Result<(), Weak> {
    let characters = password.chars().count();
    if characters < CHARACTERS_MIN {
        return Err(Weak::Short);
    }
    if characters > CHARACTERS_MAX {
        return Err(Weak::Long);
    }
    let plain = password.to_lowercase();
    if plain.replace(name, "").chars().count() < OWN_MIN {
        return Err(Weak::Name);
    }
    let own = OBVIOUS.iter().fold(plain.replace(name, ""), |left, word| left.replace(word, ""));
    let different: std::collections::BTreeSet<char> = plain.chars().collect();
    if own.chars().count() < OWN_MIN || different.len() < DIFFERENT_MIN {
        return Err(Weak::Obvious);
    }
    Ok(())
}

/// How a password is kept. None where the library refuses, which it does for no password that [`judge`] takes.
pub fn hash(password: &str, salt: &[u8; 16]) -> Option<String> {
    hasher()?.hash_password_with_salt(password.as_bytes(), salt).ok().map(|hash: PasswordHash| hash.to_string())
}

/// Whether it is the password that is kept so; where none is kept, it never is, and takes as long.
pub fn is_right(password: &str, kept: Option<&str>) -> bool {
    let matches = hasher().is_some_and(|hasher| {
        let kept = PasswordHash::new(kept.unwrap_or(DECOY));
        kept.is_ok_and(|kept| hasher.verify_password(password.as_bytes(), &kept).is_ok())
    });
    matches && kept.is_some()
}

fn hasher() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_at_once_is_not_taken() {
        for (password, answer) in [
            ("correct horse battery", Ok(())),
            ("Zwölf Boxkämpfer", Ok(())),
            ("elevenchars", Err(Weak::Short)),
            ("anna.maier anna", Err(Weak::Name)),
            ("ANNA.MAIER-2026", Err(Weak::Name)),
            ("password1234", Err(Weak::Obvious)),
            ("Afferent2026!", Err(Weak::Obvious)),
            ("123456789012", Err(Weak::Obvious)),
            ("aaaaaaaaaaaa", Err(Weak::Obvious)),
            ("hospitalhospital", Err(Weak::Obvious)),
        ] {
            assert_eq!(judge(password, "anna.maier"), answer, "{password}");
        }
        assert_eq!(judge(&"x".repeat(129), "anna.maier"), Err(Weak::Long));
    }

    #[test]
    fn it_is_kept_as_argon2id_and_only_the_same_one_is_right() {
        let kept = hash("correct horse battery", &[9; 16]).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hash("correct horse battery", &[8; 16]).unwrap(), "the salt counts");
        for (password, kept, answer) in [
            ("correct horse battery", Some(kept.as_str()), true),
            ("correct horse batterz", Some(&kept), false),
            ("", Some(&kept), false),
            ("correct horse battery", None, false),
            ("correct horse battery", Some("$argon2id$broken"), false),
        ] {
            assert_eq!(is_right(password, kept), answer, "{password} {kept:?}");
        }
    }

    #[test]
    fn where_nobody_has_the_name_as_much_is_computed() {
        let decoy = PasswordHash::new(DECOY).unwrap();
        let real = hash("correct horse battery", &[9; 16]).unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!((decoy.algorithm, decoy.version, &decoy.params), (real.algorithm, real.version, &real.params));
        let length = |hash: &PasswordHash| hash.hash.as_ref().unwrap().as_bytes().len();
        assert_eq!(length(&decoy), length(&real), "a hash that cannot be read would take no time");
    }
}
