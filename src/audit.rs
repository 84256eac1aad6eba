//! The box's record: who did what on it, and who saw what of patients (IHE ATNA, Record Audit Event, ITI-20). A chain of
//! lines ([`chain`]) in `audit` of the data directory, which shows when one of them is changed or missing.
//!
//! A line has numbers of entries, holds and messages, names of the configuration, and the reason that somebody typed, and
//! nothing of a patient: what a number stands for is in the journal. Who it was is the user id of the process (`uid`), and
//! a name (`by`), which is what whoever asked says it is.
//!
//! A line says what was asked, whatever became of it: it is written before that is done, and what cannot be noted is not
//! done and not shown. There are five exceptions, and each says so where it is seen: the gateway starts, stops and
//! carries results with a disk that takes no lines, and does what the desk asks; on a full disk a person may still decide
//! about what fills it; a disk that cannot be written any more can still be read; whoever leaves the console is out;
//! and whoever logs in to it in vain is told so before it is noted, or the answer would say who has an account.
//!
//! Of who tries to get into the console only what counts is noted: whoever tries faster than that, or a name that nobody
//! has, which may be a password in the wrong field, fills no record. A right password is noted with the second factor.

pub mod chain;

use crate::access::Role;
use crate::disk;
use crate::journal::OperatorAction;
use chain::{Bounds, Chain};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::net::IpAddr;
use std::path::Path;

/// The folder in the data directory.
const FOLDER: &str = "audit";
/// What a factory reset and a restore erase: a box that begins anew has a record that begins anew.
pub(crate) const NAMES: &[&str] = &[FOLDER];
/// Characters of a reason; the journal keeps as many.
const REASON_CHARS: usize = 200;
/// Most that is kept: 256 MiB, a million lines.
const BOUNDS: Bounds = Bounds { bytes: 8 << 20, files: 31 };

/// What somebody does or sees.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// The gateway runs from now on.
    GatewayStarted {
        /// The release.
        version: &'static str,
    },
    /// The gateway ends in order, because it was told to.
    GatewayStopped,
    /// Another configuration runs: the desk's.
    Configured {
        /// Links and destinations that were started with it.
        started: Vec<String>,
        /// Those that ended.
        removed: Vec<String>,
    },
    /// Something is changed in the journal.
    Operated {
        /// What and why.
        action: OperatorAction,
    },
    /// One is shown with what names its patient: its messages and reports, its numbers, its images.
    Shown {
        /// "entry", "order" or "study".
        what: &'static str,
        /// Its number.
        number: i64,
    },
    /// A list is shown with what names patients or their specimens.
    Listed {
        /// "specimens", "orders" or "studies".
        what: &'static str,
    },
    /// Entries are looked for by something that belongs to a patient; by what, and not which.
    Searched {
        /// "patient", "specimen" and so on.
        key: &'static str,
    },
    /// A message is tried on the orders that are kept here, and shown with the patient of the one that it answers.
    Previewed,
    /// Something is written out, unsealed.
    Exported {
        /// "entry", "report" or "all".
        what: &'static str,
        /// Its number.
        #[serde(skip_serializing_if = "Option::is_none")]
        number: Option<i64>,
    },
    /// What passes on a link is shown, or kept for the desk, as it is.
    Tapped {
        /// Name of the link; none are all.
        link: Option<String>,
    },
    /// The password of an account of the console is shown, by whoever wants to come in, or once more by who is in.
    LogIn {
        /// Its name.
        account: String,
        /// From where.
        from: IpAddr,
        /// Where it is asked for: `/login`, or `/account`, of who is in.
        page: &'static str,
        /// What became of it.
        outcome: Outcome,
    },
    /// Somebody whose password was right shows a code.
    SecondFactor {
        /// The name of their account.
        account: String,
        /// From where.
        from: IpAddr,
        /// Where it is asked for: `/second-factor`, or `/account`, of who is in.
        page: &'static str,
        /// What became of it; right, they are in. What a right one changes of an account is noted in its place.
        outcome: Outcome,
    },
    /// Somebody leaves the console.
    LogOut {
        /// The name of their account.
        account: String,
        /// From where.
        from: IpAddr,
    },
    /// An account of the console is another one from now on.
    Account {
        /// Its name.
        account: String,
        /// In what.
        change: AccountChange,
        /// The role that it has from now on.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// From where, in the console; none for a command.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
    },
}

/// What became of a password or a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is theirs.
    Right,
    /// It is not.
    Wrong,
}

/// What becomes of an account of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountChange {
    /// It is made, and somebody invited.
    Added,
    /// Who was invited has chosen a password and a second factor, and is in.
    Accepted,
    /// It has another role.
    Role,
    /// Nobody gets in with it.
    Disabled,
    /// They do again.
    Enabled,
    /// Password and second factor are forgotten, and somebody is invited anew.
    Reset,
    /// There is none any more.
    Removed,
    /// It has another password.
    Password,
    /// It has other recovery codes.
    RecoveryCodes,
}

impl Act {
    /// With no more of what somebody typed than the journal keeps.
    fn cut(self) -> Act {
        let short = |text: String| text.chars().take(REASON_CHARS).collect();
        let action = match self {
            Act::Operated { action: OperatorAction::Release { holds, note } } => {
                OperatorAction::Release { holds, note: short(note) }
            }
            Act::Operated { action: OperatorAction::Discard { holds, outbox, images, reason } } => {
                OperatorAction::Discard { holds, outbox, images, reason: short(reason) }
            }
            other => return other,
        };
        Act::Operated { action }
    }
}

/// The chain of a box.
pub fn chain_of(data: &Path) -> Chain {
    Chain::new(&data.join(FOLDER), FOLDER, Some(BOUNDS))
}

/// Notes what is about to be done or shown. Where this is root, with the rights of whom the data directory belongs to.
///
/// # Errors
/// What the system says; it must not be done then.
pub fn note(data: &Path, by: &str, act: Act) -> std::io::Result<()> {
    let mut line = serde_json::to_value(act.cut())?;
    (line["at"], line["by"]) = (json!(Timestamp::now()), json!(by));
    let folder = data.join(FOLDER);
    // Two that come first at once both make it.
    disk::make_folder(&folder, Some(0o700), None).or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })?;
    disk::as_owner_of(data, || chain_of(data).note(&[line]))?
}

/// Notes what goes on also with a disk that takes no lines: what the gateway does itself or for the desk, and what came
/// to nothing. The log says so then.
pub fn note_or_tell(data: &Path, by: &str, act: Act) {
    if let Err(error) = note(data, by, act) {
        tracing::warn!("the record in {} lacks a line: {error}", data.display());
    }
}

/// Who sits at this command, as they say: whom sudo(8) works for, else the name of the user.
pub fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| "unknown".to_owned())
}
