//! One XML document as a small tree: names, attributes and children. Values stand in attribute `V`.
//!
//! There is no document type, no entity beyond the five of XML itself and no namespace: a prefix is taken off. Reading
//! never fails; what is wrong is said beside what could be read (invariant I10).

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Deepest nesting read; the standard's own messages have six levels.
pub const DEPTH_MAX: usize = 32;
/// Most elements read from one document.
pub const ELEMENTS_MAX: u32 = 100_000;
/// Most attributes of one element; the standard knows `V`, `U`, `SN`, `SV` and `NULL`.
pub const ATTRIBUTES_MAX: usize = 32;

/// Why a document could not be read to its end; safe to log.
pub type Flaw = &'static str;

const NOT_WELL_FORMED: Flaw = "the document is not well-formed XML";
const DOCTYPE: Flaw = "the document has a document type, which is not read";
const ENTITY: Flaw = "the document names an entity that XML does not have";
const TOO_DEEP: Flaw = "the document is nested too deeply";
const TOO_MANY: Flaw = "the document has too many elements or attributes";
const OUTSIDE: Flaw = "the document has text or elements outside its root";
const EMPTY: Flaw = "the document has no root element";

/// One element.
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix, such as `OBS.value`.
    pub name: String,
    /// Position in the document, the root is 1.
    pub number: u32,
    /// Name and decoded value of each attribute.
    attributes: Vec<(String, String)>,
    /// What stands inside, in order.
    pub children: Vec<Element>,
    /// Text stood inside; the standard puts none there.
    pub has_text: bool,
}

/// What [`parse`] read.
pub struct Parsed {
    /// The tree as far as it could be read.
    pub root: Option<Element>,
    /// What ended the reading before the document did.
    pub flaw: Option<Flaw>,
}

impl std::fmt::Debug for Element {
    /// Never prints values: they are patient data (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}: {} attributes, {} children>", self.name, self.attributes.len(), self.children.len())
    }
}

impl Element {
    /// An attribute's value; empty when it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The first element of this name below this one, in document order.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find_map(|c| if c.name == name { Some(c) } else { c.find(name) })
    }

    /// `V` of the first element of this name below this one, blanks around it removed; empty when there is none.
    pub fn value(&self, name: &str) -> &str {
        self.find(name).map_or("", |e| e.attribute("V").trim())
    }

    /// Calls `visit` with each element of this name below this one.
    pub fn each<'e>(&'e self, name: &str, visit: &mut dyn FnMut(&'e Element)) {
        for child in &self.children {
            if child.name == name {
                visit(child);
            }
            child.each(name, visit);
        }
    }
}

/// Reads one document. Total: what could not be read is said in [`Parsed::flaw`], and what stood before it is kept.
pub fn parse(text: &str) -> Parsed {
    let mut builder = Builder { open: Vec::new(), root: None, count: 0 };
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let flaw = loop {
        let step = match reader.read_event() {
            Ok(Event::Start(tag)) => builder.start(&tag, false),
            Ok(Event::Empty(tag)) => builder.start(&tag, true),
            Ok(Event::End(_)) => builder.end(),
            Ok(Event::Text(text)) => builder.text(text.trim_ascii().is_empty()),
            Ok(Event::CData(_)) => builder.text(false),
            Ok(Event::GeneralRef(entity)) => {
                // A character reference, or one of the five.
                let known = entity.is_char_ref() || matches!(&*entity, "amp" | "lt" | "gt" | "quot" | "apos");
                if known { builder.text(false) } else { Err(ENTITY) }
            }
            Ok(Event::DocType(_)) => Err(DOCTYPE),
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_)) => Ok(()),
            Ok(Event::Eof) => break builder.unfinished(),
            Err(_) => Err(NOT_WELL_FORMED),
        };
        if let Err(flaw) = step {
            break Some(flaw);
        }
    };
    Parsed { root: builder.close(), flaw }
}

struct Builder {
    open: Vec<Element>,
    root: Option<Element>,
    count: u32,
}

impl Builder {
    fn start(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), Flaw> {
        if self.root.is_some() {
            return Err(OUTSIDE);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        if self.count >= ELEMENTS_MAX {
            return Err(TOO_MANY);
        }
        self.count += 1;
        let name = tag.local_name().into_inner().to_string();
        let mut element =
            Element { name, number: self.count, attributes: Vec::new(), children: Vec::new(), has_text: false };
        let read = attributes(tag, &mut element.attributes);
        self.open.push(element);
        read?;
        if empty { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), Flaw> {
        let Some(element) = self.open.pop() else { return Err(NOT_WELL_FORMED) };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, blank: bool) -> Result<(), Flaw> {
        match self.open.last_mut() {
            _ if blank => Ok(()),
            Some(element) => {
                element.has_text = true;
                Ok(())
            }
            None => Err(OUTSIDE),
        }
    }

    fn unfinished(&self) -> Option<Flaw> {
        match (&self.root, self.open.is_empty()) {
            (_, false) => Some(NOT_WELL_FORMED),
            (None, true) => Some(EMPTY),
            (Some(_), true) => None,
        }
    }

    /// The tree, with what was still open closed.
    fn close(mut self) -> Option<Element> {
        while !self.open.is_empty() {
            // Nothing can be wrong with ending what is open.
            let _ = self.end();
        }
        self.root
    }
}

fn attributes(tag: &BytesStart<'_>, into: &mut Vec<(String, String)>) -> Result<(), Flaw> {
    // The reader compares each attribute with all before it, so their number is bounded while they are read.
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| NOT_WELL_FORMED)?;
        if into.len() >= ATTRIBUTES_MAX {
            return Err(TOO_MANY);
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| ENTITY)?;
        into.push((attribute.key.local_name().into_inner().to_string(), value.into_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(text: &str) -> Option<Flaw> {
        parse(text).flaw
    }

    #[test]
    fn values_are_read_with_the_five_entities_and_nothing_else() {
        let parsed =
            parse("<?xml version=\"1.0\"?><A.R01><x:B><B.c V=' a&amp;b &#181;&lt; ' U=\"g/L\"/></x:B></A.R01>");
        let root = parsed.root.unwrap();
        assert_eq!(parsed.flaw, None);
        assert_eq!((root.value("B.c"), root.find("B.c").unwrap().attribute("U")), ("a&b µ<", "g/L"));
        assert_eq!(root.find("B.c").unwrap().number, 3);
        assert_eq!(flaw("<a V='&who;'/>"), Some(ENTITY));
        assert_eq!(flaw("<a>&who;</a>"), Some(ENTITY));
        assert_eq!(flaw("<!DOCTYPE a [<!ENTITY who 'x'>]><a V='&who;'/>"), Some(DOCTYPE));
    }

    #[test]
    fn what_is_not_well_formed_keeps_what_came_before() {
        for text in ["<a><b V='1'/></c>", "<a><b V='1'/>", "<a><b V='1'/><c V=1/></a>", "<a><b V='1'/><c d='1' d='2'/>"]
        {
            let parsed = parse(text);
            assert_eq!(parsed.flaw, Some(NOT_WELL_FORMED), "{text}");
            assert_eq!(parsed.root.unwrap().value("b"), "1", "{text}");
        }
        assert_eq!(flaw("<a/>x"), Some(OUTSIDE));
        assert_eq!(flaw("<a/><b/>"), Some(OUTSIDE));
        assert_eq!(flaw(""), Some(EMPTY));
    }

    #[test]
    fn i10_depth_elements_and_attributes_are_bounded() {
        assert_eq!(flaw(&"<a>".repeat(DEPTH_MAX + 1)), Some(TOO_DEEP));
        assert_eq!(flaw(&format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX as usize))), Some(TOO_MANY));
        let many: String = (0..200_000).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(flaw(&format!("<a{many}/>")), Some(TOO_MANY));
    }

    #[test]
    fn i8_values_are_not_printed() {
        assert!(!format!("{:?}", parse("<a V='DOE'/>").root).contains("DOE"));
    }
}
