use super::*;
use proptest::prelude::*;

pub fn record(phase: Phase) -> Record {
    Record {
        manifest: "0f".repeat(32),
        phase,
        version: Version(1, 1, 0),
        from: Version(1, 0, 0),
        slot: Slot::B,
        url: "https://releases.example/afferent-1.1.0".to_string(),
        sha256: "a0".repeat(32),
        length: 14_000_000,
        floor: Version(1, 0, 0),
        old_schemas: Schemas { journal: 17, fleet: 2 },
        new_schemas: Schemas { journal: 17, fleet: 2 },
        starts: 0,
        moves: 0,
        wrong: 0,
        trial_s: 600,
        data: "/var/lib/afferent".to_string(),
        worked: vec!["link:chemistry".to_string(), "to:ehr".to_string()],
        reason: None,
        event: String::new(),
        is_told: false,
    }
}

#[test]
fn a_record_is_read_as_it_is_written_and_half_of_it_is_none() {
    for phase in PHASES {
        let mut written = record(phase);
        (written.reason, written.starts, written.is_told) = (Some(Reason::Gate), 2, true);
        let text = written.text();
        assert_eq!(Record::read(&text), Some(written));
        for cut in 0..text.len() {
            assert_eq!(Record::read(&text[..cut]), None, "cut at {cut}");
        }
    }
    assert_eq!(Record::read(&record(Phase::Trial).text().replace("update 1", "update 2")), None, "another version's");
}

#[test]
fn a_version_is_three_numbers() {
    assert_eq!("1.20.3".parse(), Ok(Version(1, 20, 3)));
    for wrong in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-rc1", "+1.2.3", " 1.2.3", "1.2.-3"] {
        assert_eq!(wrong.parse::<Version>(), Err(NoVersion), "{wrong}");
    }
    assert!(Version(1, 9, 0) < Version(1, 10, 0));
}

#[test]
fn an_update_that_works_takes_this_way_and_no_shorter_one() {
    use Happened::{Begun, Confirmed, Fetched, Looking, Started, Stopped, Told, Unpacked};
    let way = [Begun, Fetched, Unpacked, Told, Stopped, Started, Looking, Confirmed];
    let mut update = record(Phase::Offered);
    for (at, step) in way.into_iter().enumerate() {
        for later in &way[at + 1..] {
            let before = update.clone();
            assert_eq!(update.happened(*later), Err(OutOfTurn), "{later:?} in {:?}", before.phase);
            assert_eq!(update, before);
        }
        update.happened(step).unwrap();
    }
    assert_eq!((update.phase, update.starts, update.reason), (Phase::Committed, 1, None));
}

#[test]
fn what_fails_before_the_switch_touches_nothing_and_what_fails_after_it_is_put_back() {
    for phase in PHASES {
        let mut update = record(phase);
        let done = update.happened(Happened::Failed(Reason::Gate));
        let wanted = match phase {
            _ if phase.is_before_the_switch() => Phase::RolledBack,
            _ if phase.is_on_trial() => Phase::RollingBack,
            // What is committed stays.
            _ => phase,
        };
        assert_eq!((update.phase, done.is_err()), (wanted, phase == wanted), "{phase:?}");
    }
}

fn happenings() -> impl Strategy<Value = Happened> {
    prop_oneof![
        Just(Happened::Begun),
        Just(Happened::Fetched),
        Just(Happened::Wrong),
        Just(Happened::Unpacked),
        Just(Happened::Told),
        Just(Happened::Stopped),
        Just(Happened::Started),
        Just(Happened::Looking),
        Just(Happened::Confirmed),
        Just(Happened::Failed(Reason::Gate)),
        Just(Happened::Back),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: it ends, only a look that found all well commits, and never back from there.
    #[test]
    fn whatever_happens_it_ends_and_commits_only_after_a_look(steps in proptest::collection::vec(happenings(), 0..600)) {
        let mut update = record(Phase::Offered);
        let (mut looked, mut was_final, mut moves) = (false, None, 0);
        for step in steps {
            let before = update.phase;
            if update.happened(step).is_ok() {
                moves += 1;
                prop_assert!(was_final.is_none(), "{before:?} was the end");
                if step == Happened::Looking { looked = true }
                if step == Happened::Started { looked = false }
                if update.phase == Phase::Committed {
                    prop_assert!(looked && before == Phase::Confirming);
                }
                if update.phase == Phase::Trial {
                    prop_assert!(before.is_on_trial());
                }
            }
            if update.phase.is_final() { was_final = Some(update.phase) }
            prop_assert_eq!(Record::read(&update.text()), Some(update.clone()));
        }
        prop_assert!(moves <= MOVES_MAX + 3, "{moves} moves");
    }
}
