//! Links on a folder in which an instrument leaves files, often a share of a Windows computer that is mounted here.
//!
//! The folder is listed at an interval: shares tell nobody what changes. What is done with a file, in this order:
//!
//! 1. It is **stable**: size and time of change have stayed for a while, its name is none the instrument only writes
//!    under, and its trigger file is there when the instrument makes one.
//! 2. Its bytes are read, and are the size they were.
//! 3. **Custody**: the journal commits them as one entry. A full disk leaves the file where it is.
//! 4. Only then it is moved to the archive, deleted or left, as the link says.
//!
//! A crash between any two of them loses nothing and doubles nothing: the file is found again, and the journal knows
//! name and bytes (invariant I4). What has to be durable beside the entry is what is known of files that stay where they
//! are (`memory.rs`): that outlives the journal's entries. Files that grow are read in pieces (`growing.rs`). A file that
//! cannot be taken at all (too large) goes to the folder for refused ones, with the reason beside it. Names are never
//! logged: instruments put patients into them (invariant I8).
//!
//! All of it runs on one thread of its own: a share that hangs holds up nothing else, not even the end of the process.

mod claim;
mod growing;
mod look;
pub(crate) mod memory;

pub use look::{Look, look};

use self::claim::Claim;
use self::memory::{Known, Memory};
use super::Shell;
use crate::journal::crash;
use crate::wire::{Event, Persist, Refusal, Token};
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, ReadDir};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Names looked at in one round; a larger folder takes several.
const NAMES_PER_ROUND: usize = 2_000;
/// Names remembered of one folder; with more in it, some wait until others are gone.
const NAMES_MAX: usize = 200_000;
/// How long the thread may take to end; a share that hangs is left to itself.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A file is watched so long after it was archived: a writer may still have it open.
const WATCHED_FOR: Duration = Duration::from_secs(120);
/// Files watched at once.
const WATCHED_MAX: usize = 64;
/// Numbers tried for a name that is taken in the archive.
const COLLISIONS_MAX: u32 = 100_000;
/// What the name of a file ends in that says why another one was refused.
const REASON_ENDING: &str = ".reason.txt";
/// What is said when the memory is full.
const FULL: &str =
    "more files are remembered of the folder than fit: those gone longest are forgotten, new ones may wait";
/// Largest `size_max_kb`: what one entry of the journal may hold.
pub const SIZE_MAX_KB: u32 = 16 * 1024;

/// How files are taken from a link's `directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Names of the files to take; `*` stands for anything, upper or lower case does not matter.
    pub take: Vec<String>,
    /// Names to leave alone, such as those under which the instrument is still writing.
    pub ignore: Vec<String>,
    /// A file is taken once size and time of change have stayed the same for so long, in milliseconds. One that grows is
    /// begun then, or after twenty times so long.
    pub stable_ms: u64,
    /// Pause between two looks at the folder, in milliseconds.
    pub poll_ms: u64,
    /// Ending of the empty file the instrument makes when `result.csv` is done: with ".ok" it is `result.csv.ok` or
    /// `result.ok`. Left out, there is none.
    pub trigger: Option<String>,
    /// What becomes of a file once the journal has it: "archive" moves it, "delete" deletes it, "leave" leaves it (for
    /// shares that can only be read; the instrument then has to clean up).
    pub then: Then,
    /// The instrument appends to its files: each complete new line is taken once, and the files stay (`then` and
    /// `trigger` mean nothing).
    pub grows: bool,
    /// Lines at the top of a growing file that are put before what is new, so that it can be read by itself: the names of
    /// the columns.
    pub header_lines: u32,
    /// Folder for files that were taken; a relative one is inside `directory`. It must be on the same share.
    pub archive: PathBuf,
    /// Folder for files that cannot be taken, each with its reason beside it; a relative one is inside `directory`.
    pub refused: PathBuf,
    /// Largest file taken, in KiB, at most 16384; a larger one is refused.
    pub size_max_kb: u32,
}

/// What becomes of a file the journal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Moved to the archive.
    Archive,
    /// Deleted.
    Delete,
    /// Left where it is.
    Leave,
}

impl Default for Files {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Files {
            take: names(&["*"]),
            ignore: names(&["*.tmp", "*.temp", "*.part", "*.partial", "*.lock", "~*", ".*"]),
            stable_ms: 3_000,
            poll_ms: 2_000,
            trigger: None,
            then: Then::Archive,
            grows: false,
            header_lines: 1,
            archive: "archive".into(),
            refused: "refused".into(),
            size_max_kb: SIZE_MAX_KB,
        }
    }
}

impl Files {
    /// True for a name the link takes.
    pub fn takes(&self, name: &OsStr) -> bool {
        let name = name.to_string_lossy().to_lowercase();
        let fits = |pattern: &String| crate::driver::identify::wildcard(&pattern.to_lowercase(), &name);
        let is_trigger = self.trigger.as_ref().is_some_and(|ending| name.ends_with(&ending.to_lowercase()));
        self.take.iter().any(fits) && !self.ignore.iter().any(fits) && !is_trigger
    }

    fn size_max(&self) -> u64 {
        u64::from(self.size_max_kb.min(SIZE_MAX_KB)) * 1024
    }
}

/// Serves the folder until the gateway stops.
pub async fn serve(shell: Arc<Shell>, directory: PathBuf) {
    let mut shutdown = shell.shutdown.clone();
    let (stop, stopped) = channel();
    let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
    let runtime = tokio::runtime::Handle::current();
    let of_thread = shell.clone();
    let thread = std::thread::Builder::new().name("directory".to_string()).spawn(move || {
        if let Some(claim) = claimed(&of_thread, &directory, &stopped) {
            if let Some(memory) = remembered(&of_thread, &stopped) {
                Folder::new(of_thread, directory, runtime, memory).run(&stopped);
            }
            drop(claim);
        }
        drop(ended);
    });
    if let Err(error) = thread {
        shell.counters.trouble("no thread for the folder", &error);
        return;
    }
    super::stopped(&mut shutdown).await;
    drop(stop);
    if tokio::time::timeout(STOP_GRACE, &mut end).await.is_err() {
        shell.counters.trouble("the folder does not answer", &"it is left to itself");
    }
}

/// The folder for this thread alone. While an earlier one has not ended, nothing is taken: files would be taken twice.
fn claimed(shell: &Shell, directory: &Path, stop: &Receiver<()>) -> Option<Claim> {
    const WHY: &str = "the reader before this one hangs on its share, and nothing is taken: get the share back, or restart \
                       the gateway";
    let mut backoff = shell.backoff();
    loop {
        if let Some(claim) = Claim::take(directory, shell.custodian.data(), &shell.config.name) {
            return Some(claim);
        }
        shell.counters.down(WHY, &"it has not ended");
        if !matches!(stop.recv_timeout(backoff.failed()), Err(RecvTimeoutError::Timeout)) {
            return None;
        }
    }
}

/// What is known of the folder from before. While that cannot be read, nothing is taken: files would be taken twice.
fn remembered(shell: &Shell, stop: &Receiver<()>) -> Option<Memory> {
    const WHY: &str = "what is known of the folder cannot be read and nothing is taken: restore the file (without it, files \
                       that were left or grow are taken again)";
    let mut backoff = shell.backoff();
    loop {
        match Memory::open(shell.custodian.data(), &shell.config.name) {
            Ok(memory) => return Some(memory),
            Err(error) => shell.counters.down(WHY, &error),
        }
        if !matches!(stop.recv_timeout(backoff.failed()), Err(RecvTimeoutError::Timeout)) {
            return None;
        }
    }
}

/// What is known of one file.
#[derive(Debug, Clone, Copy)]
struct Seen {
    stamp: Stamp,
    /// When it was first seen, and in which listing.
    first: (Instant, u64),
    /// That it waits was told.
    told: bool,
    /// Since when it is like this.
    since: Instant,
    /// The journal has it, or it was refused: only its way out is left.
    done: Option<Done>,
    /// The listing in which it was last there.
    listing: u64,
}

impl Seen {
    fn now(stamp: Stamp, listing: u64) -> Self {
        let now = Instant::now();
        Seen { stamp, first: (now, listing), told: false, since: now, done: None, listing }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Taken,
    Refused(&'static str),
}

/// What tells that a file is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Stamp { size: file.len(), changed: (file.mtime(), file.mtime_nsec()) }
    }
}

struct Watched {
    name: OsString,
    archived: PathBuf,
    stamp: Stamp,
    until: Instant,
}

struct Folder {
    shell: Arc<Shell>,
    path: PathBuf,
    files: Files,
    runtime: tokio::runtime::Handle,
    connection: u64,
    session: u64,
    /// The listing that is under way, and its number.
    listing: Option<ReadDir>,
    listings: u64,
    seen: HashMap<OsString, Seen>,
    watched: Vec<Watched>,
    memory: Memory,
}

impl Folder {
    fn new(shell: Arc<Shell>, path: PathBuf, runtime: tokio::runtime::Handle, memory: Memory) -> Self {
        Folder {
            memory,
            files: shell.config.files.clone(),
            connection: shell.next_connection(),
            shell,
            path,
            runtime,
            session: 0,
            listing: None,
            listings: 0,
            seen: HashMap::new(),
            watched: Vec::new(),
        }
    }

    fn run(mut self, stop: &Receiver<()>) {
        let mut backoff = self.shell.backoff();
        loop {
            let pause = match self.round(stop) {
                Ok(()) => {
                    backoff.succeeded();
                    self.shell.counters.up("the folder can be read");
                    Duration::from_millis(self.files.poll_ms)
                }
                Err(error) => {
                    // What was seen before is not to be trusted: the share may come back with other files.
                    self.listing = None;
                    self.seen.retain(|_, seen| seen.done.is_some());
                    self.shell.counters.down("the folder cannot be read", &error);
                    backoff.failed()
                }
            };
            match stop.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks at the next names and takes what is ready, oldest first.
    fn round(&mut self, stop: &Receiver<()>) -> io::Result<()> {
        self.look_back();
        let mut ready: Vec<(Stamp, OsString)> = Vec::new();
        for name in self.names()? {
            let Some(stamp) = self.stamp_of(&name) else { continue };
            let is_ready = match self.files.grows {
                // A known one that is empty is another one now.
                true => stamp.size > 0 || self.memory.of(&name).is_some(),
                false => self.is_ready(&name, stamp),
            };
            if is_ready {
                ready.push((stamp, name));
            }
        }
        ready.sort_by(|(a, a_name), (b, b_name)| (a.changed, a_name).cmp(&(b.changed, b_name)));
        if self.files.grows {
            // Known names first: what has gone from under one of them may be found again under another.
            ready.sort_by_key(|(_, name)| self.memory.of(name).is_none());
        }
        for (stamp, name) in ready {
            if !matches!(stop.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                break;
            }
            let goes_on = match self.files.grows {
                true => self.grow(&name, stamp),
                false => self.settle(&name, stamp),
            };
            if !goes_on {
                break;
            }
        }
        if let Err(error) = self.memory.save() {
            self.shell.counters.trouble("what is known of the folder cannot be written", &error);
        }
        Ok(())
    }

    /// The next names of the listing; at its end, what has gone is forgotten.
    fn names(&mut self) -> io::Result<Vec<OsString>> {
        let listing = match &mut self.listing {
            Some(listing) => listing,
            none => {
                self.listings += 1;
                self.memory.list();
                none.insert(std::fs::read_dir(&self.path)?)
            }
        };
        let (mut names, mut complete) = (Vec::new(), false);
        for _ in 0..NAMES_PER_ROUND {
            let Some(entry) = listing.next() else {
                complete = true;
                break;
            };
            let name = entry?.file_name();
            if self.files.takes(&name) {
                names.push(name);
            }
        }
        for name in &names {
            self.memory.listed(name);
            if let Some(seen) = self.seen.get_mut(name) {
                seen.listing = self.listings;
            }
        }
        if complete {
            self.listing = None;
            let current = self.listings;
            self.seen.retain(|_, seen| seen.listing >= current);
            if self.memory.end_listing(jiff::Timestamp::now().as_second()) {
                self.shell.counters.trouble(FULL, &"clear the folder up, or give the instrument another one");
            }
        }
        Ok(names)
    }

    /// Size and time of a regular file; anything else is none of ours.
    fn stamp_of(&self, name: &OsStr) -> Option<Stamp> {
        let found = std::fs::symlink_metadata(self.path.join(name)).ok()?;
        found.is_file().then(|| Stamp::of(&found))
    }

    /// Notes how the file is now; true when something is to be done with it.
    fn is_ready(&mut self, name: &OsStr, stamp: Stamp) -> bool {
        let leaves = self.files.then == Then::Leave;
        let remembered = !leaves || self.memory.of(name).is_some() || self.memory.has_room();
        let room = self.seen.len() < NAMES_MAX && remembered;
        match self.seen.get_mut(name) {
            Some(seen) if seen.stamp == stamp => {
                let left = seen.done.is_some() && leaves;
                let stable = seen.since.elapsed() >= Duration::from_millis(self.files.stable_ms);
                stable && remembered && !left && stamp.size > 0 && self.is_triggered(name)
            }
            Some(seen) => {
                if seen.done.is_some() {
                    self.shell.counters.event(&Event::Odd("a file changed after it was taken: it is taken again"));
                }
                *seen = Seen::now(stamp, self.listings);
                false
            }
            None if room => {
                let was_taken = |known: &&Known| known.size == stamp.size && known.changed == stamp.changed;
                let done = self.memory.of(name).filter(|_| leaves).filter(was_taken).map(|_| Done::Taken);
                self.seen.insert(name.to_os_string(), Seen { done, ..Seen::now(stamp, self.listings) });
                false
            }
            None => {
                self.no_room();
                false
            }
        }
    }

    fn no_room(&self) {
        self.shell.counters.event(&Event::Odd("more files in the folder than are remembered: some wait"));
    }

    fn is_triggered(&self, name: &OsStr) -> bool {
        self.files.trigger.is_none() || self.triggers(name).iter().any(|path| path.exists())
    }

    /// Where the trigger of a file may be.
    fn triggers(&self, name: &OsStr) -> Vec<PathBuf> {
        let Some(ending) = &self.files.trigger else { return Vec::new() };
        let stem = Path::new(name).file_stem().unwrap_or(name);
        let with_ending = |name: &OsStr| {
            let mut name = name.to_os_string();
            name.push(ending);
            self.path.join(name)
        };
        vec![with_ending(name), with_ending(stem)]
    }

    /// Takes the file unless that is done, and sees it out. False when nothing more can be taken for now.
    fn settle(&mut self, name: &OsStr, stamp: Stamp) -> bool {
        let done = match self.seen.get(name).and_then(|seen| seen.done) {
            Some(done) => done,
            None if stamp.size > self.files.size_max() => self.refuse("the file is larger than size_max_kb"),
            None => match self.take(name, stamp) {
                Ok(Some(done)) => done,
                Ok(None) => return true,
                Err(refusal) => {
                    self.refused(refusal);
                    return false;
                }
            },
        };
        if let Some(seen) = self.seen.get_mut(name) {
            seen.done = Some(done);
        }
        crash::point("file-taken");
        if self.files.then == Then::Leave {
            self.memory.note(name, Known { size: stamp.size, changed: stamp.changed, ..Known::default() });
            return true;
        }
        match self.see_out(name, stamp, done) {
            Ok(()) => drop(self.seen.remove(name)),
            Err(error) => self.shell.counters.trouble("a file that was taken cannot be moved away", &error),
        }
        true
    }

    fn refused(&self, refusal: Refusal) {
        self.shell.counters.event(&Event::Refused(match refusal {
            Refusal::Full => "the journal is full: files wait in their folder",
            Refusal::Storage => "the journal cannot store: files wait in their folder",
        }));
    }

    fn refuse(&self, why: &'static str) -> Done {
        self.shell.counters.event(&Event::Refused(why));
        Done::Refused(why)
    }

    /// Reads the file and has the journal keep it. `None` when it could not be read, or changed meanwhile.
    fn take(&mut self, name: &OsStr, stamp: Stamp) -> Result<Option<Done>, Refusal> {
        let bytes = match read_whole(&self.path.join(name), stamp) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.shell.counters.trouble("a file cannot be read", &error);
                return Ok(None);
            }
        };
        self.session += 1;
        self.shell.counters.heard();
        let identity = Some(self.identity(name, &bytes));
        let part = Persist { token: Token(self.session), session: self.session, bytes, completes: true, identity };
        let kept = self.runtime.block_on(self.shell.custodian.take(&self.shell.link, self.connection, part));
        kept.map_err(|refused| refused.reason)?;
        self.shell.counters.completed();
        self.shell.counters.taps().event("a file was taken; the journal has it");
        Ok(Some(Done::Taken))
    }

    /// What makes a file the same one again: its name and its bytes. Where files are left, the name alone, so that the
    /// journal itself tells of a file that changed.
    fn identity(&self, name: &OsStr, bytes: &[u8]) -> Vec<u8> {
        let mut identity = b"file|".to_vec();
        if self.files.then != Then::Leave {
            identity.extend_from_slice(digest(&SHA256, bytes).as_ref());
            identity.push(b'|');
        }
        identity.extend_from_slice(name.as_encoded_bytes());
        identity
    }

    fn see_out(&mut self, name: &OsStr, stamp: Stamp, done: Done) -> io::Result<()> {
        let from = self.path.join(name);
        if Stamp::of(&std::fs::symlink_metadata(&from)?) != stamp {
            // It changed just now; the next round finds it as it is.
            return Ok(());
        }
        match (done, self.files.then) {
            (Done::Taken, Then::Delete) => std::fs::remove_file(&from)?,
            (Done::Taken, _) => {
                let archived = self.move_to(&self.path.join(&self.files.archive), name)?;
                // From here on it is watched: what was moved must be what was read, and stay so.
                if self.watched.len() >= WATCHED_MAX {
                    let oldest = self.watched.remove(0);
                    self.stays_watched(&oldest);
                }
                let until = Instant::now() + WATCHED_FOR;
                self.watched.push(Watched { name: name.to_os_string(), archived, stamp, until });
            }
            (Done::Refused(why), _) => {
                let refused = self.move_to(&self.path.join(&self.files.refused), name)?;
                let mut reason = refused.into_os_string();
                reason.push(REASON_ENDING);
                std::fs::write(reason, format!("{why}\n"))?;
            }
        }
        for trigger in self.triggers(name) {
            match std::fs::remove_file(trigger) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves a file into a folder under its own name, or with the first number behind it that is free.
    fn move_to(&self, folder: &Path, name: &OsStr) -> io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        for number in 1..COLLISIONS_MAX {
            let mut free = name.to_os_string();
            if number > 1 {
                free.push(format!(".{number}"));
            }
            let to = folder.join(free);
            // The gateway is the only one that moves files here, so nobody takes the name in between.
            match std::fs::symlink_metadata(&to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::fs::rename(self.path.join(name), &to)?;
                    return Ok(to);
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn look_back(&mut self) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|file| self.stays_watched(file));
        self.watched = watched;
    }

    /// A file whose writer went on after it was archived comes back into the folder and is taken again, as it is now.
    /// True while it has to be looked at again.
    fn stays_watched(&self, file: &Watched) -> bool {
        let Ok(found) = std::fs::symlink_metadata(&file.archived) else { return false };
        if Stamp::of(&found) == file.stamp {
            return Instant::now() < file.until;
        }
        self.shell.counters.event(&Event::Odd("a file changed after it was archived: it is taken again"));
        let back = self.path.join(&file.name);
        let is_free = std::fs::symlink_metadata(&back).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        // With a new file of that name in the folder it waits until that one is gone.
        !is_free || std::fs::rename(&file.archived, &back).is_err()
    }
}

/// The whole file, when it is as `stamp` says before and after.
fn read_whole(path: &Path, stamp: Stamp) -> io::Result<Option<Vec<u8>>> {
    // A name that has become a link or a pipe since it was looked at must not be followed or waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let same = |file: &File| file.metadata().map(|now| now.is_file() && Stamp::of(&now) == stamp);
    if !same(&file)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.by_ref().take(stamp.size + 1).read_to_end(&mut bytes)?;
    Ok((same(&file)? && bytes.len() as u64 == stamp.size).then_some(bytes))
}
