//! The parts as Linux has them: LEDs of the kernel (`/sys/class/leds`), lines of GPIO by their names (`/dev/gpiochip*`),
//! I2C (`/dev/i2c-*`), zones of temperature, the battery-backed clock and the watchdog.
//!
//! What the kernel has a driver for is used through that: a part that it holds answers nobody else (EBUSY). Nobody has
//! run this on hardware yet; its tests are what can be said without, and `tests/machine` has the watchdog of a machine of
//! qemu's reset it.

use crate::definition::{self, Definition};
use crate::display::{Display, Oled};
use crate::parts::{Absent, Hardware};
use crate::pin::{In, Input, Out, Output};
use crate::screen::Screen;
use crate::seen::{Temperature, Trouble};
use crate::temperature::{Thermometer, Tmp};
use crate::watchdog::{Device, Watchdog};
use embedded_hal::digital::PinState;
use gpiocdev_embedded_hal::{InputPin, OutputPin};
use linux_embedded_hal::I2cdev;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Zones of temperature that are looked at.
const ZONES_MAX: usize = 64;

/// This machine.
pub struct Linux {
    /// `/`, but for tests.
    root: PathBuf,
}

impl Linux {
    /// This machine, should the definition be for it.
    ///
    /// # Errors
    /// The definition is for another: nothing is driven then, for the pins may be anybody's.
    pub fn open(definition: &Definition) -> Result<Linux, Trouble> {
        Linux::below(Path::new("/"), definition)
    }

    fn below(root: &Path, definition: &Definition) -> Result<Linux, Trouble> {
        let said = std::fs::read(root.join("proc/device-tree/compatible")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let machine = || said.split('\0').filter(|name| !name.is_empty());
        if definition.is_for(machine()) {
            return Ok(Linux { root: root.to_path_buf() });
        }
        let machine = machine().next().unwrap_or("a machine without a device tree");
        let what = format!("`{}` is for {}, and this is {machine}", definition.title(), definition.board.compatible[0]);
        Err(Trouble::new("board", what, "name the definition of this board; nothing is driven until then"))
    }

    fn text(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(self.root.join(path)).map(|text| text.trim().to_string())
    }

    fn bus(&self, bus: &str, part: &str) -> Result<I2cdev, Absent> {
        I2cdev::new(bus).map_err(|error| {
            let hint = format!("switch the bus on (device tree), let this program open it, or take [{part}] out");
            (format!("{bus}: {error}"), hint)
        })
    }
}

impl Hardware for Linux {
    fn led(&mut self, led: &definition::Led) -> Result<Box<dyn Output>, Absent> {
        if let Some(kernel) = &led.kernel {
            let folder = self.root.join("sys/class/leds").join(kernel.get_ref());
            if folder.is_dir() {
                return KernelLed::open(folder).map(|led| Box::new(led) as Box<dyn Output>);
            }
        }
        match (&led.pin, &led.kernel) {
            (Some(pin), _) => self.output("LED", pin.get_ref(), led.active_low),
            (None, kernel) => {
                let name = kernel.as_ref().map_or("", |kernel| kernel.get_ref());
                let hint = "`ls /sys/class/leds` shows those there are; or name its `pin`";
                Err((format!("the kernel has no LED `{name}`"), hint.to_string()))
            }
        }
    }

    fn output(&mut self, _: &str, pin: &str, active_low: bool) -> Result<Box<dyn Output>, Absent> {
        let off = if active_low { PinState::High } else { PinState::Low };
        let found = OutputPin::from_name(pin, off).map_err(|error| no_line(pin, &error))?;
        Ok(Box::new(Out::new(found, active_low)))
    }

    fn input(&mut self, _: &str, pin: &str, active_low: bool, _: bool) -> Result<Box<dyn Input>, Absent> {
        let found = InputPin::from_name(pin).map_err(|error| no_line(pin, &error))?;
        Ok(Box::new(In::new(found, active_low)))
    }

    fn display(&mut self, display: &definition::Display) -> Result<Box<dyn Display>, Absent> {
        let (bus, address) = (display.bus.get_ref(), *display.address.get_ref());
        let part = Oled::new(self.bus(bus, "display")?, address, display.upside_down);
        Ok(Box::new(OnBus { part, bus: bus.clone(), address }))
    }

    fn thermometer(&mut self, sensor: &definition::Temperature) -> Result<Box<dyn Thermometer>, Absent> {
        if let Some(zone) = &sensor.zone {
            let folder = |number| Path::new("sys/class/thermal").join(format!("thermal_zone{number}"));
            let is_it = |folder: &PathBuf| self.text(&folder.join("type")).is_ok_and(|kind| kind == *zone.get_ref());
            let found = (0..ZONES_MAX).map(folder).find(is_it);
            let hint = "`cat /sys/class/thermal/*/type` shows those there are";
            let none = || (format!("the kernel has no zone `{}`", zone.get_ref()), hint.to_string());
            return Ok(Box::new(Zone(self.root.join(found.ok_or_else(none)?).join("temp"))));
        }
        let bus = sensor.bus.as_ref().map_or("", |bus| bus.get_ref());
        let address = sensor.address.as_ref().map_or(0, |address| *address.get_ref());
        let part = Tmp::new(self.bus(bus, "temperature")?, address);
        Ok(Box::new(OnBus { part, bus: bus.to_string(), address }))
    }

    fn rtc(&mut self, rtc: &definition::Rtc) -> Result<i64, Absent> {
        let name = rtc.name.get_ref();
        let said = self.text(&Path::new("sys/class/rtc").join(name).join("since_epoch"));
        let said = said.map_err(|error| error.to_string()).and_then(|text| text.parse().map_err(|_| text));
        let hint = "load the kernel's driver for it (device tree), or take [rtc] out";
        said.map_err(|why| (format!("the kernel has no clock `{name}`: {why}"), hint.to_string()))
    }

    fn watchdog(&mut self, watchdog: &definition::Watchdog) -> Result<Box<dyn Watchdog>, Absent> {
        let device = watchdog.device.get_ref();
        let opened = OpenOptions::new().write(true).open(self.root.join(device.trim_start_matches('/')));
        let file: File = opened.map_err(|error| not_fed(device, &error))?;
        Ok(Box::new(Device(file)))
    }
}

/// Who is in the way of a watchdog, as far as what the system said tells.
fn not_fed(device: &str, error: &std::io::Error) -> Absent {
    let (who, hint) = match error.kind() {
        ErrorKind::ResourceBusy => (
            "somebody else feeds it",
            "mostly the service manager (RuntimeWatchdogSec=, systemd/watchdog.conf): leave it to that one and take \
             [watchdog] out, or take RuntimeWatchdogSec= out",
        ),
        ErrorKind::PermissionDenied => (
            "this program may not open it",
            "its group has to be `gpio` (99-afferent.rules), and the unit let at it (board.conf)",
        ),
        ErrorKind::NotFound => (
            "there is no such device",
            "load the kernel's driver for it; `wdctl` shows those there are; or take [watchdog] out",
        ),
        _ => ("it cannot be fed", "`wdctl` shows what there is; or take [watchdog] out"),
    };
    (format!("{device}: {who}: {error}"), hint.to_string())
}

fn no_line(pin: &str, error: &dyn std::fmt::Display) -> Absent {
    let hint = "`gpioinfo` shows the lines there are, and who has them; this program has to be let at /dev/gpiochip*";
    (format!("no line of GPIO `{pin}` can be had: {error}"), hint.to_string())
}

/// A part on a bus, which answers or not whenever it is used: a bus that hangs holds nothing up at the start either.
struct OnBus<P> {
    part: P,
    bus: String,
    address: u8,
}

impl<P> OnBus<P> {
    fn silent(&self, error: &str) -> String {
        format!(
            "nothing answers at 0x{:02x} on {bus}: {error}; `i2cdetect -y` shows what does, and the kernel may have the \
             part already",
            self.address,
            bus = self.bus
        )
    }
}

impl<P: Display> Display for OnBus<P> {
    fn show(&mut self, screen: &Screen, dim: bool) -> Result<(), String> {
        self.part.show(screen, dim).map_err(|error| self.silent(&error))
    }
}

impl<P: Thermometer> Thermometer for OnBus<P> {
    fn read(&mut self) -> Result<Temperature, String> {
        self.part.read().map_err(|error| self.silent(&error))
    }
}

/// An LED of the kernel.
struct KernelLed {
    brightness: PathBuf,
    max: String,
}

impl KernelLed {
    fn open(folder: PathBuf) -> Result<KernelLed, Absent> {
        let max =
            std::fs::read_to_string(folder.join("max_brightness")).map_or("1".to_string(), |t| t.trim().to_string());
        let mut led = KernelLed { brightness: folder.join("brightness"), max };
        // Whatever made it blink until now is over.
        let taken = std::fs::write(folder.join("trigger"), "none").map_err(|error| error.to_string());
        let hint = "this program has to be let at it (udev rule for /sys/class/leds)";
        taken
            .and_then(|()| led.set(false))
            .map_err(|what| (format!("{}: {what}", folder.display()), hint.to_string()))?;
        Ok(led)
    }
}

impl Output for KernelLed {
    fn set(&mut self, on: bool) -> Result<(), String> {
        std::fs::write(&self.brightness, if on { &self.max } else { "0" }).map_err(|error| error.to_string())
    }
}

/// A zone of temperature of the kernel.
struct Zone(PathBuf);

impl Thermometer for Zone {
    fn read(&mut self) -> Result<Temperature, String> {
        let text = std::fs::read_to_string(&self.0).map_err(|error| error.to_string())?;
        let thousandths: i32 = text.trim().parse().map_err(|_| format!("`{}` is no temperature", text.trim()))?;
        Ok(Temperature(thousandths / 100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::BUILTIN;
    use crate::parts::Parts;

    fn definition(text: &str) -> Definition {
        Definition::parse("bench.toml", text).unwrap()
    }

    /// A machine of files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_definition_of_another_board_drives_nothing_and_says_which_board_this_is() {
        let carrier = definition(definition::builtin("cm4-carrier-1").unwrap());
        let bone = machine(&[("proc/device-tree/compatible", "ti,am335x-bone-black\0ti,am33xx\0")]);
        let told = Linux::below(bone.path(), &carrier).err().unwrap().to_string();
        assert!(told.contains("is for raspberrypi,4-compute-module, and this is ti,am335x-bone-black"), "{told}");
        assert!(told.contains("name the definition of this board"), "{told}");
        let told = Linux::below(machine(&[]).path(), &carrier).err().unwrap().to_string();
        assert!(told.contains("a machine without a device tree"), "{told}");
        let pi = machine(&[("proc/device-tree/compatible", "raspberrypi,4-compute-module\0brcm,bcm2711\0")]);
        assert!(Linux::below(pi.path(), &carrier).is_ok());
    }

    #[test]
    fn what_is_not_there_is_told_part_by_part_and_what_is_there_is_used() {
        // No GPIO and no such buses on the machine that this runs on, or not with these names.
        let pi = machine(&[
            ("proc/device-tree/compatible", "raspberrypi,4-compute-module\0"),
            ("sys/class/leds/afferent:green:box/brightness", "255"),
            ("sys/class/leds/afferent:green:box/max_brightness", "255\n"),
            ("sys/class/leds/afferent:green:box/trigger", "none [heartbeat]"),
            ("sys/class/rtc/rtc0/since_epoch", "12\n"),
        ]);
        let text = definition::builtin("cm4-carrier-1").unwrap().replace("\"GPIO", "\"no such GPIO");
        let definition = definition(&text.replace("/dev/i2c-1", "/dev/i2c-987"));
        let mut linux = Linux::below(pi.path(), &definition).unwrap();
        let parts = Parts::find(&definition, &Default::default(), &mut linux);
        let told: Vec<String> = parts.troubles().iter().map(ToString::to_string).collect();
        let parts: Vec<&str> = told.iter().map(|line| line.split(": ").next().unwrap()).collect();
        let expected = ["analyzer LED", "hospital LED", "button", "buzzer", "display", "temperature", "rtc"];
        let expected = expected.into_iter().chain(["relay well", "port serial-1", "port serial-1"]);
        assert_eq!(parts, expected.chain(["port serial-2", "port serial-2"]).collect::<Vec<_>>());
        let says = |words: &str| assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:#?}");
        says("button: no line of GPIO `no such GPIO26` can be had");
        says("display: /dev/i2c-987: ");
        says("rtc: the clock has forgotten what time it is; its battery is empty or missing");
        // The one LED that the kernel has.
        let read = |name: &str| std::fs::read_to_string(pi.path().join("sys/class/leds/afferent:green:box").join(name));
        assert_eq!((read("trigger").unwrap().as_str(), read("brightness").unwrap().as_str()), ("none", "0"));
    }

    #[test]
    fn an_led_of_the_kernel_goes_before_its_pin() {
        let root = machine(&[
            ("sys/class/leds/a/brightness", "0"),
            ("sys/class/leds/a/max_brightness", "15\n"),
            ("sys/class/leds/a/trigger", "none"),
        ]);
        let bench = definition(
            "[board]\nname = \"bench\"\nrevision = \"1\"\n[[led]]\nlayer = \"box\"\nkernel = \"a\"\npin = \"no such pin\"\n\
             [[led]]\nlayer = \"analyzer\"\nkernel = \"b\"\n",
        );
        let mut linux = Linux::below(root.path(), &bench).unwrap();
        let mut led = linux.led(&bench.leds[0]).unwrap();
        let brightness = || std::fs::read_to_string(root.path().join("sys/class/leds/a/brightness")).unwrap();
        led.set(true).unwrap();
        assert_eq!(brightness(), "15");
        led.set(false).unwrap();
        assert_eq!(brightness(), "0");
        let (what, hint) = linux.led(&bench.leds[1]).err().unwrap();
        assert!(what.contains("no LED `b`") && hint.contains("name its `pin`"));
    }

    #[test]
    fn a_zone_of_the_kernel_is_found_by_its_type() {
        let root = machine(&[
            ("sys/class/thermal/thermal_zone0/type", "gpu-thermal\n"),
            ("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "41329\n"),
        ]);
        let bench = |zone: &str| {
            let text =
                format!("[board]\nname = \"b\"\nrevision = \"1\"\n[temperature]\nzone = {zone:?}\nhigh_c = 80\n");
            definition(&text).temperature.unwrap()
        };
        let mut linux = Linux { root: root.path().to_path_buf() };
        assert_eq!(linux.thermometer(&bench("cpu-thermal")).unwrap().read(), Ok(Temperature(413)));
        assert!(linux.thermometer(&bench("npu-thermal")).err().unwrap().0.contains("no zone `npu-thermal`"));
        std::fs::write(root.path().join("sys/class/thermal/thermal_zone1/temp"), "hot").unwrap();
        let mut zone = linux.thermometer(&bench("cpu-thermal")).unwrap();
        assert!(zone.read().unwrap_err().contains("no temperature"));
    }

    #[test]
    fn a_watchdog_is_fed_and_left_alone_and_who_is_in_the_way_is_told() {
        let root = machine(&[("dev/watchdog0", "")]);
        let bench = |device: &str| {
            let text = format!("[board]\nname = \"b\"\nrevision = \"1\"\n[watchdog]\ndevice = {device:?}\n");
            definition(&text).watchdog.unwrap()
        };
        let mut linux = Linux { root: root.path().to_path_buf() };
        let mut watchdog = linux.watchdog(&bench("/dev/watchdog0")).unwrap();
        watchdog.feed().unwrap();
        watchdog.disarm().unwrap();
        assert_eq!(std::fs::read(root.path().join("dev/watchdog0")).unwrap(), b"\0V");
        let (what, hint) = linux.watchdog(&bench("/dev/watchdog1")).err().unwrap();
        assert!(
            what.starts_with("/dev/watchdog1: there is no such device") && hint.contains("wdctl"),
            "{what}; {hint}"
        );
        for (code, told, todo) in [
            // EBUSY, EACCES, and EPERM, which is the answer where the unit's DeviceAllow= does not name it.
            (16, "somebody else feeds it", "RuntimeWatchdogSec="),
            (13, "this program may not open it", "99-afferent.rules"),
            (1, "this program may not open it", "board.conf"),
        ] {
            let (what, hint) = not_fed("/dev/watchdog0", &std::io::Error::from_raw_os_error(code));
            assert!(what.contains(told) && hint.contains(todo), "{what}; {hint}");
        }
    }

    #[test]
    fn every_definition_can_be_tried_on_a_machine_that_has_none_of_it() {
        for (name, text) in BUILTIN {
            let definition = definition(text);
            let mut linux = Linux { root: machine(&[]).path().to_path_buf() };
            let parts = Parts::find(&definition, &Default::default(), &mut linux);
            assert_eq!(parts.troubles().is_empty(), name == "x86-1", "{name}");
        }
    }
}
