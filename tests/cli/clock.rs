//! A box whose battery is empty, with `faketime`: it starts in the past, takes results all the same, and knows when they
//! came once its clock is set. Without `faketime` it is left out; `tests/all` installs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::site::{Running, TIMERS, free_port, until_served};
use crate::{afferent, err, out};

/// 2019: before this program.
const PAST_S: u64 = 1_550_000_000;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn library() -> Option<String> {
    let found = Command::new("faketime").args(["-f", "+0d", "sh", "-c", "echo $LD_PRELOAD"]).output().ok()?;
    Some(String::from_utf8(found.stdout).ok()?.trim().to_owned()).filter(|preload| !preload.is_empty())
}

/// The gateway, by a clock that is off by what the file says.
fn start(config: &Path, off: &Path, library: &str) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(["run", "--config"]).arg(config).env_remove("JOURNAL_STREAM");
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", off).env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let log = std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
    Running(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

#[test]
fn i1_results_come_in_by_a_clock_that_is_wrong_and_are_dated_when_it_is_set() {
    let Some(library) = library() else {
        return println!("left out: a box without a battery (no faketime; tests/all installs it)");
    };
    let dir = tempfile::tempdir().unwrap();
    let (config, off, data) = (dir.path().join("afferent.toml"), dir.path().join("off"), dir.path().join("data"));
    let port = free_port();
    let text = format!(
        "[gateway]\ndata = {data:?}\nclock_trusted = true\n[journal]\nfree_min_mb = 0\n[watch]\nlook_s = 1\n\
         [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{port}\"\n{TIMERS}\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n"
    );
    std::fs::write(&config, text).unwrap();
    std::fs::write(&off, format!("-{}\n", now_s() - PAST_S)).unwrap();
    let address = format!("127.0.0.1:{port}");
    let send = |run: &str| {
        let began_s = now_s();
        let sim = ["sim", "instrument", "--protocol", "hl7", "-n", "1", "--corrections", "0", "--connect", &address];
        let sent = afferent(&[&sim[..], &["--run", run]].concat());
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
        began_s..=now_s()
    };
    let search = || -> Vec<Value> {
        let shown = config.display().to_string();
        let found = afferent(&["journal", "search", "--json", "--config", &shown]);
        let mut found: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
        found.sort_by_key(|entry| entry["entry"].as_i64());
        found
    };

    let log = config.with_extension("log");
    let gateway = start(&config, &off, &library);
    until_served(&data, &log);
    let first = send("FIRST");
    gateway.stop();
    let _gateway = start(&config, &off, &library);
    until_served(&data, &log);
    let second = send("SECOND");
    let before = search();
    assert_eq!(before.len(), 2);
    for entry in &before {
        assert_eq!((&entry["clock"], &entry["corrected_ms"]), (&"unset".into(), &Value::Null), "{entry}");
        assert!(entry["received_ms"].as_u64().unwrap() / 1000 < PAST_S + 3600, "custody does not wait: {entry}");
    }

    std::fs::write(&off, "+0\n").unwrap();
    let third = send("THIRD");
    let patience = Instant::now();
    let found = loop {
        let found = search();
        if found.iter().all(|entry| !entry["corrected_ms"].is_null() || entry["clock"] == "trusted") {
            break found;
        }
        assert!(patience.elapsed() < Duration::from_secs(60), "{found:?}");
        send("LATER");
        std::thread::sleep(Duration::from_millis(200));
    };
    for (entry, came) in found.iter().zip([first, second, third]) {
        let in_truth = entry["corrected_ms"].as_u64().or(entry["received_ms"].as_u64()).unwrap() / 1000;
        let came = came.start() - 2..=came.end() + 2;
        assert!(came.contains(&in_truth), "{entry} came in {came:?}");
    }
    let shown = afferent(&["journal", "show", "1", "--config", &config.display().to_string()]);
    assert!(out(&shown).contains("the clock of this box was behind the truth; it was "), "{}", out(&shown));
}
