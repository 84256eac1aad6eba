//! What a small box has: 64 MB of memory, and a card that wears out by what is written to it.

use crate::site::{Running, TIMERS, free_port, until_served};
use crate::{afferent, err, out};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Memory of the gateway, the pages of its files included.
const MEMORY_MAX: u64 = 64 << 20;
/// Messages of four results each.
const MESSAGES: usize = 1500;
/// They come in so many rounds, and in the second half of them memory stays as it is, but for what the allocator keeps.
const ROUNDS: usize = 10;
const GROWTH_MAX: u64 = 1 << 20;
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

/// Memory of a process that is no file's, in bytes.
fn own_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
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
    let (address, count) = (format!("127.0.0.1:{link}"), (MESSAGES / ROUNDS).to_string());
    let mut own = Vec::new();
    for round in 0..ROUNDS {
        let seed = round.to_string();
        let sim = ["sim", "instrument", "--protocol", "hl7", "--corrections", "0", "--connect", &address];
        let sent = afferent(&[&sim[..], &["-n", &count, "--seed", &seed]].concat());
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
        own.push(own_memory(process));
    }
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
    println!(
        "{delivered} results: at most {most} bytes of memory, {each} bytes written for each; its own after each round: {own:?}"
    );
    assert!(delivered >= 4 * MESSAGES as u64 && !kills && most <= MEMORY_MAX, "{delivered} {most} {kills}");
    let grown = own[ROUNDS - 1].saturating_sub(own[ROUNDS / 2]);
    assert!(grown <= GROWTH_MAX, "{grown} bytes more than after half of them: {own:?}");
    assert!(each <= WRITTEN_PER_RESULT_MAX, "{each} bytes written for each result");
    gateway.stop();
}

/// Days that go by.
const DAYS: u32 = 31;
/// Messages of a day, of four results each.
const DAILY: u32 = 40;
/// Days for which delivered results are kept.
const KEPT: u32 = 7;

/// Bytes of log of a day with a start and an end, however many results come.
const LOGGED_MAX: u64 = 16 << 10;

/// What starts a program so many days from now, by all of its clocks: the wall's (libfaketime) and the machine's (a time
/// namespace). A wall clock that goes by itself was set, and nothing is old because of that.
fn days_later(days: u32) -> Option<Command> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    let seconds = (u64::from(days) * 86_400).to_string();
    let mut later = Command::new("unshare");
    later.args(["--time", "--boottime", &seconds, "--monotonic", &seconds]);
    let can = Command::new("unshare").args(["--time", "true"]).output().is_ok_and(|made| made.status.success());
    let Some(library) = found.filter(|_| can) else {
        println!("left out: a month goes by (no faketime, or no time namespace can be made here)");
        return None;
    };
    later.env("LD_PRELOAD", library).env("FAKETIME", format!("+{days}d"));
    later.envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]);
    Some(later)
}

/// Bytes of a folder with everything below it.
fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[test]
fn i10_a_month_goes_by_and_the_disk_fills_no_more_than_its_retention_says() {
    let Some(_) = days_later(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let [link, ehr] = [(); 2].map(|()| free_port());
    let (config, data, log) = (dir.path().join("afferent.toml"), dir.path().join("data"), dir.path().join("log"));
    let text = format!(
        "[gateway]\ndata = {data:?}\nclock_trusted = true\n[journal]\nfree_min_mb = 0\nretention_days = {KEPT}\n\
         [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{link}\"\nclock_limit_s = 0\n{TIMERS}\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let _ehr = Running::start(&["sim", "ehr", "--mllp", &format!("127.0.0.1:{ehr}")], None);
    let (address, count) = (format!("127.0.0.1:{link}"), DAILY.to_string());
    let mut days = Vec::new();
    for day in 1..=DAYS {
        let gateway = Running::start_by(days_later(day), &["run", "--config", &config], Some(&log));
        until_served(&data, &log);
        let seed = day.to_string();
        let sim = ["sim", "instrument", "--protocol", "hl7", "--corrections", "0", "--connect", &address];
        let sent = afferent(&[&sim[..], &["-n", &count, "--seed", &seed]].concat());
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
        let delivered = u64::from(4 * DAILY * day);
        let began = Instant::now();
        let entries = loop {
            let told = afferent(&["journal", "--config", &config, "--json", "stats"]);
            let stats: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
            let entries = rows(&data);
            if stats["account"]["delivered"] == delivered && entries <= u64::from(DAILY * (KEPT + 1)) {
                break entries;
            }
            assert!(began.elapsed() < Duration::from_secs(180), "day {day}: {entries} entries, {stats}");
            std::thread::sleep(Duration::from_millis(50));
        };
        gateway.stop();
        days.push((entries, size_of(&data)));
    }
    let logged = std::fs::metadata(&log).unwrap().len() / u64::from(DAYS);
    println!("entries and bytes of the data directory: {days:?}; {logged} bytes of log a day");
    let settled = days[2 * KEPT as usize].1;
    let last = days.last().unwrap();
    assert!(last.0 >= u64::from(DAILY * KEPT) - u64::from(DAILY), "what is to be kept is: {last:?}");
    assert!(last.1 <= settled + settled / 10, "the second half of the month took no more room: {days:?}");
    assert!(logged <= LOGGED_MAX, "{logged} bytes of log a day");
}

/// Entries in the journal.
fn rows(data: &Path) -> u64 {
    let journal = rusqlite::Connection::open(data.join("journal.db")).unwrap();
    journal.busy_timeout(Duration::from_secs(30)).unwrap();
    journal.query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}
