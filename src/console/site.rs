//! Which page answers a request, and what is asked of a request before one does:
//!
//! - a form comes from a page of this very host (`Sec-Fetch-Site`, `Origin`), and says for which session it was made: another
//!   site can neither have a browser send one nor know what it says;
//! - an address has so many tries ([`Door::knock`]), but for loopback, from which everybody comes through ssh, and for who
//!   is in; and one password or code at a time is tried, whoever asks: each password takes 19 MB;
//! - whoever is not in is sent to where they get in.

use super::answer::Answer;
use super::cookie::Cookie;
use super::layout::{ASSETS, Assets, Frame};
use super::{Console, account, invitation, login, overview, second_factor};
use crate::access::{AccessError, Accounts, AccountsFile, Door, Fresh, Passed, Refusal, Session, Stage, Stamp, random};
use crate::audit::{self, Act};
use crate::page::{Asked, Feed, Payload, Site, Ticks};
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Nobody waits longer for their turn.
const TURN_MAX: Duration = Duration::from_secs(20);
/// So many of those who have no session yet wait for it at once, and so many of those who have one; whoever comes then is
/// told to come again at once. Whoever waits has a place of the server that nobody else can have, and there are several
/// times as many.
const WAITING_MAX: usize = 8;
const FORM_FIELDS_MAX: usize = 16;
/// The log has a line of who was refused this often: anybody can have themselves refused as fast as they like.
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

/// The console of a box.
pub struct ConsoleSite {
    console: Arc<Console>,
    place: String,
    data: PathBuf,
    file: AccountsFile,
    door: Mutex<Door>,
    turn: Arc<Semaphore>,
    /// Places of those who wait for their turn and have no session yet, and of those who have one.
    waiting: [Semaphore; 2],
    assets: Assets,
    cookie: Cookie,
    is_certified: bool,
    began: Instant,
    /// Why the accounts cannot be used, as it was logged.
    told: Mutex<String>,
    refusals: Mutex<Refusals>,
}

/// When the log has the next line of who was refused, and how many it has not told of since the last.
#[derive(Default)]
struct Refusals {
    next: Duration,
    untold: u64,
}

impl Refusals {
    /// One more; to be told of with how many others, or not at all.
    fn more(&mut self, now: Duration) -> Option<u64> {
        if now < self.next {
            self.untold += 1;
            return None;
        }
        self.next = now + REFUSAL_EVERY;
        Some(std::mem::take(&mut self.untold))
    }
}

/// Why there is no answer of a page.
pub(super) enum Stop {
    /// The accounts cannot be read or changed.
    Access(AccessError),
    /// It is not to be done.
    Refused(Refusal),
    /// Too many ask at once.
    Busy,
}

impl From<AccessError> for Stop {
    fn from(error: AccessError) -> Stop {
        match error {
            AccessError::Refused(refusal) => Stop::Refused(refusal),
            error => Stop::Access(error),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
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
    /// This console, for whoever has an account in this data directory. `place`: the name of the box. `is_certified`: with
    /// a certificate that others have signed, so that browsers are told to insist on it; with one that the box has made
    /// for itself they would not let anybody in after the next one.
    ///
    /// # Errors
    /// The name of its cookie cannot be kept in the data directory.
    pub fn new(
        console: Arc<Console>,
        place: String,
        data: &Path,
        is_certified: bool,
    ) -> std::io::Result<Arc<ConsoleSite>> {
        Ok(Arc::new(ConsoleSite {
            console,
            cookie: Cookie::of(data)?,
            place,
            data: data.to_path_buf(),
            file: AccountsFile::of(data),
            door: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: [WAITING_MAX; 2].map(Semaphore::new),
            assets: Assets::new(),
            is_certified,
            began: Instant::now(),
            told: Mutex::default(),
            refusals: Mutex::default(),
        }))
    }

    pub(super) fn frame(&self) -> Frame<'_> {
        Frame { assets: &self.assets, place: &self.place }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    /// Nobody reads the disk as long as they hold this.
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
    /// The work is all of it, from the look whether it counts to the count: it goes on when whoever asked hangs up, and the
    /// next one waits until it is done. Who has this session waits for none but those before them, however many have
    /// none and try.
    pub(super) async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        session: Option<&Session>,
        work: impl FnOnce(&ConsoleSite) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, Stop> {
        let waiting = self.waiting[usize::from(session.is_some())].try_acquire().map_err(|_| Stop::Busy)?;
        let turn = tokio::time::timeout(TURN_MAX, self.turn.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Stop::Busy)?;
        drop(waiting);
        let site = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&site)
        });
        done.await.map_err(|_| Stop::Busy)?
    }

    /// Changes accounts; what is decided is on the disk then. Only that ends a trouble that the log was told of: accounts
    /// that can be read may still be none that can be written, or noted.
    pub(super) fn change<T: Send>(
        &self,
        decide: impl FnOnce(&mut Accounts) -> Result<T, AccessError> + Send,
    ) -> Result<T, AccessError> {
        self.file.change(decide).inspect(|_| self.told().clear())
    }

    /// Whose request it is now that it is their turn: whoever asked twice at once finds that the first has ended the
    /// session, and spends nothing.
    pub(super) fn session_of(&self, visit: &Visit) -> Result<Session, Stop> {
        let accounts = self.accounts()?;
        self.door().find(&accounts, visit.cookie(), true, self.now()).ok_or(Stop::Refused(Refusal::Changed))
    }

    /// [`Door::pass`], with the accounts as they are: in their turn, so that nothing comes between what is on the disk
    /// and this.
    pub(super) fn pass(&self, visit: &Visit, on: &Stamp) -> Result<Option<Passed>, Stop> {
        let (accounts, fresh) = (self.accounts()?, self.fresh()?);
        Ok(self.door().pass(&accounts, (visit.cookie(), visit.peer), on, &fresh, self.now()))
    }

    /// Notes in the record of the box what is about to be done; what cannot be noted is not done. It waits for the disk.
    pub(super) fn note(&self, by: &str, act: Act) -> Result<(), AccessError> {
        audit::note(&self.data, by, act).map_err(AccessError::Unnoted)
    }

    /// Notes what came to nothing, beside the answer: how long that takes, and whether there is one, must not say that
    /// there was something to note.
    pub(super) fn note_beside(&self, by: &str, act: Act) {
        let (data, by) = (self.data.clone(), by.to_string());
        drop(tokio::task::spawn_blocking(move || audit::note_or_tell(&data, &by, act)));
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
        let cookie = self.cookie.said(&asked.headers);
        let accounts = self.accounts()?;
        let session = self.door().find(&accounts, &cookie, path != "/box", self.now());
        let fields = form_urlencoded::parse(body).take(FORM_FIELDS_MAX);
        let fields = fields.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect();
        let visit = Arc::new(Visit { peer: asked.peer.to_canonical(), accounts, session, cookie, fields });
        let made = visit.session.as_ref().map(|session| (session.is_whole(), session.made(visit.field("form"))));
        // Whoever is in goes on, and whoever wants to leave may, however much others try from there.
        let goes_on = path == "/logout" || (path == "/account" && made == Some((true, true)));
        let is_tried = is_form && !goes_on && !visit.peer.is_loopback();
        if is_tried && let Err(wait) = self.door().knock(visit.peer, self.now()) {
            let seconds = wait.as_secs() + 1;
            let sentence = format!("too many tries from here: wait {seconds} seconds, go back and try again");
            let answer = Answer::sentence(StatusCode::TOO_MANY_REQUESTS, &sentence);
            return Ok(answer.with(header::RETRY_AFTER, &seconds.to_string()));
        }
        // Where there is no session yet, there is nothing of it that another site could use.
        let is_made_for = made.is_none_or(|(_, is_made)| is_made);
        if is_form && !is_made_for && path != "/login" {
            let sentence = "this form was made for another log-in: go back, load the page anew and try again";
            return Ok(Answer::sentence(StatusCode::FORBIDDEN, sentence));
        }
        self.page(path, is_form, &visit).await
    }

    async fn page(self: &Arc<Self>, path: &str, is_form: bool, visit: &Arc<Visit>) -> Result<Answer, Stop> {
        match (path, is_form) {
            ("/login", false) => return Ok(login::shown(self, visit)),
            ("/login", true) => return login::take(self, visit).await,
            ("/invitation", false) => return Ok(invitation::shown(self, visit)),
            ("/invitation", true) => return invitation::take(self, visit).await,
            ("/logout", _) => {
                self.leave(visit).await;
                return Ok(Answer::on_to("/login").without_session(&self.cookie));
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

    /// Whoever leaves is out, whether it can be noted or not. Who never was in does not leave.
    async fn leave(self: &Arc<Self>, visit: &Visit) {
        self.door().close(visit.cookie());
        if let Some(session) = visit.session.as_ref().filter(|session| session.is_whole()) {
            let (site, name, from) = (self.clone(), session.name.clone(), visit.peer);
            let act = Act::LogOut { account: name.clone(), from };
            let _ = tokio::task::spawn_blocking(move || audit::note_or_tell(&site.data, &name, act)).await;
        }
    }

    /// Says in the log what somebody came to who is not in, and how many others did since it said so last.
    pub(super) fn tell(&self, account: &str, from: IpAddr, what: &str) {
        let more = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).more(self.now());
        if let Some(untold) = more {
            tracing::warn!(event = "console-tried", account, peer = %from, untold, "{what}");
        }
    }

    /// Nobody is told more than this; what it is stands in the log, once for as long as it is the same.
    fn unusable(&self, error: &AccessError) -> Answer {
        let why = error.to_string();
        let mut told = self.told();
        if *told != why {
            tracing::warn!("the accounts of the console cannot be used: {why}");
            *told = why;
        }
        Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, "accounts cannot be used now; the log of the box says why")
    }

    fn told(&self) -> MutexGuard<'_, String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
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
                Err(Stop::Refused(why)) => Answer::sentence(StatusCode::FORBIDDEN, &why.to_string()),
                Err(Stop::Access(error)) => self.unusable(&error),
            };
            let answer = if self.is_certified { answer.over_tls_alone() } else { answer };
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
///
/// The host itself is compared with no name of the box, which people call as their network does, or `localhost` through
/// ssh: a browser has a session of the name that it came by (`__Host-`), so that by another there is none to use.
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

#[cfg(test)]
mod tests;
