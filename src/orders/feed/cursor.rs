//! How far a server was read: a time of its own clock, and the requests before it that are still to be asked for, in a
//! file of the data directory.
//!
//! It holds for what was asked for. Whoever asks for something else, and then for the same again, reads the history once
//! more: what was taken back meanwhile comes back with it.

use crate::{disk, wire::hex};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use std::io;
use std::path::{Path, PathBuf};

/// Where the files are, below the data directory.
const FOLDER: &str = "order-feeds";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FOLDER];

/// Bytes by which a file says what was asked for.
const DIGEST_BYTES: usize = 8;

/// How far a server was read.
#[derive(Clone)]
pub struct Cursor {
    file: PathBuf,
    /// What is asked for.
    digest: String,
    since: Timestamp,
    aside: Vec<String>,
    /// True when the file says so.
    is_kept: bool,
}

impl Cursor {
    /// That of the feed of this name while it asks for the same; `first` when there is none that can be read.
    pub fn open(data: &Path, name: &str, asked: &[&str], first: Timestamp) -> Cursor {
        let digest = digest(&SHA256, asked.join("\n").as_bytes());
        let digest = hex::digits(&digest.as_ref()[..DIGEST_BYTES]);
        let file = data.join(FOLDER).join(name);
        let none = Cursor { file, digest, since: first, aside: Vec::new(), is_kept: false };
        let text = match std::fs::read_to_string(&none.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return none,
            Err(_) => String::new(),
        };
        let mut lines = text.lines();
        match lines.next().and_then(|line| line.split_once(' ')).map(|(asked, since)| (asked, since.parse())) {
            Some((asked, Ok(since))) if asked == none.digest => {
                let aside = lines.filter(|id| !id.is_empty()).map(str::to_owned).collect();
                Cursor { since, aside, is_kept: true, ..none }
            }
            Some((_, Ok(_))) => none,
            _ => {
                tracing::warn!(feed = name, "how far the server was read is not known: it is read from {first} on");
                none
            }
        }
    }

    /// Everything the server had changed before this was read.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Ids of requests that are still to be asked for.
    pub fn aside(&self) -> &[String] {
        &self.aside
    }

    /// Moves on, durably, and notes what is still to be asked for.
    ///
    /// # Errors
    /// It cannot be written; it stays where it was.
    pub fn advance(&mut self, to: Timestamp, aside: Vec<String>) -> io::Result<()> {
        let to = to.max(self.since);
        if to == self.since && aside == self.aside && self.is_kept {
            return Ok(());
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        disk::replace(&self.file, format!("{} {to}\n{}\n", self.digest, aside.join("\n")).as_bytes())?;
        (self.since, self.aside, self.is_kept) = (to, aside, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_moves_forward_only_and_outlives_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let open = |name: &str, query: &str| Cursor::open(data.path(), name, &["https://e", query], at(5));
        let mut cursor = open("ehr", "a=b");
        let aside = vec!["sr-1".to_owned(), "sr-2".to_owned()];
        cursor.advance(at(9), aside.clone()).unwrap();
        cursor.advance(at(7), aside.clone()).unwrap();
        let again = open("ehr", "a=b");
        assert_eq!((again.since(), again.aside()), (at(9), &aside[..]));
        cursor.advance(at(7), Vec::new()).unwrap();
        assert!(open("ehr", "a=b").aside().is_empty());
        assert_eq!(open("other", "a=b").since(), at(5));
        std::fs::write(&cursor.file, "damaged").unwrap();
        assert_eq!(open("ehr", "a=b").since(), at(5), "read once more, which changes nothing");
    }

    #[test]
    fn who_asks_for_something_else_and_then_the_same_again_reads_its_history() {
        let data = tempfile::tempdir().unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let open = |query: &str| Cursor::open(data.path(), "ehr", &["https://e", query], at(5));
        open("a=b").advance(at(9), Vec::new()).unwrap();
        let mut wrong = open("a=wrong");
        assert_eq!(wrong.since(), at(5));
        wrong.advance(at(5), Vec::new()).unwrap();
        assert_eq!(open("a=b").since(), at(5));
    }
}
