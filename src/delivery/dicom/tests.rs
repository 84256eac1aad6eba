//! What statuses mean, and what a file's header says.

use std::io::Write as _;

use super::object::{Chunks, Header};
use super::*;

/// A Part 10 file with this group 2 behind its group length, and this data set.
fn part10(meta: &[u8], data_set: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 128]).unwrap();
    file.write_all(b"DICM\x02\0\0\0UL\x04\0").unwrap();
    file.write_all(&(meta.len() as u32).to_le_bytes()).unwrap();
    file.write_all(meta).unwrap();
    file.write_all(data_set).unwrap();
    file
}

fn element(number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let length = match vr {
        "OB" => [&[0, 0][..], &(value.len() as u32).to_le_bytes()].concat(),
        _ => (value.len() as u16).to_le_bytes().to_vec(),
    };
    [&[2, 0][..], &number.to_le_bytes(), vr.as_bytes(), &length, value].concat()
}

fn meta() -> Vec<u8> {
    [
        element(1, "OB", &[0, 1]),
        element(2, "UI", b"1.2.840.10008.5.1.4.1.1.6.1\0"),
        element(3, "UI", b"2.25.4711"),
        element(0x10, "UI", b"1.2.840.10008.1.2.1 "),
    ]
    .concat()
}

#[test]
fn a_header_says_what_the_file_is_and_where_the_data_set_begins() {
    let mut file = part10(&meta(), b"data");
    let header = Header::read(file.as_file_mut()).unwrap();
    assert_eq!(header.sop_class_uid, "1.2.840.10008.5.1.4.1.1.6.1");
    assert_eq!(
        (header.sop_instance_uid.as_str(), header.transfer_syntax_uid.as_str()),
        ("2.25.4711", "1.2.840.10008.1.2.1")
    );
    assert_eq!(header.data_set_at, 144 + meta().len() as u64);
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_refused_and_never_panics() {
    let whole = std::fs::read(part10(&meta(), b"data").path()).unwrap();
    for cut in 0..whole.len() - 4 {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&whole[..cut]).unwrap();
        assert!(Header::read(file.as_file_mut()).is_err(), "cut at {cut}");
    }
    let wrong = [
        element(2, "UI", b"1.2"),
        [element(2, "UI", b"1.2"), element(3, "UI", b"../../etc"), element(0x10, "UI", b"1.2")].concat(),
        [element(2, "UI", b"1.2"), vec![2, 0, 3, 0, b'U', b'I', 255, 255]].concat(),
    ];
    for meta in wrong {
        assert!(Header::read(part10(&meta, b"").as_file_mut()).is_err());
    }
}

#[tokio::test]
async fn a_data_set_comes_in_pieces_of_which_only_the_last_says_so() {
    let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let file = part10(&meta(), &data);
    let at = 144 + meta().len() as u64;
    for piece_max in [1, 7, 128, 999, 1000, 1001] {
        let (mut chunks, rest) = Chunks::open(file.path(), at, piece_max, 12).unwrap();
        assert_eq!(rest, 1000);
        let (mut read, mut lasts) = (Vec::new(), Vec::new());
        while let Some(piece) = chunks.next().await.unwrap() {
            assert!(piece.bytes.len() <= piece_max + 12 && piece.bytes[..12] == [0; 12]);
            read.extend_from_slice(&piece.bytes[12..]);
            lasts.push(piece.is_last);
        }
        assert_eq!(read, data);
        assert_eq!(lasts.iter().filter(|last| **last).count(), 1);
        assert_eq!(lasts.last(), Some(&true));
    }
    assert!(Chunks::open(file.path(), 1_000_000, 10, 0).is_err(), "the file is shorter than that");
}

#[test]
fn a_status_says_whether_the_object_is_stored_whether_to_wait_or_to_ask_a_person() {
    for stored in [0x0000, 0x0001, 0x0107, 0x0111, 0xB000, 0xB006, 0xB007] {
        assert!(matches!(outcome(Some(stored)), Outcome::Delivered { .. }), "{stored:04X}");
    }
    for later in [0xA700, 0xA701, 0xA7FF, 0x0213] {
        assert!(matches!(outcome(Some(later)), Outcome::Retry { scope: Scope::Unclear, .. }), "{later:04X}");
    }
    for doubted in [0xA900, 0xC000, 0xCFFF, 0x0110, 0x0122, 0x0117, 0xFE00, 0xFF00, 0x1234] {
        assert!(matches!(outcome(Some(doubted)), Outcome::Doubted { .. }), "{doubted:04X}");
    }
    assert!(matches!(outcome(Some(0x0124)), Outcome::Retry { scope: Scope::Destination, .. }), "nothing is lost by it");
    assert!(matches!(outcome(None), Outcome::Retry { .. }));
}
