//! Roll-outs on disk: a folder each in `rollouts/`, with the plan and a list of what happened, one record a line.
//! Whoever wants it paused adds a line; whoever carries it out sees it there.

use super::{Plan, Record, Rollout, What};
use crate::config::check::name_is_usable;
use crate::desk::DeskError;
use crate::disk;
use jiff::Timestamp;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Name of the folder beside `desk.toml`.
pub const FOLDER: &str = "rollouts";
const PLAN: &str = "plan.json";
const LOG: &str = "log.jsonl";
const LOCK: &str = "running";

/// A roll-out and its file.
pub struct Log {
    folder: PathBuf,
    file: File,
    /// Up to here it was read.
    read: u64,
    rollout: Rollout,
}

/// The right to carry a roll-out out; one process has it.
pub struct Turn(#[allow(dead_code)] File);

impl Log {
    /// Writes a new one down.
    ///
    /// # Errors
    /// [`DeskError::File`]; also when there is one of that name.
    pub fn create(desk: &Path, plan: Plan) -> Result<Log, DeskError> {
        let folder = folder_of(desk, &plan.name)?;
        let wrong = |why: String| DeskError::File { file: folder.clone(), why };
        if folder.join(PLAN).exists() {
            return Err(wrong("there is a roll-out of this name; see `afferent desk rollout status`".to_string()));
        }
        std::fs::create_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
        let json = serde_json::to_vec_pretty(&plan).map_err(|error| wrong(error.to_string()))?;
        disk::replace(&folder.join(PLAN), &json).map_err(|error| wrong(error.to_string()))?;
        Log::open(desk, &plan.name)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn open(desk: &Path, name: &str) -> Result<Log, DeskError> {
        let folder = folder_of(desk, name)?;
        let wrong = |why: String| DeskError::File { file: folder.clone(), why };
        let json = std::fs::read(folder.join(PLAN)).map_err(|error| wrong(error.to_string()))?;
        let plan: Plan = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        let file = OpenOptions::new().create(true).append(true).read(true).open(folder.join(LOG));
        let file = file.map_err(|error| wrong(error.to_string()))?;
        let mut log = Log { folder, file, read: 0, rollout: Rollout::new(plan) };
        log.catch_up()?;
        Ok(log)
    }

    /// True when something of it was written down: another desk may have told boxes before.
    pub fn has_begun(&self) -> bool {
        self.read > 0
    }

    /// Names of all that there are, in order.
    pub fn all(desk: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(desk.join(FOLDER)) else { return Vec::new() };
        let names = entries.flatten().filter(|entry| entry.path().join(PLAN).exists());
        let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Takes the right to carry it out; `None` while another process has it.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn turn(&self) -> Result<Option<Turn>, DeskError> {
        let file = File::create(self.folder.join(LOCK)).map_err(|error| self.wrong(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.wrong(&error)),
        }
    }

    /// Writes down what happened. It is on disk when this returns, and what others wrote down meanwhile is read.
    ///
    /// # Errors
    /// [`DeskError::File`]: nothing of it may be done.
    pub fn note(&mut self, all: impl IntoIterator<Item = What>) -> Result<(), DeskError> {
        let at = Timestamp::now();
        let lines = all.into_iter().map(|what| serde_json::to_string(&Record { at, what }));
        let lines: Result<Vec<String>, _> = lines.collect();
        let lines = lines.map_err(|error| DeskError::File { file: self.folder.clone(), why: error.to_string() })?;
        if lines.is_empty() {
            return Ok(());
        }
        // A line that a power cut left is ended first.
        self.catch_up()?;
        let add = |file: &mut File| {
            file.lock()?;
            file.write_all((lines.join("\n") + "\n").as_bytes())?;
            file.sync_data()?;
            file.unlock()
        };
        add(&mut self.file).map_err(|error| self.wrong(&error))?;
        self.catch_up()
    }

    /// Reads what was added since.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn catch_up(&mut self) -> Result<(), DeskError> {
        self.try_catch_up().map_err(|error| self.wrong(&error))
    }

    fn try_catch_up(&mut self) -> std::io::Result<()> {
        if self.file.metadata()?.len() == self.read {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                // A power cut left half a line, of which nothing was done; or another process writes it at this moment.
                if self.file.try_lock().is_ok() {
                    self.file.write_all(b"\n")?;
                    self.file.unlock()?;
                }
                break;
            }
            self.read += line.len() as u64;
            if let Ok(record) = serde_json::from_slice::<Record>(&line) {
                self.rollout.apply(record);
            }
            line.clear();
        }
        Ok(())
    }

    /// What nobody looked at is looked at from now on.
    pub fn attend(&mut self) {
        self.rollout.attend(Timestamp::now());
    }

    /// It, as it stands.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    fn wrong(&self, error: &std::io::Error) -> DeskError {
        DeskError::File { file: self.folder.clone(), why: error.to_string() }
    }
}

fn folder_of(desk: &Path, name: &str) -> Result<PathBuf, DeskError> {
    let folder = desk.join(FOLDER);
    if name_is_usable(name) && !name.starts_with('.') {
        return Ok(folder.join(name));
    }
    Err(DeskError::File { file: folder, why: format!("`{name}` cannot be a roll-out's name") })
}
