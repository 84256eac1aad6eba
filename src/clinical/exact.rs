//! Exact arithmetic on decimal text, for rules that compare, subtract and convert (invariant I11).
//!
//! A number is whole digits and a power of ten; nothing is ever rounded except by [`Exact::rounded`], which says so.
//! What does not fit has no answer, and whoever asked must hold.

use super::Decimal;
use std::cmp::Ordering;

/// Most digits a number may have here. Instruments print fewer than ten.
const DIGITS_MAX: i32 = 30;

/// `digits` times ten to the power of `-places`.
#[derive(Debug, Clone, Copy)]
pub struct Exact {
    digits: i128,
    places: i32,
}

impl Exact {
    /// One.
    pub const ONE: Exact = Exact { digits: 1, places: 0 };

    /// `digits` times ten to the power of `exponent`.
    pub fn new(digits: i128, exponent: i32) -> Exact {
        Exact { digits, places: exponent.saturating_neg() }
    }

    /// The number a decimal text stands for; `None` with more than 30 digits.
    pub fn of(decimal: &Decimal) -> Option<Exact> {
        let text = decimal.as_str();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        if digits.len() > DIGITS_MAX as usize {
            return None;
        }
        Some(Exact { digits: digits.parse().ok()?, places: i32::try_from(fraction.len()).ok()? })
    }

    /// `numerator / denominator` times ten to the power of `exponent`, when that is an exact decimal: 1/8 is, 1/3 not.
    pub fn quotient(numerator: i128, denominator: i128, exponent: i32) -> Option<Exact> {
        let common = gcd(numerator, denominator);
        if common == 0 || denominator == 0 {
            return None;
        }
        let (mut numerator, mut denominator, mut places) = (numerator / common, denominator / common, -exponent);
        if denominator < 0 {
            (numerator, denominator) = (numerator.checked_neg()?, denominator.checked_neg()?);
        }
        for (divisor, other) in [(10, 1), (5, 2), (2, 5)] {
            while denominator % divisor == 0 {
                numerator = numerator.checked_mul(other)?;
                denominator /= divisor;
                places = places.checked_add(1)?;
            }
        }
        (denominator == 1).then_some(Exact { digits: numerator, places })
    }

    /// The exact product.
    pub fn times(self, other: Exact) -> Option<Exact> {
        let digits = self.digits.checked_mul(other.digits)?;
        Some(Exact { digits, places: self.places.checked_add(other.places)? })
    }

    /// The exact difference.
    pub fn minus(self, other: Exact) -> Option<Exact> {
        let (a, b, places) = aligned(self, other)?;
        Some(Exact { digits: a.checked_sub(b)?, places })
    }

    /// Without its sign.
    pub fn magnitude(self) -> Exact {
        Exact { digits: self.digits.saturating_abs(), ..self }
    }

    /// True for more than zero.
    pub fn is_positive(self) -> bool {
        self.digits > 0
    }

    /// The number as text, digit for digit.
    pub fn decimal(self) -> Option<Decimal> {
        self.rounded(self.places.max(0))
    }

    /// Which is larger.
    pub fn compare(self, other: Exact) -> Option<Ordering> {
        let (a, b, _) = aligned(self, other)?;
        Some(a.cmp(&b))
    }

    /// The product with a factor, rounded half away from zero so that its last digit is worth no more than the last
    /// digit of `self` was: 5.40 times 18.016 is 97.3, and 5.4 times 1000 is 5400.
    pub fn scaled(self, factor: Exact) -> Option<Decimal> {
        let product = self.times(factor)?;
        let size = i32::try_from(factor.magnitude().digits.checked_ilog10()?).ok()?;
        let places = self.places.checked_add(factor.places)?.checked_sub(size)?;
        product.rounded(places)
    }

    /// The number as text with this many decimals (negative: whole tens, hundreds, ...), rounded half away from zero.
    pub fn rounded(self, places: i32) -> Option<Decimal> {
        let drop = self.places.checked_sub(places)?;
        let digits = if drop <= 0 {
            self.digits.checked_mul(power_of_ten(-drop)?)?
        } else {
            // Beyond what a power of ten can be, nothing is left of the digits.
            let unit = power_of_ten(drop).unwrap_or(i128::MAX);
            let half = unit / 2;
            let away = if self.digits < 0 { self.digits.checked_sub(half)? } else { self.digits.checked_add(half)? };
            away / unit
        };
        let (digits, decimals) = match places < 0 {
            true => (digits.checked_mul(power_of_ten(-places)?)?, 0),
            false => (digits, places as usize),
        };
        let plain = format!("{:0>width$}", digits.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = plain.split_at(plain.len().checked_sub(decimals)?);
        let sign = if digits < 0 { "-" } else { "" };
        let point = if decimals == 0 { "" } else { "." };
        Decimal::parse(&format!("{sign}{whole}{point}{fraction}"))
    }
}

/// Both numbers' digits at the same number of decimals.
fn aligned(a: Exact, b: Exact) -> Option<(i128, i128, i32)> {
    let places = a.places.max(b.places);
    let at = |n: Exact| n.digits.checked_mul(power_of_ten(places.checked_sub(n.places)?)?);
    match (a.digits, b.digits) {
        // Zero is zero at any size, and must not be what makes a comparison impossible.
        (0, _) => Some((0, b.digits, b.places)),
        (_, 0) => Some((a.digits, 0, a.places)),
        _ => Some((at(a)?, at(b)?, places)),
    }
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.saturating_abs(), b.saturating_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(text: &str) -> Exact {
        Exact::of(&Decimal::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn i11_a_converted_value_keeps_what_its_digits_were_worth() {
        for (value, factor, expected) in [
            ("5.4", "1000", "5400"),
            ("5.40", "18.016", "97.3"),
            ("97", "0.05551", "5.38"),
            ("0.9", "88.4", "80"),
            ("9.9", "0.113", "1.12"),
            ("8.0", "1", "8.0"),
            ("-0.05", "10", "-0.5"),
            ("120", "0.1", "12.0"),
            ("0", "0.001", "0.000"),
        ] {
            assert_eq!(exact(value).scaled(exact(factor)).unwrap().as_str(), expected, "{value} times {factor}");
        }
    }

    #[test]
    fn i11_only_exact_quotients_are_factors() {
        assert_eq!(Exact::quotient(1, 8, 0).unwrap().rounded(3).unwrap().as_str(), "0.125");
        assert_eq!(Exact::quotient(60, 1_000, 3).unwrap().rounded(0).unwrap().as_str(), "60");
        assert!(Exact::quotient(1, 3, 0).is_none() && Exact::quotient(1, 0, 0).is_none());
    }

    proptest! {
        #[test]
        fn comparing_agrees_with_whole_numbers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
            let of = |n: i64| exact(&format!("{}{}.{:03}", if n < 0 { "-" } else { "" }, n.abs() / 1000, n.abs() % 1000));
            prop_assert_eq!(of(a).compare(of(b)), Some(a.cmp(&b)));
            prop_assert_eq!(of(a).minus(of(b)).unwrap().compare(of(a - b)), Some(Ordering::Equal));
        }

        #[test]
        fn whatever_the_text_nothing_panics(a in "[-+]?[0-9]{0,40}\\.?[0-9]{0,24}", b in "[-+]?[0-9]{1,29}", e in -400_i32..400) {
            let (Some(a), Some(b)) = (Decimal::parse(&a), Decimal::parse(&b)) else { return Ok(()) };
            let (Some(a), Some(b)) = (Exact::of(&a), Exact::of(&b)) else { return Ok(()) };
            let factor = Exact::new(b.digits, e);
            let _ = (a.compare(factor), a.minus(factor), a.times(factor), a.scaled(factor), factor.rounded(e));
            let _ = Exact::quotient(a.digits, b.digits, e);
        }
    }
}
