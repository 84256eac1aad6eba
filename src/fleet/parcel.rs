//! What a command told in parts: they go out one after the other, behind everything else, and the command is done when the
//! bus has the last. Whole or not at all: where the bus does not take one, the command has failed, and is asked again.

use super::bus::Bus;
use super::telemetry::{Document, Failure, Id, Outcome};
use super::{Loop, now};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The bus takes a part within this, or the command has failed.
const SLOW_MAX: Duration = Duration::from_secs(30);

/// Parts on their way, as a pure machine.
pub(super) struct Parcel {
    command: Id,
    outcome: Outcome,
    parts: VecDeque<Document>,
    is_on_its_way: bool,
    until: Instant,
}

impl Parcel {
    /// What this command told, and how it ends once all of it is told.
    pub fn new(command: Id, outcome: Outcome, parts: Vec<Document>, now: Instant) -> Parcel {
        Parcel { command, outcome, parts: parts.into(), is_on_its_way: false, until: now + SLOW_MAX }
    }

    /// The part that is told next, when the bus `has_room`.
    pub fn next(&mut self, has_room: bool) -> Option<(Id, Document)> {
        if self.is_on_its_way || !has_room {
            return None;
        }
        let part = self.parts.front()?.clone();
        self.is_on_its_way = true;
        Some((self.command, part))
    }

    /// True while a part of it, which this command told, waits for its acknowledgement.
    pub fn awaits(&self, command: Id) -> bool {
        self.is_on_its_way && self.command == command
    }

    /// The bus has the part, or does not take it.
    pub fn taken(&mut self, is_taken: bool, now: Instant) {
        self.is_on_its_way = false;
        if is_taken {
            self.parts.pop_front();
            self.until = now + SLOW_MAX;
        } else {
            self.fail();
        }
    }

    /// The connection is gone: the part is told again.
    pub fn lost(&mut self) {
        self.is_on_its_way = false;
    }

    fn fail(&mut self) {
        self.parts.clear();
        self.outcome = Outcome::Failed { failure: Failure::Bus };
    }

    /// How the command ended, once it has.
    pub fn ended(&mut self, now: Instant) -> Option<(Id, Outcome)> {
        if self.until <= now {
            self.fail();
        }
        self.parts.is_empty().then(|| (self.command, self.outcome.clone()))
    }

    /// The next moment at which something is to be done.
    pub fn poll_timeout(&self) -> Instant {
        self.until
    }
}

impl<B: Bus> Loop<B> {
    /// Tells what a command told in parts.
    pub(super) fn tell_parcel(&mut self) {
        let Some(parcel) = &mut self.parcel else { return };
        if let Some(ended) = parcel.ended(now()) {
            self.parcel = None;
            self.commands.unwritten.push_back(ended);
            self.commands.is_due = true;
        } else if let Some((command, part)) = parcel.next(self.session.wants_log()) {
            self.session.log(&command, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(parts: usize, now: Instant) -> Parcel {
        let parts = (0..parts).map(|n| Document::stored(vec![n as u8])).collect();
        Parcel::new(Id::make(), Outcome::Done, parts, now)
    }

    #[test]
    fn parts_go_one_by_one_and_again_after_a_loss_and_then_it_is_done() {
        let now = Instant::now();
        let mut parcel = parcel(2, now);
        let next = |parcel: &mut Parcel| parcel.next(true).map(|(_, part)| part.bytes().to_vec());
        assert!(!parcel.awaits(parcel.command), "nothing was told yet");
        assert!(parcel.next(false).is_none());
        assert_eq!(next(&mut parcel), Some(vec![0]));
        assert!(parcel.awaits(parcel.command) && !parcel.awaits(Id::make()), "a live log has ids of its own");
        assert_eq!(next(&mut parcel), None);
        parcel.lost();
        assert_eq!(next(&mut parcel), Some(vec![0]));
        parcel.taken(true, now);
        assert_eq!(next(&mut parcel), Some(vec![1]));
        assert!(parcel.ended(now).is_none(), "not before the bus has the last");
        parcel.taken(true, now);
        assert!(matches!(parcel.ended(now), Some((_, Outcome::Done))));
    }

    #[test]
    fn i12_a_bus_that_does_not_take_it_ends_it() {
        let now = Instant::now();
        let failed =
            |parcel: &mut Parcel, at| matches!(parcel.ended(at), Some((_, Outcome::Failed { failure: Failure::Bus })));
        let mut refused = parcel(2, now);
        refused.next(true);
        refused.taken(false, now);
        assert!(failed(&mut refused, now));
        let mut slow = parcel(2, now);
        slow.next(true);
        assert!(!failed(&mut slow, now + SLOW_MAX / 2));
        assert!(failed(&mut slow, now + SLOW_MAX));
    }
}
