//! One made-up result through link, driver, mapping and queue to the EHR, before there is a real one.
//!
//! It can never be filed under a patient of the hospital:
//!
//! - It goes through a gateway of its own, with the site's settings and a scratch journal that goes with it. Its link is a
//!   port of this machine that nobody else knows, and its one destination takes test messages and nothing else
//!   ([`crate::mapping::Target::tests_only`]).
//! - The simulated analyzer marks its message as training (H.12 or MSH-11 `T`); what a driver does not read as marked does
//!   not go out. A protocol without such a mark is not tried ([`obstacle`]).
//! - What the EHR gets is marked: `T` in MSH-11, or `HTEST` as security label and tag of each FHIR resource, which has
//!   a name that no real result has. Its patient is [`TEST_PATIENT`](crate::mapping::TEST_PATIENT), whatever came in; no
//!   order is named, and the specimen is called `TEST-0000001`.
//! - The gateway of the site takes no part, and would hold such a message (`not-production`).

use super::progress::Tried;
use crate::config::Config;
use crate::delivery;
use crate::gateway::Gateway;
use crate::journal::{EntryId, Reader, Shown};
use crate::link;
use crate::rules::{Orders, Releasable, Unmapped};
use crate::sim::instrument::line::Line;
use crate::sim::instrument::results::Shape;
use crate::sim::instrument::{self, Settings};
use crate::update::gate::{Scratch, beside, on_loopback, turn_to};
use crate::wire::Protocol;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Results in the message.
const RESULTS: usize = 4;
/// Each part of the way is passed within this time.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What its specimen is called begins so.
const RUN: &str = "TEST";

/// Which way it goes.
pub struct Way<'a> {
    /// The link that it comes in on.
    pub link: &'a str,
    /// The EHR.
    pub destination: &'a str,
    /// The EHR may get it; else it ends in the queue.
    pub may_reach: bool,
}

/// Why no test can go this way: it could not be told from a patient's result on all of it.
pub fn obstacle(link: Protocol, to: delivery::Protocol) -> Option<&'static str> {
    match (link, to) {
        (Protocol::Astm | Protocol::Hl7, delivery::Protocol::Mllp | delivery::Protocol::Fhir) => None,
        (Protocol::Astm | Protocol::Hl7, _) => Some("images go there, and no results"),
        _ => Some(
            "the analyzer's protocol has no mark for a test message: have it measure a sample of a test patient, and see \
             what the EHR shows",
        ),
    }
}

/// Sends it and sees what becomes of it.
pub async fn send(config: &Config, way: &Way<'_>) -> Tried {
    match try_to_send(config, way).await {
        Ok(says) => Tried::new(true, says),
        Err(why) => Tried::new(false, why),
    }
}

async fn try_to_send(config: &Config, way: &Way<'_>) -> Result<String, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let link = config.links.iter().find(|link| link.name == way.link);
    let link = link.ok_or_else(|| format!("there is no link `{}`", way.link))?.clone();
    let to = config.destinations.iter().find(|to| to.name == way.destination);
    let mut to = to.ok_or_else(|| format!("there is no destination `{}`", way.destination))?.clone();
    let protocol = link.protocol;
    if let Some(why) = obstacle(protocol, to.protocol) {
        return Err(format!("nothing was sent: {why}"));
    }
    let registry = config.registry().map_err(|error| words(&error))?;
    let driver = link.driver.as_deref().and_then(|id| registry.get(id));
    let shape = driver.map_or_else(Shape::generic, Shape::of).for_tests();
    let scratch = scratch().map_err(|error| words(&error))?;
    // Connections are made by the kernel; nobody ever reads from them.
    let sink = TcpListener::bind("127.0.0.1:0").map_err(|error| words(&error))?;
    if !way.may_reach {
        turn_to(&mut to, sink.local_addr().map_err(|error| words(&error))?.port());
    }
    let mut settings = beside(config, &scratch.0);
    settings.journal.free_min_mb = 0;
    settings.destinations = vec![delivery::Config {
        tests_only: true,
        links: Vec::new(),
        order_status: Vec::new(),
        // Nobody waits long for a second attempt at the bench.
        retry_max_ms: to.retry_max_ms.min(1000),
        retry_min_ms: to.retry_min_ms.min(1000),
        ..to
    }];
    let (link, port) = on_loopback(link).map_err(|error| words(&error))?;
    // The clock of the simulated analyzer is that of this box, in its own zone; and it does not say all by which some
    // drivers map a code, such as the kind of the specimen.
    settings.links = vec![link::Config {
        tests_pass: true,
        clock_limit_s: 0,
        orders: Orders::Off,
        unmapped: Unmapped::SendLocal,
        release: vec![Releasable::UnknownUnit, Releasable::Questionable],
        ..link
    }];
    let gateway = Gateway::start(&settings).await.map_err(|error| words(&error))?;
    let found = follow(&gateway, shape, protocol, port, way).await;
    // Who delivers into it would be waited for.
    drop(sink);
    gateway.stop().await;
    found
}

fn scratch() -> std::io::Result<Scratch> {
    let name = format!("afferent-setup-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(Scratch(folder))
}

async fn follow(
    gateway: &Gateway,
    shape: Shape,
    protocol: Protocol,
    port: u16,
    way: &Way<'_>,
) -> Result<String, String> {
    let reader = gateway.journal().reader().map_err(|error| error.to_string())?;
    let settings = Settings {
        shape,
        count: Some(1),
        results: RESULTS,
        corrections: 0.0,
        run: RUN.to_string(),
        ..Settings::new(Line::Connect(format!("127.0.0.1:{port}")), protocol)
    };
    let (_stop, stopped) = watch::channel(false);
    let sent = tokio::time::timeout(PATIENCE, instrument::run(settings, None, stopped)).await;
    match sent {
        Ok(Ok(sent)) if sent.acknowledged == 1 => {}
        Ok(Err(error)) => return Err(error.to_string()),
        _ => return Err("the link did not acknowledge the test message".to_string()),
    }
    let until = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < until {
        match look(&reader, way)? {
            Some(Ok(says)) => return Ok(says),
            Some(Err(why)) => return Err(why),
            None => {}
        }
        last = waiting(&reader).unwrap_or(last);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let last = if last.is_empty() { "the EHR has not answered".to_string() } else { format!("the last try: {last}") };
    Err(format!("it was not taken in time, and is thrown away: {last}"))
}

/// What became of it; none while that is not known.
fn look(reader: &Reader, way: &Way<'_>) -> Result<Option<Result<String, String>>, String> {
    let account = reader.account().map_err(|error| error.to_string())?;
    if account.received == 0 {
        return Ok(None);
    }
    let Some(shown) = shown(reader) else { return Ok(None) };
    let held = held(&shown);
    let on_the_way = account.queued + account.delivered + account.parked;
    if on_the_way == 0 && account.held + account.refused + account.unrouted == account.received {
        return Ok(Some(Err(format!("all of its results are held on the box: {held}"))));
    }
    let read = format!("{} results read, {} held{}", account.received, account.held, bracketed(&held));
    if !way.may_reach {
        let says = format!("{read}, {} in the queue for `{}`; nothing was sent", account.queued, way.destination);
        return Ok((account.queued > 0).then_some(Ok(says)));
    }
    let message = shown.reports.iter().flat_map(|report| &report.messages).find(|message| message.state != "pending");
    Ok(message.map(|message| {
        let answer = message.note.clone().unwrap_or_default();
        match message.state.as_str() {
            "delivered" => Ok(format!(
                "{read}, {} taken by `{}`, message {}: it answered {answer}",
                account.delivered, way.destination, message.message_id
            )),
            _ => Err(format!("{read}; `{}` refused message {}: {answer}", way.destination, message.message_id)),
        }
    }))
}

fn shown(reader: &Reader) -> Option<Shown> {
    reader.show(EntryId(1)).ok()
}

/// What the last attempt came to.
fn waiting(reader: &Reader) -> Option<String> {
    let shown = shown(reader)?;
    shown.reports.iter().flat_map(|report| &report.messages).find_map(|message| message.note.clone())
}

/// Reasons and how many of each.
fn held(shown: &Shown) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for hold in shown.reports.iter().flat_map(|report| &report.holds) {
        *reasons.entry(&hold.reason).or_default() += 1;
    }
    reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

fn bracketed(reasons: &str) -> String {
    if reasons.is_empty() { String::new() } else { format!(" ({reasons})") }
}
