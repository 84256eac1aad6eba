//! How the entries of each link are read: its driver, its clock, its hold rules.

use super::listed::{From, Listed};
use crate::driver::{self, Context, Driver, Interpretation, Origin, Registry};
use crate::journal::Entry;
use crate::{link, rules, wire};
use std::collections::HashMap;
use std::time::Duration;

/// What is known of a link.
pub struct LinkRules {
    /// Its hold rules.
    pub policy: rules::Policy,
    /// Seconds in which the same results under a new time still count as a retransmission.
    pub resend_window_s: i64,
    /// What the link speaks.
    pub protocol: wire::Protocol,
    /// The driver the link names.
    pub driver: Option<String>,
    zone: jiff::tz::TimeZone,
    charset: Option<String>,
    framing: Option<wire::line::Framing>,
    instruments: Listed,
}

/// Everything needed to read entries.
pub struct Reading {
    registry: Registry,
    links: HashMap<String, LinkRules>,
    /// For entries whose link is not configured any more.
    removed_astm: LinkRules,
    removed_hl7: LinkRules,
    removed_poct1a: LinkRules,
    removed_table: LinkRules,
    removed_lines: LinkRules,
}

impl Reading {
    /// Readings for these links. `zone` is the clock of instruments whose link names none.
    pub fn new(registry: Registry, zone: &jiff::tz::TimeZone, links: &[link::Config]) -> Self {
        let rules_of = |config: &link::Config| LinkRules {
            protocol: config.protocol,
            driver: config.driver.clone(),
            zone: config
                .time_zone
                .as_deref()
                .and_then(|name| jiff::tz::TimeZone::get(name).ok())
                .unwrap_or_else(|| zone.clone()),
            charset: config.charset.clone(),
            framing: config.framing.clone(),
            policy: config.policy(),
            resend_window_s: config.resend_window_s.into(),
            instruments: Listed::of(config),
        };
        Reading {
            registry,
            removed_astm: LinkRules::of_a_removed_link(wire::Protocol::Astm),
            removed_hl7: LinkRules::of_a_removed_link(wire::Protocol::Hl7),
            removed_poct1a: LinkRules::of_a_removed_link(wire::Protocol::Poct1a),
            removed_table: LinkRules::of_a_removed_link(wire::Protocol::Table),
            removed_lines: LinkRules::of_a_removed_link(wire::Protocol::Lines),
            links: links.iter().map(|config| (config.name.clone(), rules_of(config))).collect(),
        }
    }

    /// The hold rules of a link, or of one that is not configured any more.
    pub fn policy(&self, link: &str) -> &rules::Policy {
        &self.links.get(link).unwrap_or(&self.removed_astm).policy
    }

    /// Reads an entry by the driver its link or its own header names.
    pub fn read(&self, entry: &Entry) -> (&LinkRules, Interpretation) {
        let (rules, sender, driver, context) = self.by(&entry.link, &entry.raw, entry.complete);
        let mut interpretation = driver::interpret(driver, &entry.raw, &context);
        sender.mark(&mut interpretation.reports);
        (rules, interpretation)
    }

    /// The same for a whole message that would come over this link, with the driver that reads it and the place of each
    /// field.
    pub fn explain(&self, link: &str, raw: &[u8]) -> (&LinkRules, &Driver, Interpretation, Vec<Origin>) {
        let (rules, sender, driver, context) = self.by(link, raw, true);
        let (mut interpretation, origins) = driver::explain(driver, raw, &context);
        sender.mark(&mut interpretation.reports);
        (rules, driver, interpretation, origins)
    }

    /// By what these bytes are read.
    fn by(&self, link: &str, raw: &[u8], complete: bool) -> (&LinkRules, From<'_>, &Driver, Context) {
        // A link that was renamed or removed after it heard this: the safest rules apply.
        let removed = || match driver::guess_protocol(raw) {
            wire::Protocol::Poct1a => &self.removed_poct1a,
            wire::Protocol::Table => &self.removed_table,
            wire::Protocol::Lines => &self.removed_lines,
            _ if wire::mllp::msh(raw).is_some() => &self.removed_hl7,
            _ => &self.removed_astm,
        };
        let rules = self.links.get(link).unwrap_or_else(removed);
        let sender = rules.instruments.sender(rules.protocol, raw);
        let named = sender.instrument();
        let driver = named
            .and_then(|instrument| instrument.driver.as_deref())
            .or(rules.driver.as_deref())
            .and_then(|id| self.registry.get(id))
            .unwrap_or_else(|| self.registry.identify(rules.protocol, raw));
        let context = Context {
            zone: named.and_then(|i| i.zone.clone()).unwrap_or_else(|| rules.zone.clone()),
            charset: named.and_then(|i| i.charset.clone()).or_else(|| rules.charset.clone()),
            framing: rules.framing.clone(),
            complete,
        };
        (rules, sender, driver, context)
    }
}

impl LinkRules {
    fn of_a_removed_link(protocol: wire::Protocol) -> Self {
        LinkRules {
            protocol,
            driver: None,
            zone: jiff::tz::TimeZone::UTC,
            charset: None,
            framing: None,
            policy: rules::Policy { clock_limit: Duration::from_secs(900), ..Default::default() },
            resend_window_s: 600,
            instruments: Listed::default(),
        }
    }
}
