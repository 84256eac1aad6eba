//! The factory reset: refused while anything went nowhere, and never half, wherever it dies.

use crate::site::{Running, Site, until_served};
use crate::{afferent, err, out};
use afferent::update::record::{Phase, Record, Schemas, Slot, Version};
use afferent::update::slots;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of a site's data directory, which may be reset.
struct Copied {
    dir: tempfile::TempDir,
}

impl Copied {
    fn of(site: &Site) -> Copied {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").args(["-a"]).arg(site.data()).arg(dir.path().join("data")).status().unwrap();
        assert!(copied.success());
        let text = std::fs::read_to_string(site.config()).unwrap();
        let [old, new] = [site.data(), dir.path().join("data")].map(|path| format!("{path:?}"));
        std::fs::write(dir.path().join("afferent.toml"), text.replace(&old, &new)).unwrap();
        Copied { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn config(&self) -> String {
        self.dir.path().join("afferent.toml").display().to_string()
    }

    fn reset(&self, words: &[&str]) -> Output {
        afferent(&[&["reset", "--factory", "--config", &self.config()], words].concat())
    }

    /// Resets and dies there. True when it came there.
    fn dies_at(&self, place: &str) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["reset", "--factory", "--discard", "4", "--config", &self.config()]);
        let output = command.env("AFFERENT_ABORT_AT", place).output().unwrap();
        output.status.signal() == Some(libc::SIGABRT)
    }

    fn stats(&self) -> Value {
        let told = afferent(&["journal", "--config", &self.config(), "--json", "stats"]);
        serde_json::from_str(&out(&told)).unwrap_or_else(|_| panic!("{}", err(&told)))
    }

    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.data()).unwrap();
        let mut names: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Starts the gateway and stops it again.
    fn starts(&self) {
        let log = self.dir.path().join("log");
        let running = Running::start(&["run", "--config", &self.config()], Some(&log));
        until_served(&self.data(), &log);
        running.stop();
    }
}

fn key(data: &Path) -> Option<Vec<u8>> {
    std::fs::read(data.join("journal.key")).ok()
}

#[test]
fn i7_a_reset_is_refused_while_anything_went_nowhere_and_throws_away_exactly_what_was_named() {
    let mut site = Site::filled();
    let config = site.config().display().to_string();
    let running = afferent(&["reset", "--factory", "--discard", "4", "--config", &config]);
    assert!(!running.status.success(), "a gateway runs: {}", out(&running));
    site.stop_gateway();
    let copied = Copied::of(&site);
    let before = copied.stats();
    // One result is held, three messages are parked.
    for words in [&[][..], &["--discard", "3"], &["--discard", "5"]] {
        let refused = copied.reset(words);
        assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
        assert!(err(&refused).contains("4 in all (0 entries not read, 1 results held, 0 messages queued, 3 parked"));
        assert_eq!(copied.stats()["account"], before["account"], "nothing was done");
    }
    let done = copied.reset(&["--discard", "4"]);
    assert!(done.status.success(), "{}", err(&done));
    assert_eq!(copied.names(), ["journal.lock", "last-reset"], "nothing is left");
    copied.starts();
    let after = copied.stats();
    assert_eq!((&after["entries"], &after["account"]["received"]), (&0.into(), &0.into()));
    assert_ne!(key(&copied.data()), key(&site.data()), "another key");
    // As new, nothing has to be named.
    assert!(copied.reset(&[]).status.success());
}

#[test]
fn kill_a_reset_is_never_half_wherever_it_dies() {
    let mut site = Site::filled();
    site.stop_gateway();
    // Before there is no way back, nothing has happened.
    let copied = Copied::of(&site);
    assert!(copied.dies_at("reset-counted:1"));
    copied.starts();
    assert_eq!(copied.stats()["account"]["held"], 1);
    // Behind it, the gateway's start ends it, or another reset does.
    let erased = (1..).map(|n| format!("reset-erased:{n}"));
    let places = ["reset-begun:1", "reset-synced:1", "reset-ended:1"].map(str::to_string);
    for (n, place) in places.into_iter().chain(erased).enumerate() {
        let copied = Copied::of(&site);
        if !copied.dies_at(&place) {
            assert!(n > 15, "{place}: it erases one after the other");
            break;
        }
        if n % 2 == 0 {
            let again = copied.reset(&[]);
            assert!(again.status.success(), "{place}: {}", err(&again));
            assert_eq!(copied.names(), ["journal.lock", "last-reset"], "{place}");
        } else {
            copied.starts();
        }
        copied.starts();
        let after = copied.stats();
        assert_eq!((&after["entries"], &after["account"]["received"]), (&0.into(), &0.into()), "{place}");
        assert_ne!(key(&copied.data()), key(&site.data()), "{place}: another key");
    }
}

#[test]
fn a_reset_waits_for_the_end_of_a_trial_and_takes_what_that_kept() {
    let mut site = Site::filled();
    site.stop_gateway();
    let copied = Copied::of(&site);
    let releases = copied.dir.path().join("releases");
    let settings = format!("[update]\nroot = \"/dev/null\"\nreleases = {releases:?}\n");
    let text = std::fs::read_to_string(copied.config()).unwrap();
    std::fs::write(copied.config(), text + &settings).unwrap();
    std::fs::create_dir(&releases).unwrap();
    slots::keep_before(&releases, &copied.data()).unwrap();
    let schemas = Schemas { journal: 1, fleet: 1 };
    let mut record = Record {
        manifest: "0".repeat(64),
        phase: Phase::Offered,
        version: Version(1, 1, 0),
        from: Version(1, 0, 0),
        slot: Slot::B,
        url: "https://releases.example/1.1.0".to_string(),
        sha256: "0".repeat(64),
        length: 1,
        system: None,
        floor: Version(1, 0, 0),
        old_schemas: schemas,
        new_schemas: schemas,
        starts: 0,
        moves: 0,
        wrong: 0,
        trial_s: 600,
        data: copied.data().display().to_string(),
        worked: Vec::new(),
        reason: None,
        event: String::new(),
        is_told: false,
        unknown: Vec::new(),
    };
    for phase in [
        Phase::Installing,
        Phase::Rebooting,
        Phase::Switching,
        Phase::Trial,
        Phase::Confirming,
        Phase::RollingBack,
        Phase::Returning,
    ] {
        record.phase = phase;
        slots::write(&releases, &record).unwrap();
        let refused = copied.reset(&["--discard", "4"]);
        assert!(err(&refused).contains("a release is on trial"), "{}", err(&refused));
    }
    record.phase = Phase::Committed;
    slots::write(&releases, &record).unwrap();
    assert!(releases.join("before/journal.db").exists());
    let done = copied.reset(&["--discard", "4"]);
    assert!(done.status.success(), "{}", err(&done));
    assert!(!releases.join("before").exists(), "a copy of the journal is a journal");
}

/// The data directory is a service's, and root works in it.
#[test]
fn i12_root_resets_as_the_service_and_no_link_leads_it_elsewhere() {
    let mut site = Site::filled();
    site.stop_gateway();
    let copied = Copied::of(&site);
    if !given(&copied) {
        println!("left out: a reset by root of what is another's (this is not root)");
        return;
    }
    // What the service would have root empty.
    let roots = copied.dir.path().join("roots");
    std::fs::write(&roots, "root's").unwrap();
    std::fs::set_permissions(&roots, PermissionsExt::from_mode(0o600)).unwrap();
    let reserve = copied.data().join("journal.reserve");
    let _ = std::fs::remove_file(&reserve);
    std::os::unix::fs::symlink(&roots, &reserve).unwrap();
    let refused = copied.reset(&[]);
    assert!(!refused.status.success());
    assert_eq!(std::fs::read(&roots).unwrap(), b"root's", "{}", err(&refused));
    let reset = copied.reset(&["--discard", "4"]);
    assert!(reset.status.success(), "{}", err(&reset));
    assert_eq!(std::fs::read(&roots).unwrap(), b"root's");
    assert!(copied.names().contains(&"last-reset".to_string()), "{:?}", copied.names());
    for name in copied.names() {
        let about = std::fs::symlink_metadata(copied.data().join(&name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (SERVICE, SERVICE), "{name}");
    }
}

const SERVICE: u32 = 4711;

/// Gives the data directory to the service; false for whoever may not.
fn given(copied: &Copied) -> bool {
    std::fs::set_permissions(copied.dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let owner = format!("{SERVICE}:{SERVICE}");
    let done = Command::new("chown").args(["-hR", &owner]).arg(copied.data()).output().unwrap();
    done.status.success()
}
