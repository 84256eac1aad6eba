//! Who is let in now: sessions, and how often somebody may try to begin one. In memory alone, of the process that serves
//! the console: when that ends, everybody logs in anew.

use super::code::hash;
use super::tries::{Tries, whose};
use super::{Account, AccountAt, Accounts, Role, Stamp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::cmp::Reverse;
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

impl Stage {
    /// Who is invited needs no more than the invitation; anybody else, an account that people get in with.
    fn is_for(&self, account: &Account) -> bool {
        match self {
            Stage::Invited(_) => !account.disabled,
            Stage::Password | Stage::Whole => account.is_open(),
        }
    }
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
    /// Where it was begun.
    machine: IpAddr,
    began: Duration,
    used: Duration,
}

impl Session {
    /// What a form of this session says.
    pub fn form(&self) -> &str {
        &self.form
    }

    /// The account that it was begun on.
    pub fn account(&self) -> AccountAt<'_> {
        AccountAt { name: &self.name, stamp: &self.stamp }
    }

    /// Whether it was this session that the form was made for.
    pub fn made(&self, form: &str) -> bool {
        hash(form) == hash(&self.form)
    }

    /// Whether they are in.
    pub fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole)
    }

    fn is_over(&self, now: Duration) -> bool {
        let (age, idle) = (now.saturating_sub(self.began), now.saturating_sub(self.used));
        if self.is_whole() { age >= AGE_MAX || idle >= IDLE_MAX } else { age >= UNFINISHED_MAX }
    }

    /// An account that is another now than it was, or is none any more, lets nobody in.
    fn stands(&self, accounts: &Accounts) -> bool {
        accounts.get(&self.name).is_some_and(|account| self.stage.is_for(account) && *account.stamp() == self.stamp)
    }
}

/// What becomes of a name and a password. Whoever asks is told of the right one, and nothing of why it is not.
pub enum Said {
    /// The second factor is to come, in this session.
    Right(Passed),
    /// It is wrong, and that counts.
    Wrong,
    /// It did not count: nobody has the name, or it has to wait.
    Nothing,
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

    /// Somebody says a name from this address, and whether the password is that of [`Accounts::password_of`] was computed,
    /// also where there is none.
    pub fn password(
        &mut self,
        accounts: &Accounts,
        (name, address): (&str, IpAddr),
        is_right: bool,
        fresh: &Fresh,
        now: Duration,
    ) -> Said {
        if accounts.password_of(name).is_none() || !self.tries.counts(name, address, now) {
            return Said::Nothing;
        }
        if !is_right {
            self.tries.failed(name, address, now);
            return Said::Wrong;
        }
        self.open(accounts, (name, address), Stage::Password, fresh, now).map_or(Said::Nothing, Said::Right)
    }

    /// Whether what somebody shows whose password was right counts now: a code, or, once they are in, the password again.
    pub fn counts_again(&self, session: &Session, now: Duration) -> bool {
        self.tries.counts_again(&session.name, session.is_whole(), now)
    }

    /// What somebody showed whose password was right was wrong, and it counted.
    pub fn failed_again(&mut self, session: &Session, now: Duration) {
        self.tries.failed_again(&session.name, session.is_whole(), now);
    }

    /// Somebody showed an invitation of this account, from this address.
    pub fn invited(&mut self, accounts: &Accounts, of: (&str, IpAddr), fresh: &Fresh, now: Duration) -> Option<Passed> {
        self.open(accounts, of, Stage::Invited(None), fresh, now)
    }

    /// What somebody with an invitation has chosen. Where there is no such session, nothing.
    pub fn choose(&mut self, cookie: &str, draft: Draft) {
        if let Some(Session { stage: Stage::Invited(chosen), .. }) = self.sessions.get_mut(&hash(cookie)) {
            *chosen = Some(draft);
        }
    }

    /// Somebody has shown all that they are asked for, and that is on the disk: they are in, under another id, from this
    /// address. `on` is what they have shown it of, also where they changed it by that themselves: nobody is let in on
    /// what was changed by another meanwhile.
    pub fn pass(
        &mut self,
        accounts: &Accounts,
        (cookie, address): (&str, IpAddr),
        on: &Stamp,
        fresh: &Fresh,
        now: Duration,
    ) -> Option<Passed> {
        let name = self.sessions.remove(&hash(cookie))?.name;
        accounts.get(&name).filter(|account| account.stamp() == on)?;
        let passed = self.open(accounts, (&name, address), Stage::Whole, fresh, now)?;
        self.tries.succeeded(&name, address, now);
        Some(passed)
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

    fn open(
        &mut self,
        accounts: &Accounts,
        (name, address): (&str, IpAddr),
        stage: Stage,
        fresh: &Fresh,
        now: Duration,
    ) -> Option<Passed> {
        let account = accounts.get(name).filter(|account| stage.is_for(account))?;
        self.sessions.retain(|_, session| !session.is_over(now) && session.stands(accounts));
        let form = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(fresh.form));
        let (role, stamp) = (account.role, account.stamp().clone());
        let machine = whose(address);
        let session = Session { name: name.to_string(), role, stage, form, stamp, machine, began: now, used: now };
        // Whoever has half of what it takes ends no session of one who is in.
        let alike = |other: &Session| other.name == session.name && other.is_whole() == session.is_whole();
        let theirs = self.sessions.iter().filter(|(_, other)| alike(other));
        if theirs.clone().count() >= SESSIONS_MAX {
            // Whoever begins many ends their own: a stolen password keeps nobody from showing the second factor who
            // comes from elsewhere.
            let held = |machine| theirs.clone().filter(|(_, other)| other.machine == machine).count();
            let order = |other: &Session| (other.machine != machine, Reverse(held(other.machine)), other.used);
            let first = theirs.clone().min_by_key(|(_, other)| order(other)).map(|(key, _)| key.clone());
            first.map(|first| self.sessions.remove(&first));
        }
        let cookie = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(fresh.id));
        self.sessions.insert(hash(&cookie), session);
        Some(Passed(cookie))
    }
}

#[cfg(test)]
mod tests;
