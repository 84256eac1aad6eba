//! The gate: whether results still flow. A release is confirmed when everything that worked under the old one works
//! under it, and two messages of its own get through.
//!
//! | check | what it does |
//! |---|---|
//! | `loop:<link>` | a made-up message comes in with this link's settings, acknowledged, read, mapped, queued or held |
//! | `loop:gate-astm`, `loop:gate-hl7` | the same for two links of the gate's own, and all is queued |
//! | `link:<link>` | the link's line is open: the gateway says so; where none runs, its port is free |
//! | `to:<destination>` | it is dialled, with TLS where it is configured, and nothing is sent |
//! | `bus` | the broker is there and an echo came back; where no gateway runs, the broker takes our certificate |
//!
//! The messages run through a gateway of their own in a scratch directory: the same code, the site's drivers, its
//! links' settings, its destinations and what they are to be sent, and a journal of the same kind on the same disk.
//! Nothing of it can get into a chart: what the scratch gateway would deliver to is a port of this process that nobody
//! reads from, and the site's own journal, links and destinations are not in it. The site's rules are left out, because
//! they may well hold a made-up result for good reason; that they can be read was seen when the configuration was.
//!
//! What did not work before the update is not asked of the new release: a network that is down for another reason, or
//! an instrument whose messages the simulator cannot make, must not keep a box on an old release.

use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::delivery::{self, Protocol as Way, reach};
use crate::gateway::Gateway;
use crate::journal::Account;
use crate::link::{self, LinkHealth};
use crate::sim::instrument::line::Line;
use crate::sim::instrument::results::Shape;
use crate::sim::instrument::{self, Settings};
use crate::tls;
use crate::wire::Protocol;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Checks that no release may fail.
pub const OWN: [&str; 2] = ["loop:gate-astm", "loop:gate-hl7"];
/// Links of the site that messages are looped through.
const LOOPS_MAX: usize = 8;
/// Nobody is dialled for longer than this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Results in a message.
const RESULTS: usize = 4;
/// The gate's own gateway is started so many times, each time on other ports.
const STARTS_MAX: u32 = 3;
/// A message is acknowledged, read and mapped within this time.
const LOOP_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A driver of which the simulator makes messages.
const DRIVER: &str = "roche-cobas-c111";
/// Name of the scratch directory in the data directory.
const SCRATCH: &str = "gate";
/// What a factory reset erases of it in the data directory.
pub(crate) const NAMES: &[&str] = &[SCRATCH];

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub check: String,
    /// It works.
    pub passed: bool,
    /// In words, what does not; empty when it works. No patient data.
    pub says: String,
}

impl Check {
    fn new(check: String, found: Result<(), String>) -> Check {
        Check { check, passed: found.is_ok(), says: found.err().unwrap_or_default() }
    }
}

/// Looks at everything. Takes some seconds; nothing of the gateway that may be running is touched.
pub async fn look(config: &Config) -> Vec<Check> {
    tls::provider();
    let mut found = loops(config).await;
    found.extend(links(config));
    for destination in &config.destinations {
        let reached = match tokio::time::timeout(DIAL_TIMEOUT, reach::connect(destination)).await {
            Ok(reached) => reached.map(drop),
            Err(_) => Err(format!("no answer within {} s", DIAL_TIMEOUT.as_secs())),
        };
        found.push(Check::new(format!("to:{}", destination.name), reached));
    }
    if let Some(fleet) = &config.fleet {
        found.push(Check::new("bus".to_string(), bus(config, fleet).await));
    }
    found
}

/// Names of the checks that worked.
pub fn worked(found: &[Check]) -> Vec<String> {
    found.iter().filter(|check| check.passed).map(|check| check.check.clone()).collect()
}

/// Removes what a gate that was cut off has left.
pub fn tidy(data: &Path) {
    let _ = std::fs::remove_dir_all(data.join(SCRATCH));
}

/// What has to work and does not, in words; empty when the gate is open.
pub fn missing(found: &[Check], before: &[String]) -> Vec<String> {
    let wanted: BTreeSet<&str> = before.iter().map(String::as_str).chain(OWN).collect();
    let is_passed = |name: &str| found.iter().any(|check| check.check == name && check.passed);
    let why = |name: &str| found.iter().find(|check| check.check == name).map_or("was not looked at", |c| &c.says);
    wanted.into_iter().filter(|name| !is_passed(name)).map(|name| format!("{name}: {}", why(name))).collect()
}

fn links(config: &Config) -> Vec<Check> {
    let health = match control::request(&config.gateway.data, &Request::Health) {
        Ok(Response::Health(health)) => serde_json::from_value::<Vec<LinkHealth>>(health).ok(),
        _ => None,
    };
    let check = |name: &str, found| Check::new(format!("link:{name}"), found);
    match health {
        Some(health) => {
            let is_up = |link: &LinkHealth| if link.up { Ok(()) } else { Err("its line is not open".to_string()) };
            health.iter().map(|link| check(&link.link, is_up(link))).collect()
        }
        None => config.links.iter().map(|link| check(&link.name, can_be_had(link))).collect(),
    }
}

/// Whether a link could open its line, when nobody has it open.
fn can_be_had(link: &link::Config) -> Result<(), String> {
    let is_there = |path: &Path| match path.exists() {
        true => Ok(()),
        false => Err(format!("{} is not there", path.display())),
    };
    match (&link.listen, &link.serial, &link.directory) {
        (Some(listen), ..) => match TcpListener::bind(listen) {
            // Links may share an address; whoever waits for its connections to end is no other program either.
            Err(error) => Err(format!("{listen}: {error}")),
            Ok(_) => Ok(()),
        },
        (_, Some(port), _) if port.is_absolute() => is_there(port),
        (.., Some(folder)) => is_there(folder),
        _ => Ok(()),
    }
}

async fn bus(config: &Config, fleet: &crate::fleet::Config) -> Result<(), String> {
    match control::request(&config.gateway.data, &Request::Fleet) {
        Ok(Response::Fleet(Some(status))) => match (status.connected, status.downlink_proven) {
            (true, true) => Ok(()),
            (true, false) => Err("no echo came back".to_string()),
            (false, _) => Err(format!("the broker is not there: {}", status.trouble)),
        },
        _ => {
            let (host, port) = fleet.host_and_port().ok_or("the broker's address is not usable")?;
            // An enrolled box trusts whom the desk told it to trust.
            let tls = fleet.broker_tls(&config.gateway.data);
            let dialled = reach::handshake(&host, port, Some(&tls));
            match tokio::time::timeout(DIAL_TIMEOUT, dialled).await {
                Ok(done) => done,
                Err(_) => Err("the broker does not answer".to_string()),
            }
        }
    }
}

/// A message that is looped through.
struct Loop {
    link: String,
    protocol: Protocol,
    port: u16,
    shape: Shape,
    /// It has to wait for delivery; one of the site's may be held.
    is_own: bool,
}

async fn loops(config: &Config) -> Vec<Check> {
    let scratch = Scratch(config.gateway.data.join(SCRATCH));
    match run_loops(config, &scratch).await {
        Ok(found) => found,
        Err(why) => OWN.iter().map(|check| Check::new((*check).to_string(), Err(why.clone()))).collect(),
    }
}

/// A directory that goes with this.
pub(crate) struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn run_loops(config: &Config, scratch: &Scratch) -> Result<Vec<Check>, String> {
    tidy(&config.gateway.data);
    let words = |error: &dyn std::fmt::Display| error.to_string();
    // Connections are made by the kernel; nobody ever reads from them.
    let sink = TcpListener::bind("127.0.0.1:0").map_err(|error| words(&error))?;
    let port = sink.local_addr().map_err(|error| words(&error))?.port();
    let mut starts = 1;
    let (gateway, messages) = loop {
        let (settings, messages) = scratch_config(config, &scratch.0, port).map_err(|error| words(&error))?;
        match Gateway::start(&settings).await {
            Ok(gateway) => break (gateway, messages),
            // Between the choice of a free port and listening there, somebody else may have taken it.
            Err(_) if starts < STARTS_MAX => starts += 1,
            Err(error) => return Err(words(&error)),
        }
    };
    let mut found = Vec::new();
    for (seed, message) in (1..).zip(messages) {
        let name = format!("loop:{}", message.link);
        let done = match tokio::time::timeout(LOOP_TIMEOUT, send(&gateway, message, seed)).await {
            Ok(done) => done,
            Err(_) => Err(format!("not through within {} s", LOOP_TIMEOUT.as_secs())),
        };
        found.push(Check::new(name, done));
    }
    // Who delivers would be waited for; now nobody will answer, and that is known at once.
    drop(sink);
    gateway.stop().await;
    Ok(found)
}

/// The site's settings for a gateway beside its own, with a journal in another place, that takes made-up messages: nobody
/// else talks to it, it talks to nobody but destinations, and the site's rules are left out.
pub(crate) fn beside(config: &Config, data: &Path) -> Config {
    let mut settings = config.clone();
    settings.gateway.data = data.to_path_buf();
    // A key of its own: what is in it is nobody's.
    settings.journal.key_file = None;
    (settings.dicom, settings.fleet, settings.update, settings.metrics) = (None, None, None, None);
    (settings.board, settings.watch) = (None, crate::watch::Config::default());
    settings.modalities.clear();
    settings.orders.clear();
    settings.order_feeds.clear();
    settings.rules.clear();
    settings
}

/// A link with these settings on a free port of this machine, which nobody else reaches; and the port.
pub(crate) fn on_loopback(link: link::Config) -> std::io::Result<(link::Config, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let listen = Some(format!("127.0.0.1:{port}"));
    let off_line = link::Config { serial: None, dial: None, directory: None, orders_dial: None, tls: None, ..link };
    Ok((link::Config { listen, peers: Vec::new(), ..off_line }, port))
}

/// Turns a destination to a port of this process, so that nothing gets out.
pub(crate) fn turn_to(to: &mut delivery::Config, sink: u16) {
    match to.protocol {
        Way::Fhir => to.url = Some(format!("http://127.0.0.1:{sink}/fhir")),
        _ => to.address = Some(format!("127.0.0.1:{sink}")),
    }
    (to.tls, to.oauth) = (None, None);
}

/// The site's settings for a gateway that takes made-up messages and delivers nothing.
fn scratch_config(config: &Config, data: &Path, sink: u16) -> std::io::Result<(Config, Vec<Loop>)> {
    let registry = config.registry().map_err(std::io::Error::other)?;
    let mut settings = beside(config, data);
    settings.destinations.retain(|to| matches!(to.protocol, Way::Mllp | Way::Fhir));
    if settings.destinations.is_empty() {
        settings.destinations.push(delivery::Config { name: "gate".to_string(), ..delivery::Config::default() });
    }
    for to in &mut settings.destinations {
        turn_to(to, sink);
        to.order_status.clear();
        to.links.clear();
    }
    let (mut links, mut messages) = (Vec::new(), Vec::new());
    let mut add = |link: link::Config, is_own| -> std::io::Result<()> {
        let (link, port) = on_loopback(link)?;
        let shape = link.driver.as_deref().and_then(|id| registry.get(id)).map_or_else(Shape::generic, Shape::of);
        messages.push(Loop { link: link.name.clone(), protocol: link.protocol, port, shape, is_own });
        links.push(link);
        Ok(())
    };
    let own = |name: &str, protocol, driver: Option<&str>| link::Config {
        name: name.to_string(),
        protocol,
        driver: driver.map(str::to_string),
        ..link::Config::default()
    };
    add(own("gate-astm", Protocol::Astm, Some(DRIVER)), true)?;
    add(own("gate-hl7", Protocol::Hl7, None), true)?;
    let looped = config.links.iter().filter(|link| matches!(link.protocol, Protocol::Astm | Protocol::Hl7));
    for link in looped.take(LOOPS_MAX) {
        add(link.clone(), false)?;
    }
    settings.links = links;
    Ok((settings, messages))
}

/// Sends one message and sees what becomes of its results.
async fn send(gateway: &Gateway, message: Loop, seed: u64) -> Result<(), String> {
    let reader = gateway.journal().reader().map_err(|error| error.to_string())?;
    let account = || reader.account().map_err(|error| error.to_string());
    let before = account()?;
    let settings = Settings {
        shape: message.shape,
        count: Some(1),
        results: RESULTS,
        corrections: 0.0,
        seed,
        run: "GATE".to_string(),
        ..Settings::new(Line::Connect(format!("127.0.0.1:{}", message.port)), message.protocol)
    };
    let (_stop, stopped) = watch::channel(false);
    let began = Instant::now();
    let sent = instrument::run(settings, None, stopped).await.map_err(|error| error.to_string())?;
    if sent.acknowledged != 1 {
        return Err("the message was not acknowledged".to_string());
    }
    loop {
        let now = account()?;
        if now.received - before.received >= RESULTS as i64 {
            return judge(&before, &now, message.is_own);
        }
        if began.elapsed() > LOOP_TIMEOUT / 2 {
            let read = now.received - before.received;
            return Err(format!("{read} of {RESULTS} results were read"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn judge(before: &Account, now: &Account, is_own: bool) -> Result<(), String> {
    let (queued, held) = (now.queued - before.queued, now.held - before.held);
    let wanted = now.received - before.received;
    match is_own {
        _ if queued + held != wanted => Err(format!(
            "of {wanted} results {queued} wait for delivery, {held} are held, the rest is not accounted for"
        )),
        true if held > 0 => Err(format!("{held} of {wanted} results are held")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, passed: bool) -> Check {
        Check { check: name.to_string(), passed, says: if passed { String::new() } else { "why".to_string() } }
    }

    #[test]
    fn what_worked_before_and_the_gates_own_must_work() {
        let own = [check(OWN[0], true), check(OWN[1], true)];
        assert!(missing(&own, &[]).is_empty());
        assert_eq!(missing(&own[..1], &[]), ["loop:gate-hl7: was not looked at"]);
        let found = [&own[..], &[check("to:ehr", false), check("link:a", true)]].concat();
        assert!(missing(&found, &["link:a".to_string()]).is_empty(), "what did not work is not asked for");
        assert_eq!(missing(&found, &["to:ehr".to_string()]), ["to:ehr: why"]);
        assert_eq!(missing(&found, &["link:b".to_string()]), ["link:b: was not looked at"]);
        assert_eq!(worked(&found), [OWN[0], OWN[1], "link:a"]);
    }

    #[test]
    fn results_that_are_nowhere_fail_it() {
        let account = |received, queued, held| Account { received, queued, held, ..Account::default() };
        let none = Account::default();
        assert!(judge(&none, &account(4, 4, 0), true).is_ok());
        assert!(judge(&none, &account(4, 3, 1), false).is_ok());
        assert!(judge(&none, &account(4, 3, 1), true).is_err(), "a message of the gate's own is never held");
        assert!(judge(&none, &account(4, 3, 0), false).is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_box_as_it_stands_passes_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (ehr, taken) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"{}\"\ndriver = \"sysmex-xn\"\n\
             [[link]]\nname = \"taken\"\nprotocol = \"hl7\"\nlisten = \"{}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"{}\"\n",
            dir.path().join("data"),
            free,
            taken.local_addr().unwrap(),
            ehr.local_addr().unwrap(),
        );
        let config = crate::config::parse("gateway.toml", &text).unwrap_or_else(|faults| panic!("{faults}")).config;
        std::fs::create_dir_all(&config.gateway.data).unwrap();
        let found = look(&config).await;
        let says: Vec<_> = found.iter().map(|c| (c.check.as_str(), c.says.as_str())).collect();
        let wanted = ["loop:gate-astm", "loop:gate-hl7", "loop:chemistry", "loop:taken", "link:chemistry", "to:ehr"];
        assert_eq!(worked(&found), wanted, "{says:?}");
        assert!(missing(&found, &[]).is_empty() && missing(&found, &["link:taken".to_string()]).len() == 1);
        assert_eq!(std::fs::read_dir(&config.gateway.data).unwrap().count(), 0, "the scratch directory is gone");
        drop(ehr);
        let found = look(&config).await;
        assert!(missing(&found, &["to:ehr".to_string()])[0].starts_with("to:ehr: "), "{found:?}");
    }
}
