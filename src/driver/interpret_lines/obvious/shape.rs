//! What a word looks like: a value, a flag, a range, a day.

use super::label::LABEL_MAX;

/// Words that are results, a dot at their end left out.
const WORDS: [&str; 25] = [
    "neg",
    "negative",
    "pos",
    "positive",
    "trace",
    "small",
    "moderate",
    "large",
    "few",
    "many",
    "norm",
    "normal",
    "abnormal",
    "reactive",
    "nonreactive",
    "non-reactive",
    "nil",
    "none",
    "detected",
    "invalid",
    "error",
    "err",
    "clear",
    "cloudy",
    "indeterminate",
];
/// Grades between yes and no.
const GRADES: [&str; 6] = ["+-", "-+", "+/-", "±", "(+)", "(-)"];
/// What prints beside a value that is out of range or in doubt.
const FLAGS: [&str; 18] =
    ["H", "L", "HH", "LL", "HI", "LO", "N", "A", "AA", "*", "**", "!", "HIGH", "LOW", "C", "+", "++", "?"];
/// What prints beside a drug; in lower case it would be a unit.
const SUSCEPTIBILITIES: [&str; 4] = ["S", "I", "R", "SDD"];
/// A name of a test: a few words, of which one has a letter.
pub(in super::super) fn is_test(text: &str) -> bool {
    let letters = text.chars().any(char::is_alphabetic);
    // `DOE,JANE` is a person.
    let is_person = text.split_once(',').is_some_and(|(family, given)| {
        family.ends_with(char::is_alphabetic) && given.trim_start().starts_with(char::is_alphabetic)
    });
    letters && !is_person && text.chars().count() <= LABEL_MAX && !is_value(text) && !text.contains([':', '='])
}

pub(in super::super) fn is_flag(text: &str) -> bool {
    let bare = text.trim_matches(['(', ')']);
    let unmarked = bare.trim_matches(['*', '!']);
    let known =
        |text: &str| FLAGS.iter().any(|flag| flag.eq_ignore_ascii_case(text)) || SUSCEPTIBILITIES.contains(&text);
    !bare.is_empty() && (known(bare) || known(unmarked))
}

/// A flag that is no word of a test's name, as those of `Vitamin A` and `Hepatitis C` are.
pub(super) fn is_flag_in_name(text: &str) -> bool {
    matches!(text, "H" | "L" | "HH" | "LL" | "HI" | "LO" | "HIGH" | "LOW" | "*" | "**" | "!")
}

pub(in super::super) fn is_number(text: &str) -> bool {
    let is_power = |power: &str| {
        let digits = power.trim_start_matches(['+', '-']);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let text = match text.split_once(['E', 'e']) {
        Some((number, power)) if is_power(power) => number,
        _ => text,
    };
    let digits = text.trim_start_matches(['+', '-']);
    let separators = digits.matches(['.', ',']).count();
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
        && separators <= 1
}

/// A field that is a value, or a value and its unit.
pub(super) fn value_and_unit(field: &str) -> Option<(&str, Option<&str>)> {
    if is_value(field) {
        return Some((field, None));
    }
    let (value, unit) = field.split_once(' ')?;
    let unit = unit.trim();
    let is_unit =
        !unit.contains(' ') && unit.contains(['/', '%']) && unit.chars().any(|c| c.is_alphabetic() || c == '%');
    (is_value(value) && is_unit).then_some((value, Some(unit)))
}

/// Looks like a day: digits in three groups, or with a month's name between.
pub(in super::super) fn is_day(text: &str) -> bool {
    let Some(separator) = text.chars().find(|c| matches!(c, '/' | '-' | '.')) else { return false };
    let parts: Vec<&str> = text.split(separator).collect();
    let is_group = |part: &&str| matches!(part.len(), 1 | 2 | 4) && part.chars().all(|c| c.is_ascii_digit());
    let is_month = |part: &str| part.len() == 3 && part.chars().all(char::is_alphabetic);
    match parts.as_slice() {
        [day, month, year] => is_group(day) && is_group(year) && (is_group(month) || is_month(month)),
        _ => false,
    }
}

/// Looks like a time of day, `10:22` or `10:22:05`.
pub(in super::super) fn is_time_of_day(text: &str) -> bool {
    let text = text.trim_end_matches(['A', 'P', 'M', 'a', 'p', 'm']);
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.len(), 2 | 3)
        && parts.iter().all(|part| (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit()))
}

/// The field a whole text is of, when it is a day, a time of day or both.
pub(super) fn part_of_a_time(text: &str) -> Option<&'static str> {
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let half = |text: &str| matches!(text.trim(), "AM" | "PM" | "am" | "pm");
    match (is_day(day), is_time_of_day(day)) {
        (true, _) if time.is_empty() => Some("completed_date"),
        (true, _) => is_time_of_day(time.trim()).then_some("completed"),
        (_, true) => (time.is_empty() || half(time)).then_some("completed_time"),
        _ => None,
    }
}

/// Looks like a unit and not like a test with a slash in its name (`A/G`, `CT/GC`).
pub(super) fn is_unit_like(text: &str) -> bool {
    let Some((over, _)) = text.split_once('/') else { return text == "%" };
    let small = over.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit() || c == '{');
    over.is_empty() || small || ["U", "IU", "KU", "L", "S", "E.U.", "Leu", "Ery", "RBC", "WBC"].contains(&over)
}

/// Looks like a result: a number, a limit, a titre, plus signs, a word such as NEG, or what prints where none is.
pub(in super::super) fn is_value(text: &str) -> bool {
    let bare = text.trim_end_matches(['*', '!']).trim_end_matches(['H', 'L']);
    let limit = bare.trim_start_matches(['<', '>', '=', '≤', '≥', '*']);
    let graded = bare.trim_end_matches('+');
    is_number(limit)
        || bare.strip_prefix("1:").is_some_and(is_number)
        || (graded.len() < bare.len() && (graded.is_empty() || is_number(graded)))
        || (bare.starts_with('+') && is_number(bare))
        || (text.len() > 1 && text.chars().all(|c| matches!(c, '-' | '*' | '.')))
        || GRADES.contains(&text)
        || is_word(text)
}

/// One of the words that are results, or its opposite: `Not Detected`.
pub(super) fn is_word(text: &str) -> bool {
    let text = match text.split_once(' ') {
        Some((no, text)) if is_no(no) => text,
        _ => text,
    };
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text.trim_end_matches('.')))
}

pub(super) fn is_no(word: &str) -> bool {
    ["no", "not", "non"].iter().any(|no| no.eq_ignore_ascii_case(word))
}

pub(super) fn is_clock(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit()) && text.split_whitespace().last().is_some_and(is_number)
}

/// A range at the beginning of these words: `(3.5-5.0)`, `3.5 - 5.0`, `[ 3.5 5.0 ]`.
pub(in super::super) fn range_in(words: &[&str]) -> Option<(usize, String)> {
    let first = words.first()?;
    if first.starts_with(['(', '[']) {
        let length = words.iter().position(|word| word.ends_with([')', ']']))? + 1;
        let text = words.get(..length)?.join(" ");
        return text.chars().any(|c| c.is_ascii_digit()).then_some((length, text));
    }
    let is_span = |text: &str| text.split_once('-').is_some_and(|(low, high)| is_number(low) && is_number(high));
    if is_span(first) {
        return Some((1, first.to_string()));
    }
    match words {
        [low, "-" | "to", high, ..] if is_number(low) && is_number(high) => Some((3, format!("{low} - {high}"))),
        _ => None,
    }
}

/// The words of a line; what means something only together is one: `> 100.0`, `Not Detected`.
pub(super) fn words_of(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(before) if matches!(before.as_str(), "<" | ">" | "<=" | ">=" | "≤" | "≥") && is_number(word) => {
                before.push_str(word);
            }
            Some(before) if is_no(before) && is_word(word) => before.push_str(&format!(" {word}")),
            _ => words.push(word.to_string()),
        }
    }
    words
}
