//! Studies grow, are told of once, and again when they grew.

use super::*;

impl Bench {
    /// Stores an image of a series of a study and files it; its entry.
    fn place(&self, study: &str, series: &str, uid: &str) -> EntryId {
        let entry = self.store(uid, uid.as_bytes()).unwrap().entry;
        let placement = Placement {
            study_instance_uid: study.to_string(),
            study: format!("{study} by {uid}").into_bytes(),
            series_instance_uid: series.to_string(),
            series: series.as_bytes().to_vec(),
            patient_id: "P".to_string(),
            modality: "US".to_string(),
            number: Some(1),
        };
        let lookups = vec![(Lookup::Accession, format!("A{study}"))];
        let mut filing = filing(entry, &["A"], 0);
        filing.reports.iter_mut().for_each(|report| report.lookups.clone_from(&lookups));
        self.journal.file(Filing { placement: Some(placement), ..filing }).unwrap();
        entry
    }

    fn grown(&self) -> Vec<Grown> {
        let soon = wall_clock_ms() + 1;
        self.journal.reader().unwrap().grown_studies(soon, soon, 10).unwrap()
    }

    /// Tells of a study: one report with one message, or nothing.
    fn tell(&self, grown: Grown, entry: EntryId, tells: bool) -> Filed {
        let report = tells.then(|| filing(entry, &["study"], 0).reports.remove(0));
        let told = report.map(|report| Told { entry, report, covers: Vec::new() });
        self.journal.file_study(StudyFiling { grown, told }).unwrap()
    }
}

#[test]
fn a_study_has_its_series_and_instances_and_says_what_its_first_instance_said() {
    let bench = Bench::new();
    bench.place("1.1", "1.1.1", "1.1.1.1");
    bench.place("1.1", "1.1.2", "1.1.2.1");
    bench.place("1.2", "1.1.1", "1.2.1.1");
    let bench = bench.restart();
    bench.place("1.1", "1.1.2", "1.1.2.2");
    let reader = bench.journal.reader().unwrap();
    let id = reader.studies_of(Lookup::Study, "1.1").unwrap();
    assert_eq!(id, reader.studies_of(Lookup::Accession, "A1.1").unwrap());
    let study = reader.study(id[0]).unwrap().unwrap();
    assert_eq!((study.json.as_slice(), study.is_stable), (&b"1.1 by 1.1.1.1"[..], false));
    assert_eq!(reader.undelivered().unwrap().studies, 2, "what they say was told to nobody");
    let uids: Vec<Vec<&str>> = study
        .series
        .iter()
        .map(|series| series.instances.iter().map(|i| i.sop_instance_uid.as_str()).collect())
        .collect();
    assert_eq!(uids, [vec!["1.1.1.1"], vec!["1.1.2.1", "1.1.2.2"]]);
    let listed: Vec<(i64, i64, i64)> =
        reader.studies(10).unwrap().iter().map(|s| (s.series, s.instances, s.queued)).collect();
    assert_eq!(listed, [(1, 1, 1), (2, 3, 3)], "the newest first; a series UID means nothing outside its study");
}

#[test]
fn what_is_told_of_a_document_under_several_names_is_filed_whole_or_not_at_all() {
    let bench = Bench::new();
    let entry = bench.place("1.1", "1.1.1", "1");
    let told = |entry| Told { entry, report: filing(entry, &["one"], 0).reports.remove(0), covers: Vec::new() };
    let before = bench.journal.reader().unwrap().account().unwrap();
    bench.journal.file_told(vec![told(entry), told(EntryId(99))]).unwrap_err();
    assert_eq!(bench.journal.reader().unwrap().account().unwrap(), before);
    bench.journal.file_told(vec![told(entry), told(entry)]).unwrap();
    assert_eq!(bench.journal.reader().unwrap().account().unwrap().received, before.received + 2);
}

#[test]
fn a_study_is_told_of_once_and_again_when_it_grew() {
    let bench = Bench::new();
    let entry = bench.place("1.1", "1.1.1", "1");
    let read = bench.grown()[0];
    let entry = bench.place("1.1", "1.1.1", "2").max(entry);
    assert_eq!(bench.tell(read, entry, true), Filed::default(), "it has grown since it was read");
    let read = bench.grown()[0];
    assert_eq!(bench.tell(read, entry, true).queued, 1);
    assert_eq!(bench.tell(read, entry, true), Filed::default(), "it was told of");
    assert!(bench.grown().is_empty());
    let bench = bench.restart();
    assert!(bench.grown().is_empty());
    let late = bench.place("1.1", "1.1.2", "3");
    bench.tell(bench.grown()[0], late, false);
    assert!(bench.grown().is_empty());
    let reader = bench.journal.reader().unwrap();
    assert_eq!(reader.studies(1).unwrap()[0].state, "stable");
    assert_eq!(reader.undelivered().unwrap().studies, 0);
    let account = bench.account();
    assert_eq!((account.received, account.queued, account.missing()), (4, 4, 0), "three images and one report");
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
}

#[test]
fn a_study_that_is_quiet_complete_or_from_the_future_is_due() {
    let bench = Bench::new();
    let first = bench.place("1.1", "1.1.1", "1");
    let due = |before_ms, now_ms| bench.journal.reader().unwrap().grown_studies(before_ms, now_ms, 9).unwrap().len();
    let now = wall_clock_ms();
    assert_eq!(due(now - 60_000, now + 60_000), 0);
    assert_eq!((due(now + 60_000, i64::MAX), due(0, now - 60_000)), (1, 1));
    let complete = |entries: &[EntryId]| {
        bench.runtime.block_on(bench.journal.studies_are_complete(entries.to_vec())).unwrap();
    };
    complete(&[first]);
    assert_eq!(due(now - 60_000, now + 60_000), 1);
    let second = bench.place("1.1", "1.1.1", "2");
    assert_eq!(due(now - 60_000, now + 60_000), 0, "it has not, after all");
    complete(&[second]);
    assert_eq!(due(now - 60_000, now + 60_000), 0, "part of a study is not all of it");
    complete(&[first, second]);
    assert_eq!(due(now - 60_000, now + 60_000), 1);
}

#[test]
fn what_is_kept_of_a_study_goes_with_its_last_image_and_not_while_it_grows() {
    let mut bench = Bench::new();
    let told = bench.place("1.1", "1.1.1", "1");
    bench.tell(bench.grown()[0], told, false);
    let growing = bench.place("1.2", "1.2.1", "2");
    bench.claim(10).iter().for_each(|row| bench.deliver(row.id));
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while reader.show(told).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kept: Vec<StudyId> = reader.studies(10).unwrap().iter().map(|s| s.study).collect();
    assert_eq!(kept, reader.studies_of(Lookup::Study, "1.2").unwrap());
    assert!(reader.show(told).is_err() && reader.show(growing).is_ok());
}

#[test]
fn a_study_outlives_the_key_its_first_instance_was_sealed_with() {
    let mut bench = Bench::new();
    let keys = |bench: &Bench| -> Vec<i64> {
        let conn = bench.sabotage();
        let mut statement = conn.prepare("SELECT id FROM data_key WHERE purpose = 'data' ORDER BY id").unwrap();
        statement.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let rotate = |bench: &Bench, wanted: &[i64]| {
        bench.sabotage().execute("UPDATE data_key SET created_ms = 0", []).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while keys(bench) != wanted {
            assert!(Instant::now() < deadline, "{:?}", keys(bench));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    bench.place("1.1", "1.1.1", "1.1.1.1");
    bench.config.key_rotation_days = 1;
    bench.config.retention_days = 0;
    let bench = bench.restart();
    rotate(&bench, &[2, 3]);
    let later = bench.place("1.1", "1.1.1", "1.1.1.2");
    bench.tell(bench.grown()[0], later, false);
    bench.deliver(bench.claim(1)[0].id);
    // The first entry goes, and with it everything of its time.
    rotate(&bench, &[3, 4]);
    let reader = bench.journal.reader().unwrap();
    let study = reader.study(reader.studies_of(Lookup::Study, "1.1").unwrap()[0]).unwrap().unwrap();
    assert_eq!((study.json.as_slice(), study.series[0].instances.len()), (&b"1.1 by 1.1.1.1"[..], 1));
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
}
