//! Escape sequences (HL7 v2 chapter 2, "Use of escape sequences in text fields").
//!
//! One pass over the text, so nothing is escaped twice. Everything that could end a field or a segment, and every
//! control character, becomes a sequence; nothing is dropped.

/// A text as ST, or as a component of anything.
pub(in crate::mapping) fn text(text: &str) -> String {
    escaped(text, false)
}

/// A text as FT: line ends become `\.br\`.
pub(super) fn formatted(text: &str) -> String {
    escaped(text, true)
}

/// Components of a field, empty ones at the end left out.
pub(super) fn components(parts: &[&str]) -> String {
    let parts: Vec<String> = parts.iter().map(|p| text(p)).collect();
    joined(&parts, '^')
}

/// Subcomponents of a component, likewise.
pub(super) fn subcomponents(parts: &[&str]) -> String {
    let parts: Vec<String> = parts.iter().map(|p| text(p)).collect();
    joined(&parts, '&')
}

/// Escaped parts with a separator between them, empty ones at the end left out.
pub(super) fn joined(parts: &[String], separator: char) -> String {
    let filled = parts.iter().rposition(|p| !p.is_empty()).map_or(0, |last| last + 1);
    parts.get(..filled).unwrap_or_default().join(&separator.to_string())
}

fn escaped(text: &str, formatted: bool) -> String {
    // Two quotes alone mean "delete what you have": text that merely reads so must not.
    if text == "\"\"" {
        return "\\X2222\\".to_string();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '&' => out.push_str("\\T\\"),
            '~' => out.push_str("\\R\\"),
            '\\' => out.push_str("\\E\\"),
            '\r' if formatted => {
                chars.next_if_eq(&'\n');
                out.push_str("\\.br\\");
            }
            '\n' if formatted => out.push_str("\\.br\\"),
            c if c.is_ascii_control() => out.push_str(&format!("\\X{:02X}\\", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delimiter_and_control_character_becomes_a_sequence() {
        for (sent, st, ft) in [
            ("a|b^c&d~e\\f", "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"),
            ("\\F\\", "\\E\\F\\E\\", "\\E\\F\\E\\"),
            ("a\r\nb\nc\rd", "a\\X0D\\\\X0A\\b\\X0A\\c\\X0D\\d", "a\\.br\\b\\.br\\c\\.br\\d"),
            ("\u{b}\u{1c}\t\u{7f}", "\\X0B\\\\X1C\\\\X09\\\\X7F\\", "\\X0B\\\\X1C\\\\X09\\\\X7F\\"),
            ("\"\"", "\\X2222\\", "\\X2222\\"),
            ("\"x\" µ #", "\"x\" µ #", "\"x\" µ #"),
            ("", "", ""),
        ] {
            assert_eq!((text(sent).as_str(), formatted(sent).as_str()), (st, ft), "{sent:?}");
        }
    }

    #[test]
    fn empty_components_at_the_end_are_left_out() {
        assert_eq!(components(&["a", "", "b&c", ""]), "a^^b\\T\\c");
        assert_eq!(components(&["", "", ""]), "");
        assert_eq!(subcomponents(&["SER", "", "L"]), "SER&&L");
    }
}
