//! Decimal numbers as text: `8.0` is not `8` (invariant I11).

use serde::{Deserialize, Serialize};

/// Longest numeral accepted, in characters. More than any instrument prints; longer text stays text.
pub const DECIMAL_CHARS_MAX: usize = 64;

/// A decimal numeral, kept digit for digit. Never converted to a binary float.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(String);

impl Decimal {
    /// Reads an optional sign, digits and an optional fraction (`-19.80`, `+3`, `.5`, `1.`). Anything else, including
    /// exponents, commas, `NaN` and blanks, is not a decimal here and stays text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > DECIMAL_CHARS_MAX {
            return None;
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let only_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let any = !(whole.is_empty() && fraction.is_empty());
        (any && only_digits(whole) && only_digits(fraction)).then(|| Decimal(text.to_string()))
    }

    /// The text as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same number as a JSON (FHIR decimal) literal, when the text already is one digit for digit. `+3`, `.5`, `1.`
    /// and `065.88` are not, and are never "repaired" here: the mapping sends them as text.
    pub fn as_json(&self) -> Option<&str> {
        let digits = self.0.strip_prefix('-').unwrap_or(&self.0);
        let (whole, fraction) = match digits.split_once('.') {
            Some((w, f)) => (w, Some(f)),
            None => (digits, None),
        };
        let whole_ok = whole == "0" || (!whole.is_empty() && !whole.starts_with(['0', '+']));
        (whole_ok && fraction != Some("")).then_some(&self.0)
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Decimal> for String {
    fn from(d: Decimal) -> String {
        d.0
    }
}

impl TryFrom<String> for Decimal {
    type Error = &'static str;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Decimal::parse(&s).ok_or("not a decimal number")
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn i11_text_in_is_text_out(s in "[-+]?[0-9]{1,20}(\\.[0-9]{0,20})?") {
            let decimal = Decimal::parse(&s).unwrap();
            prop_assert_eq!(decimal.as_str(), &s);
        }

        #[test]
        fn i11_json_literal_is_the_text_or_nothing(s in "[-+]?[0-9]{0,6}(\\.[0-9]{0,6})?") {
            if let Some(d) = Decimal::parse(&s)
                && let Some(json) = d.as_json() {
                    prop_assert_eq!(json, &s);
                    prop_assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(json).is_ok());
            }
        }
    }

    #[test]
    fn what_is_no_decimal_stays_text() {
        for s in ["", "-", ".", "1,5", "1e3", "NaN", " 1", "1 ", "1.2.3", "--1", "0x1", "١"] {
            assert!(Decimal::parse(s).is_none(), "{s:?}");
        }
        for (s, json) in
            [("8.0", true), ("-19.80", true), ("0.017", true), ("065.88", false), ("1.", false), (".5", false)]
        {
            assert_eq!(Decimal::parse(s).unwrap().as_json().is_some(), json, "{s}");
        }
    }
}
