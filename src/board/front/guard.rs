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
            self.tell(&turn);
            if turn.event == Some(Event::Lost) {
                copying = journal.as_ref().map(Journal::end_custody);
            }
            match copying.as_ref().map(Receiver::try_recv) {
                None | Some(Err(TryRecvError::Empty)) => {}
                Some(ended) => {
                    (copying, guarded.is_safe) = (None, true);
                    say_safe(ended.unwrap_or_default());
                }
            }
            guarded.supply_is_lost = guard.supply_is_lost();
            guarded.is_safe &= guarded.supply_is_lost;
            guarded.alerts = Guarded::of(&guard).alerts;
            // A thread that hangs on a bus hears it later, or never.
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

fn say_safe(is_copied: bool) {
    let rest = if is_copied { "" } else { "; its log was not copied whole, and the next start takes longer" };
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
