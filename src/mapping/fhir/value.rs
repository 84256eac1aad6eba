//! `Observation.value[x]` and the reference range, digit for digit (invariant I11).

use super::super::Outgoing;
use super::resource::{Attachment, Quantity, ReferenceRange, Value};
use super::{Paper, some};
use crate::clinical::{Decimal, Observation, Value as Sent};
use serde_json::value::RawValue;

pub(super) const UCUM: &str = "http://unitsofmeasure.org";

impl Paper<'_> {
    /// The value. A numeral that is no JSON number as it was sent (`065.88`, `1.`, `.5`, `+3`) goes as text; it is
    /// never turned into one that is. `None` when there is no value, or it is a document.
    pub(super) fn value(&self, observation: &Observation) -> Option<Value> {
        let quantity = |number: &Decimal| quantity(number, observation);
        let bare = |number: &Decimal| Some(Quantity { unit: None, system: None, code: None, ..quantity(number)? });
        Some(match &observation.value {
            Sent::Absent | Sent::Data { .. } => return None,
            Sent::Number(number) => match quantity(number) {
                Some(quantity) => Value::Quantity(quantity),
                None => Value::Text(number.as_str().to_string()),
            },
            Sent::Compared { comparator, number } => match (comparator_code(comparator), quantity(number)) {
                (Some(code), Some(q)) => Value::Quantity(Quantity { comparator: Some(code), ..q }),
                _ => Value::Text(format!("{comparator}{number}")),
            },
            Sent::Range { low, high } => match (quantity(low), quantity(high)) {
                (Some(low), Some(high)) => Value::Range { low, high },
                _ => Value::Text(format!("{low}-{high}")),
            },
            // A titre has no unit; a unit beside it is kept in the note.
            Sent::Ratio { numerator, separator, denominator } => match (bare(numerator), bare(denominator)) {
                (Some(numerator), Some(denominator)) => Value::Ratio { numerator, denominator },
                _ => Value::Text(format!("{numerator}{separator}{denominator}")),
            },
            Sent::Text(text) => Value::Text(some(text)?),
            Sent::Coded(coding) => Value::Concept(self.concept(&[coding])?),
        })
    }
}

/// True when the value says its unit itself.
pub(super) fn has_unit(value: &Value) -> bool {
    matches!(value, Value::Quantity(_) | Value::Range { .. })
}

/// The reference range: the text as sent, and limits only from `low-high` with two plain numbers.
pub(super) fn reference_range(observation: &Observation) -> Option<ReferenceRange> {
    let text = some(&observation.reference_range)?;
    let limits = text.split_once('-').and_then(|(low, high)| {
        let (low, high) = (unsigned(low)?, unsigned(high)?);
        at_most(low.as_str(), high.as_str()).then_some((quantity(&low, observation)?, quantity(&high, observation)?))
    });
    let (low, high) = limits.unzip();
    Some(ReferenceRange { low, high, text })
}

/// A document, for `DiagnosticReport.presentedForm`.
pub(super) fn attachment(result: &Outgoing) -> Option<Attachment> {
    let Sent::Data { media_type, base64 } = &result.observation.value else { return None };
    let code = result.observation.code.as_ref();
    let title = code.and_then(|c| some(&c.text)).or_else(|| some(&result.observation.instrument_code));
    Some(Attachment { content_type: media_type.clone(), data: base64.clone(), title })
}

/// The unit as sent; UCUM only where the driver or the site maps it.
fn quantity(number: &Decimal, observation: &Observation) -> Option<Quantity> {
    let value = RawValue::from_string(number.as_json()?.to_string()).ok()?;
    let code = some(&observation.ucum);
    Some(Quantity {
        value,
        comparator: None,
        unit: some(&observation.unit),
        system: code.is_some().then_some(UCUM),
        code,
    })
}

fn comparator_code(sent: &str) -> Option<&'static str> {
    ["<", "<=", ">=", ">"].into_iter().find(|c| *c == sent)
}

fn unsigned(text: &str) -> Option<Decimal> {
    Decimal::parse(text.trim()).filter(|d| !d.as_str().starts_with(['-', '+']))
}

/// `a <= b` for unsigned numerals, by their digits.
fn at_most(a: &str, b: &str) -> bool {
    let parts = |s: &str| {
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        let whole = whole.trim_start_matches('0').to_string();
        (whole.len(), whole, fraction.trim_end_matches('0').to_string())
    };
    parts(a) <= parts(b)
}
