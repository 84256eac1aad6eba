//! How far a server was read: a time of its own clock, in a file of the data directory.

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the files are, below the data directory.
const FOLDER: &str = "order-feeds";

/// Bytes by which a file says what was asked for.
const DIGEST_BYTES: usize = 8;

/// How far a server was read.
#[derive(Clone)]
pub struct Cursor {
    file: PathBuf,
    since: Timestamp,
}

impl Cursor {
    /// That of the feed of this name while it asks for the same; `first` when there is none that can be read.
    pub fn open(data: &Path, name: &str, asked: &[&str], first: Timestamp) -> Cursor {
        let digest = digest(&SHA256, asked.join("\n").as_bytes());
        let digest: String = digest.as_ref().iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let file = data.join(FOLDER).join(format!("{name}.{digest}"));
        let since = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Cursor { file, since: first },
            Err(_) => None,
        };
        if since.is_none() {
            tracing::warn!(feed = name, "how far the server was read is not known: it is read from {first} on");
        }
        Cursor { file, since: since.unwrap_or(first) }
    }

    /// Everything the server had changed before this was read.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Moves on, durably.
    ///
    /// # Errors
    /// It cannot be written; it stays where it was.
    pub fn advance(&mut self, to: Timestamp) -> io::Result<()> {
        if to <= self.since {
            return Ok(());
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // No feed can have this name.
        let mut new = self.file.clone().into_os_string();
        new.push("~");
        let mut written = File::create(&new)?;
        writeln!(written, "{to}")?;
        written.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        File::open(folder)?.sync_all()?;
        self.since = to;
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
        cursor.advance(at(9)).unwrap();
        cursor.advance(at(7)).unwrap();
        assert_eq!(open("ehr", "a=b").since(), at(9));
        assert_eq!(open("other", "a=b").since(), at(5));
        assert_eq!(open("ehr", "").since(), at(5), "who asks for more has its history to read");
        std::fs::write(&cursor.file, "damaged").unwrap();
        assert_eq!(open("ehr", "a=b").since(), at(5), "read once more, which changes nothing");
    }
}
