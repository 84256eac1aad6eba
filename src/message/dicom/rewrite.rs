//! Changing a data set on its way to one destination: a profile that takes the patient out, and the site's own rules.
//!
//! The original is only read. What stands before the pixel data is read, changed and written anew; the pixel data is
//! passed on as it is, from [`Rewritten::resume_at`], without being held. A data set that cannot be read to its pixel
//! data, or that must not leave without its patient being taken out of the pixels too, is refused and parked: nothing
//! goes out half changed.

use super::deidentify::{self, Action, Pseudonyms};
use super::{
    CharacterSets, DOCUMENT_BYTES_MAX, DataSet, Element, End, Limits, Tag, VR, Value, is_deflated, tags,
    value_representation, walk,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;

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

/// A data set that was changed up to its pixel data.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// What goes out in place of the bytes before `resume_at`, without file meta information.
    pub head: Vec<u8>,
    /// Byte of the original from which it goes on as it is; its length when nothing more follows.
    pub resume_at: u64,
    /// The SOP Instance UID it now has.
    pub sop_instance_uid: String,
    /// The Study Instance UID it now has.
    pub study_instance_uid: String,
}

/// Why a data set cannot be changed; the instance is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRewritable {
    /// A deflated data set would have to be inflated whole.
    #[error(
        "a deflated data set cannot be changed on its way; send it without changes, or have the modality send it plain"
    )]
    Deflated,
    /// What stands before the pixel data cannot all be read.
    #[error("the data set cannot be read up to its pixel data, so it cannot be said what is left in it")]
    Unreadable,
    /// The pixels show the patient.
    #[error("the object says that text is burned into its pixels (0028,0301), which no profile takes out")]
    BurnedIn,
    /// A document that may name the patient anywhere.
    #[error("an encapsulated document may name the patient anywhere in it, and is not opened")]
    Document,
    /// A value that the object's character sets cannot say.
    #[error("a coerced value has characters that the object's character sets lack")]
    Charset,
}

impl NotRewritable {
    /// The kebab-case reason under which it is parked and counted.
    pub fn reason(self) -> &'static str {
        match self {
            NotRewritable::Deflated => "rewrite-deflated",
            NotRewritable::Unreadable => "rewrite-unreadable",
            NotRewritable::BurnedIn => "rewrite-burned-in",
            NotRewritable::Document => "rewrite-document",
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
        let given = [self.set.is_some(), self.remove, self.replace.is_some()].into_iter().filter(|g| *g).count();
        let fixed = [tags::SPECIFIC_CHARACTER_SET, tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID];
        if given != 1 {
            Some("give exactly one of set, remove and replace")
        } else if self.with.is_some() != self.replace.is_some() {
            Some("replace and with belong together")
        } else if fixed.contains(&tag) || tag.0 < 0x0008 || tag.0 >= 0x7fe0 || tag.1 == 0 {
            Some("this attribute says what the object is, and is not changed")
        } else if self.set.is_some() && value_representation(tag).is_none_or(|vr| vr == VR::SQ) {
            Some("its value representation is not known here; it can only be removed or replaced")
        } else {
            None
        }
    }
}

/// Changes a file or a bare data set. `secret` is the destination's key, from which new UIDs and pseudonyms are made.
pub fn rewrite(
    original: impl Read,
    transfer_syntax_uid: &str,
    changes: &Changes,
    secret: &[u8],
) -> Result<Rewritten, NotRewritable> {
    let limits = Limits { bytes: DOCUMENT_BYTES_MAX, value_bytes: DOCUMENT_BYTES_MAX };
    let walked = walk(original, transfer_syntax_uid, limits);
    let syntax = if walked.transfer_syntax_uid.is_empty() { transfer_syntax_uid } else { &walked.transfer_syntax_uid };
    if is_deflated(syntax) {
        return Err(NotRewritable::Deflated);
    }
    if !matches!(walked.end, End::PixelData | End::Whole) {
        return Err(NotRewritable::Unreadable);
    }
    let mut set = walked.data_set;
    if changes.deidentify.is_some() {
        if set.first(tags::BURNED_IN_ANNOTATION) == "YES" {
            return Err(NotRewritable::BurnedIn);
        }
        if set.get(tags::ENCAPSULATED_DOCUMENT).is_some() {
            return Err(NotRewritable::Document);
        }
        treat(&mut set, &Pseudonyms::new(secret));
        set.put_text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES");
        set.put_text(tags::DEIDENTIFICATION_METHOD, VR::LO, deidentify::METHOD);
        set.put_text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, "REMOVED");
    }
    // Group lengths would be wrong now; they are retired outside of group 2.
    set.elements.retain(|e| e.tag.1 != 0);
    for rule in &changes.coerce {
        coerce(&mut set, rule)?;
    }
    Ok(Rewritten {
        head: set.write(walked.layout),
        resume_at: walked.ended_at as u64,
        sop_instance_uid: set.uid(tags::SOP_INSTANCE_UID),
        study_instance_uid: set.uid(tags::STUDY_INSTANCE_UID),
    })
}

/// Does what the basic profile says to every attribute, sequences included.
fn treat(set: &mut DataSet, pseudonyms: &Pseudonyms) {
    let charset = set.charset.clone();
    set.elements.retain_mut(|element| {
        let action = deidentify::basic(element.tag, element.vr);
        match action {
            Action::Remove => return false,
            Action::Empty => element.value = Value::Bytes(Vec::new()),
            Action::Dummy => write_ascii(element, deidentify::dummy(element.vr)),
            Action::NewUid => {
                let uids = element.text(&charset);
                let uids: Vec<String> = uids.split('\\').map(|uid| pseudonyms.uid(uid)).collect();
                write_ascii(element, &uids.join("\\"));
            }
            Action::Pseudonym => {
                let name = pseudonyms.name(&format!("{:?}", element.tag), &element.text(&charset));
                write_ascii(element, &name);
            }
            Action::Keep => {
                if let Value::Items(items) = &mut element.value {
                    items.iter_mut().for_each(|item| treat(item, pseudonyms));
                }
            }
        }
        true
    });
}

fn write_ascii(element: &mut Element, text: &str) {
    element.value = Value::Bytes(text.as_bytes().to_vec());
}

fn coerce(set: &mut DataSet, rule: &Rule) -> Result<(), NotRewritable> {
    let Some(tag) = tag(&rule.tag) else { return Ok(()) };
    if rule.remove {
        set.remove(tag);
        return Ok(());
    }
    let spelled = set.get(tag).map(|e| e.vr).filter(|vr| *vr != VR::UN);
    let Some(vr) = spelled.or_else(|| value_representation(tag)).filter(|vr| *vr != VR::SQ) else { return Ok(()) };
    let value = match (&rule.set, &rule.replace, &rule.with) {
        (Some(value), ..) => value,
        (None, Some(old), Some(new)) if set.get(tag).is_some() && set.text(tag) == *old => new,
        _ => return Ok(()),
    };
    if set.charset == CharacterSets::default() && !value.is_ascii() || !set.put_text(tag, vr, value) {
        return Err(NotRewritable::Charset);
    }
    Ok(())
}

/// `0008,0080`, in parentheses or not.
fn tag(text: &str) -> Option<Tag> {
    let (group, element) = text.trim_matches(['(', ')', ' ']).split_once(',')?;
    let number = |digits: &str| (digits.len() == 4).then(|| u16::from_str_radix(digits, 16).ok()).flatten();
    Some(Tag(number(group)?, number(element)?))
}

#[cfg(test)]
mod tests;
