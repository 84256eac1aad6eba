//! Is everything in the journal whole, and does it add up?

use super::account::{self, Account};
use super::error::JournalError;
use super::reader::Reader;
use super::seal::Place;
use super::types::EntryId;
use serde::{Deserialize, Serialize};

/// Rows read at once.
const BATCH: i64 = 500;
/// Most damaged rows named.
const NAMED_MAX: usize = 1000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Entries whose bytes were read and compared with their digest.
    pub entries: u64,
    /// DICOM instances whose files were read and compared with their digest.
    pub instances: u64,
    /// Reports that were opened.
    pub reports: u64,
    /// Outgoing messages that were opened.
    pub messages: u64,
    /// What SQLite found wrong with the file; empty when it is whole.
    pub file: Vec<String>,
    /// Rows that do not open or do not match, as `table number`.
    pub damaged: Vec<String>,
    /// Lanes without exactly one head at their oldest pending message.
    pub broken_lanes: i64,
    /// The loss account.
    pub account: Account,
    /// Differences between the account and the rows, as `bucket account rows`.
    pub account_faults: Vec<String>,
}

impl Verified {
    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.file.is_empty()
            && self.damaged.is_empty()
            && self.broken_lanes == 0
            && self.account_faults.is_empty()
            && self.account.missing() == 0
    }
}

impl Reader {
    /// Reads every row. `progress` hears rows done and in all. Runs beside a working gateway, on one consistent view.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<Verified, JournalError> {
        let snapshot = self.conn.unchecked_transaction()?;
        let one = |sql: &str| -> Result<i64, JournalError> { Ok(self.conn.query_row(sql, [], |r| r.get(0))?) };
        let all = one("SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM report)
                              + (SELECT count(*) FROM outgoing) + (SELECT count(*) FROM study)
                              + (SELECT count(*) FROM series) + (SELECT count(*) FROM performed_step)
                              + (SELECT count(*) FROM commitment) + (SELECT count(*) FROM work_order)
                              + (SELECT count(*) FROM charted)")?
        .unsigned_abs();
        let mut verified = Verified { file: self.integrity()?, ..Verified::default() };
        let mut done = 0;
        let mut step = |damaged: &mut Vec<String>, table: &str, id: i64, outcome: Result<(), JournalError>| {
            done += 1;
            progress(done, all);
            match outcome {
                Ok(()) => Ok(()),
                Err(JournalError::Damaged) => {
                    if damaged.len() < NAMED_MAX {
                        damaged.push(format!("{table} {id}"));
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.each("SELECT id, NULL, NULL FROM entry WHERE id > ?1 AND parts > 0 ORDER BY id LIMIT ?2", |id, _, _| {
            verified.entries += 1;
            step(&mut verified.damaged, "entry", id, self.raw(EntryId(id)).map(drop))
        })?;
        self.each("SELECT entry, NULL, NULL FROM instance WHERE entry > ?1 ORDER BY entry LIMIT ?2", |id, _, _| {
            verified.instances += 1;
            let instance = self.instance(EntryId(id));
            let checked =
                instance.and_then(|found| found.map_or(Ok(()), |found| self.check_instance(&found, &|| true)));
            step(&mut verified.damaged, "instance", id, checked)
        })?;
        self.each("SELECT id, json, ids FROM report WHERE id > ?1 ORDER BY id LIMIT ?2", |id, json, ids| {
            verified.reports += 1;
            let json = self.seal.open(&self.conn, Place::Report, id, &json);
            let ids = self.seal.open(&self.conn, Place::Ids, id, &ids);
            step(&mut verified.damaged, "report", id, json.and(ids).map(drop))
        })?;
        self.each("SELECT id, body, NULL FROM outgoing WHERE id > ?1 ORDER BY id LIMIT ?2", |id, body, _| {
            verified.messages += 1;
            let body = self.seal.open(&self.conn, Place::Body, id, &body);
            step(&mut verified.damaged, "message", id, body.map(drop))
        })?;
        for (table, column, place) in [
            ("study", "sealed", Place::Study),
            ("series", "sealed", Place::Series),
            ("performed_step", "json", Place::PerformedStep),
            ("commitment", "json", Place::Commitment),
            ("work_order", "json", Place::WorkOrder),
            ("charted", "sealed", Place::Charted),
        ] {
            let sql = format!("SELECT id, {column}, NULL FROM {table} WHERE id > ?1 ORDER BY id LIMIT ?2");
            self.each(&sql, |id, sealed, _| {
                let opened = self.seal.open(&self.conn, place, id, &sealed);
                step(&mut verified.damaged, table, id, opened.map(drop))
            })?;
        }
        verified.broken_lanes =
            one("SELECT (SELECT count(*) FROM (SELECT min(id) AS oldest FROM outbox WHERE state = 0
                                           GROUP BY destination, lane)
                     JOIN outbox ON id = oldest WHERE head IS NULL)
                  + (SELECT count(*) FROM outbox o WHERE head IS NOT NULL AND (state <> 0 OR EXISTS (
                       SELECT 1 FROM outbox p WHERE p.destination = o.destination AND p.lane = o.lane
                         AND p.state = 0 AND p.id < o.id)))")?;
        verified.account = account::read(&self.conn, None)?;
        for (bucket, counted, rows) in [
            (
                "queued",
                verified.account.queued,
                one("SELECT coalesce(sum(results), 0) FROM dispatch WHERE pending > 0")?,
            ),
            (
                "parked",
                verified.account.parked,
                one("SELECT coalesce(sum(results), 0) FROM dispatch WHERE pending = 0 AND parked > 0")?,
            ),
            ("held", verified.account.held, one("SELECT count(*) FROM hold WHERE state <= 1")?),
        ] {
            if counted != rows {
                verified.account_faults.push(format!("{bucket} {counted} {rows}"));
            }
        }
        snapshot.finish()?;
        Ok(verified)
    }

    fn integrity(&self) -> Result<Vec<String>, JournalError> {
        let mut statement = self.conn.prepare("PRAGMA integrity_check(20)")?;
        let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
        let mut found = rows.collect::<Result<Vec<_>, _>>()?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    /// Runs through a table in slices, so that memory stays small however large it is.
    fn each(
        &self,
        sql: &str,
        mut look: impl FnMut(i64, Vec<u8>, Vec<u8>) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut statement = self.conn.prepare(sql)?;
        let mut after = 0;
        loop {
            let mut rows = statement.query([after, BATCH])?;
            let mut seen = 0;
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                seen += 1;
                let bytes = |at| row.get::<_, Option<Vec<u8>>>(at).map(Option::unwrap_or_default);
                look(after, bytes(1)?, bytes(2)?)?;
            }
            if seen < BATCH {
                return Ok(());
            }
        }
    }
}
