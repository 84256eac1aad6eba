//! What a box says on the bus, by type (invariant I8).
//!
//! Only a [`Document`] is ever published, and only what is [`Publishable`] becomes one: that trait is sealed, and
//! implemented for the types of this file alone. Their fields are counts, moments, closed enums, constants of this
//! program ([`Word`]), names of the configuration ([`Name`]) and what the machine says of itself ([`Hardware`],
//! [`SerialPort`]). There is no text here that a message could end up in; a test of the house law sees to it. The
//! configuration ([`Packed::settings`]) is the operators' own, and of a line of the log only what is written in the source
//! is kept ([`LogLine`]).
//!
//! **To say something new**, add a type or a variant of [`What`] here, of such fields, and name the type in the list
//! at [`Publishable`].

mod bundle;
mod log_line;
mod outcome;
mod packed;
mod release;

pub use bundle::{Bundle, BundleFacts, BundlePart, FindingFacts};
pub use log_line::{LogChunk, LogEnd, LogFacts, LogLine};
pub use outcome::{CaptureFacts, Failure, Outcome, QueueFacts};
pub use packed::{Packed, Settings};
pub use release::{Release, UpdateFacts, UpdateReport};

use super::command::Refusal;
use super::desired::Why;
use crate::clock::Quality;
use crate::config::diagnose::Kind;
use crate::config::load::Places;
use crate::delivery::DeliveryCounters;
use crate::journal::Condition;
use crate::link::LinkCounters;
use crate::link::serial::ports::Port;
use crate::watch::station::StandingAlert;
use crate::watch::{Alert, Trouble};
use crate::wire::hex;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// The shape of all documents.
const VERSION: u8 = 1;
/// Longest text the machine may say of itself.
const FACT_MAX_CHARS: usize = 64;
/// Alerts told of as standing; what begins beyond them is told as an event.
pub const ALERTS_MAX: usize = 64;
/// Serial ports told of; a box has a few.
const PORTS_MAX: usize = 32;

/// What may be published.
pub trait Publishable: Serialize + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! publishable {
    ($($said:ty),* $(,)?) => { $(impl sealed::Sealed for $said {} impl Publishable for $said {})* };
}
publishable!(
    Birth,
    State,
    Reported,
    LinkReport,
    DestinationReport,
    Metrics,
    Alerts,
    UpdateReport,
    Event,
    Echo,
    LogChunk,
    BundlePart
);

/// JSON that is fit to be published.
#[derive(Clone, PartialEq, Eq)]
pub struct Document(Arc<[u8]>);

impl Document {
    /// What is said, as JSON with `"v":1`.
    pub fn of(said: &impl Publishable) -> Document {
        #[derive(Serialize)]
        struct Versioned<'s, T> {
            v: u8,
            #[serde(flatten)]
            said: &'s T,
        }
        // Numbers, constants and names only: this cannot fail.
        let json = serde_json::to_vec(&Versioned { v: VERSION, said }).unwrap_or_default();
        Document(json.into())
    }

    /// Nothing: retained, it takes back what was said before.
    pub fn nothing() -> Document {
        Document(Arc::default())
    }

    /// What was stored of a document.
    pub(in crate::fleet) fn stored(bytes: Vec<u8>) -> Document {
        Document(bytes.into())
    }

    /// The JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A constant of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Word(&'static str);

impl Word {
    /// A word that is written in the source.
    pub const fn new(word: &'static str) -> Word {
        Word(word)
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A name of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Text);

impl Name {
    /// That of a link, a modality, a connection of the EHR: whatever counts as a link.
    pub fn of_link(counters: &LinkCounters) -> Name {
        Name(Text(counters.name().into()))
    }

    /// That of a destination.
    pub fn of_destination(counters: &DeliveryCounters) -> Name {
        Name(Text(counters.name().into()))
    }

    /// What an alert is about: a link, or the setting that names a certificate. None when it is the box.
    pub fn of_alert(alert: &Alert) -> Option<Name> {
        (!alert.of.is_empty()).then(|| Name(Text(alert.of.as_str().into())))
    }

    /// The path of the setting that stands at this place of a configuration, such as `link[0].listen`: keys that this
    /// program knows and numbers. None for the text as a whole.
    pub fn of_setting(places: &Places, at: usize) -> Option<Name> {
        places.path_at(at).map(|path| Name(Text(path.into())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }
}

/// Text of the kinds above and below, which alone make it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Text(Arc<str>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A moment, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(Timestamp);

impl At {
    /// This moment.
    pub fn new(at: Timestamp) -> At {
        At::of_ms(at.as_millisecond())
    }

    /// Unix milliseconds.
    pub fn of_ms(ms: i64) -> At {
        At(Timestamp::from_millisecond(ms).unwrap_or_default())
    }

    /// Unix milliseconds.
    pub fn as_ms(self) -> i64 {
        self.0.as_millisecond()
    }

    /// The moment.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Something told with the moment and the worth of the clock that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stamp {
    /// When.
    pub at: At,
    /// By which clock.
    pub clock: Quality,
}

/// SHA-256 of something that is not told itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Digest(digest)
    }

    /// One that was computed before.
    pub fn stored(digest: [u8; 32]) -> Digest {
        Digest(digest)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::digits(&self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An id that only this box makes: a UUID of version 7 (RFC 9562), so that ids sort as they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

impl Id {
    /// A new one, at this moment in Unix milliseconds, of these random bytes.
    pub fn new(now_ms: i64, random: [u8; 10]) -> Id {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = bytes[6] & 0x0f | 0x70;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Id(u128::from_be_bytes(bytes))
    }

    /// A new one, now.
    pub fn make() -> Id {
        let mut random = [0; 10];
        // Without random numbers the time alone has to tell ids apart.
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
        Id::new(Timestamp::now().as_millisecond(), random)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        f.write_str(&parts.join("-"))
    }
}

impl FromStr for Id {
    type Err = NoId;

    /// As it is printed: lower case, with all its dashes.
    fn from_str(text: &str) -> Result<Id, NoId> {
        let digits: String = text.split('-').collect();
        let id = u128::from_str_radix(&digits, 16).map(Id).map_err(|_| NoId)?;
        if id.to_string() == text { Ok(id) } else { Err(NoId) }
    }
}

/// Text that is no [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoId;

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a machine says of itself: one line of a file that the kernel writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hardware(Text);

impl Hardware {
    /// The model of this machine; none when nobody wrote it down.
    pub fn model() -> Option<Hardware> {
        let files = ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"];
        files.iter().find_map(|file| Hardware::of(Path::new(file)))
    }

    /// The id of this run of the machine.
    pub fn boot_id() -> Option<Hardware> {
        Hardware::of(Path::new("/proc/sys/kernel/random/boot_id"))
    }

    fn of(file: &Path) -> Option<Hardware> {
        plain(&std::fs::read_to_string(file).ok()?).map(Hardware)
    }
}

/// A serial port of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SerialPort {
    device: Option<Text>,
    usb: Option<Text>,
    serial: Option<Text>,
    socket: Option<Text>,
    twin: bool,
}

impl SerialPort {
    /// What is told of these ports.
    pub fn all(ports: &[Port]) -> Vec<SerialPort> {
        let told = |port: &Port| {
            let usb = port.usb.as_ref();
            SerialPort {
                device: port.device.to_str().and_then(plain),
                usb: usb.and_then(|usb| plain(&format!("{}:{}", usb.vendor, usb.product))),
                serial: usb.and_then(|usb| plain(usb.serial.as_deref()?)),
                socket: usb.and_then(|usb| plain(&usb.socket)),
                twin: port.twin,
            }
        };
        ports.iter().take(PORTS_MAX).map(told).collect()
    }
}

/// Text of the machine, short and of one line.
fn plain(text: &str) -> Option<Text> {
    let shown = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(FACT_MAX_CHARS);
    let shown: String = shown.collect();
    Some(shown.trim()).filter(|text| !text.is_empty()).map(|text| Text(text.into()))
}

/// What a box is, told at each connection before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Birth {
    /// When the program started.
    #[serde(flatten)]
    pub started: Stamp,
    /// How often the program has been started on this box. Pairs a birth with its states and their end.
    pub epoch: u64,
    /// The run of the machine.
    pub boot_id: Option<Hardware>,
    /// Version of the program.
    pub version: Word,
    /// What it was built for.
    pub arch: Word,
    /// The machine.
    pub hardware: Option<Hardware>,
    /// Digest of the configuration as it is understood.
    pub config: Digest,
    /// Serial ports that are there.
    pub ports: Vec<SerialPort>,
    /// Links, by name.
    pub links: Vec<Name>,
    /// Destinations, by name.
    pub destinations: Vec<Name>,
}

/// Whether a box is there. Its will says the same with `online` false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// True while it is connected.
    pub online: bool,
    /// As [`Birth::epoch`].
    pub epoch: u64,
    /// Whether what the box is told reaches it; none in a will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downlink: Option<Downlink>,
}

/// Whether what a box is told reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downlink {
    /// Nobody has answered an echo yet, or not any more. A broker that forbids a subscription does not say so.
    Unproven,
    /// The last echo was answered.
    Proven,
}

/// The configuration a box runs, and what became of the one it shall run. Nothing of either is told but digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// When this was so.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The revision that runs; none where it is the box's own file.
    pub running: Option<u64>,
    /// The highest revision that came; none where none has.
    pub rev: Option<u64>,
    /// Digest of its document.
    pub hash: Option<Digest>,
    /// Where it stands.
    pub state: Option<Word>,
    /// When that was so, and when it was applied where it was.
    pub applied_at: Option<At>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What is wrong with it; the box's log says it in words.
    pub errors: Vec<SettingFault>,
    /// Digest of the box's own file as it is now; none where it cannot be read.
    pub local: Option<Digest>,
    /// True when that file was edited on the box, and the desk knows nothing of it.
    pub drift: bool,
    /// How many operators must have signed a revision.
    pub signatures: usize,
}

/// Something that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingFault {
    /// Which setting.
    pub path: Option<Name>,
    /// Where it stands in the text, from 1.
    pub line: usize,
    /// The same.
    pub column: usize,
    /// What is to blame.
    pub kind: Kind,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// When this was so.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Its name.
    pub link: Name,
    /// What was counted of it.
    #[serde(flatten)]
    pub facts: LinkFacts,
}

/// What is counted of a link since start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkFacts {
    /// True while the line is open.
    pub up: bool,
    /// Connections open now.
    pub open: u64,
    /// Connections.
    pub connections: u64,
    /// Frames or messages offered for custody.
    pub parts: u64,
    /// Complete messages.
    pub messages: u64,
    /// Refusals.
    pub naks: u64,
    /// When the instrument was last heard.
    pub last_heard: Option<At>,
    /// Refusals, oddities and losses of the line, by reason.
    pub reasons: BTreeMap<Word, u64>,
}

/// How a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestinationReport {
    /// When this was so.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Its name.
    pub destination: Name,
    /// Seconds that the oldest message has been on the way, since its custody; none when none is.
    pub oldest_s: Option<u64>,
    /// What was counted of it.
    #[serde(flatten)]
    pub facts: DestinationFacts,
}

/// What is counted of a destination, since start unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestinationFacts {
    /// False while it takes no messages.
    pub up: bool,
    /// Messages on the way now; the largest number that is told means that many or more.
    pub queued: u64,
    /// Messages that wait for a person now; as `queued`.
    pub parked: u64,
    /// Messages it took.
    pub delivered: u64,
    /// Messages it refused for good.
    pub refused: u64,
    /// Attempts that failed and are made again.
    pub failed: u64,
    /// When it last answered sensibly.
    pub last_answer: Option<At>,
    /// From custody to its answer, milliseconds, median.
    pub lab_to_chart_p50_ms: Option<u64>,
    /// The same, 99th percentile.
    pub lab_to_chart_p99_ms: Option<u64>,
}

/// What is unusual now: the alerts that have begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// In order of what they are, and no more than [`ALERTS_MAX`].
    pub alerts: Vec<AlertFacts>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertFacts {
    /// What it is.
    pub trouble: Trouble,
    /// As in [`What::Alert`].
    pub of: Option<Name>,
    /// Since when.
    pub since: At,
    /// The figure when it began.
    pub figure: i64,
    /// What it was compared with.
    pub limit: i64,
}

impl Alerts {
    /// Those that stand.
    pub fn of(standing: &[StandingAlert]) -> Alerts {
        let facts = |standing: &StandingAlert| AlertFacts {
            trouble: standing.alert.trouble,
            of: Name::of_alert(&standing.alert),
            since: At::of_ms(standing.since_ms),
            figure: standing.alert.figure,
            limit: standing.alert.limit,
        };
        Alerts { alerts: standing.iter().take(ALERTS_MAX).map(facts).collect() }
    }
}

/// Counters of the whole box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// When this was so.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// As [`Birth::epoch`].
    pub epoch: u64,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// How the journal is.
    pub journal: Word,
    /// Bytes free where the journal lies.
    pub disk_free_bytes: u64,
    /// Memory the program holds, kilobytes.
    pub memory_kb: u64,
    /// Links whose line is open.
    pub links_up: u64,
    /// Messages taken into custody since start, over all links.
    pub messages: u64,
    /// Messages delivered since start, over all destinations.
    pub delivered: u64,
    /// Messages on the way now.
    pub queued: u64,
    /// Events that wait to be told.
    pub events_waiting: u64,
    /// Events that were thinned out or could not be kept since start.
    pub events_lost: u64,
    /// Whether what the box is told reaches it.
    pub downlink: Downlink,
}

/// Asks for an answer: its bytes, on `dn/echo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Echo {
    /// As [`Birth::epoch`].
    pub epoch: u64,
    /// Which question of this epoch.
    pub echo: u64,
}

/// Something that happened. It is kept until the broker has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its id: the same event may come again, under the same id.
    pub id: Id,
    /// When it happened.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The program started.
    Started {
        /// As [`Birth::epoch`].
        epoch: u64,
    },
    /// So many events were thinned out, because nobody took them for too long; some of the last may have been told
    /// nevertheless. One that begins when an earlier one did takes its place.
    Gap {
        /// How many.
        lost: u64,
        /// When the first of them happened.
        since: At,
        /// When the last of them happened.
        until: At,
    },
    /// What the box is told reaches it, or does not any more.
    Downlink {
        /// Which of the two.
        now: Downlink,
    },
    /// What became of a command.
    Command {
        /// Which; none for a signed document that is no command this version knows.
        command: Option<Id>,
        /// That of the signed document.
        document: Digest,
        /// What it asked for.
        op: Option<Word>,
        /// "refused", or the phase it ended in.
        phase: Word,
        /// Why it was refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<Refusal>,
        /// What it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
    },
    /// Somebody sends commands that no operator of this box has signed; told at the 1st, 2nd, 4th, 8th ... one.
    UnsignedCommands {
        /// How many since the program started.
        count: u64,
    },
    /// What became of a revision of the configuration.
    Config {
        /// Which.
        rev: u64,
        /// That of the document.
        document: Digest,
        /// Where it stands now.
        state: Word,
        /// Why it does not run.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<Why>,
    },
    /// Somebody sends configurations that no operator of this box has signed; told as [`What::UnsignedCommands`] is.
    UnsignedConfigs {
        /// How many since the program started.
        count: u64,
    },
    /// A release lies ready, was confirmed, or was given up and the old one runs.
    Update {
        /// Where it stands.
        update: UpdateFacts,
    },
    /// A session of the live log is over.
    LogEnded {
        /// Which.
        session: Id,
        /// Lines that were told.
        lines: u64,
        /// Lines that were not.
        dropped: u64,
        /// Why.
        why: LogEnd,
    },
    /// Something unusual began or ended.
    Alert {
        /// True when it begins.
        began: bool,
        /// What it is.
        trouble: Trouble,
        /// Of which link, or which setting names the certificate; none for the box.
        of: Option<Name>,
        /// The figure, in the unit that [`crate::watch::Alert`] gives.
        figure: i64,
        /// What it is compared with.
        limit: i64,
    },
}

impl What {
    /// Something unusual began or ended.
    pub fn alert(alert: &Alert) -> What {
        let Alert { began, trouble, figure, limit, .. } = *alert;
        What::Alert { began, trouble, of: Name::of_alert(alert), figure, limit }
    }

    /// True for what may be thinned out when nobody takes it for too long: what a later event or the present state
    /// tells as well. The outcome of a command is none of it.
    pub fn is_telemetry(&self) -> bool {
        match self {
            What::Started { .. } | What::Downlink { .. } | What::Alert { .. } => true,
            What::UnsignedCommands { .. } | What::UnsignedConfigs { .. } | What::Config { .. } => true,
            What::LogEnded { .. } => true,
            What::Command { .. } | What::Update { .. } => false,
            // It stands for what was lost, and grows instead of being lost itself.
            What::Gap { .. } => false,
        }
    }
}

/// How the journal is, in one word.
pub fn word_of(condition: Condition) -> Word {
    Word(match condition {
        Condition::Good => "good",
        Condition::Tight => "tight",
        Condition::FullOfImages { .. } => "full-of-images",
        Condition::Full => "full",
        Condition::Failed => "failed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_versioned_json() {
        let state = State { online: true, epoch: 7, downlink: None };
        assert_eq!(Document::of(&state).bytes(), br#"{"v":1,"online":true,"epoch":7}"#);
        let at = At::of_ms(1_790_000_000_123);
        let event = Event {
            id: Id::new(1_790_000_000_123, [0xff; 10]),
            stamp: Stamp { at, clock: Quality::Floor },
            what: What::Gap { lost: 3, since: at, until: at },
        };
        let json: serde_json::Value = serde_json::from_slice(Document::of(&event).bytes()).unwrap();
        let expected = serde_json::json!({
            "v": 1, "id": "01a0c450-6c7b-7fff-bfff-ffffffffffff", "at": "2026-09-21T14:13:20.123Z", "clock": "floor",
            "event": "gap", "lost": 3, "since": "2026-09-21T14:13:20.123Z", "until": "2026-09-21T14:13:20.123Z",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn text_of_the_machine_is_short_and_plain() {
        assert_eq!(plain("  Raspberry Pi\u{0}4\n"), Some(Text("Raspberry Pi4".into())));
        assert_eq!(plain("\n\u{0}"), None);
        assert_eq!(plain(&"x".repeat(1000)).unwrap().0.len(), FACT_MAX_CHARS);
    }

    #[test]
    fn ids_sort_as_they_were_made() {
        let ids: Vec<String> = (0..50).map(|ms| Id::new(ms * 1000, [ms as u8; 10]).to_string()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert_ne!(Id::make(), Id::make());
    }

    #[test]
    fn an_id_is_read_as_it_is_printed_and_no_other_way() {
        let id = Id::make();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        for other in [text.to_uppercase(), text.replace('-', ""), format!("{text}0"), String::new(), "+1".to_owned()] {
            assert_eq!(other.parse::<Id>(), Err(NoId), "{other}");
        }
    }
}
