//! One simulated box.

use super::{Shared, stage};
use crate::clock::Quality as Clock;
use crate::delivery::DeliveryCounters;
use crate::fleet::bus::mqtt::{Broker, Mqtt};
use crate::fleet::bus::{Bus, Heard};
use crate::fleet::command::{self, Known, Me, Operation, Verdict};
use crate::fleet::envelope::{self, Purpose};
use crate::fleet::session::{Output, Session};
use crate::fleet::telemetry::{
    AlertFacts, Alerts, At, Birth, DestinationFacts, DestinationReport, Digest, Document, Downlink, Event, Failure, Id,
    LinkFacts, LinkReport, Metrics, Name, Outcome, Stamp, What, Word,
};
use crate::fleet::topic::{Down, Place, Up};
use crate::link::LinkCounters;
use crate::sim::random::Random;
use crate::watch::Trouble;
use crate::wire::Protocol;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Events that wait; more are lost, as a box that is never heard loses them.
const EVENTS_MAX: usize = 64;
/// Commands that are known when they come again.
const KNOWN_MAX: usize = 256;
/// Messages a link brings between two reports, at most.
const MESSAGES_MAX: usize = 40;

pub(super) struct Member {
    shared: Arc<Shared>,
    random: Random,
    place: Place,
    bus: Mqtt,
    session: Session,
    began: Instant,
    links: Vec<(Name, u64)>,
    destination: Name,
    delivered: u64,
    is_born: bool,
    is_connected: bool,
    is_silent: bool,
    is_alarmed: bool,
    events: VecDeque<(i64, Document)>,
    rows: i64,
    /// What became of commands, by id: digest and event.
    known: BTreeMap<String, ([u8; 32], Document)>,
    last_seq: Option<u64>,
}

impl Member {
    pub fn new(shared: Arc<Shared>, number: usize, mut random: Random) -> Result<Member, String> {
        let name = stage::name(number);
        let place = Place::new(stage::TENANT, &name).ok_or("it cannot be a box's name")?;
        let (host, port) = shared.options.broker.clone();
        let tls = stage::client(&shared.options.folder, &name);
        let bus = Mqtt::new(Broker { host, port, tls, client_id: name }, tokio::runtime::Handle::current());
        let link = |name| (Name::of_link(&LinkCounters::new(name, Protocol::Astm)), 0);
        let links = vec![link("chemistry"), link("haematology")];
        let destination = Name::of_destination(&DeliveryCounters::new("ehr"));
        let birth = Birth {
            started: stamp(),
            epoch: 1,
            boot_id: None,
            version: Word::new(env!("CARGO_PKG_VERSION")),
            arch: Word::new(std::env::consts::ARCH),
            hardware: None,
            config: Digest::of(b"simulated"),
            ports: Vec::new(),
            links: links.iter().map(|(name, _)| name.clone()).collect(),
            destinations: vec![destination.clone()],
        };
        let now = Instant::now();
        let session = Session::new(place.clone(), 1, Document::of(&birth), now.into_std(), random.bits());
        let is_silent = random.chance(shared.options.silent);
        Ok(Member {
            shared,
            random,
            place,
            bus,
            session,
            began: now,
            links,
            destination,
            delivered: 0,
            is_born: false,
            is_connected: false,
            is_silent,
            is_alarmed: false,
            events: VecDeque::new(),
            rows: 0,
            known: BTreeMap::new(),
            last_seq: None,
        })
    }

    pub async fn run(mut self) {
        sleep(self.some_of(self.shared.options.births)).await;
        self.tell(What::Started { epoch: 1 });
        self.report();
        let every = self.shared.options.report_every;
        let mut report_at = Instant::now() + self.some_of(every);
        loop {
            self.act();
            let wake = self.session.poll_timeout().map_or(report_at, |at| report_at.min(at.into()));
            tokio::select! {
                heard = self.bus.heard() => self.hear(heard),
                () = sleep_until(wake) => {
                    self.session.timeout(now());
                    if report_at <= Instant::now() {
                        report_at = Instant::now() + every;
                        if !self.live() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// A moment within this time, evenly.
    fn some_of(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.below(1 << 20) as f64 / f64::from(1 << 20))
    }

    /// What happens between two reports. False when the box dies.
    fn live(&mut self) -> bool {
        let options = &self.shared.options;
        if self.random.chance(options.dying) {
            if std::mem::take(&mut self.is_connected) {
                self.shared.counts.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
            self.shared.count(|counts| &counts.died);
            return false;
        }
        if self.random.chance(options.flapping) {
            self.bus.disconnect(false);
        }
        if self.random.chance(options.alarming) {
            self.is_alarmed = !self.is_alarmed;
            let (began, trouble) = (self.is_alarmed, Trouble::Silence);
            self.tell(What::Alert { began, trouble, of: Some(self.links[0].0.clone()), figure: 3600, limit: 1800 });
        }
        for (_, messages) in &mut self.links {
            let new = self.random.below(MESSAGES_MAX) as u64;
            *messages += new;
            self.delivered += new;
        }
        self.report();
        true
    }

    fn report(&mut self) {
        let (now, stamp) = (now(), stamp());
        for (link, messages) in self.links.clone() {
            let facts = LinkFacts {
                up: true,
                open: 1,
                connections: 1,
                parts: messages,
                messages,
                naks: 0,
                last_heard: (messages > 0).then_some(stamp.at),
                reasons: BTreeMap::new(),
            };
            let topic = Up::Link(link.as_str().to_string());
            self.session.changed(topic, Document::of(&LinkReport { stamp, link, facts }), now);
        }
        let facts = DestinationFacts {
            up: true,
            queued: 0,
            parked: 0,
            delivered: self.delivered,
            refused: 0,
            failed: 0,
            last_answer: Some(stamp.at),
            lab_to_chart_p50_ms: Some(40),
            lab_to_chart_p99_ms: Some(180),
        };
        let report = DestinationReport { stamp, destination: self.destination.clone(), oldest_s: None, facts };
        let topic = Up::Destination(self.destination.as_str().to_string());
        self.session.changed(topic, Document::of(&report), now);
        let of = Some(self.links[0].0.clone());
        let alert = AlertFacts { trouble: Trouble::Silence, of, since: stamp.at, figure: 3600, limit: 1800 };
        let alerts = if self.is_alarmed { vec![alert] } else { Vec::new() };
        self.session.changed(Up::Alerts, Document::of(&Alerts { alerts }), now);
        let messages = self.links.iter().map(|(_, messages)| messages).sum();
        let metrics = Metrics {
            stamp,
            epoch: 1,
            uptime_s: self.began.elapsed().as_secs(),
            journal: Word::new("good"),
            disk_free_bytes: 20 << 30,
            memory_kb: 40_000,
            links_up: self.links.len() as u64,
            messages,
            delivered: self.delivered,
            queued: 0,
            events_waiting: self.events.len() as u64,
            events_lost: 0,
            downlink: self.session.downlink(),
        };
        self.session.beat(Document::of(&metrics), now);
    }

    fn tell(&mut self, what: What) {
        let event = Document::of(&Event { id: Id::make(), stamp: stamp(), what });
        self.say(event);
    }

    fn say(&mut self, event: Document) {
        self.rows += 1;
        if self.events.len() < EVENTS_MAX {
            self.events.push_back((self.rows, event));
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = now();
        match heard {
            Heard::Connected { session_present, in_flight_max, .. } => {
                self.is_connected = true;
                self.shared.count(|counts| &counts.connected);
                self.session.connected(session_present, in_flight_max, now);
            }
            Heard::Acknowledged(id) => {
                self.session.acknowledged(id, now);
                if !self.is_born && self.session.is_announced() {
                    self.is_born = true;
                    self.shared.born();
                }
            }
            Heard::Refused(id, _) => self.session.refused(id, now),
            // A simulated box never changes its certificate.
            Heard::Unheard(_) | Heard::Switched { .. } | Heard::NotSwitched(_) => {}
            Heard::Received { topic, payload, receipt } => self.session.received(&topic, payload, receipt, now),
            Heard::Lost(why) => {
                if std::mem::take(&mut self.is_connected) {
                    self.shared.counts.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                }
                tracing::debug!("{}: {why}", self.place.gateway());
                self.shared.count(|counts| &counts.lost);
                self.session.lost(now);
            }
        }
    }

    fn act(&mut self) {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.perform(output);
            }
            let now = now();
            let Some((behind, room)) = self.session.wants_events(now) else { return };
            let next: Vec<(i64, Document)> =
                self.events.iter().filter(|(row, _)| *row > behind).take(room).cloned().collect();
            if next.is_empty() {
                return;
            }
            next.into_iter().for_each(|(row, event)| self.session.event(row, event, now));
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { will } => self.bus.connect(self.place.up(&Up::State), will),
            Output::Subscribe => self.bus.subscribe(self.place.down_filter()),
            Output::Publish { id, topic, document, quality } => {
                self.shared.count(|counts| &counts.published);
                self.bus.publish(id, self.place.up(&topic), document, quality);
            }
            Output::Done(row) => self.events.retain(|(other, _)| *other != row),
            Output::Told(what, payload, receipt) => {
                if let Down::Command(_) = what {
                    self.command(&payload);
                }
                self.bus.acknowledge(receipt);
            }
            Output::Acknowledge(receipt) => self.bus.acknowledge(receipt),
            Output::Disconnect { has_said_so } => self.bus.disconnect(has_said_so),
            Output::Downlink(Downlink::Proven) => self.shared.count(|counts| &counts.echoed),
            // A simulated box has no log.
            Output::Downlink(Downlink::Unproven) | Output::Log(..) => {}
        }
    }

    /// As a box does, but for what a power cut would leave.
    fn command(&mut self, payload: &[u8]) {
        self.shared.count(|counts| &counts.told);
        let refused = |shared: &Shared| shared.count(|counts| &counts.refused);
        let Ok(signed) = envelope::open(payload, Purpose::Command, &self.shared.operators) else {
            return refused(&self.shared);
        };
        let Ok(command) = command::read(&signed) else { return refused(&self.shared) };
        let me = Me { tenant: self.place.tenant(), gateway: self.place.gateway() };
        let before = self.known.get(&command.id);
        let known = Known { digest: before.map(|(digest, _)| *digest), last_seq: self.last_seq, ..Known::default() };
        match command::judge(&command, &signed, me, &known, Some(Timestamp::now())) {
            Ok(Verdict::Repeat) => {
                if let Some(event) = before.map(|(_, event)| event.clone()) {
                    self.say(event);
                }
                return;
            }
            Ok(Verdict::Accept) => {}
            Err(_) => return refused(&self.shared),
        }
        if self.is_silent {
            return;
        }
        self.shared.runs(&command.id);
        self.last_seq = Some(command.seq);
        let is_failing = self.random.chance(self.shared.options.failing);
        // A simulated box has no log, no journal and no link that could be listened to.
        let has_none = matches!(
            command.operation,
            Operation::LogFollow { .. }
                | Operation::LogTail { .. }
                | Operation::LogBundle
                | Operation::Capture { .. }
                | Operation::ConfigGet
                | Operation::FactoryReset { .. }
        );
        let (phase, outcome) = match is_failing {
            _ if has_none => (command::Phase::Failed, Outcome::Failed { failure: Failure::Simulated }),
            true => (command::Phase::Failed, Outcome::Failed { failure: Failure::System }),
            false => (command::Phase::Done, Outcome::Done),
        };
        let digest = signed.digest();
        let what = What::Command {
            command: command.id.parse().ok(),
            document: Digest::stored(digest),
            op: Some(Word::new(command.operation.word())),
            phase: Word::new(phase.word()),
            why: None,
            outcome: Some(outcome),
        };
        let event = Document::of(&Event { id: Id::make(), stamp: stamp(), what });
        self.say(event.clone());
        if self.known.len() >= KNOWN_MAX {
            self.known.pop_first();
        }
        self.known.insert(command.id, (digest, event));
    }
}

fn stamp() -> Stamp {
    Stamp { at: At::new(Timestamp::now()), clock: Clock::Trusted }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
