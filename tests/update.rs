//! Updates as they happen on a box: the real launcher and the real program, started again by a service manager, told
//! over mosquitto by the real desk, while an instrument sends. A release is a script that becomes the program under
//! test, so that a test can make one that crashes, hangs or does not pass the gate; what is fetched, hashed, put into a
//! slot and started is that script.
//!
//! `AFFERENT_UPDATE_KILLS` is how many kills at a random moment each phase gets.

#[allow(dead_code)]
#[path = "fleet/broker.rs"]
mod broker;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/ports.rs"]
mod ports;
#[path = "update/rauc.rs"]
mod rauc;
#[path = "update/rig.rs"]
mod rig;
#[path = "update/server.rs"]
mod server;
#[path = "update/system.rs"]
mod system;
#[allow(dead_code)]
#[path = "fleet/witness.rs"]
mod witness;

use afferent::sim::random::Random;
use afferent::update::manifest::Manifest;
use afferent::update::record::{PHASES, Phase, Reason, Slot, Version};
use afferent::update::slots;
use rig::{Kind, Rig};
use std::time::Duration;

const ONE: Version = Version(1, 0, 0);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_release_is_installed_from_afar_and_every_result_gets_through() {
    let Some(rig) = Rig::start().await else { return };
    let two = rig.publish(Version(1, 1, 0), Kind::Good);
    rig.push(&two);
    rig.comes_to(Phase::Staged);
    assert_eq!(rig.running(), ONE, "nothing is installed before somebody says so");
    assert!(!rig.install_signed_by(&two, &["ops-1"]), "by one operator alone it is not");
    rig.install(&two);
    rig.install(&two);
    rig.comes_to(Phase::Committed);
    assert_eq!(rig.running(), Version(1, 1, 0));
    let moves = rig.record().unwrap().moves;
    rig.install(&two);
    assert_eq!(rig.record().map(|record| (record.phase, record.moves)), Some((Phase::Committed, moves)));
    let worked = rig.record().unwrap().worked;
    for check in ["loop:gate-astm", "loop:chemistry", "link:chemistry", "to:ehr", "bus"] {
        assert!(worked.iter().any(|name| name == check), "{check} was not asked of it: {worked:?}");
    }
    rig.is_told("committed");
    // Where RAUC looks after no slots, half of what was signed is not installed either.
    let bundle = rig.path().join("site/os.raucb");
    std::fs::write(&bundle, "no bundle").unwrap();
    let with_system = rig.publish_with(Version(1, 2, 0), Some(Kind::Good), Some(("7.0", &bundle)));
    let told = rig.try_push(&with_system).unwrap_err();
    assert!(told.contains("failed: no-slots"), "{told}");
    assert!(rig.status().contains("update from 1.0.0 to 1.1.0: committed"), "{}", rig.status());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_release_that_does_not_do_is_taken_back_and_told_of() {
    let Some(rig) = Rig::start().await else { return };
    let cases = [
        // What does not even run is never switched to.
        (Kind::Dead, Reason::DoesNotRun),
        (Kind::OtherVersion, Reason::DoesNotRun),
        (Kind::CrashesAtStart, Reason::Starts),
        (Kind::LosesALink, Reason::Gate),
        (Kind::Hangs, Reason::Deadline),
        // It changes the databases so that the old one cannot read them.
        (Kind::SpoilsTheJournal, Reason::Starts),
    ];
    for (minor, (kind, reason)) in (1..).zip(cases) {
        let release = rig.publish(Version(1, minor, 0), kind);
        rig.push(&release);
        if reason != Reason::DoesNotRun {
            rig.comes_to(Phase::Staged);
            rig.install(&release);
        }
        rig.comes_to(Phase::RolledBack);
        assert_eq!(rig.record().unwrap().reason, Some(reason), "{kind:?}");
        assert_eq!(rig.running(), ONE, "{kind:?}");
        rig.is_told("rolled-back");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_release_that_changes_the_databases_takes_nothing_before_it_is_confirmed() {
    let Some(rig) = Rig::start().await else { return };
    let release = rig.publish(Version(1, 1, 0), Kind::OtherShape);
    rig.push(&release);
    rig.comes_to(Phase::Staged);
    rig.install(&release);
    rig.comes_to(Phase::Confirming);
    // As long as it is not confirmed there is nobody to send to.
    while rig.record().is_some_and(|record| record.phase == Phase::Confirming) {
        let is_open = rig.link_is_open();
        let is_confirming = rig.record().is_some_and(|record| record.phase == Phase::Confirming);
        assert!(!(is_open && is_confirming), "custody before it was confirmed");
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.comes_to(Phase::Committed);
    broker::until("copies of the databases are gone", || !rig.has_copies());
    rig.finish().await;
}

#[test]
fn a_launcher_that_can_note_nothing_starts_the_confirmed_release_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (releases, file) = (dir.path().join("releases"), dir.path().join("release"));
    std::fs::create_dir(&releases).unwrap();
    std::fs::write(
        &file,
        "#!/bin/sh\necho \"$AFFERENT_RELEASE of ${AFFERENT_RELEASES-nowhere}: $* ${WATCHDOG_PID-itself}\"\n",
    )
    .unwrap();
    for (slot, version) in [(Slot::A, ONE), (Slot::B, Version(1, 1, 0))] {
        slots::unpack(&releases, slot, &file, version).unwrap();
    }
    slots::point_at(&releases, Slot::A).unwrap();
    let record = "afferent update 1\nmanifest=0f\nphase=switching\nversion=1.1.0\nfrom=1.0.0\nslot=b\nurl=\nsha256=\n\
                  length=1\nfloor=1.0.0\nold_schemas=1 1\nnew_schemas=1 1\nstarts=0\nmoves=9\nwrong=0\ntrial_s=60\n\
                  data=\nworked=\nreason=\nevent=\nis_told=false\nend\n";
    std::fs::write(releases.join("update"), record).unwrap();
    let launch = || {
        let mut launcher = std::process::Command::new(env!("CARGO_BIN_EXE_afferent-launcher"));
        let launcher = launcher.arg(&releases).args(["run", "--config", "x"]).env("WATCHDOG_PID", "7");
        let output = launcher.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (said(&output.stdout), said(&output.stderr), output.status.success())
    };
    // No file can take the place of the record.
    std::fs::create_dir(releases.join("update.new")).unwrap();
    let (said, complained, is_well) = launch();
    assert_eq!((said.as_str(), is_well), ("1.0.0 of nowhere: run --config x 7\n", true), "{complained}");
    assert!(complained.contains("the confirmed release runs"), "{complained}");
    assert_eq!(std::fs::read_to_string(releases.join("update")).unwrap(), record, "nothing is counted");
    std::fs::remove_dir(releases.join("update.new")).unwrap();
    // On trial it is not the process that the service manager started, and vouches for itself.
    assert_eq!(launch().0, format!("1.1.0 of {}: run --config x itself\n", releases.display()));
}

#[test]
fn a_manifest_says_of_a_program_what_that_says_or_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_afferent");
    std::fs::write(dir.path().join("other"), "afferent-release 9.9.9 aarch64 1 1;").unwrap();
    std::fs::write(dir.path().join("none"), "no release").unwrap();
    let desk = |words: &[&str]| {
        let mut desk = std::process::Command::new(program);
        let output = desk.arg("desk").args(words).current_dir(dir.path()).output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(complained) }
    };
    desk(&["key", "rel-1.key"]).unwrap();
    let make = |words: &[&str]| {
        let way = ["--url", "https://releases.example/1", "--sign", "rel-1.key"];
        desk(&[&["update", "manifest", "release.json"], words, &way].concat())
    };
    let (arch, version) = (std::env::consts::ARCH, env!("CARGO_PKG_VERSION"));
    let this = format!("{arch}={program}");
    for (words, why) in [
        (&["--program", &*this, "--release", "9.9.9"][..], "every box would refuse it as 9.9.9"),
        (&["--program", &*this, "--program", "aarch64=other"], "is release 9.9.9, and not the same"),
        (&["--program", "x86_64=other"], "say --program aarch64=other"),
        (&["--program", "x86_64=none"], "does not say which release of afferent it is"),
    ] {
        let complained = make(words).unwrap_err();
        assert!(complained.contains(why), "{complained}");
        assert!(!dir.path().join("release.json").exists());
    }
    make(&["--program", &this]).unwrap();
    let made = Manifest::unproven(&std::fs::read(dir.path().join("release.json")).unwrap()).unwrap();
    assert_eq!((made.version.to_string().as_str(), made.targets[0].arch.as_str()), (version, arch));
    assert_eq!((made.journal_schema, made.fleet_schema), (afferent::journal::SCHEMA, afferent::fleet::store::SCHEMA));
}

/// Every place at which a debug build can be made to die; see `src/journal/crash.rs`. Those of one row are gone through
/// in one update; a release on trial may die but twice.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn i7_kill_wherever_it_dies_the_box_is_the_old_or_the_new_one() {
    let Some(rig) = Rig::start().await else { return };
    let good = Phase::Committed;
    let back = Phase::RolledBack;
    let rows: [(Kind, Phase, &[&str]); 6] = [
        (
            Kind::Good,
            good,
            &[
                "update-offered",
                "update-before-downloading",
                "update-downloading",
                "update-before-verifying",
                "update-verifying",
                "update-unpacked",
                "update-before-staged",
                "update-staged",
                "update-waiting-idle",
                "update-before-switching",
                "update-switching",
            ],
        ),
        // Not in the same command as those above: one that ends the program twice is given up.
        (
            Kind::Good,
            good,
            &[
                "update-before-offered",
                "update-before-waiting-idle",
                "update-before-trial",
                "update-trial",
                "launcher-pointed",
            ],
        ),
        (Kind::Good, good, &["update-before-confirming", "update-confirming"]),
        (
            Kind::LosesALink,
            back,
            &[
                "update-before-rolling-back",
                "update-rolling-back",
                "launcher-pointed-back",
                "update-before-rolled-back",
                "update-rolled-back",
            ],
        ),
        (Kind::SpoilsTheJournal, back, &["launcher-put-back"]),
        (Kind::OtherShape, good, &["update-before-committed", "update-committed"]),
    ];
    for (minor, (kind, end, points)) in (1..).zip(rows) {
        let before = rig.running();
        rig.die_at(points);
        let release = rig.publish(Version(1, minor, 0), kind);
        rig.push(&release);
        rig.comes_to(Phase::Staged);
        rig.install(&release);
        rig.comes_to(end);
        // What is on disk is seen before the last of them dies of it.
        broker::until("it died everywhere", || rig.never_came_to().is_empty());
        let wanted = if end == good { Version(1, minor, 0) } else { before };
        assert_eq!(rig.running(), wanted, "{kind:?} {points:?}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn i7_kill_at_random_the_box_is_the_old_or_the_new_one() {
    let kills = std::env::var("AFFERENT_UPDATE_KILLS").map_or(1, |text| text.parse().unwrap());
    let seed = std::env::var("AFFERENT_SEED").map_or(7, |text| text.parse().unwrap());
    println!("AFFERENT_SEED={seed} AFFERENT_UPDATE_KILLS={kills}");
    let mut random = Random::new(seed);
    let Some(rig) = Rig::start().await else { return };
    // Not those of an update that is taken back, nor of one that brings an operating system.
    let of_good = PHASES.into_iter().filter(|phase| {
        !matches!(phase, Phase::RollingBack | Phase::RolledBack)
            && !matches!(phase, Phase::Installing | Phase::Rebooting | Phase::Returning)
    });
    let of_good: Vec<Phase> = of_good.collect();
    let mut minor = 0;
    for _ in 0..kills {
        for (kind, phases) in [
            (Kind::Good, &of_good[..5]),
            (Kind::Good, &of_good[5..]),
            (Kind::CrashesAtStart, &[Phase::RollingBack, Phase::RolledBack]),
        ] {
            minor += 1;
            let (before, version) = (rig.running(), Version(1, minor, 0));
            let release = rig.publish(version, kind);
            let ended = rig.go_through(&release, phases, &mut random);
            let wanted = if ended == Phase::Committed { version } else { before };
            assert_eq!(rig.running(), wanted, "{kind:?}, {ended:?}, seed {seed}");
            assert!(kind == Kind::Good || ended == Phase::RolledBack);
        }
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_roll_out_installs_a_release_and_stops_at_one_that_is_taken_back() {
    let Some(rig) = Rig::start().await else { return };
    let two = rig.publish(Version(1, 1, 0), Kind::Good);
    // The desk dies once the box has begun, and goes on.
    rig.roll_out_and_die(&two, Phase::WaitingIdle);
    let told = rig.resume(&two).unwrap();
    assert!(told.contains("1 done, 0 failed"), "{told}");
    assert_eq!((rig.running(), rig.record().unwrap().phase), (Version(1, 1, 0), Phase::Committed));
    // A box that runs it has it.
    assert!(rig.roll_out(&two, "again").is_ok());
    let bad = rig.publish(Version(1, 2, 0), Kind::LosesALink);
    let told = rig.roll_out(&bad, "bad").unwrap_err();
    assert!(told.contains("is stopped: 1 of the 1 boxes of ring 0 failed"), "{told}");
    // A second time it is the same, though what the box says of it looks the same before.
    let told = rig.roll_out(&bad, "once-more").unwrap_err();
    assert!(told.contains("bench-1 failed: rolled back: gate"), "{told}");
    assert_eq!(rig.running(), Version(1, 1, 0));
    rig.finish().await;
}
