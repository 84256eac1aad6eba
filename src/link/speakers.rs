//! Who speaks on a link, and how what is said is read: by which driver, clock and character set. What comes in and what
//! is asked are read alike.

use super::Config;
use super::listed::{From, Listed};
use crate::driver::{Context, Driver, Registry};
use crate::wire::Protocol;
use crate::wire::line::Framing;
use jiff::tz::TimeZone;

/// The speakers of one link.
pub struct Speakers {
    /// What they speak.
    pub protocol: Protocol,
    /// The driver the link names.
    pub driver: Option<String>,
    zone: TimeZone,
    charset: Option<String>,
    framing: Option<Framing>,
    listed: Listed,
}

/// Whoever said something.
pub struct Speaker<'s> {
    /// Which of the link's instruments it is.
    pub from: From<'s>,
    /// The driver that reads it.
    pub driver: &'s Driver,
    /// The zone of its clock.
    pub zone: TimeZone,
    /// Its character set, where the site says so.
    pub charset: Option<String>,
    /// How the site tells its messages apart (lines only), where it does.
    pub framing: Option<&'s Framing>,
}

impl Speakers {
    /// The speakers of a link. `zone` is the clock of instruments for which the site names none.
    pub fn of(config: &Config, zone: &TimeZone) -> Self {
        let own = config.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        Speakers {
            protocol: config.protocol,
            driver: config.driver.clone(),
            zone: own.unwrap_or_else(|| zone.clone()),
            charset: config.charset.clone(),
            framing: config.framing.clone(),
            listed: Listed::of(config),
        }
    }

    /// Those of a link that is not configured any more.
    pub fn unknown(protocol: Protocol) -> Self {
        let (zone, listed) = (TimeZone::UTC, Listed::default());
        Speakers { protocol, driver: None, zone, charset: None, framing: None, listed }
    }

    /// Who said this: one of the instruments the link lists, read as the site says, else by the link's driver, else by
    /// the one its header names.
    pub fn speaker<'s>(&'s self, registry: &'s Registry, raw: &[u8]) -> Speaker<'s> {
        let from = self.listed.sender(self.protocol, raw);
        let named = self.named(&from).and_then(|id| registry.get(id));
        let driver = named.unwrap_or_else(|| registry.identify(self.protocol, raw));
        self.with(from, driver)
    }

    /// Who is meant when nobody has spoken: the link's one instrument, read by the driver the site names, else by that
    /// of whoever spoke last. With several listed nobody can tell which of them a connection leads to.
    pub fn only<'s>(&'s self, registry: &'s Registry, last: Option<&str>) -> Option<Speaker<'s>> {
        let from = match self.listed.all() {
            [] => From::Unlisted,
            [only] => From::Instrument(only),
            _ => return None,
        };
        let driver = registry.get(self.named(&from).or(last)?)?;
        Some(self.with(from, driver))
    }

    /// The driver the site names for them.
    fn named<'s>(&'s self, from: &From<'s>) -> Option<&'s str> {
        from.instrument().and_then(|instrument| instrument.driver.as_deref()).or(self.driver.as_deref())
    }

    fn with<'s>(&'s self, from: From<'s>, driver: &'s Driver) -> Speaker<'s> {
        let (zone, charset) = from.instrument().map(|i| (i.zone.clone(), i.charset.clone())).unwrap_or_default();
        Speaker {
            zone: zone.unwrap_or_else(|| self.zone.clone()),
            charset: charset.or_else(|| self.charset.clone()),
            framing: self.framing.as_ref(),
            from,
            driver,
        }
    }
}

impl Speaker<'_> {
    /// How what it says is read. `complete` is false for what broke off.
    pub fn context(&self, complete: bool) -> Context {
        let (zone, charset) = (self.zone.clone(), self.charset.clone());
        Context { zone, charset, framing: self.framing.cloned(), complete }
    }
}
