//! Captures: what passed on a link, kept on the box for whoever stands there to help. They hold patient data, so nothing of
//! them goes over the bus but their name, length and digest (invariant I8). Each is a session transcript, as `afferent tap
//! --save` writes one, in a file that only its owner may read, under `captures/` of the data directory, until it expires.
//!
//! Listening never slows a line ([`crate::link::taps`]). A capture is bounded by time and by length; there are few at a
//! time, and none is made where room is scarce.

use super::telemetry::{At, CaptureFacts, Digest, Failure, Id};
use crate::control::Viewer;
use crate::disk;
use crate::link::LinkCounters;
use crate::link::taps::Taps;
use crate::workbench::tap::{RECORDED, Side, Tapped, Transcript};
use jiff::Timestamp;
use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A capture takes so many seconds at most.
pub const SECONDS_MAX: u32 = 300;
/// Bytes of text that are kept of a capture at most, which is all that is kept of it; a transcript may have 4 MiB.
const LENGTH_MAX: usize = 3 << 20;
/// Connections whose bytes are in a capture; of more it says how many there were.
const CONNECTIONS_MAX: usize = 32;
/// Captures at a time.
const CAPTURES_MAX: usize = 8;
/// They are deleted after this.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// It is looked this often whether one has expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// Folder of the data directory.
const FOLDER: &str = "captures";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[FOLDER];

/// What is to be captured.
pub(super) struct Wanted {
    /// The data directory.
    pub data: PathBuf,
    /// The command that asks for it, which names the file.
    pub id: Id,
    /// The link.
    pub link: Arc<LinkCounters>,
    /// For how long.
    pub seconds: u32,
    /// With what names patients and specimens.
    pub reveal: bool,
}

/// Listens, and keeps what passed. When this returns it is on disk.
///
/// # Errors
/// [`Failure`]: nothing is kept.
pub(super) async fn make(wanted: Wanted) -> Result<CaptureFacts, Failure> {
    let Wanted { data, id, link, seconds, reveal } = wanted;
    let folder = data.join(FOLDER);
    if count(&folder) >= CAPTURES_MAX {
        return Err(Failure::NoRoom);
    }
    let (to, mut passed) = Taps::channel();
    if !link.taps().listen(to) {
        return Err(Failure::Busy);
    }
    drop(link);
    let until = Instant::now() + Duration::from_secs(u64::from(seconds.min(SECONDS_MAX)));
    let (mut viewer, mut recording) = (Viewer::new(reveal), Recording::default());
    while let Ok(Some(run)) = tokio::time::timeout_at(until, passed.recv()).await {
        recording.take(&viewer.tapped(run));
        if recording.length() > LENGTH_MAX {
            break;
        }
    }
    drop(passed);
    let (text, missed) = (recording.text(), recording.missed);
    let kept = tokio::task::spawn_blocking(move || keep(&folder, id, text.as_bytes()));
    let (bytes, sha256) = kept.await.map_err(|_| Failure::System)?.map_err(|error| {
        tracing::warn!("fleet: a capture cannot be kept: {error}");
        Failure::System
    })?;
    let expires = At::of_ms(Timestamp::now().as_millisecond() + KEPT.as_millis() as i64);
    Ok(CaptureFacts { capture: id, bytes, sha256, missed, expires })
}

/// What passes, as it is kept: a transcript of each connection, in the order in which they were heard first.
#[derive(Default)]
struct Recording {
    connections: Vec<(u64, Transcript)>,
    /// Runs of connections beyond as many as may be.
    beyond: u64,
    /// Runs that the listener missed.
    missed: u64,
}

impl Recording {
    fn take(&mut self, run: &Tapped) {
        self.missed += run.missed;
        if run.side == Side::Link {
            return;
        }
        let at = self.connections.iter().position(|(connection, _)| *connection == run.connection);
        let at = match at {
            Some(at) => at,
            None if self.connections.len() >= CONNECTIONS_MAX => {
                self.beyond += 1;
                return;
            }
            None => {
                self.connections.push((run.connection, Transcript::default()));
                self.connections.len() - 1
            }
        };
        self.connections[at].1.take(run);
    }

    fn length(&self) -> usize {
        self.connections.iter().map(|(_, transcript)| transcript.text().len()).sum()
    }

    fn text(&self) -> String {
        let mut text = RECORDED.to_string();
        for (connection, transcript) in &self.connections {
            if self.connections.len() > 1 {
                text.push_str(&format!("# Connection {connection}:\n"));
            }
            text.push_str(transcript.text());
        }
        if self.beyond > 0 {
            text.push_str(&format!("# {} runs of further connections are missing here.\n", self.beyond));
        }
        text
    }
}

fn keep(folder: &Path, id: Id, text: &[u8]) -> std::io::Result<(usize, Digest)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    disk::replace_secret(&folder.join(format!("{id}.txt")), text)?;
    disk::sync_folder(folder)?;
    Ok((text.len(), Digest::of(text)))
}

fn all(folder: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).filter(|(_, about)| about.is_file())
}

fn count(folder: &Path) -> usize {
    all(folder).count()
}

/// Deletes captures whose time is over, now and then, for ever.
pub(super) async fn expire(data: PathBuf) {
    loop {
        let folder = data.join(FOLDER);
        let _ = tokio::task::spawn_blocking(move || delete_expired(&folder, SystemTime::now())).await;
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}

/// By the time at which they were written. A clock that was set back keeps them until it is right again.
fn delete_expired(folder: &Path, now: SystemTime) {
    let is_over = |about: &Metadata| {
        let age = about.modified().ok().and_then(|at| now.duration_since(at).ok());
        age.is_some_and(|age| age >= KEPT)
    };
    for (file, _) in all(folder).filter(|(_, about)| is_over(about)) {
        if let Err(error) = std::fs::remove_file(&file) {
            tracing::error!(
                event = "fleet-trouble",
                "an expired capture cannot be deleted: {}: {error}",
                file.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn run(connection: u64, side: Side, text: &str) -> Tapped {
        let shown = crate::workbench::tap::Shown { text: text.to_string(), ..Default::default() };
        Tapped { link: "chemistry".to_string(), connection, at_ms: 0, side, shown, missed: 0 }
    }

    #[test]
    fn what_passes_on_each_connection_stands_together() {
        let mut recording = Recording::default();
        for (connection, side, text) in [
            (1, Side::Instrument, "<ENQ>"),
            (2, Side::Instrument, "<EOT>"),
            (1, Side::Gateway, "<ACK>"),
            (0, Side::Link, "closed"),
            (2, Side::Gateway, "<NAK>"),
        ] {
            recording.take(&run(connection, side, text));
        }
        let text = recording.text();
        assert_eq!(text, format!("{RECORDED}# Connection 1:\n> <ENQ>\n< <ACK>\n# Connection 2:\n> <EOT>\n< <NAK>\n"));
        assert!(crate::sim::transcript::parse(&text).is_ok(), "it is a transcript all the same");
    }

    #[test]
    fn i10_single_bytes_and_many_connections_cost_what_is_counted() {
        let mut recording = Recording::default();
        let mut runs = 0;
        while recording.length() <= 200_000 {
            recording.take(&run(runs % 100, Side::Instrument, "x"));
            runs += 1;
        }
        assert!(runs > 50_000, "{runs}");
        assert_eq!(recording.connections.len(), CONNECTIONS_MAX);
        let text = recording.text();
        assert!(text.len() < 204_096, "{}", text.len());
        assert!(text.ends_with("runs of further connections are missing here.\n"));
    }

    #[test]
    fn a_capture_is_its_owners_alone_and_is_deleted_when_its_time_is_over() {
        let data = tempfile::tempdir().unwrap();
        let (folder, id) = (data.path().join(FOLDER), Id::make());
        let (bytes, sha256) = keep(&folder, id, b"> <ENQ>\n").unwrap();
        assert_eq!((bytes, sha256), (8, Digest::of(b"> <ENQ>\n")));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(format!("{id}.txt")))), (0o700, 0o600));
        let now = SystemTime::now();
        delete_expired(&folder, now + KEPT - Duration::from_secs(60));
        assert_eq!(count(&folder), 1);
        delete_expired(&folder, now - KEPT);
        assert_eq!(count(&folder), 1, "a clock that was set back");
        delete_expired(&folder, now + KEPT + Duration::from_secs(60));
        assert_eq!(count(&folder), 0);
    }
}
