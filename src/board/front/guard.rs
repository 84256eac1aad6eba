//! The thread of the guard: it hears of the supply and feeds the hardware watchdog, whatever becomes of the display.
//!
//! When the supply goes the journal is told from here, whatever the gateway is busy with: it takes nothing into custody
//! any more, so that nothing is acknowledged, and then its log is copied. Only then comes all that a stop waits for.

use super::Told;
use crate::journal::Journal;
use crate::service::Lease;
use afferent_board::guard::{Guard, Turn};
use afferent_board::supply::Event;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Instant;
use tokio::sync::watch;

/// What became of the supply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It was never lost.
    Good,
    /// It is.
    Lost,
    /// It was, and whoever stopped because of it starts anew.
    Back,
}

/// What the board is to show of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    /// The supply is lost.
    pub supply_is_lost: bool,
    /// Nothing is acknowledged any more, and the journal's log was copied.
    pub is_safe: bool,
    /// What is wrong with what is guarded.
    pub alerts: Vec<String>,
}

impl Guarded {
    /// As it is before anything happened.
    pub fn of(guard: &Guard) -> Guarded {
        let alerts = guard.standing().iter().map(|trouble| format!("board: {}", trouble.part)).collect();
        Guarded { alerts, ..Guarded::default() }
    }
}

/// What the thread has.
pub struct Watchman {
    /// The journal, once it is open; nobody sends when the thread is to end.
    pub journal: Receiver<Journal>,
    /// As long as this holds the watchdog is fed.
    pub lease: Lease,
    /// What became of the supply.
    pub supply: watch::Sender<Power>,
    /// The way to the thread that shows it.
    pub tell: SyncSender<Told>,
    pub began: Instant,
}

impl Watchman {
    /// Guards until the gateway has ended.
    pub fn run(self, mut guard: Guard) {
        let mut journal: Option<Journal> = None;
        let mut copying: Option<Receiver<bool>> = None;
        let (mut guarded, mut shown) = (Guarded::of(&guard), Guarded::of(&guard));
        loop {
            let turn = guard.turn(self.lease.holds(), self.began.elapsed());
            // Before anybody else hears of it, who would begin to stop.
            if turn.event == Some(Event::Lost) {
                copying = journal.as_ref().map(Journal::end_custody);
            }
            self.tell(&turn);
            match copying.as_ref().map(Receiver::try_recv) {
                None | Some(Err(TryRecvError::Empty)) => {}
                Some(ended) => {
                    (copying, guarded.is_safe) = (None, true);
                    say_safe(ended.ok());
                }
            }
            guarded.supply_is_lost = guard.supply_is_lost();
            guarded.is_safe &= guarded.supply_is_lost;
            guarded.alerts = Guarded::of(&guard).alerts;
            // A thread that is held up hears it later, or never.
            if guarded != shown && self.tell.try_send(Told::Guarded(guarded.clone())).is_ok() {
                shown = guarded.clone();
            }
            let now = self.began.elapsed();
            match self.journal.recv_timeout(guard.next(now).saturating_sub(now)) {
                Ok(opened) => {
                    if guard.supply_is_lost() {
                        copying = Some(opened.end_custody());
                    }
                    journal = Some(opened);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(why) = guard.disarm() {
            tracing::error!(event = "board-trouble", "board: watchdog: {why}");
        }
    }

    fn tell(&self, turn: &Turn) {
        super::log_troubles(&turn.troubles);
        super::log_mended(turn.mended.iter());
        let Some(event) = turn.event else { return };
        tracing::warn!(event = "board-asked", "at the box: {}", words(event));
        match event {
            Event::Lost => drop(self.supply.send_replace(Power::Lost)),
            Event::Back => drop(self.supply.send_replace(Power::Back)),
            Event::NeverGood => {}
        }
    }
}

/// Says that it is, and whether the journal's log was copied; none where nobody was left to copy it. Without its writer
/// nothing is acknowledged either.
fn say_safe(is_copied: Option<bool>) {
    let rest = match is_copied {
        Some(true) => "",
        Some(false) => "; its log was not copied whole, and the next start takes longer",
        None => "; the journal's writer had ended before",
    };
    tracing::warn!(
        event = "supply-lost",
        "the supply is gone: all that came is safe, and nothing is taken any more{rest}"
    );
}

fn words(event: Event) -> &'static str {
    match event {
        Event::Lost => "the supply is gone",
        Event::Back => "the supply is back",
        Event::NeverGood => "the input of the supply was not good once: is it wired as the definition says?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Config;
    use crate::wire::{Persist, Token};
    use afferent_board::definition::Definition;
    use afferent_board::folder::Folder;
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};

    const BOARD: &str = "[board]\nname = \"b\"\nrevision = \"1\"\n[supply]\npin = \"A1\"\n";

    /// Hears each line of the log as it is said, before whoever says it goes on.
    #[derive(Clone)]
    struct Ear<F>(F);

    impl<F: Fn(&str)> std::io::Write for Ear<F> {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            (self.0)(&String::from_utf8_lossy(line));
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Loses the supply, and returns once what came is safe.
    fn lose_the_supply(journal: &Journal, hear: impl Fn(&str) + Clone + Send + Sync + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let definition = Definition::parse("b", BOARD).unwrap();
        let (guard, _) = Guard::find(&definition, &mut Folder::open(dir.path()).unwrap());
        let ((give, given), (tell, told)) = (sync_channel(0), sync_channel(16));
        let supply = watch::Sender::new(Power::Good);
        let watchman = Watchman { journal: given, lease: Lease::default(), supply, tell, began: Instant::now() };
        let thread = std::thread::spawn(move || {
            let log = tracing_subscriber::fmt().with_writer(move || Ear(hear.clone())).finish();
            tracing::subscriber::with_default(log, || watchman.run(guard));
        });
        // It is taken after the first look, which found the supply good.
        give.send(journal.clone()).unwrap();
        std::fs::write(dir.path().join("supply"), "off").unwrap();
        while !matches!(told.recv().unwrap(), Told::Guarded(guarded) if guarded.is_safe) {}
        drop(give);
        thread.join().unwrap();
    }

    #[test]
    fn i1_whoever_hears_that_the_supply_is_gone_gets_nothing_into_custody_any_more() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &Config { free_min_mb: 0, ..Config::default() }).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        lose_the_supply(&journal, {
            let (journal, taken) = (journal.clone(), taken.clone());
            move |line| {
                let part =
                    Persist { token: Token(1), session: 1, bytes: b"late".to_vec(), completes: true, identity: None };
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let kept = line.contains("the supply is gone").then(|| runtime.block_on(journal.persist("l", 1, part)));
                taken.lock().unwrap().extend(kept.map(|kept| kept.is_ok()));
            }
        });
        assert_eq!(*taken.lock().unwrap(), [false, false], "as it is heard, and once all is safe");
    }

    #[test]
    fn a_journal_that_was_closed_in_order_is_not_said_to_be_left_half_copied() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &Config { free_min_mb: 0, ..Config::default() }).unwrap();
        journal.clone().close();
        let said = Arc::new(Mutex::new(String::new()));
        lose_the_supply(&journal, {
            let said = said.clone();
            move |line| said.lock().unwrap().push_str(line)
        });
        let said = said.lock().unwrap().clone();
        assert!(said.contains("all that came is safe"), "{said}");
        assert!(said.contains("the journal's writer had ended before") && !said.contains("not copied whole"), "{said}");
    }
}
