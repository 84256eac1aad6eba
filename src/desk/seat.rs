//! Whose certificate a desk uses: the broker ends a connection when another comes under the same name, so each desk
//! that runs takes one that no other has. The lock goes with the process, however it ends.

use super::DeskError;
use crate::credential;
use crate::tls::ClientTls;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// A certificate that is taken while this lives.
pub(super) struct Seat {
    _locked: File,
}

/// Takes the first certificate that is free.
///
/// # Errors
/// [`DeskError::NoSeat`], or [`DeskError::File`] for one that cannot be locked.
pub(super) fn take(folder: &Path, certificates: &[ClientTls]) -> Result<(Seat, ClientTls), DeskError> {
    for tls in certificates {
        let Some(cert) = &tls.cert else { continue };
        // A credential lies where nobody may write.
        let file = credential::name(cert).map_or(cert.clone(), |name| folder.join(name)).with_extension("seat");
        let wrong = |error: std::io::Error| DeskError::File { file: file.clone(), why: error.to_string() };
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(wrong)?;
        match open.try_lock() {
            Ok(()) => return Ok((Seat { _locked: open }, tls.clone())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
    }
    Err(DeskError::NoSeat { count: certificates.len(), file: folder.join("desk.toml") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_desks_do_not_share_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let tls = |name: &str| ClientTls { cert: Some(dir.path().join(name)), ..ClientTls::default() };
        let both = [tls("a.pem"), tls("b.pem")];
        let (first, of_first) = take(dir.path(), &both).unwrap();
        let (_second, of_second) = take(dir.path(), &both).unwrap();
        assert_eq!((of_first, of_second), (tls("a.pem"), tls("b.pem")));
        assert!(matches!(take(dir.path(), &both), Err(DeskError::NoSeat { count: 2, .. })));
        drop(first);
        assert_eq!(take(dir.path(), &both).unwrap().1, tls("a.pem"));
    }

    #[test]
    fn a_certificate_that_is_a_credential_is_taken_beside_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let tls = [ClientTls { cert: Some("credential:desk-cert".into()), ..ClientTls::default() }];
        let _taken = take(dir.path(), &tls).unwrap();
        assert!(dir.path().join("desk-cert.seat").exists());
        assert!(matches!(take(dir.path(), &tls), Err(DeskError::NoSeat { .. })));
    }
}
