//! Messages: typed reading of what the wire delivered, before any meaning is given to it.
//!
//! A reader never fails. What it cannot read it says ([`Oddity`], `damaged`, `unreadable`), and the driver turns that
//! into doubts. Splitting comes first, escapes are decoded last, and the raw bytes stay the truth (invariant I2).

pub mod astm;
pub mod charset;
pub mod dicom;
pub mod hl7;
pub mod lines;
pub mod poct1a;
pub mod tables;

/// Most oddities kept of one entry; more say nothing new.
pub const ODDITIES_MAX: usize = 1000;

/// Something odd about a message, in words that are safe to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oddity {
    /// Record or segment number, 0 for the message as a whole.
    pub record: u32,
    /// What; a constant text.
    pub what: &'static str,
}

fn note(oddities: &mut Vec<Oddity>, record: u32, what: &'static str) {
    let oddity = Oddity { record, what };
    if oddities.len() < ODDITIES_MAX && oddities.last() != Some(&oddity) {
        oddities.push(oddity);
    }
}
