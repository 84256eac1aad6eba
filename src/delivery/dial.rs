//! Reaching a receiver: TCP without delays, and TLS where it is configured.

use std::os::fd::AsFd;
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::tls::{self, ClientTls, Facts};

/// All addresses of a host together have as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection, plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that was just opened.
pub(crate) struct Dialled {
    /// What is read and written.
    pub stream: Box<dyn Stream>,
    /// The same socket again, to look whether anything arrived without taking it.
    pub probe: std::net::TcpStream,
    /// Until when the certificate is good that the peer showed, Unix seconds.
    pub peer_ends_s: Option<i64>,
}

/// Connects. Callers bound the time it may take; the certificate files are read each time.
///
/// # Errors
/// Why not, in words made of constants and of what rustls says about a certificate.
pub(crate) async fn dial(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Dialled, String> {
    let tcp = tcp(host, port, tls).await?;
    let probe = tcp.as_fd().try_clone_to_owned().map_err(|e| format!("cannot watch the connection: {}", e.kind()))?;
    let (stream, peer_ends_s): (Box<dyn Stream>, _) = match tls {
        None => (Box::new(tcp), None),
        Some(tls) => {
            let name = tls.name_for(host).map_err(|e| e.to_string())?;
            let connector = TlsConnector::from(tls::client_or_last(tls).map_err(|e| e.to_string())?);
            let stream = connector.connect(name, tcp).await.map_err(|e| format!("TLS: {}", tls_reason(&e)))?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let ends_s = shown.and_then(|shown| Facts::of(shown)).map(|facts| facts.ends_s);
            (Box::new(stream), ends_s)
        }
    };
    Ok(Dialled { stream, probe: std::net::TcpStream::from(probe), peer_ends_s })
}

/// TCP without delays to a host: to one of its addresses, those of the other family 300 ms behind (RFC 6555), or through the proxy of `tls`. Callers bound the time it may take.
///
/// # Errors
/// Why not, in words made of constants.
pub(crate) async fn tcp(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<TcpStream, String> {
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let uri = |_| "cannot connect: the address is none".to_owned();
    let peer: Uri = format!("http://{host}:{port}").parse().map_err(uri)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    // Shared by its addresses, so that one where nothing answers leaves time for the next.
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let proxy = tls.map_or(Ok(None), ClientTls::proxy).map_err(|error| error.to_string())?;
    let connected = match proxy {
        None => connector.call(peer).await.map_err(|error| unreachable(&error)),
        Some(proxy) => proxy.tunnel(connector).call(peer).await.map_err(|error| unreachable(&error)),
    };
    Ok(connected.map_err(|why| format!("cannot connect: {why}"))?.into_inner())
}

/// Why nobody was reached, from the errors of hyper-util, which are told apart by their words alone.
pub(super) fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let words = error.to_string();
    if let Some(why) = words.strip_prefix("tunnel error: ") {
        return match error.source().map(unreachable) {
            Some(below) => format!("the proxy: {below}"),
            None if why == "proxy authorization required" => "the proxy does not know us (407); are `proxy_user` and its password right?".to_owned(),
            None => {
                "the proxy does not let us through; are `proxy_user` and its password right, and may this host and port be reached?"
                    .to_owned()
            }
        };
    }
    if words.starts_with("dns error") {
        return "the name cannot be looked up (DNS)".to_owned();
    }
    match (error.downcast_ref::<std::io::Error>(), error.source()) {
        (Some(io), _) => io.kind().to_string(),
        (None, Some(below)) => unreachable(below),
        (None, None) => "nobody was reached".to_owned(),
    }
}

/// rustls says what it holds against a certificate; an ordinary error has a kind.
pub(super) fn tls_reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => tls::reason(inner),
        None => error.kind().to_string(),
    }
}
