//! The simulated MLLP receiver.

use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::record::hl7;
use super::{Behaviour, Breaker, State};
use crate::wire::mllp::{FS, Fault, Framer, Item, MESSAGE_MAX, acknowledgment, frame, msh};

/// Pause in a split answer.
const SPLIT_PAUSE: Duration = Duration::from_millis(1);
/// So many single bytes go out without a pause.
const SPLIT_RUN: usize = 16;
/// Read at once.
const READ_BYTES: usize = 16 * 1024;
/// Largest message taken: more than a link takes, because a mapped message may be a little longer than its original.
const RECEIVED_MAX: usize = 2 * MESSAGE_MAX;
/// What stands in place of an answer.
const NONSENSE: &[u8] = b"\xfe\x42MZ\x90 this is no acknowledgement \xff\x01";

/// Whether the connection is still good for another message.
#[derive(PartialEq, Eq)]
enum Next {
    Message,
    Close,
}

pub(super) async fn serve(tcp: TcpStream, state: Arc<State>) {
    let breaker = Breaker::of(&tcp);
    match &state.acceptor {
        None => messages(tcp, &state, &breaker).await,
        // A peer that fails the handshake has sent nothing; there is nothing to remember.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(tcp).await {
                messages(stream, &state, &breaker).await;
            }
        }
    }
}

async fn messages<S>(stream: S, state: &State, breaker: &Breaker)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut framer = Framer::new(RECEIVED_MAX);
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let Ok(n @ 1..) = reading.read(&mut bytes).await else { return };
        for item in framer.push(bytes.get(..n).unwrap_or_default()) {
            let Item::Message(message) = item else { continue };
            match answer(&message, &mut writing, state, breaker).await {
                Ok(Next::Message) => {}
                Ok(Next::Close) | Err(_) => return,
            }
        }
    }
}

async fn answer<S>(message: &[u8], out: &mut WriteHalf<S>, state: &State, breaker: &Breaker) -> std::io::Result<Next>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (behaviour, previous) = state.record.arrived(hl7(message), |number, id| state.behaviour_for(number, id));
    let ok = acknowledge(message, "AA", None, None);
    let mut next = Next::Message;
    match behaviour {
        Behaviour::Ok => send(out, &ok).await?,
        Behaviour::Slow(pause) => {
            sleep(pause).await;
            send(out, &ok).await?;
        }
        Behaviour::Ae(condition) => send(out, &acknowledge(message, "AE", condition, None)).await?,
        Behaviour::Ar(condition) => send(out, &acknowledge(message, "AR", condition, None)).await?,
        Behaviour::Ca => send(out, &acknowledge(message, "CA", None, None)).await?,
        Behaviour::Status(400 | 404 | 409 | 412 | 422) => {
            send(out, &acknowledge(message, "AR", Some(102), None)).await?;
        }
        Behaviour::Status(_) | Behaviour::TooMany(_) | Behaviour::Html | Behaviour::Empty | Behaviour::Redirect => {
            send(out, &acknowledge(message, "AE", Some(207), None)).await?;
        }
        Behaviour::WrongId => send(out, &acknowledge(message, "AA", None, Some("NOBODYS-MESSAGE"))).await?,
        Behaviour::StaleId => send(out, &acknowledge(message, "AA", None, Some(&previous))).await?,
        Behaviour::NoMsa => {
            let header = ok.split(|b| *b == b'\r').next().unwrap_or_default();
            send(out, &frame(&[header.strip_prefix(&[0x0B]).unwrap_or(header), b"\r"].concat())).await?;
        }
        Behaviour::Garbage => send(out, &frame(NONSENSE)).await?,
        Behaviour::Noise => {
            send(out, NONSENSE).await?;
            next = Next::Close;
        }
        Behaviour::Twice => send(out, &[ok.clone(), ok].concat()).await?,
        Behaviour::Late(pause) => {
            send(out, &ok).await?;
            sleep(pause).await;
            send(out, &ok).await?;
        }
        Behaviour::Split => {
            for (at, byte) in ok.into_iter().enumerate() {
                send(out, &[byte]).await?;
                // Between FS and CR is where it matters most.
                if byte == FS || at % SPLIT_RUN == 0 {
                    sleep(SPLIT_PAUSE).await;
                }
            }
        }
        Behaviour::Half => {
            send(out, ok.get(..ok.len() / 2).unwrap_or_default()).await?;
            next = Next::Close;
        }
        Behaviour::Hang | Behaviour::Lose => std::future::pending().await,
        Behaviour::Reset => {
            breaker.reset_on_close();
            next = Next::Close;
        }
        Behaviour::Close | Behaviour::Stored500 | Behaviour::Down => next = Next::Close,
    }
    Ok(next)
}

async fn send<S: AsyncWrite>(out: &mut WriteHalf<S>, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes).await?;
    out.flush().await
}

/// A framed acknowledgement of `message`; `names` puts another control id in MSA-2.
fn acknowledge(message: &[u8], code: &str, condition: Option<u16>, names: Option<&str>) -> Vec<u8> {
    let Some(header) = msh(message) else { return frame(b"MSH|^~\\&|EHR\rMSA|AR|\r") };
    let time = Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string();
    let fault = condition.map(fault);
    let unframed = acknowledgment(&header, code, fault.as_ref(), &format!("E{time}"), &time);
    match names {
        None => frame(&unframed),
        Some(other) => {
            let head = unframed.split(|b| *b == b'\r').next().unwrap_or_default();
            let separator = char::from(header.field_separator);
            frame(&[head, format!("\rMSA{separator}{code}{separator}{other}\r").as_bytes()].concat())
        }
    }
}

fn fault(condition: u16) -> Fault {
    let (code, meaning) = match condition {
        100 => ("100", "Segment sequence error"),
        101 => ("101", "Required field missing"),
        102 => ("102", "Data type error"),
        103 => ("103", "Table value not found"),
        200 => ("200", "Unsupported message type"),
        201 => ("201", "Unsupported event code"),
        202 => ("202", "Unsupported processing id"),
        203 => ("203", "Unsupported version id"),
        204 => ("204", "Unknown key identifier"),
        205 => ("205", "Duplicate key identifier"),
        206 => ("206", "Application record locked"),
        _ => ("207", "Application internal error"),
    };
    Fault { location: &[], code, meaning, text: "the simulated EHR says no" }
}
