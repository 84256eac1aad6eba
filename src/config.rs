//! The configuration file: one TOML file that only composes what each module declares beside its own code.
//!
//! [`load()`] reads it and reports everything that is wrong at once, each [`Fault`] with its place in the text and what
//! to do about it. Unknown keys are errors: a misspelt setting that is silently ignored is worse than no start.
//!
//! Rooms: [`load`](mod@load) reads text into [`Config`], `trial.rs` is how one runs until it is confirmed,
//! [`check`] looks at what the values mean together, [`addition`] is how a program adds to one, [`diagnose`] shows
//! faults, [`schema`] is the JSON Schema and the structural check made from it, [`sample`] is the commented sample file.

pub mod addition;
pub mod check;
pub mod diagnose;
pub mod load;
pub mod sample;
pub mod schema;
mod trial;

use crate::driver::{DriverError, Registry};
use crate::rules::{Rule, Rulebook};
use crate::{board, delivery, fleet, imaging, journal, link, metrics, orders, update, watch};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

pub use diagnose::{Fault, Faults, Kind};
pub use load::{LoadError, Loaded, load, parse};
pub use trial::Trial;

/// Where the journal lives unless the file says otherwise.
const DATA_DEFAULT: &str = "/var/lib/afferent";
/// Name of the gateway on a machine that has none.
const NAME_DEFAULT: &str = "afferent";

/// Everything a gateway is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The box itself.
    pub gateway: Gateway,
    /// The journal: what was received and what is still to be delivered.
    pub journal: journal::Config,
    /// Connections to instruments, one table each.
    #[serde(rename = "link")]
    pub links: Vec<link::Config>,
    /// Where modalities store images and ask for their worklist; left out, none can.
    pub dicom: Option<link::dicom::Config>,
    /// Modalities that are known by name, one table each.
    #[serde(rename = "modality")]
    pub modalities: Vec<link::dicom::Modality>,
    /// Connections over which the EHR sends orders, one table each.
    pub orders: Vec<orders::Config>,
    /// FHIR servers that are asked for imaging orders, one table each.
    #[serde(rename = "order_feed")]
    pub order_feeds: Vec<orders::feed::Config>,
    /// What modalities that ask for their worklist are told.
    pub worklist: orders::worklist::Config,
    /// When EHRs are told of imaging studies, and what is held.
    pub imaging: imaging::Config,
    /// Where results go, one table each.
    #[serde(rename = "destination")]
    pub destinations: Vec<delivery::Config>,
    /// Autoverification rules, tried in this order, one table each.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// The message broker over which a fleet of boxes is looked after; left out, the box is on its own.
    pub fleet: Option<fleet::Config>,
    /// How the box gets new releases; left out, it does not.
    pub update: Option<update::Config>,
    /// The box's own hardware; left out, it has none.
    pub board: Option<board::Config>,
    /// What is unusual on the interfaces and told of.
    pub watch: watch::Config,
    /// Counters for the monitoring that a site has; left out, nobody is told.
    pub metrics: Option<metrics::Config>,
    /// Id and text of each driver the site added, read when the configuration was.
    #[serde(skip)]
    site_drivers: Vec<(String, String)>,
    /// How it runs until it is confirmed; none when that is not in doubt.
    #[serde(skip)]
    pub trial: Option<Arc<Trial>>,
    /// Where it came from; none where nobody asked.
    #[serde(skip)]
    pub origin: Option<Arc<Origin>>,
}

/// Where the configuration of a gateway came from: the box's own file, and what the desk sent in its place.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The box's own file.
    pub file: PathBuf,
    /// Its digest, with the drivers and rules it names, when it was read.
    pub digest: [u8; 32],
    /// What it says.
    pub own: Config,
    /// The revision that runs in its place, and the digest of that document.
    pub adopted: Option<(u64, [u8; 32])>,
}

/// The box itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Name of the box in what it sends (MSH-3) and logs; left out, the machine's host name.
    pub name: Option<String>,
    /// Directory for everything the box keeps. It belongs on a disk of its own that obeys fsync.
    pub data: PathBuf,
    /// Time zone of the instruments' clocks, for example "Europe/Berlin"; left out, the machine's own, else UTC.
    pub time_zone: Option<String>,
    /// The machine's clock is right although the kernel knows of no time server and no battery: in a container, or
    /// where a program of the site keeps it. Commands that expire are refused while nobody vouches for the clock.
    pub clock_trusted: bool,
    /// Directory with the site's own drivers, one folder `<id>/driver.toml` each. A driver with the id of a built-in
    /// one takes its place.
    pub drivers: Option<PathBuf>,
    /// File with more rules, `[[rule]]` tables and nothing else; they come behind those of this file.
    pub rules: Option<PathBuf>,
}

impl Default for Gateway {
    fn default() -> Self {
        Gateway {
            name: None,
            data: PathBuf::from(DATA_DEFAULT),
            time_zone: None,
            clock_trusted: false,
            drivers: None,
            rules: None,
        }
    }
}

impl Gateway {
    /// Name of the box: the configured one, else the host name.
    pub fn name(&self) -> String {
        let host = || host_name().map(|host| host.trim().to_owned());
        let usable = |name: &String| check::name_is_usable(name);
        self.name.clone().or_else(host).filter(usable).unwrap_or_else(|| NAME_DEFAULT.to_owned())
    }

    /// Zone of the instruments' clocks: the configured one, else the machine's, else UTC.
    pub fn time_zone(&self) -> TimeZone {
        let configured = self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        configured.or_else(|| TimeZone::try_system().ok()).unwrap_or(TimeZone::UTC)
    }
}

/// What the machine is called. A debug build can be told another name, so that a test has two machines.
fn host_name() -> Option<String> {
    #[cfg(debug_assertions)]
    if let Ok(host) = std::env::var("AFFERENT_HOST") {
        return Some(host);
    }
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok()
}

impl Config {
    /// The drivers: those compiled in and over them those of the site.
    ///
    /// # Errors
    /// [`DriverError`] for a site's driver that does not load; [`load()`] has reported it before.
    pub fn registry(&self) -> Result<Registry, DriverError> {
        let mut registry = Registry::builtin();
        for (id, text) in &self.site_drivers {
            registry.add(id, text)?;
        }
        Ok(registry)
    }

    /// Id and text of each driver the site added.
    pub fn site_drivers(&self) -> &[(String, String)] {
        &self.site_drivers
    }

    /// The destinations with the AE title by which this gateway calls them.
    pub fn destinations_called(&self) -> Vec<delivery::Config> {
        let called = |to: &delivery::Config| match &self.dicom {
            Some(dicom) => to.clone().of_gateway(&dicom.ae_title),
            None => to.clone(),
        };
        self.destinations.iter().map(called).collect()
    }

    /// Takes what a gateway stands on from the box's own configuration.
    fn stand_on(&mut self, own: &Config) {
        self.gateway.data = own.gateway.data.clone();
        self.gateway.clock_trusted = own.gateway.clock_trusted;
        self.journal = own.journal.clone();
        self.fleet = own.fleet.clone();
        self.update = own.update.clone();
        self.board = own.board.clone();
    }

    /// What a gateway stands on, and the box needs to start and to be reached: it takes a start of the program to change,
    /// and cannot be changed from afar. The first setting of it that is another in `other`.
    pub fn foundation_differs(&self, other: &Config) -> Option<&'static str> {
        let (ours, theirs) = (&self.gateway, &other.gateway);
        [
            ("gateway.data", ours.data != theirs.data),
            ("gateway.clock_trusted", ours.clock_trusted != theirs.clock_trusted),
            ("journal", self.journal != other.journal),
            ("fleet", self.fleet != other.fleet),
            ("update", self.update != other.update),
            ("board", self.board != other.board),
        ]
        .into_iter()
        .find_map(|(setting, differs)| differs.then_some(setting))
    }

    /// The box's own certificates: the setting that names each, and its file.
    pub fn own_certificates(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        let mut note = |setting: String, file: Option<&PathBuf>| found.extend(file.map(|file| (setting, file.clone())));
        for link in &self.links {
            note(format!("link.{}.tls.cert", link.name), link.tls.as_ref().and_then(|tls| tls.cert.as_ref()));
        }
        for orders in &self.orders {
            note(format!("orders.{}.tls.cert", orders.name), orders.tls.as_ref().and_then(|tls| tls.cert.as_ref()));
        }
        let dicom = self.dicom.as_ref().and_then(|dicom| dicom.tls.as_ref());
        note("dicom.tls.cert".to_owned(), dicom.map(|tls| &tls.cert));
        for feed in &self.order_feeds {
            note(format!("order_feed.{}.tls.cert", feed.name), feed.tls.as_ref().and_then(|tls| tls.cert.as_ref()));
        }
        for to in &self.destinations {
            note(format!("destination.{}.tls.cert", to.name), to.tls.as_ref().and_then(|tls| tls.cert.as_ref()));
        }
        let metrics = self.metrics.as_ref().and_then(|metrics| metrics.tls.as_ref());
        note("metrics.tls.cert".to_owned(), metrics.and_then(|tls| tls.cert.as_ref()));
        let on_the_bus = self.fleet.as_ref().map(|fleet| fleet.broker_tls(&self.gateway.data));
        let syslog = self.watch.syslog.as_ref().and_then(|syslog| syslog.tls.as_ref());
        note("watch.syslog.tls.cert".to_owned(), syslog.and_then(|tls| tls.cert.as_ref()));
        let view = self.fleet.as_ref().and_then(|fleet| fleet.sparkplug.as_ref());
        note("fleet.sparkplug.tls.cert".to_owned(), view.and_then(|view| view.tls.cert.as_ref()));
        note("fleet.tls.cert".to_owned(), on_the_bus.as_ref().and_then(|tls| tls.cert.as_ref()));
        found
    }

    /// The site's rules, ready to judge. [`load()`] has checked them: of rules that are wrong there are none.
    pub fn rulebook(&self) -> Rulebook {
        Rulebook::new(&self.rules).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
