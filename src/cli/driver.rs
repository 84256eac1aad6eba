//! `afferent driver`.

pub mod case;
