//! Units of the Unified Code for Units of Measure: is a code valid, and may a number in one unit be said in another.
//!
//! Grammar and tables are those of the crate `octofhir-ucum` (UCUM 2.2). Of its arithmetic only the exact part is used:
//! a factor is a ratio of whole numbers, never a binary float (invariant I11).
//!
//! UCUM takes the mole for a mere number, so to it `mmol/L` and `10*9/L` are of one kind, and the equivalent and the
//! osmole are other words for the mole. In a chart they are different quantities, so here units are
//! [commensurable](Unit::is_commensurable) only when they also agree in these (invariant I13).

use super::exact::Exact;
use octofhir_ucum::UnitExpr;

/// Longest code accepted, in bytes. The longest in LOINC's tables has 36.
pub const UCUM_BYTES_MAX: usize = 128;
/// Units that count particles, and the kind each counts. An enzyme unit is moles a minute.
const AMOUNTS: [(&str, usize); 5] = [("mol", 0), ("U", 0), ("kat", 0), ("eq", 1), ("osm", 2)];
/// Kinds in [`AMOUNTS`].
const AMOUNT_KINDS: usize = 3;
/// What people write for a unit and what UCUM calls it, longest first where one contains another.
const SPELLINGS: [(&str, &str); 15] = [
    ("µ", "u"),
    ("μ", "u"),
    ("x10^", "10*"),
    ("x10E", "10*"),
    ("10E", "10*"),
    ("mmHg", "mm[Hg]"),
    ("mIU", "m[IU]"),
    ("uIU", "u[IU]"),
    ("IU", "[IU]"),
    ("mEq", "meq"),
    ("cells", "{cells}"),
    ("copies", "{copies}"),
    ("mOsm", "mosm"),
    ("sec", "s"),
    ("pH", "[pH]"),
];

/// Exponents of each kind of particles counted, above the line and below it. They do not cancel: a proportion of moles
/// (`mmol/mol`) is not one of volumes or masses, as HbA1c in `mmol/mol` and in `%` shows.
type Amounts = [[i32; 2]; AMOUNT_KINDS];

/// A valid unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    digits: i128,
    exponent: i32,
    dimension: [i8; 7],
    arbitrary: Vec<(&'static str, i32)>,
    amounts: Amounts,
    /// Set for units on a scale of their own (`Cel`, `[pH]`): only the same code is the same unit.
    scale: Option<String>,
}

/// Why a text is no UCUM code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{code}` is not a UCUM unit{}", .suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
pub struct InvalidUnit {
    /// The text, cut to the longest code there is.
    pub code: String,
    /// A valid code that may have been meant.
    pub suggestion: Option<String>,
}

impl Unit {
    /// Reads a case-sensitive UCUM code.
    ///
    /// # Errors
    /// [`InvalidUnit`] when the text is empty, too long, not in UCUM's grammar, or names a unit that is in no table.
    pub fn parse(code: &str) -> Result<Unit, InvalidUnit> {
        Self::read(code).ok_or_else(|| InvalidUnit {
            code: code.chars().take(UCUM_BYTES_MAX).collect(),
            suggestion: suggestion(code),
        })
    }

    /// True when a number in one unit can be said in the other: the same dimension, the same arbitrary units, the same
    /// kind of particles counted, and no scale of its own.
    pub fn is_commensurable(&self, other: &Unit) -> bool {
        self.dimension == other.dimension
            && self.arbitrary == other.arbitrary
            && self.amounts == other.amounts
            && self.scale == other.scale
    }

    /// What a number in this unit is multiplied by to be one in `other`. `None` when they are not commensurable or the
    /// factor is no exact decimal, as from hours to days.
    pub fn factor_to(&self, other: &Unit) -> Option<Exact> {
        if !self.is_commensurable(other) {
            return None;
        }
        if self.scale.is_some() {
            return Some(Exact::ONE);
        }
        Exact::quotient(self.digits, other.digits, self.exponent.checked_sub(other.exponent)?)
    }

    fn read(code: &str) -> Option<Unit> {
        if code.is_empty() || code.len() > UCUM_BYTES_MAX || !code.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let expression = octofhir_ucum::parse_expression(code).ok()?;
        let meaning = octofhir_ucum::evaluate(&expression).ok()?;
        let (digits, exponent) = meaning.factor.to_integer_and_exponent();
        let mut amounts = Amounts::default();
        count_amounts(&expression, 1, &mut amounts);
        Some(Unit {
            digits,
            exponent,
            dimension: meaning.dim.0,
            arbitrary: meaning.arbitrary,
            amounts,
            scale: meaning.special.is_some().then(|| code.to_string()),
        })
    }
}

/// A valid code that may have been meant by a text that is none.
fn suggestion(code: &str) -> Option<String> {
    if code.len() > UCUM_BYTES_MAX {
        return None;
    }
    let squeezed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let mut respelt = squeezed.clone();
    for (said, ucum) in SPELLINGS {
        if respelt.contains(said) && !respelt.contains(ucum) {
            respelt = respelt.replacen(said, ucum, 1);
        }
    }
    let litres = |text: &str| text.to_lowercase().replace("l", "L").replace("moL", "mol");
    let counted = |text: &str| text.split_once('/').map(|(what, per)| format!("{{{what}}}/{per}")).unwrap_or_default();
    [squeezed.clone(), respelt.clone(), litres(&squeezed), counted(&squeezed)]
        .into_iter()
        .find(|text| Unit::read(text).is_some())
}

/// Adds up the exponents of the units that count particles.
fn count_amounts(expression: &UnitExpr, times: i32, amounts: &mut Amounts) {
    match expression {
        UnitExpr::Symbol(symbol) => {
            let counted = AMOUNTS.iter().find(|(atom, _)| is_atom(symbol, atom));
            if let Some(amount) = counted.and_then(|(_, kind)| amounts.get_mut(*kind)) {
                let [above, below] = amount;
                let side = if times < 0 { below } else { above };
                *side = side.saturating_add(times);
            }
        }
        UnitExpr::Power(of, power) => count_amounts(of, times.saturating_mul(*power), amounts),
        UnitExpr::Annotated(of, _) => count_amounts(of, times, amounts),
        UnitExpr::Product(terms) => terms.iter().for_each(|term| count_amounts(term, times, amounts)),
        UnitExpr::Quotient(over, under) => {
            count_amounts(over, times, amounts);
            count_amounts(under, times.saturating_neg(), amounts);
        }
        UnitExpr::Reciprocal(of) => count_amounts(of, times.saturating_neg(), amounts),
        UnitExpr::Numeric(_) | UnitExpr::Annotation(_) => {}
    }
}

/// True for the atom itself or the atom with a prefix.
fn is_atom(symbol: &str, atom: &str) -> bool {
    octofhir_ucum::find_unit(symbol).map_or_else(
        || symbol.strip_suffix(atom).is_some_and(|prefix| octofhir_ucum::find_prefix(prefix).is_some()),
        |unit| unit.code == atom,
    )
}

#[cfg(test)]
mod tests;
