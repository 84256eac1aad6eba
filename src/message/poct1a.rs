//! POCT1-A documents (CLSI POCT1-A2, device messaging layer): observations as the device wrote them.
//!
//! A document is objects (`SVC`, `PT`, `OBS`) inside each other, each with fields named after it (`OBS.value`) whose
//! value stands in attribute `V`. Reading never fails: a document that is torn or not well-formed is read as far as it
//! goes and marked `damaged`, and the observations that could not be reached are counted.

use super::charset::Charset;
use super::{Oddity, note};
pub use crate::wire::poct1a::document::Element;
use crate::wire::poct1a::document::{ELEMENTS_MAX, parse};
use crate::wire::poct1a::{Framer, Item};

/// Objects a driver's path may name.
pub const OBJECTS: &[&str] = &["HDR", "DEV", "SVC", "PT", "CTC", "OBS", "OPR", "ORD", "SPC", "RGT", "NTE"];
/// The object that holds one result.
pub const RESULT: &str = "OBS";
/// Only so many bytes are looked at to tell the protocol.
const LOOK_MAX: usize = 8192;

/// Everything read from one entry: one document, or a whole conversation in a capture.
pub struct Reading {
    /// The documents, in order.
    pub documents: Vec<Document>,
    /// What was odd.
    pub oddities: Vec<Oddity>,
    /// True when there were more elements than are read.
    pub cut_off: bool,
}

/// One document.
pub struct Document {
    /// Its root element, such as `OBS.R01`.
    pub root: Element,
    /// It could not be read to its end, so what it says may be incomplete.
    pub damaged: bool,
    /// Results that are in its text and could not be read.
    pub lost: usize,
    /// False when some bytes did not fit the character set.
    pub clean: bool,
    /// Elements of the entry before it.
    before: u32,
}

impl Document {
    /// Position of one of its elements in the entry, from 1.
    pub fn number(&self, element: &Element) -> u32 {
        self.before + element.number
    }
}

/// True when the bytes look like POCT1-A: the first of them opens a document, and an element named like one of the
/// standard's messages (`OBS.R01`) follows.
pub fn looks_like(raw: &[u8]) -> bool {
    let start = raw.get(..LOOK_MAX).unwrap_or(raw);
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    start.first() == Some(&b'<') && start.windows(8).any(is_message_tag)
}

/// `<ABC.R01`.
fn is_message_tag(window: &[u8]) -> bool {
    let [b'<', a, b, c, b'.', b'R', tens, ones] = window else { return false };
    [a, b, c].iter().all(|l| l.is_ascii_uppercase()) && tens.is_ascii_digit() && ones.is_ascii_digit()
}

/// What the device calls itself: `DEV.device_id` where its hello is there, as in a capture. An observation alone does
/// not name its device; then it is the maker's tag of the first result and the name of the reagent, `SIEM^DCA HbA1c`.
pub fn sender(reading: &Reading) -> Option<String> {
    let mut roots = reading.documents.iter().map(|d| &d.root);
    if let Some(hello) = roots.clone().find(|r| r.name == "HEL.R01") {
        return Some(hello.value("DEV.device_id").to_string());
    }
    let first = roots.find(|r| r.find(RESULT).is_some())?;
    let maker = first.find("OBS.observation_id").map_or("", |id| id.attribute("SN").trim());
    Some(format!("{maker}^{}", first.value("RGT.name")))
}

/// Reads an entry. `declared` is the character set of the link or the driver, taken when the document names none.
pub fn read(raw: &[u8], declared: Option<Charset>) -> Reading {
    let mut framer = Framer::new(raw.len());
    let mut items = framer.push(raw);
    items.extend(framer.take_unfinished().map(Item::Torn));
    let mut reading = Reading { documents: Vec::new(), oddities: Vec::new(), cut_off: false };
    let mut before = 0;
    for item in items {
        let (bytes, torn) = match item {
            Item::Document(bytes) => (bytes, false),
            Item::Torn(bytes) | Item::TooLong(bytes) => (bytes, true),
            Item::Noise => {
                note(&mut reading.oddities, before, "bytes outside of a document");
                continue;
            }
        };
        if before >= ELEMENTS_MAX {
            reading.cut_off = true;
            break;
        }
        let (text, clean) = decode(&bytes, declared);
        let parsed = parse(&text);
        if let Some(flaw) = parsed.flaw {
            note(&mut reading.oddities, before, flaw);
        }
        let Some(root) = parsed.root else { continue };
        if speaks(&root) {
            // Some makers put a second word for a value there.
            note(&mut reading.oddities, before + 1, "text inside an element, which is kept raw and not read");
        }
        let mut found = 0;
        root.each(RESULT, &mut |_| found += 1);
        let lost = if parsed.flaw.is_some() { results_in(&text).saturating_sub(found) } else { 0 };
        let document = Document { damaged: torn || parsed.flaw.is_some(), root, lost, clean, before };
        before += count(&document.root);
        reading.documents.push(document);
    }
    reading
}

/// A time or date of the standard (ISO 8601, `2018-07-26T15:51:26-08:00`) in the digits every field of a report has
/// (`20180726155126-0800`). What is none comes back as it is.
pub fn digits(iso: &str) -> String {
    let (date, clock) = iso.split_once('T').unwrap_or((iso, ""));
    let zone_at = clock.find(['+', '-', 'Z']).unwrap_or(clock.len());
    let (time, zone) = clock.split_at(zone_at);
    let zone = if zone == "Z" { "+0000".to_string() } else { zone.replace(':', "") };
    format!("{}{}{zone}", date.replace('-', ""), time.replace(':', ""))
}

/// By the document's own declaration, else as the link or the driver says, else UTF-8 as XML has it.
fn decode(bytes: &[u8], declared: Option<Charset>) -> (String, bool) {
    let own = encoding(bytes);
    let charset = match &own {
        Some(name) => Charset::named(name),
        None => declared,
    };
    let decoded = Charset::decode_declared(charset, None, bytes);
    let known = own.is_none() || charset.is_some();
    (decoded.text, decoded.clean && known)
}

/// `encoding` of the XML declaration.
fn encoding(bytes: &[u8]) -> Option<String> {
    let declaration = bytes.strip_prefix(b"<?xml")?;
    let end = declaration.windows(2).position(|w| w == b"?>")?;
    let text = String::from_utf8_lossy(declaration.get(..end)?).into_owned();
    let (_, value) = text.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value.split(quote).nth(1).map(ToString::to_string)
}

fn results_in(text: &str) -> usize {
    text.match_indices("<OBS").filter(|(at, _)| !text[at + 4..].starts_with('.')).count()
}

fn speaks(element: &Element) -> bool {
    element.has_text || element.children.iter().any(speaks)
}

fn count(element: &Element) -> u32 {
    element.children.iter().map(count).sum::<u32>() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBS: &str = "<OBS.R01><SVC><PT><OBS><OBS.observation_id V=\"Glu\" SN=\"ACME\"/></OBS></PT>\
        <RGT><RGT.name V=\"Strip 1\"/></RGT></SVC></OBS.R01>";

    #[test]
    fn documents_follow_each_other_without_anything_between() {
        let hello = "<HEL.R01><DEV><DEV.device_id V=\"ACME^Meter\"/></DEV></HEL.R01>";
        let reading = read(format!("{hello}{OBS}\r\n{OBS}").as_bytes(), None);
        assert_eq!(reading.documents.len(), 3);
        let numbers: Vec<u32> =
            reading.documents.iter().filter_map(|d| d.root.find("OBS").map(|o| d.number(o))).collect();
        assert_eq!(numbers, [7, 14]);
        assert_eq!(sender(&read(format!("{hello}{OBS}").as_bytes(), None)).unwrap(), "ACME^Meter");
        assert_eq!(sender(&read(OBS.as_bytes(), None)).unwrap(), "ACME^Strip 1");
    }

    #[test]
    fn the_protocol_is_told_by_its_first_document() {
        assert!(looks_like(OBS.as_bytes()) && looks_like(format!("\u{feff}<?xml version=\"1.0\"?>\n{OBS}").as_bytes()));
        for other in ["", "H|\\^&", "MSH|^~\\&|<OBS.R01>", "<html><body/></html>", "<OBS>"] {
            assert!(!looks_like(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_is_torn_is_read_as_far_as_it_goes_and_the_rest_is_counted() {
        let whole = OBS.replace("</PT>", "<OBS><OBS.value V=\"1\"/></OBS><OBS/></PT>");
        let cut = whole.find("<OBS.value").unwrap();
        let reading = read(&whole.as_bytes()[..cut], None);
        assert!(reading.documents[0].damaged);
        assert_eq!(reading.documents[0].lost, 0);
        let spoilt = whole.replacen("<OBS.value V=\"1\"/>", "<OBS.value V=1/>", 1);
        let reading = read(spoilt.as_bytes(), None);
        assert_eq!((reading.documents[0].damaged, reading.documents[0].lost), (true, 1));
    }

    #[test]
    fn times_take_the_digits_of_a_report() {
        for (iso, expected) in [
            ("2018-07-26T15:51:26", "20180726155126"),
            ("2018-07-26T15:51:26.50-08:00", "20180726155126.50-0800"),
            ("2018-07-26T15:51Z", "201807261551+0000"),
            ("1990-01-31", "19900131"),
            ("soon", "soon"),
        ] {
            assert_eq!(digits(iso), expected);
        }
    }

    #[test]
    fn the_declaration_names_the_character_set() {
        let text = |encoding: &str, unit: &[u8]| {
            [format!("<?xml version='1.0' encoding='{encoding}'?><OBS.R01 V='").as_bytes(), unit, b"'/>"].concat()
        };
        let value = |raw: &[u8]| {
            let reading = read(raw, None);
            (reading.documents[0].root.attribute("V").to_string(), reading.documents[0].clean)
        };
        assert_eq!(value(&text("iso-8859-1", b"\xb5g")), ("µg".to_string(), true));
        assert_eq!(value(&text("utf-8", "µg".as_bytes())), ("µg".to_string(), true));
        assert!(!value(&text("utf-8", b"\xb5g")).1 && !value(&text("martian", b"g")).1);
    }
}
