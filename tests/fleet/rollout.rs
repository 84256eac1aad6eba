//! Staged roll-outs over a real broker, with boxes that fail, are silent, and a desk that dies.

use crate::broker::until;
use crate::desk::{Beside, command, lines};
use crate::simulated::Stage;
use afferent::sim::fleet::Options;
use afferent::sim::fleet::stage::Mosquitto;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

const KEY: [&str; 2] = ["--sign", "ops-1.key"];

fn rollout(stage: &Stage, words: &[&str]) -> Output {
    command(stage.path(), &[&["rollout"], words].concat()).output().unwrap()
}

fn status(stage: &Stage, name: &str) -> Value {
    let output = rollout(stage, &["status", name, "--json"]);
    serde_json::from_slice::<Value>(&output.stdout).map(|all| all[0].clone()).unwrap_or_default()
}

/// How often each box was told, by the record of the desk.
fn told(stage: &Stage, name: &str) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for line in lines(&stage.path().join("rollouts").join(name).join("log.jsonl")) {
        if line["what"] == "told" {
            *told.entry(line["gateway"].as_str().unwrap().to_string()).or_default() += 1;
        }
    }
    told
}

fn done(status: &Value) -> u64 {
    let rings = status["rings"].as_array().into_iter().flatten();
    rings.map(|ring| ring["counts"]["done"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_comes_ring_by_ring_and_a_desk_that_is_killed_goes_on() {
    let Some(stage) = Stage::make(120) else { return };
    // A box counts once it has said something to the desk that goes on.
    let fleet = stage.start(Options { report_every: Duration::from_secs(5), ..stage.options() });
    until("all boxes are there", || fleet.account().born == 120);
    let plan = rollout(&stage, &[&["start", "ping", "--dry-run"], &KEY[..]].concat());
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("ring 0: 2 boxes: box-00001, box-00101\n") && plan.contains("ring 1: 12 boxes"), "{plan}");

    // It is killed whenever it has come a little further, and goes on each time.
    let start = ["start", "ping", "--name", "all", "--batch", "7", "--wait-s", "1"];
    let mut running = Beside::start(command(stage.path(), &[&["rollout"], &start[..], &KEY[..]].concat()));
    for reached in [1, 12, 40, 80] {
        until("it comes further", || done(&status(&stage, "all")) >= reached);
        drop(running);
        let resume = ["rollout", "resume", "all"];
        running = Beside::start(command(stage.path(), &[&resume[..], &KEY[..]].concat()));
    }
    until("it is finished", || status(&stage, "all")["stage"] == "finished");
    let account = fleet.account();
    assert_eq!((account.run, account.run_twice, account.refused), (120, 0, 0), "{account:?}");
    let told = told(&stage, "all");
    assert!(told.len() == 120 && told.values().all(|times| *times == 1), "{told:?}");
    assert!(
        String::from_utf8(command(stage.path(), &["audit"]).output().unwrap().stdout).unwrap().contains("each follows")
    );

    // A name is used once, and its keys are the ones it was started with.
    let again = rollout(&stage, &[&start[..], &KEY[..]].concat());
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is a roll-out of this name"), "{again:?}");
    assert!(command(stage.path(), &["key", "other.key"]).output().unwrap().status.success());
    let other = rollout(&stage, &["resume", "all", "--sign", "other.key"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("give the same"), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pauses_and_stops_for_a_person_and_by_itself() {
    let Some(stage) = Stage::make(60) else { return };
    let fleet = stage.start(Options { failing: 1.0, ..stage.options() });
    until("all boxes are there", || fleet.account().born == 60);
    // All fail: the first ring is as far as it gets.
    let failing = rollout(&stage, &[&["start", "ping", "--name", "bad", "--wait-s", "1"], &KEY[..]].concat());
    assert!(!failing.status.success());
    assert!(
        String::from_utf8_lossy(&failing.stderr).contains("is stopped: 1 of the 1 boxes of ring 0 failed"),
        "{failing:?}"
    );
    assert_eq!((fleet.account().run, told(&stage, "bad").len()), (1, 1));
    assert_eq!(status(&stage, "bad")["failures"]["box-00001"], "failed: system");
    drop(fleet);

    // Silent ones count as failed, and what a person says comes before what boxes do.
    let fleet = stage.start(Options { silent: 1.0, ..stage.options() });
    until("all boxes are there", || fleet.account().born == 60);
    let group = ["start", "report", "--group", "ring!=0", "--batch", "3", "--silent-s", "600"];
    let start = [&["rollout"], &group[..], &["--name", "quiet"], &KEY[..]].concat();
    let running = Beside::start(command(stage.path(), &start));
    until("a batch is told", || told(&stage, "quiet").len() == 3);
    assert!(rollout(&stage, &["pause", "quiet"]).status.success());
    assert_eq!(status(&stage, "quiet")["stage"], "paused");
    assert!(rollout(&stage, &["stop", "quiet", "--reason", "enough"]).status.success());
    until("it ends", || status(&stage, "quiet")["stage"]["stopped"] == "enough");
    drop(running);
    let resumed = rollout(&stage, &[&["resume", "quiet"], &KEY[..]].concat());
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("stopped: enough"), "{resumed:?}");
    assert_eq!(told(&stage, "quiet").len(), 3, "nobody else was told");
    let record = crate::desk::lines(&stage.path().join("audit.jsonl"));
    let record: Vec<_> = record.iter().map(|line| &line["what"]).filter(|what| what["rollout"] == "quiet").collect();
    let does: String = record.iter().map(|what| what["does"].to_string()).collect();
    let at: Vec<_> = ["start", "aused", "topped", "resume"].iter().filter_map(|verb| does.find(verb)).collect();
    assert!(at.len() == 4 && at.is_sorted() && record.iter().all(|what| what["by"].is_string()), "{record:?}");

    let short = ["start", "report", "--group", "ring=0", "--silent-s", "2", "--name", "short"];
    let short = rollout(&stage, &[&short[..], &KEY[..]].concat());
    assert!(String::from_utf8_lossy(&short.stderr).contains("1 of the 1 boxes of ring 0 failed"), "{short:?}");
    assert_eq!(status(&stage, "short")["failures"]["box-00001"], "no answer within 2 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_is_told_again_until_it_takes_it() {
    let Some(stage) = Stage::make(20) else { return };
    let fleet = stage.start(stage.options());
    until("all boxes are there", || fleet.account().born == 20);
    // Rules that somebody got wrong: desks hear, and may not tell.
    let rules = stage.path().join("acl");
    let right = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, right.replace("topic write afferent/v1/acme/+/dn/#\n", "")).unwrap();
    stage.mosquitto.signal(libc::SIGHUP);
    let log = stage.path().join("desk.log");
    let words = ["rollout", "start", "ping", "--name", "all", "--wait-s", "1", "--silent-s", "600"];
    let mut desk = command(stage.path(), &[&words[..], &KEY[..]].concat());
    desk.env("AFFERENT_REFUSED_PAUSE_MS", "300").env_remove("JOURNAL_STREAM");
    desk.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let running = Beside(desk.spawn().unwrap());
    let refused = || std::fs::read_to_string(&log).unwrap().matches("reason 0x87").count();
    until("it has told again, in vain", || refused() >= 3);
    assert_eq!((fleet.account().told, told(&stage, "all").len()), (0, 1), "it stands in the log, and nobody has it");
    std::fs::write(&rules, right).unwrap();
    stage.mosquitto.signal(libc::SIGHUP);
    until("it is finished", || status(&stage, "all")["stage"] == "finished");
    drop(running);
    let account = fleet.account();
    assert_eq!((account.run, account.run_twice, account.refused), (20, 0, 0), "{account:?}");
    assert!(told(&stage, "all").values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_that_ended_together_with_the_broker_open_no_ring() {
    let Some(mut stage) = Stage::make(3) else { return };
    let fleet = stage.start(stage.options());
    until("all boxes are there", || fleet.account().born == 3);
    let start = ["rollout", "start", "ping", "--name", "all", "--wait-s", "6", "--sign", "ops-1.key"];
    let running = Beside::start(command(stage.path(), &start));
    until("the first ring has it", || done(&status(&stage, "all")) == 1);
    // It writes down what it keeps, and takes the boxes' wills with it.
    let database = stage.path().join("db/mosquitto.db");
    let written = || std::fs::metadata(&database).and_then(|meta| meta.modified()).ok();
    let before = written();
    stage.mosquitto.signal(libc::SIGUSR1);
    until("it has written", || written() > before);
    stage.mosquitto.signal(libc::SIGKILL);
    drop(fleet);
    until("it is gone", || TcpListener::bind(("127.0.0.1", stage.port())).is_ok());
    stage.mosquitto = Mosquitto::start(stage.path(), stage.port()).unwrap();
    let kept = stage.fleet();
    assert!(kept.as_object().unwrap().values().all(|row| row["online"] == true), "the broker knows no better: {kept}");
    // For longer than the ring is watched and the desk needs to hear what is kept.
    let began = Instant::now();
    until("time passes", || began.elapsed() > Duration::from_secs(20));
    assert_eq!(told(&stage, "all").keys().collect::<Vec<_>>(), ["box-00001"]);
    let fleet = stage.start(stage.options());
    until("it is finished", || status(&stage, "all")["stage"] == "finished");
    assert_eq!((fleet.account().run, told(&stage, "all").len()), (2, 3));
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_up_while_it_is_told_something_ends_no_roll_out() {
    let Some(stage) = Stage::make(3) else { return };
    let fleet = stage.start(stage.options());
    until("all boxes are there", || fleet.account().born == 3);
    let start = ["rollout", "start", "ping", "--name", "all", "--wait-s", "2", "--sign", "ops-1.key"];
    let mut running = Beside::start(command(stage.path(), &start));
    until("the first ring has it", || done(&status(&stage, "all")) == 1);
    // What the system sends whoever writes to a connection that is gone.
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(running.0.id() as i32, libc::SIGPIPE) };
    until("it is over", || running.0.try_wait().unwrap().is_some());
    assert_eq!(status(&stage, "all")["stage"], "finished");
}
