//! What a board has: a TOML file that names pins, LEDs of the kernel and parts on I2C. A revision of a board is another
//! file; those in `definitions/` are compiled in.
//!
//! Everything but `[board]` may be left out: that part is not there, and nothing else changes. Unknown keys are faults,
//! and so is a pin that two parts have.

mod check;

use crate::button::Role;
use crate::led::{BoxState, Layer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// Longest definition, in bytes.
pub const TEXT_MAX_BYTES: usize = 64 * 1024;
/// Longest name of a line of GPIO, in bytes: the kernel has room for 32 with a zero at the end.
const PIN_NAME_MAX_BYTES: usize = 31;
/// Parts of one kind at most.
const PARTS_MAX: usize = 32;
/// Mode pins of one port at most.
const MODE_PINS_MAX: usize = 8;

/// The definitions there are, by name.
pub const BUILTIN: [(&str, &str); 3] = [
    ("beaglebone-1", include_str!("../definitions/beaglebone-1.toml")),
    ("cm4-carrier-1", include_str!("../definitions/cm4-carrier-1.toml")),
    ("x86-1", include_str!("../definitions/x86-1.toml")),
];

/// A board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Which.
    pub board: About,
    /// Status LEDs, at most one for each layer.
    #[serde(default, rename = "led")]
    pub leds: Vec<Led>,
    /// The button.
    pub button: Option<Button>,
    /// The buzzer.
    pub buzzer: Option<Pin>,
    /// The display.
    pub display: Option<Display>,
    /// The temperature sensor.
    pub temperature: Option<Temperature>,
    /// The battery-backed clock.
    pub rtc: Option<Rtc>,
    /// The input that says that the supply is good.
    pub supply: Option<Supply>,
    /// Serial ports whose mode is chosen by pins.
    #[serde(default, rename = "port")]
    pub ports: Vec<Port>,
    /// Relays.
    #[serde(default, rename = "relay")]
    pub relays: Vec<Relay>,
    /// The hardware watchdog, where no service manager has it.
    pub watchdog: Option<Watchdog>,
}

/// Which board it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Its name, for a person.
    pub name: Spanned<String>,
    /// Its revision.
    pub revision: Spanned<String>,
    /// What the device tree calls the machine; one of these has to be there, else nothing is driven. Empty: any machine.
    #[serde(default)]
    pub compatible: Vec<String>,
}

/// A status LED. Where the kernel has it, it is driven there, else by its pin.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Led {
    /// What it stands for.
    pub layer: Spanned<Layer>,
    /// Its name below `/sys/class/leds`.
    pub kernel: Option<Spanned<String>>,
    /// Name of its line of GPIO.
    pub pin: Option<Spanned<String>>,
    /// It is lit while the pin is low.
    #[serde(default)]
    pub active_low: bool,
}

/// A pin.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Name of the line of GPIO.
    pub pin: Spanned<String>,
    /// It is on while the pin is low.
    #[serde(default)]
    pub active_low: bool,
}

/// The button.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Button {
    /// Name of the line of GPIO.
    pub pin: Spanned<String>,
    /// It is pressed while the pin is low.
    #[serde(default)]
    pub active_low: bool,
    /// What it may do.
    pub may: Spanned<Vec<Role>>,
}

/// The chips of displays there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisplayChip {
    /// SSD1306, 128 x 64 pixels.
    Ssd1306,
}

/// The display.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// Its chip.
    pub chip: DisplayChip,
    /// The I2C bus, such as "/dev/i2c-1".
    pub bus: Spanned<String>,
    /// Its address, 7 bits.
    pub address: Spanned<u8>,
    /// It is mounted upside down.
    #[serde(default)]
    pub upside_down: bool,
}

/// The temperature sensor: a zone of the kernel, or a TMP102 or TMP112 on I2C.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// Type of the zone below `/sys/class/thermal`, such as "cpu-thermal".
    pub zone: Option<Spanned<String>>,
    /// The I2C bus.
    pub bus: Option<Spanned<String>>,
    /// Its address, 0x48 to 0x4b.
    pub address: Option<Spanned<u8>>,
    /// Above this, in degrees Celsius, a person should look.
    pub high_c: Spanned<i16>,
}

/// The battery-backed clock, which the kernel has to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rtc {
    /// Its name below `/sys/class/rtc`, such as "rtc0".
    pub name: Spanned<String>,
}

/// The input that says that the supply is good.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supply {
    /// Name of the line of GPIO.
    pub pin: Spanned<String>,
    /// It is good while the pin is low.
    #[serde(default)]
    pub active_low: bool,
    /// Gone for so many milliseconds it is lost.
    #[serde(default = "lost_after_default_ms")]
    pub lost_after_ms: Spanned<u32>,
}

fn lost_after_default_ms() -> Spanned<u32> {
    Spanned::new(0..0, 20)
}

/// What a serial port can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// RS-232.
    Rs232,
    /// RS-485, two wires.
    Rs485,
    /// The same, with the terminating resistor.
    Rs485Terminated,
    /// RS-422, four wires.
    Rs422,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::Rs232, Mode::Rs485, Mode::Rs485Terminated, Mode::Rs422];

    /// Its name.
    pub fn word(self) -> &'static str {
        ["rs232", "rs485", "rs485-terminated", "rs422"][self as usize]
    }

    /// The mode of this name.
    pub fn of(word: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// A serial port whose mode is chosen by pins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name, as it stands on the box.
    pub name: Spanned<String>,
    /// Its terminal, such as "/dev/ttyAMA3".
    pub tty: Spanned<String>,
    /// Names of the lines of GPIO that choose.
    pub pins: Spanned<Vec<String>>,
    /// The level of each of them, in that order, for each mode there is.
    pub modes: Spanned<BTreeMap<Mode, Vec<bool>>>,
    /// The mode it has where nobody says another.
    pub default: Spanned<Mode>,
}

/// A relay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Its name, as it stands on the box.
    pub name: Spanned<String>,
    /// Name of the line of GPIO.
    pub pin: Spanned<String>,
    /// It is closed while the pin is low.
    #[serde(default)]
    pub active_low: bool,
    /// The states of the box in which it is closed; in all others, and without power, it is open.
    pub closed_when: Spanned<Vec<BoxState>>,
}

/// The hardware watchdog. Mostly the service manager has it (`RuntimeWatchdogSec=`), and there is no such table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// Such as "/dev/watchdog".
    pub device: Spanned<String>,
}

/// Something that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or the name of the definition.
    pub file: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// The definition that is compiled in under this name.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

impl Definition {
    /// Reads and checks a definition; `file` is what faults call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its line; of what is not TOML, or has unknown keys, the first.
    pub fn parse(file: &str, text: &str) -> Result<Definition, Vec<Fault>> {
        let fault = |at: usize, said: String| {
            let before = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            Fault { file: file.to_string(), line: 1 + before, text: said }
        };
        if text.len() > TEXT_MAX_BYTES {
            let most = TEXT_MAX_BYTES / 1024;
            return Err(vec![fault(0, format!("it is larger than {most} KiB, so it is no definition of a board"))]);
        }
        let definition: Definition = toml::from_str(text).map_err(|error| {
            let said = error.message().trim().replace('\n', "; ");
            let hint = "definitions/ in the sources of afferent-board has examples of every key";
            vec![fault(error.span().map_or(0, |span| span.start), format!("{said}; {hint}"))]
        })?;
        let faults: Vec<Fault> = check::check(&definition).into_iter().map(|(at, text)| fault(at, text)).collect();
        if faults.is_empty() { Ok(definition) } else { Err(faults) }
    }

    /// Name and revision, for a person.
    pub fn title(&self) -> String {
        format!("{}, revision {}", self.board.name.get_ref(), self.board.revision.get_ref())
    }

    /// True when it is for this machine, by what the device tree says of that (`compatible`, split at its zeros).
    pub fn is_for<'a>(&self, mut machine: impl Iterator<Item = &'a str>) -> bool {
        let named = &self.board.compatible;
        named.is_empty() || machine.any(|machine| named.iter().any(|name| name == machine))
    }
}

#[cfg(test)]
mod tests;
