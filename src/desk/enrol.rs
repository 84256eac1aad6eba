//! Enrolment: which boxes there are, by their keys. The desk decides who a box is; a box says nothing but that it has a key.
//!
//! ```text
//! box: key, request, shows a code ---> desk: waits, told 202 until ...
//! person: `desk enrol accept CODE --name bench-1`  ---> ... a certificate for bench-1, for that key alone
//! box, at two thirds of its life: new key, asks with the certificate it has ---> the next certificate
//! box that slept through its certificate's end: asks with the key it had ---> waits for a person again
//! ```
//!
//! - A code ([`crate::tls::Code`]) pins the key of the box that shows it. It is accepted once, must be collected within
//!   [`COLLECTED_WITHIN_S`], and is no secret.
//! - The name comes from the person who accepts, never from the request. None begins with `desk-`: the broker's rules
//!   know desks by that.
//! - One who asks again with the same key gets the same certificate: an answer that was lost costs nothing.
//! - A certificate that is barred renews nothing; it ends by itself. Its key gets another only where a person says
//!   that it replaces what is there.
//!
//! Everything is in one file beside `desk.toml`, so that `enrol serve` and the operator's commands see the same, and every
//! change is in the record ([`super::audit`]). [`serve`] is the endpoint (EST, RFC 7030).

pub mod serve;

use super::audit;
use super::authority::{Authority, AuthorityError, Signed, Use};
use crate::config::check::name_is_usable;
use crate::tls::request::PublicKey;
use crate::tls::{Code, Facts};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "enrol.db";
/// Requests that wait at most; the one that asked longest ago makes room.
const WAITING_MAX: i64 = 1000;
/// A request that was not repeated for this long is forgotten: a day.
const FORGOTTEN_AFTER_S: i64 = 24 * 3600;
/// A code that was accepted is good for this long: 7 days.
pub const COLLECTED_WITHIN_S: i64 = 7 * 24 * 3600;
/// A box that waits asks again after this; after half an hour, less often.
const ASK_AGAIN_S: i64 = 5;
const ASK_AGAIN_LATE_S: i64 = 60;
const LATE_S: i64 = 1800;
/// Certificates one box gets in a day at most.
const RENEWALS_A_DAY: i64 = 24;
const DAY_S: i64 = 24 * 3600;
/// Certificates that ended so long ago are forgotten, but for the last of each box: it may have slept.
const KEPT_S: i64 = 400 * DAY_S;
/// `serve` and a command may write at the same time.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// What the broker's rules know desks by.
pub const DESKS: &str = "desk-";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS request(
  key BLOB PRIMARY KEY,            -- SHA-256 of the public key
  code TEXT NOT NULL,
  first_s INTEGER NOT NULL, last_s INTEGER NOT NULL,
  name TEXT, accepted_s INTEGER    -- who it is, once a person said so
);
CREATE TABLE IF NOT EXISTS certificate(
  serial TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  key BLOB NOT NULL,
  how TEXT NOT NULL,
  issued_s INTEGER NOT NULL, ends_s INTEGER NOT NULL,
  barred INTEGER NOT NULL DEFAULT 0,
  der BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS certificate_key ON certificate(key);
CREATE INDEX IF NOT EXISTS certificate_name ON certificate(name, issued_s);";

/// Why it is not done. The text is for the person at the desk.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The file does not serve.
    #[error("{file}: {0}; the disk may be full or failing", file = FILE)]
    Database(#[from] rusqlite::Error),
    /// The record cannot be written, and without it nothing is done.
    #[error("{file}: {0}; nothing was done", file = audit::FILE)]
    Record(#[from] std::io::Error),
    /// The authority does not serve.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No box with this code waits.
    #[error("no box with this code waits: `afferent desk enrol list` shows who does; has it reached this desk?")]
    Unknown,
    /// The name cannot be a box's.
    #[error("`{0}` cannot be a box's name: letters, digits, `-`, `_` and `.`, and not `{desks}...`", desks = DESKS)]
    Name(String),
    /// No name was given, and the key is not known.
    #[error("say who it is, with --name: its key was not seen before")]
    Nameless,
    /// Another key has this name.
    #[error(
        "there is a `{0}` with another key already; --replace takes its place, and the certificate that is out there \
         renews no more"
    )]
    Taken(String),
    /// There is no such box.
    #[error("there is no box `{0}`: `afferent desk enrol list` shows those that are")]
    NoSuchBox(String),
    /// Its key is one that was barred.
    #[error("this is the key of `{0}`, which was barred or replaced; --replace lets it in again all the same")]
    Barred(String),
}

/// What a box is answered.
#[derive(Debug)]
pub enum Answer {
    /// Its certificate.
    Certificate(Signed),
    /// A person has to say yes first, or it has asked too often.
    Later {
        /// Seconds after which it may ask again.
        after_s: i64,
    },
    /// No.
    Refused(&'static str),
}

/// A box that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// What it shows.
    pub code: String,
    /// When it first asked, Unix seconds.
    pub first_s: i64,
    /// When it last asked.
    pub last_s: i64,
    /// Whose key it was: a box whose certificate has ended.
    pub was: Option<String>,
    /// That certificate was barred, or another box took its place.
    pub barred: bool,
    /// It was accepted under this name, and has not collected its certificate yet.
    pub accepted: Option<String>,
}

/// A box with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enrolled {
    /// Its name.
    pub name: String,
    /// Serial number of its newest certificate, hexadecimal.
    pub serial: String,
    /// How it came by it: `accepted`, `renewed` or `recovered`.
    pub how: String,
    /// When that was made, Unix seconds.
    pub issued_s: i64,
    /// When that ends.
    pub ends_s: i64,
    /// It renews no more.
    pub barred: bool,
}

/// The desk's knowledge of boxes. Calls block.
pub struct Registry {
    conn: Connection,
    folder: PathBuf,
    life_s: i64,
}

impl Registry {
    /// Opens, or makes, the file in the desk's folder. Certificates are made for `life_s` seconds.
    ///
    /// # Errors
    /// [`EnrolError::Database`].
    pub fn open(folder: &Path, life_s: i64) -> Result<Registry, EnrolError> {
        let conn = Connection::open(folder.join(FILE))?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.execute_batch(TABLES)?;
        Ok(Registry { conn, folder: folder.to_path_buf(), life_s })
    }

    /// A box that shows no certificate asks for one for this key.
    ///
    /// # Errors
    /// [`EnrolError`]; it may ask again.
    pub fn enrol(&mut self, authority: &Authority, key: &PublicKey, now_s: i64) -> Result<Answer, EnrolError> {
        let (digest, life_s, folder) = (key.digest(), self.life_s, self.folder.clone());
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(signed) = same_again(&tx, authority, &digest, None, now_s)? {
            return Ok(Answer::Certificate(signed));
        }
        let since_s = now_s - COLLECTED_WITHIN_S;
        let accepted = "SELECT name FROM request WHERE key = ?1 AND name IS NOT NULL AND accepted_s > ?2";
        let accepted: Option<String> = tx.query_row(accepted, (digest, since_s), |r| r.get(0)).optional()?;
        let Some(name) = accepted else {
            let answer = wait(&tx, key, now_s)?;
            tx.commit()?;
            return Ok(answer);
        };
        let how = if was(&tx, &digest)?.as_ref() == Some(&name) { "recovered" } else { "accepted" };
        let signed = issue(&tx, &folder, authority, key, &name, how, (now_s, life_s))?;
        tx.execute("DELETE FROM request WHERE key = ?1", [digest])?;
        tx.commit()?;
        Ok(Answer::Certificate(signed))
    }

    /// A box that shows this certificate, which TLS has proven, asks for one for this key.
    ///
    /// # Errors
    /// [`EnrolError`]; it may ask again.
    pub fn renew(
        &mut self,
        authority: &Authority,
        shown: &CertificateDer<'_>,
        key: &PublicKey,
        now_s: i64,
    ) -> Result<Answer, EnrolError> {
        let (digest, life_s, folder) = (key.digest(), self.life_s, self.folder.clone());
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = "SELECT name FROM certificate WHERE der = ?1 AND serial = ?2 AND barred = 0";
        let serial = Facts::of(shown).map(|facts| facts.serial).unwrap_or_default();
        let name: Option<String> = tx.query_row(known, (&shown[..], serial), |r| r.get(0)).optional()?;
        let Some(name) = name else {
            return Ok(Answer::Refused("this certificate is not, or no more, one that renews here"));
        };
        if let Some(signed) = same_again(&tx, authority, &digest, Some(&name), now_s)? {
            return Ok(Answer::Certificate(signed));
        }
        if was(&tx, &digest)?.is_some_and(|was| was != name) {
            return Ok(Answer::Refused("this key is another box's"));
        }
        let today = "SELECT COUNT(*) FROM certificate WHERE name = ?1 AND issued_s > ?2";
        let today: i64 = tx.query_row(today, (&name, now_s - DAY_S), |r| r.get(0))?;
        // One that lives for less than a day renews as often as it must.
        if today >= RENEWALS_A_DAY.max(DAY_S * 3 / life_s.max(1)) {
            return Ok(Answer::Later { after_s: life_s.min(3600) });
        }
        let signed = issue(&tx, &folder, authority, key, &name, "renewed", (now_s, life_s))?;
        tx.commit()?;
        Ok(Answer::Certificate(signed))
    }

    /// A person says who the box with this code is; without a name, who it was. Returns the name.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn accept(
        &mut self,
        code: Code,
        name: Option<&str>,
        replace: bool,
        by: &str,
        now_s: i64,
    ) -> Result<String, EnrolError> {
        let folder = self.folder.clone();
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = "SELECT key FROM request WHERE code = ?1 AND (last_s > ?2 OR name IS NOT NULL AND accepted_s > ?3)";
        let found = (code.to_string(), now_s - FORGOTTEN_AFTER_S, now_s - COLLECTED_WITHIN_S);
        let key: [u8; 32] = tx.query_row(key, found, |r| r.get(0)).optional()?.ok_or(EnrolError::Unknown)?;
        let was = last_of(&tx, &key)?;
        let name = match (name, &was) {
            (Some(name), _) => name.to_owned(),
            (None, Some((was, _))) => was.clone(),
            (None, None) => return Err(EnrolError::Nameless),
        };
        if !name_is_usable(&name) || name.starts_with(DESKS) {
            return Err(EnrolError::Name(name));
        }
        if let Some((was, true)) = was.clone().filter(|_| !replace) {
            return Err(EnrolError::Barred(was));
        }
        // A box whose certificate has ended may only sleep: its name is not free. A key that had the name before is that
        // box itself, with an older key or a newer one.
        let ended_counts = was.is_none_or(|(was, _)| was != name);
        let other = "SELECT EXISTS(SELECT 1 FROM certificate
               WHERE name = ?1 AND key != ?2 AND (ends_s > ?3 OR ?5) AND barred = 0)
             OR EXISTS(SELECT 1 FROM request WHERE name = ?1 AND key != ?2 AND accepted_s > ?4)";
        let asked = (&name, key, now_s, now_s - COLLECTED_WITHIN_S, ended_counts);
        let other: bool = tx.query_row(other, asked, |r| r.get(0))?;
        if other && !replace {
            return Err(EnrolError::Taken(name));
        }
        // What another key has under this name is not renewed any more, and not collected.
        tx.execute("UPDATE certificate SET barred = 1 WHERE name = ?1 AND key != ?2", (&name, key))?;
        tx.execute("UPDATE request SET name = NULL WHERE name = ?1 AND key != ?2", (&name, key))?;
        tx.execute("UPDATE request SET name = ?1, accepted_s = ?2 WHERE key = ?3", (&name, now_s, key))?;
        let what = json!({ "enrol": "accepted", "box": name, "code": code.to_string(), "by": by, "replaces": other });
        audit::note(&folder, &at(now_s, what))?;
        tx.commit()?;
        Ok(name)
    }

    /// What this box has renews no more, and what it was accepted for is not collected.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn bar(&mut self, name: &str, by: &str, now_s: i64) -> Result<(), EnrolError> {
        let folder = self.folder.clone();
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let certificates = tx.execute("UPDATE certificate SET barred = 1 WHERE name = ?1", [name])?;
        let requests = tx.execute("UPDATE request SET name = NULL WHERE name = ?1", [name])?;
        if certificates + requests == 0 {
            return Err(EnrolError::NoSuchBox(name.to_owned()));
        }
        audit::note(&folder, &at(now_s, json!({ "enrol": "barred", "box": name, "by": by })))?;
        tx.commit()?;
        Ok(())
    }

    /// Who waits, who asked last first.
    ///
    /// # Errors
    /// [`EnrolError::Database`].
    pub fn waiting(&self, now_s: i64) -> Result<Vec<Waiting>, EnrolError> {
        let mut statement = self.conn.prepare(
            "SELECT r.code, r.first_s, r.last_s,
               (SELECT c.name FROM certificate c WHERE c.key = r.key ORDER BY c.issued_s DESC LIMIT 1),
               ifnull((SELECT c.barred FROM certificate c WHERE c.key = r.key ORDER BY c.issued_s DESC LIMIT 1), 0),
               iif(r.accepted_s > ?2, r.name, NULL)
             FROM request r WHERE r.last_s > ?1 OR r.name IS NOT NULL AND r.accepted_s > ?2
             ORDER BY r.last_s DESC, r.code",
        )?;
        let rows = statement.query_map((now_s - FORGOTTEN_AFTER_S, now_s - COLLECTED_WITHIN_S), |r| {
            let (code, first_s, last_s) = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok(Waiting { code, first_s, last_s, was: r.get(3)?, barred: r.get(4)?, accepted: r.get(5)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All boxes, each with its newest certificate, in order of name.
    ///
    /// # Errors
    /// [`EnrolError::Database`].
    pub fn enrolled(&self) -> Result<Vec<Enrolled>, EnrolError> {
        // Of one moment the later row is the newer.
        let mut statement = self.conn.prepare(
            "SELECT name, serial, how, issued_s, ends_s, barred FROM certificate c
             WHERE rowid = (SELECT rowid FROM certificate WHERE name = c.name ORDER BY issued_s DESC, rowid DESC LIMIT 1)
             ORDER BY name",
        )?;
        let rows = statement.query_map([], |r| {
            let (name, serial, how) = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok(Enrolled { name, serial, how, issued_s: r.get(3)?, ends_s: r.get(4)?, barred: r.get(5)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// The certificate that this key, of this box, has already and that is good.
fn same_again(
    tx: &Transaction<'_>,
    authority: &Authority,
    key: &[u8; 32],
    name: Option<&str>,
    now_s: i64,
) -> Result<Option<Signed>, EnrolError> {
    let found = "SELECT der FROM certificate WHERE key = ?1 AND ends_s > ?2 AND barred = 0 AND name = ifnull(?3, name)
         ORDER BY issued_s DESC LIMIT 1";
    let found: Option<Vec<u8>> = tx.query_row(found, (key, now_s, name), |r| r.get(0)).optional()?;
    Ok(found.map(|der| authority.behind(CertificateDer::from(der))))
}

/// Whose key it is or was, and whether its last certificate was barred.
fn last_of(tx: &Transaction<'_>, key: &[u8; 32]) -> rusqlite::Result<Option<(String, bool)>> {
    let known = "SELECT name, barred FROM certificate WHERE key = ?1 ORDER BY issued_s DESC LIMIT 1";
    tx.query_row(known, [key], |r| Ok((r.get(0)?, r.get(1)?))).optional()
}

/// Whose key it is or was.
fn was(tx: &Transaction<'_>, key: &[u8; 32]) -> rusqlite::Result<Option<String>> {
    Ok(last_of(tx, key)?.map(|(name, _)| name))
}

fn wait(tx: &Transaction<'_>, key: &PublicKey, now_s: i64) -> rusqlite::Result<Answer> {
    // One that a person has accepted may be off meanwhile.
    tx.execute(
        "DELETE FROM request WHERE last_s <= ?1 AND (name IS NULL OR accepted_s <= ?2)",
        (now_s - FORGOTTEN_AFTER_S, now_s - COLLECTED_WITHIN_S),
    )?;
    tx.execute(
        "INSERT INTO request(key, code, first_s, last_s) VALUES (?1, ?2, ?3, ?3)
         ON CONFLICT(key) DO UPDATE SET last_s = excluded.last_s",
        (key.digest(), Code::of(key).to_string(), now_s),
    )?;
    // One that a person has accepted is not crowded out.
    tx.execute(
        "DELETE FROM request WHERE key IN (SELECT key FROM request WHERE name IS NULL ORDER BY last_s DESC, first_s
           LIMIT -1 OFFSET ?1)",
        [WAITING_MAX],
    )?;
    let first = "SELECT first_s FROM request WHERE key = ?1";
    let first_s: Option<i64> = tx.query_row(first, [key.digest()], |r| r.get(0)).optional()?;
    let is_late = first_s.is_none_or(|first_s| now_s - first_s > LATE_S);
    Ok(Answer::Later { after_s: if is_late { ASK_AGAIN_LATE_S } else { ASK_AGAIN_S } })
}

fn issue(
    tx: &Transaction<'_>,
    folder: &Path,
    authority: &Authority,
    key: &PublicKey,
    name: &str,
    how: &str,
    (now_s, life_s): (i64, i64),
) -> Result<Signed, EnrolError> {
    let signed = authority.sign(key, &Use::Client(name.to_owned()), now_s, now_s + life_s)?;
    let broken = || AuthorityError::Refused("it cannot be read back".to_owned());
    let facts = Facts::of(signed.certificate()).ok_or_else(broken)?;
    tx.execute("DELETE FROM certificate WHERE name = ?1 AND ends_s < ?2", (name, now_s - KEPT_S))?;
    tx.execute(
        "INSERT INTO certificate(serial, name, key, how, issued_s, ends_s, der) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (&facts.serial, name, key.digest(), how, now_s, facts.ends_s, &signed.certificate()[..]),
    )?;
    let what =
        json!({ "enrol": "issued", "how": how, "box": name, "serial": facts.serial, "ends": moment(facts.ends_s) });
    audit::note(folder, &at(now_s, what))?;
    Ok(signed)
}

fn at(now_s: i64, mut what: Value) -> Value {
    what["at"] = moment(now_s).into();
    what
}

/// A moment as people and programs read it; empty for one that is none.
pub fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
