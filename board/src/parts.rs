//! The shell: the parts that a board has, found by its definition, and what is done with them turn by turn.
//!
//! A part that is not there, or stops answering, is a [`Trouble`], told once; everything else goes on. Display and
//! temperature sensor share a bus mostly, and are [`crate::apart`].

use crate::apart::Apart;
use crate::definition::{self, Definition, Mode};
use crate::display::Display;
use crate::led::{BoxState, Layer};
use crate::panel::{Event, Face, Panel, Sensed};
use crate::pin::{Input, Output};
use crate::screen::Screen;
use crate::seen::{Seen, Temperature, Trouble};
use crate::temperature::Thermometer;
use crate::watchdog::Watchdog;
use std::collections::BTreeMap;
use std::time::Duration;

/// The button is looked at this often, where there is one.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The temperature is read this often.
const TEMPERATURE_EVERY: Duration = Duration::from_secs(10);
/// A part that failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The box is looked at this often at least.
const TURN_MAX: Duration = Duration::from_secs(1);
/// No battery-backed clock is right that says less: 2026-01-01, Unix seconds.
const PROGRAM_S: i64 = 1_767_225_600;

/// Why a part is not there: what is wrong, and what to do.
pub type Absent = (String, String);

/// Where parts are found.
pub trait Hardware {
    /// A status LED, dark.
    ///
    /// # Errors
    /// [`Absent`].
    fn led(&mut self, led: &definition::Led) -> Result<Box<dyn Output>, Absent>;
    /// An output that is off, for `part`.
    ///
    /// # Errors
    /// [`Absent`].
    fn output(&mut self, part: &str, pin: &str, active_low: bool) -> Result<Box<dyn Output>, Absent>;
    /// An input, for `part`. What cannot be read otherwise, such as a file, is `rest`.
    ///
    /// # Errors
    /// [`Absent`].
    fn input(&mut self, part: &str, pin: &str, active_low: bool, rest: bool) -> Result<Box<dyn Input>, Absent>;
    /// The display, which may not have answered yet.
    ///
    /// # Errors
    /// [`Absent`].
    fn display(&mut self, display: &definition::Display) -> Result<Box<dyn Display>, Absent>;
    /// The temperature sensor, which may not have answered yet.
    ///
    /// # Errors
    /// [`Absent`].
    fn thermometer(&mut self, sensor: &definition::Temperature) -> Result<Box<dyn Thermometer>, Absent>;
    /// What the battery-backed clock says, Unix seconds.
    ///
    /// # Errors
    /// [`Absent`].
    fn rtc(&mut self, rtc: &definition::Rtc) -> Result<i64, Absent>;
    /// The hardware watchdog. It is armed from now on.
    ///
    /// # Errors
    /// [`Absent`].
    fn watchdog(&mut self, watchdog: &definition::Watchdog) -> Result<Box<dyn Watchdog>, Absent>;
}

/// A relay, and when it is closed.
type Relay = (String, Vec<BoxState>, Box<dyn Output>);

/// The parts of a board.
#[derive(Default)]
pub struct Parts {
    leds: Vec<(Layer, Box<dyn Output>)>,
    button: Option<Box<dyn Input>>,
    buzzer: Option<Box<dyn Output>>,
    display: Option<Apart<(Screen, bool), ()>>,
    thermometer: Option<Apart<(), Temperature>>,
    relays: Vec<Relay>,
    /// The kernel keeps a pin as it is as long as somebody has it.
    modes: Vec<Box<dyn Output>>,
    troubles: Vec<Trouble>,
}

impl Parts {
    /// Finds what the definition names, but for what [`crate::guard`] has, and sets the modes of its ports: those of
    /// `modes`, by the port's name, and the others to their default.
    pub fn find(definition: &Definition, modes: &BTreeMap<String, Mode>, hardware: &mut dyn Hardware) -> Parts {
        let mut parts = Parts::default();
        for led in &definition.leds {
            let part = format!("{} LED", led.layer.get_ref().word());
            let found = parts.note(&part, hardware.led(led));
            parts.leds.extend(found.map(|output| (*led.layer.get_ref(), output)));
        }
        if let Some(button) = &definition.button {
            let found = hardware.input("button", button.pin.get_ref(), button.active_low, false);
            parts.button = parts.note("button", found);
        }
        if let Some(buzzer) = &definition.buzzer {
            let found = hardware.output("buzzer", buzzer.pin.get_ref(), buzzer.active_low);
            parts.buzzer = parts.note("buzzer", found);
        }
        if let Some(display) = &definition.display {
            let found = hardware.display(display).and_then(|mut display| {
                apart("display", move |(screen, dim): (Screen, bool)| display.show(&screen, dim))
            });
            parts.display = parts.note("display", found);
        }
        if let Some(sensor) = &definition.temperature {
            let found = hardware.thermometer(sensor);
            let found = found.and_then(|mut sensor| apart("temperature", move |()| sensor.read()));
            parts.thermometer = parts.note("temperature", found);
        }
        if let Some(rtc) = &definition.rtc {
            match parts.note("rtc", hardware.rtc(rtc)) {
                Some(said_s) if said_s < PROGRAM_S => {
                    let what = "the clock has forgotten what time it is";
                    parts.troubles.push(Trouble::new("rtc", what, "its battery is empty or missing; replace it"));
                }
                _ => {}
            }
        }
        for relay in &definition.relays {
            let name = relay.name.get_ref();
            let found = hardware.output(&format!("relay-{name}"), relay.pin.get_ref(), relay.active_low);
            let found = parts.note(&format!("relay {name}"), found);
            parts.relays.extend(found.map(|output| (name.clone(), relay.closed_when.get_ref().clone(), output)));
        }
        for port in &definition.ports {
            parts.set_mode(port, modes.get(port.name.get_ref()).copied(), hardware);
        }
        for name in modes.keys().filter(|name| !definition.ports.iter().any(|port| port.name.get_ref() == *name)) {
            let known: Vec<&str> = definition.ports.iter().map(|port| port.name.get_ref().as_str()).collect();
            let hint = format!("this board has the ports: {}", known.join(", "));
            parts.troubles.push(Trouble::new(format!("port {name}"), "this board has no such port", hint));
        }
        parts
    }

    /// What is not there.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    fn note<T>(&mut self, part: &str, found: Result<T, Absent>) -> Option<T> {
        match found {
            Ok(part) => Some(part),
            Err((what, hint)) => {
                self.troubles.push(Trouble::new(part, what, hint));
                None
            }
        }
    }

    fn set_mode(&mut self, port: &definition::Port, wanted: Option<Mode>, hardware: &mut dyn Hardware) {
        let part = format!("port {}", port.name.get_ref());
        let modes = port.modes.get_ref();
        let mut mode = *port.default.get_ref();
        if let Some(wanted) = wanted {
            if modes.contains_key(&wanted) {
                mode = wanted;
            } else {
                let known: Vec<&str> = modes.keys().map(|mode| mode.word()).collect();
                let what = format!("it cannot be {}, and is {}", wanted.word(), mode.word());
                self.troubles.push(Trouble::new(&part, what, format!("choose one of: {}", known.join(", "))));
            }
        }
        let levels = modes.get(&mode).into_iter().flatten();
        for (at, (pin, level)) in port.pins.get_ref().iter().zip(levels).enumerate() {
            let found = hardware.output(&format!("port-{}-{at}", port.name.get_ref()), pin, false);
            let set = found.and_then(|mut output| match output.set(*level) {
                Ok(()) => Ok(output),
                Err(what) => Err((what, format!("its line is not {} as long as that is so", mode.word()))),
            });
            let set = self.note(&part, set);
            self.modes.extend(set);
        }
    }
}

fn apart<J: Send + 'static, A: Send + 'static>(
    part: &str,
    work: impl FnMut(J) -> Result<A, String> + Send + 'static,
) -> Result<Apart<J, A>, Absent> {
    let hint = "the unit may allow too few of them (TasksMax=)";
    Apart::new(part, work).map_err(|error| (format!("there is no thread for it: {error}"), hint.to_string()))
}

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What somebody wants.
    pub events: Vec<Event>,
    /// Parts that failed or are missing, as of now; told once.
    pub troubles: Vec<Trouble>,
    /// Parts that work again.
    pub mended: Vec<String>,
    /// What is shown otherwise than before, in words such as `box well` and `screen status`.
    pub changes: Vec<String>,
}

/// A board that is turned again and again.
pub struct Board {
    panel: Panel,
    parts: Parts,
    face: Option<Face>,
    /// What outputs were set to, by the name of the part; what could not be set is not there.
    set: BTreeMap<String, bool>,
    /// What the display was told to show, and did not fail to.
    shown: Option<(Screen, bool)>,
    /// Parts that failed, and when they are tried again.
    failed: BTreeMap<String, Duration>,
    standing: Vec<Trouble>,
    temperature: (Option<Temperature>, Duration),
}

impl Board {
    /// A board of these parts.
    pub fn new(definition: &Definition, parts: Parts) -> Board {
        Board {
            panel: Panel::new(definition),
            parts,
            face: None,
            set: BTreeMap::new(),
            shown: None,
            failed: BTreeMap::new(),
            standing: Vec::new(),
            temperature: (None, Duration::ZERO),
        }
    }

    /// Somebody elsewhere asks which box this is.
    pub fn identify(&mut self, now: Duration) {
        self.panel.identify(now);
    }

    /// Looks at inputs, and shows what there is to show.
    pub fn turn(&mut self, seen: &Seen, now: Duration) -> Turn {
        let mut turn = Turn { troubles: std::mem::take(&mut self.parts.troubles), ..Turn::default() };
        self.standing.extend(turn.troubles.iter().cloned());
        let sensed = self.sense(now, &mut turn);
        let mut seen = seen.clone();
        seen.alerts.extend(self.standing.iter().map(|trouble| format!("board: {}", trouble.part)));
        let face = self.panel.turn(&seen, &sensed, now);
        self.show(&face, now, &mut turn);
        for layer in Layer::ALL {
            if self.face.as_ref().is_none_or(|before| before.word(layer) != face.word(layer)) {
                turn.changes.push(format!("{} {}", layer.word(), face.word(layer)));
            }
        }
        if self.face.as_ref().is_none_or(|before| before.screen.word() != face.screen.word()) {
            turn.changes.push(format!("screen {}", face.screen.word()));
        }
        self.face = Some(face);
        turn.events = std::iter::from_fn(|| self.panel.poll_event()).collect();
        turn
    }

    /// When it is to be turned next.
    pub fn next(&self, now: Duration) -> Duration {
        let look = now + if self.parts.button.is_some() { LOOK_EVERY } else { TURN_MAX };
        self.panel.poll_timeout().map_or(look, |due| due.min(look)).max(now + Duration::from_millis(1))
    }

    /// Waits until the display shows what it is to show, at most so long.
    pub fn settle(&self, longest: Duration) {
        self.parts.display.iter().for_each(|display| display.settle(longest));
    }

    fn sense(&mut self, now: Duration, turn: &mut Turn) -> Sensed {
        let mut button = self.parts.button.take();
        let is_down = button.as_mut().and_then(|input| self.tried("button", now, turn, || input.is_on()));
        self.parts.button = button;
        if let Some(thermometer) = &mut self.parts.thermometer {
            if now >= self.temperature.1 {
                thermometer.ask(());
                self.temperature.1 = now + TEMPERATURE_EVERY;
            }
            if let Some(read) = thermometer.poll(now) {
                self.temperature.0 = self.tried("temperature", now, turn, || read);
            }
        }
        Sensed { button: is_down, temperature: self.temperature.0 }
    }

    fn show(&mut self, face: &Face, now: Duration, turn: &mut Turn) {
        let mut parts = std::mem::take(&mut self.parts);
        for (layer, output) in &mut parts.leds {
            self.switch(&format!("{} LED", layer.word()), output.as_mut(), face.lit[*layer as usize], now, turn);
        }
        if let Some(buzzer) = &mut parts.buzzer {
            self.switch("buzzer", buzzer.as_mut(), face.beeps, now, turn);
        }
        for (name, closed_when, output) in &mut parts.relays {
            let is_closed = closed_when.contains(&face.condition);
            self.switch(&format!("relay {name}"), output.as_mut(), is_closed, now, turn);
        }
        if let Some(display) = &mut parts.display {
            if let Some(shown) = display.poll(now)
                && self.tried("display", now, turn, || shown).is_none()
            {
                self.shown = None;
            }
            let wanted = (face.screen.clone(), face.dim);
            if self.shown.as_ref() != Some(&wanted) && !self.failed_just_now("display", now) {
                display.ask(wanted.clone());
                self.shown = Some(wanted);
            }
        }
        self.parts = parts;
    }

    fn switch(&mut self, part: &str, output: &mut dyn Output, on: bool, now: Duration, turn: &mut Turn) {
        if self.set.get(part) == Some(&on) {
            return;
        }
        match self.tried(part, now, turn, || output.set(on)) {
            Some(()) => self.set.insert(part.to_string(), on),
            None => self.set.remove(part),
        };
    }

    fn failed_just_now(&self, part: &str, now: Duration) -> bool {
        self.failed.get(part).is_some_and(|again| now < *again)
    }

    /// Uses a part, unless it failed a moment ago.
    fn tried<T>(
        &mut self,
        part: &str,
        now: Duration,
        turn: &mut Turn,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Option<T> {
        if self.failed_just_now(part, now) {
            return None;
        }
        match work() {
            Ok(done) => {
                if self.failed.remove(part).is_some() {
                    self.standing.retain(|trouble| trouble.part != part);
                    turn.mended.push(part.to_string());
                }
                Some(done)
            }
            Err(what) => {
                if self.failed.insert(part.to_string(), now + RETRY_AFTER).is_none() {
                    let trouble =
                        Trouble::new(part, what, "it is tried again; look at its cable and at the definition");
                    self.standing.push(trouble.clone());
                    turn.troubles.push(trouble);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
