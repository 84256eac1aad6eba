//! The status LEDs: one for each layer, each with a colour of its own, and for each state exactly one pattern, so that
//! somebody on the telephone can say which it is. This table is what stands on the lid:
//!
//! | LED | state | pattern |
//! |---|---|---|
//! | box, green | off | dark |
//! | box, green | starting | on 500, off 500 |
//! | box, green | well | on 1900, off 100 |
//! | box, green | attention | on 100, off 900 |
//! | box, green | fault | on 100, off 100 |
//! | box, green | stick-runs | on 700, off 100, on 100, off 100 |
//! | box, green | stick-refused | on 100, off 100, on 700, off 100, on 100, off 700 |
//! | box, green | set-up | on 100, off 100, on 100, off 700 |
//! | box, green | identify | on 300, off 100, on 300, off 100, on 300, off 900 |
//! | box, green | reset-armed | on 50, off 50, on 50, off 450 |
//! | box, green | stopping | on 900, off 100, on 100, off 100 |
//! | analyzer, yellow | none | dark |
//! | analyzer, yellow | waiting | on 100, off 1900 |
//! | analyzer, yellow | heard | on |
//! | analyzer, yellow | lost | on 250, off 250 |
//! | hospital, blue | none | dark |
//! | hospital, blue | waiting | on 100, off 1900 |
//! | hospital, blue | heard | on |
//! | hospital, blue | lost | on 250, off 250 |
//!
//! Times are milliseconds. A box that is well goes dark for a moment every two seconds. That is never left to a timer of
//! the kernel: a box that hangs must stop doing it.

use crate::pattern::Pattern;
use serde::{Deserialize, Serialize};

/// What an LED stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The box itself.
    Box,
    /// The analyzers and modalities.
    Analyzer,
    /// The EHR and the archive.
    Hospital,
}

impl Layer {
    /// All of them.
    pub const ALL: [Layer; 3] = [Layer::Box, Layer::Analyzer, Layer::Hospital];

    /// Its name.
    pub fn word(self) -> &'static str {
        ["box", "analyzer", "hospital"][self as usize]
    }

    /// The colour of its LED, on every board.
    pub fn colour(self) -> &'static str {
        ["green", "yellow", "blue"][self as usize]
    }
}

/// How the box is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxState {
    /// It does nothing.
    #[default]
    Off,
    /// Results cannot come in yet.
    Starting,
    /// All is well.
    Well,
    /// Results go on, and a person should look at something.
    Attention,
    /// No results are taken.
    Fault,
    /// The configuration on the stick runs; the stick may be pulled out.
    StickRuns,
    /// The configuration on the stick is not taken.
    StickRefused,
    /// It shows how it is set up, because somebody held the button.
    SetUp,
    /// It shows which box it is, because somebody asked.
    Identify,
    /// The button was held for a factory reset, which is confirmed or not within seconds.
    ResetArmed,
    /// It stops in order.
    Stopping,
}

impl BoxState {
    /// All of them.
    pub const ALL: [BoxState; 11] = [
        BoxState::Off,
        BoxState::Starting,
        BoxState::Well,
        BoxState::Attention,
        BoxState::Fault,
        BoxState::StickRuns,
        BoxState::StickRefused,
        BoxState::SetUp,
        BoxState::Identify,
        BoxState::ResetArmed,
        BoxState::Stopping,
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            BoxState::Off => "off",
            BoxState::Starting => "starting",
            BoxState::Well => "well",
            BoxState::Attention => "attention",
            BoxState::Fault => "fault",
            BoxState::StickRuns => "stick-runs",
            BoxState::StickRefused => "stick-refused",
            BoxState::SetUp => "set-up",
            BoxState::Identify => "identify",
            BoxState::ResetArmed => "reset-armed",
            BoxState::Stopping => "stopping",
        }
    }

    /// What its LED does.
    pub fn pattern(self) -> Pattern {
        match self {
            BoxState::Off => Pattern::OFF,
            BoxState::Starting => Pattern::repeating(&[500, 500]),
            BoxState::Well => Pattern::repeating(&[1900, 100]),
            BoxState::Attention => Pattern::repeating(&[100, 900]),
            BoxState::Fault => Pattern::repeating(&[100, 100]),
            BoxState::StickRuns => Pattern::repeating(&[700, 100, 100, 100]),
            BoxState::StickRefused => Pattern::repeating(&[100, 100, 700, 100, 100, 700]),
            BoxState::SetUp => Pattern::repeating(&[100, 100, 100, 700]),
            BoxState::Identify => Pattern::repeating(&[300, 100, 300, 100, 300, 900]),
            BoxState::ResetArmed => Pattern::repeating(&[50, 50, 50, 450]),
            BoxState::Stopping => Pattern::repeating(&[900, 100, 100, 100]),
        }
    }
}

/// Whether those of a layer are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heard {
    /// There is none to hear.
    #[default]
    None,
    /// Nothing was heard since the start.
    Waiting,
    /// All is well.
    Heard,
    /// The line is gone, or somebody who used to be heard is not.
    Lost,
}

impl Heard {
    /// All of them.
    pub const ALL: [Heard; 4] = [Heard::None, Heard::Waiting, Heard::Heard, Heard::Lost];

    /// Its name.
    pub fn word(self) -> &'static str {
        ["none", "waiting", "heard", "lost"][self as usize]
    }

    /// What the LED of the layer does.
    pub fn pattern(self) -> Pattern {
        match self {
            Heard::None => Pattern::OFF,
            Heard::Waiting => Pattern::repeating(&[100, 1900]),
            Heard::Heard => Pattern::ON,
            Heard::Lost => Pattern::repeating(&[250, 250]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A pattern as the table has it.
    fn words(pattern: Pattern) -> String {
        if pattern == Pattern::OFF {
            return "dark".to_string();
        }
        if pattern == Pattern::ON {
            return "on".to_string();
        }
        let (mut at, mut said) = (Duration::ZERO, Vec::new());
        while at < pattern.length() {
            let (lit, left) = pattern.at(at);
            let left = left.unwrap();
            said.push(format!("{} {}", if lit { "on" } else { "off" }, left.as_millis()));
            at += left;
        }
        said.join(", ")
    }

    #[test]
    fn the_table_on_the_lid_is_what_the_leds_do() {
        let row = |layer: Layer, state: &str, pattern: Pattern| {
            format!("//! | {}, {} | {state} | {} |", layer.word(), layer.colour(), words(pattern))
        };
        let mut rows: Vec<String> = BoxState::ALL.map(|s| row(Layer::Box, s.word(), s.pattern())).to_vec();
        for layer in [Layer::Analyzer, Layer::Hospital] {
            rows.extend(Heard::ALL.map(|s| row(layer, s.word(), s.pattern())));
        }
        let source = include_str!("led.rs");
        let table: Vec<&str> = source.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
        assert_eq!(table, rows);
    }

    #[test]
    fn each_state_has_exactly_one_pattern_and_each_pattern_one_state() {
        for (at, state) in BoxState::ALL.iter().enumerate() {
            let same = BoxState::ALL.iter().filter(|other| other.pattern() == state.pattern());
            assert_eq!(same.collect::<Vec<_>>(), [state]);
            assert_eq!(*state as usize, at, "the list is complete and in order");
        }
        for (at, state) in Heard::ALL.iter().enumerate() {
            let same = Heard::ALL.iter().filter(|other| other.pattern() == state.pattern());
            assert_eq!(same.collect::<Vec<_>>(), [state]);
            assert_eq!(*state as usize, at, "the list is complete and in order");
        }
        let colours: std::collections::BTreeSet<_> = Layer::ALL.iter().map(|layer| layer.colour()).collect();
        assert_eq!(colours.len(), Layer::ALL.len());
    }

    #[test]
    fn names_of_states_are_those_of_files() {
        for state in BoxState::ALL {
            assert_eq!(toml::Value::try_from(state).unwrap().as_str(), Some(state.word()));
        }
        for layer in Layer::ALL {
            assert_eq!(toml::Value::try_from(layer).unwrap().as_str(), Some(layer.word()));
        }
    }
}
