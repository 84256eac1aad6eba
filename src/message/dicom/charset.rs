//! Specific Character Set (0008,0005), PS3.3 C.12.1.1.2 and PS3.5 6.1: bytes to text and text to bytes, with code
//! extensions by ISO 2022.
//!
//! With several values the text itself switches between sets by escape sequences, and every delimiter switches back.
//! UTF-8, GB18030 and GBK stand alone. Files declare nothing and write Latin-1 or UTF-8 all the same; what the bytes
//! prove is taken, and the answer says that it was not declared.

use crate::message::charset::{Charset, Decoded};
use encoding_rs::*;
use std::sync::Arc;

/// Most values of (0008,0005) that are looked at; the Standard defines twenty-two sets.
const SETS_MAX: usize = 24;
const ESC: u8 = 0x1b;

/// The character sets a data set or an item declares, in their order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CharacterSets(Arc<[Repertoire]>);

/// One set, as far as reading and writing differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repertoire {
    /// ISO-IR 6.
    Ascii,
    /// A right half of one byte a character, in G1.
    Single(&'static Encoding, &'static str),
    /// JIS X 0201: half-width katakana in G1.
    Katakana,
    /// JIS X 0208: two bytes in G0.
    Kanji,
    /// JIS X 0212: two bytes in G0.
    SupplementaryKanji,
    /// KS X 1001: two bytes in G1.
    Korean,
    /// GB 2312: two bytes in G1.
    Chinese,
    /// Without code extensions: UTF-8, GB18030, GBK.
    Whole(&'static Encoding, &'static str),
}

use Repertoire::*;

/// Escape sequences of PS3.3 tables C.12-3 and C.12-4, and what they put where.
const ESCAPES: [(&[u8], Repertoire); 20] = [
    (b"(B", Ascii),
    (b"(J", Ascii),
    (b"$B", Kanji),
    (b"$@", Kanji),
    (b"$(D", SupplementaryKanji),
    (b"$)C", Korean),
    (b"$)A", Chinese),
    (b")I", Katakana),
    (b"-A", LATIN_1),
    (b"-B", Single(ISO_8859_2, "101")),
    (b"-C", Single(ISO_8859_3, "109")),
    (b"-D", Single(ISO_8859_4, "110")),
    (b"-L", Single(ISO_8859_5, "144")),
    (b"-G", Single(ISO_8859_6, "127")),
    (b"-F", Single(ISO_8859_7, "126")),
    (b"-H", Single(ISO_8859_8, "138")),
    (b"-M", Single(WINDOWS_1254, "148")),
    (b"-b", Single(ISO_8859_15, "203")),
    (b"-T", Single(WINDOWS_874, "166")),
    (b"$(B", Kanji),
];
const LATIN_1: Repertoire = Single(WINDOWS_1252, "100");

impl CharacterSets {
    /// Reads the values of (0008,0005), separated by backslashes. `None` when none of them is known: the text is then
    /// read as if nothing were declared.
    pub fn declared(value: &str) -> Option<CharacterSets> {
        let value = value.trim_matches([' ', '\0']);
        if value.is_empty() {
            return Some(CharacterSets::default());
        }
        let mut sets: Vec<Repertoire> = value.split('\\').take(SETS_MAX).filter_map(repertoire).collect();
        // A set of two bytes cannot be the first (PS3.3 C.12.1.1.2): text begins in ASCII, whatever the sender left out.
        if sets.first().is_some_and(|set| matches!(set, Kanji | SupplementaryKanji | Korean | Chinese)) {
            sets.insert(0, Ascii);
        }
        (!sets.is_empty()).then(|| CharacterSets(sets.into()))
    }

    /// UTF-8, `ISO_IR 192`.
    pub fn utf8() -> CharacterSets {
        CharacterSets([Whole(UTF_8, "192")].into())
    }

    /// The value of (0008,0005) that declares these; empty for plain ASCII.
    pub fn value(&self) -> String {
        let several = self.0.len() > 1;
        let names = self.0.iter().enumerate().map(|(at, set)| match (set.number(), several) {
            ("6", false) => String::new(),
            ("6", true) if at == 0 => String::new(),
            ("192", _) => "ISO_IR 192".to_string(),
            (name @ ("GB18030" | "GBK"), _) => name.to_string(),
            (number, false) => format!("ISO_IR {number}"),
            (number, true) => format!("ISO 2022 IR {number}"),
        });
        names.collect::<Vec<_>>().join("\\")
    }

    /// Decodes text. `is_name` for a person name (PN), whose `^` and `=` switch back to the first set too. Not clean
    /// when bytes do not fit, or are not ASCII and nothing was declared for them.
    pub fn decode(&self, bytes: &[u8], is_name: bool) -> Decoded {
        match self.0.first() {
            None if !bytes.contains(&ESC) => {
                let declared = Charset::decode_declared(None, None, bytes);
                Decoded { clean: bytes.is_ascii(), ..declared }
            }
            Some(Whole(encoding, _)) => {
                let (text, bad) = encoding.decode_without_bom_handling(bytes);
                Decoded { text: text.into_owned(), clean: !bad }
            }
            _ => self.decode_switching(bytes, is_name),
        }
    }

    /// Encodes text; a character that no declared set has becomes `?`, and the answer says whether all did fit.
    pub fn encode(&self, text: &str, is_name: bool) -> (Vec<u8>, bool) {
        if let Some(Whole(encoding, _)) = self.0.first() {
            let (bytes, _, bad) = encoding.encode(text);
            return (bytes.into_owned(), !bad);
        }
        let mut out = Vec::with_capacity(text.len());
        let mut clean = true;
        let mut now = self.at_start();
        for c in text.chars() {
            if c.is_ascii() {
                if now.g0 != Ascii {
                    out.extend_from_slice(self.back_to_start());
                    now.g0 = Ascii;
                }
                let byte = c as u8;
                out.push(byte);
                if is_delimiter(byte, is_name) {
                    now = self.at_start();
                }
                continue;
            }
            let active = [Some(now.g0), now.g1].into_iter().flatten();
            let fitting = active.chain(self.0.iter().copied()).find_map(|set| Some((set, set.write(c)?)));
            let Some((set, bytes)) = fitting else {
                out.push(b'?');
                clean = false;
                continue;
            };
            if now.put(set) {
                let escape = ESCAPES.iter().find(|(_, s)| *s == set).map_or(&b""[..], |(escape, _)| escape);
                out.push(ESC);
                out.extend_from_slice(escape);
            }
            out.extend(bytes);
        }
        if now.g0 != Ascii {
            out.extend_from_slice(self.back_to_start());
        }
        (out, clean)
    }

    fn decode_switching(&self, bytes: &[u8], is_name: bool) -> Decoded {
        let mut text = String::with_capacity(bytes.len());
        let mut clean = true;
        let mut now = self.at_start();
        // A sender that forgets to switch after a delimiter means the one set it has for such bytes.
        let meant = self.0.iter().copied().find(|set| !matches!(set, Ascii | Kanji | SupplementaryKanji));
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == ESC {
                match ESCAPES.iter().find(|(escape, _)| after.starts_with(escape)) {
                    Some((escape, set)) => {
                        now.put(*set);
                        rest = &after[escape.len()..];
                    }
                    None => {
                        clean = false;
                        rest = after;
                    }
                }
                continue;
            }
            let set = if byte < 0x80 { now.g0 } else { now.g1.or(meant).unwrap_or(Ascii) };
            let taken = match set {
                Ascii if byte < 0x80 => {
                    text.push(char::from(byte));
                    1
                }
                _ => {
                    let wide = matches!(set, Kanji | SupplementaryKanji | Korean | Chinese);
                    let graphic = byte & 0x7f > 0x20 && byte != 0x7f;
                    let is_pair = wide && graphic && after.first().is_some_and(|next| (next ^ byte) & 0x80 == 0);
                    let length = if is_pair { 2 } else { 1 };
                    match set.read(&rest[..length]) {
                        Some(c) => text.push_str(&c),
                        None if byte < 0x80 && !graphic => text.push(char::from(byte)),
                        None => {
                            clean = false;
                            text.push(char::REPLACEMENT_CHARACTER);
                        }
                    }
                    length
                }
            };
            if taken == 1 && is_delimiter(byte, is_name) {
                now = self.at_start();
            }
            rest = &rest[taken..];
        }
        Decoded { text, clean }
    }

    fn at_start(&self) -> Switched {
        let g1 = self.0.first().copied().filter(|set| matches!(set, Single(..) | Katakana));
        Switched { g0: Ascii, g1 }
    }

    /// JIS X 0201 has its own left half; everywhere else it is ASCII.
    fn back_to_start(&self) -> &'static [u8] {
        if self.0.first() == Some(&Katakana) { b"\x1b(J" } else { b"\x1b(B" }
    }
}

impl std::fmt::Debug for CharacterSets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.value())
    }
}

/// What the two halves of the code table hold now.
struct Switched {
    g0: Repertoire,
    g1: Option<Repertoire>,
}

impl Switched {
    /// Puts a set where it belongs. True when it was not there.
    fn put(&mut self, set: Repertoire) -> bool {
        match set {
            Ascii | Kanji | SupplementaryKanji => std::mem::replace(&mut self.g0, set) != set,
            _ => self.g1.replace(set) != Some(set),
        }
    }
}

impl Repertoire {
    /// The ISO registration number by which (0008,0005) names it, or the name.
    fn number(self) -> &'static str {
        match self {
            Ascii => "6",
            Single(_, number) | Whole(_, number) => number,
            Katakana => "13",
            Kanji => "87",
            SupplementaryKanji => "159",
            Korean => "149",
            Chinese => "58",
        }
    }

    /// One character from its bytes.
    fn read(self, bytes: &[u8]) -> Option<String> {
        let (encoding, bytes): (_, &[u8]) = match (self, bytes) {
            (Single(encoding, _), [_]) => (encoding, bytes),
            (Katakana, [byte @ 0xa1..=0xdf]) => (SHIFT_JIS, &[*byte]),
            (Kanji, [a, b]) => (EUC_JP, &[a | 0x80, b | 0x80]),
            (SupplementaryKanji, [a, b]) => (EUC_JP, &[0x8f, a | 0x80, b | 0x80]),
            (Korean, [_, _]) => (EUC_KR, bytes),
            (Chinese, [_, _]) => (GBK, bytes),
            _ => return None,
        };
        encoding.decode_without_bom_handling_and_without_replacement(bytes).map(std::borrow::Cow::into_owned)
    }

    /// The bytes of one character that is not ASCII.
    fn write(self, c: char) -> Option<Vec<u8>> {
        let mut buffer = [0; 4];
        let spelled = c.encode_utf8(&mut buffer);
        let by = |encoding: &'static Encoding| {
            let (bytes, _, bad) = encoding.encode(spelled);
            (!bad).then(|| bytes.into_owned())
        };
        let is_high = |bytes: &[u8]| bytes.iter().all(|b| *b >= 0xa1);
        match self {
            // Windows puts letters where ISO 8859 has control characters.
            Single(encoding, _) => by(encoding).filter(|b| matches!(b[..], [0xa0..=0xff])),
            Katakana => by(SHIFT_JIS).filter(|b| matches!(b[..], [0xa1..=0xdf])),
            Kanji => by(EUC_JP).filter(|b| b.len() == 2 && is_high(b)).map(|b| b.iter().map(|b| b & 0x7f).collect()),
            // encoding_rs reads JIS X 0212 and does not write it.
            Ascii | SupplementaryKanji | Whole(..) => None,
            Korean => by(EUC_KR).filter(|b| b.len() == 2 && is_high(b)),
            Chinese => by(GBK).filter(|b| b.len() == 2 && is_high(b)),
        }
    }
}

/// A value of (0008,0005), in the spellings that are seen: `ISO_IR 100`, `ISO 2022 IR 100`, `ISO-IR 100`, `UTF-8`.
fn repertoire(name: &str) -> Option<Repertoire> {
    let name = name.trim_matches([' ', '\0']).to_ascii_uppercase();
    match name.as_str() {
        "" => return Some(Ascii),
        "GB18030" => return Some(Whole(GB18030, "GB18030")),
        "GBK" | "GB2312" => return Some(Whole(GBK, "GBK")),
        "UTF-8" | "UTF8" | "ISO_IR192" => return Some(Whole(UTF_8, "192")),
        _ => {}
    }
    let number = name.rsplit([' ', '_', '-']).next().unwrap_or_default();
    match number {
        "6" => Some(Ascii),
        "13" => Some(Katakana),
        "58" => Some(Chinese),
        "87" => Some(Kanji),
        "149" => Some(Korean),
        "159" => Some(SupplementaryKanji),
        "192" => Some(Whole(UTF_8, "192")),
        _ => ESCAPES.iter().map(|(_, set)| *set).find(|set| matches!(set, Single(_, n) if *n == number)),
    }
}

/// What switches back to the first set (PS3.5 6.1.2.5.3).
fn is_delimiter(byte: u8, is_name: bool) -> bool {
    matches!(byte, b'\\' | b'\r' | b'\n' | b'\t' | 0x0c) || is_name && matches!(byte, b'^' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets(value: &str) -> CharacterSets {
        CharacterSets::declared(value).unwrap()
    }

    #[test]
    fn the_examples_of_ps3_5_annex_h_and_i_are_read_and_written() {
        let cases: [(&str, &[u8], &str); 6] = [
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
            ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
            ("ISO 2022 IR 6\\ISO 2022 IR 126\\ISO 2022 IR 144", b"\x1b-F\xc4\xe9^\x1b-L\xbb\xee", "Δι^Лю"),
        ];
        for (declared, bytes, text) in cases {
            let read = sets(declared).decode(bytes, true);
            assert!(read.clean, "{declared}");
            assert_eq!(read.text, text, "{declared}");
            assert_eq!(sets(declared).encode(text, true), (bytes.to_vec(), true), "{declared}");
        }
    }

    #[test]
    fn a_lone_set_of_two_bytes_is_declared_and_written_with_code_extensions() {
        for (declared, text, bytes) in [
            ("ISO 2022 IR 149", "홍^길동", &b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"[..]),
            ("ISO_IR 87", "山田", b"\x1b$B;3ED\x1b(B"),
            ("ISO 2022 IR 58", "王", b"\x1b$)A\xcd\xf5"),
        ] {
            let lone = sets(declared);
            let number = declared.rsplit(' ').next().unwrap();
            assert_eq!(lone.value(), format!("\\ISO 2022 IR {number}"), "PS3.3 C.12.1.1.2");
            assert_eq!(lone.encode(text, true), (bytes.to_vec(), true), "{declared}");
            assert_eq!(lone.decode(bytes, true).text, text);
        }
        let careless = sets("ISO 2022 IR 149").decode(b"\xc8\xab^\xb1\xe6\xb5\xbf", true);
        assert_eq!((careless.text.as_str(), careless.clean), ("홍^길동", true), "a sender that writes no escapes");
    }

    #[test]
    fn a_backslash_inside_a_character_is_no_delimiter() {
        let gbk = sets("GBK").decode(b"\x81\x5c\\A", false);
        assert_eq!((gbk.text.matches('\\').count(), gbk.clean), (1, true));
        let kanji = sets("\\ISO 2022 IR 87").decode(b"\x1b$B\x30\x5c\x1b(B\\B", false);
        assert_eq!((kanji.text.matches('\\').count(), kanji.clean), (1, true));
    }

    #[test]
    fn what_is_not_declared_is_read_and_said() {
        let read = |bytes: &[u8]| CharacterSets::default().decode(bytes, true);
        assert_eq!((read("Müller".as_bytes()).text, read("Müller".as_bytes()).clean), ("Müller".into(), false));
        assert_eq!((read(b"M\xfcller").text, read(b"M\xfcller").clean), ("Müller".into(), false));
        assert!(read(b"Miller").clean && !read(b"\x1b").clean);
        assert_eq!(CharacterSets::declared("EBCDIC"), None);
    }

    #[test]
    fn the_declared_value_goes_out_as_it_came() {
        for value in ["", "ISO_IR 100", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "ISO_IR 192", "GB18030"] {
            assert_eq!(sets(value).value(), value);
        }
    }

    proptest! {
        #[test]
        fn i11_what_was_written_is_read_back(
            text in "[A-Za-z \\\\^=ÄéñДлΣאชｱﾔ山田太郎洪吉洞홍길동王小东]{0,20}",
            at in 0usize..9,
        ) {
            let declared = [
                "", "ISO_IR 100", "ISO_IR 144", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149",
                "\\ISO 2022 IR 58", "ISO_IR 192", "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 166",
            ][at];
            let (bytes, clean) = sets(declared).encode(&text, true);
            if clean {
                let read = sets(declared).decode(&bytes, true);
                prop_assert!(read.clean);
                prop_assert_eq!(read.text, text);
            }
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..5) {
            let declared = ["", "ISO_IR 100", "\\ISO 2022 IR 87\\ISO 2022 IR 159", "ISO 2022 IR 13\\ISO 2022 IR 149", "GBK"][at];
            sets(declared).decode(&bytes, bytes.len() % 2 == 0);
        }
    }
}
