//! Simulators: instruments, modalities, a PACS and an EHR that misbehave on request, and boxes by the thousand.
//!
//! They run the machines of [`crate::wire`] from the other side of the line, so that a fault in the gateway is not
//! matched by the same fault in its judge, and they keep their own ledger of what was sent and what was acknowledged.

pub mod ehr;
pub mod files;
pub mod fleet;
pub mod instrument;
pub mod modality;
pub mod pacs;
pub mod random;
pub mod replay;
pub mod transcript;
