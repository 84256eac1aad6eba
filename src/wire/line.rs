//! Unframed and foreign lines: whatever an instrument sends that is neither LIS01-A2, MLLP nor POCT1-A.
//!
//! There is no standard to go by, so the driver (or the link) declares how a message begins and ends ([`Framing`]).
//! [`Framer`] finds the messages in bytes by that, [`Receiver`] takes them into custody and answers as far as the
//! instrument wants answers. What a message says is the business of [`crate::driver`].

mod framer;
pub mod framing;
mod receiver;

pub use framer::{Framer, Item, MESSAGE_MAX};
pub use framing::Framing;
pub use receiver::{Receiver, ReceiverConfig};

#[cfg(test)]
mod tests;
