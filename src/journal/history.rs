//! What was filed before: the patient's earlier reports, control runs, what the controls lock. Found by keyed hash,
//! opened only here, kept as long as the journal keeps entries.

use super::error::JournalError;
use super::filing;
use super::reader::Reader;
use super::seal::Place;
use super::types::{Entry, EntryId, HoldId, Lookup, ReportId};

/// A report that was filed before.
#[derive(Clone, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub report: ReportId,
    /// Its entry.
    pub entry: EntryId,
    /// The link it came in on.
    pub link: String,
    /// When its entry was taken into custody, Unix milliseconds.
    pub received_ms: i64,
    /// The canonical report.
    pub json: Vec<u8>,
}

/// A result that waits for its controls.
#[derive(Clone, PartialEq, Eq)]
pub struct Locked {
    /// The hold.
    pub hold: HoldId,
    /// Its report.
    pub report: ReportId,
    /// Its place in the report, from 0.
    pub observation: u32,
    /// When its entry was taken into custody, Unix milliseconds.
    pub received_ms: i64,
    /// The canonical report.
    pub json: Vec<u8>,
}

impl Reader {
    /// Reports of entries with this identifier that came before the entry `before` and not before `from_ms`, the
    /// newest first and at most `limit`. Repeats and what cannot be opened any more are left out. An entry may hold
    /// reports about others as well: the caller compares.
    pub fn reports_of(
        &self,
        (kind, id): (Lookup, &str),
        before: EntryId,
        from_ms: i64,
        limit: usize,
    ) -> Result<Vec<Past>, JournalError> {
        let hash = self.seal.hash(kind.domain(), &[id.as_bytes()]);
        let mut statement = self.conn.prepare_cached(
            "SELECT r.id, e.id, e.link, e.received_ms, r.json
             FROM lookup l JOIN entry e ON e.id = l.entry JOIN report r ON r.entry = e.id
             WHERE l.hash = ?1 AND l.entry < ?2 AND e.received_ms >= ?3 AND r.repeat_of IS NULL
             ORDER BY l.entry DESC, r.id DESC LIMIT ?4",
        )?;
        let mut rows = statement.query((hash, before, from_ms, limit as i64))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let report: ReportId = row.get(0)?;
            match self.seal.open(&self.conn, Place::Report, report.0, &row.get::<_, Vec<u8>>(4)?) {
                Ok(json) => {
                    found.push(Past { report, entry: row.get(1)?, link: row.get(2)?, received_ms: row.get(3)?, json })
                }
                Err(JournalError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Results of a link that wait for its controls, in the order in which they were filed, behind `after`.
    pub fn locked(&self, link: &str, after: HoldId, limit: usize) -> Result<Vec<Locked>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT h.id, r.id, h.observation, e.received_ms, r.json
             FROM hold h JOIN report r ON r.id = h.report JOIN entry e ON e.id = r.entry
             WHERE h.state = 0 AND h.reason = 'qc-lock' AND e.link = ?1 AND h.id > ?2
             ORDER BY h.id LIMIT ?3",
        )?;
        let mut rows = statement.query((link, after, limit as i64))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let report: ReportId = row.get(1)?;
            let json = match self.seal.open(&self.conn, Place::Report, report.0, &row.get::<_, Vec<u8>>(4)?) {
                Ok(json) => json,
                // It is told and set aside when a person releases it.
                Err(JournalError::Damaged) => Vec::new(),
                Err(error) => return Err(error),
            };
            found.push(Locked { hold: row.get(0)?, report, observation: row.get(2)?, received_ms: row.get(3)?, json });
        }
        Ok(found)
    }

    /// True when results of a newer entry about the same subject were sent: what is older may not follow them
    /// (invariant I6). Also true when entries that came later are removed already: nobody knows whose they were.
    pub fn was_overtaken(&self, entry: EntryId, link: &str, subject_key: &[u8]) -> Result<bool, JournalError> {
        let subject = filing::subject(&self.seal, link, subject_key);
        let found = self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM report r JOIN dispatch d ON d.report = r.id
                                WHERE r.subject = ?1 AND r.repeat_of IS NULL AND r.entry > ?2)
                     OR EXISTS (SELECT 1 FROM meta WHERE entry_floor > ?2)",
            )?
            .query_row((subject, entry), |r| r.get(0))?;
        Ok(found)
    }

    /// The same of a report that was filed already.
    pub fn is_overtaken(&self, report: ReportId) -> Result<bool, JournalError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM report own JOIN report r ON r.subject = own.subject
                                JOIN dispatch d ON d.report = r.id
                                WHERE own.id = ?1 AND r.repeat_of IS NULL AND r.entry > own.entry)
                     OR EXISTS (SELECT 1 FROM report own JOIN meta ON entry_floor > own.entry WHERE own.id = ?1)",
            )?
            .query_row([report], |r| r.get(0))?;
        Ok(found)
    }

    /// Interpreted messages received in a span of time, in the order in which they came, behind `after`. Their bytes
    /// are read; what cannot be opened any more is left out, and so are images.
    pub fn interpreted(
        &self,
        (from_ms, to_ms): (i64, i64),
        after: EntryId,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, link, received_ms, complete, replays FROM entry
             WHERE id > ?1 AND received_ms >= ?2 AND received_ms < ?3 AND state = 2 AND parts > 0 ORDER BY id LIMIT ?4",
        )?;
        let mut rows = statement.query((after, from_ms, to_ms, limit as i64))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let id: EntryId = row.get(0)?;
            let raw = match self.raw(id) {
                Ok(raw) => raw,
                Err(JournalError::Damaged) => continue,
                Err(error) => return Err(error),
            };
            found.push(Entry {
                id,
                link: row.get(1)?,
                received_at_ms: row.get(2)?,
                complete: row.get(3)?,
                replays: row.get(4)?,
                raw,
                instance: None,
            });
        }
        Ok(found)
    }

    /// How many entries [`Reader::interpreted`] would give.
    pub fn interpreted_count(&self, (from_ms, to_ms): (i64, i64)) -> Result<u64, JournalError> {
        let count: i64 = self
            .conn
            .prepare_cached(
                "SELECT count(*) FROM entry WHERE received_ms >= ?1 AND received_ms < ?2 AND state = 2 AND parts > 0",
            )?
            .query_row((from_ms, to_ms), |r| r.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
