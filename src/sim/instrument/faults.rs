//! What can go wrong on an instrument's side of the line.

use std::str::FromStr;

use serde::Serialize;

use crate::sim::random::Random;
use crate::wire::Protocol;

/// Probability of a fault that names none.
const PROBABILITY_DEFAULT: f64 = 0.05;

/// One way to misbehave. At most one is committed per attempt to send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A frame goes out with a wrong checksum first; it must be refused.
    BadChecksum,
    /// The gateway's answer is lost.
    DroppedAck,
    /// The instrument falls silent inside a frame until the gateway's timer has run out.
    Stall,
    /// Random bytes come before the message.
    Noise,
    /// The line goes away inside a frame.
    Cut,
    /// A frame that was acknowledged is sent once more; it must be acknowledged and kept once.
    DupFrame,
    /// Both sides ask for the line at the same time.
    Contention,
    /// The instrument begins anew in the middle of a session.
    EnqInSession,
    /// `EOT` comes in one write with the last frame, before its acknowledgment.
    GluedEot,
    /// The host's directive is answered late (POCT1-A).
    LateAck,
    /// The host's directive is answered under a wrong control id first (POCT1-A).
    WrongControlId,
    /// The line goes away in the middle of the host's answer, or of its worklist (ASTM).
    AnswerCut,
    /// A good frame of the host is refused once; it must come again, the same (ASTM).
    AnswerNak,
    /// The instrument asks for the line at the moment the host does, and goes first (ASTM).
    AnswerContention,
    /// The instrument falls silent inside the host's answer until the host has given up (ASTM).
    AnswerStall,
    /// The instrument has all of the answer, and its last acknowledgment is lost (ASTM).
    AnswerUnheard,
}

impl Fault {
    /// Every fault, by the name it has on the command line.
    pub const NAMES: [(&str, Fault); 16] = [
        ("bad-checksum", Fault::BadChecksum),
        ("dropped-ack", Fault::DroppedAck),
        ("stall", Fault::Stall),
        ("noise", Fault::Noise),
        ("cut", Fault::Cut),
        ("dup-frame", Fault::DupFrame),
        ("contention", Fault::Contention),
        ("enq-in-session", Fault::EnqInSession),
        ("glued-eot", Fault::GluedEot),
        ("late-ack", Fault::LateAck),
        ("wrong-control-id", Fault::WrongControlId),
        ("answer-cut", Fault::AnswerCut),
        ("answer-nak", Fault::AnswerNak),
        ("answer-contention", Fault::AnswerContention),
        ("answer-stall", Fault::AnswerStall),
        ("answer-unheard", Fault::AnswerUnheard),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Fault::NAMES.iter().find(|(_, fault)| *fault == self).map_or("", |(name, _)| name)
    }

    /// What is committed while an ASTM analyzer hears what its host says.
    const OF_ANSWERS: [Fault; 5] =
        [Fault::AnswerCut, Fault::AnswerNak, Fault::AnswerContention, Fault::AnswerStall, Fault::AnswerUnheard];

    /// HL7 and POCT1-A have no frame numbers, no line to ask for and no checksum. What is wrong with an instrument's
    /// answers is committed where it answers, and not while it sends.
    pub(super) fn applies_to(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Astm => {
                !matches!(self, Fault::LateAck | Fault::WrongControlId) && !Fault::OF_ANSWERS.contains(&self)
            }
            Protocol::Lines => self == Fault::BadChecksum || self.applies_to(Protocol::Hl7),
            Protocol::Table => false,
            Protocol::Hl7 | Protocol::Poct1a => {
                matches!(self, Fault::DroppedAck | Fault::Stall | Fault::Noise | Fault::Cut | Fault::DupFrame)
            }
        }
    }
}

/// A fault script: `bad-checksum:0.05,cut,noise:0.2`, or `all`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults(Vec<(Fault, f64)>);

/// A fault script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fault; faults are {known}, each with an optional probability from 0 to 1 (`cut:0.1`), or `all`", known = Fault::NAMES.map(|(name, _)| name).join(", "))]
pub struct FaultsError(String);

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(script: &str) -> Result<Self, FaultsError> {
        if script.trim() == "all" {
            return Ok(Faults(Fault::NAMES.map(|(_, fault)| (fault, PROBABILITY_DEFAULT)).to_vec()));
        }
        let items = script.split(',').map(str::trim).filter(|item| !item.is_empty());
        let read = |item: &str| {
            let (name, probability) = item.split_once(':').unwrap_or((item, ""));
            let (_, fault) = *Fault::NAMES.iter().find(|(known, _)| *known == name)?;
            let probability =
                if probability.is_empty() { PROBABILITY_DEFAULT } else { probability.parse::<f64>().ok()? };
            (0.0..=1.0).contains(&probability).then_some((fault, probability))
        };
        items.map(|item| read(item).ok_or_else(|| FaultsError(item.to_owned()))).collect::<Result<_, _>>().map(Faults)
    }
}

impl Faults {
    /// True when this fault is in the script and its turn has come.
    pub fn commits(&self, fault: Fault, random: &mut Random) -> bool {
        self.0.iter().any(|(known, probability)| *known == fault && random.chance(*probability))
    }

    /// What goes wrong while the next answer of the host is heard, if anything.
    pub fn pick_for_answer(&self, random: &mut Random) -> Option<Fault> {
        Fault::OF_ANSWERS.into_iter().find(|fault| self.commits(*fault, random))
    }

    /// The fault of the next attempt, if any.
    pub fn pick(&self, random: &mut Random, protocol: Protocol) -> Option<Fault> {
        let mut apt = self.0.iter().filter(|(fault, _)| fault.applies_to(protocol));
        apt.find(|(_, probability)| random.chance(*probability)).map(|(fault, _)| *fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_faults_and_probabilities() {
        let faults: Faults = "bad-checksum:1, noise".parse().unwrap();
        assert_eq!(faults, Faults(vec![(Fault::BadChecksum, 1.0), (Fault::Noise, 0.05)]));
        assert_eq!(faults.pick(&mut Random::new(1), Protocol::Astm), Some(Fault::BadChecksum));
        assert_ne!(faults.pick(&mut Random::new(1), Protocol::Hl7), Some(Fault::BadChecksum));
        let answers: Faults = "answer-nak:1".parse().unwrap();
        assert_eq!(answers.pick(&mut Random::new(1), Protocol::Astm), None);
        assert_eq!(answers.pick_for_answer(&mut Random::new(1)), Some(Fault::AnswerNak));
        assert_eq!("".parse(), Ok(Faults::default()));
        assert_eq!("all".parse::<Faults>().unwrap().0.len(), Fault::NAMES.len());
        for wrong in ["boom", "cut:2", "cut:x", "cut:-0.1"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }
}
