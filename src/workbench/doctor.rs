//! The doctor: one sentence for each layer between an instrument and the EHR, and what to do next. Pure: facts in,
//! findings out; `cli/doctor.rs` collects the facts.

use super::clock::{judge, span};
use crate::clinical::Doubt;
use crate::delivery;
use crate::fleet::{Carried, ConfigStatus, Status};
use crate::interpreter::register::Instruments;
use crate::journal::{Condition, ParkedRow, Stats};
use crate::link::directory::{Look, Then};
use crate::link::serial::ports::Port;
use crate::link::{self, LinkHealth};
use crate::orders;
use crate::watch::Trouble;
use crate::watch::station::StandingAlert;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A message that waits longer than this is worth a person's look.
const QUEUE_AGE_MAX_MS: i64 = 5 * 60 * 1000;
/// A file that waits longer than this in a link's folder is told of.
const FILE_AGE_MAX: Duration = Duration::from_secs(600);
/// A clock is worth a look from this part of the limit on.
const CLOCK_WARNING: i64 = 3;
/// A link that is silent for longer than this is told of; it may well be a quiet night.
const SILENT_MAX_S: u64 = 12 * 3600;

/// What was found out about a gateway.
pub struct Facts<'a> {
    /// Its links, and how they are; none when the gateway does not run.
    pub links: Vec<(&'a link::Config, Option<LinkHealth>)>,
    /// Where the EHR sends orders, and how these connections are; none when the gateway does not run.
    pub orders: Vec<(&'a orders::Config, Option<LinkHealth>)>,
    /// FHIR servers that are asked for orders, and how that goes; none when the gateway does not run.
    pub order_feeds: Vec<(&'a orders::feed::Config, Option<LinkHealth>)>,
    /// Its destinations, and what came of dialling them.
    pub destinations: Vec<(&'a delivery::Config, Reached)>,
    /// The gateway's own view of its disk; none when it does not run.
    pub condition: Option<Condition>,
    /// Bytes free where the journal lies.
    pub free_bytes: u64,
    /// What the watch found unusual and is not over.
    pub alerts: Vec<StandingAlert>,
    /// Whether this machine's clock is kept right by a time server, as far as the kernel knows.
    pub clock_synchronised: bool,
    /// The journal in numbers; none when there is none yet.
    pub stats: Option<Stats>,
    /// The serial ports of this machine.
    pub ports: Vec<Port>,
    /// Held results, counted by link and reason.
    pub held: BTreeMap<(String, String), usize>,
    /// What was heard of each instrument.
    pub instruments: Instruments,
    /// Parked messages, some of them.
    pub parked: Vec<ParkedRow>,
    /// What the fleet says of itself: none when the box is on its own or does not run.
    pub fleet: Option<Status>,
    /// How the folders are that links take files from, by link.
    pub folders: BTreeMap<String, Look>,
}

/// What came of dialling a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// It answered, with TLS when it should, after this time.
    Yes {
        /// TLS was set up.
        tls: bool,
        /// How long it took.
        took: Duration,
    },
    /// It did not, in words.
    No(String),
    /// It was not dialled; what its lanes found.
    ByLanes {
        /// It takes messages, as far as was tried.
        up: bool,
        /// How long ago it answered last; none when it did not since the start.
        since: Option<Duration>,
    },
}

/// How a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do.
    Good,
    /// Worth a look.
    Look,
    /// Results do not get through, or will not.
    Bad,
}

/// One sentence about one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The layer: `disk`, `clock`, `gateway`, `fleet`, `folder`, `line`, `port`, `link-ack`, `records`, `mapping`, `orders`,
    /// `queue`, `ehr`, `ehr-ack`.
    pub layer: &'static str,
    /// Which link or destination; empty for the box itself.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub says: String,
    /// What to do next; empty when there is nothing to do.
    pub next: String,
}

/// What the facts mean, from the instrument to the EHR.
pub fn diagnose(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = vec![disk(facts), clock(facts), gateway(facts)];
    found.extend(facts.fleet.as_ref().map(fleet));
    found.extend(facts.fleet.iter().flat_map(|status| config_from_afar(&status.config)));
    for (config, health) in &facts.links {
        if let Some(look) = facts.folders.get(&config.name) {
            found.push(folder(config, look));
        }
        if let Some(health) = health {
            found.extend(link(config, health));
            found.extend(twin(config, &facts.ports));
        }
        found.extend(clocks(config, facts));
        found.extend(mapping(&config.name, facts));
    }
    for (config, health) in &facts.orders {
        found.extend(health.as_ref().map(|health| orders(config, health)));
    }
    for (config, health) in &facts.order_feeds {
        found.extend(health.as_ref().map(|health| order_feed(config, health)));
    }
    for (config, reached) in &facts.destinations {
        found.extend(destination(config, reached, facts));
    }
    found.extend(forgotten(facts));
    found.extend(facts.alerts.iter().map(alert));
    found
}

/// What the watch told of. It says what is unusual, which may be right all the same: nothing is kept from getting through
/// by it.
fn alert(standing: &StandingAlert) -> Finding {
    let alert = &standing.alert;
    finding("watch", &alert.of, State::Look, alert.sentence(), what_next(alert.trouble))
}

/// What to do about something unusual.
pub fn what_next(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Silence => "see whether the instrument works and is connected: afferent tap",
        Trouble::Refusals => "see what is refused, and why: afferent tap",
        Trouble::Strangers => "find out who dials in from there; add it to the configuration if it belongs here",
        Trouble::Authentication => "see the log for who was turned away; renew its certificate if it belongs here",
        Trouble::Rate | Trouble::Repeats => "see what comes: afferent tap; an instrument may send in a circle",
        Trouble::Certificate => "have a new one made; the files are read anew at the next connection",
        Trouble::Clock => "see why: times of results that came meanwhile may be off",
        Trouble::Refusing => "see why: afferent journal hold; mend its settings, then afferent journal requeue",
        Trouble::Stranded => "give the destination its name back, or discard them: afferent journal hold",
        Trouble::NoLink => {
            "see them: afferent journal hold; name the link again and replay their entries, or release or discard them"
        }
        Trouble::System => "see why it did not start (rauc status), and have it installed anew from the desk",
        Trouble::Disk => "see what waits (afferent journal stats), or shorten how long the journal keeps",
    }
}

/// What waits for links and destinations that the configuration does not name any more.
fn forgotten(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for waits in facts.stats.iter().flat_map(|s| &s.destinations) {
        let is_known = facts.destinations.iter().any(|(config, _)| config.name == waits.destination);
        if !is_known && waits.queued + waits.parked > 0 {
            let says =
                format!("{} messages wait for it, and the configuration does not name it", waits.queued + waits.parked);
            let next = "give the destination its name back, or discard them: afferent journal hold";
            found.push(finding("queue", &waits.destination, State::Bad, says, next));
        }
    }
    let links: BTreeSet<&String> = facts.held.keys().map(|(link, _)| link).collect();
    for link in links.into_iter().filter(|link| !facts.links.iter().any(|(config, _)| config.name == **link)) {
        found.extend(mapping(link, facts));
    }
    found
}

fn finding(
    layer: &'static str,
    subject: &str,
    state: State,
    says: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    Finding { layer, subject: subject.to_string(), state, says: says.into(), next: next.into() }
}

fn disk(facts: &Facts<'_>) -> Finding {
    let free = facts.free_bytes >> 20;
    match facts.condition {
        Some(Condition::Failed) => finding(
            "disk",
            "",
            State::Bad,
            "the storage failed: nothing is acknowledged until it works again",
            "look at the log; if the disk is worn out, change it and keep the key",
        ),
        Some(Condition::Full) => finding(
            "disk",
            "",
            State::Bad,
            format!("the journal is full ({free} MB free): instruments keep their results"),
            "get the EHR to take what waits, or raise journal.quota_mb",
        ),
        Some(Condition::FullOfImages { since_ms }) => finding(
            "disk",
            "",
            State::Bad,
            format!(
                "images are refused since {} ({free} MB free): modalities keep theirs",
                Timestamp::from_millisecond(since_ms)
                    .map_or_else(|_| "?".to_owned(), |at| at.strftime("%F %TZ").to_string())
            ),
            "get the archives to take what waits (afferent journal stats), or raise journal.quota_mb",
        ),
        Some(Condition::Tight) => finding(
            "disk",
            "",
            State::Look,
            format!("the journal is filling up ({free} MB free)"),
            "see what waits: afferent journal stats",
        ),
        Some(Condition::Good) | None => finding("disk", "", State::Good, format!("{free} MB free"), ""),
    }
}

fn clock(facts: &Facts<'_>) -> Finding {
    match facts.clock_synchronised {
        true => finding("clock", "", State::Good, "kept right by a time server", ""),
        false => finding(
            "clock",
            "",
            State::Look,
            "not kept right by a time server: an instrument's right clock may look wrong",
            "name the hospital's time server, for example in /etc/systemd/timesyncd.conf",
        ),
    }
}

/// Results go on whatever is wrong here, so nothing of it is worse than worth a look.
fn fleet(status: &Status) -> Finding {
    let waiting = match status.events_waiting {
        0 => String::new(),
        waiting => format!("; {waiting} events wait for it"),
    };
    match (status.connected, status.trouble.is_empty(), status.downlink_proven) {
        (true, true, true) => finding("fleet", "", State::Good, "the broker is there, and the desk is heard", ""),
        (true, true, false) => finding(
            "fleet",
            "",
            State::Look,
            "the broker is there; no desk has answered an echo",
            "is a desk running? if one is, the broker's rules (acl_file) may keep this box from hearing it",
        ),
        (connected, ..) => finding(
            "fleet",
            "",
            State::Look,
            match (connected, status.trouble.is_empty()) {
                (true, _) => format!("the broker is there, but: {}{waiting}", status.trouble),
                (false, true) => format!("the broker was not reached yet{waiting}"),
                (false, false) => format!("the broker is away: {}{waiting}", status.trouble),
            },
            "results go on; look at the broker and its log, and at [fleet]: afferent check",
        ),
    }
}

/// What the desk wants the box to run or somebody carried here, and whether it does.
fn config_from_afar(config: &ConfigStatus) -> Vec<Finding> {
    let running = config.running.map_or("the box's own file runs".to_string(), |rev| format!("revision {rev} runs"));
    let look = |says: String, next: String| finding("fleet", "configuration", State::Look, says, next);
    let mut found = Vec::new();
    if config.drift {
        found.push(look(
            format!("the configuration file was edited on this box, and the desk knows nothing of it; {running}"),
            format!(
                "what it says runs from the next start of the gateway on; the desk has to say that it knows this file \
                 (`afferent desk config push --replace`, or `config stick --replace {}`) before it can send another",
                config.local
            ),
        ));
    }
    if let Carried::NotTaken(why) = &config.stick {
        found.push(look(
            format!("the configuration on the stick is not taken: {why}; {running}"),
            "pull it out, and have the desk write another (`afferent desk config stick`)".to_string(),
        ));
    }
    if let (true, Some(rev)) = (found.is_empty(), config.rev) {
        let says = format!("{running}; revision {rev} is {}", config.state);
        found.push(match config.why.as_str() {
            "" => finding("fleet", "configuration", State::Good, says, ""),
            why => {
                look(format!("{says}: {why}"), "the log of this box says more; the desk can send another".to_string())
            }
        });
    }
    found
}

/// The clocks of a link's instruments.
fn clocks(config: &link::Config, facts: &Facts<'_>) -> Vec<Finding> {
    let limit_s = i64::from(config.clock_limit_s);
    let judged = facts.instruments.get(&config.name).into_iter().flatten().filter_map(|(name, seen)| {
        let clock = judge(seen.drifts_s.iter().copied().collect::<Vec<_>>().as_slice())?;
        let way = if clock.drift_s < 0 { "behind" } else { "ahead" };
        let says =
            format!("{name}: its clock is {} {way}, by its last {} messages", span(clock.drift_s), clock.samples);
        let is_past = limit_s > 0 && clock.drift_s.abs() > limit_s;
        let held = if is_past { "; its results are held" } else { "" };
        Some(match clock.zone_error_s {
            Some(error) => {
                let more = if error < 0 { "less" } else { "more" };
                let zone = format!("{says}, which looks like a wrong time zone{held}");
                let next = format!(
                    "its offset from UTC is {} {more} than `time_zone` says: correct that, or its clock",
                    span(error)
                );
                finding("clock", &config.name, if is_past { State::Bad } else { State::Look }, zone, next)
            }
            None if is_past => {
                finding("clock", &config.name, State::Bad, says + held, "set the clock of the instrument")
            }
            None if limit_s > 0 && clock.drift_s.abs() * CLOCK_WARNING > limit_s => {
                let next = format!("set its clock soon: from {} on its results are held", span(limit_s));
                finding("clock", &config.name, State::Look, says, next)
            }
            None => finding("clock", &config.name, State::Good, says, ""),
        })
    });
    judged.collect()
}

fn gateway(facts: &Facts<'_>) -> Finding {
    match facts.condition {
        Some(_) => finding("gateway", "", State::Good, "running", ""),
        None => finding(
            "gateway",
            "",
            State::Bad,
            "no gateway is running on this data directory",
            "start it: systemctl start afferent, or afferent run --config FILE",
        ),
    }
}

fn link(config: &link::Config, health: &LinkHealth) -> Vec<Finding> {
    let name = &config.name;
    let line = line(config, health);
    let deaf = line.state == State::Bad || health.parts == 0 && health.reasons.is_empty();
    let mut found = vec![line];
    found.extend(port(name, health));
    if deaf {
        return found;
    }
    found.push(link_ack(name, health));
    found.push(match (health.parts, health.messages) {
        (0, _) => finding(
            "records",
            name,
            State::Look,
            "nothing that could be kept has come yet",
            format!("watch it: afferent tap {name}"),
        ),
        (parts, 0) => finding(
            "records",
            name,
            State::Look,
            format!("{parts} frames came, but no message has been completed"),
            format!("does the instrument end its messages with an L record? afferent tap {name}"),
        ),
        (_, messages) => {
            finding("records", name, State::Good, format!("{messages} complete messages since the start"), "")
        }
    });
    found
}

/// A folder that is there, can be written to, and is emptied.
fn folder(config: &link::Config, look: &Look) -> Finding {
    let name = &config.name;
    let say = |state, says: String, next: &str| finding("folder", name, state, says, next);
    if let Some(error) = &look.unreachable {
        return say(
            State::Bad,
            format!("cannot be read: {error}"),
            "is the share mounted, and may this user read it? findmnt",
        );
    }
    if !look.writable && config.files.then != Then::Leave {
        return say(
            State::Bad,
            "files cannot be moved out of it".to_string(),
            "let this user write to the share, or set files.then = \"leave\"",
        );
    }
    let late = look.oldest.filter(|age| *age > FILE_AGE_MAX && config.files.then != Then::Leave);
    if let Some(age) = late {
        return say(
            State::Look,
            format!("{} files wait, one since {} min", look.waiting, age.as_secs() / 60),
            "does its trigger file come, is it empty, may this user read it? the link's reasons tell",
        );
    }
    if look.refused > 0 {
        let next = "read the reasons beside them, and remove both once that is settled";
        return say(State::Look, format!("{} files were refused", look.refused), next);
    }
    say(State::Good, format!("reachable, {} files wait", look.waiting), "")
}

fn line(config: &link::Config, health: &LinkHealth) -> Finding {
    let name = &config.name;
    let bad = |says: String, next: &str| finding("line", name, State::Bad, says, next);
    if let Some(path) = config.serial.as_ref().filter(|_| !health.up) {
        return bad(
            format!("{} cannot be opened", path.display()),
            "is the adapter plugged in? ls -l /dev/serial/by-id; may this user open it (group dialout)?",
        );
    }
    if let Some(address) = config.dial.as_ref().filter(|_| !health.up) {
        return bad(
            format!("the instrument at {address} does not answer"),
            "is it on, is its host interface enabled, is the address right? ping it",
        );
    }
    if config.directory.is_some() && !health.up {
        return bad("the folder is not there".to_string(), "see what is said about the folder");
    }
    if !health.up {
        return bad("the link is not open".to_string(), "look at the log of the start");
    }
    match (health.silent_s, health.open_connections, &config.listen) {
        (Some(silent), ..) if silent > SILENT_MAX_S => finding(
            "line",
            name,
            State::Look,
            format!("silent for {} h", silent / 3600),
            "is the instrument on, and does it send by itself?",
        ),
        (Some(silent), ..) => finding("line", name, State::Good, format!("last heard {silent} s ago"), ""),
        (None, 0, Some(address)) => finding(
            "line",
            name,
            State::Look,
            format!("listening on {address}, and nobody is connected"),
            "set host address and port at the instrument to this box; is a firewall between them?",
        ),
        (None, _, None) if config.directory.is_some() => finding(
            "line",
            name,
            State::Look,
            "no file has been taken yet",
            "have the instrument export one; its name must fit files.take",
        ),
        (None, _, None) if config.serial.is_some() => silent_port(name, health),
        _ => finding(
            "line",
            name,
            State::Look,
            "connected, and no result has come yet",
            format!("send one, and watch: afferent tap {name}"),
        ),
    }
}

/// Nothing came on an open port: the handshake lines tell whether there is anybody.
fn silent_port(name: &str, health: &LinkHealth) -> Finding {
    let (says, next) = match health.modem_lines {
        Some(lines) if lines.any() => (
            "the port is open and the other side has power, and nothing has been heard",
            "send a result; if nothing comes, switch the instrument's host interface on",
        ),
        Some(_) => (
            "the port is open, all handshake lines are low, and nothing has been heard",
            "is the instrument on? Then try a crossed (null modem) cable, then the other port of the instrument",
        ),
        None => (
            "the port is open, and nothing has been heard",
            "send a result; if nothing comes, try a crossed (null modem) cable, then the other port of the instrument",
        ),
    };
    finding("line", name, State::Look, says, next)
}

/// The link's port has a twin, and its name is the name of both.
fn twin(config: &link::Config, ports: &[Port]) -> Option<Finding> {
    let name = config.serial.as_deref()?;
    let port = ports.iter().find(|port| port.twin && port.by_id.as_deref() == Some(name))?;
    let next = format!("name it by its socket: serial = \"{}\"", port.stable_name().display());
    let says = "two adapters are just alike, and this name leads to whichever was found last";
    Some(finding("port", &config.name, State::Look, says, next))
}

/// Whether the EHR's orders come in, and are taken.
fn orders(config: &orders::Config, health: &LinkHealth) -> Finding {
    let (name, address) = (&config.name, &config.listen);
    let say = |state, says: String, next: &str| finding("orders", name, state, says, next);
    match (health.up, health.messages, health.open_connections) {
        (false, ..) => say(State::Bad, "the connection is not open".to_string(), "look at the log of the start"),
        (true, 0, 0) => say(
            State::Look,
            format!("listening on {address}, and the EHR has not sent an order"),
            "set host and port at the EHR to this box; is a firewall between them?",
        ),
        (true, 0, _) => {
            let next = format!("let the EHR send one, and watch: afferent tap {name}");
            say(State::Look, "the EHR is connected, and no order has come yet".to_string(), &next)
        }
        (true, ..) => {
            taken(name, health, "the EHR was told which message and which field; its log has the ERR segments")
        }
    }
}

/// Whether a FHIR server is asked for orders with success.
fn order_feed(config: &orders::feed::Config, health: &LinkHealth) -> Finding {
    let (name, url) = (&config.name, &config.url);
    match (health.up, health.messages) {
        (false, _) => {
            let next = "does the server let this box in, and is the url right? the log says what it answered";
            finding("orders", name, State::Bad, format!("no orders can be fetched from {url}"), next)
        }
        (true, 0) => {
            let says = "the server answers, and no ServiceRequest has come since the start";
            finding("orders", name, State::Look, says, format!("ask by hand: {url}/ServiceRequest?{}", config.query))
        }
        (true, _) => taken(name, health, "the log names the entries: afferent journal show ENTRY"),
    }
}

/// What came for orders, and what of it could not be done.
fn taken(name: &str, health: &LinkHealth, next: &str) -> Finding {
    let messages = health.messages;
    match health.reasons.is_empty() {
        true => finding("orders", name, State::Good, format!("{messages} messages taken since the start"), ""),
        false => {
            let reasons: Vec<String> = health.reasons.iter().map(|(reason, n)| format!("{reason} ({n})")).collect();
            finding("orders", name, State::Look, format!("{messages} messages taken; {}", reasons.join(", ")), next)
        }
    }
}

/// What the kernel counted on a serial port: it sees what is wrong before any protocol does.
fn port(name: &str, health: &LinkHealth) -> Option<Finding> {
    let counted: Vec<String> = health.line_errors?.words().map(|(kind, count)| format!("{kind}: {count}")).collect();
    // A bad contact costs a frame now and then; with the wrong speed nothing gets through.
    let state = if health.messages == 0 { State::Bad } else { State::Look };
    let next = "compare speed, parity and stop bits with the instrument's settings, then look at the cable";
    (!counted.is_empty()).then(|| finding("port", name, state, counted.join(", "), next))
}

/// Reasons of a link that ask for a look, and the look.
const REMEDIES: [(&str, &str); 10] = [
    ("damaged character", "speed or parity differ, or the cable is bad: compare them with the instrument's settings"),
    (
        "a break on the line",
        "speed or parity differ, or the plug is loose: compare them with the instrument's settings",
    ),
    (
        "checksum rule taken up",
        "nothing, as long as messages come: its driver allows this instrument its own way to sum",
    ),
    (
        "checksum fits",
        "the instrument sums its frames its own way: name its driver, and allow it there in [wire] checksum",
    ),
    ("bad checksum", "a bad cable, or an instrument that sums its own way: afferent tap shows sent and expected"),
    ("no custody", "the box could not keep it: see the disk"),
    ("silence inside", "it stops in the middle: a loose cable, or a time-out at the instrument that is too short"),
    ("TLS", "see the certificates of both sides: afferent check FILE"),
    ("frame number", "the instrument counts its frames its own way: keep a capture with afferent tap --save"),
    ("the peer does not read", "the instrument does not take our answers: is its line one-way?"),
];

fn link_ack(name: &str, health: &LinkHealth) -> Finding {
    let worst = REMEDIES.iter().find_map(|(word, remedy)| {
        let (reason, count) = health.reasons.iter().find(|(reason, _)| reason.contains(word))?;
        Some((reason, *count, *remedy))
    });
    match worst {
        None => finding("link-ack", name, State::Good, "nothing was refused on the line", ""),
        Some((reason, count, remedy)) => {
            // A refused frame comes again: it matters when little else gets through.
            let state = if health.messages == 0 { State::Bad } else { State::Look };
            finding("link-ack", name, state, format!("{reason}, {count} times"), remedy)
        }
    }
}

fn mapping(link: &str, facts: &Facts<'_>) -> Vec<Finding> {
    let of_link = facts.held.iter().filter(|((of, _), _)| of == link);
    of_link
        .map(|((_, reason), count)| {
            let next = match reason.as_str() {
                r if r == Doubt::UnmappedCode.name() || r == Doubt::UnknownUnit.name() => {
                    "afferent map shows them and what they may be; once mapped, replay their entries"
                }
                r if r == Doubt::Control.name() => "control runs stay here; discard them when they were seen",
                _ => "see them: afferent journal hold; then release or discard them",
            };
            finding("mapping", link, State::Look, format!("{count} results are held: {reason}"), next)
        })
        .collect()
}

fn destination(config: &delivery::Config, reached: &Reached, facts: &Facts<'_>) -> Vec<Finding> {
    let name = &config.name;
    let waits = facts.stats.iter().flat_map(|s| &s.destinations).find(|d| d.destination == *name);
    let mut found = Vec::new();
    found.push(match waits.map(|d| (d.queued, d.oldest_ms.unwrap_or(0))) {
        None if facts.stats.is_none() => finding(
            "queue",
            name,
            State::Look,
            "there is no journal that can be read",
            "start the gateway once; if one of another version is running, ask it with its own program",
        ),
        None | Some((0, _)) => finding("queue", name, State::Good, "nothing waits", ""),
        Some((queued, oldest)) if oldest > QUEUE_AGE_MAX_MS => finding(
            "queue",
            name,
            State::Bad,
            format!("{queued} messages wait, the oldest for {} min", oldest / 60_000),
            "nothing is lost; see the next lines for why they wait",
        ),
        Some((queued, _)) => finding("queue", name, State::Good, format!("{queued} messages on their way"), ""),
    });
    found.push(match reached {
        Reached::Yes { tls, took } => {
            let how = if *tls { "reached, TLS works" } else { "reached, without TLS" };
            finding("ehr", name, State::Good, format!("{how}, {} ms", took.as_millis()), "")
        }
        Reached::ByLanes { up: true, since: Some(since) } => {
            finding("ehr", name, State::Good, format!("it answered last {} s ago", since.as_secs()), "")
        }
        Reached::ByLanes { up: true, since: None } => {
            let next = "`afferent doctor` on the box tries it";
            finding("ehr", name, State::Look, "nothing was sent there since the start", next)
        }
        Reached::ByLanes { up: false, .. } => finding(
            "ehr",
            name,
            State::Bad,
            "it takes no messages",
            "ask the interface team whether the receiver runs and lets this box in; results wait here meanwhile",
        ),
        Reached::No(why) => finding(
            "ehr",
            name,
            State::Bad,
            why.clone(),
            "ask the interface team whether the receiver runs and lets this box in; results wait here meanwhile",
        ),
    });
    let parked = waits.map_or(0, |d| d.parked);
    if parked > 0 {
        let said = facts.parked.iter().rev().find(|p| p.destination == *name).map_or("", |p| p.reason.as_str());
        found.push(finding(
            "ehr-ack",
            name,
            State::Bad,
            format!("{parked} messages were refused for good, the last with: {said}"),
            "settle it with the interface team, then: afferent journal requeue",
        ));
    } else if facts.stats.is_some() {
        let took = facts.stats.as_ref().and_then(|s| s.latency_p50_ms);
        let says =
            took.map_or("nothing was refused".to_string(), |ms| format!("nothing was refused, half within {ms} ms"));
        found.push(finding("ehr-ack", name, State::Good, says, ""));
    }
    found
}

#[cfg(test)]
mod tests;
