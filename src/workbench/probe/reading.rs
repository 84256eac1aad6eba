//! What characters heard at 8 data bits without parity say about the settings of the sender.
//!
//! One hearing is enough for data bits and parity: with seven bits the parity bit stands in the eighth place, and with
//! eight it stands where the stop bit is expected, so that every other character looks damaged. Only the speed has to
//! be tried out. A second stop bit cannot be heard at all.

use super::spoken::{Recognised, recognise};
use crate::link::config::Parity;
use crate::wire::astm::ENQ;
use serde::Serialize;

/// Characters of a text that a person or a machine wrote change their level so often between their eight bits, in
/// tenths. A line that is heard too fast changes it less.
const CHANGES_OF_TEXT: usize = 35;
/// Share of the characters that has to fit a parity, in percent: a line has noise.
const FITS_PERCENT: usize = 97;
/// Fewest characters that tell a parity bit from the stop bit by which of them look damaged.
const DAMAGED_MIN: usize = 8;
/// Fewest characters whose shape tells that they were heard too fast.
const SHAPE_MIN: usize = 8;

/// One character as the port gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Character {
    /// The eight bits.
    pub byte: u8,
    /// It came without its stop bit.
    pub damaged: bool,
}

/// How a character is laid out on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Format {
    /// 7 or 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
}

/// The plain format, and what a port is opened with to listen.
pub const PLAIN: Format = Format { data_bits: 8, parity: Parity::None };

/// What was made of characters.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Their layout.
    pub format: Format,
    /// Why, when it is not the plain one.
    pub says: Option<String>,
    /// Their text, damaged characters left out.
    pub text: Vec<u8>,
    /// What the text looks like.
    pub recognised: Option<Recognised>,
}

impl Reading {
    /// How sure it is that this is what was sent, 0 to 100.
    pub fn score(&self) -> u8 {
        self.recognised.as_ref().map_or(0, |recognised| recognised.score)
    }
}

impl Format {
    /// This byte as a port opened with [`PLAIN`] has to send it.
    pub fn encode(self, byte: u8) -> u8 {
        let odd = byte.count_ones() % 2 == 1;
        match (self.data_bits, self.parity) {
            (7, Parity::Even) if odd => byte | 0x80,
            (7, Parity::Odd) if !odd => byte | 0x80,
            (7, Parity::None) => byte | 0x80,
            _ => byte,
        }
    }
}

/// Reads characters in the layout that fits them best.
pub fn read(heard: &[Character]) -> Reading {
    let (format, says) = format(heard);
    let kept = |c: &&Character| !c.damaged || (format.data_bits, format.parity) != (8, Parity::None);
    let bits = if format.data_bits == 7 { 0x7F } else { 0xFF };
    let text: Vec<u8> = heard.iter().filter(kept).map(|c| c.byte & bits).collect();
    let damaged = heard.len() - text.len();
    // Noise costs a character now and then; a tenth of them is another speed.
    let mut recognised = if damaged * 10 > heard.len() { None } else { recognise(&text) };
    if let Some(recognised) = &mut recognised {
        let percent = damaged * 100 / heard.len().max(1);
        recognised.score = recognised.score.saturating_sub(u8::try_from(percent * 3).unwrap_or(u8::MAX));
    }
    Reading { format, says, text, recognised }
}

/// Changes of level between the eight bits of a character, in tenths, on average.
pub fn changes(heard: &[Character]) -> usize {
    let of = |c: &Character| ((c.byte ^ (c.byte >> 1)) & 0x7F).count_ones() as usize;
    heard.iter().map(of).sum::<usize>() * 10 / heard.len().max(1)
}

/// How many times faster than the sender this was heard, at least 1; 1 also when it was heard too slowly, or when there
/// is too little to tell.
pub fn too_fast_by(heard: &[Character]) -> usize {
    // Below this it is no chance any more.
    let changes = changes(heard);
    if heard.len() < SHAPE_MIN || changes * 10 > CHANGES_OF_TEXT * 7 {
        1
    } else {
        (CHANGES_OF_TEXT + changes / 2) / changes.max(2)
    }
}

fn format(heard: &[Character]) -> (Format, Option<String>) {
    let all = heard.len();
    let count = |holds: &dyn Fn(&Character) -> bool| heard.iter().filter(|c| holds(c)).count();
    let most = |number: usize| number * 100 >= all * FITS_PERCENT;
    let is_odd = |c: &Character| c.byte.count_ones() % 2 == 1;
    let is_high = |c: &Character| c.byte & 0x80 != 0;
    let (damaged, high) = (count(&|c| c.damaged), count(&is_high));
    let asks = !heard.is_empty() && heard.iter().all(|c| c.byte == ENQ && c.damaged);
    if asks || (damaged * 10 > all && all >= DAMAGED_MIN) {
        for (parity, name, looks_damaged) in [(Parity::Even, "even", false), (Parity::Odd, "odd", true)] {
            if most(count(&|c| c.damaged == (is_odd(c) == looks_damaged))) {
                let says = format!(
                    "the stop bit is missing in just those of {all} characters whose parity bit would be low: eight \
                     data bits, {name} parity"
                );
                return (Format { data_bits: 8, parity }, Some(says));
            }
        }
    }
    if high > 0 && damaged * 10 <= all {
        for (parity, name, odd) in [(Parity::Even, "even", false), (Parity::Odd, "odd", true)] {
            if most(count(&|c| is_odd(c) == odd)) {
                let says = format!("the eighth bit makes the parity of {all} characters {name}: seven data bits");
                return (Format { data_bits: 7, parity }, Some(says));
            }
        }
        if most(high) {
            let says = format!("the eighth bit of {all} characters is always set: seven data bits, no parity");
            return (Format { data_bits: 7, parity: Parity::None }, Some(says));
        }
    }
    (PLAIN, None)
}
