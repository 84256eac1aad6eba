//! The head of a file in the spool (PS3.10 section 7.1): preamble, prefix, and group 2 in Explicit VR Little Endian. The
//! data set follows as it came.

use crate::wire::dimse::{Arrival, uid};

/// Bytes before the prefix, all zero.
const PREAMBLE: usize = 128;
const PREFIX: &[u8; 4] = b"DICM";

/// The head of the file of this instance.
pub fn header(arrival: &Arrival) -> Vec<u8> {
    let mut group = Vec::new();
    // The version has a length of four bytes, as OB does.
    group.extend_from_slice(&[2, 0, 1, 0, b'O', b'B', 0, 0, 2, 0, 0, 0, 0, 1]);
    put(&mut group, 0x0002, b"UI", &arrival.sop_class_uid, 0);
    put(&mut group, 0x0003, b"UI", &arrival.sop_instance_uid, 0);
    put(&mut group, 0x0010, b"UI", &arrival.transfer_syntax_uid, 0);
    put(&mut group, 0x0012, b"UI", uid::IMPLEMENTATION_CLASS, 0);
    put(&mut group, 0x0013, b"SH", uid::IMPLEMENTATION_VERSION_NAME, b' ');
    if !arrival.calling_ae_title.is_empty() {
        put(&mut group, 0x0016, b"AE", &arrival.calling_ae_title, b' ');
    }
    let mut header = vec![0; PREAMBLE];
    header.extend_from_slice(PREFIX);
    header.extend_from_slice(&[2, 0, 0, 0, b'U', b'L', 4, 0]);
    header.extend_from_slice(&(group.len() as u32).to_le_bytes());
    header.extend(group);
    header
}

/// One element of group 2. Every value is far below 64 KB: UIDs and titles.
fn put(to: &mut Vec<u8>, number: u16, representation: &[u8; 2], value: &str, padding: u8) {
    let length = value.len().next_multiple_of(2);
    to.extend_from_slice(&2u16.to_le_bytes());
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(representation);
    to.extend_from_slice(&(length as u16).to_le_bytes());
    to.extend_from_slice(value.as_bytes());
    to.extend(std::iter::repeat_n(padding, length - value.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_read_by_others_as_it_is_meant() {
        let arrival = Arrival {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_string(),
            sop_instance_uid: "1.2.34".to_string(),
            transfer_syntax_uid: uid::EXPLICIT_VR_LITTLE_ENDIAN.to_string(),
            calling_ae_title: "CT1".to_string(),
            called_ae_title: "AFFERENT".to_string(),
            message_id: 1,
        };
        let header = header(&arrival);
        let read = dicom_object::FileMetaTable::from_reader(&header[PREAMBLE..]).unwrap();
        assert_eq!(read.media_storage_sop_class_uid(), arrival.sop_class_uid);
        assert_eq!(read.media_storage_sop_instance_uid(), arrival.sop_instance_uid);
        assert_eq!(read.transfer_syntax(), arrival.transfer_syntax_uid);
        assert_eq!(read.source_application_entity_title.as_deref().map(str::trim), Some("CT1"));
        assert_eq!(read.information_group_length as usize, header.len() - 144);
    }
}
