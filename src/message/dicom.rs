//! DICOM data sets (PS3.5): read leniently, never refused.
//!
//! The bytes of an instance are safe before anything here looks at them, so nothing here is an error. [`read_head`]
//! walks a data set from any reader up to its pixel data, keeps what it understands and notes what is odd
//! ([`Oddity`], whose record is the tag as a number). [`DataSet`] is what every part reads and writes: the answers to a
//! worklist query, a storage commitment, the tree of a structured report.
//!
//! | file | what |
//! |---|---|
//! | `walker` | explicit, implicit, big endian, deflated; undefined and wrong lengths; bounded size and depth |
//! | `charset` | Specific Character Set with ISO 2022 |
//! | `head` | what a data set says of patient, study, series and instance |
//! | `structured_report` | the measurements of a structured report |
//! | `file_meta` | the head of a DICOM file |
//! | `matching`, `performed_step`, `commitment` | what modalities ask and say |
//! | `write` | data sets out |
//! | `rewrite`, `deidentify` | what one destination gets other than it came |
//!
//! `dicom-object` is not used to read: it opens neither sequences of VR UN and undefined length nor files without a
//! group length, and reads text by the first of several character sets only.

mod charset;
pub mod commitment;
pub mod deidentify;
mod dictionary;
mod file_meta;
mod head;
pub mod matching;
pub mod performed_step;
pub mod rewrite;
mod structured_report;
mod walker;
mod write;
#[cfg(test)]
mod tests;

pub use super::Oddity;
pub use crate::wire::dimse::uid::is_uid;
pub use charset::CharacterSets;
pub use dicom_core::{Tag, VR};
pub use dicom_dictionary_std::tags;
pub use dictionary::{standard_value_representation, value_representation};
pub use file_meta::FileMeta;
pub use head::{Head, coding, first_coding, read_head};
pub use structured_report::{measurement_report, predecessors, rejected};
pub use walker::{End, Limits, Walked, read_data_set, walk, walk_up_to};

/// Most bytes of a data set that are read for its head.
pub const HEAD_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a document (structured report, encapsulated PDF) that are read into memory.
pub const DOCUMENT_BYTES_MAX: usize = 32 << 20;
/// Longest value kept of a head; longer ones are passed over.
pub const HEAD_VALUE_BYTES_MAX: usize = 1 << 16;
/// Deepest nesting of sequences. Structured reports in the field stay below twenty.
pub const DEPTH_MAX: usize = 48;
/// Most elements and items kept of one data set.
pub const ELEMENTS_MAX: usize = 200_000;

/// A data set or an item of a sequence.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DataSet {
    elements: Vec<Element>,
    /// The character sets its text is in: its own, else those of the item or data set around it.
    pub charset: CharacterSets,
}

/// One data element.
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    /// Attribute.
    pub tag: Tag,
    /// How the value is represented; UN where nobody says.
    pub vr: VR,
    /// The value.
    pub value: Value,
}

/// The value of an element.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Bytes as they are, numbers in little endian whatever the data set was written in.
    Bytes(Vec<u8>),
    /// The items of a sequence.
    Items(Vec<DataSet>),
    /// Encapsulated fragments up to and with their delimiter, such as those of an icon.
    Fragments(Vec<u8>),
    /// A value longer than is kept: how many bytes it has.
    PassedOver(u64),
}

/// How elements are laid out (PS3.5 7.1), besides deflation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// 1.2.840.10008.1.2.
    ImplicitLittle,
    /// 1.2.840.10008.1.2.1 and every encapsulated transfer syntax.
    ExplicitLittle,
    /// 1.2.840.10008.1.2.2, retired.
    ExplicitBig,
}

impl Layout {
    /// The layout of a transfer syntax. One that is unknown is read as Explicit VR Little Endian, like every syntax
    /// since 1998.
    pub fn of(transfer_syntax_uid: &str) -> Layout {
        match transfer_syntax_uid.trim_matches([' ', '\0']) {
            // GE's private one differs in the pixels only.
            "1.2.840.10008.1.2" | "1.2.840.113619.5.2" => Layout::ImplicitLittle,
            "1.2.840.10008.1.2.2" => Layout::ExplicitBig,
            _ => Layout::ExplicitLittle,
        }
    }

    fn is_explicit(self) -> bool {
        self != Layout::ImplicitLittle
    }

    fn is_big(self) -> bool {
        self == Layout::ExplicitBig
    }

    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.is_big() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.is_big() { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// True when the bytes after the file meta information are a deflate stream (PS3.5 A.5).
pub fn is_deflated(transfer_syntax_uid: &str) -> bool {
    let uid = transfer_syntax_uid.trim_matches([' ', '\0']);
    ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"].contains(&uid)
}

impl DataSet {
    /// An empty data set whose text will be in these character sets; declares them when they are not plain ASCII.
    pub fn new(charset: CharacterSets) -> DataSet {
        let mut set = DataSet { elements: Vec::new(), charset };
        let value = set.charset.value();
        if !value.is_empty() {
            set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, &value);
        }
        set
    }

    /// An empty item of a sequence: its text is in the character sets of what is around it, which declares them.
    pub fn inside(charset: &CharacterSets) -> DataSet {
        DataSet { elements: Vec::new(), charset: charset.clone() }
    }

    /// The elements, in the order of their tags where they were written by us, else as they came.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// The first element of an attribute.
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.elements.iter().find(|e| e.tag == tag)
    }

    /// The value of an attribute as text, decoded, without padding; empty when there is none.
    pub fn text(&self, tag: Tag) -> String {
        self.get(tag).map(|e| e.text(&self.charset)).unwrap_or_default()
    }

    /// The first of the values of an attribute.
    pub fn first(&self, tag: Tag) -> String {
        self.texts(tag).into_iter().next().unwrap_or_default()
    }

    /// The values of an attribute, each without padding.
    pub fn texts(&self, tag: Tag) -> Vec<String> {
        match self.text(tag) {
            none if none.is_empty() => Vec::new(),
            text => text.split('\\').map(|v| v.trim_matches([' ', '\0']).to_string()).collect(),
        }
    }

    /// A UID; empty when the value is none.
    pub fn uid(&self, tag: Tag) -> String {
        Some(self.first(tag)).filter(|uid| is_uid(uid)).unwrap_or_default()
    }

    /// A whole number: US, UL, or digits of IS.
    pub fn number(&self, tag: Tag) -> Option<u32> {
        let element = self.get(tag)?;
        match (element.vr, element.bytes()) {
            (VR::US, [a, b, ..]) => Some(u32::from(u16::from_le_bytes([*a, *b]))),
            (VR::UL, [a, b, c, d, ..]) => Some(u32::from_le_bytes([*a, *b, *c, *d])),
            _ => self.first(tag).trim().parse().ok(),
        }
    }

    /// The items of a sequence; none when there is no such sequence.
    pub fn items(&self, tag: Tag) -> &[DataSet] {
        match self.get(tag).map(|e| &e.value) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// The first item of a sequence.
    pub fn item(&self, tag: Tag) -> Option<&DataSet> {
        self.items(tag).first()
    }

    /// Puts an element where its tag belongs, in place of one of the same tag.
    pub fn put(&mut self, element: Element) {
        match self.elements.iter_mut().find(|e| e.tag == element.tag) {
            Some(old) => *old = element,
            None => {
                let at = self.elements.partition_point(|e| e.tag < element.tag);
                self.elements.insert(at, element);
            }
        }
    }

    /// Puts text, in the character sets of this data set. False when a character did not fit and became `?`.
    pub fn put_text(&mut self, tag: Tag, vr: VR, text: &str) -> bool {
        let (bytes, clean) = match takes_charset(vr) {
            true => self.charset.encode(text, vr == VR::PN),
            false => (text.as_bytes().to_vec(), text.is_ascii()),
        };
        self.put(Element { tag, vr, value: Value::Bytes(bytes) });
        clean
    }

    /// Puts US.
    pub fn put_u16(&mut self, tag: Tag, number: u16) {
        self.put(Element { tag, vr: VR::US, value: Value::Bytes(number.to_le_bytes().to_vec()) });
    }

    /// Puts a sequence.
    pub fn put_items(&mut self, tag: Tag, items: Vec<DataSet>) {
        self.put(Element { tag, vr: VR::SQ, value: Value::Items(items) });
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, tag: Tag) {
        self.elements.retain(|e| e.tag != tag);
    }

    /// The data set as bytes, sequences and items with their lengths, values padded to even length.
    pub fn write(&self, layout: Layout) -> Vec<u8> {
        let mut out = Vec::new();
        write::data_set(&mut out, layout, self);
        out
    }
}

impl Element {
    /// The bytes of the value; none for a sequence.
    pub fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Bytes(bytes) => bytes,
            Value::Items(_) | Value::Fragments(_) | Value::PassedOver(_) => &[],
        }
    }

    /// The value as text without padding.
    fn text(&self, charset: &CharacterSets) -> String {
        let bytes = self.bytes();
        let text = match takes_charset(self.vr) {
            true => charset.decode(bytes, self.vr == VR::PN).text,
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
        // Leading blanks mean something in long text only (PS3.5 6.2).
        let text = text.trim_end_matches([' ', '\0']);
        match self.vr {
            VR::LT | VR::ST | VR::UT => text.to_string(),
            _ => text.trim_start_matches(' ').to_string(),
        }
    }
}

/// Prints no value: that may be a patient's (invariant I8).
impl std::fmt::Debug for DataSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.elements).finish()
    }
}

impl std::fmt::Debug for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({:04X},{:04X}) {} ", self.tag.0, self.tag.1, self.vr.to_string())?;
        match &self.value {
            Value::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Value::Items(items) => items.fmt(f),
            Value::Fragments(bytes) => write!(f, "{} bytes of fragments", bytes.len()),
            Value::PassedOver(bytes) => write!(f, "{bytes} bytes, passed over"),
        }
    }
}

/// Value representations that (0008,0005) speaks of (PS3.5 6.1.2.3); UN may be any of them.
fn takes_charset(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT | VR::UN)
}
