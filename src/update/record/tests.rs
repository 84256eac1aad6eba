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
        system: None,
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
        unknown: Vec::new(),
    }
}

/// The same, with an operating system.
pub fn with_system(phase: Phase) -> Record {
    let system = System {
        version: "7.0-1".to_string(),
        url: "https://releases.example/os-7.raucb".to_string(),
        sha256: "b0".repeat(32),
        length: 200_000_000,
        from: "A".to_string(),
        installs: 3,
        reboots: 1,
        is_away: false,
    };
    Record { system: Some(system), ..record(phase) }
}

#[test]
fn a_record_is_read_as_it_is_written_and_half_of_it_is_none() {
    for mut written in PHASES.into_iter().flat_map(|phase| [record(phase), with_system(phase)]) {
        (written.reason, written.starts, written.is_told) = (Some(Reason::Gate), 2, true);
        written.system.iter_mut().for_each(|system| system.is_away = true);
        let text = written.text();
        assert_eq!(Record::read(&text), Some(written));
        for cut in 0..text.len() {
            assert_eq!(Record::read(&text[..cut]), None, "cut at {cut}");
        }
    }
    assert_eq!(Record::read(&record(Phase::Trial).text().replace("update 1", "update 2")), None, "another version's");
}

#[test]
fn what_a_later_release_wrote_is_kept_and_keeps_nothing_from_going_back() {
    let later = "later=1 2=3\nlater_still=\n";
    for written in [record(Phase::Trial), with_system(Phase::Trial)] {
        let text = written.text().replace("end\n", &format!("{later}end\n"));
        let mut read = Record::read(&text).unwrap();
        assert_eq!(read.text(), text);
        read.happened(Happened::Failed(Reason::Gate)).unwrap();
        let text = read.text().replace("reason=gate", "reason=of-later");
        assert!(text.contains(later), "{text}");
        let mut read = Record::read(&text).unwrap();
        assert_eq!((read.phase, read.reason), (Phase::RollingBack, Some(Reason::Unknown)));
        read.happened(Happened::Back).unwrap();
        assert!(read.text().contains(later));
    }
    // Nor is anything missed that an earlier one did not know.
    let text = with_system(Phase::Committed).text().replace("system_is_away=false\n", "");
    assert_eq!(Record::read(&text), Some(with_system(Phase::Committed)));
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
    use Happened::{Begun, Booted, Confirmed, Fetched, Installed, Looking, Restarts, Started, Stopped, Told, Unpacked};
    let short: &[Happened] = &[Begun, Fetched, Unpacked, Told, Stopped, Started, Looking, Confirmed];
    let long = [Begun, Fetched, Unpacked, Told, Installed, Stopped, Restarts, Booted, Started, Looking, Confirmed];
    for (mut update, way) in [(record(Phase::Offered), short), (with_system(Phase::Offered), &long)] {
        for (at, step) in way.iter().enumerate() {
            for later in &way[at + 1..] {
                // It may be there before this program has had it restarted.
                if (*step, *later) == (Restarts, Booted) {
                    continue;
                }
                let before = update.clone();
                assert_eq!(update.happened(*later), Err(OutOfTurn), "{later:?} in {:?}", before.phase);
                assert_eq!(update, before);
            }
            update.happened(*step).unwrap();
        }
        assert_eq!((update.phase, update.starts, update.reason), (Phase::Committed, 1, None));
    }
}

#[test]
fn the_old_operating_system_is_back_before_an_update_counts_as_taken_back() {
    for phase in PHASES {
        let mut update = with_system(phase);
        let done = update.happened(Happened::Failed(Reason::Boot));
        let wanted = match phase {
            Phase::Installing | Phase::WaitingIdle | Phase::Rebooting => Phase::Returning,
            _ if phase.is_before_the_switch() => Phase::RolledBack,
            _ if phase.is_on_trial() => Phase::RollingBack,
            _ => phase,
        };
        assert_eq!((update.phase, done.is_err()), (wanted, phase == wanted), "{phase:?}");
        if update.phase == Phase::RollingBack {
            update.happened(Happened::Back).unwrap();
        }
        if update.phase == Phase::Returning && phase != Phase::Returning {
            assert_eq!(update.system.as_ref().unwrap().reboots, 0, "the way back has restarts of its own");
            for _ in 0..REBOOTS_MAX {
                update.happened(Happened::Restarts).unwrap();
            }
            assert_eq!(update.happened(Happened::Restarts), Err(OutOfTurn));
            update.happened(Happened::Returned).unwrap();
            assert_eq!(update.phase, Phase::RolledBack);
        }
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
        Just(Happened::Installed),
        Just(Happened::Restarts),
        Just(Happened::Booted),
        Just(Happened::Returned),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: it ends, only a look that found all well commits, and never back from there.
    #[test]
    fn whatever_happens_it_ends_and_commits_only_after_a_look(
        has_system in any::<bool>(),
        steps in proptest::collection::vec(happenings(), 0..600),
    ) {
        let mut update = if has_system { with_system(Phase::Offered) } else { record(Phase::Offered) };
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
                if update.phase == Phase::RolledBack && before == Phase::RollingBack {
                    prop_assert!(!has_system, "its operating system is not back");
                }
            }
            if update.phase.is_final() { was_final = Some(update.phase) }
            prop_assert_eq!(Record::read(&update.text()), Some(update.clone()));
        }
        prop_assert!(moves <= MOVES_MAX + 3 + 2 * REBOOTS_MAX, "{moves} moves");
    }
}
