//! Whether a destination can be reached at all, for people who look for what is wrong: nothing is said there but TLS. And
//! whether it would let this box in, before another configuration sends results there: as far as its protocol tells
//! without one.

use super::config::{Config, Protocol};
use super::dial::{dial, tcp, tls_reason};
use super::{dicom, fhir};
use crate::tls::{self, ClientTls};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A receiver that hangs up on whom it does not know, or asks for a certificate first, does so within this time.
const HANGS_UP_WITHIN: Duration = Duration::from_millis(500);

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

/// What a destination says when it is asked without a result.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// What it says of itself, in words, which may be none.
    pub says: String,
    /// What is sent does not go with that, or it says too little to know.
    pub is_doubtful: bool,
}

/// As [`connect`], and asks what the protocol has a question for: C-ECHO, or the CapabilityStatement with the log-in; a
/// FHIR server may offer none (403 or 404), and is there all the same. An MLLP receiver can only be asked with a message:
/// it must not hang up, nor speak first. Callers bound the time it may take.
///
/// # Errors
/// In words, why it would take nothing.
pub async fn greet(destination: &Config) -> Result<Greeting, String> {
    match destination.protocol {
        Protocol::Mllp => {
            let (host, port, _) = endpoint(destination)?;
            let mut stream = dial(host.trim_matches(['[', ']']), port, destination.tls.as_ref()).await?.stream;
            match tokio::time::timeout(HANGS_UP_WITHIN, stream.read(&mut [0])).await {
                Err(_) => Ok(Greeting::default()),
                Ok(Ok(0)) => Err("it hangs up at once".to_string()),
                Ok(Ok(_)) => Err("it speaks first, as no MLLP receiver does".to_string()),
                Ok(Err(error)) => Err(format!("it hangs up at once: {}", tls_reason(&error))),
            }
        }
        Protocol::Dicom => {
            let peer =
                dicom::peer(destination).ok_or_else(|| format!("the address of {} is not usable", destination.name))?;
            dicom::echo(&peer).await.map(|()| Greeting::default()).map_err(|failure| failure.to_string())
        }
        Protocol::Fhir => match fhir::greet(destination).await {
            Err(why) => Err(turned_away(destination).await.unwrap_or(why)),
            said => said,
        },
        Protocol::Stow => {
            fhir::log_in(destination).await?;
            connect(destination).await.map(|_| Greeting::default())
        }
    }
}

/// Why a server hangs up on this box by TLS. Whoever says something first may find the connection reset, and never hear
/// that it was about certificates.
async fn turned_away(destination: &Config) -> Option<String> {
    let (host, port, secured) = endpoint(destination).ok()?;
    let settings = destination.tls.clone().unwrap_or_default();
    let dialled = secured.then(|| dial(host.trim_matches(['[', ']']), port, Some(&settings)))?;
    let mut stream = dialled.await.ok()?.stream;
    match tokio::time::timeout(HANGS_UP_WITHIN, stream.read(&mut [0])).await {
        Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Some(tls_reason(&error)),
        _ => None,
    }
}

/// Connects to a host, sets TLS up when there are settings for it, and hangs up. Callers bound the time it may take.
///
/// # Errors
/// In words, why not.
pub async fn handshake(host: &str, port: u16, settings: Option<&ClientTls>) -> Result<(), String> {
    let stream = tcp(host, port, settings).await.map_err(|why| format!("{host}:{port}: {why}"))?;
    let Some(settings) = settings else { return Ok(()) };
    let config = tls::client(settings).map_err(|error| error.to_string())?;
    let name = settings.name_for(host).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(config);
    connector.connect(name, stream).await.map(drop).map_err(|error| format!("TLS: {}", tls_reason(&error)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ehr::{Ehr, EhrOptions};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// A port whose callers are hung up on, or get this, once they have said something if it is an answer.
    async fn speaks(what: Option<&'static [u8]>, is_answer: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(what) = what else { continue };
                if is_answer {
                    let _ = stream.read(&mut [0; 1024]).await;
                }
                let _ = stream.write_all(what).await;
                let _ = stream.read(&mut [0; 1024]).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn what_would_take_nothing_is_told_without_a_result() {
        crate::tls::provider();
        let mllp = |address: String| Config { address: Some(address), ..Config::new("ehr", Protocol::Mllp) };
        let fhir = |address: &str| Config {
            url: Some(format!("http://{address}/fhir")),
            ..Config::new("ehr", Protocol::Fhir)
        };
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert!(greet(&mllp(silent)).await.is_err(), "nobody listens any more");
        assert!(greet(&mllp(speaks(None, false).await)).await.unwrap_err().contains("hangs up"));
        assert!(greet(&mllp(speaks(Some(b"220 mail\r\n"), false).await)).await.unwrap_err().contains("speaks first"));
        let any = || Some("127.0.0.1:0".to_string());
        let ehr = Ehr::start(EhrOptions { mllp: any(), fhir: any(), ..EhrOptions::default() }).await.unwrap();
        assert_eq!(greet(&mllp(ehr.mllp().unwrap().to_string())).await, Ok(Greeting::default()));
        let said = greet(&fhir(&ehr.fhir().unwrap().to_string())).await.unwrap();
        assert!(said.says.contains("FHIR 4.0.1") && !said.is_doubtful, "{said:?}");
        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwelcome";
        assert!(greet(&fhir(&speaks(Some(page), true).await)).await.unwrap_err().contains("HTTP 200"));
        // It may take results, and keep to itself what it can.
        for keeps_it in [
            &b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found",
        ] {
            let said = greet(&fhir(&speaks(Some(keeps_it), true).await)).await.unwrap();
            assert!(said.says.contains("no CapabilityStatement") && said.is_doubtful, "{said:?}");
        }
        let locked = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
        assert!(
            greet(&fhir(&speaks(Some(locked), true).await)).await.unwrap_err().contains("HTTP 401"),
            "a wrong log-in"
        );
        let broken = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(greet(&fhir(&speaks(Some(broken), true).await)).await.unwrap_err().contains("HTTP 503"));
        let pacs = Config {
            address: Some(speaks(None, false).await),
            called_ae_title: Some("PACS".to_string()),
            ..Config::new("pacs", Protocol::Dicom)
        };
        assert!(greet(&pacs).await.is_err());
        assert!(ehr.arrivals().is_empty());
    }
}
