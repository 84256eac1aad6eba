//! The cookie of a session: what a browser keeps between two requests.

use crate::access::hash;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{self, HeaderMap};
use zeroize::Zeroizing;

/// Only this host over TLS can have set it (RFC 6265bis, 4.1.3.2).
const PREFIX: &str = "__Host-session-";
const RULES: &str = "Secure; HttpOnly; SameSite=Strict; Path=/";
/// Bytes of the digest in its name.
const DIGEST_BYTES: usize = 6;

/// The cookie of a box. Browsers keep cookies by the name of a host, whatever the port: two boxes that are both seen as
/// `localhost`, through ssh, have different names for theirs.
pub struct Cookie {
    name: String,
}

impl Cookie {
    /// Of the box of this name.
    pub fn of(place: &str) -> Cookie {
        Cookie { name: format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&hash(place)[..DIGEST_BYTES])) }
    }

    /// What a browser is told to keep.
    pub fn with(&self, id: &str) -> String {
        format!("{}={id}; {RULES}", self.name)
    }

    /// What a browser is told to forget it with.
    pub fn without(&self) -> String {
        format!("{}=; Max-Age=0; {RULES}", self.name)
    }

    /// What it says; nothing where there are two of that name.
    pub fn said(&self, headers: &HeaderMap) -> Zeroizing<String> {
        let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut ours = pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        let first = ours.next().unwrap_or_default();
        Zeroizing::new(if ours.next().is_some() { String::new() } else { first.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn it_is_the_one_of_this_box() {
        let ours = Cookie::of("bench-1");
        let other = Cookie::of("bench-2");
        let named = |cookie: &Cookie, id: &str| cookie.with(id).split(';').next().unwrap().to_string();
        let (abc, def) = (named(&ours, "abc"), named(&ours, "def"));
        assert!(abc.starts_with(PREFIX) && abc.ends_with("=abc"), "{abc}");
        for (said, answer) in [
            (vec![abc.clone()], "abc"),
            (vec![format!("a=b; {abc}; c=d")], "abc"),
            (vec!["a=b".to_string(), abc.clone()], "abc"),
            (vec![format!("{}; {abc}", named(&other, "def"))], "abc"),
            (vec![format!("{abc}; {def}")], ""),
            (vec![abc.clone(), def], ""),
            (vec![named(&other, "abc")], ""),
            (vec!["__Host-session-=abc".to_string()], ""),
            (vec![format!("x{abc}")], ""),
            (vec![abc.replace('=', "")], ""),
            (vec![], ""),
        ] {
            let mut headers = HeaderMap::new();
            for value in &said {
                headers.append(header::COOKIE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(ours.said(&headers).as_str(), answer, "{said:?}");
        }
    }
}
