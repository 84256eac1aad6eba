//! `[fleet]`: the broker, and who the box is there.

use super::envelope::Operator;
use super::identity::est::Enrol;
use super::identity::folder;
use super::sparkplug;
use super::topic::Place;
use crate::tls::{self, ClientTls};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Seconds between two messages with counters: no flood, and no day without a word.
pub const METRICS_S: RangeInclusive<u64> = 5..=3600;
const METRICS_DEFAULT_S: u64 = 60;
/// Seconds of a trial: time for instruments to dial in again, and no hour without the old configuration.
pub const CONFIRM_S: RangeInclusive<u64> = 4..=3600;
const CONFIRM_DEFAULT_S: u64 = 120;

/// Signatures that a configuration may have to have.
pub const CONFIG_SIGNATURES: RangeInclusive<usize> = 1..=2;

/// The message broker over which a fleet of boxes is looked after. It carries counts, ages and names of this file, never
/// results or anything of a patient, and nothing waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// MQTT 5 broker, host and port; TLS always.
    pub broker: String,
    /// Whose fleet it is: the first part of every topic, and what the broker's rules go by.
    pub tenant: String,
    /// Name of the box on the bus; left out, the common name of its certificate. Where both are given they are the same.
    pub name: Option<String>,
    /// Seconds between two messages with counters. Links and destinations are told of as often, and when they change.
    pub metrics_s: u64,
    /// Seconds in which a configuration that came from afar has to prove itself: the broker, and every link and
    /// destination that was well before, have to be well for a quarter of this without a break, or the one before runs
    /// again.
    pub confirm_s: u64,
    /// How many operators must have signed a configuration that comes from afar, 1 or 2: it may send results elsewhere.
    pub config_signatures: usize,
    /// Whose commands and configurations the box obeys, one table each; none means nobody's.
    #[serde(rename = "operator")]
    pub operators: Vec<Operator>,
    /// Folder in which a configuration may lie that somebody carries here on a memory stick, signed as one that comes from
    /// afar; left out, nobody looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stick: Option<PathBuf>,
    /// Where the box asks for its certificate, when it is not given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrol: Option<Enrol>,
    /// The telemetry for a Sparkplug B host; left out, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparkplug: Option<sparkplug::Config>,
    /// The box's certificate, by which the broker knows it, and who may have signed the broker's.
    pub tls: ClientTls,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            broker: String::new(),
            tenant: String::new(),
            name: None,
            metrics_s: METRICS_DEFAULT_S,
            confirm_s: CONFIRM_DEFAULT_S,
            config_signatures: *CONFIG_SIGNATURES.start(),
            operators: Vec::new(),
            stick: None,
            enrol: None,
            sparkplug: None,
            tls: ClientTls::default(),
        }
    }
}

/// Host and port of an address.
pub fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_string(), port.parse().ok()?))
}

impl Config {
    /// Host and port of the broker.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        host_and_port(&self.broker)
    }

    /// Whom the box trusts and what it shows the broker: files of the site, or those in `data` that it enrolled for.
    pub fn broker_tls(&self, data: &Path) -> ClientTls {
        let (Some(_), current) = (&self.enrol, folder::current(data)) else { return self.tls.clone() };
        let (cert, key) = (Some(current.clone()), Some(current));
        ClientTls { ca: Some(folder::trust(data)), cert, key, ..self.tls.clone() }
    }

    /// Where the box stands on the bus. The certificate is read when there is no `name`, and when the box enrolled for it.
    ///
    /// # Errors
    /// In words, what is missing.
    pub fn place(&self, data: &Path) -> Result<Place, String> {
        let found = |cert: &Path| {
            let found = tls::common_name(cert).map_err(|error| error.to_string())?;
            found.ok_or_else(|| format!("the certificate in {} has no common name", cert.display()))
        };
        let name = match (&self.name, &self.broker_tls(data).cert) {
            // Until it was let in, nobody has said otherwise.
            (Some(name), Some(cert)) if self.enrol.is_some() && cert.exists() => match found(cert)? {
                found if found == *name => found,
                found => return Err(format!("this box was let in as `{found}`, and `name` is `{name}`")),
            },
            (Some(name), _) => name.clone(),
            (None, Some(cert)) => found(cert)?,
            (None, None) => return Err("[fleet.tls] names no certificate".to_string()),
        };
        let place = Place::new(&self.tenant, &name);
        place.ok_or_else(|| format!("`{}` and `{name}` cannot stand in topics", self.tenant))
    }
}
