//! Orders from the EHR: how they come in, and which results answer them.
//!
//! - [`matching`] decides which order a result answers. Pure.

pub mod matching;
