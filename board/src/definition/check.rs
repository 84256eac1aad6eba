//! What the values of a definition mean together.

use super::{Definition, MODE_PINS_MAX, Mode, PARTS_MAX, PIN_NAME_MAX_BYTES, Temperature};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use toml::Spanned;

/// Addresses of I2C that parts may have; the others are reserved.
const I2C_ADDRESSES: RangeInclusive<u8> = 0x08..=0x77;
/// Addresses that a TMP102 or TMP112 can be wired to.
const TMP_ADDRESSES: RangeInclusive<u8> = 0x48..=0x4b;
/// Degrees Celsius that can be a limit.
const HIGH_C: RangeInclusive<i16> = 30..=125;
/// Milliseconds after which a supply can be lost.
const LOST_AFTER_MS: RangeInclusive<u32> = 1..=5000;

/// Everything that is wrong: at which byte, and the words.
pub(super) fn check(definition: &Definition) -> Vec<(usize, String)> {
    let mut checks = Checks::default();
    checks.about(definition);
    checks.leds(definition);
    if let Some(button) = &definition.button {
        checks.pin(&button.pin, "button");
        if button.may.get_ref().is_empty() {
            checks.say(&button.may, "a button that may do nothing; give it `identify`, or leave [button] out");
        }
    }
    if let Some(buzzer) = &definition.buzzer {
        checks.pin(&buzzer.pin, "buzzer");
    }
    if let Some(display) = &definition.display {
        checks.path(&display.bus, "/dev/i2c-");
        checks.i2c(&display.bus, &display.address, "display");
    }
    if let Some(temperature) = &definition.temperature {
        checks.temperature(temperature);
    }
    if let Some(rtc) = &definition.rtc {
        checks.file_name(&rtc.name, "/sys/class/rtc");
    }
    if let Some(supply) = &definition.supply {
        checks.pin(&supply.pin, "supply");
        if !LOST_AFTER_MS.contains(supply.lost_after_ms.get_ref()) {
            checks.say(&supply.lost_after_ms, "a supply is lost after 1 to 5000 ms");
        }
    }
    checks.ports(definition);
    checks.relays(definition);
    if let Some(watchdog) = &definition.watchdog {
        checks.path(&watchdog.device, "/dev/watchdog");
    }
    checks.faults.sort();
    checks.faults
}

#[derive(Default)]
struct Checks {
    faults: Vec<(usize, String)>,
    /// Which part has a pin.
    pins: BTreeMap<String, String>,
    /// Which part has an address on a bus.
    addresses: BTreeMap<(String, u8), String>,
}

impl Checks {
    fn say<T>(&mut self, at: &Spanned<T>, text: impl Into<String>) {
        self.faults.push((at.span().start, text.into()));
    }

    fn about(&mut self, definition: &Definition) {
        for named in [&definition.board.name, &definition.board.revision] {
            if named.get_ref().trim().is_empty() {
                self.say(named, "it is empty; say which board and which revision this is");
            }
        }
    }

    fn leds(&mut self, definition: &Definition) {
        let mut seen = Vec::new();
        for led in &definition.leds {
            let layer = *led.layer.get_ref();
            if seen.contains(&layer) {
                let text = format!("there are two LEDs for the layer `{}`; take one out", layer.word());
                self.say(&led.layer, text);
            }
            seen.push(layer);
            if let Some(kernel) = &led.kernel {
                self.file_name(kernel, "/sys/class/leds");
            }
            match (&led.kernel, &led.pin) {
                (None, None) => self.say(&led.layer, "this LED has neither `kernel` nor `pin`; name one of them"),
                (_, Some(pin)) => self.pin(pin, &format!("{} LED", layer.word())),
                _ => {}
            }
        }
    }

    fn temperature(&mut self, temperature: &Temperature) {
        match (&temperature.zone, &temperature.bus, &temperature.address) {
            (Some(zone), None, None) => self.file_name(zone, "/sys/class/thermal"),
            (None, Some(bus), Some(address)) => {
                self.path(bus, "/dev/i2c-");
                self.i2c(bus, address, "temperature");
                if !TMP_ADDRESSES.contains(address.get_ref()) {
                    self.say(address, "a TMP102 or TMP112 is at 0x48, 0x49, 0x4a or 0x4b");
                }
            }
            _ => self.say(&temperature.high_c, "name either `zone`, or both `bus` and `address`"),
        }
        if !HIGH_C.contains(temperature.high_c.get_ref()) {
            self.say(&temperature.high_c, "`high_c` is 30 to 125 degrees Celsius");
        }
    }

    fn ports(&mut self, definition: &Definition) {
        self.few(definition.ports.first().map(|port| &port.name), definition.ports.len());
        let mut names = Vec::new();
        for port in &definition.ports {
            self.name(&port.name, &mut names);
            self.path(&port.tty, "/dev/tty");
            let pins = port.pins.get_ref();
            if pins.is_empty() || pins.len() > MODE_PINS_MAX {
                self.say(&port.pins, format!("a port has 1 to {MODE_PINS_MAX} mode pins; without any, leave it out"));
            }
            for pin in pins {
                self.pin_at(port.pins.span().start, pin, &format!("port {}", port.name.get_ref()));
            }
            let modes = port.modes.get_ref();
            for (mode, levels) in modes.iter().filter(|(_, levels)| levels.len() != pins.len()) {
                let (mode, have, want) = (mode.word(), levels.len(), pins.len());
                self.say(&port.modes, format!("`{mode}` has {have} levels for {want} pins; give one for each"));
            }
            let twins = |(mode, levels): (&Mode, &Vec<bool>)| {
                modes.iter().any(|(other, same)| other > mode && same == levels).then(|| mode.word())
            };
            if let Some(mode) = modes.iter().find_map(twins) {
                self.say(&port.modes, format!("`{mode}` has the levels of another mode; one of the two is wrong"));
            }
            if !modes.contains_key(port.default.get_ref()) {
                let known: Vec<&str> = modes.keys().map(|mode| mode.word()).collect();
                let text = format!("`modes` does not have this one; it has {}", known.join(", "));
                self.say(&port.default, text);
            }
        }
    }

    fn relays(&mut self, definition: &Definition) {
        self.few(definition.relays.first().map(|relay| &relay.name), definition.relays.len());
        let mut names = Vec::new();
        for relay in &definition.relays {
            self.name(&relay.name, &mut names);
            self.pin(&relay.pin, &format!("relay {}", relay.name.get_ref()));
            if relay.closed_when.get_ref().is_empty() {
                self.say(&relay.closed_when, "a relay that never closes; name a state, such as `well`");
            }
        }
    }

    fn few(&mut self, first: Option<&Spanned<String>>, number: usize) {
        if let Some(first) = first.filter(|_| number > PARTS_MAX) {
            self.say(first, format!("there are {number} of this kind, and at most {PARTS_MAX} can be"));
        }
    }

    fn name(&mut self, name: &Spanned<String>, names: &mut Vec<String>) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let text = name.get_ref();
        if text.is_empty() || !text.chars().all(allowed) {
            self.say(name, "a name is made of letters, digits, `-` and `_`");
        }
        if names.contains(text) {
            self.say(name, format!("the name `{text}` is taken; each needs its own"));
        }
        names.push(text.clone());
    }

    fn file_name(&mut self, name: &Spanned<String>, folder: &str) {
        let text = name.get_ref();
        if text.is_empty() || text.contains('/') || text.starts_with('.') || text.chars().any(char::is_control) {
            self.say(name, format!("this is no name below {folder}; `ls {folder}` on the board shows those there are"));
        }
    }

    fn path(&mut self, path: &Spanned<String>, begins: &str) {
        if !path.get_ref().starts_with(begins) || path.get_ref().contains("..") {
            self.say(path, format!("this is no device; it begins with {begins}"));
        }
    }

    fn pin(&mut self, pin: &Spanned<String>, part: &str) {
        self.pin_at(pin.span().start, pin.get_ref(), part);
    }

    fn pin_at(&mut self, at: usize, pin: &str, part: &str) {
        if pin.is_empty() || pin.len() > PIN_NAME_MAX_BYTES || pin.chars().any(char::is_control) {
            let text =
                format!("`{}` is no name of a line of GPIO; `gpioinfo` on the board shows them", pin.escape_debug());
            self.faults.push((at, text));
            return;
        }
        if let Some(other) = self.pins.insert(pin.to_string(), part.to_string()) {
            self.faults.push((at, format!("the pin `{pin}` has the {other} already; each needs its own")));
        }
    }

    fn i2c(&mut self, bus: &Spanned<String>, address: &Spanned<u8>, part: &str) {
        let number = *address.get_ref();
        if !I2C_ADDRESSES.contains(&number) {
            self.say(address, "no part can have this address; it is 0x08 to 0x77 (7 bits, without the R/W bit)");
        }
        if let Some(other) = self.addresses.insert((bus.get_ref().clone(), number), part.to_string()) {
            let text = format!("the {other} has 0x{number:02x} on this bus already; each needs its own");
            self.say(address, text);
        }
    }
}
