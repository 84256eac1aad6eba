//! What a small box has: 64 MB of memory, and a card that wears out by what is written to it.

use crate::site::{Running, TIMERS, free_port, until_served};
use crate::{afferent, err, out};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Memory of the gateway, the pages of its files included.
const MEMORY_MAX: u64 = 64 << 20;
/// Messages of four results each.
const MESSAGES: usize = 1500;
/// Bytes that may be written to the disk for a result, all files together. A lone commit writes whole pages of 4096 bytes,
/// first to the log of SQLite and later to the database; a message is committed when it comes, when it is read, and when
/// it was delivered.
const WRITTEN_PER_RESULT_MAX: u64 = 32 << 10;

/// A control group with a limit, which ends with the test.
struct Group(PathBuf);

impl Group {
    /// `None`, with a word, where the system lets nobody make one.
    fn new() -> Option<Group> {
        let (first, second) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, limit) = match first.is_dir() {
            true => (first, "memory.limit_in_bytes"),
            false => (second, "memory.max"),
        };
        let group = Group(root.join(format!("afferent-{}", std::process::id())));
        let made =
            std::fs::create_dir(&group.0).and_then(|()| std::fs::write(group.0.join(limit), MEMORY_MAX.to_string()));
        match made {
            Ok(()) => Some(group),
            Err(error) => {
                println!("left out: a box of 64 MB (no control group can be made here: {error})");
                None
            }
        }
    }

    fn takes(&self, process: u32) {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// The most that was in use, and whether somebody was killed for the lack of it.
    fn account(&self) -> (u64, bool) {
        let read = |name: &str| std::fs::read_to_string(self.0.join(name));
        let most = read("memory.max_usage_in_bytes").or_else(|_| read("memory.peak")).unwrap_or_default();
        let events = read("memory.oom_control").or_else(|_| read("memory.events")).unwrap_or_default();
        let kills = events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|kills| kills != "0");
        (most.trim().parse().unwrap_or_default(), kills)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What this process had the disk write, in bytes.
fn written(process: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

#[test]
fn i10_a_box_of_64_mb_carries_results_and_writes_little_for_each() {
    let Some(group) = Group::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [link, ehr] = [(); 2].map(|()| free_port());
    let (config, data, log) = (dir.path().join("afferent.toml"), dir.path().join("data"), dir.path().join("log"));
    let text = format!(
        "[gateway]\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{link}\"\nclock_limit_s = 0\n{TIMERS}\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let _ehr = Running::start(&["sim", "ehr", "--mllp", &format!("127.0.0.1:{ehr}")], None);
    let mut gateway = Running::start(&["run", "--config", &config], Some(&log));
    let process = gateway.0.id();
    group.takes(process);
    until_served(&data, &log);
    let before = written(process);
    let (address, count) = (format!("127.0.0.1:{link}"), MESSAGES.to_string());
    let sim = ["sim", "instrument", "--protocol", "hl7", "--corrections", "0", "--connect", &address, "-n", &count];
    let sent = afferent(&sim);
    assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    let began = Instant::now();
    let delivered = loop {
        let told = afferent(&["journal", "--config", &config, "--json", "stats"]);
        let stats: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        if stats["account"]["queued"] == 0 && stats["waiting"] == 0 {
            break stats["account"]["delivered"].as_u64().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(180), "{stats}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(gateway.0.try_wait().unwrap().is_none(), "it runs still");
    let (most, kills) = group.account();
    let each = (written(process) - before) / delivered;
    println!("{delivered} results: at most {most} bytes of memory, {each} bytes written for each");
    assert!(delivered >= 4 * MESSAGES as u64 && !kills && most <= MEMORY_MAX, "{delivered} {most} {kills}");
    assert!(each <= WRITTEN_PER_RESULT_MAX, "{each} bytes written for each result");
    gateway.stop();
}
