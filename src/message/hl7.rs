//! HL7 v2 (ER7) messages.
//!
//! `hl7-parser` reads the structure, under guard, because by itself it drops the rest of a message without a word at a
//! blank line, a bare segment name, a name that has not three letters or a leading blank, and shifts every MSH field
//! when MSH-2 has five characters. So the text is normalised first ([`normal`]), and the parser's answer is taken only
//! when every line came back as a segment and every segment is, put together again, exactly its line. Otherwise our
//! own splitter reads the message and it is marked `unreadable`. Escapes ([`escape`]) and character sets are decoded
//! here, because the crate's decoding loses text.

pub mod escape;
pub mod normal;
pub mod query;

use super::Oddity;
use super::charset::Charset;
use normal::Normal;
use std::ops::Range;

/// Most segments read from one entry.
pub const SEGMENTS_MAX: usize = 100_000;
/// Most delimiters in a message that is given to the parser, whose tree takes some hundred bytes for each.
const TREE_DELIMITERS_MAX: usize = 200_000;

/// Everything read from one entry: usually one message, several in a batch file.
pub struct Reading {
    /// The messages, each from its MSH on.
    pub messages: Vec<Message>,
    /// What was odd.
    pub oddities: Vec<Oddity>,
    /// True when there were more than [`SEGMENTS_MAX`] segments.
    pub cut_off: bool,
}

/// One message.
pub struct Message {
    /// The separators in force.
    pub separators: Separators,
    /// The segments, MSH first.
    pub segments: Vec<Segment>,
    /// The structure could not be proven, so what the message says may be incomplete.
    pub unreadable: bool,
    /// False when some bytes did not fit the character set.
    pub clean: bool,
}

/// The separators of a message (MSH-1 and MSH-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Separators {
    /// MSH-1.
    pub field: char,
    /// First of MSH-2.
    pub component: char,
    /// Second.
    pub repetition: char,
    /// Third.
    pub escape: char,
    /// Fourth.
    pub subcomponent: char,
    /// Fifth, from v2.7 on.
    pub truncation: Option<char>,
}

/// One segment.
pub struct Segment {
    /// Position in the entry, from 1.
    pub number: u32,
    /// Name in upper case, empty when the line is no segment.
    pub name: String,
    text: String,
    /// Where the fields are in `text`, when the parser's answer was proven; else the text is split when asked.
    fields: Option<Vec<Range<usize>>>,
    separators: Separators,
    charset: Option<Charset>,
}

/// True when the bytes look like HL7: an MSH comes before any ASTM header.
pub fn looks_like(raw: &[u8]) -> bool {
    const LOOK_MAX: usize = 8192;
    let start = raw.get(..LOOK_MAX).unwrap_or(raw);
    let delimiter = |b: Option<&u8>| b.is_some_and(u8::is_ascii_punctuation);
    for line in start.split(|b| matches!(b, b'\r' | b'\n' | 0x0B | 0x02)) {
        let at = line.iter().position(u8::is_ascii_alphabetic).unwrap_or(line.len());
        let line = line.get(at..).unwrap_or_default();
        match line {
            [b'M', b'S', b'H', ..] if delimiter(line.get(3)) => return true,
            [b'H' | b'h', ..] if delimiter(line.get(1)) => return false,
            _ => {}
        }
    }
    false
}

/// MSH-3 of the first message, whole.
pub fn sender(reading: &Reading) -> Option<String> {
    let msh = reading.messages.first()?.segments.first()?;
    Some(msh.whole(3))
}

/// Reads an entry. `declared` is the character set of the link or the driver, taken when MSH-18 is silent.
pub fn read(raw: &[u8], declared: Option<Charset>) -> Reading {
    let Normal { messages, oddities, cut_off } = normal::normalise(raw, declared);
    Reading { messages: messages.into_iter().map(Message::from_normal).collect(), oddities, cut_off }
}

impl Message {
    fn from_normal(normal: normal::Lines) -> Message {
        let proven = (!normal.damaged).then(|| prove(&normal)).flatten();
        let unreadable = proven.is_none();
        let mut fields = proven.unwrap_or_default().into_iter();
        let make = |(number, text): (u32, String)| {
            let name = normal::segment_name(&text, normal.separators.field).unwrap_or_default();
            let (separators, charset) = (normal.separators, normal.charset);
            Segment { number, name, text, fields: fields.next(), separators, charset }
        };
        let segments = normal.lines.into_iter().map(make).collect();
        Message { separators: normal.separators, segments, unreadable, clean: normal.clean }
    }

    /// MSH.
    pub fn msh(&self) -> Option<&Segment> {
        self.segments.first()
    }
}

impl Segment {
    /// Field `n` as it stands, escapes and separators included.
    pub fn raw_field(&self, n: u16) -> &str {
        let n = usize::from(n.max(1));
        if let Some(fields) = &self.fields {
            return fields.get(n - 1).and_then(|range| self.text.get(range.clone())).unwrap_or("");
        }
        let separator = self.separators.field;
        match (self.name.as_str(), n) {
            ("MSH", 1) => self.text.get(3..3 + separator.len_utf8()).unwrap_or(""),
            ("MSH", n) => self.text.split(separator).nth(n - 1).unwrap_or(""),
            (_, n) => self.text.split(separator).nth(n).unwrap_or(""),
        }
    }

    /// Every field that is not empty, in one pass: its number, the field whole, and its components unless it repeats.
    /// What comes before the first field, the name, is number 0 (1 in MSH, whose separator counts).
    pub fn filled(&self) -> impl Iterator<Item = (u16, String, Option<Vec<String>>)> {
        let first = u16::from(self.name == "MSH");
        let fields = (first..=u16::MAX).zip(self.text.split(self.separators.field));
        fields.filter(|(_, raw)| !raw.trim().is_empty() && *raw != "\"\"").map(|(n, raw)| {
            let parts = raw.split(self.separators.component).map(|c| self.decode(c)).collect();
            let whole = self.decode(raw.trim_end_matches([self.separators.component, ' ']));
            (n, whole, (!raw.contains(self.separators.repetition)).then_some(parts))
        })
    }

    /// Component and subcomponent of the first repeat of field `n`, decoded. The HL7 null (`""`) reads as empty.
    pub fn component(&self, n: u16, component: u16, subcomponent: Option<u16>) -> String {
        self.component_of(self.first_repeat(n), component, subcomponent)
    }

    /// The same component of every repeat of field `n`.
    pub fn repeats(&self, n: u16, component: u16, subcomponent: Option<u16>) -> Vec<String> {
        let all = self.raw_field(n).split(self.separators.repetition);
        all.map(|repeat| self.component_of(repeat, component, subcomponent)).collect()
    }

    /// Every component of every repeat of field `n`, decoded.
    pub fn components(&self, n: u16) -> Vec<String> {
        let all = self.raw_field(n).split([self.separators.repetition, self.separators.component]);
        all.map(|component| self.decode(component)).collect()
    }

    /// Field `n` whole and decoded; separators inside stay, empty components at the end go.
    pub fn whole(&self, n: u16) -> String {
        match self.raw_field(n) {
            "\"\"" => String::new(),
            raw => self.decode(raw.trim_end_matches([self.separators.component, ' '])),
        }
    }

    /// Every repeat of field `n` whole and decoded.
    pub fn whole_repeats(&self, n: u16) -> Vec<String> {
        let trimmed = |r: &str| self.decode(r.trim_end_matches([self.separators.component, ' ']));
        self.raw_field(n).split(self.separators.repetition).map(trimmed).collect()
    }

    /// How many repeats field `n` has.
    pub fn repeat_count(&self, n: u16) -> usize {
        self.raw_field(n).split(self.separators.repetition).count()
    }

    /// How many components the first repeat of field `n` fills.
    pub fn components_filled(&self, n: u16) -> usize {
        self.first_repeat(n).split(self.separators.component).filter(|c| !c.trim().is_empty()).count()
    }

    /// The segment as it stands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A part of the segment with its own delimiters replaced by `|^~\\&`. What then would be one of those by accident
    /// is escaped.
    pub fn with_usual_separators(&self, part: &str) -> String {
        let usual = Separators::default();
        let own = self.separators;
        if (Separators { truncation: None, ..own }) == usual {
            return part.to_string();
        }
        let replaced = |c: char| match c {
            c if c == own.field => "|".to_string(),
            c if c == own.component => "^".to_string(),
            c if c == own.repetition => "~".to_string(),
            c if c == own.escape => "\\".to_string(),
            c if c == own.subcomponent => "&".to_string(),
            '|' => "\\F\\".to_string(),
            '^' => "\\S\\".to_string(),
            '~' => "\\R\\".to_string(),
            '&' => "\\T\\".to_string(),
            '\\' => "\\E\\".to_string(),
            other => other.to_string(),
        };
        part.chars().map(replaced).collect()
    }

    fn first_repeat(&self, n: u16) -> &str {
        self.raw_field(n).split(self.separators.repetition).next().unwrap_or("")
    }

    fn component_of(&self, repeat: &str, component: u16, subcomponent: Option<u16>) -> String {
        let nth =
            |text: &str, by: char, n: u16| text.split(by).nth(usize::from(n.max(1)) - 1).unwrap_or("").to_string();
        let component = nth(repeat, self.separators.component, component);
        match subcomponent {
            Some(n) => self.decode(&nth(&component, self.separators.subcomponent, n)),
            None if component == "\"\"" => String::new(),
            None => self.decode(&component),
        }
    }

    fn decode(&self, text: &str) -> String {
        escape::decode(text, self.separators, self.charset)
    }
}

/// Has the parser read the lines, and proves its answer. `None` when it lost or changed anything.
fn prove(normal: &normal::Lines) -> Option<Vec<Vec<Range<usize>>>> {
    let delimiters: usize = normal.lines.iter().map(|(_, l)| l.bytes().filter(u8::is_ascii_punctuation).count()).sum();
    if delimiters > TREE_DELIMITERS_MAX {
        return None;
    }
    let text = normal.lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\r");
    let parsed = hl7_parser::Message::parse(&text).ok()?;
    if parsed.segments.len() != normal.lines.len() {
        return None;
    }
    let separator = normal.separators.field.to_string();
    let mut proven = Vec::with_capacity(parsed.segments.len());
    for (segment, (_, line)) in parsed.segments.iter().zip(&normal.lines) {
        let values: Vec<&str> = segment.fields.iter().map(|f| f.raw_value()).collect();
        let again = match values.split_first() {
            Some((first, rest)) if segment.name == "MSH" && *first == separator => {
                format!("MSH{first}{}", rest.join(&separator))
            }
            _ => format!("{}{separator}{}", segment.name, values.join(&separator)),
        };
        if again != *line || segment.raw_value() != line {
            return None;
        }
        let start = segment.range.start;
        let range = |r: &Range<usize>| Some(r.start.checked_sub(start)?..r.end.checked_sub(start)?);
        let ranges = segment.fields.iter().map(|f| range(&f.range)).collect::<Option<Vec<_>>>()?;
        if ranges.iter().zip(&values).any(|(range, value)| line.get(range.clone()) != Some(value)) {
            return None;
        }
        proven.push(ranges);
    }
    Some(proven)
}

#[cfg(test)]
mod tests;
