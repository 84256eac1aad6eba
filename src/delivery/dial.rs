//! Reaching a receiver: TCP without delays, and TLS where it is configured.

use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::{self, ClientTls};

/// An open connection, plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that was just opened.
pub(crate) struct Dialled {
    /// What is read and written.
    pub stream: Box<dyn Stream>,
    /// The same socket again, to look whether anything arrived without taking it.
    pub probe: std::net::TcpStream,
}

/// Connects. Callers bound the time it may take; the certificate files are read each time.
///
/// # Errors
/// Why not, in words made of constants and of what rustls says about a certificate.
pub(crate) async fn dial(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Dialled, String> {
    let failed = |e: std::io::Error| format!("cannot connect: {}", e.kind());
    let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let probe = tcp.as_fd().try_clone_to_owned().map_err(|e| format!("cannot watch the connection: {}", e.kind()))?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = tls.name_for(host).map_err(|e| e.to_string())?;
            let connector = TlsConnector::from(tls::client_or_last(tls).map_err(|e| e.to_string())?);
            Box::new(connector.connect(name, tcp).await.map_err(|e| format!("TLS: {}", tls_reason(&e)))?)
        }
    };
    Ok(Dialled { stream, probe: std::net::TcpStream::from(probe) })
}

/// rustls says what it holds against a certificate; an ordinary error has a kind.
pub(super) fn tls_reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => inner.to_string(),
        None => error.kind().to_string(),
    }
}
