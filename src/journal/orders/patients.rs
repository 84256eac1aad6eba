//! Patients as the EHR last described them, and which ids are one person.

use super::super::desk::Desk;
use super::super::error::JournalError;
use super::super::seal::{Place, Seal};
use crate::clinical::{OrderedPatient, Phi};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

/// Most merges followed from one id; a ring of them ends here too.
const MERGES_MAX: usize = 16;
/// Most other numbers kept for one patient.
const OTHER_IDS_MAX: usize = 32;

/// What is known under one patient id.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Known {
    /// The patient.
    Patient(OrderedPatient),
    /// The id was merged into this one.
    Gone { into: Phi },
}

/// Keeps what the EHR says now about a patient. What a message leaves out, an earlier one may have said.
pub(super) fn learn(desk: &mut Desk<'_>, entry: i64, said: &OrderedPatient) -> Result<(), JournalError> {
    if said.patient.id.is_empty() {
        return Ok(());
    }
    let mut said = said.clone();
    let id = said.patient.id.clone();
    // The same number of another authority is another person: what is known of them says nothing here.
    let before = current(desk.conn, desk.seal, &id)?;
    if let Some(before) = before.filter(|before| said.patient.may_share_authority_with(&before.patient)) {
        // A message under a merged id speaks of the one that survived it.
        said.patient.id = before.patient.id.clone();
        complete(&mut said, &before);
        if id != said.patient.id && !said.other_ids.contains(&id) {
            said.other_ids.push(id);
        }
    }
    keep(desk, entry, &said.patient.id.clone(), &Known::Patient(said))
}

/// `gone` is from now on another name of `surviving`. A merge back makes the newer one win.
pub(super) fn merge(
    desk: &mut Desk<'_>,
    entry: i64,
    gone: &Phi,
    surviving: &OrderedPatient,
) -> Result<(), JournalError> {
    let mut surviving = surviving.clone();
    let id = surviving.patient.id.clone();
    if id == *gone {
        return learn(desk, entry, &surviving);
    }
    // What was known under either id: the surviving one's first.
    for before in [&id, gone] {
        if let Some(Known::Patient(before)) = look(desk.conn, desk.seal, before)?
            && surviving.patient.may_share_authority_with(&before.patient)
        {
            complete(&mut surviving, &before);
        }
    }
    if !surviving.other_ids.contains(gone) {
        surviving.other_ids.insert(0, gone.clone());
    }
    keep(desk, entry, &id, &Known::Patient(surviving))?;
    keep(desk, entry, gone, &Known::Gone { into: id.clone() })?;
    // What was kept for an appointment of one is needed for it under the other.
    let hashes = [gone, &id].map(|id| hash(desk.seal, id));
    desk.conn
        .prepare_cached(
            "UPDATE patient SET booked_ms = (SELECT max(booked_ms) FROM patient WHERE hash IN (?1, ?2))
             WHERE hash IN (?1, ?2)",
        )?
        .execute(hashes)?;
    Ok(())
}

/// Keeps what is known under this id, and under those it was merged into, until an appointment is over.
pub(super) fn keep_until(desk: &Desk<'_>, id: &Phi, booked_ms: i64) -> Result<(), JournalError> {
    each_name(desk, id, "UPDATE patient SET booked_ms = max(coalesce(booked_ms, 0), ?2) WHERE hash = ?1", booked_ms)
}

/// Keeps the same as long as an order for this id, which changes now.
pub(super) fn keep_from_now(desk: &Desk<'_>, id: &Phi) -> Result<(), JournalError> {
    each_name(desk, id, "UPDATE patient SET changed_ms = ?2 WHERE hash = ?1", desk.now_ms)
}

/// Does this to what is kept under the id and under those it was merged into.
fn each_name(desk: &Desk<'_>, id: &Phi, sql: &str, ms: i64) -> Result<(), JournalError> {
    let mut id = id.clone();
    for _ in 0..MERGES_MAX {
        desk.conn.prepare_cached(sql)?.execute((hash(desk.seal, &id), ms))?;
        match look(desk.conn, desk.seal, &id)? {
            Some(Known::Gone { into }) => id = into,
            Some(Known::Patient(_)) | None => break,
        }
    }
    Ok(())
}

/// The person an id stands for now.
pub(super) fn current(conn: &Connection, seal: &Seal, id: &Phi) -> Result<Option<OrderedPatient>, JournalError> {
    let mut id = id.clone();
    for _ in 0..MERGES_MAX {
        match look(conn, seal, &id)? {
            Some(Known::Patient(patient)) => return Ok(Some(patient)),
            Some(Known::Gone { into }) => id = into,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Fills what `said` leaves out.
fn complete(said: &mut OrderedPatient, before: &OrderedPatient) {
    let fill = |now: &mut Phi, then: &Phi| {
        if now.is_empty() {
            *now = then.clone();
        }
    };
    let (now, then) = (&mut said.patient, &before.patient);
    // A name is one thing: a new family name with the old given name would be nobody's.
    if now.family.is_empty() && now.given.is_empty() {
        (now.family, now.given) = (then.family.clone(), then.given.clone());
    }
    fill(&mut now.birth_date, &then.birth_date);
    fill(&mut now.location, &then.location);
    if now.sex.is_empty() {
        now.sex.clone_from(&then.sex);
    }
    if now.id_authority.is_empty() {
        now.id_authority.clone_from(&then.id_authority);
    }
    for id in &before.other_ids {
        if !said.goes_by(id) && said.other_ids.len() < OTHER_IDS_MAX {
            said.other_ids.push(id.clone());
        }
    }
}

pub(super) fn hash(seal: &Seal, id: &Phi) -> i64 {
    seal.hash("patient of an order", &[id.expose().as_bytes()])
}

fn look(conn: &Connection, seal: &Seal, id: &Phi) -> Result<Option<Known>, JournalError> {
    let hash = hash(seal, id);
    let sealed: Option<Vec<u8>> =
        conn.prepare_cached("SELECT json FROM patient WHERE hash = ?1")?.query_row([hash], |r| r.get(0)).optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = match seal.open(conn, Place::Patient, hash, &sealed) {
        Ok(plain) => plain,
        // The order itself still says whose it is.
        Err(JournalError::Damaged) => {
            tracing::error!(
                event = "stored-damaged",
                "what is known of a patient is damaged: ask the EHR to send an ADT^A08 for orders that wait"
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (owner, known): (Phi, Known) = serde_json::from_slice(&plain).map_err(|_| JournalError::Damaged)?;
    Ok((owner == *id).then_some(known))
}

fn keep(desk: &mut Desk<'_>, entry: i64, id: &Phi, known: &Known) -> Result<(), JournalError> {
    let hash = hash(desk.seal, id);
    let plain = serde_json::to_vec(&(id, known)).map_err(|_| JournalError::Damaged)?;
    let sealed = desk.seal.seal(Place::Patient, hash, &plain)?;
    desk.conn
        .prepare_cached(
            "INSERT INTO patient(hash, entry, changed_ms, json) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(hash) DO UPDATE SET entry = ?2, changed_ms = ?3, json = ?4",
        )?
        .execute((hash, entry, desk.now_ms, sealed))?;
    desk.memory.patient_changed(hash);
    Ok(())
}
