//! Reading beside the writer: a connection of its own that can change nothing.

use super::error::{JournalError, OpenError};
use super::filing::RELEASED;
use super::seal::{OuterKey, Place, Seal};
use super::types::{Entry, EntryId, HoldId, Latest, Lookup, Released, ReportId};
use super::{Commands, Config, custody, filing, schema};
use rusqlite::{Connection, OptionalExtension};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of raw entries read at once, besides the entry that exceeds it.
const PENDING_BYTES: usize = 16 << 20;

/// Reads the journal. Not for sharing between threads; open one for each.
pub struct Reader {
    pub(super) data: PathBuf,
    pub(super) conn: Connection,
    pub(super) seal: Arc<Seal>,
    /// Tells the writer about damage; a reader beside another process's writer can only report it.
    writer: Option<Commands>,
}

impl Reader {
    /// Opens a journal beside a gateway that may be running on it.
    pub fn open(data: &Path, config: &Config) -> Result<Reader, OpenError> {
        let conn = schema::open_reader(data)?;
        let outer = OuterKey::find(data, config.key_file.as_deref(), false)?;
        let seal = Arc::new(Seal::load(&conn, &outer)?);
        Ok(Reader { data: data.to_path_buf(), conn, seal, writer: None })
    }

    pub(super) fn beside(data: &Path, seal: Arc<Seal>, writer: Commands) -> Result<Reader, OpenError> {
        Ok(Reader { data: data.to_path_buf(), conn: schema::open_reader(data)?, seal, writer: Some(writer) })
    }

    /// Entries that wait to be interpreted, in order of completion. An entry whose bytes are damaged is not among
    /// them: it is reported and set aside.
    pub fn pending_entries(&self, limit: usize) -> Result<Vec<Entry>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, link, received_ms, complete, replays, parts FROM entry WHERE waiting > 0 ORDER BY waiting LIMIT ?1",
        )?;
        let mut rows = statement.query([limit as i64])?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let mut entry = Entry {
                id: row.get(0)?,
                link: row.get(1)?,
                received_at_ms: row.get(2)?,
                complete: row.get(3)?,
                replays: row.get(4)?,
                raw: Vec::new(),
                instance: None,
            };
            let is_instance = row.get::<_, i64>(5)? == 0;
            let read = match is_instance {
                true => self.instance(entry.id).map(|instance| entry.instance = instance),
                false => self.raw(entry.id).map(|raw| entry.raw = raw),
            };
            match read {
                Ok(()) => {}
                Err(JournalError::Damaged) => {
                    self.set_damaged(entry.id);
                    continue;
                }
                Err(error) => return Err(error),
            }
            bytes += entry.raw.len();
            entries.push(entry);
            if bytes >= PENDING_BYTES {
                break;
            }
        }
        Ok(entries)
    }

    /// All bytes of an entry, verbatim and checked.
    ///
    /// # Errors
    /// `Refused` when it is a DICOM instance: [`Reader::open_instance`].
    pub fn raw(&self, entry: EntryId) -> Result<Vec<u8>, JournalError> {
        custody::raw(&self.conn, &self.seal, entry.0)
    }

    /// True when a link brought a message under this identity.
    pub fn has_message(&self, link: &str, identity: &[u8]) -> Result<bool, JournalError> {
        let hash = custody::identity(&self.seal, link, identity);
        let mut statement = self.conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM entry WHERE identity = ?1)")?;
        Ok(statement.query_row([hash], |row| row.get(0))?)
    }

    /// The report last filed about a subject of a link, repeats not counted.
    pub fn latest_of(&self, link: &str, subject_key: &[u8]) -> Result<Option<Latest>, JournalError> {
        self.latest(filing::subject(&self.seal, link, subject_key), None)
    }

    /// What was last filed about a subject, or of that what was made of this entry.
    pub(super) fn latest(&self, subject: i64, entry: Option<EntryId>) -> Result<Option<Latest>, JournalError> {
        let latest = self
            .conn
            .prepare_cached(
                "SELECT id, completed_s, content, entry,
                        EXISTS (SELECT 1 FROM hold WHERE hold.report = report.id AND state <= 1),
                        EXISTS (SELECT 1 FROM hold WHERE hold.report = report.id AND state = 4 AND note = ?3)
                 FROM report WHERE subject = ?1 AND repeat_of IS NULL AND (?2 IS NULL OR entry = ?2)
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row((subject, entry, filing::INTERPRETED_AGAIN), |r| {
                Ok(Latest {
                    report: r.get(0)?,
                    completed_at_s: r.get(1)?,
                    content: r.get(2)?,
                    entry: r.get(3)?,
                    held: r.get(4)?,
                    undone: r.get(5)?,
                    seal: self.seal.clone(),
                })
            })
            .optional()?;
        Ok(latest)
    }

    /// Held results a person released, by report, oldest release first.
    pub fn released(&self, limit: usize) -> Result<Vec<Released>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT r.id, r.releases, e.link, e.received_ms, r.json, h.rematch,
                    coalesce(r.decisions, ''), e.id, coalesce(e.driver, '')
             FROM (SELECT DISTINCT report, rematch FROM hold WHERE state = 1 ORDER BY report, rematch LIMIT ?1) h
             JOIN report r ON r.id = h.report JOIN entry e ON e.id = r.entry ORDER BY r.id, h.rematch",
        )?;
        let mut rows = statement.query([limit as i64])?;
        let mut released = Vec::new();
        while let Some(row) = rows.next()? {
            let report: ReportId = row.get(0)?;
            let rematch = row.get(5)?;
            let released_holds = self.released_holds(report, rematch)?;
            match self.seal.open(&self.conn, Place::Report, report.0, &row.get::<_, Vec<u8>>(4)?) {
                Ok(json) => released.push(Released {
                    report,
                    serial: row.get(1)?,
                    entry: row.get(7)?,
                    link: row.get(2)?,
                    driver: row.get(8)?,
                    received_at_ms: row.get(3)?,
                    observations: released_holds.iter().map(|hold| hold.1).collect(),
                    reasons: released_holds.iter().map(|hold| hold.2.clone()).collect(),
                    rematch,
                    json,
                    decisions: row.get(6)?,
                    holds: released_holds.into_iter().map(|hold| hold.0).collect(),
                }),
                Err(JournalError::Damaged) => self.set_unreadable(report),
                Err(error) => return Err(error),
            }
        }
        Ok(released)
    }

    /// A report that cannot be read cannot be released: its results are held, with that reason.
    pub fn set_unreadable(&self, report: ReportId) {
        if let Some(writer) = &self.writer {
            writer.report_damaged_report(report);
        }
    }

    /// The canonical report.
    pub fn report(&self, report: ReportId) -> Result<Vec<u8>, JournalError> {
        let sealed: Vec<u8> = self
            .conn
            .prepare_cached("SELECT json FROM report WHERE id = ?1")?
            .query_row([report], |r| r.get(0))
            .optional()?
            .ok_or(JournalError::NotFound("report"))?;
        self.seal.open(&self.conn, Place::Report, report.0, &sealed)
    }

    pub fn lookups(&self, report: ReportId) -> Result<Vec<(Lookup, String)>, JournalError> {
        let sealed: Vec<u8> = self
            .conn
            .prepare_cached("SELECT ids FROM report WHERE id = ?1")?
            .query_row([report], |r| r.get(0))
            .optional()?
            .ok_or(JournalError::NotFound("report"))?;
        let plain = self.seal.open(&self.conn, Place::Ids, report.0, &sealed)?;
        serde_json::from_slice(&plain).map_err(|_| JournalError::Damaged)
    }

    /// An entry whose bytes are lost is set aside, so that the next one is read.
    pub fn set_damaged(&self, entry: EntryId) {
        if let Some(writer) = &self.writer {
            writer.report_damaged_entry(entry);
        }
    }

    fn released_holds(&self, report: ReportId, rematch: bool) -> Result<Vec<(HoldId, u32, String)>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, observation, reason FROM hold WHERE report = ?1 AND state = ?2 AND rematch = ?3
             ORDER BY observation",
        )?;
        let rows = statement.query_map((report, RELEASED, rematch), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
