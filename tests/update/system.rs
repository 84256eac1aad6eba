//! Operating systems, with the real RAUC.

use crate::broker::until;
use crate::rig::{Kind, Rig};
use afferent::update::record::{Phase, Reason, Version};

const ONE: Version = Version(1, 0, 0);
const TWO: Version = Version(1, 1, 0);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_operating_system_is_marked_good_behind_the_gate_and_not_before() {
    let Some(rig) = Rig::start_with_slots().await else { return };
    let rauc = rig.rauc();
    let bundle = rauc.bundle("7.0", "maker", true);
    let release = rig.publish_with(TWO, Some(Kind::Good), Some(("7.0", &bundle)));
    rig.push(&release);
    rig.comes_to(Phase::Staged);
    let of_old = |asked: &str| asked.starts_with("set-state A good");
    let is_asked = rauc.asked().iter().any(|asked| !of_old(asked));
    assert!(!is_asked && !rauc.holds("B", "an"), "nothing is installed before somebody says so");
    let other = "0".repeat(64);
    for wrong in [&["--system", &*other][..], &[]] {
        let told = rig.command(&[&["update-install", "1.1.0"], wrong].concat()).unwrap_err();
        assert!(told.contains("failed: other-system"), "{told}");
    }
    let record = std::fs::read_to_string(rig.path().join("audit.jsonl")).unwrap();
    assert!(record.contains(&format!("\"version\":\"1.1.0\",\"system\":\"{other}\"")), "{record}");
    rig.install(&release);
    rig.comes_to(Phase::Committed);
    assert_eq!((rig.running(), rauc.booted().as_str(), rauc.order().as_str()), (TWO, "AB", "B A: 3 3"));
    assert!(rauc.holds("B", "an operating system 7.0"));
    // Only RAUC itself makes it the next one while it installs, and that is undone until the bench is idle.
    let asked = rauc.asked();
    let asked: Vec<&str> = asked
        .iter()
        .map(String::as_str)
        .filter(|asked| !asked.ends_with(" bad installing") && !of_old(asked))
        .collect();
    let wanted = ["primary B installing", "primary A installing", "primary B rebooting", "state B good confirming"];
    assert_eq!(asked, wanted.map(|change| format!("set-{change}")));
    rig.is_told("committed");
    assert!(rig.status().contains("to 1.1.0, operating system 7.0: committed"), "{}", rig.status());
    let told = rig.try_push(&release).unwrap_err();
    assert!(told.contains("failed: same"), "{told}");
    // Every start takes an attempt of the bootloader's, and a gateway that runs gives them back.
    for cut in 1..=5 {
        rig.power();
        until("the slot is good again", || rauc.order() == "B A: 3 3");
        assert_eq!(rauc.booted(), format!("AB{}", "B".repeat(cut)));
    }
    // Alone, for a box that runs the release.
    let bundle = rauc.bundle("7.1", "maker", true);
    let alone = rig.publish_with(TWO, None, Some(("7.1", &bundle)));
    rig.enlist();
    let told = rig.roll_out(&alone, "system").unwrap();
    assert!(told.contains("1 done, 0 failed"), "{told}");
    assert_eq!((rig.running(), rauc.booted().as_str(), rauc.order().as_str()), (TWO, "ABBBBBBA", "A B: 3 3"));
    let other = rig.publish_with(Version(1, 2, 0), None, Some(("7.1", &bundle)));
    let told = rig.try_push(&other).unwrap_err();
    assert!(told.contains("failed: other-release"), "{told}");
    // One that was confirmed and does not come up any more is missed.
    rauc.spoil("A");
    rig.power();
    until("it is told that the other one runs", || rig.is_unusual("system", true));
    assert!(rauc.booted().ends_with('B') && rig.listed().contains("system"), "{}: {}", rauc.booted(), rig.listed());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_bootloader_that_does_not_answer_is_waited_for_and_asked_again_while_results_flow() {
    let Some(rig) = Rig::start_with_slots().await else { return };
    let rauc = rig.rauc();
    until("the slot that runs is marked good", || {
        rauc.asked().iter().any(|asked| asked.starts_with("set-state A good"))
    });
    rauc.hangs(true);
    rig.power();
    let not_yet = "the operating system that runs is not marked good yet: rauc status mark-good booted: no answer";
    until("it is said", || rig.logged(not_yet) == 1);
    assert!(rig.link_is_open() && rauc.order() == "A B: 2 3", "{}", rauc.order());
    rauc.hangs(false);
    until("it is marked good", || rauc.order() == "A B: 3 3");
    // The same behind the gate: it is not confirmed before it is marked.
    let bundle = rauc.bundle("7.0", "maker", true);
    let release = rig.publish_with(ONE, None, Some(("7.0", &bundle)));
    rig.push(&release);
    rig.comes_to(Phase::Staged);
    rig.install(&release);
    rig.comes_to(Phase::Trial);
    rauc.hangs(true);
    until("it is said", || rig.logged("not yet: rauc status mark-good booted: no answer within 2 s") == 1);
    assert_eq!(rig.record().map(|record| record.phase), Some(Phase::Confirming));
    rauc.hangs(false);
    rig.comes_to(Phase::Committed);
    assert_eq!(rauc.order(), "B A: 3 3");
    assert_eq!(rig.logged(not_yet), 1, "once, however often it is tried");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_operating_system_that_does_not_do_is_marked_bad_and_the_old_one_is_back() {
    let Some(rig) = Rig::start_with_slots().await else { return };
    let rauc = rig.rauc();
    // The release it comes with, whose bundle, whether it comes up; why it is taken back, what was booted.
    let cases = [
        ("7.0", Some(Kind::CrashesAtStart), "maker", true, Reason::Starts, "ABA"),
        ("7.1", None, "maker", false, Reason::Boot, "ABAAAA"),
        ("7.2", None, "stranger", true, Reason::Install, "ABAAAA"),
    ];
    for (version, kind, maker, comes_up, reason, booted) in cases {
        let bundle = rauc.bundle(version, maker, comes_up);
        let release = rig.publish_with(if kind.is_some() { TWO } else { ONE }, kind, Some((version, &bundle)));
        rig.push(&release);
        rig.comes_to(Phase::Staged);
        rig.install(&release);
        rig.comes_to(Phase::RolledBack);
        assert_eq!(rig.record().unwrap().reason, Some(reason), "{version}");
        assert_eq!((rig.running(), rauc.booted().as_str()), (ONE, booted), "{version}");
        assert!(rauc.order().starts_with("A B: ") && rauc.order().ends_with(" 0"), "{version}: {}", rauc.order());
        rig.is_told("rolled-back");
    }
    assert!(!rauc.asked().iter().any(|asked| asked.contains("B good")), "{:?}", rauc.asked());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_trial_that_cannot_be_noted_ends_with_the_old_operating_system() {
    let Some(rig) = Rig::start_with_slots().await else { return };
    let rauc = rig.rauc();
    rauc.cannot_write_in("B");
    let bundle = rauc.bundle("7.0", "maker", true);
    let release = rig.publish_with(ONE, None, Some(("7.0", &bundle)));
    rig.push(&release);
    rig.comes_to(Phase::Staged);
    rig.install(&release);
    rig.comes_to(Phase::RolledBack);
    assert_eq!(rig.record().unwrap().reason, Some(Reason::Boot));
    assert_eq!((rig.running(), rauc.booted().as_str()), (ONE, "ABABABA"));
    assert!(rauc.order().starts_with("A B: ") && rauc.order().ends_with(" 0"), "{}", rauc.order());
    rig.is_told("rolled-back");
    rig.finish().await;
}

/// A release on trial may die but twice.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn i7_kill_wherever_it_dies_the_box_has_both_new_or_both_old() {
    let Some(rig) = Rig::start_with_slots().await else { return };
    let rauc = rig.rauc();
    let rows: [(Version, &str, Kind, Phase, &[&str]); 2] = [
        (
            TWO,
            "7.0",
            Kind::Good,
            Phase::Committed,
            &[
                "update-installing",
                "system-installed",
                "update-rebooting",
                "system-activated",
                "update-switching",
                "system-marked-good",
            ],
        ),
        (
            Version(1, 2, 0),
            "7.1",
            Kind::CrashesAtStart,
            Phase::RolledBack,
            &["launcher-pointed-back", "update-returning", "system-activated", "update-before-rolled-back"],
        ),
    ];
    for (version, system, kind, end, points) in rows {
        rig.die_at(points);
        let bundle = rauc.bundle(system, "maker", true);
        let release = rig.publish_with(version, Some(kind), Some((system, &bundle)));
        rig.push(&release);
        rig.comes_to(Phase::Staged);
        rig.install(&release);
        rig.comes_to(end);
        until("it died everywhere", || rig.never_came_to().is_empty());
        // The second one came and went.
        let booted = rauc.booted();
        let booted = booted.chars().last();
        assert_eq!((rig.running(), booted), (TWO, Some('B')), "{points:?}: {:?}", rauc.asked());
    }
    rig.finish().await;
}
