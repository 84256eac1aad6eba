//! What is here and went nowhere yet: what would be lost with the journal.

use super::error::{JournalError, OpenError};
use super::reader::Reader;
use super::schema;
use super::standing::IS_ONLY_HERE;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Counted in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Undelivered {
    /// Entries that were not interpreted, those that are damaged among them.
    pub entries: u64,
    /// Results that wait for a person, or were released and did not go out yet.
    pub held: u64,
    /// Messages on the way.
    pub queued: u64,
    /// Messages that a destination refused.
    pub parked: u64,
    /// Images that a modality was told are safe and no archive took, or took and did not commit to yet.
    pub only_here: u64,
    /// Requests for storage commitment that were not answered.
    pub commitments: u64,
    /// Orders that are not done.
    pub orders: u64,
    /// Studies that still grow: what their instances say was not told to the EHR.
    pub studies: u64,
    /// Number of the newest entry, 0 for none: all of it came with that or before. It is not counted.
    pub newest: u64,
}

impl Undelivered {
    /// All of it.
    pub fn total(&self) -> u64 {
        let here = self.entries + self.held + self.queued + self.parked + self.only_here;
        here + self.commitments + self.orders + self.studies
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in all ({} entries not read, {} results held, {} messages queued, {} parked, {} images only here, {} \
             commitments owed, {} orders open, {} studies that still grow)",
            self.total(),
            self.entries,
            self.held,
            self.queued,
            self.parked,
            self.only_here,
            self.commitments,
            self.orders,
            self.studies
        )
    }
}

impl Reader {
    /// See [`Undelivered`]. Reads whole tables.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn undelivered(&self) -> Result<Undelivered, JournalError> {
        Ok(Undelivered::count(&self.conn)?)
    }
}

impl Undelivered {
    /// What is in a data directory, whoever has the key of its journal: nothing where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn look(data: &Path) -> Result<Undelivered, OpenError> {
        let path = data.join(schema::FILE);
        match path.try_exists() {
            Ok(true) => Ok(Undelivered::count(&schema::open_reader(data)?)?),
            Ok(false) => Ok(Undelivered::default()),
            // Whoever may not look has not seen that nothing is there.
            Err(source) => Err(OpenError::File { what: "cannot look for the journal", path, source }),
        }
    }

    fn count(conn: &Connection) -> rusqlite::Result<Undelivered> {
        let sql = format!(
            "SELECT (SELECT count(*) FROM entry WHERE state <> 2),
                    (SELECT count(*) FROM hold WHERE state IN (0, 1)),
                    (SELECT count(*) FROM outbox WHERE state = 0),
                    (SELECT count(*) FROM outbox WHERE state = 2),
                    (SELECT count(*) FROM instance p JOIN entry e ON e.id = p.entry
                     WHERE p.promised = 1 AND {IS_ONLY_HERE}) + (SELECT count(*) FROM entrusted WHERE state = 0),
                    (SELECT count(*) FROM commitment WHERE state = 0),
                    (SELECT count(*) FROM work_order WHERE status <= 1),
                    (SELECT count(*) FROM study WHERE state = 0),
                    (SELECT coalesce(max(id), 0) FROM entry)"
        );
        conn.query_row(&sql, [], |row| {
            let at = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Undelivered {
                entries: at(0)?,
                held: at(1)?,
                queued: at(2)?,
                parked: at(3)?,
                only_here: at(4)?,
                commitments: at(5)?,
                orders: at(6)?,
                studies: at(7)?,
                newest: at(8)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn i7_a_journal_that_cannot_be_looked_for_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Undelivered::look(dir.path()).unwrap().total(), 0, "there is none");
        let why = |data: &Path| match Undelivered::look(data) {
            Err(OpenError::File { source, .. }) => source.raw_os_error(),
            other => panic!("{other:?}"),
        };
        let circle = dir.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert_eq!(why(&circle), Some(libc::ELOOP));
        // Somebody else's folder; root may look into all of them, and looks as somebody else here.
        let (closed, theirs) = (dir.path().join("closed"), dir.path().join("theirs"));
        for folder in [&closed, &theirs] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        let _ = chown(&theirs, Some(4711), Some(4711));
        let denied = crate::disk::as_owner_of(&theirs, || why(&closed)).unwrap();
        assert_eq!(denied, Some(libc::EACCES));
    }
}
