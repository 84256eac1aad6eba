use super::super::record::Schemas;
use super::super::record::tests::record;
use super::*;
use std::os::unix::fs::PermissionsExt;

struct Box {
    dir: tempfile::TempDir,
}

impl Box {
    /// Release 1.0.0 runs from slot a.
    fn new() -> Box {
        let dir = tempfile::tempdir().unwrap();
        let made = Box { dir };
        fs::create_dir_all(made.data()).unwrap();
        fs::create_dir_all(made.releases()).unwrap();
        let file = made.dir.path().join("old");
        fs::write(&file, "old").unwrap();
        unpack(&made.releases(), Slot::A, &file, Version(1, 0, 0)).unwrap();
        point_at(&made.releases(), Slot::A).unwrap();
        made
    }

    fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn stage(&self) {
        let file = self.dir.path().join("new");
        fs::write(&file, "new").unwrap();
        unpack(&self.releases(), Slot::B, &file, Version(1, 1, 0)).unwrap();
    }

    fn record(&self, phase: Phase) -> Record {
        Record { data: self.data().display().to_string(), ..record(phase) }
    }

    fn runs(&self) -> String {
        fs::read_to_string(begin(&self.releases()).unwrap().program).unwrap()
    }
}

#[test]
fn a_release_is_started_three_times_on_trial_and_then_put_back() {
    let made = Box::new();
    assert_eq!(made.runs(), "old");
    made.stage();
    write(&made.releases(), &made.record(Phase::Staged)).unwrap();
    assert_eq!(made.runs(), "old", "what is staged does not run");
    write(&made.releases(), &made.record(Phase::Switching)).unwrap();
    for start in 1..=STARTS_MAX {
        let begun = begin(&made.releases()).unwrap();
        assert_eq!((begun.trial_s, begun.version), (Some(600), Some(Version(1, 1, 0))));
        assert_eq!(fs::metadata(&begun.program).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(read(&made.releases()).unwrap().unwrap().starts, start);
    }
    assert_eq!(made.runs(), "old");
    let record = read(&made.releases()).unwrap().unwrap();
    assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::Starts)));
    assert_eq!(made.runs(), "old");
}

#[test]
fn a_release_that_is_confirmed_stays() {
    let made = Box::new();
    made.stage();
    write(&made.releases(), &made.record(Phase::Switching)).unwrap();
    assert_eq!(made.runs(), "new");
    let mut record = read(&made.releases()).unwrap().unwrap();
    record.happened(Happened::Looking).unwrap();
    record.happened(Happened::Confirmed).unwrap();
    write(&made.releases(), &record).unwrap();
    assert!(!time_is_over(&made.releases()).unwrap(), "too late");
    for _ in 0..5 {
        assert_eq!(begin(&made.releases()).unwrap().trial_s, None);
        assert_eq!(made.runs(), "new");
    }
}

#[test]
fn databases_are_put_back_only_when_their_shape_changed_and_however_often_it_takes() {
    for is_held in [true, false] {
        let made = Box::new();
        made.stage();
        let (database, log) = (made.data().join("journal.db"), made.data().join("journal.db-wal"));
        fs::write(&database, "before").unwrap();
        fs::write(made.data().join("fleet.db"), "before").unwrap();
        fs::write(&log, "before").unwrap();
        keep_before(&made.releases(), &made.data()).unwrap();
        let mut record = made.record(Phase::Switching);
        if is_held {
            record.new_schemas = Schemas { journal: 18, fleet: 2 };
        }
        write(&made.releases(), &record).unwrap();
        assert_eq!(made.runs(), "new");
        for file in [&database, &log, &made.data().join("journal.db-shm")] {
            fs::write(file, "after").unwrap();
        }
        assert!(time_is_over(&made.releases()).unwrap());
        let found = |file: &Path| fs::read_to_string(file).unwrap();
        // As if it had died in the middle of it each time.
        for _ in 0..2 {
            assert_eq!(made.runs(), "old");
            let wanted = if is_held { "before" } else { "after" };
            assert_eq!((found(&database).as_str(), found(&log).as_str()), (wanted, wanted));
            let mut again = read(&made.releases()).unwrap().unwrap();
            assert_eq!((again.phase, again.reason), (Phase::RolledBack, Some(Reason::Deadline)));
            again.phase = Phase::RollingBack;
            write(&made.releases(), &again).unwrap();
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_keeps_nothing_from_running() {
    let made = Box::new();
    fs::write(made.releases().join(RECORD), [0xff; 100]).unwrap();
    assert_eq!(made.runs(), "old");
    fs::write(made.releases().join(RECORD), vec![b' '; 1 << 20]).unwrap();
    assert_eq!(made.runs(), "old");
}

#[test]
fn where_nothing_can_be_noted_the_confirmed_release_runs_and_no_trial_is_counted() {
    for phase in [Phase::Switching, Phase::Trial, Phase::Confirming, Phase::RollingBack] {
        for is_held in [false, true] {
            let made = Box::new();
            made.stage();
            let mut record = made.record(phase);
            record.starts = u32::from(phase != Phase::Switching);
            if is_held {
                record.new_schemas = Schemas { journal: 18, fleet: 2 };
            }
            write(&made.releases(), &record).unwrap();
            if phase != Phase::Switching {
                point_at(&made.releases(), Slot::B).unwrap();
            }
            // No file can take its place.
            let blocked = made.releases().join("update.new");
            fs::create_dir(&blocked).unwrap();
            for _ in 0..2 * STARTS_MAX {
                match begin(&made.releases()) {
                    // What came in would be missing from the copies to go back to.
                    Err(_) if is_held => {}
                    begun => {
                        let begun = begun.unwrap();
                        assert!(!is_held && begun.stuck.is_some(), "{phase:?}");
                        assert_eq!((begun.trial_s, begun.version), (None, Some(Version(1, 0, 0))), "{phase:?}");
                        assert_eq!(fs::read_to_string(begun.program).unwrap(), "old", "{phase:?}");
                    }
                }
                assert_eq!(read(&made.releases()).unwrap().as_ref(), Some(&record), "{phase:?}");
            }
            fs::remove_dir(&blocked).unwrap();
            let runs = if phase == Phase::RollingBack { "old" } else { "new" };
            assert_eq!(made.runs(), runs, "it goes on where it stood");
        }
    }
}

#[test]
fn a_slot_without_its_version_is_not_whole() {
    let made = Box::new();
    made.stage();
    assert_eq!(version_in(&made.releases(), Slot::B), Some(Version(1, 1, 0)));
    fs::remove_file(made.releases().join("b/release")).unwrap();
    assert_eq!(version_in(&made.releases(), Slot::B), None);
}
