//! Which of a link's instruments a message is from. Pure.

use crate::clinical::{Doubt, Report};
use crate::driver::condition::Condition;
use crate::driver::identify::Opening;
use crate::link;
use crate::wire::Protocol;

/// The instruments a link lists, ready to be asked.
#[derive(Default)]
pub struct Listed(Vec<Instrument>);

/// One of them.
pub struct Instrument {
    /// Its name.
    pub name: String,
    /// Its driver, where the site names one.
    pub driver: Option<String>,
    /// Its zone, where it is not the link's.
    pub zone: Option<jiff::tz::TimeZone>,
    /// Its character set, where it is not the link's.
    pub charset: Option<String>,
    /// `None` when one of them is no condition: then nothing is from it.
    conditions: Option<Vec<Condition>>,
}

/// Who sent a message.
pub enum From<'l> {
    /// The link lists none: it has one instrument, or leaves them apart to the reader.
    Unlisted,
    /// This one.
    Instrument(&'l Instrument),
    /// None of those the link lists, or several at once.
    Unknown,
}

impl<'l> From<'l> {
    /// The instrument, when it is one of those listed.
    pub fn instrument(&self) -> Option<&'l Instrument> {
        match self {
            From::Instrument(instrument) => Some(instrument),
            From::Unlisted | From::Unknown => None,
        }
    }

    /// Puts the instrument's name into its reports; what is from nobody known is held (invariant I13).
    pub fn mark(&self, reports: &mut [Report]) {
        for report in reports {
            match self {
                From::Unlisted => {}
                From::Instrument(instrument) => report.instrument.name.clone_from(&instrument.name),
                From::Unknown => {
                    report.observations.iter_mut().for_each(|o| o.doubts.push(Doubt::UnknownInstrument));
                }
            }
        }
    }
}

impl Listed {
    /// From the configuration. An instrument with a condition that is none is listed all the same: were it left out,
    /// its messages would be taken for another's. `afferent check` refuses it.
    pub fn of(config: &link::Config) -> Listed {
        let make = |instrument: &link::Instrument| {
            let conditions: Result<Vec<_>, _> = instrument.conditions.iter().map(link::Says::condition).collect();
            if let Err(why) = &conditions {
                let (link, instrument) = (&config.name, &instrument.name);
                tracing::error!(
                    event = "config-trouble",
                    link,
                    instrument,
                    "nothing is taken for this instrument's; its `where` says: {why}"
                );
            }
            Instrument {
                name: instrument.name.clone(),
                driver: instrument.driver.clone(),
                zone: instrument.time_zone.as_deref().and_then(|zone| jiff::tz::TimeZone::get(zone).ok()),
                charset: instrument.charset.clone(),
                conditions: conditions.ok(),
            }
        };
        Listed(config.instrument.iter().map(make).collect())
    }

    /// All of them.
    pub fn all(&self) -> &[Instrument] {
        &self.0
    }

    /// Who sent these bytes. Two instruments in one entry, or one that fits twice, are nobody's: nothing is guessed.
    pub fn sender(&self, protocol: Protocol, raw: &[u8]) -> From<'_> {
        if self.0.is_empty() {
            return From::Unlisted;
        }
        let opening = Opening::of(protocol, raw);
        if opening.is_mixed() {
            return From::Unknown;
        }
        let fits = |conditions: &Vec<Condition>| conditions.iter().all(|condition| condition.holds(&opening));
        let mut fitting = self.0.iter().filter(|instrument| instrument.conditions.as_ref().is_some_and(fits));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => From::Instrument(only),
            _ => From::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        let one = |name: &str, field: &str, is: &str| link::Instrument {
            name: name.into(),
            conditions: vec![link::Says { field: field.into(), is: vec![is.into()] }],
            ..link::Instrument::default()
        };
        Listed::of(&link::Config {
            instrument: vec![one("icu", "H.5.2", "394412"), one("lab", "H.5.2", "39*")],
            ..link::Config::default()
        })
    }

    fn name(raw: &str) -> &'static str {
        match listed().sender(Protocol::Astm, raw.as_bytes()) {
            From::Unlisted => "unlisted",
            From::Instrument(instrument) if instrument.name == "lab" => "lab",
            From::Instrument(_) => "icu",
            From::Unknown => "unknown",
        }
    }

    #[test]
    fn i13_a_message_belongs_to_the_one_instrument_it_fits() {
        let message = |serial: &str| format!("H|\\^&|||ABL90^{serial}\rO|1|S1\rR|1|^^^pH|7.4\rL|1\r");
        assert_eq!(name(&message("390001")), "lab");
        assert_eq!(name(&message("394412")), "unknown", "it fits two");
        assert_eq!(name(&message("1")), "unknown");
        assert_eq!(name(&(message("390001") + &message("390001"))), "lab");
        assert_eq!(name(&(message("390001") + &message("390002"))), "unknown", "two senders in one entry");
        assert!(matches!(Listed::default().sender(Protocol::Astm, b""), From::Unlisted));
    }

    #[test]
    fn i13_an_instrument_whose_condition_is_none_does_not_leave_its_messages_to_nobody_listed() {
        let spoilt = link::Instrument {
            name: "icu".into(),
            conditions: vec![link::Says { field: "nowhere".into(), is: vec!["1".into()] }],
            ..link::Instrument::default()
        };
        let listed = Listed::of(&link::Config { instrument: vec![spoilt], ..link::Config::default() });
        assert!(matches!(listed.sender(Protocol::Astm, b"H|\\^&|||1\rL|1\r"), From::Unknown));
    }
}
