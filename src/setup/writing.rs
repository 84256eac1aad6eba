//! The configuration that the answers make: a few lines with their reasons, which a person goes on editing.

use super::steps::{ANOTHER, BY_HEADER, NONE};
use super::{Setup, board};
use crate::config::{Gateway, addition};
use crate::tls::ClientTls;
use crate::workbench::probe::findings::{self, Place};
use std::path::PathBuf;

/// Where a comment begins.
const COMMENT_AT: usize = 40;

/// Lines of a configuration.
#[derive(Default)]
pub(super) struct Lines(String);

impl Lines {
    pub(super) fn line(&mut self, line: impl AsRef<str>, comment: impl AsRef<str>) {
        let (line, comment) = (line.as_ref(), comment.as_ref());
        match comment {
            "" => self.0.push_str(line),
            _ => self.0.push_str(&format!("{line:COMMENT_AT$} # {comment}")),
        }
        self.0.push('\n');
    }

    pub(super) fn set(&mut self, key: &str, value: &str, comment: &str) {
        self.line(format!("{key} = {}", toml::Value::from(value)), comment);
    }

    /// The way out of the site, where there is one.
    pub(super) fn proxy(&mut self, tls: &ClientTls) {
        tls.proxy.iter().for_each(|proxy| self.set("proxy", proxy, "nothing leaves the site but through it"));
        tls.proxy_user.iter().for_each(|user| self.set("proxy_user", user, ""));
        if let Some(file) = &tls.proxy_password_file {
            self.set("proxy_password_file", &file.display().to_string(), "");
        }
    }

    fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }
}

impl Setup {
    /// The proxy that leads to servers.
    pub(super) fn proxy(&self) -> Option<&str> {
        Some(self.said("network.proxy")).filter(|proxy| !matches!(*proxy, "" | NONE))
    }

    /// A client's settings that say no more than how it gets out of the site.
    pub(super) fn over_proxy(&self) -> ClientTls {
        let given = |key| Some(self.said(key)).filter(|answer| !matches!(*answer, "" | NONE));
        let log_in = self.proxy().and(given("network.proxy_user")).zip(given("network.proxy_password"));
        let (user, password) = log_in.unzip();
        ClientTls {
            proxy: self.proxy().map(str::to_string),
            proxy_user: user.map(str::to_string),
            proxy_password_file: password.map(PathBuf::from),
            ..ClientTls::default()
        }
    }

    /// What is to be written, or added to what a person wrote; empty when nothing is new.
    pub fn addition(&self) -> String {
        let mut lines = Lines::default();
        if self.base().is_none() {
            self.gateway(&mut lines);
        }
        if let Some(board) = board::known(&self.root).filter(|_| self.is("board.use", "yes")) {
            lines.gap();
            lines.line("[board]", "LEDs, button, display: needs systemd/board.conf");
            lines.set("definition", board.name, "");
        }
        if matches!(self.said("link.use"), "" | ANOTHER) {
            lines.gap();
            self.link_table(&mut lines);
        }
        if self.is_new_ehr() {
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
            lines.proxy(&self.over_proxy());
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
        let place = match self.said("link.kind") {
            "serial" => Place::Serial(self.said("link.serial").to_string()),
            "dial" => Place::Dial(self.said("link.dial").to_string()),
            _ => Place::Listen(self.said("link.listen").to_string()),
        };
        let setting = heard.and_then(|heard| heard.setting);
        let driver = Some(self.said("link.driver")).filter(|driver| *driver != BY_HEADER);
        for line in findings::settings(self.said("link.name"), self.link_protocol(), &place, setting, driver) {
            let comment = if line.starts_with("listen") { "where the analyzer calls" } else { "" };
            lines.line(line, comment);
        }
    }
}
