//! What can go wrong while a modality sends an object.

use std::str::FromStr;

use serde::Serialize;

use crate::sim::random::Random;

/// Probability of a fault that names none.
const PROBABILITY_DEFAULT: f64 = 0.05;

/// One way to misbehave; at most one an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A-ABORT in the middle of an object, which is sent again later.
    Abort,
    /// The line goes away in the middle of a PDU; the object is sent again later.
    Cut,
    /// A value is said to be longer than its PDU: it must not be stored. The object is sent again later.
    WrongLength,
    /// Each PDU comes in two halves, which is allowed.
    HalfPdu,
    /// An object that was acknowledged is sent once more; it must be acknowledged and kept once.
    Again,
}

impl Fault {
    /// Every fault, by the name it has on the command line.
    pub const NAMES: [(&str, Fault); 5] = [
        ("abort", Fault::Abort),
        ("cut", Fault::Cut),
        ("wrong-length", Fault::WrongLength),
        ("half-pdu", Fault::HalfPdu),
        ("again", Fault::Again),
    ];
}

/// Faults with a probability each, such as `abort:0.1,cut`, or `all`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(Vec<(Fault, f64)>);

impl Faults {
    /// Which fault is committed now, if any.
    pub fn draw(&self, random: &mut Random) -> Option<Fault> {
        self.0.iter().find(|(_, chance)| random.chance(*chance)).map(|(fault, _)| *fault)
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        if text == "all" {
            return Ok(Faults(Fault::NAMES.iter().map(|(_, fault)| (*fault, PROBABILITY_DEFAULT)).collect()));
        }
        let one = |part: &str| {
            let (name, chance) = match part.split_once(':') {
                Some((name, chance)) => (name, chance.parse().ok()),
                None => (part, Some(PROBABILITY_DEFAULT)),
            };
            let fault = Fault::NAMES.iter().find(|(known, _)| *known == name.trim()).map(|(_, fault)| *fault);
            let known = Fault::NAMES.map(|(name, _)| name).join(", ");
            fault
                .zip(chance.filter(|chance| (0.0..=1.0).contains(chance)))
                .ok_or(format!("`{part}` is none of {known} with a probability from 0 to 1"))
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect::<Result<_, _>>().map(Faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_with_their_probabilities() {
        assert_eq!("abort:0.5,cut".parse(), Ok(Faults(vec![(Fault::Abort, 0.5), (Fault::Cut, PROBABILITY_DEFAULT)])));
        assert_eq!("all".parse::<Faults>().unwrap().0.len(), Fault::NAMES.len());
        for wrong in ["abort:2", "stall", "abort:x"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }
}
