//! `[watch.syslog]`: alerts for the log server that a site has already: one message when a trouble begins, one when it
//! ends, as RFC 5424 writes them. Over UDP (RFC 5426), TCP (octet counting, RFC 6587, 3.4.1), TLS (RFC 5425) or the
//! machine's own socket, where lines look as the C library writes them (RFC 3164): what listens there reads no other.
//!
//! What they say is made of constants, numbers and names of the configuration: nothing of a patient (invariant I8). A
//! thread sends them; nothing waits for it (I12). UDP and a full disk lose messages by their nature; over TCP and TLS a
//! message that a dead connection took is sent again with the next, so that one may come twice, under the same
//! `sequenceId`.
//!
//! [`message`] writes a message, and is pure.

use super::{Alert, Trouble};
use crate::backoff::Backoff;
use crate::clock::{Clock, Quality};
use crate::delivery::dial::{Stream, dial};
use crate::tls::ClientTls;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout};

/// Messages that wait for a server; more are not told there, and the log says so.
const WAITING_MAX: usize = 512;
/// Dialling takes no longer, and neither does a write.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that ends within this time may not have brought what it took last.
const DOUBTFUL: Duration = Duration::from_secs(60);
/// Between two attempts.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Facility `local0` to `local7` are 16 to 23, `daemon` is 3 (RFC 5424, 6.2.1).
const FACILITIES: [(&str, u8); 9] = [
    ("daemon", 3),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
/// Our structured data. The number is the one that RFC 5612 keeps for examples: a program that has none of its own may
/// not make one up.
const SD_ID: &str = "afferent@32473";
/// Longest HOSTNAME, 6.
const HOST_MAX: usize = 255;
const BOM: &str = "\u{feff}";

/// Alerts for a log server, one message when a trouble begins and one when it ends (RFC 5424); left out, none is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where: "udp://host:514", "tcp://host:514", "tls://host:6514", or "unix:///dev/log" for this machine's own.
    pub to: String,
    /// Under which facility: "daemon" or "local0" to "local7".
    pub facility: String,
    /// How the server is known, and we to it, with "tls://"; left out, by the authorities the operating system trusts.
    pub tls: Option<ClientTls>,
}

impl Default for Config {
    fn default() -> Self {
        Config { to: String::new(), facility: "local0".to_owned(), tls: None }
    }
}

/// A way to a log server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A socket of this machine.
    Local(PathBuf),
    /// One datagram a message.
    Udp(String, u16),
    /// A connection.
    Tcp(String, u16),
    /// A connection with TLS.
    Tls(String, u16),
}

impl Config {
    /// The way; none when it is not written as one.
    pub fn way(&self) -> Option<To> {
        let (scheme, address) = self.to.split_once("://")?;
        if scheme == "unix" {
            return address.starts_with('/').then(|| To::Local(address.into()));
        }
        let (host, port) = crate::fleet::config::host_and_port(address)?;
        match scheme {
            _ if host.is_empty() || port == 0 => None,
            "udp" => Some(To::Udp(host, port)),
            "tcp" => Some(To::Tcp(host, port)),
            "tls" => Some(To::Tls(host, port)),
            _ => None,
        }
    }

    /// The number of the facility; none when there is none of this name.
    pub fn facility(&self) -> Option<u8> {
        FACILITIES.iter().find(|(name, _)| *name == self.facility).map(|(_, number)| *number)
    }
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Number of the facility.
    pub facility: u8,
    /// Name of the machine.
    pub host: String,
    /// Number of the process.
    pub process: u32,
}

impl Origin {
    /// This process.
    pub fn here(facility: u8) -> Origin {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Origin { facility, host: host.trim().to_owned(), process: std::process::id() }
    }

    /// PRIVAL, 6.2.1.
    fn priority(&self, alert: &Alert) -> u16 {
        let severity = match (alert.began, alert.trouble) {
            (false, _) => 5,
            // A person has to act, or results will not be taken or not be sent any more.
            (true, Trouble::Disk | Trouble::Stranded | Trouble::Refusing | Trouble::Certificate) => 3,
            (true, _) => 4,
        };
        u16::from(self.facility) * 8 + severity
    }
}

/// A message as a machine's own log takes it.
pub fn local_message(origin: &Origin, alert: &Alert, at: &Zoned, sequence: u32) -> String {
    let head = format!("<{}>{}", origin.priority(alert), at.strftime("%b %e %H:%M:%S"));
    let (process, word, sentence) = (origin.process, alert.trouble.word(), alert.sentence());
    format!("{head} afferent[{process}]: {word} {}[meta sequenceId=\"{sequence}\"] {sentence}", data(alert))
}

/// A message (RFC 5424, 6). `sequence` counts messages of this process from 1.
pub fn message(origin: &Origin, alert: &Alert, at: (Timestamp, Quality), sequence: u32) -> String {
    let mut text = format!("<{}>1 ", origin.priority(alert));
    let (now, quality) = at;
    // A clock that knows nothing says so by saying nothing (6.2.3).
    match quality {
        Quality::Unset => text.push('-'),
        _ => drop(write!(text, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))),
    }
    let _ = write!(text, " {} afferent {} {}", printable(&origin.host, HOST_MAX), origin.process, alert.trouble.word());
    let synced = u8::from(quality == Quality::Trusted);
    let _ = write!(text, " {}[timeQuality tzKnown=\"1\" isSynced=\"{synced}\"]", data(alert));
    let _ = write!(text, "[meta sequenceId=\"{sequence}\"] {BOM}{}", alert.sentence());
    text
}

/// What an alert says, by name.
fn data(alert: &Alert) -> String {
    let mut text = format!("[{SD_ID} event=\"{}\"", if alert.began { "began" } else { "ended" });
    if !alert.of.is_empty() {
        let _ = write!(text, " of=\"{}\"", escaped(&alert.of));
    }
    if alert.began {
        let _ = write!(text, " figure=\"{}\" limit=\"{}\"", alert.figure, alert.limit);
    }
    text.push(']');
    text
}

/// PRINTUSASCII of a header, or the NILVALUE.
fn printable(text: &str, longest: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(longest).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// PARAM-VALUE, 6.3.3.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The way for alerts to the log server.
pub struct Syslog {
    to: Sender<String>,
    is_local: bool,
    origin: Origin,
    clock: Clock,
    sequence: u32,
}

impl Syslog {
    /// Begins to send; it ends when this is dropped. None, with a word in the log, where the settings do not work.
    pub fn start(config: &Config, clock: &Clock, network: &tokio::runtime::Handle) -> Option<Syslog> {
        let (Some(way), Some(facility)) = (config.way(), config.facility()) else {
            tracing::error!(event = "alerts-untold", "alerts are not told to a log server: see [watch.syslog]");
            return None;
        };
        let (to, waiting) = channel(WAITING_MAX);
        let is_local = matches!(way, To::Local(_));
        network.spawn(send_all(way, config.tls.clone(), waiting));
        Some(Syslog { to, is_local, origin: Origin::here(facility), clock: clock.clone(), sequence: 0 })
    }

    /// Tells of an alert. Never waits.
    pub fn tell(&mut self, alert: &Alert) {
        // 1 to 2147483647, and around (7.3.1).
        self.sequence = self.sequence % (i32::MAX as u32) + 1;
        let (at, quality) = self.clock.now();
        let message = match self.is_local {
            true => local_message(&self.origin, alert, &at.to_zoned(TimeZone::system()), self.sequence),
            false => message(&self.origin, alert, (at, quality), self.sequence),
        };
        if self.to.try_send(message).is_err() {
            tracing::error!(
                event = "alerts-untold",
                "an alert finds no room on its way to the log server, which is away for long"
            );
        }
    }
}

/// An open way.
enum Open {
    Datagrams(UdpSocket),
    Local(UnixDatagram),
    Connection(Box<dyn Stream>),
}

/// Sends until there is nobody left who tells; what waits then is tried once more.
async fn send_all(way: To, tls: Option<ClientTls>, mut waiting: Receiver<String>) {
    let is_connection = matches!(way, To::Tcp(..) | To::Tls(..));
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut open: Option<Open> = None;
    let mut unsent: VecDeque<String> = VecDeque::new();
    // A connection may have been dead when it took the last message, which nobody says.
    let mut last: Option<(Instant, String)> = None;
    let mut trouble = String::new();
    loop {
        if unsent.is_empty() {
            let next = tokio::select! {
                next = waiting.recv() => next,
                () = hung_up(&mut open) => {
                    open = None;
                    unsent.extend(again(&mut last));
                    continue;
                }
            };
            match next {
                Some(message) => unsent.push_back(message),
                None => return,
            }
        }
        let sent = async {
            if open.is_none() {
                open = Some(timeout(DIAL_TIMEOUT, reach(&way, tls.as_ref())).await.map_err(|_| NO_ANSWER.to_owned())??);
            }
            let (Some(to), Some(message)) = (&mut open, unsent.front()) else { return Ok(()) };
            timeout(WRITE_TIMEOUT, write(to, message)).await.map_err(|_| NO_ANSWER.to_owned())?
        };
        match sent.await {
            Ok(()) => {
                last = unsent.pop_front().filter(|_| is_connection).map(|message| (Instant::now(), message));
                backoff.succeeded();
                if !std::mem::take(&mut trouble).is_empty() {
                    tracing::info!("the log server takes alerts again");
                }
            }
            Err(why) => {
                open = None;
                again(&mut last).into_iter().for_each(|message| unsent.push_front(message));
                if trouble != why {
                    tracing::warn!("the log server does not take alerts: {why}; they wait");
                    trouble = why;
                }
                if waiting.is_closed() {
                    return;
                }
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

/// A message that was written just before the connection turned out to be gone.
fn again(last: &mut Option<(Instant, String)>) -> Option<String> {
    last.take().filter(|(at, _)| at.elapsed() < DOUBTFUL).map(|(_, message)| message)
}

const NO_ANSWER: &str = "it does not answer";

/// Until the server ends the connection, so that the next message is not written into one that is gone.
async fn hung_up(open: &mut Option<Open>) {
    match open {
        Some(Open::Connection(stream)) => {
            let mut byte = [0; 64];
            // A log server says nothing.
            while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
        }
        _ => std::future::pending().await,
    }
}

async fn reach(way: &To, tls: Option<&ClientTls>) -> Result<Open, String> {
    let failed = |error: std::io::Error| format!("it cannot be reached: {}", error.kind());
    match way {
        To::Local(path) => {
            let socket = UnixDatagram::unbound().map_err(failed)?;
            socket.connect(path).map_err(failed)?;
            Ok(Open::Local(socket))
        }
        To::Udp(host, port) => {
            let to = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(failed)?.next();
            let to = to.ok_or_else(|| format!("{host} has no address"))?;
            let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(from).await.map_err(failed)?;
            socket.connect(to).await.map_err(failed)?;
            Ok(Open::Datagrams(socket))
        }
        To::Tcp(host, port) => connect(host, *port, None).await,
        To::Tls(host, port) => connect(host, *port, Some(&tls.cloned().unwrap_or_default())).await,
    }
}

/// Opens a connection that ends itself when the server takes nothing of what was written, as long as that is written again.
async fn connect(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Open, String> {
    let dialled = dial(host, port, tls).await?;
    // A socket that refuses the option still works; it is only slower to notice a dead server.
    let _ = socket2::SockRef::from(&dialled.probe).set_tcp_user_timeout(Some(DOUBTFUL / 2));
    Ok(Open::Connection(dialled.stream))
}

async fn write(open: &mut Open, message: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("it takes nothing: {}", error.kind());
    match open {
        Open::Datagrams(socket) => socket.send(message.as_bytes()).await.map(drop).map_err(failed),
        Open::Local(socket) => socket.send(message.as_bytes()).await.map(drop).map_err(failed),
        Open::Connection(stream) => {
            // MSG-LEN, a blank and the message: a sentence may have any character in it.
            let framed = format!("{} {message}", message.len());
            stream.write_all(framed.as_bytes()).await.map_err(failed)?;
            stream.flush().await.map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests;
