//! A configuration that somebody carries to the box: the signed document that the desk would send ([`super::desired`]), as
//! a file in the folder where a memory stick is mounted. For a box that its broker does not reach yet, or not any more.
//!
//! Nobody who has only the stick is believed more than the broker would be: the same signatures, the same revisions, the
//! same trial. As it is applied once, a stick that stays where it is changes nothing more.

use super::envelope::ENVELOPE_MAX;
use crate::disk;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// The folder is looked into this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The name of the file for a box.
pub fn file_name(gateway: &str) -> String {
    format!("{gateway}.afferent")
}

/// What lies on the stick: a document, nothing, or one that cannot be read, and why.
pub(super) type Found = Result<Vec<u8>, String>;

/// Looks into the folder on a thread of its own, for a stick may hang, and nothing waits for it then. What lies there is
/// told when it is another than before, and when it is gone, with nothing. Ends with the receiver.
pub(super) fn watch(folder: &Path, gateway: &str) -> mpsc::Receiver<Found> {
    let (tell, told) = mpsc::channel(1);
    let file = folder.join(file_name(gateway));
    let looking = std::thread::Builder::new().name("stick".to_string()).spawn(move || {
        let mut before = Ok(Vec::new());
        while !tell.is_closed() {
            let found = read(&file);
            if found != before {
                before = found.clone();
                let _ = tell.blocking_send(found);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    });
    if let Err(error) = looking {
        tracing::error!(event = "stick", "fleet: nobody looks for a stick: {error}");
    }
    told
}

/// What the file holds, or one byte more than an envelope may have; nothing when there is none.
fn read(file: &Path) -> Found {
    let cannot = |error: Error| Err(format!("{} cannot be read: {error}", file.display()));
    let mut bytes = Vec::new();
    match disk::open_regular(file) {
        Ok(open) => open.take(ENVELOPE_MAX as u64 + 1).read_to_end(&mut bytes).map_or_else(cannot, |_| Ok(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(bytes),
        Err(error) => cannot(error),
    }
}

/// What comes next; never anything where nobody looks.
pub(super) async fn next(stick: &mut Option<mpsc::Receiver<Found>>) -> Found {
    match stick {
        Some(stick) => match stick.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_and_no_stick_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bench-1.afferent");
        assert_eq!(read(&file), Ok(Vec::new()));
        std::fs::create_dir(&file).unwrap();
        assert!(read(&file).is_err_and(|why| why.ends_with("it is not a regular file")));
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, vec![0; ENVELOPE_MAX + 100]).unwrap();
        assert_eq!(read(&file).map(|bytes| bytes.len()), Ok(ENVELOPE_MAX + 1));
    }
}
