//! Fuzzes the DICOM listener.

#![no_main]
#[path = "../entry_points.rs"]
#[allow(dead_code)]
mod entry_points;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry_points::dicom_link(input));
