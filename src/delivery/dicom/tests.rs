//! What a file's header says, and its bytes piece by piece.

use std::fs::File;
use std::io::Write as _;

use super::object::{Chunks, Content, Header, ObjectFault};
use super::{Config, Dicom};
use crate::delivery::instance::{Images, Reference};
use crate::delivery::window::Pace;
use crate::delivery::{Destination, Outcome, Protocol, Scope};
use crate::message::dicom::FileMeta;
use crate::message::dicom::performed_step::request::{self, Kind};
use crate::message::dicom::rewrite::{Changes, Profile, Rule};
use crate::wire::dimse::uid;

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
    let content = |made: &[u8], stretch| Content { made: made.to_vec().into(), path: file.path().to_owned(), stretch };
    // As it lies in the file, and with a beginning of its own; either way behind a header.
    let came = content(b"", 0..at + 1000).behind(at);
    let made = content(&[&[7; 50], &data[..300]].concat(), at + 300..at + 1000).behind(50);
    for (piece_max, content) in
        [1, 7, 128, 299, 300, 999, 1000, 1001].into_iter().flat_map(|n| [(n, &came), (n, &made)])
    {
        assert_eq!(content.bytes(), 1000);
        let mut chunks = Chunks::open(content.clone(), piece_max, 12).unwrap();
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
    let longer = Chunks::open(content(b"", 0..1_000_000), 10, 0).err();
    assert!(matches!(longer, Some(ObjectFault::Damaged(_))), "the file is shorter than that");
}

#[tokio::test]
async fn a_file_the_disk_does_not_give_is_tried_again_and_one_that_is_bent_is_for_a_person() {
    let fault = |of: Result<(), ObjectFault>| Outcome::from(of.expect_err("a fault"));
    let again = |outcome: Outcome| match outcome {
        Outcome::Retry { scope: Scope::Unclear, reason, .. } => reason.starts_with(crate::journal::IMAGE_LOST),
        _ => false,
    };
    // A directory can be opened, and gives nothing.
    let folder = tempfile::tempdir().unwrap();
    assert!(again(fault(Header::read(&mut File::open(folder.path()).unwrap()).map(drop))));
    let content = Content { made: Vec::new().into(), path: folder.path().to_owned(), stretch: 0..10 };
    assert!(again(fault(Chunks::open(content, 10, 0).unwrap().next().await.map(drop))));
    let reference = Reference {
        spool: "folder".to_owned(),
        sop_class_uid: "1.2".to_owned(),
        sop_instance_uid: "2.25.1".to_owned(),
        transfer_syntax_uid: uid::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        bytes: 0,
        conflict: false,
    };
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let bytes = folder.path().join("folder").metadata().unwrap().len();
    let images = Images::unchanged(folder.path().to_owned());
    assert!(again(images.find(&Reference { bytes, ..reference.clone() }.body()).await.err().unwrap()));
    let gone = images.find(&Reference { spool: "gone".to_owned(), ..reference }.body()).await.err().unwrap();
    assert!(matches!(&gone, Outcome::Refused { reason } if reason.starts_with(crate::journal::IMAGE_LOST)), "{gone:?}");
    // Cut while it is sent: more than is read ahead is missing then.
    let file = part10(&meta(), &[7; 1000]);
    let stretch = 0..file.path().metadata().unwrap().len();
    let content = Content { made: Vec::new().into(), path: file.path().to_owned(), stretch };
    let mut chunks = Chunks::open(content, 10, 0).unwrap();
    file.as_file().set_len(0).unwrap();
    let fault = loop {
        if let Err(fault) = chunks.next().await {
            break Outcome::from(fault);
        }
    };
    assert!(matches!(&fault, Outcome::Refused { reason } if reason.contains("cut short")), "{fault:?}");
}

#[tokio::test]
async fn a_performed_step_that_waited_never_goes_where_the_patient_must_not() {
    let meta = FileMeta {
        sop_class_uid: uid::PERFORMED_PROCEDURE_STEP,
        sop_instance_uid: "2.25.7",
        transfer_syntax_uid: uid::IMPLICIT_VR_LITTLE_ENDIAN,
        source_ae_title: "VIVID",
    };
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rule = Rule { tag: "0010,0010".to_owned(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    for (changes, is_parked) in [(basic, true), (coerce, true), (Changes::default(), false)] {
        let images = Images::changed("/nowhere".into(), changes, [1; 32]);
        let config = Config { address: Some("127.0.0.1:1".to_owned()), ..Config::new("PACS", Protocol::Dicom) };
        let mut to = Dicom::new(config.into(), images, Pace::new(0));
        for kind in [Kind::Create, Kind::Set] {
            let said = to.deliver("1", &request::write(kind, &meta, b"")).await;
            let parked = matches!(&said, Outcome::Refused { reason } if reason.starts_with("step-not-changed: "));
            assert_eq!(parked, is_parked, "{said:?}");
        }
    }
}
