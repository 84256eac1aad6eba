use super::*;
use crate::fleet::envelope::{SigningKey, countersign, new_key, seal};
use proptest::prelude::*;

fn key(name: &str) -> SigningKey {
    SigningKey::from_pkcs8(name, &new_key(&[name.as_bytes()[0]; 32])).unwrap()
}

fn root(version: u64, threshold: usize, names: &[&str]) -> Root {
    let keys = names.iter().map(|name| Key { kid: name.to_string(), key: key(name).public_key() });
    Root { v: 1, version, threshold, expires: "2030-01-01T00:00:00Z".parse().unwrap(), keys: keys.collect() }
}

fn signed<D: Serialize>(document: &D, purpose: Purpose, names: &[&str]) -> Vec<u8> {
    let first = seal(&serde_json::to_vec(document).unwrap(), purpose, &key(names[0]));
    names[1..].iter().fold(first, |bytes, name| countersign(&bytes, purpose, &key(name)).unwrap())
}

fn manifest() -> Manifest {
    let target = |arch: &str| Target {
        arch: arch.to_string(),
        length: 14_000_000,
        sha256: "0123456789abcdef".repeat(4),
        url: "https://releases.example/afferent".to_string(),
    };
    Manifest {
        v: 1,
        version: Version(1, 2, 0),
        min_version: Version(1, 0, 0),
        floor: Version(1, 1, 0),
        expires: "2028-01-01T00:00:00Z".parse().unwrap(),
        journal_schema: 17,
        fleet_schema: 2,
        targets: vec![target("x86_64"), target("aarch64")],
        systems: Vec::new(),
    }
}

fn me() -> Me<'static> {
    let schemas = Schemas { journal: 17, fleet: 2 };
    Me { version: Version(1, 0, 0), arch: "aarch64", floor: Version(0, 0, 0), schemas }
}

fn now() -> Option<Timestamp> {
    "2027-06-01T00:00:00Z".parse().ok()
}

#[test]
fn a_root_changes_its_keys_by_the_word_of_the_old_and_of_the_new() {
    let old = root(1, 2, &["ann", "bob", "cy"]);
    let new = root(2, 2, &["cy", "dora", "eve"]);
    let next = |names: &[&str]| old.next(&signed(&new, Purpose::Root, names));
    assert_eq!(next(&["ann", "bob", "dora", "eve"]), Ok(new.clone()));
    assert_eq!(next(&["ann", "cy", "dora"]), Ok(new.clone()), "a key of both speaks for both");
    assert_eq!(next(&["ann", "bob"]), Err(Refusal::Threshold), "the new keys are not proven");
    assert_eq!(next(&["cy", "dora", "eve"]), Err(Refusal::Threshold), "the old keys did not agree");
    let jump = signed(&root(3, 2, &["cy", "dora"]), Purpose::Root, &["ann", "bob", "cy", "dora"]);
    assert_eq!(old.next(&jump), Err(Refusal::RootOrder));
    let back = signed(&old, Purpose::Root, &["ann", "bob", "cy"]);
    assert_eq!(new.next(&back), Err(Refusal::Threshold), "an old root never comes back");
    let as_manifest = signed(&new, Purpose::Update, &["ann", "bob", "dora", "eve"]);
    assert_eq!(old.next(&as_manifest), Err(Refusal::Threshold), "a signature is for one purpose");
}

#[test]
fn a_root_without_sense_is_none() {
    let names = ["ann", "bob"];
    let wrong = |change: fn(&mut Root)| {
        let mut root = root(1, 2, &names);
        change(&mut root);
        Root::first(&signed(&root, Purpose::Root, &names))
    };
    assert!(wrong(|_| {}).is_ok());
    assert_eq!(wrong(|root| root.threshold = 0), Err(Refusal::Unknown));
    assert_eq!(wrong(|root| root.threshold = 3), Err(Refusal::Unknown));
    assert_eq!(wrong(|root| root.keys[1].key = root.keys[0].key.clone()), Err(Refusal::Unknown), "one key twice");
    assert_eq!(wrong(|root| root.keys[1].kid = root.keys[0].kid.clone()), Err(Refusal::Unknown));
    assert_eq!(wrong(|root| root.keys[1].key = "AAAA".to_string()), Err(Refusal::Unknown));
    assert_eq!(wrong(|root| root.v = 2), Err(Refusal::Unknown));
    assert_eq!(Root::first(b"{}"), Err(Refusal::Unknown));
}

#[test]
fn a_manifest_takes_as_many_keys_as_the_root_says() {
    let root = root(1, 2, &["ann", "bob", "cy"]);
    let by = |names: &[&str]| root.manifest(&signed(&manifest(), Purpose::Update, names));
    assert_eq!(by(&["ann", "cy"]), Ok(manifest()));
    assert_eq!(by(&["ann", "eve", "cy"]), Ok(manifest()), "a stranger neither counts nor spoils");
    assert_eq!(by(&["ann"]), Err(Refusal::Threshold));
    assert_eq!(by(&["ann", "eve"]), Err(Refusal::Threshold));
    let as_command = signed(&manifest(), Purpose::Command, &["ann", "cy"]);
    assert_eq!(root.manifest(&as_command), Err(Refusal::Threshold));
    let change = |change: fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        root.manifest(&signed(&manifest, Purpose::Update, &["ann", "cy"]))
    };
    assert_eq!(change(|m| m.floor = Version(1, 3, 0)), Err(Refusal::Unknown), "a floor above itself");
    assert_eq!(change(|m| m.targets[0].length = 0), Err(Refusal::Unknown));
    assert_eq!(change(|m| m.targets[0].length = LENGTH_MAX + 1), Err(Refusal::Unknown));
    assert_eq!(change(|m| m.targets[0].sha256.make_ascii_uppercase()), Err(Refusal::Unknown));
    assert_eq!(change(|m| m.targets[0].url = "file:///etc/shadow".to_string()), Err(Refusal::Unknown));
    assert_eq!(change(|m| m.targets[0].url.push('\n')), Err(Refusal::Unknown));
}

#[test]
fn a_release_is_for_a_box_or_the_reason_is_told() {
    let root = root(1, 1, &["ann"]);
    let judged = |me: Me<'_>, now| judge(&manifest(), &root, me, now).map(|target| target.unwrap().arch.clone());
    assert_eq!(judged(me(), now()), Ok("aarch64".to_string()));
    assert_eq!(judged(me(), None), Err(Refusal::NoClock));
    assert_eq!(judged(me(), "2028-01-01T00:00:01Z".parse().ok()), Err(Refusal::Expired));
    assert_eq!(judged(Me { version: Version(1, 2, 0), ..me() }, now()), Err(Refusal::Same));
    assert_eq!(judged(Me { version: Version(0, 9, 9), ..me() }, now()), Err(Refusal::TooFar));
    assert_eq!(judged(Me { floor: Version(1, 2, 1), ..me() }, now()), Err(Refusal::BelowFloor));
    assert_eq!(judged(Me { arch: "riscv64", ..me() }, now()), Err(Refusal::OtherMachine));
    let schemas = Schemas { journal: 18, fleet: 2 };
    assert_eq!(judged(Me { schemas, ..me() }, now()), Err(Refusal::OlderSchema));
    let newer = Me { version: Version(1, 3, 0), floor: Version(1, 1, 0), ..me() };
    assert_eq!(judged(newer, now()), Ok("aarch64".to_string()), "back to what is above the floor");
    let expired = Root { expires: "2027-01-01T00:00:00Z".parse().unwrap(), ..root.clone() };
    assert_eq!(judge(&manifest(), &expired, me(), now()), Err(Refusal::Expired));
}

#[test]
fn an_operating_system_is_for_a_box_or_the_reason_is_told() {
    let root = root(1, 1, &["ann"]);
    let system = System {
        compatible: "acme box".to_string(),
        version: "7.0-1".to_string(),
        length: 200_000_000,
        sha256: "0123456789abcdef".repeat(4),
        url: "https://releases.example/os-7.raucb".to_string(),
    };
    let beside = Manifest { systems: vec![system.clone()], ..manifest() };
    let alone = Manifest { targets: Vec::new(), ..beside.clone() };
    let signed_as = |manifest: &Manifest| root.manifest(&signed(manifest, Purpose::Update, &["ann"]));
    assert_eq!((signed_as(&beside).as_ref(), signed_as(&alone).as_ref()), (Ok(&beside), Ok(&alone)));
    for change in [
        (|s| s.compatible.clear()) as fn(&mut System),
        |s| s.compatible.push('\n'),
        |s| s.version.push(' '),
        |s| s.version = "7".repeat(129),
        |s| s.length = BUNDLE_MAX + 1,
        |s| s.sha256.make_ascii_uppercase(),
        |s| s.url = "file:///dev/sda".to_string(),
    ] {
        let mut wrong = system.clone();
        change(&mut wrong);
        let wrong = Manifest { systems: vec![wrong], ..manifest() };
        assert_eq!(signed_as(&wrong), Err(Refusal::Unknown), "{:?}", wrong.systems);
    }
    let runs_it = Me { version: Version(1, 2, 0), ..me() };
    assert_eq!(judge(&beside, &root, runs_it, now()), Ok(None), "the release is there already");
    assert_eq!(judge(&alone, &root, runs_it, now()), Ok(None));
    assert_eq!(judge(&alone, &root, me(), now()), Err(Refusal::OtherRelease));
    assert_eq!(super::system(&manifest(), "acme box", None), Ok(None));
    assert_eq!(super::system(&beside, "acme box", None), Ok(Some(&system)));
    assert_eq!(super::system(&beside, "acme box", Some("6.0")), Ok(Some(&system)));
    assert_eq!(super::system(&beside, "acme box", Some("7.0-1")), Ok(None), "it runs already");
    assert_eq!(super::system(&beside, "acme crate", None), Err(Refusal::OtherMachine));
    let named = [&beside, &alone, &manifest()].map(|manifest| manifest.names_system(&system.sha256));
    assert_eq!((named, beside.names_system(&"0".repeat(64))), ([true, true, false], false));
}

proptest! {
    /// Whatever subset signs, enough is enough and one fewer is not.
    #[test]
    fn no_fewer_keys_than_the_threshold_ever_count(threshold in 1_usize..=4, signers in proptest::sample::subsequence(vec!["ann", "bob", "cy", "dora", "eve", "fay"], 1..=6)) {
        let root = root(1, threshold, &["ann", "bob", "cy", "dora"]);
        let known = signers.iter().filter(|name| !["eve", "fay"].contains(name)).count();
        let found = root.manifest(&signed(&manifest(), Purpose::Update, &signers));
        prop_assert_eq!(found.is_ok(), known >= threshold);
    }

    #[test]
    fn no_changed_manifest_says_anything_else(at in 0_usize..2000, with in any::<u8>()) {
        let root = root(1, 2, &["ann", "bob"]);
        let mut bytes = signed(&manifest(), Purpose::Update, &["ann", "bob"]);
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(found) = root.manifest(&bytes) {
            prop_assert_eq!(found, manifest());
        }
        prop_assert!(Root::first(&bytes).is_err());
    }
}
