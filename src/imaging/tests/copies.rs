//! An image whose file is lost, and the whole copy of it that comes with another head.

use super::*;
use crate::delivery::instance::Reference;
use crate::journal::OutboxId;

const PACS: &str = "pacs";

/// Stores an image under one AE title, has this become of its message, loses its file, and stores it under another AE
/// title of the same link. Tells of each message that is due then whether its file is there.
fn after_loss(destinations: &[delivery::Config], meanwhile: Option<Settlement>) -> (Bench, Vec<bool>) {
    let bench = Bench::with(destinations, Config::default());
    bench.store(&[Made::image("1")]);
    if let Some(how) = meanwhile {
        let row = bench.runtime.block_on(bench.journal.claim(PACS, 1)).unwrap().remove(0);
        bench.runtime.block_on(bench.journal.settle(row.id, how)).unwrap();
    }
    for file in std::fs::read_dir(bench.journal.spool().folder()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    bench.keep_from("CARTO", &[Made::image("1")]);
    bench.file();
    let claimed = bench.runtime.block_on(bench.journal.claim(PACS, 10)).unwrap();
    let is_there = |body: &[u8]| {
        let reference: Reference = serde_json::from_slice(body).unwrap();
        bench.journal.spool().path(&reference.spool).exists()
    };
    let sent = claimed.iter().map(|row| is_there(&row.body)).collect();
    (bench, sent)
}

fn pacs() -> delivery::Config {
    delivery::Config::new(PACS, Protocol::Dicom)
}

#[test]
fn i7_the_whole_copy_of_an_image_that_was_lost_before_it_was_sent_is_sent() {
    let (bench, sent) = after_loss(&[pacs()], None);
    assert_eq!(sent, [false, true], "the lost one, and the whole one behind it");
    assert_eq!(bench.account()[3], 0, "it repeats nothing");
    let lost = format!("{}: the stored image is gone", journal::IMAGE_LOST);
    let (bench, sent) = after_loss(&[pacs()], Some(Settlement::Park { reason: lost }));
    assert_eq!(sent, [true]);
    bench.account();
}

#[test]
fn i7_the_whole_copy_of_a_lost_image_that_went_nowhere_takes_its_place() {
    let (bench, _) = after_loss(&[], None);
    assert_eq!(bench.account()[3], 0, "a repeat would go before its time when space is short");
    let study = bench.reader.studies(1).unwrap().remove(0).study;
    let kept = bench.reader.study(study).unwrap().unwrap().series.remove(0).instances;
    assert!(kept.len() == 1 && bench.reader.is_whole(kept[0].entry, &|| true).unwrap(), "the study has the whole one");
}

#[test]
fn an_image_that_was_damaged_before_it_was_filed_is_counted_until_a_whole_copy_came() {
    let bench = Bench::with(&[pacs()], Config::default());
    let damaged = |count: i64| {
        let is = || bench.reader.stats(0).unwrap().damaged == count;
        assert!((0..200).any(|_| is() || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            is()
        }));
    };
    bench.keep(&[Made::image("1"), Made::image("2")]);
    for file in std::fs::read_dir(bench.journal.spool().folder()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for entry in bench.reader.pending_entries(10).unwrap() {
        let instance = entry.instance.clone().unwrap();
        assert!(bench.desk.file(&bench.reader, &entry, &instance).unwrap().is_none());
    }
    damaged(2);
    // The same image under another head; and another image under the UID of the second.
    bench.keep_from("CARTO", &[Made::image("1")]);
    bench.keep(&[Made::image("2").with(tags::STUDY_DESCRIPTION, VR::LO, "Other")]);
    bench.file();
    damaged(1);
    bench.account();
}

#[test]
fn i4_a_copy_of_what_was_delivered_is_not_sent_again_though_its_file_is_lost_since() {
    let (bench, sent) = after_loss(&[pacs()], Some(Settlement::Delivered { answer: "0000".to_string() }));
    assert_eq!((sent, bench.account()[3]), (vec![], 1));
    // What is still to be committed may be asked for again.
    let (_, sent) = after_loss(&[pacs()], Some(Settlement::Entrusted { answer: "0000".to_string() }));
    assert_eq!(sent, [true]);
}

#[test]
fn i7_the_message_of_a_lost_image_is_given_up_when_a_whole_copy_goes_where_it_was_to_go() {
    let lost = || Settlement::Park { reason: format!("{}: the stored image is gone", journal::IMAGE_LOST) };
    let given_up = |bench: &Bench| {
        assert_eq!(bench.reader.parked(10).unwrap(), [], "nobody has to look");
        let message = &bench.reader.show(journal::EntryId(1)).unwrap().reports[0].messages[0];
        let note = message.note.as_deref().unwrap();
        assert!(message.state == "discarded" && note.ends_with("came as entry 2 and goes in its place"), "{message:?}");
        bench.account();
    };
    // It was parked before the copy came, and after it.
    given_up(&after_loss(&[pacs()], Some(lost())).0);
    let (bench, _) = after_loss(&[pacs()], None);
    bench.runtime.block_on(bench.journal.settle(OutboxId(1), lost())).unwrap();
    given_up(&bench);
    // What is parked for another reason, or goes elsewhere, waits for a person as before.
    let refused = Settlement::Park { reason: "the PACS refuses it".to_string() };
    assert_eq!(after_loss(&[pacs()], Some(refused)).0.reader.parked(10).unwrap().len(), 1);
}

#[test]
fn i4_the_same_bytes_in_another_transfer_syntax_are_sent_too() {
    let bench = Bench::with(&[pacs()], Config::default());
    bench.store(&[Made::image("1")]);
    bench.keep_in("1.2.840.10008.1.2.4.50", "echo-1", "VIVID", &[Made::image("1")]);
    bench.file();
    let claimed = bench.runtime.block_on(bench.journal.claim(PACS, 10)).unwrap();
    assert_eq!((claimed.len(), bench.account()[3]), (2, 0), "neither repeats the other");
}
