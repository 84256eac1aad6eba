//! HL7 v2 over MLLP, plain or TLS: one connection, one message in flight.
//!
//! The rule that everything here serves: an acknowledgement is believed only when it is whole, framed, names our
//! message, and came after we sent it on a connection that was silent before. In any other case the connection is
//! dropped, because an answer that comes late must find nobody to be credited to. The same bytes then go out again on
//! a new connection; the receiver recognises them by MSH-10.
//!
//! So a connection is dropped: when the answer does not come in time, when bytes arrive that are not a frame, when
//! MSA-2 is not ours, when anything is waiting on the line before we send, and when a message was in flight while the
//! caller gave up on it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::ack::{Sent, Verdict};
use super::dial::{Dialled, Stream, dial};
use super::{Config, Destination, Outcome, Scope};
use crate::wire::mllp::{FS, Framer, Item, VT, frame};

/// An acknowledgement larger than this is refused. With a long list of ERR segments a real one has a few kilobytes.
const ANSWER_MAX_BYTES: usize = 256 * 1024;
/// How long the CR after an answer's FS may take before the answer is taken without it.
const LAST_CR_GRACE: Duration = Duration::from_millis(100);
/// Read at once.
const READ_BYTES: usize = 4096;

/// An MLLP receiver as a destination.
pub struct Mllp {
    config: Arc<Config>,
    connection: Option<Connection>,
}

/// An open connection that has nothing in flight.
struct Connection {
    stream: Box<dyn Stream>,
    /// The same socket again, to look whether anything arrived without taking it.
    probe: std::net::TcpStream,
    last_used: Instant,
}

/// How an exchange over a connection ended.
enum Exchange {
    /// The answer, and whether nothing else came with it.
    Answered(Verdict, Clean),
    /// No answer can be trusted any more.
    Broken(String),
}

/// Whether the line was silent after the answer, so that it can be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Clean(bool);

impl Mllp {
    /// A destination that connects when it has the first message to deliver.
    pub fn new(config: Arc<Config>) -> Self {
        Mllp { config, connection: None }
    }

    /// The connection of the last message when it can still be trusted, else a new one.
    async fn ready(&mut self) -> Result<Connection, String> {
        if let Some(mut connection) = self.connection.take()
            && connection.last_used.elapsed() < self.config.idle_close()
            && connection.is_silent().await
        {
            return Ok(connection);
        }
        match timeout(self.config.connect_timeout(), Connection::open(&self.config)).await {
            Ok(connected) => connected,
            Err(_) => Err("cannot connect: no answer in time".to_owned()),
        }
    }
}

impl Destination for Mllp {
    async fn deliver(&mut self, message_id: &str, body: &[u8]) -> Outcome {
        // The connection is taken out of `self` while a message is in flight: when the caller gives up on this
        // future, the connection is dropped with it and a late answer finds nobody.
        let mut connection = match self.ready().await {
            Ok(connection) => connection,
            Err(reason) => return Outcome::unreachable(reason),
        };
        let sent = Sent::new(message_id, body);
        match connection.exchange(&sent, body, self.config.ack_timeout()).await {
            Exchange::Broken(reason) => Outcome::unclear(reason),
            Exchange::Answered(verdict, clean) => {
                let settled = matches!(verdict, Verdict::Accepted(_) | Verdict::Rejected { .. });
                if settled && clean == Clean(true) {
                    connection.last_used = Instant::now();
                    self.connection = Some(connection);
                }
                outcome(verdict)
            }
        }
    }
}

/// What a verdict means for the outbox.
fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Accepted(code) => Outcome::Delivered { answer: code.to_string() },
        Verdict::Rejected { code, condition, permanent } => {
            let reason = condition.map_or_else(|| code.to_string(), |c| format!("{code} {c}"));
            if permanent {
                Outcome::Refused { reason }
            } else {
                Outcome::Retry { reason, after: None, scope: Scope::Lane }
            }
        }
        Verdict::Committed => Outcome::unclear("CA, but the application answer it announces did not come"),
        Verdict::NotAnAnswer(reason) => Outcome::unclear(reason),
    }
}

impl Connection {
    async fn open(config: &Config) -> Result<Connection, String> {
        let Some((host, port)) = config.host_and_port() else { return Err("address is not host:port".to_owned()) };
        let Dialled { stream, probe, .. } = dial(&host, port, config.tls.as_ref()).await?;
        Ok(Connection { stream, probe, last_used: Instant::now() })
    }

    /// True when nothing is waiting on the line and the peer has not closed it.
    async fn is_silent(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        // What TLS has decrypted but nobody has read does not show on the socket.
        let stream = &mut self.stream;
        let unread = std::future::poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut buffer).is_ready())
        });
        if unread.await {
            return false;
        }
        // The runtime learns of new bytes only when it next polls; the socket itself knows now.
        matches!(self.probe.peek(&mut [0_u8; 1]), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, sent: &Sent, message: &[u8], limit: Duration) -> Exchange {
        let deadline = Instant::now() + limit;
        match timeout_at(deadline, self.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Exchange::Broken(format!("connection lost while sending: {}", e.kind())),
            Err(_) => return Exchange::Broken("the receiver stopped reading".to_owned()),
        }
        let mut answers = Answers::new();
        let mut committed = false;
        loop {
            let (answer, clean) = match timeout_at(deadline, self.receive(&mut answers)).await {
                Ok(Ok(received)) => received,
                Ok(Err(reason)) => return Exchange::Broken(reason),
                Err(_) if committed => return Exchange::Answered(Verdict::Committed, Clean(false)),
                Err(_) => return Exchange::Broken("no answer in time".to_owned()),
            };
            match sent.judge(&answer) {
                Verdict::Committed if !committed => committed = true,
                verdict => return Exchange::Answered(verdict, clean),
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&frame(message)).await?;
        self.stream.flush().await
    }

    /// Waits for the next framed message.
    async fn receive(&mut self, answers: &mut Answers) -> Result<(Vec<u8>, Clean), String> {
        loop {
            if let Some(answer) = answers.whole.pop_front() {
                return Ok((answer, Clean(answers.silent_after())));
            }
            let mut bytes = [0_u8; READ_BYTES];
            let reading = self.stream.read(&mut bytes);
            let read = if answers.framer.maybe_ended() {
                // The CR after the FS may be late or never come; the answer is whole either way.
                timeout(LAST_CR_GRACE, reading).await.unwrap_or(Ok(0))
            } else {
                reading.await
            };
            match read {
                Ok(0) if answers.framer.maybe_ended() => answers.end_without_cr(),
                Ok(0) => return Err("connection closed before the answer was whole".to_owned()),
                Ok(n) => answers.push(bytes.get(..n).unwrap_or_default())?,
                Err(e) => return Err(format!("connection lost before the answer was whole: {}", e.kind())),
            }
        }
    }
}

/// What has been read since the message was sent.
struct Answers {
    framer: Framer,
    whole: VecDeque<Vec<u8>>,
    /// The last thing read was the end of a frame, perhaps with line ends after it.
    ended: bool,
}

impl Answers {
    fn new() -> Self {
        Answers { framer: Framer::new(ANSWER_MAX_BYTES), whole: VecDeque::new(), ended: false }
    }

    /// Takes what was read. An instrument's noise is tolerated; a receiver's is not, because an answer that has to be
    /// picked out of noise cannot be trusted.
    fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let text = bytes.trim_ascii_start();
        let outside = self.framer.unfinished().is_none();
        if outside && text.first().is_some_and(|first| *first != VT) {
            return Err("bytes outside a frame");
        }
        for item in self.framer.push(bytes) {
            match item {
                Item::Message(answer) => self.whole.push_back(answer),
                Item::Noise(_) => return Err("bytes outside a frame"),
                Item::Restarted => return Err("a frame begins inside a frame"),
                Item::TooLong(_) => return Err("the answer is too long"),
                Item::Damaged(_) => return Err("the answer is damaged"),
            }
        }
        if !text.is_empty() {
            self.ended = text.trim_ascii_end().last() == Some(&FS);
        }
        Ok(())
    }

    fn end_without_cr(&mut self) {
        self.whole.extend(match self.framer.flush() {
            Some(Item::Message(answer)) => Some(answer),
            _ => None,
        });
        self.ended = false;
    }

    /// True when nothing came after the answer that was just taken.
    fn silent_after(&self) -> bool {
        self.whole.is_empty() && self.framer.unfinished().is_none() && self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds reads and says what came of them: the answers, and whether the line was silent after the last.
    fn read(chunks: &[&[u8]]) -> Result<(Vec<Vec<u8>>, bool), &'static str> {
        let mut answers = Answers::new();
        let mut seen = Vec::new();
        let mut silent = false;
        for chunk in chunks {
            answers.push(chunk)?;
            while let Some(answer) = answers.whole.pop_front() {
                silent = answers.silent_after();
                seen.push(answer);
            }
        }
        Ok((seen, silent))
    }

    fn whole(texts: &[&str], silent: bool) -> Result<(Vec<Vec<u8>>, bool), &'static str> {
        Ok((texts.iter().map(|t| t.as_bytes().to_vec()).collect(), silent))
    }

    #[test]
    fn a_frame_is_found_in_any_split_and_what_follows_it_is_noticed() {
        assert_eq!(read(&[b"\x0bMSH\x1c\r"]), whole(&["MSH"], true));
        assert_eq!(read(&[b"\r\n\x0bMS", b"H\x1c", b"\r"]), whole(&["MSH"], true));
        assert_eq!(read(&[b"\x0bMSH\x1c\r\n"]), whole(&["MSH"], true));
        assert_eq!(read(&[b"\x0bMSH\x1c\rMSH|"]), whole(&["MSH"], false));
        assert_eq!(read(&[b"\x0bMSH\x1c\r?"]), whole(&["MSH"], false));
        assert_eq!(read(&[b"\x0bA\x1c\r\x0bB\x1c\r"]), whole(&["A", "B"], true));
        let mut answers = Answers::new();
        answers.push(b"\x0bA\x1c\r\x0bB\x1c\r").unwrap();
        assert!(answers.whole.pop_front().is_some() && !answers.silent_after());
    }

    #[test]
    fn what_is_no_frame_breaks_the_line() {
        assert_eq!(read(&[b"HTTP/1.1"]), Err("bytes outside a frame"));
        assert_eq!(read(&[b"MSH|^~\\&|"]), Err("bytes outside a frame"));
        assert_eq!(read(&[b"\x0bMSH\x0bMSH"]), Err("a frame begins inside a frame"));
        let endless = [&[VT][..], &vec![b'x'; ANSWER_MAX_BYTES + 1]].concat();
        assert_eq!(read(&[&endless]), Err("the answer is too long"));
    }

    #[test]
    fn a_missing_last_cr_loses_no_answer_but_ends_the_trust() {
        let mut answers = Answers::new();
        answers.push(b"\x0bMSH\x1c").unwrap();
        assert!(answers.whole.is_empty() && answers.framer.maybe_ended());
        answers.end_without_cr();
        assert_eq!(answers.whole.pop_front().unwrap(), b"MSH");
        assert!(!answers.silent_after());
    }
}
