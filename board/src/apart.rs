//! Parts on a slow bus: each has a thread of its own, so that a bus that hangs holds up nothing but what is on it. LEDs
//! and button go on, and what is shown when the bus lets go is the newest there is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What takes longer hangs: at 100 kHz a picture takes a tenth of a second.
pub const HANGS_AFTER: Duration = Duration::from_secs(10);

/// A part that is asked for `J` and answers `A`. Nobody waits for it.
pub struct Apart<J, A> {
    desk: Arc<Desk<J, A>>,
    /// Since when it has been at what it does, as far as was seen, and whether that was told to be too long.
    busy: Option<(Duration, bool)>,
}

struct Desk<J, A> {
    state: Mutex<State<J, A>>,
    changed: Condvar,
}

struct State<J, A> {
    /// What is to be done next; the newest wins.
    next: Option<J>,
    is_busy: bool,
    answer: Option<Result<A, String>>,
    is_over: bool,
}

impl<J: Send + 'static, A: Send + 'static> Apart<J, A> {
    /// One that does its work on a thread of this name.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(name: &str, work: impl FnMut(J) -> Result<A, String> + Send + 'static) -> std::io::Result<Apart<J, A>> {
        let state = State { next: None, is_busy: false, answer: None, is_over: false };
        let desk = Arc::new(Desk { state: Mutex::new(state), changed: Condvar::new() });
        let at = desk.clone();
        std::thread::Builder::new().name(name.to_string()).spawn(move || at.serve(work))?;
        Ok(Apart { desk, busy: None })
    }

    /// Asks for this, in place of whatever it has not begun with yet.
    pub fn ask(&mut self, job: J) {
        self.desk.lock().next = Some(job);
        self.desk.changed.notify_all();
    }

    /// What came of what was asked for; an error once when it hangs. None as long as there is nothing new.
    pub fn poll(&mut self, now: Duration) -> Option<Result<A, String>> {
        let mut state = self.desk.lock();
        if let Some(answer) = state.answer.take() {
            self.busy = None;
            return Some(answer);
        }
        if !state.is_busy {
            self.busy = None;
            return None;
        }
        let (since, is_told) = self.busy.get_or_insert((now, false));
        if *is_told || now < *since + HANGS_AFTER {
            return None;
        }
        *is_told = true;
        Some(Err("its bus hangs".to_string()))
    }

    /// Waits until all that was asked for is done, at most so long.
    pub fn settle(&self, longest: Duration) {
        let until = Instant::now() + longest;
        let mut state = self.desk.lock();
        while state.is_busy || state.next.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.desk.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<J, A> Desk<J, A> {
    fn lock(&self) -> MutexGuard<'_, State<J, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut work: impl FnMut(J) -> Result<A, String>) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.next.take() {
                state.is_busy = true;
                drop(state);
                let answer = work(job);
                state = self.lock();
                (state.is_busy, state.answer) = (false, Some(answer));
                self.changed.notify_all();
            } else if state.is_over {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl<J, A> Drop for Apart<J, A> {
    /// It ends with what it was asked for last. One that hangs is left behind.
    fn drop(&mut self) {
        self.desk.lock().is_over = true;
        self.desk.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_newest_wins_and_one_that_hangs_is_told_once_until_it_answers() {
        let ((begun, begins), (release, released)) = (channel(), channel());
        let mut part = Apart::new("part", move |job: u32| {
            begun.send(job).unwrap();
            released.recv().unwrap_or(Ok(job))
        })
        .unwrap();
        let second = Duration::from_secs(1);
        part.ask(1);
        assert_eq!(begins.recv().unwrap(), 1);
        assert_eq!(part.poll(second), None);
        part.ask(2);
        part.ask(3);
        assert_eq!(part.poll(HANGS_AFTER), None, "not for long enough");
        assert_eq!(part.poll(second + HANGS_AFTER), Some(Err("its bus hangs".to_string())));
        assert_eq!(part.poll(100 * second), None, "once");
        release.send(Ok(10)).unwrap();
        assert_eq!(begins.recv().unwrap(), 3, "nobody wants to see what is old");
        assert_eq!(part.poll(100 * second), Some(Ok(10)));
        assert_eq!(part.poll(101 * second), None, "the next has just begun");
        release.send(Err("no".to_string())).unwrap();
        part.settle(Duration::from_secs(60));
        assert_eq!(part.poll(102 * second), Some(Err("no".to_string())));
        // What was asked for last is still done.
        part.ask(4);
        drop((part, release));
        assert_eq!(begins.recv().unwrap(), 4);
    }
}
