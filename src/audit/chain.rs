//! A chain of lines: one JSON object each, with the digest of the line before it, so that one that is changed, put in or
//! taken out later shows. Beside the file the digest of its last line is kept: lines that are missing at the end show
//! as well.
//!
//! Each line has the user id of the process that wrote it (`uid`).
//!
//! What it cannot show: the digests have no key, so whoever may write the files can make all of them anew, add a line or
//! take the whole chain away. Against that, copy lines to where they cannot write, as they come.

use crate::disk;
use crate::wire::hex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest line that is written, bytes: who, when, and a command or the digest of a document. Of a command that is longer,
/// such as the offer of a release with many roots, the texts that make it so stand there by their digests.
const LINE_MAX: usize = 64 << 10;
/// The same where a line may have to name ten thousand results.
const LINE_MAX_BOUNDED: usize = 256 << 10;
/// Of each part of a command that is too long, what has more bytes than this is noted by its digest.
const PART_MAX: usize = 4 << 10;
/// A file that is read whole to be checked holds lines no longer than this, bytes; older desks wrote longer ones than
/// [`LINE_MAX`].
const READ_MAX: u64 = 16 << 20;
/// A digest as it is kept, and a line's end.
const HEAD_MAX: u64 = 128;
/// Who writes or begins to check holds the lock for a few syncs of the disk; nobody waits longer than this for it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// More flaws than this are not listed.
const FLAWS_MAX: usize = 1000;

/// The files of a chain: the one that grows, `NAME.jsonl`, `NAME.head` with the digest of its last line, and, where it
/// is bounded, those that were full, `NAME-1.jsonl` and so on.
#[derive(Debug, Clone)]
pub struct Chain {
    folder: PathBuf,
    name: &'static str,
    bounds: Option<Bounds>,
}

/// How much of a chain is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A file that has as many bytes is full.
    pub bytes: u64,
    /// Full files that are kept; at least one. More than there were before would have the older ones missed.
    pub files: u64,
}

impl Chain {
    /// The chain of this name in a folder.
    pub fn new(folder: &Path, name: &'static str, bounds: Option<Bounds>) -> Chain {
        // A file's folder may have no name.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Chain { folder: folder.to_path_buf(), name, bounds }
    }

    /// The file that grows.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.jsonl", self.name))
    }

    fn head(&self) -> PathBuf {
        self.folder.join(format!("{}.head", self.name))
    }

    fn full(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}-{number}.jsonl", self.name))
    }

    /// Adds lines, which share a sync of the disk.
    ///
    /// # Errors
    /// When a file cannot be read or written, or somebody holds the chain; what was to be noted must not be done then.
    pub fn note(&self, all: &[Value]) -> Result<()> {
        let mut open = self.open()?;
        if self.bounds.is_some_and(|bounds| open.metadata().is_ok_and(|about| about.len() >= bounds.bytes)) {
            self.put_aside(open)?;
            open = self.open()?;
        }
        let end = end_of(&mut open)?;
        let mut before = match end.lines().next_back() {
            Some(last) => Some(link_of(last)),
            None => self.link_of_full()?,
        };
        // What a power cut left of a line is ended, and stays.
        let mut lines = if end.is_empty() || end.ends_with('\n') { String::new() } else { "\n".to_string() };
        // SAFETY: the call reads a number and nothing else.
        let uid = unsafe { libc::getuid() };
        let most = if self.bounds.is_some() { LINE_MAX_BOUNDED } else { LINE_MAX };
        for what in all {
            let after = before.unwrap_or_else(|| link_of(""));
            let line = |what: &Value| json!({ "after": after, "uid": uid, "what": what }).to_string();
            let whole = Some(line(what)).filter(|line| line.len() <= most);
            let fitting = || Some(line(&digested(what))).filter(|line| line.len() <= most);
            let line = whole.or_else(fitting).unwrap_or_else(|| line(&digest_of(what)));
            lines.push_str(&line);
            lines.push('\n');
            before = Some(link_of(&line));
        }
        let length = open.metadata()?.len();
        let head = before.unwrap_or_default();
        let noted = open.write_all(lines.as_bytes()).and_then(|()| open.sync_data()).and_then(|()| match self.bounds {
            Some(_) => disk::replace_secret(&self.head(), head.as_bytes()),
            // As open as the folder that people share.
            None => disk::replace(&self.head(), head.as_bytes()),
        });
        if noted.is_err() {
            // What is not done must not stand there.
            let _ = open.set_len(length);
        }
        noted
    }

    /// The file that grows, locked: whoever else writes waits, and so does whoever checks.
    fn open(&self) -> Result<File> {
        let mode = if self.bounds.is_some() { 0o600 } else { 0o666 };
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true).mode(mode).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        // Another one may put it aside as full meanwhile.
        disk::open_locked(&self.file(), &options, LOCK_TIMEOUT)
    }

    /// Puts the full file aside, which is locked, and those away that are too many. The next that is opened is new.
    fn put_aside(&self, full: File) -> Result<()> {
        let numbers = self.numbers()?;
        let number = numbers.last().map_or(1, |last| last + 1);
        std::fs::rename(self.file(), self.full(number))?;
        let kept = self.bounds.map_or(u64::MAX, |bounds| bounds.files.max(1));
        for old in numbers.into_iter().filter(|old| old.saturating_add(kept) <= number) {
            std::fs::remove_file(self.full(old))?;
        }
        disk::sync_folder(&self.file())?;
        drop(full);
        Ok(())
    }

    /// The numbers of the full files, in order.
    fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(self.name)?.strip_prefix('-'));
            let number = number.and_then(|number| number.strip_suffix(".jsonl")?.parse::<u64>().ok());
            // Others are not ours.
            numbers.extend(number.filter(|n| (1..u64::MAX).contains(n) && self.full(*n) == entry.path()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// What follows the last full file says that it does; none without one.
    fn link_of_full(&self) -> Result<Option<String>> {
        let Some(last) = self.numbers()?.pop() else { return Ok(None) };
        Ok(end_of(&mut disk::open_regular(&self.full(last))?)?.lines().next_back().map(link_of))
    }

    /// Reads all of it, and hands over each line that can be read. Nobody who writes waits meanwhile: what comes behind
    /// what was there at the beginning is not looked at.
    ///
    /// # Errors
    /// When a file cannot be read, or somebody holds the chain.
    pub fn check(&self, mut each: impl FnMut(&Value)) -> Result<Checked> {
        let Opened { head, files, is_bounded } = self.opened()?;
        let mut checked =
            Checked { before: files.first().map_or(0, |(first, ..)| first.unwrap_or(1) - 1), ..Checked::default() };
        let full = files.iter().filter(|(number, ..)| number.is_some()).count() as u64;
        // Those are put away that are too many, and no others.
        if checked.before > 0 && self.bounds.is_none_or(|bounds| full < bounds.files.max(1)) {
            checked.flaw(&self.full(checked.before), 1, Flaw::Missing);
        }
        let mut link = (checked.before == 0).then(|| link_of(""));
        let mut is_there = head.as_ref().is_none_or(|head| link.as_ref() == Some(head));
        let (mut expected, mut last) = (checked.before + 1, 0);
        for (number, file, open) in files {
            if number.is_some_and(|number| number != expected) {
                checked.flaw(&self.full(expected), 1, Flaw::Missing);
            }
            expected = number.map_or(expected, |number| number + 1);
            last = 0;
            for line in lines(BufReader::new(open)) {
                let line = line?;
                last += 1;
                let read = serde_json::from_str::<Value>(&line);
                match &read {
                    Err(_) => checked.flaw(&file, last, Flaw::Torn),
                    Ok(read) if link.as_ref().is_some_and(|link| read["after"] != **link) => {
                        checked.flaw(&file, last, Flaw::DoesNotFollow);
                    }
                    Ok(_) => {}
                }
                checked.lines += 1;
                read.iter().for_each(&mut each);
                let after = link_of(&line);
                is_there |= head.as_ref() == Some(&after);
                link = Some(after);
            }
        }
        // Only the very first line is there before its digest is.
        if !is_there || (is_bounded && head.is_none() && checked.lines > 1) {
            checked.flaw(&self.file(), last + 1, Flaw::Missing);
        }
        Ok(checked)
    }

    /// Everything as it is at one moment.
    fn opened(&self) -> Result<Opened> {
        let is_bounded = self.bounds.is_some();
        let mut head = String::new();
        // Whoever may only read goes without the lock.
        let mut options = OpenOptions::new();
        options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let locked = match disk::open_locked(&self.file(), &options, LOCK_TIMEOUT) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            locked => locked.ok(),
        };
        let head = match disk::open_regular(&self.head()) {
            Ok(open) => open.take(HEAD_MAX).read_to_string(&mut head).map(|_| Some(head.trim().to_string()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for number in self.numbers()? {
            let file = self.full(number);
            let open = disk::open_regular(&file)?;
            let length = open.metadata()?.len();
            files.push((Some(number), file, open.take(length)));
        }
        match disk::open_regular(&self.file()) {
            Ok(open) => {
                let length = open.metadata()?.len();
                files.push((None, self.file(), open.take(length)));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        drop(locked);
        Ok(Opened { head, files, is_bounded })
    }
}

/// A chain at one moment: the digest of its last line, and its files in order, with their numbers when they are full.
struct Opened {
    head: Option<String>,
    files: Vec<(Option<u64>, PathBuf, Take<File>)>,
    is_bounded: bool,
}

/// The lines of a file; a power cut may have left half a letter.
fn lines(mut open: impl BufRead) -> impl Iterator<Item = Result<String>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match (&mut open).take(READ_MAX).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                Some(Ok(String::from_utf8_lossy(line).into_owned()))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

/// What a look at all of a chain found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Lines that are there.
    pub lines: usize,
    /// Full files that were put away before the first that is there.
    pub before: u64,
    /// What is wrong: with which file, and with which line of it; the first thousand.
    pub flaws: Vec<(PathBuf, usize, Flaw)>,
    is_changed: bool,
}

impl Checked {
    fn flaw(&mut self, file: &Path, line: usize, flaw: Flaw) {
        self.is_changed |= flaw != Flaw::Torn;
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push((file.to_path_buf(), line, flaw));
        }
    }

    /// Whether all of it is as it was written, but for what a power cut leaves.
    pub fn is_whole(&self) -> bool {
        !self.is_changed
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It does not follow from the one before: that or this one was changed, or one between them was taken out.
    DoesNotFollow,
    /// It is half a line, as a power cut leaves it.
    Torn,
    /// From here on lines are missing that were written.
    Missing,
}

/// The same with its length and SHA-256 in the place of each part that is long.
fn digested(what: &Value) -> Value {
    match what {
        short if short.to_string().len() <= PART_MAX => short.clone(),
        Value::Object(all) => all.iter().map(|(name, part)| (name.clone(), digested(part))).collect(),
        long => digest_of(long),
    }
}

/// How long something is, bytes, and its SHA-256: of a text itself, of anything else as JSON.
pub fn digest_of(what: &Value) -> Value {
    let text = what.as_str().map_or_else(|| what.to_string(), str::to_string);
    json!({ "bytes": text.len(), "sha256": hex::digits(digest(&SHA256, text.as_bytes()).as_ref()) })
}

/// As much of the end of a file as holds its last line, however long that is.
fn end_of(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    let mut most = LINE_MAX as u64;
    loop {
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let line = end.strip_suffix(b"\n").unwrap_or(&end);
        if most >= length || line.contains(&b'\n') {
            return Ok(String::from_utf8_lossy(&end).into_owned());
        }
        most = most.saturating_mul(2);
    }
}

fn link_of(line: &str) -> String {
    hex::digits(digest(&SHA256, line.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests;
