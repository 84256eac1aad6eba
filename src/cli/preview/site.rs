//! The configuration a preview is asked to go by: its drivers, one link's settings, the site's rules, and what the
//! journal remembers for them and of orders.

use crate::clinical::Report;
use crate::config::Config;
use crate::driver::Interpretation;
use crate::fleet::desired::tree;
use crate::interpreter::facts;
use crate::interpreter::reading::Reading;
use crate::journal::{EntryId, OpenError, Reader};
use crate::link;
use crate::orders::matching::{Known, Matched, match_up};
use crate::rules::{Decision, Facts, Rulebook};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// A link of a configuration, and what would judge its results.
pub(super) struct Site {
    /// The link's name.
    pub link: String,
    /// How its messages are read.
    pub reading: Reading,
    rulebook: Rulebook,
    /// Left out where nothing came yet: no order is known then, and rules know of no earlier value and
    /// of no control.
    journal: Option<Reader>,
    data: PathBuf,
}

impl Site {
    /// Reads the configuration. `link` may be left out where there is only one.
    ///
    /// # Errors
    /// The configuration is wrong, has no such link, or its journal is there and cannot be read.
    pub fn open(file: &Path, link: Option<&str>) -> anyhow::Result<Site> {
        let config = tree::load(file)?.config;
        let journal = match Reader::open(&config.gateway.data, &config.journal) {
            Ok(reader) => Some(reader),
            Err(OpenError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Site {
            link: named(&config, link)?.name.clone(),
            reading: Reading::new(config.registry()?, &config.gateway.time_zone(), &config.links),
            rulebook: config.rulebook(),
            journal,
            data: config.gateway.data,
        })
    }

    /// The data directory whose orders a message is tried on; none where nothing came yet.
    pub fn orders_of(&self) -> Option<&Path> {
        self.journal.as_ref().map(|_| self.data.as_path())
    }

    /// Each report with what the orders that are known now say about it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn match_up(&self, interpretation: &Interpretation) -> anyhow::Result<Vec<Matched>> {
        let orders = self.reading.policy(&self.link).orders;
        let codes = || self.reading.order_codes(&self.link, &interpretation.driver);
        let matched = interpretation.reports.iter().map(|report| {
            let known = match &self.journal {
                Some(reader) => facts::known(reader, report, orders, codes)?,
                None => Known::default(),
            };
            Ok(match_up(report, &known, orders))
        });
        matched.collect()
    }

    /// What the rules would decide about a report that came now, as its orders have it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn decide(&self, report: &Report) -> anyhow::Result<Vec<Decision>> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let newest = EntryId(i64::MAX);
        let facts = match &self.journal {
            Some(reader) => {
                let needs = self.rulebook.needs(&self.link, report);
                facts::fetch(reader, &needs, (&self.link, newest, now_ms), report, newest)?
            }
            None => Facts::default(),
        };
        Ok(self.rulebook.judge(&self.link, report, now_ms, &facts))
    }
}

fn named<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<&'c link::Config> {
    let names = || config.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, config.links.as_slice()) {
        (Some(name), links) => links
            .iter()
            .find(|link| link.name == name)
            .with_context(|| format!("the configuration has no link {name}; it has {}", names())),
        (None, [only]) => Ok(only),
        (None, _) => anyhow::bail!("which link does the message come over? name it with --link: {}", names()),
    }
}
