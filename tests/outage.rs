//! A disk that is full or read-only, for real: a small file system of its own, where the tests may mount one.
//!
//! Days without an EHR are in `src/delivery/courier/tests.rs`, in virtual time; what retention may remove is in
//! `src/journal/tests/storage.rs`.

use afferent::journal::{self, Journal};
use afferent::wire::{Persist, Refusal, Token};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of the file system.
const DISK: &str = "12m";
const MESSAGE_BYTES: usize = 100_000;

/// A file system that goes away with this value.
struct Disk {
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    /// `None` where this machine does not let us mount one.
    fn mount() -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("disk");
        std::fs::create_dir(&root).unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"], &root) {
            println!("left out: a full and a read-only disk (cannot mount a tmpfs here)");
            return None;
        }
        Some(Disk { root, _dir: dir })
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn remount(&self, how: &str) {
        assert!(mount(&["-o", &format!("remount,{how}")], &self.root), "cannot remount {how}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let status = Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn open(data: &Path) -> Journal {
    Journal::open(data, &settings()).unwrap()
}

/// Without a limit of its own: what refuses is the disk.
fn settings() -> journal::Config {
    journal::Config { free_min_mb: 0, quota_mb: 0, ..journal::Config::default() }
}

async fn persist(journal: &Journal, session: u64) -> Result<(), Refusal> {
    let bytes = vec![b'x'; MESSAGE_BYTES];
    let part = Persist { token: Token(session), session, bytes, completes: true, identity: None };
    journal.persist("chemistry", 1, part).await.map(drop).map_err(|refused| refused.reason)
}

fn kept(journal: &Journal) -> i64 {
    journal.reader().unwrap().stats(0).unwrap().entries
}

#[tokio::test]
async fn i7_a_disk_that_is_really_full_refuses_keeps_what_it_took_and_goes_on_with_room() {
    let Some(disk) = Disk::mount() else { return };
    let journal = open(&disk.data());
    let mut taken = 0;
    let refused = loop {
        match persist(&journal, taken as u64).await {
            Ok(()) => taken += 1,
            Err(reason) => break reason,
        }
        assert!(taken < 1000, "{DISK} hold {taken} messages of {MESSAGE_BYTES} bytes");
    };
    assert_eq!(refused, Refusal::Full);
    assert!(taken > 10, "only {taken} messages were taken");
    assert_eq!(kept(&journal), taken);
    journal.close();

    let journal = open(&disk.data());
    assert_eq!(kept(&journal), taken, "a full disk is no reason not to start");
    disk.remount("size=48m");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(reason) = persist(&journal, taken as u64).await {
        assert!(std::time::Instant::now() < deadline, "still refused with room: {reason:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(kept(&journal), taken + 1);
    assert!(journal.reader().unwrap().verify(|_, _| {}).unwrap().is_sound());
    journal.close();
}

#[tokio::test]
async fn a_read_only_disk_is_told_at_the_start_and_harms_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let journal = open(&disk.data());
    persist(&journal, 1).await.unwrap();
    journal.close();
    disk.remount("ro");
    let error = Journal::open(&disk.data(), &settings()).err().expect("a journal that cannot be written opened");
    assert!(error.to_string().contains(disk.data().to_str().unwrap()), "the error names the place: {error}");
    disk.remount("rw");
    let journal = open(&disk.data());
    assert_eq!(kept(&journal), 1);
    journal.close();
}
