//! The desk: the operator's side of a fleet. It listens to what boxes say on the broker and tells them what to do, signed.
//!
//! The fleet's engine is the broker: it keeps what each box said last and queues what boxes that are away are told. So the
//! desk keeps nothing but its keys and a record of what was asked ([`audit`]), and may run any number of times, each with
//! a certificate of its own. [`roster`] is the fleet as it is heard; [`Line`] the connection; [`authority`] signs the
//! certificates of boxes, which [`enrol`] lets in.

pub mod audit;
pub mod pack;
pub mod authority;
pub mod enrol;
pub mod roster;

use crate::fleet::bus::mqtt::{Broker, Mqtt};
use crate::fleet::bus::{Bus, Heard, PublishId, Quality};
use crate::fleet::topic::{self, Place, Up};
use crate::tls::{self, ClientTls};
use bytes::Bytes;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// mosquitto's configuration for a fleet.
pub const MOSQUITTO_CONF: &str = include_str!("desk/mosquitto.conf");
/// Who may say and hear what there.
pub const MOSQUITTO_ACL: &str = include_str!("desk/acl");

/// `desk.toml`: the broker, and who the desk is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// MQTT 5 broker, host and port.
    pub broker: String,
    /// Whose fleet it is.
    pub tenant: String,
    /// The desk's certificate, by which the broker knows it.
    pub tls: ClientTls,
}

/// Why the desk does not get through. The text is for the person at it.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The settings cannot be read.
    #[error("{}: {why}; it needs `broker`, `tenant` and a table [tls] with `ca`, `cert` and `key`", file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The broker is not there, or does not take what is said.
    #[error("the broker {broker}: {why}")]
    Broker {
        /// Which.
        broker: String,
        /// What it said.
        why: String,
    },
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`DeskError::Settings`].
    pub fn read(file: &Path) -> Result<Config, DeskError> {
        let wrong = |why: String| DeskError::Settings { file: file.to_path_buf(), why };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(&text).map_err(|error| wrong(error.message().to_string()))
    }

    fn broker(&self) -> Result<Broker, String> {
        let (host, port) = self.broker.rsplit_once(':').ok_or("its address is host and port")?;
        let port = port.parse().map_err(|_| "its address ends in a port")?;
        let cert = self.tls.cert.as_deref().ok_or("[tls] names no `cert`")?;
        let client_id = tls::common_name(cert).map_err(|error| error.to_string())?;
        let client_id = client_id.ok_or_else(|| format!("the certificate {} has no common name", cert.display()))?;
        Ok(Broker { host: host.trim_matches(['[', ']']).to_string(), port, tls: self.tls.clone(), client_id })
    }
}

/// A connection to the broker as the desk of a tenant.
pub struct Line {
    bus: Mqtt,
    config: Config,
    next: PublishId,
}

/// Something that a box said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which box.
    pub place: Place,
    /// What it is about.
    pub what: Up,
    /// The document.
    pub payload: Vec<u8>,
}

impl Line {
    /// Connects and asks for everything that the tenant's boxes say, what the broker has kept first.
    ///
    /// # Errors
    /// [`DeskError::Broker`].
    pub async fn connect(config: &Config) -> Result<Line, DeskError> {
        tls::provider();
        let failed = |why: String| DeskError::Broker { broker: config.broker.clone(), why };
        let broker = config.broker().map_err(failed)?;
        if Place::new(&config.tenant, "box").is_none() {
            return Err(failed(format!("`{}` cannot stand in topics", config.tenant)));
        }
        let mut bus = Mqtt::new(broker, tokio::runtime::Handle::current());
        bus.connect_desk();
        match bus.heard().await {
            Heard::Connected { .. } => {}
            Heard::Lost(why) => return Err(failed(why)),
            _ => return Err(failed("it does not speak MQTT 5".to_string())),
        }
        bus.subscribe(topic::up_filter(Some(&config.tenant)));
        Ok(Line { bus, config: config.clone(), next: PublishId::FIRST })
    }

    /// Tells a box something and returns once the broker has it.
    ///
    /// # Errors
    /// [`DeskError::Broker`]: it may have it or not.
    pub async fn tell(&mut self, topic: String, payload: Vec<u8>, heard: &mut Vec<Said>) -> Result<(), DeskError> {
        self.say(topic, payload, Quality::AtLeastOnce, heard).await
    }

    /// Tells a box something that the broker keeps for it, in the place of what it kept before, and returns once the
    /// broker has it.
    ///
    /// # Errors
    /// [`DeskError::Broker`]: it may have it or not.
    pub async fn keep(&mut self, topic: String, payload: Vec<u8>, heard: &mut Vec<Said>) -> Result<(), DeskError> {
        self.say(topic, payload, Quality::Retained, heard).await
    }

    async fn say(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        quality: Quality,
        heard: &mut Vec<Said>,
    ) -> Result<(), DeskError> {
        let id = self.next;
        self.next = id.next();
        self.bus.say(id, topic, Bytes::from(payload), quality);
        loop {
            match self.bus.heard().await {
                Heard::Acknowledged(acknowledged) if acknowledged == id => return Ok(()),
                Heard::Refused(refused, code) if refused == id => {
                    return Err(self.failed(format!("it does not let this desk tell boxes (reason 0x{code:02x})")));
                }
                other => heard.extend(self.said(other)?),
            }
        }
    }

    /// What a box said next.
    ///
    /// # Errors
    /// [`DeskError::Broker`] when the connection is gone.
    pub async fn hear(&mut self) -> Result<Said, DeskError> {
        loop {
            let heard = self.bus.heard().await;
            if let Some(said) = self.said(heard)? {
                return Ok(said);
            }
        }
    }

    /// Answers a box that asks whether it is heard.
    pub fn answer(&mut self, said: &Said) {
        let id = self.next;
        self.next = id.next();
        let topic = said.place.down(&topic::Down::Echo);
        self.bus.say(id, topic, Bytes::copy_from_slice(&said.payload), Quality::AtLeastOnce);
    }

    fn said(&mut self, heard: Heard) -> Result<Option<Said>, DeskError> {
        match heard {
            Heard::Received { topic, payload, receipt } => {
                self.bus.acknowledge(receipt);
                // A box may say things under another tenant's name; the broker's rules cannot tell.
                let ours = topic::parse_up(&topic).filter(|(place, _)| place.tenant() == self.config.tenant);
                Ok(ours.map(|(place, what)| Said { place, what, payload }))
            }
            Heard::Unheard => Err(self.failed("it does not let this desk hear the boxes: see its acl".to_string())),
            Heard::Lost(why) => Err(self.failed(why)),
            Heard::Connected { .. }
            | Heard::Switched { .. }
            | Heard::NotSwitched(_)
            | Heard::Acknowledged(_)
            | Heard::Refused(..) => Ok(None),
        }
    }

    fn failed(&self, why: String) -> DeskError {
        DeskError::Broker { broker: self.config.broker.clone(), why }
    }
}
