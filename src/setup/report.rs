//! The hand-over report: one page that says what was set, heard and tried, when, by which release, and what is still open.
//! It stands beside the configuration as text and as JSON, and there is nothing of a patient in it.

use super::network::Network;
use super::progress::{Heard, Tried};
use super::steps::{ANOTHER, BY_HEADER};
use super::time_server::TimeServer;
use super::{Setup, board};
use crate::clock::Quality;
use crate::config::Config;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Columns of a line.
const COLUMNS: usize = 79;
/// Columns of what a line is about.
const LABEL: usize = 16;

/// What is handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the box.
    pub gateway: String,
    /// When it was written.
    pub at: jiff::Timestamp,
    /// The release that did it.
    pub release: &'static str,
    /// The configuration.
    pub configuration: PathBuf,
    /// Where the box keeps things.
    pub data: PathBuf,
    /// The EHR's name, and where it is.
    pub ehr: (String, String),
    /// The link's name, and where the analyzer is.
    pub link: (String, String),
    /// The driver that reads it; none where each message's header decides.
    pub driver: Option<String>,
    /// What was heard of the analyzer; none where nobody listened.
    pub heard: Option<Heard>,
    /// The network as it was found.
    pub network: Option<Network>,
    /// The network's file, where one was written.
    pub network_file: Option<Tried>,
    /// The name that was looked up.
    pub looked_up: Option<Tried>,
    /// What the clock is worth.
    pub clock: Option<Quality>,
    /// Who the clock goes by.
    pub time_server: TimeServer,
    /// Time zone of the analyzers' clocks.
    pub time_zone: String,
    /// The call to the EHR.
    pub handshake: Option<Tried>,
    /// The desk was asked to let it in; none where it joins no fleet, or later.
    pub enrolled: Option<Tried>,
    /// What board this is.
    pub board: String,
    /// The test result.
    pub test: Option<Tried>,
    /// Why no test result could be sent, where none can.
    pub no_test: Option<&'static str>,
    /// The EHR was allowed to get it.
    pub test_may_reach: bool,
    /// What was answered, by key.
    pub answers: BTreeMap<String, String>,
    /// What is still to be done.
    pub open: Vec<Open>,
}

/// Where the text is and where the JSON, for this configuration.
pub fn places(file: &Path) -> (PathBuf, PathBuf) {
    (file.with_extension("handover.txt"), file.with_extension("handover.json"))
}

impl Report {
    /// The report of a setup that has come to its end.
    pub(super) fn new(setup: &Setup, config: &Config, time_server: TimeServer) -> Report {
        let progress = setup.progress();
        let link = config.links.iter().find(|link| link.name == setup.link_name());
        let at = link.map(|link| {
            let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let listens = link.listen.as_ref().map(|address| format!("listens on {address}"));
            let dials = || link.dial.as_ref().map(|address| format!("dials {address}"));
            listens.or_else(dials).or_else(|| path(&link.serial)).or_else(|| path(&link.directory)).unwrap_or_default()
        });
        let to = config.destinations.iter().find(|to| to.name == setup.ehr_name());
        let address = to.and_then(|to| to.address.clone().or(to.url.clone())).unwrap_or_default();
        Report {
            gateway: config.gateway.name(),
            at: jiff::Timestamp::now(),
            release: env!("CARGO_PKG_VERSION"),
            configuration: setup.file().to_path_buf(),
            data: config.gateway.data.clone(),
            ehr: (setup.ehr_name().to_string(), address),
            link: (setup.link_name().to_string(), at.unwrap_or_default()),
            driver: link.and_then(|link| link.driver.clone()),
            heard: progress.heard.clone(),
            network: progress.network.clone(),
            network_file: progress.network_file.clone(),
            looked_up: progress.looked_up.clone(),
            clock: progress.clock,
            time_zone: config.gateway.time_zone().iana_name().unwrap_or("UTC").to_string(),
            handshake: progress.ehr.clone(),
            enrolled: progress.enrolled.clone(),
            board: board::words(&setup.root),
            test: progress.test.clone(),
            no_test: setup.no_test(),
            test_may_reach: setup.is("test.send", "send"),
            answers: progress.answers.clone(),
            open: open(setup, config, &time_server),
            time_server,
        }
    }
}

/// Something that is still to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// What.
    pub says: String,
    /// The command that does it, or tells more; may be empty.
    pub command: &'static str,
}

/// What is still to be done.
fn open(setup: &Setup, config: &Config, time_server: &TimeServer) -> Vec<Open> {
    let progress = setup.progress();
    let mut open = Vec::new();
    let mut is_open = |says: &str, command| open.push(Open { says: says.to_string(), command });
    if let Some(tried) = progress.network_file.as_ref().filter(|tried| !tried.worked) {
        is_open(&tried.says, "");
    }
    progress.rivals.iter().for_each(|rival| is_open(rival, "networkctl status"));
    if let Some(tried) = progress.looked_up.as_ref().filter(|tried| !tried.worked) {
        is_open(&tried.says, "");
    }
    if progress.clock != Some(Quality::Trusted) && !config.gateway.clock_trusted {
        is_open("nobody keeps the clock right", "timedatectl set-ntp true");
    }
    time_server.advice().iter().for_each(|advice| is_open(advice, "timedatectl timesync-status"));
    if let Some(tried) = progress.ehr.as_ref().filter(|tried| !tried.worked) {
        is_open(&format!("the EHR does not answer: {}", tried.says), "afferent doctor");
    }
    let is_new_link = matches!(setup.said("link.use"), "" | ANOTHER);
    if is_new_link && setup.heard_protocol().is_none() {
        is_open("the analyzer was not heard yet: send a result", "afferent doctor");
    }
    if is_new_link {
        progress.heard.iter().flat_map(|heard| &heard.advice).for_each(|advice| is_open(advice, ""));
    }
    if is_new_link && setup.is("link.driver", BY_HEADER) {
        is_open("no driver was chosen: what no driver knows is held", "afferent map");
    }
    match &progress.test {
        Some(tried) if !tried.worked => is_open(&format!("the test result did not get through: {}", tried.says), ""),
        _ if setup.no_test().is_some() => {
            is_open("the EHR has not got a test result: see what was not tried", "");
        }
        _ if !setup.is("test.send", "send") => {
            is_open("the EHR has not got a test result: nobody allowed it yet", "afferent setup");
        }
        _ => {}
    }
    if setup.is("board.use", "yes") {
        is_open("the service has to be let at the board's parts: systemd/board.conf", "systemctl edit afferent");
    }
    progress.missing.iter().for_each(|missing| is_open(missing, "afferent check --strict"));
    if setup.joins() && !progress.enrolled.as_ref().is_some_and(|tried| tried.worked) {
        let code = progress.code.as_deref().unwrap_or_default();
        let says = format!("the desk has to let the box in: afferent desk enrol accept {code} --name NAME");
        is_open(&says, "afferent fleet enrol");
    }
    match setup.base() {
        Some(_) => is_open("the service has to take up what was added", "systemctl restart afferent"),
        None => is_open("the service has to be started", "systemctl enable afferent && systemctl restart afferent"),
    }
    open
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "HAND-OVER OF {}", self.gateway)?;
        writeln!(f, "{}, afferent {}", self.at.strftime("%Y-%m-%d %H:%M UTC"), self.release)?;
        writeln!(f, "\nSET")?;
        line(f, "configuration", &self.configuration.display().to_string())?;
        line(f, "data", &self.data.display().to_string())?;
        line(f, "EHR", &format!("{}: {}", self.ehr.0, self.ehr.1))?;
        line(f, "link", &format!("{}: {}", self.link.0, self.link.1))?;
        line(f, "driver", self.driver.as_deref().unwrap_or("by each message's header"))?;
        line(f, "time zone", &self.time_zone)?;
        writeln!(f, "\nFOUND")?;
        for (at, words) in self.network.iter().flat_map(Network::words).enumerate() {
            line(f, if at == 0 { "network" } else { "" }, &words)?;
        }
        let worth = match self.clock {
            Some(Quality::Trusted) => "right, as far as the machine knows",
            Some(Quality::Floor) => "kept by nobody",
            Some(Quality::Unset) => "wrong: in the past",
            None => "not looked at",
        };
        line(f, "clock", worth)?;
        let server = self.time_server.words();
        if !server.is_empty() {
            line(f, "", &server)?;
        }
        line(f, "board", &self.board)?;
        writeln!(f, "\nHEARD")?;
        match &self.heard {
            None => line(f, "analyzer", "nobody listened")?,
            Some(heard) => {
                let sender = heard.sender.as_ref().map(|sender| format!(", from `{sender}`")).unwrap_or_default();
                let spoken = heard.spoken.clone().unwrap_or_else(|| "not recognised".to_string());
                line(f, "analyzer", &format!("{spoken}{sender}, {}", clock(heard.at)))?;
                for because in &heard.because {
                    line(f, "", because)?;
                }
            }
        }
        writeln!(f, "\nTRIED")?;
        let why = self.no_test.unwrap_or_default();
        for (label, tried, why) in [
            ("name looked up", &self.looked_up, ""),
            ("EHR called", &self.handshake, ""),
            ("test result", &self.test, why),
        ] {
            match tried {
                None if why.is_empty() => line(f, label, "not tried")?,
                None => line(f, label, &format!("not tried: {why}"))?,
                Some(tried) => {
                    let how = if tried.worked { "works" } else { "DOES NOT WORK" };
                    line(f, label, &format!("{how}, {}: {}", clock(tried.at), tried.says))?;
                }
            }
        }
        if let Some(enrolled) = &self.enrolled {
            let how = if enrolled.worked { "works" } else { "NOT YET" };
            line(f, "fleet", &format!("{how}, {}: {}", clock(enrolled.at), enrolled.says))?;
        }
        writeln!(f, "\nSTILL OPEN")?;
        for open in &self.open {
            line(f, "[ ]", &open.says)?;
            if !open.command.is_empty() {
                writeln!(f, "  {:LABEL$} -> {}", "", open.command)?;
            }
        }
        writeln!(f, "\n{:39} Taken over by", "Handed over by")?;
        writeln!(f, "\n{:39} {}", "_".repeat(34), "_".repeat(34))
    }
}

fn clock(at: jiff::Timestamp) -> String {
    at.strftime("%H:%M UTC").to_string()
}

/// A label, and what it says in lines that fit.
fn line(f: &mut fmt::Formatter<'_>, label: &str, says: &str) -> fmt::Result {
    for (at, line) in wrapped(says, COLUMNS - LABEL - 3).iter().enumerate() {
        writeln!(f, "  {:LABEL$} {line}", if at == 0 { label } else { "" })?;
    }
    Ok(())
}

/// Lines of at most so many columns; a longer word has one of its own.
pub(crate) fn wrapped(says: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in says.split_whitespace() {
        let fits = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= columns);
        match lines.last_mut() {
            Some(line) if fits || line.is_empty() => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
