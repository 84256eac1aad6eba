//! The walk through a data set: one pass, no step back, every length checked against what holds it.
//!
//! | oddity | what is done |
//! |---|---|
//! | a length longer than what holds it | cut to that; the damage ends with the item |
//! | an item or a sequence without its end | ended by what cannot stand inside it |
//! | VR UN or unknown, with items | read as a sequence, Implicit VR as PS3.5 6.2.2 says, or what the bytes prove |
//! | another layout than the transfer syntax says | what the first bytes prove |
//! | no preamble, no file meta information, a whole file as data set | found by its prefix or its group |
//! | a length beyond the end, a nesting without end | the walk ends there ([`End`]) |

use super::super::note;
use super::{
    CharacterSets, DEPTH_MAX, DataSet, ELEMENTS_MAX, Element, Layout, Oddity, Tag, VR, Value, is_deflated, tags,
    value_representation, write,
};
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// Most elements that may come out of the order of their tags; real objects have a few.
const DISORDER_MAX: usize = 256;
/// Bytes asked of the reader at once.
const CHUNK_BYTES: usize = 1 << 15;
const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);
const TRAILING_PADDING: Tag = Tag(0xfffc, 0xfffc);
/// The group of pixel data in all its forms.
const PIXEL_GROUP: u16 = 0x7fe0;

/// How much is read and kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes read, inflated ones where the data set is deflated.
    pub bytes: usize,
    /// Longest value kept.
    pub value_bytes: usize,
}

/// Where and why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the data set.
    Whole,
    /// Before the pixel data.
    PixelData,
    /// The bytes end inside an element.
    Cut,
    /// At the limit of bytes or elements.
    Limit,
    /// Nested deeper than is read.
    Depth,
    /// With more elements out of the order of their tags than are sorted.
    Disorder,
    /// The reader failed there; what it would have given is not known.
    Unread(ErrorKind),
}

/// What a walk found.
#[derive(Debug)]
pub struct Walked {
    /// The data set, without the file meta information.
    pub data_set: DataSet,
    /// The file meta information; the outer one where a file lies in another, empty without.
    pub file_meta: DataSet,
    /// The transfer syntax the file meta information names; empty without.
    pub transfer_syntax_uid: String,
    /// How the data set is really laid out.
    pub layout: Layout,
    /// Where each element of the data set itself lies, in the order in which they came; both of one that stands twice.
    /// Empty unless asked for.
    pub elements_at: Vec<(Tag, Range<usize>)>,
    /// Byte at which the data set begins.
    pub begins_at: usize,
    /// Byte at which the walk ended: of the file, or of the inflated data set.
    pub ended_at: usize,
    /// Why it ended.
    pub end: End,
    /// Some element stands twice, and only the first was kept.
    pub is_doubled: bool,
    /// What is odd; the record is the tag as a number.
    pub oddities: Vec<Oddity>,
}

/// Walks a file or a bare data set up to its pixel data. A transfer syntax that the file itself names counts more.
pub fn walk(reader: impl Read, transfer_syntax_uid: &str, limits: Limits) -> Walked {
    walk_up_to(ELEMENTS_MAX, reader, transfer_syntax_uid, limits, false)
}

/// As [`walk`], with a limit of elements, and telling where they lie when that is wanted.
pub fn walk_up_to(
    elements_max: usize,
    reader: impl Read,
    transfer_syntax_uid: &str,
    limits: Limits,
    wants_places: bool,
) -> Walked {
    let mut walker = Walker::new(reader, limits, elements_max, wants_places);
    let (mut named, mut file_meta) = (String::new(), DataSet::default());
    // Some senders put a whole file where the data set belongs; ours then stands around theirs.
    for layer in 0..2 {
        if let Some(meta) = walker.file_meta() {
            if layer > 0 {
                walker.note(Tag(2, 0), "a whole file was sent as data set");
            }
            let uid = meta.uid(tags::TRANSFER_SYNTAX_UID);
            if !uid.is_empty() {
                named = uid;
            }
            if layer == 0 {
                file_meta = meta;
            }
        }
    }
    let syntax = if named.is_empty() { transfer_syntax_uid } else { &named };
    let begins_at = walker.at;
    if is_deflated(syntax) {
        walker.inflate();
    }
    // Without a transfer syntax the default one holds (PS3.5 10.1).
    let declared = if syntax.is_empty() { Layout::ImplicitLittle } else { Layout::of(syntax) };
    let layout = walker.proven(declared, true);
    if layout != declared && !syntax.is_empty() {
        walker.note(Tag(2, 0x10), "the data set is not encoded as its transfer syntax says");
    }
    let mut data_set = DataSet::default();
    let whole = Within { end: usize::MAX, is_delimited: false };
    walker.elements(&mut data_set, whole, layout, 0);
    let end = walker.end.unwrap_or(End::Whole);
    if end == End::Cut {
        walker.note(Tag(0, 0), "the data set is cut short");
    }
    Walked {
        data_set,
        file_meta,
        transfer_syntax_uid: named,
        layout,
        elements_at: walker.elements_at,
        begins_at,
        ended_at: walker.at,
        end,
        is_doubled: walker.is_doubled,
        oddities: walker.oddities,
    }
}

/// Reads a whole data set from memory, such as the identifier of a query.
pub fn read_data_set(bytes: &[u8], transfer_syntax_uid: &str) -> Walked {
    walk(bytes, transfer_syntax_uid, Limits { bytes: bytes.len().saturating_add(1), value_bytes: usize::MAX })
}

/// What holds the elements that are being read.
#[derive(Clone, Copy)]
struct Within {
    /// Where it ends at the latest.
    end: usize,
    /// True when an item delimiter ends it.
    is_delimited: bool,
}

struct Header {
    tag: Tag,
    vr: Option<VR>,
    length: u32,
    bytes: usize,
}

struct Walker<R> {
    reader: R,
    buffer: Vec<u8>,
    is_drained: bool,
    /// Why the reader gave no more.
    failed: Option<ErrorKind>,
    limits: Limits,
    elements_max: usize,
    wants_places: bool,
    at: usize,
    /// Elements and items read so far.
    count: usize,
    /// Elements that did not come in the order of their tags.
    disorder: usize,
    end: Option<End>,
    elements_at: Vec<(Tag, Range<usize>)>,
    is_doubled: bool,
    oddities: Vec<Oddity>,
}

impl<R: Read> Walker<R> {
    fn new(reader: R, limits: Limits, elements_max: usize, wants_places: bool) -> Walker<R> {
        Walker {
            reader,
            buffer: Vec::new(),
            is_drained: false,
            failed: None,
            limits,
            elements_max,
            wants_places,
            at: 0,
            count: 0,
            disorder: 0,
            end: None,
            elements_at: Vec::new(),
            is_doubled: false,
            oddities: Vec::new(),
        }
    }

    /// True when the bytes before `end` can be had.
    fn has(&mut self, end: usize) -> bool {
        let wanted_end = end.min(self.limits.bytes);
        while self.buffer.len() < wanted_end && !self.is_drained {
            let before = self.buffer.len();
            let wanted = CHUNK_BYTES.min(self.limits.bytes - before);
            self.buffer.resize(before + wanted, 0);
            let read = loop {
                match self.reader.read(&mut self.buffer[before..]).map_err(|e| e.kind()) {
                    Err(ErrorKind::Interrupted) => {}
                    Err(kind) => {
                        self.failed = Some(kind);
                        break 0;
                    }
                    Ok(read) => break read,
                }
            };
            self.buffer.truncate(before + read);
            self.is_drained = read == 0;
        }
        self.buffer.len() >= end
    }

    fn note(&mut self, tag: Tag, what: &'static str) {
        note(&mut self.oddities, u32::from(tag.0) << 16 | u32::from(tag.1), what);
    }

    fn stop(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// The bytes end or are not read on.
    fn run_dry(&mut self, is_whole: bool) {
        self.stop(match (self.failed, self.is_drained, is_whole) {
            (Some(kind), ..) => End::Unread(kind),
            (None, false, _) => End::Limit,
            (None, true, true) => End::Whole,
            (None, true, false) => End::Cut,
        });
    }

    fn u16_at(&self, at: usize, layout: Layout) -> u16 {
        layout.u16([0, 1].map(|n| self.buffer.get(at + n).copied().unwrap_or_default()))
    }

    fn u32_at(&self, at: usize, layout: Layout) -> u32 {
        layout.u32([0, 1, 2, 3].map(|n| self.buffer.get(at + n).copied().unwrap_or_default()))
    }

    fn tag_at(&self, at: usize, layout: Layout) -> Tag {
        Tag(self.u16_at(at, layout), self.u16_at(at + 2, layout))
    }

    /// The value representation spelled at `at`.
    fn vr_at(&self, at: usize) -> Option<VR> {
        self.buffer.get(at..at + 2).and_then(|b| VR::from_binary([b[0], b[1]]))
    }

    /// Preamble, prefix and group 2, where they are.
    fn file_meta(&mut self) -> Option<DataSet> {
        let prefix_at = self.at + super::file_meta::PREAMBLE_BYTES;
        for at in [prefix_at, self.at] {
            if self.has(at + 4) && self.buffer[at..at + 4] == *super::file_meta::PREFIX {
                self.at = at + 4;
                break;
            }
        }
        let mut meta = DataSet::default();
        while self.end.is_none() && self.has(self.at + 8) && self.u16_at(self.at, Layout::ExplicitLittle) == 2 {
            let explicit = self.vr_at(self.at + 4).is_some();
            let layout = if explicit { Layout::ExplicitLittle } else { Layout::ImplicitLittle };
            self.element(&mut meta, Within { end: usize::MAX, is_delimited: false }, layout, 0);
        }
        (!meta.elements.is_empty()).then_some(meta)
    }

    /// Puts the inflated data set in place of the deflated one. What does not inflate is left as it is.
    fn inflate(&mut self) {
        use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};
        if self.has(self.at + 8)
            && self.vr_at(self.at + 4).is_some()
            && self.u16_at(self.at, Layout::ExplicitLittle) < 0x100
        {
            return self.note(Tag(2, 0x10), "the data set is not deflated as its transfer syntax says");
        }
        // A limit of its own: a stream of this length holds at least the wanted bytes, or is all there is.
        self.has(self.limits.bytes);
        let packed = self.buffer.get(self.at..).unwrap_or_default();
        let some = |tried: Result<Vec<u8>, miniz_oxide::inflate::DecompressError>| {
            let (inflated, is_all) = match tried {
                Ok(all) => (all, true),
                Err(e) => (e.output, false),
            };
            (!inflated.is_empty()).then_some((inflated, is_all))
        };
        let inflated = some(decompress_to_vec_with_limit(packed, self.limits.bytes))
            .or_else(|| some(decompress_to_vec_zlib_with_limit(packed, self.limits.bytes)));
        let Some((inflated, is_all)) = inflated else {
            self.note(Tag(2, 0x10), "the data set is not deflated as its transfer syntax says");
            return;
        };
        let is_full = inflated.len() >= self.limits.bytes;
        self.buffer = inflated;
        self.at = 0;
        self.is_drained = is_all || !is_full;
        if !is_all && !is_full {
            self.note(Tag(2, 0x10), "the deflated data set is damaged or cut short");
        }
    }

    /// The layout that the next element proves, else the declared one. At the start of a data set it proves the byte
    /// order too: groups are small there, and turned round they are large.
    fn proven(&mut self, declared: Layout, is_start: bool) -> Layout {
        // Files that lost their head may keep a byte of it.
        if is_start && self.has(self.at + 9) && self.vr_at(self.at + 4).is_none() && self.vr_at(self.at + 5).is_some() {
            self.note(Tag(0, 0), "a stray byte stands before the data set");
            self.at += 1;
        }
        if !self.has(self.at + 8) {
            return declared;
        }
        let group = self.u16_at(self.at, declared);
        if group == ITEM.0 {
            return declared;
        }
        let is_turned = is_start && group >= 0x100 && group.swap_bytes() < 0x100;
        match (self.vr_at(self.at + 4).is_some(), declared.is_big() != is_turned) {
            (true, true) => Layout::ExplicitBig,
            (true, false) => Layout::ExplicitLittle,
            (false, false) => Layout::ImplicitLittle,
            // Implicit VR Big Endian does not exist.
            (false, true) => declared,
        }
    }

    /// Elements until their holder ends.
    fn elements(&mut self, set: &mut DataSet, within: Within, layout: Layout, depth: usize) {
        while self.end.is_none() && self.at < within.end {
            if !self.has(self.at + 8) {
                let is_whole = depth == 0 && self.at == self.buffer.len();
                return self.run_dry(is_whole);
            }
            let tag = self.tag_at(self.at, layout);
            match tag {
                ITEM_END if within.is_delimited => {
                    self.at += 8;
                    return;
                }
                ITEM | SEQUENCE_END if within.is_delimited => {
                    return self.note(tag, "an item has no end");
                }
                Tag(0xfffe, _) => {
                    self.note(tag, "a delimiter stands where none belongs");
                    self.at += 8;
                }
                TRAILING_PADDING if depth == 0 => return self.stop(End::Whole),
                Tag(PIXEL_GROUP, _) if depth == 0 => return self.stop(End::PixelData),
                _ => {
                    let begin = self.at;
                    self.element(set, within, layout, depth);
                    if depth == 0 && self.wants_places {
                        self.elements_at.push((tag, begin..self.at));
                    }
                }
            }
        }
    }

    fn element(&mut self, set: &mut DataSet, within: Within, layout: Layout, depth: usize) {
        let Some(header) = self.header(within, layout) else { return };
        let Header { tag, vr, length, bytes } = header;
        self.count += 1;
        if self.count > self.elements_max {
            return self.stop(End::Limit);
        }
        self.at += bytes;
        let known = vr.filter(|vr| *vr != VR::UN).or_else(|| value_representation(tag)).unwrap_or(VR::UN);
        let value = match length {
            UNDEFINED => self.undefined(set, within, layout, depth, (tag, vr, known)),
            _ => self.defined(set, within, layout, depth, (tag, vr, known), length),
        };
        let Some(value) = value else { return };
        let vr = if matches!(value, Value::Items(_)) { VR::SQ } else { known };
        let element = Element { tag, vr, value };
        if tag == tags::SPECIFIC_CHARACTER_SET {
            let named = String::from_utf8_lossy(element.bytes()).into_owned();
            match CharacterSets::declared(&named) {
                Some(charset) => set.charset = charset,
                None => self.note(tag, "none of the character sets is known"),
            }
        }
        let is_in_order = set.elements.last().is_none_or(|last| last.tag < tag);
        self.disorder += usize::from(!is_in_order);
        if self.disorder > DISORDER_MAX {
            // Each is looked for among all before it.
            return self.stop(End::Disorder);
        }
        match is_in_order {
            true => set.elements.push(element),
            false if set.get(tag).is_some() => {
                self.is_doubled = true;
                self.note(tag, "an element stands twice");
            }
            false => {
                self.note(tag, "elements are not in order");
                set.elements.push(element);
            }
        }
    }

    fn header(&mut self, within: Within, layout: Layout) -> Option<Header> {
        let at = self.at;
        if within.end - at < 8 || !self.has(at + 8) {
            self.note(self.tag_at(at, layout), "an element is shorter than its head");
            self.at = within.end.min(self.buffer.len());
            return None;
        }
        let tag = self.tag_at(at, layout);
        let implicit = Header { tag, vr: None, length: self.u32_at(at + 4, layout), bytes: 8 };
        if !layout.is_explicit() {
            return Some(implicit);
        }
        let short_length = u32::from(self.u16_at(at + 6, layout));
        let short = |vr| Header { tag, vr, length: short_length, bytes: 8 };
        let vr = self.vr_at(at + 4);
        let is_spelled = self.buffer[at + 4..at + 6].iter().all(u8::is_ascii_uppercase);
        let is_reserved = self.u16_at(at + 6, layout) == 0;
        match vr {
            Some(vr) if !write::is_long(vr) => Some(short(Some(vr))),
            // A representation of later years has a long length (PS3.5 6.2.2); an empty short one looks the same.
            Some(_) => self.long(within, layout, tag, vr),
            None if is_spelled && is_reserved => {
                self.note(tag, "the value representation is not known");
                self.long(within, layout, tag, Some(VR::UN))
            }
            None => {
                self.note(tag, "the value representation is not known");
                let fits = at.saturating_add(implicit.length as usize + 8) <= within.end.min(self.limits.bytes);
                let taken = if !is_spelled && (fits || implicit.length == UNDEFINED) { implicit } else { short(None) };
                Some(taken)
            }
        }
    }

    fn long(&mut self, within: Within, layout: Layout, tag: Tag, vr: Option<VR>) -> Option<Header> {
        if within.end - self.at < 12 {
            self.note(tag, "an element is shorter than its head");
            self.at = within.end;
            return None;
        }
        if !self.has(self.at + 12) {
            self.run_dry(false);
            return None;
        }
        Some(Header { tag, vr, length: self.u32_at(self.at + 8, layout), bytes: 12 })
    }

    fn defined(
        &mut self,
        set: &DataSet,
        within: Within,
        layout: Layout,
        depth: usize,
        (tag, vr, known): (Tag, Option<VR>, VR),
        length: u32,
    ) -> Option<Value> {
        let begin = self.at;
        let mut end = begin.saturating_add(length as usize);
        if end > within.end {
            self.note(tag, "a value is longer than what holds it");
            end = within.end;
        }
        let is_unknown = vr.is_none_or(|vr| vr == VR::UN);
        let holds_items = known == VR::UN
            && end - begin >= 8
            && self.has(begin + 8)
            && self.tag_at(begin, layout) == ITEM
            && (self.u32_at(begin + 4, layout) as usize <= end - begin - 8
                || self.u32_at(begin + 4, layout) == UNDEFINED);
        if known == VR::SQ || holds_items {
            let inner = if is_unknown && layout.is_explicit() { Layout::ImplicitLittle } else { layout };
            let items = self.sequence(set, Within { end, is_delimited: false }, inner, depth + 1, is_unknown);
            if self.end.is_none() {
                self.at = end;
            }
            return items;
        }
        if !self.has(end) {
            // A part of a value would be another value.
            self.run_dry(false);
            return None;
        }
        self.at = end;
        if end - begin > self.limits.value_bytes {
            return Some(Value::PassedOver(length.into()));
        }
        let bytes = &self.buffer[begin..end];
        Some(Value::Bytes(if layout.is_big() { write::swapped(known, bytes) } else { bytes.to_vec() }))
    }

    fn undefined(
        &mut self,
        set: &DataSet,
        within: Within,
        layout: Layout,
        depth: usize,
        (tag, vr, known): (Tag, Option<VR>, VR),
    ) -> Option<Value> {
        if matches!(known, VR::OB | VR::OW | VR::OD | VR::OF | VR::OL | VR::OV) {
            return self.fragments(within, layout);
        }
        if known != VR::SQ && known != VR::UN {
            self.note(tag, "a value has no length");
        }
        let is_unknown = vr.is_none_or(|vr| vr == VR::UN);
        let inner = if is_unknown && layout.is_explicit() { Layout::ImplicitLittle } else { layout };
        let items = Within { end: within.end, is_delimited: true };
        self.sequence(set, items, inner, depth + 1, is_unknown)
    }

    /// The items of a sequence. With `is_unknown` nobody says how they are laid out, and each proves it.
    fn sequence(
        &mut self,
        set: &DataSet,
        within: Within,
        layout: Layout,
        depth: usize,
        is_unknown: bool,
    ) -> Option<Value> {
        if depth > DEPTH_MAX {
            self.note(Tag(0, 0), "sequences are nested too deep");
            self.stop(End::Depth);
            return None;
        }
        let mut items = Vec::new();
        while self.end.is_none() && self.at < within.end {
            if within.end - self.at < 8 || !self.has(self.at + 8) {
                match self.has(self.at + 8) {
                    true => self.at = within.end,
                    false => self.run_dry(false),
                }
                break;
            }
            let (tag, length) = (self.tag_at(self.at, layout), self.u32_at(self.at + 4, layout));
            match tag {
                ITEM => {
                    self.at += 8;
                    self.count += 1;
                    if self.count > self.elements_max {
                        self.stop(End::Limit);
                        break;
                    }
                    let mut end = self.at.saturating_add(length as usize);
                    let is_delimited = length == UNDEFINED;
                    if is_delimited {
                        end = within.end;
                    } else if end > within.end {
                        self.note(tag, "an item is longer than its sequence");
                        end = within.end;
                    }
                    let mut item = DataSet::inside(&set.charset);
                    let inner = if is_unknown && self.at < end { self.proven(layout, false) } else { layout };
                    self.elements(&mut item, Within { end, is_delimited }, inner, depth);
                    if !is_delimited && self.end.is_none() {
                        self.at = end;
                    }
                    items.push(item);
                }
                SEQUENCE_END => {
                    self.at += 8;
                    if within.is_delimited {
                        break;
                    }
                    self.note(tag, "a delimiter stands where none belongs");
                }
                ITEM_END => {
                    self.note(tag, "a delimiter stands where none belongs");
                    self.at += 8;
                }
                _ if within.is_delimited => {
                    self.note(tag, "a sequence has no end");
                    break;
                }
                _ => {
                    self.note(tag, "a sequence holds what is no item");
                    self.at = within.end;
                }
            }
        }
        Some(Value::Items(items))
    }

    /// Encapsulated fragments that stand before the pixel data, such as those of an icon.
    fn fragments(&mut self, within: Within, layout: Layout) -> Option<Value> {
        let begin = self.at;
        let kept = |bytes: &[u8], limit: usize| match bytes.len() <= limit {
            true => Value::Fragments(bytes.to_vec()),
            false => Value::PassedOver(bytes.len() as u64),
        };
        loop {
            if self.at.saturating_add(8) > within.end {
                self.note(ITEM, "fragments are longer than what holds them");
                self.stop(End::Cut);
                return None;
            }
            if !self.has(self.at.saturating_add(8)) {
                self.run_dry(false);
                return None;
            }
            let (tag, length) = (self.tag_at(self.at, layout), self.u32_at(self.at + 4, layout));
            self.at += 8;
            match tag {
                SEQUENCE_END => return Some(kept(&self.buffer[begin..self.at], self.limits.value_bytes)),
                ITEM if length != UNDEFINED => self.at = self.at.saturating_add(length as usize),
                _ => {
                    self.note(tag, "fragments hold what is no fragment");
                    self.at -= 8;
                    return Some(Value::PassedOver((self.at - begin) as u64));
                }
            }
        }
    }
}
