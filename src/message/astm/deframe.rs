//! From LIS01-A2 frames back to the text they carry.
//!
//! The bytes are frames the receiver accepted (`STX FN text ETB|ETX CS CS CR LF`), one after the other, or a whole
//! capture with the line's control characters, or records without any framing. Checksums were the receiver's business
//! and are not looked at again.

use crate::message::{self, Oddity};

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
const EOT: u8 = 0x04;
const ENQ: u8 = 0x05;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const ETB: u8 = 0x17;

/// Text without its frames.
pub struct Deframed {
    /// The records, ended by CR or LF.
    pub text: Vec<u8>,
    /// True when there were frames.
    pub framed: bool,
    /// True when a frame had no end.
    pub cut: bool,
    /// What was odd.
    pub oddities: Vec<Oddity>,
}

/// Takes the framing off.
pub fn deframe(raw: &[u8]) -> Deframed {
    let mut deframed =
        Deframed { text: Vec::with_capacity(raw.len()), framed: false, cut: false, oddities: Vec::new() };
    if !raw.contains(&STX) {
        bare(raw, &mut deframed.text);
        return deframed;
    }
    deframed.framed = true;
    let mut last: Option<&[u8]> = None;
    let mut numbered = None;
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            STX => {
                let length =
                    after.iter().position(|b| matches!(*b, STX | ETX | ETB | EOT | ENQ)).unwrap_or(after.len());
                let (content, tail) = after.split_at(length);
                rest = tail;
                let numbered = *numbered.get_or_insert(content.first().is_some_and(u8::is_ascii_digit));
                let end = tail.first().copied();
                if last == Some(content) && numbered {
                    message::note(&mut deframed.oddities, 0, "the same frame twice");
                    continue;
                }
                let finished = matches!(end, Some(ETX | ETB));
                if !finished && sent_again(content, tail) {
                    continue;
                }
                last = Some(content);
                let number = usize::from(numbered && content.first().is_some_and(u8::is_ascii_digit));
                deframed.text.extend_from_slice(content.get(number..).unwrap_or_default());
                if !finished {
                    deframed.cut = true;
                    message::note(&mut deframed.oddities, 0, "a frame without an end");
                }
                if end != Some(ETB) {
                    deframed.text.push(b'\r');
                }
            }
            // A new session: whatever record was open stays cut off.
            ENQ | EOT => {
                last = None;
                if !matches!(deframed.text.last(), None | Some(b'\r')) {
                    deframed.text.push(b'\r');
                }
            }
            // Between frames the standard lets anything pass unheard (LIS01-A2 8.3.1.1): checksum, CR, LF, noise.
            _ => {}
        }
    }
    deframed
}

/// True when the frame after a cut one carries the same number, which is how a sender repeats it.
fn sent_again(cut: &[u8], tail: &[u8]) -> bool {
    let next = tail.iter().position(|b| *b == STX).and_then(|at| tail.get(at + 1));
    next.is_some() && next == cut.first()
}

fn bare(raw: &[u8], text: &mut Vec<u8>) {
    for byte in raw {
        match *byte {
            ENQ | EOT | ETX => text.push(b'\r'),
            ACK | NAK | ETB => {}
            other => text.push(other),
        }
    }
}
