//! The record of an update: one small file that the program and the launcher both read and write, never at once. Pure,
//! and of the standard library alone, because the launcher holds nothing else.
//!
//! Each phase is on disk before what it stands for is begun, so whoever finds it after a crash knows what may have
//! happened and what to do:
//!
//! | phase | what happens in it | a crash in it |
//! |---|---|---|
//! | `offered` | nothing yet | it goes on |
//! | `downloading` | the file grows | what is on disk is hashed, the rest fetched; a wrong hash begins anew |
//! | `verifying` | hashed, unpacked into the idle slot, asked what it is | all of it again |
//! | `staged` | it waits for `update-install` | it waits |
//! | `waiting-idle` | the bench is watched; at the end the gateway stops and databases are copied | it waits again |
//! | `switching` | the launcher points `current` at the new slot | again; either release of the link is whole |
//! | `trial` | the new release starts, and starts are counted | again, [`STARTS_MAX`] times at most |
//! | `confirming` | the new release passes the gate | it is a trial again |
//! | `committed` | the new release runs, for good | told again, under the same id |
//! | `rolling-back` | databases are put back if they were copied, `current` at the old slot | all of it again |
//! | `rolled-back` | the old release runs | told again, under the same id |

use std::fmt;
use std::str::FromStr;

/// A release on trial is started this often at most.
pub const STARTS_MAX: u32 = 3;
/// Changes of phase of one update at most; then it is given up. A whole update takes ten.
pub const MOVES_MAX: u32 = 64;
/// What the file begins with.
const HEAD: &str = "afferent update 1";
/// Longest file that is read, in bytes.
pub const BYTES_MAX: usize = 64 * 1024;

/// A release's version: three numbers, as in Semantic Versioning 2.0.0, item 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    /// As it is printed and no other way.
    fn from_str(text: &str) -> Result<Version, NoVersion> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok).ok_or(NoVersion);
        let version = Version(next()?, next()?, next()?);
        if version.to_string() == text { Ok(version) } else { Err(NoVersion) }
    }
}

/// One of the two places for releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The one the first release lies in.
    A,
    /// The other.
    B,
}

impl Slot {
    /// Name of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// The slot of a directory's name.
    pub fn of(name: &str) -> Option<Slot> {
        [Slot::A, Slot::B].into_iter().find(|slot| slot.name() == name)
    }

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// Where an update stands; see the module docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A signed manifest was accepted.
    Offered,
    /// The release is being fetched.
    Downloading,
    /// It is being checked and put into its slot.
    Verifying,
    /// It lies there, whole.
    Staged,
    /// It was told to be installed.
    WaitingIdle,
    /// The old release has ended in order.
    Switching,
    /// The new one starts.
    Trial,
    /// The new one looks whether results still flow.
    Confirming,
    /// They do.
    Committed,
    /// The old one is put back.
    RollingBack,
    /// The old one runs.
    RolledBack,
}

/// Every phase.
pub const PHASES: [Phase; 11] = [
    Phase::Offered,
    Phase::Downloading,
    Phase::Verifying,
    Phase::Staged,
    Phase::WaitingIdle,
    Phase::Switching,
    Phase::Trial,
    Phase::Confirming,
    Phase::Committed,
    Phase::RollingBack,
    Phase::RolledBack,
];

impl Phase {
    /// Its word in the file and on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Offered => "offered",
            Phase::Downloading => "downloading",
            Phase::Verifying => "verifying",
            Phase::Staged => "staged",
            Phase::WaitingIdle => "waiting-idle",
            Phase::Switching => "switching",
            Phase::Trial => "trial",
            Phase::Confirming => "confirming",
            Phase::Committed => "committed",
            Phase::RollingBack => "rolling-back",
            Phase::RolledBack => "rolled-back",
        }
    }

    /// The phase of a word.
    pub fn of(word: &str) -> Option<Phase> {
        PHASES.into_iter().find(|phase| phase.word() == word)
    }

    /// Nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Committed | Phase::RolledBack)
    }

    /// The old release runs and nothing has been touched: another offer may take its place.
    pub fn is_before_the_switch(self) -> bool {
        matches!(self, Phase::Offered | Phase::Downloading | Phase::Verifying | Phase::Staged | Phase::WaitingIdle)
    }

    /// The new release may run and is not confirmed.
    pub fn is_on_trial(self) -> bool {
        matches!(self, Phase::Switching | Phase::Trial | Phase::Confirming)
    }
}

/// Why an update was given up, or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The release could not be fetched.
    Download,
    /// What was fetched is not what the manifest names.
    Content,
    /// It does not run on this box, or is not what the manifest says of it.
    DoesNotRun,
    /// There is no room for it, or for the copies to go back to.
    NoRoom,
    /// The disk failed.
    Disk,
    /// It was started [`STARTS_MAX`] times and never confirmed.
    Starts,
    /// It was not confirmed in time.
    Deadline,
    /// It ran and results would not have flowed.
    Gate,
    /// It went from phase to phase without end.
    Loop,
}

impl Reason {
    const ALL: [Reason; 9] = [
        Reason::Download,
        Reason::Content,
        Reason::DoesNotRun,
        Reason::NoRoom,
        Reason::Disk,
        Reason::Starts,
        Reason::Deadline,
        Reason::Gate,
        Reason::Loop,
    ];

    /// Its word in the file and on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Download => "download",
            Reason::Content => "content",
            Reason::DoesNotRun => "does-not-run",
            Reason::NoRoom => "no-room",
            Reason::Disk => "disk",
            Reason::Starts => "starts",
            Reason::Deadline => "deadline",
            Reason::Gate => "gate",
            Reason::Loop => "loop",
        }
    }

    /// The reason of a word.
    pub fn of(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

/// The numbers of the databases' schemas: the journal's and the fleet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemas {
    /// `journal.db`.
    pub journal: u64,
    /// `fleet.db`.
    pub fleet: u64,
}

/// What happened to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The fetch begins.
    Begun,
    /// All of it is here.
    Fetched,
    /// What was fetched is wrong; it is fetched anew.
    Wrong,
    /// It lies in its slot, whole.
    Unpacked,
    /// Two operators said so.
    Told,
    /// The gateway has stopped in order, and what is needed to go back is on disk.
    Stopped,
    /// The launcher starts the release.
    Started,
    /// The release runs and looks.
    Looking,
    /// Results flow.
    Confirmed,
    /// It is given up, or taken back.
    Failed(Reason),
    /// The old release is back.
    Back,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the manifest, in hexadecimal digits: what makes it this update.
    pub manifest: String,
    /// Where it stands.
    pub phase: Phase,
    /// The new release.
    pub version: Version,
    /// The release that runs before.
    pub from: Version,
    /// Where the new release goes.
    pub slot: Slot,
    /// Where it is fetched from.
    pub url: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its length, bytes.
    pub length: u64,
    /// Below this no release is installed once this one is confirmed.
    pub floor: Version,
    /// Schemas of the old release.
    pub old_schemas: Schemas,
    /// Schemas of the new release.
    pub new_schemas: Schemas,
    /// Starts on trial.
    pub starts: u32,
    /// Changes of phase.
    pub moves: u32,
    /// Fetches that were wrong.
    pub wrong: u32,
    /// Seconds a start of the new release has until it is confirmed.
    pub trial_s: u64,
    /// The data directory.
    pub data: String,
    /// What worked before, by name of the check.
    pub worked: Vec<String>,
    /// Why it was given up.
    pub reason: Option<Reason>,
    /// Id of the event that tells of this phase; empty until it is made.
    pub event: String,
    /// The event is in the outbox.
    pub is_told: bool,
}

/// What happened does not belong to the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfTurn;

impl Record {
    /// The databases' shape changes: the new release takes custody of nothing before it is confirmed, because going
    /// back means putting the copies back, and what came in since would be lost with them.
    pub fn is_held(&self) -> bool {
        self.old_schemas != self.new_schemas
    }

    /// What becomes of the update. When this returns an error nothing has changed.
    pub fn happened(&mut self, what: Happened) -> Result<(), OutOfTurn> {
        let next = match (self.phase, what) {
            (Phase::Offered | Phase::Downloading, Happened::Begun) => Phase::Downloading,
            (Phase::Downloading, Happened::Fetched) => Phase::Verifying,
            (Phase::Verifying, Happened::Wrong) => Phase::Downloading,
            (Phase::Verifying, Happened::Unpacked) => Phase::Staged,
            (Phase::Staged, Happened::Told) => Phase::WaitingIdle,
            (Phase::WaitingIdle, Happened::Stopped) => Phase::Switching,
            (Phase::Switching | Phase::Trial | Phase::Confirming, Happened::Started) => Phase::Trial,
            (Phase::Trial, Happened::Looking) => Phase::Confirming,
            (Phase::Confirming, Happened::Confirmed) => Phase::Committed,
            (phase, Happened::Failed(_)) if phase.is_on_trial() => Phase::RollingBack,
            // Nothing was touched: the old release runs.
            (phase, Happened::Failed(_)) if phase.is_before_the_switch() => Phase::RolledBack,
            (Phase::RollingBack, Happened::Back) => Phase::RolledBack,
            _ => return Err(OutOfTurn),
        };
        let is_back = matches!(next, Phase::RollingBack | Phase::RolledBack);
        self.moves += 1;
        let (next, what) = match self.moves > MOVES_MAX && !is_back && next != Phase::Committed {
            false => (next, what),
            true if next.is_on_trial() => (Phase::RollingBack, Happened::Failed(Reason::Loop)),
            true => (Phase::RolledBack, Happened::Failed(Reason::Loop)),
        };
        match what {
            Happened::Started => self.starts += 1,
            Happened::Wrong => self.wrong += 1,
            Happened::Failed(reason) => self.reason = Some(reason),
            _ => {}
        }
        self.phase = next;
        (self.event, self.is_told) = (String::new(), false);
        Ok(())
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let Schemas { journal, fleet } = self.old_schemas;
        let new = self.new_schemas;
        let lines = [
            ("manifest", self.manifest.clone()),
            ("phase", self.phase.word().to_string()),
            ("version", self.version.to_string()),
            ("from", self.from.to_string()),
            ("slot", self.slot.name().to_string()),
            ("url", self.url.clone()),
            ("sha256", self.sha256.clone()),
            ("length", self.length.to_string()),
            ("floor", self.floor.to_string()),
            ("old_schemas", format!("{journal} {fleet}")),
            ("new_schemas", format!("{} {}", new.journal, new.fleet)),
            ("starts", self.starts.to_string()),
            ("moves", self.moves.to_string()),
            ("wrong", self.wrong.to_string()),
            ("trial_s", self.trial_s.to_string()),
            ("data", self.data.clone()),
            ("worked", self.worked.join(" ")),
            ("reason", self.reason.map_or("", Reason::word).to_string()),
            ("event", self.event.clone()),
            ("is_told", self.is_told.to_string()),
        ];
        // One line each, whatever a value holds.
        let lines = lines.map(|(name, value)| format!("{name}={}\n", value.replace(['\n', '\r'], " ")));
        format!("{HEAD}\n{}end\n", lines.concat())
    }

    /// Reads the file's text; `None` when it is none, or not whole.
    pub fn read(text: &str) -> Option<Record> {
        let lines = text.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix("end\n")?;
        let of = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let schemas = |name: &str| {
            let (journal, fleet) = of(name)?.split_once(' ')?;
            Some(Schemas { journal: journal.parse().ok()?, fleet: fleet.parse().ok()? })
        };
        let reason = match of("reason")? {
            "" => None,
            word => Some(Reason::of(word)?),
        };
        Some(Record {
            manifest: of("manifest")?.to_string(),
            phase: Phase::of(of("phase")?)?,
            version: of("version")?.parse().ok()?,
            from: of("from")?.parse().ok()?,
            slot: Slot::of(of("slot")?)?,
            url: of("url")?.to_string(),
            sha256: of("sha256")?.to_string(),
            length: of("length")?.parse().ok()?,
            floor: of("floor")?.parse().ok()?,
            old_schemas: schemas("old_schemas")?,
            new_schemas: schemas("new_schemas")?,
            starts: of("starts")?.parse().ok()?,
            moves: of("moves")?.parse().ok()?,
            wrong: of("wrong")?.parse().ok()?,
            trial_s: of("trial_s")?.parse().ok()?,
            data: of("data")?.to_string(),
            worked: of("worked")?.split_ascii_whitespace().map(str::to_string).collect(),
            reason,
            event: of("event")?.to_string(),
            is_told: of("is_told")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
