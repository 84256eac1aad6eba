//! The bench kit: what a biomedical engineer looks at while an instrument is connected. The engines are here, without a
//! terminal or a page; `cli/` shows them.
//!
//! - [`clock`] judges an instrument's clock by the times its messages carry.
//! - [`codes`] knows what other drivers take a code for that nobody has mapped yet.
//! - [`doctor`] says, layer by layer from the instrument to the EHR, what is wrong and what to do next.
//! - [`examination`] finds out what the doctor goes by.
//! - [`dry_run`] tries the site's rules on what came already.
//! - [`probe`] finds out what is at the other end of a line, and writes the link for it.
//! - [`tap`] turns the bytes of a line, as they pass, into text a person reads: control characters named, patient
//!   fields masked, a verdict on each frame.

pub mod clock;
pub mod codes;
pub mod doctor;
pub mod dry_run;
pub mod examination;
pub mod probe;
pub mod tap;
