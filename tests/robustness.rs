//! Whatever bytes come in, nothing panics, nothing is made up and the account of results balances. The same entry
//! points as the fuzz targets, for a moment in every test run; proptest prints the input when one fails.

#[path = "fuzz/entry_points.rs"]
mod entry_points;
#[path = "support/corpus.rs"]
mod corpus;

use afferent::driver::builtin::DRIVERS;
use afferent::sim::transcript::Step;
use afferent::wire::dimse::{Command, pdu, uid};
use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

/// What the instruments of all driver cases send: each a whole session.
static SESSIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    let mut found = Vec::new();
    for (id, _) in DRIVERS {
        let cases = std::fs::read_dir(root.join(id).join("cases")).unwrap();
        let mut cases: Vec<_> = cases.map(|case| case.unwrap().path()).collect();
        cases.sort();
        for case in cases {
            let steps = afferent::cli::driver::case::session(&case).unwrap();
            let sent = steps.into_iter().filter_map(|step| match step {
                Step::Instrument(bytes) => Some(bytes),
                _ => None,
            });
            found.push(sent.collect::<Vec<_>>().concat());
        }
    }
    assert!(found.len() > 20, "the drivers' cases are gone");
    found
});

/// What modalities say: a conversation with everything in it, and the PDUs of the corpus.
static ASSOCIATIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    let messages = [
        pdu::message(1, &Command::echo_request(1), None, 64),
        pdu::message(3, &Command::store_request(2, ct, "1.2.3"), Some(&[7; 2000]), 512),
        pdu::message(5, &Command::find_request(3, uid::MODALITY_WORKLIST), Some(b"keys"), 64),
        pdu::message(5, &Command::cancel_request(3), None, 64),
        pdu::message(3, &Command::store_request(4, ct, "1.2.4"), Some(&[8; 300]), 0),
        pdu::release_rq(),
    ];
    let mut found = vec![messages.concat()];
    for folder in ["valid", "malformed"].iter().filter_map(|f| Some(corpus::folder("dicom")?.join("pdu").join(f))) {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        found.extend(files.into_iter().map(|file| std::fs::read(file).unwrap()));
    }
    found
});

/// One thing that happens to bytes on a bad line.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Cut(usize, usize),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Bytes with a meaning are more interesting than others.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\x00\x02\x03\x04\x05\x06\x0A\x0B\x0D\x15\x17\x1C|^~\\&\"[=\n\xEF\xFF".to_vec()),
    ];
    prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (any::<usize>(), 1..80_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (any::<usize>(), prop::collection::vec(byte, 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = bytes.len().max(1);
        match damage {
            Damage::Flip(at, byte) => {
                if let Some(place) = bytes.get_mut(at % length) {
                    *place = *byte;
                }
            }
            Damage::Cut(at, many) => {
                let from = (at % length).min(bytes.len());
                let to = (from + many).min(bytes.len());
                bytes.drain(from..to);
            }
            Damage::Repeat(at, many) => {
                let from = (at % length).min(bytes.len());
                let again = bytes[from..(from + many).min(bytes.len())].to_vec();
                bytes.splice(from..from, again);
            }
            Damage::Insert(at, more) => {
                let from = (at % length).min(bytes.len());
                bytes.splice(from..from, more.iter().copied());
            }
        }
    }
    bytes
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 0..6)
}

/// A session of a driver's cases on a bad line, with the byte in front that says how it is split.
fn session() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), any::<prop::sample::Index>(), damages()).prop_map(|(plan, which, damages)| {
        let mut input = vec![plan];
        input.extend(damaged(which.get(&SESSIONS).clone(), &damages));
        input
    })
}

/// PDUs on a bad line: half of the time the conversation, on an association that is open.
fn association() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), any::<bool>(), any::<prop::sample::Index>(), damages()).prop_map(|(plan, whole, which, damages)| {
        let mut input = vec![if whole { plan | 0x40 } else { plan }];
        let bytes = if whole { &ASSOCIATIONS[0] } else { which.get(&ASSOCIATIONS) };
        input.extend(damaged(bytes.clone(), &damages));
        input
    })
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

/// A text with damage, as far as it is still text.
fn text(of: &'static str) -> impl Strategy<Value = Vec<u8>> {
    damages().prop_map(move |damages| damaged(of.as_bytes().to_vec(), &damages))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_all_are_borne(input in anything()) {
        entry_points::astm_link(&input);
        entry_points::mllp_link(&input);
        entry_points::poct1a_link(&input);
        entry_points::lines_link(&input);
        entry_points::dicom_link(&input);
        entry_points::astm_records(&input);
        entry_points::hl7(&input);
        entry_points::poct1a(&input);
        entry_points::table(&input);
        entry_points::lines(&input);
        entry_points::driver_toml(&input);
        entry_points::configuration(&input);
    }

    #[test]
    fn i2_a_bad_line_makes_nothing_up(input in session()) {
        entry_points::astm_link(&input);
        entry_points::mllp_link(&input);
        entry_points::poct1a_link(&input);
        entry_points::lines_link(&input);
    }

    #[test]
    fn i7_damaged_messages_still_balance(input in session()) {
        entry_points::astm_records(&input[1..]);
        entry_points::hl7(&input[1..]);
        entry_points::poct1a(&input[1..]);
        entry_points::table(&input[1..]);
        entry_points::lines(&input[1..]);
    }

    #[test]
    fn a_damaged_driver_is_refused_or_reads(input in prop::sample::select(DRIVERS).prop_flat_map(|(_, of)| text(of))) {
        entry_points::driver_toml(&input);
    }

    #[test]
    fn a_damaged_configuration_is_told_what_is_wrong(input in text(afferent::config::sample::SAMPLE)) {
        entry_points::configuration(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i10_damaged_pdus_are_borne_and_cost_no_more_than_they_bring(input in association()) {
        entry_points::dicom_link(&input);
    }
}
