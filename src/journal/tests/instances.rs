//! Images: files of the spool and their rows.

use super::*;
use crate::wire::dimse::Arrival;
use std::collections::BTreeMap;

/// An image of these bytes, in the spool.
pub(super) fn instance(journal: &Journal, sop_instance_uid: &str, data_set: &[u8]) -> NewInstance {
    let mut file = journal.spool().create(b"DICM").unwrap();
    file.write(data_set).unwrap();
    let arrival = Arrival {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.6.1".to_string(),
        sop_instance_uid: sop_instance_uid.to_string(),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".to_string(),
        calling_ae_title: "VIVID".to_string(),
        called_ae_title: "AFFERENT".to_string(),
        message_id: 1,
    };
    NewInstance { arrival, spooled: file.finish().unwrap() }
}

/// Names of the files in the spool, sorted.
pub(super) fn spool_files(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("spool")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

impl Bench {
    pub(super) fn store(&self, sop_instance_uid: &str, data_set: &[u8]) -> Result<KeptInstance, Refused> {
        self.store_on(LINK, sop_instance_uid, data_set)
    }

    fn store_on(&self, link: &str, sop_instance_uid: &str, data_set: &[u8]) -> Result<KeptInstance, Refused> {
        let instance = instance(&self.journal, sop_instance_uid, data_set);
        let kept = self.runtime.block_on(self.journal.persist_instance(link, Token(1), instance));
        kept.map(|(kept, receipt)| {
            assert_eq!(receipt.token(), Token(1));
            kept
        })
    }
}

#[test]
fn i1_an_image_with_a_receipt_is_there_after_a_restart_with_what_its_sender_said() {
    let bench = Bench::new();
    let kept = bench.store("1.2.3", b"data set").unwrap();
    assert!(kept.is_new && !kept.conflict);
    let bench = bench.restart();
    let entries = bench.pending();
    assert_eq!((entries.len(), entries[0].id, entries[0].complete), (1, kept.entry, true));
    let found = entries[0].instance.clone().unwrap();
    assert_eq!((found.sop_instance_uid.as_str(), found.calling_ae_title.as_str()), ("1.2.3", "VIVID"));
    assert_eq!((found.header_bytes, found.bytes), (4, 8));
    let reader = bench.journal.reader().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader.open_instance(&found).unwrap(), &mut bytes).unwrap();
    assert_eq!(bytes, b"DICMdata set");
    assert_eq!(reader.instances_of("1.2.3").unwrap(), [(kept.entry, found)]);
    assert!(matches!(reader.raw(kept.entry), Err(JournalError::Refused(_))), "it is no message");
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
}

#[test]
fn i4_the_same_image_again_is_acknowledged_and_kept_once_whoever_sends_it() {
    let bench = Bench::new();
    let first = bench.store("1.2.3", b"data set").unwrap();
    let again = bench.store_on("workstation", "1.2.3", b"data set").unwrap();
    assert_eq!(again, KeptInstance { is_new: false, ..first });
    let bench = bench.restart();
    assert!(!bench.store("1.2.3", b"data set").unwrap().is_new);
    assert_eq!((bench.pending().len(), spool_files(bench.data.path()).len()), (1, 1));
}

#[test]
fn i4_other_bytes_under_the_same_uid_are_kept_and_counted() {
    let bench = Bench::new();
    bench.store("1.2.3", b"data set").unwrap();
    assert!(bench.store("1.2.3", b"other").unwrap().conflict);
    assert!(!bench.store("1.2.3", b"data set").unwrap().is_new, "the first is still known");
    let reader = bench.journal.reader().unwrap();
    let conflicts: Vec<bool> = reader.instances_of("1.2.3").unwrap().iter().map(|(_, i)| i.conflict).collect();
    assert_eq!(conflicts, [false, true]);
    assert_eq!(reader.stats(0).unwrap().identity_conflicts, 1);
    assert_eq!(spool_files(bench.data.path()).len(), 2);
}

#[test]
fn i7_an_image_whose_file_is_lost_is_named_and_takes_its_place_when_it_is_sent_again() {
    let bench = Bench::new();
    let lost = bench.store("1.2.3", b"data set").unwrap().entry;
    let bent = bench.store("1.2.4", b"data set").unwrap().entry;
    let reader = bench.journal.reader().unwrap();
    let path = |uid: &str| bench.data.path().join("spool").join(&reader.instances_of(uid).unwrap()[0].1.spool);
    std::fs::remove_file(path("1.2.3")).unwrap();
    std::fs::write(path("1.2.4"), b"DICMdata sex").unwrap();
    let verified = reader.verify(|_, _| {}).unwrap();
    assert_eq!(verified.damaged, [format!("instance {lost}"), format!("instance {bent}")]);
    let again = bench.store("1.2.3", b"data set").unwrap();
    assert!(again.is_new && !again.conflict, "{again:?}");
}

#[test]
fn i7_a_full_journal_refuses_images_and_leaves_no_file() {
    let mut bench = Bench::new();
    bench.journal.clone().close();
    bench.config.quota_mb = 1;
    let bench = bench.restart();
    assert!(bench.journal.instance_room());
    let refused = (0..1000).find_map(|n| bench.store(&format!("1.2.{n}"), &vec![b'x'; 100_000]).err());
    let refused = refused.expect("the files of the spool count").reason;
    assert_eq!(refused, Refusal::Full);
    assert!(!bench.journal.instance_room(), "a sender is told before it begins");
    let rows = bench.journal.reader().unwrap().stats(0).unwrap().entries;
    assert_eq!(spool_files(bench.data.path()).len() as i64, rows);
}

#[test]
fn a_delivered_image_goes_with_its_file_when_it_is_old_and_a_waiting_one_stays() {
    let mut bench = Bench::new();
    for (uid, lane) in [("1.2.1", "delivered"), ("1.2.2", "pending")] {
        let entry = bench.store(uid, b"data set").unwrap().entry;
        bench.journal.file(filing(entry, &[lane], 0)).unwrap();
    }
    bench.store("1.2.3", b"not looked at").unwrap();
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    while spool_files(bench.data.path()).len() == 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let reader = bench.journal.reader().unwrap();
    let there = ["1.2.1", "1.2.2", "1.2.3"].map(|uid| reader.instances_of(uid).unwrap().len());
    assert_eq!(there, [0, 1, 1]);
    assert_eq!(spool_files(bench.data.path()).len(), 2);
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 20, ..Default::default() })]

    /// Few UIDs and few contents, so that all of them meet.
    #[test]
    fn i4_the_spool_holds_each_content_of_each_uid_once(
        sent in proptest::collection::vec((0..3_u8, 0..3_u8, proptest::bool::weighted(0.1)), 1..20)
    ) {
        let mut bench = Bench::new();
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for (uid, content, restarts) in sent {
            if restarts {
                bench = bench.restart();
            }
            let kept = bench.store(&format!("1.2.{uid}"), &[content]).unwrap();
            let known = model.entry(uid).or_default();
            let is_new = !known.contains(&content);
            proptest::prop_assert_eq!((kept.is_new, kept.conflict), (is_new, is_new && !known.is_empty()));
            if is_new {
                known.push(content);
            }
        }
        let reader = bench.journal.reader().unwrap();
        let all: usize = model.values().map(Vec::len).sum();
        proptest::prop_assert_eq!(spool_files(bench.data.path()).len(), all);
        for (uid, contents) in model {
            proptest::prop_assert_eq!(reader.instances_of(&format!("1.2.{uid}")).unwrap().len(), contents.len());
        }
        let verified = reader.verify(|_, _| {}).unwrap();
        proptest::prop_assert!(verified.is_sound(), "{:?}", verified);
    }
}
