//! What the box knows, as it is told to this crate, and what is wrong with the board itself.

use crate::led::{BoxState, Heard};
use std::fmt;

/// What the box knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// How the box is: [`BoxState::Off`], `Starting`, `Well`, `Attention`, `Fault` or `Stopping`; the others are the
    /// board's own.
    pub box_state: BoxState,
    /// The supply is lost ([`crate::guard`]), and the box stops.
    pub supply_is_lost: bool,
    /// Whether analyzers and modalities are heard.
    pub analyzer: Heard,
    /// Whether the EHR and the archive are.
    pub hospital: Heard,
    /// Name of the box.
    pub name: String,
    /// Its address in the network; none while it has none.
    pub address: Option<String>,
    /// Where the box's own page is; none where it has none.
    pub page_url: Option<String>,
    /// What became of a configuration that somebody carried here on a stick, as long as that is in.
    pub stick: Option<Stick>,
    /// The code under which the box asks to be let into its fleet; none when it does not.
    pub enrolment_code: Option<String>,
    /// What a person should look at, each in a few words, without anything of a patient.
    pub alerts: Vec<String>,
}

/// A configuration on a stick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stick {
    /// It runs, as this revision.
    Runs(u64),
    /// It does not run, and why.
    NotTaken(String),
}

/// A temperature, in tenths of a degree Celsius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Temperature(pub i32);

impl Temperature {
    /// Whole degrees.
    pub fn of_degrees(degrees: i16) -> Temperature {
        Temperature(i32::from(degrees) * 10)
    }

    /// To whole degrees, rounded.
    pub fn degrees(self) -> i32 {
        (self.0 + 5 * self.0.signum()) / 10
    }
}

/// A part of the board that is not there or does not do what it is for. Everything else goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which part.
    pub part: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Trouble {
    /// A trouble with a part.
    pub fn new(part: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Trouble {
        Trouble { part: part.into(), what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.part, self.what, self.hint)
    }
}
