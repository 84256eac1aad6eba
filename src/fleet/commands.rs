//! The commands in the fleet's loop: one runs at a time, beside the loop, which waits for nothing but its disk. A capture
//! takes minutes and hinders nobody: others run beside it.

use super::bus::Bus;
use super::command::Operation;
use super::docket::Docket;
use super::parcel::Parcel;
use super::perform::{self, Performed, Performer};
use super::telemetry::{Id, LogEnd, Outcome};
use super::{Loop, now};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Commands that run at a time: one, and a capture.
const AT_ONCE: usize = 2;

/// See the module docs.
pub(super) struct Commands {
    pub docket: Docket,
    performer: Arc<Performer>,
    network: tokio::runtime::Handle,
    ended_to: mpsc::Sender<Performed>,
    ended: mpsc::Receiver<Performed>,
    /// How they ended, what is not written yet; of each that runs at most one.
    pub unwritten: VecDeque<(Id, Outcome)>,
    /// One may have come, or may have ended.
    pub is_due: bool,
}

impl Commands {
    pub fn new(docket: Docket, performer: Performer, network: tokio::runtime::Handle) -> Commands {
        let (ended_to, ended) = mpsc::channel(AT_ONCE);
        let (performer, unwritten) = (Arc::new(performer), VecDeque::new());
        Commands { docket, performer, network, ended_to, ended, unwritten, is_due: true }
    }

    /// The next one that has ended.
    pub async fn ended(&mut self) -> Option<Performed> {
        self.ended.recv().await
    }
}

impl<B: Bus> Loop<B> {
    /// A command has ended, or has once all it tells in parts is told.
    pub(super) fn performed(&mut self, Performed { id, outcome, parts }: Performed) {
        if parts.is_empty() {
            self.commands.unwritten.push_back((id, outcome));
            self.commands.is_due = true;
        } else {
            self.parcel = Some(Parcel::new(id, outcome, parts, now()));
        }
    }

    /// Writes down how commands ended, and begins the next. What a full disk keeps from being written waits.
    pub(super) fn command(&mut self) {
        if !std::mem::take(&mut self.commands.is_due) {
            return;
        }
        let stamp = self.snapshot.sources().stamp();
        let Commands { docket, unwritten, .. } = &mut self.commands;
        while let Some((id, outcome)) = unwritten.front().cloned() {
            if let Err(error) = docket.ended(&mut self.store, id, outcome, stamp) {
                return self.trouble(error.to_string());
            }
            unwritten.pop_front();
        }
        loop {
            match self.commands.docket.next(&mut self.store, stamp) {
                Ok(Some(work)) => self.begin(work.id, work.operation),
                Ok(None) => return,
                Err(error) => return self.trouble(error.to_string()),
            }
        }
    }

    fn begin(&mut self, id: Id, operation: Operation) {
        match operation {
            Operation::Report => self.session.say_all(now()),
            Operation::Identify => self.status.send_modify(|status| status.identified += 1),
            Operation::LogFollow { seconds, lines } => self.open_tail(id, (seconds, lines)),
            Operation::LogStop => self.end_tail(LogEnd::Asked),
            _ => {}
        }
        // There is room: so many run at a time.
        let (performer, ended) = (self.commands.performer.clone(), self.commands.ended_to.clone());
        if let Operation::Capture { link, seconds, reveal } = operation {
            let capture = async move { performer.capture(id, (link, seconds, reveal)).await };
            self.commands.network.spawn(async move { ended.try_send(capture.await) });
            return;
        }
        self.commands.network.spawn_blocking(move || {
            let _ = ended.try_send(performer.perform(id, operation));
        });
    }

    /// Ends the process once the broker knows why; its next start resets the box.
    pub(super) fn leave(&mut self) {
        let stamp = self.snapshot.sources().stamp();
        match self.commands.docket.has_left(&mut self.store, stamp) {
            Ok(true) => {
                if let Err(error) = perform::stop_process() {
                    tracing::error!(
                        event = "fleet-trouble",
                        "fleet: the program cannot end itself for a factory reset: {error}"
                    );
                }
            }
            Ok(false) => {}
            Err(error) => self.trouble(error.to_string()),
        }
    }
}
