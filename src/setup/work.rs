//! What a setup does between its questions.

use super::network::networkd::{self, Unset};
use super::network::{self, Network};
use super::progress::{self, Heard, Progress, Tried};
use super::time_server::TimeServer;
use super::{Next, SHIPPED, Setup, SetupError, Show, Work, board, report, test_result};
use crate::clock::{Clock, Quality};
use crate::config;
use crate::delivery::{self, reach};
use crate::disk;
use crate::fleet::identity::{folder, keeper};
use crate::journal::crash;
use crate::link::serial::ports;
use crate::tls;
use crate::workbench::probe::findings::Findings;
use crate::workbench::probe::listen::{Listening, Target};
use crate::workbench::probe::{Manner, SPEEDS};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// What to do where nobody keeps the clock.
pub(super) const CLOCK_ADVICE: &str = "such as the host of a container; else systemd-timesyncd keeps it: `timedatectl set-ntp true`. It takes time servers \
                                       from DHCP, or from NTP= in /etc/systemd/timesyncd.conf; `timedatectl timesync-status` \
                                       shows them";
/// The EHR is called no longer than this.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Whether it is there at all shows within this time.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// What came of other addresses.
enum Addresses {
    /// The box has them, and loses them by itself.
    OnTrial,
    /// This keeps them from being tried.
    CannotBeTried(String),
    /// The box has its old ones again, for this reason.
    DidNotWork(String),
}

impl Setup {
    /// Does what comes next, and says what came of it. Blocks until it is done.
    ///
    /// # Errors
    /// [`SetupError`]. That an EHR does not answer or an analyzer is not heard is none: it is asked what to do then.
    pub fn perform(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let Next::Do(work) = self.next() else { return Ok(Vec::new()) };
        let told = match work {
            Work::Look => self.look(),
            Work::LookUp => self.look_up(show)?,
            Work::Network => self.write_network(show)?,
            Work::Keep => self.keep_network()?,
            Work::TakeBack => self.take_network_back()?,
            Work::Handshake => self.handshake(show)?,
            Work::Listen => self.listen(show)?,
            Work::Write => self.write_configuration()?,
            Work::Code => self.make_code()?,
            Work::Enrol => self.enrol(show)?,
            Work::Test => self.test_result(show)?,
            Work::Report => return self.write_report(),
        };
        self.keep()?;
        Ok(told)
    }

    fn look(&mut self) -> Vec<String> {
        let network = Network::look();
        let mut told = network.words();
        let data = self.base().map_or_else(|| self.said("gateway.data").into(), |base| base.gateway.data.clone());
        let is_by_site = self.base().is_some_and(|base| base.gateway.clock_trusted);
        let (now, quality) = Clock::open(&data, is_by_site).now();
        let worth = match quality {
            Quality::Trusted => "and is right as far as this machine knows",
            Quality::Floor => "and nobody keeps it right",
            Quality::Unset => "WHICH IS WRONG: it is in the past",
        };
        told.push(format!("the clock says {}, {worth}", now.strftime("%Y-%m-%d %H:%M UTC")));
        told.push(format!("board: {}", board::words(&self.root)));
        (self.progress.network, self.progress.clock) = (Some(network), Some(quality));
        told
    }

    fn look_up(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let name = self.said("network.name").to_string();
        show(format!("looking {name} up"));
        let found = runtime()?.block_on(async {
            let addresses = tokio::time::timeout(CALL_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await;
            addresses.map(|found| found.map(|found| found.map(|found| found.ip().to_string()).collect::<BTreeSet<_>>()))
        });
        let tried = match found {
            Ok(Ok(found)) if !found.is_empty() => {
                Tried::new(true, format!("{name} is {}", found.into_iter().collect::<Vec<_>>().join(", ")))
            }
            Ok(Err(error)) => Tried::new(false, format!("{name} cannot be looked up: {error}")),
            Ok(Ok(_)) => Tried::new(false, format!("{name} has no address")),
            Err(_) => Tried::new(false, format!("{name}: nobody answered within {} s", CALL_TIMEOUT.as_secs())),
        };
        let says = tried.says.clone();
        self.progress.looked_up = Some(tried);
        Ok(vec![says])
    }

    /// Writes the network's file: on trial, or for good where nothing can be tried.
    fn write_network(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        self.progress.rivals = network::rivals::rivals(&self.root, self.said("network.interface"));
        let until = jiff::Timestamp::now() + Duration::from_secs(networkd::TRIAL_S);
        let told = match self.try_addresses(show) {
            Addresses::OnTrial => {
                self.progress.network_trial = Some(until);
                self.progress.network_file = Some(Tried::new(false, "the addresses are on trial"));
                crash::point("setup-trial");
                let network = Network::look();
                let told = network.words();
                self.progress.network = Some(network);
                told
            }
            Addresses::CannotBeTried(obstacle) => {
                let place = self.networkd().place();
                let written = self.networkd().write(&self.network_text());
                written.map_err(SetupError::system(format!("cannot write {}", place.display())))?;
                let says = format!("{} is written; {obstacle}", place.display());
                self.progress.network_file = Some(Tried::new(false, says.clone()));
                vec![says]
            }
            Addresses::DidNotWork(why) => {
                self.ask_for_addresses();
                vec![format!("{why}; the addresses are as they were")]
            }
        };
        Ok([told, self.progress.rivals.clone()].concat())
    }

    fn try_addresses(&self, show: &Show) -> Addresses {
        let networkd = self.networkd();
        if let Some(obstacle) = networkd.obstacle() {
            return Addresses::CannotBeTried(obstacle);
        }
        show(format!("trying it; {} s until it goes by itself", networkd::TRIAL_S));
        // Nobody is to be asked about addresses that are not there.
        match networkd.try_out(&self.network_text()).map_err(Unset::Otherwise).and_then(|()| networkd.settle()) {
            Ok(()) => Addresses::OnTrial,
            Err(Unset::NoCarrier(why)) => Addresses::CannotBeTried(why),
            Err(Unset::Otherwise(why)) => Addresses::DidNotWork(why),
        }
    }

    /// What was tried stays, if it is still there.
    fn keep_network(&mut self) -> Result<Vec<String>, SetupError> {
        let (networkd, text) = (self.networkd(), self.network_text());
        if !networkd.is_tried() {
            self.ask_for_addresses();
            return Ok(vec!["that came too late: the box has its old addresses again".to_string()]);
        }
        let says = match networkd.keep(&text) {
            Ok(()) => Tried::new(true, format!("{} is written, and in effect", networkd.place().display())),
            Err(why) => Tried::new(false, format!("{why}; `networkctl reload` puts it into effect")),
        };
        let told = says.says.clone();
        (self.progress.network_trial, self.progress.network_file) = (None, Some(says));
        Ok(vec![told])
    }

    fn take_network_back(&mut self) -> Result<Vec<String>, SetupError> {
        let says = match self.networkd().take_back() {
            Ok(()) => "the box has its old addresses again".to_string(),
            Err(why) => format!("{why}; it has its old addresses again by itself"),
        };
        self.ask_for_addresses();
        Ok(vec![says])
    }

    /// They are asked for again, with what was answered as default.
    fn ask_for_addresses(&mut self) {
        (self.progress.network_trial, self.progress.network_file) = (None, None);
        self.progress.forget(&["network.write", "network.keep"]);
        let asked = ["network.set", "network.interface", "network.address", "network.gateway", "network.dns"];
        self.progress.ask_again(&asked);
    }

    fn handshake(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let Some(to) = self.destination() else { return Ok(Vec::new()) };
        let address = to.address.clone().or(to.url.clone()).unwrap_or_default();
        show(format!("calling {address}"));
        tls::provider();
        let runtime = runtime()?;
        let greeted = runtime.block_on(async { tokio::time::timeout(CALL_TIMEOUT, reach::greet(&to)).await });
        let tried = match greeted {
            Ok(Ok(said)) => {
                let is_secured = to.tls.is_some() || address.to_ascii_lowercase().starts_with("https:");
                let how = if is_secured { "over TLS" } else { "without TLS" };
                let says = if said.says.is_empty() { said.says } else { format!(": {}", said.says) };
                Tried::new(!said.is_doubtful, format!("{address} answers {how}{says}"))
            }
            Ok(Err(why)) => Tried::new(false, format!("{address}: {why}")),
            // One that waits for a message in the clear says nothing to a greeting of TLS. Behind a proxy nobody knows.
            Err(_) if speaks_tls_directly(&to) && runtime.block_on(is_there(&to)) => {
                Tried::new(false, format!("{address} is there, and says nothing to TLS: does it speak TLS?"))
            }
            Err(_) => Tried::new(false, format!("{address}: no answer within {} s", CALL_TIMEOUT.as_secs())),
        };
        let says = tried.says.clone();
        self.progress.ehr = Some(tried);
        Ok(vec![says])
    }

    fn listen(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let target = match self.said("link.kind") {
            "serial" => {
                let shown = Path::new(self.said("link.serial"));
                let path = ports::resolve(Path::new("/"), shown).unwrap_or_else(|_| shown.to_path_buf());
                Target::Serial { path, shown: shown.to_path_buf() }
            }
            "dial" => Target::Dial(self.said("link.dial").to_string()),
            _ => Target::Listen(self.said("link.listen").to_string()),
        };
        let seconds = self.said("link.listen_s").parse().unwrap_or_default();
        let listening = Listening {
            manner: Manner::Grant,
            baud: SPEEDS[0],
            fixed: false,
            until: Instant::now() + Duration::from_secs(seconds),
            show: show.clone(),
        };
        let everywhere = listening.run(vec![target], &self.registry).map_err(SetupError::system("cannot listen"))?;
        let heard = match everywhere.into_iter().next() {
            Some((_, Ok(findings))) => heard(&findings),
            Some((_, Err(error))) => {
                let next = "where the service has it already: systemctl stop afferent, and listen again".to_string();
                Heard { advice: vec![error.to_string(), next], ..heard_nothing() }
            }
            None => heard_nothing(),
        };
        let mut told = vec![match (&heard.spoken, &heard.sender) {
            (Some(spoken), Some(sender)) => format!("heard: {spoken}, from `{sender}`"),
            (Some(spoken), None) => format!("heard: {spoken}"),
            (None, _) => "no analyzer was recognised".to_string(),
        }];
        told.extend(heard.because.iter().chain(&heard.advice).map(|says| format!("  {says}")));
        self.progress.heard = Some(heard);
        Ok(told)
    }

    fn write_configuration(&mut self) -> Result<Vec<String>, SetupError> {
        let name = self.file.display().to_string();
        let there = match std::fs::read_to_string(&self.file) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // Whatever it is, somebody has put it there.
            Err(error) => return Err(SetupError::system(format!("cannot read {name}"))(error)),
        };
        // One that was cut off between the file and its note has written it.
        let written = there.clone().filter(|there| self.progress.has_written(there));
        let is_written = written.is_some();
        let text = written.unwrap_or_else(|| self.text());
        let loaded = config::parse(&name, &text)?;
        if !is_written {
            let known =
                |there: &String| *there == SHIPPED || self.existing.as_ref().is_some_and(|(_, own)| own == there);
            if !there.as_ref().is_none_or(known) {
                let why = std::io::Error::other("somebody changed it meanwhile; start the setup again");
                return Err(SetupError::system(format!("{name} is not written"))(why));
            }
            self.progress.writing = Some(progress::digest(&text));
            self.keep()?;
            crash::point("setup-noted");
            self.beside(|| disk::replace_settings(&self.file, text.as_bytes()))
                .map_err(SetupError::system(format!("cannot write {name}")))?;
            crash::point("setup-written");
        }
        self.progress.missing = loaded.missing.list().iter().map(|fault| fault.message.clone()).collect();
        self.progress.written = true;
        let mut told = vec![format!("{name} is written, and sound")];
        told.extend(self.progress.missing.iter().map(|missing| format!("  on this machine: {missing}")));
        Ok(told)
    }

    fn make_code(&mut self) -> Result<Vec<String>, SetupError> {
        let data = config::load(&self.file)?.config.gateway.data;
        let failed = |error| SetupError::system(format!("the box's key in {}", data.display()))(error);
        let code = folder::code(&data).map_err(failed)?;
        self.progress.code = Some(code.map(|code| code.to_string()).unwrap_or_default());
        Ok(Vec::new())
    }

    fn enrol(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let config = config::load(&self.file)?.config;
        let Some((fleet, enrol)) = config.fleet.as_ref().and_then(|fleet| Some((fleet, fleet.enrol.as_ref()?))) else {
            return Ok(Vec::new());
        };
        let data = &config.gateway.data;
        let wait = Duration::from_secs(self.said("fleet.wait_s").parse().unwrap_or_default());
        show(format!("asking {} to let it in, as {}", enrol.url, self.progress.code.as_deref().unwrap_or_default()));
        tls::provider();
        let mut trouble = String::new();
        let tried = match keeper::let_in(fleet, enrol, data, wait, |says| trouble = says.to_string()) {
            Ok(held) => Tried::new(true, format!("let in as {}", held.common_name.unwrap_or_default())),
            Err(why) if trouble.is_empty() => Tried::new(false, why),
            Err(why) => Tried::new(false, format!("{why}: {trouble}")),
        };
        let says = tried.says.clone();
        self.progress.enrolled = Some(tried);
        Ok(vec![says])
    }

    fn test_result(&mut self, show: &Show) -> Result<Vec<String>, SetupError> {
        let config = config::load(&self.file)?.config;
        let may_reach = self.is("test.send", "send");
        show("a test result is on its way".to_string());
        tls::provider();
        let way = test_result::Way { link: self.link_name(), destination: self.ehr_name(), may_reach };
        let tried = runtime()?.block_on(test_result::send(&config, &way));
        let says = tried.says.clone();
        self.progress.test = Some(tried);
        Ok(vec![says])
    }

    fn write_report(&mut self) -> Result<Vec<String>, SetupError> {
        let config = config::load(&self.file)?.config;
        let report = report::Report::new(self, &config, TimeServer::look(&self.root));
        let (text, json) = report::places(&self.file);
        let wrong = |file: &Path| SetupError::system(format!("cannot write {}", file.display()));
        let machine = serde_json::to_vec_pretty(&report).map_err(|error| wrong(&json)(error.into()))?;
        let page = report.to_string();
        self.beside(|| disk::replace_beside_settings(&text, page.as_bytes())).map_err(wrong(&text))?;
        self.beside(|| disk::replace_beside_settings(&json, &machine)).map_err(wrong(&json))?;
        crash::point("setup-reported");
        self.beside(|| Progress::remove(&self.file)).map_err(wrong(&progress::place(&self.file)))?;
        self.is_finished = true;
        Ok(vec![format!("the report is in {} and {}", text.display(), json.display())])
    }
}

/// True for an HL7 listener that is called over TLS, by no other way than its own.
fn speaks_tls_directly(to: &delivery::Config) -> bool {
    to.protocol == delivery::Protocol::Mllp && to.tls.as_ref().is_some_and(|tls| tls.proxy.is_none())
}

/// Whether anybody takes a connection there, whatever is spoken on it.
async fn is_there(to: &delivery::Config) -> bool {
    let in_the_clear = delivery::Config { tls: None, ..to.clone() };
    tokio::time::timeout(LOOK_TIMEOUT, reach::connect(&in_the_clear)).await.is_ok_and(|reached| reached.is_ok())
}

fn runtime() -> Result<tokio::runtime::Runtime, SetupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(SetupError::system("no threads"))
}

fn heard_nothing() -> Heard {
    Heard {
        spoken: None,
        protocol: None,
        sender: None,
        driver: None,
        setting: None,
        because: Vec::new(),
        advice: Vec::new(),
        at: jiff::Timestamp::now(),
    }
}

fn heard(findings: &Findings) -> Heard {
    // What a lab link cannot take is heard, and is no link.
    let protocol = findings.link.as_ref().and(findings.spoken).and_then(|spoken| spoken.protocol());
    let mut advice = findings.next.clone();
    if findings.spoken.is_some_and(|spoken| !spoken.waits_for_answers()) {
        advice.push(
            "what it sent while this listened was not kept, and it does not know: have it sent again".to_string(),
        );
    }
    Heard {
        spoken: findings.spoken.map(|spoken| spoken.name().to_string()),
        protocol,
        sender: findings.sender.clone(),
        driver: findings.driver.clone(),
        setting: findings.setting,
        because: findings.evidence.iter().map(|evidence| evidence.says.clone()).collect(),
        advice,
        at: jiff::Timestamp::now(),
    }
}
