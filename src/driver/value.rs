//! Values: from the text an instrument sent to what it means, digit for digit, and never by guessing (I11, I13).

use super::identify::wildcard;
use super::schema::{Failure, ValueKind};
use crate::clinical::{Coding, CodingSystem, Decimal, Doubt, Value};
use crate::message::hl7::Segment;

/// A value and what is doubtful about it.
pub(super) type Read = (Value, Vec<Doubt>);

/// How to read a text.
#[derive(Clone, Copy)]
pub(super) struct Rules<'d> {
    /// What was promised.
    pub kind: ValueKind,
    /// `1,5` is `1.5`.
    pub decimal_comma: bool,
    /// Words that are no result.
    pub failure: &'d Failure,
    /// Words that are one; none means any.
    pub words: &'d [String],
}

/// Reads a plain text value.
pub(super) fn text(sent: &str, rules: Rules) -> Read {
    let sent = sent.trim();
    let is_word = |words: &[String]| words.iter().any(|w| w.eq_ignore_ascii_case(sent));
    let as_text = || Value::Text(sent.to_string());
    if is_word(&rules.failure.values) && !sent.is_empty() {
        return (as_text(), vec![Doubt::FailedRun]);
    }
    if is_word(&rules.failure.questionable_values) && !sent.is_empty() {
        return (as_text(), vec![Doubt::Questionable]);
    }
    if sent.is_empty() || sent == "\"\"" {
        return (Value::Absent, vec![Doubt::UnreadableValue]);
    }
    if is_filler(sent) {
        return (as_text(), vec![Doubt::UnreadableValue]);
    }
    let word_doubts = || if is_known(sent, rules.words) { Vec::new() } else { vec![Doubt::UnreadableValue] };
    if rules.kind == ValueKind::Text {
        return (as_text(), word_doubts());
    }
    if let Some(value) = number(sent, rules) {
        return (value, Vec::new());
    }
    // An asterisk beside the number is how analyzers print "do not trust this one"; it stays in the text.
    if sent.contains('*') && number(sent.trim_matches(['*', ' ']), rules).is_some() {
        return (as_text(), vec![Doubt::Questionable]);
    }
    let doubts = if rules.kind == ValueKind::Number { vec![Doubt::UnreadableValue] } else { word_doubts() };
    (as_text(), doubts)
}

/// Reads OBX-5 as OBX-2 says.
pub(super) fn obx(obx: &Segment, sent: &str, rules: Rules) -> Read {
    const VALUE: u16 = 5;
    let component = |n| obx.component(VALUE, n, None).trim().to_string();
    let unreadable = |text: &str| (Value::Text(text.trim().to_string()), vec![Doubt::UnreadableValue]);
    let plain = text(sent, rules);
    // A failure word is one in any data type.
    if !plain.1.is_empty() && plain.1 != [Doubt::UnreadableValue] {
        return plain;
    }
    let several = obx.repeat_count(VALUE) > 1;
    match obx.component(2, 1, None).trim().to_ascii_uppercase().as_str() {
        _ if sent.trim().is_empty() => plain,
        "NM" if several || obx.components_filled(VALUE) > 1 => unreadable(sent),
        "NM" => match decimal(component(1).as_str(), rules.decimal_comma) {
            Some(number) => (Value::Number(number), Vec::new()),
            None => unreadable(sent),
        },
        "SN" if several => unreadable(sent),
        "SN" => structured([component(1), component(2), component(3), component(4)], rules)
            .map_or_else(|| unreadable(sent), |value| (value, Vec::new())),
        "NR" if several => unreadable(sent),
        "NR" => match (decimal(&component(1), rules.decimal_comma), decimal(&component(2), rules.decimal_comma)) {
            (Some(low), Some(high)) => (Value::Range { low, high }, Vec::new()),
            _ => unreadable(sent),
        },
        "CE" | "CWE" | "CNE" | "CF" | "IS" | "ID" if several => unreadable(sent),
        "CE" | "CWE" | "CNE" | "CF" | "IS" | "ID" => coded(&component, rules),
        "ED" => encapsulated(&component).map_or_else(|| unreadable(sent), |value| (value, Vec::new())),
        "TX" | "FT" if several => text(&obx.whole_repeats(VALUE).join("\n"), rules),
        "ST" | "TX" | "FT" | "DT" | "TM" | "TS" | "DTM" | "RP" | "" => plain,
        _ => unreadable(sent),
    }
}

/// A number, a limit, a range or a titre; `None` for anything else.
fn number(sent: &str, rules: Rules) -> Option<Value> {
    if let Some(number) = decimal(sent, rules.decimal_comma) {
        // `+3` is three plus signs on a urine strip unless a number was promised.
        let graded = sent.starts_with('+') && rules.kind != ValueKind::Number;
        return (!graded).then_some(Value::Number(number));
    }
    for (sign, comparator) in [("<=", "<="), (">=", ">="), ("≤", "<="), ("≥", ">="), ("<", "<"), (">", ">")] {
        if let Some(rest) = sent.strip_prefix(sign) {
            let number = decimal(rest.trim_start(), rules.decimal_comma)?;
            return Some(Value::Compared { comparator: comparator.to_string(), number });
        }
    }
    if let Some((numerator, denominator)) = sent.split_once(':')
        && numerator.trim() == "1"
    {
        let (numerator, denominator) = (decimal("1", false)?, decimal(denominator.trim(), rules.decimal_comma)?);
        return Some(Value::Ratio { numerator, separator: ":".to_string(), denominator });
    }
    let (low, high) = sent.split_once('-')?;
    let (low, high) = (decimal(low.trim(), rules.decimal_comma)?, decimal(high.trim(), rules.decimal_comma)?);
    let unsigned = |d: &Decimal| !d.as_str().starts_with(['-', '+']);
    (unsigned(&low) && unsigned(&high) && less(low.as_str(), high.as_str())).then_some(Value::Range { low, high })
}

/// SN: comparator, number, separator, number (HL7 v2 chapter 2A).
fn structured(sn: [String; 4], rules: Rules) -> Option<Value> {
    let [comparator, first, separator, second] = sn;
    let one = decimal(&first, rules.decimal_comma);
    if separator.is_empty() && second.is_empty() {
        let number = one?;
        return match comparator.as_str() {
            "" | "=" => Some(Value::Number(number)),
            "<" | ">" | "<=" | ">=" => Some(Value::Compared { comparator, number }),
            _ => None,
        };
    }
    let two = decimal(&second, rules.decimal_comma)?;
    match (comparator.as_str(), separator.as_str()) {
        ("" | "=", "-") => Some(Value::Range { low: one?, high: two }),
        ("" | "=", ":" | "/") => Some(Value::Ratio { numerator: one?, separator, denominator: two }),
        _ => None,
    }
}

/// CE and CWE: code, text, system; a text without a code stays text.
fn coded(component: &impl Fn(u16) -> String, rules: Rules) -> Read {
    const ORIGINAL_TEXT: u16 = 9;
    let (code, words, system) = (component(1), component(2), component(3));
    for word in [&code, &words] {
        let (_, doubts) = text(word, rules);
        if doubts.iter().any(|d| matches!(d, Doubt::FailedRun | Doubt::Questionable)) {
            return (Value::Text(word.clone()), doubts);
        }
    }
    if !code.is_empty() {
        let known = [&code, &words].into_iter().any(|word| !word.is_empty() && is_known(word, rules.words));
        let doubts = if known { Vec::new() } else { vec![Doubt::UnreadableValue] };
        return (Value::Coded(Coding { code, text: words, system: CodingSystem::from_hl7(&system) }), doubts);
    }
    let words = if words.is_empty() { component(ORIGINAL_TEXT) } else { words };
    text(&words, Rules { kind: ValueKind::Text, ..rules })
}

/// ED: source, type, subtype, encoding, data. Only Base64 is carried; it is not decoded.
fn encapsulated(component: &impl Fn(u16) -> String) -> Option<Value> {
    let (kind, subtype, encoding, data) = (component(2), component(3), component(4), component(5));
    let base64 = data.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if !encoding.eq_ignore_ascii_case("base64") || data.is_empty() || !base64 {
        return None;
    }
    let kind = match kind.to_ascii_lowercase().as_str() {
        "" => "application".to_string(),
        // HL7 table 0191 writes AP, IM, ...; senders also write the words out.
        "ap" => "application".to_string(),
        "im" => "image".to_string(),
        "tx" => "text".to_string(),
        other => other.to_string(),
    };
    let subtype = if subtype.is_empty() { "octet-stream".to_string() } else { subtype.to_ascii_lowercase() };
    Some(Value::Data { media_type: format!("{kind}/{subtype}"), base64: data })
}

fn decimal(text: &str, comma: bool) -> Option<Decimal> {
    if comma && text.matches(',').count() == 1 && !text.contains('.') {
        return Decimal::parse(&text.replace(',', "."));
    }
    Decimal::parse(text)
}

/// True when `word` is one of `words`, or when none are listed.
fn is_known(word: &str, words: &[String]) -> bool {
    let upper = word.to_uppercase();
    words.is_empty() || words.iter().any(|w| wildcard(&w.to_uppercase(), &upper))
}

/// `---`, `****` and the like: what a screen shows where no value is. A single `-` is "negative" on many strips.
fn is_filler(text: &str) -> bool {
    text.len() > 1 && text.chars().all(|c| matches!(c, '-' | '*' | '?' | '.' | '#' | ' '))
}

/// `a < b` for unsigned decimal texts, without turning them into binary numbers.
fn less(a: &str, b: &str) -> bool {
    let parts = |s: &str| {
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        (whole.trim_start_matches('0').to_string(), fraction.trim_end_matches('0').to_string())
    };
    let ((a_whole, a_fraction), (b_whole, b_fraction)) = (parts(a), parts(b));
    (a_whole.len(), a_whole, a_fraction) < (b_whole.len(), b_whole, b_fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure { values: vec!["ERROR".into()], questionable_values: vec!["++++".into()], ..Failure::default() }
    }

    fn read(sent: &str, kind: ValueKind) -> Read {
        text(sent, Rules { kind, decimal_comma: false, failure: &failure(), words: &[] })
    }

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn i11_numbers_limits_ranges_and_titres_keep_their_digits() {
        let compared = |c: &str, n: &str| Value::Compared { comparator: c.into(), number: d(n) };
        for (sent, value) in [
            ("8.0", Value::Number(d("8.0"))),
            (" 5.850 ", Value::Number(d("5.850"))),
            ("-19.80", Value::Number(d("-19.80"))),
            ("<3.00", compared("<", "3.00")),
            ("> 1500", compared(">", "1500")),
            ("<=1.005", compared("<=", "1.005")),
            ("≥1.030", compared(">=", "1.030")),
            ("0-2", Value::Range { low: d("0"), high: d("2") }),
            ("9.50 - 10.0", Value::Range { low: d("9.50"), high: d("10.0") }),
            ("1:64", Value::Ratio { numerator: d("1"), separator: ":".into(), denominator: d("64") }),
        ] {
            assert_eq!(read(sent, ValueKind::Number), (value, vec![]), "{sent}");
        }
    }

    #[test]
    fn i13_what_is_no_number_is_text_and_held_where_a_number_was_promised() {
        for sent in ["Examine", "1,5", "1e3", "5-2", "-1^0.282", "12:30", "2026-11-03", "<", "<x", "1.2.3", "+1 cells"]
        {
            assert_eq!(
                read(sent, ValueKind::Number),
                (Value::Text(sent.into()), vec![Doubt::UnreadableValue]),
                "{sent}"
            );
            assert_eq!(read(sent, ValueKind::Any), (Value::Text(sent.into()), vec![]), "{sent}");
        }
        assert_eq!(read("7", ValueKind::Text), (Value::Text("7".into()), vec![]));
        assert_eq!(read("+3", ValueKind::Any), (Value::Text("+3".into()), vec![]));
    }

    #[test]
    fn i13_failure_words_fillers_and_asterisks_are_doubts() {
        for (sent, doubt) in [
            ("error", Doubt::FailedRun),
            ("++++", Doubt::Questionable),
            ("---", Doubt::UnreadableValue),
            ("****", Doubt::UnreadableValue),
            ("4.2*", Doubt::Questionable),
            ("* 4.2", Doubt::Questionable),
        ] {
            assert_eq!(read(sent, ValueKind::Any), (Value::Text(sent.into()), vec![doubt]), "{sent}");
        }
        assert_eq!(read("", ValueKind::Any), (Value::Absent, vec![Doubt::UnreadableValue]));
        assert_eq!(read("-", ValueKind::Any), (Value::Text("-".into()), vec![]));
    }

    #[test]
    fn a_decimal_comma_is_read_only_where_the_driver_says_so() {
        let rules = Rules { kind: ValueKind::Number, decimal_comma: true, failure: &failure(), words: &[] };
        assert_eq!(text("1,50", rules), (Value::Number(d("1.50")), vec![]));
        assert_eq!(text("1,500.0", rules).1, vec![Doubt::UnreadableValue]);
        assert_eq!(text("1,2,3", rules).1, vec![Doubt::UnreadableValue]);
    }
}
