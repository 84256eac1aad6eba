//! The second factor: six digits that a telephone makes of a secret and the time (TOTP, RFC 6238, with what every
//! application takes: SHA-1, six digits, thirty seconds).

use super::code::BASE32;
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use zeroize::Zeroizing;

/// A step of time, in seconds.
const STEP_S: i64 = 30;
/// Steps that a telephone's clock may be off.
const WINDOW: i64 = 1;
const DIGITS: usize = 6;
/// Bytes of a secret (RFC 4226, 4: 160 bits).
pub const SECRET_BYTES: usize = 20;

/// A secret as telephones take it.
pub fn text(secret: &[u8; SECRET_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(base32::encode(BASE32, secret))
}

/// What a telephone reads as a code: `place` is where the account is, `secret` is as [`text`] makes it.
pub fn uri(place: &str, name: &str, secret: &str) -> Zeroizing<String> {
    let plain = |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    // A space is a plus sign in a form, but not in an address.
    let (place, name) = (plain(place).replace('+', "%20"), plain(name));
    Zeroizing::new(format!("otpauth://totp/{place}:{name}?secret={secret}&issuer={place}"))
}

/// The step whose code this is: about now, and later than the last one that was used.
pub fn step(secret: &str, typed: &str, now_s: i64, last: i64) -> Option<i64> {
    let secret = Zeroizing::new(base32::decode(BASE32, secret)?);
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    let now = now_s.div_euclid(STEP_S);
    // Every step is computed, so that the time says nothing of which one it was.
    let found = (now - WINDOW..=now + WINDOW).filter(|step| code(&secret, *step) == digits);
    found.filter(|step| *step > last).max()
}

/// The code of a step (RFC 4226, 5.3).
fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0x0f);
    let four = tag[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:0DIGITS$}", (four & 0x7fff_ffff) % 10_u32.pow(DIGITS as u32))
}

/// The code that a telephone shows, for tests: in the program only people have telephones.
#[cfg(test)]
pub fn shown(secret: &str, now_s: i64) -> String {
    code(&base32::decode(BASE32, secret).unwrap(), now_s.div_euclid(STEP_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 20] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six of eight digits.
        for (now_s, digits) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SECRET, now_s / STEP_S), digits);
        }
    }

    #[test]
    fn a_code_is_good_about_its_time_and_once() {
        let secret = text(SECRET);
        let now_s = 1_234_567_890;
        let now = now_s / STEP_S;
        let at = |steps: i64| shown(&secret, now_s + steps * STEP_S);
        for (typed, last, answer) in [
            (at(0), 0, Some(now)),
            (at(-1), 0, Some(now - 1)),
            (at(1), 0, Some(now + 1)),
            (at(-2), 0, None),
            (at(2), 0, None),
            (at(0), now, None),
            (at(-1), now, None),
            (at(1), now, Some(now + 1)),
            (" 005 924 ".to_string(), 0, Some(now)),
            ("5924".to_string(), 0, None),
            (String::new(), 0, None),
            ("abcdef".to_string(), 0, None),
        ] {
            assert_eq!(step(&secret, &typed, now_s, last), answer, "{typed} after {last}");
        }
        assert_eq!(step("not base32!", &at(0), now_s, 0), None);
        assert_eq!(step(&secret, &at(0), -5, 0), None, "a clock before 1970 is no reason to fall over");
    }

    #[test]
    fn a_telephone_is_told_where_and_who() {
        let uri = uri("bench 1 & co", "anna@lab", "ABC");
        assert_eq!(
            uri.as_str(),
            "otpauth://totp/bench%201%20%26%20co:anna%40lab?secret=ABC&issuer=bench%201%20%26%20co"
        );
    }
}
