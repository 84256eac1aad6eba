//! What is at the other end of a line: speed, character layout, protocol, instrument, and who talks first, from live
//! bytes. Pure: characters, times and the kernel's counters in; a speed to listen at, bytes to send and findings out.
//!
//! **Nothing is ever acknowledged**, since nobody takes custody here (invariant I1). An `ENQ` is answered with `NAK`
//! ("busy"), so that the instrument keeps its results and asks again, which LIS01-A2 clause 6.3 makes it do no sooner
//! than after ten seconds. With [`Manner::Grant`] an instrument that asks for the line is granted it, so that it says its
//! name in its first frame, which is refused like every other one. [`Manner::Provoke`] goes further: an `ENQ` of ours is
//! sent into silence. Messages of HL7 and POCT1-A stay unanswered.
//!
//! - [`reading`] tells data bits and parity from characters heard at eight data bits without parity.
//! - [`spoken`] knows protocols and formats by their bytes.
//! - [`findings`] puts it into words, with the link's table to paste.
//! - [`listen`] is not pure: it opens what is probed and runs the probe on it.

pub mod findings;
pub mod listen;
pub mod reading;
pub mod spoken;

use crate::link::serial::port::{LineErrors, ModemLines};
use crate::wire::Time;
use crate::wire::astm::{ACK, ENQ, EOT, ETB, ETX, NAK};
use reading::{Character, Format, PLAIN, Reading};
use spoken::{CERTAIN, PLAUSIBLE, POSSIBLE, Spoken};
use std::collections::VecDeque;
use std::time::Duration;

/// Speeds that are tried, the likeliest first.
pub const SPEEDS: [u32; 9] = [9600, 19200, 38400, 115_200, 4800, 57600, 2400, 1200, 14400];
/// Silence that ends what was said in one breath.
const QUIET: Duration = Duration::from_millis(300);
/// So much of one breath is judged at once.
const JUDGED_AT: usize = 512;
/// Characters kept of one speed; a message with histograms has 45 kB.
const HEARD_MAX: usize = 64 * 1024;
/// Silence into which an `ENQ` is sent, and the pause before the next.
const PROVOKE_AFTER: Duration = Duration::from_secs(3);
/// A speed at which nothing is heard is given up after this time when another one heard something: whoever asks for
/// the line asks again within it.
const UNHEARD_AFTER: Duration = Duration::from_secs(20);
/// What was sent comes back within this time when the line is an echo.
const ECHO_WITHIN: Duration = Duration::from_millis(500);

/// What may be said on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing at all: somebody else has the line.
    Overhear,
    /// `NAK` to `ENQ`.
    Listen,
    /// `ACK` to `ENQ`, so that the instrument says its name; `NAK` to each frame.
    Grant,
    /// `ENQ` into silence, `ACK` to `ENQ`, `NAK` to each frame.
    Provoke,
}

/// What a probe wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Listen at this speed from now on, eight data bits without parity.
    Speed(u32),
    /// Send these bytes.
    Send(Vec<u8>),
}

/// One speed that was listened at and did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Bits per second.
    pub baud: u32,
    /// Characters heard.
    pub characters: usize,
    /// Those without their stop bit.
    pub damaged: usize,
    /// Times it was faster than the sender, as far as the shape of the characters tells; 1 when it was not.
    pub too_fast_by: usize,
}

/// A probe of one line.
pub struct Probe {
    manner: Manner,
    /// The speed listened at; `None` where a line has none.
    baud: Option<u32>,
    /// Set once what is heard makes sense.
    settled: bool,
    trials: Vec<Trial>,
    heard: Vec<Character>,
    /// When the last character came; `None` once that breath was judged.
    open: Option<Time>,
    /// Characters of that breath, and whether all of them were kept and came whole.
    breath: (usize, bool),
    silent_since: Time,
    sent: Option<(Time, u8)>,
    asked: u32,
    echoes: u32,
    answers: u32,
    spoke_first: bool,
    errors: Option<LineErrors>,
    lines: Option<ModemLines>,
    actions: VecDeque<Action>,
}

impl Probe {
    /// A probe of a serial port that is open at `baud`. With `fixed`, the speed is known and not tried out.
    pub fn serial(now: Time, baud: u32, fixed: bool, manner: Manner) -> Probe {
        Probe { baud: Some(baud), settled: fixed, ..Probe::network(now, manner) }
    }

    /// A probe of a connection.
    pub fn network(now: Time, manner: Manner) -> Probe {
        Probe {
            manner,
            baud: None,
            settled: true,
            trials: Vec::new(),
            heard: Vec::new(),
            open: None,
            breath: (0, true),
            silent_since: now,
            sent: None,
            asked: 0,
            echoes: 0,
            answers: 0,
            spoke_first: false,
            errors: None,
            lines: None,
            actions: VecDeque::new(),
        }
    }

    /// Characters came, in any split.
    pub fn hear(&mut self, now: Time, characters: &[Character]) {
        self.handle_timeout(now);
        if characters.is_empty() {
            return;
        }
        for &character in characters {
            let is_echo = self.sent.is_some_and(|(at, byte)| now < at + ECHO_WITHIN && byte == character.byte);
            if is_echo {
                self.sent = None;
                self.echoes += 1;
                continue;
            }
            if self.heard.is_empty() && self.asked == 0 {
                self.spoke_first = true;
            }
            let is_kept = self.heard.len() < HEARD_MAX;
            if is_kept {
                self.heard.push(character);
            }
            let (before, all_whole) = if self.open.is_some() { self.breath } else { (0, true) };
            self.breath = (before + 1, all_whole && is_kept && !character.damaged);
            self.open = Some(now);
        }
        self.silent_since = now;
        if !self.settled && self.heard.len() >= JUDGED_AT {
            self.judge(now);
        }
    }

    /// Bytes came on a line that damages none.
    pub fn hear_bytes(&mut self, now: Time, bytes: &[u8]) {
        let characters: Vec<_> = bytes.iter().map(|&byte| Character { byte, damaged: false }).collect();
        self.hear(now, &characters);
    }

    /// What the kernel has counted since the port was opened, and the handshake lines; `None` where a port has none.
    pub fn see_port(&mut self, errors: Option<LineErrors>, lines: Option<ModemLines>) {
        (self.errors, self.lines) = (errors, lines);
    }

    /// Some time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.open.is_some_and(|at| now >= at + QUIET) {
            self.open = None;
            self.judge(now);
            if self.settled {
                self.answer(now);
            }
        }
        if self.is_deaf() && now >= self.silent_since + UNHEARD_AFTER {
            self.try_another(now);
        }
        let provokes = self.manner == Manner::Provoke && self.heard.is_empty();
        if provokes && now >= self.silent_since + PROVOKE_AFTER {
            self.provoke(now);
        }
    }

    /// The instrument hung up: what it said is whole.
    pub fn end_breath(&mut self, now: Time) {
        self.open = None;
        self.judge(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Probe::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let quiet = self.open.map(|at| at + QUIET);
        let provoke =
            (self.manner == Manner::Provoke && self.heard.is_empty()).then_some(self.silent_since + PROVOKE_AFTER);
        let deaf = self.is_deaf().then_some(self.silent_since + UNHEARD_AFTER);
        quiet.into_iter().chain(provoke).chain(deaf).min()
    }

    /// True when listening longer would tell no more.
    pub fn is_decided(&self) -> bool {
        // Whoever only overhears need not wait for its turn, which may never come on a busy line.
        if !self.settled || (self.open.is_some() && self.manner != Manner::Overhear) {
            return false;
        }
        let Reading { text, recognised: Some(recognised), .. } = self.reading() else { return false };
        let says_no_more = self.manner == Manner::Listen && recognised.asked >= 2;
        // Whoever joins in the middle of a message has to wait for the next header to hear the sender's name.
        let named = |protocol| crate::driver::identify::sender(protocol, &text).is_some();
        (recognised.score >= CERTAIN && recognised.spoken.protocol().is_none_or(named))
            || (recognised.spoken == Spoken::Astm && says_no_more)
    }

    /// True at a speed that hears nothing of what another one heard.
    fn is_deaf(&self) -> bool {
        !self.settled && !self.trials.is_empty() && self.heard.is_empty()
    }

    /// What was heard at the speed that is listened at.
    fn reading(&self) -> Reading {
        reading::read(&self.heard)
    }

    /// Takes the speed for right, or takes another one.
    fn judge(&mut self, now: Time) {
        if self.settled || self.heard.is_empty() {
            return;
        }
        let score = self.reading().score();
        if score >= PLAUSIBLE {
            self.settled = true;
        } else if score < POSSIBLE {
            self.try_another(now);
        }
    }

    fn try_another(&mut self, now: Time) {
        let Some(baud) = self.baud else { return };
        let trial = Trial {
            baud,
            characters: self.heard.len(),
            damaged: self.heard.iter().filter(|c| c.damaged).count(),
            too_fast_by: reading::too_fast_by(&self.heard),
        };
        if self.trials.len() >= SPEEDS.len() {
            // None of them made sense: perhaps it was noise, so all are tried anew.
            self.trials.clear();
        }
        let untried = |speed: &&u32| **speed != baud && self.trials.iter().all(|t| t.baud != **speed);
        let target = baud / u32::try_from(trial.too_fast_by).unwrap_or(1).max(1);
        let next = match trial.too_fast_by {
            0 | 1 => SPEEDS.iter().find(untried),
            _ => SPEEDS.iter().filter(untried).min_by_key(|speed| apart(**speed, target)),
        };
        let next = next.copied().unwrap_or(baud);
        self.trials.push(trial);
        self.heard.clear();
        self.open = None;
        self.silent_since = now;
        self.change_speed(next);
    }

    fn change_speed(&mut self, baud: u32) {
        self.baud = Some(baud);
        self.actions.push_back(Action::Speed(baud));
    }

    /// Refuses what an ASTM sender has just said, or grants it the line; nobody else is answered.
    fn answer(&mut self, now: Time) {
        let Reading { format, text, recognised, .. } = self.reading();
        if self.manner == Manner::Overhear || recognised.is_none_or(|r| r.spoken != Spoken::Astm) {
            return;
        }
        // A single character, which is the last of the text: of a longer breath, or one that is not there whole, the last
        // of the text may be older, and an ACK or EOT the acknowledgment of a frame.
        let is_lone = self.breath == (1, true);
        let ends_frame = text.iter().rposition(|b| matches!(*b, ETX | ETB)).is_some_and(|at| text.len() - at <= 5);
        match (text.last(), self.manner) {
            (Some(&ENQ), Manner::Grant | Manner::Provoke) if is_lone => self.send(now, ACK, format),
            (Some(&ENQ), _) => self.send(now, NAK, format),
            // It granted us the line, and there is nothing to say.
            (Some(&ACK), _) if self.asked > 0 && is_lone => {
                self.answers += 1;
                self.send(now, EOT, format);
            }
            (Some(&NAK), _) if self.asked > 0 && is_lone => self.answers += 1,
            _ if ends_frame => self.send(now, NAK, format),
            _ => {}
        }
    }

    fn provoke(&mut self, now: Time) {
        // The first goes out at the speed at hand; each further one at the next.
        if self.asked > 0 && !self.settled {
            let at = SPEEDS.iter().position(|speed| Some(*speed) == self.baud).unwrap_or(0);
            self.change_speed(SPEEDS[(at + 1) % SPEEDS.len()]);
        }
        self.asked += 1;
        self.silent_since = now;
        self.send(now, ENQ, PLAIN);
    }

    fn send(&mut self, now: Time, byte: u8, format: Format) {
        let byte = format.encode(byte);
        self.sent = Some((now, byte));
        self.actions.push_back(Action::Send(vec![byte]));
    }
}

/// How far two speeds are apart, for comparing.
fn apart(one: u32, other: u32) -> u32 {
    let (low, high) = (one.min(other).max(1), one.max(other));
    high * 16 / low
}

#[cfg(test)]
mod tests;
