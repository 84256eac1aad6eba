//! Asking for certificates: EST over HTTPS (RFC 7030), of the desk's endpoint or of a hospital's own server.
//!
//! Each attempt reads files and settings anew and uses a connection of its own; what it trusts is what the site named and
//! what was handed out before. Answers are bounded.

use super::folder::{Folder, Key};
use crate::delivery::fhir;
use crate::tls::{self, ClientTls, Facts, certs_only};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use rustls_pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where EST lies when the address names no path (RFC 7030, 3.2.2).
const EST: &str = "/.well-known/est";
/// A question and its answer take no longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer is a few certificates.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// A server that says "later" and not when is asked again after this, seconds.
const LATER_S: i64 = 60;

/// Where the box asks for its certificate, instead of being given one: it makes a key, shows a code, and once somebody has
/// accepted that at the desk it is let in, renews by itself, and comes back after months. Then [fleet.tls] has a `ca` and
/// neither `cert` nor `key`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Enrol {
    /// Address of the desk's endpoint (`afferent desk enrol serve`), or of another server of EST (RFC 7030), whose path may
    /// be given as well.
    pub url: String,
    /// Name to log in with (HTTP Basic), for servers that want one; a desk does not. Needs `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the password or one-time password of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// What came of asking.
#[derive(Debug)]
pub enum Answer {
    /// The certificate, and what is behind it up to the root, which is left out.
    Chain(Vec<CertificateDer<'static>>),
    /// Ask again after so many seconds.
    Later(i64),
}

/// What the site says of the way to its servers: `[fleet.tls]`.
pub struct Site {
    /// Its authorities.
    pub ca: PathBuf,
    /// The rest of it, of which the proxy counts here.
    pub tls: ClientTls,
}

impl Enrol {
    /// The address, with the path of EST; none when it is no address of HTTPS.
    pub fn base(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok().filter(|url| url.scheme() == "https" && url.host_str().is_some())?;
        let path = match url.path().trim_end_matches('/') {
            "" => EST,
            path => path,
        };
        Some(format!("{}{path}", url.origin().ascii_serialization()))
    }

    /// Asks for a certificate for this key: with the certificate there is (`present`), or without one. What the server
    /// hands out as authorities is kept first.
    ///
    /// # Errors
    /// Why not, in words for a log.
    pub async fn ask(
        &self,
        folder: &Folder,
        site: &Site,
        key: &Key,
        name: &str,
        present: Option<&Path>,
    ) -> Result<Answer, String> {
        let base = self.base().ok_or("[fleet.enrol] `url` is no https address")?;
        let behind = self.authorities(&base, folder, site).await?;
        let client = client(&base, folder, site, present)?;
        let what = if present.is_some() { "simplereenroll" } else { "simpleenroll" };
        let mut request = client.post(format!("{base}/{what}")).header(CONTENT_TYPE, "application/pkcs10");
        request = request.header("content-transfer-encoding", "base64").body(wish(key, name)?);
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = zeroize::Zeroizing::new(tls::read_pem(file).map_err(|error| error.to_string())?);
            let both = [user.as_bytes(), b":", password.trim_ascii()].concat();
            let both = zeroize::Zeroizing::new(both);
            request =
                request.header(reqwest::header::AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(&*both)));
        }
        let response = request.send().await.map_err(|error| fhir::transport_reason(&error))?;
        let (status, later) = (response.status(), response.headers().get(RETRY_AFTER).cloned());
        let later = later.as_ref().and_then(|value| fhir::pause(value.to_str().ok()?, Timestamp::now()));
        match status {
            StatusCode::OK => {
                let own = certificates(response).await?.into_iter().next().ok_or("the server sends no certificate")?;
                Ok(Answer::Chain(chain(own, &behind)))
            }
            StatusCode::ACCEPTED => Ok(Answer::Later(later.map_or(LATER_S, |pause| pause.as_secs() as i64))),
            StatusCode::UNAUTHORIZED => {
                Err("the server does not know us (401); are `user` and `password_file` right?".into())
            }
            StatusCode::FORBIDDEN if present.is_none() => {
                Err("the server does not let this box in (403); are `user` and `password_file` right?".into())
            }
            StatusCode::FORBIDDEN => Err("the server does not renew what this box has (403)".into()),
            status => Err(format!("the server answers {status}")),
        }
    }

    /// Fetches and keeps the authorities (4.1.2), and says what it hands out beside roots.
    async fn authorities(
        &self,
        base: &str,
        folder: &Folder,
        site: &Site,
    ) -> Result<Vec<CertificateDer<'static>>, String> {
        let client = client(base, folder, site, None)?;
        let response = client.get(format!("{base}/cacerts")).send().await;
        let response = response.map_err(|error| fhir::transport_reason(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server answers {} when asked for its authorities", response.status()));
        }
        let is_root = |der: &CertificateDer<'_>| Facts::of(der).is_some_and(|facts| facts.is_self_issued());
        let (roots, behind): (Vec<_>, Vec<_>) = certificates(response).await?.into_iter().partition(is_root);
        let mut trusted = rustls::RootCertStore::empty();
        if roots.is_empty() || roots.iter().any(|root| trusted.add(root.clone()).is_err()) {
            return Err("the server hands out authorities that cannot be used".into());
        }
        folder.keep_anchors(&roots).and_then(|()| folder.trust(&site.ca)).map_err(|error| error.to_string())?;
        Ok(behind)
    }
}

/// A client that trusts whom the box trusts, and shows this certificate.
fn client(base: &str, folder: &Folder, site: &Site, present: Option<&Path>) -> Result<Client, String> {
    let trust = folder.trust(&site.ca).map_err(|error| error.to_string())?;
    let (cert, key) = (present.map(Path::to_path_buf), present.map(Path::to_path_buf));
    let tls = ClientTls { ca: Some(trust), server_name: None, cert, key, ..site.tls.clone() };
    let url = Url::parse(base).map_err(|_| "[fleet.enrol] `url` is no https address")?;
    let client = fhir::http_client(&url, Some(&tls))?.timeout(TIMEOUT).build();
    client.map_err(|error| fhir::transport_reason(&error))
}

/// PKCS#10 in base64 (4.2.1).
fn wish(key: &Key, name: &str) -> Result<String, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(key.pair()).map_err(|error| error.to_string())?;
    Ok(BASE64_STANDARD.encode(request.der()))
}

/// Certificates in certs-only PKCS#7 in base64.
async fn certificates(response: reqwest::Response) -> Result<Vec<CertificateDer<'static>>, String> {
    let body = fhir::body_within(response, ANSWER_MAX_BYTES).await.map_err(|_| "the server's answer broke off")?;
    let text: Vec<u8> = body.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64_STANDARD.decode(text).map_err(|_| "the server's answer is not base64")?;
    certs_only::read(&der).ok_or_else(|| "the server's answer is no PKCS#7 of certificates".to_string())
}

/// A certificate and its issuers among these, up to one whose issuer is not there.
fn chain(own: CertificateDer<'static>, behind: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![own];
    while chain.len() <= behind.len()
        && let Some(facts) = chain.last().and_then(|last| Facts::of(last))
        && let Some(issuer) = behind.iter().find(|der| Facts::of(der).is_some_and(|of| of.subject == facts.issuer))
    {
        chain.push(issuer.clone());
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_a_path_and_must_be_https() {
        let base = |url: &str| Enrol { url: url.to_string(), ..Enrol::default() }.base();
        assert_eq!(base("https://desk.example:8443").as_deref(), Some("https://desk.example:8443/.well-known/est"));
        assert_eq!(base("https://desk.example/").as_deref(), Some("https://desk.example/.well-known/est"));
        let labelled = "https://est.example/.well-known/est/lab";
        assert_eq!(base(labelled).as_deref(), Some(labelled));
        for wrong in ["", "desk.example:8443", "http://desk.example", "https://"] {
            assert_eq!(base(wrong), None, "{wrong}");
        }
    }
}
