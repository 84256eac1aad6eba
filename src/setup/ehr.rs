//! Where results go: what is asked about the EHR, and the `[[destination]]` that the answers make.

use super::question::{Question, Step};
use super::steps::{ANOTHER, NONE};
use super::writing::Lines;
use super::{Next, Setup, Work};
use crate::config::addition::free_name;
use crate::delivery::config::{Algorithm, OAuth, default_scope, is_loopback};
use crate::delivery::{self, Protocol};
use crate::mapping::FhirProfile;
use crate::tls::ClientTls;
use std::path::{Path, PathBuf};

/// The answer that those are trusted whom this machine trusts.
pub(super) const SYSTEM: &str = "system";
/// The answer that the EHR wants a log-in.
const SMART: &str = "smart";

impl Setup {
    pub(super) fn ehr(&self) -> Option<Next> {
        let step = Step::Ehr;
        let there: Vec<&delivery::Config> =
            self.base().iter().flat_map(|base| &base.destinations).filter(|to| !to.protocol.takes_images()).collect();
        if !there.is_empty() {
            let asked = self.ask("ehr.use", |key| {
                let mut choices: Vec<(&str, &str)> = there.iter().map(|to| (to.name.as_str(), "as it is")).collect();
                choices.push((ANOTHER, "that is not set up yet"));
                Question::new(step, key, "Which EHR").choice(&choices).default(choices.first().map_or("", |c| c.0))
            });
            if asked.is_some() {
                return asked;
            }
        }
        let asked = self.is_new_ehr().then(|| self.new_ehr()).flatten();
        if asked.is_some() {
            return asked;
        }
        match &self.progress.ehr {
            None => Some(Next::Do(Work::Handshake)),
            Some(tried) if tried.worked => None,
            Some(_) => self.ask("ehr.unreachable", |key| {
                let mut choices = vec![("again", "call it again"), ("keep", "go on; results wait until it takes them")];
                if self.is_new_ehr() {
                    choices.insert(1, ("change", "answer the questions about it again"));
                }
                Question::new(step, key, "The EHR did not answer as it should. What now").choice(&choices)
            }),
        }
    }

    /// True where it is none of those that stand in the configuration.
    pub(super) fn is_new_ehr(&self) -> bool {
        matches!(self.said("ehr.use"), "" | ANOTHER)
    }

    fn new_ehr(&self) -> Option<Next> {
        let step = Step::Ehr;
        self.ask("ehr.kind", |key| {
            let choices = [("hl7", "HL7 v2 messages (ORU, over MLLP)"), ("fhir", "a FHIR R4 server (over HTTPS)")];
            Question::new(step, key, "What does the EHR take")
                .hint("the hospital's interface team knows, and has what is asked next")
                .choice(&choices)
                .default("hl7")
        })
        .or_else(|| match self.said("ehr.kind") {
            "fhir" => self.ask("ehr.url", |key| {
                Question::new(step, key, "Base URL of the FHIR server").hint("such as https://ehr.example/fhir")
            }),
            _ => self
                .ask("ehr.address", |key| {
                    Question::new(step, key, "Host and port of the EHR's HL7 listener (MLLP)")
                        .hint("such as ehr.example:2575")
                })
                .or_else(|| {
                    self.ask("ehr.tls", |key| {
                        Question::new(step, key, "Does it speak TLS")
                            .hint("without, patient data crosses the network in the clear")
                            .yes_or_no()
                            .default("yes")
                    })
                }),
        })
        .or_else(|| match self.ehr_speaks_tls() {
            true => self.trust(),
            false if is_loopback(&self.ehr_host()) => None,
            false => self.ask("ehr.plain", |key| {
                Question::new(step, key, "Is the network between this box and the EHR fenced")
                    .hint("only then may patient data cross it in the clear")
                    .yes_or_no()
            }),
        })
        .or_else(|| self.is("ehr.kind", "fhir").then(|| self.fhir_server()).flatten())
        .or_else(|| {
            let taken: Vec<&str> =
                self.base().iter().flat_map(|base| &base.destinations).map(|to| to.name.as_str()).collect();
            let free = free_name("ehr", &taken);
            self.ask("ehr.name", |key| {
                Question::new(step, key, "Name of the EHR on this box").hint("messages wait under it").default(free)
            })
        })
    }

    /// Who vouches for the EHR, and for this box.
    fn trust(&self) -> Option<Next> {
        let step = Step::Ehr;
        self.ask("ehr.ca", |key| {
            Question::new(step, key, "Authority that signed its certificate (PEM file)")
                .hint("`system` for those that this machine trusts")
                .default(SYSTEM)
        })
        .or_else(|| {
            // A FHIR server has no other name than the one in its URL.
            let is_number = self.ehr_host().parse::<std::net::IpAddr>().is_ok();
            let is_asked = is_number && !self.is("ehr.kind", "fhir");
            is_asked.then(|| {
                self.ask("ehr.server_name", |key| {
                    Question::new(step, key, "Name in the EHR's certificate")
                        .hint("such as ehr.example; `none` where it carries the number itself")
                        .default(NONE)
                })
            })?
        })
        .or_else(|| {
            self.ask("ehr.cert", |key| {
                Question::new(step, key, "This box's certificate for it (PEM file)")
                    .hint("`none` unless the EHR asks for one (mutual TLS)")
                    .default(NONE)
            })
        })
        .or_else(|| match self.said("ehr.cert") {
            NONE => None,
            _ => self.ask("ehr.key", |key| {
                Question::new(step, key, "Key of that certificate (PEM file)")
                    .hint("it is named in the configuration and stays where it is; `none`: then no certificate either")
            }),
        })
    }

    /// How a FHIR server lets somebody in, and knows patients by.
    fn fhir_server(&self) -> Option<Next> {
        let step = Step::Ehr;
        self.ask("ehr.login", |key| {
            let choices = [(NONE, "it asks for none"), (SMART, "SMART Backend Services: a token for a key of this box")];
            Question::new(step, key, "Which log-in does it want").choice(&choices).default(NONE)
        })
        .or_else(|| match self.said("ehr.login") {
            SMART => self
                .ask("ehr.client_id", |key| Question::new(step, key, "The name it knows this box by (client id)"))
                .or_else(|| {
                    self.ask("ehr.login_key", |key| {
                        Question::new(step, key, "Key that this box logs in with (PEM file)").hint(
                            "new: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out FILE;\n\
                             what is registered there is printed by `afferent config jwks`; `none`: no log-in",
                        )
                    })
                })
                .or_else(|| {
                    self.ask("ehr.kid", |key| Question::new(step, key, "Name of that key there (kid)").default("1"))
                }),
            _ => None,
        })
        .or_else(|| {
            self.ask("ehr.patients", |key| {
                Question::new(step, key, "System of the patient numbers (a URI)")
                    .hint(
                        "of those that analyzers send, such as urn:oid:2.16.840.1.113883.19.5; `none`: results name the \
                         patient by the number alone, and the server finds nobody by it",
                    )
                    .default(NONE)
            })
        })
    }

    /// True when the EHR that is asked about is spoken to over TLS.
    pub(super) fn ehr_speaks_tls(&self) -> bool {
        match self.said("ehr.kind") {
            "fhir" => self.said("ehr.url").to_ascii_lowercase().starts_with("https:"),
            _ => self.is("ehr.tls", "yes"),
        }
    }

    /// Where it is, without the port.
    fn ehr_host(&self) -> String {
        let host = match self.said("ehr.kind") {
            "fhir" => reqwest::Url::parse(self.said("ehr.url")).ok().and_then(|url| url.host_str().map(str::to_string)),
            _ => self.said("ehr.address").rsplit_once(':').map(|(host, _)| host.to_string()),
        };
        host.unwrap_or_default().trim_matches(['[', ']']).to_string()
    }

    /// The name of the destination that is the EHR.
    pub(super) fn ehr_name(&self) -> &str {
        match self.said("ehr.use") {
            "" | ANOTHER => self.said("ehr.name"),
            own => own,
        }
    }

    /// The EHR as it was answered, or as the file has it.
    pub(super) fn destination(&self) -> Option<delivery::Config> {
        match self.said("ehr.use") {
            "" | ANOTHER => Some(self.new_destination()),
            own => self.base()?.destinations.iter().find(|to| to.name == own).cloned(),
        }
    }

    fn new_destination(&self) -> delivery::Config {
        let given = |key| Some(self.said(key)).filter(|answer| !matches!(*answer, "" | NONE)).map(str::to_string);
        let file = |key| given(key).filter(|file| file != SYSTEM).map(PathBuf::from);
        let is_fhir = self.is("ehr.kind", "fhir");
        let tls = self.ehr_speaks_tls().then(|| ClientTls {
            ca: file("ehr.ca"),
            server_name: given("ehr.server_name"),
            cert: file("ehr.cert"),
            key: file("ehr.key"),
            ..self.over_proxy()
        });
        let oauth = (is_fhir && self.is("ehr.login", SMART)).then(|| OAuth {
            token_url: None,
            client_id: self.said("ehr.client_id").to_string(),
            key_file: PathBuf::from(self.said("ehr.login_key")),
            kid: self.said("ehr.kid").to_string(),
            algorithm: self.progress.login_algorithm.unwrap_or_default(),
            scope: default_scope(),
        });
        let (address, url) = if is_fhir { (None, given("ehr.url")) } else { (given("ehr.address"), None) };
        delivery::Config {
            address,
            url,
            plain: !self.ehr_speaks_tls() && self.is("ehr.plain", "yes"),
            tls,
            oauth,
            fhir: FhirProfile {
                patient_system: given("ehr.patients").filter(|_| is_fhir).unwrap_or_default(),
                ..FhirProfile::default()
            },
            ..delivery::Config::new(self.said("ehr.name"), if is_fhir { Protocol::Fhir } else { Protocol::Mllp })
        }
    }

    pub(super) fn ehr_table(&self, lines: &mut Lines) {
        let to = self.new_destination();
        let text = |path: &Path| path.display().to_string();
        lines.line("[[destination]]", "");
        lines.set("name", &to.name, "messages wait under this name");
        if let Some(url) = &to.url {
            lines.set("protocol", "fhir", "");
            lines.set("url", url, "the FHIR server's base");
        }
        to.address.iter().for_each(|address| lines.set("address", address, "the EHR's MLLP listener"));
        if to.plain {
            lines.line("plain = true", "the network is fenced");
        }
        if !to.fhir.patient_system.is_empty() {
            lines.line("[destination.fhir]", "");
            lines.set("patient_system", &to.fhir.patient_system, "of the numbers analyzers send");
        }
        if let Some(tls) = &to.tls {
            let trusts = if tls.ca.is_none() { "trusts whom this machine trusts" } else { "" };
            lines.line("[destination.tls]", trusts);
            tls.ca.iter().for_each(|ca| lines.set("ca", &text(ca), "nobody else can vouch for the EHR"));
            tls.server_name.iter().for_each(|name| lines.set("server_name", name, "in the EHR's certificate"));
            tls.cert.iter().for_each(|cert| lines.set("cert", &text(cert), "this box's"));
            tls.key.iter().for_each(|key| lines.set("key", &text(key), ""));
            lines.proxy(tls);
        }
        if let Some(oauth) = &to.oauth {
            lines.line("[destination.oauth]", "to register there: afferent config jwks");
            lines.set("client_id", &oauth.client_id, "");
            lines.set("key_file", &text(&oauth.key_file), "");
            lines.set("kid", &oauth.kid, "");
            if oauth.algorithm != Algorithm::default() {
                lines.set("algorithm", "RS384", "");
            }
        }
    }
}
