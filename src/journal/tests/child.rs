//! The journal in a process of its own, which is killed or whose disk fails.
//!
//! The child is this test program again, told by an environment variable to run one scene.

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
