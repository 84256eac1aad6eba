//! Payloads of Sparkplug B 3.0.0, chapter 6 (Google Protocol Buffers): the fields that an edge node without aliases,
//! properties, data sets and templates has. Pure. Unknown fields of what is read are passed over.

use super::super::telemetry::{At, Word};
use prost::{Message, Oneof};

/// A payload that is longer is not read: a rebirth is asked for in some fifty bytes.
const READ_MAX: usize = 4096;
/// The metric by which a host asks for a birth.
pub const REBIRTH: &str = "Node Control/Rebirth";
/// The metric that pairs a birth with its death.
const BIRTH_DEATH: &str = "bdSeq";

/// Data types, 6.4.16.
const INT64: u32 = 4;
const UINT64: u32 = 8;
const BOOLEAN: u32 = 11;
const STRING: u32 = 12;
const DATE_TIME: u32 = 13;

/// What can be said: nothing of it can hold anything of a patient (invariant I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// How many.
    Count(u64),
    /// How long, where that is known.
    Time(Option<u64>),
    /// When, if ever.
    Moment(Option<At>),
    /// A constant of this program.
    Word(Word),
}

/// A value under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    name: &'static str,
    value: Value,
}

impl Figure {
    /// A value under a constant name.
    pub fn new(name: &'static str, value: Value) -> Figure {
        Figure { name, value }
    }

    fn metric(&self, at: At) -> Metric {
        let (datatype, value) = match self.value {
            Value::Flag(flag) => (BOOLEAN, Some(Held::Boolean(flag))),
            Value::Count(count) => (UINT64, Some(Held::Long(count))),
            Value::Time(time) => (UINT64, time.map(Held::Long)),
            Value::Moment(moment) => (DATE_TIME, moment.map(|at| Held::Long(ms(at)))),
            Value::Word(word) => (STRING, Some(Held::String(word.as_str().to_owned()))),
        };
        Metric::of(self.name, at, datatype, value)
    }
}

/// What a message carries.
#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
    #[prost(uint64, optional, tag = "3")]
    seq: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    datatype: Option<u32>,
    #[prost(bool, optional, tag = "7")]
    is_null: Option<bool>,
    #[prost(oneof = "Held", tags = "11, 14, 15")]
    value: Option<Held>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Held {
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    String(String),
}

impl Metric {
    fn of(name: &str, at: At, datatype: u32, value: Option<Held>) -> Metric {
        let (timestamp, is_null) = (Some(ms(at)), value.is_none().then_some(true));
        Metric { name: Some(name.to_owned()), timestamp, datatype: Some(datatype), is_null, value }
    }
}

fn ms(at: At) -> u64 {
    u64::try_from(at.as_ms()).unwrap_or_default()
}

fn birth_death(at: At, number: u8) -> Metric {
    Metric::of(BIRTH_DEATH, at, INT64, Some(Held::Long(number.into())))
}

/// The birth of the node: which it is, what a host can write, and all figures.
pub fn node_birth(at: At, seq: u8, birth: u8, figures: &[Figure]) -> Vec<u8> {
    let rebirth = Metric::of(REBIRTH, at, BOOLEAN, Some(Held::Boolean(false)));
    let metrics = [birth_death(at, birth), rebirth].into_iter().chain(figures.iter().map(|figure| figure.metric(at)));
    Payload { timestamp: Some(ms(at)), metrics: metrics.collect(), seq: Some(seq.into()) }.encode_to_vec()
}

/// The death that the birth with the same number is paired with. It has no `seq`.
pub fn node_death(at: At, birth: u8) -> Vec<u8> {
    Payload { timestamp: Some(ms(at)), metrics: vec![birth_death(at, birth)], seq: None }.encode_to_vec()
}

/// All figures of a device at its birth, or those that changed; none at its death.
pub fn figures(at: At, seq: u8, figures: &[Figure]) -> Vec<u8> {
    let metrics = figures.iter().map(|figure| figure.metric(at)).collect();
    Payload { timestamp: Some(ms(at)), metrics, seq: Some(seq.into()) }.encode_to_vec()
}

/// Whether a host asks for a birth.
pub fn asks_for_birth(bytes: &[u8]) -> bool {
    let payload = Some(bytes).filter(|bytes| bytes.len() <= READ_MAX).and_then(|bytes| Payload::decode(bytes).ok());
    let is_asked =
        |metric: &Metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(Held::Boolean(true));
    payload.is_some_and(|payload| payload.metrics.iter().any(is_asked))
}

/// The `seq` of a message.
#[cfg(test)]
pub fn seq(bytes: &[u8]) -> u8 {
    u8::try_from(Payload::decode(bytes).unwrap().seq.unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_schema() {
        // Written by hand from the schema in chapter 6: a host of another maker reads them in tests/fleet/sparkplug.rs.
        let death = node_death(At::of_ms(1), 7);
        assert_eq!(death, b"\x08\x01\x12\x0d\x0a\x05bdSeq\x18\x01\x20\x04\x58\x07");
        let data =
            figures(At::of_ms(2), 255, &[Figure::new("up", Value::Flag(true)), Figure::new("at", Value::Moment(None))]);
        let wanted = [
            &b"\x08\x02\x12\x0a\x0a\x02up\x18\x02\x20\x0b\x70\x01"[..],
            b"\x12\x0a\x0a\x02at\x18\x02\x20\x0d\x38\x01",
            b"\x18\xff\x01",
        ];
        assert_eq!(data, wanted.concat());
    }

    #[test]
    fn nothing_but_a_rebirth_is_asked_for() {
        let command = |name: &str, value| {
            let metrics = vec![Metric::of(name, At::of_ms(1), BOOLEAN, value)];
            Payload { timestamp: Some(1), metrics, seq: None }.encode_to_vec()
        };
        assert!(asks_for_birth(&command(REBIRTH, Some(Held::Boolean(true)))));
        assert!(!asks_for_birth(&command(REBIRTH, Some(Held::Boolean(false)))));
        assert!(!asks_for_birth(&command(REBIRTH, None)));
        assert!(!asks_for_birth(&command("Node Control/Reboot", Some(Held::Boolean(true)))));
        let good = command(REBIRTH, Some(Held::Boolean(true)));
        for end in 0..good.len() {
            asks_for_birth(&good[..end]);
        }
        let long = [good.clone(), [0x18, 0x01].repeat(READ_MAX)].concat();
        assert!(!asks_for_birth(&long));
        assert!(!asks_for_birth(b"\xff\xff\xff\xff"));
    }
}
