//! The writer's letter box. What it adds to a channel: a writer that waits for company is not woken by each command of
//! custody, only by the last of those it waits for, because waking a thread costs more than taking a row in.

use super::writer::{Kind, Message};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module docs.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    /// Commands of custody among them.
    custody: usize,
    /// The writer sleeps until so many of those are there, or anything else is.
    sleeping_for: Option<usize>,
    /// Nobody reads any more.
    closed: bool,
}

impl State {
    fn is_worth_waking_for(&self, custody: usize) -> bool {
        self.messages.len() > self.custody || self.custody >= custody
    }
}

impl Inbox {
    /// Drops the message, and with it its way to answer, when nobody reads any more.
    pub(super) fn push(&self, message: Message) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.custody += usize::from(message.kind() == Some(Kind::Custody));
        state.messages.push(message);
        let wakes = state.sleeping_for.is_some_and(|custody| state.is_worth_waking_for(custody));
        if wakes {
            state.sleeping_for = None;
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Everything that came since the last time.
    pub(super) fn take(&self) -> Vec<Message> {
        let mut state = self.lock();
        state.custody = 0;
        std::mem::take(&mut state.messages)
    }

    /// Sleeps until so many commands of custody, or anything else, are there, at most this long. False when nothing
    /// came.
    pub(super) fn wait(&self, custody: usize, longest: Duration) -> bool {
        let mut state = self.lock();
        if !state.is_worth_waking_for(custody) {
            state.sleeping_for = Some(custody);
            let waited = self.filled.wait_timeout_while(state, longest, |state| state.sleeping_for.is_some());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleeping_for = None;
        }
        !state.messages.is_empty()
    }

    /// Looks for a message without sleeping, until then. A thread that sleeps is woken late: on a machine at rest that
    /// takes longer than the answer it waits for. False when nothing came.
    pub(super) fn linger(&self, until: Instant) -> bool {
        loop {
            if !self.lock().messages.is_empty() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            // Whoever is ready to run goes first: on one core the message would never come otherwise.
            std::thread::yield_now();
        }
    }

    /// Held by whoever reads. When it goes, also by a panic, nothing is taken in any more and what is there is dropped
    /// unanswered: nobody waits for a reader that is gone.
    pub(super) fn open(&self) -> Open<'_> {
        Open(self)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // Dropped without the lock: whoever waits for an answer is woken by it.
        let unread = std::mem::take(&mut state.messages);
        drop(state);
        drop(unread);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Inbox::open`].
pub(super) struct Open<'a>(&'a Inbox);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::Desk;
    use super::super::error::JournalError;
    use super::super::writer::Command;
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};

    struct Stub {
        kind: Kind,
        _alive: Option<Sender<()>>,
    }

    impl Command for Stub {
        fn perform(&mut self, _: &mut Desk<'_>) -> Result<(), JournalError> {
            Ok(())
        }
        fn answer(self: Box<Self>, _: Result<(), JournalError>) {}
        fn bytes(&self) -> usize {
            1
        }
        fn kind(&self) -> Kind {
            self.kind
        }
    }

    fn letter(kind: Kind, alive: Option<Sender<()>>) -> Message {
        Message::Command(Box::new(Stub { kind, _alive: alive }))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_writer_that_waits_for_three_is_woken_by_the_third_or_by_anything_else() {
        for (letters, last) in [(2, Kind::Custody), (0, Kind::Work), (1, Kind::Ending)] {
            let inbox = Arc::new(Inbox::default());
            (0..letters).for_each(|_| inbox.push(letter(Kind::Custody, None)));
            assert!(inbox.wait(3, Duration::ZERO) == (letters > 0), "what came is told though it is not enough");
            let writer = std::thread::spawn({
                let inbox = inbox.clone();
                move || inbox.wait(3, LONG)
            });
            while inbox.lock().sleeping_for.is_none() {
                std::thread::yield_now();
            }
            inbox.push(letter(last, None));
            assert!(writer.join().unwrap(), "{letters} and {last:?}");
            assert_eq!(inbox.take().len(), letters + 1);
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        let inbox = Inbox::default();
        let (alive, gone) = channel();
        {
            let _open = inbox.open();
            inbox.push(letter(Kind::Work, Some(alive.clone())));
        }
        inbox.push(letter(Kind::Custody, Some(alive)));
        assert!(gone.recv().is_err(), "both letters were dropped, and their ways to answer with them");
        assert!(inbox.take().is_empty());
    }
}
