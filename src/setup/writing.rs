//! The configuration that the answers make: a few lines with their reasons, which a person goes on editing.

use super::Setup;
use super::steps::{ANOTHER, BY_HEADER, NONE};
use crate::config::{Gateway, addition};
use crate::delivery;
use crate::tls::ClientTls;
use crate::wire::Protocol;
use std::path::PathBuf;

/// Where a comment begins.
const COMMENT_AT: usize = 40;

/// Lines of a configuration.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: impl AsRef<str>, comment: impl AsRef<str>) {
        let (line, comment) = (line.as_ref(), comment.as_ref());
        match comment {
            "" => self.0.push_str(line),
            _ => self.0.push_str(&format!("{line:COMMENT_AT$} # {comment}")),
        }
        self.0.push('\n');
    }

    fn set(&mut self, key: &str, value: &str, comment: &str) {
        self.line(format!("{key} = {}", toml::Value::from(value)), comment);
    }

    fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }
}

impl Setup {
    /// The EHR as it was answered, or as the file has it.
    pub(super) fn destination(&self) -> Option<delivery::Config> {
        let own = |name: &str| self.base()?.destinations.iter().find(|to| to.name == name).cloned();
        match self.said("ehr.use") {
            "" | ANOTHER => {
                let tls = self.is("ehr.tls", "yes").then(|| ClientTls {
                    ca: Some(self.said("ehr.ca")).filter(|ca| *ca != "system").map(PathBuf::from),
                    proxy: self.proxy().map(str::to_string),
                    ..ClientTls::default()
                });
                Some(delivery::Config {
                    address: Some(self.said("ehr.address").to_string()),
                    plain: self.is("ehr.plain", "yes"),
                    tls,
                    ..delivery::Config::new(self.said("ehr.name"), delivery::Protocol::Mllp)
                })
            }
            name => own(name),
        }
    }

    /// The proxy that leads to servers.
    fn proxy(&self) -> Option<&str> {
        Some(self.said("network.proxy")).filter(|proxy| !matches!(*proxy, "" | NONE))
    }

    /// What is to be written, or added to what a person wrote; empty when nothing is new.
    pub fn addition(&self) -> String {
        let mut lines = Lines::default();
        if self.base().is_none() {
            self.gateway(&mut lines);
        }
        if matches!(self.said("link.use"), "" | ANOTHER) {
            lines.gap();
            self.link_table(&mut lines);
        }
        if matches!(self.said("ehr.use"), "" | ANOTHER) {
            lines.gap();
            self.ehr_table(&mut lines);
        }
        if self.is("fleet.join", "yes") {
            lines.gap();
            lines.line("[fleet]", "a desk looks after the box; nothing of a patient is said there");
            lines.set("broker", self.said("fleet.broker"), "");
            lines.set("tenant", self.said("fleet.tenant"), "");
            lines.line("[fleet.tls]", "");
            lines.set("ca", self.said("fleet.ca"), "");
            self.proxy().into_iter().for_each(|proxy| lines.set("proxy", proxy, ""));
            lines.line("[fleet.enrol]", "the box asks for its certificate: afferent fleet enrol");
            lines.set("url", self.said("fleet.desk"), "");
        }
        lines.0
    }

    /// The whole file as it is to be.
    pub(super) fn text(&self) -> String {
        match &self.existing {
            Some((_, before)) => addition::added(before, &self.addition()),
            None => format!(
                "# Written by `afferent setup`, {}. Yours to edit: the setup only ever adds to it.\n\
                 # `afferent check --strict` after a change, then `systemctl restart afferent`.\n{}",
                env!("CARGO_PKG_VERSION"),
                self.addition()
            ),
        }
    }

    fn gateway(&self, lines: &mut Lines) {
        lines.line("[gateway]", "");
        lines.set("name", self.said("gateway.name"), "in MSH-3 and logs");
        let data = self.said("gateway.data");
        if data != Gateway::default().data.display().to_string() {
            lines.set("data", data, "everything the box keeps");
        }
        lines.set("time_zone", self.said("time.zone"), "of the analyzers' clocks");
        if self.is("time.trusted", "yes") {
            lines.line("clock_trusted = true", "something else keeps the clock right");
        }
    }

    fn link_table(&self, lines: &mut Lines) {
        let heard = self.progress.heard.as_ref().filter(|heard| heard.protocol.is_some());
        let why = match heard {
            Some(heard) => format!("heard {}", heard.at.strftime("%Y-%m-%d")),
            None => "not heard yet".to_string(),
        };
        lines.line("[[link]]", &why);
        lines.set("name", self.said("link.name"), "");
        let chosen = self.registry.get(self.said("link.driver")).map(|driver| driver.protocol());
        let protocol = match chosen.or(self.heard_protocol()) {
            Some(Protocol::Hl7) => "hl7",
            Some(Protocol::Poct1a) => "poct1a",
            Some(Protocol::Lines) => "lines",
            Some(Protocol::Table) => "table",
            Some(Protocol::Astm) => "astm",
            None => self.said("link.protocol"),
        };
        lines.set("protocol", protocol, "");
        match self.said("link.kind") {
            "serial" => lines.set("serial", self.said("link.serial"), ""),
            "dial" => lines.set("dial", self.said("link.dial"), ""),
            _ => lines.set("listen", self.said("link.listen"), "where the analyzer calls"),
        }
        for line in heard.iter().flat_map(|heard| &heard.line) {
            lines.line(line, "");
        }
        match self.said("link.driver") {
            BY_HEADER => {}
            driver => lines.set("driver", driver, ""),
        }
    }

    fn ehr_table(&self, lines: &mut Lines) {
        lines.line("[[destination]]", "");
        lines.set("name", self.said("ehr.name"), "messages wait under this name");
        lines.set("address", self.said("ehr.address"), "the EHR's MLLP listener");
        if self.is("ehr.plain", "yes") {
            lines.line("plain = true", "the network is fenced");
        }
        if self.is("ehr.tls", "yes") {
            match self.said("ehr.ca") {
                "system" => lines.line("[destination.tls]", "trusts whom this machine trusts"),
                ca => {
                    lines.line("[destination.tls]", "");
                    lines.set("ca", ca, "nobody else can vouch for the EHR");
                }
            }
            self.proxy()
                .into_iter()
                .for_each(|proxy| lines.set("proxy", proxy, "nothing leaves the site but through it"));
        }
    }
}
