//! What a connection to a peer uses when its files were changed and do not work: what worked before. A renewal that goes
//! wrong half-way, or a certificate without its key, keeps no result from the EHR; a line in the log says that a person
//! has to look, and another that it works again.

use super::{ClientTls, TlsError, client};
use rustls::ClientConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Settings that are remembered; a box has a few destinations, and begins anew with more.
const REMEMBERED_MAX: usize = 256;

struct Last {
    config: Arc<ClientConfig>,
    is_broken: bool,
}

static LAST: Mutex<Option<HashMap<ClientTls, Last>>> = Mutex::new(None);

/// Reads the files of `config` as [`client`] does; where they do not work, what worked before is used still. A connection
/// made with that fails when the peer says so, and not before.
///
/// # Errors
/// [`TlsError`] when they have not worked since the program started.
pub fn client_or_last(config: &ClientTls) -> Result<Arc<ClientConfig>, TlsError> {
    let read = client(config);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let last = last.get_or_insert_with(HashMap::new);
    if last.len() >= REMEMBERED_MAX && !last.contains_key(config) {
        last.clear();
    }
    match (read, last.get_mut(config)) {
        (Ok(read), Some(before)) => {
            if std::mem::take(&mut before.is_broken) {
                tracing::info!(
                    event = "alert-ended",
                    alert = "certificate-files",
                    state = "ended",
                    "the files of certificates, keys and passwords work again"
                );
            }
            before.config = read.clone();
            Ok(read)
        }
        (Ok(read), None) => {
            last.insert(config.clone(), Last { config: read.clone(), is_broken: false });
            Ok(read)
        }
        (Err(error), Some(before)) => {
            if !std::mem::replace(&mut before.is_broken, true) {
                tracing::warn!(
                    event = "alert-began",
                    alert = "certificate-files",
                    state = "began",
                    "files of certificates, keys or passwords were changed and do not work; what worked before is used still: {error}"
                );
            }
            Ok(before.config.clone())
        }
        (Err(error), None) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::throwaway::Authority;
    use super::*;

    #[test]
    fn what_worked_before_is_used_until_the_files_work_again() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, files) = (Authority::new().unwrap(), Authority::new().unwrap().write(dir.path()).unwrap());
        let first = client_or_last(&files.client).unwrap();
        let (cert, key) = (files.client.cert.clone().unwrap(), files.client.key.clone().unwrap());
        let renewed = authority.client("afferent").unwrap();
        std::fs::write(&cert, &renewed.cert_pem).unwrap();
        assert!(client(&files.client).is_err(), "certificate and key do not belong together");
        assert!(Arc::ptr_eq(&client_or_last(&files.client).unwrap(), &first));
        std::fs::write(&key, &renewed.key_pem).unwrap();
        let second = client_or_last(&files.client).unwrap();
        assert!(!Arc::ptr_eq(&second, &first));
        std::fs::remove_file(&cert).unwrap();
        assert!(Arc::ptr_eq(&client_or_last(&files.client).unwrap(), &second));
        let never = ClientTls { ca: Some(dir.path().join("absent.pem")), ..ClientTls::default() };
        assert!(client_or_last(&never).is_err());
    }
}
