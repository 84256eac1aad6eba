//! The journal in a process of its own, which is killed or whose disk fails.
//!
//! The child is this test program again, told by an environment variable to run one scene.

use super::instances::{instance, spool_files};
use super::*;
use std::io::Write;
use std::process::Command;

/// Names the scene; the child finds its data directory in [`DATA`].
const SCENE: &str = "AFFERENT_TEST_SCENE";
const DATA: &str = "AFFERENT_TEST_DATA";
/// Messages the dying child tries to persist.
const MESSAGES: u64 = 20;

/// Runs a scene in a child and returns what it printed, line by line.
fn play(scene: &str, data: &Path, abort_at: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::child::stage", "--nocapture"])
        .env(SCENE, scene)
        .env(DATA, data)
        .env("AFFERENT_ABORT_AT", abort_at)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    told.lines().filter_map(|line| line.split_once("told ").map(|(_, what)| what.to_string())).collect()
}

fn tell(what: &str) {
    println!("told {what}");
    std::io::stdout().flush().unwrap();
}

/// Where the child plays. Nothing happens here when the tests are run.
#[test]
fn stage() {
    let (Ok(scene), Ok(data)) = (std::env::var(SCENE), std::env::var(DATA)) else { return };
    match scene.as_str() {
        "persist" => persist_until_the_end(Path::new(&data)),
        "broken-disk" => lose_the_disk(Path::new(&data)),
        "store" => store_until_the_end(Path::new(&data)),
        "heal" => heal(Path::new(&data)),
        "sweep" => sweep_until_the_end(Path::new(&data)),
        other => panic!("no scene {other}"),
    }
}

fn open(data: &Path) -> (Journal, tokio::runtime::Runtime) {
    let config = Config { free_min_mb: 0, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (Journal::open(data, &config).unwrap(), runtime)
}

fn persist(journal: &Journal, runtime: &tokio::runtime::Runtime, n: u64, bytes: usize) -> Result<(), Refusal> {
    let mut content = n.to_be_bytes().to_vec();
    content.resize(bytes, b'x');
    let part = Persist { token: Token(n), session: n, bytes: content, completes: true, identity: None };
    runtime.block_on(journal.persist(LINK, 1, part)).map(drop).map_err(|refused| refused.reason)
}

fn persist_until_the_end(data: &Path) {
    let (journal, runtime) = open(data);
    for n in 1..=MESSAGES {
        if persist(&journal, &runtime, n, 100).is_ok() {
            tell(&n.to_string());
        }
    }
}

/// Stores images one by one and tells of each that was acknowledged.
fn store_until_the_end(data: &Path) {
    let (journal, runtime) = open(data);
    for n in 1..=MESSAGES {
        let instance = instance(&journal, &format!("1.2.{n}"), format!("image {n}").as_bytes()).unwrap();
        if runtime.block_on(journal.persist_instance(LINK, Token(n), instance)).is_ok() {
            tell(&n.to_string());
        }
    }
}

/// Sends an image once more.
fn heal(data: &Path) {
    let (journal, runtime) = open(data);
    let image = instance(&journal, "1.2.3", b"image").unwrap();
    if runtime.block_on(journal.persist_instance(LINK, Token(1), image)).is_ok() {
        tell("healed");
    }
}

/// Works on what is there with a retention of no time at all, until nothing is left.
fn sweep_until_the_end(data: &Path) {
    let config = Config { free_min_mb: 0, retention_days: 0, ..Config::default() };
    let journal = Journal::open(data, &config).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && journal.reader().unwrap().stats(0).unwrap().entries > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    journal.close();
}

/// Files may not grow for a while: every write beyond the limit fails, as on a disk with an error.
fn lose_the_disk(data: &Path) {
    let (journal, runtime) = open(data);
    let limit = |bytes: libc::rlim_t| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limit is a valid struct, and this process was started only for this scene.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
        }
    };
    assert_eq!(persist(&journal, &runtime, 1, 100), Ok(()));
    limit(4096);
    let refused = persist(&journal, &runtime, 2, 100_000);
    tell(&format!("{refused:?} {:?}", journal.condition()));
    tell(&format!("{:?}", persist(&journal, &runtime, 3, 100)));
    limit(libc::RLIM_INFINITY);
    let started = Instant::now();
    while persist(&journal, &runtime, 4, 100).is_err() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    tell(&format!("{:?}", journal.condition()));
    journal.close();
}

/// SOP Instance UIDs of the images in custody, whose files are exactly those in the spool, and whole.
fn stored(data: &Path) -> Vec<String> {
    let (journal, _runtime) = open(data);
    let reader = journal.reader().unwrap();
    assert!(reader.verify(|_, _| {}).unwrap().is_sound());
    let mut stored: Vec<_> =
        reader.pending_entries(100).unwrap().into_iter().map(|entry| entry.instance.unwrap()).collect();
    let mut spooled: Vec<&str> = stored.iter().map(|instance| instance.spool.as_str()).collect();
    spooled.sort_unstable();
    assert_eq!(spool_files(data), spooled, "no file without a row, no row without a file");
    stored.drain(..).map(|instance| instance.sop_instance_uid).collect()
}

#[test]
fn i1_every_acknowledged_image_is_there_and_whole_after_a_crash_at_every_point() {
    let points = ["spool-written", "spool-renamed", "spool-durable", "before-commit", "after-commit", "after-answer"];
    for point in points {
        for nth in [1, 7] {
            let data = tempfile::tempdir().unwrap();
            let told = play("store", data.path(), &format!("{point}:{nth}"));
            let stored = stored(data.path());
            assert!(told.len() < MESSAGES as usize, "{point}:{nth} is never passed");
            let told: Vec<String> = told.iter().map(|n| format!("1.2.{n}")).collect();
            assert!(stored.starts_with(&told), "{point}:{nth}: told {told:?}, stored {stored:?}");
            assert!(stored.len() <= told.len() + 1, "{point}:{nth}: told {told:?}, stored {stored:?}");
        }
    }
}

#[test]
fn a_crash_between_removing_rows_and_their_files_leaves_no_file_behind() {
    let data = tempfile::tempdir().unwrap();
    let (journal, runtime) = open(data.path());
    let image = instance(&journal, "1.2.3", b"image").unwrap();
    runtime.block_on(journal.persist_instance(LINK, Token(1), image)).unwrap();
    let entry = journal.reader().unwrap().pending_entries(1).unwrap()[0].id;
    journal.file(filing(entry, &[], 0)).unwrap();
    journal.close();
    play("sweep", data.path(), "rows-removed:1");
    assert_eq!(spool_files(data.path()).len(), 1, "the file outlives its row");
    assert!(stored(data.path()).is_empty(), "and the next start removes it");
}

#[test]
fn i1_an_image_that_was_set_aside_is_acknowledged_only_once_it_is_to_be_read_again() {
    let data = tempfile::tempdir().unwrap();
    let (journal, runtime) = open(data.path());
    let image = instance(&journal, "1.2.3", b"image").unwrap();
    let path = data.path().join("spool").join(&image.spooled.name);
    let (kept, _) = runtime.block_on(journal.persist_instance(LINK, Token(1), image)).unwrap();
    std::fs::write(&path, b"DICMimagf").unwrap();
    let reader = journal.reader().unwrap();
    reader.set_damaged(kept.entry);
    while !reader.pending_entries(1).unwrap().is_empty() {
        std::thread::yield_now();
    }
    drop(reader);
    journal.close();
    let pending = || open(data.path()).0.reader().unwrap().pending_entries(1).unwrap().len();
    assert_eq!(play("heal", data.path(), "spool-replaced:1"), Vec::<String>::new(), "it is not done yet");
    assert_eq!(std::fs::read(&path).unwrap(), b"DICMimage");
    assert_eq!(pending(), 0);
    assert_eq!(play("heal", data.path(), "after-answer:3"), ["healed"]);
    assert_eq!(pending(), 1);
}

#[test]
fn i1_kill_an_image_that_comes_again_is_acknowledged_only_once_its_parked_message_is_on_the_way() {
    let points = ["spool-replacing:1", "spool-moved:1", "spool-replaced:1", "before-commit:2", "after-commit:2"];
    for point in points {
        let data = tempfile::tempdir().unwrap();
        let (journal, runtime) = open(data.path());
        let image = instance(&journal, "1.2.3", b"image").unwrap();
        let path = data.path().join("spool").join(&image.spooled.name);
        let (kept, _) = runtime.block_on(journal.persist_instance(LINK, Token(1), image)).unwrap();
        journal.file(filing(kept.entry, &["lost", "refused"], 0)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let rows = runtime.block_on(journal.claim(EHR, 2)).unwrap();
        for (row, reason) in rows.iter().zip([&format!("{IMAGE_LOST}: entity not found"), "A900"]) {
            runtime.block_on(journal.settle(row.id, Settlement::Park { reason: reason.to_string() })).unwrap();
        }
        journal.close();
        let account = || {
            let account = open(data.path()).0.reader().unwrap().account().unwrap();
            (account.queued, account.parked)
        };
        assert_eq!(account(), (0, 2), "{point}");
        assert_eq!(play("heal", data.path(), point), Vec::<String>::new(), "{point} is passed before the answer");
        assert_eq!(play("heal", data.path(), ""), ["healed"], "{point}");
        assert_eq!(account(), (1, 1), "{point}: what was refused for another reason waits for a person");
        assert_eq!(std::fs::read(&path).unwrap(), b"DICMimage", "{point}");
        assert_eq!(spool_files(data.path()).len(), 1, "{point}");
    }
}

fn kept(data: &Path) -> Vec<u64> {
    let (journal, _runtime) = open(data);
    let entries = journal.reader().unwrap().pending_entries(100).unwrap();
    assert!(journal.reader().unwrap().verify(|_, _| {}).unwrap().is_sound());
    journal.close();
    entries.iter().map(|e| u64::from_be_bytes(*e.raw.first_chunk().unwrap())).collect()
}

#[test]
fn i1_whatever_was_acknowledged_survives_a_crash_at_every_point() {
    for point in ["before-commit", "after-commit", "after-answer"] {
        for nth in [1, 2, 7] {
            let data = tempfile::tempdir().unwrap();
            let told = play("persist", data.path(), &format!("{point}:{nth}"));
            let kept = kept(data.path());
            assert!(told.len() < MESSAGES as usize, "{point}:{nth} is never passed");
            let told: Vec<u64> = told.iter().map(|n| n.parse().unwrap()).collect();
            assert!(kept.starts_with(&told), "{point}:{nth}: told {told:?}, kept {kept:?}");
            assert!(kept.len() <= told.len() + 1, "{point}:{nth}: told {told:?}, kept {kept:?}");
        }
    }
}

#[test]
fn a_crash_inside_a_schema_change_leaves_the_one_before() {
    for nth in [1, 2] {
        let data = tempfile::tempdir().unwrap();
        assert!(play("persist", data.path(), &format!("migration:{nth}")).is_empty());
        assert!(kept(data.path()).is_empty());
    }
}

#[test]
fn i1_nothing_is_acknowledged_while_the_disk_fails_and_all_is_well_after() {
    let data = tempfile::tempdir().unwrap();
    let told = play("broken-disk", data.path(), "");
    assert_eq!(told, ["Err(Storage) Failed", "Err(Storage)", "Good"]);
    assert_eq!(kept(data.path()), [1, 4]);
}
