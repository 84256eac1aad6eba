//! What a site writes about a destination: `[[destination]]`.

pub mod imaging;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::oauth::SigningKey;
use crate::mapping::imaging::ImagingProfile;
use crate::mapping::{Charset, FhirProfile, Format, Hl7Version, Target};
use crate::message::dicom::rewrite::{Profile, Rule};
use crate::tls::ClientTls;

pub use imaging::{Order, Routed};

/// More connections than this to one receiver would look like an attack and gain nothing.
const CONNECTIONS_MAX: usize = 16;
/// The shortest retry that is still a pause.
const RETRY_MIN_MS: u64 = 10;
/// The longest pause that can be configured: a day.
const PAUSE_MAX_MS: u64 = 86_400_000;
/// The longest a PACS may take to report a commitment, in seconds: a day.
const COMMITMENT_WAIT_MAX_S: u32 = 86_400;
/// The longest a PACS may be asked about an image.
const COMMITMENT_DAYS_MAX: u32 = 365;
/// The longest that connecting or waiting for an answer may be allowed to take. The journal takes a message for lost
/// when it hears nothing of it for ten minutes.
const TIMEOUT_MAX_MS: u64 = 120_000;

/// Said when patient data would leave the machine without TLS.
const PLAIN_REMEDY: &str = "patient data would cross the network in the clear; use [destination.tls], or set plain = true \
                            if the network is fenced";

/// One destination: where results are sent, and how patient to be with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the destination, unique in this file. Messages wait under this name: renaming one leaves its backlog
    /// behind.
    pub name: String,
    /// How the receiver is spoken to: `mllp` (HL7 v2) or `fhir` (FHIR R4 over HTTPS) for results, `dicom` (C-STORE) or
    /// `stow` (DICOMweb over HTTPS) for images.
    pub protocol: Protocol,
    /// Host and port of an MLLP receiver or a PACS, such as `ehr.example:2575`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Base URL of a FHIR server, such as `https://ehr.example/fhir`, or of a DICOMweb server, such as
    /// `https://pacs.example/dicom-web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Names of the links and modalities whose results or images go here; all of them when the list is empty.
    pub links: Vec<String>,
    /// Must be true to send patient data without TLS to another machine. Only for a fenced network.
    pub plain: bool,
    /// How to check the receiver and how to show who we are. Giving the table turns TLS on for MLLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// HL7 version of the messages: "2.3.1", "2.4", "2.5.1" or "2.8" (mllp).
    pub version: Hl7Version,
    /// Character set of the messages: "utf-8", "latin-1" or "ascii" (mllp). What does not fit is held, never replaced.
    pub charset: Charset,
    /// How resources are written: "transaction" (one Bundle) or "single" (one by one, in order) (fhir).
    pub write: Write,
    /// Who sends (MSH-3); left out, the gateway's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending_application: Option<String>,
    /// Which facility sends (MSH-4).
    pub sending_facility: String,
    /// Who receives (MSH-5).
    pub receiving_application: String,
    /// Which facility receives (MSH-6).
    pub receiving_facility: String,
    /// Who assigns the patient identifiers that instruments send without saying so (PID-3 component 4).
    pub patient_authority: String,
    /// What the PACS is called (dicom).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_ae_title: Option<String>,
    /// What we call ourselves (dicom); left out, the AE title of this gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calling_ae_title: Option<String>,
    /// AE titles of the modalities whose images go here; all of them when the list is empty (dicom, stow).
    pub calling_ae_titles: Vec<String>,
    /// Modalities (0008,0060) whose images go here, such as "US"; all of them when the list is empty (dicom, stow).
    pub modalities: Vec<String>,
    /// Body parts (0018,0015) whose images go here; all of them when the list is empty (dicom, stow).
    pub body_parts: Vec<String>,
    /// Only images whose study description (0008,1030) holds one of these, whatever the case, go here; all of them when
    /// the list is empty (dicom, stow).
    pub study_descriptions: Vec<String>,
    /// Whether it is also told what modalities say of their performed steps (MPPS: N-CREATE, N-SET), of those modalities
    /// whose images go here (dicom).
    pub mpps: bool,
    /// Names of the `[[orders]]` and `[[order_feed]]` whose imaging orders are its own: it is told where they stand when
    /// modalities begin, complete or discontinue them (MPPS), with an ORM, or from version 2.5.1 on an OMI or OMG, with
    /// ORC-1 SC (mllp).
    pub order_status: Vec<String>,
    /// Whether the images of a study are sent in the order in which they came: "any" or "study" (dicom, stow). In order
    /// a study takes one connection at a time, and an image that has to wait holds up its study.
    pub order: Order,
    /// Most that is sent to it, in kB a second over all connections (dicom, stow); 0 is no limit.
    pub bandwidth_kb_s: u64,
    /// When images may be sent, by the gateway's clock, such as "18:00-06:00" or "sat-sun 00:00-24:00"; at any time when
    /// the list is empty (dicom, stow). What is under way at the end of a window is sent to its end.
    pub windows: Vec<String>,
    /// Takes out who the patient is, by the profile of this name: "basic" (PS3.15 annex E) (dicom, stow). Images get UIDs
    /// of their own, the same for all of a study. What cannot be freed of the patient, such as an ultrasound image that
    /// does not say that no text is burned into it (0028,0301), is parked, never sent as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deidentify: Option<Profile>,
    /// Attributes that this destination gets other than they came, after `deidentify` (dicom, stow). Each has a `tag` and
    /// one of: `set`, the value it gets; `remove = true`; `replace`, a value, and `with`, what stands for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coerce: Vec<Rule>,
    /// Ask the PACS to commit to keep each image it took (storage commitment), and send again what it says it has not got
    /// (dicom). It reports on the same association, or to `[dicom]`: give it address and AE title of this box. It must
    /// call by `called_ae_title`, and over TLS where it is asked over TLS and `[dicom]` listens with TLS; a `[[modality]]`
    /// with that title and `certificates` keeps others from calling by it.
    pub commitment: bool,
    /// Seconds after which a PACS that has not reported, or could not commit, is asked again; twice as long each time, up
    /// to a day (dicom).
    pub commitment_wait_s: u32,
    /// Days after which an image that the PACS took and does not commit to is parked for a person, having been asked about
    /// once more (dicom).
    pub commitment_days: u32,
    /// What the FHIR server takes and how it names things (fhir).
    pub fhir: FhirProfile,
    /// What the receiver is told of imaging, and how (mllp, fhir).
    pub imaging: ImagingProfile,
    /// Log-in for FHIR and DICOMweb servers (SMART Backend Services).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
    /// What is sent strictly in order: all results of one `specimen`, of one `patient`, or of one `link`. A message
    /// that has to wait holds up only its own lane (mllp, fhir).
    pub lane: Lane,
    /// How many lanes are delivered at the same time, each over a connection of its own (1 to 16).
    pub connections: usize,
    /// What happens when the receiver refuses a message for good: `park` it for a person and go on, or `hold-lane`:
    /// keep it at the head of its lane and keep asking.
    pub on_reject: OnReject,
    /// How often the receiver may turn one message down ("not now") before it is refused for good. Outages never
    /// count.
    pub attempts_max: u32,
    /// First pause before a message is sent again, in milliseconds. It doubles with each failure.
    pub retry_min_ms: u64,
    /// Longest pause before a message is sent again, in milliseconds.
    pub retry_max_ms: u64,
    /// How long connecting may take, TLS included, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long the receiver may take to answer, in milliseconds. After that the connection is dropped and the same
    /// message is sent again.
    pub ack_timeout_ms: u64,
    /// A connection unused for this long is not trusted any more and opened anew, in milliseconds. Keep it below the
    /// idle time-out of firewalls on the way.
    pub idle_close_ms: u64,
    /// It gets test messages and nothing else ([`Target::tests_only`]). No configuration can say so: only a gateway that
    /// is made for a test does.
    #[serde(skip)]
    pub tests_only: bool,
}

/// How a receiver is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HL7 v2 messages in MLLP frames over TCP.
    #[default]
    Mllp,
    /// FHIR R4 over HTTP.
    Fhir,
    /// DICOM: images as they came, by C-STORE (PS3.4 Annex B).
    Dicom,
    /// DICOMweb: images as they came, by STOW-RS (PS3.18 10.5).
    Stow,
}

impl Protocol {
    /// True for receivers of images; the others receive results.
    pub fn takes_images(self) -> bool {
        matches!(self, Protocol::Dicom | Protocol::Stow)
    }
}

/// How FHIR resources are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// One transaction Bundle a message: all or nothing.
    #[default]
    Transaction,
    /// Resource by resource, in order, for servers without transactions.
    Single,
}

/// What is delivered strictly in order (invariant I6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// All results of one specimen.
    #[default]
    Specimen,
    /// All results of one patient; of one specimen where no patient is named.
    Patient,
    /// Everything that came over one link.
    Link,
}

/// What happens to a message that is refused for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnReject {
    /// Park it for a person; its lane goes on.
    #[default]
    Park,
    /// Keep it at the head of its lane and keep asking, at the longest pause.
    HoldLane,
}

/// Log-in by SMART Backend Services (`private_key_jwt`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// Where tokens are issued. Without it, it is read from `.well-known/smart-configuration` of the FHIR server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The name the authorization server knows us by.
    pub client_id: String,
    /// PEM file with our private key (PKCS#8): P-384 for ES384, RSA with 2048 to 4096 bits for RS384.
    pub key_file: PathBuf,
    /// Name of the key in the key set that is registered there.
    pub kid: String,
    /// `ES384` or `RS384`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// What to ask for.
    #[serde(default = "default_scope")]
    pub scope: String,
}

/// Signature algorithms of SMART Backend Services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// ECDSA with P-384 and SHA-384.
    #[default]
    ES384,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
}

impl Algorithm {
    /// The one that the key in this PEM file is for; none where it can be used with neither.
    pub fn of(key_file: &Path) -> Option<Algorithm> {
        [Algorithm::ES384, Algorithm::RS384].into_iter().find(|algorithm| {
            let with = OAuth { key_file: key_file.to_path_buf(), algorithm: *algorithm, ..OAuth::default() };
            SigningKey::load(&with).is_ok()
        })
    }
}

/// One thing that is wrong with a destination's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as it is written in `[[destination]]`.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub text: String,
}

impl Config {
    /// A destination with every setting at its default.
    pub fn new(name: &str, protocol: Protocol) -> Self {
        Config { name: name.to_owned(), protocol, ..Config::default() }
    }

    /// Everything that is wrong with these settings, without looking at any file or network.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut wrong = |key, text: String| found.push(Problem { key, text });
        if self.name.is_empty() {
            wrong("name", "a destination needs a name".to_owned());
        }
        match self.protocol {
            Protocol::Mllp => self.check_mllp(&mut wrong),
            Protocol::Fhir => self.check_fhir(&mut wrong),
            Protocol::Dicom => self.check_dicom(&mut wrong),
            Protocol::Stow => self.check_stow(&mut wrong),
        }
        self.check_routing(&mut wrong);
        if let Some(tls) = &self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            wrong("tls", "`cert` and `key` belong together; give both or neither".to_owned());
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            wrong("connections", format!("must be between 1 and {CONNECTIONS_MAX}"));
        }
        if !(1..=COMMITMENT_WAIT_MAX_S).contains(&self.commitment_wait_s) {
            wrong("commitment_wait_s", format!("must be between 1 and {COMMITMENT_WAIT_MAX_S} s"));
        }
        if !(1..=COMMITMENT_DAYS_MAX).contains(&self.commitment_days) {
            wrong("commitment_days", format!("must be between 1 and {COMMITMENT_DAYS_MAX}"));
        }
        if self.attempts_max == 0 {
            wrong("attempts_max", "must be at least 1".to_owned());
        }
        if self.retry_min_ms < RETRY_MIN_MS {
            wrong("retry_min_ms", format!("must be at least {RETRY_MIN_MS} ms"));
        }
        if self.retry_max_ms < self.retry_min_ms {
            wrong("retry_max_ms", format!("must be at least retry_min_ms ({} ms)", self.retry_min_ms));
        }
        for (key, value, max) in [
            ("retry_max_ms", self.retry_max_ms, PAUSE_MAX_MS),
            ("connect_timeout_ms", self.connect_timeout_ms, TIMEOUT_MAX_MS),
            ("ack_timeout_ms", self.ack_timeout_ms, TIMEOUT_MAX_MS),
            ("idle_close_ms", self.idle_close_ms, PAUSE_MAX_MS),
        ] {
            if !(1..=max).contains(&value) {
                wrong(key, format!("must be between 1 and {max} ms"));
            }
        }
        found
    }

    /// True when the results of this link go here.
    pub fn takes(&self, link: &str) -> bool {
        !self.protocol.takes_images() && self.names(link)
    }

    /// The destination as the mapping sees it.
    pub fn target(&self, gateway: &str) -> Target {
        let format = match (self.protocol, self.write) {
            (Protocol::Mllp, _) => Format::Hl7V2(self.version),
            (Protocol::Fhir, Write::Transaction) => Format::FhirTransaction,
            (Protocol::Fhir, Write::Single) => Format::FhirWrites,
            // Nothing is ever mapped for these: images go as they came, and `takes` is false for results.
            (Protocol::Dicom | Protocol::Stow, _) => Format::FhirTransaction,
        };
        Target {
            format,
            sending_application: self.sending_application.clone().unwrap_or_else(|| gateway.to_owned()),
            sending_facility: self.sending_facility.clone(),
            receiving_application: self.receiving_application.clone(),
            receiving_facility: self.receiving_facility.clone(),
            patient_authority: self.patient_authority.clone(),
            charset: self.charset,
            fhir: self.fhir.clone(),
            tests_only: self.tests_only,
        }
    }

    /// Host and port of `address`.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let (host, port) = self.address.as_deref()?.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|p| *p != 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }

    pub(super) fn retry_min(&self) -> Duration {
        Duration::from_millis(self.retry_min_ms)
    }

    pub(super) fn retry_max(&self) -> Duration {
        Duration::from_millis(self.retry_max_ms)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn ack_timeout(&self) -> Duration {
        Duration::from_millis(self.ack_timeout_ms)
    }

    pub(super) fn idle_close(&self) -> Duration {
        Duration::from_millis(self.idle_close_ms)
    }

    fn check_mllp(&self, wrong: &mut impl FnMut(&'static str, String)) {
        self.check_address("such as \"ehr.example:2575\"", wrong);
        if self.url.is_some() {
            wrong("url", "belongs to protocol = \"fhir\" or \"stow\"; an MLLP receiver has an `address`".to_owned());
        }
        if self.oauth.is_some() {
            wrong("oauth", "belongs to protocol = \"fhir\"".to_owned());
        }
    }

    fn check_address(&self, example: &str, wrong: &mut impl FnMut(&'static str, String)) {
        match self.host_and_port() {
            None => wrong("address", format!("give host and port of the receiver, {example}")),
            Some((host, _)) => {
                if self.tls.is_none() && !self.plain && !is_loopback(&host) {
                    wrong("address", PLAIN_REMEDY.to_owned());
                }
                if let Some(Err(error)) = self.tls.as_ref().map(|tls| tls.name_for(&host)) {
                    wrong("tls", error.to_string());
                }
            }
        }
    }

    fn check_fhir(&self, wrong: &mut impl FnMut(&'static str, String)) {
        self.check_url("give the FHIR server's base URL, such as \"https://ehr.example/fhir\"", wrong);
        if self.address.is_some() {
            wrong("address", "belongs to protocol = \"mllp\" or \"dicom\"; a FHIR server has a `url`".to_owned());
        }
    }

    /// What servers reached by HTTP have in common.
    fn check_url(&self, remedy: &str, wrong: &mut impl FnMut(&'static str, String)) {
        let url = self.url.as_deref().map(reqwest::Url::parse);
        match url {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => {
                if !url.username().is_empty() || url.password().is_some() {
                    wrong("url", "must not hold a user or a password; use [destination.oauth]".to_owned());
                }
                if url.query().is_some() || url.fragment().is_some() {
                    wrong("url", "must end with the base path, without `?` or `#`".to_owned());
                }
                if url.scheme() == "http" && !self.plain && !is_loopback(url.host_str().unwrap_or_default()) {
                    wrong("url", PLAIN_REMEDY.replace("[destination.tls]", "https"));
                }
                if url.scheme() == "http" && self.tls.as_ref().is_some_and(|tls| tls.proxy.is_some()) {
                    wrong("tls", "`proxy` is for https; without TLS it would read what is sent".to_owned());
                }
                if self.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
                    wrong("tls", "`server_name` cannot differ from the host of the url".to_owned());
                }
            }
            _ => wrong("url", remedy.to_owned()),
        }
        if let Some(oauth) = &self.oauth {
            if oauth.client_id.is_empty() || oauth.kid.is_empty() {
                wrong("oauth", "`client_id` and `kid` must not be empty".to_owned());
            }
            if oauth.token_url.as_deref().is_some_and(|u| reqwest::Url::parse(u).is_err()) {
                wrong("oauth", "`token_url` is not a URL".to_owned());
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: String::new(),
            protocol: Protocol::Mllp,
            address: None,
            url: None,
            links: Vec::new(),
            plain: false,
            version: Hl7Version::default(),
            charset: Charset::default(),
            write: Write::default(),
            sending_application: None,
            sending_facility: String::new(),
            receiving_application: String::new(),
            receiving_facility: String::new(),
            patient_authority: String::new(),
            called_ae_title: None,
            calling_ae_title: None,
            calling_ae_titles: Vec::new(),
            modalities: Vec::new(),
            body_parts: Vec::new(),
            study_descriptions: Vec::new(),
            mpps: false,
            order_status: Vec::new(),
            order: Order::default(),
            bandwidth_kb_s: 0,
            windows: Vec::new(),
            deidentify: None,
            coerce: Vec::new(),
            commitment: false,
            commitment_wait_s: 3600,
            commitment_days: 7,
            fhir: FhirProfile::default(),
            imaging: ImagingProfile::default(),
            tls: None,
            oauth: None,
            lane: Lane::Specimen,
            connections: 1,
            on_reject: OnReject::Park,
            attempts_max: 50,
            retry_min_ms: 500,
            retry_max_ms: 60_000,
            connect_timeout_ms: 10_000,
            ack_timeout_ms: 30_000,
            idle_close_ms: 120_000,
            tests_only: false,
        }
    }
}

/// True when nobody else is on the way to this host.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(crate) fn default_scope() -> String {
    "system/*.cud".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mllp(address: &str) -> Config {
        Config { address: Some(address.to_owned()), ..Config::new("ehr", Protocol::Mllp) }
    }

    fn fhir(url: &str) -> Config {
        Config { url: Some(url.to_owned()), ..Config::new("ehr", Protocol::Fhir) }
    }

    fn keys(config: &Config) -> Vec<&'static str> {
        config.problems().iter().map(|p| p.key).collect()
    }

    #[test]
    fn patient_data_leaves_the_machine_only_over_tls_or_on_demand() {
        assert_eq!(keys(&mllp("ehr.example:2575")), ["address"]);
        assert_eq!(keys(&fhir("http://ehr.example/fhir")), ["url"]);
        for loopback in ["127.0.0.1:2575", "localhost:2575", "[::1]:2575"] {
            assert_eq!(mllp(loopback).problems(), []);
        }
        assert_eq!(fhir("http://[::1]:8080/fhir").problems(), []);
        assert_eq!(fhir("https://ehr.example/fhir").problems(), []);
        assert_eq!(Config { plain: true, ..mllp("ehr.example:2575") }.problems(), []);
        assert_eq!(Config { tls: Some(ClientTls::default()), ..mllp("ehr.example:2575") }.problems(), []);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let bad = Config { connections: 0, attempts_max: 0, retry_min_ms: 1, ack_timeout_ms: 0, ..mllp("no port") };
        assert_eq!(keys(&bad), ["address", "connections", "attempts_max", "retry_min_ms", "ack_timeout_ms"]);
        assert_eq!(keys(&fhir("https://doe:secret@ehr.example/fhir")), ["url"]);
        assert_eq!(keys(&fhir("ehr.example")), ["url"]);
    }

    #[test]
    fn a_destination_takes_the_links_it_names_or_all() {
        assert!(mllp("[::1]:1").takes("chemistry"));
        let config = Config { links: vec!["blood gas".into()], ..mllp("[::1]:1") };
        assert!(config.takes("blood gas") && !config.takes("chemistry"));
    }

    #[test]
    fn a_written_destination_reads_back() {
        let text = r#"
            name = "ehr"
            protocol = "fhir"
            url = "https://ehr.example/fhir"
            lane = "patient"
            on_reject = "hold-lane"
            [tls]
            ca = "/etc/afferent/ca.pem"
            [oauth]
            client_id = "bench-1"
            key_file = "/etc/afferent/oauth.key"
            kid = "2026"
            algorithm = "RS384"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.problems(), []);
        assert_eq!(config, toml::from_str(&toml::to_string(&config).unwrap()).unwrap());
        assert!(toml::from_str::<Config>("naem = \"ehr\"").is_err());
    }
}
