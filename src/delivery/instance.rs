//! What the outbox holds of an image: a reference to the file it was spooled to. The bytes go from that file to the
//! network as they are (invariant I5).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{Order, Routed};
use super::dicom::object::{Damaged, Header};
use super::{Config, Outcome};
use crate::journal::NewOutbound;

/// The body of an outbox message that is an image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name of the spool file, a Part 10 file (PS3.10).
    pub spool: String,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018), which is also the message's id.
    pub sop_instance_uid: String,
    /// The transfer syntax of the data set.
    pub transfer_syntax_uid: String,
    /// Bytes of the file.
    pub bytes: u64,
}

/// An image that is about to be sent.
pub(super) struct Stored {
    pub path: PathBuf,
    pub header: Header,
}

impl Reference {
    /// The outbox message of this image for a destination; `None` when it does not go there. In order, a study is a lane
    /// (invariant I6); else each image is.
    pub fn outbound(&self, to: &Config, image: &Routed<'_>, study_instance_uid: &str) -> Option<NewOutbound> {
        let lane = match to.order {
            Order::Study => study_instance_uid,
            Order::Any => &self.sop_instance_uid,
        };
        to.takes_image(image).then(|| NewOutbound {
            destination: to.name.clone(),
            lane: lane.to_owned(),
            message_id: self.sop_instance_uid.clone(),
            body: self.body(),
            results: 1,
        })
    }

    /// The outbox body.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What it means that a stored image cannot be opened: a person has to look where it is gone; anything else, such as
/// too many open files, passes.
pub(super) fn unreadable(error: &io::Error) -> Outcome {
    let reason = format!("the stored image cannot be read: {}", error.kind());
    match error.kind() {
        io::ErrorKind::NotFound => Outcome::Refused { reason },
        _ => Outcome::unreachable(reason),
    }
}

impl Stored {
    /// Finds what an outbox body refers to.
    ///
    /// # Errors
    /// The outcome of the attempt: a person has to look.
    pub(super) fn find(spool: &Path, body: &[u8]) -> Result<Stored, Outcome> {
        let refused = |reason: String| Outcome::Refused { reason };
        let reference: Reference = serde_json::from_slice(body)
            .map_err(|_| refused("the stored message is no reference to an image".to_owned()))?;
        // Names are made by the journal; one that leads elsewhere was not.
        if reference.spool.is_empty() || reference.spool.contains(['/', '\0']) || reference.spool.starts_with('.') {
            return Err(refused("the stored message names no spool file".to_owned()));
        }
        let path = spool.join(&reference.spool);
        let mut file = File::open(&path).map_err(|e| unreadable(&e))?;
        if file.metadata().map_or(0, |found| found.len()) != reference.bytes {
            return Err(refused("the stored image has not the length it came with".to_owned()));
        }
        let header = Header::read(&mut file).map_err(|Damaged(why)| refused(why))?;
        Ok(Stored { path, header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Protocol;

    #[test]
    fn i6_a_study_is_a_lane_only_where_order_is_asked_for() {
        let reference = Reference {
            spool: "1.dcm".into(),
            sop_class_uid: "1.2".into(),
            sop_instance_uid: "2.25.1".into(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".into(),
            bytes: 1,
        };
        let (to, image) = (Config::new("pacs", Protocol::Dicom), Routed::default());
        let sent = reference.outbound(&to, &image, "2.25.9").unwrap();
        assert_eq!((sent.lane.as_str(), sent.message_id.as_str(), sent.results), ("2.25.1", "2.25.1", 1));
        assert!(serde_json::from_slice::<Reference>(&sent.body).unwrap() == reference);
        let in_order = Config { order: Order::Study, ..to };
        assert_eq!(reference.outbound(&in_order, &image, "2.25.9").unwrap().lane, "2.25.9");
        assert!(reference.outbound(&Config::new("ehr", Protocol::Mllp), &image, "2.25.9").is_none());
    }
}
