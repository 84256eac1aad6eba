//! The record of what boxes told: one event a line in `events.jsonl`, each of them once, for a box tells an event again
//! until the broker has acknowledged it. Whoever hears an event notes it here before the broker may forget it.
//!
//! Boxes are not trusted, so no box fills the disk: of an event that is long only what became of what is noted, and a
//! file that is full becomes `events.jsonl.1`, in the place of the one before.

use super::order::plain;
use super::{DeskError, Said, audit};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "events.jsonl";
const BEFORE: &str = "events.jsonl.1";
/// A file that is as long as this is full, bytes.
const FILE_MAX: u64 = 64 << 20;
/// An event is noted whole up to this length, bytes.
const EVENT_MAX: usize = 8 << 10;
/// An event's id has fewer characters.
const ID_MAX: usize = 64;
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
    file_max: u64,
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
        let (known, order) = (HashSet::new(), VecDeque::new());
        let file = open(&path).map_err(wrong)?;
        let read = file.metadata().map_err(wrong)?.len().saturating_sub(READ_MAX);
        let mut record = Record { path, file, read, file_max: FILE_MAX, known, order };
        // What a full file says was told before.
        let before = File::open(folder.join(BEFORE)).map_or(Ok(()), |before| record.learn(&before, 0).map(drop));
        before.and_then(|()| record.catch_up()).map_err(|error| record.wrong(&error))?;
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
        while !self.is_current()? {
            // Another has found it full. Its end is read before it is let go.
            self.catch_up()?;
            (self.file, self.read) = (open(&self.path)?, 0);
            self.file.lock()?;
        }
        let noted = self.note_locked(all);
        let is_full = self.file.metadata().is_ok_and(|meta| meta.len() >= self.file_max);
        if noted.is_ok() && is_full {
            std::fs::rename(&self.path, self.path.with_file_name(BEFORE))?;
        }
        self.file.unlock()?;
        noted
    }

    /// True while the file that is open is the one of that name.
    fn is_current(&self) -> std::io::Result<bool> {
        let of = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok(of(there) == of(self.file.metadata()?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
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
            let event = audit::in_short_of(&event, EVENT_MAX);
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
        if !self.learn(&self.file.try_clone()?, self.read)? {
            self.file.write_all(b"\n")?;
        }
        self.read = self.file.metadata()?.len();
        Ok(())
    }

    /// Knows the events of a file from there on; false when its last line has no end.
    fn learn(&mut self, mut file: &File, from: u64) -> std::io::Result<bool> {
        file.seek(SeekFrom::Start(from))?;
        let mut reader = BufReader::new(file);
        let (mut line, mut has_end) = (Vec::new(), true);
        while reader.read_until(b'\n', &mut line)? > 0 {
            let event = serde_json::from_slice::<Value>(&line).unwrap_or_default();
            id_of(&event["event"]).into_iter().for_each(|id| self.know(id));
            has_end = line.last() == Some(&b'\n');
            line.clear();
        }
        Ok(has_end)
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

/// How many events each box told of each kind, of those that stand in the record of a folder.
///
/// # Errors
/// [`DeskError::File`].
pub fn counts(folder: &Path) -> Result<BTreeMap<String, BTreeMap<String, u64>>, DeskError> {
    let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for path in [folder.join(BEFORE), folder.join(FILE)] {
        let wrong = |error: std::io::Error| DeskError::File { file: path.clone(), why: error.to_string() };
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            open => open.map_err(wrong)?,
        };
        for line in BufReader::new(file).split(b'\n') {
            // What a power cut left of a line says nothing.
            let line: Value = serde_json::from_slice(&line.map_err(wrong)?).unwrap_or_default();
            if let (Some(name), Some(kind)) = (line["box"].as_str(), line["event"]["event"].as_str()) {
                *counts.entry(name.to_string()).or_default().entry(plain(kind)).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).open(path)
}

fn id_of(event: &Value) -> Option<u128> {
    let id = event["id"].as_str().filter(|id| id.len() < ID_MAX)?;
    let digits: String = id.split('-').collect();
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

    fn long(id: u32) -> Said {
        let text = "\u{1}".repeat(30_000);
        let payload = json!({ "id": format!("{id:08x}-0001"), "event": "started", "why": text, "more": text });
        Said { payload: payload.to_string().into_bytes(), ..told(id) }
    }

    #[test]
    fn a_box_that_tells_at_length_and_without_end_fills_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Record::open(dir.path()).unwrap(), Record::open(dir.path()).unwrap());
        one.note(&[told(1)]).unwrap();
        for id in 0..100 {
            assert_eq!(one.note(&[long(id)]).unwrap().len(), 1);
        }
        let length = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |meta| meta.len());
        assert!(length(FILE) < 100 * 1024, "{}", length(FILE));
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.contains("00000001-0000"), "what another told is there");

        // Full files make room, for all that share the folder, and nothing is noted twice.
        (one.file_max, other.file_max) = (4096, 4096);
        for id in 100..300 {
            let record = if id % 3 == 0 { &mut one } else { &mut other };
            assert_eq!(record.note(&[told(id)]).unwrap().len(), 1, "{id}");
            assert!(length(FILE) < 2 * 4096 && length(BEFORE) < 120 * 1024);
        }
        assert!(length(BEFORE) > 0 && length(BEFORE) < 2 * 4096);
        let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap().lines().count() as u64;
        let counted = counts(dir.path()).unwrap();
        assert_eq!((counted.len(), counted["bench-1"]["started"]), (1, lines(FILE) + lines(BEFORE)));
        for record in [&mut one, &mut other, &mut Record::open(dir.path()).unwrap()] {
            assert!(record.note(&[told(299), told(280)]).unwrap().is_empty());
        }
    }

    #[test]
    fn an_id_without_end_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let payload = json!({ "id": "0".repeat(100_000), "event": "started" }).to_string().into_bytes();
        assert!(Record::open(dir.path()).unwrap().note(&[Said { payload, ..told(1) }]).unwrap().is_empty());
    }
}
