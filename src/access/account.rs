//! The accounts of a box, as they are kept, and what becomes of them. Time and random bytes come in.

use super::code::{Code, digest_of};
use super::{ACCOUNTS_MAX, totp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An invitation is good for so long: a day.
pub const INVITED_FOR_S: i64 = 24 * 3600;
/// A clock may be put back by so much between the invitation and its use.
const AHEAD_MAX_S: i64 = 3600;
/// Recovery codes of an account.
pub const RECOVERY_CODES: usize = 10;
/// Longest name.
const NAME_MAX: usize = 64;
/// Of the file. Where a later release only adds fields it stays, and this one keeps them as they are; one that adds a
/// role, which this one could not read, takes the next.
const VERSION: u64 = 1;

/// What a later release has added.
type Rest = serde_json::Map<String, serde_json::Value>;

/// What somebody may do; each role may do what the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See how the box is.
    View,
    /// Decide about what is held.
    Operate,
    /// Have results made and sent anew.
    Reprocess,
    /// Everything.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Role::View => "view",
            Role::Operate => "operate",
            Role::Reprocess => "reprocess",
            Role::Admin => "admin",
        })
    }
}

/// What sessions are begun on: an account that changes gets another one, and its sessions are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(String);

impl Stamp {
    /// Of these random bytes.
    pub fn of(bytes: &[u8; 16]) -> Stamp {
        Stamp(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// An account as it was when a session began: what somebody changes of it they change only of that one.
#[derive(Debug, Clone, Copy)]
pub struct AccountAt<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it was.
    pub stamp: &'a Stamp,
}

/// Who somebody is. What is secret of it is never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// What they may do.
    pub role: Role,
    /// Nobody gets in with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    stamp: Stamp,
    /// PHC string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second_factor: Option<SecondFactor>,
    /// Digests of the recovery codes that are left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recovery: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invitation: Option<Invitation>,
    #[serde(flatten)]
    rest: Rest,
}

/// Why a text says nothing of accounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Where it is damaged. What is in it is not in here, which may be logged.
    Damaged(String),
    /// It is of this later version.
    Later(u64),
}

/// All that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct SecondFactor {
    secret: String,
    last_step: i64,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Serialize, Deserialize)]
struct Invitation {
    digest: String,
    until_s: i64,
    #[serde(flatten)]
    rest: Rest,
}

impl Invitation {
    /// One that was made by a clock far ahead is over as well.
    fn is_good(&self, now_s: i64) -> bool {
        (1..=INVITED_FOR_S + AHEAD_MAX_S).contains(&self.until_s.saturating_sub(now_s))
    }
}

impl Account {
    /// What its sessions stand on.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Until when its invitation is good, Unix seconds.
    pub fn invited_until_s(&self) -> Option<i64> {
        self.invitation.as_ref().map(|invitation| invitation.until_s)
    }

    /// Whether its invitation is good still; none without one.
    pub fn is_invited(&self, now_s: i64) -> Option<bool> {
        self.invitation.as_ref().map(|invitation| invitation.is_good(now_s))
    }

    /// How many recovery codes are left.
    pub fn recovery_codes(&self) -> usize {
        self.recovery.len()
    }

    /// Whether somebody can get in: it has a password and a second factor, and is not disabled.
    pub fn is_open(&self) -> bool {
        !self.disabled && self.password.is_some() && self.second_factor.is_some()
    }

    fn new(role: Role, code: &Code, stamp: Stamp, now_s: i64) -> Account {
        let invitation = Some(Invitation { digest: code.digest(), until_s: now_s + INVITED_FOR_S, rest: Rest::new() });
        Account {
            role,
            disabled: false,
            stamp,
            password: None,
            second_factor: None,
            recovery: Vec::new(),
            invitation,
            rest: Rest::new(),
        }
    }
}

/// Why something is not done to an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none of this name.
    #[error("nobody has an account named {0}: `afferent console user list` shows who has one")]
    Nobody(String),
    /// There is one already.
    #[error(
        "{0} has an account already: `afferent console user reset {0}` invites anew, `afferent console user role` changes \
         the role"
    )]
    There(String),
    /// This is no name.
    #[error(
        "{0:?} is no name for an account: up to {NAME_MAX} small letters of English, digits and . _ - @, such as anna.maier"
    )]
    Name(String),
    /// There are too many.
    #[error("there are {ACCOUNTS_MAX} accounts, which is the most: `afferent console user remove NAME` makes room")]
    Full,
    /// The invitation was used or is over, or was never made.
    #[error("this invitation is not good any more; ask for a new one: `sudo afferent console user reset NAME`")]
    Invitation,
    /// It is not what the telephone shows now, was used already, or is no recovery code that is left.
    #[error(
        "this code is not good: take the one that the telephone shows now, each one counts once; if none does, the clock of \
         the telephone or of the box is wrong"
    )]
    SecondFactor,
    /// Another account stands under the name now than what was asked for is about.
    #[error("your account was changed meanwhile: log in anew")]
    Changed,
}

/// Everybody who has an account.
#[derive(Clone, Serialize, Deserialize)]
pub struct Accounts {
    version: u64,
    accounts: BTreeMap<String, Account>,
    #[serde(flatten)]
    rest: Rest,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { version: VERSION, accounts: BTreeMap::new(), rest: Rest::new() }
    }
}

impl Accounts {
    /// What a file says.
    pub(super) fn parse(text: &str) -> Result<Accounts, Unread> {
        let wrong =
            |error: serde_json::Error| Unread::Damaged(format!("line {}, column {}", error.line(), error.column()));
        match serde_json::from_str::<Versioned>(text).map_err(wrong)? {
            Versioned { version: VERSION } => serde_json::from_str(text).map_err(wrong),
            Versioned { version } if version > VERSION => Err(Unread::Later(version)),
            Versioned { version } => Err(Unread::Damaged(format!("there is no version {version}"))),
        }
    }

    /// What a file is to say.
    pub fn text(&self) -> String {
        // Names, numbers and strings: there is nothing in it that could not be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.accounts.iter().map(|(name, account)| (name.as_str(), account))
    }

    /// True before the first one is made.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// How the password of an account that somebody can get in with is kept.
    pub fn password_of(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|account| account.is_open())?.password.as_deref()
    }

    /// Makes an account, for whoever has this code.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn add(&mut self, name: &str, role: Role, code: &Code, stamp: Stamp, now_s: i64) -> Result<(), Refusal> {
        if !is_name(name) {
            return Err(Refusal::Name(name.to_string()));
        }
        if self.accounts.contains_key(name) {
            return Err(Refusal::There(name.to_string()));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Refusal::Full);
        }
        self.accounts.insert(name.to_string(), Account::new(role, code, stamp, now_s));
        Ok(())
    }

    /// Forgets password, second factor and recovery codes, also what a later release has added, and invites anew.
    ///
    /// # Errors
    /// [`Refusal::Nobody`].
    pub fn reset(&mut self, name: &str, code: &Code, stamp: Stamp, now_s: i64) -> Result<(), Refusal> {
        let account = self.known(name)?;
        let disabled = account.disabled;
        *account = Account { disabled, ..Account::new(account.role, code, stamp, now_s) };
        Ok(())
    }

    /// Gives another role.
    ///
    /// # Errors
    /// [`Refusal::Nobody`].
    pub fn set_role(&mut self, name: &str, role: Role, stamp: Stamp) -> Result<(), Refusal> {
        let account = self.known(name)?;
        (account.role, account.stamp) = (role, stamp);
        Ok(())
    }

    /// Lets nobody in with it, or lets them in again.
    ///
    /// # Errors
    /// [`Refusal::Nobody`].
    pub fn set_disabled(&mut self, name: &str, disabled: bool, stamp: Stamp) -> Result<(), Refusal> {
        let account = self.known(name)?;
        (account.disabled, account.stamp) = (disabled, stamp);
        Ok(())
    }

    /// Removes an account.
    ///
    /// # Errors
    /// [`Refusal::Nobody`].
    pub fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        self.accounts.remove(name).map(drop).ok_or_else(|| Refusal::Nobody(name.to_string()))
    }

    /// Who has this invitation.
    pub fn invited(&self, typed: &str, now_s: i64) -> Option<&str> {
        let digest = digest_of(typed);
        let is_theirs = |account: &Account| {
            let invitation = account.invitation.as_ref();
            !account.disabled && invitation.is_some_and(|i| i.digest == digest && i.is_good(now_s))
        };
        self.all().find(|(_, account)| is_theirs(account)).map(|(name, _)| name)
    }

    /// Somebody who was invited has chosen a password, and their telephone knows the secret: it shows this code. The
    /// invitation is used then.
    ///
    /// # Errors
    /// [`Refusal::Changed`], [`Refusal::Invitation`] where it is over, [`Refusal::SecondFactor`] where the code is wrong.
    pub fn accept(
        &mut self,
        of: AccountAt<'_>,
        password: &str,
        (secret, typed): (&str, &str),
        (recovery, stamp): (&[Code], Stamp),
        now_s: i64,
    ) -> Result<(), Refusal> {
        let account = self.still(of)?;
        account.invitation.as_ref().filter(|i| i.is_good(now_s)).ok_or(Refusal::Invitation)?;
        let last_step = totp::step(secret, typed, now_s, 0).ok_or(Refusal::SecondFactor)?;
        account.password = Some(password.to_string());
        account.second_factor = Some(SecondFactor { secret: secret.to_string(), last_step, rest: Rest::new() });
        account.recovery = recovery.iter().map(Code::digest).collect();
        (account.invitation, account.stamp) = (None, stamp);
        Ok(())
    }

    /// Uses a code of the telephone, or a recovery code: it does not count again.
    ///
    /// # Errors
    /// [`Refusal::Changed`], [`Refusal::SecondFactor`].
    pub fn use_code(&mut self, of: AccountAt<'_>, typed: &str, now_s: i64) -> Result<(), Refusal> {
        let account = self.still(of)?;
        let factor = account.second_factor.as_mut().ok_or(Refusal::Changed)?;
        if let Some(step) = totp::step(&factor.secret, typed, now_s, factor.last_step) {
            factor.last_step = step;
            return Ok(());
        }
        let digest = digest_of(typed);
        let at = account.recovery.iter().position(|kept| *kept == digest).ok_or(Refusal::SecondFactor)?;
        account.recovery.remove(at);
        Ok(())
    }

    /// Another password, for whoever has shown the one of before.
    ///
    /// # Errors
    /// [`Refusal::Changed`].
    pub fn set_password(&mut self, of: AccountAt<'_>, password: &str, stamp: Stamp) -> Result<(), Refusal> {
        let account = self.still(of)?;
        (account.password, account.stamp) = (Some(password.to_string()), stamp);
        Ok(())
    }

    /// Other recovery codes in the place of those of before, for whoever has used a code.
    ///
    /// # Errors
    /// [`Refusal::Changed`].
    pub fn set_recovery(&mut self, of: AccountAt<'_>, codes: &[Code], stamp: Stamp) -> Result<(), Refusal> {
        let account = self.still(of)?;
        (account.recovery, account.stamp) = (codes.iter().map(Code::digest).collect(), stamp);
        Ok(())
    }

    fn known(&mut self, name: &str) -> Result<&mut Account, Refusal> {
        self.accounts.get_mut(name).ok_or_else(|| Refusal::Nobody(name.to_string()))
    }

    /// The account that a session was begun on, unless it is another one by now.
    fn still(&mut self, of: AccountAt<'_>) -> Result<&mut Account, Refusal> {
        let is_it = |account: &&mut Account| !account.disabled && account.stamp == *of.stamp;
        self.accounts.get_mut(of.name).filter(is_it).ok_or(Refusal::Changed)
    }
}

/// Names have no capitals, so that nobody has almost the name of somebody else.
fn is_name(name: &str) -> bool {
    let taken = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_@".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(taken)
}
