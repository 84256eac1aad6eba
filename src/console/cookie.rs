//! The cookie of a session: what a browser keeps between two requests.

use crate::access::random;
use crate::disk;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{self, HeaderMap};
use std::io::{Error, Read, Result};
use std::path::Path;
use zeroize::Zeroizing;

/// Only this host over TLS can have set it (RFC 6265bis, 4.1.3.2).
const PREFIX: &str = "__Host-session-";
const RULES: &str = "Secure; HttpOnly; SameSite=Strict; Path=/";
/// The end of its name, in the data directory.
pub(super) const FILE: &str = "console.cookie";
/// Characters of that, and the random bytes that they are made of.
const NAME_LENGTH: usize = 8;
const NAME_BYTES: usize = 6;

/// The cookie of a box. Browsers keep cookies by the name of a host, whatever the port: two boxes that are both seen as
/// `localhost`, through ssh, have different names for theirs, also where they are called the same.
pub struct Cookie {
    name: String,
}

impl Cookie {
    /// Of the box with this data directory, which keeps its name, so that browsers do not collect one of each start.
    ///
    /// # Errors
    /// It cannot be kept, or the system has no random numbers.
    pub fn of(data: &Path) -> Result<Cookie> {
        let end = disk::as_owner_of(data, || {
            let file = data.join(FILE);
            if let Some(end) = kept(&file) {
                return Ok(end);
            }
            let end = BASE64_URL_SAFE_NO_PAD.encode(random::<NAME_BYTES>().map_err(Error::other)?);
            disk::replace(&file, end.as_bytes()).map(|()| end)
        });
        Ok(Cookie { name: format!("{PREFIX}{}", end.flatten()?) })
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

/// The end of a name that can be one.
fn kept(file: &Path) -> Option<String> {
    let mut end = String::new();
    disk::open_regular(file).ok()?.take(NAME_LENGTH as u64 + 1).read_to_string(&mut end).ok()?;
    let is_plain = end.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    Some(end).filter(|end| end.len() == NAME_LENGTH && is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_box_keeps_its_name_and_no_other_has_it() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let name = |dir: &tempfile::TempDir| Cookie::of(dir.path()).unwrap().name;
        let first = name(&dir);
        assert_eq!((name(&dir), first.len()), (first.clone(), PREFIX.len() + NAME_LENGTH));
        assert_ne!(name(&other), first);
        for damaged in ["", "short", "longer-than-that", "a=b; c=d", "a\r\nb: c\r\n"] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let made = name(&dir);
            assert!(made != first && made == name(&dir) && made.len() == first.len(), "{damaged:?}: {made}");
        }
        assert!(Cookie::of(&dir.path().join("none")).is_err());
    }

    #[test]
    fn it_is_the_one_of_this_box() {
        let [ours, other] = ["A", "B"].map(|name| Cookie { name: format!("{PREFIX}{name}") });
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
