//! `[[orders]]`: one connection over which the EHR sends orders and patients.

use super::read::{Context, Place};
use crate::link;
use crate::link::config::{Timers, Tls};
use crate::message::charset::Charset;
use crate::rules;
use crate::wire::Protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One connection over which the EHR sends orders (OML^O21, OML^O33, ORM^O01) and patients (ADT), HL7 v2 over MLLP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the connection, unique among these and the links; it appears in logs, counters and commands.
    pub name: String,
    /// Address to listen on, for example "0.0.0.0:4100". The EHR dials the box.
    pub listen: String,
    /// Links whose instruments are told of these orders unasked, or when they ask for everything; left empty, all links
    /// but those with orders = "off". Whichever instrument asks for a specimen is told, and every link's results find
    /// them.
    pub links: Vec<String>,
    /// Field of ORC or OBR in which messages without SPM hold the specimen id, for example "OBR-3.1"; left out, such
    /// an order is found only by its placer or filler number.
    pub specimen_field: Option<String>,
    /// Time zone of times without one, for example "Europe/Berlin"; left out, the gateway's.
    pub time_zone: Option<String>,
    /// Character set when MSH-18 is silent, for example "latin-1"; left out, it is told by the text.
    pub charset: Option<String>,
    /// Most connections held open at once; the one longest without a complete message makes room.
    pub connections_max: u16,
    /// TLS; left out, the connection is plain.
    pub tls: Option<Tls>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: String::new(),
            listen: String::new(),
            links: Vec::new(),
            specimen_field: None,
            time_zone: None,
            charset: None,
            connections_max: 16,
            tls: None,
        }
    }
}

impl Config {
    /// The line itself: a listener like that of an instrument.
    pub fn line(&self) -> link::Config {
        link::Config {
            name: self.name.clone(),
            protocol: Protocol::Hl7,
            listen: Some(self.listen.clone()),
            connections_max: self.connections_max,
            timers: Timers::default(),
            tls: self.tls.clone(),
            ..link::Config::default()
        }
    }

    /// The links that are told of its orders unasked: those it names, else all that match results with orders.
    pub fn told(&self, links: &[link::Config]) -> Vec<String> {
        let wanted = |link: &&link::Config| match self.links.is_empty() {
            true => link.orders != rules::Orders::Off,
            false => self.links.contains(&link.name),
        };
        links.iter().filter(wanted).map(|link| link.name.clone()).collect()
    }

    /// How its messages are read. `zone` is the gateway's.
    pub fn context(&self, zone: &jiff::tz::TimeZone) -> Context {
        let own = self.time_zone.as_deref().and_then(|name| jiff::tz::TimeZone::get(name).ok());
        Context {
            zone: own.unwrap_or_else(|| zone.clone()),
            charset: self.charset.as_deref().and_then(Charset::named),
            specimen_field: self.specimen_field.as_deref().and_then(Place::parse),
        }
    }
}
