//! Bytes as text a person can read and write: control characters by their ASCII names between `<` and `>`.

/// Names of the control characters from 0 to 31, as ASCII has them.
const CONTROLS: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI", "DLE",
    "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
];

/// The byte of a name without its brackets: `STX`, `DEL`, `LT` for `<`, or two hexadecimal digits (`E4`, `xFF`).
pub fn byte_named(name: &str) -> Option<u8> {
    match name {
        "LT" => Some(b'<'),
        "DEL" => Some(0x7F),
        _ => {
            let control = CONTROLS.iter().position(|control| *control == name).and_then(|at| u8::try_from(at).ok());
            let digits = name.strip_prefix('x').unwrap_or(name);
            control.or_else(|| (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten())
        }
    }
}

/// The name of a control character, brackets included.
pub fn control_name(byte: u8) -> Option<String> {
    CONTROLS.get(usize::from(byte)).map(|name| format!("<{name}>"))
}

/// Bytes as text: control characters by name, other bytes that are not ASCII in hexadecimal.
pub fn spell(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match (control_name(byte), byte) {
            (Some(name), _) => text.push_str(&name),
            (None, b'<') => text.push_str("<LT>"),
            (None, 0x20..=0x7E) => text.push(char::from(byte)),
            // <FF> is the form feed.
            (None, 0xFF) => text.push_str("<xFF>"),
            (None, _) => text.push_str(&format!("<{byte:02X}>")),
        }
    }
    text
}

/// The bytes of a text that [`spell`] could have written; other characters stand for their UTF-8.
///
/// # Errors
/// A `<` that begins no name.
pub fn unspell(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        bytes.extend_from_slice(before.as_bytes());
        let (name, after) = after.split_once('>').ok_or("a `<` without its `>`; a literal one is `<LT>`")?;
        let byte = byte_named(name).ok_or_else(|| format!("`<{name}>` is no control character, such as `<STX>`"))?;
        bytes.push(byte);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_spelled_and_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unspell(&spell(&all)).unwrap(), all);
        assert!(unspell("<STX").is_err() && unspell("<XYZ>").is_err());
    }
}
