//! Studies and series: what instances belong to, and when a study is told of.
//!
//! A study **grows** while instances come in that nobody was told of, and is **stable** once it was told of
//! ([`super::Journal::file_study`]). One more instance makes it grow again. When a growing one is due is for
//! [`crate::imaging`] to say: the journal only knows when it last grew, and whether its performed steps ended and all
//! instances they list are here.
//!
//! What EHRs are told of a study and of its documents are reports beside those of its images, under the entry of the
//! object they are about. In the loss account (invariant I7) each is received when it is told: a study and a document as
//! one result, the measurements of a structured report as one result each.

use super::account::{self, Bucket};
use super::desk::Desk;
use super::error::JournalError;
use super::filing::{self, COVERED, DISCARDED, RELEASED, SENT};
use super::reader::Reader;
use super::seal::{Place, Seal};
use super::types::{EntryId, Filed, FiledReport, HoldId, Latest, Lookup, ReportId, StudyId};
use super::{instances, outbox};
use crate::clinical::PerformedStep;
use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// `study.state`.
const GROWING: i64 = 0;
const STABLE: i64 = 1;
/// Subjects of reports about studies: not of one link, which may be another for each object of a study.
const NO_LINK: &str = "";
/// Growing studies whose performed steps are looked at in one round.
const GROWING_MAX: i64 = 256;
/// Most instances of a study that are read at once; a study has thousands at most.
pub const INSTANCES_MAX: usize = 50_000;
/// Bytes of a keyed digest of what a doubt is about: none is ever like another by chance.
const FACT_BYTES: usize = 16;
/// Most studies under one accession number.
const STUDIES_FOUND_MAX: usize = 100;

/// Where an instance belongs, as its head says.
#[derive(Clone, PartialEq, Eq)]
pub struct Placement {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// What is kept of the study, as JSON. That of its first instance stays.
    pub study: Vec<u8>,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// What is kept of the series, likewise.
    pub series: Vec<u8>,
    /// Whose it is: objects of one series that name different patients are kept as several series.
    pub patient_id: String,
    /// Modality of the series.
    pub modality: String,
    /// Instance Number, when it is one.
    pub number: Option<i64>,
}

/// A study that grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// Which.
    pub study: StudyId,
    /// Grows with every instance.
    pub version: i64,
}

/// A study with everything in it that is still kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredStudy {
    /// Its number.
    pub id: StudyId,
    /// See [`Grown`].
    pub version: i64,
    /// True when nothing came since it was told of.
    pub is_stable: bool,
    /// What is kept of it, as it was placed.
    pub json: Vec<u8>,
    /// Its series, in the order in which they began.
    pub series: Vec<StoredSeries>,
}

/// A series of a study.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSeries {
    /// Modality.
    pub modality: String,
    /// What is kept of it, as it was placed.
    pub json: Vec<u8>,
    /// Its instances in the order in which they came. Of several with one UID the newest counts.
    pub instances: Vec<SeriesInstance>,
}

/// An instance of a series.
#[derive(Clone, PartialEq, Eq)]
pub struct SeriesInstance {
    /// Its entry.
    pub entry: EntryId,
    /// The link it came in on.
    pub link: String,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Instance Number.
    pub number: Option<i64>,
}

/// A study in a list, without patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedStudy {
    /// Its number.
    pub study: StudyId,
    /// `growing` or `stable`.
    pub state: String,
    /// When its last instance was filed, Unix milliseconds.
    pub changed_ms: i64,
    /// Modalities of its series, separated by `,`.
    pub modalities: String,
    /// Series in it.
    pub series: i64,
    /// Instances in it, each SOP Instance UID once.
    pub instances: i64,
    /// Messages about it and its instances that are on the way.
    pub queued: i64,
    /// The same that arrived.
    pub delivered: i64,
    /// The same that a destination refused for good.
    pub parked: i64,
    /// Instances and study reports that wait for a person.
    pub held: i64,
}

/// What EHRs are told of a study or a document.
pub struct Told {
    /// The object it is about, under which the report is filed.
    pub entry: EntryId,
    /// What they are told.
    pub report: FiledReport,
    /// What was held of the same before: this takes its place.
    pub covers: Vec<HoldId>,
}

/// What became of a message that changes what a destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartFate {
    /// The destination took it.
    Delivered,
    /// A person discarded it.
    Discarded,
    /// It is on its way, or was refused.
    Unknown,
}

/// What a destination has of a document by a message.
pub struct ChartedBy {
    /// As it was filed with the message ([`super::NewOutbound::charted`]).
    pub json: Vec<u8>,
    /// What became of the message.
    pub fate: ChartFate,
    /// Its report.
    pub report: ReportId,
}

/// What is said of a stable study.
pub struct StudyFiling {
    /// The study as it was read.
    pub grown: Grown,
    /// What is said of it; none when nobody wants to hear of it, or it was said before.
    pub told: Option<Told>,
}

/// Places an instance in its series and study, which grows by it.
pub(super) fn place(desk: &mut Desk<'_>, entry: EntryId, placement: &Placement) -> Result<(), JournalError> {
    let hash = study_hash(desk.seal, &placement.study_instance_uid);
    let (study, sealed): (i64, Option<Vec<u8>>) = desk
        .conn
        .prepare_cached(
            "INSERT INTO study(hash, state, changed_ms, version) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT(hash) DO UPDATE SET state = ?2, changed_ms = ?3, version = version + 1
             RETURNING id, sealed",
        )?
        .query_row((hash, GROWING, desk.now_ms), |r| Ok((r.get(0)?, r.get(1)?)))?;
    if let Some(sealed) = resealed(desk, Place::Study, study, sealed, &placement.study)? {
        desk.conn.prepare_cached("UPDATE study SET sealed = ?2 WHERE id = ?1")?.execute((study, sealed))?;
    }
    let hash = desk.seal.hash(
        "series",
        &[&placement.study_instance_uid, &placement.series_instance_uid, &placement.patient_id].map(|id| id.as_bytes()),
    );
    let (series, sealed): (i64, Option<Vec<u8>>) = desk
        .conn
        .prepare_cached(
            "INSERT INTO series(study, hash, modality) VALUES (?1, ?2, ?3)
             ON CONFLICT(hash) DO UPDATE SET hash = hash RETURNING id, sealed",
        )?
        .query_row((study, hash, &placement.modality), |r| Ok((r.get(0)?, r.get(1)?)))?;
    if let Some(sealed) = resealed(desk, Place::Series, series, sealed, &placement.series)? {
        desk.conn.prepare_cached("UPDATE series SET sealed = ?2 WHERE id = ?1")?.execute((series, sealed))?;
    }
    desk.conn.prepare_cached("UPDATE instance SET series = ?2, number = ?3 WHERE entry = ?1")?.execute((
        entry,
        series,
        placement.number,
    ))?;
    Ok(())
}

/// What is kept of a study or series sealed with the key in use, unless it is so already: a key goes when the last entry
/// of its time does, and what that entry belonged to may live on in later ones.
fn resealed(
    desk: &Desk<'_>,
    place: Place,
    row: i64,
    sealed: Option<Vec<u8>>,
    of_new: &[u8],
) -> Result<Option<Vec<u8>>, JournalError> {
    let opened = match &sealed {
        Some(sealed) if desk.seal.is_current(sealed) => return Ok(None),
        Some(sealed) => desk.seal.open(desk.conn, place, row, sealed).ok(),
        None => None,
    };
    desk.seal.seal(place, row, opened.as_deref().unwrap_or(of_new)).map(Some)
}

/// Files what is said of a study, unless it has grown since it was read.
pub(super) fn file(desk: &mut Desk<'_>, study: &StudyFiling) -> Result<Filed, JournalError> {
    let changed = desk
        .conn
        .prepare_cached("UPDATE study SET state = ?3 WHERE id = ?1 AND version = ?2 AND state = ?4")?
        .execute((study.grown.study, study.grown.version, STABLE, GROWING))?;
    match study.told.as_ref().filter(|_| changed > 0) {
        Some(told) => tell(desk, told),
        None => Ok(Filed::default()),
    }
}

/// Files what EHRs are told, in place of what was held of the same.
pub(super) fn tell(desk: &mut Desk<'_>, told: &Told) -> Result<Filed, JournalError> {
    let report = &told.report;
    let received_ms: i64 = desk
        .conn
        .prepare_cached("UPDATE entry SET inbound = inbound + ?2 WHERE id = ?1 RETURNING received_ms")?
        .query_row((told.entry, report.results), |r| r.get(0))
        .optional()?
        .ok_or(JournalError::NotFound("entry"))?;
    filing::close_holds(desk, &told.covers, COVERED, filing::SAID_SINCE)?;
    let day = account::day(received_ms);
    account::add(desk, day, Bucket::Received, report.results.into())?;
    let mut filed = Filed::default();
    let id = filing::file_report(desk, told.entry.0, NO_LINK, received_ms, day, report, &mut filed)?;
    if !report.outbox.is_empty() {
        reopen_others(desk, id)?;
    }
    filed.reports.push(id);
    Ok(filed)
}

/// These instances are all there is as far as their modality says: a growing study without any other need not stay quiet
/// any longer.
pub(super) fn complete(desk: &mut Desk<'_>, instances: &[EntryId]) -> Result<(), JournalError> {
    let mut growing: HashMap<StudyId, HashSet<EntryId>> = HashMap::new();
    for &entry in instances {
        let study = desk
            .conn
            .prepare_cached(
                "SELECT t.id FROM instance i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study
                 WHERE i.entry = ?1 AND t.state = ?2",
            )?
            .query_row((entry, GROWING), |r| r.get(0))
            .optional()?;
        if let Some(study) = study {
            growing.entry(study).or_default().insert(entry);
        }
    }
    for (study, complete) in growing {
        let mut statement = desk
            .conn
            .prepare_cached("SELECT i.entry FROM series s JOIN instance i ON i.series = s.id WHERE s.study = ?1")?;
        let mut all = statement.query_map([study], |r| r.get(0))?;
        if all.all(|entry| entry.is_ok_and(|entry| complete.contains(&entry))) {
            desk.conn.prepare_cached("UPDATE study SET changed_ms = 0 WHERE id = ?1")?.execute([study])?;
            desk.memory.wake_interpreter();
        }
    }
    Ok(())
}

/// What was discarded may have kept back what else there is to tell of its study: that is looked at again.
pub(super) fn reopen_of(desk: &mut Desk<'_>, hold: HoldId) -> Result<(), JournalError> {
    let of_hold = "SELECT s.study FROM hold h JOIN report r ON r.id = h.report
                   JOIN instance i ON i.entry = r.entry JOIN series s ON s.id = i.series WHERE h.id = ?1";
    reopen(desk, of_hold, hold.0)
}

/// Documents of other studies that were told of where this report is told may take the place of what it tells: their
/// studies are looked at again. One that tells nothing then reopens none, so that it ends.
pub(super) fn reopen_others(desk: &mut Desk<'_>, report: ReportId) -> Result<(), JournalError> {
    reopen(desk, &others(), report.0)
}

/// Reports of results, which may share a subject with any number of others, end it at the second table.
fn others() -> String {
    format!(
        "SELECT DISTINCT s.study FROM report t CROSS JOIN instance o ON o.entry = t.entry
         CROSS JOIN series own ON own.id = o.series
         CROSS JOIN report r ON r.subject = t.subject AND r.repeat_of IS NULL
         JOIN instance i ON i.entry = r.entry JOIN series s ON s.id = i.series
         WHERE t.id = ?1 AND s.study <> own.study AND {WAS_TOLD}"
    )
}

/// Has the studies that a query about this number gives looked at again.
fn reopen(desk: &mut Desk<'_>, query: &str, about: i64) -> Result<(), JournalError> {
    let sql = format!("UPDATE study SET state = ?2, changed_ms = ?3, version = version + 1 WHERE id IN ({query})");
    if desk.conn.prepare_cached(&sql)?.execute((about, GROWING, desk.now_ms))? > 0 {
        desk.memory.wake_interpreter();
    }
    Ok(())
}

/// The performed step of this entry is one of this study.
pub(super) fn add_step(desk: &Desk<'_>, study_instance_uid: &str, entry: i64) -> Result<(), JournalError> {
    let hash = steps_hash(desk.seal, study_hash(desk.seal, study_instance_uid));
    desk.conn.prepare_cached("INSERT OR IGNORE INTO lookup(hash, entry) VALUES (?1, ?2)")?.execute((hash, entry))?;
    Ok(())
}

/// What the entries of a study's performed steps are found by.
fn steps_hash(seal: &Seal, study_hash: i64) -> i64 {
    seal.hash("steps of a study", &[&study_hash.to_be_bytes()])
}

fn study_hash(seal: &Seal, study_instance_uid: &str) -> i64 {
    seal.hash("study", &[study_instance_uid.as_bytes()])
}

/// Columns of a [`ListedStudy`] in order.
const LISTED: &str = "t.id, t.state, t.changed_ms,
  (SELECT group_concat(DISTINCT s.modality) FROM series s WHERE s.study = t.id),
  (SELECT count(*) FROM series s WHERE s.study = t.id),
  (SELECT count(DISTINCT e.identity) FROM series s JOIN instance i ON i.series = s.id JOIN entry e ON e.id = i.entry
   WHERE s.study = t.id),
  (SELECT json_array(coalesce(sum(o.state = 0), 0), coalesce(sum(o.state = 1), 0), coalesce(sum(o.state = 2), 0))
   FROM series s JOIN instance i ON i.series = s.id JOIN report r ON r.entry = i.entry
   JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id WHERE s.study = t.id),
  (SELECT count(*) FROM series s JOIN instance i ON i.series = s.id JOIN report r ON r.entry = i.entry
   JOIN hold h ON h.report = r.id WHERE s.study = t.id AND h.state = 0)";

/// True of a report that went out, is on the way, or had nothing to say.
const WAS_TOLD: &str = "(EXISTS (SELECT 1 FROM dispatch d WHERE d.report = r.id)
    OR NOT EXISTS (SELECT 1 FROM hold h WHERE h.report = r.id))";

impl Reader {
    /// Growing studies whose last instance was filed before `before_ms`, or, by a clock that was wrong, after `now_ms`;
    /// both Unix milliseconds.
    pub fn grown_studies(&self, before_ms: i64, now_ms: i64, limit: usize) -> Result<Vec<Grown>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, version FROM study WHERE state = 0 AND (changed_ms < ?1 OR changed_ms > ?2)
             ORDER BY changed_ms LIMIT ?3",
        )?;
        let rows = statement
            .query_map((before_ms, now_ms, limit as i64), |r| Ok(Grown { study: r.get(0)?, version: r.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Growing studies whose performed steps all ended, and all instances these list are here.
    pub fn performed_studies(&self) -> Result<Vec<Grown>, JournalError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT id, version, hash FROM study WHERE state = 0 ORDER BY changed_ms LIMIT ?1")?;
        let rows = statement
            .query_map([GROWING_MAX], |r| Ok((Grown { study: r.get(0)?, version: r.get(1)? }, r.get::<_, i64>(2)?)))?;
        let mut performed = Vec::new();
        for row in rows {
            let (grown, hash) = row?;
            if self.is_performed(hash)? {
                performed.push(grown);
            }
        }
        Ok(performed)
    }

    /// What was last filed about this study or document, repeats not counted.
    pub fn last_told(&self, subject_key: &[u8]) -> Result<Option<Latest>, JournalError> {
        self.latest(self.subject(subject_key), None)
    }

    /// What was last filed about this study or document under this entry.
    pub fn last_told_under(&self, subject_key: &[u8], entry: EntryId) -> Result<Option<Latest>, JournalError> {
        self.latest(self.subject(subject_key), Some(entry))
    }

    /// What this destination has of a document by the newest message about it, on the way or not.
    ///
    /// # Errors
    /// `Damaged` when that does not open, or was not noted yet.
    pub fn charted(&self, subject_key: &[u8], destination: &str) -> Result<Option<ChartedBy>, JournalError> {
        let newest: Option<(i64, i64, ReportId, Option<Vec<u8>>)> = self
            .conn
            .prepare_cached(
                "SELECT o.id, o.state, r.id, c.sealed
                 FROM report r JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
                 LEFT JOIN charted c ON c.id = o.id
                 WHERE r.subject = ?1 AND r.repeat_of IS NULL AND o.destination = ?2 ORDER BY o.id DESC LIMIT 1",
            )?
            .query_row((self.subject(subject_key), destination), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .optional()?;
        let Some((id, state, report, sealed)) = newest else { return Ok(None) };
        let json = self.seal.open(&self.conn, Place::Charted, id, &sealed.unwrap_or_default())?;
        let fate = match state {
            outbox::DELIVERED => ChartFate::Delivered,
            outbox::DISCARDED => ChartFate::Discarded,
            _ => ChartFate::Unknown,
        };
        Ok(Some(ChartedBy { json, fate, report }))
    }

    /// True when any message about this study or document went out, or is on the way.
    pub fn was_told(&self, subject_key: &[u8]) -> Result<bool, JournalError> {
        Ok(self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM report r JOIN dispatch d ON d.report = r.id WHERE r.subject = ?1)",
            )?
            .query_row([self.subject(subject_key)], |r| r.get(0))?)
    }

    /// True when this entry was told of under this study or document: it went out, is on the way, or had nothing to say.
    pub fn was_told_by(&self, subject_key: &[u8], entry: EntryId) -> Result<bool, JournalError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM report r
                 WHERE r.subject = ?1 AND r.entry = ?2 AND r.repeat_of IS NULL AND {WAS_TOLD})"
        ))?;
        Ok(statement.query_row((self.subject(subject_key), entry), |r| r.get(0))?)
    }

    /// What was decided about each report of this entry under this study or document, with whether it was told of as
    /// [`Reader::was_told_by`] has it.
    pub fn decisions_under(&self, subject_key: &[u8], entry: EntryId) -> Result<Vec<(String, bool)>, JournalError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT r.decisions, {WAS_TOLD} FROM report r
             WHERE r.subject = ?1 AND r.entry = ?2 AND r.repeat_of IS NULL AND r.decisions IS NOT NULL"
        ))?;
        let rows = statement.query_map((self.subject(subject_key), entry), |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The entries that were told of under this study or document, as [`Reader::was_told_by`] has it, the last one first.
    pub fn tellers(&self, subject_key: &[u8]) -> Result<Vec<EntryId>, JournalError> {
        // What had nothing to say comes behind what was filed before it, which may have gone out in parts since.
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT r.entry FROM report r WHERE r.subject = ?1 AND r.repeat_of IS NULL AND {WAS_TOLD}
             GROUP BY r.entry ORDER BY max(coalesce(
                 (SELECT max(d.id) FROM dispatch d WHERE d.report = r.id),
                 (SELECT max(first) FROM (SELECT min(d.id) AS first FROM report q JOIN dispatch d ON d.report = q.id
                  WHERE q.subject = ?1 AND q.id < r.id GROUP BY q.id)), 0)) DESC,
             max(r.id) DESC"
        ))?;
        let rows = statement.query_map([self.subject(subject_key)], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// True when any of a report went out, or is on the way.
    pub fn went_out(&self, report: ReportId) -> Result<bool, JournalError> {
        let mut statement = self.conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM dispatch WHERE report = ?1)")?;
        Ok(statement.query_row([report], |r| r.get(0))?)
    }

    /// True when any of a report went out, or is on the way, or a person discarded it.
    pub fn was_decided(&self, report: ReportId) -> Result<bool, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM dispatch WHERE report = ?1)
                 OR EXISTS (SELECT 1 FROM hold WHERE report = ?1 AND state IN (?2, ?3))",
        )?;
        Ok(statement.query_row((report, SENT, DISCARDED), |r| r.get(0))?)
    }

    /// What was decided about each report of this entry under this study or document of which a person discarded anything, a
    /// result or a message, as JSON; empty where nothing had to be.
    pub fn discarded_under(&self, subject_key: &[u8], entry: EntryId) -> Result<Vec<String>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT coalesce(r.decisions, '') FROM report r WHERE r.subject = ?1 AND r.entry = ?2
                 AND (EXISTS (SELECT 1 FROM hold h WHERE h.report = r.id AND h.state = ?3)
                   OR EXISTS (SELECT 1 FROM dispatch d JOIN outbox o ON o.dispatch = d.id
                              WHERE d.report = r.id AND o.state = ?4))",
        )?;
        let about = (self.subject(subject_key), entry, DISCARDED, outbox::DISCARDED);
        let rows = statement.query_map(about, |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Which results of a report were held and never sent.
    pub fn unsent_of(&self, report: ReportId) -> Result<Vec<u32>, JournalError> {
        let mut statement =
            self.conn.prepare_cached("SELECT observation FROM hold WHERE report = ?1 AND state <> ?2")?;
        let rows = statement.query_map((report, SENT), |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What was decided about a report, as JSON; empty when nothing had to be.
    pub fn decisions(&self, report: ReportId) -> Result<String, JournalError> {
        let mut statement = self.conn.prepare_cached("SELECT coalesce(decisions, '') FROM report WHERE id = ?1")?;
        Ok(statement.query_row([report], |r| r.get(0)).optional()?.unwrap_or_default())
    }

    /// What is held of this study or document, each with its report and the entry that was filed under.
    pub fn held_of(&self, subject_key: &[u8]) -> Result<Vec<(HoldId, ReportId, EntryId)>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT h.id, r.id, r.entry FROM report r JOIN hold h ON h.report = r.id WHERE r.subject = ?1 AND h.state <= ?2",
        )?;
        let about = (self.subject(subject_key), RELEASED);
        let rows = statement.query_map(about, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The study of the instance that came under this entry; `None` when it is of none, or not kept any more.
    pub fn study_of(&self, entry: EntryId) -> Result<Option<StudyId>, JournalError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT s.study FROM instance i JOIN series s ON s.id = i.series WHERE i.entry = ?1")?;
        Ok(statement.query_row([entry], |r| r.get(0)).optional()?)
    }

    /// A study with its series and instances; `None` when it is not kept any more.
    ///
    /// # Errors
    /// `Damaged` when something of it does not open.
    pub fn study(&self, id: StudyId) -> Result<Option<StoredStudy>, JournalError> {
        let found: Option<(i64, i64, Vec<u8>)> = self
            .conn
            .prepare_cached("SELECT version, state, sealed FROM study WHERE id = ?1")?
            .query_row([id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .optional()?;
        let Some((version, state, sealed)) = found else { return Ok(None) };
        let json = self.seal.open(&self.conn, Place::Study, id.0, &sealed)?;
        let mut series = Vec::new();
        let mut statement =
            self.conn.prepare_cached("SELECT id, modality, sealed FROM series WHERE study = ?1 ORDER BY id")?;
        let mut rows = statement.query([id])?;
        let mut room = INSTANCES_MAX;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let instances = self.series_instances(number, room)?;
            room = room.saturating_sub(instances.len());
            series.push(StoredSeries {
                modality: row.get(1)?,
                json: self.seal.open(&self.conn, Place::Series, number, &row.get::<_, Vec<u8>>(2)?)?,
                instances,
            });
        }
        Ok(Some(StoredStudy { id, version, is_stable: state == STABLE, json, series }))
    }

    /// The studies under a Study Instance UID, an accession number or a patient id, newest first.
    pub fn studies_of(&self, kind: Lookup, id: &str) -> Result<Vec<StudyId>, JournalError> {
        if kind == Lookup::Study {
            let hash = study_hash(&self.seal, id);
            let found =
                self.conn.prepare_cached("SELECT id FROM study WHERE hash = ?1")?.query_row([hash], |r| r.get(0));
            return Ok(found.optional()?.into_iter().collect());
        }
        let hash = self.seal.hash(kind.domain(), &[id.as_bytes()]);
        let mut statement = self.conn.prepare_cached(
            "SELECT DISTINCT s.study FROM lookup l JOIN instance i ON i.entry = l.entry JOIN series s ON s.id = i.series
             WHERE l.hash = ?1 ORDER BY s.study DESC LIMIT ?2",
        )?;
        let rows = statement.query_map((hash, STUDIES_FOUND_MAX as i64), |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The studies that grew last, newest first.
    pub fn studies(&self, limit: usize) -> Result<Vec<ListedStudy>, JournalError> {
        let sql = format!("SELECT {LISTED} FROM study t ORDER BY t.id DESC LIMIT ?1");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([limit as i64], listed)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The same for one study.
    pub fn listed_study(&self, id: StudyId) -> Result<Option<ListedStudy>, JournalError> {
        let sql = format!("SELECT {LISTED} FROM study t WHERE t.id = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([id], listed).optional()?)
    }

    /// What a doubt is about, as it may stand in the open beside a report: a keyed digest, as hexadecimal digits.
    pub fn fact(&self, about: &[&str]) -> String {
        let parts: Vec<&[u8]> = about.iter().map(|part| part.as_bytes()).collect();
        self.seal.digest("fact", &parts).iter().take(FACT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    fn subject(&self, subject_key: &[u8]) -> i64 {
        self.seal.hash("subject", &[NO_LINK.as_bytes(), subject_key])
    }

    /// True when all performed steps of a study ended and all instances they list are filed. Steps that list none say
    /// nothing of what is still to come.
    fn is_performed(&self, study_hash: i64) -> Result<bool, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT p.id, p.json FROM lookup l JOIN performed_step p ON p.entry = l.entry WHERE l.hash = ?1",
        )?;
        let mut rows = statement.query([steps_hash(&self.seal, study_hash)])?;
        let mut is_here = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM entry e JOIN instance i ON i.entry = e.id
                            WHERE e.identity = ?1 AND i.series IS NOT NULL)",
        )?;
        let mut lists_any = false;
        while let Some(row) = rows.next()? {
            let plain = self.seal.open(&self.conn, Place::PerformedStep, row.get(0)?, &row.get::<_, Vec<u8>>(1)?);
            let step = plain.and_then(|plain| serde_json::from_slice(&plain).map_err(|_| JournalError::Damaged));
            let step: PerformedStep = match step {
                Ok(step) => step,
                // Then it stays quiet for a while first.
                Err(JournalError::Damaged) => return Ok(false),
                Err(error) => return Err(error),
            };
            if !step.status.is_final() {
                return Ok(false);
            }
            // The last ones come last.
            for (_, sop_instance_uid) in step.series.iter().flat_map(|series| &series.instances).rev() {
                let identity = instances::identity(&self.seal, sop_instance_uid);
                if !is_here.query_row([identity], |r| r.get::<_, bool>(0))? {
                    return Ok(false);
                }
                lists_any = true;
            }
        }
        Ok(lists_any)
    }

    fn series_instances(&self, series: i64, limit: usize) -> Result<Vec<SeriesInstance>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT i.entry, i.sop_class, i.number, i.sealed, e.link, e.received_ms FROM instance i JOIN entry e ON e.id = i.entry
             WHERE i.series = ?1 AND NOT EXISTS (
               SELECT 1 FROM entry later JOIN instance li ON li.entry = later.id
               WHERE later.identity = e.identity AND later.id > e.id AND li.series = ?1)
             ORDER BY i.entry LIMIT ?2",
        )?;
        let mut rows = statement.query((series, limit as i64))?;
        let mut instances = Vec::new();
        while let Some(row) = rows.next()? {
            let entry: EntryId = row.get(0)?;
            let uid = self.seal.open(&self.conn, Place::Instance, entry.0, &row.get::<_, Vec<u8>>(3)?)?;
            instances.push(SeriesInstance {
                entry,
                link: row.get(4)?,
                received_ms: row.get(5)?,
                sop_class_uid: row.get(1)?,
                number: row.get(2)?,
                sop_instance_uid: String::from_utf8(uid).map_err(|_| JournalError::Damaged)?,
            });
        }
        Ok(instances)
    }
}

fn listed(row: &Row<'_>) -> rusqlite::Result<ListedStudy> {
    let [queued, delivered, parked] = serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default();
    Ok(ListedStudy {
        study: row.get(0)?,
        state: if row.get::<_, i64>(1)? == STABLE { "stable" } else { "growing" }.to_string(),
        changed_ms: row.get(2)?,
        modalities: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
        series: row.get(4)?,
        instances: row.get(5)?,
        queued,
        delivered,
        parked,
        held: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan_of;
    use super::*;

    #[test]
    fn i10_a_released_result_does_not_look_at_all_reports_of_its_subject() {
        let steps = plan_of(&others());
        let at = |what: &str| steps.iter().position(|step| step.contains(what)).unwrap_or_else(|| panic!("{steps:?}"));
        assert!(at("SEARCH o ") < at("SEARCH r "), "an image's entry is asked for first: {steps:?}");
        assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{steps:?}");
    }
}
