//! LIS01-A2 (ASTM E1381): the frame protocol under most bench analyzers, on serial lines and TCP.
//!
//! Half duplex, stop and wait. `ENQ` asks for the line, `ACK` grants it, then frames
//! `STX FN text ETB|ETX C1 C2 CR LF` go one by one, each answered by `ACK` or `NAK`, and `EOT` gives the line back.
//! [`Receiver`] is our side when the instrument talks, [`Sender`] when we do (and the simulated instrument's side);
//! [`Station`] is both of them on one line.
//!
//! **The reply is one bare byte that names no frame.** Whatever the peer reads after it spoke is taken for the answer
//! to its last question, so a reply too many is as dangerous as an accepted bad frame: it would acknowledge a frame
//! nobody has. Three rules follow from that and shape the receiver: an `ENQ` where a frame byte is due is answered
//! only after a silence (a flipped bit turns `E` into `ENQ`, but the sender goes on talking); custody that comes after
//! the sender's timer is not acknowledged; a frame whose sender has moved on is not acknowledged either.

mod frame;
mod receiver;
mod sender;
mod station;

pub use frame::{ChecksumRule, checksum, encode_frame};
pub use receiver::{Receiver, ReceiverConfig};
pub use sender::{Busy, Packing, Role, Sender, SenderConfig};
pub use station::Station;

/// Start of a frame.
pub const STX: u8 = 0x02;
/// End of a frame that ends its record or message.
pub const ETX: u8 = 0x03;
/// The sender gives the line back.
pub const EOT: u8 = 0x04;
/// The sender asks for the line.
pub const ENQ: u8 = 0x05;
/// Yes.
pub const ACK: u8 = 0x06;
/// Line feed.
pub const LF: u8 = 0x0A;
/// Carriage return.
pub const CR: u8 = 0x0D;
/// No.
pub const NAK: u8 = 0x15;
/// End of a frame whose text goes on in the next.
pub const ETB: u8 = 0x17;

#[cfg(test)]
mod tests;
