//! The live log: lines of it as they come, to whoever asked for them by a command, for a bounded time and number.
//!
//! Nothing waits for it. A line is kept in the ring of [`super::log`] in any case, and the fleet's thread reads there what
//! is new, twice a second: `AT_ONCE` lines at most, which bounds the rate. What falls out of the ring before it was told
//! is counted as dropped, and told so. There is one session at a time; another takes its place.
//!
//! One chunk is on its way at a time, at least once: its acknowledgement is what shows that the bus follows. Where none comes
//! for `SLOW_MAX` the session is over; so it is where the broker says that nobody listens. A chunk that was not
//! acknowledged when a connection ended is told again, with the same numbers.

use super::bus::Bus;
use super::telemetry::{Document, Id, LogChunk, LogEnd, LogFacts, Name, What};
use super::{Loop, log, now};
use std::time::{Duration, Instant};

/// A session lasts this long at most, seconds.
pub const SECONDS_MAX: u32 = 3600;
/// Lines of a session at most.
pub const LINES_MAX: u32 = 10_000;
/// Lines of a chunk at most, and how often there is one: 40 lines a second.
const AT_ONCE: usize = 20;
const TICK: Duration = Duration::from_millis(500);
/// The bus takes a chunk within this, or it is too slow to be asked for more.
const SLOW_MAX: Duration = Duration::from_secs(10);

/// A session, as a pure machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    session: Id,
    until: Instant,
    left: usize,
    /// The line of the ring that is told next.
    next: u64,
    told: u64,
    dropped: u64,
    /// Where `next`, `told` and `dropped` stand when the chunk on its way was taken.
    on_its_way: Option<(u64, u64, u64)>,
    /// Lines wait to be told since this moment.
    waits_since: Option<Instant>,
    tick_at: Instant,
    is_over: Option<LogEnd>,
}

impl Tail {
    /// A session from the line of this number on.
    pub fn open(session: Id, (seconds, lines): (u32, u32), next: u64, now: Instant) -> Tail {
        Tail {
            session,
            until: now + Duration::from_secs(u64::from(seconds.min(SECONDS_MAX))),
            left: usize::try_from(lines.min(LINES_MAX)).unwrap_or_default(),
            next,
            told: 0,
            dropped: 0,
            on_its_way: None,
            waits_since: None,
            tick_at: now,
            is_over: None,
        }
    }

    /// From which line on, and how many; none when nothing is to be told now.
    pub fn wants(&self, now: Instant) -> Option<(u64, usize)> {
        let is_free = self.on_its_way.is_none() && self.is_over.is_none() && self.tick_at <= now;
        is_free.then(|| (self.next, self.left.min(AT_ONCE)))
    }

    /// There are these lines, of which the first has this number. Says them when the bus `has_room`.
    pub fn lines(&mut self, first: u64, lines: Vec<LogFacts>, has_room: bool, now: Instant) -> Option<LogChunk> {
        self.tick_at = now + TICK;
        if lines.is_empty() {
            return None;
        }
        self.waits_since.get_or_insert(now);
        if !has_room {
            return None;
        }
        let dropped = self.dropped + first.saturating_sub(self.next);
        let count = lines.len() as u64;
        self.on_its_way = Some((first + count, self.told + count, dropped));
        Some(LogChunk { session: self.session, from: self.told, dropped, lines })
    }

    /// The bus has the chunk.
    pub fn taken(&mut self) {
        let Some((next, told, dropped)) = self.on_its_way.take() else { return };
        self.left = self.left.saturating_sub(usize::try_from(told - self.told).unwrap_or_default());
        (self.next, self.told, self.dropped) = (next, told, dropped);
        self.waits_since = None;
        if self.left == 0 {
            self.end(LogEnd::Lines);
        }
    }

    /// The bus does not take it, or nobody listens.
    pub fn refused(&mut self) {
        self.on_its_way = None;
        self.end(LogEnd::Nobody);
    }

    /// The connection is gone, and with it the chunk.
    pub fn lost(&mut self) {
        self.on_its_way = None;
    }

    /// It is to end, for this reason, unless there was one before.
    pub fn end(&mut self, why: LogEnd) {
        self.is_over.get_or_insert(why);
    }

    /// What is told once it is over. A chunk on its way has until then to be taken.
    pub fn ended(&self, now: Instant) -> Option<What> {
        let is_slow = self.waits_since.is_some_and(|since| since + SLOW_MAX <= now);
        let why = match self.is_over {
            Some(why) => why,
            None if is_slow => LogEnd::Slow,
            None if self.until <= now && self.on_its_way.is_none() => LogEnd::Time,
            None => return None,
        };
        Some(What::LogEnded { session: self.session, lines: self.told, dropped: self.dropped, why })
    }

    /// The next moment at which something is to be done.
    pub fn poll_timeout(&self) -> Instant {
        let next = if self.on_its_way.is_some() { self.waits_since.map(|since| since + SLOW_MAX) } else { None };
        next.unwrap_or(self.tick_at.min(self.until))
    }
}

impl<B: Bus> Loop<B> {
    /// Somebody wants to see the log.
    pub(super) fn open_tail(&mut self, session: Id, bounds: (u32, u32)) {
        self.end_tail(LogEnd::Replaced);
        self.tail = Some(Tail::open(session, bounds, log::next(), now()));
    }

    /// Ends the session there is, if any.
    pub(super) fn end_tail(&mut self, why: LogEnd) {
        self.tail.iter_mut().for_each(|tail| tail.end(why));
        self.tell_tail();
    }

    /// Tells what is new in the log, when somebody wants to see it.
    pub(super) fn tell_tail(&mut self) {
        let now = now();
        let Some(tail) = &mut self.tail else { return };
        if let Some(ended) = tail.ended(now) {
            self.tail = None;
            return self.keep(vec![ended]);
        }
        let Some((from, most)) = tail.wants(now) else { return };
        let (first, lines) = log::since(from, most);
        let known: Vec<Name> = if lines.is_empty() { Vec::new() } else { self.snapshot.sources().names() };
        let facts = lines.iter().map(|line| line.facts(&known)).collect();
        if let Some(chunk) = tail.lines(first, facts, self.session.wants_log(), now) {
            self.session.log(&chunk.session, Document::of(&chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many lines of a log.
    fn some(count: usize) -> Vec<LogFacts> {
        vec![LogFacts::for_tests(); count]
    }

    fn ended(tail: &Tail, now: Instant) -> Option<(u64, u64, LogEnd)> {
        match tail.ended(now) {
            Some(What::LogEnded { lines, dropped, why, .. }) => Some((lines, dropped, why)),
            _ => None,
        }
    }

    #[test]
    fn i10_a_session_ends_by_its_number_of_lines_and_is_told_no_faster_than_it_may() {
        let mut now = Instant::now();
        let mut tail = Tail::open(Id::make(), (60, 50), 100, now);
        let mut told = Vec::new();
        while ended(&tail, now).is_none() {
            let (from, most) = tail.wants(now).unwrap();
            let chunk = tail.lines(from, some(most), true, now).unwrap();
            told.push((from, chunk.from, chunk.lines.len()));
            assert_eq!(tail.wants(now + TICK), None, "one at a time");
            tail.taken();
            assert_eq!(tail.wants(now), None, "no faster");
            now += TICK;
        }
        assert_eq!(told, [(100, 0, 20), (120, 20, 20), (140, 40, 10)]);
        assert_eq!(ended(&tail, now), Some((50, 0, LogEnd::Lines)));
    }

    #[test]
    fn a_session_ends_by_its_time_and_no_session_is_longer_than_the_longest() {
        let now = Instant::now();
        let tail = Tail::open(Id::make(), (u32::MAX, u32::MAX), 0, now);
        let longest = Duration::from_secs(u64::from(SECONDS_MAX));
        assert_eq!(ended(&tail, now + longest - TICK), None);
        assert_eq!(ended(&tail, now + longest), Some((0, 0, LogEnd::Time)));
        assert!(tail.left <= LINES_MAX as usize);
    }

    #[test]
    fn what_fell_out_of_the_ring_is_counted_once_and_what_was_not_taken_is_told_again() {
        let now = Instant::now();
        let mut tail = Tail::open(Id::make(), (60, 1000), 10, now);
        let chunk = tail.lines(17, some(20), true, now).unwrap();
        assert_eq!((chunk.from, chunk.dropped), (0, 7));
        tail.lost();
        let later = now + TICK;
        assert_eq!(tail.wants(later), Some((10, 20)));
        let chunk = tail.lines(19, some(20), true, later).unwrap();
        assert_eq!((chunk.from, chunk.dropped), (0, 9), "the same numbers, and what fell out meanwhile");
        tail.taken();
        let chunk = tail.lines(39, some(1), true, later + TICK).unwrap();
        assert_eq!((chunk.from, chunk.dropped), (20, 9));
    }

    #[test]
    fn i12_a_slow_bus_ends_it_and_so_does_one_where_nobody_listens() {
        let now = Instant::now();
        let open = || Tail::open(Id::make(), (60, 1000), 0, now);
        // Not acknowledged; not even handed over; lost and lost again.
        let mut silent = open();
        silent.lines(0, some(3), true, now).unwrap();
        let mut full = open();
        assert!(full.lines(0, some(3), false, now).is_none());
        let mut flapping = open();
        for second in 0..9 {
            flapping.lines(0, some(3), true, now + Duration::from_secs(second)).unwrap();
            flapping.lost();
        }
        for tail in [&silent, &full, &flapping] {
            assert_eq!(ended(tail, now + SLOW_MAX - TICK), None);
            assert_eq!(ended(tail, now + SLOW_MAX), Some((0, 0, LogEnd::Slow)));
        }
        assert_eq!(silent.poll_timeout(), now + SLOW_MAX);
        let mut unheard = open();
        unheard.lines(0, some(3), true, now).unwrap();
        unheard.refused();
        assert_eq!(ended(&unheard, now), Some((0, 0, LogEnd::Nobody)));
        // A log in which nothing happens is not slow.
        let mut quiet = open();
        assert!(quiet.lines(0, some(0), true, now).is_none());
        assert_eq!(ended(&quiet, now + SLOW_MAX), None);
    }
}
