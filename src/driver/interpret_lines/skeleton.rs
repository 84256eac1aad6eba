//! What a capture of foreign lines suggests to begin a driver with: how messages are told apart, and records that read the
//! lines in which something is obvious. A person has to look at all of it; codes are mapped by nobody here.

use super::obvious::label::label;
use super::obvious::shape::{is_day, is_flag, is_number, is_test, is_time_of_day, is_value, range_in};
use super::obvious::{self, Table};
use crate::message::lines::{Cut, Line, read};
use crate::wire::line::Framing;
use crate::wire::line::framing::{Check, CheckForm, CheckPlace, Mark, Rule};
use crate::wire::spelling::spell;

/// Most records suggested.
const RECORDS_MAX: usize = 20;
/// Most lines that are shown under a ruler.
const RULERS_MAX: usize = 3;
/// Most columns or fields of a line that are shown.
const FIELDS_MAX: usize = 60;
/// Messages by which check characters are recognised; with fewer, one byte fits by chance.
const SOUND_MIN: usize = 2;
/// What begins a message, and what may end it.
const STARTS: [u8; 2] = [0x02, 0x01];
const ENDS: [u8; 4] = [0x03, 0x17, 0x1D, 0x1E];
const ENQ: u8 = 0x05;
/// Silence after which a message without any mark is over, in milliseconds.
const IDLE_MS: u64 = 2000;

/// A number, a limit, a titre, plus signs, or a word that is a result.
const VALUE: &str = r"(?<value>[<>]?=? ?[-+]?[0-9]+(?:[.,][0-9]+)?|1:[0-9]+|[0-9]?\++|(?i:neg|pos|norm|nil|trace|reac|non-?reac)[a-z]*\.?|[-*.]{2,})";
/// The name of a test: up to five words, of which the first begins with a letter.
const TEST: &str = r"(?<test_code>[A-Za-zµ][\w#%/().+-]*(?: [A-Za-z(][\w#%/().+-]*){0,4}?)";
const UNIT: &str = r"(?: *(?<unit>%|10[\^*][0-9]+/\S+|[A-Za-zµ/][\w/.*^µ%-]+|[a-zµ]))?";
const FLAG: &str = r"(?: *(?<flag>[HL]{1,2}|[*!]+|[NA]))?";
const RANGE: &str = r"(?: *(?<reference_range>\([^)]*\)|\[[^]]*\]|[0-9.,]+ *(?:-|to) *[0-9.,]+))?";

/// `[wire.framing]` and `[lines]` of a driver, as text to put into its file.
pub fn suggest(raw: &[u8]) -> String {
    let framing = framing(raw);
    let mut text = framing_text(&framing);
    let parts = read(raw, Some(&framing), &Cut::default(), None);
    let lines: Vec<Line> = parts.into_iter().flat_map(|part| part.lines).collect();
    text.push_str("\n[lines]\n");
    text.push_str(&date_order(&lines));
    let title = title(&lines);
    let ignored = match &title {
        Some(title) => format!("ignore = ['^ *{}']\n", escaped(title)),
        None => "# ignore = ['^ACME ANALYZER']\n".to_string(),
    };
    text.push_str(&format!("# Lines that say nothing, such as headings:\n{ignored}"));
    let says = |line: &Line| title.as_ref().is_none_or(|title| !line.text.trim_start().starts_with(title));
    let lines: Vec<Line> = lines.into_iter().filter(says).collect();
    for record in records(&lines).into_iter().take(RECORDS_MAX) {
        text.push_str(&record);
    }
    text
}

/// What of a report's first line another report begins with too: up to the first digit. `None` when it says more than that.
pub fn heading(first: &str) -> Option<&str> {
    let end = first.find(|c: char| c.is_ascii_digit()).unwrap_or(first.len());
    let same = first.get(..end).unwrap_or(first).trim();
    (same.chars().filter(|c| c.is_alphabetic()).count() >= 3).then_some(same)
}

/// The heading of a printed report: a first line without anything obvious but a number.
fn title(lines: &[Line]) -> Option<String> {
    let [first, _, ..] = lines else { return None };
    let text = first.text.trim();
    let says_more = obvious::separated(text).is_some() || text.contains([':', '=']) || Table::at(lines).is_some();
    let results = obvious::by_words(text, 1).map_or(0, |reading| reading.results.iter().map(|r| r.len()).sum());
    // A unit or a flag behind the number makes it a result.
    heading(text).filter(|_| !says_more && results <= 2).map(ToString::to_string)
}

/// How messages are told apart, by the control characters in the bytes.
fn framing(raw: &[u8]) -> Framing {
    let by_silence = Framing::by_silence(IDLE_MS);
    let first = |among: &[u8]| raw.iter().copied().find(|byte| among.contains(byte));
    let Some(start) = first(&STARTS) else {
        return match raw.contains(&0x0C) {
            true => Framing { last_line: Some(r"\f$".to_string()), idle_ms: Some(10_000), ..Framing::default() },
            false => by_silence,
        };
    };
    let messages: Vec<&[u8]> = raw.split(|byte| *byte == start).skip(1).collect();
    let ends: Vec<u8> = ENDS.into_iter().filter(|end| messages.iter().any(|message| message.contains(end))).collect();
    // RS mostly separates fields; it ends a message only where nothing else does.
    let ends: Vec<u8> = if ends.len() > 1 { ends.into_iter().filter(|end| *end != 0x1E).collect() } else { ends };
    if ends.is_empty() {
        return by_silence;
    }
    let framed = Framing {
        start: Mark(vec![start]),
        end: ends.iter().map(|end| Mark(vec![*end])).collect(),
        handshake: raw.contains(&ENQ),
        ..Framing::default()
    };
    let check = check(&framed, &messages, start, &ends);
    Framing { check, ..framed }
}

/// The check characters that fit every message, if any do.
fn check(framed: &Framing, messages: &[&[u8]], start: u8, ends: &[u8]) -> Option<Check> {
    let whole: Vec<(Vec<u8>, &[u8])> = messages
        .iter()
        .filter_map(|message| {
            let end = message.iter().position(|byte| ends.contains(byte))?;
            let (body, behind) = message.split_at(end + 1);
            Some(([&[start], body].concat(), behind))
        })
        .collect();
    if whole.len() < SOUND_MIN {
        return None;
    }
    for (place, form) in [
        (CheckPlace::AfterEnd, CheckForm::Hex),
        (CheckPlace::AfterEnd, CheckForm::Byte),
        (CheckPlace::BeforeEnd, CheckForm::Hex),
        (CheckPlace::BeforeEnd, CheckForm::Byte),
    ] {
        for rule in [Rule::Sum, Rule::Xor, Rule::TwosComplement] {
            for (with_start, with_end) in [(false, true), (false, false), (true, true), (true, false)] {
                let check = Check { rule, form, place, with_start, with_end };
                let checked = Framing { check: Some(check.clone()), ..framed.clone() };
                let fits = |(body, behind): &(Vec<u8>, &[u8])| {
                    let length = if place == CheckPlace::AfterEnd { check.len() } else { 0 };
                    let with_check = behind.get(..length).map(|sum| [body.as_slice(), sum].concat());
                    with_check.is_some_and(|message| checked.is_sound(&message))
                };
                if whole.iter().all(fits) {
                    return Some(check);
                }
            }
        }
    }
    None
}

fn framing_text(framing: &Framing) -> String {
    let mut text = String::from("[wire.framing]\n");
    let mark = |bytes: &[u8]| format!("\"{}\"", spell(bytes));
    if !framing.start.0.is_empty() {
        let ends: Vec<String> = framing.end.iter().map(|end| mark(&end.0)).collect();
        text.push_str(&format!("start = {}\nend = [{}]\n", mark(&framing.start.0), ends.join(", ")));
    }
    if let Some(last) = &framing.last_line {
        text.push_str(&format!("last_line = '{last}'\n"));
    }
    if let Some(idle) = framing.idle_ms {
        text.push_str(&format!("# Silence of so many milliseconds ends a message.\nidle_ms = {idle}\n"));
    }
    if framing.handshake {
        text.push_str("# It asks with ENQ whether it may send.\nhandshake = true\n");
    }
    text.push_str("# Does it wait for an answer? \"ack\" gives one once a message is stored.\n# reply = \"ack\"\n");
    if let Some(check) = &framing.check {
        let rule = match check.rule {
            Rule::Xor => "xor",
            Rule::Sum => "sum",
            Rule::TwosComplement => "twos-complement",
        };
        let form = if check.form == CheckForm::Hex { "hex" } else { "byte" };
        let place = if check.place == CheckPlace::AfterEnd { "after-end" } else { "before-end" };
        text.push_str(&format!(
            "\n# These check characters fit every message of the capture.\n[wire.framing.check]\nrule = \"{rule}\"\n\
             form = \"{form}\"\nplace = \"{place}\"\nwith_start = {}\nwith_end = {}\n",
            check.with_start, check.with_end
        ));
    }
    text
}

/// In which order dates are written, as far as one of them can be read in one way only.
fn date_order(lines: &[Line]) -> String {
    let mut order = None;
    let mut seen = false;
    for word in lines.iter().flat_map(|line| line.text.split(|c: char| c.is_whitespace() || ",;|\u{1e}".contains(c))) {
        let parts: Vec<&str> = word.split(['/', '.', '-']).collect();
        let numbers: Vec<u16> = parts.iter().filter_map(|part| part.parse().ok()).collect();
        let [first, second, third] = numbers.as_slice() else { continue };
        if parts.len() != 3
            || !(parts.first().is_some_and(|p| p.len() == 4) || parts.last().is_some_and(|p| p.len() >= 2))
        {
            continue;
        }
        seen = true;
        order = order.or(match (first, second, third) {
            (1000.., _, _) => Some("ymd"),
            (13..=31, 1..=12, _) => Some("dmy"),
            (1..=12, 13..=31, _) => Some("mdy"),
            _ => None,
        });
    }
    match order {
        Some(order) => format!("date_order = \"{order}\"\n"),
        None if seen => {
            "# The dates can be read in several ways; say which is meant: ymd, dmy or mdy.\n# date_order = \"dmy\"\n"
                .into()
        }
        None => String::new(),
    }
}

/// Records for the lines, each kind once.
fn records(lines: &[Line]) -> Vec<String> {
    let mut records: Vec<(String, String)> = Vec::new();
    let mut add = |(key, record): (String, String)| {
        if !records.iter().any(|(known, _)| *known == key) {
            records.push((key, record));
        }
    };
    let (mut printed, mut loose): (Vec<&Line>, Vec<&Line>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(table) = Table::at(lines.get(at..).unwrap_or_default()) {
            add((of_table(&table), of_table(&table)));
            at += 1;
            while lines.get(at).is_some_and(|row| table.fits(row)) {
                at += 1;
            }
            continue;
        }
        at += 1;
        let text = line.text.trim_end();
        if let Some((separator, cells)) = obvious::separated(text) {
            add(of_fields(separator, &cells));
        } else if let Some(record) = of_labels(text) {
            add((record.clone(), record));
        } else if obvious::by_words(text, line.number).is_some() || obvious::labelled(text, line.number).is_some() {
            printed.push(line);
        } else if text.chars().any(char::is_alphanumeric) {
            loose.push(line);
        }
    }
    let is_marked = |line: &&Line| line.text.trim_start().starts_with(['*', '!']);
    let (marked, unmarked): (Vec<&Line>, Vec<&Line>) = printed.into_iter().partition(is_marked);
    for (lines, mark, flag) in [(marked, r"(?<flag>[*!]+) *", ""), (unmarked, "", FLAG)] {
        match of_results(&lines, mark, flag) {
            Some(record) => add((record.clone(), record)),
            // What looks like words and numbers and cannot be read as such is mostly columns without blanks between.
            None => loose.extend(lines.first()),
        }
    }
    // Lines without anything obvious are mostly fixed columns, or headings.
    loose.sort_by_key(|line| line.number);
    let rulers = loose.into_iter().take(RULERS_MAX).map(of_columns);
    records.into_iter().map(|(_, record)| record).chain(rulers).collect()
}

/// `"Sample";"Test";"Result"` over rows.
fn of_table(table: &Table) -> String {
    let field = |name: &String| label(name).map_or("\"\"".to_string(), |field| format!("\"{field}\""));
    let fields: Vec<String> = table.names.iter().map(field).collect();
    let heading: Vec<String> = table.names.iter().map(|name| shape(name, true)).collect();
    let long = fields.iter().any(|f| f == "\"value\"") && fields.iter().any(|f| f == "\"test_code\"");
    let wide = "# No column is named for the value: are the columns tests? Then write the columns before them in `fields` and\n\
                # repeat = { from = 4, width = 1, fields = [\"value\"] }, or have the instrument write files and use a table.\n";
    format!(
        "\n# The heading: {}\n{}[[lines.record]]\nwhen = '{}.*{}'\nseparator = \"{}\"\nfields = [{}]\n",
        heading.join(" "),
        if long { "" } else { wide },
        regex_of(table.separator),
        regex_of(table.separator),
        spell(table.separator.to_string().as_bytes()),
        fields.join(", ")
    )
}

/// Fields of which a name stands before a value; and what tells this kind of line.
fn of_fields(separator: char, cells: &[String]) -> (String, String) {
    let mut names: Vec<&str> = Vec::new();
    let mut firsts: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(cell) = cells.get(at).map(|cell| cell.trim()) {
        let value = cells.get(at + 1).map_or("", |next| next.trim());
        // One letter and a whole number is mostly the kind of the line and its own number.
        let is_name = cell.chars().count() > 1 || value.contains(['.', ',']);
        if is_name && is_test(cell) && is_value(value) {
            firsts.push(at);
            names.extend(["test_code", "value"]);
            at += 2;
            continue;
        }
        names.push(match () {
            () if is_day(cell) => "completed_date",
            () if is_time_of_day(cell) => "completed_time",
            () if firsts.is_empty() || cell.is_empty() => "",
            () if is_flag(cell) => "flag",
            () if range_in(&[cell]).is_some() => "reference_range",
            () if names.last() == Some(&"value") && !is_number(cell) => "unit",
            () => "",
        });
        at += 1;
    }
    let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let mut text = String::from(
        "\n# The fields of a line; \"\" is read by nobody. Which one is the specimen's id (\"specimen_id\")?\n",
    );
    for (number, cell) in cells.iter().enumerate().take(FIELDS_MAX) {
        let name = names.get(number).copied().unwrap_or("");
        text.push_str(&format!(
            "#  {:2}  {:24} {name}\n",
            number + 1,
            shape(cell, matches!(name, "test_code" | "unit"))
        ));
    }
    text.push_str(&format!("[[lines.record]]\nseparator = \"{}\"\n", spell(separator.to_string().as_bytes())));
    let width = firsts.get(1).zip(firsts.first()).map(|(second, first)| second - first);
    match (firsts.first(), width) {
        // Several tests at the same distance repeat.
        (Some(first), Some(width)) if firsts.windows(2).all(|pair| matches!(pair, [a, b] if b - a == width)) => {
            let (before, group) =
                (names.get(..*first).unwrap_or_default(), names.get(*first..first + width).unwrap_or_default());
            text.push_str(&format!(
                "fields = [{}]\nrepeat = {{ from = {}, width = {width}, fields = [{}] }}\n",
                quoted(before),
                first + 1,
                quoted(group)
            ));
        }
        _ => text.push_str(&format!("fields = [{}]\n", quoted(&names))),
    }
    (format!("{separator}{names:?}"), text)
}

/// `Sample ID: 12  Date: 03/11/2026`: the labels as they stand, what follows by its name.
fn of_labels(text: &str) -> Option<String> {
    let mut pattern = String::from("^ *");
    let mut known = 0;
    for (number, piece) in obvious::pieces(text).iter().enumerate() {
        let at = piece.find([':', '='])?;
        let (name, mark) = (piece.get(..at)?.trim(), piece.get(at..at + 1)?);
        let field = label(name)?;
        known += 1;
        if number > 0 {
            pattern.push_str(" +");
        }
        pattern.push_str(&format!("{} *{mark} *(?<{field}>.*?)", escaped(name)));
    }
    (known > 0)
        .then(|| format!("\n[[lines.record]]\npattern = '{}$'\n", pattern.trim_end_matches(' ').to_string() + " *"))
}

/// One pattern for what is printed as test, value and what stands beside it: of several, the one that reads most lines.
/// `None` when none reads any of them.
fn of_results(lines: &[&Line], mark: &str, flag: &str) -> Option<String> {
    let pattern =
        |parts: [&str; 3]| format!("^ *{mark}{TEST} *[:=]? +{VALUE}{}(?: +(?<comment>.*\\S))? *$", parts.concat());
    let patterns = [
        pattern([UNIT, flag, RANGE]),
        pattern([flag, UNIT, RANGE]),
        pattern([UNIT, RANGE, flag]),
        pattern([flag, RANGE, UNIT]),
    ];
    // Without a comment nothing is left over: that is what counts.
    let reads = |pattern: &String| {
        let found = regex_lite::Regex::new(pattern).ok();
        let whole = |line: &&&Line| {
            found.as_ref().and_then(|r| r.captures(&line.text)).is_some_and(|c| c.name("comment").is_none())
        };
        lines.iter().filter(whole).count()
    };
    let best = patterns.iter().rev().max_by_key(|pattern| reads(pattern))?;
    let read = reads(best);
    let counted = format!("{read} of {} printed lines are read by this without anything left over.", lines.len());
    (read > 0).then(|| format!("\n# {counted}\n[[lines.record]]\npattern = '{best}'\n"))
}

/// A ruler over a line in which nothing is obvious.
fn of_columns(line: &Line) -> String {
    let shown = shape(&line.text, false);
    let width = shown.chars().count().min(FIELDS_MAX);
    let ruler: String = (1..=width).map(|n| char::from(b'0' + (n % 10) as u8)).collect();
    format!(
        "\n# Line {} is read by none of these. Fixed columns are counted from 1:\n#   {ruler}\n#   {shown}\n\
         # [[lines.record]]\n# when = '^...'\n# columns = {{ specimen_id = \"1-10\", test_code = \"11-14\", value = \"15-20\" }}\n",
        line.number
    )
}

/// A text without what it says: 9 for a digit, a for a letter. Names of tests and units are kept.
fn shape(text: &str, keep: bool) -> String {
    let masked = text.trim().chars().take(FIELDS_MAX).map(|c| match c {
        _ if keep && !c.is_control() => c,
        _ if c.is_ascii_digit() => '9',
        _ if c.is_uppercase() => 'A',
        _ if c.is_alphabetic() => 'a',
        _ if c.is_control() => ' ',
        _ => c,
    });
    masked.collect()
}

fn regex_of(separator: char) -> String {
    match separator {
        '\t' => r"\t".to_string(),
        c if c.is_control() => format!(r"\x{:02x}", u32::from(c)),
        c => escaped(&c.to_string()),
    }
}

/// A text as a regular expression in a TOML literal string, which holds everything but an apostrophe.
fn escaped(text: &str) -> String {
    regex_lite::escape(text).replace('\'', ".")
}
