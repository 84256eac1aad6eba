//! A request about a performed step as it is kept and as it is sent on: a DICOM file whose preamble, free for whoever
//! writes it (PS3.10 7.1), names the request.

use crate::message::dicom::{DataSet, FileMeta, Limits, Walked, tags, walk};

/// What reads the requests, and its version.
pub const READER: &str = "mpps@1";

/// Bytes of the preamble.
const PREAMBLE_BYTES: usize = 128;
/// What the preamble says.
const CREATE: &[u8] = b"AFFERENT N-CREATE";
const SET: &[u8] = b"AFFERENT N-SET";

/// Which request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// N-CREATE.
    Create,
    /// N-SET.
    Set,
}

/// A request as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which it is.
    pub kind: Kind,
    /// Of which step.
    pub sop_instance_uid: String,
    /// How the data set is encoded.
    pub transfer_syntax_uid: String,
    /// Who sent it.
    pub source_ae_title: String,
    /// Byte at which the data set begins.
    pub begins_at: usize,
    /// What it says.
    pub data_set: DataSet,
}

/// Which request these bytes hold; `None` when they hold none.
pub fn kind(raw: &[u8]) -> Option<Kind> {
    let preamble = raw.get(..PREAMBLE_BYTES)?;
    let is = |name: &[u8]| preamble.strip_prefix(name).is_some_and(|rest| rest.iter().all(|b| *b == 0));
    match () {
        () if is(CREATE) => Some(Kind::Create),
        () if is(SET) => Some(Kind::Set),
        () => None,
    }
}

/// Reads a request that was kept; `None` when these bytes hold none.
pub fn read(raw: &[u8]) -> Option<Kept> {
    let kind = kind(raw)?;
    let limits = Limits { bytes: raw.len(), value_bytes: raw.len() };
    let Walked { data_set, file_meta, transfer_syntax_uid, begins_at, .. } = walk(raw, "", limits);
    let sop_instance_uid = file_meta.uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
    let source_ae_title = file_meta.first(tags::SOURCE_APPLICATION_ENTITY_TITLE);
    Some(Kept { kind, sop_instance_uid, transfer_syntax_uid, source_ae_title, begins_at, data_set })
}

/// The bytes under which a request is kept.
pub fn write(kind: Kind, meta: &FileMeta<'_>, data_set: &[u8]) -> Vec<u8> {
    let mut bytes = meta.write();
    let name = match kind {
        Kind::Create => CREATE,
        Kind::Set => SET,
    };
    bytes.iter_mut().zip(name).for_each(|(byte, own)| *byte = *own);
    bytes.extend_from_slice(data_set);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::dicom::{Layout, VR};
    use crate::wire::dimse::uid;

    #[test]
    fn a_request_is_read_as_it_was_kept_and_nothing_else_is_one() {
        let mut said = DataSet::default();
        said.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
        let data_set = said.write(Layout::ImplicitLittle);
        let meta = FileMeta {
            sop_class_uid: uid::PERFORMED_PROCEDURE_STEP,
            sop_instance_uid: "2.25.7",
            transfer_syntax_uid: uid::IMPLICIT_VR_LITTLE_ENDIAN,
            source_ae_title: "VIVID",
        };
        let raw = write(Kind::Set, &meta, &data_set);
        let kept = read(&raw).unwrap();
        assert_eq!(
            (kept.kind, kept.sop_instance_uid.as_str(), kept.source_ae_title.as_str()),
            (Kind::Set, "2.25.7", "VIVID")
        );
        assert_eq!(kept.transfer_syntax_uid, uid::IMPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(raw[kept.begins_at..], data_set, "as it came (I2, I5)");
        assert_eq!(kept.data_set.first(tags::PERFORMED_PROCEDURE_STEP_STATUS), "COMPLETED");
        for other in [&b"{\"spool\":\"1.dcm\"}"[..], &meta.write(), b"AFFERENT N-SET"] {
            assert!(read(other).is_none());
        }
    }
}
