//! Taking custody: parts become entries.

use super::desk::{Desk, OpenEntry, SessionKey};
use super::error::JournalError;
use super::seal::{Place, Seal, finish};
use crate::wire::Persist;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// Most parts of one entry, as a power of two: a part's row id is `entry << 20 | place`.
const PART_BITS: u32 = 20;

/// `entry.state`.
pub(super) const OPEN: i64 = 0;
pub(super) const WAITING: i64 = 1;
pub(super) const INTERPRETED: i64 = 2;
pub(super) const DAMAGED: i64 = 3;
/// What needs no interpreting: orders or patients from the EHR, requests of modalities. They were read when they came.
pub(super) const ORDERS: i64 = 4;

/// What the writer needs of a `wire::Persist`.
pub(super) struct NewPart {
    pub session: SessionKey,
    pub bytes: Vec<u8>,
    pub completes: bool,
    pub identity: Option<Vec<u8>>,
}

impl NewPart {
    /// A part of one session of a connection of a link.
    pub(super) fn of(link: &str, connection: u64, part: Persist) -> Self {
        NewPart {
            session: SessionKey { link: Arc::from(link), connection, session: part.session },
            bytes: part.bytes,
            completes: part.completes,
            identity: part.identity,
        }
    }
}

/// What a part became.
pub(super) struct Kept {
    pub entry: i64,
    /// False when the very same message was there already.
    pub is_new: bool,
}

/// Stores one part. A whole message that is already there, by its sender's own name for it and by its bytes, makes no
/// second row (invariant I4).
pub(super) fn persist(desk: &mut Desk<'_>, part: &NewPart) -> Result<Kept, JournalError> {
    let open = desk.memory.open(&part.session).cloned();
    let mut identity = None;
    let mut conflict = false;
    let is_first = open.is_none();
    let mut entry = open.unwrap_or_else(|| OpenEntry { id: 0, parts: 0, bytes: 0, digest: desk.seal.context("raw") });
    entry.digest.update(&part.bytes);
    if let Some(name) = part.identity.as_deref().filter(|_| is_first && part.completes) {
        let hash = self::identity(desk.seal, &part.session.link, name);
        match same_message(desk.conn, hash, &finish(entry.digest.clone()))? {
            Known::Same(entry) => return Ok(Kept { entry, is_new: false }),
            Known::OtherBytes => conflict = true,
            Known::No => {}
        }
        identity = Some(hash);
    }
    if entry.parts >= 1 << PART_BITS {
        return Err(JournalError::Refused("the message has too many parts"));
    }
    if is_first {
        entry.id = desk.take_entry()?;
    }
    let part_id = entry.id << PART_BITS | entry.parts;
    let sealed = desk.seal.seal(Place::Part, part_id, &part.bytes)?;
    desk.conn.prepare_cached("INSERT INTO part(id, sealed) VALUES (?1, ?2)")?.execute((part_id, sealed))?;
    entry.parts += 1;
    entry.bytes += part.bytes.len() as i64;
    let waiting = part.completes.then(|| desk.memory.take_waiting());
    if is_first {
        let digest = part.completes.then(|| finish(entry.digest.clone()));
        desk.conn
            .prepare_cached(
                "INSERT INTO entry(id, link, received_ms, state, complete, waiting, parts, bytes, identity, digest, conflict)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                entry.id,
                &*part.session.link,
                desk.now_ms,
                if part.completes { WAITING } else { OPEN },
                part.completes,
                waiting.unwrap_or(0),
                entry.parts,
                entry.bytes,
                identity,
                digest,
                conflict,
            ))?;
        if conflict {
            tracing::warn!(link = &*part.session.link, entry = entry.id, "a message id came again with other bytes");
        }
    } else if let Some(waiting) = waiting {
        end(desk, &entry, true, waiting)?;
    }
    if let (Some(name), true) = (&part.identity, part.completes) {
        // The control id is the last piece of MSH-3|MSH-4|MSH-10; the other identifiers are known after interpretation.
        let hash =
            desk.seal.hash(super::Lookup::Control.domain(), &[name.rsplit(|b| *b == b'|').next().unwrap_or(name)]);
        desk.conn
            .prepare_cached("INSERT OR IGNORE INTO lookup(hash, entry) VALUES (?1, ?2)")?
            .execute((hash, entry.id))?;
    }
    let kept = Kept { entry: entry.id, is_new: true };
    if part.completes {
        desk.memory.set_open(part.session.clone(), None);
        desk.memory.wake_interpreter();
    } else {
        desk.memory.set_open(part.session.clone(), Some(entry));
    }
    Ok(kept)
}

/// The entry was read when it came and waits for nobody. `refused` is why it changes nothing, for the record.
pub(super) fn settle(desk: &Desk<'_>, entry: i64, reader: &str, refused: Option<&str>) -> Result<(), JournalError> {
    let refused: Vec<(u32, &str)> = refused.map(|reason| (1, reason)).into_iter().collect();
    let refused = serde_json::to_string(&refused).map_err(|_| JournalError::Damaged)?;
    desk.conn
        .prepare_cached("UPDATE entry SET state = ?2, waiting = NULL, driver = ?3, refused = ?4 WHERE id = ?1")?
        .execute((entry, ORDERS, reader, refused))?;
    Ok(())
}

/// The session ended early: what came of it is shown, and never taken for a result by itself (hazard H6).
pub(super) fn abandon(desk: &mut Desk<'_>, session: &SessionKey) -> Result<(), JournalError> {
    if let Some(entry) = desk.memory.open(session).cloned() {
        let waiting = desk.memory.take_waiting();
        end(desk, &entry, false, waiting)?;
        desk.memory.set_open(session.clone(), None);
        desk.memory.wake_interpreter();
    }
    Ok(())
}

/// Ends the entries the last run left open; tells how many there were.
pub(super) fn end_left_open(conn: &Connection, seal: &Seal, mut waiting: i64) -> Result<usize, JournalError> {
    let ids: Vec<i64> = conn
        .prepare("SELECT id FROM entry WHERE waiting = 0 ORDER BY id")?
        .query_map([], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &ids {
        let (mut digest, mut parts, mut bytes) = (seal.context("raw"), 0, 0);
        let mut rows = conn.prepare_cached("SELECT id, sealed FROM part WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        let mut rows = rows.query(part_range(*id))?;
        while let Some(row) = rows.next()? {
            // A damaged part is found again, and reported, when the entry is read to be interpreted.
            let plain = seal.open(conn, Place::Part, row.get(0)?, &row.get::<_, Vec<u8>>(1)?).unwrap_or_default();
            digest.update(&plain);
            (parts, bytes) = (parts + 1, bytes + plain.len() as i64);
        }
        conn.execute(
            "UPDATE entry SET state = ?2, complete = 0, waiting = ?3, parts = ?4, bytes = ?5, digest = ?6 WHERE id = ?1",
            (id, WAITING, waiting, parts, bytes, finish(digest)),
        )?;
        waiting += 1;
    }
    Ok(ids.len())
}

/// All bytes of an entry, checked against its digest.
pub(super) fn raw(conn: &Connection, seal: &Seal, entry: i64) -> Result<Vec<u8>, JournalError> {
    let (parts, bytes, stored): (i64, i64, Option<[u8; 32]>) = conn
        .prepare_cached("SELECT parts, bytes, digest FROM entry WHERE id = ?1")?
        .query_row([entry], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?
        .ok_or(JournalError::NotFound("entry"))?;
    if parts == 0 {
        return Err(JournalError::Refused("the entry is a DICOM file and not a message"));
    }
    let mut raw = Vec::new();
    let mut statement = conn.prepare_cached("SELECT id, sealed FROM part WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = statement.query(part_range(entry))?;
    let mut expected = part_range(entry).0;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if id != expected {
            return Err(JournalError::Damaged);
        }
        expected += 1;
        raw.extend(seal.open(conn, Place::Part, id, &row.get::<_, Vec<u8>>(1)?)?);
    }
    if let Some(stored) = stored {
        let mut digest = seal.context("raw");
        digest.update(&raw);
        if finish(digest) != stored || expected - part_range(entry).0 != parts || raw.len() as i64 != bytes {
            return Err(JournalError::Damaged);
        }
    }
    Ok(raw)
}

/// First part id of an entry, and the first of the next one.
pub(super) fn part_range(entry: i64) -> (i64, i64) {
    (entry << PART_BITS, (entry + 1) << PART_BITS)
}

fn end(desk: &Desk<'_>, entry: &OpenEntry, complete: bool, waiting: i64) -> Result<(), JournalError> {
    desk.conn
        .prepare_cached(
            "UPDATE entry SET state = ?2, complete = ?3, waiting = ?4, parts = ?5, bytes = ?6, digest = ?7 WHERE id = ?1",
        )?
        .execute((entry.id, WAITING, complete, waiting, entry.parts, entry.bytes, finish(entry.digest.clone())))?;
    Ok(())
}

enum Known {
    No,
    Same(i64),
    OtherBytes,
}

/// What a message of a link is known by, when it comes again.
pub(super) fn identity(seal: &Seal, link: &str, name: &[u8]) -> i64 {
    seal.hash("identity", &[link.as_bytes(), name])
}

fn same_message(conn: &Connection, identity: i64, digest: &[u8; 32]) -> Result<Known, JournalError> {
    let mut statement = conn.prepare_cached("SELECT id, digest FROM entry WHERE identity = ?1")?;
    let mut rows = statement.query([identity])?;
    let mut known = Known::No;
    while let Some(row) = rows.next()? {
        if row.get::<_, Option<[u8; 32]>>(1)?.as_ref() == Some(digest) {
            return Ok(Known::Same(row.get(0)?));
        }
        known = Known::OtherBytes;
    }
    Ok(known)
}
