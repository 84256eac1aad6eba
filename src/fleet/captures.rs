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
use crate::workbench::tap::capture;
use jiff::Timestamp;
use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A capture takes so many seconds at most, as other commands wait for its end.
pub const SECONDS_MAX: u32 = 300;
/// Characters of what passed that are kept at most; a transcript may have 4 MiB.
const LENGTH_MAX: usize = 3 << 20;
/// Captures at a time.
const CAPTURES_MAX: usize = 8;
/// They are deleted after this.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// It is looked this often whether one has expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// Folder of the data directory.
const FOLDER: &str = "captures";

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
    let (mut viewer, mut runs, mut length, mut missed) = (Viewer::new(reveal), Vec::new(), 0, 0);
    while let Ok(Some(run)) = tokio::time::timeout_at(until, passed.recv()).await {
        let tapped = viewer.tapped(run);
        length += tapped.shown.text.len();
        if length > LENGTH_MAX {
            break;
        }
        missed += tapped.missed;
        runs.push(tapped);
    }
    drop(passed);
    let kept = tokio::task::spawn_blocking(move || keep(&folder, id, capture(&runs).as_bytes()));
    let (bytes, sha256) = kept.await.map_err(|_| Failure::System)?.map_err(|error| {
        tracing::warn!("fleet: a capture cannot be kept: {error}");
        Failure::System
    })?;
    let expires = At::of_ms(Timestamp::now().as_millisecond() + KEPT.as_millis() as i64);
    Ok(CaptureFacts { capture: id, bytes, sha256, missed, expires })
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
            tracing::error!("an expired capture cannot be deleted: {}: {error}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
