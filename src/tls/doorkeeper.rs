//! Who lets callers in over TLS, with the certificate that counts now.

use super::{Files, ServerTls, TlsError, server};
use tokio_rustls::TlsAcceptor;

/// A listener's TLS settings, read again when a file changes: a renewed certificate is used from the next connection, and
/// those that stand go on with what they began with.
pub struct Doorkeeper {
    settings: ServerTls,
    files: Files,
    acceptor: TlsAcceptor,
}

impl Doorkeeper {
    /// With the files as they are now.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn new(settings: ServerTls) -> Result<Doorkeeper, TlsError> {
        Ok(Doorkeeper { files: settings.files(), acceptor: server(&settings)?.into(), settings })
    }

    /// The acceptor for the next connection. Files that do not work leave the old ones in use, and are told of once.
    pub fn acceptor(&mut self, trouble: impl FnOnce(&'static str, &TlsError)) -> TlsAcceptor {
        if self.files.changed() {
            match server(&self.settings) {
                Ok(config) => self.acceptor = config.into(),
                Err(error) => trouble("a changed certificate is not used", &error),
            }
        }
        self.acceptor.clone()
    }
}
