//! Performed procedure steps: what modalities say they did, kept with the message that said it.
//!
//! The message, what it makes of the step and where the orders stand then are one commit, before it is answered
//! (invariant I1). The message then waits for the interpreter, which says whom else it concerns. One that may not be is
//! kept all the same, with its reason. Steps go with the orders, after `orders_days`.

use super::custody::{self, NewPart};
use super::desk::Desk;
use super::error::JournalError;
use super::orders;
use super::reader::Reader;
use super::seal::{Place, Seal};
use super::studies;
use super::types::EntryId;
use crate::clinical::{PerformedStatus, PerformedStep};
use crate::message::dicom::performed_step::request::READER;
use rusqlite::{Connection, OptionalExtension};
use std::fmt::Display;

/// What became of a message about a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStep<E> {
    /// Its entry.
    pub entry: EntryId,
    /// The step as it is now, or why the message changes nothing.
    pub step: Result<PerformedStep, E>,
}

/// Keeps a message about the step of this UID and what `decide` makes of it.
pub(super) fn store<E: Display>(
    desk: &mut Desk<'_>,
    part: &NewPart,
    sop_instance_uid: &str,
    decide: &(dyn Fn(Option<&PerformedStep>) -> Result<PerformedStep, E> + Send),
) -> Result<StoredStep<E>, JournalError> {
    let kept = custody::persist(desk, part)?;
    let entry = EntryId(kept.entry);
    let known = by_uid(desk.conn, desk.seal, sop_instance_uid)?;
    let step = match decide(known.as_ref().map(|(_, step)| step)) {
        Ok(step) => step,
        Err(fault) => {
            custody::settle(desk, kept.entry, READER, Some(&fault.to_string()))?;
            return Ok(StoredStep { entry, step: Err(fault) });
        }
    };
    // What ended it, once more: that concerns nobody else.
    if known.as_ref().is_some_and(|(_, known)| known.status.is_final() && *known == step) {
        custody::settle(desk, kept.entry, READER, None)?;
        return Ok(StoredStep { entry, step: Ok(step) });
    }
    let json = serde_json::to_vec(&step).map_err(|_| JournalError::Damaged)?;
    let id = match known {
        Some((id, _)) => id,
        None => {
            for answered in step.scheduled.iter().filter(|answered| !answered.study_instance_uid.is_empty()) {
                // The study is stable once all its steps ended and everything they list is here.
                studies::add_step(desk, &answered.study_instance_uid, kept.entry)?;
            }
            desk.conn
                .prepare_cached("INSERT INTO performed_step(hash, entry, state, changed_ms) VALUES (?1, ?2, 0, ?3)")?
                .execute((hash(desk.seal, sop_instance_uid), kept.entry, desk.now_ms))?;
            desk.conn.last_insert_rowid()
        }
    };
    let json = desk.seal.seal(Place::PerformedStep, id, &json)?;
    desk.conn
        .prepare_cached("UPDATE performed_step SET state = ?2, changed_ms = ?3, json = ?4 WHERE id = ?1")?
        .execute((id, number(step.status), desk.now_ms, json))?;
    orders::perform(desk, &step)?;
    if step.status.is_final() {
        desk.memory.wake_interpreter();
    }
    Ok(StoredStep { entry, step: Ok(step) })
}

/// Removes steps that have not changed since `before_ms`. Called in an open transaction.
pub(super) fn sweep(desk: &Desk<'_>, before_ms: i64, limit: i64) -> Result<(), JournalError> {
    desk.conn
        .prepare_cached(
            "DELETE FROM performed_step WHERE id IN (SELECT id FROM performed_step WHERE changed_ms < ?1 LIMIT ?2)",
        )?
        .execute((before_ms, limit))?;
    Ok(())
}

impl Reader {
    /// The performed step with this SOP Instance UID.
    pub fn performed_step(&self, sop_instance_uid: &str) -> Result<Option<PerformedStep>, JournalError> {
        Ok(by_uid(&self.conn, &self.seal, sop_instance_uid)?.map(|(_, step)| step))
    }

    /// True while another step of one of its studies is in progress that began before this entry. Reads the steps that
    /// are; one that cannot be read counts for none.
    pub fn other_step_runs(&self, of: &PerformedStep, before: EntryId) -> Result<bool, JournalError> {
        let studies = |step: &PerformedStep| {
            step.scheduled
                .iter()
                .map(|s| s.study_instance_uid.clone())
                .filter(|uid| !uid.is_empty())
                .collect::<Vec<_>>()
        };
        let asked = studies(of);
        let sql = "SELECT id, json FROM performed_step WHERE state = ?1 AND entry < ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query((number(PerformedStatus::InProgress), before))?;
        while let Some(row) = rows.next()? {
            let (id, sealed): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let plain = match self.seal.open(&self.conn, Place::PerformedStep, id, &sealed) {
                Err(JournalError::Damaged) => continue,
                opened => opened?,
            };
            let Ok(step) = serde_json::from_slice::<PerformedStep>(&plain) else { continue };
            if step.sop_instance_uid != of.sop_instance_uid && studies(&step).iter().any(|uid| asked.contains(uid)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn by_uid(conn: &Connection, seal: &Seal, uid: &str) -> Result<Option<(i64, PerformedStep)>, JournalError> {
    let found: Option<(i64, Vec<u8>)> = conn
        .prepare_cached("SELECT id, json FROM performed_step WHERE hash = ?1")?
        .query_row([hash(seal, uid)], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((id, sealed)) = found else { return Ok(None) };
    let plain = seal.open(conn, Place::PerformedStep, id, &sealed)?;
    let step: PerformedStep = serde_json::from_slice(&plain).map_err(|_| JournalError::Damaged)?;
    Ok((step.sop_instance_uid == uid).then_some((id, step)))
}

fn hash(seal: &Seal, uid: &str) -> i64 {
    seal.hash("performed step", &[uid.as_bytes()])
}

fn number(status: PerformedStatus) -> i64 {
    PerformedStatus::ALL.iter().position(|s| *s == status).map_or(0, |at| at as i64)
}
