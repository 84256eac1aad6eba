//! The fleet on a real broker: mosquitto with the very configuration that is shipped, and paho-mqtt, which shares no code
//! with us, as the witness of every topic. What needs a program that this machine does not have says `left out:` and
//! passes.

#[path = "support/ports.rs"]
mod ports;
#[path = "fleet/broker.rs"]
mod broker;
#[path = "fleet/commands.rs"]
mod commands;
#[path = "fleet/config.rs"]
mod config;
#[path = "fleet/data_path.rs"]
mod data_path;
#[path = "fleet/identity.rs"]
mod identity;
#[path = "fleet/line.rs"]
mod line;
#[path = "fleet/rig.rs"]
mod rig;
#[path = "fleet/session.rs"]
mod session;
#[path = "fleet/witness.rs"]
mod witness;
