//! The ways a receiver misbehaves, and when.

use std::str::FromStr;
use std::time::Duration;

/// How long "slow" and "late" take when they do not say.
const PAUSE_DEFAULT: Duration = Duration::from_millis(1000);
/// Error conditions of HL7 table 0357 that can be asked for.
const CONDITIONS: [u16; 13] = [100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208];

/// What happens to a message. Behaviours of one protocol become their nearest relative on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// `ok`: stored and answered.
    Ok,
    /// `down`: nobody listens and connections are cut.
    Down,
    /// `slow:MS`: stored, answered after a while.
    Slow(Duration),
    /// `hang`: stored, never answered.
    Hang,
    /// `lose`: read, not stored, never answered.
    Lose,
    /// `close`: stored, closed without an answer.
    Close,
    /// `reset`: stored, TCP reset in place of an answer.
    Reset,
    /// `half`: stored, half an answer, closed.
    Half,
    /// `ae` or `ae:207`: not stored; application error, with an error condition or without.
    Ae(Option<u16>),
    /// `ar` or `ar:203`: not stored; application reject.
    Ar(Option<u16>),
    /// `ca`: stored; commit accept.
    Ca,
    /// `wrong-id`: stored; the answer names a message nobody sent.
    WrongId,
    /// `stale-id`: stored; the answer names the message before.
    StaleId,
    /// `no-msa`: stored; the answer says nothing.
    NoMsa,
    /// `garbage`: stored; a frame of nonsense.
    Garbage,
    /// `noise`: stored; nonsense without a frame, closed.
    Noise,
    /// `twice`: stored, answered twice at once.
    Twice,
    /// `late:MS`: stored, answered, and answered again after a while.
    Late(Duration),
    /// `split`: stored, answered byte by byte.
    Split,
    /// An HTTP status such as `503`, `401` or `422`: not stored.
    Status(u16),
    /// `429:S`: not stored; asks to stay away for so many seconds.
    TooMany(u64),
    /// `stored-500`: stored, but says it failed.
    Stored500,
    /// `html`: not stored; a log-in page with status 200.
    Html,
    /// `empty`: not stored; status 200 and nothing else.
    Empty,
    /// `redirect`: not stored; sends the client to another host.
    Redirect,
}

/// A name that is no behaviour, or a script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

/// What happens when: `0:ok,5:down,12:ok`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script(Vec<(Duration, Behaviour)>);

/// Behaviours at random, in percent of the messages: `ae=5,reset=2`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mix(Vec<(Behaviour, u64)>);

impl Behaviour {
    /// True when the message is in the chart afterwards.
    pub fn stores(self) -> bool {
        use Behaviour::{Ae, Ar, Down, Empty, Html, Lose, Redirect, Status, TooMany};
        !matches!(self, Down | Lose | Ae(_) | Ar(_) | Status(_) | TooMany(_) | Html | Empty | Redirect)
    }

    /// True when the sender is told clearly that the message is stored.
    pub fn is_clean(self) -> bool {
        use Behaviour::{Ca, Late, Ok, Slow, Split, Twice};
        matches!(self, Ok | Slow(_) | Ca | Split | Twice | Late(_))
    }
}

impl FromStr for Behaviour {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let number = match argument.map(str::parse::<u64>) {
            Some(Ok(number)) => Some(number),
            Some(Err(_)) => return Err(ScriptError(format!("`{text}`: the part after `:` is not a number"))),
            None => None,
        };
        let pause = number.map_or(PAUSE_DEFAULT, Duration::from_millis);
        let condition = number.and_then(|n| u16::try_from(n).ok());
        if matches!(name, "ae" | "ar") && condition.is_some_and(|c| !CONDITIONS.contains(&c)) {
            return Err(ScriptError(format!("`{text}`: not an error condition of HL7 table 0357")));
        }
        Ok(match name {
            "ok" => Behaviour::Ok,
            "down" => Behaviour::Down,
            "slow" => Behaviour::Slow(pause),
            "hang" => Behaviour::Hang,
            "lose" => Behaviour::Lose,
            "close" => Behaviour::Close,
            "reset" => Behaviour::Reset,
            "half" => Behaviour::Half,
            "ae" => Behaviour::Ae(condition),
            "ar" => Behaviour::Ar(condition),
            "ca" => Behaviour::Ca,
            "wrong-id" => Behaviour::WrongId,
            "stale-id" => Behaviour::StaleId,
            "no-msa" => Behaviour::NoMsa,
            "garbage" => Behaviour::Garbage,
            "noise" => Behaviour::Noise,
            "twice" => Behaviour::Twice,
            "late" => Behaviour::Late(pause),
            "split" => Behaviour::Split,
            "stored-500" => Behaviour::Stored500,
            "html" => Behaviour::Html,
            "empty" => Behaviour::Empty,
            "redirect" => Behaviour::Redirect,
            "429" => Behaviour::TooMany(number.unwrap_or(1)),
            _ => match name.parse() {
                Ok(status @ 400..=599) => Behaviour::Status(status),
                _ => return Err(ScriptError(format!("`{name}` is not something a simulated EHR can do"))),
            },
        })
    }
}

impl std::fmt::Display for Behaviour {
    /// As it is written in a script, without the pause.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Behaviour::Ok => "ok",
            Behaviour::Down => "down",
            Behaviour::Slow(_) => "slow",
            Behaviour::Hang => "hang",
            Behaviour::Lose => "lose",
            Behaviour::Close => "close",
            Behaviour::Reset => "reset",
            Behaviour::Half => "half",
            Behaviour::Ae(_) => "ae",
            Behaviour::Ar(_) => "ar",
            Behaviour::Ca => "ca",
            Behaviour::WrongId => "wrong-id",
            Behaviour::StaleId => "stale-id",
            Behaviour::NoMsa => "no-msa",
            Behaviour::Garbage => "garbage",
            Behaviour::Noise => "noise",
            Behaviour::Twice => "twice",
            Behaviour::Late(_) => "late",
            Behaviour::Split => "split",
            Behaviour::Stored500 => "stored-500",
            Behaviour::Html => "html",
            Behaviour::Empty => "empty",
            Behaviour::Redirect => "redirect",
            Behaviour::TooMany(_) => "429",
            Behaviour::Status(status) => return write!(f, "{status}"),
        };
        f.write_str(name)
    }
}

impl Script {
    /// How it behaves from the first moment on.
    pub(super) fn at_start(&self) -> Behaviour {
        self.0.first().filter(|(at, _)| at.is_zero()).map_or(Behaviour::Ok, |(_, behaviour)| *behaviour)
    }

    pub(super) fn steps(self) -> impl Iterator<Item = (Duration, Behaviour)> {
        self.0.into_iter()
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    /// Seconds after the start (`0.5` is fine) and a behaviour, in growing order.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut steps: Vec<(Duration, Behaviour)> = Vec::new();
        for step in text.split(',').filter(|s| !s.is_empty()) {
            let wrong = || ScriptError(format!("`{step}`: expected SECONDS:BEHAVIOUR, such as 5:down"));
            let (at, behaviour) = step.split_once(':').ok_or_else(wrong)?;
            let at = at.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).ok_or_else(wrong)?;
            if steps.last().is_some_and(|(before, _)| *before > at) {
                return Err(ScriptError(format!("`{step}`: comes before the step in front of it")));
            }
            steps.push((at, behaviour.parse()?));
        }
        Ok(Script(steps))
    }
}

impl Mix {
    /// How message `number` is treated: the same for the same seed.
    pub(super) fn draw(&self, seed: u64, number: u64) -> Behaviour {
        // SplitMix64, so that neighbouring numbers have nothing in common.
        let mut z = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mut percent = (z ^ (z >> 31)) % 100;
        for (behaviour, share) in &self.0 {
            if percent < *share {
                return *behaviour;
            }
            percent -= share;
        }
        Behaviour::Ok
    }
}

impl FromStr for Mix {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut parts = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let wrong = || ScriptError(format!("`{part}`: expected BEHAVIOUR=PERCENT, such as ae=5"));
            let (behaviour, percent) = part.split_once('=').ok_or_else(wrong)?;
            parts.push((behaviour.parse()?, percent.parse().map_err(|_| wrong())?));
        }
        if parts.iter().map(|(_, percent): &(_, u64)| *percent).fold(0, u64::saturating_add) > 100 {
            return Err(ScriptError("the shares are more than 100 percent together".to_owned()));
        }
        Ok(Mix(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_as_it_is_written() {
        let script: Script = "0:ok,0.5:down,12:429:3,13:ar:203".parse().unwrap();
        let steps: Vec<_> = script.steps().map(|(at, b)| (at.as_millis(), b)).collect();
        let ar = Behaviour::Ar(Some(203));
        assert_eq!(steps, [(0, Behaviour::Ok), (500, Behaviour::Down), (12_000, Behaviour::TooMany(3)), (13_000, ar)]);
        for wrong in ["down", "5:dwon", "5:down,1:ok", "x:ok", "1:slow:x", "1:ae:999", "1:200"] {
            assert!(wrong.parse::<Script>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mix_is_drawn_in_its_shares_and_the_same_for_a_seed() {
        let mix: Mix = "ae=20,reset=10".parse().unwrap();
        let draws: Vec<_> = (0..10_000).map(|n| mix.draw(7, n)).collect();
        let share = |b| draws.iter().filter(|d| **d == b).count() / 100;
        assert!((18..=22).contains(&share(Behaviour::Ae(None))) && (8..=12).contains(&share(Behaviour::Reset)));
        assert_eq!(draws, (0..10_000).map(|n| mix.draw(7, n)).collect::<Vec<_>>());
        assert!("ae=60,ar=60".parse::<Mix>().is_err());
    }
}
