//! How the entries of each link are read: its driver, its clock, its hold rules.

use crate::driver::order_code::SiteCodes;
use crate::driver::{self, Driver, Interpretation, Origin, Registry};
use crate::journal::Entry;
use crate::link::speakers::{Speaker, Speakers};
use crate::{link, rules, wire};
use std::collections::HashMap;
use std::time::Duration;

/// What is known of a link.
pub struct LinkRules {
    /// Its hold rules.
    pub policy: rules::Policy,
    /// Seconds in which the same results under a new time still count as a retransmission.
    pub resend_window_s: i64,
    codes: SiteCodes,
    /// Who speaks on it.
    pub speakers: Speakers,
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
            policy: config.policy(),
            resend_window_s: config.resend_window_s.into(),
            codes: config.site_codes(),
            speakers: Speakers::of(config, zone),
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

    /// What codes of the EHR stand for at an instrument of this link that this driver (`id@version`) reads.
    pub fn order_codes(&self, link: &str, driver: &str) -> SiteCodes {
        let id = driver.split('@').next().unwrap_or_default();
        let mut codes = self.registry.get(id).map(|driver| driver.order_layout().codes.clone()).unwrap_or_default();
        // The site's own word goes before the driver's.
        codes.extend(self.links.get(link).map(|rules| rules.codes.clone()).unwrap_or_default());
        codes
    }

    /// Reads an entry by the driver its link or its own header names.
    pub fn read(&self, entry: &Entry) -> (&LinkRules, Interpretation) {
        let (rules, speaker) = self.speaker(&entry.link, &entry.raw);
        let mut interpretation = driver::interpret(speaker.driver, &entry.raw, &speaker.context(entry.complete));
        speaker.from.mark(&mut interpretation.reports);
        (rules, interpretation)
    }

    /// The same for a whole message that would come over this link, with the driver that reads it and the place of each
    /// field.
    pub fn explain(&self, link: &str, raw: &[u8]) -> (&LinkRules, &Driver, Interpretation, Vec<Origin>) {
        let (rules, speaker) = self.speaker(link, raw);
        let (mut interpretation, origins) = driver::explain(speaker.driver, raw, &speaker.context(true));
        speaker.from.mark(&mut interpretation.reports);
        (rules, speaker.driver, interpretation, origins)
    }

    /// Who said these bytes on a link.
    fn speaker(&self, link: &str, raw: &[u8]) -> (&LinkRules, Speaker<'_>) {
        // A link that was renamed or removed after it heard this: the safest rules apply.
        let removed = || match driver::guess_protocol(raw) {
            wire::Protocol::Poct1a => &self.removed_poct1a,
            wire::Protocol::Table => &self.removed_table,
            wire::Protocol::Lines => &self.removed_lines,
            _ if wire::mllp::msh(raw).is_some() => &self.removed_hl7,
            _ => &self.removed_astm,
        };
        let rules = self.links.get(link).unwrap_or_else(removed);
        (rules, rules.speakers.speaker(&self.registry, raw))
    }
}

impl LinkRules {
    fn of_a_removed_link(protocol: wire::Protocol) -> Self {
        LinkRules {
            policy: rules::Policy { clock_limit: Duration::from_secs(900), ..Default::default() },
            resend_window_s: 600,
            codes: SiteCodes::new(),
            speakers: Speakers::unknown(protocol),
        }
    }
}
