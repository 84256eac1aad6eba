//! Whether a destination can be reached at all: for people who look for what is wrong, and before another configuration
//! runs. Nothing is said there but TLS.

use super::config::{Config, Protocol};
use crate::tls::{self, ClientTls};
use tokio::net::TcpStream;

/// Connects, sets TLS up where it is spoken, and hangs up. True when it is. Callers bound the time it may take.
///
/// # Errors
/// In words, why not.
pub async fn connect(destination: &Config) -> Result<bool, String> {
    let (host, port, secured) = endpoint(destination)?;
    let settings = secured.then(|| destination.tls.clone().unwrap_or_default());
    handshake(&host, port, settings.as_ref()).await?;
    Ok(secured)
}

/// Connects to a host, sets TLS up when there are settings for it, and hangs up. Callers bound the time it may take.
///
/// # Errors
/// In words, why not.
pub async fn handshake(host: &str, port: u16, settings: Option<&ClientTls>) -> Result<(), String> {
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|error| format!("{host}:{port} cannot be reached: {error}"))?;
    let Some(settings) = settings else { return Ok(()) };
    let config = tls::client(settings).map_err(|error| error.to_string())?;
    let name = settings.name_for(host).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(config);
    connector.connect(name, stream).await.map(drop).map_err(|error| tls::failure(&error).to_string())
}

/// Host, port, and whether TLS is spoken there.
fn endpoint(destination: &Config) -> Result<(String, u16, bool), String> {
    let unusable = || format!("the address of {} is not usable", destination.name);
    match destination.protocol {
        Protocol::Mllp | Protocol::Dicom => {
            let address = destination.address.as_deref().ok_or_else(unusable)?;
            let (host, port) = address.rsplit_once(':').ok_or_else(unusable)?;
            Ok((host.to_string(), port.parse().map_err(|_| unusable())?, destination.tls.is_some()))
        }
        Protocol::Fhir | Protocol::Stow => {
            let url = destination.url.as_deref().and_then(|url| reqwest::Url::parse(url).ok()).ok_or_else(unusable)?;
            let host = url.host_str().ok_or_else(unusable)?.to_string();
            Ok((host, url.port_or_known_default().ok_or_else(unusable)?, url.scheme() == "https"))
        }
    }
}
