//! What comes next, step by step: a pure function of the answers and of what was found.

use super::network::networkd::{self, Networkd};
use super::network::rivals::rivals;
use super::network::{self, Interface, Network};
use super::question::{Choice, Kind, Question, Step};
use super::{Next, Setup, Work, board, test_result};
use crate::clock::Quality;
use crate::config::addition::free_name;
use crate::config::{Config, Gateway};
use crate::delivery;
use crate::delivery::config::Algorithm;
use crate::link::serial::ports;
use crate::wire::Protocol;
use std::path::Path;

/// Every question there is.
pub const KEYS: [&str; 55] = [
    "config.existing",
    "gateway.name",
    "gateway.data",
    "board.use",
    "network.set",
    "network.interface",
    "network.address",
    "network.gateway",
    "network.dns",
    "network.write",
    "network.keep",
    "network.name",
    "network.unknown",
    "network.proxy",
    "network.proxy_user",
    "network.proxy_password",
    "time.zone",
    "time.trusted",
    "ehr.use",
    "ehr.kind",
    "ehr.name",
    "ehr.address",
    "ehr.url",
    "ehr.tls",
    "ehr.ca",
    "ehr.server_name",
    "ehr.cert",
    "ehr.key",
    "ehr.plain",
    "ehr.login",
    "ehr.client_id",
    "ehr.login_key",
    "ehr.kid",
    "ehr.patients",
    "ehr.unreachable",
    "link.use",
    "link.kind",
    "link.listen",
    "link.serial",
    "link.dial",
    "link.listen_s",
    "link.silent",
    "link.driver",
    "link.protocol",
    "link.name",
    "fleet.join",
    "fleet.broker",
    "fleet.tenant",
    "fleet.desk",
    "fleet.ca",
    "fleet.wait_s",
    "fleet.waits",
    "config.write",
    "test.send",
    "test.failed",
];
/// The answer that none of those that are there is meant; no name has a blank.
pub(super) const ANOTHER: &str = "one more";
/// The answer that each message's header decides about its driver.
pub(super) const BY_HEADER: &str = "none";
/// The answer that there is none.
pub(super) const NONE: &str = "none";
/// Seconds in which a result is sent at an analyzer.
const LISTEN_S: &str = "90";
/// Where analyzers call, mostly.
const LISTEN: &str = "0.0.0.0:4001";

impl Setup {
    /// What comes next.
    pub fn next(&self) -> Next {
        let steps = [
            Self::place,
            Self::board,
            Self::network,
            Self::time,
            Self::ehr,
            Self::link,
            Self::fleet,
            Self::write,
            Self::enrolment,
            Self::test,
            Self::hand_over,
        ];
        steps.iter().find_map(|step| step(self)).unwrap_or(Next::Done)
    }

    /// Asks, unless that was answered.
    pub(super) fn ask(&self, key: &'static str, question: impl FnOnce(&'static str) -> Question) -> Option<Next> {
        if self.progress.get(key).is_some() {
            return None;
        }
        let question = question(key);
        let earlier = self.progress.earlier.get(key).cloned();
        Some(Next::Ask(Box::new(Question { default: earlier.or(question.default.clone()), ..question })))
    }

    /// The answer; empty where there is none.
    pub(super) fn said(&self, key: &str) -> &str {
        self.progress.get(key).unwrap_or_default()
    }

    pub(super) fn is(&self, key: &str, answer: &str) -> bool {
        self.progress.get(key) == Some(answer)
    }

    /// The configuration that a person wrote and that is added to.
    pub(super) fn base(&self) -> Option<&Config> {
        self.existing.as_ref().map(|(config, _)| config)
    }

    fn place(&self) -> Option<Next> {
        if self.existing.is_some() {
            let file = self.file.display();
            let what = format!("{file} is there, written by somebody. What is set here is added behind it");
            return self
                .ask("config.existing", |key| {
                    let hint = "nothing that stands in it changes; to begin anew, move it away first";
                    let choices = [("add", "add to it"), ("stop", "leave it as it is, and end here")];
                    Question::new(Step::Place, key, what).hint(hint).choice(&choices)
                })
                .or_else(|| self.is("config.existing", "stop").then_some(Next::Stop));
        }
        let place = |key, asks: &str, default: String| Question::new(Step::Place, key, asks).default(default);
        self.ask("gateway.name", |key| {
            place(key, "Name of this box", Gateway::default().name())
                .hint("in what it sends (MSH-3) and logs: letters, digits, `-`, `_` and `.`")
        })
        .or_else(|| {
            let data = Gateway::default().data.display().to_string();
            self.ask("gateway.data", |key| {
                place(key, "Directory for what it keeps", data).hint("on a disk of its own that obeys fsync")
            })
        })
    }

    /// Whether it is on the board that it looks like: a computer module may be on any.
    fn board(&self) -> Option<Next> {
        if self.base().is_some_and(|base| base.board.is_some()) {
            return None;
        }
        let known = board::known(&self.root)?;
        self.ask("board.use", |key| {
            let hint = format!("{}; `no` where it is on another, whose lines may be wired otherwise", known.says);
            let asks = format!("Are the parts of this board used ({})", known.name);
            Question::new(Step::Place, key, asks).hint(hint).yes_or_no().default("yes")
        })
    }

    fn network(&self) -> Option<Next> {
        let step = Step::Network;
        let Some(found) = &self.progress.network else { return Some(Next::Do(Work::Look)) };
        let asked = self.ask("network.set", |key| {
            let choices = [
                ("leave", "as it is"),
                ("dhcp", "addresses from the site's DHCP server"),
                ("static", "fixed addresses, as the site's network people gave them"),
            ];
            Question::new(step, key, "How does it get its addresses").choice(&choices).default("leave")
        });
        if asked.is_some() {
            return asked;
        }
        let is_fixed = self.is("network.set", "static");
        let asked = (!self.is("network.set", "leave")).then(|| {
            self.ask("network.interface", |key| {
                let choice = |interface: &Interface| Choice {
                    value: interface.name.clone(),
                    says: interface.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                };
                let choices = found.interfaces.iter().map(choice).collect();
                let question = Question::new(step, key, "Which interface");
                Question {
                    kind: Kind::Choice(choices),
                    default: found.main_interface().map(str::to_string),
                    ..question
                }
            })
            .or_else(|| is_fixed.then(|| self.fixed_addresses()).flatten())
            .or_else(|| {
                self.ask("network.write", |key| {
                    let mut hint = vec![self.network_text()];
                    hint.extend(rivals(&self.root, self.said("network.interface")));
                    hint.push(self.network_warning());
                    let asks = format!("Is this written to {}", self.networkd().place().display());
                    Question::new(step, key, asks).hint(hint.join("\n")).yes_or_no()
                })
            })
            .or_else(|| {
                let is_wanted = self.is("network.write", "yes") && self.progress.network_file.is_none();
                is_wanted.then_some(Next::Do(Work::Network))
            })
            .or_else(|| self.trial())
        });
        asked
            .flatten()
            .or_else(|| {
                self.ask("network.name", |key| {
                    Question::new(step, key, "A name of the site to look up, such as the EHR's host")
                        .hint("`none` where everything is reached by its number")
                        .default(NONE)
                })
            })
            .or_else(|| match &self.progress.looked_up {
                None if self.is("network.name", NONE) => None,
                None => Some(Next::Do(Work::LookUp)),
                Some(tried) if tried.worked => None,
                Some(_) => self.ask("network.unknown", |key| {
                    let choices = [("again", "look it up again"), ("change", "another name"), ("keep", "go on")];
                    Question::new(step, key, "The name is not known here. What now").choice(&choices)
                }),
            })
            .or_else(|| {
                self.ask("network.proxy", |key| {
                    Question::new(step, key, "HTTP proxy that leads out of the site")
                        .hint("such as http://proxy.example:3128, for what is spoken to over TLS; `none` for none")
                        .default(NONE)
                })
            })
            .or_else(|| self.proxy().and_then(|_| self.proxy_log_in()))
    }

    fn proxy_log_in(&self) -> Option<Next> {
        let step = Step::Network;
        self.ask("network.proxy_user", |key| {
            Question::new(step, key, "Name by which the proxy knows this box")
                .hint("`none` where it asks for none")
                .default(NONE)
        })
        .or_else(|| match self.said("network.proxy_user") {
            NONE => None,
            _ => self.ask("network.proxy_password", |key| {
                Question::new(step, key, "File with the password for that").hint(
                    "it is named in the configuration and stays where it is, or credential:NAME of what systemd hands \
                     over; `none`: then no name either",
                )
            }),
        })
    }

    /// Addresses that were changed go by themselves, unless somebody says that the box is reached at them.
    fn trial(&self) -> Option<Next> {
        let until = self.progress.network_trial?;
        self.ask("network.keep", |key| {
            let asks = "Are these addresses right, and is the box reached at them";
            let hint = format!(
                "unless this is answered `yes` it has its old ones again at {}. Where this session\nhangs: come back at the \
                 new address and start `afferent setup`, which goes on here",
                until.strftime("%H:%M:%S UTC")
            );
            Question::new(Step::Network, key, asks).hint(hint).yes_or_no()
        })
        .or_else(|| Some(Next::Do(if self.is("network.keep", "yes") { Work::Keep } else { Work::TakeBack })))
    }

    fn fixed_addresses(&self) -> Option<Next> {
        let step = Step::Network;
        self.ask("network.address", |key| {
            Question::new(step, key, "Addresses with their prefix").hint("such as 10.0.0.7/24, 2001:db8::7/64")
        })
        .or_else(|| {
            self.ask("network.gateway", |key| {
                Question::new(step, key, "Gateways, to everywhere else").hint("such as 10.0.0.1; `none` for none")
            })
        })
        .or_else(|| {
            self.ask("network.dns", |key| {
                Question::new(step, key, "Who is asked for names (DNS)")
                    .hint("such as 10.0.0.2, 10.0.0.3; `none` for none")
            })
        })
    }

    /// What is written for systemd-networkd.
    pub(super) fn network_text(&self) -> String {
        let own = network::addresses(self.said("network.address")).unwrap_or_default();
        let interface = self.said("network.interface");
        let gateways = network::gateways(self.said("network.gateway"), &own, interface).unwrap_or_default();
        let resolvers = network::plain(self.said("network.dns"), interface).unwrap_or_default();
        networkd::text(interface, &own, &gateways, &resolvers)
    }

    /// The interface's file.
    pub(super) fn networkd(&self) -> Networkd<'_> {
        Networkd { root: &self.root, interface: self.said("network.interface") }
    }

    /// What may happen to whoever is connected now.
    fn network_warning(&self) -> String {
        let name = self.said("network.interface");
        // As it is now: whoever went on after a while may have come another way.
        let found = Network::look();
        let session = network::session_address();
        let is_ours = found
            .interfaces
            .iter()
            .filter(|interface| interface.name == name)
            .flat_map(|interface| &interface.addresses)
            .any(|own| session == Some(own.address));
        match is_ours {
            true => match self.networkd().obstacle() {
                None => format!("YOU ARE CONNECTED OVER {name}: with other addresses this session hangs"),
                Some(_) => format!(
                    "YOU ARE CONNECTED OVER {name}: with other addresses this session ends, and the box is reached at the \
                     new ones only. Without a screen or a serial console nobody can take that back."
                ),
            },
            false => format!("whoever is connected over {name} may be cut off"),
        }
    }

    fn time(&self) -> Option<Next> {
        if self.base().is_some() {
            return None;
        }
        let step = Step::Time;
        let zone = jiff::tz::TimeZone::try_system().ok().and_then(|zone| zone.iana_name().map(str::to_string));
        self.ask("time.zone", |key| {
            Question::new(step, key, "Time zone of the analyzers' clocks")
                .hint("such as Europe/Berlin")
                .default(zone.unwrap_or_else(|| "UTC".to_string()))
        })
        .or_else(|| {
            if self.progress.clock == Some(Quality::Trusted) {
                return None;
            }
            self.ask("time.trusted", |key| {
                Question::new(step, key, "Does something else keep this clock right")
                    .hint(crate::setup::work::CLOCK_ADVICE)
                    .yes_or_no()
                    .default("no")
            })
        })
    }

    fn link(&self) -> Option<Next> {
        let step = Step::Link;
        let there = self.base().map(|base| base.links.as_slice()).unwrap_or_default();
        if !there.is_empty() {
            let asked = self.ask("link.use", |key| {
                let mut choices: Vec<(&str, &str)> = there.iter().map(|l| (l.name.as_str(), "as it is")).collect();
                choices.insert(0, (ANOTHER, "that is not set up yet"));
                Question::new(step, key, "Which link").choice(&choices).default(ANOTHER)
            });
            if asked.is_some() {
                return asked;
            }
            if !self.is("link.use", ANOTHER) {
                return None;
            }
        }
        let kinds = [
            ("listen", "the analyzer calls this box over the network"),
            ("serial", "it is on a serial port"),
            ("dial", "this box calls the analyzer over the network"),
        ];
        self.ask("link.kind", |key| {
            Question::new(step, key, "How is the analyzer connected").choice(&kinds).default("listen")
        })
        .or_else(|| match self.said("link.kind") {
            "serial" => self.ask("link.serial", |key| serial_port(step, key)),
            "dial" => self.ask("link.dial", |key| {
                Question::new(step, key, "Host and port of the analyzer").hint("such as 10.0.0.5:4001")
            }),
            _ => self.ask("link.listen", |key| {
                Question::new(step, key, "Address and port on which this box listens")
                    .hint("0.0.0.0 is every address it has; the analyzer is given this box's address and the port")
                    .default(LISTEN)
            }),
        })
        .or_else(|| {
            self.ask("link.listen_s", |key| {
                Question::new(step, key, "Seconds to listen to it; have a result ready to be sent")
                    .hint("nothing is acknowledged or kept: have one sent that can be sent again. 0 chooses the driver by hand")
                    .default(LISTEN_S)
            })
        })
        .or_else(|| match &self.progress.heard {
            None if self.is("link.listen_s", "0") => None,
            None => Some(Next::Do(Work::Listen)),
            Some(heard) if heard.protocol.is_some() => None,
            Some(_) => self.ask("link.silent", |key| {
                let choices = [
                    ("again", "listen again"),
                    ("change", "answer the questions about the link again"),
                    ("choose", "choose the driver by hand, and have it heard later"),
                ];
                Question::new(step, key, "No analyzer was recognised. What now").choice(&choices)
            }),
        })
        .or_else(|| self.ask("link.driver", |key| self.driver_question(step, key)))
        .or_else(|| {
            if !self.is("link.driver", BY_HEADER) || self.heard_protocol().is_some() {
                return None;
            }
            let choices = [
                (Protocol::Astm.name(), "LIS01-A2 and LIS02-A2 (E1381, E1394)"),
                (Protocol::Hl7.name(), "HL7 v2 over MLLP"),
                (Protocol::Poct1a.name(), "POCT1-A device messages"),
                (Protocol::Lines.name(), "anything else"),
            ];
            self.ask("link.protocol", |key| {
                Question::new(step, key, "What does it speak").choice(&choices).default("astm")
            })
        })
        .or_else(|| {
            let taken: Vec<&str> = there.iter().map(|link| link.name.as_str()).collect();
            let driver = self.said("link.driver");
            let free = free_name(if driver == BY_HEADER { "instrument" } else { driver }, &taken);
            self.ask("link.name", |key| {
                Question::new(step, key, "Name of the link")
                    .hint("such as chemistry; in logs and commands")
                    .default(free)
            })
        })
    }

    /// What the link speaks: as its driver does, or as it was heard or answered.
    pub(super) fn link_protocol(&self) -> Protocol {
        let own = || self.base()?.links.iter().find(|link| link.name == self.link_name()).map(|link| link.protocol);
        let chosen = || self.registry.get(self.said("link.driver")).map(|driver| driver.protocol());
        let answered = || Protocol::named(self.said("link.protocol"));
        own().or_else(chosen).or(self.heard_protocol()).or_else(answered).unwrap_or_default()
    }

    /// What was heard, where that was recognised.
    pub(super) fn heard_protocol(&self) -> Option<Protocol> {
        self.progress.heard.as_ref().and_then(|heard| heard.protocol)
    }

    fn driver_question(&self, step: Step, key: &'static str) -> Question {
        let heard = self.progress.heard.as_ref();
        let protocol = self.heard_protocol();
        let fits = self.registry.iter().filter(|driver| match protocol {
            Some(protocol) => driver.protocol() == protocol,
            None => driver.protocol() != Protocol::Table,
        });
        let mut choices: Vec<Choice> = fits
            .map(|driver| {
                let identity = &driver.schema.identity;
                Choice { value: driver.id.clone(), says: format!("{} {}", identity.vendor, identity.model) }
            })
            .collect();
        let by_header = "each message's header decides";
        choices.push(Choice { value: BY_HEADER.to_string(), says: by_header.to_string() });
        let (default, hint) = match heard.and_then(|heard| heard.driver.clone()) {
            Some(driver) => (Some(driver), "the analyzer said its name, and this driver knows it".to_string()),
            None if protocol.is_some() => {
                (Some(BY_HEADER.to_string()), format!("no driver knows what was heard; `{BY_HEADER}`: {by_header}"))
            }
            None => (None, format!("nothing was heard yet; `?` shows them all, `{BY_HEADER}`: {by_header}")),
        };
        let question = Question::new(step, key, "Driver of the analyzer").hint(hint);
        Question { kind: Kind::Pick(choices), default, ..question }
    }

    fn write(&self) -> Option<Next> {
        if self.progress.written {
            return None;
        }
        let text = self.addition();
        if text.is_empty() {
            // What is there is used as it is.
            return None;
        }
        self.ask("config.write", |key| {
            let file = self.file.display();
            let asks = match self.base() {
                Some(_) => format!("Is this added to {file}"),
                None => format!("Is this written to {file}"),
            };
            Question::new(Step::Write, key, asks).hint(text).yes_or_no().default("yes")
        })
        .or_else(|| Some(if self.is("config.write", "yes") { Next::Do(Work::Write) } else { Next::Stop }))
    }

    fn test(&self) -> Option<Next> {
        if self.no_test().is_some() {
            return None;
        }
        let asked = self.ask("test.send", |key| {
            let asks = format!("May the EHR `{}` get one test result now", self.ehr_name());
            let is_fhir = self.destination().is_some_and(|to| to.protocol == delivery::Protocol::Fhir);
            let mark = if is_fhir { "HTEST in meta.security and meta.tag" } else { "T in MSH-11" };
            let hint = format!("marked as a test ({mark}), about nobody: ZZTEST, AFFERENT, number AFFERENT-TEST");
            let choices = [("send", "yes"), ("queue", "no: it ends in the queue, and nothing is sent")];
            Question::new(Step::Test, key, asks).hint(hint).choice(&choices)
        });
        asked.or_else(|| match &self.progress.test {
            None => Some(Next::Do(Work::Test)),
            Some(tried) if tried.worked => None,
            Some(_) => self.ask("test.failed", |key| {
                let choices = [("again", "send it again"), ("keep", "go on; the report says so")];
                Question::new(Step::Test, key, "The test result did not get through. What now").choice(&choices)
            }),
        })
    }

    /// Why no test result can be sent, where none can.
    pub(super) fn no_test(&self) -> Option<&'static str> {
        test_result::obstacle(self.link_protocol(), self.destination()?.protocol)
    }

    fn hand_over(&self) -> Option<Next> {
        (!self.is_finished).then_some(Next::Do(Work::Report))
    }

    /// The name of the link that was set up, or chosen.
    pub(super) fn link_name(&self) -> &str {
        match self.said("link.use") {
            "" | ANOTHER => self.said("link.name"),
            own => own,
        }
    }

    /// Takes an answer, and has asked or found again what it says is wrong; what was answered then is the default.
    pub(super) fn take(&mut self, key: &'static str, answer: String) {
        match (key, answer.as_str()) {
            ("ehr.unreachable" | "link.silent" | "test.failed" | "network.unknown" | "fleet.waits", "again") => {}
            ("network.unknown", "change") => self.progress.ask_again(&["network.name"]),
            // Nothing is written: it stays as it is.
            ("network.write", "no") => {
                self.progress.forget(&["network.interface", "network.address", "network.gateway", "network.dns"]);
                self.progress.answers.insert("network.set".to_string(), "leave".to_string());
            }
            // It is not to go in the clear, so that the default is TLS.
            ("ehr.plain", "no") if self.is("ehr.kind", "fhir") => self.progress.forget(&["ehr.url"]),
            ("ehr.plain", "no") => self.progress.forget(&["ehr.tls"]),
            ("ehr.unreachable", "change") => {
                // The way there may be what was wrong.
                if self.ehr_speaks_tls() {
                    self.progress.ask_again(&["network.proxy", "network.proxy_user", "network.proxy_password"]);
                }
                // Whoever said yes to an open network said it of that one EHR.
                self.progress.forget(&["ehr.plain"]);
                if self.is("ehr.tls", "no") {
                    self.progress.forget(&["ehr.tls"]);
                }
                // All but which of them it is, and its name.
                let is_about = |key: &&str| key.starts_with("ehr.") && !matches!(*key, "ehr.use" | "ehr.name");
                self.progress.ask_again(&KEYS.into_iter().filter(is_about).collect::<Vec<_>>());
            }
            ("link.silent", "change") => {
                self.progress.ask_again(&["link.kind", "link.listen", "link.serial", "link.dial", "link.listen_s"]);
            }
            // There is none: then the certificate was not meant either, or the log-in.
            ("ehr.key", NONE) => self.progress.ask_again(&["ehr.cert"]),
            ("network.proxy_password", NONE) => self.progress.ask_again(&["network.proxy_user"]),
            ("ehr.login_key", NONE) => self.progress.ask_again(&["ehr.login"]),
            _ => {
                if key == "ehr.login_key" {
                    self.progress.login_algorithm = Algorithm::of(Path::new(&answer));
                }
                self.progress.answers.insert(key.to_string(), answer);
                return;
            }
        }
        match key {
            "network.unknown" => self.progress.looked_up = None,
            "ehr.unreachable" => self.progress.ehr = None,
            "link.silent" => self.progress.heard = None,
            "test.failed" => self.progress.test = None,
            "fleet.waits" => self.progress.enrolled = None,
            _ => {}
        }
    }
}

fn serial_port(step: Step, key: &'static str) -> Question {
    let ports = ports::list(Path::new("/"));
    let choices: Vec<Choice> = ports
        .iter()
        .map(|port| Choice {
            value: port.stable_name().display().to_string(),
            says: match port.twin {
                true => format!("{}; another adapter is just like it, so it goes by its socket", port.device.display()),
                false => port.device.display().to_string(),
            },
        })
        .collect();
    let hint = match choices.is_empty() {
        true => "this machine shows none: plug the adapter in, or name one",
        false => "a number of the list, or the name of one; these names stay with adapter or socket",
    };
    let default = choices.first().map(|choice| choice.value.clone());
    let question = Question::new(step, key, "Serial port").hint(hint);
    Question { kind: Kind::Pick(choices), default, ..question }
}
