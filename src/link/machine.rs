//! The closed list of receiving machines a link can run.

use super::config::Config;
use crate::orders::Taken;
use crate::wire::{Output, Protocol, Refused, Time, Token, astm, line, mllp, poct1a};

/// A machine of [`crate::wire`].
pub enum Machine {
    /// LIS01-A2, both ways.
    Astm(Box<astm::Station>),
    /// HL7 v2 over MLLP.
    Hl7(Box<mllp::Receiver>),
    /// POCT1-A, and the zone of the device's clock.
    Poct1a(Box<poct1a::Receiver>, jiff::tz::TimeZone),
    /// Lines that follow no standard.
    Lines(Box<line::Receiver>),
}

/// Calls the same verb on whichever machine it is.
macro_rules! each {
    ($self:ident, $machine:ident => $call:expr) => {
        match $self {
            Machine::Astm($machine) => $call,
            Machine::Hl7($machine) => $call,
            Machine::Poct1a($machine, _) => $call,
            Machine::Lines($machine) => $call,
        }
    };
}

impl Machine {
    /// The machine a link's configuration asks for, in its neutral state.
    pub fn new(config: &Config) -> Self {
        let timers = &config.timers;
        match config.protocol {
            // A link that takes tables has a folder and no machine (`link::open` sees to it).
            Protocol::Astm | Protocol::Table => {
                let settings = astm::ReceiverConfig {
                    frame_timeout: timers.frame_timeout(),
                    reply_timeout: timers.reply_timeout(),
                    checksum_rules: config.checksum.clone(),
                    ..Default::default()
                };
                // LIS01-A2 has 30 s for the receiver; the sender's 15, 10 and 20 s are parts of it.
                let standard = astm::SenderConfig::default();
                let sender = astm::SenderConfig {
                    role: astm::Role::Computer,
                    packing: config.packing.unwrap_or(standard.packing),
                    frame_text_max: config.frame_text_max.map_or(standard.frame_text_max, |max| max as usize),
                    reply_timeout: timers.frame_timeout() / 2,
                    busy_wait: timers.frame_timeout() / 3,
                    contention_wait: Some(timers.frame_timeout() * 2 / 3),
                };
                Machine::Astm(Box::new(astm::Station::new(Time::now(), settings, sender, 1)))
            }
            Protocol::Hl7 => {
                let settings = mllp::ReceiverConfig {
                    frame_timeout: timers.message_timeout(),
                    reply_timeout: timers.reply_timeout(),
                    host_query: true,
                    ..Default::default()
                };
                Machine::Hl7(Box::new(mllp::Receiver::new(settings, 1)))
            }
            Protocol::Poct1a => {
                let settings = poct1a::ReceiverConfig {
                    document_timeout: timers.message_timeout(),
                    reply_timeout: timers.reply_timeout(),
                    set_time: config.set_time,
                    ..Default::default()
                };
                let zone = config.time_zone.as_deref().and_then(|name| jiff::tz::TimeZone::get(name).ok());
                let zone = zone.unwrap_or_else(jiff::tz::TimeZone::system);
                Machine::Poct1a(Box::new(poct1a::Receiver::new(settings, 1)), zone)
            }
            Protocol::Lines => {
                let standard = line::ReceiverConfig::default();
                let settings = line::ReceiverConfig {
                    framing: config.framing.clone().unwrap_or_else(|| standard.framing.clone()),
                    message_timeout: timers.message_timeout(),
                    reply_timeout: timers.reply_timeout(),
                    ..standard
                };
                Machine::Lines(Box::new(line::Receiver::new(settings, 1)))
            }
        }
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.set_wall_time();
        each!(self, m => m.handle_bytes(now, bytes));
    }

    /// A character came damaged.
    pub fn handle_damage(&mut self, now: Time) {
        self.set_wall_time();
        each!(self, m => m.handle_damage(now));
    }

    /// The journal answered, and with it whoever knows more than that the part is kept.
    pub fn handle_custody(&mut self, now: Time, answer: Result<Taken, Refused>) {
        self.set_wall_time();
        let (answer, reply) = match answer {
            Ok(taken) => (Ok(taken.receipt), taken.reply),
            Err(refused) => (Err(refused), None),
        };
        let answer = answer.as_ref().map_err(|refused: &Refused| *refused);
        match self {
            Machine::Hl7(machine) => machine.handle_answer(now, answer, reply),
            other => each!(other, m => m.handle_custody(now, answer)),
        }
    }

    /// What the shell replies to a question of this machine.
    pub fn handle_reply(&mut self, now: Time, token: Token, reply: Option<&[u8]>) {
        self.set_wall_time();
        if let Machine::Hl7(receiver) = self {
            receiver.handle_reply(now, token, reply);
        }
    }

    /// Sends a message of our own. False when the machine cannot, now or ever.
    pub fn send(&mut self, now: Time, token: Token, message: &[u8]) -> bool {
        match self {
            Machine::Hl7(receiver) => receiver.send(now, token, message).is_ok(),
            Machine::Astm(_) | Machine::Poct1a(..) | Machine::Lines(_) => false,
        }
    }

    /// Sends records when the line is free, in place of what still waits for it. False when the machine cannot.
    pub fn send_records(&mut self, now: Time, token: Token, records: Vec<Vec<u8>>) -> bool {
        let Machine::Astm(station) = self else { return false };
        station.withdraw();
        station.send(now, token, records).is_ok()
    }

    /// Takes back what still waits to be sent.
    pub fn withdraw(&mut self) {
        if let Machine::Astm(station) = self {
            station.withdraw();
        }
    }

    /// The deadline passed.
    pub fn handle_timeout(&mut self, now: Time) {
        each!(self, m => m.handle_timeout(now));
    }

    /// The line went away.
    pub fn handle_disconnect(&mut self, now: Time) {
        each!(self, m => m.handle_disconnect(now));
    }

    /// False while the machine has all it can hold: the line then waits, and TCP or the flow control slows the peer.
    pub fn wants_bytes(&self) -> bool {
        each!(self, m => m.wants_bytes())
    }

    /// Bytes held that are not in custody yet.
    pub fn bytes_held(&self) -> usize {
        each!(self, m => m.bytes_held())
    }

    /// Takes the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        each!(self, m => m.poll_output())
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        each!(self, m => m.poll_timeout())
    }

    /// HL7 and POCT1-A answers carry the time of day (MSH-7, `HDR.creation_dttm`), which a machine may not ask for
    /// itself. A POCT1-A device may set its clock by it, so it is told the time in its own zone.
    fn set_wall_time(&mut self) {
        match self {
            Machine::Astm(_) | Machine::Lines(_) => {}
            Machine::Hl7(receiver) => {
                receiver.set_wall_time(&jiff::Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string());
            }
            Machine::Poct1a(receiver, zone) => {
                let now = jiff::Timestamp::now().to_zoned(zone.clone());
                receiver.set_wall_time(&now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
            }
        }
    }
}
