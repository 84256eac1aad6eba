//! Drivers: how to read one family of instruments, as data.
//!
//! A driver is one `driver.toml` ([`schema`]). [`Registry`] holds the ones compiled in ([`builtin`]) and those a site
//! adds, and recognises an instrument by its header ([`identify`]). [`interpret`] turns the raw bytes of an entry into
//! reports. It is total: whatever the bytes are, it returns, and every result it saw is either an observation or a
//! refused record (invariant I7). Nothing doubtful is dropped or repaired: it becomes a [`crate::clinical::Doubt`]
//! that the rules hold on (invariant I13).
//!
//! The way back is data too ([`dialogue`]): [`query`] reads what an instrument asks for, [`worklist`] makes the records it
//! is sent.

pub mod builtin;
pub mod condition;
pub mod dialogue;
pub mod identify;
mod interpret_astm;
mod interpret_hl7;
mod interpret_lines;
mod interpret_poct1a;
mod interpret_table;
pub mod lines;
mod observe;
pub mod order_code;
pub mod path;
pub mod query;
pub mod quirk;
mod read;
pub mod schema;
mod standard;
pub mod unread;
mod value;
mod written_time;
pub mod worklist;

use crate::clinical::Report;
use crate::message::charset::Charset;
pub use crate::wire::Protocol;
use crate::wire::hex;
use crate::wire::line::Framing;
pub use interpret_lines::skeleton;
pub use read::Origin;
use schema::{Analyte, Identity, Schema};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// Longest `driver.toml`, in bytes.
pub const DRIVER_TEXT_MAX: usize = 1 << 20;
/// Most drivers in one registry.
pub const DRIVERS_MAX: usize = 4096;
/// Most results read out of one message; the rest is refused with a reason. The largest real one seen has 84.
pub const RESULTS_MAX: usize = 20_000;
/// Hex digits of a driver's version.
const VERSION_DIGITS: usize = 12;

/// What the bytes look like: POCT1-A when they begin with one of its documents, HL7 when an MSH comes before any ASTM
/// header, a table when there is no header and lines hold the same delimiter, ASTM when a record of it is among them,
/// and otherwise lines that follow no standard.
pub fn guess_protocol(raw: &[u8]) -> Protocol {
    if crate::message::poct1a::looks_like(raw) {
        Protocol::Poct1a
    } else if crate::message::hl7::looks_like(raw) {
        Protocol::Hl7
    } else if identify::sender(Protocol::Astm, raw).is_none()
        && crate::message::tables::looks_like(raw)
        && crate::message::tables::may_have_header(raw)
    {
        Protocol::Table
    } else if crate::message::astm::looks_like(raw) {
        Protocol::Astm
    } else {
        Protocol::Lines
    }
}

/// Why a `driver.toml` was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The text is not TOML, or holds a key or value that does not belong there. Names the line.
    #[error("{name}: {message}")]
    Syntax {
        /// Driver or file.
        name: String,
        /// The parser's words, with line, column and the line itself.
        message: String,
    },
    /// A value is well-formed but wrong.
    #[error("{name}, line {line}: {message}")]
    Invalid {
        /// Driver or file.
        name: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// Too long, or too many.
    #[error("{name}: {message}")]
    Limit {
        /// Driver or file.
        name: String,
        /// Which limit.
        message: &'static str,
    },
}

/// One driver, checked and ready.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Name, such as `roche-cobas-c311`.
    pub id: String,
    /// First digits of the SHA-256 of its text: changes whenever the driver does.
    pub version: String,
    /// The data.
    pub schema: Schema,
    analytes: HashMap<String, Vec<usize>>,
    /// The standard's, for a driver that has none of its own.
    order_layout: dialogue::OrderLayout,
}

/// Drivers by id. One that is cloned shares them.
#[derive(Debug, Clone)]
pub struct Registry {
    drivers: BTreeMap<String, Arc<Driver>>,
    bare_astm: Driver,
    bare_hl7: Driver,
    bare_poct1a: Driver,
    bare_table: Driver,
    bare_lines: Driver,
}

/// What [`interpret`] needs to know beyond the bytes.
#[derive(Debug, Clone)]
pub struct Context {
    /// Zone of the instrument's clock.
    pub zone: jiff::tz::TimeZone,
    /// Character set the link is configured for; goes before the driver's, after what the message itself declares.
    pub charset: Option<String>,
    /// How the link tells messages apart, when it does so in another way than the driver says (`protocol = "lines"` only).
    pub framing: Option<Framing>,
    /// False when the session ended before the message was complete.
    pub complete: bool,
}

/// What one entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interpretation {
    /// Driver as `id@version`.
    pub driver: String,
    /// Results the message carried: the sum of observations and refused records, always (invariant I7).
    pub inbound_results: u32,
    /// Reports, in the message's order.
    pub reports: Vec<Report>,
    /// Results that are none, each with its reason.
    pub refused: Vec<RefusedRecord>,
    /// What was odd but loses nothing.
    pub notes: Vec<Note>,
}

/// A result record that makes no observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRecord {
    /// Record or segment number in the message, from 1.
    pub record: u32,
    /// `R`, `OBX`, ...
    pub kind: String,
    /// Why; a closed set of texts.
    pub reason: &'static str,
}

/// Something odd, in words that are safe to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Record or segment number, 0 for the message as a whole.
    pub record: u32,
    /// What; a constant text.
    pub what: &'static str,
}

/// Reads one entry. Total: never fails, never panics.
pub fn interpret(driver: &Driver, raw: &[u8], context: &Context) -> Interpretation {
    interpret_traced(driver, raw, context, false).0
}

/// Reads one entry and says where every field came from.
pub fn explain(driver: &Driver, raw: &[u8], context: &Context) -> (Interpretation, Vec<Origin>) {
    interpret_traced(driver, raw, context, true)
}

fn interpret_traced(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let raw = &*plain(driver.protocol(), raw);
    let (mut interpretation, origins) = match driver.protocol() {
        Protocol::Astm => interpret_astm::interpret(driver, raw, context, trace),
        Protocol::Hl7 => interpret_hl7::interpret(driver, raw, context, trace),
        Protocol::Poct1a => interpret_poct1a::interpret(driver, raw, context, trace),
        Protocol::Table => interpret_table::interpret(driver, raw, context, trace),
        Protocol::Lines => interpret_lines::interpret(driver, raw, context, trace),
    };
    let observations: usize = interpretation.reports.iter().map(|r| r.observations.len()).sum();
    interpretation.inbound_results = u32::try_from(observations + interpretation.refused.len()).unwrap_or(u32::MAX);
    (interpretation, origins)
}

/// Records and messages in a file may be UTF-16; their readers know bytes in which a delimiter is one byte.
fn plain(protocol: Protocol, raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let is_utf16 = raw.starts_with(b"\xff\xfe") || raw.starts_with(b"\xfe\xff");
    match protocol {
        Protocol::Astm | Protocol::Hl7 if is_utf16 => {
            Charset::decode_declared(None, None, raw).text.into_bytes().into()
        }
        _ => raw.into(),
    }
}

impl Driver {
    /// Reads and checks a `driver.toml`. `name` becomes the id and stands in errors.
    pub fn parse(name: &str, text: &str) -> Result<Driver, DriverError> {
        if text.len() > DRIVER_TEXT_MAX {
            return Err(DriverError::Limit { name: name.into(), message: "driver.toml is longer than 1 MiB" });
        }
        let mut schema: Schema = toml::from_str(text)
            .map_err(|e| DriverError::Syntax { name: name.into(), message: e.to_string().trim_end().to_string() })?;
        identify::check(&schema).map_err(|fault| DriverError::Invalid {
            name: name.into(),
            line: fault.line_in(text),
            message: fault.message,
        })?;
        schema.fields.fill(schema.identity.protocol);
        schema.qc.fill(schema.identity.protocol);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let version = hex::digits(digest.as_ref());
        let mut analytes: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, analyte) in schema.analyte.iter().enumerate() {
            analytes.entry(analyte.code.clone()).or_default().push(i);
        }
        Ok(Driver {
            id: name.to_string(),
            version: version[..VERSION_DIGITS].to_string(),
            schema,
            analytes,
            order_layout: Default::default(),
        })
    }

    /// `id@version`.
    pub fn id_and_version(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// What the driver reads.
    pub fn protocol(&self) -> Protocol {
        self.schema.identity.protocol
    }

    /// Defaults for a link.
    pub fn wire(&self) -> &schema::Wire {
        &self.schema.wire
    }

    /// The analyte for a code, on this type of specimen and in this unit. Where several entries share the code and the
    /// unit is in none of them, there is no answer.
    pub fn analyte(&self, code: &str, specimen: &str, unit: &str) -> Option<&Analyte> {
        let entries = self.analytes.get(code)?.iter().filter_map(|i| self.schema.analyte.get(*i));
        let fits = |a: &&Analyte| {
            let limit = self.specimens(a);
            limit.is_empty() || limit.iter().any(|s| s == specimen)
        };
        let fitting: Vec<&Analyte> = entries.filter(fits).collect();
        match fitting.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|a| a.units.contains_key(unit)).copied(),
        }
    }

    /// The types of specimen, as sent, for which an analyte holds; all where there is none.
    pub fn specimens<'a>(&'a self, analyte: &'a Analyte) -> &'a [String] {
        if analyte.specimen.is_empty() { &self.schema.fields.analyte_specimen } else { &analyte.specimen }
    }

    /// The records orders are sent in: the driver's, else the standard's.
    pub fn order_layout(&self) -> &dialogue::OrderLayout {
        self.schema.orders.as_ref().unwrap_or(&self.order_layout)
    }

    /// A driver that knows nothing but the standard.
    fn bare(id: &str, protocol: Protocol) -> Driver {
        let identity = Identity {
            vendor: String::new(),
            model: String::new(),
            protocol,
            header: Vec::new(),
            conditions: Vec::new(),
            evidence: Vec::new(),
        };
        let mut schema = Schema::bare(identity);
        schema.fields.fill(protocol);
        schema.qc.fill(protocol);
        Driver {
            id: id.to_string(),
            version: "0".repeat(VERSION_DIGITS),
            schema,
            analytes: HashMap::new(),
            order_layout: Default::default(),
        }
    }
}

impl Registry {
    /// The drivers compiled in, which are read once.
    pub fn builtin() -> Registry {
        static BUILTIN: LazyLock<Registry> = LazyLock::new(Registry::read_builtin);
        BUILTIN.clone()
    }

    fn read_builtin() -> Registry {
        let mut registry = Registry {
            drivers: BTreeMap::new(),
            bare_astm: Driver::bare(builtin::GENERIC_ASTM, Protocol::Astm),
            bare_hl7: Driver::bare(builtin::GENERIC_HL7, Protocol::Hl7),
            bare_poct1a: Driver::bare(builtin::GENERIC_POCT1A, Protocol::Poct1a),
            bare_table: Driver::bare(builtin::GENERIC_TABLE, Protocol::Table),
            bare_lines: Driver::bare(builtin::GENERIC_LINES, Protocol::Lines),
        };
        for (name, text) in builtin::DRIVERS {
            // They are compiled in and a test reads each of them, so that none is ever left out here.
            let _ = registry.add(name, text);
        }
        registry
    }

    /// Adds a driver, or replaces the one of the same name.
    pub fn add(&mut self, name: &str, toml: &str) -> Result<(), DriverError> {
        if self.drivers.len() >= DRIVERS_MAX {
            return Err(DriverError::Limit { name: name.into(), message: "more than 4096 drivers" });
        }
        let driver = Driver::parse(name, toml)?;
        self.drivers.insert(name.to_string(), Arc::new(driver));
        Ok(())
    }

    /// The driver of this id.
    pub fn get(&self, id: &str) -> Option<&Driver> {
        self.drivers.get(id).map(Arc::as_ref)
    }

    /// All drivers, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Driver> {
        self.drivers.values().map(Arc::as_ref)
    }

    /// The driver whose header pattern fits the message best; the generic one of the protocol when none does.
    pub fn identify(&self, protocol: Protocol, raw: &[u8]) -> &Driver {
        identify::best(self.iter(), protocol, raw).unwrap_or_else(|| self.generic(protocol))
    }

    /// Every driver that would recognise the message as its own: more than one where patterns overlap.
    pub fn fitting(&self, protocol: Protocol, raw: &[u8]) -> Vec<&Driver> {
        identify::fitting(self.iter(), protocol, raw).map(|(_, driver)| driver).collect()
    }

    /// The generic driver of a protocol.
    pub fn generic(&self, protocol: Protocol) -> &Driver {
        match protocol {
            Protocol::Astm => self.get(builtin::GENERIC_ASTM).unwrap_or(&self.bare_astm),
            Protocol::Hl7 => self.get(builtin::GENERIC_HL7).unwrap_or(&self.bare_hl7),
            Protocol::Poct1a => self.get(builtin::GENERIC_POCT1A).unwrap_or(&self.bare_poct1a),
            Protocol::Table => self.get(builtin::GENERIC_TABLE).unwrap_or(&self.bare_table),
            Protocol::Lines => self.get(builtin::GENERIC_LINES).unwrap_or(&self.bare_lines),
        }
    }
}

#[cfg(test)]
mod tests;
