//! The doctor's visit: asks the running gateway, reads the journal, dials each destination, and says what it means.

use super::doctor::{Facts, Finding, Reached, diagnose};
use crate::clock;
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::delivery::{self, DeliveryHealth, reach};
use crate::interpreter::register::{self, Instruments};
use crate::journal::{self, JournalError, OpenError, Reader};
use crate::link::LinkHealth;
use crate::link::directory::look;
use crate::link::serial::ports;
use crate::watch::station::StandingAlert;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Held results and parked messages that are counted by reason.
const COUNTED_MAX: usize = 10_000;
/// A destination is dialled no longer than this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What was found.
pub struct Examination {
    /// One sentence for each layer.
    pub findings: Vec<Finding>,
    /// What was heard of each instrument.
    pub instruments: Instruments,
    /// What the watch found unusual and is not over; it is among the findings as well.
    pub alerts: Vec<StandingAlert>,
}

/// The box cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ExaminationError {
    /// The journal is there and cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system gives no means to dial.
    #[error("destinations cannot be dialled: {0}")]
    System(#[from] std::io::Error),
}

/// Examines the box with this configuration, beside its gateway or without one. Blocks, for some seconds for each
/// destination that does not answer.
///
/// # Errors
/// [`ExaminationError`].
pub fn examine(config: &Config) -> Result<Examination, ExaminationError> {
    examine_with(config, |config| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(config.destinations.iter().map(|d| runtime.block_on(dial(d))).collect())
    })
}

/// The same from within its gateway, which knows how destinations are from what it sends them: nobody is dialled, so that
/// one that lets in a single connection is not disturbed.
///
/// # Errors
/// [`ExaminationError`].
pub fn examine_running(
    config: &Config,
    health: impl Fn(&str) -> Option<DeliveryHealth>,
) -> Result<Examination, ExaminationError> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let reached = |to: &delivery::Config| match health(&to.name) {
        Some(health) => Reached::ByLanes {
            up: health.up,
            since: health.answered_ms.map(|at| Duration::from_millis(now_ms.saturating_sub(at).max(0).unsigned_abs())),
        },
        None => Reached::No("it is not running yet".to_string()),
    };
    examine_with(config, |config| Ok(config.destinations.iter().map(reached).collect()))
}

/// The same beside its gateway, which is asked how destinations are: nobody is dialled. For whoever looks again and again.
///
/// # Errors
/// [`ExaminationError`].
pub fn examine_beside(config: &Config) -> Result<Examination, ExaminationError> {
    let health = match control::request(&config.gateway.data, &Request::Destinations) {
        Ok(Response::Destinations(health)) => health,
        _ => BTreeMap::new(),
    };
    examine_running(config, |name| health.get(name).copied())
}

fn examine_with(
    config: &Config,
    reach: impl FnOnce(&Config) -> Result<Vec<Reached>, ExaminationError>,
) -> Result<Examination, ExaminationError> {
    let data = &config.gateway.data;
    let health = match control::request(data, &Request::Health) {
        Ok(Response::Health(health)) => serde_json::from_value::<Vec<LinkHealth>>(health).unwrap_or_default(),
        _ => Vec::new(),
    };
    let condition = match control::request(data, &Request::Condition) {
        Ok(Response::Condition(condition)) => Some(condition),
        _ => None,
    };
    let fleet = match control::request(data, &Request::Fleet) {
        Ok(Response::Fleet(fleet)) => fleet,
        _ => None,
    };
    let alerts = match control::request(data, &Request::Alerts) {
        Ok(Response::Alerts(alerts)) => alerts,
        _ => Vec::new(),
    };
    let reader = match Reader::open(data, &config.journal) {
        Ok(reader) => Some(reader),
        // Before the first start there is none.
        Err(OpenError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut held = BTreeMap::new();
    let (mut stats, mut parked) = (None, Vec::new());
    if let Some(reader) = &reader {
        stats = Some(reader.stats(jiff::Timestamp::now().as_millisecond())?);
        parked = reader.parked(COUNTED_MAX)?;
        for hold in reader.holds(COUNTED_MAX)? {
            *held.entry((hold.link, hold.reason)).or_default() += 1;
        }
    }
    let reached = reach(config)?;
    let of_link = |name: &str| health.iter().find(|h| h.link == name).cloned();
    let facts = Facts {
        links: config.links.iter().map(|link| (link, of_link(&link.name))).collect(),
        orders: config.orders.iter().map(|orders| (orders, of_link(&orders.name))).collect(),
        order_feeds: config.order_feeds.iter().map(|feed| (feed, of_link(&feed.name))).collect(),
        destinations: config.destinations.iter().zip(reached).collect(),
        condition,
        free_bytes: journal::free_bytes(data),
        alerts,
        clock_synchronised: clock::is_synchronised(),
        stats,
        ports: ports::list(Path::new("/")),
        held,
        instruments: register::read(data),
        fleet,
        parked,
        folders: config
            .links
            .iter()
            .filter_map(|l| Some((l.name.clone(), look(l.directory.as_deref()?, &l.files))))
            .collect(),
    };
    Ok(Examination { findings: diagnose(&facts), instruments: facts.instruments, alerts: facts.alerts })
}

/// Connects, sets TLS up where it is configured, and hangs up.
async fn dial(destination: &delivery::Config) -> Reached {
    let began = Instant::now();
    match tokio::time::timeout(DIAL_TIMEOUT, reach::connect(destination)).await {
        Ok(Ok(tls)) => Reached::Yes { tls, took: began.elapsed() },
        Ok(Err(why)) => Reached::No(why),
        Err(_) => Reached::No(format!("no answer within {} s", DIAL_TIMEOUT.as_secs())),
    }
}
