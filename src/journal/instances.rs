//! DICOM instances: entries whose bytes are a file of the spool.

use super::custody::{DAMAGED, INTERPRETED, WAITING};
use super::desk::Desk;
use super::error::JournalError;
use super::outbox::{self, DELIVERED, PARKED, PENDING};
use super::reader::Reader;
use super::seal::{Place, Seal};
use super::spool::{self, IMAGE_LOST, Spooled};
use super::types::{EntryId, OutboxId};
use crate::wire::dimse::Arrival;
use rusqlite::{OptionalExtension, Row};
use std::fs::File;
use std::path::PathBuf;

/// An instance that is in the spool and wants custody.
pub struct NewInstance {
    /// What its sender said of it.
    pub arrival: Arrival,
    /// Its bytes.
    pub spooled: Spooled,
}

/// What became of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptInstance {
    /// The entry it is, or was already.
    pub entry: EntryId,
    /// False when the very same instance was there already.
    pub is_new: bool,
    /// Its SOP Instance UID came before with other bytes, or another SOP class or transfer syntax. Both are kept.
    pub conflict: bool,
}

/// An instance in custody.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name of its file in the spool.
    pub spool: String,
    /// Bytes of the file before the data set.
    pub header_bytes: u64,
    /// Bytes of the data set.
    pub bytes: u64,
    /// SOP Class UID, as its sender said.
    pub sop_class_uid: String,
    /// SOP Instance UID, as its sender said.
    pub sop_instance_uid: String,
    /// Transfer syntax of the data set.
    pub transfer_syntax_uid: String,
    /// Who sent it.
    pub calling_ae_title: String,
    /// Whom it called.
    pub called_ae_title: String,
    /// An earlier one has the same SOP Instance UID and other bytes.
    pub conflict: bool,
    /// Keyed hash of the bytes: equal for equal ones.
    pub digest: [u8; 32],
    /// Why it need not be kept here though its modality was told that it is safe, as a person said.
    pub let_go: Option<String>,
}

impl Instance {
    /// What tells it from others under its SOP Instance UID: the same bytes of another class, or in another transfer syntax,
    /// are another image.
    pub fn content_key(&self) -> Vec<u8> {
        let Instance { digest, sop_class_uid, transfer_syntax_uid, .. } = self;
        [&digest[..], sop_class_uid.as_bytes(), b"\\", transfer_syntax_uid.as_bytes()].concat()
    }
}

impl std::fmt::Debug for Instance {
    /// Never prints its UID, which leads to a patient (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instance({}, {}, {} bytes)", self.sop_class_uid, self.transfer_syntax_uid, self.bytes)
    }
}

/// What the rows say of an instance that wants custody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Persisted {
    /// Its rows are made.
    New(KeptInstance),
    /// The very same image is on record, from the same sender: this file is to take the place of that one, which may be
    /// damaged or gone.
    Same(OnRecord),
    /// The same image is on record with another head, into whose place this file does not fit. It is a repeat if that
    /// one is whole, which takes as long to find out as it is large.
    OtherHead(OnRecord),
}

/// An image on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnRecord {
    pub entry: EntryId,
    /// Name of its file.
    pub spool: String,
    /// Bytes of the file before the data set.
    pub header_bytes: u64,
}

impl OnRecord {
    /// What became of the instance that is the same as this one.
    pub fn kept(&self) -> KeptInstance {
        KeptInstance { entry: self.entry, is_new: false, conflict: false }
    }
}

/// What an instance is known by among all of this journal: its SOP Instance UID, whoever sent it.
pub(super) fn identity(seal: &Seal, sop_instance_uid: &str) -> i64 {
    seal.hash("sop-instance", &[sop_instance_uid.as_bytes()])
}

/// Makes the rows of an instance whose file is durable. The same instance again makes no second row (invariant I4),
/// unless it is on record as these entries only, whose files are `lost`.
pub(super) fn persist(
    desk: &mut Desk<'_>,
    link: &str,
    new: &NewInstance,
    lost: &[EntryId],
) -> Result<Persisted, JournalError> {
    let Arrival { sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_ae_title, called_ae_title, .. } =
        &new.arrival;
    let identity = identity(desk.seal, sop_instance_uid);
    let digest = desk.seal.digest("instance", &[&new.spooled.digest]);
    let conflict = match on_record(desk, identity, &digest, new)? {
        Found::Nothing => false,
        Found::OtherBytes => true,
        Found::Same { fitting: Some(found), .. } => return Ok(Persisted::Same(found)),
        Found::Same { fitting: None, others } => match others.into_iter().find(|found| !lost.contains(&found.entry)) {
            Some(found) => return Ok(Persisted::OtherHead(found)),
            None => false,
        },
    };
    let (entry, waiting) = (desk.take_entry()?, desk.memory.take_waiting());
    desk.conn
        .prepare_cached(
            "INSERT INTO entry(id, link, received_ms, state, complete, waiting, parts, bytes, identity, digest, conflict)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, 0, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            entry,
            link,
            desk.now_ms,
            WAITING,
            waiting,
            new.spooled.bytes as i64,
            identity,
            digest,
            conflict,
        ))?;
    let sealed = desk.seal.seal(Place::Instance, entry, sop_instance_uid.as_bytes())?;
    desk.conn
        .prepare_cached(
            "INSERT INTO instance(entry, spool, header, sop_class, transfer_syntax, calling, called, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            entry,
            &new.spooled.name,
            new.spooled.header_bytes as i64,
            sop_class_uid,
            transfer_syntax_uid,
            calling_ae_title,
            called_ae_title,
            sealed,
        ))?;
    if conflict {
        tracing::warn!(link, entry, "a SOP Instance UID came again with other bytes: both are kept");
    }
    desk.memory.image_came();
    Ok(Persisted::New(KeptInstance { entry: EntryId(entry), is_new: true, conflict }))
}

/// The file of an entry is known to be whole: if it was set aside, it is read anew, and messages that were parked because
/// it was lost are sent.
pub(super) fn revive(desk: &mut Desk<'_>, entry: EntryId) -> Result<(), JournalError> {
    let waiting = desk.memory.take_waiting();
    let changed = desk
        .conn
        .prepare_cached(
            "UPDATE entry SET state = ?2, waiting = ?3, replays = replays + 1 WHERE id = ?1 AND state = ?4",
        )?
        .execute((entry, WAITING, waiting, DAMAGED))?;
    if changed > 0 {
        tracing::info!(entry = entry.0, "an image that was damaged is whole again: it was sent once more");
        desk.memory.wake_interpreter();
    }
    let parked: Vec<OutboxId> = {
        let mut statement = desk.conn.prepare_cached(
            "SELECT o.id FROM report r JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
             WHERE r.entry = ?1 AND o.state = ?2 AND substr(o.note, 1, length(?3)) = ?3",
        )?;
        statement.query_map((entry, PARKED, IMAGE_LOST), |r| r.get(0))?.collect::<Result<_, _>>()?
    };
    for id in parked {
        match outbox::requeue(desk, id) {
            Ok(()) => tracing::info!(entry = entry.0, outbox = id.0, "a message is sent whose image was lost"),
            // Something newer went out since.
            Err(JournalError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Messages that are parked because the file of their image was lost are given up for a whole copy of it that was filed as
/// this entry and goes where they were to go.
pub(super) fn settle_lost(desk: &Desk<'_>, copy: EntryId) -> Result<(), JournalError> {
    let parked: Vec<OutboxId> = {
        let mut statement = desk.conn.prepare_cached(
            "SELECT o.id FROM instance c JOIN entry e ON e.id = c.entry JOIN entry lost ON lost.identity = e.identity
             JOIN report r ON r.entry = lost.id JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
             WHERE c.entry = ?1 AND lost.id < ?1 AND o.state = ?2 AND substr(o.note, 1, length(?3)) = ?3",
        )?;
        statement.query_map((copy, PARKED, IMAGE_LOST), |r| r.get(0))?.collect::<Result<_, _>>()?
    };
    for id in parked {
        if let Some(note) = replaced_by_copy(desk, id)? {
            outbox::discard(desk, id, &note)?;
            tracing::info!(event = "message-given-up", outbox = id.0, "a parked message is given up: {note}");
        }
    }
    Ok(())
}

/// What was set aside because its file was lost before it was filed need not be sent again: a whole copy of the very same
/// image was filed as this entry.
pub(super) fn settle_damaged(desk: &Desk<'_>, copy: EntryId) -> Result<(), JournalError> {
    let settled = desk
        .conn
        .prepare_cached(
            "UPDATE entry SET state = ?2 WHERE state = ?3 AND id IN (
               SELECT lost.id FROM instance c JOIN entry e ON e.id = c.entry
               JOIN entry lost ON lost.identity = e.identity AND lost.digest = e.digest AND lost.id < e.id
               JOIN instance i ON i.entry = lost.id
                 AND i.sop_class = c.sop_class AND i.transfer_syntax = c.transfer_syntax
               WHERE c.entry = ?1)",
        )?
        .execute((copy, INTERPRETED, DAMAGED))?;
    if settled > 0 {
        tracing::info!(entry = copy.0, settled, "a whole copy came of images that were damaged");
    }
    Ok(())
}

/// Why nobody needs a message any more whose image is lost: the very same image came again as a newer entry, and went, or
/// goes, to the same destination.
pub(super) fn replaced_by_copy(desk: &Desk<'_>, lost: OutboxId) -> Result<Option<String>, JournalError> {
    let copy: Option<EntryId> = desk
        .conn
        .prepare_cached(
            "SELECT c.entry FROM outbox o JOIN dispatch d ON d.id = o.dispatch JOIN report r ON r.id = d.report
             JOIN entry e ON e.id = r.entry JOIN instance i ON i.entry = e.id
             JOIN entry same ON same.identity = e.identity AND same.digest = e.digest AND same.id > e.id
             JOIN instance c ON c.entry = same.id
               AND c.sop_class = i.sop_class AND c.transfer_syntax = i.transfer_syntax
             JOIN report cr ON cr.entry = c.entry JOIN dispatch cd ON cd.report = cr.id
             JOIN outbox co ON co.dispatch = cd.id
             WHERE o.id = ?1 AND co.destination = o.destination AND co.state IN (?2, ?3) LIMIT 1",
        )?
        .query_row((lost, PENDING, DELIVERED), |r| r.get(0))
        .optional()?;
    Ok(copy.map(|copy| format!("{IMAGE_LOST}: a whole copy of it came as entry {copy} and goes in its place")))
}

/// Removes an instance's rows, with its series and study when it is the last of them. The file is removed by name once
/// that is committed; how many bytes it counts for is told too.
pub(super) fn remove(desk: &Desk<'_>, entry: i64) -> Result<Option<(String, u64)>, JournalError> {
    let found: Option<(String, i64, Option<i64>)> = desk
        .conn
        .prepare_cached(
            "DELETE FROM instance WHERE entry = ?1
             RETURNING spool, header + (SELECT bytes FROM entry WHERE id = ?1), series",
        )?
        .query_row([entry], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((spool, bytes, series)) = found else { return Ok(None) };
    let study: Option<i64> = desk
        .conn
        .prepare_cached(
            "DELETE FROM series WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM instance WHERE series = ?1)
             RETURNING study",
        )?
        .query_row([series], |r| r.get(0))
        .optional()?;
    desk.conn
        .prepare_cached("DELETE FROM study WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM series WHERE study = ?1)")?
        .execute([study])?;
    Ok(Some((spool, bytes.unsigned_abs())))
}

/// What is on record under a SOP Instance UID.
enum Found {
    Nothing,
    /// Another image, be it by its SOP class or transfer syntax alone: the same bytes mean something else then.
    OtherBytes,
    /// The same image: with the head of the new one, whose place that can take, and with others.
    Same {
        fitting: Option<OnRecord>,
        others: Vec<OnRecord>,
    },
}

fn on_record(desk: &Desk<'_>, identity: i64, digest: &[u8; 32], new: &NewInstance) -> Result<Found, JournalError> {
    let mut statement = desk.conn.prepare_cached(
        "SELECT e.id, i.spool, i.header, i.calling,
                coalesce(e.digest = ?2, 0) AND i.sop_class = ?3 AND i.transfer_syntax = ?4
         FROM entry e JOIN instance i ON i.entry = e.id WHERE e.identity = ?1 ORDER BY e.id",
    )?;
    let arrival = &new.arrival;
    let mut rows = statement.query((identity, digest, &arrival.sop_class_uid, &arrival.transfer_syntax_uid))?;
    let (mut fitting, mut others, mut differs) = (None, Vec::new(), false);
    while let Some(row) = rows.next()? {
        if !row.get::<_, bool>(4)? {
            differs = true;
            continue;
        }
        let header_bytes = row.get::<_, i64>(2)?.unsigned_abs();
        let found = OnRecord { entry: row.get(0)?, spool: row.get(1)?, header_bytes };
        let same_head =
            header_bytes == new.spooled.header_bytes && row.get::<_, String>(3)? == arrival.calling_ae_title;
        if same_head && fitting.is_none() {
            fitting = Some(found);
        } else {
            others.push(found);
        }
    }
    Ok(match (fitting, others) {
        (None, others) if others.is_empty() && differs => Found::OtherBytes,
        (None, others) if others.is_empty() => Found::Nothing,
        (fitting, others) => Found::Same { fitting, others },
    })
}

/// Columns of an [`Instance`] in order.
const COLUMNS: &str = "i.entry, i.spool, i.header, e.bytes, i.sop_class, i.transfer_syntax, i.calling, i.called,
  e.conflict, e.digest, i.sealed, i.let_go";

impl Reader {
    /// The instance an entry is; `None` when it is anything else.
    pub fn instance(&self, entry: EntryId) -> Result<Option<Instance>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM instance i JOIN entry e ON e.id = i.entry WHERE i.entry = ?1");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([entry])?;
        rows.next()?.map(|row| self.read_instance(row).map(|(_, instance)| instance)).transpose()
    }

    /// Every instance with this SOP Instance UID, oldest first. There are several when they differ.
    pub fn instances_of(&self, sop_instance_uid: &str) -> Result<Vec<(EntryId, Instance)>, JournalError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM entry e JOIN instance i ON i.entry = e.id WHERE e.identity = ?1 ORDER BY e.id"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([identity(&self.seal, sop_instance_uid)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.read_instance(row)?);
        }
        Ok(found)
    }

    /// Opens the file of an instance: preamble, group 2 and data set (PS3.10).
    ///
    /// # Errors
    /// `Damaged` when it is not there.
    pub fn open_instance(&self, instance: &Instance) -> Result<File, JournalError> {
        File::open(self.instance_path(instance)).map_err(|error| spool::lost(&error))
    }

    /// Checks that the file of an instance is there and has the bytes its sender was acknowledged. Reads all of it.
    ///
    /// # Errors
    /// `Damaged` when it is not so; `Closed` when `is_wanted` said so meanwhile.
    pub(super) fn check_instance(&self, instance: &Instance, is_wanted: &dyn Fn() -> bool) -> Result<(), JournalError> {
        let (digest, bytes) = spool::read_digest(&self.instance_path(instance), instance.header_bytes, is_wanted)?;
        let same = self.seal.digest("instance", &[&digest]) == instance.digest && bytes == instance.bytes;
        if same { Ok(()) } else { Err(JournalError::Damaged) }
    }

    fn instance_path(&self, instance: &Instance) -> PathBuf {
        spool::path_in(&self.data, &instance.spool)
    }

    fn read_instance(&self, row: &Row<'_>) -> Result<(EntryId, Instance), JournalError> {
        let entry: EntryId = row.get(0)?;
        let uid = self.seal.open(&self.conn, Place::Instance, entry.0, &row.get::<_, Vec<u8>>(10)?)?;
        let instance = Instance {
            spool: row.get(1)?,
            header_bytes: row.get::<_, i64>(2)?.unsigned_abs(),
            bytes: row.get::<_, i64>(3)?.unsigned_abs(),
            sop_class_uid: row.get(4)?,
            sop_instance_uid: String::from_utf8(uid).map_err(|_| JournalError::Damaged)?,
            transfer_syntax_uid: row.get(5)?,
            calling_ae_title: row.get(6)?,
            called_ae_title: row.get(7)?,
            conflict: row.get(8)?,
            digest: row.get(9)?,
            let_go: row.get(11)?,
        };
        Ok((entry, instance))
    }
}
