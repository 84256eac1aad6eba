//! `afferent console user`: who may see the console.

use crate::access::{AccessError, Account, Accounts, AccountsFile, Code, Refusal, Role, Stamp, random};
use crate::audit::{self, AccountChange, Act};
use crate::cli::journal::print_table;
use crate::fleet::desired::tree;
use crate::{console, disk};
use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Say who may see the console, and what they may do there.
///
/// Whoever is added gets an invitation: a code that is good once and for a day. With it they choose a password and a
/// second factor in their browser, so that whoever adds them knows neither. A change counts at once, also where the
/// console is served already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo afferent console user add anna.maier --role admin
  sudo afferent console user list
  sudo afferent console user reset anna.maier       she lost her telephone, or her invitation
  sudo afferent console user disable anna.maier     she is put out at once")]
pub(super) struct User {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an account, and print the invitation to it.
    Add(Add),
    /// List the accounts.
    List(List),
    /// Give somebody another role; they log in anew.
    Role(SetRole),
    /// Let nobody in with an account, and put out who is in.
    #[command(after_help = "Examples:\n  sudo afferent console user disable anna.maier")]
    Disable(Name),
    /// Let somebody in again who was disabled.
    #[command(after_help = "Examples:\n  sudo afferent console user enable anna.maier")]
    Enable(Name),
    /// Remove an account.
    #[command(after_help = "Examples:\n  sudo afferent console user remove anna.maier")]
    Remove(Name),
    /// Forget somebody's password and second factor, and print a new invitation.
    #[command(after_help = "Examples:\n  sudo afferent console user reset anna.maier")]
    Reset(Invite),
}

/// Whose account.
#[derive(Debug, Args)]
struct Name {
    /// The name of the account
    #[arg(value_name = "NAME")]
    name: String,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = crate::cli::CONFIG_DEFAULT)]
    config: PathBuf,
}

/// Who is invited, and where to.
#[derive(Debug, Args)]
struct Invite {
    #[command(flatten)]
    of: Name,
    /// Where their browser finds the console; left out, where it was served last
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo afferent console user add anna.maier --role admin")]
struct Add {
    #[command(flatten)]
    invite: Invite,
    /// What they may do; each role may do what the one before may
    #[arg(long, value_name = "ROLE")]
    role: Role,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo afferent console user role anna.maier view")]
struct SetRole {
    #[command(flatten)]
    of: Name,
    /// What they may do from now on
    #[arg(value_name = "ROLE")]
    role: Role,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo afferent console user list --json | jq '.[].name'")]
struct List {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = crate::cli::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl User {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Add(add) => add.execute(),
            Verb::List(list) => list.execute(),
            Verb::Role(role) => role.execute(),
            Verb::Disable(name) => name.set_disabled(true),
            Verb::Enable(name) => name.set_disabled(false),
            Verb::Remove(name) => name.remove(),
            Verb::Reset(invite) => invite.reset(),
        }
    }
}

impl Add {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let (name, role) = (self.invite.of.name.clone(), self.role);
        let code = invitation()?;
        let (stamp, now_s, at) = (new_stamp()?, Timestamp::now().as_second(), self.invite.at()?);
        self.invite.of.change(AccountChange::Added, Some(role), |all| all.add(&name, role, &code, stamp, now_s))?;
        Ok(tell(&name, &at, &code))
    }
}

impl Invite {
    fn reset(self) -> anyhow::Result<ExitCode> {
        let name = self.of.name.clone();
        let code = invitation()?;
        let (stamp, now_s, at) = (new_stamp()?, Timestamp::now().as_second(), self.at()?);
        self.of.change(AccountChange::Reset, None, |all| all.reset(&name, &code, stamp, now_s))?;
        Ok(tell(&name, &at, &code))
    }

    /// Where their browser finds the console.
    fn at(&self) -> anyhow::Result<String> {
        Ok(match &self.at {
            Some(at) => at.clone(),
            None => console::address(&data_of(&self.of.config)?).unwrap_or_else(|| super::LISTEN_DEFAULT.to_string()),
        })
    }
}

/// Only here the code is ever shown; nothing can fail between the change and this.
fn tell(name: &str, at: &str, code: &Code) -> ExitCode {
    println!(
        "{name} is invited. Password and second factor are chosen at\n\n  https://{at}/invitation\n\nwith this code, which \
         is good once and for a day:\n\n  {}\n",
        code.text()
    );
    ExitCode::SUCCESS
}

impl SetRole {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let stamp = new_stamp()?;
        let role = self.role;
        self.of.change(AccountChange::Role, Some(role), |all| all.set_role(&self.of.name, role, stamp))?;
        println!("{} has the role {} now, and logs in anew", self.of.name, self.role);
        Ok(ExitCode::SUCCESS)
    }
}

impl Name {
    fn set_disabled(self, disabled: bool) -> anyhow::Result<ExitCode> {
        let stamp = new_stamp()?;
        let change = if disabled { AccountChange::Disabled } else { AccountChange::Enabled };
        self.change(change, None, |all| all.set_disabled(&self.name, disabled, stamp))?;
        println!("{} {}", self.name, if disabled { "is let in no more" } else { "is let in again" });
        Ok(ExitCode::SUCCESS)
    }

    fn remove(self) -> anyhow::Result<ExitCode> {
        self.change(AccountChange::Removed, None, |all| all.remove(&self.name))?;
        println!("{} has no account any more", self.name);
        Ok(ExitCode::SUCCESS)
    }

    /// Changes accounts. Once it is decided that it can be done, it is noted in the record of the box, and then done.
    fn change(
        &self,
        change: AccountChange,
        role: Option<Role>,
        decide: impl FnOnce(&mut Accounts) -> Result<(), Refusal> + Send,
    ) -> anyhow::Result<()> {
        let data = data_of(&self.config)?;
        disk::make_folder(&data, Some(0o700), None).with_context(|| format!("cannot make {}", data.display()))?;
        let act = Act::Account { account: self.name.clone(), change, role, from: None };
        let changed: Result<(), AccessError> = AccountsFile::of(&data).change(|all| {
            decide(all)?;
            audit::note(&data, &audit::operator(), act).map_err(AccessError::Unnoted)
        });
        Ok(changed?)
    }
}

impl List {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let data = data_of(&self.config)?;
        let accounts = AccountsFile::of(&data).now()?;
        let now_s = Timestamp::now().as_second();
        if self.json {
            let all: Vec<Value> = accounts.all().map(|(name, account)| shown(name, account, now_s)).collect();
            println!("{}", Value::from(all));
            return Ok(ExitCode::SUCCESS);
        }
        if accounts.is_empty() {
            println!("nobody has an account; the first: sudo afferent console user add NAME --role admin");
            return Ok(ExitCode::SUCCESS);
        }
        let rows = accounts.all().map(|(name, account)| {
            let codes = account.recovery_codes().to_string();
            vec![name.to_string(), account.role.to_string(), state(account, now_s).to_string(), codes]
        });
        print_table(&["NAME", "ROLE", "STATE", "RECOVERY CODES"], &rows.collect::<Vec<_>>());
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(name: &str, account: &Account, now_s: i64) -> Value {
    let until = account.invited_until_s().and_then(|until_s| Timestamp::from_second(until_s).ok());
    json!({
        "name": name,
        "role": account.role,
        "state": state(account, now_s),
        "invited_until": until.map(|until| until.to_string()),
        "recovery_codes": account.recovery_codes(),
    })
}

fn state(account: &Account, now_s: i64) -> &'static str {
    match account.is_invited(now_s) {
        _ if account.disabled => "disabled",
        Some(false) => "invitation over",
        Some(true) => "invited",
        None => "open",
    }
}

fn data_of(config: &Path) -> anyhow::Result<PathBuf> {
    Ok(tree::load(config)?.config.gateway.data)
}

fn invitation() -> anyhow::Result<Code> {
    Ok(Code::of(&random::<15>()?))
}

fn new_stamp() -> anyhow::Result<Stamp> {
    Ok(Stamp::of(&random()?))
}
