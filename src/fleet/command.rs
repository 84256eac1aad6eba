//! Commands of the desk: what one says, whether it is obeyed, and what is known of it across crashes. Pure.
//!
//! A command is a signed document ([`super::envelope`]) from a closed list ([`Operation`]); there is no shell. The
//! deadline stands inside, because a broker's own expiry is a courtesy: it delivers an expired message after a restart.
//!
//! | what | how |
//! |---|---|
//! | for another box, or another tenant's | refused |
//! | seen before, same bytes | the stored result is said again |
//! | seen before, other bytes | refused, and an alarm |
//! | not after the last one of its issuer (`seq`) | refused: a replay, or two desks that sign with one key |
//! | not yet or no longer valid | refused; so is everything but `ping` while the box does not trust its clock |
//! | too few signatures | refused |
//!
//! What is accepted is committed before it is acknowledged to the broker, then run; [`Phase`] says what a crash leaves.

use super::envelope::Signed;
use super::telemetry::Id;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A command is valid for this long at most, so that a box keeps what it has seen for a bounded time.
pub const LIFETIME_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The desk's clock may be ahead of the box's by this much.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Longest name in a command, in bytes.
const NAME_MAX: usize = 64;
/// The version of the document that is understood.
const VERSION: u32 = 1;

/// What a box can be told to do. There is nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Answer.
    Ping,
    /// Say anew everything that is retained: birth, health, reported configuration.
    Report,
    /// Show whoever stands in front of it which box it is, on its own hardware.
    Identify,
    /// Say what waits, is held and is parked, by destination.
    QueueStats,
    /// Send the messages that a destination refused again, byte for byte.
    RetryParked {
        /// Which destination.
        destination: String,
    },
    /// Never send the messages that a destination refused.
    DiscardParked {
        /// Which destination.
        destination: String,
        /// Why, for the record; no patient data.
        reason: String,
    },
    /// Say which configuration runs: every setting, without secrets.
    ConfigGet,
    /// Ask for a new certificate now, before the time of the present one.
    CertRenew,
    /// Say the last lines of the log, without anything that came from elsewhere.
    LogTail {
        /// How many, at most.
        lines: u32,
    },
    /// Say the lines of the log as they come, as above, in a session named by this command's id, in the place of another
    /// session if there is one ([`super::tail`]).
    LogFollow {
        /// For how long, at most.
        seconds: u32,
        /// How many, at most.
        lines: u32,
    },
    /// Say no more of them.
    LogStop,
    /// Say what somebody who helps wants to see: log, configuration, counters, versions, the doctor's findings; in parts,
    /// named by this command's id.
    LogBundle,
    /// Keep what passes on a link, on the box ([`super::captures`]).
    Capture {
        /// Which link.
        link: String,
        /// For how long.
        seconds: u32,
        /// With what names patients and specimens.
        reveal: bool,
    },
    /// End the gateway's process; the service manager starts it anew.
    Restart,
    /// Fetch a release and keep it ready ([`crate::update`]).
    UpdateOffer {
        /// Its manifest, signed by as many keys of the root as that says.
        manifest: String,
        /// Roots behind the one the box may have, in order.
        roots: Vec<String>,
    },
    /// Forget everything this box came to know ([`crate::reset`]): its answer is that it will, and goes before it does.
    FactoryReset {
        /// How much is thrown away that went nowhere yet: exactly as much as is here, or it is refused.
        discard: u64,
    },
    /// Install the release that lies ready, once the bench is idle.
    UpdateInstall {
        /// Which it is.
        version: String,
        /// SHA-256 of the operating system's bundle that comes with it, as the manifest has it; none when none comes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
    },
}

/// What running an operation twice means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same as running it once: after a crash it is run again, once, for it may be what ended the program.
    Idempotent,
    /// Something else: after a crash it is reported as interrupted, never run again.
    Once,
    /// It ends the process: it succeeded when another process finds it running. [`Operation::FactoryReset`] leaves nothing
    /// that could find it: [`Phase::Leaving`].
    Reboot,
}

impl Operation {
    /// Its word on the bus.
    pub fn word(&self) -> &'static str {
        match self {
            Operation::Ping => "ping",
            Operation::Report => "report",
            Operation::Identify => "identify",
            Operation::QueueStats => "queue-stats",
            Operation::ConfigGet => "config-get",
            Operation::CertRenew => "cert-renew",
            Operation::LogTail { .. } => "log-tail",
            Operation::LogFollow { .. } => "log-follow",
            Operation::LogStop => "log-stop",
            Operation::LogBundle => "log-bundle",
            Operation::Capture { .. } => "capture",
            Operation::RetryParked { .. } => "retry-parked",
            Operation::DiscardParked { .. } => "discard-parked",
            Operation::Restart => "restart",
            Operation::FactoryReset { .. } => "factory-reset",
            Operation::UpdateOffer { .. } => "update-offer",
            Operation::UpdateInstall { .. } => "update-install",
        }
    }

    /// What running it twice means.
    pub fn kind(&self) -> Kind {
        match self {
            Operation::Ping | Operation::Report | Operation::QueueStats | Operation::RetryParked { .. } => {
                Kind::Idempotent
            }
            Operation::Identify | Operation::ConfigGet | Operation::LogTail { .. } => Kind::Idempotent,
            Operation::LogFollow { .. } | Operation::LogStop | Operation::LogBundle => Kind::Idempotent,
            // A certificate more does no harm, and the next is the one that is used.
            Operation::CertRenew => Kind::Idempotent,
            // What is under way is not begun again.
            Operation::UpdateOffer { .. } | Operation::UpdateInstall { .. } => Kind::Idempotent,
            // A second run would discard what was parked in between, which nobody has looked at.
            Operation::DiscardParked { .. } => Kind::Once,
            // What passes later is not what was asked for.
            Operation::Capture { .. } => Kind::Once,
            Operation::Restart | Operation::FactoryReset { .. } => Kind::Reboot,
        }
    }

    /// How many operators must have signed it.
    pub fn signatures(&self) -> usize {
        match self {
            Operation::DiscardParked { .. } | Operation::UpdateInstall { .. } | Operation::Capture { .. } => 2,
            Operation::FactoryReset { .. } => 2,
            _ => 1,
        }
    }

    /// True for a capture, which takes minutes.
    pub fn is_capture(&self) -> bool {
        matches!(self, Operation::Capture { .. })
    }

    /// Whether it may run while the box does not know what time it is.
    fn needs_no_clock(&self) -> bool {
        matches!(self, Operation::Ping)
    }
}

/// A command as it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Version of the document.
    pub v: u32,
    /// UUIDv7 (RFC 9562): what makes it this command.
    pub id: String,
    /// For which tenant's box.
    pub tenant: String,
    /// For which box.
    pub gateway: String,
    /// Whose key numbers it; among the signers.
    pub issuer: String,
    /// Number of its issuer's commands to this box; larger than the last.
    pub seq: u64,
    /// Not before.
    pub not_before: Timestamp,
    /// Not after, and at most [`LIFETIME_MAX`] after `not_before`.
    pub expires: Timestamp,
    /// What to do.
    #[serde(rename = "do")]
    pub operation: Operation,
}

/// Why a command is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Not a command this version knows: nothing of it is run.
    #[error("not a command that this version knows")]
    Unknown,
    /// For another box.
    #[error("for another box")]
    NotMine,
    /// The issuer did not sign it.
    #[error("its issuer did not sign it")]
    NotItsIssuer,
    /// Fewer operators signed than it takes.
    #[error("it takes the signatures of more operators")]
    TooFewSignatures,
    /// Valid for longer than allowed, or never.
    #[error("valid for longer than seven days, or never")]
    Lifetime,
    /// Not yet valid.
    #[error("not yet valid")]
    NotYet,
    /// No longer valid.
    #[error("no longer valid")]
    Expired,
    /// The box does not trust its own clock.
    #[error("the box does not know what time it is")]
    NoClock,
    /// Not after the last one of its issuer.
    #[error("not after the last command of its issuer")]
    Replayed,
    /// It may have been obeyed by what this box was before.
    #[error("signed before this box was reset")]
    BeforeReset,
    /// The same id with other content.
    #[error("another command has this id")]
    OtherContent,
    /// There is no room for another until some are done.
    #[error("too many commands at once")]
    Busy,
}

/// Reads a signed document as a command.
///
/// # Errors
/// [`Refusal::Unknown`] or [`Refusal::NotItsIssuer`]; then nothing of it can be relied on but that it was signed.
pub fn read(signed: &Signed) -> Result<Command, Refusal> {
    let command: Command = serde_json::from_slice(&signed.document).map_err(|_| Refusal::Unknown)?;
    let names = [&command.id, &command.tenant, &command.gateway, &command.issuer];
    let named = names.iter().all(|name| !name.is_empty() && name.len() <= NAME_MAX);
    // Ids stand in topics and logs, so they are nothing but UUIDs.
    if command.v != VERSION || !named || command.id.parse::<Id>().is_err() {
        return Err(Refusal::Unknown);
    }
    if signed.signers.contains(&command.issuer) { Ok(command) } else { Err(Refusal::NotItsIssuer) }
}

/// Who the box is.
#[derive(Debug, Clone, Copy)]
pub struct Me<'a> {
    /// Its tenant.
    pub tenant: &'a str,
    /// Its name.
    pub gateway: &'a str,
}

/// What the box knows of a command and its issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// SHA-256 of the document that came under this id before.
    pub digest: Option<[u8; 32]>,
    /// Number of the issuer's last command.
    pub last_seq: Option<u64>,
    /// When the box was reset last: what was signed before that is not for what it is now.
    pub reset: Option<Timestamp>,
    /// There are as many unfinished commands as may be.
    pub full: bool,
}

/// What is done with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it, then run it.
    Accept,
    /// It is known: say its result again, or nothing while it has none.
    Repeat,
}

/// Whether a command is obeyed. `now` is the box's clock when it is trusted.
///
/// # Errors
/// [`Refusal`]: nothing of it is run, now or later.
pub fn judge(
    command: &Command,
    signed: &Signed,
    me: Me<'_>,
    known: &Known,
    now: Option<Timestamp>,
) -> Result<Verdict, Refusal> {
    if command.tenant != me.tenant || command.gateway != me.gateway {
        return Err(Refusal::NotMine);
    }
    if let Some(digest) = known.digest {
        return if digest == signed.digest() { Ok(Verdict::Repeat) } else { Err(Refusal::OtherContent) };
    }
    if signed.signers.len() < command.operation.signatures() {
        return Err(Refusal::TooFewSignatures);
    }
    let lifetime = command.expires.duration_since(command.not_before);
    if lifetime <= SignedDuration::ZERO || lifetime > LIFETIME_MAX {
        return Err(Refusal::Lifetime);
    }
    match now {
        None if !command.operation.needs_no_clock() => return Err(Refusal::NoClock),
        None => {}
        Some(now) if command.not_before.duration_since(now) > CLOCK_SKEW_MAX => return Err(Refusal::NotYet),
        Some(now) if has_expired(command, now) => return Err(Refusal::Expired),
        Some(_) => {}
    }
    if known.reset.is_some_and(|reset| command.not_before <= reset) {
        return Err(Refusal::BeforeReset);
    }
    if known.last_seq.is_some_and(|last| command.seq <= last) {
        return Err(Refusal::Replayed);
    }
    if known.full { Err(Refusal::Busy) } else { Ok(Verdict::Accept) }
}

/// Whether its time is over.
pub fn has_expired(command: &Command, now: Timestamp) -> bool {
    now > command.expires
}

/// Where an accepted command stands. Each is committed before what follows it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Kept, not begun.
    Accepted,
    /// Begun: what it does may have happened or not.
    Running,
    /// Begun once more, as the program ended the first time.
    RunningAgain,
    /// It will do what it says once the broker has its answer, and at the program's next start.
    Leaving,
    /// It did what it says.
    Done,
    /// It did not, and the result says why.
    Failed,
    /// Its time was over before it began.
    Expired,
    /// The box stopped in the middle; whether it happened is not known, and it is not run again.
    Interrupted,
}

impl Phase {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Phase::Accepted | Phase::Running | Phase::RunningAgain | Phase::Leaving)
    }

    /// Its word in the store and on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Accepted => "accepted",
            Phase::Running => "running",
            Phase::RunningAgain => "running-again",
            Phase::Leaving => "leaving",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Expired => "expired",
            Phase::Interrupted => "interrupted",
        }
    }

    /// The phase of a word.
    pub fn of(word: &str) -> Option<Phase> {
        use Phase::{Accepted, Done, Expired, Failed, Interrupted, Leaving, Running, RunningAgain};
        let all = [Accepted, Running, RunningAgain, Leaving, Done, Failed, Expired, Interrupted];
        all.into_iter().find(|phase| phase.word() == word)
    }
}

/// What to do with a command that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run it; this becomes its phase first.
    Run(Phase),
    /// It ended in this phase.
    End(Phase),
}

/// What to do with a command found in a phase that is not final, by a process that may not be the one that began it.
///
/// Whoever began it in this very process is not asked again: the caller runs each command once in its life.
pub fn resume(command: &Command, phase: Phase, begun_by_this_process: bool, now: Option<Timestamp>) -> Next {
    match (phase, command.operation.kind()) {
        (Phase::Running, Kind::Reboot) if begun_by_this_process => Next::Run(Phase::Running),
        (Phase::Running, Kind::Idempotent) => Next::Run(Phase::RunningAgain),
        (Phase::Running, Kind::Once) => Next::End(Phase::Interrupted),
        // Before it is [`Phase::Leaving`] it has done nothing.
        (Phase::Running, Kind::Reboot) if matches!(command.operation, Operation::FactoryReset { .. }) => {
            Next::Run(Phase::RunningAgain)
        }
        (Phase::Running, Kind::Reboot) => Next::End(Phase::Done),
        // What ended the program twice would end it at each start, and results with it.
        (Phase::RunningAgain, _) => Next::End(Phase::Interrupted),
        (Phase::Accepted, _) => match now {
            Some(now) if has_expired(command, now) => Next::End(Phase::Expired),
            Some(_) => Next::Run(Phase::Running),
            None if command.operation.needs_no_clock() => Next::Run(Phase::Running),
            // The clock was trusted when it was accepted; whether its time is over now nobody can say.
            None => Next::End(Phase::Expired),
        },
        (ended, _) => Next::End(ended),
    }
}

#[cfg(test)]
mod tests;
