//! Updates: how a box gets a new release from afar and keeps carrying results, or goes back by itself.
//!
//! ```text
//! update-offer -> root and manifest hold? -> fetched -> hashed, put into the idle slot, asked what it is -> staged
//! update-install (two signatures) -> the bench is idle -> what works now is noted -> the gateway stops in order
//!         -> launcher: `current` -> new slot, starts are counted -> gate -> committed, or the old one is back
//! ```
//!
//! Where it stands is one small file, written before each step ([`record`], which has the table of phases and what a
//! crash in each leads to). The launcher (`launcher.rs`) reads and writes the same file; it is what the service manager
//! starts, and is never part of a release. The operator hears of an update only what is true: that it lies ready, that
//! it passed the gate, or that the old release is back.
//!
//! ## Why going back loses no result
//!
//! A release that leaves the databases' shape as it is (the schema numbers of both releases are the same) shares the
//! journal with the old one: what it takes custody of while it is on trial is in the very file that the old one goes on
//! with. Nothing is put back, so nothing can be lost. A release must therefore take a new schema number when rows mean
//! anything new.
//!
//! A release that changes the shape cannot share the file: the old one refuses it. Putting a copy back would lose what
//! came in since. So such a release is **held**: the old release copies the databases after it stopped in order; the
//! new one brings the shape up to date and passes the gate *before* it opens a link, sends a message or hears a
//! command; it is confirmed on disk, and only then starts. Until then nobody acknowledges anything, and instruments
//! keep their results as they do when the box is off; going back puts the copies back, and nothing came in since.
//! Afterwards there is no way back. A release may not give up this rule for a shape that is "only wider": whether the
//! old one writes rows that the new one understands is nothing a test of the old one has seen.
//!
//! ## The operating system
//!
//! Where RAUC looks after two slots, a manifest may name an operating system too, beside a release or alone. Its bundle
//! is fetched and hashed like the release; when the bench is idle RAUC writes it beside the one that runs, which stays
//! the next one; when the bench is idle again the gateway stops, the new one is made the next one, and the box is
//! restarted (`reboot` of `[update]`). Under it the release goes on trial as ever: a release that stays is put into the
//! other slot as well, so that there is one way forward and one back. Only behind the gate is the operating system
//! marked good. Otherwise the old release comes back, marks it bad and restarts the box with the old one; what the
//! bootloader did meanwhile is not guessed: RAUC is asked what runs. As the bootloader counts starts, each start of the
//! gateway marks the slot that runs good, but while an update decides which one stays. The folder of releases, the data
//! directory and the configuration must lie outside of the slots.
//!
//! The data path never waits for any of this (invariant I12): a thread of its own, a file of its own, a download that
//! leaves the journal its room and the network its width.
//!
//! Rooms: [`manifest`] is whose word counts; [`record`] and [`slots`] what is kept, shared with the launcher;
//! `download.rs` the fetch; [`rauc`] the operating system's slots; [`gate`] whether results still flow; [`station`] does
//! it all, one step after another, in `system.rs` for the operating system; [`about`] is what a release says of itself;
//! [`config`] is `[update]`.

use crate::journal::crash;

pub mod about;
pub mod config;
pub mod download;
pub mod gate;
pub mod manifest;
mod program;
pub mod rauc;
pub mod record;
pub mod slots;
pub mod station;
pub mod system;

pub use config::Config;

use crate::fleet::envelope;
use crate::fleet::telemetry::Digest;
use crate::{fleet, journal};
use jiff::Timestamp;
use manifest::{Manifest, Me, Refusal, Root};
use record::{Happened, Phase, Record, Schemas, Version};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The launcher says there which folder of releases it started from, and which release.
const RELEASES_VARIABLE: &str = "AFFERENT_RELEASES";
const RELEASE_VARIABLE: &str = "AFFERENT_RELEASE";
/// Files in the folder of releases: the newest root, and below what nothing is installed.
const ROOT: &str = "root";
const FLOOR: &str = "floor";

/// The record is read, changed and written by one thread of this process at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Trouble of the disk that the log was told of, until something was written.
static TOLD: Mutex<String> = Mutex::new(String::new());

/// The shapes that this program gives its databases. A debug build can be made to say others, so that a test has a
/// release that says so.
pub fn schemas() -> Schemas {
    #[cfg(debug_assertions)]
    if let Some((journal, fleet)) =
        std::env::var("AFFERENT_SCHEMAS").ok().as_deref().and_then(|text| text.split_once(' '))
        && let (Ok(journal), Ok(fleet)) = (journal.parse(), fleet.parse())
    {
        return Schemas { journal, fleet };
    }
    Schemas { journal: journal::SCHEMA, fleet: fleet::store::SCHEMA }
}

/// The version this program was built as. A debug build can be made to say another, so that a test has a newer one.
pub fn built_as() -> String {
    #[cfg(debug_assertions)]
    if let Ok(version) = std::env::var("AFFERENT_VERSION") {
        return version;
    }
    env!("CARGO_PKG_VERSION").to_string()
}

/// Whether a release or an operating system is on trial, or on the way there or back: databases may be put back, and
/// what knows the way must not be lost.
pub fn is_on_trial(config: &crate::config::Config) -> bool {
    let record = config.update.as_ref().and_then(|settings| slots::read(&settings.releases).ok().flatten());
    record.is_some_and(|record| !record.may_be_replaced())
}

/// What must not be forgotten of releases when another box takes the place of this one: the newest root, and below what
/// nothing is installed. By the names that they have in the folder of releases.
pub fn floors(settings: &Config) -> Vec<(&'static str, Vec<u8>)> {
    let floor = floor_of(&settings.releases, slots::read(&settings.releases).ok().flatten().as_ref());
    let root = std::fs::read(settings.releases.join(ROOT)).ok().map(|root| (ROOT, root));
    root.into_iter().chain((floor > Version::default()).then(|| (FLOOR, floor.to_string().into_bytes()))).collect()
}

/// Takes one of them over. A root that is older than the one that is here, or a lower floor, changes nothing.
///
/// # Errors
/// What the system refuses.
pub fn take_over(releases: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let here = std::fs::read(releases.join(name)).ok();
    let version = |bytes: &[u8]| Root::first(bytes).map(|root| root.version).ok();
    let floor = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.trim().parse::<Version>().ok();
    let is_newer = match name {
        ROOT => version(bytes) > here.as_deref().and_then(version),
        FLOOR => floor(bytes) > here.as_deref().and_then(floor),
        _ => false,
    };
    if !is_newer {
        return Ok(());
    }
    std::fs::create_dir_all(releases)?;
    slots::replace(releases, name, bytes)
}

/// Below this nothing is installed.
fn floor_of(releases: &Path, last: Option<&Record>) -> Version {
    let kept = std::fs::read_to_string(releases.join(FLOOR)).ok();
    let kept: Option<Version> = kept.and_then(|text| text.trim().parse().ok());
    let raised = last.filter(|record| record.phase == Phase::Committed).map(|record| record.floor);
    kept.unwrap_or_default().max(raised.unwrap_or_default())
}

/// The updates of a box. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Updates {
    config: Config,
    data: PathBuf,
    version: Version,
}

/// A record that may be changed by nobody else meanwhile.
struct Turn<'u> {
    releases: &'u Path,
    record: Option<Record>,
    _turn: MutexGuard<'static, ()>,
}

impl Turn<'_> {
    fn write(&self) -> Result<(), Refusal> {
        let Some(record) = &self.record else { return Ok(()) };
        slots::write(self.releases, record).map_err(disk)?;
        TOLD.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

impl Updates {
    /// Those of a gateway that the launcher started; none where it did not, or the site wants none.
    pub fn of(config: &crate::config::Config) -> Option<Updates> {
        let settings = config.update.clone()?;
        let started_from = std::env::var_os(RELEASES_VARIABLE).map(PathBuf::from);
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let is_here = started_from.is_some_and(|from| real(&from).is_some() && real(&from) == real(&settings.releases));
        let version = std::env::var(RELEASE_VARIABLE).ok().and_then(|text| text.parse().ok());
        match (is_here, version) {
            (true, Some(version)) => Some(Updates { config: settings, data: config.gateway.data.clone(), version }),
            _ => None,
        }
    }

    /// `[update]`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The release that runs.
    pub fn version(&self) -> Version {
        self.version
    }

    fn releases(&self) -> &Path {
        &self.config.releases
    }

    fn turn(&self) -> Result<Turn<'_>, Refusal> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let record = slots::read(self.releases()).map_err(disk)?;
        Ok(Turn { releases: self.releases(), record, _turn: turn })
    }

    /// Where the last update stands; none when there was none.
    pub fn record(&self) -> Option<Record> {
        slots::read(self.releases()).ok().flatten()
    }

    /// Takes an offer: a manifest, and the roots that lead from the box's to the one that signed it. The same one again
    /// changes nothing while it is under way.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed, but that roots which hold are kept.
    pub fn offer(&self, manifest: &[u8], roots: &[String], now: Option<Timestamp>) -> Result<(), Refusal> {
        let mut turn = self.turn()?;
        let root = self.follow(roots)?;
        let release = root.manifest(manifest)?;
        let digest = digest_of(manifest);
        if turn.record.as_ref().is_some_and(|record| record.manifest == digest && !record.phase.is_final()) {
            return Ok(());
        }
        // What runs now may be on trial, or about to go: an offer of it must not be told that the box has it.
        if turn.record.as_ref().is_some_and(|record| !record.may_be_replaced()) {
            return Err(Refusal::Busy);
        }
        let me = Me {
            version: self.version,
            arch: std::env::consts::ARCH,
            floor: self.floor(turn.record.as_ref()),
            schemas: schemas(),
        };
        let target = manifest::judge(&release, &root, me, now)?;
        let system = system_of(&release)?;
        if target.is_none() && system.is_none() {
            return Err(Refusal::Same);
        }
        // Before the record that says it is replaced.
        slots::replace(self.releases(), FLOOR, me.floor.to_string().as_bytes()).map_err(disk)?;
        turn.record = Some(self.offered(digest, &release, (target, system), me)?);
        turn.write()
    }

    fn offered(
        &self,
        manifest: String,
        release: &Manifest,
        (target, system): (Option<&manifest::Target>, Option<record::System>),
        me: Me<'_>,
    ) -> Result<Record, Refusal> {
        Ok(Record {
            manifest,
            phase: Phase::Offered,
            version: release.version,
            from: self.version,
            slot: slots::current(self.releases()).map_err(disk)?.other(),
            url: target.map(|target| target.url.clone()).unwrap_or_default(),
            sha256: target.map(|target| target.sha256.clone()).unwrap_or_default(),
            length: target.map_or(0, |target| target.length),
            system,
            floor: release.floor,
            old_schemas: me.schemas,
            new_schemas: match target {
                Some(_) => Schemas { journal: release.journal_schema, fleet: release.fleet_schema },
                None => me.schemas,
            },
            starts: 0,
            moves: 0,
            wrong: 0,
            trial_s: self.config.trial_s,
            data: self.data.display().to_string(),
            worked: Vec::new(),
            reason: None,
            event: String::new(),
            is_told: false,
            unknown: Vec::new(),
        })
    }

    /// The root that counts, once those that follow it are kept.
    fn follow(&self, roots: &[String]) -> Result<Root, Refusal> {
        let kept = std::fs::read(self.releases().join(ROOT)).ok().and_then(|bytes| Root::first(&bytes).ok());
        let mut root = match kept {
            Some(root) => root,
            None => {
                let mut bytes = Vec::new();
                let open = crate::disk::open_regular(&self.config.root).map_err(disk)?;
                open.take(envelope::ENVELOPE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(disk)?;
                Root::first(&bytes)?
            }
        };
        for bytes in roots {
            let said = Root::first(bytes.as_bytes())?;
            if said.version <= root.version {
                continue;
            }
            root = root.next(bytes.as_bytes())?;
            slots::replace(self.releases(), ROOT, bytes.as_bytes()).map_err(disk)?;
        }
        Ok(root)
    }

    /// Below this nothing is installed. It never goes down: a release that was confirmed has raised it.
    fn floor(&self, last: Option<&Record>) -> Version {
        floor_of(self.releases(), last)
    }

    /// Installs what lies ready: this release, and the operating system whose bundle has this SHA-256, or none. Again
    /// while it is under way or done, it changes nothing.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed.
    pub fn install(&self, version: &str, system: Option<&str>) -> Result<(), Refusal> {
        let mut turn = self.turn()?;
        let Some(record) = &mut turn.record else { return Err(Refusal::NotStaged) };
        if record.version.to_string() != version {
            return Err(Refusal::NotStaged);
        }
        if record.system.as_ref().map(|system| &*system.sha256) != system {
            return Err(Refusal::OtherSystem);
        }
        match record.phase {
            Phase::Staged => {
                record.happened(Happened::Told).map_err(|_| Refusal::NotStaged)?;
                turn.write()
            }
            Phase::Installing | Phase::WaitingIdle | Phase::Rebooting => Ok(()),
            Phase::Switching | Phase::Trial | Phase::Confirming | Phase::Committed => Ok(()),
            _ => Err(Refusal::NotStaged),
        }
    }

    /// What became of the update and was not told yet, under the id it is told by.
    pub fn untold(&self) -> Option<Record> {
        let is_news = |record: &Record| {
            matches!(record.phase, Phase::Staged | Phase::Committed | Phase::RolledBack) && !record.is_told
        };
        self.record().filter(is_news)?;
        let mut turn = self.turn().ok()?;
        let record = turn.record.as_mut().filter(|record| is_news(record))?;
        if record.event.is_empty() {
            record.event = fleet::telemetry::Id::make().to_string();
            turn.write().ok()?;
        }
        turn.record.clone()
    }

    /// The event of this id is in the outbox.
    pub fn told(&self, event: &str) {
        let Ok(mut turn) = self.turn() else { return };
        if let Some(record) = turn.record.as_mut().filter(|record| record.event == event) {
            record.is_told = true;
            let _ = turn.write();
        }
    }

    /// Something happened to the update that stands in this phase; otherwise nothing changes. The record as it is now.
    fn happened(&self, phase: Phase, what: Happened) -> Result<Option<Record>, Refusal> {
        let mut turn = self.turn()?;
        if let Some(record) = turn.record.as_mut().filter(|record| record.phase == phase)
            && record.happened(what).is_ok()
        {
            turn.write()?;
        }
        Ok(turn.record.clone())
    }

    /// Whether the operating system that was confirmed is away is noted when that is news.
    fn note_away(&self, is_away: bool) -> Result<(), Refusal> {
        let mut turn = self.turn()?;
        let confirmed = turn.record.as_mut().filter(|record| record.phase == Phase::Committed);
        if let Some(system) = confirmed.and_then(|record| record.system.as_mut()).filter(|s| s.is_away != is_away) {
            system.is_away = is_away;
            turn.write()?;
        }
        Ok(())
    }

    /// What the release that runs could do is what the next one must be able to do.
    fn note(&self, worked: Vec<String>) -> Result<(), Refusal> {
        let mut turn = self.turn()?;
        if let Some(record) = turn.record.as_mut().filter(|record| record.phase == Phase::WaitingIdle) {
            record.worked = worked;
            turn.write()?;
        }
        Ok(())
    }
}

/// The operating system that a manifest brings this box.
fn system_of(release: &Manifest) -> Result<Option<record::System>, Refusal> {
    if release.systems.is_empty() {
        return Ok(None);
    }
    let status = rauc::status().map_err(|why| {
        tracing::warn!("update: this box has no slots for an operating system: {why}");
        Refusal::NoSlots
    })?;
    let system = manifest::system(release, &status.compatible, status.booted.version.as_deref())?;
    Ok(system.map(|system| record::System {
        version: system.version.clone(),
        url: system.url.clone(),
        sha256: system.sha256.clone(),
        length: system.length,
        from: status.booted.bootname,
        installs: status.other.installs,
        reboots: 0,
        is_away: false,
    }))
}

/// What makes a manifest this one: SHA-256 of the document, whoever has signed it in whatever order, in hexadecimal
/// digits.
pub fn digest_of(manifest: &[u8]) -> String {
    let document = envelope::unproven(manifest).unwrap_or_default();
    Digest::of(&document).to_string()
}

/// What is tried twice a second is told when it is another trouble.
fn disk(error: std::io::Error) -> Refusal {
    let (why, mut told) = (error.to_string(), TOLD.lock().unwrap_or_else(PoisonError::into_inner));
    if *told != why {
        tracing::warn!("update: the folder of releases or the root cannot be used: {why}");
        *told = why;
    }
    Refusal::Disk
}

#[cfg(test)]
mod tests;
