//! Character sets: bytes to text, with an honest answer to "did it all fit?".

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// A character set by which text is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Pure ASCII; anything above 0x7F does not fit.
    Ascii,
    /// ISO 8859-1. 0x80 to 0x9F are control characters there, which no instrument means, so they do not fit.
    Latin1,
    /// Any other.
    Other(&'static Encoding),
}

/// Decoded text.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text. Where bytes did not fit it holds U+FFFD or the Windows reading of them.
    pub text: String,
    /// False when some bytes did not fit.
    pub clean: bool,
}

impl Charset {
    /// By an HL7 table 0211 name (`8859/1`, `UNICODE UTF-8`) or a WHATWG label (`latin-1`, `windows-1252`).
    pub fn named(name: &str) -> Option<Charset> {
        let name = name.trim().to_ascii_uppercase();
        let label = match name.as_str() {
            "ASCII" | "US-ASCII" | "ISO IR6" => return Some(Charset::Ascii),
            "8859/1" | "ISO-8859-1" | "ISO8859-1" | "LATIN-1" | "LATIN1" | "ISO IR100" => return Some(Charset::Latin1),
            "UNICODE UTF-8" | "UNICODE" | "UTF8" => "utf-8",
            "UNICODE UTF-16" => "utf-16le",
            "ISO IR14" | "ISO IR87" | "ISO IR159" => "iso-2022-jp",
            "GB 18030-2000" | "GB18030-2000" => "gb18030",
            "KS X 1001" => "euc-kr",
            "BIG-5" => "big5",
            other => match other.strip_prefix("8859/") {
                Some(part) => return Encoding::for_label(format!("iso-8859-{part}").as_bytes()).map(Charset::Other),
                None => other,
            },
        };
        Encoding::for_label(label.as_bytes()).map(Charset::Other)
    }

    /// Decodes, dropping a byte order mark.
    pub fn decode(self, bytes: &[u8]) -> Decoded {
        match self {
            _ if bytes.is_ascii() && !self.is_stateful() => {
                Decoded { text: String::from_utf8_lossy(bytes).into_owned(), clean: true }
            }
            Charset::Ascii => Decoded { text: WINDOWS_1252.decode(bytes).0.into_owned(), clean: false },
            Charset::Latin1 => {
                let clean = !bytes.iter().any(|b| (0x80..0xA0).contains(b));
                Decoded { text: WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(), clean }
            }
            Charset::Other(encoding) => {
                let (text, bad) = encoding.decode_with_bom_removal(bytes);
                Decoded { text: text.into_owned(), clean: !bad }
            }
        }
    }

    /// Decodes by what is declared, else by what the bytes themselves prove.
    ///
    /// Undeclared text that is valid UTF-8 is UTF-8. Other text is read by `fallback` when the standard names one
    /// (Latin-1 for LIS02-A2, 5.2), and without one as Latin-1 but not clean.
    pub fn decode_declared(declared: Option<Charset>, fallback: Option<Charset>, bytes: &[u8]) -> Decoded {
        if let Some((encoding, skip)) = Encoding::for_bom(bytes) {
            return Charset::Other(encoding).decode(bytes.get(skip..).unwrap_or_default());
        }
        if let Some(charset) = declared {
            return charset.decode(bytes);
        }
        let utf8 = Charset::Other(UTF_8).decode(bytes);
        match fallback {
            _ if utf8.clean => utf8,
            Some(charset) => charset.decode(bytes),
            None => Decoded { clean: false, ..Charset::Latin1.decode(bytes) },
        }
    }

    /// Encodes; a character that does not fit becomes `?`, and the answer says whether all did fit.
    pub fn encode(self, text: &str) -> (Vec<u8>, bool) {
        let mut bytes = Vec::with_capacity(text.len());
        let mut clean = true;
        let mut buffer = [0; 4];
        for c in text.chars() {
            let spelled = c.encode_utf8(&mut buffer);
            match self {
                _ if c.is_ascii() => bytes.extend_from_slice(spelled.as_bytes()),
                Charset::Latin1 if ('\u{A0}'..='\u{FF}').contains(&c) => bytes.extend(u8::try_from(u32::from(c)).ok()),
                Charset::Other(encoding) if !self.is_stateful() && !encoding.encode(spelled).2 => {
                    bytes.extend_from_slice(&encoding.encode(spelled).0);
                }
                _ => {
                    bytes.push(b'?');
                    clean = false;
                }
            }
        }
        (bytes, clean)
    }

    fn is_stateful(self) -> bool {
        matches!(self, Charset::Other(e) if !e.is_ascii_compatible())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_table_0211_and_labels_are_known() {
        for name in [
            "ASCII",
            "8859/1",
            "8859/15",
            "UNICODE UTF-8",
            "UTF-8",
            "latin-1",
            "windows-1252",
            "GB 18030-2000",
            "ISO IR87",
        ] {
            assert!(Charset::named(name).is_some(), "{name}");
        }
        assert!(Charset::named("EBCDIC").is_none() && Charset::named("8859/99").is_none());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let read = |name: &str, bytes: &[u8]| Charset::named(name).unwrap().decode(bytes);
        assert_eq!(read("8859/1", b"\xb5g").text, "µg");
        assert!(read("8859/1", b"\xb5g").clean && !read("8859/1", b"\x80").clean);
        assert!(!read("UTF-8", b"\xb5g").clean && !read("ASCII", b"\xb5g").clean);
        assert_eq!(read("8859/15", b"\xa4").text, "€");
        assert_eq!(read("UTF-8", "µ".as_bytes()).text, "µ");
        assert_eq!(read("ISO IR87", b"\x1b$B;3ED\x1b(B").text, "山田");
    }

    #[test]
    fn what_cannot_be_written_is_a_question_mark_and_said() {
        let write = |name: &str, text: &str| Charset::named(name).unwrap().encode(text);
        assert_eq!(write("latin-1", "Müller"), (b"M\xFCller".to_vec(), true));
        assert_eq!(write("utf-8", "Müller"), ("Müller".as_bytes().to_vec(), true));
        assert_eq!(write("windows-1251", "Иван"), (b"\xC8\xE2\xE0\xED".to_vec(), true));
        assert_eq!(write("latin-1", "Иван1"), (b"????1".to_vec(), false));
        assert_eq!(write("ASCII", "ü"), (b"?".to_vec(), false));
    }

    #[test]
    fn undeclared_text_is_not_guessed_at() {
        let undeclared = |fallback, bytes: &[u8]| Charset::decode_declared(None, fallback, bytes);
        assert!(undeclared(None, "µ".as_bytes()).clean);
        assert!(!undeclared(None, b"\xb5").clean);
        assert!(undeclared(Some(Charset::Latin1), b"\xb5").clean);
        assert_eq!(undeclared(None, b"\xff\xfeH\x00|\x00").text, "H|");
    }
}
