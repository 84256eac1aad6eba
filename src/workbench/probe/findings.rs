//! What a probe found, in words: each with how sure it is, what to do next, and the link's table to paste.

use super::Probe;
use super::reading::Reading;
use super::spoken::Spoken;
use crate::driver::Registry;
use crate::link::config::Parity;
use crate::wire::Protocol;
use serde::{Deserialize, Serialize};

/// Letters of a sender's name that are shown.
const SENDER_MAX: usize = 80;

/// Where the probe listened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A serial port, by the name a link should have for it.
    Serial(String),
    /// An address of this box.
    Listen(String),
    /// The instrument's address.
    Dial(String),
    /// A link of the running gateway.
    Link(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Serial(port) => f.write_str(port),
            Place::Listen(address) => write!(f, "listening on {address}"),
            Place::Dial(address) => write!(f, "dialling {address}"),
            Place::Link(link) => write!(f, "link {link}"),
        }
    }
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// How much it weighs, 0 to 100.
    pub score: u8,
    /// A sentence.
    pub says: String,
}

/// Who spoke first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum First {
    /// Nobody spoke.
    Nobody,
    /// The instrument, by itself.
    Instrument,
    /// We did, and it answered.
    Us,
}

/// The settings of a serial line. The stop bits cannot be heard: one is right for two as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Bits per second.
    pub baud: u32,
    /// 7 or 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// 1.
    pub stop_bits: u8,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parity = if self.parity == Parity::None { "no" } else { self.parity.name() };
        write!(f, "{} baud, {} data bits, {parity} parity, {} stop bit", self.baud, self.data_bits, self.stop_bits)
    }
}

/// Everything a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Where.
    pub place: Place,
    /// Characters heard at the right speed.
    pub heard: usize,
    /// Who spoke first.
    pub first: First,
    /// The line's settings, when they make sense of what was heard.
    pub setting: Option<Setting>,
    /// What is spoken.
    pub spoken: Option<Spoken>,
    /// How sure that is, 0 to 100.
    pub score: u8,
    /// The driver that knows the instrument's header.
    pub driver: Option<String>,
    /// What the instrument calls itself.
    pub sender: Option<String>,
    /// Why.
    pub evidence: Vec<Evidence>,
    /// What to do next.
    pub next: Vec<String>,
    /// The link's table, when there is something to connect.
    pub link: Option<String>,
}

impl Probe {
    /// What was found so far.
    pub fn findings(&self, place: Place, registry: &Registry) -> Findings {
        let reading = self.reading();
        let sound = reading.recognised.clone().filter(|r| self.settled && r.spoken != Spoken::Binary);
        let spoken = sound.as_ref().map(|r| r.spoken);
        let protocol = spoken.and_then(Spoken::protocol);
        let named = |protocol| {
            let driver = registry.identify(protocol, &reading.text);
            (driver.id != registry.generic(protocol).id).then(|| driver.id.clone())
        };
        let driver = protocol.and_then(named);
        // Of lines the first one would be told, and that may be a patient's.
        let sender = protocol
            .filter(|protocol| *protocol != Protocol::Lines)
            .and_then(|protocol| crate::driver::identify::sender(protocol, &reading.text))
            .filter(|sender| !sender.is_empty())
            // It is shown on a terminal, and comes from whoever is at the other end.
            .map(|sender| {
                sender.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SENDER_MAX).collect()
            });
        let setting = self.baud.filter(|_| sound.is_some()).map(|baud| Setting {
            baud,
            data_bits: reading.format.data_bits,
            parity: reading.format.parity,
            stop_bits: 1,
        });
        let mut findings = Findings {
            link: None,
            first: match (self.heard.is_empty() && self.trials.is_empty(), self.spoke_first) {
                (true, _) => First::Nobody,
                (_, true) => First::Instrument,
                (_, false) => First::Us,
            },
            place,
            heard: self.heard.len(),
            setting,
            spoken,
            score: sound.as_ref().map_or(0, |r| r.score),
            driver,
            sender,
            evidence: Vec::new(),
            next: Vec::new(),
        };
        self.explain(&reading, &mut findings);
        self.explain_port(&mut findings);
        if let Some(spoken) = spoken {
            advise(spoken, &mut findings);
            // What the gateway has already needs no second link.
            let wanted = spoken != Spoken::Hl7Bare && !matches!(findings.place, Place::Link(_));
            findings.link = protocol.filter(|_| wanted).map(|protocol| link(&findings, protocol));
        } else if findings.first == First::Nobody {
            self.explain_silence(&mut findings);
        } else {
            let says = match self.baud {
                Some(_) => "let it run longer while the instrument sends: each burst tries one more speed",
                None => "keep a capture, and see drivers/README.md for lines that are laid out in their own way",
            };
            findings.next.push(says.to_string());
        }
        findings
    }

    fn explain(&self, reading: &Reading, findings: &mut Findings) {
        let mut because = |score: u8, says: String| findings.evidence.push(Evidence { score, says });
        for trial in &self.trials {
            let shape = match trial.too_fast_by {
                0 | 1 => String::new(),
                times => format!(", and their bits come in runs, as from a sender about {times} times slower"),
            };
            let of = trial.characters;
            because(50, format!("at {} baud, {} of {of} characters had no stop bit{shape}", trial.baud, trial.damaged));
        }
        if let (Some(says), true) = (&reading.says, self.settled) {
            because(90, says.clone());
        } else if let (Some(baud), true, false) = (self.baud, self.settled, self.heard.is_empty()) {
            because(60, format!("at {baud} baud, 8 data bits and no parity make sense of every character"));
        }
        if let Some(recognised) = &reading.recognised {
            because(recognised.score, recognised.says.clone());
        }
        match (&findings.driver, &findings.sender) {
            (Some(driver), Some(sender)) => because(95, format!("it calls itself `{sender}`, which {driver} knows")),
            (Some(driver), None) => because(95, format!("its lines begin as {driver} knows them")),
            (None, Some(sender)) => because(30, format!("it calls itself `{sender}`, which no driver knows")),
            _ => {}
        }
        match findings.first {
            First::Instrument => because(80, "it spoke first: it sends by itself".to_string()),
            First::Us => because(80, "it spoke only after we had asked".to_string()),
            First::Nobody => {}
        }
    }

    /// What the port itself knows: the kernel's error counters and the handshake lines.
    fn explain_port(&self, findings: &mut Findings) {
        if self.baud.is_none() {
            return;
        }
        let mut because = |score: u8, says: String| findings.evidence.push(Evidence { score, says });
        match self.errors {
            None => because(0, "this port keeps no error counters".to_string()),
            Some(errors) => {
                let counted: Vec<String> = errors.words().map(|(kind, count)| format!("{kind}: {count}")).collect();
                match counted.is_empty() {
                    true => because(20, "the kernel counted no errors on this port".to_string()),
                    false => because(60, counted.join(", ")),
                }
            }
        }
        match self.lines {
            None => because(0, "this port has no handshake lines".to_string()),
            Some(lines) => {
                let level = |name, high| format!("{name} is {}", if high { "high" } else { "low" });
                let says = [level("CTS", lines.cts), level("DSR", lines.dsr), level("DCD", lines.dcd)].join(", ");
                because(if lines.any() { 50 } else { 20 }, says);
            }
        }
    }

    /// Nothing came: a crossed cable, an instrument without power and one that has nothing to say are three things.
    fn explain_silence(&self, findings: &mut Findings) {
        let (because, next) = (&mut findings.evidence, &mut findings.next);
        let mut because = |score: u8, says: &str| because.push(Evidence { score, says: says.to_string() });
        let mut next = |says: &str| next.push(says.to_string());
        because(50, "nothing was heard");
        if self.baud.is_none() {
            return match findings.place {
                Place::Listen(_) => next(
                    "set host address and port at the instrument to this box, and send a result; does a firewall stand \
                     between them?",
                ),
                Place::Dial(_) => next("it accepts connections and waits: send a result at the instrument"),
                _ => next("send a result at the instrument"),
            };
        }
        if self.echoes > 0 {
            because(90, "what we send comes back: both data lines are joined, in a plug or in the adapter");
            return next("take the loop-back plug off, or switch the adapter's local echo off");
        }
        let errors = self.errors.unwrap_or_default();
        if errors.breaks > 0 {
            because(80, "the line is held low: a signal of the wrong polarity, or a wire on the wrong pin");
            return next("check that both sides are RS-232 (not TTL or RS-485), and the plug's pins 2, 3 and 5");
        }
        if self.asked > 0 {
            because(70, "our own ENQ was not answered at any speed tried");
        }
        match self.lines {
            Some(lines) if lines.any() => {
                because(70, "a handshake line is high: a cable is plugged in, and the other side has power");
                next("send a result at the instrument; if nothing comes, its host interface is switched off");
            }
            Some(_) => {
                because(60, "all handshake lines are low: no power, no cable, a three-wire cable, or a crossed one");
                next(
                    "is the instrument on? Then try a crossed (null modem) cable, or a straight one if this is crossed",
                );
            }
            None => next("is the instrument on? Send a result; then try a crossed (null modem) cable"),
        }
        if self.asked == 0 {
            next("`--provoke` sends an ENQ: an instrument that answers it is connected rightly");
        }
    }
}

fn advise(spoken: Spoken, findings: &mut Findings) {
    let mut next = |says: &str| findings.next.push(says.to_string());
    match spoken {
        Spoken::Astm if findings.sender.is_none() => next(
            "its name comes with its first frame: take the link into service, or `--provoke` has it say the frame and \
             refuses that",
        ),
        Spoken::Astm | Spoken::Mllp | Spoken::Poct1a if findings.driver.is_none() => {
            next("no driver knows it yet: afferent tap LINK --save run.txt, then drivers/README.md");
        }
        Spoken::AstmBare => {
            next("set the instrument to LIS01-A2 (ASTM, E1381) if it can: only then does it wait for us")
        }
        Spoken::Hl7Bare => next("set the instrument to MLLP (also called LLP or lower layer protocol)"),
        Spoken::StxEtx | Spoken::Csv | Spoken::Printed if findings.driver.is_none() => {
            next(
                "this needs a driver that says how its lines are laid out: see drivers/README.md; until then the link keeps \
                 and shows what comes, and sends nothing",
            );
        }
        Spoken::Dicom => next("this is an imaging modality: a lab link cannot take it"),
        Spoken::Tls => next("give the link its [link.tls] with certificate and key"),
        _ => {}
    }
}

/// The table of a link for what was found.
fn link(findings: &Findings, protocol: Protocol) -> String {
    let driver = findings.driver.as_deref();
    let name = driver.unwrap_or("instrument");
    let settings = settings(name, protocol, &findings.place, findings.setting, driver);
    settings.iter().fold("[[link]]\n".to_string(), |table, line| table + line + "\n")
}

/// What stands in the table of a link, line by line.
pub fn settings(
    name: &str,
    protocol: Protocol,
    place: &Place,
    setting: Option<Setting>,
    driver: Option<&str>,
) -> Vec<String> {
    let text = |key: &str, value: &str| format!("{key} = {}", toml::Value::from(value));
    let mut lines = vec![text("name", name), text("protocol", protocol.name())];
    match place {
        Place::Serial(port) => lines.push(text("serial", port)),
        Place::Listen(address) => lines.push(text("listen", address)),
        Place::Dial(address) => lines.push(text("dial", address)),
        Place::Link(_) => {}
    }
    if let Some(Setting { baud, data_bits, parity, stop_bits }) = setting {
        lines.push(format!("baud = {baud}"));
        lines.push(format!("data_bits = {data_bits}"));
        lines.push(text("parity", parity.name()));
        lines.push(format!("stop_bits = {stop_bits}"));
    }
    lines.extend(driver.map(|driver| text("driver", driver)));
    lines
}
