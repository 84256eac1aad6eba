//! POCT1-A (CLSI POCT1-A2, the device messaging layer): XML documents over TCP, the device dials in and the host leads.
//!
//! [`Framer`] finds documents in bytes, [`document`] reads one, [`Receiver`] is the host: it takes observations into
//! custody and answers. What an observation says is the business of [`crate::message`]; here only the header, the
//! device's abilities and the course of the conversation are read.

pub mod document;
mod framer;
pub mod operators;
mod receiver;
mod speech;

pub use framer::{DOCUMENT_MAX, Framer, Item};
pub use operators::Operator;
pub use receiver::{Receiver, ReceiverConfig};

#[cfg(test)]
mod tests;
