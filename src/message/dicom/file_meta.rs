//! The head of a DICOM file (PS3.10 clause 7.1): preamble, prefix, and file meta information in Explicit VR Little
//! Endian.

use crate::wire::dimse::uid;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

/// Bytes before the prefix.
pub const PREAMBLE_BYTES: usize = 128;
/// What tells a DICOM file.
pub const PREFIX: &[u8; 4] = b"DICM";
/// Longest AE title (PS3.5 table 6.2-1). Trailing blanks mean nothing.
const AE_TITLE_BYTES: usize = 16;

/// What the head of a file says of the data set that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMeta<'a> {
    /// (0002,0002), from the command that brought it.
    pub sop_class_uid: &'a str,
    /// (0002,0003), from the command that brought it.
    pub sop_instance_uid: &'a str,
    /// (0002,0010): how the data set is encoded.
    pub transfer_syntax_uid: &'a str,
    /// (0002,0016): who sent it; left out when blank.
    pub source_ae_title: &'a str,
}

impl FileMeta<'_> {
    /// Preamble, `DICM` and group 2. The data set follows as it came.
    pub fn write(&self) -> Vec<u8> {
        let mut group = Vec::new();
        element(&mut group, tags::FILE_META_INFORMATION_VERSION, VR::OB, &[0, 1]);
        element(&mut group, tags::MEDIA_STORAGE_SOP_CLASS_UID, VR::UI, self.sop_class_uid.as_bytes());
        element(&mut group, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, VR::UI, self.sop_instance_uid.as_bytes());
        element(&mut group, tags::TRANSFER_SYNTAX_UID, VR::UI, self.transfer_syntax_uid.as_bytes());
        element(&mut group, tags::IMPLEMENTATION_CLASS_UID, VR::UI, uid::IMPLEMENTATION_CLASS.as_bytes());
        element(&mut group, tags::IMPLEMENTATION_VERSION_NAME, VR::SH, uid::IMPLEMENTATION_VERSION_NAME.as_bytes());
        let source = self.source_ae_title.trim();
        if !source.is_empty() {
            // As long whoever sent it, so that an image that comes again fits into the place of a lost one.
            let source = format!("{source:AE_TITLE_BYTES$}");
            element(&mut group, tags::SOURCE_APPLICATION_ENTITY_TITLE, VR::AE, source.as_bytes());
        }
        let mut file = vec![0; PREAMBLE_BYTES];
        file.extend_from_slice(PREFIX);
        let length = u32::try_from(group.len()).unwrap_or(u32::MAX);
        element(&mut file, tags::FILE_META_INFORMATION_GROUP_LENGTH, VR::UL, &length.to_le_bytes());
        file.extend(group);
        file
    }
}

/// One element of group 2. Every value here is far below 64 KB: UIDs and titles.
fn element(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
    super::write::element(out, super::Layout::ExplicitLittle, tag, vr, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_group_length_is_that_of_what_follows(class in "[0-9.]{1,64}", instance in "[0-9.]{1,64}", ae in "[A-Z ]{0,16}") {
            let meta = FileMeta {
                sop_class_uid: &class,
                sop_instance_uid: &instance,
                transfer_syntax_uid: "1.2.840.10008.1.2",
                source_ae_title: &ae,
            };
            let file = meta.write();
            prop_assert_eq!(&file[..PREAMBLE_BYTES], &[0; PREAMBLE_BYTES]);
            prop_assert_eq!(&file[PREAMBLE_BYTES..132], PREFIX);
            let length = u32::from_le_bytes(file[140..144].try_into().unwrap());
            prop_assert_eq!(length as usize, file.len() - 144);
            let read = dicom_object::FileMetaTable::from_reader(&file[PREAMBLE_BYTES..]).unwrap();
            prop_assert_eq!(read.media_storage_sop_class_uid().trim_end_matches('\0'), &class);
            prop_assert_eq!(read.media_storage_sop_instance_uid().trim_end_matches('\0'), &instance);
            prop_assert_eq!(read.transfer_syntax().trim_end_matches('\0'), "1.2.840.10008.1.2");
            let source = read.source_application_entity_title.as_deref().map(str::trim).unwrap_or_default();
            prop_assert_eq!(source, ae.trim());
        }
    }

    #[test]
    fn the_names_fit_their_places() {
        assert!(uid::IMPLEMENTATION_VERSION_NAME.len() <= 16 && uid::IMPLEMENTATION_CLASS.len() <= 64);
    }
}
