//! Which driver a message belongs to, and whether a driver's data can be right.

use super::condition::literal;
use super::path::{COLUMN, Place};
use super::read::Source;
use super::schema::{Analyte, Identity, Schema, TIMER_MAX_MS};
use super::{Driver, Protocol, interpret_astm, interpret_hl7, interpret_poct1a, interpret_table, lines};
use crate::clinical::Unit;
use crate::message::{astm, charset, hl7, poct1a, tables};
use crate::wire::spelling::spell;

/// Only this much of a message is looked at to recognise its sender, in bytes.
const HEADER_LOOK_MAX: usize = 8192;
/// Only this much of a table is looked at: what stands above its header may be long.
const TABLE_LOOK_MAX: usize = 64 * 1024;

/// The driver whose pattern fits best: the one with the most literal characters, then the first by id.
pub(super) fn best<'d>(
    drivers: impl Iterator<Item = &'d Driver>,
    protocol: Protocol,
    raw: &[u8],
) -> Option<&'d Driver> {
    let mut found: Option<(usize, &Driver)> = None;
    for (literal, driver) in fitting(drivers, protocol, raw) {
        if found.is_none_or(|(most, _)| literal > most) {
            found = Some((literal, driver));
        }
    }
    found.map(|(_, driver)| driver)
}

/// Every driver whose pattern fits, and how many characters of the header it knows.
pub(super) fn fitting<'d>(
    drivers: impl Iterator<Item = &'d Driver>,
    protocol: Protocol,
    raw: &[u8],
) -> impl Iterator<Item = (usize, &'d Driver)> {
    let opening = Opening::of(protocol, raw);
    let sender = opening.sender();
    drivers
        .filter(move |driver| driver.protocol() == protocol)
        .filter_map(move |driver| Some((fit(&driver.schema.identity, sender.as_deref(), &opening)?, driver)))
}

/// How many characters of the header are known to the driver; `None` when it is not its instrument.
fn fit(identity: &Identity, sender: Option<&str>, opening: &Opening) -> Option<usize> {
    let fits = |sender: &str| {
        let patterns = identity.header.iter().filter(|p| header_fits(p, sender));
        patterns.map(|p| literal(p)).max()
    };
    let by_header = match (identity.header.as_slice(), identity.conditions.as_slice()) {
        ([], []) => None,
        ([], _) => Some(0),
        _ => sender.and_then(fits),
    }?;
    identity.conditions.iter().try_fold(by_header, |sum, condition| Some(sum + condition.literal(opening)?))
}

/// The beginning of an entry, of which the first record of each name can be asked for its fields.
pub enum Opening {
    /// LIS02-A2.
    Astm(astm::Reading),
    /// HL7 v2.
    Hl7(hl7::Reading),
    /// POCT1-A.
    Poct1a(poct1a::Reading),
    /// Rows and columns.
    Table(tables::Reading),
    /// The first line that says anything, control characters by name.
    Lines(Option<String>),
}

impl Opening {
    /// Reads as much of an entry as is looked at.
    pub fn of(protocol: Protocol, raw: &[u8]) -> Opening {
        let start = raw.get(..HEADER_LOOK_MAX).unwrap_or(raw);
        match protocol {
            Protocol::Astm => Opening::Astm(astm::read(start, None)),
            Protocol::Hl7 => Opening::Hl7(hl7::read(start, None)),
            // What tells the device may stand last.
            Protocol::Poct1a => Opening::Poct1a(poct1a::read(raw, None)),
            // What a workbook holds is said at its end.
            Protocol::Table if tables::workbook::looks_like(raw) => Opening::Table(tables::read(raw, None, None)),
            Protocol::Table => Opening::Table(tables::read(raw.get(..TABLE_LOOK_MAX).unwrap_or(raw), None, None)),
            Protocol::Lines => {
                let mut lines = start.split(|byte| matches!(byte, b'\r' | b'\n'));
                Opening::Lines(lines.find(|line| line.iter().any(u8::is_ascii_alphanumeric)).map(spell))
            }
        }
    }

    /// True when messages of different senders are in one entry.
    pub fn is_mixed(&self) -> bool {
        let senders: Vec<&str> = match self {
            Opening::Astm(reading) => {
                let records = reading.messages.iter().flat_map(|m| &m.records);
                records.filter(|r| r.kind == astm::Kind::Header).map(|r| r.raw_field(5)).collect()
            }
            Opening::Hl7(reading) => {
                reading.messages.iter().filter_map(|m| m.msh()).map(|msh| msh.raw_field(3)).collect()
            }
            Opening::Poct1a(_) | Opening::Table(_) | Opening::Lines(_) => Vec::new(),
        };
        senders.windows(2).any(|pair| pair.first() != pair.last())
    }

    fn sender(&self) -> Option<String> {
        match self {
            Opening::Astm(reading) => astm::sender(reading),
            Opening::Hl7(reading) => hl7::sender(reading),
            Opening::Poct1a(reading) => poct1a::sender(reading),
            Opening::Table(reading) => interpret_table::sender(reading),
            Opening::Lines(first) => first.clone(),
        }
    }
}

impl Source for Opening {
    fn text(&self, place: &Place, whole: bool) -> String {
        let found = match self {
            Opening::Astm(reading) => {
                let mut records = reading.messages.iter().flat_map(|m| &m.records);
                records.find(|r| r.kind.name() == place.record).map(|r| interpret_astm::text(r, place, whole))
            }
            Opening::Hl7(reading) => {
                let mut segments = reading.messages.iter().flat_map(|m| &m.segments);
                segments.find(|s| s.name == place.record).map(|s| interpret_hl7::text(s, place, whole))
            }
            Opening::Poct1a(reading) => {
                let name = place.item.as_ref().map(|item| format!("{}.{}", place.record, item.name));
                let field = name.and_then(|name| reading.documents.iter().find_map(|d| d.root.find(&name)));
                field.map(|field| interpret_poct1a::text(field, place))
            }
            Opening::Table(reading) => interpret_table::first_text(reading, place),
            // Fields have names only once a driver reads the lines.
            Opening::Lines(_) => None,
        };
        found.unwrap_or_default()
    }

    fn number(&self, _: &Place) -> Option<u32> {
        None
    }
}

/// What the sender calls itself: H.5 with its delimiters, MSH-3, what stands for it in POCT1-A
/// ([`poct1a::sender`]), or what a table calls its parts.
pub fn sender(protocol: Protocol, raw: &[u8]) -> Option<String> {
    Opening::of(protocol, raw).sender()
}

/// True when `text` fits `pattern`, in which `*` stands for any run of characters. Linear in time for each `*`.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let mut tail: Vec<&str> = parts.collect();
    let Some(last) = tail.pop() else { return rest.is_empty() };
    for part in tail {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A semantic fault of a driver's data.
pub(super) struct Fault {
    /// What is wrong.
    pub message: String,
    /// A text that stands on the line at fault.
    needles: Vec<String>,
}

impl Fault {
    /// The line the fault is on: the last one that holds a needle, else the first line.
    pub fn line_in(&self, text: &str) -> usize {
        let has = |line: &str| self.needles.iter().any(|n| line.contains(n.as_str()));
        let numbered = || text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
        numbered().filter(|(_, line)| has(line)).last().map_or(1, |(i, _)| i + 1)
    }
}

/// Checks what the format alone cannot say.
pub(super) fn check(schema: &Schema) -> Result<(), Fault> {
    let fault = |message: String, needles: &[&str]| {
        Err(Fault { message, needles: needles.iter().map(|n| n.to_string()).collect() })
    };
    let protocol = schema.identity.protocol;
    for pattern in &schema.identity.header {
        if pattern.chars().all(|c| c == '*' || c.is_whitespace()) {
            return fault("a header pattern that fits everything recognises nothing".into(), &["header"]);
        }
    }
    let conditions = schema.identity.conditions.iter().map(|c| (c.fault(), &c.field));
    let rules = schema.when.iter().map(|w| (w.fault(), &w.field));
    for (wrong, field) in conditions.chain(rules) {
        if let Some(wrong) = wrong {
            let place = field.places().next().map(ToString::to_string).unwrap_or("where".into());
            return fault(wrong.into(), &[&place]);
        }
    }
    if let Some(label) = &schema.wire.charset
        && charset::Charset::named(label).is_none()
    {
        return fault(format!("charset `{label}` is not known; try utf-8, latin-1 or windows-1252"), &[label]);
    }
    if let Some(parity) = &schema.wire.parity
        && !matches!(parity.as_str(), "none" | "even" | "odd")
    {
        return fault("parity is none, even or odd".into(), &["parity"]);
    }
    for (key, timer) in [
        ("frame_timeout_ms", schema.wire.frame_timeout_ms),
        ("reply_timeout_ms", schema.wire.reply_timeout_ms),
        ("message_timeout_ms", schema.wire.message_timeout_ms),
    ] {
        if timer.is_some_and(|ms| !(1..=TIMER_MAX_MS).contains(&ms)) {
            return fault(format!("`{key}` must be from 1 to {TIMER_MAX_MS} ms"), &[key]);
        }
    }
    if let Some(framing) = &schema.wire.framing
        && let Err(message) = framing.check()
    {
        return fault(format!("framing: {message}"), &["[wire.framing]", "framing"]);
    }
    if let Err((message, needle)) = schema.lines.check() {
        return fault(message, &[&needle]);
    }
    for place in schema.places() {
        let fits = match protocol {
            _ if place.each && !schema.may_split(place) => false,
            Protocol::Poct1a => poct1a::OBJECTS.contains(&place.record.as_str()) && place.item.is_some(),
            Protocol::Table => place.record == COLUMN,
            Protocol::Lines => place.record == lines::RECORD && place.item.is_some(),
            _ if place.item.is_some() => false,
            Protocol::Astm => astm::RECORDS.contains(&place.record.as_str()) && place.subcomponent.is_none(),
            Protocol::Hl7 => place.record.len() == 3,
        };
        if !fits {
            let written = place.to_string();
            return fault(format!("`{written}` is no place in a message of this protocol"), &[&written]);
        }
    }
    for format in &schema.table.time_formats {
        if let Some(problem) = super::written_time::fault(format) {
            return fault(format!("`{format}` is no way to write a time: {problem}"), &[format]);
        }
    }
    let mut seen: std::collections::HashMap<&str, Vec<&Analyte>> = std::collections::HashMap::new();
    for analyte in &schema.analyte {
        let code = analyte.code.as_str();
        let needles = [format!("\"{code}\""), format!("'{code}'")];
        let needles = [needles[0].as_str(), needles[1].as_str()];
        if code.is_empty() {
            return fault("an analyte needs a code".into(), &["code = \"\""]);
        }
        let same = seen.entry(code).or_default();
        if same.iter().any(|other| !told_apart(analyte, other)) {
            let message =
                format!("analyte `{code}` is listed twice, and neither specimen nor unit tells which is meant");
            return fault(message, &needles);
        }
        same.push(analyte);
        if !is_loinc(&analyte.loinc) {
            let message = format!("`{}` is not a LOINC code (its check digit does not fit)", analyte.loinc);
            return fault(message, &[&analyte.loinc]);
        }
        for (unit, ucum) in &analyte.units {
            if let Err(error) = Unit::parse(ucum) {
                let message = format!("unit `{unit}` of analyte `{code}`: {error}; unitless is \"1\"");
                let written = [format!("\"{ucum}\""), needles[0].to_string()];
                return fault(message, &[&written[0], &written[1]]);
            }
        }
    }
    for (unit, ucum) in &schema.units {
        if let Err(error) = Unit::parse(ucum) {
            let written = format!("\"{ucum}\"");
            return fault(format!("unit `{unit}`: {error}; unitless is \"1\""), &[&written, "[units]"]);
        }
    }
    Ok(())
}

/// True for the shape of a LOINC code, check digit (mod 10, Luhn) included.
pub fn is_loinc(code: &str) -> bool {
    let Some((number, check)) = code.split_once('-') else { return false };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !(1..=7).contains(&number.len()) || check.len() != 1 || !digits(number) || !digits(check) {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0') * if i % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    check.bytes().next().map(|b| u32::from(b - b'0')) == Some((10 - sum % 10) % 10)
}

/// True when no specimen and no unit fits both.
fn told_apart(a: &Analyte, b: &Analyte) -> bool {
    let by_specimen =
        !a.specimen.is_empty() && !b.specimen.is_empty() && !a.specimen.iter().any(|s| b.specimen.contains(s));
    let by_unit = !a.units.is_empty() && !b.units.is_empty() && !a.units.keys().any(|u| b.units.contains_key(u));
    by_specimen || by_unit
}

fn header_fits(pattern: &str, sender: &str) -> bool {
    if pattern.contains('*') { wildcard(pattern, sender) } else { sender.contains(pattern) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loinc_code_proves_itself_by_its_check_digit() {
        for code in ["1920-8", "718-7", "6690-2", "32623-1", "82477-1", "2345-7"] {
            assert!(is_loinc(code), "{code}");
        }
        for code in ["1920-9", "", "-", "718", "718-77", "abc-1", "12345678-1", "685"] {
            assert!(!is_loinc(code), "{code}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("H500*", "H500^910", true),
            ("*H500*", "x H500", true),
            ("H5*0", "H5", false),
            ("*", "", true),
            ("a*b*a", "abba", true),
            ("a*a", "a", false),
            ("c111", "c111", true),
            ("c111", "c1111", false),
        ] {
            assert_eq!(wildcard(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_fault_names_its_line() {
        let head = "[identity]\nvendor = \"A\"\nmodel = \"B\"\nprotocol = \"astm\"\n";
        for (more, line, words) in [
            ("[[analyte]]\ncode = \"1\"\nloinc = \"1920-9\"\n", 7, "check digit"),
            (
                "[[analyte]]\ncode = \"1\"\nloinc = \"1920-8\"\n[[analyte]]\ncode = \"1\"\nloinc = \"718-7\"\n",
                9,
                "twice",
            ),
            ("[fields]\nvalue = \"PID.5\"\n", 6, "PID.5"),
            ("[wire]\ncharset = \"ebcdic\"\n", 6, "charset"),
        ] {
            let error = Driver::parse("x", &format!("{head}{more}")).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")) && error.contains(words), "{error}");
        }
        for (more, words) in [
            ("colour = 1\n", "line 5"),
            ("[fields]\nspecimen = \"O.3\"\n", "line 6"),
            ("[fields]\nvalue = \"R.zero\"\n", "line 6"),
            ("quirks = [\"sings\"]\n", "line 5"),
        ] {
            let error = Driver::parse("x", &format!("{head}{more}")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
