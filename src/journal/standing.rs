//! Whether an instance is safe: what a storage commitment answers for.

use super::desk::Desk;
use super::entrusted;
use super::error::JournalError;
use super::reader::Reader;
use super::types::{EntryId, Latest, StudyId};
use serde::Serialize;

/// True of an entry `e` that is an instance which its modality was told is safe, and which nobody took who was an archive
/// then: this box alone has it, maybe.
pub(super) const IS_ONLY_HERE: &str = "
  EXISTS (SELECT 1 FROM instance i WHERE i.entry = e.id AND i.promised = 1 AND NOT EXISTS (
    SELECT 1 FROM entry same JOIN instance copy ON copy.entry = same.id
    JOIN report first ON first.id = (SELECT min(id) FROM report WHERE entry = same.id)
    JOIN report r ON r.entry = same.id AND r.subject = first.subject
    JOIN dispatch d ON d.report = r.id JOIN outbox o ON o.dispatch = d.id
    WHERE same.identity = e.identity AND same.digest = e.digest
      AND copy.sop_class = i.sop_class AND copy.transfer_syntax = i.transfer_syntax AND o.state = 1
      AND coalesce(o.original, o.destination IN (SELECT destination FROM archive))
      AND NOT EXISTS (SELECT 1 FROM entrusted n WHERE n.outbox = o.id AND n.state = 2)))";

/// Says of destinations whether they are archives. What is not named here any more stays what it was.
pub(super) fn name_archives(desk: &Desk<'_>, destinations: &[(String, bool)]) -> Result<(), JournalError> {
    for (destination, is_archive) in destinations {
        let sql = match is_archive {
            true => "INSERT OR IGNORE INTO archive(destination) VALUES (?1)",
            false => "DELETE FROM archive WHERE destination = ?1",
        };
        desk.conn.prepare_cached(sql)?.execute([destination])?;
    }
    Ok(())
}

/// Their modality is about to be told that these instances are safe. False when one of them is gone.
pub(super) fn promise(desk: &Desk<'_>, instances: &[EntryId]) -> Result<bool, JournalError> {
    let sql = "UPDATE instance SET promised = 1, let_go = NULL WHERE entry = ?1";
    let mut statement = desk.conn.prepare_cached(sql)?;
    let mut all = true;
    for instance in instances {
        all &= statement.execute([instance])? > 0;
    }
    Ok(all)
}

/// A person says that an image is kept elsewhere, or that nobody needs it: it goes as others do, though its modality was told
/// that it is safe. Told so again, it is kept again.
pub(super) fn let_go(desk: &Desk<'_>, instance: EntryId, reason: &str) -> Result<(), JournalError> {
    let sql = format!(
        "UPDATE instance SET promised = 0, let_go = ?2
         WHERE entry = ?1 AND EXISTS (SELECT 1 FROM entry e WHERE e.id = ?1 AND {IS_ONLY_HERE})"
    );
    if desk.conn.prepare_cached(&sql)?.execute((instance, reason))? == 0 {
        return Err(JournalError::NotFound("image that is safe here alone"));
    }
    tracing::info!(
        entry = instance.0,
        "an image that its modality was told is safe need not be kept here, as a person says"
    );
    Ok(())
}

/// An image that is safe here alone, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnlyHere {
    /// Its entry.
    pub entry: EntryId,
    /// The study it belongs to; none when it says of none.
    pub study: Option<StudyId>,
    /// The link it came in on.
    pub link: String,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceStanding {
    /// It never came.
    Unknown,
    /// It came, as an instance of another class.
    OtherClass,
    /// It came.
    Kept {
        /// The newest entry that holds it.
        entry: EntryId,
        /// What its archives did.
        archives: Archives,
    },
}

/// What the archives an instance goes to did: how many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archives {
    /// Where it goes is not decided yet.
    undecided: i64,
    /// All of them.
    all: i64,
    /// Still to take it.
    pending: i64,
    /// Took it.
    delivered: i64,
    /// Took it and were asked to commit to it.
    asked: i64,
    /// Committed to it.
    committed: i64,
}

impl Archives {
    /// True when there is an archive and all of them took it.
    pub fn is_delivered(&self) -> bool {
        self.undecided == 0 && self.all > 0 && self.delivered == self.all
    }

    /// True when they took it and those that were asked to commit to it did so.
    pub fn is_committed(&self) -> bool {
        self.is_delivered() && self.asked > 0 && self.committed == self.asked
    }

    /// True when it may still come true.
    pub fn is_pending(&self) -> bool {
        self.undecided + self.pending > 0
    }
}

impl Reader {
    /// How the newest instance with this SOP Instance UID and class stands with these destinations. Whether its bytes
    /// are whole is not looked at.
    pub fn instance_standing(
        &self,
        sop_instance_uid: &str,
        sop_class_uid: &str,
        archives: &[String],
    ) -> Result<InstanceStanding, JournalError> {
        let found = self.instances_of(sop_instance_uid)?;
        if found.is_empty() {
            return Ok(InstanceStanding::Unknown);
        }
        let newest = found.iter().rev().find(|(_, instance)| instance.sop_class_uid == sop_class_uid);
        let Some((entry, newest)) = newest else { return Ok(InstanceStanding::OtherClass) };
        let mut stands = Archives::default();
        // One that came again because its file was lost went out when it came first.
        for (entry, _) in found.iter().filter(|(_, instance)| instance.content_key() == newest.content_key()) {
            self.count_archives(*entry, archives, &mut stands)?;
        }
        Ok(InstanceStanding::Kept { entry: *entry, archives: stands })
    }

    /// True when every byte of an instance is what its sender was acknowledged. Reads all of them, as long as `is_wanted`
    /// says so.
    ///
    /// # Errors
    /// `Closed` when it said no.
    pub fn is_whole(&self, instance: EntryId, is_wanted: &dyn Fn() -> bool) -> Result<bool, JournalError> {
        let instance = match self.instance(instance) {
            Ok(Some(instance)) => instance,
            Ok(None) | Err(JournalError::Damaged) => return Ok(false),
            Err(error) => return Err(error),
        };
        match self.check_instance(&instance, is_wanted) {
            Ok(()) => Ok(true),
            Err(JournalError::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True when the image that was filed last needs no other copy of it: whoever was to have it has it, or its file is
    /// whole, so that they can. One that went nowhere is with nobody.
    pub fn needs_no_other_copy(&self, latest: &Latest) -> Result<bool, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM dispatch WHERE report = ?1)
               AND NOT EXISTS (SELECT 1 FROM dispatch WHERE report = ?1 AND pending + parked + discarded > 0)
               AND NOT EXISTS (SELECT 1 FROM dispatch d JOIN outbox o ON o.dispatch = d.id
                               JOIN entrusted n ON n.outbox = o.id WHERE d.report = ?1 AND n.state <> ?2)",
        )?;
        let is_taken = statement.query_row((latest.report, entrusted::COMMITTED), |r| r.get(0))?;
        Ok(is_taken || self.is_whole(latest.entry, &|| true)?)
    }

    /// Images of which their modality was told that they are safe and that no archive took, oldest first: of one study, or
    /// of all.
    pub fn only_here(&self, study: Option<StudyId>, limit: usize) -> Result<Vec<OnlyHere>, JournalError> {
        let sql = format!(
            "SELECT e.id, s.study, e.link, e.received_ms FROM instance p JOIN entry e ON e.id = p.entry
             LEFT JOIN series s ON s.id = p.series
             WHERE p.promised = 1 AND (?1 IS NULL OR s.study = ?1) AND {IS_ONLY_HERE} ORDER BY e.id LIMIT ?2"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map((study, limit as i64), |r| {
            Ok(OnlyHere { entry: r.get(0)?, study: r.get(1)?, link: r.get(2)?, received_ms: r.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn count_archives(&self, entry: EntryId, archives: &[String], stands: &mut Archives) -> Result<(), JournalError> {
        let waiting = "SELECT waiting IS NOT NULL FROM entry WHERE id = ?1";
        stands.undecided += self.conn.prepare_cached(waiting)?.query_row([entry], |r| r.get::<_, i64>(0))?;
        let mut statement = self.conn.prepare_cached(
            "SELECT o.destination, o.state = 1 AND coalesce(o.original, 1), o.state = 0, n.state
             FROM report r JOIN dispatch d ON d.report = r.id
             JOIN outbox o ON o.dispatch = d.id LEFT JOIN entrusted n ON n.outbox = o.id WHERE r.entry = ?1",
        )?;
        let mut rows = statement.query([entry])?;
        while let Some(row) = rows.next()? {
            let (destination, entrusted): (String, Option<i64>) = (row.get(0)?, row.get(3)?);
            let (is_delivered, is_pending): (bool, bool) = (row.get(1)?, row.get(2)?);
            if archives.contains(&destination) {
                stands.all += 1;
                stands.pending += i64::from(is_pending || entrusted == Some(entrusted::OPEN));
                // What it says that it has not got counts as not taken.
                stands.delivered += i64::from(is_delivered && entrusted != Some(entrusted::FAILED));
                stands.asked += i64::from(entrusted.is_some());
                stands.committed += i64::from(entrusted == Some(entrusted::COMMITTED));
            }
        }
        Ok(())
    }
}
