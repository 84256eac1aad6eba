//! Configurations that came from afar, on disk, and which one a box runs.
//!
//! ```text
//! config/<rev>/document         the document as it was signed
//! config/<rev>/base             digest of the box's own file, in whose place it runs
//! config/<rev>/afferent.toml    the text, and the files beside it
//! config/last_good -> <rev>     the revision that was confirmed last
//! ```
//!
//! The box's own file, which `afferent run --config` names, stands above all: where it was edited since, whoever did that
//! stood at the bench, and what they wrote runs from the next start on. The edit is told as drift, also after that start,
//! and the desk has to say that it knows it before another revision runs.
//!
//! A revision is written aside, synced and renamed, so that it is there whole or not at all, and so is the pointer. Where
//! what the pointer names is not what the ledger has, or is damaged, the one that was good before it runs.

use super::ledger;
use super::machine::{self, Phase};
use super::{Desired, TEXT_FILE, Why, tried};
use crate::config::load::{self, LoadError, Loaded};
use crate::config::{Config, Origin};
use crate::fleet::store::Store;
use crate::fleet::telemetry::Digest;
use crate::journal::crash;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the data directory.
const FOLDER: &str = "config";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FOLDER];
const DOCUMENT: &str = "document";
const BASE: &str = "base";
const LAST_GOOD: &str = "last_good";
/// What is being written, and what is being checked, has such a name until then.
const ASIDE: &str = "new";
const CHECKED: &str = "check";
/// Names beside the files of a document that are not theirs.
pub(super) const OURS: [&str; 3] = [DOCUMENT, BASE, TEXT_FILE];
/// Revisions kept on disk besides the last good one and the newest.
const KEPT: usize = 2;

/// A revision that cannot be run as it lies there.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It cannot be read or written.
    #[error("{}: {source}", file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What lies there is not what was signed.
    #[error("{} is not what the desk signed: somebody changed it, or the disk did", .0.display())]
    Damaged(PathBuf),
    /// Another one would take the place of the last good one.
    #[error("{} is the last good revision, and another one has its number", .0.display())]
    Good(PathBuf),
    /// The text is wrong, for this version of the program.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A revision that was read from disk.
pub struct Revision {
    /// Ready to run.
    pub loaded: Loaded,
    /// Digest of its document.
    pub digest: Digest,
}

fn folder(data: &Path, rev: u64) -> PathBuf {
    data.join(FOLDER).join(rev.to_string())
}

/// Writes a revision. When this returns it is on disk, whole.
///
/// # Errors
/// [`TreeError::Disk`]; what was there before is there still.
pub fn write(data: &Path, desired: &Desired, document: &[u8], base: Digest) -> Result<(), TreeError> {
    write_on(data, desired, document, &base.to_string())
}

fn write_on(data: &Path, desired: &Desired, document: &[u8], base: &str) -> Result<(), TreeError> {
    let place = folder(data, desired.rev);
    if last_good(data) == Some(desired.rev) {
        // What runs at the next start is not taken away for a moment.
        let is_there = std::fs::read(place.join(DOCUMENT)).is_ok_and(|there| there == document);
        return if is_there { Ok(()) } else { Err(TreeError::Good(place)) };
    }
    let aside = place.with_extension(ASIDE);
    let files = desired.files.iter().map(|(path, file)| (path.as_str(), file.text.as_bytes()));
    let ours = [(DOCUMENT, document), (BASE, base.as_bytes()), (TEXT_FILE, desired.config.as_bytes())];
    remove(&aside)?;
    for (path, content) in files.chain(ours) {
        let file = aside.join(path);
        let write = || {
            if let Some(parent) = file.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
            open.write_all(content)?;
            open.sync_all()
        };
        write().map_err(at(&file))?;
        crash::point("fleet-config-file");
    }
    sync_folders(&aside)?;
    remove(&place)?;
    std::fs::rename(&aside, &place).map_err(at(&place))?;
    crash::point("fleet-config-renamed");
    sync(&data.join(FOLDER))?;
    sync(data)
}

/// Removes what a crash left of revisions that were being written or checked. Nobody else may be at it.
pub fn clear(data: &Path) {
    for entry in std::fs::read_dir(data.join(FOLDER)).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == ASIDE || end == CHECKED) {
            // A pointer that was being written is a file. What stays is in nobody's way.
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}

/// Makes a revision the last good one.
///
/// # Errors
/// [`TreeError::Disk`]; the one before is it still.
pub fn confirm(data: &Path, rev: u64) -> Result<(), TreeError> {
    let pointer = data.join(FOLDER).join(LAST_GOOD);
    let aside = pointer.with_extension(ASIDE);
    let _ = std::fs::remove_file(&aside);
    std::os::unix::fs::symlink(rev.to_string(), &aside).map_err(at(&aside))?;
    std::fs::rename(&aside, &pointer).map_err(at(&pointer))?;
    sync(&data.join(FOLDER))?;
    Ok(())
}

/// The revision that was confirmed last.
pub fn last_good(data: &Path) -> Option<u64> {
    let rev: u64 = std::fs::read_link(data.join(FOLDER).join(LAST_GOOD)).ok()?.to_str()?.parse().ok()?;
    Some(rev).filter(|rev| i64::try_from(*rev).is_ok())
}

/// The last good revision and the digest of its document as it lies there; of nothing where that cannot be read.
pub(super) fn last_good_document(data: &Path) -> Option<(u64, Digest)> {
    let rev = last_good(data)?;
    Some((rev, Digest::of(&std::fs::read(folder(data, rev).join(DOCUMENT)).unwrap_or_default())))
}

/// The last good revision, to be kept elsewhere.
pub struct Kept {
    /// Where it lies.
    pub folder: PathBuf,
    /// The document, as it was signed.
    pub document: Vec<u8>,
    /// What that says.
    pub desired: Desired,
    /// Digest of the box's own file, in whose place it runs.
    pub base: String,
}

/// The last good revision; none where there is none that is whole.
pub fn kept(data: &Path) -> Option<Kept> {
    let folder = folder(data, last_good(data)?);
    let document = std::fs::read(folder.join(DOCUMENT)).ok()?;
    let (desired, base) = (super::read_bytes(&document).ok()?, std::fs::read_to_string(folder.join(BASE)).ok()?);
    Some(Kept { folder, document, desired, base })
}

/// Puts what was kept in the place of what is here, to run in the place of a file with this digest.
///
/// # Errors
/// [`TreeError`].
pub fn take_over(data: &Path, document: &[u8], base: &str) -> Result<(), TreeError> {
    let desired = super::read_bytes(document).map_err(|_| TreeError::Damaged(data.join(FOLDER)))?;
    write_on(data, &desired, document, base)?;
    confirm(data, desired.rev)
}

/// Removes what is older than `last`, the last good one, but for those that were `good` just before it. Leaving them costs
/// only room.
pub fn forget(data: &Path, last: u64, good: &BTreeSet<u64>) {
    let kept: BTreeSet<u64> = good.range(..last).rev().take(KEPT).copied().collect();
    let listed = std::fs::read_dir(data.join(FOLDER)).into_iter().flatten().filter_map(Result::ok);
    let mut older: Vec<u64> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    older.retain(|rev| *rev < last && !kept.contains(rev));
    for rev in older {
        let _ = std::fs::remove_dir_all(folder(data, rev));
    }
}

/// Reads a revision, to run in the place of `own`, the box's own file.
///
/// # Errors
/// [`TreeError`].
pub fn read(data: &Path, rev: u64, own: &Config) -> Result<Revision, TreeError> {
    let place = folder(data, rev);
    let bytes = |name: &str| std::fs::read(place.join(name)).map_err(at(&place.join(name)));
    let document = bytes(DOCUMENT)?;
    let desired = super::read_bytes(&document).map_err(|_| TreeError::Damaged(place.join(DOCUMENT)))?;
    let files = desired.files.iter().map(|(path, file)| (path.as_str(), file.text.as_bytes()));
    for (path, content) in files.chain([(TEXT_FILE, desired.config.as_bytes())]) {
        if bytes(path)? != content {
            return Err(TreeError::Damaged(place.join(path)));
        }
    }
    let loaded = check(&desired, &place, own)?;
    Ok(Revision { loaded, digest: Digest::of(&document) })
}

/// Checks a document whose files lie in this folder.
///
/// # Errors
/// [`LoadError`].
pub fn check(desired: &Desired, folder: &Path, own: &Config) -> Result<Loaded, LoadError> {
    let name = format!("revision {}", desired.rev);
    load::parse_for(&name, &desired.config, folder, own)
}

/// The files of a document in a folder of their own, where they can be checked. It goes with this.
pub struct Aside(PathBuf);

impl Aside {
    /// Lays them out.
    ///
    /// # Errors
    /// [`TreeError::Disk`].
    pub fn new(data: &Path, desired: &Desired) -> Result<Aside, TreeError> {
        let aside = Aside(folder(data, desired.rev).with_extension(CHECKED));
        remove(&aside.0)?;
        for (path, file) in &desired.files {
            let place = aside.0.join(path);
            let write = || {
                std::fs::create_dir_all(place.parent().unwrap_or(&aside.0))?;
                std::fs::write(&place, &file.text)
            };
            write().map_err(at(&place))?;
        }
        Ok(aside)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Digest of the box's own file in whose place this revision runs; none where it cannot be read.
fn base_of(data: &Path, rev: u64) -> Option<String> {
    let text = std::fs::read_to_string(folder(data, rev).join(BASE)).ok()?;
    // Half of one is none: the file was not edited because of that.
    let is_whole = text.trim().len() == Digest::of(b"").to_string().len();
    is_whole.then(|| text.trim().to_string())
}

/// True when this revision runs in the place of a file with this digest.
fn replaces(data: &Path, rev: u64, base: Digest) -> bool {
    base_of(data, rev) == Some(base.to_string())
}

/// What the desk knows of the box's own file: its digest when the last good revision took its place. Where there is none,
/// the file itself runs, and what is known of it is how it was read.
pub(super) fn base(data: &Path, origin: &Origin) -> Option<String> {
    match last_good(data) {
        Some(rev) => base_of(data, rev),
        None => Some(Digest::stored(origin.digest).to_string()),
    }
}

/// The configuration that a box with this file runs, as far as the disk tells: the last good revision, or the file itself
/// where there is none or the file was edited since. For commands beside the gateway.
///
/// # Errors
/// The file's own faults.
pub fn load(file: &Path) -> Result<Loaded, LoadError> {
    let own = own(file)?;
    let origin = origin(file, &own.config);
    let data = own.config.gateway.data.clone();
    Ok(good(&data, &origin).unwrap_or(own))
}

/// The configuration to start the gateway with. A revision in its trial is counted a start, and reverted at the second.
///
/// # Errors
/// The file's own faults.
pub fn start(file: &Path) -> Result<Loaded, LoadError> {
    let own = own(file)?;
    let origin = origin(file, &own.config);
    let data = own.config.gateway.data.clone();
    let tried = match own.config.fleet.is_some() && data.is_dir() {
        true => trial(&data, &origin).unwrap_or_else(|why| {
            tracing::error!(
                event = "config-trouble",
                "what the desk wants cannot be told: {why}; the last good configuration runs"
            );
            None
        }),
        false => None,
    };
    if let Some(loaded) = tried.or_else(|| good(&data, &origin)) {
        return Ok(loaded);
    }
    let mut own = own;
    own.config.origin = Some(origin);
    Ok(own)
}

fn own(file: &Path) -> Result<Loaded, LoadError> {
    let loaded = load::load(file)?;
    Ok(loaded)
}

fn origin(file: &Path, own: &Config) -> Arc<Origin> {
    let digest = load::source_digest(file).map_or(Digest::of(b""), Digest::stored);
    Arc::new(Origin { file: file.to_path_buf(), digest: *digest.bytes(), own: own.clone(), adopted: None })
}

/// A configuration as it runs in the place of the box's own.
pub(super) fn adopted(loaded: Loaded, origin: &Origin, rev: u64, digest: Digest) -> Loaded {
    let mut loaded = loaded;
    loaded.config.origin = Some(Arc::new(Origin { adopted: Some((rev, *digest.bytes())), ..origin.clone() }));
    loaded
}

/// This revision as it lies there, to run in the place of the box's own file.
///
/// # Errors
/// [`TreeError`].
pub(super) fn revision(data: &Path, origin: &Origin, rev: u64) -> Result<Loaded, TreeError> {
    read(data, rev, &origin.own).map(|revision| adopted(revision.loaded, origin, rev, revision.digest))
}

/// The last good revision, where it runs in the place of the file as that is. One that is damaged, or is not the one that
/// the ledger has, is passed over for the one that was good before it.
pub(super) fn good(data: &Path, origin: &Origin) -> Option<Loaded> {
    let own = Digest::stored(origin.digest);
    let ledger = Store::peek(data).and_then(|mut store| store.change(ledger::all).ok()).unwrap_or_default();
    let noted = |rev: u64| ledger.iter().find(|entry| entry.rev == rev);
    let committed = |entry: &&ledger::Entry| entry.phase == Phase::Committed;
    let mut revs: BTreeSet<u64> = ledger.iter().filter(committed).map(|entry| entry.rev).collect();
    // One that the ledger says was gone back from does not run because the disk failed before the pointer was written.
    let was_left = |rev: &u64| noted(*rev).is_some_and(|entry| matches!(entry.phase, Phase::Reverted | Phase::Refused));
    let pointer = last_good(data).filter(|rev| !was_left(rev));
    let newest = pointer.max(revs.last().copied())?;
    if !replaces(data, newest, own) && base_of(data, newest).is_some() {
        tracing::warn!(
            rev = newest,
            "the configuration file was edited on the box; it runs in place of what the desk sent"
        );
        return None;
    }
    revs.extend(pointer);
    for rev in revs.into_iter().rev() {
        let read = match read(data, rev, &origin.own) {
            Ok(revision) if noted(rev).is_some_and(|entry| entry.digest != revision.digest) => {
                Err(TreeError::Damaged(folder(data, rev)))
            }
            Ok(_) if !replaces(data, rev, own) => Err(TreeError::Damaged(folder(data, rev).join(BASE))),
            read => read,
        };
        match read {
            Ok(revision) => return Some(adopted(revision.loaded, origin, rev, revision.digest)),
            Err(why) => tracing::error!(
                event = "config-reverted",
                rev,
                "what the desk sent cannot run: {why}; what was good before it runs"
            ),
        }
    }
    tracing::error!(event = "config-reverted", "nothing that the desk sent can run; the box's own file runs");
    None
}

/// The revision in its trial, if there is one that may be started with once more.
fn trial(data: &Path, origin: &Origin) -> Result<Option<Loaded>, crate::fleet::store::StoreError> {
    let mut store = Store::open(data)?;
    let Some(row) = store.change(ledger::in_trial)? else { return Ok(None) };
    if last_good(data) == Some(row.rev) {
        return Ok(None);
    }
    match may_run(data, origin, &row) {
        Ok((boots, wanted)) => {
            store.change(|tx| ledger::count_boot(tx, row.rev, boots))?;
            crash::point("fleet-config-boot");
            tracing::warn!(rev = row.rev, boots, "the configuration in its trial runs");
            let previous = good(data, origin).map_or_else(|| origin.own.clone(), |loaded| loaded.config);
            let tried = tried::in_trial(&previous, &Arc::new(wanted.config));
            Ok(Some(Loaded { config: tried, ..wanted }))
        }
        Err(why) => {
            crash::point("fleet-config-boot-reverted");
            tracing::error!(
                event = "config-reverted",
                rev = row.rev,
                "the configuration in its trial is reverted: {why}"
            );
            Ok(None)
        }
    }
}

/// The revision in its trial and the count of this start, if it may be started with once more. The note that it may not is
/// made, and told, once the fleet is up.
pub(super) fn may_run(data: &Path, origin: &Origin, row: &ledger::Entry) -> Result<(u32, Loaded), Why> {
    let boots = machine::start(row.boots).ok_or(Why::NeverConfirmed)?;
    if !replaces(data, row.rev, Digest::stored(origin.digest)) {
        return Err(Why::Drift);
    }
    let wanted = revision(data, origin, row.rev).map_err(|why| {
        tracing::error!(event = "config-reverted", rev = row.rev, "the configuration in its trial cannot run: {why}");
        Why::Disk
    })?;
    Ok((boots, wanted))
}

fn at(file: &Path) -> impl Fn(std::io::Error) -> TreeError + use<'_> {
    move |source| TreeError::Disk { file: file.to_path_buf(), source }
}

fn remove(folder: &Path) -> Result<(), TreeError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<(), TreeError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(at(folder))
}

fn sync_folders(folder: &Path) -> Result<(), TreeError> {
    for entry in std::fs::read_dir(folder).map_err(at(folder))?.filter_map(Result::ok) {
        if entry.path().is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync(folder)
}

#[cfg(test)]
mod tests {
    use super::super::{File as Part, write as document};
    use super::*;
    use crate::fleet::telemetry::{At, Stamp};
    use std::collections::BTreeMap;

    const LINK: &str = "[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:4001\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n";

    fn desired(rev: u64) -> Desired {
        let rules = "[[rule]]\nname = \"flags\"\nkind = \"flag\"\nflags = [\"HH\"]\n".to_string();
        Desired {
            v: 1,
            tenant: "acme".to_string(),
            gateway: "bench-1".to_string(),
            rev,
            config: format!("[gateway]\nrules = \"rules.toml\"\n{LINK}"),
            files: BTreeMap::from([("rules.toml".to_string(), Part::of(rules))]),
            replaces: None,
        }
    }

    fn box_of(dir: &Path) -> (PathBuf, PathBuf) {
        let (file, data) = (dir.join("box.toml"), dir.join("data"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(&file, format!("[gateway]\ndata = {data:?}\n{LINK}")).unwrap();
        (file, data)
    }

    fn base(file: &Path) -> Digest {
        Digest::stored(origin(file, &own(file).unwrap().config).digest)
    }

    fn runs(file: &Path) -> Option<u64> {
        load(file).unwrap().config.origin.and_then(|origin| origin.adopted).map(|(rev, _)| rev)
    }

    #[test]
    fn the_last_good_revision_runs_until_the_file_is_edited() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        assert_eq!(runs(&file), None);
        write(&data, &desired(1), &document(&desired(1)), base(&file)).unwrap();
        assert_eq!(runs(&file), None, "it is there, and nobody has confirmed it");
        confirm(&data, 1).unwrap();
        assert_eq!(runs(&file), Some(1));
        let config = load(&file).unwrap().config;
        assert_eq!(
            (config.rules.len(), config.gateway.data),
            (1, data.clone()),
            "the files beside it, the box's own data"
        );
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{before}# by hand\n")).unwrap();
        assert_eq!(runs(&file), None, "whoever stands at the bench has the last word");
        std::fs::write(&file, before).unwrap();
        assert_eq!(runs(&file), Some(1));
        for name in ["rules.toml", TEXT_FILE, DOCUMENT] {
            let place = folder(&data, 1).join(name);
            let whole = std::fs::read(&place).unwrap();
            std::fs::write(&place, [&whole[..], b"#"].concat()).unwrap();
            assert!(
                name == DOCUMENT || matches!(read(&data, 1, &own(&file).unwrap().config), Err(TreeError::Damaged(_)))
            );
            std::fs::write(&place, whole).unwrap();
        }
    }

    #[test]
    fn old_revisions_are_forgotten_and_the_last_good_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        let mut good = BTreeSet::new();
        for rev in 1..=9 {
            write(&data, &desired(rev), &document(&desired(rev)), base(&file)).unwrap();
            // The sixth and seventh were taken back.
            if ![6, 7, 9].contains(&rev) {
                confirm(&data, rev).unwrap();
                good.insert(rev);
                forget(&data, rev, &good);
            }
        }
        let mut left: Vec<u64> = std::fs::read_dir(data.join(FOLDER))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .collect();
        left.sort_unstable();
        assert_eq!((left, last_good(&data)), (vec![4, 5, 8, 9], Some(8)));
    }

    /// Revisions that were committed one after the other, as the ledger and the disk have them.
    fn committed(file: &Path, data: &Path, revs: &[u64]) {
        let mut store = Store::open(data).unwrap();
        let stamp = Stamp { at: At::of_ms(1), clock: crate::clock::Quality::Trusted };
        for rev in revs {
            let bytes = document(&desired(*rev));
            store.change(|tx| ledger::offer(tx, *rev, Digest::of(&bytes), &bytes, stamp)).unwrap();
            write(data, &desired(*rev), &bytes, base(file)).unwrap();
            confirm(data, *rev).unwrap();
            store.change(|tx| ledger::set(tx, *rev, Phase::Committed, None)).unwrap();
        }
    }

    #[test]
    fn a_damaged_or_changed_revision_gives_way_to_the_one_that_was_good_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        committed(&file, &data, &[1, 2]);
        assert_eq!(runs(&file), Some(2));
        let place = folder(&data, 2).join(TEXT_FILE);
        let whole = std::fs::read(&place).unwrap();
        std::fs::write(&place, "").unwrap();
        assert_eq!(runs(&file), Some(1), "not the file that was there before there was a desk");
        std::fs::write(&place, whole).unwrap();
        // A whole one, that is not the one which was confirmed.
        let other = Desired { config: LINK.to_string(), ..desired(2) };
        std::fs::write(folder(&data, 2).join(DOCUMENT), document(&other)).unwrap();
        std::fs::write(&place, LINK).unwrap();
        assert_eq!(runs(&file), Some(1));
        // A pointer that went back does not bring an old one back.
        committed(&file, &data, &[3]);
        let pointer = data.join(FOLDER).join(LAST_GOOD);
        std::fs::remove_file(&pointer).unwrap();
        std::os::unix::fs::symlink("1", &pointer).unwrap();
        assert_eq!(runs(&file), Some(3));
        std::fs::write(&file, format!("{}#", std::fs::read_to_string(&file).unwrap())).unwrap();
        assert_eq!(runs(&file), None, "an edit at the bench goes before all of them");
    }

    #[test]
    fn what_a_crash_left_half_written_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        committed(&file, &data, &[1]);
        std::fs::create_dir_all(data.join("config/2.new/sub")).unwrap();
        std::fs::create_dir_all(data.join("config/3.check")).unwrap();
        std::fs::write(data.join("config/3.check/rules.toml"), "half").unwrap();
        std::os::unix::fs::symlink("1", data.join("config/last_good.new")).unwrap();
        clear(&data);
        let names = std::fs::read_dir(data.join(FOLDER)).unwrap().map(|entry| entry.unwrap().file_name());
        let names: BTreeSet<String> = names.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(names, ["1", "last_good"].map(str::to_string).into());
        assert_eq!(runs(&file), Some(1));
    }

    #[test]
    fn the_last_good_revision_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        committed(&file, &data, &[1]);
        let other = Desired { config: LINK.to_string(), ..desired(1) };
        let taken = write(&data, &other, &document(&other), base(&file));
        assert!(matches!(taken, Err(TreeError::Good(_))), "{taken:?}");
        write(&data, &desired(1), &document(&desired(1)), base(&file)).unwrap();
        assert_eq!(runs(&file), Some(1));
    }

    #[test]
    fn an_edit_that_a_start_took_over_is_still_not_what_the_desk_knows() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = box_of(dir.path());
        let known = |file: &Path| super::base(&data, &origin(file, &own(file).unwrap().config));
        assert_eq!(known(&file), Some(base(&file).to_string()), "it runs, and nothing else did");
        committed(&file, &data, &[1]);
        let before = base(&file).to_string();
        std::fs::write(&file, format!("{}#", std::fs::read_to_string(&file).unwrap())).unwrap();
        assert_eq!(known(&file), Some(before));
    }
}
