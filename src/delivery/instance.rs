//! What the outbox holds of an image: a reference to the file it was spooled to. The bytes go from that file to the
//! network as they are (invariant I5), or with a head that is made anew for this destination: always the same from the
//! same file, the same settings and the same journal, so that a retry carries the same bytes here too. The file itself
//! is only read.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config::{Order, Routed};
use super::dicom::object::{Content, Header, ObjectFault};
use super::{Config, Outcome};
use crate::journal::{Journal, NewOutbound};
use crate::message::dicom::FileMeta;
use crate::message::dicom::rewrite::{Changes, NotRewritable, rewrite};

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
    /// An earlier image has the same SOP Instance UID and other bytes. Who has that one has not got this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conflict: bool,
}

/// The images of one destination: where they are, and what it gets other than it came.
#[derive(Clone)]
pub struct Images(Arc<Shelf>);

struct Shelf {
    spool: PathBuf,
    changes: Changes,
    /// Makes pseudonyms that only this journal can make, for this destination alone.
    pseudonym_key: [u8; 32],
}

/// An image that is about to be sent.
pub struct Stored {
    /// What its header says, or would if it had been written for this destination.
    pub header: Header,
    /// The whole file (PS3.10).
    pub file: Content,
    /// As in [`Reference`].
    pub conflict: bool,
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

impl Images {
    /// Those of a destination of this journal.
    pub fn new(config: &Config, journal: &Journal) -> Images {
        let folder = journal.spool().folder().to_owned();
        Images::changed(folder, config.changes(), journal.pseudonym_key(&config.name))
    }

    /// Those in a directory, as they came.
    pub fn unchanged(spool: PathBuf) -> Images {
        Images::changed(spool, Changes::default(), [0; 32])
    }

    /// Those in a directory, changed. New UIDs and pseudonyms are made with the key.
    pub fn changed(spool: PathBuf, changes: Changes, pseudonym_key: [u8; 32]) -> Images {
        Images(Arc::new(Shelf { spool, changes, pseudonym_key }))
    }

    /// True when the destination gets other bytes than came.
    pub(super) fn are_changed(&self) -> bool {
        !self.0.changes.is_empty()
    }

    /// Finds what an outbox body refers to and makes it ready to be sent.
    ///
    /// # Errors
    /// The outcome of the attempt: a person has to look.
    pub(super) async fn find(&self, body: &[u8]) -> Result<Stored, Outcome> {
        let (stored, original) = self.0.open(body)?;
        if !self.are_changed() {
            return Ok(stored);
        }
        let shelf = Arc::clone(&self.0);
        let changing = tokio::task::spawn_blocking(move || shelf.change(stored, original));
        changing.await.unwrap_or_else(|_| Err(Outcome::unclear("changing the image failed")))
    }
}

impl Shelf {
    fn open(&self, body: &[u8]) -> Result<(Stored, File), Outcome> {
        let refused = |reason: String| Outcome::Refused { reason };
        let reference: Reference = serde_json::from_slice(body)
            .map_err(|_| refused("the stored message is no reference to an image".to_owned()))?;
        // Names are made by the journal; one that leads elsewhere was not.
        if reference.spool.is_empty() || reference.spool.contains(['/', '\0']) || reference.spool.starts_with('.') {
            return Err(refused("the stored message names no spool file".to_owned()));
        }
        let path = self.spool.join(&reference.spool);
        let mut file = File::open(&path).map_err(ObjectFault::from)?;
        if file.metadata().map_err(ObjectFault::from)?.len() != reference.bytes {
            return Err(refused("the stored image has not the length it came with".to_owned()));
        }
        let header = Header::read(&mut file)?;
        let content = Content { made: Bytes::new(), path, stretch: 0..reference.bytes };
        Ok((Stored { header, file: content, conflict: reference.conflict }, file))
    }

    /// The same image as this destination gets it. What cannot be changed is for a person and never goes as it is.
    fn change(&self, stored: Stored, mut original: File) -> Result<Stored, Outcome> {
        let Stored { header, file, conflict } = stored;
        let refused = |why: NotRewritable| match why {
            NotRewritable::Unread(kind) => ObjectFault::Unread(kind).into(),
            _ => Outcome::Refused { reason: format!("{}: {why}", why.reason()) },
        };
        let (class, syntax) = (&header.sop_class_uid, &header.transfer_syntax_uid);
        let rewritten = rewrite(&mut original, class, syntax, &self.changes, &self.pseudonym_key);
        let rewritten = rewritten.map_err(refused)?;
        let mut made = FileMeta {
            sop_class_uid: &header.sop_class_uid,
            sop_instance_uid: &rewritten.sop_instance_uid,
            transfer_syntax_uid: &header.transfer_syntax_uid,
            // Where it came from is nobody's business here.
            source_ae_title: "",
        }
        .write();
        let header = Header { sop_instance_uid: rewritten.sop_instance_uid, data_set_at: made.len() as u64, ..header };
        made.extend(rewritten.head);
        let stretch = rewritten.resume_at..rewritten.end_at;
        Ok(Stored { header, file: Content { made: made.into(), path: file.path, stretch }, conflict })
    }
}

impl Stored {
    /// The data set, without the file's header.
    pub fn data_set(&self) -> Content {
        self.file.behind(self.header.data_set_at)
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
            conflict: false,
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
