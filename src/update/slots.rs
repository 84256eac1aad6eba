//! Where releases lie, and which of them runs. Of the standard library alone: the launcher holds this and no more.
//!
//! ```text
//! releases/a/afferent, releases/a/release   a release, and its version, written last: without, it is not whole
//! releases/b/...                            the other
//! releases/current -> a                     which one runs
//! releases/update                           the record of the last update
//! releases/before/                          databases as they were before a release that changes their shape
//! ```
//!
//! Every change is on disk before the next begins: a file is written under another name, synced, renamed, and its
//! directory synced. A link is replaced by renaming another onto it. So whatever a crash leaves is what was before or
//! what comes after, and [`begin`] does the rest again.

use super::crash;
use super::record::{BYTES_MAX, Happened, Phase, Reason, Record, STARTS_MAX, Slot, Version};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Name of the program in a slot.
pub const PROGRAM: &str = "afferent";
/// Names of the databases that may change their shape. Nothing else in the data directory may.
pub const DATABASES: [&str; 2] = ["journal.db", "fleet.db"];
/// Whoever writes into the data directory holds a lock on this file there.
const LOCK: &str = "journal.lock";
const CURRENT: &str = "current";
const RELEASE: &str = "release";
const RECORD: &str = "update";
const BEFORE: &str = "before";

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// Its release.
    pub version: Option<Version>,
    /// Seconds until it must be confirmed, while it is on trial.
    pub trial_s: Option<u64>,
    /// Why the update goes no further with this start: it cannot be noted, and this is the confirmed release.
    pub stuck: Option<String>,
}

/// What the launcher does first: brings what a crash or the last program left to an end, and says what is to be
/// started.
///
/// Where that cannot be written (a disk that is full, or can only be read) nothing is tried: the confirmed release is
/// started, and the next start goes on. Not where databases were copied to go back to: what came in from now on would be
/// missing from the copies, so nothing is started, and instruments keep their results.
pub fn begin(releases: &Path) -> io::Result<Start> {
    let (mut trial_s, mut stuck) = (None, None);
    // One that cannot be read says nothing: what `current` points at is started, which is whole either way.
    let slot = match read(releases)? {
        None => current(releases)?,
        Some(mut record) => match go_on(releases, &mut record) {
            Ok(trial) => {
                trial_s = trial;
                current(releases)?
            }
            Err(error) if record.is_held() => return Err(error),
            Err(error) => {
                stuck = Some(error.to_string());
                record.slot.other()
            }
        },
    };
    Ok(Start { program: program(releases, slot), version: version_in(releases, slot), trial_s, stuck })
}

/// The next step of what is under way; the seconds of a trial that begins.
fn go_on(releases: &Path, record: &mut Record) -> io::Result<Option<u64>> {
    if record.phase.is_on_trial() {
        let what = match record.starts >= STARTS_MAX {
            true => Happened::Failed(Reason::Starts),
            false => Happened::Started,
        };
        let _ = record.happened(what);
        write(releases, record)?;
    }
    match record.phase {
        Phase::Trial => {
            point_at(releases, record.slot)?;
            crash::point("launcher-pointed");
            return Ok(Some(record.trial_s));
        }
        Phase::RollingBack => roll_back(releases, record)?,
        _ => {}
    }
    Ok(None)
}

/// The release on trial has ended, or its time is over and it was ended. It is not running any more. Says whether it
/// was taken back.
pub fn time_is_over(releases: &Path) -> io::Result<bool> {
    let Some(mut record) = read(releases)? else { return Ok(false) };
    if !record.phase.is_on_trial() || record.happened(Happened::Failed(Reason::Deadline)).is_err() {
        return Ok(false);
    }
    write(releases, &record)?;
    Ok(true)
}

fn roll_back(releases: &Path, record: &mut Record) -> io::Result<()> {
    if record.is_held() {
        let data = Path::new(&record.data);
        // A release that was killed may still be ending.
        let lock = File::open(data.join(LOCK)).and_then(|file| file.lock().map(|()| file));
        for name in DATABASES {
            put_back(&releases.join(BEFORE), data, name)?;
            crash::point("launcher-put-back");
        }
        drop(lock);
    }
    point_at(releases, record.slot.other())?;
    crash::point("launcher-pointed-back");
    let _ = record.happened(Happened::Back);
    write(releases, record)
}

/// Copies take the place of a database and of its log, whatever is there.
fn put_back(before: &Path, data: &Path, name: &str) -> io::Result<()> {
    if !before.join(name).exists() {
        return Ok(());
    }
    let copied: Vec<String> = with_log(name).into_iter().filter(|name| before.join(name).exists()).collect();
    for name in &copied {
        copy_file(&before.join(name), &data.join(format!("{name}.back")))?;
    }
    // A log belongs to the very database it was written for.
    for log in ["-wal", "-shm"] {
        remove(&data.join(format!("{name}{log}")))?;
    }
    for name in &copied {
        fs::rename(data.join(format!("{name}.back")), data.join(name))?;
    }
    sync_directory(data)
}

/// Copies the databases that are there, with what is left of their logs, so that they can be put back. Nobody writes to
/// them meanwhile.
pub fn keep_before(releases: &Path, data: &Path) -> io::Result<()> {
    forget_before(releases)?;
    let before = releases.join(BEFORE);
    fs::create_dir_all(&before)?;
    for name in DATABASES.into_iter().flat_map(with_log) {
        if data.join(&name).exists() {
            copy_file(&data.join(&name), &before.join(&name))?;
        }
    }
    sync_directory(&before)?;
    sync_directory(releases)
}

/// A database, and what is left of its log.
fn with_log(name: &str) -> [String; 2] {
    [name.to_string(), format!("{name}-wal")]
}

/// Bytes that [`keep_before`] takes.
pub fn bytes_before(data: &Path) -> u64 {
    DATABASES
        .into_iter()
        .flat_map(with_log)
        .map(|name| fs::metadata(data.join(name)).map_or(0, |found| found.len()))
        .sum()
}

/// The copies are of no use any more.
pub fn forget_before(releases: &Path) -> io::Result<()> {
    match fs::remove_dir_all(releases.join(BEFORE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// The record of the last update; none when there was none, or it cannot be read as one.
pub fn read(releases: &Path) -> io::Result<Option<Record>> {
    let file = match File::open(releases.join(RECORD)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX as u64).read_to_end(&mut text)?;
    Ok(std::str::from_utf8(&text).ok().and_then(Record::read))
}

/// Puts the record on disk.
pub fn write(releases: &Path, record: &Record) -> io::Result<()> {
    crash::point(&format!("update-before-{}", record.phase.word()));
    replace(releases, RECORD, record.text().as_bytes())?;
    crash::point(&format!("update-{}", record.phase.word()));
    Ok(())
}

/// Replaces a small file, or makes it.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    // Whatever the process's mask takes away.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    sync_directory(folder)
}

/// Which slot runs.
pub fn current(releases: &Path) -> io::Result<Slot> {
    let link = releases.join(CURRENT);
    let target = fs::read_link(&link)?;
    let slot = target.file_name().and_then(|name| name.to_str()).and_then(Slot::of);
    slot.ok_or_else(|| io::Error::other(format!("{} points at no slot", link.display())))
}

/// Makes this slot the one that runs.
pub fn point_at(releases: &Path, slot: Slot) -> io::Result<()> {
    let new = releases.join(format!("{CURRENT}.new"));
    remove(&new)?;
    std::os::unix::fs::symlink(slot.name(), &new)?;
    fs::rename(&new, releases.join(CURRENT))?;
    sync_directory(releases)
}

/// The program in a slot.
pub fn program(releases: &Path, slot: Slot) -> PathBuf {
    releases.join(slot.name()).join(PROGRAM)
}

/// The version of the release in a slot; none when there is none that is whole.
pub fn version_in(releases: &Path, slot: Slot) -> Option<Version> {
    fs::read_to_string(releases.join(slot.name()).join(RELEASE)).ok()?.trim_end().parse().ok()
}

/// Puts a program into a slot, whatever was there, and its version last.
pub fn unpack(releases: &Path, slot: Slot, file: &Path, version: Version) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = releases.join(slot.name());
    fs::create_dir_all(&folder)?;
    remove(&folder.join(RELEASE))?;
    sync_directory(&folder)?;
    let new = folder.join(format!("{PROGRAM}.new"));
    fs::copy(file, &new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, folder.join(PROGRAM))?;
    sync_directory(&folder)?;
    crash::point("update-unpacked");
    replace(&folder, RELEASE, format!("{version}\n").as_bytes())?;
    sync_directory(releases)
}

/// Removes a file that may not be there.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_directory(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
