//! What the outbox holds of an image: a reference to the file it was spooled to. The bytes go from that file to the
//! network as they are (invariant I5), or with a head that is made anew for this destination: always the same from the
//! same file, the same settings and the same journal, so that a retry carries the same bytes here too. The file itself
//! is only read.
//!
//! Heads that are made anew are in memory until they are sent. All connections to all destinations together have room for
//! [`HEADS_BYTES_MAX`] of them; who finds none waits for another's image to be sent or to fail, first come, first served.
//! Most heads are far below 1 MB, so that a wait means several of the largest at once.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::{Order, Routed};
use super::dicom::object::{Content, Header, ObjectFault};
use super::{Config, Outcome};
use crate::journal::{Journal, NewOutbound};
use crate::message::dicom::rewrite::{COPIES, Changes, NotRewritable, rewrite};
use crate::message::dicom::{DOCUMENT_BYTES_MAX, FileMeta, HEAD_BYTES_MAX};

/// Most bytes of heads in memory, over all connections. While a head is changed it counts [`COPIES`] times.
const HEADS_BYTES_MAX: usize = 128 << 20;
const _: () = assert!(COPIES * DOCUMENT_BYTES_MAX < HEADS_BYTES_MAX);

/// The bytes that are left of [`HEADS_BYTES_MAX`].
static ROOM: Semaphore = Semaphore::const_new(HEADS_BYTES_MAX);

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
    /// The outcome of the attempt. What is gone, damaged or cannot be changed is for a person; what the disk did not give
    /// is tried again.
    pub(super) async fn find(&self, body: &[u8]) -> Result<Stored, Outcome> {
        let (mut stored, original) = self.0.open(body)?;
        if !self.are_changed() {
            return Ok(stored);
        }
        let original = Arc::new(original);
        // Room for the longest head is asked for only where there is one.
        for bytes_max in [HEAD_BYTES_MAX, DOCUMENT_BYTES_MAX] {
            let bytes = usize::try_from(stored.file.bytes()).unwrap_or(bytes_max).min(bytes_max);
            let room = u32::try_from(bytes * COPIES).unwrap_or(u32::MAX);
            let room = ROOM.acquire_many(room).await.map_err(|_| Outcome::unclear("the gateway stops"))?;
            let (shelf, original) = (Arc::clone(&self.0), Arc::clone(&original));
            let changing = tokio::task::spawn_blocking(move || shelf.change(stored, &original, bytes_max, room));
            match changing.await.unwrap_or_else(|_| Err(Outcome::unclear("changing the image failed")))? {
                Changed::Ready(changed) => return Ok(changed),
                Changed::Longer(unchanged) => stored = unchanged,
            }
        }
        Err(not_changed(NotRewritable::TooLong))
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
            return Err(ObjectFault::Damaged("the stored image has not the length it came with".to_owned()).into());
        }
        let header = Header::read(&mut file)?;
        let content = Content { made: Bytes::new(), path, stretch: 0..reference.bytes };
        Ok((Stored { header, file: content, conflict: reference.conflict }, file))
    }

    /// The same image as this destination gets it. What cannot be changed is for a person and never goes as it is. The
    /// room that was had for changing it shrinks to that of the new head, and is free again when that was sent.
    fn change(
        &self,
        stored: Stored,
        original: &File,
        bytes_max: usize,
        mut room: SemaphorePermit<'static>,
    ) -> Result<Changed, Outcome> {
        let (class, syntax) = (&stored.header.sop_class_uid, &stored.header.transfer_syntax_uid);
        let rewritten = match rewrite(original, class, syntax, &self.changes, &self.pseudonym_key, bytes_max) {
            Err(NotRewritable::TooLong) if bytes_max < DOCUMENT_BYTES_MAX => return Ok(Changed::Longer(stored)),
            rewritten => rewritten.map_err(not_changed)?,
        };
        let Stored { header, file, conflict } = stored;
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
        drop(room.split(room.num_permits().saturating_sub(made.len())));
        let made = Bytes::from_owner(Made { bytes: made, _room: room });
        let stretch = rewritten.resume_at..rewritten.end_at;
        Ok(Changed::Ready(Stored { header, file: Content { made, path: file.path, stretch }, conflict }))
    }
}

/// The outcome for an image that was not changed.
fn not_changed(why: NotRewritable) -> Outcome {
    let reason = format!("{}: {why}", why.reason());
    match why {
        NotRewritable::Unread(_) => Outcome::unclear(reason),
        _ => Outcome::Refused { reason },
    }
}

/// What came of an attempt to change an image.
enum Changed {
    Ready(Stored),
    /// Its head is longer than there was room for.
    Longer(Stored),
}

/// A head made anew, with the room it takes.
struct Made {
    bytes: Vec<u8>,
    _room: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Made {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
    use crate::message::dicom::rewrite::Rule;
    use crate::message::dicom::{CharacterSets, DataSet, Layout, VR, tags};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn i10_heads_of_all_connections_together_have_a_bound_and_the_next_waits_for_room() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, comment: usize| {
            let (class, instance) = ("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4");
            let syntax = "1.2.840.10008.1.2.1";
            let meta = FileMeta {
                sop_class_uid: class,
                sop_instance_uid: instance,
                transfer_syntax_uid: syntax,
                source_ae_title: "",
            };
            let mut set = DataSet::new(CharacterSets::default());
            set.put_text(tags::SOP_INSTANCE_UID, VR::UI, instance);
            set.put_text(tags::TEXT_VALUE, VR::UT, &"x".repeat(comment));
            let bytes = [meta.write(), set.write(Layout::ExplicitLittle)].concat();
            std::fs::write(folder.path().join(name), &bytes).unwrap();
            Reference {
                spool: name.into(),
                sop_class_uid: class.into(),
                sop_instance_uid: instance.into(),
                transfer_syntax_uid: syntax.into(),
                bytes: bytes.len() as u64,
                conflict: false,
            }
            .body()
        };
        let (small, large, longer) = (file("small", 10), file("large", 30 << 20), file("longer", 33 << 20));
        let rule = Rule { tag: "0008,0080".into(), set: Some("HAUS 1".into()), ..Rule::default() };
        let changes = Changes { deidentify: None, coerce: vec![rule] };
        let [ours, theirs] = [(); 2].map(|()| Images::changed(folder.path().into(), changes.clone(), [0; 32]));
        let held = || HEADS_BYTES_MAX - ROOM.available_permits();
        let first = ours.find(&large).await.ok().unwrap();
        assert_eq!(held(), first.file.made.len(), "what was had for changing it is given back");
        let second = theirs.find(&large).await.ok().unwrap();
        // Nothing else happens here: the clock goes on only while everybody waits.
        assert!(tokio::time::timeout(Duration::from_secs(3600), ours.find(&large)).await.is_err());
        let third = ours.find(&small).await.ok().unwrap();
        assert_eq!(held(), [&first, &second, &third].map(|one| one.file.made.len()).iter().sum::<usize>());
        let (bytes, sent) = (second.file.made.len(), second.data_set());
        drop((first, second, third));
        assert_eq!(held(), bytes, "it is still being sent");
        drop(sent);
        let refused = theirs.find(&longer).await.err().unwrap();
        assert!(
            matches!(&refused, Outcome::Refused { reason } if reason.starts_with("rewrite-too-long")),
            "{refused:?}"
        );
        assert!(ours.find(&large).await.is_ok());
        assert_eq!(held(), 0);
    }

    #[test]
    fn what_the_disk_does_not_give_is_tried_again_and_says_why() {
        match not_changed(NotRewritable::Unread(std::io::ErrorKind::PermissionDenied)) {
            Outcome::Retry { reason, .. } => {
                assert_eq!(reason, "rewrite-unread: the stored image cannot be read: permission denied");
            }
            other => panic!("{other:?}"),
        }
        let parked = not_changed(NotRewritable::Deflated);
        assert!(
            matches!(&parked, Outcome::Refused { reason } if reason.starts_with("rewrite-deflated: ")),
            "{parked:?}"
        );
    }

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
