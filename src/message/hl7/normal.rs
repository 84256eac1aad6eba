//! From what the wire delivered to lines a parser can be trusted with.

use super::{SEGMENTS_MAX, Separators};
use crate::message::charset::Charset;
use crate::message::{self, Oddity};

/// Normalised messages.
pub struct Normal {
    /// One for each MSH.
    pub messages: Vec<Lines>,
    /// What was odd.
    pub oddities: Vec<Oddity>,
    /// More segments than [`SEGMENTS_MAX`].
    pub cut_off: bool,
}

/// The lines of one message, numbered in the entry from 1.
pub struct Lines {
    /// Separators of this message.
    pub separators: Separators,
    /// Segments: no line ends, no blank lines, no leading blanks, no fifth character in MSH-2.
    pub lines: Vec<(u32, String)>,
    /// Some line is no segment, or MSH declares no usable separators.
    pub damaged: bool,
    /// What the message or the link says its text is in.
    pub charset: Option<Charset>,
    /// All bytes fitted.
    pub clean: bool,
}

impl Default for Separators {
    fn default() -> Self {
        Separators { field: '|', component: '^', repetition: '~', escape: '\\', subcomponent: '&', truncation: None }
    }
}

/// Takes off MLLP framing, byte order mark, CRLF and LF, blank lines and leading blanks; decodes the text.
pub fn normalise(raw: &[u8], declared: Option<Charset>) -> Normal {
    let mut normal = Normal { messages: Vec::new(), oddities: Vec::new(), cut_off: false };
    let (charset, known) = declared_charset(raw, declared);
    if !known {
        message::note(&mut normal.oddities, 0, "MSH-18 names an unknown character set");
    }
    let decoded = Charset::decode_declared(charset, None, raw);
    let mut number = 0;
    for line in decoded.text.split(['\r', '\n', '\u{b}', '\u{1c}']) {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
        if line.is_empty() {
            continue;
        }
        if number as usize >= SEGMENTS_MAX {
            normal.cut_off = true;
            break;
        }
        number += 1;
        if is_msh(line) {
            let (separators, sound) = Separators::from_msh(line);
            let (charset, clean) = (charset, decoded.clean && known);
            normal.messages.push(Lines { separators, lines: Vec::new(), damaged: !sound, charset, clean });
        }
        let Some(open) = normal.messages.last_mut() else {
            // File and batch headers may stand before the first message; anything else there is no part of one.
            if !matches!(line.get(..3), Some("FHS" | "BHS")) {
                message::note(&mut normal.oddities, number, "text before MSH");
            }
            continue;
        };
        let field = open.separators.field;
        let mut line = line.to_string();
        if let Some(hash) = open.separators.truncation.filter(|_| is_msh(&line)) {
            line = without_truncation(&line, hash);
        }
        match segment_name(&line, field) {
            None => {
                open.damaged = true;
                message::note(&mut normal.oddities, number, "a line that is no segment");
            }
            Some(name) => {
                // The separators are those of this message; the parser wants the name as it knows it.
                line.replace_range(..3, &name);
                if line.len() == 3 {
                    line.push(field);
                }
            }
        }
        open.lines.push((number, line));
    }
    normal
}

/// The name in upper case, when the line is a segment: three letters or digits, the first a letter, then the field
/// separator or nothing.
pub fn segment_name(line: &str, field: char) -> Option<String> {
    let name = line.get(..3)?;
    let shaped = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let rest = line.get(3..)?;
    (shaped && (rest.is_empty() || rest.starts_with(field))).then(|| name.to_ascii_uppercase())
}

impl Separators {
    /// From an MSH line; `false` when it declares none that can be used, and the defaults stand in.
    fn from_msh(line: &str) -> (Separators, bool) {
        let usable = |c: &char| c.is_ascii_punctuation();
        let Some(field) = line.chars().nth(3).filter(usable) else { return (Separators::default(), false) };
        let declared: Vec<char> = line.split(field).nth(1).unwrap_or("").chars().take(6).collect();
        let (component, repetition, escape, subcomponent, truncation) = match declared[..] {
            [c, r, e, s] => (c, r, e, s, None),
            [c, r, e, s, t] => (c, r, e, s, Some(t)),
            _ => return (Separators { field, ..Separators::default() }, false),
        };
        let separators = Separators { field, component, repetition, escape, subcomponent, truncation };
        let all = [field, component, repetition, escape, subcomponent];
        let distinct = all.iter().enumerate().all(|(i, c)| usable(c) && !all.iter().skip(i + 1).any(|d| d == c));
        if distinct { (separators, true) } else { (Separators { field, ..Separators::default() }, false) }
    }
}

fn is_msh(line: &str) -> bool {
    line.get(..3).is_some_and(|n| n.eq_ignore_ascii_case("MSH"))
        && line.chars().nth(3).is_some_and(|c| c.is_ascii_punctuation())
}

/// MSH-2 without its fifth character, by which `hl7-parser` would shift every field that follows.
fn without_truncation(line: &str, hash: char) -> String {
    let at = 8;
    match line.get(at..).and_then(|rest| rest.strip_prefix(hash)) {
        Some(rest) => format!("{}{rest}", line.get(..at).unwrap_or("")),
        None => line.to_string(),
    }
}

/// MSH-18 (first repeat is the default set), read from the bytes, which are ASCII there; else the link's.
/// The second answer is false when MSH-18 names a set nobody knows.
fn declared_charset(raw: &[u8], declared: Option<Charset>) -> (Option<Charset>, bool) {
    let msh = raw.windows(4).position(|w| w.starts_with(b"MSH") && w[3].is_ascii_punctuation());
    let line = msh.and_then(|at| raw.get(at..)).unwrap_or_default();
    let line = line.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let Some(field) = line.get(3) else { return (declared, true) };
    let repetition = line.get(5).copied().unwrap_or(b'~');
    let name =
        line.split(|b| b == field).nth(17).and_then(|f| f.split(|b| *b == repetition).next()).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    match name.trim() {
        "" => (declared, true),
        name => match Charset::named(name) {
            Some(charset) => (Some(charset), true),
            None => (declared, false),
        },
    }
}
