//! The links: instruments on every kind of line, through the real gateway, into a simulated EHR.
//!
//! [`rig`] puts a gateway between instruments and an EHR; each other room proves one promise. What needs a program that
//! this machine does not have says `left out:` and passes.

#[path = "support/ports.rs"]
mod ports;
#[path = "links/alerts.rs"]
mod alerts;
#[path = "links/crowd.rs"]
mod crowd;
#[path = "links/desk.rs"]
mod desk;
#[path = "links/devices.rs"]
mod devices;
#[path = "links/dialogue.rs"]
mod dialogue;
#[path = "links/directory.rs"]
mod directory;
#[path = "links/foreign.rs"]
mod foreign;
#[path = "links/law.rs"]
mod law;
#[path = "links/orders.rs"]
mod orders;
#[path = "links/parts.rs"]
mod parts;
#[path = "links/peers.rs"]
mod peers;
#[path = "links/refusal.rs"]
mod refusal;
#[path = "links/rig.rs"]
mod rig;
#[path = "links/rotation.rs"]
mod rotation;
#[path = "links/secured.rs"]
mod secured;
#[path = "links/serial.rs"]
mod serial;
#[path = "links/shared.rs"]
mod shared;
#[path = "links/summing.rs"]
mod summing;
#[path = "links/tcp.rs"]
mod tcp;
#[path = "links/worklists.rs"]
mod worklists;
