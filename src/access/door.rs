//! Who is let in now: sessions, and how often somebody may try to begin one. In memory alone, of the process that serves
//! the console: when that ends, everybody logs in anew.

use super::tries::Tries;
use super::{Accounts, Role, Stamp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// A session that nobody uses ends after this long.
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// A session ends after this long, whoever uses it.
pub const AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Between password and second factor, or through an invitation, nobody needs longer.
pub const UNFINISHED_MAX: Duration = Duration::from_secs(10 * 60);
/// Sessions of an account, and those that are not finished, beside each other: so the bound for all is that times the
/// accounts.
pub const SESSIONS_MAX: usize = 8;

/// Random bytes of a new session.
pub struct Fresh {
    /// What its cookie says.
    pub id: [u8; 32],
    /// What each of its forms says.
    pub form: [u8; 32],
}

/// How far somebody has come.
#[derive(Clone)]
pub enum Stage {
    /// They have an invitation, and then a password and a secret that are not of the account yet.
    Invited(Option<Draft>),
    /// Their password is right; the second factor is to come.
    Password,
    /// They are in.
    Whole,
}

/// What an account is to have once the telephone has shown that it knows the secret.
#[derive(Clone)]
pub struct Draft {
    /// PHC string.
    pub password: Zeroizing<String>,
    /// Of the second factor.
    pub secret: Zeroizing<String>,
}

/// Somebody who has come in, or half.
#[derive(Clone)]
pub struct Session {
    /// The account.
    pub name: String,
    /// What they may do; nothing while the session is not [`Stage::Whole`].
    pub role: Role,
    /// How far they have come.
    pub stage: Stage,
    form: Zeroizing<String>,
    stamp: Stamp,
    began: Duration,
    used: Duration,
}

impl Session {
    /// What a form of this session says.
    pub fn form(&self) -> &str {
        &self.form
    }

    /// Whether it was this session that the form was made for.
    pub fn made(&self, form: &str) -> bool {
        // Of digests, so that the time a comparison takes says nothing.
        hash(form) == hash(&self.form)
    }

    fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole)
    }

    fn is_over(&self, now: Duration) -> bool {
        let (age, idle) = (now.saturating_sub(self.began), now.saturating_sub(self.used));
        if self.is_whole() { age >= AGE_MAX || idle >= IDLE_MAX } else { age >= UNFINISHED_MAX }
    }

    /// An account that is another now than it was, or is none any more, lets nobody in.
    fn stands(&self, accounts: &Accounts) -> bool {
        accounts.get(&self.name).is_some_and(|account| !account.disabled && *account.stamp() == self.stamp)
    }
}

/// What the cookie of a new session says.
pub struct Passed(Zeroizing<String>);

impl Passed {
    /// For the browser alone.
    pub fn cookie(&self) -> &str {
        &self.0
    }
}

/// Everybody who is in, and everybody who tried. Moments are counted from any one on.
#[derive(Default)]
pub struct Door {
    tries: Tries,
    /// By the digest of what the cookie says: whoever reads this memory cannot make a cookie of it.
    sessions: HashMap<Vec<u8>, Session>,
}

impl Door {
    /// Takes one of the tries that an address has.
    ///
    /// # Errors
    /// How long it has to wait for the next.
    pub fn knock(&mut self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        self.tries.take(address, now)
    }

    /// Somebody says a name, and whether the password is that of [`Accounts::password_of`] was computed, also where
    /// there is none. In every case but one the answer is none, and says nothing of why.
    pub fn password(
        &mut self,
        accounts: &Accounts,
        name: &str,
        is_right: bool,
        fresh: &Fresh,
        now: Duration,
    ) -> Option<Passed> {
        let is_there = accounts.password_of(name).is_some();
        if !is_there || !self.tries.counts(name, now) {
            return None;
        }
        if !is_right {
            self.tries.failed(name, now);
            return None;
        }
        self.open(accounts, name, Stage::Password, fresh, now)
    }

    /// Whether a second factor counts now.
    pub fn counts(&self, name: &str, now: Duration) -> bool {
        self.tries.counts(name, now)
    }

    /// A second factor, or the password of somebody who is in, was wrong.
    pub fn failed(&mut self, name: &str, now: Duration) {
        self.tries.failed(name, now);
    }

    /// Somebody showed an invitation of this account.
    pub fn invited(&mut self, accounts: &Accounts, name: &str, fresh: &Fresh, now: Duration) -> Option<Passed> {
        self.open(accounts, name, Stage::Invited(None), fresh, now)
    }

    /// What somebody with an invitation has chosen. Where there is no such session, nothing.
    pub fn choose(&mut self, cookie: &str, draft: Draft) {
        if let Some(Session { stage: Stage::Invited(chosen), .. }) = self.sessions.get_mut(&hash(cookie)) {
            *chosen = Some(draft);
        }
    }

    /// Somebody has shown all that they are asked for, and that is on the disk: they are in, under another id. Also where
    /// what the session stood on was changed by themselves.
    pub fn pass(&mut self, accounts: &Accounts, cookie: &str, fresh: &Fresh, now: Duration) -> Option<Passed> {
        let before = self.sessions.remove(&hash(cookie))?;
        self.tries.succeeded(&before.name);
        self.open(accounts, &before.name, Stage::Whole, fresh, now)
    }

    /// The session of a cookie, while it is good. `is_use`: a person did something; what the page asks for by itself
    /// keeps no session alive.
    pub fn find(&mut self, accounts: &Accounts, cookie: &str, is_use: bool, now: Duration) -> Option<Session> {
        let key = hash(cookie);
        let session = self.sessions.get_mut(&key)?;
        if session.is_over(now) || !session.stands(accounts) {
            self.sessions.remove(&key);
            return None;
        }
        if is_use {
            session.used = now;
        }
        Some(session.clone())
    }

    /// Somebody leaves.
    pub fn close(&mut self, cookie: &str) {
        self.sessions.remove(&hash(cookie));
    }

    fn open(&mut self, accounts: &Accounts, name: &str, stage: Stage, fresh: &Fresh, now: Duration) -> Option<Passed> {
        let account = accounts.get(name).filter(|account| !account.disabled)?;
        self.sessions.retain(|_, session| !session.is_over(now) && session.stands(accounts));
        let form = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(fresh.form));
        let (role, stamp) = (account.role, account.stamp().clone());
        let session = Session { name: name.to_string(), role, stage, form, stamp, began: now, used: now };
        // Whoever has half of what it takes ends no session of one who is in.
        let alike = |other: &Session| other.name == session.name && other.is_whole() == session.is_whole();
        let theirs = self.sessions.iter().filter(|(_, other)| alike(other));
        if theirs.clone().count() >= SESSIONS_MAX {
            let first = theirs.min_by_key(|(_, other)| other.used).map(|(key, _)| key.clone());
            first.map(|first| self.sessions.remove(&first));
        }
        let cookie = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(fresh.id));
        self.sessions.insert(hash(&cookie), session);
        Some(Passed(cookie))
    }
}

fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests;
