//! The session with the broker: a pure machine. What happened goes in with the time; what is to be done comes out.
//!
//! What it keeps up, whatever the broker does:
//!
//! - **birth, state, then the rest.** Each connection begins with the subscription, the birth and the state, in this
//!   order, before anything else is said.
//! - **retained documents** are published when they change, no more often than every [`CHANGE_INTERVAL`], one by one;
//!   all of them anew when the broker has lost the session, because then it may have lost them as well.
//! - **events** are taken from the outbox in order; a row is done when the broker has acknowledged it
//!   ([`Output::Done`]). After a lost connection it is sent again.
//! - **in flight** are never more than [`IN_FLIGHT_MAX`] publishes that want an acknowledgement.
//! - **downlink.** A broker that forbids a subscription says nothing of it, so the box asks for an echo, a few times
//!   over. Nobody answers where there is no desk: that is no reason to stop. A desk that comes later says so with an
//!   empty echo, and the box asks again.
//! - **back-off** between connections, with jitter, 2 s to 5 min; a connection that did not last counts as a failure.

use super::bus::{PublishId, Quality, Receipt};
use super::telemetry::{Document, Downlink, Echo, Id, State};
use super::topic::{Down, Place, Up};
use crate::backoff::Backoff;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Publishes that wait for their acknowledgement at most.
pub const IN_FLIGHT_MAX: usize = 16;
/// A retained document is published no more often.
pub const CHANGE_INTERVAL: Duration = Duration::from_secs(5);
/// What the broker refused is tried again after this.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// An echo is asked for this often, and is missing after this.
pub const ECHO_INTERVAL: Duration = Duration::from_secs(300);
pub const ECHO_TIMEOUT: Duration = Duration::from_secs(30);
/// The question is repeated this often until then: a desk that comes a moment after it has not heard it.
const ECHO_REPEAT: Duration = Duration::from_secs(5);
/// When a desk says that it is here, the question that is under way gets this long before another is asked.
pub const ECHO_AGAIN: Duration = Duration::from_secs(1);
/// A connection that lasted this long was a good one.
const LASTED: Duration = Duration::from_secs(30);
/// Between two connections.
const RECONNECT_MIN: Duration = Duration::from_secs(2);
/// The longest a box waits until it dials a broker that is there again.
pub const RECONNECT_MAX: Duration = Duration::from_secs(300);
/// How long a stop waits until the broker knows of it.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Retained documents of one box at most; a box has a few links.
const RETAINED_MAX: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial the broker, leaving this will with it.
    Connect {
        /// What the broker publishes as the state when the box is gone.
        will: Document,
    },
    /// Ask for everything the box is told.
    Subscribe,
    /// Publish.
    Publish {
        /// What the acknowledgement will name; none for [`Quality::AtMostOnce`].
        id: PublishId,
        /// On which topic.
        topic: Up,
        /// What.
        document: Document,
        /// How.
        quality: Quality,
    },
    /// The broker has the event of this row of the outbox.
    Done(i64),
    /// The box was told something. It is to be acknowledged with this receipt once it is safe.
    Told(Down, Vec<u8>, Receipt),
    /// This is of no use and may be acknowledged at once.
    Acknowledge(Receipt),
    /// Hang up, for good. Without having said so, the will shall say it.
    Disconnect {
        /// The broker knows that the box goes.
        has_said_so: bool,
    },
    /// Whether the downlink works has changed.
    Downlink(Downlink),
    /// What became of lines of the log: the broker has them for somebody, or not.
    Log(Id, bool),
}

/// See the module docs.
pub struct Session {
    place: Place,
    epoch: u64,
    phase: Phase,
    backoff: Backoff,
    birth: Slot,
    state: Slot,
    /// Everything else that is retained.
    rest: BTreeMap<Up, Slot>,
    /// What goes out once, at most once.
    once: Option<Document>,
    in_flight: BTreeMap<PublishId, Flight>,
    in_flight_max: usize,
    next_id: PublishId,
    /// Events behind this row have not been handed over on this connection.
    events_behind: i64,
    events_refused_until: Option<Instant>,
    echo: Asked,
    echoes: u64,
    answered: u64,
    downlink: Downlink,
    /// The state is that the box is gone.
    says_farewell: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Dials at this moment.
    Waiting(Instant),
    Connecting,
    Up {
        since: Instant,
    },
    /// Says that it goes, and hangs up when the broker knows, or at this moment.
    Stopping {
        until: Instant,
    },
    Stopped,
}

/// A retained document and what the broker has of it.
struct Slot {
    document: Document,
    /// Counts the changes.
    revision: u64,
    held: Option<u64>,
    sent: Option<u64>,
    /// Not before this moment.
    not_before: Option<Instant>,
    /// Published on this connection.
    is_said: bool,
}

enum Flight {
    Birth(u64),
    State(u64),
    Rest(Up, u64),
    Event(i64),
    Echo,
    Log(Id),
}

#[derive(Default)]
struct Asked {
    question: Option<Document>,
    /// When it is asked next, or its answer is missing.
    due: Option<Instant>,
    /// When it was published last.
    sent: Option<Instant>,
    /// When it is due another is asked, though this one has no answer.
    is_asked_again: bool,
}

impl Session {
    /// A session that dials at once. `seed` is for the jitter.
    pub fn new(place: Place, epoch: u64, birth: Document, now: Instant, seed: u64) -> Session {
        let state = State { online: true, epoch, downlink: Some(Downlink::Unproven) };
        Session {
            place,
            epoch,
            phase: Phase::Waiting(now),
            backoff: Backoff::seeded(RECONNECT_MIN, RECONNECT_MAX, seed),
            birth: Slot::new(birth),
            state: Slot::new(Document::of(&state)),
            rest: BTreeMap::new(),
            once: None,
            in_flight: BTreeMap::new(),
            in_flight_max: IN_FLIGHT_MAX,
            next_id: PublishId::FIRST,
            events_behind: 0,
            events_refused_until: None,
            echo: Asked::default(),
            echoes: 0,
            answered: 0,
            downlink: Downlink::Unproven,
            says_farewell: false,
            outputs: VecDeque::new(),
        }
    }

    /// The broker let the box in. `session_present` is what it says of the session; it takes this many publishes at
    /// once.
    pub fn connected(&mut self, session_present: bool, in_flight_max: usize, now: Instant) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Up { since: now };
        self.in_flight_max = in_flight_max.clamp(1, IN_FLIGHT_MAX);
        // The will may have taken the place of the state meanwhile, and a birth belongs to each connection.
        self.birth.forget();
        self.state.forget();
        if !session_present {
            self.rest.values_mut().for_each(Slot::forget);
        }
        self.events_behind = 0;
        self.events_refused_until = None;
        self.echo = Asked { due: Some(now), ..Asked::default() };
        self.outputs.push_back(Output::Subscribe);
        self.pump(now);
    }

    /// The box is another: it says so.
    pub fn reborn(&mut self, birth: Document, now: Instant) {
        self.birth.change(birth);
        self.pump(now);
    }

    /// Asks for an echo now, whenever the next was due.
    pub fn ask(&mut self, now: Instant) {
        if self.is_up() {
            self.echo = Asked { due: Some(now), ..Asked::default() };
            self.pump(now);
        }
    }

    /// Echoes that were answered.
    pub fn echoes_answered(&self) -> u64 {
        self.answered
    }

    /// The broker let the box in on another connection, which takes the place of the one there was, if there was one; it is
    /// as one that was just made. Says whether it is used: a box that stops does not.
    pub fn replaced(&mut self) -> bool {
        match self.phase {
            Phase::Stopping { .. } | Phase::Stopped => return false,
            Phase::Up { .. } | Phase::Connecting | Phase::Waiting(_) => self.phase = Phase::Connecting,
        }
        self.forget_flight();
        true
    }

    /// A box that waits to dial does so now: something has changed.
    pub fn hurry(&mut self, now: Instant) {
        if let Phase::Waiting(at) = &mut self.phase {
            *at = (*at).min(now);
        }
    }

    /// What the broker says when the box is gone without a word.
    pub fn will(&self) -> Document {
        Document::of(&State { online: false, epoch: self.epoch, downlink: None })
    }

    /// Says everything that is retained anew.
    pub fn say_all(&mut self, now: Instant) {
        self.birth.forget();
        self.state.forget();
        self.rest.values_mut().for_each(Slot::forget);
        self.pump(now);
    }

    /// The broker has what was published under this id.
    pub fn acknowledged(&mut self, id: PublishId, now: Instant) {
        match self.in_flight.remove(&id) {
            Some(Flight::Birth(revision)) => self.birth.acknowledged(revision),
            Some(Flight::State(revision)) => self.state.acknowledged(revision),
            Some(Flight::Rest(topic, revision)) => {
                self.rest.get_mut(&topic).into_iter().for_each(|slot| slot.acknowledged(revision));
                // What was taken back is not said again.
                self.rest.retain(|_, slot| !(slot.is_held() && slot.document == Document::nothing()));
            }
            Some(Flight::Event(row)) => self.outputs.push_back(Output::Done(row)),
            Some(Flight::Log(of)) => self.outputs.push_back(Output::Log(of, true)),
            Some(Flight::Echo) | None => {}
        }
        if matches!(self.phase, Phase::Stopping { .. }) && self.state.is_held() {
            return self.hang_up();
        }
        self.pump(now);
    }

    /// The broker does not take what was published under this id.
    pub fn refused(&mut self, id: PublishId, now: Instant) {
        let later = now + REFUSED_PAUSE;
        match self.in_flight.remove(&id) {
            Some(Flight::Birth(_)) => self.birth.refused(later),
            Some(Flight::State(_)) => self.state.refused(later),
            Some(Flight::Rest(topic, _)) => {
                self.rest.get_mut(&topic).into_iter().for_each(|slot| slot.refused(later));
            }
            Some(Flight::Event(_)) => self.events_refused_until = Some(later),
            Some(Flight::Log(of)) => self.outputs.push_back(Output::Log(of, false)),
            Some(Flight::Echo) | None => {}
        }
        if matches!(self.phase, Phase::Stopping { .. }) {
            return self.hang_up();
        }
        self.pump(now);
    }

    /// Something came.
    pub fn received(&mut self, topic: &str, payload: Vec<u8>, receipt: Receipt, now: Instant) {
        let told = self.place.is_told(topic);
        if told.is_some() && self.events_refused_until.take().is_some() {
            // Somebody speaks, and so may listen: what nobody took is not held back from them.
            self.events_behind = 0;
        }
        match told {
            // A desk is here that may have come after the last question.
            Some(Down::Echo) if payload.is_empty() => {
                if self.downlink == Downlink::Unproven && self.is_up() {
                    self.echo.is_asked_again = true;
                    self.echo.due = Some(self.echo.due.map_or(now, |due| due.min(now + ECHO_AGAIN)));
                }
                self.outputs.push_back(Output::Acknowledge(receipt));
            }
            Some(Down::Echo) => {
                if self.echo.question.as_ref().is_some_and(|question| question.bytes() == payload) {
                    self.echo = Asked { due: Some(now + ECHO_INTERVAL), ..Asked::default() };
                    self.answered += 1;
                    self.set_downlink(Downlink::Proven);
                }
                self.outputs.push_back(Output::Acknowledge(receipt));
            }
            Some(down) => self.outputs.push_back(Output::Told(down, payload, receipt)),
            None => self.outputs.push_back(Output::Acknowledge(receipt)),
        }
        self.pump(now);
    }

    /// The connection is gone, or was not made.
    pub fn lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Up { since } if now.saturating_duration_since(since) >= LASTED => self.backoff.succeeded(),
            Phase::Up { .. } | Phase::Connecting => {}
            Phase::Stopping { .. } => return self.phase = Phase::Stopped,
            Phase::Waiting(_) | Phase::Stopped => return,
        }
        self.phase = Phase::Waiting(now + self.backoff.failed());
        self.forget_flight();
    }

    /// What was under way on a connection that is gone.
    fn forget_flight(&mut self) {
        self.in_flight.clear();
        for slot in [&mut self.birth, &mut self.state].into_iter().chain(self.rest.values_mut()) {
            slot.sent = None;
            slot.is_said = false;
        }
        self.once = None;
        self.set_downlink(Downlink::Unproven);
    }

    /// A retained document is this now; the same as before is no change.
    pub fn changed(&mut self, topic: Up, document: Document, now: Instant) {
        if self.rest.len() < RETAINED_MAX || self.rest.contains_key(&topic) {
            self.rest.entry(topic).or_insert_with(|| Slot::new(document.clone())).change(document);
        }
        self.pump(now);
    }

    /// Counters, which nobody needs when they come late.
    pub fn beat(&mut self, metrics: Document, now: Instant) {
        if self.is_up() {
            self.once = Some(metrics);
            self.pump(now);
        }
    }

    /// How many events behind which row of the outbox may be handed over now.
    pub fn wants_events(&self, now: Instant) -> Option<(i64, usize)> {
        let is_free = self.is_up() && self.state.is_said && self.events_refused_until.is_none_or(|until| until <= now);
        // One place is left for what is retained.
        let room =
            self.in_flight_max.saturating_sub(self.in_flight.len() + 1).max(usize::from(self.in_flight.is_empty()));
        (is_free && room > 0).then_some((self.events_behind, room))
    }

    /// An event of the outbox; those behind [`Session::wants_events`], in order. One that is on its way is passed over.
    pub fn event(&mut self, row: i64, document: Document, now: Instant) {
        if self.wants_events(now).is_none() {
            return;
        }
        self.events_behind = self.events_behind.max(row);
        let is_on_its_way =
            self.in_flight.values().any(|flight| matches!(flight, Flight::Event(other) if *other == row));
        if !is_on_its_way {
            self.publish(Up::Event, document, Flight::Event(row));
        }
    }

    /// Whether lines of the log may be handed over now: they stand behind everything else.
    pub fn wants_log(&self) -> bool {
        self.is_up() && self.state.is_said && self.in_flight.is_empty()
    }

    /// Lines of the log, when [`Session::wants_log`]. What became of them is [`Output::Log`], unless the connection is lost.
    pub fn log(&mut self, session: &Id, lines: Document) {
        if self.wants_log() {
            self.publish(Up::Log(session.to_string()), lines, Flight::Log(*session));
        }
    }

    /// The box goes.
    pub fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Up { .. } => {
                self.phase = Phase::Stopping { until: now + STOP_GRACE };
                let gone = State { online: false, epoch: self.epoch, downlink: None };
                self.says_farewell = true;
                self.state.change(Document::of(&gone));
                (self.state.sent, self.state.not_before) = (None, None);
                self.pump(now);
            }
            Phase::Connecting => self.hang_up(),
            Phase::Waiting(_) => self.phase = Phase::Stopped,
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
    }

    /// A moment came that [`Session::poll_timeout`] asked for.
    pub fn timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Waiting(at) if at <= now => {
                self.phase = Phase::Connecting;
                self.outputs.push_back(Output::Connect { will: self.will() });
            }
            Phase::Stopping { until } if until <= now => self.hang_up(),
            _ => {}
        }
        if self.events_refused_until.is_some_and(|until| until <= now) {
            self.events_refused_until = None;
            self.events_behind = 0;
        }
        self.pump(now);
    }

    /// The next moment at which something is to be done.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Stopping { until } => Some(until),
            Phase::Up { .. } => {
                // What cannot be said for want of room is said when something is acknowledged, not at a moment.
                let slots = [&self.birth, &self.state].into_iter().filter(|_| self.has_room());
                let rest = self.rest.values().filter(|_| self.has_room() && self.state.is_said);
                let slots = slots.chain(rest).filter(|slot| slot.is_due()).filter_map(|slot| slot.not_before);
                slots.chain(self.echo.due).chain(self.echo_repeats()).chain(self.events_refused_until).min()
            }
            Phase::Connecting | Phase::Stopped => None,
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// True while the broker is there.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// True when the broker has the birth and the state.
    pub fn is_announced(&self) -> bool {
        self.birth.is_held() && self.state.is_held()
    }

    /// True when nothing will be done any more.
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Whether what the box is told reaches it.
    pub fn downlink(&self) -> Downlink {
        self.downlink
    }

    /// Says everything that can be said now.
    fn pump(&mut self, now: Instant) {
        match self.phase {
            Phase::Up { .. } => {}
            Phase::Stopping { .. } => return self.say_state(now),
            Phase::Waiting(_) | Phase::Connecting | Phase::Stopped => return,
        }
        if self.echo.due.is_some_and(|due| due <= now) {
            self.ask_or_miss(now);
        }
        if self.birth.is_ready(now) && self.has_room() {
            let (document, revision) = self.birth.say(now);
            self.publish(Up::Birth, document, Flight::Birth(revision));
        }
        self.say_state(now);
        if !self.state.is_said {
            return;
        }
        let ready: Vec<Up> =
            self.rest.iter().filter(|(_, slot)| slot.is_ready(now)).map(|(up, _)| up.clone()).collect();
        for topic in ready {
            if !self.has_room() {
                break;
            }
            if let Some(slot) = self.rest.get_mut(&topic) {
                let (document, revision) = slot.say(now);
                self.publish(topic.clone(), document, Flight::Rest(topic, revision));
            }
        }
        let is_due = self.echo.sent.is_none() || self.echo_repeats().is_some_and(|at| at <= now);
        if let Some(question) = self.echo.question.clone().filter(|_| is_due && self.has_room()) {
            self.echo.sent = Some(now);
            self.publish(Up::Echo, question, Flight::Echo);
        }
        if let Some(document) = self.once.take() {
            let (id, quality) = (self.next_id, Quality::AtMostOnce);
            self.outputs.push_back(Output::Publish { id, topic: Up::Metrics, document, quality });
        }
    }

    /// It comes behind the birth, each time.
    fn say_state(&mut self, now: Instant) {
        if self.birth.is_said && self.state.is_ready(now) && self.has_room() {
            let (document, revision) = self.state.say(now);
            self.publish(Up::State, document, Flight::State(revision));
        }
    }

    fn ask_or_miss(&mut self, now: Instant) {
        if self.echo.question.is_some() && !self.echo.is_asked_again {
            self.echo = Asked { due: Some(now + ECHO_INTERVAL), ..Asked::default() };
            return self.set_downlink(Downlink::Unproven);
        }
        self.echoes += 1;
        let question = Document::of(&Echo { epoch: self.epoch, echo: self.echoes });
        self.echo = Asked { question: Some(question), due: Some(now + ECHO_TIMEOUT), ..Asked::default() };
    }

    /// When the question is repeated; the broker has the last one.
    fn echo_repeats(&self) -> Option<Instant> {
        let is_on_its_way = self.in_flight.values().any(|flight| matches!(flight, Flight::Echo));
        let sent = self.echo.question.as_ref().and(self.echo.sent);
        sent.filter(|_| !is_on_its_way && self.has_room()).map(|at| at + ECHO_REPEAT)
    }

    fn set_downlink(&mut self, downlink: Downlink) {
        if std::mem::replace(&mut self.downlink, downlink) != downlink {
            // The last word is that it goes.
            if !self.says_farewell {
                let state = State { online: true, epoch: self.epoch, downlink: Some(downlink) };
                self.state.change(Document::of(&state));
            }
            self.outputs.push_back(Output::Downlink(downlink));
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.in_flight_max
    }

    fn publish(&mut self, topic: Up, document: Document, flight: Flight) {
        let id = self.next_id;
        self.next_id = id.next();
        self.in_flight.insert(id, flight);
        let quality = match topic {
            Up::Event | Up::Log(_) => Quality::UntilHeard,
            _ if topic.is_retained() => Quality::Retained,
            _ => Quality::AtLeastOnce,
        };
        self.outputs.push_back(Output::Publish { id, topic, document, quality });
    }

    fn hang_up(&mut self) {
        self.phase = Phase::Stopped;
        self.outputs.push_back(Output::Disconnect { has_said_so: self.says_farewell && self.state.is_held() });
    }
}

impl Slot {
    fn new(document: Document) -> Slot {
        Slot { document, revision: 1, held: None, sent: None, not_before: None, is_said: false }
    }

    fn change(&mut self, document: Document) {
        if document != self.document {
            self.document = document;
            self.revision += 1;
        }
    }

    fn is_held(&self) -> bool {
        self.held == Some(self.revision)
    }

    fn is_due(&self) -> bool {
        self.sent.is_none() && !self.is_held()
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.is_due() && self.not_before.is_none_or(|at| at <= now)
    }

    fn say(&mut self, now: Instant) -> (Document, u64) {
        self.sent = Some(self.revision);
        self.is_said = true;
        self.not_before = Some(now + CHANGE_INTERVAL);
        (self.document.clone(), self.revision)
    }

    fn acknowledged(&mut self, revision: u64) {
        self.held = Some(revision);
        self.sent = None;
    }

    fn refused(&mut self, later: Instant) {
        self.sent = None;
        self.not_before = Some(later);
    }

    /// The broker may have nothing of it any more.
    fn forget(&mut self) {
        *self = Slot { revision: self.revision, ..Slot::new(self.document.clone()) };
    }
}

#[cfg(test)]
mod tests;
