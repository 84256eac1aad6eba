//! PDUs as other implementations write them, and as nobody should.

use crate::corpus;
use afferent::wire::dimse::negotiation::{AssociateAc, AssociateRq};
use afferent::wire::dimse::pdu::{Piece, Splitter, kind};
use afferent::wire::dimse::{Association, Output, Settings};
use std::path::PathBuf;
use std::time::Instant;

const HEADER: usize = 6;
/// What a fresh gateway does with each of the broken ones: waits for more, refuses the association, aborts, or asks
/// whether to let the caller in.
const BROKEN: [(&str, &str); 40] = [
    ("abort_bad_source", "ends"),
    ("abort_short", "ends"),
    ("command_explicit_vr", "aborts"),
    ("command_field_text", "aborts"),
    ("command_no_group_length", "aborts"),
    ("command_truncated", "aborts"),
    ("echo_with_dataset_flag", "aborts"),
    ("header_3_bytes", "waits"),
    ("http_get", "aborts"),
    ("pdata_before_association", "aborts"),
    ("pdata_empty", "aborts"),
    ("pdv_length_0", "aborts"),
    ("pdv_length_1", "aborts"),
    ("pdv_longer_than_pdu", "aborts"),
    ("pdv_unknown_context", "aborts"),
    ("release_before_association", "aborts"),
    ("rq_ae_blank", "asks"),
    ("rq_ae_not_ascii", "asks"),
    ("rq_duplicate_context_id", "asks"),
    ("rq_even_context_id", "asks"),
    ("rq_item_overruns", "aborts"),
    ("rq_length_4g", "aborts"),
    ("rq_length_zero", "aborts"),
    ("rq_max_pdu_7", "asks"),
    ("rq_no_app_context", "rejects"),
    ("rq_no_contexts", "asks"),
    ("rq_no_transfer_syntax", "asks"),
    ("rq_role_uid_overruns", "aborts"),
    ("rq_uid_not_ascii", "asks"),
    ("rq_unknown_item", "asks"),
    ("rq_unknown_user_items", "asks"),
    ("rq_user_identity_short", "aborts"),
    ("rq_version_0", "rejects"),
    ("rq_version_3", "asks"),
    ("rq_wrong_app_context", "rejects"),
    ("store_no_sop_instance", "aborts"),
    ("store_uid_100", "aborts"),
    ("store_uid_path", "aborts"),
    ("tls_client_hello", "aborts"),
    ("unknown_type_0a", "aborts"),
];

fn files(folder: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let folder = corpus::folder("dicom")?.join("pdu").join(folder);
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let read =
        |path: PathBuf| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap());
    Some(found.into_iter().map(read).collect())
}

#[test]
fn associations_of_other_implementations_are_read_and_answered() {
    let Some(files) = files("valid") else { return println!("no corpus on this machine") };
    let (mut requests, mut answers) = (0, 0);
    for (name, bytes) in files {
        match bytes[0] {
            kind::ASSOCIATE_RQ => {
                let request = AssociateRq::read(&bytes[HEADER..]).unwrap_or_else(|why| panic!("{name}: {why:?}"));
                assert!(!request.contexts.is_empty() && request.rejection().is_none(), "{name}");
                assert_eq!(AssociateRq::read(&request.write()[HEADER..]).unwrap(), request, "{name}");
                let (answer, agreed) = request.answer(16384);
                let read = AssociateAc::read(&answer.write(&request)[HEADER..]).unwrap();
                assert_eq!(read.agreed(&request), agreed, "{name}");
                assert!(!agreed.is_empty(), "{name}: nothing was agreed on");
                requests += 1;
            }
            kind::ASSOCIATE_AC => {
                AssociateAc::read(&bytes[HEADER..]).unwrap_or_else(|why| panic!("{name}: {why:?}"));
                answers += 1;
            }
            kind::DATA => {
                let mut input = &bytes[..];
                let piece = Splitter::new(16384).next(&mut input).unwrap();
                assert!(matches!(piece, Some(Piece::Fragment(_))), "{name}: {piece:?}");
            }
            _ => {
                let mut input = &bytes[..];
                // One file holds a data set alone.
                if name != "presentation_data" {
                    assert!(Splitter::new(16384).next(&mut input).unwrap().is_some(), "{name}");
                    assert!(input.is_empty(), "{name}");
                }
            }
        }
    }
    assert!((requests, answers) == (8, 5), "{requests} requests, {answers} answers");
}

#[test]
fn what_is_broken_is_refused_in_the_words_of_the_protocol() {
    let Some(files) = files("malformed") else { return println!("no corpus on this machine") };
    assert_eq!(files.len(), BROKEN.len());
    for ((name, bytes), (known, wanted)) in files.iter().zip(BROKEN) {
        assert_eq!(name, known);
        let now = Instant::now();
        let mut gateway = Association::accept(now, Settings::default());
        gateway.handle_bytes(now, bytes);
        let outputs: Vec<Output> = std::iter::from_fn(|| gateway.poll_output()).collect();
        let does = |output: &Output| match output {
            Output::Send(bytes) if bytes[0] == kind::ABORT => Some("aborts"),
            Output::Send(bytes) if bytes[0] == kind::ASSOCIATE_RJ => Some("rejects"),
            Output::Associate(_) => Some("asks"),
            Output::Close(_) => Some("ends"),
            _ => None,
        };
        assert_eq!(outputs.iter().find_map(does).unwrap_or("waits"), wanted, "{name}: {outputs:?}");
        assert!(gateway.poll_timeout().is_some() || wanted == "asks" || wanted == "ends", "{name} waits for ever");
    }
}
