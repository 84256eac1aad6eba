//! The record of what boxes told: one event a line in `events.jsonl`, each of them once, for a box tells an event again
//! until the broker has acknowledged it. Whoever hears an event notes it here before the broker may forget it.

use super::{DeskError, Said};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "events.jsonl";
/// Events that are known again when they come again.
const KNOWN_MAX: usize = 65_536;
/// Of a file that is longer, this much at its end is read for the events that are known, bytes.
const READ_MAX: u64 = 64 << 20;

/// See the module docs.
pub struct Record {
    path: PathBuf,
    file: File,
    /// Up to here it was read.
    read: u64,
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Record {
    /// Opens that of a folder.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn open(folder: &Path) -> Result<Record, DeskError> {
        let path = folder.join(FILE);
        let wrong = |error: std::io::Error| DeskError::File { file: path.clone(), why: error.to_string() };
        let file = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(wrong)?;
        let read = file.metadata().map_err(wrong)?.len().saturating_sub(READ_MAX);
        let mut record = Record { path, file, read, known: HashSet::new(), order: VecDeque::new() };
        record.catch_up().map_err(|error| record.wrong(&error))?;
        Ok(record)
    }

    /// Notes events; returns which of them are new, as they stand in the file. When it returns they are on disk.
    ///
    /// # Errors
    /// [`DeskError::File`]: none of them may be acknowledged.
    pub fn note(&mut self, all: &[Said]) -> Result<Vec<Value>, DeskError> {
        self.try_note(all).map_err(|error| self.wrong(&error))
    }

    fn try_note(&mut self, all: &[Said]) -> std::io::Result<Vec<Value>> {
        // Desks that share a folder note one after the other, and see what the other noted.
        self.file.lock()?;
        let noted = self.note_locked(all);
        self.file.unlock()?;
        noted
    }

    fn note_locked(&mut self, all: &[Said]) -> std::io::Result<Vec<Value>> {
        self.catch_up()?;
        let (mut lines, mut new) = (String::new(), Vec::new());
        let mut ids = HashSet::new();
        for said in all {
            let event = serde_json::from_slice::<Value>(&said.payload).unwrap_or_default();
            let Some(id) = id_of(&event) else {
                tracing::warn!("{} told what is no event", said.place.gateway());
                continue;
            };
            if self.known.contains(&id) || !ids.insert(id) {
                continue;
            }
            let line = json!({ "box": said.place.gateway(), "event": event });
            lines.push_str(&format!("{line}\n"));
            new.push(line);
        }
        if !lines.is_empty() {
            self.file.write_all(lines.as_bytes())?;
            self.file.sync_data()?;
            self.read += lines.len() as u64;
            ids.into_iter().for_each(|id| self.know(id));
        }
        Ok(new)
    }

    /// Reads what was added since, and ends a line that a power cut left.
    fn catch_up(&mut self) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        if length == self.read {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let event = serde_json::from_slice::<Value>(&line).unwrap_or_default();
            id_of(&event["event"]).into_iter().for_each(|id| self.know(id));
            if line.last() != Some(&b'\n') {
                self.file.write_all(b"\n")?;
            }
            line.clear();
        }
        self.read = self.file.metadata()?.len();
        Ok(())
    }

    fn know(&mut self, id: u128) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn wrong(&self, error: &std::io::Error) -> DeskError {
        DeskError::File { file: self.path.clone(), why: error.to_string() }
    }
}

fn id_of(event: &Value) -> Option<u128> {
    let digits: String = event["id"].as_str()?.split('-').collect();
    u128::from_str_radix(&digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::bus::Receipt;
    use crate::fleet::topic::{Place, Up};

    fn told(id: u32) -> Said {
        let place = Place::new("acme", "bench-1").unwrap();
        let payload = format!("{{\"id\":\"{id:08x}-0000\",\"event\":\"started\"}}").into_bytes();
        Said { place, what: Up::Event, payload, receipt: Receipt::new(1, 1) }
    }

    #[test]
    fn an_event_is_noted_once_by_however_many() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Record::open(dir.path()).unwrap(), Record::open(dir.path()).unwrap());
        assert_eq!(one.note(&[told(1), told(2), told(1)]).unwrap().len(), 2);
        assert_eq!(other.note(&[told(2), told(3)]).unwrap().len(), 1);
        assert_eq!(one.note(&[told(3)]).unwrap().len(), 0);
        let file = dir.path().join(FILE);
        // A power cut in the middle of a line.
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str("{\"box\":\"ben");
        std::fs::write(&file, &text).unwrap();
        let mut later = Record::open(dir.path()).unwrap();
        assert_eq!(later.note(&[told(1), told(4)]).unwrap().len(), 1);
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
        assert_eq!((whole.count(), text.lines().count()), (4, 5), "{text}");
    }
}
