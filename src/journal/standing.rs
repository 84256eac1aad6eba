//! Whether an instance is safe: what a storage commitment answers for.

use super::error::JournalError;
use super::outbox::{DELIVERED, PENDING};
use super::reader::Reader;
use super::types::EntryId;

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceStanding {
    /// It never came.
    Unknown,
    /// It came, as an instance of another class.
    OtherClass,
    /// Its bytes are not what its sender was acknowledged, and no archive has it.
    Damaged,
    /// It is here with every byte, or an archive took it.
    Safe {
        /// An archive is still to take it.
        pending: bool,
        /// Every archive it went to took it, and there is one.
        delivered: bool,
    },
}

impl Reader {
    /// How the newest instance with this SOP Instance UID and class stands with these destinations. Reads all its bytes.
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
        let of_class = found.iter().rev().find(|(_, instance)| instance.sop_class_uid == sop_class_uid);
        let Some((entry, instance)) = of_class else { return Ok(InstanceStanding::OtherClass) };
        let (pending, delivered) = self.taken_by(*entry, archives)?;
        match self.check_instance(instance) {
            Ok(()) => Ok(InstanceStanding::Safe { pending, delivered }),
            Err(JournalError::Damaged) if delivered => Ok(InstanceStanding::Safe { pending, delivered }),
            Err(JournalError::Damaged) => Ok(InstanceStanding::Damaged),
            Err(error) => Err(error),
        }
    }

    /// Whether a destination of these is still to take an entry, and whether all it went to took it.
    fn taken_by(&self, entry: EntryId, archives: &[String]) -> Result<(bool, bool), JournalError> {
        let waiting = "SELECT waiting IS NOT NULL FROM entry WHERE id = ?1";
        let mut pending: bool = self.conn.prepare_cached(waiting)?.query_row([entry], |r| r.get(0))?;
        let mut statement = self.conn.prepare_cached(
            "SELECT o.destination, o.state FROM report r JOIN dispatch d ON d.report = r.id
             JOIN outbox o ON o.dispatch = d.id WHERE r.entry = ?1",
        )?;
        let mut rows = statement.query([entry])?;
        let (mut taken, mut all) = (0, 0);
        while let Some(row) = rows.next()? {
            let (destination, state): (String, i64) = (row.get(0)?, row.get(1)?);
            if archives.contains(&destination) {
                all += 1;
                pending |= state == PENDING;
                taken += i64::from(state == DELIVERED);
            }
        }
        Ok((pending, all > 0 && taken == all))
    }
}
