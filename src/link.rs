//! Links: the connections to instruments. A link runs a machine of [`crate::wire`] over a serial port or TCP.

pub mod config;

pub use config::Config;
