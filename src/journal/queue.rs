//! Which commands share the next commit. No clock, no channel, no database: the writer thread tells it the time.
//!
//! **Custody first.** An instrument stands still until it is acknowledged; filing, handing out and settling can wait a
//! few milliseconds, and are cheaper together because they write to the same pages. So they join a commit when nobody
//! waits for an acknowledgement, or when they have waited long enough themselves.
//!
//! **Company.** A link that was answered sends again a moment later. When several links are about, the next group
//! stays open for that moment, until as many have come as were there last time; then one commit serves them all. On a
//! slow disk this is more than thrift: two links out of step would each wait for the other's commit as well as their
//! own, every time, and miss their peers' timers for ever. For the same reason work does not take the disk in the very
//! moment in which links that were answered are about to need it. A lone link never waits for company (invariant I3).

use super::writer::{Command, Kind};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most commands of custody in one commit.
const CUSTODY_MAX: usize = 64;
/// Most other commands in a commit that instruments wait for, and in one that they do not.
const WORK_MAX: (usize, usize) = (8, 16);
/// Most bytes of new data in one commit, besides the command that exceeds it.
const BYTES_MAX: usize = 4 << 20;
/// Work waits no longer than this for a moment without custody.
const WORK_WAIT: Duration = Duration::from_millis(5);
/// A group stays open for company for this part of the last commit's time, and within these limits.
const PATIENCE: (u32, Duration, Duration) = (4, Duration::from_micros(100), Duration::from_millis(50));

/// See the module docs.
#[derive(Default)]
pub(super) struct Queue {
    custody: VecDeque<Box<dyn Command>>,
    work: VecDeque<(Instant, Box<dyn Command>)>,
    /// Commands of custody that were about at the last commit: in it, or waiting when it ended.
    company: usize,
    /// Until when the next group stays open for those that were answered.
    open_until: Option<Instant>,
}

/// What the writer does next.
pub(super) enum Next {
    /// Commits these.
    Commit(Vec<Box<dyn Command>>),
    /// Waits for more commands, at most until then.
    Wait(Instant),
    /// Has nothing to do.
    Nothing,
}

impl Queue {
    pub(super) fn push(&mut self, command: Box<dyn Command>, now: Instant) {
        match command.kind() {
            Kind::Custody | Kind::Ending => self.custody.push_back(command),
            Kind::Work | Kind::Draining => self.work.push_back((now, command)),
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let for_company = self.company > 1;
        let for_the_lone_link = self.custody.is_empty() && !self.work.is_empty();
        if let Some(until) = self.open_until.filter(|until| *until > now)
            && self.custody.len() < self.company
            && (for_company || for_the_lone_link)
        {
            return Next::Wait(until);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < CUSTODY_MAX
            && bytes < BYTES_MAX
            && let Some(command) = self.custody.pop_front()
        {
            bytes += command.bytes();
            group.push(command);
        }
        let work_max = match group.is_empty() {
            true => WORK_MAX.1,
            false if self.work.front().is_some_and(|(since, _)| now.duration_since(*since) >= WORK_WAIT) => WORK_MAX.0,
            false => 0,
        };
        group.extend(self.work.drain(..work_max.min(self.work.len())).map(|(_, command)| command));
        match group.is_empty() {
            true => Next::Nothing,
            false => Next::Commit(group),
        }
    }

    /// A commit of so many commands of custody ended; what came meanwhile was pushed.
    pub(super) fn committed(&mut self, custody: usize, took: Duration, now: Instant) {
        self.company = custody + self.custody.len();
        let (part, least, most) = PATIENCE;
        self.open_until = (custody > 0).then(|| now + (took / part).clamp(least, most));
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::Desk;
    use super::super::error::JournalError;
    use super::*;

    struct Stub(Kind);

    impl Command for Stub {
        fn perform(&mut self, _: &mut Desk<'_>) -> Result<(), JournalError> {
            Ok(())
        }
        fn answer(self: Box<Self>, _: Result<(), JournalError>) {}
        fn bytes(&self) -> usize {
            100
        }
        fn kind(&self) -> Kind {
            self.0
        }
    }

    fn queue(now: Instant, kinds: &[Kind]) -> Queue {
        let mut queue = Queue::default();
        kinds.iter().for_each(|kind| queue.push(Box::new(Stub(*kind)), now));
        queue
    }

    fn group(next: Next) -> Vec<Kind> {
        match next {
            Next::Commit(group) => group.iter().map(|c| c.kind()).collect(),
            Next::Wait(_) => panic!("waits"),
            Next::Nothing => Vec::new(),
        }
    }

    const COMMIT: Duration = Duration::from_millis(8);

    #[test]
    fn i3_a_lone_link_never_waits() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody]);
        assert_eq!(group(queue.next(now)), [Kind::Custody]);
        queue.committed(1, COMMIT, now);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        assert_eq!(group(queue.next(now)), [Kind::Custody]);
    }

    #[test]
    fn links_that_were_about_are_waited_for_but_not_for_long() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Custody]);
        assert_eq!(group(queue.next(now)).len(), 2);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        queue.committed(2, COMMIT, now);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        let Next::Wait(until) = queue.next(now) else { panic!("two of three are there") };
        assert_eq!(until, now + COMMIT / PATIENCE.0);
        assert_eq!(group(queue.next(until)).len(), 2);
        queue.committed(2, COMMIT, until);
        queue.push(Box::new(Stub(Kind::Custody)), until);
        queue.push(Box::new(Stub(Kind::Custody)), until);
        assert_eq!(group(queue.next(until)).len(), 2, "all are there");
    }

    #[test]
    fn work_lets_custody_go_first_and_is_not_starved_by_it() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Work, Kind::Draining, Kind::Custody, Kind::Ending]);
        assert_eq!(group(queue.next(now)), [Kind::Custody, Kind::Ending]);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        assert_eq!(group(queue.next(now + WORK_WAIT)), [Kind::Custody, Kind::Work, Kind::Draining]);
        queue.push(Box::new(Stub(Kind::Work)), now);
        assert_eq!(group(queue.next(now)), [Kind::Work], "nobody waits for an acknowledgement");
        assert!(group(queue.next(now)).is_empty());
    }

    #[test]
    fn work_does_not_take_the_disk_just_before_the_link_that_was_answered() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Work]);
        assert_eq!(group(queue.next(now)), [Kind::Custody]);
        queue.committed(1, COMMIT, now);
        let Next::Wait(until) = queue.next(now) else { panic!("the link is about to send again") };
        queue.push(Box::new(Stub(Kind::Custody)), until);
        assert_eq!(group(queue.next(until)), [Kind::Custody], "and work that is not due goes later");
        queue.committed(1, COMMIT, until);
        assert_eq!(group(queue.next(until + COMMIT)), [Kind::Work]);
    }

    #[test]
    fn the_end_of_a_session_keeps_its_place() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Ending, Kind::Custody]);
        assert_eq!(group(queue.next(now)), [Kind::Custody, Kind::Ending, Kind::Custody]);
    }
}
