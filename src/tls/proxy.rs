//! The HTTP proxy on the way to a peer, where a site lets nothing out but through one. It is asked for a tunnel (CONNECT,
//! RFC 9110, 9.3.6), in which TLS goes from end to end: it sees whom we call, and nothing of what is said.

use super::{TlsError, read_pem};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest password, bytes.
const PASSWORD_MAX: usize = 256;

/// An HTTP proxy, and who we are to it.
#[derive(Debug, Clone)]
pub struct Proxy {
    uri: Uri,
    /// `Proxy-Authorization` (RFC 7617).
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy at this address; the password is read.
    ///
    /// # Errors
    /// [`TlsError`] when that is no address of a proxy, only one of user and file is given, or it cannot be read.
    pub fn new(url: &str, user: Option<&str>, password_file: Option<&Path>) -> Result<Proxy, TlsError> {
        // What stands before an @ may be a password.
        let wrong = || TlsError::Proxy { url: url.rsplit('@').next().unwrap_or_default().to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_proxy = uri.scheme_str() == Some("http")
            && uri.port_u16().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !is_proxy {
            return Err(wrong());
        }
        let authorization = match (user, password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some(basic(user, file)?),
            _ => return Err(TlsError::HalfProxyUser),
        };
        Ok(Proxy { uri, authorization })
    }

    /// What asks it for a tunnel.
    pub fn tunnel<C>(self, connector: C) -> Tunnel<C> {
        let tunnel = Tunnel::new(self.uri, connector);
        match self.authorization {
            Some(header) => tunnel.with_auth(header),
            None => tunnel,
        }
    }

    /// The same for an HTTP client.
    ///
    /// # Errors
    /// [`TlsError::Proxy`].
    pub fn for_http(self) -> Result<reqwest::Proxy, TlsError> {
        let url = self.uri.to_string();
        let proxy = reqwest::Proxy::https(&url).map_err(|_| TlsError::Proxy { url })?;
        Ok(match self.authorization {
            Some(header) => proxy.custom_http_auth(header),
            None => proxy,
        })
    }
}

fn basic(user: &str, file: &Path) -> Result<HeaderValue, TlsError> {
    let password = Zeroizing::new(read_pem(file)?);
    let password = password.trim_ascii();
    // A key that somebody named by mistake goes to no proxy.
    if password.len() > PASSWORD_MAX || !password.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(TlsError::ProxyPassword { file: file.to_path_buf() });
    }
    let both = Zeroizing::new([user.as_bytes(), b":", password].concat());
    let header = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*both)));
    let mut header = HeaderValue::from_str(&header).map_err(|_| TlsError::HalfProxyUser)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_proxy_is_told() {
        let at = |url: &str| Proxy::new(url, None, None);
        assert!(at("http://proxy.example:3128").is_ok() && at("http://[::1]:3128/").is_ok());
        for wrong in ["proxy.example:3128", "https://proxy.example:3128", "http://proxy.example", "http://a:b@p:1", ""]
        {
            let said = at(wrong).unwrap_err().to_string();
            assert!(said.contains("http://proxy.example:3128") && !said.contains("a:b"), "{wrong}: {said}");
        }
        assert!(Proxy::new("http://proxy.example:3128", Some("box"), None).is_err());
        let dir = tempfile::tempdir().unwrap();
        let (_, key) =
            super::super::throwaway::Authority::new().unwrap().client("box").unwrap().write(dir.path(), "box").unwrap();
        let said = Proxy::new("http://proxy.example:3128", Some("box"), Some(&key)).unwrap_err().to_string();
        assert!(said.contains("one line"), "a key is told no proxy: {said}");
    }
}
