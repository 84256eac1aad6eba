//! The pump: THE loop that runs a wire machine on a stream. Every link, serial or TCP, is this loop.
//!
//! It holds no protocol knowledge. It moves bytes and outcomes into the machine and outputs out of it, and it is the
//! one place where custody meets the acknowledgement: a `Send` that acknowledges data can only leave the machine
//! after `handle_custody` was given the journal's receipt (invariant I1).

use super::counters::LinkCounters;
use super::custodian::Custodian;
use super::host::clerk::{Clerk, Say};
use super::machine::Machine;
use super::marks::{Heard, Marks};
use super::worklist::{self, Worklist};
use crate::orders::Taken;
use crate::tls;
use crate::wire::{ENDED, Event, Output, Refused};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Bytes taken from the stream at once.
const READ_BYTES: usize = 16 * 1024;
/// A peer that does not read what we send for this long has lost the line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Unfinished bytes all connections of one link may hold together: a few of the largest messages, however many peers
/// drip theirs (invariant I10).
const HELD_MAX: usize = 64 * 1024 * 1024;
/// A connection that holds no more than this is never closed for what others hold: an ASTM frame or an ordinary
/// message always finds room.
const HELD_FREE: usize = 64 * 1024;

/// Why the pump stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed, or the line failed.
    Disconnected,
    /// The machine asked for it.
    Closed(&'static str),
    /// The gateway is stopping, or the connection was evicted.
    Stopped,
}

/// What a pump needs besides its stream and its machine.
pub struct Pump {
    /// Who takes custody.
    pub custodian: Custodian,
    /// The link's name.
    pub link: Arc<str>,
    /// Number of this connection, unique in the life of the journal handle.
    pub connection: u64,
    /// Bytes all connections of the link hold that are not in custody yet.
    pub held: Arc<AtomicUsize>,
    /// Set on a serial port that marks damaged characters. It outlives a machine: a mark may be split between two reads.
    pub marks: Option<Marks>,
    /// Who looks up orders, on a link whose instrument can be told of them.
    pub clerk: Option<Clerk>,
    /// What this connection's instrument is told of orders.
    pub worklist: Option<Worklist>,
    /// Where events are counted.
    pub counters: Arc<LinkCounters>,
    /// Turns true when the gateway stops.
    pub shutdown: watch::Receiver<bool>,
}

type PendingCustody<'a> = Pin<Box<dyn Future<Output = Result<Taken, Refused>> + Send + 'a>>;

impl Pump {
    /// Runs `machine` on `stream` until one of them ends it. `on_complete` is called after each complete entry taken
    /// into custody. Cancelling the future is safe: what was committed stays, what was not was never acknowledged.
    pub async fn run<S>(&mut self, mut stream: S, machine: &mut Machine, mut on_complete: impl FnMut()) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (custodian, link, connection) = (self.custodian.clone(), self.link.clone(), self.connection);
        let mut buffer = vec![0; READ_BYTES];
        let mut sends = Vec::new();
        let mut custody: Option<(bool, PendingCustody<'_>)> = None;
        let mut stopping = *self.shutdown.borrow();
        let mut held = Held { all: self.held.clone(), own: 0 };
        loop {
            let mut closing = None;
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Send(bytes) => sends.extend_from_slice(&bytes),
                    Output::Persist(part) => {
                        self.counters.heard();
                        if let Some(worklist) = &mut self.worklist {
                            worklist.heard(&part);
                        }
                        custody = Some((part.completes, Box::pin(custodian.take(&link, connection, part))));
                    }
                    Output::Ask(question) => self.tell_clerk(|clerk| clerk.asked(question)),
                    Output::Answered(answer) => self.tell_clerk(|clerk| clerk.answered(answer)),
                    Output::Abandon { session } => self.abandon(session),
                    Output::Close(why) => closing = Some(why),
                    Output::Event(event) => self.note(&event),
                }
            }
            if !sends.is_empty() {
                self.counters.taps().said(connection, &sends);
                match tokio::time::timeout(WRITE_TIMEOUT, write(&mut stream, &sends)).await {
                    Ok(Ok(())) => sends.clear(),
                    Ok(Err(error)) => return self.broken(machine, &error).await,
                    Err(_) => {
                        self.counters.event(&Event::Refused("the peer does not read what is sent: closed"));
                        return self.disconnected(machine).await;
                    }
                }
            }
            if let Some(why) = closing {
                if why != ENDED {
                    self.counters.event(&Event::Refused(why));
                }
                return Ended::Closed(why);
            }
            if stopping && custody.is_none() {
                self.disconnected(machine).await;
                return Ended::Stopped;
            }
            let deadline = machine.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let answer = async {
                match custody.as_mut() {
                    Some((_, pending)) => pending.await,
                    None => std::future::pending().await,
                }
            };
            let clerk = self.clerk.as_mut();
            let say = async {
                match clerk {
                    Some(clerk) => clerk.next().await,
                    None => std::future::pending().await,
                }
            };
            let worklist = self.worklist.as_mut().filter(|_| !stopping);
            let tell = async {
                match worklist {
                    Some(worklist) => worklist.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = answer => {
                    if custody.take().is_some_and(|(completes, _)| completes) && answer.is_ok() {
                        self.counters.completed();
                        if self.worklist.as_mut().is_some_and(Worklist::completed) {
                            machine.withdraw();
                        }
                        on_complete();
                    }
                    self.count_refused(&answer);
                    machine.handle_custody(Instant::now(), answer);
                }
                say = say => self.say(machine, say),
                _ = self.shutdown.changed(), if !stopping => stopping = true,
                read = stream.read(&mut buffer), if machine.wants_bytes() => match read {
                    Ok(0) => return self.disconnected(machine).await,
                    Err(error) => return self.broken(machine, &error).await,
                    Ok(n) => {
                        self.hear(machine, &buffer[..n]);
                        if !held.update(machine.bytes_held()) {
                            self.counters.event(&Event::Refused("too many unfinished bytes on this link: closed"));
                            return self.disconnected(machine).await;
                        }
                    }
                },
                say = tell => self.tell(machine, say),
                () = timer => machine.handle_timeout(Instant::now()),
            }
        }
    }

    /// Does what the clerk says.
    fn say(&self, machine: &mut Machine, say: Say) {
        let now = Instant::now();
        match say {
            Say::Reply(token, reply) => machine.handle_reply(now, token, reply.as_deref()),
            Say::Send(token, message) => {
                if !machine.send(now, token, &message) {
                    self.tell_clerk(|clerk| clerk.failed(token));
                }
            }
        }
    }

    fn tell_clerk(&self, tell: impl FnOnce(&Clerk)) {
        if let Some(clerk) = &self.clerk {
            tell(clerk);
        }
    }

    fn note(&mut self, event: &Event) {
        if let Some(worklist) = &mut self.worklist {
            worklist.told(event);
        }
        if let Event::Failed(token, _) = event {
            self.tell_clerk(|clerk| clerk.failed(*token));
        }
        self.counters.event(event);
    }

    /// Does what the worklist says.
    fn tell(&mut self, machine: &mut Machine, say: worklist::Say) {
        match say {
            worklist::Say::Send(token, records) => {
                if !machine.send_records(Instant::now(), token, records)
                    && let Some(worklist) = &mut self.worklist
                {
                    worklist.told(&Event::Failed(token, "the line is not free"));
                }
            }
            worklist::Say::Withdraw => machine.withdraw(),
        }
    }

    fn hear(&mut self, machine: &mut Machine, bytes: &[u8]) {
        let (now, taps) = (Instant::now(), self.counters.taps());
        let Some(marks) = &mut self.marks else {
            taps.heard(self.connection, bytes);
            return machine.handle_bytes(now, bytes);
        };
        marks.decode(bytes, |heard| match heard {
            Heard::Good(bytes) => {
                taps.heard(self.connection, bytes);
                machine.handle_bytes(now, bytes);
            }
            Heard::Damaged(how, _) => {
                self.counters.event(&Event::Odd(how));
                machine.handle_damage(now);
            }
        });
    }

    /// The line failed. A peer that turned our certificate down says so only now (TLS 1.3); any other failure is a peer
    /// that went away.
    async fn broken(&self, machine: &mut Machine, error: &std::io::Error) -> Ended {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            self.counters.turned_away(tls::failure(error));
        }
        self.disconnected(machine).await
    }

    /// Tells the machine that the line is gone and carries out what it still wants done without a peer: a message
    /// that had come in whole is kept even when its sender did not wait for an answer.
    async fn disconnected(&self, machine: &mut Machine) -> Ended {
        machine.handle_disconnect(Instant::now());
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Persist(part) => {
                    let completes = part.completes;
                    let answer = self.custodian.take(&self.link, self.connection, part).await;
                    if completes && answer.is_ok() {
                        self.counters.completed();
                    }
                    self.count_refused(&answer);
                    machine.handle_custody(Instant::now(), answer);
                }
                Output::Abandon { session } => self.abandon(session),
                Output::Event(event) => self.counters.event(&event),
                Output::Send(_) | Output::Close(_) | Output::Ask(_) | Output::Answered(_) => {}
            }
        }
        Ended::Disconnected
    }

    fn abandon(&self, session: u64) {
        self.counters.event(&Event::Odd("session ended before it was complete"));
        self.custodian.abandon(&self.link, self.connection, session);
    }

    fn count_refused(&self, answer: &Result<Taken, Refused>) {
        if let Ok(Taken { refused: Some(reason), .. }) = answer {
            self.counters.event(&Event::Refused(reason));
        }
    }
}

/// This connection's share of the link's unfinished bytes.
struct Held {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Held {
    /// Notes what the machine holds now; false when the link holds too much and this connection is one of the reasons.
    fn update(&mut self, own: usize) -> bool {
        self.all.fetch_add(own, Ordering::Relaxed);
        let all = self.all.fetch_sub(self.own, Ordering::Relaxed).wrapping_sub(self.own);
        self.own = own;
        all <= HELD_MAX || own <= HELD_FREE
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
