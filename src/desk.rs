//! The desk: the operator's side of a fleet. It listens to what boxes say on the broker and tells them what to do,
//! signed.
//!
//! The fleet's engine is the broker: it keeps what each box said last and queues what boxes that are away are told. So
//! the desk keeps nothing but files beside `desk.toml`: its keys, the boxes it knows ([`registry`]), a record of what
//! was asked ([`audit`]) and of what boxes told ([`events`]), and what is being rolled out ([`rollout`]). It may run
//! any number of times: the broker knows each connection by a certificate, so each takes one that is free
//! ([`Config::seats`]). [`roster`] is the fleet as it is heard; [`page`] shows it; [`Line`] is the connection;
//! [`order`] what is told, signed; [`authority`] signs the certificates of boxes, which [`enrol`] lets in.
//!
//! ## What a fleet takes
//!
//! Measured on two cores with a release build: `afferent sim fleet 10000 --births-s 100`, one mosquitto 2.0.11, mutual
//! TLS, each box 4 documents a minute, and `afferent desk serve` with one page open.
//!
//! | 10,000 boxes | |
//! |---|---|
//! | born within 100 s: birth and state of the last acknowledged after | 100 s, no connection lost |
//! | all of them with all their parts on a page | 100 s |
//! | from a box to a page once they are there, 200 times | p50 0.21 s, p99 0.21 s; the aim is 2 s |
//! | memory of the desk with a page, whole process | 49 MB: 5.0 kB for each box |
//! | mosquitto: processor time for all births; then | 33 s (3.3 ms for each box); 7.7 % of a core |
//! | mosquitto: memory; database | 293 MB; 19 MB |
//! | a real box that is idle, without what the kernel adds to packets | 31 bytes/s, with it 51 bytes/s |
//! | its processor time, the fleet's thread; the whole process | 0.04 %; 0.14 % |
//!
//! Computed from that, for 1,000,000: 67,000 documents a second, 31 MB/s; births spread over five minutes take 11 cores
//! and the rest 8, so a cluster of eight nodes with four cores each has room for one that fails; 7 million
//! retained documents of 300 bytes. A desk shows [`registry::BOXES_MAX`] boxes, so it is 50 tenants with a desk each.
//! Ten events a day from each box are 116 a second, of which one desk notes 16 with each sync of its disk: four over
//! `$share` are enough.

pub mod audit;
pub mod authority;
pub mod enrol;
pub mod events;
pub mod keys;
pub mod order;
pub mod pack;
pub mod page;
pub mod registry;
pub mod rollout;
pub mod roster;
mod seat;

use crate::backoff::Backoff;
use crate::credential;
use crate::fleet::bus::mqtt::{Broker, Mqtt};
use crate::fleet::bus::{self, Bus, Heard, PublishId, Quality, Receipt};
use crate::fleet::topic::{self, Place, Up};
use crate::tls::{self, ClientTls, ServerTls};
use bytes::Bytes;
use seat::Seat;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// mosquitto's configuration for a fleet.
pub const MOSQUITTO_CONF: &str = include_str!("desk/mosquitto.conf");
/// Who may say and hear what there.
pub const MOSQUITTO_ACL: &str = include_str!("desk/acl");

/// A broker that has said nothing new for this long has said what it keeps; it may take longer to begin.
const QUIET: Duration = Duration::from_secs(1);
const FIRST_WORD: Duration = Duration::from_secs(5);
/// A certificate of a desk or of the broker that ends within this time is told of: 30 days.
const ENDS_SOON_S: i64 = 30 * 24 * 3600;
/// A box that asks for an echo says two numbers. What is larger is not said again, where it would wait for the box.
const ECHO_MAX: usize = 256;
/// Between two connections of a desk that stays.
const RECONNECT_MIN: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// `desk.toml`: the broker, and who the desk is there. Files are named from the folder it lies in; each may be a credential
/// of the desk's own unit in its place ([`crate::credential`]).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// MQTT 5 broker, host and port.
    pub broker: String,
    /// Whose fleet it is.
    pub tenant: String,
    /// The desk's certificate, by which the broker knows it.
    pub tls: ClientTls,
    /// More certificates (`NAME.pem`, `NAME.key`), for desks that run at the same time.
    #[serde(default)]
    pub seats: Vec<String>,
    /// The certificate (`NAME.pem`, `NAME.key`) of `afferent desk events`, whose events the broker keeps while it is
    /// away.
    pub events: Option<String>,
    /// TLS of the page; left out, it makes a certificate of its own.
    pub page: Option<ServerTls>,
    /// Where the file lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Why the desk does not get through. The text is for the person at it.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The settings cannot be read.
    #[error("{}: {why}; it needs `broker`, `tenant` and a table [tls] with `ca`, `cert` and `key`", file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The broker is not there, or does not take what is said.
    #[error("the broker {broker}: {why}")]
    Broker {
        /// Which.
        broker: String,
        /// What it said.
        why: String,
    },
    /// As many desks run as there are certificates for.
    #[error(
        "a desk runs on each of the {count} certificates of {}: end one, or name another certificate in `seats`",
        file.display()
    )]
    NoSeat {
        /// How many there are.
        count: usize,
        /// The settings.
        file: PathBuf,
    },
    /// A file of the desk cannot be read or written.
    #[error("{}: {why}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`DeskError::Settings`].
    pub fn read(file: &Path) -> Result<Config, DeskError> {
        let wrong = |why: String| DeskError::Settings { file: file.to_path_buf(), why };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let mut config: Config = toml::from_str(&text).map_err(|error| wrong(error.message().to_string()))?;
        config.folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let folder = config.folder.clone();
        for named in
            [&mut config.tls.ca, &mut config.tls.cert, &mut config.tls.key, &mut config.tls.proxy_password_file]
                .into_iter()
                .flatten()
        {
            *named = credential::from_folder(&folder, named);
        }
        if let Some(page) = &mut config.page {
            for named in [&mut page.cert, &mut page.key].into_iter().chain(&mut page.client_ca) {
                *named = credential::from_folder(&folder, named);
            }
        }
        if Place::new(&config.tenant, "box").is_none() {
            return Err(wrong(format!("`{}` cannot stand in topics", config.tenant)));
        }
        Ok(config)
    }

    /// The certificates that a desk may take, the main one first.
    fn certificates(&self) -> Vec<ClientTls> {
        std::iter::once(self.tls.clone()).chain(self.seats.iter().map(|name| self.named(name))).collect()
    }

    /// Its certificates that end within a month, or have ended, and when, Unix seconds.
    pub fn ends_soon(&self, now_s: i64) -> Vec<(PathBuf, i64)> {
        let events = self.events.iter().map(|name| self.named(name));
        let files = self.certificates().into_iter().chain(events).filter_map(|tls| tls.cert);
        let known = files.filter_map(|file| Some((tls::ends(&file).ok()??, file)));
        known.filter(|(ends_s, _)| ends_soon(*ends_s, now_s)).map(|(ends_s, file)| (file, ends_s)).collect()
    }

    fn named(&self, name: &str) -> ClientTls {
        let file = |end: &str| Some(self.folder.join(format!("{name}.{end}")));
        ClientTls { cert: file("pem"), key: file("key"), ..self.tls.clone() }
    }

    fn broker(&self, tls: &ClientTls) -> Result<Broker, String> {
        let (host, port) = self.broker.rsplit_once(':').ok_or("its address is host and port")?;
        let port = port.parse().map_err(|_| "its address ends in a port")?;
        let cert = tls.cert.as_deref().ok_or("[tls] names no `cert`")?;
        let client_id = tls::common_name(cert).map_err(|error| error.to_string())?;
        let client_id = client_id.ok_or_else(|| format!("the certificate {} has no common name", cert.display()))?;
        Ok(Broker { host: host.trim_matches(['[', ']']).to_string(), port, tls: tls.clone(), client_id })
    }
}

/// What a desk asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest<'a> {
    /// How all boxes are, and who asks for an echo.
    State,
    /// Whether boxes are there, and what they tell.
    Answers,
    /// The same of one box.
    AnswersOf(&'a Place),
    /// The same, and its log while somebody wants it.
    LogOf(&'a Place),
    /// What becomes of a change: whether boxes are there, what is unusual, what they run, what they tell, and who asks for
    /// an echo. Their counters, which nobody keeps, say that they speak.
    Changes,
    /// What boxes tell, each event at one desk of those that ask for it so. What comes while it is away waits for it.
    SharedEvents,
}

impl Interest<'_> {
    fn filters(self, tenant: &str) -> Vec<String> {
        match self {
            Interest::State => topic::state_filters(tenant),
            Interest::Answers => vec![topic::filter(tenant, &Up::State), topic::filter(tenant, &Up::Event)],
            Interest::Changes => {
                let kinds = [Up::State, Up::Alerts, Up::Reported, Up::Update, Up::Event, Up::Metrics, Up::Echo];
                kinds.iter().map(|kind| topic::filter(tenant, kind)).collect()
            }
            Interest::AnswersOf(place) => vec![place.up(&Up::State), place.up(&Up::Event)],
            Interest::LogOf(place) => vec![place.up(&Up::Event), place.up(&Up::Log("+".to_string()))],
            Interest::SharedEvents => vec![format!("$share/desk/{}", topic::filter(tenant, &Up::Event))],
        }
    }
}

/// A connection to the broker as the desk of a tenant.
pub struct Line {
    bus: Mqtt,
    config: Config,
    filters: Vec<String>,
    stays: bool,
    next: PublishId,
    backoff: Backoff,
    phase: Phase,
    broker: Option<Shown>,
    _seat: Seat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Up,
    /// It is dialled again at this moment.
    Lost(Instant),
}

/// A certificate that the broker showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Until when it is good, Unix seconds.
    pub ends_s: i64,
    /// When it was seen, Unix seconds.
    pub seen_s: i64,
}

/// Something that a box said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which box.
    pub place: Place,
    /// What it is about.
    pub what: Up,
    /// The document.
    pub payload: Vec<u8>,
    /// For [`Line::noted`].
    pub receipt: Receipt,
}

/// Tells when the broker has said what it keeps, which comes first, each of it once: when nothing of it has come for a
/// moment. What boxes say meanwhile is not of it, or one that never stops would never let a desk begin.
#[derive(Debug)]
pub struct Kept {
    until: Instant,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { until: Instant::now() + FIRST_WORD }
    }
}

impl Kept {
    /// A box said something.
    pub fn heard(&mut self, said: &Said) {
        if said.receipt.is_kept() {
            self.until = Instant::now() + QUIET;
        }
    }

    /// That will be so at this moment, unless more of it comes before.
    pub fn until(&self) -> Instant {
        self.until
    }
}

/// What a desk that stays hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A box said something.
    Said(Said),
    /// The broker is gone, and why; it is dialled again.
    Lost(String),
    /// The broker is there again, and says what it keeps.
    Back,
}

impl Line {
    /// Connects and asks for what is of interest, of which what the broker has kept comes first.
    ///
    /// # Errors
    /// [`DeskError::Broker`], [`DeskError::NoSeat`].
    pub async fn connect(config: &Config, interest: Interest<'_>) -> Result<Line, DeskError> {
        tls::provider();
        let stays = interest == Interest::SharedEvents;
        let certificates = match (&config.events, stays) {
            (Some(name), true) => vec![config.named(name)],
            (None, true) => {
                let why = "name a certificate for events: events = \"desk-acme-events\"".to_string();
                return Err(DeskError::Settings { file: config.folder.join("desk.toml"), why });
            }
            (_, false) => config.certificates(),
        };
        let (seat, tls) = seat::take(&config.folder, &certificates)?;
        let failed = |why: String| DeskError::Broker { broker: config.broker.clone(), why };
        let broker = config.broker(&tls).map_err(failed)?;
        let mut line = Line {
            bus: Mqtt::new(broker, tokio::runtime::Handle::current()),
            filters: interest.filters(&config.tenant),
            config: config.clone(),
            stays,
            next: PublishId::FIRST,
            backoff: Backoff::new(RECONNECT_MIN, RECONNECT_MAX),
            phase: Phase::Dialling,
            broker: None,
            _seat: seat,
        };
        line.bus.connect_desk(stays);
        line.dialled().await?;
        Ok(line)
    }

    async fn dialled(&mut self) -> Result<(), DeskError> {
        let why = match self.bus.heard().await {
            Heard::Connected { ends_s, .. } => {
                let seen_s = jiff::Timestamp::now().as_second();
                self.broker = ends_s.map(|ends_s| Shown { ends_s, seen_s });
                for filter in &self.filters {
                    self.bus.subscribe(filter.clone());
                }
                self.phase = Phase::Up;
                self.backoff.succeeded();
                return Ok(());
            }
            Heard::Lost(why) => why,
            _ => "it does not speak MQTT 5".to_string(),
        };
        Err(self.lost(why))
    }

    /// Tells a box something and returns once the broker has it: true when it keeps it for the box, false when it does not
    /// know the box, which has never been there or whose session it has lost. What is heard meanwhile is added to `heard`.
    ///
    /// # Errors
    /// [`DeskError::Broker`]: it may have it or not.
    pub async fn tell(&mut self, topic: String, payload: Vec<u8>, heard: &mut Vec<Said>) -> Result<bool, DeskError> {
        self.taken(topic, payload, Quality::UntilHeard, heard).await
    }

    /// Tells a box something that the broker keeps for it, in the place of what it kept before, and returns once the
    /// broker has it.
    ///
    /// # Errors
    /// [`DeskError::Broker`]: it may have it or not.
    pub async fn keep(&mut self, topic: String, payload: Vec<u8>, heard: &mut Vec<Said>) -> Result<(), DeskError> {
        self.taken(topic, payload, Quality::Retained, heard).await.map(drop)
    }

    async fn taken(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        quality: Quality,
        heard: &mut Vec<Said>,
    ) -> Result<bool, DeskError> {
        if self.phase != Phase::Up {
            return Err(self.failed("it is not there".to_string()));
        }
        let id = self.say(topic, payload, quality);
        loop {
            match self.bus.heard().await {
                Heard::Acknowledged(acknowledged) if acknowledged == id => return Ok(true),
                Heard::Refused(refused, bus::NOBODY_LISTENS) if refused == id => return Ok(false),
                Heard::Refused(refused, code) if refused == id => {
                    return Err(self.failed(format!("it does not let this desk tell boxes (reason 0x{code:02x})")));
                }
                other => heard.extend(self.said(other)?),
            }
        }
    }

    fn say(&mut self, topic: String, payload: Vec<u8>, quality: Quality) -> PublishId {
        let id = self.next;
        self.next = id.next();
        self.bus.say(id, topic, Bytes::from(payload), quality);
        id
    }

    /// What a box said next. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`DeskError::Broker`] when the connection is gone.
    pub async fn hear(&mut self) -> Result<Said, DeskError> {
        loop {
            let heard = self.bus.heard().await;
            if let Some(said) = self.said(heard)? {
                return Ok(said);
            }
        }
    }

    /// The certificate that the broker showed last, where that ends within a month. It may have another since.
    pub fn broker_ends_soon(&self, now_s: i64) -> Option<Shown> {
        self.broker.filter(|shown| ends_soon(shown.ends_s, now_s))
    }

    /// True while the broker is there.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// What happened next, for a desk that stays: it dials again when the broker is gone. Cancelling it loses nothing.
    pub async fn follow(&mut self) -> News {
        loop {
            let failed = match self.phase {
                Phase::Lost(until) => {
                    tokio::time::sleep_until(until).await;
                    self.bus.connect_desk(self.stays);
                    self.phase = Phase::Dialling;
                    continue;
                }
                Phase::Dialling => self.dialled().await.map(|()| News::Back),
                Phase::Up => self.hear().await.map(News::Said),
            };
            return failed.unwrap_or_else(|error| News::Lost(error.to_string()));
        }
    }

    /// Answers a box that asks whether it is heard. One that says that nobody has answered it is told that somebody is
    /// here, so that it asks again.
    pub fn answer(&mut self, said: &Said) {
        if let Some(answer) = answer_to(said) {
            self.say(said.place.down(&topic::Down::Echo), answer, Quality::AtLeastOnce);
        }
    }

    /// An event is safe, and the broker may forget it. Everything else is acknowledged as it comes.
    pub fn noted(&mut self, said: &Said) {
        self.bus.acknowledge(said.receipt);
    }

    fn said(&mut self, heard: Heard) -> Result<Option<Said>, DeskError> {
        match heard {
            Heard::Received { topic, payload, receipt } => {
                // A box may say things under another tenant's name; the broker's rules cannot tell.
                let ours = topic::parse_up(&topic).filter(|(place, _)| place.tenant() == self.config.tenant);
                if ours.as_ref().is_none_or(|(_, what)| *what != Up::Event) {
                    self.bus.acknowledge(receipt);
                }
                Ok(ours.map(|(place, what)| Said { place, what, payload, receipt }))
            }
            Heard::Unheard(filter) => {
                let why = format!("it does not let this desk hear {filter}: see its acl");
                self.bus.disconnect(true);
                Err(self.lost(why))
            }
            Heard::Lost(why) => Err(self.lost(why)),
            Heard::Connected { .. }
            | Heard::Switched { .. }
            | Heard::NotSwitched(_)
            | Heard::Acknowledged(_)
            | Heard::Refused(..) => Ok(None),
        }
    }

    fn lost(&mut self, why: String) -> DeskError {
        self.phase = Phase::Lost(Instant::now() + self.backoff.failed());
        self.failed(why)
    }

    fn failed(&self, why: String) -> DeskError {
        DeskError::Broker { broker: self.config.broker.clone(), why }
    }
}

fn ends_soon(ends_s: i64, now_s: i64) -> bool {
    ends_s < now_s + ENDS_SOON_S
}

fn answer_to(said: &Said) -> Option<Vec<u8>> {
    match said.what {
        Up::Echo if said.payload.len() <= ECHO_MAX => Some(said.payload.clone()),
        Up::State if is_deaf(&said.payload) => Some(Vec::new()),
        _ => None,
    }
}

/// A box that is there and whose last echo nobody has answered.
fn is_deaf(state: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct State {
        online: bool,
        downlink: String,
    }
    serde_json::from_slice(state).is_ok_and(|state: State| state.online && state.downlink == "unproven")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_a_desk_that_end_soon_are_told_of() {
        let dir = tempfile::tempdir().unwrap();
        const NOW_S: i64 = 1_790_000_000;
        authority::init(&dir.path().join("ca"), "acme", NOW_S).unwrap();
        let authority = authority::Authority::open(&dir.path().join("ca")).unwrap();
        for (name, life_s) in [("desk-acme", ENDS_SOON_S - 1), ("desk-acme-2", ENDS_SOON_S), ("desk-acme-events", 1)] {
            let use_ = authority::Use::Client(name.to_string());
            let (signed, _) = authority.make(&use_, NOW_S, NOW_S + life_s).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), signed.pem()).unwrap();
        }
        let text = "broker = \"b:8883\"\ntenant = \"acme\"\nseats = [\"desk-acme-2\", \"not-there\"]\n\
                    events = \"desk-acme-events\"\ntls = { cert = \"desk-acme.pem\", key = \"desk-acme.key\" }\n";
        std::fs::write(dir.path().join("desk.toml"), text).unwrap();
        let config = Config::read(&dir.path().join("desk.toml")).unwrap();
        let [main, events] = &config.ends_soon(NOW_S)[..] else { panic!() };
        assert_eq!(main, &(dir.path().join("desk-acme.pem"), NOW_S + ENDS_SOON_S - 1));
        assert_eq!(events.0, dir.path().join("desk-acme-events.pem"));
    }

    #[test]
    fn a_secret_of_the_desk_is_a_file_beside_its_settings_or_a_credential() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("desk.toml");
        let text = "broker = \"b:8883\"\ntenant = \"acme\"\n[tls]\nca = \"ca/root.pem\"\ncert = \"desk.pem\"\n\
                    key = \"credential:desk-key\"\n[page]\ncert = \"page.pem\"\nkey = \"credential:page-key\"\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let page = config.page.unwrap();
        let named = [config.tls.cert.unwrap(), config.tls.key.unwrap(), page.cert, page.key];
        let beside = |name: &str| dir.path().join(name);
        let wanted =
            [beside("desk.pem"), "credential:desk-key".into(), beside("page.pem"), "credential:page-key".into()];
        assert_eq!(named, wanted);
    }

    #[test]
    fn an_echo_is_no_larger_than_a_box_needs() {
        let asks = |what: Up, payload: &[u8]| {
            let place = Place::new("acme", "bench-1").unwrap();
            answer_to(&Said { place, what, payload: payload.to_vec(), receipt: Receipt::new(1, 1) })
        };
        assert_eq!(asks(Up::Echo, &[b'x'; 256]), Some(vec![b'x'; 256]));
        assert_eq!(asks(Up::Echo, &[b'x'; 257]), None);
        assert_eq!(asks(Up::State, br#"{"online":true,"downlink":"unproven"}"#), Some(Vec::new()));
        assert_eq!(asks(Up::State, br#"{"online":true,"downlink":"proven"}"#), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_never_stops_talking_does_not_keep_a_desk_from_its_beginning() {
        let mut kept = Kept::default();
        let said = |n: u64, receipt| Said {
            place: Place::new("acme", "bench-1").unwrap(),
            what: Up::Link(format!("l{n}")),
            payload: Vec::new(),
            receipt,
        };
        let live = Receipt::new(1, 1);
        // What the broker keeps comes for as long as there is of it.
        for n in 0..20 {
            tokio::time::advance(Duration::from_millis(900)).await;
            kept.heard(&said(n, live.kept()));
        }
        let until = kept.until();
        assert_eq!(until, Instant::now() + QUIET);
        for n in 0..10_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            kept.heard(&said(n, live));
        }
        assert_eq!(kept.until(), until);
    }
}
