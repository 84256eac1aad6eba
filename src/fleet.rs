//! The fleet: how boxes are looked after from afar, over a message broker.
//!
//! It must never stall or bend the data path (invariant I12), and by type it carries no patient data (I8). So it has a
//! thread of its own, a file of its own ([`store`], never the journal's writer) and bounded channels; whatever fails
//! here is a log line and a condition, and results go on. A gateway without `[fleet]` does nothing of it.
//!
//! ```text
//! counters, queues -> snapshot -> telemetry -> session -> bus -> broker
//! Fleet::tell -> store (fleet.db, on disk) ------^  |
//!                                 broker -> bus ----+--> what the box is told
//! ```
//!
//! Rooms: [`topic`] names what is said and told; [`telemetry`] is all that can be said; [`session`] is the machine that
//! decides what is said when; [`bus`] is the broker, [`bus::mqtt`] over MQTT 5; [`store`] is what must not be
//! forgotten; [`snapshot`] reads how the box is; [`config`] is `[fleet]`. Commands: [`envelope`] is what is signed, `admission.rs` who is let in,
//! [`command`] whether it is obeyed, `docket.rs` what became of each, `commands.rs` which runs, `perform.rs` what they do. Configurations:
//! [`desired`], which may come on a [`stick`] as well. [`sparkplug`] is a view of the telemetry for another kind of host.
//! [`identity`] is the box's certificate, where it has one of its own making; [`log`] the last lines of its
//! log, [`tail`] those that come, [`captures`] what passed on a link.
//!
//! **How to ...**
//! - *tell of an event*: a variant of [`telemetry::What`] and [`Fleet::tell`], which never waits. An event that belongs
//!   to a change of a table is put with [`store::put`] in the transaction of that change.
//! - *say something retained*: a [`topic::Up`], a type in [`telemetry`], and [`session::Session::changed`].
//! - *take something that comes down*: a [`topic::Down`], and an arm in `Loop::told`. It is acknowledged when that
//!   returns, so what must not be lost is on disk by then.
//! - *obey one more command*: a variant of [`command::Operation`], and what it does in `perform.rs`.
//! - *keep something*: a migration in [`store`].

mod admission;
pub mod bus;
pub mod captures;
pub mod command;
pub mod config;
pub mod desired;
mod commands;
mod docket;
pub mod envelope;
pub mod identity;
pub mod log;
pub mod outlives;
mod parcel;
mod perform;
pub mod session;
pub mod snapshot;
pub mod sparkplug;
pub mod stick;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod topic;
mod worker;

pub use config::Config;
pub use docket::resets;
pub use snapshot::Sources;

use crate::tls::ClientTls;
use bus::{Bus, Heard, Receipt};
use commands::Commands;
use desired::adoption::{Adoption, BusFacts, Ended};
use docket::Docket;
use identity::keeper::{Line, Word};
use identity::proof::{Proof, Wanted};
use outlives::Outlives;
use parcel::Parcel;
use perform::Performer;
use serde::{Deserialize, Serialize};
use session::{Output, Session};
use snapshot::{Own, Snapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{Store, StoreError};
use tail::Tail;
use telemetry::{Document, Downlink, Event, Id, LogEnd, UpdateFacts, What};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use topic::{Down, Place};
use worker::Worker;

/// Events that wait for the fleet's thread; more are counted as lost.
const TOLD_ROOM: usize = 1024;
/// The box is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for the fleet, which waits for the broker.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Once everything is said the broker gets this long to take it.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);
/// Reason code of what no client has subscribed to (MQTT 5, 2.4).
const NOBODY: &str = "nobody notes what this box tells of, so it is kept here; `afferent desk events` notes it";
/// What is heard at once before rows are removed: they leave in one commit.
const HEARD_AT_ONCE: usize = 64;

/// How the fleet is, for the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker is there.
    pub connected: bool,
    /// What the box is told reaches it: an echo was answered.
    pub downlink_proven: bool,
    /// Events that wait to be told.
    pub events_waiting: u64,
    /// What went wrong last; empty while all is well.
    pub trouble: String,
    /// The code under which the box asks to be let in, as long as it waits for that.
    #[serde(default)]
    pub code: Option<String>,
    /// How often a desk wanted the box to show which one it is.
    #[serde(default)]
    pub identified: u64,
    /// The configuration.
    #[serde(default)]
    pub config: ConfigStatus,
}

/// What became of the configuration that the desk wants, for the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The revision that runs; none where it is the box's own file.
    pub running: Option<u64>,
    /// The highest that came.
    pub rev: Option<u64>,
    /// Where that stands, in a word.
    pub state: String,
    /// Why it does not run.
    pub why: String,
    /// The box's own file was edited, and the desk knows nothing of it.
    pub drift: bool,
    /// Digest of that file, for whoever replaces it.
    #[serde(default)]
    pub local: String,
    /// What became of what lies on a stick.
    #[serde(default)]
    pub stick: Carried,
}

/// A configuration on a stick.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carried {
    /// None lies there.
    #[default]
    None,
    /// It is not taken, and why.
    NotTaken(String),
    /// It was taken, as this revision; what became of that is told of revisions.
    Taken(u64),
}

impl ConfigStatus {
    /// What became of what lies on a stick: the revision that runs, or why it does not; `None` while it is tried, and
    /// where nothing lies there.
    pub fn carried(&self) -> Option<Result<u64, &str>> {
        match &self.stick {
            Carried::None => None,
            Carried::NotTaken(why) => Some(Err(why)),
            Carried::Taken(rev) if self.rev == Some(*rev) && !self.why.is_empty() => Some(Err(&self.why)),
            Carried::Taken(rev)
                if self.running == Some(*rev) && self.state == desired::machine::Phase::Committed.word() =>
            {
                Some(Ok(*rev))
            }
            Carried::Taken(_) => None,
        }
    }
}

/// The gateway is asked to run with another configuration.
pub struct Change {
    /// Which.
    pub config: Arc<crate::config::Config>,
    /// Told once it runs, or what of it does not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// The way to the fleet, for whoever has something to tell. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    tell: mpsc::Sender<What>,
    lost: Arc<AtomicU64>,
    status: watch::Receiver<Status>,
}

impl Fleet {
    /// Something happened. It is on disk a moment later, and told to the broker until that has it. Never waits: where
    /// the disk cannot follow, what finds no room is counted.
    pub fn tell(&self, what: What) {
        if self.tell.try_send(what).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

/// Starts the fleet's thread. It runs until `stopped` becomes true, and then says goodbye, for a few seconds at most. Over
/// `changes` it asks the gateway to run with another configuration.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(
    config: &Config,
    sources: Sources,
    changes: mpsc::Sender<Change>,
    stopped: watch::Receiver<bool>,
) -> (Fleet, JoinHandle<()>) {
    let (tell, told) = mpsc::channel(TOLD_ROOM);
    let (status, seen) = watch::channel(Status::default());
    let lost = Arc::new(AtomicU64::new(0));
    let fleet = Fleet { tell, lost: lost.clone(), status: seen };
    let (ended, end) = oneshot::channel::<()>();
    let network = tokio::runtime::Handle::current();
    let worker = Worker { config: config.clone(), told, lost, status, changes, network };
    let mut asked_to_stop = stopped.clone();
    let expire = captures::expire(sources.data().to_path_buf());
    let thread = std::thread::Builder::new().name("fleet".to_string()).spawn(move || {
        worker.run(sources, stopped);
        drop(ended);
    });
    if let Err(error) = &thread {
        tracing::error!(event = "fleet-down", "the fleet cannot start: {error}");
    }
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = asked_to_stop.wait_for(|stop| *stop) => {}
            () = expire => {}
        }
        // A disk that hangs must not hang the stop: the thread goes with the process.
        let _ = tokio::time::timeout(STOP_MAX, end).await;
    });
    (fleet, task)
}

/// The fleet's loop. It owns everything of the fleet and waits for nothing but its disk.
struct Loop<B> {
    bus: B,
    place: Place,
    session: Session,
    store: Store,
    snapshot: Snapshot,
    epoch: u64,
    told: mpsc::Receiver<What>,
    /// Events that found no room on their way here.
    lost: Arc<AtomicU64>,
    status: watch::Sender<Status>,
    look_at: Instant,
    beat_at: Instant,
    beat_every: Duration,
    /// Rows that the broker has, and that are still there.
    done: Vec<i64>,
    commands: Commands,
    /// Somebody wants to see the log.
    tail: Option<Tail>,
    /// What a command told in parts.
    parcel: Option<Parcel>,
    adoption: Adoption,
    /// What somebody carries to the box.
    stick: Option<mpsc::Receiver<stick::Found>>,
    identity: Option<Line>,
    /// There is no certificate yet that could be shown.
    waits_to_be_let_in: bool,
    /// A new certificate that is being proven.
    proof: Option<Proof>,
    /// One that is to be, soon.
    unproven: Option<Wanted>,
    /// The present certificate, whom the broker is told to trust.
    tls: ClientTls,
}

impl<B: Bus> Loop<B> {
    fn new(
        worker: Worker,
        identity: Option<Line>,
        bus: B,
        place: Place,
        (store, epoch): (Store, u64),
        adoption: Adoption,
        sources: Sources,
    ) -> Loop<B> {
        let now = now();
        let tls = worker.config.broker_tls(sources.data());
        let every = Duration::from_secs(worker.config.metrics_s);
        let birth = Document::of(&sources.birth(epoch));
        let mut session = Session::new(place.clone(), epoch, birth, now, seed(place.gateway()));
        let mut snapshot = Snapshot::new(sources, every);
        for (topic, document) in snapshot.look(now) {
            session.changed(topic, document, now);
        }
        let docket = Docket::new(&worker.config.operators, &place, epoch, Outlives::read(snapshot.sources().data()));
        let renew = identity.as_ref().map(|line| line.renew.clone());
        let performer = Performer::new(snapshot.sources(), renew, epoch);
        let stick = worker.config.stick.as_deref();
        let stick = stick.map(|folder| stick::watch(folder, place.gateway()));
        let commands = Commands::new(docket, performer, worker.network);
        let mut fleet = Loop {
            bus,
            place,
            session,
            store,
            snapshot,
            epoch,
            told: worker.told,
            lost: worker.lost,
            status: worker.status,
            look_at: now + LOOK_EVERY,
            beat_at: now,
            beat_every: every,
            done: Vec::new(),
            commands,
            tail: None,
            parcel: None,
            adoption,
            stick,
            waits_to_be_let_in: identity.is_some() && tls.cert.as_ref().is_none_or(|cert| !cert.exists()),
            identity,
            proof: None,
            unproven: None,
            tls,
        };
        fleet.keep(vec![What::Started { epoch }]);
        fleet
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut is_stopping = false;
        loop {
            self.act();
            if self.session.is_stopped() {
                break;
            }
            let times = self.session.poll_timeout().into_iter().chain(self.tail.as_ref().map(Tail::poll_timeout));
            let times = times.chain(self.parcel.as_ref().map(Parcel::poll_timeout));
            let wake = times.chain([self.look_at]).min().unwrap_or(self.look_at);
            tokio::select! {
                heard = self.bus.heard() => self.hear(heard).await,
                Some(what) = self.told.recv() => self.keep_all(what),
                Some(performed) = self.commands.ended() => self.performed(performed),
                Some(ended) = self.adoption.ended() => self.adopt(ended),
                found = stick::next(&mut self.stick) => self.carried(found),
                word = next_word(&mut self.identity) => self.identified(word),
                () = tokio::time::sleep_until(wake.into()) => self.wake(),
                _ = stopped.wait_for(|stop| *stop), if !is_stopping => {
                    is_stopping = true;
                    // Told once the box is back, for the broker may not be there.
                    self.end_tail(LogEnd::Stopped);
                    self.session.stop(now());
                }
            }
        }
        let gone = async { while !matches!(self.bus.heard().await, Heard::Lost(_)) {} };
        let _ = tokio::time::timeout(HANG_UP_GRACE, gone).await;
    }

    /// What was heard, and what was heard with it: rows leave in one commit.
    async fn hear(&mut self, first: Heard) {
        self.hear_one(first);
        for _ in 1..HEARD_AT_ONCE {
            tokio::select! {
                biased;
                heard = self.bus.heard() => self.hear_one(heard),
                () = std::future::ready(()) => return,
            }
        }
    }

    fn hear_one(&mut self, heard: Heard) {
        let now = now();
        match heard {
            Heard::Connected { session_present, in_flight_max, .. } => {
                tracing::info!(event = "fleet-connected", session_present, "the fleet's broker is there");
                self.status.send_modify(|status| (status.connected, status.trouble) = (true, String::new()));
                self.session.connected(session_present, in_flight_max, now);
                self.beat_at = now;
                self.beat();
            }
            Heard::Switched { session_present, in_flight_max } => {
                if self.session.replaced() {
                    tracing::info!("the fleet's broker lets this box in with its next certificate");
                    self.tail.iter_mut().for_each(Tail::lost);
                    self.parcel.iter_mut().for_each(Parcel::lost);
                    self.proof.iter_mut().for_each(|proof| proof.let_in(now));
                    self.status.send_modify(|status| (status.connected, status.trouble) = (true, String::new()));
                    self.session.connected(session_present, in_flight_max, now);
                }
            }
            Heard::NotSwitched(why) => {
                self.trouble(format!("the next certificate: {why}"));
                self.judge(|proof| proof.lost());
            }
            Heard::Acknowledged(id) => {
                self.session.acknowledged(id, now);
                self.judge(Proof::acknowledged);
            }
            Heard::Refused(id, code) => {
                self.trouble(match code {
                    bus::NOBODY_LISTENS => NOBODY.to_string(),
                    _ => format!("the broker does not take what this box says (reason code 0x{code:02x})"),
                });
                self.session.refused(id, now);
            }
            Heard::Unheard(filter) => {
                self.trouble(format!("the broker does not let this box hear {filter}, so it can be told nothing"));
            }
            Heard::Received { topic, payload, receipt } => self.session.received(&topic, payload, receipt, now),
            Heard::Lost(why) => {
                // Who is not let in yet cannot be there, and what it waits for is told.
                if !self.waits_to_be_let_in {
                    self.trouble(why);
                }
                self.status.send_modify(|status| status.connected = false);
                self.session.lost(now);
                self.tail.iter_mut().for_each(Tail::lost);
                self.parcel.iter_mut().for_each(Parcel::lost);
                self.judge(|proof| proof.is_in().then(|| proof.lost()).flatten());
            }
        }
    }

    /// Told in the log when it is news.
    fn trouble(&self, why: String) {
        let is_news = self.status.borrow().trouble != why;
        if is_news && !why.is_empty() {
            tracing::warn!(event = "fleet-trouble", "fleet: {why}");
            self.status.send_modify(|status| status.trouble = why);
        }
    }

    fn wake(&mut self) {
        let now = now();
        self.session.timeout(now);
        if self.proof.as_ref().is_some_and(|proof| proof.timeout(now).is_some()) {
            // With the certificate there was.
            if self.proof.as_ref().is_some_and(Proof::is_in) {
                self.bus.disconnect(false);
            }
            self.judge(|proof| proof.timeout(now));
        }
        self.prove(now);
        if let Some(identity) = &mut self.identity
            && identity.trouble.has_changed().unwrap_or_default()
        {
            // The keeper has told the log.
            let waits = identity.trouble.borrow_and_update().clone();
            self.status.send_modify(|status| (status.trouble, status.code) = (waits.why, waits.code));
        }
        if self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
            for (topic, document) in self.snapshot.look(now) {
                self.session.changed(topic, document, now);
            }
            self.tell_update();
            self.look_at_config(now);
            // What a full disk kept from being written is tried again.
            self.commands.is_due = true;
            if self.beat_at <= now {
                self.beat();
            }
        }
    }

    /// What became of an update is told once in effect: its event has an id before it is put into the outbox, and is noted
    /// as told after that.
    fn tell_update(&mut self) {
        let Some(updates) = self.snapshot.sources().updates().cloned() else { return };
        let Some(record) = updates.untold() else { return };
        let Ok(id) = record.event.parse() else { return };
        let what = What::Update { update: UpdateFacts::of(&record) };
        match self.store.put(&Event { id, stamp: self.snapshot.sources().stamp(), what }) {
            Ok(()) => updates.told(&record.event),
            Err(error) => self.trouble(error.to_string()),
        }
    }

    fn bus_facts(&self) -> BusFacts {
        BusFacts {
            connected: self.session.is_up(),
            downlink: self.session.downlink() == Downlink::Proven,
            answered: self.session.echoes_answered(),
        }
    }

    fn look_at_config(&mut self, now: Instant) {
        let (bus, stamp) = (self.bus_facts(), self.snapshot.sources().stamp());
        if let Err(error) = self.adoption.look(&mut self.store, bus, now, stamp) {
            self.trouble(error.to_string());
        }
        self.report_config(now);
    }

    fn adopt(&mut self, ended: Ended) {
        let (bus, stamp) = (self.bus_facts(), self.snapshot.sources().stamp());
        let is_another = matches!(ended, Ended::Applied(_));
        if let Err(error) = self.adoption.go_on(&mut self.store, ended, bus, stamp) {
            self.trouble(error.to_string());
        }
        if is_another {
            let birth = Document::of(&self.snapshot.sources().birth(self.epoch));
            self.session.reborn(birth, now());
        }
        self.report_config(now());
    }

    /// Somebody has carried a configuration here, or taken it away.
    fn carried(&mut self, found: stick::Found) {
        let stamp = self.snapshot.sources().stamp();
        if let Err(error) = self.adoption.carried(&mut self.store, found, stamp) {
            self.trouble(format!("{error}; pull the stick out and put it in again once there is room"));
        }
        self.report_config(now());
        let config = self.adoption.status();
        self.status.send_modify(|status| status.config = config);
    }

    fn report_config(&mut self, now: Instant) {
        if self.adoption.wants_echo() {
            self.session.ask(now);
        }
        if let Some(reported) = self.adoption.report(self.snapshot.sources().stamp()) {
            self.session.changed(topic::Up::Reported, Document::of(&reported), now);
            let config = self.adoption.status();
            self.status.send_modify(|status| status.config = config);
        }
    }

    fn beat(&mut self) {
        let now = now();
        self.beat_at = now + self.beat_every;
        let waiting = self.store.waiting().unwrap_or_default();
        self.status.send_modify(|status| status.events_waiting = waiting);
        let own = Own {
            epoch: self.epoch,
            events_waiting: waiting,
            events_lost: self.store.lost() + self.lost.load(Ordering::Relaxed),
            downlink: self.session.downlink(),
        };
        self.session.beat(Document::of(&self.snapshot.metrics(&own)), now);
    }

    /// Does what the session wants, until it wants nothing.
    fn act(&mut self) {
        loop {
            self.tell_parcel();
            self.tell_tail();
            while let Some(output) = self.session.poll_output() {
                self.perform(output);
            }
            self.remove_done();
            self.command();
            self.leave();
            if !self.hand_over() {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { will } => self.bus.connect(self.place.up(&topic::Up::State), will),
            Output::Subscribe => self.bus.subscribe(self.place.down_filter()),
            Output::Publish { id, topic, document, quality } => {
                self.bus.publish(id, self.place.up(&topic), document, quality);
            }
            Output::Done(row) => {
                if self.status.borrow().trouble == NOBODY {
                    self.status.send_modify(|status| status.trouble.clear());
                }
                self.done.push(row);
            }
            Output::Told(what, payload, receipt) => self.told(what, &payload, receipt),
            Output::Acknowledge(receipt) => self.bus.acknowledge(receipt),
            Output::Disconnect { has_said_so } => self.bus.disconnect(has_said_so),
            Output::Log(of, is_taken) => match &mut self.parcel {
                Some(parcel) if parcel.awaits(of) => parcel.taken(is_taken, now()),
                _ => {
                    self.tail.iter_mut().for_each(if is_taken { Tail::taken } else { Tail::refused });
                }
            },
            Output::Downlink(now) => {
                self.status.send_modify(|status| status.downlink_proven = now == Downlink::Proven);
                self.keep(vec![What::Downlink { now }]);
                if now == Downlink::Proven {
                    self.judge(Proof::echoed);
                }
            }
        }
    }

    /// What the keeper of the box's identity says.
    fn identified(&mut self, word: Word) {
        let now = now();
        match word {
            Word::Ready => {
                self.waits_to_be_let_in = false;
                self.session.hurry(now);
            }
            Word::Prove(file) => {
                self.unproven = Some(Wanted::new(file, now));
                if self.session.downlink() != Downlink::Proven {
                    self.session.ask(now);
                }
                self.prove(now);
            }
        }
    }

    /// Begins a proof that is wanted, when it may begin.
    fn prove(&mut self, now: Instant) {
        let has_echo = self.session.downlink() == Downlink::Proven;
        let Some(file) = self.unproven.as_ref().and_then(|wanted| wanted.ready(has_echo, now)) else { return };
        let (cert, key) = (Some(file.to_path_buf()), Some(file.to_path_buf()));
        let tls = ClientTls { cert, key, ..self.tls.clone() };
        self.unproven = None;
        self.proof = Some(Proof::begin(has_echo, now));
        self.bus.switch(tls, self.place.up(&topic::Up::State), self.session.will());
    }

    /// Tells the keeper once a proof has come to a verdict.
    fn judge(&mut self, verdict: impl FnOnce(&Proof) -> Option<bool>) {
        let Some(is_proven) = self.proof.as_ref().and_then(verdict) else { return };
        self.proof = None;
        tracing::info!(event = "certificate-tried", is_proven, "the next certificate was tried on the fleet's broker");
        if let Some(identity) = &self.identity {
            // One is asked for at a time, so there is room.
            let _ = identity.verdict.try_send(is_proven);
        }
    }

    /// The box was told something. It is acknowledged once it is safe.
    fn told(&mut self, what: Down, payload: &[u8], receipt: Receipt) {
        match what {
            Down::Command(_) => {
                let stamp = self.snapshot.sources().stamp();
                if let Err(error) = self.commands.docket.take(&mut self.store, payload, stamp) {
                    // Not acknowledged, it comes again, and in order, with the next connection.
                    self.trouble(error.to_string());
                    return self.bus.disconnect(false);
                }
                self.commands.is_due = true;
            }
            Down::Desired => {
                let stamp = self.snapshot.sources().stamp();
                if let Err(error) = self.adoption.take(&mut self.store, payload, stamp) {
                    self.trouble(error.to_string());
                    return self.bus.disconnect(false);
                }
                self.report_config(now());
            }
            // The session takes it.
            Down::Echo => {}
        }
        self.bus.acknowledge(receipt);
    }

    /// What was told, and what was told with it: they share a commit, for the journal has the same disk.
    fn keep_all(&mut self, first: What) {
        let mut all = vec![first];
        while all.len() < TOLD_ROOM
            && let Ok(next) = self.told.try_recv()
        {
            all.push(next);
        }
        self.keep(all);
    }

    fn keep(&mut self, all: Vec<What>) {
        let stamp = self.snapshot.sources().stamp();
        let events: Vec<Event> = all.into_iter().map(|what| Event { id: Id::make(), stamp, what }).collect();
        let (lost, why) = match self.store.put_all(&events) {
            Ok(0) => return,
            Ok(lost) => (lost, StoreError::Full),
            Err(error) => (events.len(), error),
        };
        self.lost.fetch_add(lost as u64, Ordering::Relaxed);
        self.trouble(why.to_string());
    }

    fn remove_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        match self.store.remove(&self.done) {
            Ok(()) => self.done.clear(),
            // They are told again after the next connection, under their ids.
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// Hands events over, as many as the session takes. True when there were any.
    fn hand_over(&mut self) -> bool {
        let now = now();
        let Some((behind, limit)) = self.session.wants_events(now) else { return false };
        let waiting = match self.store.events_after(behind, limit) {
            Ok(waiting) => waiting,
            Err(error) => {
                self.trouble(error.to_string());
                return false;
            }
        };
        let any = !waiting.is_empty();
        for event in waiting {
            self.session.event(event.row, event.document, now);
        }
        any
    }
}

/// What the keeper says next; never anything where there is none.
async fn next_word(identity: &mut Option<Line>) -> Word {
    match identity {
        Some(identity) => match identity.words.recv().await {
            Some(word) => word,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// The runtime's clock, so that tests can let time go by in a moment.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Jitter of a box's own, the same each time: boxes that lose their broker together come back apart.
fn seed(name: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
