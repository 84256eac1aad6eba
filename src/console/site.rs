//! Which page answers a request, and what is asked of a request before one does:
//!
//! - a form comes from a page of this very host (`Sec-Fetch-Site`, `Origin`), and says for which session it was made: another
//!   site can neither have a browser send one nor know what it says;
//! - an address has so many tries ([`Door::knock`]), and one password at a time is computed, whoever asks: each takes
//!   19 MB;
//! - whoever is not in is sent to where they get in.

use super::answer::{Answer, COOKIE};
use super::layout::{ASSETS, Assets, Frame};
use super::{Console, account, invitation, login, overview, second_factor};
use crate::access::{AccessError, Accounts, AccountsFile, Door, Fresh, Refusal, Session, Stage, random};
use crate::page::{Asked, Feed, Payload, Site, Ticks};
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

/// Nobody waits longer for their turn.
const TURN_MAX: Duration = Duration::from_secs(20);
const FORM_FIELDS_MAX: usize = 16;

/// The console of a box.
pub struct ConsoleSite {
    console: Arc<Console>,
    place: String,
    file: Arc<AccountsFile>,
    door: Mutex<Door>,
    turn: Semaphore,
    assets: Assets,
    began: Instant,
}

/// Why there is no answer of a page.
pub(super) enum Stop {
    /// The accounts cannot be read or changed.
    Access(AccessError),
    /// Too many ask at once.
    Busy,
}

impl From<AccessError> for Stop {
    fn from(error: AccessError) -> Stop {
        Stop::Access(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Access(AccessError::Refused(refusal))
    }
}

/// A request, and whose it is.
pub(super) struct Visit {
    /// Where it comes from.
    pub peer: IpAddr,
    /// The accounts as they are.
    pub accounts: Arc<Accounts>,
    /// Whose it is.
    pub session: Option<Session>,
    cookie: Zeroizing<String>,
    fields: Vec<(String, Zeroizing<String>)>,
}

impl Visit {
    /// What a form says; nothing where it does not say it.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// What the cookie says.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }
}

impl ConsoleSite {
    /// This console, for whoever has an account in this data directory. `place`: the name of the box.
    pub fn new(console: Arc<Console>, place: String, data: &Path) -> Arc<ConsoleSite> {
        Arc::new(ConsoleSite {
            console,
            place,
            file: Arc::new(AccountsFile::of(data)),
            door: Mutex::default(),
            turn: Semaphore::new(1),
            assets: Assets::new(),
            began: Instant::now(),
        })
    }

    pub(super) fn frame(&self) -> Frame<'_> {
        Frame { assets: &self.assets, place: &self.place }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accounts(&self) -> Result<Arc<Accounts>, AccessError> {
        self.file.now()
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn fresh(&self) -> Result<Fresh, AccessError> {
        Ok(Fresh { id: random()?, form: random()? })
    }

    /// One at a time tries a password or a code: nobody gets tries by asking many times at once, and one hash is in memory.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Stop> {
        let turn = tokio::time::timeout(TURN_MAX, self.turn.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(Stop::Busy)
    }

    /// Beside what answers others.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stop> {
        tokio::task::spawn_blocking(work).await.map_err(|_| Stop::Busy)
    }

    /// Changes accounts; what is decided is on the disk then.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Accounts) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Stop> {
        let file = self.file.clone();
        Ok(self.compute(move || file.change(decide)).await??)
    }

    async fn answer_to(self: &Arc<Self>, asked: Asked) -> Result<Answer, Stop> {
        let path = asked.path.as_str();
        let Some(methods) = methods(path) else {
            return Ok(Answer::sentence(StatusCode::NOT_FOUND, "there is nothing here"));
        };
        if !methods.split(", ").any(|method| method == asked.method.as_str()) {
            return Ok(Answer::only(methods));
        }
        if path.starts_with(ASSETS) {
            return Ok(self.asset(path));
        }
        let body = match &asked.body {
            Ok(body) => body,
            Err(status) => return Ok(Answer::sentence(*status, wrong_body(*status)).with(header::CONNECTION, "close")),
        };
        let is_form = asked.method == Method::POST;
        if is_form && !is_from_here(&asked.headers) {
            return Ok(Answer::sentence(StatusCode::FORBIDDEN, "this form is not of a page of this box"));
        }
        // Whoever wants to leave may, however much others try from there.
        if is_form
            && path != "/logout"
            && let Err(wait) = self.door().knock(asked.peer, self.now())
        {
            let seconds = wait.as_secs() + 1;
            let sentence = format!("too many tries from here: wait {seconds} seconds, go back and try again");
            let answer = Answer::sentence(StatusCode::TOO_MANY_REQUESTS, &sentence);
            return Ok(answer.with(header::RETRY_AFTER, &seconds.to_string()));
        }
        let cookie = cookie(&asked.headers);
        let accounts = self.accounts()?;
        let session = self.door().find(&accounts, &cookie, path != "/box", self.now());
        let fields = form_urlencoded::parse(body).take(FORM_FIELDS_MAX);
        let fields = fields.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect();
        let visit = Visit { peer: asked.peer, accounts, session, cookie, fields };
        // Where there is no session yet, there is nothing of it that another site could use.
        let is_made_for = visit.session.as_ref().is_none_or(|session| session.made(visit.field("form")));
        if is_form && !is_made_for && path != "/login" {
            let sentence = "this form was made for another log-in: go back, load the page anew and try again";
            return Ok(Answer::sentence(StatusCode::FORBIDDEN, sentence));
        }
        self.page(path, is_form, &visit).await
    }

    async fn page(self: &Arc<Self>, path: &str, is_form: bool, visit: &Visit) -> Result<Answer, Stop> {
        match (path, is_form) {
            ("/login", false) => return Ok(login::shown(self, visit)),
            ("/login", true) => return login::take(self, visit).await,
            ("/invitation", false) => return Ok(invitation::shown(self, visit)),
            ("/invitation", true) => return invitation::take(self, visit).await,
            ("/logout", _) => {
                self.door().close(visit.cookie());
                return Ok(Answer::on_to("/login").without_session());
            }
            _ => {}
        }
        let Some(session) = &visit.session else {
            // A script that asks is told so; a person is shown where to log in.
            let out = Answer::sentence(StatusCode::UNAUTHORIZED, "log in anew");
            return Ok(if path == "/box" { out } else { Answer::on_to("/login") });
        };
        match (path, is_form, &session.stage) {
            ("/second-factor", false, Stage::Password) => Ok(second_factor::shown(self, session)),
            ("/second-factor", true, Stage::Password) => second_factor::take(self, visit, session).await,
            ("/second-factor", _, Stage::Whole) => Ok(Answer::on_to("/")),
            ("/box", _, Stage::Password | Stage::Invited(_)) => {
                Ok(Answer::sentence(StatusCode::UNAUTHORIZED, "log in first"))
            }
            (_, _, Stage::Password) => Ok(Answer::on_to("/second-factor")),
            (_, _, Stage::Invited(_)) => Ok(Answer::on_to("/invitation")),
            ("/account", false, Stage::Whole) => Ok(account::shown(self, visit, session)),
            ("/account", true, Stage::Whole) => account::take(self, visit, session).await,
            ("/box", _, Stage::Whole) => {
                let following = Following { site: self.clone(), cookie: visit.cookie.clone() };
                Ok(Answer::stream(Payload::stream(Arc::new(following))))
            }
            (_, _, Stage::Whole) => Ok(overview::shown(self, session)),
        }
    }

    fn asset(&self, path: &str) -> Answer {
        let Assets { style, script } = &self.assets;
        match path {
            _ if path == style.path => Answer::asset("text/css; charset=utf-8", &style.text),
            _ if path == script.path => Answer::asset("text/javascript; charset=utf-8", &script.text),
            _ => Answer::sentence(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

impl Site for ConsoleSite {
    fn answer(self: Arc<Self>, asked: Asked) -> BoxFuture<'static, Response<Payload>> {
        Box::pin(async move {
            let answer = match self.answer_to(asked).await {
                Ok(answer) => answer,
                Err(Stop::Busy) => {
                    let sentence = "too many people log in at once: wait a little, go back and try again";
                    Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, sentence).with(header::RETRY_AFTER, "10")
                }
                Err(Stop::Access(error)) => {
                    tracing::warn!("the accounts cannot be used: {error}");
                    Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("the accounts cannot be used: {error}"))
                }
            };
            answer.response()
        })
    }
}

/// What somebody who is in follows, for as long as they are.
struct Following {
    site: Arc<ConsoleSite>,
    cookie: Zeroizing<String>,
}

impl Feed for Following {
    fn follow(&self) -> (Arc<str>, Ticks) {
        self.site.console.follow()
    }

    fn goes_on(&self) -> bool {
        let Ok(accounts) = self.site.accounts() else { return false };
        self.site.door().find(&accounts, &self.cookie, false, self.site.now()).is_some()
    }
}

/// How a page is asked for; none where there is none.
fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/" | "/box" => Some("GET"),
        "/login" | "/second-factor" | "/invitation" | "/account" => Some("GET, POST"),
        "/logout" => Some("POST"),
        _ if path.starts_with(ASSETS) => Some("GET"),
        _ => None,
    }
}

fn wrong_body(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "this is larger than any form of this box",
        StatusCode::REQUEST_TIMEOUT => "this came in too slowly",
        _ => "this cannot be read",
    }
}

/// Whether a form was sent by a page of this host. With `no-referrer` browsers say `null` as the origin of a form, so that
/// what they say of the site counts (Fetch Metadata); those that do not say that name the origin.
fn is_from_here(headers: &HeaderMap) -> bool {
    let said = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = said(header::ORIGIN);
    let here = said(header::HOST).map(|host| format!("https://{host}"));
    let is_here = |origin: &str| here.as_deref() == Some(origin);
    match said(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin" && origin.is_none_or(|origin| origin == "null" || is_here(origin)),
        None => origin.is_some_and(is_here),
    }
}

/// What the cookie of the session says; nothing where there are two of that name.
fn cookie(headers: &HeaderMap) -> Zeroizing<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value);
    let first = ours.next().unwrap_or_default();
    Zeroizing::new(if ours.next().is_some() { String::new() } else { first.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let named = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in all.iter().map(named) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_form_is_of_a_page_of_this_host() {
        const HOST: (&str, &str) = ("host", "box.lab:9440");
        const SITE: &str = "sec-fetch-site";
        for (said, answer) in [
            (&[HOST, (SITE, "same-origin"), ("origin", "null")][..], true),
            (&[HOST, (SITE, "same-origin"), ("origin", "https://box.lab:9440")], true),
            (&[HOST, (SITE, "same-origin")], true),
            (&[HOST, ("origin", "https://box.lab:9440")], true),
            (&[HOST], false),
            (&[HOST, ("origin", "null")], false),
            (&[HOST, ("origin", "http://box.lab:9440")], false),
            (&[HOST, ("origin", "https://box.lab")], false),
            (&[HOST, ("origin", "https://box.lab:9440.evil")], false),
            (&[HOST, (SITE, "same-site"), ("origin", "https://box.lab:9440")], false),
            (&[HOST, (SITE, "cross-site"), ("origin", "null")], false),
            (&[HOST, (SITE, "none")], false),
            (&[HOST, (SITE, "same-origin"), ("origin", "https://evil")], false),
            (&[("origin", "https://box.lab:9440")], false),
            (&[], false),
        ] {
            assert_eq!(is_from_here(&headers(said)), answer, "{said:?}");
        }
    }

    #[test]
    fn the_cookie_is_the_one_of_that_name() {
        for (said, answer) in [
            (&[("cookie", "__Host-session=abc")][..], "abc"),
            (&[("cookie", "a=b; __Host-session=abc; c=d")], "abc"),
            (&[("cookie", "a=b"), ("cookie", "__Host-session=abc")], "abc"),
            (&[("cookie", "__Host-session=abc; __Host-session=def")], ""),
            (&[("cookie", "session=abc")], ""),
            (&[("cookie", "x__Host-session=abc")], ""),
            (&[("cookie", "__Host-session")], ""),
            (&[], ""),
        ] {
            assert_eq!(cookie(&headers(said)).as_str(), answer, "{said:?}");
        }
    }
}
