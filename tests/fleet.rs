//! The fleet on a real broker: mosquitto with the very configuration that is shipped, and paho-mqtt, which shares no code
//! with us, as the witness of every topic. What needs a program that this machine does not have says `left out:` and
//! passes.

#[path = "support/patience.rs"]
mod patience;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/page.rs"]
mod served;
#[path = "fleet/backup.rs"]
mod backup;
#[cfg(feature = "board")]
#[path = "fleet/bad_input.rs"]
mod bad_input;
#[path = "fleet/broker.rs"]
mod broker;
#[path = "fleet/changes.rs"]
mod changes;
#[path = "fleet/commands.rs"]
mod commands;
#[path = "fleet/config.rs"]
mod config;
#[path = "fleet/data_path.rs"]
mod data_path;
#[path = "fleet/desk.rs"]
mod desk;
#[path = "fleet/forbidden.rs"]
mod forbidden;
#[path = "fleet/identity.rs"]
mod identity;
#[path = "fleet/line.rs"]
mod line;
#[path = "fleet/log.rs"]
mod log;
#[path = "fleet/page.rs"]
mod page;
#[path = "fleet/proxy.rs"]
mod proxy;
#[path = "fleet/raw.rs"]
mod raw;
#[path = "fleet/readme.rs"]
mod readme;
#[path = "fleet/reset.rs"]
mod reset;
#[path = "fleet/rig.rs"]
mod rig;
#[path = "fleet/rollout.rs"]
mod rollout;
#[path = "fleet/session.rs"]
mod session;
#[path = "fleet/setup.rs"]
mod setup;
#[path = "fleet/simulated.rs"]
mod simulated;
#[path = "fleet/sparkplug.rs"]
mod sparkplug;
#[path = "fleet/stick.rs"]
mod stick;
#[path = "fleet/trial.rs"]
mod trial;
#[path = "fleet/witness.rs"]
mod witness;
