//! The floor: what SQLite alone does on this disk, with the journal's durability and rows of the same size.

use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

/// A bare loop over one table.
pub struct Loop {
    database: Connection,
}

impl Loop {
    /// Opens a fresh database with the journal's settings: WAL, `synchronous=FULL`, own checkpoints.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let database = Connection::open(path)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "full")?;
        database.pragma_update(None, "wal_autocheckpoint", 0)?;
        database.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT")?;
        Ok(Loop { database })
    }

    /// Milliseconds of each of `count` commits of a single row.
    pub fn commits(&mut self, count: usize, bytes: usize) -> anyhow::Result<Vec<f64>> {
        let row = vec![0x5A; bytes];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            self.commit([row.as_slice()])?;
            times.push(super::ms(began.elapsed()));
        }
        self.checkpoint()?;
        Ok(times)
    }

    /// Rows committed per second in groups of `group`, over `time`.
    pub fn rows_per_s(&mut self, group: usize, bytes: usize, time: Duration) -> anyhow::Result<f64> {
        let row = vec![0x5A; bytes];
        let (began, mut rows) = (Instant::now(), 0_u64);
        while began.elapsed() < time {
            self.commit(std::iter::repeat_n(row.as_slice(), group))?;
            rows += group as u64;
        }
        let rate = rows as f64 / began.elapsed().as_secs_f64();
        self.checkpoint()?;
        Ok(rate)
    }

    /// Commits these rows together.
    pub fn commit<'a>(&mut self, rows: impl IntoIterator<Item = &'a [u8]>) -> rusqlite::Result<()> {
        let transaction = self.database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO row (bytes) VALUES (?1)")?;
            for row in rows {
                insert.execute([row])?;
            }
        }
        transaction.commit()
    }

    fn checkpoint(&self) -> rusqlite::Result<()> {
        self.database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}
