//! Images: files of the spool and their rows.

use super::*;
use crate::wire::dimse::Arrival;
use std::collections::BTreeMap;

/// An image of these bytes, in the spool, if there is room for it.
pub(super) fn instance(journal: &Journal, sop_instance_uid: &str, data_set: &[u8]) -> std::io::Result<NewInstance> {
    let spooled = journal.spool().keep(b"DICM", data_set)?;
    let arrival = Arrival {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.6.1".to_string(),
        sop_instance_uid: sop_instance_uid.to_string(),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".to_string(),
        calling_ae_title: "VIVID".to_string(),
        called_ae_title: "AFFERENT".to_string(),
        message_id: 1,
    };
    Ok(NewInstance { arrival, spooled })
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
        let instance = instance(&self.journal, sop_instance_uid, data_set)
            .map_err(|error| Refused { token: Token(1), reason: refusal(&error) })?;
        self.send(link, instance)
    }

    fn send(&self, link: &str, instance: NewInstance) -> Result<KeptInstance, Refused> {
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
fn i4_an_image_whose_file_was_damaged_or_lost_is_whole_again_when_it_is_sent_again() {
    let bench = Bench::new();
    let [lost, bent, cut] = ["1.2.3", "1.2.4", "1.2.5"].map(|uid| bench.store(uid, b"data set").unwrap().entry);
    let reader = bench.journal.reader().unwrap();
    let found = |uid: &str| reader.instances_of(uid).unwrap().remove(0).1;
    let path = |uid: &str| bench.data.path().join("spool").join(found(uid).spool);
    std::fs::remove_file(path("1.2.3")).unwrap();
    std::fs::write(path("1.2.4"), b"DICMdata sex").unwrap();
    std::fs::write(path("1.2.5"), b"DICMdata").unwrap();
    let verified = reader.verify(|_, _| {}).unwrap();
    assert_eq!(verified.damaged, [lost, bent, cut].map(|entry| format!("instance {entry}")));
    // What the interpreter could not read was set aside.
    reader.set_damaged(lost);
    while bench.pending().len() == 3 {
        std::thread::yield_now();
    }
    for (uid, entry) in [("1.2.3", lost), ("1.2.4", bent), ("1.2.5", cut)] {
        let named = found(uid).spool;
        let again = bench.store(uid, b"data set").unwrap();
        assert_eq!(again, KeptInstance { entry, is_new: false, conflict: false });
        assert_eq!(found(uid).spool, named, "what is on its way goes by this name");
    }
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
    assert_eq!(spool_files(bench.data.path()).len(), 3);
    assert_eq!(bench.journal.spool().bytes(), 3 * 12, "they count as before");
    bench.journal.file(filing(bent, &["lane"], 0)).unwrap();
    let waiting: Vec<EntryId> = bench.pending().iter().map(|entry| entry.id).collect();
    assert_eq!(waiting, [cut, lost], "what was set aside is read again");
}

/// The same image with a longer header.
fn with_other_head(journal: &Journal, sop_instance_uid: &str, data_set: &[u8]) -> NewInstance {
    let mut image = instance(journal, sop_instance_uid, data_set).unwrap();
    image.spooled = journal.spool().keep(b"DICM and more", data_set).unwrap();
    image
}

#[test]
fn i4_an_image_with_another_head_is_one_more_unless_the_one_on_record_is_whole() {
    for bent in [None, Some(&b"DICMdata sex"[..]), Some(b"DICMdata")] {
        let bench = Bench::new();
        let send = |image| bench.send(LINK, image).unwrap();
        let first = bench.store("1.2.3", b"data set").unwrap();
        let again = send(with_other_head(&bench.journal, "1.2.3", b"data set"));
        assert_eq!(again, KeptInstance { is_new: false, ..first }, "the one on record is whole");
        let path = bench.data.path().join("spool").join(&spool_files(bench.data.path())[0]);
        match bent {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let again = send(with_other_head(&bench.journal, "1.2.3", b"data set"));
        assert!(again.is_new && !again.conflict, "{bent:?}: {again:?}");
        let verified = bench.journal.reader().unwrap().verify(|_, _| {}).unwrap();
        assert_eq!(verified.damaged, [format!("instance {}", first.entry)], "{bent:?}: the new one is whole");
        let third = send(with_other_head(&bench.journal, "1.2.3", b"data set"));
        assert_eq!((third.entry, third.is_new), (again.entry, false), "one more is enough");
        assert_eq!(bench.store("1.2.3", b"data set").unwrap().entry, first.entry);
        assert!(bench.journal.reader().unwrap().verify(|_, _| {}).unwrap().is_sound());
    }
}

#[test]
fn i4_the_same_bytes_of_another_class_or_syntax_are_another_image() {
    let bench = Bench::new();
    let first = bench.store("1.2.3", b"data set").unwrap().entry;
    let mut of_other_class = instance(&bench.journal, "1.2.3", b"data set").unwrap();
    of_other_class.arrival.sop_class_uid = "1.2.840.10008.5.1.4.1.1.7.1".to_string();
    let mut in_other_syntax = instance(&bench.journal, "1.2.3", b"data set").unwrap();
    in_other_syntax.arrival.transfer_syntax_uid = "1.2.840.10008.1.2.2".to_string();
    for other in [of_other_class, in_other_syntax] {
        let kept = bench.send(LINK, other).unwrap();
        assert!(kept.is_new && kept.conflict, "{kept:?}");
    }
    assert_eq!(bench.store("1.2.3", b"data set").unwrap().entry, first);
    assert_eq!(spool_files(bench.data.path()).len(), 3);
}

#[test]
fn i4_a_repeat_by_another_sender_leaves_a_whole_file_alone() {
    let bench = Bench::new();
    let first = bench.store("1.2.3", b"data set").unwrap();
    let path = bench.data.path().join("spool").join(&spool_files(bench.data.path())[0]);
    let spooled = bench.journal.spool().keep(b"MCID", b"data set").unwrap();
    let mut again = instance(&bench.journal, "1.2.3", b"data set").unwrap();
    (again.arrival.calling_ae_title, again.spooled) = ("CARTO".to_string(), spooled);
    assert_eq!(bench.send(LINK, again).unwrap(), KeptInstance { is_new: false, ..first });
    assert_eq!(std::fs::read(path).unwrap(), b"DICMdata set");
    assert_eq!(spool_files(bench.data.path()).len(), 1);
}

#[test]
fn i7_what_is_being_written_counts_as_much_as_what_is_whole() {
    let mut bench = Bench::new();
    bench.journal.clone().close();
    bench.config.quota_mb = 20;
    let mut bench = bench.restart();
    let mut begun = Vec::new();
    let mut refused = false;
    for _ in 0..40 {
        let mut file = match bench.journal.spool().create() {
            Ok(file) => file,
            Err(error) => {
                assert_eq!(refusal(&error), Refusal::Full);
                refused = true;
                break;
            }
        };
        for _ in 0..4 {
            let full = BlockFiller::new(&[7; BLOCK_BYTES]).exchange(Block::new());
            refused |= file.write(&full).is_err();
        }
        begun.push(file);
    }
    assert!(refused && begun.len() < 10, "half-sent images do not fill the disk: {}", begun.len());
    assert!(!bench.journal.instance_room());
    assert!(bench.persist(1, b"result", true).is_ok(), "a result is small and still finds room");
    begun.clear();
    assert!(bench.journal.instance_room());
    assert_eq!(spool_files(bench.data.path()), Vec::<String>::new());
}

#[test]
fn what_a_failed_commit_left_in_the_spool_is_removed_without_a_restart() {
    let bench = Bench::new();
    bench.store("1.2.3", b"kept").unwrap();
    let kept = spool_files(bench.data.path());
    let left = instance(&bench.journal, "1.2.4", b"not kept").unwrap();
    left.spooled.doubt();
    let deadline = Instant::now() + Duration::from_secs(20);
    while spool_files(bench.data.path()) != kept {
        assert!(Instant::now() < deadline, "{:?}", spool_files(bench.data.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
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

#[test]
fn i7_an_image_that_went_nowhere_stays_its_time_however_short_space_is() {
    let mut bench = Bench::new();
    for (uid, is_routed) in [("1.2.1", false), ("1.2.2", true)] {
        let entry = bench.store(uid, &vec![b'x'; 450_000]).unwrap().entry;
        let mut filing = filing(entry, &["lane"], 0);
        if !is_routed {
            filing.reports[0].outbox.clear();
        }
        bench.journal.file(filing).unwrap();
    }
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    let there = |bench: &Bench| {
        let reader = bench.journal.reader().unwrap();
        ["1.2.1", "1.2.2"].map(|uid| reader.instances_of(uid).unwrap().len())
    };
    for (quota_mb, retention_days, left) in [(1, 7, [1, 0]), (0, 0, [0, 0])] {
        bench.journal.clone().close();
        (bench.config.quota_mb, bench.config.retention_days) = (quota_mb, retention_days);
        bench = bench.restart();
        let deadline = Instant::now() + Duration::from_secs(20);
        while there(&bench) != left && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(there(&bench), left, "kept for {retention_days} days in {quota_mb} MB");
    }
}

#[test]
fn i7_an_image_that_is_safe_as_its_modality_was_told_stays_until_an_archive_took_it() {
    let mut bench = Bench::new();
    let mut entries = Vec::new();
    for (uid, is_routed) in [("1.2.1", true), ("1.2.2", false), ("1.2.3", false)] {
        let entry = bench.store(uid, b"data set").unwrap().entry;
        let mut filing = filing(entry, &["lane"], 0);
        if !is_routed {
            filing.reports[0].outbox.clear();
        }
        bench.journal.file(filing).unwrap();
        entries.push(entry);
    }
    let only_here = || bench.journal.reader().unwrap().stats(0).unwrap().only_here;
    let promise = |instances: &[EntryId]| bench.runtime.block_on(bench.journal.promise(instances.to_vec())).unwrap();
    assert!(promise(&entries[..2]) && !promise(&[EntryId(99)]));
    assert_eq!(only_here(), 2);
    bench.journal.name_archives(vec![(EHR.to_string(), true)]).unwrap();
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    assert_eq!(only_here(), 1);
    bench.journal.clone().close();
    (bench.config.retention_days, bench.config.quota_mb) = (0, 1);
    let bench = bench.restart();
    let there = || {
        let reader = bench.journal.reader().unwrap();
        ["1.2.1", "1.2.2", "1.2.3"].map(|uid| reader.instances_of(uid).unwrap().len())
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while there() != [0, 1, 0] && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(there(), [0, 1, 0]);
}

#[test]
fn i7_a_person_lets_go_of_an_image_that_is_safe_here_alone_until_its_modality_is_told_so_again() {
    let mut bench = Bench::new();
    let promise = |bench: &Bench, entry| bench.runtime.block_on(bench.journal.promise(vec![entry])).unwrap();
    let (mut entries, told) = (Vec::new(), "copied to the archive by hand");
    for uid in ["1.2.1", "1.2.2", "1.2.3"] {
        let entry = bench.store(uid, b"data set").unwrap().entry;
        let mut filing = filing(entry, &["lane"], 0);
        filing.reports[0].outbox.clear();
        bench.journal.file(filing).unwrap();
        entries.push(entry);
    }
    assert!(promise(&bench, entries[0]) && promise(&bench, entries[1]));
    let only_here = |bench: &Bench| -> Vec<EntryId> {
        let reader = bench.journal.reader().unwrap();
        let listed = reader.only_here(None, 10).unwrap();
        assert_eq!(reader.stats(0).unwrap().only_here, listed.len() as i64);
        listed.into_iter().map(|image| image.entry).collect()
    };
    assert_eq!(only_here(&bench), entries[..2]);
    let let_go = |images: &[EntryId]| {
        let (images, reason) = (images.to_vec(), told.to_string());
        bench.journal.operate(OperatorAction::Discard { holds: vec![], outbox: vec![], images, reason }).unwrap()
    };
    let operated = let_go(&[entries[1], entries[2]]);
    assert_eq!((operated.done, operated.skipped[0].0), (1, entries[2].0), "nobody was promised the third");
    assert_eq!(only_here(&bench), entries[..1]);
    let let_go_of = |entry| bench.journal.reader().unwrap().instance(entry).unwrap().unwrap().let_go;
    assert_eq!(let_go_of(entries[1]).as_deref(), Some(told));
    assert!(promise(&bench, entries[1]));
    assert_eq!((only_here(&bench), let_go_of(entries[1])), (entries[..2].to_vec(), None));
    assert_eq!(let_go(&entries[1..2]).done, 1);
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let there = || {
        let reader = bench.journal.reader().unwrap();
        ["1.2.1", "1.2.2"].map(|uid| reader.instances_of(uid).unwrap().len())
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while there() != [1, 0] && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(there(), [1, 0]);
}

#[test]
fn i7_an_archive_that_took_the_same_bytes_in_another_syntax_has_not_got_the_image() {
    let bench = Bench::new();
    bench.journal.name_archives(vec![(EHR.to_string(), true)]).unwrap();
    let first = bench.store("1.2.3", b"data set").unwrap().entry;
    bench.journal.file(filing(first, &["lane"], 0)).unwrap();
    let row = bench.claim(1).remove(0);
    bench.deliver(row.id);
    let mut other = instance(&bench.journal, "1.2.3", b"data set").unwrap();
    other.arrival.transfer_syntax_uid = "1.2.840.10008.1.2.2".to_string();
    let class = other.arrival.sop_class_uid.clone();
    let second = bench.send(LINK, other).unwrap().entry;
    bench.journal.file(filing(second, &["lane"], 0)).unwrap();
    assert!(bench.runtime.block_on(bench.journal.promise(vec![first, second])).unwrap());
    let reader = bench.journal.reader().unwrap();
    let only_here: Vec<EntryId> = reader.only_here(None, 10).unwrap().into_iter().map(|image| image.entry).collect();
    assert_eq!(only_here, [second]);
    match reader.instance_standing("1.2.3", &class, &[EHR.to_string()]).unwrap() {
        InstanceStanding::Kept { entry, archives } => assert!(entry == second && !archives.is_delivered()),
        other => panic!("{other:?}"),
    }
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
