//! What a link runs with, and who said so: the link itself, its driver, or nobody.

use super::config::{Config, FRAME_TIMEOUT_MS, MESSAGE_TIMEOUT_MS, REPLY_TIMEOUT_MS};
use crate::driver::schema::Wire;
use crate::wire::Protocol;
use crate::wire::line::Framing;
use serde::Serialize;

/// One setting that a driver may have a say in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// Its name in the configuration; a driver's own alone (`checksum`) as `driver.toml` has it.
    pub name: &'static str,
    /// What the link runs with.
    pub value: String,
    /// Who said so.
    pub from: From,
}

/// Who said so. The link goes before the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// The link in the configuration.
    Link,
    /// Its driver's `[wire]`.
    Driver,
    /// Nobody.
    Default,
}

impl std::fmt::Display for Settled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = match self.from {
            From::Link => "link",
            From::Driver => "driver",
            From::Default => "default",
        };
        write!(f, "{} {} ({from})", self.name, self.value)
    }
}

/// Every setting of the link that its driver may have a say in. `wire` is the driver's, when the link names one.
pub fn settled(link: &Config, wire: Option<&Wire>) -> Vec<Settled> {
    let with = wire.map_or_else(|| link.clone(), |wire| link.with_driver(wire));
    let mut all = Vec::new();
    let mut say = |name, own: Option<String>, with: Option<String>, default: &str| {
        let from = match (&own, &with) {
            (Some(_), _) => From::Link,
            (None, Some(_)) => From::Driver,
            (None, None) => From::Default,
        };
        all.push(Settled { name, value: with.unwrap_or_else(|| default.to_string()), from });
    };
    if link.serial.is_some() {
        say("baud", text(&link.baud), text(&with.baud), "9600");
        say("data_bits", text(&link.data_bits), text(&with.data_bits), "8");
        say("parity", word(&link.parity), word(&with.parity), "none");
        say("stop_bits", text(&link.stop_bits), text(&with.stop_bits), "1");
    }
    let charset = link.charset.clone().or_else(|| wire.and_then(|wire| wire.charset.clone()));
    if charset.is_some() {
        say("charset", link.charset.clone(), charset, "");
    }
    if link.protocol == Protocol::Table {
        return all;
    }
    let (own, of_both) = (&link.timers, &with.timers);
    // On a line of no standard the frame's own times go before the timers.
    let framed = |pick: fn(&Framing) -> Option<u64>| {
        let text = |framing: &Option<Framing>| framing.as_ref().and_then(pick).map(|ms| ms.to_string());
        (text(&link.framing), text(&with.framing))
    };
    let (own_reply, reply) = framed(|framing| framing.reply_within_ms);
    let (own_idle, idle) = framed(|framing| framing.idle_ms);
    match reply {
        Some(_) => say("framing.reply_within_ms", own_reply, reply, ""),
        None => {
            let default = REPLY_TIMEOUT_MS.to_string();
            say("reply_timeout_ms", text(&own.reply_timeout_ms), text(&of_both.reply_timeout_ms), &default);
        }
    }
    if idle.is_some() {
        say("framing.idle_ms", own_idle, idle, "");
    }
    if link.protocol == Protocol::Astm {
        let frame = FRAME_TIMEOUT_MS.to_string();
        say("frame_timeout_ms", text(&own.frame_timeout_ms), text(&of_both.frame_timeout_ms), &frame);
        if with.frame_text_max.is_some() {
            say("frame_text_max", None, text(&with.frame_text_max), "");
        }
        if with.packing.is_some() {
            say("packing", None, word(&with.packing), "");
        }
        for rule in &with.checksum {
            say("checksum", None, word(&Some(*rule)), "");
        }
    } else {
        let message = MESSAGE_TIMEOUT_MS.to_string();
        say("message_timeout_ms", text(&own.message_timeout_ms), text(&of_both.message_timeout_ms), &message);
    }
    all
}

fn text(number: &Option<impl ToString>) -> Option<String> {
    number.as_ref().map(ToString::to_string)
}

/// A choice as the configuration spells it.
fn word(choice: &Option<impl Serialize>) -> Option<String> {
    let spelt = serde_json::to_value(choice.as_ref()?).ok()?;
    spelt.as_str().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_goes_before_its_driver_and_the_driver_before_the_default() {
        let mut link = Config { serial: Some("/dev/ttyUSB0".into()), ..Config::default() };
        link.timers.reply_timeout_ms = Some(1_200);
        let wire = Wire {
            baud: Some(19_200),
            reply_timeout_ms: Some(2_000),
            frame_timeout_ms: Some(8_000),
            ..Wire::default()
        };
        let told: Vec<String> = settled(&link, Some(&wire)).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "baud 19200 (driver)",
                "data_bits 8 (default)",
                "parity none (default)",
                "stop_bits 1 (default)",
                "reply_timeout_ms 1200 (link)",
                "frame_timeout_ms 8000 (driver)",
            ]
        );
        let with = link.with_driver(&wire);
        assert_eq!((with.timers.reply_timeout().as_millis(), with.timers.frame_timeout().as_millis()), (1_200, 8_000));
        let framing = Framing { reply_within_ms: Some(1_000), idle_ms: Some(300), ..Framing::default() };
        let wire = Wire { framing: Some(framing), reply_timeout_ms: Some(9_000), ..Wire::default() };
        let lines = settled(&Config { protocol: Protocol::Lines, ..Config::default() }, Some(&wire));
        let told: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "framing.reply_within_ms 1000 (driver)",
                "framing.idle_ms 300 (driver)",
                "message_timeout_ms 30000 (default)"
            ]
        );
        let alone = settled(&Config { protocol: Protocol::Hl7, ..Config::default() }, None);
        let told: Vec<String> = alone.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["reply_timeout_ms 9000 (default)", "message_timeout_ms 30000 (default)"]);
    }
}
