use super::*;
use crate::led::Layer;

#[test]
fn every_definition_there_is_can_be_used_and_is_compiled_in() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".toml").unwrap().to_string())
        .collect();
    files.sort();
    assert_eq!(files, BUILTIN.map(|(name, _)| name), "BUILTIN in definition.rs lists them");
    for (name, text) in BUILTIN {
        let definition = Definition::parse(name, text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let (_, revision) = name.rsplit_once('-').unwrap();
        assert_eq!(definition.board.revision.get_ref(), revision, "{name}: the file's name ends in its revision");
        assert_eq!(builtin(name), Some(text));
        let layers: Vec<Layer> = definition.leds.iter().map(|led| *led.layer.get_ref()).collect();
        assert!(layers.is_empty() || layers == Layer::ALL, "{name}: one LED for each layer, or none");
        let resets = definition.button.iter().any(|button| button.may.get_ref().contains(&Role::FactoryReset));
        // Somebody has to see what a hold is about to do.
        assert!(!resets || definition.display.is_some() || !layers.is_empty(), "{name}: a reset nobody can see coming");
    }
}

#[test]
fn a_plain_computer_has_none_of_it() {
    let plain = Definition::parse("x86-1", builtin("x86-1").unwrap()).unwrap();
    assert!(plain.leds.is_empty() && plain.button.is_none() && plain.display.is_none() && plain.supply.is_none());
    assert!(plain.is_for(std::iter::empty()) && plain.is_for(["anything"].into_iter()));
    let carrier = Definition::parse("cm4-carrier-1", builtin("cm4-carrier-1").unwrap()).unwrap();
    assert!(carrier.is_for(["raspberrypi,4-compute-module", "brcm,bcm2711"].into_iter()));
    assert!(!carrier.is_for(["ti,am335x-bone-black"].into_iter()) && !carrier.is_for(std::iter::empty()));
}

const GOOD: &str = r#"[board]
name = "bench"
revision = "1"
[[led]]
layer = "box"
pin = "A1"
[button]
pin = "A2"
may = ["identify"]
[display]
chip = "ssd1306"
bus = "/dev/i2c-1"
address = 0x3c
[temperature]
bus = "/dev/i2c-1"
address = 0x48
high_c = 70
[rtc]
name = "rtc0"
[supply]
pin = "A3"
lost_after_ms = 20
[[port]]
name = "serial-1"
tty = "/dev/ttyAMA3"
pins = ["A4", "A5"]
default = "rs232"
modes = { rs232 = [false, false], rs485 = [true, false] }
[[relay]]
name = "alarm"
pin = "A6"
closed_when = ["well"]
[watchdog]
device = "/dev/watchdog"
"#;

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
    Definition::parse("bench.toml", GOOD).unwrap();
    for (was, is, line, told) in [
        ("name = \"bench\"", "name = \"\"", 2, "it is empty; say which board"),
        ("name = \"bench\"\n", "", 1, "missing field `name`"),
        (
            "layer = \"box\"",
            "layer = \"bix\"",
            5,
            "unknown variant `bix`, expected one of `box`, `analyzer`, `hospital`",
        ),
        ("layer = \"box\"", "layr = \"box\"", 5, "unknown field `layr`, expected one of `layer`, `kernel`"),
        ("pin = \"A1\"\n", "", 5, "this LED has neither `kernel` nor `pin`"),
        ("pin = \"A1\"", "kernel = \"a/b\"", 6, "no name below /sys/class/leds"),
        ("pin = \"A2\"", "pin = \"A1\"", 8, "the pin `A1` has the box LED already"),
        ("pin = \"A2\"", "pin = \"\"", 8, "`gpioinfo` on the board shows them"),
        ("may = [\"identify\"]", "may = []", 9, "a button that may do nothing"),
        ("may = [\"identify\"]", "may = [\"explode\"]", 9, "unknown variant `explode`"),
        ("chip = \"ssd1306\"", "chip = \"sh1106\"", 11, "unknown variant `sh1106`"),
        ("bus = \"/dev/i2c-1\"\naddress = 0x3c", "bus = \"i2c-1\"\naddress = 0x3c", 12, "it begins with /dev/i2c-"),
        ("address = 0x3c", "address = 0x78", 13, "7 bits, without the R/W bit"),
        ("address = 0x3c", "address = 300", 13, "invalid value"),
        ("address = 0x48", "address = 0x3c", 16, "the display has 0x3c on this bus already"),
        ("address = 0x48", "address = 0x50", 16, "0x48, 0x49, 0x4a or 0x4b"),
        ("address = 0x48\n", "", 16, "name either `zone`, or both `bus` and `address`"),
        ("high_c = 70", "high_c = 700", 17, "30 to 125"),
        ("name = \"rtc0\"", "name = \"../rtc0\"", 19, "no name below /sys/class/rtc"),
        ("lost_after_ms = 20", "lost_after_ms = 0", 22, "1 to 5000 ms"),
        ("tty = \"/dev/ttyAMA3\"", "tty = \"/etc/passwd\"", 25, "it begins with /dev/tty"),
        ("\"A5\"]", "\"A4\"]", 26, "the pin `A4` has the port serial-1 already"),
        ("default = \"rs232\"", "default = \"rs422\"", 27, "it has rs232, rs485"),
        ("[true, false]", "[true]", 28, "`rs485` has 1 levels for 2 pins"),
        ("[true, false]", "[false, false]", 28, "`rs232` has the levels of another mode"),
        ("name = \"alarm\"", "name = \"an alarm\"", 30, "letters, digits"),
        ("closed_when = [\"well\"]", "closed_when = []", 32, "a relay that never closes"),
        ("device = \"/dev/watchdog\"", "device = \"/dev/null\"", 34, "it begins with /dev/watchdog"),
        ("[watchdog]\n", "[watchdog\n", 33, "definitions/ in the sources"),
        ("[watchdog]", "[wachdog]", 33, "unknown field `wachdog`"),
    ] {
        let text = GOOD.replacen(was, is, 1);
        assert_ne!(text, GOOD, "{was}");
        let faults = Definition::parse("bench.toml", &text).unwrap_err();
        let said = faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains(&format!("bench.toml:{line}: ")) && said.contains(told), "{was} -> {is}:\n{said}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = GOOD.replace("\"A2\"", "\"A1\"").replace("high_c = 70", "high_c = 7").replace("\"A6\"", "\"A5\"");
    let faults = Definition::parse("bench.toml", &text).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [8, 17, 31]);
}

#[test]
fn what_is_no_definition_is_none() {
    for (text, told) in [
        (String::new(), "missing field `board`"),
        ("\u{0}\u{1}".to_string(), "bench.toml:1:"),
        ("#".repeat(TEXT_MAX_BYTES + 1), "larger than 64 KiB"),
        ("[[led]]\n".repeat(1000), "missing field"),
    ] {
        let faults = Definition::parse("bench.toml", &text).unwrap_err();
        assert!(faults[0].to_string().contains(told), "{}", faults[0]);
    }
}
