//! The fetch of a release: one file, over HTTPS, from where it was left.
//!
//! What counts is the hash that the manifest names, so a server can only waste time, and not much of that: no more
//! bytes than the manifest says are ever written, and what does not fit the range that was asked for is fetched from
//! the start. The journal's room is never touched (invariant I12): the fetch begins, and goes on, only while what is
//! still to come fits beside what the journal keeps free.

use crate::delivery::fhir;
use crate::tls::{self, ClientTls};
use crate::wire::hex;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode, Url};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The disk's room is looked at again after so many bytes.
const ROOM_EVERY: u64 = 1 << 20;
/// Bytes read at once for hashing.
const BLOCK: usize = 64 << 10;

/// What is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// From where.
    pub url: &'a str,
    /// Its length, bytes.
    pub length: u64,
}

/// How much it may take.
pub struct Limits<'a> {
    /// Bytes a second; 0 is no limit.
    pub bytes_s: u64,
    /// Bytes that may still be written without touching what the journal keeps free.
    pub room: &'a (dyn Fn() -> u64 + Sync),
}

/// Why it is not here yet.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Try again later: what is here stays.
    #[error("{0}")]
    Later(String),
    /// The server sends something else: what was here is gone.
    #[error("{0}")]
    Wrong(String),
    /// It would take room that the journal keeps free.
    #[error("there is no room for the release beside what the journal keeps free")]
    NoRoom,
    /// The disk fails.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

/// Fetches into `file`, behind what is there already, until it has the whole length and is on disk.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    wanted: Wanted<'_>,
    file: &Path,
    limits: &Limits<'_>,
    settings: Option<&ClientTls>,
) -> Result<(), FetchError> {
    let mut out = OpenOptions::new().create(true).append(true).open(file)?;
    let mut have = out.metadata()?.len();
    if have > wanted.length {
        have = begin_anew(&mut out)?;
    }
    if (limits.room)() < wanted.length - have {
        return Err(FetchError::NoRoom);
    }
    if have < wanted.length {
        receive(wanted, &mut out, &mut have, limits, settings).await?;
    }
    out.sync_all()?;
    Ok(())
}

async fn receive(
    wanted: Wanted<'_>,
    out: &mut File,
    have: &mut u64,
    limits: &Limits<'_>,
    settings: Option<&ClientTls>,
) -> Result<(), FetchError> {
    let url = Url::parse(wanted.url).map_err(|error| FetchError::Wrong(error.to_string()))?;
    let mut request = client(&url, settings).map_err(FetchError::Later)?.get(url);
    if *have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let later = |error: reqwest::Error| FetchError::Later(format!("the server does not answer: {error}"));
    let answer = tokio::time::timeout(SILENCE_MAX, request.send()).await;
    let mut answer = answer.map_err(|_| FetchError::Later("the server says nothing".to_string()))?.map_err(later)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if *have > 0 => {
            let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let fits = format!("bytes {have}-{}/{}", wanted.length - 1, wanted.length);
            if range != Some(fits.as_str()) {
                begin_anew(out)?;
                return Err(FetchError::Wrong("the server sends another part than was asked for".to_string()));
            }
        }
        // It does not know ranges, or the part is not its to give: the whole comes.
        StatusCode::OK => *have = begin_anew(out)?,
        StatusCode::RANGE_NOT_SATISFIABLE => {
            begin_anew(out)?;
            return Err(FetchError::Wrong("the server's file is shorter".to_string()));
        }
        other => return Err(FetchError::Later(format!("the server answers {other}"))),
    }
    let (began, from, mut looked) = (Instant::now(), *have, *have);
    loop {
        let chunk = tokio::time::timeout(SILENCE_MAX, answer.chunk()).await;
        let chunk = chunk.map_err(|_| FetchError::Later("the server has gone silent".to_string()))?;
        let Some(chunk) = chunk.map_err(|error| FetchError::Later(format!("the connection broke: {error}")))? else {
            break;
        };
        if *have + chunk.len() as u64 > wanted.length {
            begin_anew(out)?;
            return Err(FetchError::Wrong("the server's file is longer than the manifest says".to_string()));
        }
        out.write_all(&chunk)?;
        *have += chunk.len() as u64;
        if *have - looked >= ROOM_EVERY {
            looked = *have;
            if (limits.room)() < wanted.length - *have {
                return Err(FetchError::NoRoom);
            }
        }
        if let Some(due_ms) = ((*have - from) * 1000).checked_div(limits.bytes_s) {
            tokio::time::sleep_until((began + Duration::from_millis(due_ms)).into()).await;
        }
    }
    match *have == wanted.length {
        true => Ok(()),
        false => Err(FetchError::Later(format!("the connection ended after {have} bytes"))),
    }
}

/// What is here is of no use.
fn begin_anew(out: &mut File) -> std::io::Result<u64> {
    out.set_len(0)?;
    out.seek(SeekFrom::Start(0))
}

fn client(url: &Url, settings: Option<&ClientTls>) -> Result<Client, String> {
    let is_secured = url.scheme() == "https";
    let tls = match is_secured {
        true => tls::client(&settings.cloned().unwrap_or_default()),
        false => tls::trusting_nobody(),
    };
    let builder = fhir::through_proxy(settings)?
        .tls_backend_preconfigured(rustls::ClientConfig::clone(&*tls.map_err(|error| error.to_string())?))
        .https_only(is_secured)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("afferent/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| error.to_string())
}

/// The SHA-256 of a file, in lower-case hexadecimal digits, and its length.
///
/// # Errors
/// It cannot be read.
pub fn digest(file: &Path) -> std::io::Result<(String, u64)> {
    let mut file = File::open(file)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut block, mut length) = (vec![0; BLOCK], 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok((hex::digits(digest.finish().as_ref()), length));
        }
        digest.update(&block[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests;
