//! A configuration that somebody carries to the box: the signed document that the desk would send ([`super::desired`]), as
//! a file in the folder where a memory stick is mounted. For a box that its broker does not reach yet, or not any more.
//!
//! Nobody who has only the stick is believed more than the broker would be: the same signatures, the same revisions, the
//! same trial. As it is applied once, a stick that stays where it is changes nothing more.

use super::envelope::ENVELOPE_MAX;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The folder is looked into this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The name of the file for a box.
pub fn file_name(gateway: &str) -> String {
    format!("{gateway}.afferent")
}

/// Looks into the folder beside everything else, for a stick may hang. What lies there is told when it is another than
/// before, and when it is gone, with nothing. Ends with the receiver.
pub(super) fn watch(folder: &Path, gateway: &str, network: &Handle) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel(1);
    let file = folder.join(file_name(gateway));
    network.spawn(async move {
        let mut before = Vec::new();
        while !tell.is_closed() {
            let file = file.clone();
            let found = tokio::task::spawn_blocking(move || read(file)).await.unwrap_or_default();
            if found != before {
                before = found.clone();
                let _ = tell.send(found).await;
            }
            tokio::select! {
                () = tell.closed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    });
    told
}

/// What the file holds, or one byte more than an envelope may have; nothing when there is none, or one that is no file,
/// which may have no end.
fn read(file: PathBuf) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(open) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&file) else { return bytes };
    if !open.metadata().is_ok_and(|about| about.is_file()) {
        return bytes;
    }
    match open.take(ENVELOPE_MAX as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) => {
            tracing::warn!("fleet: the stick cannot be read: {}: {error}", file.display());
            Vec::new()
        }
    }
}

/// What comes next; never anything where nobody looks.
pub(super) async fn next(stick: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    match stick {
        Some(stick) => match stick.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
