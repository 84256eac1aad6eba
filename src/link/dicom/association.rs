//! The loop that runs the DICOM machine on a connection: [`crate::link::pump`]'s sibling for instances, which do not fit
//! into a message.

use super::Shared;
use super::admission::{Admitted, Way};
use super::services::{Asking, EventReport};
use super::storing::Storing;
use crate::journal::Receipt;
use crate::link::counters::LinkCounters;
use crate::wire::dimse::{Association, Caller, Command, Context, Output, Rejection, Reply, Response, uid};
use crate::wire::{Event, Refused, Token};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// Bytes taken from the stream at once: one PDU of the size we announce.
const READ_BYTES: usize = 128 * 1024;
/// A peer that does not read what we send for this long has lost the line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Event reports that wait for the line.
const REPORTS_WAITING: usize = 4;

/// One connection.
pub struct Line {
    shared: Arc<Shared>,
    way: Way,
    /// Who calls, once it is let in.
    admitted: Option<Admitted>,
    counters: Arc<LinkCounters>,
    /// The instance that is coming in.
    storing: Option<Storing>,
    custody: Option<PendingCustody>,
    /// The question that is being answered.
    asked: Option<(Token, Receiver<Reply>)>,
    /// Event reports for the modality.
    reports: (Sender<EventReport>, Receiver<EventReport>),
    reported: Option<(Token, oneshot::Sender<u16>)>,
    connection: u64,
}

type PendingCustody = Pin<Box<dyn Future<Output = Result<Receipt, Refused>> + Send>>;

impl Line {
    /// A connection that was accepted.
    pub fn new(shared: Arc<Shared>, way: Way, connection: u64) -> Line {
        let counters = shared.callers.strangers().clone();
        counters.connected();
        Line {
            shared,
            way,
            admitted: None,
            counters,
            storing: None,
            custody: None,
            asked: None,
            reports: channel(REPORTS_WAITING),
            reported: None,
            connection,
        }
    }

    /// Serves the connection until one side ends it. `on_use` is called when the caller is let in and after each
    /// instance taken into custody. Cancelling the future is safe: what was committed stays, what was not was never
    /// acknowledged.
    pub async fn run<S>(mut self, mut stream: S, socket: fn(&S) -> &TcpStream, on_use: impl Fn())
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut machine = Association::accept(Instant::now(), self.shared.settings);
        let mut buffer = vec![0; READ_BYTES];
        let mut sends = Vec::new();
        let mut shutdown = self.shared.shutdown.clone();
        let mut stopping = *shutdown.borrow();
        loop {
            let mut closing = false;
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Send(bytes) if sends.is_empty() => sends = bytes,
                    Output::Send(bytes) => sends.extend_from_slice(&bytes),
                    Output::Associate(caller) => {
                        let admission = self.admit(&caller);
                        if admission.is_ok() {
                            on_use();
                        }
                        machine.handle_admission(Instant::now(), admission);
                    }
                    Output::Close(_) => closing = true,
                    other => self.carry_out(other).await,
                }
            }
            if !sends.is_empty() {
                match tokio::time::timeout(WRITE_TIMEOUT, write(&mut stream, &sends)).await {
                    Ok(Ok(())) => sends = Vec::new(),
                    Ok(Err(_)) => return self.disconnected(machine),
                    Err(_) => {
                        self.counters.event(&Event::Refused("the peer does not read what is sent: closed"));
                        return self.disconnected(machine);
                    }
                }
            }
            if closing {
                let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.shutdown()).await;
                return self.disconnected(machine);
            }
            if stopping && self.custody.is_none() {
                machine.abort(Instant::now());
                machine.handle_disconnect(Instant::now());
                stopping = false;
                continue;
            }
            let deadline = machine.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let Line { custody, asked, reports, admitted, .. } = &mut self;
            let custody_answer = async {
                match custody.as_mut() {
                    Some(pending) => pending.await,
                    None => std::future::pending().await,
                }
            };
            let reply = async {
                match asked.as_mut() {
                    Some((token, replies)) => (*token, replies.recv().await),
                    None => std::future::pending().await,
                }
            };
            let is_needed = async {
                match admitted {
                    Some(admitted) => admitted.place.is_needed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = custody_answer => {
                    self.custody = None;
                    if answer.is_ok() {
                        self.counters.completed();
                        on_use();
                    }
                    machine.handle_custody(Instant::now(), answer.as_ref().map_err(|refused| *refused));
                }
                (token, reply) = reply => self.reply(&mut machine, token, reply),
                _ = shutdown.changed(), if !stopping => stopping = *shutdown.borrow(),
                () = is_needed => {
                    self.counters.event(&Event::Odd("a silent association made room for another"));
                    machine.abort(Instant::now());
                    machine.handle_disconnect(Instant::now());
                }
                report = reports.1.recv(), if machine.is_idle() => {
                    if let Some(report) = report {
                        self.report(&mut machine, report);
                    }
                }
                read = stream.read(&mut buffer), if machine.wants_bytes() => match read {
                    Ok(0) | Err(_) => return self.disconnected(machine),
                    Ok(count) => {
                        let now = Instant::now();
                        if let Some(admitted) = &self.admitted {
                            admitted.place.heard(now);
                        }
                        machine.handle_bytes(now, &buffer[..count]);
                        // Old senders leave Nagle on and write in pieces: each waits for our ACK, which is late by up
                        // to 40 ms unless this is said again after each read. A socket that refuses still works.
                        let _ = socket2::SockRef::from(socket(&stream)).set_tcp_quickack(true);
                    }
                },
                () = timer => machine.handle_timeout(Instant::now()),
            }
        }
    }

    fn admit(&mut self, caller: &Caller) -> Result<(), Rejection> {
        let journal = &self.shared.journal;
        let admitted = self.shared.callers.admit(caller, self.way, Instant::now(), || journal.instance_room())?;
        // From here on the connection is counted under its own name.
        self.counters.disconnected();
        self.counters = admitted.counters.clone();
        self.counters.connected();
        if caller.names_user && !self.way.is_secured {
            self.counters.event(&Event::Odd("a user's name or password came in clear: use TLS"));
        }
        self.admitted = Some(admitted);
        Ok(())
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Begin { token, arrival } => {
                self.storing = Some(Storing::begin(self.shared.journal.spool(), token, arrival));
            }
            Output::Data { bytes, .. } => {
                if let Some(storing) = &mut self.storing {
                    storing.write(&bytes).await;
                }
            }
            Output::Commit { .. } => {
                self.counters.heard();
                if let (Some(storing), Some(admitted)) = (self.storing.take(), &self.admitted) {
                    let (journal, link) = (self.shared.journal.clone(), admitted.link.clone());
                    self.custody = Some(Box::pin(storing.commit(journal, link, self.counters.clone())));
                }
            }
            Output::Discard { .. } => self.storing = None,
            Output::Ask { token, request } => {
                self.counters.heard();
                if let Some(admitted) = &self.admitted {
                    let (link, only_reports) = (admitted.link.clone(), admitted.only_reports);
                    let reports = self.reports.0.clone();
                    let asking = Asking { link, only_reports, way: self.way, request, reports };
                    let replies = self.shared.services.ask(asking);
                    self.asked = Some((token, replies));
                }
            }
            Output::Cancel { .. } => self.asked = None,
            Output::Answered { token, response } => self.answered(token, &response),
            Output::Unanswered { .. } => self.reported = None,
            Output::Event(event) => self.counters.event(&event),
            Output::Send(_) | Output::Associate(_) | Output::Associated | Output::Close(_) => {}
        }
    }

    fn reply(&mut self, machine: &mut Association, token: Token, reply: Option<Reply>) {
        use crate::wire::dimse::command::status::PROCESSING_FAILURE;
        // Whoever should have answered is gone.
        let reply = reply.unwrap_or_else(|| Reply::refusing(PROCESSING_FAILURE, "the gateway cannot answer this now"));
        if !reply.more {
            self.asked = None;
        }
        machine.handle_reply(Instant::now(), token, reply);
    }

    fn report(&mut self, machine: &mut Association, report: EventReport) {
        let EventReport { event_type_id, data_set, transfer_syntax_uid, answered } = report;
        // It waited for too long and goes another way.
        if answered.is_closed() {
            return;
        }
        let (class, instance) = (uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE);
        let fits =
            |context: &&Context| context.abstract_syntax == class && context.transfer_syntax == transfer_syntax_uid;
        let Some(context) = machine.contexts().iter().find(fits).map(|context| context.id) else { return };
        let command = Command::event_report_request(0, class, instance, event_type_id);
        let token = Token(self.connection);
        if machine.send(Instant::now(), token, context, command, Some(&data_set)) {
            self.reported = Some((token, answered));
        }
    }

    fn answered(&mut self, token: Token, response: &Response) {
        if let Some((_, answered)) = self.reported.take_if(|(reported, _)| *reported == token)
            && let Some(status) = response.command.status()
        {
            let _ = answered.send(status);
        }
    }

    /// The connection is gone: what was cut short leaves nothing behind.
    fn disconnected(mut self, mut machine: Association) {
        machine.handle_disconnect(Instant::now());
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Discard { .. } => self.storing = None,
                Output::Event(event) => self.counters.event(&event),
                _ => {}
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.counters.disconnected();
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
