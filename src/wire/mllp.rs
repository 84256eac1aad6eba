//! MLLP: HL7 v2 messages between `VT` and `FS CR`, and the acknowledgments that answer them.
//!
//! [`Framer`] finds messages in bytes, [`Receiver`] takes them into custody and answers, [`Sender`] is the other side.
//! A receiver also speaks for us: queries are answered by the shell, and messages of our own go out between the peer's.
//! Only the header segment is read here, byte by byte ([`Msh`]): what a message says is the business of
//! [`crate::message`], and a message that cannot be understood is still taken and kept.

mod ack;
mod framer;
mod msh;
mod outgoing;
mod receiver;
mod sender;

pub use ack::{Answer, Fault, acknowledgment};
pub use framer::{Framer, Item, MESSAGE_MAX};
pub use msh::{Msh, msh};
pub use receiver::{Receiver, ReceiverConfig, Reply, Verdict};
pub use sender::{Busy, Sender, SenderConfig};

/// Start of a message.
pub const VT: u8 = 0x0B;
/// End of a message; `CR` follows.
pub const FS: u8 = 0x1C;
/// End of a segment, and of a frame after [`FS`].
pub const CR: u8 = 0x0D;

/// A message in its frame: `VT message FS CR`.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&[VT], message, &[FS, CR]].concat()
}

#[cfg(test)]
mod tests;
