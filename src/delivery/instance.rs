//! What the outbox holds of an image: a reference to the file it was spooled to. The bytes go from that file to the
//! network as they are (invariant I5), or with a head that is made anew for this destination: always the same from the
//! same file, the same settings and the same journal, so that a retry carries the same bytes here too. The file itself
//! is only read.
//!
//! Heads that are made anew are in memory until their last byte was sent, and no longer: not while the pixels behind them go,
//! nor while the answer is waited for. All connections to all destinations together have room for `USUAL_BYTES_MAX` of
//! usual heads, which are of nearly all images and far below 1 MB, and for `LARGEST_BYTES_MAX` of longer ones, so that
//! these never keep the others waiting. Who finds no room waits, first come, first served, but only for `ROOM_WAIT`.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::config::{Order, Routed};
use super::dicom::object::{Content, Header, ObjectFault};
use super::{Config, Outcome};
use crate::journal::{Journal, NewOutbound};
use crate::message::dicom::rewrite::{Changes, Extent, NotRewritable, rewrite};
use crate::message::dicom::{DOCUMENT_BYTES_MAX, FileMeta};

/// Most bytes of usual heads in memory, over all connections. While a head is changed it counts as [`Extent::room`] says.
const USUAL_BYTES_MAX: usize = 32 << 20;
/// The same of longer ones: one is changed while another is sent.
const LARGEST_BYTES_MAX: usize = Extent::LARGEST.room(u64::MAX) + DOCUMENT_BYTES_MAX;
const _: () = assert!(4 * Extent::USUAL.room(u64::MAX) < USUAL_BYTES_MAX);

/// How long an image waits for room before it lets others of its destination go first.
const ROOM_WAIT: Duration = Duration::from_secs(20);

/// The bytes that are left of [`USUAL_BYTES_MAX`].
static USUAL: Semaphore = Semaphore::const_new(USUAL_BYTES_MAX);
/// The bytes that are left of [`LARGEST_BYTES_MAX`].
static LARGEST: Semaphore = Semaphore::const_new(LARGEST_BYTES_MAX);

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
#[derive(Clone)]
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
            charted: Vec::new(),
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
    /// The outcome of the attempt. What is gone, damaged or cannot be changed is for a person; what the disk did not give,
    /// or found no room in time, is tried again.
    pub(super) async fn find(&self, body: &[u8]) -> Result<Stored, Outcome> {
        let (mut stored, original) = self.0.open(body)?;
        if !self.are_changed() {
            return Ok(stored);
        }
        let original = Arc::new(original);
        // Room for the longest head is asked for only where there is one.
        for (extent, free) in [(Extent::USUAL, &USUAL), (Extent::LARGEST, &LARGEST)] {
            let room = u32::try_from(extent.room(stored.file.bytes())).unwrap_or(u32::MAX);
            let Ok(Ok(room)) = timeout(ROOM_WAIT, free.acquire_many(room)).await else {
                return Err(Outcome::unclear("no room in memory to change it: others are changed or sent just now"));
            };
            let (shelf, original) = (Arc::clone(&self.0), Arc::clone(&original));
            let changing = tokio::task::spawn_blocking(move || shelf.change(stored, &original, extent, room));
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
        extent: Extent,
        mut room: SemaphorePermit<'static>,
    ) -> Result<Changed, Outcome> {
        let (class, syntax) = (&stored.header.sop_class_uid, &stored.header.transfer_syntax_uid);
        let rewritten = match rewrite(original, class, syntax, &self.changes, &self.pseudonym_key, extent) {
            Err(NotRewritable::TooLong) if extent != Extent::LARGEST => return Ok(Changed::Longer(stored)),
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
    pub fn data_set(self) -> Content {
        self.file.behind(self.header.data_set_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::dicom::object::Chunks;
    use crate::delivery::{Protocol, Scope};
    use crate::message::dicom::rewrite::Rule;
    use crate::message::dicom::{CharacterSets, DataSet, Layout, VR, tags};

    /// A folder of images that go to two destinations with a value of their own.
    struct Folder {
        dir: tempfile::TempDir,
        ours: Images,
        theirs: Images,
    }

    impl Folder {
        fn new() -> Folder {
            let dir = tempfile::tempdir().unwrap();
            let rule = Rule { tag: "0008,0080".into(), set: Some("HAUS 1".into()), ..Rule::default() };
            let changes = Changes { deidentify: None, coerce: vec![rule] };
            let [ours, theirs] = [(); 2].map(|()| Images::changed(dir.path().into(), changes.clone(), [0; 32]));
            Folder { dir, ours, theirs }
        }

        /// The outbox body of a new file with so many bytes of text, and of pixels behind it.
        fn file(&self, text: usize, pixels: usize) -> Vec<u8> {
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
            set.put_text(tags::TEXT_VALUE, VR::UT, &"x".repeat(text));
            let mut bytes = [meta.write(), set.write(Layout::ExplicitLittle)].concat();
            bytes.extend([0xe0, 0x7f, 0x10, 0, b'O', b'W', 0, 0]);
            bytes.extend((pixels as u32).to_le_bytes());
            bytes.resize(bytes.len() + pixels, 7);
            let name = format!("{text}-{pixels}.dcm");
            std::fs::write(self.dir.path().join(&name), &bytes).unwrap();
            Reference {
                spool: name,
                sop_class_uid: class.into(),
                sop_instance_uid: instance.into(),
                transfer_syntax_uid: syntax.into(),
                bytes: bytes.len() as u64,
                conflict: false,
            }
            .body()
        }
    }

    /// The room is that of the process.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Bytes of heads in memory: usual ones, and longer ones.
    fn held() -> (usize, usize) {
        (USUAL_BYTES_MAX - USUAL.available_permits(), LARGEST_BYTES_MAX - LARGEST.available_permits())
    }

    /// Nothing else happens here: the clock goes on only while everybody waits.
    #[tokio::test(start_paused = true)]
    async fn i6_heads_have_a_bound_and_one_that_waits_for_room_stops_none_but_those_that_are_as_long() {
        let _alone = ALONE.lock().await;
        let folder = Folder::new();
        let (small, large, longer) = (folder.file(10, 4), folder.file(30 << 20, 4), folder.file(33 << 20, 4));
        let first = folder.ours.find(&large).await.ok().unwrap();
        assert_eq!(held(), (0, first.file.made.len()), "what was had for changing it is given back");
        let second = folder.theirs.find(&large).await.ok().unwrap();
        let waiting = folder.ours.find(&large);
        tokio::pin!(waiting);
        assert!(timeout(ROOM_WAIT / 2, &mut waiting).await.is_err());
        let third = tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no room for it"),
            third = folder.theirs.find(&small) => third.ok().unwrap(),
        };
        assert_eq!(held().0, third.file.made.len());
        // It does not wait for ever, and others of its destination go first then.
        let outcome = waiting.await.err().unwrap();
        assert!(matches!(&outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
        drop((first, second, third));
        let refused = folder.theirs.find(&longer).await.err().unwrap();
        assert!(
            matches!(&refused, Outcome::Refused { reason } if reason.starts_with("rewrite-too-long")),
            "{refused:?}"
        );
        assert!(folder.ours.find(&large).await.is_ok());
        assert_eq!(held(), (0, 0));
    }

    #[tokio::test]
    async fn i6_a_head_that_was_sent_is_let_go_while_its_pixels_still_go() {
        let _alone = ALONE.lock().await;
        let folder = Folder::new();
        let stored = folder.ours.find(&folder.file(2 << 20, 1 << 20)).await.ok().unwrap();
        let bytes = stored.file.made.len();
        assert_eq!(held(), (0, bytes));
        let mut chunks = Chunks::open(stored.data_set(), 1000, 0).unwrap();
        let (mut sent, mut lasts) = (0, 0);
        while let Some(piece) = chunks.next().await.unwrap() {
            sent += piece.bytes.len();
            lasts += usize::from(piece.is_last);
            // A few pieces are ahead.
            if sent + 10_000 < bytes {
                assert_eq!(held(), (0, bytes), "after {sent}");
            } else if sent >= bytes {
                assert_eq!(held(), (0, 0), "after {sent}");
            }
        }
        assert!(sent > bytes + (1 << 19) && lasts == 1);
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
