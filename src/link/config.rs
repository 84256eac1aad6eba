//! `[[link]]`: one connection to an instrument, as a site writes it down.

use super::directory::Files;
use crate::driver::order_code::SiteCodes;
use crate::driver::schema::Wire;
use crate::rules;
use crate::tls::{ClientTls, ServerTls, TlsError};
use crate::wire::Protocol;
use crate::wire::astm::{ChecksumRule, Packing};
use crate::wire::line::Framing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What LIS01-A2 gives a frame, in milliseconds.
pub const FRAME_TIMEOUT_MS: u64 = 30_000;
/// When a reply would come too late for the least patient of common instruments, in milliseconds.
pub const REPLY_TIMEOUT_MS: u64 = 9_000;
/// When a half-received message is given up, in milliseconds.
pub const MESSAGE_TIMEOUT_MS: u64 = 30_000;

/// One connection to an instrument. Exactly one of `serial`, `listen`, `dial` and `directory` says where the bytes come
/// from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the link, unique on the box; it appears in logs, counters and commands.
    pub name: String,
    /// What the instrument speaks: "astm" (LIS01-A2 link with LIS02-A2 records), "hl7" (HL7 v2 over MLLP, on the network
    /// or on a serial port), "poct1a" (POCT1-A device messages; the device dials in), "table" (rows and columns in files:
    /// CSV and its kin) or "lines" (anything else, framed as the driver says).
    pub protocol: Protocol,
    /// Serial port, by a name that stays with it: under "/dev/serial/by-id/" for the adapter, under
    /// "/dev/serial/by-path/" for the socket, or a USB identity, "usb:0403:6001:A5069RR4" (vendor, product, serial
    /// number) or "usb:1-1.4" (the socket). "/dev/ttyUSB0" is whichever adapter was found first.
    pub serial: Option<PathBuf>,
    /// Address to listen on, for example "0.0.0.0:4001". The usual way: the instrument dials the box.
    pub listen: Option<String>,
    /// Addresses the instruments of this link dial from, for example ["10.0.0.5", "10.0.1.0/24"], where several links
    /// share one `listen`: each is then told apart by who dials, with a driver and orders of its own. A link without
    /// takes whoever none of the others names; left out, all.
    pub peers: Vec<String>,
    /// Address to dial, for example "10.0.0.5:4001", for instruments that only listen.
    pub dial: Option<String>,
    /// Folder in which the instrument leaves files, for example "/srv/pcr": mostly a mounted share of its computer.
    pub directory: Option<PathBuf>,
    /// Serial speed in bits per second; the driver's own, else 9600.
    pub baud: Option<u32>,
    /// Serial data bits, 7 or 8; the driver's own, else 8.
    pub data_bits: Option<u8>,
    /// Serial parity: "none", "even" or "odd"; the driver's own, else none.
    pub parity: Option<Parity>,
    /// Serial stop bits, 1 or 2; the driver's own, else 1.
    pub stop_bits: Option<u8>,
    /// Wrong ways to sum an ASTM frame that the driver allows. A driver's alone to say.
    #[serde(skip)]
    pub checksum: Vec<ChecksumRule>,
    /// Longest text of a frame that is sent, in bytes, from the driver; left out, 240 (E1381-95), which all take.
    #[serde(skip)]
    pub frame_text_max: Option<u32>,
    /// How records are laid into the frames that are sent, from the driver; left out, one each.
    #[serde(skip)]
    pub packing: Option<Packing>,
    /// Serial flow control: "none", "hardware" or "software".
    pub flow_control: Option<FlowControl>,
    /// Driver that reads this instrument; left out, each message's header decides.
    pub driver: Option<String>,
    /// Time zone of the instrument's clock, for example "Europe/Berlin"; left out, the gateway's.
    pub time_zone: Option<String>,
    /// Character set when the messages do not say it, for example "latin-1"; left out, the driver's.
    pub charset: Option<String>,
    /// The instruments behind this link when it carries several, as a terminal server may; each is a table
    /// [[link.instrument]] with a name, what its messages say (`where`), and a driver, time zone and character set of its
    /// own where they differ. Once there is one, a message from none of them is held.
    pub instrument: Vec<super::Instrument>,
    /// What happens to a test code without LOINC: "hold" keeps it for a person, "send-local" sends the instrument's
    /// own code for sites whose EHR maps local codes itself.
    pub unmapped: rules::Unmapped,
    /// Doubts that do not hold a result on this link, for example ["questionable"]. What a person must see is always
    /// held: incomplete, unreadable, charset, not-production, no-specimen, order-mismatch, no-order, failed-run and
    /// unreadable-value.
    pub release: Vec<rules::Releasable>,
    /// What orders of the EHR mean: "off" nothing, "when-known" a result whose order is known goes out under its numbers
    /// and its patient, "required" a result without an order is held as well. Where orders and instrument disagree
    /// about the patient it is always held.
    pub orders: rules::Orders,
    /// Most seconds the instrument's clock may be ahead of, or its message time behind, the box; 0 switches it off.
    pub clock_limit_s: u32,
    /// Seconds in which the same results under a new time still count as a retransmission.
    pub resend_window_s: u32,
    /// Most connections held open at once; the one longest without a complete message makes room.
    pub connections_max: u16,
    /// Tell the instrument of its orders without being asked: its driver says how and by which codes, and the link has one
    /// instrument. Instruments that ask are answered in any case.
    pub push_orders: bool,
    /// Address to dial for orders, for example "10.0.0.5:4002", when the analyzer takes them on a connection of its own
    /// (IHE LAW); left out, they go where the analyzer asks.
    pub orders_dial: Option<String>,
    /// Set the device's clock when it connects and can be set (POCT1-A only). The results it holds keep their times.
    pub set_time: bool,
    /// File of the operators that are sent to devices which take a list (POCT1-A only): a line for each, with id, name
    /// and permission level between semicolons. It is read anew for each connection.
    pub operators: Option<PathBuf>,
    /// Ordered code = the instrument's codes, for panels and for tests whose code no code of the driver or more than one
    /// stands for, for example ["24323-8 = ALT, AST, GLU"]. Goes before the driver's (astm, hl7).
    pub order_codes: Vec<OrderCode>,
    /// How messages are told apart on a "lines" link; left out, the driver's own, else 2 s of silence.
    pub framing: Option<Framing>,
    /// Timers of the link protocol.
    pub timers: Timers,
    /// How files are taken from `directory`.
    pub files: Files,
    /// TLS; left out, the link is plain.
    pub tls: Option<Tls>,
    /// Test messages pass ([`rules::Policy::tests_pass`]). No configuration can say so.
    #[serde(skip)]
    pub tests_pass: bool,
}

/// TLS on a link. `cert` and `key` name this side; a listener with `client_ca` insists on the peer's certificate; a
/// dialler checks the peer against `ca`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// This side's certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// This side's private key, PEM.
    pub key: Option<PathBuf>,
    /// Authority the instruments' certificates must come from (listener).
    pub client_ca: Option<PathBuf>,
    /// Authority the peer's certificate must come from (dialler).
    pub ca: Option<PathBuf>,
    /// Name expected in the peer's certificate (dialler); left out, the host that is dialled.
    pub server_name: Option<String>,
}

impl Tls {
    /// The settings of a listener.
    ///
    /// # Errors
    /// [`TlsError::HalfPair`] without a certificate and its key: a listener must name itself.
    pub fn listening(&self) -> Result<ServerTls, TlsError> {
        match (self.cert.clone(), self.key.clone()) {
            (Some(cert), Some(key)) => Ok(ServerTls { cert, key, client_ca: self.client_ca.clone() }),
            _ => Err(TlsError::HalfPair),
        }
    }

    /// The settings of a dialler.
    pub fn dialling(&self) -> ClientTls {
        ClientTls {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            ..ClientTls::default()
        }
    }
}

/// One of `order_codes`: an ordered code and what the instrument calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct OrderCode {
    /// The EHR's code.
    pub ordered: String,
    /// The instrument's.
    pub codes: Vec<String>,
}

impl TryFrom<String> for OrderCode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (ordered, codes) = text.split_once('=').unwrap_or((&text, ""));
        let codes: Vec<String> = codes.split(',').map(|code| code.trim().to_string()).collect();
        if ordered.trim().is_empty() || codes.iter().any(String::is_empty) {
            return Err(format!("`{text}` is not ORDERED = CODE, CODE"));
        }
        Ok(OrderCode { ordered: ordered.trim().to_string(), codes })
    }
}

impl From<OrderCode> for String {
    fn from(code: OrderCode) -> String {
        format!("{} = {}", code.ordered, code.codes.join(", "))
    }
}

/// Serial parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even parity.
    Even,
    /// Odd parity.
    Odd,
}

impl Parity {
    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Parity::None => "none",
            Parity::Even => "even",
            Parity::Odd => "odd",
        }
    }
}

/// Serial flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlowControl {
    /// None.
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF.
    Software,
}

/// Timers of a link, in milliseconds. The defaults are LIS01-A2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// A frame must be complete this long after the session or the last reply; the driver's own, else 30 s (LIS01-A2).
    pub frame_timeout_ms: Option<u64>,
    /// A reply that would come later than this is not sent, the line is closed: the instrument would take it for the
    /// answer to its next question. Instruments wait 15 s (LIS01-A2), many HL7 ones 10 s; the driver's own, else 9 s.
    pub reply_timeout_ms: Option<u64>,
    /// A half-received HL7, POCT1-A or foreign message is given up after this time; the driver's own, else 30 s.
    pub message_timeout_ms: Option<u64>,
    /// First pause before a lost line is opened again; it doubles up to `reconnect_max_ms`, with jitter.
    pub reconnect_min_ms: u64,
    /// Longest pause before a lost line is opened again.
    pub reconnect_max_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            frame_timeout_ms: None,
            reply_timeout_ms: None,
            message_timeout_ms: None,
            reconnect_min_ms: 500,
            reconnect_max_ms: 30_000,
        }
    }
}

impl Timers {
    /// LIS01-A2's 30 s unless said otherwise.
    pub fn frame_timeout(&self) -> Duration {
        Duration::from_millis(self.frame_timeout_ms.unwrap_or(FRAME_TIMEOUT_MS))
    }

    /// 9 s unless said otherwise: less than any instrument is known to wait by default.
    pub fn reply_timeout(&self) -> Duration {
        Duration::from_millis(self.reply_timeout_ms.unwrap_or(REPLY_TIMEOUT_MS))
    }

    /// 30 s unless said otherwise.
    pub fn message_timeout(&self) -> Duration {
        Duration::from_millis(self.message_timeout_ms.unwrap_or(MESSAGE_TIMEOUT_MS))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: String::new(),
            protocol: Protocol::Astm,
            serial: None,
            listen: None,
            peers: Vec::new(),
            dial: None,
            directory: None,
            baud: None,
            data_bits: None,
            parity: None,
            stop_bits: None,
            checksum: Vec::new(),
            flow_control: None,
            driver: None,
            time_zone: None,
            charset: None,
            instrument: Vec::new(),
            unmapped: rules::Unmapped::Hold,
            release: Vec::new(),
            orders: rules::Orders::WhenKnown,
            clock_limit_s: 900,
            resend_window_s: 600,
            connections_max: 256,
            push_orders: false,
            orders_dial: None,
            frame_text_max: None,
            packing: None,
            set_time: false,
            operators: None,
            order_codes: Vec::new(),
            framing: None,
            timers: Timers::default(),
            files: Files::default(),
            tls: None,
            tests_pass: false,
        }
    }
}

impl Config {
    /// These settings, with what the link's driver says where they say nothing.
    pub fn with_driver(&self, wire: &Wire) -> Config {
        let parity = match wire.parity.as_deref() {
            Some("even") => Some(Parity::Even),
            Some("odd") => Some(Parity::Odd),
            Some("none") => Some(Parity::None),
            _ => None,
        };
        Config {
            baud: self.baud.or(wire.baud),
            data_bits: self.data_bits.or(wire.data_bits),
            parity: self.parity.or(parity),
            stop_bits: self.stop_bits.or(wire.stop_bits),
            checksum: wire.checksum.clone(),
            frame_text_max: wire.frame_text_max,
            packing: wire.packing,
            framing: self.framing.clone().or_else(|| wire.framing.clone()),
            timers: Timers {
                frame_timeout_ms: self.timers.frame_timeout_ms.or(wire.frame_timeout_ms),
                reply_timeout_ms: self.timers.reply_timeout_ms.or(wire.reply_timeout_ms),
                message_timeout_ms: self.timers.message_timeout_ms.or(wire.message_timeout_ms),
                ..self.timers
            },
            ..self.clone()
        }
    }

    /// What codes of the EHR stand for on this link (`order_codes`).
    pub fn site_codes(&self) -> SiteCodes {
        self.order_codes.iter().map(|code| (code.ordered.clone(), code.codes.clone())).collect()
    }

    /// The hold rules of this link.
    pub fn policy(&self) -> rules::Policy {
        rules::Policy {
            unmapped: self.unmapped,
            release: self.release.clone(),
            clock_limit: Duration::from_secs(self.clock_limit_s.into()),
            orders: self.orders,
            tests_pass: self.tests_pass,
        }
    }
}
