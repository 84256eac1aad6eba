//! What the writer thread does next: run one more command in the open transaction, wait for company, or commit. No
//! clock, no letter box, no database: the writer thread tells it the time.
//!
//! **Custody first.** An instrument stands still until it is acknowledged; filing, handing out and settling can wait a
//! few milliseconds, and are cheaper together because they write to the same pages. So they gather until there are
//! enough of them or they have waited long enough, unless nobody waits for an acknowledgement. Then they run while the
//! group waits for links.
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
/// Most other commands in one commit.
const WORK_MAX: usize = 16;
/// Most bytes of new data in one commit, besides the command that exceeds it.
const BYTES_MAX: usize = 4 << 20;
/// Work waits no longer than this for a moment without custody.
const WORK_WAIT: Duration = Duration::from_millis(10);
/// A group stays open for company for this part of the last commit's time, and no longer than this.
const PATIENCE: (u32, Duration) = (4, Duration::from_millis(50));

/// See the module docs.
#[derive(Default)]
pub(super) struct Queue {
    custody: VecDeque<Box<dyn Command>>,
    work: VecDeque<(Instant, Box<dyn Command>)>,
    group: Group,
    /// Commands of custody that were about at the last commit: in it, or waiting when it ended.
    company: usize,
    /// Until when the next group stays open for those that were answered.
    open_until: Option<Instant>,
}

/// What the open transaction holds.
#[derive(Default)]
struct Group {
    commands: usize,
    custody: usize,
    work: usize,
    bytes: usize,
}

/// What the writer does next.
pub(super) enum Next {
    /// Runs this in the transaction, which it begins when none is open.
    Perform(Box<dyn Command>),
    /// Waits until so many more commands of custody, or anything else, come, at most until then.
    Wait { custody: usize, until: Instant },
    /// Commits the transaction.
    Commit,
    /// Has nothing to do, and no transaction is open.
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
        let Group { commands, custody, work, bytes } = self.group;
        let has_room = custody < CUSTODY_MAX && bytes < BYTES_MAX;
        if has_room && let Some(command) = self.custody.pop_front() {
            return self.perform(command);
        }
        let awaited = self.open_until.filter(|until| has_room && *until > now && custody < self.company);
        let oldest = self.work.front().map(|(since, _)| now.duration_since(*since));
        let gathered = work > 0 || self.work.len() >= WORK_MAX || oldest.is_some_and(|waited| waited >= WORK_WAIT);
        let nobody_minds = custody == 0 && (awaited.is_none() || self.company <= 1);
        let work_max = if gathered || nobody_minds { WORK_MAX } else { 0 };
        if work < work_max
            && let Some((_, command)) = self.work.pop_front()
        {
            return self.perform(command);
        }
        match awaited {
            // A lone link's next frame is waited for only by work that is there already.
            Some(until) if self.company > 1 || commands > 0 => Next::Wait { custody: self.company - custody, until },
            _ if commands > 0 => Next::Commit,
            _ => Next::Nothing,
        }
    }

    /// True when the last commit served a single link, whose next frame is about to come.
    pub(super) fn is_alone(&self) -> bool {
        self.company == 1
    }

    fn perform(&mut self, command: Box<dyn Command>) -> Next {
        match command.kind() {
            Kind::Custody => self.group.custody += 1,
            Kind::Work | Kind::Draining => self.group.work += 1,
            Kind::Ending => {}
        }
        self.group.commands += 1;
        self.group.bytes += command.bytes();
        Next::Perform(command)
    }

    /// The transaction ended after a commit of this length; what came meanwhile was pushed.
    pub(super) fn committed(&mut self, took: Duration, now: Instant) {
        let custody = std::mem::take(&mut self.group).custody;
        self.company = custody + self.custody.len();
        let (part, most) = PATIENCE;
        self.open_until = (custody > 0).then(|| now + (took / part).min(most));
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

    /// The kinds of what is run until the commit, or panics when the queue would rather wait.
    fn group(queue: &mut Queue, now: Instant) -> Vec<Kind> {
        let mut kinds = Vec::new();
        loop {
            match queue.next(now) {
                Next::Perform(command) => kinds.push(command.kind()),
                Next::Wait { .. } => panic!("waits with {kinds:?}"),
                Next::Commit | Next::Nothing => return kinds,
            }
        }
    }

    /// What is run before the queue waits, for how many, and until when.
    fn waits(queue: &mut Queue, now: Instant) -> (Vec<Kind>, usize, Instant) {
        let mut kinds = Vec::new();
        loop {
            match queue.next(now) {
                Next::Perform(command) => kinds.push(command.kind()),
                Next::Wait { custody, until } => return (kinds, custody, until),
                Next::Commit | Next::Nothing => panic!("does not wait, with {kinds:?}"),
            }
        }
    }

    const COMMIT: Duration = Duration::from_millis(8);

    #[test]
    fn i3_a_lone_link_never_waits() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody]);
        assert_eq!(group(&mut queue, now), [Kind::Custody]);
        queue.committed(COMMIT, now);
        assert!(group(&mut queue, now).is_empty());
        queue.push(Box::new(Stub(Kind::Custody)), now);
        assert_eq!(group(&mut queue, now), [Kind::Custody]);
    }

    #[test]
    fn links_that_were_about_are_waited_for_but_not_for_long() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Custody]);
        assert_eq!(group(&mut queue, now).len(), 2);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        queue.committed(COMMIT, now);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        let (run, missing, until) = waits(&mut queue, now);
        assert_eq!((run.len(), missing, until), (2, 1, now + COMMIT / PATIENCE.0));
        assert!(group(&mut queue, until).is_empty(), "the two are committed");
        queue.committed(COMMIT, until);
        queue.push(Box::new(Stub(Kind::Custody)), until);
        queue.push(Box::new(Stub(Kind::Custody)), until);
        assert_eq!(group(&mut queue, until).len(), 2, "all are there");
    }

    #[test]
    fn work_lets_custody_go_first_and_is_not_starved_by_it() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Work, Kind::Draining, Kind::Custody, Kind::Ending]);
        assert_eq!(group(&mut queue, now), [Kind::Custody, Kind::Ending]);
        queue.committed(Duration::ZERO, now);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        assert_eq!(group(&mut queue, now + WORK_WAIT), [Kind::Custody, Kind::Work, Kind::Draining]);
        queue.committed(Duration::ZERO, now);
        queue.push(Box::new(Stub(Kind::Work)), now);
        assert_eq!(group(&mut queue, now + WORK_WAIT), [Kind::Work], "nobody waits for an acknowledgement");
        queue.committed(Duration::ZERO, now);
        assert!(group(&mut queue, now).is_empty());
    }

    #[test]
    fn work_runs_while_links_are_waited_for_and_does_not_take_the_disk_before_them() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Work]);
        assert_eq!(group(&mut queue, now), [Kind::Custody], "work that is not due goes later");
        queue.committed(COMMIT, now);
        let (run, missing, until) = waits(&mut queue, now);
        assert_eq!((run, missing), (vec![Kind::Work], 1), "the link is about to send again");
        queue.push(Box::new(Stub(Kind::Custody)), until);
        assert_eq!(group(&mut queue, now), [Kind::Custody], "and both are committed together");
        queue.committed(COMMIT, now);
        queue.push(Box::new(Stub(Kind::Work)), now);
        assert_eq!(group(&mut queue, now + COMMIT), [Kind::Work], "the link does not send again");
    }

    #[test]
    fn a_group_is_bounded() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody; CUSTODY_MAX + 1]);
        assert_eq!(group(&mut queue, now).len(), CUSTODY_MAX);
        queue.committed(COMMIT, now);
        for _ in 0..=WORK_MAX {
            queue.push(Box::new(Stub(Kind::Work)), now);
        }
        let (run, missing, _) = waits(&mut queue, now);
        assert_eq!((run.len(), missing), (1 + WORK_MAX, CUSTODY_MAX));
    }

    #[test]
    fn large_messages_do_not_starve_work() {
        struct Large;
        impl Command for Large {
            fn perform(&mut self, _: &mut Desk<'_>) -> Result<(), JournalError> {
                Ok(())
            }
            fn answer(self: Box<Self>, _: Result<(), JournalError>) {}
            fn bytes(&self) -> usize {
                BYTES_MAX
            }
            fn kind(&self) -> Kind {
                Kind::Custody
            }
        }
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Work]);
        queue.push(Box::new(Large), now);
        queue.push(Box::new(Large), now);
        assert_eq!(group(&mut queue, now + WORK_WAIT), [Kind::Custody, Kind::Work]);
    }

    #[test]
    fn i3_a_link_that_is_left_alone_waits_once_and_not_for_long() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Custody]);
        assert_eq!(group(&mut queue, now).len(), 2);
        queue.committed(COMMIT, now);
        queue.push(Box::new(Stub(Kind::Custody)), now);
        let (run, missing, until) = waits(&mut queue, now);
        assert_eq!((run.len(), missing, until), (1, 1, now + COMMIT / PATIENCE.0));
        assert!(group(&mut queue, until).is_empty());
        queue.committed(COMMIT, until);
        queue.push(Box::new(Stub(Kind::Custody)), until);
        assert_eq!(group(&mut queue, until), [Kind::Custody], "and never again");
    }

    #[test]
    fn the_end_of_a_session_keeps_its_place() {
        let now = Instant::now();
        let mut queue = queue(now, &[Kind::Custody, Kind::Ending, Kind::Custody]);
        assert_eq!(group(&mut queue, now), [Kind::Custody, Kind::Ending, Kind::Custody]);
    }
}
