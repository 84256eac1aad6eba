//! What a person looks at: counts, held results, parked messages.

use super::account::{self, Account};
use super::error::JournalError;
use super::outbox::DELIVERED;
use super::reader::Reader;
use super::standing::IS_ONLY_HERE;
use super::types::{EntryId, HoldId, Lookup, OutboxId, ReportId};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

/// Messages whose latency is told, and how far back they may have been queued: a long backlog is not searched.
const LATENCY_SAMPLE: i64 = 10_000;
const LATENCY_LOOKED_AT: i64 = 100_000;

/// The journal in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Entries kept.
    pub entries: i64,
    /// Entries that wait to be interpreted.
    pub waiting: i64,
    /// Entries whose stored bytes are damaged.
    pub damaged: i64,
    /// Entries that came with the id of an earlier one and other bytes.
    pub identity_conflicts: i64,
    /// Images of which their modality was told that they are safe and that no archive took: kept however old they are.
    pub only_here: i64,
    /// The loss account, all days.
    pub account: Account,
    /// By destination, in order of name.
    pub destinations: Vec<DestinationStats>,
    /// From custody to the destination's answer, milliseconds, median of the last 10,000 messages; none when all of
    /// the last 100,000 still wait.
    pub latency_p50_ms: Option<i64>,
    /// The same, 99th percentile.
    pub latency_p99_ms: Option<i64>,
    /// Size of the database, bytes.
    pub bytes: i64,
    /// Bytes inside it that are free for new rows.
    pub reusable_bytes: i64,
}

/// One destination's queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStats {
    /// Its name.
    pub destination: String,
    /// Messages on the way.
    pub queued: i64,
    /// Messages that wait for a person.
    pub parked: i64,
    /// Age of the oldest message on the way, milliseconds.
    pub oldest_ms: Option<i64>,
}

/// A held result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Its number.
    pub id: HoldId,
    /// Its report.
    pub report: ReportId,
    /// Its entry.
    pub entry: EntryId,
    /// The link it came in on.
    pub link: String,
    /// The driver that read it, `id@version`.
    pub driver: String,
    /// Its place in the report, from 0.
    pub observation: u32,
    /// Why it is held.
    pub reason: String,
    /// When its entry came, Unix milliseconds.
    pub received_ms: i64,
    /// Name and version of the rule that holds it, `name@version`; none when a doubt of the driver does.
    pub rule: Option<String>,
    /// Why, in plain words; empty for what was filed before this was kept.
    pub why: String,
}

/// A message a destination refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRow {
    /// Its number.
    pub id: OutboxId,
    /// Its report.
    pub report: ReportId,
    /// Its entry.
    pub entry: EntryId,
    /// Where it was to go.
    pub destination: String,
    /// Its MSH-10 or Bundle identifier.
    pub message_id: String,
    /// What the destination said.
    pub reason: String,
    /// Results in it.
    pub results: u32,
    /// When it was parked, Unix milliseconds.
    pub parked_ms: i64,
}

impl Reader {
    /// Counts everything. `now_ms` is the wall clock, for ages.
    pub fn stats(&self, now_ms: i64) -> Result<Stats, JournalError> {
        let one = |sql: &str| -> Result<i64, JournalError> {
            Ok(self.conn.prepare_cached(sql)?.query_row([], |r| r.get(0))?)
        };
        let page = one("PRAGMA page_size")?;
        let mut stats = Stats {
            entries: one("SELECT count(*) FROM entry")?,
            waiting: one("SELECT count(*) FROM entry WHERE waiting > 0")?,
            damaged: one("SELECT count(*) FROM entry WHERE state = 3")?,
            identity_conflicts: one("SELECT count(*) FROM entry WHERE conflict = 1")?,
            only_here: one(&format!(
                "SELECT count(*) FROM instance p JOIN entry e ON e.id = p.entry WHERE p.promised = 1 AND {IS_ONLY_HERE}"
            ))?,
            account: self.account()?,
            bytes: page * one("PRAGMA page_count")?,
            reusable_bytes: page * one("PRAGMA freelist_count")?,
            ..Stats::default()
        };
        (stats.latency_p50_ms, stats.latency_p99_ms) = (self.latency(50)?, self.latency(99)?);
        let mut statement = self.conn.prepare_cached(
            "SELECT destination, sum(state = 0), sum(state = 2) FROM (
               SELECT destination, state FROM outbox WHERE state = 0
               UNION ALL SELECT destination, state FROM outbox WHERE state = 2)
             GROUP BY destination ORDER BY destination",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let destination: String = row.get(0)?;
            stats.destinations.push(DestinationStats {
                queued: row.get(1)?,
                parked: row.get(2)?,
                oldest_ms: self.oldest(&destination)?.map(|at| (now_ms - at).max(0)),
                destination,
            });
        }
        Ok(stats)
    }

    /// How a destination's queue is, messages counted up to `counted_max` of each kind. Reads indexes only, so it may be
    /// asked every few seconds. `now_ms` is the wall clock, for the age.
    pub fn destination_queue(
        &self,
        destination: &str,
        counted_max: i64,
        now_ms: i64,
    ) -> Result<DestinationStats, JournalError> {
        let count = |sql: &str| -> Result<i64, JournalError> {
            Ok(self.conn.prepare_cached(sql)?.query_row((destination, counted_max), |r| r.get(0))?)
        };
        Ok(DestinationStats {
            queued: count("SELECT count(*) FROM (SELECT 1 FROM outbox WHERE destination = ?1 AND state = 0 LIMIT ?2)")?,
            parked: count("SELECT count(*) FROM (SELECT 1 FROM outbox WHERE destination = ?1 AND state = 2 LIMIT ?2)")?,
            oldest_ms: self.oldest(destination)?.map(|at| (now_ms - at).max(0)),
            destination: destination.to_string(),
        })
    }

    /// Destinations other than these for which messages wait, to be sent or for a person, and how many, up to
    /// `counted_max`: nobody delivers them. Reads indexes only.
    pub fn stranded(&self, configured: &[&str], counted_max: i64) -> Result<Vec<(String, i64)>, JournalError> {
        // From one name to the next: a long queue is not read through.
        let mut names = std::collections::BTreeSet::new();
        for after in [
            "SELECT destination FROM outbox WHERE state = 0 AND destination > ?1 ORDER BY destination LIMIT 1",
            "SELECT destination FROM outbox WHERE state = 2 AND destination > ?1 ORDER BY destination LIMIT 1",
        ] {
            let mut next = self.conn.prepare_cached(after)?;
            let mut last = String::new();
            while let Some(name) = next.query_row([&last], |r| r.get::<_, String>(0)).optional()? {
                names.insert(name.clone());
                last = name;
            }
        }
        names.retain(|name| !configured.contains(&name.as_str()));
        let count = |name: String| {
            let queue = self.destination_queue(&name, counted_max, 0)?;
            Ok((name, queue.queued + queue.parked))
        };
        names.into_iter().map(count).collect()
    }

    /// How many results of each link are held for this reason, among the `looked_at_max` that are held last.
    pub fn held_for(&self, reason: &str, looked_at_max: i64) -> Result<Vec<(String, i64)>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT e.link, count(*)
             FROM (SELECT report, reason FROM hold WHERE state = 0 ORDER BY report DESC, id DESC LIMIT ?2) h
             JOIN report r ON r.id = h.report JOIN entry e ON e.id = r.entry WHERE h.reason = ?1 GROUP BY e.link",
        )?;
        let rows = statement.query_map((reason, looked_at_max), |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The loss account of all days.
    pub fn account(&self) -> Result<Account, JournalError> {
        account::read(&self.conn, None)
    }

    /// Held results, oldest first.
    pub fn holds(&self, limit: usize) -> Result<Vec<HoldRow>, JournalError> {
        self.hold_rows("h.state = 0 ORDER BY h.report, h.id LIMIT ?1", limit as i64)
    }

    /// Held results of one specimen; the interpreter closes those a complete report covers.
    pub fn holds_of(&self, kind: Lookup, id: &str) -> Result<Vec<HoldRow>, JournalError> {
        let hash = self.seal.hash(kind.domain(), &[id.as_bytes()]);
        self.hold_rows("h.state = 0 AND e.id IN (SELECT entry FROM lookup WHERE hash = ?1) ORDER BY h.id", hash)
    }

    /// Parked messages, oldest first.
    pub fn parked(&self, limit: usize) -> Result<Vec<ParkedRow>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT o.id, d.report, r.entry, o.destination, o.message_id, coalesce(o.note, ''), o.results,
                    coalesce(o.settled_ms, 0)
             FROM outbox o JOIN dispatch d ON d.id = o.dispatch JOIN report r ON r.id = d.report
             WHERE o.state = 2 ORDER BY o.id LIMIT ?1",
        )?;
        let rows = statement.query_map([limit as i64], |r| {
            Ok(ParkedRow {
                id: r.get(0)?,
                report: r.get(1)?,
                entry: r.get(2)?,
                destination: r.get(3)?,
                message_id: r.get(4)?,
                reason: r.get(5)?,
                results: r.get(6)?,
                parked_ms: r.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The oldest messages that a destination refused, by number.
    pub fn parked_for(&self, destination: &str, limit: usize) -> Result<Vec<OutboxId>, JournalError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT id FROM outbox WHERE state = 2 AND destination = ?1 ORDER BY id LIMIT ?2")?;
        let rows = statement.query_map((destination, limit as i64), |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Specimen ids of everything that waits for a person, each once: held results, parked messages. Damaged rows
    /// have no readable id and are left out.
    pub fn waiting_specimens(&self) -> Result<Vec<String>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT DISTINCT report FROM hold WHERE state = 0
             UNION SELECT d.report FROM outbox o JOIN dispatch d ON d.id = o.dispatch WHERE o.state = 2 ORDER BY 1",
        )?;
        let reports = statement.query_map([], |r| r.get(0))?.collect::<Result<Vec<ReportId>, _>>()?;
        let mut specimens = std::collections::BTreeSet::new();
        for report in reports {
            match self.lookups(report) {
                Ok(ids) => specimens.extend(ids.into_iter().filter(|(k, _)| *k == Lookup::Specimen).map(|(_, id)| id)),
                Err(JournalError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(specimens.into_iter().collect())
    }

    fn hold_rows(&self, condition: &str, parameter: i64) -> Result<Vec<HoldRow>, JournalError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT h.id, h.report, e.id, e.link, h.observation, h.reason, e.received_ms, coalesce(e.driver, ''), h.rule,
                    coalesce(h.why, '')
             FROM hold h JOIN report r ON r.id = h.report JOIN entry e ON e.id = r.entry WHERE {condition}"
        ))?;
        let rows = statement.query_map([parameter], |r| {
            Ok(HoldRow {
                id: r.get(0)?,
                report: r.get(1)?,
                entry: r.get(2)?,
                link: r.get(3)?,
                observation: r.get(4)?,
                reason: r.get(5)?,
                received_ms: r.get(6)?,
                driver: r.get(7)?,
                rule: r.get(8)?,
                why: r.get(9)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The lanes' heads hold the oldest message of each lane, so the oldest of all is a head.
    fn oldest(&self, destination: &str) -> Result<Option<i64>, JournalError> {
        Ok(self
            .conn
            .prepare_cached(
                "SELECT received_ms FROM outbox
                 WHERE id = (SELECT min(id) FROM outbox WHERE head IN (1, 2) AND destination = ?1)",
            )?
            .query_row([destination], |r| r.get(0))
            .map(Some)
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(None),
                other => Err(other),
            })?)
    }

    /// Of the messages delivered last, among those queued lately.
    fn latency(&self, percent: i64) -> Result<Option<i64>, JournalError> {
        let ms = self
            .conn
            .prepare_cached(
                "WITH recent AS (
                   SELECT max(settled_ms - received_ms, 0) AS ms FROM outbox
                   WHERE id > (SELECT max(id) FROM outbox) - ?2 AND state = ?3 ORDER BY id DESC LIMIT ?4)
                 SELECT ms FROM recent ORDER BY ms LIMIT 1 OFFSET (SELECT (count(*) - 1) * ?1 / 100 FROM recent)",
            )?
            .query_map((percent, LATENCY_LOOKED_AT, DELIVERED, LATENCY_SAMPLE), |r| r.get(0))?
            .next()
            .transpose()?;
        Ok(ms)
    }
}
