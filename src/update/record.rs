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
//! | `installing` | RAUC writes the operating system into the slot that does not run | what RAUC says decides |
//! | `waiting-idle` | the bench is watched; at the end the gateway stops and databases are copied | it waits again |
//! | `rebooting` | the new operating system is made the next one, and the box restarted | what RAUC says decides |
//! | `switching` | the launcher points `current` at the new slot | again; either release of the link is whole |
//! | `trial` | the new release starts, and starts are counted | again, [`STARTS_MAX`] times at most |
//! | `confirming` | the new release passes the gate | it is a trial again |
//! | `committed` | the new release runs, for good | told again, under the same id |
//! | `rolling-back` | databases are put back if they were copied, `current` at the old slot | all of it again |
//! | `returning` | the old release runs, and has the old operating system come back | what RAUC says decides |
//! | `rolled-back` | the old release runs | told again, under the same id |
//!
//! `installing`, `rebooting` and `returning` are of updates that bring an operating system ([`System`]).
//!
//! The launcher is never part of a release, and a release may be older than whoever wrote the record: lines that a
//! reader does not know it writes again as they were, and a reason it does not know is [`Reason::Unknown`], so that the
//! way back is gone all the same. A launcher or release that was built before 28 November 2026 drops such lines: where
//! operating systems come with releases, such a launcher is to be replaced first. A phase that a reader does not know
//! is no record to it: what `current` points at is started.

use std::fmt;
use std::str::FromStr;

/// A release on trial is started this often at most.
pub const STARTS_MAX: u32 = 3;
/// Changes of phase of one update at most; then it is given up. A whole update takes eight, eleven with an
/// operating system.
pub const MOVES_MAX: u32 = 64;
/// The box is restarted this often at most to get to an operating system, and as often to get back.
pub const REBOOTS_MAX: u32 = 3;
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
    /// The operating system is being installed beside the one that runs.
    Installing,
    /// It was told to be installed.
    WaitingIdle,
    /// The box restarts with the new operating system.
    Rebooting,
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
    /// The old one is back, and the box restarts with the old operating system.
    Returning,
    /// The old one runs.
    RolledBack,
}

/// Every phase.
pub const PHASES: [Phase; 14] = [
    Phase::Offered,
    Phase::Downloading,
    Phase::Verifying,
    Phase::Staged,
    Phase::Installing,
    Phase::WaitingIdle,
    Phase::Rebooting,
    Phase::Switching,
    Phase::Trial,
    Phase::Confirming,
    Phase::Committed,
    Phase::RollingBack,
    Phase::Returning,
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
            Phase::Installing => "installing",
            Phase::WaitingIdle => "waiting-idle",
            Phase::Rebooting => "rebooting",
            Phase::Switching => "switching",
            Phase::Trial => "trial",
            Phase::Confirming => "confirming",
            Phase::Committed => "committed",
            Phase::RollingBack => "rolling-back",
            Phase::Returning => "returning",
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

    /// The old release runs, and of the releases nothing has been touched.
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
    /// RAUC did not install the operating system.
    Install,
    /// The box did not come up with the operating system that was to run.
    Boot,
    /// Whoever reads this does not know the reason.
    Unknown,
}

impl Reason {
    const ALL: [Reason; 11] = [
        Reason::Download,
        Reason::Content,
        Reason::DoesNotRun,
        Reason::NoRoom,
        Reason::Disk,
        Reason::Starts,
        Reason::Deadline,
        Reason::Gate,
        Reason::Loop,
        Reason::Install,
        Reason::Boot,
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
            Reason::Install => "install",
            Reason::Boot => "boot",
            Reason::Unknown => "unknown",
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
    /// RAUC has the operating system in its slot, and the one that runs is the next one still.
    Installed,
    /// The gateway has stopped in order, and what is needed to go back is on disk.
    Stopped,
    /// The box is about to be restarted.
    Restarts,
    /// The new operating system runs.
    Booted,
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
    /// The old operating system runs, and is the next one too.
    Returned,
}

/// An operating system that an update brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its version, as its bundle says it.
    pub version: String,
    /// Where the bundle is fetched from.
    pub url: String,
    /// SHA-256 of the bundle, in hexadecimal digits.
    pub sha256: String,
    /// Length of the bundle, bytes.
    pub length: u64,
    /// RAUC's name of the slot that runs before (its bootname).
    pub from: String,
    /// How often RAUC had written the other slot before.
    pub installs: u64,
    /// Restarts of the box so far, on this way.
    pub reboots: u32,
    /// It was confirmed, and the one before it runs again.
    pub is_away: bool,
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
    /// Where it is fetched from; empty when the release that runs stays, and only the operating system changes.
    pub url: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its length, bytes.
    pub length: u64,
    /// The operating system that comes with it, or alone.
    pub system: Option<System>,
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
    /// Lines that this reader does not know, as they stand.
    pub unknown: Vec<String>,
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

    /// The operating system that was confirmed does not run.
    pub fn system_is_away(&self) -> bool {
        self.phase == Phase::Committed && self.system.as_ref().is_some_and(|system| system.is_away)
    }

    /// Nothing of it is under way that must be brought to an end: another offer may take its place. With an operating
    /// system that ends earlier, as RAUC has written it before the bench is waited for, and it can be started.
    pub fn may_be_replaced(&self) -> bool {
        let is_written = self.system.is_some() && self.phase == Phase::WaitingIdle;
        self.phase.is_final() || (self.phase.is_before_the_switch() && !is_written)
    }

    /// What becomes of the update. When this returns an error nothing has changed.
    pub fn happened(&mut self, what: Happened) -> Result<(), OutOfTurn> {
        let has_system = self.system.is_some();
        let may_restart = self.system.as_ref().is_some_and(|system| system.reboots < REBOOTS_MAX);
        let next = match (self.phase, what) {
            (Phase::Offered | Phase::Downloading, Happened::Begun) => Phase::Downloading,
            (Phase::Downloading, Happened::Fetched) => Phase::Verifying,
            (Phase::Verifying, Happened::Wrong) => Phase::Downloading,
            (Phase::Verifying, Happened::Unpacked) => Phase::Staged,
            (Phase::Staged, Happened::Told) if has_system => Phase::Installing,
            (Phase::Installing, Happened::Installed) if has_system => Phase::WaitingIdle,
            (Phase::WaitingIdle, Happened::Stopped) if has_system => Phase::Rebooting,
            (phase @ (Phase::Rebooting | Phase::Returning), Happened::Restarts) if may_restart => phase,
            (Phase::Rebooting, Happened::Booted) if has_system => Phase::Switching,
            (Phase::Staged, Happened::Told) => Phase::WaitingIdle,
            (Phase::WaitingIdle, Happened::Stopped) => Phase::Switching,
            (Phase::Switching | Phase::Trial | Phase::Confirming, Happened::Started) => Phase::Trial,
            (Phase::Trial, Happened::Looking) => Phase::Confirming,
            (Phase::Confirming, Happened::Confirmed) => Phase::Committed,
            (phase, Happened::Failed(_)) => self.way_back(phase).ok_or(OutOfTurn)?,
            (Phase::RollingBack, Happened::Back) if has_system => Phase::Returning,
            (Phase::RollingBack, Happened::Back) => Phase::RolledBack,
            (Phase::Returning, Happened::Returned) => Phase::RolledBack,
            _ => return Err(OutOfTurn),
        };
        self.moves += 1;
        let (next, what) = match self.way_back(next).filter(|_| self.moves > MOVES_MAX) {
            Some(back) => (back, Happened::Failed(Reason::Loop)),
            None => (next, what),
        };
        match what {
            Happened::Started => self.starts += 1,
            Happened::Wrong => self.wrong += 1,
            Happened::Failed(reason) => self.reason = Some(reason),
            _ => {}
        }
        if let Some(system) = &mut self.system {
            match what {
                Happened::Restarts => system.reboots += 1,
                _ if next == Phase::Returning => system.reboots = 0,
                _ => {}
            }
        }
        self.phase = next;
        (self.event, self.is_told) = (String::new(), false);
        Ok(())
    }

    /// What an update that fails in this phase comes to; none once nothing can be given up any more.
    fn way_back(&self, phase: Phase) -> Option<Phase> {
        match phase {
            // The new operating system may be the next one.
            Phase::Installing | Phase::WaitingIdle | Phase::Rebooting if self.system.is_some() => {
                Some(Phase::Returning)
            }
            _ if phase.is_on_trial() => Some(Phase::RollingBack),
            // Nothing was touched: the old release runs.
            _ if phase.is_before_the_switch() => Some(Phase::RolledBack),
            _ => None,
        }
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
        let of_system = self.system.as_ref().map(|system| {
            [
                ("system_version", system.version.clone()),
                ("system_url", system.url.clone()),
                ("system_sha256", system.sha256.clone()),
                ("system_length", system.length.to_string()),
                ("system_from", system.from.clone()),
                ("system_installs", system.installs.to_string()),
                ("system_reboots", system.reboots.to_string()),
                ("system_is_away", system.is_away.to_string()),
            ]
        });
        // One line each, whatever a value holds.
        let lines = lines.into_iter().chain(of_system.into_iter().flatten());
        let lines = lines.map(|(name, value)| format!("{name}={}\n", value.replace(['\n', '\r'], " ")));
        let unknown = self.unknown.iter().map(|line| format!("{line}\n"));
        format!("{HEAD}\n{}end\n", lines.chain(unknown).collect::<String>())
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
            word => Some(Reason::of(word).unwrap_or(Reason::Unknown)),
        };
        let system = match of("system_version") {
            None => None,
            Some(version) => Some(System {
                version: version.to_string(),
                url: of("system_url")?.to_string(),
                sha256: of("system_sha256")?.to_string(),
                length: of("system_length")?.parse().ok()?,
                from: of("system_from")?.to_string(),
                installs: of("system_installs")?.parse().ok()?,
                reboots: of("system_reboots")?.parse().ok()?,
                // Who wrote it may not know that line yet.
                is_away: of("system_is_away") == Some("true"),
            }),
        };
        let mut record = Record {
            manifest: of("manifest")?.to_string(),
            phase: Phase::of(of("phase")?)?,
            version: of("version")?.parse().ok()?,
            from: of("from")?.parse().ok()?,
            slot: Slot::of(of("slot")?)?,
            url: of("url")?.to_string(),
            sha256: of("sha256")?.to_string(),
            length: of("length")?.parse().ok()?,
            system,
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
            unknown: Vec::new(),
        };
        let known = record.text();
        let known: Vec<&str> = known.lines().map(name).collect();
        record.unknown = lines.lines().filter(|line| !known.contains(&name(line))).map(str::to_string).collect();
        Some(record)
    }
}

/// What a line says something of.
fn name(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}

#[cfg(test)]
pub(super) mod tests;
