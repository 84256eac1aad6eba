//! The control channel: how commands on the box reach the running gateway.
//!
//! A Unix socket in the data directory, readable by its owner only, takes one JSON request a line and answers one
//! JSON response a line. It exists because only the gateway's writer thread may change the journal (invariant I3).

use crate::delivery::{DeliveryCounters, DeliveryHealth};
use crate::fleet::{Fleet, Status};
use crate::journal::{Condition, Journal, Operated, OperatorAction};
use crate::link::taps::{Passed, Taps, What};
use crate::link::{LinkCounters, LinkHealth, stopped};
use crate::watch::station::{Standing, StandingAlert};
use crate::workbench::tap::{Shown, Side, Tapped, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

/// Name of the socket in the data directory.
const SOCKET: &str = "control.sock";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[SOCKET];
/// Longest request, in bytes.
const REQUEST_MAX: u64 = 1 << 20;
/// Connections a tap keeps apart.
const VIEWS_MAX: usize = 256;
/// A command waits this long for the gateway; a backup of a large journal is the slowest request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// The links there are, which may be others in a moment.
pub type Links = watch::Receiver<Vec<Arc<LinkCounters>>>;

/// What the running gateway answers from.
#[derive(Clone)]
pub struct Answers {
    /// The journal.
    pub journal: Journal,
    /// What is counted of links.
    pub links: Links,
    /// What is counted of destinations.
    pub destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
    /// The box on the bus; none where it is on its own.
    pub fleet: Option<Fleet>,
    /// What is unusual now.
    pub alerts: Standing,
}

/// What a command asks of the running gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How the links are.
    Health,
    /// How the destinations are.
    Destinations,
    /// How the journal is.
    Condition,
    /// How the fleet is.
    Fleet,
    /// What is unusual now.
    Alerts,
    /// Change something in the journal.
    Operate(OperatorAction),
    /// Show what passes on a link, or on all of them, until the asker hangs up.
    Tap {
        /// Name of the link; none means all.
        link: Option<String>,
        /// With patient data.
        reveal: bool,
    },
}

/// What the gateway answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The links' health as JSON.
    Health(serde_json::Value),
    /// How each destination is, by name.
    Destinations(BTreeMap<String, DeliveryHealth>),
    /// How the journal is.
    Condition(Condition),
    /// How the fleet is; none where the box is on its own.
    Fleet(Option<Status>),
    /// What is unusual now.
    Alerts(Vec<StandingAlert>),
    /// What the journal did.
    Operated(Operated),
    /// What passed on a link.
    Tapped(Tapped),
    /// Why it was refused.
    Refused(String),
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: the gateway is not running on this data directory.
    #[error("no gateway is running on {}", .0.display())]
    NotRunning(PathBuf),
    /// The line broke.
    #[error("the gateway on {} did not answer: {source}", data.display())]
    Line {
        /// The data directory.
        data: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Asks the gateway that runs on `data`. Blocks.
pub fn request(data: &Path, request: &Request) -> Result<Response, ControlError> {
    let line = |source| ControlError::Line { data: data.to_path_buf(), source };
    let stream = ask(data, request)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(line)?;
    serde_json::from_str(&answer).map_err(|e| line(e.into()))
}

/// Listens in on links of the gateway that runs on `data` and hands over what passes, until `hear` returns false or the
/// gateway ends. Blocks. `Some` is why the gateway would not.
pub fn tap(
    data: &Path,
    link: Option<&str>,
    reveal: bool,
    mut hear: impl FnMut(Tapped) -> bool,
) -> Result<Option<String>, ControlError> {
    let failed = |source| ControlError::Line { data: data.to_path_buf(), source };
    let stream = ask(data, &Request::Tap { link: link.map(str::to_string), reveal })?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line.map_err(failed)?).map_err(|e| failed(e.into()))? {
            Response::Tapped(tapped) => {
                if !hear(tapped) {
                    return Ok(None);
                }
            }
            Response::Refused(why) => return Ok(Some(why)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Connects and puts the request; the answers are still to be read.
fn ask(data: &Path, request: &Request) -> Result<std::os::unix::net::UnixStream, ControlError> {
    let failed = |source| ControlError::Line { data: data.to_path_buf(), source };
    let mut stream = std::os::unix::net::UnixStream::connect(data.join(SOCKET))
        .map_err(|_| ControlError::NotRunning(data.to_path_buf()))?;
    let mut text = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    stream.write_all(&text).map_err(failed)?;
    Ok(stream)
}

/// Serves the socket until the gateway stops. Without it the gateway still works, so a failure is only logged.
pub async fn serve(data: PathBuf, answers: Answers, mut shutdown: watch::Receiver<bool>) {
    let path = data.join(SOCKET);
    // The journal's lock proves that no other gateway runs here: what lies there is left over from a crash.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .and_then(|l| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| l));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("commands cannot reach this gateway: {}: {error}", path.display());
            return;
        }
    };
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, answers.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    let _ = std::fs::remove_file(&path);
}

async fn converse(stream: UnixStream, answers: Answers) {
    let (read, mut write) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(read.take(REQUEST_MAX)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let links = answers.links.borrow().clone();
        let response = match serde_json::from_str(&line) {
            Ok(Request::Tap { link, reveal }) => {
                let chosen: Vec<&Taps> =
                    links.iter().map(|l| l.taps()).filter(|t| link.as_deref().is_none_or(|l| l == t.link())).collect();
                let (to, passed) = Taps::channel();
                if !chosen.is_empty() && chosen.iter().all(|taps| taps.listen(to.clone())) {
                    drop(to);
                    tokio::select! {
                        () = show(passed, &mut write, reveal) => {}
                        // The asker says nothing more: this is it hanging up.
                        _ = lines.next_line() => {}
                    }
                    return;
                }
                Response::Refused(no_tap(link.as_deref(), chosen.is_empty(), &links))
            }
            Ok(Request::Fleet) => Response::Fleet(answers.fleet.as_ref().map(Fleet::status)),
            Ok(Request::Destinations) => {
                let destinations = answers.destinations.borrow().clone();
                Response::Destinations(destinations.iter().map(|to| (to.name().to_owned(), to.health())).collect())
            }
            Ok(Request::Alerts) => Response::Alerts(answers.alerts.list()),
            Ok(request) => answer(request, &answers.journal, &links).await,
            Err(_) => Response::Refused("the request is not understood".to_string()),
        };
        let Ok(mut text) = serde_json::to_vec(&response) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// Writes what passes until the asker does not read any more.
async fn show(mut passed: Receiver<Passed>, write: &mut OwnedWriteHalf, reveal: bool) {
    let mut viewer = Viewer::new(reveal);
    while let Some(run) = passed.recv().await {
        let Ok(mut text) = serde_json::to_vec(&Response::Tapped(viewer.tapped(run))) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// Turns what passed on links into what is shown of it.
pub(crate) struct Viewer {
    began: Instant,
    reveal: bool,
    views: HashMap<(Arc<str>, u64), View>,
}

impl Viewer {
    /// With patient data, or masked.
    pub fn new(reveal: bool) -> Viewer {
        Viewer { began: Instant::now(), reveal, views: HashMap::new() }
    }

    /// What is shown of a run.
    pub fn tapped(&mut self, Passed { link, protocol, connection, at_ms, at, what, missed }: Passed) -> Tapped {
        if self.views.len() > VIEWS_MAX || missed > 0 {
            // A new view is in the middle of something and masks until it knows better.
            self.views.clear();
        }
        let reveal = self.reveal;
        let view = self.views.entry((link.clone(), connection)).or_insert_with(|| View::new(protocol, reveal));
        let now = at.saturating_duration_since(self.began);
        let (side, shown) = match what {
            What::Heard(bytes) => (Side::Instrument, view.show(Side::Instrument, &bytes, now)),
            What::Said(bytes) => (Side::Gateway, view.show(Side::Gateway, &bytes, now)),
            What::Event(event) => (Side::Link, Shown { remarks: vec![event.to_string()], ..Shown::default() }),
        };
        Tapped { link: link.to_string(), connection, at_ms, side, shown, missed }
    }
}

fn no_tap(link: Option<&str>, unknown: bool, links: &[Arc<LinkCounters>]) -> String {
    let names: Vec<&str> = links.iter().map(|l| l.taps().link()).collect();
    match link {
        Some(link) if unknown => format!("there is no link {link}; there are {}", names.join(", ")),
        _ if unknown => "the gateway has no links".to_string(),
        _ => "too many others listen already".to_string(),
    }
}

async fn answer(request: Request, journal: &Journal, links: &[Arc<LinkCounters>]) -> Response {
    match request {
        Request::Health => {
            let health: Vec<LinkHealth> = links.iter().map(|l| l.health()).collect();
            Response::Health(serde_json::to_value(health).unwrap_or_default())
        }
        Request::Condition => Response::Condition(journal.condition()),
        // Answered where they were read.
        Request::Tap { .. } | Request::Fleet | Request::Alerts | Request::Destinations => {
            Response::Refused("the request is not understood".to_string())
        }
        Request::Operate(action) => {
            let journal = journal.clone();
            match tokio::task::spawn_blocking(move || journal.operate(action)).await {
                Ok(Ok(done)) => Response::Operated(done),
                Ok(Err(error)) => Response::Refused(error.to_string()),
                Err(_) => Response::Refused("the gateway is stopping".to_string()),
            }
        }
    }
}
