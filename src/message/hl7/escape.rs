//! Escape sequences (HL7 v2 chapter 2, "Use of escape sequences in text fields").

use super::Separators;
use crate::message::charset::Charset;

/// Longest escape sequence looked for, in characters.
const ESCAPE_MAX: usize = 2048;

/// Decodes `\F\ \S\ \T\ \R\ \E\ \P\ \Xhh..\` and the line commands of formatted text. Highlighting goes. A sequence
/// nobody knows, a lone escape character and bytes that are no text in `charset` stay exactly as they are.
pub fn decode(text: &str, separators: Separators, charset: Option<Charset>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(separators.escape) {
        out.push_str(before);
        let close = after.char_indices().take(ESCAPE_MAX).find(|(_, c)| *c == separators.escape).map(|(at, _)| at);
        let decoded = close.and_then(|at| after.get(..at)).and_then(|code| sequence(code, separators, charset));
        match (decoded, close) {
            (Some(decoded), Some(at)) => {
                out.push_str(&decoded);
                rest = after.get(at + separators.escape.len_utf8()..).unwrap_or("");
            }
            _ => {
                out.push(separators.escape);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Bytes from hexadecimal digits, `None` when they are none or an odd number of them.
pub fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks(2).map(|pair| Some(value(*pair.first()?)? << 4 | value(*pair.get(1)?)?)).collect()
}

fn sequence(code: &str, separators: Separators, charset: Option<Charset>) -> Option<String> {
    let one = |c: char| Some(c.to_string());
    match code {
        "F" => one(separators.field),
        "S" => one(separators.component),
        "T" => one(separators.subcomponent),
        "R" => one(separators.repetition),
        "E" => one(separators.escape),
        "P" => separators.truncation.map(String::from),
        "H" | "N" => Some(String::new()),
        ".br" | ".BR" | ".ce" => one('\n'),
        ".fi" | ".nf" => Some(String::new()),
        _ => {
            if let Some(digits) = code.strip_prefix('X') {
                let decoded = Charset::decode_declared(charset, None, &hex_bytes(digits)?);
                return decoded.clean.then_some(decoded.text);
            }
            // `.sp<n>` skips lines; `.in`, `.ti` and `.sk` indent, which plain text shows as one blank.
            let number = |s: &str| s.is_empty() || s.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit());
            match code.get(..3)? {
                ".sp" if number(code.get(3..)?) => one('\n'),
                ".in" | ".ti" | ".sk" if number(code.get(3..)?) => one(' '),
                _ => None,
            }
        }
    }
}
