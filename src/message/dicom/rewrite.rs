//! Changing a data set on its way to one destination: a profile that takes the patient out, and the site's own rules.
//!
//! The original is only read. Under a profile what stands before the pixel data is read, changed and written anew. Where
//! only single attributes are changed all others go byte for byte, whatever is odd about them. The pixel data is passed
//! on as it is, from [`Rewritten::resume_at`] to [`Rewritten::end_at`], without being held.
//!
//! What stands behind the pixel data is left out where the patient is taken out: in a lawful object that is private
//! groups, digital signatures and padding, none of which the profile keeps. Where only single attributes are changed it
//! goes as it is. An object that has there what belongs before the pixel data is not changed at all: it might say what the
//! pixels show, or a rule might be about it.
//!
//! | not changed, and so not sent | why |
//! |---|---|
//! | deflated; not readable up to its pixel data or behind it, or the pixel data cut short; attributes behind it that belong before it; of more than 32 MB without the pixels | nobody can say what would be left in it |
//! | under a profile: Burned In Annotation (0028,0301) is YES | the pixels show the patient |
//! | under a profile: it is not NO, and the object is an ultrasound, secondary capture or visible light image, was converted from film, paper or video (0008,0064), or is a saved screen (0008,0008) | such pixels often show the patient |
//! | under a profile: it is not NO, and the class is a maker's own | nobody knows what such pixels show |
//! | under a profile: an attribute stands in it twice; among the rules: one to be replaced does, with two values | the other may be the one that counts, such as a Burned In Annotation |
//! | under a profile: the group of the pixel data (7FE0) holds what is no pixels | pixels are passed on as they are |
//! | under a profile: an overlay lies in bits of the pixels that the image leaves free (PS3.5 8.1.2, retired) | it may name the patient, and pixels are passed on as they are |
//! | under a profile: an encapsulated document | it may name the patient anywhere |
//! | under a profile: no SOP Class UID (0008,0016), or another than it is sent under | nobody can say what it is |

use super::deidentify::{self, Action, Pseudonyms};
use super::{
    CharacterSets, DOCUMENT_BYTES_MAX, DataSet, ELEMENTS_MAX, Element, End, HEAD_BYTES_MAX, Layout, Limits, Tag, VR,
    Value, is_deflated, standard_value_representation, tags, walk_up_to, write,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::{Range, RangeInclusive};

/// Kinds of objects whose pixels often hold text: ultrasound, the same with many frames, secondary capture, visible light.
/// Each with the kinds below it.
const TEXT_IN_PIXELS: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.77.1",
];
/// Above all classes of the Standard (PS3.6 annex A).
const STANDARD_CLASSES: &str = "1.2.840.10008";
/// Image Type (0008,0008) of a picture of a screen.
const SAVED_SCREEN: [&str; 2] = ["SCREEN SAVE", "SCREENSAVE"];
/// How often the bytes before the pixel data are in memory while they are changed: read, understood, written.
const COPIES: usize = 3;
/// Most bytes that an element or an item takes besides its value while it is understood.
const ELEMENT_BYTES: usize = 256;
/// The fewest bytes that an element or an item has.
const HEAD_BYTES_MIN: usize = 8;
// An item has room for four elements as soon as it has one; a list that grows is there twice, and so are the places.
const _: () = assert!(2 * size_of::<DataSet>() + 4 * size_of::<Element>() <= ELEMENT_BYTES);
const _: () = assert!(3 * size_of::<Element>() + 3 * size_of::<(Tag, Range<usize>)>() + 32 <= ELEMENT_BYTES);
/// The groups of overlays.
const OVERLAYS: RangeInclusive<u16> = 0x6000..=0x60ff;
/// The group of pixel data in all its forms.
const PIXEL_GROUP: u16 = 0x7fe0;
/// What the Standard has in it: its length, where frames lie, pixels as integers and as floats (PS3.6).
const PIXELS: [u16; 7] = [0x0000, 0x0001, 0x0002, 0x0003, 0x0008, 0x0009, 0x0010];
const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;

/// What a destination gets other than it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Take out who the patient is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deidentify: Option<Profile>,
    /// Single attributes, after the profile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coerce: Vec<Rule>,
}

/// Profiles that take out who the patient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Basic Application Level Confidentiality Profile (PS3.15 annex E), without its options.
    Basic,
}

/// What becomes of one attribute of the data set itself, not of its sequences. Exactly one of `set`, `remove` and
/// `replace` is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The attribute, such as `0008,0080`.
    pub tag: String,
    /// The value it gets, whether it was there or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Takes it out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// The value that is replaced, where it is exactly this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<String>,
    /// What `replace` puts in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
}

/// How much may stand before the pixel data of a data set that is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub bytes: usize,
    /// Elements and items.
    pub elements: usize,
}

impl Extent {
    /// Of nearly all objects.
    pub const USUAL: Extent = Extent { bytes: HEAD_BYTES_MAX, elements: 10_000 };
    /// Beyond this nothing is changed.
    pub const LARGEST: Extent = Extent { bytes: DOCUMENT_BYTES_MAX, elements: ELEMENTS_MAX };

    /// Most bytes of memory that it takes to change a data set of so many bytes, pixel data and all.
    pub const fn room(self, file_bytes: u64) -> usize {
        let bytes = if file_bytes < self.bytes as u64 { file_bytes as usize } else { self.bytes };
        let elements = if bytes / HEAD_BYTES_MIN < self.elements { bytes / HEAD_BYTES_MIN } else { self.elements };
        COPIES * bytes + ELEMENT_BYTES * elements
    }
}

/// A data set that was changed up to its pixel data.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// What goes out in place of the bytes before `resume_at`, without file meta information.
    pub head: Vec<u8>,
    /// Byte of the original from which it goes on as it is.
    pub resume_at: u64,
    /// Byte of the original before which it ends; the same when nothing more follows.
    pub end_at: u64,
    /// The SOP Instance UID it now has.
    pub sop_instance_uid: String,
}

/// Why a data set is not changed. The instance is parked, except for [`NotRewritable::Unread`], which may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRewritable {
    /// A deflated data set would have to be inflated whole.
    #[error(
        "a deflated data set cannot be changed on its way; send it without changes, or have the modality send it plain"
    )]
    Deflated,
    /// What stands around the pixel data cannot all be read.
    #[error("the data set cannot all be read, so it cannot be said what would be left in it")]
    Unreadable,
    /// More before the pixel data than is read.
    #[error("it has more before its pixel data than is read of one object (32 MB, 200,000 elements)")]
    TooLong,
    /// The disk did not give it.
    #[error("the stored image cannot be read: {0}")]
    Unread(io::ErrorKind),
    /// The pixels show the patient.
    #[error("the object says that text is burned into its pixels (0028,0301), which no profile takes out")]
    BurnedIn,
    /// The pixels may show the patient.
    #[error(
        "images of its kind often show the patient, and it does not say that its pixels are free of text (0028,0301)"
    )]
    PerhapsBurnedIn,
    /// What is drawn over the image lies in the pixels.
    #[error("an overlay (60xx) lies in the pixel data, between the bits of the image, and no profile takes it out")]
    OverlayInPixels,
    /// It says of something twice what it is, and one of the two may name the patient or decide what may leave.
    #[error("an attribute stands in it twice, so it cannot be said which of the two counts")]
    Twice,
    /// What would go as pixels is none.
    #[error("among its pixel data (7FE0) stands an attribute that is no pixels, and which may name the patient")]
    AmongPixels,
    /// A document that may name the patient anywhere.
    #[error("an encapsulated document may name the patient anywhere in it, and is not opened")]
    Document,
    /// What it says it is decides what its pixels may show.
    #[error("the SOP class in the data set (0008,0016) is missing or not the one it was sent under")]
    Class,
    /// A value nobody can read or write as text.
    #[error(
        "an attribute to be replaced holds no text, or neither the object nor the Standard says that it does; \
         remove it instead"
    )]
    Representation,
    /// A value that the object's character sets cannot say.
    #[error("a coerced value has characters that the object's character sets lack")]
    Charset,
}

impl NotRewritable {
    /// The kebab-case reason under which it is parked and counted, or waits.
    pub fn reason(self) -> &'static str {
        match self {
            NotRewritable::Deflated => "rewrite-deflated",
            NotRewritable::Unreadable => "rewrite-unreadable",
            NotRewritable::TooLong => "rewrite-too-long",
            NotRewritable::Unread(_) => "rewrite-unread",
            NotRewritable::BurnedIn => "rewrite-burned-in",
            NotRewritable::PerhapsBurnedIn => "rewrite-perhaps-burned-in",
            NotRewritable::OverlayInPixels => "rewrite-overlay-in-pixels",
            NotRewritable::Twice => "rewrite-twice",
            NotRewritable::AmongPixels => "rewrite-among-pixels",
            NotRewritable::Document => "rewrite-document",
            NotRewritable::Class => "rewrite-class",
            NotRewritable::Representation => "rewrite-representation",
            NotRewritable::Charset => "rewrite-charset",
        }
    }
}

impl Changes {
    /// True when everything goes out as it came.
    pub fn is_empty(&self) -> bool {
        self.deidentify.is_none() && self.coerce.is_empty()
    }

    /// What is wrong with the rules, in words for the one who wrote them.
    pub fn fault(&self) -> Option<String> {
        self.coerce.iter().find_map(|rule| rule.fault().map(|fault| format!("rule for `{}`: {fault}", rule.tag)))
    }
}

impl Rule {
    fn fault(&self) -> Option<&'static str> {
        let Some(tag) = tag(&self.tag) else { return Some("a tag is four hexadecimal digits, a comma and four more") };
        let standard = standard_value_representation(tag);
        let given = [self.set.is_some(), self.remove, self.replace.is_some()].into_iter().filter(|g| *g).count();
        let fixed = [tags::SPECIFIC_CHARACTER_SET, tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID];
        if given != 1 {
            Some("give exactly one of set, remove and replace")
        } else if self.with.is_some() != self.replace.is_some() {
            Some("replace and with belong together")
        } else if fixed.contains(&tag) || tag.0 < 0x0008 || tag.0 >= 0x7fe0 || tag.1 == 0 {
            Some("this attribute says what the object is, and is not changed")
        } else if !self.remove && standard.is_some_and(|vr| !is_text(vr)) {
            Some("its value is no text; it can only be removed")
        } else if self.set.is_some() && standard.is_none() {
            Some("its value representation is not known here; it can only be removed or replaced")
        } else {
            None
        }
    }
}

/// Changes a file or a bare data set, which is sent under `sop_class_uid`. `secret` is the destination's key, from which
/// new UIDs and pseudonyms are made. What stands before the pixel data may be of this extent, and takes as much memory
/// meanwhile as [`Extent::room`] says.
pub fn rewrite(
    mut original: impl Read + Seek,
    sop_class_uid: &str,
    transfer_syntax_uid: &str,
    changes: &Changes,
    secret: &[u8],
    extent: Extent,
) -> Result<Rewritten, NotRewritable> {
    let limits = Limits { bytes: extent.bytes, value_bytes: extent.bytes };
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => NotRewritable::Unreadable,
        kind => NotRewritable::Unread(kind),
    };
    original.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    // The profile writes all anew and asks for no places.
    let wants_places = changes.deidentify.is_none();
    let walked = walk_up_to(extent.elements, &mut original, transfer_syntax_uid, limits, wants_places);
    let syntax = if walked.transfer_syntax_uid.is_empty() { transfer_syntax_uid } else { &walked.transfer_syntax_uid };
    if is_deflated(syntax) || is_deflated(transfer_syntax_uid) {
        return Err(NotRewritable::Deflated);
    }
    let resume_at = walked.ended_at as u64;
    let (pixels_end_at, is_pixels_alone) = match walked.end {
        End::Whole => (resume_at, true),
        End::PixelData => pixels_end(&mut original, walked.layout, resume_at).map_err(unreadable)?,
        End::Cut | End::Depth | End::Disorder => return Err(NotRewritable::Unreadable),
        End::Limit => return Err(NotRewritable::TooLong),
        End::Unread(kind) => return Err(NotRewritable::Unread(kind)),
    };
    if !is_lawful_behind_pixels(&mut original, walked.layout, pixels_end_at).map_err(unreadable)? {
        return Err(NotRewritable::Unreadable);
    }
    let (mut set, begins_at) = (walked.data_set, walked.begins_at as u64);
    if syntax != transfer_syntax_uid || set.uid(tags::SOP_INSTANCE_UID).is_empty() || !is_all_kept(&set) {
        return Err(NotRewritable::Unreadable);
    }
    let (head, end_at) = if changes.deidentify.is_some() {
        if walked.is_doubled {
            return Err(NotRewritable::Twice);
        }
        if !is_pixels_alone {
            return Err(NotRewritable::AmongPixels);
        }
        look_at_pixels(&set, sop_class_uid, walked.end == End::PixelData)?;
        treat(&mut set, &Pseudonyms::new(secret), "");
        set.put_text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES");
        set.put_text(tags::DEIDENTIFICATION_METHOD, VR::LO, deidentify::METHOD);
        set.put_text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, "REMOVED");
        coerce(&mut set, &changes.coerce)?;
        (set.write(walked.layout), pixels_end_at)
    } else {
        let end_at = original.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let mut came = Vec::new();
        original.seek(SeekFrom::Start(begins_at)).map_err(unreadable)?;
        original.by_ref().take(resume_at - begins_at).read_to_end(&mut came).map_err(unreadable)?;
        // It had more a moment ago.
        if came.len() as u64 != resume_at - begins_at {
            return Err(NotRewritable::Unreadable);
        }
        let elements_at: Vec<(Tag, Range<usize>)> = (walked.elements_at.iter())
            .map(|(tag, at)| (*tag, at.start - walked.begins_at..at.end - walked.begins_at))
            .collect();
        if is_ambiguous(&came, &elements_at, &changes.coerce) {
            return Err(NotRewritable::Twice);
        }
        let changed = coerce(&mut set, &changes.coerce)?;
        (spliced(&came, elements_at.into_iter(), &set, changed, walked.layout), end_at)
    };
    Ok(Rewritten { head, resume_at, end_at, sop_instance_uid: set.uid(tags::SOP_INSTANCE_UID) })
}

/// A head as it came, but for the attributes that are `changed`: they are as `set` has them.
fn spliced(
    came: &[u8],
    elements_at: impl Iterator<Item = (Tag, Range<usize>)>,
    set: &DataSet,
    mut changed: BTreeSet<Tag>,
    layout: Layout,
) -> Vec<u8> {
    let groups: BTreeSet<u16> = changed.iter().map(|tag| tag.0).collect();
    // A group's length would be wrong now; it is retired outside of group 2.
    let is_left_out: BTreeSet<Tag> = changed.iter().copied().chain(groups.into_iter().map(|g| Tag(g, 0))).collect();
    let (mut out, mut copied) = (Vec::with_capacity(came.len()), 0);
    let put = |out: &mut Vec<u8>, tag: Tag| {
        if let Some(element) = set.get(tag) {
            write::element(out, layout, tag, element.vr, element.bytes());
        }
    };
    for (tag, at) in elements_at {
        // What the walk passed over between two elements goes too.
        out.extend_from_slice(came.get(copied..at.start).unwrap_or_default());
        while changed.first().is_some_and(|next| *next <= tag)
            && let Some(next) = changed.pop_first()
        {
            put(&mut out, next);
        }
        if !is_left_out.contains(&tag) {
            out.extend_from_slice(came.get(at.clone()).unwrap_or_default());
        }
        copied = at.end;
    }
    out.extend_from_slice(came.get(copied..).unwrap_or_default());
    changed.into_iter().for_each(|tag| put(&mut out, tag));
    out
}

/// True when a rule asks for the value of an attribute that has two, or writes text where two character sets are declared.
fn is_ambiguous(came: &[u8], elements_at: &[(Tag, Range<usize>)], rules: &[Rule]) -> bool {
    let has_two = |wanted: Tag| {
        let mut all = elements_at.iter().filter(|(tag, _)| *tag == wanted).map(|(_, at)| came.get(at.clone()));
        let first = all.next();
        all.any(|other| Some(other) != first)
    };
    let is_asked_for = |rule: &Rule| rule.replace.is_some() && tag(&rule.tag).is_some_and(has_two);
    rules.iter().any(is_asked_for) || has_two(tags::SPECIFIC_CHARACTER_SET) && rules.iter().any(|rule| !rule.remove)
}

/// False when something was passed over, which would be missing from what is written.
fn is_all_kept(set: &DataSet) -> bool {
    set.elements.iter().all(|element| match &element.value {
        Value::PassedOver(_) => false,
        Value::Items(items) => items.iter().all(is_all_kept),
        Value::Bytes(_) | Value::Fragments(_) => true,
    })
}

/// Whether the pixels may leave under a profile.
fn look_at_pixels(set: &DataSet, class: &str, has_pixels: bool) -> Result<(), NotRewritable> {
    if set.get(tags::ENCAPSULATED_DOCUMENT).is_some() {
        return Err(NotRewritable::Document);
    }
    if class.is_empty() || set.uid(tags::SOP_CLASS_UID) != class {
        return Err(NotRewritable::Class);
    }
    // An image may say NO of its pixels and still have a name drawn over them.
    if has_pixels && has_overlay_in_pixels(set) {
        return Err(NotRewritable::OverlayInPixels);
    }
    match set.first(tags::BURNED_IN_ANNOTATION).to_ascii_uppercase().as_str() {
        "YES" => return Err(NotRewritable::BurnedIn),
        "NO" => return Ok(()),
        _ => {}
    }
    let is_below = |kind: &&str| class.strip_prefix(*kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_converted = !set.first(tags::CONVERSION_TYPE).is_empty();
    let is_saved_screen = |value: &String| SAVED_SCREEN.iter().any(|screen| value.eq_ignore_ascii_case(screen));
    let is_screen = set.texts(tags::IMAGE_TYPE).iter().any(is_saved_screen);
    match TEXT_IN_PIXELS.iter().any(is_below) || !is_below(&STANDARD_CLASSES) || is_converted || is_screen {
        true => Err(NotRewritable::PerhapsBurnedIn),
        false => Ok(()),
    }
}

/// Whether the pixels have bits that the image leaves free, and an overlay that does not lie wholly in data of its own:
/// it has no Overlay Data (60xx,3000), or is said to begin at another bit than the first. What does not say how its
/// pixels are laid out counts as having room.
fn has_overlay_in_pixels(set: &DataSet) -> bool {
    // By its bytes, as Implicit VR does not say that they are a number.
    let number = |tag| match set.get(tag).map(Element::bytes) {
        Some(&[low, high, ..]) => Some(u16::from_le_bytes([low, high])),
        _ => None,
    };
    let allocated = number(tags::BITS_ALLOCATED);
    if allocated.is_some_and(|bits| number(tags::BITS_STORED) == Some(bits)) {
        return false;
    }
    let of_overlays = set.elements.iter().map(|e| e.tag).filter(|tag| OVERLAYS.contains(&tag.0) && tag.0 % 2 == 0);
    of_overlays.filter(|tag| tag.1 != 0).any(|Tag(group, _)| {
        let has_data = set.get(Tag(group, 0x3000)).is_some_and(|data| !data.bytes().is_empty());
        !has_data || number(Tag(group, 0x0102)).is_some_and(|bit| bit != 0)
    })
}

/// The byte behind the group of the pixel data that begins at `at`, and whether nothing but pixels is in it, each once.
/// Only heads of elements and fragments are read.
fn pixels_end(original: &mut (impl Read + Seek), layout: Layout, mut at: u64) -> io::Result<(u64, bool)> {
    let end = original.seek(SeekFrom::End(0))?;
    let (mut looked_at, mut least, mut is_pixels_alone) = (0, 0, true);
    while let Some(ElementHead { tag: Tag(PIXEL_GROUP, number), bytes, length, .. }) = element_at(original, layout, at)?
    {
        is_pixels_alone &= number >= least && PIXELS.contains(&number);
        least = number.saturating_add(1);
        at += bytes;
        if length != UNDEFINED {
            at += u64::from(length);
        } else {
            loop {
                // Fragments stand in Implicit VR whatever is around them (PS3.5 A.4).
                let Some(ElementHead { tag, bytes, length, .. }) = element_at(original, Layout::ImplicitLittle, at)?
                else {
                    return Err(cut());
                };
                at += bytes;
                looked_at += 1;
                match tag {
                    SEQUENCE_END => break,
                    ITEM if length != UNDEFINED && looked_at < ELEMENTS_MAX => at += u64::from(length),
                    _ => return Err(cut()),
                }
            }
        }
    }
    if at <= end { Ok((at, is_pixels_alone)) } else { Err(cut()) }
}

/// False when among the elements behind the pixel data, which begin at `at`, is one that does not belong there. Only heads
/// of elements are read.
fn is_lawful_behind_pixels(original: &mut (impl Read + Seek), layout: Layout, mut at: u64) -> io::Result<bool> {
    let end = original.seek(SeekFrom::End(0))?;
    let mut looked_at = 0;
    while let Some(ElementHead { tag, vr, bytes, length }) = element_at(original, layout, at)? {
        looked_at += 1;
        if tag.0 <= PIXEL_GROUP || looked_at > ELEMENTS_MAX {
            return Ok(false);
        }
        at += bytes;
        at = match length {
            UNDEFINED => items_end(original, inside(vr, layout), at, &mut looked_at)?,
            _ => at + u64::from(length),
        };
    }
    Ok(at <= end)
}

/// The byte behind a sequence or fragments of undefined length, whose first item begins at `at`.
fn items_end(original: &mut (impl Read + Seek), layout: Layout, mut at: u64, looked_at: &mut usize) -> io::Result<u64> {
    // What holds the next element and has no length either: items, and between them sequences.
    let mut holders = vec![(SEQUENCE_END, layout)];
    while let Some(&(end, layout)) = holders.last() {
        let ElementHead { tag, vr, bytes, length } = element_at(original, layout, at)?.ok_or_else(cut)?;
        at += bytes;
        *looked_at += 1;
        let is_in_place = tag == end || if end == SEQUENCE_END { tag == ITEM } else { tag.0 != ITEM.0 };
        if !is_in_place || *looked_at > ELEMENTS_MAX {
            return Err(cut());
        }
        match (tag, length) {
            _ if tag == end => drop(holders.pop()),
            (ITEM, UNDEFINED) => holders.push((ITEM_END, layout)),
            (_, UNDEFINED) => holders.push((SEQUENCE_END, inside(vr, layout))),
            _ => at += u64::from(length),
        }
    }
    Ok(at)
}

/// The layout inside an element: items of UN are in Implicit VR Little Endian (PS3.5 6.2.2).
fn inside(vr: Option<VR>, layout: Layout) -> Layout {
    if vr == Some(VR::UN) { Layout::ImplicitLittle } else { layout }
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// The head of an element.
struct ElementHead {
    tag: Tag,
    /// As it is spelled.
    vr: Option<VR>,
    /// Bytes of the head.
    bytes: u64,
    /// Bytes of the value.
    length: u32,
}

/// The head of the element that begins at `at`; `None` at the end.
fn element_at(original: &mut (impl Read + Seek), layout: Layout, at: u64) -> io::Result<Option<ElementHead>> {
    original.seek(SeekFrom::Start(at))?;
    let mut head = Vec::new();
    original.take(12).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(None);
    }
    let u16_at =
        |at: usize| head.get(at..at + 2).and_then(|b| b.try_into().ok()).map(|b| layout.u16(b)).ok_or_else(cut);
    let u32_at =
        |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(|b| layout.u32(b)).ok_or_else(cut);
    let tag = Tag(u16_at(0)?, u16_at(2)?);
    let vr = match head.get(4..6) {
        // Items and their ends have none (PS3.5 7.5).
        Some(&[a, b]) if layout.is_explicit() && tag.0 != ITEM.0 => VR::from_binary([a, b]),
        _ => None,
    };
    let (bytes, length) = match vr {
        Some(vr) if write::is_long(vr) => (12, u32_at(8)?),
        Some(_) => (8, u32::from(u16_at(6)?)),
        None => (8, u32_at(4)?),
    };
    Ok(Some(ElementHead { tag, vr, bytes, length }))
}

/// Does what the basic profile says to every attribute, sequences included. `issuer`: of the patient IDs outside, which is
/// that of the IDs inside where these name none.
fn treat(set: &mut DataSet, pseudonyms: &Pseudonyms, issuer: &str) {
    let charset = set.charset.clone();
    let own = set.text(tags::ISSUER_OF_PATIENT_ID);
    let issuer = if own.is_empty() { issuer } else { own.as_str() };
    set.elements.retain_mut(|element| {
        let vr = standard_value_representation(element.tag).unwrap_or(element.vr);
        match deidentify::basic(element.tag, element.vr) {
            Action::Remove => return false,
            Action::Empty => element.value = Value::Bytes(Vec::new()),
            Action::Dummy => write_ascii(element, deidentify::dummy(vr)),
            Action::NewUid => {
                let uids = element.text(&charset);
                let uids: Vec<String> = uids.split('\\').map(|uid| pseudonyms.uid(uid)).collect();
                write_ascii(element, &uids.join("\\"));
            }
            Action::Pseudonym => {
                let issuer = if element.tag == tags::PATIENT_ID { issuer } else { "" };
                let name = pseudonyms.name(element.tag, issuer, &element.text(&charset));
                write_ascii(element, &name);
            }
            Action::Keep => match &mut element.value {
                Value::Items(items) => items.iter_mut().for_each(|item| treat(item, pseudonyms, issuer)),
                // Nobody can look into a sequence whose items were not found.
                Value::Bytes(bytes) if [vr, element.vr].contains(&VR::SQ) && !bytes.is_empty() => return false,
                _ => {}
            },
        }
        true
    });
}

fn write_ascii(element: &mut Element, text: &str) {
    element.value = Value::Bytes(text.as_bytes().to_vec());
}

/// Applies the rules. Which attributes they changed.
fn coerce(set: &mut DataSet, rules: &[Rule]) -> Result<BTreeSet<Tag>, NotRewritable> {
    let mut changed = BTreeSet::new();
    for rule in rules {
        let Some(tag) = tag(&rule.tag) else { continue };
        let there = set.get(tag);
        let value = match (&rule.set, &rule.replace, &rule.with) {
            (Some(value), ..) => value,
            (None, Some(_), Some(_)) if there.is_none() => continue,
            (None, Some(_), Some(new)) => new,
            _ => {
                if rule.remove && there.is_some() {
                    set.remove(tag);
                    changed.insert(tag);
                }
                continue;
            }
        };
        // Implicit VR spells none, and some senders write UN or OB for what they do not know.
        let known = [there.map(|e| e.vr), standard_value_representation(tag)];
        let vr = known.into_iter().flatten().find(|vr| is_text(*vr)).ok_or(NotRewritable::Representation)?;
        let said = there.map(|e| Element { vr, ..e.clone() }.text(&set.charset));
        if rule.replace.is_some() && rule.replace != said {
            continue;
        }
        if set.charset == CharacterSets::default() && !value.is_ascii() || !set.put_text(tag, vr, value) {
            return Err(NotRewritable::Charset);
        }
        changed.insert(tag);
    }
    Ok(changed)
}

/// Value representations whose values are text (PS3.5 6.2).
fn is_text(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UI | UR | UT)
}

/// `0008,0080`, in parentheses or not.
fn tag(text: &str) -> Option<Tag> {
    let (group, element) = text.trim_matches(['(', ')', ' ']).split_once(',')?;
    let number = |digits: &str| (digits.len() == 4).then(|| u16::from_str_radix(digits, 16).ok()).flatten();
    Some(Tag(number(group)?, number(element)?))
}

#[cfg(test)]
mod tests;
