use super::record::Slot;
use super::*;
use crate::fleet::envelope::{Purpose, SigningKey, countersign, new_key, seal};
use jiff::SignedDuration;
use manifest::{Key, Target};

struct Bench {
    updates: Updates,
    _dir: tempfile::TempDir,
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_pkcs8(name, &new_key(&[name.as_bytes()[0]; 32])).unwrap()
}

fn root(version: u64, names: &[&str], signers: &[&str]) -> Vec<u8> {
    let keys = names.iter().map(|name| Key { kid: name.to_string(), key: key(name).public_key() });
    let expires = Timestamp::now() + SignedDuration::from_hours(24);
    signed(&Root { v: 1, version, threshold: names.len(), expires, keys: keys.collect() }, Purpose::Root, signers)
}

fn signed(document: &impl serde::Serialize, purpose: Purpose, names: &[&str]) -> Vec<u8> {
    let first = seal(&serde_json::to_vec(document).unwrap(), purpose, &key(names[0]));
    names[1..].iter().fold(first, |bytes, name| countersign(&bytes, purpose, &key(name)).unwrap())
}

fn release(version: Version, floor: Version, signers: &[&str]) -> Vec<u8> {
    let Schemas { journal, fleet } = schemas();
    let target = Target {
        arch: std::env::consts::ARCH.to_string(),
        length: 1,
        sha256: "0".repeat(64),
        url: "https://releases.example/x".to_string(),
    };
    let manifest = Manifest {
        v: 1,
        version,
        min_version: Version(0, 0, 0),
        floor,
        expires: Timestamp::now() + SignedDuration::from_hours(24),
        journal_schema: journal,
        fleet_schema: fleet,
        targets: vec![target],
        systems: Vec::new(),
    };
    signed(&manifest, Purpose::Update, signers)
}

impl Bench {
    /// A box with release 1.0.0, which trusts ann and bob together.
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (releases, data) = (dir.path().join("releases"), dir.path().join("data"));
        std::fs::create_dir_all(&releases).unwrap();
        slots::point_at(&releases, Slot::A).unwrap();
        let config = Config { releases, root: dir.path().join("root.json"), ..Config::default() };
        std::fs::write(&config.root, root(1, &["ann", "bob"], &["ann", "bob"])).unwrap();
        Bench { updates: Updates { config, data, version: Version(1, 0, 0) }, _dir: dir }
    }

    fn offer(&self, manifest: &[u8]) -> Result<(), Refusal> {
        self.updates.offer(manifest, &[], Some(Timestamp::now()))
    }

    fn phase(&self) -> Option<Phase> {
        self.updates.record().map(|record| record.phase)
    }

    /// As if the update had come that far.
    fn comes_to(&self, phase: Phase) {
        let mut record = self.updates.record().unwrap();
        record.phase = phase;
        slots::write(self.updates.releases(), &record).unwrap();
    }
}

const NONE: Version = Version(0, 0, 0);

#[test]
fn an_offer_is_kept_until_the_next_and_dropped_by_nobody_once_it_is_on_trial() {
    let bench = Bench::new();
    let (one, two) =
        (release(Version(1, 1, 0), NONE, &["ann", "bob"]), release(Version(1, 2, 0), NONE, &["ann", "bob"]));
    assert_eq!(bench.offer(&release(Version(1, 1, 0), NONE, &["ann"])), Err(Refusal::Threshold));
    assert_eq!(bench.phase(), None);
    bench.offer(&one).unwrap();
    bench.comes_to(Phase::Staged);
    bench.offer(&one).unwrap();
    assert_eq!(bench.phase(), Some(Phase::Staged), "the same again changes nothing");
    assert_eq!(bench.updates.install("1.2.0", None), Err(Refusal::NotStaged));
    bench.updates.install("1.1.0", None).unwrap();
    assert_eq!(bench.phase(), Some(Phase::WaitingIdle));
    bench.offer(&two).unwrap();
    assert_eq!(bench.updates.record().unwrap().version, Version(1, 2, 0));
    for phase in [Phase::Switching, Phase::Trial, Phase::Confirming, Phase::RollingBack] {
        bench.comes_to(phase);
        assert_eq!(bench.offer(&one), Err(Refusal::Busy), "{phase:?}");
    }
    // What runs may be what is offered, and is not to stay.
    let runs = release(Version(1, 0, 0), NONE, &["ann", "bob"]);
    for phase in [Phase::Confirming, Phase::Returning] {
        bench.comes_to(phase);
        assert_eq!(bench.offer(&runs), Err(Refusal::Busy), "{phase:?}");
    }
    bench.comes_to(Phase::RolledBack);
    assert_eq!(bench.offer(&runs), Err(Refusal::Same));
    bench.offer(&two).unwrap();
    assert_eq!(bench.phase(), Some(Phase::Offered), "what was rolled back may be tried again");
    assert_eq!(bench.updates.record().unwrap().slot, Slot::B);
}

#[test]
fn what_is_installed_is_what_was_named_and_once() {
    let bench = Bench::new();
    let of_system = record::tests::with_system(Phase::Staged).system.unwrap().sha256;
    let other = "c0".repeat(32);
    for (staged, named, others, under_way) in [
        (record::tests::record(Phase::Staged), None, [Some(&*of_system), Some(&*other)], Phase::WaitingIdle),
        (record::tests::with_system(Phase::Staged), Some(&*of_system), [None, Some(&*other)], Phase::Installing),
    ] {
        slots::write(bench.updates.releases(), &staged).unwrap();
        for wrong in others {
            assert_eq!(bench.updates.install("1.1.0", wrong), Err(Refusal::OtherSystem));
            assert_eq!(bench.updates.record().as_ref(), Some(&staged), "nothing has changed");
        }
        bench.updates.install("1.1.0", named).unwrap();
        assert_eq!(bench.phase(), Some(under_way));
        for phase in record::PHASES.into_iter().filter(|phase| *phase != Phase::Staged) {
            bench.comes_to(phase);
            let before = bench.updates.record();
            let is_begun = phase.is_on_trial()
                || matches!(phase, Phase::Installing | Phase::WaitingIdle | Phase::Rebooting | Phase::Committed);
            let wanted = if is_begun { Ok(()) } else { Err(Refusal::NotStaged) };
            assert_eq!(bench.updates.install("1.1.0", named), wanted, "{phase:?}");
            assert_eq!(bench.updates.record(), before, "it is not run twice");
        }
    }
}

#[test]
fn an_operating_system_that_is_written_is_not_replaced_before_its_end() {
    let bench = Bench::new();
    std::fs::create_dir_all(&bench.updates.data).unwrap();
    let offered = release(Version(1, 2, 0), NONE, &["ann", "bob"]);
    let mut config = crate::config::Config::default();
    config.update = Some(bench.updates.config.clone());
    for phase in record::PHASES {
        slots::write(bench.updates.releases(), &record::tests::with_system(phase)).unwrap();
        let is_free = matches!(phase, Phase::Offered | Phase::Downloading | Phase::Verifying | Phase::Staged);
        let is_free = is_free || phase.is_final();
        assert_eq!(is_on_trial(&config), !is_free, "{phase:?}");
        assert_eq!(bench.offer(&offered), if is_free { Ok(()) } else { Err(Refusal::Busy) }, "{phase:?}");
    }
}

#[test]
fn another_box_takes_over_the_floor_and_the_root_and_neither_goes_down() {
    let old = Bench::new();
    let second = String::from_utf8(root(2, &["ann", "bob"], &["ann", "bob"])).unwrap();
    let at = |version| release(version, version, &["ann", "bob"]);
    old.updates.offer(&at(Version(1, 5, 0)), std::slice::from_ref(&second), Some(Timestamp::now())).unwrap();
    old.comes_to(Phase::Committed);
    let kept = floors(old.updates.config());
    assert_eq!(kept, [(ROOT, second.into_bytes()), (FLOOR, b"1.5.0".to_vec())]);
    let new = Bench::new();
    let releases = new.updates.releases();
    let take = |all: &[(&str, Vec<u8>)]| {
        all.iter().for_each(|(name, bytes)| take_over(releases, name, bytes).unwrap());
    };
    take(&kept);
    assert_eq!(new.offer(&at(Version(1, 4, 0))), Err(Refusal::BelowFloor));
    let lower = [(ROOT, root(1, &["eve"], &["eve"])), (FLOOR, b"0.9.0".to_vec()), ("../elsewhere", b"9.9.9".to_vec())];
    take(&lower);
    assert_eq!(floors(new.updates.config()), kept);
}

#[test]
fn the_floor_rises_with_what_is_confirmed_and_never_goes_down() {
    let bench = Bench::new();
    let at = |version| release(version, version, &["ann", "bob"]);
    bench.offer(&at(Version(2, 0, 0))).unwrap();
    bench.comes_to(Phase::RolledBack);
    bench.offer(&at(Version(1, 5, 0))).unwrap();
    bench.comes_to(Phase::Committed);
    assert_eq!(bench.offer(&at(Version(1, 4, 0))), Err(Refusal::BelowFloor));
    bench.offer(&at(Version(1, 6, 0))).unwrap();
    bench.comes_to(Phase::RolledBack);
    assert_eq!(bench.offer(&at(Version(1, 4, 0))), Err(Refusal::BelowFloor), "also when that record is gone");
    std::fs::remove_file(bench.updates.releases().join("update")).unwrap();
    assert_eq!(bench.offer(&at(Version(1, 4, 9))), Err(Refusal::BelowFloor));
}

#[test]
fn keys_change_by_roots_that_follow_each_other_and_the_newest_counts() {
    let bench = Bench::new();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let two = text(root(2, &["cy", "dora"], &["ann", "bob", "cy", "dora"]));
    let three = text(root(3, &["eve", "fay"], &["cy", "dora", "eve", "fay"]));
    let offer = |manifest: &[u8], roots: &[&String]| {
        let roots: Vec<String> = roots.iter().map(|root| (*root).clone()).collect();
        bench.updates.offer(manifest, &roots, Some(Timestamp::now()))
    };
    let by_eve = release(Version(1, 1, 0), NONE, &["eve", "fay"]);
    assert_eq!(offer(&by_eve, &[&three]), Err(Refusal::Threshold), "one is missing");
    offer(&by_eve, &[&two, &three]).unwrap();
    let by_ann = release(Version(1, 2, 0), NONE, &["ann", "bob"]);
    assert_eq!(offer(&by_ann, &[]), Err(Refusal::Threshold), "the old keys are worth nothing any more");
    assert_eq!(offer(&by_ann, &[&two]), Err(Refusal::Threshold), "also when their successor is shown again");
    offer(&release(Version(1, 3, 0), NONE, &["eve", "fay"]), &[&two, &three]).unwrap();
}

#[test]
fn a_root_that_is_a_pipe_is_not_waited_for() {
    let bench = Bench::new();
    let file = &bench.updates.config.root;
    std::fs::remove_file(file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
    assert_eq!(bench.offer(&release(Version(1, 1, 0), NONE, &["ann", "bob"])), Err(Refusal::Disk));
}

#[test]
fn an_end_is_told_under_one_id_until_it_is_told() {
    let bench = Bench::new();
    bench.offer(&release(Version(1, 1, 0), NONE, &["ann", "bob"])).unwrap();
    assert_eq!(bench.updates.untold(), None, "nothing is told before something is so");
    bench.comes_to(Phase::RolledBack);
    let event = bench.updates.untold().unwrap().event;
    assert_eq!(bench.updates.untold().unwrap().event, event, "after a crash it is told again, under the same id");
    bench.updates.told("another");
    assert!(bench.updates.untold().is_some());
    bench.updates.told(&event);
    assert_eq!(bench.updates.untold(), None);
}
